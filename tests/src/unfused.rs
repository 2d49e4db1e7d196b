//! Attention operation by operation, each result rounded to what is stored: how far a plain implementation is off.
//!
//! Slow, plain, and written apart from the library's reference: without rounding it is the truth, and the two must agree.

use flash_attention::{Causal, Dtype};
use flash_attention_abi::philox::philox4x32_10;

use crate::problem::{Inputs, Problem, RESULTS, Results, round};

/// How an unfused implementation rounds.
#[derive(Clone, Copy, Debug)]
pub struct Precision {
    /// What it stores: scores, probabilities, their gradients, results.
    pub stored: Option<Dtype>,
    /// What it computes with: every sum and product.
    pub computed: Option<Dtype>,
}

impl Precision {
    /// f64 throughout.
    pub const EXACT: Precision = Precision { stored: None, computed: None };

    /// Tensors in a storage type, arithmetic in f32.
    pub fn of(dtype: Dtype) -> Precision {
        Precision { stored: Some(dtype), computed: Some(Dtype::F32) }
    }

    fn store(self, x: f64) -> f64 {
        self.stored.map_or(x, |dtype| round(dtype, x))
    }

    fn compute(self, x: f64) -> f64 {
        self.computed.map_or(x, |dtype| round(dtype, x))
    }

    fn add_product(self, sum: f64, a: f64, b: f64) -> f64 {
        self.compute(sum + self.compute(a * b))
    }

    fn dot<'a>(self, a: &[f64], b: impl Iterator<Item = &'a f64>) -> f64 {
        a.iter().zip(b).fold(0.0, |sum, (&a, &b)| self.add_product(sum, a, b))
    }
}

/// What an unfused implementation gives.
#[derive(Clone, Debug)]
pub struct Unfused {
    /// Its results.
    pub results: Results,
    /// For each result, in the order of [`Results::named`], the largest magnitude of what was subtracted to give it.
    ///
    /// `ds = p (dp - delta)` is small where one key has all the weight, but its rounding error is as large as that of `dp`,
    /// which another order of summation makes although this one may not. Errors of different queries are independent: their
    /// squares add up.
    pub cancelled: [f64; RESULTS],
}

/// What a query does to the sums: of each key that it sees, in order.
struct Row {
    lse: f64,
    seen: Vec<usize>,
    out: Vec<f64>,
    /// The weights after dropout.
    w: Vec<f64>,
    /// The gradients of the scores.
    ds: Vec<f64>,
    /// Those of the scores before the softcap.
    before_cap: Vec<f64>,
    /// `p (|dp| + |delta|)` with the size of what `delta` is the sum of, and the same before the softcap.
    cancelled: Vec<[f64; 2]>,
    /// What the sink's gradient is moved by, and the part of it that cancels.
    sink: [f64; 2],
}

struct Plain<'a> {
    problem: &'a Problem,
    inputs: &'a Inputs,
    precision: Precision,
}

/// The place of a row of scores in a mask or bias.
fn repeated(shape: [usize; 3], at: [usize; 3]) -> usize {
    (0..3).fold(0, |row, n| row * shape[n] + if shape[n] == 1 { 0 } else { at[n] })
}

/// Whether dropout keeps a weight: the word of the Philox generator that belongs to its place is at least `p 2^32`.
///
/// Keys are counted in runs of 32; word `n` of a call belongs to the keys `8 n..8 n + 8` of its run.
pub fn keeps(p: f32, seed: u64, offset: u32, row: u32, query: u32, key: u32) -> bool {
    let (run, within) = (key / 32, key % 32);
    let words = philox4x32_10([8 * run + within % 8, query, row, offset], [seed as u32, (seed >> 32) as u32]);
    f64::from(words[(within / 8) as usize]) >= (f64::from(p) * 2f64.powi(32)).round()
}

