//! The kernels. Each is a generic function over its configuration; `entry` makes one entry point of every row of the list.

pub mod delta;
pub mod entry;
pub mod forward;
pub mod grad_bias;
pub mod grad_key_value;
pub mod grad_query;
pub mod grad_sink;
pub mod gradient;
pub mod query_block;
