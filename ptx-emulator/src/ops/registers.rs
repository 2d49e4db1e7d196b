//! `setmaxnreg`: registers that warps give to their block's pool and take from it. All warps of a warpgroup must execute the same one, and meet
//! before they execute the next (PTX manual, "Miscellaneous Instructions: setmaxnreg"); the checks say where they do not.

use super::{Cx, Flow, Handler, Instr};
use std::ops::Range;

/// Warps of a warpgroup.
const GROUP: u32 = 4;

/// For the checks: how often a warp has changed its registers; of the last time the place in the program, the new number, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Changes {
    count: u32,
    at: u32,
    registers: u32,
    time: u32,
}

/// `setmaxnreg`: registers of a thread `n`; more with `d`, or else fewer.
pub(crate) struct SetRegisters;

impl Handler for SetRegisters {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if m != cx.live {
            cx.members = cx.live;
            return Flow::Collective;
        }
        if let Err((what, other)) = together(cx, i) {
            cx.other = other;
            return cx.fail(m.trailing_zeros(), what);
        }
        let (w, rank) = (cx.warp_in_cluster as usize, cx.cluster.rank as usize);
        let has = cx.cluster.registers[w];
        if (i.d != 0 && i.n < has) || (i.d == 0 && i.n > has) {
            let name = if i.d != 0 { "inc" } else { "dec" };
            return cx.fail(
                m.trailing_zeros(),
                format!("`setmaxnreg.{name}` to {} of a warp that has {has}", i.n),
            );
        }
        let cluster = &mut cx.cluster;
        let free = cluster.free[rank] + has;
        if i.n > free {
            if let Some(text) = &mut cluster.explanation {
                *text = format!("{} more registers a thread, of which {} are free", i.n - has, free - has);
            }
            return Flow::Wait;
        }
        (cluster.registers[w], cluster.free[rank]) = (i.n, free - i.n);
        cluster.events += 1;
        if let Some(checks) = &cx.checks {
            let count = cluster.changes[w].count + 1;
            cluster.changes[w] = Changes { count, at: i.at, registers: i.n, time: checks.now() };
        }
        Flow::Next
    }
}

/// The other warps of the warpgroup that runs, by their numbers in the block, and what to add to that for those in the cluster.
fn others(cx: &Cx) -> (impl Iterator<Item = u32> + use<>, u32) {
    let own = cx.warp_in_block;
    let first = own - own % GROUP;
    let all: Range<u32> = first..(first + GROUP).min(cx.threads.div_ceil(super::LANES as u32));
    (all.filter(move |&w| w != own), cx.warp_in_cluster - own)
}

/// For the checks: whether the warp may change its registers, as far as the others of its warpgroup go. The error has the place of another's
/// change, if there is one.
fn together(cx: &Cx, i: &Instr) -> Result<(), (String, Option<u32>)> {
    let Some(checks) = &cx.checks else { return Ok(()) };
    let before = cx.cluster.changes[cx.warp_in_cluster as usize];
    let (others, base) = others(cx);
    for w in others {
        let (other, its) = ((base + w) as usize, cx.cluster.changes[(base + w) as usize]);
        // One that is ahead met this warp, or it would have been accused.
        let is_ahead = its.count > before.count;
        if !is_ahead && cx.cluster.live[other] == 0 {
            return Err((ended_without(cx.warp_in_block, i.n, w), None));
        }
        let has_met = is_ahead
            || its.count == before.count && checks.is_ordered(other as u32, its.time, cx.warp_in_cluster);
        if before.count > 0 && !has_met {
            let what = format!(
                "`setmaxnreg` to {} by warp {}, with no barrier between it and the one before by warp {w} of its warpgroup",
                i.n, cx.warp_in_block
            );
            return Err((what, Some(before.at)));
        }
        if is_ahead && its.registers != i.n {
            let what = format!(
                "`setmaxnreg` to {} by warp {}, but to {} by warp {w} of its warpgroup,",
                i.n, cx.warp_in_block, its.registers
            );
            return Err((what, Some(its.at)));
        }
    }
    Ok(())
}

/// For the checks: the warp that runs has ended. A warp of its warpgroup that changed its registers when this one did not: place in
/// the program and number in the block, and what is wrong.
pub(crate) fn missed(cx: &Cx) -> Option<(u32, u32, String)> {
    let count = cx.cluster.changes[cx.warp_in_cluster as usize].count;
    let (mut others, base) = others(cx);
    others.find_map(|w| {
        let its = cx.cluster.changes[(base + w) as usize];
        (its.count > count).then(|| (its.at, w, ended_without(w, its.registers, cx.warp_in_block)))
    })
}

fn ended_without(warp: u32, registers: u32, ended: u32) -> String {
    format!(
        "`setmaxnreg` to {registers} by warp {warp}, but warp {ended} of its warpgroup ended without it: all four must execute it"
    )
}
