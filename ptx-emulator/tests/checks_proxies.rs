//! Planted bugs around proxy fences and global memory: what threads wrote there is there for bulk copies only after `fence.proxy.async`.
//! Each has its corrected twin.

mod common;
use common::planted::{INIT, lacks, pair, run};
use ptx_emulator::Schedule;

/// Thread 0 loads 2048 bytes to the tile's start.
const LOAD: &str = "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], 2048;
    @%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd1], 2048, [%r3]; WAIT 0, 0;\n";
/// Thread 0 stores 2048 bytes of the tile, and waits for that.
const STORE: &str = "\n@%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 2048;
    @%p1 cp.async.bulk.commit_group; @%p1 cp.async.bulk.wait_group 0;\n";
/// Thread 0 adds them.
const ADD: &str = "@%p1 cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%rd1], [%r2], 2048;
    @%p1 cp.async.bulk.commit_group; @%p1 cp.async.bulk.wait_group 0;\n";
const FENCE: &str = "fence.proxy.async.global;\n";
const ALL: &str = "fence.proxy.async;\n";
const SHARED: &str = "fence.proxy.async.shared::cta;\n";
/// Thread 64 of warp 2 writes a word, thread 0 another.
const WRITE: &str = "setp.eq.u32 %p3, %r1, 64; @%p3 st.global.u32 [%rd1+512], %r1;\n";
const OWN: &str = "@%p1 st.global.u32 [%rd1+64], %r20;\n";
const LACKS: &str = "with no `fence.proxy.async` after the write by warp";

#[test]
fn what_threads_write_needs_a_fence_before_a_bulk_copy_reads_it() {
    let parts = [
        "data race: asynchronous read of 2048 bytes at global address",
        LACKS,
        "`@%p1 st.global.u32 [%rd1+64]",
    ];
    let body = |between: &str| format!("{INIT} {OWN} {between} {LOAD}");
    pair("no fence", &body(""), &body(FENCE), &parts);
    pair("a fence for shared memory", &body(SHARED), &body(ALL), &parts);
    pair("a fence of memory, not of the proxy", &body("fence.acq_rel.gpu;"), &body(ALL), &parts);
    pair("a fence before the write", &format!("{INIT} {FENCE} {OWN} {LOAD}"), &body(FENCE), &parts);
    pair(
        "a write between the fence and the copy",
        &format!("{INIT} {OWN} {FENCE} {OWN} {LOAD}"),
        &format!("{INIT} {OWN} {OWN} {FENCE} {LOAD}"),
        &parts,
    );
    lacks(
        "an atomic",
        &format!("{INIT} @%p1 red.global.add.u32 [%rd1], 1; HERE {LOAD}"),
        FENCE,
        &["data race: asynchronous read", LACKS, "`@%p1 red.global"],
    );
}

#[test]
fn fences_of_other_warps_count_where_they_are_ordered() {
    let parts = ["data race: asynchronous read of 2048 bytes at global address", LACKS, "warp 2, lane 0"];
    let body = |before: &str, after: &str| format!("{INIT} {WRITE} {before} bar.sync 0; {after} {LOAD}");
    pair("a barrier alone", &body("", ""), &body(FENCE, ""), &parts);
    pair("a barrier and no fence after it", &body("", ""), &body("", FENCE), &parts);
    pair(
        "a fence of a warp that does not know of the write",
        &body(&format!("@%p2 {FENCE}"), ""),
        &body("", &format!("@%p2 {FENCE}")),
        &parts,
    );
    pair(
        "a fence that no barrier orders before the copy",
        &body("", &format!("@!%p2 {FENCE}")),
        &body("", &format!("@!%p2 {FENCE} bar.sync 0;")),
        &parts,
    );
}

