//! Exact attention, forward and backward, on CUDA GPUs, an emulator, or the CPU
