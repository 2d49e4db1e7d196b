//! `sdpa run`.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Instant;

use flash_attention::case::{self, Case, Check};
use flash_attention::{Forward, Gradients, Tensor, sdpa};

use crate::arguments::Run;
use crate::destination::Destination;
use crate::output::{Words, table};
use crate::problem::{Loaded, load, summary};
use crate::{Failure, progress, words};

/// Computes, writes, checks.
pub fn run(arguments: &Run) -> Result<ExitCode, Failure> {
    let destination = arguments.output.as_deref().map(Destination::new).transpose()?;
    let Loaded { case, device } = load(&arguments.input)?;
    let file = arguments.input.file.display();
    if arguments.backward && case.dout.is_none() {
        return Err(format!("{file}: it has no tensor dout, which --backward needs"));
    }
    if arguments.check && case.expected.is_empty() {
        return Err(format!("{file}: it has no expected tensor, which --check needs"));
    }

    let start = Instant::now();
    let Computed { forward, gradients, weights } = compute(&case, arguments)?;
    let seconds = start.elapsed().as_secs_f64();
    // The words make way for bytes.
    let words_to =
        if destination.as_ref().is_some_and(Destination::is_stdout) { Words::Stderr } else { Words::Stdout };
    words_to.say(&summary(&arguments.input, &case));
    words_to.say(&format!("device {device}, backend {}, {seconds:.2} s", forward.backend()));

    let mut tensors = vec![("out", forward.output()), ("lse", forward.lse())];
    if let Some(gradients) = &gradients {
        tensors.extend([("dq", &gradients.dq), ("dk", &gradients.dk), ("dv", &gradients.dv)]);
        tensors.extend(gradients.dbias.as_ref().map(|dbias| ("dbias", dbias)));
        tensors.extend(gradients.dsinks.as_ref().map(|dsinks| ("dsinks", dsinks)));
    }
    tensors.extend(weights.as_ref().map(|weights| ("weights", weights)));
    if let Some(destination) = &destination {
        let bytes = case::encode(&tensors, metadata(&case)).map_err(words)?;
        destination.write(&bytes)?;
        words_to.say(&format!("wrote {} to {}", names(&tensors), destination.name()));
    }
    if !arguments.check {
        return Ok(ExitCode::SUCCESS);
    }
    let checks = case.check(forward.output(), forward.lse(), gradients.as_ref()).map_err(words)?;
    if checks.is_empty() {
        return Err(format!(
            "{file}: what it expects, {}, is not computed without --backward",
            expected(&case)
        ));
    }
    Ok(report(&checks, words_to))
}

fn expected(case: &Case) -> String {
    case.expected.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn names(tensors: &[(&str, &Tensor)]) -> String {
    tensors.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// All that was asked for.
struct Computed {
    forward: Forward,
    gradients: Option<Gradients>,
    weights: Option<Tensor>,
}

fn compute(case: &Case, arguments: &Run) -> Result<Computed, Failure> {
    let (progress, bar) = progress::bar();
    let mut options = case.options.clone();
    options.progress = Some(progress);
    options.return_weights = arguments.weights;
    let work = || {
        let call = sdpa(&case.q, &case.k, &case.v).options(options);
        let forward = call.clone().forward()?;
        let dout = case.dout.as_ref().filter(|_| arguments.backward);
        let gradients = dout.map(|dout| forward.backward_with(dout, case.dlse.as_ref())).transpose()?;
        // Forward keeps what backward needs, and that are not the weights.
        let weights = if arguments.weights { call.run()?.weights } else { None };
        forward.output().device().synchronize()?;
        Ok(Computed { forward, gradients, weights })
    };
    let result = work().map_err(words);
    bar.finish_and_clear();
    result
}

/// What the output file says about itself.
fn metadata(case: &Case) -> HashMap<String, String> {
    [("dtype", case.q.dtype().name()), ("producer", concat!("sdpa ", env!("CARGO_PKG_VERSION")))]
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .into()
}

/// Prints the checks as a table; the code is 1 where one is off.
fn report(checks: &[Check], words_to: Words) -> ExitCode {
    let mut rows = table(&["tensor", "largest error", "allowed", "check"], 1..3);
    for Check { name, error, bound, good, .. } in checks {
        let verdict = if *good { "good" } else { "FAILED" };
        rows.add_row([name.clone(), format!("{error:.3e}"), format!("{bound:.3e}"), verdict.into()]);
    }
    words_to.say(&rows.to_string());
    let failed: Vec<&str> = checks.iter().filter(|c| !c.good).map(|c| c.name.as_str()).collect();
    if failed.is_empty() {
        words_to.say(&format!("all {} good", checks.len()));
        return ExitCode::SUCCESS;
    }
    words_to.say(&format!("{} of {} FAILED: {}", failed.len(), checks.len(), failed.join(", ")));
    ExitCode::from(1)
}
