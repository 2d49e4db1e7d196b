//! The instructions: each is a handler that acts on the 32 lanes of a warp at once.
//!
//! A handler is a type with one generic `exec`. [`pick`] compiles it twice, for any x86-64 (or other) CPU and with AVX2, FMA and
//! F16C, and takes the one that fits the CPU it runs on; plain loops over `[T; 32]` then become vector instructions.

pub(crate) mod activation;
pub(crate) mod atomic;
pub(crate) mod bits;
pub(crate) mod bulk;
pub(crate) mod cluster;
pub(crate) mod collective;
pub(crate) mod collide;
pub(crate) mod compare;
pub(crate) mod control;
pub(crate) mod convert;
pub(crate) mod copy;
pub(crate) mod descriptor;
pub(crate) mod float;
pub(crate) mod heap;
pub(crate) mod int;
pub(crate) mod lanes;
pub(crate) mod matrix;
pub(crate) mod mbarrier;
pub(crate) mod mbarrier_ops;
pub(crate) mod memory;
pub(crate) mod mma;
pub(crate) mod observe;
pub(crate) mod observe_global;
pub(crate) mod packed;
pub(crate) mod profile;
pub(crate) mod quads;
pub(crate) mod real;
pub(crate) mod registers;
pub(crate) mod sparse;
pub(crate) mod stack;
pub(crate) mod tensor;
pub(crate) mod tiles;
pub(crate) mod transfer;
pub(crate) mod wgmma;

use crate::checks::Checks;
use crate::decode::activation::Activation;
use crate::error::Fault;
use crate::memory::{MemoryView, Segment};
use crate::module::Param;
use std::sync::atomic::AtomicU64;

/// Lanes of a warp.
pub(crate) const LANES: usize = 32;

/// What happens after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Flow {
    /// The next instruction.
    Next,
    /// The active lanes jump to `imm`; the others fall through. `e` is the place where they meet again.
    Branch,
    /// `Cx::branch_targets` says for each lane where it goes (`brx.idx`, indirect calls).
    IndexedBranch,
    /// A place where diverged lanes may meet.
    Join,
    /// The active lanes end.
    Exit,
    /// The active lanes return from a function.
    Return,
    /// The active lanes call the function at `imm`.
    Call,
    /// As `Call`, by the addresses in `Cx::branch_targets`.
    IndexedCall,
    /// The active lanes are at the barrier of `Cx::barrier`.
    Barrier,
    /// The lanes of `Cx::members` must all be here first.
    Collective,
    /// The active lanes try again later.
    Wait,
    /// The active lanes are at an instruction that all lanes of the warp must execute, and not all of these.
    Apart,
    /// `Cx::fault` is set.
    Fault,
}

/// A handler.
pub(crate) type Run = unsafe fn(&mut Cx, &Instr, u32) -> Flow;

/// A decoded instruction: a handler and where its operands lie in the warp's register file.
#[derive(Clone, Copy)]
pub(crate) struct Instr {
    pub run: Run,
    /// Offset of the guard predicate; the instruction acts on lanes where it differs from `guard_not`.
    pub guard: u32,
    pub guard_not: u32,
    pub d: u32,
    pub a: u32,
    pub b: u32,
    pub c: u32,
    pub e: u32,
    /// Number of elements, sub-operation, or flags.
    pub n: u32,
    /// A slot of `Cx::caches`.
    pub slot: u32,
    /// Its place in the program.
    pub at: u32,
    pub imm: i64,
}

/// What a path asks of a barrier.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BarrierRequest {
    pub id: u32,
    /// Threads, or None for all.
    pub count: Option<u32>,
    /// `bar.arrive` does not wait.
    pub waits: bool,
    /// Lanes whose predicate is true, for `bar.red`.
    pub votes: u32,
    /// Where and how `bar.red` puts its result: (offset, operation).
    pub reduce: Option<(u32, u32)>,
}

/// Memory traffic, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub global_load: u64,
    pub global_store: u64,
    pub constant_load: u64,
    pub shared_load: u64,
    pub shared_store: u64,
}

