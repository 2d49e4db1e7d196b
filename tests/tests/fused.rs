//! The fused backward kernels, whose blocks of keys add up dq atomically: the same gradients, and no load that is not needed.

use std::collections::{BTreeMap, BTreeSet};

use flash_attention::{Backend, Causal, Device, Dropout, Dtype, EmulatorOptions, Kind, Layout, Statistics};
use flash_attention_conformance::compare::{compare_all, errors, first_difference};
use flash_attention_conformance::devices::{Target, say, targets_with};
use flash_attention_conformance::golden::{self, File};
use flash_attention_conformance::problem::{Lengths, Pattern, Problem, Results};
use flash_attention_conformance::tiles::{counted, met};
use flash_attention_conformance::unfused::{Precision, unfused};
use rstest::rstest;

/// Flash on an emulator that looks for races and reads of unwritten memory, and on a GPU that can.
fn flash() -> Vec<Target> {
    targets_with(&Device::emulator_with(EmulatorOptions::default().checks(true)), Backend::Flash)
}

/// The kernels for tensor cores that gave gradients since the last time, without type and columns, where the device counts. The plan
/// is that of every other device.
fn took(target: &Target) -> Option<BTreeSet<&'static str>> {
    let kernels = ["grad_key", "grad_value", "grad_key_value", "grad_query", "grad_fused", "grad_convert"];
    let Some(counted) = target.device.take_stats() else {
        assert_ne!(target.device.kind(), Kind::Emulator, "an emulator counts");
        return None;
    };
    let of = |name: &str| name.trim_start_matches("flash_").trim_start_matches("general_").to_owned();
    let ran = |kernel: &&str| {
        let is = |name: &str| {
            name.strip_prefix(*kernel)
                .is_some_and(|rest| rest.starts_with("_f16") || rest.starts_with("_bf16"))
        };
        counted.keys().any(|name| name.starts_with("flash_") && is(&of(name)))
    };
    Some(kernels.into_iter().filter(ran).collect())
}

/// Where the device counts, these kernels ran.
fn assert_took(target: &Target, kernels: BTreeSet<&'static str>) {
    if let Some(took) = took(target) {
        assert_eq!(took, kernels);
    }
}

const FUSED: [&str; 2] = ["grad_convert", "grad_fused"];
const WITHOUT_ATOMICS: [&str; 2] = ["grad_key_value", "grad_query"];
const WIDE_WITHOUT_ATOMICS: [&str; 3] = ["grad_key", "grad_query", "grad_value"];

/// The kernels without atomic additions for a problem's columns.
fn without_atomics(problem: &Problem) -> BTreeSet<&'static str> {
    let wide = problem.head_dim.max(problem.value_dim) > 128;
    if wide { WIDE_WITHOUT_ATOMICS.into() } else { WITHOUT_ATOMICS.into() }
}

/// One head of 16-bit elements.
fn of(queries: usize, keys: usize, columns: [usize; 2]) -> Problem {
    let [head_dim, value_dim] = columns;
    Problem { queries, keys, head_dim, value_dim, dtype: Dtype::F16, ..Problem::default() }
}

/// The largest difference of a gradient, and what two roundings of sums in another order may differ by.
fn apart(given: &[f64], expected: &[f64], dtype: Dtype) -> (f64, f64) {
    let unit = if dtype == Dtype::F16 { 2f64.powi(-10) } else { 2f64.powi(-7) };
    let largest = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    let pairs = given.iter().zip(expected);
    let difference = pairs.fold(0.0f64, |most, (a, b)| most.max((a - b).abs()));
    // A unit in the last place of the largest; subnormal numbers of f16 are 2^-24 apart.
    (difference, (unit * largest).max(2f64.powi(-24)))
}

