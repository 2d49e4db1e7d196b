//! What a block reads of one head, noted down in shared memory: addresses and bounds that only the edges of the
//! products need.

use crate::element::Element;
use crate::score::dropout::Dropout;
use crate::score::visible::Inside;
use crate::score::{HeadRules, ScoreRules};
use crate::sequence::Sequence;
use crate::tiles::notes::Notes;
use crate::tiles::operand::Operand;
use core::marker::PhantomData;
use flash_attention_abi::params::{ALIGNED_K, ALIGNED_Q, ALIGNED_V};
use flash_attention_abi::tile::NOTE_BYTES;
use flash_attention_abi::{BackwardParams, ForwardParams, ProblemParams, TensorParam};
use flash_attention_geometry::band::{Band, BlockRange};

/// Byte offsets of the notes: addresses, then numbers.
const Q: i32 = 0;
const K: i32 = 8;
const V: i32 = 16;
const MASK: i32 = 24;
const BIAS: i32 = 32;
/// For three more addresses, those of backward.
pub(super) const OF_GRADIENTS: i32 = 40;
pub(super) const SEQUENCE: i32 = 64;
const QUERIES: i32 = SEQUENCE + 4;
const KEYS: i32 = SEQUENCE + 8;
const HEAD: i32 = 88;
const FIRST: i32 = 92;
const BAND: i32 = 96;
const SLOPE: i32 = 104;
const DROPOUT: i32 = 108;
const PLAIN: i32 = 112;
const HEADS_END: i32 = 120;
const ZERO: i32 = 124;
const _: () = assert!(ZERO + 4 <= NOTE_BYTES as i32);

/// What both parameter structs have: the tensors that scores and weights are made of.
pub trait Inputs {
    /// Queries.
    fn q(&self) -> &TensorParam;
    /// Keys.
    fn k(&self) -> &TensorParam;
    /// Values.
    fn v(&self) -> &TensorParam;
    /// The mask.
    fn mask(&self) -> &TensorParam;
    /// The bias.
    fn bias(&self) -> &TensorParam;
    /// Sizes and options.
    fn problem(&self) -> &ProblemParams;
}

macro_rules! inputs {
    ($($params:ident),*) => {$(
        impl Inputs for $params {
            #[inline(always)]
            fn q(&self) -> &TensorParam {
                &self.q
            }

            #[inline(always)]
            fn k(&self) -> &TensorParam {
                &self.k
            }

            #[inline(always)]
            fn v(&self) -> &TensorParam {
                &self.v
            }

            #[inline(always)]
            fn mask(&self) -> &TensorParam {
                &self.mask
            }

            #[inline(always)]
            fn bias(&self) -> &TensorParam {
                &self.bias
            }

            #[inline(always)]
            fn problem(&self) -> &ProblemParams {
                &self.problem
            }
        }
    )*};
}
inputs!(ForwardParams, BackwardParams);

/// The notes of a block. Whatever they are asked for is read from shared memory again.
pub struct HeadNotes<'a, P, E> {
    pub(super) params: &'a P,
    pub(super) notes: Notes,
    element: PhantomData<E>,
}

impl<'a, P: Inputs, E: Element> HeadNotes<'a, P, E> {
    /// Those in a block's place for notes.
    #[inline(always)]
    pub fn new(params: &'a P, notes: Notes) -> Self {
        HeadNotes { params, notes, element: PhantomData }
    }

    /// Notes down a batch entry.
    ///
    /// # Safety
    /// One thread does it, and no other reads or writes these notes from the barrier before to the next one.
    #[inline(always)]
    pub unsafe fn write_sequence(&self, sequence: &Sequence) {
        let [batch, queries, keys, key_rows, first_query, first_key] = sequence.to_numbers();
        // SAFETY: the caller's.
        unsafe {
            self.notes.put::<SEQUENCE>(batch);
            self.notes.put::<QUERIES>(queries);
            self.notes.put::<KEYS>(keys);
            self.notes.put::<{ SEQUENCE + 12 }>(key_rows);
            self.notes.put::<{ SEQUENCE + 16 }>(first_query);
            self.notes.put::<{ SEQUENCE + 20 }>(first_key);
        }
    }

