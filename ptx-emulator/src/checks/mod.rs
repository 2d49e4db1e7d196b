//! What the checks know: which bytes have been written, and who touched each word of shared memory when.
//!
//! A cluster runs on one host thread, so that all its events have an order; `now` counts what orders them. A party is a warp of the
//! cluster, or the bulk copies that report to one mbarrier. A warp's clock says for each party up to which time its events are
//! ordered before what the warp does next: after a barrier, all of those of the warps that were there (`order`). Two accesses race
//! if one of them writes, they are of different parties, and neither is ordered before the other. Bulk copies and `wgmma` see
//! what threads wrote only if a proxy fence came between as well (`asynchronous`). Atomic and volatile accesses hand order on
//! where fences go with them (`flags`), to other clusters too, with which a cluster shares global memory (`global`). Lanes of one
//! warp are taken to run together.

mod asynchronous;
mod flags;
mod global;
mod order;

pub(crate) use asynchronous::{READS, WRITES};
pub(crate) use flags::{ACQUIRE, Fence, Flag, RELEASE};
pub(crate) use global::{BLOCK, CLUSTER_WIDE, DEVICE, Global, Race, Run, Scope, Shape, WEAK};
pub(crate) use order::{CLUSTER, Knowledge, PARTIES};

use asynchronous::Reading;
use flags::{Fences, SharedFlags};
use global::Writer;
use order::{Clock, Phase};
use std::collections::HashMap;
use std::sync::Arc;

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
    read_mask: u64,
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
    /// An asynchronous access to what another party wrote, which is ordered, but not fenced.
    NotFenced(Party),
    /// A write to bytes that an asynchronous access still reads.
    StillRead(Party),
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
    /// By the async proxy.
    pub bulk: bool,
}

/// Who accesses: warp of the cluster, lane, place in the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub warp: u32,
    pub lane: u32,
    pub pc: u32,
    pub kind: Kind,
}

/// The state of the checks for the cluster that runs.
pub(crate) struct Checks {
    /// A bit for each byte of shared memory that has been written; block after block.
    written: Vec<u64>,
    cells: Vec<Cell>,
    /// Bytes between two blocks' memory in `written` and `cells`.
    stride: u64,
    /// The time of each party's last read (0: none) of words that several warps read at different times.
    reads: HashMap<u32, Clock>,
    known: Vec<Knowledge>,
    /// The least entry of each clock: what is older is ordered before anything that the warp does.
    least: [u32; PARTIES],
    now: u32,
    /// When the cluster began.
    start: u32,
    /// Warps of the cluster, and of each of its blocks.
    warps: usize,
    block_warps: u32,
    /// What the barriers that are not the block's know, and which party reports to an mbarrier.
    phases: HashMap<(u32, u32), Phase>,
    parties: HashMap<(u32, u32), usize>,
    readings: Vec<Reading>,
    next_reading: u64,
    /// Words that copies own.
    owned: u64,
    /// A bit for each byte of all threads' local memory that has been written.
    local: Vec<u64>,
    /// What is known of global memory, by all host threads; the cluster's number in the grid.
    global: Arc<Global>,
    cluster: u64,
    /// The record of each warp's accesses to global memory since it last handed on what it did; 0: none yet.
    record: [u32; PARTIES],
    writer: Writer,
    fences: Vec<Fences>,
    shared_flags: SharedFlags,
}

impl Checks {
    pub(crate) fn new(
        shared_bytes: u64,
        local_bytes: u64,
        blocks: usize,
        warps: usize,
        global: Arc<Global>,
    ) -> Checks {
        let stride = shared_bytes.next_multiple_of(64);
        let all = stride * blocks as u64;
        Checks {
            written: vec![0; all as usize / 64],
            cells: vec![Cell::default(); all as usize / 4],
            stride,
            reads: HashMap::new(),
            known: vec![Knowledge::at(0); PARTIES],
            least: [0; PARTIES],
            now: 0,
            start: 0,
            warps: blocks * warps,
            block_warps: warps as u32,
            phases: HashMap::new(),
            parties: HashMap::new(),
            readings: Vec::new(),
            next_reading: 0,
            owned: 0,
            local: vec![0; (local_bytes as usize * 32 * blocks * warps).div_ceil(64)],
            global,
            cluster: 0,
            record: [0; PARTIES],
            writer: Writer::default(),
            fences: std::iter::repeat_with(Fences::default).take(blocks * warps).collect(),
            shared_flags: SharedFlags::new(),
        }
    }