#[rstest]
#[case::one_of_each(of(1, 1, [64, 64]))]
#[case::a_tile_and_one(of(33, 129, [64, 64]))]
#[case::less_than_a_tile(of(31, 127, [32, 32]))]
#[case::several_blocks(Problem { key_heads: 2, ..of(100, 300, [128, 128]) })]
#[case::wide_values(of(70, 200, [64, 128]))]
#[case::narrow_values(of(70, 200, [128, 64]))]
#[case::three_quarters(of(97, 150, [96, 96]))]
#[case::padded_columns(of(40, 140, [8, 24]))]
#[case::padded_columns_of_96(of(40, 140, [72, 80]))]
#[case::padded_columns_of_128(of(40, 140, [104, 88]))]
#[case::padded_columns_of_both(of(40, 140, [40, 104]))]
#[case::causal(Problem { causal: Causal::UpperLeft, ..of(170, 300, [64, 64]) })]
#[case::causal_with_dead_queries(Problem { causal: Causal::LowerRight, ..of(300, 170, [128, 128]) })]
#[case::window(Problem { window: [Some(40), Some(9)], ..of(260, 290, [64, 64]) })]
#[case::diagonal(Problem { window: [Some(0), Some(0)], ..of(150, 150, [32, 32]) })]
#[case::grouped(Problem { batch: 2, key_heads: 2, group: 3, ..of(65, 257, [64, 64]) })]
#[case::multi_query(Problem { group: 4, causal: Causal::LowerRight, ..of(130, 130, [128, 128]) })]
#[case::log_sum_exp(Problem { dlse: true, scale: Some(0.6), ..of(90, 160, [64, 64]) })]
#[case::heads_inside(Problem { batch: 2, key_heads: 3, layout: Layout::Bshd, ..of(50, 150, [64, 64]) })]
#[case::lengths(Problem { batch: 4, lengths: Lengths::Keys(vec![290, 0, 1, 140]), ..of(70, 290, [64, 64]) })]
#[case::ragged(of(1, 1, [64, 64]).ragged(vec![[33, 129], [0, 70], [31, 40], [1, 1], [32, 0], [64, 300], [5, 9]]))]
#[case::ragged_groups(
    Problem { group: 2, key_heads: 2, causal: Causal::LowerRight, ..of(1, 1, [128, 64]) }
        .ragged(vec![[3, 200], [100, 100], [200, 3]])
)]
fn gradients_are_those_of_the_formulas_and_of_the_kernels_without_atomics(
    #[case] problem: Problem,
    #[values(Dtype::F16, Dtype::Bf16)] dtype: Dtype,
) {
    for (flash, given, expected) in both_ways(problem, dtype) {
        let [given, expected] = [given, expected].map(|results| Results { dq: vec![], ..results });
        assert_eq!(first_difference(&given, &expected), None, "on {flash}");
    }
}

/// More than 128 columns: blocks of queries are not those of the kernels without atomics, and with them the order of sums.
#[rstest]
#[case::one_of_each(of(1, 1, [256, 256]))]
#[case::several_blocks(Problem { group: 2, ..of(100, 200, [192, 192]) })]
#[case::several_blocks_of_256(Problem { group: 2, ..of(100, 200, [256, 256]) })]
#[case::narrow_values(Problem { batch: 2, ..of(70, 130, [192, 128]) })]
#[case::padded_columns(of(40, 70, [136, 200]))]
#[case::padded_columns_of_192(of(40, 70, [168, 144]))]
#[case::padded_values(of(40, 70, [160, 104]))]
#[case::causal(Problem { causal: Causal::UpperLeft, ..of(170, 180, [192, 128]) })]
#[case::causal_with_dead_queries(Problem { causal: Causal::LowerRight, ..of(150, 70, [256, 256]) })]
#[case::window(Problem { window: [Some(40), Some(9)], ..of(160, 190, [192, 192]) })]
#[case::half_a_tile_of_queries(of(49, 65, [256, 256]))]
#[case::log_sum_exp(Problem { dlse: true, scale: Some(0.6), ..of(40, 60, [256, 256]) })]
#[case::lengths(Problem { batch: 3, lengths: Lengths::Keys(vec![130, 0, 1]), ..of(40, 130, [192, 192]) })]
#[case::ragged(of(1, 1, [256, 256]).ragged(vec![[33, 129], [0, 70], [31, 40], [1, 1], [32, 0], [5, 9]]))]
fn gradients_of_wide_heads_are_those_of_the_formulas(
    #[case] problem: Problem,
    #[values(Dtype::F16, Dtype::Bf16)] dtype: Dtype,
) {
    for (flash, given, expected) in both_ways(problem, dtype) {
        for (given, expected) in [(&given.dk, &expected.dk), (&given.dv, &expected.dv)] {
            let (difference, allowed) = apart(given, expected, dtype);
            assert!(difference <= allowed, "on {flash} dk or dv differs by {difference}, above {allowed}");
        }
    }
}

