//! From a problem to the launches of kernels for tensor cores.

use flash_attention_abi::entry::find_flash;
use flash_attention_abi::flash::split::{COMBINE_COLUMNS, COMBINE_THREADS, SplitParams};
use flash_attention_abi::flash::{
    GRAD_SUM_ROWS, GradSums, flash_grad_head_dims, flash_grad_is_split, flash_head_dims,
};
use flash_attention_abi::params::{BackwardParams, ForwardParams, TensorParam};
use flash_attention_abi::{Dtype as Storage, FlashKernel};

use super::{ForwardTensors, Indices, MAX_GRID, forward_parameters, is_aligned, too_large, too_many_blocks};
use crate::band::Band;
use crate::device::accelerator::Launch;
use crate::error::{Error, Result};
use crate::problem::{Problem, Sizes};
use crate::tensor::Tensor;

mod split;

pub(crate) use split::excessive_rows;
use split::{Division, division};

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

/// Blocks of the forward kernel's grid, where one kernel meets all keys.
fn blocks(kernel: FlashKernel, (head_dim, value_dim): (u32, u32), sizes: &Sizes) -> u128 {
    let rows = kernel.tile(head_dim, value_dim).block_rows() as usize;
    let heads = sizes.query_heads as u128 * sizes.batch as u128;
    heads.saturating_mul(sizes.queries.div_ceil(rows) as u128)
}

/// Blocks of the grid that puts parts together: a warp for every row and piece of its columns.
fn combine_blocks(sizes: &Sizes) -> u128 {
    let rows = (sizes.batch as u128 * sizes.query_heads as u128).saturating_mul(sizes.queries as u128);
    let pieces = sizes.value_dim.div_ceil(COMBINE_COLUMNS as usize) as u128;
    rows.saturating_mul(pieces).div_ceil(u128::from(COMBINE_THREADS / 32))
}

/// How many blocks forward would need where those are too many.
pub(crate) fn excessive_grid(problem: &Problem) -> Option<u128> {
    let (kernel, dims) = (kernel(problem), head_dims(&problem.sizes)?);
    let blocks = match division(problem, kernel, dims) {
        Some(Division { parts: 1, blocks, .. }) => blocks,
        Some(Division { blocks, .. }) => blocks.max(combine_blocks(&problem.sizes)),
        None => blocks(kernel, dims, &problem.sizes),
    };
    (blocks > u128::from(MAX_GRID)).then_some(blocks)
}

/// Into how many parts forward divides the keys.
pub(crate) fn parts(problem: &Problem) -> usize {
    let division = head_dims(&problem.sizes).and_then(|dims| division(problem, kernel(problem), dims));
    division.map_or(1, |division| division.parts as usize)
}

/// What the parts leave for the kernel that puts them together: f32, `[parts, ..]` of out and of the log-sum-exp, contiguous.
pub(crate) struct PartTensors {
    pub(crate) out: Tensor,
    pub(crate) lse: Tensor,
}

