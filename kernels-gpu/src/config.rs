//! One type per specialisation of a kernel.

use crate::element::{Element, HalfElement};
use crate::tiles::fragment::{MAX_ROWS, Output, Scores};
use crate::tiles::layout::ScoreLayout;
use crate::tiles::mma_fragment::{MAX_TILES, MmaTiles};
use flash_attention_abi::flash::{
    FlashGradTile, FlashTile, flash_forward_tile, flash_general_grad_tile, flash_general_tile,
    flash_grad_tile, flash_paired_grad_tile, flash_split_general_tile, flash_split_tile,
};
use flash_attention_abi::tile::{
    BLOCK_COLUMNS, COLUMNS_PER_THREAD, WARP_COLUMNS, backward_tile, forward_tile,
};
use flash_attention_abi::{ProblemParams, TileConfig};
use flash_attention_geometry::fragment::ThreadPlace;
use flash_attention_geometry::mma::MmaPlace;
use flash_attention_geometry::shared::SharedPlan;

/// What a kernel is specialised for; everything in it is a constant.
pub trait KernelConfig: ScoreLayout<Fragment = Scores, Place = ThreadPlace> + 'static {
    /// Storage type of all tensors.
    type Element: Element;
    /// Division of the work.
    const TILE: TileConfig;

    /// Output columns that one thread owns.
    const OUTPUT_COLUMNS: usize = (Self::TILE.head_dim / WARP_COLUMNS) as usize;
    /// Rows that the block owns.
    const BLOCK_ROWS: u32 = Self::TILE.block_rows();
    /// Where the tiles lie in shared memory.
    const SHARED: SharedPlan = SharedPlan::new(&Self::TILE);
    /// Slices of the head dim.
    const SLICES: u32 = Self::TILE.head_dim / Self::TILE.slice;
    /// Slabs of a block of the streamed operand.
    const SLABS: u32 = BLOCK_COLUMNS / Self::TILE.slab;
    /// The assumptions that the types make.
    const VALID: () =
        assert!(Self::ROWS <= MAX_ROWS && Self::OUTPUT_COLUMNS <= size_of::<Output>() / 4 / MAX_ROWS);
}

/// Forward for a storage type and a head-dim tile.
pub struct Forward<E, const HEAD_DIM: u32>(core::marker::PhantomData<E>);

impl<E: Element, const HEAD_DIM: u32> KernelConfig for Forward<E, HEAD_DIM> {
    type Element = E;
    const TILE: TileConfig = forward_tile(HEAD_DIM);
}

/// The backward kernels for a storage type and a head-dim tile.
pub struct Backward<E, const HEAD_DIM: u32>(core::marker::PhantomData<E>);

impl<E: Element, const HEAD_DIM: u32> KernelConfig for Backward<E, HEAD_DIM> {
    type Element = E;
    const TILE: TileConfig = backward_tile(HEAD_DIM);
}

macro_rules! cuda_core_layout {
    ($($config:ident),*) => {$(
        impl<E: Element, const HEAD_DIM: u32> ScoreLayout for $config<E, HEAD_DIM> {
            type Fragment = Scores;
            type Place = ThreadPlace;
            const ROWS: usize = Self::TILE.rows_per_thread as usize;
            const COLUMNS: usize = COLUMNS_PER_THREAD as usize;

            #[inline(always)]
            fn element(fragment: &mut Scores, i: usize, j: usize) -> &mut f32 {
                &mut fragment.rows[i][j]
            }

            #[inline(always)]
            fn row(place: ThreadPlace, i: usize) -> u32 {
                place.row(i as u32)
            }

            #[inline(always)]
            fn column(place: ThreadPlace, j: usize) -> u32 {
                place.score_column(j as u32)
            }
        }
    )*};
}
cuda_core_layout!(Forward, Backward);

/// What a kernel for tensor cores is specialised for.
pub trait FlashConfig: ScoreLayout<Fragment = MmaTiles, Place = MmaPlace> + 'static {
    /// Storage type of all tensors.
    type Element: HalfElement;
    /// Division of the work.
    const TILE: FlashTile;

    /// Whether more happens to scores and weights than a positive factor and a band.
    const GENERAL: bool;

    /// 16-row tiles of a warp.
    const ROW_TILES: usize = (Self::TILE.warp_rows / 16) as usize;
    /// 8-column tiles of the scores.
    const SCORE_TILES: usize = (Self::TILE.block_keys / 8) as usize;
    /// 8-column tiles of the output.
    const OUTPUT_TILES: usize = (Self::TILE.value_dim / 8) as usize;
    /// 16-column steps of the first product.
    const DEPTH: usize = (Self::TILE.head_dim / 16) as usize;
    /// Those whose queries are kept in registers.
    const KEPT_DEPTH: usize = (Self::TILE.kept_columns / 16) as usize;
    /// The assumptions that the types make.
    const FLASH_VALID: () = assert!(
        Self::ROW_TILES * Self::SCORE_TILES <= MAX_TILES && Self::ROW_TILES * Self::OUTPUT_TILES <= MAX_TILES
    );
}

