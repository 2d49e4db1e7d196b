//! One number a row: log-sum-exp and delta, `[batch, query heads, queries]` in f32, and the sinks of heads.

use crate::config::KernelConfig;
use crate::sequence::Sequence;
use crate::softmax::RowReduce;
use crate::tiles::fragment::{MAX_ROWS, RowVector};
use crate::tiles::layout::ScoreLayout;
use core::f32::consts::LOG2_E;
use cuda_std::mem::{self, GlobalAddr};
use cuda_std::warp;
use flash_attention_abi::TensorParam;
use flash_attention_abi::tile::WARP_COLUMNS;
use flash_attention_geometry::fragment::ThreadPlace;
use flash_attention_geometry::mma::MmaPlace;

/// The 8 neighbouring lanes that share a row combine their values by three shuffles.
pub enum LanesOfARow {}

impl RowReduce for LanesOfARow {
    #[inline(always)]
    fn max(value: f32) -> f32 {
        // SAFETY: kernels call the softmax with all lanes of every warp.
        unsafe { warp::group_max_f32::<{ WARP_COLUMNS }>(u32::MAX, value) }
    }

    #[inline(always)]
    fn sum(value: f32) -> f32 {
        // SAFETY: as above.
        unsafe { warp::group_sum_f32::<{ WARP_COLUMNS }>(u32::MAX, value) }
    }

    #[inline(always)]
    fn any(value: bool) -> bool {
        // SAFETY: as above.
        unsafe { warp::warp_vote_any(u32::MAX, value) }
    }
}

/// The 4 neighbouring lanes that share a row of a product on tensor cores combine their values by two shuffles.
pub enum LanesOfAQuad {}

impl RowReduce for LanesOfAQuad {
    #[inline(always)]
    fn max(value: f32) -> f32 {
        // SAFETY: kernels call the softmax with all lanes of every warp.
        unsafe { warp::group_max_f32::<4>(u32::MAX, value) }
    }

    #[inline(always)]
    fn sum(value: f32) -> f32 {
        // SAFETY: as above.
        unsafe { warp::group_sum_f32::<4>(u32::MAX, value) }
    }

    #[inline(always)]
    fn any(value: bool) -> bool {
        // SAFETY: as above.
        unsafe { warp::warp_vote_any(u32::MAX, value) }
    }
}

/// The numbers of one head of one batch entry.
#[derive(Clone, Copy)]
pub struct PerQuery {
    base: GlobalAddr,
    queries: u32,
}

impl PerQuery {
    /// The part of a tensor `[batch, query heads, queries, 1]` that belongs to a head. Its numbers lie side by side.
    #[inline(always)]
    pub fn new(tensor: &TensorParam, sequence: &Sequence, head: u32) -> Self {
        let bytes = sequence.query_offset(tensor, head);
        PerQuery {
            base: GlobalAddr::from_generic(tensor.address.wrapping_add_signed(bytes)),
            queries: sequence.queries,
        }
    }

    /// The numbers that begin at an address.
    #[inline(always)]
    pub fn at_address(base: GlobalAddr, queries: u32) -> Self {
        PerQuery { base, queries }
    }

    /// Address of the first number.
    #[inline(always)]
    pub fn base(&self) -> GlobalAddr {
        self.base
    }

    /// Writes the number of one query.
    ///
    /// # Safety
    /// It is one of the sequence's, and this thread's alone.
    #[inline(always)]
    pub unsafe fn store(&self, query: u32, value: f32) {
        // SAFETY: inside.
        unsafe { mem::st_global_f32::<0>(self.base.offset(u64::from(query) * 4), value) }
    }

    /// The number of a query, `otherwise` beyond the last one.
    ///
    /// # Safety
    /// The numbers are readable.
    #[inline(always)]
    pub unsafe fn get_or(&self, query: u32, otherwise: f32) -> f32 {
        if query < self.queries {
            // SAFETY: inside.
            f32::from_bits(unsafe { mem::ld_global_nc_u32::<0>(self.base.offset(u64::from(query) * 4)) })
        } else {
            otherwise
        }
    }

    /// Writes the numbers of the rows that a thread owns, in the lane that is the first of its row.
    ///
    /// # Safety
    /// The numbers are writable and belong to this block alone.
    #[inline(always)]
    pub unsafe fn store_rows<L: ScoreLayout>(
        &self,
        values: &RowVector,
        place: L::Place,
        first_query: u32,
        first_lane: bool,
    ) {
        for i in 0..L::ROWS {
            let query = first_query + L::row(place, i);
            if first_lane && query < self.queries {
                // SAFETY: inside.
                unsafe { self.store(query, values[i]) }
            }
        }
    }

    /// The numbers of the rows that a thread owns.
    ///
    /// # Safety
    /// The numbers are readable.
    #[inline(always)]
    pub unsafe fn of_rows<L: ScoreLayout>(
        &self,
        place: L::Place,
        first_query: u32,
        otherwise: f32,
    ) -> RowVector {
        let mut values = [0.0; MAX_ROWS];
        for i in 0..L::ROWS {
            // SAFETY: the caller's.
            values[i] = unsafe { self.get_or(first_query + L::row(place, i), otherwise) };
        }
        values
    }

