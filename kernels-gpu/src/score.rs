//! What happens to scores between the product of queries and keys and the softmax, and to weights behind it.
//!
//! A [`ScoreMod`] changes a score, a [`Mask`] decides whether it counts. [`ScoreRules`] puts the built-in ones together in the
//! order in which they act: softcap (or plain scaling), ALiBi, bias, then visibility. Scores are in units of log2.

use crate::element::Element;
use crate::sequence::Sequence;
use crate::tiles::layout::ScoreLayout;
use alibi::Alibi;
use bias::Bias;
use core::f32::consts::LOG2_E;
use cuda_std::hint;
use cuda_std::mem::GlobalAddr;
use flash_attention_abi::{ProblemParams, TensorParam};
use flash_attention_geometry::band::{Band, BlockRange};
use per_score::PerScore;
use softcap::Softcap;
use visible::{Boolean, Inside};

pub mod alibi;
pub mod bias;
pub mod dropout;
pub mod per_score;
mod row;
pub mod softcap;
pub mod visible;

/// A change of scores, one by one.
pub trait ScoreMod: Copy {
    /// Whether it does anything in this problem; the same for all threads of a block.
    fn given(&self) -> bool;

    /// The score of a query and a key after the change.
    ///
    /// # Safety
    /// It is given, the pair lies inside the sequence, and what the modification reads is readable there.
    unsafe fn apply(&self, score: f32, query: u32, key: u32) -> f32;

    /// The derivative by the score before the change, from the score after it.
    #[inline(always)]
    fn slope(&self, _after: f32) -> f32 {
        1.0
    }
}

/// A choice among scores.
pub trait Mask: Copy {
    /// Whether the score of a query and a key counts.
    ///
    /// # Safety
    /// What the mask reads is readable there.
    unsafe fn sees(&self, query: u32, key: u32) -> bool;
}

/// Both must see.
impl<A: Mask, B: Mask> Mask for (A, B) {
    #[inline(always)]
    unsafe fn sees(&self, query: u32, key: u32) -> bool {
        // SAFETY: the caller's; the second is asked only where the first sees.
        unsafe { self.0.sees(query, key) && self.1.sees(query, key) }
    }
}

/// Which dimension of a score tile counts queries.
pub trait Orientation {
    /// Whether it is the rows.
    const ROWS_ARE_QUERIES: bool;

    /// The (query, key) of the element at (row, column), counted from the tile's first row and column.
    #[inline(always)]
    fn query_key(row: u32, column: u32) -> (u32, u32) {
        if Self::ROWS_ARE_QUERIES { (row, column) } else { (column, row) }
    }
}

/// Rows are queries, columns keys: forward, `dq` and `dbias`.
pub enum QueryRows {}

impl Orientation for QueryRows {
    const ROWS_ARE_QUERIES: bool = true;
}

/// Rows are keys, columns queries: `dk/dv`.
pub enum KeyRows {}

impl Orientation for KeyRows {
    const ROWS_ARE_QUERIES: bool = false;
}

/// A thread's place in a score tile, and the tile's first query and key.
#[derive(Clone, Copy)]
pub struct TilePlace<P> {
    /// The thread's rows and columns.
    pub thread: P,
    /// Query of the tile's first row or column.
    pub first_query: u32,
    /// Key of the tile's first column or row.
    pub first_key: u32,
    /// Whether every element of the tile is visible and none has a bias of its own.
    pub plain: bool,
}

impl<P: Copy> TilePlace<P> {
    /// The query and key of an element.
    #[inline(always)]
    fn query_key<L: ScoreLayout<Place = P>, O: Orientation>(&self, i: usize, j: usize) -> (u32, u32) {
        let (query, key) = O::query_key(L::row(self.thread, i), L::column(self.thread, j));
        (self.first_query + query, self.first_key + key)
    }

    /// The tile's first row and column.
    #[inline(always)]
    fn firsts<O: Orientation>(&self) -> (u32, u32) {
        let (query, key) = (self.first_query, self.first_key);
        if O::ROWS_ARE_QUERIES { (query, key) } else { (key, query) }
    }

    /// The same place, made so that the optimiser does not compute those of all elements before the loop over blocks and keep
    /// them in registers.
    #[inline(always)]
    fn hidden(&self) -> Self {
        let (first_query, first_key) = (hint::opaque(self.first_query), hint::opaque(self.first_key));
        TilePlace { first_query, first_key, ..*self }
    }
}

