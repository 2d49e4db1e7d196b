//! The async proxy in global memory: what threads wrote there with loads and stores of the generic proxy is there for bulk copies if a
//! `fence.proxy.async` came after the write and is ordered before the copy (PTX manual, "Proxies" and "Causality Order"). What bulk copies
//! wrote needs none once they have been waited for, nor does what the host or an earlier launch wrote.

use super::records::Record;
use super::slots::{is_async, record};
use super::words::Mine;
use super::{Checks, Race, Run};
use crate::checks::flags::{self, Others, later};
use crate::checks::order::{Clock, PARTIES};
use std::sync::Arc;

/// What is there for bulk copies: events of the own cluster, and of others.
#[derive(Clone, Debug)]
pub(in crate::checks) struct Fenced {
    own: Clock,
    others: Option<Arc<Others>>,
}

impl Fenced {
    /// Both together, of one cluster.
    pub(in crate::checks) fn merge(&mut self, more: &Fenced) {
        later(&mut self.own, &more.own);
        flags::merge(&mut self.others, &more.others);
    }

    /// What a warp of a cluster has takes in what one of another cluster had.
    pub(in crate::checks) fn merge_foreign(
        all: &mut Option<Arc<Fenced>>,
        clusters: (u64, u64),
        more: &Option<Arc<Fenced>>,
    ) {
        let Some(more) = more else { return };
        let all = all.get_or_insert_with(|| Arc::new(Fenced { own: [0; PARTIES], others: None }));
        let Fenced { own, others } = Arc::make_mut(all);
        flags::take_foreign((own, others), clusters, (&more.own, &more.others));
    }

    fn has(&self, write: Record, cluster: u64) -> bool {
        let others = || self.others.as_ref().and_then(|others| others.get(&write.cluster));
        let clock = if write.cluster == cluster { Some(&self.own) } else { others() };
        clock.is_some_and(|clock| write.time < clock[write.warp as usize])
    }
}

impl Checks {
    /// A warp's proxy fence for global memory: all that it has done and seen is there for bulk copies.
    pub(crate) fn fence_global(&mut self, warp: u32) {
        let w = warp as usize;
        self.now += 1;
        self.record[w] = 0;
        let known = &mut self.known[w];
        let mut own = known.seen;
        own[w] = self.now;
        known.fenced_global = Some(Arc::new(Fenced { own, others: known.others.clone() }));
    }

    /// The write by a thread to bytes of a bulk copy's access that lacks a proxy fence.
    pub(crate) fn not_fenced(&self, run: &Run) -> Option<Race> {
        let known = &self.known[run.warp as usize];
        let lacks = |number: u32| {
            let write = self.global.records.get(number);
            !known.fenced_global.as_ref().is_some_and(|fenced| fenced.has(write, self.cluster))
        };
        let (mut there, mut found) = (0, None);
        self.global.for_writers(run.segment, run.offset, run.length, |offset, slot| {
            let number = record(slot);
            if found.is_some() || is_async(slot) || number == there {
                return;
            }
            if lacks(number) {
                found = Some((offset, slot));
            }
            there = number;
        });
        let (offset, slot) = found?;
        let mine = Mine::new(&self.global, known, 0, (self.cluster, run.warp, self.block_warps));
        // Two strong accesses lack it too.
        Some(Race { narrow: false, ..mine.race(offset, (slot, true), run) })
    }
}
