//! What checks see of an access to global memory.

use super::memory::{GENERIC, GLOBAL, SCOPE, SHARED, STRONG};
use super::observe::{is_atomic, verb};
use super::{Cx, Instr, LANES, lanes_of};
use crate::checks::{DEVICE, Flag, Kind, Race, Run, Scope, Stale, WEAK};
use crate::memory::{GLOBAL_BASE, SHARED_WINDOW, Segment, WINDOW, words};
use std::sync::atomic::Ordering::Relaxed;

/// What is wrong, the lane, and where in the program the other party was.
pub(super) type Found = (String, u32, Option<u32>);

/// Whether all lanes access global memory.
#[inline(always)]
pub(super) fn is_global(m: u32, at: &[u64; LANES], space: u8) -> bool {
    space == GLOBAL || space == GENERIC && lanes_of(m).all(|l| at[l] >= GLOBAL_BASE)
}

/// Checks and notes accesses of `size` bytes by the lanes in `m`, all of global memory: lanes one after another that access bytes
/// one after another are one.
#[inline(always)]
pub(super) fn check_lanes(
    cx: &mut Cx,
    i: &Instr,
    m: u32,
    at: &[u64; LANES],
    size: u64,
    kind: Kind,
) -> Result<(), Found> {
    let mut rest = m;
    let all = next_run(&mut rest, at, size, kind.writes);
    if rest == 0 {
        return check_run(cx, i, (all, at[all.first as usize]), all.pieces * size, size, kind);
    }
    let has_open = cx.checks.as_ref().is_some_and(|checks| checks.has_open_writes());
    if !has_open && let Some(found) = check_scattered(cx, i, m, at, size, kind) {
        return found;
    }
    rest = m;
    while rest != 0 {
        let lanes = next_run(&mut rest, at, size, kind.writes);
        check_run(cx, i, (lanes, at[lanes.first as usize]), lanes.pieces * size, size, kind)?;
    }
    Ok(())
}

/// Lanes that access pieces one after another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lanes {
    pub first: u32,
    pub pieces: u64,
    /// How many lanes one after another read the same piece.
    pub each: u32,
}

impl Lanes {
    /// One lane, which accesses one piece.
    fn one(lane: usize) -> Lanes {
        Lanes { first: lane as u32, pieces: 1, each: 1 }
    }

    /// The first lane that accesses a piece.
    pub(super) fn of(self, piece: u64) -> u32 {
        self.first + piece as u32 * self.each
    }
}

/// Takes the first lanes from `rest` that access pieces of `size` bytes one after another, each piece by as many lanes.
#[inline(always)]
pub(crate) fn next_run(rest: &mut u32, at: &[u64; LANES], size: u64, writes: bool) -> Lanes {
    if *rest == !0 && (writes || at[0] != at[1]) {
        // Most often all lanes act, each at a place of its own.
        let mut follow = 0u32;
        if at[1] == at[0].wrapping_add(size) {
            for l in 0..LANES - 1 {
                follow |= u32::from(at[l + 1] == at[l].wrapping_add(size)) << l;
            }
        }
        let pieces = 1 + follow.trailing_ones();
        *rest = (!0u64 << pieces) as u32;
        return Lanes { first: 0, pieces: pieces.into(), each: 1 };
    }
    let first = rest.trailing_zeros() as usize;
    let has = |lane: usize, address: u64| lane < LANES && *rest >> lane & 1 != 0 && at[lane] == address;
    let mut next = first + 1;
    while !writes && has(next, at[first]) {
        next += 1;
    }
    let each = next - first;
    let mut pieces = 1;
    while (next..next + each).all(|lane| has(lane, at[first] + pieces * size)) {
        next += each;
        pieces += 1;
    }
    *rest = if next < LANES { *rest >> next << next } else { 0 };
    Lanes { first: first as u32, pieces, each: each as u32 }
}

/// As `check_lanes`, by one lane.
pub(super) fn check_lane(
    cx: &mut Cx,
    i: &Instr,
    lane: usize,
    address: u64,
    size: u64,
    kind: Kind,
) -> Result<(), Found> {
    check_run(cx, i, (Lanes::one(lane), address), size, size, kind)
}

