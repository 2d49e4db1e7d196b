//! Tiles of 16-bit elements for tensor cores: where they lie in shared memory, and who owns what of a product.
//!
//! Shared rows consist of 16-byte chunks, and `ldmatrix` takes the same chunk of 8 rows at once. [`Swizzle`] exchanges chunks
//! so that those lie in different banks, without padding.

/// How the chunks of a row are exchanged: chunk `c` of row `r` lies at `c ^ f(r)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swizzle {
    /// Bytes of a row, a multiple of 64.
    pub row_bytes: u32,
}

impl Swizzle {
    /// For rows of `columns` elements of 2 bytes, a multiple of 32.
    pub const fn new(columns: u32) -> Swizzle {
        assert!(columns.is_multiple_of(32));
        Swizzle { row_bytes: columns * 2 }
    }

    /// Chunks whose places repeat in the same order further on: 8 where rows begin in the same bank, else 4.
    #[inline(always)]
    pub const fn period(&self) -> u32 {
        if self.row_bytes.is_multiple_of(128) { 8 } else { 4 }
    }

    /// What a row's chunks are exchanged by.
    #[inline(always)]
    pub const fn mask(&self, row: u32) -> u32 {
        // Rows of 64 or 192 bytes begin in two banks by turns: two neighbours share an exchange.
        if self.row_bytes.is_multiple_of(128) { row % 8 } else { row / 2 % 4 }
    }

    /// Byte offset of a chunk of 8 elements.
    #[inline(always)]
    pub const fn at(&self, row: u32, chunk: u32) -> u32 {
        row * self.row_bytes + (chunk ^ self.mask(row)) * 16
    }
}

/// A lane's (row, first column of 8) in the part of a tile that one `ldmatrix.x4` loads: 16 rows and columns, or, where the other
/// operand of a product needs no more than 8 of either, 8 x 32 or 32 x 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixLane {
    /// Row, 0..16; or 0..8 or 0..32.
    pub row: u32,
    /// Chunk of 8 columns, 0 or 1; or 0..4 or 0.
    pub chunk: u32,
}

impl MatrixLane {
    /// For the left operand (16 rows, 16 columns, row by row), and for the right one where its rows are summed over (`.trans`):
    /// registers 0 and 1 are the upper and lower half of columns 0..8, registers 2 and 3 of columns 8..16.
    #[inline(always)]
    pub const fn rows_first(lane: u32) -> MatrixLane {
        MatrixLane { row: lane % 16, chunk: lane / 16 }
    }

    /// For the right operand whose columns are summed over: registers 0 and 1 are both halves of the columns of rows 0..8,
    /// registers 2 and 3 of rows 8..16.
    #[inline(always)]
    pub const fn columns_first(lane: u32) -> MatrixLane {
        MatrixLane { row: lane / 16 * 8 + lane % 8, chunk: lane / 8 % 2 }
    }

    /// For 8 rows of the right operand, whose 32 columns are summed over: registers 0 and 1 are columns 0..16, 2 and 3 the others.
    #[inline(always)]
    pub const fn eight_rows(lane: u32) -> MatrixLane {
        MatrixLane { row: lane % 8, chunk: lane / 8 }
    }

    /// For 8 columns of the right operand, whose 32 rows are summed over (`.trans`): registers 0 and 1 are rows 0..16, 2 and 3 the
    /// others.
    #[inline(always)]
    pub const fn eight_columns(lane: u32) -> MatrixLane {
        MatrixLane { row: lane, chunk: 0 }
    }
}

/// A thread's place in a score or output tile of `mma.m16n8`: rows `first_row + 8 i` (two of each 16), and of every 8 columns
/// the two from `first_column` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmaPlace {
    /// Row of the block's tile that holds the thread's first row.
    pub first_row: u32,
    /// First column of the thread: 0, 2, 4 or 6 behind the first one of its warp.
    pub first_column: u32,
}

impl MmaPlace {
    /// The place of thread `thread` where each warp owns `warp_rows` rows.
    #[inline(always)]
    pub const fn new(thread: u32, warp_rows: u32) -> MmaPlace {
        Self::within(thread % 32, [thread / 32 * warp_rows, 0])
    }

    /// The place of a lane of a warp that owns the part of the tile from a row and a column on.
    #[inline(always)]
    pub const fn within(lane: u32, [row, column]: [u32; 2]) -> MmaPlace {
        MmaPlace { first_row: row + lane / 4, first_column: column + lane % 4 * 2 }
    }

    /// Row of the tile of the thread's row `i`.
    #[inline(always)]
    pub const fn row(&self, i: u32) -> u32 {
        self.first_row + i * 8
    }

