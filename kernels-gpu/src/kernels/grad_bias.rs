//! The gradient of the additive bias: dS, summed over everything that the bias is broadcast along.
//!
//! A block owns a tile of the bias (all queries of 64 keys where it has one row for all queries) and visits every batch
//! entry, head and query block that shares it, one after the other: no atomics, no memory beside the result.
//!
//! | | |
//! |---|---|
//! | grid | key blocks x query blocks of the bias x its heads x its batch entries |
//! | stays | dS of the tile in registers |
//! | streams | Q and K, dO and V in slices of columns |
//! | bound by | FMA issue; 2 products a block |

use super::grad_notes::GradNotes;
use super::gradient::{self, GradientOf};
use crate::config::{KernelConfig, assume_checked};
use crate::element::Element;
use crate::pipeline::Block;
use crate::pipeline::row::subtrahend;
use crate::score::{QueryRows, ScoreRules, TilePlace};
use crate::sequence::Sequence;
use crate::tiles::fragment::Scores;
use crate::tiles::operand::Operand;
use cuda_std::thread;
use flash_attention_abi::BackwardParams;
use flash_attention_abi::tile::BLOCK_COLUMNS;
use flash_attention_geometry::grid::Work;

/// A block's piece of the bias: indices of its batch entry, head, first query and first key.
#[derive(Clone, Copy)]
struct BiasTile {
    batch: u32,
    head: u32,
    /// First block of queries that reads the tile, and how many do.
    query_block: u32,
    query_blocks: u32,
    first_key: u32,
}

impl BiasTile {
    #[inline(always)]
    fn of_this_block(params: &BackwardParams, block_rows: u32) -> Self {
        let problem = &params.problem;
        let key_blocks = problem.keys.div_ceil(BLOCK_COLUMNS);
        let all_queries = problem.queries.div_ceil(block_rows);
        let (tiles, visits) = if problem.bias_queries == 1 { (1, all_queries) } else { (all_queries, 1) };
        let index = thread::block_idx_x();
        let Work { block, head, batch } = Work::decode(index / key_blocks, tiles, problem.bias_heads);
        BiasTile {
            batch,
            head,
            query_block: block,
            query_blocks: visits,
            first_key: index % key_blocks * BLOCK_COLUMNS,
        }
    }

    /// The matrix of dbias that the tile is part of.
    #[inline(always)]
    fn gradient<E: Element>(&self, params: &BackwardParams) -> Operand<E> {
        let dbias = &params.dbias;
        let offset = i64::from(self.batch) * dbias.batch_stride + i64::from(self.head) * dbias.head_stride;
        Operand::new(dbias, offset, params.problem.bias_queries, params.problem.keys, false)
    }
}

/// Barriers in the source: two around the use of each piece, in two products, two behind what is noted down, and
/// one before the sums over rows.
pub const BARRIERS: u32 = 7;

/// The kernel.
///
/// # Safety
/// Launched as the host's plan says, on tensors that are as `params` describes them.
#[inline(always)]
pub unsafe fn grad_bias<C: KernelConfig>(params: &BackwardParams) {
    let problem = &params.problem;
    // SAFETY: the caller's.
    unsafe { assume_checked(problem) };
    let tile = BiasTile::of_this_block(params, C::BLOCK_ROWS);
    let block = Block::<C>::new();
    let batches = if problem.bias_batch == 1 { 0..problem.batch } else { tile.batch..tile.batch + 1 };
    if block.thread == 0 {
        // SAFETY: nobody reads it before the barrier.
        unsafe { GradNotes::<C::Element>::new(params, block.notes).write_zero() }
    }
    thread::sync_threads();
    let mut total = Scores::zero();
    for batch in batches {
        let heads = if problem.bias_heads == 1 { 0..problem.query_heads } else { tile.head..tile.head + 1 };
        for head in heads {
            for query_block in tile.query_block..tile.query_block + tile.query_blocks {
                let first_query = query_block * C::BLOCK_ROWS;
                // SAFETY: all threads take the same way.
                let grads =
                    unsafe { score_gradient::<C>(params, &block, batch, head, first_query, tile.first_key) };
                for i in 0..C::ROWS {
                    for j in 0..C::COLUMNS {
                        total.rows[i][j] += grads.rows[i][j];
                    }
                }
            }
        }
    }
    // SAFETY: the tile belongs to this block alone.
    unsafe {
        if problem.bias_queries == 1 {
            store_column_sums::<C>(params, &block, &total, tile);
        } else {
            store_tile::<C>(params, &block, &total, tile);
        }
    }
}

