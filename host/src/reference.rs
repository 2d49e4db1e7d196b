//! Attention by its textbook formulas, on plain slices: what every other implementation is held against.
//!
//! For every batch entry and head, with the scores `s_ij = scale * q_i · k_j` of the keys that query `i` may see, softened to
//! `c tanh(s_ij / c)` by a softcap `c`, plus what ALiBi and the bias add, and a sink `s_h` as one more key without a value:
//!
//! ```text
//! Z_i = exp(s_h) + Σ_j exp(s_ij)          lse_i = ln Z_i
//! p_ij = exp(s_ij) / Z_i                  w_ij = p_ij / (1 - dropout), or 0 where it is dropped
//! out_i = Σ_j w_ij v_j                    dv_j = Σ_i w_ij dout_i
//! dp_ij = dout_i · v_j / (1 - dropout), or 0 where it is dropped
//! delta_i = Σ_j p_ij dp_ij - dlse_i       ds_h = -Σ_i exp(s_h - lse_i) delta_i
//! ds_ij = p_ij (dp_ij - delta_i) = dbias_ij
//! dq_i = scale Σ_j t_ij ds_ij k_j         t_ij = 1 - tanh²(scale * q_i · k_j / c), or 1 without a softcap
//! dk_j = scale Σ_i t_ij ds_ij q_i
//! ```
//!
//! A query that sees no key has out 0, the sink's logit as lse (-inf without one) and no gradient. The functions are generic
//! over f32, with which the `Math` backend computes, and f64, with which tests do. Tensors are contiguous,
//! `[batch, heads, seq, dim]`.

pub use crate::options::{Causal, Dropout, Window};
pub use backward::{Gradients, backward};
pub use real::Real;

use rayon::prelude::*;

use crate::error::Result;
pub(crate) use crate::storage::reserve;
use real::axpy;
pub(crate) use real::zeros;
use row::Row;

mod backward;
mod check;
mod real;
mod row;

/// Sizes and options of one attention problem. Any size may be 0.
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
    /// How far a query sees to either side of the diagonal.
    pub window: Window,
    /// The magnitude that scores stay below.
    pub softcap: Option<T>,
    /// What every position between a query and a key takes from their score.
    pub alibi: Option<Slopes<'a, T>>,
    /// Which keys a query may see one by one; 0 = may not.
    pub mask: Option<Repeated<'a, u8>>,
    /// Added to the scaled scores.
    pub bias: Option<Repeated<'a, T>>,
    /// One logit a query head, `[query_heads]`, which has a part in the sum of the softmax and none in the output.
    pub sinks: Option<&'a [T]>,
    /// The keys in use of each batch entry, `[batch]`; the others are never read.
    pub key_lengths: Option<&'a [usize]>,
    /// Which weights are dropped.
    pub dropout: Option<Dropout>,
    /// The number of the first batch entry, for dropout alone: where the entries are part of a longer batch.
    pub first_batch: usize,
}

/// The slopes of ALiBi: `slope * |i + keys - queries - j|` is taken from the score of query `i` and key `j`.
#[derive(Clone, Copy, Debug)]
pub struct Slopes<'a, T> {
    /// `[query_heads]`, or `[batch, query_heads]`.
    pub values: &'a [T],
    /// Whether every batch entry has its own.
    pub per_batch: bool,
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
    /// The weights `[batch, query_heads, queries, keys]`, after dropout, where they were asked for, else empty.
    pub weights: Vec<T>,
}

impl<T: Real> Attention<'_, T> {
    /// Attention without options; the scale is `1 / sqrt(head_dim)`.
    pub fn new(
        batch: usize,
        query_heads: usize,
        key_heads: usize,
        queries: usize,
        keys: usize,
        head_dim: usize,
        value_dim: usize,
    ) -> Self {
        Attention {
            batch,
            query_heads,
            key_heads,
            queries,
            keys,
            head_dim,
            value_dim,
            scale: T::from_f64(1.0 / (head_dim as f64).sqrt()),
            causal: Causal::None,
            window: Window::default(),
            softcap: None,
            alibi: None,
            mask: None,
            bias: None,
            sinks: None,
            key_lengths: None,
            dropout: None,
            first_batch: 0,
        }
    }

    /// Query heads a key head; 0 without heads.
    fn group(&self) -> usize {
        self.query_heads.checked_div(self.key_heads).unwrap_or(0)
    }

    /// Queries of all batch entries and heads. The sizes have been checked.
    fn rows(&self) -> usize {
        self.batch * self.query_heads * self.queries
    }

    /// Batch entry, head and query of a row.
    fn place(&self, row: usize) -> [usize; 3] {
        let Attention { query_heads, queries, .. } = *self;
        [row / queries / query_heads, row / queries % query_heads, row % queries]
    }
}

