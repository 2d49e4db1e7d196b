//! Tile configurations of the `Flash` family, whose products run on tensor cores (sm_80).
//!
//! A block owns [`FlashTile::block_rows`] queries and meets [`FlashTile::block_keys`] keys at a time. A warp owns
//! [`FlashTile::warp_rows`] queries and all columns. Q, K and V lie in shared memory in 16 bits; scores and output are f32 in
//! registers, and weights go from the first product to the second without leaving them.

mod fused;
mod launch;
pub mod split;
mod tiles;
pub use fused::{GRAD_CONVERT_THREADS, GRAD_SUM_ROWS, GradSums};
pub use tiles::{
    flash_forward_tile, flash_general_grad_tile, flash_general_tile, flash_grad_tile, flash_paired_grad_tile,
    flash_split_general_tile, flash_split_tile,
};

/// Shared memory that a block may have on every GPU from sm_80 on (sm_86, sm_89 and sm_120 have the least: 99 KiB).
pub const FLASH_SHARED_LIMIT: u32 = 99 * 1024;

/// Columns of q and k, and of v, for which kernels exist. A problem takes the smallest that holds both.
pub const FLASH_HEAD_DIMS: [(u32, u32); 9] =
    [(32, 32), (64, 64), (96, 96), (64, 128), (128, 64), (128, 128), (192, 128), (192, 192), (256, 256)];

/// How a kernel of the family divides its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlashTile {
    /// Padded columns of q and k.
    pub head_dim: u32,
    /// Padded columns of v and out.
    pub value_dim: u32,
    /// Warps of a block.
    pub warps: u32,
    /// Queries of a warp: 16 or 32.
    pub warp_rows: u32,
    /// Keys a step, a multiple of 16.
    pub block_keys: u32,
    /// Blocks a multiprocessor that the register allocation should leave room for.
    pub min_blocks: u32,
    /// Buffers of K and of V in shared memory.
    pub stages: u32,
    /// Columns of its queries that a warp loads once and keeps in registers for all blocks of keys, a multiple of 16; where there is
    /// a loop over plain blocks, for those alone. It loads the others from shared memory in every step.
    pub kept_columns: u32,
}

impl FlashTile {
    /// Threads of a block.
    pub const fn threads(&self) -> u32 {
        self.warps * 32
    }

    /// Queries of a block.
    pub const fn block_rows(&self) -> u32 {
        self.warps * self.warp_rows
    }

    /// Products of 16 x 16 by 16 x 8 that a warp computes in a step over a block of keys: scores, then output.
    pub const fn products(&self) -> u32 {
        let (rows, keys) = (self.warp_rows / 16, self.block_keys / 8);
        rows * keys * (self.head_dim / 16) + rows * (self.value_dim / 8) * (keys / 2)
    }

    /// Loads of four 8 x 8 matrices in the source for each step that stands there: queries, keys and values. Those of queries that are
    /// kept stand before a step's loop in place of in it.
    pub const fn matrix_loads(&self) -> u32 {
        self.query_loads() + self.block_keys / 16 * (self.head_dim / 16 + self.value_dim / 16)
    }

    /// Those of queries.
    pub const fn query_loads(&self) -> u32 {
        self.warp_rows / 16 * (self.head_dim / 16)
    }

    /// Byte offset of the keys in dynamic shared memory; the queries lie before them.
    pub const fn keys_offset(&self) -> u32 {
        self.block_rows() * self.head_dim * 2
    }

    /// Byte offset of the values.
    pub const fn values_offset(&self) -> u32 {
        self.keys_offset() + self.block_keys * self.head_dim * 2
    }

    /// Bytes from one buffer of keys, or of values, to the next.
    pub const fn stage_bytes(&self) -> u32 {
        self.block_keys * (self.head_dim + self.value_dim) * 2
    }

    /// Dynamic shared memory of a block.
    pub const fn shared_bytes(&self) -> u32 {
        self.keys_offset() + self.stages * self.stage_bytes()
    }
}

/// Columns of q and k, and of v, for which there are backward kernels: the same.
pub const FLASH_GRAD_HEAD_DIMS: [(u32, u32); 9] = FLASH_HEAD_DIMS;

/// Whether `dk` and `dv` have a kernel each: the gradients of 16 rows of k and v of more than 128 columns do not fit in registers
/// together.
pub const fn flash_grad_is_split(head_dim: u32, value_dim: u32) -> bool {
    head_dim + value_dim > 256
}

