//! `sdpa(q, k, v)`: one call, its options, and what comes back.

use crate::autograd::{Forward, unreachable_backend};
use crate::choice::Explanation;
use crate::device::Progress;
use crate::error::Result;
use crate::options::{Backend, Causal, Dropout, Layout, OnProgress, Options, Ragged, Window};
use crate::problem::Problem;
use crate::tensor::Tensor;
use crate::{backend, efficient, empty, math, plan};

/// What [`Sdpa::run`] returns.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Output {
    /// The output, in the type and order of dimensions of q, with the columns of v; contiguous.
    pub out: Tensor,
    /// The natural log-sum-exp of the scores, f32 `[batch, heads, queries]` (`[batch, queries]` for tensors of rank 3,
    /// `[heads, total queries]` for a ragged batch), where it was asked for. For queries that see no key it is the head's
    /// sink, or -inf.
    pub lse: Option<Tensor>,
    /// The attention weights `[batch, heads, queries, keys]` (`[batch, queries, keys]` for tensors of rank 3) in the type of q,
    /// after dropout, where they were asked for. Of a ragged batch `[heads, total queries, most keys]`, 0 behind a sequence's
    /// keys.
    pub weights: Option<Tensor>,
    /// The backend that ran.
    pub backend: Backend,
}

/// Scaled dot product attention, `softmax(scale * q kᵀ + bias) v`, about to be run.
#[derive(Clone, Debug)]
#[must_use = "nothing is computed before run() or forward()"]
pub struct Sdpa<'a> {
    pub(crate) q: &'a Tensor,
    pub(crate) k: &'a Tensor,
    pub(crate) v: &'a Tensor,
    pub(crate) options: Options,
}

/// Scaled dot product attention of queries, keys and values; options follow, then [`Sdpa::run`] or [`Sdpa::forward`].
///
/// q, k and v are f32, f16 or bf16 on one device, of rank 4 (see [`Layout`]) or 3 (`[batch, seq, dim]`, one head), with any
/// strides but 1 in the last dimension. `q [b, hq, sq, d]`, `k [b, hk, sk, d]`, `v [b, hk, sk, dv]`; hq is a multiple of hk,
/// and query head `h` reads key head `h / (hq / hk)`. A tensor with one batch entry is repeated to the others' batch, one
/// head of q to the heads of k, one head of k or v to those of the other. Batch, queries and keys may be none: queries
/// without keys give zeros. In a ragged batch ([`Options::ragged`]) the tensors are `[total, heads, dim]`.
///
/// ```
/// use flash_attention::{Causal, Device, Tensor, sdpa};
///
/// let device = Device::cpu();
/// let q = Tensor::from_slice(&device, &[0.1f32; 2 * 3 * 8], &[1, 2, 3, 8])?;
/// let out = sdpa(&q, &q, &q).causal(Causal::UpperLeft).run()?.out;
/// assert_eq!(out.shape(), [1, 2, 3, 8]);
/// # Ok::<(), flash_attention::Error>(())
/// ```
pub fn sdpa<'a>(q: &'a Tensor, k: &'a Tensor, v: &'a Tensor) -> Sdpa<'a> {
    Sdpa { q, k, v, options: Options::default() }
}

