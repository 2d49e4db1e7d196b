//! The words of a page of global memory: who touched each.

use super::slots::{
    ACTS, BYTES, LANE, PLACE, PLACES, RECORD, SCOPE, SCOPES, Slot, alike, covers, is_async, is_whole, merged,
    record, scope, slot_of, without,
};
use super::{BLOCK, CLUSTER_WIDE, DEVICE, Global, PAGE_BYTES, Race, Run, WEAK, is_ordered};
use crate::checks::order::Knowledge;
use crate::checks::scattered::bytes_of;
use crate::ops::LANES;

const WORDS: usize = PAGE_BYTES as usize / 4;

/// A slot for each word of a page.
type Slots = Box<[Slot; WORDS]>;

/// The slots of a page's words.
#[derive(Debug)]
pub(super) struct Page {
    /// Who wrote last.
    writers: Slots,
    /// Where that was only a part of the word: who wrote other bytes before.
    others: Slots,
    /// Where the last write is stronger than one before it: that one, which may race with what the last does not race with.
    weaker: Option<Slots>,
    /// Two of those who have read since. A write leaves the reads that are weaker than it.
    readers: Slots,
    seconds: Option<Slots>,
}

/// The party that accesses, and what it has found out about others.
pub(super) struct Mine<'c> {
    pub(super) global: &'c Global,
    known: &'c Knowledge,
    record: u32,
    cluster: u64,
    warp: u32,
    /// Warps of a block.
    block_warps: u32,
    /// The last record that was found to be ordered before the access, and the last that was not.
    before: u32,
    beside: u32,
}

impl<'c> Mine<'c> {
    /// Of a warp of a cluster whose blocks have `block_warps` warps.
    pub(super) fn new(
        global: &'c Global,
        known: &'c Knowledge,
        record: u32,
        (cluster, warp, block_warps): (u64, u32, u32),
    ) -> Mine<'c> {
        Mine { global, known, record, cluster, warp, block_warps, before: record, beside: 0 }
    }

    /// What all slots of an access have.
    #[inline(always)]
    fn fixed(&self, run: &Run) -> Slot {
        slot_of(self.record, run)
    }

    #[inline(always)]
    fn comes_after(&mut self, slot: Slot) -> bool {
        let number = record(slot);
        number == self.before || number == self.record || number != self.beside && self.look_up(number)
    }

    #[inline(never)]
    fn look_up(&mut self, number: u32) -> bool {
        let ordered = is_ordered(self.global.records.get(number), self.cluster, self.warp, self.known);
        if ordered {
            self.before = number;
        } else {
            self.beside = number;
        }
        ordered
    }

    /// Whether an access races with an earlier one.
    #[inline(always)]
    fn races(&mut self, earlier: Slot, slot: Slot) -> bool {
        earlier & slot & BYTES != 0 && !self.comes_after(earlier) && !self.both_strong(earlier, slot)
    }

    /// Whether both accesses are strong, of one proxy, and the scope of each includes the other.
    fn both_strong(&self, earlier: Slot, slot: Slot) -> bool {
        if is_async(earlier) != is_async(slot) {
            return false;
        }
        match scope(earlier).min(scope(slot)) {
            WEAK => false,
            narrow @ (BLOCK | CLUSTER_WIDE) => {
                let other = self.global.records.get(record(earlier));
                other.cluster == self.cluster
                    && (narrow == CLUSTER_WIDE
                        || other.warp / self.block_warps == self.warp / self.block_warps)
            }
            _ => true,
        }
    }

    /// The race of an access with the one in a slot, of the word at an offset of the allocation.
    pub(super) fn race(&self, offset: u64, (earlier, wrote): (Slot, bool), run: &Run) -> Race {
        let other = self.global.records.get(record(earlier));
        let pc = (earlier >> PLACE) as u32 & PLACES;
        Race {
            offset: run.offset.max(offset + u64::from((earlier & BYTES).trailing_zeros())),
            lane: (earlier >> LANE) as u32 & 31,
            pc: (pc != PLACES).then_some(pc),
            wrote,
            narrow: scope(earlier) != WEAK && run.scope != WEAK,
            block: self.global.shape.block_at(other.cluster, other.warp / self.block_warps),
            warp: other.warp,
            own_cluster: other.cluster == self.cluster,
        }
    }
}

