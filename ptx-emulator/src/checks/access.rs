//! Accesses to shared memory: what nearly all are is noted word by word at once, everything else is looked at closely.

use super::lanes::{NONE, several};
use super::order::PARTIES;
use super::scattered::bytes_of;
use super::{Access, Cells, Checks, Kind, OPEN, Party, STRONG, Stamp, Wrong};
use crate::memory::words;
use std::ops::Range;

impl Checks {
    /// Checks and notes an access to `size` bytes of a block's shared memory, which lie within it and are aligned to the size.
    #[inline]
    pub(crate) fn access(&mut self, rank: u32, offset: u64, size: u64, who: Access) -> Result<(), Wrong> {
        if self.known[who.warp as usize].begun >> rank & 1 == 0 {
            return Err(Wrong::NotBegun);
        }
        self.access_lanes(rank, offset, (size, size), 1, who).map_err(|(_, wrong)| wrong)
    }

    /// As `access`, by lanes one after another of `step` bytes each, `size` in all; `each` of them read the same. The error has how many
    /// bytes before it were good.
    #[inline(always)]
    pub(crate) fn access_lanes(
        &mut self,
        rank: u32,
        offset: u64,
        (size, step): (u64, u64),
        each: u32,
        who: Access,
    ) -> Result<(), (u64, Wrong)> {
        let kind = who.kind;
        let offset = offset + u64::from(rank) * self.stride;
        if kind.writes && !self.readings.is_empty() {
            for at in (0..size).step_by(step as usize) {
                self.not_read(offset + at, step).map_err(|wrong| (at, wrong))?;
            }
        }
        let stamp = self.stamp(who, bytes_of(offset, size) | several(each));
        let (first, end) = (offset / 4, (offset + size).div_ceil(4));
        let of_word =
            |word: u64| stamp.with_lane(stamp.lane() + (4 * (word - first) / step) as u8 * each as u8);
        if kind.strong || !self.weaker.is_empty() {
            for word in first..end {
                self.meet_weaker(word as u32, of_word(word), kind)
                    .map_err(|wrong| (4 * (word - first), wrong))?;
            }
        }
        let mut word = first;
        while let Some(stuck) = self.plainly((word, end), (first, step, each as u8), stamp, who) {
            self.closely(stuck as u32, of_word(stuck), kind).map_err(|wrong| (4 * (stuck - first), wrong))?;
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
        (first, step, each): (u64, u64, u8),
        stamp: Stamp,
        who: Access,
    ) -> Option<u64> {
        let (now, least, own) = (self.now, self.least[who.warp as usize], 1u64 << who.warp);
        let Kind { writes, copy, bulk, .. } = who.kind;
        if bulk {
            return (from < end).then_some(from);
        }
        let written_time = if copy { OPEN } else { now };
        let words = from as usize..end as usize;
        // Most often all that was done to the words is over for everybody, or was done by the warp itself.
        let lanes = ((step / 4).trailing_zeros(), each);
        if from == first && step >= 4 && self.cells.are_over(words.clone(), lanes, stamp, (now, least)) {
            self.cells.note_all(words, lanes, stamp, (writes, written_time, now));
            self.owned += if copy { end - from } else { 0 };
            return None;
        }
        let done = 4 * (from - first);
        let (mut lane, mut left) = (stamp.lane() + (done / step) as u8 * each, step - done % step);
        let mut stuck = None;
        for word in words {
            let stamp = stamp.with_lane(lane);
            // What nearly all accesses are; everything else is looked at closely.
            if !self.cells.is_plain(word, stamp, own, (now, least), writes) {
                stuck = Some(word as u64);
                break;
            }
            if copy {
                self.cells.note_all(word..word + 1, (0, 1), stamp, (writes, OPEN, now));
            } else if writes {
                self.cells.note_plain_write(word, stamp, own, now);
            } else {
                self.cells.note_plain_read(word, stamp, own, now);
            }
            left = left.saturating_sub(4);
            if left == 0 {
                (lane, left) = (lane + each, step);
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
        let copied = (offset / 4) as usize..((offset + size) / 4) as usize;
        self.cells.write_times[copied.clone()].fill(self.now);
        for writer in &mut self.cells.writers[copied] {
            let sync = if writer.sync() == NONE { NONE } else { self.synced[usize::from(writer.warp())] };
            *writer = writer.with_sync(sync);
        }
        self.owned -= size / 4;
        words(offset, size).for_each(|(word, bits)| self.written[word] |= bits);
    }

    #[inline(never)]
    fn closely(&mut self, word: u32, stamp: Stamp, kind: Kind) -> Result<(), Wrong> {
        let (last, write_time) = (self.cells.writers[word as usize], self.cells.write_times[word as usize]);
        if write_time >= self.start && last.bytes() & stamp.bytes() & 0xf != 0 {
            if write_time == OPEN {
                return Err(Wrong::Owned(last.party()));
            }
            let own = &self.known[usize::from(stamp.warp())];
            let writer = usize::from(last.warp());
            let is_there = kind.barrier && own.has_initialised(writer, write_time);
            let ordered = last.warp() == stamp.warp() || write_time < own.seen[writer] || is_there;
            if ordered && kind.bulk && !is_there && writer < self.warps && write_time >= own.fenced[writer] {
                return Err(Wrong::NotFenced(last.party()));
            }
            let both_strong = last.bytes() & stamp.bytes() & STRONG != 0;
            if !ordered && !both_strong {
                return Err(Wrong::AfterWrite(last.party()));
            }
            if self.cells.meets_write(word as usize, stamp, kind.writes) {
                return Err(Wrong::AfterWrite(last.party_to(stamp)));
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
        let w = word as usize;
        let (read_time, reader) = (self.cells.read_times[w], self.cells.readers[w]);
        let others = self.cells.read_masks[w] & !(1 << stamp.warp());
        let overlap = reader.bytes() & stamp.bytes() & 0xf != 0;
        let both_strong = reader.bytes() & stamp.bytes() & STRONG != 0;
        if self.has_reads(w) && reader.meets(self.cells.reader_lanes[w], stamp) {
            return Err(Wrong::AfterRead(reader.party_to(stamp)));
        }
        if others != 0 && overlap && !both_strong && read_time >= self.start {
            let clock = &self.known[usize::from(stamp.warp())].seen;
            let times = self.reads.get(&word).filter(|_| read_time == OPEN);
            // The reads of an earlier block are gone.
            let single = if read_time == OPEN { 0 } else { read_time };
            let races = |w: usize| times.map_or(single, |t| t[w]) >= clock[w];
            if let Some(earlier) = (0..PARTIES).find(|&w| others >> w & 1 != 0 && races(w)) {
                let last = usize::from(reader.warp());
                if last != usize::from(stamp.warp()) && races(last) {
                    return Err(Wrong::AfterRead(reader.party()));
                }
                return Err(Wrong::AfterRead(Party { warp: earlier as u32, lane: None, pc: None }));
            }
        }
        if let Some(times) = self.reads.remove(&word)
            && reader.warp() == stamp.warp()
        {
            // Only other lanes of the warp may race with reads from here on.
            let own = stamp.warp();
            (self.cells.read_times[w], self.cells.read_masks[w]) = (times[usize::from(own)], 1 << own);
        }
        if kind.copy {
            self.owned += 1;
            (self.cells.read_masks[w], self.cells.read_times[w]) = (0, 0);
            (self.cells.writers[w], self.cells.write_times[w]) = (stamp, OPEN);
        } else {
            self.cells.note_plain_write(w, stamp, 1 << stamp.warp(), self.now);
        }
        Ok(())
    }

    pub(super) fn note_read(&mut self, word: u32, stamp: Stamp) {
        let w = word as usize;
        let (read_time, read_mask) = (self.cells.read_times[w], &mut self.cells.read_masks[w]);
        let own = 1 << stamp.warp();
        // Reads that are ordered before this one need not be remembered: what is ordered after this one is after them.
        let single = read_time != OPEN;
        let old = *read_mask == 0 || single && read_time < self.start;
        if !old && single && *read_mask == own {
            return self.cells.note_plain_read(w, stamp, own, self.now);
        }
        if old || single && read_time < self.least[usize::from(stamp.warp())] {
            (self.cells.read_times[w], *read_mask, self.cells.readers[w]) = (self.now, own, stamp);
            return;
        }
        if read_time != self.now {
            let times = self.reads.entry(word).or_insert([0; PARTIES]);
            if single {
                for (w, time) in times.iter_mut().enumerate() {
                    *time = if *read_mask >> w & 1 != 0 { read_time } else { 0 };
                }
                self.cells.read_times[w] = OPEN;
            }
            times[usize::from(stamp.warp())] = self.now;
        }
        *read_mask |= own;
        let last = self.cells.readers[w];
        self.cells.readers[w] = match last.plain() == stamp.plain() {
            true if last.warp() == stamp.warp() => stamp.joined(last, &mut self.cells.reader_lanes[w]),
            true => stamp,
            false => stamp.with_bytes(0),
        };
    }

    /// Whether warps of this cluster have read a word since its last write.
    pub(super) fn has_reads(&self, word: usize) -> bool {
        match self.cells.read_times[word] {
            // Those of an earlier cluster are gone.
            OPEN => self.reads.contains_key(&(word as u32)),
            time => time >= self.start,
        }
    }
}

impl Cells {
    /// Whether all that was done to these words came before what the lanes do now: before the time `least`, or by the warp itself and
    /// before its last barrier, or by the same lane. `2^step` words and `each` lanes for each.
    #[inline(always)]
    fn are_over(
        &self,
        words: Range<usize>,
        (step, each): (u32, u8),
        who: Stamp,
        (now, least): (u32, u32),
    ) -> bool {
        let latest = |times: &[u32]| times.iter().fold(0, |latest, &time| latest.max(time));
        if latest(&self.read_times[words.clone()]) >= least {
            return false;
        }
        let written = latest(&self.write_times[words.clone()]);
        written < least || written <= now && who.come_after(&self.writers[words], step, each)
    }

    /// Notes an access to words of which `are_over` is true.
    #[inline(always)]
    fn note_all(
        &mut self,
        words: Range<usize>,
        (step, each): (u32, u8),
        stamp: Stamp,
        (writes, written_time, now): (bool, u32, u32),
    ) {
        let stamps = if writes { &mut self.writers } else { &mut self.readers };
        stamp.fill(&mut stamps[words.clone()], step, each);
        let (time, mask) = if writes { (0, 0) } else { (now, 1 << stamp.warp()) };
        if writes {
            self.write_times[words.clone()].fill(written_time);
        }
        self.read_times[words.clone()].fill(time);
        self.read_masks[words.clone()].fill(mask);
    }
}
