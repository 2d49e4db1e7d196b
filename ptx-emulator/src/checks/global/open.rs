//! Bytes of global memory that bulk copies write: at any time from the issue to the wait, which only then makes the writes the waiting
//! thread's (PTX manual, "Asynchronous operations").

use super::{Checks, Knowledge, Race, Run, WEAK};

/// What bulk copies of the cluster write that nobody has waited for.
#[derive(Debug, Default)]
pub(in crate::checks) struct OpenWrites {
    all: Vec<OpenWrite>,
    /// Of each copy that has not ended its number, and what its warp knew at the issue.
    copies: Vec<(u64, Knowledge)>,
    /// The number of the copy that was issued last.
    last: u64,
}

/// What one writes: its number, the range's address, and as whose access.
#[derive(Debug)]
struct OpenWrite {
    number: u64,
    address: u64,
    run: Run,
}

impl OpenWrites {
    pub(in crate::checks) fn clear(&mut self) {
        self.all.clear();
        self.copies.clear();
    }
}

impl Checks {
    /// A warp issues a bulk copy out of shared memory: its number, which `end_writes` takes.
    pub(crate) fn begin_writes(&mut self, warp: u32) -> u64 {
        let OpenWrites { copies, last, .. } = &mut self.open_writes;
        *last += 1;
        copies.push((*last, self.known[warp as usize].clone()));
        *last
    }

    /// The copy issued last writes this range.
    pub(crate) fn open_write(&mut self, address: u64, run: &Run) {
        self.open_writes.all.push(OpenWrite { number: self.open_writes.last, address, run: *run });
    }

    /// Whether bulk copies write anything that nobody has waited for.
    #[inline(always)]
    pub(crate) fn has_open_writes(&self) -> bool {
        !self.open_writes.all.is_empty()
    }

    /// The bulk copy that still writes bytes of an access, which is `issued` by one. The ranges of one copy do not race with one
    /// another, nor do two reductions.
    pub(crate) fn still_written(&self, run: &Run, issued: bool) -> Option<Race> {
        let own = if issued && run.writes { self.open_writes.last } else { 0 };
        let races = |open: &&OpenWrite| {
            let other = &open.run;
            open.number != own
                && other.segment == run.segment
                && other.offset < run.offset + run.length
                && run.offset < other.offset + other.length
                && (other.scope == WEAK || run.scope == WEAK)
        };
        let other = &self.open_writes.all.iter().find(races)?.run;
        Some(Race {
            offset: run.offset.max(other.offset),
            lane: other.lane,
            pc: Some(other.pc),
            wrote: true,
            narrow: false,
            block: self.global.shape.block_at(self.cluster, other.warp / self.block_warps),
            warp: other.warp,
            own_cluster: true,
        })
    }

    /// A bulk copy of a warp has been waited for: what it wrote is the warp's from now on. An error where others have touched a range, which
    /// it has with its address, since the issue.
    pub(crate) fn end_writes(&mut self, number: u64, warp: u32) -> Result<(), (u64, Run, Race)> {
        let OpenWrites { all, copies, .. } = &mut self.open_writes;
        let ended: Vec<_> = all.extract_if(.., |open| open.number == number).collect();
        let Some(place) = copies.iter().position(|(copy, _)| *copy == number) else { return Ok(()) };
        let (_, at_issue) = copies.swap_remove(place);
        // What the warp has learned since does not order accesses before the copy.
        let known = std::mem::replace(&mut self.known[warp as usize], at_issue);
        let found = ended
            .iter()
            .try_for_each(|open| self.touch(&open.run).map_err(|race| (open.address, open.run, race)));
        self.known[warp as usize] = known;
        found
    }
}