    /// The numbers of the columns that a thread owns.
    ///
    /// # Safety
    /// The numbers are readable.
    #[inline(always)]
    pub unsafe fn of_columns<C: KernelConfig>(
        &self,
        place: ThreadPlace,
        first_query: u32,
        otherwise: f32,
    ) -> [f32; 8] {
        let mut values = [0.0; 8];
        for j in 0..C::COLUMNS {
            // SAFETY: the caller's.
            values[j] = unsafe { self.get_or(first_query + place.score_column(j as u32), otherwise) };
        }
        values
    }
}

/// Queries of a step of backward on tensor cores that one thread owns, at most.
pub const MAX_PAIRS: usize = 8;

/// The two numbers a query that backward on tensor cores takes, side by side: the log-sum-exp as [`subtrahend`] prepares it, and
/// delta. They belong to one head of one batch entry.
#[derive(Clone, Copy)]
pub struct QueryPairs {
    base: GlobalAddr,
    queries: u32,
}

impl QueryPairs {
    /// Bytes of a query's.
    const BYTES: u64 = 8;

    /// The part of a tensor `[batch, query heads, queries, 2]` that belongs to a head.
    #[inline(always)]
    pub fn new(tensor: &TensorParam, sequence: &Sequence, head: u32) -> Self {
        let bytes = sequence.query_offset(tensor, head);
        QueryPairs {
            base: GlobalAddr::from_generic(tensor.address.wrapping_add_signed(bytes)),
            queries: sequence.queries,
        }
    }

    /// Writes those of one query.
    ///
    /// # Safety
    /// It is one of the sequence's, and this thread's alone.
    #[inline(always)]
    pub unsafe fn store(&self, query: u32, pair: [f32; 2]) {
        // SAFETY: inside.
        unsafe { mem::st_global_v2_f32::<0>(self.base.offset(u64::from(query) * Self::BYTES), pair) }
    }

    /// Those of a query; beyond the last one those that make its weights and gradients 0.
    ///
    /// # Safety
    /// They are readable.
    #[inline(always)]
    pub unsafe fn get(&self, query: u32) -> [f32; 2] {
        if query < self.queries {
            // SAFETY: inside.
            unsafe { mem::ld_global_nc_v2_f32::<0>(self.base.offset(u64::from(query) * Self::BYTES)) }
        } else {
            [f32::INFINITY, 0.0]
        }
    }

    /// Those of the rows that a thread owns: log-sum-exps, and deltas.
    ///
    /// # Safety
    /// They are readable.
    #[inline(always)]
    pub unsafe fn of_rows<L: ScoreLayout>(&self, place: L::Place, first_query: u32) -> [RowVector; 2] {
        let mut rows = [[0.0; MAX_ROWS]; 2];
        for i in 0..L::ROWS {
            // SAFETY: the caller's.
            [rows[0][i], rows[1][i]] = unsafe { self.get(first_query + L::row(place, i)) };
        }
        rows
    }

    /// Those of the columns that a thread owns.
    ///
    /// # Safety
    /// They are readable.
    #[inline(always)]
    pub unsafe fn of_columns<L: ScoreLayout>(
        &self,
        place: L::Place,
        first_query: u32,
    ) -> [[f32; 2]; MAX_PAIRS] {
        let mut pairs = [[0.0; 2]; MAX_PAIRS];
        for j in 0..L::COLUMNS {
            // SAFETY: the caller's.
            pairs[j] = unsafe { self.get(first_query + L::column(place, j)) };
        }
        pairs
    }

    /// The same where all those queries exist.
    ///
    /// # Safety
    /// They do, and are readable.
    #[inline(always)]
    pub unsafe fn of_all_columns<L: ScoreLayout<Place = MmaPlace>>(
        &self,
        place: MmaPlace,
        first_query: u32,
    ) -> [[f32; 2]; MAX_PAIRS] {
        let first = self.base.offset(u64::from(first_query + place.first_column) * Self::BYTES);
        let mut pairs = [[0.0; 2]; MAX_PAIRS];
        // SAFETY: the caller's. Two columns side by side, the next two 8 columns on; offsets are part of the instructions.
        unsafe {
            pairs[0] = mem::ld_global_nc_v2_f32::<0>(first);
            pairs[1] = mem::ld_global_nc_v2_f32::<8>(first);
            pairs[2] = mem::ld_global_nc_v2_f32::<64>(first);
            pairs[3] = mem::ld_global_nc_v2_f32::<72>(first);
            if L::COLUMNS > 4 {
                pairs[4] = mem::ld_global_nc_v2_f32::<128>(first);
                pairs[5] = mem::ld_global_nc_v2_f32::<136>(first);
                pairs[6] = mem::ld_global_nc_v2_f32::<192>(first);
                pairs[7] = mem::ld_global_nc_v2_f32::<200>(first);
            }
        }
        pairs
    }
}

/// A log-sum-exp in the form that recomputation subtracts: in units of log2, and plus infinity for a query without a
/// visible key, whose weights are all 0 then.
#[inline(always)]
pub fn subtrahend(lse: f32) -> f32 {
    if lse == f32::NEG_INFINITY { f32::INFINITY } else { lse * LOG2_E }
}

/// The sink of a head, in units of log2.
///
/// # Safety
/// `sinks` is the address of one logit for every head.
#[inline(always)]
pub unsafe fn sink(sinks: u64, head: u32) -> f32 {
    let address = GlobalAddr::from_generic(sinks).offset(u64::from(head) * 4);
    // SAFETY: the caller's.
    f32::from_bits(unsafe { mem::ld_global_nc_u32::<0>(address) }) * LOG2_E
}
