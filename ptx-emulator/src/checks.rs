//! What the checks know: which bytes have been written, and who touched each word of shared memory when.
//!
//! A block runs on one host thread, so that all its events have an order; `now` counts its barriers. A warp's clock says for each
//! warp up to which time its events are ordered before what the warp does next: after a barrier, all of those of the warps that
//! were there. Two accesses race if one of them writes, they are of different warps, and neither is ordered before the other.
//! Lanes of one warp are taken to run together.

use std::collections::HashMap;

/// Warps of a block, at most.
const WARPS: usize = 32;

/// A time that is not over: of a write whose copy is under way, when nobody may touch the bytes; of the reads of a word that are in
/// `Checks::reads`.
const OPEN: u32 = u32::MAX;
/// In `Stamp::bytes`, an atomic or volatile access: two of them do not race.
const STRONG: u8 = 0x20;

/// Where an access was.
#[derive(Clone, Copy, Debug, Default)]
struct Stamp {
    pc: u32,
    warp: u8,
    lane: u8,
    /// The bytes of the word in the low four bits, and `STRONG`; no bytes where several accesses disagree.
    bytes: u8,
}

impl Stamp {
    fn party(self) -> Party {
        Party { warp: self.warp.into(), lane: Some(self.lane.into()), pc: Some(self.pc) }
    }
}

/// Who touched a word of shared memory.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    write_time: u32,
    /// The latest of the reads since the write, and the warps that read at that time.
    read_time: u32,
    read_mask: u32,
    writer: Stamp,
    /// The last one.
    reader: Stamp,
}

/// The other party of an error: where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Party {
    pub warp: u32,
    /// Unknown for the earlier of several readers.
    pub lane: Option<u32>,
    pub pc: Option<u32>,
}

/// What is wrong with an access to shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// A byte that nobody wrote.
    Unwritten,
    /// A write of another warp is not ordered before this access.
    AfterWrite(Party),
    /// A read of another warp is not ordered before this write.
    AfterRead(Party),
    /// An asynchronous copy to these bytes has not been waited for.
    Owned(Party),
}

/// How an access acts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kind {
    pub reads: bool,
    pub writes: bool,
    /// Atomic or volatile.
    pub strong: bool,
    /// An asynchronous copy, which writes later.
    pub copy: bool,
}

/// Who accesses: warp, lane, place in the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub warp: u32,
    pub lane: u32,
    pub pc: u32,
    pub kind: Kind,
}

/// The clock of a warp or a barrier.
pub(crate) type Clock = [u32; WARPS];

/// The state of the checks for the block that runs.
pub(crate) struct Checks {
    /// A bit for each byte of shared memory that has been written.
    written: Vec<u64>,
    cells: Vec<Cell>,
    /// The time of each warp's last read (0: none) of words that several warps read at different times.
    reads: HashMap<u32, Clock>,
    clocks: [Clock; WARPS],
    /// The least entry of each clock: what is older is ordered before anything that the warp does.
    least: [u32; WARPS],
    now: u32,
    /// When the block began.
    start: u32,
    /// Warps of a block.
    warps: usize,
    /// Words that copies own.
    owned: u64,
}

impl Checks {
    pub(crate) fn new(shared_bytes: u64, warps: usize) -> Checks {
        Checks {
            written: vec![0; shared_bytes.div_ceil(64) as usize],
            cells: vec![Cell::default(); shared_bytes.div_ceil(4) as usize],
            reads: HashMap::new(),
            clocks: [[0; WARPS]; WARPS],
            least: [0; WARPS],
            now: 0,
            start: 0,
            warps,
            owned: 0,
        }
    }

    /// A new block: nothing is written, and all before is over.
    pub(crate) fn begin(&mut self) {
        self.written.fill(0);
        self.reads.clear();
        if std::mem::take(&mut self.owned) != 0 {
            // The last block ended without a wait.
            self.cells.fill(Cell::default());
        }
        self.now += 1;
        self.start = self.now;
        // Events at the block's first time are ordered before nobody else yet.
        self.clocks = [[self.now; WARPS]; WARPS];
        self.least = [self.now; WARPS];
    }

    /// A warp is at a barrier: what the barrier's clock takes from it. A warp that does not wait goes on at a later time.
    pub(crate) fn arrive(&mut self, barrier: &mut Clock, warp: u32, waits: bool) {
        for (all, own) in barrier.iter_mut().zip(&self.clocks[warp as usize]) {
            *all = (*all).max(*own);
        }
        if !waits {
            self.now += 1;
            barrier[warp as usize] = self.now;
        }
    }

