//! What the blocks of a cluster share: each other's shared memory and mbarriers, the cluster's barrier, and what is waited for.

use super::control::not_aligned;
use super::mbarrier::Mbarriers;
use super::mbarrier_ops::RELAXED;
use super::memory::GENERIC;
use super::registers::Changes;
use super::{Cx, Flow, Handler, Instr, lanes_of};
use crate::checks::CLUSTER;
use crate::memory::{SHARED_WINDOW, WINDOW};

/// Distance of two blocks' shared memory in the window `.shared::cluster`. The first step is the executing block's own memory;
/// that of the block of rank `r` begins at step `r + 1`.
pub(crate) const STEP: u64 = 1 << 24;

/// A block, as those of its cluster see it.
pub(crate) struct Peer {
    pub shared: *mut u8,
    pub mbarriers: Mbarriers,
    /// All its threads have ended.
    pub ended: bool,
}

/// The cluster that runs.
pub(crate) struct Cluster {
    /// By rank.
    pub peers: Vec<Peer>,
    /// Of the block that runs.
    pub rank: u32,
    /// Counts what can end a wait.
    pub events: u64,
    /// Nobody can go on: waits with a time limit end.
    pub expired: bool,
    /// Where waits say what they wait for, when somebody asks.
    pub explanation: Option<String>,
    /// For each warp of the cluster the lanes that have arrived at the cluster's barrier.
    pub arrived: Vec<u32>,
    /// Those that may pass it.
    pub open: Vec<u32>,
    /// Those that have not ended.
    pub live: Vec<u32>,
    /// Registers of each warp's threads, and for each block how many more such registers of a warp are free.
    pub registers: Vec<u32>,
    pub free: Vec<u32>,
    /// For the checks: how each warp changed its registers.
    pub changes: Vec<Changes>,
}

impl Cluster {
    pub(crate) fn new(blocks: usize, warps: usize) -> Cluster {
        let peer = |_| Peer { shared: std::ptr::null_mut(), mbarriers: Mbarriers::default(), ended: false };
        Cluster {
            peers: (0..blocks).map(peer).collect(),
            rank: 0,
            events: 0,
            expired: false,
            explanation: None,
            arrived: vec![0; blocks * warps],
            open: vec![0; blocks * warps],
            live: vec![0; blocks * warps],
            registers: vec![0; blocks * warps],
            free: vec![0; blocks],
            changes: vec![Changes::default(); blocks * warps],
        }
    }

    /// The rank and the offset of an address in `.shared::cluster`.
    pub(crate) fn split(&self, address: u64) -> Result<(u32, u64), String> {
        if address < STEP {
            return Ok((self.rank, address));
        }
        let rank = address / STEP - 1;
        if rank >= self.peers.len() as u64 {
            return Err(format!(
                "shared address {address:#x} is that of block {rank} of a cluster of {}",
                self.peers.len()
            ));
        }
        if self.peers[rank as usize].ended {
            return Err(format!(
                "shared address {address:#x} is that of block {rank} of the cluster, which has ended"
            ));
        }
        Ok((rank as u32, address % STEP))
    }
}

/// The offset of a shared address in the window, of either space.
pub(crate) fn in_window(space: u8, address: u64) -> Result<u64, String> {
    if space != GENERIC {
        return Ok(address);
    }
    let offset = address.checked_sub(SHARED_WINDOW).filter(|&o| o < WINDOW);
    offset.ok_or_else(|| format!("generic address {address:#x} does not lie in shared memory"))
}

/// `mapa`: the address `a` in the block of rank `b`; `e` is the space, 64 bits with bit 0 of `n`.
pub(crate) struct MapRank;
/// `getctarank`: the rank of the block that has the address `a`; as `MapRank`.
pub(crate) struct GetRank;

/// # Safety
/// `i.a` must be a register of the width that `i.n` says.
unsafe fn operand(cx: &Cx, i: &Instr, lane: usize) -> u64 {
    // SAFETY: by contract.
    unsafe { if i.n & 1 != 0 { cx.lanes::<u64>(i.a)[lane] } else { u64::from(cx.lanes::<u32>(i.a)[lane]) } }
}

