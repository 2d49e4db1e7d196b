//! `profile`: what a kernel does, instruction by instruction, and what bounds it on GPUs.

use super::files::Outputs;
use super::launch::{self, Launch};
use comfy_table::{CellAlignment, Table, presets};
use ptx_emulator::profile::{Class, Demand, GPUS, Gpu, Roofline, Shown, Unit, annotate, svg};
use ptx_emulator::{LaunchStats, LineCounters};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

/// Options of `profile`.
#[derive(clap::Args, Debug)]
pub struct Profile {
    #[command(flatten)]
    launch: Launch,
    /// A GPU whose limits the kernel is held against: A100, RTX-4090, H100, H200, B200 or all. May be given more than once.
    #[arg(long = "gpu", value_parser = gpus, default_value = "all")]
    gpus: Vec<Named>,
    /// Bytes that the algorithm reads from and writes to the GPU's memory at least. Without it every sector of every access
    /// counts as traffic, as if there were no caches.
    #[arg(long)]
    bytes: Option<u64>,
    /// Floating-point operations of the algorithm, in which throughput is measured; without it those of the kernel's matrix
    /// products, or of its arithmetic of floats.
    #[arg(long)]
    flops: Option<u64>,
    /// Warp instructions that an assembler makes of the PTX, for the issue slots; without it those of the PTX.
    #[arg(long)]
    instructions: Option<u64>,
    /// How many instructions to print, those that ran most often; all are in the files.
    #[arg(long, default_value_t = 16)]
    top: usize,
    /// Where all counters and limits go as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where the PTX goes with counts in its margin.
    #[arg(long)]
    annotate: Option<PathBuf>,
    /// Where the roofline goes as a picture (SVG).
    #[arg(long)]
    plot: Option<PathBuf>,
}

