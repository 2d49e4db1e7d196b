//! How the matrix instructions of floating types add.
//!
//! The manual promises exact products and leaves order and rounding of the sums open. What GPUs do has been found out by experiment,
//! bit by bit (arXiv:2511.10909, of which this follows the model of fused dot products; arXiv:2512.07004 and 2023's and earlier
//! studies of V100 and A100 agree). An instruction is computed as by the first generation that has it, the same on every host:
//! - Products are exact. They are added in blocks, in ascending order of k, the accumulator being one more term of each block.
//! - A block's exponent is the largest of its terms. That of a product is the sum of its factors' exponents, even where their
//!   significands' product is 2 or more; that of zero is -126, which for a product, too, is added to the other factor's.
//! - All terms are aligned to it and cut, towards zero, a number of binary places below it. The cut terms are added exactly.
//! - The sum is cut towards zero to the places of an f32, or to those of the terms if they are fewer; an f16 accumulator is rounded
//!   to nearest. A zero sum is +0; what passes the largest f32 is infinite.
//!
//! | instruction | block | places | generation |
//! |---|---|---|---|
//! | `mma` m8n8k4 of f16 | 4 | 23 | Volta |
//! | `mma`, `wmma` of f16, bf16 | 8 | 24 | Turing, Ampere |
//! | `mma`, `wmma` of tf32 | 4 | 24 | Ampere |
//! | `mma` of e4m3, e5m2 | 16 | 13 | Ada |
//! | `wgmma` of f16, bf16 | 16 | 25 | Hopper |
//! | `wgmma` of tf32 | 8 | 25 | Hopper |
//! | `wgmma` of e4m3, e5m2 | 32 | 13 | Hopper |
//!
//! So errors are up to twice those of a rounding chain, and one-sided. Later generations add longer blocks with as many places or
//! more. `mma.sp`, which those studies leave out, is taken to add its stored products as `mma` does.

use super::half::{f16_to_f32, f32_to_f16};
use super::round::{Round, narrow};

/// Columns of a tile: the vector that one step works on.
pub(crate) const COLUMNS: usize = 8;

/// The columns in the order in which a tile's rows hold them: a register of the accumulator has the even ones, the next the odd ones.
pub(crate) const ORDER: [usize; COLUMNS] = [0, 2, 4, 6, 1, 3, 5, 7];

/// Exponent of a block from which f32 arithmetic does: what a product loses below 2^-126 is then cut anyway, and every scale and
/// result is normal.
pub(crate) const LOW: i32 = -95;
/// And up to which products are finite.
pub(crate) const HIGH: i32 = 126;

/// The exponent of zero.
pub(crate) const ZERO: i32 = -126;
/// What stands for that of infinities and NaN: beyond `HIGH`, whatever is added.
pub(crate) const FAR: i32 = 1000;
/// The least exponent of an f16 that is not zero.
pub(crate) const LEAST_HALF: i32 = -14;

/// Values and their exponents.
#[derive(Clone, Copy)]
pub(crate) struct Factors<const WIDTH: usize, const HEIGHT: usize> {
    pub(crate) values: [[f32; WIDTH]; HEIGHT],
    pub(crate) exponents: [[i32; WIDTH]; HEIGHT],
}

impl<const WIDTH: usize, const HEIGHT: usize> Factors<WIDTH, HEIGHT> {
    /// Nothing yet.
    #[inline(always)]
    pub(crate) fn zero() -> Self {
        Factors { values: [[0.0; WIDTH]; HEIGHT], exponents: [[0; WIDTH]; HEIGHT] }
    }

    /// Of a type whose values have no exponent below `least`.
    #[inline(always)]
    pub(crate) fn new(values: [[f32; WIDTH]; HEIGHT], least: i32) -> Self {
        Factors { values, exponents: values.map(|row| row.map(|x| exponent(x, least))) }
    }

    /// Block `block` of row `row`.
    #[inline(always)]
    pub(crate) fn in_row<const BLOCK: usize>(&self, row: usize, block: usize) -> Factors<BLOCK, 1> {
        let (values, exponents) =
            (self.values[row].as_chunks().0[block], self.exponents[row].as_chunks().0[block]);
        Factors { values: [values], exponents: [exponents] }
    }

    /// The rows of block `block`.
    #[inline(always)]
    pub(crate) fn rows<const BLOCK: usize>(&self, block: usize) -> Factors<WIDTH, BLOCK> {
        Factors { values: self.values.as_chunks().0[block], exponents: self.exponents.as_chunks().0[block] }
    }
}

/// The exponent of a factor, of a type whose values have none below `least`.
#[inline(always)]
pub(crate) fn exponent(x: f32, least: i32) -> i32 {
    let field = (x.to_bits() >> 23 & 255) as i32;
    let ordinary = if x == 0.0 { ZERO } else { (field - 127).max(least) };
    if field == 255 { FAR } else { ordinary }
}

