//! `dq` on tensor cores (sm_80), a block of queries at a time; scores are recomputed from q, k and the log-sum-exp.
//!
//! | | |
//! |---|---|
//! | grid | query blocks (longest causal rows first) x query heads x batch |
//! | stays | Q and dO in shared memory, dQ in registers |
//! | streams | K and V by asynchronous copies, a step ahead |
//! | bound by | tensor cores; 3 products a step, no atomics; at d 128 1.96 other instructions for each HMMA (sm_80) |

use super::flash_grad::{self, Edge};
use super::query_block::QueryBlock;
use crate::config::{FlashGradConfig, assume_checked};
use crate::pipeline::NOWHERE;
use crate::pipeline::flash::EdgesFirst;
use crate::pipeline::flash_grad::{GradBlock, Pair};
use crate::pipeline::row::QueryPairs;
use crate::score::{QueryRows, TilePlace};
use crate::tiles::mma_fragment::MmaTiles;
use flash_attention_abi::{BackwardParams, FlashKernel};

/// Barriers in the source: one in each step, and one before the result goes through shared memory.
pub const fn barriers(kernel: FlashKernel) -> u32 {
    flash_grad::steps(kernel) + 1
}

/// The kernel, for padded columns `D` of q and k and `V` of v.
///
/// # Safety
/// Launched as the host's plan says, on tensors that are as `params` describes them.
#[inline(always)]
pub unsafe fn flash_grad_query<C: FlashGradConfig, const D: u32, const V: u32>(params: &BackwardParams) {
    let problem = &params.problem;
    // SAFETY: the caller's.
    unsafe { assume_checked(problem) };
    // SAFETY: the caller's.
    let Some(work) = (unsafe { QueryBlock::of_this_block(problem, C::TILE.block_rows()) }) else { return };
    let QueryBlock { sequence, head, key_head, first: first_query, .. } = work;
    let q = sequence.of_queries(&params.q, head, problem.head_dim, true);
    let dout = sequence.of_queries(&params.dout, head, problem.value_dim, true);
    let k = sequence.of_keys(&params.k, key_head, problem.head_dim, true);
    let v = sequence.of_keys(&params.v, key_head, problem.value_dim, true);
    // SAFETY: the caller's.
    let edge = unsafe { Edge::<C>::new(params, &sequence, head) };
    let range = edge.rules().key_blocks(first_query, work.last, sequence.keys, C::TILE.step);
    let range = if C::GENERAL { range.without_plain() } else { range };
    let factor = edge.rules().scale_log2();

    let block = GradBlock::<C, D, V>::new();
    let order = EdgesFirst::new(range, C::TILE.step);
    let columns = Pair { wide: &k, value: &v };
    let mut grad_query = MmaTiles::zero();
    // SAFETY: all threads are here, and every thread takes the same way through the blocks of keys.
    unsafe {
        block.copy_rows(Pair { wide: &q, value: &dout }, first_query);
        block.copy_step(&columns, order.first(0), 0, false);
        let [lse, delta] =
            QueryPairs::new(&params.lse_delta, &sequence, head).of_rows::<C>(block.place, first_query);

        let mut parity = 0;
        for index in 0..order.edges {
            let first_key = order.first(index);
            block.arrive();
            block.copy_step(&columns, order.first(index + 1), parity ^ 1, false);
            let tile = TilePlace { thread: block.place, first_query, first_key, plain: false };
            let edge = Edge::<C>::of_step(params, &sequence, head);
            let kept = edge.kept::<QueryRows>(tile);
            let mut slopes = block.scores(parity);
            edge.weights::<QueryRows>(&mut slopes, tile, |i, _| lse[i]);
            let mut grads = block.weight_gradients(parity);
            edge.drop(kept, &mut grads);
            flash_grad::scores::<C>(&mut grads, &mut slopes, |i, _| delta[i]);
            block.add_wide(&mut grad_query, &grads, parity);
            parity ^= 1;
        }
        if !C::GENERAL {
            for index in range.plain_begin..range.plain_end {
                block.arrive();
                let next = if index + 1 < range.plain_end { (index + 1) * C::TILE.step } else { NOWHERE };
                if next != NOWHERE {
                    block.copy_step(&columns, next, parity ^ 1, true);
                }
                // S = Q Kᵀ, P = exp(S - lse)
                let mut weights = block.scores(parity);
                flash_grad::weights::<C>(&mut weights, factor, |i, _| lse[i]);
                // dP = dO Vᵀ, dS = P (dP - delta)
                let mut grads = block.weight_gradients(parity);
                flash_grad::scores::<C>(&mut grads, &mut weights, |i, _| delta[i]);
                // dQ += dS K
                block.add_wide(&mut grad_query, &grads, parity);
                parity ^= 1;
            }
        }
        block.arrive();
        let QueryBlock { sequence, head, .. } = work.recomputed(problem);
        let dq = sequence.of_queries(&params.dq, head, problem.head_dim, true);
        block.store_wide(&mut grad_query, problem.scale, &dq, first_query);
    }
}
