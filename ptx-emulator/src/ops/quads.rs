//! `mma` m8n8k4 of f16: four products of 8 by 8, each of the lanes `4 q` to `4 q + 3` and of those 16 further on.
//!
//! PTX manual, "Matrix Fragments for mma.m8n8k4 with .f16 floating point type". The lower four lanes have the first four rows of A, or
//! columns of B, the upper four the others.

use super::mma::whole_warp;
use super::tiles::{HALF_C, HALF_D};
use super::{Cx, Flow, Handler, Instr, LANES};
use crate::numeric::half::{f16_to_f32, f32_to_f16};
use crate::numeric::tensor::{COLUMNS, Factors, LEAST_HALF, add_products};

/// Flag in `Instr::n`, beside those of `tiles`: a lane has a column of A, not a row.
pub(crate) const A_COLUMNS: u32 = 1;
/// Flag in `Instr::n`: a lane has a row of B, not a column.
pub(crate) const B_ROWS: u32 = 2;

/// The registers are listed at `b`: d, a, b, c.
pub(crate) struct QuadMma;

/// The lane of product `q` that has the line `line % 4` of the upper or lower half.
fn lane(q: usize, line: usize, upper: usize) -> usize {
    4 * q + line % 4 + 16 * upper
}

/// Lane and element of row `row` and column `column` of an accumulator of f32.
fn place(q: usize, row: usize, column: usize) -> (usize, usize) {
    (lane(q, row & 1 | column & 2, row / 4), row & 2 | column & 4 | column & 1)
}

impl Handler for QuadMma {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if let Err(flow) = whole_warp(cx, m) {
            return flow;
        }
        let registers = |half: u32| if i.n & half != 0 { 4 } else { 8 };
        let (a, c) = (i.b + registers(HALF_D), i.b + registers(HALF_D) + 4);
        // SAFETY: the decoder listed as many 32-bit registers.
        unsafe {
            let word = |list: u32, lane: usize| cx.lanes::<u32>(cx.extra(list))[lane];
            let half = |list: u32, lane: usize, element: usize| {
                f16_to_f32(word(list + element as u32 / 2, lane) >> (16 * (element % 2)) & 0xffff)
            };
            let mut results = [[0u32; LANES]; 8];
            for q in 0..4 {
                let b: [[f32; COLUMNS]; 4] = std::array::from_fn(|k| {
                    std::array::from_fn(|n| {
                        let by_rows = i.n & B_ROWS != 0;
                        let (line, element) = if by_rows { (k, n % 4) } else { (n, k) };
                        half(a + 2, lane(q, line, n / 4), element)
                    })
                });
                let b = Factors::new(b, LEAST_HALF);
                for row in 0..8 {
                    let terms: [f32; 4] = std::array::from_fn(|k| {
                        let by_columns = i.n & A_COLUMNS != 0;
                        let (line, element) = if by_columns { (k, row % 4) } else { (row, k) };
                        half(a, lane(q, line, row / 4), element)
                    });
                    let mut sums: [f32; COLUMNS] = std::array::from_fn(|n| {
                        if i.n & HALF_C != 0 {
                            return half(c, lane(q, row, row / 4), n);
                        }
                        let (lane, element) = place(q, row, n);
                        f32::from_bits(word(c + element as u32, lane))
                    });
                    let terms = Factors::new([terms], LEAST_HALF);
                    add_products::<4, 23>(&mut sums, &terms, &b, i.n & HALF_D != 0);
                    for (n, sum) in sums.into_iter().enumerate() {
                        if i.n & HALF_D != 0 {
                            results[n / 2][lane(q, row, row / 4)] |= f32_to_f16(sum) << (16 * (n % 2));
                        } else {
                            let (lane, element) = place(q, row, n);
                            results[element][lane] = sum.to_bits();
                        }
                    }
                }
            }
            for (k, result) in (0..registers(HALF_D)).zip(&results) {
                cx.set_lanes(cx.extra(i.b + k), !0, result);
            }
        }
        Flow::Next
    }
}
