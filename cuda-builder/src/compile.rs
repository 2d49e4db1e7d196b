//! Runs cargo on the device crate and takes the one PTX text it makes.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::at;
use crate::{CudaBuilderError, Toolchain};

const TARGET: &str = "nvptx64-nvidia-cuda";

/// What to run.
pub(crate) struct Compilation<'a> {
    pub toolchain: &'a Toolchain,
    pub krate: &'a Path,
    pub package: &'a Package,
    pub target_dir: &'a Path,
    pub release: bool,
    pub line_info: bool,
    /// For the device crate and everything below it.
    pub rustflags: &'a [String],
    pub build_args: &'a [String],
}

/// What came of it.
pub(crate) struct Compiled {
    pub ptx: String,
    /// Every file of the project that the PTX depends on, sorted.
    pub sources: Vec<PathBuf>,
}

/// The device crate as cargo sees it.
pub(crate) struct Package {
    pub name: String,
    /// The library's name, which the PTX file carries.
    pub library: String,
    /// Where its workspace builds.
    pub target_dir: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// A line of cargo's `--message-format=json`.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    package_id: String,
    manifest_path: Option<PathBuf>,
    message: Option<Diagnostic>,
}

#[derive(Deserialize)]
struct Diagnostic {
    level: String,
    message: String,
    rendered: Option<String>,
    #[serde(default)]
    spans: Vec<Span>,
}

#[derive(Deserialize)]
struct Span {
    file_name: String,
    line_start: usize,
    is_primary: bool,
}

impl Diagnostic {
    /// One line: message and place.
    fn summary(&self) -> String {
        match self.spans.iter().find(|span| span.is_primary) {
            Some(span) => {
                format!("{}: {} ({}:{})", self.level, self.message, span.file_name, span.line_start)
            }
            None => format!("{}: {}", self.level, self.message),
        }
    }
}

/// Asks cargo about the crate.
pub(crate) fn package(toolchain: &Toolchain, krate: &Path) -> Result<Package, CudaBuilderError> {
    let manifest = krate.join("Cargo.toml");
    let failed = |message: String| CudaBuilderError::Metadata { path: krate.to_path_buf(), message };
    let mut command = cargo(toolchain);
    command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(&manifest);
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
    let manifest = manifest.canonicalize().map_err(at("cannot read", &manifest))?;
    let is_ours = |p: &&MetadataPackage| p.manifest_path.canonicalize().is_ok_and(|path| path == manifest);
    let package = metadata
        .packages
        .iter()
        .find(is_ours)
        .ok_or_else(|| failed("the manifest has no [package]".into()))?;
    let is_library =
        |t: &&Target| t.kind.iter().any(|kind| matches!(kind.as_str(), "lib" | "rlib" | "cdylib" | "dylib"));
    let library =
        package.targets.iter().find(is_library).ok_or_else(|| failed("the package has no library".into()))?;
    Ok(Package {
        name: package.name.clone(),
        library: library.name.replace('-', "_"),
        target_dir: metadata.target_directory,
    })
}

impl Compilation<'_> {
    /// Runs it. The compiler's messages go to stderr as they come.
    pub(crate) fn run(&self) -> Result<Compiled, CudaBuilderError> {
        let folder = self.target_dir.join("assembly");
        std::fs::create_dir_all(&folder).map_err(at("cannot make the folder", &folder))?;
        let mut child = self.command().spawn().map_err(at("cannot run", &self.toolchain.cargo))?;
        let mut manifests = BTreeSet::new();
        let mut errors = Vec::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(at("cannot read the messages of", &self.toolchain.cargo))?;
            let Ok(message) = serde_json::from_str::<Message>(&line) else { continue };
            if let Some(diagnostic) = &message.message {
                // Of our own flag, which is not news to the reader.
                if diagnostic.message.starts_with("unstable feature specified for `-Ctarget-feature`") {
                    continue;
                }
                eprint!("{}", diagnostic.rendered.as_deref().unwrap_or(&diagnostic.message));
                match diagnostic.level.as_str() {
                    "error" if !diagnostic.spans.is_empty() => errors.push(diagnostic.summary()),
                    // A build script's stderr is shown when it fails; this line is shown when it does not.
                    "warning" if in_build_script() && !diagnostic.spans.is_empty() => {
                        println!("cargo:warning=device code: {}", diagnostic.summary());
                    }
                    _ => {}
                }
            }
            if message.reason == "compiler-artifact" && message.package_id.starts_with("path+") {
                manifests.extend(message.manifest_path.filter(|path| !self.toolchain.owns(path)));
            }
        }
        let status = child.wait().map_err(at("cannot run", &self.toolchain.cargo))?;
        if !status.success() {
            let summary = errors.iter().map(|error| format!("  {error}\n")).collect();
            return Err(CudaBuilderError::BuildFailed { name: self.package.name.clone(), summary });
        }
        let assembly = self.assembly();
        let ptx = std::fs::read_to_string(&assembly)
            .map_err(at("cannot read the compiled device code (cargo clean makes it anew)", &assembly))?;
        let folder = self.target_dir.join(TARGET).join(if self.release { "release" } else { "debug" });
        let dep_info = folder.join(format!("lib{}.d", self.package.library));
        let mut sources: BTreeSet<_> =
            dependencies(&dep_info)?.into_iter().filter(|path| !self.toolchain.owns(path)).collect();
        sources.extend(manifests);
        Ok(Compiled { ptx, sources: sources.into_iter().collect() })
    }

    /// Where the PTX goes. A place for each set of options: where cargo finds nothing to do, the file is of the same options.
    fn assembly(&self) -> PathBuf {
        let mut options = DefaultHasher::new();
        (self.rustflags, self.build_args, self.release, self.line_info, &self.toolchain.version)
            .hash(&mut options);
        let name = format!("{}-{:016x}.s", self.package.library, options.finish());
        self.target_dir.join("assembly").join(name)
    }

    fn command(&self) -> Command {
        let profile = if self.release { "RELEASE" } else { "DEV" };
        let mut command = cargo(self.toolchain);
        // Where a path dependency of the workspace has a .cargo/config.toml, the device crate's folder decides.
        command.current_dir(self.krate);
        command.args(["rustc", "--lib", "--crate-type", "staticlib", "--target", TARGET, "-Zbuild-std=core"]);
        command.args(["--message-format", if colour() { "json-diagnostic-rendered-ansi" } else { "json" }]);
        command.arg("--target-dir").arg(self.target_dir);
        if self.release {
            command.arg("--release");
        }
        command.args(self.build_args);
        // Link-time optimisation puts everything into one text, and that is all of linking: a static library needs no linker (a
        // stock toolchain has none for this target), and its file is what cargo looks at to see that nothing is to be done.
        command.arg("--").arg(format!("--emit=asm={}", self.assembly().display()));
        if self.line_info {
            command.arg("-Cdebuginfo=line-tables-only");
        }
        for (key, value) in [
            ("LTO", "fat"),
            ("CODEGEN_UNITS", "1"),
            ("PANIC", "abort"),
            ("DEBUG", "0"),
            ("DEBUG", "0"),
            ("STRIP", "none"),
            ("INCREMENTAL", "false"),
        ] {
            command.env(format!("CARGO_PROFILE_{profile}_{key}"), value);
        }
        if self.release {
            command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3");
        }
        command.env("CARGO_ENCODED_RUSTFLAGS", self.rustflags.join("\u{1f}"));
        command.stdout(Stdio::piped()).stdin(Stdio::null());
        command
    }
}

