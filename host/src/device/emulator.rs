//! The emulator as a device.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ptx_emulator::{Config, LaunchConfig, LaunchOptions, Module, Schedule};

use super::accelerator::{Accelerator, Launch, ProgressCallback};
use super::modules::Modules;
use super::{Kind, Progress, Statistics};
use crate::error::{Error, Result};
use crate::ptx;

/// How an emulator runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmulatorOptions {
    /// Host threads that run blocks at the same time; 0 means one a core.
    pub threads: usize,
    /// Whether every launch looks for races in shared memory, reads of memory that nobody wrote, uses of bytes that an
    /// asynchronous copy still owns, and barriers that a part of the threads reaches. The first one is an error that says
    /// where. Launches then take up to four times as long.
    pub checks: bool,
    /// Whether `Statistics` has what only counters of each instruction know: sectors, wavefronts and bank conflicts.
    pub counters: bool,
    /// A seed from which the order of blocks and warps is drawn, the same in every launch, on one host thread; `None` runs them in
    /// the order of their numbers. Results of correct kernels do not depend on it.
    pub seed: Option<u64>,
    /// Multiprocessors that the emulator says it has: `Flash` divides keys in parts where there are more of them than blocks of
    /// queries. 0, the default, counts as 1, so that nothing is divided that is not asked to be.
    pub multiprocessors: u32,
}

impl EmulatorOptions {
    /// With this many host threads; 0 means one a core.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// With checks of every launch, or without.
    pub fn checks(mut self, checks: bool) -> Self {
        self.checks = checks;
        self
    }

    /// With counters of each instruction, or without.
    pub fn counters(mut self, counters: bool) -> Self {
        self.counters = counters;
        self
    }

    /// In the order of this seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// With so many multiprocessors, as far as plans go; 0 counts as 1.
    pub fn multiprocessors(mut self, multiprocessors: u32) -> Self {
        self.multiprocessors = multiprocessors;
        self
    }
}

/// An emulator, the modules it has parsed and what it has counted.
pub(super) struct Emulator {
    emulator: ptx_emulator::Emulator,
    options: EmulatorOptions,
    modules: Modules<Module>,
    statistics: Mutex<BTreeMap<&'static str, Statistics>>,
}

const NAME: &str = "emulator";

impl Emulator {
    pub(super) fn new(options: EmulatorOptions) -> Emulator {
        let mut config = Config::default();
        if options.threads > 0 {
            config.threads = options.threads;
        }
        Emulator {
            emulator: ptx_emulator::Emulator::new(config),
            options,
            modules: Modules::default(),
            statistics: Mutex::default(),
        }
    }

    /// The parsed module of an entry point.
    fn module(&self, entry: &'static str) -> Result<Arc<Module>> {
        let failed = |reason: String| Error::Kernel { kernel: entry, device: NAME.into(), reason };
        self.modules.get(entry, || {
            let text = ptx::module(entry).map_err(failed)?;
            Module::parse(&text).map_err(|error| failed(error.to_string()))
        })
    }
}

fn failed(action: &str) -> impl Fn(ptx_emulator::MemoryError) -> Error {
    move |error| Error::Device { device: NAME.into(), action: action.into(), reason: error.to_string() }
}

impl Accelerator for Emulator {
    fn name(&self) -> String {
        NAME.into()
    }

    fn kind(&self) -> Kind {
        Kind::Emulator
    }

    fn multiprocessors(&self) -> u32 {
        self.options.multiprocessors.max(1)
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        self.emulator.alloc(bytes as u64).map_err(failed("allocate"))
    }

    fn free(&self, address: u64, _: usize) {
        // The address came from `allocate` and is freed once; there is no one to tell of an error.
        let _ = self.emulator.free(address);
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.emulator.write(address, bytes).map_err(failed("copy to the device"))
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        self.emulator.read(address, bytes).map_err(failed("copy from the device"))
    }

    fn zero(&self, address: u64, bytes: usize) -> Result<()> {
        self.emulator.fill(address, 0, bytes as u64).map_err(failed("fill memory"))
    }

    fn launch(&self, launch: &Launch, progress: Option<&ProgressCallback>) -> Result<()> {
        let module = self.module(launch.entry)?;
        let config = LaunchConfig {
            grid: [launch.grid, 1, 1],
            block: [launch.block, 1, 1],
            dynamic_shared_bytes: launch.shared_bytes,
        };
        let report = |done, total| {
            if let Some(progress) = progress {
                progress(Progress { kernel: launch.entry, done, total });
            }
        };
        let arguments = [launch.parameters.as_slice()];
        let EmulatorOptions { checks, counters, seed, .. } = self.options;
        let schedule = seed.map_or(Schedule::InOrder, Schedule::Seeded);
        let progress = Some(&report as &(dyn Fn(u64, u64) + Sync));
        let options = LaunchOptions { checks, counters, schedule, progress, ..LaunchOptions::default() };
        let counted = self
            .emulator
            .launch_with(&module, launch.entry, config, &arguments, &options)
            .map_err(|error| Error::Kernel {
                kernel: launch.entry,
                device: NAME.into(),
                reason: error.to_string(),
            })?;
        let mut statistics = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        *statistics.entry(launch.entry).or_default() += &counted;
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration> {
        let start = Instant::now();
        work()?;
        Ok(start.elapsed())
    }

    unsafe fn on_stream(self: Arc<Self>, stream: *mut c_void) -> Result<Arc<dyn Accelerator>> {
        if stream.is_null() {
            return Ok(self);
        }
        let (argument, given) = ("stream".into(), format!("{stream:?}"));
        Err(Error::Value { argument, given, allowed: "null on the emulator, which has no streams".into() })
    }

    fn take_statistics(&self) -> Option<BTreeMap<&'static str, Statistics>> {
        Some(std::mem::take(&mut *self.statistics.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)
    }
}
