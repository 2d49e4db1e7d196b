//! Streaming: operands pass through shared memory piece by piece while products accumulate in registers.
//!
//! Each piece is fetched into registers while the previous one is being multiplied, and committed to shared memory between
//! two barriers: one after which nobody reads the previous piece, one after which everybody sees the new one.

use crate::config::KernelConfig;
use crate::tiles::fragment::{Output, RowVector, Scores};
use crate::tiles::notes::Notes;
use crate::tiles::operand::Operand;
use crate::tiles::product::{self, ScoreWriter};
use crate::tiles::shared_tile::SharedTile;
use crate::tiles::stage::{ColumnSlice, RowSlice, Slab, Stage};
use core::marker::PhantomData;
use cuda_std::{hint, mem, shared, thread};
use flash_attention_geometry::fragment::ThreadPlace;

pub mod flash;
pub mod flash_grad;
pub mod flash_split;
pub mod paired_grad;
pub mod query_sums;
pub mod row;
pub mod score_grads;

/// A row or column that no operand has: a fetch from there loads nothing.
pub const NOWHERE: u32 = u32::MAX / 2;

/// A thread's view of its block's tiles.
pub struct Block<C> {
    /// Index of the thread in the block.
    pub thread: u32,
    /// What the thread owns.
    pub place: ThreadPlace,
    rows: SharedTile,
    columns: SharedTile,
    slab: SharedTile,
    weights: SharedTile,
    /// Where the block notes down what registers would be wasted on.
    pub notes: Notes,
    config: PhantomData<C>,
}

impl<C: KernelConfig> Block<C> {
    /// The view of the calling thread.
    #[inline(always)]
    pub fn new() -> Self {
        const { C::VALID };
        Self::of_thread(thread::thread_idx_x())
    }

    /// The same view, computed anew. `zero` is 0, read where the assembler cannot know that: it would keep the places in the
    /// tiles in registers from the first view on.
    #[inline(always)]
    pub fn anew(&self, zero: u32) -> Self {
        Self::of_thread(self.thread + zero)
    }

    #[inline(always)]
    fn of_thread(thread: u32) -> Self {
        // SAFETY: the entry point's launch bounds and the host's plan say so.
        unsafe { core::hint::assert_unchecked(thread < C::TILE.threads) };
        let start = shared::dynamic_shared_address();
        Block {
            thread,
            place: ThreadPlace::new(thread, C::TILE.rows_per_thread),
            rows: SharedTile::new(start, C::SHARED.rows),
            columns: SharedTile::new(start, C::SHARED.columns),
            slab: SharedTile::new(start, C::SHARED.slab),
            weights: SharedTile::new(start, C::SHARED.probability),
            notes: Notes::new(start),
            config: PhantomData,
        }
    }

    /// Brings all columns of the block's own rows to shared memory, where they stay; visible after the next barrier.
    ///
    /// # Safety
    /// The configuration is a resident one; all threads of the block call this, before anything else.
    #[inline(always)]
    pub unsafe fn keep_rows(&self, operand: &Operand<C::Element>, first_row: u32) {
        for slice in 0..hint::opaque(C::SLICES) {
            let column = slice * C::TILE.slice;
            let stage = Stage::<RowSlice<C>>::fetch(operand, self.thread, first_row, column);
            // SAFETY: resident rows hold every slice, and nobody reads them yet.
            unsafe { stage.commit(operand, self.thread, first_row, column, self.rows.shifted(0, column)) };
        }
    }

    /// Starts to load the first slice of rows `first_row ..` of the streamed operand.
    #[inline(always)]
    pub fn fetch_slice(&self, operand: &Operand<C::Element>, first_row: u32) -> Stage<ColumnSlice<C>> {
        Stage::fetch(operand, self.thread, first_row, 0)
    }

    /// `kept rows * columnsᵀ`. `stage` holds the first slice of the streamed operand's rows `first_row ..`; on return it
    /// holds that of `next_row ..`.
    ///
    /// # Safety
    /// [`Block::keep_rows`] came before; all threads of the block call this together.
    #[inline(always)]
    pub unsafe fn scores_of_kept_rows(
        &self,
        operand: &Operand<C::Element>,
        stage: &mut Stage<ColumnSlice<C>>,
        first_row: u32,
        next_row: u32,
    ) -> Scores {
        let mut scores = Scores::zero();
        for slice in 0..hint::opaque(C::SLICES) {
            let column = slice * C::TILE.slice;
            // SAFETY: the barrier at the end of the last use left the place free.
            unsafe { stage.commit(operand, self.thread, first_row, column, self.columns) };
            thread::sync_threads();
            let (row, next) =
                if slice + 1 < C::SLICES { (first_row, column + C::TILE.slice) } else { (next_row, 0) };
            *stage = Stage::fetch(operand, self.thread, row, next);
            // SAFETY: committed before the barrier.
            unsafe { product::add_scores::<C>(&mut scores, self.rows, column, self.columns, self.place) };
            thread::sync_threads();
        }
        scores
    }

