//! `mma`: the fragments of a warp's lanes to a tile, the product, and back.
//!
//! All shapes of m16n8 place their elements alike. A 32-bit register of all lanes holds 8 rows of 4 lanes each; a lane's elements
//! lie next to each other in the row, low bits first. Registers of A hold the rows 0 to 7, then 8 to 15 of the first columns,
//! then the same of the next columns. Registers of B hold B's columns as such rows. The accumulator's lane `l` has columns
//! `2 (l % 4)` and the next of row `l / 4`, then of row `l / 4 + 8`.

use super::{Cx, Flow, Handler, Instr, LANES};
use crate::numeric::eight::{e4m3_to_f32, e5m2_to_f32};
use crate::numeric::half::{bf16_to_f32, f16_to_f32, f32_to_f16};
use crate::numeric::tensor::{COLUMNS, add_products};
use std::marker::PhantomData;

/// Rows of a tile of A and of the accumulator.
const ROWS: usize = 16;

/// Flag in `Instr::n`: A is e5m2, or signed.
pub(crate) const A_OTHER: u32 = 1;
/// Flag in `Instr::n`: B is e5m2, or signed.
pub(crate) const B_OTHER: u32 = 2;
/// Flag in `Instr::n`: integer sums saturate.
pub(crate) const SATURATE: u32 = 4;
/// Flag in `Instr::n`: the accumulators are f16.
pub(crate) const HALF_SUMS: u32 = 8;

/// Makes sure that all 32 lanes are there.
///
/// `Err` holds what to do otherwise: wait for the others, or fail where some can never come.
#[inline(always)]
pub(crate) fn whole_warp(cx: &mut Cx, m: u32) -> Result<(), Flow> {
    if m == !0 {
        return Ok(());
    }
    if cx.live != !0 {
        let gone = !cx.live;
        let what = format!(
            "an instruction of the whole warp, of which the lanes {gone:#010x} have ended or never were"
        );
        return Err(cx.fail(m.trailing_zeros(), what));
    }
    cx.members = !0;
    Err(Flow::Collective)
}

/// A type of multiplicands.
pub(crate) trait Format {
    /// Elements in a 32-bit register.
    const PER_WORD: usize;
    /// Element `j` of a register; `other` tells apart the two types that share a format.
    fn element(word: u32, j: usize, other: bool) -> f32;
}

/// f16.
pub(crate) struct Half;
/// bf16.
pub(crate) struct Brain;
/// tf32: the low 13 bits do not count.
pub(crate) struct Tensor32;
/// e4m3, or e5m2.
pub(crate) struct Eight;

impl Format for Half {
    const PER_WORD: usize = 2;
    #[inline(always)]
    fn element(word: u32, j: usize, _: bool) -> f32 {
        f16_to_f32(word >> (16 * j) & 0xffff)
    }
}

impl Format for Brain {
    const PER_WORD: usize = 2;
    #[inline(always)]
    fn element(word: u32, j: usize, _: bool) -> f32 {
        bf16_to_f32(word >> (16 * j) & 0xffff)
    }
}

impl Format for Tensor32 {
    const PER_WORD: usize = 1;
    #[inline(always)]
    fn element(word: u32, _: usize, _: bool) -> f32 {
        f32::from_bits(word & !0x1fff)
    }
}

impl Format for Eight {
    const PER_WORD: usize = 4;
    #[inline(always)]
    fn element(word: u32, j: usize, other: bool) -> f32 {
        let x = word >> (8 * j) & 0xff;
        if other { e5m2_to_f32(x) } else { e4m3_to_f32(x) }
    }
}

/// The registers of the operands, listed at `Instr::b`: d, a, b, c.
struct Lists {
    d: u32,
    a: u32,
    b: u32,
    c: u32,
}

impl Lists {
    /// With `steps` registers of B.
    #[inline(always)]
    fn new(i: &Instr, steps: u32) -> Lists {
        let sums = if i.n & HALF_SUMS != 0 { 2 } else { 4 };
        Lists { d: i.b, a: i.b + sums, b: i.b + sums + 2 * steps, c: i.b + sums + 3 * steps }
    }
}

/// `mma` of floating types with `K` columns of A, added in blocks of `BLOCK`.
pub(crate) struct Mma<F, const K: usize, const BLOCK: usize>(PhantomData<F>);

impl<F: Format, const K: usize, const BLOCK: usize> Handler for Mma<F, K, BLOCK> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if let Err(flow) = whole_warp(cx, m) {
            return flow;
        }
        let steps = K / (4 * F::PER_WORD);
        let lists = Lists::new(i, steps as u32);
        let mut a = [[0f32; K]; ROWS];
        let mut b = [[0f32; COLUMNS]; K];
        // SAFETY: the decoder listed 32-bit registers, as many as the shape has.
        unsafe {
            for step in 0..steps {
                for upper in 0..2 {
                    let words = cx.lanes::<u32>(cx.extra(lists.a + 2 * step as u32 + upper));
                    for l in 0..LANES {
                        for j in 0..F::PER_WORD {
                            a[l / 4 + 8 * upper as usize][F::PER_WORD * (4 * step + l % 4) + j] =
                                F::element(words[l], j, i.n & A_OTHER != 0);
                        }
                    }
                }
                let words = cx.lanes::<u32>(cx.extra(lists.b + step as u32));
                for l in 0..LANES {
                    for j in 0..F::PER_WORD {
                        b[F::PER_WORD * (4 * step + l % 4) + j][l / 4] =
                            F::element(words[l], j, i.n & B_OTHER != 0);
                    }
                }
            }
            let mut sums = load_sums(cx, i, lists.c);
            for (row, sums) in a.iter().zip(&mut sums) {
                let blocks = row.as_chunks::<BLOCK>().0.iter().zip(b.as_chunks::<BLOCK>().0);
                for (a, b) in blocks {
                    add_products(sums, a, b);
                }
            }
            store_sums(cx, i, lists.d, &sums);
        }
        Flow::Next
    }
}

