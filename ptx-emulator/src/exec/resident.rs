//! Clusters that are resident together, as on a device: those of one host thread run in turn, so that they can wait for one another.
//!
//! A cluster that ends within its first turn, which nearly all do, leaves its memory to the next one. One that does not is parked with its
//! registers, its memory and what is under way, the host thread begins the next one, and when no more may begin the parked
//! ones have their turns, one after another. How long a turn is depends on whether the cluster seems to wait for others: it stores nothing
//! while it reads global memory strongly again and again (`Looks`). Those that wait have short turns, so that a
//! barrier of the whole grid is passed soon; all others run long enough for the change not to show.

use super::block::BlockRunner;
use super::cluster::ClusterRunner;
use super::schedule::{Random, Schedule};
use super::warp::SLICE;
use super::{Counts, Launch};
use crate::checks::{Checks, Global};
use crate::decode::Program;
use crate::error::LaunchError;
use crate::ops::Cx;
use crate::ops::bulk::Stores;
use crate::ops::cluster::Cluster;
use crate::ops::copy::Copies;
use crate::ops::wgmma::Products;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Warp instructions of a cluster before it is looked at whether it waits for others, and between two such looks while it does not.
const FIRST: u64 = 1 << 13;
/// The shortest turn of a cluster that waits; it doubles as often as `LEVELS` says while the cluster runs through the same places of
/// the code, and, if it only reads, nothing happens elsewhere.
const SHORT: u64 = 1 << 11;
const LEVELS: u32 = 4;
/// After so many a cluster is taken to wait by its atomics: others do them as often as a lock that is tried again and again.
const ATOMICS: u64 = 1 << 16;
/// The longest turn.
const LONG: u64 = 1 << 22;
/// Branches after which a warp of a cluster that waits lets the next have its turn.
const SHORT_SLICE: u32 = 256;

/// Turns of a cluster that waits, while nothing happens elsewhere, after which lanes of its own that gathered at a join may be what it waits
/// for (see `warp`); and where other host threads have clusters, which may just not have a processor.
const PATIENCE: u32 = 4;
const PATIENCE_WITH_OTHERS: u32 = 1024;

/// Of so many instructions of a cluster that waits at least one is a strong read or a fence; of so many, at least one is an atomic.
const PER_READ: u64 = 256;
const PER_ATOMIC: u64 = 64;

/// The places of a program where it can notice what other clusters did, but for plain loads.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Strong loads of global memory, and fences, which may come with plain ones.
    reads: Vec<usize>,
    atomics: Vec<usize>,
}

impl Looks {
    pub(super) fn new(program: &Program) -> Looks {
        let mut looks = Looks::default();
        for at in (0..program.code.len()).filter(|&at| program.counted[at + 1] > program.counted[at]) {
            let mnemonic = &program.mnemonics[program.mnemonic[at] as usize];
            let mut parts = mnemonic.split('.');
            let opcode = parts.next().unwrap_or("");
            let has = |wanted: &[&str]| parts.clone().any(|part| wanted.contains(&part));
            if has(&["shared", "shared::cta", "shared::cluster", "local", "proxy"]) {
                continue;
            }
            match opcode {
                "ld" if has(&["volatile", "relaxed", "acquire", "mmio", "cv"]) => looks.reads.push(at),
                "fence" | "membar" => looks.reads.push(at),
                "atom" => looks.atomics.push(at),
                _ => {}
            }
        }
        looks
    }

    fn is_empty(&self) -> bool {
        self.reads.is_empty() && self.atomics.is_empty()
    }
}

/// What of the context belongs to a cluster.
struct Own {
    copies: Vec<Copies>,
    stores: Vec<Stores>,
    products: Vec<Products>,
    cluster: Cluster,
    checks: Option<Box<Checks>>,
    printed: String,
}

impl Own {
    fn new(blocks: usize, warps: usize, checks: Option<Box<Checks>>) -> Own {
        Own {
            copies: vec![Copies::new(); blocks * warps],
            stores: (0..blocks * warps).map(|_| Stores::default()).collect(),
            products: (0..blocks * warps).map(|_| Products::default()).collect(),
            cluster: Cluster::new(blocks, warps),
            checks,
            printed: String::new(),
        }
    }

