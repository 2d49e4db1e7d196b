//! Blocks that a mask hides as a whole are not loaded: counted on the emulator, and poisoned everywhere.

use flash_attention::{Causal, Statistics};
use flash_attention_conformance::compare::first_difference;
use flash_attention_conformance::devices::devices;
use flash_attention_conformance::problem::{Lengths, Pattern, Problem, Results};
use flash_attention_conformance::tiles::{counted, met, tile_bytes};
use rstest::rstest;

fn square(causal: Causal) -> Problem {
    Problem { queries: 512, keys: 512, causal, ..Problem::default() }
}

#[rstest]
fn half_of_the_scores_cost_about_half(
    #[values(Causal::UpperLeft, Causal::LowerRight)] causal: Causal,
    #[values("forward_f32_d32", "grad_query_f32_d32", "grad_key_value_f32_d32")] kernel: &str,
) {
    devices();
    let (full, half) = (counted(&square(Causal::None)), counted(&square(causal)));
    let part = |count: fn(&Statistics) -> u64| count(&half[kernel]) as f64 / count(&full[kernel]) as f64;
    // Of 8 x 8 blocks 36 remain: 0.5625; each block's own rows and masked edges come on top.
    let (bytes, instructions) = (part(|s| s.global_load_bytes), part(|s| s.thread_instructions));
    assert!((0.5..0.62).contains(&bytes), "{kernel}: {bytes} of the bytes");
    assert!((0.5..0.66).contains(&instructions), "{kernel}: {instructions} of the instructions");
}

#[rstest]
#[case(Causal::UpperLeft, 64, 512)]
#[case(Causal::UpperLeft, 100, 301)]
fn keys_that_no_query_sees_are_not_loaded(
    #[case] causal: Causal,
    #[case] queries: usize,
    #[case] keys: usize,
    #[values("forward_f32_d32", "grad_query_f32_d32", "grad_key_value_f32_d32")] kernel: &str,
) {
    let long = Problem { queries, keys, causal, ..Problem::default() };
    // Every key block that is met at all.
    let met = Problem { keys: queries.next_multiple_of(64).min(keys), ..long.clone() };
    let (long, met) = (counted(&long), counted(&met));
    let [long, met] = [&long, &met].map(|counted| counted[kernel].global_load_bytes);
    assert_eq!(long, met);
}

/// What they cost is their own rows at most: of q in forward, of q and dout in `grad_query`.
#[rstest]
#[case("forward_f32_d32", 1)]
#[case("grad_query_f32_d32", 2)]
#[case("grad_key_value_f32_d32", 0)]
fn queries_that_see_no_key_load_none(#[case] kernel: &str, #[case] own: u64) {
    // The first 448 of 512 queries see nothing.
    let tall = Problem { queries: 512, keys: 64, causal: Causal::LowerRight, ..Problem::default() };
    let rest = Problem { queries: 64, ..tall.clone() };
    let [tall, rest] = [tall, rest].map(|problem| counted(&problem)[kernel].global_load_bytes);
    assert!(tall <= rest + own * 448 * 32 * 4, "{tall} bytes, and without those queries {rest}");
}

/// Poisons the rows of a tensor from some row on.
fn poison(values: &mut [f64], rows: usize, columns: usize, from: usize) {
    for head in values.chunks_exact_mut(rows * columns) {
        head[from * columns..].fill(f64::NAN);
    }
}

#[rstest]
fn what_no_query_sees_has_no_part_in_the_result(#[values(64, 128)] queries: usize) {
    let problem = Problem {
        batch: 2,
        key_heads: 2,
        group: 2,
        queries,
        keys: 256,
        head_dim: 40,
        causal: Causal::UpperLeft,
        ..Problem::default()
    };
    let clean = problem.inputs();
    let mut poisoned = clean.clone();
    poison(&mut poisoned.k, 256, 40, queries);
    poison(&mut poisoned.v, 256, 32, queries);
    for device in devices() {
        let expected = problem.run(device, &clean).unwrap();
        let given: Results = problem.run(device, &poisoned).unwrap();
        assert_eq!(first_difference(&given, &expected), None, "on {device}");
        let unseen = |values: &[f64], columns: usize| {
            values.chunks_exact(256 * columns).all(|head| head[queries * columns..].iter().all(|&x| x == 0.0))
        };
        assert!(unseen(&given.dk, 40) && unseen(&given.dv, 32), "on {device}");
    }
}

/// Queries and keys of a tile of scores.
const TILE: [usize; 2] = [64, 64];

/// Every kernel that goes through blocks of queries and keys.
const KERNELS: [&str; 3] = ["forward_f32_d32", "grad_query_f32_d32", "grad_key_value_f32_d32"];

