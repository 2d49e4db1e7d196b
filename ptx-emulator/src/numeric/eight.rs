//! The 8-bit formats e4m3 and e5m2, widened exactly.

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
}
