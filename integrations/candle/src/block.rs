//! The causal self-attention block of nanoGPT and of PyTorch's tutorial on scaled dot product attention.

use std::sync::atomic::{AtomicU32, Ordering};

use candle_core::{Module, ModuleT, Result, Tensor};
use candle_nn::{Linear, VarBuilder, linear_b};
use flash_attention::{Causal, Device, Dropout, Layout};

use crate::dropout::{check_share, drop_elements};
use crate::options::Options;
use crate::sdpa::sdpa;

/// What a [`CausalSelfAttention`] is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Columns of the input and the output: a multiple of `heads`.
    pub embed_dim: usize,
    /// Heads, each of `embed_dim / heads` columns.
    pub heads: usize,
    /// The share of attention weights and of outputs that training drops, at least 0 and below 1.
    pub dropout: f32,
    /// Whether the two projections have a bias.
    pub bias: bool,
}

/// Causal self-attention: one projection to queries, keys and values, heads, scaled dot product attention in which a
/// position sees itself and those before it, a projection back, and dropout of attention weights and of the result.
///
/// ```
/// use candle_core::{DType, Device, ModuleT, Tensor};
/// use candle_nn::{VarBuilder, VarMap};
/// use flash_attention_candle::{CausalSelfAttention, Config};
///
/// let variables = VarMap::new();
/// let builder = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
/// let config = Config { embed_dim: 64, heads: 4, dropout: 0.1, bias: true };
/// let block = CausalSelfAttention::new(config, builder.pp("attn"))?;
///
/// let x = Tensor::randn(0f32, 1.0, (2, 16, 64), &Device::Cpu)?;
/// let y = block.forward_t(&x, true)?;
/// let gradients = y.sqr()?.mean_all()?.backward()?;
/// assert_eq!(y.dims(), x.dims());
/// assert!(variables.all_vars().iter().all(|variable| gradients.get(variable).is_some()));
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Randomness
///
/// What a training step drops is a function of the block's seed and of how many training steps it has made. The seed is
/// the path of its parameters, hashed, so that the blocks of a model differ and a run can be repeated;
/// [`with_seed`](Self::with_seed) sets another one. [`set_step`](Self::set_step) takes up a run where it stopped, or repeats a
/// step.
#[derive(Debug)]
pub struct CausalSelfAttention {
    config: Config,
    projection_in: Linear,
    projection_out: Linear,
    seed: u64,
    step: AtomicU32,
    device: Option<Device>,
}

impl CausalSelfAttention {
    /// A block with the parameters `c_attn.weight [3 * embed_dim, embed_dim]`, `c_proj.weight [embed_dim, embed_dim]` and,
    /// with a bias, `c_attn.bias` and `c_proj.bias`: nanoGPT's names and shapes.
    ///
    /// # Errors
    /// Where the heads do not divide the columns, the dropout is no share, or `builder` lacks a parameter.
    pub fn new(config: Config, builder: VarBuilder) -> Result<CausalSelfAttention> {
        let Config { embed_dim, heads, dropout, bias } = config;
        if heads == 0 || embed_dim == 0 || embed_dim % heads != 0 {
            candle_core::bail!(
                "embed_dim is {embed_dim}; it must be a positive multiple of heads, which is {heads}"
            );
        }
        check_share(dropout)?;
        Ok(CausalSelfAttention {
            config,
            projection_in: linear_b(embed_dim, 3 * embed_dim, bias, builder.pp("c_attn"))?,
            projection_out: linear_b(embed_dim, embed_dim, bias, builder.pp("c_proj"))?,
            seed: hash(&builder.prefix()),
            step: AtomicU32::new(0),
            device: None,
        })
    }

    /// The block with another seed of its dropout.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The block with attention computed on another device; see [`Options::device`].
    #[must_use]
    pub fn with_device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// What it is made of.
    pub fn config(&self) -> Config {
        self.config
    }

    /// How many training steps it has made, modulo 2³². Without dropout it makes none.
    pub fn step(&self) -> u32 {
        self.step.load(Ordering::Relaxed)
    }

    /// Sets how many training steps it has made.
    pub fn set_step(&self, step: u32) {
        self.step.store(step, Ordering::Relaxed);
    }

    /// The dropout of attention weights in a training step; the result's has the same share, seed and offset.
    pub fn dropout(&self, step: u32) -> Dropout {
        Dropout { p: self.config.dropout, seed: self.seed, offset: step }
    }

    /// The block's output for inference, without dropout: `[batch, seq, embed_dim]` for an `x` of that shape.
    ///
    /// # Errors
    /// As [`forward_t`](ModuleT::forward_t).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.attend(x, None)
    }

    fn attend(&self, x: &Tensor, dropout: Option<Dropout>) -> Result<Tensor> {
        let Config { embed_dim, heads, .. } = self.config;
        let &[batch, seq, columns] = x.dims() else {
            candle_core::bail!("x has the shape {:?}; it must be [batch, seq, {embed_dim}]", x.dims());
        };
        if columns != embed_dim {
            candle_core::bail!("x has {columns} columns, but the block has {embed_dim}; they must be equal");
        }
        let fused = self.projection_in.forward(x)?.reshape((batch, seq, 3, heads, embed_dim / heads))?;
        // Views: no copy before the operation's own.
        let part = |i| fused.narrow(2, i, 1)?.squeeze(2);
        let mut options = Options::causal(Causal::UpperLeft);
        options.attention.layout = Layout::Bshd;
        options.attention.dropout = dropout;
        options.device = self.device.clone();
        let heads = sdpa(&part(0)?, &part(1)?, &part(2)?, &options)?;
        let y = self.projection_out.forward(&heads.reshape((batch, seq, embed_dim))?)?;
        match dropout {
            Some(dropout) => drop_elements(&y, &dropout),
            None => Ok(y),
        }
    }
}

impl ModuleT for CausalSelfAttention {
    /// The block's output `[batch, seq, embed_dim]` for an `x` of that shape; with `train`, with dropout, and one step on.
    ///
    /// # Errors
    /// Where `x` has another shape or a type that attention does not take; what goes wrong in candle or on a device.
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        if !train || self.config.dropout == 0.0 {
            return self.attend(x, None);
        }
        let step = self.step.fetch_add(1, Ordering::Relaxed);
        self.attend(x, Some(self.dropout(step)))
    }
}

/// FNV-1a: the same on every machine, in every version.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
