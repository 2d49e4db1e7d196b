//! The kernels. Each is a generic function over its configuration; `entry` makes one entry point of every row of
//! the list, or, for a newer target, `flash_entry` of every row of the list for tensor cores.

pub mod delta;
#[cfg(not(feature = "flash"))]
pub mod entry;
pub mod flash_combine;
#[cfg(feature = "flash")]
pub mod flash_entry;
pub mod flash_forward;
pub mod flash_grad;
pub mod flash_grad_convert;
pub mod flash_grad_fused;
pub mod flash_grad_fused_paired;
pub mod flash_grad_key_value;
pub mod flash_grad_query;
pub mod flash_split;
pub mod forward;
pub mod grad_bias;
pub mod grad_key_value;
pub mod grad_notes;
pub mod grad_query;
pub mod grad_sink;
pub mod gradient;
pub mod head_notes;
pub mod key_block;
pub mod query_block;
pub mod turn;
