//! What a kernel asks of a GPU, held against what the GPU can do: which unit bounds it, and how fast it could be at most.
//!
//! ```
//! use ptx_emulator::profile::{Demand, Gpu, Roofline, Unit};
//!
//! // A warp instruction of matrix products and one special function for each of its lanes, a million times.
//! let mut demand = Demand::of([
//!     ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", 1_000_000),
//!     ("ex2.approx.ftz.f32", 1_000_000),
//! ]);
//! demand.shared_wavefronts = 500_000;
//! let gpu = Gpu::named("A100").ok_or("no such GPU")?;
//! let roofline = Roofline::new(gpu, &demand);
//! // 16 lanes a cycle: 2 cycles a warp, as long as a product of 4096 operations takes at 2048 a cycle.
//! assert_eq!(roofline.limit(Unit::Special).seconds, roofline.limit(Unit::Matrix).seconds);
//! assert!(roofline.limit(Unit::Shared).seconds < roofline.seconds());
//! # Ok::<(), &str>(())
//! ```
//!
//! A limit is what a unit needs at least, were it never idle and every multiprocessor as busy as the others. So the longest of
//! them is a time that no order of the same instructions can beat on that GPU; latencies, dependencies and occupancy are not
//! modelled, and make a kernel slower. Instructions are those of the PTX: an assembler merges and splits some of them, so
//! [`Demand::instructions`] may be set to what it made.

mod annotate;
mod class;
mod gpu;
#[cfg(feature = "plot")]
mod plot;

pub use annotate::annotate;
pub use class::Class;
pub use gpu::{GPUS, Gpu, MatrixKind, MatrixRates, Source};
#[cfg(feature = "plot")]
pub use plot::{Shown, svg};

use crate::LaunchStats;
use crate::stats::{SECTOR, Work};
use std::collections::BTreeMap;

/// Lanes that an instruction takes of its unit, however few of them are active.
const LANES: f64 = 32.0;

/// What a kernel asks of a GPU.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Demand {
    /// Warp instructions.
    pub instructions: f64,
    /// Warp instructions of f32 arithmetic.
    pub float: u64,
    /// Warp instructions of f16 arithmetic, of single values or of pairs.
    pub half: u64,
    /// Warp instructions of bf16 arithmetic, of single values or of pairs.
    pub bfloat: u64,
    /// Warp instructions of f64 arithmetic.
    pub double: u64,
    /// Warp instructions of integer arithmetic, those of 64 bits counted as two of 32.
    pub integer: u64,
    /// Special functions: values of a lane, times warp instructions.
    pub special: u64,
    /// Operations of matrix products by `mma`, by kind.
    pub mma: BTreeMap<MatrixKind, u64>,
    /// Operations of matrix products by other instructions, by kind.
    pub matrix: BTreeMap<MatrixKind, u64>,
    /// Passes over the banks of shared memory.
    pub shared_wavefronts: u64,
    /// Bytes of the sectors of all accesses to global memory: what goes to and from the GPU's memory where no cache helps.
    pub sector_bytes: u64,
    /// Bytes that go to and from the GPU's memory in any case, if that is known: each input once, each output once.
    pub least_bytes: Option<u64>,
    /// Floating-point operations in which throughput is measured.
    pub flops: f64,
}

