//! The two products of attention, from shared memory into registers.
//!
//! Both operands of the scores are contiguous along the summed dimension, so that 16-byte loads bring four terms of each
//! row. In the second product only the probabilities are; the other operand is contiguous along the output columns.

use super::fragment::{Output, Scores};
use super::shared_tile::SharedTile;
use crate::config::KernelConfig;
use cuda_std::{float, hint, mem};
use flash_attention_abi::tile::{WARP_COLUMNS, WARP_ROWS};
use flash_attention_geometry::fragment::ThreadPlace;

/// Steps of four terms between two checks of the loop: enough to hide the latency of the shared loads, few enough to keep
/// the kernel inside the instruction cache.
const UNROLLED_STEPS: u32 = 2;

/// `scores += rows * columnsᵀ` over `terms` columns of both tiles, beginning at `row_term` of `rows` and 0 of `columns`.
///
/// # Safety
/// Both tiles hold the terms and have been written before a barrier.
#[inline(always)]
pub unsafe fn add_scores<C: KernelConfig>(
    scores: &mut Scores,
    rows: SharedTile,
    row_term: u32,
    columns: SharedTile,
    place: ThreadPlace,
) {
    let mut row = rows.at(place.row(0), row_term);
    let mut column = columns.at(place.score_column(0), 0);
    for _ in 0..hint::opaque(C::TILE.slice / (4 * UNROLLED_STEPS)) {
        for step in 0..UNROLLED_STEPS {
            let mut a = [[0.0; 4]; super::fragment::MAX_ROWS];
            for i in 0..C::ROWS {
                let offset = i as u32 * WARP_ROWS * rows.row_bytes() + step * 16;
                // SAFETY: the caller's; the row belongs to the tile.
                a[i] = unsafe { mem::ld_shared_v4_f32::<0>(row.offset(offset)) };
            }
            for j in 0..C::COLUMNS {
                let offset = j as u32 * WARP_COLUMNS * columns.row_bytes() + step * 16;
                // SAFETY: the caller's.
                let b = unsafe { mem::ld_shared_v4_f32::<0>(column.offset(offset)) };
                for i in 0..C::ROWS {
                    for t in 0..4 {
                        scores.rows[i][j] = float::fma(a[i][t], b[t], scores.rows[i][j]);
                    }
                }
            }
        }
        row = row.offset(UNROLLED_STEPS * 16);
        column = column.offset(UNROLLED_STEPS * 16);
    }
}

/// `output += weights * values`, where `values` is a slab whose rows are the columns `first_column ..` of `weights`.
///
/// # Safety
/// As for [`add_scores`].
#[inline(always)]
pub unsafe fn add_output<C: KernelConfig>(
    output: &mut Output,
    weights: SharedTile,
    first_column: u32,
    values: SharedTile,
    place: ThreadPlace,
) {
    let mut weight = weights.at(place.row(0), first_column);
    let mut value = values.at(0, place.output_column(0));
    for _ in 0..hint::opaque(C::TILE.slab / 4) {
        let mut a = [[0.0; 4]; super::fragment::MAX_ROWS];
        for i in 0..C::ROWS {
            // SAFETY: the caller's; the row belongs to the tile.
            a[i] = unsafe {
                mem::ld_shared_v4_f32::<0>(weight.offset(i as u32 * WARP_ROWS * weights.row_bytes()))
            };
        }
        for t in 0..4 {
            for group in 0..C::OUTPUT_COLUMNS / 4 {
                let offset = t as u32 * values.row_bytes() + group as u32 * (16 * WARP_COLUMNS);
                // SAFETY: the caller's.
                let b = unsafe { mem::ld_shared_v4_f32::<0>(value.offset(offset)) };
                for i in 0..C::ROWS {
                    for e in 0..4 {
                        let sum = &mut output.rows[i][4 * group + e];
                        *sum = float::fma(a[i][t], b[e], *sum);
                    }
                }
            }
        }
        weight = weight.offset(16);
        value = value.offset(4 * values.row_bytes());
    }
}

/// Writes the elements of a fragment of scores to a tile, one by one.
#[derive(Clone, Copy)]
pub struct ScoreWriter {
    first: mem::SharedAddr,
    row_bytes: u32,
}

impl ScoreWriter {
    /// Writes the thread's elements of a tile.
    #[inline(always)]
    pub fn new(tile: SharedTile, place: ThreadPlace) -> Self {
        // Hidden from the optimiser, so that it does not keep the addresses of all elements in registers.
        let first = tile.at(place.row(0), place.score_column(0)).get();
        ScoreWriter { first: mem::SharedAddr::new(hint::opaque(first)), row_bytes: tile.row_bytes() }
    }

    /// Writes the element of the thread's row `i` and column `j`.
    ///
    /// # Safety
    /// The tile is a block's score tile, and nobody reads the thread's rows until the next barrier.
    #[inline(always)]
    pub unsafe fn put(&self, i: usize, j: usize, value: f32) {
        let offset = i as u32 * WARP_ROWS * self.row_bytes + j as u32 * WARP_COLUMNS * 4;
        // SAFETY: the caller's.
        unsafe { mem::st_shared_f32::<0>(self.first.offset(offset), value) }
    }

    /// Writes a whole fragment.
    ///
    /// # Safety
    /// As [`ScoreWriter::put`].
    #[inline(always)]
    pub unsafe fn put_all<C: KernelConfig>(&self, scores: &Scores) {
        for i in 0..C::ROWS {
            for j in 0..C::COLUMNS {
                // SAFETY: the caller's.
                unsafe { self.put(i, j, scores.rows[i][j]) }
            }
        }
    }
}
