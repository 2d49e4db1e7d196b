//! What the backend adds to the reference: every option and layout reaches it, and ragged batches are taken apart rightly.

use crate::attention::{Sdpa, sdpa};
use crate::autograd::Gradients;
use crate::device::Device;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::options::{Backend, Causal, Dropout, Layout, Options, Ragged, Window};
use crate::reference::{self, Attention, Repeated, Slopes};
use crate::tensor::Tensor;

/// Numbers between -1 and 1.
fn numbers(seed: f32, shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count).map(|i| (i as f32 * 1.37 + seed).sin()).collect();
    Tensor::from_slice(&Device::cpu(), &values, shape).unwrap()
}

/// Three in four may be seen.
fn mask(seed: usize, shape: &[usize]) -> Tensor {
    let seen: Vec<bool> = (0..shape.iter().product()).map(|i: usize| (i * 7 + seed) % 13 > 3).collect();
    Tensor::from_slice(&Device::cpu(), &seen, shape).unwrap()
}

/// What one pass gives, in order: out, lse, weights, dq, dk, dv, dbias, dsinks.
fn pass(call: Sdpa<'_>, dout: &Tensor, dlse: &Tensor) -> Vec<Tensor> {
    let output = call.clone().return_lse(true).return_weights(true).run().unwrap();
    assert_eq!(output.backend, Backend::Math);
    let forward = call.backend(Backend::Math).forward().unwrap();
    let Gradients { dq, dk, dv, dbias, dsinks } = forward.backward_with(dout, Some(dlse)).unwrap();
    let given = [output.lse, output.weights, Some(dq), Some(dk), Some(dv), dbias, dsinks];
    [Some(output.out)].into_iter().chain(given).flatten().collect()
}

fn assert_close(name: &str, given: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(given.len(), expected.len(), "{name}");
    for (i, (a, b)) in given.iter().zip(expected).enumerate() {
        assert!(a == b || (a - b).abs() <= tolerance, "{name}[{i}]: {a} and {b}");
    }
}

const DROPOUT: Dropout = Dropout { p: 0.25, seed: 99, offset: 5 };
const LENGTHS: [usize; 2] = [4, 6];
/// A window of the problem below.
const WINDOW: Window = Window { left: Some(2), right: Some(3) };

/// q, k, v, dout `[batch, heads, rows, columns]`, dlse, mask, bias, slopes, sinks.
struct Case([Tensor; 9]);

impl Case {
    fn new() -> Case {
        Case([
            numbers(0.1, &[2, 4, 5, 8]),
            numbers(0.2, &[2, 2, 6, 8]),
            numbers(0.3, &[2, 2, 6, 3]),
            numbers(0.4, &[2, 4, 5, 3]),
            numbers(0.5, &[2, 4, 5]),
            mask(1, &[2, 1, 5, 6]),
            numbers(0.6, &[1, 4, 5, 6]),
            numbers(0.7, &[2, 4]),
            numbers(0.8, &[4]),
        ])
    }

    fn options(&self) -> Options {
        let [.., mask, bias, alibi, sinks] = &self.0;
        let mut options = Options::default();
        (options.window, options.softcap, options.dropout) = (WINDOW, Some(0.9), Some(DROPOUT));
        (options.mask, options.bias) = (Some(mask.clone()), Some(bias.clone()));
        (options.alibi, options.sinks) = (Some(alibi.clone()), Some(sinks.clone()));
        options.key_lengths = Some(LENGTHS.into());
        options
    }

