//! The tiles of the fused backward kernels in which two warps share rows.
//!
//! Rows are keys. Both warps compute scores of the 16 keys, each of half of a step's queries, and leave weights and gradients of
//! scores in shared memory in 16 bits, as `[keys of the block, 32 queries]`. From there each takes all of them for its half of
//! the columns of dk and dv, and, transposed, for its part of dQ.

use crate::config::FlashGradConfig;
use crate::element::HalfElement;
use crate::pipeline::flash_grad::GradBlock;
use crate::pipeline::query_sums::QuerySums;
use crate::tiles::mma_fragment::MmaTiles;
use crate::tiles::mma_product::{self, Shape};
use crate::tiles::operand::Operand;
use crate::tiles::swizzled::{LanePlace, SwizzledTile};
use cuda_std::mem::{self, SharedAddr};
use cuda_std::{hint, shared, thread};
use flash_attention_abi::flash::GRAD_SUM_ROWS;
use flash_attention_geometry::mma::{MatrixLane, MmaPlace};

/// A thread's view of its block's tiles, for padded columns `D` of q and k and `V` of v and dout.
pub struct PairedBlock<C, const D: u32, const V: u32> {
    /// What copies the operands.
    pub copies: GradBlock<C, D, V>,
    /// What the thread owns of a step's scores.
    pub place: MmaPlace,
    /// The lane's places in the warp's rows of K and V.
    rows: (LanePlace, LanePlace),
    /// In the warp's queries of the first step's Q and dO, where columns are summed over.
    columns: (LanePlace, LanePlace),
    /// In the warp's columns of the same, where queries are.
    sums: (LanePlace, LanePlace),
    /// Where the thread's first gradient goes, and the lane's place in the gradients of the warp's keys, and of its queries.
    to: SharedAddr,
    by_keys: LanePlace,
    by_queries: LanePlace,
    /// The lane's place in K, in the warp's columns of dQ.
    keys: LanePlace,
}

/// From the gradients of scores to the weights.
const fn to_weights<C: FlashGradConfig>() -> u32 {
    C::TILE.weights_offset() - C::TILE.score_grads_offset()
}

impl<C: FlashGradConfig, const D: u32, const V: u32> PairedBlock<C, D, V> {
    /// 16-query parts of a step.
    const DEPTH: usize = (C::TILE.step / 16) as usize;

    /// The view of a thread.
    #[inline(always)]
    pub fn of_thread(thread: u32) -> Self {
        const { assert!(C::TILE.row_warps == 2 && C::TILE.warp_rows == 16) };
        let copies = GradBlock::of_thread(thread);
        let start = shared::dynamic_shared_address();
        let (warp, lane) = (thread / 32, thread % 32);
        let ((group, half), (query_part, column_group)) = (Self::rows_of(warp), Self::part_of(warp));
        let first = [group * 16, half * C::TILE.warp_columns()];

        let (k, v) = GradBlock::<C, D, V>::row_tiles(start);
        let (q, dout) = GradBlock::<C, D, V>::step_tiles(start, 0);
        let grads = SwizzledTile::<GRAD_SUM_ROWS>::new(start.offset(C::TILE.score_grads_offset()));
        let (by_rows, by_columns) = (MatrixLane::rows_first(lane), MatrixLane::columns_first(lane));
        let (eight_rows, eight_columns) = (MatrixLane::eight_rows(lane), MatrixLane::eight_columns(lane));
        let right = |lane: MatrixLane, chunks| MatrixLane { chunk: lane.chunk + chunks, ..lane };
        let place = MmaPlace::within(lane, first);
        PairedBlock {
            copies,
            place,
            rows: (k.place(first[0], by_rows), v.place(first[0], by_rows)),
            columns: (q.place(first[1], eight_rows), dout.place(first[1], eight_rows)),
            sums: (q.place(0, right(by_rows, 2 * half)), dout.place(0, right(by_rows, 2 * half))),
            to: grads.chunk(place.first_row, first[1] / 8).offset(lane % 4 * 4),
            by_keys: grads.place(first[0], by_rows),
            // Queries are columns of the tile and rows of the product: a transposed load takes them from one to the other.
            by_queries: grads.place(0, right(by_columns, 2 * query_part)),
            keys: k.place(0, right(eight_columns, column_group)),
        }
    }

