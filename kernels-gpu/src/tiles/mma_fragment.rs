//! A warp's tiles of a product on tensor cores, in registers.

use super::fragment::RowVector;

/// 16 x 8 tiles of the largest fragment.
pub const MAX_TILES: usize = 32;

/// A thread's part of some 16 x 8 tiles: four numbers of each (see `cuda_std::mma`). Which tile is where says the
/// configuration; those that it does not have are unused, and the compiler removes them.
#[derive(Clone, Copy)]
pub struct MmaTiles {
    /// Rows of tiles one after the other.
    pub tiles: [[f32; 4]; MAX_TILES],
}

impl MmaTiles {
    /// All zero.
    #[inline(always)]
    pub fn zero() -> Self {
        MmaTiles { tiles: [[0.0; 4]; MAX_TILES] }
    }

    /// Multiplies each row of `rows` x `columns` tiles by its factor.
    #[inline(always)]
    pub fn scale_rows(&mut self, rows: usize, columns: usize, factors: &RowVector) {
        for m in 0..rows {
            for n in 0..columns {
                for e in 0..4 {
                    self.tiles[m * columns + n][e] *= factors[2 * m + e / 2];
                }
            }
        }
    }
}
