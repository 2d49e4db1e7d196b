//! Registers, shared memory and spills, as NVIDIA's assembler counts them, where it is installed.

use crate::command;
use crate::ptx::{self, Kind};
use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};
use regex::Regex;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The targets that the kernels are assembled for: each generation that today's assembler knows.
const TARGETS: [&str; 5] = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_120"];

/// Bytes that a kernel may spill. These spills lie outside the inner loops; the bar is for them not to grow.
const SPILL_LIMIT: u32 = 72;

/// `$PTXAS`, or `ptxas` on the path, or in the usual place of a toolkit.
fn find() -> Option<PathBuf> {
    let works =
        |program: &Path| Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    let given = std::env::var_os("PTXAS").map(PathBuf::from);
    let candidates = given.into_iter().chain(["ptxas".into(), "/usr/local/cuda/bin/ptxas".into()]);
    candidates.into_iter().find(|program| works(program))
}

struct Usage {
    registers: u32,
    spilled: u32,
    stack: u32,
}

/// Assembles one module for one target.
fn assemble(ptxas: &Path, module: &Path, target: &str, scratch: &Path) -> Result<Usage> {
    let output = Command::new(ptxas)
        .args(["-v", "-arch", target, "-o"])
        .arg(scratch.join("out.cubin"))
        .arg(module)
        .output()
        .with_context(|| format!("cannot start {}", ptxas.display()))?;
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{} does not assemble for {target}: {text}", module.display());
    }
    let number = |pattern: &str| -> Result<u32> {
        let found =
            Regex::new(pattern)?.captures(&text).with_context(|| format!("no `{pattern}` in: {text}"))?;
        Ok(found[1].parse()?)
    };
    Ok(Usage {
        registers: number(r"Used (\d+) registers")?,
        spilled: number(r"(\d+) bytes spill stores")?,
        stack: number(r"(\d+) bytes stack frame")?,
    })
}

/// Prints the table; fails where a kernel does not assemble or spills more than the limit.
pub fn check() -> Result<()> {
    let Some(ptxas) = find() else {
        println!("ptxas: not installed (neither $PTXAS nor on the path), so nothing was assembled");
        return Ok(());
    };
    let (modules, _) = ptx::build()?;
    let scratch = tempfile::tempdir_in(command::root().join("target"))?;
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let mut header = vec!["registers (spilled bytes)".to_string()];
    header.extend(TARGETS.map(String::from));
    table.set_header(header);
    let mut worst = 0;
    for module in &modules {
        let mut row = vec![module.name.to_string()];
        for target in TARGETS {
            // Kernels for tensor cores need sm_80.
            if matches!(module.kind, Kind::Flash(_)) && target == "sm_75" {
                row.push("-".into());
                continue;
            }
            let path = module.folder.join(format!("{}.ptx", module.name));
            let usage = assemble(&ptxas, &path, target, scratch.path())?;
            worst = worst.max(usage.spilled);
            let spilled = if usage.stack > 0 { format!(" ({})", usage.spilled) } else { String::new() };
            row.push(format!("{}{spilled}", usage.registers));
        }
        table.add_row(row);
    }
    println!("{table}");
    if worst > SPILL_LIMIT {
        bail!("a kernel spills {worst} bytes, at most {SPILL_LIMIT} are allowed");
    }
    println!(
        "ptxas: {} kernels assemble for {}; at most {worst} bytes spilled",
        modules.len(),
        TARGETS.join(", ")
    );
    Ok(())
}
