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
use std::hash::{BuildHasherDefault, Hasher};
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
    /// The warp, where what it knew is all that has been handed on.
    giver: Option<u32>,
    known: Arc<Knowledge>,
}

impl Released {
    /// Whether a strong read of this scope by a block of a cluster takes it.
    fn reaches(&self, scope: Scope, cluster: u64, block: u32) -> bool {
        match scope.min(self.scope) {
            BLOCK => (self.cluster, self.block) == (cluster, block),
            CLUSTER_WIDE => self.cluster == cluster,
            _ => true,
        }
    }
}

/// What a warp's fences and strong reads have gathered.
#[derive(Debug, Default)]
pub(super) struct Fences {
    /// What it knew at its last fence of each scope or a wider one; of a release, until its write.
    before: [Option<Arc<Knowledge>>; 3],
    next: Option<(Scope, Arc<Knowledge>)>,
    /// What it has read since its last fence, and with the last instruction.
    reads: HashSet<(Flag, Scope), Mixed>,
    last: Vec<(Flag, Scope)>,
    /// Whether `reads` has all of `last`, and whether a fence for `last` alone has come.
    noted: bool,
    taken: bool,
    /// What it took last, which a warp that waits finds again and again.
    found: Vec<(u64, Arc<Knowledge>)>,
}

impl Fences {
    /// What the warp knew at its last fence of a scope or a wider one.
    pub(super) fn known_at(&self, scope: Scope) -> Option<Arc<Knowledge>> {
        self.before[scope as usize - 1].clone()
    }

    /// An instruction reads these words strongly.
    fn note_reads(&mut self, flags: &[Flag], scope: Scope) {
        let same = |(last, flag): (&(Flag, Scope), &Flag)| *last == (*flag, scope);
        self.taken = false;
        // Most often the one that has been read before.
        if self.noted && self.last.len() == flags.len() && self.last.iter().zip(flags).all(same) {
            return;
        }
        self.last.clear();
        self.last.extend(flags.iter().map(|&flag| (flag, scope)));
        self.reads.extend(&self.last);
        self.noted = true;
    }
}

/// For clusters other than the own one the times of their parties, up to which their events are ordered before one's own.
pub(super) type Others = BTreeMap<u64, Clock>;

/// What has been handed on through shared memory.
pub(super) type SharedFlags = HashMap<(u32, u64), Vec<Released>, Mixed>;

/// What has been handed on through global memory, by the address over 4.
pub(super) type GlobalFlags = HashMap<u64, Vec<Released>, Mixed>;

/// Hashes of a few integers, of which nobody chooses many that collide.
type Mixed = BuildHasherDefault<Mixer>;

