//! Builds a device crate to PTX from a build script, with the interface of Rust-CUDA's cuda_builder
