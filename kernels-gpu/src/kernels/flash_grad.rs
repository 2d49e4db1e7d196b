//! The element-wise steps that the backward kernels for tensor cores share (FlashAttention-2, section 3.1.2).

use crate::config::FlashGradConfig;
use crate::score::{Orientation, ScoreRules, TilePlace};
use crate::tiles::mma_fragment::MmaTiles;
use cuda_std::float;

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