    /// What the reference gives in f64, in the order of [`pass`].
    fn expected(&self) -> [Vec<f64>; 8] {
        let wide = self.0.each_ref().map(|tensor| tensor.to_f64().unwrap());
        let [q, k, v, dout, dlse, _, bias, alibi, sinks] = &wide;
        let mask = self.0[5].to_vec::<u8>().unwrap();
        let attention = Attention {
            scale: f64::from((1.0 / 8f64.sqrt()) as f32),
            window: WINDOW,
            softcap: Some(f64::from(0.9f32)),
            alibi: Some(Slopes { values: alibi, per_batch: true }),
            mask: Some(Repeated { values: &mask, shape: [2, 1, 5] }),
            bias: Some(Repeated { values: bias, shape: [1, 4, 5] }),
            sinks: Some(sinks),
            key_lengths: Some(&LENGTHS),
            dropout: Some(DROPOUT),
            ..Attention::new(2, 4, 2, 5, 6, 8, 3)
        };
        let outcome = reference::forward(&attention, q, k, v, true).unwrap();
        let gradients = reference::backward(&attention, q, k, v, dout, Some(dlse), true).unwrap();
        let reference::Gradients { dq, dk, dv, dbias, dsinks } = gradients;
        [outcome.out, outcome.lse, outcome.weights, dq, dk, dv, dbias, dsinks]
    }
}

const NAMES: [&str; 8] = ["out", "lse", "weights", "dq", "dk", "dv", "dbias", "dsinks"];

#[rstest::rstest]
#[case(Device::cpu(), Layout::Bhsd)]
#[case(Device::cpu(), Layout::Bshd)]
#[case(Device::emulator(), Layout::Bshd)]
fn every_option_reaches_the_reference(#[case] device: Device, #[case] layout: Layout) {
    let case = Case::new();
    let expected = case.expected();
    let there = Case(case.0.each_ref().map(|tensor| tensor.to_device(&device).unwrap()));
    // The layout of q, k, v, dout and their gradients.
    let arranged = |tensor: &Tensor| match layout {
        Layout::Bhsd => tensor.clone(),
        Layout::Bshd => tensor.transpose(1, 2).unwrap().contiguous().unwrap(),
    };
    let [q, k, v, dout] = [0, 1, 2, 3].map(|i| arranged(&there.0[i]));
    let call = sdpa(&q, &k, &v).options(there.options()).layout(layout);
    let given = pass(call, &dout, &there.0[4]);
    for ((name, given), expected) in NAMES.iter().zip(&given).zip(&expected) {
        assert_eq!((given.device(), given.dtype()), (&device, Dtype::F32), "{name}");
        let as_q = ["out", "dq", "dk", "dv"].contains(name);
        let shown = if as_q { arranged(given) } else { given.clone() };
        assert_close(name, &shown.to_f64().unwrap(), expected, 1e-5);
    }
    assert_eq!(given.len(), NAMES.len());
}

/// Rows `[start, end)` of a packed tensor `[total, heads, columns]` as `[1, heads, rows, columns]`.
fn rows(tensor: &Tensor, start: usize, end: usize) -> Tensor {
    tensor.narrow(0, start, end - start).unwrap().transpose(0, 1).unwrap().unsqueeze(0).unwrap()
}

