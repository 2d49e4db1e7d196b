//! `dk` and `dv`, a block of keys at a time; scores are recomputed from q, k and the log-sum-exp.
//!
//! Rows are keys here and columns queries, so that a thread's rows of Pᵀ and dSᵀ are what it multiplies next. All query
//! heads of a group add to the same keys one after the other: no atomics, the same sum every time.
//!
//! | | |
//! |---|---|
//! | grid | key blocks x key heads x batch |
//! | stays | dK and dV in registers |
//! | streams | K and Q, V and dO in slices of columns for the scores; dO and Q in slabs of rows for the sums |
//! | bound by | FMA issue; 4 products a block |

use super::gradient::{self, GradientOf};
use crate::config::{KernelConfig, assume_checked};
use crate::pipeline::Block;
use crate::pipeline::row::{PerQuery, subtrahend};
use crate::score::dropout::Dropout;
use crate::score::{KeyRows, ScoreRules, TilePlace};
use crate::sequence::Sequence;
use crate::tiles::fragment::{MAX_ROWS, Output};
use cuda_std::{hint, thread};
use flash_attention_abi::BackwardParams;
use flash_attention_abi::params::{ALIGNED_DK, ALIGNED_DOUT, ALIGNED_DV, ALIGNED_K, ALIGNED_Q, ALIGNED_V};
use flash_attention_abi::tile::BLOCK_COLUMNS;
use flash_attention_geometry::grid::Work;

/// Barriers in the source: two around the use of each piece, in four products.
pub const BARRIERS: u32 = 8;

/// The kernel.
///
/// # Safety
/// Launched as the host's plan says, on tensors that are as `params` describes them.
#[inline(always)]
pub unsafe fn grad_key_value<C: KernelConfig>(params: &BackwardParams) {
    let problem = &params.problem;
    // SAFETY: the caller's.
    unsafe { assume_checked(problem) };
    let key_blocks = problem.keys.div_ceil(C::BLOCK_ROWS);
    let Work { block, head: key_head, batch } =
        Work::decode(thread::block_idx_x(), key_blocks, problem.key_heads);
    // SAFETY: the caller's.
    let sequence = unsafe { Sequence::new(problem, batch) };
    let first_key = block * C::BLOCK_ROWS;
    if first_key >= sequence.key_rows {
        return; // The whole block: a ragged batch's sequence has fewer keys.
    }
    let last_key = sequence.keys.min(first_key + C::BLOCK_ROWS);
    let (head_dim, value_dim) = (problem.head_dim, problem.value_dim);
    let aligned = |bit| problem.aligned & bit != 0;
    let k = sequence.of_keys(&params.k, key_head, head_dim, aligned(ALIGNED_K));
    let v = sequence.of_keys(&params.v, key_head, value_dim, aligned(ALIGNED_V));

    let tiles = Block::<C>::new();
    let (mut grad_key, mut grad_value) = (Output::zero(), Output::zero());
    let group = problem.query_heads / problem.key_heads;
    // A block of padding meets no query.
    let heads = if first_key < last_key { group } else { 0 };
    for head in key_head * group..key_head * group + heads {
        let q = sequence.of_queries(&params.q, head, head_dim, aligned(ALIGNED_Q));
        let dout = sequence.of_queries(&params.dout, head, value_dim, aligned(ALIGNED_DOUT));
        let lse = PerQuery::new(&params.lse, &sequence, head);
        let delta = PerQuery::new(&params.delta, &sequence, head);
        // SAFETY: the caller's.
        let rules =
            unsafe { ScoreRules::<C::Element>::new(problem, &params.mask, &params.bias, &sequence, head) };
        let dropout = Dropout::new(problem, &sequence, head);
        let mut range = rules.query_blocks(first_key, last_key, sequence.queries, BLOCK_COLUMNS);
        if last_key < sequence.key_rows.min(first_key + C::BLOCK_ROWS) {
            range = range.without_plain(); // Rows of padding are stored: they must be 0.
        }
        for block in range.begin..range.end {
            let first_query = block * BLOCK_COLUMNS;
            let tile =
                TilePlace { thread: tiles.place, first_query, first_key, plain: range.is_plain(block) };
            // SAFETY: all threads take the same way through heads and blocks.
            unsafe {
                // Sᵀ = K Qᵀ, Pᵀ = exp(Sᵀ - lse)
                let mut weights = tiles.scores(&k, first_key, &q, first_query);
                let kept = dropout.kept::<C, KeyRows>(tile);
                let lse = lse.of_columns::<C>(tiles.place, first_query, f32::NEG_INFINITY).map(subtrahend);
                let (of, store) = (GradientOf::Products, tiles.weight_writer());
                gradient::weights::<C, KeyRows, _>(
                    of,
                    &rules,
                    &mut weights,
                    tile,
                    |_, j| lse[j],
                    |i, j, p| {
                        store.put(i, j, dropout.one(kept, i, j, p));
                    },
                );

                // dPᵀ = V dOᵀ, dSᵀ = Pᵀ (dPᵀ - delta)
                let mut grads = tiles.scores(&v, first_key, &dout, first_query);
                dropout.apply::<C>(kept, &mut grads);
                let delta = delta.of_columns::<C>(tiles.place, first_query, 0.0);
                gradient::scores::<C>(&mut grads, &weights, |_, j| delta[j]);

                // dV += Pᵀ dO
                let slab = tiles.fetch_slab(&dout, first_query);
                tiles.add_weighted(&mut grad_value, &dout, slab, first_query);

                // dK += dSᵀ Q
                tiles.put_weights(&grads);
                let slab = tiles.fetch_slab(&q, first_query);
                tiles.add_weighted(&mut grad_key, &q, slab, first_query);
            }
        }
    }
    // Hidden from the optimiser, so that it does not keep the places of the results in registers throughout.
    let (batch, key_head) = (hint::opaque(batch), hint::opaque(key_head));
    // SAFETY: these rows belong to this block alone.
    unsafe {
        let sequence = Sequence::new(problem, batch);
        let dk = sequence.of_key_rows(&params.dk, key_head, head_dim, aligned(ALIGNED_DK));
        let dv = sequence.of_key_rows(&params.dv, key_head, value_dim, aligned(ALIGNED_DV));
        tiles.store_output(&grad_key, &[problem.scale; MAX_ROWS], &dk, first_key);
        tiles.store_output(&grad_value, &[1.0; MAX_ROWS], &dv, first_key);
    }
}
