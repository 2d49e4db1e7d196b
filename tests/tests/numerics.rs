//! Numbers at the edge of what the storage types hold, by every backend on every device.

use approx::assert_abs_diff_eq;
use flash_attention::{Causal, Dtype};
use flash_attention_conformance::compare::{compare_all, errors, first_difference};
use flash_attention_conformance::devices::Target;
use flash_attention_conformance::problem::{Inputs, Lengths, Pattern, Problem, Results, round};
use flash_attention_conformance::unfused::{Precision, unfused};
use rstest::rstest;

/// More than one block of queries and keys.
fn problem(dtype: Dtype) -> Problem {
    Problem {
        batch: 2,
        key_heads: 2,
        group: 2,
        queries: 70,
        keys: 90,
        head_dim: 40,
        value_dim: 24,
        dtype,
        seed: 23,
        ..Problem::default()
    }
}

fn run(problem: &Problem, target: &Target, inputs: &Inputs) -> Results {
    problem.run_on(target, inputs).unwrap_or_else(|error| panic!("on {target}: {error}"))
}

/// Holds the results of all targets against the formulas.
fn all_agree(problem: &Problem, inputs: &Inputs) -> Results {
    let expected = problem.truth(inputs);
    let errors = errors(&unfused(problem, inputs, Precision::of(problem.dtype)), &expected, problem.dtype);
    for target in problem.targets() {
        compare_all(&run(problem, &target, inputs), &expected, errors, problem.dtype)
            .unwrap_or_else(|message| panic!("on {target}: {message}"));
    }
    expected
}

/// The parts of a tensor that belong to the rows of the output.
fn rows(values: &[f64], columns: usize) -> impl Iterator<Item = (usize, &[f64])> {
    values.chunks_exact(columns).enumerate()
}

#[rstest]
fn logits_of_both_signs_and_ten_thousand_are_finite_and_right(
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
    #[values(None, Some(50.0))] softcap: Option<f32>,
    #[values(false, true)] sinks: bool,
) {
    let scale = Some(40f32.sqrt());
    let problem = Problem { spread: 0.1, scale, softcap, sinks, dlse: true, ..problem(dtype) };
    let mut inputs = problem.inputs();
    inputs.q.chunks_exact_mut(40).for_each(|row| row[0] = 100.0);
    let signs = inputs.k.chunks_exact_mut(40).enumerate();
    signs.for_each(|(j, row)| row[0] = if j % 3 == 0 { 100.0 } else { -100.0 });
    if let Some(sinks) = &mut inputs.sinks {
        sinks.copy_from_slice(&[1e4, -1e4, 0.0, 10_001.0]);
    }
    let expected = problem.truth(&inputs);
    // An f32 near 1e4 is a multiple of 2^-10: so far off may the exponent be, and with it the weights.
    let tolerance = 4.0 / 1024.0 * 4.0 + 4.0 / 128.0 * f64::from(u8::from(dtype == Dtype::Bf16));
    for target in problem.targets() {
        let given = run(&problem, &target, &inputs);
        for (name, values) in given.named() {
            assert!(values.iter().all(|x| x.is_finite()), "{name} on {target}");
        }
        for (given, expected) in given.lse.iter().zip(&expected.lse) {
            assert_abs_diff_eq!(given, expected, epsilon = 1e-2);
        }
        for (given, expected) in given.out.iter().zip(&expected.out) {
            assert_abs_diff_eq!(given, expected, epsilon = tolerance);
        }
        // Each query moves the gradient of a value by that much of its own.
        let largest = expected.dv.iter().fold(1f64, |largest, x| largest.max(x.abs()));
        for (given, expected) in given.dv.iter().zip(&expected.dv) {
            assert_abs_diff_eq!(given, expected, epsilon = tolerance * largest);
        }
    }
}

