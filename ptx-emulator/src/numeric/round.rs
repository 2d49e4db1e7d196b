//! Directed rounding and round-to-odd: exact results in modes that the host's arithmetic does not offer.
//!
//! The recipe is the same everywhere: compute to nearest, find the sign of the exact remainder with an error-free
//! transformation, and step to the neighbour where the mode asks for it.

/// Where an inexact result goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// `.rn`: to nearest, ties to even.
    Nearest,
    /// `.rz`: towards zero.
    Zero,
    /// `.rm`: towards minus infinity.
    Down,
    /// `.rp`: towards plus infinity.
    Up,
    /// `.rna`: to nearest, ties away from zero.
    Away,
}

/// Steps `nearest` to the neighbour that `mode` asks for, given the sign of `exact - nearest`.
#[inline(always)]
fn direct64(nearest: f64, remainder: f64, mode: Round) -> f64 {
    if remainder == 0.0 || remainder.is_nan() || nearest.is_nan() {
        return nearest;
    }
    let up = remainder > 0.0;
    match mode {
        Round::Nearest | Round::Away => nearest,
        Round::Down if !up => nearest.next_down(),
        Round::Up if up => nearest.next_up(),
        Round::Zero if nearest > 0.0 && !up => nearest.next_down(),
        Round::Zero if nearest < 0.0 && up => nearest.next_up(),
        _ => nearest,
    }
}

/// The sum in f64 and its exact error (Knuth's two-sum).
#[inline(always)]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let bb = sum - a;
    (sum, (a - (sum - bb)) + (b - bb))
}

/// Makes `value` odd in its last bit when it is inexact, with the remainder's sign telling on which side the exact value lies.
#[inline(always)]
fn odd(value: f64, remainder: f64) -> f64 {
    if remainder == 0.0 || remainder.is_nan() || !value.is_finite() {
        return value;
    }
    let bits = value.to_bits();
    let away = (remainder > 0.0) == (value > 0.0);
    let truncated = if value == 0.0 || away { bits } else { bits - 1 };
    f64::from_bits(truncated | 1)
}

/// `a + b` rounded to odd in f64: exact enough for one more rounding to any format of at most 51 bits.
#[inline(always)]
pub(crate) fn add_odd(a: f64, b: f64) -> f64 {
    let (sum, error) = two_sum(a, b);
    odd(sum, error)
}

/// f64 to f32 in any mode.
#[inline(always)]
pub(crate) fn narrow(x: f64, mode: Round) -> f32 {
    let nearest = x as f32;
    if x.is_nan() || x.is_infinite() || mode == Round::Nearest {
        return nearest;
    }
    let back = nearest as f64;
    match mode {
        Round::Down if back > x => nearest.next_down(),
        Round::Up if back < x => nearest.next_up(),
        Round::Zero if back.abs() > x.abs() && x > 0.0 => nearest.next_down(),
        Round::Zero if back.abs() > x.abs() => nearest.next_up(),
        _ => nearest,
    }
}

/// The sign of an exact zero sum depends on the mode: x - x is -0 when rounding down.
#[inline(always)]
fn zero_sum(sum: f64, a: f64, b: f64, mode: Round) -> f64 {
    if sum == 0.0 && mode == Round::Down && (a.is_sign_negative() || b.is_sign_negative()) {
        -0.0
    } else {
        sum
    }
}

/// f32 sum in any mode.
#[inline(always)]
pub(crate) fn add32(a: f32, b: f32, mode: Round) -> f32 {
    let (a, b) = (a as f64, b as f64);
    narrow(zero_sum(add_odd(a, b), a, b, mode), mode)
}

/// f32 product in any mode: exact in f64.
#[inline(always)]
pub(crate) fn mul32(a: f32, b: f32, mode: Round) -> f32 {
    narrow(a as f64 * b as f64, mode)
}

/// f32 fused multiply-add in any mode.
#[inline(always)]
pub(crate) fn fma32(a: f32, b: f32, c: f32, mode: Round) -> f32 {
    let product = a as f64 * b as f64;
    narrow(zero_sum(add_odd(product, c as f64), product, c as f64, mode), mode)
}

/// f32 quotient in any mode.
#[inline(always)]
pub(crate) fn div32(a: f32, b: f32, mode: Round) -> f32 {
    if mode == Round::Nearest {
        return a / b;
    }
    let (a, b) = (a as f64, b as f64);
    let quotient = a / b;
    let remainder = f64::mul_add(-quotient, b, a);
    let side = if b < 0.0 { -remainder } else { remainder };
    narrow(if quotient.is_finite() { odd(quotient, side) } else { quotient }, mode)
}

/// f32 square root in any mode.
#[inline(always)]
pub(crate) fn sqrt32(a: f32, mode: Round) -> f32 {
    if mode == Round::Nearest {
        return a.sqrt();
    }
    let root = (a as f64).sqrt();
    narrow(odd(root, f64::mul_add(-root, root, a as f64)), mode)
}

