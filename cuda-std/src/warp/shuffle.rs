//! Shuffles: a lane reads another lane's register.

#[cfg(target_arch = "nvptx64")]
use crate::intrinsics;

mod sealed {
    pub trait Sealed {}
}

/// Values that can be shuffled: integers and floats of 8 to 128 bits, moved 32 bits an instruction.
///
/// Halves travel as their `u16` bits, packed pairs as `u32`.
pub trait WarpShuffleValue: Copy + sealed::Sealed {
    #[doc(hidden)]
    fn map_words(self, shuffle: impl FnMut(u32) -> (u32, bool)) -> (Self, bool);
}

macro_rules! one_word {
    ($($t:ty: |$v:ident| $to:expr, |$w:ident| $from:expr;)*) => {$(
        impl sealed::Sealed for $t {}
        impl WarpShuffleValue for $t {
            #[inline(always)]
            fn map_words(self, mut shuffle: impl FnMut(u32) -> (u32, bool)) -> (Self, bool) {
                let $v = self;
                let ($w, valid) = shuffle($to);
                ($from, valid)
            }
        }
    )*};
}

one_word! {
    u8: |v| v as u32, |w| w as u8;
    i8: |v| v as u32, |w| w as i8;
    u16: |v| v as u32, |w| w as u16;
    i16: |v| v as u32, |w| w as i16;
    u32: |v| v, |w| w;
    i32: |v| v as u32, |w| w as i32;
    f32: |v| v.to_bits(), |w| f32::from_bits(w);
}

macro_rules! two_words {
    ($($t:ty: |$v:ident| $to:expr, |$w:ident| $from:expr;)*) => {$(
        impl sealed::Sealed for $t {}
        impl WarpShuffleValue for $t {
            #[inline(always)]
            fn map_words(self, mut shuffle: impl FnMut(u32) -> (u32, bool)) -> (Self, bool) {
                let $v = self;
                let bits: u64 = $to;
                let (low, valid) = shuffle(bits as u32);
                let (high, _) = shuffle((bits >> 32) as u32);
                let $w = (high as u64) << 32 | low as u64;
                ($from, valid)
            }
        }
    )*};
}

two_words! {
    u64: |v| v, |w| w;
    i64: |v| v as u64, |w| w as i64;
    f64: |v| v.to_bits(), |w| f64::from_bits(w);
}

macro_rules! four_words {
    ($($t:ty),*) => {$(
        impl sealed::Sealed for $t {}
        impl WarpShuffleValue for $t {
            #[inline(always)]
            fn map_words(self, mut shuffle: impl FnMut(u32) -> (u32, bool)) -> (Self, bool) {
                let (low, valid) = (self as u64).map_words(&mut shuffle);
                let (high, _) = ((self as u128 >> 64) as u64).map_words(&mut shuffle);
                (((high as u128) << 64 | low as u128) as $t, valid)
            }
        }
    )*};
}

four_words!(u128, i128);

/// The operand that confines a shuffle to groups of `width` lanes: the group's lane bits that may not change in bits
/// 8 to 12, and the last lane of a group in bits 0 to 4 (for `up`, the first: 0).
#[cfg(any(test, target_arch = "nvptx64"))]
#[inline(always)]
const fn clamp(width: u32, last: u32) -> u32 {
    ((32 - width) << 8) | last
}

/// The value of the lane `delta` above, and whether there is one in the group; otherwise the own value.
///
/// PTX: `shfl.sync.down.b32 d|p, value, delta, clamp, mask` for each 32 bits (Data Movement, `shfl.sync`).
///
/// # Safety
/// The calling lane is in `mask`, all lanes of `mask` call with the same one, and the lane read from is in it.
/// `width` is a power of two from 1 to 32: lanes form groups of that size.
///
/// # Threads
/// All lanes of `mask`.
#[inline(always)]
pub unsafe fn warp_shuffle_down<T: WarpShuffleValue>(
    mask: u32,
    value: T,
    delta: u32,
    width: u32,
) -> (T, bool) {
    device!("warp::warp_shuffle_down", {
        // SAFETY: the caller's promise.
        value.map_words(|word| unsafe { intrinsics::shfl_down_i32p(mask, word, delta, clamp(width, 31)) })
    })
}

/// The value of the lane `delta` below, and whether there is one in the group; otherwise the own value.
///
/// PTX: `shfl.sync.up.b32 d|p, value, delta, clamp, mask` for each 32 bits.
///
/// # Safety
/// As [`warp_shuffle_down`].
///
/// # Threads
/// All lanes of `mask`.
#[inline(always)]
pub unsafe fn warp_shuffle_up<T: WarpShuffleValue>(mask: u32, value: T, delta: u32, width: u32) -> (T, bool) {
    device!("warp::warp_shuffle_up", {
        // SAFETY: the caller's promise.
        value.map_words(|word| unsafe { intrinsics::shfl_up_i32p(mask, word, delta, clamp(width, 0)) })
    })
}

