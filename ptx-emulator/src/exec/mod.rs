//! Execution of a grid: blocks dealt out to host threads.

mod block;
mod cluster;
mod counts;
mod limits;
pub(crate) mod printf;
mod resident;
mod schedule;
mod warp;

pub(crate) use counts::Counts;
pub(crate) use limits::check;
pub use schedule::Schedule;

use crate::checks::{Global, Shape};
use crate::decode::frame::Special;
use crate::decode::{Program, parameter_offsets};
use crate::error::{LaunchError, Place};
use crate::memory::{MemoryView, Segment};
use crate::module::{Entry, Module};
use crate::ops::cluster::Cluster;
use crate::ops::control::MOST_PRINTED;
use crate::ops::profile::Accesses;
use crate::ops::{BarrierRequest, Cx, LANES, Traffic};
use crate::stats::LaunchStats;
use crate::{Config, LaunchConfig, LaunchOptions};
use block::Line;
use counts::statistics;
use limits::{cluster_of, count, registers_of, resident_clusters, shared_bytes, warps_of};
use resident::{Looks, Worker};
use schedule::BlockOrder;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What registers and memory hold that nobody wrote.
pub(crate) const PATTERN: u32 = 0xdead_beef;
const PATTERN64: u64 = 0xdead_beef_dead_beef;

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
    looks: Looks,
    instructions: AtomicU64,
    stop: AtomicBool,
    cancel: Option<&'a AtomicBool>,
    /// The clusters of the grid, how many of them have begun, and in which order they do.
    clusters: u64,
    next: AtomicU64,
    order: Option<BlockOrder>,
    /// Clusters that are resident beside another one of their host thread, and how many of these there may be.
    beside: AtomicU64,
    most_beside: u64,
    /// Clusters that have ended, and how often one began, ended or went on without waiting for others.
    ended: AtomicU64,
    news: AtomicU64,
    /// The address of what blocks of a cooperative launch meet at, or 0.
    workspace: u64,
}

impl Launch<'_> {
    /// The next cluster of the grid, for a host thread that has others which have not ended, or has none.
    fn enter(&self, has_others: bool) -> Option<u64> {
        if self.next.load(Relaxed) >= self.clusters {
            return None;
        }
        let more = |n| (n < self.most_beside).then_some(n + 1);
        if has_others && self.beside.fetch_update(Relaxed, Relaxed, more).is_err() {
            return None;
        }
        let place = self.next.fetch_add(1, Relaxed);
        if place >= self.clusters {
            self.make_room(has_others);
            return None;
        }
        self.news.fetch_add(1, Relaxed);
        Some(self.order.map_or(place, |order| order.at(place)))
    }

    /// A cluster has ended.
    fn leave(&self, has_others: bool) {
        self.ended.fetch_add(1, Relaxed);
        self.news.fetch_add(1, Relaxed);
        self.make_room(has_others);
    }

    /// Clusters that have begun and not ended.
    fn live(&self) -> u64 {
        self.next.load(Relaxed).min(self.clusters).saturating_sub(self.ended.load(Relaxed))
    }

    fn make_room(&self, has_others: bool) {
        if has_others {
            self.beside.fetch_sub(1, Relaxed);
        }
    }

    /// Blocks that have not begun because as many as may be resident together have not ended.
    fn not_begun(&self) -> u64 {
        if self.beside.load(Relaxed) < self.most_beside {
            return 0;
        }
        self.clusters.saturating_sub(self.next.load(Relaxed)) * count(self.cluster)
    }

    /// Warps of a block.
    fn warps(&self) -> usize {
        warps_of(&self.config) as usize
    }

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
    /// See `Launch::workspace`.
    pub workspace: u64,
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
    let Setup { entry, module, limits, config, args, memory, options, workspace } = setup;
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
    let threads = count(config.block) as u32;
    let cluster = cluster_of(entry, options.cluster);
    let blocks = count(config.grid);
    let clusters = blocks / count(cluster);
    let order = match options.schedule {
        Schedule::InOrder => None,
        Schedule::Seeded(seed) => Some(BlockOrder::new(seed, clusters)),
    };
    let resident = resident_clusters(entry, limits, &config, options);
    // A seed's order is that of one thread.
    let workers =
        if order.is_some() { 1 } else { (limits.threads.max(1) as u64).min(clusters).min(resident) };
    let launch = Launch {
        program,
        kernel: entry.name(),
        module,
        config,
        cluster,
        explicit_cluster: options.cluster.or(entry.required_cluster()).is_some(),
        registers: registers_of(entry, threads),
        threads,
        shared_bytes: shared_bytes(program, &config),
        max_instructions: limits.max_instructions,
        schedule: options.schedule,
        image,
        specials: program.frame.specials().collect(),
        looks: Looks::new(program),
        instructions: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        cancel: options.cancel,
        clusters,
        next: AtomicU64::new(0),
        order,
        beside: AtomicU64::new(0),
        most_beside: resident - workers,
        ended: AtomicU64::new(0),
        news: AtomicU64::new(0),
        workspace,
    };
    let mut params = parameter_block(entry, args);
    let params_len = entry.params().last().map_or(0, |p| p.offset + p.size);
    let params_at = params.as_mut_ptr() as usize;
    let done = AtomicU64::new(0);
    let shared = Mutex::new(Shared::default());
    let printable = AtomicU64::new(MOST_PRINTED);
    let global =
        options.checks.then(|| Arc::new(Global::new(memory.lengths(), launch.shape(), program.has_fences())));
    let work = || {
        let mut cx = context(program, (&memory, &printable), started);
        (cx.params, cx.params_len, cx.parameters) = (params_at as *mut u8, params_len, entry.params());
        cx.observed = options.counters || options.checks;
        cx.threads = threads;
        if options.counters {
            cx.profile = vec![Accesses::default(); program.code.len()];
        }
        let mut worker = Worker::new(&launch, cx, global.clone());
        let result = worker.run(|index, text| {
            if !text.is_empty() {
                shared.lock().unwrap_or_else(PoisonError::into_inner).printed.push((index, text));
            }
            let done = done.fetch_add(blocks / clusters, Relaxed) + blocks / clusters;
            if let Some(progress) = options.progress {
                progress(done, blocks);
            }
        });
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err((index, error)) = result {
            // Blocks that were only told to stop have no error of their own.
            shared.error.get_or_insert((index, *error));
            launch.stop.store(true, Relaxed);
        }
        let (counts, barriers, mut cx) = worker.finish();
        shared.barriers += barriers;
        add_traffic(&mut shared.traffic, &cx.traffic);
        if shared.accesses.is_empty() {
            shared.accesses = std::mem::take(&mut cx.profile);
        } else {
            shared.accesses.iter_mut().zip(&cx.profile).for_each(|(all, more)| *all += more);
        }
        match &mut shared.counts {
            Some(all) => all.merge(&counts),
            none => *none = Some(counts),
        }
    };
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
    stats.constant_load_bytes = shared.traffic.constant_load;
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
    all.constant_load += more.constant_load;
    all.shared_load += more.shared_load;
    all.shared_store += more.shared_store;
}

/// A context without a cluster.
fn context<'a>(
    program: &'a Program,
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
        alone: false,
        barrier: BarrierRequest::default(),
        branch_targets: [0; LANES],
        functions: &program.functions,
        activations: &program.activations,
        copies: Vec::new(),
        stores: Vec::new(),
        products: Vec::new(),
        cluster: Cluster::new(0, 0),
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
