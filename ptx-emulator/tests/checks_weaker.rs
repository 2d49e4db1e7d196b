//! Planted races of a weak access with what comes after a strong one to the same bytes: the last access does not race, one before it
//! does. Each has its corrected twin.

mod common;
use common::planted::{lacks, pair};

/// `%rd1` is memory of both blocks; `%p3` is true in thread 0 of the first, `%p4` in that of the second, `%p5` in all of the second.
const BLOCKS: &str = "ld.param.u64 %rd1, [out]; mov.u32 %r5, %ctaid.x; setp.eq.and.u32 %p3, %r5, 0, %p1; setp.ne.and.u32 %p4, %r5, 0, %p1;
    setp.ne.u32 %p5, %r5, 0; mul.wide.u32 %rd2, %r1, 8; add.u64 %rd2, %rd2, %rd1; mul.wide.u32 %rd3, %r1, 4; add.u64 %rd3, %rd3, %rd1;\n";

/// Two blocks; `wrong` or `right` at `HERE`.
fn blocks(name: &str, body: &str, wrong: &str, right: &str, parts: &[&str]) {
    let of = |here: &str| format!("{BLOCKS}{}", body.replace("HERE", here));
    pair(name, &of(wrong), &of(right), parts);
}

#[test]
fn words_of_global_memory_that_two_blocks_update() {
    let written = [
        "data race: atomic update of 4 bytes at global address",
        "after the write by block (0, 0, 0), warp 0, lane 0",
    ];
    let read = [written[0], "after the read by block (0, 0, 0), warp 0, lane 0"];
    blocks(
        "a plain write, an update by its block, another's",
        "@%p3 st.HEREglobal.u32 [%rd1], 1; bar.sync 0; @%p3 red.global.add.u32 [%rd1], 1; @%p4 red.global.add.u32 [%rd1], 1;",
        "",
        "relaxed.gpu.",
        &[&written[..], &["(`@%p3 st.global.u32 [%rd1], 1"]].concat(),
    );
    blocks(
        "a plain write, an update by its warp, another's",
        "@%p3 st.HEREglobal.u32 [%rd1], 1; @%p3 red.global.add.u32 [%rd1], 1; @%p4 red.global.add.u32 [%rd1], 1;",
        "",
        "volatile.",
        &written,
    );
    blocks(
        "a plain read, an update by its warp, another's",
        "@%p3 ld.HEREglobal.u32 %r6, [%rd1]; @%p3 red.global.add.u32 [%rd1], 1; @%p4 red.global.add.u32 [%rd1], 1;",
        "",
        "relaxed.gpu.",
        &read,
    );
    blocks(
        "a plain read, a strong one, another's update",
        "@%p3 ld.HEREglobal.u32 %r6, [%rd1]; bar.sync 0; @%p3 ld.relaxed.gpu.global.u32 %r6, [%rd1]; @%p4 red.global.add.u32 [%rd1], 1;",
        "",
        "relaxed.gpu.",
        &read,
    );
    blocks(
        "an update for the block alone, one for all, another's",
        "@%p3 red.relaxed.HERE.global.add.u32 [%rd1], 1; bar.sync 0; @%p3 red.global.add.u32 [%rd1], 1; @%p4 red.global.add.u32 [%rd1], 1;",
        "cta",
        "gpu",
        &[&written[..], &["(both are strong, but the scope of one does not reach the other)"]].concat(),
    );
    blocks(
        "a plain write of a byte, an update of its word, another's",
        "@%p3 st.global.u8 [%rd1+HERE], %r20; bar.sync 0; @%p3 red.global.add.u32 [%rd1], 1; @%p4 red.global.add.u32 [%rd1], 1;",
        "1",
        "4",
        &[&written[..], &["(`@%p3 st.global.u8"]].concat(),
    );
    for (name, access) in
        [("writes", "st.HEREglobal.u16 [%rd1], %h1"), ("reads", "ld.HEREglobal.u16 %h1, [%rd1]")]
    {
        let strong = access.replace("HERE", "relaxed.gpu.").replace("[%rd1]", "[%rd1+2]");
        let body = |at: &str| {
            format!(
                "mov.b16 %h1, 1; @%p3 {}; @%p3 {strong}; @%p4 st.relaxed.gpu.global.u16 [%rd1+2], %h1;",
                access.replace("HERE", "").replace("[%rd1]", at)
            )
        };
        blocks(
            &format!("a plain and a strong access of halves of a word, {name}"),
            "HERE",
            &body("[%rd1+2]"),
            &body("[%rd1]"),
            &["data race: write of 2 bytes", "by block (0, 0, 0), warp 0, lane 0"],
        );
    }
    blocks(
        "a plain write of a byte, an update of the other half, one of the word",
        "@%p3 st.global.u8 [%rd1+HERE], %r20; bar.sync 0; @%p3 st.relaxed.gpu.global.u16 [%rd1+2], %r20; @%p4 st.relaxed.gpu.global.u16 [%rd1+2], %r20;",
        "3",
        "1",
        &["data race: write of 2 bytes", written[1], "(`@%p3 st.global.u8"],
    );
}

