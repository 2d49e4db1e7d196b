//! Every compiled kernel runs on the emulator, and on a GPU where there is one, and gives what the formulas say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use flash_attention::{Backend, Causal, Device, Dropout, Dtype, EmulatorOptions};
use flash_attention_abi::flash::{FLASH_HEAD_DIMS, flash_forward_tile};
use flash_attention_abi::tile::HEAD_DIM_TILES;
use flash_attention_abi::{ENTRY_POINTS, FLASH_ENTRY_POINTS, Kernel};
use flash_attention_conformance::compare::{compare_all, compare_forward, errors, first_difference};
use flash_attention_conformance::devices::{Target, say, targets_with};
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
    let emulator = Device::emulator_with(EmulatorOptions::default().checks(true));
    let targets = targets_with(&emulator, Backend::Efficient);
    let launched = Mutex::new(BTreeMap::new());
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        for tile in HEAD_DIM_TILES {
            let problem = problem(dtype, tile);
            let inputs = problem.inputs();
            let expected = problem.truth(&inputs);
            let errors = errors(&unfused(&problem, &inputs, Precision::of(dtype)), &expected, dtype);
            for target in &targets {
                let given = problem.run_on(target, &inputs).unwrap();
                compare_all(&given, &expected, errors, dtype)
                    .unwrap_or_else(|message| panic!("{dtype} {tile} on {target}: {message}"));
            }
            launched.lock().unwrap().extend(emulator.take_stats().unwrap());
        }
    }
    let launched = launched.into_inner().unwrap();
    let ran: BTreeSet<&str> = launched.keys().copied().collect();
    let all: BTreeSet<&str> = ENTRY_POINTS.iter().map(|entry| entry.name).collect();
    say(&format!("{} of {} entry points ran on {}", ran.len(), all.len(), names(&targets)));
    assert_all_ran(&ran, &all);
    for entry in ENTRY_POINTS {
        let counted = &launched[entry.name];
        let writes = counted.global_store_bytes > 0 && counted.global_load_bytes > 0;
        assert!(counted.blocks > 0 && writes, "{} did nothing: {counted:?}", entry.name);
        // Delta reduces within a warp; all others pass operands through shared memory.
        assert_eq!(counted.shared_load_bytes > 0, entry.kernel != Kernel::Delta, "{}", entry.name);
    }
}

/// Fails with the names that are in one of the lists alone.
fn assert_all_ran(ran: &BTreeSet<&str>, all: &BTreeSet<&str>) {
    let alone: Vec<_> = all.symmetric_difference(ran).collect();
    assert!(alone.is_empty(), "only ran, or only listed: {alone:?}");
}

/// Where something ran.
fn names(targets: &[Target]) -> String {
    targets.iter().map(|target| target.device.name()).collect::<Vec<_>>().join(" and on ")
}

/// Keys of a problem in which every query sees all of them.
const PLAIN_KEYS: usize = 330;

// A plain step after a plain step after a plain step: each buffer's first and second use.
const _: () = {
    let mut i = 0;
    while i < FLASH_HEAD_DIMS.len() {
        let (d, dv) = FLASH_HEAD_DIMS[i];
        assert!(PLAIN_KEYS / flash_forward_tile(d, dv).block_keys as usize >= 3);
        i += 1;
    }
};

/// Problems for kernels of these head dims, without and with atomic additions: two with a band alone, whose blocks are nearly all at its
/// edges, two of which all blocks are plain but the last, and two with every option.
fn for_tensor_cores(dtype: Dtype, head_dim: usize, value_dim: usize) -> Vec<Problem> {
    let general = Problem {
        batch: 2,
        queries: 170,
        keys: 131,
        head_dim,
        value_dim,
        softcap: Some(8.0),
        alibi: Some(true),
        dropout: Some(Dropout { p: 0.2, seed: 3, offset: 4 }),
        ..problem(dtype, 0)
    };
    let banded =
        Problem { batch: 1, queries: general.queries, keys: general.keys, group: 2, ..Problem::default() };
    let window = [Some(90), None];
    let plain =
        Problem { head_dim, value_dim, dtype, queries: 100, keys: PLAIN_KEYS, group: 1, ..banded.clone() };
    let banded = Problem { head_dim, value_dim, dtype, window, causal: Causal::LowerRight, ..banded };
    let each = [banded, plain, general].map(|problem| {
        [true, false].map(|without| Problem { deterministic: Some(without), ..problem.clone() })
    });
    each.concat()
}

