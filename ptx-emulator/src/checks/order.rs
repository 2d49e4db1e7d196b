//! What is ordered before what: barriers of every kind, and proxy fences.

use super::Checks;
use super::flags::{self, Others, later};
use super::global::Fenced;
use super::relaxed::{self, Initialised};
use std::sync::Arc;

/// Warps of a cluster and, after them, the bulk copies that report to one mbarrier each.
pub(crate) const PARTIES: usize = 64;

/// For each party the time up to which its events are ordered before one's own.
pub(super) type Clock = [u32; PARTIES];

/// What a warp or a barrier knows.
#[derive(Clone, Debug)]
pub(crate) struct Knowledge {
    /// Events that are ordered before what comes next.
    pub(super) seen: Clock,
    /// Those that are so for the async proxy in shared memory too: a proxy fence came after them.
    pub(super) fenced: Clock,
    /// Mbarriers that are there for those who use them, ordered or not.
    pub(super) initialised: Initialised,
    /// Events of other clusters that are ordered before what comes next.
    pub(super) others: Option<Arc<Others>>,
    /// Those that are so for the async proxy in global memory, of other clusters too; none before the first fence for it.
    pub(super) fenced_global: Option<Arc<Fenced>>,
    /// A bit for each block of the cluster that is known to have begun.
    pub(super) begun: u16,
}

impl Knowledge {
    pub(crate) fn at(time: u32) -> Knowledge {
        Knowledge {
            seen: [time; PARTIES],
            fenced: [time; PARTIES],
            initialised: None,
            others: None,
            fenced_global: None,
            begun: 0,
        }
    }

    pub(super) fn merge(&mut self, other: &Knowledge) {
        later(&mut self.seen, &other.seen);
        later(&mut self.fenced, &other.fenced);
        self.begun |= other.begun;
        relaxed::merge(&mut self.initialised, &other.initialised);
        flags::merge(&mut self.others, &other.others);
        flags::merge_with(&mut self.fenced_global, &other.fenced_global, Fenced::merge);
    }
}

/// What the arrivals of a phase hand to those who wait for it.
#[derive(Debug)]
pub(super) struct Phase {
    current: Knowledge,
    done: Knowledge,
}

/// The cluster's own barrier, beside the mbarriers.
pub(crate) const CLUSTER: (u32, u32) = (u32::MAX, 0);

impl Checks {
    /// A warp is at a barrier: what the barrier's clock takes from it. A warp that does not wait goes on at a later time.
    pub(crate) fn arrive(&mut self, barrier: &mut Knowledge, warp: u32, waits: bool) {
        barrier.merge(&self.known[warp as usize]);
        if !waits {
            self.now += 1;
            self.record[warp as usize] = 0;
            barrier.seen[warp as usize] = self.now;
        }
    }

    /// A warp hands on all that it has done and seen: what it does next is later.
    pub(super) fn hand_on(&mut self, warp: usize) -> Knowledge {
        self.now += 1;
        self.record[warp] = 0;
        let mut known = self.known[warp].clone();
        known.seen[warp] = self.now;
        known
    }

    /// A barrier is complete: the warps in `waiting` go on after all that its members did.
    pub(crate) fn complete(&mut self, mut barrier: Knowledge, waiting: u64) {
        self.now += 1;
        let members = || (0..PARTIES).filter(|w| waiting >> w & 1 != 0);
        for w in members() {
            barrier.seen[w] = self.now;
        }
        for w in members() {
            self.known[w].clone_from(&barrier);
            self.record[w] = 0;
            self.note_least(w);
            self.sync_lanes(w as u32);
        }
    }

    /// The time of what happens now.
    pub(crate) fn now(&self) -> u32 {
        self.now
    }

    /// Whether what a warp did at a time is ordered before what another does next.
    pub(crate) fn is_ordered(&self, earlier: u32, time: u32, later: u32) -> bool {
        time < self.known[later as usize].seen[earlier as usize]
    }

