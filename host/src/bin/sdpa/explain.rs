//! `sdpa explain`.

use std::process::ExitCode;

use flash_attention::{Backend, Explanation, sdpa};

use crate::arguments::Explain;
use crate::output::{say, table};
use crate::problem::{Loaded, load, summary};
use crate::{Failure, words};

/// Prints what every backend says to the problem.
pub fn explain(arguments: &Explain) -> Result<ExitCode, Failure> {
    let Loaded { case, device } = load(&arguments.input)?;
    let options = case.options.clone();
    let problem = sdpa(&case.q, &case.k, &case.v).options(options).return_weights(arguments.weights);
    let explanation = problem.explain().map_err(words)?;
    say(&summary(&arguments.input, &case));
    say(&format!("device {device}"));
    say(&rows(&explanation));
    let backends = &arguments.input.backends;
    let asked = backends.iter().map(|backend| backend.name()).collect::<Vec<_>>().join(",");
    match explanation.choose(backends) {
        Ok(Backend::Flash) => {
            let splits = problem.splits_taken().map_err(words)?;
            let note = if splits > 1 { format!(", keys in {splits} splits") } else { String::new() };
            say(&format!("--backend {asked} runs flash{note}"));
        }
        Ok(backend) => say(&format!("--backend {asked} runs {backend}")),
        Err(_) => say(&format!("--backend {asked} runs nothing")),
    }
    Ok(ExitCode::SUCCESS)
}

/// One row a backend, one line a reason.
fn rows(explanation: &Explanation) -> String {
    let mut rows = table(&["backend", "can", "or every reason why not"], 0..0);
    for verdict in &explanation.verdicts {
        let can = if verdict.can() { "yes" } else { "no" };
        rows.add_row([verdict.backend.name(), can, &verdict.reasons.join("\n")]);
    }
    rows.to_string()
}
