//! `sdpa` against attention that is written from candle's matmul and softmax, outputs and gradients.

mod support;

use candle_core::{DType, Result, Tensor, Var};
use flash_attention_candle::flash_attention::{self, Backend, Causal, Dropout, Layout};
use flash_attention_candle::{Options, from_attention, sdpa, to_attention};
use support::*;

/// Sizes of a problem.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: usize,
    heads: [usize; 2],
    seq: [usize; 2],
    dims: [usize; 2],
    causal: Causal,
}

const CASES: [Sizes; 6] = [
    Sizes { batch: 1, heads: [1, 1], seq: [1, 1], dims: [1, 1], causal: Causal::None },
    Sizes { batch: 2, heads: [4, 2], seq: [17, 33], dims: [16, 24], causal: Causal::None },
    Sizes { batch: 1, heads: [3, 1], seq: [40, 40], dims: [64, 64], causal: Causal::UpperLeft },
    Sizes { batch: 2, heads: [2, 2], seq: [5, 70], dims: [32, 32], causal: Causal::LowerRight },
    Sizes { batch: 1, heads: [2, 2], seq: [65, 65], dims: [33, 7], causal: Causal::LowerRight },
    Sizes { batch: 3, heads: [2, 1], seq: [9, 20], dims: [80, 8], causal: Causal::UpperLeft },
];

impl Sizes {
    fn inputs(&self, dtype: DType) -> [Var; 3] {
        let Sizes { batch, heads: [hq, hk], seq: [sq, sk], dims: [d, dv], .. } = *self;
        let shapes = [[batch, hq, sq, d], [batch, hk, sk, d], [batch, hk, sk, dv]];
        let mut seeds = 1..;
        shapes.map(|shape| {
            Var::from_tensor(&random(seeds.next().unwrap(), &shape, dtype).affine(2.0, 0.0).unwrap()).unwrap()
        })
    }

    fn hidden(&self) -> Option<Tensor> {
        Some(hidden(self.causal, self.seq[0], self.seq[1]))
    }

    fn scale(&self) -> f64 {
        1.0 / (self.dims[0] as f64).sqrt()
    }
}

/// Output, and gradients of the variables for a gradient of the output drawn at random.
fn both(out: &Tensor, variables: &[&Var]) -> Result<Vec<Tensor>> {
    // Rounded to the narrowest type, so that all types have the same.
    let dout = random(99, out.dims(), DType::BF16).to_dtype(out.dtype())?;
    let gradients = out.mul(&dout)?.sum_all()?.backward()?;
    let mut results = vec![out.detach()];
    for variable in variables {
        results.push(gradients.get(variable).expect("no gradient").clone());
    }
    Ok(results)
}

#[track_caller]
fn assert_all_close(context: &str, given: &[Tensor], expected: &[Tensor], allowed: f64) {
    for (name, (given, expected)) in
        ["out", "dq", "dk", "dv", "dbias", "dsinks"].iter().zip(given.iter().zip(expected))
    {
        assert_close(&format!("{context}: {name}"), given, expected, allowed);
    }
}

#[test]
fn outputs_and_gradients_agree_with_matmul_and_softmax() -> Result<()> {
    for device in devices() {
        for case in CASES {
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                let [q, k, v] = case.inputs(dtype);
                let options = Options { device: device.clone(), ..Options::causal(case.causal) };
                let given = both(&sdpa(&q, &k, &v, &options)?, &[&q, &k, &v])?;
                assert!(given.iter().all(|tensor| tensor.dtype() == dtype));

                let [q, k, v] = [&q, &k, &v].map(|variable| wide(variable));
                let scores = Scores { hidden: case.hidden(), ..Scores::default() };
                let expected = both(&unfused(&q, &k, &v, case.scale(), &scores)?, &[&q, &k, &v])?;
                assert_all_close(
                    &format!("{dtype:?} {case:?} on {device:?}"),
                    &given,
                    &expected,
                    allowance(dtype),
                );
            }
        }
    }
    Ok(())
}

#[test]
fn masks_scales_and_backends_are_those_of_the_options() -> Result<()> {
    let case = CASES[1];
    let [q, k, v] = case.inputs(DType::F32);
    let Sizes { seq: [sq, sk], heads: [heads, _], .. } = case;
    // Every query sees its own key at least.
    let hidden: Vec<u8> =
        (0..heads * sq * sk).map(|n| u8::from(n % 3 == 0 && n % sk != n / sk % sq)).collect();
    let hidden = Tensor::from_vec(hidden, (heads, sq, sk), &CPU)?;
    for device in devices() {
        let mut options = Options { mask: Some(hidden.eq(0u8)?), device, ..Options::default() };
        options.attention.scale = Some(-0.7);
        options.attention.backends = vec![Backend::Math];
        let given = both(&sdpa(&q, &k, &v, &options)?, &[&q, &k, &v])?;
        let [q, k, v] = [&q, &k, &v].map(|variable| wide(variable));
        let scores = Scores { hidden: Some(hidden.clone()), ..Scores::default() };
        let expected = both(&unfused(&q, &k, &v, -0.7, &scores)?, &[&q, &k, &v])?;
        assert_all_close("masked", &given, &expected, allowance(DType::F32));
    }
    Ok(())
}

