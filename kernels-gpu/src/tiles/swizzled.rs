//! A tile of 16-bit elements in shared memory, its 16-byte chunks exchanged so that no access has a bank conflict.

use super::operand::Operand;
use crate::element::Element;
use cuda_std::mem::{self, SharedAddr};
use flash_attention_geometry::mma::{MatrixLane, Swizzle};

/// A tile of `COLUMNS` columns.
#[derive(Clone, Copy)]
pub struct SwizzledTile<const COLUMNS: u32> {
    base: SharedAddr,
}

/// Places of a lane's chunks, as `ldmatrix` takes them: they repeat further on in the row.
pub type LanePlaces = [SharedAddr; 4];

impl<const COLUMNS: u32> SwizzledTile<COLUMNS> {
    const SWIZZLE: Swizzle = Swizzle::new(COLUMNS);
    /// Pairs of chunks after which places repeat.
    const PAIRS: usize = (Self::SWIZZLE.period() / 2) as usize;
    /// Threads that copy a row together.
    const GROUP: u32 = Self::SWIZZLE.period();

    /// The tile at a place that is a multiple of 128 bytes.
    #[inline(always)]
    pub fn new(base: SharedAddr) -> Self {
        SwizzledTile { base }
    }

    /// A lane's places for loads of 16 x 16 parts: of the first rows, all columns.
    #[inline(always)]
    pub fn places(&self, first_row: u32, lane: MatrixLane) -> LanePlaces {
        core::array::from_fn(|pair| {
            let chunk = 2 * (pair % Self::PAIRS) as u32 + lane.chunk;
            self.base.offset(Self::SWIZZLE.at(first_row + lane.row, chunk))
        })
    }

    /// The place of the part `rows` further down (a multiple of 8) and `pair` pairs of chunks to the right.
    #[inline(always)]
    pub fn part(places: &LanePlaces, rows: usize, pair: usize) -> SharedAddr {
        let right = (pair / Self::PAIRS) as u32 * Self::GROUP * 16;
        places[pair % Self::PAIRS].offset(rows as u32 * Self::SWIZZLE.row_bytes + right)
    }

    /// The place of a chunk.
    #[inline(always)]
    pub fn chunk(&self, row: u32, chunk: u32) -> SharedAddr {
        self.base.offset(Self::SWIZZLE.at(row, chunk))
    }

    /// Starts to copy rows `first_row ..` of an operand to the tile's `rows` rows; what lies outside arrives as 0. The thread's
    /// copies belong to its next group.
    ///
    /// # Safety
    /// The operand is aligned to 16 bytes, and nobody reads or writes the tile before the wait for the group.
    #[inline(always)]
    pub unsafe fn copy<E: Element>(
        &self,
        operand: &Operand<E>,
        first_row: u32,
        rows: u32,
        thread: u32,
        threads: u32,
    ) {
        let (row, chunk) = (thread / Self::GROUP, thread % Self::GROUP);
        let step = threads / Self::GROUP;
        let to = self.chunk(row, chunk);
        let from = operand.at(first_row + row, chunk * 8);
        for piece in 0..rows / step {
            for right in 0..COLUMNS / 8 / Self::GROUP {
                let offset = piece * step * Self::SWIZZLE.row_bytes + right * Self::GROUP * 16;
                let inside =
                    operand.contains(first_row + row + piece * step, (chunk + right * Self::GROUP) * 8);
                let source =
                    i64::from(piece * step) * operand.row_bytes() + i64::from(right * Self::GROUP * 16);
                let bytes = if inside { 16 } else { 0 };
                // SAFETY: the caller's; of a chunk outside nothing is read, and its address is not used.
                unsafe { mem::cp_async_16(to.offset(offset), from.offset_signed(source), bytes) }
            }
        }
    }
}