/// The GPUs that one `--gpu` names.
#[derive(Clone, Debug)]
struct Named(Vec<&'static Gpu>);

fn gpus(name: &str) -> Result<Named, String> {
    if name.eq_ignore_ascii_case("all") {
        return Ok(Named(GPUS.iter().collect()));
    }
    let known = || GPUS.iter().map(|gpu| gpu.name).collect::<Vec<_>>().join(", ");
    Gpu::named(name).map(|gpu| Named(vec![gpu])).ok_or_else(|| format!("known are {} and all", known()))
}

/// Runs the kernel with counters, prints what they say and writes the files.
pub fn execute(options: &Profile) -> anyhow::Result<()> {
    let paths = [&options.json, &options.annotate, &options.plot];
    Outputs::check(paths.into_iter().flatten())?;
    let (module, text) = launch::read_module(&options.launch.file)?;
    let stats = options.launch.run(&module, true)?.stats;
    let demand = demand(options, &stats);
    let mut named: Vec<&'static Gpu> = Vec::new();
    for gpu in options.gpus.iter().flat_map(|named| &named.0) {
        if !named.contains(gpu) {
            named.push(gpu);
        }
    }
    let rooflines: Vec<Roofline> = named.iter().map(|gpu| Roofline::new(gpu, &demand)).collect();

    let mut outputs = Outputs::default();
    if let Some(path) = &options.json {
        let all = report(options, &stats, &demand, &rooflines);
        outputs.add(path, (serde_json::to_string_pretty(&all)? + "\n").as_bytes())?;
    }
    if let Some(path) = &options.annotate {
        outputs.add(path, annotate(&text, &stats).as_bytes())?;
    }
    if let Some(path) = &options.plot {
        let name = options.launch.entry.as_str();
        let shown: Vec<Shown> = named.iter().map(|&gpu| Shown { name, demand: &demand, gpu }).collect();
        outputs.add(path, svg(&shown, 3).map_err(anyhow::Error::msg)?.as_bytes())?;
    }
    outputs.finish()?;
    let mut out = std::io::stdout().lock();
    write!(out, "{}", stats.printed)?;
    writeln!(out, "{}", classes(&stats))?;
    writeln!(out, "{}", totals(&stats))?;
    writeln!(out, "{}", lines(&stats, options.top))?;
    writeln!(out, "{}", limits(&rooflines))?;
    for sentence in sentences(&options.launch, &stats, &demand, &rooflines) {
        writeln!(out, "{sentence}")?;
    }
    Ok(())
}

/// What the launch asked, with what the caller knows better.
fn demand(options: &Profile, stats: &LaunchStats) -> Demand {
    // A kernel that runs has at least one instruction, and counters were asked for.
    let mut demand = Demand::of_launch(stats).unwrap_or_default();
    demand.least_bytes = options.bytes;
    demand.flops = options.flops.map_or(demand.flops, |flops| flops as f64);
    demand.instructions = options.instructions.map_or(demand.instructions, |n| n as f64);
    demand
}

/// An empty table with a heading; all but the first `words` columns hold numbers.
fn table(heading: &[&str], words: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(heading);
    for column in table.column_iter_mut().skip(words) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Warp instructions, thread instructions and those of active lanes, by class, most frequent first.
fn by_class(stats: &LaunchStats) -> Vec<(Class, u64, [u64; 2])> {
    let mut all: Vec<(Class, u64, [u64; 2])> = Class::ALL.map(|class| (class, 0, [0; 2])).to_vec();
    for mnemonic in &stats.mnemonics {
        let class = Class::of(&mnemonic.name);
        for entry in all.iter_mut().filter(|entry| entry.0 == class) {
            entry.1 += mnemonic.warps;
            entry.2[0] += mnemonic.threads;
            entry.2[1] += mnemonic.active;
        }
    }
    all.retain(|entry| entry.1 > 0);
    all.sort_by_key(|entry| std::cmp::Reverse(entry.1));
    all
}

fn active(warps: u64, lanes: u64) -> String {
    if warps == 0 { "-".into() } else { format!("{:.1}", lanes as f64 / warps as f64) }
}

fn percent(part: u64, all: u64) -> String {
    if all == 0 { "-".into() } else { format!("{:.1} %", 100.0 * part as f64 / all as f64) }
}

fn classes(stats: &LaunchStats) -> Table {
    let mut rows = table(&["class", "warp instructions", "share", "active lanes"], 1);
    for (class, warps, [_, lanes]) in by_class(stats) {
        let share = percent(warps, stats.warp_instructions);
        rows.add_row([class.name().into(), warps.to_string(), share, active(warps, lanes)]);
    }
    let lanes = active(stats.warp_instructions, stats.active_thread_instructions);
    rows.add_row(["all".into(), stats.warp_instructions.to_string(), "100.0 %".into(), lanes]);
    rows
}

/// Each counter of the launch with its name, and a remark.
fn counted(stats: &LaunchStats) -> Vec<(&'static str, u64, String)> {
    let total = |counter: fn(&LineCounters) -> u64| stats.total(counter);
    let asked = total(|c| c.global_load_bytes + c.global_store_bytes);
    let sectors = total(|c| c.global_sectors);
    let plain = |name, value| (name, value, String::new());
    vec![
        plain("global bytes read", total(|c| c.global_load_bytes)),
        plain("global bytes written", total(|c| c.global_store_bytes)),
        plain("global requests", total(|c| c.global_requests)),
        ("global sectors", sectors, format!("{} of their bytes asked for", percent(asked, 32 * sectors))),
        plain("constant bytes read", total(|c| c.constant_load_bytes)),
        plain("shared bytes read", total(|c| c.shared_load_bytes)),
        plain("shared bytes written", total(|c| c.shared_store_bytes)),
        plain("shared wavefronts", total(|c| c.shared_wavefronts)),
        plain("shared bank conflicts", total(|c| c.shared_conflicts)),
        plain("local bytes read", total(|c| c.local_load_bytes)),
        plain("local bytes written", total(|c| c.local_store_bytes)),
        plain("matrix operations", stats.matrix_flops),
        plain("exponentials (ex2)", stats.ex2_operations),
        plain("other special functions", stats.special_operations),
        plain("barrier arrivals of threads", stats.barrier_arrivals),
        plain("barriers of blocks completed", stats.barriers),
    ]
}

fn totals(stats: &LaunchStats) -> Table {
    let mut rows = table(&["counter", "value", ""], 1);
    for (name, value, remark) in counted(stats) {
        rows.add_row([name.into(), value.to_string(), remark]);
    }
    rows
}

fn lines(stats: &LaunchStats, top: usize) -> Table {
    let heading = [
        "line",
        "instruction",
        "warps",
        "share",
        "lanes",
        "sectors",
        "wavefronts",
        "conflicts",
        "global B",
        "shared B",
    ];
    let mut rows = table(&heading, 2);
    let mut all: Vec<&LineCounters> = stats.counters.iter().collect();
    all.sort_by_key(|c| (std::cmp::Reverse(c.warps), c.line));
    for c in all.iter().take(top) {
        rows.add_row([
            c.line.to_string(),
            c.mnemonic.clone(),
            c.warps.to_string(),
            percent(c.warps, stats.warp_instructions),
            active(c.warps, c.active),
            c.global_sectors.to_string(),
            c.shared_wavefronts.to_string(),
            c.shared_conflicts.to_string(),
            (c.global_load_bytes + c.global_store_bytes).to_string(),
            (c.shared_load_bytes + c.shared_store_bytes).to_string(),
        ]);
    }
    rows
}

/// Microseconds with four digits.
fn microseconds(seconds: f64) -> String {
    let us = seconds * 1e6;
    if us == 0.0 {
        return "0".into();
    }
    let digits = 3 - (us.log10().floor() as i32).clamp(-6, 3);
    format!("{us:.*}", digits as usize)
}

fn limits(rooflines: &[Roofline]) -> Table {
    let mut heading = vec!["microseconds at least"];
    heading.extend(Unit::ALL.map(Unit::name));
    heading.extend(["bound by", "TFLOP/s at most"]);
    let mut rows = table(&heading, 1);
    for roofline in rooflines {
        let mut row = vec![roofline.gpu.name.to_string()];
        row.extend(roofline.limits.map(|limit| microseconds(limit.seconds)));
        row.push(roofline.bound().unit.name().into());
        let most = roofline.throughput(roofline.seconds());
        row.push(most.map_or_else(|| "-".into(), |flops| format!("{:.1}", flops / 1e12)));
        rows.add_row(row);
    }
    rows
}

/// What the tables rest on.
fn sentences(launch: &Launch, stats: &LaunchStats, demand: &Demand, rooflines: &[Roofline]) -> Vec<String> {
    let mut all = vec![
        "Each figure is what a unit needs at least, were it never idle and all multiprocessors busy; latencies are not modelled.".into(),
    ];
    all.push(match demand.least_bytes {
        Some(bytes) => format!(
            "Memory: {bytes} bytes, as given; if no sector met a cache it would be {} bytes.",
            demand.sector_bytes
        ),
        None => "Memory: every sector of every access, as if there were no caches; --bytes gives the least traffic.".into(),
    });
    let few: Vec<String> = rooflines
        .iter()
        .filter(|roofline| stats.blocks < u64::from(roofline.gpu.multiprocessors))
        .map(|roofline| format!("{} of the {}", roofline.gpu.multiprocessors, roofline.gpu.name))
        .collect();
    if !few.is_empty() {
        all.push(format!(
            "`{}` has {} blocks, fewer than the multiprocessors ({}): as it is launched here, some stay idle.",
            launch.entry,
            stats.blocks,
            few.join(", ")
        ));
    }
    for roofline in rooflines.iter().filter(|roofline| !roofline.unrated.is_empty()) {
        all.push(format!(
            "{} has no rate for the matrix products {:?}: they are missing in its limit.",
            roofline.gpu.name, roofline.unrated
        ));
    }
    all
}

fn report(options: &Profile, stats: &LaunchStats, demand: &Demand, rooflines: &[Roofline]) -> Value {
    let launch = &options.launch;
    let classes = by_class(stats).into_iter().map(|(class, warps, [threads, active])| {
        json!({
            "class": class.name(),
            "warp_instructions": warps,
            "thread_instructions": threads,
            "active_thread_instructions": active,
        })
    });
    let mnemonics = stats.mnemonics.iter().map(|m| {
        json!({
            "name": m.name,
            "warp_instructions": m.warps,
            "acting_warp_instructions": m.acting,
            "thread_instructions": m.threads,
            "active_thread_instructions": m.active,
        })
    });
    json!({
        "kernel": launch.entry,
        "file": launch.file.display().to_string(),
        "grid": launch.grid,
        "block": launch.block,
        "cluster": launch.cluster,
        "dynamic_shared_bytes": launch.shared,
        "blocks": stats.blocks,
        "warp_instructions": stats.warp_instructions,
        "thread_instructions": stats.thread_instructions,
        "active_thread_instructions": stats.active_thread_instructions,
        "counters": counted(stats).into_iter().map(|(name, value, _)| (key(name), json!(value)))
            .collect::<serde_json::Map<_, _>>(),
        "classes": classes.collect::<Vec<_>>(),
        "mnemonics": mnemonics.collect::<Vec<_>>(),
        "instructions": stats.counters.iter().map(instruction).collect::<Vec<_>>(),
        "flops": demand.flops,
        "issued_warp_instructions": demand.instructions,
        "least_bytes": demand.least_bytes,
        "sector_bytes": demand.sector_bytes,
        "gpus": rooflines.iter().map(gpu).collect::<Vec<_>>(),
    })
}

/// A counter's name as a key.
fn key(name: &str) -> String {
    name.replace(['(', ')'], "").replace(' ', "_")
}

fn instruction(c: &LineCounters) -> Value {
    json!({
        "line": c.line,
        "mnemonic": c.mnemonic,
        "class": Class::of(&c.mnemonic).name(),
        "warp_instructions": c.warps,
        "thread_instructions": c.threads,
        "active_thread_instructions": c.active,
        "global_load_bytes": c.global_load_bytes,
        "global_store_bytes": c.global_store_bytes,
        "global_requests": c.global_requests,
        "global_sectors": c.global_sectors,
        "shared_load_bytes": c.shared_load_bytes,
        "shared_store_bytes": c.shared_store_bytes,
        "shared_wavefronts": c.shared_wavefronts,
        "shared_conflicts": c.shared_conflicts,
        "constant_load_bytes": c.constant_load_bytes,
        "local_load_bytes": c.local_load_bytes,
        "local_store_bytes": c.local_store_bytes,
        "matrix_operations": c.matrix_flops,
        "ex2": c.ex2_operations,
        "other_special_functions": c.special_operations,
        "barrier_arrivals": c.barrier_arrivals,
    })
}

fn gpu(roofline: &Roofline) -> Value {
    let gpu = roofline.gpu;
    let limits = roofline.limits.iter().map(|limit| {
        json!({
            "unit": limit.unit.name(),
            "seconds": limit.seconds,
            "flops_per_second": roofline.throughput(limit.seconds),
        })
    });
    let sources = gpu.sources.iter().map(|s| json!({ "figure": s.figure, "document": s.document }));
    json!({
        "gpu": gpu.name,
        "compute_capability": format!("{}.{}", gpu.capability.0, gpu.capability.1),
        "multiprocessors": gpu.multiprocessors,
        "clock_hertz": gpu.clock,
        "issue_per_cycle": gpu.issue,
        "f32_per_cycle": gpu.float,
        "f16_per_cycle": gpu.half,
        "bf16_per_cycle": gpu.bfloat,
        "f64_per_cycle": gpu.double,
        "integers_per_cycle": gpu.integer,
        "special_per_cycle": gpu.special,
        "matrix_half_per_cycle": gpu.matrix.half_in_f32,
        "mma_share": gpu.mma_share,
        "shared_bytes_per_cycle": gpu.shared_bytes,
        "memory_bytes_per_second": gpu.memory_bandwidth,
        "sources": sources.collect::<Vec<_>>(),
        "limits": limits.collect::<Vec<_>>(),
        "uncached_memory_seconds": roofline.uncached_seconds,
        "bound": roofline.bound().unit.name(),
        "seconds_at_least": roofline.seconds(),
        "flops_per_second_at_most": roofline.throughput(roofline.seconds()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_four_digits() {
        assert_eq!(microseconds(1.23456e-6), "1.235");
        assert_eq!(microseconds(123.456e-6), "123.5");
        assert_eq!(microseconds(0.0123456e-6), "0.01235");
        assert_eq!(microseconds(0.0), "0");
    }
}
