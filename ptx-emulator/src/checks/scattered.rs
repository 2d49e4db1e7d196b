//! Accesses of a warp to words of shared memory that do not lie one after another, or to parts of words: all lanes in one pass where
//! nothing is wrong with any of them.

use super::{Access, Cells, Checks, Kind, STRONG, Stamp};
use crate::ops::{LANES, lanes_of};

/// The bytes of its word that an access of `size` bytes at an offset touches.
#[inline(always)]
pub(super) fn bytes_of(offset: u64, size: u64) -> u8 {
    if size < 4 { ((1u8 << size) - 1) << (offset % 4) } else { 0xf }
}

impl Cells {
    /// How an access to bytes of a word differs from what is noted of it; 0: the warp has done as much since anything was ordered, and
    /// nobody else since, so that noting it again would change no more than the place in the program.
    #[inline(always)]
    fn differs(&self, word: usize, who: Stamp, own: u64, now: u32, writes: bool) -> u64 {
        let noted = if writes { self.writers[word] } else { self.readers[word] };
        let bytes = u8::from((noted.bytes ^ who.bytes) & STRONG != 0) | who.bytes & !noted.bytes;
        let time = if writes { self.write_times[word] } else { self.read_times[word] } ^ now;
        let parties = if writes {
            self.read_masks[word] & !own | u64::from(noted.warp ^ who.warp)
        } else {
            !self.read_masks[word] & own
        };
        u64::from(bytes) | u64::from(time) | parties
    }

    /// Whether an access to bytes of a word is what nearly all are: nothing that it could race with, nothing that needs a closer look.
    #[inline(always)]
    pub(super) fn is_plain(
        &self,
        word: usize,
        who: Stamp,
        own: u64,
        (now, least): (u32, u32),
        writes: bool,
    ) -> bool {
        let (written, read, mask) = (self.write_times[word], self.read_times[word], self.read_masks[word]);
        let after_write = written < least || written <= now && self.writers[word].warp == who.warp;
        let own_reads = read <= now && mask & !own == 0;
        let same_reads = !writes && read == now && self.readers[word].bytes == who.bytes;
        after_write && (read < least || own_reads || same_reads)
    }

    /// Notes a plain write.
    #[inline(always)]
    pub(super) fn note_plain_write(&mut self, word: usize, who: Stamp, own: u64, now: u32) {
        // Bytes that the warp writes at one time are one access.
        let last = self.writers[word];
        let joins =
            self.write_times[word] == now && last.warp == who.warp && (last.bytes ^ who.bytes) & STRONG == 0;
        self.writers[word] = Stamp { bytes: who.bytes | if joins { last.bytes } else { 0 }, ..who };
        self.write_times[word] = now;
        // What comes after a weak write comes after the own reads at its time, which need not be forgotten.
        if who.bytes & STRONG != 0 || self.read_times[word] != now || self.read_masks[word] != own {
            (self.read_times[word], self.read_masks[word]) = (0, 0);
        }
    }

    /// Notes a plain read.
    #[inline(always)]
    pub(super) fn note_plain_read(&mut self, word: usize, who: Stamp, own: u64, now: u32) {
        let (last, at_once) = (self.readers[word], self.read_times[word] == now);
        let mask = if at_once { self.read_masks[word] } else { 0 };
        // Bytes that the warp reads at one time are one access; those of several warps are the same.
        let joins = mask == own && (last.bytes ^ who.bytes) & STRONG == 0;
        self.readers[word] = Stamp { bytes: who.bytes | if joins { last.bytes } else { 0 }, ..who };
        (self.read_times[word], self.read_masks[word]) = (now, mask | own);
    }
}

impl Checks {
    /// Whether an access of whole words to a block's shared memory is one that has been checked and noted before, with nothing since
    /// that ordered anything, nor any access of others that it would race with.
    #[inline(always)]
    pub(crate) fn is_noted(&self, rank: u32, offset: u64, size: u64, who: Access) -> bool {
        if !(offset | size).is_multiple_of(4) || !self.may_be_noted(who.kind) {
            return false;
        }
        let offset = offset + u64::from(rank) * self.stride;
        let (stamp, own, now) = (Stamp::of(who, 0xf), 1 << who.warp, self.now);
        let words = (offset / 4) as usize..((offset + size) / 4) as usize;
        let Cells { writers, write_times, read_times, read_masks, readers } = &self.cells;
        let (noted, times) = if who.kind.writes { (writers, write_times) } else { (readers, read_times) };
        let times = times[words.clone()].iter().fold(0, |all, time| all | (time ^ now));
        let parties = if who.kind.writes {
            read_masks[words.clone()].iter().fold(0, |all, mask| all | mask & !own)
        } else {
            read_masks[words.clone()].iter().fold(0, |all, mask| all | !mask & own)
        };
        let strange = |noted: &Stamp| {
            noted.bytes ^ stamp.bytes | if who.kind.writes { noted.warp ^ stamp.warp } else { 0 }
        };
        let noted = noted[words].iter().fold(0, |all, noted| all | strange(noted));
        u64::from(times) | parties | u64::from(noted) == 0
    }

    fn may_be_noted(&self, kind: Kind) -> bool {
        !kind.copy && !kind.bulk && (!kind.writes || self.readings.is_empty())
    }

    /// Checks and notes accesses of the lanes in `m` to `size` bytes each (1, 2, 4, 8 or 16, aligned) at these offsets of a block's
    /// shared memory, and inactive lanes at those of an active one. False where one of them must be looked at closely: then nothing has
    /// been noted.
    #[inline(always)]
    pub(crate) fn access_scattered(
        &mut self,
        rank: u32,
        m: u32,
        offsets: &[u64; LANES],
        size: u64,
        who: Access,
    ) -> bool {
        if !self.may_be_noted(who.kind) {
            return false;
        }
        let Kind { reads, writes, .. } = who.kind;
        let (now, least, own) = (self.now, self.least[who.warp as usize], 1 << who.warp);
        let base = u64::from(rank) * self.stride;
        let words = size.div_ceil(4) as usize;
        let first = |l: usize| ((base + offsets[l]) / 4) as usize;
        let stamp = Stamp::of(who, 0);
        let by = |l: usize| Stamp { lane: l as u8, bytes: stamp.bytes | bytes_of(offsets[l], size), ..stamp };
        let mut differ = 0;
        for l in 0..LANES {
            for word in first(l)..first(l) + words {
                differ |= self.cells.differs(word, by(l), own, now, writes);
            }
        }
        if differ == 0 {
            return true;
        }
        let mask = (1u64 << size) - 1;
        let bitmap = |l: usize| ((base + offsets[l]) as usize / 64, (base + offsets[l]) % 64);
        let mut good = true;
        for l in 0..LANES {
            let (word, shift) = bitmap(l);
            good &= !reads || self.written[word] >> shift & mask == mask;
            for word in first(l)..first(l) + words {
                good &= self.cells.is_plain(word, by(l), own, (now, least), writes);
            }
        }
        if !good {
            return false;
        }
        for l in lanes_of(m) {
            for word in first(l)..first(l) + words {
                if writes {
                    self.cells.note_plain_write(word, by(l), own, now);
                } else {
                    self.cells.note_plain_read(word, by(l), own, now);
                }
            }
            if writes {
                let (word, shift) = bitmap(l);
                self.written[word] |= mask << shift;
            }
        }
        true
    }
}
