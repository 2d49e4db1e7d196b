//! Dropout: the mask is the one that the seed says, everywhere and both ways, and it is random.

use flash_attention::{Dropout, Dtype};
use flash_attention_conformance::devices::Target;
use flash_attention_conformance::problem::{Inputs, Problem, Results};
use flash_attention_conformance::unfused::keeps;
use rstest::rstest;

const SEEDS: [(u64, u32); 4] = [(0, 0), (1, 0), (0x0123_4567_89ab_cdef, u32::MAX), (u64::MAX, 7)];

fn run(problem: &Problem, target: &Target, inputs: &Inputs) -> Results {
    problem.run_on(target, inputs).unwrap_or_else(|error| panic!("on {target}: {error}"))
}

/// Whether the weight at an index of `[batch, heads, queries, keys]` is kept, by the definition.
fn kept(problem: &Problem, index: usize) -> bool {
    let Dropout { p, seed, offset } = problem.dropout.unwrap();
    let (row, key) = (index / problem.keys, index % problem.keys);
    let (head, query) = (row / problem.queries, row % problem.queries);
    keeps(p, seed, offset, head as u32, query as u32, key as u32)
}

fn fill_identity(values: &mut [f64], size: usize) {
    values.iter_mut().enumerate().for_each(|(i, x)| *x = f64::from(u8::from(i / size % size == i % size)));
}

#[rstest]
fn every_backend_and_device_drops_what_the_seed_says_both_ways(
    #[values(0.1, 0.5, 0.9)] p: f32,
    #[values(0, 1, 2, 3)] seed: usize,
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
) {
    // q and k are unit vectors, so that gradients of both are those of the scores; so are v and dout for the weights.
    // Two tiles and a bit, in rows that Flash takes.
    let size = 136;
    let (seed, offset) = SEEDS[seed];
    let dropout = Some(Dropout { p, seed, offset });
    let problem = Problem {
        batch: 2,
        key_heads: 1,
        group: 2,
        queries: size,
        keys: size,
        head_dim: size,
        value_dim: size,
        dtype,
        bias: Some([false; 3]),
        dropout,
        ..Problem::default()
    };
    let mut inputs = problem.inputs();
    for values in [&mut inputs.q, &mut inputs.k, &mut inputs.v, &mut inputs.dout] {
        fill_identity(values, size);
    }
    inputs.bias.as_mut().unwrap().0.fill(0.0);
    for target in problem.targets() {
        // out = W, and dv = Wᵀ of both heads together.
        let given = run(&problem, &target, &inputs);
        for (index, w) in given.out.iter().enumerate() {
            assert_eq!(*w != 0.0, kept(&problem, index), "weight {index} on {target}");
        }
        for (index, dv) in given.dv.iter().enumerate() {
            let (b, key, query) = (index / size / size, index / size % size, index % size);
            let of = |head: usize| kept(&problem, ((b * 2 + head) * size + query) * size + key);
            assert_eq!(*dv != 0.0, of(0) || of(1), "dv {index} on {target}");
        }
        // With dP the same everywhere, dS is above 0 where it is kept, and below where it is not.
        let ones =
            Inputs { v: vec![1.0; inputs.v.len()], dout: vec![1.0; inputs.dout.len()], ..inputs.clone() };
        let given = run(&problem, &target, &ones);
        for (index, (dbias, dq)) in given.dbias.iter().zip(&given.dq).enumerate() {
            assert_eq!(*dbias > 0.0, kept(&problem, index), "dbias {index} on {target}");
            assert_eq!(*dq > 0.0, kept(&problem, index), "dq {index} on {target}");
        }
        let single = Problem { group: 1, ..problem.clone() };
        let given = run(&single, &target, &half(&ones));
        for (index, dk) in given.dk.iter().enumerate() {
            let (b, key, query) = (index / size / size, index / size % size, index % size);
            assert_eq!(*dk > 0.0, kept(&single, (b * size + query) * size + key), "dk {index} on {target}");
        }
    }
}

/// The inputs of one query head a key head, where there were two.
fn half(inputs: &Inputs) -> Inputs {
    let first = |values: &[f64]| values[..values.len() / 2].to_vec();
    let bias = inputs.bias.as_ref().map(|(bias, [b, h, r])| (first(bias), [*b, h / 2, *r]));
    Inputs { q: first(&inputs.q), dout: first(&inputs.dout), bias, ..inputs.clone() }
}

