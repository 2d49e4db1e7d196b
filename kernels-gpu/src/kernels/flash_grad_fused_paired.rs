//! `dk`, `dv` and the sums of `dq` on tensor cores (sm_80) where a warp has no registers for dk and dv of its own rows: wide
//! heads, and whatever general scores need beside them.
//!
//! As [`flash_grad_fused`](super::flash_grad_fused), but two warps share 16 keys ([`PairedBlock`]): each computes half of their
//! scores and half of the columns of dk and dv, so that P goes through shared memory too.
//!
//! | | |
//! |---|---|
//! | grid | key blocks x key heads x batch |
//! | stays | K and V in shared memory, dK and dV in registers |
//! | streams | Q (two buffers) and dO (one) by asynchronous copies |
//! | bound by | shared memory, then tensor cores; 5 products a step, 64 keys and 32 queries (16 for d 256) |
//!
//! Counted by the emulator, f16, one head of 512 queries and keys, with the rounding of dq; the kernels without atomics are `dk/dv`
//! and `dq`, or above 128 columns `dk`, `dv` and `dq`:
//!
//! | M thread instructions; MiB global, shared | this | without atomics |
//! |---|---|---|
//! | d 64, softcap | 17.3; 3.4, 20 | 35.1; 3.5, 25 |
//! | d 64, dropout | 28.6; 3.4, 20 | 57.0; 3.5, 25 |
//! | d 128, softcap | 21.9; 5.9, 36 | 41.0; 5.9, 49 |
//! | d 192 | 19.4; 8.3, 51 | 28.7; 12.5, 89 |
//! | d 256 | 28.8; 10.8, 85 | 35.3; 16.0, 119 |
//! | d 256, softcap | 37.0; 10.8, 85 | 70.1; 16.0, 119 |

use super::flash_grad::{self, Edge};
use super::key_block::KeyBlock;
use super::turn::Turn;
use crate::config::{FlashGradConfig, assume_checked};
use crate::pipeline::NOWHERE;
use crate::pipeline::flash_grad::{GradBlock, Pair};
use crate::pipeline::paired_grad::PairedBlock;
use crate::pipeline::query_sums::QuerySums;
use crate::score::{KeyRows, TilePlace};
use crate::sequence::Sequence;
use crate::tiles::mma_fragment::MmaTiles;
use crate::tiles::operand::Operand;
use cuda_std::{hint, thread};
use flash_attention_abi::flash::{GRAD_SUM_ROWS, GradSums};
use flash_attention_abi::{BackwardParams, FlashKernel};
use flash_attention_geometry::mma::MmaPlace;

/// Barriers in the source: three in the step, one before a head's first, and two while results go through shared memory.
pub const fn barriers(_: FlashKernel) -> u32 {
    3 + 1 + 2
}

/// The kernel, for padded columns `D` of q and k and `V` of v.
///
/// # Safety
/// Launched as the host's plan says, on tensors that are as `params` describes them.
#[inline(always)]
pub unsafe fn flash_grad_fused_paired<C: FlashGradConfig, const D: u32, const V: u32>(
    params: &BackwardParams,
) {
    let problem = &params.problem;
    // SAFETY: the caller's.
    unsafe { assume_checked(problem) };
    let rows = C::TILE.block_rows();
    // SAFETY: the caller's.
    let Some(work) = (unsafe { KeyBlock::of_this_block(problem, rows) }) else { return };
    let k = work.sequence.of_keys(&params.k, work.head, problem.head_dim, true);
    let v = work.sequence.of_keys(&params.v, work.head, problem.value_dim, true);
    let mut sums = [MmaTiles::zero(); 2];
    // SAFETY: all threads take the same way through heads and blocks.
    unsafe {
        let copies = GradBlock::<C, D, V>::new();
        copies.copy_rows(Pair { wide: &k, value: &v }, work.first);
        let mut turn = Turn::first();
        // A block of padding meets no query.
        if work.first < work.last {
            while turn.head() < hint::opaque(problem.query_heads) / problem.key_heads {
                add_head::<C, D, V>(params, &mut turn, &mut sums);
                turn.next_head();
            }
        }
        copies.arrive();
        let KeyBlock { sequence, head, first, .. } = KeyBlock::behind(problem, rows, turn.number());
        let dk = sequence.of_key_rows(&params.dk, head, problem.head_dim, true);
        let dv = sequence.of_key_rows(&params.dv, head, problem.value_dim, true);
        let thread = hint::opaque(thread::thread_idx_x());
        PairedBlock::<C, D, V>::store_sums(thread, problem.scale, &mut sums, [&dk, &dv], first);
    }
}

