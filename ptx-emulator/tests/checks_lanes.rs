//! Planted races between lanes of one warp in shared memory, which a `bar.warp.sync` ends. Every race is found, with both lanes where
//! they are known, and no twin is accused.

mod common;
use common::checked;
use ptx_emulator::LaunchError;

/// Runs a kernel of two warps with checks, each in 2048 bytes of shared memory of its own, which are zero: `%r1` is the lane, `%r2` the
/// start, `%r3` the lane's word, `%r4` that of the next lane, `%r5` the lane's half of a word, `%r6` that of the next lane; `%p1` is true in
/// lane 0, `%p2` in lane 5, `%rd1` the lane's 16 bytes of global memory.
fn run(body: &str) -> Result<(), LaunchError> {
    let text = format!(
        ".shared .align 128 .b8 tile[4096]; ld.param.u64 %rd1, [out]; mov.u32 %r8, %tid.x; and.b32 %r1, %r8, 31; shr.u32 %r9, %r8, 5;
        mul.wide.u32 %rd2, %r8, 16; add.u64 %rd1, %rd1, %rd2; mov.u32 %r2, tile; mad.lo.u32 %r2, %r9, 2048, %r2; add.u32 %r7, %r1, 1;
        and.b32 %r7, %r7, 31; mad.lo.u32 %r3, %r1, 4, %r2; mad.lo.u32 %r4, %r7, 4, %r2; mad.lo.u32 %r5, %r1, 2, %r2; mad.lo.u32 %r6, %r7, 2, %r2;
        setp.eq.u32 %p1, %r1, 0; setp.eq.u32 %p2, %r1, 5; mov.u32 %r10, 0; mov.u32 %r20, 0; cvt.u16.u32 %h1, %r1;
        Z: mad.lo.u32 %r11, %r10, 512, %r2; mad.lo.u32 %r11, %r1, 16, %r11; st.shared.v4.u32 [%r11], {{%r20, %r20, %r20, %r20}};
        add.u32 %r10, %r10, 1; setp.lt.u32 %p3, %r10, 4; @%p3 bra Z; bar.sync 0; mov.u32 %r10, 0;\n{body}\nret;"
    );
    checked(&text, [2, 64], 4096)
}

/// A race where nothing stands for `HERE`, with a message of all of `parts`; with a barrier of the warp, or of the block, there is none.
fn race(name: &str, body: &str, parts: &[&str]) {
    let text = run(&body.replace("HERE", ""))
        .err()
        .unwrap_or_else(|| panic!("{name}: the race was not found"))
        .to_string();
    for part in parts.iter().chain(&["data race: ", "by warp ", "with no `bar.warp.sync` after the "]) {
        assert!(text.contains(part), "{name}: `{part}` is not in: {text}");
    }
    for right in ["bar.warp.sync -1;", "bar.sync 0;"] {
        if let Err(error) = run(&body.replace("HERE", right)) {
            panic!("{name}: the twin is accused: {error}");
        }
    }
}

/// No race.
fn good(name: &str, body: &str) {
    run(body).unwrap_or_else(|error| panic!("{name} is accused: {error}"));
}

