//! Keys divided in parts, and queries of several heads in one tile: the results are those of the formulas, and K and V are read once
//! for all heads that share them.

use std::collections::BTreeMap;

use flash_attention::{Backend, Causal, Device, Dropout, Dtype, EmulatorOptions, Statistics, Tensor, sdpa};
use flash_attention_conformance::compare::{compare_all, compare_forward, errors, first_difference};
use flash_attention_conformance::devices::{Target, targets_with};
use flash_attention_conformance::problem::{Lengths, Pattern, Problem, RESULTS, Results};
use flash_attention_conformance::strategy;
use flash_attention_conformance::unfused::{Precision, unfused};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use rstest::rstest;

/// Forward by Flash in these numbers of parts, on every device, held against the formulas.
fn agree(problem: &Problem, splits: &[usize]) {
    let inputs = problem.inputs();
    let expected = problem.truth(&inputs);
    let errors = errors(&unfused(problem, &inputs, Precision::of(problem.dtype)), &expected, problem.dtype);
    for &splits in splits {
        let problem = Problem { splits, ..problem.clone() };
        let targets = problem.targets().into_iter().filter(|target| target.backend == Backend::Flash);
        let targets: Vec<Target> = targets.collect();
        assert!(!targets.is_empty(), "{problem:?}");
        for target in targets {
            let given = problem.forward_on(&target, &inputs).unwrap();
            compare_forward(&given, &expected, errors, problem.dtype)
                .unwrap_or_else(|message| panic!("{splits} splits on {target}: {message}\n{problem:?}"));
        }
    }
}

/// More of these than a tile has blocks of keys.
const SPLITS: [usize; 5] = [1, 2, 3, 7, 40];

/// A few queries of 4 heads that share keys; 300 of them make 3 to 10 steps.
fn few_queries(dtype: Dtype, [head_dim, value_dim]: [usize; 2], group: usize) -> Problem {
    Problem {
        batch: 2,
        key_heads: 2,
        group,
        queries: 5,
        keys: 300,
        head_dim,
        value_dim,
        dtype,
        ..Problem::default()
    }
}

fn with_band(band: usize, problem: Problem) -> Problem {
    match band {
        0 => problem,
        1 => Problem { causal: Causal::UpperLeft, ..problem },
        2 => Problem { causal: Causal::LowerRight, ..problem },
        _ => Problem { window: [Some(100), Some(30)], ..problem },
    }
}

fn with_lengths(lengths: usize, problem: Problem) -> Problem {
    match lengths {
        0 => problem,
        1 => Problem { lengths: Lengths::Keys(vec![0, 131]), ..problem },
        _ => problem.ragged(vec![[5, 300], [0, 17], [3, 0], [1, 90], [40, 129]]),
    }
}

#[rstest]
fn parts_of_the_keys_give_what_all_keys_give(
    #[values(0, 1, 2, 3)] band: usize,
    #[values(0, 1, 2)] lengths: usize,
    #[values((Dtype::F16, [64, 64], 4), (Dtype::Bf16, [128, 128], 8), (Dtype::F16, [128, 64], 1))] of: (
        Dtype,
        [usize; 2],
        usize,
    ),
) {
    let (dtype, dims, group) = of;
    agree(&with_lengths(lengths, with_band(band, few_queries(dtype, dims, group))), &SPLITS);
}

#[rstest]
fn every_head_dim_is_divided(
    #[values([32, 32], [40, 24], [96, 96], [64, 128], [192, 192], [192, 128], [256, 256], [200, 136])]
    dims: [usize; 2],
    #[values(Dtype::F16, Dtype::Bf16)] dtype: Dtype,
) {
    agree(&with_band(2, few_queries(dtype, dims, 4)), &[1, 3]);
}

/// Blocks of more than 64 rows, whose first and last rows are of other queries than they begin and end with in other blocks.
#[rstest]
fn rows_of_heads_run_across_tiles(
    #[values(3, 5, 70)] group: usize,
    #[values(1, 37, 150)] queries: usize,
    #[values(1, 2)] band: usize,
) {
    let problem = Problem { key_heads: 1, queries, keys: 200, ..few_queries(Dtype::F16, [64, 64], group) };
    agree(&with_band(band, problem), &[1, 4]);
}

