//! Instructions by which the lanes of a warp exchange data: `shfl`, `vote`, `match`, `redux`, `elect`, `bar.warp.sync`.
//!
//! The `.sync` forms wait until every live lane of their member mask is there: where some are missing, the handler says
//! `Flow::Collective` and runs again with all of them.

use super::{Cx, Flow, Handler, Instr, LANES, lanes_of};

/// Whether the members of the mask in register `offset` are all in `m`; if not, what to do.
///
/// # Safety
/// `offset` must be that of a 32-bit register.
#[inline(always)]
unsafe fn gathered(cx: &mut Cx, offset: u32, m: u32) -> Result<u32, Flow> {
    // SAFETY: by contract.
    let masks = unsafe { *cx.lanes::<u32>(offset) };
    let first = m.trailing_zeros();
    let members = masks[first as usize];
    let outside = m & !members;
    if outside != 0 {
        let lane = outside.trailing_zeros();
        return Err(cx.fail(
            lane,
            format!("lane {lane} takes part in a collective whose member mask {members:#010x} lacks it"),
        ));
    }
    if members & cx.live & !m != 0 {
        cx.members = members;
        return Err(Flow::Collective);
    }
    Ok(members)
}

macro_rules! gather {
    ($cx:expr, $i:expr, $m:expr, $offset:expr) => {
        // SAFETY: the decoder gave a 32-bit register for the mask.
        match unsafe { gathered($cx, $offset, $m) } {
            Ok(members) => members,
            Err(flow) => return flow,
        }
    };
}

/// Flag: the instruction has a member mask in `e` (the `.sync` forms).
pub(crate) const SYNC: u32 = 1 << 8;
/// Flag of `shfl`: a predicate target, in `slot`.
pub(crate) const PREDICATE: u32 = 1 << 9;

/// `shfl`: mode in the low bits of `n` (up, down, bfly, idx); value `a`, lane `b`, clamp `c`, mask `e`.
pub(crate) struct Shuffle;

impl Handler for Shuffle {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if i.n & SYNC != 0 {
            gather!(cx, i, m, i.e);
        }
        // SAFETY: the decoder gave 32-bit registers and, if flagged, a predicate.
        unsafe {
            let (a, b, c) = (*cx.lanes::<u32>(i.a), *cx.lanes::<u32>(i.b), *cx.lanes::<u32>(i.c));
            let mut out = [0u32; LANES];
            let mut valid = 0u32;
            for l in 0..LANES as u32 {
                let (delta, control) = (b[l as usize] & 31, c[l as usize]);
                let segment = control >> 8 & 31;
                let clamp = control & 31;
                let max = l & segment | clamp & !segment;
                let min = l & segment;
                let (source, inside) = match i.n & 3 {
                    0 => (l.wrapping_sub(delta), l as i32 - delta as i32 >= max as i32),
                    1 => (l + delta, l + delta <= max),
                    2 => (l ^ delta, (l ^ delta) <= max),
                    _ => (min | delta & !segment, (min | delta & !segment) <= max),
                };
                let source = if inside { source & 31 } else { l };
                if m >> l & 1 != 0 && m >> source & 1 == 0 && cx.checks.is_some() {
                    let what =
                        format!("the shuffle reads from lane {source}, which does not take part in it");
                    return cx.fail(l, what);
                }
                out[l as usize] = a[source as usize];
                valid |= u32::from(inside) << l;
            }
            cx.set_lanes(i.d, m, &out);
            if i.n & PREDICATE != 0 {
                cx.set_pred(i.slot, m, valid);
            }
        }
        Flow::Next
    }
}

/// `vote`: `n` is all, any, uni, ballot; predicate `a` (negated if `b`), mask `e`.
pub(crate) struct Vote;

