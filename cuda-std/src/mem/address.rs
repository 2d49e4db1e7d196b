//! Addresses that know their address space.

#[cfg(target_arch = "nvptx64")]
use core::arch::asm;

/// An address in the block's shared memory: a byte offset in the 32-bit shared window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct SharedAddr(u32);

impl SharedAddr {
    /// The address with this value in the shared window.
    #[inline(always)]
    pub const fn new(window: u32) -> Self {
        Self(window)
    }

    /// Its value in the shared window, as `ldmatrix`, `cp.async` and matrix descriptors want it.
    #[inline(always)]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The address `bytes` further on.
    #[inline(always)]
    #[must_use]
    pub const fn offset(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// The shared address that a generic pointer into shared memory stands for.
    ///
    /// PTX: `cvta.to.shared.u64` (Data Movement, `cvta`).
    ///
    /// # Safety
    /// `pointer` points into shared memory of this block.
    ///
    /// # Threads
    /// Any.
    #[inline(always)]
    pub unsafe fn from_generic<T>(pointer: *const T) -> Self {
        device!("mem::SharedAddr::from_generic", {
            let address: u64;
            // SAFETY: arithmetic on the address alone.
            unsafe {
                asm!("cvta.to.shared.u64 {a}, {p};", a = out(reg64) address, p = in(reg64) pointer,
                     options(pure, nomem, nostack, preserves_flags));
            }
            Self(address as u32)
        })
    }

    /// A generic pointer to this address.
    ///
    /// PTX: `cvta.shared.u64` (Data Movement, `cvta`).
    ///
    /// # Threads
    /// Any; the pointer means this block's memory only.
    #[inline(always)]
    pub fn to_generic<T>(self) -> *mut T {
        device!("mem::SharedAddr::to_generic", {
            let pointer: *mut T;
            // SAFETY: arithmetic on the address alone.
            unsafe {
                asm!("cvta.shared.u64 {p}, {a};", p = out(reg64) pointer, a = in(reg64) self.0 as u64,
                     options(pure, nomem, nostack, preserves_flags));
            }
            pointer
        })
    }
}

/// An address in global memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct GlobalAddr(u64);

impl GlobalAddr {
    /// The address with this value in the global space (as `cvta.to.global` gives it).
    #[inline(always)]
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// Its value in the global space.
    #[inline(always)]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The address `bytes` further on.
    #[inline(always)]
    #[must_use]
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// The address `bytes` further on or back.
    #[inline(always)]
    #[must_use]
    pub const fn offset_signed(self, bytes: i64) -> Self {
        Self(self.0.wrapping_add_signed(bytes))
    }

    /// The global address that a generic one stands for: what the host passes to a kernel is generic.
    ///
    /// PTX: `cvta.to.global.u64` (Data Movement, `cvta`). The answer for an address that is not in global memory means
    /// nothing; using it is what the accesses' `# Safety` forbids.
    ///
    /// # Threads
    /// Any.
    #[inline(always)]
    pub fn from_generic(address: u64) -> Self {
        device!("mem::GlobalAddr::from_generic", {
            let global: u64;
            // SAFETY: arithmetic on the address alone.
            unsafe {
                asm!("cvta.to.global.u64 {g}, {a};", g = out(reg64) global, a = in(reg64) address,
                     options(pure, nomem, nostack, preserves_flags));
            }
            Self(global)
        })
    }

    /// [`from_generic`](Self::from_generic) of a pointer.
    #[inline(always)]
    pub fn from_ptr<T>(pointer: *const T) -> Self {
        Self::from_generic(pointer as u64)
    }
}
