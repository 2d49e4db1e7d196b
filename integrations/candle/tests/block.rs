//! `CausalSelfAttention` against the same block written from candle's matmul and softmax.

mod support;

use candle_core::{DType, ModuleT, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use flash_attention_candle::flash_attention::{self, Backend, Causal, Dropout};
use flash_attention_candle::{CausalSelfAttention, Config};
use support::*;

/// The parameters in the order in which the tests hold them.
const NAMES: [&str; 4] = ["c_attn.weight", "c_proj.weight", "c_attn.bias", "c_proj.bias"];

/// A block and its parameters, drawn by `seed`.
fn block(config: Config, seed: u64) -> Result<(CausalSelfAttention, Vec<Var>)> {
    let variables = VarMap::new();
    let builder = VarBuilder::from_varmap(&variables, DType::F32, &CPU);
    let block = CausalSelfAttention::new(config, builder.pp("attn"))?;
    let data = variables.data().lock().unwrap();
    let mut parameters = vec![];
    for (i, name) in NAMES.iter().take(if config.bias { 4 } else { 2 }).enumerate() {
        let variable = data[&format!("attn.{name}")].clone();
        let values = random(seed + i as u64, variable.dims(), DType::F32);
        // Scores that differ, and outputs of about 1.
        variable.set(&(values * (2.0 / (config.embed_dim as f64).sqrt()))?)?;
        parameters.push(variable);
    }
    assert_eq!(parameters.len(), data.len());
    Ok((block, parameters))
}

/// What dropout multiplies attention weights and outputs with.
struct Factors {
    weights: Tensor,
    outputs: Tensor,
}

/// The block from candle's operations.
fn unfused_block(
    config: Config,
    parameters: &[Var],
    x: &Tensor,
    factors: Option<&Factors>,
) -> Result<Tensor> {
    let Config { embed_dim, heads, .. } = config;
    let (batch, seq, _) = x.dims3()?;
    let linear = |x: &Tensor, i: usize| {
        let y = x.broadcast_matmul(&parameters[i].t()?)?;
        parameters.get(i + 2).map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))
    };
    let qkv = linear(x, 0)?;
    let part = |i: usize| {
        let part = qkv.narrow(2, i * embed_dim, embed_dim)?.contiguous()?;
        part.reshape((batch, seq, heads, embed_dim / heads))?.transpose(1, 2)?.contiguous()
    };
    let scores = Scores {
        hidden: Some(hidden(Causal::UpperLeft, seq, seq)),
        factors: factors.map(|factors| factors.weights.clone()),
        ..Scores::default()
    };
    let scale = 1.0 / ((embed_dim / heads) as f64).sqrt();
    let y = unfused(&part(0)?, &part(1)?, &part(2)?, scale, &scores)?;
    let y = linear(&y.transpose(1, 2)?.contiguous()?.reshape((batch, seq, embed_dim))?, 1)?;
    factors.map_or(Ok(y.clone()), |factors| y.mul(&factors.outputs))
}

/// Output and gradients of the input and all parameters.
fn both(y: &Tensor, x: &Var, parameters: &[Var]) -> Result<Vec<Tensor>> {
    let dy = random(99, y.dims(), DType::F32).to_dtype(y.dtype())?;
    let gradients = y.mul(&dy)?.sum_all()?.backward()?;
    let variables = std::iter::once(x).chain(parameters);
    let gradient = |variable: &Var| gradients.get(variable).expect("no gradient").clone();
    Ok(std::iter::once(y.detach()).chain(variables.map(gradient)).collect())
}

/// Output and gradients in f64, from candle's operations.
fn expected(config: Config, parameters: &[Var], x: &Var, factors: Option<&Factors>) -> Result<Vec<Tensor>> {
    let parameters: Vec<Var> = parameters.iter().map(|parameter| wide(parameter)).collect();
    let x = wide(x);
    both(&unfused_block(config, &parameters, &x, factors)?, &x, &parameters)
}