#[rstest]
fn queries_of_zeros_share_their_weight_among_the_keys_and_the_sink(
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
) {
    let problem = Problem { sinks: true, ..problem(dtype) };
    let Problem { keys, value_dim, .. } = problem;
    let mut inputs = problem.inputs();
    inputs.q.fill(0.0);
    let expected = all_agree(&problem, &inputs);
    let sinks = inputs.sinks.as_ref().unwrap();
    for (row, out) in rows(&expected.out, value_dim) {
        let (b, h) = (row / problem.queries / 4, row / problem.queries % 4);
        let v = &inputs.v[(b * 2 + h / 2) * keys * value_dim..][..keys * value_dim];
        for (c, out) in out.iter().enumerate() {
            let sum: f64 = v[c..].iter().step_by(value_dim).sum();
            assert_abs_diff_eq!(*out, sum / (keys as f64 + sinks[h].exp()), epsilon = 1e-12);
        }
    }
}

#[rstest]
fn a_query_that_meets_one_key_takes_its_value_whole(
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
    #[values(1.0, 1e4)] far: f64,
) {
    // q is a unit vector times 100, and so is one key: its score is 1e4 (or 1e8), the others' are 0.
    let size = 72;
    let problem = Problem {
        queries: size,
        keys: size,
        head_dim: size,
        value_dim: 16,
        scale: Some((size as f32).sqrt()),
        ..problem(dtype)
    };
    let mut inputs = problem.inputs();
    let met = |i: usize| i * 29 % size;
    for (i, q) in inputs.q.chunks_exact_mut(size).enumerate() {
        q.fill(0.0);
        q[met(i % size)] = 100.0;
    }
    for (j, k) in inputs.k.chunks_exact_mut(size).enumerate() {
        k.fill(0.0);
        k[j % size] = round(dtype, 100.0 * if dtype == Dtype::F16 { 1.0 } else { far });
    }
    for target in problem.targets() {
        let given = run(&problem, &target, &inputs);
        for (row, out) in rows(&given.out, 16) {
            let head = row / size / 4 * 2 + row / size % 4 / 2;
            let value = &inputs.v[(head * size + met(row % size)) * 16..][..16];
            assert_eq!(out, value, "row {row} on {target}");
        }
        assert!(given.dq.iter().chain(&given.dk).all(|x| x.is_finite()), "on {target}");
    }
}

#[rstest]
fn scores_near_the_end_of_the_type_keep_the_weight_of_a_lone_key(
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
    #[values(3e4, -3e4)] key: f64,
) {
    // The score is 7.2e9 times the scale: its product with a factor is off by more than an exponent holds.
    let one = Problem { batch: 1, key_heads: 1, group: 1, queries: 1, keys: 1, ..problem(dtype) };
    let problem = Problem { head_dim: 8, value_dim: 8, ..one };
    let mut inputs = problem.inputs();
    inputs.q.fill(round(dtype, 3e4));
    inputs.k.fill(round(dtype, key));
    let expected = problem.truth(&inputs);
    for target in problem.targets() {
        let given = run(&problem, &target, &inputs);
        assert_eq!(given.out, inputs.v, "{target}");
        assert_abs_diff_eq!(given.lse[0] / expected.lse[0], 1.0, epsilon = 1e-6);
    }
}

#[rstest]
fn keys_far_below_leave_the_weight_to_those_behind(
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
    #[values(1e2, 3e3, 3e4)] far: f64,
) {
    // Blocks of keys with scores down to -7e9, whose weights would overflow if the largest score were rounded; then 50 zeros.
    let one = Problem { batch: 1, key_heads: 1, group: 1, queries: 1, keys: 250, ..problem(dtype) };
    let problem = Problem { head_dim: 8, value_dim: 8, ..one };
    let mut inputs = problem.inputs();
    inputs.q.fill(round(dtype, far));
    inputs.k.fill(0.0);
    inputs.k[..200 * 8].fill(round(dtype, -far));
    all_agree(&problem, &inputs);
}