impl Demand {
    /// What these instructions ask: mnemonics with their warp instructions. Throughput is measured in operations of matrix
    /// products, or of floats of any width where there are none. Memory is left at 0.
    pub fn of<'a>(mnemonics: impl IntoIterator<Item = (&'a str, u64)>) -> Demand {
        let mut demand = Demand::default();
        let mut float_flops = 0;
        for (mnemonic, warps) in mnemonics {
            demand.instructions += warps as f64;
            let work = Work::of(mnemonic);
            demand.special += (work.ex2 + work.special) * warps;
            if work.matrix_flops > 0 {
                let all = if mnemonic.starts_with("mma.") { &mut demand.mma } else { &mut demand.matrix };
                *all.entry(MatrixKind::of(mnemonic)).or_default() += work.matrix_flops * warps;
            }
            let flops = if mnemonic.starts_with("fma.") || mnemonic.starts_with("mad.") { 2 } else { 1 };
            match Class::of(mnemonic) {
                Class::Float => {
                    let values = if mnemonic.ends_with("f32x2") { 2 } else { 1 };
                    demand.float += values * warps;
                    float_flops += flops * values * warps;
                }
                Class::Half => {
                    let all = if mnemonic.contains(".bf16") { &mut demand.bfloat } else { &mut demand.half };
                    *all += warps;
                    float_flops += flops * if mnemonic.ends_with("x2") { 2 } else { 1 } * warps;
                }
                Class::Double => {
                    demand.double += warps;
                    float_flops += flops * warps;
                }
                Class::Integer => {
                    let long = ["u64", "s64", "b64"].iter().any(|ty| mnemonic.ends_with(ty));
                    demand.integer += if long { 2 } else { 1 } * warps;
                }
                _ => {}
            }
        }
        let matrix: u64 = demand.mma.values().chain(demand.matrix.values()).sum();
        demand.flops = if matrix > 0 { matrix as f64 } else { float_flops as f64 * LANES };
        demand
    }

    /// What a launch with counters asked; `None` of one without.
    pub fn of_launch(stats: &LaunchStats) -> Option<Demand> {
        if stats.counters.is_empty() {
            return None;
        }
        // An instruction in which no lane is active takes an issue slot and nothing of its unit.
        let mut demand = Demand::of(stats.mnemonics.iter().map(|m| (m.name.as_str(), m.acting)));
        demand.instructions = stats.warp_instructions as f64;
        demand.shared_wavefronts = stats.total(|c| c.shared_wavefronts);
        demand.sector_bytes = SECTOR * stats.total(|c| c.global_sectors);
        Some(demand)
    }

    /// Bytes that count as traffic of the GPU's memory: the least ones where they are known.
    pub fn memory_bytes(&self) -> u64 {
        self.least_bytes.unwrap_or(self.sector_bytes)
    }

    /// Operations of matrix products.
    pub fn matrix_flops(&self) -> u64 {
        self.mma.values().chain(self.matrix.values()).sum()
    }
}

/// A part of a GPU that may bound a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// The schedulers, which issue an instruction a cycle each.
    Issue,
    /// The units of f32 arithmetic.
    Float,
    /// The units of f16 and bf16 arithmetic, which may be two: what takes longer of the two is the limit.
    Half,
    /// The units of f64 arithmetic.
    Double,
    /// The units of 32-bit integers. An assembler lets those of f32 do some of it, as multiplications: then this is no lower limit.
    Integer,
    /// The matrix units.
    Matrix,
    /// The special-function units.
    Special,
    /// Shared memory.
    Shared,
    /// The GPU's memory.
    Memory,
}

impl Unit {
    /// All.
    pub const ALL: [Unit; 9] = [
        Unit::Issue,
        Unit::Float,
        Unit::Half,
        Unit::Double,
        Unit::Integer,
        Unit::Matrix,
        Unit::Special,
        Unit::Shared,
        Unit::Memory,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Issue => "issue slots",
            Unit::Float => "f32 arithmetic",
            Unit::Half => "16-bit floats",
            Unit::Double => "f64 arithmetic",
            Unit::Integer => "integers",
            Unit::Matrix => "matrix units",
            Unit::Special => "special functions",
            Unit::Shared => "shared memory",
            Unit::Memory => "memory",
        }
    }
}

/// What one unit needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Which one.
    pub unit: Unit,
    /// The time that it needs at least.
    pub seconds: f64,
}

/// A kernel's limits on a GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Roofline {
    /// The GPU.
    pub gpu: &'static Gpu,
    /// One for each of [`Unit::ALL`], in that order.
    pub limits: [Limit; 9],
    /// What the GPU's memory would need if no access met a cache. No lower limit of the kernel's time, and no less than that of
    /// [`Unit::Memory`].
    pub uncached_seconds: f64,
    /// As [`Demand::flops`].
    pub flops: f64,
    /// Kinds of matrix products that this GPU has no rate for: they are missing in the limit of its matrix units.
    pub unrated: Vec<MatrixKind>,
}

