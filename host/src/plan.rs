//! From a problem to launches: entry point, grid, block, shared bytes and parameters. Nothing here touches a device.

use flash_attention_abi::entry;
use flash_attention_abi::params::{self, BackwardParams, ForwardParams, ProblemParams, TensorParam};
use flash_attention_abi::tile::{self, TileConfig};
use flash_attention_abi::{Dtype as Storage, Kernel};

use crate::device::accelerator::Launch;
use crate::error::{Error, Result};
use crate::problem::{Problem, Sizes, shape4};
use crate::tensor::Tensor;

/// The most blocks of a one-dimensional grid.
pub(crate) const MAX_GRID: u32 = i32::MAX as u32;

/// What forward writes, as `[batch, heads, queries, columns]` and `[batch, heads, queries]`.
pub(crate) struct ForwardTensors<'a> {
    pub(crate) out: &'a Tensor,
    pub(crate) lse: &'a Tensor,
}

/// What backward reads beside the problem, and writes; as in [`ForwardTensors`].
pub(crate) struct BackwardTensors<'a> {
    pub(crate) out: &'a Tensor,
    pub(crate) lse: &'a Tensor,
    pub(crate) dout: &'a Tensor,
    pub(crate) delta: &'a Tensor,
    pub(crate) dq: &'a Tensor,
    pub(crate) dk: &'a Tensor,
    pub(crate) dv: &'a Tensor,
    /// The bias's gradient in four dimensions, if it is wanted.
    pub(crate) dbias: Option<&'a Tensor>,
}

/// The one launch of forward. The problem is one that `Efficient` can run.
pub(crate) fn forward(problem: &Problem, written: &ForwardTensors<'_>) -> Result<Launch> {
    let mut parameters = ForwardParams {
        q: operand(&problem.q),
        k: operand(&problem.k),
        v: operand(&problem.v),
        out: operand(written.out),
        mask: problem.mask.as_ref().map(operand).unwrap_or_default(),
        bias: problem.bias.as_ref().map(operand).unwrap_or_default(),
        lse: written.lse.address(),
        problem: sizes(problem)?,
    };
    parameters.problem.aligned = aligned(&[
        (params::ALIGNED_Q, &problem.q),
        (params::ALIGNED_K, &problem.k),
        (params::ALIGNED_V, &problem.v),
        (params::ALIGNED_OUT, written.out),
    ]);
    launch(problem, Kernel::Forward, &parameters.problem, parameters.as_bytes())
}

/// The launches of backward, in order. The problem is one that `Efficient` can run.
pub(crate) fn backward(problem: &Problem, tensors: &BackwardTensors<'_>) -> Result<Vec<Launch>> {
    let mut parameters = BackwardParams {
        q: operand(&problem.q),
        k: operand(&problem.k),
        v: operand(&problem.v),
        out: operand(tensors.out),
        dout: operand(tensors.dout),
        mask: problem.mask.as_ref().map(operand).unwrap_or_default(),
        bias: problem.bias.as_ref().map(operand).unwrap_or_default(),
        dq: operand(tensors.dq),
        dk: operand(tensors.dk),
        dv: operand(tensors.dv),
        dbias: tensors.dbias.map(operand).unwrap_or_default(),
        lse: tensors.lse.address(),
        delta: tensors.delta.address(),
        problem: sizes(problem)?,
    };
    parameters.problem.aligned = aligned(&[
        (params::ALIGNED_Q, &problem.q),
        (params::ALIGNED_K, &problem.k),
        (params::ALIGNED_V, &problem.v),
        (params::ALIGNED_OUT, tensors.out),
        (params::ALIGNED_DOUT, tensors.dout),
        (params::ALIGNED_DQ, tensors.dq),
        (params::ALIGNED_DK, tensors.dk),
        (params::ALIGNED_DV, tensors.dv),
    ]);
    let mut kernels = vec![Kernel::Delta, Kernel::GradKeyValue, Kernel::GradQuery];
    if tensors.dbias.is_some() {
        kernels.push(Kernel::GradBias);
    }
    kernels
        .into_iter()
        .map(|kernel| launch(problem, kernel, &parameters.problem, parameters.as_bytes()))
        .collect()
}

/// The first kernel whose grid would be too large, with its blocks. The gradient of a bias counts as if the bias had its
/// full shape.
pub(crate) fn excessive_grid(sizes: &Sizes) -> Option<(&'static str, u128)> {
    let columns = sizes.head_dim.max(sizes.value_dim).min(tile::MAX_HEAD_DIM as usize);
    let head_dim = tile::head_dim_tile(columns as u32)?;
    let names = ["forward", "delta", "key and value gradient", "query gradient", "bias gradient"];
    let bias = [sizes.batch, sizes.query_heads, sizes.queries];
    let grids = Kernel::ALL.map(|kernel| blocks(kernel, sizes, bias, &tile_of(kernel, head_dim)));
    names.into_iter().zip(grids).find(|&(_, blocks)| blocks > u128::from(MAX_GRID))
}

