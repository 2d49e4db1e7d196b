//! bfloat16: the upper half of an f32. Conversions by integer operations, because the instructions begin with sm_80.

/// The f32 with the same value; exact.
///
/// PTX: one `shl.b32` by 16.
#[inline(always)]
#[must_use]
pub const fn bf16_bits_to_f32(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

/// The nearest bf16, ties to even. Overflow gives infinity; NaN gives the NaN 0x7fff, as `cvt.rn.bf16.f32` does.
///
/// PTX: `shr`, `and`, two `add`, `setp`, `selp`.
#[inline(always)]
#[must_use]
pub const fn f32_to_bf16_bits_rn(x: f32) -> u16 {
    (round_to_upper_half(x) >> 16) as u16
}

/// The rounded bf16 in the upper half; the lower half is rubbish.
#[inline(always)]
const fn round_to_upper_half(x: f32) -> u32 {
    let bits = x.to_bits();
    // Adding just under half of the last kept place, or half where it is odd, carries exactly where rounding to nearest,
    // ties to even, goes up; from the greatest finite number the carry arrives at infinity.
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    if x.is_nan() { 0x7fff_0000 } else { rounded }
}

/// Two bf16 in one register, the first in the lower half, as two f32; exact.
///
/// PTX: one `shl.b32`, one `and.b32`.
#[inline(always)]
#[must_use]
pub const fn bf16x2_to_f32x2(packed: u32) -> [f32; 2] {
    [f32::from_bits(packed << 16), f32::from_bits(packed & 0xffff_0000)]
}

/// The nearest bf16 of each, ties to even, `low` in the lower half.
///
/// PTX: twice [`f32_to_bf16_bits_rn`] and one `prmt.b32`.
#[inline(always)]
#[must_use]
pub const fn f32x2_to_bf16x2(low: f32, high: f32) -> u32 {
    (round_to_upper_half(low) >> 16) | (round_to_upper_half(high) & 0xffff_0000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn every_bf16_widens_as_half_says_and_comes_back() {
        for bits in 0..=u16::MAX {
            let wide = bf16_bits_to_f32(bits);
            let expected = bf16::from_bits(bits).to_f32();
            assert!(wide == expected || (wide.is_nan() && expected.is_nan()), "{bits:#x}");
            if wide.is_nan() {
                assert_eq!(f32_to_bf16_bits_rn(wide), 0x7fff);
            } else {
                assert_eq!(f32_to_bf16_bits_rn(wide), bits);
            }
            assert_eq!(
                bf16x2_to_f32x2(u32::from(bits) << 16 | 0x3f80).map(f32::to_bits),
                [0x3f80_0000, wide.to_bits()]
            );
        }
    }

    #[test]
    fn narrowing_rounds_to_nearest_even_at_and_around_every_tie() {
        for high in 0..=u16::MAX {
            for low in [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let x = f32::from_bits(u32::from(high) << 16 | low);
                let expected = bf16::from_f32(x);
                let narrow = f32_to_bf16_bits_rn(x);
                if x.is_nan() {
                    assert_eq!(narrow, 0x7fff);
                } else {
                    assert_eq!(narrow, expected.to_bits(), "{:#x}", x.to_bits());
                }
                assert_eq!(f32x2_to_bf16x2(x, 1.0), 0x3f80_0000 | u32::from(narrow));
                assert_eq!(f32x2_to_bf16x2(1.0, x), u32::from(narrow) << 16 | 0x3f80);
            }
        }
    }
}
