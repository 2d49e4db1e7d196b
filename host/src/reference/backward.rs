//! The gradients, from the probabilities computed anew.

use rayon::prelude::*;

use super::real::{axpy, dot};
use super::row::Row;
use super::{Attention, Real, matrix, reserve, row_of, take, zeros};
use crate::error::Result;

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
    /// `[query_heads]`; empty without sinks.
    pub dsinks: Vec<T>,
}

/// What goes into the gradients.
#[derive(Clone, Copy)]
struct Inputs<'a, T> {
    q: &'a [T],
    k: &'a [T],
    v: &'a [T],
    dout: &'a [T],
    dlse: Option<&'a [T]>,
}

/// The queries that share one key head, and what their gradients are written to.
struct Group<'a, T> {
    batch: usize,
    key_head: usize,
    dq: &'a mut [T],
    dk: &'a mut [T],
    dv: &'a mut [T],
}

/// A part of the sums over groups.
struct Sums<T> {
    dbias: Vec<T>,
    dsinks: Vec<T>,
}

impl<T: Real> Sums<T> {
    fn new(attention: &Attention<'_, T>, bias_gradient: bool) -> Result<Sums<T>> {
        let bias = attention.bias.filter(|_| bias_gradient);
        Ok(Sums {
            dbias: zeros(bias.map_or(0, |bias| bias.values.len()))?,
            dsinks: zeros(attention.sinks.map_or(0, <[T]>::len))?,
        })
    }

    fn add(&mut self, part: &Sums<T>) {
        axpy(T::ONE, &part.dbias, &mut self.dbias);
        axpy(T::ONE, &part.dsinks, &mut self.dsinks);
    }
}

/// The most parts that sums over groups are made of: each has the size of the bias.
const PARTS: usize = 16;

/// The gradients of q, k, v, the sinks and, where asked for and there is one, the bias.
///
/// `dout` is the gradient of the output, `dlse` that of the log-sum-exp, if it has one.
///
/// # Errors
/// Where a slice does not hold as many elements as the sizes say, or the query heads are not a multiple of the key heads;
/// where there is not enough memory.
pub fn backward<T: Real>(
    attention: &Attention<'_, T>,
    q: &[T],
    k: &[T],
    v: &[T],
    dout: &[T],
    dlse: Option<&[T]>,
    bias_gradient: bool,
) -> Result<Gradients<T>> {
    attention.check(q, k, v)?;
    attention.check_gradients(dout, dlse)?;
    let (mut dq, mut dk, mut dv) = (zeros(q.len())?, zeros(k.len())?, zeros(v.len())?);
    let mut sums = Sums::new(attention, bias_gradient)?;
    let mut groups = groups(attention, [&mut dq, &mut dk, &mut dv])?;

    // Every part has its own sums, which are added in order: the result is always the same.
    let length = if sums.dbias.is_empty() { 1 } else { groups.len().div_ceil(PARTS).max(1) };
    let mut parts = reserve(groups.len().div_ceil(length))?;
    let inputs = Inputs { q, k, v, dout, dlse };
    let computed = groups.par_chunks_mut(length).map(|groups| -> Result<Sums<T>> {
        let (row, dp) = (Row::new(attention)?, reserve(attention.keys)?);
        let sums = Sums::new(attention, bias_gradient)?;
        let mut worker = Worker { attention, inputs, row, dp, sums };
        groups.iter_mut().for_each(|group| worker.group(group));
        Ok(worker.sums)
    });
    computed.collect_into_vec(&mut parts);
    for part in parts {
        sums.add(&part?);
    }
    let Sums { dbias, dsinks } = sums;
    Ok(Gradients { dq, dk, dv, dbias, dsinks })
}

