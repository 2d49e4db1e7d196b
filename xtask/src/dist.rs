//! A package of programs for a machine that has a driver and no Rust: tests, commands, benchmark, shared library.

use crate::command;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Crates whose tests are packed.
const TESTED: [&str; 3] = ["flash-attention", "flash-attention-conformance", "flash-attention-c"];

/// What is built beside them.
const BUILT: [&str; 5] = [
    "flash-attention",
    "flash-attention-benches",
    "flash-attention-conformance",
    "ptx-emulator",
    "flash-attention-c",
];

/// The programs that are packed.
const PROGRAMS: [&str; 4] = ["sdpa", "bench", "stress", "ptx-emulator"];

/// The shared library, as cargo names it.
const LIBRARY: &str = "libflash_attention_c.so";

/// Files of the repository, and the folder of the package that they go to.
const FILES: [(&str, &str); 3] = [
    ("capi/include", "include"),
    ("benches/torch_compare", "benches/torch_compare"),
    ("examples", "examples"),
];

/// Where the golden cases are, as the tests take it: named by the environment, else beside the workspace.
fn golden() -> PathBuf {
    std::env::var_os("FLASH_ATTENTION_GOLDEN")
        .map_or_else(|| command::root().join("../shared/golden"), PathBuf::from)
}

/// A part of the names of some quick tests, of most programs.
const FEW_TESTS: &str = "error";

/// `stress` where kernels run on the emulator, in seconds.
const FEW_REPEATS: [&str; 10] =
    ["--device", "emulator", "--batch", "1", "--heads", "1", "--repeats", "1", "--lengths", "3x200"];

const RUN_TESTS: &str = include_str!("dist/run-tests.sh");
const README: &str = include_str!("dist/README.txt");

/// Why a test program cannot run elsewhere, if it cannot: it starts something that is at a place of this machine.
fn left_out(name: &str) -> Option<&'static str> {
    match name {
        "flash-attention-c-programs" => Some("it compiles a C program against the source"),
        "flash-attention-conformance-stress" => Some("it starts `stress` where cargo built it"),
        name if name.starts_with("flash-attention-command") => {
            Some("it starts the command where cargo built it")
        }
        _ => None,
    }
}

/// Something that cargo built.
struct Artifact {
    /// The package's and the target's name, as one: `flash-attention-conformance-golden`.
    name: String,
    package: String,
    target: String,
    test: bool,
    files: Vec<PathBuf>,
    executable: Option<PathBuf>,
}

impl Artifact {
    /// Whether it is a test program of a package whose tests are packed.
    fn is_packed_test(&self) -> bool {
        self.test && TESTED.contains(&self.package.as_str())
    }
}

/// Builds what `cargo test` does, so that nothing is compiled twice: tests and the programs and libraries that they use. Gives what is of
/// these packages.
fn build(packages: &[&str]) -> Result<Vec<Artifact>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(command::root());
    cargo.args(["test", "--no-run", "--workspace", "--release"]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    eprintln!("xtask: cargo test --no-run");
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo test --no-run ended with {}", output.status);
    }
    let text = String::from_utf8(output.stdout).context("cargo's messages are not UTF-8")?;
    let messages = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    Ok(messages.filter_map(|message: Value| artifact(&message, packages)).collect())
}

/// What a message of cargo says was built, if it is one of these packages'.
fn artifact(message: &Value, packages: &[&str]) -> Option<Artifact> {
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    let manifest = Path::new(message["manifest_path"].as_str()?);
    let manifest = fs::read_to_string(manifest).ok()?;
    let named = |package: &&&str| manifest.lines().any(|line| line == format!("name = \"{package}\""));
    let package = packages.iter().find(named)?;
    let target = message["target"]["name"].as_str()?.to_string();
    // Unit tests of a library have its name.
    let part = if target.replace('_', "-") == **package { "unit" } else { &target };
    let path = |value: &Value| value.as_str().map(PathBuf::from);
    Some(Artifact {
        name: format!("{package}-{part}"),
        package: package.to_string(),
        test: message["profile"]["test"] == true,
        files: message["filenames"].as_array()?.iter().filter_map(path).collect(),
        executable: path(&message["executable"]),
        target,
    })
}

/// Copies a file without what only a debugger reads, where `strip` is installed; it may be executed.
fn copy_program(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    match Command::new("strip").arg("--strip-debug").arg(to).status() {
        Ok(status) if !status.success() => bail!("strip of {} ended with {status}", to.display()),
        // Without it the package is larger, and the same.
        _ => Ok(()),
    }
}

