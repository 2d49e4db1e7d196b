//! `run`: a kernel once, or in the orders of several seeds.

use super::files::Outputs;
use super::launch::{self, Launch, Launched};
use super::tensors::Contents;
use ptx_emulator::{LaunchStats, LineCounters, Module};
use std::io::Write;
use std::path::PathBuf;

/// Options of `run`.
#[derive(clap::Args, Debug)]
pub struct Run {
    #[command(flatten)]
    launch: Launch,
    /// Where all tensors go after the run, as safetensors.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Prints what the run did.
    #[arg(long)]
    stats: bool,
    /// Prints what each instruction did: bank conflicts, sectors, bytes, matrix operations.
    #[arg(long)]
    counters: bool,
    /// Runs the kernel in the orders of so many seeds, from --seed or 0 on, and compares all tensors bit by bit.
    #[arg(long, value_parser = clap::value_parser!(u64).range(2..))]
    seeds: Option<u64>,
}

/// Two orders of one kernel that gave different results.
#[derive(Debug, thiserror::Error)]
#[error("kernel `{kernel}` depends on the order of its warps: {what}")]
pub struct Difference {
    kernel: String,
    what: String,
}

/// Runs the kernel, prints what was asked for and writes the tensors.
pub fn execute(options: &Run) -> anyhow::Result<()> {
    Outputs::check(&options.output)?;
    let (module, _) = launch::read_module(&options.launch.file)?;
    let Launched { emulator, tensors, stats } = match options.seeds {
        Some(count) => in_orders(options, &module, count)?,
        None => options.launch.run(&module, options.counters)?,
    };
    let mut out = std::io::stdout().lock();
    write!(out, "{}", stats.printed)?;
    if options.stats {
        print_stats(&mut out, &stats)?;
    }
    if options.counters {
        print_counters(&mut out, &stats)?;
    }
    if let Some(path) = &options.output {
        let mut outputs = Outputs::default();
        outputs.add(path, &tensors.contents(&emulator)?.serialize()?)?;
        outputs.finish()?;
    }
    Ok(())
}

/// Runs the kernel once a seed; gives the first run if all others have its results.
fn in_orders(options: &Run, module: &Module, count: u64) -> anyhow::Result<Launched> {
    let from = options.launch.seed.unwrap_or(0);
    let mut first: Option<(Launched, Contents)> = None;
    for seed in (0..count).map(|k| from.wrapping_add(k)) {
        let launched = options.launch.run_with(module, options.counters, Some(seed))?;
        let contents = launched.tensors.contents(&launched.emulator)?;
        match &first {
            None => first = Some((launched, contents)),
            Some((_, expected)) => {
                if let Some(found) = expected.difference(&contents) {
                    let what = format!(
                        "tensor `{}`, element {} is {} with seed {from} and {} with seed {seed}",
                        found.tensor, found.element, found.here, found.there
                    );
                    return Err(Difference { kernel: options.launch.entry.clone(), what }.into());
                }
            }
        }
    }
    first.map(|(launched, _)| launched).ok_or_else(|| anyhow::anyhow!("--seeds: there are no seeds"))
}

fn print_stats(out: &mut impl Write, stats: &LaunchStats) -> std::io::Result<()> {
    let seconds = stats.elapsed.as_secs_f64();
    writeln!(out, "blocks               {}", stats.blocks)?;
    writeln!(out, "warp instructions    {}", stats.warp_instructions)?;
    writeln!(
        out,
        "thread instructions  {} ({:.0} million/s)",
        stats.thread_instructions,
        stats.thread_instructions as f64 / seconds / 1e6
    )?;
    writeln!(
        out,
        "global bytes         {} read, {} written",
        stats.global_load_bytes, stats.global_store_bytes
    )?;
    writeln!(
        out,
        "shared bytes         {} read, {} written",
        stats.shared_load_bytes, stats.shared_store_bytes
    )?;
    writeln!(out, "constant bytes       {} read", stats.constant_load_bytes)?;
    writeln!(out, "matrix flops         {}", stats.matrix_flops)?;
    writeln!(out, "special functions    {} ex2, {} others", stats.ex2_operations, stats.special_operations)?;
    writeln!(
        out,
        "barriers             {} completed, {} arrivals of threads",
        stats.barriers, stats.barrier_arrivals
    )?;
    writeln!(out, "seconds              {seconds:.3}")?;
    for m in &stats.mnemonics {
        writeln!(out, "  {:12} {}", m.warps, m.name)?;
    }
    Ok(())
}

fn print_counters(out: &mut impl Write, stats: &LaunchStats) -> std::io::Result<()> {
    writeln!(
        out,
        "{:>6} {:>12} {:>12} {:>12} {:>12} {:>12} {:>14} {:>12} {:>12} {:>12} {:>14} {:>12}  instruction",
        "line",
        "warps",
        "shared B",
        "wavefronts",
        "conflicts",
        "global B",
        "sectors",
        "const B",
        "local B",
        "ex2",
        "matrix flops",
        "special"
    )?;
    let mut row = |line: &str, name: &str, f: &dyn Fn(fn(&LineCounters) -> u64) -> u64| {
        writeln!(
            out,
            "{line:>6} {:>12} {:>12} {:>12} {:>12} {:>12} {:>14} {:>12} {:>12} {:>12} {:>14} {:>12}  {name}",
            f(|c| c.warps),
            f(|c| c.shared_load_bytes + c.shared_store_bytes),
            f(|c| c.shared_wavefronts),
            f(|c| c.shared_conflicts),
            f(|c| c.global_load_bytes + c.global_store_bytes),
            f(|c| c.global_sectors),
            f(|c| c.constant_load_bytes),
            f(|c| c.local_load_bytes + c.local_store_bytes),
            f(|c| c.ex2_operations),
            f(|c| c.matrix_flops),
            f(|c| c.special_operations),
        )
    };
    for counters in &stats.counters {
        row(&counters.line.to_string(), &counters.mnemonic, &|f| f(counters))?;
    }
    row("all", "", &|f| stats.total(f))
}