impl Handler for Vote {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if i.n & SYNC != 0 {
            gather!(cx, i, m, i.e);
        }
        // SAFETY: the decoder gave predicates, or a 32-bit target for ballot.
        unsafe {
            let p = (cx.pred(i.a) ^ i.b) & m;
            let result = match i.n & 3 {
                0 => p == m,
                1 => p != 0,
                2 => p == m || p == 0,
                _ => {
                    cx.set_lanes(i.d, m, &[p; LANES]);
                    return Flow::Next;
                }
            };
            cx.set_pred(i.d, m, if result { !0 } else { 0 });
        }
        Flow::Next
    }
}

/// `match.any` and `match.all` (`n` bit 0), of 64 bits with bit 1; predicate target in `slot` if flagged.
pub(crate) struct Match;

impl Handler for Match {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        gather!(cx, i, m, i.e);
        // SAFETY: the decoder gave a source of the stated width, a 32-bit target and a predicate if flagged.
        unsafe {
            let a = if i.n & 2 != 0 { *cx.lanes::<u64>(i.a) } else { cx.lanes::<u32>(i.a).map(u64::from) };
            let mut out = [0u32; LANES];
            for l in lanes_of(m) {
                out[l] = lanes_of(m).filter(|&k| a[k] == a[l]).map(|k| 1 << k).sum();
            }
            if i.n & 1 != 0 {
                let all = lanes_of(m).all(|l| out[l] == m);
                out = [if all { m } else { 0 }; LANES];
                if i.n & PREDICATE != 0 {
                    cx.set_pred(i.slot, m, if all { !0 } else { 0 });
                }
            }
            cx.set_lanes(i.d, m, &out);
        }
        Flow::Next
    }
}

/// `redux`: `n` is add, min.u, max.u, min.s, max.s, and, or, xor, then for f32 min, max, each with abs and NaN flags in `c`.
pub(crate) struct Redux;

impl Handler for Redux {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        gather!(cx, i, m, i.e);
        // SAFETY: the decoder gave 32-bit registers.
        unsafe {
            let a = *cx.lanes::<u32>(i.a);
            let values = lanes_of(m).map(|l| a[l]);
            let result = match i.n {
                0 => values.fold(0, u32::wrapping_add),
                1 => values.fold(!0, u32::min),
                2 => values.fold(0, u32::max),
                3 => values.fold(i32::MAX as u32, |x, y| (x as i32).min(y as i32) as u32),
                4 => values.fold(i32::MIN as u32, |x, y| (x as i32).max(y as i32) as u32),
                5 => values.fold(!0, |x, y| x & y),
                6 => values.fold(0, |x, y| x | y),
                7 => values.fold(0, |x, y| x ^ y),
                n => float_redux(values, n == 8, i.c & 1 != 0, i.c & 2 != 0),
            };
            cx.set_lanes(i.d, m, &[result; LANES]);
        }
        Flow::Next
    }
}

fn float_redux(values: impl Iterator<Item = u32>, least: bool, abs: bool, nan: bool) -> u32 {
    let mut result = f32::NAN;
    let mut any_nan = false;
    for bits in values {
        let x = f32::from_bits(if abs { bits & 0x7fff_ffff } else { bits });
        any_nan |= x.is_nan();
        result = if least { result.min(x) } else { result.max(x) };
    }
    if result.is_nan() || nan && any_nan { 0x7fff_ffff } else { result.to_bits() }
}

/// `elect.sync d|p, mask`: the lowest member leads.
pub(crate) struct Elect;

impl Handler for Elect {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        gather!(cx, i, m, i.e);
        let leader = m.trailing_zeros();
        // SAFETY: the decoder gave a 32-bit register and a predicate.
        unsafe {
            cx.set_lanes(i.d, m, &[leader; LANES]);
            cx.set_pred(i.slot, m, 1 << leader);
        }
        Flow::Next
    }
}

/// `bar.warp.sync mask`.
pub(crate) struct WarpBarrier;

impl Handler for WarpBarrier {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        gather!(cx, i, m, i.e);
        Flow::Next
    }
}
