//! The attention kernels: plain Rust, compiled to PTX.
//!
//! Four layers, and a lower one never knows a higher one:
//!
//! 1. intrinsics and index arithmetic: the crates `cuda_std` and `geometry`;
//! 2. [`tiles`]: fragments in registers, tiles in shared and global memory, products of two of them;
//! 3. [`pipeline`]: operands streaming through shared memory while products accumulate;
//! 4. [`kernels`]: forward and backward, and the list of entry points.
//!
//! Beside them stand the nouns of attention: [`sequence`], [`score`] and [`softmax`]; and [`config`], one type per specialisation.
//!
//! There is no inline assembly here; `cuda_std` has it all.
#![cfg_attr(target_arch = "nvptx64", no_std, feature(abi_ptx, asm_experimental_arch))]
// Fragments are indexed by row and column in loops of constant bounds, as the formulas are written.
#![allow(clippy::needless_range_loop)]

pub mod config;
pub mod element;
pub mod kernels;
pub mod pipeline;
pub mod score;
pub mod sequence;
pub mod softmax;
pub mod tiles;
