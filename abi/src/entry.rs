//! The one list of entry points: which kernels exist, under which names.
//!
//! The device crate expands [`for_each_entry_point!`](crate::for_each_entry_point) into the kernels; the host looks them
//! up in [`ENTRY_POINTS`], made from the same rows. Those for tensor cores are a list of their own, because they are compiled
//! for a newer target.

use crate::Dtype;

/// What a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// `out` and `lse` from q, k, v. Grid: query blocks x query heads x batch, in one dimension.
    Forward,
    /// `delta = rowsum(dout * out) - dlse`, the same for every head dim (listed with tile 0).
    Delta,
    /// `dk` and `dv`. Grid: key blocks x key heads x batch.
    GradKeyValue,
    /// `dq`. Grid: query blocks x query heads x batch.
    GradQuery,
    /// The gradient of the additive bias. Grid: key blocks x bias query blocks x bias heads x bias batch.
    GradBias,
    /// The gradient of the sinks, the same for every storage type and head dim (listed with f32 and tile 0). Grid: query heads.
    GradSink,
}

impl Kernel {
    /// Every kernel.
    pub const ALL: [Kernel; 6] = [
        Kernel::Forward,
        Kernel::Delta,
        Kernel::GradKeyValue,
        Kernel::GradQuery,
        Kernel::GradBias,
        Kernel::GradSink,
    ];
}

/// One compiled specialisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryPoint {
    /// What it computes.
    pub kernel: Kernel,
    /// The storage type it reads and writes.
    pub dtype: Dtype,
    /// Its head-dim tile; 0 for [`Kernel::Delta`] and [`Kernel::GradSink`], which serve all.
    pub head_dim: u32,
    /// Its symbol, and the name of its PTX module.
    pub name: &'static str,
}

/// Calls the macro `$each` once with every entry point, a row `Kernel Dtype head_dim name;` each.
#[macro_export]
macro_rules! for_each_entry_point {
    ($each:ident) => {
        $each! {
            GradSink F32 0 grad_sink;
            Delta F32 0 delta_f32;
            Forward F32 32 forward_f32_d32;
            GradKeyValue F32 32 grad_key_value_f32_d32;
            GradQuery F32 32 grad_query_f32_d32;
            GradBias F32 32 grad_bias_f32_d32;
            Forward F32 64 forward_f32_d64;
            GradKeyValue F32 64 grad_key_value_f32_d64;
            GradQuery F32 64 grad_query_f32_d64;
            GradBias F32 64 grad_bias_f32_d64;
            Forward F32 96 forward_f32_d96;
            GradKeyValue F32 96 grad_key_value_f32_d96;
            GradQuery F32 96 grad_query_f32_d96;
            GradBias F32 96 grad_bias_f32_d96;
            Forward F32 128 forward_f32_d128;
            GradKeyValue F32 128 grad_key_value_f32_d128;
            GradQuery F32 128 grad_query_f32_d128;
            GradBias F32 128 grad_bias_f32_d128;
            Forward F32 192 forward_f32_d192;
            GradKeyValue F32 192 grad_key_value_f32_d192;
            GradQuery F32 192 grad_query_f32_d192;
            GradBias F32 192 grad_bias_f32_d192;
            Forward F32 256 forward_f32_d256;
            GradKeyValue F32 256 grad_key_value_f32_d256;
            GradQuery F32 256 grad_query_f32_d256;
            GradBias F32 256 grad_bias_f32_d256;
            Delta F16 0 delta_f16;
            Forward F16 32 forward_f16_d32;
            GradKeyValue F16 32 grad_key_value_f16_d32;
            GradQuery F16 32 grad_query_f16_d32;
            GradBias F16 32 grad_bias_f16_d32;
            Forward F16 64 forward_f16_d64;
            GradKeyValue F16 64 grad_key_value_f16_d64;
            GradQuery F16 64 grad_query_f16_d64;
            GradBias F16 64 grad_bias_f16_d64;
            Forward F16 96 forward_f16_d96;
            GradKeyValue F16 96 grad_key_value_f16_d96;
            GradQuery F16 96 grad_query_f16_d96;
            GradBias F16 96 grad_bias_f16_d96;
            Forward F16 128 forward_f16_d128;
            GradKeyValue F16 128 grad_key_value_f16_d128;
            GradQuery F16 128 grad_query_f16_d128;
            GradBias F16 128 grad_bias_f16_d128;
            Forward F16 192 forward_f16_d192;
            GradKeyValue F16 192 grad_key_value_f16_d192;
            GradQuery F16 192 grad_query_f16_d192;
            GradBias F16 192 grad_bias_f16_d192;
            Forward F16 256 forward_f16_d256;
            GradKeyValue F16 256 grad_key_value_f16_d256;
            GradQuery F16 256 grad_query_f16_d256;
            GradBias F16 256 grad_bias_f16_d256;
            Delta Bf16 0 delta_bf16;
            Forward Bf16 32 forward_bf16_d32;
            GradKeyValue Bf16 32 grad_key_value_bf16_d32;
            GradQuery Bf16 32 grad_query_bf16_d32;
            GradBias Bf16 32 grad_bias_bf16_d32;
            Forward Bf16 64 forward_bf16_d64;
            GradKeyValue Bf16 64 grad_key_value_bf16_d64;
            GradQuery Bf16 64 grad_query_bf16_d64;
            GradBias Bf16 64 grad_bias_bf16_d64;
            Forward Bf16 96 forward_bf16_d96;
            GradKeyValue Bf16 96 grad_key_value_bf16_d96;
            GradQuery Bf16 96 grad_query_bf16_d96;
            GradBias Bf16 96 grad_bias_bf16_d96;
            Forward Bf16 128 forward_bf16_d128;
            GradKeyValue Bf16 128 grad_key_value_bf16_d128;
            GradQuery Bf16 128 grad_query_bf16_d128;
            GradBias Bf16 128 grad_bias_bf16_d128;
            Forward Bf16 192 forward_bf16_d192;
            GradKeyValue Bf16 192 grad_key_value_bf16_d192;
            GradQuery Bf16 192 grad_query_bf16_d192;
            GradBias Bf16 192 grad_bias_bf16_d192;
            Forward Bf16 256 forward_bf16_d256;
            GradKeyValue Bf16 256 grad_key_value_bf16_d256;
            GradQuery Bf16 256 grad_query_bf16_d256;
            GradBias Bf16 256 grad_bias_bf16_d256;
        }
    };
}

