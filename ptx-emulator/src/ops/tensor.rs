//! Bulk tensor copies: the rows of a tensor map's box; maps that a kernel changes.

use super::bulk::{global_kind, listed};
use super::cluster::in_window;
use super::memory::{GENERIC, GLOBAL, SHARED, WRITES, addresses, place};
use super::mma::whole_warp;
use super::observe::check_shared;
use super::observe_global::{acquire_map, check_map, check_range};
use super::transfer::Row;
use super::{Cx, Flow, Handler, Instr, LANES, lanes_of};
use crate::checks::Kind;
use crate::memory::{LOCAL_WINDOW, SHARED_WINDOW, WINDOW, near};
use crate::tensor_map::{FIELDS, MAX_RANK, TensorMap, replace};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence};

/// The map at a generic address, which is one of a kernel's parameters, of constant or of global memory. The checks see a read of the
/// whole map by the thread that issues the copy.
pub(crate) fn map_at(cx: &mut Cx, i: &Instr, lane: usize, address: u64) -> Result<TensorMap, String> {
    // PTX manual, `cp.async.bulk.tensor`: the map lies in .param, .const or .global memory.
    if let Some(space) = of_block(address) {
        return Err(format!(
            "the tensor map at address {address:#x} lies in {space} memory, where no copy takes it from: it must lie in global or constant memory or among the parameters"
        ));
    }
    let mut read = *i;
    read.n &= !WRITES;
    let host = place(cx, GENERIC, &read, lane, address, MAP, MAP_ALIGN)?;
    check_range(cx, i, lane, address, MAP, Kind { reads: true, ..Kind::default() })?;
    check_map(cx, i, lane, address, MAP)?;
    // SAFETY: `place` found 128 bytes of the emulated device at a multiple of 64.
    let bytes = bytes_of(unsafe { words_at(host) });
    let map = TensorMap::decode(&bytes).ok_or_else(|| {
        format!(
            "no tensor map lies at address {address:#x}: it comes from `TensorMap::encode` of the emulator, or from `tensormap.replace`"
        )
    })?;
    // The kernel may have put it together.
    map.check().map_err(|e| format!("at address {address:#x}: {e}"))?;
    Ok(map)
}

/// Bytes of a map.
const MAP: u64 = 128;
/// Maps lie at multiples of this.
const MAP_ALIGN: u64 = 64;
/// Words of a map.
const MAP_WORDS: usize = MAP as usize / 8;

/// The words of a map. Blocks on other host threads may change a map in global memory meanwhile: a data race of the kernel, which is
/// none of the emulator, since all of them go through atomics.
///
/// # Safety
/// `host` is a place of the emulated device of 128 bytes, a multiple of 8, which other threads access through atomics alone and which
/// outlives `'m`.
unsafe fn words_at<'m>(host: usize) -> &'m [AtomicU64; MAP_WORDS] {
    // SAFETY: valid and aligned by contract; an array of atomics is laid out as its words.
    unsafe { &*(host as *const [AtomicU64; MAP_WORDS]) }
}

fn bytes_of(words: &[AtomicU64; MAP_WORDS]) -> [u8; MAP as usize] {
    let mut bytes = [0; MAP as usize];
    for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.load(Relaxed).to_le_bytes();
    }
    bytes
}

/// The name of the memory of a block or thread that has a generic address.
fn of_block(address: u64) -> Option<&'static str> {
    let within = |base: u64| address.checked_sub(base).is_some_and(|o| o < WINDOW);
    [(SHARED_WINDOW, "shared"), (LOCAL_WINDOW, "local")]
        .into_iter()
        .find_map(|(base, name)| within(base).then_some(name))
}

/// `tensormap.replace`: address `a` as of a store, new value `b` (64 bits), field `c`, ordinal `d`, space `e`.
pub(crate) struct ReplaceField;
/// `tensormap.cp_fenceproxy`: the 128 bytes of a map from the own block's shared to global memory. Listed at `b`: the global address,
/// then the shared one, as those of bulk copies; `n` is the fence that it is for the checks.
pub(crate) struct CopyMap;

