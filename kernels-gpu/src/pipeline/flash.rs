//! Streaming on tensor cores: K and V pass through shared memory by asynchronous copies while products accumulate.
//!
//! K and V have one buffer each. While S = Q Kᵀ is computed V is on its way, and while O += P V is, the next K:
//!
//! ```text
//! copies   K0 | V0      | K1           | V1      | K2           | ...
//! threads     | S0      | softmax, O0  | S1      | softmax, O1  | ...
//! ```

use crate::config::FlashConfig;
use crate::element::HalfElement;
use crate::pipeline::NOWHERE;
use crate::softmax::{OnlineSoftmax, RowReduce};
use crate::tiles::mma_fragment::MmaTiles;
use crate::tiles::mma_product::{self, Left};
use crate::tiles::operand::Operand;
use crate::tiles::swizzled::{LanePlace, SwizzledTile};
use core::marker::PhantomData;
use cuda_std::mem::{self, SharedAddr};
use cuda_std::{shared, thread, warp};
use flash_attention_geometry::mma::{MatrixLane, MmaPlace};

/// A thread's view of its block's tiles, for padded columns `D` of q and k and `V` of v.
pub struct FlashBlock<C, const D: u32, const V: u32> {
    thread: u32,
    /// What the thread owns.
    pub place: MmaPlace,
    start: SharedAddr,
    /// The lane's place in the keys and in the values.
    keys: LanePlace,
    values: LanePlace,
    config: PhantomData<C>,
}

/// A warp's queries: in registers, or where they lie.
pub struct Queries<const D: u32> {
    place: LanePlace,
}

impl<C: FlashConfig, const D: u32, const V: u32> FlashBlock<C, D, V> {
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
        let (keys, values) = (Self::key_tile(start), Self::value_tile(start));
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
    fn key_tile(start: SharedAddr) -> SwizzledTile<D> {
        SwizzledTile::new(start.offset(C::TILE.keys_offset()))
    }

    #[inline(always)]
    fn value_tile(start: SharedAddr) -> SwizzledTile<V> {
        SwizzledTile::new(start.offset(C::TILE.values_offset()))
    }

    /// Starts to copy the block's queries, which arrive with the first keys, and clears the padding of all tiles.
    ///
    /// # Safety
    /// All threads of the block call this, before anything else.
    #[inline(always)]
    pub unsafe fn copy_queries(&self, q: &Operand<C::Element>, first_query: u32, value_dim: u32) {
        let tile = SwizzledTile::<D>::new(self.start);
        let (keys, values) = (Self::key_tile(self.start), Self::value_tile(self.start));
        let (rows, threads) = (C::TILE.block_rows(), C::TILE.threads());
        // SAFETY: nobody uses the places yet.
        unsafe {
            if q.columns < D {
                tile.clear_padding(q.columns, rows, self.thread, threads);
                keys.clear_padding(q.columns, C::TILE.block_keys, self.thread, threads);
            }
            if value_dim < V {
                values.clear_padding(value_dim, C::TILE.block_keys, self.thread, threads);
            }
            tile.copy(q, first_query, rows, self.thread, threads, false);
        }
    }

    /// Starts to copy a block of keys, as one group. `all` says that there are as many.
    ///
    /// # Safety
    /// A barrier has passed since the keys before were read.
    #[inline(always)]
    pub unsafe fn copy_keys(&self, k: &Operand<C::Element>, first_key: u32, all: bool) {
        let tile = Self::key_tile(self.start);
        // SAFETY: the caller's.
        unsafe { tile.copy(k, first_key, C::TILE.block_keys, self.thread, C::TILE.threads(), all) };
        mem::cp_async_commit();
    }

    /// The same for values.
    ///
    /// # Safety
    /// A barrier has passed since the values before were read.
    #[inline(always)]
    pub unsafe fn copy_values(&self, v: &Operand<C::Element>, first_key: u32, all: bool) {
        let tile = Self::value_tile(self.start);
        // SAFETY: the caller's.
        unsafe { tile.copy(v, first_key, C::TILE.block_keys, self.thread, C::TILE.threads(), all) };
        mem::cp_async_commit();
    }

    /// Where the warp's queries lie.
    #[inline(always)]
    pub fn queries(&self) -> Queries<D> {
        let tile = SwizzledTile::<D>::new(self.start);
        let first_row = self.thread / 32 * C::TILE.warp_rows;
        Queries { place: tile.place(first_row, MatrixLane::rows_first(self.thread % 32)) }
    }

