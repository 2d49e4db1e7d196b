//! The attention kernels: plain Rust, compiled to PTX
