//! The gradients of a step's scores in shared memory: dQ sums over keys, which are rows of all warps.

use crate::config::FlashGradConfig;
use crate::element::HalfElement;
use crate::tiles::mma_fragment::MmaTiles;
use crate::tiles::mma_product::{self, Shape};
use crate::tiles::swizzled::{LanePlace, SwizzledTile};
use core::marker::PhantomData;
use cuda_std::mem::{self, SharedAddr};
use cuda_std::{hint, shared};
use flash_attention_abi::flash::GRAD_SUM_ROWS;
use flash_attention_geometry::mma::{MatrixLane, MmaPlace};

/// A thread's view of the tile `[keys of the block, queries of a step]`, and of the keys that it is multiplied with, of `D`
/// columns.
pub struct ScoreGrads<C, const D: u32> {
    /// Where the thread's first number goes.
    to: SharedAddr,
    /// The lane's place in the tile, in the columns of the warp's queries.
    left: LanePlace,
    /// And in the keys, in the first columns of the warp's group.
    keys: LanePlace,
    /// The thread's lane.
    pub lane: u32,
    /// The first query and the first column of the warp's part of dQ.
    pub part: [u32; 2],
    config: PhantomData<C>,
}

impl<C: FlashGradConfig, const D: u32> ScoreGrads<C, D> {
    /// 8-column tiles of a warp's part of dQ.
    pub const TILES: usize = (C::TILE.group_columns() / 8) as usize;
    /// Of 16 columns, which one's are the warp's.
    pub const STRIDE: usize = C::TILE.column_groups() as usize;

    /// The view of a thread.
    #[inline(always)]
    pub fn new(thread: u32) -> Self {
        const { assert!(C::TILE.step == GRAD_SUM_ROWS && C::TILE.head_dim == D) };
        let start = shared::dynamic_shared_address();
        let tile = SwizzledTile::<GRAD_SUM_ROWS>::new(start.offset(C::TILE.score_grads_offset()));
        let keys = SwizzledTile::<D>::new(start);
        let place = MmaPlace::new(thread, C::TILE.warp_rows);
        let (warp, lane) = (thread / 32, thread % 32);
        let (half, group) = (warp % 2, warp / 2);
        // Queries are columns of the tile and rows of the product: a transposed load takes them from one to the other.
        let (left, right) = (MatrixLane::columns_first(lane), MatrixLane::rows_first(lane));
        ScoreGrads {
            to: tile.chunk(place.first_row, 0).offset(place.first_column * 2),
            left: tile.place(0, MatrixLane { chunk: left.chunk + 2 * half, ..left }),
            keys: keys.place(0, MatrixLane { chunk: right.chunk + 2 * group, ..right }),
            lane,
            part: [16 * half, 16 * group],
            config: PhantomData,
        }
    }

    /// Rounds and writes the thread's gradients.
    ///
    /// # Safety
    /// A barrier has passed since those of the step before were read.
    #[inline(always)]
    pub unsafe fn store(&self, grads: &MmaTiles) {
        // Where registers are short, the places of a row's chunks are computed anew in each step.
        let to = if C::ROW_TILES > 1 { SharedAddr::new(hint::opaque(self.to.get())) } else { self.to };
        for m in 0..C::ROW_TILES {
            for n in 0..C::STEP_TILES {
                let numbers = &grads.tiles[m * C::STEP_TILES + n];
                for half in 0..2 {
                    let packed = C::Element::pack(numbers[2 * half], numbers[2 * half + 1]);
                    let at = SwizzledTile::<GRAD_SUM_ROWS>::beside(to, 16 * m + 8 * half, n);
                    // SAFETY: inside the tile, and this thread's alone.
                    unsafe { mem::st_shared_u32::<0>(at, packed) }
                }
            }
        }
    }

    /// `dS K` over all keys of the block: the warp's queries and columns.
    ///
    /// # Safety
    /// All threads have stored theirs before a barrier; all lanes of the warp execute it together.
    #[inline(always)]
    pub unsafe fn query_gradients(&self) -> MmaTiles {
        let shape = Shape { rows: 1, columns: Self::TILES, depth: (C::TILE.block_rows() / 16) as usize };
        // SAFETY: the caller's.
        unsafe {
            mma_product::of_columns::<C::Element, GRAD_SUM_ROWS, D>(shape, self.left, self.keys, Self::STRIDE)
        }
    }
}