#[test]
fn writes_and_reads_of_another_lane() {
    race(
        "the next lane's word",
        "st.shared.u32 [%r3], %r1;\nHERE\nld.shared.u32 %r12, [%r4];",
        &["read of 4 bytes", "lane 0, with no", "write by lane 1"],
    );
    race(
        "a word of one lane that all read",
        "@%p1 st.shared.u32 [%r2], %r1;\nHERE\nld.shared.u32 %r12, [%r2];",
        &["read of 4 bytes", "lane 1, with no", "write by lane 0"],
    );
    race(
        "a word that all read, which one writes",
        "ld.shared.u32 %r12, [%r2];\nHERE\n@%p2 st.shared.u32 [%r2], %r1;",
        &["write of 4 bytes", "lane 5, with no", "read by "],
    );
    race(
        "a word of the next lane, overwritten",
        "st.shared.u32 [%r3], %r1;\nHERE\nst.shared.u32 [%r4], %r1;",
        &["write of 4 bytes", "write by lane 1"],
    );
    race(
        "a word that one lane read",
        "@%p2 ld.shared.u32 %r12, [%r2+64];\nHERE\n@%p1 st.shared.u32 [%r2+64], %r1;",
        &["lane 0, with no", "read by lane 5"],
    );
    race(
        "words at a stride",
        "mad.lo.u32 %r13, %r1, 16, %r2; xor.b32 %r14, %r13, 256; st.shared.u32 [%r13], %r1;\nHERE\nld.shared.u32 %r12, [%r14];",
        &["lane 0, with no", "write by lane 16"],
    );
    race(
        "rows of a matrix",
        "mad.lo.u32 %r13, %r1, 32, %r2; xor.b32 %r14, %r13, 32; st.shared.v4.u32 [%r13], {%r1, %r1, %r1, %r1};
        HERE\nldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r12, %r15, %r16, %r17}, [%r14];",
        &["read of 16 bytes", "lane 0, with no", "write by lane 1"],
    );
    race(
        "a copy that its lane alone has waited for",
        "mad.lo.u32 %r13, %r1, 16, %r2; xor.b32 %r14, %r13, 16; cp.async.ca.shared.global [%r13], [%rd1], 16;
        cp.async.wait_all;\nHERE\nld.shared.u32 %r12, [%r14];",
        &["read of 4 bytes", "write by lane 1"],
    );
    race(
        "a copy between the barrier and the wait",
        "mad.lo.u32 %r13, %r1, 16, %r2; xor.b32 %r14, %r13, 16; cp.async.ca.shared.global [%r13], [%rd1], 16;
        bar.warp.sync -1; cp.async.wait_all;\nHERE\nld.shared.u32 %r12, [%r14];",
        &["read of 4 bytes", "write by lane 1"],
    );
    race(
        "an exchange of registers orders no memory",
        "st.shared.u32 [%r3], %r1; shfl.sync.idx.b32 %r12, %r1, 0, 31, -1; vote.sync.all.pred %p4, %p3, -1;
        HERE\nld.shared.u32 %r12, [%r4];",
        &["write by lane 1"],
    );
    race(
        "an atomic after a plain write",
        "@%p1 st.shared.u32 [%r2], %r1;\nHERE\n@%p2 red.shared.add.u32 [%r2], 1;",
        &["atomic update of 4 bytes", "lane 5, with no", "write by lane 0"],
    );
}

/// One lane's access, which its own write takes the place of while the others write too.
#[test]
fn writes_of_all_lanes_after_one() {
    race(
        "a word that lanes 0 and 16 write, then all",
        "mov.u32 %r12, 7; and.b32 %r13, %r1, 15; mad.lo.u32 %r13, %r13, 16, %r2; st.shared.u32 [%r13], %r12;\nHERE\nst.shared.u32 [%r2], %r12;",
        &["write of 4 bytes"],
    );
    race(
        "a word that lane 0 writes, then all",
        "mov.u32 %r12, 7; @%p1 st.shared.u32 [%r2], %r12;\nHERE\nst.shared.u32 [%r2], %r12;",
        &["write of 4 bytes", "lane 1, with no", "write by lane 0"],
    );
    // The fence is a point in time of the checks, not of the lanes.
    race(
        "a word that lane 0 reads, before a fence and a write of all",
        "mov.u32 %r12, 7; @%p1 ld.shared.u32 %r13, [%r2];\nfence.proxy.async;\nHERE\nst.shared.u32 [%r2], %r12;",
        &["write of 4 bytes", "lane 1, with no", "read by lane 0"],
    );
    race(
        "a word that lanes 0 and 5 read, with a fence between, and lane 5 writes",
        "mov.u32 %r12, 7; @%p1 ld.shared.u32 %r13, [%r2];\nfence.proxy.async;\n@%p2 ld.shared.u32 %r13, [%r2];\nHERE\n@%p2 st.shared.u32 [%r2], %r12;",
        &["write of 4 bytes", "lane 5, with no", "read by "],
    );
    good(
        "a lane alone",
        "mov.u32 %r12, 7; @%p1 ld.shared.u32 %r13, [%r2];\nfence.proxy.async;\n@%p1 st.shared.u32 [%r2], %r12; @%p1 st.shared.u32 [%r2], %r12;",
    );
    good("all lanes by one instruction", "mov.u32 %r12, 7; st.shared.u32 [%r2], %r12;");
}

