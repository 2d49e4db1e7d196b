//! Attention by its textbook formulas, on plain slices: what every other implementation is held against.
//!
//! For every batch entry and head, with the scores `s_ij = scale * q_i · k_j + bias_ij` of the keys that query `i` may see:
//!
//! ```text
//! p_ij = exp(s_ij) / Σ_j exp(s_ij)        dv_j  = Σ_i p_ij dout_i
//! out_i = Σ_j p_ij v_j                    dp_ij = dout_i · v_j
//! lse_i = ln Σ_j exp(s_ij)                ds_ij = p_ij (dp_ij - Σ_j p_ij dp_ij) = dbias_ij
//!                                         dq_i  = scale Σ_j ds_ij k_j
//!                                         dk_j  = scale Σ_i ds_ij q_i
//! ```
//!
//! A query that sees no key has out 0, lse -inf and no gradient. The functions are generic over f32, with which the `Math`
//! backend computes, and f64, with which tests do. Tensors are contiguous, `[batch, heads, seq, dim]`.

use std::ops::Range;

pub use crate::options::Causal;
pub use real::Real;

use crate::band::Band;
use crate::options::Window;
use rayon::prelude::*;

mod backward;
mod real;

pub use backward::{Gradients, backward};
use real::{axpy, dot};

/// Sizes and options of one attention problem.
#[derive(Clone, Debug)]
pub struct Attention<'a, T> {
    /// Batch entries.
    pub batch: usize,
    /// Heads of q and out, a multiple of `key_heads`.
    pub query_heads: usize,
    /// Heads of k and v.
    pub key_heads: usize,
    /// Queries a batch entry and head.
    pub queries: usize,
    /// Keys a batch entry and head.
    pub keys: usize,
    /// Columns of q and k.
    pub head_dim: usize,
    /// Columns of v and out.
    pub value_dim: usize,
    /// Factor of the scores.
    pub scale: T,
    /// Which keys a query may see by position.
    pub causal: Causal,
    /// Which keys a query may see one by one; 0 = may not.
    pub mask: Option<Repeated<'a, u8>>,
    /// Added to the scaled scores.
    pub bias: Option<Repeated<'a, T>>,
}

/// A contiguous tensor `[batch, heads, queries, keys]` of which each size but the last is 1 or the problem's.
#[derive(Clone, Copy, Debug)]
pub struct Repeated<'a, T> {
    /// Its elements.
    pub values: &'a [T],
    /// Its batch entries, heads and queries.
    pub shape: [usize; 3],
}

impl<'a, T> Repeated<'a, T> {
    /// Which of its rows serves a query.
    fn row_index(&self, [b, h, i]: [usize; 3]) -> usize {
        let at = |index: usize, size: usize| if size == 1 { 0 } else { index };
        let [batch, heads, queries] = self.shape;
        (at(b, batch) * heads + at(h, heads)) * queries + at(i, queries)
    }

    /// Its row for a query.
    fn row(&self, at: [usize; 3], keys: usize) -> &'a [T] {
        let start = self.row_index(at) * keys;
        &self.values[start..start + keys]
    }
}

/// What [`forward`] computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<T> {
    /// `[batch, query_heads, queries, value_dim]`.
    pub out: Vec<T>,
    /// Natural log-sum-exp of the scores, `[batch, query_heads, queries]`.
    pub lse: Vec<T>,
    /// The probabilities `[batch, query_heads, queries, keys]` where they were asked for, else empty.
    pub weights: Vec<T>,
}

/// Scores, and what follows from their position.
impl<T: Real> Attention<'_, T> {
    /// The query head's key head.
    fn key_head(&self, head: usize) -> usize {
        head / (self.query_heads / self.key_heads)
    }

    /// The range of a matrix `[rows, columns]` of batch entry `b` and head `h`.
    fn matrix(b: usize, heads: usize, h: usize, elements: usize) -> Range<usize> {
        let start = (b * heads + h) * elements;
        start..start + elements
    }

    /// Fills `row` with the scores of query `i`; -inf for keys that it may not see.
    fn scores(&self, at @ [_, _, i]: [usize; 3], q: &[T], k: &[T], row: &mut [T]) {
        let band = Band::new(self.causal, Window::default()).visible(i, self.queries, self.keys);
        let mask = self.mask.map(|mask| mask.row(at, self.keys));
        let bias = self.bias.map(|bias| bias.row(at, self.keys));
        for (j, (score, key)) in row.iter_mut().zip(k.chunks_exact(self.head_dim)).enumerate() {
            let visible = band.contains(&j) && mask.is_none_or(|mask| mask[j] != 0);
            *score = if visible {
                self.scale * dot(q, key) + bias.map_or(T::ZERO, |bias| bias[j])
            } else {
                T::NEG_INFINITY
            };
        }
    }
}

/// Turns scores into probabilities, and returns their log-sum-exp. Without a visible key both are 0 and -inf.
fn softmax<T: Real>(row: &mut [T]) -> T {
    // A NaN wins over every number, so that it is not lost.
    let max = row.iter().fold(T::NEG_INFINITY, |m, &s| if s > m || s.is_nan() { s } else { m });
    if max == T::NEG_INFINITY {
        row.fill(T::ZERO);
        return T::NEG_INFINITY;
    }
    let mut sum = T::ZERO;
    for score in row.iter_mut() {
        *score = (*score - max).exp();
        sum = sum + *score;
    }
    for score in row.iter_mut() {
        *score = *score / sum;
    }
    max + sum.ln()
}