    /// Notes down what the block owns: rows from `first` on of a head of a batch entry; and a zero.
    ///
    /// # Safety
    /// As [`HeadNotes::write_sequence`].
    #[inline(always)]
    pub unsafe fn write_work(&self, sequence: &Sequence, head: u32, first: u32) {
        // SAFETY: the caller's.
        unsafe {
            self.write_sequence(sequence);
            self.notes.put::<HEAD>(head);
            self.notes.put::<FIRST>(first);
            self.write_zero();
        }
    }

    /// Notes down a query head, the key head that it reads, and the rules of its scores.
    ///
    /// # Safety
    /// As [`HeadNotes::write_sequence`].
    #[inline(always)]
    pub unsafe fn write_head(&self, sequence: &Sequence, head: u32, key_head: u32, rules: &ScoreRules<E>) {
        let (params, problem) = (self.params, self.params.problem());
        // Columns and alignment do not matter here: only the addresses are noted down.
        let q = sequence.of_queries::<E>(params.q(), head, 0, false);
        let k = sequence.of_keys::<E>(params.k(), key_head, 0, false);
        let v = sequence.of_keys::<E>(params.v(), key_head, 0, false);
        let rules = rules.of_head();
        // SAFETY: the caller's.
        unsafe {
            self.notes.put_address::<Q>(q.base());
            self.notes.put_address::<K>(k.base());
            self.notes.put_address::<V>(v.base());
            self.notes.put_address::<MASK>(rules.mask);
            self.notes.put_address::<BIAS>(rules.bias);
            self.notes.put::<BAND>(rules.inside.band.low as u32);
            self.notes.put::<{ BAND + 4 }>(rules.inside.band.high as u32);
            self.notes.put::<SLOPE>(rules.slope.to_bits());
            self.notes.put::<DROPOUT>(Dropout::new(problem, sequence, head).row);
        }
    }

    /// Notes down which blocks of the head are plain.
    ///
    /// # Safety
    /// As [`HeadNotes::write_sequence`].
    #[inline(always)]
    pub unsafe fn write_plain(&self, range: &BlockRange) {
        // SAFETY: the caller's.
        unsafe {
            self.notes.put::<PLAIN>(range.plain_begin);
            self.notes.put::<{ PLAIN + 4 }>(range.plain_end);
        }
    }

    /// Notes down one past the last query head that the block visits.
    ///
    /// # Safety
    /// As [`HeadNotes::write_sequence`].
    #[inline(always)]
    pub unsafe fn write_heads_end(&self, end: u32) {
        // SAFETY: the caller's.
        unsafe { self.notes.put::<HEADS_END>(end) }
    }

    /// One past the last query head that the block visits.
    ///
    /// # Safety
    /// It was noted down before a barrier.
    #[inline(always)]
    pub unsafe fn heads_end(&self) -> u32 {
        // SAFETY: the caller's.
        unsafe { self.notes.get::<HEADS_END>() }
    }

    /// Notes down a zero.
    ///
    /// # Safety
    /// As [`HeadNotes::write_sequence`].
    #[inline(always)]
    pub unsafe fn write_zero(&self) {
        // SAFETY: the caller's.
        unsafe { self.notes.put::<ZERO>(0) }
    }

    /// A zero that no assembler knows as one: what is made from a sum with it is not computed before a loop that has barriers.
    ///
    /// # Safety
    /// It was noted down before a barrier.
    #[inline(always)]
    pub unsafe fn zero(&self) -> u32 {
        // SAFETY: the caller's.
        unsafe { self.notes.get::<ZERO>() }
    }

    /// The batch entry.
    ///
    /// # Safety
    /// It was noted down before a barrier.
    #[inline(always)]
    pub unsafe fn sequence(&self) -> Sequence {
        // SAFETY: the caller's.
        Sequence::from_numbers(unsafe {
            [
                self.notes.get::<SEQUENCE>(),
                self.queries(),
                self.keys(),
                self.notes.get::<{ SEQUENCE + 12 }>(),
                self.notes.get::<{ SEQUENCE + 16 }>(),
                self.notes.get::<{ SEQUENCE + 20 }>(),
            ]
        })
    }

