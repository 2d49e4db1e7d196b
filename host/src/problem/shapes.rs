//! The sizes of q, k and v: which must be equal, which are repeated, which are too large.

use super::tensors::check_count;
use super::{MAX_SEQUENCE, Sizes};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::options::{Layout, Options};
use crate::tensor::Tensor;

/// A caller's tensor as `[batch, heads, seq, dim]`, or `[1, heads, total, dim]` of a ragged batch.
pub(super) fn heads_first(tensor: &Tensor, options: &Options) -> Result<Tensor> {
    match (&options.ragged, tensor.rank(), options.layout) {
        (Some(_), ..) => tensor.transpose(0, 1)?.unsqueeze(0),
        (None, 3, _) => tensor.unsqueeze(1),
        (None, _, Layout::Bhsd) => Ok(tensor.clone()),
        (None, _, Layout::Bshd) => tensor.transpose(1, 2),
    }
}

/// Heads and columns are at least one; batch, queries and keys may be none.
pub(super) fn check_empty(argument: &'static str, tensor: &Tensor, options: &Options) -> Result<()> {
    let heads = match (&options.ragged, tensor.rank(), options.layout) {
        (Some(_), ..) => Some(1),
        (None, 3, _) => None,
        (None, _, Layout::Bhsd) => Some(1),
        (None, _, Layout::Bshd) => Some(2),
    };
    let shape = tensor.shape();
    let columns = shape.len().checked_sub(1);
    match heads.into_iter().chain(columns).find(|&dimension| shape.get(dimension) == Some(&0)) {
        Some(dimension) => Err(Error::Empty { argument, shape: shape.into(), dimension }),
        None => Ok(()),
    }
}

/// A size that two tensors share: theirs if equal, else the one that is not 1.
fn shared(what: &'static str, a: (&'static str, usize), b: (&'static str, usize)) -> Result<usize> {
    let ((other, expected), (argument, given)) = (a, b);
    match (expected, given) {
        _ if expected == given => Ok(given),
        (1, _) => Ok(given),
        (_, 1) => Ok(expected),
        _ => Err(Error::NotBroadcastable { argument, what, given, other, expected }),
    }
}

/// The sizes of q, k and v as `[batch, heads, seq, dim]`, and the three repeated to one batch and to as many heads of k as of
/// v. One head of q is repeated to those of k; one head of k serves all of q as it is.
pub(super) fn fit([q, k, v]: [Tensor; 3]) -> Result<(Sizes, [Tensor; 3])> {
    let [batch, query_heads, queries, head_dim] = shape4(&q);
    let [key_batch, key_heads, keys, key_dim] = shape4(&k);
    let [value_batch, value_heads, value_keys, value_dim] = shape4(&v);
    let entries = "batch entries";
    let both = shared(entries, ("q", batch), ("k", key_batch))?;
    let widest = if both == batch { "q" } else { "k" };
    let batch = shared(entries, (widest, both), ("v", value_batch))?;
    let equal = |argument, what, given: usize, other, expected: usize| {
        let error = Error::Sizes { argument, what, given, other, expected };
        if given == expected { Ok(()) } else { Err(error) }
    };
    equal("k", "columns", key_dim, "q", head_dim)?;
    let key_heads = shared("heads", ("k", key_heads), ("v", value_heads))?;
    equal("v", "keys", value_keys, "k", keys)?;
    let query_heads = if query_heads == 1 { key_heads } else { query_heads };
    if query_heads % key_heads != 0 {
        return Err(Error::HeadRatio { query_heads, key_heads });
    }
    let sizes = Sizes { batch, query_heads, key_heads, queries, keys, head_dim, value_dim };
    check_sequences(&sizes)?;
    let repeated = |argument, tensor: &Tensor, shape: [usize; 4]| {
        check_count(argument, tensor.dtype(), &shape)?;
        tensor.expand(&shape)
    };
    let q = repeated("q", &q, [batch, query_heads, queries, head_dim])?;
    let k = repeated("k", &k, [batch, key_heads, keys, head_dim])?;
    let v = repeated("v", &v, [batch, key_heads, keys, value_dim])?;
    Ok((sizes, [q, k, v]))
}

fn check_sequences(sizes: &Sizes) -> Result<()> {
    for (argument, what, given) in [("q", "queries", sizes.queries), ("k", "keys", sizes.keys)] {
        if given > MAX_SEQUENCE {
            let (given, limit) = (given as u128, MAX_SEQUENCE as u128);
            return Err(Error::TooLarge { argument, what, given, limit });
        }
    }
    Ok(())
}

/// What is computed can be addressed; `sizes` are those of the tensors, also in a ragged batch.
pub(super) fn check_limits(dtype: Dtype, sizes: &Sizes) -> Result<()> {
    let Sizes { batch, query_heads, queries, value_dim, .. } = *sizes;
    check_count("the output", dtype, &[batch, query_heads, queries, value_dim])?;
    check_count("the log-sum-exp", Dtype::F32, &[batch, query_heads, queries])
}

/// The shape of a tensor of four dimensions; missing ones, which a checked tensor does not have, are 1.
pub(crate) fn shape4(tensor: &Tensor) -> [usize; 4] {
    std::array::from_fn(|d| tensor.shape().get(d).copied().unwrap_or(1))
}
