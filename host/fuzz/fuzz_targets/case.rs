//! A file, whatever it holds, is a problem that runs or an error in words: it never panics, overflows or reads astray.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

#[path = "../body.rs"]
mod body;

fuzz_target!(|bytes: &[u8]| body::check(bytes));

// Bytes at random seldom are a file. Half of the changes know what a file looks like.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = body::Random(u64::from(seed));
    if size < body::SHORTEST || random.below(64) == 0 {
        let seeds = body::seeds();
        let start = &seeds[random.below(seeds.len())];
        let length = start.len().min(max_size);
        data[..length].copy_from_slice(&start[..length]);
        return length;
    }
    if random.below(2) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let changed = body::mutate(&data[..size], &mut random);
    let length = changed.len().min(max_size);
    data[..length].copy_from_slice(&changed[..length]);
    length
});
