//! `dk`, `dv` and the sums of `dq` on tensor cores (sm_80), a block of keys at a time (FlashAttention-2, algorithm 2).
//!
//! As in `dk/dv` rows are keys here, so that Pᵀ and dSᵀ are in registers what the next product takes. dQ = dS K sums over keys,
//! which are rows of all warps: dS goes through shared memory in 16 bits, each warp multiplies its part of dQ over all keys of the
//! block, and adds it to f32 sums in global memory. The order of these additions varies from run to run, and with it the last bits
//! of dq; dk and dv are those of `dk/dv`, bit for bit.
//!
//! | | |
//! |---|---|
//! | grid | key blocks x key heads x batch |
//! | stays | K and V in shared memory, dK and dV in registers |
//! | streams | Q (two buffers) and dO (one) by asynchronous copies |
//! | bound by | tensor cores; 5 products a step, 32 queries; one atomic addition for each element of its dQ |
//!
//! Counted by the emulator at 512 queries and keys, with the rounding of dq and the zeros before (`bench emulator`):
//!
//! | | this | `dk/dv` and `dq` |
//! |---|---|---|
//! | f16, 4 heads, d 64: M instructions, MiB | 24.2, 8.3 | 34.2, 7.8 |
//! | the same, causal | 19.2, 6.0 | 27.6, 5.6 |
//! | bf16, 2 heads, d 128 | 20.8, 8.3 | 30.3, 7.8 |
//! | the same, causal | 16.1, 6.0 | 23.2, 5.5 |
//! | sm_80, d 128: instructions a plain step and warp (HMMA) | 436 (160) | 356 (128), 284 (96) |

use super::flash_grad;
use super::key_block::KeyBlock;
use super::turn::Turn;
use crate::config::{FlashGradConfig, assume_checked};
use crate::pipeline::NOWHERE;
use crate::pipeline::flash::EdgesFirst;
use crate::pipeline::flash_grad::{GradBlock, Pair};
use crate::pipeline::query_sums::QuerySums;
use crate::pipeline::score_grads::ScoreGrads;
use crate::score::{KeyRows, ScoreRules, TilePlace};
use crate::tiles::mma_fragment::MmaTiles;
use crate::tiles::operand::Operand;
use cuda_std::{hint, thread};
use flash_attention_abi::flash::GradSums;
use flash_attention_abi::{BackwardParams, FlashKernel, TensorParam};

/// Barriers in the source: two in each step, one before a head's first, and one before results go through shared memory.
pub const fn barriers(kernel: FlashKernel) -> u32 {
    2 * flash_grad::steps(kernel) + 2
}

/// The kernel, for padded columns `D` of q and k and `V` of v.
///
/// # Safety
/// Launched as the host's plan says, on tensors that are as `params` describes them.
#[inline(always)]
pub unsafe fn flash_grad_fused<C: FlashGradConfig, const D: u32, const V: u32>(params: &BackwardParams) {
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
        let block = GradBlock::<C, D, V>::new();
        block.copy_rows(Pair { wide: &k, value: &v }, work.first);
        let mut turn = Turn::first();
        // A block of padding meets no query.
        if work.first < work.last {
            while turn.head() < hint::opaque(problem.query_heads) / problem.key_heads {
                add_head::<C, D, V>(params, &block, &mut turn, &mut sums);
                turn.next_head();
            }
        }
        let block = GradBlock::<C, D, V>::of_thread(hint::opaque(thread::thread_idx_x()));
        block.arrive();
        let [mut grad_key, grad_value] = sums;
        let KeyBlock { sequence, head, first, .. } = KeyBlock::behind(problem, rows, turn.number());
        let dk = sequence.of_key_rows(&params.dk, head, problem.head_dim, true);
        let dv = sequence.of_key_rows(&params.dv, head, problem.value_dim, true);
        block.store_wide(&mut grad_key, problem.scale, &dk, first);
        block.store_value(&grad_value, &dv, first);
    }
}

