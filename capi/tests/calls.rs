//! The C interface computes what the Rust interface computes, bit for bit, on the emulator.

mod support;

use flash_attention::{Causal, Device, Dropout, Layout, Options, Ragged, Window};
use flash_attention_c::call::{fa_backward_workspace, fa_forward_backend, fa_forward_workspace};
use flash_attention_c::types::{
    BackwardTensors, ForwardTensors, Problem, Tensor, backend, causal, deterministic, dtype, layout,
};
use support::{Emulator, contiguous, encode, expected, good, numbers, own, size};

/// One problem both ways: what differs between cases.
struct Case {
    dtype: i32,
    q: Vec<usize>,
    k: Vec<usize>,
    v: Vec<usize>,
    lse: Vec<usize>,
    problem: Problem,
    options: Options,
}

impl Case {
    fn dense(dtype: i32, [batch, hq, hk, sq, sk, d, dv]: [usize; 7]) -> Case {
        let (problem, options) = (Problem::default(), Options::default());
        let (q, k, v) = (vec![batch, hq, sq, d], vec![batch, hk, sk, d], vec![batch, hk, sk, dv]);
        Case { dtype, q, k, v, lse: vec![batch, hq, sq], problem, options }
    }
}

/// A tensor on both devices.
fn both(
    emulator: &Emulator,
    device: &Device,
    of: i32,
    values: &[f32],
    shape: &[usize],
) -> (Tensor, flash_attention::Tensor) {
    let bytes = encode(of, values);
    (emulator.tensor(&bytes, of, shape), own(device, of, &bytes, shape))
}

/// Runs a case by both interfaces, with `extra` to add tensors that both have, and compares every result.
fn check(mut case: Case, extra: impl FnOnce(&Emulator, &Device, &mut Case)) {
    let (emulator, device) = (Emulator::new(), Device::emulator());
    extra(&emulator, &device, &mut case);
    let of = case.dtype;
    let input =
        |seed, shape: &[usize]| both(&emulator, &device, of, &numbers(seed, shape.iter().product()), shape);
    let ((q, own_q), (k, own_k), (v, own_v)) = (input(1, &case.q), input(2, &case.k), input(3, &case.v));
    let out_shape = [&case.q[..3.min(case.q.len() - 1)], &case.v[case.v.len() - 1..]].concat();
    let (dout, own_dout) = input(4, &out_shape);
    let lse_values = numbers(5, case.lse.iter().product());
    let (dlse, own_dlse) = both(&emulator, &device, dtype::F32, &lse_values, &case.lse);
    let right = expected([&own_q, &own_k, &own_v, &own_dout], Some(&own_dlse), &case.options);

    let problem = Problem { q, k, v, ..case.problem };
    let given = |tensor: &Tensor| tensor.rank > 0;
    let like = |tensor: &Tensor| {
        let shape: Vec<usize> = tensor.shape[..tensor.rank as usize].iter().map(|&n| n as usize).collect();
        emulator.blank(tensor.dtype, &shape)
    };
    let (out, lse) = (emulator.blank(of, &out_shape), emulator.blank(dtype::F32, &case.lse));
    emulator.forward(&problem, &ForwardTensors { out, lse });
    let tensors = BackwardTensors {
        out,
        lse,
        dout,
        dlse,
        dq: like(&q),
        dk: like(&k),
        dv: like(&v),
        dbias: if given(&problem.bias) { like(&problem.bias) } else { Tensor::default() },
        dsinks: if given(&problem.sinks) { like(&problem.sinks) } else { Tensor::default() },
    };
    emulator.backward(&problem, &tensors);
    assert!(emulator.bytes(&out) == right.out, "out");
    assert!(emulator.bytes(&lse) == right.lse, "lse");
    let gradients = &right.gradients;
    let mut results = vec![
        ("dq", &tensors.dq, Some(&gradients.dq)),
        ("dk", &tensors.dk, Some(&gradients.dk)),
        ("dv", &tensors.dv, Some(&gradients.dv)),
    ];
    results.push(("dbias", &tensors.dbias, gradients.dbias.as_ref()));
    results.push(("dsinks", &tensors.dsinks, gradients.dsinks.as_ref()));
    for (name, written, right) in results {
        assert_eq!(given(written), right.is_some(), "{name}");
        if let Some(right) = right {
            assert!(emulator.bytes(written) == right.to_bytes().unwrap(), "{name}");
        }
    }
}

#[test]
fn plain_attention_in_every_type_is_the_same() {
    for of in [dtype::F32, dtype::F16, dtype::BF16] {
        check(Case::dense(of, [2, 4, 2, 33, 40, 64, 32]), |_, _, _| {});
    }
}

