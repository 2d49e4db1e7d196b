//! Planted bugs around everything that runs beside the threads: bulk copies, mbarriers, `wgmma`, clusters. Each is wrong in one way and
//! has its corrected twin. Every bug is found, and no twin is accused.

mod common;
use common::planted::{INIT, lacks, pair, pair_in};

/// Thread 0 loads 2048 bytes to the tile's start.
const LOAD: &str = "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], 2048;
    @%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd1], 2048, [%r3];\n";
/// All threads write 16 bytes each from the tile's start.
const FILL: &str = "st.shared.v4.u32 [%r4], {%r20, %r20, %r20, %r20};\n";
const READ: &str = "ld.shared.v4.u32 {%r10, %r11, %r12, %r13}, [%r4];\n";
const STORE: &str = "@%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 2048; @%p1 cp.async.bulk.commit_group;\n";
/// K leads, no swizzle: A at 0 (2048 bytes), B at 2048 (256 bytes).
const A: &str = "0x0000001000080000";
const B: &str = "0x0000001000080080";
const FILL_B: &str =
    "@%p2 st.shared.v2.u32 [%r4+2048], {%r20, %r20}; @%p2 st.shared.v2.u32 [%r4+2056], {%r20, %r20};\n";

/// A product of A and B into `%f0` to `%f3`.
fn product(a: &str) -> String {
    let transposes = if a.starts_with('{') { "0" } else { "0, 0" };
    format!(
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {{%f0, %f1, %f2, %f3}}, {a}, {B}, %p7, 1, 1, {transposes};\n"
    )
}

const COMMIT: &str = "wgmma.commit_group.sync.aligned;\n";
const DONE: &str = "wgmma.wait_group.sync.aligned 0;\n";
const FENCE: &str = "wgmma.fence.sync.aligned;\n";

#[test]
fn bulk_copies_into_shared_memory() {
    lacks(
        "no wait",
        &format!("{INIT}{LOAD}bar.sync 0; HERE {READ} bar.sync 0; WAIT 0, 0;"),
        "WAIT 0, 0;",
        &[
            "data race: read of 16 bytes at shared address",
            "but an asynchronous copy of warp 0, lane 0 to it has not been waited for",
            "cp.async.bulk.shared::cluster.global",
        ],
    );
    pair(
        "a wait of one warp for all",
        &format!("{INIT}{LOAD} bar.sync 0; @!%p2 bra R; WAIT 0, 0; R: {READ}"),
        &format!("{INIT}{LOAD} bar.sync 0; @!%p2 bra R; R: WAIT 0, 0; {READ}"),
        &["data race: read of 16 bytes", "asynchronous copy of warp 0"],
    );
    lacks(
        "a wait of one warp, of which the others only see a flag",
        &format!(
            "{INIT}{LOAD} @!%p2 bra R; WAIT 0, 0; st.volatile.shared.u32 [%r2+4096], 1; bra J;
            R: ld.volatile.shared.u32 %r5, [%r2+4096]; setp.eq.u32 %p3, %r5, 0; @%p3 bra R; J: HERE {READ}"
        ),
        "WAIT 0, 0;",
        &["data race: read of 16 bytes", "with no barrier after the write by a bulk copy"],
    );
    pair(
        "the wrong parity, which is that of the phase before",
        &format!("{INIT}{LOAD} bar.sync 0; WAIT 0, 1; {READ}"),
        &format!("{INIT}{LOAD} bar.sync 0; WAIT 0, 0; {READ}"),
        &["data race: read of 16 bytes", "has not been waited for"],
    );
    lacks(
        "a buffer that others still read",
        &format!(
            "{INIT}{FILL} fence.proxy.async.shared::cta; bar.sync 0; {READ} bar.warp.sync -1; HERE {LOAD} WAIT 0, 0;"
        ),
        "bar.sync 0;",
        &["data race: bulk copy of 16 bytes", "by warp 0, lane 0, with no barrier after the read by warp"],
    );
    lacks(
        "a buffer that threads have just written",
        &format!("{INIT}{FILL} HERE bar.sync 0; {LOAD} WAIT 0, 0;"),
        "fence.proxy.async.shared::cta;",
        &[
            "data race: bulk copy of 16 bytes at shared address 0x0 by warp 0, lane 0, with no `fence.proxy.async` after the write by warp",
        ],
    );
    lacks(
        "two copies to one place",
        &format!("{INIT}{LOAD} HERE {} WAIT 8, 0; WAIT 0, 0;", LOAD.replace("[%r3]", "[%r3+8]")),
        "WAIT 0, 0;",
        &["data race: bulk copy of 16 bytes", "has not been waited for"],
    );
    lacks(
        "a store into what a copy fills",
        &format!("{INIT}{LOAD} bar.sync 0; HERE {FILL}"),
        "WAIT 0, 0;",
        &["data race: write of 16 bytes", "has not been waited for"],
    );
    lacks(
        "no wait at all",
        &format!("{INIT}{LOAD} HERE"),
        "WAIT 0, 0;",
        &["the block ended while a bulk copy still writes its shared memory"],
    );
    pair(
        "a source that nobody wrote",
        &format!("{INIT}{} WAIT 0, 0;", LOAD.replace("[%rd1]", "[%rd1+4096]")),
        &format!("{INIT}{LOAD} WAIT 0, 0;"),
        &[
            "read of 2048 bytes at global address",
            "never written: ",
            "bytes into the allocation of 16384 bytes",
            "(warp 0, lane 0)",
        ],
    );
}

