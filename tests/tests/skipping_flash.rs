//! Flash loads what a query block meets and nothing else: counted on the emulator, where asynchronous copies count as loads.

use flash_attention::{Causal, Dtype, Statistics};
use flash_attention_conformance::problem::{Lengths, Pattern, Problem};
use flash_attention_conformance::tiles::{counted, met, tile_bytes};
use rstest::rstest;

/// A kernel of 32 columns, and the queries and keys of its tiles.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    name: &'static str,
    tile: [usize; 2],
    softcap: Option<f32>,
}

const PLAIN: Kernel = Kernel { name: "flash_forward_f16_d32", tile: [128, 64], softcap: None };
const GENERAL: Kernel = Kernel { name: "flash_general_f16_d32", tile: [64, 64], softcap: Some(9.0) };

/// Bytes of a row of q, k or v.
const ROW: u64 = 32 * 2;

/// K and V of a tile.
const TILE: u64 = 2 * 64 * ROW;

impl Kernel {
    /// A problem that this kernel runs.
    fn problem(&self, queries: usize, keys: usize) -> Problem {
        Problem { queries, keys, dtype: Dtype::F16, softcap: self.softcap, ..Problem::default() }
    }

    fn counted(&self, problem: &Problem) -> Statistics {
        counted(problem).remove(self.name).unwrap_or_else(|| panic!("{} did not run", self.name))
    }

    fn loaded(&self, problem: &Problem) -> u64 {
        self.counted(problem).global_load_bytes
    }
}

#[rstest]
fn a_tile_of_scores_costs_its_keys_and_values(#[values(PLAIN, GENERAL)] kernel: Kernel) {
    let window = |left| Problem { window: [Some(left), Some(0)], ..kernel.problem(512, 512) };
    assert_eq!(tile_bytes(&window(256), &window(64), kernel.tile, kernel.name), TILE);
}

#[rstest]
fn a_problem_costs_its_queries_once_and_the_tiles_that_they_meet(
    #[values(PLAIN, GENERAL)] kernel: Kernel,
    #[values((512, 512), (70, 128), (300, 64))] sizes: (usize, usize),
) {
    let problem = kernel.problem(sizes.0, sizes.1);
    assert_eq!(kernel.loaded(&problem), sizes.0 as u64 * ROW + met(&problem, kernel.tile) * TILE);
}

#[rstest]
fn half_of_the_scores_cost_about_half(
    #[values(PLAIN, GENERAL)] kernel: Kernel,
    #[values(Causal::UpperLeft, Causal::LowerRight)] causal: Causal,
) {
    let full = kernel.problem(512, 512);
    let half = Problem { causal, ..full.clone() };
    // Of 4 x 8 tiles 20 remain (0.625), and of 8 x 8 tiles 36 (0.5625); 8 of them are at the diagonal.
    let all = met(&full, kernel.tile) as f64;
    let tiles = met(&half, kernel.tile) as f64 / all;
    let [full, half] = [full, half].map(|problem| kernel.counted(&problem));
    let part = |count: fn(&Statistics) -> u64| count(&half) as f64 / count(&full) as f64;
    let (bytes, instructions) = (part(|s| s.global_load_bytes), part(|s| s.thread_instructions));
    // The queries come on top, and masked edges, which cost less than twice what they cost without masks.
    assert!((tiles..tiles + 0.06).contains(&bytes), "{bytes} of the bytes for {tiles} of the tiles");
    assert!((tiles..tiles + 8.0 / all).contains(&instructions), "{instructions} for {tiles} of the tiles");
}

#[rstest]
#[case(64, 512)]
#[case(100, 301)]
fn keys_that_no_query_sees_are_not_loaded(
    #[case] queries: usize,
    #[case] keys: usize,
    #[values(PLAIN, GENERAL)] kernel: Kernel,
) {
    let long = Problem { causal: Causal::UpperLeft, ..kernel.problem(queries, keys) };
    // Every key block that is met at all.
    let met = Problem { keys: queries.next_multiple_of(64).min(keys), ..long.clone() };
    assert_eq!(kernel.loaded(&long), kernel.loaded(&met));
}

#[rstest]
fn queries_that_see_no_key_load_none(#[values(PLAIN, GENERAL)] kernel: Kernel) {
    // The first 448 of 512 queries see nothing.
    let tall = Problem { causal: Causal::LowerRight, ..kernel.problem(512, 64) };
    let rest = Problem { queries: 64, ..tall.clone() };
    let [tall, rest] = [tall, rest].map(|problem| kernel.loaded(&problem));
    assert!(tall <= rest + 448 * ROW, "{tall} bytes, and without those queries {rest}");
}

