use approx::assert_relative_eq;

use super::*;
use crate::attention::sdpa;
use crate::device::Device;
use crate::options::{Causal, Layout, Ragged, Window};

fn tensor(shape: &[usize], seed: f64) -> Tensor {
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|i: usize| (i as f64 * 1.7 + seed).sin() as f32).collect();
    Tensor::from_slice(&Device::cpu(), &values, shape).unwrap()
}

fn numbers(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(&Device::cpu(), values, shape).unwrap()
}

/// Two queries, three keys, one column: logits that can be written down.
fn small() -> (Tensor, Tensor) {
    (numbers(&[1.0, -2.0], &[1, 2, 1]), numbers(&[3.0, 0.0, 5.0], &[1, 3, 1]))
}

#[test]
fn numbers_are_those_that_follow_from_the_formulas() {
    let (q, k) = small();
    let options = Options { scale: Some(0.5), ..Options::default() };
    let [head] = &heads(&q, &k, &k, &options).unwrap()[..] else { panic!("one head") };
    let raw = [3.0, 0.0, 5.0, -6.0, 0.0, -10.0];
    let mean: f64 = raw.iter().sum::<f64>() / 6.0;
    let deviation = (raw.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 6.0).sqrt();
    assert_eq!((head.raw.count, head.raw.min, head.raw.max), (6, -10.0, 5.0));
    assert_relative_eq!(head.raw.deviation(), deviation, max_relative = 1e-12);
    assert_relative_eq!(head.scores.deviation(), deviation / 2.0, max_relative = 1e-12);
    let weights = |logits: [f64; 3]| {
        let sum: f64 = logits.iter().map(|s| s.exp()).sum();
        logits.map(|s| s.exp() / sum)
    };
    let rows = [weights([1.5, 0.0, 2.5]), weights([-3.0, 0.0, -5.0])];
    let entropy = rows.as_flattened().iter().map(|p| -p * p.ln()).sum::<f64>() / 2.0;
    assert_relative_eq!(head.mean_entropy, entropy, max_relative = 1e-12);
    assert_relative_eq!(head.mean_row_maximum, (rows[0][2] + rows[1][1]) / 2.0, max_relative = 1e-12);
    assert_eq!((head.rows, head.one_hot_share, head.empty_rows, head.nan_rows), (2, 0.0, 0, 0));
}

#[test]
fn nearly_one_hot_rows_empty_rows_and_nan_rows_are_told_apart() {
    let q = numbers(&[10.0, 0.0, 1.0, f32::NAN], &[1, 4, 1]);
    let (_, k) = small();
    let mask = Tensor::from_slice(&Device::cpu(), &[1u8, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1], &[4, 3]).unwrap();
    let options = Options { mask: Some(mask), ..Options::default() };
    let head = heads(&q, &k, &k, &options).unwrap().remove(0);
    assert_eq!((head.rows, head.empty_rows, head.nan_rows), (2, 1, 1));
    assert_eq!((head.one_hot_share, head.raw.nan, head.scores.nan, head.raw.count), (0.5, 3, 3, 6));
    assert!(head.mean_row_maximum > 0.66 && head.mean_row_maximum < 0.67);
}

#[test]
fn infinities_are_counted() {
    let (q, _) = small();
    let k = numbers(&[3.0, f32::INFINITY, 5.0], &[1, 3, 1]);
    let head = heads(&q, &k, &k, &Options::default()).unwrap().remove(0);
    // The first row has +inf, the second -inf, which is a weight of 0.
    assert_eq!((head.raw.infinite, head.scores.infinite, head.nan_rows, head.rows), (2, 2, 1, 1));
}

#[test]
fn pictures_hold_the_weights_that_math_returns() {
    let (q, k) = (tensor(&[2, 5, 4, 8], 0.1), tensor(&[2, 7, 2, 8], 0.7));
    let bias = tensor(&[4, 5, 7], 0.3);
    let options = Options {
        layout: Layout::Bshd,
        causal: Causal::LowerRight,
        scale: Some(-0.7),
        bias: Some(bias),
        ..Options::default()
    };
    agrees(&q, &k, &options, [2, 4]);
}

