//! One attention problem: sizes, tensors and options, validated once.

use crate::band::Band;
use crate::device::Device;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::options::{Dropout, Layout, Options, Ragged};
use crate::tensor::Tensor;

mod extras;
pub(crate) mod lengths;
mod scores;
mod shapes;
mod tensors;
pub(crate) mod written;

pub(crate) use shapes::shape4;

/// The longest sequence: positions and their differences then fit in 32 bits with room for a tile.
pub(crate) const MAX_SEQUENCE: usize = 1 << 30;

/// The sizes of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// Batch entries; of a ragged batch, its sequences.
    pub batch: usize,
    /// Heads of q and out; a multiple of `key_heads`.
    pub query_heads: usize,
    /// Heads of k and v. Query head `h` reads key head `h / (query_heads / key_heads)`.
    pub key_heads: usize,
    /// Queries of a batch entry and head; of a ragged batch, those of the sequence with most.
    pub queries: usize,
    /// Keys of a batch entry and head; of a ragged batch, those of the sequence with most.
    pub keys: usize,
    /// Columns of q and k.
    pub head_dim: usize,
    /// Columns of v and out.
    pub value_dim: usize,
}

/// A problem that has been checked: whatever is in it fits together.
///
/// q, k and v are views of the caller's as `[batch, heads, seq, dim]`, whatever the layout, repeated where the caller's have
/// one batch entry or head and the others more; those of a ragged batch are `[1, heads, total, dim]`. A mask or bias has four
/// dimensions too, each of which but the last may be 1.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) sizes: Sizes,
    pub(crate) q: Tensor,
    pub(crate) k: Tensor,
    pub(crate) v: Tensor,
    pub(crate) mask: Option<Tensor>,
    pub(crate) bias: Option<Tensor>,
    pub(crate) scale: f32,
    pub(crate) band: Band,
    pub(crate) softcap: Option<f32>,
    /// `[batch or 1, query heads]`, f32.
    pub(crate) alibi: Option<Tensor>,
    /// `[query heads]`, f32.
    pub(crate) sinks: Option<Tensor>,
    /// One for each batch entry, none above the keys.
    pub(crate) key_lengths: Option<Vec<usize>>,
    /// `None` also where p is 0.
    pub(crate) dropout: Option<Dropout>,
    pub(crate) ragged: Option<Ragged>,
    /// The caller's shapes of q, k and v.
    pub(crate) given: [Vec<usize>; 3],
    /// Whether the caller's tensors are `[batch, seq, dim]`.
    pub(crate) single_head: bool,
    pub(crate) options: Options,
}

impl Problem {
    /// Checks everything that can be wrong.
    pub(crate) fn new(q: &Tensor, k: &Tensor, v: &Tensor, options: &Options) -> Result<Problem> {
        let arguments = [("q", q), ("k", k), ("v", v)];
        for (argument, tensor) in arguments {
            tensors::check_rank(argument, tensor, q, options.ragged.is_some())?;
            tensors::check_floats(argument, tensor, q)?;
            tensors::check_device(argument, tensor, q)?;
            tensors::check_elements(argument, tensor)?;
            shapes::check_empty(argument, tensor, options)?;
        }
        let [query, key, value] = arguments.map(|(_, tensor)| shapes::heads_first(tensor, options));
        let (sizes, [query, key, value]) = shapes::fit([query?, key?, value?])?;
        shapes::check_limits(q.dtype(), &sizes)?;
        let sizes = match &options.ragged {
            Some(ragged) => lengths::ragged_sizes(ragged, sizes)?,
            None => sizes,
        };
        extras::check_splits(options)?;
        let single_head = q.rank() == 3 && options.ragged.is_none();
        Ok(Problem {
            band: Band::new(options.causal, options.window),
            scale: extras::scale(options, &sizes)?,
            mask: scores::mask(options, q, &sizes, single_head)?,
            bias: scores::bias(options, q, &sizes, single_head)?,
            softcap: extras::softcap(options)?,
            alibi: extras::alibi(options, q, &sizes)?,
            sinks: extras::sinks(options, q, &sizes)?,
            key_lengths: lengths::key_lengths(options, &sizes)?,
            dropout: extras::dropout(options, &sizes)?,
            ragged: options.ragged.clone(),
            given: arguments.map(|(_, tensor)| tensor.shape().to_vec()),
            options: options.clone(),
            q: query,
            k: key,
            v: value,
            sizes,
            single_head,
        })
    }

