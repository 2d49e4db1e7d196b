//! Bytes of global memory that bulk copies write: at any time from the issue to the wait, which only then makes the writes the waiting
//! thread's (PTX manual, "Asynchronous operations").

use super::{Checks, Knowledge, Race, Run, WEAK};

/// What bulk copies of the cluster write that nobody has waited for.
#[derive(Debug, Default)]
pub(in crate::checks) struct OpenWrites {
    copies: Vec<OpenCopy>,
    /// The number of the copy that was issued last.
    last: u64,
}

/// What one writes.
#[derive(Debug)]
struct OpenCopy {
    number: u64,
    /// What its warp knew at the issue.
    at_issue: Knowledge,
    /// The ranges: the address of each, and as whose access.
    runs: Vec<(u64, Run)>,
}

impl OpenWrites {
    pub(in crate::checks) fn clear(&mut self) {
        self.copies.clear();
    }
}

impl Checks {
    /// A warp issues a bulk copy out of shared memory: its number, which `end_writes` takes.
    pub(crate) fn begin_writes(&mut self, warp: u32) -> u64 {
        let OpenWrites { copies, last } = &mut self.open_writes;
        *last += 1;
        copies.push(OpenCopy {
            number: *last,
            at_issue: self.known[warp as usize].clone(),
            runs: Vec::new(),
        });
        *last
    }

    /// The copy issued last writes this range.
    pub(crate) fn open_write(&mut self, address: u64, run: &Run) {
        if let Some(copy) = self.open_writes.copies.last_mut() {
            copy.runs.push((address, *run));
        }
    }

    /// Whether there are bulk copies that nobody has waited for.
    #[inline(always)]
    pub(crate) fn has_open_writes(&self) -> bool {
        !self.open_writes.copies.is_empty()
    }

    /// The bulk copy that still writes bytes of an access, which is `issued` by one. The ranges of one copy do not race with one
    /// another, nor do two reductions by copies.
    pub(crate) fn still_written(&self, run: &Run, issued: bool) -> Option<Race> {
        let OpenWrites { copies, last } = &self.open_writes;
        let own = if issued && run.writes { *last } else { 0 };
        let races = |other: &&Run| {
            other.segment == run.segment
                && other.offset < run.offset + run.length
                && run.offset < other.offset + other.length
                && !(run.bulk && other.scope != WEAK && run.scope != WEAK)
        };
        let others = copies.iter().filter(|copy| copy.number != own).flat_map(|copy| &copy.runs);
        let other = others.map(|(_, other)| other).find(races)?;
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
        let copies = &mut self.open_writes.copies;
        let Some(place) = copies.iter().position(|copy| copy.number == number) else { return Ok(()) };
        let OpenCopy { at_issue, runs, .. } = copies.remove(place);
        // What the warp has learned since does not order accesses before the copy.
        let known = std::mem::replace(&mut self.known[warp as usize], at_issue);
        let found =
            runs.iter().try_for_each(|(address, run)| self.touch(run).map_err(|race| (*address, *run, race)));
        self.known[warp as usize] = known;
        found
    }
}
