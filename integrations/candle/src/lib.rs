//! Exact attention with a backward pass for [candle](candle_core), computed by [`flash_attention`].
//!
//! * [`sdpa()`] is scaled dot product attention of candle tensors, part of candle's autograd; [`Options`] is what it takes.
//! * [`CausalSelfAttention`] is the self-attention block of nanoGPT built on it, with parameters from a `VarBuilder`.
//! * [`to_attention`] and [`from_attention`] carry tensors from one library to the other.
//!
//! # Where it runs
//!
//! Tensors on candle's CPU are computed on [`flash_attention::Device::cpu`], tensors on candle's CUDA device N (feature
//! `cuda`) on `flash_attention::Device::cuda(N)`. [`Options::device`] names another one, for example the emulator.
//!
//! Elements are copied between the libraries, once each way: a view is gathered as it is, entries that are repeated by a
//! stride of 0 are copied once, and results arrive contiguous. CUDA tensors take the way through the host's memory,
//! because neither library can take over the other's device pointers. That is a place to start from, not a fast path.
//!
//! # What is kept for backward
//!
//! candle hands a custom operation's backward its arguments and result, no more. The operation therefore keeps the forward
//! pass itself: copies of q, k, v and out, and the log-sum-exp. They are freed with the graph, and at once where nothing
//! tracks gradients. [`Options::recompute`] trades them for a second forward pass.

mod block;
mod convert;
mod dropout;
mod options;
mod sdpa;

pub use block::{CausalSelfAttention, Config};
pub use convert::{from_attention, to_attention};
/// The library that computes.
pub use flash_attention;
pub use options::Options;
pub use sdpa::sdpa;

/// The example of the README.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;
