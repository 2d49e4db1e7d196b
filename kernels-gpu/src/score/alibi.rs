//! Linear biases by distance (ALiBi: Press et al., arXiv 2108.12409).

use super::ScoreMod;
use crate::sequence::Sequence;
use core::f32::consts::LOG2_E;
use cuda_std::float;
use cuda_std::mem::{self, GlobalAddr};
use flash_attention_abi::ProblemParams;

/// Subtracts `slope * |query + keys - queries - key|`: the last query stands at the last key.
#[derive(Clone, Copy)]
pub struct Alibi {
    given: bool,
    /// Of the head, in units of log2, negative.
    pub slope: f32,
    shift: i32,
}

impl Alibi {
    /// The slope of a head.
    ///
    /// # Safety
    /// The slopes, if given, are readable as the problem describes them.
    #[inline(always)]
    pub unsafe fn new(problem: &ProblemParams, sequence: &Sequence, head: u32) -> Self {
        let slopes = &problem.alibi;
        let given = slopes.address != 0;
        let mut slope = 0.0;
        if given {
            let offset =
                i64::from(sequence.batch) * slopes.batch_stride + i64::from(head) * slopes.head_stride;
            let address = GlobalAddr::from_generic(slopes.address.wrapping_add_signed(offset));
            // SAFETY: the caller's.
            slope = -LOG2_E * f32::from_bits(unsafe { mem::ld_global_nc_u32::<0>(address) });
        }
        Alibi { given, slope, shift: sequence.shift() }
    }

    /// That with a slope that [`Alibi::new`] has found, where the last query stands `shift` keys further on.
    #[inline(always)]
    pub fn with_slope(problem: &ProblemParams, slope: f32, shift: i32) -> Self {
        Alibi { given: problem.alibi.address != 0, slope, shift }
    }
}

impl ScoreMod for Alibi {
    #[inline(always)]
    fn given(&self) -> bool {
        self.given
    }

    #[inline(always)]
    unsafe fn apply(&self, score: f32, query: u32, key: u32) -> f32 {
        // Positions are at most 2^30: the distance fits. It is exact in f32 up to 2^24.
        let distance = query as i32 + self.shift - key as i32;
        float::fma(self.slope, distance.abs() as f32, score)
    }
}
