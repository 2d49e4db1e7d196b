//! One batch entry: how many queries and keys it has, and where they lie in the tensors.

use crate::element::Element;
use crate::tiles::operand::Operand;
use cuda_std::mem::{self, GlobalAddr};
use flash_attention_abi::{ProblemParams, TensorParam};

/// The queries and keys of one batch entry. Those of a ragged batch are rows of packed tensors.
#[derive(Clone, Copy)]
pub struct Sequence {
    /// Index of the batch entry.
    pub batch: u32,
    /// Its queries.
    pub queries: u32,
    /// Its keys; padding behind them does not count and is never read.
    pub keys: u32,
    /// Its keys with padding: rows of dk and dv.
    pub key_rows: u32,
    /// Row of its first query.
    first_query: u32,
    /// Row of its first key.
    first_key: u32,
}

/// Element `index` of an array of u32.
#[inline(always)]
unsafe fn element(address: u64, index: u32) -> u32 {
    // SAFETY: the caller's.
    unsafe { mem::ld_global_nc_u32::<0>(GlobalAddr::from_generic(address).offset(u64::from(index) * 4)) }
}

impl Sequence {
    /// A batch entry of a problem.
    ///
    /// # Safety
    /// Offsets and lengths, where the problem has them, are readable.
    #[inline(always)]
    pub unsafe fn new(problem: &ProblemParams, batch: u32) -> Self {
        // SAFETY: the caller's.
        unsafe { Self::of_sizes(problem, batch, [problem.queries, problem.keys]) }
    }

    /// The same from the problem's queries and keys, however they were come by.
    ///
    /// # Safety
    /// As [`Sequence::new`].
    #[inline(always)]
    pub unsafe fn of_sizes(problem: &ProblemParams, batch: u32, [queries, keys]: [u32; 2]) -> Self {
        let mut sequence = Sequence { batch, queries, keys, key_rows: keys, first_query: 0, first_key: 0 };
        // SAFETY: the caller's.
        unsafe {
            if problem.query_offsets != 0 {
                sequence.first_query = element(problem.query_offsets, batch);
                sequence.queries = element(problem.query_offsets, batch + 1) - sequence.first_query;
                sequence.first_key = element(problem.key_offsets, batch);
                sequence.keys = element(problem.key_offsets, batch + 1) - sequence.first_key;
                sequence.key_rows = sequence.keys;
            }
            if problem.key_lengths != 0 {
                sequence.keys = element(problem.key_lengths, batch);
            }
        }
        sequence
    }

    /// All that it is, as numbers.
    #[inline(always)]
    pub fn to_numbers(&self) -> [u32; 6] {
        [self.batch, self.queries, self.keys, self.key_rows, self.first_query, self.first_key]
    }

    /// What [`Sequence::to_numbers`] was asked of.
    #[inline(always)]
    pub fn from_numbers([batch, queries, keys, key_rows, first_query, first_key]: [u32; 6]) -> Self {
        Sequence { batch, queries, keys, key_rows, first_query, first_key }
    }

    /// Queries of the whole problem, one head: the rows of a packed tensor, or those of one batch entry after the other.
    ///
    /// # Safety
    /// As [`Sequence::new`].
    #[inline(always)]
    pub unsafe fn all_queries(problem: &ProblemParams) -> u32 {
        if problem.query_offsets != 0 {
            // SAFETY: the caller's.
            unsafe { element(problem.query_offsets, problem.batch) }
        } else {
            problem.batch * problem.queries
        }
    }

    /// From the upper left corner to the lower right one: the last query stands at the last key.
    #[inline(always)]
    pub fn shift(&self) -> i32 {
        self.keys as i32 - self.queries as i32
    }

    /// Bytes from a tensor's start to the first query of a head.
    #[inline(always)]
    pub fn query_offset(&self, tensor: &TensorParam, head: u32) -> i64 {
        self.offset(tensor, head, self.first_query)
    }

    /// Bytes to the first of a head's tiles of `rows` queries: a row of the tensor each. Sequences of a ragged batch begin with
    /// tiles of their own (`GradSums` in `abi`).
    #[inline(always)]
    pub fn query_tile_offset(&self, tensor: &TensorParam, head: u32, rows: u32) -> i64 {
        self.offset(tensor, head, self.first_query / rows)
    }

    #[inline(always)]
    fn offset(&self, tensor: &TensorParam, head: u32, first_row: u32) -> i64 {
        i64::from(self.batch) * tensor.batch_stride
            + i64::from(head) * tensor.head_stride
            + i64::from(first_row) * tensor.row_stride
    }

    /// The queries of a head: a matrix of q, out, dout or dq.
    #[inline(always)]
    pub fn of_queries<E: Element>(
        &self,
        tensor: &TensorParam,
        head: u32,
        columns: u32,
        aligned: bool,
    ) -> Operand<E> {
        Operand::new(tensor, self.query_offset(tensor, head), self.queries, columns, aligned)
    }

    /// The keys of a head, without padding: a matrix of k or v.
    #[inline(always)]
    pub fn of_keys<E: Element>(
        &self,
        tensor: &TensorParam,
        head: u32,
        columns: u32,
        aligned: bool,
    ) -> Operand<E> {
        Operand::new(tensor, self.offset(tensor, head, self.first_key), self.keys, columns, aligned)
    }

    /// The keys of a head with padding: a matrix of dk or dv.
    #[inline(always)]
    pub fn of_key_rows<E: Element>(
        &self,
        tensor: &TensorParam,
        head: u32,
        columns: u32,
        aligned: bool,
    ) -> Operand<E> {
        Operand::new(tensor, self.offset(tensor, head, self.first_key), self.key_rows, columns, aligned)
    }
}
