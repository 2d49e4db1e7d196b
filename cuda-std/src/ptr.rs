//! Address spaces and the generic addresses that stand for them.

#[cfg(target_arch = "nvptx64")]
use core::arch::asm;

/// The memories that a generic address can lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressSpace {
    /// Memory of the whole GPU.
    Global,
    /// The block's scratchpad.
    Shared,
    /// Read-only memory with a cache of its own.
    Constant,
    /// The thread's own memory.
    Local,
}

#[cfg(target_arch = "nvptx64")]
macro_rules! convert {
    ($instruction:literal, $value:expr) => {{
        let result: u64;
        // SAFETY: arithmetic on the address alone.
        unsafe {
            asm!(concat!($instruction, " {r}, {p};"), r = out(reg64) result, p = in(reg64) $value,
                options(pure, nomem, nostack, preserves_flags));
        }
        result
    }};
}

#[cfg(target_arch = "nvptx64")]
macro_rules! is_space {
    ($instruction:literal, $value:expr) => {{
        let result: u32;
        // SAFETY: arithmetic on the address alone.
        unsafe {
            asm!(concat!("{{ .reg .pred q; ", $instruction, " q, {p}; selp.u32 {r}, 1, 0, q; }}"),
                r = out(reg32) result, p = in(reg64) $value, options(pure, nomem, nostack, preserves_flags));
        }
        result != 0
    }};
}

/// Whether a generic pointer lies in `space`.
///
/// PTX: `isspacep.SPACE` (Data Movement, `isspacep`).
///
/// # Threads
/// Any.
#[inline(always)]
pub fn is_in_address_space<T>(pointer: *const T, space: AddressSpace) -> bool {
    device!(
        "ptr::is_in_address_space",
        match space {
            AddressSpace::Global => is_space!("isspacep.global", pointer),
            AddressSpace::Shared => is_space!("isspacep.shared", pointer),
            AddressSpace::Constant => is_space!("isspacep.const", pointer),
            AddressSpace::Local => is_space!("isspacep.local", pointer),
        }
    )
}

/// The address within `space` that a generic pointer stands for.
///
/// PTX: `cvta.to.SPACE.u64` (Data Movement, `cvta`).
///
/// # Safety
/// The pointer lies in that space. The result is no generic pointer: it must not be dereferenced by plain Rust.
///
/// # Threads
/// Any.
#[inline(always)]
pub unsafe fn convert_generic_to_specific_address_space<T>(
    pointer: *const T,
    space: AddressSpace,
) -> *const T {
    device!(
        "ptr::convert_generic_to_specific_address_space",
        (match space {
            AddressSpace::Global => convert!("cvta.to.global.u64", pointer),
            AddressSpace::Shared => convert!("cvta.to.shared.u64", pointer),
            AddressSpace::Constant => convert!("cvta.to.const.u64", pointer),
            AddressSpace::Local => convert!("cvta.to.local.u64", pointer),
        }) as *const T
    )
}

/// The generic pointer for an address within `space`.
///
/// PTX: `cvta.SPACE.u64` (Data Movement, `cvta`).
///
/// # Safety
/// `pointer` is an address within that space, as
/// [`convert_generic_to_specific_address_space`] gives it.
///
/// # Threads
/// Any.
#[inline(always)]
pub unsafe fn convert_specific_address_space_to_generic<T>(
    pointer: *const T,
    space: AddressSpace,
) -> *const T {
    device!(
        "ptr::convert_specific_address_space_to_generic",
        (match space {
            AddressSpace::Global => convert!("cvta.global.u64", pointer),
            AddressSpace::Shared => convert!("cvta.shared.u64", pointer),
            AddressSpace::Constant => convert!("cvta.const.u64", pointer),
            AddressSpace::Local => convert!("cvta.local.u64", pointer),
        }) as *const T
    )
}
