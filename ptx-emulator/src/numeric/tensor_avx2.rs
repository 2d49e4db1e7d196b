//! The sums of `tensor` and the widening of fragments, with AVX2 and F16C: the same results, faster.

use super::tensor::{
    COLUMNS, FAR, Factors, HIGH, LEAST_HALF, LOW, ORDER, ZERO, add_products, exponent, limit, unkept,
};
use std::arch::x86_64::*;

/// `sums += a · b` for all rows of a tile, block after block, as `add_products`.
///
/// The rows' sums of one block do not depend on each other, so that a CPU works on several at a time; the blocks of one row do.
///
/// # Safety
/// The CPU must have AVX2 and F16C.
#[target_feature(enable = "avx2,f16c")]
pub(crate) unsafe fn multiply<
    const K: usize,
    const BLOCK: usize,
    const PLACES: i32,
    const HALVES: bool,
    const ROWS: usize,
>(
    sums: &mut [[f32; COLUMNS]; ROWS],
    a: &Factors<K, ROWS>,
    b: &Factors<COLUMNS, K>,
) {
    let b = (b.values.as_chunks::<BLOCK>().0, b.exponents.as_chunks::<BLOCK>().0);
    for (block, b) in b.0.iter().zip(b.1).enumerate() {
        for ((sums, values), exponents) in sums.iter_mut().zip(&a.values).zip(&a.exponents) {
            let a = (&values.as_chunks::<BLOCK>().0[block], &exponents.as_chunks::<BLOCK>().0[block]);
            if !add_block::<BLOCK, PLACES, HALVES>(sums, a, b) {
                let a = Factors { values: [*a.0], exponents: [*a.1] };
                let b = Factors { values: *b.0, exponents: *b.1 };
                add_products::<BLOCK, PLACES>(sums, &a, &b, HALVES);
            }
        }
    }
}

/// `add_products`, values beside exponents; false where a column's terms are none that f32 arithmetic can add, and nothing is done.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn add_block<const BLOCK: usize, const PLACES: i32, const HALVES: bool>(
    sums: &mut [f32; COLUMNS],
    a: (&[f32; BLOCK], &[i32; BLOCK]),
    b: (&[[f32; COLUMNS]; BLOCK], &[[i32; COLUMNS]; BLOCK]),
) -> bool {
    // SAFETY: a row has 8 floats.
    let sum = unsafe { _mm256_loadu_ps(sums.as_ptr()) };
    let without_sign = _mm256_slli_epi32::<1>(_mm256_castps_si256(sum));
    let mut most = _mm256_sub_epi32(_mm256_srli_epi32::<24>(without_sign), _mm256_set1_epi32(127));
    if HALVES {
        let zero = _mm256_cmpeq_epi32(without_sign, _mm256_setzero_si256());
        let least = _mm256_andnot_si256(zero, _mm256_set1_epi32(LEAST_HALF));
        most = _mm256_blendv_epi8(_mm256_max_epi32(most, least), most, zero);
    }
    let mut products = [_mm256_setzero_ps(); BLOCK];
    for (k, product) in products.iter_mut().enumerate() {
        // SAFETY: a row of B has 8 numbers.
        unsafe {
            *product = _mm256_mul_ps(_mm256_set1_ps(a.0[k]), _mm256_loadu_ps(b.0[k].as_ptr()));
            let exponents = _mm256_loadu_si256(b.1[k].as_ptr().cast());
            most = _mm256_max_epi32(most, _mm256_add_epi32(_mm256_set1_epi32(a.1[k]), exponents));
        }
    }
    let low = _mm256_cmpgt_epi32(_mm256_set1_epi32(LOW), most);
    let mut high = _mm256_cmpgt_epi32(most, _mm256_set1_epi32(HIGH));
    // Powers of two: the exponent that `up` takes to `PLACES`, and back.
    let least = _mm256_max_epi32(most, _mm256_set1_epi32(LOW));
    let up = _mm256_slli_epi32::<23>(_mm256_sub_epi32(_mm256_set1_epi32(127 + PLACES), least));
    let down = _mm256_slli_epi32::<23>(_mm256_add_epi32(least, _mm256_set1_epi32(127 - PLACES)));
    let (up, down) = (_mm256_castsi256_ps(up), _mm256_castsi256_ps(down));
    let mut total = _mm256_cvttps_epi32(_mm256_mul_ps(sum, up));
    for product in products {
        total = _mm256_add_epi32(total, _mm256_cvttps_epi32(_mm256_mul_ps(product, up)));
    }
    if limit(BLOCK, PLACES) < i32::MAX {
        let size = _mm256_xor_si256(total, _mm256_srai_epi32::<31>(total));
        high = _mm256_or_si256(high, _mm256_cmpgt_epi32(size, _mm256_set1_epi32(limit(BLOCK, PLACES) - 1)));
    }
    if _mm256_movemask_epi8(_mm256_or_si256(high, low)) != 0 {
        let low = _mm256_andnot_si256(all_zero(without_sign, a.0, b.0), low);
        if _mm256_movemask_epi8(_mm256_or_si256(high, low)) != 0 {
            return false;
        }
    }
    let result = rounded::<PLACES, HALVES>(total, down);
    // SAFETY: as above.
    unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), result) };
    true
}

