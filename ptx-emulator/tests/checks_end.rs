//! Planted bugs that show when a warp or its block ends: what it began is not over. Each has its corrected twin.

mod common;
use common::planted::{lacks, pair, run};
use ptx_emulator::Schedule;

/// As `pair`; `wrong` fails so in every order.
fn always(name: &str, wrong: &str, right: &str, parts: &[&str]) {
    pair(name, wrong, right, parts);
    for seed in 0..8 {
        let error = run(wrong, 1, Schedule::Seeded(seed)).err();
        let text = error.unwrap_or_else(|| panic!("{name}: not found with seed {seed}")).to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{name}, seed {seed}: {text}");
    }
}

/// A and B of a product, all of them zero.
const PRODUCT: &str = "fence.proxy.async; bar.sync 0; wgmma.fence.sync.aligned;
    wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f0, %f1, %f2, %f3}, 0x0000001000080000, 0x0000001000080080, %p7, 1, 1, 0, 0;\n";
const COMMIT: &str = "wgmma.commit_group.sync.aligned;\n";

#[test]
fn products_are_waited_for() {
    let ended = |lacks: &str| format!(" ended while a product that it issued {lacks}");
    lacks(
        "no wait",
        &format!("{PRODUCT}{COMMIT}HERE"),
        "wgmma.wait_group.sync.aligned 0;",
        &[&ended("has not been waited for"), ", lane 0), PTX line", "`wgmma.mma_async.sync.aligned.m64n8k16"],
    );
    lacks(
        "no group",
        &format!("{PRODUCT}HERE wgmma.wait_group.sync.aligned 0;"),
        COMMIT,
        &[&ended("is in no group"), "`wgmma.mma_async"],
    );
    lacks(
        "one group of two",
        &format!("{PRODUCT}{COMMIT}{PRODUCT}{COMMIT} wgmma.wait_group.sync.aligned 1; HERE"),
        "wgmma.wait_group.sync.aligned 0;",
        &[&ended("has not been waited for")],
    );
    lacks(
        "a wait of three warps",
        &format!("{PRODUCT}{COMMIT} @!%p2 wgmma.wait_group.sync.aligned 0; HERE"),
        "@%p2 wgmma.wait_group.sync.aligned 0;",
        &["warp 0 ended while a product that it issued has not been waited for", "thread (0, 0, 0)"],
    );
}

#[test]
fn a_warpgroup_changes_its_registers_together() {
    let [dec, inc] = ["setmaxnreg.dec.sync.aligned.u32 24;", "setmaxnreg.inc.sync.aligned.u32 64;"];
    always(
        "one warp of four",
        &format!("@%p2 {dec}"),
        dec,
        &[
            "`setmaxnreg` to 24 by warp 0, but warp ",
            "of its warpgroup ended without it",
            "(warp 0, lane 0), PTX line",
        ],
    );
    always(
        "three warps of four",
        &format!("@!%p2 {dec} bar.sync 0;"),
        &format!("@!%p2 {dec} @%p2 {dec} bar.sync 0;"),
        &["`setmaxnreg` to 24 by warp ", ", but warp 0 of its warpgroup ended without it"],
    );
    always(
        "two numbers",
        &format!("@%p2 {dec}\n@!%p2 {};", dec.replace("24", "32")),
        &format!("@%p2 {dec}\n@!%p2 {dec};"),
        &["`setmaxnreg` to ", ", but to ", " of its warpgroup, at PTX line"],
    );
    always(
        "the next one with no barrier between",
        &format!("\n{dec}\n{inc}"),
        &format!("{dec}\nbar.sync 0;\n{inc}"),
        &[
            "`setmaxnreg` to 64 by warp ",
            "with no barrier between it and the one before by warp ",
            "(`setmaxnreg.dec",
        ],
    );
    always(
        "a barrier of three warps between",
        &format!("{dec} @!%p2 bar.sync 1, 96; {inc}"),
        &format!("{dec} @!%p2 bar.sync 1, 128; @%p2 bar.sync 1, 128; {inc}"),
        &["`setmaxnreg` to 64 by warp ", "with no barrier between it and the one before by warp "],
    );
    always(
        "a second one of one warp",
        &format!("{dec} bar.sync 0; @%p2 {inc}"),
        &format!("{dec} bar.sync 0; {inc}"),
        &["`setmaxnreg` to 64 by warp 0, but warp ", "of its warpgroup ended without it"],
    );
}

/// Two warpgroups that take turns: the second leaves the turn to the first, which has ended.
#[test]
fn arrivals_that_nobody_waits_for_any_more_are_no_error() {
    let turns = "setp.ge.u32 %p3, %r1, 64; @%p3 bra SECOND; bar.sync 3, 128; bar.arrive 4, 128; ret;
        SECOND: bar.arrive 3, 128; bar.sync 4, 128; bar.arrive 3, 128;";
    for seed in 0..8 {
        run(turns, 1, Schedule::Seeded(seed)).unwrap();
    }
}

/// Half of warp 0 arrives and ends, the other half ends later: warp 1 does not wait for ever.
#[test]
fn lanes_that_arrived_and_ended_count_as_their_warps_arrival() {
    let half = "@%p2 bra FIRST; setp.lt.u32 %p3, %r1, 64; @%p3 barrier.sync 2, 64; ret;
        FIRST: setp.lt.u32 %p3, %r1, 16; @!%p3 bra E; barrier.arrive 2, 64; ret; E: bar.warp.sync 0xffff0000;";
    for seed in 0..8 {
        run(half, 1, Schedule::Seeded(seed)).unwrap();
    }
}