#[test]
fn many_words_of_global_memory_that_two_blocks_update() {
    for (name, place) in [("one after another", "%rd3"), ("scattered", "%rd2")] {
        blocks(
            name,
            &"@!%p5 st.HEREglobal.u32 [AT], 1; bar.sync 0; red.global.add.u32 [AT], 1;".replace("AT", place),
            "",
            "relaxed.gpu.",
            &["data race: atomic update of 4 bytes", "after the write by block (0, 0, 0), warp "],
        );
        blocks(
            &format!("reads, {name}"),
            &"@!%p5 ld.HEREglobal.u32 %r6, [AT]; red.global.add.u32 [AT], 1;".replace("AT", place),
            "",
            "relaxed.gpu.",
            &["data race: atomic update of 4 bytes", "after the read by block (0, 0, 0), warp "],
        );
    }
}

#[test]
fn order_that_is_handed_on_covers_the_weak_write_too() {
    // The second block looks once: where it comes first it does without.
    blocks(
        "no fence after the flag",
        "@!%p1 ret; @%p5 bra C; st.global.u32 [%rd1], 1; fence.acq_rel.gpu; red.global.add.u32 [%rd1], 1;
        fence.acq_rel.gpu; st.relaxed.gpu.global.u32 [%rd1+64], 1; ret;
        C: ld.relaxed.gpu.global.u32 %r6, [%rd1+64]; setp.eq.u32 %p6, %r6, 0; @%p6 ret; HERE red.global.add.u32 [%rd1], 1;",
        "",
        "fence.acq_rel.gpu;",
        &["data race: atomic update of 4 bytes", "after the write by block (0, 0, 0), warp 0, lane 0", "st.global.u32 [%rd1], 1;"],
    );
}

/// `%p3` is true in thread 32, `%p4` in thread 64, `%p5` in thread 1, `%p6` in warp 3, the first to go on after a barrier; `%r6` is the address of the lane's own word, `%r4` that of one 16 bytes from the
/// next lane's, the same for all warps.
const WARPS: &str =
    "setp.eq.u32 %p3, %r1, 32; setp.eq.u32 %p4, %r1, 64; setp.eq.u32 %p5, %r1, 1; setp.ge.u32 %p6, %r1, 96; and.b32 %r5, %r1, 31;
    mad.lo.u32 %r4, %r5, 16, %r2; mad.lo.u32 %r6, %r5, 4, %r2;\n";

/// One block; right with `fix` at `HERE`.
fn warps(name: &str, body: &str, fix: &str, parts: &[&str]) {
    lacks(name, &format!("{WARPS}{body}"), fix, parts);
}

const AFTER_WRITE: &str = "with no barrier after the write by warp 0, lane 0";
const AFTER_READ: &str = "with no barrier after the read by warp 0, lane 0";

