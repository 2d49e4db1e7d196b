//! What the checks know: which bytes have been written, and who touched each word of shared memory when.
//!
//! A cluster runs on one host thread, so that all its events have an order; `now` counts what orders them. A party is a warp of the
//! cluster, or the bulk copies that report to one mbarrier. A warp's clock says for each party up to which time its events are
//! ordered before what the warp does next: after a barrier, all of those of the warps that were there (`order`). Two accesses race
//! if one of them writes, they are of different parties, and neither is ordered before the other. Bulk copies and `wgmma` see
//! what threads wrote only if a proxy fence came between as well (`asynchronous`, and `global` for its memory). Atomic and volatile accesses hand order on
//! where fences go with them (`flags`), to other clusters too, with which a cluster shares global memory (`global`). Lanes of one
//! warp race in shared memory where no barrier of the warp is between (`lanes`), and are taken to run together in global memory.

mod access;
mod asynchronous;
mod flags;
mod global;
mod handed;
#[cfg(test)]
mod history;
mod lanes;
mod order;
mod relaxed;
mod scattered;
mod stamp;
#[cfg(test)]
mod tests;
mod weaker;

pub(crate) use asynchronous::{Pieces, READS, WRITES};
pub(crate) use flags::{ACQUIRE, Fence, RELEASE};
pub(crate) use global::{BLOCK, CLUSTER_WIDE, DEVICE, Global, Race, Run, Scope, Shape, Stale, WEAK};
pub(crate) use handed::Flag;
pub(crate) use order::{CLUSTER, Knowledge, PARTIES};

use crate::memory::words;
use asynchronous::Reading;
use flags::Fences;
use global::{Acquired, OpenWrites, Writer};
use handed::Handed;
use lanes::Lanes;
use order::{Clock, Phase};
use stamp::{STRONG, Stamp};
use std::collections::HashMap;
use std::sync::Arc;
use weaker::Weaker;

/// A time that is not over: of a write whose copy is under way, when nobody may touch the bytes; of the reads of a word that are in
/// `Checks::reads`.
const OPEN: u32 = u32::MAX;
/// Who touched each word of shared memory.
#[derive(Debug, Default)]
struct Cells {
    /// The last who wrote, and when.
    writers: Vec<Stamp>,
    write_times: Vec<u32>,
    /// The latest of the reads since the write, the warps that read at that time, and the last of them.
    read_times: Vec<u32>,
    read_masks: Vec<u64>,
    readers: Vec<Stamp>,
    /// Lanes of accesses that are `UNCLEAR`.
    writer_lanes: Vec<Lanes>,
    reader_lanes: Vec<Lanes>,
}

impl Cells {
    fn new(words: usize) -> Cells {
        let stamps = || vec![Stamp::default(); words];
        Cells {
            writers: stamps(),
            write_times: vec![0; words],
            read_times: vec![0; words],
            read_masks: vec![0; words],
            readers: stamps(),
            writer_lanes: vec![Lanes::default(); words],
            reader_lanes: vec![Lanes::default(); words],
        }
    }

    /// Nobody touched anything.
    fn clear(&mut self) {
        *self = Cells::new(self.writers.len());
    }
}

/// The other party of an error: where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Party {
    pub warp: u32,
    /// Unknown for the earlier of several readers, and for one of several lanes.
    pub lane: Option<u32>,
    pub pc: Option<u32>,
}

/// What is wrong with an access to shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// A byte that nobody wrote.
    Unwritten,
    /// A write of another warp or lane is not ordered before this access.
    AfterWrite(Party),
    /// A read of another warp or lane is not ordered before this write.
    AfterRead(Party),
    /// An asynchronous copy to these bytes has not been waited for.
    Owned(Party),
    /// An asynchronous access to what another party wrote, which is ordered, but not fenced.
    NotFenced(Party),
    /// A write to bytes that an asynchronous access still reads.
    StillRead(Party),
    /// Memory of another block of the cluster, of which nothing says that it has begun.
    NotBegun,
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
    /// Of an mbarrier, by an instruction that uses it.
    pub barrier: bool,
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
    cells: Cells,
    /// Bytes between two blocks' memory in `written` and `cells`.
    stride: u64,
    /// The time of each party's last read (0: none) of words that several warps read at different times.
    reads: HashMap<u32, Clock>,
    /// Of words that a strong access touched since, what may race with accesses that the strong one does not race with.
    weaker: HashMap<u32, Weaker>,
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
    /// How often the lanes of each warp have met at a barrier, from 1 to 255 and again.
    synced: [u8; PARTIES],
    writer: Writer,
    fences: Vec<Fences>,
    /// What has been handed on through shared memory.
    shared_flags: Handed,
    /// What each warp's relaxed waits were handed since its last fence.
    waited: Vec<Option<Box<Knowledge>>>,
    /// What bulk copies write in global memory.
    open_writes: OpenWrites,
    /// Acquires of tensor maps, by rank of the block and address of the map.
    acquired: HashMap<(u32, u64), Vec<Acquired>>,
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
            cells: Cells::new(all as usize / 4),
            stride,
            reads: HashMap::new(),
            weaker: HashMap::new(),
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
            synced: [1; PARTIES],
            writer: Writer::default(),
            fences: std::iter::repeat_with(Fences::default).take(blocks * warps).collect(),
            shared_flags: Handed::default(),
            waited: vec![None; blocks * warps],
            open_writes: OpenWrites::default(),
            acquired: HashMap::new(),
        }
    }

    /// A new cluster of the grid: nothing is written, and all before in shared memory is over.
    pub(crate) fn begin(&mut self, cluster: u64) {
        self.cluster = cluster;
        self.record = [0; PARTIES];
        self.fences.iter_mut().for_each(|fences| *fences = Fences::default());
        self.waited.fill(None);
        self.shared_flags.clear();
        self.acquired.clear();
        self.open_writes.clear();
        self.written.fill(0);
        self.reads.clear();
        self.weaker.clear();
        self.phases.clear();
        self.parties.clear();
        self.readings.clear();
        self.local.fill(0);
        if std::mem::take(&mut self.owned) != 0 {
            // The last cluster ended without a wait.
            self.cells.clear();
        }
        self.now += 1;
        self.start = self.now;
        // Events at the cluster's first time are ordered before nobody else yet.
        self.known.fill(Knowledge::at(self.now));
        for (warp, known) in self.known[..self.warps].iter_mut().enumerate() {
            known.begun = 1 << (warp / self.block_warps as usize);
        }
        self.least = [self.now; PARTIES];
    }

    /// The stamp of an access to bytes of a word.
    #[inline(always)]
    fn stamp(&self, who: Access, bytes: u8) -> Stamp {
        let strong = if who.kind.strong { STRONG } else { 0 };
        let sync = if who.kind.bulk { lanes::NONE } else { self.synced[who.warp as usize] };
        Stamp::new(who.pc, (who.warp, who.lane), bytes | strong, sync)
    }

    /// Bytes of local memory have been written; `at` counts from the first thread's first byte.
    pub(crate) fn wrote_local(&mut self, at: u64, size: u64) {
        words(at, size).for_each(|(word, bits)| self.local[word] |= bits);
    }

    /// Bytes of local memory are as those that nobody wrote.
    pub(crate) fn forget_local(&mut self, at: u64, size: u64) {
        words(at, size).for_each(|(word, bits)| self.local[word] &= !bits);
    }

    /// Whether bytes of local memory have all been written.
    pub(crate) fn knows_local(&self, at: u64, size: u64) -> bool {
        words(at, size).all(|(word, bits)| self.local[word] & bits == bits)
    }
}
