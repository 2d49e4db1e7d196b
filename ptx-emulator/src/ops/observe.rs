//! What counters and checks see of an access to memory.

use super::memory::{ATOMIC, COPY, GENERIC, GLOBAL, SHARED, STRONG, WRITES};
use super::profile::record;
use super::{Cx, Instr, LANES, lanes_of};
use crate::checks::{Access, Kind, Wrong};
use crate::error::Fault;
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW};
use std::sync::atomic::Ordering::Relaxed;

/// `atom.exch` in `Instr::c`, which reads nothing that it needs.
const EXCHANGE: u32 = 8;

/// Counts and checks an access of `size` bytes by each lane in `m`, at the addresses `at` of the space that the instruction names.
/// All of them have been found to be in bounds and aligned. False if the fault is set.
#[inline(never)]
pub(crate) fn observe(cx: &mut Cx, i: &Instr, m: u32, at: &[u64; LANES], size: u64, space: u8) -> bool {
    if !cx.profile.is_empty() {
        record(cx, i, m, at, size, space);
    }
    if cx.checks.is_none() {
        return true;
    }
    let atomic = i.n & ATOMIC != 0;
    let writes = i.n & WRITES != 0;
    let kind = Kind {
        reads: !writes || atomic && i.c >> 8 != EXCHANGE,
        writes,
        strong: atomic || i.n & STRONG != 0,
        copy: i.n & COPY != 0,
    };
    let mut last = u64::MAX;
    for l in lanes_of(m) {
        let address = at[l];
        // Lanes that read the same are one access.
        if address == last && !writes {
            continue;
        }
        last = address;
        let window = |base: u64| address.checked_sub(base).filter(|&o| o < WINDOW);
        let shared = match space {
            SHARED => Some(address),
            GENERIC => window(SHARED_WINDOW),
            _ => None,
        };
        let wrong = if let Some(offset) = shared {
            check_shared(cx, i, l, offset, size, kind)
        } else if space == GLOBAL
            || space == GENERIC && window(LOCAL_WINDOW).is_none() && window(PARAM_WINDOW).is_none()
        {
            let warp = cx.warp_in_block;
            check_global(cx, i, address, size, kind).map(|w| (format!("{w} (warp {warp}, lane {l})"), None))
        } else {
            None
        };
        if let Some((what, other)) = wrong {
            cx.fault = Some(Fault { lane: l as u32, what, other });
            return false;
        }
    }
    true
}

/// What is wrong with an access to shared memory, and where the other party was.
#[inline]
fn check_shared(
    cx: &mut Cx,
    i: &Instr,
    lane: usize,
    offset: u64,
    size: u64,
    kind: Kind,
) -> Option<(String, Option<u32>)> {
    let who = Access { warp: cx.warp_in_block, lane: lane as u32, pc: i.at, kind };
    let wrong = cx.checks.as_mut()?.access(offset, size, who).err()?;
    Some(in_words(wrong, offset, size, who))
}

#[cold]
fn in_words(wrong: Wrong, offset: u64, size: u64, who: Access) -> (String, Option<u32>) {
    let verb = if who.kind.copy {
        "asynchronous copy"
    } else if who.kind.reads && who.kind.writes {
        "atomic update"
    } else if who.kind.writes {
        "write"
    } else {
        "read"
    };
    let here = format!(
        "{verb} of {size} bytes at shared address {offset:#x} by warp {}, lane {}",
        who.warp, who.lane
    );
    let lane = |lane: Option<u32>| lane.map_or(String::new(), |l| format!(", lane {l}"));
    match wrong {
        Wrong::Unwritten => (format!("{here}: some of the bytes were never written"), None),
        Wrong::AfterWrite(p) => (
            format!("data race: {here}, with no barrier after the write by warp {}{}", p.warp, lane(p.lane)),
            p.pc,
        ),
        Wrong::AfterRead(p) => (
            format!("data race: {here}, with no barrier after the read by warp {}{}", p.warp, lane(p.lane)),
            p.pc,
        ),
        Wrong::Owned(p) => (
            format!(
                "data race: {here}, but an asynchronous copy of warp {}{} to it has not been waited for",
                p.warp,
                lane(p.lane)
            ),
            p.pc,
        ),
    }
}

/// What is wrong with an access to global memory; notes what it writes.
#[inline]
fn check_global(cx: &Cx, i: &Instr, address: u64, size: u64, kind: Kind) -> Option<String> {
    let cached = cx.caches[i.slot as usize];
    let inside = address >= cached.start && address.checked_add(size)? <= cached.end;
    let segment = if inside { cached } else { cx.memory.find(address, size)? };
    if segment.written.is_null() {
        return None;
    }
    let offset = address - segment.start;
    let bits = (u64::MAX >> (64 - size)) << (offset % 64);
    // SAFETY: the view keeps the allocation alive, and the words cover it; the access is aligned, so that one word has all bits.
    let word = unsafe { &*segment.written.add((offset / 64) as usize) };
    let before = if kind.writes { word.fetch_or(bits, Relaxed) } else { word.load(Relaxed) };
    (kind.reads && before & bits != bits).then(|| {
        format!(
            "read of {size} bytes at global address {address:#x}, of which some were never written: {offset} bytes into the allocation of {} bytes at {:#x}",
            segment.end - segment.start,
            segment.start
        )
    })
}