/// `fence.proxy.tensormap::generic`: `c` is the fence that it is for the checks; where `d` is not 0 it acquires the map at the address
/// `a`, otherwise it releases.
pub(crate) struct MapFence;

/// The host's place of a map, which is looked at as an access of the generic proxy.
fn map_place(
    cx: &mut Cx,
    i: &Instr,
    lane: usize,
    (space, address): (u8, u64),
    kind: Kind,
) -> Result<usize, String> {
    // PTX manual, `tensormap.replace`: the map lies in .global or .shared::cta memory.
    if space == GENERIC && of_block(address) == Some("local") {
        return Err(format!(
            "the tensor map at address {address:#x} lies in local memory: it must lie in global or shared memory"
        ));
    }
    let mut access = *i;
    access.n = access.n & !WRITES | if kind.writes { WRITES } else { 0 };
    let host = place(cx, space, &access, lane, address, MAP, MAP_ALIGN)?;
    let shared = (space != GLOBAL).then(|| in_window(space, address).ok()).flatten();
    match shared {
        Some(offset) => {
            let at = cx.cluster.split(offset)?;
            check_shared(cx, i, lane, at, MAP, kind).map_err(|(what, other)| {
                cx.other = other;
                what
            })?;
        }
        None => check_range(cx, i, lane, address, MAP, kind)?,
    }
    Ok(host)
}

impl Handler for ReplaceField {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let kind = Kind { reads: true, writes: true, ..Kind::default() };
        for l in lanes_of(m) {
            // SAFETY: the decoder gave an address and a 64-bit register.
            let (address, value) = unsafe { (addresses(cx, i)[l], cx.lanes::<u64>(i.b)[l]) };
            let host = match map_place(cx, i, l, (i.e as u8, address), kind) {
                Ok(host) => host,
                Err(what) => return cx.fail(l as u32, what),
            };
            // SAFETY: `place` found 128 bytes of the emulated device at a multiple of 64.
            let words = unsafe { words_at(host) };
            let mut bytes = bytes_of(words);
            if let Err(what) = replace(&mut bytes, FIELDS[i.c as usize], i.d as usize, value) {
                return cx.fail(l as u32, format!("the tensor map at address {address:#x}: {what}"));
            }
            for (word, bytes) in words.iter().zip(bytes.as_chunks().0) {
                word.store(u64::from_le_bytes(*bytes), Relaxed);
            }
        }
        Flow::Next
    }
}

impl Handler for CopyMap {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if let Err(flow) = whole_warp(cx, m) {
            return flow;
        }
        // SAFETY: the decoder listed both addresses.
        let at = |cx: &Cx, l: usize| unsafe { (listed(cx, i, 0, l), listed(cx, i, 4, l)) };
        let (to, from) = at(cx, 0);
        if let Some(lane) = (1..LANES).find(|&l| at(cx, l) != (to, from)) {
            return cx.fail(lane as u32, "the lanes of the warp copy different tensor maps".into());
        }
        let (reads, writes) =
            (Kind { reads: true, ..Kind::default() }, Kind { writes: true, ..Kind::default() });
        let places = map_place(cx, i, 0, (SHARED, from), reads)
            .and_then(|from| Ok((from, map_place(cx, i, 0, (GLOBAL, to), writes)?)));
        match places {
            Ok((from, to)) => {
                // SAFETY: `place` found 128 bytes of the emulated device at multiples of 64 for both.
                let (to, from) = unsafe { (words_at(to), words_at(from)) };
                for (to, from) in to.iter().zip(from) {
                    to.store(from.load(Relaxed), Relaxed);
                }
                cx.traffic.shared_load += MAP;
                cx.traffic.global_store += MAP;
                if let Some(checks) = &mut cx.checks {
                    // `.release`: who sees it by an acquire pattern sees the map.
                    checks.fence_memory(cx.warp_in_cluster, i.n);
                    checks.release_maps(cx.warp_in_cluster);
                }
                Flow::Next
            }
            Err(what) => cx.fail(0, what),
        }
    }
}

