//! Counters of memory accesses, by instruction, where a launch asks for them.

use super::memory::{ATOMIC, CONST, GENERIC, GLOBAL, LOCAL, SHARED, WRITES};
use super::{Cx, Instr, LANES, lanes_of};
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW};
use crate::stats::SECTOR;

/// Banks of shared memory, each 4 bytes wide.
const BANKS: usize = 32;
/// Bytes that a wavefront can move.
const WAVEFRONT: u64 = 128;

/// Wavefronts that so many bytes of shared memory take at least.
pub(crate) fn least_wavefronts(bytes: u64) -> u64 {
    bytes.div_ceil(WAVEFRONT)
}

/// What one instruction did to memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Accesses {
    pub shared_load: u64,
    pub shared_store: u64,
    pub global_load: u64,
    pub global_store: u64,
    pub constant_load: u64,
    pub local_load: u64,
    pub local_store: u64,
    pub wavefronts: u64,
    pub conflicts: u64,
    pub requests: u64,
    pub sectors: u64,
}

impl std::ops::AddAssign<&Accesses> for Accesses {
    fn add_assign(&mut self, other: &Accesses) {
        self.shared_load += other.shared_load;
        self.shared_store += other.shared_store;
        self.global_load += other.global_load;
        self.global_store += other.global_store;
        self.constant_load += other.constant_load;
        self.local_load += other.local_load;
        self.local_store += other.local_store;
        self.wavefronts += other.wavefronts;
        self.conflicts += other.conflicts;
        self.requests += other.requests;
        self.sectors += other.sectors;
    }
}

/// Counts an access of `size` bytes by each lane in `m`, at the addresses `at` of the space that the instruction names.
#[inline(never)]
pub(crate) fn record(cx: &mut Cx, i: &Instr, m: u32, at: &[u64; LANES], size: u64, space: u8) {
    let within = |base: u64| {
        let inside = lanes_of(m).filter(|&l| at[l].checked_sub(base).is_some_and(|o| o < WINDOW));
        inside.map(|l| 1 << l).sum::<u32>()
    };
    let (shared, local, outside) = match space {
        SHARED => (m, 0, 0),
        LOCAL => (0, m, 0),
        GLOBAL | CONST => (0, 0, m),
        GENERIC => {
            let (shared, local) = (within(SHARED_WINDOW), within(LOCAL_WINDOW));
            (shared, local, m & !shared & !local & !within(PARAM_WINDOW))
        }
        _ => (0, 0, 0),
    };
    let constant = if space == CONST { m } else { constants(cx, i, outside, at) };
    let global = outside & !constant;
    let Some(all) = cx.profile.get_mut(i.at as usize) else { return };
    let bytes = |lanes: u32| u64::from(lanes.count_ones()) * size;
    if i.n & WRITES != 0 {
        all.shared_store += bytes(shared);
        all.local_store += bytes(local);
        all.global_store += bytes(global);
    } else {
        all.shared_load += bytes(shared);
        all.local_load += bytes(local);
        all.constant_load += bytes(constant);
        all.global_load += bytes(global);
    }
    if shared != 0 {
        let (wavefronts, least) = wavefronts(shared, at, size, i.n & ATOMIC != 0);
        all.wavefronts += wavefronts;
        all.conflicts += wavefronts - least;
    }
    if global != 0 {
        all.requests += 1;
        all.sectors += sectors(global, at, size);
    }
}

/// The lanes in `m`, which access global memory or constants, that read constants.
fn constants(cx: &Cx, i: &Instr, m: u32, at: &[u64; LANES]) -> u32 {
    if m == 0 {
        return 0;
    }
    let met = &cx.caches[i.slot as usize];
    if lanes_of(m).all(|l| at[l] >= met.start && at[l] < met.end) {
        return if met.read_only { m } else { 0 };
    }
    let is_constant = |l: &usize| cx.memory.find(at[*l], 1).is_some_and(|segment| segment.read_only);
    lanes_of(m).filter(is_constant).map(|l| 1 << l).sum()
}

