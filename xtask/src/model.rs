//! What bounds the kernels of `Flash` on GPUs, without one: the emulator's counters, held against what GPUs can do.

mod counts;
mod limits;

use crate::command;
use crate::ptxas::Ratchet;
use anyhow::{Context, Result, bail};
use counts::Counts;
use std::path::Path;

/// The counts that may only improve, from the root of the workspace.
const FILE: &str = "xtask/model.ratchet.json";
/// The picture.
const PICTURE: &str = "benches/results/roofline.svg";
const README: &str = "README.md";

/// Where the generated part of the README begins and ends.
const BEGIN: &str = "<!-- cargo xtask model --accept writes this part -->";
const END: &str = "<!-- the end of what cargo xtask model writes -->";

/// Counts with `bench model`.
fn count() -> Result<Counts> {
    let folder = command::scratch()?;
    let json = folder.path().join("model.json");
    let path = json.to_str().context("the target folder's path is not text")?;
    let package = ["run", "--release", "--quiet", "-p", "flash-attention-benches", "--bin", "bench", "--"];
    command::cargo(&[&package[..], &["model", "--json", path]].concat())?;
    Counts::measured(&std::fs::read_to_string(&json)?)
}

/// The README with this text between its marks.
fn with_part(readme: &str, part: &str) -> Result<String> {
    let begin =
        readme.find(BEGIN).with_context(|| format!("{README} lacks the line `{BEGIN}`"))? + BEGIN.len();
    let end = readme.find(END).with_context(|| format!("{README} lacks the line `{END}`"))?;
    if end < begin {
        bail!("{README}: `{END}` stands before `{BEGIN}`");
    }
    Ok(format!("{}\n\n{part}\n{}", &readme[..begin], &readme[end..]))
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(command::root().join(path)).with_context(|| format!("cannot read {path}"))
}

fn write(path: &str, text: &str) -> Result<()> {
    std::fs::write(command::root().join(path), text).with_context(|| format!("cannot write {path}"))
}

/// Counts, and fails where a count is worse than in the ratchet file, or the README or the picture is not what follows from that
/// file. With `accept`, all three are written anew.
pub fn check(accept: bool) -> Result<()> {
    let now = count()?;
    let sass = Ratchet::read()?;
    if accept {
        write(FILE, &now.text())?;
        write(PICTURE, &limits::picture(&now, &sass)?)?;
        write(README, &with_part(&read(README)?, &limits::part(&now, &sass))?)?;
        println!("model: {FILE}, {PICTURE} and {README} hold what was counted");
        return Ok(());
    }
    let before = if Path::new(&command::root().join(FILE)).exists() {
        Counts::parse(&read(FILE)?)
            .with_context(|| format!("{FILE} is not as `cargo xtask model --accept` writes it"))?
    } else {
        Counts::default()
    };
    let found = before.compare(&now);
    if found.better > 0 {
        println!(
            "model: {} counts are better than {FILE}; `cargo xtask model --accept` keeps them",
            found.better
        );
    }
    let mut failures = found.worse;
    let readme = read(README)?;
    if with_part(&readme, &limits::part(&before, &sass))? != readme {
        failures.push(format!("{README} does not say what {FILE} and the ratchet of ptxas do"));
    }
    if read(PICTURE)? != limits::picture(&before, &sass)? {
        failures.push(format!("{PICTURE} does not show what {FILE} and the ratchet of ptxas say"));
    }
    for failure in &failures {
        eprintln!("{failure}");
    }
    if !failures.is_empty() {
        bail!(
            "{} of the model's checks failed; `cargo xtask model --accept` writes the files anew",
            failures.len()
        );
    }
    println!("model: {} kernels count what {FILE} says or less", now.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let readme = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = with_part(&readme, "| new |\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}\n\n| new |\n\n{END}\nafter\n"));
        assert_eq!(with_part(&new, "| new |\n").unwrap(), new);
        assert!(with_part("no marks", "").is_err());
        assert!(with_part(&format!("{END}{BEGIN}"), "").is_err());
    }
}
