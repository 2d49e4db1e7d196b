//! A ragged batch, sequence by sequence: each is a dense batch of one entry.

use super::{Inputs, elements};
use crate::device::Device;
use crate::error::Result;
use crate::options::Ragged;
use crate::problem::{Problem, Sizes, shape4};
use crate::reference::{Gradients, Outcome, reserve, zeros};
use crate::tensor::Tensor;
use crate::view::View;

/// Rows of packed tensors that belong to one sequence.
#[derive(Clone, Copy)]
struct Rows {
    start: usize,
    count: usize,
}

/// One sequence.
#[derive(Clone, Copy)]
struct Sequence {
    number: usize,
    queries: Rows,
    keys: Rows,
}

fn sequences(ragged: &Ragged) -> impl Iterator<Item = Sequence> {
    let rows = |pair: &[usize]| Rows { start: pair[0], count: pair[1] - pair[0] };
    let pairs = ragged.query_offsets.windows(2).zip(ragged.key_offsets.windows(2)).enumerate();
    pairs.map(move |(number, (queries, keys))| Sequence { number, queries: rows(queries), keys: rows(keys) })
}

/// The problem's tensors in the host's memory, of which sequences show parts.
struct Packed {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Option<Tensor>,
    bias: Option<Tensor>,
    alibi: Option<Tensor>,
    sinks: Option<Tensor>,
}

impl Packed {
    fn new(problem: &Problem) -> Result<Packed> {
        let host = Device::cpu();
        let optional = |tensor: &Option<Tensor>| tensor.as_ref().map(|t| t.to_device(&host)).transpose();
        Ok(Packed {
            q: problem.q.to_device(&host)?,
            k: problem.k.to_device(&host)?,
            v: problem.v.to_device(&host)?,
            mask: optional(&problem.mask)?,
            bias: optional(&problem.bias)?,
            alibi: optional(&problem.alibi)?,
            sinks: optional(&problem.sinks)?,
        })
    }

    fn inputs(&self, problem: &Problem, sequence: Sequence) -> Result<Inputs> {
        let Sequence { number, queries, keys } = sequence;
        let rows = |tensor: &Tensor, rows: Rows| elements(&tensor.narrow(2, rows.start, rows.count)?);
        let scores = |tensor: &Tensor| {
            let [start, count] = part(tensor, sequence);
            let mut part = tensor.clone();
            for dimension in 0..4 {
                part = part.narrow(dimension, start[dimension], count[dimension])?;
            }
            Ok((part, [count[0], count[1], count[2]]))
        };
        let mask = self.mask.as_ref().map(scores).transpose()?;
        let bias = self.bias.as_ref().map(scores).transpose()?;
        let slopes = |slopes: &Tensor| {
            let row = if slopes.shape()[0] == 1 { 0 } else { number };
            Ok((elements(&slopes.narrow(0, row, 1)?)?, false))
        };
        Ok(Inputs {
            sizes: Sizes { batch: 1, queries: queries.count, keys: keys.count, ..problem.sizes },
            first_batch: number,
            q: rows(&self.q, queries)?,
            k: rows(&self.k, keys)?,
            v: rows(&self.v, keys)?,
            mask: mask.map(|(part, shape)| Ok((part.to_bytes()?, shape))).transpose()?,
            bias: bias.map(|(part, shape)| Ok((elements(&part)?, shape))).transpose()?,
            alibi: self.alibi.as_ref().map(slopes).transpose()?,
            sinks: self.sinks.as_ref().map(elements).transpose()?,
        })
    }
}

/// Where a sequence's part of a mask or bias begins, and its shape: as many queries and keys as the sequence has.
fn part(tensor: &Tensor, sequence: Sequence) -> [[usize; 4]; 2] {
    let [batch, heads, queries, _] = shape4(tensor);
    let entry = if batch == 1 { 0 } else { sequence.number };
    let rows = if queries == 1 { 1 } else { sequence.queries.count };
    [[entry, 0, 0, 0], [1, heads, rows, sequence.keys.count]]
}

/// The part of `[heads, total, columns]` of one sequence, `[heads, rows, columns]`: calls `each` with the places of the two
/// where a head's elements begin, and how many there are.
fn per_head(
    heads: usize,
    total: usize,
    rows: Rows,
    columns: usize,
    mut each: impl FnMut(usize, usize, usize),
) {
    for head in 0..heads {
        each((head * total + rows.start) * columns, head * rows.count * columns, rows.count * columns);
    }
}

