//! Streaming on tensor cores: K and V pass through shared memory by asynchronous copies while products accumulate.
//!
//! With one buffer for K and one for V, V is on its way while S = Q Kᵀ is computed, and the next K while O += P V is. With two of each,
//! the next K and V are on their way during the whole of a step, and a step has one barrier in place of two:
//!
//! ```text
//! copies   K0 | V0          | K1 | V1          | K2 | V2 ...
//! threads     | S0, softmax | O0 | S1, softmax | O1 | S2 ...
//!
//! copies   K0 V0 | K1 V1           | K2 V2           | ...
//! threads        | S0, softmax, O0 | S1, softmax, O1 | ...
//! ```

use crate::config::FlashConfig;
use crate::pipeline::NOWHERE;
use crate::softmax::{HEADROOM, OnlineSoftmax, RowReduce};
use crate::tiles::mma_fragment::MmaTiles;
use crate::tiles::mma_product::{self, LeftRows, Shape};
use crate::tiles::operand::Operand;
use crate::tiles::packed::Packed;
use crate::tiles::swizzled::{Copier, LanePlace, SwizzledTile, store_tiles};
use core::marker::PhantomData;
use cuda_std::mem::{self, SharedAddr};
use cuda_std::{shared, thread};
use flash_attention_geometry::band::BlockRange;
use flash_attention_geometry::mma::{MatrixLane, MmaPlace};

/// A thread's view of its block's tiles, for padded columns `D` of q and k and `V` of v.
pub struct FlashBlock<C, const D: u32, const V: u32> {
    thread: u32,
    /// What the thread owns.
    pub place: MmaPlace,
    start: SharedAddr,
    /// The lane's place in the first buffers of keys and values.
    keys: LanePlace,
    values: LanePlace,
    config: PhantomData<C>,
}

impl<C: FlashConfig, const D: u32, const V: u32> FlashBlock<C, D, V> {
    /// The product of queries and keys.
    const SCORES: Shape = Shape { rows: C::ROW_TILES, columns: C::SCORE_TILES, depth: C::DEPTH };

    /// The view of the calling thread.
    #[inline(always)]
    pub fn new() -> Self {
        const { C::FLASH_VALID };
        const { assert!(C::TILE.head_dim == D && C::TILE.value_dim == V) };
        let thread = thread::thread_idx_x();
        // SAFETY: the entry point's launch bounds and the host's plan say so.
        unsafe { core::hint::assert_unchecked(thread < C::TILE.threads()) };
        let start = shared::dynamic_shared_address();
        let lane = thread % 32;
        let (keys, values) = (Self::key_tile(start, 0), Self::value_tile(start, 0));
        FlashBlock {
            thread,
            place: MmaPlace::new(thread, C::TILE.warp_rows),
            start,
            keys: keys.place(0, MatrixLane::columns_first(lane)),
            values: values.place(0, MatrixLane::rows_first(lane)),
            config: PhantomData,
        }
    }

    #[inline(always)]
    fn key_tile(start: SharedAddr, stage: u32) -> SwizzledTile<D> {
        SwizzledTile::new(start.offset(C::TILE.keys_offset() + stage * C::TILE.stage_bytes()))
    }

    #[inline(always)]
    fn value_tile(start: SharedAddr, stage: u32) -> SwizzledTile<V> {
        SwizzledTile::new(start.offset(C::TILE.values_offset() + stage * C::TILE.stage_bytes()))
    }

    /// The tile of queries.
    #[inline(always)]
    fn query_tile(&self) -> SwizzledTile<D> {
        SwizzledTile::new(self.start)
    }

