//! Which scores count: those inside the sequence, inside the band, and not masked.

use super::per_score::PerScore;
use super::{Mask, Orientation};
use crate::sequence::Sequence;
use cuda_std::mem;
use flash_attention_geometry::band::Band;

/// Inside the sequence and the band of causal masks and windows.
#[derive(Clone, Copy)]
pub struct Inside {
    /// Queries of the sequence.
    pub queries: u32,
    /// Its keys.
    pub keys: u32,
    /// The band, where the sequence's corner has put it.
    pub band: Band,
}

/// The columns of a row that are inside: one subtraction and one comparison tell whether one is.
#[derive(Clone, Copy)]
pub struct Columns {
    begin: u32,
    count: u32,
}

impl Columns {
    /// Whether a column is among them.
    #[inline(always)]
    pub fn contains(&self, column: u32) -> bool {
        column.wrapping_sub(self.begin) < self.count
    }
}

impl Inside {
    /// What a sequence and a band leave.
    #[inline(always)]
    pub fn new(sequence: &Sequence, band: Band) -> Self {
        Inside { queries: sequence.queries, keys: sequence.keys, band }
    }

    /// What is inside of a row of a tile: keys of a query, or queries of a key.
    #[inline(always)]
    pub fn columns<O: Orientation>(&self, row: u32) -> Columns {
        let (rows, columns, band) = if O::ROWS_ARE_QUERIES {
            (self.queries, self.keys, self.band)
        } else {
            (self.keys, self.queries, self.band.transposed())
        };
        // A bound that is none stays beyond every column: positions are at most 2^30, and sums saturate.
        let begin = (row as i32).saturating_add(band.low).max(0) as u32;
        let end = (row as i32).saturating_add(band.high).saturating_add(1).clamp(0, columns as i32) as u32;
        let count = if row < rows { end.saturating_sub(begin) } else { 0 };
        Columns { begin, count }
    }
}

impl Mask for Inside {
    #[inline(always)]
    unsafe fn sees(&self, query: u32, key: u32) -> bool {
        query < self.queries && key < self.keys && self.band.contains(query, key)
    }
}

/// A tensor of bytes, 0 where a query may not see a key.
#[derive(Clone, Copy)]
pub struct Boolean {
    /// Where it lies.
    pub tensor: PerScore,
}

impl Boolean {
    /// The mask that lies in a tensor.
    #[inline(always)]
    pub fn new(tensor: PerScore) -> Self {
        Boolean { tensor }
    }

    /// Whether there is one.
    #[inline(always)]
    pub fn given(&self) -> bool {
        self.tensor.given
    }
}

impl Mask for Boolean {
    #[inline(always)]
    unsafe fn sees(&self, query: u32, key: u32) -> bool {
        // SAFETY: where given, (query, key) lies inside: the caller's.
        !self.tensor.given || unsafe { mem::ld_global_nc_u8::<0>(self.tensor.at(query, key)) } != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::{KeyRows, QueryRows};

    #[test]
    fn columns_of_a_row_are_those_that_are_seen() {
        let bounds = |none| [none, -9, -2, -1, 0, 1, 3, 12];
        for low in bounds(i32::MIN) {
            for high in bounds(i32::MAX) {
                let inside = Inside { queries: 7, keys: 9, band: Band { low, high } };
                for query in 0..12 {
                    for key in 0..12 {
                        // SAFETY: reads no memory.
                        let seen = unsafe { inside.sees(query, key) };
                        assert_eq!(
                            inside.columns::<QueryRows>(query).contains(key),
                            seen,
                            "{low} {high} {query} {key}"
                        );
                        assert_eq!(
                            inside.columns::<KeyRows>(key).contains(query),
                            seen,
                            "{low} {high} {query} {key}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_longest_sequences_do_not_overflow() {
        let most = 1 << 30;
        let band = Band { low: -most, high: 2 * (most - 1) };
        let inside = Inside { queries: most as u32, keys: most as u32, band };
        let last = most as u32 - 1;
        assert!(
            inside.columns::<QueryRows>(last).contains(last) && inside.columns::<QueryRows>(last).contains(0)
        );
        assert!(!inside.columns::<QueryRows>(last).contains(last + 1));
    }
}
