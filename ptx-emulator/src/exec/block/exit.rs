//! What must be over when a warp ends: for the checks.
//!
//! Arrivals that nobody waits for any more are no error: warps that take turns at named barriers leave the last one open
//! (FlashAttention-3, arXiv 2407.08608, section 3.1).

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