/// The columns in which no term is anything but zero.
#[target_feature(enable = "avx2")]
#[inline]
fn all_zero<const BLOCK: usize>(
    without_sign: __m256i,
    a: &[f32; BLOCK],
    b: &[[f32; COLUMNS]; BLOCK],
) -> __m256i {
    let mut any = without_sign;
    for (a, b) in a.iter().zip(b) {
        // SAFETY: a row of B has 8 floats.
        let b = unsafe { _mm256_loadu_si256(b.as_ptr().cast()) };
        let set = _mm256_set1_epi32(if *a == 0.0 { 0 } else { -1 });
        any = _mm256_or_si256(any, _mm256_and_si256(_mm256_slli_epi32::<1>(b), set));
    }
    _mm256_cmpeq_epi32(any, _mm256_setzero_si256())
}

/// An exact sum, of which `down` is the unit, as the accumulator holds it.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn rounded<const PLACES: i32, const HALVES: bool>(total: __m256i, down: __m256) -> __m256 {
    let nearest = _mm256_cvtepi32_ps(total);
    let mut bits = _mm256_castps_si256(nearest);
    if PLACES < 16 {
        // Every sum of up to 64 terms is an f32.
        if !HALVES {
            bits = _mm256_andnot_si256(_mm256_set1_epi32(unkept(PLACES) as i32), bits);
        }
    } else {
        // Below zero where rounding went away from zero; all ones then: adding it to the bits steps back.
        let less = _mm256_sub_epi32(total, _mm256_cvttps_epi32(nearest));
        bits = _mm256_add_epi32(bits, _mm256_srai_epi32::<31>(_mm256_sign_epi32(less, total)));
        if HALVES {
            // The last bit says that something was cut.
            let exact = _mm256_cmpeq_epi32(less, _mm256_setzero_si256());
            bits = _mm256_or_si256(bits, _mm256_andnot_si256(exact, _mm256_set1_epi32(1)));
        }
    }
    let result = _mm256_mul_ps(_mm256_castsi256_ps(bits), down);
    if HALVES { _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(result)) } else { result }
}

/// The exponents of factors, of a type whose values have none below `least`.
///
/// # Safety
/// The CPU must have AVX2.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn exponents(values: &[f32], least: i32, to: &mut [i32]) {
    let (values, last) = values.as_chunks::<8>();
    let (to, last_to) = to.as_chunks_mut::<8>();
    let to_zero = _mm256_set1_epi32(ZERO - least);
    for (values, to) in values.iter().zip(to) {
        // SAFETY: 8 numbers each.
        unsafe {
            let without_sign = _mm256_slli_epi32::<1>(_mm256_loadu_si256(values.as_ptr().cast()));
            let field = _mm256_srli_epi32::<24>(without_sign);
            // The field is 0 for zeros and, where they are values of the type, for numbers whose exponent is `ZERO`, too.
            let zero = _mm256_cmpeq_epi32(field, _mm256_setzero_si256());
            let least = _mm256_add_epi32(_mm256_set1_epi32(least), _mm256_and_si256(zero, to_zero));
            let finite = _mm256_max_epi32(_mm256_sub_epi32(field, _mm256_set1_epi32(127)), least);
            let special = _mm256_cmpeq_epi32(field, _mm256_set1_epi32(255));
            let all = _mm256_add_epi32(finite, _mm256_and_si256(special, _mm256_set1_epi32(FAR - 128)));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), all);
        }
    }
    for (value, to) in last.iter().zip(last_to) {
        *to = exponent(*value, least);
    }
}

