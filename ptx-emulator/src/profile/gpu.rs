//! What GPUs can do at most, by their maker's documents.

/// How many operations of matrix products a multiprocessor does in a cycle, a multiplication and an addition counted as two,
/// without sparsity; 0 where it has no such instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixRates {
    /// f16 and bf16 summed in f32.
    pub half_in_f32: u32,
    /// f16 summed in f16.
    pub half_in_f16: u32,
    /// tf32.
    pub tf32: u32,
    /// e4m3 and e5m2.
    pub f8: u32,
    /// 8-bit integers.
    pub int8: u32,
}

/// A GPU's limits. What a multiprocessor does in a cycle is counted in operations of lanes, 32 a warp instruction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gpu {
    /// Its name, without its maker's.
    pub name: &'static str,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// The clock at which the maker's peak rates hold, in hertz.
    pub clock: f64,
    /// Warp instructions that a multiprocessor issues in a cycle: one for each of its schedulers.
    pub issue: u32,
    /// f32 operations of a multiprocessor in a cycle (an FMA is one).
    pub float: u32,
    /// f16 operations of a multiprocessor in a cycle (an FMA is one, and so is one of a pair).
    pub half: u32,
    /// bf16 operations of a multiprocessor in a cycle, counted in the same way.
    pub bfloat: u32,
    /// f64 operations of a multiprocessor in a cycle (an FMA is one).
    pub double: u32,
    /// 32-bit integer operations of a multiprocessor in a cycle, by its units for integers.
    pub integer: u32,
    /// Special functions of a multiprocessor in a cycle.
    pub special: u32,
    /// Matrix products.
    pub matrix: MatrixRates,
    /// How much of the rate of matrix products `mma` can reach.
    pub mma_share: f64,
    /// Bytes between shared memory and the registers of a multiprocessor in a cycle.
    pub shared_bytes: u32,
    /// Bytes a second between the GPU and its memory.
    pub memory_bandwidth: f64,
    /// Where the numbers come from.
    pub sources: &'static [Source],
}

/// Where a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The field of [`Gpu`], or several.
    pub figure: &'static str,
    /// The document, and how it follows from it.
    pub document: &'static str,
}

const fn source(figure: &'static str, document: &'static str) -> Source {
    Source { figure, document }
}

/// What all of them have in common.
const SCHEDULERS: Source = source(
    "issue",
    "CUDA C++ Programming Guide, section Compute Capabilities (8.x, 9.0, 10.0): 4 warp schedulers a multiprocessor, each issues one instruction a cycle",
);
const SPECIAL: Source = source(
    "special",
    "CUDA C++ Best Practices Guide 13, table 5, Throughput of Native Arithmetic Instructions (8.0, 8.9, 9.0, 10.0): 16 results of rcp, rsqrt, lg2, ex2, sin, cos a cycle and multiprocessor",
);
const SHARED: Source = source(
    "shared_bytes",
    "CUDA C++ Programming Guide, section Shared Memory of the Compute Capabilities: 32 banks of 32 bits a cycle",
);
/// `mma` on Hopper, which keeps its peak for `wgmma`.
const MMA_ON_HOPPER: Source = source(
    "mma_share",
    "Luo et al., Benchmarking and Dissecting the Nvidia Hopper GPU Architecture, arXiv:2402.13499: mma reaches 62.9 % of the peak on average",
);