/// Where accesses of `size` bytes (1, 2, 4, 8 or 16) by the lanes in `m` lie in a piece of memory, given by its start and length, if all
/// are aligned there and within it. Inactive lanes repeat the first active one.
#[inline(always)]
pub(super) fn offsets_within(
    m: u32,
    at: &[u64; LANES],
    size: u64,
    (start, length): (u64, u64),
) -> Option<[u64; LANES]> {
    if !matches!(size, 1 | 2 | 4 | 8 | 16) || length < size {
        return None;
    }
    let mut offsets = *at;
    if m != u32::MAX {
        let first = at[m.trailing_zeros() as usize];
        for l in lanes_of(!m) {
            offsets[l] = first;
        }
    }
    let (mut high, mut bits) = (0, 0);
    for offset in &mut offsets {
        *offset = offset.wrapping_sub(start);
        high = high.max(*offset);
        bits |= *offset;
    }
    (high <= length - size && bits & (size - 1) == 0).then_some(offsets)
}

/// Checks and notes accesses of lanes anywhere in the allocation that the instruction met last, in one go. None where that is not
/// so, or where a lane reads what nobody wrote: then no more has been noted than what has been written.
#[inline(always)]
fn check_scattered(
    cx: &mut Cx,
    i: &Instr,
    m: u32,
    at: &[u64; LANES],
    size: u64,
    kind: Kind,
) -> Option<Result<(), Found>> {
    let segment = cx.caches[i.slot as usize];
    let length = segment.end.saturating_sub(segment.start);
    let offsets = offsets_within(m, at, size, (segment.start, length))?;
    let run = run_of(cx, i, (Lanes::one(0), &segment), (0, size, size), kind);
    let checks = cx.checks.as_mut()?;
    if !segment.read_only && checks.is_touched(&run, &offsets) {
        return Some(Ok(()));
    }
    if !segment.written.is_null() && is_unwritten(&segment, &offsets, size, kind) {
        return None;
    }
    if segment.read_only {
        return Some(Ok(()));
    }
    Some(checks.touch_lanes(&run, m, &offsets).map_err(|(lane, race)| {
        let run = Run { lane, offset: offsets[lane as usize], ..run };
        in_words(cx, &segment, &run, race, (kind, NOT_ORDERED))
    }))
}

/// Whether one of these aligned reads is of bytes that nobody wrote; notes what is written.
#[inline(always)]
fn is_unwritten(segment: &Segment, offsets: &[u64; LANES], size: u64, kind: Kind) -> bool {
    let mask = (1 << size) - 1;
    // SAFETY: the view keeps the allocation alive, in which the offsets lie.
    let word = |offset: u64| unsafe { &*segment.written.add(offset as usize / 64) };
    let missing = |offset: u64| !(word(offset).load(Relaxed) >> (offset % 64)) & mask;
    if offsets.iter().fold(0, |all, &offset| all | missing(offset)) == 0 {
        return false;
    }
    if !kind.reads {
        offsets.iter().for_each(|&offset| _ = word(offset).fetch_or(mask << (offset % 64), Relaxed));
    }
    kind.reads
}

/// How far an access reaches, if it is strong.
fn scope_of(i: &Instr, kind: Kind) -> Scope {
    match i.n >> SCOPE & 3 {
        // Those of bulk copies that reduce do not say.
        WEAK if kind.strong => DEVICE,
        _ if !kind.strong => WEAK,
        scope => scope,
    }
}

/// Checks and notes an access to bytes one after another, `step` each lane.
fn check_run(
    cx: &mut Cx,
    i: &Instr,
    (lanes, address): (Lanes, u64),
    length: u64,
    step: u64,
    kind: Kind,
) -> Result<(), Found> {
    let Some(segment) = segment_of(cx, i, address, length) else {
        // No one allocation has all of it, but one has each lane's.
        for k in 0..length / step {
            let (lane, address) = (Lanes { first: lanes.of(k), ..lanes }, address + k * step);
            if segment_of(cx, i, address, step).is_some() {
                check_run(cx, i, (lane, address), step, step, kind)?;
            }
        }
        return Ok(());
    };
    let offset = address - segment.start;
    if let Some(missing) = unwritten(&segment, offset, length, kind) {
        let by = (missing - offset) / step;
        let what = format!(
            "read of {step} bytes at global address {:#x}, of which some were never written: {} (warp {}, lane {})",
            address + by * step,
            within(cx, &segment, offset + by * step),
            cx.warp_in_block,
            lanes.of(by)
        );
        return Err((what, lanes.of(by), None));
    }
    if segment.read_only {
        return Ok(());
    }
    let run = run_of(cx, i, (lanes, &segment), (offset, length, step), kind);
    let Some(checks) = &mut cx.checks else { return Ok(()) };
    if checks.has_open_writes()
        && let Some(race) = checks.still_written(&run, kind.bulk)
    {
        return Err(in_words(cx, &segment, &run, race, (kind, STILL_WRITTEN)));
    }
    let not_fenced = if kind.bulk { checks.not_fenced(&run) } else { None };
    if let Err(race) = checks.touch(&run) {
        return Err(in_words(cx, &segment, &run, race, (kind, NOT_ORDERED)));
    }
    if let Some(write) = not_fenced {
        return Err(in_words(cx, &segment, &run, write, (kind, NOT_FENCED)));
    }
    if kind.bulk && kind.writes {
        checks.open_write(address, &run);
    }
    Ok(())
}