#[rstest]
fn a_vector_added_to_all_keys_moves_only_the_log_sum_exp(
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
) {
    let problem = Problem { causal: Causal::LowerRight, window: [Some(70), None], ..problem(dtype) };
    let mut inputs = problem.inputs();
    // Multiples of a sixteenth up to 8, which every storage type has.
    inputs.k.iter_mut().for_each(|x| *x = (*x * 16.0).round() / 16.0);
    let shift: Vec<f64> = (0..40).map(|c| f64::from(c * 7 % 33) / 16.0 - 1.0).collect();
    let mut moved = inputs.clone();
    for key in moved.k.chunks_exact_mut(40) {
        key.iter_mut().zip(&shift).for_each(|(x, shift)| *x += shift);
    }
    assert!(moved.k.iter().all(|&x| round(dtype, x) == x));
    let mut expected = problem.truth(&inputs);
    for (row, lse) in expected.lse.iter_mut().enumerate() {
        let q = &inputs.q[row * 40..][..40];
        let dot: f64 = q.iter().zip(&shift).map(|(q, shift)| q * shift).sum();
        *lse += f64::from(problem.factor()) * dot;
    }
    let errors = errors(&unfused(&problem, &moved, Precision::of(dtype)), &expected, dtype);
    for target in problem.targets() {
        compare_all(&run(&problem, &target, &moved), &expected, errors, dtype)
            .unwrap_or_else(|message| panic!("on {target}: {message}"));
    }
}

#[test]
fn the_smallest_numbers_of_f16_are_not_lost() {
    // They are multiples of 2^-24; f32, in which is computed, has many more between them.
    let smallest = 2f64.powi(-24);
    let problem = Problem { scale: Some(2f32.powi(18)), ..problem(Dtype::F16) };
    let Problem { keys, value_dim, .. } = problem;
    let mut inputs = problem.inputs();
    inputs.q.iter_mut().enumerate().for_each(|(i, x)| *x = ((i * 37 % 41) as f64 - 20.0) * smallest);
    for head in inputs.v.chunks_exact_mut(keys * value_dim) {
        head.iter_mut().enumerate().for_each(|(i, x)| *x = (i % value_dim + 1) as f64 * smallest);
    }
    let expected = problem.truth(&inputs);
    // The scores differ, so that a query that was lost would show.
    let differ = expected.lse.iter().filter(|lse| (*lse - (keys as f64).ln()).abs() > 1e-2).count();
    assert!(differ > expected.lse.len() / 2, "{differ}");
    for target in problem.targets() {
        let given = run(&problem, &target, &inputs);
        for (given, expected) in given.lse.iter().zip(&expected.lse) {
            assert_abs_diff_eq!(given, expected, epsilon = 1e-4);
        }
        for (row, out) in rows(&given.out, value_dim) {
            for (c, out) in out.iter().enumerate() {
                assert_eq!(*out, (c + 1) as f64 * smallest, "row {row} on {target}");
            }
        }
    }
}

#[rstest]
fn numbers_below_the_normal_ones_of_f32_count_as_themselves_or_zero(
    #[values(Dtype::F32, Dtype::Bf16)] dtype: Dtype,
) {
    let problem = problem(dtype);
    let mut inputs = problem.inputs();
    let tiny = round(dtype, 1e-39);
    assert!(tiny > 0.0 && tiny < f64::from(f32::MIN_POSITIVE));
    inputs.q.iter_mut().chain(&mut inputs.k).for_each(|x| *x = tiny);
    inputs.v.iter_mut().for_each(|x| *x = tiny);
    for target in problem.targets() {
        let given = run(&problem, &target, &inputs);
        for lse in given.lse {
            assert_abs_diff_eq!(lse, (problem.keys as f64).ln(), epsilon = 1e-6);
        }
        assert!(given.out.iter().all(|&x| (0.0..=1.01 * tiny).contains(&x)), "on {target}");
        // A ninetieth of a row's gradient reaches each value, whatever the values are.
        let truth = problem.truth(&inputs);
        let errors = errors(&unfused(&problem, &inputs, Precision::of(dtype)), &truth, dtype);
        let only = |r: &Results| Results { dv: r.dv.clone(), ..Results::default() };
        compare_all(&only(&Results { dv: given.dv, ..Results::default() }), &only(&truth), errors, dtype)
            .unwrap_or_else(|message| panic!("on {target}: {message}"));
    }
}

/// What is put into row `i` of a bias: some rows get nothing.
fn poison(i: usize) -> Option<f64> {
    [Some(f64::INFINITY), None, Some(f64::NAN), Some(f64::NEG_INFINITY), None][i % 5]
}

