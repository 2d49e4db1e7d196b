//! `mma`: the fragments of a warp's lanes to a tile, the product, and back.
//!
//! All shapes of m16n8 place their elements alike. A 32-bit register of all lanes holds 8 rows of 4 lanes each; a lane's elements
//! lie next to each other in the row, low bits first. Registers of A hold the rows 0 to 7, then 8 to 15 of the first columns,
//! then the same of the next columns. Registers of B hold B's columns as such rows. The accumulator's lane `l` has columns
//! `2 (l % 4)` and the next of row `l / 4`, then of row `l / 4 + 8`.

#[cfg(target_arch = "x86_64")]
use super::has_avx2;
use super::packed::element;
use super::{Cx, Flow, Handler, Instr, LANES, Run, pick};
use crate::numeric::eight::{e4m3_to_f32, e5m2_to_f32};
use crate::numeric::half::{bf16_to_f32, f16_to_f32, f32_to_f16};
use crate::numeric::tensor::{COLUMNS, Factors, LEAST_HALF, ORDER, ZERO, add_products, exponent};
#[cfg(target_arch = "x86_64")]
use crate::numeric::tensor_avx2 as avx2;
use std::marker::PhantomData;

/// Rows of a tile of A and of the accumulator.
pub(crate) const ROWS: usize = 16;

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
    /// The least exponent of a value that is not zero.
    fn least(other: bool) -> i32;
    /// Element `j` of a register; `other` tells apart the two types that share a format.
    fn element(word: u32, j: usize, other: bool) -> f32;
    /// All elements of all lanes' registers in order, of which there are `32 · PER_WORD`.
    #[inline(always)]
    fn widen(words: &[u32; LANES], other: bool, to: &mut [f32]) {
        for (&word, to) in words.iter().zip(to.chunks_exact_mut(Self::PER_WORD)) {
            for (j, to) in to.iter_mut().enumerate() {
                *to = Self::element(word, j, other);
            }
        }
    }
    /// The same for CPUs with AVX2.
    ///
    /// # Safety
    /// The CPU must have AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn widen_avx2(words: &[u32; LANES], other: bool, to: &mut [f32]) {
        Self::widen(words, other, to);
    }
}

/// f16.
pub(crate) struct Half;
/// bf16.
pub(crate) struct Brain;
/// tf32: the low 13 bits do not count.
pub(crate) struct Tensor32;
/// e4m3, or e5m2.
pub(crate) struct Eight;

/// `Format::widen_avx2` of a 16-bit type.
#[cfg(target_arch = "x86_64")]
macro_rules! widen_pairs {
    ($widen:path) => {
        #[cfg(target_arch = "x86_64")]
        #[inline(always)]
        unsafe fn widen_avx2(words: &[u32; LANES], _: bool, to: &mut [f32]) {
            for (words, to) in words.as_chunks::<4>().0.iter().zip(to.as_chunks_mut::<8>().0) {
                // SAFETY: 16 bytes; the CPU has the features by contract.
                unsafe { $widen(words.as_ptr().cast(), to) };
            }
        }
    };
}

impl Format for Half {
    const PER_WORD: usize = 2;
    #[inline(always)]
    fn least(_: bool) -> i32 {
        LEAST_HALF
    }
    #[inline(always)]
    fn element(word: u32, j: usize, _: bool) -> f32 {
        f16_to_f32(word >> (16 * j) & 0xffff)
    }
    #[cfg(target_arch = "x86_64")]
    widen_pairs!(avx2::widen_half);
}

impl Format for Brain {
    const PER_WORD: usize = 2;
    #[inline(always)]
    fn least(_: bool) -> i32 {
        ZERO
    }
    #[inline(always)]
    fn element(word: u32, j: usize, _: bool) -> f32 {
        bf16_to_f32(word >> (16 * j) & 0xffff)
    }
    #[cfg(target_arch = "x86_64")]
    widen_pairs!(avx2::widen_brain);
}

impl Format for Tensor32 {
    const PER_WORD: usize = 1;
    #[inline(always)]
    fn least(_: bool) -> i32 {
        ZERO
    }
    #[inline(always)]
    fn element(word: u32, _: usize, _: bool) -> f32 {
        f32::from_bits(word & !0x1fff)
    }
}

impl Format for Eight {
    const PER_WORD: usize = 4;
    #[inline(always)]
    fn least(other: bool) -> i32 {
        if other { LEAST_HALF } else { -6 }
    }
    #[inline(always)]
    fn element(word: u32, j: usize, other: bool) -> f32 {
        let x = word >> (8 * j) & 0xff;
        if other { e5m2_to_f32(x) } else { e4m3_to_f32(x) }
    }
}