/// How an access stands to one that it races with, a bulk copy to a write, and an access to a bulk copy that may still write its bytes.
const NOT_ORDERED: &str = "not ordered after";
const NOT_FENCED: &str = "with no `fence.proxy.async` after";
const STILL_WRITTEN: &str = "with no `cp.async.bulk.wait_group` after";

/// A warp's bulk copy of this number has been waited for, see `Checks::end_writes`.
pub(crate) fn end_writes(cx: &mut Cx, number: u64, (warp, kind): (u32, Kind)) -> Result<(), String> {
    let Some(checks) = &mut cx.checks else { return Ok(()) };
    let Err((address, run, race)) = checks.end_writes(number, warp) else { return Ok(()) };
    let Some(segment) = cx.memory.find(address, run.length) else { return Ok(()) };
    let (what, _, other) = in_words(cx, &segment, &run, race, (kind, NOT_ORDERED));
    cx.other = other;
    Err(what)
}

fn run_of(
    cx: &Cx,
    i: &Instr,
    (lanes, segment): (Lanes, &Segment),
    (offset, length, step): (u64, u64, u64),
    kind: Kind,
) -> Run {
    Run {
        segment: segment.number,
        offset,
        length,
        lane: lanes.first,
        each: lanes.each,
        step,
        warp: cx.warp_in_cluster,
        pc: i.at,
        scope: scope_of(i, kind),
        writes: kind.writes,
        bulk: kind.bulk,
    }
}

fn segment_of(cx: &Cx, i: &Instr, address: u64, length: u64) -> Option<Segment> {
    let cached = cx.caches[i.slot as usize];
    let inside = address >= cached.start && address.checked_add(length)? <= cached.end;
    if inside { Some(cached) } else { cx.memory.find(address, length) }
}

fn within(cx: &Cx, segment: &Segment, offset: u64) -> String {
    let address = segment.start + offset;
    let piece = cx.memory.heap().filter(|_| segment.is_heap).and_then(|heap| heap.find(address, 0));
    let (start, len) = piece.map_or((segment.start, segment.end - segment.start), |p| (p.start, p.len));
    format!("{} bytes into the allocation of {len} bytes at {start:#x}", address - start)
}

/// Warps of a block.
fn block_warps(cx: &Cx) -> u32 {
    cx.copies.len() as u32 / cx.cluster.peers.len() as u32
}

/// The other party of a race of a warp of the cluster in words.
fn party(cx: &Cx, warp: u32, race: &Race) -> String {
    let warps = block_warps(cx);
    let own = race.own_cluster && race.warp / warps == warp / warps;
    thread_in_words((!own).then_some(race.block), race.warp % warps, race.lane)
}

/// A thread, and its block if it is another one than that which runs.
pub(super) fn thread_in_words(block: Option<[u32; 3]>, warp: u32, lane: u32) -> String {
    let block = block.map_or(String::new(), |[x, y, z]| format!("block ({x}, {y}, {z}), "));
    format!("{block}warp {warp}, lane {lane}")
}

#[cold]
fn in_words(cx: &Cx, segment: &Segment, run: &Run, race: Race, (kind, order): (Kind, &str)) -> Found {
    let by = race.offset.saturating_sub(run.offset) / run.step;
    let (lane, offset) = (run.lane + by as u32 * run.each, run.offset + by * run.step);
    let what = format!(
        "data race: {} of {} bytes at global address {:#x} by warp {}, lane {lane}, {}, {order} the {} by {}{}",
        verb(kind),
        run.step,
        segment.start + offset,
        run.warp % block_warps(cx),
        within(cx, segment, offset),
        if race.wrote { "write" } else { "read" },
        party(cx, run.warp, &race),
        if race.narrow { " (both are strong, but the scope of one does not reach the other)" } else { "" }
    );
    (what, lane, race.pc)
}

