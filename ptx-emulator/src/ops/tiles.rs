//! Products of tiles of any shape: `wmma.mma`, and the shapes of `mma` that are not worth a handler of their own.
//!
//! A register of all lanes is a piece of a matrix: 8 rows of A, or columns of B, with the elements of 4 lanes each in the direction
//! of k, low bits first. The pieces of A come row by row block, then on in the direction of k; those of B in the direction of k,
//! then by column block. A piece of the accumulator has 8 rows and 8 columns, of which a lane has two neighbours: two registers, or
//! one of two halves; pieces come by row block, then by column block. This is how the manual places the elements of `mma`; of
//! `wmma` it leaves that open.

use super::mma::{A_OTHER, B_OTHER, Format, SATURATE, whole_warp};
use super::packed::element;
use super::{Cx, Flow, Handler, Instr, LANES};
use crate::numeric::half::{f16_to_f32, f32_to_f16};
use crate::numeric::tensor::{COLUMNS, Factors, add_products};
use std::marker::PhantomData;

/// Flag in `Instr::n`: d is f16.
pub(crate) const HALF_D: u32 = 16;
/// Flag in `Instr::n`: c is f16.
pub(crate) const HALF_C: u32 = 32;
/// Flag in `Instr::n`: single bits that are set in both are counted, not those that differ.
pub(crate) const BOTH_SET: u32 = 64;

/// What the list at `Instr::b` begins with: blocks of 8 rows, of 8 columns, pieces in the direction of k; then the registers of d,
/// a, b, c.
pub(crate) const HEADER: usize = 3;
/// The most elements in the direction of k of floating types.
const DEEPEST: usize = 16;

/// The shape, and where the registers of each operand begin.
struct Lists {
    rows: usize,
    columns: usize,
    deep: usize,
    d: u32,
    a: u32,
    b: u32,
    c: u32,
}

impl Lists {
    /// With `d_piece` and `c_piece` registers for a piece of d and of c.
    ///
    /// # Safety
    /// `i.b` must be a list as `HEADER` says.
    unsafe fn new(cx: &Cx, i: &Instr, d_piece: usize) -> Lists {
        // SAFETY: by contract.
        let [rows, columns, deep] = [0, 1, 2].map(|k| unsafe { cx.extra(i.b + k) } as usize);
        let d = i.b + HEADER as u32;
        let a = d + (rows * columns * d_piece) as u32;
        let b = a + (rows * deep) as u32;
        Lists { rows, columns, deep, d, a, b, c: b + (columns * deep) as u32 }
    }

    /// The place of A's piece at a block of rows and one of k.
    fn a(&self, row: usize, k: usize) -> u32 {
        self.a + (k * self.rows + row) as u32
    }

    /// The place of B's piece at a block of columns and one of k.
    fn b(&self, column: usize, k: usize) -> u32 {
        self.b + (column * self.deep + k) as u32
    }

    /// The place of the accumulator's piece among others.
    fn piece(&self, row: usize, column: usize) -> u32 {
        (column * self.rows + row) as u32
    }

    /// Writes d, two registers a piece.
    ///
    /// # Safety
    /// They are listed, and as wide as `T`.
    unsafe fn store_pairs<T: Copy>(&self, cx: &mut Cx, registers: &[[T; LANES]]) {
        for (k, register) in registers.iter().enumerate().take(2 * self.rows * self.columns) {
            // SAFETY: by contract.
            unsafe { cx.set_lanes(cx.extra(self.d + k as u32), !0, register) };
        }
    }
}

/// Registers that a piece of the accumulator takes.
fn piece_registers(half: bool) -> usize {
    if half { 1 } else { 2 }
}

/// An accumulator's piece: 8 rows of 8.
type Piece<T> = [[T; COLUMNS]; 8];

/// # Safety
/// The registers of a piece must be listed at `list`.
unsafe fn load_piece(cx: &Cx, list: u32, half: bool) -> Piece<f32> {
    let mut sums = [[0.0; COLUMNS]; 8];
    for l in 0..LANES {
        // SAFETY: by contract.
        let pair = unsafe {
            if half {
                let word = cx.lanes::<u32>(cx.extra(list))[l];
                [f16_to_f32(word & 0xffff), f16_to_f32(word >> 16)]
            } else {
                [0, 1].map(|k| cx.lanes::<f32>(cx.extra(list + k))[l])
            }
        };
        sums[l / 4][2 * (l % 4)..2 * (l % 4) + 2].copy_from_slice(&pair);
    }
    sums
}

