//! Accesses of a warp to words of shared memory that do not lie one after another, or to parts of words: all lanes in one pass where
//! nothing is wrong with any of them.

use super::lanes::{Lanes, UNCLEAR, several};
use super::{Access, Cells, Checks, Kind, STRONG, Stamp};
use crate::ops::{LANES, lanes_of};
use std::ops::Range;

/// The bytes of its word that an access of `size` bytes at an offset touches.
#[inline(always)]
pub(super) fn bytes_of(offset: u64, size: u64) -> u8 {
    if size < 4 { ((1u8 << size) - 1) << (offset % 4) } else { 0xf }
}

/// For each bit of a lane's number the lanes that do not have it.
const WITHOUT: [u32; 5] = [0x5555_5555, 0x3333_3333, 0x0f0f_0f0f, 0x00ff_00ff, 0x0000_ffff];

/// Of lanes that access the same one: where every two that differ in some bits of their number alone do, as those that read a row or
/// a column of a tile of products do, those without these bits. Else all.
#[inline(always)]
fn one_of_each(offsets: &[u64; LANES]) -> u32 {
    let mut lanes = u32::MAX;
    for (bit, without) in WITHOUT.iter().enumerate() {
        let other = |l: usize| offsets[l ^ 1 << bit];
        if offsets[0] == other(0) && (0..LANES).fold(0, |all, l| all | (offsets[l] ^ other(l))) == 0 {
            lanes &= without;
        }
    }
    lanes
}

/// Where lanes access `size` bytes each (1, 2, 4, 8 or 16, aligned).
struct Places<'o> {
    /// Those that act, or that stand for all that act.
    lanes: u32,
    /// The start of the block's shared memory, and the offsets there.
    base: u64,
    offsets: &'o [u64; LANES],
    size: u64,
    /// Without lane, and without bytes where they are a part of a word.
    stamp: Stamp,
}