    /// Before a turn and after it.
    fn exchange(&mut self, cx: &mut Cx) {
        std::mem::swap(&mut self.copies, &mut cx.copies);
        std::mem::swap(&mut self.stores, &mut cx.stores);
        std::mem::swap(&mut self.products, &mut cx.products);
        std::mem::swap(&mut self.cluster, &mut cx.cluster);
        std::mem::swap(&mut self.checks, &mut cx.checks);
        std::mem::swap(&mut self.printed, &mut cx.printed);
    }
}

/// A wait for other clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait {
    /// Stands for the places of the code that ran.
    places: u64,
    /// Turns that ran through the same ones, at most `LEVELS`.
    level: u32,
}

/// A cluster with all that it needs to run.
struct Resident<'l> {
    runner: ClusterRunner<'l>,
    own: Own,
    index: u64,
    /// It has had a turn.
    begun: bool,
    wait: Option<Wait>,
    /// What `Launch::news` was at its last turn, and its turns since that last changed.
    news: u64,
    quiet: u32,
}

/// A host thread's clusters.
pub(super) struct Worker<'l> {
    launch: &'l Launch<'l>,
    global: Option<Arc<Global>>,
    pub cx: Cx<'l>,
    /// Executions since somebody looked, and all before.
    recent: Counts,
    earlier: Counts,
    parked: VecDeque<Resident<'l>>,
    /// Of clusters that have ended.
    spare: Vec<Resident<'l>>,
    /// Says whose turn it is, in a random order.
    random: Option<Random>,
}

impl<'l> Worker<'l> {
    pub(super) fn new(launch: &'l Launch<'l>, cx: Cx<'l>, global: Option<Arc<Global>>) -> Worker<'l> {
        let code = launch.program.code.len();
        Worker {
            launch,
            global,
            cx,
            recent: Counts::new(code),
            earlier: Counts::new(code),
            parked: VecDeque::new(),
            spare: Vec::new(),
            random: match launch.schedule {
                Schedule::InOrder => None,
                Schedule::Seeded(seed) => Some(Random::new(seed, u64::MAX)),
            },
        }
    }

    /// Runs clusters until none is left or the launch is to stop. `ended` is told which one has ended, and what it printed. An error
    /// comes with the cluster's number.
    pub(super) fn run(&mut self, mut ended: impl FnMut(u64, String)) -> Result<(), (u64, Box<LaunchError>)> {
        while !self.launch.stopped() && !self.launch.cancelled() {
            let Some(mut resident) = self.next() else { break };
            resident.own.exchange(&mut self.cx);
            let has_ended = self.turn(&mut resident).map_err(|error| (resident.index, error))?;
            resident.own.exchange(&mut self.cx);
            if has_ended {
                self.launch.leave(!self.parked.is_empty());
                ended(resident.index, std::mem::take(&mut resident.own.printed));
                self.spare.push(resident);
            } else {
                self.parked.push_back(resident);
            }
        }
        Ok(())
    }

    /// All executions, and the barriers that were passed.
    pub(super) fn finish(mut self) -> (Counts, u64, Cx<'l>) {
        self.earlier.merge(&self.recent);
        let all = self.spare.iter().chain(&self.parked);
        let barriers = all.flat_map(|r| &r.runner.blocks).map(|b| b.barriers_passed).sum();
        (self.earlier, barriers, self.cx)
    }

    /// The cluster whose turn it is: one that has not begun, while more may be resident, or else one that is parked.
    fn next(&mut self) -> Option<Resident<'l>> {
        let parked = self.parked.len();
        let keep = parked > 0 && self.random.as_mut().is_some_and(|random| random.below(2) == 0);
        if !keep && let Some(index) = self.launch.enter(parked > 0) {
            let mut resident = self.spare.pop().unwrap_or_else(|| self.fresh());
            (resident.index, resident.begun, resident.wait) = (index, false, None);
            return Some(resident);
        }
        match &mut self.random {
            Some(random) if parked > 0 => self.parked.remove(random.below(parked)),
            _ => self.parked.pop_front(),
        }
    }

