//! The element-wise steps that the backward kernels share (FlashAttention-2, section 3.1.2).

use crate::config::KernelConfig;
use crate::element::Element;
use crate::score::{Orientation, ScoreRules, TilePlace};
use crate::tiles::fragment::Scores;
use cuda_std::float;
use flash_attention_geometry::fragment::ThreadPlace;

/// Which scores a gradient is taken of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum GradientOf {
    /// The raw products: what q and k need. The slopes of score modifications count.
    Products,
    /// The scores that a bias has been added to.
    Biased,
}

/// From raw products to the weights `P = 2^(S - lse)`, each handed to `put` as (row, column, weight); what is left in place
/// is what dP - delta must be multiplied by. `lse(i, j)` is that of the element's query, as `subtrahend` prepares it.
///
/// # Safety
/// As [`ScoreRules::apply`].
#[inline(always)]
pub unsafe fn weights<C: KernelConfig, O: Orientation, E: Element>(
    of: GradientOf,
    rules: &ScoreRules<E>,
    scores: &mut Scores,
    tile: TilePlace<ThreadPlace>,
    lse: impl Fn(usize, usize) -> f32,
    mut put: impl FnMut(usize, usize, f32),
) {
    // SAFETY: the caller's.
    unsafe {
        if of == GradientOf::Products && rules.has_slope() {
            return rules.with_slope::<C, O>(scores, tile, |i, j, score, slope| {
                let weight = float::ex2_approx_ftz(score - lse(i, j));
                put(i, j, weight);
                weight * slope
            });
        }
        rules.apply::<C, O>(scores, tile);
    }
    for i in 0..C::ROWS {
        for j in 0..C::COLUMNS {
            let weight = float::ex2_approx_ftz(scores.rows[i][j] - lse(i, j));
            put(i, j, weight);
            scores.rows[i][j] = weight;
        }
    }
}

/// `dS = P (dP - delta)` in place of dP; `delta(i, j)` is that of the element's query.
#[inline(always)]
pub fn scores<C: KernelConfig>(grads: &mut Scores, weights: &Scores, delta: impl Fn(usize, usize) -> f32) {
    for i in 0..C::ROWS {
        for j in 0..C::COLUMNS {
            grads.rows[i][j] = weights.rows[i][j] * (grads.rows[i][j] - delta(i, j));
        }
    }
}
