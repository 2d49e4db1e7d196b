//! Finds a compiler that can build device code: new enough, and with the source of `core` beside it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::CudaBuilderError;

/// The oldest compiler that will do.
pub const MINIMUM_VERSION: &str = "1.96.0";

/// A compiler that can build device code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// The program that is run as rustc.
    pub rustc: PathBuf,
    /// The program that is run as cargo.
    pub cargo: PathBuf,
    /// What `rustc --version` says.
    pub version: String,
    /// Where its libraries are.
    pub sysroot: PathBuf,
}

impl Toolchain {
    /// The compiler of the build that is going on (`RUSTC` and `CARGO`), otherwise the one on the path.
    pub fn find() -> Result<Self, CudaBuilderError> {
        Self::from_programs(program("RUSTC", "rustc"), program("CARGO", "cargo"))
    }

    /// A compiler of one's own choice.
    pub fn from_programs(
        rustc: impl Into<PathBuf>,
        cargo: impl Into<PathBuf>,
    ) -> Result<Self, CudaBuilderError> {
        let (rustc, cargo) = (rustc.into(), cargo.into());
        let version = ask(&rustc, &["--version"])?;
        let found = release(&version);
        if found < release(&format!("rustc {MINIMUM_VERSION}")) {
            return Err(CudaBuilderError::CompilerTooOld {
                rustc: rustc.display().to_string(),
                found: version,
                minimum: MINIMUM_VERSION,
            });
        }
        let sysroot = PathBuf::from(ask(&rustc, &["--print", "sysroot"])?);
        let core = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
        if !core.is_file() {
            return Err(CudaBuilderError::NoCoreSource { version, path: core });
        }
        // The programs themselves rather than rustup's proxies of them, which would choose anew in the device crate's folder.
        let own = |program: &str, given: PathBuf| {
            let own = sysroot.join("bin").join(program);
            if own.is_file() { own } else { given }
        };
        Ok(Self { rustc: own("rustc", rustc), cargo: own("cargo", cargo), version, sysroot })
    }

    /// Whether a file belongs to the compiler rather than to the project.
    pub(crate) fn owns(&self, file: &Path) -> bool {
        file.starts_with(&self.sysroot)
            || file.starts_with("/usr/lib/rustlib")
            || file.starts_with("/usr/src/rustc")
    }
}

fn program(variable: &str, default: &str) -> OsString {
    env::var_os(variable).filter(|value| !value.is_empty()).unwrap_or_else(|| default.into())
}

fn ask(rustc: &Path, arguments: &[&str]) -> Result<String, CudaBuilderError> {
    let failed = |reason: String| CudaBuilderError::NoCompiler {
        rustc: rustc.display().to_string(),
        reason,
        minimum: MINIMUM_VERSION,
    };
    let output = Command::new(rustc).args(arguments).output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(said.lines().next().unwrap_or("it failed without a word").to_string()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// Major and minor version in what `rustc --version` says; (0, 0) where it says something else.
fn release(version: &str) -> (u32, u32) {
    let numbers = version.split_whitespace().nth(1).unwrap_or_default();
    let mut parts = numbers.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(release("rustc 1.96.0 (ac68faa20 2026-05-25)"), (1, 96));
        assert!(release("rustc 1.100.0-nightly (x)") > release("rustc 1.96.0"));
        assert!(release("rustc 1.9.0") < release("rustc 1.96.0"));
        assert_eq!(release("rubbish"), (0, 0));
    }
}