/// 8 values of f16.
///
/// # Safety
/// `from` has 16 bytes; the CPU must have F16C.
#[target_feature(enable = "avx2,f16c")]
#[inline]
pub(crate) unsafe fn widen_half(from: *const u8, to: &mut [f32; 8]) {
    // SAFETY: by contract.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(from.cast()))) }
}

/// 8 values of bf16.
///
/// # Safety
/// `from` has 16 bytes; the CPU must have AVX2.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn widen_brain(from: *const u8, to: &mut [f32; 8]) {
    // SAFETY: by contract.
    unsafe {
        let bits = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())));
        _mm256_storeu_ps(to.as_mut_ptr(), _mm256_castsi256_ps(bits));
    }
}

/// 8 rows of 8 to 8 columns: `to[k][n] = from[stride · ORDER[n] + k]`.
///
/// # Safety
/// `from` has 7 strides and 8 floats; the CPU must have AVX2.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn transpose(from: *const f32, stride: usize, to: &mut [[f32; 8]; 8]) {
    // SAFETY: by contract.
    let row = |n: usize| unsafe { _mm256_loadu_ps(from.add(stride * ORDER[n])) };
    let (first, second) = (quads([row(0), row(1), row(2), row(3)]), quads([row(4), row(5), row(6), row(7)]));
    for k in 0..4 {
        // SAFETY: `to` has 8 rows of 8.
        unsafe {
            let lower = _mm256_permute2f128_ps::<0x20>(first[k], second[k]);
            let upper = _mm256_permute2f128_ps::<0x31>(first[k], second[k]);
            _mm256_storeu_ps(to[k].as_mut_ptr(), lower);
            _mm256_storeu_ps(to[k + 4].as_mut_ptr(), upper);
        }
    }
}

/// 8 rows of 4 to 4 columns: `to[k][n] = from[4 · ORDER[n] + k]`.
///
/// # Safety
/// The CPU must have AVX2.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn transpose_narrow(from: &[f32; 32], to: &mut [[f32; 8]; 4]) {
    // Rows of the first and of the second half side by side.
    let rows = |n: usize| {
        let row = |n: usize| from[4 * ORDER[n]..].as_ptr();
        // SAFETY: 4 floats from the start of a row on.
        unsafe { _mm256_loadu2_m128(row(n + 4), row(n)) }
    };
    for (to, column) in to.iter_mut().zip(quads([rows(0), rows(1), rows(2), rows(3)])) {
        // SAFETY: a row of 8.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), column) };
    }
}