/// Everything else that may happen to scores and weights, one by one and together.
#[rstest]
#[case::softcap(Problem { softcap: Some(3.0), ..of(70, 150, [64, 64]) })]
#[case::softcap_of_256(Problem { softcap: Some(3.0), ..of(50, 70, [256, 256]) })]
#[case::slopes(Problem { alibi: Some(true), group: 3, batch: 2, ..of(50, 100, [32, 32]) })]
#[case::mask(Problem { mask: Some(([false; 3], Pattern::DeadRows)), ..of(70, 90, [96, 96]) })]
#[case::mask_of_nothing(Problem { mask: Some(([true; 3], Pattern::Everything)), ..of(40, 70, [64, 128]) })]
#[case::bias(Problem { bias: Some([true, false, false]), batch: 2, group: 2, ..of(40, 70, [128, 64]) })]
#[case::sinks(Problem { sinks: true, ..of(60, 130, [128, 128]) })]
#[case::dropout(Problem { dropout: DROPOUT, ..of(100, 190, [64, 64]) })]
#[case::dropout_of_192(Problem { dropout: DROPOUT, ..of(50, 90, [192, 192]) })]
#[case::dropout_of_256(Problem { dropout: DROPOUT, ..of(50, 90, [256, 256]) })]
#[case::negative_scale(Problem { scale: Some(-0.8), ..of(40, 70, [192, 128]) })]
#[case::causal(Problem { softcap: Some(5.0), causal: Causal::LowerRight, ..of(150, 70, [128, 128]) })]
#[case::window(Problem { alibi: Some(false), window: [Some(40), Some(9)], ..of(160, 190, [64, 64]) })]
#[case::lengths(
    Problem { sinks: true, batch: 3, lengths: Lengths::Keys(vec![130, 0, 1]), ..of(40, 130, [64, 64]) }
)]
#[case::ragged(
    Problem { softcap: Some(5.0), dropout: DROPOUT, group: 2, ..of(1, 1, [256, 256]) }
        .ragged(vec![[33, 129], [0, 70], [31, 40], [1, 1], [32, 0], [5, 9]])
)]
#[case::everything(Problem {
    softcap: Some(4.0),
    alibi: Some(false),
    mask: Some(([true, false, false], Pattern::Scattered)),
    bias: Some([false; 3]),
    sinks: true,
    dropout: DROPOUT,
    dlse: true,
    batch: 2,
    key_heads: 2,
    group: 2,
    causal: Causal::LowerRight,
    ..of(70, 100, [128, 128])
})]
fn gradients_of_changed_scores_are_those_of_the_formulas(
    #[case] problem: Problem,
    #[values(Dtype::F16, Dtype::Bf16)] dtype: Dtype,
) {
    both_ways(problem, dtype);
}

const DROPOUT: Option<Dropout> = Some(Dropout { p: 0.3, seed: 7, offset: 5 });

