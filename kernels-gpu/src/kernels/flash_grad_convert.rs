//! `dq` from the f32 sums that blocks of keys have added up: scaled, rounded, in the caller's order.
//!
//! | | |
//! |---|---|
//! | grid | tiles of 32 queries x query heads x batch |
//! | bound by | global memory: reads 4 bytes and writes 2 for each element of dq |

use crate::config::assume_checked;
use crate::element::HalfElement;
use crate::pipeline::query_sums::QuerySums;
use crate::sequence::Sequence;
use crate::tiles::operand::Operand;
use cuda_std::{mem, thread};
use flash_attention_abi::BackwardParams;
use flash_attention_abi::flash::{GRAD_CONVERT_THREADS, GRAD_SUM_ROWS};
use flash_attention_geometry::grid::Work;

/// The kernel.
///
/// # Safety
/// Launched as the host's plan says, on tensors that are as `params` describes them.
#[inline(always)]
pub unsafe fn flash_grad_convert<E: HalfElement>(params: &BackwardParams) {
    let problem = &params.problem;
    // SAFETY: the caller's.
    unsafe { assume_checked(problem) };
    let tiles = problem.queries.div_ceil(GRAD_SUM_ROWS);
    let Work { block, head, batch } = Work::decode(thread::block_idx_x(), tiles, problem.query_heads);
    // SAFETY: the caller's.
    let sequence = unsafe { Sequence::new(problem, batch) };
    let first_query = block * GRAD_SUM_ROWS;
    if first_query >= sequence.queries {
        return; // The whole block: a ragged batch's sequence has fewer queries.
    }
    let sums = QuerySums::new(&params.dq_sums, &sequence, head);
    let dq: Operand<E> = sequence.of_queries(&params.dq, head, problem.head_dim, true);
    // Aligned rows are made of whole 16-byte pieces.
    let chunks = problem.head_dim / 8;
    let mut piece = thread::thread_idx_x();
    while piece < GRAD_SUM_ROWS * chunks {
        // Two rows by turns: their sums lie in one sector.
        let (row, chunk) = (piece / (2 * chunks) * 2 + piece % 2, piece / 2 % chunks);
        if dq.contains(first_query + row, chunk * 8) {
            // SAFETY: inside the tile and the tensor; all blocks of keys are done.
            unsafe {
                let s = sums.get(first_query, row, chunk).map(|sum| sum * problem.scale);
                let packed =
                    [E::pack(s[0], s[1]), E::pack(s[2], s[3]), E::pack(s[4], s[5]), E::pack(s[6], s[7])];
                mem::st_global_v4_u32::<0>(dq.at(first_query + row, chunk * 8), packed);
            }
        }
        piece += GRAD_CONVERT_THREADS;
    }
}