/// The GPUs that are known here.
pub const GPUS: [Gpu; 5] = [
    Gpu {
        name: "A100",
        capability: (8, 0),
        multiprocessors: 108,
        clock: 1.41e9,
        issue: 4,
        float: 64,
        half: 128,
        bfloat: 64,
        double: 32,
        integer: 64,
        special: 16,
        matrix: MatrixRates { half_in_f32: 2048, half_in_f16: 2048, tf32: 1024, f8: 0, int8: 4096 },
        mma_share: 1.0,
        shared_bytes: 128,
        memory_bandwidth: 2.039e12,
        sources: &[
            source(
                "multiprocessors, clock, float, double, integer, matrix",
                "NVIDIA A100 Tensor Core GPU Architecture whitepaper, V1.0, tables 2 and 4: 108 SMs of 64 FP32, 64 INT32 and 32 FP64 cores (9.7 TFLOP/s of FP64), 1410 MHz, 312 TFLOP/s of FP16 (1024 FMA a cycle and SM), 156 of TF32, 624 TOP/s of INT8",
            ),
            source(
                "half, bfloat",
                "NVIDIA A100 Tensor Core GPU Architecture whitepaper, as others cite it: outside the matrix units 78 TFLOP/s of FP16 and 39 of BF16, which is 128 and 64 FMA of pairs a cycle and SM",
            ),
            source("memory_bandwidth", "NVIDIA A100 data sheet, 80 GB SXM: 2039 GB/s"),
            SCHEDULERS,
            SPECIAL,
            SHARED,
        ],
    },
    Gpu {
        name: "RTX 4090",
        capability: (8, 9),
        multiprocessors: 128,
        clock: 2.52e9,
        issue: 4,
        float: 128,
        half: 64,
        bfloat: 64,
        double: 2,
        integer: 64,
        special: 16,
        matrix: MatrixRates { half_in_f32: 512, half_in_f16: 1024, tf32: 256, f8: 1024, int8: 2048 },
        mma_share: 1.0,
        shared_bytes: 128,
        memory_bandwidth: 1.008e12,
        sources: &[
            source(
                "double, integer",
                "NVIDIA Ada GPU Architecture whitepaper, V2.01, section Ada SM: 2 FP64 cores an SM (1/64 of FP32: 1.29 TFLOP/s), and 64 of its 128 FP32 cores do INT32 as well",
            ),
            source(
                "half, bfloat",
                "NVIDIA Ada GPU Architecture whitepaper, which was not at hand: outside the matrix units 82.6 TFLOP/s of FP16 and of BF16, as of FP32, which is 64 FMA of pairs a cycle and SM",
            ),
            source(
                "multiprocessors, clock, float, matrix, memory_bandwidth",
                "NVIDIA Ada GPU Architecture whitepaper, V2.01, table 2: 128 SMs of 128 FP32 cores, 2520 MHz, 165.2 TFLOP/s of FP16 with FP32 sums, 330.3 with FP16 sums and of FP8 with FP32 sums, 82.6 of TF32, 660.6 TOP/s of INT8, 1008 GB/s",
            ),
            SCHEDULERS,
            SPECIAL,
            SHARED,
        ],
    },
    Gpu {
        name: "H100",
        capability: (9, 0),
        multiprocessors: 132,
        clock: 1.83e9,
        issue: 4,
        float: 128,
        half: 128,
        bfloat: 128,
        double: 64,
        integer: 64,
        special: 16,
        matrix: HOPPER,
        mma_share: 0.629,
        shared_bytes: 128,
        memory_bandwidth: 3.35e12,
        sources: &[
            source(
                "multiprocessors, clock, float, double, integer, matrix",
                "NVIDIA H100 Tensor Core GPU Architecture whitepaper, V1.04, tables 2 and 3, SXM5: 132 SMs of 128 FP32, 64 INT32 and 64 FP64 cores, 989.4 TFLOP/s of FP16, 494.7 of TF32, 1978.9 of FP8 and INT8, at 1830 MHz; without matrix products the clock may rise to 1980 MHz (66.9 TFLOP/s of FP32), and other units' limits fall by 8 %",
            ),
            source(
                "half, bfloat",
                "NVIDIA H100 Tensor Core GPU Architecture whitepaper, SXM5, which was not at hand: outside the matrix units 133.8 TFLOP/s of FP16 and of BF16, twice those of FP32, which is 128 FMA of pairs a cycle and SM at 1980 MHz",
            ),
            source("memory_bandwidth", "NVIDIA H100 data sheet, SXM: 3.35 TB/s"),
            MMA_ON_HOPPER,
            SCHEDULERS,
            SPECIAL,
            SHARED,
        ],
    },
    Gpu {
        name: "H200",
        capability: (9, 0),
        multiprocessors: 132,
        clock: 1.83e9,
        issue: 4,
        float: 128,
        half: 128,
        bfloat: 128,
        double: 64,
        integer: 64,
        special: 16,
        matrix: HOPPER,
        mma_share: 0.629,
        shared_bytes: 128,
        memory_bandwidth: 4.8e12,
        sources: &[
            source(
                "multiprocessors, clock, float, double, integer, matrix",
                "NVIDIA H200 data sheet, SXM: 989 TFLOP/s of FP16 (its table has 1979, with sparsity) and 34 of FP64 (64 FMA a cycle and SM at 1980 MHz), as H100, whose chip it has (GH100, 132 SMs)",
            ),
            source("half, bfloat", "As H100, whose chip it has (GH100): its data sheet does not have them"),
            source("memory_bandwidth", "NVIDIA H200 data sheet: 4.8 TB/s"),
            MMA_ON_HOPPER,
            SCHEDULERS,
            SPECIAL,
            SHARED,
        ],
    },
    Gpu {
        name: "B200",
        capability: (10, 0),
        multiprocessors: 148,
        clock: 1.856e9,
        issue: 4,
        float: 128,
        // Nothing published says that it is as on H100; certainly not more than is issued.
        half: 128,
        bfloat: 128,
        double: 64,
        // Nothing published says that it is as on H100; certainly not more than f32.
        integer: 128,
        special: 16,
        matrix: MatrixRates { half_in_f32: 8192, half_in_f16: 8192, tf32: 4096, f8: 16384, int8: 16384 },
        // Nothing published says how much of it `mma` reaches; certainly not more.
        mma_share: 1.0,
        shared_bytes: 128,
        memory_bandwidth: 8e12,
        sources: &[
            source(
                "multiprocessors, float, special, shared_bytes",
                "Zadouri et al., FlashAttention-4 (2026): 148 SMs; a cycle and SM 8192 operations of FP16, 16 exponentials, 128 bytes of shared memory, ordinary units as H100",
            ),
            source(
                "double",
                "NVIDIA HGX B200 data sheet: 296 TFLOP/s of FP64 for 8 GPUs, 37 for one, which is 64 FMA a cycle and SM at 1965 MHz",
            ),
            source(
                "half, bfloat",
                "No document of its maker has them: at most an operation, or one of a pair, for each lane of the 4 warps that are issued in a cycle, which is taken here",
            ),
            source(
                "integer",
                "No document of its maker has it: at most as many as FP32 operations, which is taken here",
            ),
            source(
                "matrix, clock, memory_bandwidth",
                "NVIDIA HGX B200 data sheet, a GPU: 2.25 PFLOP/s of FP16 without sparsity, 4.5 of FP8 and INT8, 1.1 of TF32, 8 TB/s; with 8192 a cycle and SM, hence 1856 MHz",
            ),
            SCHEDULERS,
        ],
    },
];

