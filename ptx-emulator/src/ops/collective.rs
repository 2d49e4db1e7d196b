//! Instructions by which the lanes of a warp exchange data: `shfl`, `vote`, `match`, `redux`, `elect`, `bar.warp.sync`.
//!
//! The `.sync` forms wait until every live lane of their member mask is there: where some are missing, the handler says
//! `Flow::Collective` and runs again with all of them.

use super::{Cx, Flow, Handler, Instr, LANES, lanes_of};

/// A collective for lanes that all take part in it.
trait Collective {
    /// # Safety
    /// As for `Handler::exec`; the lanes in `m` are those of one member mask that have not ended.
    unsafe fn together(cx: &mut Cx, i: &Instr, m: u32) -> Flow;
}

impl<C: Collective> Handler for C {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: the decoder gave a 32-bit register for the mask of those that have one.
        unsafe {
            if i.n & UNGATHERED != 0 {
                return C::together(cx, i, m);
            }
            let masks = *cx.lanes::<u32>(i.e);
            let members = masks[m.trailing_zeros() as usize];
            if m & !members == 0 && lanes_of(m).all(|l| masks[l] == members) {
                if members & cx.live & !m != 0 {
                    cx.members = members;
                    return Flow::Collective;
                }
                return C::together(cx, i, m);
            }
            by_mask::<C>(cx, i, m, &masks)
        }
    }
}

/// Groups of lanes with masks of their own, such as the tiles of a warp, come to one place together.
///
/// # Safety
/// As for `Handler::exec`.
unsafe fn by_mask<C: Collective>(cx: &mut Cx, i: &Instr, m: u32, masks: &[u32; LANES]) -> Flow {
    let mut groups = Vec::new();
    let mut rest = m;
    while rest != 0 {
        let members = masks[rest.trailing_zeros() as usize];
        let group: u32 = lanes_of(rest).filter(|&l| masks[l] == members).map(|l| 1 << l).sum();
        if group & !members != 0 {
            let lane = (group & !members).trailing_zeros();
            return cx.fail(
                lane,
                format!("lane {lane} takes part in a collective whose member mask {members:#010x} lacks it"),
            );
        }
        if members & m & !group != 0 {
            let lane = (members & m & !group).trailing_zeros();
            let own = masks[lane as usize];
            return cx.fail(
                lane,
                format!("lane {lane} names the members {own:#010x} of a collective whose other members name {members:#010x}"),
            );
        }
        groups.push((members, group));
        rest &= !group;
    }
    if let Some(&(members, group)) = groups.iter().find(|(members, group)| members & cx.live & !group != 0) {
        (cx.members, cx.gathering) = (members, group);
        return Flow::Collective;
    }
    for (_, group) in groups {
        // SAFETY: by contract.
        let flow = unsafe { C::together(cx, i, group) };
        if flow != Flow::Next {
            return flow;
        }
    }
    Flow::Next
}

/// Flag: the instruction has no member mask in `e` (the forms without `.sync`).
pub(crate) const UNGATHERED: u32 = 1 << 8;
/// Flag of `shfl`: a predicate target, in `slot`.
pub(crate) const PREDICATE: u32 = 1 << 9;

/// `shfl`: mode in the low bits of `n` (up, down, bfly, idx); value `a`, lane `b`, clamp `c`, mask `e`.
pub(crate) struct Shuffle;

impl Collective for Shuffle {
    #[inline(always)]
    unsafe fn together(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
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

impl Collective for Vote {
    #[inline(always)]
    unsafe fn together(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
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

impl Collective for Match {
    #[inline(always)]
    unsafe fn together(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
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

impl Collective for Redux {
    #[inline(always)]
    unsafe fn together(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
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

impl Collective for Elect {
    #[inline(always)]
    unsafe fn together(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
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

impl Collective for WarpBarrier {
    #[inline(always)]
    unsafe fn together(cx: &mut Cx, _: &Instr, _: u32) -> Flow {
        if let Some(checks) = &mut cx.checks {
            checks.sync_lanes(cx.warp_in_cluster);
        }
        Flow::Next
    }
}
