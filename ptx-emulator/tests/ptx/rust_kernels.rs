//! Source of `rust_kernels.ptx`: small kernels with what rustc likes to emit (calls, a jump table, local memory, by-value
//! structs, f16). Compiled by `rustc --target nvptx64-nvidia-cuda --emit asm -C target-cpu=sm_80` as a crate that depends on
//! `cuda_std`; not part of any build.
#![no_std]
#![feature(abi_ptx, asm_experimental_arch, stdarch_nvptx, f16)]
use core::arch::nvptx::*;

cuda_std::declare_dynamic_shared!();

fn index() -> usize { unsafe { (_block_idx_x() * _block_dim_x() + _thread_idx_x()) as usize } }

#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn axpy(a: f32, x: *const f32, y: *mut f32, n: u32) {
    let i = index();
    if i < n as usize { unsafe { *y.add(i) += a * *x.add(i) } }
}

/// Row sums by a tree in dynamic shared memory.
#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn block_sum(x: *const f32, out: *mut f32) {
    let t = unsafe { _thread_idx_x() } as usize;
    let p: *mut f32 = cuda_std::shared::dynamic_shared_mem();
    unsafe {
        *p.add(t) = *x.add(index());
        _syncthreads();
        let mut half = _block_dim_x() as usize / 2;
        while half > 0 {
            if t < half { *p.add(t) += *p.add(t + half); }
            _syncthreads();
            half /= 2;
        }
        if t == 0 { *out.add(_block_idx_x() as usize) = *p; }
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Params { x: *const u32, out: *mut u64, n: u32, mode: u32, scale: f64 }

/// A by-value struct, a match (brx or branches), 64-bit division, a local array, a recursive-free call chain.
#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn mixed(p: Params) {
    let i = index();
    if i >= p.n as usize { return; }
    let v = unsafe { *p.x.add(i) };
    let r = match v % 7 {
        0 => collatz(v),
        1 => (v as u64) / ((i as u64) + 3),
        2 => v.leading_zeros() as u64 + v.count_ones() as u64,
        3 => ((v as f64) * p.scale) as u64,
        4 => table(v, i),
        5 => (v as i32).wrapping_neg() as i64 as u64,
        _ => (v as f32).max(3.5).min(1e6) as u64,
    };
    unsafe { *p.out.add(i) = r }
}

#[inline(never)]
fn collatz(v: u32) -> u64 {
    let mut n = v as u64 % 1000 + 1;
    let mut steps = 0;
    while n != 1 { n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 }; steps += 1; }
    steps
}

#[inline(never)]
fn table(v: u32, i: usize) -> u64 {
    let mut t = [0u32; 16];
    for k in 0..16 { t[k] = v.rotate_left(k as u32) ^ i as u32; }
    t[(v >> 8) as usize % 16] as u64
}

#[unsafe(no_mangle)]
pub unsafe extern "ptx-kernel" fn halves(x: *const f16, out: *mut f16, n: u32) {
    let i = index();
    if i < n as usize { unsafe { let v = *x.add(i); *out.add(i) = v * v + 0.5f16; } }
}
