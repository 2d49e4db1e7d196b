//! Forward of a part of the keys, on tensor cores (sm_80): for decoding and short queries, where there are fewer blocks of queries
//! than multiprocessors.
//!
//! | | |
//! |---|---|
//! | grid | blocks of rows x parts x key heads x batch |
//! | rows | (query, head) pairs of the heads that share keys |
//! | stays | Q in registers where it fits, else in shared memory; O, row maxima and row sums in registers |
//! | streams | K and V through two buffers each |
//! | leaves | O and the log-sum-exp of its part in f32, for `flash_combine`; where there is one part, the output |
//! | bound by | global memory: every key of the part is read once for all rows of the block |

use crate::config::{FlashConfig, assume_checked};
use crate::element::{Element, F32};
use crate::pipeline::flash::{Between, FlashBlock};
use crate::pipeline::flash_split::Stream;
use crate::pipeline::row::{self, LanesOfAQuad};
use crate::score::dropout::Dropout;
use crate::score::{ScoreRules, TilePlace};
use crate::sequence::Sequence;
use crate::softmax::OnlineSoftmax;
use crate::tiles::fragment::{MAX_ROWS, RowVector};
use crate::tiles::mma_fragment::MmaTiles;
use crate::tiles::packed::{Packed, PackedRows};
use cuda_std::{hint, mem, thread};
use flash_attention_abi::flash::split::SplitParams;
use flash_attention_abi::{ForwardParams, ProblemParams, TensorParam};
use flash_attention_geometry::grid::Work;
use flash_attention_geometry::mma::MmaPlace;

pub use crate::pipeline::flash_split::barriers;

/// Votes in the source: one, whether a maximum rose.
pub const VOTES: u32 = 1;

/// Shuffles in the source for each row of a thread: two for the maximum in the step, two for the sum.
pub const SHUFFLES_A_ROW: u32 = 4;

/// Some rows of some neighbouring heads that share their keys, and a part of those.
struct SplitBlock {
    sequence: Sequence,
    rows: PackedRows,
    first_head: u32,
    key_head: u32,
    first_row: u32,
    part: u32,
}

impl SplitBlock {
    /// That of the calling block, which owns `block_rows` rows of all heads that share keys. `None` where a sequence of a ragged batch
    /// has fewer rows.
    ///
    /// # Safety
    /// The grid is the plan's, and what the problem gives is readable.
    #[inline(always)]
    unsafe fn of_this_block(problem: &ProblemParams, block_rows: u32, parts: u32) -> Option<Self> {
        let heads = problem.query_heads / problem.key_heads;
        let row_blocks = (problem.queries * heads).div_ceil(block_rows);
        // SAFETY: the plan has given every block of the grid something to do.
        unsafe {
            core::hint::assert_unchecked(heads > 0 && parts > 0);
            core::hint::assert_unchecked(row_blocks > 0 && row_blocks * parts > 0);
        }
        let Work { block, head: key_head, batch } =
            Work::decode(thread::block_idx_x(), row_blocks * parts, problem.key_heads);
        // SAFETY: the caller's.
        let sequence = unsafe { Sequence::new(problem, batch) };
        // SAFETY: no sequence is longer.
        unsafe { core::hint::assert_unchecked(sequence.keys <= 1 << 30) };
        let rows = PackedRows { heads, rows: sequence.queries * heads };
        let (part, first_row) = (block / row_blocks, block % row_blocks * block_rows);
        let first_head = key_head * heads;
        (first_row < rows.rows).then_some(SplitBlock {
            sequence,
            rows,
            first_head,
            key_head,
            first_row,
            part,
        })
    }

    /// The rows of a tensor that has one for every query of every query head.
    #[inline(always)]
    fn packed<E: Element>(&self, tensor: &TensorParam, columns: u32) -> Packed<E> {
        let first = self.sequence.of_queries(tensor, self.first_head, columns, true);
        Packed::new(self.rows, first, tensor.head_stride)
    }

