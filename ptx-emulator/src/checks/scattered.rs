//! Accesses of a warp to words of shared memory that do not lie one after another, or to parts of words: all lanes in one pass where
//! nothing is wrong with any of them.

use super::lanes::{Lanes, UNCLEAR, several};
use super::{Access, Cells, Checks, Kind, STRONG, Stamp};
use crate::ops::{LANES, lanes_of};

/// The bytes of its word that an access of `size` bytes at an offset touches.
#[inline(always)]
pub(super) fn bytes_of(offset: u64, size: u64) -> u8 {
    if size < 4 { ((1u8 << size) - 1) << (offset % 4) } else { 0xf }
}

/// What is noted of accesses like one: of reads, or of writes.
struct Noted<'c> {
    stamps: &'c [Stamp],
    times: &'c [u32],
    masks: &'c [u64],
    lanes: &'c [Lanes],
    now: u32,
    /// Bits of a word's mask to invert, and those that must be 0 then: writes come where nobody else has read, reads where the warp has.
    inverted: u64,
    clear: u64,
    writes: bool,
}

impl Noted<'_> {
    /// Adds how a lane's access to `WORDS` words differs from what is noted of them; 0: the warp has done as much since anything was ordered,
    /// and nobody else since, so that noting it again would change no more than the place in the program.
    #[inline(always)]
    fn beyond<const WORDS: usize>(&self, beyond: &mut [u64; WORDS], first: usize, who: Stamp) {
        let words = first..first + WORDS;
        let (stamps, times) = (&self.stamps[words.clone()], &self.times[words.clone()]);
        let masks = &self.masks[words];
        for k in 0..WORDS {
            let others = (masks[k] ^ self.inverted) & self.clear;
            beyond[k] |= who.beyond(stamps[k], self.writes) | u64::from(times[k] ^ self.now) | others;
        }
    }

    /// As `beyond`, of a part of a word.
    #[inline(always)]
    fn part_beyond(&self, word: usize, who: Stamp) -> u64 {
        let noted = self.stamps[word];
        let mut beyond = who.beyond(noted, self.writes);
        if beyond != 0 && noted.bytes() & UNCLEAR != 0 {
            let clear = noted.with_lane(who.lane()).with_bytes(noted.bytes() & !UNCLEAR);
            let many = self.writes && who.pc() != noted.pc();
            beyond = who.beyond(clear, self.writes) | u64::from(!self.lanes[word].has(who, many));
        }
        beyond | u64::from(self.times[word] ^ self.now) | (self.masks[word] ^ self.inverted) & self.clear
    }
}