#[test]
fn bulk_copies_out_of_shared_memory() {
    lacks(
        "no proxy fence",
        &format!("{FILL} HERE bar.sync 0; {STORE} @%p1 cp.async.bulk.wait_group 0;"),
        "fence.proxy.async.shared::cta;",
        &[
            "data race: asynchronous read of 16 bytes at shared address 0x0 by warp 0, lane 0, with no `fence.proxy.async` after the write by warp 0",
        ],
    );
    pair(
        "a fence of the thread that copies, before the barrier",
        &format!("{FILL} @%p1 fence.proxy.async; bar.sync 0; {STORE} @%p1 cp.async.bulk.wait_group 0;"),
        &format!("{FILL} bar.sync 0; @%p1 fence.proxy.async; {STORE} @%p1 cp.async.bulk.wait_group 0;"),
        &["with no `fence.proxy.async` after the write by warp 1"],
    );
    lacks(
        "a fence of global memory",
        &format!(
            "{FILL} fence.proxy.async.global; HERE bar.sync 0; {STORE} @%p1 cp.async.bulk.wait_group 0;"
        ),
        "fence.proxy.async;",
        &["with no `fence.proxy.async`"],
    );
    lacks(
        "no barrier",
        &format!("{FILL} fence.proxy.async; HERE {STORE} @%p1 cp.async.bulk.wait_group 0;"),
        "bar.sync 0;",
        &["data race"],
    );
    lacks(
        "a source that is written again",
        &format!(
            "{FILL} fence.proxy.async; bar.sync 0; {STORE} HERE bar.sync 0; {FILL} @%p1 cp.async.bulk.wait_group 0;"
        ),
        "@%p1 cp.async.bulk.wait_group.read 0;",
        &[
            "data race: write of 16 bytes",
            "but an asynchronous read by warp 0, lane 0 has not been waited for",
            "cp.async.bulk.global",
        ],
    );
    lacks(
        "no barrier after the wait",
        &format!(
            "{FILL} fence.proxy.async; bar.sync 0; {STORE} @%p1 cp.async.bulk.wait_group.read 0; HERE {FILL}"
        ),
        "bar.sync 0;",
        &["data race", "warp 0, lane 0"],
    );
    pair(
        "a part that nobody wrote",
        &format!("RAW @%p2 {FILL} fence.proxy.async; bar.sync 0; {STORE} @%p1 cp.async.bulk.wait_group 0;"),
        &format!("RAW {FILL} fence.proxy.async; bar.sync 0; {STORE} @%p1 cp.async.bulk.wait_group 0;"),
        &[
            "asynchronous read of 16 bytes at shared address 0x200 by warp 0, lane 0: some of the bytes were never written",
        ],
    );
}