#[test]
fn what_threads_write_needs_a_fence_before_a_bulk_copy_writes_it() {
    let parts = ["data race: asynchronous write of 2048 bytes at global address", LACKS];
    lacks("a copy", &format!("{OWN} HERE {STORE}"), FENCE, &parts);
    lacks("a copy after a barrier", &format!("{WRITE} HERE bar.sync 0; {STORE}"), FENCE, &parts);
    lacks("a sum", &format!("{OWN} HERE {ADD}"), FENCE, &["data race: ", LACKS]);
    let atomic = "@%p1 red.global.add.u32 [%rd1+64], 1;";
    lacks("two strong accesses", &format!("{atomic} HERE {ADD}"), FENCE, &["data race: ", LACKS]);
}

#[test]
fn fences_reach_other_clusters_with_what_is_handed_on() {
    let body = |giver: &str, taker: &str| {
        format!(
            "{INIT} mul.wide.u32 %rd2, %r18, 8192; sub.u64 %rd1, %rd1, %rd2; setp.ne.u32 %p3, %r18, 0; @%p3 bra SECOND;
            {OWN} {giver} @%p1 st.release.gpu.global.u32 [%rd1+3072], 1; bra DONE;
            SECOND: @!%p1 bra DONE;
            AGAIN: ld.acquire.gpu.global.u32 %r10, [%rd1+3072]; setp.eq.u32 %p4, %r10, 0; @%p4 bra AGAIN; {taker} {LOAD}
            DONE:"
        )
    };
    let parts = [
        "data race: asynchronous read",
        "with no `fence.proxy.async` after the write by block (0, 0, 0), warp 0",
    ];
    pair("none", &body("", ""), &body(FENCE, ""), &parts);
    pair("none by the reader", &body("", ""), &body("", FENCE), &parts);
    pair("for shared memory", &body(SHARED, SHARED), &body(ALL, ""), &parts);
}

#[test]
fn atomics_and_sums_of_bulk_copies_race_in_either_order() {
    // The first cluster's access runs first.
    let red = "@%p1 red.global.add.u32 [%rd1+64], 1;";
    let body = |first: &str, second: &str| {
        format!(
            "mul.wide.u32 %rd2, %r18, 8192; sub.u64 %rd1, %rd1, %rd2; setp.ne.u32 %p3, %r18, 0; @%p3 bra SECOND;
            {first} bra DONE; SECOND: {second} DONE:"
        )
    };
    pair(
        "an atomic, then a sum",
        &body(red, ADD),
        &body(ADD, ADD),
        &["data race: ", "the write by block (0, 0, 0)"],
    );
    pair(
        "a sum, then an atomic",
        &body(ADD, red),
        &body(red, red),
        &["data race: ", "the write by block (0, 0, 0)"],
    );
}

#[test]
fn what_bulk_copies_write_needs_no_fence() {
    for (name, body) in [
        ("a copy, loaded", format!("{INIT} {STORE} {LOAD}")),
        ("a copy, loaded after a barrier by another warp's thread", {
            format!("{INIT} {STORE} bar.sync 0; {LOAD}")
        }),
        ("two copies", format!("{STORE} {STORE}")),
        ("a copy and a sum", format!("{STORE} {ADD}")),
        ("a write of other bytes", format!("{INIT} @%p1 st.global.u32 [%rd1+2048], %r20; {LOAD}")),
        ("a read", format!("{INIT} @%p1 ld.global.u32 %r10, [%rd1+64]; {LOAD}")),
        ("a write that a copy has replaced", format!("{INIT} {OWN} {FENCE} {STORE} {LOAD}")),
    ] {
        run(&body, 1, Schedule::InOrder).unwrap_or_else(|error| panic!("{name} is accused: {error}"));
    }
    // A write after the copy, by the same thread at the same time, is a write again, and so is an atomic.
    lacks(
        "an atomic after a copy",
        &format!("{INIT} {STORE} @%p1 red.global.add.u32 [%rd1+64], 1; HERE {LOAD}"),
        FENCE,
        &["data race: asynchronous read", LACKS, "`@%p1 red.global.add.u32 [%rd1+64]"],
    );
    lacks(
        "a write after a copy",
        &format!("{INIT} {STORE} {OWN} HERE {LOAD}"),
        FENCE,
        &["data race: asynchronous read", LACKS, "`@%p1 st.global.u32 [%rd1+64]"],
    );
}
