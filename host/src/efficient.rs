//! The fused backends, `Efficient` and `Flash`: allocates what the kernels write, and launches the plan.

use std::sync::Arc;

use crate::autograd::Gradients;
use crate::device::accelerator::{Accelerator, Launch};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::options::Backend;
use crate::plan::flash::PartTensors;
use crate::plan::{self, BackwardTensors, ForwardTensors, Indices};
use crate::problem::{Problem, Sizes};
use crate::tensor::Tensor;

fn accelerator(problem: &Problem) -> Result<&Arc<dyn Accelerator>> {
    problem.device().accelerator().ok_or_else(|| Error::Refused {
        verdict: "no kernel can run this".into(),
        reasons: format!("the tensors are on {}", problem.device()),
    })
}

fn launch(problem: &Problem, launches: &[Launch]) -> Result<()> {
    let accelerator = accelerator(problem)?;
    let progress = problem.options.progress.as_ref().map(|p| &*p.0);
    launches.iter().try_for_each(|launch| accelerator.launch(launch, progress))
}

/// Memory for a tensor of the problem's type in the caller's layout.
fn allocate(problem: &Problem, heads: usize, rows: usize, columns: usize) -> Result<Tensor> {
    Tensor::uninitialized(problem.device(), problem.dtype(), &problem.outer_shape(heads, rows, columns))
}

/// Output and log-sum-exp, by the kernels of one of the two.
pub(crate) fn forward(problem: &Problem, backend: Backend) -> Result<(Tensor, Tensor)> {
    accelerator(problem)?;
    let Sizes { query_heads, value_dim, .. } = problem.sizes;
    let out = allocate(problem, query_heads, problem.query_rows(), value_dim)?;
    let lse = Tensor::uninitialized(problem.device(), Dtype::F32, &problem.lse_shape())?;
    forward_into(problem, backend, &out, &lse)?;
    Ok((out, lse))
}

/// As [`forward`], into tensors of the caller's shapes; the log-sum-exp is contiguous.
pub(crate) fn forward_into(problem: &Problem, backend: Backend, out: &Tensor, lse: &Tensor) -> Result<()> {
    let written = ForwardTensors { out: &problem.heads_first(out)?, lse };
    let indices = Indices::allocate(problem)?;
    let left = if backend == Backend::Flash { allocate_parts(problem)? } else { None };
    let launches = match backend {
        Backend::Flash => plan::flash::forward(problem, &indices, &written, left.as_ref())?,
        _ => vec![plan::forward(problem, &indices, &written)?],
    };
    // All memory is taken and all launches are planned: what is refused has left no work behind.
    indices.copy(&**accelerator(problem)?)?;
    launch(problem, &launches)
}

/// Memory for what the parts of the keys leave, where there are several.
fn allocate_parts(problem: &Problem) -> Result<Option<PartTensors>> {
    let parts = plan::flash::parts(problem);
    if parts == 1 {
        return Ok(None);
    }
    let mut shape = vec![parts];
    shape.extend(problem.lse_shape());
    let lse = Tensor::uninitialized(problem.device(), Dtype::F32, &shape)?;
    shape.push(problem.sizes.value_dim);
    Ok(Some(PartTensors { out: Tensor::uninitialized(problem.device(), Dtype::F32, &shape)?, lse }))
}

/// The gradients, by the kernels of one of the two; `Flash` leaves to `Efficient` those of bias and sinks, and all where a tensor of
/// backward is not aligned as its copies need. `out` is as
/// [`forward`] returned it, `dout` is `[batch, heads, queries, columns]`.
pub(crate) fn backward(
    problem: &Problem,
    out: &Tensor,
    lse: &Tensor,
    dout: &Tensor,
    dlse: Option<&Tensor>,
    backend: Backend,
) -> Result<Gradients> {
    accelerator(problem)?;
    let Sizes { query_heads, key_heads, head_dim, value_dim, .. } = problem.sizes;
    let (queries, keys) = (problem.query_rows(), problem.key_rows());
    let dq = allocate(problem, query_heads, queries, head_dim)?;
    let dk = allocate(problem, key_heads, keys, head_dim)?;
    let dv = allocate(problem, key_heads, keys, value_dim)?;
    let bias = problem.options.bias.as_ref().filter(|_| problem.options.bias_gradient);
    let like = |tensor: &Tensor, dtype| Tensor::uninitialized(problem.device(), dtype, tensor.shape());
    let dbias = bias.map(|bias| like(bias, problem.dtype())).transpose()?;
    let dsinks = problem.sinks.as_ref().map(|sinks| like(sinks, Dtype::F32)).transpose()?;
    let gradients = Gradients { dq, dk, dv, dbias, dsinks };
    backward_into(problem, out, lse, dout, dlse, &gradients, backend)?;
    Ok(gradients)
}

/// As [`backward`], into tensors of the caller's shapes. Gradients of bias and sinks are computed where there are tensors for
/// them. Memory beside them: delta, 4 bytes for each row of q; on tensor cores 8 more for pairs of log-sum-exp and delta, or by a
/// fused kernel the sums of dq, `4 d + 8` bytes for each row, where d is the padded head dim and the rows of each head and sequence
/// are rounded up to 32.
pub(crate) fn backward_into(
    problem: &Problem,
    out: &Tensor,
    lse: &Tensor,
    dout: &Tensor,
    dlse: Option<&Tensor>,
    gradients: &Gradients,
    backend: Backend,
) -> Result<()> {
    let dlse = dlse.map(Tensor::contiguous).transpose()?;
    let delta = Tensor::uninitialized(problem.device(), Dtype::F32, &problem.lse_shape())?;
    let dbias = gradients.dbias.as_ref().map(|dbias| problem.full_scores(dbias)).transpose()?;
    let [dq, dk, dv] = &[
        problem.heads_first(&gradients.dq)?,
        problem.heads_first(&gradients.dk)?,
        problem.heads_first(&gradients.dv)?,
    ];
    let pairs = || {
        let shape = [&problem.lse_shape()[..], &[2]].concat();
        Tensor::uninitialized(problem.device(), Dtype::F32, &shape)
    };
    let flash = backend == Backend::Flash && plan::flash::goes_backward(dout, [dq, dk, dv]);
    let sums = |shape: [usize; 4]| Tensor::uninitialized(problem.device(), Dtype::F32, &shape);
    let dq_sums = plan::flash::sums_shape(problem).filter(|_| flash).map(sums).transpose()?;
    let lse_delta = (flash && dq_sums.is_none()).then(pairs).transpose()?;
    let indices = Indices::allocate(problem)?;
    let tensors = BackwardTensors {
        out: &problem.heads_first(out)?,
        lse,
        dout,
        dlse: dlse.as_ref(),
        delta: &delta,
        dq_sums: dq_sums.as_ref(),
        lse_delta: lse_delta.as_ref(),
        dq,
        dk,
        dv,
        dbias: dbias.as_ref(),
        dsinks: gradients.dsinks.as_ref(),
    };
    let launches = plan::backward(problem, &indices, &tensors)?;
    // As in forward: what is refused has left no work behind.
    let accelerator = accelerator(problem)?;
    indices.copy(&**accelerator)?;
    if let Some(sums) = &dq_sums {
        accelerator.zero(sums.address(), sums.count() * sums.dtype().size())?;
    }
    launch(problem, &launches)
}