/// How to work on a whole tile: with any CPU, or with AVX2.
pub(crate) trait Machine {
    /// The elements of a register of A or B, row after row.
    ///
    /// # Safety
    /// The CPU must be of this kind.
    unsafe fn widen<F: Format>(words: &[u32; LANES], other: bool, to: &mut [f32]);
    /// Rows become columns: `to[k][n] = from[to.len() · ORDER[n] + k]`.
    ///
    /// # Safety
    /// As for `widen`.
    unsafe fn transpose(from: &[f32], to: &mut [[f32; COLUMNS]]);
    /// The exponents of factors, of a type whose values have none below `least`.
    ///
    /// # Safety
    /// As for `widen`.
    unsafe fn exponents(values: &[f32], least: i32, to: &mut [i32]);
    /// `sums += a · b`, as `numeric::tensor::add_products`.
    ///
    /// # Safety
    /// As for `widen`.
    unsafe fn multiply<const K: usize, const BLOCK: usize, const PLACES: i32>(
        sums: &mut [[f32; COLUMNS]; ROWS],
        a: &Factors<K, ROWS>,
        b: &Factors<COLUMNS, K>,
        halves: bool,
    );
}

/// Any CPU.
pub(crate) struct Portable;
/// A CPU with AVX2 and F16C.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx2;

impl Machine for Portable {
    #[inline(always)]
    unsafe fn widen<F: Format>(words: &[u32; LANES], other: bool, to: &mut [f32]) {
        F::widen(words, other, to);
    }

    #[inline(always)]
    unsafe fn transpose(from: &[f32], to: &mut [[f32; COLUMNS]]) {
        let width = to.len();
        for (k, row) in to.iter_mut().enumerate() {
            for (n, x) in row.iter_mut().enumerate() {
                *x = from[width * ORDER[n] + k];
            }
        }
    }

    #[inline(always)]
    unsafe fn exponents(values: &[f32], least: i32, to: &mut [i32]) {
        for (x, to) in values.iter().zip(to) {
            *to = exponent(*x, least);
        }
    }

