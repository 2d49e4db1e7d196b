//! A tile of 16-bit elements in shared memory, its 16-byte chunks exchanged so that no access has a bank conflict.

use super::mma_fragment::MmaTiles;
use super::operand::Operand;
use crate::element::{Element, HalfElement};
use cuda_std::mem::{self, SharedAddr};
use cuda_std::{hint, warp};
use flash_attention_geometry::mma::{MatrixLane, MmaPlace, Swizzle};

/// A tile of `COLUMNS` columns.
#[derive(Clone, Copy)]
pub struct SwizzledTile<const COLUMNS: u32> {
    base: SharedAddr,
}

/// A thread that copies tiles, with all others of its block.
#[derive(Clone, Copy)]
pub struct Copier {
    /// Its index in the block.
    pub thread: u32,
    /// Threads of the block.
    pub threads: u32,
    /// Whether it computes its place in global memory anew for each tile, and not once for all: for kernels that are short of
    /// registers.
    pub anew: bool,
}

/// The place of a lane's chunk in a tile's first rows and columns, as `ldmatrix` takes it. Those of other parts follow by one
/// exclusive or and a constant.
#[derive(Clone, Copy)]
pub struct LanePlace(SharedAddr);

impl LanePlace {
    /// The place in a tile `bytes` further on, a multiple of 128.
    #[inline(always)]
    pub fn shifted(self, bytes: u32) -> Self {
        LanePlace(self.0.offset(bytes))
    }

    /// The same place, about which the optimiser knows nothing: what follows from it is computed where it is used.
    #[inline(always)]
    pub fn hidden(self) -> Self {
        LanePlace(SharedAddr::new(hint::opaque(self.0.get())))
    }
}

impl<const COLUMNS: u32> SwizzledTile<COLUMNS> {
    const SWIZZLE: Swizzle = Swizzle::new(COLUMNS);
    /// Pairs of chunks after which places repeat.
    const PAIRS: usize = (Self::SWIZZLE.period() / 2) as usize;
    /// Threads that copy a row together.
    pub(super) const GROUP: u32 = Self::SWIZZLE.period();

    /// The tile at a place that is a multiple of 128 bytes.
    #[inline(always)]
    pub fn new(base: SharedAddr) -> Self {
        SwizzledTile { base }
    }

    /// A lane's place for loads of parts of rows `first_row ..`, a multiple of 8.
    #[inline(always)]
    pub fn place(&self, first_row: u32, lane: MatrixLane) -> LanePlace {
        LanePlace(self.chunk(first_row + lane.row, lane.chunk))
    }

    /// The place of the part `rows` further down (a multiple of 8) and `pair` pairs of chunks to the right.
    ///
    /// Rows begin at multiples of a whole period, so that the bits of a chunk within it can be exchanged alone. Within a period twice
    /// the pair and the chunk of the place have no bit in common: a pair is even where places are of four chunks.
    #[inline(always)]
    pub fn part(place: LanePlace, rows: usize, pair: usize) -> SharedAddr {
        let right = (pair / Self::PAIRS) as u32 * Self::GROUP * 16;
        let within = SharedAddr::new(place.0.get() ^ ((pair % Self::PAIRS) as u32 * 32));
        within.offset(rows as u32 * Self::SWIZZLE.row_bytes + right)
    }

    /// The place `rows` further down (a multiple of 8) and `chunk` chunks to the right, less than a period, with no bit in common with
    /// the chunk of the place.
    #[inline(always)]
    pub fn beside(place: SharedAddr, rows: usize, chunk: usize) -> SharedAddr {
        SharedAddr::new(place.get() ^ (chunk as u32 * 16)).offset(rows as u32 * Self::SWIZZLE.row_bytes)
    }

    /// The place of a chunk.
    #[inline(always)]
    pub fn chunk(&self, row: u32, chunk: u32) -> SharedAddr {
        self.base.offset(Self::SWIZZLE.at(row, chunk))
    }

    /// Fills the tile's columns from `columns` on with zeros: no copy ever writes them.
    ///
    /// # Safety
    /// Nobody reads or writes them before the next barrier.
    #[inline(always)]
    pub unsafe fn clear_padding(&self, columns: u32, rows: u32, thread: u32, threads: u32) {
        let (row, chunk) = (thread / Self::GROUP, thread % Self::GROUP);
        for right in 0..COLUMNS / 8 / Self::GROUP {
            let chunk = chunk + right * Self::GROUP;
            if chunk * 8 >= columns {
                let mut row = row;
                while row < rows {
                    // SAFETY: the caller's; inside the tile.
                    unsafe { mem::st_shared_v4_u32::<0>(self.chunk(row, chunk), [0; 4]) };
                    row += threads / Self::GROUP;
                }
            }
        }
    }

