//! What has been handed on through words of memory, and through which.

use super::global::{BLOCK, CLUSTER_WIDE, Scope};
use super::order::Knowledge;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A word that threads hand order on through: of global memory its address over 4, of shared memory the top bit, the rank of the block
/// in the cluster from bit 32, and the offset over 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flag(u64);

impl Flag {
    const SHARED: u64 = 1 << 63;

    pub(crate) fn global(address: u64) -> Flag {
        Flag(address / 4)
    }

    pub(crate) fn shared(rank: u32, offset: u64) -> Flag {
        Flag(Flag::SHARED | u64::from(rank) << 32 | (offset / 4))
    }

    /// Whether two accesses are of the same words.
    pub(super) fn are_same(one: &[Flag], other: &[Flag]) -> bool {
        one.len() == other.len() && one.iter().zip(other).fold(0, |all, (a, b)| all | (a.0 ^ b.0)) == 0
    }

    pub(super) fn is_shared(self) -> bool {
        self.0 & Flag::SHARED != 0
    }
}

/// Hashes of a few integers, of which nobody chooses many that collide.
pub(super) type Mixed = BuildHasherDefault<Mixer>;

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
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(26) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    #[inline]
    fn finish(&self) -> u64 {
        // The upper half depends on all bits.
        self.0 ^ self.0 >> 32
    }
}

/// Who hands on, and how far that reaches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Giver {
    pub cluster: u64,
    pub block: u32,
    pub warp: u32,
    pub scope: Scope,
}

/// What a block's warps handed on with one scope, through words that one instruction wrote.
#[derive(Debug)]
pub(super) struct Released {
    pub cluster: u64,
    block: u32,
    scope: Scope,
    flags: Vec<Flag>,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    /// The warp, where what it knew is all that has been handed on.
    pub giver: Option<u32>,
    pub known: Arc<Knowledge>,
    /// Whether all of the words still have this, and no more of its block and scope.
    whole: bool,
}

