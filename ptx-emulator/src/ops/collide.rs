//! Lanes that store to one place by one instruction. Which of them comes last is undefined (CUDA C++ Programming Guide, "SIMT Architecture",
//! notes), so that they may only store the same. Accesses of one instruction have one size and are aligned to it: two of them touch the
//! same bytes or none in common.

use super::memory::{GENERIC, SHARED, STRONG, addresses};
use super::{Cx, Instr, LANES, lanes_of};
use crate::error::Fault;
use crate::memory::{SHARED_WINDOW, WINDOW};

/// Whether lanes that write these pieces of `size` bytes need a look: with checks, unless all lie one after another or one lane writes alone.
/// Strong stores (volatile, relaxed, release) may collide.
#[inline(always)]
pub(super) fn may_collide(cx: &Cx, i: &Instr, m: u32, places: &[usize; LANES], size: u64) -> bool {
    if cx.checks.is_none() || i.n & STRONG != 0 || m.is_power_of_two() {
        return false;
    }
    let mut near = false;
    for l in 1..LANES {
        near |= places[l] < places[l - 1].wrapping_add(size as usize);
    }
    near
}

/// The lane that wrote last where this one did.
fn last_at(m: u32, places: &[usize; LANES], lane: usize) -> usize {
    lanes_of(m).filter(|&l| places[l] == places[lane]).last().unwrap_or(lane)
}

/// After the lanes in `m` wrote: false, and the fault is set, if one of them wrote something else than the last at its place. `kept` says
/// whether memory has what a lane wrote, `same` whether two lanes wrote the same.
#[inline(always)]
pub(super) fn agree<const SPACE: u8>(
    cx: &mut Cx,
    i: &Instr,
    (m, places, size): (u32, &[usize; LANES], u64),
    kept: impl Fn(&Cx, usize) -> bool,
    same: impl Fn(&Cx, usize, usize) -> bool,
) -> bool {
    for lane in lanes_of(m) {
        if kept(cx, lane) {
            continue;
        }
        // What another block writes meanwhile is no matter of this instruction's.
        let last = last_at(m, places, lane);
        if last != lane && !same(cx, lane, last) {
            // SAFETY: the caller found the places by this instruction's addresses.
            let address = unsafe { addresses(cx, i) }[last];
            collided(cx, SPACE, (lane, last), address, size);
            return false;
        }
    }
    true
}

#[cold]
fn collided(cx: &mut Cx, space: u8, (lane, last): (usize, usize), address: u64, size: u64) {
    let shared = match space {
        SHARED => Some(address),
        GENERIC => address.checked_sub(SHARED_WINDOW).filter(|&offset| offset < WINDOW),
        _ => None,
    };
    // The address has been found to be one of the cluster's.
    let place = shared.map_or(format!("global address {address:#x}"), |offset| {
        format!("shared address {:#x}", cx.cluster.split(offset).map_or(offset, |(_, offset)| offset))
    });
    let what = format!(
        "data race: write of {size} bytes at {place} by warp {}, lane {last}, and of another value by lane {lane} with the same instruction",
        cx.warp_in_block
    );
    cx.fault = Some(Fault { lane: last as u32, what, other: None });
}
