//! `dk` and `dv` on tensor cores (sm_80), a block of keys at a time; scores are recomputed from q, k and the log-sum-exp.
//!
//! Rows are keys here and columns queries, so that Pᵀ and dSᵀ are in registers what the next product takes. All query heads of
//! a group add to the same keys one after the other: no atomics, the same sum every time.
//!
//! | | |
//! |---|---|
//! | grid | key blocks x key heads x batch |
//! | stays | K and V in shared memory, dK and dV in registers |
//! | streams | Q and dO by asynchronous copies, a step ahead |
//! | bound by | tensor cores; 4 products a step |

use super::flash_grad::{self, Edge};
use super::key_block::KeyBlock;
use crate::config::{FlashGradConfig, assume_checked};
use crate::pipeline::NOWHERE;
use crate::pipeline::flash::EdgesFirst;
use crate::pipeline::flash_grad::{GradBlock, Pair};
use crate::pipeline::row::{PerQuery, subtrahend};
use crate::score::{KeyRows, TilePlace};
use crate::sequence::Sequence;
use crate::tiles::mma_fragment::MmaTiles;
use core::f32::consts::LOG2_E;
use cuda_std::hint;
use flash_attention_abi::{BackwardParams, FlashKernel};

/// Barriers in the source: one in each step, one before a head's first, and one before results go through shared memory.
pub const fn barriers(kernel: FlashKernel) -> u32 {
    flash_grad::steps(kernel) + 2
}

/// Queries of a step that one thread owns.
const MAX_COLUMNS: usize = 8;

/// The kernel, for padded columns `D` of q and k and `V` of v.
///
/// # Safety
/// Launched as the host's plan says, on tensors that are as `params` describes them.
#[inline(always)]
pub unsafe fn flash_grad_key_value<C: FlashGradConfig, const D: u32, const V: u32>(params: &BackwardParams) {
    const { assert!(C::COLUMNS <= MAX_COLUMNS && (C::GENERAL || C::TILE.step == 32)) };
    let problem = &params.problem;
    // SAFETY: the caller's.
    unsafe { assume_checked(problem) };
    // SAFETY: the caller's.
    let Some(work) = (unsafe { KeyBlock::of_this_block(problem, C::TILE.block_rows()) }) else { return };
    let KeyBlock { sequence, head: key_head, first, last } = work;
    let k = sequence.of_keys(&params.k, key_head, problem.head_dim, true);
    let v = sequence.of_keys(&params.v, key_head, problem.value_dim, true);

    let block = GradBlock::<C, D, V>::new();
    let (mut grad_key, mut grad_value) = (MmaTiles::zero(), MmaTiles::zero());
    // SAFETY: all threads take the same way through heads and blocks.
    unsafe {
        block.copy_rows(Pair { wide: &k, value: &v }, first);
        for head in work.query_heads(problem) {
            add_head::<C, D, V>(
                params,
                &block,
                sequence.batch,
                head,
                [first, last],
                &mut grad_key,
                &mut grad_value,
            );
        }
        block.arrive();
        let Some(work) = KeyBlock::of_this_block(problem, C::TILE.block_rows()) else { return };
        let KeyBlock { sequence, head: key_head, first, .. } = work;
        let dk = sequence.of_key_rows(&params.dk, key_head, problem.head_dim, true);
        block.store_wide(&mut grad_key, problem.scale, &dk, first);
        let dv = sequence.of_key_rows(&params.dv, key_head, problem.value_dim, true);
        block.store_value(&grad_value, &dv, first);
    }
}

