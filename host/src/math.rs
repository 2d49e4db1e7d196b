//! The `Math` backend: the reference, in f32, on tensors of the CPU.

use half::{bf16, f16};

use crate::autograd::Gradients;
use crate::dtype::{Dtype, Element};
use crate::error::{Error, Result};
use crate::options::Layout;
use crate::problem::{Problem, Sizes, shape4};
use crate::reference::{self, Attention, Repeated, reserve};
use crate::storage::host_zeros;
use crate::tensor::Tensor;

/// What forward computes, in the caller's shapes.
pub(crate) struct Outcome {
    pub(crate) out: Tensor,
    pub(crate) lse: Tensor,
    pub(crate) weights: Option<Tensor>,
}

/// The elements of mask and bias, which the reference borrows.
struct Scores {
    mask: Option<Vec<u8>>,
    bias: Option<Vec<f32>>,
}

impl Scores {
    fn new(problem: &Problem) -> Result<Scores> {
        let mask = problem.mask.as_ref().map(|mask| mask.to_vec::<u8>()).transpose()?;
        let bias = problem.bias.as_ref().map(elements).transpose()?;
        Ok(Scores { mask, bias })
    }

    fn attention(&self, problem: &Problem) -> Attention<'_, f32> {
        let shape = |tensor: &Option<Tensor>| {
            let [batch, heads, queries, _] = tensor.as_ref().map_or([1; 4], shape4);
            [batch, heads, queries]
        };
        let Sizes { batch, query_heads, key_heads, queries, keys, head_dim, value_dim } = problem.sizes;
        Attention {
            scale: problem.scale,
            causal: problem.options.causal,
            mask: self.mask.as_deref().map(|values| Repeated { values, shape: shape(&problem.mask) }),
            bias: self.bias.as_deref().map(|values| Repeated { values, shape: shape(&problem.bias) }),
            ..Attention::new(batch, query_heads, key_heads, queries, keys, head_dim, value_dim)
        }
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
        // Problems are made of nothing else.
        dtype => Err(Error::Dtype {
            argument: "the tensor",
            given: dtype.name(),
            allowed: "f32, f16 and bf16".into(),
        }),
    }
}

/// A tensor on the problem's device, its elements rounded to a type.
fn tensor(problem: &Problem, dtype: Dtype, values: &[f32], shape: &[usize]) -> Result<Tensor> {
    fn round<T: Element>(values: &[f32], bytes: &mut [u8], round: impl Fn(f32) -> T) {
        let chunks = bytes.chunks_exact_mut(T::DTYPE.size());
        chunks.zip(values).for_each(|(chunk, &value)| round(value).store(chunk));
    }
    let mut bytes = host_zeros(values.len() * dtype.size())?;
    match dtype {
        Dtype::F16 => round(values, &mut bytes, f16::from_f32),
        Dtype::Bf16 => round(values, &mut bytes, bf16::from_f32),
        _ => round(values, &mut bytes, |value| value),
    }
    Tensor::of_bytes(problem.device(), dtype, bytes, shape)
}

/// A result `[batch, heads, rows, columns]`, rounded to the problem's type, in the caller's layout.
fn result(problem: &Problem, values: &[f32], heads: usize, rows: usize, columns: usize) -> Result<Tensor> {
    let shape = [problem.sizes.batch, heads, rows, columns];
    let heads_first = tensor(problem, problem.dtype(), values, &shape)?;
    let outer = problem.outer_shape(heads, rows, columns);
    // Not `outer == shape`: with as many heads as rows the shapes agree and the layouts do not.
    if problem.single_head || problem.options.layout == Layout::Bhsd {
        return heads_first.reshape(&outer);
    }
    heads_first.transpose(1, 2)?.contiguous()
}

/// Output, log-sum-exp and, where asked for, the weights.
pub(crate) fn forward(problem: &Problem) -> Result<Outcome> {
    let Sizes { query_heads, queries, keys, value_dim, .. } = problem.sizes;
    let (q, k, v) = (elements(&problem.q)?, elements(&problem.k)?, elements(&problem.v)?);
    let scores = Scores::new(problem)?;
    let attention = scores.attention(problem);
    let outcome = reference::forward(&attention, &q, &k, &v, problem.options.return_weights)?;
    let weights = || {
        let mut shape = problem.lse_shape();
        shape.push(keys);
        tensor(problem, problem.dtype(), &outcome.weights, &shape)
    };
    Ok(Outcome {
        weights: problem.options.return_weights.then(weights).transpose()?,
        out: result(problem, &outcome.out, query_heads, queries, value_dim)?,
        lse: tensor(problem, Dtype::F32, &outcome.lse, &problem.lse_shape())?,
    })
}

/// The gradients. `dout` is `[batch, heads, queries, columns]`.
pub(crate) fn backward(problem: &Problem, dout: &Tensor) -> Result<Gradients> {
    let Sizes { query_heads, key_heads, queries, keys, head_dim, value_dim, .. } = problem.sizes;
    let (q, k, v) = (elements(&problem.q)?, elements(&problem.k)?, elements(&problem.v)?);
    let scores = Scores::new(problem)?;
    let attention = scores.attention(problem);
    let wanted = problem.options.bias_gradient;
    let gradients = reference::backward(&attention, &q, &k, &v, &elements(dout)?, None, wanted)?;
    let dbias = problem
        .options
        .bias
        .as_ref()
        .filter(|_| wanted)
        .map(|bias| tensor(problem, problem.dtype(), &gradients.dbias, bias.shape()));
    Ok(Gradients {
        dq: result(problem, &gradients.dq, query_heads, queries, head_dim)?,
        dk: result(problem, &gradients.dk, key_heads, keys, head_dim)?,
        dv: result(problem, &gradients.dv, key_heads, keys, value_dim)?,
        dbias: dbias.transpose()?,
    })
}
