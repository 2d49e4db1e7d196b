//! What the last access to a word of shared memory hides. Two strong accesses do not race, so that what comes after a strong access may race with
//! a weak one before it, of a warp that is ordered before the strong one alone: a plain write, an atomic update by the same warp, an atomic
//! update by another. Nearly always all warps have met since the weak access, and nothing of it need be remembered.

use super::lanes::{Lanes, NONE, UNCLEAR};
use super::{Checks, Kind, OPEN, STRONG, Stamp, Wrong};
use crate::ops::lanes_of;
use std::ops::Range;

/// The last weak write of a word and the last weak read, and when: of those that not all warps come after.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weaker {
    write: Option<(Stamp, u32)>,
    read: Option<(Stamp, u32)>,
}

impl Weaker {
    fn is_some(&self) -> bool {
        self.write.is_some() || self.read.is_some()
    }

    /// All lanes of a warp come after what they did.
    pub(super) fn forget_lanes(&mut self, warp: u8) {
        let both = [&mut self.write, &mut self.read].into_iter().flatten();
        both.filter(|(stamp, _)| stamp.warp() == warp).for_each(|(stamp, _)| *stamp = stamp.with_sync(NONE));
    }
}

impl Checks {
    /// Whether what a warp did at a time is ordered before what any warp does next.
    fn everybody_knows(&self, stamp: Stamp, time: u32) -> bool {
        self.known[..self.warps].iter().all(|known| time < known.seen[usize::from(stamp.warp())])
    }

    /// What a strong access to a word takes the place of: the last read, and the last write if it `writes`; where they are weak and not all
    /// warps come after them. Of reads by several warps at several times none is kept.
    #[inline(always)]
    fn hidden_by(&self, word: usize, writes: bool) -> Weaker {
        let cells = &self.cells;
        let weak = |stamp: Stamp, time: u32| {
            // No bytes: of several warps' reads, some of them strong.
            let is_weak = stamp.bytes() & STRONG == 0 && stamp.bytes() & 0xf != 0;
            let is_known = || time < self.start || time == OPEN || self.everybody_knows(stamp, time);
            (is_weak && !is_known()).then_some((stamp, time))
        };
        let is_read = cells.read_masks[word] != 0;
        Weaker {
            write: if writes { weak(cells.writers[word], cells.write_times[word]) } else { None },
            read: if is_read { weak(cells.readers[word], cells.read_times[word]) } else { None },
        }
    }

    /// Whether strong accesses to the words of the lanes in `m` take the place of weak ones.
    #[inline(always)]
    pub(super) fn hides(&self, m: u32, words: impl Fn(usize) -> Range<usize>, writes: bool) -> bool {
        lanes_of(m).flat_map(words).any(|word| self.hidden_by(word, writes).is_some())
    }

    /// Checks an access against what is hidden of a word. A strong one hides more, a weak write ends what it comes after.
    pub(super) fn meet_weaker(&mut self, word: u32, stamp: Stamp, kind: Kind) -> Result<(), Wrong> {
        if let Some(&Weaker { write, read }) = self.weaker.get(&word) {
            let met = |earlier: &(Stamp, u32)| self.is_met(*earlier, stamp);
            if let Some((earlier, _)) = write.filter(met) {
                return Err(Wrong::AfterWrite(earlier.party()));
            }
            if let Some((earlier, _)) = read.filter(met).filter(|_| kind.writes) {
                return Err(Wrong::AfterRead(earlier.party()));
            }
            let is_known =
                |one: Option<(Stamp, u32)>| one.is_none_or(|(s, time)| self.everybody_knows(s, time));
            let is_covered = kind.writes && !kind.strong && stamp.bytes() & 0xf == 0xf;
            if is_covered || is_known(write) && is_known(read) {
                self.weaker.remove(&word);
            }
        }
        if kind.strong {
            let now = self.hidden_by(word as usize, kind.writes);
            if now.is_some() {
                let hidden = self.weaker.entry(word).or_default();
                hidden.write = now.write.or(hidden.write);
                hidden.read = now.read.or(hidden.read);
            }
        }
        Ok(())
    }

    /// Whether an access meets an earlier one that it is not ordered after.
    fn is_met(&self, (earlier, time): (Stamp, u32), stamp: Stamp) -> bool {
        if earlier.bytes() & stamp.bytes() & 0xf == 0 {
            return false;
        }
        if earlier.warp() == stamp.warp() {
            // Whose the bytes are is no longer known where lanes shared the word.
            return earlier.bytes() & UNCLEAR == 0
                && earlier.pc() != stamp.pc()
                && earlier.meets(Lanes::default(), stamp);
        }
        time >= self.known[usize::from(stamp.warp())].seen[usize::from(earlier.warp())]
    }
}