/// What one query head adds to the gradients of keys `first .. last`.
#[inline(always)]
unsafe fn add_head<C: FlashGradConfig, const D: u32, const V: u32>(
    params: &BackwardParams,
    block: &GradBlock<C, D, V>,
    batch: u32,
    head: u32,
    [first_key, last_key]: [u32; 2],
    grad_key: &mut MmaTiles,
    grad_value: &mut MmaTiles,
) {
    let problem = &params.problem;
    // SAFETY: the caller's.
    let sequence = &unsafe { Sequence::new(problem, hint::opaque(batch)) };
    let q = sequence.of_queries(&params.q, head, problem.head_dim, true);
    let dout = sequence.of_queries(&params.dout, head, problem.value_dim, true);
    let columns = Pair { wide: &q, value: &dout };
    // SAFETY: the caller's.
    let edge = unsafe { Edge::<C>::new(params, sequence, head) };
    let rules = edge.rules();
    let range = rules.query_blocks(first_key, last_key, sequence.queries, C::TILE.step);
    // Rows of keys that are padding see nothing: where the block has some, every step is at an edge.
    let padded = last_key - first_key < C::TILE.block_rows();
    let range = if C::GENERAL || padded { range.without_plain() } else { range };
    let order = EdgesFirst::new(range, C::TILE.step);
    let factor = rules.scale_log2();
    let (lse, delta) =
        (PerQuery::new(&params.lse, sequence, head), PerQuery::new(&params.delta, sequence, head));
    let numbers = |first_query: u32| {
        let mut numbers = [[0.0; 2]; MAX_COLUMNS];
        for j in 0..C::COLUMNS {
            let query = first_query + C::column(block.place, j);
            // SAFETY: the caller's.
            numbers[j] =
                unsafe { [subtrahend(lse.get_or(query, f32::NEG_INFINITY)), delta.get_or(query, 0.0)] };
        }
        numbers
    };

    // SAFETY: the caller's.
    unsafe {
        // The head before may still use the place of the first step, and its last copies may still be on their way there.
        block.arrive();
        block.copy_step(&columns, order.first(0), 0, false);
        let mut parity = 0;
        for index in 0..order.edges {
            let first_query = order.first(index);
            let numbers = numbers(first_query);
            block.arrive();
            block.copy_step(&columns, order.first(index + 1), parity ^ 1, false);
            let tile = TilePlace { thread: block.place, first_query, first_key, plain: false };
            let edge = Edge::<C>::of_step(params, sequence, head);
            let kept = edge.kept::<KeyRows>(tile);
            // Sᵀ = K Qᵀ, Pᵀ = exp(Sᵀ - lse), dV += Pᵀ dO
            let mut slopes = block.scores(parity);
            let mut weights = edge.weights::<KeyRows>(&mut slopes, tile, |_, j| numbers[j][0]);
            edge.drop(kept, &mut weights);
            block.add_value(grad_value, &weights, parity);
            // dPᵀ = V dOᵀ, dSᵀ = Pᵀ (dPᵀ - delta), dK += dSᵀ Q
            let mut grads = block.weight_gradients(parity);
            edge.drop(kept, &mut grads);
            flash_grad::scores::<C>(&mut grads, &mut slopes, |_, j| numbers[j][1]);
            block.add_wide(grad_key, &grads, parity);
            parity ^= 1;
        }
        if C::GENERAL {
            return;
        }
        for index in range.plain_begin..range.plain_end {
            let first_query = index * C::TILE.step;
            let lse = lse.of_32_columns(block.place, first_query);
            let delta = delta.of_32_columns(block.place, first_query);
            block.arrive();
            let next = if index + 1 < range.plain_end { (index + 1) * C::TILE.step } else { NOWHERE };
            if next != NOWHERE {
                block.copy_step(&columns, next, parity ^ 1, true);
            }
            // Sᵀ = K Qᵀ, Pᵀ = exp(Sᵀ - lse)
            let mut weights = block.scores(parity);
            flash_grad::weights::<C>(&mut weights, factor, |_, j| lse[j] * LOG2_E);
            // dPᵀ = V dOᵀ, dV += Pᵀ dO
            let mut grads = block.weight_gradients(parity);
            block.add_value(grad_value, &weights, parity);
            // dSᵀ = Pᵀ (dPᵀ - delta), dK += dSᵀ Q
            flash_grad::scores::<C>(&mut grads, &mut weights, |_, j| delta[j]);
            block.add_wide(grad_key, &grads, parity);
            parity ^= 1;
        }
    }
}