#[test]
fn mbarriers_order_what_came_before_the_arrival() {
    // Warp 0 writes and arrives, the others wait and read.
    let handover = |write: &str| {
        format!("{INIT} @!%p2 bra R; {write} bra E; R: WAIT 0, 0; ld.shared.u32 %r10, [%r2]; E:")
    };
    pair(
        "an arrival before the write",
        &handover("@%p1 mbarrier.arrive.shared::cta.b64 _, [%r3]; @%p1 st.shared.u32 [%r2], 5;"),
        &handover("@%p1 st.shared.u32 [%r2], 5; @%p1 mbarrier.arrive.shared::cta.b64 _, [%r3];"),
        &["data race"],
    );
    // Four warps free the buffer at the barrier for 4, by their lane 0; then thread 0 loads it.
    let free = |before: &str, after: &str| {
        format!(
            "{INIT}{FILL} fence.proxy.async; bar.sync 0; and.b32 %r5, %r1, 31; setp.eq.u32 %p3, %r5, 0; {before}
            @%p3 mbarrier.arrive.shared::cta.b64 _, [%r3+16]; {after} @!%p2 bra E; WAIT 16, 0; {LOAD} E: WAIT 0, 0;"
        )
    };
    pair("a buffer that is freed before it is read", &free("", READ), &free(READ, ""), &["data race"]);
    lacks(
        "a barrier that others do not know yet",
        "@%p1 mbarrier.init.shared::cta.b64 [%r3], 128; @%p1 st.volatile.shared.u32 [%r2], 1;
        L: ld.volatile.shared.u32 %r5, [%r2]; setp.eq.u32 %p3, %r5, 0; @%p3 bra L; bar.warp.sync -1; HERE mbarrier.arrive.shared::cta.b64 _, [%r3];",
        "bar.sync 0;",
        &["data race: read of 8 bytes at shared address 0x2000", "with no barrier after the write by warp 0"],
    );
    lacks(
        "a barrier that the copies do not know yet",
        &format!("@%p1 mbarrier.init.shared::cta.b64 [%r3], 1; HERE bar.sync 0; {LOAD} WAIT 0, 0;"),
        "fence.mbarrier_init.release.cluster;",
        &["data race: asynchronous read of 8 bytes", "with no `fence.proxy.async` after the write by warp 0"],
    );
    // Copies of each thread, which arrive for it.
    lacks(
        "copies that report to a barrier nobody waits for",
        "@%p1 mbarrier.init.shared::cta.b64 [%r3], 128; bar.sync 0; mul.wide.u32 %rd2, %r1, 16; add.u64 %rd2, %rd2, %rd1;
        cp.async.cg.shared.global [%r4], [%rd2], 16; cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%r3]; bar.sync 0;
        HERE xor.b32 %r5, %r4, 1024; ld.shared.u32 %r10, [%r5];",
        "WAIT 0, 0;",
        &["but an asynchronous copy of warp", "has not been waited for"],
    );
}

