//! Bit manipulation: fields, permutations, counts, dot products of bytes.

use super::lanes::ops;
use super::{Cx, Flow, Handler, Instr, LANES};

ops! {
    /// `popc.b32`.
    Popc32 = |a: u32| -> u32 { a.count_ones() }
    /// `popc.b64`.
    Popc64 = |a: u64| -> u32 { a.count_ones() }
    /// `clz.b32`.
    Clz32 = |a: u32| -> u32 { a.leading_zeros() }
    /// `clz.b64`.
    Clz64 = |a: u64| -> u32 { a.leading_zeros() }
    /// `brev.b32`.
    Brev32 = |a: u32| -> u32 { a.reverse_bits() }
    /// `brev.b64`.
    Brev64 = |a: u64| -> u64 { a.reverse_bits() }
    /// `bfind.u32`.
    BfindU32 = |a: u32| -> u32 { 31u32.wrapping_sub(a.leading_zeros()) }
    /// `bfind.s32`: the highest bit that differs from the sign.
    BfindS32 = |a: i32| -> u32 { 31u32.wrapping_sub((a ^ (a >> 31)).leading_zeros()) }
    /// `bfind.u64`.
    BfindU64 = |a: u64| -> u32 { 63u32.wrapping_sub(a.leading_zeros()) }
    /// `bfind.s64`.
    BfindS64 = |a: i64| -> u32 { 63u32.wrapping_sub((a ^ (a >> 63)).leading_zeros()) }
    /// `bfind.shiftamt.u32`.
    ShiftAmountU32 = |a: u32| -> u32 { if a == 0 { !0 } else { a.leading_zeros() } }
    /// `bfind.shiftamt.s32`.
    ShiftAmountS32 = |a: i32| -> u32 { let x = a ^ (a >> 31); if x == 0 { !0 } else { x.leading_zeros() } }
    /// `bfind.shiftamt.u64`.
    ShiftAmountU64 = |a: u64| -> u32 { if a == 0 { !0 } else { a.leading_zeros() } }
    /// `bfind.shiftamt.s64`.
    ShiftAmountS64 = |a: i64| -> u32 { let x = a ^ (a >> 63); if x == 0 { !0 } else { x.leading_zeros() } }
}
ops! {
    /// `bmsk.clamp`.
    BmskClamp = |a: u32, b: u32| -> u32 {
        if a >= 32 { 0 } else { (((1u64 << b.min(32)) - 1) << a) as u32 }
    }
    /// `bmsk.wrap`.
    BmskWrap = |a: u32, b: u32| -> u32 { (((1u64 << (b & 31)) - 1) << (a & 31)) as u32 }
    /// `szext.clamp.u32`.
    SzextClampU32 = |a: u32, b: u32| -> u32 { if b >= 32 { a } else { a & ((1 << b) - 1) } }
    /// `szext.clamp.s32`.
    SzextClampS32 = |a: i32, b: u32| -> i32 { if b >= 32 { a } else if b == 0 { 0 } else { a << (32 - b) >> (32 - b) } }
    /// `szext.wrap.u32`.
    SzextWrapU32 = |a: u32, b: u32| -> u32 { a & ((1 << (b & 31)) - 1) }
    /// `szext.wrap.s32`.
    SzextWrapS32 = |a: i32, b: u32| -> i32 { let b = b & 31; if b == 0 { 0 } else { a << (32 - b) >> (32 - b) } }
}
ops! {
    /// `bfe.u32`.
    BfeU32 = |a: u32, b: u32, c: u32| -> u32 { field(u64::from(a), b, c, 32) as u32 }
    /// `bfe.u64`.
    BfeU64 = |a: u64, b: u32, c: u32| -> u64 { field(a, b, c, 64) }
    /// `bfe.s32`.
    BfeS32 = |a: i32, b: u32, c: u32| -> i32 { signed_field(i64::from(a), b, c, 32) as i32 }
    /// `bfe.s64`.
    BfeS64 = |a: i64, b: u32, c: u32| -> i64 { signed_field(a, b, c, 64) }
    /// `shf.l.clamp`.
    ShfLeftClamp = |a: u32, b: u32, c: u32| -> u32 { (((pair(a, b)) << c.min(32)) >> 32) as u32 }
    /// `shf.l.wrap`.
    ShfLeftWrap = |a: u32, b: u32, c: u32| -> u32 { (((pair(a, b)) << (c & 31)) >> 32) as u32 }
    /// `shf.r.clamp`.
    ShfRightClamp = |a: u32, b: u32, c: u32| -> u32 { (pair(a, b) >> c.min(32)) as u32 }
    /// `shf.r.wrap`.
    ShfRightWrap = |a: u32, b: u32, c: u32| -> u32 { (pair(a, b) >> (c & 31)) as u32 }
    /// `fns`: the n-th set bit from a base.
    Fns slow true = |a: u32, b: u32, c: i32| -> u32 { nth_set(a, b, c) }
    /// `prmt`, default mode.
    Prmt = |a: u32, b: u32, c: u32| -> u32 { permute(a, b, c) }
    /// `prmt.f4e`.
    PrmtF4e = |a: u32, b: u32, c: u32| -> u32 { permute(a, b, [0x3210, 0x4321, 0x5432, 0x6543][c as usize & 3]) }
    /// `prmt.b4e`.
    PrmtB4e = |a: u32, b: u32, c: u32| -> u32 { permute(a, b, [0x5670, 0x6701, 0x7012, 0x0123][c as usize & 3]) }
    /// `prmt.rc8`.
    PrmtRc8 = |a: u32, b: u32, c: u32| -> u32 { permute(a, b, [0x0000, 0x1111, 0x2222, 0x3333][c as usize & 3]) }
    /// `prmt.ecl`.
    PrmtEcl = |a: u32, b: u32, c: u32| -> u32 { permute(a, b, [0x3210, 0x3211, 0x3222, 0x3333][c as usize & 3]) }
    /// `prmt.ecr`.
    PrmtEcr = |a: u32, b: u32, c: u32| -> u32 { permute(a, b, [0x0000, 0x1110, 0x2210, 0x3210][c as usize & 3]) }
    /// `prmt.rc16`.
    PrmtRc16 = |a: u32, b: u32, c: u32| -> u32 { permute(a, b, [0x1010, 0x3232, 0x1010, 0x3232][c as usize & 3]) }
    /// `dp4a.u32.u32`.
    Dp4aUU = |a: u32, b: u32, c: u32| -> u32 { dot4(a, b, c, false, false) }
    /// `dp4a.u32.s32`.
    Dp4aUS = |a: u32, b: u32, c: u32| -> u32 { dot4(a, b, c, false, true) }
    /// `dp4a.s32.u32`.
    Dp4aSU = |a: u32, b: u32, c: u32| -> u32 { dot4(a, b, c, true, false) }
    /// `dp4a.s32.s32`.
    Dp4aSS = |a: u32, b: u32, c: u32| -> u32 { dot4(a, b, c, true, true) }
}

