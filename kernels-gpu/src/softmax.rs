//! The running softmax over blocks of keys (FlashAttention-2, arXiv 2307.08691, section 3.1).
//!
//! After each block, for every row: `max` is the largest score so far, or one little below it, `sum` the sum of
//! `2^(score - max)`, and the output accumulator holds the sum of `2^(score - max) * value`. A new maximum rescales both. Scores
//! times a positive factor are in units of log2, so that the exponential is one FMA and one `ex2`. No method knows where its tile
//! came from.

use crate::tiles::fragment::{MAX_ROWS, RowVector};
use crate::tiles::layout::ScoreLayout;
use core::f32::consts::LN_2;
use core::hint;
use core::marker::PhantomData;
use cuda_std::float;

/// How the lanes that share a row combine their values: by shuffles on the device, not at all for one thread alone.
pub trait RowReduce {
    /// The largest of the row's values, known to all its lanes.
    fn max(value: f32) -> f32;
    /// Their sum.
    fn sum(value: f32) -> f32;
    /// Whether it holds in any lane of the warp.
    fn any(value: bool) -> bool;
}

/// From here on (in units of log2) a maximum times the factor is up to 2^-12 from its rounding. The largest weight, two to that
/// difference, is then no longer one in 16 bits; from 2^31 on it may overflow.
const FAR: f32 = 4096.0;

/// How far, in units of log2, scores may rise above the maximum that is subtracted from them before all that has been
/// accumulated is rescaled. Weights are at most 256 then: f16 and bf16 hold them with as many digits as those below one, and f32
/// their sums. FlashAttention-4 rescales on the same condition.
pub const HEADROOM: f32 = 8.0;

/// Running maximum and sum of the rows that a thread owns.
pub struct OnlineSoftmax<C, R> {
    /// Brings scores to units of log2; positive.
    factor: f32,
    /// What is subtracted: the largest of the scores as they come, or less by up to [`HEADROOM`].
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
    /// Natural log of the sum of the exponentials of the scores, the sink's included; minus infinity for a row that saw none.
    pub lse: RowVector,
}

impl<C: ScoreLayout, R: RowReduce> OnlineSoftmax<C, R> {
    /// Before the first block.
    #[inline(always)]
    pub fn new(factor: f32) -> Self {
        OnlineSoftmax {
            factor,
            max: [f32::NEG_INFINITY; MAX_ROWS],
            sum: [0.0; MAX_ROWS],
            config: PhantomData,
        }
    }

    /// Before the first block, where each row may have a sink: a logit, in units of log2, that takes part in the sum alone. Where
    /// there are `sinks`, the same for all threads, the scores' factor is 1. `first_lane` is true in one of the lanes that share a
    /// row.
    #[inline(always)]
    pub fn with_sinks(
        sinks: bool,
        of_rows: impl FnOnce() -> RowVector,
        factor: f32,
        first_lane: bool,
    ) -> Self {
        if !sinks {
            return Self::new(factor);
        }
        let sum = if first_lane { 1.0 } else { 0.0 };
        OnlineSoftmax { factor: 1.0, max: of_rows(), sum: [sum; MAX_ROWS], config: PhantomData }
    }

    /// Takes a block's scores into the maximum. Returns the factors by which everything accumulated so far shrinks. `hidden`, a
    /// constant, says that all scores of a row so far may be invisible.
    #[inline(always)]
    pub fn update_max(&mut self, scores: &mut C::Fragment, hidden: bool) -> RowVector {
        let max = self.with_largest(scores);
        self.set_max(&max, hidden)
    }

    /// The same, but as long as no row of the warp has scores that rise above what is subtracted from them by more than
    /// `headroom` (a constant, in units of log2), the maximum stays as it is and nothing shrinks: weights are up to `2^headroom`
    /// then, and so is their sum, so that the result is the same.
    #[inline(always)]
    pub fn raise_max(&mut self, scores: &mut C::Fragment, hidden: bool, headroom: f32) -> Option<RowVector> {
        let max = self.with_largest(scores);
        let mut stays = true;
        for i in 0..C::ROWS {
            // NaN where all scores so far are invisible.
            stays &= (max[i] - self.max[i]) * self.factor <= headroom;
        }
        if R::any(!stays) { Some(self.set_max(&max, hidden)) } else { None }
    }

    /// The largest scores of the rows, those before included.
    #[inline(always)]
    fn with_largest(&self, scores: &mut C::Fragment) -> RowVector {
        let mut largest = self.max;
        for i in 0..C::ROWS {
            for j in 0..C::COLUMNS {
                largest[i] = float::max(largest[i], *C::element(scores, i, j));
            }
            largest[i] = R::max(largest[i]);
        }
        largest
    }

    /// Makes another maximum that which is subtracted, and shrinks the sum; returns by what.
    #[inline(always)]
    fn set_max(&mut self, max: &RowVector, hidden: bool) -> RowVector {
        let mut shrink = [0.0; MAX_ROWS];
        for i in 0..C::ROWS {
            shrink[i] = float::ex2_approx_ftz((self.max[i] - finite(max[i], hidden)) * self.factor);
            self.sum[i] *= shrink[i];
            self.max[i] = max[i];
        }
        shrink
    }

