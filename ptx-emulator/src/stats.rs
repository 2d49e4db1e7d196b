//! What a launch did.

use std::time::Duration;

/// Bytes of a sector of global memory.
pub(crate) const SECTOR: u64 = 32;

/// Counters of one launch. Instructions are those of the PTX text.
#[derive(Clone, Debug, Default)]
pub struct LaunchStats {
    /// Instructions issued, one a warp (or a part of it that diverged).
    pub warp_instructions: u64,
    /// Instructions times the lanes that came to them, those among them that a guard keeps from acting.
    pub thread_instructions: u64,
    /// Instructions times the lanes that were active: that came to them and that no guard (`@%p`) kept from acting.
    pub active_thread_instructions: u64,
    /// Bytes read from global memory.
    pub global_load_bytes: u64,
    /// Bytes written to global memory.
    pub global_store_bytes: u64,
    /// Bytes read from constants, each lane's; none of them is global memory's.
    pub constant_load_bytes: u64,
    /// Bytes read from shared memory.
    pub shared_load_bytes: u64,
    /// Bytes written to shared memory.
    pub shared_store_bytes: u64,
    /// Operations of `mma`, a multiplication and an addition counted as two, of those that a guard lets act.
    pub matrix_flops: u64,
    /// Values computed by `ex2`, of active lanes.
    pub ex2_operations: u64,
    /// Values computed by other instructions that use a special-function unit: `lg2 sin cos tanh rcp rsqrt sqrt` of f32 and f16,
    /// `div` of f32, of active lanes.
    pub special_operations: u64,
    /// Arrivals at barriers, as `LineCounters::barrier_arrivals`.
    pub barrier_arrivals: u64,
    /// Barriers of blocks that completed.
    pub barriers: u64,
    /// Blocks that ran.
    pub blocks: u64,
    /// Wall time.
    pub elapsed: Duration,
    /// Executions by mnemonic with all modifiers, most frequent first.
    pub mnemonics: Vec<MnemonicCount>,
    /// (PTX line, warp instructions, thread instructions) of each instruction that ran.
    pub lines: Vec<(u32, u64, u64)>,
    /// Counters of each instruction that ran, in the order of the text; empty unless `LaunchOptions::counters` asked for them.
    pub counters: Vec<LineCounters>,
    /// What the kernel printed, block after block.
    pub printed: String,
}

impl LaunchStats {
    /// The sum of one of the counters over all instructions, such as `stats.total(|c| c.shared_conflicts)`.
    pub fn total(&self, counter: impl Fn(&LineCounters) -> u64) -> u64 {
        self.counters.iter().map(counter).sum()
    }
}

/// Executions of one mnemonic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MnemonicCount {
    /// Opcode and modifiers.
    pub name: String,
    /// Warp instructions.
    pub warps: u64,
    /// Those of them in which at least one lane was active: the others take an issue slot, and nothing of the unit.
    pub acting: u64,
    /// Thread instructions.
    pub threads: u64,
    /// As `LineCounters::active`.
    pub active: u64,
}

