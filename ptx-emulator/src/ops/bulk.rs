//! `cp.async.bulk` and its relatives: copies of whole ranges and boxes, carried out when somebody waits for them and no sooner.
//!
//! Copies into shared memory are deferred events of their mbarrier (see `mbarrier`). Copies out of it wait in groups of the thread:
//! `wait_group.read` reads their source, `wait_group` also writes their destination; what has been read is written when the
//! cluster ends at the latest.

use super::atomic::TYPES;
use super::cluster::in_window;
use super::mbarrier::Deferred;
use super::mbarrier_ops::{barrier, locate};
use super::memory::{GLOBAL, SHARED, place};
use super::observe::{check_shared, in_words};
use super::observe_global::{check_range, end_writes};
use super::profile::least_wavefronts;
use super::tensor::{map_at, rows};
use super::transfer::{Row, Transfer};
use super::{Cx, Flow, Handler, Instr, LANES, lanes_of};
use crate::checks::{Access, Kind, READS, WRITES};
use crate::stats::SECTOR;
use std::collections::VecDeque;

/// Carries out a copy into shared memory, which reports to an mbarrier.
pub(crate) fn finish(cx: &mut Cx, transfer: &Transfer, barrier: (u32, u32)) {
    let shared = cx.cluster.peers[transfer.rank as usize].shared;
    // SAFETY: rows and box were checked at the issue; global memory outlives the launch, shared memory the cluster.
    unsafe { transfer.fill_shared(shared) };
    if let Some(checks) = &mut cx.checks {
        for offset in (0..transfer.bytes).step_by(16) {
            checks.bulk_wrote(barrier, transfer.rank, transfer.piece(offset).into(), 16);
        }
        checks.end_read(transfer.reading);
        checks.bulk_done(barrier);
    }
}

/// For the checks: the copy begins to write shared memory, or to read it.
fn begin(cx: &mut Cx, i: &Instr, lane: usize, transfer: &mut Transfer, kind: Kind) -> Result<(), String> {
    let Some(checks) = &mut cx.checks else { return Ok(()) };
    let who = Access { warp: cx.warp_in_cluster, lane: lane as u32, pc: i.at, kind };
    let mut all = (0..transfer.bytes).step_by(16).map(|offset| transfer.piece(offset));
    let met = all.clone().find_map(|at| checks.lanes_meet(transfer.rank, at, who).err().map(|w| (at, w)));
    let wrong = if met.is_some() {
        met
    } else if kind.writes {
        all.find_map(|at| checks.access(transfer.rank, at.into(), 16, who).err().map(|w| (at, w)))
    } else {
        let pieces = checks.pieces(transfer.rank, all);
        match checks.begin_read(transfer.rank, &pieces, who) {
            Ok(number) => {
                transfer.reading = number;
                None
            }
            Err(wrong) => Some(wrong),
        }
    };
    wrong.map_or(Ok(()), |(at, wrong)| Err(other_line(cx, in_words(cx, wrong, at.into(), 16, who))))
}

/// An error whose other party is named by its place in the program.
fn other_line(cx: &mut Cx, (what, other): (String, Option<u32>)) -> String {
    cx.other = other;
    what
}

/// A copy out of shared memory.
#[derive(Debug)]
struct Store {
    lane: u32,
    group: u32,
    transfer: Transfer,
    /// The bytes of the box, once they have been read.
    read: Option<Vec<u8>>,
}

/// Those of one warp.
#[derive(Debug, Default)]
pub(crate) struct Stores {
    pending: VecDeque<Store>,
    /// Groups that each lane has committed.
    committed: [u32; LANES],
}

impl Stores {
    pub(crate) fn clear(&mut self) {
        self.pending.clear();
        self.committed = [0; LANES];
    }
}

/// Who issued a copy (place in the program, warp of the cluster and lane), and what is wrong with it. `Cx::other` has the other party.
type Wrong = ((u32, u32, u32), String);