#[rstest]
fn plus_infinity_and_nan_in_a_bias_spoil_their_rows_and_minus_infinity_hides(
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
    #[values(0, 63, 64, 89)] key: usize,
    #[values(false, true)] sinks: bool,
) {
    let problem = Problem { bias: Some([false; 3]), sinks, ..problem(dtype) };
    let Problem { keys, value_dim, head_dim, .. } = problem;
    let clean = problem.inputs();
    let mut hidden = clean.clone();
    let mut poisoned = clean.clone();
    for (inputs, all) in [(&mut hidden, false), (&mut poisoned, true)] {
        let (bias, _) = inputs.bias.as_mut().unwrap();
        for (i, bias) in bias.chunks_exact_mut(keys).enumerate() {
            if let Some(x) = poison(i).filter(|x| all || *x == f64::NEG_INFINITY) {
                bias[key] = x;
            }
        }
    }
    all_agree(&problem, &hidden);
    for target in problem.targets() {
        let (given, expected) = (run(&problem, &target, &poisoned), run(&problem, &target, &hidden));
        let by_row = [
            ("out", &given.out, &expected.out, value_dim),
            ("lse", &given.lse, &expected.lse, 1),
            ("dq", &given.dq, &expected.dq, head_dim),
            ("dbias", &given.dbias, &expected.dbias, keys),
        ];
        for (name, given, expected, columns) in by_row {
            for ((i, given), (_, expected)) in rows(given, columns).zip(rows(expected, columns)) {
                match poison(i) {
                    Some(x) if x != f64::NEG_INFINITY => {
                        assert!(given.iter().all(|x| x.is_nan()), "{name} of row {i} on {target}: {given:?}");
                    }
                    _ => assert_eq!(given, expected, "{name} of row {i} on {target}"),
                }
            }
        }
    }
}

#[rstest]
fn a_bias_of_a_key_that_is_not_seen_does_not_matter(
    #[values(f64::NAN, f64::INFINITY, f64::NEG_INFINITY)] x: f64,
    #[values(0, 1, 2)] way: usize,
) {
    let plain = Problem { bias: Some([false; 3]), ..problem(Dtype::F16) };
    let problem = [
        Problem { mask: Some(([true, true, false], Pattern::DeadRows)), ..plain.clone() },
        Problem { causal: Causal::UpperLeft, window: [Some(30), None], ..plain.clone() },
        Problem { lengths: Lengths::Keys(vec![33, 0]), ..plain },
    ][way]
        .clone();
    let clean = problem.inputs();
    let mut poisoned = clean.clone();
    let (bias, _) = poisoned.bias.as_mut().unwrap();
    for (index, bias) in bias.iter_mut().enumerate() {
        let (row, j) = (index / 90, index % 90);
        let (b, i) = (row / 70 / 4, row % 70);
        let seen = match way {
            0 => clean.mask.as_ref().unwrap().0[i * 90 + j] != 0,
            1 => j <= i && i - j <= 30,
            _ => j < [33, 0][b],
        };
        if !seen {
            *bias = x;
        }
    }
    for target in problem.targets() {
        let (given, expected) = (run(&problem, &target, &poisoned), run(&problem, &target, &clean));
        assert_eq!(first_difference(&given, &expected), None, "on {target}");
    }
}

#[rstest]
fn nan_in_a_query_stays_in_its_row(
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
    #[values(None, Some(3.0))] softcap: Option<f32>,
) {
    let problem = Problem { softcap, sinks: softcap.is_some(), ..problem(dtype) };
    let clean = problem.inputs();
    let mut poisoned = clean.clone();
    poisoned.q[37 * 40 + 5] = f64::NAN;
    for target in problem.targets() {
        let (given, expected) = (run(&problem, &target, &poisoned), run(&problem, &target, &clean));
        for ((i, given), (_, expected)) in rows(&given.out, 24).zip(rows(&expected.out, 24)) {
            if i == 37 {
                assert!(given.iter().all(|x| x.is_nan()), "on {target}");
            } else {
                assert_eq!(given, expected, "row {i} on {target}");
            }
        }
        assert!(given.lse[37].is_nan(), "on {target}");
    }
}

