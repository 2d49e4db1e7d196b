//! One head of a problem, and its rows of scores and weights.

use crate::band::Band;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::problem::{Problem, shape4};
use crate::tensor::Tensor;

/// One head of one batch entry or sequence: everything that its scores are made of, in f64.
pub(super) struct Head {
    pub(super) queries: usize,
    pub(super) keys: usize,
    /// The keys that count.
    used: usize,
    head_dim: usize,
    /// `[queries, head_dim]`.
    q: Vec<f64>,
    /// `[keys, head_dim]`.
    k: Vec<f64>,
    mask: Option<Rows>,
    bias: Option<Rows>,
    scale: f64,
    band: Band,
    softcap: Option<f64>,
    /// ALiBi's.
    slope: Option<f64>,
    sink: Option<f64>,
}

/// One row of numbers for all queries, or one for each.
struct Rows {
    numbers: Vec<f64>,
    keys: usize,
    shared: bool,
}

impl Rows {
    /// Those of one head.
    fn new(tensor: &Tensor, batch: usize, head: usize) -> Result<Rows> {
        let [batches, heads, queries, keys] = shape4(tensor);
        let last = |index: usize, entries: usize| index.min(entries.saturating_sub(1));
        let of_head = tensor.select(0, last(batch, batches))?.select(0, last(head, heads))?;
        Ok(Rows { numbers: numbers(&of_head)?, keys, shared: queries == 1 })
    }

    fn at(&self, query: usize, key: usize) -> f64 {
        self.numbers[if self.shared { key } else { query * self.keys + key }]
    }
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
    /// A logit that takes part in the softmax and belongs to no key.
    sink: Option<f64>,
}

/// A row in numbers.
pub(super) struct Summary {
    pub(super) maximum: f64,
    pub(super) entropy: f64,
}

impl Head {
    /// Reads what the head needs, and no more.
    pub(super) fn new(problem: &Problem, batch: usize, head: usize) -> Result<Head> {
        let sizes = &problem.sizes;
        let key_head = head / (sizes.query_heads / sizes.key_heads.max(1)).max(1);
        // The sequences of a ragged batch lie behind one another in a single batch entry.
        let of = |tensor: &Tensor, head: usize, offsets: Option<&[usize]>| match offsets {
            Some(offsets) => {
                let tensor = tensor.select(0, 0)?.select(0, head)?;
                // Says that there is no such sequence where there is none.
                let [start, end] = [batch, batch + 1].map(|b| offsets.get(b).copied().unwrap_or(usize::MAX));
                tensor.narrow(0, start, end - start)
            }
            None => tensor.select(0, batch)?.select(0, head),
        };
        let ragged = problem.ragged.as_ref();
        let q = of(&problem.q, head, ragged.map(|ragged| &ragged.query_offsets[..]))?;
        let k = of(&problem.k, key_head, ragged.map(|ragged| &ragged.key_offsets[..]))?;
        let (queries, keys) = (q.shape()[0], k.shape()[0]);
        let rows = |tensor: &Option<Tensor>| {
            tensor.as_ref().map(|tensor| Rows::new(tensor, batch, head)).transpose()
        };
        let slope = |slopes: &Tensor| {
            let row = if slopes.shape()[0] == 1 { 0 } else { batch };
            Ok(slopes.select(0, row)?.to_f64()?[head])
        };
        Ok(Head {
            queries,
            keys,
            used: problem.key_lengths.as_ref().map_or(keys, |lengths| lengths[batch]),
            head_dim: sizes.head_dim,
            q: numbers(&q)?,
            k: numbers(&k)?,
            mask: rows(&problem.mask)?,
            bias: rows(&problem.bias)?,
            scale: f64::from(problem.scale),
            band: problem.band,
            softcap: problem.softcap.map(f64::from),
            slope: problem.alibi.as_ref().map(slope).transpose()?,
            sink: problem.sinks.as_ref().map(|sinks| Ok(sinks.to_f64()?[head])).transpose()?,
        })
    }

    /// Makes `row` that of a query, without weights yet.
    pub(super) fn fill(&self, query: usize, row: &mut Row) {
        row.pairs.clear();
        row.sink = self.sink;
        let q = &self.q[query * self.head_dim..][..self.head_dim];
        for key in self.band.visible(query, self.queries, self.used) {
            let bias = self.bias.as_ref().map_or(0.0, |bias| bias.at(query, key));
            let masked = self.mask.as_ref().is_some_and(|mask| mask.at(query, key) == 0.0);
            if masked || bias == f64::NEG_INFINITY {
                continue;
            }
            let raw = dot(q, &self.k[key * self.head_dim..][..self.head_dim]);
            let scaled = self.scale * raw;
            let capped = self.softcap.map_or(scaled, |cap| cap * (scaled / cap).tanh());
            let distance = (query as f64 + self.used as f64 - self.queries as f64 - key as f64).abs();
            let score = capped - self.slope.map_or(0.0, |slope| slope * distance) + bias;
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
        let most = self.sink.map_or(most, |sink| sink.max(most));
        let mut sum = self.sink.map_or(0.0, |sink| (sink - most).exp());
        for pair in &mut self.pairs {
            pair.weight = (pair.score - most).exp();
            sum += pair.weight;
        }
        let mut entropy = self.sink.map_or(0.0, |sink| information((sink - most).exp() / sum));
        let mut maximum = 0f64;
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