/// Options, each with the meaning of its field in [`Options`].
impl Sdpa<'_> {
    /// All options at once.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Which keys a query may see by position.
    pub fn causal(mut self, causal: Causal) -> Self {
        self.options.causal = causal;
        self
    }

    /// Factor of the scores; finite and not 0.
    pub fn scale(mut self, scale: f32) -> Self {
        self.options.scale = Some(scale);
        self
    }

    /// Which keys a query may see; u8 or bool, 0 = may not, broadcastable to `[batch, heads, queries, keys]`.
    pub fn mask(mut self, mask: &Tensor) -> Self {
        self.options.mask = Some(mask.clone());
        self
    }

    /// Added to the scaled scores; in the type of q, broadcastable to `[batch, heads, queries, keys]`.
    pub fn bias(mut self, bias: &Tensor) -> Self {
        self.options.bias = Some(bias.clone());
        self
    }

    /// The order of the dimensions of q, k, v and out.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.options.layout = layout;
        self
    }

    /// How to compute it. This beats a [`scope`](crate::backend::scope).
    pub fn backend(self, backend: Backend) -> Self {
        self.backends(&[backend])
    }

    /// How to compute it: the first of these that can. This beats a [`scope`](crate::backend::scope).
    pub fn backends(mut self, backends: &[Backend]) -> Self {
        self.options.backends = backends.to_vec();
        self
    }

    /// How far a query sees to either side of the diagonal; `None` is no bound.
    pub fn window(mut self, left: Option<usize>, right: Option<usize>) -> Self {
        self.options.window = Window { left, right };
        self
    }

    /// Bounds the scaled scores to `softcap * tanh(score / softcap)`; finite and above 0.
    pub fn softcap(mut self, softcap: f32) -> Self {
        self.options.softcap = Some(softcap);
        self
    }

    /// ALiBi's slopes, f32 `[heads]` or `[batch, heads]`.
    pub fn alibi(mut self, slopes: &Tensor) -> Self {
        self.options.alibi = Some(slopes.clone());
        self
    }

    /// One logit a head, f32 `[heads]`, that takes part in the softmax and has no value.
    pub fn sinks(mut self, sinks: &Tensor) -> Self {
        self.options.sinks = Some(sinks.clone());
        self
    }

    /// The keys that count, for each batch entry.
    pub fn key_lengths(mut self, lengths: &[usize]) -> Self {
        self.options.key_lengths = Some(lengths.to_vec());
        self
    }

    /// Drops a share `p` of the attention weights, at least 0 and below 1.
    pub fn dropout(self, p: f32, seed: u64) -> Self {
        self.dropout_at(p, seed, 0)
    }

    /// Drops a share `p` of the attention weights with another of the seed's masks for each offset.
    pub fn dropout_at(mut self, p: f32, seed: u64, offset: u32) -> Self {
        self.options.dropout = Some(Dropout { p, seed, offset });
        self
    }

    /// The offsets of a ragged batch, of which q, k and v are packed.
    pub fn ragged(mut self, query_offsets: &[usize], key_offsets: &[usize]) -> Self {
        let (query_offsets, key_offsets) = (query_offsets.into(), key_offsets.into());
        self.options.ragged = Some(Ragged { query_offsets, key_offsets });
        self
    }

    /// Into how many parts the keys are divided, at most [`MAX_SPLITS`](crate::MAX_SPLITS); 0 leaves it to the library.
    pub fn splits(mut self, splits: usize) -> Self {
        self.options.splits = splits;
        self
    }

    /// Whether `run` returns the log-sum-exp.
    pub fn return_lse(mut self, wanted: bool) -> Self {
        self.options.return_lse = wanted;
        self
    }

    /// Whether `run` returns the attention weights; only `Math` can.
    pub fn return_weights(mut self, wanted: bool) -> Self {
        self.options.return_weights = wanted;
        self
    }

    /// Whether backward computes the gradient of the bias.
    pub fn bias_gradient(mut self, wanted: bool) -> Self {
        self.options.bias_gradient = wanted;
        self
    }

    /// Whether backward gives the same bits every time, at the price of computing the scores twice or three times; see
    /// [`Options::deterministic`]. Forward always does.
    pub fn deterministic(mut self, wanted: bool) -> Self {
        self.options.deterministic = Some(wanted);
        self
    }

    /// Who hears how far the launches have come: called now and then while a kernel runs, from any thread.
    pub fn progress(mut self, callback: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.options.progress = Some(OnProgress::new(callback));
        self
    }
}

impl Sdpa<'_> {
    /// What every backend says to this problem.
    ///
    /// # Errors
    /// Where the problem is wrong in itself, whatever the backend.
    pub fn explain(&self) -> Result<Explanation> {
        Ok(Explanation::new(&self.problem()?))
    }

    /// Into how many parts `Flash` divides the keys of this problem in forward on the tensors' device; 1 where it does not, and where
    /// it has no kernel.
    ///
    /// # Errors
    /// As [`Sdpa::explain`].
    pub fn splits_taken(&self) -> Result<usize> {
        let problem = self.problem()?;
        Ok(if problem.is_empty() { 1 } else { plan::flash::parts(&problem) })
    }

    /// Computes the output.
    ///
    /// # Errors
    /// Everything that a caller can get wrong, before anything is allocated; [`Error::Refused`](crate::Error::Refused)
    /// where the backend asked for cannot run this; what went wrong on the device.
    pub fn run(self) -> Result<Output> {
        let return_lse = self.options.return_lse;
        let (forward, weights) = self.compute()?;
        Ok(Output {
            lse: return_lse.then_some(forward.lse),
            out: forward.out,
            weights,
            backend: forward.backend,
        })
    }

    /// Computes the output and keeps what backward needs.
    ///
    /// # Errors
    /// As [`Sdpa::run`].
    pub fn forward(self) -> Result<Forward> {
        self.compute().map(|(forward, _)| forward)
    }

    pub(crate) fn problem(&self) -> Result<Problem> {
        Problem::new(self.q, self.k, self.v, &self.options)
    }

    fn compute(self) -> Result<(Forward, Option<Tensor>)> {
        let problem = self.problem()?;
        let backend = Explanation::new(&problem).choose(&backend::asked(&problem.options))?;
        let (out, lse, weights) = match backend {
            _ if problem.is_empty() => empty::forward(&problem)?,
            Backend::Math => {
                let outcome = math::forward(&problem)?;
                (outcome.out, outcome.lse, outcome.weights)
            }
            Backend::Flash | Backend::Efficient => {
                let (out, lse) = efficient::forward(&problem, backend)?;
                (out, lse, None)
            }
            Backend::Auto => return Err(unreachable_backend(backend)),
        };
        Ok((Forward { problem, backend, out, lse }, weights))
    }
}
