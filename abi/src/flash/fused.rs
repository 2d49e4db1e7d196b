//! The fused backward kernel: what it has beside the tiles of `dk/dv`, and where it sums up `dq`.

use super::{FLASH_GRAD_HEAD_DIMS, FLASH_SHARED_LIMIT, FlashGradTile, flash_grad_tile};

/// Queries of a tile of [`GradSums`], which are those of a step.
pub const GRAD_SUM_ROWS: u32 = 32;

/// Threads of a block of the kernel that rounds the sums.
pub const GRAD_CONVERT_THREADS: u32 = 128;

/// The fused kernel's block owns keys, as that of `dk/dv`. It passes the gradients of a step's scores through shared memory, where
/// they lie as `[keys of the block, queries of the step]` in 16 bits, because dQ sums over the keys of all warps.
impl FlashGradTile {
    const fn score_grads_bytes(&self) -> u32 {
        self.block_rows() * self.step * 2
    }

    /// Byte offset of the gradients of scores: dO has one buffer, so that they take the place of the odd steps' where they fit.
    pub const fn score_grads_offset(&self) -> u32 {
        let odd_values = self.steps_offset() + self.step_bytes() + self.step_values_offset();
        if odd_values + self.score_grads_bytes() <= self.shared_bytes() {
            odd_values
        } else {
            self.shared_bytes()
        }
    }

    /// Dynamic shared memory of a block of the fused kernel.
    pub const fn fused_shared_bytes(&self) -> u32 {
        let end = self.score_grads_offset() + self.score_grads_bytes();
        if end > self.shared_bytes() { end } else { self.shared_bytes() }
    }

    /// Groups of warps that share the columns of dQ: two warps each, one for the upper and one for the lower 16 queries.
    pub const fn column_groups(&self) -> u32 {
        self.warps / 2
    }

    /// Columns of dQ of a warp.
    pub const fn group_columns(&self) -> u32 {
        self.head_dim / self.column_groups()
    }

    /// Products of 16 x 16 by 16 x 8 of a warp in a step of the fused kernel.
    pub const fn fused_products(&self) -> u32 {
        self.products(true) + self.block_rows() / 16 * (self.group_columns() / 8)
    }

    /// Loads of four 8 x 8 matrices.
    pub const fn fused_matrix_loads(&self) -> u32 {
        self.matrix_loads(true) + self.block_rows() / 16 * (1 + self.group_columns() / 16)
    }
}

/// Where blocks of keys add up `dq`: tiles of [`GRAD_SUM_ROWS`] queries of one head, each f32 sums of `head_dim` padded columns (in
/// the order of `grad_sums` in `geometry`), then for each query its log-sum-exp in units of log2 and its delta.
///
/// The sequences of a ragged batch begin at tiles of their own: one that begins at row `r` of the packed tensor, as number `b`,
/// at tile `r / 32 + b`. (`r / 32 + n.div_ceil(32) <= (r + n) / 32 + 1`.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GradSums {
    /// Padded columns of q.
    pub head_dim: u32,
}

impl GradSums {
    /// Bytes of a tile.
    pub const fn tile_bytes(&self) -> u32 {
        self.numbers_offset() + GRAD_SUM_ROWS * 8
    }

    /// Byte offset of the pairs of log-sum-exp and delta in a tile.
    pub const fn numbers_offset(&self) -> u32 {
        GRAD_SUM_ROWS * self.head_dim * 4
    }
}

const _: () = {
    let mut i = 0;
    while i < FLASH_GRAD_HEAD_DIMS.len() {
        let (head_dim, value_dim) = FLASH_GRAD_HEAD_DIMS[i];
        let tile = flash_grad_tile(head_dim, value_dim);
        assert!(tile.fused_shared_bytes() <= FLASH_SHARED_LIMIT);
        assert!(tile.step == GRAD_SUM_ROWS);
        // Warps load and multiply 16 columns at a time.
        assert!(tile.warps.is_multiple_of(2) && tile.head_dim.is_multiple_of(16 * tile.column_groups()));
        i += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_of_scores_lie_where_nothing_of_a_step_does() {
        for (head_dim, value_dim) in FLASH_GRAD_HEAD_DIMS {
            let tile = flash_grad_tile(head_dim, value_dim);
            let at = tile.score_grads_offset();
            // Rows, even Q, dO, odd Q.
            let used = tile.steps_offset() + tile.step_bytes() + tile.step_values_offset();
            assert!(at >= used && at.is_multiple_of(128), "{head_dim} {value_dim}");
            assert!(at + tile.block_rows() * tile.step * 2 <= tile.fused_shared_bytes());
        }
    }

    #[test]
    fn the_warps_share_the_tile_of_dq() {
        for (head_dim, value_dim) in FLASH_GRAD_HEAD_DIMS {
            let tile = flash_grad_tile(head_dim, value_dim);
            assert_eq!(tile.warps * 16 * tile.group_columns(), tile.step * head_dim);
        }
    }

    #[test]
    fn sequences_of_a_ragged_batch_do_not_share_a_tile() {
        for begin in 0..70 {
            for rows in 0..100u32 {
                let end = begin + rows;
                assert!(begin / GRAD_SUM_ROWS + rows.div_ceil(GRAD_SUM_ROWS) <= end / GRAD_SUM_ROWS + 1);
            }
        }
    }
}
