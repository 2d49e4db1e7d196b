//! One type per specialisation of a kernel.

use crate::element::Element;
use crate::tiles::fragment::{MAX_ROWS, Output};
use flash_attention_abi::tile::{
    BLOCK_COLUMNS, COLUMNS_PER_THREAD, WARP_COLUMNS, backward_tile, forward_tile,
};
use flash_attention_abi::{ProblemParams, TileConfig};
use flash_attention_geometry::shared::SharedPlan;

/// What a kernel is specialised for; everything in it is a constant.
pub trait KernelConfig: 'static {
    /// Storage type of all tensors.
    type Element: Element;
    /// Division of the work.
    const TILE: TileConfig;

    /// Rows that one thread owns.
    const ROWS: usize = Self::TILE.rows_per_thread as usize;
    /// Score columns that one thread owns.
    const COLUMNS: usize = COLUMNS_PER_THREAD as usize;
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

/// Tells the compiler what the host has checked: nothing is divided by zero, so that kernels contain no panic.
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