#[test]
fn sequences_of_a_ragged_batch_are_computed_as_if_alone() {
    let ragged = Ragged { query_offsets: vec![0, 3, 3, 8, 9], key_offsets: vec![0, 4, 6, 6, 11] };
    let (q, k, v) = (numbers(0.1, &[9, 4, 8]), numbers(0.2, &[11, 2, 8]), numbers(0.3, &[11, 2, 3]));
    let (dout, dlse) = (numbers(0.4, &[9, 4, 3]), numbers(0.5, &[4, 9]));
    // The longest sequences have 5 queries and 5 keys.
    let (mask, bias) = (mask(2, &[4, 1, 5, 5]), numbers(0.6, &[4, 5, 5]));
    let (alibi, sinks) = (numbers(0.7, &[4, 4]), numbers(0.8, &[4]));
    let mut options = Options::default();
    (options.causal, options.softcap) = (Causal::LowerRight, Some(1.5));
    options.window = Window { left: Some(3), right: None };
    options.sinks = Some(sinks);
    let all = Options { ragged: Some(ragged.clone()), mask: Some(mask.clone()), ..options.clone() };
    let all = Options { bias: Some(bias.clone()), alibi: Some(alibi.clone()), ..all };
    let given = pass(sdpa(&q, &k, &v).options(all), &dout, &dlse);
    let shapes: Vec<_> = given.iter().map(Tensor::shape).collect();
    let expected: [&[usize]; 8] =
        [&[9, 4, 3], &[4, 9], &[4, 9, 5], &[9, 4, 8], &[11, 2, 8], &[11, 2, 3], &[4, 5, 5], &[4]];
    assert_eq!(shapes, expected);

    let (mut dbias, mut dsinks) = (vec![0.0; 100], vec![0.0; 4]);
    for b in 0..4 {
        let (i, j) = ([0, 1].map(|n| ragged.query_offsets[b + n]), [0, 1].map(|n| ragged.key_offsets[b + n]));
        let (queries, keys) = (i[1] - i[0], j[1] - j[0]);
        let scores = |tensor: &Tensor| {
            let part = tensor.narrow(tensor.rank() - 2, 0, queries).unwrap();
            part.narrow(tensor.rank() - 1, 0, keys).unwrap().contiguous().unwrap()
        };
        let options = Options {
            mask: Some(scores(&mask.narrow(0, b, 1).unwrap())),
            bias: Some(scores(&bias)),
            alibi: Some(alibi.select(0, b).unwrap()),
            ..options.clone()
        };
        let [q, k, v] = [rows(&q, i[0], i[1]), rows(&k, j[0], j[1]), rows(&v, j[0], j[1])];
        let dlse = dlse.narrow(1, i[0], queries).unwrap().unsqueeze(0).unwrap();
        let backends = Options { backends: vec![Backend::Math], ..options };
        let alone = pass(sdpa(&q, &k, &v).options(backends), &rows(&dout, i[0], i[1]), &dlse);
        let weights = given[2].narrow(1, i[0], queries).unwrap();
        let parts = [
            rows(&given[0], i[0], i[1]),
            given[1].narrow(1, i[0], queries).unwrap(),
            weights.narrow(2, 0, keys).unwrap(),
            rows(&given[3], i[0], i[1]),
            rows(&given[4], j[0], j[1]),
            rows(&given[5], j[0], j[1]),
        ];
        for ((name, part), alone) in NAMES.iter().zip(&parts).zip(&alone) {
            assert_close(name, &part.to_f64().unwrap(), &alone.to_f64().unwrap(), 0.0);
        }
        let beyond = weights.narrow(2, keys, 5 - keys).unwrap().to_f64().unwrap();
        assert!(beyond.iter().all(|&w| w == 0.0));
        for (at, x) in alone[6].to_f64().unwrap().into_iter().enumerate() {
            dbias[(at / keys / queries * 5 + at / keys % queries) * 5 + at % keys] += x;
        }
        for (sum, x) in dsinks.iter_mut().zip(alone[7].to_f64().unwrap()) {
            *sum += x;
        }
    }
    assert_close("dbias", &given[6].to_f64().unwrap(), &dbias, 1e-6);
    assert_close("dsinks", &given[7].to_f64().unwrap(), &dsinks, 1e-6);
}