/// Cargo with the outer build's environment taken away: its flags, wrappers and profile are meant for the host.
fn cargo(toolchain: &Toolchain) -> Command {
    let mut command = Command::new(&toolchain.cargo);
    for (key, _) in env::vars_os() {
        if is_of_outer_build(&key) {
            command.env_remove(&key);
        }
    }
    command.env("RUSTC", &toolchain.rustc).env("RUSTC_BOOTSTRAP", "1");
    // Empty overrides wrappers from configuration files as well.
    command.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
    command
}

fn is_of_outer_build(key: &OsString) -> bool {
    let Some(key) = key.to_str() else { return false };
    let kept = ["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_BUILD_JOBS", "CARGO_LOG"];
    let kept_families =
        ["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTRY_", "CARGO_REGISTRIES_", "CARGO_TERM_", "CARGO_SOURCE_"];
    let outer = [
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC",
        "RUSTDOC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "OUT_DIR",
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "NUM_JOBS",
    ];
    outer.contains(&key)
        || (key.starts_with("CARGO_")
            && !kept.contains(&key)
            && !kept_families.iter().any(|family| key.starts_with(family)))
}

/// Whether this program is a build script, whose stdout cargo reads.
pub(crate) fn in_build_script() -> bool {
    env::var_os("OUT_DIR").is_some()
        && env::var_os("CARGO_MANIFEST_DIR").is_some()
        && env::var_os("TARGET").is_some()
}

fn colour() -> bool {
    match env::var("CARGO_TERM_COLOR").as_deref() {
        Ok("always") => true,
        Ok("never") => false,
        _ => std::io::stderr().is_terminal(),
    }
}

/// The files that a dep-info file lists: `output: a.rs b\ c.rs`.
fn dependencies(dep_info: &Path) -> Result<Vec<PathBuf>, CudaBuilderError> {
    let text =
        std::fs::read_to_string(dep_info).map_err(at("cannot read the list of device sources", dep_info))?;
    Ok(parse_dep_info(&text))
}

fn parse_dep_info(text: &str) -> Vec<PathBuf> {
    let Some((_, list)) = text.lines().next().and_then(|line| line.split_once(": ")) else {
        return Vec::new();
    };
    // A space within a name is escaped.
    list.replace("\\ ", "\0").split_whitespace().map(|name| PathBuf::from(name.replace('\0', " "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dep_info_lists_files_with_spaces_too() {
        let found = parse_dep_info("/t/x.ptx: /a/src/lib.rs /b\\ c/src/lib.rs\n");
        assert_eq!(found, [PathBuf::from("/a/src/lib.rs"), PathBuf::from("/b c/src/lib.rs")]);
    }

    #[test]
    fn the_outer_builds_flags_go_and_the_users_network_settings_stay() {
        for gone in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_MANIFEST_DIR",
            "CARGO_FEATURE_CUDA",
            "RUSTC_WRAPPER",
            "CARGO_BUILD_TARGET",
            "CARGO_TARGET_DIR",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_CFG_UNIX",
        ] {
            assert!(is_of_outer_build(&gone.into()), "{gone}");
        }
        for kept in [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "RUSTUP_HOME",
            "RUSTUP_TOOLCHAIN",
            "PATH",
            "CARGO_HTTP_PROXY",
            "CARGO_REGISTRIES_MIRROR_INDEX",
            "CARGO_MAKEFLAGS",
        ] {
            assert!(!is_of_outer_build(&kept.into()), "{kept}");
        }
    }
}
