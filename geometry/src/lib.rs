//! Index arithmetic of the attention kernels.
//!
//! Everything here is `const fn` on integers, runs on host and device alike, and is tested exhaustively on the host:
//!
//! * [`band`]: which keys a query may see, and which blocks of keys a block of queries meets.
//! * [`fragment`]: which element of a tile a lane owns.
//! * [`grad_sums`]: where the sums of `dq` lie.
//! * [`mma`]: tiles and products of tensor cores.
//! * [`shared`]: where a tile's element lies in shared memory, and how many wavefronts an access takes.
//! * [`staging`]: which piece of a slice a thread carries to shared memory.
//! * [`grid`]: which piece of work a block owns.
#![no_std]

pub mod band;
pub mod fragment;
pub mod grad_sums;
pub mod grid;
pub mod mma;
pub mod shared;
pub mod staging;