/// What [`ScoreRules`] have of their batch entry and head, beside what the problem says.
#[derive(Clone, Copy)]
pub struct HeadRules {
    /// The sequence's bounds, and the band in it.
    pub inside: Inside,
    /// ALiBi's slope.
    pub slope: f32,
    /// Address of the head's mask.
    pub mask: GlobalAddr,
    /// Address of its bias.
    pub bias: GlobalAddr,
}

/// Everything that happens to raw scores before the softmax, for one head of one batch entry.
pub struct ScoreRules<E> {
    /// Factor that scales raw scores and turns them into units of log2, where the softcap does not.
    scale_log2: f32,
    softcap: Softcap,
    alibi: Alibi,
    bias: Bias<E>,
    visible: (Inside, Boolean),
}

impl<E: Element> ScoreRules<E> {
    /// The rules of a problem for one query head of one batch entry.
    ///
    /// # Safety
    /// What the problem gives is readable as it says.
    #[inline(always)]
    pub unsafe fn new(
        problem: &ProblemParams,
        mask: &TensorParam,
        bias: &TensorParam,
        sequence: &Sequence,
        head: u32,
    ) -> Self {
        let mut band = Band { low: problem.band_low, high: problem.band_high };
        if problem.band_lower_right != 0 {
            band = band.shifted(sequence.shift());
        }
        ScoreRules {
            scale_log2: problem.scale * LOG2_E,
            softcap: Softcap::new(problem),
            // SAFETY: the caller's.
            alibi: unsafe { Alibi::new(problem, sequence, head) },
            bias: Bias::new(PerScore::new(bias, sequence.batch, head, E::BYTES)),
            visible: (
                Inside::new(sequence, band),
                Boolean::new(PerScore::new(mask, sequence.batch, head, 1)),
            ),
        }
    }

    /// What they have of their head.
    #[inline(always)]
    pub fn of_head(&self) -> HeadRules {
        let (inside, boolean) = self.visible;
        HeadRules { inside, slope: self.alibi.slope, mask: boolean.tensor.base, bias: self.bias.tensor.base }
    }

    /// The rules that have this of their head.
    #[inline(always)]
    pub fn with_head(
        problem: &ProblemParams,
        mask: &TensorParam,
        bias: &TensorParam,
        of_head: HeadRules,
    ) -> Self {
        let Inside { queries, keys, .. } = of_head.inside;
        ScoreRules {
            scale_log2: problem.scale * LOG2_E,
            softcap: Softcap::new(problem),
            alibi: Alibi::with_slope(problem, of_head.slope, keys as i32 - queries as i32),
            bias: Bias::new(PerScore::at_address(of_head.bias, bias, E::BYTES)),
            visible: (of_head.inside, Boolean::new(PerScore::at_address(of_head.mask, mask, 1))),
        }
    }

    /// The blocks of `block` keys that queries `first..last` meet, of `keys`.
    #[inline(always)]
    pub fn key_blocks(&self, first: u32, last: u32, keys: u32, block: u32) -> BlockRange {
        self.element_wise(BlockRange::new(first, last, keys, block, self.visible.0.band))
    }

    /// The blocks of `block` queries that keys `first..last` meet, of `queries`.
    #[inline(always)]
    pub fn query_blocks(&self, first: u32, last: u32, queries: u32, block: u32) -> BlockRange {
        self.element_wise(BlockRange::new(first, last, queries, block, self.visible.0.band.transposed()))
    }

    /// No block is plain where each score has a mask or bias of its own.
    #[inline(always)]
    fn element_wise(&self, range: BlockRange) -> BlockRange {
        if self.visible.1.given() || self.bias.given() { range.without_plain() } else { range }
    }

    /// Whether a gradient changes on its way back to the raw scores, other than by the scale; the same for all threads.
    #[inline(always)]
    pub fn has_slope(&self) -> bool {
        self.softcap.given()
    }

    /// The factor that brings raw scores to units of log2.
    #[inline(always)]
    pub fn scale_log2(&self) -> f32 {
        self.scale_log2
    }

