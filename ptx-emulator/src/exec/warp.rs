//! A warp: 32 lanes that run together as long as they can.
//!
//! The lanes are divided into paths, each with its own place in the code. A branch that lanes take differently splits a path;
//! a join at the branch's meeting place (see `cfg`) gathers the parts again. One path runs at a time, until it ends, meets,
//! waits, or has taken its share of branches, so that lanes that spin do not keep out the one that they wait for. Lanes at a
//! join are let go when nobody in the block can go on without them. Together that is the forward progress of sm_70 and later.

mod aligned;
mod barrier;
mod describe;

use super::Counts;
use super::schedule::Random;
use crate::decode::Program;
use crate::ops::wgmma::watch;
use crate::ops::{Cx, Flow, LANES, lanes_of};
use barrier::Gathering;

const NONE: u32 = u32::MAX;
/// Branches that a path may take before another path of the warp has its turn.
const TURN: u32 = 256;
/// Branches that a warp may take before another warp has its turn.
pub(super) const SLICE: u32 = 4096;

/// Slices of `SLICE` of nothing but branches after which lanes at joins are let go: what they wait for may be spinning for them. The
/// number halves each time, since such a kernel is likely to do it again.
const PATIENCE: u32 = 16;

/// Lanes at one place of the code.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub pc: u32,
    pub mask: u32,
    /// The innermost join that waits for these lanes.
    join: u32,
    pub state: State,
}

/// What a path does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// Waits at a barrier.
    Barrier(u32),
    /// Waits for the lanes of a member mask.
    Collective(u32),
    /// Tries its instruction again when the warp has its turn.
    Waiting,
    /// Waits for the warp's other lanes at an instruction that all of them must execute.
    Apart,
}

/// A place where lanes gather: the meeting place of a branch, or the return from a call.
#[derive(Clone, Copy, Debug)]
struct Join {
    pc: u32,
    expected: u32,
    arrived: u32,
    parent: u32,
    is_call: bool,
}

/// What came of running a warp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its share of time is over.
    Slice,
    /// No path can go on.
    Blocked,
    /// All lanes are at, or have passed by, this barrier.
    Barrier(BarrierArrival),
    /// All lanes have ended.
    Done,
    /// A lane failed at this place.
    Fault(u32),
}

/// A warp's share of time in a random order.
pub(super) struct Turn<'r> {
    /// After so many another warp has its turn.
    pub instructions: u32,
    /// Says which of several paths runs.
    pub random: &'r mut Random,
}

/// A whole warp's arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BarrierArrival {
    pub id: u32,
    pub count: Option<u32>,
    pub votes: u32,
    pub waits: bool,
    /// The part of the warp that came first, and one that came for another number of threads or in another way.
    pub first: AtBarrier,
    pub other: Option<AtBarrier>,
}

/// Lanes of a warp that come to a barrier: where, the first of them, for how many threads, and whether for a reduction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AtBarrier {
    pub pc: u32,
    pub warp: u32,
    pub lane: u32,
    pub threads: u32,
    /// By `bar.red`.
    pub reduces: bool,
}

#[derive(Debug)]
pub(super) struct Warp {
    pub index: u32,
    pub live: u32,
    pub paths: Vec<Path>,
    joins: Vec<Join>,
    free: Vec<u32>,
    gatherings: [Gathering; 16],
    next: usize,
    /// Branches left of the slice, and those of a whole one.
    slice: u32,
    whole: u32,
    /// Branches since a path last did anything but branch, in whole slices.
    stale: u32,
    patience: u32,
    /// Lanes left others behind, not at a branch.
    parted: bool,
}

impl Warp {
    pub(super) fn new(index: u32) -> Warp {
        Warp {
            index,
            live: 0,
            paths: Vec::new(),
            joins: Vec::new(),
            free: Vec::new(),
            gatherings: Default::default(),
            next: 0,
            slice: SLICE,
            whole: SLICE,
            stale: 0,
            patience: PATIENCE,
            parted: false,
        }
    }

    /// Puts the lanes in `mask` at the entrance.
    pub(super) fn start(&mut self, mask: u32) {
        self.live = mask;
        self.paths.clear();
        self.joins.clear();
        self.free.clear();
        self.gatherings = Default::default();
        self.next = 0;
        (self.slice, self.whole) = (SLICE, SLICE);
        (self.stale, self.patience, self.parted) = (0, PATIENCE, false);
        self.paths.push(Path { pc: 0, mask, join: NONE, state: State::Ready });
    }

    pub(super) fn is_ready(&self) -> bool {
        self.paths.iter().any(|p| p.state == State::Ready)
    }

