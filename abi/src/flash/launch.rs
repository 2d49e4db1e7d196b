//! How each kernel for tensor cores divides its work, and what it needs of a multiprocessor.

use super::split::COMBINE_THREADS;
use super::{
    FlashGradTile, FlashTile, GRAD_CONVERT_THREADS, flash_forward_tile, flash_general_grad_tile,
    flash_general_tile, flash_grad_tile, flash_paired_grad_tile, flash_split_general_tile, flash_split_tile,
};
use crate::FlashKernel;

impl FlashKernel {
    /// The division of a forward kernel's work. A backward kernel's is [`FlashKernel::grad_tile`].
    pub const fn tile(self, head_dim: u32, value_dim: u32) -> FlashTile {
        match self {
            FlashKernel::Forward => flash_forward_tile(head_dim, value_dim),
            FlashKernel::Split => flash_split_tile(head_dim, value_dim),
            FlashKernel::SplitGeneral => flash_split_general_tile(head_dim, value_dim),
            _ => flash_general_tile(head_dim, value_dim),
        }
    }

    /// The division of a backward kernel's work.
    pub const fn grad_tile(self, head_dim: u32, value_dim: u32) -> FlashGradTile {
        match self {
            FlashKernel::GeneralGradKeyValue
            | FlashKernel::GeneralGradKey
            | FlashKernel::GeneralGradValue
            | FlashKernel::GeneralGradQuery => flash_general_grad_tile(head_dim, value_dim),
            FlashKernel::WideGradFused | FlashKernel::GeneralGradFused => {
                flash_paired_grad_tile(head_dim, value_dim)
            }
            _ => flash_grad_tile(head_dim, value_dim),
        }
    }

    /// Whether it computes all of dk, dv and the sums of dq.
    pub const fn is_fused(self) -> bool {
        matches!(self, FlashKernel::GradFused | FlashKernel::WideGradFused | FlashKernel::GeneralGradFused)
    }

    /// Products of 16 x 16 by 16 x 8 that a warp of a backward kernel computes in a step.
    pub const fn grad_products(self, head_dim: u32, value_dim: u32) -> u32 {
        let tile = self.grad_tile(head_dim, value_dim);
        match self {
            FlashKernel::GradValue | FlashKernel::GeneralGradValue => tile.value_products(),
            _ if self.is_fused() => tile.fused_products(),
            _ => tile.products(self.grad_results() == 2),
        }
    }

    /// Loads of four 8 x 8 matrices in such a step.
    pub const fn grad_matrix_loads(self, head_dim: u32, value_dim: u32) -> u32 {
        let tile = self.grad_tile(head_dim, value_dim);
        match self {
            FlashKernel::GradValue | FlashKernel::GeneralGradValue => tile.value_matrix_loads(),
            _ if self.is_fused() => tile.fused_matrix_loads(),
            _ => tile.matrix_loads(self.grad_results() == 2),
        }
    }

    /// Dynamic shared memory of a block of a backward kernel.
    pub const fn grad_shared_bytes(self, head_dim: u32, value_dim: u32) -> u32 {
        let tile = self.grad_tile(head_dim, value_dim);
        if self.is_fused() { tile.fused_shared_bytes() } else { tile.shared_bytes() }
    }

    /// Gradients that a backward kernel writes; the sums of `dq` are none yet.
    pub const fn grad_results(self) -> u32 {
        match self {
            FlashKernel::GradKeyValue | FlashKernel::GeneralGradKeyValue => 2,
            _ if self.is_fused() => 2,
            _ => 1,
        }
    }

    /// Threads of a block.
    pub const fn threads(self, head_dim: u32, value_dim: u32) -> u32 {
        match self {
            FlashKernel::Forward | FlashKernel::General | FlashKernel::Split | FlashKernel::SplitGeneral => {
                self.tile(head_dim, value_dim).threads()
            }
            FlashKernel::Combine => COMBINE_THREADS,
            FlashKernel::GradConvert => GRAD_CONVERT_THREADS,
            _ => self.grad_tile(head_dim, value_dim).threads(),
        }
    }
}