/// What a fused kernel gives, and the kernels without atomics, on every device; the first is near the formulas, and the dq of the
/// others to its own.
fn both_ways(problem: Problem, dtype: Dtype) -> Vec<(Target, Results, Results)> {
    let problem = Problem { dtype, seed: 11, deterministic: Some(false), ..problem };
    let without = Problem { deterministic: Some(true), ..problem.clone() };
    let inputs = problem.inputs();
    let truth = problem.truth(&inputs);
    let errors = errors(&unfused(&problem, &inputs, Precision::of(dtype)), &truth, dtype);
    let on = |target: Target| {
        let given = problem.run_on(&target, &inputs).unwrap();
        assert_took(&target, FUSED.into());
        compare_all(&given, &truth, errors, dtype).unwrap_or_else(|message| panic!("on {target}: {message}"));
        let expected = without.run_on(&target, &inputs).unwrap();
        assert_took(&target, without_atomics(&without));
        let (difference, allowed) = apart(&given.dq, &expected.dq, dtype);
        assert!(difference <= allowed, "on {target} dq differs by {difference}, above {allowed}");
        (target, given, expected)
    };
    flash().into_iter().map(on).collect()
}

/// What the library chooses by itself.
#[rstest]
#[case::few_keys(of(40, 256, [64, 64]), WITHOUT_ATOMICS)]
#[case::many_keys(of(40, 257, [64, 64]), FUSED)]
#[case::a_narrow_window(Problem { window: [Some(100), Some(155)], ..of(40, 700, [64, 64]) }, WITHOUT_ATOMICS)]
#[case::a_wide_window(Problem { window: [Some(100), Some(156)], ..of(40, 700, [64, 64]) }, FUSED)]
fn many_keys_are_added_up_atomically(#[case] problem: Problem, #[case] kernels: [&str; 2]) {
    let target = &flash()[0];
    problem.run_on(target, &problem.inputs()).unwrap();
    assert_eq!(took(target), Some(kernels.into()));
}

#[test]
fn golden_cases_are_right_by_both_ways() {
    let folders = [golden::folder(), golden::examples()];
    let files: Vec<File> =
        folders.iter().filter_map(|folder| golden::files(folder)).flat_map(Result::unwrap).collect();
    let mut ways = BTreeMap::new();
    for File { path, name } in files {
        if !golden::takes(&path, Backend::Flash).unwrap() {
            continue;
        }
        let ran = flash().into_iter().map(|target| {
            [false, true].map(|deterministic| {
                golden::run_with(&path, &target, 0, Some(deterministic)).unwrap_or_else(|message| {
                    panic!("{name} on {target}, deterministic {deterministic}: {message}")
                });
                took(&target)
            })
        });
        // The emulator is the first, and says what it took.
        let [with, without] = ran.collect::<Vec<_>>()[0].clone().map(Option::unwrap);
        assert!(without.is_disjoint(&FUSED.into()), "{name}: {without:?}");
        // Where these kernels go backward at all, so does a fused one.
        let backward = without == WITHOUT_ATOMICS.into() || without == WIDE_WITHOUT_ATOMICS.into();
        assert_eq!(with == FUSED.into(), backward, "{name}: {with:?}, {without:?}");
        *ways.entry(with == FUSED.into()).or_insert(0) += 1;
    }
    say(&format!("golden cases by a fused kernel: {}", ways.get(&true).unwrap_or(&0)));
    assert!(ways.get(&true).is_some_and(|&cases| cases > 0), "no case goes backward on tensor cores");
}

/// A fused kernel: its name, queries and keys of its tile, columns, threads, and queries that one of them owns.
#[derive(Clone, Copy)]
struct Fused {
    name: &'static str,
    tile: [usize; 2],
    columns: usize,
    threads: u64,
    owned: u64,
}

const NARROW: Fused =
    Fused { name: "flash_grad_fused_f16_d32", tile: [32, 128], columns: 32, threads: 128, owned: 8 };
const GENERAL: Fused =
    Fused { name: "flash_general_grad_fused_f16_d32", tile: [32, 64], columns: 32, threads: 256, owned: 4 };
const WIDE: Fused =
    Fused { name: "flash_grad_fused_f16_d256", tile: [16, 64], columns: 256, threads: 256, owned: 2 };

