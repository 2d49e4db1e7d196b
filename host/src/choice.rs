//! Which backends can run a problem, and in words why the others cannot.

use std::fmt;

use flash_attention_abi::tile::MAX_HEAD_DIM;

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::options::Backend;
use crate::plan;
use crate::problem::{Problem, Sizes, shape4};
use crate::view::checked_count;

/// Whether one backend can run a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The backend.
    pub backend: Backend,
    /// Every reason why it cannot, each a sentence; none where it can.
    pub reasons: Vec<String>,
}

impl Verdict {
    /// Whether it can.
    pub fn can(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// "can", or every reason why it cannot.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.can() { f.write_str("can") } else { f.write_str(&self.reasons.join("; ")) }
    }
}

/// What every backend says to a problem, in the order in which `Auto` tries them. Displays as one line a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// One verdict a backend.
    pub verdicts: Vec<Verdict>,
}

impl Explanation {
    /// Asks every backend.
    pub(crate) fn new(problem: &Problem) -> Explanation {
        let ask = |backend| Verdict {
            backend,
            reasons: match backend {
                Backend::Flash => flash(problem),
                Backend::Efficient => efficient(problem),
                Backend::Math => math(problem),
                Backend::Auto => vec![],
            },
        };
        Explanation { verdicts: Backend::ORDER.map(ask).into() }
    }

    /// The backend that runs where these are asked for: the first that can. `Auto` stands for all, in its order, and so does
    /// an empty list.
    ///
    /// # Errors
    /// [`Error::Refused`] with every reason of each, where none of them can.
    pub fn choose(&self, asked: &[Backend]) -> Result<Backend> {
        let asked = if asked.is_empty() { &[Backend::Auto] } else { asked };
        let mut considered: Vec<&Verdict> = vec![];
        for &backend in asked {
            let all = backend == Backend::Auto;
            for verdict in self.verdicts.iter().filter(|v| all || v.backend == backend) {
                if verdict.can() {
                    return Ok(verdict.backend);
                }
                if !considered.contains(&verdict) {
                    considered.push(verdict);
                }
            }
        }
        if let [verdict] = considered[..] {
            let reasons = verdict.to_string();
            return Err(Error::Refused { verdict: format!("{} cannot run this", verdict.backend), reasons });
        }
        let verdict = if considered.len() == self.verdicts.len() {
            "no backend can run this".into()
        } else {
            let names: Vec<_> = considered.iter().map(|v| v.backend.name()).collect();
            format!("none of {} can run this", names.join(", "))
        };
        let reasons: Vec<_> = considered.iter().map(|v| format!("{}: {v}", v.backend)).collect();
        Err(Error::Refused { verdict, reasons: reasons.join(". ") })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, verdict) in self.verdicts.iter().enumerate() {
            write!(f, "{}{}: {verdict}", if i == 0 { "" } else { "\n" }, verdict.backend)?;
        }
        Ok(())
    }
}

/// The compute capability that the kernels of `Efficient` need.
const EFFICIENT_CAPABILITY: (i32, i32) = (7, 0);

/// The compute capability that the kernels of `Flash` need.
const FLASH_CAPABILITY: (i32, i32) = (8, 0);

/// What both fused backends say.
fn fused(problem: &Problem, capability: (i32, i32)) -> Vec<String> {
    let mut reasons = vec![];
    match problem.device().accelerator() {
        None => reasons
            .push("its kernels run on CUDA devices and the emulator, and the tensors are on cpu".into()),
        Some(accelerator) => reasons.extend(accelerator.refusal(capability)),
    }
    for (what, columns) in [("head dim", problem.sizes.head_dim), ("value head dim", problem.sizes.value_dim)]
    {
        if columns > MAX_HEAD_DIM as usize {
            reasons.push(format!("{what} {columns} is above {MAX_HEAD_DIM}"));
        }
    }
    if problem.options.return_weights {
        reasons.push("attention weights are asked for, and only Math returns them".into());
    }
    let rows = problem.sizes.batch as u128 * problem.sizes.queries as u128;
    if problem.sinks.is_some() && rows > u128::from(plan::MAX_GRID) {
        let limit = plan::MAX_GRID;
        reasons.push(format!(
            "the gradient of the sinks would add up {rows} queries a head, and at most {limit} are allowed"
        ));
    }
    // The gradients of bias and sinks are those of `Efficient` in both, and where a tensor of backward is not aligned all are.
    if let Some((kernel, blocks)) = plan::excessive_grid(&problem.sizes) {
        reasons.push(plan::too_many_blocks(kernel, blocks));
    }
    reasons
}

/// What a backend says that does not divide keys.
fn in_parts(problem: &Problem) -> Option<String> {
    let splits = problem.options.splits;
    (splits > 1).then(|| format!("{splits} splits of the keys are asked for, and only Flash divides them"))
}

fn efficient(problem: &Problem) -> Vec<String> {
    let mut reasons = fused(problem, EFFICIENT_CAPABILITY);
    reasons.extend(in_parts(problem));
    reasons
}

fn flash(problem: &Problem) -> Vec<String> {
    let mut reasons = fused(problem, FLASH_CAPABILITY);
    if problem.dtype() == Dtype::F32 {
        reasons.push("tensor cores multiply f16 and bf16, and the tensors are f32".into());
    }
    for (what, tensor) in [("q", &problem.q), ("k", &problem.k), ("v", &problem.v)] {
        if !plan::is_aligned(tensor) {
            let bytes = shape4(tensor)[3] * tensor.dtype().size();
            reasons.push(format!(
                "it copies 16 bytes at a time, and {what} has rows of {bytes} bytes that do not all begin and end at \
                 multiples of 16"
            ));
        }
    }
    if let Some(rows) = plan::flash::excessive_rows(problem).filter(|_| problem.options.splits > 1) {
        reasons.push(format!(
            "{rows} queries of the heads that share a key head are too many for keys to be divided"
        ));
    }
    if let Some(blocks) = plan::flash::excessive_grid(problem) {
        reasons.push(plan::too_many_blocks("forward", blocks));
    }
    reasons
}

fn math(problem: &Problem) -> Vec<String> {
    let mut reasons = Vec::from_iter(in_parts(problem));
    let Sizes { batch, query_heads, queries, keys, .. } = problem.sizes;
    if problem.options.return_weights
        && checked_count(&[batch, query_heads, queries, keys, size_of::<f32>()]).is_none()
    {
        reasons.push(format!(
            "the attention weights {:?} are more than memory can hold",
            [batch, query_heads, queries, keys]
        ));
    }
    reasons
}
