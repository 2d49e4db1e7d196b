//! Accesses to shared memory: what nearly all are is noted word by word at once, everything else is looked at closely.

use super::order::PARTIES;
use super::{Access, Checks, Kind, OPEN, Party, STRONG, Stamp, Wrong};
use crate::memory::words;

impl Checks {
    /// Checks and notes an access to `size` bytes of a block's shared memory, which lie within it and are aligned to the size.
    #[inline]
    pub(crate) fn access(&mut self, rank: u32, offset: u64, size: u64, who: Access) -> Result<(), Wrong> {
        self.access_lanes(rank, offset, (size, size), who).map_err(|(_, wrong)| wrong)
    }

    /// As `access`, by lanes one after another of `step` bytes each, `size` in all. The error has how many bytes before it were good.
    #[inline]
    pub(crate) fn access_lanes(
        &mut self,
        rank: u32,
        offset: u64,
        (size, step): (u64, u64),
        who: Access,
    ) -> Result<(), (u64, Wrong)> {
        let kind = who.kind;
        let offset = offset + u64::from(rank) * self.stride;
        if kind.writes && !self.readings.is_empty() {
            for at in (0..size).step_by(step as usize) {
                self.not_read(offset + at, step).map_err(|wrong| (at, wrong))?;
            }
        }
        let bytes = if size < 4 { ((1u8 << size) - 1) << (offset % 4) } else { 0xf };
        let stamp = Stamp {
            pc: who.pc,
            warp: who.warp as u8,
            lane: who.lane as u8,
            bytes: bytes | if kind.strong { STRONG } else { 0 },
        };
        let (first, end) = (offset / 4, (offset + size).div_ceil(4));
        let mut word = first;
        while let Some(stuck) = self.plainly((word, end), (first, step), stamp, who) {
            let lane = stamp.lane + (4 * (stuck - first) / step) as u8;
            self.closely(stuck as u32, Stamp { lane, ..stamp }, kind)
                .map_err(|wrong| (4 * (stuck - first), wrong))?;
            word = stuck + 1;
        }
        for (word, bits) in words(offset, size) {
            let written = &mut self.written[word];
            if kind.reads && *written & bits != bits {
                let missing = 64 * word as u64 + u64::from((!*written & bits).trailing_zeros());
                return Err((missing - offset, Wrong::Unwritten));
            }
            if kind.writes && !kind.copy {
                *written |= bits;
            }
        }
        Ok(())
    }

    /// Notes accesses to words up to the first that must be looked at closely, which it gives. `first` is that of the first lane.
    #[inline(always)]
    fn plainly(
        &mut self,
        (from, end): (u64, u64),
        (first, step): (u64, u64),
        stamp: Stamp,
        who: Access,
    ) -> Option<u64> {
        let (now, least, own) = (self.now, self.least[who.warp as usize], 1u64 << who.warp);
        let Kind { writes, copy, bulk, .. } = who.kind;
        if bulk {
            return (from < end).then_some(from);
        }
        let again = if stamp.bytes & 0xf == 0xf { self.again(who) } else { 0 };
        let written_time = if copy { OPEN } else { now };
        let words = from as usize..end as usize;
        let times = self.write_times[words.clone()].iter_mut().zip(&mut self.last[words.clone()]);
        let cells = self.cells[words].iter_mut().zip(times);
        let (mut lane, mut left) = (stamp.lane + (4 * (from - first) / step) as u8, step);
        let mut stuck = None;
        for (word, (cell, (write_time, last))) in (from..).zip(cells) {
            let after_write = *write_time < least || *write_time <= now && cell.writer.warp == stamp.warp;
            let old_reads = cell.read_time < least;
            // What nearly all accesses are; everything else is looked at closely.
            let plain = if writes {
                old_reads || cell.read_time <= now && cell.read_mask & !own == 0
            } else {
                old_reads || cell.read_time == now && cell.reader.bytes == stamp.bytes
            };
            if !(after_write && plain) {
                stuck = Some(word);
                break;
            }
            let stamp = Stamp { lane, ..stamp };
            if writes {
                (*write_time, cell.writer) = (written_time, stamp);
                if cell.read_mask != 0 {
                    (cell.read_time, cell.read_mask) = (0, 0);
                }
            } else {
                cell.read_mask = if old_reads { own } else { cell.read_mask | own };
                (cell.read_time, cell.reader) = (now, stamp);
            }
            *last = again;
            left = left.saturating_sub(4);
            if left == 0 {
                (lane, left) = (lane + 1, step);
            }
        }
        if copy {
            self.owned += stuck.unwrap_or(end) - from;
        }
        stuck
    }

    /// Asynchronous copies to these bytes have been carried out: as writes of the threads that waited.
    pub(crate) fn copied(&mut self, rank: u32, offset: u64, size: u64) {
        let offset = offset + u64::from(rank) * self.stride;
        self.write_times[(offset / 4) as usize..((offset + size) / 4) as usize].fill(self.now);
        self.owned -= size / 4;
        words(offset, size).for_each(|(word, bits)| self.written[word] |= bits);
    }

