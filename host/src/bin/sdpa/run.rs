//! `sdpa run`.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Instant;

use flash_attention::case::{self, Case, Check};
use flash_attention::{Device, EmulatorOptions, Forward, Gradients, sdpa};

use crate::Failure;
use crate::arguments::Run;
use crate::output::{say, table, write_file};
use crate::progress;

/// Computes, writes, checks.
pub fn run(arguments: &Run) -> Result<ExitCode, Failure> {
    let (device, note) = device(arguments)?;
    let mut case = Case::read(&arguments.input, &device).map_err(words)?;
    let file = arguments.input.display();
    if arguments.backward && case.dout.is_none() {
        return Err(format!("{file}: it has no tensor dout, which --backward needs"));
    }
    if arguments.check && case.expected.is_empty() {
        return Err(format!("{file}: it has no expected tensor, which --check needs"));
    }
    let options = &mut case.options;
    options.backends = vec![arguments.backend];
    options.scale = arguments.scale.or(options.scale);
    options.causal = arguments.causal.unwrap_or(options.causal);

    let start = Instant::now();
    let (forward, gradients) = compute(&case, arguments.backward)?;
    let seconds = start.elapsed().as_secs_f64();
    let shapes = format!("q {:?}, k {:?}, v {:?}", case.q.shape(), case.k.shape(), case.v.shape());
    say(&format!("{file}: {}, {shapes}", case.q.dtype()));
    say(&format!("device {device}{note}, backend {}, {seconds:.2} s", forward.backend()));

    let mut tensors = vec![("out", forward.output()), ("lse", forward.lse())];
    if let Some(gradients) = &gradients {
        tensors.extend([("dq", &gradients.dq), ("dk", &gradients.dk), ("dv", &gradients.dv)]);
        tensors.extend(gradients.dbias.as_ref().map(|dbias| ("dbias", dbias)));
        tensors.extend(gradients.dsinks.as_ref().map(|dsinks| ("dsinks", dsinks)));
    }
    if let Some(path) = &arguments.output {
        let bytes = case::encode(&tensors, metadata(&case)).map_err(words)?;
        write_file(path, &bytes)?;
        say(&format!("wrote {} to {}", names(&tensors), path.display()));
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
    Ok(report(&checks))
}

fn words(error: flash_attention::Error) -> Failure {
    error.to_string()
}

fn expected(case: &Case) -> String {
    case.expected.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn names(tensors: &[(&str, &flash_attention::Tensor)]) -> String {
    tensors.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// The device, and for `auto` why it is not a GPU.
fn device(arguments: &Run) -> Result<(Device, String), Failure> {
    let emulator = || {
        let options = EmulatorOptions::default();
        Device::emulator_with(arguments.threads.map_or(options, |threads| options.threads(threads)))
    };
    match arguments.device.as_str() {
        "emulator" => Ok((emulator(), String::new())),
        "auto" => Ok(match Device::cuda(0) {
            Ok(cuda) => (cuda, " (auto)".into()),
            Err(reason) => (emulator(), format!(" (auto: {reason})")),
        }),
        name => Ok((Device::parse(name).map_err(words)?, String::new())),
    }
}

fn compute(case: &Case, backward: bool) -> Result<(Forward, Option<Gradients>), Failure> {
    let (progress, bar) = progress::bar();
    let mut options = case.options.clone();
    options.progress = Some(progress);
    let work = || {
        let forward = sdpa(&case.q, &case.k, &case.v).options(options).forward()?;
        let dout = case.dout.as_ref().filter(|_| backward);
        let gradients = dout.map(|dout| forward.backward_with(dout, case.dlse.as_ref())).transpose()?;
        forward.output().device().synchronize()?;
        Ok((forward, gradients))
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
fn report(checks: &[Check]) -> ExitCode {
    let mut rows = table(&["tensor", "largest error", "allowed", "check"], 1..3);
    for Check { name, error, bound, good, .. } in checks {
        let verdict = if *good { "good" } else { "FAILED" };
        rows.add_row([name.clone(), format!("{error:.3e}"), format!("{bound:.3e}"), verdict.into()]);
    }
    say(&rows.to_string());
    let failed: Vec<&str> = checks.iter().filter(|c| !c.good).map(|c| c.name.as_str()).collect();
    if failed.is_empty() {
        say(&format!("all {} good", checks.len()));
        return ExitCode::SUCCESS;
    }
    say(&format!("{} of {} FAILED: {}", failed.len(), checks.len(), failed.join(", ")));
    ExitCode::from(1)
}