/// Output, log-sum-exp and, where asked for, the probabilities.
///
/// The slices hold exactly the elements that the sizes say, at least one each.
pub fn forward<T: Real>(
    attention: &Attention<'_, T>,
    q: &[T],
    k: &[T],
    v: &[T],
    weights: bool,
) -> Outcome<T> {
    let Attention { batch, query_heads, key_heads, queries, keys, head_dim, value_dim, .. } = *attention;
    let rows = batch * query_heads * queries;
    let mut out = vec![T::ZERO; rows * value_dim];
    let mut lse = vec![T::ZERO; rows];
    let mut kept = vec![T::ZERO; if weights { rows * keys } else { 0 }];
    let mut kept_rows: Vec<&mut [T]> = kept.chunks_exact_mut(keys).collect();
    kept_rows.resize_with(rows, Default::default);

    let outputs = out.par_chunks_exact_mut(value_dim).zip(&mut lse).zip(kept_rows).enumerate();
    outputs.for_each_init(
        || vec![T::ZERO; keys],
        |p, (row, ((out, lse), kept))| {
            let [b, h, i] = [row / queries / query_heads, row / queries % query_heads, row % queries];
            let key_head = attention.key_head(h);
            let k = &k[Attention::<T>::matrix(b, key_heads, key_head, keys * head_dim)];
            let v = &v[Attention::<T>::matrix(b, key_heads, key_head, keys * value_dim)];
            attention.scores([b, h, i], &q[row * head_dim..][..head_dim], k, p);
            *lse = softmax(p);
            for (&p, value) in p.iter().zip(v.chunks_exact(value_dim)) {
                // A key that is not seen has no part in the result, whatever its value is.
                if p != T::ZERO {
                    axpy(p, value, out);
                }
            }
            if !kept.is_empty() {
                kept.copy_from_slice(p);
            }
        },
    );
    Outcome { out, lse, weights: kept }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    fn plain(queries: usize, keys: usize, head_dim: usize) -> Attention<'static, f64> {
        Attention {
            batch: 1,
            query_heads: 1,
            key_heads: 1,
            queries,
            keys,
            head_dim,
            value_dim: 1,
            scale: 1.0,
            causal: Causal::None,
            mask: None,
            bias: None,
        }
    }

    #[test]
    fn equal_scores_average_the_values() {
        let outcome = forward(&plain(1, 4, 1), &[0.0], &[3.0; 4], &[1.0, 2.0, 3.0, 6.0], true);
        assert_relative_eq!(outcome.out[0], 3.0);
        assert_relative_eq!(outcome.lse[0], 4f64.ln());
        assert_eq!(outcome.weights, [0.25; 4]);
    }

    #[test]
    fn a_query_without_visible_keys_gives_zero_and_minus_infinity() {
        let mask = Repeated { values: &[0, 0][..], shape: [1, 1, 1] };
        let attention = Attention { mask: Some(mask), ..plain(1, 2, 1) };
        let outcome = forward(&attention, &[1.0], &[1.0, 2.0], &[f64::NAN, 2.0], true);
        assert_eq!((outcome.out[0], outcome.lse[0]), (0.0, f64::NEG_INFINITY));
        assert_eq!(outcome.weights, [0.0, 0.0]);
    }

    #[test]
    fn huge_scores_stay_finite() {
        let outcome = forward(&plain(1, 2, 1), &[1.0], &[1e4, -1e4], &[1.0, 2.0], false);
        assert_eq!((outcome.out[0], outcome.lse[0]), (1.0, 1e4));
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let bias = [0.3, -0.2, 0.1];
        let attention = Attention {
            query_heads: 2,
            queries: 2,
            keys: 3,
            head_dim: 2,
            value_dim: 2,
            scale: -0.7,
            causal: Causal::LowerRight,
            bias: Some(Repeated { values: &bias, shape: [1, 1, 1] }),
            ..plain(2, 3, 2)
        };
        let numbers = |n: usize, seed: f64| (0..n).map(|i| (i as f64 * 1.7 + seed).sin()).collect::<Vec<_>>();
        let (q, k, v, dout) = (numbers(8, 0.1), numbers(6, 0.5), numbers(6, 0.9), numbers(8, 1.3));
        let loss = |attention: &Attention<'_, f64>, q: &[f64], k: &[f64], v: &[f64]| -> f64 {
            forward(attention, q, k, v, false).out.iter().zip(&dout).map(|(o, d)| o * d).sum()
        };
        let gradients = backward(&attention, &q, &k, &v, &dout, true);
        let check = |values: &[f64], gradient: &[f64], loss: &dyn Fn(&[f64]) -> f64| {
            assert_eq!(values.len(), gradient.len());
            for i in 0..values.len() {
                let (mut up, mut down) = (values.to_vec(), values.to_vec());
                up[i] += 1e-5;
                down[i] -= 1e-5;
                assert_relative_eq!(
                    (loss(&up) - loss(&down)) / 2e-5,
                    gradient[i],
                    epsilon = 1e-8,
                    max_relative = 1e-6
                );
            }
        };
        check(&q, &gradients.dq, &|q| loss(&attention, q, &k, &v));
        check(&k, &gradients.dk, &|k| loss(&attention, &q, k, &v));
        check(&v, &gradients.dv, &|v| loss(&attention, &q, &k, v));
        check(&bias, &gradients.dbias, &|bias| {
            let bias = Some(Repeated { values: bias, shape: [1, 1, 1] });
            loss(&Attention { bias, ..attention.clone() }, &q, &k, &v)
        });
    }
}