    /// What stands in `last` for an access of whole words: its time, warp, place in the program (as far as it fits) and kind; 0
    /// for those that do more than change a word's cell.
    #[inline(always)]
    fn again(&self, Access { warp, pc, kind, .. }: Access) -> u64 {
        if kind.copy || kind.bulk {
            return 0;
        }
        let kind = u64::from(kind.reads) | u64::from(kind.writes) << 1 | u64::from(kind.strong) << 2;
        u64::from(self.now) << 32 | u64::from(pc & 0xffff) << 16 | u64::from(warp) << 8 | kind << 1 | 1
    }

    /// Whether an access of whole words to a block's shared memory is one that has been checked and noted just like that, with nothing
    /// else since that touched a word of it or ordered anything.
    #[inline]
    pub(crate) fn is_again(&self, rank: u32, offset: u64, size: u64, who: Access) -> bool {
        let again = self.again(who);
        if !(offset | size).is_multiple_of(4) || again == 0 || who.kind.writes && !self.readings.is_empty() {
            return false;
        }
        let offset = offset + u64::from(rank) * self.stride;
        let last = &self.last[(offset / 4) as usize..((offset + size) / 4) as usize];
        last.iter().fold(0, |all, last| all | (last ^ again)) == 0
    }

    #[inline(never)]
    fn closely(&mut self, word: u32, stamp: Stamp, kind: Kind) -> Result<(), Wrong> {
        self.last[word as usize] = 0;
        let (cell, write_time) = (self.cells[word as usize], self.write_times[word as usize]);
        if write_time >= self.start && cell.writer.bytes & stamp.bytes & 0xf != 0 {
            if write_time == OPEN {
                return Err(Wrong::Owned(cell.writer.party()));
            }
            let own = &self.known[usize::from(stamp.warp)];
            let writer = usize::from(cell.writer.warp);
            let ordered = cell.writer.warp == stamp.warp || write_time < own.seen[writer];
            if ordered && kind.bulk && writer < self.warps && write_time >= own.fenced[writer] {
                return Err(Wrong::NotFenced(cell.writer.party()));
            }
            let both_strong = cell.writer.bytes & stamp.bytes & STRONG != 0;
            if !ordered && !both_strong {
                return Err(Wrong::AfterWrite(cell.writer.party()));
            }
        }
        if kind.writes {
            return self.note_write(word, stamp, kind);
        }
        if !kind.bulk {
            self.note_read(word, stamp);
        }
        Ok(())
    }

    fn note_write(&mut self, word: u32, stamp: Stamp, kind: Kind) -> Result<(), Wrong> {
        let cell = &mut self.cells[word as usize];
        let others = cell.read_mask & !(1 << stamp.warp);
        let overlap = cell.reader.bytes & stamp.bytes & 0xf != 0;
        let both_strong = cell.reader.bytes & stamp.bytes & STRONG != 0;
        if others != 0 && overlap && !both_strong && cell.read_time >= self.start {
            let clock = &self.known[usize::from(stamp.warp)].seen;
            let times = self.reads.get(&word).filter(|_| cell.read_time == OPEN);
            // The reads of an earlier block are gone.
            let single = if cell.read_time == OPEN { 0 } else { cell.read_time };
            let races = |w: usize| times.map_or(single, |t| t[w]) >= clock[w];
            if let Some(reader) = (0..PARTIES).find(|&w| others >> w & 1 != 0 && races(w)) {
                let last = usize::from(cell.reader.warp);
                if last != usize::from(stamp.warp) && races(last) {
                    return Err(Wrong::AfterRead(cell.reader.party()));
                }
                return Err(Wrong::AfterRead(Party { warp: reader as u32, lane: None, pc: None }));
            }
        }
        if cell.read_time == OPEN {
            self.reads.remove(&word);
        }
        self.owned += u64::from(kind.copy);
        (cell.writer, cell.read_mask, cell.read_time) = (stamp, 0, 0);
        self.write_times[word as usize] = if kind.copy { OPEN } else { self.now };
        Ok(())
    }

    pub(super) fn note_read(&mut self, word: u32, stamp: Stamp) {
        self.last[word as usize] = 0;
        let cell = &mut self.cells[word as usize];
        let own = 1 << stamp.warp;
        // Reads that are ordered before this one need not be remembered: what is ordered after this one is after them.
        let single = cell.read_time != OPEN;
        let old = cell.read_mask == 0 || single && (cell.read_time < self.start || cell.read_mask == own);
        if old || single && cell.read_time < self.least[usize::from(stamp.warp)] {
            (cell.read_time, cell.read_mask, cell.reader) = (self.now, own, stamp);
            return;
        }
        if cell.read_time != self.now {
            let times = self.reads.entry(word).or_insert([0; PARTIES]);
            if single {
                for (w, time) in times.iter_mut().enumerate() {
                    *time = if cell.read_mask >> w & 1 != 0 { cell.read_time } else { 0 };
                }
                cell.read_time = OPEN;
            }
            times[usize::from(stamp.warp)] = self.now;
        }
        cell.read_mask |= own;
        let bytes = if cell.reader.bytes == stamp.bytes { stamp.bytes } else { 0 };
        cell.reader = Stamp { bytes, ..stamp };
    }
}
