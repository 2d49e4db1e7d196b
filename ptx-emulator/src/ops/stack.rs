//! `alloca`, `stackrestore` and returns from functions that took from the stack: each thread moves its own top of the stack in its local memory.

use super::lanes::Value;
use super::{Cx, Flow, Handler, Instr, LANES, lanes_of};
use std::marker::PhantomData;

/// `alloca`: target `d`, size `a`, top `b`, alignment `n`; the stack ends at `imm`.
pub(crate) struct Alloca<T>(PhantomData<T>);

impl<T: Value<Reg = T> + Into<u64> + TryFrom<u64>> Handler for Alloca<T> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: the decoder gave registers of these widths.
        unsafe {
            let (sizes, mut tops, mut places) =
                (*cx.lanes::<T>(i.a), *cx.lanes::<u32>(i.b), *cx.lanes::<T>(i.d));
            for l in lanes_of(m) {
                let size: u64 = sizes[l].into();
                let start = u64::from(tops[l]).next_multiple_of(i.n.into());
                let end = start.checked_add(size).filter(|&end| end <= i.imm as u64);
                let (Some(end), Ok(place)) = (end, T::try_from(start)) else {
                    let left = i.imm as u64 - u64::from(tops[l]);
                    let what =
                        format!("`alloca` of {size} bytes aligned to {}: the thread has {left} left", i.n);
                    return cx.fail(l as u32, what);
                };
                (tops[l], places[l]) = (end as u32, place);
            }
            cx.set_lanes(i.b, m, &tops);
            cx.set_lanes(i.d, m, &places);
        }
        Flow::Next
    }
}

/// `stackrestore`: the top `b` becomes `a`, which is not below `n` nor above what it is.
pub(crate) struct Restore<T>(PhantomData<T>);

impl<T: Value<Reg = T> + Into<u64>> Handler for Restore<T> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: as for `Alloca`.
        unsafe {
            let (saved, mut tops) = (*cx.lanes::<T>(i.a), *cx.lanes::<u32>(i.b));
            for l in lanes_of(m) {
                let place: u64 = saved[l].into();
                if place < i.n.into() || place > tops[l].into() {
                    let what = format!(
                        "`stackrestore` of {place:#x}, which no `stacksave` gave: the stack is {:#x} to {:#x}",
                        i.n, tops[l]
                    );
                    return cx.fail(l as u32, what);
                }
                given_back(cx, l, (place, tops[l].into()));
                tops[l] = place as u32;
            }
            cx.set_lanes(i.b, m, &tops);
        }
        Flow::Next
    }
}

/// What a function that returns took: the top `b` becomes `a`.
pub(crate) struct GiveBack;

impl Handler for GiveBack {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: the decoder gave 32-bit registers.
        unsafe {
            let (kept, tops) = (*cx.lanes::<u32>(i.a), *cx.lanes::<u32>(i.b));
            for l in lanes_of(m) {
                given_back(cx, l, (kept[l].into(), tops[l].into()));
            }
            cx.set_lanes(i.b, m, &kept);
        }
        Flow::Next
    }
}

/// For the checks: who takes a thread's local bytes from `first` to `end` again finds them unwritten.
pub(super) fn given_back(cx: &mut Cx, lane: usize, (first, end): (u64, u64)) {
    let thread = u64::from(cx.warp_in_cluster) * LANES as u64 + lane as u64;
    if let Some(checks) = &mut cx.checks
        && first < end
    {
        checks.forget_local(thread * cx.local_len + first, end - first);
    }
}