    /// The device that all tensors are on.
    pub(crate) fn device(&self) -> &Device {
        self.q.device()
    }

    /// The storage type of q, k, v and out.
    pub(crate) fn dtype(&self) -> Dtype {
        self.q.dtype()
    }

    /// Rows of q and out in a batch entry and head, or in a head of all sequences of a ragged batch.
    pub(crate) fn query_rows(&self) -> usize {
        shape4(&self.q)[2]
    }

    /// Rows of k and v in a batch entry and head, or in a head of all sequences of a ragged batch.
    pub(crate) fn key_rows(&self) -> usize {
        shape4(&self.k)[2]
    }

    /// Whether there is nothing to attend from or to: no batch entry, no query or no key.
    pub(crate) fn is_empty(&self) -> bool {
        self.sizes.batch == 0 || self.query_rows() == 0 || self.key_rows() == 0
    }

    /// The caller's shape for a tensor `[batch, heads, rows, columns]`; in a ragged batch the rows are those of all sequences.
    pub(crate) fn outer_shape(&self, heads: usize, rows: usize, columns: usize) -> Vec<usize> {
        let batch = self.sizes.batch;
        match (&self.ragged, self.single_head, self.options.layout) {
            (Some(_), ..) => vec![rows, heads, columns],
            (None, true, _) => vec![batch, rows, columns],
            (None, false, Layout::Bhsd) => vec![batch, heads, rows, columns],
            (None, false, Layout::Bshd) => vec![batch, rows, heads, columns],
        }
    }

    /// The caller's shape of out: that of q, repeated, with the columns of v.
    pub(crate) fn out_shape(&self) -> Vec<usize> {
        self.outer_shape(self.sizes.query_heads, self.query_rows(), self.sizes.value_dim)
    }

    /// The caller's shape of the log-sum-exp: `[batch, heads, queries]`, without heads for tensors `[batch, seq, dim]`,
    /// `[heads, total queries]` for a ragged batch.
    pub(crate) fn lse_shape(&self) -> Vec<usize> {
        let Sizes { batch, query_heads, .. } = self.sizes;
        let rows = self.query_rows();
        match (&self.ragged, self.single_head) {
            (Some(_), _) => vec![query_heads, rows],
            (None, true) => vec![batch, rows],
            (None, false) => vec![batch, query_heads, rows],
        }
    }

    /// A caller's tensor as `[batch, heads, seq, dim]`, or `[1, heads, total, dim]` of a ragged batch.
    pub(crate) fn heads_first(&self, tensor: &Tensor) -> Result<Tensor> {
        shapes::heads_first(tensor, &self.options)
    }

    /// A tensor in the shape of the mask or bias as `[batch, heads, queries, keys]`, each but the keys possibly 1.
    pub(crate) fn full_scores(&self, tensor: &Tensor) -> Result<Tensor> {
        scores::full(tensor, self.single_head)
    }

    /// Checks the gradient of the output and shows it as [`Problem::heads_first`] does.
    pub(crate) fn check_output_gradient(&self, dout: &Tensor) -> Result<Tensor> {
        let argument = "dout";
        let expected = self.out_shape();
        if dout.shape() != expected {
            return Err(Error::Shape { argument, given: dout.shape().into(), expected });
        }
        tensors::check_floats(argument, dout, &self.q)?;
        tensors::check_device(argument, dout, &self.q)?;
        tensors::check_elements(argument, dout)?;
        self.heads_first(dout)
    }

    /// Checks the gradient of the log-sum-exp, and gives it contiguous in the caller's shape.
    pub(crate) fn check_lse_gradient(&self, dlse: &Tensor) -> Result<Tensor> {
        let argument = "dlse";
        let expected = self.lse_shape();
        if dlse.shape() != expected {
            return Err(Error::Shape { argument, given: dlse.shape().into(), expected });
        }
        tensors::check_f32(argument, dlse)?;
        tensors::check_device(argument, dlse, &self.q)?;
        dlse.contiguous()
    }
}

#[cfg(test)]
mod tests;
