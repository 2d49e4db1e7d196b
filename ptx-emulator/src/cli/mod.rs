//! Arguments of the command, and what it does with them.

mod args;
mod tensors;

use anyhow::{Context, anyhow};
use clap::{Parser, Subcommand};
use ptx_emulator::{
    Config, Emulator, LaunchConfig, LaunchError, LaunchOptions, LaunchStats, LineCounters, Module,
};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use tensors::Tensors;

/// Runs PTX on the CPU.
#[derive(Parser, Debug)]
#[command(version, about)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Runs one kernel of a PTX file.
    Run(Box<Run>),
    /// Lists the kernels of a PTX file with their parameters.
    List {
        /// The PTX file.
        file: PathBuf,
    },
}

/// Options of `run`.
#[derive(clap::Args, Debug)]
struct Run {
    /// The PTX file.
    file: PathBuf,
    /// The kernel.
    #[arg(long)]
    entry: String,
    /// Blocks: X, X,Y or X,Y,Z.
    #[arg(long, value_parser = args::dimensions)]
    grid: [u32; 3],
    /// Threads a block: X, X,Y or X,Y,Z.
    #[arg(long, value_parser = args::dimensions)]
    block: [u32; 3],
    /// Bytes of dynamic shared memory a block.
    #[arg(long, default_value_t = 0)]
    shared: u32,
    /// A safetensors file; each tensor is copied to global memory.
    #[arg(long)]
    tensors: Option<PathBuf>,
    /// A kernel argument, in order: t:NAME (a tensor's address), i32:5, u32, i64, u64, i16, u16, i8, u8, f32, f64, f16, bf16, or
    /// hex:00ff… (the bytes of a struct).
    #[arg(long = "arg", allow_hyphen_values = true)]
    args: Vec<String>,
    /// A zeroed tensor NAME=DTYPE:SHAPE, such as out=f32:2,128.
    #[arg(long = "alloc")]
    allocations: Vec<String>,
    /// Where all tensors go after the run, as safetensors.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Prints what the run did.
    #[arg(long)]
    stats: bool,
    /// Looks for races, reads of memory that nobody wrote and barriers that not all threads reach.
    #[arg(long)]
    check: bool,
    /// Prints what each instruction did: bank conflicts, sectors, bytes, matrix operations.
    #[arg(long)]
    counters: bool,
    /// Host threads.
    #[arg(long)]
    threads: Option<usize>,
    /// Stops the run after so many warp instructions.
    #[arg(long)]
    max_instructions: Option<u64>,
    /// Bytes of global memory.
    #[arg(long)]
    max_memory: Option<u64>,
}

/// Does what the arguments say. 0: good; 1: the kernel failed; 2: bad input.
pub fn run(arguments: Arguments) -> ExitCode {
    let result = match &arguments.command {
        Command::Run(options) => execute(options),
        Command::List { file } => list(file),
    };
    let (code, error) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(error) => {
            let failed = matches!(
                error.downcast_ref::<LaunchError>(),
                Some(
                    LaunchError::Fault { .. }
                        | LaunchError::Deadlock { .. }
                        | LaunchError::InstructionLimit { .. }
                )
            );
            (if failed { 1 } else { 2 }, error)
        }
    };
    // The chain of contexts as one sentence. Nothing can be done if stderr is gone.
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    ExitCode::from(code)
}

fn read_module(file: &PathBuf) -> anyhow::Result<Module> {
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let text = String::from_utf8(bytes).map_err(|_| anyhow!("{} is not a text file", file.display()))?;
    Module::parse(&text).with_context(|| format!("{}", file.display()))
}