/// dS of one tile of one head; 0 where nothing is visible.
#[inline(always)]
unsafe fn score_gradient<C: KernelConfig>(
    params: &BackwardParams,
    tiles: &Block<C>,
    batch: u32,
    head: u32,
    first_query: u32,
    first_key: u32,
) -> Scores {
    let problem = &params.problem;
    let notes = GradNotes::<C::Element>::new(params, tiles.notes);
    // Batch entry and head as no assembler can know them: it would keep the places of both in all tensors in registers.
    // SAFETY: noted down before a barrier.
    let zero = unsafe { notes.zero() };
    let (batch, head) = (batch + zero, head + zero);
    let key_head = head / (problem.query_heads / problem.key_heads);
    // SAFETY: the caller's.
    let sequence = unsafe { Sequence::new(problem, batch) };
    let last_query = sequence.queries.min(first_query + C::BLOCK_ROWS);
    if last_query <= first_query {
        return Scores::zero(); // The whole block: a ragged batch's sequence has fewer queries.
    }
    let rules =
        // SAFETY: the caller's.
        unsafe { ScoreRules::<C::Element>::new(problem, &params.mask, &params.bias, &sequence, head) };
    let range = rules.key_blocks(first_query, last_query, sequence.keys, BLOCK_COLUMNS);
    let key_block = first_key / BLOCK_COLUMNS;
    if key_block < range.begin || range.end <= key_block {
        return Scores::zero(); // The whole block: nothing of the tile is visible.
    }
    if tiles.thread == 0 {
        // SAFETY: what was noted down of the head before has been read before the last product ended.
        unsafe {
            notes.write_sequence(&sequence);
            notes.write_all(&sequence, head, key_head, &rules);
        }
    }
    thread::sync_threads();
    let tile = TilePlace { thread: tiles.place, first_query, first_key, plain: false };
    // SAFETY: the caller's.
    unsafe {
        let mut weights = tiles.scores(&notes.q(), first_query, &notes.k(), first_key);
        let lse = notes.lse().of_rows::<C>(tiles.place, first_query, f32::NEG_INFINITY).map(subtrahend);
        let (of, rules) = (GradientOf::Biased, notes.rules());
        gradient::weights::<C, QueryRows, _>(of, &rules, &mut weights, tile, |i, _| lse[i], |_, _, _| ());
        let dropout = notes.dropout();
        let kept = dropout.kept::<C, QueryRows>(tile);
        let delta = notes.delta().of_rows::<C>(tiles.place, first_query, 0.0);
        let mut grads = tiles.scores(&notes.dout(), first_query, &notes.v(), first_key);
        dropout.apply::<C>(kept, &mut grads);
        gradient::scores::<C>(&mut grads, &weights, |i, _| delta[i]);
        grads
    }
}

/// Writes the tile where the bias has a row for every query.
#[inline(always)]
unsafe fn store_tile<C: KernelConfig>(
    params: &BackwardParams,
    block: &Block<C>,
    total: &Scores,
    tile: BiasTile,
) {
    let dbias = tile.gradient::<C::Element>(params);
    for i in 0..C::ROWS {
        for j in 0..C::COLUMNS {
            let query = tile.query_block * C::BLOCK_ROWS + block.place.row(i as u32);
            let key = tile.first_key + block.place.score_column(j as u32);
            if dbias.contains(query, key) {
                // SAFETY: inside, and this block's alone.
                unsafe { C::Element::store(dbias.at(query, key), total.rows[i][j]) }
            }
        }
    }
}

/// Adds up the tile's rows and writes the one row that the bias has for all queries.
#[inline(always)]
unsafe fn store_column_sums<C: KernelConfig>(
    params: &BackwardParams,
    block: &Block<C>,
    total: &Scores,
    tile: BiasTile,
) {
    let keys = params.problem.keys;
    let dbias = tile.gradient::<C::Element>(params);
    // SAFETY: the tile's threads are all here; the last product ended with a barrier.
    unsafe { block.put_weights(total) };
    thread::sync_threads();
    let key = tile.first_key + block.thread;
    if block.thread < BLOCK_COLUMNS && key < keys {
        let mut sum = 0.0;
        for row in 0..cuda_std::hint::opaque(C::BLOCK_ROWS) {
            // SAFETY: inside the tile, written before the barrier.
            sum += unsafe { block.weight(row, block.thread) };
        }
        // SAFETY: inside, and this block's alone.
        unsafe { C::Element::store(dbias.at(0, key), sum) }
    }
}