    /// Rounds and writes the warp's rows of the output, by way of shared memory, so that lanes write 16 bytes side by side.
    ///
    /// # Safety
    /// The operand is writable, and these rows belong to this block alone.
    #[inline(always)]
    pub unsafe fn store_output(&self, output: &MmaTiles, out: &Operand<C::Element>, first_query: u32) {
        // SAFETY: the barrier leaves the whole of shared memory free; rows are written by their own warp and read by it.
        unsafe { self.put_output(output) };
        let tile = SwizzledTile::<V>::new(self.start);
        let chunks = V / 8;
        let (warp, lane) = (self.thread / 32, self.thread % 32);
        for piece in 0..C::TILE.warp_rows * chunks / 32 {
            let index = piece * 32 + lane;
            let row = warp * C::TILE.warp_rows + index / chunks;
            let chunk = index % chunks;
            if out.contains(first_query + row, chunk * 8) {
                // SAFETY: written before the barrier; aligned rows are made of whole pieces.
                unsafe {
                    let values = mem::ld_shared_v4_u32::<0>(tile.chunk(row, chunk));
                    mem::st_global_v4_u32::<0>(out.at(first_query + row, chunk * 8), values);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn put_output(&self, output: &MmaTiles) {
        let tile = SwizzledTile::<V>::new(self.start);
        mem::cp_async_wait::<0>();
        thread::sync_threads();
        for m in 0..C::ROW_TILES {
            for n in 0..C::OUTPUT_TILES {
                for half in 0..2 {
                    let row = self.place.row((2 * m + half) as u32);
                    let tiles = &output.tiles[m * C::OUTPUT_TILES + n];
                    let packed = C::Element::pack(tiles[2 * half], tiles[2 * half + 1]);
                    let at = tile.chunk(row, n as u32).offset(self.place.first_column * 2);
                    // SAFETY: the row is this warp's, and nobody reads shared memory any more.
                    unsafe { mem::st_shared_u32::<0>(at, packed) }
                }
            }
        }
        // SAFETY: the whole warp is here.
        unsafe { warp::sync_warp(u32::MAX) };
    }
}

impl<C: FlashConfig, const D: u32, const V: u32> Default for FlashBlock<C, D, V> {
    fn default() -> Self {
        Self::new()
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

/// What a step over a block of keys works on.
pub struct Keys<'a, C: FlashConfig, const D: u32, const V: u32> {
    /// The block's tiles.
    pub block: &'a FlashBlock<C, D, V>,
    /// Where the queries are.
    pub queries: &'a Queries<D>,
    /// All keys.
    pub k: &'a Operand<C::Element>,
    /// All values.
    pub v: &'a Operand<C::Element>,
}

impl<C: FlashConfig, const D: u32, const V: u32> Keys<'_, C, D, V> {
    /// Meets the keys `first_key ..`, which are on their way, and sends for `next_key ..`.
    ///
    /// # Safety
    /// All threads of the block call this together.
    #[inline(always)]
    pub unsafe fn advance<R: RowReduce, B: Between>(
        &self,
        softmax: &mut OnlineSoftmax<C, R>,
        output: &mut MmaTiles,
        first_key: u32,
        next_key: u32,
        between: &B,
    ) {
        let block = self.block;
        // SAFETY: each tile is read between the wait and barrier that bring it and the barrier that frees it.
        unsafe {
            mem::cp_async_wait::<0>();
            thread::sync_threads();
            block.copy_values(self.v, first_key, !B::HIDES);

            // S = Q Kᵀ
            let queries = |m, k| -> Left {
                mem::ldmatrix_x4::<0>(SwizzledTile::<D>::part(self.queries.place, 16 * m, k))
            };
            let mut scores = mma_product::scores::<C, D>(queries, block.keys);
            between.scores(&mut scores);

            // P = softmax step
            let shrink = softmax.update_max(&mut scores, B::HIDES);
            softmax.rescale(&shrink);
            softmax.exponentiate(&mut scores, B::HIDES);
            output.scale_rows(C::ROW_TILES, C::OUTPUT_TILES, &shrink);
            between.weights(&mut scores);

            mem::cp_async_wait::<0>();
            thread::sync_threads();
            if B::HIDES || next_key != NOWHERE {
                block.copy_keys(self.k, next_key, !B::HIDES);
            }

            // O += P V
            mma_product::add_weighted::<C, V>(output, &scores, block.values);
        }
    }
}