impl Cells {
    /// What is noted of accesses of a warp, whose bit is `own`.
    #[inline(always)]
    fn noted(&self, own: u64, now: u32, writes: bool) -> Noted<'_> {
        let masks = &self.read_masks;
        if writes {
            let (stamps, times, lanes) = (&self.writers, &self.write_times, &self.writer_lanes);
            Noted { stamps, times, masks, lanes, now, inverted: 0, clear: !own, writes }
        } else {
            let (stamps, times, lanes) = (&self.readers, &self.read_times, &self.reader_lanes);
            Noted { stamps, times, masks, lanes, now, inverted: own, clear: own, writes }
        }
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
        let reader = self.readers[word];
        let own_write = written <= now && self.writers[word].warp() == who.warp();
        let after_write = written < least || own_write && !self.meets_write(word, who, writes);
        let own_reads =
            read <= now && mask & !own == 0 && !(writes && reader.meets(self.reader_lanes[word], who));
        let same_reads = !writes && read == now && reader.plain() == who.plain();
        after_write && (read < least || own_reads || same_reads)
    }

    /// Notes a plain write.
    #[inline(always)]
    pub(super) fn note_plain_write(&mut self, word: usize, who: Stamp, own: u64, now: u32) {
        // Bytes that the warp writes at one time are one access.
        let last = self.writers[word];
        let joins = self.write_times[word] == now
            && last.warp() == who.warp()
            && (last.bytes() ^ who.bytes()) & STRONG == 0;
        self.writers[word] = if joins { who.joined(last, &mut self.writer_lanes[word]) } else { who };
        self.write_times[word] = now;
        // What comes after a weak write comes after the own reads before it. Other lanes do not, until the warp's next barrier.
        let reader = self.readers[word];
        let stays =
            self.read_times[word] <= now && self.read_masks[word] == own && reader.sync() == who.sync();
        if who.bytes() & STRONG != 0 || !stays {
            (self.read_times[word], self.read_masks[word]) = (0, 0);
        }
    }

    /// Notes a plain read.
    #[inline(always)]
    pub(super) fn note_plain_read(&mut self, word: usize, who: Stamp, own: u64, now: u32) {
        let (last, at_once) = (self.readers[word], self.read_times[word] == now);
        let mask = if at_once { self.read_masks[word] } else { 0 };
        // Bytes that the warp reads at one time are one access; those of several warps are the same. The same bytes that it has read
        // since its last barrier are other lanes'.
        let same = self.read_masks[word] == own
            && last.sync() == who.sync()
            && last.plain() & !who.plain() == 0
            && self.read_times[word] <= now;
        let joins =
            (at_once || same) && last.warp() == who.warp() && (last.bytes() ^ who.bytes()) & STRONG == 0;
        self.readers[word] = if joins { who.joined(last, &mut self.reader_lanes[word]) } else { who };
        (self.read_times[word], self.read_masks[word]) = (now, mask | own);
    }
}

impl Checks {
    /// Whether an access of whole words to a block's shared memory is one that has been checked and noted before, with nothing since
    /// that ordered anything, nor any access of others that it would race with. As `access_lanes`.
    #[inline(always)]
    pub(crate) fn is_noted(
        &self,
        rank: u32,
        offset: u64,
        (size, step): (u64, u64),
        each: u32,
        who: Access,
    ) -> bool {
        if !(offset | size).is_multiple_of(4) || !self.may_be_noted(who.kind) {
            return false;
        }
        let offset = offset + u64::from(rank) * self.stride;
        let (stamp, own, now) = (self.stamp(who, 0xf | several(each)), 1 << who.warp, self.now);
        let words = (offset / 4) as usize..((offset + size) / 4) as usize;
        let Cells { writers, write_times, read_times, read_masks, readers, .. } = &self.cells;
        let (noted, times) = if who.kind.writes { (writers, write_times) } else { (readers, read_times) };
        let times = times[words.clone()].iter().fold(0, |all, time| all | (time ^ now));
        let parties = if who.kind.writes {
            read_masks[words.clone()].iter().fold(0, |all, mask| all | mask & !own)
        } else {
            read_masks[words.clone()].iter().fold(0, |all, mask| all | !mask & own)
        };
        if u64::from(times) | parties != 0 {
            return false;
        }
        stamp.are_in(&noted[words], ((step / 4).trailing_zeros(), each as u8), who.kind.writes)
    }

