//! Training: batches, AdamW, and the losses.

use candle_core::{DType, Device, Result};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder, VarMap};
use flash_attention_candle::Config;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::data::Data;
use crate::model::{Model, Sizes};

/// How to train.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Pieces of text a step.
    pub batch: usize,
    /// Characters a piece.
    pub context: usize,
    /// Blocks of the model.
    pub blocks: usize,
    /// Columns and heads of self-attention, and the dropout of the model.
    pub attention: Config,
    /// Of everything that is random.
    pub seed: u64,
}

/// A model, what it was trained on, and how.
pub struct Training {
    plan: Plan,
    data: Data,
    model: Model,
    optimizer: AdamW,
    generator: SmallRng,
}

impl Training {
    /// A model before its first step.
    pub fn new(plan: Plan) -> Result<Training> {
        let data = Data::new(plan.context);
        let variables = VarMap::new();
        let builder = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
        let sizes = Sizes {
            vocabulary: data.vocabulary(),
            context: plan.context,
            blocks: plan.blocks,
            attention: plan.attention,
        };
        let model = Model::new(sizes, &variables, builder, plan.seed)?;
        let parameters = ParamsAdamW { lr: 3e-3, weight_decay: 0.01, ..ParamsAdamW::default() };
        let optimizer = AdamW::new(variables.all_vars(), parameters)?;
        Ok(Training { plan, data, model, optimizer, generator: SmallRng::seed_from_u64(plan.seed + 1) })
    }

    /// One step; its loss, in nats a character.
    pub fn step(&mut self) -> Result<f32> {
        let (characters, next) = self.data.batch(self.plan.batch, &mut self.generator)?;
        let loss = self.model.loss(&characters, &next, true)?;
        self.optimizer.backward_step(&loss)?;
        loss.to_scalar()
    }

    /// The loss on text that is not trained on, in nats a character.
    pub fn held_out_loss(&self) -> Result<f32> {
        let (characters, next) = self.data.held_out()?;
        self.model.loss(&characters, &next, false)?.to_scalar()
    }

    /// What the model writes after `text`.
    pub fn continued(&mut self, text: &str, count: usize) -> Result<String> {
        let numbers = self.model.continued(&self.data.numbers(text), count, &mut self.generator)?;
        Ok(self.data.text(&numbers))
    }

    /// The different characters of the text.
    pub fn vocabulary(&self) -> usize {
        self.data.vocabulary()
    }
}
