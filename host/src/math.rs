//! The `Math` backend: the reference, in f32, in the host's memory. Tensors of other devices are copied there and back.

use half::{bf16, f16};

use crate::autograd::Gradients;
use crate::device::Device;
use crate::dtype::{Dtype, Element};
use crate::error::{Error, Result};
use crate::options::Layout;
use crate::problem::{Problem, Sizes, shape4};
use crate::reference::{self, Attention, Repeated, Slopes, reserve};
use crate::storage::host_zeros;
use crate::tensor::Tensor;

mod ragged;

/// What forward computes, in the caller's shapes.
pub(crate) struct Outcome {
    pub(crate) out: Tensor,
    pub(crate) lse: Tensor,
    pub(crate) weights: Option<Tensor>,
}

/// The elements of one dense batch, which the reference borrows: a whole problem, or one sequence of a ragged batch.
struct Inputs {
    sizes: Sizes,
    first_batch: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    mask: Option<(Vec<u8>, [usize; 3])>,
    bias: Option<(Vec<f32>, [usize; 3])>,
    /// The slopes, and whether every batch entry has its own.
    alibi: Option<(Vec<f32>, bool)>,
    sinks: Option<Vec<f32>>,
}

impl Inputs {
    /// Those of a problem that is not ragged.
    fn dense(problem: &Problem) -> Result<Inputs> {
        let outer = |tensor: &Tensor| {
            let [batch, heads, queries, _] = shape4(tensor);
            [batch, heads, queries]
        };
        let mask = problem.mask.as_ref().map(|mask| Ok((mask.to_bytes()?, outer(mask))));
        let bias = problem.bias.as_ref().map(|bias| Ok((elements(bias)?, outer(bias))));
        let alibi = problem.alibi.as_ref().map(|slopes| Ok((elements(slopes)?, slopes.shape()[0] != 1)));
        Ok(Inputs {
            sizes: problem.sizes,
            first_batch: 0,
            q: elements(&problem.q)?,
            k: elements(&problem.k)?,
            v: elements(&problem.v)?,
            mask: mask.transpose()?,
            bias: bias.transpose()?,
            alibi: alibi.transpose()?,
            sinks: problem.sinks.as_ref().map(elements).transpose()?,
        })
    }

    fn attention<'a>(&'a self, problem: &'a Problem) -> Attention<'a, f32> {
        let Sizes { batch, query_heads, key_heads, queries, keys, head_dim, value_dim } = self.sizes;
        Attention {
            scale: problem.scale,
            causal: problem.options.causal,
            window: problem.options.window,
            softcap: problem.softcap,
            alibi: self.alibi.as_ref().map(|(values, per_batch)| Slopes { values, per_batch: *per_batch }),
            mask: self.mask.as_ref().map(|(values, shape)| Repeated { values, shape: *shape }),
            bias: self.bias.as_ref().map(|(values, shape)| Repeated { values, shape: *shape }),
            sinks: self.sinks.as_deref(),
            key_lengths: problem.key_lengths.as_deref(),
            dropout: problem.dropout,
            first_batch: self.first_batch,
            ..Attention::new(batch, query_heads, key_heads, queries, keys, head_dim, value_dim)
        }
    }

    fn forward(&self, problem: &Problem) -> Result<reference::Outcome<f32>> {
        let weights = problem.options.return_weights;
        reference::forward(&self.attention(problem), &self.q, &self.k, &self.v, weights)
    }

    fn backward(
        &self,
        problem: &Problem,
        dout: &[f32],
        dlse: Option<&[f32]>,
    ) -> Result<reference::Gradients<f32>> {
        let wanted = problem.options.bias_gradient;
        reference::backward(&self.attention(problem), &self.q, &self.k, &self.v, dout, dlse, wanted)
    }
}

/// The elements as f32, which holds every type that attention takes exactly.
fn elements(tensor: &Tensor) -> Result<Vec<f32>> {
    fn widen<T: Element + Into<f32>>(bytes: &[u8]) -> Result<Vec<f32>> {
        let mut values = reserve(bytes.len() / T::DTYPE.size())?;
        values.extend(bytes.chunks_exact(T::DTYPE.size()).map(|chunk| T::load(chunk).into()));
        Ok(values)
    }
    let bytes = tensor.to_bytes()?;
    match tensor.dtype() {
        Dtype::F32 => widen::<f32>(&bytes),
        Dtype::F16 => widen::<f16>(&bytes),
        Dtype::Bf16 => widen::<bf16>(&bytes),
        // Problems have been checked to hold nothing else.
        dtype => Err(Error::Dtype {
            argument: "the tensor",
            given: dtype.name(),
            allowed: "f32, f16 and bf16".into(),
        }),
    }
}