#[test]
fn pictures_of_every_option_hold_the_weights_that_math_returns() {
    let (q, k) = (tensor(&[2, 4, 6, 8], 0.1), tensor(&[2, 2, 9, 8], 0.7));
    let options = Options {
        window: Window { left: Some(4), right: Some(1) },
        softcap: Some(1.5),
        alibi: Some(tensor(&[2, 4], 0.4)),
        sinks: Some(tensor(&[4], 0.6)),
        key_lengths: Some(vec![9, 5]),
        bias: Some(tensor(&[2, 1, 6, 9], 0.3)),
        ..Options::default()
    };
    agrees(&q, &k, &options, [2, 4]);
}

/// Holds every cell of every picture against the weights that `Math` returns, and the entropies with them.
fn agrees(q: &Tensor, k: &Tensor, options: &Options, [batches, heads]: [usize; 2]) {
    let output = sdpa(q, k, k).options(options.clone()).return_weights(true).run().unwrap();
    let weights = output.weights.unwrap().to_f64().unwrap();
    let mut weights = weights.chunks_exact(weights.len() / batches / heads);
    let statistics = super::heads(q, k, k, options).unwrap();
    for batch in 0..batches {
        for head in 0..heads {
            let picture = picture(q, k, k, options, [batch, head], 1000).unwrap();
            let expected = weights.next().unwrap();
            assert_eq!((picture.rows, picture.columns), (picture.queries, picture.keys));
            assert_eq!(picture.cells.len(), expected.len());
            for (cell, &weight) in picture.cells.iter().zip(expected) {
                assert_relative_eq!(cell.unwrap_or(0.0), weight, epsilon = 1e-6);
            }
            let of = &statistics[batch * heads + head];
            assert_eq!((of.batch, of.head), (batch, head));
            let mean = picture.entropies.iter().sum::<f64>() / picture.entropies.len() as f64;
            assert_relative_eq!(of.mean_entropy, mean, max_relative = 1e-12);
            let row_maximum = |row: &[f64]| row.iter().copied().fold(0.0, f64::max);
            let maxima: Vec<f64> = expected.chunks_exact(picture.keys).map(row_maximum).collect();
            let seen = maxima.iter().filter(|&&most| most > 0.0).count();
            assert_relative_eq!(
                of.mean_row_maximum,
                maxima.iter().sum::<f64>() / seen as f64,
                max_relative = 1e-5
            );
        }
    }
}

#[test]
fn every_option_that_changes_scores_is_in_them() {
    // One column and one query: logits that can be written down.
    let (q, k) = (numbers(&[2.0], &[1, 1, 1]), numbers(&[1.0, -1.0, 3.0, f32::NAN], &[1, 4, 1]));
    let options = Options {
        scale: Some(0.5),
        softcap: Some(4.0),
        alibi: Some(numbers(&[0.25], &[1])),
        bias: Some(numbers(&[0.1, 0.2, 0.3, 0.4], &[4])),
        sinks: Some(numbers(&[1.5], &[1])),
        key_lengths: Some(vec![3]),
        window: Window { left: Some(1), right: None },
        ..Options::default()
    };
    let head = heads(&q, &k, &k, &options).unwrap().remove(0);
    // The query stands at key 2 and sees keys 1 and 2.
    let score = |raw: f64, distance: f64, bias: f64| {
        4.0 * (0.5 * raw / 4.0).tanh() - 0.25 * distance + f64::from(bias as f32)
    };
    let scores = [score(-2.0, 1.0, 0.2), score(6.0, 0.0, 0.3)];
    assert_eq!((head.raw.count, head.raw.min, head.raw.max, head.raw.nan), (2, -2.0, 6.0, 0));
    assert_relative_eq!(head.scores.min, scores[0], max_relative = 1e-12);
    assert_relative_eq!(head.scores.max, scores[1], max_relative = 1e-12);
    let sum = scores[0].exp() + scores[1].exp() + 1.5f64.exp();
    let p = [scores[0].exp() / sum, scores[1].exp() / sum, 1.5f64.exp() / sum];
    assert_relative_eq!(head.mean_row_maximum, p[1], max_relative = 1e-12);
    assert_relative_eq!(head.mean_entropy, p.iter().map(|p| -p * p.ln()).sum(), max_relative = 1e-12);
}

