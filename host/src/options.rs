//! What a caller can choose.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::device::Progress;
use crate::device::accelerator::ProgressCallback;
use crate::tensor::Tensor;

/// Which keys a query may see by position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Causal {
    /// All of them.
    #[default]
    None,
    /// Query `i` sees the keys `j <= i`: the diagonal starts in the upper left corner (PyTorch's `is_causal`).
    UpperLeft,
    /// Query `i` sees the keys `j <= i + sk - sq`: the diagonal ends in the lower right corner (flash-attn's `causal`).
    LowerRight,
}

/// The order of the dimensions of q, k, v and out where they have four; with three they are `[batch, seq, dim]`, one head,
/// or in a ragged batch `[total, heads, dim]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `[batch, heads, seq, dim]`, PyTorch's order.
    #[default]
    Bhsd,
    /// `[batch, seq, heads, dim]`, flash-attn's order.
    Bshd,
}

/// How far a query sees to either side of the diagonal; `None` is no bound, and so is 2^30, the longest sequence.
///
/// Key `j` is visible to query `i` only if `-left <= j - i - shift <= right`. The shift is 0 with [`Causal::UpperLeft`], and
/// otherwise `keys - queries`, so that the last query stands at the last key (flash-attn's `window_size`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Window {
    /// Keys before the diagonal.
    pub left: Option<usize>,
    /// Keys after the diagonal.
    pub right: Option<usize>,
}

/// Dropout of attention weights. Which are kept is a function of these and the weight's place alone, the same on every
/// backend and device, forward and backward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The share of weights that is dropped, at least 0 and below 1. The others grow by `1 / (1 - p)`.
    pub p: f32,
    /// The seed of the generator.
    pub seed: u64,
    /// Which of the seed's masks: another one for each call of a training run.
    pub offset: u32,
}

/// A ragged batch: where the sequences begin and end in packed tensors.
///
/// Sequence `b` is rows `offsets[b]..offsets[b + 1]`; the first offset is 0, the last one the number of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ragged {
    /// Of q and out.
    pub query_offsets: Vec<usize>,
    /// Of k and v.
    pub key_offsets: Vec<usize>,
}

/// How attention is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// The first of `Flash`, `Efficient` and `Math` that can.
    #[default]
    Auto,
    /// Unfused, on the CPU: the readable reference, and the only one that returns attention weights.
    Math,
    /// Fused, tiled in shared memory, ordinary arithmetic: any GPU, any head dim to 256.
    Efficient,
    /// Fused, on tensor cores.
    Flash,
}

impl Backend {
    /// The backends in the order in which `Auto` tries them.
    pub const ORDER: [Backend; 3] = [Backend::Flash, Backend::Efficient, Backend::Math];

    /// The name in messages and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Auto => "auto",
            Backend::Math => "math",
            Backend::Efficient => "efficient",
            Backend::Flash => "flash",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// By its name: `none`, `upper-left` or `lower-right` (also with an underscore).
impl FromStr for Causal {
    type Err = String;

    fn from_str(name: &str) -> Result<Causal, String> {
        match name {
            "none" => Ok(Causal::None),
            "upper-left" | "upper_left" => Ok(Causal::UpperLeft),
            "lower-right" | "lower_right" => Ok(Causal::LowerRight),
            _ => Err(format!("'{name}' is not a causal mask; allowed are none, upper-left and lower-right")),
        }
    }
}

/// By its name: `auto`, `math`, `efficient` or `flash`.
impl FromStr for Backend {
    type Err = String;

    fn from_str(name: &str) -> Result<Backend, String> {
        let all = [Backend::Auto, Backend::Math, Backend::Efficient, Backend::Flash];
        all.into_iter()
            .find(|b| b.name() == name)
            .ok_or_else(|| format!("'{name}' is not a backend; allowed are auto, math, efficient and flash"))
    }
}

/// A function that hears how far the launches have come. Cloning shares it.
#[derive(Clone)]
pub struct OnProgress(pub(crate) Arc<ProgressCallback>);

impl OnProgress {
    /// Calls `callback` now and then while a kernel runs, from any thread. Devices that cannot tell do not call it.
    pub fn new(callback: impl Fn(Progress) + Send + Sync + 'static) -> OnProgress {
        OnProgress(Arc::new(callback))
    }
}

impl fmt::Debug for OnProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnProgress")
    }
}

