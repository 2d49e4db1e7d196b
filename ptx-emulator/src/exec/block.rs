//! A block: its warps in turn, its barriers, its shared and local memory.

mod exit;

use super::limits::{count, own_shared_bytes};
use super::schedule::{Random, Schedule};
use super::warp::{AtBarrier, BarrierArrival, Outcome, Turn, Warp};
use super::{Counts, Launch};
use crate::checks::Knowledge;
use crate::decode::frame::Special;
use crate::decode::special::RESERVED;
use crate::error::LaunchError;
use crate::ops::bulk::Stores;
use crate::ops::copy::Copies;
use crate::ops::registers::Changes;
use crate::ops::wgmma::Products;
use crate::ops::{Cx, LANES};

/// Alignment of a warp's register file.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct Line([u32; 16]);

impl Line {
    pub(super) const ZERO: Line = Line([0; 16]);
}

/// One barrier of the block.
#[derive(Clone, Debug, Default)]
struct Barrier {
    warps: u32,
    count: Option<u32>,
    votes: u32,
    voters: u32,
    any: bool,
    /// The first of the warps that came.
    first: Option<AtBarrier>,
    /// Warps that wait, one bit each.
    waiting: u32,
    /// For the checks: what is ordered before the barrier's end.
    known: Option<Box<Knowledge>>,
}

/// What is needed to run a block, used again for others.
pub(super) struct BlockRunner<'l> {
    launch: &'l Launch<'l>,
    warps: Vec<Warp>,
    registers: Vec<Line>,
    shared: Vec<u64>,
    local: Vec<u64>,
    barriers: [Barrier; 16],
    ended: Vec<bool>,
    /// In which order the warps have their turns, and the numbers that change it.
    order: Vec<usize>,
    random: Option<Random>,
    pub rank: usize,
    pub block: [u32; 3],
    /// Warps that have not ended.
    pub alive: usize,
    pub barriers_passed: u64,
}

/// Barriers that a warp may pass in one turn: where it is the only one of its block it waits for nobody.
const BARRIERS: u32 = 16;

impl<'l> BlockRunner<'l> {
    pub(super) fn new(launch: &'l Launch<'l>, rank: usize) -> Self {
        let program = launch.program;
        let warps = launch.warps();
        let lines = program.frame.bytes as usize / 64 * warps;
        let local = program.local_bytes as usize * LANES * warps;
        BlockRunner {
            launch,
            warps: (0..warps as u32).map(Warp::new).collect(),
            registers: vec![Line::ZERO; lines],
            shared: vec![0; (launch.shared_bytes as usize).div_ceil(8)],
            local: vec![0; local.div_ceil(8)],
            barriers: Default::default(),
            ended: vec![false; warps],
            order: (0..warps).collect(),
            random: None,
            rank,
            block: [0; 3],
            alive: 0,
            barriers_passed: 0,
        }
    }

    /// Gives each warp of the block a turn, of `slice` branches where the order is not random. True if one of them got on.
    pub(super) fn round(
        &mut self,
        cx: &mut Cx,
        counts: &mut Counts,
        slice: u32,
    ) -> Result<bool, Box<LaunchError>> {
        let mut progress = false;
        if let Some(random) = &mut self.random {
            random.shuffle(&mut self.order);
        }
        for place in 0..self.warps.len() {
            let w = self.order[place];
            if self.ended[w] {
                continue;
            }
            self.enter(w, cx);
            let mut barriers = 0;
            loop {
                let outcome = match &mut self.random {
                    None => self.warps[w].run(cx, self.launch.program, counts, slice),
                    Some(random) => {
                        let turn = Turn { instructions: random.turn(), random };
                        self.warps[w].run_turn(cx, self.launch.program, counts, turn)
                    }
                };
                match outcome {
                    Outcome::Slice => progress = true,
                    Outcome::Blocked => {}
                    Outcome::Barrier(arrival) => {
                        progress = true;
                        self.arrive(arrival, w, cx)?;
                        barriers += 1;
                        if self.random.is_none() && barriers < BARRIERS {
                            self.enter(w, cx);
                            continue;
                        }
                    }
                    Outcome::Done => {
                        progress = true;
                        self.ended[w] = true;
                        self.alive -= 1;
                        cx.cluster.peers[self.rank].ended = self.alive == 0;
                        self.check_barriers(cx)?;
                        self.check_end(w, cx)?;
                    }
                    Outcome::Fault(pc) => return Err(Box::new(self.fault(w, pc, cx))),
                }
                break;
            }
            cx.cluster.live[self.rank * self.warps.len() + w] = self.warps[w].live;
            self.flush(cx, counts)?;
        }
        Ok(progress)
    }