#[track_caller]
fn assert_all_close(context: &str, given: &[Tensor], expected: &[Tensor]) {
    assert_eq!(given.len(), expected.len());
    let names = ["y", "x"].iter().chain(&NAMES);
    for (name, (given, expected)) in names.zip(given.iter().zip(expected)) {
        assert_close(&format!("{context}: {name}"), given, expected, allowance(DType::F32));
    }
}

/// Batch, sequence and block.
const CASES: [(usize, usize, Config); 5] = [
    (1, 1, Config { embed_dim: 4, heads: 1, dropout: 0.0, bias: true }),
    (2, 16, Config { embed_dim: 32, heads: 4, dropout: 0.0, bias: true }),
    (3, 33, Config { embed_dim: 48, heads: 3, dropout: 0.0, bias: false }),
    (1, 70, Config { embed_dim: 128, heads: 2, dropout: 0.0, bias: true }),
    (2, 9, Config { embed_dim: 24, heads: 24, dropout: 0.0, bias: false }),
];

#[test]
fn outputs_and_all_gradients_agree_with_the_unfused_block() -> Result<()> {
    for device in devices() {
        for (batch, seq, config) in CASES {
            let (mut block, parameters) = block(config, 1)?;
            if let Some(device) = &device {
                block = block.with_device(device.clone());
            }
            let x = Var::from_tensor(&random(5, &[batch, seq, config.embed_dim], DType::F32))?;
            let given = both(&block.forward_t(&x, true)?, &x, &parameters)?;
            let expected = expected(config, &parameters, &x, None)?;
            assert_all_close(&format!("{batch} x {seq}, {config:?} on {device:?}"), &given, &expected);
        }
    }
    Ok(())
}

#[test]
fn without_dropout_training_is_inference() -> Result<()> {
    let (_, _, config) = CASES[1];
    let x = random(5, &[2, 16, config.embed_dim], DType::F32);
    let (plain, _) = block(config, 1)?;
    let expected = plain.forward(&x)?;
    assert_same("p = 0", &plain.forward_t(&x, true)?, &expected);
    assert_eq!(plain.step(), 0);
    let (dropping, _) = block(Config { dropout: 0.5, ..config }, 1)?;
    assert_same("inference", &dropping.forward_t(&x, false)?, &expected);
    assert_same("inference", &dropping.forward(&x)?, &expected);
    assert_eq!(dropping.step(), 0);
    Ok(())
}

#[test]
fn every_step_drops_others_and_a_run_can_be_repeated() -> Result<()> {
    let config = Config { dropout: 0.25, ..CASES[1].2 };
    let x = random(5, &[2, 16, config.embed_dim], DType::F32);
    let (one, _) = block(config, 1)?;
    let steps = [one.forward_t(&x, true)?, one.forward_t(&x, true)?];
    assert_eq!(one.step(), 2);
    assert_ne!(elements(&steps[0]), elements(&steps[1]));

    let (again, _) = block(config, 1)?;
    for step in &steps {
        assert_same("a second run", &again.forward_t(&x, true)?, step);
    }
    again.set_step(1);
    assert_same("step 1 again", &again.forward_t(&x, true)?, &steps[1]);

    let (other, _) = block(config, 1)?;
    assert_ne!(elements(&other.with_seed(9).forward_t(&x, true)?), elements(&steps[0]));
    Ok(())
}

#[test]
fn blocks_of_a_model_have_seeds_of_their_own() -> Result<()> {
    let variables = VarMap::new();
    let builder = VarBuilder::from_varmap(&variables, DType::F32, &CPU);
    let config = Config { dropout: 0.1, ..CASES[1].2 };
    let seed = |path: &str| {
        Ok::<_, candle_core::Error>(CausalSelfAttention::new(config, builder.pp(path))?.dropout(0).seed)
    };
    assert_ne!(seed("h.0.attn")?, seed("h.1.attn")?);
    assert_eq!(seed("h.0.attn")?, seed("h.0.attn")?);
    Ok(())
}