#[inline(always)]
fn pair(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[inline(always)]
fn field(a: u64, position: u32, length: u32, width: u32) -> u64 {
    let (position, length) = (position & 0xff, length & 0xff);
    if position >= width || length == 0 {
        return 0;
    }
    let shifted = a >> position;
    if length >= 64 { shifted } else { shifted & ((1 << length) - 1) }
}

#[inline(always)]
fn signed_field(a: i64, position: u32, length: u32, width: u32) -> i64 {
    let (position, length) = (position & 0xff, length & 0xff);
    if length == 0 {
        return 0;
    }
    // The sign bit is that of the field, or of the whole where the field reaches beyond it.
    let top = (position + length - 1).min(width - 1);
    if position >= width {
        return a << (64 - width) >> 63;
    }
    a << (63 - top) >> (63 - top + position)
}

#[inline(always)]
fn permute(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = pair(a, b);
    let mut out = 0;
    for k in 0..4 {
        let s = selector >> (4 * k);
        let byte = (bytes >> (8 * (s & 7))) as u32 & 0xff;
        let sign = if byte & 0x80 != 0 { 0xff } else { 0 };
        out |= (if s & 8 != 0 { sign } else { byte }) << (8 * k);
    }
    out
}

fn nth_set(mask: u32, base: u32, offset: i32) -> u32 {
    let base = base & 31;
    let mut remaining = offset.unsigned_abs();
    if offset == 0 {
        return if mask >> base & 1 != 0 { base } else { !0 };
    }
    let mut at = base as i32;
    while (0..32).contains(&at) {
        if mask >> at & 1 != 0 {
            remaining -= 1;
            if remaining == 0 {
                return at as u32;
            }
        }
        at += offset.signum();
    }
    !0
}

#[inline(always)]
fn dot4(a: u32, b: u32, c: u32, a_signed: bool, b_signed: bool) -> u32 {
    let mut sum = c;
    for k in 0..4 {
        let (x, y) = ((a >> (8 * k)) as u8, (b >> (8 * k)) as u8);
        let x = if a_signed { i32::from(x as i8) } else { i32::from(x) };
        let y = if b_signed { i32::from(y as i8) } else { i32::from(y) };
        sum = sum.wrapping_add((x * y) as u32);
    }
    sum
}

/// `dp2a`: bits of `n`: 1 a signed, 2 b signed, 4 the high half of b.
pub(crate) struct Dp2a;

impl Handler for Dp2a {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let mut out = [0u32; LANES];
        // SAFETY: the decoder gave 32-bit registers.
        unsafe {
            let (a, b, c) = (cx.lanes::<u32>(i.a), cx.lanes::<u32>(i.b), cx.lanes::<u32>(i.c));
            for l in 0..LANES {
                let b = if i.n & 4 != 0 { b[l] >> 16 } else { b[l] };
                out[l] = c[l];
                for k in 0..2 {
                    let (x, y) = ((a[l] >> (16 * k)) as u16, (b >> (8 * k)) as u8);
                    let x = if i.n & 1 != 0 { i64::from(x as i16) } else { i64::from(x) };
                    let y = if i.n & 2 != 0 { i64::from(y as i8) } else { i64::from(y) };
                    out[l] = out[l].wrapping_add((x * y) as u32);
                }
            }
            cx.set_lanes(i.d, m, &out);
        }
        Flow::Next
    }
}

