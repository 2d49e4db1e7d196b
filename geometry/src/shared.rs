//! Where a tile's element lies in shared memory, and how many wavefronts an access takes.

use flash_attention_abi::tile::{BLOCK_COLUMNS, NOTE_BYTES, OPERAND_PAD, PROBABILITY_PAD, TileConfig};

/// A row-major f32 tile in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileLayout {
    /// Byte offset of element (0, 0) from the start of dynamic shared memory.
    pub offset: u32,
    /// Bytes from one row to the next.
    pub row_bytes: u32,
}

impl TileLayout {
    /// Byte offset of an element.
    #[inline(always)]
    pub const fn at(&self, row: u32, column: u32) -> u32 {
        self.offset + row * self.row_bytes + column * 4
    }
}

/// The tiles of a kernel in dynamic shared memory, behind [`NOTE_BYTES`] of single numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedPlan {
    /// The block's own operand.
    pub rows: TileLayout,
    /// The staged slice of the streamed operand.
    pub columns: TileLayout,
    /// The staged slab of the streamed operand, in the same place as the slice.
    pub slab: TileLayout,
    /// Probabilities or their gradients.
    pub probability: TileLayout,
}

impl SharedPlan {
    /// The layout for a tile configuration; with the numbers it fills [`TileConfig::shared_bytes`] exactly.
    pub const fn new(tile: &TileConfig) -> SharedPlan {
        let row_columns = if tile.resident { tile.head_dim } else { tile.slice };
        let columns = NOTE_BYTES + tile.rows_bytes();
        SharedPlan {
            rows: TileLayout { offset: NOTE_BYTES, row_bytes: (row_columns + OPERAND_PAD) * 4 },
            columns: TileLayout { offset: columns, row_bytes: (tile.slice + OPERAND_PAD) * 4 },
            slab: TileLayout { offset: columns, row_bytes: (tile.head_dim + OPERAND_PAD) * 4 },
            probability: TileLayout {
                offset: columns + tile.columns_bytes(),
                row_bytes: (BLOCK_COLUMNS + PROBABILITY_PAD) * 4,
            },
        }
    }
}

