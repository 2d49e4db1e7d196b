//! The 8-bit formats e4m3 and e5m2: widening is exact, narrowing rounds once and saturates.

/// e4m3 bits to f32: no infinities, `0x7f` and `0xff` are NaN.
#[inline(always)]
pub(crate) fn e4m3_to_f32(x: u32) -> f32 {
    let magnitude = (x & 0x7f) << 20;
    // Scaling by 2^120 moves the exponent bias from 7 to 127 and normalises subnormals.
    let scaled = f32::from_bits(magnitude) * f32::from_bits((127 + 120) << 23);
    let bits = if x & 0x7f == 0x7f { 0x7fc0_0000 } else { scaled.to_bits() };
    f32::from_bits(bits | (x & 0x80) << 24)
}

/// e5m2 bits to f32: the upper half of an f16.
#[inline(always)]
pub(crate) fn e5m2_to_f32(x: u32) -> f32 {
    super::half::f16_to_f32((x & 0xff) << 8)
}

/// Rounds to nearest even, to `fraction` bits after the first and no smaller exponent than `least`; the largest code is `most`.
fn narrow(x: f64, fraction: i32, least: i32, most: u32) -> u32 {
    if x.is_nan() {
        return 0x7f;
    }
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    let exponent = (((x.to_bits() >> 52 & 0x7ff) as i32) - 1023).max(least);
    if exponent > 20 {
        return sign | most;
    }
    // Exact: a scaling by a power of two.
    let units = (x.abs() * 2f64.powi(fraction - exponent)).round_ties_even() as u32;
    // A number in units of its last place, past the codes of all smaller exponents.
    sign | (units + (((exponent - least) as u32) << fraction)).min(most)
}

/// To e4m3 bits, round to nearest even; what is too large becomes the largest number, NaN 0x7f.
pub(crate) fn to_e4m3(x: f64) -> u32 {
    narrow(x, 3, -6, 0x7e)
}

/// To e5m2 bits, round to nearest even; what is too large becomes the largest number, NaN 0x7f.
pub(crate) fn to_e5m2(x: f64) -> u32 {
    narrow(x, 2, -14, 0x7b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_follows_the_definition_of_the_formats() {
        let value = |x: u32, fraction_bits: u32, bias: i32| {
            let (exponent, fraction) = ((x & 0x7f) >> fraction_bits, x & ((1 << fraction_bits) - 1));
            let unit = f64::from(fraction) / f64::from(1 << fraction_bits);
            let magnitude = match exponent {
                0 => unit * 2f64.powi(1 - bias),
                e => (1.0 + unit) * 2f64.powi(e as i32 - bias),
            };
            if x & 0x80 != 0 { -magnitude } else { magnitude }
        };
        for x in 0..256 {
            if x & 0x7f == 0x7f {
                assert!(e4m3_to_f32(x).is_nan());
            } else {
                assert_eq!(f64::from(e4m3_to_f32(x)), value(x, 3, 7), "{x:02x}");
            }
            match x & 0x7f {
                0x7c => assert!(e5m2_to_f32(x).is_infinite()),
                0x7d.. => assert!(e5m2_to_f32(x).is_nan()),
                _ => assert_eq!(f64::from(e5m2_to_f32(x)), value(x, 2, 15), "{x:02x}"),
            }
        }
        assert_eq!((e4m3_to_f32(0x7e), e4m3_to_f32(1)), (448.0, 2f32.powi(-9)));
    }
    #[test]
    fn narrowing_is_the_nearest_of_all_codes() {
        let numbers = |widen: fn(u32) -> f32| -> Vec<(f64, u32)> {
            (0..0x7f).map(|c| (f64::from(widen(c)), c)).filter(|(x, _)| x.is_finite()).collect()
        };
        for (widen, to) in
            [(e4m3_to_f32 as fn(u32) -> f32, to_e4m3 as fn(f64) -> u32), (e5m2_to_f32, to_e5m2)]
        {
            let codes = numbers(widen);
            for pair in codes.windows(2) {
                let ((low, a), (high, b)) = (pair[0], pair[1]);
                let middle = (low + high) / 2.0;
                assert_eq!((to(low), to(-high)), (a, 0x80 | b));
                assert_eq!(to(middle), if a % 2 == 0 { a } else { b }, "between {low} and {high}");
                assert_eq!((to(middle.next_down()), to(middle.next_up())), (a, b));
            }
            let most = codes.last().unwrap().1;
            assert_eq!((to(1e9), to(f64::NEG_INFINITY), to(f64::NAN)), (most, 0x80 | most, 0x7f));
            assert_eq!((to(-0.0), to(1e-300)), (0x80, 0));
        }
    }
}
