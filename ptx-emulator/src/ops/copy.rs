//! `cp.async`: copies from global to shared memory that take effect when the thread that issued them waits for them, and no
//! sooner: the source is read and the destination written at the wait. A kernel that forgets its wait sees the old bytes.

use super::memory::{GLOBAL, SHARED, WIDE_ADDRESS, place, places};
use super::observe::observe;
use super::{Cx, Flow, Handler, Instr, LANES, lanes_of};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Flag in `Instr::d`: the source address has 64 bits.
pub(crate) const WIDE_SOURCE: u32 = 1;
/// Flag in `Instr::d`: the first listed register says how many bytes come from the source.
pub(crate) const SOURCE_SIZE: u32 = 2;
/// Flag in `Instr::d`: the first listed register is a predicate: lanes where it is true copy zeros.
pub(crate) const IGNORE_SOURCE: u32 = 4;
/// Flag in `Instr::d`: the predicate is negated.
pub(crate) const NEGATED: u32 = 8;

/// One `cp.async` of some lanes that are in the same group.
#[derive(Clone, Copy, Debug)]
struct Copy {
    /// Lanes that have not waited for it yet.
    mask: u32,
    /// The group, counted from the start of the thread.
    group: u32,
    /// Bytes of each lane's destination: 4, 8 or 16.
    size: u32,
    /// Host addresses.
    to: [usize; LANES],
    from: [usize; LANES],
    /// Bytes that come from the source; the rest is zeros.
    length: [u8; LANES],
}

/// The asynchronous copies of one warp.
#[derive(Clone, Debug)]
pub(crate) struct Copies {
    pending: VecDeque<Copy>,
    /// How many were issued before the first that is pending.
    before: u64,
    /// Groups that each lane has committed.
    committed: [u32; LANES],
}

impl Copies {
    pub(crate) fn new() -> Copies {
        Copies { pending: VecDeque::new(), before: 0, committed: [0; LANES] }
    }

    /// As for a fresh warp.
    pub(crate) fn clear(&mut self) {
        self.pending.clear();
        self.committed = [0; LANES];
    }

    /// How many copies the warp has issued.
    pub(crate) fn issued(&self) -> u64 {
        self.before + self.pending.len() as u64
    }

    /// Carries out what the lanes in `m` have in all but their last `left` groups, and says where and how much.
    ///
    /// # Safety
    /// The addresses of pending copies must still be valid.
    unsafe fn wait(&mut self, m: u32, left: u32, done_to: impl FnMut(usize, u32)) {
        let until = self.committed.map(|c| c.saturating_sub(left));
        // SAFETY: by contract.
        unsafe {
            let due = |copy: &Copy, _| {
                until.iter().enumerate().map(|(l, &until)| u32::from(copy.group < until) << l).sum::<u32>()
                    & m
            };
            self.carry_out(due, done_to);
        }
    }

    /// Carries out each copy for the lanes that `due` names, which is told the copy and its number.
    ///
    /// # Safety
    /// As for `wait`.
    #[inline(always)]
    unsafe fn carry_out(&mut self, due: impl Fn(&Copy, u64) -> u32, mut done_to: impl FnMut(usize, u32)) {
        for (number, copy) in (self.before..).zip(&mut self.pending) {
            let done = due(copy, number) & copy.mask;
            copy.mask &= !done;
            // Lanes that write one after another are told as one.
            let (mut start, mut bytes) = (0, 0);
            for l in lanes_of(done) {
                // SAFETY: checked when the copy was issued, and valid by contract.
                unsafe { carry_out(copy.from[l], copy.to[l], copy.size, copy.length[l]) };
                if start + bytes as usize != copy.to[l] {
                    if bytes != 0 {
                        done_to(start, bytes);
                    }
                    (start, bytes) = (copy.to[l], 0);
                }
                bytes += copy.size;
            }
            if bytes != 0 {
                done_to(start, bytes);
            }
        }
        while self.pending.front().is_some_and(|c| c.mask == 0) {
            self.pending.pop_front();
            self.before += 1;
        }
    }
}

/// Carries out those of a warp's copies that these lanes issued among the first `until`.
pub(crate) fn finish(cx: &mut Cx, warp: u32, mask: u32, until: u64) {
    let copies = &mut cx.copies[warp as usize];
    let (shared, checks, rank) = (cx.shared as usize, &mut cx.checks, cx.cluster.rank);
    let note = |to: usize, size: u32| {
        if let Some(checks) = checks {
            checks.copied(rank, (to - shared) as u64, size.into());
        }
    };
    let due = |_: &Copy, number| if number < until { mask } else { 0 };
    // SAFETY: copies are cleared with the block's shared memory, and global memory outlives the launch.
    unsafe { copies.carry_out(due, note) };
}