    /// A new cluster of the grid: nothing is written, and all before in shared memory is over.
    pub(crate) fn begin(&mut self, cluster: u64) {
        self.cluster = cluster;
        self.record = [0; PARTIES];
        self.fences.iter_mut().for_each(|fences| *fences = Fences::default());
        self.shared_flags.clear();
        self.written.fill(0);
        self.reads.clear();
        self.phases.clear();
        self.parties.clear();
        self.readings.clear();
        self.local.fill(0);
        if std::mem::take(&mut self.owned) != 0 {
            // The last cluster ended without a wait.
            self.cells.fill(Cell::default());
        }
        self.now += 1;
        self.start = self.now;
        // Events at the cluster's first time are ordered before nobody else yet.
        self.known.fill(Knowledge::at(self.now));
        self.least = [self.now; PARTIES];
    }

    /// Bytes of local memory have been written; `at` counts from the first thread's first byte.
    pub(crate) fn wrote_local(&mut self, at: u64, size: u64) {
        (at..at + size).for_each(|at| self.local[(at / 64) as usize] |= 1 << (at % 64));
    }

    /// Whether bytes of local memory have all been written.
    pub(crate) fn knows_local(&self, at: u64, size: u64) -> bool {
        (at..at + size).all(|at| self.local[(at / 64) as usize] >> (at % 64) & 1 != 0)
    }

