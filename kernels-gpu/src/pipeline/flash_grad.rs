//! Streaming in backward on tensor cores: a block's own rows stay in shared memory, two operands pass by a step at a time.
//!
//! With rows A (`D` columns) and B (`V` columns), and streamed X (`D`) and Y (`V`), both kernels need `A Xᵀ`, the raw scores, and
//! `B Yᵀ`, the gradients of the weights; `dq` has queries as rows and keys as columns, `dk/dv` the other way round. The operands
//! of two steps are in shared memory: those of one are used while those of the next are on their way.

use crate::config::FlashGradConfig;
use crate::tiles::mma_fragment::MmaTiles;
use crate::tiles::mma_product::{self, LeftRows, Shape};
use crate::tiles::operand::Operand;
use crate::tiles::swizzled::{Copier, LanePlace, SwizzledTile, store_tiles};
use core::marker::PhantomData;
use cuda_std::mem::{self, SharedAddr};
use cuda_std::{hint, shared, thread};
use flash_attention_geometry::mma::{MatrixLane, MmaPlace};

/// A thread's view of its block's tiles, for padded columns `D` of q and k and `V` of v and dout.
pub struct GradBlock<C, const D: u32, const V: u32> {
    thread: u32,
    /// What the thread owns.
    pub place: MmaPlace,
    start: SharedAddr,
    /// The lane's places in the warp's rows of A and B.
    rows: (LanePlace, LanePlace),
    /// In the first step's X and Y, where columns are summed over.
    columns: (LanePlace, LanePlace),
    /// And where rows are.
    sums: (LanePlace, LanePlace),
    config: PhantomData<C>,
}

/// Two operands whose rows go together: q and dout, or k and v.
pub struct Pair<'a, E> {
    /// Of `D` columns.
    pub wide: &'a Operand<E>,
    /// Of `V` columns.
    pub value: &'a Operand<E>,
}

impl<C: FlashGradConfig, const D: u32, const V: u32> GradBlock<C, D, V> {
    /// The view of the calling thread.
    #[inline(always)]
    pub fn new() -> Self {
        Self::of_thread(thread::thread_idx_x())
    }

    /// The same, from the thread's index: from an [opaque](cuda_std::hint::opaque) one it is computed where it is needed, and
    /// need not stay in registers.
    #[inline(always)]
    pub fn of_thread(thread: u32) -> Self {
        const { C::GRAD_VALID };
        const { assert!(C::TILE.head_dim == D && C::TILE.value_dim == V) };
        // SAFETY: the entry point's launch bounds and the host's plan say so.
        unsafe { core::hint::assert_unchecked(thread < C::TILE.threads()) };
        let start = shared::dynamic_shared_address();
        let (lane, first_row) = (thread % 32, thread / 32 * C::TILE.warp_rows);
        let (a, b) = Self::row_tiles(start);
        let (x, y) = Self::step_tiles(start, 0);
        let (by_rows, by_columns) = (MatrixLane::rows_first(lane), MatrixLane::columns_first(lane));
        GradBlock {
            thread,
            place: MmaPlace::new(thread, C::TILE.warp_rows),
            start,
            rows: (a.place(first_row, by_rows), b.place(first_row, by_rows)),
            columns: (x.place(0, by_columns), y.place(0, by_columns)),
            sums: (x.place(0, by_rows), y.place(0, by_rows)),
            config: PhantomData,
        }
    }

    /// The tiles of the block's own rows.
    #[inline(always)]
    pub(super) fn row_tiles(start: SharedAddr) -> (SwizzledTile<D>, SwizzledTile<V>) {
        (SwizzledTile::new(start), SwizzledTile::new(start.offset(C::TILE.value_rows_offset())))
    }

    /// The tiles of an even (0) or odd (1) step.
    #[inline(always)]
    pub(super) fn step_tiles(start: SharedAddr, parity: u32) -> (SwizzledTile<D>, SwizzledTile<V>) {
        let first = start.offset(C::TILE.steps_offset() + parity * C::TILE.step_bytes());
        (SwizzledTile::new(first), SwizzledTile::new(first.offset(C::TILE.step_values_offset())))
    }

    /// A thread as it copies.
    #[inline(always)]
    fn copier(thread: u32) -> Copier {
        Copier { thread, threads: C::TILE.threads(), anew: C::ROW_TILES > 1 }
    }

