//! The two products of attention on tensor cores.

use super::mma_fragment::MmaTiles;
use super::swizzled::{LanePlace, SwizzledTile};
use crate::config::FlashConfig;
use crate::element::HalfElement;
use cuda_std::mem;

/// A warp's 16 rows and 16 columns of the left operand.
pub type Left = [u32; 4];

/// `scores = queries * keysᵀ`. `queries(m, k)` is the warp's row tile `m` of columns `16 k ..`; `keys` is the lane's place in the
/// keys' tile.
///
/// # Safety
/// The keys have been written before a barrier; all lanes of the warp execute it together.
#[inline(always)]
pub unsafe fn scores<C: FlashConfig, const COLUMNS: u32>(
    queries: impl Fn(usize, usize) -> Left,
    keys: LanePlace,
) -> MmaTiles {
    let mut scores = MmaTiles::zero();
    for k in 0..C::DEPTH {
        let mut left = [[0; 4]; 2];
        for m in 0..C::ROW_TILES {
            left[m] = queries(m, k);
        }
        for pair in 0..C::SCORE_TILES / 2 {
            // SAFETY: the caller's.
            let right = unsafe { mem::ldmatrix_x4::<0>(SwizzledTile::<COLUMNS>::part(keys, 16 * pair, k)) };
            for m in 0..C::ROW_TILES {
                let at = m * C::SCORE_TILES + 2 * pair;
                // SAFETY: the caller's.
                unsafe {
                    C::Element::multiply(&mut scores.tiles[at], left[m], [right[0], right[1]]);
                    C::Element::multiply(&mut scores.tiles[at + 1], left[m], [right[2], right[3]]);
                }
            }
        }
    }
    scores
}

/// `output += weights * values`. The weights are rounded to storage in the registers where they lie.
///
/// # Safety
/// As [`scores`].
#[inline(always)]
pub unsafe fn add_weighted<C: FlashConfig, const COLUMNS: u32>(
    output: &mut MmaTiles,
    weights: &MmaTiles,
    values: LanePlace,
) {
    for k in 0..C::SCORE_TILES / 2 {
        let mut left = [[0; 4]; 2];
        for m in 0..C::ROW_TILES {
            let (a, b) =
                (weights.tiles[m * C::SCORE_TILES + 2 * k], weights.tiles[m * C::SCORE_TILES + 2 * k + 1]);
            left[m] = [
                C::Element::pack(a[0], a[1]),
                C::Element::pack(a[2], a[3]),
                C::Element::pack(b[0], b[1]),
                C::Element::pack(b[2], b[3]),
            ];
        }
        for pair in 0..C::OUTPUT_TILES / 2 {
            // SAFETY: the caller's.
            let right =
                unsafe { mem::ldmatrix_x4_trans::<0>(SwizzledTile::<COLUMNS>::part(values, 16 * k, pair)) };
            for m in 0..C::ROW_TILES {
                let at = m * C::OUTPUT_TILES + 2 * pair;
                // SAFETY: the caller's.
                unsafe {
                    C::Element::multiply(&mut output.tiles[at], left[m], [right[0], right[1]]);
                    C::Element::multiply(&mut output.tiles[at + 1], left[m], [right[2], right[3]]);
                }
            }
        }
    }
}