/// What the parts leave lies in the caller's workspace, which `Emulator::forward` makes as large as it is said to be.
#[test]
fn keys_in_splits_are_the_same_and_take_more_workspace() {
    let mut case = Case::dense(dtype::F16, [2, 4, 2, 3, 140, 64, 32]);
    case.problem.splits = 3;
    case.options.splits = 3;
    check(case, |_, _, _| {});
    let emulator = Emulator::new();
    let tensor = |shape: &[usize]| emulator.blank(dtype::F16, shape);
    let (q, k, v) = (tensor(&[2, 4, 3, 64]), tensor(&[2, 2, 140, 64]), tensor(&[2, 2, 140, 32]));
    let tensors = ForwardTensors { out: tensor(&[2, 4, 3, 32]), lse: emulator.blank(dtype::F32, &[2, 4, 3]) };
    let workspace = |splits| {
        let (problem, mut bytes) = (Problem { q, k, v, splits, ..Problem::default() }, 0);
        // SAFETY: the device is open, and its tensors are allocated.
        good(unsafe { fa_forward_workspace(emulator.0, &problem, &tensors, &mut bytes) });
        bytes
    };
    // 24 rows of 32 columns and a log-sum-exp for each part, in pieces of 256 bytes.
    assert_eq!([0, 1].map(workspace), [0; 2]);
    assert_eq!(workspace(3), 3 * 24 * 32 * 4 + 512);
}

#[test]
fn every_option_arrives() {
    let lengths: &'static [i32] = &[40, 17];
    check(Case::dense(dtype::F16, [2, 4, 2, 33, 40, 32, 32]), |emulator, device, case| {
        let mask: Vec<f32> = (0..33 * 40).map(|i| f32::from(u8::from(i % 7 != 0))).collect();
        let tensors = [
            both(emulator, device, dtype::U8, &mask, &[33, 40]),
            both(emulator, device, dtype::F16, &numbers(6, 4 * 40), &[4, 1, 40]),
            both(emulator, device, dtype::F32, &numbers(7, 4), &[4]),
            both(emulator, device, dtype::F32, &numbers(8, 4), &[4]),
        ];
        let [mask, bias, alibi, sinks] = tensors;
        case.problem = Problem {
            mask: mask.0,
            bias: bias.0,
            alibi: alibi.0,
            sinks: sinks.0,
            key_lengths: lengths.as_ptr(),
            batch: 2,
            window_left: 20,
            window_right: 9,
            dropout_seed: 0x1234_5678_9abc,
            dropout_offset: 3,
            dropout_p: 0.25,
            scale: 0.3,
            softcap: 5.0,
            causal: causal::UPPER_LEFT,
            ..Problem::default()
        };
        case.options.mask = Some(mask.1);
        case.options.bias = Some(bias.1);
        case.options.alibi = Some(alibi.1);
        case.options.sinks = Some(sinks.1);
        case.options.key_lengths = Some(vec![40, 17]);
        case.options.window = Window { left: Some(20), right: Some(9) };
        case.options.dropout = Some(Dropout { p: 0.25, seed: 0x1234_5678_9abc, offset: 3 });
        case.options.scale = Some(0.3);
        case.options.softcap = Some(5.0);
        case.options.causal = Causal::UpperLeft;
    });
}

#[test]
fn a_ragged_batch_is_the_same() {
    let offsets: &'static [[i32; 4]; 2] = &[[0, 10, 10, 43], [0, 25, 30, 50]];
    let mut case = Case::dense(dtype::BF16, [1, 4, 2, 1, 1, 32, 32]);
    (case.q, case.k, case.v) = (vec![43, 4, 32], vec![50, 2, 32], vec![50, 2, 32]);
    case.lse = vec![4, 43];
    let [query_offsets, key_offsets] = offsets.each_ref().map(|list| list.as_ptr());
    case.problem =
        Problem { query_offsets, key_offsets, batch: 3, causal: causal::LOWER_RIGHT, ..Problem::default() };
    let [query_offsets, key_offsets] = offsets.map(|list| list.map(|n| n as usize).to_vec());
    case.options.ragged = Some(Ragged { query_offsets, key_offsets });
    case.options.causal = Causal::LowerRight;
    check(case, |_, _, _| {});
}

#[test]
fn tensors_of_one_head_and_of_the_other_layout_are_the_same() {
    let mut case = Case::dense(dtype::F32, [1; 7]);
    (case.q, case.k, case.v, case.lse) = (vec![2, 9, 16], vec![2, 12, 16], vec![2, 12, 8], vec![2, 9]);
    check(case, |_, _, _| {});
    let mut case = Case::dense(dtype::F16, [1; 7]);
    (case.q, case.k, case.v) = (vec![2, 9, 4, 32], vec![2, 12, 2, 32], vec![2, 12, 2, 32]);
    case.lse = vec![2, 4, 9];
    case.problem.layout = layout::BSHD;
    case.options.layout = Layout::Bshd;
    check(case, |_, _, _| {});
}