    /// Starts to copy the block's own rows, as one group, and clears the padding of all tiles.
    ///
    /// # Safety
    /// All threads of the block call this, before anything else.
    #[inline(always)]
    pub unsafe fn copy_rows(&self, rows: Pair<'_, C::Element>, first_row: u32) {
        // SAFETY: the caller's.
        unsafe { self.copy_some_rows(rows, first_row, true) }
    }

    /// The same without the rows of `V` columns, which [`GradBlock::weight_gradients`] alone needs.
    ///
    /// # Safety
    /// As [`GradBlock::copy_rows`].
    #[inline(always)]
    pub unsafe fn copy_wide_rows(&self, rows: Pair<'_, C::Element>, first_row: u32) {
        // SAFETY: the caller's.
        unsafe { self.copy_some_rows(rows, first_row, false) }
    }

    #[inline(always)]
    unsafe fn copy_some_rows(&self, rows: Pair<'_, C::Element>, first_row: u32, both: bool) {
        let (a, b) = Self::row_tiles(self.start);
        let (count, step, thread, threads) =
            (C::TILE.block_rows(), C::TILE.step, self.thread, C::TILE.threads());
        let copier = Self::copier(thread);
        // SAFETY: nobody uses the places yet.
        unsafe {
            let (wide, value) = (rows.wide.columns, rows.value.columns);
            if wide < D || value < V {
                a.clear_padding(wide, count, thread, threads);
                b.clear_padding(value, count, thread, threads);
                for parity in 0..2 {
                    let (x, y) = Self::step_tiles(self.start, parity);
                    x.clear_padding(wide, step, thread, threads);
                    y.clear_padding(value, step, thread, threads);
                }
            }
            a.copy(rows.wide, first_row, count, copier, false);
            if both {
                b.copy(rows.value, first_row, count, copier, false);
            }
        }
        // A group of their own: a block that meets nothing must wait for them too.
        mem::cp_async_commit();
    }

    /// Starts to copy a step's operands, as one group. `all`, a constant, says that there are as many rows.
    ///
    /// # Safety
    /// A barrier has passed since the step before the last, whose place this is, was used.
    #[inline(always)]
    pub unsafe fn copy_step(&self, columns: &Pair<'_, C::Element>, first: u32, parity: u32, all: bool) {
        let (x, y) = Self::step_tiles(self.start, parity);
        // As [`GradBlock::at`].
        let copier = Self::copier(if C::GENERAL { hint::opaque(self.thread) } else { self.thread });
        // SAFETY: the caller's.
        unsafe {
            x.copy(columns.wide, first, C::TILE.step, copier, all);
            y.copy(columns.value, first, C::TILE.step, copier, all);
        }
        mem::cp_async_commit();
    }

    /// Starts to copy the first of a step's operands alone, as one group.
    ///
    /// # Safety
    /// As [`GradBlock::copy_step`].
    #[inline(always)]
    pub unsafe fn copy_step_wide(&self, wide: &Operand<C::Element>, first: u32, parity: u32, all: bool) {
        let (x, _) = Self::step_tiles(self.start, parity);
        // SAFETY: the caller's.
        unsafe { x.copy(wide, first, C::TILE.step, Self::copier(self.thread), all) };
        mem::cp_async_commit();
    }

    /// The second alone, to the place of an even step, as one group.
    ///
    /// # Safety
    /// A barrier has passed since that place was used.
    #[inline(always)]
    pub unsafe fn copy_step_value(&self, value: &Operand<C::Element>, first: u32, all: bool) {
        let (_, y) = Self::step_tiles(self.start, 0);
        // SAFETY: the caller's.
        unsafe { y.copy(value, first, C::TILE.step, Self::copier(self.thread), all) };
        mem::cp_async_commit();
    }

    /// Waits for what is on its way, and for all threads to have done with what was there before.
    #[inline(always)]
    pub fn arrive(&self) {
        mem::cp_async_wait::<0>();
        thread::sync_threads();
    }

    /// As [`GradBlock::at`], of the block's own rows, also where the sums leave few registers.
    #[inline(always)]
    fn row_at(place: LanePlace) -> LanePlace {
        if C::GENERAL || C::ROW_TILES as u32 * (D + V) >= 256 { place.hidden() } else { place }
    }