/// A forward pass loads the keys and values of a tile; backward loads each operand once for the scores, and those that
/// accumulate once more.
#[rstest]
#[case("forward_f32_d32", 2)]
#[case("grad_query_f32_d32", 5)]
#[case("grad_key_value_f32_d32", 6)]
fn a_tile_of_scores_costs_its_operands(#[case] kernel: &str, #[case] operands: u64) {
    let window = |left| Problem { window: [Some(left), Some(0)], ..square(Causal::None) };
    let per_query = if kernel == "grad_key_value_f32_d32" { 2 * 64 * 4 } else { 0 };
    let bytes = tile_bytes(&window(256), &window(64), TILE, kernel);
    assert!(
        (operands * 64 * 32 * 4..=operands * 64 * 32 * 4 + 32 * per_query).contains(&bytes),
        "{bytes} bytes a tile"
    );
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
) {
    let (queries, keys) = sizes;
    // Every query sees a key, so that all problems have the same rows.
    let windowed = Problem { queries, keys, window, causal, ..Problem::default() };
    let full = Problem { queries, keys, window: [Some(1 << 20), Some(1 << 20)], ..Problem::default() };
    let fuller = Problem { window: [Some(200), Some(200)], ..full.clone() };
    let (few, all) = (counted(&windowed), counted(&full));
    for kernel in KERNELS {
        let each = tile_bytes(&full, &fuller, TILE, kernel);
        let spared = all[kernel].global_load_bytes - few[kernel].global_load_bytes;
        let tiles = met(&full, TILE) - met(&windowed, TILE);
        assert_eq!(
            spared,
            tiles * each,
            "{kernel}: {} tiles of {} are met",
            met(&windowed, TILE),
            met(&full, TILE)
        );
    }
}

#[rstest]
fn keys_behind_the_lengths_are_not_loaded(
    #[values([512, 64, 192], [64, 64, 64], [512, 448, 128])] lengths: [usize; 3],
) {
    let of = |lengths: [usize; 3]| Problem {
        batch: 3,
        queries: 128,
        keys: 512,
        lengths: Lengths::Keys(lengths.to_vec()),
        ..Problem::default()
    };
    let (full, fuller, given) = (of([512; 3]), of([448; 3]), of(lengths));
    let (all, few) = (counted(&full), counted(&given));
    for kernel in KERNELS {
        let each = tile_bytes(&full, &fuller, TILE, kernel);
        let spared = all[kernel].global_load_bytes - few[kernel].global_load_bytes;
        assert_eq!(spared, (met(&full, TILE) - met(&given, TILE)) * each, "{kernel}");
    }
}

/// What a kernel does for sequences of a ragged batch one by one, and for all at once.
#[rstest]
fn no_padding_of_a_ragged_batch_is_computed(#[values(Causal::None, Causal::LowerRight)] causal: Causal) {
    let lengths = [[512, 512], [64, 64], [0, 70], [1, 1], [100, 300], [3, 0], [256, 128]];
    let plain = Problem { causal, ..Problem::default() };
    let together = counted(&plain.clone().ragged(lengths.to_vec()));
    let alone: Vec<_> = lengths.iter().map(|&length| counted(&plain.clone().ragged(vec![length]))).collect();
    let padded = counted(&Problem { batch: lengths.len(), queries: 512, keys: 512, ..plain });
    for kernel in KERNELS {
        let sum = |count: fn(&Statistics) -> u64| {
            alone.iter().filter_map(|counted| counted.get(kernel)).map(count).sum::<u64>()
        };
        let given = &together[kernel];
        let (bytes, instructions) = (sum(|s| s.global_load_bytes), sum(|s| s.thread_instructions));
        // Blocks beside the sequences read the offsets and leave.
        let idle = given.blocks - sum(|s| s.blocks).min(given.blocks);
        let (most_bytes, most) = (bytes + idle * 256 * 16, instructions + idle * 256 * 64);
        assert!(
            (bytes..=most_bytes).contains(&given.global_load_bytes)
                && (instructions..=most).contains(&given.thread_instructions),
            "{kernel}: {} bytes and {} instructions, and {bytes} and {instructions} one by one",
            given.global_load_bytes,
            given.thread_instructions,
        );
        // 18 of 100 scores of the padded batch are in the sequences.
        let (given, padded) = (given.thread_instructions, padded[kernel].thread_instructions);
        assert!(10 * given < 3 * padded, "{kernel}: {given} instructions, and {padded} padded");
    }
    // Every warp of delta reads its sequence's offsets, and only those of the 936 queries a row of out and dout.
    let delta = &together["delta_f32"];
    assert_eq!(delta.global_load_bytes, delta.blocks * 8 * 32 * 16 + 936 * 2 * 32 * 4);
}

/// A boolean mask and a bias are read only where the position allows a score.
#[test]
fn masks_and_biases_are_loaded_with_their_tiles() {
    let whole = Problem {
        queries: 512,
        keys: 512,
        mask: Some(([true, true, false], Pattern::Scattered)),
        bias: Some([true, true, false]),
        ..Problem::default()
    };
    let windowed = Problem { window: [Some(63), Some(0)], ..whole.clone() };
    let (all, few) = (counted(&whole), counted(&windowed));
    for kernel in KERNELS.into_iter().chain(["grad_bias_f32_d32"]) {
        let part = few[kernel].global_load_bytes as f64 / all[kernel].global_load_bytes as f64;
        // 15 of 64 tiles, and in those half of the mask and bias.
        assert!(part < 0.27, "{kernel}: {part}");
    }
}