/// Puts a sequence's `[heads, rows, columns]` into its place.
fn put(values: &[f32], [heads, total, columns]: [usize; 3], rows: Rows, all: &mut [f32]) {
    per_head(heads, total, rows, columns, |to, from, count| {
        all[to..to + count].copy_from_slice(&values[from..from + count]);
    });
}

/// A sequence's part of `[heads, total, columns]`.
fn get(all: &[f32], [heads, total, columns]: [usize; 3], rows: Rows) -> Result<Vec<f32>> {
    let mut values = reserve(heads * rows.count * columns)?;
    per_head(heads, total, rows, columns, |from, _, count| {
        values.extend_from_slice(&all[from..from + count]);
    });
    Ok(values)
}

/// Output `[heads, total queries, columns]`, log-sum-exp `[heads, total queries]` and, where asked for, the weights
/// `[heads, total queries, most keys]`, 0 beyond the sequence's keys.
pub(super) fn forward(problem: &Problem, ragged: &Ragged) -> Result<Outcome<f32>> {
    let Sizes { query_heads, keys, value_dim, .. } = problem.sizes;
    let total = problem.query_rows();
    let weights = if problem.options.return_weights { query_heads * total * keys } else { 0 };
    let mut all = Outcome {
        out: zeros(query_heads * total * value_dim)?,
        lse: zeros(query_heads * total)?,
        weights: zeros(weights)?,
    };
    let packed = Packed::new(problem)?;
    for sequence in sequences(ragged) {
        let outcome = packed.inputs(problem, sequence)?.forward(problem)?;
        let Sequence { queries, keys: used, .. } = sequence;
        put(&outcome.out, [query_heads, total, value_dim], queries, &mut all.out);
        put(&outcome.lse, [query_heads, total, 1], queries, &mut all.lse);
        // A sequence without keys has no weights.
        for (row, values) in outcome.weights.chunks_exact(used.count.max(1)).enumerate() {
            let (head, query) = (row / queries.count, row % queries.count);
            let start = (head * total + queries.start + query) * keys;
            all.weights[start..start + used.count].copy_from_slice(values);
        }
    }
    Ok(all)
}

/// The gradients, `[heads, total, columns]` each; those of the bias in its shape, summed over the sequences.
pub(super) fn backward(
    problem: &Problem,
    ragged: &Ragged,
    dout: &[f32],
    dlse: Option<&[f32]>,
) -> Result<Gradients<f32>> {
    let Sizes { query_heads, key_heads, head_dim, value_dim, .. } = problem.sizes;
    let (queries, keys) = (problem.query_rows(), problem.key_rows());
    let bias = problem.bias.as_ref().filter(|_| problem.options.bias_gradient);
    let mut all = Gradients {
        dq: zeros(query_heads * queries * head_dim)?,
        dk: zeros(key_heads * keys * head_dim)?,
        dv: zeros(key_heads * keys * value_dim)?,
        dbias: zeros(bias.map_or(0, Tensor::count))?,
        dsinks: zeros(if problem.sinks.is_some() { query_heads } else { 0 })?,
    };
    let packed = Packed::new(problem)?;
    for sequence in sequences(ragged) {
        let inputs = packed.inputs(problem, sequence)?;
        let dout = get(dout, [query_heads, queries, value_dim], sequence.queries)?;
        let dlse = dlse.map(|dlse| get(dlse, [query_heads, queries, 1], sequence.queries)).transpose()?;
        let gradients = inputs.backward(problem, &dout, dlse.as_deref())?;
        put(&gradients.dq, [query_heads, queries, head_dim], sequence.queries, &mut all.dq);
        put(&gradients.dk, [key_heads, keys, head_dim], sequence.keys, &mut all.dk);
        put(&gradients.dv, [key_heads, keys, value_dim], sequence.keys, &mut all.dv);
        for (sum, x) in all.dsinks.iter_mut().zip(&gradients.dsinks) {
            *sum += x;
        }
        if let Some(bias) = bias {
            add_bias(bias, sequence, &gradients.dbias, &mut all.dbias)?;
        }
    }
    Ok(all)
}

/// Adds a sequence's gradient of the bias to the sums, which have the shape of the bias.
fn add_bias(bias: &Tensor, sequence: Sequence, dbias: &[f32], sums: &mut [f32]) -> Result<()> {
    let [start, count] = part(bias, sequence);
    let mut place = View::contiguous(bias.shape());
    for dimension in 0..4 {
        place = place.narrow(dimension, start[dimension], count[dimension])?;
    }
    let mut values = dbias.iter();
    place.runs(|start, length, _| {
        for (sum, x) in sums[start..start + length].iter_mut().zip(values.by_ref()) {
            *sum += x;
        }
    });
    Ok(())
}
