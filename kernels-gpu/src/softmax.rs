//! The running softmax over blocks of keys (FlashAttention-2, arXiv 2307.08691, section 3.1).
//!
//! After each block, for every row: `max` is the largest score so far, `sum` the sum of `2^(score - max)`, and the output
//! accumulator holds the sum of `2^(score - max) * value`. A new maximum rescales both. Scores are in units of log2, so that
//! the exponential is one `ex2`. No method knows where its tile came from.

use crate::config::KernelConfig;
use crate::tiles::fragment::{MAX_ROWS, RowVector, Scores};
use core::f32::consts::LN_2;
use core::marker::PhantomData;
use cuda_std::float;

/// How the lanes that share a row combine their values: by shuffles on the device, not at all for one thread alone.
pub trait RowReduce {
    /// The largest of the row's values, known to all its lanes.
    fn max(value: f32) -> f32;
    /// Their sum.
    fn sum(value: f32) -> f32;
}

/// Running maximum and sum of the rows that a thread owns.
pub struct OnlineSoftmax<C, R> {
    max: RowVector,
    /// This thread's columns only; added up across lanes once, at the end.
    sum: RowVector,
    config: PhantomData<(C, R)>,
}

/// What a row's softmax came to.
#[derive(Clone, Copy)]
pub struct Finished {
    /// Factor that normalises the accumulated output; 0 for a row that saw no key.
    pub inverse_sum: RowVector,
    /// Natural log of the sum of the exponentials of the scores; minus infinity for a row that saw no key.
    pub lse: RowVector,
}

impl<C: KernelConfig, R: RowReduce> OnlineSoftmax<C, R> {
    /// Before the first block.
    #[inline(always)]
    pub fn new() -> Self {
        OnlineSoftmax { max: [f32::NEG_INFINITY; MAX_ROWS], sum: [0.0; MAX_ROWS], config: PhantomData }
    }

    /// Takes a block's scores into the maximum. Returns the factors by which everything accumulated so far shrinks.
    #[inline(always)]
    pub fn update_max(&mut self, scores: &Scores) -> RowVector {
        let mut shrink = [0.0; MAX_ROWS];
        for i in 0..C::ROWS {
            let mut max = self.max[i];
            for j in 0..C::COLUMNS {
                max = float::max(max, scores.rows[i][j]);
            }
            max = R::max(max);
            shrink[i] = float::ex2_approx_ftz(self.max[i] - finite(max));
            self.max[i] = max;
        }
        shrink
    }

    /// Turns scores into `2^(score - max)` and adds them to the sum.
    #[inline(always)]
    pub fn exponentiate(&mut self, scores: &mut Scores) {
        for i in 0..C::ROWS {
            let max = finite(self.max[i]);
            for j in 0..C::COLUMNS {
                let p = float::ex2_approx_ftz(scores.rows[i][j] - max);
                scores.rows[i][j] = p;
                self.sum[i] += p;
            }
        }
    }

    /// Shrinks the sum as the output is shrunk.
    #[inline(always)]
    pub fn rescale(&mut self, shrink: &RowVector) {
        for i in 0..C::ROWS {
            self.sum[i] *= shrink[i];
        }
    }

    /// After the last block.
    #[inline(always)]
    pub fn finalize(&self) -> Finished {
        let mut finished = Finished { inverse_sum: [0.0; MAX_ROWS], lse: [f32::NEG_INFINITY; MAX_ROWS] };
        for i in 0..C::ROWS {
            let sum = R::sum(self.sum[i]);
            // A row that saw no key; a NaN compares false and stays one.
            if self.max[i] != f32::NEG_INFINITY {
                finished.inverse_sum[i] = float::rcp_approx_ftz(sum);
                finished.lse[i] = (self.max[i] + float::lg2_approx_ftz(sum)) * LN_2;
            }
        }
        finished
    }
}

impl<C: KernelConfig, R: RowReduce> Default for OnlineSoftmax<C, R> {
    fn default() -> Self {
        Self::new()
    }
}

/// The maximum to subtract: a row without a visible key yet has minus infinity, and `-inf - -inf` would be NaN.
#[inline(always)]
fn finite(max: f32) -> f32 {
    if max == f32::NEG_INFINITY { 0.0 } else { max }
}
