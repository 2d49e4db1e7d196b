//! The tables of figures, and the summary below them.

use super::occupancy::TARGETS;
use super::ratchet::ratio;
use super::{Assembled, BAR_TARGET, BARS};
use crate::ptx::Kind;
use comfy_table::{Table, presets};

/// Prints a table of resources for each family and type, and of plain loops for each type of those on tensor cores.
pub fn print(assembled: &[Assembled<'_>]) {
    for group in assembled.chunk_by(|a, b| title(a) == title(b)) {
        let what = "registers/blocks a multiprocessor (bytes spilled, bytes of stack)";
        println!("\n{}: {what}", title(&group[0]));
        println!(
            "{}",
            table("shared", group, |one| format!("{:.1} KiB", f64::from(one.shared()) / 1024.0), usage)
        );
        if group.iter().any(|one| one.plain_loop.is_some()) {
            let what = "instructions of the plain loop, HMMA, others for each HMMA (where the output is rescaled), \
                        instructions for each score";
            println!("\n{}: {what}", title(&group[0]));
            println!("{}", table("scores", group, scores, plain_loop));
        }
    }
    println!();
}

/// Family and type.
fn title(one: &Assembled<'_>) -> String {
    let family = match one.module.kind {
        Kind::Efficient(_) => "Efficient",
        Kind::Flash(_) => "Flash",
    };
    format!("{family}, {}", one.module.dtype.name())
}

/// A row for each kernel, with one column that all targets share and one for each of them.
fn table(
    shared: &str,
    group: &[Assembled<'_>],
    common: impl Fn(&Assembled<'_>) -> String,
    cell: impl Fn(&Assembled<'_>) -> String,
) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let targets = TARGETS.iter().filter(|target| group.iter().any(|one| one.target.name == target.name));
    let targets: Vec<&str> = targets.map(|target| target.name).collect();
    table.set_header(["kernel", shared].iter().chain(&targets).map(ToString::to_string));
    for kernel in group.chunk_by(|a, b| a.module.name == b.module.name) {
        let mut row = vec![kernel[0].module.name.to_string(), common(&kernel[0])];
        for name in &targets {
            row.push(kernel.iter().find(|one| one.target.name == *name).map_or("-".into(), &cell));
        }
        table.add_row(row);
    }
    table
}

fn usage(one: &Assembled<'_>) -> String {
    let used = format!("{}/{}", one.usage.registers, one.blocks());
    match (one.usage.spilled, one.usage.stack) {
        (0, 0) => used,
        (spilled, stack) => format!("{used} ({spilled}, {stack})"),
    }
}

/// Scores of one thread in a step.
fn scores(one: &Assembled<'_>) -> String {
    one.module.block.step.map_or("-".into(), |step| step.scores.to_string())
}

fn plain_loop(one: &Assembled<'_>) -> String {
    match (&one.plain_loop, one.module.block.step) {
        (Some(found), Some(step)) => {
            // The assembler may have unrolled several steps into the loop.
            let steps = (found.products / step.products).max(1);
            let each = f64::from(found.instructions) / f64::from(steps * step.scores);
            let rescaled = found.others_rescaled().map(|others| format!(" ({})", ratio(others)));
            format!(
                "{} {} {}{} {each:.2}",
                found.instructions,
                found.products,
                ratio(found.others()),
                rescaled.unwrap_or_default()
            )
        }
        _ => "-".into(),
    }
}

/// A few lines that say it all.
pub fn summary(assembled: &[Assembled<'_>], version: &str) {
    let kernels = assembled.chunk_by(|a, b| a.module.name == b.module.name).count();
    let targets = TARGETS.map(|target| target.name).join(", ");
    println!("ptxas {version}: {kernels} kernels assemble for {targets}");
    let spilling = assembled.iter().filter(|one| one.usage.spilled > 0).count();
    match assembled.iter().max_by_key(|one| one.usage.spilled).filter(|_| spilling > 0) {
        Some(worst) => println!(
            "ptxas: {spilling} of {} assemblies spill, at most {} bytes ({} on {})",
            assembled.len(),
            worst.usage.spilled,
            worst.module.name,
            worst.target.name
        ),
        None => println!("ptxas: none spills"),
    }
    for (kernel, bar) in BARS {
        let one = assembled.iter().find(|one| one.module.name == kernel && one.target.name == BAR_TARGET);
        if let Some(found) = one.and_then(|one| one.plain_loop.as_ref()) {
            let rescaled = found.others_rescaled().map(|others| {
                format!(
                    ", {} in a step that rescales the output, as FlashAttention-2 does in every step",
                    ratio(others)
                )
            });
            println!(
                "ptxas: {kernel} on {BAR_TARGET} has {} instructions other than HMMA for each HMMA{} (FlashAttention-2: {})",
                ratio(found.others()),
                rescaled.unwrap_or_default(),
                ratio(bar)
            );
        }
    }
}
