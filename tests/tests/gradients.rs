//! Gradients are the slopes of the loss `Σ out · dout + Σ lse · dlse`, measured by finite differences.

use approx::{assert_relative_eq, relative_eq};
use flash_attention::{Causal, Dropout, Dtype};
use flash_attention_conformance::devices::devices;
use flash_attention_conformance::problem::{Inputs, Lengths, Pattern, Problem, Results};
use flash_attention_conformance::strategy;
use proptest::prelude::*;

/// The inputs that have a gradient, and the gradients.
const NAMES: [&str; 5] = ["q", "k", "v", "bias", "sinks"];

fn input(inputs: &mut Inputs, n: usize) -> &mut [f64] {
    match n {
        0 => &mut inputs.q,
        1 => &mut inputs.k,
        2 => &mut inputs.v,
        3 => inputs.bias.as_mut().map_or(&mut [], |(bias, _)| bias),
        _ => inputs.sinks.as_deref_mut().unwrap_or(&mut []),
    }
}

fn gradient(results: &Results, n: usize) -> &[f64] {
    [&results.dq, &results.dk, &results.dv, &results.dbias, &results.dsinks][n]
}

/// The slope at the fourth order, from `loss` at a displacement.
fn slope(step: f64, mut loss: impl FnMut(f64) -> f64) -> f64 {
    (loss(-2.0 * step) - 8.0 * loss(-step) + 8.0 * loss(step) - loss(2.0 * step)) / (12.0 * step)
}

/// The slope of the reference's loss along one element of one input.
fn reference_slope(problem: &Problem, inputs: &Inputs, n: usize, i: usize) -> f64 {
    slope(1e-3, |displacement| {
        let mut moved = inputs.clone();
        input(&mut moved, n)[i] += displacement;
        problem.loss(&problem.reference(&moved), inputs)
    })
}

proptest! {
    #![proptest_config(strategy::config(300))]

    #[test]
    fn the_references_gradients_are_slopes(problem in strategy::small(Dtype::F64)) {
        let inputs = problem.inputs();
        let results = problem.reference(&inputs);
        for (n, name) in NAMES.iter().enumerate() {
            let count = input(&mut inputs.clone(), n).len();
            prop_assert_eq!(gradient(&results, n).len(), count);
            for i in 0..count {
                if input(&mut inputs.clone(), n)[i].is_nan() {
                    prop_assert_eq!(gradient(&results, n)[i], 0.0, "padding of {}[{}]", name, i);
                    continue;
                }
                let (given, measured) = (gradient(&results, n)[i], reference_slope(&problem, &inputs, n, i));
                prop_assert!(
                    relative_eq!(given, measured, epsilon = 1e-7, max_relative = 1e-7),
                    "d{}[{}] is {}, and the slope {}", name, i, given, measured
                );
            }
        }
    }
}

#[test]
fn every_devices_gradients_are_slopes_of_its_own_forward() {
    let problem = Problem {
        batch: 2,
        key_heads: 1,
        group: 2,
        queries: 3,
        keys: 4,
        head_dim: 3,
        value_dim: 2,
        causal: Causal::LowerRight,
        scale: Some(-0.8),
        mask: Some(([true, false, false], Pattern::DeadRows)),
        bias: Some([true, false, false]),
        window: [Some(2), None],
        softcap: Some(2.0),
        alibi: Some(true),
        sinks: true,
        lengths: Lengths::Keys(vec![3, 4]),
        dropout: Some(Dropout { p: 0.3, seed: 9, offset: 1 }),
        dlse: true,
        seed: 7,
        ..Problem::default()
    };
    let inputs = problem.inputs();
    for device in devices() {
        let results = problem.run(device, &inputs).unwrap();
        for (n, name) in NAMES.iter().enumerate() {
            // A step that f32 can take: it loses 1e-6 to rounding and 1e-7 to the curve.
            for (i, &given) in gradient(&results, n).iter().enumerate() {
                if input(&mut inputs.clone(), n)[i].is_nan() {
                    assert_eq!(given, 0.0, "padding of {name}[{i}]");
                    continue;
                }
                let measured = slope(0.0625, |displacement| {
                    let mut moved = inputs.clone();
                    input(&mut moved, n)[i] += displacement;
                    problem.loss(&problem.run(device, &moved).unwrap(), &inputs)
                });
                assert_relative_eq!(given, measured, epsilon = 1e-4, max_relative = 1e-4);
            }
        }
    }
}
