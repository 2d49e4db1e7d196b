//! The thread's place in its block and grid, and the waits that a whole block shares.

#[cfg(target_arch = "nvptx64")]
use crate::intrinsics;
use crate::{UVec2, UVec3};

macro_rules! special_registers {
    ($($name:ident = $intrinsic:ident, $register:literal, $what:literal;)*) => {$(
        #[doc = concat!($what, ".")]
        ///
        #[doc = concat!("PTX: `mov.u32 r, ", $register, "` (Special Registers).")]
        ///
        /// # Threads
        /// Any.
        #[inline(always)]
        pub fn $name() -> u32 {
            // SAFETY: reads a special register; nothing is asked of the caller.
            device!("thread", unsafe { intrinsics::$intrinsic() })
        }
    )*};
}

special_registers! {
    thread_idx_x = tid_x, "%tid.x", "The thread's x coordinate in its block";
    thread_idx_y = tid_y, "%tid.y", "The thread's y coordinate in its block";
    thread_idx_z = tid_z, "%tid.z", "The thread's z coordinate in its block";
    block_idx_x = ctaid_x, "%ctaid.x", "The block's x coordinate in the grid";
    block_idx_y = ctaid_y, "%ctaid.y", "The block's y coordinate in the grid";
    block_idx_z = ctaid_z, "%ctaid.z", "The block's z coordinate in the grid";
    block_dim_x = ntid_x, "%ntid.x", "Threads of a block along x";
    block_dim_y = ntid_y, "%ntid.y", "Threads of a block along y";
    block_dim_z = ntid_z, "%ntid.z", "Threads of a block along z";
    grid_dim_x = nctaid_x, "%nctaid.x", "Blocks of the grid along x";
    grid_dim_y = nctaid_y, "%nctaid.y", "Blocks of the grid along y";
    grid_dim_z = nctaid_z, "%nctaid.z", "Blocks of the grid along z";
}

/// The thread's coordinates in its block.
#[inline(always)]
pub fn thread_idx() -> UVec3 {
    UVec3::new(thread_idx_x(), thread_idx_y(), thread_idx_z())
}

/// The block's coordinates in the grid.
#[inline(always)]
pub fn block_idx() -> UVec3 {
    UVec3::new(block_idx_x(), block_idx_y(), block_idx_z())
}

/// The size of a block, in threads.
#[inline(always)]
pub fn block_dim() -> UVec3 {
    UVec3::new(block_dim_x(), block_dim_y(), block_dim_z())
}

/// The size of the grid, in blocks.
#[inline(always)]
pub fn grid_dim() -> UVec3 {
    UVec3::new(grid_dim_x(), grid_dim_y(), grid_dim_z())
}

/// The thread's index in the whole grid, x fastest, then y, then z, blocks likewise.
#[inline(always)]
pub fn index() -> u32 {
    let (thread, block, threads, blocks) = (thread_idx(), block_idx(), block_dim(), grid_dim());
    let block_id = block.x + block.y * blocks.x + block.z * blocks.x * blocks.y;
    let threads_of_block = threads.x * threads.y * threads.z;
    block_id * threads_of_block + thread.z * threads.x * threads.y + thread.y * threads.x + thread.x
}

/// The thread's x coordinate in the grid.
#[inline(always)]
pub fn index_1d() -> u32 {
    block_idx_x() * block_dim_x() + thread_idx_x()
}

/// The thread's x and y coordinates in the grid.
#[inline(always)]
pub fn index_2d() -> UVec2 {
    UVec2::new(index_1d(), block_idx_y() * block_dim_y() + thread_idx_y())
}

/// The thread's coordinates in the grid.
#[inline(always)]
pub fn index_3d() -> UVec3 {
    let UVec2 { x, y } = index_2d();
    UVec3::new(x, y, block_idx_z() * block_dim_z() + thread_idx_z())
}

/// Whether this is the first thread of the grid.
#[inline(always)]
pub fn first() -> bool {
    block_idx() == UVec3::new(0, 0, 0) && thread_idx() == UVec3::new(0, 0, 0)
}

/// Threads of a warp: 32 on every GPU.
#[inline(always)]
pub const fn warp_size() -> u32 {
    32
}

/// Waits until every thread of the block is here; what any of them wrote before, all of them see after.
///
/// PTX: `bar.sync 0` (Parallel Synchronization, `bar`).
///
/// # Threads
/// All threads of the block, none of which may have left the kernel.
#[inline(always)]
pub fn sync_threads() {
    // SAFETY: memory-safe in itself; a missing thread is a deadlock.
    device!("thread::sync_threads", unsafe { intrinsics::barrier_sync_all(0) })
}

/// [`sync_threads`] that tells each thread in how many of them `predicate` was not 0.
///
/// PTX: `bar.red.popc.u32 r, 0, p`.
///
/// # Threads
/// All threads of the block.
#[inline(always)]
pub fn sync_threads_count(predicate: u32) -> u32 {
    // SAFETY: as `sync_threads`.
    device!("thread::sync_threads_count", unsafe { intrinsics::barrier_red_popc(0, predicate != 0) })
}

/// [`sync_threads`] that answers 1 if `predicate` was not 0 in all of them, else 0.
///
/// PTX: `bar.red.and.pred q, 0, p`.
///
/// # Threads
/// All threads of the block.
#[inline(always)]
pub fn sync_threads_and(predicate: u32) -> u32 {
    // SAFETY: as `sync_threads`.
    device!("thread::sync_threads_and", unsafe { intrinsics::barrier_red_and(0, predicate != 0) as u32 })
}

/// [`sync_threads`] that answers 1 if `predicate` was not 0 in any of them, else 0.
///
/// PTX: `bar.red.or.pred q, 0, p`.
///
/// # Threads
/// All threads of the block.
#[inline(always)]
pub fn sync_threads_or(predicate: u32) -> u32 {
    // SAFETY: as `sync_threads`.
    device!("thread::sync_threads_or", unsafe { intrinsics::barrier_red_or(0, predicate != 0) as u32 })
}

/// Orders this thread's memory operations before it against those after it, as the threads of its block see them.
///
/// PTX: `membar.cta` (Parallel Synchronization, `membar`). No waiting.
///
/// # Threads
/// Any.
#[inline(always)]
pub fn block_fence() {
    // SAFETY: a fence has no precondition.
    device!("thread::block_fence", unsafe { intrinsics::membar_cta() })
}

/// Orders this thread's memory operations before it against those after it, as all threads of the GPU see them.
///
/// PTX: `membar.gl`. No waiting.
///
/// # Threads
/// Any.
#[inline(always)]
pub fn device_fence() {
    // SAFETY: a fence has no precondition.
    device!("thread::device_fence", unsafe { intrinsics::membar_gl() })
}

/// Rust-CUDA's other name for [`device_fence`]: a grid runs on one GPU.
#[inline(always)]
pub fn grid_fence() {
    device_fence();
}

/// Orders this thread's memory operations before it against those after it, as the host and other GPUs see them too.
///
/// PTX: `membar.sys`. No waiting.
///
/// # Threads
/// Any.
#[inline(always)]
pub fn system_fence() {
    // SAFETY: a fence has no precondition.
    device!("thread::system_fence", unsafe { intrinsics::membar_sys() })
}

/// Suspends the thread for about `nanoseconds`, between 0 and twice as long.
///
/// PTX: `nanosleep.u32` (sm_70).
///
/// # Threads
/// Any.
#[inline(always)]
pub fn nanosleep(nanoseconds: u32) {
    // SAFETY: no precondition.
    device!("thread::nanosleep", unsafe { intrinsics::nanosleep(nanoseconds) })
}
