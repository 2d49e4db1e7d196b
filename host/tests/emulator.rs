//! The kernels on the emulator against `Math` on the CPU, where the host's part matters: strides, layouts, repeated masks
//! and biases, and what is allocated for the gradients.

use flash_attention::{Backend, Causal, Device, Dtype, Forward, Gradients, Layout, Options, Tensor, sdpa};

/// Numbers between -1 and 1 that look random.
fn tensor(seed: u32, dtype: Dtype, shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>() as u32;
    let number = |i: u32| {
        f64::from((i ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b) >> 8) / f64::from(1 << 23)
            - 1.0
    };
    let values: Vec<f32> = (0..count).map(|i| number(i) as f32).collect();
    Tensor::from_slice(&Device::cpu(), &values, shape).unwrap().cast(dtype).unwrap()
}

/// Inputs on one device: q, k, v, dout, mask, bias.
type Inputs = [Tensor; 6];

fn pass(inputs: &Inputs, layout: Layout, causal: Causal, backend: Backend) -> (Forward, Gradients) {
    let [q, k, v, dout, mask, bias] = inputs;
    let mut options = Options::default();
    (options.layout, options.causal, options.backends) = (layout, causal, vec![backend]);
    (options.mask, options.bias) = (Some(mask.clone()), Some(bias.clone()));
    let forward = sdpa(q, k, v).options(options).forward().unwrap();
    let gradients = forward.backward(dout).unwrap();
    (forward, gradients)
}

/// Whether the kernels give what `Math` does. `view` is applied on each device, so that the kernels see its strides.
fn compare(whole: &Inputs, view: impl Fn(&Inputs) -> Inputs, layout: Layout, causal: Causal, tolerance: f64) {
    let emulator = Device::emulator();
    let there = view(&whole.each_ref().map(|tensor| tensor.to_device(&emulator).unwrap()));
    let (forward, gradients) = pass(&there, layout, causal, Backend::Efficient);
    let (expected, expected_gradients) = pass(&view(whole), layout, causal, Backend::Math);
    let pairs = [
        ("out", forward.output(), expected.output()),
        ("lse", forward.lse(), expected.lse()),
        ("dq", &gradients.dq, &expected_gradients.dq),
        ("dk", &gradients.dk, &expected_gradients.dk),
        ("dv", &gradients.dv, &expected_gradients.dv),
        ("dbias", gradients.dbias.as_ref().unwrap(), expected_gradients.dbias.as_ref().unwrap()),
    ];
    for (name, ours, theirs) in pairs {
        assert_eq!((ours.shape(), ours.dtype()), (theirs.shape(), theirs.dtype()), "{name}");
        let (ours, theirs) = (ours.to_f64().unwrap(), theirs.to_f64().unwrap());
        let largest = theirs.iter().filter(|x| x.is_finite()).fold(1f64, |m, x| m.max(x.abs()));
        for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            assert!(a == b || (a - b).abs() <= tolerance * largest, "{name}[{i}]: {a} and {b}");
        }
    }
    let statistics = emulator.take_stats().unwrap();
    assert_eq!(statistics.len(), 5, "{:?}", statistics.keys());
    assert!(statistics.values().all(|kernel| kernel.launches == 1 && kernel.thread_instructions > 0));
}

fn mask(seed: u32, shape: &[usize]) -> Tensor {
    let values = tensor(seed, Dtype::F32, shape).to_vec::<f32>().unwrap();
    let seen: Vec<bool> = values.iter().map(|&x| x > -0.5).collect();
    Tensor::from_slice(&Device::cpu(), &seen, shape).unwrap()
}

#[test]
fn plain_tensors_with_a_mask_and_bias_for_every_score() {
    let f32s = |seed, shape: &[usize]| tensor(seed, Dtype::F32, shape);
    let whole = [
        f32s(1, &[2, 4, 70, 40]),
        f32s(2, &[2, 2, 90, 40]),
        f32s(3, &[2, 2, 90, 24]),
        f32s(4, &[2, 4, 70, 24]),
        mask(5, &[2, 4, 70, 90]),
        f32s(6, &[2, 4, 70, 90]),
    ];
    compare(&whole, Inputs::clone, Layout::Bhsd, Causal::LowerRight, 1e-5);
}

#[test]
fn strided_views_in_the_other_layout_with_repeated_mask_and_bias() {
    let halves = |seed, shape: &[usize]| tensor(seed, Dtype::F16, shape);
    let whole = [
        halves(1, &[2, 3, 66, 100]),
        halves(2, &[70, 2, 1, 97]),
        halves(3, &[2, 70, 1, 72]),
        halves(4, &[2, 66, 3, 80]),
        mask(5, &[66, 70]),
        halves(6, &[3, 1, 70]),
    ];
    // q as a transposed [b, h, s, d], k as a transposed [s, b, h, d], columns cut out of the middle, an odd row stride.
    let view = |t: &Inputs| {
        let [q, k, v, dout, mask, bias] = t;
        [
            q.transpose(1, 2).unwrap().narrow(3, 8, 80).unwrap(),
            k.transpose(0, 1).unwrap().narrow(3, 3, 80).unwrap(),
            v.narrow(3, 1, 65).unwrap(),
            dout.narrow(3, 0, 65).unwrap(),
            mask.clone(),
            bias.clone(),
        ]
    };
    compare(&whole, view, Layout::Bshd, Causal::None, 2e-3);
}

#[test]
fn one_head_tensors_with_a_bias_for_every_batch_entry() {
    let halves = |seed, shape: &[usize]| tensor(seed, Dtype::Bf16, shape);
    let whole = [
        halves(1, &[3, 33, 200]),
        halves(2, &[3, 130, 200]),
        halves(3, &[3, 130, 128]),
        halves(4, &[3, 33, 128]),
        mask(5, &[3, 1, 130]),
        halves(6, &[3, 33, 130]),
    ];
    compare(&whole, Inputs::clone, Layout::Bhsd, Causal::UpperLeft, 1e-2);
}

#[test]
fn expanded_batches_share_their_keys() {
    let f32s = |seed, shape: &[usize]| tensor(seed, Dtype::F32, shape);
    let whole = [
        f32s(1, &[3, 2, 20, 16]),
        f32s(2, &[1, 2, 30, 16]),
        f32s(3, &[1, 2, 30, 16]),
        f32s(4, &[3, 2, 20, 16]),
        mask(5, &[30]),
        f32s(6, &[3, 1, 1, 30]),
    ];
    let view = |t: &Inputs| {
        let [q, k, v, dout, mask, bias] = t;
        let repeat = |tensor: &Tensor| tensor.expand(&[3, 2, 30, 16]).unwrap();
        [q.clone(), repeat(k), repeat(v), dout.clone(), mask.clone(), bias.clone()]
    };
    compare(&whole, view, Layout::Bhsd, Causal::None, 1e-5);
}
