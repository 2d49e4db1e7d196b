//! `mbarrier.*` and `cp.async.mbarrier.arrive`.
//!
//! A wait for a phase that is not over holds its lanes until it is: a thread may always run later than it could. Where nobody can
//! go on otherwise, waits end without success, as after their time limit, so that a thread that only looks in between gets on.

use super::cluster::in_window;
use super::mbarrier::{Deferred, MOST, Mbarrier, mark, pending_of};
use super::memory::{WRITES, addresses};
use super::observe::check_shared;
use super::{Cx, Flow, Handler, Instr, LANES, lanes_of};
use crate::checks::Kind;

/// Flag in `Instr::c`: the barrier may be another block's (`.shared::cluster` or a generic address).
pub(crate) const REMOTE: u32 = 1;
/// Flag in `Instr::c`: the operand `b` is a parity, not a state.
pub(crate) const PARITY: u32 = 2;
/// Flag in `Instr::c`: `b` is a number of bytes that this arrival expects, not of arrivals.
pub(crate) const EXPECTS: u32 = 4;
/// Flag in `Instr::c`: the thread takes part in no later phase.
pub(crate) const DROPS: u32 = 8;
/// Flag in `Instr::c`: the arrival must not complete the phase.
pub(crate) const NO_COMPLETE: u32 = 16;
/// Flag in `Instr::c`: the phase does not yet count the arrival.
pub(crate) const INCREMENTS: u32 = 32;
/// Flag in `Instr::c`: orders no memory.
pub(crate) const RELAXED: u32 = 64;

/// The rank and the place of the barrier at an address, which must be aligned and in bounds.
pub(crate) fn locate(cx: &Cx, space: u8, address: u64, remote: bool) -> Result<(u32, u32), String> {
    let (rank, at) = cx.cluster.split(in_window(space, address)?)?;
    if rank != cx.cluster.rank && !remote {
        return Err(format!(
            "the mbarrier at shared address {at:#x} of block {rank} of the cluster, which only its own block may use so"
        ));
    }
    if at % 8 != 0 || at + 8 > cx.shared_len {
        return Err(format!(
            "an mbarrier at shared address {at:#x}: not a multiple of 8 below {}",
            cx.shared_len
        ));
    }
    Ok((rank, at as u32))
}

/// The barrier at a place, unless something else lies there.
pub(crate) fn barrier<'c>(cx: &'c mut Cx, rank: u32, at: u32) -> Result<&'c mut Mbarrier, String> {
    let peer = &mut cx.cluster.peers[rank as usize];
    // SAFETY: `locate` found 8 aligned bytes inside the block's shared memory, which this host thread owns.
    let word = unsafe { *(peer.shared.add(at as usize) as *const u64) };
    match peer.mbarriers.get(at) {
        Some(_) if word != mark(at) => Err(format!("the mbarrier at shared address {at:#x} was overwritten")),
        Some(barrier) => Ok(barrier),
        None => Err(format!("there is no mbarrier at shared address {at:#x}: `mbarrier.init` comes first")),
    }
}

/// Carries out what the current phase waits for, if that completes it.
pub(crate) fn advance(cx: &mut Cx, rank: u32, at: u32) -> Result<(), String> {
    let Some(count) = barrier(cx, rank, at)?.completing() else { return Ok(()) };
    for _ in 0..count {
        let Some(event) = barrier(cx, rank, at)?.deferred.pop_front() else { break };
        let (arrivals, bytes) = match event {
            Deferred::Copies { warp, mask, until } => {
                super::copy::finish(cx, warp, mask, until);
                if let Some(checks) = &mut cx.checks {
                    checks.release((rank, at), warp);
                }
                (mask.count_ones(), 0)
            }
            Deferred::Bulk(transfer) => {
                super::bulk::finish(cx, &transfer, (rank, at));
                (0, transfer.bytes)
            }
        };
        let barrier = barrier(cx, rank, at)?;
        barrier.expect(-i64::from(bytes))?;
        barrier.pending = barrier.pending.saturating_sub(arrivals);
    }
    barrier(cx, rank, at)?.settle();
    if let Some(checks) = &mut cx.checks {
        checks.settled((rank, at));
    }
    cx.cluster.events += 1;
    Ok(())
}