#[test]
fn the_sequences_of_a_ragged_batch_are_heads_of_their_own() {
    let (q, k) = (tensor(&[7, 2, 8], 0.1), tensor(&[9, 2, 8], 0.7));
    let bias = tensor(&[2, 1, 1, 5], 0.2);
    let ragged = Ragged { query_offsets: vec![0, 4, 4, 7], key_offsets: vec![0, 5, 5, 9] };
    let of =
        |ragged, bias| Options { causal: Causal::LowerRight, bias: Some(bias), ragged, ..Options::default() };
    let packed =
        heads(&q, &k, &k, &of(Some(ragged.clone()), bias.select(0, 1).unwrap().unsqueeze(0).unwrap()))
            .unwrap();
    assert_eq!(packed.len(), 6);
    assert_eq!((packed[2].batch, packed[2].rows, packed[2].raw.count), (1, 0, 0));
    for (sequence, [rows, keys]) in [(0, [4, 5]), (2, [3, 4])] {
        let alone = |tensor: &Tensor, start: usize, rows: usize| {
            tensor.narrow(0, start, rows).unwrap().transpose(0, 1).unwrap().unsqueeze(0).unwrap()
        };
        let q = alone(&q, ragged.query_offsets[sequence], rows);
        let k = alone(&k, ragged.key_offsets[sequence], keys);
        let bias = bias.select(0, 1).unwrap().narrow(2, 0, keys).unwrap().contiguous().unwrap();
        let expected = heads(&q, &k, &k, &of(None, bias)).unwrap();
        for head in 0..2 {
            let expected = HeadStatistics { batch: sequence, ..expected[head].clone() };
            assert_eq!(packed[sequence * 2 + head], expected);
        }
    }
}

#[test]
fn problems_without_keys_or_batch_have_no_rows_with_weights() {
    let (q, k) = (tensor(&[1, 2, 3, 4], 0.1), tensor(&[1, 2, 0, 4], 0.7));
    let head = heads(&q, &k, &k, &Options::default()).unwrap().remove(0);
    assert_eq!((head.rows, head.empty_rows, head.raw.count), (0, 3, 0));
    assert!(head.mean_entropy.is_nan());
    let nothing = picture(&q, &k, &k, &Options::default(), [0, 0], 8).unwrap();
    assert!(nothing.cells.is_empty() && nothing.entropies.is_empty());
    let none = tensor(&[0, 2, 3, 4], 0.1);
    assert!(heads(&none, &none, &none, &Options::default()).unwrap().is_empty());
}

#[test]
fn cells_hold_the_largest_weight_of_their_part() {
    let (q, k) = (tensor(&[1, 50, 4], 0.1), tensor(&[1, 37, 4], 0.7));
    let options = Options { causal: Causal::UpperLeft, ..Options::default() };
    let fine = picture(&q, &k, &k, &options, [0, 0], 1000).unwrap();
    let coarse = picture(&q, &k, &k, &options, [0, 0], 8).unwrap();
    assert_eq!((coarse.rows, coarse.columns, coarse.queries, coarse.keys), (8, 8, 50, 37));
    assert_eq!(coarse.entropies, fine.entropies);
    let mut expected = vec![None::<f64>; 64];
    for (i, cell) in fine.cells.iter().enumerate() {
        let at = &mut expected[(i / 37 * 8 / 50) * 8 + i % 37 * 8 / 37];
        *at = at.map_or(*cell, |most| Some(cell.map_or(most, |weight| weight.max(most))));
    }
    assert_eq!(coarse.cells, expected);
    assert_eq!(coarse.cells[7], None);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let (q, k) = (tensor(&[1, 2, 75, 16], 0.1), tensor(&[1, 2, 64, 16], 0.7));
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| heads(&q, &k, &k, &Options::default()).unwrap())
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn heads_that_are_not_there_are_refused() {
    let (q, k) = (tensor(&[1, 2, 3, 4], 0.1), tensor(&[1, 2, 3, 4], 0.7));
    let error = picture(&q, &k, &k, &Options::default(), [0, 2], 8).unwrap_err().to_string();
    assert!(error.contains("has 2 entries, there is no 2"), "{error}");
    assert!(picture(&q, &k, &k, &Options::default(), [1, 0], 8).is_err());
}
