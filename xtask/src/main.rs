//! Every check that CI runs, each runnable alone: `cargo xtask CHECK`.

mod command;
mod dist;
mod foreign;
mod fuzz;
mod model;
mod package;
mod ptx;
mod ptxas;
mod style;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Every check that CI runs, each runnable alone",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    check: Check,
}

#[derive(Subcommand)]
enum Check {
    /// Formatting, as rustfmt.toml says
    Fmt,
    /// Clippy on everything, warnings denied
    Clippy,
    /// Documentation of everything, warnings denied
    Docs,
    /// All tests, in release mode
    Test,
    /// What the kernels' PTX must and must not contain: collective operations as the source states them, no local memory,
    /// no calls, the launch bounds of the tile table
    Ptx,
    /// Registers, shared memory, occupancy, spills, stack and inner loops of every kernel, by NVIDIA's assembler, against
    /// xtask/ptxas.ratchet.json; a spill or local memory is an error whatever that file says. Says so where it is not installed
    Ptxas {
        /// Writes what was counted into the ratchet file; with names, of these kernels alone
        #[arg(long)]
        accept: bool,
        /// Parts of names: only these kernels, and nothing against the ratchet file
        kernels: Vec<String>,
    },
    /// What the kernels of Flash ask of a GPU, counted on the emulator, against xtask/model.ratchet.json; and that README.md and
    /// benches/results/roofline.svg say what follows from it
    Model {
        /// Writes what was counted into these files
        #[arg(long)]
        accept: bool,
    },
    /// Rules of style that a program can check: where assembly may stand, the length of files, paths in the documents
    Style,
    /// Packs the library with its PTX, and builds a crate that depends on the package as a stranger would, without the
    /// device toolchain
    Package,
    /// A minute of fuzzing what a file can do to the library; installs cargo-fuzz into the target folder where it is missing
    Fuzz,
    /// Kernels of nvcc and Triton on the emulator, against NumPy; installs the compilers (1.5 GB, with pip) into a folder. Not part of
    /// the checks
    ForeignPtx {
        /// Where the compilers are, or go: by default the target folder
        #[arg(long, value_name = "DIR")]
        env: Option<PathBuf>,
    },
    /// Packs self-contained programs (tests, commands, benchmark, shared library) for a machine without Rust, into target/dist, and
    /// starts them from there
    Dist,
    /// All checks above but the tests, which `cargo test` runs
    Checks,
    /// All checks above
    Ci,
}

fn run(check: Check) -> Result<()> {
    match check {
        Check::Fmt => command::cargo(&["fmt", "--all", "--check"]),
        Check::Clippy => {
            command::cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
            // The library without CUDA is a configuration of its own.
            command::cargo(&[
                "clippy",
                "-p",
                "flash-attention",
                "--no-default-features",
                "--",
                "-D",
                "warnings",
            ])
        }
        Check::Docs => command::cargo_with(
            &["doc", "--workspace", "--no-deps", "--document-private-items"],
            &[("RUSTDOCFLAGS", "-D warnings")],
        ),
        Check::Test => command::cargo(&["test", "--workspace", "--release"]),
        Check::Ptx => ptx::check(),
        Check::Ptxas { accept, kernels } => ptxas::check(accept, &kernels),
        Check::Model { accept } => model::check(accept),
        Check::Style => style::check(),
        Check::Package => package::check(),
        Check::Fuzz => fuzz::check(),
        Check::ForeignPtx { env } => foreign::check(env),
        Check::Dist => dist::check(),
        Check::Checks => {
            for check in [
                Check::Fmt,
                Check::Style,
                Check::Clippy,
                Check::Docs,
                Check::Ptx,
                Check::Ptxas { accept: false, kernels: vec![] },
                Check::Model { accept: false },
                Check::Package,
                Check::Dist,
                Check::Fuzz,
            ] {
                run(check)?;
            }
            Ok(())
        }
        Check::Ci => {
            run(Check::Checks)?;
            run(Check::Test)
        }
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().check) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
