//! Backward on tensor cores: with every option alone and in pairs, by kernels of Flash alone, loading what they meet and nothing
//! else.

use std::collections::BTreeMap;

use flash_attention::{Backend, Causal, Device, Dropout, Dtype, EmulatorOptions, Statistics};
use flash_attention_conformance::compare::{compare_all, errors};
use flash_attention_conformance::devices::targets_with;
use flash_attention_conformance::problem::{Lengths, Pattern, Problem};
use flash_attention_conformance::tiles::{met, tile_bytes};
use flash_attention_conformance::unfused::{Precision, unfused};
use rstest::rstest;

/// Runs a problem forward and backward by Flash, on an emulator that checks every launch and on a GPU that can, holds the results
/// against the formulas, and gives what the emulator counted.
fn right_by_flash(what: &str, problem: &Problem) -> BTreeMap<&'static str, Statistics> {
    let device = Device::emulator_with(EmulatorOptions::default().checks(true));
    let inputs = problem.inputs();
    let expected = problem.truth(&inputs);
    let errors = errors(&unfused(problem, &inputs, Precision::of(problem.dtype)), &expected, problem.dtype);
    for flash in targets_with(&device, Backend::Flash) {
        let given = problem.run_on(&flash, &inputs);
        given
            .and_then(|given| compare_all(&given, &expected, errors, problem.dtype))
            .unwrap_or_else(|message| panic!("{what} on {flash}: {message}\n{problem:?}"));
    }
    device.take_stats().unwrap()
}

/// The kernels of these that computed gradients of q, k and v.
fn backward<'a>(launched: &BTreeMap<&'a str, Statistics>) -> Vec<&'a str> {
    let computes =
        |name: &&str| name.contains("grad_key") || name.contains("grad_query") || name.contains("grad_value");
    launched.keys().copied().filter(computes).collect()
}

/// Fewer than a block of queries, more than one of keys, heads that share keys; without the fused kernel, which has tests of its own.
fn base() -> Problem {
    Problem {
        batch: 2,
        key_heads: 2,
        group: 2,
        queries: 70,
        keys: 85,
        head_dim: 24,
        value_dim: 32,
        dtype: Dtype::F16,
        deterministic: Some(true),
        ..Problem::default()
    }
}

