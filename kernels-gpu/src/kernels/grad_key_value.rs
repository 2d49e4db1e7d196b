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

use super::grad_notes::GradNotes;
use super::gradient::{self, GradientOf};
use super::key_block::KeyBlock;
use crate::config::{KernelConfig, assume_checked};
use crate::pipeline::Block;
use crate::pipeline::row::subtrahend;
use crate::score::{KeyRows, ScoreRules, TilePlace};
use crate::tiles::fragment::{MAX_ROWS, Output};
use cuda_std::thread;
use flash_attention_abi::BackwardParams;
use flash_attention_abi::params::{ALIGNED_DK, ALIGNED_DV};
use flash_attention_abi::tile::BLOCK_COLUMNS;
use flash_attention_geometry::band::BlockRange;

/// Barriers in the source: two around the use of each piece, in four products, and two behind what is noted down.
pub const BARRIERS: u32 = 10;

/// The kernel.
///
/// # Safety
/// Launched as the host's plan says, on tensors that are as `params` describes them.
#[inline(always)]
pub unsafe fn grad_key_value<C: KernelConfig>(params: &BackwardParams) {
    let problem = &params.problem;
    // SAFETY: the caller's.
    unsafe { assume_checked(problem) };
    // SAFETY: the caller's.
    let Some(work) = (unsafe { KeyBlock::of_this_block(problem, C::BLOCK_ROWS) }) else { return };
    let view = Block::<C>::new();
    let notes = GradNotes::<C::Element>::new(params, view.notes);
    let heads = work.query_heads(problem);
    if view.thread == 0 {
        // SAFETY: nobody reads them before the barrier below.
        unsafe {
            notes.write_work(&work.sequence, work.head, work.first);
            notes.write_heads_end(heads.end);
        }
    }
    thread::sync_threads();
    let (mut grad_key, mut grad_value) = (Output::zero(), Output::zero());
    let mut head = heads.start;
    // SAFETY: noted down before the barrier.
    while head < unsafe { notes.heads_end() } {
        // SAFETY: all threads take the same way through heads; what was noted down of the head before has been read before its
        // last product ended.
        let range = unsafe { note_head::<C>(params, &notes, view.thread == 0, head) };
        let mut block = range.begin;
        while block < range.end {
            let first_query = block * BLOCK_COLUMNS;
            // SAFETY: all threads take the same way through blocks.
            unsafe {
                // Computed anew for each product: its places in the tiles need no registers in the others.
                let tiles = view.anew(notes.zero());
                // Sᵀ = K Qᵀ, Pᵀ = exp(Sᵀ - lse)
                let mut weights = tiles.scores(&notes.k(), notes.first(), &notes.q(), first_query);
                let tile = TilePlace {
                    thread: tiles.place,
                    first_query,
                    first_key: notes.first(),
                    plain: notes.is_plain(block),
                };
                let dropout = notes.dropout();
                let kept = dropout.kept::<C, KeyRows>(tile);
                let lse =
                    notes.lse().of_columns::<C>(tiles.place, first_query, f32::NEG_INFINITY).map(subtrahend);
                let (of, rules, store) = (GradientOf::Products, notes.rules(), tiles.weight_writer());
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
                let tiles = view.anew(notes.zero());
                let mut grads = tiles.scores(&notes.v(), notes.first(), &notes.dout(), first_query);
                dropout.apply::<C>(kept, &mut grads);
                // The same of the places of these numbers.
                let delta = notes.delta().of_columns::<C>(tiles.place, first_query + notes.zero(), 0.0);
                gradient::scores::<C>(&mut grads, &weights, |_, j| delta[j]);

                // dV += Pᵀ dO
                let tiles = view.anew(notes.zero());
                let dout = notes.dout();
                let slab = tiles.fetch_slab(&dout, first_query);
                tiles.add_weighted(&mut grad_value, &dout, slab, first_query);

                // dK += dSᵀ Q
                tiles.put_weights(&grads);
                let tiles = view.anew(notes.zero());
                let q = notes.q();
                let slab = tiles.fetch_slab(&q, first_query);
                tiles.add_weighted(&mut grad_key, &q, slab, first_query);
            }
            block += 1;
        }
        head += 1;
    }
    let aligned = |bit| problem.aligned & bit != 0;
    // SAFETY: these rows belong to this block alone.
    unsafe {
        let tiles = view.anew(notes.zero());
        let (sequence, head, first) = (notes.sequence(), notes.head(), notes.first());
        let dk = sequence.of_key_rows(&params.dk, head, problem.head_dim, aligned(ALIGNED_DK));
        let dv = sequence.of_key_rows(&params.dv, head, problem.value_dim, aligned(ALIGNED_DV));
        tiles.store_output(&grad_key, &[problem.scale; MAX_ROWS], &dk, first);
        tiles.store_output(&grad_value, &[1.0; MAX_ROWS], &dv, first);
    }
}

/// Notes down a query head; returns the blocks of its queries that the block's keys meet.
#[inline(always)]
unsafe fn note_head<C: KernelConfig>(
    params: &BackwardParams,
    notes: &GradNotes<C::Element>,
    first_thread: bool,
    head: u32,
) -> BlockRange {
    let problem = &params.problem;
    // SAFETY: the caller's. What the block owns is read again: the places of its tensors need not stay in registers.
    let (work, rules) = unsafe {
        let (sequence, key_head, first) = (notes.sequence(), notes.head(), notes.first());
        let work = KeyBlock::of_keys(sequence, key_head, first, C::BLOCK_ROWS);
        (work, ScoreRules::new(problem, &params.mask, &params.bias, &work.sequence, head))
    };
    let KeyBlock { sequence, head: key_head, first, last } = work;
    let mut range = rules.query_blocks(first, last, sequence.queries, BLOCK_COLUMNS);
    if last < sequence.key_rows.min(first + C::BLOCK_ROWS) {
        range = range.without_plain(); // Rows of padding are stored: they must be 0.
    }
    if first_thread {
        // SAFETY: the caller's.
        unsafe {
            notes.write_all(&sequence, head, key_head, &rules);
            notes.write_plain(&range);
        }
    }
    thread::sync_threads();
    range
}
