//! The element-wise steps that the backward kernels for tensor cores share (FlashAttention-2, section 3.1.2).

use crate::config::FlashGradConfig;
use crate::score::dropout::{Dropout, KeptTiles};
use crate::score::{Orientation, ScoreRules, TilePlace};
use crate::sequence::Sequence;
use crate::tiles::mma_fragment::MmaTiles;
use cuda_std::{float, hint};
use flash_attention_abi::{BackwardParams, FlashKernel, TensorParam};

/// Steps in the source of a kernel: one over blocks at the edges, and one over plain blocks; in the general and the wide fused ones
/// one over all.
pub const fn steps(kernel: FlashKernel) -> u32 {
    match kernel {
        FlashKernel::GradKeyValue
        | FlashKernel::GradKey
        | FlashKernel::GradValue
        | FlashKernel::GradQuery
        | FlashKernel::GradFused => 2,
        _ => 1,
    }
}

/// `P = 2^(factor S - lse)` in place; `lse(i, j)` is that of the element's query, in units of log2.
#[inline(always)]
pub fn weights<C: FlashGradConfig>(scores: &mut MmaTiles, factor: f32, lse: impl Fn(usize, usize) -> f32) {
    for i in 0..C::ROWS {
        for j in 0..C::COLUMNS {
            let score = C::element(scores, i, j);
            *score = float::ex2_approx_ftz(float::fma(*score, factor, -lse(i, j)));
        }
    }
}

/// What a step does beside products where its block of scores is at an edge, and, where one loop meets all blocks, wherever it is.
pub struct Edge<C: FlashGradConfig> {
    rules: ScoreRules<C::Element>,
    dropout: Dropout,
}

impl<C: FlashGradConfig> Edge<C> {
    /// That of a head of a batch entry. Only the general kernels read mask and bias.
    ///
    /// # Safety
    /// What the problem gives is readable as it says.
    #[inline(always)]
    pub unsafe fn new(params: &BackwardParams, sequence: &Sequence, head: u32) -> Self {
        // SAFETY: the caller's.
        unsafe { Self::behind(params, sequence, head, 0) }
    }

    /// The same, made with a number as in [`KeyBlock::behind`](super::key_block::KeyBlock::behind), which the caller hides from the
    /// optimiser ([`hint::opaque`]).
    ///
    /// # Safety
    /// As [`Edge::new`].
    #[inline(always)]
    pub unsafe fn behind(params: &BackwardParams, sequence: &Sequence, head: u32, number: u32) -> Self {
        let problem = &params.problem;
        let of = |tensor: &TensorParam| {
            let address = tensor.address + u64::from(number >> 31);
            if C::GENERAL { TensorParam { address, ..*tensor } } else { TensorParam::default() }
        };
        // SAFETY: the caller's.
        let rules = unsafe { ScoreRules::new(problem, &of(&params.mask), &of(&params.bias), sequence, head) };
        Edge { rules, dropout: Dropout::new(problem, sequence, head) }
    }

    /// The same; in the general kernels computed anew, because what it consists of would not fit in registers beside sums.
    ///
    /// # Safety
    /// As [`Edge::new`].
    #[inline(always)]
    pub unsafe fn of_step(params: &BackwardParams, sequence: &Sequence, head: u32) -> Self {
        let head = if C::GENERAL { hint::opaque(head) } else { head };
        // SAFETY: the caller's.
        unsafe { Self::new(params, sequence, head) }
    }

    /// The rules of the head's scores.
    #[inline(always)]
    pub fn rules(&self) -> &ScoreRules<C::Element> {
        &self.rules
    }

    /// Which weights of a step are kept.
    #[inline(always)]
    pub fn kept<O: Orientation>(&self, tile: TilePlace<C::Place>) -> KeptTiles {
        if C::GENERAL { self.dropout.kept_tiles::<C, O>(tile) } else { KeptTiles::ALL }
    }

    /// Drops weights, or gradients of weights, that are not kept.
    #[inline(always)]
    pub fn drop(&self, kept: KeptTiles, weights: &mut MmaTiles) {
        if C::GENERAL {
            self.dropout.apply_tiles::<C>(kept, weights);
        }
    }

    /// From raw products to the weights `P = 2^(S - lse)`, which are returned; what is left in place is what `dP - delta` must be
    /// multiplied by: the weights times the slope of the scores. `lse(i, j)` is that of the element's query, as
    /// [`subtrahend`](crate::pipeline::row::subtrahend) prepares it.
    ///
    /// # Safety
    /// As [`ScoreRules::apply`].
    #[inline(always)]
    pub unsafe fn weights<O: Orientation>(
        &self,
        scores: &mut MmaTiles,
        tile: TilePlace<C::Place>,
        lse: impl Fn(usize, usize) -> f32,
    ) -> MmaTiles {
        if !C::GENERAL {
            weights::<C>(scores, self.rules.scale_log2(), lse);
            if !tile.plain {
                hide::<C, O>(&self.rules, scores, tile);
            }
            return *scores;
        }
        let mut all = MmaTiles::zero();
        // SAFETY: the caller's.
        unsafe {
            if self.rules.has_slope() {
                self.rules.with_slope::<C, O>(scores, tile, |i, j, score, slope| {
                    let weight = float::ex2_approx_ftz(score - lse(i, j));
                    *C::element(&mut all, i, j) = weight;
                    weight * slope
                });
                return all;
            }
            self.rules.apply::<C, O>(scores, tile);
        }
        weights::<C>(scores, 1.0, lse);
        *scores
    }
}

/// Weights of pairs outside of sequence and band are 0, whatever the log-sum-exp of a query that sees nothing made of them.
#[inline(always)]
pub fn hide<C: FlashGradConfig, O: Orientation>(
    rules: &ScoreRules<C::Element>,
    weights: &mut MmaTiles,
    tile: TilePlace<C::Place>,
) {
    rules.hide_outside::<C, O>(weights, tile, 0.0);
}

/// `dS = P (dP - delta)` in place of dP.
#[inline(always)]
pub fn scores<C: FlashGradConfig>(
    grads: &mut MmaTiles,
    weights: &mut MmaTiles,
    delta: impl Fn(usize, usize) -> f32,
) {
    for i in 0..C::ROWS {
        for j in 0..C::COLUMNS {
            let weight = *C::element(weights, i, j);
            let grad = C::element(grads, i, j);
            *grad = weight * (*grad - delta(i, j));
        }
    }
}
