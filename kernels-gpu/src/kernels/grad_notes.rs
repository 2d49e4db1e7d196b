//! What a block of backward reads of one head beside what forward does, noted down in shared memory too.

use super::head_notes::{HeadNotes, OF_GRADIENTS, SEQUENCE};
use crate::element::Element;
use crate::pipeline::row::PerQuery;
use crate::score::ScoreRules;
use crate::sequence::Sequence;
use crate::tiles::operand::Operand;
use flash_attention_abi::BackwardParams;
use flash_attention_abi::params::ALIGNED_DOUT;

/// The notes of a block of backward.
pub type GradNotes<'a, E> = HeadNotes<'a, BackwardParams, E>;

const DOUT: i32 = OF_GRADIENTS;
const LSE: i32 = OF_GRADIENTS + 8;
const DELTA: i32 = OF_GRADIENTS + 16;
const _: () = assert!(DELTA + 8 <= SEQUENCE);

impl<E: Element> GradNotes<'_, E> {
    /// Notes down a query head and all that backward reads of it and of its key head.
    ///
    /// # Safety
    /// As [`HeadNotes::write_head`].
    #[inline(always)]
    pub unsafe fn write_all(&self, sequence: &Sequence, head: u32, key_head: u32, rules: &ScoreRules<E>) {
        let params = self.params;
        // Columns and alignment do not matter here: only the address is noted down.
        let dout = sequence.of_queries::<E>(&params.dout, head, 0, false);
        // SAFETY: the caller's.
        unsafe {
            self.write_head(sequence, head, key_head, rules);
            self.notes.put_address::<DOUT>(dout.base());
            self.notes.put_address::<LSE>(PerQuery::new(&params.lse, sequence, head).base());
            self.notes.put_address::<DELTA>(PerQuery::new(&params.delta, sequence, head).base());
        }
    }

    /// The gradient of the output.
    ///
    /// # Safety
    /// As [`HeadNotes::q`].
    #[inline(always)]
    pub unsafe fn dout(&self) -> Operand<E> {
        let (params, columns) = (self.params, self.params.problem.value_dim);
        // SAFETY: the caller's.
        let (base, rows) = unsafe { (self.notes.get_address::<DOUT>(), self.queries()) };
        Operand::at_address(base, &params.dout, rows, columns, self.aligned(ALIGNED_DOUT))
    }

    /// The queries' log-sum-exps.
    ///
    /// # Safety
    /// As [`HeadNotes::q`].
    #[inline(always)]
    pub unsafe fn lse(&self) -> PerQuery {
        // SAFETY: the caller's.
        unsafe { PerQuery::at_address(self.notes.get_address::<LSE>(), self.queries()) }
    }

    /// Their deltas.
    ///
    /// # Safety
    /// As [`HeadNotes::q`].
    #[inline(always)]
    pub unsafe fn delta(&self) -> PerQuery {
        // SAFETY: the caller's.
        unsafe { PerQuery::at_address(self.notes.get_address::<DELTA>(), self.queries()) }
    }
}
