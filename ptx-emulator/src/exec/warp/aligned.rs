//! Lanes at an instruction that all of their warp must execute, where others of the warp may still come: those that other lanes left behind
//! other than at a branch, by a wait or a collective of a part, or when they were let go from a join without them.

use super::{Join, NONE, Outcome, Path, State, Warp};
use crate::decode::Program;
use crate::ops::Cx;

impl Warp {
    /// Lets the lanes that have gathered at some join go on without the others. False if there are none.
    pub(in crate::exec) fn release(&mut self) -> bool {
        for at in 0..self.joins.len() {
            let Join { pc, arrived, parent, .. } = self.joins[at];
            if pc != NONE && arrived != 0 {
                self.joins[at].expected &= !arrived;
                self.joins[at].arrived = 0;
                self.parted = true;
                self.put(pc, arrived, parent);
                return true;
            }
        }
        false
    }

    /// The lanes in `m` of a path are at an instruction that all of the warp must execute, and are not all: whether they wait for the others.
    pub(super) fn wait_apart(
        &mut self,
        at: usize,
        (pc, m): (u32, u32),
        cx: &mut Cx,
        program: &Program,
    ) -> bool {
        let path = &mut self.paths[at];
        // What a guard keeps out goes on without them.
        if m != path.mask || !self.parted {
            accuse(cx, program, pc, m);
            return false;
        }
        (path.pc, path.state) = (pc, State::Apart);
        true
    }

    /// No path can go on. Where all lanes have come to one instruction, they go on together; where no others can come to those that wait,
    /// these are accused. None where neither is so.
    pub(super) fn meet(&mut self, cx: &mut Cx, program: &Program) -> Option<Outcome> {
        let first = *self.paths.iter().find(|p| p.state == State::Apart)?;
        let here = |p: &&Path| (p.pc, p.join, p.state) == (first.pc, first.join, State::Apart);
        if self.paths.iter().filter(here).fold(0, |all, p| all | p.mask) == self.live {
            self.paths.clear();
            self.paths.push(Path { mask: self.live, state: State::Ready, ..first });
            self.parted = false;
            return Some(Outcome::Slice);
        }
        let apart = self.paths.iter().filter(|p| p.state == State::Apart).fold(0, |all, p| all | p.mask);
        let may_come = |p: &Path| match p.state {
            State::Ready | State::Waiting | State::Barrier(_) => true,
            State::Collective(members) => members & apart == 0,
            State::Apart => false,
        };
        if self.paths.iter().any(may_come) { None } else { self.accuse(cx, program) }
    }

    /// Lanes that wait for the others of the warp do so in vain: the first of them have a fault.
    pub(in crate::exec) fn accuse(&mut self, cx: &mut Cx, program: &Program) -> Option<Outcome> {
        let Path { pc, mask, .. } = *self.paths.iter().find(|p| p.state == State::Apart)?;
        cx.live = self.live;
        Some(accuse(cx, program, pc, mask))
    }
}

/// The lanes in `m` are at an instruction that all of the warp must execute, and are accused of that.
pub(super) fn accuse(cx: &mut Cx, program: &Program, pc: u32, m: u32) -> Outcome {
    cx.alone = true;
    let i = &program.code[pc as usize];
    // SAFETY: as in `run_path`.
    unsafe { (i.run)(cx, i, m) };
    cx.alone = false;
    Outcome::Fault(pc)
}
