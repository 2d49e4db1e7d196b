//! The structs that kernels take by value, one a kernel.
//!
//! Every field has the same offset on host and device (`repr(C)`, explicit sizes, largest first); a test pins the sizes.

/// A tensor `[batch, heads, rows, columns]` in the device's global memory whose last dimension is contiguous.
///
/// Strides count bytes, so that the device need not multiply; 0 repeats the same data along that dimension (broadcast). `address` 0 means "not given".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TensorParam {
    /// Generic device address of element `[0, 0, 0, 0]`, aligned to the element's size.
    pub address: u64,
    /// Bytes from one batch entry to the next.
    pub batch_stride: i64,
    /// Bytes from one head to the next.
    pub head_stride: i64,
    /// Bytes from one row (query or key) to the next.
    pub row_stride: i64,
}

/// The sizes and options that every kernel of one problem shares.
///
/// A ragged batch is one of packed tensors (`query_offsets`, `key_offsets`, batch strides 0): the rows of batch entry `b` begin
/// at its offset, and `queries` and `keys` are the most that any entry has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct ProblemParams {
    /// ALiBi slopes, f32, by batch entry (stride 0 where they are the same) and query head; optional.
    pub alibi: TensorParam,
    /// Address of where the queries of each batch entry begin, u32 `[batch + 1]`; 0 where the batch is not ragged.
    pub query_offsets: u64,
    /// The same for keys and values; given together with `query_offsets`.
    pub key_offsets: u64,
    /// Address of how many keys each batch entry has, u32 `[batch]`; 0 means all. Not together with the offsets.
    pub key_lengths: u64,
    /// Address of the sinks, f32 `[query_heads]`: logits that take part in the softmax's sum alone; 0 where there are none.
    pub sinks: u64,
    /// Batch entries.
    pub batch: u32,
    /// Query heads; a multiple of `key_heads`.
    pub query_heads: u32,
    /// Key and value heads. Query head `h` reads key head `h / (query_heads / key_heads)`.
    pub key_heads: u32,
    /// Queries a batch entry and head (`sq`).
    pub queries: u32,
    /// Keys a batch entry and head (`sk`).
    pub keys: u32,
    /// Columns of q and k (`d`), at most the kernel's head-dim tile.
    pub head_dim: u32,
    /// Columns of v and out (`dv`), at most the kernel's head-dim tile.
    pub value_dim: u32,
    /// Factor of the scores `q · k`; finite and not 0.
    pub scale: f32,
    /// Key `j` is visible to query `i` only if `j - i - shift >= band_low`; `i32::MIN` means no lower bound.
    pub band_low: i32,
    /// Key `j` is visible to query `i` only if `j - i - shift <= band_high`; `i32::MAX` means no upper bound.
    pub band_high: i32,
    /// 1 where the band ends in the lower right corner: its shift is the batch entry's keys less its queries. Otherwise 0.
    pub band_lower_right: u32,
    /// Bound of the scores: `softcap * tanh(score / softcap)`; 0 means none.
    pub softcap: f32,
    /// Which tensors may be accessed in 16-byte pieces: the `ALIGNED_*` bits.
    pub aligned: u32,
    /// How many batch entries, heads and queries the bias really has (1 or the problem's): the shape of its gradient.
    pub bias_batch: u32,
    /// See `bias_batch`.
    pub bias_heads: u32,
    /// See `bias_batch`.
    pub bias_queries: u32,
    /// Words of the generator below this are dropped ([`philox`](crate::philox)); 0 means no dropout.
    pub dropout_threshold: u32,
    /// What kept weights grow by, `1 / (1 - p)`; 1 without dropout.
    pub dropout_scale: f32,
    /// The generator's key.
    pub seed: [u32; 2],
    /// The last word of the generator's counter.
    pub offset: u32,
    /// 0: makes the size a multiple of 8 on every side.
    pub reserved: u32,
}

/// Bit of [`ProblemParams::aligned`]: address, strides and column count of q are multiples of 16 bytes.
pub const ALIGNED_Q: u32 = 1;
/// The same for k.
pub const ALIGNED_K: u32 = 2;
/// The same for v.
pub const ALIGNED_V: u32 = 4;
/// The same for dout.
pub const ALIGNED_DOUT: u32 = 8;
/// The same for out (written by forward, read by `delta`).
pub const ALIGNED_OUT: u32 = 16;
/// The same for dq.
pub const ALIGNED_DQ: u32 = 32;
/// The same for dk.
pub const ALIGNED_DK: u32 = 64;
/// The same for dv.
pub const ALIGNED_DV: u32 = 128;