/// # Safety
/// As for `load_piece`.
unsafe fn store_piece(cx: &mut Cx, list: u32, half: bool, sums: &Piece<f32>) {
    let element = |l: usize, j: usize| sums[l / 4][2 * (l % 4) + j];
    // SAFETY: by contract.
    unsafe {
        if half {
            let words = std::array::from_fn(|l| f32_to_f16(element(l, 0)) | f32_to_f16(element(l, 1)) << 16);
            cx.set_lanes::<u32>(cx.extra(list), !0, &words);
        } else {
            for j in 0..2 {
                cx.set_lanes::<f32>(cx.extra(list + j as u32), !0, &std::array::from_fn(|l| element(l, j)));
            }
        }
    }
}

/// Products of floating types, added in blocks of `BLOCK` as `mma` does.
pub(crate) struct FloatTiles<F, const BLOCK: usize>(PhantomData<F>);

impl<F: Format, const BLOCK: usize> Handler for FloatTiles<F, BLOCK> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if let Err(flow) = whole_warp(cx, m) {
            return flow;
        }
        let (half_d, half_c) = (i.n & HALF_D != 0, i.n & HALF_C != 0);
        let width = 4 * F::PER_WORD;
        // SAFETY: the decoder made the list. Sources are read before a target is written: pieces of d are kept until then.
        unsafe {
            let lists = Lists::new(cx, i, piece_registers(half_d));
            let mut results = [[[0.0; COLUMNS]; 8]; 4];
            for row in 0..lists.rows {
                for column in 0..lists.columns {
                    let (mut a, mut b) = ([[0.0; DEEPEST]; 8], [[0.0; COLUMNS]; DEEPEST]);
                    for k in 0..lists.deep {
                        let left = cx.lanes::<u32>(cx.extra(lists.a(row, k)));
                        let right = cx.lanes::<u32>(cx.extra(lists.b(column, k)));
                        for l in 0..LANES {
                            for j in 0..F::PER_WORD {
                                let at = width * k + F::PER_WORD * (l % 4) + j;
                                a[l / 4][at] = F::element(left[l], j, i.n & A_OTHER != 0);
                                b[at][l / 4] = F::element(right[l], j, i.n & B_OTHER != 0);
                            }
                        }
                    }
                    let place = lists.piece(row, column);
                    let c = lists.c + place * piece_registers(half_c) as u32;
                    let mut sums = load_piece(cx, c, half_c);
                    let a = Factors::new(a, F::least(i.n & A_OTHER != 0));
                    let b = Factors::new(b, F::least(i.n & B_OTHER != 0));
                    for block in 0..(width * lists.deep).div_ceil(BLOCK) {
                        let b = b.rows::<BLOCK>(block);
                        for (row, sums) in sums.iter_mut().enumerate() {
                            add_products::<BLOCK, 24>(sums, &a.in_row(row, block), &b, half_d);
                        }
                    }
                    results[place as usize] = sums;
                }
            }
            for (place, sums) in results.iter().enumerate().take(lists.rows * lists.columns) {
                let d = lists.d + (place * piece_registers(half_d)) as u32;
                store_piece(cx, d, half_d, sums);
            }
        }
        Flow::Next
    }
}

/// Products of integers of `BITS` bits (8, 4, or 1): exact sums, cut to 32 bits or saturated.
pub(crate) struct IntTiles<const BITS: usize>;

/// The sum of the products of two registers' elements.
#[inline(always)]
fn dot<const BITS: usize>(a: u32, b: u32, flags: u32) -> i32 {
    if BITS == 1 {
        return (if flags & BOTH_SET != 0 { a & b } else { a ^ b }).count_ones() as i32;
    }
    let bits = BITS as u32;
    let product = |j| element(a, j, bits, flags & A_OTHER != 0) * element(b, j, bits, flags & B_OTHER != 0);
    (0..32 / BITS).map(product).sum()
}

