//! Rules of style that a program can check.

use crate::command;
use anyhow::{Result, bail};
use ignore::WalkBuilder;
use regex::Regex;
use std::path::{Path, PathBuf};

/// Lines that a source file may have.
const MAX_LINES: usize = 560;

/// The repository's files, without those that git ignores, as paths relative to the root.
fn files() -> Result<Vec<PathBuf>> {
    let root = command::root();
    let mut files = Vec::new();
    for entry in WalkBuilder::new(&root).hidden(false).filter_entry(|e| e.file_name() != ".git").build() {
        let entry = entry?;
        if entry.file_type().is_some_and(|kind| kind.is_file()) {
            files.push(entry.path().strip_prefix(&root)?.to_path_buf());
        }
    }
    files.sort();
    Ok(files)
}

/// The part of a line before a comment begins.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

/// Device assembly is in `cuda-std` alone.
fn assembly(path: &Path, text: &str, failures: &mut Vec<String>) {
    if path.starts_with("cuda-std") {
        return;
    }
    // In two pieces, so that a search for the macro does not find this line.
    let macro_name = concat!("asm", "!");
    for (index, line) in text.lines().enumerate() {
        if code(line).contains(macro_name) {
            failures.push(format!("{}:{}: assembly outside cuda-std", path.display(), index + 1));
        }
    }
}

fn length(path: &Path, text: &str, failures: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > MAX_LINES {
        failures.push(format!("{}: {lines} lines, at most {MAX_LINES}", path.display()));
    }
}

/// Every crate's first line says what it is.
fn crate_documentation(path: &Path, text: &str, failures: &mut Vec<String>) {
    let is_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
    if is_root && !text.starts_with("//!") {
        failures.push(format!("{}: does not begin by saying what it is", path.display()));
    }
}

/// Every path that a document names in backticks or links to exists, from the root or from the document's folder.
fn paths(path: &Path, text: &str, failures: &mut Vec<String>) -> Result<()> {
    let root = command::root();
    let named = Regex::new(r"`(\.?[A-Za-z0-9_\-]+(?:/[A-Za-z0-9_.\-]+)+/?)`|\]\(([^)#:\s]+)\)")?;
    let here = root.join(path.parent().unwrap_or(Path::new("")));
    for (index, line) in text.lines().enumerate() {
        for found in named.captures_iter(line) {
            let Some(name) = found.get(1).or_else(|| found.get(2)) else { continue };
            if !root.join(name.as_str()).exists() && !here.join(name.as_str()).exists() {
                failures.push(format!(
                    "{}:{}: names `{}`, which does not exist",
                    path.display(),
                    index + 1,
                    name.as_str()
                ));
            }
        }
    }
    Ok(())
}

/// Runs all rules; prints every failure.
pub fn check() -> Result<()> {
    let mut failures = Vec::new();
    let files = files()?;
    for path in &files {
        let extension = path.extension().and_then(|e| e.to_str());
        if !matches!(extension, Some("rs" | "md")) {
            continue;
        }
        let text = std::fs::read_to_string(command::root().join(path))?;
        if extension == Some("rs") {
            assembly(path, &text, &mut failures);
            length(path, &text, &mut failures);
            crate_documentation(path, &text, &mut failures);
        } else {
            paths(path, &text, &mut failures)?;
        }
    }
    for failure in &failures {
        eprintln!("{failure}");
    }
    if !failures.is_empty() {
        bail!("{} breaches of the style rules", failures.len());
    }
    println!("style: {} files, no breach", files.len());
    Ok(())
}