/// Reads the source of those that `due` names, and with `write` writes their destination.
fn carry_out(
    cx: &mut Cx,
    warp: usize,
    write: bool,
    due: impl Fn(&Store, &[u32; LANES]) -> bool,
) -> Result<(), Wrong> {
    let mut written = Vec::new();
    let Stores { pending, committed } = &mut cx.stores[warp];
    for store in pending.iter_mut().filter(|s| due(s, committed)) {
        let transfer = &store.transfer;
        let shared = cx.cluster.peers[transfer.rank as usize].shared;
        let source = &*store.read.get_or_insert_with(|| {
            let mut bytes = vec![0; transfer.span() as usize];
            // SAFETY: the box was found to be inside the block's memory when the copy was issued.
            unsafe {
                shared.add(transfer.at as usize).copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len())
            };
            bytes
        });
        if let Some(checks) = &mut cx.checks {
            checks.end_read(std::mem::take(&mut store.transfer.reading));
        }
        let transfer = &store.transfer;
        if write {
            // SAFETY: as for `finish`.
            unsafe { transfer.drain(source) };
            written.push((transfer.by, transfer.writing, transfer.reduce.is_some()));
        }
    }
    if write {
        pending.retain(|s| !due(s, committed));
    }
    for (by, number, reduces) in written {
        end_writes(cx, number, (warp as u32, global_kind(true, reduces))).map_err(|what| (by, what))?;
    }
    Ok(())
}

/// The cluster has ended: writes what has been read. An error where a copy was not waited for.
pub(crate) fn end(cx: &mut Cx) -> Result<(), Wrong> {
    let still = |does: &str| format!("the block ended while a bulk copy still {does} comes first");
    for warp in 0..cx.stores.len() {
        if let Some(store) = cx.stores[warp].pending.iter().find(|s| s.read.is_none()) {
            let what = still("reads its shared memory: `cp.async.bulk.wait_group.read`");
            return Err((store.transfer.by, what));
        }
        carry_out(cx, warp, true, |_, _| true)?;
    }
    match cx.cluster.peers.iter().find_map(|p| p.mbarriers.unfinished()) {
        Some(by) if cx.checks.is_some() => {
            Err((by, still("writes its shared memory: a wait for the mbarrier")))
        }
        _ => Ok(()),
    }
}

/// Flag in `Instr::n`: into shared memory, reporting to an mbarrier.
pub(crate) const TO_SHARED: u32 = 1;
/// Flag in `Instr::n`: the other side is shared memory of the own block.
pub(crate) const FROM_SHARED: u32 = 2;
/// Flag in `Instr::n`: the destination may be another block's.
pub(crate) const TO_CLUSTER: u32 = 4;
/// Flag in `Instr::n`: the listed mask says to which blocks.
pub(crate) const MULTICAST: u32 = 8;
/// Flag in `Instr::n`: combines with what is there; `e` is operation << 8 | type.
pub(crate) const REDUCES: u32 = 16;
/// Flag in `Instr::n`: the global side is a tensor map's box; `d` is the rank.
pub(crate) const TENSOR: u32 = 32;
/// Flag in `Instr::n`: only warms a cache.
pub(crate) const PREFETCHES: u32 = 64;

/// Where in the list at `Instr::b` the operands lie; an address has a register, whether it is wide, and a constant of 64 bits.
pub(crate) const LIST_SHARED: u32 = 0;
/// The address in global memory or of the tensor map, or the source in shared memory.
pub(crate) const LIST_OTHER: u32 = 4;
/// The mbarrier.
pub(crate) const LIST_BARRIER: u32 = 8;
/// The size, and the mask of a multicast.
pub(crate) const LIST_SIZE: u32 = 12;
/// The coordinates.
pub(crate) const LIST_COORDINATES: u32 = 14;

/// `cp.async.bulk`, `cp.reduce.async.bulk`, with `.tensor` or not, and their prefetches.
pub(crate) struct BulkCopy;

impl Handler for BulkCopy {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        for l in lanes_of(m) {
            // SAFETY: the decoder gave a list as described.
            if let Err(what) = unsafe { issue(cx, i, l) } {
                return cx.fail(l as u32, what);
            }
        }
        Flow::Next
    }
}

