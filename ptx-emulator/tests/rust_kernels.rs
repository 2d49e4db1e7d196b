//! A module that rustc compiled (`tests/ptx/rust_kernels.rs` is its source) against the same sums on the host.

mod common;
use common::emulator;
use ptx_emulator::{Emulator, LaunchConfig, Module};

fn module() -> Module {
    Module::parse(include_str!("ptx/rust_kernels.ptx")).unwrap_or_else(|e| panic!("{e}"))
}

fn upload(emulator: &Emulator, bytes: impl IntoIterator<Item = u8>) -> u64 {
    let bytes: Vec<u8> = bytes.into_iter().collect();
    let address = emulator.alloc(bytes.len() as u64).unwrap();
    emulator.write(address, &bytes).unwrap();
    address
}

fn download(emulator: &Emulator, address: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    emulator.read(address, &mut out).unwrap();
    out
}

fn shape(grid: u32, block: u32, shared: u32) -> LaunchConfig {
    LaunchConfig { grid: [grid, 1, 1], block: [block, 1, 1], dynamic_shared_bytes: shared }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()
}

#[test]
fn axpy() {
    let (emulator, n) = (emulator(), 1000usize);
    let x = upload(&emulator, (0..n).flat_map(|k| (k as f32).to_le_bytes()));
    let y = upload(&emulator, (0..n).flat_map(|_| 1f32.to_le_bytes()));
    let args: [&[u8]; 4] =
        [&0.5f32.to_le_bytes(), &x.to_le_bytes(), &y.to_le_bytes(), &(n as u32).to_le_bytes()];
    emulator.launch(&module(), "axpy", shape(4, 256, 0), &args).unwrap_or_else(|e| panic!("{e}"));
    let got = floats(&download(&emulator, y, n * 4));
    assert!(got.iter().enumerate().all(|(k, &v)| v == 1.0 + 0.5 * k as f32));
}

#[test]
fn sums_in_dynamic_shared_memory() {
    let emulator = emulator();
    let x = upload(&emulator, (0..1024).flat_map(|k| (k as f32).to_le_bytes()));
    let out = emulator.alloc(16).unwrap();
    emulator
        .launch(&module(), "block_sum", shape(4, 256, 1024), &[&x.to_le_bytes(), &out.to_le_bytes()])
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(floats(&download(&emulator, out, 16)), [32640.0, 98176.0, 163712.0, 229248.0]);
    let error = emulator
        .launch(&module(), "block_sum", shape(4, 256, 512), &[&x.to_le_bytes(), &out.to_le_bytes()])
        .unwrap_err();
    assert!(error.to_string().contains("shared address"), "{error}");
}

fn collatz(v: u32) -> u64 {
    let mut n = u64::from(v) % 1000 + 1;
    let mut steps = 0;
    while n != 1 {
        n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 };
        steps += 1;
    }
    steps
}

fn expected(v: u32, i: usize) -> u64 {
    match v % 7 {
        0 => collatz(v),
        1 => u64::from(v) / (i as u64 + 3),
        2 => u64::from(v.leading_zeros()) + u64::from(v.count_ones()),
        3 => (f64::from(v) * 0.37) as u64,
        4 => u64::from(v.rotate_left((v >> 8) % 16) ^ i as u32),
        5 => (v as i32).wrapping_neg() as i64 as u64,
        _ => (v as f32).clamp(3.5, 1e6) as u64,
    }
}

#[test]
fn a_struct_by_value_a_match_calls_and_local_arrays() {
    let (emulator, n) = (emulator(), 500usize);
    let values: Vec<u32> = (0..n as u32).map(|k| k.wrapping_mul(2_654_435_761) >> (k % 20)).collect();
    let x = upload(&emulator, values.iter().flat_map(|v| v.to_le_bytes()));
    let out = emulator.alloc(n as u64 * 8).unwrap();
    let mut params = Vec::new();
    params.extend(x.to_le_bytes());
    params.extend(out.to_le_bytes());
    params.extend((n as u32).to_le_bytes());
    params.extend(0u32.to_le_bytes());
    params.extend(0.37f64.to_le_bytes());
    // rustc may order the fields of a struct that is not `repr(C)`; this one is.
    emulator.launch(&module(), "mixed", shape(4, 128, 0), &[&params]).unwrap_or_else(|e| panic!("{e}"));
    let got: Vec<u64> = download(&emulator, out, n * 8)
        .chunks(8)
        .map(|c| u64::from_le_bytes(c.try_into().unwrap()))
        .collect();
    for (i, (&v, &g)) in values.iter().zip(&got).enumerate() {
        assert_eq!(g, expected(v, i), "element {i}, value {v}, case {}", v % 7);
    }
}

#[test]
fn f16_arithmetic() {
    let emulator = emulator();
    // 1, 2, 3 and 0.5 in f16.
    let x = upload(&emulator, [0x3c00u16, 0x4000, 0x4200, 0x3800].into_iter().flat_map(u16::to_le_bytes));
    let out = emulator.alloc(8).unwrap();
    let args: [&[u8]; 3] = [&x.to_le_bytes(), &out.to_le_bytes(), &4u32.to_le_bytes()];
    emulator.launch(&module(), "halves", shape(1, 32, 0), &args).unwrap_or_else(|e| panic!("{e}"));
    let got: Vec<u16> =
        download(&emulator, out, 8).chunks(2).map(|c| u16::from_le_bytes(c.try_into().unwrap())).collect();
    // 1.5, 4.5, 9.5, 0.75.
    assert_eq!(got, [0x3e00, 0x4480, 0x48c0, 0x3a00]);
}
