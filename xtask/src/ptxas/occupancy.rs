//! How many blocks of a kernel a multiprocessor holds.
//!
//! Sizes of multiprocessors: CUDA Programming Guide, appendix "Compute Capabilities", "Technical specifications per compute
//! capability". Units in which registers and shared memory are granted, and the rule that joins them: `cuda_occupancy.h` of
//! the CUDA Toolkit 13.

/// Registers of a multiprocessor, of every target.
const REGISTERS: u32 = 64 * 1024;

/// Parts of a multiprocessor that have their own registers and warps, of every target.
const PARTS: u32 = 4;

/// Registers are granted to a warp in this unit.
const REGISTER_UNIT: u32 = 256;

/// A target, and how much one of its multiprocessors has.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name for the assembler.
    pub name: &'static str,
    /// Blocks that may be resident.
    blocks: u32,
    /// Warps that may be resident.
    warps: u32,
    /// Bytes of shared memory.
    shared: u32,
    /// Bytes of shared memory that the system keeps for each block.
    reserved: u32,
    /// Shared memory is granted to a block in this unit, in bytes.
    unit: u32,
}

/// The targets that the kernels are assembled for.
pub const TARGETS: [Target; 6] = [
    Target { name: "sm_75", blocks: 16, warps: 32, shared: 64 << 10, reserved: 0, unit: 256 },
    Target { name: "sm_80", blocks: 32, warps: 64, shared: 164 << 10, reserved: 1 << 10, unit: 128 },
    Target { name: "sm_86", blocks: 16, warps: 48, shared: 100 << 10, reserved: 1 << 10, unit: 128 },
    Target { name: "sm_89", blocks: 24, warps: 48, shared: 100 << 10, reserved: 1 << 10, unit: 128 },
    Target { name: "sm_90", blocks: 32, warps: 64, shared: 228 << 10, reserved: 1 << 10, unit: 128 },
    Target { name: "sm_120", blocks: 24, warps: 48, shared: 100 << 10, reserved: 1 << 10, unit: 128 },
];

impl Target {
    /// Blocks of `threads` threads that registers allow, where a thread has `registers`.
    pub fn blocks_by_registers(&self, threads: u32, registers: u32) -> u32 {
        let warp = (registers.max(1) * 32).next_multiple_of(REGISTER_UNIT);
        let warps = (REGISTERS / PARTS / warp * PARTS).min(self.warps);
        (warps / threads.div_ceil(32)).min(self.blocks)
    }

    /// Blocks that shared memory allows, where a block has `bytes`.
    pub fn blocks_by_shared(&self, bytes: u32) -> u32 {
        match (bytes + self.reserved).next_multiple_of(self.unit) {
            0 => self.blocks,
            granted => (self.shared / granted).min(self.blocks),
        }
    }

    /// Blocks that both allow.
    pub fn blocks(&self, threads: u32, registers: u32, shared: u32) -> u32 {
        self.blocks_by_registers(threads, registers).min(self.blocks_by_shared(shared))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> Target {
        *TARGETS.iter().find(|target| target.name == name).unwrap()
    }

    #[test]
    fn registers_are_granted_to_warps_of_each_part() {
        let a100 = target("sm_80");
        // 255 registers are 8192 a warp after rounding: two warps in each of four parts.
        assert_eq!([128, 256, 257].map(|threads| a100.blocks_by_registers(threads, 255)), [2, 1, 0]);
        // 168 registers are 5376 a warp: three in 16384. One register more takes 5632: two.
        assert_eq!([168, 169].map(|registers| a100.blocks_by_registers(128, registers)), [3, 2]);
        // Few registers: 64 warps, and 48 elsewhere.
        assert_eq!(a100.blocks_by_registers(256, 32), 8);
        assert_eq!(target("sm_86").blocks_by_registers(256, 32), 6);
        assert_eq!(target("sm_86").blocks_by_registers(32, 8), 16);
    }

    #[test]
    fn each_block_takes_its_shared_memory_and_what_the_system_keeps() {
        assert_eq!([81, 82].map(|kib| target("sm_80").blocks_by_shared(kib << 10)), [2, 1]);
        assert_eq!([99, 100].map(|kib| target("sm_89").blocks_by_shared(kib << 10)), [1, 0]);
        assert_eq!([32, 33, 64, 65].map(|kib| target("sm_75").blocks_by_shared(kib << 10)), [2, 1, 1, 0]);
        assert_eq!(target("sm_75").blocks_by_shared(0), 16);
        // 227 KiB are the most that a block may have on Hopper.
        assert_eq!([227 << 10, (227 << 10) + 1].map(|b| target("sm_90").blocks_by_shared(b)), [1, 0]);
    }

    #[test]
    fn a_multiprocessor_holds_what_both_allow() {
        assert_eq!(target("sm_80").blocks(128, 255, 64 << 10), 2);
        assert_eq!(target("sm_120").blocks(128, 255, 64 << 10), 1);
        assert_eq!(target("sm_90").blocks(256, 255, 64 << 10), 1);
    }
}