/// What one instruction of the PTX did in a launch.
///
/// # Lanes
/// A lane comes to an instruction when its path does. It is active there if the instruction has no guard (`@%p`, `@!%p`), or the guard
/// lets it act; all counters but `warps` and `threads` are of active lanes. Nsight Compute calls the two thread instructions
/// executed (`smsp__thread_inst_executed`) and not predicated off (`smsp__thread_inst_executed_pred_on`). Of a guarded collective or wait
/// that had to be tried again the lanes that act are all that is counted.
///
/// # Shared memory
/// 32 banks of 4 bytes. Accesses of up to 4 bytes go out for the whole warp, of 8 bytes for each half, of 16 for each quarter; a
/// row of `ldmatrix` and `stmatrix` is such an access of 16 bytes, so that a tile is a quarter. Lanes that name the same word share
/// it, except in atomics. `cp.async` writes shared memory as a store of its width does, and is counted where it is issued.
///
/// Bulk copies and operands of `wgmma` in shared memory are no accesses of lanes. Nothing published says how their units go over the banks,
/// so that they are counted with the fewest wavefronts that their bytes can take, 128 a wavefront, and without conflicts: a bulk copy in
/// each block whose shared memory it writes or reads, where it is issued; a `wgmma` once for the warpgroup, A (64 rows of 32 bytes, unless it
/// is in registers) and B (a column of 32 bytes for each of N), as if each byte that the descriptors lead to were read once.
///
/// # Global memory
/// Sectors of 32 bytes; the caches are not modelled.
///
/// # Constants
/// A space of their own, with a cache of its own on a device: what lanes read of `.const` variables, by `ld.const` or by generic
/// addresses, is counted in bytes, and is no request, sector or byte of global memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineCounters {
    /// Line of the PTX text, from 1.
    pub line: u32,
    /// Opcode and modifiers.
    pub mnemonic: String,
    /// Warp instructions.
    pub warps: u64,
    /// Thread instructions: the lanes that came to it.
    pub threads: u64,
    /// Thread instructions of active lanes.
    pub active: u64,
    /// Bytes read from shared memory.
    pub shared_load_bytes: u64,
    /// Bytes written to shared memory.
    pub shared_store_bytes: u64,
    /// Passes over the banks of shared memory; of `wgmma` and bulk copies the fewest that are possible.
    pub shared_wavefronts: u64,
    /// Wavefronts beyond one for each part of a warp that had an active lane: 0 if no two words of a part share a bank.
    pub shared_conflicts: u64,
    /// Bytes read from global memory.
    pub global_load_bytes: u64,
    /// Bytes written to global memory.
    pub global_store_bytes: u64,
    /// Accesses to global memory, one a warp instruction.
    pub global_requests: u64,
    /// Different sectors of each request, summed.
    pub global_sectors: u64,
    /// Bytes read from constants.
    pub constant_load_bytes: u64,
    /// Bytes read from local memory.
    pub local_load_bytes: u64,
    /// Bytes written to local memory.
    pub local_store_bytes: u64,
    /// As `LaunchStats::matrix_flops`.
    pub matrix_flops: u64,
    /// As `LaunchStats::ex2_operations`.
    pub ex2_operations: u64,
    /// As `LaunchStats::special_operations`.
    pub special_operations: u64,
    /// Arrivals at barriers, in threads: each active lane of `bar` and `barrier` (`sync`, `arrive`, `red`), of `barrier.cluster.arrive`,
    /// of `mbarrier.arrive` and `arrive_drop` with all their modifiers, and of `cp.async.mbarrier.arrive`, where it is issued, is
    /// one, whatever count an operand says. Waits (`barrier.cluster.wait`, `mbarrier.test_wait`, `try_wait`), `complete_tx` and
    /// `bar.warp.sync` are none.
    pub barrier_arrivals: u64,
}

/// What one execution of an instruction computes, by its mnemonic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// A warp.
    pub matrix_flops: u64,
    /// A thread.
    pub ex2: u64,
    /// A thread.
    pub special: u64,
    /// A thread.
    pub arrivals: u64,
}

impl Work {
    pub(crate) fn of(mnemonic: &str) -> Work {
        let mut parts = mnemonic.split('.');
        let opcode = parts.next().unwrap_or("");
        let modifiers: Vec<&str> = parts.collect();
        let ty = modifiers.last().copied().unwrap_or("");
        let values = match ty {
            "f16x2" | "bf16x2" => 2,
            "f64" => 0,
            _ => 1,
        };
        match opcode {
            "mma" | "wmma" if opcode == "mma" || modifiers.first() == Some(&"mma") => {
                let flops = modifiers.iter().find_map(|m| shape(m)).map_or(0, |(m, n, k)| 2 * m * n * k);
                // Of f16, m8n8k4 is four products. Half of a sparse A is not multiplied.
                let flops = match (modifiers.contains(&"m8n8k4") && ty != "f64", modifiers.first()) {
                    (true, _) => 4 * flops,
                    (_, Some(&"sp" | &"sp::ordered_metadata")) => flops / 2,
                    _ => flops,
                };
                Work { matrix_flops: flops, ..Work::default() }
            }
            // A quarter of it is each warp's.
            "wgmma" => {
                let flops = modifiers.iter().find_map(|m| shape(m)).map_or(0, |(m, n, k)| m * n * k / 2);
                Work { matrix_flops: flops, ..Work::default() }
            }
            "ex2" => Work { ex2: values, ..Work::default() },
            "lg2" | "sin" | "cos" | "tanh" | "rcp" | "rsqrt" | "sqrt" => {
                Work { special: values, ..Work::default() }
            }
            "bar" | "barrier" | "mbarrier" | "cp" => {
                Work { arrivals: arrivals(opcode, &modifiers), ..Work::default() }
            }
            "div" if ty == "f32" => Work { special: 1, ..Work::default() },
            _ => Work::default(),
        }
    }
}

