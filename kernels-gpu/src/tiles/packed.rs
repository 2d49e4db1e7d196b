//! The rows of some neighbouring heads as one matrix: row `r` is query `r / heads` of head `r % heads`.
//!
//! ```text
//! query  0 0 0 0 1 1 1 1 2 ...
//! head   0 1 2 3 0 1 2 3 0 ...
//! ```

use super::mma_fragment::MmaTiles;
use super::operand::Operand;
use super::swizzled::SwizzledTile;
use crate::element::Element;
use cuda_std::mem::{self, GlobalAddr};
use flash_attention_geometry::mma::MmaPlace;

/// Which row is which query of which head.
#[derive(Clone, Copy)]
pub struct PackedRows {
    /// Heads that share a row of queries, at least 1.
    pub heads: u32,
    /// Rows in all.
    pub rows: u32,
}

impl PackedRows {
    /// The query of a row.
    #[inline(always)]
    pub fn query(&self, row: u32) -> u32 {
        // SAFETY: there is at least one head.
        unsafe { core::hint::assert_unchecked(self.heads > 0) };
        row / self.heads
    }

    /// Its head, counted from the first.
    #[inline(always)]
    pub fn head(&self, row: u32) -> u32 {
        self.head_of(row, self.query(row))
    }

    /// The same of a row whose query is known.
    #[inline(always)]
    pub fn head_of(&self, row: u32, query: u32) -> u32 {
        row - query * self.heads
    }
}

/// The matrix of a tensor.
#[derive(Clone, Copy)]
pub struct Packed<E> {
    rows: PackedRows,
    /// The queries of the first head.
    first: Operand<E>,
    head_bytes: i64,
}

impl<E: Element> Packed<E> {
    /// The matrix of heads that lie `head_bytes` apart, of which `first` is the first. Its rows are aligned to 16 bytes.
    #[inline(always)]
    pub fn new(rows: PackedRows, first: Operand<E>, head_bytes: i64) -> Self {
        Packed { rows, first, head_bytes }
    }

    /// Address of an element.
    #[inline(always)]
    pub fn at(&self, row: u32, column: u32) -> GlobalAddr {
        let head = i64::from(self.rows.head(row));
        self.first.at(self.rows.query(row), column).offset_signed(head * self.head_bytes)
    }

    /// Starts to copy rows `first_row ..` to a tile's `rows` rows, without the padding. Those that there are not arrive as 0. The
    /// thread's copies belong to its next group.
    ///
    /// # Safety
    /// Nobody reads or writes the tile before the wait for the group.
    #[inline(always)]
    pub unsafe fn copy_to<const COLUMNS: u32>(
        &self,
        tile: &SwizzledTile<COLUMNS>,
        first_row: u32,
        rows: u32,
        thread: u32,
        threads: u32,
    ) {
        let group = SwizzledTile::<COLUMNS>::GROUP;
        let (row, chunk) = (thread / group, thread % group);
        let step = threads / group;
        for piece in 0..rows / step {
            let row = row + piece * step;
            let inside = first_row + row < self.rows.rows;
            let from = self.at(first_row + row, chunk * 8);
            for right in 0..COLUMNS / 8 / group {
                let chunk = chunk + right * group;
                if chunk * 8 < self.first.columns {
                    let (to, from) = (tile.chunk(row, chunk), from.offset(u64::from(right * group * 16)));
                    // SAFETY: the caller's; of a row outside nothing is read, and its address is not used.
                    unsafe { mem::cp_async_16(to, from, if inside { 16 } else { 0 }) };
                }
            }
        }
    }

    /// Rounds and writes a thread's rows of a result of `columns` 8-column tiles. The four lanes of a row write 8 columns side by
    /// side: a sector in f32.
    ///
    /// # Safety
    /// The tensor is writable, and these rows belong to this block alone.
    #[inline(always)]
    pub unsafe fn store(
        &self,
        result: &MmaTiles,
        rows: usize,
        columns: usize,
        place: MmaPlace,
        first_row: u32,
    ) {
        for i in 0..rows {
            let row = first_row + place.row(i as u32);
            if row < self.rows.rows {
                let at = self.at(row, place.first_column);
                for n in 0..columns {
                    if (n as u32) * 8 < self.first.columns {
                        let tile = &result.tiles[i / 2 * columns + n];
                        let values = [tile[2 * (i % 2)], tile[2 * (i % 2) + 1]];
                        // SAFETY: inside; columns are a multiple of 8.
                        unsafe { E::store2(at.offset(u64::from(n as u32 * 8 * E::BYTES)), values) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_heads_of_one_query_after_the_other() {
        for heads in 1..10 {
            let rows = PackedRows { heads, rows: 20 * heads };
            let mut row = 0;
            for query in 0..20 {
                for head in 0..heads {
                    assert_eq!((rows.query(row), rows.head(row)), (query, head));
                    row += 1;
                }
            }
        }
    }
}