/// What the query head whose turn it is adds to the gradients of the block's keys, and those keys to its dQ.
#[inline(always)]
unsafe fn add_head<C: FlashGradConfig, const D: u32, const V: u32>(
    params: &BackwardParams,
    turn: &mut Turn,
    sums: &mut [MmaTiles; 2],
) {
    let problem = &params.problem;
    // SAFETY: the caller's.
    let work = unsafe { KeyBlock::behind(problem, C::TILE.block_rows(), turn.number()) };
    let KeyBlock { sequence, first: first_key, .. } = work;
    let head = work.head * (problem.query_heads / problem.key_heads) + turn.head();
    // SAFETY: the caller's.
    let edge = unsafe { Edge::<C>::behind(params, &sequence, head, hint::opaque(turn.number())) };
    let range = edge.rules().query_blocks(first_key, work.last, sequence.queries, C::TILE.step);
    // Rows of keys that are padding see nothing: where the block has some, every step is at an edge.
    let range = if work.last - first_key < C::TILE.block_rows() { range.without_plain() } else { range };
    let queries = Queries::<C, D, V> {
        params,
        block: PairedBlock::of_thread(hint::opaque(thread::thread_idx_x())),
        q: sequence.of_queries(&params.q, head, problem.head_dim, true),
        dout: sequence.of_queries(&params.dout, head, problem.value_dim, true),
        sums: QuerySums::of_bytes(&params.dq_sums, &sequence, head, GradSums { head_dim: D }.tile_bytes()),
        sequence,
        head,
        first_key,
    };
    let first_of = |block| if block < range.end { block * C::TILE.step } else { NOWHERE };
    // SAFETY: the caller's.
    unsafe {
        // The head before may still use the place of the first step, and its last copies may still be on their way there.
        queries.block.copies.arrive();
        let first = Pair { wide: &queries.q, value: &queries.dout };
        queries.block.copies.copy_step(&first, first_of(range.begin), 0, false);
        for block in range.begin..range.end {
            queries.advance(
                [first_of(block), first_of(block + 1)],
                range.is_plain(block),
                turn.parity(),
                sums,
            );
            turn.next_step();
        }
    }
}

/// What a block of keys needs of one query head.
struct Queries<'a, C: FlashGradConfig, const D: u32, const V: u32> {
    params: &'a BackwardParams,
    block: PairedBlock<C, D, V>,
    q: Operand<C::Element>,
    dout: Operand<C::Element>,
    sums: QuerySums,
    sequence: Sequence,
    head: u32,
    first_key: u32,
}

impl<C: FlashGradConfig, const D: u32, const V: u32> Queries<'_, C, D, V> {
    /// Meets the queries `first ..`, which are on their way, and sends for `next ..`. If `plain`, no score is at an edge.
    ///
    /// # Safety
    /// All threads of the block call this together.
    #[inline(always)]
    unsafe fn advance(
        &self,
        [first_query, next]: [u32; 2],
        plain: bool,
        parity: u32,
        [grad_key, grad_value]: &mut [MmaTiles; 2],
    ) {
        let Queries { block, sums, .. } = self;
        // Steps of 16 queries are halves of a tile of sums.
        let within = if C::TILE.step < GRAD_SUM_ROWS { first_query % GRAD_SUM_ROWS } else { 0 };
        let place = MmaPlace { first_column: block.place.first_column + within, ..block.place };
        let tile = TilePlace { thread: block.place, first_query, first_key: self.first_key, plain };
        // SAFETY: each place is read between the barriers that bring and free it.
        unsafe {
            let numbers = sums.numbers(place, first_query, C::COLUMNS);
            block.copies.arrive();
            block.copies.copy_step_wide(&self.q, next, parity ^ 1, false);
            self.exchange(tile, parity, &numbers);
            thread::sync_threads();
            // dV += Pᵀ dO
            block.add_value(grad_value);
            thread::sync_threads();
            block.copies.copy_step_value(&self.dout, next, false);
            // dK += dSᵀ Q, dQ += dS K
            block.add_wide(grad_key, parity);
            block.add_query_gradients(sums, first_query);
        }
    }

    /// Leaves the weights and the gradients of scores of the warp's keys and queries for the other warps.
    ///
    /// # Safety
    /// The step has arrived, and nobody reads those of the step before any more; all lanes of the warp execute it together.
    #[inline(always)]
    unsafe fn exchange(&self, tile: TilePlace<MmaPlace>, parity: u32, numbers: &[[f32; 2]; 8]) {
        let Queries { params, block, sequence, head, .. } = self;
        // SAFETY: the caller's.
        unsafe {
            let edge = Edge::<C>::of_step(params, sequence, *head);
            let kept = edge.kept::<KeyRows>(tile);
            // Sᵀ = K Qᵀ, Pᵀ = exp(Sᵀ - lse)
            let mut slopes = block.scores(parity);
            let mut weights = edge.weights::<KeyRows>(&mut slopes, tile, |_, j| numbers[j][0]);
            edge.drop(kept, &mut weights);
            block.store_weights(&weights);
            // dPᵀ = V dOᵀ, dSᵀ = Pᵀ (dPᵀ - delta)
            let mut grads = block.weight_gradients();
            edge.drop(kept, &mut grads);
            flash_grad::scores::<C>(&mut grads, &mut slopes, |_, j| numbers[j][1]);
            block.store_grads(&grads);
        }
    }
}