/// What depends on the head, as some of these do, is that of each row's own; a sink counts once.
#[rstest]
#[case::softcap(|p: Problem| Problem { softcap: Some(3.0), ..p })]
#[case::negative_scale(|p: Problem| Problem { scale: Some(-0.7), ..p })]
#[case::alibi(|p: Problem| Problem { alibi: Some(true), ..p })]
#[case::mask(|p: Problem| Problem { mask: Some(([false; 3], Pattern::DeadRows)), ..p })]
#[case::padding(|p: Problem| Problem { mask: Some(([false, true, true], Pattern::Padding)), ..p })]
#[case::bias(|p: Problem| Problem { bias: Some([true, false, false]), ..p })]
#[case::sinks(|p: Problem| Problem { sinks: true, ..p })]
#[case::dropout(|p: Problem| Problem { dropout: Some(Dropout { p: 0.3, seed: 5, offset: 1 }), ..p })]
#[case::all(|p: Problem| Problem {
    softcap: Some(3.0),
    alibi: Some(false),
    mask: Some(([false; 3], Pattern::Scattered)),
    bias: Some([false; 3]),
    sinks: true,
    dropout: Some(Dropout { p: 0.3, seed: 5, offset: 1 }),
    ..p
})]
fn options_that_move_scores_go_with_parts(
    #[case] option: fn(Problem) -> Problem,
    #[values(0, 2)] band: usize,
    #[values(1, 2)] lengths: usize,
) {
    // 71 queries: more than a tile.
    let problem = option(Problem { queries: 71, ..few_queries(Dtype::F16, [64, 64], 2) });
    agree(&with_lengths(lengths, with_band(band, problem)), &[1, 2, 7]);
}

/// Tiles of 3 heads that share keys, with all that may depend on the head, for every head dim: whole, and in parts.
#[rstest]
fn each_row_has_the_options_of_its_own_head(
    #[values([32, 32], [64, 64], [96, 96], [128, 128], [64, 128], [128, 64], [192, 192], [192, 128], [256, 256])]
    dims: [usize; 2],
    #[values(1, 45)] queries: usize,
    #[values(Dtype::F16, Dtype::Bf16)] dtype: Dtype,
) {
    let problem = Problem {
        queries,
        keys: 170,
        alibi: Some(true),
        mask: Some(([false; 3], Pattern::Scattered)),
        bias: Some([false; 3]),
        sinks: true,
        dropout: Some(Dropout { p: 0.3, seed: 5, offset: 1 }),
        ..few_queries(dtype, dims, 3)
    };
    agree(&with_band(2, problem), &[1, 2]);
}