impl Roofline {
    /// Holds a demand against a GPU.
    pub fn new(gpu: &'static Gpu, demand: &Demand) -> Roofline {
        let cycles = gpu.cycles();
        let mut unrated = Vec::new();
        let mut products = |all: &BTreeMap<MatrixKind, u64>, share: f64| -> f64 {
            let seconds = all.iter().map(|(&kind, &flops)| match gpu.matrix_flops(kind) {
                Some(rate) => flops as f64 / (rate * share),
                None => {
                    unrated.push(kind);
                    0.0
                }
            });
            seconds.sum()
        };
        let matrix = products(&demand.mma, gpu.mma_share) + products(&demand.matrix, 1.0);
        let wavefront = LANES * 4.0 / f64::from(gpu.shared_bytes);
        let seconds = |unit| match unit {
            Unit::Issue => demand.instructions / f64::from(gpu.issue) / cycles,
            Unit::Float => demand.float as f64 * LANES / f64::from(gpu.float) / cycles,
            Unit::Half => {
                let half = demand.half as f64 / f64::from(gpu.half);
                half.max(demand.bfloat as f64 / f64::from(gpu.bfloat)) * LANES / cycles
            }
            Unit::Double => demand.double as f64 * LANES / f64::from(gpu.double) / cycles,
            Unit::Integer => demand.integer as f64 * LANES / f64::from(gpu.integer) / cycles,
            Unit::Matrix => matrix,
            Unit::Special => demand.special as f64 * LANES / f64::from(gpu.special) / cycles,
            Unit::Shared => demand.shared_wavefronts as f64 * wavefront / cycles,
            Unit::Memory => demand.memory_bytes() as f64 / gpu.memory_bandwidth,
        };
        Roofline {
            gpu,
            limits: Unit::ALL.map(|unit| Limit { unit, seconds: seconds(unit) }),
            uncached_seconds: demand.sector_bytes as f64 / gpu.memory_bandwidth,
            flops: demand.flops,
            unrated,
        }
    }

    /// The limit of a unit.
    pub fn limit(&self, unit: Unit) -> Limit {
        self.limits[unit as usize]
    }

    /// What bounds the kernel: the limit that takes longest.
    pub fn bound(&self) -> Limit {
        let longest = |a: Limit, b: &Limit| if b.seconds > a.seconds { *b } else { a };
        self.limits.iter().fold(self.limits[0], longest)
    }

    /// The time that the kernel takes at least.
    pub fn seconds(&self) -> f64 {
        self.bound().seconds
    }