/// # Safety
/// An address must be listed at `at`.
pub(crate) unsafe fn listed(cx: &Cx, i: &Instr, at: u32, l: usize) -> u64 {
    // SAFETY: by contract.
    unsafe {
        let (register, wide) = (cx.extra(i.b + at), cx.extra(i.b + at + 1));
        let offset = u64::from(cx.extra(i.b + at + 2)) | u64::from(cx.extra(i.b + at + 3)) << 32;
        if wide != 0 {
            cx.lanes::<u64>(register)[l].wrapping_add(offset)
        } else {
            u64::from(cx.lanes::<u32>(register)[l].wrapping_add(offset as u32))
        }
    }
}

/// # Safety
/// The operands must be listed at `i.b`.
#[inline(never)]
unsafe fn issue(cx: &mut Cx, i: &Instr, l: usize) -> Result<(), String> {
    // SAFETY: by contract.
    let (other, size) =
        unsafe { (listed(cx, i, LIST_OTHER, l), cx.lanes::<u32>(cx.extra(i.b + LIST_SIZE))[l]) };
    let by = (i.at, cx.warp_in_cluster, l as u32);
    let mut access = *i;
    access.n = if i.n & (TO_SHARED | PREFETCHES) != 0 { 0 } else { super::memory::WRITES };
    let reduce = (i.n & REDUCES != 0).then_some((i.e >> 8, i.e & 0xff));
    let mut transfer = Transfer {
        bytes: size,
        by,
        rank: 0,
        at: 0,
        inner: size,
        swizzle: 0,
        fill: 0,
        converts: None,
        reduce,
        rows: Vec::new(),
        reading: 0,
        writing: 0,
    };
    if i.n & (TO_SHARED | PREFETCHES) == 0
        && let Some(checks) = &mut cx.checks
    {
        transfer.writing = checks.begin_writes(cx.warp_in_cluster);
    }
    if i.n & TENSOR != 0 {
        // SAFETY: by contract.
        let coordinates: Vec<i32> =
            (0..i.d).map(|k| unsafe { cx.lanes::<i32>(cx.extra(i.b + LIST_COORDINATES + k))[l] }).collect();
        let map = map_at(cx, i, l, other)?;
        if map.sizes.len() != coordinates.len() {
            return Err(format!(
                "{} coordinates for a tensor map of {} dimensions",
                coordinates.len(),
                map.sizes.len()
            ));
        }
        if let Some((operation, _)) = reduce {
            let code = TYPES.iter().position(|&t| Some(t) == map.data_type.reduced());
            let code = code.ok_or_else(|| format!("no reduction of {:?} elements", map.data_type))?;
            transfer.reduce = Some((operation, code as u32));
        }
        transfer.rows = rows(cx, &access, l, &map, &coordinates, reduce.is_some())?;
        transfer.inner = map.box_sizes[0] * map.data_type.size() as u32;
        transfer.bytes = transfer.inner * transfer.rows.len() as u32;
        transfer.converts = (i.n & TO_SHARED != 0 && map.data_type.converts()).then_some(map.data_type);
        transfer.swizzle = map.swizzle.mask();
        transfer.fill = if map.fill_nan { nan(map.data_type.size()) } else { 0 };
    } else if i.n & PREFETCHES == 0 || size != 0 {
        transfer.rows = vec![linear(cx, i, &access, l, other, size)?];
    }
    if i.n & PREFETCHES != 0 {
        return Ok(());
    }
    // SAFETY: by contract.
    let (shared, copies) = unsafe { (listed(cx, i, LIST_SHARED, l), copies(cx, i, l)) };
    count(cx, i, &transfer, copies);
    let (rank, at) = cx.cluster.split(in_window(SHARED, shared)?)?;
    if rank != cx.cluster.rank && i.n & TO_CLUSTER == 0 {
        return Err(format!(
            "shared address {at:#x} of block {rank} of the cluster, where the own block's is wanted"
        ));
    }
    let align = if i.n & TENSOR != 0 { 128 } else { 16 };
    (transfer.rank, transfer.at) = (rank, at as u32);
    if at % align != 0 || at + u64::from(transfer.span()) > cx.shared_len {
        return Err(format!(
            "bulk copy of {} bytes at shared address {at:#x}: not a multiple of {align}, or beyond the {} bytes of the block",
            transfer.bytes, cx.shared_len
        ));
    }
    if i.n & TO_SHARED != 0 {
        cx.traffic.shared_store += u64::from(transfer.bytes) * copies;
        if i.n & FROM_SHARED != 0 && size != 0 {
            let (own, at) = cx.cluster.split(other)?;
            let mut source = Transfer { rank: own, at: at as u32, rows: Vec::new(), ..transfer };
            begin(cx, i, l, &mut source, READS)?;
            transfer.reading = source.reading;
        }
        // SAFETY: by contract.
        return unsafe { report_to_barrier(cx, i, l, transfer) };
    }
    cx.traffic.shared_load += u64::from(transfer.bytes);
    begin(cx, i, l, &mut transfer, READS)?;
    let stores = &mut cx.stores[cx.warp_in_cluster as usize];
    let group = stores.committed[l];
    stores.pending.push_back(Store { lane: l as u32, group, transfer, read: None });
    Ok(())
}

