//! Which tile each kernel of the family takes, and why: all choices stand here.
//!
//! | kernels | tile |
//! |---|---|
//! | forward | [`flash_forward_tile`]; where scores need more than a positive factor and a band [`flash_general_tile`] |
//! | forward of a part of the keys | [`flash_split_tile`]; the same [`flash_split_general_tile`] |
//! | `dk/dv` and `dq` without atomics, and fused | [`flash_grad_tile`]; the same [`flash_general_grad_tile`] |
//! | fused where two warps share keys | [`flash_paired_grad_tile`] |

use super::{FlashGradTile, FlashTile};

/// Forward. K and V have one buffer each: one is on its way while the other is multiplied (FlashAttention-2's order). At 32 columns,
/// where the product of weights and values is too short to hide the way of the next keys (32 HMMA of a warp, elsewhere 64 to 128), they
/// have two each, and the next of both are on their way during a whole step. Elsewhere two each would take a block from sm_86, sm_89 and
/// sm_120 (64, 96, (64, 128)) or from the A100 (128), or more than [`FLASH_SHARED_LIMIT`](super::FLASH_SHARED_LIMIT) (192 and more); at (128, 64) they
/// would take none.
///
/// A warp keeps as many columns of its queries in registers as fit in the loop over plain blocks: 16 columns take `warp_rows / 4`
/// registers, and save the LDSM of `warp_rows / 16` fragments in each step. At the edges, where registers hold what hides scores, all
/// are loaded from shared memory in each step, as FlashAttention-2 does everywhere. More columns spill, in bytes by NVIDIA's assembler
/// 13.5: all 64 at (64, 64) 20 on sm_80 and 24 on sm_90, 48 of them 32 on sm_120; at 96 columns 48 spill 4 on sm_80, all 72; at
/// (64, 128) 16 spill 4 to 12; at (128, 128) 16 spill 20 on sm_90 and 8 on sm_120, all of them more than 1200 (kept at the edges
/// too). At 256 columns all fit, and the loop is longer than with 224.
///
/// Blocks on a multiprocessor, by shared memory and registers: of an A100, H100, H200 (164 KiB and more), then of one with 100 KiB
/// (sm_86, sm_89, sm_120).
///
/// | head dims | rows, keys | blocks | columns kept | why |
/// |---|---|---|---|---|
/// | 64 | 4 x 32, 96 | 2, 2 | 32 | 96 scores and 64 outputs a thread; each load of K and V feeds two products; 40 KiB |
/// | 32, (128, 64) | 4 x 32, 64 | 2, 2 at 32 columns, else 1 | all | 32 or 64 outputs beside 64 scores; 24 or 56 KiB |
/// | 96 | 4 x 32, 64 | 2, 2 | 32 | 96 outputs beside 64 scores; 48 KiB |
/// | 128, (64, 128) | 4 x 32, 64 | 2, 2 at (64, 128), else 1 | none | 128 outputs leave room for 64 scores; 64 or 40 KiB |
/// | 192, (192, 128) | 8 x 16, 64 | 1, 1 | all | 96 outputs or 64 beside 32 scores; 96 or 88 KiB |
/// | 256 | 8 x 16, 32 | 1, 1 | 224 | 128 outputs beside 16 scores; 96 KiB |
pub const fn flash_forward_tile(head_dim: u32, value_dim: u32) -> FlashTile {
    let (warps, warp_rows, block_keys, min_blocks) = match (head_dim, value_dim) {
        (32, 32) => (4, 32, 64, 2),
        (64, 64) => (4, 32, 96, 2),
        (96, 96) | (128, 128) | (64, 128) | (128, 64) => (4, 32, 64, 2),
        (192, 192) | (192, 128) => (8, 16, 64, 1),
        (256, 256) => (8, 16, 32, 1),
        _ => panic!("no tile for these head dims"),
    };
    let kept_columns = match (head_dim, value_dim) {
        (128, 128) | (64, 128) => 0,
        (64, 64) | (96, 96) => 32,
        (256, 256) => 224,
        _ => head_dim,
    };
    let stages = if head_dim == 32 { 2 } else { 1 };
    FlashTile { head_dim, value_dim, warps, warp_rows, block_keys, min_blocks, stages, kept_columns }
}

