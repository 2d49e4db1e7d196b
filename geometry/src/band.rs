//! Which keys a query may see, and which blocks of keys a block of queries meets.
//!
//! Causal masks and sliding windows are one thing, a band: key `j` is visible to query `i` where
//! `low <= j - i <= high`. Upper-left causal is `high = 0`, lower-right causal is `high = keys - queries`.

/// A band of visible keys around the diagonal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// Least visible `key - query`; `i32::MIN` where there is no such bound.
    pub low: i32,
    /// Greatest visible `key - query`; `i32::MAX` where there is no such bound.
    pub high: i32,
}

impl Band {
    /// Every key is visible to every query.
    pub const FULL: Band = Band { low: i32::MIN, high: i32::MAX };

    /// Whether this key is visible to this query.
    #[inline(always)]
    pub const fn contains(&self, query: u32, key: u32) -> bool {
        let distance = key as i32 - query as i32;
        self.low <= distance && distance <= self.high
    }

    /// The same band, `by` keys further on. Bounds and `by` are at most 2^30 in size, so that nothing overflows.
    #[inline(always)]
    pub const fn shifted(self, by: i32) -> Band {
        Band {
            low: if self.low == i32::MIN { i32::MIN } else { self.low + by },
            high: if self.high == i32::MAX { i32::MAX } else { self.high + by },
        }
    }

    /// The same band with the roles of queries and keys exchanged.
    #[inline(always)]
    pub const fn transposed(&self) -> Band {
        // The bounds change sign; "no bound" (MIN, MAX) becomes "no bound" of the other side.
        Band {
            low: if self.high == i32::MAX { i32::MIN } else { -self.high },
            high: if self.low == i32::MIN { i32::MAX } else { -self.low },
        }
    }
}

/// The blocks of columns that one block of rows meets, in units of blocks: `begin..end`, of which
/// `plain_begin..plain_end` are visible whole and need no element mask.
///
/// ```text
///             begin      plain_begin           plain_end    end
///   - - - - - |  low edge |  every element seen |  high edge | - - - - -
///    skipped                                                   skipped
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRange {
    /// First block with a visible element.
    pub begin: u32,
    /// One past the last block with a visible element; `begin` where there is none.
    pub end: u32,
    /// First block of which every element is visible.
    pub plain_begin: u32,
    /// One past the last such block; `plain_begin` where there is none.
    pub plain_end: u32,
}

const fn clamp(value: i64, low: i64, high: i64) -> i64 {
    if value < low {
        low
    } else if value > high {
        high
    } else {
        value
    }
}

impl BlockRange {
    /// The blocks of `block` keys each, out of `keys` keys, that queries `first..last` meet (`first < last`).
    ///
    /// With [`Band::transposed`] it is the other way round: the blocks of queries that a range of keys meets.
    /// A last block that `keys` does not fill is never plain.
    #[inline(always)]
    pub const fn new(first: u32, last: u32, keys: u32, block: u32, band: Band) -> BlockRange {
        let (first, last, keys, block) = (first as i64, last as i64, keys as i64, block as i64);
        // Keys seen by at least one row: begin..end. Keys seen by every row: plain_begin..plain_end.
        let (mut begin, mut plain_begin) = (0, 0);
        if band.low != i32::MIN {
            begin = clamp(first + band.low as i64, 0, keys);
            plain_begin = clamp(last - 1 + band.low as i64, 0, keys);
        }
        let (mut end, mut plain_end) = (keys, keys);
        if band.high != i32::MAX {
            end = clamp(last + band.high as i64, 0, keys);
            plain_end = clamp(first + 1 + band.high as i64, 0, keys);
        }
        let begin_block = begin / block;
        let end_block = if end > begin { (end + block - 1) / block } else { begin_block };
        let plain_begin_block = clamp((plain_begin + block - 1) / block, begin_block, end_block);
        let plain_end_block = clamp(plain_end / block, plain_begin_block, end_block);
        BlockRange {
            begin: begin_block as u32,
            end: end_block as u32,
            plain_begin: plain_begin_block as u32,
            plain_end: plain_end_block as u32,
        }
    }

    /// Whether every element of this block is visible.
    #[inline(always)]
    pub const fn is_plain(&self, block: u32) -> bool {
        self.plain_begin <= block && block < self.plain_end
    }

    /// The same blocks, none of them plain: for problems whose elements are masked or biased one by one.
    #[inline(always)]
    pub const fn without_plain(self) -> BlockRange {
        BlockRange { plain_begin: self.begin, plain_end: self.begin, ..self }
    }

