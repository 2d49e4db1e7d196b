//! Key lengths and ragged batches: what is behind the end of a sequence is not there.

use flash_attention::{Causal, Dropout, Dtype, Tensor};
use flash_attention_conformance::compare::{compare_all, errors, first_difference};
use flash_attention_conformance::devices::Target;
use flash_attention_conformance::problem::{Inputs, Lengths, Problem, Results};
use flash_attention_conformance::unfused::{Precision, unfused};
use rstest::rstest;

fn run(problem: &Problem, target: &Target, inputs: &Inputs) -> Results {
    problem.run_on(target, inputs).unwrap_or_else(|error| panic!("on {target}: {error}"))
}

fn all_agree(problem: &Problem, inputs: &Inputs) {
    let expected = problem.truth(inputs);
    let errors = errors(&unfused(problem, inputs, Precision::of(problem.dtype)), &expected, problem.dtype);
    for target in problem.targets() {
        compare_all(&run(problem, &target, inputs), &expected, errors, problem.dtype)
            .unwrap_or_else(|message| panic!("on {target}: {message}"));
    }
}

/// The smallest case of a mistake that was made: a whole block of queries, and padding in a block of keys that has others.
#[rstest]
fn padding_beside_keys_in_use_gets_no_gradient(
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
    #[values(1, 16, 63)] used: usize,
    #[values(1, 8)] columns: usize,
) {
    let lengths = Lengths::Keys(vec![used]);
    let problem = Problem {
        queries: 64,
        keys: used + 1,
        head_dim: columns,
        value_dim: columns,
        dtype,
        lengths,
        ..Problem::default()
    };
    let inputs = problem.inputs();
    all_agree(&problem, &inputs);
    for target in problem.targets() {
        let given = run(&problem, &target, &inputs);
        for gradient in [given.dk, given.dv] {
            assert!(gradient[used * columns..].iter().all(|&x| x == 0.0), "on {target}");
        }
    }
}

#[rstest]
fn keys_behind_a_length_are_as_if_they_were_not_there(
    #[values(1, 63, 64, 65, 127, 128, 200)] used: usize,
    #[values(Causal::None, Causal::UpperLeft, Causal::LowerRight)] causal: Causal,
    #[values(Dtype::F32, Dtype::F16)] dtype: Dtype,
) {
    let short = Problem {
        key_heads: 2,
        group: 2,
        queries: 100,
        keys: used,
        head_dim: 24,
        value_dim: 40,
        dtype,
        causal,
        window: [Some(50), Some(20)],
        alibi: Some(false),
        sinks: true,
        dropout: Some(Dropout { p: 0.2, seed: 8, offset: 0 }),
        dlse: true,
        ..Problem::default()
    };
    let long = Problem { keys: 200, lengths: Lengths::Keys(vec![used]), ..short.clone() };
    let inputs = short.inputs();
    let longer = |values: &[f64], columns: usize| {
        let heads = values.chunks_exact(used * columns);
        let padded =
            heads.flat_map(|head| head.iter().copied().chain(vec![f64::NAN; (200 - used) * columns]));
        padded.collect::<Vec<_>>()
    };
    let padded = Inputs { k: longer(&inputs.k, 24), v: longer(&inputs.v, 40), ..inputs.clone() };
    for target in long.targets() {
        let (mut expected, given) = (run(&short, &target, &inputs), run(&long, &target, &padded));
        let zeros = |values: &[f64], columns| {
            longer(values, columns).into_iter().map(|x| if x.is_nan() { 0.0 } else { x }).collect()
        };
        (expected.dk, expected.dv) = (zeros(&expected.dk, 24), zeros(&expected.dv, 40));
        // The same blocks in the same order, bit for bit.
        assert_eq!(first_difference(&given, &expected), None, "on {target}");
    }
}

#[rstest]
fn a_sequence_of_a_ragged_batch_gives_what_it_gives_alone(
    #[values(Dtype::F32, Dtype::F16, Dtype::Bf16)] dtype: Dtype,
) {
    let lengths = vec![[65, 130], [1, 1], [0, 40], [64, 0], [100, 3], [0, 0], [1, 100]];
    let whole = Problem {
        key_heads: 2,
        group: 2,
        head_dim: 24,
        value_dim: 40,
        dtype,
        causal: Causal::LowerRight,
        window: [Some(40), None],
        softcap: Some(4.0),
        alibi: Some(false),
        sinks: true,
        dlse: true,
        ..Problem::default()
    }
    .ragged(lengths.clone());
    let inputs = whole.inputs();
    all_agree(&whole, &inputs);
    // Where the library divides keys, it divides those of one sequence otherwise than those of many.
    for target in whole.targets().into_iter().filter(Target::is_whole) {
        let given = run(&whole, &target, &inputs);
        for (b, &[queries, keys]) in lengths.iter().enumerate() {
            let one = Problem { batch: 1, queries, keys, lengths: Lengths::Same, ..whole.clone() };
            let part = |values: &[f64], [heads, rows, columns]: [usize; 3], used: usize| {
                let entry = &values[b * heads * rows * columns..][..heads * rows * columns];
                let heads = entry.chunks_exact(rows * columns);
                heads.flat_map(|head| head[..used * columns].to_vec()).collect::<Vec<_>>()
            };
            let (of_q, of_k) = (|c| [4, whole.queries, c], |c| [2, whole.keys, c]);
            let alone = Inputs {
                q: part(&inputs.q, of_q(24), queries),
                k: part(&inputs.k, of_k(24), keys),
                v: part(&inputs.v, of_k(40), keys),
                dout: part(&inputs.dout, of_q(40), queries),
                dlse: inputs.dlse.as_ref().map(|dlse| part(dlse, of_q(1), queries)),
                ..inputs.clone()
            };
            let expected = Results { dsinks: vec![], ..run(&one, &target, &alone) };
            let of_whole = Results {
                out: part(&given.out, of_q(40), queries),
                lse: part(&given.lse, of_q(1), queries),
                dq: part(&given.dq, of_q(24), queries),
                dk: part(&given.dk, of_k(24), keys),
                dv: part(&given.dv, of_k(40), keys),
                ..Results::default()
            };
            assert_eq!(first_difference(&of_whole, &expected), None, "sequence {b} on {target}");
        }
    }
}

#[rstest]
fn a_tensor_repeated_by_the_library_gives_what_its_copies_give(
    #[values(Dtype::F32, Dtype::F16)] dtype: Dtype,
) {
    // One of k's heads for two of v's, one batch entry of q for three of k and v.
    let broadcast = Problem {
        batch: 3,
        key_heads: 2,
        group: 2,
        queries: 66,
        keys: 70,
        dtype,
        single: [[true, false], [false, true], [false, false]],
        ..Problem::default()
    };
    let inputs = broadcast.inputs();
    all_agree(&broadcast, &inputs);
    for target in broadcast.targets() {
        let tensors = broadcast.tensors(&target.device, &inputs).unwrap();
        let out = |q: &Tensor, k: &Tensor| {
            let call = flash_attention::sdpa(q, k, &tensors.v).backend(target.backend).splits(target.splits);
            call.run().unwrap().out.to_f64().unwrap()
        };
        let q = tensors.q.expand(&[3, 4, 66, 32]).unwrap().contiguous().unwrap();
        let k = tensors.k.expand(&[3, 2, 70, 32]).unwrap().contiguous().unwrap();
        assert_eq!(out(&tensors.q, &tensors.k), out(&q, &k), "on {target}");
    }
}
