//! Arithmetic of the GPU that Rust has no word for, and conversions of the 16-bit formats.
//!
//! Everything here also computes on the host. Conversions, `fma`, `max` and `min` give the same bits there (NaN
//! payloads aside); the approximate functions give the host's value, which the GPU's is within the stated error of.

mod approx;
mod arith;
mod bf16;
mod f16;
mod gpu_float;
mod packed;

pub use approx::*;
pub use arith::*;
pub use bf16::*;
pub use f16::*;
pub use gpu_float::GpuFloat;
pub use packed::*;
