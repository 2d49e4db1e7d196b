//! Streaming where global memory is the bound: K and V have two buffers each, and while one of the four is multiplied the other
//! three are on their way.
//!
//! ```text
//! copies   K0 V0 K1 | V1 | K2 | V2 | K3 | V3 | ...
//! threads           | S0 | O0 | S1 | O1 | S2 | ...
//! ```

use crate::config::FlashConfig;
use crate::pipeline::flash::{Between, FlashBlock, softmax_step};
use crate::softmax::{OnlineSoftmax, RowReduce};
use crate::tiles::mma_fragment::MmaTiles;
use crate::tiles::mma_product::{self, LeftRows, Shape};
use crate::tiles::operand::Operand;
use cuda_std::{mem, thread};
use flash_attention_abi::flash::FlashTile;

/// Barriers in the source: in the step one before K is read and one before V is, and one before queries are read that are kept.
pub const fn barriers(tile: FlashTile) -> u32 {
    2 + (tile.kept_columns > 0) as u32
}

/// Some neighbouring blocks of keys on their way through shared memory.
pub struct Stream<'a, C: FlashConfig, const D: u32, const V: u32> {
    /// The block's tiles.
    pub block: &'a FlashBlock<C, D, V>,
    /// All keys.
    pub k: &'a Operand<C::Element>,
    /// All values.
    pub v: &'a Operand<C::Element>,
    /// One past the last block of keys.
    pub end: u32,
    /// Whether the warp has rows: one that has none copies for the others. The same for all its lanes.
    pub busy: bool,
}

impl<C: FlashConfig, const D: u32, const V: u32> Stream<'_, C, D, V> {
    const TWO_STAGES: () = assert!(C::TILE.stages == 2);

    /// Sends for the first blocks, from `begin` on. The warp's queries, which arrive with the first keys.
    ///
    /// # Safety
    /// All threads of the block call this together, after the queries were sent for; there is at least one block.
    #[inline(always)]
    pub unsafe fn start(&self, begin: u32) -> LeftRows {
        const { Self::TWO_STAGES };
        // SAFETY: nothing has been read yet. Two groups were sent for after the one of the queries.
        unsafe {
            self.send_keys(begin);
            self.send_values(begin);
            self.send_keys(begin + 1);
            self.block.kept_queries::<2>()
        }
    }

    /// Meets a block of keys, which is on its way, and sends for the values of the next one and the keys of the one after it.
    ///
    /// # Safety
    /// All threads of the block call this together, for one block after the other.
    #[inline(always)]
    pub unsafe fn advance<R: RowReduce, B: Between>(
        &self,
        queries: &LeftRows,
        softmax: &mut OnlineSoftmax<C, R>,
        output: &mut MmaTiles,
        index: u32,
        between: &B,
    ) {
        let (block, stage) = (self.block, index % 2);
        let mut scores = MmaTiles::zero();
        // SAFETY: each tile is read between the wait and barrier that bring it and the barrier that frees it.
        unsafe {
            wait_for_the_oldest();
            self.send_values(index + 1);
            if self.busy {
                // S = Q Kᵀ
                scores = block.scores(queries, block.keys(stage));
                between.scores(&mut scores);
                softmax_step(softmax, &mut scores, output, between);
            }

            wait_for_the_oldest();
            self.send_keys(index + 2);
            if self.busy {
                // O += P V
                let shape = Shape { rows: C::ROW_TILES, columns: C::OUTPUT_TILES, depth: C::SCORE_TILES / 2 };
                mma_product::add_weighted::<C::Element, V>(shape, output, &scores, block.values(stage));
            }
        }
    }

    /// Starts to copy a block of keys; behind the last block the group is empty.
    #[inline(always)]
    unsafe fn send_keys(&self, index: u32) {
        if index < self.end {
            // SAFETY: the caller's.
            unsafe { self.block.copy_keys(self.k, index * C::TILE.block_keys, index % 2, false) };
        } else {
            mem::cp_async_commit();
        }
    }

    /// The same for values.
    #[inline(always)]
    unsafe fn send_values(&self, index: u32) {
        if index < self.end {
            // SAFETY: the caller's.
            unsafe { self.block.copy_values(self.v, index * C::TILE.block_keys, index % 2, false) };
        } else {
            mem::cp_async_commit();
        }
    }
}

/// Waits for the oldest of three groups of copies, of all threads; what was read before is free then. All threads of the block call
/// this together.
#[inline(always)]
fn wait_for_the_oldest() {
    mem::cp_async_wait::<2>();
    thread::sync_threads();
}