/// The factors of a training step, as they show from outside.
fn factors(config: Config, dropout: Dropout, batch: usize, seq: usize) -> Result<Factors> {
    // Equal scores give equal weights, of which the dropped ones are 0.
    let cpu = flash_attention::Device::cpu();
    let heads = config.heads;
    let zeros =
        flash_attention::Tensor::from_slice(&cpu, &vec![0f32; batch * heads * seq], &[batch, heads, seq, 1])
            .unwrap();
    let sdpa = flash_attention::sdpa(&zeros, &zeros, &zeros).backend(Backend::Math);
    let sdpa = sdpa.dropout_at(dropout.p, dropout.seed, dropout.offset).return_weights(true);
    let weights = sdpa.run().unwrap().weights.unwrap().to_f64().unwrap();
    let kept = 1.0 / (1.0 - f64::from(dropout.p));
    let weights = weights.iter().map(|&weight| if weight == 0.0 { 0.0 } else { kept }).collect::<Vec<_>>();

    // A block that puts out 1 everywhere, but for dropout.
    let (ones, parameters) = block(Config { bias: true, ..config }, 1)?;
    parameters[1].set(&parameters[1].zeros_like()?)?;
    parameters[3].set(&parameters[3].ones_like()?)?;
    let ones = ones.with_seed(dropout.seed);
    ones.set_step(dropout.offset);
    let x = random(5, &[batch, seq, config.embed_dim], DType::F32);
    let outputs = ones.forward_t(&x, true)?.detach().to_dtype(DType::F64)?;
    let weights = Tensor::from_vec(weights, (batch, heads, seq, seq), &CPU)?;
    Ok(Factors { weights, outputs })
}

#[test]
fn training_with_dropout_agrees_with_the_unfused_block_and_the_same_masks() -> Result<()> {
    for device in devices() {
        for (batch, seq, config) in &CASES[1..] {
            for p in [0.1, 0.5] {
                let config = Config { dropout: p, ..*config };
                let (mut block, parameters) = block(config, 1)?;
                if let Some(device) = &device {
                    block = block.with_device(device.clone());
                }
                block.set_step(7);
                let factors = factors(config, block.dropout(7), *batch, *seq)?;
                for factors in [&factors.weights, &factors.outputs] {
                    let dropped = elements(factors).iter().filter(|&&factor| factor == 0.0).count() as f64;
                    let share = dropped / factors.elem_count() as f64;
                    assert!((share - f64::from(p)).abs() < 0.06, "{share} of {p} is dropped");
                }
                let x = Var::from_tensor(&random(5, &[*batch, *seq, config.embed_dim], DType::F32))?;
                let given = both(&block.forward_t(&x, true)?, &x, &parameters)?;
                let expected = expected(config, &parameters, &x, Some(&factors))?;
                assert_all_close(&format!("{batch} x {seq}, {config:?} on {device:?}"), &given, &expected);
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_under_dropout_are_those_of_finite_differences() -> Result<()> {
    let config = Config { embed_dim: 16, heads: 2, dropout: 0.3, bias: true };
    let (block, parameters) = block(config, 1)?;
    let x = Var::from_tensor(&random(5, &[1, 12, 16], DType::F32))?;
    let dy = random(99, x.dims(), DType::F32);
    let loss = || {
        block.set_step(3);
        block.forward_t(&x, true)?.mul(&dy)?.sum_all()
    };
    let gradients = loss()?.backward()?;
    for (i, variable) in std::iter::once(&x).chain(&parameters).enumerate() {
        let direction = random(40 + i as u64, variable.dims(), DType::F32);
        let gradient = elements(gradients.get(variable).expect("no gradient"));
        let expected: f64 = gradient.iter().zip(elements(&direction)).map(|(g, d)| g * d).sum();
        let (start, step) = (variable.as_tensor().copy()?, 1e-2);
        let at = |shift: f64| {
            variable.set(&(&start + (&direction * shift)?)?)?;
            Ok::<_, candle_core::Error>(f64::from(loss()?.to_scalar::<f32>()?))
        };
        let difference = (at(step)? - at(-step)?) / (2.0 * step);
        variable.set(&start)?;
        let size: f64 =
            gradient.iter().zip(elements(&direction)).map(|(g, d)| (g * d).powi(2)).sum::<f64>().sqrt();
        assert!(
            (difference - expected).abs() < 5e-3 * size,
            "{i}: {difference}, not {expected} (size {size})"
        );
    }
    Ok(())
}
