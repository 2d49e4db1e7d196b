//! `mma.sp`: products in which half of A is zero and not stored.
//!
//! Of each chunk of 4 columns of A (of tf32, of 2) two elements (one) are stored, in the fragments of a dense A with half the columns.
//! The metadata has 4 bits a chunk, which say where they belong: two numbers of columns, of tf32 those of its halves. Of integers of 4
//! bits a pair of columns is what one column of 8 bits is, in the metadata too. PTX manual,
//! "Sparse matrix storage" and the figures of the metadata's layouts. What a stored element is not multiplied with does not matter,
//! not even if it is NaN. The stored products are added in order, in the blocks of `mma`.

use super::mma::{A_OTHER, B_OTHER, Format, HALF_SUMS, Portable, ROWS, SATURATE, add_integers};
use super::mma::{columns_of_b, integers_of_a, integers_of_b, load_sums, rows_of_a, store_sums, whole_warp};
use super::{Cx, Flow, Handler, Instr, LANES};
use crate::numeric::tensor::{COLUMNS, Factors, add_products};
use std::marker::PhantomData;

/// Flag in `Instr::n`, beside those of `mma`: the two numbers of a chunk must ascend.
pub(crate) const ORDERED: u32 = 16;

/// Floating types: `K` columns of A, added in blocks of `BLOCK`. Listed at `b`: d, c, a, b, metadata; `c` of four lanes give it, and
/// `imm` says which.
pub(crate) struct SparseFloat<F, const K: usize, const BLOCK: usize, const PLACES: i32>(PhantomData<F>);
/// The same for integers of 8 or 4 bits.
pub(crate) struct SparseInt<const K: usize, const BITS: usize>;

/// Lane and first bit of the metadata of a chunk of a row, of elements of `size` bytes.
fn metadata_at(i: &Instr, row: usize, chunk: usize, size: usize) -> (usize, usize) {
    let (group, upper, first) = (row % 8, row / 8, i.imm as usize * i.c as usize);
    let (lane, bit) = match (size, i.c) {
        // One byte, or a pair of 4 bits: a lane has 8 chunks of one row.
        (1, _) => (2 * (chunk / 8) + upper, 4 * (chunk % 8)),
        // Otherwise 4 chunks of both rows.
        _ => (chunk / 4, 16 * upper + 4 * (chunk % 4)),
    };
    (4 * group + first + lane, bit)
}

/// The columns of a row's stored elements, `STORED` in all; the error is lane and meaningless bits.
fn columns<const STORED: usize>(
    i: &Instr,
    metadata: &[u32; LANES],
    row: usize,
    size: usize,
) -> Result<[usize; STORED], (usize, u32)> {
    let mut all = [0; STORED];
    let stored = if size == 4 { 1 } else { 2 };
    for (chunk, all) in all.chunks_mut(stored).enumerate() {
        let (lane, bit) = metadata_at(i, row, chunk, size);
        let bits = metadata[lane] >> bit & 0xf;
        let (first, second) = (bits as usize & 3, bits as usize >> 2);
        let good = if size == 4 { [0b0100, 0b1110].contains(&bits) } else { first != second };
        if !good || i.n & ORDERED != 0 && first > second {
            return Err((lane, bits));
        }
        match all {
            [one] => *one = 2 * chunk + first / 2,
            [one, other] => (*one, *other) = (4 * chunk + first, 4 * chunk + second),
            _ => {}
        }
    }
    Ok(all)
}

/// Metadata that means nothing, of elements of `size` bytes; 0 is half a byte.
#[cold]
fn meaningless(cx: &mut Cx, size: usize, (lane, bits): (usize, u32)) -> Flow {
    let meant = match size {
        0 => "two of four pairs of columns",
        4 => "one of two columns",
        _ => "two of four columns",
    };
    cx.fail(lane as u32, format!("metadata of a sparse matrix with {bits:#06b}, which does not name {meant}"))
}

/// Places of c, a, b and the metadata in the list.
fn lists(i: &Instr, of_a: usize, of_b: usize) -> [u32; 4] {
    let sums = if i.n & HALF_SUMS != 0 { 2 } else { 4 };
    let a = i.b + 2 * sums;
    [i.b + sums, a, a + of_a as u32, a + (of_a + of_b) as u32]
}

