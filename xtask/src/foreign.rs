//! PTX of other compilers on the emulator: installs nvcc, NVRTC and Triton, compiles the kernels of `ptx-emulator/tests/foreign` and holds
//! what the emulator makes of them against NumPy; asks NVIDIA's assembler which forms of instructions there are, and holds the emulator's against them.

use crate::command;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the kernels lie, with the versions of the packages that compile them.
const SOURCES: &str = "ptx-emulator/tests/foreign";

/// Asks for all forms, compiles and runs all kernels. `environment` is a folder for the compilers, which are installed where it has none; by default it
/// lies in the target folder.
pub fn check(environment: Option<PathBuf>) -> Result<()> {
    let folder = command::target().join("foreign-ptx");
    let environment = environment.unwrap_or_else(|| folder.join("environment"));
    let cases = folder.join("cases");
    std::fs::create_dir_all(&cases).with_context(|| format!("cannot make {}", cases.display()))?;
    let python = install(&environment)?;
    for script in ["forms.py", "build.py"] {
        let mut build = Command::new(&python);
        build
            .arg(command::root().join(SOURCES).join(script))
            .arg(&cases)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("TRITON_CACHE_DIR", folder.join("triton"));
        command::run(build)?;
    }
    let cases = cases.canonicalize()?.to_string_lossy().into_owned();
    command::cargo_with(
        &["test", "--release", "-p", "ptx-emulator", "--test", "foreign", "--", "--ignored", "--nocapture"],
        &[("FOREIGN_PTX", &cases)],
    )
}

/// Makes sure that the environment has the packages; gives its Python.
fn install(environment: &Path) -> Result<PathBuf> {
    let bin = if cfg!(windows) { "Scripts" } else { "bin" };
    let python = environment.join(bin).join(format!("python{}", std::env::consts::EXE_SUFFIX));
    if !python.exists() {
        let mut make = Command::new("python3");
        make.args(["-m", "venv"]).arg(environment);
        command::run(make)?;
    }
    let mut install = Command::new(&python);
    install
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(command::root().join(SOURCES).join("requirements.txt"));
    command::run(install)?;
    Ok(python)
}
