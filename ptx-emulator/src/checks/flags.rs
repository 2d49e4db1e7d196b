//! Order that is handed on through memory: what came before a fence and a strong write after it comes before what follows a fence
//! after a strong read of the same place (the PTX manual's release and acquire patterns, section "Memory Consistency Model").
//!
//! A place keeps all that has ever been handed on through it, and a reader takes all of that at its fence: its read may have seen
//! an older value, in which case a race remains unseen in this order of the blocks. The decoder makes a fence before each release,
//! for the next write alone, and one after each acquire, for the last read alone.

use super::Checks;
use super::global::{BLOCK, CLUSTER_WIDE, DEVICE, Fenced, Scope, WEAK};
use super::handed::{Flag, Giver, Handed, Mixed, Released};
use super::order::{Clock, Knowledge, PARTIES};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError};

/// How a fence acts: its scope in the low two bits; 0 is no fence for memory.
pub(crate) type Fence = u32;
/// For the next write alone.
pub(crate) const RELEASE: Fence = 4;
/// For the last read alone.
pub(crate) const ACQUIRE: Fence = 8;

/// What a warp's fences and strong reads have gathered.
#[derive(Debug, Default)]
pub(super) struct Fences {
    /// What it knew at its last fence of each scope or a wider one; of a release, until its write.
    before: [Option<Arc<Knowledge>>; 3],
    next: Option<(Scope, Arc<Knowledge>)>,
    /// What it has read since its last fence.
    reads: HashSet<(Flag, Scope), Mixed>,
    /// What it has read with its last instruction, and what has been handed on through that, if `reads` has all of it.
    last: Vec<Flag>,
    last_scope: Scope,
    met: Option<Met>,
    /// Whether a fence for `last` alone has come.
    taken: bool,
    /// What it handed on last, by scope.
    gifts: [Option<Arc<Released>>; 3],
    /// What it took last, which a warp that waits finds again and again.
    found: Vec<(u64, Arc<Knowledge>)>,
}

/// What has been handed on through the words of a read: each at once with the scope of the read.
#[derive(Debug, Default)]
struct Met {
    all: Vec<(Arc<Released>, Scope)>,
    /// `Handed::changes` of shared and of global memory when this was gathered; none before.
    changes: Option<(u64, u64)>,
}

impl Fences {
    /// What the warp knew at its last fence of a scope or a wider one.
    pub(super) fn known_at(&self, scope: Scope) -> Option<Arc<Knowledge>> {
        self.before[scope as usize - 1].clone()
    }

    /// An instruction reads these words strongly.
    fn note_reads(&mut self, flags: &[Flag], scope: Scope) {
        self.taken = false;
        // Most often the one that has been read before.
        if self.met.is_some() && self.last_scope == scope && Flag::are_same(&self.last, flags) {
            return;
        }
        self.last.clear();
        self.last.extend(flags);
        self.last_scope = scope;
        self.reads.extend(flags.iter().map(|&flag| (flag, scope)));
        self.met = Some(Met::default());
    }
}