/// An option, and whether it needs the general kernels.
type Choice = (&'static str, bool, fn(&mut Problem));

const OPTIONS: [Choice; 15] = [
    ("causal, upper left", false, |p| p.causal = Causal::UpperLeft),
    ("causal, lower right", false, |p| p.causal = Causal::LowerRight),
    ("window", false, |p| p.window = [Some(20), Some(9)]),
    ("scale", false, |p| p.scale = Some(1.5)),
    ("lengths", false, |p| p.lengths = Lengths::Keys(vec![50, 0])),
    ("gradient of the log-sum-exp", false, |p| p.dlse = true),
    ("one key head", false, |p| p.key_heads = 1),
    ("negative scale", true, |p| p.scale = Some(-0.7)),
    ("softcap", true, |p| p.softcap = Some(3.0)),
    ("alibi", true, |p| p.alibi = Some(true)),
    ("mask", true, |p| p.mask = Some(([false, true, false], Pattern::DeadRows))),
    ("bias", true, |p| p.bias = Some([true, false, false])),
    ("bias of one row", true, |p| p.bias = Some([false, true, true])),
    ("sinks", true, |p| p.sinks = true),
    ("dropout", true, |p| p.dropout = Some(Dropout { p: 0.3, seed: 11, offset: 2 })),
];

/// The two kernels that have to go backward, or three for wide heads.
fn expected(general: bool, dims: &str) -> Vec<String> {
    let family = if general { "flash_general_grad" } else { "flash_grad" };
    let wide = ["d192", "d192_128", "d256"].contains(&dims);
    let kernels: &[&str] = if wide { &["key", "query", "value"] } else { &["key_value", "query"] };
    kernels.iter().map(|what| format!("{family}_{what}_f16_{dims}")).collect()
}

#[test]
fn every_option_alone_goes_backward_by_kernels_of_flash_alone() {
    for (name, general, set) in OPTIONS {
        let mut problem = base();
        set(&mut problem);
        let launched = right_by_flash(name, &problem);
        assert_eq!(backward(&launched), expected(general, "d32"), "{name}");
    }
}

#[test]
fn every_pair_of_options_goes_backward_by_kernels_of_flash_alone() {
    for (n, (first, one_general, set_one)) in OPTIONS.into_iter().enumerate() {
        for (second, other_general, set_other) in OPTIONS.into_iter().skip(n + 1) {
            let mut problem = Problem { seed: n as u64, ..base() };
            set_one(&mut problem);
            set_other(&mut problem);
            let what = format!("{first} and {second}");
            let launched = right_by_flash(&what, &problem);
            assert_eq!(backward(&launched), expected(one_general || other_general, "d32"), "{what}");
        }
    }
}

/// Everything at once, in the ways that lengths may lie.
#[rstest]
#[case::wider_values(64, 104, "d64_128")]
#[case::narrower_values(104, 64, "d128_64")]
#[case::small(64, 48, "d64")]
#[case::odd(88, 96, "d96")]
#[case::wide(128, 128, "d128")]
#[case::multi_latent(192, 128, "d192_128")]
#[case::wider(168, 184, "d192")]
#[case::widest(256, 248, "d256")]
fn all_options_together_at_every_width(
    #[case] head_dim: usize,
    #[case] value_dim: usize,
    #[case] dims: &str,
    #[values(false, true)] ragged: bool,
    #[values(Causal::None, Causal::LowerRight)] causal: Causal,
) {
    let problem = Problem {
        head_dim,
        value_dim,
        causal,
        softcap: Some(4.0),
        alibi: Some(false),
        mask: Some(([true, false, true], Pattern::Scattered)),
        bias: Some([false, false, false]),
        sinks: true,
        dropout: Some(Dropout { p: 0.2, seed: 5, offset: 1 }),
        dlse: true,
        ..base()
    };
    let masked = |lengths| Problem { mask: None, bias: None, ..problem.clone().ragged(lengths) };
    let problem = if ragged { masked(vec![[0, 17], [70, 33], [19, 0], [1, 1], [33, 90]]) } else { problem };
    let launched = right_by_flash(dims, &problem);
    assert_eq!(backward(&launched), expected(true, dims));
}

/// What needs a factor and a band alone, at every width.
#[rstest]
#[case(24, 8, "d32")]
#[case(64, 64, "d64")]
#[case(72, 96, "d96")]
#[case(56, 128, "d64_128")]
#[case(128, 40, "d128_64")]
#[case(120, 128, "d128")]
#[case(192, 128, "d192_128")]
#[case(144, 192, "d192")]
#[case(256, 256, "d256")]
fn plain_problems_at_every_width(
    #[case] head_dim: usize,
    #[case] value_dim: usize,
    #[case] dims: &str,
    #[values(Dtype::F16, Dtype::Bf16)] dtype: Dtype,
    #[values([None; 2], [Some(30), Some(0)])] window: [Option<usize>; 2],
) {
    // Blocks of keys with plain steps, an odd number and an even one, with edges, and with padding.
    let lengths = vec![[131, 200], [160, 64], [0, 5], [3, 70], [97, 128]];
    let problem = Problem { head_dim, value_dim, dtype, window, ..base() }.ragged(lengths);
    let launched = right_by_flash(dims, &problem);
    let names = expected(false, dims).into_iter().map(|name| name.replace("f16", dtype.name()));
    assert_eq!(backward(&launched), names.collect::<Vec<_>>());
}

/// The first queries see no key, and some keys are seen by no query.
#[rstest]
#[case::more_queries_than_keys(150, 40, Causal::LowerRight, [None; 2])]
#[case::more_keys_than_queries(40, 150, Causal::UpperLeft, [None; 2])]
#[case::narrow_window(150, 150, Causal::None, [Some(3), Some(2)])]
#[case::window_beyond_the_keys(150, 60, Causal::LowerRight, [Some(10), None])]
fn bands_that_leave_queries_and_keys_alone(
    #[case] queries: usize,
    #[case] keys: usize,
    #[case] causal: Causal,
    #[case] window: [Option<usize>; 2],
    #[values(None, Some(2.0))] softcap: Option<f32>,
) {
    let problem = Problem { queries, keys, causal, window, softcap, dlse: true, ..base() };
    let launched = right_by_flash("band", &problem);
    assert_eq!(backward(&launched), expected(softcap.is_some(), "d32"));
}

/// A backward kernel of 32 columns for problems with or without a softcap, and the queries and keys of its tiles.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    name: &'static str,
    tile: [usize; 2],
    softcap: Option<f32>,
    /// Bytes of the operands that one tile brings, and those of log-sum-exp and delta.
    bytes: u64,
    /// Bytes that every row of a block of its own brings once.
    row: u64,
}