/// 4 by 4 transposed, in each half.
#[target_feature(enable = "avx2")]
#[inline]
fn quads([a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
    // Pairs of rows, then pairs of pairs.
    let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
    let (ab_high, cd_high) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
    [
        _mm256_shuffle_ps::<0x44>(ab, cd),
        _mm256_shuffle_ps::<0xee>(ab, cd),
        _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
        _mm256_shuffle_ps::<0xee>(ab_high, cd_high),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::half::{bf16_to_f32, f16_to_f32, f32_to_f16};

    /// Both ways add the same.
    fn compare<const BLOCK: usize, const PLACES: i32, const HALVES: bool>(
        sums: [[f32; 8]; 3],
        a: &Factors<16, 3>,
        b: &Factors<8, 16>,
    ) {
        let (mut fast, mut wanted) = (sums, sums);
        // SAFETY: the tests that call this look for what it needs.
        unsafe { multiply::<16, BLOCK, PLACES, HALVES, 3>(&mut fast, a, b) };
        for (row, sums) in wanted.iter_mut().enumerate() {
            for block in 0..16 / BLOCK {
                add_products::<BLOCK, PLACES>(sums, &a.in_row(row, block), &b.rows(block), HALVES);
            }
        }
        assert_eq!(fast.map(|row| row.map(f32::to_bits)), wanted.map(|row| row.map(f32::to_bits)));
    }

    #[test]
    fn sums_are_those_of_the_portable_code() {
        if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")) {
            return;
        }
        let mut seed = 3u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed >> 8
        };
        for round in 0..5000 {
            // Exponents close together, then far apart, then anything, special values too.
            let span = [4, 60, 255][round % 3];
            let mut value = || {
                let (r, e) = (next(), next());
                f32::from_bits(
                    r << 31 | ((128 - span.min(128) + e % (2 * span)) & 255) << 23 | (r & 0x7f_0000),
                )
            };
            let a: [[f32; 16]; 3] = std::array::from_fn(|_| std::array::from_fn(|_| value()));
            let b: [[f32; 8]; 16] = std::array::from_fn(|_| std::array::from_fn(|_| value()));
            let sums: [[f32; 8]; 3] = std::array::from_fn(|_| std::array::from_fn(|_| value()));
            let halves = sums.map(|row| row.map(|x| f16_to_f32(f32_to_f16(x))));
            let (a, b) = (Factors::new(a, ZERO), Factors::new(b, LEAST_HALF));
            compare::<8, 24, false>(sums, &a, &b);
            compare::<4, 24, false>(sums, &a, &b);
            compare::<16, 25, false>(sums, &a, &b);
            compare::<16, 13, false>(sums, &a, &b);
            compare::<8, 24, true>(halves, &a, &b);
            compare::<16, 25, true>(halves, &a, &b);
            compare::<16, 13, true>(halves, &a, &b);
        }
    }

    #[test]
    fn exponents_are_those_of_the_portable_code() {
        if !is_x86_feature_detected!("avx2") {
            return;
        }
        let every = (0..0x1_0001u32).map(|x| f32::from_bits(x << 16 | x & 1));
        for least in [ZERO, LEAST_HALF, -6] {
            // Only types with the least exponent of f32 have its subnormals.
            let values: Vec<f32> = every.clone().filter(|x| least == ZERO || !x.is_subnormal()).collect();
            let mut all = vec![0; values.len()];
            // SAFETY: checked above.
            unsafe { exponents(&values, least, &mut all) };
            for (x, to) in values.iter().zip(all) {
                assert_eq!(to, exponent(*x, least), "{x:e} {least}");
            }
        }
    }

    #[test]
    fn widening_is_that_of_the_portable_code() {
        if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c")) {
            return;
        }
        for first in (0..=0xffff).step_by(8) {
            let bits: [u16; 8] = std::array::from_fn(|k| (first + k) as u16);
            let (mut half, mut brain) = ([0f32; 8], [0f32; 8]);
            // SAFETY: checked above.
            unsafe {
                widen_half(bits.as_ptr().cast(), &mut half);
                widen_brain(bits.as_ptr().cast(), &mut brain);
            }
            for k in 0..8 {
                let portable = f16_to_f32(bits[k].into());
                assert!(half[k].to_bits() == portable.to_bits() || half[k].is_nan() && portable.is_nan());
                assert_eq!(brain[k].to_bits(), bf16_to_f32(bits[k].into()).to_bits());
            }
        }
    }

    #[test]
    fn rows_become_columns() {
        if !is_x86_feature_detected!("avx2") {
            return;
        }
        let from: Vec<f32> = (0..7 * 11 + 8).map(|x| x as f32).collect();
        let (mut to, mut narrow) = ([[0f32; 8]; 8], [[0f32; 8]; 4]);
        // SAFETY: 7 strides of 11 and 8 floats.
        unsafe {
            transpose(from.as_ptr(), 11, &mut to);
            transpose_narrow(from[..32].try_into().unwrap(), &mut narrow);
        }
        for (k, row) in to.iter().enumerate() {
            assert_eq!(*row, ORDER.map(|n| (11 * n + k) as f32));
        }
        for (k, row) in narrow.iter().enumerate() {
            assert_eq!(*row, ORDER.map(|n| (4 * n + k) as f32));
        }
    }
}
