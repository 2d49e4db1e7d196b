//! What must hold whatever the numbers are: shifts, permutations, independence, extremes.

use approx::assert_abs_diff_eq;
use flash_attention::{Causal, Dtype};
use flash_attention_conformance::compare::{compare_all, errors, first_difference};
use flash_attention_conformance::devices::Target;
use flash_attention_conformance::problem::{Inputs, Pattern, Problem, RESULTS, Results};
use flash_attention_conformance::unfused::{Precision, unfused};
use rstest::rstest;

/// Two query heads a key head, more than one block of queries and keys.
fn problem() -> Problem {
    Problem {
        batch: 2,
        key_heads: 2,
        group: 2,
        queries: 70,
        keys: 90,
        head_dim: 40,
        value_dim: 24,
        seed: 11,
        ..Problem::default()
    }
}

fn run(problem: &Problem, target: &Target, inputs: &Inputs) -> Results {
    problem.run_on(target, inputs).unwrap_or_else(|error| panic!("on {target}: {error}"))
}

/// Holds results against the formulas.
fn agrees(problem: &Problem, inputs: &Inputs, target: &Target) -> Results {
    let expected = problem.truth(inputs);
    let errors = errors(&unfused(problem, inputs, Precision::of(problem.dtype)), &expected, problem.dtype);
    let given = run(problem, target, inputs);
    compare_all(&given, &expected, errors, problem.dtype)
        .unwrap_or_else(|message| panic!("on {target}: {message}"));
    given
}

#[test]
fn a_constant_on_all_scores_of_a_query_moves_only_the_log_sum_exp() {
    let with = Problem { bias: Some([false; 3]), ..problem() };
    let without = Problem { bias: None, ..with.clone() };
    let mut inputs = with.inputs();
    let constant = |row: usize| (row % 7) as f64 - 3.0;
    let (bias, _) = inputs.bias.as_mut().unwrap();
    for (row, bias) in bias.chunks_exact_mut(with.keys).enumerate() {
        bias.fill(constant(row));
    }
    for target in with.targets() {
        let moved = run(&with, &target, &inputs);
        let still = run(&without, &target, &Inputs { bias: None, ..inputs.clone() });
        for (row, (moved, still)) in moved.lse.iter().zip(&still.lse).enumerate() {
            assert_abs_diff_eq!(moved - still, constant(row), epsilon = 1e-5);
        }
        // The constant has no effect on the loss, so that the gradients of a query's biases add up to 0.
        for row in moved.dbias.chunks_exact(with.keys) {
            assert_abs_diff_eq!(row.iter().sum::<f64>(), 0.0, epsilon = 1e-5);
        }
        let [moved, still] = [moved, still].map(|r| Results { lse: vec![], dbias: vec![], ..r });
        compare_all(&moved, &still, [0.0; RESULTS], Dtype::F32).unwrap();
    }
}

/// Puts rows of `columns` elements, `rows` a head, in another order.
fn permute<T: Copy>(values: &[T], rows: usize, columns: usize, order: &[usize]) -> Vec<T> {
    let heads = values.chunks_exact(rows * columns);
    heads.flat_map(|head| order.iter().flat_map(|&row| head[row * columns..][..columns].to_vec())).collect()
}

#[test]
fn keys_in_another_order_give_the_same_output_and_their_gradients_in_that_order() {
    let problem = Problem { mask: Some(([false, true, false], Pattern::Scattered)), ..problem() };
    let Problem { keys, head_dim, value_dim, .. } = problem;
    let inputs = problem.inputs();
    let order: Vec<usize> = (0..keys).map(|j| j * 37 % keys).collect();
    let mut permuted = inputs.clone();
    permuted.k = permute(&inputs.k, keys, head_dim, &order);
    permuted.v = permute(&inputs.v, keys, value_dim, &order);
    permuted.mask = inputs.mask.as_ref().map(|(mask, shape)| (permute(mask, keys, 1, &order), *shape));
    for target in problem.targets() {
        let mut expected = run(&problem, &target, &inputs);
        expected.dk = permute(&expected.dk, keys, head_dim, &order);
        expected.dv = permute(&expected.dv, keys, value_dim, &order);
        let given = run(&problem, &target, &permuted);
        compare_all(&given, &expected, [0.0; RESULTS], Dtype::F32).unwrap();
    }
}