    /// Which 16 keys a warp shares with another one, and which half of queries and columns is its own. Warps of a half are neighbours.
    #[inline(always)]
    fn rows_of(warp: u32) -> (u32, u32) {
        let groups = C::TILE.warps / 2;
        (warp % groups, warp / groups)
    }

    /// The part of a warp of dQ: which 16 queries, and which columns. Warps of the same columns are neighbours.
    #[inline(always)]
    fn part_of(warp: u32) -> (u32, u32) {
        let parts = Self::DEPTH as u32;
        (warp % parts, warp / parts)
    }

    const fn scores_shape(depth: u32) -> Shape {
        Shape { rows: 1, columns: C::STEP_TILES, depth: (depth / 16) as usize }
    }

    const fn sum_shape(columns: u32) -> Shape {
        Shape { rows: 1, columns: (columns / 16) as usize, depth: Self::DEPTH }
    }

    /// `K Qᵀ`: the raw scores of the warp's keys and queries.
    ///
    /// # Safety
    /// The step has arrived; all lanes of the warp execute it together.
    #[inline(always)]
    pub unsafe fn scores(&self, parity: u32) -> MmaTiles {
        let right = self.columns.0.hidden().shifted(parity * C::TILE.step_bytes());
        // SAFETY: the caller's.
        unsafe {
            mma_product::of_rows_by_eight::<C::Element, D>(Self::scores_shape(D), self.rows.0.hidden(), right)
        }
    }

    /// `V dOᵀ`: the gradients of their weights.
    ///
    /// # Safety
    /// As [`PairedBlock::scores`].
    #[inline(always)]
    pub unsafe fn weight_gradients(&self) -> MmaTiles {
        let (left, right) = (self.rows.1.hidden(), self.columns.1.hidden());
        // SAFETY: the caller's.
        unsafe { mma_product::of_rows_by_eight::<C::Element, V>(Self::scores_shape(V), left, right) }
    }

    /// Rounds and writes the thread's numbers to the tile that lies `offset` behind that of the gradients.
    ///
    /// # Safety
    /// A barrier has passed since those of the step before were read.
    #[inline(always)]
    unsafe fn store(&self, offset: u32, numbers: &MmaTiles) {
        let to = SharedAddr::new(hint::opaque(self.to.get())).offset(offset);
        for n in 0..C::STEP_TILES {
            for half in 0..2 {
                let [a, b] = [numbers.tiles[n][2 * half], numbers.tiles[n][2 * half + 1]];
                let at = SwizzledTile::<GRAD_SUM_ROWS>::beside(to, 8 * half, n);
                // SAFETY: inside the tile, and this thread's alone.
                unsafe { mem::st_shared_u32::<0>(at, C::Element::pack(a, b)) }
            }
        }
    }

    /// Rounds and writes the thread's weights.
    ///
    /// # Safety
    /// A barrier has passed since those of the step before were read.
    #[inline(always)]
    pub unsafe fn store_weights(&self, weights: &MmaTiles) {
        // SAFETY: the caller's.
        unsafe { self.store(to_weights::<C>(), weights) }
    }

    /// Rounds and writes its gradients of scores.
    ///
    /// # Safety
    /// As [`PairedBlock::store_weights`].
    #[inline(always)]
    pub unsafe fn store_grads(&self, grads: &MmaTiles) {
        // SAFETY: the caller's.
        unsafe { self.store(0, grads) }
    }

    /// `sum += P dO`, the warp's keys and half of the columns.
    ///
    /// # Safety
    /// All threads have stored weights before a barrier; all lanes of the warp execute it together.
    #[inline(always)]
    pub unsafe fn add_value(&self, sum: &mut MmaTiles) {
        let left = self.by_keys.hidden().shifted(to_weights::<C>());
        let right = self.sums.1.hidden();
        // SAFETY: the caller's.
        unsafe {
            mma_product::add_product::<C::Element, GRAD_SUM_ROWS, V>(Self::sum_shape(V), sum, left, right, 2)
        }
    }