/// Forward where scores need more than a positive factor and a band: bias, mask, softcap, ALiBi, sinks, dropout. What that
/// needs is beside scores and output in registers, so that a warp owns 16 queries and meets fewer keys. It keeps all columns of its
/// queries in registers; but at 256 columns 128, as 192 of them spill 4 bytes on sm_90 and all 4 to 36, and at (192, 128) 96, as with
/// all the loop is longer on sm_90 and sm_120 (3.59 and 3.54 instructions other than HMMA for each HMMA, 3.44 and 3.39 with none).
pub const fn flash_general_tile(head_dim: u32, value_dim: u32) -> FlashTile {
    let (warps, block_keys) = match (head_dim, value_dim) {
        (192, 192) | (192, 128) => (8, 64),
        (256, 256) => (8, 32),
        _ => (4, 64),
    };
    let kept_columns = match (head_dim, value_dim) {
        (192, 128) => 96,
        (256, 256) => 128,
        _ => head_dim,
    };
    FlashTile {
        head_dim,
        value_dim,
        warps,
        warp_rows: 16,
        block_keys,
        min_blocks: 1,
        stages: 1,
        kept_columns,
    }
}

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

/// The tiles of all backward kernels. A block owns queries for `dq`, keys in every other kernel, and meets keys, or queries, a step.
/// General kernels are those where scores need more than a positive factor and a band: bias, mask, softcap, ALiBi, sinks, dropout.
///
/// | kernels | head dims | rows, columns a step | why |
/// |---|---|---|---|
/// | `dq`, `dk/dv`, fused up to (128, 128) | 32, 64 | 4 x 32, 32 | dk and dv of 32 rows take 128 registers at 64; each load of a streamed operand feeds two products |
/// | | 128, (64, 128), (128, 64) | 8 x 16, 32 | dk and dv of 16 rows take 128 registers at 128; 96 KiB |
/// | | 96 | 4 x 16, 32 | rows of 192 bytes are copied by 4 threads each: 128 threads copy a step's 32 rows at once |
/// | `dq`, `dk/dv` | 192, (192, 128), 256 | 4 x 16, 16 | dk, or dv, of 16 rows takes 128 registers at 256; 96 KiB there |
/// | general `dq`, `dk/dv`: [`flash_general_grad_tile`] | all | 4 x 16, 16 | scores need registers beside the sums: a step of 32 would spill; 4 warps leave registers for a second block on a multiprocessor, and up to 128 columns shared memory too |
/// | general and wider fused: [`flash_paired_grad_tile`] | to 192 | 4 x 16 of two warps, 32 | dk and dv of one warp's own rows do not fit in its registers, or not beside what general scores need: together they take 96 at 192; 96 KiB there, and 64 at 128 |
/// | | 256 | 4 x 16 of two warps, 16 | dk and dv take 128 registers; 96 KiB |
pub const fn flash_grad_tile(head_dim: u32, value_dim: u32) -> FlashGradTile {
    let (warps, warp_rows, step) = match (head_dim, value_dim) {
        (32, 32) | (64, 64) => (4, 32, 32),
        (96, 96) => (4, 16, 32),
        (128, 128) | (64, 128) | (128, 64) => (8, 16, 32),
        (192, 192) | (192, 128) | (256, 256) => (4, 16, 16),
        _ => panic!("no tile for these head dims"),
    };
    FlashGradTile { head_dim, value_dim, warps, warp_rows, row_warps: 1, step, min_blocks: 1 }
}

/// `dq` and `dk/dv` of general scores, see the table at [`flash_grad_tile`].
pub const fn flash_general_grad_tile(head_dim: u32, value_dim: u32) -> FlashGradTile {
    let plain = flash_grad_tile(head_dim, value_dim);
    FlashGradTile { warps: 4, warp_rows: 16, step: 16, ..plain }
}

/// The fused kernels in which two warps share 16 keys, see the table at [`flash_grad_tile`]. Each computes the scores of half of a step's
/// queries, and half of the columns of dk and dv; the weights and the gradients of the scores go from one to the other through shared memory.
pub const fn flash_paired_grad_tile(head_dim: u32, value_dim: u32) -> FlashGradTile {
    let step = if head_dim > 192 { 16 } else { 32 };
    FlashGradTile { head_dim, value_dim, warps: 8, warp_rows: 16, row_warps: 2, step, min_blocks: 1 }
}