/// Runs a problem on tensor cores of every device, and gives the kernels that did something on the emulator, which comes first and
/// whose plan is everyone's: forward alone where its keys are divided, and backward takes nothing from the parts.
fn launched(problem: &Problem, flash: &[Target]) -> BTreeSet<&'static str> {
    let (dtype, inputs) = (problem.dtype, problem.inputs());
    let expected = problem.truth(&inputs);
    let errors = errors(&unfused(problem, &inputs, Precision::of(dtype)), &expected, dtype);
    for target in flash {
        let compared = if problem.splits > 1 {
            let given = problem.forward_on(target, &inputs).unwrap();
            compare_forward(&given, &expected, errors, dtype)
        } else {
            compare_all(&problem.run_on(target, &inputs).unwrap(), &expected, errors, dtype)
        };
        compared.unwrap_or_else(|message| panic!("on {target}: {message}\n{problem:?}"));
    }
    let counted = flash[0].device.take_stats().unwrap();
    let launched: Vec<_> = counted.into_iter().filter(|(name, _)| name.starts_with("flash_")).collect();
    assert!(!launched.is_empty(), "{problem:?}");
    for (name, counted) in &launched {
        assert!(counted.blocks > 0 && counted.global_store_bytes > 0, "{name} did nothing: {counted:?}");
        assert!(counted.shared_wavefronts > 0 || counted.shared_load_bytes == 0, "nothing counts wavefronts");
        assert_eq!(counted.shared_conflicts, 0, "bank conflicts of {name}: {problem:?}");
    }
    launched.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn every_entry_point_for_tensor_cores_is_launched_and_right() {
    let emulator = Device::emulator_with(EmulatorOptions::default().checks(true).counters(true));
    let flash = targets_with(&emulator, Backend::Flash);
    let mut ran = BTreeSet::new();
    // As wide as the kernels, narrower by a piece, and columns that other models have.
    let full = FLASH_HEAD_DIMS.map(|(d, dv)| (d as usize, dv as usize));
    let narrower = full.map(|(d, dv)| (d - 8, dv - 8));
    let others =
        [(8, 8), (40, 40), (72, 72), (80, 80), (104, 104), (112, 112), (160, 160), (224, 224), (144, 128)];
    for (d, dv) in full.into_iter().chain(narrower).chain(others) {
        for dtype in [Dtype::F16, Dtype::Bf16] {
            for problem in for_tensor_cores(dtype, d, dv) {
                // What columns lack matters at edges and in plain blocks alike.
                let is_plain = problem.keys == PLAIN_KEYS;
                if is_plain && !full.contains(&(d, dv)) {
                    continue;
                }
                ran.extend(launched(&problem, &flash));
                if is_plain || narrower.contains(&(d, dv)) {
                    ran.extend(launched(&Problem { splits: 3, ..problem }, &flash));
                }
            }
        }
    }
    let all: BTreeSet<&str> = FLASH_ENTRY_POINTS.iter().map(|entry| entry.name).collect();
    let (count, places) = (ran.len(), names(&flash));
    say(&format!("{count} of {} entry points for tensor cores ran on {places}", all.len()));
    assert_all_ran(&ran, &all);
}

/// Runs the problems of every entry point in the orders of some seeds, which depend on the problem's place in the list, with all
/// checks. Every order must give the bits that the default order gives, but for dq where it is added up atomically.
fn in_orders(change: impl Fn(Problem) -> Problem, seeds: impl Fn(usize) -> Vec<u64> + Sync) {
    let mut problems = Vec::new();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        problems.extend(HEAD_DIM_TILES.map(|tile| (Backend::Efficient, problem(dtype, tile))));
    }
    for dtype in [Dtype::F16, Dtype::Bf16] {
        let pairs =
            FLASH_HEAD_DIMS.iter().flat_map(|&(d, dv)| for_tensor_cores(dtype, d as usize, dv as usize));
        let divided = |problem: Problem| [problem.clone(), Problem { splits: 3, ..problem }];
        problems.extend(pairs.flat_map(divided).map(|problem| (Backend::Flash, problem)));
    }
    let problems: Vec<(Backend, Problem)> =
        problems.into_iter().map(|(b, problem)| (b, change(problem))).collect();
    let (next, ran) = (AtomicUsize::new(0), Mutex::new(BTreeSet::new()));
    let work = || {
        while let Some((place, (backend, problem))) = {
            let place = next.fetch_add(1, Ordering::Relaxed);
            problems.get(place).map(|entry| (place, entry))
        } {
            let inputs = problem.inputs();
            let run = |options: EmulatorOptions| {
                let target = Target::new(&Device::emulator_with(options), *backend);
                let mut results =
                    problem.run_on(&target, &inputs).unwrap_or_else(|e| panic!("{options:?}: {e}"));
                // Atomic additions: the last bits of dq, and of nothing else, are those of the order in which blocks add.
                if problem.deterministic == Some(false) {
                    results.dq.clear();
                }
                ran.lock().unwrap().extend(target.device.take_stats().unwrap().into_keys());
                results
            };
            let expected = run(EmulatorOptions::default().threads(1));
            for seed in seeds(place) {
                let given = run(EmulatorOptions::default().checks(true).seed(seed));
                assert_eq!(first_difference(&given, &expected), None, "seed {seed}, {backend}: {problem:?}");
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let all: BTreeSet<&str> =
        ENTRY_POINTS.iter().map(|e| e.name).chain(FLASH_ENTRY_POINTS.iter().map(|e| e.name)).collect();
    assert_all_ran(&ran.into_inner().unwrap(), &all);
}

#[test]
fn every_entry_point_gives_the_same_bits_in_another_order() {
    // One order each, of 20 different ones.
    in_orders(|problem| problem, |place| vec![place as u64 % 20]);
}

#[test]
fn every_entry_point_gives_the_same_bits_in_twenty_orders() {
    // One head of one entry, with more than one block of queries and of keys.
    in_orders(|problem| Problem { batch: 1, group: 1, ..problem }, |_| (0..20).collect());
}

#[test]
#[ignore = "20 orders with several heads and entries take more than ten minutes; run it with `-- --ignored`"]
fn several_heads_and_entries_give_the_same_bits_in_twenty_orders() {
    in_orders(|problem| problem, |_| (0..20).collect());
}