const HOPPER: MatrixRates =
    MatrixRates { half_in_f32: 4096, half_in_f16: 4096, tf32: 2048, f8: 8192, int8: 8192 };

impl Gpu {
    /// The GPU of this name, whatever the case of its letters.
    pub fn named(name: &str) -> Option<&'static Gpu> {
        let plain = |name: &str| name.to_ascii_lowercase().replace([' ', '-', '_'], "");
        GPUS.iter().find(|gpu| plain(gpu.name) == plain(name))
    }

    /// The rate of a kind of matrix products, in operations a second of the whole GPU, or `None` where it has none.
    pub fn matrix_flops(&self, kind: MatrixKind) -> Option<f64> {
        let rate = match kind {
            MatrixKind::HalfInF32 => self.matrix.half_in_f32,
            MatrixKind::HalfInF16 => self.matrix.half_in_f16,
            MatrixKind::Tf32 => self.matrix.tf32,
            MatrixKind::F8 => self.matrix.f8,
            MatrixKind::Int8 => self.matrix.int8,
            MatrixKind::Other => 0,
        };
        (rate > 0).then(|| f64::from(rate) * self.cycles())
    }

    /// Operations a second of f32, an FMA counted as two.
    pub fn float_flops(&self) -> f64 {
        2.0 * f64::from(self.float) * self.cycles()
    }

    /// Operations a second of f16 and of bf16 in pairs, an FMA of a pair counted as four.
    pub fn half_flops(&self) -> [f64; 2] {
        [self.half, self.bfloat].map(|rate| 4.0 * f64::from(rate) * self.cycles())
    }

    /// Operations a second of f64, an FMA counted as two.
    pub fn double_flops(&self) -> f64 {
        2.0 * f64::from(self.double) * self.cycles()
    }

    /// Cycles a second of all multiprocessors together.
    pub fn cycles(&self) -> f64 {
        f64::from(self.multiprocessors) * self.clock
    }
}

/// Matrix products that have a rate of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MatrixKind {
    /// f16 and bf16 summed in f32.
    HalfInF32,
    /// f16 summed in f16.
    HalfInF16,
    /// tf32.
    Tf32,
    /// e4m3 and e5m2.
    F8,
    /// 8-bit integers.
    Int8,
    /// Those that have no rate here.
    Other,
}

