//! A small model of characters: embeddings, blocks of causal self-attention and a perceptron, and a projection to the next
//! character.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use candle_core::{D, Device, ModuleT, Result, Tensor};
use candle_nn::{
    Embedding, LayerNorm, Linear, Module, VarBuilder, VarMap, embedding, layer_norm_no_bias, linear,
    linear_no_bias,
};
use flash_attention_candle::{CausalSelfAttention, Config};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Sizes of a model.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Different characters.
    pub vocabulary: usize,
    /// The longest text that it sees at once.
    pub context: usize,
    /// Blocks.
    pub blocks: usize,
    /// Columns and heads of self-attention, and the dropout of the whole model.
    pub attention: Config,
}

/// The model.
pub struct Model {
    sizes: Sizes,
    characters: Embedding,
    positions: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

struct Block {
    norm_attention: LayerNorm,
    attention: CausalSelfAttention,
    norm_perceptron: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

/// A norm without a bias: candle computes one with a bias by a fused operation that has no backward.
fn norm(columns: usize, builder: VarBuilder) -> Result<LayerNorm> {
    layer_norm_no_bias(columns, 1e-5, builder)
}

impl Block {
    fn new(config: Config, builder: VarBuilder) -> Result<Block> {
        let columns = config.embed_dim;
        Ok(Block {
            norm_attention: norm(columns, builder.pp("ln_1"))?,
            attention: CausalSelfAttention::new(config, builder.pp("attn"))?,
            norm_perceptron: norm(columns, builder.pp("ln_2"))?,
            widen: linear(columns, 4 * columns, builder.pp("mlp.c_fc"))?,
            narrow: linear(4 * columns, columns, builder.pp("mlp.c_proj"))?,
        })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let x = (x + self.attention.forward_t(&self.norm_attention.forward(x)?, train)?)?;
        let hidden = self.widen.forward(&self.norm_perceptron.forward(&x)?)?.relu()?;
        &x + self.narrow.forward(&hidden)?
    }
}

impl Model {
    /// A model whose parameters are put into `variables`, drawn by `seed`.
    pub fn new(sizes: Sizes, variables: &VarMap, builder: VarBuilder, seed: u64) -> Result<Model> {
        let columns = sizes.attention.embed_dim;
        let block = |i: usize| Block::new(sizes.attention, builder.pp(format!("h.{i}")));
        let model = Model {
            sizes,
            characters: embedding(sizes.vocabulary, columns, builder.pp("wte"))?,
            positions: embedding(sizes.context, columns, builder.pp("wpe"))?,
            blocks: (0..sizes.blocks).map(block).collect::<Result<_>>()?,
            norm: norm(columns, builder.pp("ln_f"))?,
            head: linear_no_bias(columns, sizes.vocabulary, builder.pp("lm_head"))?,
        };
        initialise(variables, seed)?;
        Ok(model)
    }

    /// The scores of the next character at every place: `[batch, seq, vocabulary]` for characters `[batch, seq]`.
    pub fn forward(&self, characters: &Tensor, train: bool) -> Result<Tensor> {
        let seq = characters.dim(1)?;
        let positions = self.positions.forward(&Tensor::arange(0, seq as u32, characters.device())?)?;
        let mut x = self.characters.forward(characters)?.broadcast_add(&positions)?;
        for block in &self.blocks {
            x = block.forward(&x, train)?;
        }
        self.head.forward(&self.norm.forward(&x)?)
    }

    /// The mean cross-entropy of the next characters, in nats.
    pub fn loss(&self, characters: &Tensor, next: &Tensor, train: bool) -> Result<Tensor> {
        let scores = self.forward(characters, train)?.flatten_to(1)?;
        candle_nn::loss::cross_entropy(&scores, &next.flatten_all()?)
    }

    /// `count` characters that follow `text`, each drawn by its probability.
    pub fn continued(&self, text: &[u32], count: usize, generator: &mut SmallRng) -> Result<Vec<u32>> {
        let mut text = text.to_vec();
        for _ in 0..count {
            let seen = &text[text.len().saturating_sub(self.sizes.context)..];
            let scores = self.forward(&Tensor::new(seen, &Device::Cpu)?.unsqueeze(0)?, false)?;
            let last = scores.squeeze(0)?.get(seen.len() - 1)?;
            let shares: Vec<f32> = candle_nn::ops::softmax(&last, D::Minus1)?.to_vec1()?;
            let mut rest = generator.random_range(0.0..1.0f32);
            let drawn = shares.iter().position(|share| {
                rest -= share;
                rest < 0.0
            });
            text.push(drawn.unwrap_or(shares.len() - 1) as u32);
        }
        Ok(text)
    }
}

/// Draws the weights anew: candle's own generator cannot be given a seed on the CPU.
///
/// Matrices as nanoGPT does it, with a standard deviation of 0.02; biases 0; what scales, in the norms, stays 1.
fn initialise(variables: &VarMap, seed: u64) -> Result<()> {
    let mut generator = SmallRng::seed_from_u64(seed);
    let named = variables.data().lock().unwrap_or_else(PoisonError::into_inner);
    // The map has no order of its own.
    for (name, variable) in named.iter().collect::<BTreeMap<_, _>>() {
        let shape = variable.shape().clone();
        if shape.rank() == 2 {
            // A uniform distribution of this half-width has that deviation.
            let width = 0.02 * 3f32.sqrt();
            let values: Vec<f32> =
                (0..shape.elem_count()).map(|_| generator.random_range(-width..width)).collect();
            variable.set(&Tensor::from_vec(values, shape, variable.device())?)?;
        } else if name.ends_with("bias") {
            variable.set(&variable.zeros_like()?)?;
        }
    }
    Ok(())
}