/// Any problem that Flash takes in any number of parts, and the same whole: they differ by rounding.
#[test]
fn parts_equal_the_whole_within_rounding_on_random_problems() {
    let flash = targets_with(&Device::emulator_with(EmulatorOptions::default().checks(true)), Backend::Flash);
    let problems = prop_oneof![
        strategy::for_tensor_cores(Dtype::F16, 256),
        strategy::for_tensor_cores(Dtype::Bf16, 256),
    ];
    let divided = (problems, 2usize..=9).prop_map(|(problem, splits)| Problem { splits, ..problem });
    let outcome = TestRunner::new(strategy::config(200)).run(&divided, |problem| {
        let inputs = problem.inputs();
        let fail = |error: flash_attention::Error| TestCaseError::fail(error.to_string());
        let whole = Problem { splits: 1, ..problem.clone() };
        for flash in &flash {
            let given = problem.forward_on(flash, &inputs).map_err(fail)?;
            let expected = whole.forward_on(flash, &inputs).map_err(fail)?;
            compare_all(&given, &expected, [0.0; RESULTS], problem.dtype)
                .map_err(|message| TestCaseError::fail(format!("on {flash}: {message}")))?;
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[rstest]
fn the_same_parts_give_the_same_bits(#[values(2, 5)] splits: usize, #[values(false, true)] softcap: bool) {
    let softcap = softcap.then_some(4.0);
    let problem = Problem { splits, softcap, ..few_queries(Dtype::Bf16, [64, 64], 4) };
    let inputs = problem.inputs();
    let run = |threads: usize| -> Results {
        let device = Device::emulator_with(EmulatorOptions::default().threads(threads));
        problem.forward_on(&Target::new(&device, Backend::Flash), &inputs).unwrap()
    };
    let first = run(1);
    for threads in [1, 2, 5] {
        assert_eq!(first_difference(&run(threads), &first), None, "{threads} threads");
    }
    for target in problem.targets() {
        let first = problem.forward_on(&target, &inputs).unwrap();
        let again = problem.forward_on(&target, &inputs).unwrap();
        assert_eq!(first_difference(&again, &first), None, "on {target}");
    }
}

/// What forward counts on an emulator with so many multiprocessors, by kernel.
fn counted(problem: &Problem, multiprocessors: u32) -> BTreeMap<&'static str, Statistics> {
    let device =
        Device::emulator_with(EmulatorOptions::default().checks(true).multiprocessors(multiprocessors));
    // As many parts as the library likes, unless the problem says how many.
    let target = Target::new(&device, Backend::Flash).divided();
    problem.forward_on(&target, &problem.inputs()).unwrap();
    device.take_stats().unwrap()
}

/// Bytes of K and V that a kernel loads: all but the queries, which each of the parts loads.
fn keys_and_values(problem: &Problem, kernel: &str) -> u64 {
    let counted = counted(problem, 1);
    let rows = problem.batch * problem.query_heads() * problem.queries * problem.splits.max(1);
    counted[kernel].global_load_bytes - (rows * problem.head_dim * 2) as u64
}

#[rstest]
fn keys_are_read_once_for_all_heads_that_share_them(
    #[values(2, 4, 8)] group: usize,
    #[values(1, 6)] queries: usize,
    #[values(0, 3)] splits: usize,
    #[values(None, Some(2.0))] softcap: Option<f32>,
) {
    let shared = Problem { queries, keys: 512, splits, softcap, ..few_queries(Dtype::F16, [64, 64], group) };
    let apart = Problem { key_heads: 2 * group, group: 1, splits: 0, ..shared.clone() };
    let [packed, whole] = match softcap {
        None => ["flash_split_f16_d64", "flash_forward_f16_d64"],
        Some(_) => ["flash_split_general_f16_d64", "flash_general_f16_d64"],
    };
    let once = keys_and_values(&shared, packed);
    assert_eq!(once, 2 * 2 * 512 * (64 + 64) * 2);
    assert_eq!(keys_and_values(&apart, whole), group as u64 * once);
}

#[test]
fn parts_are_put_together_from_one_read_of_each() {
    let problem = Problem { splits: 7, ..few_queries(Dtype::F16, [64, 64], 4) };
    let counted = &counted(&problem, 1)["flash_combine_f16"];
    let rows = (problem.batch * problem.query_heads() * problem.queries) as u64;
    assert_eq!(counted.global_store_bytes, rows * (64 * 2 + 4));
    // 8 outputs at once, the seventh of which stands in for the eighth; 16 lanes read them, and each the log-sum-exps beside them.
    let (outputs, sums) = (8 * 64 * 4, (2 * 7 + 16 * 8) * 4);
    assert_eq!(counted.global_load_bytes, rows * (outputs + sums));
}

#[test]
fn an_emulator_of_many_multiprocessors_divides_keys_by_itself() {
    let problem = Problem { keys: 1000, ..few_queries(Dtype::F16, [64, 64], 4) };
    let names = |multiprocessors| counted(&problem, multiprocessors).into_keys().collect::<Vec<_>>();
    assert_eq!(names(1), ["flash_split_f16_d64"]);
    assert_eq!(names(5), ["flash_split_f16_d64"]);
    assert_eq!(names(108), ["flash_combine_f16", "flash_split_f16_d64"]);
    // 4 blocks and 8 steps: each step is a part.
    let blocks = counted(&problem, 108)["flash_split_f16_d64"].blocks;
    assert_eq!(blocks, 4 * 8);
    let device = Device::emulator_with(EmulatorOptions::default().checks(true).multiprocessors(108));
    let inputs = problem.inputs();
    let expected = problem.truth(&inputs);
    let errors = errors(&unfused(&problem, &inputs, Precision::of(Dtype::F16)), &expected, Dtype::F16);
    // Backward takes what the parts left.
    let given = problem.run(&device, &inputs).unwrap();
    compare_all(&given, &expected, errors, Dtype::F16).unwrap();
}

/// Ones, but one key of the third part is NaN; later keys are not visible to earlier queries.
#[test]
fn a_nan_reaches_the_rows_that_see_it_and_no_other() {
    let emulator = Device::emulator_with(EmulatorOptions::default().checks(true));
    targets_with(&emulator, Backend::Flash).iter().for_each(a_nan_reaches_them);
}

fn a_nan_reaches_them(flash: &Target) {
    let device = &flash.device;
    let (queries, keys, columns) = (64, 400, 64);
    let mut values = vec![half::f16::ONE; keys * columns];
    values[350 * columns] = half::f16::NAN;
    let tensor =
        |values: &[half::f16], rows| Tensor::from_slice(device, values, &[1, 1, rows, columns]).unwrap();
    let (q, k) = (tensor(&values[..queries * columns], queries), tensor(&values, keys));
    let v = tensor(&values[..300 * columns].repeat(2)[..keys * columns], keys);
    let call = sdpa(&q, &k, &v).causal(Causal::LowerRight).backend(Backend::Flash).return_lse(true);
    let output = call.splits(4).run().unwrap();
    let (out, lse) = (output.out.to_f64().unwrap(), output.lse.unwrap().to_f64().unwrap());
    for query in 0..queries {
        // Query i sees the keys up to i + 336.
        let sees = query + 336 >= 350;
        assert_eq!(lse[query].is_nan(), sees, "query {query} on {flash}");
        let row = &out[query * columns..][..columns];
        assert!(row.iter().all(|x| x.is_nan() == sees), "query {query} on {flash}");
    }
}