    /// `a * bᵀ` of `block_rows` rows of `a` and 64 rows of `b`, both streamed.
    ///
    /// # Safety
    /// All threads of the block call this together, and the configuration is not a resident one.
    #[inline(always)]
    pub unsafe fn scores(
        &self,
        a: &Operand<C::Element>,
        first_a: u32,
        b: &Operand<C::Element>,
        first_b: u32,
    ) -> Scores {
        let mut scores = Scores::zero();
        let mut stage_a = Stage::<RowSlice<C>>::fetch(a, self.thread, first_a, 0);
        let mut stage_b = Stage::<ColumnSlice<C>>::fetch(b, self.thread, first_b, 0);
        for slice in 0..hint::opaque(C::SLICES) {
            let column = slice * C::TILE.slice;
            // SAFETY: the barrier at the end of the last use left the places free.
            unsafe {
                stage_a.commit(a, self.thread, first_a, column, self.rows);
                stage_b.commit(b, self.thread, first_b, column, self.columns);
            }
            thread::sync_threads();
            let next = if slice + 1 < C::SLICES { column + C::TILE.slice } else { NOWHERE };
            stage_a = Stage::fetch(a, self.thread, first_a, next);
            stage_b = Stage::fetch(b, self.thread, first_b, next);
            // SAFETY: committed before the barrier.
            unsafe { product::add_scores::<C>(&mut scores, self.rows, 0, self.columns, self.place) };
            thread::sync_threads();
        }
        scores
    }

    /// Starts to load the first slab of rows `first_row ..` of the streamed operand.
    #[inline(always)]
    pub fn fetch_slab(&self, operand: &Operand<C::Element>, first_row: u32) -> Stage<Slab<C>> {
        Stage::fetch(operand, self.thread, first_row, 0)
    }

    /// Puts a score tile where [`Block::add_weighted`] finds it.
    ///
    /// # Safety
    /// A barrier has passed since the last `add_weighted`; each calls it with its own fragment.
    #[inline(always)]
    pub unsafe fn put_weights(&self, weights: &Scores) {
        // SAFETY: the caller's.
        unsafe { self.weight_writer().put_all::<C>(weights) }
    }

    /// Puts weights one by one; all of them belong there before [`Block::add_weighted`].
    #[inline(always)]
    pub fn weight_writer(&self) -> ScoreWriter {
        ScoreWriter::new(self.weights, self.place)
    }

    /// An element of the weights put last.
    ///
    /// # Safety
    /// A barrier has passed since they were put.
    #[inline(always)]
    pub unsafe fn weight(&self, row: u32, column: u32) -> f32 {
        // SAFETY: inside the tile.
        unsafe { mem::ld_shared_f32::<0>(self.weights.at(row, column)) }
    }

    /// `output += weights * values` for the weights put last and rows `first_row ..` of `values`, whose first slab `stage`
    /// holds.
    ///
    /// # Safety
    /// All threads of the block call this together.
    #[inline(always)]
    pub unsafe fn add_weighted(
        &self,
        output: &mut Output,
        values: &Operand<C::Element>,
        mut stage: Stage<Slab<C>>,
        first_row: u32,
    ) {
        for slab in 0..hint::opaque(C::SLABS) {
            let column = slab * C::TILE.slab;
            let row = first_row + column;
            // SAFETY: the barrier at the end of the last use left the place free.
            unsafe { stage.commit(values, self.thread, row, 0, self.slab) };
            thread::sync_threads();
            let next = if slab + 1 < C::SLABS { row + C::TILE.slab } else { NOWHERE };
            stage = Stage::fetch(values, self.thread, next, 0);
            // SAFETY: weights and slab were written before the barrier.
            unsafe { product::add_output::<C>(output, self.weights, column, self.slab, self.place) };
            thread::sync_threads();
        }
    }

    /// Rounds and writes the block's rows of an output, each multiplied by its factor.
    ///
    /// # Safety
    /// The operand is writable, and these rows belong to this block alone.
    #[inline(always)]
    pub unsafe fn store_output(
        &self,
        output: &Output,
        factors: &RowVector,
        operand: &Operand<C::Element>,
        first_row: u32,
    ) {
        for i in 0..C::ROWS {
            let row = first_row + self.place.row(i as u32);
            for group in 0..C::OUTPUT_COLUMNS / 4 {
                let values = core::array::from_fn(|e| output.rows[i][4 * group + e] * factors[i]);
                // SAFETY: the caller's.
                unsafe { operand.store4(row, self.place.output_column(group as u32), values) }
            }
        }
    }
}

impl<C: KernelConfig> Default for Block<C> {
    fn default() -> Self {
        Self::new()
    }
}
