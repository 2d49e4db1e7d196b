//! A cluster: blocks that run together on one host thread, each in its turn. Most clusters are of one block.

use super::Launch;
use super::block::BlockRunner;
use crate::error::LaunchError;
use crate::ops::{Cx, bulk};

/// How often waits are ended without success, while nothing happens that could end them, before it is called a deadlock.
const PATIENCE: u32 = 64;

/// What one host thread needs to run clusters, used again for each.
pub(super) struct ClusterRunner<'l> {
    launch: &'l Launch<'l>,
    pub blocks: Vec<BlockRunner<'l>>,
}

impl<'l> ClusterRunner<'l> {
    pub(super) fn new(launch: &'l Launch<'l>) -> Self {
        let blocks = launch.cluster.iter().product::<u32>() as usize;
        ClusterRunner { launch, blocks: (0..blocks).map(|rank| BlockRunner::new(launch, rank)).collect() }
    }

    /// Runs cluster `index` of the grid to its end.
    pub(super) fn run(&mut self, index: u64, cx: &mut Cx) -> Result<(), Box<LaunchError>> {
        if let Some(checks) = &mut cx.checks {
            checks.begin(index);
        }
        for block in &mut self.blocks {
            block.prepare(self.launch.block_at(index, block.rank as u32), cx);
        }
        let mut expirations = 0;
        let mut seen = cx.cluster.events;
        while self.blocks.iter().any(|b| b.alive > 0) {
            let mut progress = false;
            for block in &mut self.blocks {
                progress |= block.round(cx)?;
            }
            cx.cluster.expired = false;
            if std::mem::replace(&mut seen, cx.cluster.events) != cx.cluster.events {
                expirations = 0;
            } else if !progress && !self.blocks.iter_mut().any(BlockRunner::can_go_on) {
                expirations += 1;
                if expirations > PATIENCE && self.blocks.iter().any(|b| b.alive > 0) {
                    return Err(Box::new(self.deadlock(cx)));
                }
                cx.cluster.expired = true;
            }
        }
        bulk::end(cx).map_err(|((pc, warp, lane), what)| {
            let warps = cx.stores.len() / self.blocks.len();
            let block = &self.blocks[warp as usize / warps];
            Box::new(block.not_waited(warp as usize % warps, lane, pc, what))
        })
    }

    fn deadlock(&mut self, cx: &mut Cx) -> LaunchError {
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