impl MatrixKind {
    /// The kind of an `mma` or `wgmma` by its mnemonic.
    pub fn of(mnemonic: &str) -> MatrixKind {
        let types: Vec<&str> = mnemonic.split('.').collect();
        let has = |ty: &str| types.contains(&ty);
        // The type of the sum stands before those of the factors.
        let sum = types.iter().find(|ty| matches!(**ty, "f16" | "f32" | "s32" | "f64"));
        if has("e4m3") || has("e5m2") {
            MatrixKind::F8
        } else if has("s8") || has("u8") {
            MatrixKind::Int8
        } else if has("tf32") {
            MatrixKind::Tf32
        } else if has("bf16") || has("f16") {
            if sum == Some(&"f16") { MatrixKind::HalfInF16 } else { MatrixKind::HalfInF32 }
        } else {
            MatrixKind::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates give the peaks of the data sheets, in TFLOP/s.
    #[test]
    fn rates_times_clock_are_the_published_peaks() {
        // H100, H200 and B200 reach theirs of f64 (33.5, 34 and 37) at the clock that they may rise to.
        for (name, half, float, double) in [
            ("A100", 311.9, 19.5, 9.75),
            ("RTX 4090", 165.2, 82.6, 1.29),
            ("H100", 989.4, 61.8, 33.45 / 1.98 * 1.83),
            ("H200", 989.4, 61.8, 33.45 / 1.98 * 1.83),
            ("B200", 2250.0, 70.3, 37.2 / 1.965 * 1.856),
        ] {
            let gpu = Gpu::named(name).unwrap();
            let peak = gpu.matrix_flops(MatrixKind::HalfInF32).unwrap() / 1e12;
            assert!((peak / half - 1.0).abs() < 1e-3, "{name}: {peak}");
            assert!((gpu.float_flops() / 1e12 / float - 1.0).abs() < 2e-3, "{name}: {}", gpu.float_flops());
            assert!(
                (gpu.double_flops() / 1e12 / double - 1.0).abs() < 2e-3,
                "{name}: {}",
                gpu.double_flops()
            );
        }
    }

    /// Outside the matrix units, in TFLOP/s; H100 reaches its at the clock that it may rise to.
    #[test]
    fn rates_of_16_bit_floats_are_the_published_peaks() {
        for (name, half, bfloat, clock) in [
            ("A100", 78.0, 39.0, 1.41),
            ("RTX 4090", 82.6, 82.6, 2.52),
            ("H100", 133.8, 133.8, 1.98),
            ("H200", 133.8, 133.8, 1.98),
        ] {
            let gpu = Gpu::named(name).unwrap();
            let peaks = gpu.half_flops().map(|flops| flops / gpu.clock * clock * 1e9 / 1e12);
            for (peak, published) in peaks.into_iter().zip([half, bfloat]) {
                assert!((peak / published - 1.0).abs() < 2e-3, "{name}: {peak}");
            }
        }
        // Nothing is faster than what is issued.
        for gpu in &GPUS {
            assert!(gpu.half.max(gpu.bfloat) <= 32 * gpu.issue, "{}", gpu.name);
        }
    }

    #[test]
    fn every_number_has_a_source() {
        let fields = [
            "multiprocessors",
            "clock",
            "issue",
            "float",
            "half",
            "bfloat",
            "double",
            "integer",
            "special",
            "matrix",
            "shared_bytes",
            "memory_bandwidth",
        ];
        for gpu in &GPUS {
            for field in fields {
                let named = |s: &Source| s.figure.split(", ").any(|figure| figure == field);
                assert!(gpu.sources.iter().any(named), "{}: {field}", gpu.name);
            }
            assert_eq!(gpu.mma_share < 1.0, gpu.sources.contains(&MMA_ON_HOPPER), "{}", gpu.name);
        }
    }

    #[test]
    fn names_are_found_however_they_are_written() {
        assert_eq!(Gpu::named("rtx4090").map(|gpu| gpu.name), Some("RTX 4090"));
        assert_eq!(Gpu::named("h200").map(|gpu| gpu.name), Some("H200"));
        assert!(Gpu::named("H20").is_none());
    }

    #[test]
    fn kinds_are_read_from_the_mnemonic() {
        for (mnemonic, kind) in [
            ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", MatrixKind::HalfInF32),
            ("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", MatrixKind::HalfInF32),
            ("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16", MatrixKind::HalfInF16),
            ("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", MatrixKind::Tf32),
            ("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e5m2.f32", MatrixKind::F8),
            ("mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32", MatrixKind::Int8),
            ("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64", MatrixKind::Other),
            ("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16", MatrixKind::HalfInF32),
        ] {
            assert_eq!(MatrixKind::of(mnemonic), kind, "{mnemonic}");
        }
    }
}
