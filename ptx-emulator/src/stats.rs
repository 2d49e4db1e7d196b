//! What a launch did.

use std::time::Duration;

/// Counters of one launch. Instructions are those of the PTX text.
#[derive(Clone, Debug, Default)]
pub struct LaunchStats {
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
    /// Barriers that completed.
    pub barriers: u64,
    /// Blocks that ran.
    pub blocks: u64,
    /// Wall time.
    pub elapsed: Duration,
    /// Executions by mnemonic with all modifiers, most frequent first.
    pub mnemonics: Vec<MnemonicCount>,
    /// (PTX line, warp instructions, thread instructions) of each instruction that ran.
    pub lines: Vec<(u32, u64, u64)>,
    /// What the kernel printed, block after block.
    pub printed: String,
}

/// Executions of one mnemonic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MnemonicCount {
    /// Opcode and modifiers.
    pub name: String,
    /// Warp instructions.
    pub warps: u64,
    /// Thread instructions.
    pub threads: u64,
}