/// The value of lane `lane` of the group, and whether there is one; otherwise the own value.
///
/// PTX: `shfl.sync.idx.b32 d|p, value, lane, clamp, mask` for each 32 bits.
///
/// # Safety
/// As [`warp_shuffle_down`].
///
/// # Threads
/// All lanes of `mask`.
#[inline(always)]
pub unsafe fn warp_shuffle_idx<T: WarpShuffleValue>(mask: u32, value: T, lane: u32, width: u32) -> (T, bool) {
    device!("warp::warp_shuffle_idx", {
        // SAFETY: the caller's promise.
        value.map_words(|word| unsafe { intrinsics::shfl_idx_i32p(mask, word, lane, clamp(width, 31)) })
    })
}

/// The value of the lane whose number differs in the bits of `lane_mask`, and whether it is in the group or below it;
/// otherwise the own value.
///
/// PTX: `shfl.sync.bfly.b32 d|p, value, lane_mask, clamp, mask` for each 32 bits.
///
/// # Safety
/// As [`warp_shuffle_down`].
///
/// # Threads
/// All lanes of `mask`.
#[inline(always)]
pub unsafe fn warp_shuffle_xor<T: WarpShuffleValue>(
    mask: u32,
    value: T,
    lane_mask: u32,
    width: u32,
) -> (T, bool) {
    device!("warp::warp_shuffle_xor", {
        // SAFETY: the caller's promise.
        value.map_words(|word| unsafe { intrinsics::shfl_bfly_i32p(mask, word, lane_mask, clamp(width, 31)) })
    })
}

/// The value of the lane whose number differs in the bits of `lane_mask`, within the whole warp.
///
/// PTX: `shfl.sync.bfly.b32 d, value, lane_mask, 31, mask`: one instruction, without a predicate.
///
/// # Safety
/// As [`warp_shuffle_down`], and `lane_mask < 32`.
///
/// # Threads
/// All lanes of `mask`.
#[inline(always)]
pub unsafe fn shuffle_xor_f32(mask: u32, value: f32, lane_mask: u32) -> f32 {
    // SAFETY: the caller's promise.
    device!("warp::shuffle_xor_f32", unsafe { intrinsics::shfl_bfly_f32(mask, value, lane_mask, 31) })
}

/// [`shuffle_xor_f32`] for 32 bits of any kind.
///
/// # Safety
/// As [`shuffle_xor_f32`].
///
/// # Threads
/// All lanes of `mask`.
#[inline(always)]
pub unsafe fn shuffle_xor_u32(mask: u32, value: u32, lane_mask: u32) -> u32 {
    // SAFETY: the caller's promise.
    device!("warp::shuffle_xor_u32", unsafe { intrinsics::shfl_bfly_i32(mask, value, lane_mask, 31) })
}

/// The value of lane `lane` of the whole warp.
///
/// PTX: `shfl.sync.idx.b32 d, value, lane, 31, mask`: one instruction, without a predicate.
///
/// # Safety
/// As [`warp_shuffle_down`], and `lane < 32`.
///
/// # Threads
/// All lanes of `mask`.
#[inline(always)]
pub unsafe fn shuffle_idx_f32(mask: u32, value: f32, lane: u32) -> f32 {
    // SAFETY: the caller's promise.
    device!("warp::shuffle_idx_f32", unsafe { intrinsics::shfl_idx_f32(mask, value, lane, 31) })
}

/// [`shuffle_idx_f32`] for 32 bits of any kind.
///
/// # Safety
/// As [`shuffle_idx_f32`].
///
/// # Threads
/// All lanes of `mask`.
#[inline(always)]
pub unsafe fn shuffle_idx_u32(mask: u32, value: u32, lane: u32) -> u32 {
    // SAFETY: the caller's promise.
    device!("warp::shuffle_idx_u32", unsafe { intrinsics::shfl_idx_i32(mask, value, lane, 31) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_put_back_where_they_came_from() {
        let same = |word| (word, true);
        assert_eq!((-3i8).map_words(same), (-3, true));
        assert_eq!(0xbeefu16.map_words(same), (0xbeef, true));
        assert_eq!((-0.5f32).map_words(same), (-0.5, true));
        assert_eq!((-0.25f64).map_words(same), (-0.25, true));
        assert_eq!((i64::MIN + 7).map_words(same), (i64::MIN + 7, true));
        assert_eq!((i128::MIN + 7).map_words(same), (i128::MIN + 7, true));
        let mut seen = Vec::new();
        0x0000_0004_0000_0003_0000_0002_0000_0001u128.map_words(|word| {
            seen.push(word);
            (word, true)
        });
        assert_eq!(seen, [1, 2, 3, 4]);
    }

    #[test]
    fn clamp_is_what_the_manual_says_for_a_group() {
        assert_eq!(clamp(32, 31), 0x1f);
        assert_eq!(clamp(8, 31), 0x181f);
        assert_eq!(clamp(16, 0), 0x1000);
    }

    #[test]
    #[should_panic(expected = "cuda_std::warp::shuffle_xor_f32 runs on the device only")]
    fn device_only_functions_panic_with_their_name_on_the_host() {
        // SAFETY: panics on the host.
        unsafe { shuffle_xor_f32(FULL, 1.0, 1) };
    }

    const FULL: u32 = super::super::FULL_MASK;
}
