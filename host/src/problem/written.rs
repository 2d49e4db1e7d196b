//! Tensors of someone else that results are written to.

use super::Problem;
use super::tensors::{check_device, check_elements};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

impl Problem {
    /// Checks a tensor that is to be written: shape, type, device, and that no two of its elements are the same.
    pub(crate) fn check_written(
        &self,
        argument: &'static str,
        tensor: &Tensor,
        dtype: Dtype,
        shape: &[usize],
    ) -> Result<()> {
        if tensor.shape() != shape {
            return Err(Error::Shape { argument, given: tensor.shape().into(), expected: shape.into() });
        }
        if tensor.dtype() != dtype {
            return Err(Error::Dtype {
                argument,
                given: tensor.dtype().name(),
                allowed: format!("only {dtype}"),
            });
        }
        check_device(argument, tensor, &self.q)?;
        check_elements(argument, tensor)?;
        check_apart(argument, tensor)
    }

    /// The same for f32 in the shape of the log-sum-exp, which lies contiguous.
    pub(crate) fn check_per_query(&self, argument: &'static str, tensor: &Tensor) -> Result<()> {
        self.check_written(argument, tensor, Dtype::F32, &self.lse_shape())?;
        check_contiguous(argument, tensor)
    }
}

fn strides_error(argument: &'static str, tensor: &Tensor, allowed: &str) -> Error {
    Error::Value {
        argument: format!("the list of strides of {argument}"),
        given: format!("{:?} for the shape {:?}", tensor.strides(), tensor.shape()),
        allowed: allowed.into(),
    }
}

/// Row-major without gaps.
pub(crate) fn check_contiguous(argument: &'static str, tensor: &Tensor) -> Result<()> {
    if tensor.is_contiguous() {
        return Ok(());
    }
    Err(strides_error(argument, tensor, "those of a contiguous tensor"))
}

/// In order of their strides, each dimension steps over all that the smaller ones reach.
fn check_apart(argument: &'static str, tensor: &Tensor) -> Result<()> {
    if tensor.count() == 0 {
        return Ok(());
    }
    let mut dimensions: Vec<(usize, usize)> =
        tensor.strides().iter().zip(tensor.shape()).filter(|(_, n)| **n > 1).map(|(s, n)| (*s, *n)).collect();
    dimensions.sort_unstable();
    let mut reach = 0;
    for (stride, count) in dimensions {
        if stride <= reach {
            let allowed = "such that each step goes beyond all that the smaller ones reach";
            return Err(strides_error(argument, tensor, allowed));
        }
        reach += stride * (count - 1);
    }
    Ok(())
}