/// How a backward kernel of the family divides its work: a block owns some rows (queries for `dq`, keys for `dk/dv`), which stay
/// in shared memory, and meets `step` columns (keys, or queries) at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlashGradTile {
    /// Padded columns of q and k.
    pub head_dim: u32,
    /// Padded columns of v and dout.
    pub value_dim: u32,
    /// Warps of a block.
    pub warps: u32,
    /// Rows of a warp: 16 or 32.
    pub warp_rows: u32,
    /// Warps that share rows, and each have a part of the columns of a step, and of the sums: 1 or 2.
    pub row_warps: u32,
    /// Columns a step, a multiple of 16. Two steps' operands are in shared memory: one is used, one is on its way.
    pub step: u32,
    /// Blocks a multiprocessor that the register allocation should leave room for.
    pub min_blocks: u32,
}

impl FlashGradTile {
    /// Threads of a block.
    pub const fn threads(&self) -> u32 {
        self.warps * 32
    }

    /// Rows of a block.
    pub const fn block_rows(&self) -> u32 {
        self.warps / self.row_warps * self.warp_rows
    }

    /// Columns of a step whose scores a warp computes.
    pub const fn warp_columns(&self) -> u32 {
        self.step / self.row_warps
    }

    /// Byte offset of the block's own rows of `value_dim` columns in dynamic shared memory; those of `head_dim` lie before them.
    pub const fn value_rows_offset(&self) -> u32 {
        self.block_rows() * self.head_dim * 2
    }

    /// Byte offset of the first step's operands.
    pub const fn steps_offset(&self) -> u32 {
        self.block_rows() * (self.head_dim + self.value_dim) * 2
    }

    /// Byte offset, within a step's operands, of those of `value_dim` columns.
    pub const fn step_values_offset(&self) -> u32 {
        self.step * self.head_dim * 2
    }

    /// Bytes of a step's operands.
    pub const fn step_bytes(&self) -> u32 {
        self.step * (self.head_dim + self.value_dim) * 2
    }

    /// Dynamic shared memory of a block.
    pub const fn shared_bytes(&self) -> u32 {
        self.steps_offset() + 2 * self.step_bytes()
    }

    /// Products of 16 x 16 by 16 x 8 that a warp computes in a step: scores, gradients of weights, and one sum of `head_dim`
    /// columns; with `values` one of `value_dim` columns too.
    pub const fn products(&self, values: bool) -> u32 {
        let (rows, tiles) = (self.warp_rows / 16, self.step / 8);
        let scores = rows * tiles * (self.head_dim / 16 + self.value_dim / 16);
        let sums = self.head_dim / 8 + if values { self.value_dim / 8 } else { 0 };
        scores + rows * sums * (tiles / 2)
    }

    /// The same where one sum of `value_dim` columns is all that is computed.
    pub const fn value_products(&self) -> u32 {
        let (rows, tiles) = (self.warp_rows / 16, self.step / 8);
        rows * tiles * (self.head_dim / 16) + rows * (self.value_dim / 8) * (tiles / 2)
    }

    /// Loads of four 8 x 8 matrices where one sum of `value_dim` columns is all that is computed.
    pub const fn value_matrix_loads(&self) -> u32 {
        let (rows, pairs) = (self.warp_rows / 16, self.step / 16);
        (rows + pairs) * (self.head_dim / 16) + pairs * (self.value_dim / 16)
    }

    /// Loads of four 8 x 8 matrices in a step.
    pub const fn matrix_loads(&self, values: bool) -> u32 {
        let (rows, pairs) = (self.warp_rows / 16, self.step / 16);
        let depth = self.head_dim / 16 + self.value_dim / 16;
        let sums = self.head_dim / 16 + if values { self.value_dim / 16 } else { 0 };
        rows * depth + pairs * depth + pairs * sums
    }
}

/// The padded head dims of a problem with `d` columns of q and k and `dv` of v, or `None` where no kernel holds them.
pub const fn flash_head_dims(d: u32, dv: u32) -> Option<(u32, u32)> {
    smallest(&FLASH_HEAD_DIMS, d, dv)
}

/// The same of the backward kernels.
pub const fn flash_grad_head_dims(d: u32, dv: u32) -> Option<(u32, u32)> {
    smallest(&FLASH_GRAD_HEAD_DIMS, d, dv)
}

const fn smallest(pairs: &[(u32, u32)], d: u32, dv: u32) -> Option<(u32, u32)> {
    let mut best: Option<(u32, u32)> = None;
    let mut i = 0;
    while i < pairs.len() {
        let (head, value) = pairs[i];
        let smaller = match best {
            Some((h, v)) => head + value < h + v,
            None => true,
        };
        if d <= head && dv <= value && smaller {
            best = Some((head, value));
        }
        i += 1;
    }
    best
}