    fn fresh(&self) -> Resident<'l> {
        let launch = self.launch;
        let runner = ClusterRunner::new(launch);
        let (blocks, warps) = (runner.blocks.len(), launch.warps());
        let checks = self.global.as_ref().map(|global| {
            let (shared, local) = (launch.shared_bytes, launch.program.local_bytes);
            Box::new(Checks::new(shared, local, blocks, warps, Arc::clone(global)))
        });
        let own = Own::new(blocks, warps, checks);
        Resident { runner, own, index: 0, begun: false, wait: None, news: 0, quiet: 0 }
    }

    /// Before a turn of a cluster that waits: what it waits for is most likely something that others do. As long as they do anything, its
    /// warps keep together.
    fn expect_others(&self, resident: &mut Resident) {
        let news = self.launch.news.load(Relaxed);
        if std::mem::replace(&mut resident.news, news) != news {
            resident.quiet = 0;
        } else {
            resident.quiet = resident.quiet.saturating_add(1);
            std::thread::yield_now();
        }
        let alone = self.launch.live() <= self.parked.len() as u64 + 1;
        if resident.quiet < if alone { PATIENCE } else { PATIENCE_WITH_OTHERS } {
            resident.runner.blocks.iter_mut().for_each(BlockRunner::keep_together);
        }
    }

    /// A cluster's turn; true if it has ended. The context is the cluster's.
    fn turn(&mut self, resident: &mut Resident) -> Result<bool, Box<LaunchError>> {
        if resident.begun && resident.wait.is_some() {
            self.expect_others(resident);
        }
        let runner = &mut resident.runner;
        let (mut window, mut slice) = (SHORT, SHORT_SLICE);
        if !std::mem::replace(&mut resident.begun, true) {
            runner.begin(resident.index, &mut self.cx);
            let first = if self.launch.looks.is_empty() { LONG } else { FIRST };
            if runner.advance(&mut self.cx, &mut self.recent, first, SLICE)? {
                return Ok(true);
            }
        } else if self.launch.looks.is_empty() {
            return runner.advance(&mut self.cx, &mut self.recent, LONG, SLICE);
        } else if let Some(Wait { level, .. }) = resident.wait {
            window = SHORT << level;
        }
        if self.launch.looks.is_empty() {
            return Ok(false);
        }
        let mut used = 0;
        loop {
            // What has run so far is looked at in time proportional to the code.
            let least = self.launch.program.code.len() as u64;
            self.earlier.merge(&self.recent);
            self.recent.clear();
            let (from, stores) = (self.recent.executed, self.stores());
            if runner.advance(&mut self.cx, &mut self.recent, window.max(least), slice)? {
                return Ok(true);
            }
            let ran = self.recent.executed - from;
            used += ran;
            let tries = resident.wait.is_some() || used >= ATOMICS;
            resident.wait = self.waits(ran, stores == self.stores(), tries).map(|(places, reads)| {
                // What is only read may change with whatever another cluster does.
                let stays = |wait: &Wait| wait.places == places && !(reads && resident.quiet == 0);
                let level = resident.wait.filter(stays).map_or(0, |wait| (wait.level + 1).min(LEVELS));
                Wait { places, level }
            });
            if resident.wait.is_some() {
                return Ok(false);
            }
            self.launch.news.fetch_add(1, Relaxed);
            if used >= LONG {
                return Ok(false);
            }
            (window, slice) = (FIRST, SLICE);
        }
    }

    /// Bytes that have been stored.
    fn stores(&self) -> [u64; 2] {
        [self.cx.traffic.global_store, self.cx.traffic.shared_store]
    }

    /// Whether the cluster whose `ran` last instructions are the `recent` ones seems to wait for others; gives a number that stands for
    /// the places that ran, and whether it only reads. `quiet`: it stored nothing. `tries`: atomics count.
    fn waits(&self, ran: u64, quiet: bool, tries: bool) -> Option<(u64, bool)> {
        let mut executions = vec![0; self.recent.warps.len()];
        let (mut now, mut places) = (0i64, 0u64);
        for (at, (change, executions)) in self.recent.warps.iter().zip(&mut executions).enumerate() {
            now += change;
            *executions = now as u64;
            if now != 0 {
                // FNV-1a (Fowler, Noll, Vo), a place at a time.
                places = (places ^ at as u64).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        let sum = |looks: &[usize]| looks.iter().map(|&at| executions[at]).sum::<u64>();
        let reads = quiet && sum(&self.launch.looks.reads) * PER_READ >= ran;
        (reads || tries && sum(&self.launch.looks.atomics) * PER_ATOMIC >= ran).then_some((places, reads))
    }
}