    /// `sum += dS Q`, the same.
    ///
    /// # Safety
    /// As [`PairedBlock::add_value`], of gradients of scores.
    #[inline(always)]
    pub unsafe fn add_wide(&self, sum: &mut MmaTiles, parity: u32) {
        let left = self.by_keys.hidden();
        let right = self.sums.0.hidden().shifted(parity * C::TILE.step_bytes());
        // SAFETY: the caller's.
        unsafe {
            mma_product::add_product::<C::Element, GRAD_SUM_ROWS, D>(Self::sum_shape(D), sum, left, right, 2)
        }
    }

    /// Adds `dSᵀ K` over all keys of the block, of the warp's queries and columns, to the sums of the step that begins at a query.
    ///
    /// # Safety
    /// As [`PairedBlock::add_wide`] and [`QuerySums::add`].
    #[inline(always)]
    pub unsafe fn add_query_gradients(&self, sums: &QuerySums, first_query: u32) {
        let (tiles, groups) = ((C::TILE.group_columns() / 8) as usize, C::TILE.column_groups() as usize);
        let shape = Shape { rows: 1, columns: tiles, depth: (C::TILE.block_rows() / 16) as usize };
        let (left, right) = (self.by_queries.hidden(), self.keys.hidden());
        // With steps of 16, halves of a tile of sums, registers are so short that this is computed anew in each step: the assembler
        // does not know that a query is below 2^31.
        let halves = C::TILE.step < GRAD_SUM_ROWS;
        let thread = thread::thread_idx_x() + if halves { first_query >> 31 } else { 0 };
        let (query_part, column_group) = Self::part_of(thread / 32);
        let row = 16 * query_part + if halves { first_query % GRAD_SUM_ROWS } else { 0 };
        // SAFETY: the caller's.
        unsafe {
            let part = mma_product::of_columns_by_eight::<C::Element, GRAD_SUM_ROWS, D>(
                shape,
                left,
                right,
                groups / 2,
            );
            sums.add::<1>(first_query, thread % 32, [row, 8 * column_group], &part, [tiles, groups]);
        }
    }

    /// Rounds and writes dk, multiplied by `factor`, and dv, by way of the places of K and V.
    ///
    /// # Safety
    /// A barrier has passed since the last step; the operands are writable and these rows are this block's alone; all threads of
    /// the block call this.
    #[inline(always)]
    pub unsafe fn store_sums(
        thread: u32,
        factor: f32,
        [key, value]: &mut [MmaTiles; 2],
        [dk, dv]: [&Operand<C::Element>; 2],
        first_row: u32,
    ) {
        key.scale_rows(1, (D / 16) as usize, &[factor; 4]);
        let (k, v) = GradBlock::<C, D, V>::row_tiles(shared::dynamic_shared_address());
        // SAFETY: the caller's; the places hold the block's rows.
        unsafe {
            Self::leave(&k, thread, key);
            Self::leave(&v, thread, value);
            thread::sync_threads();
            let (rows, all) = ([0, C::TILE.block_rows()], [thread, C::TILE.threads()]);
            k.store_rows(dk, first_row, rows, all);
            v.store_rows(dv, first_row, rows, all);
        }
    }

    /// Rounds a warp's half of the columns of its rows into a tile.
    ///
    /// # Safety
    /// Nobody else uses the tile before the next barrier.
    #[inline(always)]
    unsafe fn leave<const COLUMNS: u32>(tile: &SwizzledTile<COLUMNS>, thread: u32, sum: &MmaTiles) {
        let (warp, lane) = (thread / 32, thread % 32);
        let (group, half) = Self::rows_of(warp);
        let place = MmaPlace::within(lane, [group * 16, 0]);
        for n in 0..COLUMNS / 16 {
            for row in 0..2 {
                let numbers = &sum.tiles[n as usize];
                let packed = C::Element::pack(numbers[2 * row], numbers[2 * row + 1]);
                let chunk = n / 2 * 4 + 2 * half + n % 2;
                let at = tile.chunk(place.row(row as u32), chunk).offset(place.first_column * 2);
                // SAFETY: inside the tile, and this thread's alone.
                unsafe { mem::st_shared_u32::<0>(at, packed) }
            }
        }
    }
}
