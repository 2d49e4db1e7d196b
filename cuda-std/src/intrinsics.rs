//! LLVM's names for the instructions that must stay `convergent`, and for arithmetic that LLVM may then fold.
//!
//! Each is safe to name and unsafe to call; the public functions say what the caller owes.
#![allow(improper_ctypes, missing_docs)]

unsafe extern "C" {
    #[link_name = "llvm.nvvm.read.ptx.sreg.tid.x"]
    pub fn tid_x() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.tid.y"]
    pub fn tid_y() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.tid.z"]
    pub fn tid_z() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.ctaid.x"]
    pub fn ctaid_x() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.ctaid.y"]
    pub fn ctaid_y() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.ctaid.z"]
    pub fn ctaid_z() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.ntid.x"]
    pub fn ntid_x() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.ntid.y"]
    pub fn ntid_y() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.ntid.z"]
    pub fn ntid_z() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.nctaid.x"]
    pub fn nctaid_x() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.nctaid.y"]
    pub fn nctaid_y() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.nctaid.z"]
    pub fn nctaid_z() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.laneid"]
    pub fn laneid() -> u32;
    #[link_name = "llvm.nvvm.read.ptx.sreg.clock64"]
    pub fn clock64() -> u64;
    #[link_name = "llvm.nvvm.activemask"]
    pub fn activemask() -> u32;

    #[link_name = "llvm.nvvm.barrier.cta.sync.aligned.all"]
    pub fn barrier_sync_all(id: u32);
    #[link_name = "llvm.nvvm.barrier.cta.sync.aligned.count"]
    pub fn barrier_sync_count(id: u32, threads: u32);
    #[link_name = "llvm.nvvm.barrier.cta.arrive.aligned.count"]
    pub fn barrier_arrive_count(id: u32, threads: u32);
    #[link_name = "llvm.nvvm.barrier.cta.red.popc.aligned.all"]
    pub fn barrier_red_popc(id: u32, predicate: bool) -> u32;
    #[link_name = "llvm.nvvm.barrier.cta.red.and.aligned.all"]
    pub fn barrier_red_and(id: u32, predicate: bool) -> bool;
    #[link_name = "llvm.nvvm.barrier.cta.red.or.aligned.all"]
    pub fn barrier_red_or(id: u32, predicate: bool) -> bool;
    #[link_name = "llvm.nvvm.bar.warp.sync"]
    pub fn bar_warp_sync(mask: u32);
    #[link_name = "llvm.nvvm.membar.cta"]
    pub fn membar_cta();
    #[link_name = "llvm.nvvm.membar.gl"]
    pub fn membar_gl();
    #[link_name = "llvm.nvvm.membar.sys"]
    pub fn membar_sys();
    #[link_name = "llvm.nvvm.nanosleep"]
    pub fn nanosleep(nanoseconds: u32);

    #[link_name = "llvm.nvvm.shfl.sync.bfly.i32"]
    pub fn shfl_bfly_i32(mask: u32, value: u32, lane: u32, clamp: u32) -> u32;
    #[link_name = "llvm.nvvm.shfl.sync.bfly.f32"]
    pub fn shfl_bfly_f32(mask: u32, value: f32, lane: u32, clamp: u32) -> f32;
    #[link_name = "llvm.nvvm.shfl.sync.idx.i32"]
    pub fn shfl_idx_i32(mask: u32, value: u32, lane: u32, clamp: u32) -> u32;
    #[link_name = "llvm.nvvm.shfl.sync.idx.f32"]
    pub fn shfl_idx_f32(mask: u32, value: f32, lane: u32, clamp: u32) -> f32;
    #[link_name = "llvm.nvvm.vote.all.sync"]
    pub fn vote_all(mask: u32, predicate: bool) -> bool;
    #[link_name = "llvm.nvvm.vote.any.sync"]
    pub fn vote_any(mask: u32, predicate: bool) -> bool;
    #[link_name = "llvm.nvvm.vote.ballot.sync"]
    pub fn vote_ballot(mask: u32, predicate: bool) -> u32;
    #[link_name = "llvm.nvvm.match.any.sync.i32"]
    pub fn match_any_i32(mask: u32, value: u32) -> u32;
    #[link_name = "llvm.nvvm.match.any.sync.i64"]
    pub fn match_any_i64(mask: u32, value: u64) -> u32;

    #[link_name = "llvm.nvvm.ex2.approx.ftz.f"]
    pub fn ex2_approx_ftz(x: f32) -> f32;
    #[link_name = "llvm.nvvm.lg2.approx.ftz.f"]
    pub fn lg2_approx_ftz(x: f32) -> f32;
    #[link_name = "llvm.nvvm.rcp.approx.ftz.f"]
    pub fn rcp_approx_ftz(x: f32) -> f32;
    #[link_name = "llvm.nvvm.rsqrt.approx.ftz.f"]
    pub fn rsqrt_approx_ftz(x: f32) -> f32;
    #[link_name = "llvm.nvvm.div.approx.ftz.f"]
    pub fn div_approx_ftz(x: f32, y: f32) -> f32;
    #[link_name = "llvm.nvvm.fmax.f"]
    pub fn fmax(x: f32, y: f32) -> f32;
    #[link_name = "llvm.nvvm.fmin.f"]
    pub fn fmin(x: f32, y: f32) -> f32;
    #[link_name = "llvm.fma.f32"]
    pub fn fma(a: f32, b: f32, c: f32) -> f32;
    #[link_name = "llvm.sqrt.f32"]
    pub fn sqrt(x: f32) -> f32;
    #[link_name = "llvm.floor.f32"]
    pub fn floor(x: f32) -> f32;
    #[link_name = "llvm.ceil.f32"]
    pub fn ceil(x: f32) -> f32;
    #[link_name = "llvm.trunc.f32"]
    pub fn trunc(x: f32) -> f32;
    #[link_name = "llvm.roundeven.f32"]
    pub fn round_even(x: f32) -> f32;

    #[link_name = "llvm.trap"]
    pub fn trap() -> !;
    #[link_name = "llvm.debugtrap"]
    pub fn debugtrap();
}

// The intrinsics that answer with a pair: only this ABI passes an LLVM struct through unchanged.
unsafe extern "unadjusted" {
    #[link_name = "llvm.nvvm.shfl.sync.bfly.i32p"]
    pub fn shfl_bfly_i32p(mask: u32, value: u32, lane: u32, clamp: u32) -> (u32, bool);
    #[link_name = "llvm.nvvm.shfl.sync.idx.i32p"]
    pub fn shfl_idx_i32p(mask: u32, value: u32, lane: u32, clamp: u32) -> (u32, bool);
    #[link_name = "llvm.nvvm.shfl.sync.up.i32p"]
    pub fn shfl_up_i32p(mask: u32, value: u32, delta: u32, clamp: u32) -> (u32, bool);
    #[link_name = "llvm.nvvm.shfl.sync.down.i32p"]
    pub fn shfl_down_i32p(mask: u32, value: u32, delta: u32, clamp: u32) -> (u32, bool);
    #[link_name = "llvm.nvvm.match.all.sync.i32p"]
    pub fn match_all_i32p(mask: u32, value: u32) -> (u32, bool);
    #[link_name = "llvm.nvvm.match.all.sync.i64p"]
    pub fn match_all_i64p(mask: u32, value: u64) -> (u32, bool);
}