#[test]
fn products_read_shared_memory_until_their_wait() {
    let product = product(A);
    let start = format!("{INIT}{FILL}{FILL_B}");
    lacks(
        "no proxy fence",
        &format!("{start} HERE bar.sync 0; {FENCE}{product}{COMMIT}{DONE}"),
        "fence.proxy.async;",
        &[
            "data race: asynchronous read of 16 bytes",
            "with no `fence.proxy.async` after the write by warp",
            "wgmma.mma_async",
        ],
    );
    lacks(
        "no barrier",
        &format!("{start} fence.proxy.async; HERE {FENCE}{product}{COMMIT}{DONE}"),
        "bar.sync 0;",
        &["data race"],
    );
    lacks(
        "an operand that threads write before the wait",
        &format!(
            "{start} fence.proxy.async; bar.sync 0; {FENCE}{product}{COMMIT} HERE bar.sync 0; {FILL} {DONE}"
        ),
        DONE,
        &["data race: write of 16 bytes", "but an asynchronous read by warp", "wgmma.mma_async"],
    );
    lacks(
        "an operand that a copy overwrites before the wait",
        &format!(
            "{start} fence.proxy.async; bar.sync 0; {FENCE}{product}{COMMIT} HERE bar.sync 0; {LOAD} {DONE} WAIT 0, 0;"
        ),
        DONE,
        &["data race: bulk copy of 16 bytes", "but an asynchronous read by warp"],
    );
    lacks(
        "an operand that is not there yet",
        &format!(
            "{INIT}{FILL_B} fence.proxy.async; bar.sync 0; {LOAD} bar.sync 0; HERE {FENCE}{product}{COMMIT}{DONE} WAIT 0, 0;"
        ),
        "WAIT 0, 0;",
        &[
            "data race: asynchronous read of 16 bytes",
            "but an asynchronous copy of warp 0, lane 0 to it has not been waited for",
        ],
    );
    pair(
        "an operand of which a part was never written",
        &format!("RAW {INIT}{FILL} fence.proxy.async; bar.sync 0; {FENCE}{product}{COMMIT}{DONE}"),
        &format!("RAW {start} fence.proxy.async; bar.sync 0; {FENCE}{product}{COMMIT}{DONE}"),
        &["asynchronous read of 16 bytes at shared address 0x800", "never written"],
    );
}

#[test]
fn products_own_their_registers_until_their_wait() {
    let start = format!("{FILL}{FILL_B} fence.proxy.async; bar.sync 0;");
    let (shared, own) = (product(A), product("{%f4, %f5, %f6, %f7}"));
    lacks(
        "a read of the accumulator",
        &format!("{start}{FENCE}{shared}{COMMIT} HERE mov.b32 %r10, %f3; {DONE}"),
        DONE,
        &[
            "read of a register of the accumulator of a product that has not been waited for",
            "(`wgmma.mma_async",
        ],
    );
    lacks(
        "a write of the accumulator",
        &format!("{start}{FENCE}{shared}{COMMIT} HERE mov.b32 %f0, 0; {DONE}"),
        DONE,
        &["write of a register of the accumulator"],
    );
    lacks(
        "one group too few",
        &format!(
            "{start}{FENCE}{shared}{COMMIT} wgmma.wait_group.sync.aligned 1; HERE add.f32 %f8, %f0, %f1; {DONE}"
        ),
        DONE,
        &["read of a register of the accumulator"],
    );
    lacks(
        "a write of A's registers",
        &format!("{start}{FENCE}{own}{COMMIT} HERE mov.b32 %f5, 0; {DONE}"),
        DONE,
        &["write of a register of the multiplicand A"],
    );
    pair(
        "an accumulator as the next product's A",
        &format!(
            "{start}{FENCE}{shared}{} {COMMIT}{DONE}",
            product("{%f0, %f1, %f2, %f3}").replacen("%f0, %f1, %f2, %f3", "%f4, %f5, %f6, %f7", 1)
        ),
        &format!("{start}{FENCE}{shared}{shared}{own}{COMMIT} mov.b32 %r10, %f5; {DONE}"),
        &["read of a register of the accumulator"],
    );
    lacks(
        "no fence at all",
        &format!("{start} HERE {shared}{COMMIT}{DONE}"),
        FENCE,
        &["no `wgmma.fence` between a write of the product's registers and the product"],
    );
    lacks(
        "a fence before a register of A is written",
        &format!("{start}{FENCE} mov.b32 %f6, 0; HERE {own}{COMMIT}{DONE}"),
        FENCE,
        &["no `wgmma.fence`"],
    );
}

