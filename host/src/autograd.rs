//! What forward keeps for backward, and the gradients.

use crate::error::{Error, Result};
use crate::options::Backend;
use crate::problem::Problem;
use crate::tensor::Tensor;
use crate::{efficient, math};

/// A forward pass that keeps what backward needs: its inputs (shared, not copied), options, output and log-sum-exp.
#[derive(Clone, Debug)]
pub struct Forward {
    pub(crate) problem: Problem,
    pub(crate) backend: Backend,
    pub(crate) out: Tensor,
    pub(crate) lse: Tensor,
}

/// The gradients of one backward pass, each in the type, shape and order of dimensions of its tensor, contiguous.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Gradients {
    /// Of q.
    pub dq: Tensor,
    /// Of k.
    pub dk: Tensor,
    /// Of v.
    pub dv: Tensor,
    /// Of the bias, summed over what it is repeated along; where there is a bias and its gradient was not declined.
    pub dbias: Option<Tensor>,
}

impl Forward {
    /// The output, in the type and order of dimensions of q, with the columns of v.
    pub fn output(&self) -> &Tensor {
        &self.out
    }

    /// The natural log-sum-exp of the scores, f32 `[batch, heads, queries]` (`[batch, queries]` for tensors of rank 3);
    /// -inf for queries that see no key.
    pub fn lse(&self) -> &Tensor {
        &self.lse
    }

    /// The backend that ran, and runs backward.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The gradients for `dout`, the gradient of the output. It may be called any number of times, with the same result.
    ///
    /// # Errors
    /// Where `dout` has not the shape, type and device of the output, or its last dimension is not contiguous; what went
    /// wrong on the device.
    pub fn backward(&self, dout: &Tensor) -> Result<Gradients> {
        let dout = self.problem.check_output_gradient(dout)?;
        match self.backend {
            Backend::Math => math::backward(&self.problem, &dout),
            Backend::Efficient => efficient::backward(&self.problem, &self.out, &self.lse, &dout),
            Backend::Flash | Backend::Auto => Err(unreachable_backend(self.backend)),
        }
    }
}

/// For backends that `Explanation::choose` never returns.
pub(crate) fn unreachable_backend(backend: Backend) -> Error {
    Error::Refused { verdict: format!("{backend} cannot run this"), reasons: "it has no kernels".into() }
}