    /// Whether a warp can go on, or can be let go on without some of its lanes.
    pub(super) fn can_go_on(&mut self) -> bool {
        self.warps.iter().any(Warp::is_ready) || self.warps.iter_mut().any(Warp::release)
    }

    /// The block waits for another one: lanes that gathered at a join are not let go for it.
    pub(super) fn keep_together(&mut self) {
        self.warps.iter_mut().for_each(Warp::keep_together);
    }

    /// Adds to the launch's instruction count and stops where it passes the limit or another block failed.
    fn flush(&mut self, cx: &mut Cx, counts: &mut Counts) -> Result<(), Box<LaunchError>> {
        let executed = std::mem::take(&mut counts.unflushed);
        counts.executed += executed;
        if self.launch.cancelled() {
            // `run` says how far the launch came.
            let kernel = self.launch.kernel.into();
            return Err(Box::new(LaunchError::Cancelled { kernel, done: 0, blocks: 0 }));
        }
        let Some(limit) = self.launch.max_instructions else {
            return if self.launch.stopped() { Err(Box::new(self.deadlock(cx))) } else { Ok(()) };
        };
        let done = self.launch.add_instructions(executed);
        if done > limit {
            let mut state = self.state(cx);
            if state.is_empty() {
                state = "all of its warps have ended".into();
            }
            return Err(Box::new(LaunchError::InstructionLimit {
                kernel: self.launch.kernel.into(),
                limit,
                block: self.block,
                state,
                not_begun: self.launch.not_begun(),
            }));
        }
        if self.launch.stopped() { Err(Box::new(self.deadlock(cx))) } else { Ok(()) }
    }

    /// Fresh memory, registers and warps for a block of the grid.
    pub(super) fn prepare(&mut self, block: [u32; 3], cx: &mut Cx) {
        self.block = block;
        self.alive = self.warps.len();
        self.order.sort_unstable();
        if let Schedule::Seeded(seed) = self.launch.schedule {
            let [x, y, _] = self.launch.config.grid.map(u64::from);
            let [bx, by, bz] = block.map(u64::from);
            self.random = Some(Random::new(seed, bx + x * (by + y * bz)));
        }
        let launch = self.launch;
        // Shared and local memory begin with the pattern of registers that nobody wrote.
        self.shared.fill(super::PATTERN64);
        self.local.fill(super::PATTERN64);
        let peer = &mut cx.cluster.peers[self.rank];
        peer.shared = self.shared.as_mut_ptr() as *mut u8;
        peer.mbarriers.clear();
        peer.ended = false;
        cx.shared_len = launch.shared_bytes;
        cx.local_len = launch.program.local_bytes;
        self.barriers = Default::default();
        self.ended.fill(false);
        let own = self.rank * self.warps.len()..(self.rank + 1) * self.warps.len();
        cx.copies[own.clone()].iter_mut().for_each(Copies::clear);
        cx.stores[own.clone()].iter_mut().for_each(Stores::clear);
        cx.products[own.clone()].iter_mut().for_each(Products::clear);
        cx.cluster.arrived[own.clone()].fill(0);
        cx.cluster.open[own.clone()].fill(0);
        cx.cluster.registers[own.clone()].fill(launch.registers);
        cx.cluster.changes[own.clone()].fill(Changes::default());
        cx.cluster.free[self.rank] = 0;
        let lines = launch.program.frame.bytes as usize / 64;
        for (w, warp) in self.warps.iter_mut().enumerate() {
            let first = w as u32 * LANES as u32;
            let lanes = (launch.threads - first).min(LANES as u32);
            warp.start(if lanes == 32 { !0 } else { (1 << lanes) - 1 });
            cx.cluster.live[own.start + w] = warp.live;
            let file = &mut self.registers[w * lines..(w + 1) * lines];
            file.copy_from_slice(&launch.image);
            // SAFETY: `Line` is 16 words without padding.
            let words = unsafe { std::slice::from_raw_parts_mut(file.as_mut_ptr() as *mut u32, lines * 16) };
            for &(special, offset) in &launch.specials {
                let register = &mut words[offset as usize / 4..][..LANES];
                for (lane, value) in register.iter_mut().enumerate() {
                    *value = launch.special(special, block, self.rank, first + lane as u32);
                }
            }
        }
    }

