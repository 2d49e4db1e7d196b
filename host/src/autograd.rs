//! What forward keeps for backward, and the gradients.

use crate::device::Device;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::options::Backend;
use crate::problem::Problem;
use crate::tensor::Tensor;
use crate::view::View;
use crate::{efficient, empty, math};

/// A forward pass that keeps what backward needs: its inputs (shared, not copied), options, output and log-sum-exp.
#[derive(Clone, Debug)]
pub struct Forward {
    pub(crate) problem: Problem,
    pub(crate) backend: Backend,
    pub(crate) out: Tensor,
    pub(crate) lse: Tensor,
}

/// The gradients of one backward pass, each in the type, shape and order of dimensions of its tensor, contiguous. Those of a
/// tensor that is repeated are summed over what it is repeated along.
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
    /// Of the sinks, f32 `[heads]`; where there are sinks.
    pub dsinks: Option<Tensor>,
}

impl Forward {
    /// The output, in the type and order of dimensions of q, with the columns of v.
    pub fn output(&self) -> &Tensor {
        &self.out
    }

    /// The natural log-sum-exp of the scores, f32 `[batch, heads, queries]` (`[batch, queries]` for tensors of rank 3,
    /// `[heads, total queries]` for a ragged batch). For queries that see no key it is the head's sink, or -inf.
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
        self.backward_with(dout, None)
    }

    /// The gradients for `dout` and, where the log-sum-exp is used too, `dlse`, its gradient: f32 in its shape.
    ///
    /// # Errors
    /// As [`Forward::backward`]; where `dlse` has not the shape, type and device of the log-sum-exp.
    pub fn backward_with(&self, dout: &Tensor, dlse: Option<&Tensor>) -> Result<Gradients> {
        let problem = &self.problem;
        let dout = problem.check_output_gradient(dout)?;
        let dlse = dlse.map(|dlse| problem.check_lse_gradient(dlse)).transpose()?;
        if problem.is_empty() {
            return empty::backward(problem, dlse.as_ref());
        }
        let gradients = match self.backend {
            Backend::Math => math::backward(problem, &dout, dlse.as_ref()),
            Backend::Flash | Backend::Efficient => {
                efficient::backward(problem, &self.out, &self.lse, &dout, dlse.as_ref(), self.backend)
            }
            Backend::Auto => Err(unreachable_backend(self.backend)),
        }?;
        let [q, k, v] = &problem.given;
        Ok(Gradients {
            dq: sum_to(gradients.dq, q)?,
            dk: sum_to(gradients.dk, k)?,
            dv: sum_to(gradients.dv, v)?,
            ..gradients
        })
    }
}

/// The gradient of a tensor of this shape that was repeated to that of `gradient`, of the same rank: the sum over what it was
/// repeated along, on the host.
fn sum_to(gradient: Tensor, shape: &[usize]) -> Result<Tensor> {
    if gradient.shape() == shape {
        return Ok(gradient);
    }
    let sums = Tensor::zeros(&Device::cpu(), Dtype::F64, shape)?;
    let mut sums = sums.to_f64()?;
    let values = gradient.to_f64()?;
    let place = View::contiguous(shape).expand(gradient.shape())?;
    let mut values = values.into_iter();
    place.runs(|start, length, stride| {
        for (i, value) in values.by_ref().take(length).enumerate() {
            sums[start + i * stride] += value;
        }
    });
    Tensor::of_wide(gradient.device(), gradient.dtype(), sums.into_iter(), shape)
}

/// For backends that `Explanation::choose` never returns.
pub(crate) fn unreachable_backend(backend: Backend) -> Error {
    Error::Refused { verdict: format!("{backend} cannot run this"), reasons: "it has no kernels".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::sdpa;

    fn tensor(seed: usize, shape: &[usize]) -> Tensor {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| ((i * 7 + seed * 13) as f32).sin()).collect();
        Tensor::from_slice(&Device::cpu(), &values, shape).unwrap()
    }

    #[test]
    fn gradients_are_summed_over_what_was_repeated() {
        let gradient = tensor(0, &[2, 3, 2]).cast(Dtype::F64).unwrap();
        let all = gradient.to_f64().unwrap();
        let sum = sum_to(gradient.clone(), &[1, 3, 1]).unwrap();
        let expected: Vec<f64> = (0..3).map(|h| [0, 1, 6, 7].iter().map(|i| all[h * 2 + i]).sum()).collect();
        assert_eq!((sum.shape(), sum.to_f64().unwrap()), (&[1, 3, 1][..], expected));
        assert_eq!(sum_to(gradient, &[2, 3, 2]).unwrap().to_f64().unwrap(), all);
    }

    #[test]
    fn repeated_tensors_get_the_gradients_of_their_copies_together() {
        // One batch entry of q and v, one head of q and k, in the order [batch, seq, heads, dim].
        let (q, k, v) = (tensor(1, &[1, 5, 1, 4]), tensor(2, &[2, 6, 1, 4]), tensor(3, &[1, 6, 3, 4]));
        let dout = tensor(4, &[2, 5, 3, 4]);
        let run = |q: &Tensor, k: &Tensor, v: &Tensor| {
            let call = sdpa(q, k, v).layout(crate::Layout::Bshd).causal(crate::Causal::LowerRight);
            let forward = call.forward().unwrap();
            (forward.output().to_vec::<f32>().unwrap(), forward.backward(&dout).unwrap())
        };
        let (out, gradients) = run(&q, &k, &v);
        let copies = |t: &Tensor, rows| t.expand(&[2, rows, 3, 4]).unwrap().contiguous().unwrap();
        let (copied_out, copied) = run(&copies(&q, 5), &copies(&k, 6), &copies(&v, 6));
        assert_eq!(out, copied_out);
        for (sum, given, copies) in
            [(&gradients.dq, &q, copied.dq), (&gradients.dk, &k, copied.dk), (&gradients.dv, &v, copied.dv)]
        {
            assert_eq!(sum.shape(), given.shape());
            let expected = sum_to(copies, given.shape()).unwrap();
            assert_eq!(sum.to_vec::<f32>().unwrap(), expected.to_vec::<f32>().unwrap());
        }
    }
}