/// `bfi.b32` and `.b64` (as `n`): four operands, the length in `e`.
pub(crate) struct Bfi;

impl Handler for Bfi {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: the decoder gave registers of width `n` and two of 32 bits.
        unsafe {
            let (position, length) = (cx.lanes::<u32>(i.c), cx.lanes::<u32>(i.e));
            if i.n == 64 {
                let (a, b) = (cx.lanes::<u64>(i.a), cx.lanes::<u64>(i.b));
                let mut out = [0u64; LANES];
                for l in 0..LANES {
                    out[l] = insert(a[l], b[l], position[l], length[l], 64);
                }
                cx.set_lanes(i.d, m, &out);
            } else {
                let (a, b) = (cx.lanes::<u32>(i.a), cx.lanes::<u32>(i.b));
                let mut out = [0u32; LANES];
                for l in 0..LANES {
                    out[l] = insert(u64::from(a[l]), u64::from(b[l]), position[l], length[l], 32) as u32;
                }
                cx.set_lanes(i.d, m, &out);
            }
        }
        Flow::Next
    }
}

#[inline(always)]
fn insert(a: u64, b: u64, position: u32, length: u32, width: u32) -> u64 {
    let (position, length) = (position & 0xff, (length & 0xff).min(width));
    if position >= width || length == 0 {
        return b;
    }
    let ones = if length >= 64 { !0 } else { (1u64 << length) - 1 };
    b & !(ones << position) | (a & ones) << position
}

/// `lop3.b32`: the truth table is `n`; the table's eight minterms fold to what is needed.
pub(crate) struct Lop3;