/// The part of `tensor`, `[batch, heads, rows, columns]`, of one batch entry and head.
fn matrix<T>(tensor: &[T], [heads, rows, columns]: [usize; 3], b: usize, h: usize) -> &[T] {
    let start = (b * heads + h) * rows * columns;
    &tensor[start..start + rows * columns]
}

/// Row `i` of a matrix.
fn row_of<T>(matrix: &[T], i: usize, columns: usize) -> &[T] {
    &matrix[i * columns..(i + 1) * columns]
}

/// Takes `count` elements from the front.
fn take<'a, T>(rest: &mut &'a mut [T], count: usize) -> &'a mut [T] {
    let (front, after) = std::mem::take(rest).split_at_mut(count);
    *rest = after;
    front
}

/// Rows that one thread computes one after the other.
const BLOCK: usize = 16;

/// Where the results of some rows go.
struct Block<'a, T> {
    first: usize,
    out: &'a mut [T],
    lse: &'a mut [T],
    weights: &'a mut [T],
}

/// Output, log-sum-exp and, where asked for, the weights.
///
/// # Errors
/// Where a slice does not hold as many elements as the sizes say, or the query heads are not a multiple of the key heads;
/// where there is not enough memory.
pub fn forward<T: Real>(
    attention: &Attention<'_, T>,
    q: &[T],
    k: &[T],
    v: &[T],
    weights: bool,
) -> Result<Outcome<T>> {
    attention.check(q, k, v)?;
    let rows = attention.rows();
    let kept_keys = if weights { attention.keys } else { 0 };
    let kept = attention.check_count("the weights", &[rows, kept_keys])?;
    let mut out = zeros(rows * attention.value_dim)?;
    let (mut lse, mut kept) = (zeros(rows)?, zeros(kept)?);

    let mut blocks = reserve(rows.div_ceil(BLOCK))?;
    let (mut rest_out, mut rest_lse, mut rest_kept) = (&mut out[..], &mut lse[..], &mut kept[..]);
    for first in (0..rows).step_by(BLOCK) {
        let count = BLOCK.min(rows - first);
        blocks.push(Block {
            first,
            out: take(&mut rest_out, count * attention.value_dim),
            lse: take(&mut rest_lse, count),
            weights: take(&mut rest_kept, count * kept_keys),
        });
    }
    blocks.into_par_iter().try_for_each_init(
        || Row::new(attention),
        |row, block| {
            let row = row.as_mut().map_err(|error| error.clone())?;
            block_forward(attention, row, block, [q, k, v]);
            Ok(())
        },
    )?;
    Ok(Outcome { out, lse, weights: kept })
}

fn block_forward<T: Real>(
    attention: &Attention<'_, T>,
    row: &mut Row<T>,
    block: Block<'_, T>,
    [q, k, v]: [&[T]; 3],
) {
    let Attention { key_heads, keys, head_dim, value_dim, .. } = *attention;
    let group = attention.group();
    let Block { first, mut out, lse, mut weights } = block;
    let kept_keys = weights.len() / lse.len();
    for (index, lse) in (first..).zip(lse) {
        let at @ [b, h, _] = attention.place(index);
        let (out, weights) = (take(&mut out, value_dim), take(&mut weights, kept_keys));
        let k = matrix(k, [key_heads, keys, head_dim], b, h / group);
        let v = matrix(v, [key_heads, keys, value_dim], b, h / group);
        *lse = row.fill(attention, at, row_of(q, index, head_dim), k).lse;
        row.drop_weights();
        for (j, &w) in row.p.iter().enumerate() {
            // A key that is not seen has no part in the result, whatever its value is.
            if w != T::ZERO {
                axpy(w, row_of(v, j, value_dim), out);
            }
        }
        // Keys that are not in use have no weight.
        for (kept, &w) in weights.iter_mut().zip(&row.p) {
            *kept = w;
        }
    }
}

#[cfg(test)]
mod tests;