/// Multiplies by an odd number near 2^64 over the golden ratio (Knuth, The Art of Computer Programming 3, section 6.4) for each integer.
#[derive(Default)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    #[inline]
    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(26) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    #[inline]
    fn finish(&self) -> u64 {
        // The upper half depends on all bits.
        self.0 ^ self.0 >> 32
    }
}

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
            if how & ACQUIRE == 0 {
                self.fence_waits(w);
            }
            let fences = &mut self.fences[w];
            if how & ACQUIRE == 0 {
                let reads: Vec<_> = fences.reads.drain().collect();
                fences.noted = false;
                self.take(w, &reads, scope);
            } else if !std::mem::replace(&mut fences.taken, true) {
                let last = std::mem::take(&mut fences.last);
                self.take(w, &last, scope);
                self.fences[w].last = last;
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
        if !reads && given.is_empty() {
            return;
        }
        let mut all = std::mem::take(&mut self.flags);
        all.extend(flags);
        if reads {
            fences.note_reads(&all, scope);
        }
        for (reach, known) in &given {
            self.give(warp, &all, scope.min(*reach), known);
        }
        all.clear();
        self.flags = all;
    }

    /// Hands on what a warp knew through words.
    fn give(&mut self, warp: u32, flags: &[Flag], scope: Scope, known: &Arc<Knowledge>) {
        let (cluster, block) = (self.cluster, warp / self.block_warps);
        let put = |all: &mut Vec<Released>| {
            let own = |r: &&mut Released| (r.cluster, r.block, r.scope) == (cluster, block, scope);
            let Some(released) = all.iter_mut().find(own) else {
                all.push(Released { cluster, block, scope, giver: Some(warp), known: Arc::clone(known) });
                return;
            };
            // A warp knows all that it knew before, and its own time says which is later.
            let time = |known: &Knowledge| known.seen[warp as usize];
            if released.giver != Some(warp) {
                released.giver = None;
                Arc::make_mut(&mut released.known).merge(known);
            } else if time(&released.known) < time(known) {
                released.known = Arc::clone(known);
            }
        };
        let mut held = None;
        for flag in flags {
            match *flag {
                Flag::Shared(rank, word) => put(self.shared_flags.entry((rank, word)).or_default()),
                Flag::Global(word) => {
                    let lock = || self.global.released.lock().unwrap_or_else(PoisonError::into_inner);
                    put(held.get_or_insert_with(lock).entry(word).or_default());
                }
            }
        }
    }

    /// A warp comes after what has been handed on through words that it read, at a fence of a scope.
    fn take(&mut self, warp: usize, reads: &[(Flag, Scope)], scope: Scope) {
        let (cluster, block) = (self.cluster, warp as u32 / self.block_warps);
        let mut found: Vec<(u64, Arc<Knowledge>)> = Vec::new();
        let mut own = 0;
        let mut held = None;
        for &(flag, reach) in reads {
            let all = match flag {
                Flag::Shared(rank, word) => self.shared_flags.get(&(rank, word)),
                Flag::Global(word) => {
                    let lock = || self.global.released.lock().unwrap_or_else(PoisonError::into_inner);
                    held.get_or_insert_with(lock).get(&word)
                }
            };
            for released in all.into_iter().flatten() {
                if !released.reaches(scope.min(reach), cluster, block) {
                    continue;
                }
                if (released.cluster, released.giver) == (cluster, Some(warp as u32)) {
                    // What it handed on itself it knows, but for its own time.
                    own = own.max(released.known.seen[warp]);
                } else if found.last().is_none_or(|(_, last)| !Arc::ptr_eq(last, &released.known)) {
                    found.push((released.cluster, Arc::clone(&released.known)));
                }
            }
        }
        drop(held);
        if own != 0 || !found.is_empty() {
            self.sync_lanes(warp as u32);
        }
        let known = &mut self.known[warp];
        known.seen[warp] = known.seen[warp].max(own);
        let last = &mut self.fences[warp].found;
        if last.len() != found.len() || !last.iter().zip(&found).all(|(a, b)| Arc::ptr_eq(&a.1, &b.1)) {
            for (from, released) in &found {
                if *from == cluster {
                    known.merge(released);
                } else {
                    merge_foreign(known, cluster, *from, released);
                }
            }
            *last = found;
        }
        self.note_least(warp);
    }
}

/// What a warp of a cluster knows takes in what one of another cluster knew.
fn merge_foreign(known: &mut Knowledge, cluster: u64, from: u64, released: &Knowledge) {
    let others = Arc::make_mut(known.others.get_or_insert_default());
    let clocks = released.others.iter().flat_map(|others| others.iter());
    for (&from, clock) in clocks.chain([(&from, &released.seen)]) {
        if from == cluster {
            later(&mut known.seen, clock);
        } else {
            later(others.entry(from).or_insert([0; super::PARTIES]), clock);
        }
    }
}

/// The later time of each party.
pub(super) fn later(all: &mut Clock, more: &Clock) {
    for (all, more) in all.iter_mut().zip(more) {
        *all = (*all).max(*more);
    }
}
