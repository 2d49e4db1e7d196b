//! Accesses of lanes in random order and places, held against a list of all that ever happened.

use super::*;
use crate::checks::Knowledge;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::sync::Arc;

const WARPS: usize = 3;
const WORDS: u64 = 64;

/// An access of a warp to bytes of a word, the how-many-th of the warp.
struct Event {
    warp: usize,
    number: usize,
    word: u64,
    bytes: u8,
    writes: bool,
    strong: bool,
}

/// All events, how many each warp has had, and of each other warp how many come before what it does next.
#[derive(Default)]
struct History {
    events: Vec<Event>,
    count: [usize; WARPS],
    seen: [[usize; WARPS]; WARPS],
}

impl History {
    fn meet(&mut self, warps: &[usize]) {
        let mut all = [0; WARPS];
        for &w in warps {
            self.seen[w][w] = self.count[w];
            all = std::array::from_fn(|v| all[v].max(self.seen[w][v]));
        }
        warps.iter().for_each(|&w| self.seen[w] = all);
    }

    /// The bytes of each word that an access touches.
    fn parts(run: &Run, m: u32, offsets: &[u64; LANES]) -> Vec<(u64, u8)> {
        let bytes = lanes_of(m).flat_map(|l| offsets[l]..offsets[l] + run.step);
        bytes.map(|byte| (byte / 4, 1 << (byte % 4))).collect()
    }

    fn races(&self, run: &Run, parts: &[(u64, u8)]) -> bool {
        let warp = run.warp as usize;
        self.events.iter().any(|e| {
            let unordered = e.warp != warp && e.number >= self.seen[warp][e.warp];
            let both_strong = e.strong && run.scope != WEAK;
            let meets = || parts.iter().any(|&(word, bytes)| e.word == word && e.bytes & bytes != 0);
            unordered && (e.writes || run.writes) && !both_strong && meets()
        })
    }

    fn add(&mut self, run: &Run, parts: &[(u64, u8)]) {
        let warp = run.warp as usize;
        let number = self.count[warp];
        self.count[warp] += 1;
        let (writes, strong) = (run.writes, run.scope != WEAK);
        self.events.extend(parts.iter().map(|&(word, bytes)| Event {
            warp,
            number,
            word,
            bytes,
            writes,
            strong,
        }));
    }
}

/// Places of lanes: one after another, at a stride, all the same, or anywhere; those of lanes not in `m` repeat the first's.
fn places(rng: &mut SmallRng, m: u32, step: u64) -> [u64; LANES] {
    let pieces = WORDS * 4 / step;
    let (base, stride) = (rng.random_range(0..pieces), rng.random_range(0..3));
    let any = rng.random_bool(0.3);
    let all: [u64; LANES] = std::array::from_fn(|l| match any {
        true => rng.random_range(0..pieces) * step,
        false => (base + l as u64 * stride) % pieces * step,
    });
    std::array::from_fn(|l| all[if m >> l & 1 != 0 { l } else { m.trailing_zeros() as usize }])
}

/// One random program until its first race; gives how many accesses were good.
fn program(seed: u64, exact: bool) -> usize {
    let mut rng = SmallRng::seed_from_u64(seed);
    let global = Global::new([WORDS * 4].into_iter(), Shape::default(), true);
    let mut checks = Checks::new(1024, 0, 1, WARPS, Arc::new(global));
    checks.begin(0);
    let mut history = History::default();
    for good in 0..200 {
        if rng.random_bool(0.7) {
            let left_out = rng.random_range(0..2 * WARPS);
            let warps: Vec<usize> = (0..WARPS).filter(|&w| w != left_out).collect();
            let mut barrier = Knowledge::at(0);
            warps.iter().for_each(|&w| checks.arrive(&mut barrier, w as u32, true));
            checks.complete(barrier, warps.iter().map(|w| 1 << w).sum());
            history.meet(&warps);
        }
        let step = if exact { 4 << rng.random_range(0..3) } else { 1 << rng.random_range(0..5) };
        let m = if rng.random_bool(0.5) { !0 } else { rng.random_range(1..=u32::MAX) };
        let offsets = places(&mut rng, m, step);
        let scope = if exact || rng.random_bool(0.6) { WEAK } else { DEVICE };
        let (warp, writes) = (rng.random_range(0..WARPS as u32), rng.random_bool(0.4));
        let run =
            Run { segment: 0, offset: 0, length: step, lane: 0, step, each: 1, warp, pc: 7, scope, writes };
        let parts = History::parts(&run, m, &offsets);
        let races = history.races(&run, &parts);
        let found = !checks.is_touched(&run, &offsets) && checks.touch_lanes(&run, m, &offsets).is_err();
        assert!(races || !found, "seed {seed}, access {good}: {run:?} at {offsets:?} is accused");
        assert!(found || !races || !exact, "seed {seed}, access {good}: {run:?} at {offsets:?} is missed");
        if races {
            return good;
        }
        history.add(&run, &parts);
    }
    200
}

#[test]
fn accesses_of_words_race_where_the_list_of_all_says() {
    let good: usize = (0..3000).map(|seed| program(seed, true)).sum();
    assert!(good > 10_000, "{good} accesses are too few");
}

#[test]
fn accesses_of_parts_and_of_other_strength_are_accused_only_where_they_race() {
    let good: usize = (0..3000).map(|seed| program(seed, false)).sum();
    assert!(good > 10_000, "{good} accesses are too few");
}
