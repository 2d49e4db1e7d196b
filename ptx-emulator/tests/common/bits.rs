//! The bits of small integers in the types of matrix products.

use half::{bf16 as Bf16, f16 as F16};

/// Exact to 2048.
pub fn f16(x: i32) -> u32 {
    F16::from_f32(x as f32).to_bits().into()
}

/// Exact to 256.
pub fn bf16(x: i32) -> u32 {
    Bf16::from_f32(x as f32).to_bits().into()
}

/// From -4 to 4.
pub fn e4m3(x: i32) -> u32 {
    (if x < 0 { 0x80 } else { 0 }) | [0u32, 0x38, 0x40, 0x44, 0x48][x.unsigned_abs() as usize]
}

/// From -4 to 4.
pub fn e5m2(x: i32) -> u32 {
    (if x < 0 { 0x80 } else { 0 }) | [0u32, 0x3c, 0x40, 0x42, 0x44][x.unsigned_abs() as usize]
}
