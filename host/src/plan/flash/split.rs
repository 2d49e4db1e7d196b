//! Into how many parts forward on tensor cores divides the keys, and when the queries of several heads share a tile.

use flash_attention_abi::FlashKernel;
use flash_attention_abi::flash::FlashTile;
use flash_attention_abi::flash::split::MAX_PARTS;

use crate::problem::{Problem, Sizes};

/// The most rows of heads that share tiles: kernels count them in 32 bits, with room for a tile.
const MAX_ROWS: usize = 1 << 30;

/// How a kernel of parts divides a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Division {
    /// [`FlashKernel::Split`] or [`FlashKernel::SplitGeneral`]: their rows are those of all heads that share keys.
    pub(super) kernel: FlashKernel,
    /// Parts of the keys.
    pub(super) parts: u32,
    /// Blocks of the grid.
    pub(super) blocks: u128,
}

/// The division of a problem, or `None` where the kernel `whole`, which meets all keys in one go and keeps heads apart, is as good:
///
/// - where its grid leaves more than a fifth of the multiprocessors without work, keys are divided in [`parts`];
/// - where an eighth fewer tiles hold the queries of all heads that share keys together than one by one, K and V are read less often.
///
/// The caller's own number of parts comes before that.
pub(super) fn division(problem: &Problem, whole: FlashKernel, dims: (u32, u32)) -> Option<Division> {
    let kernel = match whole {
        FlashKernel::Forward => FlashKernel::Split,
        _ => FlashKernel::SplitGeneral,
    };
    let (tile, whole_tile) = (kernel.tile(dims.0, dims.1), whole.tile(dims.0, dims.1));
    let Sizes { batch, query_heads, queries, .. } = problem.sizes;
    let heads = heads(problem);
    let row_blocks = rows(problem)?.div_ceil(tile.block_rows() as usize);
    let whole_blocks = queries.div_ceil(whole_tile.block_rows() as usize);
    let blocks = product([batch, query_heads / heads, row_blocks]);
    let blocks_of_whole = product([batch, query_heads, whole_blocks]);
    let reads_less = 8 * row_blocks <= 7 * heads * whole_blocks;

    let multiprocessors = multiprocessors(problem);
    let parts = match problem.options.splits as u32 {
        0 if fills(blocks_of_whole, multiprocessors) && !reads_less => return None,
        0 if fills(blocks, multiprocessors) => 1,
        0 => parts(blocks, most_steps(problem, heads, &tile), multiprocessors),
        asked => asked,
    };
    // In one part smaller tiles still make more blocks where there are too few.
    let spreads = problem.options.splits == 0 && blocks > blocks_of_whole;
    let blocks = blocks.saturating_mul(u128::from(parts));
    (parts > 1 || reads_less || spreads).then_some(Division { kernel, parts, blocks })
}

/// Rows of a unit of work where they are too many for keys to be divided.
pub(crate) fn excessive_rows(problem: &Problem) -> Option<u128> {
    let wanted = product([problem.sizes.queries, heads(problem), 1]);
    rows(problem).is_none().then_some(wanted)
}

/// Query heads whose queries share tiles.
fn heads(problem: &Problem) -> usize {
    problem.sizes.query_heads / problem.sizes.key_heads
}

/// Rows of those heads, if they are not too many.
fn rows(problem: &Problem) -> Option<usize> {
    problem.sizes.queries.checked_mul(heads(problem)).filter(|&rows| rows <= MAX_ROWS)
}

fn product(sizes: [usize; 3]) -> u128 {
    sizes.into_iter().fold(1, |product, size| product.saturating_mul(size as u128))
}

/// Multiprocessors of the problem's device.
fn multiprocessors(problem: &Problem) -> u32 {
    problem.device().accelerator().map_or(1, |accelerator| accelerator.multiprocessors().max(1))
}

/// Whether a grid gives four fifths of the multiprocessors work, or more.
fn fills(blocks: u128, multiprocessors: u32) -> bool {
    blocks.saturating_mul(5) >= u128::from(multiprocessors) * 4
}

/// Into how many parts keys are divided where there are `blocks` blocks of rows, of which the longest meets `steps` blocks of keys.
///
/// One where the blocks keep four fifths of the multiprocessors busy. Else the least number that makes at least 85 % of the best use of
/// them that any number makes: the last wave of blocks leaves some idle. No part of the longest block is without keys, and no number
/// counts that leaves the longest part as long as a smaller one does. This is FlashAttention-2's rule (`num_splits_heuristic` in
/// `csrc/flash_attn/flash_api.cpp`).
pub(crate) fn parts(blocks: u128, steps: usize, multiprocessors: u32) -> u32 {
    if fills(blocks, multiprocessors) {
        return 1;
    }
    let (blocks, places) = (blocks as usize, multiprocessors as usize);
    let most = steps.min(places).clamp(1, MAX_PARTS as usize);
    let shortens = |n: usize| n == 1 || steps.div_ceil(n) < steps.div_ceil(n - 1);
    // The share of the multiprocessors that are busy, on average over all waves.
    let used = |n: usize| (blocks * n) as f64 / ((blocks * n).next_multiple_of(places)) as f64;
    let best = (1..=most).filter(|&n| shortens(n)).map(used).fold(0.0, f64::max);
    let good = (1..=most).find(|&n| shortens(n) && used(n) >= 0.85 * best);
    good.unwrap_or(1) as u32
}

/// The most blocks of keys that a block of rows meets, where a query has `heads` rows.
fn most_steps(problem: &Problem, heads: usize, tile: &FlashTile) -> usize {
    let (rows, block_keys) = (tile.block_rows() as usize, tile.block_keys as usize);
    let steps = |[queries, keys]: [usize; 2]| {
        let blocks = (queries * heads).div_ceil(rows);
        let of_block = |block: usize| {
            let last = ((block + 1) * rows).min(queries * heads) - 1;
            let first = problem.band.visible(block * rows / heads, queries, keys).start;
            let end = problem.band.visible(last / heads, queries, keys).end;
            end.div_ceil(block_keys).saturating_sub(first / block_keys)
        };
        (0..blocks).map(of_block).max().unwrap_or(0)
    };
    lengths(problem).map(steps).max().unwrap_or(0)
}

/// Queries and keys of every batch entry, or of all where they are the same.
fn lengths(problem: &Problem) -> impl Iterator<Item = [usize; 2]> {
    let Sizes { queries, keys, .. } = problem.sizes;
    let of = |offsets: &[usize], b: usize| offsets[b + 1] - offsets[b];
    let all: Vec<[usize; 2]> = match (&problem.ragged, &problem.key_lengths) {
        (Some(ragged), _) => (0..problem.sizes.batch)
            .map(|b| [of(&ragged.query_offsets, b), of(&ragged.key_offsets, b)])
            .collect(),
        (None, Some(lengths)) => lengths.iter().map(|&keys| [queries, keys]).collect(),
        (None, None) => vec![[queries, keys]],
    };
    all.into_iter()
}

#[cfg(test)]
mod tests;