    /// Points the context to a warp.
    fn enter(&mut self, w: usize, cx: &mut Cx) {
        let program = self.launch.program;
        let stride = program.frame.bytes as usize;
        cx.regs = self.registers.as_mut_ptr().wrapping_byte_add(w * stride) as *mut u8;
        cx.local =
            self.local.as_mut_ptr().wrapping_byte_add(w * LANES * program.local_bytes as usize) as *mut u8;
        cx.block = self.block;
        cx.warp_in_block = w as u32;
        cx.warp_in_cluster = (self.rank * self.warps.len() + w) as u32;
        cx.cluster.rank = self.rank as u32;
        cx.shared = self.shared.as_mut_ptr() as *mut u8;
    }

    fn arrive(&mut self, arrival: BarrierArrival, w: usize, cx: &mut Cx) -> Result<(), Box<LaunchError>> {
        let barrier = &mut self.barriers[arrival.id as usize];
        let earlier = *barrier.first.get_or_insert(arrival.first);
        if cx.checks.is_some() {
            // Parts of one warp, or this warp and one before it.
            let parties = match arrival.other {
                Some(other) => Some((other, arrival.first)),
                None => (!earlier.agrees(arrival.first)).then_some((arrival.first, earlier)),
            };
            if let Some((own, earlier)) = parties {
                return Err(Box::new(self.two_ways(arrival.id, own, earlier)));
            }
        }
        barrier.warps += 1;
        barrier.count = arrival.count;
        barrier.votes += arrival.votes.count_ones();
        barrier.voters += self.warps[w].live.count_ones();
        barrier.any |= arrival.votes != 0;
        barrier.waiting |= u32::from(arrival.waits) << w;
        if let Some(checks) = &mut cx.checks {
            let known = barrier.known.get_or_insert_with(|| Box::new(Knowledge::at(0)));
            checks.arrive(known, (self.rank * self.warps.len() + w) as u32, arrival.waits);
        }
        self.check_barriers(cx)
    }

    /// Lets go whom a completed barrier held.
    fn check_barriers(&mut self, cx: &mut Cx) -> Result<(), Box<LaunchError>> {
        let alive =
            self.ended.iter().zip(&self.warps).filter(|(ended, w)| !**ended && w.live != 0).count() as u32;
        for id in 0..16 {
            let barrier = &self.barriers[id];
            let complete = match barrier.count {
                _ if barrier.warps == 0 => false,
                // Threads that have ended are not waited for.
                None => barrier.warps >= alive,
                Some(count) => barrier.warps * LANES as u32 >= count,
            };
            if !complete {
                continue;
            }
            let votes = (barrier.votes, barrier.votes == barrier.voters, barrier.any);
            if let Some(checks) = &mut cx.checks {
                if barrier.count.is_none() && (alive as usize) < self.warps.len() {
                    return Err(Box::new(self.incomplete(id as u32)));
                }
                if let Some(known) = &barrier.known {
                    let waiting = u64::from(barrier.waiting) << (self.rank * self.warps.len());
                    checks.complete((**known).clone(), waiting);
                }
            }
            self.barriers[id] = Barrier::default();
            self.barriers_passed += 1;
            cx.cluster.events += 1;
            for w in 0..self.warps.len() {
                self.enter(w, cx);
                self.warps[w].pass_barrier(id as u32, cx, votes);
            }
        }
        Ok(())
    }

    /// A barrier for all threads which some never reached.
    fn incomplete(&self, id: u32) -> LaunchError {
        let ended: Vec<String> =
            self.warps.iter().filter(|w| w.live == 0).map(|w| w.index.to_string()).collect();
        let what = format!(
            "barrier {id} is for all threads of the block, but ended without it: warps {}",
            ended.join(", ")
        );
        self.fault_at(id, what)
    }

    /// An arrival at a barrier for another number of threads than an earlier one, or in another way.
    fn two_ways(&self, id: u32, own: AtBarrier, earlier: AtBarrier) -> LaunchError {
        let how = |at: AtBarrier| if at.reduces { "a reduction" } else { "no reduction" };
        let (here, there) = if own.threads == earlier.threads {
            (how(own).to_string(), how(earlier).to_string())
        } else {
            (format!("{} threads", own.threads), earlier.threads.to_string())
        };
        let what = format!(
            "warp {} is at barrier {id} with {here}, after the arrival by warp {} with {there} at {}",
            own.warp,
            earlier.warp,
            self.launch.in_words(earlier.pc)
        );
        self.error(own.pc, own.warp * LANES as u32 + own.lane, what)
    }

