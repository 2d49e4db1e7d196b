//! Problems without a batch entry, query or key: nothing is launched for them, whatever the backend.

use crate::autograd::Gradients;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::problem::{Problem, Sizes};
use crate::tensor::Tensor;

/// Output, log-sum-exp and, where asked for, weights. A query without keys gives zeros, and the log-sum-exp of its head's
/// sink alone: the sink itself, or -inf.
pub(crate) fn forward(problem: &Problem) -> Result<(Tensor, Tensor, Option<Tensor>)> {
    let (device, dtype) = (problem.device(), problem.dtype());
    let out = Tensor::zeros(device, dtype, &problem.out_shape())?;
    let shape = problem.lse_shape();
    let sinks = match &problem.sinks {
        Some(sinks) => sinks.to_f64()?,
        None => vec![f64::NEG_INFINITY; problem.sizes.query_heads],
    };
    // There are queries only where there is no key; then each head has a run of them, in every batch entry.
    let rows = problem.query_rows();
    let heads = shape.iter().product::<usize>().checked_div(rows).unwrap_or(0);
    let values = (0..heads).flat_map(|head| std::iter::repeat_n(sinks[head % sinks.len()], rows));
    let lse = Tensor::of_wide(device, Dtype::F32, values, &shape)?;
    let mut weights = shape;
    weights.push(problem.sizes.keys);
    let weights = problem.options.return_weights.then(|| Tensor::zeros(device, dtype, &weights));
    Ok((out, lse, weights.transpose()?))
}

/// The gradients, in the caller's shapes: zeros, but for the sinks where the log-sum-exp has a gradient.
pub(crate) fn backward(problem: &Problem, dlse: Option<&Tensor>) -> Result<Gradients> {
    let zeros = |shape: &[usize]| Tensor::zeros(problem.device(), problem.dtype(), shape);
    let [q, k, v] = &problem.given;
    let bias = problem.options.bias.as_ref().filter(|_| problem.options.bias_gradient);
    Ok(Gradients {
        dq: zeros(q)?,
        dk: zeros(k)?,
        dv: zeros(v)?,
        dbias: bias.map(|bias| zeros(bias.shape())).transpose()?,
        dsinks: problem.sinks.as_ref().map(|sinks| sink_gradient(problem, sinks, dlse)).transpose()?,
    })
}

/// The log-sum-exp of a query without keys is its head's sink, so that their gradients are the same; a sink of -inf takes no
/// part in anything.
fn sink_gradient(problem: &Problem, sinks: &Tensor, dlse: Option<&Tensor>) -> Result<Tensor> {
    let Sizes { query_heads, .. } = problem.sizes;
    let mut sums = vec![0.0; query_heads];
    if let Some(dlse) = dlse {
        let values = dlse.to_f64()?;
        for (head, rows) in values.chunks_exact(problem.query_rows().max(1)).enumerate() {
            sums[head % query_heads] += rows.iter().sum::<f64>();
        }
    }
    for (sum, sink) in sums.iter_mut().zip(sinks.to_f64()?) {
        if sink == f64::NEG_INFINITY {
            *sum = 0.0;
        }
    }
    Tensor::of_wide(problem.device(), Dtype::F32, sums.into_iter(), &[query_heads])
}