/// Blocks whose shared memory a copy writes.
///
/// # Safety
/// As for `report_to_barrier`.
unsafe fn copies(cx: &Cx, i: &Instr, l: usize) -> u64 {
    if i.n & MULTICAST == 0 {
        return 1;
    }
    // SAFETY: by contract.
    unsafe { mask(cx, i, l) }.count_ones().into()
}

/// The blocks that a multicast goes to, a bit each.
///
/// # Safety
/// The mask must be listed.
unsafe fn mask(cx: &Cx, i: &Instr, l: usize) -> u32 {
    // SAFETY: by contract.
    unsafe { cx.lanes::<u32>(cx.extra(i.b + LIST_SIZE + 1))[l] & 0xffff }
}

/// Counts what a copy that so many blocks receive moves, for the profile.
fn count(cx: &mut Cx, i: &Instr, transfer: &Transfer, copies: u64) {
    let Some(all) = cx.profile.get_mut(i.at as usize) else { return };
    let shared = u64::from(transfer.bytes);
    let rows = || transfer.rows.iter().filter(|r| r.length > 0);
    let bytes: u64 = rows().map(|r| u64::from(r.length)).sum();
    // Host addresses are aligned as those of the device.
    let sectors =
        |r: &Row| (r.global as u64 + u64::from(r.length)).div_ceil(SECTOR) - r.global as u64 / SECTOR;
    let to_shared = i.n & TO_SHARED != 0;
    *(if to_shared { &mut all.shared_store } else { &mut all.shared_load }) += shared * copies;
    all.wavefronts += least_wavefronts(shared) * copies;
    if i.n & FROM_SHARED != 0 {
        all.shared_load += shared;
        all.wavefronts += least_wavefronts(shared);
        return;
    }
    *(if to_shared { &mut all.global_load } else { &mut all.global_store }) += bytes;
    all.requests += 1;
    all.sectors += rows().map(sectors).sum::<u64>();
}

/// The one row of a copy without a tensor map.
fn linear(cx: &mut Cx, i: &Instr, access: &Instr, l: usize, address: u64, size: u32) -> Result<Row, String> {
    if !size.is_multiple_of(16) {
        return Err(format!("bulk copy of {size} bytes, no multiple of 16"));
    }
    let global = if size == 0 {
        0
    } else if i.n & FROM_SHARED != 0 {
        let (rank, at) = cx.cluster.split(in_window(SHARED, address)?)?;
        if rank != cx.cluster.rank {
            return Err(format!("the source of a bulk copy at shared address {at:#x} of block {rank}"));
        }
        place(cx, SHARED, access, l, at, size.into(), 16)?
    } else {
        let host = place(cx, GLOBAL, access, l, address, size.into(), 16)?;
        let kind = global_kind(access.n & super::memory::WRITES != 0, i.n & REDUCES != 0);
        check_range(cx, i, l, address, size.into(), kind)?;
        host
    };
    Ok(Row { global, skip: 0, length: size, at: 0 })
}