    /// Clears the padding of all tiles.
    ///
    /// # Safety
    /// All threads of the block call this, before anything else.
    #[inline(always)]
    unsafe fn clear_padding(&self, head_dim: u32, value_dim: u32) {
        let (rows, threads) = (C::TILE.block_rows(), C::TILE.threads());
        // SAFETY: nobody uses the places yet.
        unsafe {
            if head_dim < D {
                self.query_tile().clear_padding(head_dim, rows, self.thread, threads);
            }
            for stage in 0..C::TILE.stages {
                let (keys, values) = (Self::key_tile(self.start, stage), Self::value_tile(self.start, stage));
                if head_dim < D {
                    keys.clear_padding(head_dim, C::TILE.block_keys, self.thread, threads);
                }
                if value_dim < V {
                    values.clear_padding(value_dim, C::TILE.block_keys, self.thread, threads);
                }
            }
        }
    }

    /// Starts to copy the block's queries, which arrive with the first keys, and clears the padding of all tiles.
    ///
    /// # Safety
    /// All threads of the block call this, before anything else.
    #[inline(always)]
    pub unsafe fn copy_queries(&self, q: &Operand<C::Element>, first_query: u32, value_dim: u32) {
        // SAFETY: nobody uses the places yet.
        unsafe {
            self.clear_padding(q.columns, value_dim);
            self.query_tile().copy(q, first_query, C::TILE.block_rows(), self.copier(), false);
        }
    }

    /// The same where rows are queries of several heads.
    ///
    /// # Safety
    /// As [`FlashBlock::copy_queries`].
    #[inline(always)]
    pub unsafe fn copy_packed(&self, q: &Packed<C::Element>, first_row: u32, head_dim: u32, value_dim: u32) {
        let (rows, threads) = (C::TILE.block_rows(), C::TILE.threads());
        // SAFETY: nobody uses the places yet.
        unsafe {
            self.clear_padding(head_dim, value_dim);
            q.copy_to(&self.query_tile(), first_row, rows, self.thread, threads);
        }
    }

    /// Starts to copy a block of keys to a buffer, as one group. `all` says that there are as many.
    ///
    /// # Safety
    /// A barrier has passed since the keys before were read.
    #[inline(always)]
    pub unsafe fn copy_keys(&self, k: &Operand<C::Element>, first_key: u32, stage: u32, all: bool) {
        let tile = Self::key_tile(self.start, stage);
        // SAFETY: the caller's.
        unsafe { tile.copy(k, first_key, C::TILE.block_keys, self.copier(), all) };
        mem::cp_async_commit();
    }

    /// The same for values.
    ///
    /// # Safety
    /// A barrier has passed since the values before were read.
    #[inline(always)]
    pub unsafe fn copy_values(&self, v: &Operand<C::Element>, first_key: u32, stage: u32, all: bool) {
        let tile = Self::value_tile(self.start, stage);
        // SAFETY: the caller's.
        unsafe { tile.copy(v, first_key, C::TILE.block_keys, self.copier(), all) };
        mem::cp_async_commit();
    }

    /// The thread as it copies.
    #[inline(always)]
    fn copier(&self) -> Copier {
        Copier { thread: self.thread, threads: C::TILE.threads(), anew: true }
    }

    /// The warp's queries in shared memory.
    #[inline(always)]
    pub fn queries(&self) -> LeftRows {
        let lane = MatrixLane::rows_first(self.thread % 32);
        LeftRows::new(self.query_tile().place(self.warp_row(), lane))
    }

    /// The warp's queries, with those in registers that the configuration keeps there. For these it waits until they have arrived:
    /// for all groups of copies but the `LATER` last ones.
    ///
    /// # Safety
    /// All threads of the block call this together, after queries and first keys were sent for.
    #[inline(always)]
    pub unsafe fn kept_queries<const LATER: u32>(&self) -> LeftRows {
        if C::KEPT_DEPTH == 0 {
            return self.queries();
        }
        mem::cp_async_wait::<LATER>();
        thread::sync_threads();
        // SAFETY: the copies of all threads have arrived.
        unsafe { self.queries().keep::<D>(Self::SCORES, C::KEPT_DEPTH) }
    }