#[test]
fn words_of_shared_memory_that_two_warps_update() {
    let update = "data race: atomic update of 4 bytes at shared address";
    warps(
        "a plain write, an update by its warp, another's",
        "@%p1 st.shared.u32 [%r2], 1; HERE @%p1 red.shared.add.u32 [%r2], 1; @%p3 red.shared.add.u32 [%r2], 1;",
        "bar.sync 0;",
        &[update, AFTER_WRITE, "(`@%p1 st.shared.u32"],
    );
    warps(
        "a plain read, an update by its warp, another's",
        "@%p1 ld.shared.u32 %r7, [%r2]; HERE @%p1 red.shared.add.u32 [%r2], 1; @%p3 red.shared.add.u32 [%r2], 1;",
        "bar.sync 0;",
        &[update, AFTER_READ],
    );
    warps(
        "a plain read, a strong one, another's update",
        "@%p1 ld.shared.u32 %r7, [%r2]; HERE @%p1 ld.volatile.shared.u32 %r7, [%r2]; @%p3 red.shared.add.u32 [%r2], 1;",
        "bar.sync 0;",
        &[update, AFTER_READ],
    );
    warps(
        "a plain write, updates by a warp that comes after it and by one that does not",
        "@%p1 st.shared.u32 [%r2], 1; setp.lt.u32 %p6, %r1, 64; @%p6 bar.sync 1, 64; HERE @%p3 red.shared.add.u32 [%r2], 1; @%p4 red.shared.add.u32 [%r2], 1;",
        "bar.sync 0;",
        &[update, "by warp 2, lane 0", AFTER_WRITE],
    );
    warps(
        "a plain write, an update, another's volatile read",
        "@%p1 st.shared.u32 [%r2], 1; HERE @%p1 red.shared.add.u32 [%r2], 1; @%p3 ld.volatile.shared.u32 %r7, [%r2];",
        "bar.sync 0;",
        &["data race: read of 4 bytes", AFTER_WRITE],
    );
    // Warp 3, which comes first, reads beside others.
    let reads = |first: &str| {
        format!(
            "{WARPS} setp.lt.u32 %p7, %r1, 64; @%p6 {first}.shared.u32 %r7, [%r2]; @%p7 ld.volatile.shared.u32 %r7, [%r2]; @%p4 red.shared.add.u32 [%r2], 1;"
        )
    };
    pair(
        "a plain read beside strong ones, another's update",
        &reads("ld"),
        &reads("ld.volatile"),
        &[update, "with no barrier after the read by warp 3, lane "],
    );
    warps(
        "a plain write of a byte, an update of its word, another's",
        "@%p1 st.shared.u8 [%r2+2], %r20; HERE @%p1 red.shared.add.u32 [%r2], 1; @%p3 red.shared.add.u32 [%r2], 1;",
        "bar.sync 0;",
        &[update, AFTER_WRITE],
    );
}

#[test]
fn many_words_of_shared_memory_that_two_warps_update() {
    for (name, place) in [("one after another", "%r6"), ("scattered", "%r4")] {
        let body =
            |first: &str| format!("@%p6 {first} HERE red.shared.add.u32 [AT], 1;").replace("AT", place);
        warps(
            name,
            &body("st.shared.u32 [AT], 1;"),
            "bar.sync 0;",
            &["with no barrier after the write by warp 3, lane 0"],
        );
        warps(
            &format!("reads, {name}"),
            &body("ld.shared.u32 %r7, [AT];"),
            "bar.sync 0;",
            &["with no barrier after the read by warp 3, lane 0"],
        );
    }
}

#[test]
fn words_of_shared_memory_that_two_lanes_update() {
    warps(
        "a plain write, an update by its lane, another's",
        "@%p1 st.shared.u32 [%r2], 1; HERE @%p1 red.shared.add.u32 [%r2], 1; @%p5 red.shared.add.u32 [%r2], 1;",
        "bar.warp.sync -1;",
        &["data race: atomic update", "lane 1, with no `bar.warp.sync` after the write by lane 0"],
    );
    // As many barriers as are told apart, and again as many.
    warps(
        "a plain write, an update by its lane, another's read",
        "@%p1 st.shared.u32 [%r2], 1; @%p1 red.shared.add.u32 [%r2], 1; HERE @%p2 ld.shared.u32 %r7, [%r2]; bar.sync 0;",
        "bar.sync 0; mov.u32 %r8, 0; L: bar.warp.sync -1; add.u32 %r8, %r8, 1; setp.lt.u32 %p7, %r8, 600; @%p2 ld.shared.u32 %r7, [%r2]; @%p7 bra L;",
        &["data race: read of 4 bytes"],
    );
}