/// Copies the files of a folder, but what running left there.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// Fills the package's folder; gives the number of test programs.
fn fill(folder: &Path) -> Result<usize> {
    for sub in ["bin", "tests", "lib", "benches"] {
        fs::create_dir_all(folder.join(sub))?;
    }
    let built = build(&BUILT)?;
    for program in PROGRAMS {
        let found = built.iter().find(|a| !a.test && a.target == program && a.executable.is_some());
        let from = found.and_then(|a| a.executable.as_ref());
        copy_program(
            from.with_context(|| format!("cargo built no {program}"))?,
            &folder.join("bin").join(program),
        )?;
    }
    let mut files = built.iter().flat_map(|artifact| &artifact.files);
    let library = files.find(|path| path.file_name().is_some_and(|name| name == LIBRARY));
    copy_program(
        library.with_context(|| format!("cargo built no {LIBRARY}"))?,
        &folder.join("lib").join(LIBRARY),
    )?;

    let mut tests = 0;
    for Artifact { name, executable, .. } in built.into_iter().filter(Artifact::is_packed_test) {
        let Some(executable) = executable else { continue };
        match left_out(&name) {
            Some(reason) => println!("dist: {name} is left out: {reason}"),
            None => {
                copy_program(&executable, &folder.join("tests").join(name))?;
                tests += 1;
            }
        }
    }
    let root = command::root();
    for (from, to) in FILES {
        copy_folder(&root.join(from), &folder.join(to))?;
    }
    let golden = golden();
    if golden.is_dir() {
        copy_folder(&golden, &folder.join("golden"))?;
    } else {
        println!("dist: golden cases are left out: there is no {}", golden.display());
    }
    write_script(&folder.join("run-tests.sh"), RUN_TESTS)?;
    let script = fs::read_to_string(root.join("benches/compare_torch.py"))?;
    write_script(&folder.join("benches/compare_torch.py"), &script)?;
    for license in ["LICENSE-APACHE", "LICENSE-MIT"] {
        fs::copy(root.join(license), folder.join(license))?;
    }
    fs::write(folder.join("README.txt"), README)?;
    Ok(tests)
}

/// Builds the package, `target/dist/flash-attention-VERSION.tar.gz`; gives its path.
pub fn pack() -> Result<PathBuf> {
    let name = format!("flash-attention-{}", env!("CARGO_PKG_VERSION"));
    let place = command::root().join("target/dist");
    let folder = place.join(&name);
    if folder.exists() {
        // What an earlier version packed must not stay.
        fs::remove_dir_all(&folder)?;
    }
    let tests = fill(&folder)?;
    let package = place.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.arg("czf").arg(&package).args(["--owner=0", "--group=0", "-C"]).arg(&place).arg(&name);
    command::run(tar)?;
    let bytes = fs::metadata(&package)?.len();
    println!("dist: {} ({} test programs, {:.1} MB)", package.display(), tests, bytes as f64 / 1e6);
    Ok(package)
}

/// Packs, unpacks elsewhere, and starts every test program there, each for the tests whose names have [`FEW_TESTS`] in them, and kernels.
pub fn check() -> Result<()> {
    let package = pack()?;
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut tar = Command::new("tar");
    tar.arg("xzf").arg(&package).args(["--strip-components=1", "-C"]).arg(scratch.path());
    command::run(tar)?;
    for (program, arguments) in [("run-tests.sh", &[FEW_TESTS][..]), ("bin/stress", &FEW_REPEATS)] {
        let mut packed = Command::new(scratch.path().join(program));
        packed.current_dir(scratch.path()).args(arguments);
        // Nothing of the workspace may be needed.
        for (variable, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO"))
        {
            packed.env_remove(variable);
        }
        command::run(packed)?;
    }
    println!("dist: the package's programs run outside the workspace");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_have_the_names_of_package_and_target() {
        let manifest = command::root().join("tests/Cargo.toml");
        let message = |target: &str| {
            serde_json::json!({
                "reason": "compiler-artifact", "manifest_path": manifest, "target": { "name": target },
                "profile": { "test": true }, "filenames": ["/a/b"], "executable": "/a/b",
            })
        };
        let name = |target: &str| artifact(&message(target), &TESTED).unwrap().name;
        assert_eq!(name("golden"), "flash-attention-conformance-golden");
        assert_eq!(name("flash_attention_conformance"), "flash-attention-conformance-unit");
        assert!(artifact(&message("golden"), &["flash-attention"]).is_none());
    }

    #[test]
    fn the_programs_that_are_left_out_are_those_that_need_this_machine() {
        assert!(left_out("flash-attention-command_errors").is_some());
        assert!(left_out("flash-attention-unit").is_none() && left_out("flash-attention-c-calls").is_none());
    }
}
