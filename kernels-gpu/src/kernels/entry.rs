//! The entry points: one for every row of the list in `abi`.

use super::{delta, forward, grad_bias, grad_key_value, grad_query, grad_sink};
use crate::config::{Backward, Forward};
use crate::element::{Bf16, F16, F32};
use cuda_std::kernel;
use flash_attention_abi::{BackwardParams, ForwardParams, for_each_entry_point};

cuda_std::declare_dynamic_shared!();

macro_rules! entry_points {
    ($($kernel:ident $dtype:ident $head_dim:literal $name:ident;)*) => {
        $(entry_points!(@one $kernel $dtype $head_dim $name);)*
    };
    (@one Forward $dtype:ident $head_dim:literal $name:ident) => {
        /// Forward of one storage type and head-dim tile.
        ///
        /// # Safety
        /// Launched as the host's plan says, on tensors that are as the parameters describe them.
        #[kernel(
            launch_bounds({ ::flash_attention_abi::tile::forward_tile($head_dim).threads }, { ::flash_attention_abi::tile::forward_tile($head_dim).min_blocks }),
            collectives(
                "bar.sync" = { forward::BARRIERS },
                "shfl.sync" = { forward::SHUFFLES_A_ROW * ::flash_attention_abi::tile::forward_tile($head_dim).rows_per_thread }
            )
        )]
        pub unsafe fn $name(params: ForwardParams) {
            // SAFETY: the caller's.
            unsafe { forward::forward::<Forward<$dtype, $head_dim>>(&params) }
        }
    };
    (@one Delta $dtype:ident $head_dim:literal $name:ident) => {
        /// `delta` of one storage type.
        ///
        /// # Safety
        /// Launched as the host's plan says, on tensors that are as the parameters describe them.
        #[kernel(launch_bounds({ ::flash_attention_abi::tile::DELTA_THREADS }, 1), collectives("bar.sync" = 0, "shfl.sync" = { delta::SHUFFLES }))]
        pub unsafe fn $name(params: BackwardParams) {
            // SAFETY: the caller's.
            unsafe { delta::delta::<$dtype>(&params) }
        }
    };
    (@one GradSink $dtype:ident $head_dim:literal $name:ident) => {
        /// The gradient of the sinks.
        ///
        /// # Safety
        /// Launched as the host's plan says, on tensors that are as the parameters describe them.
        #[kernel(launch_bounds({ ::flash_attention_abi::tile::SINK_THREADS }, 1), collectives("bar.sync" = { grad_sink::BARRIERS }, "shfl.sync" = { grad_sink::SHUFFLES }))]
        pub unsafe fn $name(params: BackwardParams) {
            // SAFETY: the caller's.
            unsafe { grad_sink::grad_sink(&params) }
        }
    };
    (@one GradKeyValue $dtype:ident $head_dim:literal $name:ident) => {
        entry_points!(@backward grad_key_value $dtype $head_dim $name);
    };
    (@one GradQuery $dtype:ident $head_dim:literal $name:ident) => {
        entry_points!(@backward grad_query $dtype $head_dim $name);
    };
    (@one GradBias $dtype:ident $head_dim:literal $name:ident) => {
        entry_points!(@backward grad_bias $dtype $head_dim $name);
    };
    (@backward $body:ident $dtype:ident $head_dim:literal $name:ident) => {
        /// A backward kernel of one storage type and head-dim tile.
        ///
        /// # Safety
        /// Launched as the host's plan says, on tensors that are as the parameters describe them.
        #[kernel(
            launch_bounds({ ::flash_attention_abi::tile::backward_tile($head_dim).threads }, { ::flash_attention_abi::tile::backward_tile($head_dim).min_blocks }),
            collectives("bar.sync" = { $body::BARRIERS }, "shfl.sync" = 0)
        )]
        pub unsafe fn $name(params: BackwardParams) {
            // SAFETY: the caller's.
            unsafe { $body::$body::<Backward<$dtype, $head_dim>>(&params) }
        }
    };
}

for_each_entry_point!(entry_points);
