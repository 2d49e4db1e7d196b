//! The sums of `tensor` and the widening of fragments, with AVX2 and F16C: the same results, faster.

use super::tensor::{COLUMNS, ORDER, PLACES, PLAIN, add_products};
use std::arch::x86_64::*;

/// `sums += a · b` for all rows of a tile, block after block, as `add_products`.
///
/// The rows' sums of one block do not depend on each other, so that a CPU works on several at a time; the blocks of one row do.
///
/// # Safety
/// The CPU must have AVX2.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn multiply<const K: usize, const BLOCK: usize, const ROWS: usize>(
    sums: &mut [[f32; COLUMNS]; ROWS],
    a: &[[f32; K]; ROWS],
    b: &[[f32; COLUMNS]; K],
) {
    let mut before = [[0f32; COLUMNS]; ROWS];
    for (block, b) in b.as_chunks::<BLOCK>().0.iter().enumerate() {
        // The largest term of all, and one less than the smallest of the columns' largest ones; zero is the largest number then.
        let (mut largest, mut least) = (_mm256_setzero_si256(), _mm256_set1_epi32(-1));
        for ((sums, before), a) in sums.iter_mut().zip(&mut before).zip(a) {
            *before = *sums;
            let most = add_block(sums, &a.as_chunks::<BLOCK>().0[block], b);
            largest = _mm256_max_epi32(largest, most);
            least = _mm256_min_epu32(least, _mm256_sub_epi32(most, _mm256_set1_epi32(1)));
        }
        let high = _mm256_cmpgt_epi32(largest, _mm256_set1_epi32((255 << 23) - 1));
        // As a signed number, that of zero is below all others.
        let low = _mm256_andnot_si256(least, _mm256_cmpgt_epi32(_mm256_set1_epi32((PLAIN << 23) - 1), least));
        if _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_or_si256(high, low))) != 0 {
            *sums = before;
            for (sums, a) in sums.iter_mut().zip(a) {
                add_products(sums, &a.as_chunks::<BLOCK>().0[block], b);
            }
        }
    }
}

/// `add_products` where no column's largest term is infinite or NaN, and none is below `PLAIN` but not zero; returns the largest terms.
#[target_feature(enable = "avx2")]
#[inline]
fn add_block<const BLOCK: usize>(
    sums: &mut [f32; COLUMNS],
    a: &[f32; BLOCK],
    b: &[[f32; COLUMNS]; BLOCK],
) -> __m256i {
    let magnitude = _mm256_set1_epi32(0x7fff_ffff);
    // SAFETY: a row has 8 floats.
    let sum = unsafe { _mm256_loadu_ps(sums.as_ptr()) };
    let mut products = [_mm256_setzero_ps(); BLOCK];
    let mut most = _mm256_and_si256(_mm256_castps_si256(sum), magnitude);
    for k in 0..BLOCK {
        // SAFETY: a row of B has 8 floats.
        products[k] = unsafe { _mm256_mul_ps(_mm256_set1_ps(a[k]), _mm256_loadu_ps(b[k].as_ptr())) };
        most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(products[k]), magnitude));
    }
    // Powers of two: the exponent that `up` takes to `PLACES`, and back.
    let exponent = _mm256_max_epi32(most, _mm256_set1_epi32(PLAIN << 23));
    let exponent = _mm256_and_si256(exponent, _mm256_set1_epi32(255 << 23));
    let up = _mm256_castsi256_ps(_mm256_sub_epi32(_mm256_set1_epi32((254 + PLACES) << 23), exponent));
    let down = _mm256_castsi256_ps(_mm256_sub_epi32(exponent, _mm256_set1_epi32(PLACES << 23)));
    let mut total = _mm256_cvttps_epi32(_mm256_mul_ps(sum, up));
    for product in products {
        total = _mm256_add_epi32(total, _mm256_cvttps_epi32(_mm256_mul_ps(product, up)));
    }
    let nearest = _mm256_cvtepi32_ps(total);
    // Below zero where rounding went away from zero; all ones then: adding it to the bits steps back.
    let less = _mm256_sub_epi32(total, _mm256_cvttps_epi32(nearest));
    let away = _mm256_srai_epi32::<31>(_mm256_sign_epi32(less, total));
    let cut = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(nearest), away));
    // SAFETY: as above.
    unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), _mm256_mul_ps(cut, down)) };
    most
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
    use crate::numeric::half::{bf16_to_f32, f16_to_f32};

    #[test]
    fn sums_and_widening_are_those_of_the_portable_code() {
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
            let (mut by_eight, mut by_four) = (sums, sums);
            // SAFETY: checked above.
            unsafe {
                multiply::<16, 8, 3>(&mut by_eight, &a, &b);
                multiply::<16, 4, 3>(&mut by_four, &a, &b);
            }
            for (row, a) in a.iter().enumerate() {
                let mut wanted = (sums[row], sums[row]);
                for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
                    add_products(&mut wanted.0, a, b);
                }
                for (a, b) in a.as_chunks::<4>().0.iter().zip(b.as_chunks::<4>().0) {
                    add_products(&mut wanted.1, a, b);
                }
                assert_eq!(by_eight[row].map(f32::to_bits), wanted.0.map(f32::to_bits));
                assert_eq!(by_four[row].map(f32::to_bits), wanted.1.map(f32::to_bits));
            }
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
