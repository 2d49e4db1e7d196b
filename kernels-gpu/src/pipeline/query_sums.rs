//! The sums of `dq` in global memory, to which blocks of keys add, and each query's log-sum-exp and delta beside them.

use crate::sequence::Sequence;
use crate::tiles::mma_fragment::MmaTiles;
use cuda_std::atomic::atomic_add_f32;
use cuda_std::mem::{self, GlobalAddr};
use flash_attention_abi::TensorParam;
use flash_attention_abi::flash::GRAD_SUM_ROWS;
use flash_attention_geometry::grad_sums;
use flash_attention_geometry::mma::MmaPlace;

/// The tiles of one head of one batch entry.
#[derive(Clone, Copy)]
pub struct QuerySums {
    base: GlobalAddr,
    tile_bytes: u32,
}

/// Bytes of a query's log-sum-exp and delta.
const PAIR: u32 = 8;

impl QuerySums {
    /// Those of a workspace that the host describes as `abi` says.
    #[inline(always)]
    pub fn new(tensor: &TensorParam, sequence: &Sequence, head: u32) -> Self {
        Self::of_bytes(tensor, sequence, head, tensor.row_stride as u32)
    }

    /// The same where the bytes of a tile are a constant.
    #[inline(always)]
    pub fn of_bytes(tensor: &TensorParam, sequence: &Sequence, head: u32, tile_bytes: u32) -> Self {
        let bytes = sequence.query_tile_offset(tensor, head, GRAD_SUM_ROWS);
        QuerySums { base: GlobalAddr::from_generic(tensor.address.wrapping_add_signed(bytes)), tile_bytes }
    }

    /// The tile that begins with a query.
    #[inline(always)]
    fn tile(&self, first_query: u32) -> GlobalAddr {
        self.base.offset(u64::from(first_query / GRAD_SUM_ROWS) * u64::from(self.tile_bytes))
    }

    #[inline(always)]
    fn numbers_offset(&self) -> u32 {
        self.tile_bytes - GRAD_SUM_ROWS * PAIR
    }

    /// Writes the log-sum-exp, as [`subtrahend`](super::row::subtrahend) prepares it, and the delta of a query.
    ///
    /// # Safety
    /// It is one of the sequence's, and this thread's alone; the workspace is writable.
    #[inline(always)]
    pub unsafe fn store_numbers(&self, query: u32, numbers: [f32; 2]) {
        let offset = self.numbers_offset() + query % GRAD_SUM_ROWS * PAIR;
        // SAFETY: inside the tile, a multiple of 8 bytes from its beginning.
        unsafe { mem::st_global_v2_f32::<0>(self.tile(query).offset(u64::from(offset)), numbers) }
    }

    /// The prepared log-sum-exp and the delta of the first `columns` (2, 4 or 8) columns that a thread owns of a tile's 32 queries; 0
    /// behind the last query.
    ///
    /// # Safety
    /// The tile is one of the sequence's, written by `delta` before.
    #[inline(always)]
    pub unsafe fn numbers(&self, place: MmaPlace, first_query: u32, columns: usize) -> [[f32; 2]; 8] {
        let offset = self.numbers_offset() + place.first_column * PAIR;
        let first = self.tile(first_query).offset(u64::from(offset));
        let mut pairs = [[0.0; 4]; 4];
        // SAFETY: the caller's. Pairs of columns lie 8 columns apart; each is one aligned load.
        unsafe {
            pairs[0] = mem::ld_global_nc_v4_f32::<0>(first);
            if columns > 2 {
                pairs[1] = mem::ld_global_nc_v4_f32::<64>(first);
            }
            if columns > 4 {
                pairs[2] = mem::ld_global_nc_v4_f32::<128>(first);
                pairs[3] = mem::ld_global_nc_v4_f32::<192>(first);
            }
        }
        let mut numbers = [[0.0; 2]; 8];
        for j in 0..8 {
            let pair = pairs[j / 2];
            numbers[j] = [pair[j % 2 * 2], pair[j % 2 * 2 + 1]];
        }
        numbers
    }

    /// Adds a warp's part of dQ to a tile: 16 rows from `first_row` on, and from `first_column` on `tiles` times 8 columns. Each
    /// `NEIGHBOURS` times 8 lie side by side, and are followed by those of the other `stride - 1` groups of warps.
    ///
    /// # Safety
    /// The tile is one of the sequence's; it is initialised, and whatever else touches it adds too.
    #[inline(always)]
    pub unsafe fn add<const NEIGHBOURS: usize>(
        &self,
        first_query: u32,
        lane: u32,
        part: [u32; 2],
        sum: &MmaTiles,
        [tiles, stride]: [usize; 2],
    ) {
        let first = self.part(first_query, lane, part);
        for n in 0..tiles {
            let tile = n / NEIGHBOURS * stride * NEIGHBOURS + n % NEIGHBOURS;
            // SAFETY: the caller's.
            unsafe { Self::add_tile(first, 8 * tile as u32, &sum.tiles[n]) }
        }
    }

    /// The place of a lane's first number of a part of a tile.
    #[inline(always)]
    fn part(&self, first_query: u32, lane: u32, [first_row, first_column]: [u32; 2]) -> GlobalAddr {
        let own = grad_sums::at(first_row, first_column) + lane;
        self.tile(first_query).offset(u64::from(own) * 4)
    }

    /// Adds what a lane has of 16 rows and 8 columns, `column` further on.
    #[inline(always)]
    unsafe fn add_tile(first: GlobalAddr, column: u32, &[a, b, c, d]: &[f32; 4]) {
        let to = first.offset(u64::from(grad_sums::at(0, column)) * 4);
        // SAFETY: the caller's. The next column and the row 8 further down are 128 and 256 bytes on.
        unsafe {
            atomic_add_f32::<0>(to, a);
            atomic_add_f32::<128>(to, b);
            atomic_add_f32::<256>(to, c);
            atomic_add_f32::<384>(to, d);
        }
    }

    /// The sums of 8 columns of a row of a tile.
    ///
    /// # Safety
    /// The tile is one of the sequence's, the columns some of its own, and nobody adds any more.
    #[inline(always)]
    pub unsafe fn get(&self, first_query: u32, row: u32, chunk: u32) -> [f32; 8] {
        let first = self.tile(first_query).offset(u64::from(grad_sums::at(row, chunk * 8)) * 4);
        // SAFETY: the caller's. The even columns are four neighbours, the odd ones lie 128 bytes on.
        let ([a, c, e, g], [b, d, f, h]) =
            unsafe { (mem::ld_global_nc_v4_f32::<0>(first), mem::ld_global_nc_v4_f32::<128>(first)) };
        [a, b, c, d, e, f, g, h]
    }
}