#[rstest]
fn batch_entries_and_key_heads_know_nothing_of_each_other(#[values(Dtype::F32, Dtype::F16)] dtype: Dtype) {
    let problem =
        Problem { causal: Causal::LowerRight, bias: Some([false, false, true]), dtype, ..problem() };
    let inputs = problem.inputs();
    // The second key head of the first batch entry, with its queries, is alone.
    let Problem { batch, key_heads, group, keys, .. } = problem;
    let parts = batch * key_heads;
    let part = |values: &[f64]| values[values.len() / parts..][..values.len() / parts].to_vec();
    let alone = Problem { batch: 1, key_heads: 1, ..problem.clone() };
    let (bias, _) = inputs.bias.as_ref().unwrap();
    let one = Inputs {
        q: part(&inputs.q),
        k: part(&inputs.k),
        v: part(&inputs.v),
        dout: part(&inputs.dout),
        mask: None,
        bias: Some((part(bias), [1, group, 1])),
        slopes: None,
        sinks: None,
        dlse: None,
    };
    assert_eq!(bias.len(), batch * key_heads * group * keys);
    // All others are poisoned.
    let poison = |values: &[f64]| {
        let own = values.len() / parts..2 * (values.len() / parts);
        (0..values.len()).map(|i| if own.contains(&i) { values[i] } else { f64::NAN }).collect::<Vec<_>>()
    };
    let poisoned =
        Inputs { k: poison(&inputs.k), v: poison(&inputs.v), q: poison(&inputs.q), ..inputs.clone() };
    // Where the library divides keys, it divides those of one head otherwise than those of many.
    for target in problem.targets().into_iter().filter(Target::is_whole) {
        let whole = run(&problem, &target, &inputs);
        let single = run(&alone, &target, &one);
        let among_poison = run(&problem, &target, &poisoned);
        for all in [whole, among_poison] {
            let [out, lse, dq, dk, dv, dbias, dsinks] = all.named().map(|(_, values)| part(values));
            let of_all = Results { out, lse, dq, dk, dv, dbias, dsinks };
            assert_eq!(first_difference(&of_all, &single), None, "on {target}");
        }
    }
}

#[rstest]
fn logits_of_ten_thousand_stay_finite_and_right(
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
    #[values(1.0, -1.0)] sign: f64,
) {
    // Every score is within a few of ±1e4: 100 · 100, one element of the row.
    let problem = Problem { dtype, spread: 0.1, scale: Some(40f32.sqrt()), head_dim: 40, ..problem() };
    let mut inputs = problem.inputs();
    inputs.q.chunks_exact_mut(40).for_each(|row| row[0] = 100.0);
    inputs.k.chunks_exact_mut(40).for_each(|row| row[0] = sign * 100.0);
    for target in problem.targets() {
        let given = run(&problem, &target, &inputs);
        let expected = problem.truth(&inputs);
        for (name, values) in given.named() {
            assert!(values.iter().all(|x| x.is_finite()), "{name} on {target}");
        }
        for (given, expected) in given.lse.iter().zip(&expected.lse) {
            assert_abs_diff_eq!(given, expected, epsilon = 1e-2);
        }
        // An f32 near 1e4 is a multiple of 2^-10: so far off may the exponent be, and with it the weights.
        let tolerance = 4.0 / 1024.0 * 4.0 + 4.0 / 128.0 * f64::from(u8::from(dtype == Dtype::Bf16));
        for (given, expected) in given.out.iter().zip(&expected.out) {
            assert_abs_diff_eq!(given, expected, epsilon = tolerance);
        }
    }
}

#[rstest]
fn a_score_far_above_the_others_picks_its_value(
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
    #[values(1e4, f64::INFINITY)] distance: f64,
) {
    // Of all keys but one the bias is far below: -inf hides them like a mask.
    let problem = Problem { dtype, bias: Some([false; 3]), ..problem() };
    let mut inputs = problem.inputs();
    let keys = problem.keys;
    let (bias, _) = inputs.bias.as_mut().unwrap();
    for (i, bias) in bias.iter_mut().enumerate() {
        *bias = if i % keys == i / keys % keys { 0.0 } else { -distance };
    }
    for target in problem.targets() {
        let given = agrees(&problem, &inputs, &target);
        for (row, out) in given.out.chunks_exact(problem.value_dim).enumerate() {
            let head = row / problem.queries / problem.group;
            let value = &inputs.v[(head * keys + row % keys) * problem.value_dim..][..problem.value_dim];
            assert_eq!(out, value, "row {row} on {target}");
        }
        // One key has all the weight, so that nothing is gained by moving it.
        assert!(given.dbias.iter().all(|x| x.abs() < 1e-4), "on {target}");
    }
}