/// Wavefronts that one shared-memory access of a warp takes: each serves 128 bytes, one 4-byte word of each of the 32
/// banks, to any number of lanes. `bytes` is what each lane accesses (4, 8 or 16); 8- and 16-byte accesses are served for
/// 16 and 8 lanes at a time.
///
/// Source: CUDA C++ Programming Guide, "Shared Memory" (32 banks of 4 bytes; one word read by several lanes is no conflict).
pub const fn wavefronts(addresses: &[u32; 32], bytes: u32) -> u32 {
    let lanes_at_a_time = (128 / bytes) as usize;
    let lanes_at_a_time = if lanes_at_a_time > 32 { 32 } else { lanes_at_a_time };
    let mut total = 0;
    let mut first = 0;
    while first < 32 {
        // For each bank, the number of different words asked of it; the worst bank decides.
        let mut worst = 0;
        let mut bank = 0;
        while bank < 32 {
            let mut words = [0u32; 128];
            let mut count = 0;
            let mut lane = first;
            while lane < first + lanes_at_a_time {
                let mut piece = 0;
                while piece < bytes / 4 {
                    let word = addresses[lane] / 4 + piece;
                    if word % 32 == bank {
                        let mut known = false;
                        let mut i = 0;
                        while i < count {
                            known |= words[i] == word;
                            i += 1;
                        }
                        if !known {
                            words[count] = word;
                            count += 1;
                        }
                    }
                    piece += 1;
                }
                lane += 1;
            }
            if count > worst {
                worst = count;
            }
            bank += 1;
        }
        total += worst as u32;
        first += lanes_at_a_time;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fragment::ThreadPlace;
    use flash_attention_abi::tile::{COLUMNS_PER_THREAD, HEAD_DIM_TILES, backward_tile, forward_tile};

    fn tiles() -> impl Iterator<Item = TileConfig> {
        HEAD_DIM_TILES.into_iter().flat_map(|d| [forward_tile(d), backward_tile(d)])
    }

    fn warp(address: impl Fn(u32) -> u32) -> [u32; 32] {
        core::array::from_fn(|lane| address(lane as u32))
    }

    #[test]
    fn wavefronts_of_known_patterns() {
        assert_eq!(wavefronts(&warp(|_| 64), 4), 1, "broadcast");
        assert_eq!(wavefronts(&warp(|l| l * 4), 4), 1, "one word a bank");
        assert_eq!(wavefronts(&warp(|l| l * 8), 4), 2, "two words a bank");
        assert_eq!(wavefronts(&warp(|l| l * 128), 4), 32, "all in one bank");
        assert_eq!(wavefronts(&warp(|l| l * 16), 16), 4, "512 different bytes");
    }

    #[test]
    fn the_plan_fills_shared_memory_exactly_and_tiles_are_aligned_to_16_bytes() {
        for tile in tiles() {
            let plan = SharedPlan::new(&tile);
            assert_eq!(plan.rows.offset, NOTE_BYTES);
            assert_eq!(plan.probability.at(tile.block_rows(), 0), tile.shared_bytes());
            for layout in [plan.rows, plan.columns, plan.slab, plan.probability] {
                assert!(layout.offset.is_multiple_of(16) && layout.row_bytes.is_multiple_of(16));
            }
        }
    }

    /// Loads of the score product: lanes read 16-byte pieces of 4 rows of one operand and of 8 rows of the other.
    #[test]
    fn operand_loads_are_free_of_conflicts() {
        for tile in tiles() {
            let plan = SharedPlan::new(&tile);
            let place = |lane| ThreadPlace::new(lane, tile.rows_per_thread);
            for k in (0..tile.slice).step_by(4) {
                for i in 0..tile.rows_per_thread {
                    // The hardware serves 8 lanes of a 16-byte access at a time; they read one and the same row here.
                    assert_eq!(wavefronts(&warp(|l| plan.rows.at(place(l).row(i), k)), 16), 4);
                    assert_eq!(distinct_rows_wavefronts(&warp(|l| plan.rows.at(place(l).row(i), k))), 1);
                    assert_eq!(
                        distinct_rows_wavefronts(&warp(|l| plan.probability.at(place(l).row(i), k))),
                        1
                    );
                }
                for j in 0..COLUMNS_PER_THREAD {
                    assert_eq!(
                        distinct_rows_wavefronts(&warp(|l| plan.columns.at(place(l).score_column(j), k))),
                        1
                    );
                }
            }
            for g in 0..tile.head_dim / 32 {
                let row = warp(|l| plan.slab.at(5, place(l).output_column(g)));
                assert_eq!(distinct_rows_wavefronts(&row), 1);
            }
        }
    }

    /// Wavefronts where the hardware merges lanes that read the same 16 bytes: bank conflicts among distinct pieces.
    fn distinct_rows_wavefronts(addresses: &[u32; 32]) -> usize {
        let mut banks = [0usize; 8];
        for (lane, address) in addresses.iter().enumerate() {
            if !addresses[..lane].contains(address) {
                banks[(address / 16 % 8) as usize] += 1;
            }
        }
        banks.into_iter().max().unwrap_or(0)
    }

    #[test]
    fn probability_stores_are_free_of_conflicts() {
        for tile in tiles() {
            let plan = SharedPlan::new(&tile);
            let place = |lane| ThreadPlace::new(lane, tile.rows_per_thread);
            for i in 0..tile.rows_per_thread {
                for j in 0..COLUMNS_PER_THREAD {
                    let addresses = warp(|l| plan.probability.at(place(l).row(i), place(l).score_column(j)));
                    assert_eq!(wavefronts(&addresses, 4), 1);
                }
            }
        }
    }
}
