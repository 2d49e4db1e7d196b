//! Programs in other languages that load the shared library: one in C, and the self-test of the Python one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The shared library that cargo built for these tests: beside this test's own file.
fn library() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().unwrap();
    let library = folder.join(format!(
        "{}flash_attention_c{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    ));
    assert!(library.is_file(), "{} is not there", library.display());
    library
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A line that the test harness does not keep to itself.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "flash-attention-c: {line}");
}

/// Runs a program that must succeed, and gives what it prints.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out
}

/// Whether a program is there.
fn present(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        say(&format!("skipped: what needs `{program}`, which is not installed"));
    }
    found
}

#[test]
fn a_c_program_computes_what_plain_c_computes() {
    if !present("cc") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let program = scratch.path().join("attention");
    let library = library();
    run(Command::new("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1"])
        .arg(here().join("examples/attention.c"))
        .arg("-I")
        .arg(here().join("include"))
        .arg(&library)
        .args(["-lm", "-o"])
        .arg(&program));
    let folder = library.parent().unwrap();
    let printed = run(Command::new(&program).env("LD_LIBRARY_PATH", folder));
    assert!(
        printed.starts_with("without a workspace: the workspace has 0 bytes; this call needs 256"),
        "{printed}"
    );
    assert!(printed.ends_with(": good\n"), "{printed}");
}

#[test]
fn the_shared_library_shows_the_names_of_the_header_and_no_others() {
    if !present("nm") {
        return;
    }
    let header = std::fs::read_to_string(here().join("include/flash_attention.h")).unwrap();
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !(c.is_alphanumeric() || c == '_')).map(String::from).collect()
    };
    let printed = run(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(library()));
    let mut shown: Vec<&str> = printed.lines().filter_map(|line| line.split(' ').next()).collect();
    shown.sort_unstable();
    // Declarations, in the header's order of one function a statement.
    let code: String =
        header.split("/*").map(|part| part.split_once("*/").map_or(part, |(_, code)| code)).collect();
    let declared =
        code.split(';').filter(|statement| !statement.contains("static inline")).filter_map(|statement| {
            let before = statement.split_once('(')?.0;
            words(before).into_iter().next_back().filter(|name| name.starts_with("fa_"))
        });
    let mut declared: Vec<String> = declared.collect();
    declared.sort_unstable();
    assert_eq!(shown, declared);
}

#[test]
fn the_comparison_with_pytorch_passes_its_own_test() {
    if !present("python3") {
        return;
    }
    let script = here().join("../benches/compare_torch.py");
    let printed =
        run(Command::new("python3").arg(&script).arg("--self-test").arg("--library").arg(library()));
    assert!(printed.trim_end().ends_with("self-test: good"), "{printed}");
}

#[test]
fn a_pytorch_that_cannot_be_loaded_is_said_in_one_sentence() {
    if !present("python3") {
        return;
    }
    let script = here().join("../benches/compare_torch.py");
    for (raised, words) in [
        ("ImportError('x')", "PyTorch is not installed, so nothing was compared.\n"),
        (
            "OSError('libtorch_cuda.so: cannot open shared object file')",
            "PyTorch cannot be loaded (libtorch_cuda.so: cannot open shared object file), so nothing was compared.\n",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("torch.py"), format!("raise {raised}\n")).unwrap();
        assert_eq!(run(Command::new("python3").arg(&script).env("PYTHONPATH", folder.path())), words);
    }
}

#[test]
fn the_triton_kernels_beside_ours_compute_what_the_formulas_say() {
    if !present("python3") {
        return;
    }
    let folder = here().join("../benches");
    let printed = run(Command::new("python3").args(["-m", "torch_compare.triton_test"]).current_dir(folder));
    if let Some(reason) = printed.strip_prefix("skipped: ") {
        say(&format!("skipped: the Triton kernels: {}", reason.trim_end()));
        return;
    }
    assert!(printed.trim_end().ends_with(" 0 results wrong"), "{printed}");
}