/// Arrivals at a barrier by a thread that executes this: 1 or 0.
fn arrivals(opcode: &str, modifiers: &[&str]) -> u64 {
    let arrives = match (opcode, modifiers) {
        ("bar", ["warp", ..]) => false,
        ("barrier", ["cluster", action, ..]) => *action == "arrive",
        ("bar" | "barrier", _) => true,
        ("mbarrier", [action, ..]) => matches!(*action, "arrive" | "arrive_drop"),
        ("cp", ["async", "mbarrier", action, ..]) => *action == "arrive",
        _ => false,
    };
    arrives.into()
}

/// `m16n8k16` as numbers.
fn shape(modifier: &str) -> Option<(u64, u64, u64)> {
    let (m, rest) = modifier.strip_prefix('m')?.split_once('n')?;
    let (n, k) = rest.split_once('k')?;
    Some((m.parse().ok()?, n.parse().ok()?, k.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_read_from_the_mnemonic() {
        let work = |m| (Work::of(m).matrix_flops, Work::of(m).ex2, Work::of(m).special);
        assert_eq!(work("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"), (4096, 0, 0));
        assert_eq!(work("mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32"), (1024, 0, 0));
        assert_eq!(work("mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32"), (2048, 0, 0));
        assert_eq!(work("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64"), (512, 0, 0));
        assert_eq!(work("mma.sp.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32"), (4096, 0, 0));
        assert_eq!(work("wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32"), (8192, 0, 0));
        assert_eq!(work("wmma.load.a.sync.aligned.row.m16n16k16.global.f16"), (0, 0, 0));
        // 2 · 64 · 128 · 16 by four warps.
        assert_eq!(work("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16"), (65536, 0, 0));
        assert_eq!(work("wgmma.wait_group.sync.aligned"), (0, 0, 0));
        assert_eq!(work("ex2.approx.ftz.f32"), (0, 1, 0));
        assert_eq!(work("ex2.approx.f16x2"), (0, 2, 0));
        assert_eq!(work("rcp.rn.f64"), (0, 0, 0));
        assert_eq!(work("div.full.f32"), (0, 0, 1));
        assert_eq!(work("div.s32"), (0, 0, 0));
        assert_eq!(work("fma.rn.f32"), (0, 0, 0));
    }

    #[test]
    fn arrivals_are_no_waits() {
        for (mnemonic, arrivals) in [
            ("bar.sync", 1),
            ("bar.cta.red.popc.u32", 1),
            ("barrier.cta.arrive.aligned", 1),
            ("barrier.sync", 1),
            ("bar.warp.sync", 0),
            ("barrier.cluster.arrive.release", 1),
            ("barrier.cluster.wait.acquire", 0),
            ("mbarrier.init.shared.b64", 0),
            ("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64", 1),
            ("mbarrier.arrive_drop.shared.b64", 1),
            ("mbarrier.expect_tx.relaxed.cta.shared::cta.b64", 0),
            ("mbarrier.complete_tx.relaxed.cta.shared::cta.b64", 0),
            ("mbarrier.try_wait.parity.shared::cta.b64", 0),
            ("cp.async.mbarrier.arrive.noinc.shared.b64", 1),
            ("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes", 0),
            ("cp.async.wait_all", 0),
        ] {
            assert_eq!(Work::of(mnemonic).arrivals, arrivals, "{mnemonic}");
        }
    }
}