/// Wavefronts of an access to shared memory, and how many it needs at least.
///
/// Accesses of up to 4 bytes go out for all lanes at once, of 8 bytes for half a warp, of 16 for a quarter. In each part lanes that
/// name the same word share it, and the part takes as many wavefronts as the busiest bank has words. Atomics do not share.
fn wavefronts(m: u32, at: &[u64; LANES], size: u64, atomic: bool) -> (u64, u64) {
    // Accesses are aligned to their size, so that one of several words uses banks that no other shares in part.
    let unit = size.clamp(4, WAVEFRONT);
    let lanes = (WAVEFRONT / unit) as usize;
    let (mut total, mut least) = (0, 0);
    for first in (0..LANES).step_by(lanes) {
        let part = m >> first & (!0u32 >> (LANES - lanes));
        if part == 0 {
            continue;
        }
        least += 1;
        let units = || lanes_of(part).map(|l| at[first + l] / unit);
        let mut seen = [u64::MAX; BANKS];
        let alone = !atomic
            && units().all(|u| {
                let seen = &mut seen[u as usize % lanes];
                *seen == u || std::mem::replace(seen, u) == u64::MAX
            });
        total += if alone { 1 } else { busiest(units(), lanes, atomic) };
    }
    (total, least)
}

/// The most units, different ones unless all count, that share a bank of `banks`.
fn busiest(units: impl Iterator<Item = u64>, banks: usize, all: bool) -> u64 {
    let mut found = [0u64; LANES];
    let mut count = 0;
    for unit in units {
        if all || !found[..count].contains(&unit) {
            found[count] = unit;
            count += 1;
        }
    }
    let mut load = [0u64; BANKS];
    for &unit in &found[..count] {
        load[unit as usize % banks] += 1;
    }
    load.iter().max().copied().unwrap_or(0)
}

/// Different sectors that the lanes touch.
fn sectors(m: u32, at: &[u64; LANES], size: u64) -> u64 {
    let mut found = [u64::MAX; 2 * LANES];
    for l in lanes_of(m) {
        found[2 * l] = at[l] / SECTOR;
        found[2 * l + 1] = (at[l] + size - 1) / SECTOR;
    }
    found.sort_unstable();
    let mut count = 0;
    let mut last = u64::MAX;
    for sector in found {
        count += u64::from(sector != last);
        last = sector;
    }
    // The filler comes last and equals the first `last`: it counts once, where there is any and anything else.
    count - u64::from(count > 0 && last == u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(size: u64, f: impl Fn(u64) -> u64) -> (u64, u64) {
        wavefronts(!0, &std::array::from_fn(|l| f(l as u64)), size, false)
    }

    #[test]
    fn wavefronts_by_width_and_stride() {
        // Neighbouring words, one word for all, bytes.
        assert_eq!(waves(4, |l| 4 * l), (1, 1));
        assert_eq!(waves(4, |_| 64), (1, 1));
        assert_eq!(waves(1, |l| l), (1, 1));
        // Every second word: two lanes a bank; every 32nd: all in one.
        assert_eq!(waves(4, |l| 8 * l), (2, 1));
        assert_eq!(waves(4, |l| 128 * l), (32, 1));
        assert_eq!(waves(4, |l| 132 * l), (1, 1));
        // 8 and 16 bytes in a row need 2 and 4.
        assert_eq!(waves(8, |l| 8 * l), (2, 2));
        assert_eq!(waves(16, |l| 16 * l), (4, 4));
        // Rows of 128 bytes, the same 16 bytes of each: 8 lanes on the same 4 banks, 4 times.
        assert_eq!(waves(16, |l| 128 * l), (32, 4));
        // Swizzled: every lane of a quarter has its own 16 bytes of the 128.
        assert_eq!(waves(16, |l| 128 * l + 16 * (l % 8)), (4, 4));
        // 8 bytes at a stride of 16: the half warp's 16 lanes use half of the banks, twice.
        assert_eq!(waves(8, |l| 16 * l), (4, 2));
    }

    #[test]
    fn inactive_lanes_need_nothing_and_atomics_do_not_share() {
        let row: [u64; LANES] = std::array::from_fn(|l| 16 * l as u64);
        assert_eq!(wavefronts(0xff, &row, 16, false), (1, 1));
        assert_eq!(wavefronts(0x8000_0001, &row, 16, false), (2, 2));
        assert_eq!(wavefronts(!0, &[8; LANES], 4, true), (32, 1));
    }

    #[test]
    fn sectors_are_counted_once() {
        let at = |f: fn(u64) -> u64| -> [u64; LANES] { std::array::from_fn(|l| f(l as u64)) };
        assert_eq!(sectors(!0, &at(|l| 4 * l), 4), 4);
        assert_eq!(sectors(!0, &at(|l| 4 * l + 16), 4), 5);
        assert_eq!(sectors(!0, &at(|_| 4096), 8), 1);
        assert_eq!(sectors(!0, &at(|l| 16 * l), 16), 16);
        assert_eq!(sectors(!0, &at(|l| 256 * l), 4), 32);
        assert_eq!(sectors(3, &at(|l| 32 * l), 4), 2);
        assert_eq!(sectors(1 << 31, &at(|l| 32 * l), 4), 1);
    }
}