#[test]
fn bulk_copies_of_one_lane() {
    race(
        "out of what all lanes wrote",
        "mov.u32 %r13, %ctaid.x; mul.wide.u32 %rd2, %r13, 1024; add.u64 %rd1, %rd1, %rd2; st.shared.u32 [%r3], %r1; fence.proxy.async;\nHERE\n@%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 16;
        cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;",
        &["asynchronous read of 16 bytes", "lane 0, with no", "write by lane 1"],
    );
    const INTO: &str = "@!%p1 bra J; mbarrier.init.shared::cta.b64 [%r2+1024], 1; fence.mbarrier_init.release.cluster; fence.proxy.async;
        mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2+1024], 128;
        cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd1], 128, [%r2+1024];
        W: mbarrier.try_wait.parity.shared::cta.b64 %p4, [%r2+1024], 0; @!%p4 bra W; J:";
    race(
        "into what all lanes read",
        &format!("ld.shared.u32 %r12, [%r3];\nHERE\n{INTO}"),
        &["bulk copy of 16 bytes", "lane 0, with no", "read by lane 1"],
    );
    good("into what one lane read", &format!("@%p1 ld.shared.u32 %r12, [%r3];\n{INTO}"));
}

#[test]
fn parts_of_words() {
    race(
        "the next lane's half of a word",
        "st.shared.u16 [%r5], %h1;\nHERE\nld.shared.u16 %h2, [%r6];",
        &["read of 2 bytes"],
    );
    race(
        "words of halves",
        "st.shared.u16 [%r5], %h1;\nHERE\nand.b32 %r13, %r5, -4; ld.shared.u32 %r12, [%r13];",
        &["read of 4 bytes"],
    );
    race(
        "halves of words",
        "st.shared.u32 [%r3], %r1;\nHERE\nld.shared.u16 %h2, [%r5];",
        &["read of 2 bytes", "lane 1, with no", "write by lane 0"],
    );
    race(
        "a half that several lanes read",
        "ld.shared.u16 %h2, [%r2+2];\nHERE\n@%p1 st.shared.u16 [%r2+2], %h1;",
        &["write of 2 bytes", "lane 0, with no", "read by "],
    );
    good("own halves", "st.shared.u16 [%r5], %h1; ld.shared.u16 %h2, [%r5]; st.shared.u16 [%r5], %h2;");
    good(
        "halves of one word, by two lanes, now and then",
        "and.b32 %r13, %r5, -4; st.shared.u16 [%r5], %h1; bar.warp.sync -1; ld.shared.u32 %r12, [%r13]; bar.warp.sync -1;
        setp.eq.u32 %p4, %r1, 3; @%p4 st.shared.u16 [%r5], %h1; @!%p4 ld.shared.u16 %h2, [%r5];",
    );
    good(
        "a byte among those that others wrote before the barrier",
        "add.u32 %r13, %r2, %r1; st.shared.u8 [%r13], %r1; bar.warp.sync -1; @%p1 st.shared.u8 [%r13], 7; @%p2 ld.shared.u8 %r12, [%r2+1];",
    );
}

