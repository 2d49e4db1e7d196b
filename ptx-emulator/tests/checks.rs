//! Planted bugs: small kernels, each wrong in one way, and their corrected twins. Every bug is found, and no twin is accused.

mod common;
use common::{emulator, module};
use ptx_emulator::{Emulator, LaunchConfig, LaunchError, LaunchOptions, LaunchStats, Module};

/// Runs a kernel of 64 threads with checks. `%rd1` is 4096 bytes of global memory, the first 2048 of them written; `%r1` the thread,
/// `%r2` the shared address of its word, `%r3` that of the same lane's word of the other warp; `%p1` is true in warp 0.
fn run(body: &str) -> Result<LaunchStats, LaunchError> {
    let emulator = emulator();
    let out = emulator.alloc(4096).unwrap();
    emulator.fill(out, 1, 2048).unwrap();
    run_on(&emulator, out, body, true)
}

fn run_on(emulator: &Emulator, out: u64, body: &str, checks: bool) -> Result<LaunchStats, LaunchError> {
    let text = module(&format!(
        ".shared .align 128 .b8 tile[4096]; ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x;
        mov.u32 %r10, tile; mad.lo.u32 %r2, %r1, 4, %r10; xor.b32 %r3, %r1, 32; mad.lo.u32 %r3, %r3, 4, %r10;
        mul.wide.u32 %rd2, %r1, 16; add.u64 %rd2, %rd2, %rd1; mad.lo.u32 %r4, %r1, 16, %r10;
        xor.b32 %r5, %r1, 32; mad.lo.u32 %r5, %r5, 16, %r10;
        setp.lt.u32 %p1, %r1, 32; and.b32 %r6, %r1, 31; setp.lt.u32 %p2, %r6, 16;\n{body}\nret;"
    ));
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let shape = LaunchConfig { grid: [3, 1, 1], block: [64, 1, 1], dynamic_shared_bytes: 0 };
    let options = LaunchOptions { checks, ..LaunchOptions::default() };
    emulator.launch_with(&module, "k", shape, &[&out.to_le_bytes()], &options)
}

/// `wrong` fails with a message that has all of `parts`; `right` does not.
fn pair(name: &str, wrong: &str, right: &str, parts: &[&str]) {
    let error = run(wrong).err().unwrap_or_else(|| panic!("{name}: the bug was not found"));
    assert!(matches!(error, LaunchError::Fault { .. }), "{name}: {error}");
    let text = error.to_string();
    for part in parts.iter().chain(&["kernel `k`", "block (", "thread (", "PTX line"]) {
        assert!(text.contains(part), "{name}: `{part}` is not in: {text}");
    }
    if let Err(error) = run(right) {
        panic!("{name}: the twin is accused: {error}");
    }
}

/// All of the tile is zero, and everybody knows.
const CLEAR: &str = "mov.u32 %r9, 0; st.shared.v4.u32 [%r4], {%r9, %r9, %r9, %r9}; st.shared.v4.u32 [%r4+1024], {%r9, %r9, %r9, %r9};
    st.shared.v4.u32 [%r4+2048], {%r9, %r9, %r9, %r9}; st.shared.v4.u32 [%r4+3072], {%r9, %r9, %r9, %r9}; bar.sync 0;\n";

/// A pair whose kernels begin with `CLEAR`.
fn race(name: &str, wrong: &str, right: &str, parts: &[&str]) {
    pair(name, &format!("{CLEAR}{wrong}"), &format!("{CLEAR}{right}"), parts);
}

/// A race that a barrier at `HERE` ends.
fn barrier(name: &str, body: &str, parts: &[&str]) {
    race(name, &body.replace("HERE", ""), &body.replace("HERE", "bar.sync 0;"), parts);
}

#[test]
fn races_of_loads_and_stores() {
    barrier(
        "read after write",
        "st.shared.u32 [%r2], %r1;\nHERE\nld.shared.u32 %r7, [%r3];",
        &[
            // The warp that comes last to a barrier goes on first: here warp 1.
            "data race: write of 4 bytes at shared address 0x0 by warp 0, lane 0",
            "no barrier after the read by warp 1, lane 0 at PTX line",
            "(`ld.shared.u32 %r7, [%r3];`)",
            "`st.shared.u32 [%r2], %r1;`",
        ],
    );
    barrier(
        "write after read",
        "st.shared.u32 [%r2], %r1; bar.sync 0;\nld.shared.u32 %r7, [%r3];\nHERE\nst.shared.u32 [%r2], 5;",
        &[
            "data race: read of 4 bytes",
            "by warp 1",
            "after the write by warp 0",
            "(`st.shared.u32 [%r2], 5;`)",
        ],
    );
    barrier(
        "write after write",
        "@%p1 st.shared.u32 [tile], 3;\nHERE\n@!%p1 st.shared.u32 [tile], 5;",
        &["data race: write of 4 bytes at shared address 0x0 by warp 0", "after the write by warp 1"],
    );
}

