//! `delta = rowsum(dout * out) - dlse`, one number a query: what backward subtracts from dP (FlashAttention-2, section 3.1.2;
//! the log-sum-exp's derivative by a score is its weight, so that its gradient joins here).
//!
//! | | |
//! |---|---|
//! | grid | rows / 8, one warp a row |
//! | bound by | global memory: reads dout and out once |

use crate::config::assume_checked;
use crate::element::Element;
use crate::pipeline::query_sums::QuerySums;
use crate::pipeline::row::{PerQuery, QueryPairs, subtrahend};
use crate::sequence::Sequence;
use cuda_std::{float, thread, warp};
use flash_attention_abi::BackwardParams;
use flash_attention_abi::params::{ALIGNED_DOUT, ALIGNED_OUT};
use flash_attention_abi::tile::DELTA_ROWS;

/// Shuffles in the source: one sum over a warp.
pub const SHUFFLES: u32 = 5;

/// The kernel.
///
/// # Safety
/// Launched as the host's plan says, on tensors that are as `params` describes them.
#[inline(always)]
pub unsafe fn delta<E: Element>(params: &BackwardParams) {
    let problem = &params.problem;
    // SAFETY: the caller's.
    unsafe { assume_checked(problem) };
    let (thread, lane) = (thread::thread_idx_x(), warp::lane_id());
    let row = u64::from(thread::block_idx_x()) * u64::from(DELTA_ROWS) + u64::from(thread / 32);
    let rows = u64::from(problem.batch) * u64::from(problem.query_heads) * u64::from(problem.queries);
    if row >= rows {
        return; // The whole warp: rows do not differ within one.
    }
    let (outer, query) =
        ((row / u64::from(problem.queries)) as u32, (row % u64::from(problem.queries)) as u32);
    let (batch, head) = (outer / problem.query_heads, outer % problem.query_heads);
    // SAFETY: the caller's.
    let sequence = unsafe { Sequence::new(problem, batch) };
    if query >= sequence.queries {
        return; // The whole warp: a ragged batch's sequence has fewer queries.
    }
    let operand =
        |tensor, bit| sequence.of_queries::<E>(tensor, head, problem.value_dim, problem.aligned & bit != 0);
    let (out, dout) = (operand(&params.out, ALIGNED_OUT), operand(&params.dout, ALIGNED_DOUT));

    let mut sum = 0.0;
    // SAFETY: inside both tensors; aligned rows are made of whole 16-byte pieces.
    unsafe {
        if out.aligned && dout.aligned {
            let mut column = 4 * lane;
            while column < problem.value_dim {
                let (a, b) = (E::load4(out.at(query, column)), E::load4(dout.at(query, column)));
                for e in 0..4 {
                    sum = float::fma(a[e], b[e], sum);
                }
                column += 4 * 32;
            }
        } else {
            let mut column = lane;
            while column < problem.value_dim {
                sum = float::fma(E::load(out.at(query, column)), E::load(dout.at(query, column)), sum);
                column += 32;
            }
        }
        let total = warp::group_sum_f32::<32>(u32::MAX, sum);
        if lane == 0 {
            let mut grad_lse = 0.0;
            if params.dlse.address != 0 {
                grad_lse = PerQuery::new(&params.dlse, &sequence, head).get_or(query, 0.0);
            }
            let delta = total - grad_lse;
            PerQuery::new(&params.delta, &sequence, head).store(query, delta);
            if params.dq_sums.address != 0 {
                let lse = PerQuery::new(&params.lse, &sequence, head).get_or(query, f32::NEG_INFINITY);
                let sums = QuerySums::new(&params.dq_sums, &sequence, head);
                sums.store_numbers(query, [subtrahend(lse), delta]);
            }
            if params.lse_delta.address != 0 {
                let lse = PerQuery::new(&params.lse, &sequence, head).get_or(query, f32::NEG_INFINITY);
                QueryPairs::new(&params.lse_delta, &sequence, head).store(query, [subtrahend(lse), delta]);
            }
        }
    }
}
