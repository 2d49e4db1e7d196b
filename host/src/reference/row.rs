//! One query: its scores, its probabilities, and which of them are dropped.

use flash_attention_abi::philox::{counter, philox4x32_10, place, threshold};

use super::real::dot;
use super::{Attention, Dropout, Real, row_of};
use crate::band::Band;
use crate::error::Result;
use crate::storage::reserve;

/// The numbers of one query, one for each key in use. Its memory is used again for the next query.
pub(super) struct Row<T> {
    /// The probabilities; after [`Row::drop_weights`] the weights.
    pub(super) p: Vec<T>,
    /// The slope of the softcap at every score; empty without one.
    pub(super) slopes: Vec<T>,
    /// What dropout multiplies the probabilities by; empty without it.
    pub(super) factors: Vec<T>,
}

/// What the softmax of a row leaves behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Normalizer<T> {
    pub(super) lse: T,
    /// The probability of the sink.
    pub(super) sink: T,
}

impl<T: Real> Row<T> {
    /// Room for every key of the problem.
    pub(super) fn new(attention: &Attention<'_, T>) -> Result<Row<T>> {
        let room = |needed: bool| reserve(if needed { attention.keys } else { 0 });
        Ok(Row {
            p: room(true)?,
            slopes: room(attention.softcap.is_some())?,
            factors: room(attention.dropout.is_some())?,
        })
    }

    /// Computes the row of query `i` of batch entry `b` and head `h`.
    pub(super) fn fill(
        &mut self,
        attention: &Attention<'_, T>,
        at @ [b, h, _]: [usize; 3],
        q: &[T],
        k: &[T],
    ) -> Normalizer<T> {
        let used = attention.used_keys(b);
        self.scores(attention, at, q, k, used);
        if let Some(dropout) = attention.dropout {
            let batch = attention.first_batch.wrapping_add(b);
            let head = batch.wrapping_mul(attention.query_heads).wrapping_add(h);
            self.factors.resize(used, T::ZERO);
            dropout_factors(dropout, head, at[2], &mut self.factors);
        }
        softmax(&mut self.p, attention.sinks.map(|sinks| sinks[h]))
    }

    /// The scores; -inf for keys that the query may not see.
    fn scores(&mut self, attention: &Attention<'_, T>, at: [usize; 3], q: &[T], k: &[T], used: usize) {
        let [b, h, i] = at;
        let Attention { keys, head_dim, scale, softcap, .. } = *attention;
        let mask = attention.mask.map(|mask| mask.row(at, keys));
        let bias = attention.bias.map(|bias| bias.row(at, keys));
        let slope = attention
            .alibi
            .map(|slopes| slopes.values[if slopes.per_batch { b * attention.query_heads + h } else { h }]);
        // Where the query stands among the keys.
        let diagonal = i as i128 + used as i128 - attention.queries as i128;
        self.p.clear();
        self.p.resize(used, T::NEG_INFINITY);
        if softcap.is_some() {
            self.slopes.resize(used, T::ZERO);
        }
        for j in Band::new(attention.causal, attention.window).visible(i, attention.queries, used) {
            if mask.is_some_and(|mask| mask[j] == 0) {
                continue;
            }
            let mut score = scale * dot(q, row_of(k, j, head_dim));
            if let Some(cap) = softcap {
                let tanh = (score / cap).tanh();
                score = cap * tanh;
                self.slopes[j] = T::ONE - tanh * tanh;
            }
            if let Some(slope) = slope {
                let distance = (diagonal - j as i128).unsigned_abs();
                score = score - slope * T::from_f64(distance as f64);
            }
            self.p[j] = bias.map_or(score, |bias| score + bias[j]);
        }
    }

    /// Multiplies the probabilities by the factors of dropout.
    pub(super) fn drop_weights(&mut self) {
        for (p, &factor) in self.p.iter_mut().zip(&self.factors) {
            *p = *p * factor;
        }
    }
}

impl<T: Real> Attention<'_, T> {
    /// The keys in use of a batch entry.
    pub(super) fn used_keys(&self, b: usize) -> usize {
        self.key_lengths.map_or(self.keys, |lengths| lengths[b])
    }
}

/// Turns scores into probabilities. Without a visible key and a sink they are 0, and the log-sum-exp is -inf.
fn softmax<T: Real>(row: &mut [T], sink: Option<T>) -> Normalizer<T> {
    let sink = sink.unwrap_or(T::NEG_INFINITY);
    // A NaN wins over every number, so that it is not lost.
    let max = row.iter().fold(sink, |m, &s| if s > m || s.is_nan() { s } else { m });
    if max == T::NEG_INFINITY {
        row.fill(T::ZERO);
        return Normalizer { lse: T::NEG_INFINITY, sink: T::ZERO };
    }
    let sink = (sink - max).exp();
    let mut sum = sink;
    for score in row.iter_mut() {
        *score = (*score - max).exp();
        sum = sum + *score;
    }
    for score in row.iter_mut() {
        *score = *score / sum;
    }
    Normalizer { lse: max + sum.ln(), sink: sink / sum }
}

/// Keys whose words come from the same eight calls of the generator.
const PERIOD: usize = 32;
/// Groups of [`PERIOD`] keys.
const GROUPS: usize = 8;

/// What dropout multiplies the probabilities of one query by: 0 where they are dropped, else `1 / (1 - p)`.
fn dropout_factors<T: Real>(dropout: Dropout, head: usize, query: usize, factors: &mut [T]) {
    let Dropout { p, seed, offset } = dropout;
    let (threshold, kept) = (threshold(p), T::from_f64(1.0 / (1.0 - f64::from(p))));
    let seed = [seed as u32, (seed >> 32) as u32];
    for (period, factors) in factors.chunks_mut(PERIOD).enumerate() {
        let first = (period * PERIOD) as u32;
        for start in 0..GROUPS.min(factors.len()) {
            let (group, _) = place(first + start as u32);
            let words = philox4x32_10(counter(group, query as u32, head as u32, offset), seed);
            for j in (start..factors.len()).step_by(GROUPS) {
                let word = words[place(first + j as u32).1];
                factors[j] = if word >= threshold { kept } else { T::ZERO };
            }
        }
    }
}
