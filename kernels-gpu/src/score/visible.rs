//! Which scores count: those inside the sequence, inside the band, and not masked.

use super::Mask;
use super::per_score::PerScore;
use crate::sequence::Sequence;
use cuda_std::mem;
use flash_attention_geometry::band::Band;

/// Inside the sequence and the band of causal masks and windows.
#[derive(Clone, Copy)]
pub struct Inside {
    queries: u32,
    keys: u32,
    /// The band, where the sequence's corner has put it.
    pub band: Band,
}

impl Inside {
    /// What a sequence and a band leave.
    #[inline(always)]
    pub fn new(sequence: &Sequence, band: Band) -> Self {
        Inside { queries: sequence.queries, keys: sequence.keys, band }
    }
}

impl Mask for Inside {
    #[inline(always)]
    unsafe fn sees(&self, query: u32, key: u32) -> bool {
        query < self.queries && key < self.keys && self.band.contains(query, key)
    }
}

/// A tensor of bytes, 0 where a query may not see a key.
#[derive(Clone, Copy)]
pub struct Boolean {
    tensor: PerScore,
}

impl Boolean {
    /// The mask that lies in a tensor.
    #[inline(always)]
    pub fn new(tensor: PerScore) -> Self {
        Boolean { tensor }
    }

    /// Whether there is one.
    #[inline(always)]
    pub fn given(&self) -> bool {
        self.tensor.given
    }
}

impl Mask for Boolean {
    #[inline(always)]
    unsafe fn sees(&self, query: u32, key: u32) -> bool {
        // SAFETY: where given, (query, key) lies inside: the caller's.
        !self.tensor.given || unsafe { mem::ld_global_nc_u8::<0>(self.tensor.at(query, key)) } != 0
    }
}
