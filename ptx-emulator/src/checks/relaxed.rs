//! Arrivals and waits that order no memory (`.relaxed`), at mbarriers and at the cluster's barrier (PTX manual, "mbarrier.arrive",
//! "barrier.cluster" and "Memory Consistency Model"): they say that the block runs, and nothing else. An arrival still ends a
//! release pattern, and a wait begins an acquire pattern: what a warp knew at a fence before the one is handed on, and what was
//! handed to the other is known after its next fence. `fence.mbarrier_init` is such a fence for mbarriers that its thread has initialised,
//! and nothing else.

use super::flags;
use super::order::{CLUSTER, Clock, Knowledge, PARTIES};
use super::{BLOCK, CLUSTER_WIDE, Checks, Scope};
use std::sync::Arc;

/// For each party the time before which mbarriers that it initialised are there; most often nobody needs it.
pub(super) type Initialised = Option<Arc<Clock>>;

/// Both together.
pub(super) fn merge(all: &mut Initialised, more: &Initialised) {
    flags::merge_with(all, more, flags::later);
}

/// What is handed on at the cluster's barrier to the warps of one block.
fn part_of(rank: u32) -> (u32, u32) {
    (CLUSTER.0, CLUSTER.1 + 1 + rank)
}

impl Checks {
    /// A warp's `fence.mbarrier_init`.
    pub(crate) fn fence_mbarriers(&mut self, warp: u32) {
        self.fence(warp);
        let (w, now) = (warp as usize, self.now);
        let initialised = self.known[w].initialised.get_or_insert_with(|| Arc::new([0; PARTIES]));
        Arc::make_mut(initialised)[w] = now;
    }

    /// A warp arrives `.relaxed` at an mbarrier or at the cluster's barrier.
    pub(crate) fn arrive_relaxed(&mut self, barrier: (u32, u32), warp: u32) {
        let rank = warp / self.block_warps;
        if barrier == CLUSTER {
            self.hand_on_fenced(barrier, warp, CLUSTER_WIDE);
            self.hand_on_fenced(part_of(rank), warp, BLOCK);
        } else {
            // Only its own block waits for an mbarrier.
            self.hand_on_fenced(barrier, warp, if barrier.0 == rank { BLOCK } else { CLUSTER_WIDE });
        }
    }

    /// Hands on what a warp knew at its last fence of a scope or a wider one.
    fn hand_on_fenced(&mut self, barrier: (u32, u32), warp: u32, scope: Scope) {
        let w = warp as usize;
        let known = self.fences[w].known_at(scope);
        let begun = self.known[w].begun;
        let own = self.known[w].initialised.as_ref().map(|all| all[w]);
        let current = self.current(barrier);
        current.begun |= begun;
        if let Some(known) = known {
            current.merge(&known);
        }
        if let Some(time) = own {
            let all = Arc::make_mut(current.initialised.get_or_insert_with(|| Arc::new([0; PARTIES])));
            all[w] = all[w].max(time);
        }
    }

    /// All warps have arrived at the cluster's barrier.
    pub(crate) fn cluster_settled(&mut self) {
        self.settled(CLUSTER);
        for rank in 0..(self.warps as u32 / self.block_warps) {
            if self.phases.contains_key(&part_of(rank)) {
                self.settled(part_of(rank));
            }
        }
    }

    /// A warp has waited at the cluster's barrier.
    pub(crate) fn acquire_cluster(&mut self, warp: u32) {
        let part = part_of(warp / self.block_warps);
        if self.phases.contains_key(&part) {
            self.acquire(part, warp);
        }
        self.acquire(CLUSTER, warp);
    }

    /// A warp has waited `.relaxed` for a phase that is over.
    pub(crate) fn wait_relaxed(&mut self, barrier: (u32, u32), warp: u32) {
        let done = self.done(barrier).clone();
        self.known[warp as usize].begun |= done.begun;
        match &mut self.waited[warp as usize] {
            Some(waited) => waited.merge(&done),
            none => *none = Some(Box::new(done)),
        }
    }

    /// A warp's fence, after which it knows what its relaxed waits were handed.
    pub(super) fn fence_waits(&mut self, warp: usize) {
        if let Some(waited) = self.waited[warp].take() {
            self.known[warp].merge(&waited);
            self.note_least(warp);
            self.sync_lanes(warp as u32);
        }
    }
}

impl Knowledge {
    /// Whether what a party wrote at a time is an mbarrier's beginning that is there by `fence.mbarrier_init`, if it is one at all.
    pub(super) fn has_initialised(&self, party: usize, time: u32) -> bool {
        self.initialised.as_ref().is_some_and(|all| time < all[party])
    }
}
