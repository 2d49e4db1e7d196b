//! From a problem to the launches of kernels for tensor cores.

use flash_attention_abi::entry::find_flash;
use flash_attention_abi::flash::{flash_grad_head_dims, flash_grad_is_split, flash_head_dims};
use flash_attention_abi::params::{BackwardParams, ForwardParams};
use flash_attention_abi::{Dtype as Storage, FlashKernel};

use super::{ForwardTensors, Indices, MAX_GRID, forward_parameters, is_aligned, too_large};
use crate::device::accelerator::Launch;
use crate::error::Result;
use crate::problem::{Problem, Sizes};
use crate::tensor::Tensor;

/// The forward kernel of a problem: the plain one knows a positive factor and a band alone.
fn kernel(problem: &Problem) -> FlashKernel {
    let per_score = problem.mask.is_some() || problem.bias.is_some();
    let modified = problem.softcap.is_some() || problem.alibi.is_some() || problem.scale < 0.0;
    if per_score || modified || problem.sinks.is_some() || problem.dropout.is_some() {
        FlashKernel::General
    } else {
        FlashKernel::Forward
    }
}

/// The padded head dims of a problem, if there are kernels for them.
fn head_dims(sizes: &Sizes) -> Option<(u32, u32)> {
    let small = |columns: usize| u32::try_from(columns).ok();
    flash_head_dims(small(sizes.head_dim)?, small(sizes.value_dim)?)
}

/// Blocks of the forward kernel's grid.
fn blocks(kernel: FlashKernel, (head_dim, value_dim): (u32, u32), sizes: &Sizes) -> u128 {
    let rows = kernel.tile(head_dim, value_dim).block_rows() as usize;
    let heads = sizes.query_heads as u128 * sizes.batch as u128;
    heads.saturating_mul(sizes.queries.div_ceil(rows) as u128)
}

/// How many blocks forward would need where those are too many.
pub(crate) fn excessive_grid(problem: &Problem) -> Option<u128> {
    let blocks = blocks(kernel(problem), head_dims(&problem.sizes)?, &problem.sizes);
    (blocks > u128::from(MAX_GRID)).then_some(blocks)
}

/// The one launch of forward. The problem is one that `Flash` can run.
pub(crate) fn forward(problem: &Problem, indices: &Indices, written: &ForwardTensors<'_>) -> Result<Launch> {
    let params: ForwardParams = forward_parameters(problem, indices, written)?;
    let storage: Storage = problem.dtype().storage().ok_or_else(too_large)?;
    let (kernel, dims) = (kernel(problem), head_dims(&problem.sizes).ok_or_else(too_large)?);
    let entry = find_flash(kernel, storage, dims).ok_or_else(too_large)?;
    let tile = kernel.tile(dims.0, dims.1);
    let grid = u32::try_from(blocks(kernel, dims, &problem.sizes)).map_err(|_| too_large())?;
    Ok(Launch {
        entry: entry.name,
        grid,
        block: tile.threads(),
        shared_bytes: tile.shared_bytes(),
        parameters: params.as_bytes().to_vec(),
    })
}

/// Whether the backward kernels for tensor cores compute the gradients of q, k and v of a problem that `Flash` runs: where `dout`
/// and these gradients too, all as `[batch, heads, rows, columns]`, have rows that begin and end at multiples of 16 bytes.
pub(crate) fn goes_backward(dout: &Tensor, [dq, dk, dv]: [&Tensor; 3]) -> bool {
    [dout, dq, dk, dv].into_iter().all(is_aligned)
}

/// The padded head dims of a problem in backward, if there are kernels for them.
fn grad_head_dims(sizes: &Sizes) -> Option<(u32, u32)> {
    let small = |columns: usize| u32::try_from(columns).ok();
    flash_grad_head_dims(small(sizes.head_dim)?, small(sizes.value_dim)?)
}

/// The launches of `dk/dv`, or `dk` and `dv`, and of `dq`. The problem is one that [goes backward](goes_backward).
pub(crate) fn backward(problem: &Problem, params: &BackwardParams) -> Result<Vec<Launch>> {
    let storage: Storage = problem.dtype().storage().ok_or_else(too_large)?;
    let dims = grad_head_dims(&problem.sizes).ok_or_else(too_large)?;
    let general = kernel(problem) != FlashKernel::Forward;
    let of_keys: &[FlashKernel] = match (flash_grad_is_split(dims.0, dims.1), general) {
        (false, false) => &[FlashKernel::GradKeyValue],
        (false, true) => &[FlashKernel::GeneralGradKeyValue],
        (true, false) => &[FlashKernel::GradKey, FlashKernel::GradValue],
        (true, true) => &[FlashKernel::GeneralGradKey, FlashKernel::GeneralGradValue],
    };
    let of_queries = if general { FlashKernel::GeneralGradQuery } else { FlashKernel::GradQuery };
    let Sizes { batch, query_heads, key_heads, queries, keys, .. } = problem.sizes;
    let one = |kernel: FlashKernel, rows: usize, heads: usize| {
        let tile = kernel.grad_tile(dims.0, dims.1);
        let entry = find_flash(kernel, storage, dims).ok_or_else(too_large)?;
        let blocks = (rows.div_ceil(tile.block_rows() as usize) as u128)
            .saturating_mul(heads as u128)
            .saturating_mul(batch as u128);
        let grid = u32::try_from(blocks).ok().filter(|&blocks| blocks <= MAX_GRID).ok_or_else(too_large)?;
        Ok(Launch {
            entry: entry.name,
            grid,
            block: tile.threads(),
            shared_bytes: tile.shared_bytes(),
            parameters: params.as_bytes().to_vec(),
        })
    };
    let of_keys = of_keys.iter().map(|&kernel| one(kernel, keys, key_heads));
    of_keys.chain([one(of_queries, queries, query_heads)]).collect()
}

#[cfg(test)]
mod tests;