/// f64 sum in any mode.
pub(crate) fn add64(a: f64, b: f64, mode: Round) -> f64 {
    let (sum, error) = two_sum(a, b);
    overflow64(direct64(zero_sum(sum, a, b, mode), error, mode), a.is_infinite() || b.is_infinite(), mode)
}

/// f64 product in any mode.
pub(crate) fn mul64(a: f64, b: f64, mode: Round) -> f64 {
    let product = a * b;
    let special = a.is_infinite() || b.is_infinite();
    overflow64(direct64(product, f64::mul_add(a, b, -product), mode), special, mode)
}

/// f64 fused multiply-add in any mode: the remainder comes from the exact sum of the two-part product.
pub(crate) fn fma64(a: f64, b: f64, c: f64, mode: Round) -> f64 {
    let nearest = f64::mul_add(a, b, c);
    if mode == Round::Nearest || !nearest.is_finite() {
        return overflow64(nearest, a.is_infinite() || b.is_infinite() || c.is_infinite(), mode);
    }
    let high = a * b;
    let low = f64::mul_add(a, b, -high);
    let (sum, error) = two_sum(high, c);
    // nearest is close to sum: the difference is exact, and the three small parts decide the sign.
    let remainder = (sum - nearest) + (error + low);
    direct64(zero_sum(nearest, a * b, c, mode), remainder, mode)
}

/// f64 quotient in any mode.
pub(crate) fn div64(a: f64, b: f64, mode: Round) -> f64 {
    let quotient = a / b;
    let remainder = f64::mul_add(-quotient, b, a);
    direct64(quotient, if b < 0.0 { -remainder } else { remainder }, mode)
}

/// f64 square root in any mode.
pub(crate) fn sqrt64(a: f64, mode: Round) -> f64 {
    let root = a.sqrt();
    direct64(root, f64::mul_add(-root, root, a), mode)
}

/// A sum or product that overflowed: modes that round inwards give the largest finite number.
fn overflow64(value: f64, special: bool, mode: Round) -> f64 {
    match mode {
        _ if !value.is_infinite() || special => value,
        Round::Zero => f64::MAX.copysign(value),
        Round::Down if value > 0.0 => f64::MAX,
        Round::Up if value < 0.0 => f64::MIN,
        _ => value,
    }
}

/// Rounds a float to an integral value.
#[inline(always)]
pub(crate) fn integral(x: f64, mode: Round) -> f64 {
    match mode {
        Round::Nearest => x.round_ties_even(),
        Round::Zero => x.trunc(),
        Round::Down => x.floor(),
        Round::Up => x.ceil(),
        Round::Away => x.round(),
    }
}

/// An integer to f64, in any mode.
pub(crate) fn int_to_f64(x: i128, mode: Round) -> f64 {
    let nearest = x as f64;
    let remainder = x - nearest as i128;
    direct64(nearest, remainder as f64, mode)
}

/// An integer to f64 rounded to odd, for a further rounding.
pub(crate) fn int_to_f64_odd(x: i128) -> f64 {
    let nearest = x as f64;
    odd(nearest, (x - nearest as i128) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directed_sums_bracket_the_exact_sum() {
        let (a, b) = (1.0f32, 2f32.powi(-60));
        assert_eq!(add32(a, b, Round::Nearest), 1.0);
        assert_eq!(add32(a, b, Round::Zero), 1.0);
        assert_eq!(add32(a, b, Round::Down), 1.0);
        assert_eq!(add32(a, b, Round::Up), 1.0f32.next_up());
        assert_eq!(add32(a, -b, Round::Zero), 1.0f32.next_down());
        assert_eq!(add32(1.0, -1.0, Round::Down).to_bits(), 0x8000_0000);
        assert_eq!(add64(1.0, 1e-40, Round::Up), 1.0f64.next_up());
        assert_eq!(add64(f64::MAX, f64::MAX, Round::Zero), f64::MAX);
    }

    #[test]
    fn directed_quotients_and_roots() {
        assert_eq!(div32(1.0, 3.0, Round::Down), f32::from_bits(0x3eaa_aaaa_u32));
        assert_eq!(div32(1.0, 3.0, Round::Up), f32::from_bits(0x3eaa_aaab_u32));
        assert_eq!(div32(1.0, -3.0, Round::Zero), f32::from_bits(0x3eaa_aaaa_u32 | 1 << 31));
        assert_eq!(sqrt32(2.0, Round::Down), f32::from_bits(0x3fb5_04f3_u32));
        assert_eq!(sqrt32(2.0, Round::Up), f32::from_bits(0x3fb5_04f4_u32));
        assert_eq!(sqrt32(4.0, Round::Up), 2.0);
        assert_eq!(div64(1.0, 4.0, Round::Up), 0.25);
    }

    #[test]
    fn overflow_in_the_inward_modes_is_the_largest_finite() {
        assert_eq!(mul32(f32::MAX, 2.0, Round::Zero), f32::MAX);
        assert_eq!(mul32(f32::MAX, 2.0, Round::Down), f32::MAX);
        assert_eq!(mul32(f32::MAX, 2.0, Round::Up), f32::INFINITY);
        assert_eq!(mul32(f32::INFINITY, 2.0, Round::Zero), f32::INFINITY);
    }
}
