//! Control flow: these handlers only say what happens; the warp carries it out.

use super::{BarrierRequest, Cx, Flow, Handler, Instr, LANES, lanes_of};
use crate::memory::near;
use std::sync::atomic::Ordering::Relaxed;

macro_rules! plain_flow {
    ($($(#[$meta:meta])* $name:ident)*) => {$(
        $(#[$meta])*
        pub(crate) struct $name;
        impl Handler for $name {
            #[inline(always)]
            unsafe fn exec(_: &mut Cx, _: &Instr, _: u32) -> Flow {
                Flow::$name
            }
        }
    )*};
}
plain_flow! {
    /// `bra`.
    Branch
    /// A meeting place of diverged lanes.
    Join
    /// `exit`, and `ret` of an entry.
    Exit
    /// `ret` of a function.
    Return
    /// `call` by name.
    Call
    /// Nothing: `pragma`-like instructions, prefetches.
    Next
}

/// `trap`, and `brkpt` where `n` is 1.
pub(crate) struct Trap;

impl Handler for Trap {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let what = if i.n == 0 { "trap" } else { "brkpt: a breakpoint, and no debugger to go on from it" };
        cx.fail(m.trailing_zeros(), what.into())
    }
}

/// `brx.idx`: index `a`; the `n` targets are listed at `b`.
pub(crate) struct IndexedBranch;

impl Handler for IndexedBranch {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        for l in lanes_of(m) {
            // SAFETY: the decoder gave a 32-bit register and `n` listed targets.
            unsafe {
                let index = cx.lanes::<u32>(i.a)[l];
                if index >= i.n {
                    return cx.fail(l as u32, format!("branch index {index}, but there are {} targets", i.n));
                }
                cx.branch_targets[l] = cx.extra(i.b + index).into();
            }
        }
        Flow::IndexedBranch
    }
}

/// `call` by address in the 64-bit register `a`.
pub(crate) struct IndexedCall;

impl Handler for IndexedCall {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        for l in lanes_of(m) {
            // SAFETY: the decoder gave a 64-bit register.
            let address = unsafe { cx.lanes::<u64>(i.a)[l] };
            let index = address.wrapping_sub(crate::memory::CODE_WINDOW) / 16;
            match cx.functions.get(index as usize) {
                Some(&start) if start != crate::decode::NO_CODE => cx.branch_targets[l] = start.into(),
                _ => return cx.fail(l as u32, format!("call of address {address:#x}, which is no function")),
            }
        }
        Flow::IndexedCall
    }
}

/// `bar`, `barrier`: id `a`, count `b` if bit 0 of `n`, waits if bit 1, reduces predicate `c` (negated if bit 3) if bit 2,
/// by operation `imm` into `d`; it may be [`ALIGNED`].
pub(crate) struct Barrier;

/// Flag in `Instr::n`: all lanes of the warp must be at the barrier.
pub(crate) const ALIGNED: u32 = 16;

/// For the checks: what follows where the lanes `m` of the warp are at a barrier and not `all` of them, as [`ALIGNED`] demands. The others
/// may still come, unless they have ended.
#[inline(always)]
pub(super) fn not_aligned(
    cx: &mut Cx,
    i: &Instr,
    (m, all): (u32, u32),
    name: impl FnOnce() -> String,
) -> Option<Flow> {
    (cx.checks.is_some() && i.n & ALIGNED != 0 && m != all).then(|| {
        if m != cx.live && !cx.alone {
            return Flow::Apart;
        }
        let what = format!(
            "{} is reached by the lanes {m:#010x} of warp {} at once; those of the whole warp are {all:#010x}, of which {:#010x} have not ended",
            name(),
            cx.warp_in_block,
            cx.live
        );
        cx.fail(m.trailing_zeros(), what)
    })
}

impl Handler for Barrier {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let lane = m.trailing_zeros() as usize;
        // SAFETY: the decoder gave 32-bit registers and predicates where flagged.
        unsafe {
            let id = cx.lanes::<u32>(i.a)[lane];
            let count = (i.n & 1 != 0).then(|| cx.lanes::<u32>(i.b)[lane]);
            if id > 15 {
                return cx.fail(lane as u32, format!("barrier {id}: there are only 0 to 15"));
            }
            if let Some(count) = count.filter(|c| c % LANES as u32 != 0 || *c == 0) {
                return cx.fail(
                    lane as u32,
                    format!("barrier {id} with a count of {count}, which is no multiple of 32 above 0"),
                );
            }
            let first = LANES as u32 * cx.warp_in_block;
            let all = !0u32 >> (LANES as u32 - (cx.threads - first).min(LANES as u32));
            if let Some(flow) = not_aligned(cx, i, (m, all), || format!("barrier {id}")) {
                return flow;
            }
            let votes = if i.n & 4 != 0 { (cx.pred(i.c) ^ if i.n & 8 != 0 { !0 } else { 0 }) & m } else { 0 };
            let reduce = (i.n & 4 != 0).then_some((i.d, i.imm as u32));
            cx.barrier = BarrierRequest { id, count, waits: i.n & 2 != 0, votes, reduce };
        }
        Flow::Barrier
    }
}