#[rstest]
fn a_sequence_of_a_ragged_batch_drops_by_its_place_in_the_batch_and_its_own_positions(
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
) {
    let dense = Problem {
        batch: 3,
        key_heads: 2,
        queries: 72,
        keys: 72,
        head_dim: 8,
        value_dim: 72,
        dtype,
        dropout: Some(Dropout { p: 0.4, seed: 99, offset: 2 }),
        ..Problem::default()
    };
    let ragged = dense.clone().ragged(vec![[72, 72], [1, 72], [33, 65]]);
    let mut inputs = dense.inputs();
    fill_identity(&mut inputs.v, 72);
    for target in ragged.targets() {
        let given = run(&ragged, &target, &inputs);
        for (index, w) in given.out.iter().enumerate() {
            let (b, query, key) = (index / 72 / 72 / 2, index / 72 % 72, index % 72);
            let [queries, keys] = ragged.lengths(b);
            let seen = query < queries && key < keys;
            assert_eq!(*w != 0.0, seen && kept(&dense, index), "weight {index} on {target}");
        }
    }
}

#[test]
fn the_weights_that_math_returns_are_those_after_dropout() {
    let problem = Problem {
        batch: 2,
        key_heads: 2,
        queries: 40,
        keys: 70,
        dropout: Some(Dropout { p: 0.25, seed: 5, offset: 6 }),
        ..Problem::default()
    };
    let inputs = problem.inputs();
    let cpu = flash_attention::Device::cpu();
    let tensors = problem.tensors(&cpu, &inputs).unwrap();
    let call = flash_attention::sdpa(&tensors.q, &tensors.k, &tensors.v).options(tensors.options);
    let weights = call.return_weights(true).run().unwrap().weights.unwrap().to_f64().unwrap();
    for (index, w) in weights.iter().enumerate() {
        assert_eq!(*w != 0.0, kept(&problem, index), "{index}");
    }
}

#[rstest]
fn a_share_of_0_drops_nothing(#[values(Dtype::F32, Dtype::F16)] dtype: Dtype) {
    let with = Problem {
        queries: 70,
        keys: 90,
        dtype,
        // Of Flash's kernels one alone drops weights, and a softcap takes it too.
        softcap: Some(50.0),
        dropout: Some(Dropout { p: 0.0, seed: 3, offset: 4 }),
        dlse: true,
        ..Problem::default()
    };
    let without = Problem { dropout: None, ..with.clone() };
    let inputs = with.inputs();
    for target in with.targets() {
        assert_eq!(run(&with, &target, &inputs), run(&without, &target, &inputs), "on {target}");
    }
}

/// `ln n!` for all n to `last`.
fn log_factorials(last: usize) -> Vec<f64> {
    let mut sum = 0.0;
    std::iter::once(0.0)
        .chain((1..=last).map(|n| {
            sum += (n as f64).ln();
            sum
        }))
        .collect()
}

/// The exact chance that of `n` draws, each a hit with chance `p`, the hits are at least as far from `n p` as `hits` is.
fn binomial_tails(n: usize, p: f64, hits: usize) -> f64 {
    let logs = log_factorials(n);
    let chance = |k: usize| {
        let choose = logs[n] - logs[k] - logs[n - k];
        (choose + k as f64 * p.ln() + (n - k) as f64 * (1.0 - p).ln()).exp()
    };
    let distance = (hits as f64 - n as f64 * p).abs();
    (0..=n).filter(|&k| (k as f64 - n as f64 * p).abs() >= distance).map(chance).sum()
}

#[test]
fn the_binomial_tails_are_those_of_the_tables() {
    // Of 10 throws of a coin: 2 (1 + 10 + 45) / 1024.
    assert!((binomial_tails(10, 0.5, 2) - 112.0 / 1024.0).abs() < 1e-12);
    assert!((binomial_tails(10, 0.5, 5) - 1.0).abs() < 1e-12);
    // Of 3 throws of a die, no six is nearer to a half than one: only 0 is as near as 0.
    assert!((binomial_tails(3, 1.0 / 6.0, 3) - 1.0 / 216.0).abs() < 1e-12);
}

/// A chance of this is none: the draws are always the same, so that a test fails always or never.
const NEVER: f64 = 1e-6;