    #[inline(always)]
    pub(super) unsafe fn queries(&self) -> u32 {
        // SAFETY: the caller's.
        unsafe { self.notes.get::<QUERIES>() }
    }

    #[inline(always)]
    unsafe fn keys(&self) -> u32 {
        // SAFETY: the caller's.
        unsafe { self.notes.get::<KEYS>() }
    }

    /// The head that the block owns rows of.
    ///
    /// # Safety
    /// It was noted down before a barrier.
    #[inline(always)]
    pub unsafe fn head(&self) -> u32 {
        // SAFETY: the caller's.
        unsafe { self.notes.get::<HEAD>() }
    }

    /// The first row that the block owns.
    ///
    /// # Safety
    /// As [`HeadNotes::head`].
    #[inline(always)]
    pub unsafe fn first(&self) -> u32 {
        // SAFETY: the caller's.
        unsafe { self.notes.get::<FIRST>() }
    }

    /// Whether every element of a block is visible.
    ///
    /// # Safety
    /// The head's plain blocks were noted down before a barrier.
    #[inline(always)]
    pub unsafe fn is_plain(&self, block: u32) -> bool {
        // SAFETY: the caller's.
        unsafe { self.notes.get::<PLAIN>() <= block && block < self.notes.get::<{ PLAIN + 4 }>() }
    }

    #[inline(always)]
    pub(super) fn aligned(&self, bit: u32) -> bool {
        self.params.problem().aligned & bit != 0
    }

    /// The queries.
    ///
    /// # Safety
    /// Batch entry and query head were noted down before a barrier.
    #[inline(always)]
    pub unsafe fn q(&self) -> Operand<E> {
        let (params, columns) = (self.params, self.params.problem().head_dim);
        // SAFETY: the caller's.
        let (base, rows) = unsafe { (self.notes.get_address::<Q>(), self.queries()) };
        Operand::at_address(base, params.q(), rows, columns, self.aligned(ALIGNED_Q))
    }

    /// The keys.
    ///
    /// # Safety
    /// As [`HeadNotes::q`].
    #[inline(always)]
    pub unsafe fn k(&self) -> Operand<E> {
        let (params, columns) = (self.params, self.params.problem().head_dim);
        // SAFETY: the caller's.
        let (base, rows) = unsafe { (self.notes.get_address::<K>(), self.keys()) };
        Operand::at_address(base, params.k(), rows, columns, self.aligned(ALIGNED_K))
    }

    /// The values.
    ///
    /// # Safety
    /// As [`HeadNotes::q`].
    #[inline(always)]
    pub unsafe fn v(&self) -> Operand<E> {
        let (params, columns) = (self.params, self.params.problem().value_dim);
        // SAFETY: the caller's.
        let (base, rows) = unsafe { (self.notes.get_address::<V>(), self.keys()) };
        Operand::at_address(base, params.v(), rows, columns, self.aligned(ALIGNED_V))
    }

    /// The rules of the scores.
    ///
    /// # Safety
    /// As [`HeadNotes::q`].
    #[inline(always)]
    pub unsafe fn rules(&self) -> ScoreRules<E> {
        let params = self.params;
        // SAFETY: the caller's.
        let of_head = unsafe {
            let (low, high) = (self.notes.get::<BAND>() as i32, self.notes.get::<{ BAND + 4 }>() as i32);
            HeadRules {
                inside: Inside { queries: self.queries(), keys: self.keys(), band: Band { low, high } },
                slope: f32::from_bits(self.notes.get::<SLOPE>()),
                mask: self.notes.get_address::<MASK>(),
                bias: self.notes.get_address::<BIAS>(),
            }
        };
        ScoreRules::with_head(params.problem(), params.mask(), params.bias(), of_head)
    }

    /// The dropout of the weights.
    ///
    /// # Safety
    /// As [`HeadNotes::q`].
    #[inline(always)]
    pub unsafe fn dropout(&self) -> Dropout {
        // SAFETY: the caller's.
        Dropout::of_row(self.params.problem(), unsafe { self.notes.get::<DROPOUT>() })
    }
}
