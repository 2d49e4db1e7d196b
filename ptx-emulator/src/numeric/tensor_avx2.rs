//! The sums of `tensor` and the widening of fragments, with AVX2 and F16C: the same results, faster.

use super::tensor::{COLUMNS, PLACES, PLAIN, add_products};
use std::arch::x86_64::*;

/// `sums += a · b` for all rows of a tile, block after block.
///
/// # Safety
/// The CPU must have AVX2.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn multiply<const K: usize, const BLOCK: usize>(
    sums: &mut [[f32; COLUMNS]],
    a: &[[f32; K]],
    b: &[[f32; COLUMNS]; K],
) {
    for (sums, row) in sums.iter_mut().zip(a) {
        for (a, b) in row.as_chunks::<BLOCK>().0.iter().zip(b.as_chunks::<BLOCK>().0) {
            // SAFETY: the CPU has AVX2 by contract.
            unsafe { add_block(sums, a, b) };
        }
    }
}

/// As `add_products`.
///
/// # Safety
/// The CPU must have AVX2.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn add_block<const BLOCK: usize>(
    sums: &mut [f32; COLUMNS],
    a: &[f32; BLOCK],
    b: &[[f32; COLUMNS]; BLOCK],
) {
    let magnitude = _mm256_set1_epi32(0x7fff_ffff);
    // SAFETY: each pointer is that of 8 floats.
    unsafe {
        let sum = _mm256_loadu_ps(sums.as_ptr());
        let mut products = [_mm256_setzero_ps(); BLOCK];
        let mut most = _mm256_and_si256(_mm256_castps_si256(sum), magnitude);
        for k in 0..BLOCK {
            products[k] = _mm256_mul_ps(_mm256_set1_ps(a[k]), _mm256_loadu_ps(b[k].as_ptr()));
            most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(products[k]), magnitude));
        }
        let exponent = _mm256_srli_epi32::<23>(most);
        // Not plain: at or above 255, or below `PLAIN` but not zero.
        let high = _mm256_cmpgt_epi32(exponent, _mm256_set1_epi32(254));
        let low = _mm256_andnot_si256(
            _mm256_cmpeq_epi32(most, _mm256_setzero_si256()),
            _mm256_cmpgt_epi32(_mm256_set1_epi32(PLAIN), exponent),
        );
        if _mm256_movemask_epi8(_mm256_or_si256(high, low)) != 0 {
            add_products(sums, a, b);
            return;
        }
        let exponent = _mm256_max_epi32(exponent, _mm256_set1_epi32(PLAIN));
        let up = _mm256_sub_epi32(_mm256_set1_epi32(254 + PLACES), exponent);
        let up = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(up));
        let down = _mm256_sub_epi32(exponent, _mm256_set1_epi32(PLACES));
        let down = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(down));
        let mut total = _mm256_cvttps_epi32(_mm256_mul_ps(sum, up));
        for product in products {
            total = _mm256_add_epi32(total, _mm256_cvttps_epi32(_mm256_mul_ps(product, up)));
        }
        let size = _mm256_abs_epi32(total);
        let nearest = _mm256_cvtepi32_ps(size);
        // All ones where rounding went up: adding it steps back.
        let above = _mm256_cmpgt_epi32(_mm256_cvttps_epi32(nearest), size);
        let cut = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(nearest), above));
        let sign = _mm256_andnot_si256(magnitude, total);
        let result = _mm256_or_ps(_mm256_mul_ps(cut, down), _mm256_castsi256_ps(sign));
        _mm256_storeu_ps(sums.as_mut_ptr(), result);
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

/// 8 rows of 8 to 8 columns: `to[k][n] = from[stride n + k]`.
///
/// # Safety
/// `from` has 7 strides and 8 floats; the CPU must have AVX2.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn transpose(from: *const f32, stride: usize, to: &mut [[f32; 8]]) {
    // SAFETY: by contract.
    let row = |n: usize| unsafe { _mm256_loadu_ps(from.add(stride * n)) };
    // Pairs of rows, then pairs of pairs, then halves.
    let low = |n: usize| _mm256_unpacklo_ps(row(n), row(n + 1));
    let high = |n: usize| _mm256_unpackhi_ps(row(n), row(n + 1));
    let quads = |n: usize| {
        let (a, b, c, d) = (low(n), low(n + 2), high(n), high(n + 2));
        [
            _mm256_shuffle_ps::<0x44>(a, b),
            _mm256_shuffle_ps::<0xee>(a, b),
            _mm256_shuffle_ps::<0x44>(c, d),
            _mm256_shuffle_ps::<0xee>(c, d),
        ]
    };
    let (first, second) = (quads(0), quads(4));
    for k in 0..4 {
        // SAFETY: `to` has 8 rows of 8, or indexing stops.
        unsafe {
            let lower = _mm256_permute2f128_ps::<0x20>(first[k], second[k]);
            let upper = _mm256_permute2f128_ps::<0x31>(first[k], second[k]);
            _mm256_storeu_ps(to[k].as_mut_ptr(), lower);
            _mm256_storeu_ps(to[k + 4].as_mut_ptr(), upper);
        }
    }
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
            let mut sums: [[f32; 8]; 3] = std::array::from_fn(|_| std::array::from_fn(|_| value()));
            let mut wanted = sums;
            for (sums, a) in wanted.iter_mut().zip(&a) {
                for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
                    add_products(sums, a, b);
                }
            }
            // SAFETY: checked above.
            unsafe { multiply::<16, 8>(&mut sums, &a, &b) };
            assert_eq!(sums.map(|r| r.map(f32::to_bits)), wanted.map(|r| r.map(f32::to_bits)));
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
        let mut to = [[0f32; 8]; 8];
        // SAFETY: 7 strides of 11 and 8 floats.
        unsafe { transpose(from.as_ptr(), 11, &mut to) };
        for (k, row) in to.iter().enumerate() {
            for (n, &x) in row.iter().enumerate() {
                assert_eq!(x, (11 * n + k) as f32);
            }
        }
    }
}
