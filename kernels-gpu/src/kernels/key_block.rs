//! What a block of `dk/dv` and of the fused kernels owns: some keys of one head.

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
    /// One past its last key that counts; at most `first` where all are padding.
    pub last: u32,
}

impl KeyBlock {
    /// That of the calling block, which owns `rows` keys; `None` where a sequence of a ragged batch has fewer keys.
    ///
    /// Each call computes everything anew: what is made from the second one need not stay in registers from the start of the
    /// kernel to its end.
    ///
    /// # Safety
    /// The grid is the plan's, and what the problem gives is readable.
    #[inline(always)]
    pub unsafe fn of_this_block(problem: &ProblemParams, rows: u32) -> Option<Self> {
        // SAFETY: the caller's.
        let work = unsafe { Self::of_zero(problem, rows, 0) };
        (work.first < work.sequence.key_rows).then_some(work)
    }

    /// The same of a block that has been seen to have keys, made with a number below 2^31, of which nothing but a 0 remains. The
    /// assembler does not know that, and so does not keep anything for this from a place where it did not have the number yet.
    ///
    /// # Safety
    /// As [`KeyBlock::of_this_block`].
    #[inline(always)]
    pub unsafe fn behind(problem: &ProblemParams, rows: u32, number: u32) -> Self {
        // SAFETY: the caller's.
        unsafe { Self::of_zero(problem, rows, hint::opaque(number) >> 31) }
    }

    #[inline(always)]
    unsafe fn of_zero(problem: &ProblemParams, rows: u32, zero: u32) -> Self {
        let [queries, keys] = [problem.queries + zero, problem.keys + zero];
        let index = hint::opaque(thread::block_idx_x());
        let Work { block, head, batch } = Work::decode(index, keys.div_ceil(rows), problem.key_heads + zero);
        // SAFETY: the caller's.
        let sequence = unsafe { Sequence::of_sizes(problem, batch, [queries, keys]) };
        Self::of_keys(sequence, head, block * rows, rows)
    }

    /// That of `rows` keys from `first` on.
    #[inline(always)]
    pub fn of_keys(sequence: Sequence, head: u32, first: u32, rows: u32) -> Self {
        KeyBlock { sequence, head, first, last: sequence.keys.min(first + rows) }
    }

    /// The query heads that read the keys; none where all are padding.
    #[inline(always)]
    pub fn query_heads(&self, problem: &ProblemParams) -> core::ops::Range<u32> {
        let group = problem.query_heads / problem.key_heads;
        let first = self.head * group;
        first..first + if self.first < self.last { group } else { 0 }
    }
}