/// A tensor on a device, its elements rounded to a type.
fn tensor(device: &Device, dtype: Dtype, values: &[f32], shape: &[usize]) -> Result<Tensor> {
    fn round<T: Element>(values: &[f32], bytes: &mut [u8], round: impl Fn(f32) -> T) {
        let chunks = bytes.chunks_exact_mut(T::DTYPE.size());
        chunks.zip(values).for_each(|(chunk, &value)| round(value).store(chunk));
    }
    let mut bytes = host_zeros(values.len() * dtype.size())?;
    match dtype {
        Dtype::F16 => round(values, &mut bytes, f16::from_f32),
        Dtype::Bf16 => round(values, &mut bytes, bf16::from_f32),
        // Problems have been checked to be of no other type.
        _ => round(values, &mut bytes, |value| value),
    }
    Tensor::of_bytes(device, dtype, bytes, shape)
}

/// A result `[batch, heads, rows, columns]`, or `[heads, rows, columns]` of a ragged batch, rounded to the problem's type, in
/// the caller's layout.
fn result(problem: &Problem, values: &[f32], heads: usize, rows: usize, columns: usize) -> Result<Tensor> {
    let host = Device::cpu();
    let shown = if problem.ragged.is_some() {
        tensor(&host, problem.dtype(), values, &[heads, rows, columns])?.transpose(0, 1)?
    } else {
        let shape = [problem.sizes.batch, heads, rows, columns];
        let heads_first = tensor(&host, problem.dtype(), values, &shape)?;
        // Not where the shapes differ: with as many heads as rows they agree and the layouts do not.
        if problem.single_head || problem.options.layout == Layout::Bhsd {
            heads_first.reshape(&problem.outer_shape(heads, rows, columns))?
        } else {
            heads_first.transpose(1, 2)?
        }
    };
    shown.contiguous()?.to_device(problem.device())
}

/// Output, log-sum-exp and, where asked for, the weights.
pub(crate) fn forward(problem: &Problem) -> Result<Outcome> {
    let outcome = match &problem.ragged {
        Some(ragged) => ragged::forward(problem, ragged)?,
        None => Inputs::dense(problem)?.forward(problem)?,
    };
    let Sizes { query_heads, keys, value_dim, .. } = problem.sizes;
    let (device, lse_shape) = (problem.device(), problem.lse_shape());
    let weights = || {
        let shape = [&lse_shape[..], &[keys]].concat();
        tensor(device, problem.dtype(), &outcome.weights, &shape)
    };
    Ok(Outcome {
        weights: problem.options.return_weights.then(weights).transpose()?,
        out: result(problem, &outcome.out, query_heads, problem.query_rows(), value_dim)?,
        lse: tensor(device, Dtype::F32, &outcome.lse, &lse_shape)?,
    })
}

/// The gradients of the repeated q, k and v. `dout` is `[batch, heads, queries, columns]`, of a ragged batch
/// `[1, heads, total, columns]`; `dlse` is f32 in the caller's shape.
pub(crate) fn backward(problem: &Problem, dout: &Tensor, dlse: Option<&Tensor>) -> Result<Gradients> {
    let (dout, dlse) = (elements(dout)?, dlse.map(elements).transpose()?);
    let gradients = match &problem.ragged {
        Some(ragged) => ragged::backward(problem, ragged, &dout, dlse.as_deref())?,
        None => Inputs::dense(problem)?.backward(problem, &dout, dlse.as_deref())?,
    };
    let Sizes { query_heads, key_heads, head_dim, value_dim, .. } = problem.sizes;
    let (queries, keys) = (problem.query_rows(), problem.key_rows());
    let bias = problem.options.bias.as_ref().filter(|_| problem.options.bias_gradient);
    let dbias = bias.map(|bias| tensor(problem.device(), problem.dtype(), &gradients.dbias, bias.shape()));
    let sinks = problem.sinks.as_ref();
    let dsinks = sinks.map(|_| tensor(problem.device(), Dtype::F32, &gradients.dsinks, &[query_heads]));
    Ok(Gradients {
        dq: result(problem, &gradients.dq, query_heads, queries, head_dim)?,
        dk: result(problem, &gradients.dk, key_heads, keys, head_dim)?,
        dv: result(problem, &gradients.dv, key_heads, keys, value_dim)?,
        dbias: dbias.transpose()?,
        dsinks: dsinks.transpose()?,
    })
}

#[cfg(test)]
mod tests;
