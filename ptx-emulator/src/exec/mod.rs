//! Execution of a grid: blocks dealt out to host threads.

mod block;
mod cluster;
mod limits;
pub(crate) mod printf;
mod schedule;
mod warp;

pub(crate) use limits::check;
pub use schedule::Schedule;

use crate::checks::{Checks, Global, Shape};
use crate::decode::frame::Special;
use crate::decode::{Program, parameter_offsets};
use crate::error::{LaunchError, Place};
use crate::memory::{MemoryView, Segment};
use crate::module::{Entry, Module};
use crate::ops::bulk::Stores;
use crate::ops::cluster::Cluster;
use crate::ops::control::MOST_PRINTED;
use crate::ops::copy::Copies;
use crate::ops::profile::Accesses;
use crate::ops::wgmma::Products;
use crate::ops::{BarrierRequest, Cx, LANES, Traffic};
use crate::stats::{LaunchStats, LineCounters, MnemonicCount, Work};
use crate::{Config, LaunchConfig, LaunchOptions};
use block::Line;
use cluster::ClusterRunner;
use limits::{cluster_of, registers_of};
use schedule::BlockOrder;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What registers and memory hold that nobody wrote.
pub(crate) const PATTERN: u32 = 0xdead_beef;
const PATTERN64: u64 = 0xdead_beef_dead_beef;

/// How often each instruction ran. Runs of instructions are entered at their ends only.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    /// Difference arrays: executions, and lanes active in them, begin and end here.
    warps: Vec<i64>,
    lanes: Vec<i64>,
    pub unflushed: u64,
}

impl Counts {
    fn new(length: usize) -> Counts {
        Counts { warps: vec![0; length + 1], lanes: vec![0; length + 1], unflushed: 0 }
    }

    /// The instructions `from..=to` ran once with these lanes.
    #[inline(always)]
    pub(crate) fn add(&mut self, program: &Program, from: u32, to: u32, mask: u32) {
        let lanes = i64::from(mask.count_ones());
        let (from, to) = (from as usize, to as usize + 1);
        self.warps[from] += 1;
        self.warps[to] -= 1;
        self.lanes[from] += lanes;
        self.lanes[to] -= lanes;
        self.unflushed += u64::from(program.counted[to] - program.counted[from]);
    }

    fn merge(&mut self, other: &Counts) {
        self.warps.iter_mut().zip(&other.warps).for_each(|(a, b)| *a += b);
        self.lanes.iter_mut().zip(&other.lanes).for_each(|(a, b)| *a += b);
    }
}

/// A launch under way, shared by the host threads.
pub(crate) struct Launch<'a> {
    pub program: &'a Program,
    pub kernel: &'a str,
    module: &'a Module,
    pub config: LaunchConfig,
    /// Blocks of a cluster in x, y, z.
    pub cluster: [u32; 3],
    /// Somebody named them: the launch or the kernel.
    pub explicit_cluster: bool,
    /// Registers of a thread when the kernel begins.
    pub registers: u32,
    pub threads: u32,
    pub shared_bytes: u64,
    pub max_instructions: Option<u64>,
    pub schedule: Schedule,
    image: Vec<Line>,
    specials: Vec<(Special, u32)>,
    instructions: AtomicU64,
    stop: AtomicBool,
    cancel: Option<&'a AtomicBool>,
}