/// The launches of forward, in order. The problem is one that `Flash` can run; `left` is given where it has [`parts`].
pub(crate) fn forward(
    problem: &Problem,
    indices: &Indices,
    written: &ForwardTensors<'_>,
    left: Option<&PartTensors>,
) -> Result<Vec<Launch>> {
    let params: ForwardParams = forward_parameters(problem, indices, written)?;
    let storage: Storage = problem.dtype().storage().ok_or_else(too_large)?;
    let (kernel, dims) = (kernel(problem), head_dims(&problem.sizes).ok_or_else(too_large)?);
    let launch = |kernel: FlashKernel, dims: (u32, u32), blocks: u128, shared_bytes, parameters: &[u8]| {
        let entry = find_flash(kernel, storage, dims).ok_or_else(too_large)?;
        Ok(Launch {
            entry: entry.name,
            grid: u32::try_from(blocks).map_err(|_| too_large())?,
            block: kernel.threads(dims.0, dims.1),
            shared_bytes,
            parameters: parameters.to_vec(),
        })
    };
    let Some(division) = division(problem, kernel, dims) else {
        let (blocks, tile) = (blocks(kernel, dims, &problem.sizes), kernel.tile(dims.0, dims.1));
        return Ok(vec![launch(kernel, dims, blocks, tile.shared_bytes(), params.as_bytes())?]);
    };
    let params = split_parameters(problem, params, division.parts, left);
    let shared_bytes = division.kernel.tile(dims.0, dims.1).shared_bytes();
    let mut launches = vec![launch(division.kernel, dims, division.blocks, shared_bytes, params.as_bytes())?];
    if division.parts > 1 {
        let blocks = combine_blocks(&problem.sizes);
        launches.push(launch(FlashKernel::Combine, (0, 0), blocks, 0, params.as_bytes())?);
    }
    Ok(launches)
}