macro_rules! flash_config {
    ($(#[$doc:meta])* $name:ident, $tile:path, $general:literal) => {
        $(#[$doc])*
        pub struct $name<E, const HEAD_DIM: u32, const VALUE_DIM: u32>(core::marker::PhantomData<E>);

        impl<E: HalfElement, const HEAD_DIM: u32, const VALUE_DIM: u32> FlashConfig for $name<E, HEAD_DIM, VALUE_DIM> {
            type Element = E;
            const TILE: FlashTile = $tile(HEAD_DIM, VALUE_DIM);
            const GENERAL: bool = $general;
        }
    };
}

flash_config! {
    /// Forward on tensor cores for a storage type and padded head dims, where scores need a factor and a band alone.
    FlashForward, flash_forward_tile, false
}
flash_config! {
    /// The same with everything else that may happen to scores and weights.
    FlashGeneral, flash_general_tile, true
}
flash_config! {
    /// Forward of a part of the keys, where scores need a factor and a band alone.
    FlashSplit, flash_split_tile, false
}
flash_config! {
    /// The same with everything else that may happen to scores and weights.
    FlashSplitGeneral, flash_split_general_tile, true
}

/// What a backward kernel for tensor cores is specialised for.
pub trait FlashGradConfig: ScoreLayout<Fragment = MmaTiles, Place = MmaPlace> + 'static {
    /// Storage type of all tensors.
    type Element: HalfElement;
    /// Division of the work.
    const TILE: FlashGradTile;
    /// Whether more happens to scores and weights than a positive factor and a band.
    const GENERAL: bool;

    /// 16-row tiles of a warp.
    const ROW_TILES: usize = (Self::TILE.warp_rows / 16) as usize;
    /// 8-column tiles of a step that a warp owns.
    const STEP_TILES: usize = (Self::TILE.warp_columns() / 8) as usize;
    /// The assumptions that the types make.
    const GRAD_VALID: () = {
        let widest = if Self::TILE.head_dim > Self::TILE.value_dim {
            Self::TILE.head_dim
        } else {
            Self::TILE.value_dim
        };
        assert!(Self::ROW_TILES * Self::STEP_TILES <= MAX_TILES);
        assert!(Self::ROW_TILES * (widest / 8) as usize <= MAX_TILES);
    };
}

macro_rules! flash_grad_config {
    ($(#[$doc:meta])* $name:ident, $tile:path, $general:literal) => {
        $(#[$doc])*
        pub struct $name<E, const HEAD_DIM: u32, const VALUE_DIM: u32>(core::marker::PhantomData<E>);

        impl<E: HalfElement, const HEAD_DIM: u32, const VALUE_DIM: u32> FlashGradConfig for $name<E, HEAD_DIM, VALUE_DIM> {
            type Element = E;
            const TILE: FlashGradTile = $tile(HEAD_DIM, VALUE_DIM);
            const GENERAL: bool = $general;
        }
    };
}

flash_grad_config! {
    /// Backward on tensor cores for a storage type and padded head dims, where scores need a factor and a band alone.
    FlashGrad, flash_grad_tile, false
}
flash_grad_config! {
    /// The same with everything else that may happen to scores and weights.
    FlashGeneralGrad, flash_general_grad_tile, true
}

flash_grad_config! {
    /// The fused kernel whose warps share rows, for wide head dims.
    FlashWideGrad, flash_paired_grad_tile, false
}
flash_grad_config! {
    /// The same with everything else that may happen to scores and weights, for all head dims.
    FlashGeneralFusedGrad, flash_paired_grad_tile, true
}

macro_rules! tensor_core_layout {
    ($($config:ident: $tiles:ident),*) => {$(
        impl<E: HalfElement, const HEAD_DIM: u32, const VALUE_DIM: u32> ScoreLayout for $config<E, HEAD_DIM, VALUE_DIM> {
            type Fragment = MmaTiles;
            type Place = MmaPlace;
            const ROWS: usize = 2 * Self::ROW_TILES;
            const COLUMNS: usize = 2 * Self::$tiles;

            #[inline(always)]
            fn element(fragment: &mut MmaTiles, i: usize, j: usize) -> &mut f32 {
                &mut fragment.tiles[i / 2 * Self::$tiles + j / 2][2 * (i % 2) + j % 2]
            }

            #[inline(always)]
            fn row(place: MmaPlace, i: usize) -> u32 {
                place.row(i as u32)
            }

            #[inline(always)]
            fn column(place: MmaPlace, j: usize) -> u32 {
                place.column(j as u32)
            }
        }
    )*};
}
tensor_core_layout!(
    FlashForward: SCORE_TILES,
    FlashGeneral: SCORE_TILES,
    FlashSplit: SCORE_TILES,
    FlashSplitGeneral: SCORE_TILES,
    FlashGrad: STEP_TILES,
    FlashGeneralGrad: STEP_TILES,
    FlashWideGrad: STEP_TILES,
    FlashGeneralFusedGrad: STEP_TILES
);

/// Tells the compiler what the host has checked: nothing is divided by zero. (Where such a number is made anew with another one that
/// hides it, a trap remains that is never met.)
///
/// # Safety
/// The problem comes from the host's plan.
#[inline(always)]
pub unsafe fn assume_checked(problem: &ProblemParams) {
    // SAFETY: the caller's.
    unsafe {
        core::hint::assert_unchecked(problem.queries > 0 && problem.keys > 0);
        core::hint::assert_unchecked(problem.key_heads > 0 && problem.query_heads >= problem.key_heads);
        core::hint::assert_unchecked(problem.bias_heads > 0);
    }
}