macro_rules! entry_point_table {
    ($($kernel:ident $dtype:ident $head_dim:literal $name:ident;)*) => {
        &[$(EntryPoint {
            kernel: Kernel::$kernel,
            dtype: Dtype::$dtype,
            head_dim: $head_dim,
            name: stringify!($name),
        }),*]
    };
}

/// Every entry point.
pub const ENTRY_POINTS: &[EntryPoint] = for_each_entry_point!(entry_point_table);

/// The entry point for a kernel, storage type and head-dim tile, if it exists.
pub fn find(kernel: Kernel, dtype: Dtype, head_dim: u32) -> Option<&'static EntryPoint> {
    let (dtype, head_dim) = match kernel {
        Kernel::Delta => (dtype, 0),
        Kernel::GradSink => (Dtype::F32, 0),
        _ => (dtype, head_dim),
    };
    ENTRY_POINTS.iter().find(|e| e.kernel == kernel && e.dtype == dtype && e.head_dim == head_dim)
}

/// What a kernel for tensor cores computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlashKernel {
    /// `out` and `lse` from q, k, v, where scores need no more than a positive factor and a band. Grid: query blocks x query
    /// heads x batch, in one dimension.
    Forward,
    /// The same with bias, mask, softcap, ALiBi, sinks and dropout.
    General,
    /// `dk` and `dv`, for problems of [`FlashKernel::Forward`]. Grid: key blocks x key heads x batch.
    GradKeyValue,
    /// `dq`, for the same. Grid: query blocks x query heads x batch.
    GradQuery,
    /// `dk` alone, for the same where both do not fit in registers. Grid as for both.
    GradKey,
    /// `dv` alone.
    GradValue,
    /// `dk` and `dv`, for problems of [`FlashKernel::General`]. Grid: key blocks x key heads x batch.
    GeneralGradKeyValue,
    /// `dq`, for the same. Grid: query blocks x query heads x batch.
    GeneralGradQuery,
    /// [`FlashKernel::Forward`] of a part of the keys, for all query heads that share them. Grid: blocks of (query, head) rows x
    /// parts x key heads x batch.
    Split,
    /// [`FlashKernel::General`] of a part of the keys. Grid: query blocks x parts x query heads x batch.
    SplitGeneral,
    /// `out` and `lse` from those of the parts, the same for all head dims (listed with 0). Grid: rows of out, in pieces of
    /// [`COMBINE_COLUMNS`](crate::flash::split::COMBINE_COLUMNS), one a warp.
    Combine,
    /// `dk`, `dv` and f32 sums of `dq` ([`GradSums`](crate::flash::GradSums)), to which blocks of keys add atomically; for
    /// problems of [`FlashKernel::Forward`]. Grid: key blocks x key heads x batch.
    GradFused,
    /// The same where dk and dv do not fit in the registers of a warp: two share them.
    WideGradFused,
    /// The same for problems of [`FlashKernel::General`], of any head dims.
    GeneralGradFused,
    /// `dq` from those sums, the same for every head dim (listed with 0). Grid: tiles of queries x query heads x batch.
    GradConvert,
    /// `dk` alone, for problems of [`FlashKernel::General`] where both do not fit in registers. Grid as for both.
    GeneralGradKey,
    /// `dv` alone.
    GeneralGradValue,
}