    /// Operations a second at most, if this time is all that it takes; `None` where that says nothing.
    pub fn throughput(&self, seconds: f64) -> Option<f64> {
        (self.flops > 0.0 && seconds > 0.0).then(|| self.flops / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MMA: &str = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32";

    fn a100() -> &'static Gpu {
        Gpu::named("A100").unwrap()
    }

    #[test]
    fn each_unit_takes_what_its_rate_says() {
        let mut demand =
            Demand::of([(MMA, 1000), ("ex2.approx.ftz.f32", 100), ("fma.rn.f32", 300), ("bar.sync", 8)]);
        (demand.shared_wavefronts, demand.sector_bytes) = (4000, 6400);
        let cycles = |unit| {
            let seconds = Roofline::new(a100(), &demand).limit(unit).seconds;
            (seconds * a100().cycles() * 1e6).round() / 1e6
        };
        assert_eq!(cycles(Unit::Issue), 1408.0 / 4.0);
        assert_eq!(cycles(Unit::Float), 300.0 * 32.0 / 64.0);
        assert_eq!(cycles(Unit::Matrix), 1000.0 * 4096.0 / 2048.0);
        assert_eq!(cycles(Unit::Special), 100.0 * 32.0 / 16.0);
        assert_eq!(cycles(Unit::Shared), 4000.0);
        assert_eq!(Roofline::new(a100(), &demand).bound().unit, Unit::Shared);
        assert_eq!(demand.flops, 4096e3);
    }

    #[test]
    fn f64_and_integers_have_units_of_their_own() {
        let cycles = |name: &str, demand: &Demand, unit| {
            let gpu = Gpu::named(name).unwrap();
            (Roofline::new(gpu, demand).limit(unit).seconds * gpu.cycles() * 1e6).round() / 1e6
        };
        let demand = Demand::of([("fma.rn.f64", 100), ("add.f64", 50), ("add.s32", 300), ("add.s64", 100)]);
        assert_eq!(cycles("A100", &demand, Unit::Double), 150.0 * 32.0 / 32.0);
        assert_eq!(cycles("RTX 4090", &demand, Unit::Double), 150.0 * 32.0 / 2.0);
        assert_eq!(cycles("H200", &demand, Unit::Double), 150.0 * 32.0 / 64.0);
        assert_eq!(cycles("A100", &demand, Unit::Integer), (300.0 + 2.0 * 100.0) * 32.0 / 64.0);
        assert_eq!(demand.flops, (2.0 * 100.0 + 50.0) * 32.0);
        assert_eq!(Roofline::new(Gpu::named("RTX 4090").unwrap(), &demand).bound().unit, Unit::Double);
        assert_eq!(Roofline::new(a100(), &demand).bound().unit, Unit::Integer);
    }

    #[test]
    fn f16_and_bf16_have_a_unit_whose_rates_differ() {
        let cycles = |name: &str, demand: &Demand| {
            let gpu = Gpu::named(name).unwrap();
            (Roofline::new(gpu, demand).limit(Unit::Half).seconds * gpu.cycles() * 1e6).round() / 1e6
        };
        // A pair is one operation of a lane, a single value too.
        let half = Demand::of([("fma.rn.f16x2", 200), ("add.f16", 100)]);
        let brain = Demand::of([("fma.rn.bf16x2", 200), ("max.bf16", 100)]);
        assert_eq!((half.half, half.bfloat, brain.half, brain.bfloat), (300, 0, 0, 300));
        for (name, of_half, of_brain) in
            [("A100", 75.0, 150.0), ("RTX 4090", 150.0, 150.0), ("H100", 75.0, 75.0), ("B200", 75.0, 75.0)]
        {
            assert_eq!(cycles(name, &half), of_half, "{name}");
            assert_eq!(cycles(name, &brain), of_brain, "{name}");
        }
        // Four operations of 200 pairs, one of 100 values.
        assert_eq!(half.flops, (4.0 * 200.0 + 100.0) * 32.0);
        assert_eq!(Roofline::new(Gpu::named("RTX 4090").unwrap(), &half).bound().unit, Unit::Half);
        let both = Demand { half: 300, ..brain };
        assert_eq!(cycles("A100", &both), 150.0);
    }

    #[test]
    fn memory_takes_the_least_bytes_where_they_are_known() {
        let mut demand = Demand::of([("fma.rn.f32", 1)]);
        demand.sector_bytes = 2039;
        let known = Demand { least_bytes: Some(1000), ..demand.clone() };
        let seconds = |demand: &Demand| Roofline::new(a100(), demand).limit(Unit::Memory).seconds;
        assert_eq!(seconds(&demand), 2039.0 / 2.039e12);
        assert_eq!(seconds(&known), 1000.0 / 2.039e12);
        assert_eq!(Roofline::new(a100(), &known).uncached_seconds, seconds(&demand));
        // Two operations for each of 32 lanes.
        assert_eq!(demand.flops, 64.0);
    }

    #[test]
    fn mma_reaches_a_part_of_hoppers_peak_and_others_all_of_it() {
        let h200 = Gpu::named("H200").unwrap();
        let mut demand = Demand::of([(MMA, 1_000_000)]);
        let by_mma = Roofline::new(h200, &demand).throughput(Roofline::new(h200, &demand).seconds()).unwrap();
        assert!((by_mma / 989.4e12 - 0.629).abs() < 1e-3, "{by_mma}");
        demand.matrix = std::mem::take(&mut demand.mma);
        let whole = Roofline::new(h200, &demand).limit(Unit::Matrix).seconds;
        assert!((demand.flops / whole / 989.4e12 - 1.0).abs() < 1e-3);
    }

    #[test]
    fn products_that_a_gpu_does_not_have_are_named() {
        let demand = Demand::of([("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32", 10)]);
        assert_eq!(Roofline::new(a100(), &demand).unrated, [MatrixKind::F8]);
        assert!(Roofline::new(Gpu::named("H100").unwrap(), &demand).unrated.is_empty());
    }

    #[test]
    fn nothing_has_no_throughput() {
        let roofline = Roofline::new(a100(), &Demand::of([("ret", 1)]));
        assert_eq!(roofline.bound().unit, Unit::Issue);
        assert_eq!(roofline.throughput(roofline.seconds()), None);
    }
}