#[rstest]
fn a_bias_of_minus_infinity_on_all_keys_hides_them_as_a_mask_does(
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
) {
    let problem = Problem { bias: Some([false; 3]), causal: Causal::UpperLeft, dtype, ..problem() };
    let mut inputs = problem.inputs();
    let (bias, _) = inputs.bias.as_mut().unwrap();
    for (row, bias) in bias.chunks_exact_mut(problem.keys).enumerate() {
        match row % 4 {
            0 => bias.fill(f64::NEG_INFINITY),
            1 => bias[..64].fill(f64::NEG_INFINITY),
            _ => {}
        }
    }
    for target in problem.targets() {
        let given = agrees(&problem, &inputs, &target);
        for (row, out) in given.out.chunks_exact(problem.value_dim).enumerate().step_by(4) {
            assert!(
                given.lse[row] == f64::NEG_INFINITY && out.iter().all(|&x| x == 0.0),
                "row {row} on {target}"
            );
        }
    }
}

#[test]
fn equal_keys_share_the_weight() {
    let problem = problem();
    let Problem { keys, head_dim, value_dim, .. } = problem;
    let mut inputs = problem.inputs();
    for head in inputs.k.chunks_exact_mut(keys * head_dim) {
        let (first, rest) = head.split_at_mut(head_dim);
        rest.chunks_exact_mut(head_dim).for_each(|key| key.copy_from_slice(first));
    }
    for target in problem.targets() {
        let given = agrees(&problem, &inputs, &target);
        let rows = problem.queries * problem.group;
        for (head, out) in given.out.chunks_exact(rows * value_dim).enumerate() {
            let values = &inputs.v[head * keys * value_dim..][..keys * value_dim];
            for (i, out) in out.iter().enumerate() {
                let sum: f64 = values[i % value_dim..].iter().step_by(value_dim).sum();
                assert_abs_diff_eq!(*out, sum / keys as f64, epsilon = 1e-5);
            }
        }
    }
}

#[rstest]
#[case(Some(([true; 3], Pattern::Everything)), Causal::None)]
#[case(Some(([false; 3], Pattern::Everything)), Causal::UpperLeft)]
#[case(Some(([false, false, true], Pattern::Everything)), Causal::LowerRight)]
fn without_a_visible_key_all_is_zero_and_the_log_sum_exp_minus_infinity(
    #[case] mask: Option<([bool; 3], Pattern)>,
    #[case] causal: Causal,
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
) {
    let problem = Problem { mask, causal, dtype, bias: Some([true, false, false]), ..problem() };
    let inputs = problem.inputs();
    for target in problem.targets() {
        let Results { out, lse, dq, dk, dv, dbias, .. } = run(&problem, &target, &inputs);
        assert!(lse.iter().all(|&x| x == f64::NEG_INFINITY), "on {target}");
        for (name, values) in [("out", out), ("dq", dq), ("dk", dk), ("dv", dv), ("dbias", dbias)] {
            assert!(values.iter().all(|&x| x == 0.0), "{name} on {target}");
        }
    }
}

#[rstest]
fn a_nan_in_a_visible_key_is_not_lost(#[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype) {
    let problem = Problem { dtype, ..problem() };
    let mut inputs = problem.inputs();
    inputs.k[3] = f64::NAN;
    for target in problem.targets() {
        let given = run(&problem, &target, &inputs);
        let seen = problem.queries * problem.group;
        assert!(given.lse[..seen].iter().all(|x| x.is_nan()), "on {target}");
        assert!(given.lse[seen..].iter().all(|x| x.is_finite()), "on {target}");
        assert!(given.out[..seen * problem.value_dim].iter().all(|x| x.is_nan()), "on {target}");
    }
}
