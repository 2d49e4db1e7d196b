//! Exact attention, forward and backward, on CUDA GPUs, an emulator, or the CPU.
//!
//! [`sdpa`] computes `softmax(scale * q kᵀ + bias) v` for tensors on a [`Device`]. On CUDA devices it launches kernels that are
//! written in Rust and compiled to PTX; on the emulator it runs the same PTX on the CPU; on the CPU it computes without PTX.
//!
//! * [`Tensor`]: elements on a device, with views that copy nothing.
//! * [`sdpa`], [`Sdpa`], [`Options`]: the call. [`Sdpa::run`] gives the [`Output`]; [`Sdpa::forward`] gives a [`Forward`], whose
//!   [`backward`](Forward::backward) gives the [`Gradients`]; [`Sdpa::explain`] says which backends can, and why others cannot.
//! * [`sdpa_varlen`], [`sdpa_jagged`], [`JaggedTensor`]: batches of sequences of different lengths, without padding.
//! * [`mod@backend`]: which backends the calls of a scope use.
//! * [`case`]: problems in safetensors files, and the check of results against expected ones.
//! * [`ffi`]: attention on the memory and the stream of another program.
//! * [`mod@reference`]: the formulas, on slices of f32 or f64.
//!
//! Nothing in this crate panics or prints.

pub mod analysis;
mod attention;
mod autograd;
pub mod backend;
mod band;
pub mod case;
mod choice;
pub mod device;
mod dtype;
mod efficient;
mod empty;
mod error;
pub mod ffi;
mod math;
mod options;
mod plan;
mod problem;
mod ptx;
mod ragged;
pub mod reference;
mod storage;
mod tensor;
mod view;

pub use attention::{Output, Sdpa, sdpa};
pub use autograd::{Forward, Gradients};
pub use choice::{Explanation, Verdict};
pub use device::list::{DeviceReport, devices};
pub use device::{Device, EmulatorOptions, Kind, Progress, Statistics};
pub use dtype::{Dtype, Element};
pub use error::{Error, Result};
pub use options::{Backend, Causal, Dropout, Layout, MAX_SPLITS, OnProgress, Options, Ragged, Window};
pub use plan::flash::FUSED_KEYS;
pub use problem::Sizes;
pub use ragged::{JaggedTensor, sdpa_jagged, sdpa_varlen};
pub use tensor::Tensor;
