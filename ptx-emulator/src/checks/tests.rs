//! Accesses to shared memory in random order and places, held against a list of all that ever happened.

use super::history::{Instruction, WARPS, WORDS, hold_against};
use super::*;
use crate::ops::{LANES, lanes_of};

fn meet(checks: &mut Checks, warps: &[usize]) {
    let mut barrier = Knowledge::at(0);
    warps.iter().for_each(|&w| checks.arrive(&mut barrier, w as u32, true));
    checks.complete(barrier, warps.iter().map(|w| 1 << w).sum());
}

/// All words are written, and everybody knows.
fn begin() -> Checks {
    let mut checks = Checks::new(WORDS * 4, 0, 1, WARPS, Arc::default());
    checks.begin(0);
    let kind = Kind { writes: true, ..Kind::default() };
    checks.access_lanes(0, 0, (WORDS * 4, 8), 1, Access { warp: 0, lane: 0, pc: 1000, kind }).unwrap();
    meet(&mut checks, &[0, 1, 2]);
    checks
}

/// As `ops::observe` does: all lanes in one pass, or lanes one after another at once, or each alone.
fn found(checks: &mut Checks, i: &Instruction, number: u32) -> bool {
    let kind = Kind { reads: i.reads, writes: i.writes, strong: i.strong, ..Kind::default() };
    let who = Access { warp: i.warp as u32, lane: 0, pc: number, kind };
    let follow = (1..LANES).all(|l| i.offsets[l] == i.offsets[l - 1] + i.step);
    if i.m == !0 && follow && i.step >= 4 {
        let size = LANES as u64 * i.step;
        return !checks.is_noted(0, i.offsets[0], (size, i.step), 1, who)
            && checks.access_lanes(0, i.offsets[0], (size, i.step), 1, who).is_err();
    }
    let alone = |checks: &mut Checks, l: usize| {
        checks.access(0, i.offsets[l], i.step, Access { lane: l as u32, ..who }).is_err()
    };
    checks.access_scattered(0, i.m, &i.offsets, i.step, who).is_err_and(|first| {
        first.is_some_and(|l| alone(checks, l as usize)) || lanes_of(i.m).any(|l| alone(checks, l))
    })
}

#[test]
fn accesses_of_words_race_where_the_list_of_all_says() {
    let good = hold_against((WARPS, true, true), begin, meet, found);
    assert!(good > 10_000, "{good} instructions are too few");
}

#[test]
fn accesses_of_parts_and_of_other_strength_are_accused_only_where_they_race() {
    let good = hold_against((WARPS, false, true), begin, meet, found);
    assert!(good > 10_000, "{good} instructions are too few");
}

const READ: Kind =
    Kind { reads: true, writes: false, strong: false, copy: false, bulk: false, barrier: false };
const WRITE: Kind = Kind { reads: false, writes: true, ..READ };

fn by(warp: u32, kind: Kind) -> Access {
    Access { warp, lane: 7, pc: 100 + warp, kind }
}

fn party(warp: u32) -> Party {
    Party { warp, lane: Some(7), pc: Some(100 + warp) }
}

/// A barrier at which these warps wait.
fn sync(checks: &mut Checks, warps: &[u32]) {
    let mut clock = Knowledge::at(0);
    for &w in warps {
        checks.arrive(&mut clock, w, true);
    }
    checks.complete(clock, warps.iter().map(|w| 1u64 << w).sum());
}

fn fresh(warps: usize) -> Checks {
    let mut checks = Checks::new(1024, 0, 1, warps, Arc::default());
    checks.begin(0);
    checks
}

#[test]
fn order_passes_from_barrier_to_barrier() {
    let mut checks = fresh(3);
    checks.access(0, 16, 4, by(0, WRITE)).unwrap();
    assert_eq!(checks.access(0, 16, 4, by(1, READ)), Err(Wrong::AfterWrite(party(0))));
    sync(&mut checks, &[0, 1]);
    checks.access(0, 16, 4, by(1, READ)).unwrap();
    // Warp 2 was not there.
    assert_eq!(checks.access(0, 16, 4, by(2, READ)), Err(Wrong::AfterWrite(party(0))));
    // It meets warp 1, which has met warp 0.
    sync(&mut checks, &[1, 2]);
    checks.access(0, 16, 4, by(2, READ)).unwrap();
    // Warp 0 does not know of the reads.
    assert_eq!(checks.access(0, 16, 4, by(0, WRITE)), Err(Wrong::AfterRead(party(2))));
    sync(&mut checks, &[0, 1, 2]);
    checks.access(0, 16, 4, by(0, WRITE)).unwrap();
}

#[test]
fn readers_at_different_times_are_all_remembered() {
    let mut checks = fresh(4);
    for byte in 0..4 {
        checks.access(0, byte, 1, by(3, WRITE)).unwrap();
    }
    sync(&mut checks, &[0, 1, 2, 3]);
    checks.access(0, 0, 4, by(0, READ)).unwrap();
    sync(&mut checks, &[2, 3]);
    checks.access(0, 0, 4, by(1, READ)).unwrap();
    sync(&mut checks, &[1, 2]);
    // Ordered after the read of warp 1, not after that of warp 0, whose place is no longer known.
    let reader = Party { warp: 0, lane: None, pc: None };
    assert_eq!(checks.access(0, 0, 4, by(2, WRITE)), Err(Wrong::AfterRead(reader)));
    sync(&mut checks, &[0, 2]);
    checks.access(0, 0, 4, by(2, WRITE)).unwrap();
}

#[test]
fn arrivals_order_what_came_before_them() {
    let mut checks = fresh(2);
    checks.access(0, 0, 4, by(0, WRITE)).unwrap();
    let mut clock = Knowledge::at(0);
    checks.arrive(&mut clock, 0, false);
    checks.access(0, 64, 4, by(0, WRITE)).unwrap();
    checks.arrive(&mut clock, 1, true);
    checks.complete(clock, 2);
    checks.access(0, 0, 4, by(1, READ)).unwrap();
    assert_eq!(checks.access(0, 64, 4, by(1, READ)), Err(Wrong::AfterWrite(party(0))));
    // The warp that only arrived knows nothing of the other.
    assert_eq!(checks.access(0, 0, 4, by(0, WRITE)), Err(Wrong::AfterRead(party(1))));
}

#[test]
fn blocks_and_bytes_are_apart() {
    let mut checks = fresh(2);
    checks.access(0, 0, 2, by(0, WRITE)).unwrap();
    checks.access(0, 2, 2, by(1, WRITE)).unwrap();
    assert_eq!(checks.access(0, 3, 1, by(0, WRITE)), Err(Wrong::AfterWrite(party(1))));
    checks.begin(1);
    assert_eq!(checks.access(0, 0, 2, by(1, READ)), Err(Wrong::Unwritten));
    checks.access(0, 0, 4, by(1, WRITE)).unwrap();
}

#[test]
fn a_copy_owns_its_bytes_until_the_wait() {
    let mut checks = fresh(2);
    let copy = Kind { copy: true, ..WRITE };
    checks.access(0, 32, 16, by(0, copy)).unwrap();
    for kind in [READ, WRITE, copy] {
        assert_eq!(checks.access(0, 40, 4, by(0, kind)), Err(Wrong::Owned(party(0))));
    }
    checks.copied(0, 32, 16);
    checks.access(0, 40, 4, by(0, READ)).unwrap();
    assert_eq!(checks.access(0, 36, 4, by(1, READ)), Err(Wrong::AfterWrite(party(0))));
    sync(&mut checks, &[0, 1]);
    checks.access(0, 32, 16, by(1, READ)).unwrap();
}