impl Plain<'_> {
    /// Whether a query may see a key, by the words of the golden cases; written anew, so that a mistake in the library's
    /// own rule is not made twice.
    fn sees(&self, at: [usize; 3], j: usize) -> bool {
        let Problem { causal, window: [left, right], keys, .. } = *self.problem;
        let [sq, sk] = self.problem.lengths(at[0]).map(|n| n as i64);
        let corner = if causal == Causal::UpperLeft { 0 } else { sk - sq };
        let ahead = j as i64 - at[2] as i64 - corner;
        let bounded =
            |bound: Option<usize>, by: i64| bound.is_none_or(|bound| i128::from(by) <= bound as i128);
        (j as i64) < sk
            && (causal == Causal::None || ahead <= 0)
            && bounded(left, -ahead)
            && bounded(right, ahead)
            && self
                .inputs
                .mask
                .as_ref()
                .is_none_or(|(mask, shape)| mask[repeated(*shape, at) * keys + j] != 0)
    }

    /// The score of a query and a key that it sees, and the slope of the softcap.
    fn score(&self, at: [usize; 3], q: &[f64], key: &[f64], j: usize) -> (f64, f64) {
        let (r, problem) = (self.precision, self.problem);
        let mut score = r.store(r.compute(r.store(r.dot(q, key.iter())) * f64::from(problem.factor())));
        let mut slope = 1.0;
        if let Some(cap) = problem.softcap.map(f64::from) {
            let tanh = r.store(r.compute(r.store(r.compute(score / cap)).tanh()));
            slope = r.compute(1.0 - tanh * tanh);
            score = r.store(r.compute(cap * tanh));
        }
        if let Some(slopes) = &self.inputs.slopes {
            let [sq, sk] = problem.lengths(at[0]).map(|n| n as f64);
            let heads = problem.query_heads();
            let alibi = slopes[if problem.alibi == Some(true) { at[0] * heads } else { 0 } + at[1]];
            let distance = (at[2] as f64 + sk - sq - j as f64).abs();
            score = r.store(r.compute(score - r.compute(alibi * distance)));
        }
        if let Some((bias, shape)) = &self.inputs.bias {
            score = r.store(r.compute(score + bias[repeated(*shape, at) * problem.keys + j]));
        }
        (score, slope)
    }

    /// What dropout makes of a weight or the gradient of one.
    fn drop(&self, at: [usize; 3], j: usize, x: f64) -> f64 {
        let Some(dropout) = self.problem.dropout else { return x };
        let row = at[0] * self.problem.query_heads() + at[1];
        let kept = keeps(dropout.p, dropout.seed, dropout.offset, row as u32, at[2] as u32, j as u32);
        if kept { self.precision.compute(x / (1.0 - f64::from(dropout.p))) } else { 0.0 }
    }

    /// One query; nothing where it sees no key and its head has no sink.
    fn row(&self, at: [usize; 3], q: &[f64], dout: &[f64], dlse: f64, k: &[f64], v: &[f64]) -> Option<Row> {
        let (r, d, dv) = (self.precision, self.problem.head_dim, self.problem.value_dim);
        let seen: Vec<usize> = (0..self.problem.keys).filter(|&j| self.sees(at, j)).collect();
        let scored = seen.iter().map(|&j| self.score(at, q, &k[j * d..][..d], j));
        let (scores, slopes): (Vec<f64>, Vec<f64>) = scored.unzip();
        let sink = self.inputs.sinks.as_ref().map_or(f64::NEG_INFINITY, |sinks| sinks[at[1]]);
        let max = scores.iter().copied().fold(sink, f64::max);
        if max == f64::NEG_INFINITY && !scores.iter().any(|score| score.is_nan()) {
            return None;
        }
        let e: Vec<f64> = scores.iter().map(|s| r.compute(r.compute(s - max).exp())).collect();
        let sink = r.compute(r.compute(sink - max).exp());
        let sum = e.iter().fold(sink, |sum, e| r.compute(sum + e));
        let p: Vec<f64> = e.iter().map(|e| r.store(r.compute(e / sum))).collect();
        let w: Vec<f64> = seen.iter().zip(&p).map(|(&j, &p)| r.store(self.drop(at, j, p))).collect();
        let column = |c: usize| seen.iter().map(move |&j| &v[j * dv + c]);
        let out: Vec<f64> = (0..dv).map(|c| r.store(r.dot(&w, column(c)))).collect();
        let dp = seen.iter().map(|&j| r.store(self.drop(at, j, r.dot(dout, v[j * dv..][..dv].iter()))));
        let dp: Vec<f64> = dp.collect();
        // As FlashAttention computes it, from the output that is stored; the same sum where nothing is rounded.
        let delta = if r.stored.is_some() { r.dot(dout, out.iter()) } else { r.dot(&p, dp.iter()) };
        let moved = r.compute(delta - dlse);
        let pairs = || p.iter().zip(&dp);
        let ds: Vec<f64> = pairs().map(|(p, dp)| r.store(r.compute(p * r.compute(dp - moved)))).collect();
        // A delta that is small by chance has lost as much: its columns' errors are independent too.
        let columns = dout.iter().zip(&out).map(|(dout, out)| (dout * out).powi(2)).sum::<f64>().sqrt();
        let size = delta.abs().max(columns);
        let lost = pairs().map(|(p, dp)| p * (dp.abs() + size)).zip(&slopes);
        let sink = r.store(r.compute(sink / sum));
        Some(Row {
            lse: r.compute(max + r.compute(sum.ln())),
            cancelled: lost.map(|(lost, slope)| [lost, lost * slope]).collect(),
            before_cap: ds.iter().zip(&slopes).map(|(ds, slope)| r.store(r.compute(ds * slope))).collect(),
            sink: [
                r.store(r.compute(sink * -moved)),
                sink * pairs().map(|(p, dp)| (p * dp).abs()).sum::<f64>(),
            ],
            seen,
            out,
            w,
            ds,
        })
    }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// Sums over queries: the results, and what cancelled in each element of dq, and, squared, of dk, dbias and dsinks.