/// What the kernels of parts take.
fn split_parameters(
    problem: &Problem,
    forward: ForwardParams,
    parts: u32,
    left: Option<&PartTensors>,
) -> SplitParams {
    let Some(PartTensors { out, lse }) = left.filter(|_| parts > 1) else {
        return SplitParams { part_lse: forward.lse, forward, parts: 1, ..SplitParams::default() };
    };
    let columns = problem.sizes.value_dim as i64;
    let TensorParam { batch_stride, head_stride, row_stride, .. } = forward.lse;
    let part_out = TensorParam {
        address: out.address(),
        batch_stride: batch_stride * columns,
        head_stride: head_stride * columns,
        row_stride: row_stride * columns,
    };
    let bytes = |tensor: &Tensor| (tensor.count() / parts as usize * size_of::<f32>()) as u64;
    SplitParams {
        part_out,
        part_lse: TensorParam { address: lse.address(), ..forward.lse },
        part_out_stride: bytes(out),
        part_lse_stride: bytes(lse),
        forward,
        parts,
        reserved: 0,
    }
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

/// The most keys that a query may see for which backward has no atomic additions unless they are asked for: two blocks of 128,
/// or four of 64 where warps share keys.
pub const FUSED_KEYS: usize = 256;

/// Whether one kernel for dk, dv and dq, whose blocks of keys add up dq atomically, is taken rather than two kernels without
/// atomics that compute scores twice, or three that do so three times.
///
/// It saves 2 of 7 products (3 of 8 above 128 columns), `4 n` floating-point operations for each element of q where a query sees `n` keys, and the second
/// reading of q and dout, 4 bytes; it costs 12 bytes of sums: zeros written, sums written back, sums read. An A100 does 200
/// operations of tensor cores in the time of a byte (312 TFLOP/s, 1.56 TB/s; NVIDIA A100 datasheet), half of them in practice,
/// so that the two break even near `8 * 100 / 4 = 200` keys. With one block of keys there is nothing to add up either.
pub(crate) fn fuses(problem: &Problem) -> bool {
    let Band { low, high, .. } = problem.band;
    let width = low.zip(high).map(|(low, high)| (i64::from(high) - i64::from(low) + 1).max(0) as usize);
    let seen = width.map_or(problem.sizes.keys, |width| width.min(problem.sizes.keys));
    match problem.options.deterministic {
        Some(deterministic) => !deterministic,
        None => seen > FUSED_KEYS,
    }
}

/// The shape, in f32, of the sums of dq that backward needs ([`GradSums`]), where it goes by a fused kernel. The problem is one
/// that [goes backward](goes_backward).
pub(crate) fn sums_shape(problem: &Problem) -> Option<[usize; 4]> {
    let (head_dim, _) = grad_head_dims(&problem.sizes)?;
    let Sizes { batch, query_heads, queries, .. } = problem.sizes;
    let rows = GRAD_SUM_ROWS as usize;
    let (entries, tiles) = match problem.ragged {
        // Each sequence begins with a tile of its own.
        Some(_) => (1, problem.query_rows() / rows + batch),
        None => (batch, queries.div_ceil(rows)),
    };
    let elements = GradSums { head_dim }.tile_bytes() as usize / size_of::<f32>();
    fuses(problem).then_some([entries, query_heads, tiles, elements])
}

/// Those sums as kernels see them: rows are tiles.
pub(super) fn sums_param(problem: &Problem, sums: &Tensor) -> TensorParam {
    let stride = |d: usize| (sums.strides()[d] * size_of::<f32>()) as i64;
    let batch_stride = if problem.ragged.is_some() { stride(2) } else { stride(0) };
    TensorParam { address: sums.address(), batch_stride, head_stride: stride(1), row_stride: stride(2) }
}

/// The launches behind `delta`: of `dk/dv`, or `dk` and `dv`, and of `dq`; or, where there are sums of dq, of a fused kernel and
/// the rounding of the sums. The problem is one that [goes backward](goes_backward).
pub(crate) fn backward(problem: &Problem, params: &BackwardParams) -> Result<Vec<Launch>> {
    let storage: Storage = problem.dtype().storage().ok_or_else(too_large)?;
    let dims = grad_head_dims(&problem.sizes).ok_or_else(too_large)?;
    let general = kernel(problem) != FlashKernel::Forward;
    let (of_keys, fused): (&[FlashKernel], _) = match (flash_grad_is_split(dims.0, dims.1), general) {
        (false, false) => (&[FlashKernel::GradKeyValue], FlashKernel::GradFused),
        (false, true) => (&[FlashKernel::GeneralGradKeyValue], FlashKernel::GeneralGradFused),
        (true, false) => (&[FlashKernel::GradKey, FlashKernel::GradValue], FlashKernel::WideGradFused),
        (true, true) => {
            (&[FlashKernel::GeneralGradKey, FlashKernel::GeneralGradValue], FlashKernel::GeneralGradFused)
        }
    };
    let of_queries = if general { FlashKernel::GeneralGradQuery } else { FlashKernel::GradQuery };
    let Sizes { batch, query_heads, key_heads, queries, keys, .. } = problem.sizes;
    let one = |kernel: FlashKernel, [rows, block_rows]: [usize; 2], heads: usize, shared_bytes| {
        let entry = find_flash(kernel, storage, dims).ok_or_else(too_large)?;
        let blocks =
            (rows.div_ceil(block_rows) as u128).saturating_mul(heads as u128).saturating_mul(batch as u128);
        let grid = u32::try_from(blocks).ok().filter(|&blocks| blocks <= MAX_GRID).ok_or_else(|| {
            let (verdict, reasons) = ("flash cannot run backward", too_many_blocks(entry.name, blocks));
            Error::Refused { verdict: verdict.into(), reasons }
        })?;
        let block = kernel.threads(dims.0, dims.1);
        Ok(Launch { entry: entry.name, grid, block, shared_bytes, parameters: params.as_bytes().to_vec() })
    };
    let of_rows = |kernel: FlashKernel, rows: usize, heads: usize| {
        let block_rows = kernel.grad_tile(dims.0, dims.1).block_rows();
        one(kernel, [rows, block_rows as usize], heads, kernel.grad_shared_bytes(dims.0, dims.1))
    };
    if params.dq_sums.address != 0 {
        let sums = one(FlashKernel::GradConvert, [queries, GRAD_SUM_ROWS as usize], query_heads, 0)?;
        return Ok(vec![of_rows(fused, keys, key_heads)?, sums]);
    }
    let of_keys = of_keys.iter().map(|&kernel| of_rows(kernel, keys, key_heads));
    of_keys.chain([of_rows(of_queries, queries, query_heads)]).collect()
}

#[cfg(test)]
mod backward_tests;
#[cfg(test)]
mod tests;