#[test]
fn races_of_more_kinds() {
    // Each warp's own barrier moves the time on, but orders nothing between the two.
    barrier(
        "a write after reads of both warps at different times",
        "shr.u32 %r8, %r1, 5; add.u32 %r8, %r8, 1; ld.shared.u32 %r7, [tile]; bar.sync %r8, 32;\nHERE\n@%p1 st.shared.u32 [tile], 1;",
        &["data race: write of 4 bytes at shared address 0x0 by warp 0", "after the read by warp 1"],
    );
    barrier(
        "a loop that reads its buffer and fills it again",
        "mov.u32 %r8, 0; L: st.shared.u32 [%r2], %r8; bar.sync 0; ld.shared.u32 %r7, [%r3];\nHERE\nadd.u32 %r8, %r8, 1; setp.lt.u32 %p3, %r8, 4; @%p3 bra L;",
        &["data race: read of 4 bytes", "by warp 1", "after the write by warp 0"],
    );
    barrier(
        "generic addresses",
        "cvt.u64.u32 %rd3, %r2; cvta.shared.u64 %rd3, %rd3; st.u32 [%rd3], %r1;\nHERE\nld.shared.u32 %r7, [%r3];",
        &["data race: write of 4 bytes at shared address 0x0 by warp 0", "after the read by warp 1"],
    );
    barrier(
        "vectors that overlap in one word",
        "mov.u64 %rd4, 0; st.shared.v4.u32 [%r4], {%r1, %r1, %r1, %r1};\nHERE\nld.shared.u32 %r7, [%r5+12];",
        &[
            "data race: write of 16 bytes at shared address 0x0 by warp 0, lane 0",
            "after the read by warp 1, lane 0",
        ],
    );
    barrier(
        "ldmatrix of what other warps wrote",
        "st.shared.v4.u32 [%r4], {%r1, %r1, %r1, %r1};\nHERE\nldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r20, %r21, %r22, %r23}, [%r5];",
        &[
            "data race: write of 16 bytes",
            "by warp 0, lane 0",
            "after the read by warp 1, lane 0",
            "(`ldmatrix",
        ],
    );
    barrier(
        "stmatrix before what other warps read",
        "mov.u32 %r20, 0; stmatrix.sync.aligned.m8n8.x4.shared.b16 [%r4], {%r20, %r20, %r20, %r20};\nHERE\nld.shared.u32 %r7, [%r5];",
        &["data race: write of 16 bytes", "by warp 0, lane 0", "stmatrix", "(`ld.shared.u32"],
    );
    barrier(
        "a plain read beside atomics",
        "@%p1 st.shared.u32 [%r2], 0; @%p1 st.shared.u32 [%r3], 0; bar.sync 0; red.shared.add.u32 [tile], 1; bar.warp.sync -1;\nHERE\nld.shared.u32 %r7, [tile];",
        &["data race: atomic update of 4 bytes", "by warp 1", "after the read by warp 0"],
    );
    race(
        "halves of a word",
        "and.b32 %r7, %r2, 0x7c; cvt.u16.u32 %h1, %r1; st.shared.u16 [%r7], %h1;",
        "and.b32 %r7, %r2, 0x7c; cvt.u16.u32 %h1, %r1; shr.u32 %r8, %r1, 5; shl.b32 %r8, %r8, 1; add.u32 %r7, %r7, %r8; st.shared.u16 [%r7], %h1;",
        &["data race: write of 2 bytes", "by warp 0, lane 0", "after the write by warp 1, lane 0"],
    );
    race(
        "a tree of sums whose last steps are of different warps",
        "st.shared.u32 [%r2], 1; bar.sync 0; ld.shared.u32 %r7, [%r3]; @%p1 st.shared.u32 [%r2], %r7;",
        "st.shared.u32 [%r2], 1; bar.sync 0; @%p1 ld.shared.u32 %r7, [%r3]; @%p1 st.shared.u32 [%r2], %r7;",
        &["data race", "warp 0", "warp 1"],
    );
}