/// `__assertfail(message, file, line, function, size)`: the addresses of its parameters in local memory are listed at `b`.
pub(crate) struct AssertFail;

impl Handler for AssertFail {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let lane = m.trailing_zeros() as usize;
        // SAFETY: the listed offsets lie in the lane's local memory.
        let (message, file, line) = unsafe {
            (
                parameter(cx, lane, cx.extra(i.b)),
                parameter(cx, lane, cx.extra(i.b + 1)),
                parameter(cx, lane, cx.extra(i.b + 2)),
            )
        };
        let (message, file) = (text_at(cx, lane, message), text_at(cx, lane, file));
        cx.fail(lane as u32, format!("assertion failed: {message} ({file}:{})", line as u32))
    }
}

/// The most that the threads of a launch print together: a device's buffer holds 1 MiB and then overwrites it (CUDA C++ Programming Guide,
/// "Formatted Output").
pub(crate) const MOST_PRINTED: u64 = 16 << 20;

/// `vprintf(format, arguments)`, parameters as above; `d` gets the result.
pub(crate) struct Printf;

impl Handler for Printf {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let mut counts = [0u32; LANES];
        for l in lanes_of(m) {
            // SAFETY: the listed offsets lie in the lane's local memory.
            let (format, arguments) =
                unsafe { (parameter(cx, l, cx.extra(i.b)), parameter(cx, l, cx.extra(i.b + 1))) };
            let format = text_at(cx, l, format);
            // How many arguments were printed, as the CUDA C++ programming guide has it ("Formatted Output").
            counts[l] = format.replace("%%", "").matches('%').count() as u32;
            let text = crate::exec::printf::format(
                &format,
                |offset, size| read_bytes(cx, l, arguments.wrapping_add(offset), size),
                |cx_address| text_at(cx, l, cx_address),
            );
            if cx
                .printable
                .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(text.len() as u64))
                .is_err()
            {
                return cx.fail(l as u32, format!("the kernel prints more than {MOST_PRINTED} bytes"));
            }
            cx.printed.push_str(&text);
        }
        // SAFETY: the decoder gave a 32-bit register.
        unsafe { cx.set_lanes(i.d, m, &counts) };
        Flow::Next
    }
}

/// # Safety
/// `offset` + 8 must lie in a lane's local memory, or the value is truncated there.
pub(super) unsafe fn parameter(cx: &Cx, lane: usize, offset: u32) -> u64 {
    let mut bytes = [0; 8];
    for (k, byte) in bytes.iter_mut().enumerate() {
        let at = u64::from(offset) + k as u64;
        if at < cx.local_len {
            // SAFETY: inside the lane's part.
            *byte = unsafe { *cx.local.add((lane as u64 * cx.local_len + at) as usize) };
        }
    }
    u64::from_le_bytes(bytes)
}

/// Up to 8 bytes at a generic address, little-endian; missing bytes are 0.
fn read_bytes(cx: &Cx, lane: usize, address: u64, size: u64) -> u64 {
    (0..size).map(|k| u64::from(byte_at(cx, lane, address.wrapping_add(k)).unwrap_or(0)) << (8 * k)).sum()
}

fn byte_at(cx: &Cx, lane: usize, address: u64) -> Option<u8> {
    use crate::memory::{LOCAL_WINDOW, SHARED_WINDOW};
    let inside = |base: u64, length: u64| address.checked_sub(base).filter(|&o| o < length);
    let host = if let Some(o) = inside(LOCAL_WINDOW, cx.local_len) {
        cx.local as usize + (lane as u64 * cx.local_len + o) as usize
    } else if let Some(o) = inside(SHARED_WINDOW, cx.shared_len) {
        cx.shared as usize + o as usize
    } else {
        let segment = cx.memory.find(address, 1)?;
        segment.host as usize + (address - segment.start) as usize
    };
    // SAFETY: checked to lie in memory of the emulated device; other threads may write it, atomically.
    Some(unsafe {
        (*(host as *const std::sync::atomic::AtomicU8)).load(std::sync::atomic::Ordering::Relaxed)
    })
}

/// The zero-terminated text at a generic address.
fn text_at(cx: &Cx, lane: usize, address: u64) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < 4096 {
        match byte_at(cx, lane, address + bytes.len() as u64) {
            Some(0) => break,
            Some(byte) => bytes.push(byte),
            None => return format!("(text at {address:#x}: {})", near(cx.memory, address)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
