//! Forward where few blocks of queries meet many keys: decoding, and short queries.
//!
//! The keys that a block of queries meets are divided in parts, a block of threads each ("Flash-Decoding for long-context
//! inference", Dao, Haziza, Massa, Sizov, 2023). Each part leaves its output and log-sum-exp in f32, and a second kernel puts the
//! parts together. The rows of a tile are pairs of a query and a head, so that K and V are read once for all heads that share them.

use crate::{ForwardParams, TensorParam};

/// The most parts of a row of blocks, as in FlashAttention-2.
pub const MAX_PARTS: u32 = 128;

/// Threads of a block that puts parts together: 4 warps.
pub const COMBINE_THREADS: u32 = 128;

/// Columns of one row that a warp puts together: 4 of each lane.
pub const COMBINE_COLUMNS: u32 = 128;

/// What the kernels of parts take, and the one that puts parts together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct SplitParams {
    /// What forward takes. A kernel of parts writes its `out` where there is one part, and never its `lse`.
    pub forward: ForwardParams,
    /// Outputs of the parts, f32 `[batch, query_heads, queries, value_dim]`, of the first one; unused where there is one part.
    pub part_out: TensorParam,
    /// Their log-sum-exps, in the shape of `forward.lse`; where there is one part, `forward.lse` itself.
    pub part_lse: TensorParam,
    /// Bytes from the output of one part to that of the next.
    pub part_out_stride: u64,
    /// The same of the log-sum-exps.
    pub part_lse_stride: u64,
    /// How many parts there are, 1 to [`MAX_PARTS`].
    pub parts: u32,
    /// 0: makes the size a multiple of 8 on every side.
    pub reserved: u32,
}

impl SplitParams {
    /// The struct as the launch passes it.
    pub const fn as_bytes(&self) -> &[u8] {
        // SAFETY: repr(C), initialised, and without padding (the assertion below adds up the fields).
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }
}

const _: () =
    assert!(size_of::<SplitParams>() == size_of::<ForwardParams>() + 2 * size_of::<TensorParam>() + 3 * 8);
