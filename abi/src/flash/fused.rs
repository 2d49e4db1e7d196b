//! The fused backward kernels: what they have beside the tiles of `dk/dv`, and where they sum up `dq`.

use super::{
    FLASH_GRAD_HEAD_DIMS, FLASH_SHARED_LIMIT, FlashGradTile, flash_grad_is_split, flash_grad_tile,
    flash_paired_grad_tile,
};

/// Queries of a tile of [`GradSums`].
pub const GRAD_SUM_ROWS: u32 = 32;

/// Threads of a block of the kernel that rounds the sums.
pub const GRAD_CONVERT_THREADS: u32 = 128;

/// A fused kernel's block owns keys, as that of `dk/dv`. It passes the gradients of a step's scores through shared memory, where
/// they lie as `[keys of the block, 32 queries]` in 16 bits, because dQ sums over the keys of all warps. Where warps share keys
/// the weights lie behind them in the same way.
impl FlashGradTile {
    const fn exchanged_bytes(&self) -> u32 {
        self.block_rows() * GRAD_SUM_ROWS * 2
    }

    /// Byte offset of the gradients of scores: dO has one buffer, so that they take the place of the odd steps' where they fit.
    pub const fn score_grads_offset(&self) -> u32 {
        let odd_values = self.steps_offset() + self.step_bytes() + self.step_values_offset();
        if odd_values + self.row_warps * self.exchanged_bytes() <= self.shared_bytes() {
            odd_values
        } else {
            self.shared_bytes()
        }
    }

    /// Byte offset of the weights, where two warps share rows.
    pub const fn weights_offset(&self) -> u32 {
        self.score_grads_offset() + self.exchanged_bytes()
    }

    /// Dynamic shared memory of a block of a fused kernel.
    pub const fn fused_shared_bytes(&self) -> u32 {
        let end = self.score_grads_offset() + self.row_warps * self.exchanged_bytes();
        if end > self.shared_bytes() { end } else { self.shared_bytes() }
    }

    /// Groups of warps that share the columns of dQ: a warp of a group for each 16 queries of the step.
    pub const fn column_groups(&self) -> u32 {
        self.warps / (self.step / 16)
    }

    /// Columns of dQ of a warp.
    pub const fn group_columns(&self) -> u32 {
        self.head_dim / self.column_groups()
    }

    /// Products of 16 x 16 by 16 x 8 of a warp in a step of a fused kernel.
    pub const fn fused_products(&self) -> u32 {
        let (rows, depth) = (self.warp_rows / 16, (self.head_dim + self.value_dim) / 16);
        let scores = rows * self.warp_columns() / 8 * depth;
        let sums = rows * 2 * depth / self.row_warps * (self.step / 16);
        scores + sums + self.block_rows() / 16 * (self.group_columns() / 8)
    }

    /// Loads of four 8 x 8 matrices.
    pub const fn fused_matrix_loads(&self) -> u32 {
        if self.row_warps == 1 {
            return self.matrix_loads(true) + self.block_rows() / 16 * (1 + self.group_columns() / 16);
        }
        let (depth, steps) = ((self.head_dim + self.value_dim) / 16, self.step / 16);
        // Keys or values, then queries or dO; weights or gradients of scores, then dO or queries; those gradients, then keys.
        let scores = depth + self.warp_columns() / 8 * depth / 2;
        let sums = 2 * steps + steps * depth / 2;
        scores + sums + self.block_rows() / 16 + self.block_rows() / 32 * (self.group_columns() / 8)
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
        // Where dk and dv do not fit in the registers of a warp, two share them.
        if !flash_grad_is_split(head_dim, value_dim) {
            assert!(tile.fused_shared_bytes() <= FLASH_SHARED_LIMIT);
            assert!(tile.step == GRAD_SUM_ROWS);
            // Warps load and multiply 16 columns at a time.
            assert!(tile.warps.is_multiple_of(2) && tile.head_dim.is_multiple_of(16 * tile.column_groups()));
        }
        let paired = flash_paired_grad_tile(head_dim, value_dim);
        assert!(paired.fused_shared_bytes() <= FLASH_SHARED_LIMIT);
        assert!(paired.warp_columns().is_multiple_of(8) && paired.warps == 4 * paired.row_warps);
        // Of dk and dv 16 columns at a time, of dQ 8.
        assert!(head_dim.is_multiple_of(32) && value_dim.is_multiple_of(32));
        assert!(head_dim.is_multiple_of(8 * paired.column_groups()));
        i += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The tiles of all fused kernels.
    fn fused() -> impl Iterator<Item = FlashGradTile> {
        let dims = || FLASH_GRAD_HEAD_DIMS.into_iter();
        let narrow = dims().filter(|&(d, dv)| !flash_grad_is_split(d, dv));
        narrow
            .map(|(d, dv)| flash_grad_tile(d, dv))
            .chain(dims().map(|(d, dv)| flash_paired_grad_tile(d, dv)))
    }

    #[test]
    fn what_warps_exchange_lies_where_nothing_of_a_step_does() {
        for tile in fused() {
            let at = tile.score_grads_offset();
            // Rows, even Q, dO, odd Q.
            let used = tile.steps_offset() + tile.step_bytes() + tile.step_values_offset();
            assert!(at >= used && at.is_multiple_of(128), "{tile:?}");
            let one = tile.block_rows() * GRAD_SUM_ROWS * 2;
            assert!(at + tile.row_warps * one <= tile.fused_shared_bytes(), "{tile:?}");
            assert_eq!(tile.weights_offset(), at + one);
        }
    }

    #[test]
    fn the_warps_share_the_tile_of_dq() {
        for tile in fused() {
            assert_eq!(tile.warps * 16 * tile.group_columns(), tile.step * tile.head_dim, "{tile:?}");
        }
    }

    /// Multiply-adds of five products for each pair of a key and a query.
    #[test]
    fn products_are_five() {
        for tile in fused() {
            let pairs = tile.block_rows() * tile.step;
            let expected = pairs * (3 * tile.head_dim + 2 * tile.value_dim);
            assert_eq!(tile.warps * tile.fused_products() * (16 * 16 * 8), expected, "{tile:?}");
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
