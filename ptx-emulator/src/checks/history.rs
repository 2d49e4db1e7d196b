//! For tests: a list of all that warps ever did to a few words, and what of it races, found by looking at every pair.

use super::{Checks, Knowledge};
use crate::ops::{LANES, lanes_of};
use rand::{Rng, SeedableRng, rngs::SmallRng};

/// Warps at most.
pub(super) const WARPS: usize = 3;
/// Words of four bytes that are accessed.
pub(super) const WORDS: u64 = 64;

/// An access by lanes of a warp to `step` bytes each.
#[derive(Clone, Debug)]
pub(super) struct Instruction {
    pub warp: usize,
    pub m: u32,
    /// Those of lanes not in `m` repeat that of the first.
    pub offsets: [u64; LANES],
    pub step: u64,
    pub reads: bool,
    pub writes: bool,
    pub strong: bool,
}

impl Instruction {
    /// Anything, or with `plain` weak accesses of whole words alone. Places are one after another, at a stride, all the same, or anywhere;
    /// at times lanes that differ in some bits of their number alone access the same; or they are those of the instruction before.
    fn any(rng: &mut SmallRng, warps: usize, plain: bool, before: Option<&Instruction>) -> Instruction {
        let before = before.filter(|_| rng.random_bool(0.4));
        let step = if let Some(before) = before {
            before.step
        } else if plain {
            4 << rng.random_range(0..3)
        } else {
            1 << rng.random_range(0..5)
        };
        let m: u32 = match rng.random_range(0..4) {
            0 | 1 => !0,
            2 => rng.random_range(1..=u32::MAX),
            _ => 1 << (rng.random_range(0..LANES) * rng.random_range(0..2)),
        };
        let pieces = (WORDS * 4 / step) >> rng.random_range(0..4);
        let (base, stride) = (rng.random_range(0..pieces), rng.random_range(0..3));
        let anywhere = rng.random_bool(0.3);
        let all: [u64; LANES] = std::array::from_fn(|l| match anywhere {
            true => rng.random_range(0..pieces) * step,
            false => (base + l as u64 * stride) % pieces * step,
        });
        let bits = if rng.random_bool(0.6) { LANES - 1 } else { rng.random_range(0..LANES) };
        let all = before.map_or_else(|| std::array::from_fn(|l| all[l & bits]), |before| before.offsets);
        let first = m.trailing_zeros() as usize;
        let offsets = std::array::from_fn(|l| all[if m >> l & 1 != 0 { l } else { first }]);
        let writes = rng.random_bool(0.4);
        let strong = !plain && rng.random_bool(0.4);
        let reads = !writes || strong && rng.random_bool(0.5);
        let warp = before
            .filter(|_| rng.random_bool(0.5))
            .map_or_else(|| rng.random_range(0..warps), |before| before.warp);
        Instruction { warp, m, offsets, step, reads, writes, strong }
    }

    /// Lane, word and byte of the word of all that is touched.
    fn bytes(&self) -> impl Iterator<Item = (usize, u64, u64)> {
        lanes_of(self.m).flat_map(|l| {
            (self.offsets[l]..self.offsets[l] + self.step).map(move |byte| (l, byte / 4, byte % 4))
        })
    }
}

/// A lane's access to a byte.
struct Event {
    warp: usize,
    lane: usize,
    /// The how-many-th access of the warp, and how many barriers the warp had met before.
    number: usize,
    barriers: usize,
    byte: (u64, u64),
    writes: bool,
    strong: bool,
}

/// All that has happened; how many accesses and barriers each warp has had, and how many accesses of each other warp come before what it
/// does next.
#[derive(Default)]
pub(super) struct History {
    events: Vec<Event>,
    count: [usize; WARPS],
    barriers: [usize; WARPS],
    seen: [[usize; WARPS]; WARPS],
}

impl History {
    /// Some warps wait for one another.
    pub(super) fn meet(&mut self, warps: &[usize]) {
        let mut all = [0; WARPS];
        for &w in warps {
            self.barriers[w] += 1;
            self.seen[w][w] = self.count[w];
            all = std::array::from_fn(|v| all[v].max(self.seen[w][v]));
        }
        warps.iter().for_each(|&w| self.seen[w] = all);
    }

    /// Whether an instruction races with one before it, with `lanes` of its own warp too.
    pub(super) fn races(&self, i: &Instruction, lanes: bool) -> bool {
        self.events.iter().any(|e| {
            let beside = e.warp != i.warp && e.number >= self.seen[i.warp][e.warp];
            let within = lanes && e.warp == i.warp && e.barriers == self.barriers[i.warp];
            (beside || within)
                && (e.writes || i.writes)
                && !(e.strong && i.strong)
                && i.bytes().any(|(lane, word, byte)| (word, byte) == e.byte && (beside || lane != e.lane))
        })
    }

    pub(super) fn add(&mut self, i: &Instruction) {
        let (number, barriers) = (self.count[i.warp], self.barriers[i.warp]);
        self.count[i.warp] += 1;
        self.events.extend(i.bytes().map(|(lane, word, byte)| Event {
            warp: i.warp,
            lane,
            number,
            barriers,
            byte: (word, byte),
            writes: i.writes,
            strong: i.strong,
        }));
    }
}

/// A barrier at which these warps wait.
pub(super) fn meet(checks: &mut Checks, warps: &[usize]) {
    let mut barrier = Knowledge::at(0);
    warps.iter().for_each(|&w| checks.arrive(&mut barrier, w as u32, true));
    checks.complete(barrier, warps.iter().map(|w| 1 << w).sum());
}

/// Runs random programs of some warps, each until its first race, with `lanes` of one warp too: `found` says of an instruction
/// whether the checks found one. Nobody may be accused without a race; `plain` instructions, see `Instruction::any`, may not race unseen.
/// Gives how many instructions were good.
pub(super) fn hold_against(
    (warps, plain, lanes): (usize, bool, bool),
    begin: fn() -> Checks,
    found: fn(&mut Checks, &Instruction, u32) -> bool,
) -> usize {
    let mut good = 0;
    for seed in 0..20000 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut checks, mut history, mut before) = (begin(), History::default(), None);
        let barriers = if rng.random_bool(0.5) { 0.7 } else { 0.1 };
        for number in 0..200 {
            if rng.random_bool(barriers) {
                let left_out = rng.random_range(0..2 * warps);
                let waiting: Vec<usize> = (0..warps).filter(|&w| w != left_out).collect();
                meet(&mut checks, &waiting);
                history.meet(&waiting);
            }
            let i = Instruction::any(&mut rng, warps, plain, before.as_ref());
            let (races, found) = (history.races(&i, lanes), found(&mut checks, &i, number));
            assert!(races || !found, "seed {seed}, instruction {number} is accused: {i:?}");
            assert!(found || !races || !plain, "seed {seed}, instruction {number} is missed: {i:?}");
            if races {
                break;
            }
            history.add(&i);
            before = Some(i);
            good += 1;
        }
    }
    good
}
