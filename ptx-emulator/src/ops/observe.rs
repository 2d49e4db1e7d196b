//! What counters and checks see of an access to memory.

use super::memory::{ATOMIC, COPY, GENERIC, LOCAL, PASSES, SHARED, WRITES};
use super::observe_global::{
    Found, check_lane, check_lanes, is_global, is_strong, next_run, offsets_within, strong_access,
};
use super::profile::record;
use super::{Cx, Instr, LANES, has_avx2, lanes_of};
use crate::checks::{Access, Kind, Party, Wrong};
use crate::error::Fault;
use crate::memory::{GLOBAL_BASE, LOCAL_WINDOW, SHARED_WINDOW, WINDOW};

/// `atom.exch` in `Instr::c`, which reads nothing that it needs.
const EXCHANGE: u32 = 8;

/// Counts and checks an access of `size` bytes by each lane in `m`, at the addresses `at` of the space that the instruction names.
/// All of them have been found to be in bounds and aligned. False if the fault is set.
#[inline(never)]
pub(crate) fn observe(cx: &mut Cx, i: &Instr, m: u32, at: &[u64; LANES], size: u64, space: u8) -> bool {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: the CPU has the features.
        return unsafe { observe_avx2(cx, i, m, at, size, space) };
    }
    observe_anywhere(cx, i, m, at, size, space)
}

/// As `observe`, for CPUs with AVX2.
///
/// # Safety
/// The CPU must have the features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn observe_avx2(cx: &mut Cx, i: &Instr, m: u32, at: &[u64; LANES], size: u64, space: u8) -> bool {
    observe_anywhere(cx, i, m, at, size, space)
}

#[inline(always)]
fn observe_anywhere(cx: &mut Cx, i: &Instr, m: u32, at: &[u64; LANES], size: u64, space: u8) -> bool {
    if !cx.profile.is_empty() {
        record(cx, i, m, at, size, space);
    }
    if cx.checks.is_none() {
        return true;
    }
    let writes = i.n & WRITES != 0;
    let kind = Kind {
        reads: !writes || is_atomic(i) && i.c >> 8 != EXCHANGE,
        writes,
        strong: is_strong(i),
        copy: i.n & COPY != 0,
        ..Kind::default()
    };
    let found = if is_global(m, at, space) {
        check_lanes(cx, i, m, at, size, kind)
    } else if space == SHARED {
        check_own(cx, i, m, at, size, kind)
    } else if space == GENERIC
        && let Some(offsets) = shared_offsets(cx, m, at)
    {
        check_own(cx, i, m, &offsets, size, kind)
    } else {
        check_others(cx, i, m, at, size, (space, kind))
    };
    if let Err((what, lane, other)) = found {
        cx.fault = Some(Fault { lane, what, other });
        return false;
    }
    if kind.strong {
        strong_access(cx, i, m, at, space, kind);
    }
    true
}

/// Whether an instruction is an atomic.
pub(super) fn is_atomic(i: &Instr) -> bool {
    i.n & ATOMIC != 0
}

/// Checks and notes accesses to shared memory, most of them to the own block's, at these offsets: lanes one after another that access
/// bytes one after another are one, all others are checked in one pass where nothing is wrong.
#[inline(always)]
fn check_own(cx: &mut Cx, i: &Instr, m: u32, at: &[u64; LANES], size: u64, kind: Kind) -> Result<(), Found> {
    let (rank, length) = (cx.cluster.rank, cx.shared_len);
    let Some(checks) = &mut cx.checks else { return Ok(()) };
    let mut rest = m;
    next_run(&mut rest, at, size, kind.writes);
    if (rest != 0 || !size.is_multiple_of(4))
        && let Some(offsets) = offsets_within(m, at, size, (0, length))
    {
        let who = Access { warp: cx.warp_in_cluster, lane: 0, pc: i.at, kind };
        match checks.access_scattered(rank, m, &offsets, size, who) {
            Ok(()) => return Ok(()),
            Err(Some(lane)) => check_others(cx, i, 1 << lane, at, size, (SHARED, kind))?,
            Err(None) => {}
        }
    }
    check_runs(cx, i, m, at, size, kind)
}

