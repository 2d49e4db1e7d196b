//! Loads and stores of shared memory, scalar and vector.

use super::SharedAddr;

/// Writes the functions that load one, two or four values with one instruction.
macro_rules! loads {
    ($module:literal, $address:ident, $reg:ident; $($name:ident: $op:literal => $t:ty, $class:ident, $n:tt, $size:literal;)*) => {$(
        #[doc = concat!("Loads ", stringify!($n), " × `", stringify!($t), "` from `address + OFFSET` bytes.")]
        ///
        #[doc = concat!("PTX: `", $op, " …, [address+OFFSET]` (Data Movement, `ld`).")]
        ///
        /// # Safety
        #[doc = concat!("The ", $size, " bytes are allocated, initialised, and aligned to ", $size, "; no thread writes them at the same time.")]
        ///
        /// # Threads
        /// Any.
        #[inline(always)]
        pub unsafe fn $name<const OFFSET: i32>(address: $address) -> crate::mem::shared::loads!(@type $n $t) {
            device!($module, crate::mem::shared::loads!(@body $n $op $t, $class, $reg, address, OFFSET))
        }
    )*};
    (@type 1 $t:ty) => { $t };
    (@type $n:tt $t:ty) => { [$t; $n] };
    (@body 1 $op:literal $t:ty, $class:ident, $reg:ident, $address:ident, $offset:ident) => {{
        let a: $t;
        // SAFETY: the caller's promise.
        unsafe {
            core::arch::asm!(concat!($op, " {a}, [{p}+{o}];"),
                a = out($class) a, p = in($reg) $address.get(), o = const $offset, options(nostack, preserves_flags));
        }
        a
    }};
    (@body 2 $op:literal $t:ty, $class:ident, $reg:ident, $address:ident, $offset:ident) => {{
        let (a, b): ($t, $t);
        // SAFETY: the caller's promise.
        unsafe {
            core::arch::asm!(concat!($op, " {{{a}, {b}}}, [{p}+{o}];"), a = out($class) a, b = out($class) b,
                p = in($reg) $address.get(), o = const $offset, options(nostack, preserves_flags));
        }
        [a, b]
    }};
    (@body 4 $op:literal $t:ty, $class:ident, $reg:ident, $address:ident, $offset:ident) => {{
        let (a, b, c, d): ($t, $t, $t, $t);
        // SAFETY: the caller's promise.
        unsafe {
            core::arch::asm!(concat!($op, " {{{a}, {b}, {c}, {d}}}, [{p}+{o}];"), a = out($class) a,
                b = out($class) b, c = out($class) c, d = out($class) d,
                p = in($reg) $address.get(), o = const $offset, options(nostack, preserves_flags));
        }
        [a, b, c, d]
    }};
}
pub(super) use loads;

/// Writes the functions that store one, two or four values with one instruction.
macro_rules! stores {
    ($module:literal, $address:ident, $reg:ident; $($name:ident: $op:literal <= $t:ty, $class:ident, $n:tt, $size:literal;)*) => {$(
        #[doc = concat!("Stores ", stringify!($n), " × `", stringify!($t), "` to `address + OFFSET` bytes.")]
        ///
        #[doc = concat!("PTX: `", $op, " [address+OFFSET], …` (Data Movement, `st`).")]
        ///
        /// # Safety
        #[doc = concat!("The ", $size, " bytes are allocated and aligned to ", $size, "; no other thread touches them at the same time.")]
        ///
        /// # Threads
        /// Any.
        #[inline(always)]
        pub unsafe fn $name<const OFFSET: i32>(address: $address, value: crate::mem::shared::loads!(@type $n $t)) {
            device!($module, crate::mem::shared::stores!(@body $n $op $class, $reg, address, OFFSET, value))
        }
    )*};
    (@body 1 $op:literal $class:ident, $reg:ident, $address:ident, $offset:ident, $value:ident) => {
        // SAFETY: the caller's promise.
        unsafe {
            core::arch::asm!(concat!($op, " [{p}+{o}], {a};"), a = in($class) $value,
                p = in($reg) $address.get(), o = const $offset, options(nostack, preserves_flags));
        }
    };
    (@body 2 $op:literal $class:ident, $reg:ident, $address:ident, $offset:ident, $value:ident) => {{
        let [a, b] = $value;
        // SAFETY: the caller's promise.
        unsafe {
            core::arch::asm!(concat!($op, " [{p}+{o}], {{{a}, {b}}};"), a = in($class) a, b = in($class) b,
                p = in($reg) $address.get(), o = const $offset, options(nostack, preserves_flags));
        }
    }};
    (@body 4 $op:literal $class:ident, $reg:ident, $address:ident, $offset:ident, $value:ident) => {{
        let [a, b, c, d] = $value;
        // SAFETY: the caller's promise.
        unsafe {
            core::arch::asm!(concat!($op, " [{p}+{o}], {{{a}, {b}, {c}, {d}}};"), a = in($class) a,
                b = in($class) b, c = in($class) c, d = in($class) d,
                p = in($reg) $address.get(), o = const $offset, options(nostack, preserves_flags));
        }
    }};
}
pub(super) use stores;

loads! { "mem::ld_shared", SharedAddr, reg32;
    ld_shared_u8: "ld.shared.u8" => u32, reg32, 1, "1";
    ld_shared_u16: "ld.shared.b16" => u16, reg16, 1, "2";
    ld_shared_u32: "ld.shared.b32" => u32, reg32, 1, "4";
    ld_shared_v2_u32: "ld.shared.v2.b32" => u32, reg32, 2, "8";
    ld_shared_v4_u32: "ld.shared.v4.b32" => u32, reg32, 4, "16";
    ld_shared_u64: "ld.shared.b64" => u64, reg64, 1, "8";
    ld_shared_f32: "ld.shared.f32" => f32, reg32, 1, "4";
    ld_shared_v2_f32: "ld.shared.v2.f32" => f32, reg32, 2, "8";
    ld_shared_v4_f32: "ld.shared.v4.f32" => f32, reg32, 4, "16";
}

stores! { "mem::st_shared", SharedAddr, reg32;
    st_shared_u8: "st.shared.u8" <= u32, reg32, 1, "1";
    st_shared_u16: "st.shared.b16" <= u16, reg16, 1, "2";
    st_shared_u32: "st.shared.b32" <= u32, reg32, 1, "4";
    st_shared_v2_u32: "st.shared.v2.b32" <= u32, reg32, 2, "8";
    st_shared_v4_u32: "st.shared.v4.b32" <= u32, reg32, 4, "16";
    st_shared_u64: "st.shared.b64" <= u64, reg64, 1, "8";
    st_shared_f32: "st.shared.f32" <= f32, reg32, 1, "4";
    st_shared_v2_f32: "st.shared.v2.f32" <= f32, reg32, 2, "8";
    st_shared_v4_f32: "st.shared.v4.f32" <= f32, reg32, 4, "16";
}