/// Bytes of a row of q and dout, or of k and v.
const ROWS: u64 = 2 * 32 * 2;

const KEY_VALUE: Kernel = Kernel {
    name: "flash_grad_key_value_f16_d32",
    tile: [32, 128],
    softcap: None,
    // Each thread loads two numbers for each of its 8 columns.
    bytes: 32 * ROWS + 128 * 8 * 8,
    row: ROWS,
};
const QUERY: Kernel = Kernel {
    name: "flash_grad_query_f16_d32",
    tile: [128, 32],
    softcap: None,
    bytes: 32 * ROWS,
    // Four threads share a row and its two numbers.
    row: ROWS + 4 * 8,
};
const GENERAL_KEY_VALUE: Kernel = Kernel {
    name: "flash_general_grad_key_value_f16_d32",
    tile: [16, 64],
    softcap: Some(9.0),
    bytes: 16 * ROWS + 128 * 4 * 8,
    row: ROWS,
};
const GENERAL_QUERY: Kernel = Kernel {
    name: "flash_general_grad_query_f16_d32",
    tile: [64, 16],
    softcap: Some(9.0),
    bytes: 16 * ROWS,
    row: ROWS + 4 * 8,
};

impl Kernel {
    fn problem(&self, queries: usize, keys: usize) -> Problem {
        let deterministic = Some(true);
        Problem {
            queries,
            keys,
            dtype: Dtype::F16,
            softcap: self.softcap,
            deterministic,
            ..Problem::default()
        }
    }

    fn loaded(&self, problem: &Problem) -> u64 {
        flash_attention_conformance::tiles::counted(problem)[self.name].global_load_bytes
    }

    /// Rows that blocks own: queries or keys.
    fn rows(&self, problem: &Problem) -> u64 {
        (if self.name.contains("query") { problem.queries } else { problem.keys }) as u64
    }
}

#[rstest]
fn a_tile_of_scores_costs_its_operands(
    #[values(KEY_VALUE, QUERY, GENERAL_KEY_VALUE, GENERAL_QUERY)] kernel: Kernel,
) {
    let window = |left| Problem { window: [Some(left), Some(0)], ..kernel.problem(512, 512) };
    assert_eq!(tile_bytes(&window(256), &window(64), kernel.tile, kernel.name), kernel.bytes);
}

#[rstest]
#[case::full([None; 2], Causal::None)]
#[case::causal([None; 2], Causal::UpperLeft)]
#[case::window([Some(63), Some(0)], Causal::None)]
#[case::both_sides([Some(40), Some(70)], Causal::None)]
#[case::diagonal([Some(0), Some(0)], Causal::None)]
#[case::causal_window([Some(100), None], Causal::LowerRight)]
fn tiles_outside_of_the_band_are_not_loaded(
    #[case] window: [Option<usize>; 2],
    #[case] causal: Causal,
    #[values((256, 256), (128, 256))] sizes: (usize, usize),
    #[values(KEY_VALUE, QUERY, GENERAL_KEY_VALUE, GENERAL_QUERY)] kernel: Kernel,
) {
    let problem = Problem { window, causal, ..kernel.problem(sizes.0, sizes.1) };
    let tiles = met(&problem, kernel.tile);
    let expected = kernel.rows(&problem) * kernel.row + tiles * kernel.bytes;
    assert_eq!(kernel.loaded(&problem), expected, "{tiles} tiles are met");
}

/// A boolean mask and a bias are read only where the position allows a score.
#[rstest]
fn masks_and_biases_are_loaded_with_their_tiles(#[values(GENERAL_KEY_VALUE, GENERAL_QUERY)] kernel: Kernel) {
    let whole = Problem {
        mask: Some(([true, true, false], Pattern::Scattered)),
        bias: Some([true, true, false]),
        ..kernel.problem(256, 256)
    };
    let windowed = Problem { window: [Some(31), Some(0)], ..whole.clone() };
    let tiles = |problem| met(problem, kernel.tile) as f64;
    let part = kernel.loaded(&windowed) as f64 / kernel.loaded(&whole) as f64;
    // In the tiles that are met, two thirds of mask and bias at most; the block's own rows come on top.
    let most = tiles(&windowed) / tiles(&whole) + 0.03;
    assert!(part < most, "{part} of the bytes, at most {most}");
}
