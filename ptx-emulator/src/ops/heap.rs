//! `malloc` and `free` of kernels, and accesses to what `malloc` gave.

use super::control::parameter;
use super::observe_global::{check_range, forget, thread_in_words};
use super::{Cx, Flow, Handler, Instr, LANES, lanes_of};
use crate::checks::Kind;
use crate::exec::PATTERN;
use crate::heap::{By, Piece};

/// `malloc(size)`: the address of its parameter in local memory is listed at `b`; `d` gets the address, 0 where the heap is full.
pub(crate) struct Malloc;
/// `free(address)`, the parameter as above.
pub(crate) struct Free;

fn by(cx: &Cx, i: &Instr, lane: usize) -> By {
    By { launch: cx.memory.number, block: cx.block, warp: cx.warp_in_block, lane: lane as u32, pc: i.at }
}

impl Handler for Malloc {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let mut addresses = [0u64; LANES];
        for l in lanes_of(m) {
            // SAFETY: the listed offset lies in the lane's local memory.
            let size = unsafe { parameter(cx, l, cx.extra(i.b)) };
            let given = cx.memory.heap().and_then(|heap| heap.alloc(size, by(cx, i, l), PATTERN));
            if let Some(address) = given {
                forget(cx, address, size);
                addresses[l] = address;
            }
        }
        // SAFETY: the decoder gave a 64-bit register.
        unsafe { cx.set_lanes(i.d, m, &addresses) };
        Flow::Next
    }
}

impl Handler for Free {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        for l in lanes_of(m) {
            // SAFETY: the listed offset lies in the lane's local memory.
            let address = unsafe { parameter(cx, l, cx.extra(i.b)) };
            if address == 0 {
                continue;
            }
            if let Err(what) = free(cx, i, l, address) {
                return cx.fail(l as u32, what);
            }
        }
        Flow::Next
    }
}

fn free(cx: &mut Cx, i: &Instr, lane: usize, address: u64) -> Result<(), String> {
    let by = by(cx, i, lane);
    let Some(piece) = cx.memory.heap().and_then(|heap| heap.find(address, 0)) else {
        let around = around(cx, address);
        return Err(format!("`free` of address {address:#x}, which `malloc` did not give: {around}"));
    };
    if piece.start != address {
        let around = around(cx, address);
        return Err(format!("`free` of address {address:#x}, which is not where a piece begins: {around}"));
    }
    let kind = Kind { writes: true, ..Kind::default() };
    check_range(cx, i, lane, address, piece.len, kind).map_err(|what| {
        format!("`free` of address {address:#x}, for the checks a write of all its bytes: {what}")
    })?;
    if let Some(heap) = cx.memory.heap() {
        heap.free(address, by);
    }
    Ok(())
}

/// Whether an access to the heap is to what `malloc` gave and nobody has freed; otherwise what is wrong.
#[cold]
pub(super) fn check_heap(cx: &mut Cx, address: u64, size: u64) -> Result<(), String> {
    match cx.memory.heap().and_then(|heap| heap.find(address, size)) {
        Some(_) => Ok(()),
        None => Err(around(cx, address)),
    }
}

/// What is near an address, in words; the other party of the error is who called `malloc` or `free`.
fn around(cx: &mut Cx, address: u64) -> String {
    let Some(heap) = cx.memory.heap().filter(|heap| heap.contains(address)) else {
        return crate::memory::near(cx.memory, address);
    };
    let Some(Piece { start, len, by, freed }) = heap.nearest(address) else {
        return "in the heap, of which nothing is in use".into();
    };
    let whose = format!("{len} bytes at {start:#x} by `malloc`");
    let (place, by, what) = match freed {
        Some(by) => (format!("inside the {whose}"), by, "freed"),
        None if address < start => (format!("{} bytes before the {whose}", start - address), by, "given"),
        None if address < start + len => {
            (format!("it begins {} bytes before the end of the {whose}", start + len - address), by, "given")
        }
        None => (format!("{} bytes past the end of the {whose}", address - start - len), by, "given"),
    };
    if by.launch != cx.memory.number {
        return format!("{place}, {what} in an earlier launch");
    }
    cx.other = Some(by.pc);
    let whom = if what == "freed" { "by" } else { "to" };
    let thread = thread_in_words((by.block != cx.block).then_some(by.block), by.warp, by.lane);
    format!("{place}, {what} {whom} {thread}")
}