    /// The branches so far do not count against the lanes at joins.
    pub(super) fn keep_together(&mut self) {
        self.stale = 0;
    }

    /// Runs until the warp can or may not go on; for as many branches at most.
    pub(super) fn run(&mut self, cx: &mut Cx, program: &Program, counts: &mut Counts, slice: u32) -> Outcome {
        (self.slice, self.whole) = (slice, slice);
        if cx.checks.is_some() && !program.watch.is_empty() {
            return self.run_as::<false, true>(cx, program, counts, &mut 0, |_| 0);
        }
        self.run_as::<false, false>(cx, program, counts, &mut 0, |_| 0)
    }

    /// As `run`, for a turn at most.
    pub(super) fn run_turn(
        &mut self,
        cx: &mut Cx,
        program: &Program,
        counts: &mut Counts,
        turn: Turn,
    ) -> Outcome {
        let Turn { mut instructions, random } = turn;
        let choose = |paths| random.below(paths);
        if cx.checks.is_some() && !program.watch.is_empty() {
            return self.run_as::<true, true>(cx, program, counts, &mut instructions, choose);
        }
        self.run_as::<true, false>(cx, program, counts, &mut instructions, choose)
    }

    /// Runs the warp; where it has a `TURN`, for so many instructions at most, and the path that `choose` says. Where it is
    /// `WATCHED`, registers that a `wgmma` owns are looked at.
    fn run_as<const IN_TURNS: bool, const WATCHED: bool>(
        &mut self,
        cx: &mut Cx,
        program: &Program,
        counts: &mut Counts,
        left: &mut u32,
        mut choose: impl FnMut(usize) -> usize,
    ) -> Outcome {
        for path in self.paths.iter_mut().filter(|p| p.state == State::Waiting) {
            path.state = State::Ready;
        }
        loop {
            // Lanes that arrived and have ended are an arrival too, when all others of the warp have ended.
            if let Some(arrival) = self.gathered() {
                return Outcome::Barrier(arrival);
            }
            if self.live == 0 {
                return Outcome::Done;
            }
            let count = self.paths.len();
            if IN_TURNS && count > 1 {
                self.next = choose(count);
            }
            let Some(at) =
                (0..count).map(|k| (self.next + k) % count).find(|&k| self.paths[k].state == State::Ready)
            else {
                match self.collective(cx, program, counts).or_else(|| self.meet(cx, program)) {
                    Some(Outcome::Slice) => continue,
                    Some(outcome) => return outcome,
                    None => return Outcome::Blocked,
                }
            };
            if self.slice == 0 {
                self.slice = self.whole;
                self.stale += self.whole;
                if self.stale > self.patience * SLICE && self.release() {
                    self.stale = 0;
                    self.patience /= 2;
                }
                return Outcome::Slice;
            }
            if IN_TURNS && *left == 0 {
                return Outcome::Slice;
            }
            let turn = if count == 1 { self.slice } else { self.slice.min(TURN) };
            let before = self.slice;
            self.slice -= turn;
            match self.run_path::<IN_TURNS, WATCHED>(at, turn, cx, program, counts, left) {
                Ok(branches) => self.slice += branches,
                Err(pc) => return Outcome::Fault(pc),
            }
            if before == self.slice && !(IN_TURNS && *left == 0) {
                // A path that stopped without a branch still took part of the slice.
                self.slice -= 1;
            }
        }
    }