/// Whether all threads copy as many rows, or some copy one and the others none: a row is copied by 8 threads, or by 4 where it is
/// not whole 128-byte lines (the period of `Swizzle` in `geometry`).
const fn copies_whole(rows: u32, columns: u32, threads: u32) -> bool {
    let group = if columns.is_multiple_of(64) { 8 } else { 4 };
    let together = threads / group;
    rows.is_multiple_of(together) || rows < together
}

const _: () = {
    let mut i = 0;
    while i < FLASH_HEAD_DIMS.len() {
        let (head_dim, value_dim) = FLASH_HEAD_DIMS[i];
        let tiles = [
            flash_forward_tile(head_dim, value_dim),
            flash_general_tile(head_dim, value_dim),
            flash_split_tile(head_dim, value_dim),
            flash_split_general_tile(head_dim, value_dim),
        ];
        let mut t = 0;
        while t < tiles.len() {
            let tile = tiles[t];
            assert!(tile.shared_bytes() <= FLASH_SHARED_LIMIT);
            assert!(tile.kept_columns <= head_dim && tile.kept_columns.is_multiple_of(16));
            // The output leaves through the place of queries, keys and values.
            assert!(tile.block_rows() * value_dim * 2 <= tile.shared_bytes());
            assert!(copies_whole(tile.block_rows(), head_dim, tile.threads()));
            assert!(copies_whole(tile.block_keys, head_dim, tile.threads()));
            assert!(copies_whole(tile.block_keys, value_dim, tile.threads()));
            // Dropout's words serve 32 keys.
            assert!(tile.block_keys.is_multiple_of(32));
            t += 1;
        }
        i += 1;
    }
    let mut i = 0;
    while i < FLASH_GRAD_HEAD_DIMS.len() {
        let (head_dim, value_dim) = FLASH_GRAD_HEAD_DIMS[i];
        let tiles = [
            flash_grad_tile(head_dim, value_dim),
            flash_general_grad_tile(head_dim, value_dim),
            flash_paired_grad_tile(head_dim, value_dim),
        ];
        let mut t = 0;
        while t < tiles.len() {
            let tile = tiles[t];
            assert!(tile.shared_bytes() <= FLASH_SHARED_LIMIT);
            assert!(copies_whole(tile.block_rows(), head_dim, tile.threads()));
            assert!(copies_whole(tile.block_rows(), value_dim, tile.threads()));
            assert!(copies_whole(tile.step, head_dim, tile.threads()));
            assert!(copies_whole(tile.step, value_dim, tile.threads()));
            t += 1;
        }
        i += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_takes_the_smallest_kernel_that_holds_it() {
        for d in 1..=256 {
            for dv in 1..=256 {
                let (head, value) = flash_head_dims(d, dv).unwrap();
                assert!(d <= head && dv <= value);
                for (h, v) in FLASH_HEAD_DIMS {
                    assert!(h < d || v < dv || h + v >= head + value);
                }
            }
        }
        assert_eq!([flash_head_dims(257, 1), flash_head_dims(1, 257)], [None; 2]);
        assert_eq!(flash_head_dims(40, 100), Some((64, 128)));
        assert_eq!(flash_head_dims(192, 128), Some((192, 128)));
    }

    /// Of an A100, and of a GPU with 100 KiB of shared memory a multiprocessor; the system keeps 1 KiB for each block (CUDA Programming
    /// Guide, "Compute Capabilities").
    #[test]
    fn shared_memory_has_room_for_the_blocks_that_the_tables_name() {
        let blocks = |shared: u32| [164, 100].map(|all| all * 1024 / (shared + 1024));
        let forward = [
            ((32, 32), [2, 2]),
            ((64, 64), [2, 2]),
            ((96, 96), [2, 2]),
            ((64, 128), [2, 2]),
            ((128, 64), [2, 1]),
            ((128, 128), [2, 1]),
            ((192, 128), [1, 1]),
            ((192, 192), [1, 1]),
            ((256, 256), [1, 1]),
        ];
        assert!(FLASH_HEAD_DIMS.iter().all(|dims| forward.iter().any(|(of, _)| of == dims)));
        for ((d, dv), [a100, small]) in forward {
            let tile = flash_forward_tile(d, dv);
            let by_shared = blocks(tile.shared_bytes());
            assert_eq!(by_shared.map(|n| n.min(tile.min_blocks)), [a100, small], "{d}, {dv}");
        }
        for (d, dv) in FLASH_GRAD_HEAD_DIMS {
            let [general, small] = blocks(flash_general_grad_tile(d, dv).shared_bytes());
            let least = if d.max(dv) <= 128 { 2 } else { 1 };
            assert!(general >= least && small >= 1, "{d}, {dv}: {general}, {small}");
        }
    }
}
