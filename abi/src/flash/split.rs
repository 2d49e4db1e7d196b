//! Forward where few blocks of queries meet many keys: decoding, and short queries.
//!
//! The keys that a block of queries meets are divided in parts, a block of threads each ("Flash-Decoding for long-context
//! inference", Dao, Haziza, Massa, Sizov, 2023). Each part leaves its output and log-sum-exp in f32, and a second kernel puts the
//! parts together. The rows of a tile are pairs of a query and a head, so that K and V are read once for all heads that share them.

use super::FlashTile;
use crate::{ForwardParams, TensorParam};

/// The most parts of a row of blocks, as in FlashAttention-2.
pub const MAX_PARTS: u32 = 128;

/// Threads of a block that puts parts together: 4 warps.
pub const COMBINE_THREADS: u32 = 128;

/// Columns of one row that a warp puts together: 4 of each lane.
pub const COMBINE_COLUMNS: u32 = 128;

/// Forward of a part, where scores need a positive factor and a band alone.
///
/// Global memory is the bound: 16 rows a product do too little with a key to keep tensor cores busy. So what counts is bytes on
/// their way. K and V have two buffers each, and while one of the four is multiplied the other three arrive. Warps whose 16 rows
/// do not exist copy and do not multiply, so that one query of a few heads costs one warp's products.
///
/// | head dims | keys a step | on their way | why |
/// |---|---|---|---|
/// | 32, 64 | 128 | 24, 48 KiB | longer steps have fewer barriers; 64 registers of scores are few beside 16 rows of output |
/// | 96, 128, (64, 128), (128, 64) | 64 | 32 to 48 KiB | two blocks fit on a multiprocessor of an A100 (80 KiB each at 128) |
/// | 192, (192, 128) | 32 | 28 to 36 KiB | the same |
/// | 256 | 32 | 48 KiB | 96 KiB of the 99 that every GPU has |
///
/// A warp keeps its queries in registers, `head_dim / 4` a thread. Not at (128, 64), where the 20 registers more (183 in place of 163)
/// leave room for two blocks on a multiprocessor of an H100 in place of three; not at 256 columns, where 128 of them spill 16 to 28
/// bytes; and not at 32, where the loop is as long without.
///
/// A multiprocessor of an H100 takes 25 bytes a nanosecond from memory: 24 KiB on their way outlast a latency of 900 ns.
pub const fn flash_split_tile(head_dim: u32, value_dim: u32) -> FlashTile {
    let (block_keys, min_blocks) = match (head_dim, value_dim) {
        (32, 32) | (64, 64) => (128, 2),
        (96, 96) | (128, 128) | (64, 128) | (128, 64) => (64, 2),
        (192, 192) | (192, 128) => (32, 2),
        (256, 256) => (32, 1),
        _ => panic!("no tile for these head dims"),
    };
    let kept_columns = match (head_dim, value_dim) {
        (32, 32) | (128, 64) | (256, 256) => 0,
        _ => head_dim,
    };
    FlashTile {
        head_dim,
        value_dim,
        warps: 4,
        warp_rows: 16,
        block_keys,
        min_blocks,
        stages: 2,
        kept_columns,
    }
}

/// The same where scores need more. What that needs lies beside the scores in registers: at most 64 keys a step. There all queries are
/// kept in registers, but at 256 columns and at (192, 192) none: there 64 of them spill 20 bytes on sm_90, here 128 spill 20 and all 4.
pub const fn flash_split_general_tile(head_dim: u32, value_dim: u32) -> FlashTile {
    let tile = flash_split_tile(head_dim, value_dim);
    let kept_columns = match (head_dim, value_dim) {
        (192, 192) | (256, 256) => 0,
        _ => head_dim,
    };
    FlashTile { block_keys: if tile.block_keys > 64 { 64 } else { tile.block_keys }, kept_columns, ..tile }
}

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