/// One block of keys adds to each element of dq once, so that its bits do not vary.
#[test]
fn gradients_by_atomic_additions_are_the_same_and_take_their_sums_from_the_workspace() {
    let given =
        [(deterministic::DEFAULT, None), (deterministic::YES, Some(true)), (deterministic::NO, Some(false))];
    for (given, own) in given {
        let mut case = Case::dense(dtype::F16, [2, 4, 2, 33, 100, 64, 64]);
        (case.problem.deterministic, case.options.deterministic) = (given, own);
        check(case, |_, _, _| {});
    }
    let emulator = Emulator::new();
    let bytes = |deterministic| {
        let [q, lse] = [(dtype::F16, vec![2, 4, 33, 64]), (dtype::F32, vec![2, 4, 33])]
            .map(|(of, shape)| emulator.blank(of, &shape));
        let problem = Problem { q, k: q, v: q, deterministic, ..Problem::default() };
        let tensors =
            BackwardTensors { out: q, lse, dout: q, dq: q, dk: q, dv: q, ..BackwardTensors::default() };
        let mut bytes = 0;
        // SAFETY: the device is open, and nothing is touched.
        good(unsafe { fa_backward_workspace(emulator.0, &problem, &tensors, &mut bytes) });
        bytes
    };
    // Delta, rounded up to 256; two tiles a head of 32 rows of 64 sums and a pair of numbers.
    let delta = (2 * 4 * 33 * 4u64).next_multiple_of(256);
    assert_eq!([deterministic::DEFAULT, deterministic::YES].map(bytes), [delta; 2]);
    assert_eq!(bytes(deterministic::NO), delta + 2 * 4 * 2 * 32 * (64 + 2) * 4);
}

#[test]
fn no_keys_and_no_queries_are_no_errors() {
    for (sq, sk) in [(5, 0), (0, 5)] {
        check(Case::dense(dtype::F32, [1, 2, 1, sq, sk, 8, 8]), |_, _, _| {});
    }
}

#[test]
fn strided_inputs_and_outputs_are_read_and_written_where_they_lie() {
    let (emulator, device) = (Emulator::new(), Device::emulator());
    // q, k and v of one packed tensor [batch, seq, 3, heads, dim], and an output in the order [seq, batch, heads, dim].
    let (batch, seq, heads, dim) = (2usize, 37usize, 3usize, 32usize);
    let packed = encode(dtype::F16, &numbers(9, batch * seq * 3 * heads * dim));
    let address = emulator.alloc(packed.len());
    emulator.write(address, &packed);
    let part = |n: usize| {
        let mut tensor =
            contiguous(address + (n * heads * dim * 2) as u64, dtype::F16, &[batch, heads, seq, dim]);
        let row = (3 * heads * dim) as i64;
        tensor.strides = [seq as i64 * row, dim as i64, row, 1];
        tensor
    };
    let problem = Problem { q: part(0), k: part(1), v: part(2), ..Problem::default() };
    let mut out = emulator.blank(dtype::F16, &[batch, heads, seq, dim]);
    out.strides = [(heads * dim) as i64, dim as i64, (batch * heads * dim) as i64, 1];
    emulator.forward(&problem, &ForwardTensors { out, lse: Tensor::default() });

    let whole = own(&device, dtype::F16, &packed, &[batch, seq, 3, heads, dim]);
    let [q, k, v] = [0, 1, 2].map(|n| whole.select(2, n).unwrap().transpose(1, 2).unwrap());
    let right = flash_attention::sdpa(&q, &k, &v).run().unwrap().out;
    let right = right.permute(&[2, 0, 1, 3]).unwrap().contiguous().unwrap().to_bytes().unwrap();
    assert!(emulator.read(out.data, right.len()) == right);
}

#[test]
fn the_backend_is_said_and_can_be_named() {
    let emulator = Emulator::new();
    let chosen = |of: i32, backend: i32| {
        let tensor = emulator.blank(of, &[1, 1, 16, 32]);
        assert_eq!(emulator.bytes(&tensor).len(), 512 * size(of));
        let problem = Problem { q: tensor, k: tensor, v: tensor, backend, ..Problem::default() };
        let tensors = ForwardTensors { out: tensor, lse: Tensor::default() };
        let mut chosen = -1;
        // SAFETY: the device is open, and nothing is touched.
        good(unsafe { fa_forward_backend(emulator.0, &problem, &tensors, &mut chosen) });
        chosen
    };
    assert_eq!(chosen(dtype::F16, backend::AUTO), backend::FLASH);
    assert_eq!(chosen(dtype::F16, backend::EFFICIENT), backend::EFFICIENT);
    assert_eq!(chosen(dtype::F32, backend::AUTO), backend::EFFICIENT);
}