impl Handler for Lop3 {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let mut out = [0u32; LANES];
        // SAFETY: the decoder gave 32-bit registers.
        unsafe {
            let (a, b, c) = (cx.lanes::<u32>(i.a), cx.lanes::<u32>(i.b), cx.lanes::<u32>(i.c));
            for term in 0..8 {
                if i.n >> term & 1 == 0 {
                    continue;
                }
                let (na, nb, nc) = (
                    if term & 4 == 0 { !0 } else { 0 },
                    if term & 2 == 0 { !0 } else { 0 },
                    if term & 1 == 0 { !0 } else { 0 },
                );
                for l in 0..LANES {
                    out[l] |= (a[l] ^ na) & (b[l] ^ nb) & (c[l] ^ nc);
                }
            }
            cx.set_lanes(i.d, m, &out);
        }
        Flow::Next
    }
}

/// `mov` that packs `n` parts of `imm` bits (offsets in the operand list at `a`) into one register; 64 bits wide if `e`.
pub(crate) struct Pack;
/// `mov` that splits a register `a` into `n` parts of `imm` bits (offsets in the operand list at `b`); `e` as above.
pub(crate) struct Unpack;

impl Handler for Pack {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: the decoder gave `n` listed 32-bit registers and a target of the stated width.
        unsafe {
            let mut out = [0u64; LANES];
            for part in 0..i.n {
                let source = cx.lanes::<u32>(cx.extra(i.a + part));
                let shift = part * i.imm as u32;
                for l in 0..LANES {
                    out[l] |= u64::from(source[l]) << shift;
                }
            }
            if i.e != 0 {
                cx.set_lanes(i.d, m, &out);
            } else {
                cx.set_lanes(i.d, m, &out.map(|x| x as u32));
            }
        }
        Flow::Next
    }
}

impl Handler for Unpack {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: the decoder gave `n` listed 32-bit registers and a source of the stated width.
        unsafe {
            let source = if i.e != 0 { *cx.lanes::<u64>(i.a) } else { cx.lanes::<u32>(i.a).map(u64::from) };
            let mask = if i.imm == 32 { !0u32 } else { (1 << i.imm) - 1 };
            for part in 0..i.n {
                let shift = part * i.imm as u32;
                let mut out = [0u32; LANES];
                for l in 0..LANES {
                    out[l] = (source[l] >> shift) as u32 & mask;
                }
                cx.set_lanes(cx.extra(i.b + part), m, &out);
            }
        }
        Flow::Next
    }
}

/// Predicate logic: `n` is and, or, xor, not, copy, constant-from-guard in this order.
pub(crate) struct PredLogic;

impl Handler for PredLogic {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: the decoder gave predicates.
        unsafe {
            let (a, b) = (cx.pred(i.a), cx.pred(i.b));
            let value = match i.n {
                0 => a & b,
                1 => a | b,
                2 => a ^ b,
                3 => !a,
                _ => a,
            };
            cx.set_pred(i.d, m, value);
        }
        Flow::Next
    }
}

/// Selects by predicate: `selp` of 32 bits.
pub(crate) struct Select32;
/// Selects by predicate: `selp` of 64 bits.
pub(crate) struct Select64;

macro_rules! select {
    ($name:ident, $t:ty) => {
        impl Handler for $name {
            #[inline(always)]
            unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
                let mut out = [0 as $t; LANES];
                // SAFETY: the decoder gave registers of this width and a predicate.
                unsafe {
                    let p = cx.pred(i.c);
                    let (a, b) = (cx.lanes::<$t>(i.a), cx.lanes::<$t>(i.b));
                    for l in 0..LANES {
                        out[l] = if p >> l & 1 != 0 { a[l] } else { b[l] };
                    }
                    cx.set_lanes(i.d, m, &out);
                }
                Flow::Next
            }
        }
    };
}
select!(Select32, u32);
select!(Select64, u64);

/// `clock`, `globaltimer` and what else changes while a thread runs: `n` chooses, 64 bits if `e`.
pub(crate) struct Dynamic;

impl Handler for Dynamic {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let value = match i.n {
            0 => cx.started.elapsed().as_nanos() as u64,
            1 => m.into(),
            _ => (cx.started.elapsed().as_nanos() >> 32) as u64,
        };
        // SAFETY: the decoder gave a register of the stated width.
        unsafe {
            if i.e != 0 {
                cx.set_lanes(i.d, m, &[value; LANES]);
            } else {
                cx.set_lanes(i.d, m, &[value as u32; LANES]);
            }
        }
        Flow::Next
    }
}