    /// Runs one path; gives the branches left of its turn. Where it runs in turns, it stops when no instructions are left.
    fn run_path<const IN_TURNS: bool, const WATCHED: bool>(
        &mut self,
        at: usize,
        mut turn: u32,
        cx: &mut Cx,
        program: &Program,
        counts: &mut Counts,
        left: &mut u32,
    ) -> Result<u32, u32> {
        let Path { mut pc, mask, .. } = self.paths[at];
        let mut from = pc;
        cx.live = self.live;
        loop {
            if IN_TURNS {
                if *left == 0 {
                    if pc > from {
                        counts.add(program, from, pc - 1, mask);
                    }
                    self.paths[at].pc = pc;
                    return Ok(turn);
                }
                *left -= 1;
            }
            // SAFETY: every function ends with an instruction that leaves it, and branch targets lie in the code.
            let i = unsafe { program.code.get_unchecked(pc as usize) };
            // SAFETY: the decoder gave the offset of a predicate.
            let m = mask & (unsafe { cx.pred(i.guard) } ^ i.guard_not);
            if m != mask {
                counts.keep(pc, mask, m);
                if m == 0 {
                    pc += 1;
                    continue;
                }
            }
            if WATCHED
                && let Some(touched) = program.watch.get(pc as usize)
                && !touched.is_empty()
                && !watch(cx, touched, m)
            {
                counts.add(program, from, pc, mask);
                return Err(pc);
            }
            // SAFETY: the decoder gave registers as the handler needs them; the file is the current warp's.
            let flow = unsafe { (i.run)(cx, i, m) };
            match flow {
                Flow::Next => {
                    pc += 1;
                    continue;
                }
                Flow::Branch if m == mask => {
                    counts.add(program, from, pc, mask);
                    pc = i.imm as u32;
                    from = pc;
                    turn -= 1;
                    if turn == 0 {
                        self.paths[at].pc = pc;
                        self.next = at + 1;
                        return Ok(0);
                    }
                    continue;
                }
                Flow::Join => {
                    let join = self.paths[at].join;
                    if join == NONE || self.joins[join as usize].pc != pc || self.joins[join as usize].is_call
                    {
                        pc += 1;
                        continue;
                    }
                    counts.add(program, from, pc, mask);
                    self.paths.swap_remove(at);
                    self.arrive(join, mask);
                    return Ok(turn);
                }
                Flow::Fault => {
                    counts.add(program, from, pc, mask);
                    return Err(pc);
                }
                Flow::Apart => {
                    let waits = self.wait_apart(at, (pc, m), cx, program);
                    // It is counted when all lanes are there.
                    if !waits || pc > from {
                        counts.add(program, from, pc - u32::from(waits), mask);
                    }
                    return if waits { Ok(turn) } else { Err(pc) };
                }
                Flow::IndexedCall if let Some(lane) = self.calls_itself(at, pc, m, cx, program) => {
                    let what = "the call by address comes back to a function that it is in, which has other parameters than the call";
                    cx.fail(lane, what.into());
                    counts.add(program, from, pc, mask);
                    return Err(pc);
                }
                _ => {
                    // A collective is counted when it runs, with all its lanes, a wait when it is over.
                    if !matches!(flow, Flow::Collective | Flow::Wait) {
                        counts.add(program, from, pc, mask);
                    } else {
                        counts.forget(pc, mask, m);
                        if pc > from {
                            counts.add(program, from, pc - 1, mask);
                        }
                    }
                    self.paths[at].pc = pc;
                    self.leave(at, flow, m, cx, program);
                    return Ok(turn);
                }
            }
        }
    }

    /// A lane whose call by address goes to a function that it is in already and that has no activations (see `decode::activation`), so that
    /// it would lose its values: no call with such parameters can reach it.
    fn calls_itself(&self, at: usize, pc: u32, m: u32, cx: &Cx, program: &Program) -> Option<u32> {
        let has_activations =
            |start: u32| program.activations.iter().any(|a| program.functions[a.number as usize] == start);
        let start_of = |pc: u32| program.functions.iter().filter(|&&start| start <= pc).max().copied();
        let mut active = vec![start_of(pc)];
        let mut join = self.paths[at].join;
        while join != NONE {
            let Join { pc, parent, is_call, .. } = self.joins[join as usize];
            if is_call {
                active.push(start_of(pc - 1));
            }
            join = parent;
        }
        let wrong = |&l: &usize| {
            let target = cx.branch_targets[l] as u32;
            active.contains(&Some(target)) && !has_activations(target)
        };
        lanes_of(m).find(wrong).map(|l| l as u32)
    }

