//! Every gradient is the slope of the loss `Σ out dout + Σ lse dlse`, measured by finite differences.

use super::super::*;
use approx::relative_eq;

/// The inputs that have gradients, and what comes in.
#[derive(Clone)]
struct Numbers {
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    bias: Vec<f64>,
    sinks: Vec<f64>,
    dout: Vec<f64>,
    dlse: Vec<f64>,
}

/// Which options take part, one bit each.
#[derive(Clone, Copy)]
struct Choice(usize);

impl Choice {
    /// Softcap, ALiBi, bias, mask, sinks, dropout, dlse, key lengths.
    const COUNT: usize = 8;

    fn has(self, bit: usize) -> bool {
        self.0 >> bit & 1 == 1
    }
}

const QUERIES: usize = 3;
const KEYS: usize = 5;
/// Two batch entries, four query heads, two key heads, two columns, three columns of v.
const SIZES: [usize; 7] = [2, 4, 2, QUERIES, KEYS, 2, 3];

/// The bias has one row for all batch entries.
const BIAS: [usize; 3] = [1, 4, QUERIES];
/// The mask has one row for all heads.
const MASK: [usize; 3] = [2, 1, QUERIES];

fn numbers(seed: usize) -> Numbers {
    let series = |count: usize, phase: f64| -> Vec<f64> {
        (0..count).map(|i| (i as f64 * 1.7 + phase + seed as f64).sin()).collect()
    };
    Numbers {
        q: series(2 * 4 * QUERIES * 2, 0.1),
        k: series(2 * 2 * KEYS * 2, 0.5),
        v: series(2 * 2 * KEYS * 3, 0.9),
        bias: series(4 * QUERIES * KEYS, 1.3),
        sinks: series(4, 1.7),
        dout: series(2 * 4 * QUERIES * 3, 2.1),
        dlse: series(2 * 4 * QUERIES, 2.5),
    }
}

/// The chosen problem. Of the mask one query sees nothing.
fn attention<'a>(choice: Choice, causal: Causal, window: Window, numbers: &'a Numbers) -> Attention<'a, f64> {
    const HIDES: [u8; 2 * QUERIES * KEYS] = {
        let mut mask = [1; 2 * QUERIES * KEYS];
        let mut j = 0;
        while j < KEYS {
            mask[KEYS + j] = 0;
            j += 1;
        }
        mask[2] = 0;
        mask[4 * KEYS + 1] = 0;
        mask
    };
    let [batch, query_heads, key_heads, queries, keys, head_dim, value_dim] = SIZES;
    let slopes = Slopes { values: &[0.5, 0.25, 0.125, 0.75][..], per_batch: false };
    Attention {
        scale: -0.7,
        causal,
        window,
        softcap: choice.has(0).then_some(0.8),
        alibi: choice.has(1).then_some(slopes),
        bias: choice.has(2).then_some(Repeated { values: &numbers.bias, shape: BIAS }),
        mask: choice.has(3).then_some(Repeated { values: &HIDES[..], shape: MASK }),
        sinks: choice.has(4).then_some(&numbers.sinks),
        dropout: choice.has(5).then_some(Dropout { p: 0.4, seed: choice.0 as u64, offset: 3 }),
        key_lengths: choice.has(7).then_some(&[3, 5]),
        ..Attention::new(batch, query_heads, key_heads, queries, keys, head_dim, value_dim)
    }
}

fn loss(choice: Choice, causal: Causal, window: Window, numbers: &Numbers) -> f64 {
    let Numbers { q, k, v, dout, dlse, .. } = numbers;
    let outcome = forward(&attention(choice, causal, window, numbers), q, k, v, false).unwrap();
    let sum = |x: &[f64], dx: &[f64]| -> f64 {
        // Queries without visible keys have the log-sum-exp -inf.
        x.iter().zip(dx).filter(|(x, _)| x.is_finite()).map(|(x, dx)| x * dx).sum()
    };
    sum(&outcome.out, dout) + if choice.has(6) { sum(&outcome.lse, dlse) } else { 0.0 }
}

/// The slope at the fourth order.
fn slope(mut loss: impl FnMut(f64) -> f64) -> f64 {
    let step = 1e-3;
    (loss(-2.0 * step) - 8.0 * loss(-step) + 8.0 * loss(step) - loss(2.0 * step)) / (12.0 * step)
}

type Input = fn(&mut Numbers) -> &mut Vec<f64>;

fn check(choice: Choice, causal: Causal, window: Window) {
    let numbers = numbers(choice.0);
    let Numbers { q, k, v, dout, dlse, .. } = &numbers;
    let dlse = choice.has(6).then_some(&dlse[..]);
    let attention = attention(choice, causal, window, &numbers);
    let gradients = backward(&attention, q, k, v, dout, dlse, true).unwrap();
    let inputs: [(&str, Input, &[f64], bool); 5] = [
        ("q", |n| &mut n.q, &gradients.dq, true),
        ("k", |n| &mut n.k, &gradients.dk, true),
        ("v", |n| &mut n.v, &gradients.dv, true),
        ("bias", |n| &mut n.bias, &gradients.dbias, choice.has(2)),
        ("sinks", |n| &mut n.sinks, &gradients.dsinks, choice.has(4)),
    ];
    for (name, input, gradient, exists) in inputs {
        let count = input(&mut numbers.clone()).len();
        assert_eq!(gradient.len(), if exists { count } else { 0 }, "{name}");
        for (i, &given) in gradient.iter().enumerate() {
            let mut moved = numbers.clone();
            let start = input(&mut moved)[i];
            let measured = slope(|by| {
                input(&mut moved)[i] = start + by;
                loss(choice, causal, window, &moved)
            });
            assert!(
                relative_eq!(given, measured, epsilon = 1e-8, max_relative = 1e-7),
                "options {:08b}, {causal:?}, {window:?}: d{name}[{i}] is {given}, and the slope {measured}",
                choice.0
            );
        }
    }
}

#[test]
fn gradients_are_slopes_whatever_options_combine() {
    let windows = [
        Window::default(),
        Window { left: Some(1), right: None },
        Window { left: None, right: Some(1) },
        Window { left: Some(1), right: Some(0) },
    ];
    let causals = [Causal::None, Causal::UpperLeft, Causal::LowerRight];
    for choice in (0..1 << Choice::COUNT).map(Choice) {
        // Every pair of a mask and a window comes up with many choices.
        check(choice, causals[choice.0 % 3], windows[choice.0 / 3 % 4]);
    }
}

#[test]
fn gradients_of_single_options_are_slopes_for_every_band() {
    for causal in [Causal::None, Causal::UpperLeft, Causal::LowerRight] {
        for window in [Window::default(), Window { left: Some(0), right: Some(1) }] {
            for choice in (0..Choice::COUNT).map(|bit| Choice(1 << bit)).chain([Choice(0), Choice(0xff)]) {
                check(choice, causal, window);
            }
        }
    }
}
