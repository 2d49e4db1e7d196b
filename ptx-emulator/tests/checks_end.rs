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

#[test]
fn barriers_are_complete_when_the_block_ends() {
    always(
        "arrivals for more threads than come",
        "bar.arrive 1, 160;",
        "bar.arrive 1, 128;",
        &[
            "the block ended while barrier 1 was incomplete: 128 of 160 threads had come to it",
            "bar.arrive 1, 160;",
        ],
    );
    let turns = |last: &str| {
        format!(
            "@%p2 bra W; bar.arrive 3, 128; bar.sync 4, 128; {last} ret; W: bar.sync 3, 128; bar.sync 4, 128;"
        )
    };
    always(
        "one arrival too many",
        &turns("bar.arrive 3, 128;"),
        &turns(""),
        &[
            "the block ended while barrier 3 was incomplete: 96 of 128 threads had come to it",
            "bar.arrive 3, 128; ret;",
        ],
    );
    // The half of a warp that arrived has ended before the other half does.
    let half = |count: u32| {
        format!(
            "and.b32 %r5, %r1, 31; setp.lt.u32 %p3, %r5, 16; @!%p3 bra E; barrier.arrive 2, {count}; ret; E: bar.warp.sync 0xffff0000;"
        )
    };
    always(
        "halves of warps",
        &half(96),
        &half(64),
        &["the block ended while barrier 2 was incomplete: 32 of 96 threads had come to it"],
    );
}