    /// Column of the tile of the thread's column `j`.
    #[inline(always)]
    pub const fn column(&self, j: u32) -> u32 {
        self.first_column + j / 2 * 8 + j % 2
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::shared::wavefronts;
    use std::collections::HashSet;

    const COLUMNS: [u32; 6] = [32, 64, 96, 128, 192, 256];

    #[test]
    fn chunks_stay_in_their_row_and_have_places_of_their_own() {
        for columns in COLUMNS {
            let swizzle = Swizzle::new(columns);
            let mut seen = HashSet::new();
            for row in 0..32 {
                for chunk in 0..columns / 8 {
                    let at = swizzle.at(row, chunk);
                    assert_eq!((at / swizzle.row_bytes, at % 16), (row, 0), "{columns}");
                    assert!(seen.insert(at));
                    // What a kernel adds as a constant: whole periods.
                    let further = chunk + swizzle.period();
                    if further < columns / 8 {
                        assert_eq!(swizzle.at(row, further), at + swizzle.period() * 16);
                    }
                    // The mask repeats every 8 rows.
                    assert_eq!(swizzle.at(row + 8, chunk), at + 8 * swizzle.row_bytes);
                }
            }
        }
    }

    /// Lanes 8 i .. 8 i + 8 of an `ldmatrix` are served at a time, 16 bytes each: 4 wavefronts of 128 bytes.
    #[test]
    fn no_matrix_load_has_a_bank_conflict() {
        for columns in COLUMNS {
            let swizzle = Swizzle::new(columns);
            let without_conflict = |lanes: fn(u32) -> MatrixLane, chunks: usize| {
                for chunk in (0..columns / 8).step_by(chunks) {
                    let addresses = std::array::from_fn(|lane| {
                        let MatrixLane { row, chunk: within } = lanes(lane as u32);
                        swizzle.at(row, chunk + within)
                    });
                    assert_eq!(wavefronts(&addresses, 16), 4, "{columns} {chunk}");
                }
            };
            without_conflict(MatrixLane::rows_first, 2);
            without_conflict(MatrixLane::columns_first, 2);
            without_conflict(MatrixLane::eight_rows, 4);
            without_conflict(MatrixLane::eight_columns, 1);
        }
    }

    /// Threads read a finished tile chunk after chunk, 16 bytes each.
    #[test]
    fn no_read_of_whole_rows_has_a_bank_conflict() {
        for columns in COLUMNS {
            let swizzle = Swizzle::new(columns);
            let chunks = columns / 8;
            for first in (0..chunks * 16).step_by(32) {
                let addresses = std::array::from_fn(|lane| {
                    let index = first + lane as u32;
                    swizzle.at(index / chunks, index % chunks)
                });
                assert_eq!(wavefronts(&addresses, 16), 4, "{columns} {first}");
            }
        }
    }

    /// As many threads as a period has chunks copy a row together, or clear its padding, 16 bytes each, a period after the other.
    #[test]
    fn no_copy_has_a_bank_conflict() {
        for columns in COLUMNS {
            let swizzle = Swizzle::new(columns);
            let group = swizzle.period();
            for (warp, right) in
                (0..4).flat_map(|warp| (0..columns / 8 / group).map(move |right| (warp, right)))
            {
                let addresses = std::array::from_fn(|lane| {
                    let thread = 32 * warp + lane as u32;
                    swizzle.at(thread / group, thread % group + right * group)
                });
                assert_eq!(wavefronts(&addresses, 16), 4, "{columns} {warp} {right}");
            }
        }
    }

    /// A warp writes its rounded results two columns a lane, 4 bytes: one wavefront.
    #[test]
    fn no_store_of_results_has_a_bank_conflict() {
        for columns in COLUMNS {
            let swizzle = Swizzle::new(columns);
            for warp_rows in [16, 32] {
                for (i, chunk) in
                    (0..warp_rows / 8).flat_map(|i| (0..columns / 8).map(move |chunk| (i, chunk)))
                {
                    let addresses = std::array::from_fn(|lane| {
                        let place = MmaPlace::new(lane as u32, warp_rows);
                        swizzle.at(place.row(i), chunk) + 2 * place.first_column
                    });
                    assert_eq!(wavefronts(&addresses, 4), 1, "{columns} {warp_rows} {i} {chunk}");
                }
            }
        }
    }

    #[test]
    fn each_load_covers_its_sixteen_rows_and_columns() {
        for lanes in [MatrixLane::rows_first, MatrixLane::columns_first] {
            let places: HashSet<_> = (0..32).map(|lane| (lanes(lane).row, lanes(lane).chunk)).collect();
            assert_eq!(places.len(), 32);
            assert!(places.iter().all(|&(row, chunk)| row < 16 && chunk < 2));
        }
        // Registers of a load are 8 lanes each: rows of 8 numbers.
        for lane in 0..32 {
            let (row, column) = (MatrixLane::eight_rows(lane), MatrixLane::eight_columns(lane));
            assert_eq!((row.row, row.chunk), (lane % 8, lane / 8));
            assert_eq!((column.row, column.chunk), (lane, 0));
        }
    }

    #[test]
    fn product_places_are_a_bijection_onto_the_tile() {
        for warp_rows in [16, 32] {
            let mut seen = HashSet::new();
            for thread in 0..128 {
                let place = MmaPlace::new(thread, warp_rows);
                for i in 0..warp_rows / 8 {
                    for j in 0..16 {
                        assert!(place.row(i) / warp_rows == thread / 32 && place.column(j) < 64);
                        assert!(seen.insert((place.row(i), place.column(j))));
                    }
                }
            }
            assert_eq!(seen.len() as u32, 4 * warp_rows * 64);
        }
    }
}
