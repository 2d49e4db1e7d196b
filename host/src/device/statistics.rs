//! What the emulator counts.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::time::Duration;

use ptx_emulator::LaunchStats;

/// Counters of all launches of one kernel. Instructions are those of the PTX text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Launches.
    pub launches: u64,
    /// Blocks.
    pub blocks: u64,
    /// Instructions issued, one a warp (or a part of it that diverged).
    pub warp_instructions: u64,
    /// Instructions times the lanes that were there for them.
    pub thread_instructions: u64,
    /// Bytes read from global memory.
    pub global_load_bytes: u64,
    /// Bytes written to global memory.
    pub global_store_bytes: u64,
    /// Bytes read from shared memory.
    pub shared_load_bytes: u64,
    /// Bytes written to shared memory.
    pub shared_store_bytes: u64,
    /// Bytes read from and written to local memory; with `EmulatorOptions::counters` only.
    pub local_bytes: u64,
    /// Sectors of 32 bytes that accesses to global memory touched; with `EmulatorOptions::counters` only.
    pub global_sectors: u64,
    /// Passes over the banks of shared memory; with `EmulatorOptions::counters` only.
    pub shared_wavefronts: u64,
    /// Passes more than accesses without bank conflicts take; with `EmulatorOptions::counters` only.
    pub shared_conflicts: u64,
    /// Operations of matrix products, a multiplication and an addition counted as two.
    pub matrix_flops: u64,
    /// Values computed by `ex2`.
    pub ex2_operations: u64,
    /// Values computed by other special functions.
    pub special_operations: u64,
    /// Barriers that completed.
    pub barriers: u64,
    /// Wall time of the emulation.
    pub elapsed: Duration,
    /// Warp instructions by mnemonic with all modifiers.
    pub mnemonics: BTreeMap<String, u64>,
}

/// Adds the counters of one more launch.
impl AddAssign<&LaunchStats> for Statistics {
    fn add_assign(&mut self, launch: &LaunchStats) {
        self.launches += 1;
        self.blocks += launch.blocks;
        self.warp_instructions += launch.warp_instructions;
        self.thread_instructions += launch.thread_instructions;
        self.global_load_bytes += launch.global_load_bytes;
        self.global_store_bytes += launch.global_store_bytes;
        self.shared_load_bytes += launch.shared_load_bytes;
        self.shared_store_bytes += launch.shared_store_bytes;
        self.local_bytes += launch.total(|c| c.local_load_bytes + c.local_store_bytes);
        self.global_sectors += launch.total(|c| c.global_sectors);
        self.shared_wavefronts += launch.total(|c| c.shared_wavefronts);
        self.shared_conflicts += launch.total(|c| c.shared_conflicts);
        self.matrix_flops += launch.matrix_flops;
        self.ex2_operations += launch.ex2_operations;
        self.special_operations += launch.special_operations;
        self.barriers += launch.barriers;
        self.elapsed += launch.elapsed;
        for mnemonic in &launch.mnemonics {
            *self.mnemonics.entry(mnemonic.name.clone()).or_default() += mnemonic.warps;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_add_up() {
        let launch = LaunchStats { blocks: 3, thread_instructions: 64, ..LaunchStats::default() };
        let mut statistics = Statistics::default();
        statistics += &launch;
        statistics += &launch;
        let counted = (statistics.launches, statistics.blocks, statistics.thread_instructions);
        assert_eq!(counted, (2, 6, 128));
    }
}