impl Launch<'_> {
    /// The block of a rank in a cluster.
    pub(crate) fn block_at(&self, cluster: u64, rank: u32) -> [u32; 3] {
        self.shape().block_at(cluster, rank)
    }

    fn shape(&self) -> Shape {
        Shape { grid: self.config.grid, cluster: self.cluster }
    }

    pub(crate) fn thread_at(&self, thread: u32) -> [u32; 3] {
        let [x, y, _] = self.config.block;
        [thread % x, thread / x % y, thread / x / y]
    }

    pub(crate) fn line_of(&self, pc: u32) -> (u32, String) {
        let line = self.program.lines.get(pc as usize).copied().unwrap_or(0);
        let text = self.module.lines.get(line.saturating_sub(1) as usize).map_or("", |t| t.trim());
        (line, text.chars().take(200).collect())
    }

    /// Where in the source an instruction comes from.
    pub(crate) fn source_of(&self, pc: u32) -> Option<String> {
        self.module.sources.of(self.program.lines.get(pc as usize).copied()?)
    }

    /// Where the other party of an error was.
    fn in_words(&self, pc: u32) -> String {
        let (line, text) = self.line_of(pc);
        let source = self.source_of(pc).map(|source| format!(", source {source}")).unwrap_or_default();
        format!("PTX line {line} (`{text}`){source}")
    }

    /// A thread of a block, counted from its first, at an instruction.
    fn place(&self, pc: u32, block: [u32; 3], thread: u32) -> Place {
        let (line, text) = self.line_of(pc);
        let (kernel, origin) = (self.kernel.into(), self.source_of(pc));
        let (warp, lane) = (thread / LANES as u32, thread % LANES as u32);
        Place { kernel, line, text, origin, block, thread: self.thread_at(thread), warp, lane }
    }

    fn add_instructions(&self, count: u64) -> u64 {
        self.instructions.fetch_add(count, Relaxed) + count
    }

    fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    fn cancelled(&self) -> bool {
        self.cancel.is_some_and(|cancel| cancel.load(Relaxed))
    }
}

/// The parameters as they lie in the parameter block.
fn parameter_block(entry: &Entry, args: &[&[u8]]) -> Vec<u64> {
    let (offsets, size) = parameter_offsets(&entry.parameters);
    let mut block = vec![0u64; (size as usize).div_ceil(8) + 1];
    for (arg, offset) in args.iter().zip(offsets) {
        for (k, &byte) in arg.iter().enumerate() {
            let at = offset as usize + k;
            block[at / 8] |= u64::from(byte) << (8 * (at % 8));
        }
    }
    block
}

/// Everything about a launch that does not change while it runs.
pub(crate) struct Setup<'a> {
    pub entry: &'a Entry,
    pub module: &'a Module,
    pub limits: &'a Config,
    pub config: LaunchConfig,
    pub args: &'a [&'a [u8]],
    pub memory: MemoryView,
    pub options: &'a LaunchOptions<'a>,
}

/// What the threads of a launch have found out together.
#[derive(Default)]
struct Shared {
    error: Option<(u64, LaunchError)>,
    counts: Option<Counts>,
    traffic: Traffic,
    accesses: Vec<Accesses>,
    barriers: u64,
    printed: Vec<(u64, String)>,
}