    #[inline(always)]
    unsafe fn multiply<const K: usize, const BLOCK: usize, const PLACES: i32>(
        sums: &mut [[f32; COLUMNS]; ROWS],
        a: &Factors<K, ROWS>,
        b: &Factors<COLUMNS, K>,
        halves: bool,
    ) {
        for block in 0..K / BLOCK {
            let b = b.rows::<BLOCK>(block);
            for (row, sums) in sums.iter_mut().enumerate() {
                add_products::<BLOCK, PLACES>(sums, &a.in_row(row, block), &b, halves);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Machine for Avx2 {
    #[inline(always)]
    unsafe fn widen<F: Format>(words: &[u32; LANES], other: bool, to: &mut [f32]) {
        // SAFETY: by contract.
        unsafe { F::widen_avx2(words, other, to) }
    }

    #[inline(always)]
    unsafe fn transpose(from: &[f32], to: &mut [[f32; COLUMNS]]) {
        let width = to.len();
        // SAFETY: `from` has 8 rows of `width` where AVX2 is used; the CPU is right by contract.
        unsafe {
            if let (Ok(from), Ok(to)) = (from.try_into(), (&mut *to).try_into()) {
                avx2::transpose_narrow(from, to);
            } else if width.is_multiple_of(8) && from.len() == width * COLUMNS {
                for (step, to) in to.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                    avx2::transpose(from.as_ptr().add(8 * step), width, to);
                }
            } else {
                Portable::transpose(from, to);
            }
        }
    }

    #[inline(always)]
    unsafe fn exponents(values: &[f32], least: i32, to: &mut [i32]) {
        // SAFETY: by contract.
        unsafe { avx2::exponents(values, least, to) }
    }

    #[inline(always)]
    unsafe fn multiply<const K: usize, const BLOCK: usize, const PLACES: i32>(
        sums: &mut [[f32; COLUMNS]; ROWS],
        a: &Factors<K, ROWS>,
        b: &Factors<COLUMNS, K>,
        halves: bool,
    ) {
        // SAFETY: by contract.
        unsafe {
            if halves {
                avx2::multiply::<K, BLOCK, PLACES, true, ROWS>(sums, a, b)
            } else {
                avx2::multiply::<K, BLOCK, PLACES, false, ROWS>(sums, a, b)
            }
        }
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

/// `mma` of floating types with `K` columns of A, added in blocks of `BLOCK` with terms of `PLACES` places.
pub(crate) struct Mma<M, F, const K: usize, const BLOCK: usize, const PLACES: i32>(PhantomData<(M, F)>);

/// The handler for this CPU.
pub(crate) fn pick_mma<F: Format, const K: usize, const BLOCK: usize, const PLACES: i32>() -> Run {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        return pick::<Mma<Avx2, F, K, BLOCK, PLACES>>();
    }
    pick::<Mma<Portable, F, K, BLOCK, PLACES>>()
}

impl<M: Machine, F: Format, const K: usize, const BLOCK: usize, const PLACES: i32> Handler
    for Mma<M, F, K, BLOCK, PLACES>
{
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if let Err(flow) = whole_warp(cx, m) {
            return flow;
        }
        let lists = Lists::new(i, (K / (4 * F::PER_WORD)) as u32);
        // SAFETY: the decoder listed 32-bit registers, as many as the shape has, and picked the machine.
        unsafe {
            let register = |list: u32, k: usize| *cx.lanes::<u32>(cx.extra(list + k as u32));
            let (mut a, mut b) = (Factors::zero(), Factors::zero());
            rows_of_a::<M, F, K>(&mut a, |k| register(lists.a, k), i.n & A_OTHER != 0);
            columns_of_b::<M, F, K>(&mut b, |k| register(lists.b, k), i.n & B_OTHER != 0);
            let mut sums = load_sums(cx, i, lists.c);
            M::multiply::<K, BLOCK, PLACES>(&mut sums, &a, &b, i.n & HALF_SUMS != 0);
            store_sums(cx, i, lists.d, &sums);
        }
        Flow::Next
    }
}

/// Sets the rows of A, from its registers in order: `words(k)` are those of all lanes.
///
/// # Safety
/// The CPU must be of the kind `M`.
#[inline(always)]
pub(crate) unsafe fn rows_of_a<M: Machine, F: Format, const K: usize>(
    a: &mut Factors<K, ROWS>,
    words: impl Fn(usize) -> [u32; LANES],
    other: bool,
) {
    // Columns of A in one register of all lanes.
    let width = 4 * F::PER_WORD;
    let mut part = [0f32; 4 * LANES];
    let part = &mut part[..8 * width];
    for step in 0..K / width {
        for upper in 0..2 {
            // SAFETY: by contract.
            unsafe { M::widen::<F>(&words(2 * step + upper), other, part) };
            for (row, part) in a.values[8 * upper..].iter_mut().zip(part.chunks_exact(width)) {
                row[width * step..width * (step + 1)].copy_from_slice(part);
            }
        }
    }
    // SAFETY: by contract.
    unsafe { M::exponents(a.values.as_flattened(), F::least(other), a.exponents.as_flattened_mut()) };
}

/// Sets the columns of B, from its registers in order; of each 8 columns in `ORDER`.
///
/// # Safety
/// As for `rows_of_a`.
#[inline(always)]
pub(crate) unsafe fn columns_of_b<M: Machine, F: Format, const K: usize>(
    b: &mut Factors<COLUMNS, K>,
    words: impl Fn(usize) -> [u32; LANES],
    other: bool,
) {
    let width = 4 * F::PER_WORD;
    let mut part = [0f32; 4 * LANES];
    let part = &mut part[..8 * width];
    for step in 0..K / width {
        // SAFETY: by contract.
        unsafe {
            M::widen::<F>(&words(step), other, part);
            M::transpose(part, &mut b.values[width * step..width * (step + 1)]);
        }
    }
    // SAFETY: by contract.
    unsafe { M::exponents(b.values.as_flattened(), F::least(other), b.exponents.as_flattened_mut()) };
}

/// The accumulator's rows, columns in `ORDER`.
///
/// # Safety
/// The accumulator's registers must be listed at `list`.
#[inline(always)]
pub(crate) unsafe fn load_sums(cx: &Cx, i: &Instr, list: u32) -> [[f32; COLUMNS]; ROWS] {
    let mut sums = [[0f32; COLUMNS]; ROWS];
    // SAFETY: by contract.
    unsafe {
        for half in 0..2u32 {
            let rows = &mut sums[8 * half as usize..8 * half as usize + 8];
            if i.n & HALF_SUMS != 0 {
                let words = cx.lanes::<u32>(cx.extra(list + half));
                for l in 0..LANES {
                    rows[l / 4][l % 4] = f16_to_f32(words[l] & 0xffff);
                    rows[l / 4][4 + l % 4] = f16_to_f32(words[l] >> 16);
                }
            } else {
                let even = cx.lanes::<f32>(cx.extra(list + 2 * half));
                let odd = cx.lanes::<f32>(cx.extra(list + 2 * half + 1));
                let pairs = even.as_chunks::<4>().0.iter().zip(odd.as_chunks::<4>().0);
                for (row, (even, odd)) in rows.iter_mut().zip(pairs) {
                    row[..4].copy_from_slice(even);
                    row[4..].copy_from_slice(odd);
                }
            }
        }
    }
    sums
}

/// # Safety
/// As for `load_sums`.
#[inline(always)]
pub(crate) unsafe fn store_sums(cx: &mut Cx, i: &Instr, list: u32, sums: &[[f32; COLUMNS]; ROWS]) {
    // SAFETY: by contract.
    unsafe {
        for half in 0..2u32 {
            let rows = &sums[8 * half as usize..8 * half as usize + 8];
            let (mut even, mut odd) = ([0f32; LANES], [0f32; LANES]);
            let pairs = even.as_chunks_mut::<4>().0.iter_mut().zip(odd.as_chunks_mut::<4>().0);
            for (row, (even, odd)) in rows.iter().zip(pairs) {
                even.copy_from_slice(&row[..4]);
                odd.copy_from_slice(&row[4..]);
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
        let lists = Lists::new(i, K as u32 / 16);
        // SAFETY: the decoder listed 32-bit registers, as many as the shape has.
        unsafe {
            let register = |list: u32, k: usize| *cx.lanes::<u32>(cx.extra(list + k as u32));
            let a = integers_of_a::<K, 8>(|k| register(lists.a, k), i.n & A_OTHER != 0);
            let b = integers_of_b::<K, 8>(|k| register(lists.b, k), i.n & B_OTHER != 0);
            let mut sums = load_sums(cx, i, lists.c);
            add_integers(&mut sums, &a, &b, i.n & SATURATE != 0);
            store_sums(cx, i, lists.d, &sums);
        }
        Flow::Next
    }
}

/// As `rows_of_a`, of integers of 8 or 4 bits.
#[inline(always)]
pub(crate) fn integers_of_a<const K: usize, const BITS: usize>(
    words: impl Fn(usize) -> [u32; LANES],
    signed: bool,
) -> [[i32; K]; ROWS] {
    let each = 32 / BITS;
    let mut a = [[0i32; K]; ROWS];
    for step in 0..K / (4 * each) {
        for upper in 0..2 {
            let words = words(2 * step + upper);
            for (l, &word) in words.iter().enumerate() {
                for j in 0..each {
                    a[l / 4 + 8 * upper][each * (4 * step + l % 4) + j] =
                        element(word, j, BITS as u32, signed);
                }
            }
        }
    }
    a
}

/// As `columns_of_b`, of integers of 8 or 4 bits.
#[inline(always)]
pub(crate) fn integers_of_b<const K: usize, const BITS: usize>(
    words: impl Fn(usize) -> [u32; LANES],
    signed: bool,
) -> [[i32; COLUMNS]; K] {
    let each = 32 / BITS;
    let mut b = [[0i32; COLUMNS]; K];
    for step in 0..K / (4 * each) {
        let words = words(step);
        for (place, column) in ORDER.into_iter().enumerate() {
            for (part, &word) in words[4 * column..4 * column + 4].iter().enumerate() {
                for j in 0..each {
                    b[each * (4 * step + part) + j][place] = element(word, j, BITS as u32, signed);
                }
            }
        }
    }
    b
}

/// `sums += a · b` of integers, which have the bits of the sums; cut to 32 bits, or saturated.
#[inline(always)]
pub(crate) fn add_integers<const K: usize>(
    sums: &mut [[f32; COLUMNS]; ROWS],
    a: &[[i32; K]; ROWS],
    b: &[[i32; COLUMNS]; K],
    saturate: bool,
) {
    for (row, sums) in a.iter().zip(sums) {
        let mut products = [0i32; COLUMNS];
        for (&a, b) in row.iter().zip(b) {
            for n in 0..COLUMNS {
                products[n] += a * b[n];
            }
        }
        for (sum, &product) in sums.iter_mut().zip(&products) {
            let old = sum.to_bits() as i32;
            let new = if saturate { old.saturating_add(product) } else { old.wrapping_add(product) };
            *sum = f32::from_bits(new as u32);
        }
    }
}
