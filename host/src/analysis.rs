//! What the logits and the attention weights of a problem look like, head by head.
//!
//! It shows whether a softmax still listens to more than one key: the range and spread of `q · k` before and after scaling, the
//! largest weight and the entropy of each row, how many rows are nearly one-hot, and what is not a number. Everything is
//! computed in f64 on the host, one row at a time: no matrix `[queries, keys]` is ever held.
//!
//! ```
//! use flash_attention::{Device, Options, Tensor, analysis};
//!
//! let q = Tensor::from_slice(&Device::cpu(), &[0.1f32; 2 * 3 * 8], &[1, 2, 3, 8])?;
//! let heads = analysis::heads(&q, &q, &q, &Options::default())?;
//! assert_eq!(heads.len(), 2);
//! // All scores are equal: every row has the entropy ln 3.
//! assert!((heads[0].mean_entropy - 3f64.ln()).abs() < 1e-9);
//! # Ok::<(), flash_attention::Error>(())
//! ```

use crate::error::Result;
use crate::options::Options;
use crate::problem::Problem;
use crate::tensor::Tensor;
use rayon::prelude::*;

mod rows;
mod spread;

use rows::{Head, Row};
pub use spread::Spread;

/// A row whose largest weight is above this is nearly one-hot.
pub const ONE_HOT: f64 = 0.99;

/// Rows of one task. Results are put together in order, so that they do not depend on the number of threads.
const ROWS: usize = 16;

/// What one head of one batch entry looks like. Weights are those of the softmax, before dropout.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HeadStatistics {
    /// The batch entry; of a ragged batch the sequence.
    pub batch: usize,
    /// The query head.
    pub head: usize,
    /// `q · k` of all pairs that see each other, before scaling.
    pub raw: Spread,
    /// What the softmax gets of the same pairs: scaled, and with every other option that changes scores.
    pub scores: Spread,
    /// Rows that the next three are taken over: those with weights that are numbers.
    pub rows: usize,
    /// The mean over rows of the largest weight; NaN where there are no rows.
    pub mean_row_maximum: f64,
    /// The mean over rows of the entropy in nats, from 0 (one-hot) to the logarithm of the keys seen (uniform). A sink counts
    /// as a key. NaN where there are no rows.
    pub mean_entropy: f64,
    /// The share of rows whose largest weight is above [`ONE_HOT`]; NaN where there are no rows.
    pub one_hot_share: f64,
    /// Rows that see no key.
    pub empty_rows: usize,
    /// Rows whose weights are NaN.
    pub nan_rows: usize,
}

/// The weights of one head as a picture shows them, and the entropy of its rows.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HeadPicture {
    /// Queries of the head.
    pub queries: usize,
    /// Keys of the head.
    pub keys: usize,
    /// Rows of cells, at most the queries.
    pub rows: usize,
    /// Columns of cells, at most the keys.
    pub columns: usize,
    /// The largest weight among the queries and keys of each cell, row by row; `None` where no query sees a key.
    pub cells: Vec<Option<f64>>,
    /// The entropy in nats of every row with weights that are numbers, in order.
    pub entropies: Vec<f64>,
}

/// The statistics of every batch entry and head, heads of the same entry together.
///
/// # Errors
/// Where the problem is wrong in itself; what goes wrong on the tensors' device.
pub fn heads(q: &Tensor, k: &Tensor, v: &Tensor, options: &Options) -> Result<Vec<HeadStatistics>> {
    let problem = Problem::new(q, k, v, options)?;
    let mut all = vec![];
    for batch in 0..problem.sizes.batch {
        for head in 0..problem.sizes.query_heads {
            all.push(statistics(&Head::new(&problem, batch, head)?, batch, head));
        }
    }
    Ok(all)
}

/// The weights of one head, in at most `limit` rows and columns of cells.
///
/// # Errors
/// As [`heads`]; where there is no such batch entry or head.
pub fn picture(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    options: &Options,
    [batch, head]: [usize; 2],
    limit: usize,
) -> Result<HeadPicture> {
    let head = Head::new(&Problem::new(q, k, v, options)?, batch, head)?;
    let (queries, keys) = (head.queries, head.keys);
    let (rows, columns) = (queries.min(limit), keys.min(limit));
    let mut cells = vec![None; rows * columns];
    let entropies: Vec<Vec<f64>> = cells
        .par_chunks_mut(columns.max(1))
        .enumerate()
        .map(|(cell_row, cells)| {
            let mut row = Row::default();
            let mut entropies = vec![];
            for query in part(cell_row, rows, queries) {
                head.fill(query, &mut row);
                entropies.extend(row.softmax().map(|summary| summary.entropy));
                for pair in &row.pairs {
                    let cell: &mut Option<f64> = &mut cells[pair.key * columns / keys];
                    // A number wins over NaN.
                    *cell = Some(cell.map_or(pair.weight, |most| most.max(pair.weight)));
                }
            }
            entropies
        })
        .collect();
    Ok(HeadPicture { queries, keys, rows, columns, cells, entropies: entropies.concat() })
}

/// The entries that cell `index` of `cells` shows: those `i` for which `i * cells / entries` is `index`.
fn part(index: usize, cells: usize, entries: usize) -> std::ops::Range<usize> {
    (index * entries).div_ceil(cells)..((index + 1) * entries).div_ceil(cells)
}

/// What a number of rows have in sum.
#[derive(Default)]
struct Sums {
    raw: Spread,
    scores: Spread,
    rows: usize,
    maxima: f64,
    entropies: f64,
    one_hot: usize,
    empty: usize,
    nan: usize,
}

impl Sums {
    fn of(head: &Head, queries: std::ops::Range<usize>) -> Sums {
        let (mut sums, mut row) = (Sums::default(), Row::default());
        for query in queries {
            head.fill(query, &mut row);
            for pair in &row.pairs {
                sums.raw.push(pair.raw);
                sums.scores.push(pair.score);
            }
            match row.softmax() {
                Some(summary) => {
                    sums.rows += 1;
                    sums.maxima += summary.maximum;
                    sums.entropies += summary.entropy;
                    sums.one_hot += usize::from(summary.maximum > ONE_HOT);
                }
                None if row.is_empty() => sums.empty += 1,
                None => sums.nan += 1,
            }
        }
        sums
    }

    fn add(mut self, other: &Sums) -> Sums {
        self.raw.merge(&other.raw);
        self.scores.merge(&other.scores);
        self.rows += other.rows;
        self.maxima += other.maxima;
        self.entropies += other.entropies;
        self.one_hot += other.one_hot;
        self.empty += other.empty;
        self.nan += other.nan;
        self
    }
}

fn statistics(of: &Head, batch: usize, head: usize) -> HeadStatistics {
    let tasks = 0..of.queries.div_ceil(ROWS);
    let parts: Vec<Sums> = tasks
        .into_par_iter()
        .map(|task| Sums::of(of, task * ROWS..((task + 1) * ROWS).min(of.queries)))
        .collect();
    let sums = parts.iter().fold(Sums::default(), Sums::add);
    let mean = |sum: f64| sum / sums.rows as f64;
    HeadStatistics {
        batch,
        head,
        rows: sums.rows,
        mean_row_maximum: mean(sums.maxima),
        mean_entropy: mean(sums.entropies),
        one_hot_share: mean(sums.one_hot as f64),
        empty_rows: sums.empty,
        nan_rows: sums.nan,
        raw: sums.raw,
        scores: sums.scores,
    }
}

#[cfg(test)]
mod tests;
