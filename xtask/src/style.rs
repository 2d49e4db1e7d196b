//! Rules of style that a program can check.

use crate::command;
use anyhow::{Result, bail};
use flash_attention_abi::{ENTRY_POINTS, FLASH_ENTRY_POINTS};
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

/// Every path that a document names in backticks or links to exists, from the root or from the document's folder; and where a
/// link has a title, it is the name of a function in that file.
fn paths(path: &Path, text: &str, failures: &mut Vec<String>) -> Result<()> {
    let root = command::root();
    let named = Regex::new(concat!(
        r"`(\.?[A-Za-z0-9_\-]+(?:/[A-Za-z0-9_.\-]+)+/?)`",
        r#"|\]\(([^)#:\s]+)(?:\#[^)\s]*)?(?:\s+"([^"]*)")?\)"#
    ))?;
    let here = root.join(path.parent().unwrap_or(Path::new("")));
    for (index, line) in text.lines().enumerate() {
        let mut fails = |what| failures.push(format!("{}:{}: {what}", path.display(), index + 1));
        for found in named.captures_iter(line) {
            let Some(name) = found.get(1).or_else(|| found.get(2)).map(|name| name.as_str()) else {
                continue;
            };
            let Some(file) = [root.join(name), here.join(name)].into_iter().find(|file| file.exists()) else {
                fails(format!("names `{name}`, which does not exist"));
                continue;
            };
            if let Some(function) = found.get(3).map(|title| title.as_str())
                && !std::fs::read_to_string(file)?.contains(&format!("fn {function}("))
            {
                fails(format!("names `{function}`, which is not in {name}"));
            }
        }
    }
    Ok(())
}

/// Where the README says how many kernels there are, it is as many.
fn kernels(path: &Path, text: &str, failures: &mut Vec<String>) -> Result<()> {
    if path != Path::new("README.md") {
        return Ok(());
    }
    let (named, count) = (Regex::new(r"(\d+) kernels")?, count());
    for found in named.captures_iter(text) {
        if found[1] != count.to_string() {
            failures.push(format!("{}: says {} kernels, and there are {count}", path.display(), &found[1]));
        }
    }
    Ok(())
}

fn count() -> usize {
    ENTRY_POINTS.len() + FLASH_ENTRY_POINTS.len()
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
            kernels(path, &text, &mut failures)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(text: &str) -> Vec<String> {
        let (path, mut failures) = (Path::new("README.md"), vec![]);
        paths(path, text, &mut failures).unwrap();
        kernels(path, text, &mut failures).unwrap();
        failures
    }

    #[test]
    fn paths_in_backticks_and_links_must_exist() {
        assert_eq!(
            failures("`abi/src/lib.rs`, [one](abi/src/entry.rs), [there](https://a.b/c), `a` / `b`"),
            [""; 0]
        );
        assert_eq!(failures("`abi/src/no.rs`"), ["README.md:1: names `abi/src/no.rs`, which does not exist"]);
        assert_eq!(failures("x\n[a](no.md#there)"), ["README.md:2: names `no.md`, which does not exist"]);
        assert_eq!(failures("[a](no.md \"b\")"), ["README.md:1: names `no.md`, which does not exist"]);
    }

    #[test]
    fn titles_of_links_are_functions_of_the_file() {
        assert_eq!(
            failures("[a](xtask/src/style.rs \"titles_of_links_are_functions_of_the_file\")"),
            [""; 0]
        );
        let missing = failures("[a](xtask/src/style.rs \"no_such_function\")");
        assert_eq!(missing, ["README.md:1: names `no_such_function`, which is not in xtask/src/style.rs"]);
    }

    #[test]
    fn the_number_of_kernels_is_that_of_the_entry_points() {
        assert_eq!(failures(&format!("All {} kernels", count())), [""; 0]);
        let wrong = format!("README.md: says 1 kernels, and there are {}", count());
        assert_eq!(failures("1 kernels"), [wrong]);
    }
}
