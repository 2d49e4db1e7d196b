//! The gradients, from the probabilities computed anew.

use rayon::prelude::*;

use super::real::{axpy, dot};
use super::{Attention, Real, softmax};

/// What [`backward`] computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<T> {
    /// `[batch, query_heads, queries, head_dim]`.
    pub dq: Vec<T>,
    /// `[batch, key_heads, keys, head_dim]`.
    pub dk: Vec<T>,
    /// `[batch, key_heads, keys, value_dim]`.
    pub dv: Vec<T>,
    /// In the shape of the bias, summed over what it is repeated along; empty where it was not asked for.
    pub dbias: Vec<T>,
}

/// The queries that share one key head, and what their gradients are written to.
struct Group<'a, T> {
    batch: usize,
    key_head: usize,
    k: &'a [T],
    v: &'a [T],
    dq: &'a mut [T],
    dk: &'a mut [T],
    dv: &'a mut [T],
}

/// The gradients of q, k, v and, where asked for and there is one, the bias.
///
/// The slices hold exactly the elements that the sizes say, at least one each.
pub fn backward<T: Real>(
    attention: &Attention<'_, T>,
    q: &[T],
    k: &[T],
    v: &[T],
    dout: &[T],
    bias_gradient: bool,
) -> Gradients<T> {
    let Attention { key_heads, queries, keys, head_dim, value_dim, .. } = *attention;
    let heads = attention.query_heads / key_heads;
    let (mut dq, mut dk, mut dv) = (vec![T::ZERO; q.len()], vec![T::ZERO; k.len()], vec![T::ZERO; v.len()]);
    let groups = dq
        .par_chunks_exact_mut(heads * queries * head_dim)
        .zip(dk.par_chunks_exact_mut(keys * head_dim))
        .zip(dv.par_chunks_exact_mut(keys * value_dim))
        .zip(k.par_chunks_exact(keys * head_dim).zip(v.par_chunks_exact(keys * value_dim)))
        .enumerate();
    let bias = attention.bias.filter(|_| bias_gradient);
    // Every group sums its own part of dbias; the parts are added in order, so that the sum is always the same.
    let parts: Vec<Vec<T>> = groups
        .map(|(g, (((dq, dk), dv), (k, v)))| {
            let mut part = vec![T::ZERO; bias.map_or(0, |bias| bias.values.len())];
            let group = Group { batch: g / key_heads, key_head: g % key_heads, k, v, dq, dk, dv };
            group_backward(attention, group, q, dout, &mut part);
            part
        })
        .collect();
    let mut dbias = vec![T::ZERO; bias.map_or(0, |bias| bias.values.len())];
    for part in parts {
        for (sum, x) in dbias.iter_mut().zip(part) {
            *sum = *sum + x;
        }
    }
    Gradients { dq, dk, dv, dbias }
}

fn group_backward<T: Real>(
    attention: &Attention<'_, T>,
    group: Group<'_, T>,
    q: &[T],
    dout: &[T],
    dbias: &mut [T],
) {
    let Attention { query_heads, key_heads, queries, keys, head_dim, value_dim, scale, .. } = *attention;
    let heads = query_heads / key_heads;
    let Group { batch, key_head, k, v, dq, dk, dv } = group;
    let (mut p, mut ds) = (vec![T::ZERO; keys], vec![T::ZERO; keys]);
    for (local, dq) in dq.chunks_exact_mut(head_dim).enumerate() {
        let (h, i) = (key_head * heads + local / queries, local % queries);
        let row = (batch * query_heads + h) * queries + i;
        let q = &q[row * head_dim..][..head_dim];
        let dout = &dout[row * value_dim..][..value_dim];
        attention.scores([batch, h, i], q, k, &mut p);
        softmax(&mut p);
        // ds holds dp until delta is known.
        for ((dp, value), &p) in ds.iter_mut().zip(v.chunks_exact(value_dim)).zip(&p) {
            *dp = if p == T::ZERO { T::ZERO } else { dot(dout, value) };
        }
        let delta = dot(&p, &ds);
        for (j, (&p, dp)) in p.iter().zip(&ds).enumerate() {
            if p == T::ZERO {
                continue;
            }
            let ds = p * (*dp - delta);
            let key = j * head_dim..(j + 1) * head_dim;
            axpy(scale * ds, &k[key.clone()], dq);
            axpy(scale * ds, q, &mut dk[key]);
            axpy(p, dout, &mut dv[j * value_dim..(j + 1) * value_dim]);
            if let (Some(bias), false) = (attention.bias, dbias.is_empty()) {
                let sum = &mut dbias[bias.row_index([batch, h, i]) * keys + j];
                *sum = *sum + ds;
            }
        }
    }
}