struct Sums<'a> {
    plain: Plain<'a>,
    results: Results,
    cancelled: [Vec<f64>; 4],
}

impl Sums<'_> {
    /// Takes the query in row `index` of the output.
    fn add(&mut self, index: usize) {
        let Plain { problem, inputs, precision: r } = self.plain;
        let (heads, queries, keys) = (problem.query_heads(), problem.queries, problem.keys);
        let (d, dv, factor) = (problem.head_dim, problem.value_dim, f64::from(problem.factor()));
        let at @ [b, h, i] = [index / queries / heads, index / queries % heads, index % queries];
        if i >= problem.lengths(b)[0] {
            return;
        }
        let [q_row, key, value] =
            [0, 1, 2].map(|t| problem.head(t, b, h) * if t == 0 { queries } else { keys });
        let q_row = q_row + i;
        let (k, v) = (&inputs.k[key * d..][..keys * d], &inputs.v[value * dv..][..keys * dv]);
        let (q, dout) = (&inputs.q[q_row * d..][..d], &inputs.dout[index * dv..][..dv]);
        let dlse = inputs.dlse.as_ref().map_or(0.0, |dlse| dlse[index]);
        let Some(row) = self.plain.row(at, q, dout, dlse, k, v) else { return };
        let Results { out, lse, dq, dk, dv: grad_v, dbias, dsinks } = &mut self.results;
        let [lost_q, lost_k, lost_bias, lost_sinks] = &mut self.cancelled;
        lse[index] = row.lse;
        out[index * dv..][..dv].copy_from_slice(&row.out);
        for c in 0..d {
            let column: Vec<f64> = row.seen.iter().map(|&j| k[j * d + c]).collect();
            let sum = r.store(r.compute(r.store(r.dot(&row.before_cap, column.iter())) * factor));
            dq[q_row * d + c] = r.compute(dq[q_row * d + c] + sum);
            let lost = row.cancelled.iter().zip(&column).map(|([_, x], k)| (factor * x * k).abs());
            lost_q[q_row * d + c] += lost.sum::<f64>();
        }
        for (n, &j) in row.seen.iter().enumerate() {
            let place = (key + j) * d;
            for c in 0..d {
                dk[place + c] = r.add_product(dk[place + c], row.before_cap[n], q[c]);
                lost_k[place + c] += (factor * row.cancelled[n][1] * q[c]).powi(2);
            }
            for (sum, dout) in grad_v[(value + j) * dv..].iter_mut().zip(dout) {
                *sum = r.add_product(*sum, row.w[n], *dout);
            }
            if let Some((_, shape)) = &inputs.bias {
                let place = repeated(*shape, at) * keys + j;
                dbias[place] = r.compute(dbias[place] + row.ds[n]);
                lost_bias[place] += row.cancelled[n][0].powi(2);
            }
        }
        if let Some(sum) = dsinks.get_mut(h) {
            *sum = r.compute(*sum + row.sink[0]);
            lost_sinks[h] += row.sink[1].powi(2);
        }
    }
}

/// Forward and backward.
pub fn unfused(problem: &Problem, inputs: &Inputs, precision: Precision) -> Unfused {
    let (r, factor) = (precision, f64::from(problem.factor()));
    let zeros = |values: &[f64]| vec![0.0; values.len()];
    let rows = problem.batch * problem.query_heads() * problem.queries;
    let results = Results {
        out: zeros(&inputs.dout),
        lse: vec![f64::NEG_INFINITY; rows],
        dq: zeros(&inputs.q),
        dk: zeros(&inputs.k),
        dv: zeros(&inputs.v),
        dbias: inputs.bias.as_ref().map_or(vec![], |(bias, _)| zeros(bias)),
        dsinks: inputs.sinks.as_deref().map_or(vec![], zeros),
    };
    let cancelled = [&results.dq, &results.dk, &results.dbias, &results.dsinks].map(|values| zeros(values));
    let mut sums = Sums { plain: Plain { problem, inputs, precision }, results, cancelled };
    (0..rows).for_each(|index| sums.add(index));
    let Sums { mut results, cancelled, .. } = sums;
    results.dq.iter_mut().for_each(|x| *x = r.store(*x));
    results.dk.iter_mut().for_each(|x| *x = r.store(r.compute(r.store(*x) * factor)));
    results.dv.iter_mut().chain(&mut results.dbias).for_each(|x| *x = r.store(*x));
    let [dq, dk, dbias, dsinks] = cancelled.each_ref().map(|values| largest(values));
    Unfused { results, cancelled: [0.0, 0.0, dq, dk.sqrt(), 0.0, dbias.sqrt(), dsinks.sqrt()] }
}
