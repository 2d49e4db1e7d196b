//! From a problem to launches: entry point, grid, block, shared bytes and parameters. Nothing here touches a device.

use flash_attention_abi::entry;
use flash_attention_abi::params::{self as abi, BackwardParams, ForwardParams, ProblemParams, TensorParam};
use flash_attention_abi::tile::{self, TileConfig};
use flash_attention_abi::{Dtype as Storage, Kernel, philox};

use crate::device::accelerator::{Accelerator, Launch};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::options::Dropout;
use crate::problem::{Problem, Sizes, shape4};
use crate::tensor::Tensor;

/// The most blocks of a one-dimensional grid.
pub(crate) const MAX_GRID: u32 = i32::MAX as u32;

/// The lists that a problem has in the host's memory and kernels read from the device's, as i32: where the queries and the keys
/// of each sequence begin, and the keys that count. They lie behind one another, so that one copy brings them all.
pub(crate) struct Indices {
    bytes: Vec<u8>,
    /// Memory for as many bytes.
    memory: Option<Tensor>,
    /// Where each list begins in it, if there is one: query offsets, key offsets, key lengths.
    starts: [Option<usize>; 3],
}

impl Indices {
    /// Takes memory on the problem's device; nothing is copied yet.
    pub(crate) fn allocate(problem: &Problem) -> Result<Indices> {
        let offsets = problem.ragged.as_ref().map(|ragged| (&ragged.query_offsets, &ragged.key_offsets));
        let (queries, keys) = offsets.unzip();
        let mut bytes = vec![];
        let starts = [queries, keys, problem.key_lengths.as_ref()].map(|list| {
            let start = bytes.len();
            // Sequences are at most 2^30 long, and packed tensors were checked to have no more rows than that.
            list.map(|values| bytes.extend(values.iter().flat_map(|&n| (n as i32).to_le_bytes())))
                .map(|()| start)
        });
        let needed = starts.iter().any(Option::is_some);
        let memory = needed.then(|| Tensor::uninitialized(problem.device(), Dtype::U8, &[bytes.len()]));
        Ok(Indices { memory: memory.transpose()?, bytes, starts })
    }

    /// Copies them to their memory, in the order of launches.
    pub(crate) fn copy(&self, accelerator: &dyn Accelerator) -> Result<()> {
        match &self.memory {
            Some(memory) if !self.bytes.is_empty() => accelerator.upload(memory.address(), &self.bytes),
            _ => Ok(()),
        }
    }

    /// The addresses of query offsets, key offsets and key lengths; 0 where there are none.
    fn addresses(&self) -> [u64; 3] {
        let begin = self.memory.as_ref().map_or(0, Tensor::address);
        self.starts.map(|start| start.map_or(0, |start| begin + start as u64))
    }
}

/// What forward writes, as `[batch, heads, queries, columns]` and in the caller's shape of the log-sum-exp.
pub(crate) struct ForwardTensors<'a> {
    pub(crate) out: &'a Tensor,
    pub(crate) lse: &'a Tensor,
}

/// What backward reads beside the problem, and writes; as in [`ForwardTensors`].
pub(crate) struct BackwardTensors<'a> {
    pub(crate) out: &'a Tensor,
    pub(crate) lse: &'a Tensor,
    pub(crate) dout: &'a Tensor,
    /// Contiguous.
    pub(crate) dlse: Option<&'a Tensor>,
    pub(crate) delta: &'a Tensor,
    /// Of the shape that [`flash::sums_shape`] says, zeros when the kernels run; given where backward goes by a fused kernel.
    pub(crate) dq_sums: Option<&'a Tensor>,
    /// Log-sum-exp and delta in one, `[.., 2]`; given where backward goes by the other kernels for tensor cores.
    pub(crate) lse_delta: Option<&'a Tensor>,
    pub(crate) dq: &'a Tensor,
    pub(crate) dk: &'a Tensor,
    pub(crate) dv: &'a Tensor,
    /// The bias's gradient in four dimensions, if it is wanted.
    pub(crate) dbias: Option<&'a Tensor>,
    pub(crate) dsinks: Option<&'a Tensor>,
}

