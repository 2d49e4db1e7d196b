//! The contract of host and device: what both must agree on bit for bit, and nothing else.
//!
//! * [`params`]: the `#[repr(C)]` structs that a launch passes by value.
//! * [`tile`]: block sizes, threads and shared-memory bytes of every kernel, each with its reason.
//! * [`flash`]: the same of the kernels for tensor cores.
//! * [`entry`]: the one list of entry points.
//! * [`philox`]: which attention weights dropout keeps.
//!
//! The crate is `no_std` and has no dependency; it compiles for the host and for the device.
#![no_std]

pub mod entry;
pub mod flash;
pub mod params;
pub mod philox;
pub mod tile;

pub use entry::{ENTRY_POINTS, EntryPoint, FLASH_ENTRY_POINTS, FlashEntryPoint, FlashKernel, Kernel};
pub use params::{BackwardParams, ForwardParams, ProblemParams, TensorParam};
pub use tile::{HEAD_DIM_TILES, MAX_HEAD_DIM, TileConfig};

/// The storage type of a tensor's elements. Arithmetic is in f32 whatever the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Dtype {
    /// IEEE binary32.
    F32 = 0,
    /// IEEE binary16.
    F16 = 1,
    /// bfloat16: the upper half of an f32.
    Bf16 = 2,
}

impl Dtype {
    /// Every storage type.
    pub const ALL: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }

    /// The name used in kernel names, files and messages: `f32`, `f16`, `bf16`.
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
        }
    }
}
