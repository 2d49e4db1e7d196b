//! Arguments of the command, and what it does with them.

mod args;
mod files;
mod interrupt;
mod launch;
mod profile;
mod run;
mod tensors;

use clap::{Parser, Subcommand};
use ptx_emulator::LaunchError;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs PTX on the CPU.
#[derive(Parser, Debug)]
#[command(version, about)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Runs one kernel of a PTX file.
    Run(Box<run::Run>),
    /// Runs one kernel with counters: what each instruction does, and what bounds the kernel on GPUs.
    ///
    /// What is counted is one run, in the order of --seed or one warp after another. There is no --seeds: what a kernel does that does not
    /// wait for other warps is the same in every order, and whether results depend on the order is what `run --seeds` says.
    Profile(Box<profile::Profile>),
    /// Lists the kernels of a PTX file with their parameters.
    List {
        /// The PTX file.
        file: PathBuf,
    },
}

/// Does what the arguments say. 0: good; 1: the kernel failed, or gave different results in different orders; 2: bad input; 130:
/// interrupted.
pub fn run(arguments: Arguments) -> ExitCode {
    interrupt::listen();
    let result = match &arguments.command {
        Command::Run(options) => run::execute(options),
        Command::Profile(options) => profile::execute(options),
        Command::List { file } => list(file),
    };
    let (code, error) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(error) => {
            let failed = matches!(
                error.downcast_ref::<LaunchError>(),
                Some(
                    LaunchError::Fault { .. }
                        | LaunchError::Deadlock { .. }
                        | LaunchError::InstructionLimit { .. }
                )
            );
            let cancelled =
                matches!(error.downcast_ref::<LaunchError>(), Some(LaunchError::Cancelled { .. }));
            let code = match () {
                () if cancelled => interrupt::EXIT_CODE,
                () if failed || error.is::<run::Difference>() => 1,
                () => 2,
            };
            (code, error)
        }
    };
    // The chain of contexts as one sentence. Nothing can be done if stderr is gone.
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    ExitCode::from(code)
}

fn list(file: &Path) -> anyhow::Result<()> {
    let (module, _) = launch::read_module(file)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "target {}", module.target())?;
    for entry in module.entries() {
        writeln!(out, "{}", entry.name())?;
        for (index, param) in entry.params().iter().enumerate() {
            writeln!(
                out,
                "  parameter {index}: {} ({} bytes, align {})",
                param.name, param.size, param.align
            )?;
        }
        writeln!(out, "  static shared memory: {} bytes", entry.static_shared_bytes())?;
        if let Some([x, y, z]) = entry.max_threads() {
            writeln!(out, "  at most {x} x {y} x {z} threads a block")?;
        }
        if let Some([x, y, z]) = entry.required_threads() {
            writeln!(out, "  exactly {x} x {y} x {z} threads a block")?;
        }
    }
    Ok(())
}