/// What `SparseFloat` of a type does; `K` columns, of which `STORED` are stored.
///
/// # Safety
/// The registers must be listed.
#[inline(always)]
unsafe fn multiply<F: Format, const K: usize, const STORED: usize, const BLOCK: usize, const PLACES: i32>(
    cx: &mut Cx,
    i: &Instr,
) -> Flow {
    let width = 4 * F::PER_WORD;
    let [c, of_a, of_b, metadata] = lists(i, 2 * STORED / width, K / width);
    // SAFETY: by contract.
    unsafe {
        let register = |list: u32, k: usize| *cx.lanes::<u32>(cx.extra(list + k as u32));
        let (mut stored, mut b) = (Factors::zero(), Factors::zero());
        rows_of_a::<Portable, F, STORED>(&mut stored, |k| register(of_a, k), i.n & A_OTHER != 0);
        columns_of_b::<Portable, F, K>(&mut b, |k| register(of_b, k), i.n & B_OTHER != 0);
        let metadata = register(metadata, 0);
        let mut sums = load_sums(cx, i, c);
        for (row, sums) in sums.iter_mut().enumerate() {
            let columns = match columns::<STORED>(i, &metadata, row, 4 / F::PER_WORD) {
                Ok(columns) => columns,
                Err(wrong) => return meaningless(cx, 4 / F::PER_WORD, wrong),
            };
            let picked: Factors<COLUMNS, STORED> = Factors {
                values: columns.map(|column| b.values[column]),
                exponents: columns.map(|column| b.exponents[column]),
            };
            for block in 0..STORED / BLOCK {
                let (a, b) = (stored.in_row::<BLOCK>(row, block), picked.rows(block));
                add_products::<BLOCK, PLACES>(sums, &a, &b, i.n & HALF_SUMS != 0);
            }
        }
        store_sums(cx, i, i.b, &sums);
    }
    Flow::Next
}

/// Handlers of the shapes: half of the columns are stored.
macro_rules! sparse {
    ($($k:literal, $stored:literal, $block:literal, $places:literal;)*) => {$(
        impl<F: Format> Handler for SparseFloat<F, $k, $block, $places> {
            #[inline(always)]
            unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
                if let Err(flow) = whole_warp(cx, m) {
                    return flow;
                }
                // SAFETY: the decoder listed 32-bit registers, as many as the shape has.
                unsafe { multiply::<F, $k, $stored, $block, $places>(cx, i) }
            }
        }
    )*};
}
sparse! { 16, 8, 8, 24; 32, 16, 8, 24; 64, 32, 16, 13; 8, 4, 4, 24; 16, 8, 4, 24; }

/// What `SparseInt` does: `UNITS` bytes, or pairs of 4 bits, are stored of a row.
///
/// # Safety
/// As for `multiply`.
#[inline(always)]
unsafe fn multiply_integers<const K: usize, const BITS: usize, const STORED: usize, const UNITS: usize>(
    cx: &mut Cx,
    i: &Instr,
) -> Flow {
    let (each, width) = (STORED / UNITS, 128 / BITS);
    let [c, a, b, metadata] = lists(i, 2 * STORED / width, K / width);
    // SAFETY: by contract.
    unsafe {
        let register = |list: u32, k: usize| *cx.lanes::<u32>(cx.extra(list + k as u32));
        let stored = integers_of_a::<STORED, BITS>(|k| register(a, k), i.n & A_OTHER != 0);
        let b = integers_of_b::<K, BITS>(|k| register(b, k), i.n & B_OTHER != 0);
        let metadata = register(metadata, 0);
        let mut dense = [[0i32; K]; ROWS];
        for (row, (dense, stored)) in dense.iter_mut().zip(&stored).enumerate() {
            match columns::<UNITS>(i, &metadata, row, 1) {
                Ok(columns) => {
                    for (column, units) in columns.into_iter().zip(stored.chunks_exact(each)) {
                        dense[each * column..each * (column + 1)].copy_from_slice(units);
                    }
                }
                Err(wrong) => return meaningless(cx, if BITS == 4 { 0 } else { 1 }, wrong),
            }
        }
        let mut sums = load_sums(cx, i, c);
        add_integers(&mut sums, &dense, &b, i.n & SATURATE != 0);
        store_sums(cx, i, i.b, &sums);
    }
    Flow::Next
}

/// Handlers of integers.
macro_rules! sparse_integers {
    ($($k:literal, $bits:literal, $stored:literal, $units:literal;)*) => {$(
        impl Handler for SparseInt<$k, $bits> {
            #[inline(always)]
            unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
                if let Err(flow) = whole_warp(cx, m) {
                    return flow;
                }
                // SAFETY: as for `SparseFloat`.
                unsafe { multiply_integers::<$k, $bits, $stored, $units>(cx, i) }
            }
        }
    )*};
}
sparse_integers! { 32, 8, 16, 16; 64, 8, 32, 32; 64, 4, 32, 16; 128, 4, 64, 32; }
