//! `dq`, a block of queries at a time; scores are recomputed from q, k and the log-sum-exp.
//!
//! | | |
//! |---|---|
//! | grid | query blocks (longest causal rows first) x query heads x batch |
//! | stays | dQ in registers |
//! | streams | Q and K, dO and V in slices of columns for the scores; K in slabs of rows for the sum |
//! | bound by | FMA issue; 3 products a block |

use super::grad_notes::GradNotes;
use super::gradient::{self, GradientOf};
use super::query_block::QueryBlock;
use crate::config::{KernelConfig, assume_checked};
use crate::pipeline::Block;
use crate::pipeline::row::subtrahend;
use crate::score::{QueryRows, TilePlace};
use crate::tiles::fragment::{MAX_ROWS, Output};
use cuda_std::thread;
use flash_attention_abi::BackwardParams;
use flash_attention_abi::params::ALIGNED_DQ;
use flash_attention_abi::tile::BLOCK_COLUMNS;

/// Barriers in the source: two around the use of each piece, in three products, and one behind what is
/// noted down.
pub const BARRIERS: u32 = 7;

/// The kernel.
///
/// # Safety
/// Launched as the host's plan says, on tensors that are as `params` describes them.
#[inline(always)]
pub unsafe fn grad_query<C: KernelConfig>(params: &BackwardParams) {
    let problem = &params.problem;
    // SAFETY: the caller's.
    unsafe { assume_checked(problem) };
    // SAFETY: the caller's.
    let Some(work) = (unsafe { QueryBlock::of_this_block(problem, C::BLOCK_ROWS) }) else { return };
    let QueryBlock { sequence, head, key_head, first: first_query, .. } = work;
    // SAFETY: the caller's.
    let (rules, range) =
        unsafe { work.rules::<C::Element>(problem, &params.mask, &params.bias, BLOCK_COLUMNS) };
    let tiles = Block::<C>::new();
    let notes = GradNotes::<C::Element>::new(params, tiles.notes);
    if tiles.thread == 0 {
        // SAFETY: nobody reads them before the barrier.
        unsafe {
            notes.write_work(&sequence, head, first_query);
            notes.write_all(&sequence, head, key_head, &rules);
        }
    }
    thread::sync_threads();
    let mut grad_query = Output::zero();
    // SAFETY: all threads take the same way through the blocks of keys.
    unsafe {
        let lse = notes.lse().of_rows::<C>(tiles.place, first_query, f32::NEG_INFINITY).map(subtrahend);
        let delta = notes.delta().of_rows::<C>(tiles.place, first_query, 0.0);
        for block in range.begin..range.end {
            let first_key = block * BLOCK_COLUMNS;
            let tile =
                TilePlace { thread: tiles.place, first_query, first_key, plain: range.is_plain(block) };

            // S = Q Kᵀ, P = exp(S - lse)
            let mut weights = tiles.scores(&notes.q(), first_query, &notes.k(), first_key);
            let of = GradientOf::Products;
            gradient::weights::<C, QueryRows, _>(
                of,
                &notes.rules(),
                &mut weights,
                tile,
                |i, _| lse[i],
                |_, _, _| (),
            );

            // dP = dO Vᵀ, dS = P (dP - delta)
            let mut grads = tiles.scores(&notes.dout(), first_query, &notes.v(), first_key);
            let dropout = notes.dropout();
            dropout.apply::<C>(dropout.kept::<C, QueryRows>(tile), &mut grads);
            gradient::scores::<C>(&mut grads, &weights, |i, _| delta[i]);

            // dQ += dS K
            tiles.put_weights(&grads);
            let k = notes.k();
            let slab = tiles.fetch_slab(&k, first_key);
            tiles.add_weighted(&mut grad_query, &k, slab, first_key);
        }
        let (sequence, head) = (notes.sequence(), notes.head());
        let aligned = problem.aligned & ALIGNED_DQ != 0;
        let dq = sequence.of_queries(&params.dq, head, problem.head_dim, aligned);
        tiles.store_output(&grad_query, &[problem.scale; MAX_ROWS], &dq, first_query);
    }
}
