//! What changes scores and weights beside mask and bias: scale, softcap, ALiBi, sinks, dropout.

use super::Sizes;
use super::tensors::{check_device, check_elements, check_f32};
use crate::error::{Error, Result};
use crate::options::{Dropout, MAX_SPLITS, Options};
use crate::tensor::Tensor;

pub(super) fn scale(options: &Options, sizes: &Sizes) -> Result<f32> {
    let scale = options.scale.unwrap_or_else(|| (1.0 / (sizes.head_dim as f64).sqrt()) as f32);
    if !scale.is_finite() || scale == 0.0 {
        return Err(Error::Scale { given: scale });
    }
    Ok(scale)
}

fn wrong(argument: &str, given: f32, allowed: &str) -> Error {
    Error::Value { argument: argument.into(), given: given.to_string(), allowed: allowed.into() }
}

pub(super) fn softcap(options: &Options) -> Result<Option<f32>> {
    match options.softcap {
        Some(cap) if !(cap.is_finite() && cap > 0.0) => Err(wrong("softcap", cap, "finite and above 0")),
        softcap => Ok(softcap),
    }
}

/// Checks into how many parts the keys are to be divided.
pub(super) fn check_splits(options: &Options) -> Result<()> {
    if options.splits <= MAX_SPLITS {
        return Ok(());
    }
    let allowed = format!("1 to {MAX_SPLITS}, or 0, which leaves it to the library");
    Err(Error::Value { argument: "splits".into(), given: options.splits.to_string(), allowed })
}

/// Which weights are dropped; `None` where none are.
pub(super) fn dropout(options: &Options, sizes: &Sizes) -> Result<Option<Dropout>> {
    let Some(dropout) = options.dropout else { return Ok(None) };
    if !(0.0..1.0).contains(&dropout.p) {
        return Err(wrong("the p of dropout", dropout.p, "at least 0 and below 1"));
    }
    // The generator counts batch entries and heads together in 32 bits.
    let (given, limit) = (sizes.batch as u128 * sizes.query_heads as u128, u128::from(u32::MAX));
    if given > limit {
        return Err(Error::TooLarge { argument: "dropout", what: "batch entries times heads", given, limit });
    }
    Ok(Some(dropout).filter(|dropout| dropout.p > 0.0))
}

/// ALiBi's slopes as `[batch or 1, heads]`.
pub(super) fn alibi(options: &Options, q: &Tensor, sizes: &Sizes) -> Result<Option<Tensor>> {
    let Some(slopes) = &options.alibi else { return Ok(None) };
    let argument = "alibi";
    check_f32(argument, slopes)?;
    check_device(argument, slopes, q)?;
    let slopes = match slopes.shape() {
        [heads] if *heads == sizes.query_heads => slopes.unsqueeze(0)?,
        [batch, heads] if [1, sizes.batch].contains(batch) && *heads == sizes.query_heads => slopes.clone(),
        [_] | [_, _] => {
            let mut expected = vec![sizes.query_heads];
            if slopes.rank() == 2 {
                expected.insert(0, sizes.batch);
            }
            return Err(Error::Shape { argument, given: slopes.shape().into(), expected });
        }
        shape => {
            let allowed = "1 [heads] and 2 [batch, heads]".into();
            return Err(Error::Rank { argument, rank: shape.len(), allowed });
        }
    };
    check_elements(argument, &slopes)?;
    Ok(Some(slopes))
}

/// One logit for each head.
pub(super) fn sinks(options: &Options, q: &Tensor, sizes: &Sizes) -> Result<Option<Tensor>> {
    let Some(sinks) = &options.sinks else { return Ok(None) };
    let argument = "sinks";
    check_f32(argument, sinks)?;
    check_device(argument, sinks, q)?;
    if sinks.shape() != [sizes.query_heads] {
        let expected = vec![sizes.query_heads];
        return Err(Error::Shape { argument, given: sinks.shape().into(), expected });
    }
    check_elements(argument, sinks)?;
    Ok(Some(sinks.clone()))
}
