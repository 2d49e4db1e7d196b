//! How the matrix instructions of floating types add.
//!
//! The manual promises exact products and leaves order and rounding of the sums open. Published measurements of tensor cores
//! (on sm_80, for 16-bit types) agree on this, which is what is computed here, the same on every host:
//! - Products are exact. They are added in blocks of 8 (of 4 for tf32), in ascending order of k, the accumulator being one more
//!   term of each block.
//! - In a block all terms are aligned to the exponent of the largest and cut, towards zero, 24 binary places below the leading
//!   bit of that exponent: one place more than an f32 has. The cut terms are added exactly.
//! - The sum is cut to f32, towards zero. A zero sum is +0; what passes the largest f32 is infinite.
//!
//! So errors are up to twice those of a rounding chain, and one-sided: tests that pass here do not depend on better luck than a
//! device gives. Later devices add longer blocks with more places, and keep fewer places for 8-bit types; no kernel should
//! notice.

use super::round::{Round, narrow};

/// Columns of a tile: the vector that one step works on.
pub(crate) const COLUMNS: usize = 8;

/// The columns in the order in which a tile's rows hold them: a register of the accumulator has the even ones, the next the odd ones.
pub(crate) const ORDER: [usize; COLUMNS] = [0, 2, 4, 6, 1, 3, 5, 7];

/// Biased exponent of the largest term from which f32 arithmetic does: what a product loses below 2^-126 is then cut anyway, and
/// every scale and result is normal.
pub(crate) const PLAIN: i32 = 32;

/// Places below the leading bit of the largest term that the terms of a block keep.
pub(crate) const PLACES: i32 = 24;

/// `sums += Σ a[k] · b[k]` over one block, for 8 columns.
#[inline(always)]
pub(crate) fn add_products<const BLOCK: usize>(
    sums: &mut [f32; COLUMNS],
    a: &[f32; BLOCK],
    b: &[[f32; COLUMNS]; BLOCK],
) {
    let mut products = [[0f32; COLUMNS]; BLOCK];
    let mut most = sums.map(|s| (s.to_bits() & 0x7fff_ffff) as i32);
    for k in 0..BLOCK {
        for n in 0..COLUMNS {
            products[k][n] = a[k] * b[k][n];
            most[n] = most[n].max((products[k][n].to_bits() & 0x7fff_ffff) as i32);
        }
    }
    let mut plain = true;
    for most in most {
        plain &= most == 0 || (PLAIN << 23..255 << 23).contains(&most);
    }
    if !plain {
        for n in 0..COLUMNS {
            sums[n] = add_exactly(sums[n], a, &b.map(|row| row[n]));
        }
        return;
    }
    let (mut up, mut down) = ([0f32; COLUMNS], [0f32; COLUMNS]);
    for n in 0..COLUMNS {
        let exponent = (most[n] >> 23).max(PLAIN);
        up[n] = f32::from_bits(((254 + PLACES - exponent) << 23) as u32);
        down[n] = f32::from_bits(((exponent - PLACES) << 23) as u32);
    }
    // SAFETY: no term is infinite or NaN here, and none scales to 2^25 or more.
    let cut = |x: f32| unsafe { x.to_int_unchecked::<i32>() };
    let mut total = [0i32; COLUMNS];
    for n in 0..COLUMNS {
        total[n] = cut(sums[n] * up[n]);
    }
    for product in &products {
        for n in 0..COLUMNS {
            total[n] += cut(product[n] * up[n]);
        }
    }
    for n in 0..COLUMNS {
        let magnitude = total[n].abs();
        let nearest = magnitude as f32;
        let above = cut(nearest) > magnitude;
        let cut_down = f32::from_bits(nearest.to_bits() - u32::from(above)) * down[n];
        sums[n] = f32::from_bits(cut_down.to_bits() | (total[n] as u32 & 1 << 31));
    }
}