/// For clusters other than the own one the times of their parties, up to which their events are ordered before one's own.
pub(super) type Others = BTreeMap<u64, Clock>;

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
                let fences = &mut self.fences[w];
                let reads: Vec<_> = fences.reads.drain().collect();
                fences.met = None;
                let met = self.gather(reads.into_iter());
                self.take(w, &met.all, scope);
            } else if !std::mem::replace(&mut self.fences[w].taken, true) {
                self.take_last(w, scope);
            }
        }
    }

    /// An instruction of a warp accesses these words strongly.
    pub(crate) fn strong_access(
        &mut self,
        warp: u32,
        scope: Scope,
        (reads, writes): (bool, bool),
        flags: &[Flag],
    ) {
        if !self.global.has_fences {
            return;
        }
        let fences = &mut self.fences[warp as usize];
        let mut given: [Option<(Scope, Arc<Knowledge>)>; 4] = Default::default();
        if writes {
            given[0] = fences.next.take();
            let mut last: Option<&Arc<Knowledge>> = None;
            for (given, reach) in given[1..].iter_mut().zip([DEVICE, CLUSTER_WIDE, BLOCK]) {
                // A fence counts for narrower scopes too.
                if let Some(known) = &fences.before[reach as usize - 1]
                    && last.replace(known).is_none_or(|wider| !Arc::ptr_eq(wider, known))
                {
                    *given = Some((reach, Arc::clone(known)));
                }
            }
        }
        if !reads && given.iter().all(Option::is_none) {
            return;
        }
        if reads {
            fences.note_reads(flags, scope);
        }
        for (reach, known) in given.iter().flatten() {
            self.give(warp, flags, scope.min(*reach), known);
        }
    }

    /// Hands on what a warp knew through words.
    fn give(&mut self, warp: u32, flags: &[Flag], scope: Scope, known: &Arc<Knowledge>) {
        let slot = scope as usize - 1;
        let gift = &self.fences[warp as usize].gifts[slot];
        if gift.as_ref().is_some_and(|gift| gift.again(flags, warp, known)) {
            return;
        }
        let by = Giver { cluster: self.cluster, block: warp / self.block_warps, warp, scope };
        for part in flags.chunk_by(|a, b| a.is_shared() == b.is_shared()) {
            let released = if part[0].is_shared() {
                self.shared_flags.give(part, by, known)
            } else {
                self.global_flags().give(part, by, known)
            };
            self.fences[warp as usize].gifts[slot] = Some(released);
        }
    }

    fn global_flags(&self) -> MutexGuard<'_, Handed> {
        self.global.released.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been handed on through words.
    fn gather(&self, reads: impl Iterator<Item = (Flag, Scope)>) -> Met {
        let global = self.global_flags();
        let mut all: Vec<(Arc<Released>, Scope)> = Vec::new();
        for (flag, scope) in reads {
            let of = if flag.is_shared() { self.shared_flags.of(flag) } else { global.of(flag) };
            for released in of {
                // Most often words one after another have the same.
                if all.last().is_none_or(|(last, reach)| *reach != scope || !Arc::ptr_eq(last, released)) {
                    all.push((Arc::clone(released), scope));
                }
            }
        }
        Met { all, changes: Some((self.shared_flags.changes(), global.changes())) }
    }

    /// A warp comes after what has been handed on through what it read last, at a fence of a scope.
    fn take_last(&mut self, warp: usize, scope: Scope) {
        let changes = Some((self.shared_flags.changes(), self.global_flags().changes()));
        let fences = &mut self.fences[warp];
        let kept = fences.met.take();
        let is_noted = kept.is_some();
        let met = match kept {
            Some(met) if met.changes == changes => met,
            _ => {
                let reach = fences.last_scope;
                let last = std::mem::take(&mut fences.last);
                let met = self.gather(last.iter().map(|&flag| (flag, reach)));
                self.fences[warp].last = last;
                met
            }
        };
        self.take(warp, &met.all, scope);
        self.fences[warp].met = is_noted.then_some(met);
    }

    /// A warp comes after what has been handed on through words that it read, at a fence of a scope.
    fn take(&mut self, warp: usize, met: &[(Arc<Released>, Scope)], scope: Scope) {
        let (cluster, block) = (self.cluster, warp as u32 / self.block_warps);
        let mut found: Vec<(u64, Arc<Knowledge>)> = Vec::new();
        let mut own = 0;
        for (released, reach) in met {
            if !released.reaches(scope.min(*reach), cluster, block) {
                continue;
            }
            let state = released.state();
            if (released.cluster, state.giver) == (cluster, Some(warp as u32)) {
                // What it handed on itself it knows, but for its own time.
                own = own.max(state.known.seen[warp]);
            } else if found.last().is_none_or(|(_, last)| !Arc::ptr_eq(last, &state.known)) {
                found.push((released.cluster, Arc::clone(&state.known)));
            }
        }
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

/// Both together, which most often are one, or one is nothing.
pub(super) fn merge_with<T: Clone>(
    all: &mut Option<Arc<T>>,
    more: &Option<Arc<T>>,
    merge: impl FnOnce(&mut T, &T),
) {
    match (&mut *all, more) {
        (_, None) => {}
        (None, Some(more)) => *all = Some(Arc::clone(more)),
        (Some(all), Some(more)) if Arc::ptr_eq(all, more) => {}
        (Some(all), Some(more)) => merge(Arc::make_mut(all), more),
    }
}

pub(super) fn merge(all: &mut Option<Arc<Others>>, more: &Option<Arc<Others>>) {
    merge_with(all, more, |all, more| {
        for (&cluster, clock) in more {
            later(all.entry(cluster).or_insert([0; PARTIES]), clock);
        }
    });
}

/// What a warp of a cluster knows takes in what one of another cluster knew.
fn merge_foreign(known: &mut Knowledge, cluster: u64, from: u64, released: &Knowledge) {
    let clusters = (cluster, from);
    take_foreign((&mut known.seen, &mut known.others), clusters, (&released.seen, &released.others));
    Fenced::merge_foreign(&mut known.fenced_global, clusters, &released.fenced_global);
}

/// The times of a cluster's own parties and of others take in those that were handed on `from` another cluster.
pub(super) fn take_foreign(
    (own, others): (&mut Clock, &mut Option<Arc<Others>>),
    (cluster, from): (u64, u64),
    (seen, more): (&Clock, &Option<Arc<Others>>),
) {
    let others = Arc::make_mut(others.get_or_insert_default());
    for (&from, clock) in more.iter().flat_map(|more| more.iter()).chain([(&from, seen)]) {
        if from == cluster {
            later(own, clock);
        } else {
            later(others.entry(from).or_insert([0; PARTIES]), clock);
        }
    }
}

/// The later time of each party.
pub(super) fn later(all: &mut Clock, more: &Clock) {
    for (all, more) in all.iter_mut().zip(more) {
        *all = (*all).max(*more);
    }
}
