//! Every compiled kernel runs on the emulator, and gives what the formulas say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use flash_attention::{Causal, Device, Dtype};
use flash_attention_abi::tile::HEAD_DIM_TILES;
use flash_attention_abi::{ENTRY_POINTS, Kernel};
use flash_attention_conformance::compare::{compare_all, errors};
use flash_attention_conformance::devices::{devices, say};
use flash_attention_conformance::problem::{Pattern, Problem};
use flash_attention_conformance::unfused::{Precision, unfused};

/// A problem for a head-dim tile: columns that do not fill it, more than one block of queries and keys, every option.
fn problem(dtype: Dtype, tile: u32) -> Problem {
    Problem {
        batch: 2,
        key_heads: 1,
        group: 2,
        queries: 70,
        keys: 75,
        head_dim: tile as usize - 3,
        value_dim: tile as usize - 16,
        dtype,
        causal: Causal::UpperLeft,
        mask: Some(([false, true, true], Pattern::Scattered)),
        bias: Some([true, false, false]),
        sinks: true,
        seed: u64::from(tile),
        ..Problem::default()
    }
}

#[test]
fn every_entry_point_is_launched_and_right() {
    devices();
    let emulator = Device::emulator();
    let launched = Mutex::new(BTreeMap::new());
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        for tile in HEAD_DIM_TILES {
            let problem = problem(dtype, tile);
            let inputs = problem.inputs();
            let expected = problem.truth(&inputs);
            let errors = errors(&unfused(&problem, &inputs, Precision::of(dtype)), &expected, dtype);
            let given = problem.run(&emulator, &inputs).unwrap();
            compare_all(&given, &expected, errors, dtype)
                .unwrap_or_else(|message| panic!("{dtype} {tile}: {message}"));
            launched.lock().unwrap().extend(emulator.take_stats().unwrap());
        }
    }
    let launched = launched.into_inner().unwrap();
    let ran: BTreeSet<&str> = launched.keys().copied().collect();
    let all: BTreeSet<&str> = ENTRY_POINTS.iter().map(|entry| entry.name).collect();
    say(&format!("{} of {} entry points ran on the emulator", ran.len(), all.len()));
    assert_eq!(ran, all);
    for entry in ENTRY_POINTS {
        let counted = &launched[entry.name];
        let writes = counted.global_store_bytes > 0 && counted.global_load_bytes > 0;
        assert!(counted.blocks > 0 && writes, "{} did nothing: {counted:?}", entry.name);
        // Delta reduces within a warp; all others pass operands through shared memory.
        assert_eq!(counted.shared_load_bytes > 0, entry.kernel != Kernel::Delta, "{}", entry.name);
    }
}
