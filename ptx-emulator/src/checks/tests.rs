//! Accesses to shared memory in random order and places, held against a list of all that ever happened.

use super::history::{Instruction, WARPS, WORDS, hold_against, meet};
use super::*;
use crate::ops::lanes_of;
use crate::ops::observe_global::next_run;

/// All words are written, and everybody knows.
fn begin() -> Checks {
    let mut checks = Checks::new(WORDS * 4, 0, 1, WARPS, Arc::default());
    checks.begin(0);
    let kind = Kind { writes: true, ..Kind::default() };
    checks.access_lanes(0, 0, (WORDS * 4, 8), 1, Access { warp: 0, lane: 0, pc: 1000, kind }).unwrap();
    meet(&mut checks, &[0, 1, 2]);
    checks
}

/// As `ops::observe` does: lanes one after another at once, or all lanes in one pass; where that finds something, run after run.
fn found(checks: &mut Checks, i: &Instruction, number: u32) -> bool {
    let kind = Kind { reads: i.reads, writes: i.writes, strong: i.strong, ..Kind::default() };
    let who = Access { warp: i.warp as u32, lane: 0, pc: number, kind };
    let alone = |checks: &mut Checks, l: usize| {
        checks.access(0, i.offsets[l], i.step, Access { lane: l as u32, ..who }).is_err()
    };
    let mut rest = i.m;
    next_run(&mut rest, &i.offsets, i.step, i.writes);
    if rest != 0 || i.step < 4 {
        match checks.access_scattered(0, i.m, &i.offsets, i.step, who) {
            Ok(()) => return false,
            Err(Some(first)) if alone(checks, first as usize) => return true,
            Err(_) => {}
        }
    }
    let mut rest = i.m;
    while rest != 0 {
        let before = rest;
        let lanes = next_run(&mut rest, &i.offsets, i.step, i.writes);
        let (first, size) = (i.offsets[lanes.first as usize], lanes.pieces * i.step);
        let who = Access { lane: lanes.first, ..who };
        let wrong = if i.step < 4 {
            lanes_of(before & !rest).any(|l| alone(checks, l))
        } else {
            !checks.is_noted(0, first, (size, i.step), lanes.each, who)
                && checks.access_lanes(0, first, (size, i.step), lanes.each, who).is_err()
        };
        if wrong {
            return true;
        }
    }
    false
}

#[test]
fn accesses_of_words_race_where_the_list_of_all_says() {
    let good = hold_against((WARPS, true, true), begin, found);
    assert!(good > 10_000, "{good} instructions are too few");
}

#[test]
fn accesses_of_parts_and_of_other_strength_are_accused_only_where_they_race() {
    let good = hold_against((WARPS, false, true), begin, found);
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
    meet(&mut checks, &[0, 1]);
    checks.access(0, 16, 4, by(1, READ)).unwrap();
    // Warp 2 was not there.
    assert_eq!(checks.access(0, 16, 4, by(2, READ)), Err(Wrong::AfterWrite(party(0))));
    // It meets warp 1, which has met warp 0.
    meet(&mut checks, &[1, 2]);
    checks.access(0, 16, 4, by(2, READ)).unwrap();
    // Warp 0 does not know of the reads.
    assert_eq!(checks.access(0, 16, 4, by(0, WRITE)), Err(Wrong::AfterRead(party(2))));
    meet(&mut checks, &[0, 1, 2]);
    checks.access(0, 16, 4, by(0, WRITE)).unwrap();
}

#[test]
fn readers_at_different_times_are_all_remembered() {
    let mut checks = fresh(4);
    for byte in 0..4 {
        checks.access(0, byte, 1, by(3, WRITE)).unwrap();
    }
    meet(&mut checks, &[0, 1, 2, 3]);
    checks.access(0, 0, 4, by(0, READ)).unwrap();
    meet(&mut checks, &[2, 3]);
    checks.access(0, 0, 4, by(1, READ)).unwrap();
    meet(&mut checks, &[1, 2]);
    // Ordered after the read of warp 1, not after that of warp 0, whose place is no longer known.
    let reader = Party { warp: 0, lane: None, pc: None };
    assert_eq!(checks.access(0, 0, 4, by(2, WRITE)), Err(Wrong::AfterRead(reader)));
    meet(&mut checks, &[0, 2]);
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
fn lanes_of_wide_reads_are_known_beside_a_word_looked_at_closely() {
    let mut checks = begin();
    checks.access(0, 0, 4, by(0, READ)).unwrap();
    meet(&mut checks, &[0, 2]);
    // The first word has a read of another time.
    checks.access_lanes(0, 0, (16, 8), 1, Access { lane: 0, ..by(1, READ) }).unwrap();
    meet(&mut checks, &[0, 2]);
    let write = |lane| Access { lane, ..by(1, WRITE) };
    assert!(matches!(checks.access(0, 8, 8, write(0)), Err(Wrong::AfterRead(Party { lane: Some(1), .. }))));
    checks.access(0, 8, 8, write(1)).unwrap();
}

#[test]
fn a_lanes_second_read_hides_no_others() {
    let mut checks = fresh(3);
    checks.access(0, 48, 4, by(2, WRITE)).unwrap();
    meet(&mut checks, &[0, 2]);
    for lane in 6..8 {
        checks.access(0, 48, 4, Access { lane, ..by(0, READ) }).unwrap();
    }
    meet(&mut checks, &[1, 2]);
    checks.access(0, 48, 4, by(0, READ)).unwrap();
    assert!(matches!(checks.access(0, 48, 4, by(0, WRITE)), Err(Wrong::AfterRead(Party { warp: 0, .. }))));
    meet(&mut checks, &[0]);
    checks.access(0, 48, 4, by(0, WRITE)).unwrap();
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
    meet(&mut checks, &[0, 1]);
    checks.access(0, 32, 16, by(1, READ)).unwrap();
}