/// The most parts of [`Options::splits`].
pub const MAX_SPLITS: usize = flash_attention_abi::flash::split::MAX_PARTS as usize;

/// Everything but q, k and v, with defaults that mean plain attention.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The order of the dimensions. Default: `[batch, heads, seq, dim]`.
    pub layout: Layout,
    /// Which keys a query may see by position. Default: all.
    pub causal: Causal,
    /// Factor of the scores; finite and not 0. Default: `1 / sqrt(head dim)`.
    pub scale: Option<f32>,
    /// Which keys a query may see: u8 or bool, 0 = may not; `[batch, heads, queries, keys]`, where all but the keys may be
    /// 1 or, from the left, missing (a mask of rank 3 for tensors of rank 3 is `[batch, queries, keys]`). In a ragged batch
    /// queries and keys are those of the longest sequences.
    pub mask: Option<Tensor>,
    /// Added to the scaled scores; in the type of q, shaped as a mask.
    pub bias: Option<Tensor>,
    /// How far a query sees to either side of the diagonal; together with `causal`, the keys that both allow. Default: all.
    pub window: Window,
    /// `c` in `c * tanh(score / c)`, which bounds the scaled scores before anything is added; finite and above 0.
    /// Default: none.
    pub softcap: Option<f32>,
    /// ALiBi's slopes, f32 `[heads]` or `[batch, heads]` (heads of q): `slope * |i + keys - queries - j|` is taken from the
    /// score of query `i` and key `j`. They get no gradient. Default: none.
    pub alibi: Option<Tensor>,
    /// One logit a head of q, f32 `[heads]`, that takes part in the softmax and has no value. Default: none.
    pub sinks: Option<Tensor>,
    /// The keys that count, for each batch entry: those behind them are never read. Default: all.
    pub key_lengths: Option<Vec<usize>>,
    /// Which attention weights are dropped, in training. Default: none.
    pub dropout: Option<Dropout>,
    /// The offsets of a ragged batch: q `[total queries, heads, dim]`, k and v `[total keys, heads, dim]`. Default: none.
    pub ragged: Option<Ragged>,
    /// How to compute it: the first of these that can. Default: none, which is what the innermost
    /// [`scope`](crate::backend::scope) says, or else `Auto`.
    pub backends: Vec<Backend>,
    /// Into how many parts `Flash` divides the keys in forward, so that several blocks share the keys of one query: 1 to
    /// [`MAX_SPLITS`]. More than one only it can. Default: 0, as many as keep the device's multiprocessors busy. Sums are rounded part
    /// by part: the same number gives the same bits, another one others.
    pub splits: usize,
    /// Whether `run` returns the log-sum-exp. Default: no.
    pub return_lse: bool,
    /// Whether `run` returns the attention weights, which only `Math` can. Default: no.
    pub return_weights: bool,
    /// Whether backward computes the gradient of the bias, if there is one. Default: yes.
    pub bias_gradient: bool,
    /// Whether backward gives the same bits every time (PyTorch's `use_deterministic_algorithms`, flash-attn's
    /// `deterministic`). `Some(true)`: no kernel adds atomically. `Some(false)`: wherever `Flash` goes backward it does so by a kernel
    /// that adds up the gradient of q atomically. The last bits of dq, and of nothing else, then vary. Default: none, which is such a
    /// kernel where some query may see more than [`FUSED_KEYS`](crate::FUSED_KEYS) keys.
    pub deterministic: Option<bool>,
    /// Who hears how far the launches have come. Default: no one.
    pub progress: Option<OnProgress>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            layout: Layout::Bhsd,
            causal: Causal::None,
            scale: None,
            mask: None,
            bias: None,
            window: Window::default(),
            softcap: None,
            alibi: None,
            sinks: None,
            key_lengths: None,
            dropout: None,
            ragged: None,
            backends: vec![],
            splits: 0,
            return_lse: false,
            return_weights: false,
            bias_gradient: true,
            deterministic: None,
            progress: None,
        }
    }
}
