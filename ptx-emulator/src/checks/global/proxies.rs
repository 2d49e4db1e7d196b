//! The async proxy in global memory: what threads wrote there with loads and stores of the generic proxy is there for bulk copies if a
//! `fence.proxy.async` came after the write and is ordered before the copy (PTX manual, "Proxies" and "Causality Order"). What bulk copies
//! wrote needs none once they have been waited for, nor does what the host or an earlier launch wrote.

use super::slots::{is_async, record};
use super::words::Mine;
use super::{Checks, Race, Run};
use crate::checks::flags::Others;
use std::sync::Arc;

impl Checks {
    /// A warp's proxy fence for global memory: all that it has done and seen is there for bulk copies.
    pub(in crate::checks) fn fence_global(&mut self, warp: u32) {
        let w = warp as usize;
        self.now += 1;
        self.record[w] = 0;
        let known = &mut self.known[w];
        let mut all = known.others.as_deref().map_or_else(Others::new, Others::clone);
        let mut own = known.seen;
        own[w] = self.now;
        all.insert(self.cluster, own);
        known.fenced_global = Some(Arc::new(all));
    }

    /// The write to bytes of a bulk copy's access that lacks a proxy fence.
    pub(crate) fn not_fenced(&self, run: &Run) -> Option<Race> {
        let known = &self.known[run.warp as usize];
        let lacks = |number: u32| {
            let write = self.global.records.get(number);
            let fenced = known.fenced_global.as_ref().and_then(|all| all.get(&write.cluster));
            fenced.is_none_or(|clock| write.time >= clock[write.warp as usize])
        };
        let writers = self.global.writers(run.segment, run.offset, run.length);
        let (offset, slot) = writers.into_iter().find(|&(_, slot)| !is_async(slot) && lacks(record(slot)))?;
        let mine = Mine::new(&self.global, known, 0, (self.cluster, run.warp, self.block_warps));
        // Two strong accesses lack it too.
        Some(Race { narrow: false, ..mine.race(offset, (slot, true), run) })
    }
}