#[rstest]
#[case::left([Some(100), None], Causal::None)]
#[case::right([None, Some(70)], Causal::None)]
#[case::both([Some(64), Some(64)], Causal::None)]
#[case::diagonal([Some(0), Some(0)], Causal::None)]
#[case::one_more_than_two_tiles([Some(129), Some(0)], Causal::None)]
#[case::causal([Some(63), None], Causal::UpperLeft)]
#[case::causal_65([Some(65), None], Causal::LowerRight)]
fn a_window_loads_the_tiles_that_it_meets_and_no_other(
    #[case] window: [Option<usize>; 2],
    #[case] causal: Causal,
    #[values((512, 512), (256, 512), (512, 448))] sizes: (usize, usize),
    #[values(PLAIN, GENERAL)] kernel: Kernel,
) {
    // Every query sees a key, so that all of them are loaded.
    let problem = Problem { window, causal, ..kernel.problem(sizes.0, sizes.1) };
    let tiles = met(&problem, kernel.tile);
    assert_eq!(kernel.loaded(&problem), sizes.0 as u64 * ROW + tiles * TILE, "{tiles} tiles are met");
}

#[rstest]
fn keys_behind_the_lengths_are_not_loaded(
    #[values([512, 64, 192], [64, 64, 64], [512, 448, 128])] lengths: [usize; 3],
    #[values(PLAIN, GENERAL)] kernel: Kernel,
) {
    let of = |lengths: [usize; 3]| Problem {
        batch: 3,
        lengths: Lengths::Keys(lengths.to_vec()),
        ..kernel.problem(128, 512)
    };
    let (full, given) = (of([512; 3]), of(lengths));
    let spared = kernel.loaded(&full) - kernel.loaded(&given);
    assert_eq!(spared, (met(&full, kernel.tile) - met(&given, kernel.tile)) * TILE);
}

/// What a kernel does for sequences of a ragged batch one by one, and for all at once.
#[rstest]
fn no_padding_of_a_ragged_batch_is_computed(
    #[values(Causal::None, Causal::LowerRight)] causal: Causal,
    #[values(PLAIN, GENERAL)] kernel: Kernel,
) {
    let lengths = [[512, 512], [64, 64], [0, 70], [1, 1], [100, 300], [3, 2], [256, 128]];
    let plain = Problem { causal, ..kernel.problem(1, 1) };
    let together = kernel.counted(&plain.clone().ragged(lengths.to_vec()));
    let alone: Vec<Statistics> = lengths
        .iter()
        .filter_map(|&length| counted(&plain.clone().ragged(vec![length])).remove(kernel.name))
        .collect();
    let sum = |count: fn(&Statistics) -> u64| alone.iter().map(count).sum::<u64>();
    let (bytes, instructions) = (sum(|s| s.global_load_bytes), sum(|s| s.thread_instructions));
    // Blocks beside the sequences read the offsets and leave.
    let idle = together.blocks - sum(|s| s.blocks).min(together.blocks);
    let (most_bytes, most) = (bytes + idle * 128 * 16, instructions + idle * 128 * 64);
    let (given_bytes, given) = (together.global_load_bytes, together.thread_instructions);
    assert!((bytes..=most_bytes).contains(&given_bytes), "{given_bytes} bytes, and {bytes} one by one");
    assert!((instructions..=most).contains(&given), "{given} instructions, and {instructions} one by one");
    // Less than 20 of 100 tiles of the padded batch are in the sequences.
    let padded = Problem { batch: lengths.len(), queries: 512, keys: 512, ..plain };
    let padded = kernel.counted(&padded).thread_instructions;
    assert!(10 * given < 3 * padded, "{given} instructions, and {padded} padded");
}

/// A boolean mask and a bias are read only where the position allows a score.
#[test]
fn masks_and_biases_are_loaded_with_their_tiles() {
    let whole = Problem {
        mask: Some(([true, true, false], Pattern::Scattered)),
        bias: Some([true, true, false]),
        ..GENERAL.problem(512, 512)
    };
    let windowed = Problem { window: [Some(63), Some(0)], ..whole.clone() };
    let part = GENERAL.loaded(&windowed) as f64 / GENERAL.loaded(&whole) as f64;
    // 15 of 64 tiles, and in those half of the mask and bias; the queries come on top.
    assert!(part < 0.27, "{part}");
}
