//! IEEE half precision: conversions by the GPU's own instructions, and by integer arithmetic on the host.

/// The f32 with the same value; exact.
///
/// PTX: `cvt.f32.f16` (Data Movement and Conversion, `cvt`).
#[inline(always)]
#[must_use]
pub fn f16_bits_to_f32(bits: u16) -> f32 {
    #[cfg(target_arch = "nvptx64")]
    {
        f16::from_bits(bits) as f32
    }
    #[cfg(not(target_arch = "nvptx64"))]
    soft::widen(bits)
}

/// The nearest f16, ties to even. From 65520 on it is infinity; NaN stays NaN (0x7fff on the host).
///
/// PTX: `cvt.rn.f16.f32`.
#[inline(always)]
#[must_use]
pub fn f32_to_f16_bits_rn(x: f32) -> u16 {
    #[cfg(target_arch = "nvptx64")]
    {
        (x as f16).to_bits()
    }
    #[cfg(not(target_arch = "nvptx64"))]
    soft::narrow(x)
}

/// Two f16 in one register, the first in the lower half, as two f32; exact.
///
/// PTX: `mov.b32 {l, h}, packed` and two `cvt.f32.f16`.
#[inline(always)]
#[must_use]
pub fn f16x2_to_f32x2(packed: u32) -> [f32; 2] {
    [f16_bits_to_f32(packed as u16), f16_bits_to_f32((packed >> 16) as u16)]
}

/// The nearest f16 of each, ties to even, `low` in the lower half.
///
/// PTX: two `cvt.rn.f16.f32` and `mov.b32 packed, {l, h}` (the packed conversion begins with sm_80).
#[inline(always)]
#[must_use]
pub fn f32x2_to_f16x2(low: f32, high: f32) -> u32 {
    let (low, high) = (f32_to_f16_bits_rn(low), f32_to_f16_bits_rn(high));
    #[cfg(target_arch = "nvptx64")]
    {
        let packed: u32;
        // SAFETY: arithmetic on registers. Shifting and or-ing would be three instructions.
        unsafe {
            core::arch::asm!("mov.b32 {p}, {{{l}, {h}}};", p = out(reg32) packed, l = in(reg16) low, h = in(reg16) high,
                options(pure, nomem, nostack, preserves_flags));
        }
        packed
    }
    #[cfg(not(target_arch = "nvptx64"))]
    {
        u32::from(low) | u32::from(high) << 16
    }
}

#[cfg(not(target_arch = "nvptx64"))]
mod soft {
    //! The conversions in integer arithmetic.

    /// f16 has 10 fraction bits and a bias of 15, f32 23 and 127.
    pub(super) fn widen(bits: u16) -> f32 {
        let sign = u32::from(bits & 0x8000) << 16;
        let exponent = u32::from(bits >> 10) & 0x1f;
        let fraction = u32::from(bits) & 0x3ff;
        let magnitude = match exponent {
            // Subnormal: the fraction counts units of 2^-24, which f32 represents exactly.
            0 => (fraction as f32 * 2f32.powi(-24)).to_bits(),
            31 if fraction != 0 => 0x7fff_ffff,
            31 => 0x7f80_0000,
            _ => (exponent + 127 - 15) << 23 | fraction << 13,
        };
        f32::from_bits(sign | magnitude)
    }

    pub(super) fn narrow(x: f32) -> u16 {
        if x.is_nan() {
            return 0x7fff;
        }
        let sign = (x.to_bits() >> 16) as u16 & 0x8000;
        let magnitude = x.abs();
        if magnitude >= 65520.0 {
            return sign | 0x7c00;
        }
        if magnitude < 2f32.powi(-14) {
            // Subnormal or zero: units of 2^-24. The product is exact, the rounding is the only one; 1024 units are
            // the least normal number and its bits.
            return sign | (magnitude * 2f32.powi(24)).round_ties_even() as u16;
        }
        // Drop 13 fraction bits, to nearest and ties to even; a carry into the exponent is right as it is.
        let bits = magnitude.to_bits() - ((127 - 15) << 23);
        sign | ((bits + 0xfff + (bits >> 13 & 1)) >> 13) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_f16_widens_as_half_says_and_comes_back() {
        for bits in 0..=u16::MAX {
            let wide = f16_bits_to_f32(bits);
            let expected = f16::from_bits(bits).to_f32();
            if expected.is_nan() {
                assert!(wide.is_nan(), "{bits:#x}");
                assert_eq!(f32_to_f16_bits_rn(wide), 0x7fff);
            } else {
                assert_eq!(wide.to_bits(), expected.to_bits(), "{bits:#x}");
                assert_eq!(f32_to_f16_bits_rn(wide), bits);
            }
            let pair = f16x2_to_f32x2(u32::from(bits) << 16 | 0x3c00);
            assert_eq!(pair.map(f32::to_bits), [1f32.to_bits(), wide.to_bits()]);
        }
    }

    #[test]
    fn narrowing_rounds_to_nearest_even_at_and_around_every_tie() {
        // The upper 19 bits of an f32 decide, the lower 13 round (more of them where the f16 is subnormal).
        for high in 0..1u32 << 19 {
            for low in [0u32, 1, 0xfff, 0x1000, 0x1001, 0x1fff] {
                let x = f32::from_bits(high << 13 | low);
                let narrow = f32_to_f16_bits_rn(x);
                if x.is_nan() {
                    assert_eq!(narrow, 0x7fff);
                } else {
                    assert_eq!(narrow, f16::from_f32(x).to_bits(), "{:#x}", x.to_bits());
                }
            }
        }
        assert_eq!(f32x2_to_f16x2(1.0, -2.0), 0xc000_3c00);
    }
}