/// That of an accumulator.
#[inline(always)]
fn exponent_of_sum(x: f32, halves: bool) -> i32 {
    exponent(x, if halves { LEAST_HALF } else { ZERO })
}

/// Sums of `BLOCK` terms that may pass 31 bits come near to 2^31, this near at least, before or after they wrap.
pub(crate) const fn limit(block: usize, places: i32) -> i32 {
    // Products are below 4, the accumulator is below 2.
    if (block as i64 * 4 + 2) << places > i32::MAX as i64 { i32::MAX - (2 << places) } else { i32::MAX }
}

/// `sums += Σ a[k] · b[k]` over one block, for 8 columns, with terms of `PLACES` places; if `halves`, accumulators are f16.
#[inline(always)]
pub(crate) fn add_products<const BLOCK: usize, const PLACES: i32>(
    sums: &mut [f32; COLUMNS],
    a: &Factors<BLOCK, 1>,
    b: &Factors<COLUMNS, BLOCK>,
    halves: bool,
) {
    let mut products = [[0f32; COLUMNS]; BLOCK];
    let mut most = sums.map(|sum| exponent_of_sum(sum, halves));
    // Bits that are set where a term is not zero.
    let mut any = sums.map(|s| s.to_bits() << 1);
    for (k, products) in products.iter_mut().enumerate() {
        let set = if a.values[0][k] != 0.0 { !0 } else { 0 };
        for n in 0..COLUMNS {
            products[n] = a.values[0][k] * b.values[k][n];
            any[n] |= b.values[k][n].to_bits() << 1 & set;
            most[n] = most[n].max(a.exponents[0][k] + b.exponents[k][n]);
        }
    }
    let mut total = [0i32; COLUMNS];
    let mut plain = true;
    for n in 0..COLUMNS {
        plain &= most[n] <= HIGH && (most[n] >= LOW || any[n] == 0);
        most[n] = most[n].clamp(LOW, HIGH);
    }
    if plain {
        let scale = most.map(|most| power(PLACES - most));
        // SAFETY: no term is infinite or NaN here, and none scales to 2^31 or more.
        let cut = |x: f32| unsafe { x.to_int_unchecked::<i32>() };
        for n in 0..COLUMNS {
            total[n] = cut(sums[n] * scale[n]);
        }
        for product in &products {
            for n in 0..COLUMNS {
                total[n] = total[n].wrapping_add(cut(product[n] * scale[n]));
            }
        }
        plain = total.iter().all(|total| total ^ total >> 31 < limit(BLOCK, PLACES));
    }
    for n in 0..COLUMNS {
        sums[n] = if plain {
            round::<PLACES>(f64::from(total[n]) * f64::from(power(most[n] - PLACES)), halves)
        } else {
            add_exactly::<BLOCK, PLACES>(sums[n], (a, b), n, halves)
        };
    }
}

/// A power of two that is a normal f32.
#[inline(always)]
fn power(exponent: i32) -> f32 {
    f32::from_bits(((127 + exponent) << 23) as u32)
}

/// A sum as the accumulator holds it.
#[inline(always)]
fn round<const PLACES: i32>(exact: f64, halves: bool) -> f32 {
    if exact.abs() >= 2f64.powi(128) {
        return f32::INFINITY.copysign(exact as f32);
    }
    let cut = narrow(exact, Round::Zero);
    if halves {
        // The last bit says that something was cut: so rounding to nearest comes out as that of the exact sum.
        let odd = u32::from(f64::from(cut) != exact);
        return f16_to_f32(f32_to_f16(f32::from_bits(cut.to_bits() | odd)));
    }
    f32::from_bits(cut.to_bits() & !unkept(PLACES))
}

/// The low bits of an f32 that has no more places than the terms.
pub(crate) const fn unkept(places: i32) -> u32 {
    if places < 23 { (1 << (23 - places)) - 1 } else { 0 }
}