impl Fused {
    /// What the kernel and the rounding of dq count.
    fn loaded(&self, problem: &Problem) -> (Statistics, Statistics) {
        let softcap = self.name.contains("general").then_some(30.0);
        let problem = Problem { deterministic: Some(false), softcap, ..problem.clone() };
        let mut counted = counted(&problem);
        let mut of = |name: &str| counted.remove(name).unwrap_or_else(|| panic!("{name} did not run"));
        (of(self.name), of("flash_grad_convert_f16"))
    }

    /// Bytes of a row of q, k, v or dout.
    fn row(&self) -> u64 {
        self.columns as u64 * 2
    }

    /// A tile loads its rows of q and dout, and each thread the log-sum-exp and delta of its queries.
    fn tile_bytes(&self) -> u64 {
        2 * self.tile[0] as u64 * self.row() + self.threads * self.owned * 8
    }
}

#[rstest]
#[case::full([None; 2], Causal::None)]
#[case::upper_left([None; 2], Causal::UpperLeft)]
#[case::lower_right([None; 2], Causal::LowerRight)]
#[case::left([Some(100), None], Causal::None)]
#[case::both([Some(64), Some(64)], Causal::None)]
#[case::diagonal([Some(0), Some(0)], Causal::None)]
#[case::causal_65([Some(65), None], Causal::LowerRight)]
fn a_tile_that_is_met_is_loaded_once_and_no_other(
    #[case] window: [Option<usize>; 2],
    #[case] causal: Causal,
    #[values((512, 512), (256, 512), (512, 384))] sizes: (usize, usize),
    #[values(1, 3)] group: usize,
    #[values(NARROW, GENERAL, WIDE)] kernel: Fused,
) {
    let (queries, keys) = sizes;
    let problem = Problem { window, causal, group, ..of(queries, keys, [kernel.columns; 2]) };
    let (fused, convert) = kernel.loaded(&problem);
    let tiles = met(&problem, kernel.tile) * group as u64;
    // K and V once, and what every head meets of Q and dO.
    let expected = 2 * keys as u64 * kernel.row() + tiles * kernel.tile_bytes();
    assert_eq!(fused.global_load_bytes, expected, "{tiles} tiles are met");
    let elements = (queries * group * kernel.columns) as u64;
    assert_eq!((convert.global_load_bytes, convert.global_store_bytes), (4 * elements, 2 * elements));
}

/// One addition for each element of dQ of a tile, none for tiles that nobody meets; four whole sectors each.
#[rstest]
fn every_element_of_a_tile_of_dq_is_added_once(#[values(NARROW, GENERAL, WIDE)] kernel: Fused) {
    let problem = Problem { causal: Causal::UpperLeft, ..of(512, 512, [kernel.columns; 2]) };
    let (fused, _) = kernel.loaded(&problem);
    let additions = fused.mnemonics["red.relaxed.gpu.global.add.f32"];
    assert_eq!(additions, met(&problem, kernel.tile) * (kernel.tile[0] * kernel.columns) as u64 / 32);
}

#[test]
fn no_padding_of_a_ragged_batch_is_computed() {
    let lengths = [[512, 512], [64, 64], [0, 70], [1, 1], [100, 300], [3, 2], [256, 128]];
    let plain = of(1, 1, [32, 32]);
    let (together, rounded) = NARROW.loaded(&plain.clone().ragged(lengths.to_vec()));
    let alone = lengths.iter().filter(|length| length[0] > 0);
    let alone: Vec<_> = alone.map(|&length| NARROW.loaded(&plain.clone().ragged(vec![length]))).collect();
    let products = |fused: &Statistics| fused.mnemonics["mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"];
    assert_eq!(products(&together), alone.iter().map(|(fused, _)| products(fused)).sum::<u64>());
    let stored = alone.iter().map(|(_, convert)| convert.global_store_bytes).sum::<u64>();
    assert_eq!(rounded.global_store_bytes, stored);
}
