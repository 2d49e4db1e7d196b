//! An emulated device: its memory, the modules loaded into it, launches.

use crate::decode::frame::Special;
use crate::error::{LaunchError, MemoryError};
use crate::exec::{self, Schedule, Setup};
use crate::memory::{CODE_WINDOW, Memory};
use crate::module::{Entry, Module};
use crate::stats::LaunchStats;
use crate::syntax::ast::{Initial, Variable};
use crate::syntax::types::Space;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

/// Settings of an emulated device.
#[derive(Clone, Debug)]
pub struct Config {
    /// Host threads that run blocks.
    pub threads: usize,
    /// Bytes of global memory.
    pub memory_limit: u64,
    /// Bytes that kernels may have of what their `malloc` gives, beside `memory_limit`; it gives null where that is passed. What it
    /// gave lives on between launches, until a kernel frees it; the host cannot reach it, as on a device.
    pub heap_limit: u64,
    /// Warp instructions after which a launch is stopped.
    pub max_instructions: Option<u64>,
    /// Bytes of shared memory a block may have, static and dynamic; where absent, what GPUs of the compute capability allow.
    pub shared_limit: Option<u32>,
    /// The device's compute capability, such as 90; where absent, that of the module's `.target`.
    pub capability: Option<u32>,
    /// Blocks that are resident together at most, so that they can wait for one another; what a device has room for depends on the
    /// kernel. Host threads that would pass it stay idle, and 2 GiB of the host's memory are a limit as well. A grid with more blocks
    /// that all wait for one another never ends, as on a device.
    pub resident_blocks: u64,
}

impl Default for Config {
    /// All host threads, 64 GiB and a heap of 8 MiB (as `cudaLimitMallocHeapSize`), no limit of instructions,
    /// the compute capability of the module's `.target` and its shared memory, and the most resident blocks of an H200: 32 on each of 132
    /// multiprocessors.
    fn default() -> Config {
        Config {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            memory_limit: 64 << 30,
            heap_limit: 8 << 20,
            max_instructions: None,
            shared_limit: None,
            capability: None,
            resident_blocks: 132 * 32,
        }
    }
}

/// Shape of a launch.
#[derive(Clone, Copy, Debug)]
pub struct LaunchConfig {
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads a block in x, y, z.
    pub block: [u32; 3],
    /// Bytes of `.extern .shared` memory a block.
    pub dynamic_shared_bytes: u32,
}

/// What else a launch should do. The default: nothing.
#[derive(Clone, Copy, Default)]
pub struct LaunchOptions<'a> {
    /// Fills `LaunchStats::counters`. Kernels whose time goes to memory accesses then take several times as long.
    pub counters: bool,
    /// Looks for reads of memory that nobody wrote, races in shared and global memory, the asynchronous proxy and `wgmma` among the parties,
    /// registers that a `wgmma` still owns, barriers that a part of the threads reach, and products and bulk copies that are not waited for
    /// when their warp or cluster ends. The first one ends the launch with `LaunchError::Fault`. Global memory is checked where all launches so far had checks: after
    /// others, what they could have written counts as written.
    pub checks: bool,
    /// Blocks of a cluster in x, y, z; where absent, those of `.reqnctapercluster`, or 1. They divide the grid and run together.
    pub cluster: Option<[u32; 3]>,
    /// A cooperative launch, as `cuLaunchCooperativeKernel`: refused where not all blocks can be resident together
    /// (`Config::resident_blocks`), and `grid.sync()` of `cooperative_groups`, which traps in others, is a barrier of all threads.
    pub cooperative: bool,
    /// In which order blocks and warps run. Orders drawn from different seeds find what depends on them.
    pub schedule: Schedule,
    /// When it is set, from any thread, the launch soon ends with `LaunchError::Cancelled`, if it has not ended before.
    pub cancel: Option<&'a AtomicBool>,
    /// Called after every block, from several threads: blocks done, blocks in all.
    pub progress: Option<&'a (dyn Fn(u64, u64) + Sync)>,
}

/// An emulated device. Methods take `&self`; it may be shared between threads.
pub struct Emulator {
    config: Config,
    memory: Memory,
    /// Addresses of the variables of each module that was launched from, by module.
    loaded: Mutex<HashMap<u64, HashMap<String, u64>>>,
}

impl Emulator {
    /// A device with empty memory.
    pub fn new(config: Config) -> Emulator {
        let memory = Memory::new(config.memory_limit);
        Emulator { config, memory, loaded: Mutex::default() }
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Allocates zeroed global memory; the address is a multiple of 256. 0 bytes are allowed. For `LaunchOptions::checks` the
    /// bytes count as unwritten, as on a device, until `write`, `fill` or a kernel writes them.
    pub fn alloc(&self, bytes: u64) -> Result<u64, MemoryError> {
        self.memory.alloc(bytes, false)
    }

    /// Frees an allocation by its first address. Addresses are never given twice.
    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        self.memory.free(address)
    }