/// Ways to hide every key from some queries.
fn dead(way: usize, dtype: Dtype, biased: bool) -> Problem {
    let plain = Problem { bias: biased.then_some([true, true, false]), ..problem(dtype) };
    match way {
        0 => Problem { mask: Some(([false; 3], Pattern::DeadRows)), ..plain },
        1 => Problem { causal: Causal::LowerRight, keys: 33, ..plain },
        2 => Problem { window: [None, Some(3)], keys: 33, ..plain },
        3 => Problem { lengths: Lengths::Keys(vec![50, 0]), ..plain },
        _ => plain.ragged(vec![[70, 90], [33, 0], [65, 64]]),
    }
}

/// The rows whose output is 0: those that see nothing, in the truth.
fn dead_rows(truth: &Results) -> Vec<usize> {
    let zero = rows(&truth.out, 24).filter(|(_, out)| out.iter().all(|&x| x == 0.0));
    let dead: Vec<usize> = zero.map(|(i, _)| i).collect();
    assert!(dead.len() > 20);
    dead
}

#[rstest]
fn a_query_that_sees_no_key_gives_nothing_and_takes_no_gradient(
    #[values(0, 1, 2, 3, 4)] way: usize,
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
    #[values(false, true)] biased: bool,
    #[values(false, true)] sinks: bool,
) {
    let problem = Problem { sinks, dlse: true, ..dead(way, dtype, biased) };
    let inputs = problem.inputs();
    let expected = all_agree(&problem, &inputs);
    let sink = |row: usize| {
        let head = row / problem.queries % problem.query_heads();
        inputs.sinks.as_ref().map_or(f64::NEG_INFINITY, |sinks| sinks[head])
    };
    let dead = dead_rows(&expected);
    for target in problem.targets() {
        let clean = run(&problem, &target, &inputs);
        for &i in &dead {
            assert!(clean.out[i * 24..][..24].iter().all(|&x| x == 0.0), "out of row {i} on {target}");
            assert!(clean.dq[i * 40..][..40].iter().all(|&x| x == 0.0), "dq of row {i} on {target}");
            let [b, row] = [i / problem.queries / problem.query_heads(), i % problem.queries];
            if row < problem.lengths(b)[0] {
                assert_abs_diff_eq!(clean.lse[i].max(-1e30), sink(i).max(-1e30), epsilon = 1e-6);
            }
        }
    }
}

#[rstest]
#[case::keys(Problem { keys: 0, ..problem(Dtype::F16) })]
#[case::queries(Problem { queries: 0, ..problem(Dtype::Bf16) })]
#[case::batch(Problem { batch: 0, ..problem(Dtype::F32) })]
#[case::lengths(Problem { lengths: Lengths::Keys(vec![0, 0]), ..problem(Dtype::F32) })]
#[case::lengths_f16(Problem { lengths: Lengths::Keys(vec![0, 0]), ..problem(Dtype::F16) })]
#[case::sequences(problem(Dtype::F32).ragged(vec![]))]
#[case::ragged(problem(Dtype::F16).ragged(vec![[0, 0], [0, 0]]))]
#[case::ragged_keys_bf16(problem(Dtype::Bf16).ragged(vec![[3, 0], [0, 0], [65, 0]]))]
#[case::ragged_keys(problem(Dtype::F32).ragged(vec![[3, 0], [0, 0], [65, 0]]))]
#[case::ragged_queries_f16(problem(Dtype::F16).ragged(vec![[0, 4], [0, 0], [0, 70]]))]
#[case::ragged_queries(problem(Dtype::F32).ragged(vec![[0, 4], [0, 0], [0, 70]]))]
fn problems_without_queries_keys_or_batch_entries_are_right(
    #[case] problem: Problem,
    #[values(false, true)] sinks: bool,
    #[values(None, Some([true, true, false]), Some([false, false, true]))] bias: Option<[bool; 3]>,
) {
    let bias = bias.filter(|_| problem.queries > 0 && problem.keys > 0 && problem.batch > 0);
    let problem = Problem { sinks, dlse: true, bias, ..problem };
    all_agree(&problem, &problem.inputs());
}
