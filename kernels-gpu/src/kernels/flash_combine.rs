//! Puts the parts of `flash_split` together: `lse = log sum exp(lse_p)`, `out = sum exp(lse_p - lse) out_p`, in the order of the
//! parts, so that the same parts give the same bits.
//!
//! | | |
//! |---|---|
//! | grid | rows of out, 128 columns each, one a warp |
//! | bound by | global memory: reads every part's output once |

use crate::config::assume_checked;
use crate::element::{Element, F32};
use crate::pipeline::row::PerQuery;
use crate::sequence::Sequence;
use core::f32::consts::{LN_2, LOG2_E};
use cuda_std::mem::GlobalAddr;
use cuda_std::{float, thread, warp};
use flash_attention_abi::flash::split::{COMBINE_COLUMNS, COMBINE_THREADS, SplitParams};

/// Shuffles in the source: the maximum over a warp, and a sum.
pub const SHUFFLES: u32 = 10;

/// Parts whose outputs are on their way at the same time.
const AT_ONCE: usize = 8;

/// The numbers that the parts have for one place.
#[derive(Clone, Copy)]
struct OfParts {
    /// That of the first part.
    first: GlobalAddr,
    /// Bytes from one to the next.
    stride: u64,
}

impl OfParts {
    #[inline(always)]
    fn at(&self, part: u32) -> GlobalAddr {
        self.first.offset(u64::from(part) * self.stride)
    }
}

/// The kernel.
///
/// # Safety
/// Launched as the host's plan says, on tensors that are as `params` describes them.
#[inline(always)]
pub unsafe fn flash_combine<E: Element>(params: &SplitParams) {
    let (forward, problem) = (&params.forward, &params.forward.problem);
    // SAFETY: the caller's.
    unsafe { assume_checked(problem) };
    let (thread, lane) = (thread::thread_idx_x(), warp::lane_id());
    let pieces = u64::from(problem.value_dim.div_ceil(COMBINE_COLUMNS));
    let queries = u64::from(problem.queries);
    // SAFETY: there are columns and queries.
    unsafe { core::hint::assert_unchecked(pieces > 0 && queries > 0) };
    let index = u64::from(thread::block_idx_x()) * u64::from(COMBINE_THREADS / 32) + u64::from(thread / 32);
    let (row, piece) = (index / pieces, (index % pieces) as u32);
    let rows = u64::from(problem.batch) * u64::from(problem.query_heads) * queries;
    if row >= rows {
        return; // The whole warp: rows do not differ within one.
    }
    let (outer, query) = ((row / queries) as u32, (row % queries) as u32);
    let (batch, head) = (outer / problem.query_heads, outer % problem.query_heads);
    // SAFETY: the caller's.
    let sequence = unsafe { Sequence::new(problem, batch) };
    if query >= sequence.queries {
        return; // The whole warp: a ragged batch's sequence has fewer queries.
    }

    let sums = sequence.of_queries::<F32>(&params.part_lse, head, 1, false);
    let sums = OfParts { first: sums.at(query, 0), stride: params.part_lse_stride };
    // SAFETY: the whole warp is here; the parts' numbers are readable, and this warp's part of the row is its own.
    unsafe {
        let lse = log_sum_exp(sums, params.parts, lane);
        if piece == 0 && lane == 0 {
            PerQuery::new(&forward.lse, &sequence, head).store(query, lse);
        }
        let column = piece * COMBINE_COLUMNS + 4 * lane;
        if column < problem.value_dim {
            let outputs = sequence.of_queries::<F32>(&params.part_out, head, problem.value_dim, true);
            let outputs = OfParts { first: outputs.at(query, column), stride: params.part_out_stride };
            let sum = weighted_sum(sums, outputs, params.parts, lse);
            let out = sequence.of_queries::<E>(&forward.out, head, problem.value_dim, true);
            E::store4(out.at(query, column), sum);
        }
    }
}

/// The log-sum-exp of the parts': minus infinity where all saw nothing.
///
/// # Safety
/// The whole warp calls this together; the numbers are readable.
#[inline(always)]
unsafe fn log_sum_exp(sums: OfParts, parts: u32, lane: u32) -> f32 {
    let mut max = f32::NEG_INFINITY;
    let mut part = lane;
    // SAFETY: the caller's.
    unsafe {
        while part < parts {
            max = float::max(max, F32::load(sums.at(part)));
            part += 32;
        }
        let max = warp::group_max_f32::<32>(u32::MAX, max);
        // Where all are minus infinity their difference would be NaN.
        let max = if max == f32::NEG_INFINITY { 0.0 } else { max };
        let mut sum = 0.0;
        part = lane;
        while part < parts {
            sum += float::ex2_approx_ftz((F32::load(sums.at(part)) - max) * LOG2_E);
            part += 32;
        }
        let sum = warp::group_sum_f32::<32>(u32::MAX, sum);
        max + float::lg2_approx_ftz(sum) * LN_2
    }
}

/// Four columns of the parts' outputs, each part's weighted by its share of the sum. A part that saw nothing has none, whatever it left.
///
/// # Safety
/// The numbers are readable.
#[inline(always)]
unsafe fn weighted_sum(sums: OfParts, outputs: OfParts, parts: u32, lse: f32) -> [f32; 4] {
    let mut sum = [0.0; 4];
    let mut first = 0;
    while first < parts {
        let mut values = [[0.0; 4]; AT_ONCE];
        let mut own = [f32::NEG_INFINITY; AT_ONCE];
        for i in 0..AT_ONCE {
            let part = (first + i as u32).min(parts - 1);
            // SAFETY: the caller's.
            unsafe {
                own[i] = F32::load(sums.at(part));
                values[i] = F32::load4(outputs.at(part));
            }
        }
        for i in 0..AT_ONCE {
            let weight = float::ex2_approx_ftz((own[i] - lse) * LOG2_E);
            let counts = first + (i as u32) < parts && own[i] != f32::NEG_INFINITY;
            for e in 0..4 {
                sum[e] = if counts { float::fma(weight, values[i][e], sum[e]) } else { sum[e] };
            }
        }
        first += AT_ONCE as u32;
    }
    sum
}
