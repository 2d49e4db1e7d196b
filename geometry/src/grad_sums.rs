//! Where the sums of `dq` lie in their tiles (`GradSums` in `abi`).
//!
//! An 8 x 8 part of the tile is what one register pair of a warp's product holds. Its even columns lie side by side in the order
//! of the lanes that own them, then its odd ones: each atomic addition of a warp meets 128 bytes, four whole sectors.

/// The index of an element among the f32 of a tile of 32 rows.
#[inline(always)]
pub const fn at(row: u32, column: u32) -> u32 {
    let (part, lane) = (column / 8 * 4 + row / 8, row % 8 * 4 + column % 8 / 2);
    (part * 2 + column % 2) * 32 + lane
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::mma::{MmaPlace, Swizzle};
    use crate::shared::wavefronts;
    use std::collections::HashSet;

    #[test]
    fn elements_have_places_of_their_own() {
        for columns in [32, 64, 96, 128, 192, 256] {
            let places: HashSet<u32> =
                (0..32).flat_map(|row| (0..columns).map(move |column| at(row, column))).collect();
            assert_eq!((places.len() as u32, places.iter().max()), (32 * columns, Some(&(32 * columns - 1))));
        }
    }

    /// What kernels add as constants: 8 rows, 8 columns and the next column are 64, 256 and 32 elements on.
    #[test]
    fn a_register_of_a_warp_is_four_whole_sectors() {
        for lane in 0..32 {
            let place = MmaPlace::new(lane, 16);
            for (i, j) in (0..4).flat_map(|i| (0..16).map(move |j| (i, j))) {
                let index = at(place.row(i), place.column(j));
                assert_eq!(index, lane + 64 * i + 256 * (j / 2) + 32 * (j % 2));
            }
        }
    }

    /// Gradients of scores go through rows of 32 queries, two numbers of 2 bytes a lane.
    #[test]
    fn no_store_of_score_gradients_has_a_bank_conflict() {
        let swizzle = Swizzle::new(32);
        for (first_row, chunk) in (0..8).flat_map(|tile| (0..4).map(move |chunk| (16 * tile, chunk))) {
            let addresses = std::array::from_fn(|lane| {
                let place = MmaPlace::new(lane as u32, 16);
                let row = first_row + place.row(0);
                // What a kernel does: the chunk by an exclusive or, 8 rows as a constant.
                let first = swizzle.at(row, 0) ^ (16 * chunk);
                assert_eq!(first, swizzle.at(row, chunk));
                assert_eq!(first + 8 * swizzle.row_bytes, swizzle.at(row + 8, chunk));
                first + place.first_column * 2
            });
            assert_eq!(wavefronts(&addresses, 4), 1);
        }
    }

    /// What the rounding kernel loads: two pieces of 16 bytes.
    #[test]
    fn eight_columns_of_a_row_are_two_pieces() {
        for (row, chunk) in (0..32).flat_map(|row| (0..32).map(move |chunk| (row, chunk))) {
            let first = at(row, 8 * chunk);
            assert_eq!(first % 4, 0);
            for e in 0..8 {
                assert_eq!(at(row, 8 * chunk + e), first + e / 2 + 32 * (e % 2));
            }
        }
    }
}