    /// Turns scores into `2^(score - max)` and adds them to the sum. `hidden` as in [`OnlineSoftmax::update_max`].
    #[inline(always)]
    pub fn exponentiate(&mut self, scores: &mut C::Fragment, hidden: bool) {
        if self.is_far(hidden) {
            // The differences are multiplied, the products not subtracted.
            hint::cold_path();
            for i in 0..C::ROWS {
                let max = finite(self.max[i], hidden);
                for j in 0..C::COLUMNS {
                    let score = C::element(scores, i, j);
                    *score = float::ex2_approx_ftz((*score - max) * self.factor);
                    self.sum[i] += *score;
                }
            }
            return;
        }
        for i in 0..C::ROWS {
            let max = finite(self.max[i], hidden) * self.factor;
            for j in 0..C::COLUMNS {
                let score = C::element(scores, i, j);
                *score = float::ex2_approx_ftz(float::fma(*score, self.factor, -max));
                self.sum[i] += *score;
            }
        }
    }

    /// Whether the largest score of a row, times the factor, is [`FAR`] from zero. With a factor of 1, a constant where it is
    /// one, nothing is rounded.
    #[inline(always)]
    fn is_far(&self, hidden: bool) -> bool {
        let mut far = false;
        for i in 0..C::ROWS {
            far |= float::abs(finite(self.max[i], hidden) * self.factor) >= FAR;
        }
        self.factor != 1.0 && far
    }

    /// After the last block.
    #[inline(always)]
    pub fn finalize(&self) -> Finished {
        let mut finished = Finished { inverse_sum: [0.0; MAX_ROWS], lse: [f32::NEG_INFINITY; MAX_ROWS] };
        for i in 0..C::ROWS {
            let sum = R::sum(self.sum[i]);
            // The sum of a row that saw no key is 0; that of any other is at least 1, or NaN, which stays one.
            if sum != 0.0 {
                finished.inverse_sum[i] = float::rcp_approx_ftz(sum);
                // The product is rounded as the exponentials' was.
                finished.lse[i] = (self.max[i] * self.factor + float::lg2_approx_ftz(sum)) * LN_2;
            }
        }
        finished
    }
}

