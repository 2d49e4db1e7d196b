//! Device standard library with the interface of Rust-CUDA's cuda_std, on the unmodified compiler