#[test]
fn a_tracked_bias_gets_its_gradient() -> Result<()> {
    for device in devices() {
        for (case, shape) in
            [(CASES[1], vec![1, 4, 1, 33]), (CASES[3], vec![5, 70]), (CASES[1], vec![2, 1, 17, 33])]
        {
            let [q, k, v] = case.inputs(DType::F32);
            let bias = Var::from_tensor(&random(7, &shape, DType::F32))?;
            let options = Options {
                device: device.clone(),
                bias: Some(bias.as_tensor().clone()),
                ..Options::causal(case.causal)
            };
            let out = sdpa(&q, &k, &v, &options)?;
            let given = both(&out, &[&q, &k, &v, &bias])?;

            let wide_inputs = [&q, &k, &v].map(|variable| wide(variable));
            let wide_bias = wide(&bias);
            let scores = Scores {
                hidden: case.hidden(),
                bias: Some(wide_bias.as_tensor().clone()),
                ..Scores::default()
            };
            let [wq, wk, wv] = &wide_inputs;
            let expected = both(&unfused(wq, wk, wv, case.scale(), &scores)?, &[wq, wk, wv, &wide_bias])?;
            assert_all_close(
                &format!("bias {shape:?} on {device:?}"),
                &given,
                &expected,
                allowance(DType::F32),
            );

            // The graph can be walked again.
            for (once, again) in given.iter().zip(both(&out, &[&q, &k, &v, &bias])?) {
                assert_same("again", &again, once);
            }
            // Alone: nothing of q, k, v is tracked.
            let [q, k, v] = [&q, &k, &v].map(|variable| variable.as_detached_tensor());
            let alone = both(&sdpa(&q, &k, &v, &options)?, &[&bias])?;
            assert_same("the bias alone", &alone[1], &given[4]);
            // Not tracked: the same output.
            let fixed = Options { bias: Some(bias.as_detached_tensor()), ..options };
            assert_same("a fixed bias", &sdpa(&q, &k, &v, &fixed)?, &given[0]);
        }
    }
    Ok(())
}

#[test]
fn views_give_the_results_of_their_copies() -> Result<()> {
    let (batch, seq, heads, dim) = (2, 19, 3, 16);
    let fused = Var::from_tensor(&random(3, &[batch, seq, 3, heads, dim], DType::F32))?;
    let part = |i: usize| fused.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2);
    let transposed = Var::from_tensor(&random(4, &[batch, heads, dim, seq + 5], DType::F32))?;
    let single = Var::from_tensor(&random(5, &[1, 1, 30, dim], DType::F32))?;
    for device in devices() {
        let options = Options { device, ..Options::causal(Causal::LowerRight) };
        let q = part(0)?;
        let k = transposed.t()?.narrow(2, 2, seq)?;
        let v = single.narrow(2, 4, seq)?.broadcast_as((batch, heads, seq, dim))?;
        assert!(![&q, &k, &v].iter().any(|view| view.is_contiguous()));
        let variables = [&fused, &transposed, &single];
        let views = both(&sdpa(&q, &k, &v, &options)?, &variables)?;
        let copies =
            both(&sdpa(&q.contiguous()?, &k.contiguous()?, &v.contiguous()?, &options)?, &variables)?;
        for (view, copy) in views.iter().zip(&copies) {
            assert_same("views", view, copy);
        }
    }
    Ok(())
}

#[test]
fn the_order_of_flash_attn_and_three_dimensions_are_accepted() -> Result<()> {
    let q = random(1, &[2, 12, 3, 8], DType::F32);
    for device in devices() {
        let mut options = Options { device, ..Options::default() };
        let expected = sdpa(&q.transpose(1, 2)?, &q.transpose(1, 2)?, &q.transpose(1, 2)?, &options)?;
        options.attention.layout = Layout::Bshd;
        assert_same("[b, s, h, d]", &sdpa(&q, &q, &q, &options)?, &expected.transpose(1, 2)?);
        let one = q.narrow(2, 1, 1)?.squeeze(2)?;
        assert_same("[b, s, d]", &sdpa(&one, &one, &one, &options)?, &expected.narrow(1, 1, 1)?.squeeze(1)?);
    }
    Ok(())
}

