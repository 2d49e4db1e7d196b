//! Tile configurations: how a kernel divides its work, in one table with the reasons.
//!
//! All kernels of the `Efficient` family share one shape. A block owns [`TileConfig::block_rows`] rows (queries in
//! forward and `dq`, keys in `dk/dv`) and meets [`BLOCK_COLUMNS`] columns (keys, or queries) at a time. A warp is 4 x 8
//! lanes; it owns `4 * rows_per_thread` rows and all columns, so that a row's maximum and sum are three shuffles away.
//! Operands pass through shared memory as f32 in slices of [`TileConfig::slice`] head-dim columns.

/// Head-dim tiles for which kernels exist; a problem takes the smallest that holds both `d` and `dv`.
pub const HEAD_DIM_TILES: [u32; 6] = [32, 64, 96, 128, 192, 256];

/// The largest `d` or `dv` of the `Efficient` family.
pub const MAX_HEAD_DIM: u32 = 256;

/// Columns of the score tile: keys a step in forward and `dq`, queries a step in `dk/dv`.
pub const BLOCK_COLUMNS: u32 = 64;

/// Rows of lanes in a warp.
pub const WARP_ROWS: u32 = 4;

/// Columns of lanes in a warp.
pub const WARP_COLUMNS: u32 = 8;

/// Score columns of one thread.
pub const COLUMNS_PER_THREAD: u32 = BLOCK_COLUMNS / WARP_COLUMNS;

/// Shared memory that every GPU from sm_70 on grants one block (sm_75 has the least: 64 KiB).
pub const SHARED_LIMIT: u32 = 64 * 1024;

/// Extra f32 at the end of a staged operand row: rows then start 4 banks apart, and the 4 or 8 rows that one
/// `ld.shared.v4` of a warp touches lie in different banks.
pub const OPERAND_PAD: u32 = 4;

/// Extra f32 at the end of a probability row: the 4 rows that a warp stores start 8 banks apart, so that 4 rows of 8
/// consecutive scalars fill the 32 banks.
pub const PROBABILITY_PAD: u32 = 8;

/// Bytes of the numbers that all threads of a block need now and then, in shared memory instead of in their registers.
pub const NOTE_BYTES: u32 = 128;

/// How one kernel divides its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileConfig {
    /// Padded head dim: columns of q, k, v and out as the kernel sees them.
    pub head_dim: u32,
    /// Threads a block.
    pub threads: u32,
    /// Rows of the score tile that one thread owns.
    pub rows_per_thread: u32,
    /// Head-dim columns of the streamed operand staged at a time for the scores; divides `head_dim`.
    pub slice: u32,
    /// Rows of the streamed operand staged at a time, all columns, for the second product; divides [`BLOCK_COLUMNS`].
    pub slab: u32,
    /// Whether the block's own operand (Q in forward) stays in shared memory for the whole kernel.
    pub resident: bool,
    /// Blocks a multiprocessor that the register allocation should leave room for.
    pub min_blocks: u32,
}

impl TileConfig {
    /// Rows of the score tile: what one block owns.
    pub const fn block_rows(&self) -> u32 {
        self.threads / 32 * WARP_ROWS * self.rows_per_thread
    }

    /// Bytes of the block's own operand in shared memory: all of it where it is resident, a slice otherwise.
    pub const fn rows_bytes(&self) -> u32 {
        let columns = if self.resident { self.head_dim } else { self.slice };
        self.block_rows() * (columns + OPERAND_PAD) * 4
    }

    /// Bytes of the staged piece of the streamed operand: a slice or a slab, whichever is larger.
    pub const fn columns_bytes(&self) -> u32 {
        let slice = BLOCK_COLUMNS * (self.slice + OPERAND_PAD) * 4;
        let slab = self.slab * (self.head_dim + OPERAND_PAD) * 4;
        if slice > slab { slice } else { slab }
    }

    /// Bytes of the probabilities (or their gradients) on their way between the two products.
    pub const fn probability_bytes(&self) -> u32 {
        self.block_rows() * (BLOCK_COLUMNS + PROBABILITY_PAD) * 4
    }

    /// Dynamic shared memory of a block.
    pub const fn shared_bytes(&self) -> u32 {
        self.rows_bytes() + self.columns_bytes() + self.probability_bytes() + NOTE_BYTES
    }
}

