//! Fuzzing: a minute of files that are nearly right, and half of one of modules for the emulator.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;

/// A fuzz target.
struct Target {
    name: &'static str,
    /// How long, in seconds.
    time: u32,
    /// The longest file that is tried, in bytes.
    longest: u32,
}

const TARGETS: [Target; 2] =
    [Target { name: "case", time: 60, longest: 4096 }, Target { name: "emulator", time: 30, longest: 16384 }];

/// The program `cargo-fuzz`: the machine's, or else our own.
fn program() -> Result<PathBuf> {
    let found = Command::new("cargo-fuzz").arg("--version").output();
    if found.is_ok_and(|output| output.status.success()) {
        return Ok("cargo-fuzz".into());
    }
    let tools = command::target().join("tools");
    let program = tools.join("bin").join(format!("cargo-fuzz{}", std::env::consts::EXE_SUFFIX));
    if !program.exists() {
        let root = tools.to_string_lossy().into_owned();
        command::cargo(&["install", "cargo-fuzz", "--locked", "--root", &root])?;
    }
    Ok(program)
}

/// Runs the fuzz targets; a finding is an error, and the file that shows it is kept.
pub fn check() -> Result<()> {
    TARGETS.iter().try_for_each(run)
}

fn run(Target { name, time, longest }: &Target) -> Result<()> {
    let target = command::target();
    // The first target's folder has its old name.
    let corpus =
        target.join(if *name == "case" { "fuzz-corpus".into() } else { format!("fuzz-corpus-{name}") });
    std::fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
    let folder = command::root().join("host/fuzz");
    let mut fuzz = Command::new(program()?);
    fuzz.current_dir(&folder)
        .args(["fuzz", "run", name, "--fuzz-dir"])
        .arg(&folder)
        .arg("--target-dir")
        .arg(target.join("fuzz"))
        .arg(&corpus)
        .arg("--")
        .arg(format!("-max_total_time={time}"))
        .arg(format!("-max_len={longest}"))
        // Seconds after which an input counts as one that runs for ever.
        .arg("-timeout=30")
        // The pinned compiler is stable; the sanitizer is not.
        .env("RUSTC_BOOTSTRAP", "1");
    command::run(fuzz)?;
    println!(
        "fuzz {name}: {time} s without a finding, {} files reach something of their own",
        files(&corpus)?
    );
    Ok(())
}

fn files(folder: &Path) -> Result<usize> {
    Ok(std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?.count())
}
