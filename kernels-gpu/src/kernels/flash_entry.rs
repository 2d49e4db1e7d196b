//! The entry points for tensor cores: one for every row of their list in `abi`.

use super::flash_forward::{self, flash_forward};
use crate::config::{FlashForward, FlashGeneral};
use crate::element::{Bf16, F16};
use cuda_std::kernel;
use flash_attention_abi::{FlashKernel, ForwardParams, for_each_flash_entry_point};

cuda_std::declare_dynamic_shared!();

macro_rules! entry_points {
    ($($kernel:ident $dtype:ident $head_dim:literal $value_dim:literal $name:ident;)*) => {
        $(entry_points!(@one $kernel $dtype $head_dim $value_dim $name);)*
    };
    (@one Forward $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        entry_points!(@forward Forward FlashForward $dtype $head_dim $value_dim $name);
    };
    (@one General $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        entry_points!(@forward General FlashGeneral $dtype $head_dim $value_dim $name);
    };
    (@forward $kernel:ident $config:ident $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        /// Forward of one storage type and padded head dims.
        ///
        /// # Safety
        /// Launched as the host's plan says, on tensors that are as the parameters describe them.
        #[kernel(
            launch_bounds(
                { FlashKernel::$kernel.tile($head_dim, $value_dim).threads() },
                { FlashKernel::$kernel.tile($head_dim, $value_dim).min_blocks }
            ),
            collectives(
                "bar.sync" = { flash_forward::barriers(FlashKernel::$kernel) },
                "bar.warp.sync" = { flash_forward::WARP_BARRIERS },
                "shfl.sync" = {
                    flash_forward::shuffles_a_row(FlashKernel::$kernel)
                        * (FlashKernel::$kernel.tile($head_dim, $value_dim).warp_rows / 8)
                },
                "mma.sync" = {
                    flash_forward::steps(FlashKernel::$kernel) * FlashKernel::$kernel.tile($head_dim, $value_dim).products()
                },
                "ldmatrix.sync" = {
                    flash_forward::steps(FlashKernel::$kernel) * FlashKernel::$kernel.tile($head_dim, $value_dim).matrix_loads()
                }
            )
        )]
        pub unsafe fn $name(params: ForwardParams) {
            // SAFETY: the caller's.
            unsafe { flash_forward::<$config<$dtype, $head_dim, $value_dim>, $head_dim, $value_dim>(&params) }
        }
    };
}

for_each_flash_entry_point!(entry_points);
