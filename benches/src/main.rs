//! `bench`: how fast attention is, and what it costs.
//!
//! | preset | what it measures | where |
//! |---|---|---|
//! | `tutorial` | forward, batch 32, heads 32, seq 1024, d 32, every backend, in microseconds | CUDA |
//! | `sweep` | forward and backward, batch * seq = 16384, hidden 2048, TFLOP/s | CUDA |
//! | `nested` | a batch of which half would be padding, packed and padded: microseconds, or on the emulator instructions and bytes | CUDA, the emulator |
//! | `emulator` | instructions, bytes and speed of every kernel | the emulator |
//! | `model` | what the kernels of `Flash` ask of a GPU, for `cargo xtask model` | the emulator |
//! | `cpu` | `Math`, forward and backward, GFLOP/s | the CPU |
//!
//! Without a preset the device decides: `sweep` on CUDA, `emulator` on the emulator, `cpu` on the CPU. A CUDA preset on a
//! machine without a GPU says so and ends with 0.
//!
//! Exit codes: 0 good, 1 a measurement failed (no file is written then), 2 usage, with one sentence on stderr.

mod arguments;
mod environment;
mod inputs;
mod measure;
mod output;
mod peak;
mod plot;
mod presets;
mod report;
mod summary;
mod timings;
mod workload;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use arguments::{Arguments, Start};
use output::{Pending, complain, say};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    match run(arguments) {
        Ok(code) => code,
        Err(sentence) => {
            complain(&sentence);
            ExitCode::from(2)
        }
    }
}

/// Measures and writes what was asked for. An error is one of usage.
fn run(arguments: Arguments) -> Result<ExitCode, String> {
    let setup = match arguments.start()? {
        Start::Setup(setup) => setup,
        Start::NoGpu(sentence) => {
            say(&sentence);
            return Ok(ExitCode::SUCCESS);
        }
    };
    // Before anything is measured: a folder that is not there is found now, not after minutes.
    let json = setup.json.as_deref().map(Pending::new).transpose()?;
    let picture = setup.plot.as_deref().map(Pending::new).transpose()?;
    let measured = presets::run(&setup).and_then(|report| {
        say(&report.text());
        report.failure().map_or(Ok(()), Err)?;
        if let Some(json) = json {
            json.write(report.json()?.as_bytes())?;
        }
        if let Some(picture) = picture {
            picture.write(plot::svg(&report.heading(), &report.panels)?.as_bytes())?;
        }
        Ok(())
    });
    Ok(measured.map_or_else(
        |sentence| {
            complain(&sentence);
            ExitCode::from(1)
        },
        |()| ExitCode::SUCCESS,
    ))
}

/// Help as clap prints it; of a wrong usage the one sentence that says what is wrong.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Nothing can be done where not even that can be printed.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let paragraph: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    complain(paragraph.join(" ").trim_start_matches("error: "));
    ExitCode::from(2)
}