/// What the query head whose turn it is adds to the gradients of the block's keys, and those keys to its dQ.
#[inline(always)]
unsafe fn add_head<C: FlashGradConfig, const D: u32, const V: u32>(
    params: &BackwardParams,
    block: &GradBlock<C, D, V>,
    turn: &mut Turn,
    sums: &mut [MmaTiles; 2],
) {
    let problem = &params.problem;
    let none = TensorParam::default();
    // SAFETY: the caller's.
    let work = unsafe { KeyBlock::behind(problem, C::TILE.block_rows(), turn.number()) };
    let KeyBlock { sequence, first: first_key, last: last_key, .. } = work;
    let head = work.head * (problem.query_heads / problem.key_heads) + turn.head();
    // SAFETY: the caller's.
    let rules = unsafe { ScoreRules::<C::Element>::new(problem, &none, &none, &sequence, head) };
    let range = rules.query_blocks(first_key, last_key, sequence.queries, C::TILE.step);
    // Rows of keys that are padding see nothing: where the block has some, every step is at an edge.
    let range = if last_key - first_key < C::TILE.block_rows() { range.without_plain() } else { range };
    let order = EdgesFirst::new(range, C::TILE.step);
    let tile_bytes = GradSums { head_dim: D }.tile_bytes();
    let queries = Queries::<C, D, V> {
        q: sequence.of_queries(&params.q, head, problem.head_dim, true),
        dout: sequence.of_queries(&params.dout, head, problem.value_dim, true),
        rules,
        sums: QuerySums::of_bytes(&params.dq_sums, &sequence, head, tile_bytes),
        first_key,
    };
    // SAFETY: the caller's.
    unsafe {
        // The head before may still use the place of the first step, and its last copies may still be on their way there.
        block.arrive();
        block.copy_step(&Pair { wide: &queries.q, value: &queries.dout }, order.first(0), 0, false);
        for index in 0..order.edges {
            let shared = ScoreGrads::new(hint::opaque(thread::thread_idx_x()));
            queries.advance::<true>(
                block,
                &shared,
                [order.first(index), order.first(index + 1)],
                turn.parity(),
                sums,
            );
            turn.next_step();
        }
        let shared = ScoreGrads::new(hint::opaque(thread::thread_idx_x()));
        for index in range.plain_begin..range.plain_end {
            let next = if index + 1 < range.plain_end { (index + 1) * C::TILE.step } else { NOWHERE };
            queries.advance::<false>(block, &shared, [index * C::TILE.step, next], turn.parity(), sums);
            turn.next_step();
        }
    }
}

/// What a block of keys needs of one query head.
struct Queries<C: FlashGradConfig, const D: u32, const V: u32> {
    q: Operand<C::Element>,
    dout: Operand<C::Element>,
    rules: ScoreRules<C::Element>,
    sums: QuerySums,
    first_key: u32,
}

impl<C: FlashGradConfig, const D: u32, const V: u32> Queries<C, D, V> {
    /// Meets the queries `first ..`, which are on their way, and sends for `next ..`. Where no score is at an edge all of both
    /// exist, or `next` is nowhere.
    ///
    /// # Safety
    /// All threads of the block call this together.
    #[inline(always)]
    unsafe fn advance<const EDGE: bool>(
        &self,
        block: &GradBlock<C, D, V>,
        shared: &ScoreGrads<C, D>,
        [first_query, next]: [u32; 2],
        parity: u32,
        [grad_key, grad_value]: &mut [MmaTiles; 2],
    ) {
        let Queries { rules, sums, .. } = self;
        // SAFETY: each place is read between the barriers that bring and free it.
        unsafe {
            let numbers = sums.numbers(block.place, first_query, C::COLUMNS);
            block.arrive();
            if EDGE || next != NOWHERE {
                block.copy_step_wide(&self.q, next, parity ^ 1, !EDGE);
            }
            // Sᵀ = K Qᵀ, Pᵀ = exp(Sᵀ - lse)
            let mut weights = block.scores(parity);
            flash_grad::weights::<C>(&mut weights, rules.scale_log2(), |_, j| numbers[j][0]);
            if EDGE {
                let tile =
                    TilePlace { thread: block.place, first_query, first_key: self.first_key, plain: false };
                flash_grad::hide::<C, KeyRows>(rules, &mut weights, tile);
            }
            // dPᵀ = V dOᵀ, dV += Pᵀ dO
            let mut grads = block.weight_gradients(0);
            block.add_value(grad_value, &weights, 0);
            // dSᵀ = Pᵀ (dPᵀ - delta)
            flash_grad::scores::<C>(&mut grads, &mut weights, |_, j| numbers[j][1]);
            shared.store(&grads);
            thread::sync_threads();
            if EDGE || next != NOWHERE {
                block.copy_step_value(&self.dout, next, !EDGE);
            }
            // dK += dSᵀ Q, dQ += dS K
            block.add_wide(grad_key, &grads, parity);
            let part = shared.query_gradients();
            sums.add::<2>(first_query, shared.lane, shared.part, &part, Self::PART);
        }
    }

    /// Tiles of the warp's part of dQ, and how far pairs of them are apart.
    const PART: [usize; 2] = [ScoreGrads::<C, D>::TILES, ScoreGrads::<C, D>::STRIDE];
}
