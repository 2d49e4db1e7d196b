//! A warp: 32 lanes that run together as long as they can.
//!
//! The lanes are divided into paths, each with its own place in the code. A branch that lanes take differently splits a path;
//! a join at the branch's meeting place (see `cfg`) gathers the parts again. One path runs at a time, until it ends, meets,
//! waits, or has taken its share of branches, so that lanes that spin do not keep out the one that they wait for. Lanes at a
//! join are let go when nobody in the block can go on without them. Together that is the forward progress of sm_70 and later.

use super::Counts;
use super::path::{BarrierArrival, Gathering, Join, NONE, Outcome, Path, State};
use crate::decode::Program;
use crate::ops::{BarrierRequest, Cx, Flow, LANES, lanes_of};

/// Branches that a path may take before another path of the warp has its turn.
const TURN: u32 = 256;
/// Branches that a warp may take before another warp has its turn.
const SLICE: u32 = 4096;

/// Slices of nothing but branches after which lanes at joins are let go: what they wait for may be spinning for them. The
/// number halves each time, since such a kernel is likely to do it again.
const PATIENCE: u32 = 16;

#[derive(Debug)]
pub(super) struct Warp {
    pub index: u32,
    pub live: u32,
    pub paths: Vec<Path>,
    joins: Vec<Join>,
    free: Vec<u32>,
    gatherings: [Gathering; 16],
    next: usize,
    /// Slices since a path last did anything but branch.
    stale: u32,
    patience: u32,
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
            stale: 0,
            patience: PATIENCE,
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
        (self.stale, self.patience) = (0, PATIENCE);
        self.paths.push(Path { pc: 0, mask, join: NONE, state: State::Ready });
    }

    pub(super) fn is_ready(&self) -> bool {
        self.paths.iter().any(|p| p.state == State::Ready)
    }

    /// Runs until the warp can or may not go on.
    pub(super) fn run(&mut self, cx: &mut Cx, program: &Program, counts: &mut Counts) -> Outcome {
        let mut slice = SLICE;
        for path in self.paths.iter_mut().filter(|p| p.state == State::Waiting) {
            path.state = State::Ready;
        }
        loop {
            if self.live == 0 {
                return Outcome::Done;
            }
            if let Some(arrival) = self.gathered() {
                return Outcome::Barrier(arrival);
            }
            let count = self.paths.len();
            let Some(at) =
                (0..count).map(|k| (self.next + k) % count).find(|&k| self.paths[k].state == State::Ready)
            else {
                match self.collective(cx, program, counts) {
                    Some(Outcome::Slice) => continue,
                    Some(outcome) => return outcome,
                    None => return Outcome::Blocked,
                }
            };
            if slice == 0 {
                self.stale += 1;
                if self.stale > self.patience && self.release() {
                    self.stale = 0;
                    self.patience /= 2;
                }
                return Outcome::Slice;
            }
            let turn = if count == 1 { slice } else { slice.min(TURN) };
            let before = slice;
            slice -= turn;
            match self.run_path(at, turn, cx, program, counts) {
                Ok(left) => slice += left,
                Err(pc) => return Outcome::Fault(pc),
            }
            if before == slice {
                // A path that stopped without a branch still took part of the slice.
                slice -= 1;
            }
        }
    }

    /// Runs one path; gives the branches left of its turn.
    fn run_path(
        &mut self,
        at: usize,
        mut turn: u32,
        cx: &mut Cx,
        program: &Program,
        counts: &mut Counts,
    ) -> Result<u32, u32> {
        let Path { mut pc, mask, .. } = self.paths[at];
        let mut from = pc;
        cx.live = self.live;
        loop {
            // SAFETY: every function ends with an instruction that leaves it, and branch targets lie in the code.
            let i = unsafe { program.code.get_unchecked(pc as usize) };
            // SAFETY: the decoder gave the offset of a predicate.
            let m = mask & (unsafe { cx.pred(i.guard) } ^ i.guard_not);
            if m == 0 {
                pc += 1;
                continue;
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
                _ => {
                    // A collective is counted when it runs, with all its lanes, a wait when it is over.
                    if !matches!(flow, Flow::Collective | Flow::Wait) {
                        counts.add(program, from, pc, mask);
                    } else if pc > from {
                        counts.add(program, from, pc - 1, mask);
                    }
                    self.paths[at].pc = pc;
                    self.leave(at, flow, m, cx, program);
                    return Ok(turn);
                }
            }
        }
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
            Flow::Barrier => self.at_barrier(at, m, rest, cx.barrier),
            Flow::Collective => {
                self.split_waiting(at, m, rest, State::Collective(cx.members));
            }
            Flow::Wait => self.split_waiting(at, m, rest, State::Waiting),
            Flow::Next | Flow::Join | Flow::Fault => {}
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

    /// Lets the lanes that have gathered at some join go on without the others. False if there are none.
    pub(super) fn release(&mut self) -> bool {
        for at in 0..self.joins.len() {
            let Join { pc, arrived, parent, .. } = self.joins[at];
            if pc != NONE && arrived != 0 {
                self.joins[at].expected &= !arrived;
                self.joins[at].arrived = 0;
                self.put(pc, arrived, parent);
                return true;
            }
        }
        false
    }

    /// Splits the lanes that wait from those that go on.
    fn split_waiting(&mut self, at: usize, m: u32, rest: u32, state: State) {
        self.paths[at].mask = m;
        self.paths[at].state = state;
        if rest != 0 {
            let Path { pc, join, .. } = self.paths[at];
            self.put(pc + 1, rest, join);
        }
    }

    fn at_barrier(&mut self, at: usize, m: u32, rest: u32, request: BarrierRequest) {
        let g = &mut self.gatherings[request.id as usize];
        g.lanes |= m;
        g.votes |= request.votes;
        g.count = request.count;
        g.waits = request.waits;
        g.reduce = request.reduce;
        if request.waits {
            self.split_waiting(at, m, rest, State::Barrier(request.id));
        } else {
            self.paths[at].pc += 1;
        }
    }

    /// A barrier at which all live lanes are.
    fn gathered(&mut self) -> Option<BarrierArrival> {
        let live = self.live;
        let id = self.gatherings.iter().position(|g| g.lanes != 0 && live & !g.lanes == 0)?;
        let g = &mut self.gatherings[id];
        g.lanes = 0;
        let votes = std::mem::take(&mut g.votes);
        Some(BarrierArrival { id: id as u32, count: g.count, votes, waits: g.waits })
    }

    /// Lets the lanes at a barrier go on; `votes` is what `bar.red` found: (number, all, any).
    pub(super) fn pass_barrier(&mut self, id: u32, cx: &mut Cx, votes: (u32, bool, bool)) {
        let reduce = self.gatherings[id as usize].reduce;
        for path in self.paths.iter_mut().filter(|p| p.state == State::Barrier(id)) {
            path.state = State::Ready;
            path.pc += 1;
            if let Some((target, operation)) = reduce {
                // SAFETY: the decoder gave a 32-bit register for popc and a predicate otherwise; `cx` has this warp's file.
                unsafe {
                    match operation {
                        0 => cx.set_lanes(target, path.mask, &[votes.0; LANES]),
                        1 => cx.set_pred(target, path.mask, if votes.1 { !0 } else { 0 }),
                        _ => cx.set_pred(target, path.mask, if votes.2 { !0 } else { 0 }),
                    }
                }
            }
        }
    }

    /// Runs a collective for which all members now wait at one place.
    fn collective(&mut self, cx: &mut Cx, program: &Program, counts: &mut Counts) -> Option<Outcome> {
        cx.live = self.live;
        for at in 0..self.paths.len() {
            let Path { pc, state: State::Collective(members), .. } = self.paths[at] else { continue };
            let here = |p: &&Path| p.pc == pc && p.state == State::Collective(members);
            let union = self.paths.iter().filter(here).fold(0, |m, p| m | p.mask);
            if members & self.live & !union != 0 {
                continue;
            }
            let i = &program.code[pc as usize];
            counts.add(program, pc, pc, union);
            // SAFETY: as in `run_path`.
            if unsafe { (i.run)(cx, i, union) } == Flow::Fault {
                return Some(Outcome::Fault(pc));
            }
            for path in self.paths.iter_mut().filter(|p| p.pc == pc && p.state == State::Collective(members))
            {
                path.state = State::Ready;
                path.pc += 1;
            }
            return Some(Outcome::Slice);
        }
        None
    }

    /// Where and with which lanes the warp waits at a barrier.
    pub(super) fn waits_at(&self, id: u32) -> Option<(u32, u32)> {
        self.paths.iter().find(|p| p.state == State::Barrier(id)).map(|p| (p.pc, p.mask))
    }

    /// What the warp waits for, in words; `cx` is at this warp.
    pub(super) fn describe(&self, cx: &mut Cx, program: &Program, line: impl Fn(u32) -> String) -> String {
        let mut parts = Vec::new();
        for path in &self.paths {
            let what = match path.state {
                State::Ready => "ready".to_string(),
                State::Barrier(id) => format!("waits at barrier {id}"),
                State::Collective(members) => format!("waits for the lanes {members:#010x}"),
                State::Waiting => {
                    cx.cluster.explanation = Some(String::new());
                    let i = &program.code[path.pc as usize];
                    // SAFETY: as in `run_path`.
                    unsafe { (i.run)(cx, i, path.mask) };
                    format!("waits for {}", cx.cluster.explanation.take().unwrap_or_default())
                }
            };
            parts.push(format!("lanes {:#010x} {what}, {}", path.mask, line(path.pc)));
        }
        format!("warp {}: {}", self.index, parts.join("; "))
    }
}
