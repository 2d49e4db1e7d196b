//! What can go wrong, in words that say what to do.

use std::io;
use std::path::PathBuf;

use crate::ptx::lint::Mismatch;

/// Why there is no PTX.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaBuilderError {
    /// The path given to [`CudaBuilder::new`](crate::CudaBuilder::new) leads nowhere.
    #[error("there is no device crate at `{}`: CudaBuilder::new takes the folder that holds its Cargo.toml", .0.display())]
    CratePathDoesntExist(PathBuf),

    /// No compiler answers.
    #[error(
        "the device code needs a Rust compiler, and `{rustc}` does not run ({reason}): run ./setup, or install Rust {minimum} \
         from https://rustup.rs"
    )]
    NoCompiler {
        /// What was run.
        rustc: String,
        /// What came of it.
        reason: String,
        /// The version that is enough.
        minimum: &'static str,
    },

    /// The compiler is too old.
    #[error(
        "the device code needs Rust {minimum} or newer, and `{rustc}` is {found}: run ./setup, or `rustup toolchain install \
         {minimum} --component rust-src`"
    )]
    CompilerTooOld {
        /// What was run.
        rustc: String,
        /// Its version.
        found: String,
        /// The version that is enough.
        minimum: &'static str,
    },

    /// The compiler is there, the source of `core` is not.
    #[error(
        "the device code is compiled together with Rust's `core` library, and the source of {version} is not at `{}`: run ./setup, \
         or `rustup component add rust-src`, or on Debian `apt-get install rust-web-src`", .path.display()
    )]
    NoCoreSource {
        /// The compiler's version.
        version: String,
        /// Where its source should be.
        path: PathBuf,
    },

    /// The device crate's manifest could not be read.
    #[error("cargo cannot read the device crate at `{}`:\n{message}", .path.display())]
    Metadata {
        /// The crate.
        path: PathBuf,
        /// What cargo said.
        message: String,
    },

    /// The device crate does not compile. The compiler's own words have gone to stderr.
    #[error(
        "the device crate `{name}` does not compile for the GPU; the compiler's messages are above\n{summary}"
    )]
    BuildFailed {
        /// The crate.
        name: String,
        /// The first line of each error.
        summary: String,
    },

    /// The compiler wrote something that is not understood.
    #[error("the compiler's PTX of `{name}` is not as expected: {message}")]
    Ptx {
        /// The crate.
        name: String,
        /// What is wrong, with a line number.
        message: String,
    },

    /// A kernel has other collective operations than its source says.
    #[error(
        "the compiled kernels do not have the collective operations that their sources state, so the compiler copied or dropped \
         some, or the source counts wrongly:\n{}", .0.iter().map(|m| format!("  {m}\n")).collect::<String>()
    )]
    Collectives(Vec<Mismatch>),

    /// Reading or writing a file failed.
    #[error("{action} `{}`: {source}", .path.display())]
    Io {
        /// What was tried: "cannot write".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Names an I/O error's action and file.
pub(crate) fn at(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> CudaBuilderError {
    let path = path.into();
    move |source| CudaBuilderError::Io { action, path, source }
}