    /// A barrier is complete: the warps in `waiting` go on after all that its members did.
    pub(crate) fn complete(&mut self, mut barrier: Clock, waiting: u32) {
        self.now += 1;
        let members = || (0..WARPS).filter(|w| waiting >> w & 1 != 0);
        for w in members() {
            barrier[w] = self.now;
        }
        let least = barrier[..self.warps].iter().min().copied().unwrap_or(0);
        for w in members() {
            self.clocks[w] = barrier;
            self.least[w] = least;
        }
    }

    /// Checks and notes an access to `size` bytes of shared memory, which lie within it and are aligned to the size.
    #[inline]
    pub(crate) fn access(&mut self, offset: u64, size: u64, who: Access) -> Result<(), Wrong> {
        let kind = who.kind;
        let bytes = if size < 4 { ((1u8 << size) - 1) << (offset % 4) } else { 0xf };
        let stamp = Stamp {
            pc: who.pc,
            warp: who.warp as u8,
            lane: who.lane as u8,
            bytes: bytes | if kind.strong { STRONG } else { 0 },
        };
        let (now, least) = (self.now, self.least[who.warp as usize]);
        let own = 1u32 << who.warp;
        for word in offset / 4..(offset + size).div_ceil(4) {
            let cell = &mut self.cells[word as usize];
            let after_write =
                cell.write_time < least || cell.write_time <= now && cell.writer.warp == stamp.warp;
            let old_reads = cell.read_time < least;
            // What nearly all accesses are; everything else is looked at closely.
            if after_write
                && !kind.writes
                && (old_reads || cell.read_time == now && cell.reader.bytes == stamp.bytes)
            {
                cell.read_mask = if old_reads { own } else { cell.read_mask | own };
                (cell.read_time, cell.reader) = (now, stamp);
            } else if after_write
                && kind.writes
                && !kind.copy
                && (old_reads || cell.read_time <= now && cell.read_mask & !own == 0)
            {
                (cell.write_time, cell.writer) = (now, stamp);
                (cell.read_time, cell.read_mask) = (0, 0);
            } else {
                self.closely(word as u32, stamp, kind)?;
            }
        }
        let bits = (u64::MAX >> (64 - size)) << (offset % 64);
        let written = &mut self.written[(offset / 64) as usize];
        if kind.reads && *written & bits != bits {
            return Err(Wrong::Unwritten);
        }
        if kind.writes && !kind.copy {
            *written |= bits;
        }
        Ok(())
    }

    /// An asynchronous copy has been carried out: as a write of the thread that waited.
    pub(crate) fn copied(&mut self, offset: u64, size: u64) {
        for cell in &mut self.cells[(offset / 4) as usize..((offset + size) / 4) as usize] {
            cell.write_time = self.now;
        }
        self.owned -= size / 4;
        self.written[(offset / 64) as usize] |= (u64::MAX >> (64 - size)) << (offset % 64);
    }

    #[inline(never)]
    fn closely(&mut self, word: u32, stamp: Stamp, kind: Kind) -> Result<(), Wrong> {
        let cell = self.cells[word as usize];
        if cell.write_time >= self.start && cell.writer.bytes & stamp.bytes & 0xf != 0 {
            if cell.write_time == OPEN {
                return Err(Wrong::Owned(cell.writer.party()));
            }
            let ordered = cell.writer.warp == stamp.warp
                || cell.write_time < self.clocks[usize::from(stamp.warp)][usize::from(cell.writer.warp)];
            let both_strong = cell.writer.bytes & stamp.bytes & STRONG != 0;
            if !ordered && !both_strong {
                return Err(Wrong::AfterWrite(cell.writer.party()));
            }
        }
        if kind.writes {
            return self.note_write(word, stamp, kind);
        }
        self.note_read(word, stamp);
        Ok(())
    }

