//! Races between lanes of one warp. Since compute capability 7.0 they go on at their own pace (CUDA C++ Programming Guide, "Independent
//! Thread Scheduling"): what one lane wrote to shared memory another may read after a `bar.warp.sync` only, or after a wait of the warp
//! at any other barrier. The instructions by which lanes exchange registers (`shfl`, `vote`, ...) do not order memory.
//!
//! Each warp counts its barriers, and an access is noted with the count. Two lanes race if both accesses have the same count. Several
//! lanes that write one word by one instruction do not race here: whether they write the same is looked at where they do (`ops::collide`).

use super::{Access, Cells, Checks, OPEN, STRONG, Stamp, Wrong};

/// In `Stamp::bytes`: at least two lanes accessed each of the bytes since the warp's last barrier.
pub(super) const SEVERAL: u8 = 0x40;
/// In `Stamp::bytes`: some of the bytes are other lanes' than the stamp's, or from before the warp's last barrier; `Lanes` has whose.
pub(super) const UNCLEAR: u8 = 0x80;
/// `Stamp::sync` of accesses that no lane of the own warp races with.
pub(super) const NONE: u8 = 0;

/// The flag of an access that `each` lanes make to the same bytes.
#[inline(always)]
pub(super) fn several(each: u32) -> u8 {
    if each > 1 { SEVERAL } else { 0 }
}

impl Stamp {
    /// Whether a lane's access meets one that another lane of the warp has made since the last barrier.
    #[inline(always)]
    pub(super) fn meets(self, lanes: Lanes, who: Stamp) -> bool {
        let since = self.warp() == who.warp() && self.sync() == who.sync() && self.sync() != NONE;
        let bytes = self.bytes() & who.bytes();
        if !since || bytes & 0xf == 0 || bytes & STRONG != 0 {
            return false;
        }
        if self.bytes() & UNCLEAR != 0 {
            return lanes.others(who);
        }
        self.lane() != who.lane() || (self.bytes() | who.bytes()) & SEVERAL != 0
    }

    /// This access and an earlier one of the same warp at the same time, as strong, in one stamp.
    #[inline(always)]
    pub(super) fn joined(self, last: Stamp, lanes: &mut Lanes) -> Stamp {
        let (bytes, old) = (self.bytes() & 0xf, last.bytes() & 0xf);
        let same = self.sync() == last.sync();
        let one = self.lane() == last.lane() && (self.bytes() | last.bytes()) & SEVERAL == 0;
        let flags = if !same && old & !bytes == 0 {
            self.bytes() & SEVERAL
        } else if same && last.bytes() & UNCLEAR == 0 && (bytes == old || one) {
            if one { 0 } else { SEVERAL }
        } else {
            if !same {
                *lanes = Lanes::default();
            } else if last.bytes() & UNCLEAR == 0 {
                *lanes = Lanes::default();
                lanes.note(last);
            }
            lanes.note(self);
            UNCLEAR
        };
        self.with_bytes(self.plain() | old | flags)
    }
}

/// Which lane accessed each byte of a word since the warp's last barrier, where it was not one alone: 0 none, 1 to 32 the lane's number
/// and one, `MANY` several.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lanes([u8; 4]);

const MANY: u8 = u8::MAX;

impl Lanes {
    #[inline(always)]
    fn note(&mut self, who: Stamp) {
        let own = if who.bytes() & SEVERAL != 0 { MANY } else { who.lane() + 1 };
        for (_, lane) in self.0.iter_mut().enumerate().filter(|(byte, _)| who.bytes() >> byte & 1 != 0) {
            *lane = if *lane == 0 || *lane == own { own } else { MANY };
        }
    }

    /// Those of the bytes that an access touches.
    #[inline(always)]
    fn of(self, who: Stamp) -> impl Iterator<Item = u8> {
        (0..4).filter(move |byte| who.bytes() >> byte & 1 != 0).map(move |byte| self.0[byte])
    }

    /// Whether another lane is among them.
    #[inline(always)]
    fn others(self, who: Stamp) -> bool {
        let own = if who.bytes() & SEVERAL != 0 { 0 } else { who.lane() + 1 };
        self.of(who).any(|lane| lane != 0 && lane != own)
    }

    /// Whether all of an access has been noted; it may race with those of `many`.
    #[inline(always)]
    pub(super) fn has(self, who: Stamp, many: bool) -> bool {
        let own = |lane: u8| lane == who.lane() + 1 && who.bytes() & SEVERAL == 0;
        self.of(who).all(|lane| if lane == MANY { !many } else { own(lane) })
    }
}

impl Cells {
    /// Whether a lane's access meets another lane's write of the word since the last barrier. A write does not meet one of its own
    /// instruction.
    #[inline(always)]
    pub(super) fn meets_write(&self, word: usize, who: Stamp, writes: bool) -> bool {
        let writer = self.writers[word];
        !(writes && writer.pc() == who.pc()) && writer.meets(self.writer_lanes[word], who)
    }

    /// Whether a lane's write meets an access of another lane since the last barrier.
    pub(super) fn meets_lane(&self, word: usize, who: Stamp) -> bool {
        self.meets_write(word, who, true) || self.readers[word].meets(self.reader_lanes[word], who)
    }

    /// All lanes of a warp come after what they did to any word.
    #[cold]
    fn forget_lanes(&mut self, warp: u8) {
        let stamps = self.writers.iter_mut().chain(&mut self.readers);
        stamps.filter(|stamp| stamp.warp() == warp).for_each(|stamp| *stamp = stamp.with_sync(NONE));
    }
}

impl Checks {
    /// A lane begins a bulk copy out of a piece of 16 bytes of a block's shared memory, or into it: other lanes of its warp may not have
    /// touched that since the warp's last barrier.
    pub(crate) fn lanes_meet(&self, rank: u32, at: u32, who: Access) -> Result<(), Wrong> {
        let stamp = Stamp::new(who.pc, (who.warp, who.lane), 0xf, self.synced[who.warp as usize]);
        let first = (u64::from(rank) * self.stride) as usize / 4 + at as usize / 4;
        let cells = &self.cells;
        let is_written = |time: u32| time >= self.start && time != OPEN;
        for word in first..first + 4 {
            let (writer, reader) = (cells.writers[word], cells.readers[word]);
            if is_written(cells.write_times[word]) && writer.meets(cells.writer_lanes[word], stamp) {
                return Err(Wrong::AfterWrite(writer.party_to(stamp)));
            }
            if who.kind.writes && self.has_reads(word) && reader.meets(cells.reader_lanes[word], stamp) {
                return Err(Wrong::AfterRead(reader.party_to(stamp)));
            }
        }
        Ok(())
    }

    /// The lanes of a warp have met at a barrier.
    pub(crate) fn sync_lanes(&mut self, warp: u32) {
        let count = &mut self.synced[warp as usize];
        if *count == u8::MAX {
            // The next count is that of a barrier long ago.
            *count = NONE;
            self.cells.forget_lanes(warp as u8);
            self.weaker.values_mut().for_each(|weaker| weaker.forget_lanes(warp as u8));
        }
        self.synced[warp as usize] += 1;
    }
}