/// As `check_own`, run after run.
#[inline(always)]
fn check_runs(cx: &mut Cx, i: &Instr, m: u32, at: &[u64; LANES], size: u64, kind: Kind) -> Result<(), Found> {
    let (rank, length) = (cx.cluster.rank, cx.shared_len);
    let mut rest = m;
    while rest != 0 {
        let before = rest;
        let lanes = next_run(&mut rest, at, size, kind.writes);
        let (first, all) = (lanes.first as usize, lanes.pieces * size);
        if at[first] + all > length || !size.is_multiple_of(4) {
            check_others(cx, i, before & !rest, at, size, (SHARED, kind))?;
            continue;
        }
        let Some(checks) = &mut cx.checks else { return Ok(()) };
        let who = Access { warp: cx.warp_in_cluster, lane: lanes.first, pc: i.at, kind };
        if checks.is_noted(rank, at[first], (all, size), lanes.each, who) {
            continue;
        }
        if let Err((good, wrong)) = checks.access_lanes(rank, at[first], (all, size), lanes.each, who) {
            // Of lanes that read the same it is not the one that wrote.
            let wrote = matches!(wrong, Wrong::AfterWrite(Party { warp, lane, .. })
                if warp == who.warp && lane == Some(lanes.of(good / size)));
            let lane = lanes.of(good / size) + u32::from(wrote && lanes.each > 1);
            let offset = at[lane as usize];
            let (what, other) = in_words(cx, wrong, offset, size, Access { lane, ..who });
            return Err((what, lane, other));
        }
    }
    Ok(())
}

/// The offsets in the own block's shared memory of generic addresses, if all of them are there.
#[inline(always)]
fn shared_offsets(cx: &Cx, m: u32, at: &[u64; LANES]) -> Option<[u64; LANES]> {
    let offsets = at.map(|at| at.wrapping_sub(SHARED_WINDOW));
    let outside = |all: u32, l: usize| all | u32::from(offsets[l] >= cx.shared_len) << l;
    ((0..LANES).fold(0, outside) & m == 0).then_some(offsets)
}

/// Checks and notes accesses of which not all are of global memory.
fn check_others(
    cx: &mut Cx,
    i: &Instr,
    m: u32,
    at: &[u64; LANES],
    size: u64,
    (space, kind): (u8, Kind),
) -> Result<(), Found> {
    let mut last = u64::MAX;
    for l in lanes_of(m) {
        let address = at[l];
        let window = |base: u64| address.checked_sub(base).filter(|&o| o < WINDOW);
        let shared = match space {
            SHARED => Some(address),
            GENERIC => window(SHARED_WINDOW),
            _ => None,
        };
        // Lanes that read the same are one access, but for races between them.
        if address == last && !kind.writes && shared.is_none() {
            continue;
        }
        last = address;
        let local =
            if space == LOCAL { Some(address) } else { window(LOCAL_WINDOW).filter(|_| space == GENERIC) };
        let wrong = if let Some(offset) = shared {
            // The address has been found to be one of the cluster's.
            let (rank, offset) = cx.cluster.split(offset).unwrap_or((cx.cluster.rank, offset));
            check_shared(cx, i, l, (rank, offset), size, kind).err()
        } else if let Some(offset) = local {
            check_local(cx, i, l, offset, size)
        } else if space == GENERIC && address >= GLOBAL_BASE {
            check_lane(cx, i, l, address, size, kind)?;
            None
        } else {
            None
        };
        if let Some((what, other)) = wrong {
            return Err((what, l as u32, other));
        }
    }
    Ok(())
}

/// What is wrong with an access to a block's shared memory, and where the other party was.
#[inline]
pub(crate) fn check_shared(
    cx: &mut Cx,
    i: &Instr,
    lane: usize,
    (rank, offset): (u32, u64),
    size: u64,
    kind: Kind,
) -> Result<(), (String, Option<u32>)> {
    let Some(checks) = &mut cx.checks else { return Ok(()) };
    let who = Access { warp: cx.warp_in_cluster, lane: lane as u32, pc: i.at, kind };
    checks.access(rank, offset, size, who).map_err(|wrong| in_words(cx, wrong, offset, size, who))
}