#[test]
fn products_under_way_share_accumulators_of_one_shape_only() {
    let start = format!("{FILL}{FILL_B} fence.proxy.async; bar.sync 0;");
    let product = product(A);
    // Of 16 columns, of 8 columns of A, and of other types in the same shape.
    let wide = product.replace("m64n8k16", "m64n16k16").replace("%f3}", "%f3, %f4, %f5, %f6, %f7}");
    let tf32 = product.replace("m64n8k16.f32.f16.f16", "m64n8k8.f32.tf32.tf32").replace(", 0, 0;", ";");
    let bf16 = product.replace("f16.f16", "bf16.bf16");
    for (name, first, second, parts) in [
        ("more columns", &product, &wide, ["a product of m64n16k16 ", "of another shape (m64n8k16),"]),
        ("fewer columns", &wide, &product, ["a product of m64n8k16 ", "of another shape (m64n16k16),"]),
        ("another K", &product, &tf32, ["a product of m64n8k8 ", "of another shape (m64n8k16),"]),
    ] {
        let body = format!("{start}{FENCE}{first}{COMMIT} HERE {second}{COMMIT}{DONE}");
        let what = "of a product that has not been waited for, with no `wgmma.fence` between: the `wgmma` at PTX line";
        for missing in [DONE, FENCE] {
            lacks(name, &body, missing, &[parts[0], parts[1], what]);
        }
    }
    let own = product.replace(A, "{%f4, %f5, %f6, %f7}").replace(", 0, 0;", ", 0;");
    let onto = product.replace("{%f0, %f1, %f2, %f3}", "{%f5, %f8, %f9, %f10}");
    lacks(
        "an accumulator in the registers of a product's A",
        &format!(
            "mov.b32 %f8, 0; mov.b32 %f9, 0; mov.b32 %f10, 0; {start}{FENCE}{own}{COMMIT} HERE {onto}{COMMIT}{DONE}"
        ),
        DONE,
        &[
            "a product of m64n8k16 has a register of the multiplicand A of a product that has not been waited for",
        ],
    );
    let chain =
        format!("{start}{FENCE}{product}{bf16}{product}{COMMIT}{bf16}{COMMIT}{DONE}{tf32}{COMMIT}{DONE}");
    pair(
        "a chain that ends before another shape begins",
        &chain.replace(&format!("{DONE}{tf32}"), &tf32),
        &chain,
        &["of another shape (m64n8k16),"],
    );
}