    /// The first block of part `part` of `parts`, and one past its last: neighbours, as many as in any other part or one more. Where
    /// there are fewer blocks than parts, the last parts have none.
    #[inline(always)]
    pub const fn part(&self, part: u32, parts: u32) -> (u32, u32) {
        let blocks = self.end - self.begin;
        let (each, more) = (blocks / parts, blocks % parts);
        let before = part * each + if part < more { part } else { more };
        let begin = self.begin + before;
        (begin, begin + each + if part < more { 1 } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u32 = 4;

    fn bands() -> impl Iterator<Item = Band> {
        let bounds = |none| [none, -11, -5, -4, -1, 0, 1, 3, 4, 6, 12];
        bounds(i32::MIN)
            .into_iter()
            .flat_map(move |low| bounds(i32::MAX).into_iter().map(move |high| Band { low, high }))
    }

    /// Every band, every row range and every key count up to 13, against the definition element by element.
    #[test]
    fn ranges_hold_exactly_the_blocks_with_a_visible_element_and_plain_ones_are_whole() {
        for band in bands() {
            for first in 0..9 {
                for last in first + 1..10 {
                    for keys in 1..14 {
                        let range = BlockRange::new(first, last, keys, BLOCK, band);
                        assert!(range.begin <= range.plain_begin && range.plain_begin <= range.plain_end);
                        assert!(range.plain_end <= range.end);
                        for block in 0..keys.div_ceil(BLOCK) + 1 {
                            let elements = || {
                                (first..last).flat_map(move |q| {
                                    (block * BLOCK..(block + 1) * BLOCK).map(move |k| (q, k))
                                })
                            };
                            let visible = |(q, k): (u32, u32)| k < keys && band.contains(q, k);
                            let inside = range.begin <= block && block < range.end;
                            if elements().any(visible) {
                                assert!(
                                    inside,
                                    "{band:?} rows {first}..{last} of {keys} keys: block {block} in {range:?}"
                                );
                            }
                            let whole = elements().all(visible);
                            assert!(
                                !range.is_plain(block) || whole,
                                "{band:?} {first}..{last} {keys} {block} {range:?}"
                            );
                            // A band's edges are monotone, so that both directions hold wherever anything is visible.
                            if band.low <= band.high || band.low == i32::MIN || band.high == i32::MAX {
                                let any_key = (0..keys).any(|k| (first..last).any(|q| band.contains(q, k)));
                                if any_key {
                                    assert_eq!(
                                        inside,
                                        elements().any(visible),
                                        "{band:?} {first}..{last} {keys} {block}"
                                    );
                                }
                                assert_eq!(
                                    range.is_plain(block),
                                    whole,
                                    "{band:?} {first}..{last} {keys} {block} {range:?}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn parts_are_neighbours_of_one_size_and_hold_every_block_once() {
        for begin in [0, 3] {
            for blocks in 0..40 {
                let end = begin + blocks;
                let range = BlockRange { begin, end, plain_begin: begin, plain_end: end };
                for parts in 1..45 {
                    let mut next = begin;
                    for part in 0..parts {
                        let (first, last) = range.part(part, parts);
                        assert_eq!(first, next, "part {part} of {parts} of {blocks}");
                        let size = last - first;
                        assert!(size == blocks / parts || size == blocks.div_ceil(parts));
                        assert!(size > 0 || part >= blocks);
                        next = last;
                    }
                    assert_eq!(next, end);
                }
            }
        }
        let longest = BlockRange { begin: 0, end: 1 << 25, plain_begin: 0, plain_end: 0 };
        assert_eq!(longest.part(127, 128), ((1 << 25) - (1 << 18), 1 << 25));
    }

    #[test]
    fn a_shifted_band_sees_the_keys_further_on() {
        for band in bands() {
            for by in -7..8 {
                for query in 8..16 {
                    for key in 8..20 {
                        let back = key as i32 - by;
                        assert_eq!(band.shifted(by).contains(query, key), band.contains(query, back as u32));
                    }
                }
            }
        }
    }

    #[test]
    fn transposed_band_sees_the_same_pairs() {
        for band in bands() {
            for query in 0..20 {
                for key in 0..20 {
                    assert_eq!(band.contains(query, key), band.transposed().contains(key, query));
                }
            }
        }
    }

    #[test]
    fn extreme_sizes_do_not_overflow() {
        let most = 1 << 30;
        let range = BlockRange::new(most - 64, most, most, 64, Band { low: i32::MIN, high: 0 });
        assert_eq!((range.begin, range.end), (0, most / 64));
        let none = BlockRange::new(0, 64, most, 64, Band { low: i32::MIN, high: -(most as i32) });
        assert_eq!(none.begin, none.end);
    }
}