fn list(file: &PathBuf) -> anyhow::Result<()> {
    let module = read_module(file)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "target {}", module.target())?;
    for entry in module.entries() {
        writeln!(out, "{}", entry.name())?;
        for (index, param) in entry.params().iter().enumerate() {
            writeln!(
                out,
                "  parameter {index}: {} ({} bytes, align {})",
                param.name, param.size, param.align
            )?;
        }
        writeln!(out, "  static shared memory: {} bytes", entry.static_shared_bytes())?;
        if let Some([x, y, z]) = entry.max_threads() {
            writeln!(out, "  at most {x} x {y} x {z} threads a block")?;
        }
        if let Some([x, y, z]) = entry.required_threads() {
            writeln!(out, "  exactly {x} x {y} x {z} threads a block")?;
        }
    }
    Ok(())
}

fn execute(options: &Run) -> anyhow::Result<()> {
    let module = read_module(&options.file)?;
    let defaults = Config::default();
    let config = Config {
        threads: options.threads.unwrap_or(defaults.threads).max(1),
        memory_limit: options.max_memory.unwrap_or(defaults.memory_limit),
        max_instructions: options.max_instructions,
        ..defaults
    };
    let emulator = Emulator::new(config);
    let mut tensors = Tensors::default();
    if let Some(path) = &options.tensors {
        tensors.load(path, &emulator)?;
    }
    for allocation in &options.allocations {
        tensors.allocate(allocation, &emulator)?;
    }
    let values =
        options.args.iter().map(|a| args::argument(a, &tensors)).collect::<anyhow::Result<Vec<_>>>()?;
    let slices: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    let shape =
        LaunchConfig { grid: options.grid, block: options.block, dynamic_shared_bytes: options.shared };
    let stats = launch(&emulator, &module, options, shape, &slices)?;
    let mut out = std::io::stdout().lock();
    write!(out, "{}", stats.printed)?;
    if options.stats {
        print_stats(&mut out, &stats)?;
    }
    if options.counters {
        print_counters(&mut out, &stats)?;
    }
    if let Some(path) = &options.output {
        tensors.save(path, &emulator)?;
    }
    Ok(())
}

fn launch(
    emulator: &Emulator,
    module: &Module,
    run: &Run,
    shape: LaunchConfig,
    args: &[&[u8]],
) -> Result<LaunchStats, LaunchError> {
    let mut options = LaunchOptions { counters: run.counters, checks: run.check, ..LaunchOptions::default() };
    if !std::io::stderr().is_terminal() {
        return emulator.launch_with(module, &run.entry, shape, args, &options);
    }
    let bar = indicatif::ProgressBar::new(0);
    let progress = |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    };
    options.progress = Some(&progress);
    let result = emulator.launch_with(module, &run.entry, shape, args, &options);
    bar.finish_and_clear();
    result
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
    writeln!(out, "matrix flops         {}", stats.matrix_flops)?;
    writeln!(out, "special functions    {} ex2, {} others", stats.ex2_operations, stats.special_operations)?;
    writeln!(out, "barriers             {}", stats.barriers)?;
    writeln!(out, "seconds              {seconds:.3}")?;
    for m in &stats.mnemonics {
        writeln!(out, "  {:12} {}", m.warps, m.name)?;
    }
    Ok(())
}

fn print_counters(out: &mut impl Write, stats: &LaunchStats) -> std::io::Result<()> {
    writeln!(
        out,
        "{:>6} {:>12} {:>12} {:>12} {:>12} {:>12} {:>14} {:>12} {:>12} {:>14} {:>12}  instruction",
        "line",
        "warps",
        "shared B",
        "wavefronts",
        "conflicts",
        "global B",
        "sectors",
        "local B",
        "ex2",
        "matrix flops",
        "special"
    )?;
    let mut row = |line: &str, name: &str, f: &dyn Fn(fn(&LineCounters) -> u64) -> u64| {
        writeln!(
            out,
            "{line:>6} {:>12} {:>12} {:>12} {:>12} {:>12} {:>14} {:>12} {:>12} {:>14} {:>12}  {name}",
            f(|c| c.warps),
            f(|c| c.shared_load_bytes + c.shared_store_bytes),
            f(|c| c.shared_wavefronts),
            f(|c| c.shared_conflicts),
            f(|c| c.global_load_bytes + c.global_store_bytes),
            f(|c| c.global_sectors),
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