#[test]
fn again_and_again() {
    const LOOP: &str = "add.u32 %r10, %r10, 1; setp.lt.u32 %p3, %r10, 600; @%p3 bra L;";
    let rounds = |first: &str, second: &str| {
        format!("L: st.shared.u32 [%r3], %r1; {first} ld.shared.u32 %r12, [%r4]; {second} {LOOP}")
    };
    // The count of barriers begins again after 255.
    good("a sum by turns", &rounds("bar.warp.sync -1;", "bar.warp.sync -1;"));
    race(
        "the write of the next round",
        &rounds("bar.warp.sync -1;", "HERE"),
        &["write of 4 bytes", "read by "],
    );
    race(
        "the read of each round",
        &rounds("HERE", "bar.warp.sync -1;"),
        &["read of 4 bytes", "write by lane 1"],
    );
    for round in [254, 255, 256, 511] {
        let body = format!(
            "L: setp.eq.u32 %p4, %r10, {round}; @%p4 bra R; st.shared.u32 [%r3+256], %r1; bar.warp.sync -1; ld.shared.u32 %r12, [%r4+256];
            bar.warp.sync -1; bra N; R: st.shared.u32 [%r3+256], %r1;\nHERE\nld.shared.u32 %r12, [%r4+256]; bar.warp.sync -1; N: {LOOP}"
        );
        race(&format!("round {round} alone"), &body, &["read of 4 bytes", "write by lane 1"]);
    }
    // What was written before 255 barriers is ordered before what is read after them.
    for barriers in [254, 255, 256, 510] {
        good(
            &format!("{barriers} barriers between"),
            &format!(
                "st.shared.u32 [%r3], %r1; L: bar.warp.sync -1; add.u32 %r10, %r10, 1; setp.lt.u32 %p3, %r10, {barriers}; @%p3 bra L;
                ld.shared.u32 %r12, [%r4]; @%p1 st.shared.u32 [%r2+128], %r1;"
            ),
        );
    }
}

#[test]
fn accesses_that_do_not_race() {
    good(
        "own words",
        "st.shared.u32 [%r3], %r1; ld.shared.u32 %r12, [%r3]; st.shared.u32 [%r3], %r12; ld.shared.u32 %r12, [%r3];",
    );
    good(
        "own words, again and again",
        "L: ld.shared.u32 %r12, [%r3]; add.u32 %r12, %r12, 1; st.shared.u32 [%r3], %r12; add.u32 %r10, %r10, 1; setp.lt.u32 %p3, %r10, 20;
        @%p3 bra L;",
    );
    good(
        "reads of all",
        "ld.shared.u32 %r12, [%r2]; ld.shared.u32 %r12, [%r3]; ld.shared.u32 %r12, [%r4]; ld.shared.u16 %h2, [%r6]; ld.shared.u32 %r12, [%r2];",
    );
    good("volatile accesses", "st.volatile.shared.u32 [%r3], %r1; ld.volatile.shared.u32 %r12, [%r4];");
    good(
        "atomics",
        "atom.shared.add.u32 %r12, [%r2], 1; atom.shared.add.u32 %r12, [%r2], 1; red.shared.add.u32 [%r4], 1;",
    );
    good(
        "several lanes that write one word by one instruction",
        "st.shared.u32 [%r2], 3; st.shared.u32 [%r3+128], 4;",
    );
    good(
        "what one lane wrote and read, and others after the barrier",
        "@%p1 st.shared.u32 [%r2], 1; @%p1 ld.shared.u32 %r12, [%r2]; bar.warp.sync -1; ld.shared.u32 %r12, [%r2];",
    );
    good(
        "what several lanes read, and one writes and reads after the barrier",
        "ld.shared.u32 %r12, [%r2]; bar.warp.sync -1; @%p1 st.shared.u32 [%r2], 1; @%p1 ld.shared.u32 %r12, [%r2]; bar.warp.sync -1;
        ld.shared.u32 %r12, [%r2];",
    );
}
