//! How tensors are stored: f32, f16 or bf16, widened to f32 on the way in and rounded to nearest even on the way out.

use cuda_std::mem::{self, GlobalAddr};
use cuda_std::{float, mma};

/// A storage type.
pub trait Element: 'static {
    /// Bytes of one element.
    const BYTES: u32;
    /// Elements of a 16-byte piece.
    const PER_PIECE: u32 = 16 / Self::BYTES;

    /// Reads one element.
    ///
    /// # Safety
    /// `address` is that of a readable element.
    unsafe fn load(address: GlobalAddr) -> f32;

    /// Reads four elements side by side, as one instruction.
    ///
    /// # Safety
    /// `address` is that of four readable elements and a multiple of their size.
    unsafe fn load4(address: GlobalAddr) -> [f32; 4];

    /// Rounds to storage and writes one element.
    ///
    /// # Safety
    /// `address` is that of a writable element.
    unsafe fn store(address: GlobalAddr, value: f32);

    /// Rounds to storage and writes two elements side by side, as one instruction.
    ///
    /// # Safety
    /// `address` is that of two writable elements and a multiple of their size.
    unsafe fn store2(address: GlobalAddr, values: [f32; 2]);

    /// Rounds to storage and writes four elements side by side, as one instruction.
    ///
    /// # Safety
    /// `address` is that of four writable elements and a multiple of their size.
    unsafe fn store4(address: GlobalAddr, values: [f32; 4]);

    /// Elements `4 * quarter .. 4 * quarter + 4` of a 16-byte piece.
    fn widen(piece: [u32; 4], quarter: usize) -> [f32; 4];
}

/// IEEE binary32.
pub enum F32 {}

impl Element for F32 {
    const BYTES: u32 = 4;

    #[inline(always)]
    unsafe fn load(address: GlobalAddr) -> f32 {
        // SAFETY: the caller's.
        f32::from_bits(unsafe { mem::ld_global_nc_u32::<0>(address) })
    }

    #[inline(always)]
    unsafe fn load4(address: GlobalAddr) -> [f32; 4] {
        // SAFETY: the caller's.
        unsafe { mem::ld_global_nc_v4_u32::<0>(address) }.map(f32::from_bits)
    }

    #[inline(always)]
    unsafe fn store(address: GlobalAddr, value: f32) {
        // SAFETY: the caller's.
        unsafe { mem::st_global_u32::<0>(address, value.to_bits()) }
    }

    #[inline(always)]
    unsafe fn store2(address: GlobalAddr, values: [f32; 2]) {
        // SAFETY: the caller's.
        unsafe { mem::st_global_v2_u32::<0>(address, values.map(f32::to_bits)) }
    }

    #[inline(always)]
    unsafe fn store4(address: GlobalAddr, values: [f32; 4]) {
        // SAFETY: the caller's.
        unsafe { mem::st_global_v4_u32::<0>(address, values.map(f32::to_bits)) }
    }

    #[inline(always)]
    fn widen(piece: [u32; 4], _quarter: usize) -> [f32; 4] {
        piece.map(f32::from_bits)
    }
}

macro_rules! half_element {
    ($(#[$doc:meta])* $name:ident, $to_f32:path, $from_f32:path, $widen2:path, $narrow2:path) => {
        $(#[$doc])*
        pub enum $name {}

        impl Element for $name {
            const BYTES: u32 = 2;

            #[inline(always)]
            unsafe fn load(address: GlobalAddr) -> f32 {
                // SAFETY: the caller's.
                $to_f32(unsafe { mem::ld_global_nc_u16::<0>(address) })
            }

            #[inline(always)]
            unsafe fn load4(address: GlobalAddr) -> [f32; 4] {
                // SAFETY: the caller's.
                let [low, high] = unsafe { mem::ld_global_nc_v2_u32::<0>(address) };
                let ([a, b], [c, d]) = ($widen2(low), $widen2(high));
                [a, b, c, d]
            }

            #[inline(always)]
            unsafe fn store(address: GlobalAddr, value: f32) {
                // SAFETY: the caller's.
                unsafe { mem::st_global_u16::<0>(address, $from_f32(value)) }
            }

            #[inline(always)]
            unsafe fn store2(address: GlobalAddr, [a, b]: [f32; 2]) {
                // SAFETY: the caller's.
                unsafe { mem::st_global_u32::<0>(address, $narrow2(a, b)) }
            }

            #[inline(always)]
            unsafe fn store4(address: GlobalAddr, [a, b, c, d]: [f32; 4]) {
                // SAFETY: the caller's.
                unsafe { mem::st_global_v2_u32::<0>(address, [$narrow2(a, b), $narrow2(c, d)]) }
            }

            #[inline(always)]
            fn widen(piece: [u32; 4], quarter: usize) -> [f32; 4] {
                let [a, b] = $widen2(piece[2 * quarter]);
                let [c, d] = $widen2(piece[2 * quarter + 1]);
                [a, b, c, d]
            }
        }
    };
}

half_element!(
    /// IEEE binary16.
    F16,
    float::f16_bits_to_f32,
    float::f32_to_f16_bits_rn,
    float::f16x2_to_f32x2,
    float::f32x2_to_f16x2
);
half_element!(
    /// bfloat16.
    Bf16,
    float::bf16_bits_to_f32,
    float::f32_to_bf16_bits_rn,
    float::bf16x2_to_f32x2,
    float::f32x2_to_bf16x2
);

/// A storage type that tensor cores multiply.
pub trait HalfElement: Element {
    /// Rounds two numbers to storage, the first in the lower half.
    fn pack(low: f32, high: f32) -> u32;

    /// `d += a * b`: 16 x 16 times 16 x 8.
    ///
    /// # Safety
    /// All lanes of the warp execute it together.
    unsafe fn multiply(d: &mut [f32; 4], a: [u32; 4], b: [u32; 2]);
}

macro_rules! tensor_core_element {
    ($name:ident, $pack:path, $multiply:path) => {
        impl HalfElement for $name {
            #[inline(always)]
            fn pack(low: f32, high: f32) -> u32 {
                $pack(low, high)
            }

            #[inline(always)]
            unsafe fn multiply(d: &mut [f32; 4], a: [u32; 4], b: [u32; 2]) {
                // SAFETY: the caller's.
                unsafe { $multiply(d, a, b) }
            }
        }
    };
}

tensor_core_element!(F16, float::pack_f16x2, mma::m16n8k16_f16);
tensor_core_element!(Bf16, float::pack_bf16x2, mma::m16n8k16_bf16);