/// The same for column `n` and any values.
#[inline(never)]
fn add_exactly<const BLOCK: usize, const PLACES: i32>(
    sum: f32,
    (a, b): (&Factors<BLOCK, 1>, &Factors<COLUMNS, BLOCK>),
    n: usize,
    halves: bool,
) -> f32 {
    // Exact: at most 22 bits.
    let product = |k: usize| f64::from(a.values[0][k]) * f64::from(b.values[k][n]);
    let terms = || (0..BLOCK).map(product).chain([f64::from(sum)]);
    if terms().any(|t| !t.is_finite()) {
        let total: f64 = terms().sum();
        return if total.is_nan() { f32::from_bits(0x7fff_ffff) } else { total as f32 };
    }
    let exponents = (0..BLOCK).map(|k| a.exponents[0][k] + b.exponents[k][n]);
    let most = exponents.fold(exponent_of_sum(sum, halves), i32::max);
    // No term is subnormal as an f64: the smallest product is 2^-298.
    let unit = f64::from_bits(((most - PLACES + 1023) as u64) << 52);
    let total: i64 = terms().map(|t| (t / unit) as i64).sum();
    round::<PLACES>(total as f64 * unit, halves)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(sum: f32, a: [f32; 8], b: [f32; 8]) -> f32 {
        added::<24, false>(sum, a, b)
    }

    /// Of factors whose type has all exponents of an f32.
    fn added<const PLACES: i32, const HALVES: bool>(sum: f32, a: [f32; 8], b: [f32; 8]) -> f32 {
        let mut sums = [sum; COLUMNS];
        let (a, b) = (Factors::new([a], ZERO), Factors::new(b.map(|x| [x; COLUMNS]), ZERO));
        add_products::<8, PLACES>(&mut sums, &a, &b, HALVES);
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
    fn a_product_counts_by_its_factors_exponents() {
        // 2.25 has the exponent 0: four units of 2^-24 are kept, of which each would be lost beside an exponent of 1.
        let unit = 2f32.powi(-24);
        let terms = [1.5, unit, unit, unit, unit, 0.0, 0.0, 0.0];
        assert_eq!(one(0.0, terms, [1.5, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]), 2.25 + 4.0 * unit);
        assert_eq!(one(2.25, terms, [0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]), 2.25);
        // Zero times 2^100 has the exponent -26.
        let small = 2f32.powi(-51);
        assert_eq!(one(small, [0.0; 8], [2f32.powi(100); 8]), 0.0);
        assert_eq!(one(small, [0.0; 8], [2f32.powi(99); 8]), small);
    }

    #[test]
    fn fewer_places_are_those_of_the_sum_too() {
        assert_eq!(added::<13, false>(1.0 + 2f32.powi(-13), [0.0; 8], [0.0; 8]), 1.0 + 2f32.powi(-13));
        assert_eq!(added::<13, false>(-1.0 - 2f32.powi(-14), [0.0; 8], [0.0; 8]), -1.0);
        // 1 + 8 · 2^-13: all kept. 2^-14 eight times: all lost.
        assert_eq!(added::<13, false>(1.0, [2f32.powi(-13); 8], [1.0; 8]), 1.0 + 2f32.powi(-10));
        assert_eq!(added::<13, false>(1.0, [2f32.powi(-14); 8], [1.0; 8]), 1.0);
        // 3 + 2^-13 has 14 places.
        assert_eq!(
            added::<13, false>(1.5, [1.5, 2f32.powi(-13), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [1.0; 8]),
            3.0
        );
    }

    #[test]
    fn halves_are_rounded_to_nearest() {
        let ulp = 2f32.powi(-10);
        let tie = [ulp / 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(added::<24, true>(1.0, tie, [1.0; 8]), 1.0);
        assert_eq!(added::<24, true>(1.0 + ulp, tie, [1.0; 8]), 1.0 + 2.0 * ulp);
        // A tie and 2^-24, which an f32 of 2 would lose.
        let above = [1.0, ulp, 2f32.powi(-24), 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(added::<24, true>(1.0, above, [1.0; 8]), 2.0 + 2.0 * ulp);
        assert_eq!(added::<24, true>(65504.0, [16.0; 8], [1.0; 8]), f32::INFINITY);
        assert_eq!(added::<24, true>(2f32.powi(-24), [0.0; 8], [1.0; 8]), 2f32.powi(-24));
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
            let a = Factors::new([std::array::from_fn(|_| next())], ZERO);
            let b: Factors<COLUMNS, 16> =
                Factors::new(std::array::from_fn(|_| std::array::from_fn(|_| next())), ZERO);
            let mut sums = [sum; COLUMNS];
            add_products::<16, 25>(&mut sums, &a, &b, false);
            for (n, sum_of_column) in sums.into_iter().enumerate() {
                let exact = add_exactly::<16, 25>(sum, (&a, &b), n, false);
                assert_eq!(sum_of_column.to_bits(), exact.to_bits(), "{sum} {:?}", a.values);
            }
        }
    }

    #[test]
    fn sums_that_pass_31_bits_are_exact() {
        // 16 products of nearly 4 and their sum nearly 64: 2^31 at 25 places.
        let most = 2.0 - 2f32.powi(-10);
        let (a, b) =
            (Factors::new([[most; 16]], LEAST_HALF), Factors::new([[most; COLUMNS]; 16], LEAST_HALF));
        let mut sums = [1.75; COLUMNS];
        add_products::<16, 25>(&mut sums, &a, &b, false);
        assert_eq!(sums, [narrow(16.0 * f64::from(most) * f64::from(most) + 1.75, Round::Zero); COLUMNS]);
    }
}