#[test]
fn blocks_of_a_cluster_race_with_one_another() {
    let sync = "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;";
    // Each block's thread 0 writes the other's first word.
    let remote = "xor.b32 %r5, %r19, 1; mapa.shared::cluster.u32 %r6, %r2, %r5;";
    let write = format!("{remote} @%p1 st.shared::cluster.u32 [%r6], 1;");
    pair_in(
        2,
        "a read of what the other block wrote",
        &format!("{sync}{write} bar.sync 0; ld.shared.u32 %r10, [%r2]; {sync}"),
        &format!("{sync}{write} {sync} ld.shared.u32 %r10, [%r2]; {sync}"),
        &["data race", "of block", "of the cluster"],
    );
    pair_in(
        2,
        "another block's memory, which nobody wrote",
        &format!("RAW {remote} {sync} ld.shared::cluster.u32 %r10, [%r6+64]; {sync}"),
        &format!("RAW {remote} {FILL} {sync} ld.shared::cluster.u32 %r10, [%r6+64]; {sync}"),
        &["at shared address 0x40", "never written"],
    );
    let write = format!("{remote} @%p1 st.shared::cluster.u32 [%r6], 1; {sync}");
    pair_in(
        2,
        "another block's memory before that has begun",
        &format!("RAW {write}"),
        &format!("RAW {sync}{write}"),
        &[
            "write of 4 bytes at shared address 0x0 by warp 0 of block 0",
            " of another block of the cluster, with no barrier after that one's begin",
        ],
    );
    // Block 1 sends to block 0, which has not waited for it: who has what was sent knows that the sender has begun.
    let sent = format!(
        "RAW {INIT} barrier.cluster.arrive.aligned; setp.eq.u32 %p3, %r19, 0; xor.b32 %r5, %r19, 1; mapa.shared::cluster.u32 %r6, %r2, %r5;
        mapa.shared::cluster.u32 %r7, %r3, %r5; @%p3 bra Z; barrier.cluster.wait.aligned;
        @%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r6], [%rd1], 16, [%r7]; bra E;
        Z: @%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], 16; HERE @%p1 st.shared::cluster.u32 [%r6+64], 1; barrier.cluster.wait.aligned;
        E: {sync}"
    );
    pair_in(
        2,
        "a block that has sent nothing yet",
        &sent.replace("HERE", ""),
        &sent.replace("HERE", "WAIT 0, 0;"),
        &["write of 4 bytes at shared address 0x40", "with no barrier after that one's begin"],
    );
    let parts = "and.b32 %r5, %r1, 31; setp.lt.u32 %p3, %r5, 16; @%p3 bra E; MEET bra F; E: MEET F: bar.warp.sync -1;";
    pair_in(
        2,
        "parts of a warp at the cluster's barrier",
        &parts.replace("MEET", sync),
        &parts.replace("MEET", "barrier.cluster.arrive; barrier.cluster.wait;"),
        &[
            "the cluster's barrier is reached by the lanes 0x",
            "at once; those of the whole warp are 0xffffffff",
        ],
    );
    pair_in(
        2,
        "a block that has ended",
        &format!(
            "{FILL}{sync} setp.eq.u32 %p3, %r19, 0; @%p3 ret; mov.u32 %r5, 0; mapa.shared::cluster.u32 %r6, %r2, %r5; ld.shared::cluster.u32 %r10, [%r6];"
        ),
        &format!(
            "{FILL}{sync} mov.u32 %r5, 0; mapa.shared::cluster.u32 %r6, %r2, %r5; ld.shared::cluster.u32 %r10, [%r6]; {sync}"
        ),
        &["is that of block 0 of the cluster, which has ended"],
    );
    // Block 0 sends to both; each waits for its own.
    let multicast = format!(
        "{INIT}{sync} @%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], 2048; HERE setp.eq.and.u32 %p3, %r19, 0, %p1;
        @%p3 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r2], [%rd1], 2048, [%r3], 3;
        WAIT 0, 0; {READ} {sync}"
    );
    pair_in(
        2,
        "a multicast into a buffer that the other block reads",
        &multicast.replace("HERE", &format!("{FILL} fence.proxy.async; {sync} {READ} bar.sync 0;")),
        &multicast.replace("HERE", &format!("{FILL} fence.proxy.async; {sync} {READ} {sync}")),
        &["data race", "of block 1 of the cluster"],
    );
}

#[test]
fn lanes_that_take_no_part_and_local_memory() {
    pair(
        "a shuffle from a lane that has gone elsewhere",
        "and.b32 %r5, %r1, 31; setp.lt.u32 %p3, %r5, 16; @!%p3 bra E; shfl.sync.idx.b32 %r6, %r5, 20, 31, 0xffff; E:",
        "and.b32 %r5, %r1, 31; setp.lt.u32 %p3, %r5, 16; @!%p3 bra E; shfl.sync.idx.b32 %r6, %r5, 15, 31, 0xffff; E:",
        &["the shuffle reads from lane 20, which does not take part in it"],
    );
    lacks(
        "local memory that nobody wrote",
        ".local .align 4 .b8 own[64]; st.local.u32 [own], 1; HERE ld.local.v2.u32 {%r5, %r6}, [own];"
            .replace("align 4", "align 8")
            .as_str(),
        "st.local.u32 [own+4], 2;",
        &["read of 8 bytes at local address 0x0 by warp 3, lane 0: some of the bytes were never written"],
    );
}