    /// S = Q Kᵀ, for the keys of a buffer.
    ///
    /// # Safety
    /// A barrier has passed since queries and keys were there; all threads of the warp call this together.
    #[inline(always)]
    pub unsafe fn scores(&self, queries: &LeftRows, keys: LanePlace) -> MmaTiles {
        // SAFETY: the caller's.
        unsafe { mma_product::of_rows::<C::Element, D>(Self::SCORES, queries, keys) }
    }

    /// The first row of the warp.
    #[inline(always)]
    pub fn warp_row(&self) -> u32 {
        self.thread / 32 * C::TILE.warp_rows
    }

    /// The lane's place in a buffer of keys.
    #[inline(always)]
    pub fn keys(&self, stage: u32) -> LanePlace {
        self.keys.shifted(stage * C::TILE.stage_bytes())
    }

    /// The lane's place in a buffer of values.
    #[inline(always)]
    pub fn values(&self, stage: u32) -> LanePlace {
        self.values.shifted(stage * C::TILE.stage_bytes())
    }

    /// Rounds and writes the warp's rows of the output.
    ///
    /// # Safety
    /// The operand is writable, and these rows belong to this block alone; all threads call this together.
    #[inline(always)]
    pub unsafe fn store_output(&self, output: &MmaTiles, out: &Operand<C::Element>, first_query: u32) {
        mem::cp_async_wait::<0>();
        thread::sync_threads();
        // SAFETY: the barrier leaves the whole of shared memory free.
        unsafe { store_tiles::<_, V>(self.start, output, C::ROW_TILES, self.thread, out, first_query) };
    }
}

impl<C: FlashConfig, const D: u32, const V: u32> Default for FlashBlock<C, D, V> {
    fn default() -> Self {
        Self::new()
    }
}

/// The order in which a block of rows meets the blocks of columns: first those at the edges of what it sees, whose elements are
/// masked one by one, then the plain ones. Neither a softmax nor a sum minds.
#[derive(Clone, Copy)]
pub struct EdgesFirst {
    range: BlockRange,
    /// Columns of a block.
    columns: u32,
    /// Blocks at the edges.
    pub edges: u32,
    /// All blocks.
    pub blocks: u32,
}

impl EdgesFirst {
    /// The order of a range of blocks of `columns` columns.
    #[inline(always)]
    pub fn new(range: BlockRange, columns: u32) -> Self {
        let blocks = range.end - range.begin;
        EdgesFirst { range, columns, edges: blocks - (range.plain_end - range.plain_begin), blocks }
    }

    /// The first column of the block met at `index`, be it at an edge or the first plain one; behind the last block a column that
    /// no problem has.
    #[inline(always)]
    pub fn first(&self, index: u32) -> u32 {
        let BlockRange { begin, plain_begin, plain_end, .. } = self.range;
        let low = plain_begin - begin;
        let block = if index < low {
            begin + index
        } else if index < self.edges {
            plain_end + (index - low)
        } else {
            plain_begin
        };
        if index < self.blocks { block * self.columns } else { NOWHERE }
    }
}

/// What a step does beside products and the softmax. (Not closures: those are not always inlined.)
pub trait Between {
    /// Whether scores may be invisible. Where not, this block of keys and the next one, if there is one, are full.
    const HIDES: bool;

    /// Changes the scores before the softmax.
    ///
    /// # Safety
    /// What is read for it is readable.
    unsafe fn scores(&self, scores: &mut MmaTiles);

    /// Changes the weights behind it.
    fn weights(&self, weights: &mut MmaTiles);
}

/// Nothing: every score counts as it is.
pub struct Plain;

impl Between for Plain {
    const HIDES: bool = false;

    #[inline(always)]
    unsafe fn scores(&self, _scores: &mut MmaTiles) {}

    #[inline(always)]
    fn weights(&self, _weights: &mut MmaTiles) {}
}

