//! Races in global memory, of warps of one block and of different blocks.
//!
//! Each word of four bytes remembers who wrote it last, who did before by a weaker access, and two of those who have read it since:
//! a *slot* each, which names a [record](records) (cluster, warp and the time in the cluster) and the place in the program. Whether an access is ordered before
//! another is said by clocks alone, not by the order in which the emulator happens to run them: within a cluster by
//! those of its barriers, between clusters by what atomic or volatile accesses and fences handed on (`flags`). The rules are those of
//! the PTX manual's section "Memory Consistency Model": two accesses to the same bytes, one of them a write, of which not both are
//! strong with scopes that include the other, race if neither is ordered before the other.
//!
//! Blocks run on several host threads. A page of slots has a lock, so that of two racing accesses the second sees the first.

mod maps;
mod open;
mod proxies;
mod records;
mod slots;
#[cfg(test)]
mod tests;
mod words;

pub(super) use maps::Acquired;
pub(crate) use maps::Stale;
pub(super) use open::OpenWrites;
pub(super) use proxies::Fenced;
pub(super) use records::Writer;

use super::order::Knowledge;
use super::{Checks, flags::Others, handed::Handed};
use crate::ops::{LANES, lanes_of};
use records::{Record, Records};
use slots::Slot;
use std::sync::{Mutex, OnceLock, PoisonError};
use words::{Mine, Page};

/// Bytes of global memory whose slots lie in one page.
const PAGE_BYTES: u64 = 16384;

/// How far a strong access or a fence reaches: `.cta`, `.cluster`, and `.gpu` or `.sys`; weak accesses have 0.
pub(crate) type Scope = u32;
/// A weak access.
pub(crate) const WEAK: Scope = 0;
/// The own block.
pub(crate) const BLOCK: Scope = 1;
/// The own cluster.
pub(crate) const CLUSTER_WIDE: Scope = 2;
/// Everybody.
pub(crate) const DEVICE: Scope = 3;

/// A grid of clusters of blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Blocks of the grid in x, y, z.
    pub grid: [u32; 3],
    /// Blocks of a cluster in x, y, z.
    pub cluster: [u32; 3],
}

impl Default for Shape {
    fn default() -> Shape {
        Shape { grid: [1; 3], cluster: [1; 3] }
    }
}

impl Shape {
    /// The block of a rank in a cluster.
    pub(crate) fn block_at(&self, cluster: u64, rank: u32) -> [u32; 3] {
        let [cx, cy, cz] = self.cluster;
        let [x, y] = [u64::from(self.grid[0] / cx), u64::from(self.grid[1] / cy)];
        let [px, py, pz] = [cluster % x, cluster / x % y, cluster / x / y].map(|p| p as u32);
        [px * cx + rank % cx, py * cy + rank / cx % cy, pz * cz + rank / cx / cy]
    }
}

/// The slots of an allocation, page after page as they are touched.
type Pages = OnceLock<Box<[OnceLock<Mutex<Page>>]>>;

/// What the host threads of a launch know together about global memory.
#[derive(Debug, Default)]
pub(crate) struct Global {
    /// Of each allocation its length, in the order of `Segment::number`.
    segments: Vec<(u64, Pages)>,
    /// The block of each rank of each cluster.
    shape: Shape,
    records: Records,
    /// Whether the kernel has fences, without which no access orders others.
    pub(super) has_fences: bool,
    /// What has been handed on by strong writes to words of global memory.
    pub(super) released: Mutex<Handed>,
    /// For each cluster the times up to which its parties' events have been released to the tensormap proxy.
    maps_released: Mutex<Others>,
}

impl Global {
    /// For a launch that sees allocations of these lengths.
    pub(crate) fn new(lengths: impl Iterator<Item = u64>, shape: Shape, has_fences: bool) -> Global {
        let segments = lengths.map(|l| (l, Pages::new())).collect();
        Global { segments, shape, has_fences, ..Global::default() }
    }

    fn page(&self, segment: u32, page: u64) -> Option<&Mutex<Page>> {
        let (length, pages) = self.segments.get(segment as usize)?;
        let count = length.div_ceil(PAGE_BYTES);
        let pages = pages.get_or_init(|| (0..count).map(|_| OnceLock::new()).collect());
        Some(pages.get(page as usize)?.get_or_init(|| Mutex::new(Page::new())))
    }

    /// Finds the last accesses that wrote these bytes of an allocation, with the offsets of their words.
    fn for_writers(&self, segment: u32, offset: u64, length: u64, mut found: impl FnMut(u64, Slot)) {
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let number = at / PAGE_BYTES;
            let until = end.min((number + 1) * PAGE_BYTES);
            if let Some(page) = self.page(segment, number) {
                let page = page.lock().unwrap_or_else(PoisonError::into_inner);
                page.for_writers(at % PAGE_BYTES, until - at, |word, slot| {
                    found(number * PAGE_BYTES + 4 * word, slot);
                });
            }
            at = until;
        }
    }
}

/// An access of lanes one after another to bytes one after another of an allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub segment: u32,
    /// Within the allocation.
    pub offset: u64,
    pub length: u64,
    /// The first lane, the bytes of each, and how many read the same.
    pub lane: u32,
    pub step: u64,
    pub each: u32,
    /// Of the cluster.
    pub warp: u32,
    pub pc: u32,
    pub scope: Scope,
    pub writes: bool,
    /// By the async proxy.
    pub bulk: bool,
}

