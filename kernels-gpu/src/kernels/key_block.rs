//! What a block of the fused backward kernel owns: some keys of one head.

use crate::sequence::Sequence;
use cuda_std::{hint, thread};
use flash_attention_abi::ProblemParams;
use flash_attention_geometry::grid::Work;

/// Keys `first .. last` of one key head of one batch entry.
#[derive(Clone, Copy)]
pub struct KeyBlock {
    /// The batch entry.
    pub sequence: Sequence,
    /// The key head.
    pub head: u32,
    /// Its first key.
    pub first: u32,
    /// One past its last key that counts; not above `first` where all of them are padding.
    pub last: u32,
}

impl KeyBlock {
    /// That of the calling block, which owns `rows` keys. It is computed anew at each call, so that it need not stay in registers
    /// from one to the next.
    ///
    /// # Safety
    /// The grid is the plan's, and what the problem gives is readable.
    #[inline(always)]
    pub unsafe fn of_this_block(problem: &ProblemParams, rows: u32) -> Self {
        let blocks = problem.keys.div_ceil(rows);
        let Work { block, head, batch } =
            Work::decode(hint::opaque(thread::block_idx_x()), blocks, problem.key_heads);
        // SAFETY: the caller's.
        let sequence = unsafe { Sequence::new(problem, batch) };
        let first = block * rows;
        KeyBlock { sequence, head, first, last: sequence.keys.min(first + rows) }
    }
}
