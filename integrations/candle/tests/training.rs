//! The model of the example `train_char` learns.

// The example's own files; it uses more of them than this test.
#[allow(dead_code)]
#[path = "../examples/train_char/data.rs"]
mod data;
#[allow(dead_code)]
#[path = "../examples/train_char/model.rs"]
mod model;
#[allow(dead_code)]
#[path = "../examples/train_char/training.rs"]
mod training;

use candle_core::{DType, Device, Result};
use candle_nn::{VarBuilder, VarMap};
use data::Data;
use flash_attention_candle::Config;
use model::{Model, Sizes};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use training::{Plan, Training};

const PLAN: Plan = Plan {
    batch: 8,
    context: 32,
    blocks: 2,
    attention: Config { embed_dim: 32, heads: 4, dropout: 0.1, bias: true },
    seed: 1,
};

#[test]
fn thirty_steps_bring_the_loss_down_on_text_that_was_not_trained_on() -> Result<()> {
    let mut training = Training::new(PLAN)?;
    let uniform = (training.vocabulary() as f32).ln();
    let before = training.held_out_loss()?;
    assert!((before - uniform).abs() < 0.5, "{before} before the first step, {uniform} for guessing");
    let losses = (0..30).map(|_| training.step()).collect::<Result<Vec<f32>>>()?;
    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
    let (first, last) = (mean(&losses[..5]), mean(&losses[25..]));
    assert!(last < first - 0.4, "{first} in the first steps, {last} in the last ones");
    let after = training.held_out_loss()?;
    assert!(after < before - 0.6, "{before} before, {after} after");
    Ok(())
}

#[test]
fn every_parameter_of_the_model_gets_a_gradient() -> Result<()> {
    let variables = VarMap::new();
    let builder = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let data = Data::new(PLAN.context);
    let sizes = Sizes {
        vocabulary: data.vocabulary(),
        context: PLAN.context,
        blocks: PLAN.blocks,
        attention: PLAN.attention,
    };
    let model = Model::new(sizes, &variables, builder, 1)?;
    let (characters, next) = data.batch(2, &mut SmallRng::seed_from_u64(1))?;
    let gradients = model.loss(&characters, &next, true)?.backward()?;
    for (name, variable) in variables.data().lock().unwrap().iter() {
        let gradient = gradients.get(variable).unwrap_or_else(|| panic!("{name} has no gradient"));
        assert!(gradient.sqr()?.sum_all()?.to_scalar::<f32>()? > 0.0, "the gradient of {name} is 0");
    }
    Ok(())
}

#[test]
fn a_training_run_can_be_repeated() -> Result<()> {
    let run = || {
        let mut training = Training::new(PLAN)?;
        let losses = (0..3).map(|_| training.step()).collect::<Result<Vec<f32>>>()?;
        Ok::<_, candle_core::Error>((losses, training.continued("The ", 20)?))
    };
    assert_eq!(run()?, run()?);
    Ok(())
}
