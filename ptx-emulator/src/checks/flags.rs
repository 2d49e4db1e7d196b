//! Order that is handed on through memory: what came before a fence and a strong write after it comes before what follows a fence
//! after a strong read of the same place (the PTX manual's release and acquire patterns, section "Memory Consistency Model").
//!
//! A place keeps all that has ever been handed on through it, and a reader takes all of that at its fence: its read may have seen
//! an older value, in which case a race remains unseen in this order of the blocks. The decoder makes a fence before each release,
//! for the next write alone, and one after each acquire, for the last read alone.

use super::Checks;
use super::global::{BLOCK, CLUSTER_WIDE, DEVICE, Scope, WEAK};
use super::order::{Clock, Knowledge};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError};

/// How a fence acts: its scope in the low two bits; 0 is no fence for memory.
pub(crate) type Fence = u32;
/// For the next write alone.
pub(crate) const RELEASE: Fence = 4;
/// For the last read alone.
pub(crate) const ACQUIRE: Fence = 8;

/// A word that threads hand order on through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flag {
    /// By its address over 4.
    Global(u64),
    /// Rank of the block in the cluster, and offset over 4.
    Shared(u32, u64),
}

/// What a party handed on.
#[derive(Clone, Debug)]
pub(super) struct Released {
    cluster: u64,
    block: u32,
    scope: Scope,
    known: Arc<Knowledge>,
}

/// What a warp's fences and strong reads have gathered.
#[derive(Debug, Default)]
pub(super) struct Fences {
    /// What it knew at its last fence of each scope or a wider one; of a release, until its write.
    before: [Option<Arc<Knowledge>>; 3],
    next: Option<(Scope, Arc<Knowledge>)>,
    /// What it has read since its last fence, and with the last instruction.
    reads: HashSet<(Flag, Scope)>,
    last: Vec<(Flag, Scope)>,
}

/// For clusters other than the own one the times of their parties, up to which their events are ordered before one's own.
pub(super) type Others = BTreeMap<u64, Clock>;

/// What has been handed on through shared memory.
pub(super) type SharedFlags = HashMap<(u32, u64), Vec<Released>>;

impl Checks {
    /// A warp's fence.
    pub(crate) fn fence_memory(&mut self, warp: u32, how: Fence) {
        let scope = how & 3;
        if scope == WEAK || !self.global.has_fences {
            return;
        }
        let w = warp as usize;
        if how & ACQUIRE == 0 {
            let known = Arc::new(self.hand_on(w));
            let fences = &mut self.fences[w];
            if how & RELEASE != 0 {
                fences.next = Some((scope, known));
            } else {
                fences.before[..scope as usize].fill(Some(known));
            }
        }
        if how & RELEASE == 0 {
            let fences = &mut self.fences[w];
            let reads: Vec<_> = match how & ACQUIRE {
                0 => fences.reads.drain().collect(),
                _ => std::mem::take(&mut fences.last),
            };
            for (flag, reach) in reads {
                self.take(w, flag, scope.min(reach));
            }
        }
    }

    /// An instruction of a warp accesses these words strongly.
    pub(crate) fn strong_access(
        &mut self,
        warp: u32,
        scope: Scope,
        (reads, writes): (bool, bool),
        flags: impl Iterator<Item = Flag>,
    ) {
        if !self.global.has_fences {
            return;
        }
        let fences = &mut self.fences[warp as usize];
        let mut given: Vec<(Scope, Arc<Knowledge>)> = Vec::new();
        if writes {
            given.extend(fences.next.take());
            for reach in [DEVICE, CLUSTER_WIDE, BLOCK] {
                if let Some(known) = &fences.before[reach as usize - 1]
                    && !given.iter().any(|(_, other)| Arc::ptr_eq(known, other))
                {
                    given.push((reach, Arc::clone(known)));
                }
            }
        }
        if reads {
            fences.last.clear();
        }
        for flag in flags {
            if reads {
                let fences = &mut self.fences[warp as usize];
                fences.reads.insert((flag, scope));
                fences.last.push((flag, scope));
            }
            for (reach, known) in &given {
                self.give(warp, flag, scope.min(*reach), known);
            }
        }
    }

    /// Hands on what a warp knew through a word.
    fn give(&mut self, warp: u32, flag: Flag, scope: Scope, known: &Arc<Knowledge>) {
        let (cluster, block) = (self.cluster, warp / self.block_warps);
        let put = |all: &mut Vec<Released>| {
            let own = |r: &&mut Released| (r.cluster, r.block, r.scope) == (cluster, block, scope);
            match all.iter_mut().find(own) {
                Some(released) => Arc::make_mut(&mut released.known).merge(known),
                None => all.push(Released { cluster, block, scope, known: Arc::clone(known) }),
            }
        };
        match flag {
            Flag::Shared(rank, word) => put(self.shared_flags.entry((rank, word)).or_default()),
            Flag::Global(word) => {
                let mut all = self.global.released.lock().unwrap_or_else(PoisonError::into_inner);
                put(all.entry(word).or_default());
            }
        }
    }

    /// A warp comes after what has been handed on through a word.
    fn take(&mut self, warp: usize, flag: Flag, scope: Scope) {
        let (cluster, block) = (self.cluster, warp as u32 / self.block_warps);
        let reaches = |r: &&Released| match scope.min(r.scope) {
            BLOCK => (r.cluster, r.block) == (cluster, block),
            CLUSTER_WIDE => r.cluster == cluster,
            _ => true,
        };
        let all = match flag {
            Flag::Shared(rank, word) => self.shared_flags.get(&(rank, word)).cloned().unwrap_or_default(),
            Flag::Global(word) => {
                let all = self.global.released.lock().unwrap_or_else(PoisonError::into_inner);
                all.get(&word).map(|all| all.iter().filter(reaches).cloned().collect()).unwrap_or_default()
            }
        };
        let known = &mut self.known[warp];
        for released in all.iter().filter(reaches) {
            if released.cluster == cluster {
                known.merge(&released.known);
                continue;
            }
            let others = Arc::make_mut(known.others.get_or_insert_default());
            let clocks = released.known.others.iter().flat_map(|others| others.iter());
            for (&from, clock) in clocks.chain([(&released.cluster, &released.known.seen)]) {
                if from == cluster {
                    later(&mut known.seen, clock);
                } else {
                    later(others.entry(from).or_insert([0; super::PARTIES]), clock);
                }
            }
        }
        self.note_least(warp);
    }
}

/// The later time of each party.
pub(super) fn later(all: &mut Clock, more: &Clock) {
    for (all, more) in all.iter_mut().zip(more) {
        *all = (*all).max(*more);
    }
}