/// Runs a checked launch.
pub(crate) fn run(setup: Setup, address: impl Fn(&str) -> u64) -> Result<LaunchStats, LaunchError> {
    let started = Instant::now();
    let Setup { entry, module, limits, config, args, memory, options } = setup;
    let program = &entry.program;
    let dynamic = program.dynamic_shared;
    let words =
        program.frame.image(PATTERN, |name| if name == "%dynamic_shared" { dynamic } else { address(name) });
    let image = words
        .chunks_exact(16)
        .map(|chunk| {
            let mut line = Line::ZERO;
            // SAFETY: a line is 16 words without padding.
            unsafe { std::ptr::copy_nonoverlapping(chunk.as_ptr(), (&raw mut line).cast::<u32>(), 16) };
            line
        })
        .collect();
    let threads: u32 = config.block.iter().product();
    let warps = threads.div_ceil(LANES as u32) as usize;
    let launch = Launch {
        program,
        kernel: entry.name(),
        module,
        config,
        cluster: cluster_of(entry, options.cluster),
        explicit_cluster: options.cluster.or(entry.required_cluster()).is_some(),
        registers: registers_of(entry, threads),
        threads,
        shared_bytes: if config.dynamic_shared_bytes == 0 {
            program.static_shared
        } else {
            dynamic + u64::from(config.dynamic_shared_bytes)
        },
        max_instructions: limits.max_instructions,
        schedule: options.schedule,
        image,
        specials: program.frame.specials().collect(),
        instructions: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        cancel: options.cancel,
    };
    let blocks: u64 = config.grid.iter().map(|&n| u64::from(n)).product();
    let clusters = blocks / launch.cluster.iter().map(|&n| u64::from(n)).product::<u64>();
    let order = match options.schedule {
        Schedule::InOrder => None,
        Schedule::Seeded(seed) => Some(BlockOrder::new(seed, clusters)),
    };
    let mut params = parameter_block(entry, args);
    let params_len = entry.params().last().map_or(0, |p| p.offset + p.size);
    let params_at = params.as_mut_ptr() as usize;
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let shared = Mutex::new(Shared::default());
    let printable = AtomicU64::new(MOST_PRINTED);
    let global =
        options.checks.then(|| Arc::new(Global::new(memory.lengths(), launch.shape(), program.has_fences())));
    let work = || {
        let mut runner = ClusterRunner::new(&launch);
        let mut cx = context(program, runner.blocks.len(), warps, (&memory, &printable), started);
        (cx.params, cx.params_len, cx.parameters) = (params_at as *mut u8, params_len, entry.params());
        cx.observed = options.counters || options.checks;
        cx.threads = threads;
        cx.checks = global.as_ref().map(|global| {
            let blocks = runner.blocks.len();
            Box::new(Checks::new(launch.shared_bytes, program.local_bytes, blocks, warps, Arc::clone(global)))
        });
        if options.counters {
            cx.profile = vec![Accesses::default(); program.code.len()];
        }
        loop {
            let index = next.fetch_add(1, Relaxed);
            if index >= clusters || launch.stopped() || launch.cancelled() {
                break;
            }
            let index = order.map_or(index, |order| order.at(index));
            if let Err(error) = runner.run(index, &mut cx) {
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                // Blocks that were only told to stop have no error of their own.
                if shared.error.is_none() {
                    shared.error = Some((index, *error));
                }
                launch.stop.store(true, Relaxed);
                break;
            }
            if !cx.printed.is_empty() {
                let text = std::mem::take(&mut cx.printed);
                shared.lock().unwrap_or_else(PoisonError::into_inner).printed.push((index, text));
            }
            let size = runner.blocks.len() as u64;
            let done = done.fetch_add(size, Relaxed) + size;
            if let Some(progress) = options.progress {
                progress(done, blocks);
            }
        }
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.barriers += runner.blocks.iter().map(|b| b.barriers_passed).sum::<u64>();
        add_traffic(&mut shared.traffic, &cx.traffic);
        if shared.accesses.is_empty() {
            shared.accesses = std::mem::take(&mut cx.profile);
        } else {
            shared.accesses.iter_mut().zip(&cx.profile).for_each(|(all, more)| *all += more);
        }
        for block in runner.blocks {
            match &mut shared.counts {
                Some(counts) => counts.merge(&block.counts),
                none => *none = Some(block.counts),
            }
        }
    };
    // A seed's order is that of one thread.
    let workers = if order.is_some() { 1 } else { (limits.threads.max(1) as u64).min(clusters) };
    if workers == 1 {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(work);
            }
        });
    }
    drop(params);
    let mut shared = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    let done = done.into_inner();
    if launch.cancelled() && done < blocks {
        return Err(LaunchError::Cancelled { kernel: entry.name().into(), done, blocks });
    }
    if let Some((_, error)) = shared.error {
        return Err(error);
    }
    shared.printed.sort();
    let counts = shared.counts.unwrap_or_else(|| Counts::new(program.code.len()));
    let mut stats = statistics(program, counts, &shared.accesses);
    stats.global_load_bytes = shared.traffic.global_load;
    stats.global_store_bytes = shared.traffic.global_store;
    stats.shared_load_bytes = shared.traffic.shared_load;
    stats.shared_store_bytes = shared.traffic.shared_store;
    stats.barriers = shared.barriers;
    stats.blocks = blocks;
    stats.printed = shared.printed.into_iter().map(|p| p.1).collect();
    stats.elapsed = started.elapsed();
    Ok(stats)
}

fn add_traffic(all: &mut Traffic, more: &Traffic) {
    all.global_load += more.global_load;
    all.global_store += more.global_store;
    all.shared_load += more.shared_load;
    all.shared_store += more.shared_store;
}