/// A party in words.
fn name(cx: &Cx, party: u32) -> String {
    let blocks = cx.cluster.peers.len() as u32;
    let warps = cx.copies.len() as u32 / blocks;
    match party {
        p if p >= warps * blocks => "a bulk copy".into(),
        p if blocks > 1 => format!("warp {} of block {} of the cluster", p % warps, p / warps),
        p => format!("warp {p}"),
    }
}

/// What an access does.
pub(super) fn verb(kind: Kind) -> &'static str {
    match kind {
        Kind { bulk: true, copy: true, .. } => "bulk copy",
        Kind { bulk: true, writes: true, .. } => "asynchronous write",
        Kind { bulk: true, .. } => "asynchronous read",
        Kind { copy: true, .. } => "asynchronous copy",
        Kind { reads: true, writes: true, .. } => "atomic update",
        Kind { writes: true, .. } => "write",
        _ => "read",
    }
}

#[cold]
pub(crate) fn in_words(cx: &Cx, wrong: Wrong, offset: u64, size: u64, who: Access) -> (String, Option<u32>) {
    let here = format!(
        "{} of {size} bytes at shared address {offset:#x} by {}, lane {}",
        verb(who.kind),
        name(cx, who.warp),
        who.lane
    );
    let other = |p: Party| name(cx, p.warp) + &p.lane.map_or(String::new(), |l| format!(", lane {l}"));
    let lane = |p: Party| p.lane.map_or("another lane".into(), |l| format!("lane {l}"));
    match wrong {
        Wrong::AfterWrite(p) if p.warp == who.warp => {
            (format!("data race: {here}, with no `bar.warp.sync` after the write by {}", lane(p)), p.pc)
        }
        Wrong::AfterRead(p) if p.warp == who.warp => {
            (format!("data race: {here}, with no `bar.warp.sync` after the read by {}", lane(p)), p.pc)
        }
        Wrong::NotBegun => (
            format!(
                "{here} of another block of the cluster, with no barrier after that one's begin: `barrier.cluster.arrive` and `wait` by all come first"
            ),
            None,
        ),
        Wrong::Unwritten => (format!("{here}: some of the bytes were never written"), None),
        Wrong::AfterWrite(p) => {
            (format!("data race: {here}, with no barrier after the write by {}", other(p)), p.pc)
        }
        Wrong::AfterRead(p) => {
            (format!("data race: {here}, with no barrier after the read by {}", other(p)), p.pc)
        }
        Wrong::Owned(p) => (
            format!(
                "data race: {here}, but an asynchronous copy of {} to it has not been waited for",
                other(p)
            ),
            p.pc,
        ),
        Wrong::NotFenced(p) => {
            (format!("data race: {here}, with no `fence.proxy.async` after the write by {}", other(p)), p.pc)
        }
        Wrong::StillRead(p) => (
            format!("data race: {here}, but an asynchronous read by {} has not been waited for", other(p)),
            p.pc,
        ),
    }
}

/// What is wrong with an access to a thread's local memory; notes what it writes.
fn check_local(cx: &mut Cx, i: &Instr, lane: usize, offset: u64, size: u64) -> Option<(String, Option<u32>)> {
    let (length, warp) = (cx.local_len, cx.warp_in_cluster);
    let checks = cx.checks.as_mut()?;
    let start = (u64::from(warp) * LANES as u64 + lane as u64) * length + offset;
    if i.n & WRITES != 0 {
        checks.wrote_local(start, size);
        return None;
    }
    // Padding of parameters is passed on unwritten.
    (i.n & PASSES == 0 && !checks.knows_local(start, size)).then(|| {
        let what = format!(
            "read of {size} bytes at local address {offset:#x} by warp {}, lane {lane}: some of the bytes were never written",
            cx.warp_in_block
        );
        (what, None)
    })
}
