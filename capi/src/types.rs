//! The structs of the header, field for field.

use std::ffi::c_void;

/// Values of [`Tensor::dtype`].
pub mod dtype {
    /// IEEE binary32.
    pub const F32: i32 = 0;
    /// IEEE binary16.
    pub const F16: i32 = 1;
    /// bfloat16.
    pub const BF16: i32 = 2;
    /// A byte: masks.
    pub const U8: i32 = 3;
}

/// Values of [`Problem::causal`].
pub mod causal {
    /// Every query sees every key.
    pub const NONE: i32 = 0;
    /// Query `i` sees the keys `j <= i`.
    pub const UPPER_LEFT: i32 = 1;
    /// Query `i` sees the keys `j <= i + keys - queries`.
    pub const LOWER_RIGHT: i32 = 2;
}

/// Values of [`Problem::layout`].
pub mod layout {
    /// `[batch, heads, seq, dim]`.
    pub const BHSD: i32 = 0;
    /// `[batch, seq, heads, dim]`.
    pub const BSHD: i32 = 1;
}

/// Values of [`Problem::backend`].
pub mod backend {
    /// Flash where it can, else Efficient.
    pub const AUTO: i32 = 0;
    /// Fused, ordinary arithmetic.
    pub const EFFICIENT: i32 = 1;
    /// Fused, tensor cores.
    pub const FLASH: i32 = 2;
}

/// Values of [`Problem::deterministic`].
pub mod deterministic {
    /// Atomic additions where the library expects them to be faster.
    pub const DEFAULT: i32 = 0;
    /// Backward gives the same bits every time.
    pub const YES: i32 = 1;
    /// Atomic additions wherever there is a kernel with them.
    pub const NO: i32 = 2;
}

/// `fa_tensor`: memory of a device as a tensor. Rank 0 is a tensor that is not given.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Tensor {
    /// Device address of the first element.
    pub data: u64,
    /// One of [`dtype`].
    pub dtype: i32,
    /// Dimensions, at most 4.
    pub rank: i32,
    /// Their sizes.
    pub shape: [i64; 4],
    /// From one entry to the next, in elements.
    pub strides: [i64; 4],
}

/// `fa_problem`: inputs and options. [`fa_problem_init`](crate::call::fa_problem_init) fills in plain attention.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Problem {
    /// Queries.
    pub q: Tensor,
    /// Keys.
    pub k: Tensor,
    /// Values.
    pub v: Tensor,
    /// 0 = may not attend; optional.
    pub mask: Tensor,
    /// Added to the scaled scores; optional.
    pub bias: Tensor,
    /// ALiBi's slopes; optional.
    pub alibi: Tensor,
    /// Logits that take part in the softmax; optional.
    pub sinks: Tensor,
    /// In the host's memory, `batch` numbers, or null.
    pub key_lengths: *const i32,
    /// In the host's memory, `batch + 1` numbers, or null.
    pub query_offsets: *const i32,
    /// In the host's memory, `batch + 1` numbers, or null.
    pub key_offsets: *const i32,
    /// Entries of `key_lengths`, or sequences of a ragged batch; else unused.
    pub batch: i64,
    /// Keys before the diagonal; -1 is no bound.
    pub window_left: i64,
    /// Keys after the diagonal; -1 is no bound.
    pub window_right: i64,
    /// Seed of dropout.
    pub dropout_seed: u64,
    /// Which of the seed's masks.
    pub dropout_offset: u32,
    /// The share of weights that is dropped; 0 is none.
    pub dropout_p: f32,
    /// Factor of the scores; 0 is `1 / sqrt(head dim)`.
    pub scale: f32,
    /// Bound of the scores; 0 is none.
    pub softcap: f32,
    /// One of [`causal`].
    pub causal: i32,
    /// One of [`layout`].
    pub layout: i32,
    /// One of [`backend`].
    pub backend: i32,
    /// Into how many parts Flash divides the keys in forward; 0 is as many as keep the device busy.
    pub splits: i32,
    /// One of [`deterministic`].
    pub deterministic: i32,
    /// 0: makes the size a multiple of 8 on every side.
    pub reserved: i32,
}

impl Default for Problem {
    fn default() -> Problem {
        Problem {
            q: Tensor::default(),
            k: Tensor::default(),
            v: Tensor::default(),
            mask: Tensor::default(),
            bias: Tensor::default(),
            alibi: Tensor::default(),
            sinks: Tensor::default(),
            key_lengths: std::ptr::null(),
            query_offsets: std::ptr::null(),
            key_offsets: std::ptr::null(),
            batch: 0,
            window_left: -1,
            window_right: -1,
            dropout_seed: 0,
            dropout_offset: 0,
            dropout_p: 0.0,
            scale: 0.0,
            softcap: 0.0,
            causal: causal::NONE,
            layout: layout::BHSD,
            backend: backend::AUTO,
            splits: 0,
            deterministic: deterministic::DEFAULT,
            reserved: 0,
        }
    }
}

/// `fa_forward_tensors`: what forward writes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ForwardTensors {
    /// The output.
    pub out: Tensor,
    /// The log-sum-exp, f32 and contiguous; optional.
    pub lse: Tensor,
}

/// `fa_backward_tensors`: what backward reads beside the problem, and writes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct BackwardTensors {
    /// Forward's output.
    pub out: Tensor,
    /// Forward's log-sum-exp.
    pub lse: Tensor,
    /// The gradient of the output.
    pub dout: Tensor,
    /// The gradient of the log-sum-exp; optional.
    pub dlse: Tensor,
    /// The gradient of q, written.
    pub dq: Tensor,
    /// The gradient of k, written.
    pub dk: Tensor,
    /// The gradient of v, written.
    pub dv: Tensor,
    /// The gradient of the bias, written; optional.
    pub dbias: Tensor,
    /// The gradient of the sinks, written; optional.
    pub dsinks: Tensor,
}

/// `fa_execution`: where a call works.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Execution {
    /// A `CUstream` (or `cudaStream_t`), or null.
    pub stream: *mut c_void,
    /// Device address of the workspace.
    pub workspace: u64,
    /// Its bytes.
    pub workspace_bytes: u64,
}

impl Default for Execution {
    fn default() -> Execution {
        Execution { stream: std::ptr::null_mut(), workspace: 0, workspace_bytes: 0 }
    }
}

/// Bytes of the struct of this number: 0 `fa_tensor`, 1 `fa_problem`, 2 `fa_forward_tensors`, 3 `fa_backward_tensors`,
/// 4 `fa_execution`; 0 for any other.
#[unsafe(no_mangle)]
pub extern "C" fn fa_struct_size(which: i32) -> u64 {
    let bytes = match which {
        0 => size_of::<Tensor>(),
        1 => size_of::<Problem>(),
        2 => size_of::<ForwardTensors>(),
        3 => size_of::<BackwardTensors>(),
        4 => size_of::<Execution>(),
        _ => 0,
    };
    bytes as u64
}

const _: () = assert!(size_of::<Tensor>() == 80);
const _: () = assert!(size_of::<Problem>() == 7 * 80 + 3 * 8 + 4 * 8 + 10 * 4);
const _: () = assert!(size_of::<ForwardTensors>() == 2 * 80);
const _: () = assert!(size_of::<BackwardTensors>() == 9 * 80);
const _: () = assert!(size_of::<Execution>() == 24);
