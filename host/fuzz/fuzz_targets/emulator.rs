//! A text, whatever it holds, is a module whose kernels run or fail in words: the emulator never panics, overflows, reads astray or
//! runs for ever.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ptx_emulator::{Config, Emulator, LaunchConfig, LaunchOptions, Module};

// Of which only the random numbers are used here.
#[allow(dead_code)]
#[path = "../body.rs"]
mod body;

/// Modules to begin with.
const SEEDS: [&str; 4] = [
    include_str!("../../../ptx-emulator/tests/ptx/rust_kernels.ptx"),
    include_str!("../../../ptx-emulator/tests/ptx/calls.ptx"),
    include_str!("../../../ptx-emulator/tests/ptx/hopper.ptx"),
    include_str!("../../../ptx-emulator/tests/ptx/newer.ptx"),
];

/// Warp instructions after which a launch is stopped.
const STEPS: u64 = 5_000;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let module = match Module::parse(text) {
        Ok(module) => module,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let config = Config {
        threads: 1,
        max_instructions: Some(STEPS),
        memory_limit: 1 << 20,
        heap_limit: 1 << 16,
        ..Config::default()
    };
    let emulator = Emulator::new(config);
    let Ok(data) = emulator.alloc(4096) else { return };
    for entry in module.entries() {
        // Every parameter begins with an address.
        let argument =
            |size: u64| -> Vec<u8> { data.to_le_bytes().into_iter().cycle().take(size as usize).collect() };
        let args: Vec<Vec<u8>> = entry.params().iter().map(|p| argument(p.size)).collect();
        let slices: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        for (threads, checks) in [(33, false), (128, true)] {
            let shape = LaunchConfig { grid: [2, 1, 1], block: [threads, 1, 1], dynamic_shared_bytes: 256 };
            let options = LaunchOptions { checks, counters: checks, ..LaunchOptions::default() };
            if let Err(error) = emulator.launch_with(&module, entry.name(), shape, &slices, &options) {
                assert!(!error.to_string().is_empty());
            }
        }
    }
});

// Bytes at random seldom are a module. Half of the changes put a piece of one module into another.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = body::Random(u64::from(seed));
    let other = SEEDS[random.below(SEEDS.len())].as_bytes();
    if size < 64 || random.below(64) == 0 {
        let length = other.len().min(max_size);
        data[..length].copy_from_slice(&other[..length]);
        return length;
    }
    if random.below(2) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    // From the start of one word to that of another.
    let word = |bytes: &[u8], at: usize| (at..bytes.len()).find(|&k| bytes[k] == b' ').unwrap_or(bytes.len());
    let from = word(other, random.below(other.len()));
    let piece = &other[from..word(other, (from + 1 + random.below(48)).min(other.len()))];
    let start = word(&data[..size], random.below(size));
    let end = word(&data[..size], (start + random.below(48)).min(size));
    let changed = [&data[..start], piece, &data[end..size]].concat();
    let length = changed.len().min(max_size);
    data[..length].copy_from_slice(&changed[..length]);
    length
});
