//! Memory accesses with their address space, width and order spelled out: one instruction a function.
//!
//! Plain Rust loads and stores are right for single elements through pointers that are kernel parameters of their own;
//! LLVM makes `ld.global` of those. Everything else (shared memory, pointers inside parameter structs, vectors) is
//! generic to LLVM, and the functions here say what it cannot know.
//!
//! # Order
//! None of these accesses is `pure`, and all of them tell LLVM that they touch memory: it keeps them in program order
//! among themselves and across barriers, fences and ordinary accesses, and drops none. The GPU's own assembler, which
//! knows the instructions, schedules them. That holds for the read-only loads too: they gain nothing from LLVM that
//! the assembler does not give them.
//!
//! # Offsets
//! Each access takes a byte offset as a constant, `ld_shared_v4_f32::<16>(address)`, which becomes part of the
//! instruction: `[address+16]`.

mod address;
mod async_copy;
mod cache;
mod global;
mod matrix;
mod ordered;
mod shared;

pub use crate::shared::{dynamic_smem_size, total_smem_size};
pub use address::{GlobalAddr, SharedAddr};
pub use async_copy::*;
pub use cache::*;
pub use global::*;
pub use matrix::*;
pub use ordered::*;
pub use shared::*;