    /// Starts to copy rows `first_row ..` of an operand to the tile's `rows` rows, without the padding. `all`, a constant, says that the
    /// operand has them all; otherwise those that it has not arrive as 0. The thread's copies belong to its next group.
    ///
    /// # Safety
    /// The operand is aligned to 16 bytes, and nobody reads or writes the tile before the wait for the group.
    #[inline(always)]
    pub unsafe fn copy<E: Element>(
        &self,
        operand: &Operand<E>,
        first_row: u32,
        rows: u32,
        copier: Copier,
        all: bool,
    ) {
        let Copier { thread, threads, anew } = copier;
        let (row, chunk) = (thread / Self::GROUP, thread % Self::GROUP);
        let step = threads / Self::GROUP;
        // Where the threads could copy more rows than there are, the last ones copy nothing.
        let has_row = rows >= step || row < rows;
        let to = self.chunk(row, chunk);
        let bytes = if anew { hint::opaque(chunk * 16) } else { chunk * 16 };
        let mut from = operand.at(first_row + row, 0).offset(u64::from(bytes));
        for piece in 0..rows.div_ceil(step) {
            let inside = all || first_row + row + piece * step < operand.rows;
            for right in 0..COLUMNS / 8 / Self::GROUP {
                let to = to.offset(piece * step * Self::SWIZZLE.row_bytes + right * Self::GROUP * 16);
                let from = from.offset(u64::from(right * Self::GROUP * 16));
                let wanted = has_row && (chunk + right * Self::GROUP) * 8 < operand.columns;
                // SAFETY: the caller's; of a row outside nothing is read, and its address is not used.
                unsafe {
                    if all {
                        mem::cp_async_16_where(wanted, to, from);
                    } else if wanted {
                        mem::cp_async_16(to, from, if inside { 16 } else { 0 });
                    }
                }
            }
            from = from.offset_signed(operand.row_bytes() * i64::from(step));
        }
    }

    /// Writes rows `begin .. begin + rows` of the tile to those from `first_row + begin` on of an operand, 16 bytes a thread at a time;
    /// the pieces are a multiple of the threads.
    ///
    /// # Safety
    /// These threads have written theirs before a barrier, and all call this; the operand is writable, aligned to 16 bytes, and these
    /// rows belong to this block alone.
    #[inline(always)]
    pub unsafe fn store_rows<E: Element>(
        &self,
        operand: &Operand<E>,
        first_row: u32,
        [begin, rows]: [u32; 2],
        [thread, threads]: [u32; 2],
    ) {
        let chunks = COLUMNS / 8;
        for piece in 0..rows * chunks / threads {
            let index = piece * threads + thread;
            let (row, chunk) = (begin + index / chunks, index % chunks);
            if operand.contains(first_row + row, chunk * 8) {
                // SAFETY: the caller's; aligned rows are made of whole pieces.
                unsafe {
                    let values = mem::ld_shared_v4_u32::<0>(self.chunk(row, chunk));
                    mem::st_global_v4_u32::<0>(operand.at(first_row + row, chunk * 8), values);
                }
            }
        }
    }
}

/// Rounds and writes a warp's rows of a result, by way of shared memory, so that lanes write 16 bytes side by side.
///
/// `rows` are the 16-row tiles of each warp, whose rows lie at `start`, `COLUMNS` columns each.
///
/// # Safety
/// Nobody else uses that part of shared memory; the operand is writable, aligned to 16 bytes, and these rows belong to this
/// block alone; all lanes of the warp call this together.
#[inline(always)]
pub unsafe fn store_tiles<E: HalfElement, const COLUMNS: u32>(
    start: SharedAddr,
    result: &MmaTiles,
    rows: usize,
    thread: u32,
    operand: &Operand<E>,
    first_row: u32,
) {
    let tile = SwizzledTile::<COLUMNS>::new(start);
    let warp_rows = 16 * rows as u32;
    let place = MmaPlace::new(thread, warp_rows);
    let columns = (COLUMNS / 8) as usize;
    for m in 0..rows {
        for n in 0..columns {
            for half in 0..2 {
                let row = place.row((2 * m + half) as u32);
                let numbers = &result.tiles[m * columns + n];
                let packed = E::pack(numbers[2 * half], numbers[2 * half + 1]);
                let at = tile.chunk(row, n as u32).offset(place.first_column * 2);
                // SAFETY: the row is this warp's.
                unsafe { mem::st_shared_u32::<0>(at, packed) }
            }
        }
    }
    // SAFETY: the whole warp is here.
    unsafe { warp::sync_warp(u32::MAX) };
    // SAFETY: written before the warp's barrier; the rest is the caller's.
    unsafe { tile.store_rows(operand, first_row, [thread / 32 * warp_rows, warp_rows], [thread % 32, 32]) }
}
