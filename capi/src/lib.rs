//! The C interface of flash-attention: forward and backward on the caller's device memory and stream.
//!
//! `include/flash_attention.h` says what each function does, for those who call it; here is how.
//!
//! * [`types`]: the structs of the header, field for field.
//! * [`device`]: devices, and memory on them for callers without an allocator of their own.
//! * [`call`]: forward, backward, the size of their workspaces, and the backend that runs.
//! * [`error`]: codes, and the message of the last failure.
//!
//! Every function returns a code, catches panics, and keeps the calling thread's CUDA context as it was.

pub mod call;
mod convert;
pub mod device;
pub mod error;
pub mod types;
