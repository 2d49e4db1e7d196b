//! Planted bugs around bulk copies to global memory, which write at any time until the wait for them. Each has its corrected twin.

mod common;
use common::planted::{lacks, pair, run};
use ptx_emulator::Schedule;

/// Thread 0 stores 2048 bytes of the tile, which all wrote.
const STORE: &str = "\n@%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 2048; @%p1 cp.async.bulk.commit_group;\n";
/// Thread 0 adds them.
const ADD: &str = "@%p1 cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%rd1], [%r2], 2048; @%p1 cp.async.bulk.commit_group;\n";
const WAIT: &str = "@%p1 cp.async.bulk.wait_group 0;\n";
const READ: &str = "ld.global.u32 %r10, [%rd1+4];\n";
const LATE: &str = "with no `cp.async.bulk.wait_group` after the write by warp 0, lane 0";

#[test]
fn what_a_bulk_copy_writes_is_not_touched_before_the_wait() {
    let parts = ["data race: read of 4 bytes at global address", LATE, "`@%p1 cp.async.bulk.global"];
    lacks("a read of the thread itself", &format!("{STORE} HERE @%p1 {READ}"), WAIT, &parts);
    lacks(
        "a wait for the reads alone",
        &format!("{STORE} @%p1 cp.async.bulk.wait_group.read 0; HERE @%p1 {READ}"),
        WAIT,
        &parts,
    );
    pair(
        "a wait for all groups but the last",
        &format!("{STORE} @%p1 cp.async.bulk.wait_group 1; @%p1 {READ}"),
        &format!("{STORE} @%p1 cp.async.bulk.commit_group; @%p1 cp.async.bulk.wait_group 1; @%p1 {READ}"),
        &parts,
    );
    lacks("reads after a barrier", &format!("{STORE} HERE bar.sync 0; {READ}"), WAIT, &parts);
    lacks(
        "reads of lanes at a stride",
        &format!(
            "{STORE} HERE mul.wide.u32 %rd2, %r1, 16; add.u64 %rd2, %rd1, %rd2; @%p2 ld.global.u32 %r10, [%rd2];"
        ),
        "@%p1 cp.async.bulk.wait_group 0; bar.sync 0;",
        &parts[..2],
    );
    lacks(
        "a write",
        &format!("{STORE} HERE @%p1 st.global.u32 [%rd1+64], %r20;"),
        WAIT,
        &["data race: write of 4 bytes at global address", LATE],
    );
    lacks("a second copy", &format!("{STORE} HERE {STORE} {WAIT}"), WAIT, &["data race: ", LATE]);
    // Of two proxies.
    lacks(
        "a sum and an atomic",
        &format!("{ADD} HERE @%p1 red.global.add.u32 [%rd1], 1; {WAIT}"),
        WAIT,
        &["data race: ", LATE],
    );
    lacks("a sum and a copy", &format!("{ADD} HERE {STORE} {WAIT}"), WAIT, &["data race: ", LATE]);
}

#[test]
fn what_a_bulk_copy_writes_is_ordered_from_the_wait_on() {
    pair(
        "a barrier before the wait",
        &format!("{STORE} bar.sync 0; {WAIT} @!%p2 {READ}"),
        &format!("{STORE} {WAIT} bar.sync 0; @!%p2 {READ}"),
        &["data race: read of 4 bytes at global address", "the write by warp 0, lane 0"],
    );
    // The second cluster reads what the first one stores, as soon as it has said so.
    let flag = "@%p1 st.release.gpu.global.u32 [%rd2+3072], 1;\n";
    let pair_of = |order: [&str; 2]| {
        let [first, second] = order;
        format!(
            "mul.wide.u32 %rd2, %r18, 8192; sub.u64 %rd2, %rd1, %rd2; setp.ne.u32 %p3, %r18, 0; @%p3 bra SECOND;
            {STORE} {first} {second} bra DONE;
            SECOND: @!%p1 bra DONE;
            AGAIN: ld.acquire.gpu.global.u32 %r10, [%rd2+3072]; setp.eq.u32 %p4, %r10, 0; @%p4 bra AGAIN; ld.global.u32 %r11, [%rd2];
            st.release.gpu.global.u32 [%rd2+3076], 1;
            DONE:"
        )
    };
    pair(
        "a flag before the wait",
        &pair_of([flag, WAIT]),
        &pair_of([WAIT, flag]),
        &[
            "data race: read of 4 bytes at global address",
            "not ordered after the write by block (0, 0, 0), warp 0, lane 0",
        ],
    );
    // Where the first one waits for the second, the copy may still be writing while that reads.
    let answer = "@!%p1 bra DONE; ASK: ld.acquire.gpu.global.u32 %r10, [%rd2+3076]; setp.eq.u32 %p4, %r10, 0; @%p4 bra ASK;\n";
    pair(
        "an answer before the wait",
        &pair_of([flag, &format!("{answer} {WAIT}")]),
        &pair_of([WAIT, &format!("{flag} {answer}")]),
        &[" at global address", "not ordered after the read by block (1, 0, 0), warp 0, lane 0"],
    );
    pair(
        "an answer to another warp before the end, and no wait for the write",
        &pair_of([
            flag,
            "@%p1 cp.async.bulk.wait_group.read 0; setp.eq.u32 %p5, %r1, 32; @!%p5 bra DONE;
            ASK: ld.acquire.gpu.global.u32 %r10, [%rd2+3076]; setp.eq.u32 %p4, %r10, 0; @%p4 bra ASK;",
        ]),
        &pair_of([WAIT, &format!("{flag} {answer}")]),
        &[
            "data race: asynchronous write of 2048 bytes",
            " by warp 0, lane 0, ",
            "not ordered after the read by block (1, 0, 0)",
        ],
    );
    pair(
        "an answer before the end, and no wait for the write",
        &pair_of([flag, &format!("@%p1 cp.async.bulk.wait_group.read 0; {answer}")]),
        &pair_of([WAIT, &format!("{flag} {answer}")]),
        &[
            "`@%p1 cp.async.bulk.global",
            "not ordered after the read by block (1, 0, 0)",
            "(`AGAIN: ld.acquire",
        ],
    );
}

#[test]
fn sums_and_other_places_do_not_race() {
    for (name, body) in [
        ("two sums", format!("{ADD} {ADD} {WAIT}")),
        ("other bytes", format!("{STORE} ld.global.u32 %r10, [%rd1+2048]; {WAIT}")),
        ("a wait for the reads alone", format!("{STORE} @%p1 cp.async.bulk.wait_group.read 0;")),
        ("the same place after the wait", format!("{STORE} {WAIT} {STORE} {WAIT} @%p1 {READ}")),
    ] {
        run(&body, 1, Schedule::InOrder).unwrap_or_else(|error| panic!("{name} is accused: {error}"));
    }
}