/// One compiled specialisation for tensor cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlashEntryPoint {
    /// What it computes.
    pub kernel: FlashKernel,
    /// The storage type it reads and writes: f16 or bf16.
    pub dtype: Dtype,
    /// Its columns of q and k; 0 for [`FlashKernel::Combine`] and [`FlashKernel::GradConvert`], which serve all.
    pub head_dim: u32,
    /// Its columns of v and out; the same.
    pub value_dim: u32,
    /// Its symbol, and the name of its PTX module.
    pub name: &'static str,
}

/// Calls the macro `$each` once with every entry point for tensor cores, a row `Kernel Dtype head_dim value_dim name;` each.
#[macro_export]
macro_rules! for_each_flash_entry_point {
    ($each:ident) => {
        $each! {
            GradConvert F16 0 0 flash_grad_convert_f16;
            Forward F16 32 32 flash_forward_f16_d32;
            General F16 32 32 flash_general_f16_d32;
            GradKeyValue F16 32 32 flash_grad_key_value_f16_d32;
            GradQuery F16 32 32 flash_grad_query_f16_d32;
            GradFused F16 32 32 flash_grad_fused_f16_d32;
            GeneralGradKeyValue F16 32 32 flash_general_grad_key_value_f16_d32;
            GeneralGradQuery F16 32 32 flash_general_grad_query_f16_d32;
            GeneralGradFused F16 32 32 flash_general_grad_fused_f16_d32;
            Forward F16 64 64 flash_forward_f16_d64;
            General F16 64 64 flash_general_f16_d64;
            GradKeyValue F16 64 64 flash_grad_key_value_f16_d64;
            GradQuery F16 64 64 flash_grad_query_f16_d64;
            GradFused F16 64 64 flash_grad_fused_f16_d64;
            GeneralGradKeyValue F16 64 64 flash_general_grad_key_value_f16_d64;
            GeneralGradQuery F16 64 64 flash_general_grad_query_f16_d64;
            GeneralGradFused F16 64 64 flash_general_grad_fused_f16_d64;
            Forward F16 96 96 flash_forward_f16_d96;
            General F16 96 96 flash_general_f16_d96;
            GradKeyValue F16 96 96 flash_grad_key_value_f16_d96;
            GradQuery F16 96 96 flash_grad_query_f16_d96;
            GradFused F16 96 96 flash_grad_fused_f16_d96;
            GeneralGradKeyValue F16 96 96 flash_general_grad_key_value_f16_d96;
            GeneralGradQuery F16 96 96 flash_general_grad_query_f16_d96;
            GeneralGradFused F16 96 96 flash_general_grad_fused_f16_d96;
            Forward F16 64 128 flash_forward_f16_d64_128;
            General F16 64 128 flash_general_f16_d64_128;
            GradKeyValue F16 64 128 flash_grad_key_value_f16_d64_128;
            GradQuery F16 64 128 flash_grad_query_f16_d64_128;
            GradFused F16 64 128 flash_grad_fused_f16_d64_128;
            GeneralGradKeyValue F16 64 128 flash_general_grad_key_value_f16_d64_128;
            GeneralGradQuery F16 64 128 flash_general_grad_query_f16_d64_128;
            GeneralGradFused F16 64 128 flash_general_grad_fused_f16_d64_128;
            Forward F16 128 64 flash_forward_f16_d128_64;
            General F16 128 64 flash_general_f16_d128_64;
            GradKeyValue F16 128 64 flash_grad_key_value_f16_d128_64;
            GradQuery F16 128 64 flash_grad_query_f16_d128_64;
            GradFused F16 128 64 flash_grad_fused_f16_d128_64;
            GeneralGradKeyValue F16 128 64 flash_general_grad_key_value_f16_d128_64;
            GeneralGradQuery F16 128 64 flash_general_grad_query_f16_d128_64;
            GeneralGradFused F16 128 64 flash_general_grad_fused_f16_d128_64;
            Forward F16 128 128 flash_forward_f16_d128;
            General F16 128 128 flash_general_f16_d128;
            GradKeyValue F16 128 128 flash_grad_key_value_f16_d128;
            GradQuery F16 128 128 flash_grad_query_f16_d128;
            GradFused F16 128 128 flash_grad_fused_f16_d128;
            GeneralGradKeyValue F16 128 128 flash_general_grad_key_value_f16_d128;
            GeneralGradQuery F16 128 128 flash_general_grad_query_f16_d128;
            GeneralGradFused F16 128 128 flash_general_grad_fused_f16_d128;
            Forward F16 192 128 flash_forward_f16_d192_128;
            General F16 192 128 flash_general_f16_d192_128;
            GradKey F16 192 128 flash_grad_key_f16_d192_128;
            GradValue F16 192 128 flash_grad_value_f16_d192_128;
            GradQuery F16 192 128 flash_grad_query_f16_d192_128;
            WideGradFused F16 192 128 flash_grad_fused_f16_d192_128;
            GeneralGradKey F16 192 128 flash_general_grad_key_f16_d192_128;
            GeneralGradValue F16 192 128 flash_general_grad_value_f16_d192_128;
            GeneralGradQuery F16 192 128 flash_general_grad_query_f16_d192_128;
            GeneralGradFused F16 192 128 flash_general_grad_fused_f16_d192_128;
            Forward F16 192 192 flash_forward_f16_d192;
            General F16 192 192 flash_general_f16_d192;
            GradKey F16 192 192 flash_grad_key_f16_d192;
            GradValue F16 192 192 flash_grad_value_f16_d192;
            GradQuery F16 192 192 flash_grad_query_f16_d192;
            WideGradFused F16 192 192 flash_grad_fused_f16_d192;
            GeneralGradKey F16 192 192 flash_general_grad_key_f16_d192;
            GeneralGradValue F16 192 192 flash_general_grad_value_f16_d192;
            GeneralGradQuery F16 192 192 flash_general_grad_query_f16_d192;
            GeneralGradFused F16 192 192 flash_general_grad_fused_f16_d192;
            Forward F16 256 256 flash_forward_f16_d256;
            General F16 256 256 flash_general_f16_d256;
            GradConvert Bf16 0 0 flash_grad_convert_bf16;
            GradKey F16 256 256 flash_grad_key_f16_d256;
            GradValue F16 256 256 flash_grad_value_f16_d256;
            GradQuery F16 256 256 flash_grad_query_f16_d256;
            WideGradFused F16 256 256 flash_grad_fused_f16_d256;
            GeneralGradKey F16 256 256 flash_general_grad_key_f16_d256;
            GeneralGradValue F16 256 256 flash_general_grad_value_f16_d256;
            GeneralGradQuery F16 256 256 flash_general_grad_query_f16_d256;
            GeneralGradFused F16 256 256 flash_general_grad_fused_f16_d256;
            Forward Bf16 32 32 flash_forward_bf16_d32;
            General Bf16 32 32 flash_general_bf16_d32;
            GradKeyValue Bf16 32 32 flash_grad_key_value_bf16_d32;
            GradQuery Bf16 32 32 flash_grad_query_bf16_d32;
            GradFused Bf16 32 32 flash_grad_fused_bf16_d32;
            GeneralGradKeyValue Bf16 32 32 flash_general_grad_key_value_bf16_d32;
            GeneralGradQuery Bf16 32 32 flash_general_grad_query_bf16_d32;
            GeneralGradFused Bf16 32 32 flash_general_grad_fused_bf16_d32;
            Forward Bf16 64 64 flash_forward_bf16_d64;
            General Bf16 64 64 flash_general_bf16_d64;
            GradKeyValue Bf16 64 64 flash_grad_key_value_bf16_d64;
            GradQuery Bf16 64 64 flash_grad_query_bf16_d64;
            GradFused Bf16 64 64 flash_grad_fused_bf16_d64;
            GeneralGradKeyValue Bf16 64 64 flash_general_grad_key_value_bf16_d64;
            GeneralGradQuery Bf16 64 64 flash_general_grad_query_bf16_d64;
            GeneralGradFused Bf16 64 64 flash_general_grad_fused_bf16_d64;
            Forward Bf16 96 96 flash_forward_bf16_d96;
            General Bf16 96 96 flash_general_bf16_d96;
            GradKeyValue Bf16 96 96 flash_grad_key_value_bf16_d96;
            GradQuery Bf16 96 96 flash_grad_query_bf16_d96;
            GradFused Bf16 96 96 flash_grad_fused_bf16_d96;
            GeneralGradKeyValue Bf16 96 96 flash_general_grad_key_value_bf16_d96;
            GeneralGradQuery Bf16 96 96 flash_general_grad_query_bf16_d96;
            GeneralGradFused Bf16 96 96 flash_general_grad_fused_bf16_d96;
            Forward Bf16 64 128 flash_forward_bf16_d64_128;
            General Bf16 64 128 flash_general_bf16_d64_128;
            GradKeyValue Bf16 64 128 flash_grad_key_value_bf16_d64_128;
            GradQuery Bf16 64 128 flash_grad_query_bf16_d64_128;
            GradFused Bf16 64 128 flash_grad_fused_bf16_d64_128;
            GeneralGradKeyValue Bf16 64 128 flash_general_grad_key_value_bf16_d64_128;
            GeneralGradQuery Bf16 64 128 flash_general_grad_query_bf16_d64_128;
            GeneralGradFused Bf16 64 128 flash_general_grad_fused_bf16_d64_128;
            Forward Bf16 128 64 flash_forward_bf16_d128_64;
            General Bf16 128 64 flash_general_bf16_d128_64;
            GradKeyValue Bf16 128 64 flash_grad_key_value_bf16_d128_64;
            GradQuery Bf16 128 64 flash_grad_query_bf16_d128_64;
            GradFused Bf16 128 64 flash_grad_fused_bf16_d128_64;
            GeneralGradKeyValue Bf16 128 64 flash_general_grad_key_value_bf16_d128_64;
            GeneralGradQuery Bf16 128 64 flash_general_grad_query_bf16_d128_64;
            GeneralGradFused Bf16 128 64 flash_general_grad_fused_bf16_d128_64;
            Forward Bf16 128 128 flash_forward_bf16_d128;
            General Bf16 128 128 flash_general_bf16_d128;
            GradKeyValue Bf16 128 128 flash_grad_key_value_bf16_d128;
            GradQuery Bf16 128 128 flash_grad_query_bf16_d128;
            GradFused Bf16 128 128 flash_grad_fused_bf16_d128;
            GeneralGradKeyValue Bf16 128 128 flash_general_grad_key_value_bf16_d128;
            GeneralGradQuery Bf16 128 128 flash_general_grad_query_bf16_d128;
            GeneralGradFused Bf16 128 128 flash_general_grad_fused_bf16_d128;
            Forward Bf16 192 128 flash_forward_bf16_d192_128;
            General Bf16 192 128 flash_general_bf16_d192_128;
            GradKey Bf16 192 128 flash_grad_key_bf16_d192_128;
            GradValue Bf16 192 128 flash_grad_value_bf16_d192_128;
            GradQuery Bf16 192 128 flash_grad_query_bf16_d192_128;
            WideGradFused Bf16 192 128 flash_grad_fused_bf16_d192_128;
            GeneralGradKey Bf16 192 128 flash_general_grad_key_bf16_d192_128;
            GeneralGradValue Bf16 192 128 flash_general_grad_value_bf16_d192_128;
            GeneralGradQuery Bf16 192 128 flash_general_grad_query_bf16_d192_128;
            GeneralGradFused Bf16 192 128 flash_general_grad_fused_bf16_d192_128;
            Forward Bf16 192 192 flash_forward_bf16_d192;
            General Bf16 192 192 flash_general_bf16_d192;
            GradKey Bf16 192 192 flash_grad_key_bf16_d192;
            GradValue Bf16 192 192 flash_grad_value_bf16_d192;
            GradQuery Bf16 192 192 flash_grad_query_bf16_d192;
            WideGradFused Bf16 192 192 flash_grad_fused_bf16_d192;
            GeneralGradKey Bf16 192 192 flash_general_grad_key_bf16_d192;
            GeneralGradValue Bf16 192 192 flash_general_grad_value_bf16_d192;
            GeneralGradQuery Bf16 192 192 flash_general_grad_query_bf16_d192;
            GeneralGradFused Bf16 192 192 flash_general_grad_fused_bf16_d192;
            Forward Bf16 256 256 flash_forward_bf16_d256;
            General Bf16 256 256 flash_general_bf16_d256;
            Split F16 32 32 flash_split_f16_d32;
            SplitGeneral F16 32 32 flash_split_general_f16_d32;
            Split F16 64 64 flash_split_f16_d64;
            SplitGeneral F16 64 64 flash_split_general_f16_d64;
            Split F16 96 96 flash_split_f16_d96;
            SplitGeneral F16 96 96 flash_split_general_f16_d96;
            Split F16 64 128 flash_split_f16_d64_128;
            SplitGeneral F16 64 128 flash_split_general_f16_d64_128;
            Split F16 128 64 flash_split_f16_d128_64;
            SplitGeneral F16 128 64 flash_split_general_f16_d128_64;
            Split F16 128 128 flash_split_f16_d128;
            SplitGeneral F16 128 128 flash_split_general_f16_d128;
            Split F16 192 128 flash_split_f16_d192_128;
            SplitGeneral F16 192 128 flash_split_general_f16_d192_128;
            Split F16 192 192 flash_split_f16_d192;
            SplitGeneral F16 192 192 flash_split_general_f16_d192;
            Split F16 256 256 flash_split_f16_d256;
            SplitGeneral F16 256 256 flash_split_general_f16_d256;
            Combine F16 0 0 flash_combine_f16;
            Split Bf16 32 32 flash_split_bf16_d32;
            SplitGeneral Bf16 32 32 flash_split_general_bf16_d32;
            Split Bf16 64 64 flash_split_bf16_d64;
            SplitGeneral Bf16 64 64 flash_split_general_bf16_d64;
            Split Bf16 96 96 flash_split_bf16_d96;
            SplitGeneral Bf16 96 96 flash_split_general_bf16_d96;
            Split Bf16 64 128 flash_split_bf16_d64_128;
            SplitGeneral Bf16 64 128 flash_split_general_bf16_d64_128;
            Split Bf16 128 64 flash_split_bf16_d128_64;
            SplitGeneral Bf16 128 64 flash_split_general_bf16_d128_64;
            Split Bf16 128 128 flash_split_bf16_d128;
            SplitGeneral Bf16 128 128 flash_split_general_bf16_d128;
            Split Bf16 192 128 flash_split_bf16_d192_128;
            SplitGeneral Bf16 192 128 flash_split_general_bf16_d192_128;
            Split Bf16 192 192 flash_split_bf16_d192;
            SplitGeneral Bf16 192 192 flash_split_general_bf16_d192;
            Split Bf16 256 256 flash_split_bf16_d256;
            SplitGeneral Bf16 256 256 flash_split_general_bf16_d256;
            Combine Bf16 0 0 flash_combine_bf16;
            GradKey Bf16 256 256 flash_grad_key_bf16_d256;
            GradValue Bf16 256 256 flash_grad_value_bf16_d256;
            GradQuery Bf16 256 256 flash_grad_query_bf16_d256;
            WideGradFused Bf16 256 256 flash_grad_fused_bf16_d256;
            GeneralGradKey Bf16 256 256 flash_general_grad_key_bf16_d256;
            GeneralGradValue Bf16 256 256 flash_general_grad_value_bf16_d256;
            GeneralGradQuery Bf16 256 256 flash_general_grad_query_bf16_d256;
            GeneralGradFused Bf16 256 256 flash_general_grad_fused_bf16_d256;
        }
    };
}

