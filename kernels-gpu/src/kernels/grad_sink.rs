//! The gradient of the sinks: `dsink = -Σ exp(sink - lse) delta` over a head's queries in all batch entries.
//!
//! | | |
//! |---|---|
//! | grid | query heads |
//! | bound by | global memory, and one block's share of it: reads lse and delta once |
//!
//! Threads add their queries in order, then the sums of the warps are added in order: the same sum every time.

use crate::config::assume_checked;
use crate::sequence::Sequence;
use core::f32::consts::LOG2_E;
use cuda_std::mem::{self, GlobalAddr};
use cuda_std::{float, hint, shared, thread, warp};
use flash_attention_abi::tile::SINK_THREADS;
use flash_attention_abi::{BackwardParams, TensorParam};

/// Shuffles in the source: one sum over a warp.
pub const SHUFFLES: u32 = 5;

/// Barriers in the source: one before the warps' sums are added.
pub const BARRIERS: u32 = 1;

/// The kernel.
///
/// # Safety
/// Launched as the host's plan says, on tensors that are as `params` describes them.
#[inline(always)]
pub unsafe fn grad_sink(params: &BackwardParams) {
    let problem = &params.problem;
    // SAFETY: the caller's.
    unsafe { assume_checked(problem) };
    let (thread, head) = (thread::thread_idx_x(), thread::block_idx_x());
    let queries = problem.queries;
    let packed = problem.query_offsets != 0;
    // SAFETY: the caller's: every address read is that of a query; the sums are written before the barrier and read after it.
    unsafe {
        let sink = load(GlobalAddr::from_generic(problem.sinks).offset(u64::from(head) * 4));
        let rows = Sequence::all_queries(problem);
        let mut sum = 0.0;
        let mut row = thread;
        while row < rows {
            // The rows of a packed tensor are those of one batch entry.
            let (batch, query) = if packed { (0, row) } else { (row / queries, row % queries) };
            let at = |tensor: &TensorParam| {
                let offset = i64::from(batch) * tensor.batch_stride + i64::from(head) * tensor.head_stride;
                let base = GlobalAddr::from_generic(tensor.address.wrapping_add_signed(offset));
                load(base.offset(u64::from(query) * 4))
            };
            // A sink of minus infinity has no weight, also where nothing else has.
            if sink != f32::NEG_INFINITY {
                let weight = float::ex2_approx_ftz((sink - at(&params.lse)) * LOG2_E);
                sum = float::fma(-weight, at(&params.delta), sum);
            }
            row += SINK_THREADS;
        }
        let sum = warp::group_sum_f32::<32>(u32::MAX, sum);
        let sums = shared::dynamic_shared_address();
        if thread % 32 == 0 {
            mem::st_shared_f32::<0>(sums.offset(thread / 32 * 4), sum);
        }
        thread::sync_threads();
        if thread == 0 {
            let mut total = 0.0;
            for warp in 0..hint::opaque(SINK_THREADS / 32) {
                total += mem::ld_shared_f32::<0>(sums.offset(warp * 4));
            }
            mem::st_global_f32::<0>(
                GlobalAddr::from_generic(params.dsinks).offset(u64::from(head) * 4),
                total,
            );
        }
    }
}

#[inline(always)]
unsafe fn load(address: GlobalAddr) -> f32 {
    // SAFETY: the caller's.
    f32::from_bits(unsafe { mem::ld_global_nc_u32::<0>(address) })
}