/// The word that is raced for, the earlier access, and whether it wrote.
type Raced = (u64, (Slot, bool));

impl Page {
    pub(super) fn new() -> Page {
        Page { writers: none(), others: none(), weaker: None, readers: none(), seconds: None }
    }

    /// Nobody has touched the words of these bytes.
    pub(super) fn forget(&mut self, offset: u64, length: u64) {
        let words = offset as usize / 4..(offset + length).div_ceil(4) as usize;
        let all = [&mut self.writers, &mut self.others, &mut self.readers];
        for slots in all.into_iter().chain(&mut self.weaker).chain(&mut self.seconds) {
            slots[words.clone()].fill(0);
        }
    }

    /// Finds those who wrote bytes of these that are still there, with their words.
    pub(super) fn for_writers(&self, offset: u64, length: u64, mut found: impl FnMut(u64, Slot)) {
        let end = offset + length;
        let mut last = 0;
        for word in offset / 4..end.div_ceil(4) {
            let (from, until) = (offset.max(4 * word) % 4, end.min(4 * word + 4) - 4 * word);
            let bytes = BYTES >> (4 - (until - from)) << from;
            for slot in self.writers(word as usize) {
                // Most often that of the word before.
                if slot & bytes != 0 && std::mem::replace(&mut last, slot) != slot {
                    found(word, slot);
                }
            }
        }
    }

    /// Who wrote a word last, and who wrote bytes of it before that are still there; 0 is nobody.
    fn writers(&self, word: usize) -> [Slot; 2] {
        let last = self.writers[word];
        [last, if is_whole(last) { 0 } else { self.others[word] }]
    }

    /// Checks and notes an access to bytes of the page; `lane` is that of the first.
    pub(super) fn touch(&mut self, run: &Run, lane: u32, mine: &mut Mine) -> Result<(), Raced> {
        let fixed = mine.fixed(run);
        let end = run.offset + run.length;
        if (run.offset | run.length | run.step).is_multiple_of(4) && self.touch_alike(run, fixed, lane, mine)
        {
            return Ok(());
        }
        let (mut at, mut lane, mut left) = (run.offset, lane, run.step);
        while at < end {
            let word = at / 4;
            let until = end.min(4 * word + 4);
            let bytes = BYTES >> (4 - (until - at)) << (at % 4);
            let slot = fixed | u64::from(lane & 31) << LANE | bytes;
            if run.writes {
                self.write(word as usize, slot, mine)
            } else {
                self.read(word as usize, slot, mine)
            }
            .map_err(|found| (word, found))?;
            // Words of one lane, or lanes of one word.
            let mut passed = until - at;
            while passed >= left {
                passed -= left;
                (lane, left) = (lane + run.each, run.step);
            }
            left -= passed;
            at = until;
        }
        Ok(())
    }

    /// See `Checks::is_touched`. All offsets lie in the page.
    #[inline(always)]
    pub(super) fn is_touched(&self, run: &Run, offsets: &[u64; LANES], number: u32) -> bool {
        match (run.writes, run.step < 4) {
            (true, true) => self.is_noted::<true, true>(run, offsets, number),
            (true, false) => self.is_noted::<true, false>(run, offsets, number),
            (false, true) => self.is_noted::<false, true>(run, offsets, number),
            (false, false) => self.is_noted::<false, false>(run, offsets, number),
        }
    }

    #[inline(always)]
    fn is_noted<const WRITES: bool, const PARTS: bool>(
        &self,
        run: &Run,
        offsets: &[u64; LANES],
        number: u32,
    ) -> bool {
        let fixed = u64::from(number) << RECORD | u64::from(run.scope) << SCOPE;
        let slots = if WRITES { &self.writers } else { &self.readers };
        // Most often all words are like the first.
        if record(slots[word_at(offsets[0], 0)]) != number {
            return false;
        }
        // Of upper halves below 2^32 the product is 0 only where one is.
        let is_others = |slot: Slot| (slot >> RECORD) * (slot >> RECORD ^ u64::from(number));
        let mut differ = 0;
        for part in 0..run.step.div_ceil(4) {
            for &offset in offsets {
                let bytes = if PARTS { u64::from(bytes_of(offset, run.step)) } else { BYTES };
                let word = word_at(offset, part);
                differ |= (slots[word] ^ fixed) & (!0 << RECORD | ACTS) | !slots[word] & bytes;
                if WRITES {
                    differ |= is_others(self.readers[word]);
                }
            }
        }
        if let (true, Some(seconds)) = (WRITES, &self.seconds) {
            for part in 0..run.step.div_ceil(4) {
                for &offset in offsets {
                    differ |= is_others(seconds[word_at(offset, part)]);
                }
            }
        }
        differ == 0
    }

