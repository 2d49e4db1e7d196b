//! What all threads of a block need now and then, in shared memory instead of in every thread's registers.
//!
//! An assembler keeps whatever a loop does not change in registers, all through the products inside it, and `hint::opaque`
//! keeps only the compiler from it. A load from shared memory it does not move across a barrier.

use cuda_std::mem::{self, GlobalAddr, SharedAddr};

/// A place for some numbers, at byte offsets below [`NOTE_BYTES`](flash_attention_abi::tile::NOTE_BYTES).
///
/// One thread writes a number, between two barriers, and all threads read it behind the second.
#[derive(Clone, Copy)]
pub struct Notes {
    base: SharedAddr,
}

impl Notes {
    /// The place that begins here.
    #[inline(always)]
    pub fn new(base: SharedAddr) -> Self {
        Notes { base }
    }

    /// Writes a number.
    ///
    /// # Safety
    /// `AT` is a multiple of 4 inside the place, and no other thread accesses the number until the next barrier.
    #[inline(always)]
    pub unsafe fn put<const AT: i32>(&self, number: u32) {
        // SAFETY: the caller's.
        unsafe { mem::st_shared_u32::<AT>(self.base, number) }
    }

    /// Writes an address.
    ///
    /// # Safety
    /// As [`Notes::put`], a multiple of 8.
    #[inline(always)]
    pub unsafe fn put_address<const AT: i32>(&self, address: GlobalAddr) {
        // SAFETY: the caller's.
        unsafe { mem::st_shared_u64::<AT>(self.base, address.get()) }
    }

    /// Reads a number.
    ///
    /// # Safety
    /// It was written before a barrier.
    #[inline(always)]
    pub unsafe fn get<const AT: i32>(&self) -> u32 {
        // SAFETY: the caller's.
        unsafe { mem::ld_shared_u32::<AT>(self.base) }
    }

    /// Reads an address.
    ///
    /// # Safety
    /// As [`Notes::get`].
    #[inline(always)]
    pub unsafe fn get_address<const AT: i32>(&self) -> GlobalAddr {
        // SAFETY: the caller's.
        GlobalAddr::new(unsafe { mem::ld_shared_u64::<AT>(self.base) })
    }
}
