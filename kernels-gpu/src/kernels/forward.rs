//! Forward: `out = softmax(scale * q kᵀ + bias) v` and the log-sum-exp, a block of queries at a time.
//!
//! | | |
//! |---|---|
//! | grid | query blocks (longest causal rows first) x query heads x batch |
//! | stays | Q in shared memory; O, row maxima and row sums in registers |
//! | streams | K in slices of columns, V in slabs of rows, one block of 64 keys after the other |
//! | bound by | FMA issue: at head dim 64, 128 FMA per 12 shared loads in S and per 12 in O |

use super::head_notes::HeadNotes;
use super::query_block::QueryBlock;
use crate::config::{KernelConfig, assume_checked};
use crate::pipeline::row::{self, LanesOfARow, PerQuery};
use crate::pipeline::{Block, NOWHERE};
use crate::score::{QueryRows, TilePlace};
use crate::softmax::OnlineSoftmax;
use crate::tiles::fragment::{MAX_ROWS, Output};
use cuda_std::thread;
use flash_attention_abi::ForwardParams;
use flash_attention_abi::params::ALIGNED_OUT;
use flash_attention_abi::tile::BLOCK_COLUMNS;

/// Barriers in the source: two around the use of each slice of K, two around that of each slab of V, and one
/// behind what is noted down.
pub const BARRIERS: u32 = 5;

/// Shuffles in the source for each row of a thread: three for the maximum, three for the sum.
pub const SHUFFLES_A_ROW: u32 = 6;

/// The kernel.
///
/// # Safety
/// Launched as the host's plan says, on tensors that are as `params` describes them.
#[inline(always)]
pub unsafe fn forward<C: KernelConfig>(params: &ForwardParams) {
    let problem = &params.problem;
    // SAFETY: the caller's.
    unsafe { assume_checked(problem) };
    // SAFETY: the caller's.
    let Some(work) = (unsafe { QueryBlock::of_this_block(problem, C::BLOCK_ROWS) }) else { return };
    let QueryBlock { sequence, head, key_head, first: first_query, .. } = work;
    // SAFETY: the caller's.
    let (rules, range) =
        unsafe { work.rules::<C::Element>(problem, &params.mask, &params.bias, BLOCK_COLUMNS) };

    // Beyond the last visible block nothing is fetched early.
    let first_row = |block| if block < range.end { block * BLOCK_COLUMNS } else { NOWHERE };

    let tiles = Block::<C>::new();
    let notes = HeadNotes::<_, C::Element>::new(params, tiles.notes);
    if tiles.thread == 0 {
        // SAFETY: nobody reads them before the barrier.
        unsafe {
            notes.write_work(&sequence, head, first_query);
            notes.write_head(&sequence, head, key_head, &rules);
            notes.write_plain(&range);
        }
    }
    thread::sync_threads();
    let mut output = Output::zero();
    // SAFETY: all threads are here, and every thread takes the same way through the blocks of keys.
    unsafe {
        let mut softmax = OnlineSoftmax::<C, LanesOfARow>::with_sinks(
            problem.sinks != 0,
            || [row::sink(problem.sinks, head); MAX_ROWS],
            1.0,
            tiles.place.lane_column == 0,
        );
        tiles.keep_rows(&notes.q(), first_query);
        let mut stage = tiles.fetch_slice(&notes.k(), first_row(range.begin));
        let mut block = range.begin;
        while block < range.end {
            let first_key = block * BLOCK_COLUMNS;
            // S = Q Kᵀ
            let mut scores =
                tiles.scores_of_kept_rows(&notes.k(), &mut stage, first_key, first_row(block + 1));
            let v = notes.v();
            let values = tiles.fetch_slab(&v, first_key);
            let tile = TilePlace {
                thread: tiles.place,
                first_query: notes.first(),
                first_key,
                plain: notes.is_plain(block),
            };
            notes.rules().apply::<C, QueryRows>(&mut scores, tile);

            // P = softmax step
            let shrink = softmax.update_max(&mut scores, true);
            softmax.exponentiate(&mut scores, true);
            output.scale_rows::<C>(C::OUTPUT_COLUMNS, &shrink);
            let dropout = notes.dropout();
            dropout.apply::<C>(dropout.kept::<C, QueryRows>(tile), &mut scores);
            tiles.put_weights(&scores);

            // O += P V
            tiles.add_weighted(&mut output, &v, values, first_key);
            block += 1;
        }
        let finished = softmax.finalize();
        let tiles = tiles.anew(notes.zero());
        let (sequence, head, first) = (notes.sequence(), notes.head(), notes.first());
        let aligned = problem.aligned & ALIGNED_OUT != 0;
        let out = sequence.of_queries(&params.out, head, problem.value_dim, aligned);
        tiles.store_output(&output, &finished.inverse_sum, &out, first);
        let lse = PerQuery::new(&params.lse, &sequence, head);
        lse.store_rows::<C>(&finished.lse, tiles.place, first, tiles.place.lane_column == 0);
    }
}
