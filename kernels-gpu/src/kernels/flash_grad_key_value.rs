//! `dk` and `dv` on tensor cores (sm_80), a block of keys at a time; scores are recomputed from q, k and the log-sum-exp.
//!
//! Rows are keys here and columns queries, so that Pᵀ and dSᵀ are in registers what the next product takes. All query heads of
//! a group add to the same keys one after the other: no atomics, the same sum every time.
//!
//! | | |
//! |---|---|
//! | grid | key blocks x key heads x batch |
//! | stays | K and V in shared memory, dK and dV in registers; for wide heads two kernels have one of them each |
//! | streams | Q and dO by asynchronous copies, a step ahead |
//! | bound by | tensor cores; 4 products a step; at d 128 1.76 other instructions for each HMMA (sm_80), no spills for any target |

use super::flash_grad::{self, Edge};
use super::key_block::KeyBlock;
use crate::config::{FlashGradConfig, assume_checked};
use crate::pipeline::flash::EdgesFirst;
use crate::pipeline::flash_grad::{GradBlock, Pair};
use crate::pipeline::row::{MAX_PAIRS, QueryPairs};
use crate::score::{KeyRows, TilePlace};
use crate::sequence::Sequence;
use crate::tiles::mma_fragment::MmaTiles;
use cuda_std::hint;
use flash_attention_abi::{BackwardParams, FlashKernel};

/// Barriers in the source: one in each step, one before a head's first, and one before results go through shared memory.
pub const fn barriers(kernel: FlashKernel) -> u32 {
    flash_grad::steps(kernel) + 2
}

/// Which gradients a kernel computes. Those of wide heads do not fit in registers together.
pub trait Results {
    /// Whether dk is one of them.
    const KEY: bool;
    /// Whether dv is.
    const VALUE: bool;
}

/// Both.
pub enum KeyAndValue {}

impl Results for KeyAndValue {
    const KEY: bool = true;
    const VALUE: bool = true;
}

/// dk.
pub enum KeyAlone {}

impl Results for KeyAlone {
    const KEY: bool = true;
    const VALUE: bool = false;
}

/// dv, for which the gradients of the weights, and V, are not needed.
pub enum ValueAlone {}

impl Results for ValueAlone {
    const KEY: bool = false;
    const VALUE: bool = true;
}

/// None yet.
const NO_PAIRS: [[f32; 2]; MAX_PAIRS] = [[0.0; 2]; MAX_PAIRS];

/// The sums that a warp has in registers.
struct Sums {
    key: MmaTiles,
    value: MmaTiles,
}

/// The kernel, for padded columns `D` of q and k and `V` of v.
///
/// # Safety
/// Launched as the host's plan says, on tensors that are as `params` describes them.
#[inline(always)]
pub unsafe fn flash_grad_key_value<C: FlashGradConfig, R: Results, const D: u32, const V: u32>(
    params: &BackwardParams,
) {
    const { assert!(C::COLUMNS <= MAX_PAIRS && (R::KEY || R::VALUE)) };
    let problem = &params.problem;
    // SAFETY: the caller's.
    unsafe { assume_checked(problem) };
    // SAFETY: the caller's.
    let Some(work) = (unsafe { KeyBlock::of_this_block(problem, C::TILE.block_rows()) }) else { return };
    let KeyBlock { sequence, head: key_head, first, .. } = work;
    let k = sequence.of_keys(&params.k, key_head, problem.head_dim, true);
    let v = sequence.of_keys(&params.v, key_head, problem.value_dim, true);

    let block = GradBlock::<C, D, V>::new();
    let mut sums = Sums { key: MmaTiles::zero(), value: MmaTiles::zero() };
    // SAFETY: all threads take the same way through heads and blocks.
    unsafe {
        if R::KEY {
            block.copy_rows(Pair { wide: &k, value: &v }, first);
        } else {
            block.copy_wide_rows(Pair { wide: &k, value: &v }, first);
        }
        for head in work.query_heads(problem) {
            add_head::<C, R, D, V>(params, &block, &work, head, &mut sums);
        }
        block.arrive();
        let Some(work) = KeyBlock::of_this_block(problem, C::TILE.block_rows()) else { return };
        let KeyBlock { sequence, head: key_head, first, .. } = work;
        if R::KEY {
            let dk = sequence.of_key_rows(&params.dk, key_head, problem.head_dim, true);
            block.store_wide(&mut sums.key, problem.scale, &dk, first);
        }
        if R::VALUE {
            let dv = sequence.of_key_rows(&params.dv, key_head, problem.value_dim, true);
            block.store_value(&sums.value, &dv, first);
        }
    }
}