    /// Everything that changes the paths themselves. The path is at the instruction; `m` are the lanes that act.
    fn leave(&mut self, at: usize, flow: Flow, m: u32, cx: &mut Cx, program: &Program) {
        let Path { pc, mask, join, .. } = self.paths[at];
        let i = &program.code[pc as usize];
        let rest = mask & !m;
        if !matches!(flow, Flow::Branch | Flow::IndexedBranch) {
            self.stale = 0;
        }
        match flow {
            Flow::Branch => {
                let join = self.diverge(i.e, mask, join);
                self.paths.swap_remove(at);
                self.put(pc + 1, rest, join);
                self.put(i.imm as u32, m, join);
            }
            Flow::IndexedBranch => {
                let join = self.diverge(i.e, mask, join);
                self.paths.swap_remove(at);
                self.put(pc + 1, rest, join);
                self.spread(m, join, &cx.branch_targets);
            }
            Flow::Call | Flow::IndexedCall => {
                let back =
                    self.new_join(Join { pc: pc + 1, expected: m, arrived: 0, parent: join, is_call: true });
                if rest == 0 {
                    self.paths.swap_remove(at);
                } else {
                    // The lanes that do not call wait where the others come back.
                    self.joins[back as usize].expected = mask;
                    self.joins[back as usize].arrived = rest;
                    self.paths.swap_remove(at);
                }
                if flow == Flow::Call {
                    self.put(i.imm as u32, m, back);
                } else {
                    self.spread(m, back, &cx.branch_targets);
                }
            }
            Flow::Exit => {
                self.keep(at, rest, pc + 1);
                self.live &= !m;
                self.forget(m, join, NONE);
            }
            Flow::Return => {
                self.keep(at, rest, pc + 1);
                let mut call = join;
                while call != NONE && !self.joins[call as usize].is_call {
                    call = self.joins[call as usize].parent;
                }
                self.forget(m, join, call);
                if call != NONE {
                    self.arrive(call, m);
                }
            }
            Flow::Barrier => {
                let all = cx.threads.next_multiple_of(LANES as u32);
                self.at_barrier(at, m, rest, cx.barrier, all);
            }
            Flow::Collective => {
                // Lanes with other member masks try again.
                let (waits, state) =
                    (m & std::mem::replace(&mut cx.gathering, !0), State::Collective(cx.members));
                if waits == m {
                    self.split_waiting(at, m, rest, state);
                } else {
                    (self.paths[at].mask, self.paths[at].state) = (waits, state);
                    self.paths.push(Path { pc, mask: mask & !waits, join, state: State::Ready });
                    self.parted = true;
                }
            }
            Flow::Wait => self.split_waiting(at, m, rest, State::Waiting),
            Flow::Next | Flow::Join | Flow::Apart | Flow::Fault => {}
        }
    }

    /// What remains of a path whose other lanes left.
    fn keep(&mut self, at: usize, rest: u32, pc: u32) {
        if rest == 0 {
            self.paths.swap_remove(at);
        } else {
            (self.paths[at].mask, self.paths[at].pc) = (rest, pc);
        }
    }

    fn new_join(&mut self, join: Join) -> u32 {
        match self.free.pop() {
            Some(at) => {
                self.joins[at as usize] = join;
                at
            }
            None => {
                self.joins.push(join);
                self.joins.len() as u32 - 1
            }
        }
    }

    /// The join for lanes that part here: a new one, or the enclosing one where that gathers at the same place.
    fn diverge(&mut self, meeting: u32, mask: u32, join: u32) -> u32 {
        if meeting == NONE
            || join != NONE && self.joins[join as usize].pc == meeting && !self.joins[join as usize].is_call
        {
            return join;
        }
        self.new_join(Join { pc: meeting, expected: mask, arrived: 0, parent: join, is_call: false })
    }

    /// A new path, or an arrival where the place is that of its join.
    fn put(&mut self, pc: u32, mask: u32, join: u32) {
        if mask == 0 {
            return;
        }
        if join != NONE && self.joins[join as usize].pc == pc && !self.joins[join as usize].is_call {
            self.arrive(join, mask);
        } else {
            self.paths.push(Path { pc, mask, join, state: State::Ready });
        }
    }

    /// Paths for lanes that go to different places.
    fn spread(&mut self, m: u32, join: u32, targets: &[u64; LANES]) {
        let mut rest = m;
        while rest != 0 {
            let target = targets[rest.trailing_zeros() as usize];
            let same: u32 = lanes_of(rest).filter(|&l| targets[l] == target).map(|l| 1 << l).sum();
            self.put(target as u32, same, join);
            rest &= !same;
        }
    }

    fn arrive(&mut self, join: u32, mask: u32) {
        self.joins[join as usize].arrived |= mask;
        self.settle(join);
    }

    /// Lets the lanes of a join go when all are there.
    fn settle(&mut self, join: u32) {
        let Join { pc, expected, arrived, parent, .. } = self.joins[join as usize];
        if arrived != expected {
            return;
        }
        self.free.push(join);
        // A join that was never used again must not look like a place to meet.
        self.joins[join as usize].pc = NONE;
        if arrived != 0 {
            self.put(pc, arrived, parent);
        }
    }

    /// Joins from `join` outwards, up to but without `until`, no longer wait for these lanes.
    fn forget(&mut self, mask: u32, mut join: u32, until: u32) {
        while join != until && join != NONE {
            let parent = self.joins[join as usize].parent;
            self.joins[join as usize].expected &= !mask;
            self.settle(join);
            join = parent;
        }
    }

    /// Splits the lanes that wait from those that go on.
    fn split_waiting(&mut self, at: usize, m: u32, rest: u32, state: State) {
        self.paths[at].mask = m;
        self.paths[at].state = state;
        if rest != 0 {
            let Path { pc, join, .. } = self.paths[at];
            self.parted = true;
            self.put(pc + 1, rest, join);
        }
    }
}
