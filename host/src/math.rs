//! The `Math` backend: the reference, in f32, on tensors of the CPU.

use crate::autograd::Gradients;
use crate::choice;
use crate::dtype::{Dtype, decode_wide};
use crate::error::Result;
use crate::options::{Backend, Layout};
use crate::problem::{Problem, Sizes, shape4};
use crate::reference::{self, Attention, Repeated};
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
            batch,
            query_heads,
            key_heads,
            queries,
            keys,
            head_dim,
            value_dim,
            scale: problem.scale,
            causal: problem.options.causal,
            mask: self.mask.as_deref().map(|values| Repeated { values, shape: shape(&problem.mask) }),
            bias: self.bias.as_deref().map(|values| Repeated { values, shape: shape(&problem.bias) }),
        }
    }
}

/// The elements as f32, which holds every type that attention takes exactly.
fn elements(tensor: &Tensor) -> Result<Vec<f32>> {
    let bytes = tensor.to_bytes()?;
    match tensor.dtype() {
        Dtype::F32 => Ok(crate::dtype::decode(&bytes)),
        dtype => Ok(decode_wide(dtype, &bytes).into_iter().map(|x| x as f32).collect()),
    }
}

/// A result `[batch, heads, rows, columns]`, rounded to the problem's type, in the caller's layout.
fn result(problem: &Problem, values: &[f32], heads: usize, rows: usize, columns: usize) -> Result<Tensor> {
    let wide = values.iter().map(|&x| f64::from(x));
    let shape = [problem.sizes.batch, heads, rows, columns];
    let heads_first = Tensor::of_wide(problem.device(), problem.dtype(), wide, &shape)?;
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
    let outcome = reference::forward(&attention, &q, &k, &v, problem.options.return_weights);
    let weights = || {
        let wide = outcome.weights.iter().map(|&x| f64::from(x));
        let mut shape = problem.lse_shape();
        shape.push(keys);
        Tensor::of_wide(problem.device(), problem.dtype(), wide, &shape)
    };
    Ok(Outcome {
        weights: problem.options.return_weights.then(weights).transpose()?,
        out: result(problem, &outcome.out, query_heads, queries, value_dim)?,
        lse: Tensor::from_slice(problem.device(), &outcome.lse, &problem.lse_shape())?,
    })
}

/// The gradients. `dout` is `[batch, heads, queries, columns]`.
pub(crate) fn backward(problem: &Problem, dout: &Tensor, dlse: Option<&Tensor>) -> Result<Gradients> {
    choice::no_lse_gradient(Backend::Math, dlse)?;
    let Sizes { query_heads, key_heads, queries, keys, head_dim, value_dim, .. } = problem.sizes;
    let (q, k, v) = (elements(&problem.q)?, elements(&problem.k)?, elements(&problem.v)?);
    let scores = Scores::new(problem)?;
    let attention = scores.attention(problem);
    let wanted = problem.options.bias_gradient;
    let gradients = reference::backward(&attention, &q, &k, &v, &elements(dout)?, wanted);
    let dbias = problem.options.bias.as_ref().filter(|_| wanted).map(|bias| {
        let wide = gradients.dbias.iter().map(|&x| f64::from(x));
        Tensor::of_wide(problem.device(), problem.dtype(), wide, bias.shape())
    });
    Ok(Gradients {
        dq: result(problem, &gradients.dq, query_heads, queries, head_dim)?,
        dk: result(problem, &gradients.dk, key_heads, keys, head_dim)?,
        dv: result(problem, &gradients.dv, key_heads, keys, value_dim)?,
        dbias: dbias.transpose()?,
        dsinks: None,
    })
}
