//! Speed of the emulator on this project's forward kernels, as they ship: thread-instructions, or operations of matrix products, per
//! second of one core's processor time; plainly, with counters and with checks.
//!
//! `cargo bench -p flash-attention-benches --bench emulator`, with `-- efficient` only some. The crate `ptx-emulator` has loops of
//! its own.

#[path = "../../ptx-emulator/benches/common/mod.rs"]
mod common;

use common::ProcessorTime;
use criterion::{Criterion, Throughput};
use flash_attention::{Backend, Device, Dtype, EmulatorOptions, Statistics, Tensor, sdpa};
use std::time::Duration;

/// Queries and keys of the one head.
const SEQUENCE: usize = 256;

/// Numbers of about a normal distribution's size, the same every time.
fn numbers(device: &Device, dtype: Dtype, head_dim: usize, seed: u32) -> Tensor {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 22) as f32 - 2.0
    };
    let values: Vec<f32> = (0..SEQUENCE * head_dim).map(|_| next()).collect();
    let shape = [1, 1, SEQUENCE, head_dim];
    let half = |x: &f32| half::f16::from_f32(*x);
    match dtype {
        Dtype::F16 => Tensor::from_slice(device, &values.iter().map(half).collect::<Vec<_>>(), &shape),
        _ => Tensor::from_slice(device, &values, &shape),
    }
    .expect("there is memory")
}

fn forward(criterion: &mut Criterion<ProcessorTime>) {
    let kernels = [
        ("efficient_f16_d64", Backend::Efficient, Dtype::F16, 64),
        ("efficient_f32_d64", Backend::Efficient, Dtype::F32, 64),
        ("flash_f16_d128", Backend::Flash, Dtype::F16, 128),
    ];
    for (name, backend, dtype, head_dim) in kernels {
        let mut group = criterion.benchmark_group(name);
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(2));
        for (way, counters, checks) in
            [("plain", false, false), ("counters", true, false), ("checks", false, true)]
        {
            let options = EmulatorOptions::default().threads(1).counters(counters).checks(checks);
            let device = Device::emulator_with(options);
            let [q, k, v] = [1, 2, 3].map(|seed| numbers(&device, dtype, head_dim, seed));
            let run = || sdpa(&q, &k, &v).backend(backend).forward().expect("the kernel is good");
            run();
            let stats = device.take_stats().unwrap_or_default();
            let sum = |count: fn(&Statistics) -> u64| stats.values().map(count).sum::<u64>();
            // Of kernels on matrix units their products, of others the instructions.
            let elements = match backend {
                Backend::Flash => sum(|s| s.matrix_flops),
                _ => sum(|s| s.thread_instructions),
            };
            group.throughput(Throughput::Elements(elements));
            group.bench_function(way, |bencher| bencher.iter(run));
        }
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().with_measurement(ProcessorTime).configure_from_args();
    forward(&mut criterion);
    criterion.final_summary();
}
