//! What a block of forward and `dq` owns: some queries of one head.

use crate::element::Element;
use crate::score::ScoreRules;
use crate::sequence::Sequence;
use cuda_std::{hint, thread};
use flash_attention_abi::{ProblemParams, TensorParam};
use flash_attention_geometry::band::BlockRange;
use flash_attention_geometry::grid::Work;

/// Queries `first .. last` of one query head of one batch entry.
#[derive(Clone, Copy)]
pub struct QueryBlock {
    /// The batch entry.
    pub sequence: Sequence,
    /// The query head.
    pub head: u32,
    /// The key head that it reads.
    pub key_head: u32,
    /// Its first query.
    pub first: u32,
    /// One past its last query.
    pub last: u32,
}

impl QueryBlock {
    /// That of the calling block, which owns `rows` queries, longest causal rows first; `None` where a sequence of a ragged batch has fewer queries.
    ///
    /// # Safety
    /// The grid is the plan's, and what the problem gives is readable.
    #[inline(always)]
    pub unsafe fn of_this_block(problem: &ProblemParams, rows: u32) -> Option<Self> {
        let blocks = problem.queries.div_ceil(rows);
        let Work { block, head, batch } = Work::decode(thread::block_idx_x(), blocks, problem.query_heads);
        // SAFETY: the caller's.
        let sequence = unsafe { Sequence::new(problem, batch) };
        let first = (blocks - 1 - block) * rows;
        let last = sequence.queries.min(first + rows);
        let key_head = head / (problem.query_heads / problem.key_heads);
        (first < last).then_some(QueryBlock { sequence, head, key_head, first, last })
    }

    /// The same, computed anew: what is made from it need not stay in registers from the start of the kernel to its end.
    ///
    /// # Safety
    /// As [`QueryBlock::of_this_block`].
    #[inline(always)]
    pub unsafe fn recomputed(&self, problem: &ProblemParams) -> Self {
        // SAFETY: the caller's.
        let sequence = unsafe { Sequence::new(problem, hint::opaque(self.sequence.batch)) };
        QueryBlock { sequence, head: hint::opaque(self.head), ..*self }
    }

    /// The rules of its scores, and the blocks of `block_keys` keys that it meets.
    ///
    /// # Safety
    /// What the problem gives is readable.
    #[inline(always)]
    pub unsafe fn rules<E: Element>(
        &self,
        problem: &ProblemParams,
        mask: &TensorParam,
        bias: &TensorParam,
        block_keys: u32,
    ) -> (ScoreRules<E>, BlockRange) {
        // SAFETY: the caller's.
        let rules = unsafe { ScoreRules::new(problem, mask, bias, &self.sequence, self.head) };
        let range = rules.key_blocks(self.first, self.last, self.sequence.keys, block_keys);
        (rules, range)
    }
}