/// # Safety
/// `from` is valid for `length` bytes and `to` for `size`, both aligned to `size`.
#[inline(always)]
unsafe fn carry_out(from: usize, to: usize, size: u32, length: u8) {
    // SAFETY: by contract; global memory is shared with other threads through atomics, shared memory with none.
    unsafe {
        if u32::from(length) != size {
            for at in 0..size as usize {
                let byte = if at < usize::from(length) {
                    (*((from + at) as *const AtomicU8)).load(Relaxed)
                } else {
                    0
                };
                *((to + at) as *mut u8) = byte;
            }
        } else if size == 4 {
            *(to as *mut u32) = (*(from as *const AtomicU32)).load(Relaxed);
        } else {
            for at in (0..size as usize).step_by(8) {
                *((to + at) as *mut u64) = (*((from + at) as *const AtomicU64)).load(Relaxed);
            }
        }
    }
}

/// `cp.async`: destination as for a store; source register `c`, its cache slot `e`, flags `d`. Listed at `b`: source size or
/// predicate, size, and the source's constant offset (low word, high word).
pub(crate) struct CopyAsync;

impl Handler for CopyAsync {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: the decoder gave registers and a list as described; `places` checks all addresses.
        unsafe {
            let size = cx.extra(i.b + 1);
            let Some(to) = places::<SHARED>(cx, i, m, size.into(), size.into()) else { return Flow::Fault };
            let mut source = *i;
            (source.a, source.slot, source.n) =
                (i.c, i.e, if i.d & WIDE_SOURCE != 0 { WIDE_ADDRESS } else { 0 });
            source.imm = i64::from(cx.extra(i.b + 2)) | i64::from(cx.extra(i.b + 3)) << 32;
            let mut length = [size as u8; LANES];
            let mut full = m;
            if i.d & SOURCE_SIZE != 0 {
                let sizes = *cx.lanes::<u32>(cx.extra(i.b));
                for l in lanes_of(m) {
                    if sizes[l] > size {
                        let what = format!("a copy of {size} bytes, of which {} from the source", sizes[l]);
                        return cx.fail(l as u32, what);
                    }
                    length[l] = sizes[l] as u8;
                    full &= !(u32::from(sizes[l] < size) << l);
                }
            } else if i.d & IGNORE_SOURCE != 0 {
                let ignored = cx.pred(cx.extra(i.b)) ^ if i.d & NEGATED != 0 { !0 } else { 0 };
                full &= !ignored;
                for l in lanes_of(m & ignored) {
                    length[l] = 0;
                }
            }
            let mut from = [0; LANES];
            if full != 0 {
                match places::<GLOBAL>(cx, &source, full, size.into(), size.into()) {
                    Some(found) => from = found,
                    None => return Flow::Fault,
                }
            }
            for l in lanes_of(m & !full) {
                let offset = source.imm as u64;
                let address = if i.d & WIDE_SOURCE != 0 {
                    cx.lanes::<u64>(i.c)[l].wrapping_add(offset)
                } else {
                    u64::from(cx.lanes::<u32>(i.c)[l].wrapping_add(offset as u32))
                };
                // No byte of an empty source is looked at; its address must be aligned all the same.
                let found = if length[l] == 0 && address.is_multiple_of(size.into()) {
                    Ok(0)
                } else {
                    place(cx, GLOBAL, &source, l, address, length[l].into(), size.into())
                };
                match found {
                    Ok(host) => {
                        from[l] = host;
                        if length[l] != 0
                            && cx.observed
                            && !observe(cx, &source, 1 << l, &[address; LANES], length[l].into(), GLOBAL)
                        {
                            return Flow::Fault;
                        }
                    }
                    Err(what) => return cx.fail(l as u32, what),
                }
            }
            let copies = &mut cx.copies[cx.warp_in_cluster as usize];
            let mut rest = m;
            while rest != 0 {
                let group = copies.committed[rest.trailing_zeros() as usize];
                let mask: u32 =
                    lanes_of(rest).filter(|&l| copies.committed[l] == group).map(|l| 1 << l).sum();
                copies.pending.push_back(Copy { mask, group, size, to, from, length });
                rest &= !mask;
            }
        }
        Flow::Next
    }
}

/// `cp.async.commit_group`.
pub(crate) struct Commit;

impl Handler for Commit {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, _: &Instr, m: u32) -> Flow {
        let copies = &mut cx.copies[cx.warp_in_cluster as usize];
        for (l, committed) in copies.committed.iter_mut().enumerate() {
            *committed += m >> l & 1;
        }
        Flow::Next
    }
}

/// `cp.async.wait_group n`: all but the last `n` groups. The copies of lanes that have ended stay undone.
pub(crate) struct WaitGroup;

impl Handler for WaitGroup {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let copies = &mut cx.copies[cx.warp_in_cluster as usize];
        let (shared, checks, rank) = (cx.shared as usize, &mut cx.checks, cx.cluster.rank);
        let note = |to: usize, size: u32| {
            if let Some(checks) = checks {
                checks.copied(rank, (to - shared) as u64, size.into());
            }
        };
        // SAFETY: copies are cleared with the block's shared memory, and global memory outlives the launch.
        unsafe { copies.wait(m, i.n, note) };
        Flow::Next
    }
}