#[rstest]
fn the_share_of_kept_weights_is_within_what_chance_allows(
    #[values(0.001, 0.1, 0.25, 0.5, 0.9, 0.999)] p: f32,
    #[values(0, 1, 2, 3)] seed: usize,
) {
    let (seed, offset) = SEEDS[seed];
    let mut hits = 0;
    for row in 0..8 {
        for query in 0..128 {
            hits += (0..512).filter(|&key| keeps(p, seed, offset, row, query, key)).count();
        }
    }
    let chance = binomial_tails(8 * 128 * 512, 1.0 - f64::from(p), hits);
    assert!(chance > NEVER, "{hits} kept of {}: {chance}", 8 * 128 * 512);
}

/// Whether a chi-square of three degrees of freedom is as large only by a chance that is none, by Chernoff's bound.
fn is_never(chi_square: f64) -> bool {
    // P(X >= x) <= (x / 3 * e^(1 - x / 3))^(3 / 2) for x above 3.
    chi_square > 3.0 && 1.5 * ((chi_square / 3.0).ln() + 1.0 - chi_square / 3.0) < NEVER.ln()
}

/// How far the four outcomes of pairs are from those of independent draws.
fn chi_square(pairs: impl Iterator<Item = (bool, bool)>, keep: f64) -> f64 {
    let mut counts = [0f64; 4];
    pairs.for_each(|(a, b)| counts[2 * usize::from(a) + usize::from(b)] += 1.0);
    let n: f64 = counts.iter().sum();
    let share = |kept: usize| if kept == 1 { keep } else { 1.0 - keep };
    let each = counts.iter().enumerate().map(|(i, count)| {
        let expected = n * share(i / 2) * share(i % 2);
        (count - expected).powi(2) / expected
    });
    each.sum()
}

#[test]
fn pairs_that_depend_on_each_other_are_noticed() {
    let draw = |i: u32| keeps(0.5, 11, 0, 0, i / 64, i % 64);
    let other = |i: u32| keeps(0.5, 12, 0, 0, i / 64, i % 64);
    let independent = chi_square((0..1 << 16).map(|i| (draw(i), other(i))), 0.5);
    // One in twenty is the same on purpose.
    let dependent =
        chi_square((0..1 << 16).map(|i| (draw(i), if i % 20 == 0 { draw(i) } else { other(i) })), 0.5);
    assert!(!is_never(independent) && is_never(dependent), "{independent} and {dependent}");
}

/// A place and its neighbour: seed, offset, row of heads, query, key.
type Place = (u64, u32, u32, u32, u32);

#[rstest]
#[case::next_key(|(s, o, r, q, k)| (s, o, r, q, k + 1))]
#[case::key_2_on(|(s, o, r, q, k)| (s, o, r, q, k + 2))]
#[case::key_8_on(|(s, o, r, q, k)| (s, o, r, q, k + 8))]
#[case::key_32_on(|(s, o, r, q, k)| (s, o, r, q, k + 32))]
#[case::next_query(|(s, o, r, q, k)| (s, o, r, q + 1, k))]
#[case::query_64_on(|(s, o, r, q, k)| (s, o, r, q + 64, k))]
#[case::the_other_corner(|(s, o, r, q, k)| (s, o, r, k, q))]
#[case::next_head(|(s, o, r, q, k)| (s, o, r + 1, q, k))]
#[case::next_batch_entry_of_12_heads(|(s, o, r, q, k)| (s, o, r + 12, q, k))]
#[case::next_seed(|(s, o, r, q, k)| (s + 1, o, r, q, k))]
#[case::seed_with_another_high_half(|(s, o, r, q, k)| (s ^ (1 << 32), o, r, q, k))]
#[case::next_offset(|(s, o, r, q, k)| (s, o + 1, r, q, k))]
fn neighbours_are_independent(
    #[case] neighbour: fn(Place) -> Place,
    #[values(0.1, 0.5, 0.8)] p: f32,
    #[values((0, 0), (42, 1), (0xdead_beef_0000_0001, 1000))] seed: (u64, u32),
) {
    let kept = |(s, o, r, q, k): Place| keeps(p, s, o, r, q, k);
    let mut places = vec![];
    for row in 0..4 {
        for query in 0..128 {
            // No place is another's neighbour twice over: keys and queries do not meet in the other corner.
            places.extend((128..384).map(|key| (seed.0, seed.1, row, query, key)));
        }
    }
    let chi_square =
        chi_square(places.iter().map(|&place| (kept(place), kept(neighbour(place)))), 1.0 - f64::from(p));
    assert!(!is_never(chi_square), "{chi_square}");
}