/// All groups; none without queries, where every gradient is 0.
fn groups<'a, T: Real>(
    attention: &Attention<'_, T>,
    [mut dq, mut dk, mut dv]: [&'a mut [T]; 3],
) -> Result<Vec<Group<'a, T>>> {
    let Attention { batch, key_heads, queries, keys, head_dim, value_dim, .. } = *attention;
    if attention.rows() == 0 {
        return Ok(vec![]);
    }
    let mut groups = reserve(batch * key_heads)?;
    for (batch, key_head) in (0..batch).flat_map(|b| (0..key_heads).map(move |h| (b, h))) {
        groups.push(Group {
            batch,
            key_head,
            dq: take(&mut dq, attention.group() * queries * head_dim),
            dk: take(&mut dk, keys * head_dim),
            dv: take(&mut dv, keys * value_dim),
        });
    }
    Ok(groups)
}

/// What works on some groups, one after the other.
struct Worker<'a, T> {
    attention: &'a Attention<'a, T>,
    inputs: Inputs<'a, T>,
    row: Row<T>,
    dp: Vec<T>,
    sums: Sums<T>,
}

impl<T: Real> Worker<'_, T> {
    fn group(&mut self, group: &mut Group<'_, T>) {
        let Attention { query_heads, key_heads, queries, keys, head_dim, value_dim, .. } = *self.attention;
        let heads = self.attention.group();
        let Group { batch, key_head, dq, dk, dv } = group;
        let k = matrix(self.inputs.k, [key_heads, keys, head_dim], *batch, *key_head);
        let v = matrix(self.inputs.v, [key_heads, keys, value_dim], *batch, *key_head);
        for local in 0..heads * queries {
            let at @ [b, h, i] = [*batch, *key_head * heads + local / queries, local % queries];
            let index = (b * query_heads + h) * queries + i;
            let dq = &mut dq[local * head_dim..(local + 1) * head_dim];
            self.query(at, index, [k, v], [dq, dk, dv]);
        }
    }

    /// Query `i` of batch entry `b` and head `h`, row `index` of all.
    fn query(
        &mut self,
        at @ [_, h, _]: [usize; 3],
        index: usize,
        [k, v]: [&[T]; 2],
        [dq, dk, dv]: [&mut [T]; 3],
    ) {
        let Attention { keys, head_dim, value_dim, scale, .. } = *self.attention;
        let Worker { attention, inputs, row, dp, sums } = self;
        let (q, dout) = (row_of(inputs.q, index, head_dim), row_of(inputs.dout, index, value_dim));
        let normalizer = row.fill(attention, at, q, k);
        // A key without weight takes no part, whatever its value and dout are.
        let factor = |j: usize| row.factors.get(j).copied().unwrap_or(T::ONE);
        dp.clear();
        dp.extend(row.p.iter().enumerate().map(|(j, &p)| {
            let seen = p != T::ZERO && factor(j) != T::ZERO;
            if seen { factor(j) * dot(dout, row_of(v, j, value_dim)) } else { T::ZERO }
        }));
        let delta = dot(&row.p, dp) - inputs.dlse.map_or(T::ZERO, |dlse| dlse[index]);
        if let (Some(sum), true) = (sums.dsinks.get_mut(h), normalizer.sink != T::ZERO) {
            *sum = *sum - normalizer.sink * delta;
        }
        for (j, (&p, &dp)) in row.p.iter().zip(&*dp).enumerate() {
            if p == T::ZERO {
                continue;
            }
            let ds = p * (dp - delta);
            let scaled = scale * ds * row.slopes.get(j).copied().unwrap_or(T::ONE);
            let key = j * head_dim..(j + 1) * head_dim;
            axpy(scaled, &k[key.clone()], dq);
            axpy(scaled, q, &mut dk[key]);
            if factor(j) != T::ZERO {
                axpy(p * factor(j), dout, &mut dv[j * value_dim..(j + 1) * value_dim]);
            }
            if let (Some(bias), false) = (attention.bias, sums.dbias.is_empty()) {
                let sum = &mut sums.dbias[bias.row_index(at) * keys + j];
                *sum = *sum + ds;
            }
        }
    }
}