/// Forward: 4 warps. Q stays in shared memory.
///
/// | head dim | rows | why |
/// |---|---|---|
/// | to 128 | 64, 4 a thread | 4 x 8 scores a thread: 12 shared loads feed 128 FMAs; 128 columns are the most that 64 KiB hold |
/// | 192, 256 | 32, 2 a thread | Q of 64 rows would not fit beside the slice; 64 output registers a thread remain at 256 |
///
/// Slices of 64 columns halve the barriers where shared memory allows (64, 192, 256); 32 and 96 are not multiples of 64.
/// A slab holds about as much as a slice, in whole 16-byte pieces a thread.
pub const fn forward_tile(head_dim: u32) -> TileConfig {
    let (rows_per_thread, slice, slab, min_blocks) = match head_dim {
        32 => (4, 32, 64, 3),
        64 => (4, 32, 32, 3),
        96 => (4, 32, 32, 2),
        128 => (4, 32, 16, 2),
        192 => (2, 64, 16, 3),
        256 => (2, 64, 16, 2),
        _ => panic!("no tile for this head dim"),
    };
    TileConfig { head_dim, threads: 128, rows_per_thread, slice, slab, resident: true, min_blocks }
}

/// Backward (`dk/dv`, `dq` and `dbias`): both operands of the scores stream by in slices, because two resident blocks
/// would not fit; 64 x 64 scores reuse a staged slice 64 times, which 32 resident rows would not.
///
/// | head dim | threads, rows a thread | why |
/// |---|---|---|
/// | 32, 64 | 128, 4 | dk and dv take 2 x 32 registers of a thread at 64 |
/// | from 96 | 256, 2 | dk and dv take 2 x 64 registers of a thread at 256; with 4 rows they would spill |
pub const fn backward_tile(head_dim: u32) -> TileConfig {
    let (threads, rows_per_thread, slice, slab, min_blocks) = match head_dim {
        32 => (128, 4, 32, 64, 2),
        64 => (128, 4, 32, 32, 2),
        96 => (256, 2, 32, 64, 1),
        128 => (256, 2, 32, 32, 1),
        192 => (256, 2, 32, 32, 1),
        256 => (256, 2, 32, 16, 1),
        _ => panic!("no tile for this head dim"),
    };
    TileConfig { head_dim, threads, rows_per_thread, slice, slab, resident: false, min_blocks }
}

/// Threads of a block of the `delta` kernel: 8 warps, one row a warp.
pub const DELTA_THREADS: u32 = 256;

/// Rows of `dout * out` that one block of the `delta` kernel reduces.
pub const DELTA_ROWS: u32 = DELTA_THREADS / 32;

/// Threads of a block of the `dsinks` kernel: one block a query head, whose threads share its rows.
pub const SINK_THREADS: u32 = 256;

/// The smallest head-dim tile that holds `columns`, or `None` above [`MAX_HEAD_DIM`].
pub const fn head_dim_tile(columns: u32) -> Option<u32> {
    let mut i = 0;
    while i < HEAD_DIM_TILES.len() {
        if columns <= HEAD_DIM_TILES[i] {
            return Some(HEAD_DIM_TILES[i]);
        }
        i += 1;
    }
    None
}

const _: () = {
    let mut i = 0;
    while i < HEAD_DIM_TILES.len() {
        let tiles = [forward_tile(HEAD_DIM_TILES[i]), backward_tile(HEAD_DIM_TILES[i])];
        let mut t = 0;
        while t < tiles.len() {
            assert!(tiles[t].shared_bytes() <= SHARED_LIMIT);
            assert!(tiles[t].head_dim.is_multiple_of(tiles[t].slice));
            assert!(tiles[t].slice.is_multiple_of(4 * WARP_COLUMNS));
            assert!(BLOCK_COLUMNS.is_multiple_of(tiles[t].slab));
            // Whole pieces a thread, of 8 halves: nobody has to ask whether its piece exists.
            assert!((BLOCK_COLUMNS * tiles[t].slice / 8).is_multiple_of(tiles[t].threads));
            assert!((tiles[t].slab * tiles[t].head_dim / 8).is_multiple_of(tiles[t].threads));
            t += 1;
        }
        i += 1;
    }
};