/// How the instructions use a barrier that is there, and how it comes to be.
const USES: Kind = Kind { reads: true, writes: false, strong: true, copy: false, bulk: false, barrier: true };
const INITIALISES: Kind = Kind { reads: false, writes: true, strong: false, barrier: false, ..USES };

/// For the checks: an access to the barrier's bytes.
fn touch(cx: &mut Cx, i: &Instr, lane: usize, place: (u32, u32), kind: Kind) -> Result<(), String> {
    let (rank, at) = (place.0, u64::from(place.1));
    check_shared(cx, i, lane, (rank, at), 8, kind).map_err(|(what, _)| what)
}

/// For the checks: arrivals of this warp, which may have ended a phase.
fn arrived(cx: &mut Cx, i: &Instr, place: (u32, u32), before: u32) {
    let phase = cx.cluster.peers[place.0 as usize].mbarriers.get(place.1).map_or(before, |b| b.phase);
    if let Some(checks) = &mut cx.checks {
        if i.c & RELAXED != 0 {
            checks.arrive_relaxed(place, cx.warp_in_cluster);
        } else {
            checks.release(place, cx.warp_in_cluster);
        }
        if phase != before {
            checks.settled(place);
        }
    }
}

/// `f` for each lane, with the place of its barrier.
///
/// # Safety
/// As for `addresses`.
#[inline(always)]
unsafe fn each(
    cx: &mut Cx,
    i: &Instr,
    m: u32,
    mut f: impl FnMut(&mut Cx, usize, u32, u32) -> Result<(), String>,
) -> Flow {
    // SAFETY: by contract.
    let addresses = unsafe { addresses(cx, i) };
    for l in lanes_of(m) {
        let done =
            locate(cx, i.e as u8, addresses[l], i.c & REMOTE != 0).and_then(|(rank, at)| f(cx, l, rank, at));
        if let Err(what) = done {
            return cx.fail(l as u32, what);
        }
    }
    cx.cluster.events += 1;
    Flow::Next
}

/// `mbarrier.init [a], b`.
pub(crate) struct Init;
/// `mbarrier.inval [a]`.
pub(crate) struct Invalidate;
/// `mbarrier.expect_tx [a], b`; with bit 0 of `d` `complete_tx`.
pub(crate) struct ExpectBytes;
/// `mbarrier.arrive` and `arrive_drop`: state `d` (0 for none), `[a]`, count or bytes `b`.
pub(crate) struct Arrive;
/// `mbarrier.test_wait` and `try_wait`: predicate `d`, `[a]`, state or parity `b`.
pub(crate) struct Wait;
/// `mbarrier.pending_count d, a`.
pub(crate) struct PendingCount;
/// `cp.async.mbarrier.arrive [a]`.
pub(crate) struct CopiesArrive;

impl Handler for Init {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: the decoder gave an address and a 32-bit register; `locate` checked the place.
        unsafe {
            let counts = *cx.lanes::<u32>(i.b);
            each(cx, i, m, |cx, l, rank, at| {
                let count = counts[l];
                if count == 0 || i64::from(count) > MOST {
                    return Err(format!("an mbarrier of {count} arrivals; 1 to {MOST} are possible"));
                }
                touch(cx, i, l, (rank, at), INITIALISES)?;
                let peer = &mut cx.cluster.peers[rank as usize];
                let word = peer.shared.add(at as usize) as *mut u64;
                if peer.mbarriers.get(at).is_some() && *word == mark(at) {
                    return Err(format!(
                        "shared address {at:#x} holds an mbarrier already: `mbarrier.inval` comes first"
                    ));
                }
                peer.mbarriers.remove(at);
                *word = mark(at);
                peer.mbarriers.put(at, Mbarrier::new(count));
                Ok(())
            })
        }
    }
}