impl<const BITS: usize> Handler for IntTiles<BITS> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if let Err(flow) = whole_warp(cx, m) {
            return flow;
        }
        // SAFETY: as for `FloatTiles`.
        unsafe {
            let lists = Lists::new(cx, i, 2);
            let mut results = [[[0u32; LANES]; 2]; 4];
            for row in 0..lists.rows {
                for column in 0..lists.columns {
                    let place = lists.piece(row, column);
                    for l in 0..LANES {
                        for j in 0..2 {
                            let mut sum = 0;
                            for k in 0..lists.deep {
                                let a = cx.lanes::<u32>(cx.extra(lists.a(row, k)));
                                let b = cx.lanes::<u32>(cx.extra(lists.b(column, k)));
                                for lane in 0..4 {
                                    let (a, b) = (a[l / 4 * 4 + lane], b[(2 * (l % 4) + j) * 4 + lane]);
                                    sum += dot::<BITS>(a, b, i.n);
                                }
                            }
                            let c = cx.lanes::<i32>(cx.extra(lists.c + 2 * place + j as u32))[l];
                            let sum =
                                if i.n & SATURATE != 0 { c.saturating_add(sum) } else { c.wrapping_add(sum) };
                            results[place as usize][j][l] = sum as u32;
                        }
                    }
                }
            }
            lists.store_pairs(cx, results.as_flattened());
        }
        Flow::Next
    }
}

/// Products of f64, each added with one rounding to nearest, in the order of k.
pub(crate) struct DoubleTiles;

impl Handler for DoubleTiles {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if let Err(flow) = whole_warp(cx, m) {
            return flow;
        }
        // SAFETY: as for `FloatTiles`, with 64-bit registers.
        unsafe {
            let lists = Lists::new(cx, i, 2);
            let mut results = [[[0f64; LANES]; 2]; 2];
            for row in 0..lists.rows {
                let place = lists.piece(row, 0);
                for (j, register) in results[place as usize].iter_mut().enumerate() {
                    for (l, result) in register.iter_mut().enumerate() {
                        let mut sum = cx.lanes::<f64>(cx.extra(lists.c + 2 * place + j as u32))[l];
                        for k in 0..4 * lists.deep {
                            let a = cx.lanes::<f64>(cx.extra(lists.a(row, k / 4)))[l / 4 * 4 + k % 4];
                            let b =
                                cx.lanes::<f64>(cx.extra(lists.b(0, k / 4)))[(2 * (l % 4) + j) * 4 + k % 4];
                            sum = a.mul_add(b, sum);
                        }
                        let nan = f64::from_bits(0xfff8_0000_0000_0000);
                        *result = if sum.is_nan() { nan } else { sum };
                    }
                }
            }
            lists.store_pairs(cx, results.as_flattened());
        }
        Flow::Next
    }
}

/// Holds the lanes until the whole warp is there.
pub(crate) struct WholeWarp;

impl Handler for WholeWarp {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, _: &Instr, m: u32) -> Flow {
        whole_warp(cx, m).err().unwrap_or(Flow::Next)
    }
}

/// Where a lane's first element of a piece lies, into `d`: the address `a` plus those of its row and column. `b` is the stride in
/// elements, `c` the piece's first row and `e` its first column; `n` says how wide a row of lanes is.
pub(crate) struct PiecePlace;

/// The low byte of `PiecePlace`'s `n`: elements that a lane has in a row; the next: bits of an element; then this flag, of columns
/// that lie next to each other.
pub(crate) const COLUMNS_TOGETHER: u32 = 1 << 16;

impl Handler for PiecePlace {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let (each, bits) = (u64::from(i.n & 0xff), u64::from(i.n >> 8 & 0xff));
        let mut out = [0u64; LANES];
        // SAFETY: the decoder gave a 64-bit base and target and a 32-bit stride.
        unsafe {
            let (base, stride) = (cx.lanes::<u64>(i.a), cx.lanes::<u32>(i.b));
            for (l, out) in out.iter_mut().enumerate() {
                let row = u64::from(i.c) + l as u64 / 4;
                let column = u64::from(i.e) + l as u64 % 4 * each;
                let stride = u64::from(stride[l]);
                let (far, near) = if i.n & COLUMNS_TOGETHER != 0 { (row, column) } else { (column, row) };
                *out =
                    base[l].wrapping_add(far.wrapping_mul(stride).wrapping_add(near).wrapping_mul(bits) / 8);
            }
            cx.set_lanes(i.d, m, &out);
        }
        Flow::Next
    }
}