macro_rules! flash_entry_point_table {
    ($($kernel:ident $dtype:ident $head_dim:literal $value_dim:literal $name:ident;)*) => {
        &[$(FlashEntryPoint {
            kernel: FlashKernel::$kernel,
            dtype: Dtype::$dtype,
            head_dim: $head_dim,
            value_dim: $value_dim,
            name: stringify!($name),
        }),*]
    };
}

/// Every entry point for tensor cores.
pub const FLASH_ENTRY_POINTS: &[FlashEntryPoint] = for_each_flash_entry_point!(flash_entry_point_table);

/// The entry point for a kernel, storage type and padded head dims, if it exists.
pub fn find_flash(kernel: FlashKernel, dtype: Dtype, dims: (u32, u32)) -> Option<&'static FlashEntryPoint> {
    let (head_dim, value_dim) = if kernel == FlashKernel::GradConvert { (0, 0) } else { dims };
    let mut all = FLASH_ENTRY_POINTS.iter();
    all.find(|e| e.kernel == kernel && e.dtype == dtype && (e.head_dim, e.value_dim) == (head_dim, value_dim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HEAD_DIM_TILES;

    #[test]
    fn every_kernel_dtype_and_tile_has_exactly_one_entry_point() {
        for dtype in Dtype::ALL {
            for kernel in Kernel::ALL {
                for head_dim in HEAD_DIM_TILES {
                    let found = find(kernel, dtype, head_dim).unwrap();
                    let same = |e: &&EntryPoint| {
                        e.kernel == kernel && e.dtype == found.dtype && e.head_dim == found.head_dim
                    };
                    assert_eq!(
                        ENTRY_POINTS.iter().filter(same).count(),
                        1,
                        "{kernel:?} {dtype:?} {head_dim}"
                    );
                    assert!(kernel == Kernel::GradSink || found.dtype == dtype);
                    assert!(matches!(kernel, Kernel::Delta | Kernel::GradSink) || found.head_dim == head_dim);
                }
            }
        }
        assert_eq!(ENTRY_POINTS.len(), 3 * (1 + 4 * 6) + 1);
    }

    #[test]
    fn every_pair_of_head_dims_has_a_kernel_for_tensor_cores_in_both_types() {
        for dtype in [Dtype::F16, Dtype::Bf16] {
            for dims in crate::flash::FLASH_HEAD_DIMS {
                let forward = [
                    FlashKernel::Forward,
                    FlashKernel::General,
                    FlashKernel::Split,
                    FlashKernel::SplitGeneral,
                ];
                for kernel in forward {
                    let found = find_flash(kernel, dtype, dims).unwrap();
                    assert_eq!(FLASH_ENTRY_POINTS.iter().filter(|e| e.name == found.name).count(), 1);
                }
            }
            for dims in crate::flash::FLASH_GRAD_HEAD_DIMS {
                let of_keys: &[FlashKernel] = if crate::flash::flash_grad_is_split(dims.0, dims.1) {
                    &[
                        FlashKernel::GradKey,
                        FlashKernel::GradValue,
                        FlashKernel::GeneralGradKey,
                        FlashKernel::GeneralGradValue,
                        FlashKernel::WideGradFused,
                    ]
                } else {
                    &[FlashKernel::GradKeyValue, FlashKernel::GeneralGradKeyValue, FlashKernel::GradFused]
                };
                let of_all =
                    [FlashKernel::GradQuery, FlashKernel::GeneralGradQuery, FlashKernel::GeneralGradFused];
                for &kernel in of_keys.iter().chain(&of_all) {
                    let found = find_flash(kernel, dtype, dims).unwrap();
                    assert_eq!(FLASH_ENTRY_POINTS.iter().filter(|e| e.name == found.name).count(), 1);
                }
            }
            assert!(find_flash(FlashKernel::Combine, dtype, (0, 0)).is_some());
            assert!(find_flash(FlashKernel::GradConvert, dtype, (64, 64)).is_some());
        }
        // Four forward, and in backward six, or eight for the three that are wide; two for all head dims.
        let all = crate::flash::FLASH_HEAD_DIMS.len();
        assert_eq!(FLASH_ENTRY_POINTS.len(), 2 * (4 * all + 6 * all + 2 * 3 + 2));
    }
}