/// Checks and notes an access of a bulk copy to a range of global memory that lies in one allocation.
pub(crate) fn check_range(
    cx: &mut Cx,
    i: &Instr,
    lane: usize,
    address: u64,
    size: u64,
    kind: Kind,
) -> Result<(), String> {
    if cx.checks.is_none() || size == 0 {
        return Ok(());
    }
    check_lane(cx, i, lane, address, size, kind).map_err(|(what, _, other)| {
        cx.other = other;
        what
    })
}

/// Checks that a copy reads the tensor map of `size` bytes at an address as it was written last: those that the kernel wrote have been
/// released to the tensormap proxy, and acquired.
pub(crate) fn check_map(cx: &mut Cx, i: &Instr, lane: usize, address: u64, size: u64) -> Result<(), String> {
    let Some(segment) = segment_of(cx, i, address, size).filter(|s| !s.read_only) else { return Ok(()) };
    let kind = Kind { reads: true, ..Kind::default() };
    let run = run_of(cx, i, (Lanes::one(lane), &segment), (address - segment.start, size, size), kind);
    let Some(checks) = &mut cx.checks else { return Ok(()) };
    checks.use_map(&run, address).map_err(|Stale { write, released }| {
        cx.other = write.pc;
        let lacks = if released {
            "acquire` of it by a thread of the block after the release of"
        } else {
            "release` after"
        };
        format!(
            "data race: use of the tensor map at global address {address:#x} by warp {}, lane {lane}, {}, with no `fence.proxy.tensormap::generic.{lacks} the write by {}",
            cx.warp_in_block,
            within(cx, &segment, run.offset),
            party(cx, run.warp, &write)
        )
    })
}

/// For the checks: a warp acquires the tensor map of `size` bytes at an address, which lies in an allocation.
pub(crate) fn acquire_map(cx: &mut Cx, segment: &Segment, address: u64, size: u64) {
    if let (false, Some(checks)) = (segment.read_only, &mut cx.checks) {
        checks.acquire_map(cx.warp_in_cluster, (segment.number, address - segment.start), address, size);
    }
}

/// For the checks: nobody has touched these bytes of the heap.
pub(super) fn forget(cx: &mut Cx, address: u64, size: u64) {
    let segment = cx.memory.find(address, size);
    if let (Some(segment), Some(checks)) = (segment, &mut cx.checks) {
        checks.forget_global(segment.number, address - segment.start, size);
    }
}

/// The first byte of a read that nobody wrote; notes what is written.
#[inline]
fn unwritten(segment: &Segment, offset: u64, length: u64, kind: Kind) -> Option<u64> {
    if segment.written.is_null() {
        return None;
    }
    for (number, bits) in words(offset, length) {
        // SAFETY: the view keeps the allocation alive, and the words cover it.
        let word = unsafe { &*segment.written.add(number) };
        let before = word.load(Relaxed);
        if before & bits != bits {
            if kind.reads {
                return Some(64 * number as u64 + u64::from((!before & bits).trailing_zeros()));
            }
            word.fetch_or(bits, Relaxed);
        }
    }
    None
}

/// For the checks: the words of an atomic or volatile access, through which lanes may hand order on.
pub(super) fn strong_access(cx: &mut Cx, i: &Instr, m: u32, at: &[u64; LANES], space: u8, kind: Kind) {
    let Some(checks) = &mut cx.checks else { return };
    // Most often all lanes access global memory.
    let mut flags = at.map(Flag::global);
    let mut count = LANES;
    if m != !0 || !is_global(m, at, space) {
        let cluster = &cx.cluster;
        let flag = |l: usize| {
            let offset = match space {
                SHARED => Some(at[l]),
                _ => at[l].checked_sub(SHARED_WINDOW).filter(|&o| o < WINDOW),
            };
            match offset {
                Some(offset) => {
                    let (rank, offset) = cluster.split(offset).ok()?;
                    Some(Flag::shared(rank, offset))
                }
                None => (at[l] >= GLOBAL_BASE).then_some(Flag::global(at[l])),
            }
        };
        count = 0;
        for flag in lanes_of(m).filter_map(flag) {
            flags[count] = flag;
            count += 1;
        }
    }
    let reads = is_atomic(i) && i.n & super::memory::BLIND == 0 || !kind.writes;
    checks.strong_access(cx.warp_in_cluster, scope_of(i, kind), (reads, kind.writes), &flags[..count]);
}

/// Whether an instruction's accesses are atomic, volatile or ordered.
pub(super) fn is_strong(i: &Instr) -> bool {
    is_atomic(i) || i.n & STRONG != 0
}