impl Released {
    fn new(by: Giver, giver: Option<u32>, flags: &[Flag], known: Arc<Knowledge>) -> Arc<Released> {
        let state = Mutex::new(State { giver, known, whole: true });
        Arc::new(Released {
            cluster: by.cluster,
            block: by.block,
            scope: by.scope,
            flags: flags.to_vec(),
            state,
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a strong read of this scope by a block of a cluster takes it.
    pub(super) fn reaches(&self, scope: Scope, cluster: u64, block: u32) -> bool {
        match scope.min(self.scope) {
            BLOCK => (self.cluster, self.block) == (cluster, block),
            CLUSTER_WIDE => self.cluster == cluster,
            _ => true,
        }
    }

    fn is_of(&self, by: Giver) -> bool {
        (self.cluster, self.block, self.scope) == (by.cluster, by.block, by.scope)
    }

    /// The warp that handed this on hands on what it knows now, through the same words. False where that is not all that has changed.
    pub(super) fn again(&self, flags: &[Flag], warp: u32, known: &Arc<Knowledge>) -> bool {
        if !Flag::are_same(&self.flags, flags) {
            return false;
        }
        let mut state = self.state();
        if state.whole && state.is_before(warp, known) {
            state.known = Arc::clone(known);
        }
        state.whole
    }

    /// What stands for a word in place of this, which has been handed on through it before, when its block hands on more; `fresh` has
    /// that alone. None where this stays and has taken in what there is to take.
    fn with(
        &self,
        flag: Flag,
        by: Giver,
        known: &Arc<Knowledge>,
        fresh: &Arc<Released>,
    ) -> Option<Arc<Released>> {
        let mut state = self.state();
        if state.giver == Some(by.warp) {
            if !state.is_before(by.warp, known) {
                return None;
            }
            state.whole = false;
            return Some(Arc::clone(fresh));
        }
        if self.flags.iter().all(|&other| other == flag) {
            state.giver = None;
            Arc::make_mut(&mut state.known).merge(known);
            return None;
        }
        state.whole = false;
        let mut both = Knowledge::clone(&state.known);
        both.merge(known);
        Some(Released::new(by, None, &[flag], Arc::new(both)))
    }
}

impl State {
    /// A warp knows all that it knew before, and its own time says which is later.
    fn is_before(&self, warp: u32, known: &Knowledge) -> bool {
        self.known.seen[warp as usize] < known.seen[warp as usize]
    }
}

/// For each word what has been handed on through it.
#[derive(Debug, Default)]
pub(super) struct Handed {
    words: HashMap<Flag, Vec<Arc<Released>>, Mixed>,
    /// How often a word has got another `Released`.
    changes: u64,
}

impl Handed {
    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.changes += 1;
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn of(&self, flag: Flag) -> &[Arc<Released>] {
        self.words.get(&flag).map_or(&[], Vec::as_slice)
    }

    /// A warp hands on what it knew through words that one instruction writes.
    pub(super) fn give(&mut self, flags: &[Flag], by: Giver, known: &Arc<Knowledge>) -> Arc<Released> {
        let fresh = Released::new(by, Some(by.warp), flags, Arc::clone(known));
        let mut whole = true;
        for &flag in flags {
            let all = self.words.entry(flag).or_default();
            let Some(own) = all.iter_mut().find(|r| r.is_of(by)) else {
                all.push(Arc::clone(&fresh));
                self.changes += 1;
                continue;
            };
            if Arc::ptr_eq(own, &fresh) {
                continue;
            }
            if let Some(other) = own.with(flag, by, known, &fresh) {
                whole &= Arc::ptr_eq(&other, &fresh);
                *own = other;
                self.changes += 1;
            } else {
                whole = false;
            }
        }
        fresh.state().whole = whole;
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::DEVICE;

    fn by(warp: u32) -> Giver {
        Giver { cluster: 0, block: 0, warp, scope: DEVICE }
    }

    /// What a warp knows that is at a time.
    fn at(warp: usize, time: u32) -> Arc<Knowledge> {
        let mut known = Knowledge::at(0);
        known.seen[warp] = time;
        Arc::new(known)
    }

    /// What has been handed on through a word by warps 0 and 1.
    fn seen(handed: &Handed, flag: Flag) -> [u32; 2] {
        let all = handed.of(flag);
        [0, 1].map(|w| all.iter().map(|r| r.state().known.seen[w]).max().unwrap_or(0))
    }

    #[test]
    fn a_word_of_several_keeps_what_each_warp_handed_on() {
        let mut handed = Handed::default();
        let words: Vec<Flag> = (0..4).map(|k| Flag::global((1 << 20) + 4 * k)).collect();
        let gift = handed.give(&words, by(0), &at(0, 5));
        assert!(gift.again(&words, 0, &at(0, 6)));
        assert!(!gift.again(&words[..3], 0, &at(0, 7)), "not the same words");
        let before = handed.changes();
        handed.give(&words[2..3], by(1), &at(1, 8));
        assert!(handed.changes() > before);
        assert_eq!(
            words.iter().map(|&w| seen(&handed, w)).collect::<Vec<_>>(),
            [[6, 0], [6, 0], [6, 8], [6, 0]]
        );
        // The third word is no longer the first warp's alone.
        assert!(!gift.again(&words, 0, &at(0, 9)));
        let gift = handed.give(&words, by(0), &at(0, 9));
        assert_eq!(
            words.iter().map(|&w| seen(&handed, w)).collect::<Vec<_>>(),
            [[9, 0], [9, 0], [9, 8], [9, 0]]
        );
        assert!(!gift.again(&words, 0, &at(0, 10)));
    }

    #[test]
    fn what_was_known_earlier_takes_nothing_back() {
        let mut handed = Handed::default();
        let words = [Flag::shared(1, 8), Flag::shared(1, 8), Flag::shared(1, 12)];
        let gift = handed.give(&words, by(0), &at(0, 5));
        assert!(gift.again(&words, 0, &at(0, 3)));
        handed.give(&words[2..], by(0), &at(0, 4));
        assert_eq!(seen(&handed, words[0]), [5, 0]);
        assert_eq!(seen(&handed, words[2]), [5, 0]);
        handed.give(&words[2..], by(0), &at(0, 7));
        assert_eq!(seen(&handed, words[0]), [5, 0]);
        assert_eq!(seen(&handed, words[2]), [7, 0]);
        assert!(!gift.again(&words, 0, &at(0, 8)), "a word of it has another");
    }
}