/// The one launch of forward. The problem is one that `Efficient` can run.
pub(crate) fn forward(problem: &Problem, indices: &Indices, written: &ForwardTensors<'_>) -> Result<Launch> {
    let params = forward_parameters(problem, indices, written)?;
    launch(problem, Kernel::Forward, &params.problem, params.as_bytes())
}

/// What the forward kernels of either family take.
fn forward_parameters(
    problem: &Problem,
    indices: &Indices,
    written: &ForwardTensors<'_>,
) -> Result<ForwardParams> {
    let mut params = ForwardParams {
        q: operand(&problem.q),
        k: operand(&problem.k),
        v: operand(&problem.v),
        out: operand(written.out),
        mask: problem.mask.as_ref().map(operand).unwrap_or_default(),
        bias: problem.bias.as_ref().map(operand).unwrap_or_default(),
        lse: per_query(problem, written.lse),
        problem: parameters(problem, indices)?,
    };
    params.problem.aligned = aligned(&[
        (abi::ALIGNED_Q, &problem.q),
        (abi::ALIGNED_K, &problem.k),
        (abi::ALIGNED_V, &problem.v),
        (abi::ALIGNED_OUT, written.out),
    ]);
    Ok(params)
}

/// The launches of backward, in order. The problem is one that `Efficient` or, where there is `lse_delta` or `dq_sums`, `Flash` can run. The
/// gradients of bias and sinks are `Efficient`'s.
pub(crate) fn backward(
    problem: &Problem,
    indices: &Indices,
    tensors: &BackwardTensors<'_>,
) -> Result<Vec<Launch>> {
    let params = backward_parameters(problem, indices, tensors)?;
    let own = |kernel| launch(problem, kernel, &params.problem, params.as_bytes());
    let mut launches = vec![own(Kernel::Delta)?];
    if tensors.lse_delta.is_some() || tensors.dq_sums.is_some() {
        launches.extend(flash::backward(problem, &params)?);
    } else {
        launches.extend([own(Kernel::GradKeyValue)?, own(Kernel::GradQuery)?]);
    }
    if tensors.dbias.is_some() {
        launches.push(own(Kernel::GradBias)?);
    }
    if tensors.dsinks.is_some() {
        launches.push(own(Kernel::GradSink)?);
    }
    Ok(launches)
}

/// What the backward kernels of either family take.
fn backward_parameters(
    problem: &Problem,
    indices: &Indices,
    tensors: &BackwardTensors<'_>,
) -> Result<BackwardParams> {
    let mut params = BackwardParams {
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
        lse: per_query(problem, tensors.lse),
        dlse: tensors.dlse.map(|dlse| per_query(problem, dlse)).unwrap_or_default(),
        delta: per_query(problem, tensors.delta),
        dq_sums: tensors.dq_sums.map(|sums| flash::sums_param(problem, sums)).unwrap_or_default(),
        lse_delta: tensors.lse_delta.map(|pairs| pairs_per_query(problem, pairs)).unwrap_or_default(),
        dsinks: tensors.dsinks.map_or(0, Tensor::address),
        problem: parameters(problem, indices)?,
    };
    params.problem.aligned = aligned(&[
        (abi::ALIGNED_Q, &problem.q),
        (abi::ALIGNED_K, &problem.k),
        (abi::ALIGNED_V, &problem.v),
        (abi::ALIGNED_OUT, tensors.out),
        (abi::ALIGNED_DOUT, tensors.dout),
        (abi::ALIGNED_DQ, tensors.dq),
        (abi::ALIGNED_DK, tensors.dk),
        (abi::ALIGNED_DV, tensors.dv),
    ]);
    Ok(params)
}

/// The first kernel whose grid would be too large, with its blocks. The gradient of a bias counts as if the bias had its
/// full shape.
pub(crate) fn excessive_grid(sizes: &Sizes) -> Option<(&'static str, u128)> {
    let columns = sizes.head_dim.max(sizes.value_dim).min(tile::MAX_HEAD_DIM as usize);
    let head_dim = tile::head_dim_tile(columns as u32)?;
    let names =
        ["forward", "delta", "key and value gradient", "query gradient", "bias gradient", "sink gradient"];
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
        Kernel::GradSink => heads,
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
        // One f32 a warp.
        Kernel::GradSink => (tile::SINK_THREADS, tile::SINK_THREADS / 32 * 4),
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
        verdict: "no kernel can run this".into(),
        reasons: "none is made for this size or type".into(),
    }
}

