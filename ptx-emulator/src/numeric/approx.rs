//! The approximate functions, computed in f64 polynomials that vectorise: far more accurate than the manual asks
//! (2^-22 relative for `ex2`, 2^-22.6 absolute for `lg2`).

/// `2^x` by a degree-9 Taylor polynomial of `2^f`, |f| <= 1/2: relative error below 2^-36 before the final rounding.
#[inline(always)]
pub(crate) fn ex2(x: f32) -> f32 {
    /// Adding and subtracting this leaves the nearest integer; the low bits of the sum are that integer.
    const MAGIC: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52
    const LN2: f64 = std::f64::consts::LN_2;
    const C: [f64; 10] = {
        let mut c = [1.0; 10];
        let mut k = 1;
        while k < 10 {
            c[k] = c[k - 1] * LN2 / k as f64;
            k += 1;
        }
        c
    };
    let clamped = if x > 200.0 { 200.0 } else { x };
    let clamped = if clamped < -200.0 { -200.0 } else { clamped } as f64;
    let shifted = clamped + MAGIC;
    let f = clamped - (shifted - MAGIC);
    let mut p = C[9];
    p = p * f + C[8];
    p = p * f + C[7];
    p = p * f + C[6];
    p = p * f + C[5];
    p = p * f + C[4];
    p = p * f + C[3];
    p = p * f + C[2];
    p = p * f + C[1];
    p = p * f + C[0];
    let scaled = f64::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 52));
    if x.is_nan() { f32::from_bits(0x7fff_ffff) } else { scaled as f32 }
}

/// `log2(x)` by the series of `atanh((m - 1) / (m + 1))` for a mantissa m in [sqrt(1/2), sqrt(2)).
#[inline(always)]
pub(crate) fn lg2(x: f32) -> f32 {
    let wide = x as f64; // every f32, subnormals too, is a normal f64
    let bits = wide.to_bits();
    // Subtracting sqrt(1/2)'s bits puts the break between exponents at sqrt(2).
    let offset = bits.wrapping_sub(0x3fe6_a09e_667f_3bcd);
    let exponent = (offset as i64 >> 52) as i32 as f64;
    let mantissa = f64::from_bits(bits.wrapping_sub(offset & 0xfff0_0000_0000_0000));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let z = s * s;
    let mut p = 1.0 / 15.0;
    p = p * z + 1.0 / 13.0;
    p = p * z + 1.0 / 11.0;
    p = p * z + 1.0 / 9.0;
    p = p * z + 1.0 / 7.0;
    p = p * z + 1.0 / 5.0;
    p = p * z + 1.0 / 3.0;
    p = p * z + 1.0;
    let result = (exponent + p * s * (2.0 * std::f64::consts::LOG2_E)) as f32;
    if x > 0.0 && x < f32::INFINITY {
        result
    } else if x == 0.0 {
        f32::NEG_INFINITY
    } else if x == f32::INFINITY {
        x
    } else {
        f32::from_bits(0x7fff_ffff)
    }
}

/// `1 / sqrt(x)`, rounded once from f64.
#[inline(always)]
pub(crate) fn rsqrt(x: f32) -> f32 {
    (1.0 / (x as f64).sqrt()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ex2_is_within_an_ulp_everywhere_and_exact_at_integers() {
        for n in -126..128 {
            assert_eq!(ex2(n as f32), 2f32.powi(n));
        }
        assert_eq!(ex2(f32::NEG_INFINITY), 0.0);
        assert_eq!(ex2(f32::INFINITY), f32::INFINITY);
        assert_eq!(ex2(-149.0), f32::from_bits(1));
        assert!(ex2(f32::NAN).is_nan());
        for k in -40_000..40_000 {
            let x = k as f32 * 0.003;
            let exact = (x as f64).exp2();
            assert!((ex2(x) as f64 / exact - 1.0).abs() < 2f64.powi(-23), "{x}");
        }
    }

    #[test]
    fn lg2_is_accurate_and_right_at_the_edges() {
        for n in -149..128 {
            assert_eq!(lg2((n as f64).exp2() as f32), n as f32);
        }
        assert_eq!(lg2(0.0), f32::NEG_INFINITY);
        assert_eq!(lg2(-0.0), f32::NEG_INFINITY);
        assert_eq!(lg2(f32::INFINITY), f32::INFINITY);
        assert!(lg2(-1.0).is_nan() && lg2(f32::NAN).is_nan());
        for k in 1..100_000 {
            let x = k as f32 * 0.001;
            assert!(
                (lg2(x) as f64 - (x as f64).log2()).abs()
                    <= 2f64.powi(-23) * (x as f64).log2().abs().max(0.5)
            );
        }
    }
}
