//! Where the lanes of a warp gather: at the block's barriers, at which they then arrive together, and at collective instructions.

use super::{AtBarrier, BarrierArrival, Outcome, Path, State, Warp};
use crate::decode::Program;
use crate::exec::Counts;
use crate::ops::{BarrierRequest, Cx, Flow, LANES};

/// What a warp's lanes have said at one barrier so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gathering {
    lanes: u32,
    votes: u32,
    count: Option<u32>,
    waits: bool,
    reduce: Option<(u32, u32)>,
    /// Who came first, and who came for another number of threads or in another way.
    first: AtBarrier,
    other: Option<AtBarrier>,
}

impl AtBarrier {
    /// Whether both may come to one barrier: for one number of threads, and both for a reduction or neither (PTX manual, "barrier").
    pub(in crate::exec) fn agrees(self, other: AtBarrier) -> bool {
        (self.threads, self.reduces) == (other.threads, other.reduces)
    }
}

impl Warp {
    /// The lanes in `m` of a path are at a barrier; `rest`, its others, go on. A barrier that does not say is for `all` threads.
    pub(super) fn at_barrier(&mut self, at: usize, m: u32, rest: u32, request: BarrierRequest, all: u32) {
        let here = AtBarrier {
            pc: self.paths[at].pc,
            warp: self.index,
            lane: m.trailing_zeros(),
            threads: request.count.unwrap_or(all),
            reduces: request.reduce.is_some(),
        };
        let g = &mut self.gatherings[request.id as usize];
        if g.lanes == 0 {
            (g.first, g.other) = (here, None);
        } else if !here.agrees(g.first) {
            g.other = Some(here);
        }
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
    pub(super) fn gathered(&mut self) -> Option<BarrierArrival> {
        let live = self.live;
        let id = self.gatherings.iter().position(|g| g.lanes != 0 && live & !g.lanes == 0)?;
        let g = &mut self.gatherings[id];
        g.lanes = 0;
        let votes = std::mem::take(&mut g.votes);
        let Gathering { count, waits, first, other, .. } = *g;
        Some(BarrierArrival { id: id as u32, count, votes, waits, first, other })
    }

    /// Lets the lanes at a barrier go on; `votes` is what `bar.red` found: (number, all, any).
    pub(in crate::exec) fn pass_barrier(&mut self, id: u32, cx: &mut Cx, votes: (u32, bool, bool)) {
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

    /// Where and with which lanes the warp waits at a barrier.
    pub(in crate::exec) fn waits_at(&self, id: u32) -> Option<(u32, u32)> {
        self.paths.iter().find(|p| p.state == State::Barrier(id)).map(|p| (p.pc, p.mask))
    }

    /// Runs a collective for which all members now wait at one place.
    pub(super) fn collective(
        &mut self,
        cx: &mut Cx,
        program: &Program,
        counts: &mut Counts,
    ) -> Option<Outcome> {
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
}