    fn note_write(&mut self, word: u32, stamp: Stamp, kind: Kind) -> Result<(), Wrong> {
        let cell = &mut self.cells[word as usize];
        let others = cell.read_mask & !(1 << stamp.warp);
        let overlap = cell.reader.bytes & stamp.bytes & 0xf != 0;
        let both_strong = cell.reader.bytes & stamp.bytes & STRONG != 0;
        if others != 0 && overlap && !both_strong && cell.read_time >= self.start {
            let clock = &self.clocks[usize::from(stamp.warp)];
            let times = self.reads.get(&word).filter(|_| cell.read_time == OPEN);
            // The reads of an earlier block are gone.
            let single = if cell.read_time == OPEN { 0 } else { cell.read_time };
            let races = |w: usize| times.map_or(single, |t| t[w]) >= clock[w];
            if let Some(reader) = (0..WARPS).find(|&w| others >> w & 1 != 0 && races(w)) {
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
        (cell.write_time, cell.writer) = (if kind.copy { OPEN } else { self.now }, stamp);
        (cell.read_mask, cell.read_time) = (0, 0);
        Ok(())
    }

    fn note_read(&mut self, word: u32, stamp: Stamp) {
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
            let times = self.reads.entry(word).or_insert([0; WARPS]);
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

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Kind = Kind { reads: true, writes: false, strong: false, copy: false };
    const WRITE: Kind = Kind { reads: false, writes: true, strong: false, copy: false };

    fn by(warp: u32, kind: Kind) -> Access {
        Access { warp, lane: 7, pc: 100 + warp, kind }
    }

    fn party(warp: u32) -> Party {
        Party { warp, lane: Some(7), pc: Some(100 + warp) }
    }

    /// A barrier at which these warps wait.
    fn sync(checks: &mut Checks, warps: &[u32]) {
        let mut clock = Clock::default();
        for &w in warps {
            checks.arrive(&mut clock, w, true);
        }
        checks.complete(clock, warps.iter().map(|w| 1 << w).sum());
    }

    fn fresh(warps: usize) -> Checks {
        let mut checks = Checks::new(1024, warps);
        checks.begin();
        checks
    }

    #[test]
    fn order_passes_from_barrier_to_barrier() {
        let mut checks = fresh(3);
        checks.access(16, 4, by(0, WRITE)).unwrap();
        assert_eq!(checks.access(16, 4, by(1, READ)), Err(Wrong::AfterWrite(party(0))));
        sync(&mut checks, &[0, 1]);
        checks.access(16, 4, by(1, READ)).unwrap();
        // Warp 2 was not there.
        assert_eq!(checks.access(16, 4, by(2, READ)), Err(Wrong::AfterWrite(party(0))));
        // It meets warp 1, which has met warp 0.
        sync(&mut checks, &[1, 2]);
        checks.access(16, 4, by(2, READ)).unwrap();
        // Warp 0 does not know of the reads.
        assert_eq!(checks.access(16, 4, by(0, WRITE)), Err(Wrong::AfterRead(party(2))));
        sync(&mut checks, &[0, 1, 2]);
        checks.access(16, 4, by(0, WRITE)).unwrap();
    }

    #[test]
    fn readers_at_different_times_are_all_remembered() {
        let mut checks = fresh(4);
        for byte in 0..4 {
            checks.access(byte, 1, by(3, WRITE)).unwrap();
        }
        sync(&mut checks, &[0, 1, 2, 3]);
        checks.access(0, 4, by(0, READ)).unwrap();
        sync(&mut checks, &[2, 3]);
        checks.access(0, 4, by(1, READ)).unwrap();
        sync(&mut checks, &[1, 2]);
        // Ordered after the read of warp 1, not after that of warp 0, whose place is no longer known.
        let reader = Party { warp: 0, lane: None, pc: None };
        assert_eq!(checks.access(0, 4, by(2, WRITE)), Err(Wrong::AfterRead(reader)));
        sync(&mut checks, &[0, 2]);
        checks.access(0, 4, by(2, WRITE)).unwrap();
    }

    #[test]
    fn arrivals_order_what_came_before_them() {
        let mut checks = fresh(2);
        checks.access(0, 4, by(0, WRITE)).unwrap();
        let mut clock = Clock::default();
        checks.arrive(&mut clock, 0, false);
        checks.access(64, 4, by(0, WRITE)).unwrap();
        checks.arrive(&mut clock, 1, true);
        checks.complete(clock, 2);
        checks.access(0, 4, by(1, READ)).unwrap();
        assert_eq!(checks.access(64, 4, by(1, READ)), Err(Wrong::AfterWrite(party(0))));
        // The warp that only arrived knows nothing of the other.
        assert_eq!(checks.access(0, 4, by(0, WRITE)), Err(Wrong::AfterRead(party(1))));
    }

    #[test]
    fn blocks_and_bytes_are_apart() {
        let mut checks = fresh(2);
        checks.access(0, 2, by(0, WRITE)).unwrap();
        checks.access(2, 2, by(1, WRITE)).unwrap();
        assert_eq!(checks.access(3, 1, by(0, WRITE)), Err(Wrong::AfterWrite(party(1))));
        checks.begin();
        assert_eq!(checks.access(0, 2, by(1, READ)), Err(Wrong::Unwritten));
        checks.access(0, 4, by(1, WRITE)).unwrap();
    }

    #[test]
    fn a_copy_owns_its_bytes_until_the_wait() {
        let mut checks = fresh(2);
        let copy = Kind { copy: true, ..WRITE };
        checks.access(32, 16, by(0, copy)).unwrap();
        for kind in [READ, WRITE, copy] {
            assert_eq!(checks.access(40, 4, by(0, kind)), Err(Wrong::Owned(party(0))));
        }
        checks.copied(32, 16);
        checks.access(40, 4, by(0, READ)).unwrap();
        assert_eq!(checks.access(36, 4, by(1, READ)), Err(Wrong::AfterWrite(party(0))));
        sync(&mut checks, &[0, 1]);
        checks.access(32, 16, by(1, READ)).unwrap();
    }
}
