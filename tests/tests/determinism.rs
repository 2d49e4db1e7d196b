//! The same call gives the same bits, however often and by however many threads it is run: all of them where backward is to be
//! deterministic, and otherwise all but those of dq.

use flash_attention::{Backend, Causal, Device, Dropout, Dtype, EmulatorOptions};
use flash_attention_conformance::compare::first_difference;
use flash_attention_conformance::devices::targets;
use flash_attention_conformance::problem::{Pattern, Problem, Results};
use rstest::rstest;

fn problem(dtype: Dtype) -> Problem {
    Problem {
        batch: 2,
        key_heads: 2,
        group: 3,
        queries: 130,
        keys: 200,
        head_dim: 64,
        value_dim: 40,
        dtype,
        causal: Causal::LowerRight,
        mask: Some(([false, true, false], Pattern::Scattered)),
        bias: Some([true, false, true]),
        window: [Some(90), None],
        softcap: Some(5.0),
        alibi: Some(false),
        sinks: true,
        dropout: Some(Dropout { p: 0.2, seed: 77, offset: 1 }),
        dlse: true,
        deterministic: Some(true),
        seed: 5,
        ..Problem::default()
    }
}

/// The same without what changes scores one by one, for which Flash has a kernel of its own.
fn plain(dtype: Dtype) -> Problem {
    let with = problem(dtype);
    Problem { mask: None, bias: None, softcap: None, alibi: None, sinks: false, dropout: None, ..with }
}

#[rstest]
fn two_runs_are_equal_bit_by_bit(#[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype) {
    for problem in [problem(dtype), plain(dtype)] {
        let inputs = problem.inputs();
        for target in problem.targets() {
            let first = problem.run_on(&target, &inputs).unwrap();
            for _ in 0..2 {
                let again = problem.run_on(&target, &inputs).unwrap();
                assert_eq!(first_difference(&again, &first), None, "on {target}");
            }
        }
    }
}

#[rstest]
fn the_emulators_threads_do_not_change_a_bit_or_a_count(
    #[values(problem(Dtype::F32), problem(Dtype::F16), plain(Dtype::Bf16))] problem: Problem,
) {
    let inputs = problem.inputs();
    let with = |threads: usize| {
        let device = Device::emulator_with(EmulatorOptions::default().threads(threads));
        let results = problem.run(&device, &inputs).unwrap();
        let counted = device.take_stats().unwrap();
        let counts: Vec<(&str, u64, u64)> =
            counted.iter().map(|(name, s)| (*name, s.thread_instructions, s.global_load_bytes)).collect();
        (results, counts)
    };
    let (expected, counts) = with(1);
    for threads in [2, 5] {
        let (results, others) = with(threads);
        assert_eq!(first_difference(&results, &expected), None, "{threads} threads");
        assert_eq!(others, counts, "{threads} threads");
    }
}

/// More than one block of keys, which add to the same dq.
fn atomic(dtype: Dtype) -> Problem {
    Problem { deterministic: Some(false), keys: 300, ..plain(dtype) }
}

/// The same for kernels whose warps share keys: changed scores, and wide heads.
fn atomics(dtype: Dtype) -> [Problem; 3] {
    let general = Problem { softcap: Some(9.0), ..atomic(dtype) };
    let wide = Problem { head_dim: 192, value_dim: 192, ..atomic(dtype) };
    [atomic(dtype), general, wide]
}

/// Everything but dq.
fn without_dq(results: Results) -> Results {
    Results { dq: vec![], ..results }
}

#[rstest]
fn atomic_additions_change_no_bit_but_those_of_dq(#[values(Dtype::F16, Dtype::Bf16)] dtype: Dtype) {
    let with = atomic(dtype);
    let without = Problem { deterministic: Some(true), ..with.clone() };
    let inputs = with.inputs();
    for target in targets().into_iter().filter(|target| target.backend == Backend::Flash) {
        let expected = without_dq(without.run_on(&target, &inputs).unwrap());
        for _ in 0..3 {
            let given = without_dq(with.run_on(&target, &inputs).unwrap());
            assert_eq!(first_difference(&given, &expected), None, "on {target}");
        }
    }
}

#[rstest]
fn the_emulators_threads_change_the_order_of_additions_to_dq_alone(
    #[values(Dtype::F16, Dtype::Bf16)] dtype: Dtype,
) {
    for problem in atomics(dtype) {
        let inputs = problem.inputs();
        let with = |threads: usize| {
            let device = Device::emulator_with(EmulatorOptions::default().threads(threads));
            without_dq(problem.run(&device, &inputs).unwrap())
        };
        let expected = with(1);
        for threads in [2, 5] {
            assert_eq!(first_difference(&with(threads), &expected), None, "{threads} threads: {problem:?}");
        }
    }
}

/// One block of keys adds to every element of dq once: there is no order that could vary.
#[rstest]
fn one_block_of_keys_gives_the_same_bits_in_dq_too(#[values(Dtype::F16, Dtype::Bf16)] dtype: Dtype) {
    // Blocks are 128 keys where no warps share them, else 64.
    for (problem, keys) in atomics(dtype).into_iter().zip([128, 64, 64]) {
        let problem = Problem { keys, ..problem };
        let inputs = problem.inputs();
        for target in targets().into_iter().filter(|target| target.backend == Backend::Flash) {
            let first = problem.run_on(&target, &inputs).unwrap();
            let again = problem.run_on(&target, &inputs).unwrap();
            assert_eq!(first_difference(&again, &first), None, "on {target}: {problem:?}");
        }
    }
}