fn context<'a>(
    program: &'a Program,
    blocks: usize,
    warps: usize,
    (memory, printable): (&'a MemoryView, &'a AtomicU64),
    started: Instant,
) -> Cx<'a> {
    Cx {
        regs: std::ptr::null_mut(),
        live: 0,
        shared: std::ptr::null_mut(),
        shared_len: 0,
        local: std::ptr::null_mut(),
        local_len: 0,
        params: std::ptr::null_mut(),
        params_len: 0,
        parameters: &[],
        memory,
        caches: vec![Segment::EMPTY; program.caches as usize],
        extra: program.extra.as_ptr(),
        traffic: Traffic::default(),
        profile: Vec::new(),
        fault: None,
        other: None,
        members: 0,
        gathering: !0,
        barrier: BarrierRequest::default(),
        branch_targets: [0; LANES],
        functions: &program.functions,
        copies: vec![Copies::new(); blocks * warps],
        stores: (0..blocks * warps).map(|_| Stores::default()).collect(),
        products: (0..blocks * warps).map(|_| Products::default()).collect(),
        cluster: Cluster::new(blocks, warps),
        checks: None,
        observed: false,
        threads: 0,
        started,
        block: [0; 3],
        warp_in_block: 0,
        warp_in_cluster: 0,
        printed: String::new(),
        printable,
    }
}

/// Executions by line and mnemonic from the difference arrays; counters where `accesses` is not empty.
fn statistics(program: &Program, counts: Counts, accesses: &[Accesses]) -> LaunchStats {
    let mut stats = LaunchStats::default();
    let mut by_mnemonic = vec![(0u64, 0u64); program.mnemonics.len()];
    let work: Vec<Work> = program.mnemonics.iter().map(|m| Work::of(m)).collect();
    let (mut warps, mut lanes) = (0i64, 0i64);
    for at in 0..program.code.len() {
        warps += counts.warps[at];
        lanes += counts.lanes[at];
        if program.counted[at + 1] == program.counted[at] || warps == 0 {
            continue;
        }
        let (warps, lanes) = (warps as u64, lanes as u64);
        stats.warp_instructions += warps;
        stats.thread_instructions += lanes;
        let mnemonic = program.mnemonic[at] as usize;
        by_mnemonic[mnemonic].0 += warps;
        by_mnemonic[mnemonic].1 += lanes;
        stats.lines.push((program.lines[at], warps, lanes));
        let work = work[mnemonic];
        stats.matrix_flops += work.matrix_flops * warps;
        stats.ex2_operations += work.ex2 * lanes;
        stats.special_operations += work.special * lanes;
        if !accesses.is_empty() {
            let mut counters = line_counters(program, at, accesses);
            (counters.warps, counters.threads) = (warps, lanes);
            counters.matrix_flops = work.matrix_flops * warps;
            counters.ex2_operations = work.ex2 * lanes;
            counters.special_operations = work.special * lanes;
            stats.counters.push(counters);
        }
    }
    stats.mnemonics = program
        .mnemonics
        .iter()
        .zip(by_mnemonic)
        .filter(|(_, (warps, _))| *warps > 0)
        .map(|(name, (warps, threads))| MnemonicCount { name: name.clone(), warps, threads })
        .collect();
    stats.mnemonics.sort_by(|a, b| b.warps.cmp(&a.warps).then(a.name.cmp(&b.name)));
    stats
}

/// What the instruction at a place and those that decoding put after it did to memory.
fn line_counters(program: &Program, at: usize, accesses: &[Accesses]) -> LineCounters {
    let mut all = accesses[at];
    let added = (at + 1..program.code.len()).take_while(|&k| program.counted[k + 1] == program.counted[k]);
    for k in added {
        all += &accesses[k];
    }
    LineCounters {
        line: program.lines[at],
        mnemonic: program.mnemonics[program.mnemonic[at] as usize].clone(),
        shared_load_bytes: all.shared_load,
        shared_store_bytes: all.shared_store,
        shared_wavefronts: all.wavefronts,
        shared_conflicts: all.conflicts,
        global_load_bytes: all.global_load,
        global_store_bytes: all.global_store,
        global_requests: all.requests,
        global_sectors: all.sectors,
        local_load_bytes: all.local_load,
        local_store_bytes: all.local_store,
        ..LineCounters::default()
    }
}
