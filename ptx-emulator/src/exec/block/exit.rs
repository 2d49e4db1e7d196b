//! What must be over when a warp ends, and when its block does: for the checks.

use super::BlockRunner;
use crate::error::LaunchError;
use crate::ops::{Cx, LANES, registers};

impl BlockRunner<'_> {
    /// A warp of the block has ended.
    pub(super) fn check_end(&mut self, w: usize, cx: &mut Cx) -> Result<(), Box<LaunchError>> {
        if cx.checks.is_none() {
            return Ok(());
        }
        // The end may have completed a barrier for others.
        self.enter(w, cx);
        self.check_products(w, cx)?;
        if let Some((pc, warp, what)) = registers::missed(cx) {
            return Err(Box::new(self.error(pc, warp * LANES as u32, what)));
        }
        if self.alive == 0 { self.check_arrivals() } else { Ok(()) }
    }

    /// All threads have ended: no barrier may have arrivals that lack others.
    fn check_arrivals(&self) -> Result<(), Box<LaunchError>> {
        for (id, barrier) in self.barriers.iter().enumerate() {
            let Some(first) = barrier.first else { continue };
            let what = format!(
                "the block ended while barrier {id} was incomplete: {} of {} threads had come to it",
                barrier.warps * LANES as u32,
                first.threads
            );
            return Err(Box::new(self.error(first.pc, first.warp * LANES as u32 + first.lane, what)));
        }
        Ok(())
    }

    /// The products that a warp issued write its registers until it waits for them.
    fn check_products(&self, w: usize, cx: &Cx) -> Result<(), Box<LaunchError>> {
        let own = self.rank * self.warps.len() + w;
        let Some((pc, committed)) = cx.products[own].unfinished() else { return Ok(()) };
        let lacks = if committed { "has not been waited for" } else { "is in no group" };
        let what = format!(
            "warp {w} ended while a product that it issued {lacks}: `wgmma.commit_group` and `wgmma.wait_group` come first"
        );
        Err(Box::new(self.error(pc, w as u32 * LANES as u32, what)))
    }
}
