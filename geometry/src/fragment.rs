//! Which element of a tile a lane owns.
//!
//! A warp is 4 x 8 lanes over a tile of `4 * R` rows. Lane `8 r + c` owns rows `r, r + 4, r + 8, ...`; of a score tile it
//! owns columns `c, c + 8, c + 16, ...`, of an output tile the groups of four columns `4 c + 32 g ..`. Both choices make
//! the rows (or the 16-byte pieces of a row) that one shared-memory access of the warp touches lie next to one another.
//!
//! ```text
//!            column c      0    1    2  ...  7
//!   row 0                 l0   l1   l2      l7
//!   row 1                 l8   l9   l10     l15
//!   row 2                 l16  ...
//!   row 3                 l24  ...          l31     row 4 is lane 0 to 7 again
//! ```

use flash_attention_abi::tile::{WARP_COLUMNS, WARP_ROWS};

/// A thread's place in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadPlace {
    /// Row of the block's tile that holds the thread's first row.
    pub first_row: u32,
    /// Column of lanes, 0..8.
    pub lane_column: u32,
}

impl ThreadPlace {
    /// The place of thread `thread` where each thread owns `rows_per_thread` rows.
    #[inline(always)]
    pub const fn new(thread: u32, rows_per_thread: u32) -> ThreadPlace {
        let (warp, lane) = (thread / 32, thread % 32);
        ThreadPlace {
            first_row: warp * WARP_ROWS * rows_per_thread + lane / WARP_COLUMNS,
            lane_column: lane % WARP_COLUMNS,
        }
    }

    /// Row of the tile of the thread's row `i`.
    #[inline(always)]
    pub const fn row(&self, i: u32) -> u32 {
        self.first_row + i * WARP_ROWS
    }

    /// Column of the score tile of the thread's column `j`.
    #[inline(always)]
    pub const fn score_column(&self, j: u32) -> u32 {
        self.lane_column + j * WARP_COLUMNS
    }

    /// First column of the thread's group `g` of four output columns.
    #[inline(always)]
    pub const fn output_column(&self, g: u32) -> u32 {
        4 * self.lane_column + g * (4 * WARP_COLUMNS)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use flash_attention_abi::tile::{
        BLOCK_COLUMNS, COLUMNS_PER_THREAD, HEAD_DIM_TILES, backward_tile, forward_tile,
    };
    use std::collections::HashSet;

    #[test]
    fn score_map_is_a_bijection_onto_the_tile() {
        for head_dim in HEAD_DIM_TILES {
            for tile in [forward_tile(head_dim), backward_tile(head_dim)] {
                let mut seen = HashSet::new();
                for thread in 0..tile.threads {
                    let place = ThreadPlace::new(thread, tile.rows_per_thread);
                    for i in 0..tile.rows_per_thread {
                        for j in 0..COLUMNS_PER_THREAD {
                            assert!(
                                place.row(i) < tile.block_rows() && place.score_column(j) < BLOCK_COLUMNS
                            );
                            assert!(seen.insert((place.row(i), place.score_column(j))));
                        }
                    }
                }
                assert_eq!(seen.len() as u32, tile.block_rows() * BLOCK_COLUMNS);
            }
        }
    }

    #[test]
    fn output_map_is_a_bijection_onto_the_tile() {
        for head_dim in HEAD_DIM_TILES {
            let tile = forward_tile(head_dim);
            let mut seen = HashSet::new();
            for thread in 0..tile.threads {
                let place = ThreadPlace::new(thread, tile.rows_per_thread);
                for i in 0..tile.rows_per_thread {
                    for g in 0..head_dim / 32 {
                        for e in 0..4 {
                            assert!(seen.insert((place.row(i), place.output_column(g) + e)));
                        }
                    }
                }
            }
            assert_eq!(seen.len() as u32, tile.block_rows() * head_dim);
        }
    }

    #[test]
    fn a_row_belongs_to_one_warp_and_eight_neighbouring_lanes() {
        let place = |thread| ThreadPlace::new(thread, 4);
        for thread in 0..128 {
            assert_eq!(place(thread).first_row, place(thread & !7).first_row);
            assert_eq!(place(thread).first_row / 16, thread / 32);
        }
    }
}