#[test]
fn named_barriers_order_their_members_only() {
    race(
        "a barrier of one warp between two",
        "st.shared.u32 [%r2], %r1; shr.u32 %r8, %r1, 5; add.u32 %r8, %r8, 1; bar.sync %r8, 32; ld.shared.u32 %r7, [%r3];",
        "st.shared.u32 [%r2], %r1; bar.sync 1, 64; ld.shared.u32 %r7, [%r3];",
        &["data race: write of 4 bytes", "by warp 0", "after the read by warp 1"],
    );
    race(
        "a producer that arrives before it writes",
        "@!%p1 bra C; bar.arrive 1, 64; st.shared.u32 [%r2], %r1; ret; C: bar.sync 1, 64; ld.shared.u32 %r7, [%r3];",
        "@!%p1 bra C; st.shared.u32 [%r2], %r1; bar.arrive 1, 64; ret; C: bar.sync 1, 64; ld.shared.u32 %r7, [%r3];",
        &["data race: read of 4 bytes", "by warp 1", "after the write by warp 0"],
    );
    race(
        "a producer that goes on writing",
        "st.shared.u32 [%r2], 1; bar.sync 0; @!%p1 bra C; bar.arrive 1, 64; st.shared.u32 [%r2], %r1; ret; C: bar.sync 1, 64; ld.shared.u32 %r7, [%r3];",
        "st.shared.u32 [%r2], 1; bar.sync 0; @!%p1 bra C; bar.arrive 1, 64; st.shared.u32 [%r2+512], %r1; ret; C: bar.sync 1, 64; ld.shared.u32 %r7, [%r3];",
        &["data race", "warp 0", "warp 1"],
    );
}

const COPY: &str = "cp.async.cg.shared.global [%r4], [%rd2], 16;";

#[test]
fn asynchronous_copies_are_a_party_of_their_own() {
    race(
        "no wait",
        &format!("{COPY}\ncp.async.commit_group; bar.sync 0; ld.shared.u32 %r7, [%r5];"),
        &format!(
            "{COPY} cp.async.commit_group; cp.async.wait_group 0; bar.sync 0; ld.shared.u32 %r7, [%r5];"
        ),
        &[
            "read of 4 bytes at shared address",
            "but an asynchronous copy of warp",
            "has not been waited for at PTX line",
            "(`cp.async.cg.shared.global [%r4], [%rd2], 16;`)",
        ],
    );
    race(
        "no wait, in the thread itself",
        &format!("{COPY} cp.async.commit_group; ld.shared.u32 %r7, [%r4];"),
        &format!("{COPY} cp.async.wait_all; ld.shared.u32 %r7, [%r4];"),
        &["by warp 1, lane 0, but an asynchronous copy of warp 1, lane 0"],
    );
    race(
        "no barrier after the wait",
        &format!("{COPY} cp.async.commit_group; cp.async.wait_group 0; ld.shared.u32 %r7, [%r5];"),
        &format!(
            "{COPY} cp.async.commit_group; cp.async.wait_group 0; bar.sync 0; ld.shared.u32 %r7, [%r5];"
        ),
        &[
            "data race: asynchronous copy of 16 bytes",
            "by warp 0, lane 0",
            "after the read by warp 1, lane 0",
        ],
    );
    let late = format!(
        "{COPY} cp.async.wait_all; cp.async.cg.shared.global [%r4+1024], [%rd2], 16; cp.async.commit_group; cp.async.wait_group N; bar.sync 0; ld.shared.u32 %r7, [%r5+1024];"
    );
    race("one group too few", &late.replace('N', "1"), &late.replace('N', "0"), &["has not been waited for"]);
    race(
        "no commit",
        &format!("{COPY} cp.async.wait_group 0; bar.sync 0; ld.shared.u32 %r7, [%r5];"),
        &format!(
            "{COPY} cp.async.commit_group; cp.async.wait_group 0; bar.sync 0; ld.shared.u32 %r7, [%r5];"
        ),
        &["has not been waited for"],
    );
    race(
        "a wait of one warp for both",
        &format!(
            "{COPY} cp.async.commit_group; @%p1 cp.async.wait_group 0; bar.sync 0; ld.shared.u32 %r7, [%r5];"
        ),
        &format!(
            "{COPY} cp.async.commit_group; @%p1 cp.async.wait_group 0; @!%p1 cp.async.wait_group 0; bar.sync 0; ld.shared.u32 %r7, [%r5];"
        ),
        &["an asynchronous copy of warp 1"],
    );
    barrier(
        "a copy into a buffer that another warp still reads",
        &format!(
            "st.shared.v4.u32 [%r4], {{%r1, %r1, %r1, %r1}}; bar.sync 0; ld.shared.v4.u32 {{%r20, %r21, %r22, %r23}}, [%r5];\nHERE\n{COPY} cp.async.wait_all;"
        ),
        &["data race: read of 16 bytes", "by warp 1", "after the write by warp 0", "(`cp.async"],
    );
    race(
        "a store into what a copy fills",
        &format!("{COPY} st.shared.u32 [%r4+4], 0; cp.async.wait_all;"),
        &format!("{COPY} cp.async.wait_all; st.shared.u32 [%r4+4], 0;"),
        &["write of 4 bytes", "has not been waited for"],
    );
    race(
        "two copies to one place",
        &format!("{COPY} {COPY} cp.async.wait_all;"),
        &format!("{COPY} cp.async.wait_all; {COPY} cp.async.wait_all;"),
        &["asynchronous copy of 16 bytes", "has not been waited for"],
    );
}