impl Places<'_> {
    #[inline(always)]
    fn words(&self, l: usize) -> Range<usize> {
        let first = ((self.base + self.offsets[l]) / 4) as usize;
        first..first + self.size.div_ceil(4) as usize
    }

    #[inline(always)]
    fn by(&self, l: usize) -> Stamp {
        let who = self.stamp.with_lane(l as u8);
        if self.size < 4 { who.with_bytes(who.bytes() | bytes_of(self.offsets[l], self.size)) } else { who }
    }

    /// A lane's bits in a bitmap of all bytes.
    #[inline(always)]
    fn bits(&self, l: usize) -> (usize, u64) {
        let at = self.base + self.offsets[l];
        (at as usize / 64, ((1 << self.size) - 1) << (at % 64))
    }

    /// Whether the warp has done all of this since anything was ordered, see `Noted::beyond`.
    #[inline(always)]
    fn are_in(&self, noted: &Noted) -> bool {
        if self.lanes == u32::MAX {
            self.of_lanes_are_in(0..LANES, noted)
        } else {
            self.of_lanes_are_in(lanes_of(self.lanes), noted)
        }
    }

    #[inline(always)]
    fn of_lanes_are_in(&self, lanes: impl Iterator<Item = usize> + Clone, noted: &Noted) -> bool {
        match self.size {
            4 => self.whole_words_are_in::<1>(lanes, noted),
            8 => self.whole_words_are_in::<2>(lanes, noted),
            16 => self.whole_words_are_in::<4>(lanes, noted),
            _ => {
                let mut beyond = 0;
                for l in lanes.clone() {
                    beyond |= noted.beyond::<1>(self.words(l).start, self.by(l), true);
                }
                if beyond != 0 {
                    beyond = 0;
                    for l in lanes {
                        beyond |= noted.part_beyond(self.words(l).start, self.by(l));
                    }
                }
                beyond == 0
            }
        }
    }

    #[inline(always)]
    fn whole_words_are_in<const WORDS: usize>(
        &self,
        lanes: impl Iterator<Item = usize> + Clone,
        noted: &Noted,
    ) -> bool {
        let mut beyond = 0;
        for l in lanes.clone() {
            beyond |= noted.beyond::<WORDS>(self.words(l).start, self.stamp.with_lane(l as u8), true);
        }
        if beyond != 0 {
            beyond = 0;
            for l in lanes {
                beyond |= noted.beyond::<WORDS>(self.words(l).start, self.stamp.with_lane(l as u8), false);
            }
        }
        beyond == 0
    }
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
    /// How a lane's access to `WORDS` words differs from what is noted of them; 0: the warp has done as much since anything was ordered,
    /// and nobody else since, so that noting it again would change no more than the place in the program. `exactly`: and the stamps are
    /// the same, which is seen at once.
    #[inline(always)]
    fn beyond<const WORDS: usize>(&self, first: usize, who: Stamp, exactly: bool) -> u64 {
        let (stamps, times) = (&self.stamps[first..][..WORDS], &self.times[first..][..WORDS]);
        let masks = &self.masks[first..][..WORDS];
        let mut beyond = 0;
        for k in 0..WORDS {
            let others = (masks[k] ^ self.inverted) & self.clear;
            let stamp = if exactly { who.differs(stamps[k]) } else { who.beyond(stamps[k], self.writes) };
            beyond |= stamp | u64::from(times[k] ^ self.now) | others;
        }
        beyond
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
        // All of them are as long as the first, which saves a look at the others.
        let length = self.read_masks.len();
        let masks = &self.read_masks[..length];
        if writes {
            let (stamps, times, lanes) =
                (&self.writers[..length], &self.write_times[..length], &self.writer_lanes[..length]);
            Noted { stamps, times, masks, lanes, now, inverted: 0, clear: !own, writes }
        } else {
            let (stamps, times, lanes) =
                (&self.readers[..length], &self.read_times[..length], &self.reader_lanes[..length]);
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

    /// Notes reads of whole words where all writes of them are over for everybody, and all reads too, or others have read them likewise
    /// since anything was ordered: what reads of a tile are that warps have written together. False where that is not so; then nothing
    /// has been noted.
    #[inline(always)]
    fn read_alike(&mut self, places: &Places) -> bool {
        let (now, least) = (self.now, self.least[usize::from(places.stamp.warp())]);
        let (plain, cells) = (places.stamp.plain(), &mut self.cells);
        let mut good = true;
        for l in lanes_of(places.lanes) {
            let (bitmap, bits) = places.bits(l);
            good &= !self.written[bitmap] & bits == 0;
            let words = places.words(l);
            let reads = cells.read_times[words.clone()].iter().zip(&cells.readers[words.clone()]);
            for ((&read, reader), &written) in reads.zip(&cells.write_times[words]) {
                let same = (read == now) & (reader.plain() == plain);
                good &= (written < least) & ((read < least) | same);
            }
        }
        if good {
            for l in lanes_of(places.lanes) {
                let who = places.by(l);
                for word in places.words(l) {
                    cells.note_plain_read(word, who, 1 << who.warp(), now);
                }
            }
        }
        good
    }

    fn may_be_noted(&self, kind: Kind) -> bool {
        !kind.copy && !kind.bulk && (!kind.writes || self.readings.is_empty())
    }

    /// Checks and notes accesses of the lanes in `m` to `size` bytes each (1, 2, 4, 8 or 16, aligned) at these offsets of a block's
    /// shared memory. An error where one of them must be looked at closely: then nothing has been noted. It has the lane, if one writes
    /// what another lane of the warp touched before, which is to be looked at first: what the others write hides that.
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
        let Kind { writes, strong, .. } = who.kind;
        let (now, own) = (self.now, 1 << who.warp);
        let lanes = if m == u32::MAX && !writes { one_of_each(offsets) } else { m };
        let each = several(m.count_ones() / lanes.count_ones());
        let stamp = self.stamp(who, if size < 4 { each } else { 0xf | each });
        let places = Places { lanes, base: u64::from(rank) * self.stride, offsets, size, stamp };
        // Most often the first word is like all others: the warp has done this since anything was ordered, or not.
        let first = places.words(lanes.trailing_zeros() as usize).start;
        let is_new = if writes {
            self.cells.write_times[first] != now
        } else {
            self.cells.read_times[first] != now || self.cells.read_masks[first] & own == 0
        };
        let whole = !writes && !strong && size >= 4 && self.weaker.is_empty();
        if is_new && whole && self.read_alike(&places)
            || !is_new && places.are_in(&self.cells.noted(own, now, writes))
        {
            return Ok(());
        }
        if !self.weaker.is_empty() || strong && self.hides(m, |l| places.words(l), writes) {
            return Err(None);
        }
        self.note_scattered(&places, who.kind)
    }

    /// Notes accesses of which none may race with another, nor reads what nobody wrote; an error as of `access_scattered` where one does.
    #[inline(always)]
    fn note_scattered(
        &mut self,
        places: &Places,
        Kind { reads, writes, .. }: Kind,
    ) -> Result<(), Option<u32>> {
        let (warp, cells) = (places.stamp.warp(), &mut self.cells);
        let (now, least, own) = (self.now, self.least[usize::from(warp)], 1 << warp);
        let mut good = true;
        for l in lanes_of(places.lanes) {
            let (bitmap, bits) = places.bits(l);
            good &= !reads || !self.written[bitmap] & bits == 0;
            for word in places.words(l) {
                good &= cells.is_plain(word, places.by(l), own, (now, least), writes);
            }
        }
        if !good {
            let meets = |&l: &usize| places.words(l).any(|word| cells.meets_lane(word, places.by(l)));
            return Err(lanes_of(places.lanes).filter(|_| writes).find(meets).map(|l| l as u32));
        }
        for l in lanes_of(places.lanes) {
            for word in places.words(l) {
                if writes {
                    cells.note_plain_write(word, places.by(l), own, now);
                } else {
                    cells.note_plain_read(word, places.by(l), own, now);
                }
            }
            if writes {
                let (bitmap, bits) = places.bits(l);
                self.written[bitmap] |= bits;
            }
        }
        Ok(())
    }
}