#[test]
fn a_ragged_batch_of_equal_queries_is_a_padded_one() {
    let case = Case::new();
    let [q, k, v, dout, dlse, ..] = &case.0;
    // Padding makes no difference, so that dropout follows the batch entry's number in both.
    let padded = pass(sdpa(q, k, v).options(case.options()), dout, dlse);
    let pack = |tensor: &Tensor, lengths: [usize; 2]| {
        let mut values = vec![];
        for (b, length) in lengths.into_iter().enumerate() {
            let rows = tensor.select(0, b).unwrap().transpose(0, 1).unwrap().narrow(0, 0, length).unwrap();
            values.extend(rows.to_vec::<f32>().unwrap());
        }
        let shape = [lengths[0] + lengths[1], tensor.shape()[1], tensor.shape()[3]];
        Tensor::from_slice(&Device::cpu(), &values, &shape).unwrap()
    };
    let ragged = Ragged { query_offsets: vec![0, 5, 10], key_offsets: vec![0, 4, 10] };
    let options = Options { ragged: Some(ragged), key_lengths: None, ..case.options() };
    let [q, dout] = [q, dout].map(|tensor| pack(tensor, [5, 5]));
    let [k, v] = [k, v].map(|tensor| pack(tensor, LENGTHS));
    let dlse = dlse.transpose(0, 1).unwrap().contiguous().unwrap().reshape(&[4, 10]).unwrap();
    let given = pass(sdpa(&q, &k, &v).options(options), &dout, &dlse);
    for n in [0, 3] {
        assert_eq!(given[n].to_f64().unwrap(), pack(&padded[n], [5, 5]).to_f64().unwrap(), "{}", NAMES[n]);
    }
    for n in [4, 5] {
        assert_eq!(given[n].to_f64().unwrap(), pack(&padded[n], LENGTHS).to_f64().unwrap(), "{}", NAMES[n]);
    }
    for n in [6, 7] {
        assert_close(NAMES[n], &given[n].to_f64().unwrap(), &padded[n].to_f64().unwrap(), 1e-6);
    }
}

/// A tensor of any size that takes no memory.
fn endless(shape: &[usize]) -> Tensor {
    numbers(0.0, &vec![1; shape.len()]).expand(shape).unwrap()
}

#[test]
fn problems_that_memory_cannot_hold_are_errors() {
    let refused = |q: &[usize], k: &[usize], change: &dyn Fn(&mut Options)| {
        let (q, k) = (endless(q), endless(k));
        let mut options = Options::default();
        change(&mut options);
        match sdpa(&q, &k, &k).options(options).run() {
            Err(Error::Device { action, .. }) => action,
            other => panic!("{other:?}"),
        }
    };
    let plain = |_: &mut Options| {};
    // The keys, and what is computed from one that is repeated.
    assert_eq!(refused(&[1, 1, 1, 1], &[1 << 52, 1, 1, 1], &plain), "allocate 18014398509481984 bytes");
    assert_eq!(refused(&[1 << 52, 1, 1, 1], &[1, 1, 1, 1], &plain), "allocate 18014398509481984 bytes");
    // What is repeated to the scores, which are many more than the queries and keys.
    let (q, k) = ([1, 1 << 10, 1 << 14, 1], [1, 1, 1 << 24, 1]);
    let scores = [1, 1 << 10, 1 << 14, 1 << 24];
    let repeated = |dtype| Tensor::zeros(&Device::cpu(), dtype, &[1 << 24]).unwrap().expand(&scores).unwrap();
    let masked = |options: &mut Options| options.mask = Some(repeated(Dtype::U8));
    assert_eq!(refused(&q, &k, &masked), "allocate 281474976710656 bytes");
    let biased = |options: &mut Options| options.bias = Some(repeated(Dtype::F32));
    assert_eq!(refused(&q, &k, &biased), "allocate 1125899906842624 bytes");
    let weights = |options: &mut Options| options.return_weights = true;
    assert_eq!(refused(&q, &k, &weights), "allocate 1125899906842624 bytes");
}

#[test]
fn no_keys_in_a_batch_of_any_size_take_no_memory() {
    let (q, k) = (numbers(0.0, &[1, 1, 0, 1]), endless(&[1, 1, 1, 1]).narrow(2, 0, 0).unwrap());
    let k = k.expand(&[1 << 40, 1, 0, 1]).unwrap();
    let forward = sdpa(&q, &k, &k).forward().unwrap();
    assert_eq!(forward.output().shape(), [1 << 40, 1, 0, 1]);
    let gradients = forward.backward(forward.output()).unwrap();
    assert_eq!((gradients.dk.shape(), gradients.dq.shape()), (&[1 << 40, 1, 0, 1][..], &[1, 1, 0, 1][..]));
}