#[test]
fn reads_of_what_nobody_wrote() {
    pair(
        "shared memory",
        "@%p1 st.shared.u32 [%r2], 1; bar.sync 0; ld.shared.u32 %r7, [%r2];",
        "st.shared.u32 [%r2], 1; bar.sync 0; ld.shared.u32 %r7, [%r2];",
        &["read of 4 bytes at shared address 0x80 by warp 1, lane 0: some of the bytes were never written"],
    );
    pair(
        "a part of a word",
        "mov.u16 %h1, 0; st.shared.u16 [%r2], %h1; ld.shared.u32 %r7, [%r2];",
        "mov.u16 %h1, 0; st.shared.u16 [%r2], %h1; st.shared.u16 [%r2+2], %h1; ld.shared.u32 %r7, [%r2];",
        &["never written"],
    );
    pair(
        "a row of a tile",
        "st.shared.v4.u32 [%r4], {%r1, %r1, %r1, %r1}; bar.sync 0; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r20}, [%r4+1008];",
        "st.shared.v4.u32 [%r4], {%r1, %r1, %r1, %r1}; bar.sync 0; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r20}, [%r4+384];",
        &["read of 16 bytes at shared address 0x5f0 by warp 1, lane 0: some of the bytes were never written"],
    );
    pair(
        "a counter that was not cleared",
        "red.shared.add.u32 [tile], 1;",
        "@%p1 st.shared.u32 [tile], 0; bar.sync 0; red.shared.add.u32 [tile], 1;",
        &["atomic update of 4 bytes", "never written"],
    );
    pair(
        "global memory",
        "ld.global.u32 %r7, [%rd2+2048];",
        "ld.global.u32 %r7, [%rd2];",
        &[
            "read of 4 bytes at global address",
            "never written: 2048 bytes into the allocation of 4096 bytes",
            "(warp 0, lane 0)",
        ],
    );
    pair(
        "the source of a copy",
        "cp.async.cg.shared.global [%r4], [%rd2+2048], 16; cp.async.wait_all;",
        "mov.u32 %r7, %ctaid.x; setp.ne.u32 %p3, %r7, 0; @%p3 ret; st.global.v4.u32 [%rd2+2048], {%r1, %r1, %r1, %r1}; cp.async.cg.shared.global [%r4], [%rd2+2048], 16; cp.async.wait_all;",
        &["read of 16 bytes at global address", "never written"],
    );
    pair(
        "the last block's shared memory",
        "mov.u32 %r7, %ctaid.x; setp.eq.u32 %p3, %r7, 0; @%p3 st.shared.u32 [%r2], 1; ld.shared.u32 %r8, [%r2];",
        "st.shared.u32 [%r2], 1; ld.shared.u32 %r8, [%r2];",
        &["never written"],
    );
}

