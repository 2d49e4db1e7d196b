//! A cluster: blocks that run together on one host thread, each in its turn. Most clusters are of one block.

use super::block::BlockRunner;
use super::limits::count;
use super::{Counts, Launch};
use crate::error::LaunchError;
use crate::ops::{Cx, bulk};

/// How often waits are ended without success, while nothing happens that could end them, before it is called a deadlock.
const PATIENCE: u32 = 64;

/// What is needed to run a cluster, used again for others.
pub(super) struct ClusterRunner<'l> {
    launch: &'l Launch<'l>,
    pub blocks: Vec<BlockRunner<'l>>,
    /// How often in a row waits have been ended without success, and the events before that.
    expirations: u32,
    seen: u64,
}

impl<'l> ClusterRunner<'l> {
    pub(super) fn new(launch: &'l Launch<'l>) -> Self {
        let blocks = count(launch.cluster) as usize;
        let blocks = (0..blocks).map(|rank| BlockRunner::new(launch, rank)).collect();
        ClusterRunner { launch, blocks, expirations: 0, seen: 0 }
    }

    /// Puts cluster `index` of the grid at the kernel's entrance.
    pub(super) fn begin(&mut self, index: u64, cx: &mut Cx) {
        if let Some(checks) = &mut cx.checks {
            checks.begin(index);
        }
        for block in &mut self.blocks {
            block.prepare(self.launch.block_at(index, block.rank as u32), cx);
        }
        (self.expirations, self.seen) = (0, cx.cluster.events);
    }

    /// Runs the cluster to its end, or for as many warp instructions and what is left of the round in which they are reached; true if it has
    /// ended. A warp takes `slice` branches before the next has its turn.
    pub(super) fn advance(
        &mut self,
        cx: &mut Cx,
        counts: &mut Counts,
        instructions: u64,
        slice: u32,
    ) -> Result<bool, Box<LaunchError>> {
        let until = counts.executed + instructions;
        while self.blocks.iter().any(|b| b.alive > 0) {
            if counts.executed >= until {
                return Ok(false);
            }
            let mut progress = false;
            for block in &mut self.blocks {
                progress |= block.round(cx, counts, slice)?;
            }
            cx.cluster.expired = false;
            if std::mem::replace(&mut self.seen, cx.cluster.events) != cx.cluster.events {
                self.expirations = 0;
            } else if !progress && !self.blocks.iter_mut().any(BlockRunner::can_go_on) {
                self.expirations += 1;
                if self.expirations > PATIENCE && self.blocks.iter().any(|b| b.alive > 0) {
                    return Err(Box::new(self.deadlock(cx)));
                }
                cx.cluster.expired = true;
            }
        }
        bulk::end(cx).map_err(|((pc, warp, lane), what)| {
            cx.fail(lane, what);
            let (warp, warps) = (warp as usize, cx.stores.len() / self.blocks.len());
            Box::new(self.blocks[warp / warps].fault(warp % warps, pc, cx))
        })?;
        Ok(true)
    }

    fn deadlock(&mut self, cx: &mut Cx) -> LaunchError {
        if let Some(error) = self.blocks.iter_mut().find_map(|block| block.accuse(cx)) {
            return error;
        }
        let block = self.blocks.iter().find(|b| b.alive > 0).map_or([0; 3], |b| b.block);
        let several = self.blocks.len() > 1;
        let states: Vec<String> = self
            .blocks
            .iter_mut()
            .filter(|b| b.alive > 0)
            .map(|b| {
                let [x, y, z] = b.block;
                let state = b.state(cx);
                if several { format!("block ({x}, {y}, {z}): {state}") } else { state }
            })
            .collect();
        LaunchError::Deadlock { kernel: self.launch.kernel.into(), block, state: states.join("; ") }
    }
}