/// How a copy acts on global memory.
pub(crate) fn global_kind(writes: bool, reduces: bool) -> Kind {
    Kind { reads: !writes || reduces, writes, strong: reduces, bulk: true, ..Kind::default() }
}

/// A NaN in each element of 16 bytes.
fn nan(size: u64) -> u128 {
    let one = (1u128 << (8 * size - 1)) - 1;
    (0..16 / size).fold(0, |all, k| all | one << (8 * size * k))
}

/// For the checks: the copy uses an mbarrier.
fn touch(cx: &mut Cx, i: &Instr, l: usize, (rank, at): (u32, u32)) -> Result<(), String> {
    let found = check_shared(cx, i, l, (rank, at.into()), 8, Kind { strong: true, barrier: true, ..READS });
    found.map_err(|wrong| other_line(cx, wrong))
}

/// # Safety
/// The mbarrier and, for a multicast, the mask must be listed.
unsafe fn report_to_barrier(cx: &mut Cx, i: &Instr, l: usize, mut transfer: Transfer) -> Result<(), String> {
    // SAFETY: by contract.
    let address = unsafe { listed(cx, i, LIST_BARRIER, l) };
    let (rank, place) = locate(cx, SHARED, address, true)?;
    if rank != transfer.rank {
        return Err(format!(
            "a bulk copy to block {} of the cluster that reports to an mbarrier of block {rank}",
            transfer.rank
        ));
    }
    if i.n & MULTICAST == 0 {
        touch(cx, i, l, (rank, place))?;
        begin(cx, i, l, &mut transfer, WRITES)?;
        issued(cx, (rank, place));
        barrier(cx, rank, place)?.deferred.push_back(Deferred::Bulk(Box::new(transfer)));
        return Ok(());
    }
    // SAFETY: by contract.
    let mask = unsafe { mask(cx, i, l) };
    let blocks = cx.cluster.peers.len();
    if mask == 0 || mask >> blocks != 0 {
        return Err(format!("a multicast to the blocks {mask:#06x} of a cluster of {blocks}"));
    }
    for rank in lanes_of(mask) {
        let mut copy = Transfer { rank: rank as u32, rows: transfer.rows.clone(), ..transfer };
        touch(cx, i, l, (rank as u32, place))?;
        begin(cx, i, l, &mut copy, WRITES)?;
        issued(cx, (rank as u32, place));
        barrier(cx, rank as u32, place)?.deferred.push_back(Deferred::Bulk(Box::new(copy)));
    }
    Ok(())
}

/// For the checks: a copy that reports to an mbarrier is under way.
fn issued(cx: &mut Cx, barrier: (u32, u32)) {
    if let Some(checks) = &mut cx.checks {
        checks.bulk_issued(barrier, cx.warp_in_cluster);
    }
}

/// `cp.async.bulk.commit_group`.
pub(crate) struct CommitBulk;
/// `cp.async.bulk.wait_group n`: all but the last `n` groups; `c`: only their reading.
pub(crate) struct WaitBulk;

impl Handler for CommitBulk {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, _: &Instr, m: u32) -> Flow {
        for l in lanes_of(m) {
            cx.stores[cx.warp_in_cluster as usize].committed[l] += 1;
        }
        Flow::Next
    }
}

impl Handler for WaitBulk {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let due = |s: &Store, committed: &[u32; LANES]| {
            m >> s.lane & 1 != 0 && s.group < committed[s.lane as usize].saturating_sub(i.n)
        };
        match carry_out(cx, cx.warp_in_cluster as usize, i.c == 0, due) {
            Ok(()) => Flow::Next,
            Err(((.., lane), what)) => cx.fail(lane, what),
        }
    }
}
