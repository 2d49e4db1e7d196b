//! Reductions over a warp, by shuffles: five exchanges with the lane 16, 8, 4, 2 and 1 away.

use super::{shuffle_xor_f32, shuffle_xor_u32};

/// What [`warp_reduce`] makes of the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WarpReductionOp {
    /// Their sum, wrapping.
    Add,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// Their bitwise and.
    And,
    /// Their bitwise or.
    Or,
    /// Their bitwise exclusive or.
    Xor,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for i32 {}
}

/// Values that [`warp_reduce`] takes.
pub trait WarpReduceValue: Copy + sealed::Sealed {
    #[doc(hidden)]
    fn bits(self) -> u32;
    #[doc(hidden)]
    fn from_bits(bits: u32) -> Self;
    #[doc(hidden)]
    fn combine(self, other: Self, op: WarpReductionOp) -> Self;
}

macro_rules! reduce_value {
    ($($t:ty),*) => {$(
        impl WarpReduceValue for $t {
            #[inline(always)]
            fn bits(self) -> u32 {
                self as u32
            }
            #[inline(always)]
            fn from_bits(bits: u32) -> Self {
                bits as $t
            }
            #[inline(always)]
            fn combine(self, other: Self, op: WarpReductionOp) -> Self {
                match op {
                    WarpReductionOp::Add => self.wrapping_add(other),
                    WarpReductionOp::Min => self.min(other),
                    WarpReductionOp::Max => self.max(other),
                    WarpReductionOp::And => self & other,
                    WarpReductionOp::Or => self | other,
                    WarpReductionOp::Xor => self ^ other,
                }
            }
        }
    )*};
}

reduce_value!(u32, i32);

/// The values of all 32 lanes combined, in every lane.
///
/// PTX: five `shfl.sync.bfly.b32` (`redux.sync` does it in one from sm_80 on; this crate's PTX starts at sm_70).
/// Rust-CUDA's takes any mask; this one needs the whole warp.
///
/// # Safety
/// `mask` is [`FULL_MASK`](super::FULL_MASK), and all lanes call with it.
///
/// # Threads
/// The whole warp.
#[inline(always)]
pub unsafe fn warp_reduce<T: WarpReduceValue>(mask: u32, value: T, op: WarpReductionOp) -> T {
    // SAFETY: the caller's promise.
    let exchange = |v: T, lanes| unsafe { T::from_bits(shuffle_xor_u32(mask, v.bits(), lanes)) };
    let value = value.combine(exchange(value, 16), op);
    let value = value.combine(exchange(value, 8), op);
    let value = value.combine(exchange(value, 4), op);
    let value = value.combine(exchange(value, 2), op);
    value.combine(exchange(value, 1), op)
}

/// The sum over groups of `WIDTH` lanes, in every lane of the group.
///
/// PTX: `log2(WIDTH)` times `shfl.sync.bfly.b32` and `add.f32`. Every lane gets the same bits: the order is that of a tree.
///
/// # Safety
/// As [`warp_shuffle_down`](super::warp_shuffle_down).
///
/// # Threads
/// All lanes of `mask`, which consists of whole groups.
#[inline(always)]
pub unsafe fn group_sum_f32<const WIDTH: u32>(mask: u32, value: f32) -> f32 {
    // SAFETY: the caller's promise.
    unsafe { group_reduce_f32::<WIDTH>(mask, value, |a, b| a + b) }
}

/// The greatest over groups of `WIDTH` lanes, in every lane of the group; NaN only where all are.
///
/// PTX: `log2(WIDTH)` times `shfl.sync.bfly.b32` and `max.f32`.
///
/// # Safety
/// As [`warp_shuffle_down`](super::warp_shuffle_down).
///
/// # Threads
/// All lanes of `mask`, which consists of whole groups.
#[inline(always)]
pub unsafe fn group_max_f32<const WIDTH: u32>(mask: u32, value: f32) -> f32 {
    // SAFETY: the caller's promise.
    unsafe { group_reduce_f32::<WIDTH>(mask, value, crate::float::max) }
}

/// Combines over groups of `WIDTH` lanes: with the lane `WIDTH / 2` away first, with the neighbour last.
///
/// # Safety
/// As [`warp_shuffle_down`](super::warp_shuffle_down).
#[inline(always)]
unsafe fn group_reduce_f32<const WIDTH: u32>(
    mask: u32,
    mut value: f32,
    combine: impl Fn(f32, f32) -> f32,
) -> f32 {
    const { assert!(WIDTH.is_power_of_two() && WIDTH <= 32, "a group is 1, 2, 4, 8, 16 or 32 lanes") };
    // Written out: a loop over the constant would need an unroller, and a shuffle in a loop is harder to count.
    macro_rules! step {
        ($($lanes:literal),*) => {$(
            if WIDTH > $lanes {
                // SAFETY: the caller's promise.
                value = combine(value, unsafe { shuffle_xor_f32(mask, value, $lanes) });
            }
        )*};
    }
    step!(16, 8, 4, 2, 1);
    value
}