impl Handler for MapFence {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if let Some(checks) = &mut cx.checks {
            // These order memory as well: PTX manual, "membar, fence".
            checks.fence_memory(cx.warp_in_cluster, i.c);
            if i.d == 0 {
                checks.release_maps(cx.warp_in_cluster);
            }
        }
        fence(SeqCst);
        if i.d == 0 {
            return Flow::Next;
        }
        // SAFETY: the decoder gave an address.
        let addresses = unsafe { addresses(cx, i) };
        let mut last = None;
        for l in lanes_of(m) {
            let address = addresses[l];
            if last.replace(address) == Some(address) {
                continue;
            }
            // The same section: the address must fall within global memory.
            let Some(segment) = cx.memory.find(address, MAP) else {
                let what = format!(
                    "a fence for the {MAP} bytes of a tensor map at address {address:#x}, which are not all of global memory: {}",
                    near(cx.memory, address)
                );
                return cx.fail(l as u32, what);
            };
            acquire_map(cx, &segment, address, MAP);
        }
        Flow::Next
    }
}

/// The rows of the box at these coordinates, the innermost first, and where each lies in memory, if anywhere.
pub(crate) fn rows(
    cx: &mut Cx,
    i: &Instr,
    lane: usize,
    map: &TensorMap,
    coordinates: &[i32],
    reduces: bool,
) -> Result<Vec<Row>, String> {
    if map.box_bytes() > cx.shared_len {
        return Err(format!(
            "a box of {} bytes, where the block has {} of shared memory",
            map.box_bytes(),
            cx.shared_len
        ));
    }
    let rank = map.sizes.len();
    let kind = global_kind(i.n & super::memory::WRITES != 0, reduces);
    let (size, inner) = (map.data_type.size(), u64::from(map.box_sizes[0]) * map.data_type.size());
    let mut counts = [1u32; MAX_RANK];
    for (count, (size, step)) in counts.iter_mut().zip(map.box_sizes.iter().zip(&map.element_strides)).skip(1)
    {
        *count = size.div_ceil(*step);
    }
    // The part of every row that lies in the tensor.
    let first = i64::from(coordinates[0]);
    let clip = |x: i64| x.clamp(0, map.sizes[0] as i64);
    let (low, high) = (clip(first), clip(first + i64::from(map.box_sizes[0])));
    let length = (high - low) as u64 * size;
    let skip = if length == 0 { 0 } else { (low - first) as u64 * size };
    let mut rows = Vec::with_capacity(counts.iter().product::<u32>() as usize);
    let mut step = [0u32; MAX_RANK];
    loop {
        let mut address = map.address.wrapping_add((low as u64).wrapping_mul(size));
        let mut inside = length != 0;
        for k in 1..rank {
            let at = i64::from(coordinates[k]) + i64::from(step[k] * map.element_strides[k]);
            inside &= (0..map.sizes[k] as i64).contains(&at);
            address = address.wrapping_add((at as u64).wrapping_mul(map.strides[k - 1]));
        }
        let host = if inside { place(cx, GLOBAL, i, lane, address, length, 1)? } else { 0 };
        if inside {
            check_range(cx, i, lane, address, length, kind)?;
        }
        rows.push(Row {
            global: host,
            skip: skip as u32,
            length: if inside { length as u32 } else { 0 },
            at: rows.len() as u32 * inner as u32,
        });
        let Some(next) = (1..rank).find(|&k| step[k] + 1 < counts[k]) else { return Ok(rows) };
        step[..next].fill(0);
        step[next] += 1;
    }
}
