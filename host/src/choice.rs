//! Which backends can run a problem, and in words why the others cannot.

use std::fmt;

use flash_attention_abi::tile::MAX_HEAD_DIM;

use crate::device::Kind;
use crate::error::{Error, Result};
use crate::options::Backend;
use crate::plan;
use crate::problem::{Problem, Sizes};
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
                Backend::Flash => vec!["the Flash kernels are not in this version".into()],
                Backend::Efficient => efficient(problem),
                Backend::Math => math(problem),
                Backend::Auto => vec![],
            },
        };
        Explanation { verdicts: Backend::ORDER.map(ask).into() }
    }

    /// The backend that runs when `asked` is asked for.
    ///
    /// # Errors
    /// [`Error::Refused`] with every reason, where it cannot or, for `Auto`, none can.
    pub fn choose(&self, asked: Backend) -> Result<Backend> {
        let considered = || self.verdicts.iter().filter(|v| asked == Backend::Auto || v.backend == asked);
        if let Some(verdict) = considered().find(|v| v.can()) {
            return Ok(verdict.backend);
        }
        let auto = asked == Backend::Auto;
        let verdict =
            if auto { "no backend can run this".into() } else { format!("{asked} cannot run this") };
        let reasons = considered().map(|v| match (auto, v.reasons.join("; ")) {
            (true, reasons) => format!("{}: {reasons}", v.backend),
            (false, reasons) => reasons,
        });
        Err(Error::Refused { verdict, reasons: reasons.collect::<Vec<_>>().join(". ") })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, verdict) in self.verdicts.iter().enumerate() {
            let answer = if verdict.can() { "can".into() } else { verdict.reasons.join("; ") };
            write!(f, "{}{}: {answer}", if i == 0 { "" } else { "\n" }, verdict.backend)?;
        }
        Ok(())
    }
}

fn efficient(problem: &Problem) -> Vec<String> {
    let mut reasons = vec![];
    match problem.device().accelerator() {
        None => reasons
            .push("its kernels run on CUDA devices and the emulator, and the tensors are on cpu".into()),
        Some(accelerator) => reasons.extend(accelerator.refusal()),
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
    if let Some((kernel, blocks)) = plan::excessive_grid(&problem.sizes) {
        reasons.push(format!(
            "the {kernel} kernel would need {blocks} blocks, and at most {} can be launched",
            plan::MAX_GRID
        ));
    }
    reasons
}

fn math(problem: &Problem) -> Vec<String> {
    let mut reasons = vec![];
    if problem.device().kind() != Kind::Cpu {
        reasons.push(format!(
            "it runs on the CPU only in this version, and the tensors are on {}",
            problem.device()
        ));
    }
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
