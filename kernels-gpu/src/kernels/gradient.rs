//! The two element-wise steps that all backward kernels share (FlashAttention-2, section 3.1.2).

use crate::config::KernelConfig;
use crate::tiles::fragment::Scores;
use cuda_std::float;

/// `P = 2^(S - lse)` in place; `lse(i, j)` is that of the element's query, as `subtrahend` prepares it.
#[inline(always)]
pub fn weights<C: KernelConfig>(scores: &mut Scores, lse: impl Fn(usize, usize) -> f32) {
    for i in 0..C::ROWS {
        for j in 0..C::COLUMNS {
            scores.rows[i][j] = float::ex2_approx_ftz(scores.rows[i][j] - lse(i, j));
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