impl Handler for Invalidate {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: the decoder gave an address; `locate` checked the place.
        unsafe {
            each(cx, i, m, |cx, _, rank, at| {
                let barrier = barrier(cx, rank, at)?;
                if !barrier.deferred.is_empty() {
                    return Err(format!(
                        "the mbarrier at shared address {at:#x} ends while {} copies still report to it",
                        barrier.deferred.len()
                    ));
                }
                let peer = &mut cx.cluster.peers[rank as usize];
                peer.mbarriers.remove(at);
                *(peer.shared.add(at as usize) as *mut u64) = 0;
                Ok(())
            })
        }
    }
}

impl Handler for ExpectBytes {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: the decoder gave an address and a 32-bit register.
        unsafe {
            let bytes = cx.lanes::<u32>(i.b).map(i64::from);
            each(cx, i, m, |cx, l, rank, at| {
                touch(cx, i, l, (rank, at), USES)?;
                let barrier = barrier(cx, rank, at)?;
                let (before, completes) = (barrier.phase, i.d & 1 != 0);
                in_place(at, barrier.expect(if completes { -bytes[l] } else { bytes[l] }))?;
                if completes {
                    barrier.settle();
                    arrived(cx, i, (rank, at), before);
                }
                Ok(())
            })
        }
    }
}

/// The barrier that an error is about.
fn in_place<T>(at: u32, result: Result<T, String>) -> Result<T, String> {
    result.map_err(|what| format!("mbarrier at shared address {at:#x}: {what}"))
}

impl Handler for Arrive {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: the decoder gave an address, a 32-bit source and a 64-bit target.
        unsafe {
            let operand = *cx.lanes::<u32>(i.b);
            let mut states = [0u64; LANES];
            let flow = each(cx, i, m, |cx, l, rank, at| {
                touch(cx, i, l, (rank, at), USES)?;
                if barrier(cx, rank, at)?.pending == 0 {
                    // The phase lacks only bytes that are under way: the arrival may be one of the next.
                    advance(cx, rank, at)?;
                }
                let barrier = barrier(cx, rank, at)?;
                let count = if i.c & EXPECTS != 0 {
                    in_place(at, barrier.expect(operand[l].into()))?;
                    1
                } else {
                    operand[l]
                };
                if count == 0 || i64::from(count) > MOST {
                    return Err(format!("{count} arrivals at an mbarrier; 1 to {MOST} are possible"));
                }
                states[l] = barrier.state();
                let before = barrier.phase;
                in_place(at, barrier.arrive(count, i.c & DROPS != 0))?;
                let completed = barrier.phase != before;
                arrived(cx, i, (rank, at), before);
                if i.c & NO_COMPLETE != 0 && completed {
                    return Err(format!(
                        "a `.noComplete` arrival completes phase {before} of the mbarrier at shared address {at:#x}"
                    ));
                }
                Ok(())
            });
            if flow == Flow::Next && i.d != 0 {
                cx.set_lanes(i.d, m, &states);
            }
            flow
        }
    }
}

impl Handler for Wait {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let mut done = 0;
        let (mut last, mut over) = (None, false);
        // SAFETY: the decoder gave an address.
        let addresses = unsafe { addresses(cx, i) };
        for l in lanes_of(m) {
            // SAFETY: the decoder gave a source of the width that the mode has.
            let wanted = unsafe {
                let parity = i.c & PARITY != 0;
                if parity { u64::from(cx.lanes::<u32>(i.b)[l]) } else { cx.lanes::<u64>(i.b)[l] }
            };
            let address = addresses[l];
            // Lanes mostly wait for the same.
            if last != Some((address, wanted)) {
                match look(cx, i, l, address, wanted) {
                    Ok(ended) => over = ended,
                    Err(what) => return cx.fail(l as u32, what),
                }
                last = Some((address, wanted));
            }
            done |= u32::from(over) << l;
        }
        if done != m && !cx.cluster.expired {
            return Flow::Wait;
        }
        cx.cluster.events += u64::from(done == m);
        // SAFETY: the decoder gave a predicate.
        unsafe { cx.set_pred(i.d, m, done) };
        Flow::Next
    }
}

