//! `dq`, a block of queries at a time; scores are recomputed from q, k and the log-sum-exp.
//!
//! | | |
//! |---|---|
//! | grid | query blocks (longest causal rows first) x query heads x batch |
//! | stays | dQ in registers |
//! | streams | Q and K, dO and V in slices of columns for the scores; K in slabs of rows for the sum |
//! | bound by | FMA issue; 3 products a block |

use super::gradient;
use crate::config::{KernelConfig, assume_checked};
use crate::mask::{QueryRows, ScoreRules};
use crate::pipeline::Block;
use crate::pipeline::row::{PerQuery, subtrahend};
use crate::tiles::fragment::{MAX_ROWS, Output};
use crate::tiles::operand::Operand;
use cuda_std::thread;
use flash_attention_abi::BackwardParams;
use flash_attention_abi::params::{ALIGNED_DOUT, ALIGNED_DQ, ALIGNED_K, ALIGNED_Q, ALIGNED_V};
use flash_attention_abi::tile::BLOCK_COLUMNS;
use flash_attention_geometry::grid::Work;

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
    let query_blocks = problem.queries.div_ceil(C::BLOCK_ROWS);
    let Work { block, head, batch } = Work::decode(thread::block_idx_x(), query_blocks, problem.query_heads);
    let key_head = head / (problem.query_heads / problem.key_heads);
    let first_query = (query_blocks - 1 - block) * C::BLOCK_ROWS;
    let last_query = problem.queries.min(first_query + C::BLOCK_ROWS);

    let (queries, keys) = (problem.queries, problem.keys);
    let (head_dim, value_dim) = (problem.head_dim, problem.value_dim);
    let aligned = |bit| problem.aligned & bit != 0;
    let q = Operand::new(&params.q, batch, head, queries, head_dim, aligned(ALIGNED_Q));
    let dout = Operand::new(&params.dout, batch, head, queries, value_dim, aligned(ALIGNED_DOUT));
    let k = Operand::new(&params.k, batch, key_head, keys, head_dim, aligned(ALIGNED_K));
    let v = Operand::new(&params.v, batch, key_head, keys, value_dim, aligned(ALIGNED_V));
    let dq = Operand::new(&params.dq, batch, head, queries, head_dim, aligned(ALIGNED_DQ));
    let rules = ScoreRules::<C::Element>::new(problem, &params.mask, &params.bias, batch, head);
    let range = rules.key_blocks(first_query, last_query, BLOCK_COLUMNS);

    let tiles = Block::<C>::new();
    let mut grad_query = Output::zero();
    // SAFETY: all threads take the same way through the blocks of keys.
    unsafe {
        let lse = PerQuery::new(params.lse, problem, batch, head);
        let lse = lse.of_rows::<C>(tiles.place, first_query, f32::NEG_INFINITY).map(subtrahend);
        let delta =
            PerQuery::new(params.delta, problem, batch, head).of_rows::<C>(tiles.place, first_query, 0.0);
        for block in range.begin..range.end {
            let first_key = block * BLOCK_COLUMNS;

            // S = Q Kᵀ, P = exp(S - lse)
            let mut weights = tiles.scores(&q, first_query, &k, first_key);
            rules.apply::<C, QueryRows>(
                &mut weights,
                tiles.place,
                first_query,
                first_key,
                range.is_plain(block),
            );
            gradient::weights::<C>(&mut weights, |i, _| lse[i]);

            // dP = dO Vᵀ, dS = P (dP - delta)
            let mut grads = tiles.scores(&dout, first_query, &v, first_key);
            gradient::scores::<C>(&mut grads, &weights, |i, _| delta[i]);

            // dQ += dS K
            tiles.put_weights(&grads);
            let slab = tiles.fetch_slab(&k, first_key);
            tiles.add_weighted(&mut grad_query, &k, slab, first_key);
        }
        tiles.store_output(&grad_query, &[problem.scale; MAX_ROWS], &dq, first_query);
    }
}