/// What one query head adds to the gradients of a block of keys.
#[inline(always)]
unsafe fn add_head<C: FlashGradConfig, R: Results, const D: u32, const V: u32>(
    params: &BackwardParams,
    block: &GradBlock<C, D, V>,
    work: &KeyBlock,
    head: u32,
    sums: &mut Sums,
) {
    let (problem, first_key) = (&params.problem, work.first);
    // SAFETY: the caller's.
    let sequence = &unsafe { Sequence::new(problem, hint::opaque(work.sequence.batch)) };
    let q = sequence.of_queries(&params.q, head, problem.head_dim, true);
    let dout = sequence.of_queries(&params.dout, head, problem.value_dim, true);
    // SAFETY: the caller's.
    let edge = unsafe { Edge::<C>::new(params, sequence, head) };
    let rules = edge.rules();
    let range = rules.query_blocks(first_key, work.last, sequence.queries, C::TILE.step);
    // Rows of keys that are padding see nothing: where the block has some, every step is at an edge.
    let padded = work.last - first_key < C::TILE.block_rows();
    let range = if C::GENERAL || padded { range.without_plain() } else { range };
    let order = EdgesFirst::new(range, C::TILE.step);
    let pairs = QueryPairs::new(&params.lse_delta, sequence, head);
    let queries =
        Queries { block, columns: Pair { wide: &q, value: &dout }, pairs, factor: rules.scale_log2() };

    // SAFETY: the caller's.
    unsafe {
        // The head before may still use the place of the first step, and its last copies may still be on their way there.
        block.arrive();
        let mut parity = 0;
        block.copy_step(&queries.columns, order.first(0), parity, false);
        for index in 0..order.edges {
            let first_query = order.first(index);
            let early = if C::GENERAL { pairs.of_columns::<C>(block.place, first_query) } else { NO_PAIRS };
            block.arrive();
            block.copy_step(&queries.columns, order.first(index + 1), parity ^ 1, false);
            let tile = TilePlace { thread: block.place, first_query, first_key, plain: false };
            let edge = Edge::<C>::of_step(params, sequence, head);
            let kept = edge.kept::<KeyRows>(tile);
            // Sᵀ = K Qᵀ, Pᵀ = exp(Sᵀ - lse), dV += Pᵀ dO
            let mut slopes = block.scores(parity);
            // A warp of 32 rows has no registers for them while it computes scores.
            let pairs = if C::GENERAL { early } else { pairs.of_columns::<C>(block.place, first_query) };
            let mut weights = edge.weights::<KeyRows>(&mut slopes, tile, |_, j| pairs[j][0]);
            if R::VALUE {
                edge.drop(kept, &mut weights);
                block.add_value(&mut sums.value, &weights, parity);
            }
            // dPᵀ = V dOᵀ, dSᵀ = Pᵀ (dPᵀ - delta), dK += dSᵀ Q
            if R::KEY {
                let mut grads = block.weight_gradients(parity);
                edge.drop(kept, &mut grads);
                flash_grad::scores::<C>(&mut grads, &mut slopes, |_, j| pairs[j][1]);
                block.add_wide(&mut sums.key, &grads, parity);
            }
            parity ^= 1;
        }
        if !C::GENERAL {
            for index in range.plain_begin..range.plain_end {
                queries.add_plain::<R>(sums, index, range.plain_end, parity);
                parity ^= 1;
            }
        }
    }
}

/// The queries of one head, streaming by.
struct Queries<'a, C: FlashGradConfig, const D: u32, const V: u32> {
    block: &'a GradBlock<C, D, V>,
    columns: Pair<'a, C::Element>,
    pairs: QueryPairs,
    /// Brings scores to units of log2.
    factor: f32,
}

impl<C: FlashGradConfig, const D: u32, const V: u32> Queries<'_, C, D, V> {
    /// Meets block `index` of queries, all of which exist and see all keys, and sends for the next one, if there is one before `end`.
    ///
    /// # Safety
    /// All threads call this together; the queries are on their way to the place of `parity`.
    #[inline(always)]
    unsafe fn add_plain<R: Results>(&self, sums: &mut Sums, index: u32, end: u32, parity: u32) {
        let (block, first_query) = (self.block, index * C::TILE.step);
        // SAFETY: the caller's.
        unsafe {
            let pairs = self.pairs.of_all_columns::<C>(block.place, first_query);
            block.arrive();
            if index + 1 < end {
                block.copy_step(&self.columns, first_query + C::TILE.step, parity ^ 1, true);
            }
            // Sᵀ = K Qᵀ, Pᵀ = exp(Sᵀ - lse)
            let mut weights = block.scores(parity);
            flash_grad::weights::<C>(&mut weights, self.factor, |_, j| pairs[j][0]);
            // dPᵀ = V dOᵀ, dV += Pᵀ dO
            let mut grads = if R::KEY { block.weight_gradients(parity) } else { MmaTiles::zero() };
            if R::VALUE {
                block.add_value(&mut sums.value, &weights, parity);
            }
            // dSᵀ = Pᵀ (dPᵀ - delta), dK += dSᵀ Q
            if R::KEY {
                flash_grad::scores::<C>(&mut grads, &mut weights, |_, j| pairs[j][1]);
                block.add_wide(&mut sums.key, &grads, parity);
            }
        }
    }
}
