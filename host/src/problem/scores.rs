//! Mask and bias, which are repeated to the shape of the scores.

use super::tensors::{check_device, check_elements, check_floats};
use super::{Sizes, shape4};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::tensor::Tensor;

pub(super) fn mask(
    options: &Options,
    q: &Tensor,
    sizes: &Sizes,
    single_head: bool,
) -> Result<Option<Tensor>> {
    let Some(mask) = &options.mask else { return Ok(None) };
    if mask.dtype() != Dtype::U8 {
        let allowed = "u8 and bool, where 0 means 'may not attend' (an additive mask is a bias)".into();
        return Err(Error::Dtype { argument: "mask", given: mask.dtype().name(), allowed });
    }
    check("mask", mask, q, sizes, single_head).map(Some)
}

pub(super) fn bias(
    options: &Options,
    q: &Tensor,
    sizes: &Sizes,
    single_head: bool,
) -> Result<Option<Tensor>> {
    let Some(bias) = &options.bias else { return Ok(None) };
    check_floats("bias", bias, q)?;
    check("bias", bias, q, sizes, single_head).map(Some)
}

/// A mask, a bias or its gradient in four dimensions.
pub(super) fn full(tensor: &Tensor, single_head: bool) -> Result<Tensor> {
    let mut full = tensor.clone();
    if single_head && full.rank() == 3 {
        full = full.unsqueeze(1)?;
    }
    while full.rank() < 4 {
        full = full.unsqueeze(0)?;
    }
    Ok(full)
}

/// Checks a tensor that is repeated to the shape of the scores, and gives it four dimensions.
fn check(
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
    let full = full(tensor, single_head)?;
    let scores = [sizes.batch, sizes.query_heads, sizes.queries, sizes.keys];
    let shape = shape4(&full);
    let fits = shape[3] == sizes.keys && (0..3).all(|d| shape[d] == 1 || shape[d] == scores[d]);
    if !fits {
        let given = tensor.shape().into();
        return Err(Error::Broadcast { argument, given, keys: sizes.keys, scores: scores.into() });
    }
    Ok(full)
}
