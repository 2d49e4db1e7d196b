//! One head of a problem, and its rows of scores and weights.

use crate::band::Band;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::problem::Problem;
use crate::tensor::Tensor;

/// One head of one batch entry: everything that its scores are made of, in f64.
pub(super) struct Head {
    pub(super) queries: usize,
    pub(super) keys: usize,
    head_dim: usize,
    /// `[queries, head_dim]`.
    q: Vec<f64>,
    /// `[keys, head_dim]`.
    k: Vec<f64>,
    /// `[1 or queries, keys]`; 0 = may not see.
    mask: Option<Vec<f64>>,
    /// `[1 or queries, keys]`.
    bias: Option<Vec<f64>>,
    scale: f64,
    band: Band,
}

/// A query and a key that see each other.
pub(super) struct Pair {
    pub(super) key: usize,
    /// `q · k`.
    pub(super) raw: f64,
    /// What the softmax gets.
    pub(super) score: f64,
    /// What it makes of it.
    pub(super) weight: f64,
}

/// The keys that one query sees.
#[derive(Default)]
pub(super) struct Row {
    pub(super) pairs: Vec<Pair>,
}

/// A row in numbers.
pub(super) struct Summary {
    pub(super) maximum: f64,
    pub(super) entropy: f64,
}

impl Head {
    pub(super) fn new(problem: &Problem, batch: usize, head: usize) -> Result<Head> {
        let sizes = &problem.sizes;
        let key_head = head / (sizes.query_heads / sizes.key_heads);
        let of = |tensor: &Tensor, head: usize| numbers(&tensor.select(0, batch)?.select(0, head)?);
        let repeated = |tensor: &Option<Tensor>| {
            tensor.as_ref().map(|tensor| {
                let at = |index: usize, dimension: usize| index.min(tensor.shape()[dimension] - 1);
                numbers(&tensor.select(0, at(batch, 0))?.select(0, at(head, 1))?)
            })
        };
        Ok(Head {
            queries: sizes.queries,
            keys: sizes.keys,
            head_dim: sizes.head_dim,
            q: of(&problem.q, head)?,
            k: of(&problem.k, key_head)?,
            mask: repeated(&problem.mask).transpose()?,
            bias: repeated(&problem.bias).transpose()?,
            scale: f64::from(problem.scale),
            band: problem.band,
        })
    }

    /// Makes `row` that of a query, without weights yet.
    pub(super) fn fill(&self, query: usize, row: &mut Row) {
        row.pairs.clear();
        let q = &self.q[query * self.head_dim..][..self.head_dim];
        // One row for all queries, or one each.
        let of = |rows: &Vec<f64>, key: usize| {
            let start = if rows.len() == self.keys { 0 } else { query * self.keys };
            rows[start + key]
        };
        for key in self.band.visible(query, self.keys) {
            let bias = self.bias.as_ref().map_or(0.0, |bias| of(bias, key));
            let masked = self.mask.as_ref().is_some_and(|mask| of(mask, key) == 0.0);
            if masked || bias == f64::NEG_INFINITY {
                continue;
            }
            let raw = dot(q, &self.k[key * self.head_dim..][..self.head_dim]);
            let score = self.scale * raw + bias;
            row.pairs.push(Pair { key, raw, score, weight: 0.0 });
        }
    }
}

/// The elements of a tensor in f64.
fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    match tensor.dtype() {
        Dtype::U8 => Ok(tensor.to_vec::<u8>()?.into_iter().map(f64::from).collect()),
        _ => tensor.to_f64(),
    }
}

/// The inner product, in eight sums that do not wait for one another.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (a_parts, b_parts) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 = a_parts.remainder().iter().zip(b_parts.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_parts.zip(b_parts) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f64>() + rest
}

impl Row {
    /// Whether every weight is 0.
    pub(super) fn is_empty(&self) -> bool {
        self.pairs.iter().all(|pair| pair.score == f64::NEG_INFINITY)
    }

    /// Computes the weights. `None` where they are no numbers, or all 0.
    pub(super) fn softmax(&mut self) -> Option<Summary> {
        if self.is_empty() {
            return None;
        }
        // NaN is not lost: it comes back in the sum.
        let most = self.pairs.iter().map(|pair| pair.score).fold(f64::NEG_INFINITY, f64::max);
        let mut sum = 0.0;
        for pair in &mut self.pairs {
            pair.weight = (pair.score - most).exp();
            sum += pair.weight;
        }
        let (mut maximum, mut entropy) = (0f64, 0.0);
        for pair in &mut self.pairs {
            pair.weight /= sum;
            maximum = maximum.max(pair.weight);
            entropy += information(pair.weight);
        }
        (!sum.is_nan()).then_some(Summary { maximum, entropy })
    }
}

/// The part of a probability in the entropy, in nats.
fn information(p: f64) -> f64 {
    if p > 0.0 { -p * p.ln() } else { 0.0 }
}