    pub(super) fn note_least(&mut self, warp: usize) {
        self.least[warp] = self.known[warp].seen[..self.parties_used()].iter().min().copied().unwrap_or(0);
    }

    /// Warps, and bulk copies of mbarriers that have had any.
    pub(super) fn parties_used(&self) -> usize {
        self.warps + self.parties.len().min(PARTIES - self.warps)
    }

    fn phase(&mut self, barrier: (u32, u32)) -> &mut Phase {
        let start = self.start;
        let fresh = || Phase { current: Knowledge::at(start), done: Knowledge::at(start) };
        self.phases.entry(barrier).or_insert_with(fresh)
    }

    /// What the arrivals of a phase that is not over have handed on.
    pub(super) fn current(&mut self, barrier: (u32, u32)) -> &mut Knowledge {
        &mut self.phase(barrier).current
    }

    /// What those of the last phase have.
    pub(super) fn done(&mut self, barrier: (u32, u32)) -> &Knowledge {
        &self.phase(barrier).done
    }

    /// A warp arrives at an mbarrier or at the cluster's barrier.
    pub(crate) fn release(&mut self, barrier: (u32, u32), warp: u32) {
        let known = self.hand_on(warp as usize);
        self.phase(barrier).current.merge(&known);
    }

    /// A phase is over.
    pub(crate) fn settled(&mut self, barrier: (u32, u32)) {
        let start = self.start;
        let phase = self.phase(barrier);
        phase.done = std::mem::replace(&mut phase.current, Knowledge::at(start));
    }

    /// A warp has waited for a phase that is over.
    pub(crate) fn acquire(&mut self, barrier: (u32, u32), warp: u32) {
        let done = self.phase(barrier).done.clone();
        self.known[warp as usize].merge(&done);
        self.note_least(warp as usize);
        self.sync_lanes(warp);
    }

    /// A warp's proxy fence for shared memory: all that it has done and seen is there for the async proxy.
    pub(crate) fn fence(&mut self, warp: u32) {
        self.now += 1;
        let own = &mut self.known[warp as usize];
        own.fenced = own.seen;
        own.fenced[warp as usize] = self.now;
    }

    /// The party of the bulk copies that report to an mbarrier. Where there are many, some share one.
    fn party_of(&mut self, barrier: (u32, u32)) -> usize {
        if let Some(&party) = self.parties.get(&barrier) {
            return party;
        }
        let party = self.warps + self.parties.len() % (PARTIES - self.warps);
        self.parties.insert(barrier, party);
        // Nobody knows of its events yet.
        let start = self.start;
        self.least.iter_mut().for_each(|l| *l = (*l).min(start));
        party
    }

    /// A bulk copy has written `size` bytes, at most 64 and within as many, and reports to an mbarrier.
    pub(crate) fn bulk_wrote(&mut self, barrier: (u32, u32), rank: u32, offset: u64, size: u64) {
        let party = self.party_of(barrier);
        let at = offset + u64::from(rank) * self.stride;
        for writer in &mut self.cells.writers[(at / 4) as usize..((at + size) / 4) as usize] {
            *writer = writer.with_warp(party as u8);
        }
        self.copied(rank, offset, size);
    }

    /// A warp issues a bulk copy that reports to an mbarrier: its block has begun, and all that it knows of.
    pub(crate) fn bulk_issued(&mut self, barrier: (u32, u32), warp: u32) {
        let begun = self.known[warp as usize].begun;
        self.phase(barrier).current.begun |= begun;
    }

    /// All that has been written for an mbarrier so far is there for those who wait for its phase.
    pub(crate) fn bulk_done(&mut self, barrier: (u32, u32)) {
        let party = self.party_of(barrier);
        self.now += 1;
        let now = self.now;
        self.phase(barrier).current.seen[party] = now;
    }
}
