//! Which piece of work a block owns: grids are one-dimensional, so that no dimension's limit of 65,535 applies.

/// A linear block index taken apart, the fastest dimension first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Block of rows (queries or keys).
    pub block: u32,
    /// Head.
    pub head: u32,
    /// Batch entry.
    pub batch: u32,
}

impl Work {
    /// The work of linear block `index` in a grid of `blocks` x `heads` x batch, blocks fastest, so that blocks which
    /// run at the same time share their keys and values in L2.
    #[inline(always)]
    pub const fn decode(index: u32, blocks: u32, heads: u32) -> Work {
        let (outer, block) = (index / blocks, index % blocks);
        Work { block, head: outer % heads, batch: outer / heads }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_visits_every_piece_of_work_once_in_order() {
        let (blocks, heads, batch) = (3, 5, 2);
        let mut index = 0;
        for b in 0..batch {
            for head in 0..heads {
                for block in 0..blocks {
                    assert_eq!(Work::decode(index, blocks, heads), Work { block, head, batch: b });
                    index += 1;
                }
            }
        }
    }
}
