//! The 16-bit formats f16 and bf16: widening is exact, narrowing rounds once. All branch-free, so that loops vectorise.

/// f16 bits to f32, exact.
#[inline(always)]
pub(crate) fn f16_to_f32(h: u32) -> f32 {
    let magnitude = (h & 0x7fff) << 13;
    // Scaling by 2^112 moves the exponent bias from 15 to 127 and normalises subnormals.
    let scaled = f32::from_bits(magnitude) * f32::from_bits((254 - 15) << 23);
    let bits = if magnitude >= 0x0f80_0000 { magnitude | 0x7f80_0000 } else { scaled.to_bits() };
    f32::from_bits(bits | (h & 0x8000) << 16)
}

/// f32 to f16 bits, round to nearest even; NaN becomes the canonical 0x7fff.
#[inline(always)]
pub(crate) fn f32_to_f16(x: f32) -> u32 {
    let bits = x.to_bits();
    let sign = bits >> 16 & 0x8000;
    let abs = bits & 0x7fff_ffff;
    // Subnormal results: adding 0.5 makes the FPU round at 2^-24.
    let subnormal = (f32::from_bits(abs) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let normal =
        abs.wrapping_add((15u32.wrapping_sub(127)) << 23).wrapping_add(0xfff + (abs >> 13 & 1)) >> 13;
    let finite = if abs < 0x3880_0000 { subnormal } else { normal };
    let limited = if abs >= 0x4780_0000 { 0x7c00 } else { finite };
    if abs > 0x7f80_0000 { 0x7fff } else { limited | sign }
}

/// bf16 bits to f32, exact.
#[inline(always)]
pub(crate) fn bf16_to_f32(h: u32) -> f32 {
    f32::from_bits(h << 16)
}

/// f32 to bf16 bits, round to nearest even; NaN becomes the canonical 0x7fff.
#[inline(always)]
pub(crate) fn f32_to_bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if bits & 0x7fff_ffff > 0x7f80_0000 { 0x7fff } else { rounded }
}

/// f64 to f32 rounded to odd: an inexact result gets an odd last bit, so that a later rounding to a format of at most 22 bits
/// is as if done from the f64 itself.
#[inline(always)]
pub(crate) fn f64_to_f32_odd(x: f64) -> f32 {
    let nearest = x as f32;
    let back = nearest as f64;
    let bits = nearest.to_bits();
    // Step back when rounding went away from zero: truncation, then the sticky bit.
    let truncated = if back.abs() > x.abs() { bits.wrapping_sub(1) } else { bits };
    let odd = if back == x || x.is_nan() { bits } else { truncated | 1 };
    f32::from_bits(odd)
}

/// f64 to f16 bits with one rounding, to nearest even.
#[inline(always)]
pub(crate) fn f64_to_f16(x: f64) -> u32 {
    f32_to_f16(f64_to_f32_odd(x))
}

/// f64 to bf16 bits with one rounding, to nearest even.
#[inline(always)]
pub(crate) fn f64_to_bf16(x: f64) -> u32 {
    f32_to_bf16(f64_to_f32_odd(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_survives_the_way_to_f32_and_back() {
        for h in 0..=0xffffu32 {
            let x = f16_to_f32(h);
            if x.is_nan() {
                assert_eq!(f32_to_f16(x), 0x7fff);
            } else {
                assert_eq!(f32_to_f16(x), h, "{h:04x}");
            }
        }
    }

    #[test]
    fn narrowing_rounds_ties_to_even() {
        assert_eq!(f32_to_f16(1.0 + 1.0 / 2048.0), 0x3c00);
        assert_eq!(f32_to_f16(1.0 + 3.0 / 2048.0), 0x3c02);
        assert_eq!(f32_to_f16(65519.0), 0x7bff);
        assert_eq!(f32_to_f16(65520.0), 0x7c00);
        assert_eq!(f32_to_f16(2f32.powi(-25)), 0);
        assert_eq!(f32_to_f16(2f32.powi(-25) * 1.5), 1);
        assert_eq!(f32_to_bf16(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(f32_to_bf16(f32::from_bits(0x3f81_8000)), 0x3f82);
        assert_eq!(f32_to_bf16(f32::MAX), 0x7f80);
    }

    #[test]
    fn narrowing_from_f64_rounds_once() {
        // Just above a tie of f16: f32 would land on the tie and round down.
        let x = 1.0 + 1.0 / 2048.0 + 2f64.powi(-40);
        assert_eq!(f64_to_f16(x), 0x3c01);
        assert_eq!(f64_to_f16(-x), 0xbc01);
    }
}