/// P = softmax step: turns a block's scores into weights, and rescales the output where a maximum rose.
#[inline(always)]
pub fn softmax_step<C: FlashConfig, R: RowReduce, B: Between>(
    softmax: &mut OnlineSoftmax<C, R>,
    scores: &mut MmaTiles,
    output: &mut MmaTiles,
    between: &B,
) {
    // Dropout multiplies weights, which then might be more than f16 holds.
    let headroom = if C::GENERAL { 0.0 } else { HEADROOM };
    if let Some(shrink) = softmax.raise_max(scores, B::HIDES, headroom) {
        output.scale_rows(C::ROW_TILES, C::OUTPUT_TILES, &shrink);
    }
    softmax.exponentiate(scores, B::HIDES);
    between.weights(scores);
}

/// What a step over a block of keys works on.
pub struct Keys<'a, C: FlashConfig, const D: u32, const V: u32> {
    /// The block's tiles.
    pub block: &'a FlashBlock<C, D, V>,
    /// The warp's queries.
    pub queries: LeftRows,
    /// All keys.
    pub k: &'a Operand<C::Element>,
    /// All values.
    pub v: &'a Operand<C::Element>,
}

impl<C: FlashConfig, const D: u32, const V: u32> Keys<'_, C, D, V> {
    /// Sends for the first keys, and the values that go with them where those have a buffer of their own.
    ///
    /// # Safety
    /// All threads of the block call this together, after the queries were sent for.
    #[inline(always)]
    pub unsafe fn start(&self, first_key: u32) {
        // SAFETY: nothing has been read yet.
        unsafe { self.send_next(first_key, 0, false) }
    }

    /// Meets block `index` of those that this block of queries meets: the keys `first_key ..`, which are on their way. Sends for
    /// `next_key ..`.
    ///
    /// # Safety
    /// All threads of the block call this together, for one block after the other.
    #[inline(always)]
    pub unsafe fn advance<R: RowReduce, B: Between>(
        &self,
        softmax: &mut OnlineSoftmax<C, R>,
        output: &mut MmaTiles,
        [index, first_key, next_key]: [u32; 3],
        between: &B,
    ) {
        let block = self.block;
        let stage = index % C::TILE.stages;
        let next = (index + 1) % C::TILE.stages;
        let more = B::HIDES || next_key != NOWHERE;
        // SAFETY: each tile is read between the wait and barrier that bring it and the barrier that frees it.
        unsafe {
            mem::cp_async_wait::<0>();
            thread::sync_threads();
            if C::TILE.stages == 1 {
                block.copy_values(self.v, first_key, 0, !B::HIDES);
            } else if more {
                self.send_next(next_key, next, !B::HIDES);
            }

            // S = Q Kᵀ
            let mut scores = block.scores(&self.queries, block.keys(stage));
            between.scores(&mut scores);
            softmax_step(softmax, &mut scores, output, between);

            if C::TILE.stages == 1 {
                mem::cp_async_wait::<0>();
                thread::sync_threads();
                if more {
                    self.send_next(next_key, 0, !B::HIDES);
                }
            }

            // O += P V
            let shape = Shape { rows: C::ROW_TILES, columns: C::OUTPUT_TILES, depth: C::SCORE_TILES / 2 };
            // Where scores and output take most registers, the places that follow from this one are computed in each step.
            let values = block.values(stage);
            let values = if D == 128 && V == 128 { values.hidden() } else { values };
            mma_product::add_weighted::<C::Element, V>(shape, output, &scores, values);
        }
    }

    /// Starts to copy a block of keys, with its values where there are two buffers of each.
    #[inline(always)]
    unsafe fn send_next(&self, first_key: u32, stage: u32, all: bool) {
        // SAFETY: the caller's.
        unsafe {
            self.block.copy_keys(self.k, first_key, stage, all);
            if C::TILE.stages == 2 {
                self.block.copy_values(self.v, first_key, stage, all);
            }
        }
    }
}
