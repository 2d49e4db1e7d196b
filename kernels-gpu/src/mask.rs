//! Which scores count, and what is added to them.

use crate::config::KernelConfig;
use crate::element::Element;
use crate::tiles::fragment::Scores;
use core::f32::consts::LOG2_E;
use core::marker::PhantomData;
use cuda_std::hint;
use cuda_std::mem::{self, GlobalAddr};
use flash_attention_abi::{ProblemParams, TensorParam};
use flash_attention_geometry::band::{Band, BlockRange};
use flash_attention_geometry::fragment::ThreadPlace;

/// Which dimension of a score tile counts queries.
pub trait Orientation {
    /// The (query, key) of the element at (row, column), counted from the tile's first row and column.
    fn query_key(row: u32, column: u32) -> (u32, u32);
}

/// Rows are queries, columns keys: forward and `dq`.
pub enum QueryRows {}

impl Orientation for QueryRows {
    #[inline(always)]
    fn query_key(row: u32, column: u32) -> (u32, u32) {
        (row, column)
    }
}

/// Rows are keys, columns queries: `dk/dv`.
pub enum KeyRows {}

impl Orientation for KeyRows {
    #[inline(always)]
    fn query_key(row: u32, column: u32) -> (u32, u32) {
        (column, row)
    }
}

/// A `[queries, keys]` tensor of which one element belongs to each score: a boolean mask, or a bias.
#[derive(Clone, Copy)]
struct PerScore {
    given: bool,
    base: GlobalAddr,
    query_bytes: i64,
    key_bytes: u32,
}

impl PerScore {
    #[inline(always)]
    fn new(tensor: &TensorParam, batch: u32, head: u32, element_bytes: u32) -> Self {
        let offset = i64::from(batch) * tensor.batch_stride + i64::from(head) * tensor.head_stride;
        PerScore {
            given: tensor.address != 0,
            base: GlobalAddr::from_generic(tensor.address.wrapping_add_signed(offset)),
            query_bytes: tensor.row_stride,
            key_bytes: element_bytes,
        }
    }

    #[inline(always)]
    fn at(&self, query: u32, key: u32) -> GlobalAddr {
        self.base.offset_signed(i64::from(query) * self.query_bytes + i64::from(key * self.key_bytes))
    }
}

/// Everything that happens to raw scores before the softmax, for one head of one batch entry.
#[derive(Clone, Copy)]
pub struct ScoreRules<E> {
    /// Factor that scales raw scores and turns them into units of log2.
    scale_log2: f32,
    queries: u32,
    keys: u32,
    band: Band,
    mask: PerScore,
    bias: PerScore,
    element: PhantomData<E>,
}

impl<E: Element> ScoreRules<E> {
    /// The rules of a problem for one query head of one batch entry.
    #[inline(always)]
    pub fn new(
        problem: &ProblemParams,
        mask: &TensorParam,
        bias: &TensorParam,
        batch: u32,
        head: u32,
    ) -> Self {
        ScoreRules {
            scale_log2: problem.scale * LOG2_E,
            queries: problem.queries,
            keys: problem.keys,
            band: Band { low: problem.band_low, high: problem.band_high },
            mask: PerScore::new(mask, batch, head, 1),
            bias: PerScore::new(bias, batch, head, E::BYTES),
            element: PhantomData,
        }
    }

    /// The blocks of `block` keys that queries `first..last` meet.
    #[inline(always)]
    pub fn key_blocks(&self, first: u32, last: u32, block: u32) -> BlockRange {
        self.element_wise(BlockRange::new(first, last, self.keys, block, self.band))
    }

    /// The blocks of `block` queries that keys `first..last` meet.
    #[inline(always)]
    pub fn query_blocks(&self, first: u32, last: u32, block: u32) -> BlockRange {
        self.element_wise(BlockRange::new(first, last, self.queries, block, self.band.transposed()))
    }

    /// No block is plain where each score has a mask or bias of its own.
    #[inline(always)]
    fn element_wise(&self, range: BlockRange) -> BlockRange {
        if self.mask.given || self.bias.given { range.without_plain() } else { range }
    }

    /// Scales the scores of a tile whose first element is (`first_query`, `first_key`); where the tile is not `plain`,
    /// adds the bias and sends the invisible ones to minus infinity.
    ///
    /// # Safety
    /// Mask and bias are readable as the problem describes them.
    #[inline(always)]
    pub unsafe fn apply<C: KernelConfig, O: Orientation>(
        &self,
        scores: &mut Scores,
        place: ThreadPlace,
        first_query: u32,
        first_key: u32,
        plain: bool,
    ) {
        for i in 0..C::ROWS {
            for j in 0..C::COLUMNS {
                scores.rows[i][j] *= self.scale_log2;
            }
        }
        if plain {
            return;
        }
        // Hidden from the optimiser, so that it does not compute the addresses of all elements before the loop over
        // blocks and keep them in registers.
        let (first_query, first_key) = (hint::opaque(first_query), hint::opaque(first_key));
        for i in 0..C::ROWS {
            for j in 0..C::COLUMNS {
                let (query, key) = O::query_key(place.row(i as u32), place.score_column(j as u32));
                // SAFETY: the caller's.
                scores.rows[i][j] =
                    unsafe { self.one(scores.rows[i][j], first_query + query, first_key + key) };
            }
        }
    }

    /// One scaled score after bias and masks.
    #[inline(always)]
    unsafe fn one(&self, score: f32, query: u32, key: u32) -> f32 {
        if !(query < self.queries && key < self.keys && self.band.contains(query, key)) {
            return f32::NEG_INFINITY;
        }
        // SAFETY: given, and (query, key) lies inside.
        if self.mask.given && unsafe { mem::ld_global_nc_u8::<0>(self.mask.at(query, key)) } == 0 {
            return f32::NEG_INFINITY;
        }
        if self.bias.given {
            // SAFETY: as above.
            return cuda_std::float::fma(unsafe { E::load(self.bias.at(query, key)) }, LOG2_E, score);
        }
        score
    }
}
