//! Forward on tensor cores (sm_80): `out = softmax(scale * q kᵀ + bias) v` and the log-sum-exp, a block of queries at a time
//! (FlashAttention-2, arXiv 2307.08691).
//!
//! | | |
//! |---|---|
//! | grid | query blocks (longest causal rows first) x query heads x batch |
//! | stays | Q in shared memory, and as much of it as fits in registers; O, row maxima and row sums in registers |
//! | streams | K and V by asynchronous copies: V arrives while S is computed, the next K while P V is; where there are two buffers of each, the next K and V during the whole step |
//! | bound by | tensor cores, then the issue of what is not a product: the exponentials |

use super::query_block::QueryBlock;
use crate::config::{FlashConfig, assume_checked};
use crate::pipeline::NOWHERE;
use crate::pipeline::flash::{Between, EdgesFirst, FlashBlock, Keys, Plain};
use crate::pipeline::row::{self, LanesOfAQuad, PerQuery};
use crate::score::dropout::Dropout;
use crate::score::{QueryRows, ScoreRules, TilePlace};
use crate::softmax::OnlineSoftmax;
use crate::tiles::fragment::MAX_ROWS;
use crate::tiles::mma_fragment::MmaTiles;
use flash_attention_abi::flash::FlashTile;
use flash_attention_abi::{FlashKernel, ForwardParams};

/// Barriers in the source: in each step one before K is read and, where V arrives later, one before V is; one before the output goes through shared
/// memory, and one before queries are read that are kept.
pub const fn barriers(kernel: FlashKernel, tile: FlashTile) -> u32 {
    let in_a_step = if tile.stages == 1 { 2 } else { 1 };
    in_a_step * steps(kernel) + 1 + (tile.kept_columns > 0) as u32
}

/// Shuffles in the source for each row of a thread: two for the maximum in each step, two for the sum.
pub const fn shuffles_a_row(kernel: FlashKernel) -> u32 {
    2 * steps(kernel) + 2
}

/// Votes in the source: one in each step, whether a maximum rose.
pub const fn votes(kernel: FlashKernel) -> u32 {
    steps(kernel)
}

/// Barriers of a warp in the source: one between writing its output to shared memory and reading it.
pub const WARP_BARRIERS: u32 = 1;

/// Steps in the source: one over blocks at the edges, and but for the general kernel one over plain blocks.
pub const fn steps(kernel: FlashKernel) -> u32 {
    match kernel {
        FlashKernel::Forward => 2,
        _ => 1,
    }
}

/// The kernel, for padded columns `D` of q and k and `V` of v.
///
/// # Safety
/// Launched as the host's plan says, on tensors that are as `params` describes them.
#[inline(always)]
pub unsafe fn flash_forward<C: FlashConfig, const D: u32, const V: u32>(params: &ForwardParams) {
    let problem = &params.problem;
    // SAFETY: the caller's.
    unsafe { assume_checked(problem) };
    // SAFETY: the caller's.
    let Some(work) = (unsafe { QueryBlock::of_this_block(problem, C::TILE.block_rows()) }) else { return };
    let QueryBlock { sequence, head, key_head, first: first_query, .. } = work;
    let q = sequence.of_queries(&params.q, head, problem.head_dim, true);
    let k = sequence.of_keys(&params.k, key_head, problem.head_dim, true);
    let v = sequence.of_keys(&params.v, key_head, problem.value_dim, true);
    // SAFETY: the caller's.
    let (rules, range) =
        unsafe { work.rules::<C::Element>(problem, &params.mask, &params.bias, C::TILE.block_keys) };
    let dropout = Dropout::new(problem, &sequence, head);
    // Where every block needs more than products and exponentials, none is plain.
    let range = if C::GENERAL { range.without_plain() } else { range };
    let factor = if C::GENERAL { 1.0 } else { rules.scale_log2() };

    let block = FlashBlock::<C, D, V>::new();
    let order = EdgesFirst::new(range, C::TILE.block_keys);
    let mut output = MmaTiles::zero();
    // SAFETY: all threads are here, and every thread takes the same way through the blocks of keys.
    unsafe {
        let mut softmax = OnlineSoftmax::<C, LanesOfAQuad>::with_sinks(
            C::GENERAL && problem.sinks != 0,
            || [row::sink(problem.sinks, head); MAX_ROWS],
            factor,
            block.place.first_column == 0,
        );
        block.copy_queries(&q, first_query, problem.value_dim);
        let mut step = Keys { block: &block, queries: block.queries(), k: &k, v: &v };
        step.start(order.first(0));
        if C::GENERAL {
            step.queries = block.kept_queries::<0>();
        }

        for index in 0..order.edges {
            let first_key = order.first(index);
            let tile = TilePlace { thread: block.place, first_query, first_key, plain: false };
            let edge = Edge::<C> { rules: &rules, dropout: &dropout, tile };
            let keys = [index, first_key, order.first(index + 1)];
            step.advance(&mut softmax, &mut output, keys, &edge);
        }
        if !C::GENERAL {
            // Not at the edges, where what hides scores needs registers.
            step.queries = block.kept_queries::<0>();
            for block in range.plain_begin..range.plain_end {
                let first_key = block * C::TILE.block_keys;
                let next_key =
                    if block + 1 < range.plain_end { first_key + C::TILE.block_keys } else { NOWHERE };
                let index = order.edges + (block - range.plain_begin);
                step.advance(&mut softmax, &mut output, [index, first_key, next_key], &Plain);
            }
        }

        let finished = softmax.finalize();
        // Where scores and output take most registers, nothing for the end waits in one.
        let work = if V == 128 { work.recomputed(problem) } else { work };
        let QueryBlock { sequence, head, .. } = work;
        output.scale_rows(C::ROW_TILES, C::OUTPUT_TILES, &finished.inverse_sum);
        PerQuery::new(&params.lse, &sequence, head).store_rows::<C>(
            &finished.lse,
            block.place,
            first_query,
            block.place.first_column == 0,
        );
        let out = sequence.of_queries(&params.out, head, problem.value_dim, true);
        block.store_output(&output, &out, first_query);
    }
}

/// Everything but products that a block of keys at an edge needs.
struct Edge<'a, C: FlashConfig> {
    rules: &'a ScoreRules<C::Element>,
    dropout: &'a Dropout,
    tile: TilePlace<C::Place>,
}

impl<C: FlashConfig> Between for Edge<'_, C> {
    const HIDES: bool = true;

    #[inline(always)]
    unsafe fn scores(&self, scores: &mut MmaTiles) {
        if C::GENERAL {
            // SAFETY: the caller's.
            unsafe { self.rules.apply::<C, QueryRows>(scores, self.tile) }
        } else {
            self.rules.hide_outside::<C, QueryRows>(scores, self.tile, f32::NEG_INFINITY);
        }
    }

    #[inline(always)]
    fn weights(&self, weights: &mut MmaTiles) {
        if C::GENERAL && self.dropout.given() {
            self.dropout.apply_mma::<C>(self.tile, weights);
        }
    }
}