/// Why a kernel cannot be launched on so many blocks, in words.
pub(crate) fn too_many_blocks(kernel: &str, blocks: u128) -> String {
    format!("the {kernel} kernel would need {blocks} blocks, and at most {MAX_GRID} can be launched")
}

fn parameters(problem: &Problem, indices: &Indices) -> Result<ProblemParams> {
    let Sizes { batch, query_heads, key_heads, queries, keys, head_dim, value_dim } = problem.sizes;
    let small = |n: usize| u32::try_from(n).map_err(|_| too_large());
    let bias = problem.bias.as_ref().map_or([1; 4], shape4);
    let [query_offsets, key_offsets, key_lengths] = indices.addresses();
    let dropout = problem.dropout.unwrap_or(Dropout { p: 0.0, seed: 0, offset: 0 });
    Ok(ProblemParams {
        alibi: problem.alibi.as_ref().map(slopes).unwrap_or_default(),
        query_offsets,
        key_offsets,
        key_lengths,
        sinks: problem.sinks.as_ref().map_or(0, Tensor::address),
        batch: small(batch)?,
        query_heads: small(query_heads)?,
        key_heads: small(key_heads)?,
        queries: small(queries)?,
        keys: small(keys)?,
        head_dim: small(head_dim)?,
        value_dim: small(value_dim)?,
        scale: problem.scale,
        band_low: problem.band.low.unwrap_or(i32::MIN),
        band_high: problem.band.high.unwrap_or(i32::MAX),
        band_lower_right: u32::from(problem.band.lower_right),
        softcap: problem.softcap.unwrap_or(0.0),
        aligned: 0,
        bias_batch: small(bias[0])?,
        bias_heads: small(bias[1])?,
        bias_queries: small(bias[2])?,
        dropout_threshold: philox::threshold(dropout.p),
        dropout_scale: (1.0 / (1.0 - f64::from(dropout.p))) as f32,
        seed: [dropout.seed as u32, (dropout.seed >> 32) as u32],
        offset: dropout.offset,
        reserved: 0,
    })
}

/// Slopes `[batch or 1, heads]` as kernels see them.
fn slopes(tensor: &Tensor) -> TensorParam {
    let stride = |d: usize| {
        let repeated = tensor.shape()[d] == 1;
        if repeated { 0 } else { (tensor.strides()[d] * size_of::<f32>()) as i64 }
    };
    TensorParam { address: tensor.address(), batch_stride: stride(0), head_stride: stride(1), row_stride: 0 }
}

/// A contiguous tensor in the shape of the log-sum-exp as `[batch, heads, queries, 1]`; the queries of a ragged batch's
/// sequences lie behind one another.
fn per_query(problem: &Problem, tensor: &Tensor) -> TensorParam {
    let row_stride = size_of::<f32>() as i64;
    let head_stride = problem.query_rows() as i64 * row_stride;
    let batch_stride =
        if problem.ragged.is_some() { 0 } else { problem.sizes.query_heads as i64 * head_stride };
    TensorParam { address: tensor.address(), batch_stride, head_stride, row_stride }
}

/// The same of a tensor with two numbers a query.
fn pairs_per_query(problem: &Problem, tensor: &Tensor) -> TensorParam {
    let one = per_query(problem, tensor);
    TensorParam {
        batch_stride: 2 * one.batch_stride,
        head_stride: 2 * one.head_stride,
        row_stride: 2 * one.row_stride,
        ..one
    }
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
    tensors.iter().filter(|(_, tensor)| is_aligned(tensor)).map(|(bit, _)| bit).sum()
}

/// Whether a tensor's rows all start, and end, at multiples of 16 bytes.
pub(crate) fn is_aligned(tensor: &Tensor) -> bool {
    let TensorParam { address, batch_stride, head_stride, row_stride } = operand(tensor);
    let strides = [batch_stride, head_stride, row_stride].map(|bytes| bytes as u64);
    let columns = (shape4(tensor)[3] * tensor.dtype().size()) as u64;
    [address, columns].into_iter().chain(strides).all(|bytes| bytes.is_multiple_of(16))
}

pub(crate) mod flash;
#[cfg(test)]
mod tests;
