//! Accesses of lanes in random order and places, held against a list of all that ever happened.

use super::*;
use crate::checks::history::{Instruction, WARPS, WORDS, hold_against};
use std::sync::Arc;

fn begin() -> Checks {
    let global = Global::new([WORDS * 4].into_iter(), Shape::default(), true);
    let mut checks = Checks::new(1024, 0, 1, WARPS, Arc::new(global));
    checks.begin(0);
    checks
}

fn found(checks: &mut Checks, i: &Instruction, number: u32) -> bool {
    let run = Run {
        segment: 0,
        offset: 0,
        length: i.step,
        lane: 0,
        step: i.step,
        each: 1,
        warp: i.warp as u32,
        pc: number,
        scope: if i.strong { DEVICE } else { WEAK },
        bulk: false,
        writes: i.writes,
    };
    if i.m == !0 && (1..LANES).all(|l| i.offsets[l] == i.offsets[l - 1] + i.step) {
        return checks.touch(&Run { offset: i.offsets[0], length: LANES as u64 * i.step, ..run }).is_err();
    }
    !checks.is_touched(&run, &i.offsets) && checks.touch_lanes(&run, i.m, &i.offsets).is_err()
}

#[test]
fn accesses_of_words_race_where_the_list_of_all_says() {
    // Of more than two readers of a word two are remembered.
    let good = hold_against((2, true, false), begin, found);
    assert!(good > 10_000, "{good} instructions are too few");
}

#[test]
fn accesses_of_parts_and_of_other_strength_are_accused_only_where_they_race() {
    let good = hold_against((WARPS, false, false), begin, found);
    assert!(good > 10_000, "{good} instructions are too few");
}