    /// Copies from the host.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        self.memory.write(address, bytes)
    }

    /// Copies to the host.
    pub fn read(&self, address: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.read(address, out)
    }

    /// Sets `len` bytes.
    pub fn fill(&self, address: u64, byte: u8, len: u64) -> Result<(), MemoryError> {
        self.memory.fill(address, byte, len)
    }

    /// Bytes of global memory in use.
    pub fn memory_used(&self) -> u64 {
        self.memory.used()
    }

    /// Runs a kernel to its end. `args` are little-endian bytes, one slice a parameter.
    pub fn launch(
        &self,
        module: &Module,
        entry: &str,
        config: LaunchConfig,
        args: &[&[u8]],
    ) -> Result<LaunchStats, LaunchError> {
        self.launch_with(module, entry, config, args, &LaunchOptions::default())
    }

    /// As `launch`, with a call after every block: blocks done, blocks in all. The calls come from several threads.
    pub fn launch_with_progress(
        &self,
        module: &Module,
        entry: &str,
        config: LaunchConfig,
        args: &[&[u8]],
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<LaunchStats, LaunchError> {
        let options = LaunchOptions { progress: Some(progress), ..LaunchOptions::default() };
        self.launch_with(module, entry, config, args, &options)
    }

    /// As `launch`, with options.
    pub fn launch_with(
        &self,
        module: &Module,
        entry: &str,
        config: LaunchConfig,
        args: &[&[u8]],
        options: &LaunchOptions,
    ) -> Result<LaunchStats, LaunchError> {
        let Some(found) = module.entry(entry) else {
            let known: Vec<String> = module.entries().map(|e| format!("`{}`", e.name())).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            return Err(LaunchError::UnknownEntry { name: entry.into(), known });
        };
        let capability = self.config.capability.or(module.capability());
        exec::check(found, &self.config, capability, &config, options, args)?;
        let symbols = self.load(module)?;
        if module.functions.iter().any(|name| name == "malloc") {
            self.memory.open_heap(self.config.heap_limit)?;
        }
        if !options.checks {
            // Nobody notes what this launch writes.
            self.memory.complete(None);
        }
        let workspace = self.workspace(found, options)?;
        let (limits, memory) = (&self.config, self.memory.view());
        let setup = Setup {
            entry: found,
            module,
            limits,
            config,
            args,
            memory,
            options,
            workspace: workspace.unwrap_or(0),
        };
        let result = exec::run(setup, |name| symbols.get(name).copied().unwrap_or(0));
        if let Some(address) = workspace {
            self.memory.free(address)?;
        }
        result
    }

    /// What `cooperative_groups` of a cooperative launch takes `%envreg1` and `%envreg2` to point to: a size, which it does not read,
    /// and the grid's barrier, which begins with 0 (`details/driver_abi.h` and `details/sync.h` of the CUDA Toolkit 13).
    fn workspace(&self, entry: &Entry, options: &LaunchOptions) -> Result<Option<u64>, MemoryError> {
        let is_workspace = |special| matches!(special, Special::GridWorkspace { .. });
        if !options.cooperative || !entry.program.frame.specials().any(|(special, _)| is_workspace(special)) {
            return Ok(None);
        }
        let address = self.memory.alloc(8, false)?;
        self.memory.write(address, &[0; 8])?;
        Ok(Some(address))
    }

    /// Address and size of a module's `.global` or `.const` variable on this device.
    pub fn symbol(&self, module: &Module, name: &str) -> Result<Option<(u64, u64)>, MemoryError> {
        let symbols = self.load(module)?;
        let variable = module.variables.iter().find(|v| v.name == name);
        Ok(variable.and_then(|v| Some((*symbols.get(name)?, v.size.unwrap_or(0)))))
    }

    /// Gives the module's variables memory, once a device.
    fn load(&self, module: &Module) -> Result<HashMap<String, u64>, MemoryError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(symbols) = loaded.get(&module.id) {
            return Ok(symbols.clone());
        }
        let placed = |v: &&Variable| matches!(v.space, Space::Global | Space::Const);
        let mut symbols = HashMap::new();
        for variable in module.variables.iter().filter(placed) {
            if symbols.contains_key(&variable.name) {
                continue;
            }
            let address = self.memory.alloc(variable.size.unwrap_or(0), variable.space == Space::Const)?;
            // Variables without an initialiser are zero.
            self.memory.complete(Some(address));
            symbols.insert(variable.name.clone(), address);
        }
        for variable in module.variables.iter().filter(placed).filter(|v| !v.initial.is_empty()) {
            let bytes = initial_bytes(variable, &symbols, &module.functions);
            if let Some(&address) = symbols.get(&variable.name) {
                self.memory.write(address, &bytes)?;
            }
        }
        loaded.insert(module.id, symbols.clone());
        Ok(symbols)
    }
}

fn initial_bytes(variable: &Variable, symbols: &HashMap<String, u64>, functions: &[String]) -> Vec<u8> {
    let mut all = Vec::new();
    for piece in &variable.initial {
        match piece {
            Initial::Bytes(bytes) => all.extend_from_slice(bytes),
            Initial::Address { symbol, addend, shift, bytes } => {
                // The definition comes after the declaration of the same name.
                let function =
                    || functions.iter().rposition(|f| f == symbol).map(|n| CODE_WINDOW + 16 * n as u64);
                let address =
                    symbols.get(symbol).copied().or_else(function).unwrap_or(0).wrapping_add(*addend as u64);
                all.extend_from_slice(&(address >> shift).to_le_bytes()[..usize::from(*bytes).min(8)]);
            }
        }
    }
    all
}