/// The maximum to subtract: a row without a visible key yet has minus infinity, and `-inf - -inf` would be NaN.
#[inline(always)]
fn finite(max: f32, hidden: bool) -> f32 {
    if hidden && max == f32::NEG_INFINITY { 0.0 } else { max }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Forward;
    use crate::element::F32;
    use crate::tiles::fragment::Scores;

    type Config = Forward<F32, 64>;

    /// One thread that owns whole rows of 8 columns.
    enum OneLane {}

    impl RowReduce for OneLane {
        fn max(value: f32) -> f32 {
            value
        }
        fn sum(value: f32) -> f32 {
            value
        }
        fn any(value: bool) -> bool {
            value
        }
    }

    /// Streams blocks of 8 scores a row (in units of log2) through the methods, the maximum with this headroom; values are the
    /// identity, so that the accumulator is the weights. Returns the normalised weights and the log-sum-exp of each row.
    fn stream(blocks: &[[[f32; 8]; MAX_ROWS]], headroom: Option<f32>) -> (Vec<[f32; MAX_ROWS]>, RowVector) {
        let mut softmax = OnlineSoftmax::<Config, OneLane>::new(1.0);
        let mut output: Vec<[f32; MAX_ROWS]> = Vec::new();
        for block in blocks {
            let mut scores = Scores { rows: *block };
            let shrink = match headroom {
                Some(headroom) => softmax.raise_max(&mut scores, true, headroom),
                None => Some(softmax.update_max(&mut scores, true)),
            };
            softmax.exponentiate(&mut scores, true);
            if let Some(shrink) = shrink {
                for column in &mut output {
                    for i in 0..MAX_ROWS {
                        column[i] *= shrink[i];
                    }
                }
            }
            output.extend((0..8).map(|j| core::array::from_fn(|i| scores.rows[i][j])));
        }
        let finished = softmax.finalize();
        for column in &mut output {
            for i in 0..MAX_ROWS {
                column[i] *= finished.inverse_sum[i];
            }
        }
        (output, finished.lse)
    }

    /// The same in f64 and at once.
    fn reference(blocks: &[[[f32; 8]; MAX_ROWS]], row: usize) -> (Vec<f64>, f64) {
        let scores: Vec<f64> = blocks.iter().flat_map(|b| b[row]).map(f64::from).collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let max = if max == f64::NEG_INFINITY { 0.0 } else { max };
        let sum: f64 = scores.iter().map(|s| (s - max).exp2()).sum();
        let weights = scores.iter().map(|s| if sum == 0.0 { 0.0 } else { (s - max).exp2() / sum }).collect();
        (weights, (max + sum.log2()) * std::f64::consts::LN_2)
    }

    fn agrees(blocks: &[[[f32; 8]; MAX_ROWS]]) {
        for headroom in [None, Some(0.0), Some(HEADROOM)] {
            let (weights, lse) = stream(blocks, headroom);
            for row in 0..MAX_ROWS {
                let (expected, expected_lse) = reference(blocks, row);
                for (ours, theirs) in weights.iter().zip(&expected) {
                    let ours = ours[row];
                    assert!((f64::from(ours) - theirs).abs() < 2e-6, "row {row}: {ours} for {theirs}");
                }
                let (ours, error) = (lse[row], (f64::from(lse[row]) - expected_lse).abs());
                assert!(
                    f64::from(ours) == expected_lse || error < 1e-6 * (1.0 + expected_lse.abs()),
                    "row {row}: {ours} for {expected_lse}"
                );
            }
        }
    }

    /// A spread of scores without a pattern, `scale` at most.
    fn spread(blocks: usize, scale: f32) -> Vec<[[f32; 8]; MAX_ROWS]> {
        let value = |n: usize| ((n * 7919 + 13) % 1009) as f32 / 1009.0 * 2.0 - 1.0;
        let block =
            |b: usize| core::array::from_fn(|i| core::array::from_fn(|j| scale * value(b * 32 + i * 8 + j)));
        (0..blocks).map(block).collect()
    }

    #[test]
    fn blocks_one_after_the_other_give_the_softmax_of_all_at_once() {
        for blocks in 1..6 {
            agrees(&spread(blocks, 10.0));
        }
    }

    #[test]
    fn scores_of_ten_thousand_stay_finite_and_right() {
        agrees(&spread(4, 1e4));
    }

    #[test]
    fn a_row_without_a_visible_key_is_zero_and_minus_infinity() {
        let mut blocks = spread(3, 5.0);
        for block in &mut blocks {
            block[1] = [f32::NEG_INFINITY; 8];
        }
        let (weights, lse) = stream(&blocks, Some(HEADROOM));
        assert!(weights.iter().all(|w| w[1] == 0.0));
        assert_eq!(lse[1], f32::NEG_INFINITY);
        agrees(&blocks);
    }

    #[test]
    fn masked_blocks_before_and_after_the_visible_one_do_not_matter() {
        let mut blocks = spread(3, 5.0);
        blocks[0] = [[f32::NEG_INFINITY; 8]; MAX_ROWS];
        blocks[2] = [[f32::NEG_INFINITY; 8]; MAX_ROWS];
        agrees(&blocks);
    }

    #[test]
    fn a_nan_score_makes_its_row_nan_and_no_other() {
        let mut blocks = spread(2, 5.0);
        blocks[1][2][3] = f32::NAN;
        let (weights, lse) = stream(&blocks, Some(HEADROOM));
        assert!(weights.iter().all(|w| w[2].is_nan()) && lse[2].is_nan());
        assert!(weights.iter().all(|w| !w[0].is_nan() && !w[1].is_nan() && !w[3].is_nan()));
    }

    #[test]
    fn the_maximum_stays_while_scores_rise_within_the_headroom() {
        let mut softmax = OnlineSoftmax::<Config, OneLane>::new(0.5);
        let mut met = |score: f32| {
            let mut scores = Scores { rows: [[score; 8]; MAX_ROWS] };
            let shrink = softmax.raise_max(&mut scores, false, HEADROOM);
            softmax.exponentiate(&mut scores, false);
            (shrink, scores.rows[0][0])
        };
        assert_eq!(met(-3.0), (Some([0.0; MAX_ROWS]), 1.0));
        assert_eq!(met(-5.0), (None, 0.5));
        assert_eq!(met(13.0), (None, 256.0));
        assert_eq!(met(15.0), (Some([1.0 / 512.0; MAX_ROWS]), 1.0));
        assert_eq!(met(13.0), (None, 0.5));
    }

    #[test]
    fn a_sink_takes_part_in_the_sum_alone() {
        for sink in [-3.0f32, 0.0, 8.0, f32::NEG_INFINITY] {
            let mut softmax =
                OnlineSoftmax::<Config, OneLane>::with_sinks(true, || [sink; MAX_ROWS], 1.0, true);
            let block = spread(1, 5.0)[0];
            let mut scores = Scores { rows: block };
            softmax.update_max(&mut scores, true);
            softmax.exponentiate(&mut scores, true);
            let finished = softmax.finalize();
            for row in 0..MAX_ROWS {
                let sum: f64 =
                    block[row].iter().map(|&s| f64::from(s).exp2()).sum::<f64>() + f64::from(sink).exp2();
                assert!((f64::from(finished.lse[row]) - sum.ln()).abs() < 1e-6);
                let weight = f64::from(scores.rows[row][0] * finished.inverse_sum[row]);
                assert!((weight - f64::from(block[row][0]).exp2() / sum).abs() < 1e-6);
            }
        }
        let unseen =
            OnlineSoftmax::<Config, OneLane>::with_sinks(true, || [2.0; MAX_ROWS], 1.0, true).finalize();
        assert!((unseen.lse[0] - 2.0 * LN_2).abs() < 1e-6);
    }
}