    /// As `touch_lane` by each lane in `m`, where each word has been touched by nobody or by one party alike, which is what nearly all
    /// have been. False if that is not so, or if there is a race to be named: then nothing has been noted. All offsets lie in the page.
    #[inline(always)]
    pub(super) fn touch_words(&mut self, run: &Run, lanes: (u32, &[u64; LANES]), mine: &mut Mine) -> bool {
        match (run.writes, run.step) {
            (true, 4) => self.touch_parts::<true, 1>(run, lanes, mine),
            (true, 8) => self.touch_parts::<true, 2>(run, lanes, mine),
            (true, 16) => self.touch_parts::<true, 4>(run, lanes, mine),
            (false, 4) => self.touch_parts::<false, 1>(run, lanes, mine),
            (false, 8) => self.touch_parts::<false, 2>(run, lanes, mine),
            (false, 16) => self.touch_parts::<false, 4>(run, lanes, mine),
            _ => false,
        }
    }

    /// `touch_words` of reads or writes of `PARTS` words each.
    #[inline(always)]
    fn touch_parts<const WRITES: bool, const PARTS: u64>(
        &mut self,
        run: &Run,
        (m, offsets): (u32, &[u64; LANES]),
        mine: &mut Mine,
    ) -> bool {
        let slot = mine.fixed(run) | BYTES;
        let first = word_at(offsets[0], 0);
        let (writer, reader) = (self.writers[first], self.readers[first]);
        // Reads follow a write of any scope.
        let write_scope = if WRITES { SCOPES } else { 0 };
        let follows = |earlier: Slot, scopes: u64, mine: &mut Mine| {
            earlier == 0 || (earlier ^ slot) & (BYTES | scopes) == 0 && mine.comes_after(earlier)
        };
        if !follows(writer, write_scope, mine) || !follows(reader, SCOPES, mine) {
            return false;
        }
        let same = |scopes: u64| !0 << RECORD | BYTES | scopes;
        let unlike = |earlier: Slot, other: Slot, scopes: u64| {
            (earlier != 0) & ((earlier ^ slot) & same(scopes) != 0) & ((earlier ^ other) & same(scopes) != 0)
        };
        // Most often all words are like the first.
        let mut differ = 0;
        for part in 0..PARTS {
            for &offset in offsets {
                let word = word_at(offset, part);
                differ |= (self.writers[word] ^ writer) & same(write_scope)
                    | (self.readers[word] ^ reader) & same(SCOPES);
            }
        }
        let mut differs = false;
        if differ != 0 || self.seconds.is_some() {
            for part in 0..PARTS {
                for &offset in offsets {
                    let word = word_at(offset, part);
                    differs |= unlike(self.writers[word], writer, write_scope)
                        | unlike(self.readers[word], reader, SCOPES)
                        | unlike(self.seconds.as_ref().map_or(0, |seconds| seconds[word]), reader, SCOPES);
                }
            }
        }
        if differs || self.has_weaker::<PARTS>(offsets) {
            return false;
        }
        // See `write`: reads of one's own stay where the write is weak.
        let stays = |reader: Slot| run.scope == WEAK && record(reader) == mine.record;
        let slots = if WRITES { &mut self.writers } else { &mut self.readers };
        // Of lanes that touch the same word the first is the one to name.
        if m == u32::MAX {
            for lane in (0..LANES).rev() {
                put::<PARTS>(slots, offsets[lane], lane, slot);
            }
        } else {
            for lane in (0..LANES).rev() {
                if m >> lane & 1 != 0 {
                    put::<PARTS>(slots, offsets[lane], lane, slot);
                }
            }
        }
        if WRITES {
            for readers in [&mut self.readers].into_iter().chain(&mut self.seconds) {
                for part in 0..PARTS {
                    for &offset in offsets {
                        let reader = &mut readers[word_at(offset, part)];
                        *reader = if stays(*reader) { *reader } else { 0 };
                    }
                }
            }
        }
        true
    }