/// What the forward kernel takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct ForwardParams {
    /// Queries `[batch, query_heads, queries, head_dim]`.
    pub q: TensorParam,
    /// Keys `[batch, key_heads, keys, head_dim]`.
    pub k: TensorParam,
    /// Values `[batch, key_heads, keys, value_dim]`.
    pub v: TensorParam,
    /// Output `[batch, query_heads, queries, value_dim]`, written.
    pub out: TensorParam,
    /// Boolean mask `[batch, query_heads, queries, keys]`, one byte an element, 0 = may not attend; optional.
    pub mask: TensorParam,
    /// Additive bias of the same shape in the tensors' storage type, added to the scaled scores; optional.
    pub bias: TensorParam,
    /// The log-sum-exp (natural), f32 `[batch, query_heads, queries, 1]`, written.
    pub lse: TensorParam,
    /// Sizes and options.
    pub problem: ProblemParams,
}

/// What every backward kernel takes (`delta`, `dk/dv`, `dq`, the fused ones and the rounding of their dq, `dbias`, `dsinks`); each uses the fields it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct BackwardParams {
    /// As in [`ForwardParams`].
    pub q: TensorParam,
    /// As in [`ForwardParams`].
    pub k: TensorParam,
    /// As in [`ForwardParams`].
    pub v: TensorParam,
    /// Forward's output, read by `delta`.
    pub out: TensorParam,
    /// Gradient of the output, `[batch, query_heads, queries, value_dim]`.
    pub dout: TensorParam,
    /// As in [`ForwardParams`].
    pub mask: TensorParam,
    /// As in [`ForwardParams`].
    pub bias: TensorParam,
    /// Gradient of q, written by `dq`, or from the sums of a fused kernel.
    pub dq: TensorParam,
    /// Gradient of k, written by `dk/dv` or a fused kernel.
    pub dk: TensorParam,
    /// Gradient of v, written by `dk/dv` or a fused kernel.
    pub dv: TensorParam,
    /// Gradient of the bias `[bias_batch, bias_heads, bias_queries, keys]`, written by `dbias`; optional.
    pub dbias: TensorParam,
    /// Forward's log-sum-exp, f32 `[batch, query_heads, queries, 1]`.
    pub lse: TensorParam,
    /// Gradient of the log-sum-exp, of the same shape; optional.
    pub dlse: TensorParam,
    /// `rowsum(dout * out) - dlse`, of the same shape; written by `delta`.
    pub delta: TensorParam,
    /// Tiles of [`GradSums`](crate::flash::GradSums), zeros before `delta` writes their log-sum-exp and delta. A row is a tile; in
    /// a ragged batch each entry begins a tile later. Optional.
    pub dq_sums: TensorParam,
    /// Log-sum-exp and delta side by side, as backward on tensor cores takes them: f32 `[batch, query_heads, queries, 2]`, the first
    /// in units of log2, and plus infinity for a query that sees no key. Written by `delta`; only where `dk/dv` and `dq` are those
    /// of tensor cores and there is no `dq_sums`, whose tiles have them too.
    pub lse_delta: TensorParam,
    /// Address of the gradient of the sinks, f32 `[query_heads]`; written by `dsinks`.
    pub dsinks: u64,
    /// Sizes and options.
    pub problem: ProblemParams,
}

macro_rules! as_bytes {
    ($($type:ty),*) => {$(
        impl $type {
            /// The struct as the launch passes it.
            pub const fn as_bytes(&self) -> &[u8] {
                // SAFETY: repr(C), initialised, and without padding (the assertions below add up the fields).
                unsafe { core::slice::from_raw_parts(core::ptr::from_ref(self).cast(), size_of::<Self>()) }
            }
        }
    )*};
}
as_bytes!(ForwardParams, BackwardParams);

const _: () = assert!(size_of::<TensorParam>() == 4 * 8);
const _: () = assert!(size_of::<ProblemParams>() == 32 + 4 * 8 + 22 * 4);
const _: () = assert!(size_of::<ForwardParams>() == 7 * 32 + size_of::<ProblemParams>());
const _: () = assert!(size_of::<BackwardParams>() == 16 * 32 + 8 + size_of::<ProblemParams>());
