//! `sdpa`: attention on tensors in safetensors files.
//!
//! Exit codes: 0 good, 1 a check failed, 2 bad input or usage, with one sentence on stderr.

mod arguments;
mod destination;
mod devices;
mod explain;
mod output;
mod plot;
mod problem;
mod progress;
mod run;
mod stats;
mod sweep;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use arguments::{Arguments, Command};

/// Why there is no result, in one sentence.
type Failure = String;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let result = match arguments.command {
        Command::Run(run) => run::run(&run),
        Command::Explain(explain) => explain::explain(&explain),
        Command::Sweep(sweep) => sweep::sweep(&sweep),
        Command::Stats(stats) => stats::stats(&stats),
        Command::Devices => devices::devices(),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            output::complain(&failure);
            ExitCode::from(2)
        }
    }
}

/// What the library says.
fn words(error: flash_attention::Error) -> Failure {
    error.to_string()
}

/// Help as clap prints it; of a wrong usage the one sentence that says what is wrong.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Nothing can be done where not even that can be printed.
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { 2 } else { 0 })
        }
        _ => {
            let text = error.to_string();
            let paragraph: Vec<&str> =
                text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
            output::complain(paragraph.join(" ").trim_start_matches("error: "));
            ExitCode::from(2)
        }
    }
}