    /// Whether a weaker write is remembered of one of these words.
    #[inline(always)]
    fn has_weaker<const PARTS: u64>(&self, offsets: &[u64; LANES]) -> bool {
        self.weaker.as_ref().is_some_and(|weaker| {
            (0..PARTS).any(|part| offsets.iter().any(|&offset| weaker[word_at(offset, part)] != 0))
        })
    }

    /// As `touch`, by one lane of `run.step` bytes, 1, 2 or words, at an offset that is a multiple of them or of a word.
    #[inline(always)]
    pub(super) fn touch_lane(
        &mut self,
        run: &Run,
        (lane, offset): (u32, u64),
        mine: &mut Mine,
    ) -> Result<(), Raced> {
        let bytes = u64::from(bytes_of(offset, run.step));
        let slot = mine.fixed(run) | u64::from(lane & 31) << LANE | bytes;
        for word in offset / 4..(offset + run.step).div_ceil(4) {
            let touched = if run.writes {
                self.write(word as usize, slot, mine)
            } else {
                self.read(word as usize, slot, mine)
            };
            touched.map_err(|found| (word, found))?;
        }
        Ok(())
    }

    /// As `touch` for whole words, of which each has been touched by the same parties as the others, which is what nearly all
    /// accesses are. False if that is not so, or if there is a race to be named: then nothing has been noted.
    fn touch_alike(&mut self, run: &Run, fixed: Slot, lane: u32, mine: &mut Mine) -> bool {
        let words = run.offset as usize / 4..(run.offset + run.length) as usize / 4;
        let slot = fixed | BYTES;
        if self.weaker.as_ref().is_some_and(|weaker| weaker[words.clone()].iter().any(|&slot| slot != 0)) {
            return false;
        }
        let writers = &mut self.writers[words.clone()];
        let readers = &mut self.readers[words.clone()];
        let seconds = &mut self.seconds;
        // Which of the own reads stays is to be found word by word.
        if seconds
            .iter()
            .flat_map(|seconds| &seconds[words.clone()])
            .any(|&slot| record(slot) == mine.record && scope(slot) != run.scope)
        {
            return false;
        }
        let (writer, reader) = (writers[0], readers[0]);
        let is_weaker = |slot: Slot| slot != 0 && scope(slot) < run.scope;
        if !alike(writers)
            || !alike(readers)
            || writer != 0 && (!is_whole(writer) || mine.races(writer, slot))
        {
            return false;
        }
        let fill = |slots: &mut [Slot]| {
            let lanes_words = run.step as usize / 4;
            for (slots, lane) in slots.chunks_mut(lanes_words).zip((lane..).step_by(run.each as usize)) {
                slots.fill(slot | u64::from(lane & 31) << LANE);
            }
        };
        if !run.writes {
            if reader == 0 || is_whole(reader) && mine.comes_after(reader) {
                // Of one party's accesses the weaker one is the one to name.
                if !is_weaker(reader) {
                    fill(readers);
                } else if record(reader) != mine.record {
                    fill(&mut seconds.get_or_insert_with(none)[words]);
                }
            } else {
                fill(&mut seconds.get_or_insert_with(none)[words]);
            }
            return true;
        }
        let seconds = seconds.as_mut().map_or(&mut [][..], |seconds| &mut seconds[words]);
        let second = seconds.first().copied().unwrap_or(0);
        if !alike(seconds)
            || is_weaker(writer) && (record(writer) != mine.record || is_async(writer) != run.bulk)
            || [reader, second].iter().any(|&r| r != 0 && (!is_whole(r) || mine.races(r, slot)))
        {
            return false;
        }
        if !is_weaker(writer) {
            fill(writers);
        }
        if reader != 0 && !is_weaker(reader) {
            readers.fill(0);
        }
        if second != 0 && !is_weaker(second) {
            seconds.fill(0);
        }
        true
    }