/// # Safety
/// The accumulator's registers must be listed at `list`.
#[inline(always)]
unsafe fn load_sums(cx: &Cx, i: &Instr, list: u32) -> [[f32; COLUMNS]; ROWS] {
    let mut sums = [[0f32; COLUMNS]; ROWS];
    // SAFETY: by contract.
    unsafe {
        for half in 0..2u32 {
            let rows = &mut sums[8 * half as usize..8 * half as usize + 8];
            if i.n & HALF_SUMS != 0 {
                let words = cx.lanes::<u32>(cx.extra(list + half));
                for l in 0..LANES {
                    rows[l / 4][2 * (l % 4)] = f16_to_f32(words[l] & 0xffff);
                    rows[l / 4][2 * (l % 4) + 1] = f16_to_f32(words[l] >> 16);
                }
            } else {
                let even = cx.lanes::<f32>(cx.extra(list + 2 * half));
                let odd = cx.lanes::<f32>(cx.extra(list + 2 * half + 1));
                for l in 0..LANES {
                    rows[l / 4][2 * (l % 4)] = even[l];
                    rows[l / 4][2 * (l % 4) + 1] = odd[l];
                }
            }
        }
    }
    sums
}

/// # Safety
/// As for `load_sums`.
#[inline(always)]
unsafe fn store_sums(cx: &mut Cx, i: &Instr, list: u32, sums: &[[f32; COLUMNS]; ROWS]) {
    // SAFETY: by contract.
    unsafe {
        for half in 0..2u32 {
            let rows = &sums[8 * half as usize..8 * half as usize + 8];
            let (mut even, mut odd) = ([0f32; LANES], [0f32; LANES]);
            for l in 0..LANES {
                even[l] = rows[l / 4][2 * (l % 4)];
                odd[l] = rows[l / 4][2 * (l % 4) + 1];
            }
            if i.n & HALF_SUMS != 0 {
                let mut words = [0u32; LANES];
                for l in 0..LANES {
                    words[l] = f32_to_f16(even[l]) | f32_to_f16(odd[l]) << 16;
                }
                cx.set_lanes(cx.extra(list + half), !0, &words);
            } else {
                cx.set_lanes(cx.extra(list + 2 * half), !0, &even);
                cx.set_lanes(cx.extra(list + 2 * half + 1), !0, &odd);
            }
        }
    }
}

/// `mma` of 8-bit integers with `K` columns of A: exact sums, cut to 32 bits or saturated.
pub(crate) struct IntMma<const K: usize>;

impl<const K: usize> Handler for IntMma<K> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if let Err(flow) = whole_warp(cx, m) {
            return flow;
        }
        let byte = |word: u32, j: usize, signed: bool| {
            let x = (word >> (8 * j)) as u8;
            if signed { i32::from(x as i8) } else { i32::from(x) }
        };
        let lists = Lists::new(i, K as u32 / 16);
        let mut a = [[0i32; K]; ROWS];
        let mut b = [[0i32; COLUMNS]; K];
        // SAFETY: the decoder listed 32-bit registers, as many as the shape has.
        unsafe {
            for step in 0..K / 16 {
                for upper in 0..2 {
                    let words = cx.lanes::<u32>(cx.extra(lists.a + 2 * step as u32 + upper));
                    for l in 0..LANES {
                        for j in 0..4 {
                            a[l / 4 + 8 * upper as usize][4 * (4 * step + l % 4) + j] =
                                byte(words[l], j, i.n & A_OTHER != 0);
                        }
                    }
                }
                let words = cx.lanes::<u32>(cx.extra(lists.b + step as u32));
                for l in 0..LANES {
                    for j in 0..4 {
                        b[4 * (4 * step + l % 4) + j][l / 4] = byte(words[l], j, i.n & B_OTHER != 0);
                    }
                }
            }
            // The sums have the places of f32 sums.
            let mut sums = load_sums(cx, i, lists.c);
            for (row, sums) in a.iter().zip(&mut sums) {
                let mut products = [0i32; COLUMNS];
                for (&a, b) in row.iter().zip(&b) {
                    for n in 0..COLUMNS {
                        products[n] += a * b[n];
                    }
                }
                for (sum, &product) in sums.iter_mut().zip(&products) {
                    let old = sum.to_bits() as i32;
                    let new = if i.n & SATURATE != 0 {
                        old.saturating_add(product)
                    } else {
                        old.wrapping_add(product)
                    };
                    *sum = f32::from_bits(new as u32);
                }
            }
            store_sums(cx, i, lists.d, &sums);
        }
        Flow::Next
    }
}
