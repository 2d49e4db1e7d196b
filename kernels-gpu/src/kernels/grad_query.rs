//! `dq`, a block of queries at a time; scores are recomputed from q, k and the log-sum-exp.
//!
//! | | |
//! |---|---|
//! | grid | query blocks (longest causal rows first) x query heads x batch |
//! | stays | dQ in registers |
//! | streams | Q and K, dO and V in slices of columns for the scores; K in slabs of rows for the sum |
//! | bound by | FMA issue; 3 products a block |

use super::gradient::{self, GradientOf};
use super::query_block::QueryBlock;
use crate::config::{KernelConfig, assume_checked};
use crate::pipeline::Block;
use crate::pipeline::row::{PerQuery, subtrahend};
use crate::score::dropout::Dropout;
use crate::score::{QueryRows, TilePlace};
use crate::tiles::fragment::{MAX_ROWS, Output};
use flash_attention_abi::BackwardParams;
use flash_attention_abi::params::{ALIGNED_DOUT, ALIGNED_DQ, ALIGNED_K, ALIGNED_Q, ALIGNED_V};
use flash_attention_abi::tile::BLOCK_COLUMNS;

/// Barriers in the source: two around the use of each piece, in three products.
pub const BARRIERS: u32 = 6;

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
    let (head_dim, value_dim) = (problem.head_dim, problem.value_dim);
    let aligned = |bit| problem.aligned & bit != 0;
    let q = sequence.of_queries(&params.q, head, head_dim, aligned(ALIGNED_Q));
    let dout = sequence.of_queries(&params.dout, head, value_dim, aligned(ALIGNED_DOUT));
    let k = sequence.of_keys(&params.k, key_head, head_dim, aligned(ALIGNED_K));
    let v = sequence.of_keys(&params.v, key_head, value_dim, aligned(ALIGNED_V));
    // SAFETY: the caller's.
    let (rules, range) =
        unsafe { work.rules::<C::Element>(problem, &params.mask, &params.bias, BLOCK_COLUMNS) };
    let dropout = Dropout::new(problem, &sequence, head);

    let tiles = Block::<C>::new();
    let mut grad_query = Output::zero();
    // SAFETY: all threads take the same way through the blocks of keys.
    unsafe {
        let lse = PerQuery::new(&params.lse, &sequence, head);
        let lse = lse.of_rows::<C>(tiles.place, first_query, f32::NEG_INFINITY).map(subtrahend);
        let delta = PerQuery::new(&params.delta, &sequence, head);
        let delta = delta.of_rows::<C>(tiles.place, first_query, 0.0);
        for block in range.begin..range.end {
            let first_key = block * BLOCK_COLUMNS;
            let tile =
                TilePlace { thread: tiles.place, first_query, first_key, plain: range.is_plain(block) };

            // S = Q Kᵀ, P = exp(S - lse)
            let mut weights = tiles.scores(&q, first_query, &k, first_key);
            let of = GradientOf::Products;
            gradient::weights::<C, QueryRows, _>(of, &rules, &mut weights, tile, |i, _| lse[i], |_, _, _| ());

            // dP = dO Vᵀ, dS = P (dP - delta)
            let mut grads = tiles.scores(&dout, first_query, &v, first_key);
            dropout.apply::<C>(dropout.kept::<C, QueryRows>(tile), &mut grads);
            gradient::scores::<C>(&mut grads, &weights, |i, _| delta[i]);

            // dQ += dS K
            tiles.put_weights(&grads);
            let slab = tiles.fetch_slab(&k, first_key);
            tiles.add_weighted(&mut grad_query, &k, slab, first_key);
        }
        let work = work.recomputed(problem);
        let dq = work.sequence.of_queries(&params.dq, work.head, head_dim, aligned(ALIGNED_DQ));
        tiles.store_output(&grad_query, &[problem.scale; MAX_ROWS], &dq, first_query);
    }
}
