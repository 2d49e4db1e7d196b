//! What `run` and `profile` have in common: a kernel, its launch and its tensors.

use super::tensors::Tensors;
use super::{args, interrupt};
use anyhow::{Context, anyhow};
use ptx_emulator::{
    Config, Emulator, LaunchConfig, LaunchError, LaunchOptions, LaunchStats, Module, Schedule,
};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Options of a launch.
#[derive(clap::Args, Debug)]
pub struct Launch {
    /// The PTX file.
    pub file: PathBuf,
    /// The kernel.
    #[arg(long)]
    pub entry: String,
    /// Blocks: X, X,Y or X,Y,Z.
    #[arg(long, value_parser = args::dimensions)]
    pub grid: [u32; 3],
    /// Threads a block: X, X,Y or X,Y,Z.
    #[arg(long, value_parser = args::dimensions)]
    pub block: [u32; 3],
    /// Blocks of a cluster: X, X,Y or X,Y,Z, which divide the grid. Without it those of the kernel's `.reqnctapercluster`, or 1; with both
    /// they must be the same.
    #[arg(long, value_parser = args::dimensions)]
    pub cluster: Option<[u32; 3]>,
    /// Bytes of dynamic shared memory a block.
    #[arg(long, default_value_t = 0)]
    pub shared: u32,
    /// A safetensors file; each tensor is copied to global memory, and counts as written.
    #[arg(long)]
    pub tensors: Option<PathBuf>,
    /// A kernel argument, in order: t:NAME (a tensor's address), i32:5, u32, i64, u64, i16, u16, i8, u8, f32, f64, f16, bf16, or
    /// hex:00ff… (the bytes of a struct).
    #[arg(long = "arg", allow_hyphen_values = true)]
    pub args: Vec<String>,
    /// A tensor that nobody has written, NAME=DTYPE:SHAPE, such as out=f32:2,128. It holds zeros, which --check does not let a kernel read.
    #[arg(long = "alloc")]
    pub allocations: Vec<String>,
    /// A tensor of zeros that count as written, NAME=DTYPE:SHAPE: for what a kernel adds to.
    #[arg(long = "zero")]
    pub zeros: Vec<String>,
    /// Looks for races, reads of memory that nobody wrote (that of --alloc too) and barriers that not all threads reach.
    #[arg(long)]
    pub check: bool,
    /// Runs blocks and warps in an order drawn from this seed, on one host thread, instead of one after another.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Host threads.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Stops the run after so many warp instructions.
    #[arg(long)]
    pub max_instructions: Option<u64>,
    /// Bytes of global memory.
    #[arg(long)]
    pub max_memory: Option<u64>,
    /// Bytes that kernels may have from `malloc`; 8 MiB where absent.
    #[arg(long)]
    pub heap: Option<u64>,
    /// Blocks that are resident together at most; beyond these none begins until one ends. 4224 where absent.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub resident_blocks: Option<u64>,
    /// A cooperative launch: `grid.sync()` works, and all blocks must be resident together.
    #[arg(long)]
    pub cooperative: bool,
    /// The device's compute capability, such as 90, whose shared memory a block may have; without it that of the PTX's target.
    #[arg(long)]
    pub capability: Option<u32>,
}

/// Reads and decodes a PTX file; also gives its text.
pub fn read_module(file: &Path) -> anyhow::Result<(Module, String)> {
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let text = String::from_utf8(bytes).map_err(|_| anyhow!("{} is not a text file", file.display()))?;
    let module = Module::parse(&text).with_context(|| format!("{}", file.display()))?;
    Ok((module, text))
}

/// A device that has been used for one launch.
pub struct Launched {
    /// The device.
    pub emulator: Emulator,
    /// Its tensors.
    pub tensors: Tensors,
    /// What the launch did.
    pub stats: LaunchStats,
}

impl Launch {
    /// Runs the kernel on a fresh device.
    pub fn run(&self, module: &Module, counters: bool) -> anyhow::Result<Launched> {
        self.run_with(module, counters, self.seed)
    }

    /// As `run`, in the order of this seed.
    pub fn run_with(&self, module: &Module, counters: bool, seed: Option<u64>) -> anyhow::Result<Launched> {
        let defaults = Config::default();
        let config = Config {
            threads: self.threads.unwrap_or(defaults.threads).max(1),
            memory_limit: self.max_memory.unwrap_or(defaults.memory_limit),
            heap_limit: self.heap.unwrap_or(defaults.heap_limit),
            max_instructions: self.max_instructions,
            capability: self.capability,
            resident_blocks: self.resident_blocks.unwrap_or(defaults.resident_blocks),
            ..defaults
        };
        let emulator = Emulator::new(config);
        let mut tensors = Tensors::default();
        if let Some(path) = &self.tensors {
            tensors.load(path, &emulator)?;
        }
        for allocation in &self.allocations {
            tensors.allocate(("--alloc", allocation), false, &emulator)?;
        }
        for allocation in &self.zeros {
            tensors.allocate(("--zero", allocation), true, &emulator)?;
        }
        let values =
            self.args.iter().map(|a| args::argument(a, &tensors)).collect::<anyhow::Result<Vec<_>>>()?;
        let slices: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let schedule = seed.map_or(Schedule::InOrder, Schedule::Seeded);
        let cancel = Some(interrupt::flag());
        let (checks, cooperative, cluster) = (self.check, self.cooperative, self.cluster);
        let options = LaunchOptions {
            counters,
            checks,
            cooperative,
            cluster,
            schedule,
            cancel,
            ..LaunchOptions::default()
        };
        let stats = self.launch(&emulator, module, &slices, options)?;
        Ok(Launched { emulator, tensors, stats })
    }

    fn launch(
        &self,
        emulator: &Emulator,
        module: &Module,
        args: &[&[u8]],
        options: LaunchOptions,
    ) -> Result<LaunchStats, LaunchError> {
        let shape = LaunchConfig { grid: self.grid, block: self.block, dynamic_shared_bytes: self.shared };
        if !std::io::stderr().is_terminal() {
            return emulator.launch_with(module, &self.entry, shape, args, &options);
        }
        let bar = indicatif::ProgressBar::new(0);
        let progress = |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        };
        let options = LaunchOptions { progress: Some(&progress), ..options };
        let result = emulator.launch_with(module, &self.entry, shape, args, &options);
        bar.finish_and_clear();
        result
    }
}
