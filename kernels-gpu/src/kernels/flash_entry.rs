//! The entry points for tensor cores: one for every row of their list in `abi`.

use super::flash_forward::{self, flash_forward};
use super::flash_grad_convert::flash_grad_convert;
use super::flash_grad_key_value::{KeyAlone, KeyAndValue, ValueAlone};
use super::{
    flash_combine, flash_grad, flash_grad_fused, flash_grad_fused_paired, flash_grad_key_value,
    flash_grad_query, flash_split,
};
use crate::config::{
    FlashForward, FlashGeneral, FlashGeneralFusedGrad, FlashGeneralGrad, FlashGrad, FlashSplit,
    FlashSplitGeneral, FlashWideGrad,
};
use crate::element::{Bf16, F16};
use cuda_std::kernel;
use flash_attention_abi::flash::GRAD_CONVERT_THREADS;
use flash_attention_abi::flash::split::{COMBINE_THREADS, SplitParams};
use flash_attention_abi::{BackwardParams, FlashKernel, ForwardParams, for_each_flash_entry_point};

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
    (@one GradQuery $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        entry_points!(@backward GradQuery FlashGrad flash_grad_query [] $dtype $head_dim $value_dim $name);
    };
    (@one GradKeyValue $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        entry_points!(@backward GradKeyValue FlashGrad flash_grad_key_value [KeyAndValue,] $dtype $head_dim $value_dim $name);
    };
    (@one GradKey $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        entry_points!(@backward GradKey FlashGrad flash_grad_key_value [KeyAlone,] $dtype $head_dim $value_dim $name);
    };
    (@one GradValue $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        entry_points!(@backward GradValue FlashGrad flash_grad_key_value [ValueAlone,] $dtype $head_dim $value_dim $name);
    };
    (@one Split $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        entry_points!(@split Split FlashSplit $dtype $head_dim $value_dim $name);
    };
    (@one SplitGeneral $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        entry_points!(@split SplitGeneral FlashSplitGeneral $dtype $head_dim $value_dim $name);
    };
    (@one Combine $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        /// Puts parts together, for one storage type.
        ///
        /// # Safety
        /// Launched as the host's plan says, on tensors that are as the parameters describe them.
        #[kernel(
            launch_bounds({ COMBINE_THREADS }, 1),
            collectives("bar.sync" = 0, "shfl.sync" = { flash_combine::SHUFFLES })
        )]
        pub unsafe fn $name(params: SplitParams) {
            // SAFETY: the caller's.
            unsafe { flash_combine::flash_combine::<$dtype>(&params) }
        }
    };
    (@one GradConvert $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        /// The rounding of the sums of `dq` to one storage type.
        ///
        /// # Safety
        /// Launched as the host's plan says, on tensors that are as the parameters describe them.
        #[kernel(launch_bounds({ GRAD_CONVERT_THREADS }, 1), collectives("bar.sync" = 0, "shfl.sync" = 0, "mma.sync" = 0))]
        pub unsafe fn $name(params: BackwardParams) {
            // SAFETY: the caller's.
            unsafe { flash_grad_convert::<$dtype>(&params) }
        }
    };
    (@one GradFused $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        entry_points!(@backward GradFused FlashGrad flash_grad_fused [] $dtype $head_dim $value_dim $name);
    };
    (@one WideGradFused $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        entry_points!(@backward WideGradFused FlashWideGrad flash_grad_fused_paired [] $dtype $head_dim $value_dim $name);
    };
    (@one GeneralGradFused $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        entry_points!(@backward GeneralGradFused FlashGeneralFusedGrad flash_grad_fused_paired [] $dtype $head_dim $value_dim $name);
    };
    (@one GeneralGradQuery $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        entry_points!(@backward GeneralGradQuery FlashGeneralGrad flash_grad_query [] $dtype $head_dim $value_dim $name);
    };
    (@one GeneralGradKeyValue $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        entry_points!(@backward GeneralGradKeyValue FlashGeneralGrad flash_grad_key_value [KeyAndValue,] $dtype $head_dim $value_dim $name);
    };
    (@one GeneralGradKey $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        entry_points!(@backward GeneralGradKey FlashGeneralGrad flash_grad_key_value [KeyAlone,] $dtype $head_dim $value_dim $name);
    };
    (@one GeneralGradValue $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        entry_points!(@backward GeneralGradValue FlashGeneralGrad flash_grad_key_value [ValueAlone,] $dtype $head_dim $value_dim $name);
    };
    (
        @backward $kernel:ident $config:ident $body:ident [$($results:ident,)?]
        $dtype:ident $head_dim:literal $value_dim:literal $name:ident
    ) => {
        /// A backward kernel of one storage type and padded head dims.
        ///
        /// # Safety
        /// Launched as the host's plan says, on tensors that are as the parameters describe them.
        #[kernel(
            launch_bounds(
                { FlashKernel::$kernel.grad_tile($head_dim, $value_dim).threads() },
                { FlashKernel::$kernel.grad_tile($head_dim, $value_dim).min_blocks }
            ),
            collectives(
                "bar.sync" = { $body::barriers(FlashKernel::$kernel) },
                // One for each result on its way through shared memory, where no two warps share it.
                "bar.warp.sync" = {
                    let alone = FlashKernel::$kernel.grad_tile($head_dim, $value_dim).row_warps == 1;
                    if alone { FlashKernel::$kernel.grad_results() } else { 0 }
                },
                "shfl.sync" = 0,
                "mma.sync" = {
                    flash_grad::steps(FlashKernel::$kernel)
                        * FlashKernel::$kernel.grad_products($head_dim, $value_dim)
                },
                "ldmatrix.sync" = {
                    flash_grad::steps(FlashKernel::$kernel)
                        * FlashKernel::$kernel.grad_matrix_loads($head_dim, $value_dim)
                }
            )
        )]
        pub unsafe fn $name(params: BackwardParams) {
            // SAFETY: the caller's.
            unsafe {
                $body::$body::<
                    $config<$dtype, $head_dim, $value_dim>, $($results,)? $head_dim, $value_dim
                >(&params)
            }
        }
    };
    (@split $kernel:ident $config:ident $dtype:ident $head_dim:literal $value_dim:literal $name:ident) => {
        /// Forward of a part of the keys, of one storage type and padded head dims.
        ///
        /// # Safety
        /// Launched as the host's plan says, on tensors that are as the parameters describe them.
        #[kernel(
            launch_bounds(
                { FlashKernel::$kernel.tile($head_dim, $value_dim).threads() },
                { FlashKernel::$kernel.tile($head_dim, $value_dim).min_blocks }
            ),
            collectives(
                "bar.sync" = { flash_split::barriers(FlashKernel::$kernel.tile($head_dim, $value_dim)) },
                "shfl.sync" = {
                    flash_split::SHUFFLES_A_ROW * (FlashKernel::$kernel.tile($head_dim, $value_dim).warp_rows / 8)
                },
                "vote.sync" = { flash_split::VOTES },
                "mma.sync" = { FlashKernel::$kernel.tile($head_dim, $value_dim).products() },
                "ldmatrix.sync" = { FlashKernel::$kernel.tile($head_dim, $value_dim).matrix_loads() }
            )
        )]
        pub unsafe fn $name(params: SplitParams) {
            // SAFETY: the caller's.
            unsafe { flash_split::flash_split::<$config<$dtype, $head_dim, $value_dim>, $head_dim, $value_dim>(&params) }
        }
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
                "bar.sync" = {
                    flash_forward::barriers(FlashKernel::$kernel, FlashKernel::$kernel.tile($head_dim, $value_dim))
                },
                "bar.warp.sync" = { flash_forward::WARP_BARRIERS },
                "shfl.sync" = {
                    flash_forward::shuffles_a_row(FlashKernel::$kernel)
                        * (FlashKernel::$kernel.tile($head_dim, $value_dim).warp_rows / 8)
                },
                "vote.sync" = { flash_forward::votes(FlashKernel::$kernel) },
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