    /// The tensor of this block's part, where those of the parts lie `stride` bytes apart.
    #[inline(always)]
    fn of_part(&self, first: &TensorParam, stride: u64) -> TensorParam {
        TensorParam { address: first.address + u64::from(self.part) * stride, ..*first }
    }

    /// The rules of scores of a query head.
    ///
    /// # Safety
    /// What the problem gives is readable as it says.
    #[inline(always)]
    unsafe fn rules<E: Element>(&self, forward: &ForwardParams, head: u32) -> ScoreRules<E> {
        // SAFETY: the caller's.
        unsafe { ScoreRules::new(&forward.problem, &forward.mask, &forward.bias, &self.sequence, head) }
    }

    /// The queries of a thread's rows.
    #[inline(always)]
    fn queries<C: FlashConfig>(&self, place: MmaPlace) -> [u32; MAX_ROWS] {
        let mut queries = [0; MAX_ROWS];
        for i in 0..C::ROWS {
            queries[i] = self.rows.query(self.first_row + C::row(place, i));
        }
        queries
    }

    /// The query head of a thread's row `i`, that of query `query`.
    #[inline(always)]
    fn head<C: FlashConfig>(&self, place: MmaPlace, i: usize, query: u32) -> u32 {
        self.first_head + self.rows.head_of(self.first_row + C::row(place, i), query)
    }

    /// The sinks of a thread's rows, those of these queries.
    ///
    /// # Safety
    /// `sinks` is the address of one logit for every head.
    #[inline(always)]
    unsafe fn sinks<C: FlashConfig>(
        &self,
        sinks: u64,
        queries: &[u32; MAX_ROWS],
        place: MmaPlace,
    ) -> RowVector {
        let mut of_rows = [0.0; MAX_ROWS];
        for i in 0..C::ROWS {
            // SAFETY: the caller's.
            of_rows[i] = unsafe { row::sink(sinks, self.head::<C>(place, i, queries[i])) };
        }
        of_rows
    }

    /// The first query of the block, and one past its last.
    #[inline(always)]
    fn query_range(&self, block_rows: u32) -> (u32, u32) {
        let end = self.rows.rows.min(self.first_row + block_rows);
        (self.rows.query(self.first_row), self.rows.query(end - 1) + 1)
    }

    /// Writes a thread's rows of the part's output, normalised, and its log-sum-exps.
    ///
    /// # Safety
    /// The tensors are writable, and these rows of this part belong to this block alone.
    #[inline(always)]
    unsafe fn store<C: FlashConfig>(
        &self,
        params: &SplitParams,
        output: &MmaTiles,
        lse: &RowVector,
        place: MmaPlace,
    ) {
        let (rows, first) = (2 * C::ROW_TILES, self.first_row);
        let columns = params.forward.problem.value_dim;
        // SAFETY: the caller's.
        unsafe {
            if params.parts == 1 {
                let out = self.packed::<C::Element>(&params.forward.out, columns);
                out.store(output, rows, C::OUTPUT_TILES, place, first);
            } else {
                let out = self.of_part(&params.part_out, params.part_out_stride);
                self.packed::<F32>(&out, columns).store(output, rows, C::OUTPUT_TILES, place, first);
            }
            let sums = self.packed::<F32>(&self.of_part(&params.part_lse, params.part_lse_stride), 1);
            for i in 0..rows {
                let row = first + C::row(place, i);
                if place.first_column == 0 && row < self.rows.rows {
                    mem::st_global_f32::<0>(sums.at(row, 0), lse[i]);
                }
            }
        }
    }
}

