//! One attention problem: sizes, tensors and options, validated once.

use crate::band::Band;
use crate::device::Device;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::options::{Layout, Options};
use crate::tensor::Tensor;
use crate::view::checked_count;

/// The longest sequence: positions and their differences then fit in 32 bits with room for a tile.
pub(crate) const MAX_SEQUENCE: usize = 1 << 30;

/// The sizes of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// Batch entries.
    pub batch: usize,
    /// Heads of q and out; a multiple of `key_heads`.
    pub query_heads: usize,
    /// Heads of k and v. Query head `h` reads key head `h / (query_heads / key_heads)`.
    pub key_heads: usize,
    /// Queries of a batch entry and head.
    pub queries: usize,
    /// Keys of a batch entry and head.
    pub keys: usize,
    /// Columns of q and k.
    pub head_dim: usize,
    /// Columns of v and out.
    pub value_dim: usize,
}

/// A problem that has been checked: whatever is in it fits together.
///
/// Its tensors are views of the caller's as `[batch, heads, seq, dim]`, whatever the layout; a mask or bias has four
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
    /// Whether the caller's tensors have three dimensions.
    pub(crate) single_head: bool,
    pub(crate) options: Options,
}

impl Problem {
    /// Checks everything that can be wrong.
    pub(crate) fn new(q: &Tensor, k: &Tensor, v: &Tensor, options: &Options) -> Result<Problem> {
        let arguments = [("q", q), ("k", k), ("v", v)];
        for (argument, tensor) in arguments {
            check_rank(argument, tensor, q)?;
            check_floats(argument, tensor, q)?;
            check_device(argument, tensor, q)?;
            check_elements(argument, tensor)?;
        }
        let [query, key, value] = arguments.map(|(_, tensor)| heads_first(tensor, options.layout));
        let (query, key, value) = (query?, key?, value?);
        let sizes = check_sizes(&query, &key, &value)?;
        let scale = options.scale.unwrap_or_else(|| (1.0 / (sizes.head_dim as f64).sqrt()) as f32);
        if !scale.is_finite() || scale == 0.0 {
            return Err(Error::Scale { given: scale });
        }
        let single_head = q.rank() == 3;
        let mask = options.mask.as_ref().map(|mask| check_mask(mask, q, &sizes, single_head)).transpose()?;
        let bias = options.bias.as_ref().map(|bias| check_bias(bias, q, &sizes, single_head)).transpose()?;
        Ok(Problem {
            band: Band::causal(options.causal, sizes.queries, sizes.keys),
            options: options.clone(),
            q: query,
            k: key,
            v: value,
            sizes,
            mask,
            bias,
            scale,
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

    /// The caller's shape for a tensor `[batch, heads, rows, columns]`.
    pub(crate) fn outer_shape(&self, heads: usize, rows: usize, columns: usize) -> Vec<usize> {
        let batch = self.sizes.batch;
        match (self.single_head, self.options.layout) {
            (true, _) => vec![batch, rows, columns],
            (false, Layout::Bhsd) => vec![batch, heads, rows, columns],
            (false, Layout::Bshd) => vec![batch, rows, heads, columns],
        }
    }

    /// The caller's shape of out: that of q with the columns of v.
    pub(crate) fn out_shape(&self) -> Vec<usize> {
        self.outer_shape(self.sizes.query_heads, self.sizes.queries, self.sizes.value_dim)
    }

    /// The caller's shape of the log-sum-exp: `[batch, heads, queries]`, without heads for tensors of rank 3.
    pub(crate) fn lse_shape(&self) -> Vec<usize> {
        let Sizes { batch, query_heads, queries, .. } = self.sizes;
        if self.single_head { vec![batch, queries] } else { vec![batch, query_heads, queries] }
    }

    /// A caller's tensor as `[batch, heads, seq, dim]`.
    pub(crate) fn heads_first(&self, tensor: &Tensor) -> Result<Tensor> {
        heads_first(tensor, self.options.layout)
    }

    /// Checks the gradient of the output and shows it as `[batch, heads, queries, columns]`.
    pub(crate) fn check_output_gradient(&self, dout: &Tensor) -> Result<Tensor> {
        let argument = "dout";
        let expected = self.out_shape();
        if dout.shape() != expected {
            return Err(Error::Shape { argument, given: dout.shape().into(), expected });
        }
        check_floats(argument, dout, &self.q)?;
        check_device(argument, dout, &self.q)?;
        check_elements(argument, dout)?;
        self.heads_first(dout)
    }
}

fn heads_first(tensor: &Tensor, layout: Layout) -> Result<Tensor> {
    match (tensor.rank(), layout) {
        (3, _) => tensor.unsqueeze(1),
        (_, Layout::Bhsd) => Ok(tensor.clone()),
        (_, Layout::Bshd) => tensor.transpose(1, 2),
    }
}

fn check_rank(argument: &'static str, tensor: &Tensor, q: &Tensor) -> Result<()> {
    let allowed = if !matches!(q.rank(), 3 | 4) {
        "3 [batch, seq, dim] and 4 [batch, heads, seq, dim]".to_string()
    } else if tensor.rank() != q.rank() {
        format!("{}, as q has", q.rank())
    } else {
        return Ok(());
    };
    Err(Error::Rank { argument, rank: tensor.rank(), allowed })
}

fn check_floats(argument: &'static str, tensor: &Tensor, q: &Tensor) -> Result<()> {
    if q.dtype().storage().is_none() {
        let allowed = "f32, f16 and bf16".into();
        return Err(Error::Dtype { argument, given: tensor.dtype().name(), allowed });
    }
    if tensor.dtype() != q.dtype() {
        let (given, expected) = (tensor.dtype().name(), q.dtype().name());
        return Err(Error::MixedDtypes { argument, given, other: "q", expected });
    }
    Ok(())
}

fn check_device(argument: &'static str, tensor: &Tensor, q: &Tensor) -> Result<()> {
    if tensor.device() == q.device() {
        return Ok(());
    }
    let (mut given, mut expected) = (tensor.device().name(), q.device().name());
    if given == expected {
        given.insert_str(0, "another ");
        expected.insert_str(0, "one ");
    }
    Err(Error::MixedDevices { argument, given, other: "q", expected })
}

/// No dimension 0, the last one contiguous, and a count that can be addressed.
fn check_elements(argument: &'static str, tensor: &Tensor) -> Result<()> {
    let shape = tensor.shape();
    if let Some(dimension) = shape.iter().position(|&size| size == 0) {
        return Err(Error::Empty { argument, shape: shape.into(), dimension });
    }
    check_count(argument, tensor.dtype(), shape)?;
    match (shape.last(), tensor.strides().last()) {
        (Some(&columns), Some(&stride)) if columns > 1 && stride != 1 => {
            Err(Error::LastStride { argument, stride })
        }
        _ => Ok(()),
    }
}

fn check_count(argument: &'static str, dtype: Dtype, shape: &[usize]) -> Result<()> {
    let limit = isize::MAX as usize / dtype.size();
    if checked_count(shape).is_some_and(|count| count <= limit) {
        return Ok(());
    }
    let given = shape.iter().try_fold(1u128, |n, &s| n.checked_mul(s as u128)).unwrap_or(u128::MAX);
    Err(Error::TooLarge { argument, what: "elements", given, limit: limit as u128 })
}

fn check_sizes(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Sizes> {
    let ([batch, query_heads, queries, head_dim], [_, key_heads, keys, _]) = (shape4(q), shape4(k));
    let value_dim = shape4(v)[3];
    let equal = |argument, what, given: usize, other, expected: usize| {
        let error = Error::Sizes { argument, what, given, other, expected };
        if given == expected { Ok(()) } else { Err(error) }
    };
    equal("k", "batch entries", shape4(k)[0], "q", batch)?;
    equal("v", "batch entries", shape4(v)[0], "q", batch)?;
    equal("k", "columns", shape4(k)[3], "q", head_dim)?;
    equal("v", "heads", shape4(v)[1], "k", key_heads)?;
    equal("v", "keys", shape4(v)[2], "k", keys)?;
    if query_heads % key_heads != 0 {
        return Err(Error::HeadRatio { query_heads, key_heads });
    }
    for (argument, what, given) in [("q", "queries", queries), ("k", "keys", keys)] {
        if given > MAX_SEQUENCE {
            return Err(Error::TooLarge {
                argument,
                what,
                given: given as u128,
                limit: MAX_SEQUENCE as u128,
            });
        }
    }
    check_count("the output", q.dtype(), &[batch, query_heads, queries, value_dim])?;
    check_count("the log-sum-exp", Dtype::F32, &[batch, query_heads, queries])?;
    Ok(Sizes { batch, query_heads, key_heads, queries, keys, head_dim, value_dim })
}

fn check_mask(mask: &Tensor, q: &Tensor, sizes: &Sizes, single_head: bool) -> Result<Tensor> {
    if mask.dtype() != Dtype::U8 {
        let allowed = "u8 and bool, where 0 means 'may not attend' (an additive mask is a bias)".into();
        return Err(Error::Dtype { argument: "mask", given: mask.dtype().name(), allowed });
    }
    check_scores("mask", mask, q, sizes, single_head)
}

fn check_bias(bias: &Tensor, q: &Tensor, sizes: &Sizes, single_head: bool) -> Result<Tensor> {
    check_floats("bias", bias, q)?;
    check_scores("bias", bias, q, sizes, single_head)
}

/// Checks a tensor that is repeated to the shape of the scores, and gives it four dimensions.
fn check_scores(
    argument: &'static str,
    tensor: &Tensor,
    q: &Tensor,
    sizes: &Sizes,
    single_head: bool,
) -> Result<Tensor> {
    check_device(argument, tensor, q)?;
    let rank = tensor.rank();
    if !(1..=4).contains(&rank) {
        let allowed = "1 to 4, of [batch, heads, queries, keys] from the right".into();
        return Err(Error::Rank { argument, rank, allowed });
    }
    check_elements(argument, tensor)?;
    let mut full = tensor.clone();
    if single_head && rank == 3 {
        full = full.unsqueeze(1)?;
    }
    while full.rank() < 4 {
        full = full.unsqueeze(0)?;
    }
    let scores = [sizes.batch, sizes.query_heads, sizes.queries, sizes.keys];
    let shape = shape4(&full);
    let fits = shape[3] == sizes.keys && (0..3).all(|d| shape[d] == 1 || shape[d] == scores[d]);
    if !fits {
        let given = tensor.shape().into();
        return Err(Error::Broadcast { argument, given, keys: sizes.keys, scores: scores.into() });
    }
    Ok(full)
}

/// The shape of a tensor of four dimensions; missing ones, which a checked tensor does not have, are 1.
pub(crate) fn shape4(tensor: &Tensor) -> [usize; 4] {
    std::array::from_fn(|d| tensor.shape().get(d).copied().unwrap_or(1))
}

#[cfg(test)]
mod tests;