/// Whether a phase is over.
fn look(cx: &mut Cx, i: &Instr, lane: usize, address: u64, wanted: u64) -> Result<bool, String> {
    let (rank, at) = locate(cx, i.e as u8, address, false)?;
    touch(cx, i, lane, (rank, at), USES)?;
    let ended = ended(cx, i, (rank, at), wanted)?;
    if let (true, Some(checks)) = (ended, &mut cx.checks) {
        if i.c & RELAXED != 0 {
            checks.wait_relaxed((rank, at), cx.warp_in_cluster);
        } else {
            checks.acquire((rank, at), cx.warp_in_cluster);
        }
    }
    Ok(ended)
}

fn ended(cx: &mut Cx, i: &Instr, (rank, at): (u32, u32), wanted: u64) -> Result<bool, String> {
    let parity = i.c & PARITY != 0;
    if parity && wanted > 1 {
        return Err(format!("a wait for phase parity {wanted}; it is 0 or 1"));
    }
    let over = |b: &Mbarrier| {
        if parity { u64::from(b.phase & 1) != wanted } else { b.phase != wanted as u32 }
    };
    if over(barrier(cx, rank, at)?) {
        let phase = barrier(cx, rank, at)?.phase;
        if !parity && phase.wrapping_sub(wanted as u32) != 1 {
            return Err(format!(
                "a wait for phase {} of the mbarrier at shared address {at:#x}, which is in phase {phase}: only the current and the one before can be waited for",
                wanted as u32
            ));
        }
        return Ok(true);
    }
    advance(cx, rank, at)?;
    let barrier = barrier(cx, rank, at)?;
    let ended = over(barrier);
    if !ended && cx.cluster.explanation.is_some() {
        let lacks = cx.cluster.peers[rank as usize].mbarriers.get(at).map(|b| b.lacks()).unwrap_or_default();
        cx.cluster.explanation = Some(format!("the mbarrier at shared address {at:#x}: {lacks}"));
    }
    Ok(ended)
}

impl Handler for PendingCount {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: the decoder gave a 64-bit source and a 32-bit target.
        unsafe {
            let counts = cx.lanes::<u64>(i.a).map(pending_of);
            cx.set_lanes(i.d, m, &counts);
        }
        Flow::Next
    }
}

impl Handler for CopiesArrive {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let warp = cx.warp_in_cluster;
        let until = cx.copies[warp as usize].issued();
        let mut write = *i;
        write.n |= WRITES;
        // SAFETY: the decoder gave an address.
        unsafe {
            each(cx, &write, m, |cx, l, rank, at| {
                touch(cx, i, l, (rank, at), USES)?;
                if barrier(cx, rank, at)?.pending == 0 {
                    advance(cx, rank, at)?;
                }
                let barrier = barrier(cx, rank, at)?;
                if i.c & INCREMENTS != 0 {
                    barrier.pending += 1;
                    if i64::from(barrier.pending) > MOST {
                        return Err(format!("more than {MOST} arrivals are pending at an mbarrier"));
                    }
                }
                match barrier.deferred.back_mut() {
                    Some(Deferred::Copies { warp: w, mask, until: u })
                        if (*w, *u) == (warp, until) && *mask >> l & 1 == 0 =>
                    {
                        *mask |= 1 << l;
                    }
                    _ => barrier.deferred.push_back(Deferred::Copies { warp, mask: 1 << l, until }),
                }
                Ok(())
            })
        }
    }
}