fn tile_of(kernel: Kernel, head_dim: u32) -> TileConfig {
    match kernel {
        Kernel::Forward => tile::forward_tile(head_dim),
        _ => tile::backward_tile(head_dim),
    }
}

/// Blocks of a kernel's grid.
fn blocks(kernel: Kernel, sizes: &Sizes, bias: [usize; 3], tile: &TileConfig) -> u128 {
    let rows = |count: usize, rows: u32| count.div_ceil(rows as usize) as u128;
    let product =
        |parts: &[u128]| parts.iter().try_fold(1u128, |n, &p| n.checked_mul(p)).unwrap_or(u128::MAX);
    let wide = |n: usize| n as u128;
    let (batch, heads) = (wide(sizes.batch), wide(sizes.query_heads));
    match kernel {
        Kernel::Forward | Kernel::GradQuery => {
            product(&[rows(sizes.queries, tile.block_rows()), heads, batch])
        }
        Kernel::GradKeyValue => product(&[rows(sizes.keys, tile.block_rows()), wide(sizes.key_heads), batch]),
        Kernel::Delta => product(&[batch, heads, wide(sizes.queries)]).div_ceil(u128::from(tile::DELTA_ROWS)),
        Kernel::GradBias => {
            let [bias_batch, bias_heads, bias_queries] = bias;
            let query_blocks = if bias_queries == 1 { 1 } else { rows(sizes.queries, tile.block_rows()) };
            product(&[
                rows(sizes.keys, tile::BLOCK_COLUMNS),
                query_blocks,
                wide(bias_heads),
                wide(bias_batch),
            ])
        }
    }
}

fn launch(problem: &Problem, kernel: Kernel, params: &ProblemParams, bytes: &[u8]) -> Result<Launch> {
    let head_dim = tile::head_dim_tile(params.head_dim.max(params.value_dim)).ok_or_else(too_large)?;
    let storage: Storage = problem.dtype().storage().ok_or_else(too_large)?;
    let entry = entry::find(kernel, storage, head_dim).ok_or_else(too_large)?;
    let tile = tile_of(kernel, head_dim);
    let bias = [params.bias_batch, params.bias_heads, params.bias_queries].map(|n| n as usize);
    let grid = blocks(kernel, &problem.sizes, bias, &tile);
    let (block, shared_bytes) = match kernel {
        Kernel::Delta => (tile::DELTA_THREADS, 0),
        _ => (tile.threads, tile.shared_bytes()),
    };
    Ok(Launch {
        entry: entry.name,
        grid: u32::try_from(grid).map_err(|_| too_large())?,
        block,
        shared_bytes,
        parameters: bytes.to_vec(),
    })
}

/// What `Choice` has ruled out before: a problem that no kernel is made for.
fn too_large() -> Error {
    Error::Refused {
        verdict: "efficient cannot run this".into(),
        reasons: "no kernel is made for this size or type".into(),
    }
}

fn sizes(problem: &Problem) -> Result<ProblemParams> {
    let Sizes { batch, query_heads, key_heads, queries, keys, head_dim, value_dim } = problem.sizes;
    let small = |n: usize| u32::try_from(n).map_err(|_| too_large());
    let bias = problem.bias.as_ref().map_or([1; 4], shape4);
    let [low, high] = problem.band.bounds(queries, keys);
    Ok(ProblemParams {
        batch: small(batch)?,
        query_heads: small(query_heads)?,
        key_heads: small(key_heads)?,
        queries: small(queries)?,
        keys: small(keys)?,
        head_dim: small(head_dim)?,
        value_dim: small(value_dim)?,
        scale: problem.scale,
        band_low: low.unwrap_or(i32::MIN),
        band_high: high.unwrap_or(i32::MAX),
        aligned: 0,
        bias_batch: small(bias[0])?,
        bias_heads: small(bias[1])?,
        bias_queries: small(bias[2])?,
    })
}

/// A tensor of four dimensions as kernels see it. Where a dimension has one entry its stride is 0: that repeats a mask or
/// bias, and changes nothing elsewhere.
fn operand(tensor: &Tensor) -> TensorParam {
    let size = tensor.dtype().size();
    let stride = |d: usize| if tensor.shape()[d] == 1 { 0 } else { (tensor.strides()[d] * size) as i64 };
    TensorParam {
        address: tensor.address(),
        batch_stride: stride(0),
        head_stride: stride(1),
        row_stride: stride(2),
    }
}

/// The bits of the tensors whose rows all start, and end, at multiples of 16 bytes.
fn aligned(tensors: &[(u32, &Tensor)]) -> u32 {
    let is_aligned = |tensor: &Tensor| {
        let TensorParam { address, batch_stride, head_stride, row_stride } = operand(tensor);
        let strides = [batch_stride, head_stride, row_stride].map(|bytes| bytes as u64);
        let columns = (shape4(tensor)[3] * tensor.dtype().size()) as u64;
        [address, columns].into_iter().chain(strides).all(|bytes| bytes.is_multiple_of(16))
    };
    tensors.iter().filter(|(_, tensor)| is_aligned(tensor)).map(|(bit, _)| bit).sum()
}

#[cfg(test)]
mod tests;
