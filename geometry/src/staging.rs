//! Which 16-byte piece of a slice a thread carries from global to shared memory.
//!
//! A slice or slab consists of panels of 32 columns. Within a panel, neighbouring threads take neighbouring pieces of a row (4
//! pieces of 8 halves, or 8 pieces of 4 floats: 64 or 128 contiguous bytes of global memory), then the next row. The eight
//! lanes that store together then fill all banks, which whole rows of 64 halves would not.

/// Columns of a panel.
pub const PANEL_COLUMNS: u32 = 32;

/// A piece's place in its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Row of the slice.
    pub row: u32,
    /// First column of the slice.
    pub column: u32,
}

impl Piece {
    /// Piece `index` of a slice of `rows` rows, `width` elements a piece (4 or 8). Thread `t` of `n` carries the pieces
    /// `t, t + n, t + 2 n, ...`.
    #[inline(always)]
    pub const fn new(index: u32, rows: u32, width: u32) -> Piece {
        let per_row = PANEL_COLUMNS / width;
        let per_panel = per_row * rows;
        let (panel, within) = (index / per_panel, index % per_panel);
        Piece { row: within / per_row, column: panel * PANEL_COLUMNS + within % per_row * width }
    }

    /// Pieces of a slice of `rows` x `columns`.
    pub const fn count(rows: u32, columns: u32, width: u32) -> u32 {
        rows * columns / width
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::shared::{SharedPlan, wavefronts};
    use flash_attention_abi::tile::{BLOCK_COLUMNS, HEAD_DIM_TILES, backward_tile, forward_tile};
    use std::collections::HashSet;

    #[test]
    fn the_pieces_cover_the_slice_once() {
        for (rows, columns, width) in
            [(64, 32, 4), (64, 64, 4), (64, 32, 8), (64, 64, 8), (32, 64, 8), (32, 256, 4)]
        {
            let mut seen = HashSet::new();
            for index in 0..Piece::count(rows, columns, width) {
                let piece = Piece::new(index, rows, width);
                for e in 0..width {
                    assert!(piece.row < rows && piece.column + e < columns);
                    assert!(seen.insert((piece.row, piece.column + e)));
                }
            }
            assert_eq!(seen.len() as u32, rows * columns);
        }
    }

    /// 512 bytes in 4 wavefronts: no store of the staging meets a conflict.
    #[test]
    fn stores_are_free_of_conflicts() {
        for tile in HEAD_DIM_TILES.into_iter().flat_map(|d| [forward_tile(d), backward_tile(d)]) {
            let plan = SharedPlan::new(&tile);
            for (layout, rows, columns) in
                [(plan.columns, BLOCK_COLUMNS, tile.slice), (plan.slab, tile.slab, tile.head_dim)]
            {
                for width in [4, 8] {
                    for first in (0..Piece::count(rows, columns, width)).step_by(32) {
                        for half in 0..width / 4 {
                            let addresses = core::array::from_fn(|lane| {
                                let piece = Piece::new(first + lane as u32, rows, width);
                                layout.at(piece.row, piece.column + 4 * half)
                            });
                            assert_eq!(wavefronts(&addresses, 16), 4, "width {width} columns {columns}");
                        }
                    }
                }
            }
        }
    }
}
