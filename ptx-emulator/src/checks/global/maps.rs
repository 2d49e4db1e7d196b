//! The tensormap proxy, by which copies read the tensor maps that they use. What a kernel writes to a map in global memory is there for
//! a copy if it was released to the proxy after the write (by `fence.proxy.tensormap::generic.release`, or by
//! `tensormap.cp_fenceproxy`, which copies and releases) and after that acquired for the map's address
//! (`fence.proxy.tensormap::generic.acquire`) by a thread of the block that uses it, and the use is ordered after the acquire: PTX manual,
//! "membar, fence" and "Causality Order", and the CUDA Programming Guide's section on tensor maps in global memory. Maps that the host
//! or an earlier launch wrote are not looked at.

use super::slots::{Slot, record};
use super::words::Mine;
use super::{Checks, Global, Race, Run, is_ordered};
use crate::checks::PARTIES;
use crate::checks::flags::later;
use std::sync::PoisonError;

/// An acquire of a map, for one record of those who wrote it.
#[derive(Clone, Copy, Debug)]
pub(in crate::checks) struct Acquired {
    record: u32,
    warp: u32,
    time: u32,
}

/// A use of a map that lacks a fence after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stale {
    /// The write.
    pub write: Race,
    /// Whether it has been released to the tensormap proxy.
    pub released: bool,
}

impl Global {
    /// The last accesses that wrote these bytes of an allocation, one of each record.
    fn writers(&self, segment: u32, offset: u64, length: u64) -> Vec<(u64, Slot)> {
        let mut all: Vec<(u64, Slot)> = Vec::new();
        self.for_writers(segment, offset, length, |offset, slot| {
            if !all.iter().any(|(_, other)| record(*other) == record(slot)) {
                all.push((offset, slot));
            }
        });
        all
    }

    /// Whether what a record stands for has been released to the tensormap proxy.
    fn is_released(&self, number: u32) -> bool {
        let written = self.records.get(number);
        let released = self.maps_released.lock().unwrap_or_else(PoisonError::into_inner);
        released.get(&written.cluster).is_some_and(|clock| written.time < clock[written.warp as usize])
    }
}

impl Checks {
    /// A warp releases to the tensormap proxy what it has done and seen, after its fence.
    pub(crate) fn release_maps(&mut self, warp: u32) {
        let known = &self.known[warp as usize];
        let mut all = self.global.maps_released.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry(self.cluster).or_insert([0; PARTIES]);
        later(own, &known.seen);
        own[warp as usize] = self.now;
        for (&cluster, clock) in known.others.iter().flat_map(|others| others.iter()) {
            later(all.entry(cluster).or_insert([0; PARTIES]), clock);
        }
    }

    /// A warp acquires the map of `length` bytes at an address for its block, after its fence. Gives what the checks remember of it.
    pub(crate) fn acquire_map(
        &mut self,
        warp: u32,
        (segment, offset): (u32, u64),
        address: u64,
        length: u64,
    ) {
        let known = &self.known[warp as usize];
        let mut found: Vec<u32> = Vec::new();
        for (_, slot) in self.global.writers(segment, offset, length) {
            let number = record(slot);
            let ordered = is_ordered(self.global.records.get(number), self.cluster, warp, known);
            if ordered && self.global.is_released(number) {
                found.push(number);
            }
        }
        let time = self.now;
        let all = self.acquired.entry((warp / self.block_warps, address)).or_default();
        for record in found {
            // What comes after a later acquire comes after this warp's first one.
            if !all.iter().any(|a| (a.record, a.warp) == (record, warp)) {
                all.push(Acquired { record, warp, time });
            }
        }
    }

    /// Whether a copy may use the map of which `run` is the read.
    pub(crate) fn use_map(&mut self, run: &Run, address: u64) -> Result<(), Stale> {
        let (warp, known) = (run.warp, &self.known[run.warp as usize]);
        let acquired = self.acquired.get(&(warp / self.block_warps, address));
        for (offset, slot) in self.global.writers(run.segment, run.offset, run.length) {
            let number = record(slot);
            let before =
                |a: &Acquired| a.record == number && (a.warp == warp || a.time < known.seen[a.warp as usize]);
            if acquired.is_some_and(|all| all.iter().any(before)) {
                continue;
            }
            let mine = Mine::new(&self.global, known, 0, (self.cluster, warp, self.block_warps));
            let released = self.global.is_released(number);
            return Err(Stale { write: mine.race(offset, (slot, true), run), released });
        }
        Ok(())
    }
}