    /// Sets those of a tile that lie outside of sequence and band to `value`.
    #[inline(always)]
    pub fn hide_outside<L: ScoreLayout, O: Orientation>(
        &self,
        scores: &mut L::Fragment,
        tile: TilePlace<L::Place>,
        value: f32,
    ) {
        let place = tile.hidden();
        let (first_row, first_column) = place.firsts::<O>();
        for i in 0..L::ROWS {
            let columns = self.visible.0.columns::<O>(first_row + L::row(place.thread, i));
            for j in 0..L::COLUMNS {
                if !columns.contains(first_column + L::column(place.thread, j)) {
                    *L::element(scores, i, j) = value;
                }
            }
        }
    }

    /// Scales the raw scores of a tile, and caps them where there is a cap: what is the same for all rows.
    #[inline(always)]
    fn cap_or_scale<L: ScoreLayout, O: Orientation>(
        &self,
        scores: &mut L::Fragment,
        place: TilePlace<L::Place>,
    ) {
        if self.softcap.given() {
            // SAFETY: it reads nothing.
            map::<L, O>(scores, place, |score, query, key| unsafe { self.softcap.apply(score, query, key) });
        } else {
            map::<L, O>(scores, place, |score, _, _| score * self.scale_log2);
        }
    }

    /// Turns the raw scores of a tile into those that the softmax takes; invisible ones become minus infinity.
    ///
    /// # Safety
    /// Mask and bias are readable as the problem describes them.
    #[inline(always)]
    pub unsafe fn apply<L: ScoreLayout, O: Orientation>(
        &self,
        scores: &mut L::Fragment,
        tile: TilePlace<L::Place>,
    ) {
        let place = tile.hidden();
        // SAFETY: ALiBi reads nothing; the rest is the caller's.
        unsafe {
            self.cap_or_scale::<L, O>(scores, place);
            if self.alibi.given() {
                map::<L, O>(scores, place, |score, query, key| self.alibi.apply(score, query, key));
            }
            if tile.plain {
                return;
            }
            if self.bias.given() || self.visible.1.given() {
                map::<L, O>(scores, place, |score, query, key| self.bias_and_visibility(score, query, key));
            } else {
                self.hide_outside::<L, O>(scores, tile, f32::NEG_INFINITY);
            }
        }
    }

    /// Hands each raw score to `each` as (row, column, the score that the softmax takes, the slope on the way back), and puts
    /// what it returns in its place. For problems that [have a slope](ScoreRules::has_slope).
    ///
    /// # Safety
    /// As [`ScoreRules::apply`].
    #[inline(always)]
    pub unsafe fn with_slope<L: ScoreLayout, O: Orientation>(
        &self,
        scores: &mut L::Fragment,
        tile: TilePlace<L::Place>,
        mut each: impl FnMut(usize, usize, f32, f32) -> f32,
    ) {
        let place = tile.hidden();
        for i in 0..L::ROWS {
            for j in 0..L::COLUMNS {
                let (query, key) = place.query_key::<L, O>(i, j);
                let element = L::element(scores, i, j);
                // SAFETY: softcap and ALiBi read nothing; the rest is the caller's.
                unsafe {
                    let capped = self.softcap.apply(*element, query, key);
                    let mut score = capped;
                    if self.alibi.given() {
                        score = self.alibi.apply(score, query, key);
                    }
                    if !tile.plain {
                        score = self.bias_and_visibility(score, query, key);
                    }
                    *element = each(i, j, score, self.softcap.slope(capped));
                }
            }
        }
    }

    /// One score after bias and masks.
    #[inline(always)]
    unsafe fn bias_and_visibility(&self, score: f32, query: u32, key: u32) -> f32 {
        // SAFETY: the caller's; mask and bias are read only inside the sequence.
        unsafe {
            if !self.visible.sees(query, key) {
                f32::NEG_INFINITY
            } else if self.bias.given() {
                self.bias.apply(score, query, key)
            } else {
                score
            }
        }
    }
}

/// Replaces each score of a thread by what `each` makes of it, its query and its key.
#[inline(always)]
fn map<L: ScoreLayout, O: Orientation>(
    scores: &mut L::Fragment,
    place: TilePlace<L::Place>,
    each: impl Fn(f32, u32, u32) -> f32,
) {
    for i in 0..L::ROWS {
        for j in 0..L::COLUMNS {
            let (query, key) = place.query_key::<L, O>(i, j);
            let score = L::element(scores, i, j);
            *score = each(*score, query, key);
        }
    }
}
