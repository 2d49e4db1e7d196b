//! Atomic floats, for the threads of a block, a GPU or the whole system, as Rust-CUDA has them.

use core::cell::UnsafeCell;
use core::sync::atomic::Ordering;

#[cfg(target_arch = "nvptx64")]
macro_rules! fence_sc {
    ($scope:literal) => {
        // SAFETY: a fence has no precondition.
        unsafe { core::arch::asm!(concat!("fence.sc.", $scope, ";"), options(nostack, preserves_flags)) }
    };
}

macro_rules! atomic_float {
    ($($name:ident: $t:ty, $class:ident, $bits:literal, $scope:literal, $who:literal;)*) => {$(
        #[doc = concat!("A `", stringify!($t), "` that the threads of ", $who, " may share.")]
        #[repr(transparent)]
        pub struct $name(UnsafeCell<$t>);

        // SAFETY: all access to the value through a shared reference is atomic.
        unsafe impl Sync for $name {}

        impl $name {
            /// A new one.
            #[inline(always)]
            pub const fn new(value: $t) -> Self {
                Self(UnsafeCell::new(value))
            }

            /// The value.
            #[inline(always)]
            pub const fn into_inner(self) -> $t {
                self.0.into_inner()
            }

            /// Adds `value` and answers the value before; the sum of many depends on their order in the last bits.
            ///
            #[doc = concat!("PTX: `atom.ORDER.", $scope, ".add.", $bits, "` on a generic address; `SeqCst` adds `fence.sc.", $scope, "` before it.")]
            ///
            /// # Threads
            #[doc = concat!("Any of ", $who, ".")]
            #[inline(always)]
            pub fn fetch_add(&self, value: $t, order: Ordering) -> $t {
                device!("atomic::fetch_add", {
                    macro_rules! add {
                        ($order:literal) => {{
                            let before: $t;
                            // SAFETY: the reference is valid and aligned.
                            unsafe {
                                core::arch::asm!(
                                    concat!("atom.", $order, ".", $scope, ".add.", $bits, " {r}, [{p}], {v};"),
                                    r = out($class) before, p = in(reg64) self.0.get(), v = in($class) value,
                                    options(nostack, preserves_flags),
                                );
                            }
                            before
                        }};
                    }
                    match order {
                        Ordering::Relaxed => add!("relaxed"),
                        Ordering::Acquire => add!("acquire"),
                        Ordering::Release => add!("release"),
                        Ordering::AcqRel => add!("acq_rel"),
                        _ => {
                            fence_sc!($scope);
                            add!("acq_rel")
                        }
                    }
                })
            }

            /// Subtracts `value` and answers the value before: [`fetch_add`](Self::fetch_add) of `-value`.
            #[inline(always)]
            pub fn fetch_sub(&self, value: $t, order: Ordering) -> $t {
                self.fetch_add(-value, order)
            }

            /// The value.
            ///
            #[doc = concat!("PTX: `ld.relaxed.", $scope, ".", $bits, "` or `ld.acquire`; `SeqCst` adds `fence.sc.", $scope, "` before it.")]
            ///
            /// # Panics
            /// Where `order` is a releasing one, as core's atomics do.
            ///
            /// # Threads
            #[doc = concat!("Any of ", $who, ".")]
            #[inline(always)]
            pub fn load(&self, order: Ordering) -> $t {
                device!("atomic::load", {
                    macro_rules! load {
                        ($order:literal) => {{
                            let value: $t;
                            // SAFETY: the reference is valid and aligned.
                            unsafe {
                                core::arch::asm!(
                                    concat!("ld.", $order, ".", $scope, ".", $bits, " {r}, [{p}];"),
                                    r = out($class) value, p = in(reg64) self.0.get(), options(nostack, preserves_flags),
                                );
                            }
                            value
                        }};
                    }
                    match order {
                        Ordering::Relaxed => load!("relaxed"),
                        Ordering::Acquire => load!("acquire"),
                        Ordering::SeqCst => {
                            fence_sc!($scope);
                            load!("acquire")
                        }
                        _ => panic!("a load cannot release"),
                    }
                })
            }

            /// Replaces the value.
            ///
            #[doc = concat!("PTX: `st.relaxed.", $scope, ".", $bits, "` or `st.release`; `SeqCst` adds `fence.sc.", $scope, "` before it.")]
            ///
            /// # Panics
            /// Where `order` is an acquiring one, as core's atomics do.
            ///
            /// # Threads
            #[doc = concat!("Any of ", $who, ".")]
            #[inline(always)]
            pub fn store(&self, value: $t, order: Ordering) {
                device!("atomic::store", {
                    macro_rules! store {
                        ($order:literal) => {
                            // SAFETY: the reference is valid and aligned.
                            unsafe {
                                core::arch::asm!(
                                    concat!("st.", $order, ".", $scope, ".", $bits, " [{p}], {v};"),
                                    p = in(reg64) self.0.get(), v = in($class) value, options(nostack, preserves_flags),
                                );
                            }
                        };
                    }
                    match order {
                        Ordering::Relaxed => store!("relaxed"),
                        Ordering::Release => store!("release"),
                        Ordering::SeqCst => {
                            fence_sc!($scope);
                            store!("release")
                        }
                        _ => panic!("a store cannot acquire"),
                    }
                })
            }
        }
    )*};
}

atomic_float! {
    AtomicF32: f32, reg32, "f32", "gpu", "the GPU";
    AtomicF64: f64, reg64, "f64", "gpu", "the GPU";
    BlockAtomicF32: f32, reg32, "f32", "cta", "one block";
    BlockAtomicF64: f64, reg64, "f64", "cta", "one block";
    SystemAtomicF32: f32, reg32, "f32", "sys", "the system";
    SystemAtomicF64: f64, reg64, "f64", "sys", "the system";
}