    /// Checks and notes an access to `size` bytes of a block's shared memory, which lie within it and are aligned to the size.
    #[inline]
    pub(crate) fn access(&mut self, rank: u32, offset: u64, size: u64, who: Access) -> Result<(), Wrong> {
        let kind = who.kind;
        let offset = offset + u64::from(rank) * self.stride;
        if kind.writes && !self.readings.is_empty() {
            self.not_read(offset, size)?;
        }
        let bytes = if size < 4 { ((1u8 << size) - 1) << (offset % 4) } else { 0xf };
        let stamp = Stamp {
            pc: who.pc,
            warp: who.warp as u8,
            lane: who.lane as u8,
            bytes: bytes | if kind.strong { STRONG } else { 0 },
        };
        let (now, least) = (self.now, self.least[who.warp as usize]);
        let own = 1u64 << who.warp;
        for word in offset / 4..(offset + size).div_ceil(4) {
            let cell = &mut self.cells[word as usize];
            let after_write = !kind.bulk
                && (cell.write_time < least || cell.write_time <= now && cell.writer.warp == stamp.warp);
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
    pub(crate) fn copied(&mut self, rank: u32, offset: u64, size: u64) {
        let offset = offset + u64::from(rank) * self.stride;
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
            let own = &self.known[usize::from(stamp.warp)];
            let writer = usize::from(cell.writer.warp);
            let ordered = cell.writer.warp == stamp.warp || cell.write_time < own.seen[writer];
            if ordered && kind.bulk && writer < self.warps && cell.write_time >= own.fenced[writer] {
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

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Kind = Kind { reads: true, writes: false, strong: false, copy: false, bulk: false };
    const WRITE: Kind = Kind { reads: false, writes: true, ..READ };

    fn by(warp: u32, kind: Kind) -> Access {
        Access { warp, lane: 7, pc: 100 + warp, kind }
    }

    fn party(warp: u32) -> Party {
        Party { warp, lane: Some(7), pc: Some(100 + warp) }
    }

    /// A barrier at which these warps wait.
    fn sync(checks: &mut Checks, warps: &[u32]) {
        let mut clock = Knowledge::at(0);
        for &w in warps {
            checks.arrive(&mut clock, w, true);
        }
        checks.complete(clock, warps.iter().map(|w| 1u64 << w).sum());
    }

    fn fresh(warps: usize) -> Checks {
        let mut checks = Checks::new(1024, 0, 1, warps, Arc::default());
        checks.begin(0);
        checks
    }

    #[test]
    fn order_passes_from_barrier_to_barrier() {
        let mut checks = fresh(3);
        checks.access(0, 16, 4, by(0, WRITE)).unwrap();
        assert_eq!(checks.access(0, 16, 4, by(1, READ)), Err(Wrong::AfterWrite(party(0))));
        sync(&mut checks, &[0, 1]);
        checks.access(0, 16, 4, by(1, READ)).unwrap();
        // Warp 2 was not there.
        assert_eq!(checks.access(0, 16, 4, by(2, READ)), Err(Wrong::AfterWrite(party(0))));
        // It meets warp 1, which has met warp 0.
        sync(&mut checks, &[1, 2]);
        checks.access(0, 16, 4, by(2, READ)).unwrap();
        // Warp 0 does not know of the reads.
        assert_eq!(checks.access(0, 16, 4, by(0, WRITE)), Err(Wrong::AfterRead(party(2))));
        sync(&mut checks, &[0, 1, 2]);
        checks.access(0, 16, 4, by(0, WRITE)).unwrap();
    }

    #[test]
    fn readers_at_different_times_are_all_remembered() {
        let mut checks = fresh(4);
        for byte in 0..4 {
            checks.access(0, byte, 1, by(3, WRITE)).unwrap();
        }
        sync(&mut checks, &[0, 1, 2, 3]);
        checks.access(0, 0, 4, by(0, READ)).unwrap();
        sync(&mut checks, &[2, 3]);
        checks.access(0, 0, 4, by(1, READ)).unwrap();
        sync(&mut checks, &[1, 2]);
        // Ordered after the read of warp 1, not after that of warp 0, whose place is no longer known.
        let reader = Party { warp: 0, lane: None, pc: None };
        assert_eq!(checks.access(0, 0, 4, by(2, WRITE)), Err(Wrong::AfterRead(reader)));
        sync(&mut checks, &[0, 2]);
        checks.access(0, 0, 4, by(2, WRITE)).unwrap();
    }

    #[test]
    fn arrivals_order_what_came_before_them() {
        let mut checks = fresh(2);
        checks.access(0, 0, 4, by(0, WRITE)).unwrap();
        let mut clock = Knowledge::at(0);
        checks.arrive(&mut clock, 0, false);
        checks.access(0, 64, 4, by(0, WRITE)).unwrap();
        checks.arrive(&mut clock, 1, true);
        checks.complete(clock, 2);
        checks.access(0, 0, 4, by(1, READ)).unwrap();
        assert_eq!(checks.access(0, 64, 4, by(1, READ)), Err(Wrong::AfterWrite(party(0))));
        // The warp that only arrived knows nothing of the other.
        assert_eq!(checks.access(0, 0, 4, by(0, WRITE)), Err(Wrong::AfterRead(party(1))));
    }

    #[test]
    fn blocks_and_bytes_are_apart() {
        let mut checks = fresh(2);
        checks.access(0, 0, 2, by(0, WRITE)).unwrap();
        checks.access(0, 2, 2, by(1, WRITE)).unwrap();
        assert_eq!(checks.access(0, 3, 1, by(0, WRITE)), Err(Wrong::AfterWrite(party(1))));
        checks.begin(1);
        assert_eq!(checks.access(0, 0, 2, by(1, READ)), Err(Wrong::Unwritten));
        checks.access(0, 0, 4, by(1, WRITE)).unwrap();
    }

    #[test]
    fn a_copy_owns_its_bytes_until_the_wait() {
        let mut checks = fresh(2);
        let copy = Kind { copy: true, ..WRITE };
        checks.access(0, 32, 16, by(0, copy)).unwrap();
        for kind in [READ, WRITE, copy] {
            assert_eq!(checks.access(0, 40, 4, by(0, kind)), Err(Wrong::Owned(party(0))));
        }
        checks.copied(0, 32, 16);
        checks.access(0, 40, 4, by(0, READ)).unwrap();
        assert_eq!(checks.access(0, 36, 4, by(1, READ)), Err(Wrong::AfterWrite(party(0))));
        sync(&mut checks, &[0, 1]);
        checks.access(0, 32, 16, by(1, READ)).unwrap();
    }
}