#[test]
fn recomputing_gives_what_keeping_gives() -> Result<()> {
    for device in devices() {
        let [q, k, v] = CASES[2].inputs(DType::F16);
        let bias = Var::from_tensor(&random(7, &[40, 40], DType::F16))?;
        for bias in [None, Some(bias.as_tensor().clone())] {
            let keep = Options { device: device.clone(), bias, ..Options::causal(Causal::UpperLeft) };
            let kept = both(&sdpa(&q, &k, &v, &keep)?, &[&q, &k, &v])?;
            let again = Options { recompute: true, ..keep };
            let recomputed = both(&sdpa(&q, &k, &v, &again)?, &[&q, &k, &v])?;
            for (kept, recomputed) in kept.iter().zip(&recomputed) {
                assert_same("recomputed", recomputed, kept);
            }
        }
    }
    Ok(())
}

#[test]
fn a_tensor_that_is_query_key_and_value_gets_the_sum_of_its_gradients() -> Result<()> {
    for device in devices() {
        let x = Var::from_tensor(&random(1, &[1, 2, 20, 16], DType::F32))?;
        let options = Options { device, ..Options::causal(Causal::UpperLeft) };
        let given = both(&sdpa(&x, &x, &x, &options)?, &[&x])?;
        let x = wide(&x);
        let scores = Scores { hidden: Some(hidden(Causal::UpperLeft, 20, 20)), ..Scores::default() };
        let expected = both(&unfused(&x, &x, &x, 0.25, &scores)?, &[&x])?;
        assert_close("dx", &given[1], &expected[1], allowance(DType::F32));
    }
    Ok(())
}

#[test]
fn empty_sequences_give_empty_or_zero_results() -> Result<()> {
    for device in devices() {
        let options = Options { device, ..Options::default() };
        let tensor = |seq| random(1, &[1, 2, seq, 8], DType::F32);
        assert_eq!(sdpa(&tensor(0), &tensor(4), &tensor(4), &options)?.dims(), [1, 2, 0, 8]);
        assert_eq!(elements(&sdpa(&tensor(3), &tensor(0), &tensor(0), &options)?), [0.0; 48]);
    }
    Ok(())
}

#[test]
fn tracked_sinks_get_their_gradient_beside_a_bias() -> Result<()> {
    for device in devices() {
        let case = CASES[1];
        let [q, k, v] = case.inputs(DType::F32);
        let sinks = Var::from_tensor(&random(8, &[4], DType::F32))?;
        let bias = Var::from_tensor(&random(7, &[17, 33], DType::F32))?;
        let options = Options {
            sinks: Some(sinks.as_tensor().clone()),
            bias: Some(bias.as_tensor().clone()),
            device,
            ..Options::default()
        };
        let given = both(&sdpa(&q, &k, &v, &options)?, &[&q, &k, &v, &bias, &sinks])?;
        let variables = [&q, &k, &v, &bias, &sinks].map(|variable| wide(variable));
        let [q, k, v, bias, sinks] = &variables;
        let scores = Scores {
            sinks: Some(sinks.as_tensor().clone()),
            bias: Some(bias.as_tensor().clone()),
            ..Scores::default()
        };
        let expected = both(&unfused(q, k, v, case.scale(), &scores)?, &[q, k, v, bias, sinks])?;
        assert_all_close("sinks and bias", &given, &expected, allowance(DType::F32));
    }
    Ok(())
}

#[test]
fn dropout_is_that_of_the_attention_weights() -> Result<()> {
    for device in devices() {
        for case in &CASES[1..] {
            let [q, k, v] = case.inputs(DType::F32);
            let mut options = Options { device: device.clone(), ..Options::causal(case.causal) };
            let dropout = Dropout { p: 0.3, seed: 1 << 40, offset: 5 };
            options.attention.dropout = Some(dropout);
            let given = both(&sdpa(&q, &k, &v, &options)?, &[&q, &k, &v])?;

            // Equal scores give equal weights, of which the dropped ones are 0.
            let Sizes { batch, heads: [heads, _], seq: [sq, sk], .. } = *case;
            let ours = |seq| to_attention(&Tensor::zeros((batch, heads, seq, 1), DType::F32, &CPU)?, &cpu());
            let (zero_q, zero_k) = (ours(sq)?, ours(sk)?);
            let plain = flash_attention::sdpa(&zero_q, &zero_k, &zero_k).backend(Backend::Math);
            let plain = plain.dropout_at(dropout.p, dropout.seed, dropout.offset).return_weights(true);
            let weights =
                from_attention(&plain.run().unwrap().weights.unwrap(), &CPU)?.to_dtype(DType::F64)?;
            let factors = (weights.ne(0.0)?.to_dtype(DType::F64)? / (1.0 - f64::from(dropout.p)))?;

            let [q, k, v] = [&q, &k, &v].map(|variable| wide(variable));
            let scores = Scores { hidden: case.hidden(), factors: Some(factors), ..Scores::default() };
            let expected = both(&unfused(&q, &k, &v, case.scale(), &scores)?, &[&q, &k, &v])?;
            assert_all_close(&format!("{case:?}"), &given, &expected, allowance(DType::F32));
        }
    }
    Ok(())
}

fn cpu() -> flash_attention::Device {
    flash_attention::Device::cpu()
}
