//! Blocks that a mask hides as a whole are not loaded: counted on the emulator, and poisoned everywhere.

use std::collections::BTreeMap;

use flash_attention::{Causal, Device, Statistics};
use flash_attention_conformance::compare::first_difference;
use flash_attention_conformance::devices::devices;
use flash_attention_conformance::problem::{Problem, Results};
use rstest::rstest;

fn square(causal: Causal) -> Problem {
    Problem { queries: 512, keys: 512, causal, ..Problem::default() }
}

/// What the emulator counts in one pass, by kernel.
fn counted(problem: &Problem) -> BTreeMap<&'static str, Statistics> {
    let emulator = Device::emulator();
    problem.run(&emulator, &problem.inputs()).unwrap();
    emulator.take_stats().unwrap()
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
