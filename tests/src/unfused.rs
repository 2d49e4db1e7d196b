//! Attention operation by operation, each result rounded to what is stored: how far a plain implementation is off.
//!
//! Slow, plain, and written apart from the library's reference: without rounding the two must agree.

use flash_attention::{Causal, Dtype};

use crate::problem::{Inputs, Problem, Results, round};

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
    /// `ds = p (dp - delta)` is small where one key has all the weight, but its rounding error is as large as that of `dp`;
    /// an implementation that computes `delta` from the output makes it although this one, whose `delta` is a sum of the
    /// same `dp`, may not. Errors of different queries are independent: their squares add up.
    pub cancelled: [f64; 6],
}

/// What a query does to the sums.
struct Row {
    lse: f64,
    p: Vec<f64>,
    ds: Vec<f64>,
    /// `p (|dp| + |delta|)`.
    cancelled: Vec<f64>,
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

impl Plain<'_> {
    /// Whether a query may see a key, by the words of the golden cases; written anew, so that a mistake in the library's
    /// own rule is not made twice.
    fn sees(&self, at: [usize; 3], j: usize) -> bool {
        let Problem { causal, queries, keys, .. } = *self.problem;
        let by_position = match causal {
            Causal::UpperLeft => j <= at[2],
            Causal::LowerRight => j + queries <= at[2] + keys,
            _ => true,
        };
        by_position
            && self
                .inputs
                .mask
                .as_ref()
                .is_none_or(|(mask, shape)| mask[repeated(*shape, at) * keys + j] != 0)
    }

    fn score(&self, at: [usize; 3], q: &[f64], key: &[f64], j: usize) -> f64 {
        if !self.sees(at, j) {
            return f64::NEG_INFINITY;
        }
        let r = self.precision;
        let scaled = r.store(r.compute(r.store(r.dot(q, key.iter())) * f64::from(self.problem.factor())));
        let bias = self.inputs.bias.as_ref();
        let bias = bias.map(|(bias, shape)| bias[repeated(*shape, at) * self.problem.keys + j]);
        bias.map_or(scaled, |bias| r.store(r.compute(scaled + bias)))
    }

    /// One query; nothing where it sees no key.
    fn row(&self, at: [usize; 3], q: &[f64], dout: &[f64], k: &[f64], v: &[f64]) -> Option<Row> {
        let (r, d, dv) = (self.precision, self.problem.head_dim, self.problem.value_dim);
        let scores = k.chunks_exact(d).enumerate().map(|(j, key)| self.score(at, q, key, j));
        let scores: Vec<f64> = scores.collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if max == f64::NEG_INFINITY {
            return None;
        }
        let e: Vec<f64> = scores.iter().map(|s| r.compute(r.compute(s - max).exp())).collect();
        let sum = e.iter().fold(0.0, |sum, e| r.compute(sum + e));
        let p: Vec<f64> = e.iter().map(|e| r.store(r.compute(e / sum))).collect();
        let dp: Vec<f64> = v.chunks_exact(dv).map(|value| r.store(r.dot(dout, value.iter()))).collect();
        let delta = r.dot(&p, dp.iter());
        let pairs = || p.iter().zip(&dp);
        Some(Row {
            lse: r.compute(max + r.compute(sum.ln())),
            ds: pairs().map(|(p, dp)| r.store(r.compute(p * r.compute(dp - delta)))).collect(),
            cancelled: pairs().map(|(p, dp)| p * (dp.abs() + delta.abs())).collect(),
            p,
        })
    }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// Forward and backward.
pub fn unfused(problem: &Problem, inputs: &Inputs, precision: Precision) -> Unfused {
    let plain = Plain { problem, inputs, precision };
    let r = precision;
    let (heads, queries, keys) = (problem.query_heads(), problem.queries, problem.keys);
    let (d, dv, factor) = (problem.head_dim, problem.value_dim, f64::from(problem.factor()));
    let zeros = |values: &[f64]| vec![0.0; values.len()];
    let bias = inputs.bias.as_ref();
    let mut results = Results {
        out: zeros(&inputs.dout),
        lse: vec![f64::NEG_INFINITY; problem.batch * heads * queries],
        dq: zeros(&inputs.q),
        dk: zeros(&inputs.k),
        dv: zeros(&inputs.v),
        dbias: bias.map_or(vec![], |(bias, _)| zeros(bias)),
    };
    // Of each element of dq, and, squared, of dk and dbias.
    let mut cancelled = [zeros(&results.dq), zeros(&results.dk), zeros(&results.dbias)];
    for row in 0..problem.batch * heads * queries {
        let at @ [b, h, _] = [row / queries / heads, row / queries % heads, row % queries];
        let head = b * problem.key_heads + h / problem.group;
        let k = &inputs.k[head * keys * d..][..keys * d];
        let v = &inputs.v[head * keys * dv..][..keys * dv];
        let (q, dout) = (&inputs.q[row * d..][..d], &inputs.dout[row * dv..][..dv]);
        let Some(Row { lse, p, ds, cancelled: lost }) = plain.row(at, q, dout, k, v) else { continue };
        results.lse[row] = lse;
        for c in 0..dv {
            results.out[row * dv + c] = r.store(r.dot(&p, v[c..].iter().step_by(dv)));
        }
        for c in 0..d {
            let column = || k[c..].iter().step_by(d);
            results.dq[row * d + c] = r.store(r.compute(r.store(r.dot(&ds, column())) * factor));
            cancelled[0][row * d + c] = lost.iter().zip(column()).map(|(x, k)| (factor * x * k).abs()).sum();
        }
        for j in 0..keys {
            let key = (head * keys + j) * d;
            for c in 0..d {
                results.dk[key + c] = r.add_product(results.dk[key + c], ds[j], q[c]);
                cancelled[1][key + c] += (factor * lost[j] * q[c]).powi(2);
            }
            let value = (head * keys + j) * dv;
            for (sum, dout) in results.dv[value..].iter_mut().zip(dout) {
                *sum = r.add_product(*sum, p[j], *dout);
            }
            if let Some((_, shape)) = bias {
                let at = repeated(*shape, at) * keys + j;
                results.dbias[at] = r.compute(results.dbias[at] + ds[j]);
                cancelled[2][at] += lost[j].powi(2);
            }
        }
    }
    results.dk.iter_mut().for_each(|x| *x = r.store(r.compute(r.store(*x) * factor)));
    results.dv.iter_mut().chain(&mut results.dbias).for_each(|x| *x = r.store(*x));
    let [dq, dk, dbias] = cancelled.each_ref().map(|values| largest(values));
    Unfused { results, cancelled: [0.0, 0.0, dq, dk.sqrt(), 0.0, dbias.sqrt()] }
}