    /// An error of the first warp that waits at a barrier.
    fn fault_at(&self, id: u32, what: String) -> LaunchError {
        let waiting = self.warps.iter().find_map(|w| Some((w.index, w.waits_at(id)?)));
        let (warp, (pc, lanes)) = waiting.unwrap_or_default();
        let thread = warp * LANES as u32 + lanes.trailing_zeros() % LANES as u32;
        self.error(pc, thread, what)
    }

    /// What a thread of the block did at an instruction.
    fn error(&self, pc: u32, thread: u32, what: String) -> LaunchError {
        LaunchError::Fault { place: Box::new(self.launch.place(pc, self.block, thread)), what }
    }

    /// What a warp has done wrong at an instruction, as the context has it.
    pub(super) fn fault(&mut self, w: usize, pc: u32, cx: &mut Cx) -> LaunchError {
        let Some(fault) = cx.fault.take() else { return self.deadlock(cx) };
        let mut what = fault.what;
        if let Some(other) = fault.other {
            what += &format!(" at {}", self.launch.in_words(other));
        }
        self.error(pc, w as u32 * LANES as u32 + fault.lane, what)
    }

    /// Nobody can go on: lanes that wait for others of their warp at an instruction for all of it do so in vain.
    pub(super) fn accuse(&mut self, cx: &mut Cx) -> Option<LaunchError> {
        (0..self.warps.len()).find_map(|w| {
            self.enter(w, cx);
            let Outcome::Fault(pc) = self.warps[w].accuse(cx, self.launch.program)? else { return None };
            Some(self.fault(w, pc, cx))
        })
    }

    /// Where every warp is that has not ended, and what it waits for.
    pub(super) fn state(&mut self, cx: &mut Cx) -> String {
        let mut state = Vec::new();
        for w in (0..self.warps.len()).filter(|&w| !self.ended[w]).collect::<Vec<_>>() {
            self.enter(w, cx);
            let line = |pc| {
                let (line, text) = self.launch.line_of(pc);
                let source = self.launch.source_of(pc).map(|source| format!(", source {source}"));
                format!("PTX line {line}: `{text}`{}", source.unwrap_or_default())
            };
            state.push(self.warps[w].describe(cx, self.launch.program, line));
        }
        state.join("; ")
    }

    fn deadlock(&mut self, cx: &mut Cx) -> LaunchError {
        let state = self.state(cx);
        LaunchError::Deadlock { kernel: self.launch.kernel.into(), block: self.block, state }
    }
}

impl Launch<'_> {
    /// Bytes of a block's shared memory without those of the system, in whole units.
    fn own_shared(&self, unit: u32) -> u32 {
        (own_shared_bytes(self.program, &self.config) as u32).next_multiple_of(unit)
    }

    /// The value of a special register for a thread.
    fn special(&self, special: Special, block: [u32; 3], rank: usize, thread: u32) -> u32 {
        let lane = thread % LANES as u32;
        let in_cluster = |k: u8| block[k as usize] % self.cluster[k as usize];
        let clusters = |k: u8| self.config.grid[k as usize] / self.cluster[k as usize];
        match special {
            Special::Tid(k) => self.thread_at(thread)[k as usize],
            Special::Ntid(k) => self.config.block[k as usize],
            Special::Ctaid(k) => block[k as usize],
            Special::Nctaid(k) => self.config.grid[k as usize],
            Special::LaneId => lane,
            Special::WarpId => thread / LANES as u32,
            Special::NumWarps => self.warps() as u32,
            Special::SmId => 0,
            Special::NumSm => 1,
            Special::GridId => 1,
            Special::MaskEq => 1 << lane,
            Special::MaskLt => (1 << lane) - 1,
            Special::MaskLe => (1u32 << lane) | ((1 << lane) - 1),
            Special::MaskGe => !((1 << lane) - 1),
            Special::MaskGt => !((1u32 << lane) | ((1 << lane) - 1)),
            Special::ClusterCtaid(k) => in_cluster(k),
            Special::ClusterNctaid(k) => self.cluster[k as usize],
            Special::ClusterRank => rank as u32,
            Special::ClusterSize => count(self.cluster) as u32,
            Special::ExplicitCluster => self.explicit_cluster.into(),
            Special::Clusterid(k) => block[k as usize] / self.cluster[k as usize],
            Special::Nclusterid(k) => clusters(k),
            Special::DynamicShared => self.config.dynamic_shared_bytes,
            Special::TotalShared { unit } => self.own_shared(unit),
            Special::AggregateShared { unit } => self.own_shared(unit) + RESERVED as u32,
            Special::GridWorkspace { high } => (self.workspace >> if high { 32 } else { 0 }) as u32,
        }
    }
}