    #[inline(always)]
    fn not_after_write(&self, word: usize, slot: Slot, mine: &mut Mine) -> Result<(), (Slot, bool)> {
        let last = self.writers[word];
        if last == 0 {
            return Ok(());
        }
        if mine.races(last, slot) {
            return Err((last, true));
        }
        if last & BYTES != BYTES && mine.races(self.others[word], slot) {
            return Err((self.others[word], true));
        }
        let weaker = self.weaker.as_ref().map_or(0, |weaker| weaker[word]);
        if mine.races(weaker, slot) {
            return Err((weaker, true));
        }
        Ok(())
    }

    #[inline(always)]
    fn read(&mut self, word: usize, slot: Slot, mine: &mut Mine) -> Result<(), (Slot, bool)> {
        self.not_after_write(word, slot, mine)?;
        let first = &mut self.readers[word];
        if *first == slot {
            return Ok(());
        }
        if let Some(both) = merged(*first, slot) {
            *first = both;
            return Ok(());
        }
        let second = self.seconds.as_ref().map_or(0, |seconds| seconds[word]);
        let both = merged(second, slot);
        // What does not race with a read of a narrow scope may race with one before it.
        if (second == 0 || both.is_none())
            && matches!(scope(slot), WEAK | DEVICE)
            && covers(slot, *first)
            && scope(*first) >= scope(slot)
            && mine.comes_after(*first)
        {
            *first = slot;
        } else {
            // Of three readers the one in the middle is forgotten.
            self.seconds.get_or_insert_with(none)[word] = both.unwrap_or(slot);
        }
        Ok(())
    }

    /// Before a write, which races with none before it: remembers a weaker one of its bytes, and forgets those that what races with them
    /// races with this one too.
    #[inline(always)]
    fn follow(&mut self, word: usize, slot: Slot, mine: &mut Mine) {
        if let Some(weaker) = &mut self.weaker
            && scope(weaker[word]) >= scope(slot)
            && mine.comes_after(weaker[word])
        {
            weaker[word] = without(weaker[word], slot);
        }
        for earlier in self.writers(word) {
            if earlier & slot & BYTES != 0 && scope(earlier) < scope(slot) {
                let kept = &mut self.weaker.get_or_insert_with(none)[word];
                if *kept == 0 || scope(*kept) >= scope(earlier) {
                    *kept = earlier & !(BYTES & !slot);
                }
            }
        }
    }

    #[inline(always)]
    fn write(&mut self, word: usize, slot: Slot, mine: &mut Mine) -> Result<(), (Slot, bool)> {
        let last = self.writers[word];
        if last != slot {
            self.not_after_write(word, slot, mine)?;
        }
        let both = merged(last, slot);
        if both != Some(last) {
            self.follow(word, slot, mine);
            self.writers[word] = both.unwrap_or(slot);
            if both.is_none() && !covers(slot, last) {
                // Another's bytes of the word stay.
                self.others[word] = last & !(slot & BYTES);
            }
        }
        for readers in [&mut self.readers].into_iter().chain(&mut self.seconds) {
            let reader = readers[word];
            if reader != 0 {
                if mine.races(reader, slot) {
                    return Err((reader, false));
                }
                // What comes after a weak write comes after the own reads before it, which need not be forgotten.
                if record(reader) == mine.record && scope(slot) == WEAK || scope(reader) < scope(slot) {
                    continue;
                }
                // What comes after this write comes after the reads of its bytes.
                readers[word] = without(reader, slot);
            }
        }
        Ok(())
    }
}

/// Which word of a page a word of an access is that begins at an offset.
#[inline(always)]
fn word_at(offset: u64, part: u64) -> usize {
    ((offset / 4 + part) % WORDS as u64) as usize
}

/// A lane accesses `PARTS` words.
#[inline(always)]
fn put<const PARTS: u64>(slots: &mut Slots, offset: u64, lane: usize, slot: Slot) {
    for part in 0..PARTS {
        slots[word_at(offset, part)] = slot | (lane as u64) << LANE;
    }
}

fn none() -> Slots {
    Box::new([0; WORDS])
}