    /// A place, in the general kernels hidden from the optimiser: it would compute all those that follow from it before the loop
    /// and keep them in registers, which the rules of scores need.
    #[inline(always)]
    fn at(place: LanePlace) -> LanePlace {
        if C::GENERAL { place.hidden() } else { place }
    }

    /// `A Xᵀ`: the step's raw scores.
    ///
    /// # Safety
    /// The step has arrived; all lanes of the warp execute it together.
    #[inline(always)]
    pub unsafe fn scores(&self, parity: u32) -> MmaTiles {
        let shape = Shape { rows: C::ROW_TILES, columns: C::STEP_TILES, depth: (D / 16) as usize };
        let right = Self::at(self.columns.0).shifted(parity * C::TILE.step_bytes());
        // SAFETY: the caller's.
        unsafe {
            mma_product::of_rows::<C::Element, D>(shape, &LeftRows::new(Self::row_at(self.rows.0)), right)
        }
    }

    /// `B Yᵀ`: the gradients of the step's weights.
    ///
    /// # Safety
    /// As [`GradBlock::scores`].
    #[inline(always)]
    pub unsafe fn weight_gradients(&self, parity: u32) -> MmaTiles {
        let shape = Shape { rows: C::ROW_TILES, columns: C::STEP_TILES, depth: (V / 16) as usize };
        let right = Self::at(self.columns.1).shifted(parity * C::TILE.step_bytes());
        // SAFETY: the caller's.
        unsafe {
            mma_product::of_rows::<C::Element, V>(shape, &LeftRows::new(Self::row_at(self.rows.1)), right)
        }
    }

    /// `sum += grads X`.
    ///
    /// # Safety
    /// As [`GradBlock::scores`].
    #[inline(always)]
    pub unsafe fn add_wide(&self, sum: &mut MmaTiles, grads: &MmaTiles, parity: u32) {
        let shape = Shape { rows: C::ROW_TILES, columns: (D / 8) as usize, depth: C::STEP_TILES / 2 };
        let values = Self::at(self.sums.0).shifted(parity * C::TILE.step_bytes());
        // SAFETY: the caller's.
        unsafe { mma_product::add_weighted::<C::Element, D>(shape, sum, grads, values) }
    }

    /// `sum += weights Y`.
    ///
    /// # Safety
    /// As [`GradBlock::scores`].
    #[inline(always)]
    pub unsafe fn add_value(&self, sum: &mut MmaTiles, weights: &MmaTiles, parity: u32) {
        let shape = Shape { rows: C::ROW_TILES, columns: (V / 8) as usize, depth: C::STEP_TILES / 2 };
        let values = Self::at(self.sums.1).shifted(parity * C::TILE.step_bytes());
        // SAFETY: the caller's.
        unsafe { mma_product::add_weighted::<C::Element, V>(shape, sum, weights, values) }
    }

    /// Rounds and writes a sum over `D` columns, multiplied by `factor`, in the place of A.
    ///
    /// # Safety
    /// All threads have [arrived](GradBlock::arrive) after the last step; the operand is writable and these rows are this
    /// block's alone.
    #[inline(always)]
    pub unsafe fn store_wide(
        &self,
        sum: &mut MmaTiles,
        factor: f32,
        to: &Operand<C::Element>,
        first_row: u32,
    ) {
        sum.scale_rows(C::ROW_TILES, (D / 8) as usize, &[factor; 4]);
        // SAFETY: the caller's; the place holds the block's rows of `D` columns.
        unsafe { store_tiles::<_, D>(self.start, sum, C::ROW_TILES, self.thread, to, first_row) };
    }

    /// The same of one over `V` columns, in the place of B.
    ///
    /// # Safety
    /// As [`GradBlock::store_wide`].
    #[inline(always)]
    pub unsafe fn store_value(&self, sum: &MmaTiles, to: &Operand<C::Element>, first_row: u32) {
        let start = self.start.offset(C::TILE.value_rows_offset());
        // SAFETY: the caller's; the place holds the block's rows of `V` columns.
        unsafe { store_tiles::<_, V>(start, sum, C::ROW_TILES, self.thread, to, first_row) };
    }
}

impl<C: FlashGradConfig, const D: u32, const V: u32> Default for GradBlock<C, D, V> {
    fn default() -> Self {
        Self::new()
    }
}