#[test]
fn barriers_that_a_part_of_the_threads_reaches() {
    pair(
        "half of a warp",
        "@%p2 bra A; bar.sync 0; bra B; A: bar.sync 0; B:",
        "@%p2 bra A; add.u32 %r7, %r1, 1; A: bar.sync 0;",
        &[
            "barrier 0 is reached by the lanes 0x",
            "of warp 0 at once; those of the whole warp are 0xffffffff",
        ],
    );
    pair("a guard", "@%p2 bar.sync 0;", "bar.sync 0;", &["reached by the lanes 0x0000ffff of warp 0"]);
    pair(
        "lanes that have ended",
        "@%p2 ret; bar.sync 0;",
        "bar.sync 0; @%p2 ret;",
        &["by the lanes 0xffff0000", "of which 0xffff0000 have not ended"],
    );
    pair(
        "a warp that has ended",
        "@!%p1 ret; bar.sync 0;",
        "bar.sync 0; @!%p1 ret;",
        &["barrier 0 is for all threads of the block, but ended without it: warps 1"],
    );
    pair(
        "a warp that has ended, counted",
        "@!%p1 ret; bar.sync 0;",
        "@!%p1 ret; bar.sync 0, 32;",
        &["ended without it: warps 1"],
    );
    pair(
        "two counts at one barrier",
        "@%p1 bar.sync 1, 64;\n@!%p1 bar.sync 1, 32;",
        "@%p1 bar.sync 1, 64; @!%p1 bar.sync 1, 64;",
        &[
            "warp 1 is at barrier 1 with 32 threads, after the arrival by warp 0 with 64 at PTX line 11 (`@%p1 bar.sync 1, 64;`)",
            "PTX line 12: `@!%p1 bar.sync 1, 32;`",
            "thread (32, 0, 0)",
        ],
    );
    pair(
        "an arrival for fewer threads than wait",
        "@%p1 bar.sync 1;\n@!%p1 bar.arrive 1, 96;",
        "@%p1 bar.sync 1; @!%p1 bar.arrive 1, 64;",
        &[
            "warp 1 is at barrier 1 with 96 threads, after the arrival by warp 0 with 64 at PTX line 11 (`@%p1 bar.sync 1;`)",
            "PTX line 12: `@!%p1 bar.arrive 1, 96;`",
        ],
    );
    pair(
        "a reduction and a plain barrier in one",
        "@%p1 bar.sync 1;\n@!%p1 bar.red.popc.u32 %r7, 1, %p2;",
        "@%p1 bar.red.popc.u32 %r7, 1, %p2; @!%p1 bar.red.popc.u32 %r7, 1, %p2; bar.sync 1;",
        &[
            "warp 1 is at barrier 1 with a reduction, after the arrival by warp 0 with no reduction at PTX line 11 (`@%p1 bar.sync 1;`)",
            "PTX line 12: `@!%p1 bar.red.popc.u32 %r7, 1, %p2;`",
        ],
    );
    // Nobody waits.
    pair(
        "two arrivals for different numbers of threads",
        "@%p1 bar.arrive 1, 96;\n@!%p1 bar.arrive 1, 128;",
        "@%p1 bar.arrive 1, 64;\n@!%p1 bar.arrive 1, 64;",
        &[
            "warp 1 is at barrier 1 with 128 threads, after the arrival by warp 0 with 96 at PTX line 11 (`@%p1 bar.arrive 1, 96;`)",
            "PTX line 12: `@!%p1 bar.arrive 1, 128;`",
            "thread (32, 0, 0)",
        ],
    );
    // `barrier` without `.aligned` may be reached by parts of a warp, but all for as many threads.
    pair(
        "two counts within a warp",
        "@%p2 bra A;\nbarrier.sync 1, 32; bra B;\nA: barrier.sync 1, 64;\nB:",
        "@%p2 bra A;\nbarrier.sync 1, 64; bra B;\nA: barrier.sync 1, 64;\nB:",
        &["warp 0 is at barrier 1 with ", "after the arrival by warp 0 with ", "PTX line 12", "PTX line 13"],
    );
    // `barrier` without `.aligned` is for threads, not for warps.
    run("@%p2 bra A; barrier.sync 0; bra B; A: barrier.sync 0; B:").unwrap();
}

#[test]
fn accesses_that_may_meet_are_not_accused() {
    for body in [
        "ld.volatile.shared.u32 %r7, [tile]; @%p1 st.volatile.shared.u32 [tile], 1;",
        "atom.shared.add.u32 %r7, [tile], 1; atom.shared.max.u32 %r7, [tile], 1;",
        "ld.shared.u32 %r7, [tile]; ld.shared.u32 %r7, [tile+4]; bar.sync 0; ld.shared.u32 %r7, [tile];",
    ] {
        let all = "@%p1 st.shared.u32 [%r2], 0; @%p1 st.shared.u32 [%r3], 0; bar.sync 0;";
        run(&format!("{all} {body}")).unwrap_or_else(|e| panic!("{body}: {e}"));
    }
}

#[test]
fn launches_without_checks_find_nothing_and_what_they_write_counts_as_written() {
    let emulator = emulator();
    let out = emulator.alloc(4096).unwrap();
    let body =
        "ld.global.u32 %r7, [%rd2]; ld.shared.u32 %r7, [%r3]; st.shared.u32 [%r2], 1; @%p2 bar.sync 0;";
    assert!(run_on(&emulator, out, body, true).is_err());
    run_on(&emulator, out, body, false).unwrap();
    run_on(&emulator, out, "ld.global.u32 %r7, [%rd2];", true).unwrap();
}
