//! A thread's part of a tile, in registers.

use crate::config::KernelConfig;

/// Rows of the largest fragment.
pub const MAX_ROWS: usize = 4;

/// One value for each row that a thread owns. A configuration with fewer rows leaves the last ones unused, and the
/// compiler removes them.
pub type RowVector = [f32; MAX_ROWS];

/// A thread's rows of a tile, `COLUMNS` columns each. Every loop over it has constant bounds and is unrolled, so that
/// elements are registers: an index that the compiler cannot see would send the fragment to local memory.
#[derive(Clone, Copy)]
pub struct Fragment<const COLUMNS: usize> {
    /// `rows[i][j]`; which element of the tile that is says `ThreadPlace` in `geometry`.
    pub rows: [[f32; COLUMNS]; MAX_ROWS],
}

/// A thread's part of a score tile: 8 columns.
pub type Scores = Fragment<8>;

/// A thread's part of an output tile: head dim / 8 columns, in groups of four that lie side by side.
pub type Output = Fragment<32>;

impl<const COLUMNS: usize> Fragment<COLUMNS> {
    /// All zero.
    #[inline(always)]
    pub fn zero() -> Self {
        Fragment { rows: [[0.0; COLUMNS]; MAX_ROWS] }
    }

    /// Multiplies each row by its factor.
    #[inline(always)]
    pub fn scale_rows<C: KernelConfig>(&mut self, columns: usize, factors: &RowVector) {
        for i in 0..C::ROWS {
            for j in 0..columns {
                self.rows[i][j] *= factors[i];
            }
        }
    }
}