/// The same for one column and any values.
#[inline(never)]
fn add_exactly<const BLOCK: usize>(sum: f32, a: &[f32; BLOCK], b: &[f32; BLOCK]) -> f32 {
    let mut terms = [0f64; 32];
    terms[0] = f64::from(sum);
    for k in 0..BLOCK {
        // Exact: at most 22 bits.
        terms[k + 1] = f64::from(a[k]) * f64::from(b[k]);
    }
    let terms = &terms[..=BLOCK];
    let most = terms.iter().fold(0f64, |m, t| m.max(t.abs()));
    // `max` skips NaN.
    if most == f64::INFINITY || terms.iter().any(|t| t.is_nan()) {
        let total: f64 = terms.iter().sum();
        return if total.is_nan() { f32::from_bits(0x7fff_ffff) } else { total as f32 };
    }
    if most == 0.0 {
        return 0.0;
    }
    // No term is subnormal as an f64: the smallest product is 2^-298.
    let exponent = (most.to_bits() >> 52) as i32 - 1023;
    let unit = f64::from_bits(((exponent - PLACES + 1023) as u64) << 52);
    let total: i64 = terms.iter().map(|t| (t / unit) as i64).sum();
    let exact = total as f64 * unit;
    if exact.abs() >= 2f64.powi(128) {
        return f32::INFINITY.copysign(exact as f32);
    }
    narrow(exact, Round::Zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(sum: f32, a: [f32; 8], b: [f32; 8]) -> f32 {
        let mut sums = [sum; COLUMNS];
        add_products(&mut sums, &a, &b.map(|x| [x; COLUMNS]));
        assert!(sums.iter().all(|s| s.to_bits() == sums[0].to_bits()));
        sums[0]
    }

    /// `x` times 1 and seven zeros.
    fn plus(sum: f32, x: f32) -> f32 {
        one(sum, [x, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [1.0; 8])
    }

    #[test]
    fn terms_are_cut_one_place_below_an_f32() {
        let ulp = 2f32.powi(-23);
        // Half a unit is kept as a term and cut from the sum; two such halves make a unit.
        assert_eq!(plus(1.0, ulp / 2.0), 1.0);
        assert_eq!(one(1.0, [ulp / 2.0, ulp / 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [1.0; 8]), 1.0 + ulp);
        // Quarters are cut before they meet.
        assert_eq!(one(1.0, [ulp / 4.0; 8], [1.0; 8]), 1.0);
        assert_eq!(plus(1.0, ulp * 0.75), 1.0);
        // Towards zero on both sides.
        assert_eq!(plus(-1.0, -ulp * 0.75), -1.0);
        // 1 minus a quarter unit: the quarter is cut.
        assert_eq!(plus(1.0, -ulp / 4.0), 1.0);
        // 1 minus half a unit is an f32.
        assert_eq!(plus(1.0, -ulp / 2.0), 1.0 - ulp / 2.0);
    }

    #[test]
    fn zeros_infinities_and_nan() {
        assert_eq!(plus(-0.0, -0.0).to_bits(), 0);
        assert_eq!(plus(1.5, -1.5).to_bits(), 0);
        assert_eq!(plus(f32::INFINITY, 1.0), f32::INFINITY);
        assert_eq!(plus(f32::INFINITY, f32::NEG_INFINITY).to_bits(), 0x7fff_ffff);
        assert_eq!(plus(0.0, f32::NAN).to_bits(), 0x7fff_ffff);
        assert_eq!(one(0.0, [f32::INFINITY; 8], [0.0; 8]).to_bits(), 0x7fff_ffff);
        assert_eq!(plus(f32::MAX, 2f32.powi(103)), f32::MAX);
        assert_eq!(plus(f32::MAX, 2f32.powi(104)), f32::INFINITY);
        assert_eq!(plus(-f32::MAX, -f32::MAX), f32::NEG_INFINITY);
        // Products beyond f32 that cancel.
        let big = 2f32.powi(100);
        assert_eq!(
            one(3.0, [big, big, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [big, -big, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            0.0
        );
    }

    #[test]
    fn subnormals_take_part() {
        let tiny = f32::from_bits(1);
        assert_eq!(plus(tiny, tiny).to_bits(), 2);
        assert_eq!(plus(f32::MIN_POSITIVE, -tiny).to_bits(), 0x007f_ffff);
        let half = 2f32.powi(-75);
        // 2^-150 is cut.
        assert_eq!(one(0.0, [half, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [half; 8]), 0.0);
    }

    #[test]
    fn the_fast_way_is_the_exact_way() {
        let mut seed = 7u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // bf16 values with exponents that make some cases plain and some not.
            f32::from_bits((seed & 0x8000_0000) | (60 + (seed >> 24 & 127)) << 23 | seed & 0x007f_0000)
        };
        for _ in 0..20_000 {
            let sum = next();
            let a: [f32; 8] = std::array::from_fn(|_| next());
            let b: [f32; 8] = std::array::from_fn(|_| next());
            assert_eq!(one(sum, a, b).to_bits(), add_exactly(sum, &a, &b).to_bits(), "{sum} {a:?} {b:?}");
        }
    }
}
