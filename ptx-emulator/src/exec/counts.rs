//! How often each instruction ran, and what came of it in the end: the statistics of a launch.

use crate::decode::Program;
use crate::ops::profile::Accesses;
use crate::stats::{LaunchStats, LineCounters, MnemonicCount, Work};

/// How often each instruction ran. Runs of instructions are entered at their ends only.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    /// Difference arrays: executions, and lanes that came to them, begin and end here.
    pub(super) warps: Vec<i64>,
    lanes: Vec<i64>,
    /// What guards kept from acting, by place; of most instructions nothing.
    kept: Vec<Kept>,
    /// Instructions that ran, and those of them that `executed` does not have yet.
    pub(super) executed: u64,
    pub(super) unflushed: u64,
}

/// What the guard of an instruction kept from acting.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    /// Executions in which no lane acted.
    warps: i64,
    /// Lanes, of all executions.
    lanes: i64,
}

impl Counts {
    pub(super) fn new(length: usize) -> Counts {
        let (zeros, kept) = (vec![0; length + 1], vec![Kept::default(); length + 1]);
        Counts { warps: zeros.clone(), lanes: zeros, kept, executed: 0, unflushed: 0 }
    }

    /// Of the lanes in `mask` only those in `m` act.
    #[inline(always)]
    pub(crate) fn keep(&mut self, pc: u32, mask: u32, m: u32) {
        let kept = &mut self.kept[pc as usize];
        kept.warps += i64::from(m == 0);
        kept.lanes += i64::from((mask & !m).count_ones());
    }

    /// What `keep` was told of an instruction that some lane is going to try again, and that is counted then.
    pub(crate) fn forget(&mut self, pc: u32, mask: u32, m: u32) {
        self.kept[pc as usize].lanes -= i64::from((mask & !m).count_ones());
    }

    /// The instructions `from..=to` ran once with these lanes.
    #[inline(always)]
    pub(crate) fn add(&mut self, program: &Program, from: u32, to: u32, mask: u32) {
        let lanes = i64::from(mask.count_ones());
        let (from, to) = (from as usize, to as usize + 1);
        self.warps[from] += 1;
        self.warps[to] -= 1;
        self.lanes[from] += lanes;
        self.lanes[to] -= lanes;
        self.unflushed += u64::from(program.counted[to] - program.counted[from]);
    }

    pub(super) fn merge(&mut self, other: &Counts) {
        self.warps.iter_mut().zip(&other.warps).for_each(|(a, b)| *a += b);
        self.lanes.iter_mut().zip(&other.lanes).for_each(|(a, b)| *a += b);
        for (all, more) in self.kept.iter_mut().zip(&other.kept) {
            all.warps += more.warps;
            all.lanes += more.lanes;
        }
    }

    /// No instruction ran, but for `executed`.
    pub(super) fn clear(&mut self) {
        self.warps.fill(0);
        self.lanes.fill(0);
        self.kept.fill(Kept::default());
    }
}

/// Executions by line and mnemonic from the difference arrays; counters where `accesses` is not empty.
pub(super) fn statistics(program: &Program, counts: Counts, accesses: &[Accesses]) -> LaunchStats {
    let mut stats = LaunchStats::default();
    let mut by_mnemonic = vec![[0u64; 4]; program.mnemonics.len()];
    let work: Vec<Work> = program.mnemonics.iter().map(|m| Work::of(m)).collect();
    let (mut warps, mut lanes) = (0i64, 0i64);
    for at in 0..program.code.len() {
        warps += counts.warps[at];
        lanes += counts.lanes[at];
        if program.counted[at + 1] == program.counted[at] || warps == 0 {
            continue;
        }
        let kept = counts.kept[at];
        let (acting, active) = ((warps - kept.warps) as u64, (lanes - kept.lanes) as u64);
        let (warps, lanes) = (warps as u64, lanes as u64);
        stats.warp_instructions += warps;
        stats.thread_instructions += lanes;
        stats.active_thread_instructions += active;
        let mnemonic = program.mnemonic[at] as usize;
        for (all, more) in by_mnemonic[mnemonic].iter_mut().zip([warps, acting, lanes, active]) {
            *all += more;
        }
        stats.lines.push((program.lines[at], warps, lanes));
        let work = work[mnemonic];
        stats.matrix_flops += work.matrix_flops * acting;
        stats.ex2_operations += work.ex2 * active;
        stats.special_operations += work.special * active;
        stats.barrier_arrivals += work.arrivals * active;
        if !accesses.is_empty() {
            let mut counters = line_counters(program, at, accesses);
            (counters.warps, counters.threads, counters.active) = (warps, lanes, active);
            counters.matrix_flops = work.matrix_flops * acting;
            counters.ex2_operations = work.ex2 * active;
            counters.special_operations = work.special * active;
            counters.barrier_arrivals = work.arrivals * active;
            stats.counters.push(counters);
        }
    }
    stats.mnemonics = program
        .mnemonics
        .iter()
        .zip(by_mnemonic)
        .filter(|(_, [warps, ..])| *warps > 0)
        .map(|(name, [warps, acting, threads, active])| MnemonicCount {
            name: name.clone(),
            warps,
            acting,
            threads,
            active,
        })
        .collect();
    stats.mnemonics.sort_by(|a, b| b.warps.cmp(&a.warps).then(a.name.cmp(&b.name)));
    stats
}

/// What the instruction at a place and those that decoding put after it did to memory.
fn line_counters(program: &Program, at: usize, accesses: &[Accesses]) -> LineCounters {
    let mut all = accesses[at];
    let added = (at + 1..program.code.len()).take_while(|&k| program.counted[k + 1] == program.counted[k]);
    for k in added {
        all += &accesses[k];
    }
    LineCounters {
        line: program.lines[at],
        mnemonic: program.mnemonics[program.mnemonic[at] as usize].clone(),
        shared_load_bytes: all.shared_load,
        shared_store_bytes: all.shared_store,
        shared_wavefronts: all.wavefronts,
        shared_conflicts: all.conflicts,
        global_load_bytes: all.global_load,
        global_store_bytes: all.global_store,
        global_requests: all.requests,
        global_sectors: all.sectors,
        constant_load_bytes: all.constant_load,
        local_load_bytes: all.local_load,
        local_store_bytes: all.local_store,
        ..LineCounters::default()
    }
}