/// What a handler sees: the current warp and its block.
pub(crate) struct Cx<'a> {
    /// The warp's register file; see `decode::frame` for its layout.
    pub regs: *mut u8,
    /// Lanes that have not ended.
    pub live: u32,
    pub shared: *mut u8,
    pub shared_len: u64,
    /// Local memory of the warp's lane 0; each lane has `local_len` bytes.
    pub local: *mut u8,
    pub local_len: u64,
    pub params: *mut u8,
    pub params_len: u64,
    pub parameters: &'a [Param],
    pub memory: &'a MemoryView,
    /// For each memory instruction the allocation it met last.
    pub caches: Vec<Segment>,
    /// Operand lists that do not fit an `Instr`.
    pub extra: *const u32,
    pub traffic: Traffic,
    /// Counters by place in the program, where the launch wants them; otherwise empty.
    pub profile: Vec<profile::Accesses>,
    pub fault: Option<Fault>,
    /// Where the other party of an error that is being reported was.
    pub other: Option<u32>,
    pub members: u32,
    /// Of the lanes at a collective those that wait for `members`.
    pub gathering: u32,
    /// For the checks: the warp's other lanes do not come to where these are.
    pub alone: bool,
    pub barrier: BarrierRequest,
    pub branch_targets: [u64; LANES],
    /// Where `brx.idx` lanes go, per index, and where calls by address land.
    pub functions: &'a [u32],
    /// Of functions that may call themselves.
    pub activations: &'a [Activation],
    /// Asynchronous copies under way, by warp of the cluster.
    pub copies: Vec<copy::Copies>,
    /// Bulk copies out of shared memory under way, by warp of the cluster.
    pub stores: Vec<bulk::Stores>,
    /// Products of `wgmma` under way, by warp of the cluster.
    pub products: Vec<wgmma::Products>,
    pub cluster: cluster::Cluster,
    /// What the checks know, where the launch wants them.
    pub checks: Option<Box<Checks>>,
    /// Whether counters or checks want to see accesses.
    pub observed: bool,
    /// Threads of a block.
    pub threads: u32,
    pub started: std::time::Instant,
    /// The block in the grid.
    pub block: [u32; 3],
    pub warp_in_block: u32,
    pub warp_in_cluster: u32,
    pub printed: String,
    /// Bytes that all blocks of the launch may still print.
    pub printable: &'a AtomicU64,
}

impl Cx<'_> {
    /// Reads the 32 lanes of a register.
    ///
    /// # Safety
    /// `offset` must be that of a register of `R`'s width in the current register file.
    #[inline(always)]
    pub(crate) unsafe fn lanes<R: Copy>(&self, offset: u32) -> &[R; LANES] {
        // SAFETY: by contract the offset is in bounds and aligned; the file outlives the borrow.
        unsafe { &*(self.regs.add(offset as usize) as *const [R; LANES]) }
    }

    /// Writes the lanes in `m`.
    ///
    /// # Safety
    /// As for `lanes`.
    #[inline(always)]
    pub(crate) unsafe fn set_lanes<R: Copy>(&mut self, offset: u32, m: u32, values: &[R; LANES]) {
        // SAFETY: by contract the offset is in bounds and aligned, and nothing else borrows the file.
        let target = unsafe { &mut *(self.regs.add(offset as usize) as *mut [R; LANES]) };
        if m == !0 {
            *target = *values;
        } else {
            for l in 0..LANES {
                if m >> l & 1 != 0 {
                    target[l] = values[l];
                }
            }
        }
    }

    /// A predicate: one bit a lane.
    ///
    /// # Safety
    /// `offset` must be that of a predicate.
    #[inline(always)]
    pub(crate) unsafe fn pred(&self, offset: u32) -> u32 {
        // SAFETY: by contract in bounds and aligned.
        unsafe { *(self.regs.add(offset as usize) as *const u32) }
    }

    /// Sets the lanes in `m` of a predicate.
    ///
    /// # Safety
    /// As for `pred`.
    #[inline(always)]
    pub(crate) unsafe fn set_pred(&mut self, offset: u32, m: u32, bits: u32) {
        // SAFETY: by contract in bounds and aligned.
        unsafe {
            let p = self.regs.add(offset as usize) as *mut u32;
            *p = *p & !m | bits & m;
        }
    }

    /// Records a fault of a lane, and of the other party where there is one.
    #[cold]
    pub(crate) fn fail(&mut self, lane: u32, what: String) -> Flow {
        self.fault = Some(Fault { lane, what, other: self.other.take() });
        Flow::Fault
    }

    /// The value of an operand-list entry.
    ///
    /// # Safety
    /// `index` must lie in the program's operand lists.
    #[inline(always)]
    pub(crate) unsafe fn extra(&self, index: u32) -> u32 {
        // SAFETY: by contract in bounds.
        unsafe { *self.extra.add(index as usize) }
    }
}

/// The lanes set in `m`, ascending.
#[inline(always)]
pub(crate) fn lanes_of(m: u32) -> impl Iterator<Item = usize> + Clone {
    let mut rest = m;
    std::iter::from_fn(move || {
        if rest == 0 {
            return None;
        }
        let lane = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        Some(lane)
    })
}

/// An instruction's action.
pub(crate) trait Handler {
    /// Acts on the lanes in `m`, which is not empty.
    ///
    /// # Safety
    /// The offsets in `i` must be those of registers of the widths that the handler reads and writes, within `cx.regs`.
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow;
}

/// Compiled for any CPU.
///
/// # Safety
/// As for `Handler::exec`.
unsafe fn run_anywhere<H: Handler>(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
    // SAFETY: same contract.
    unsafe { H::exec(cx, i, m) }
}

/// Compiled for CPUs with AVX2.
///
/// # Safety
/// As for `Handler::exec`, and the CPU must have the features.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn run_avx2<H: Handler>(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
    // SAFETY: same contract.
    unsafe { H::exec(cx, i, m) }
}

#[cfg(target_arch = "x86_64")]
/// Whether the CPU has what `run_avx2` is compiled for.
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt")
}

/// The version of a handler for this CPU.
pub(crate) fn pick<H: Handler>() -> Run {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        return run_avx2::<H>;
    }
    run_anywhere::<H>
}