/// The kernel, for padded columns `D` of q and k and `V` of v.
///
/// # Safety
/// Launched as the host's plan says, on tensors that are as `params` describes them.
#[inline(always)]
pub unsafe fn flash_split<C: FlashConfig, const D: u32, const V: u32>(params: &SplitParams) {
    let (forward, problem) = (&params.forward, &params.forward.problem);
    // SAFETY: the caller's.
    unsafe { assume_checked(problem) };
    let tile = C::TILE;
    // SAFETY: the caller's.
    let work = unsafe { SplitBlock::of_this_block(problem, tile.block_rows(), params.parts) };
    let Some(work) = work else { return };
    let sequence = work.sequence;
    let k = sequence.of_keys(&forward.k, work.key_head, problem.head_dim, true);
    let v = sequence.of_keys(&forward.v, work.key_head, problem.value_dim, true);
    // SAFETY: the caller's.
    let rules = unsafe { work.rules(forward, work.first_head) };
    let (first_query, last_query) = work.query_range(tile.block_rows());
    let range = rules.key_blocks(first_query, last_query, sequence.keys, tile.block_keys);
    let (begin, end) = range.part(work.part, params.parts);

    let block = FlashBlock::<C, D, V>::new();
    let queries = work.queries::<C>(block.place);
    let busy = work.first_row + block.warp_row() < work.rows.rows;
    let mut output = MmaTiles::zero();
    // SAFETY: all threads are here, and every thread takes the same way through the blocks of keys. A sink is in the sum of the
    // first part alone.
    unsafe {
        let sinks = C::GENERAL && work.part == 0 && problem.sinks != 0;
        let factor = if C::GENERAL { 1.0 } else { rules.scale_log2() };
        let of_rows = || work.sinks::<C>(problem.sinks, &queries, block.place);
        let mut softmax = OnlineSoftmax::<C, LanesOfAQuad>::with_sinks(
            sinks,
            of_rows,
            factor,
            block.place.first_column == 0,
        );
        if begin < end {
            let q = work.packed(&forward.q, problem.head_dim);
            block.copy_packed(&q, work.first_row, problem.head_dim, problem.value_dim);
            let stream = Stream { block: &block, k: &k, v: &v, end, busy };
            let left = stream.start(begin);
            for index in begin..end {
                let first_key = index * tile.block_keys;
                let plain = range.is_plain(index);
                let tile = TilePlace { thread: block.place, first_query: work.first_row, first_key, plain };
                let between = Within::<C> { rules: &rules, forward, work: &work, queries: &queries, tile };
                stream.advance(&left, &mut softmax, &mut output, index, &between);
            }
        }
        let finished = softmax.finalize();
        output.scale_rows(C::ROW_TILES, C::OUTPUT_TILES, &finished.inverse_sum);
        work.store::<C>(params, &output, &finished.lse, block.place);
    }
}

/// Everything but products that a block of keys needs.
struct Within<'a, C: FlashConfig> {
    /// Those of the first head.
    rules: &'a ScoreRules<C::Element>,
    forward: &'a ForwardParams,
    work: &'a SplitBlock,
    /// Of the thread's rows.
    queries: &'a [u32; MAX_ROWS],
    tile: TilePlace<C::Place>,
}

impl<C: FlashConfig> Within<'_, C> {
    /// The head of a thread's row, made so that what follows from it is not kept in registers from step to step.
    #[inline(always)]
    fn head(&self, i: usize) -> u32 {
        hint::opaque(self.work.head::<C>(self.tile.thread, i, self.queries[i]))
    }
}

impl<C: FlashConfig> Between for Within<'_, C> {
    const HIDES: bool = true;

    #[inline(always)]
    unsafe fn scores(&self, scores: &mut MmaTiles) {
        if C::GENERAL {
            // SAFETY: the caller's.
            unsafe {
                let own = |i| self.work.rules(self.forward, self.head(i));
                self.rules.apply_to_rows::<C>(scores, self.tile, self.queries, own);
            }
        } else if !self.tile.plain {
            self.rules.hide_keys_outside::<C>(scores, self.tile, self.queries);
        }
    }

    #[inline(always)]
    fn weights(&self, weights: &mut MmaTiles) {
        if C::GENERAL && self.forward.problem.dropout_threshold != 0 {
            for i in 0..C::ROWS {
                let dropout = Dropout::new(&self.forward.problem, &self.work.sequence, self.head(i));
                dropout.apply_to_row::<C>(self.tile, i, self.queries[i], weights);
            }
        }
    }
}
