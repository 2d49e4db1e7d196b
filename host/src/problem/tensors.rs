//! What every tensor of a problem must be: rank, storage type, device, strides.

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::view::checked_count;

/// q, k and v have 3 or 4 dimensions, the same number; 3 in a ragged batch.
pub(super) fn check_rank(argument: &'static str, tensor: &Tensor, q: &Tensor, ragged: bool) -> Result<()> {
    let rank = tensor.rank();
    let allowed = if ragged {
        if rank == 3 {
            return Ok(());
        }
        "3 [total, heads, dim], as the batch is ragged".to_string()
    } else if !matches!(q.rank(), 3 | 4) {
        "3 [batch, seq, dim] and 4 [batch, heads, seq, dim]".to_string()
    } else if rank != q.rank() {
        format!("{}, as q has", q.rank())
    } else {
        return Ok(());
    };
    Err(Error::Rank { argument, rank, allowed })
}

/// A type that attention takes, the same as q's.
pub(super) fn check_floats(argument: &'static str, tensor: &Tensor, q: &Tensor) -> Result<()> {
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

/// f32, whatever q is.
pub(super) fn check_f32(argument: &'static str, tensor: &Tensor) -> Result<()> {
    if tensor.dtype() == Dtype::F32 {
        return Ok(());
    }
    Err(Error::Dtype { argument, given: tensor.dtype().name(), allowed: "only f32".into() })
}

/// The device of q.
pub(super) fn check_device(argument: &'static str, tensor: &Tensor, q: &Tensor) -> Result<()> {
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

/// The last dimension contiguous, and a count that can be addressed.
pub(super) fn check_elements(argument: &'static str, tensor: &Tensor) -> Result<()> {
    let shape = tensor.shape();
    check_count(argument, tensor.dtype(), shape)?;
    match (shape.last(), tensor.strides().last()) {
        (Some(&columns), Some(&stride)) if columns > 1 && stride != 1 && tensor.count() > 0 => {
            Err(Error::LastStride { argument, stride })
        }
        _ => Ok(()),
    }
}

/// A count that can be addressed.
pub(super) fn check_count(argument: &'static str, dtype: Dtype, shape: &[usize]) -> Result<()> {
    let limit = isize::MAX as usize / dtype.size();
    if checked_count(shape).is_some_and(|count| count <= limit) {
        return Ok(());
    }
    let given = shape.iter().try_fold(1u128, |n, &s| n.checked_mul(s as u128)).unwrap_or(u128::MAX);
    Err(Error::TooLarge { argument, what: "elements", given, limit: limit as u128 })
}