/// Two accesses that race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Race {
    /// Where in the allocation the first byte is that both touch.
    pub offset: u64,
    /// The earlier one's lane (of several that touched the word at once the first) and place in the program, and whether it wrote.
    pub lane: u32,
    pub pc: Option<u32>,
    pub wrote: bool,
    /// Both are strong, but the scope of one does not reach the other.
    pub narrow: bool,
    /// Its block, its warp of the cluster, and whether that is the own cluster.
    pub block: [u32; 3],
    pub warp: u32,
    pub own_cluster: bool,
}

impl Checks {
    /// A warp as the party that accesses global memory, unless nothing is noted of it.
    #[inline(always)]
    fn mine(&mut self, warp: u32) -> Option<Mine<'_>> {
        let record = self.record_of(warp as usize);
        let party = (self.cluster, warp, self.block_warps);
        (record != 0).then(|| Mine::new(&self.global, &self.known[warp as usize], record, party))
    }

    /// Checks and notes an access to global memory.
    pub(crate) fn touch(&mut self, run: &Run) -> Result<(), Race> {
        let Some(mut mine) = self.mine(run.warp) else { return Ok(()) };
        let mut at = run.offset;
        let end = run.offset + run.length;
        while at < end {
            let number = at / PAGE_BYTES;
            let until = end.min((number + 1) * PAGE_BYTES);
            if let Some(page) = mine.global.page(run.segment, number) {
                let mut page = page.lock().unwrap_or_else(PoisonError::into_inner);
                let part = Run { offset: at % PAGE_BYTES, length: until - at, ..*run };
                let found =
                    page.touch(&part, run.lane + ((at - run.offset) / run.step) as u32 * run.each, &mut mine);
                found.map_err(|(word, slot)| mine.race(number * PAGE_BYTES + 4 * word, slot, run))?;
            }
            at = until;
        }
        Ok(())
    }

    /// Whether lanes that access `run.step` bytes each (1, 2, 4, 8 or 16, aligned) at these offsets change nothing of what is known of
    /// them: the warp has done as much since it last handed on what it did, and nobody else since.
    #[inline(always)]
    pub(crate) fn is_touched(&mut self, run: &Run, offsets: &[u64; LANES]) -> bool {
        let record = self.record[run.warp as usize];
        if record == 0 || !in_one_page(offsets) {
            return false;
        }
        let Some(page) = self.global.page(run.segment, offsets[0] / PAGE_BYTES) else { return false };
        page.lock().unwrap_or_else(PoisonError::into_inner).is_touched(run, offsets, record)
    }

    /// As `touch`, by the lanes in `m` of `run.step` bytes each (1, 2, 4, 8 or 16, aligned) at these offsets, where lanes not in `m`
    /// repeat one. The error has the lane.
    #[inline(always)]
    pub(crate) fn touch_lanes(
        &mut self,
        run: &Run,
        m: u32,
        offsets: &[u64; LANES],
    ) -> Result<(), (u32, Race)> {
        let Some(mut mine) = self.mine(run.warp) else { return Ok(()) };
        if in_one_page(offsets)
            && let Some(page) = mine.global.page(run.segment, offsets[0] / PAGE_BYTES)
            && page.lock().unwrap_or_else(PoisonError::into_inner).touch_words(run, (m, offsets), &mut mine)
        {
            return Ok(());
        }
        // One page is locked for as many lanes in turn as lie in it.
        let mut held = None;
        let mut last = u64::MAX;
        for lane in lanes_of(m) {
            let offset = offsets[lane];
            // Lanes one after another that touch the same are one.
            if std::mem::replace(&mut last, offset) == offset {
                continue;
            }
            let number = offset / PAGE_BYTES;
            if held.as_ref().is_none_or(|(of, _)| *of != number) {
                drop(held.take());
                let Some(page) = mine.global.page(run.segment, number) else { continue };
                held = Some((number, page.lock().unwrap_or_else(PoisonError::into_inner)));
            }
            let Some((_, page)) = &mut held else { continue };
            let lane = lane as u32;
            page.touch_lane(run, (lane, offset % PAGE_BYTES), &mut mine).map_err(|(word, slot)| {
                let run = Run { offset, length: run.step, lane, ..*run };
                (lane, mine.race(number * PAGE_BYTES + 4 * word, slot, &run))
            })?;
        }
        Ok(())
    }

    /// Nobody has touched these bytes of an allocation; no other bytes of their words are in use.
    pub(crate) fn forget_global(&mut self, segment: u32, offset: u64, length: u64) {
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let number = at / PAGE_BYTES;
            let until = end.min((number + 1) * PAGE_BYTES);
            if let Some(page) = self.global.page(segment, number) {
                let mut page = page.lock().unwrap_or_else(PoisonError::into_inner);
                page.forget(at % PAGE_BYTES, until - at);
            }
            at = until;
        }
    }

    /// The record of a warp since it last handed on what it had done; 0 if there are no more.
    fn record_of(&mut self, warp: usize) -> u32 {
        if self.record[warp] == 0 {
            let record = Record { cluster: self.cluster, warp: warp as u32, time: self.now };
            self.record[warp] = self.writer.add(&self.global.records, record);
        }
        self.record[warp]
    }
}

/// Whether all offsets lie in one page.
#[inline(always)]
fn in_one_page(offsets: &[u64; LANES]) -> bool {
    let number = offsets[0] / PAGE_BYTES;
    offsets.iter().fold(0, |all, offset| all | ((offset / PAGE_BYTES) ^ number)) == 0
}

/// Whether a warp of a cluster, which knows this, comes after what a record stands for.
fn is_ordered(record: Record, cluster: u64, warp: u32, known: &Knowledge) -> bool {
    let party = record.warp as usize;
    if record.cluster == cluster {
        return record.warp == warp || record.time < known.seen[party];
    }
    known
        .others
        .as_ref()
        .and_then(|all| all.get(&record.cluster))
        .is_some_and(|seen| record.time < seen[party])
}