impl Handler for MapRank {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let base = if i.e as u8 == GENERIC { SHARED_WINDOW } else { 0 };
        let mut out = [0u64; 32];
        for l in lanes_of(m) {
            // SAFETY: the decoder gave registers of these widths.
            let (address, rank) = unsafe { (operand(cx, i, l), cx.lanes::<u32>(i.b)[l]) };
            let blocks = cx.cluster.peers.len();
            if rank as usize >= blocks {
                return cx.fail(l as u32, format!("block {rank} of a cluster of {blocks}"));
            }
            match in_window(i.e as u8, address) {
                Ok(offset) => out[l] = base + (u64::from(rank) + 1) * STEP + offset % STEP,
                Err(what) => return cx.fail(l as u32, what),
            }
        }
        // SAFETY: as above.
        unsafe {
            if i.n & 1 != 0 {
                cx.set_lanes(i.d, m, &out);
            } else {
                cx.set_lanes(i.d, m, &out.map(|x| x as u32));
            }
        }
        Flow::Next
    }
}

impl Handler for GetRank {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let mut out = [0u32; 32];
        for l in lanes_of(m) {
            // SAFETY: the decoder gave registers of these widths.
            let address = unsafe { operand(cx, i, l) };
            match in_window(i.e as u8, address).and_then(|offset| cx.cluster.split(offset)) {
                Ok((rank, _)) => out[l] = rank,
                Err(what) => return cx.fail(l as u32, what),
            }
        }
        // SAFETY: as above.
        unsafe { cx.set_lanes(i.d, m, &out) };
        Flow::Next
    }
}

/// `barrier.cluster.arrive`, which threads that have ended need not reach; `n` may be [`ALIGNED`](super::control::ALIGNED), `c` of the
/// arrival [`RELAXED`].
pub(crate) struct ClusterArrive;
/// `barrier.cluster.wait`; likewise.
pub(crate) struct ClusterWait;

impl Handler for ClusterArrive {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if let Some(flow) = not_aligned(cx, i, (m, cx.live), || "the cluster's barrier".into()) {
            return flow;
        }
        let w = cx.warp_in_cluster as usize;
        let cluster = &mut cx.cluster;
        let again = m & (cluster.arrived[w] | cluster.open[w]);
        if again != 0 {
            let what = "the thread arrives at the cluster's barrier again before it has waited there";
            return cx.fail(again.trailing_zeros(), what.into());
        }
        cluster.arrived[w] |= m;
        cluster.events += 1;
        if let Some(checks) = &mut cx.checks {
            if i.c & RELAXED != 0 {
                checks.arrive_relaxed(CLUSTER, w as u32);
            } else {
                checks.release(CLUSTER, w as u32);
            }
        }
        Flow::Next
    }
}

impl Handler for ClusterWait {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if let Some(flow) = not_aligned(cx, i, (m, cx.live), || "the cluster's barrier".into()) {
            return flow;
        }
        let w = cx.warp_in_cluster as usize;
        let cluster = &mut cx.cluster;
        cluster.live[w] = cx.live;
        // Threads that have ended are not waited for.
        if cluster.live.iter().zip(&cluster.arrived).all(|(live, arrived)| live & !arrived == 0) {
            for (open, arrived) in cluster.open.iter_mut().zip(&mut cluster.arrived) {
                *open |= std::mem::take(arrived);
            }
            cluster.events += 1;
            if let Some(checks) = &mut cx.checks {
                checks.cluster_settled();
            }
        }
        let strange = m & !(cluster.arrived[w] | cluster.open[w]);
        if strange != 0 {
            let what = "the thread waits at the cluster's barrier without having arrived there";
            return cx.fail(strange.trailing_zeros(), what.into());
        }
        if m & !cluster.open[w] == 0 {
            cluster.open[w] &= !m;
            cluster.events += 1;
            if let Some(checks) = &mut cx.checks {
                checks.acquire_cluster(w as u32);
            }
            return Flow::Next;
        }
        if let Some(text) = &mut cluster.explanation {
            let lacking = cluster.live.iter().zip(&cluster.arrived).filter(|(l, a)| *l & !*a != 0).count();
            *text = format!("the cluster's barrier, which {lacking} warps have not reached");
        }
        Flow::Wait
    }
}