    /// Notes reads of whole words by the lanes in `m` where all writes of them are over for everybody, and all reads too, or others have
    /// read them likewise since anything was ordered: what reads of a tile are that warps have written together. False where that is
    /// not so; then nothing has been noted.
    #[inline(always)]
    fn read_alike(
        &mut self,
        m: u32,
        (base, offsets, words): (u64, &[u64; LANES], usize),
        who: Stamp,
        own: u64,
    ) -> bool {
        let (now, least) = (self.now, self.least[usize::from(who.warp())]);
        let bytes = (1u64 << (4 * words)) - 1;
        let cells = &mut self.cells;
        let mut good = true;
        for offset in offsets {
            let (at, first) = (base + offset, ((base + offset) / 4) as usize);
            good &= self.written[at as usize / 64] >> (at % 64) & bytes == bytes;
            for word in first..first + words {
                let read = cells.read_times[word];
                let same = (read == now) & (cells.readers[word].plain() == who.plain());
                good &= (cells.write_times[word] < least) & ((read < least) | same);
            }
        }
        if !good {
            return false;
        }
        for l in lanes_of(m) {
            let first = ((base + offsets[l]) / 4) as usize;
            let who = who.with_lane(l as u8);
            for word in first..first + words {
                let mask = if cells.read_times[word] == now { cells.read_masks[word] } else { 0 };
                if mask & own != 0 {
                    cells.note_plain_read(word, who, own, now);
                } else {
                    (cells.read_times[word], cells.read_masks[word], cells.readers[word]) =
                        (now, mask | own, who);
                }
            }
        }
        true
    }

    fn may_be_noted(&self, kind: Kind) -> bool {
        !kind.copy && !kind.bulk && (!kind.writes || self.readings.is_empty())
    }

    /// Checks and notes accesses of the lanes in `m` to `size` bytes each (1, 2, 4, 8 or 16, aligned) at these offsets of a block's
    /// shared memory, and inactive lanes at those of an active one. An error where one of them must be looked at closely: then nothing has
    /// been noted. It has the lane, if one writes what another lane of the warp touched before, which is to be looked at first: what
    /// the others write hides that.
    #[inline(always)]
    pub(crate) fn access_scattered(
        &mut self,
        rank: u32,
        m: u32,
        offsets: &[u64; LANES],
        size: u64,
        who: Access,
    ) -> Result<(), Option<u32>> {
        if !self.may_be_noted(who.kind) {
            return Err(None);
        }
        let Kind { reads, writes, .. } = who.kind;
        let (now, least, own) = (self.now, self.least[who.warp as usize], 1 << who.warp);
        let base = u64::from(rank) * self.stride;
        let words = size.div_ceil(4) as usize;
        let first = |l: usize| ((base + offsets[l]) / 4) as usize;
        let stamp = self.stamp(who, 0);
        let by = |l: usize| {
            // Inactive lanes do as the first active one.
            let lane = if m >> l & 1 != 0 { l as u32 } else { m.trailing_zeros() };
            stamp.with_lane(lane as u8).with_bytes(stamp.bytes() | bytes_of(offsets[l], size))
        };
        // Most often the first word is like all others: the warp has read it since anything was ordered, or not.
        let read_first = (self.cells.read_times[first(0)], self.cells.read_masks[first(0)] & own);
        let is_new = !writes && size >= 4 && (read_first.0 != now || read_first.1 == 0);
        if is_new
            && self.weaker.is_empty()
            && !who.kind.strong
            && self.read_alike(m, (base, offsets, words), by(0), own)
        {
            return Ok(());
        }
        let noted = self.cells.noted(own, now, writes);
        // Of each word of a lane's access those of all lanes.
        let mut beyond = [0; 4];
        if size < 4 {
            for l in 0..LANES {
                beyond[0] |= noted.part_beyond(first(l), by(l));
            }
        } else if words == 4 {
            for l in 0..LANES {
                noted.beyond(&mut beyond, first(l), by(l));
            }
        } else {
            let [one, ..] = &mut beyond;
            for l in 0..LANES {
                for word in first(l)..first(l) + words {
                    noted.beyond(std::array::from_mut(one), word, by(l));
                }
            }
        }
        if beyond == [0; 4] {
            return Ok(());
        }
        if !self.weaker.is_empty() || who.kind.strong && self.hides(m, |l| first(l)..first(l) + words, writes)
        {
            return Err(None);
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
            let meets =
                |&l: &usize| (first(l)..first(l) + words).any(|word| self.cells.meets_lane(word, by(l)));
            return Err(lanes_of(m).filter(|_| writes).find(meets).map(|l| l as u32));
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
        Ok(())
    }
}
