//! Planted races of accesses that the checks look at a warp at a time: words that do not lie one after another, parts of words,
//! accesses again and again, order that each lane hands on through a word of its own. Every race is found, and no twin is accused.

mod common;
use common::checked;
use ptx_emulator::LaunchError;

/// Runs a kernel of a block of 64 threads with checks. In `MEMORY`, of 4096 zero bytes, `%rd1` is the thread's own 16 bytes, `%rd2`
/// those of the other warp's same lane, `%rd3` a byte of the lane, the same for both warps; `%r1` is the thread, `%p1` is true in
/// warp 0, `%p2` in thread 32, `%r2` is 0.
fn run(body: &str, memory: &str) -> Result<(), LaunchError> {
    let (base, clear) = match memory {
        "shared" => (
            "mov.u64 %rd4, tile;",
            "mov.u64 %rd5, 0; mul.wide.u32 %rd6, %r1, 64; add.u64 %rd6, %rd6, %rd4;
            st.shared.v2.u64 [%rd6], {%rd5, %rd5}; st.shared.v2.u64 [%rd6+16], {%rd5, %rd5};
            st.shared.v2.u64 [%rd6+32], {%rd5, %rd5}; st.shared.v2.u64 [%rd6+48], {%rd5, %rd5}; bar.sync 0;",
        ),
        _ => ("ld.param.u64 %rd4, [out];", ""),
    };
    let text = format!(
        ".shared .align 128 .b8 tile[4096]; {base} mov.u32 %r1, %tid.x; xor.b32 %r3, %r1, 32; and.b32 %r4, %r1, 31;
        mul.wide.u32 %rd1, %r1, 16; add.u64 %rd1, %rd1, %rd4; mul.wide.u32 %rd2, %r3, 16; add.u64 %rd2, %rd2, %rd4;
        cvt.u64.u32 %rd3, %r4; add.u64 %rd3, %rd3, %rd4; setp.lt.u32 %p1, %r1, 32; setp.eq.u32 %p2, %r1, 32;
        mov.u32 %r2, 0; {clear}\n{}\nret;",
        body.replace("MEMORY", memory)
    );
    checked(&text, [1, 64], 4096)
}

/// A kernel that races in shared and in global memory unless `right` stands for `HERE` in place of `wrong`.
fn race(name: &str, body: &str, (wrong, right): (&str, &str)) {
    for memory in ["shared", "global"] {
        let error = run(&body.replace("HERE", wrong), memory).err();
        let text = error.unwrap_or_else(|| panic!("{name}, {memory}: the race was not found")).to_string();
        assert!(text.contains("data race: ") && text.contains(memory), "{name}, {memory}: {text}");
        if let Err(error) = run(&body.replace("HERE", right), memory) {
            panic!("{name}, {memory}: the twin is accused: {error}");
        }
    }
}

const BARRIER: (&str, &str) = ("", "bar.sync 0;");

#[test]
fn words_at_a_stride() {
    race("write, then read", "st.MEMORY.u32 [%rd1], %r1;\nHERE\nld.MEMORY.u32 %r7, [%rd2];", BARRIER);
    race("read, then write", "ld.MEMORY.u32 %r7, [%rd1+4];\nHERE\nst.MEMORY.u32 [%rd2+4], %r1;", BARRIER);
    race(
        "one lane of many",
        "st.MEMORY.u32 [%rd1+8], %r1;\nHERE\n@%p2 ld.MEMORY.u32 %r7, [%rd2+8];",
        BARRIER,
    );
    race(
        "again and again, then another warp's",
        "L: ld.MEMORY.u32 %r7, [%rd1]; st.MEMORY.u32 [%rd1], %r7; add.u32 %r2, %r2, 1; setp.lt.u32 %p3, %r2, 4; @%p3 bra L;
        HERE\nld.MEMORY.u32 %r7, [%rd2];",
        BARRIER,
    );
    race(
        "another warp's after the own, again and again",
        "L: ld.MEMORY.u32 %r7, [%rd1]; st.MEMORY.u32 [%rd1], %r7; bar.sync 0; ld.MEMORY.u32 %r7, [%rd2];\nHERE
        add.u32 %r2, %r2, 1; setp.lt.u32 %p3, %r2, 4; @%p3 bra L;",
        BARRIER,
    );
}

#[test]
fn parts_of_words() {
    race(
        "a byte among those that lanes read",
        "@%p1 ld.MEMORY.u8 %r7, [%rd3];\nHERE\n@%p2 st.MEMORY.u8 [%rd3], %r1;",
        BARRIER,
    );
    race(
        "a byte among those that lanes wrote",
        "@%p1 st.MEMORY.u8 [%rd3], %r1;\nHERE\n@%p2 ld.MEMORY.u8 %r7, [%rd3];",
        BARRIER,
    );
    race(
        "a byte that was written before others of its word",
        "@%p1 st.MEMORY.u8 [%rd1], 1; @%p1 st.MEMORY.u8 [%rd1+1], 1;\nHERE\n@!%p1 ld.MEMORY.u8 %r7, [%rd2];",
        BARRIER,
    );
    race(
        "bytes of one word by two warps",
        "@%p1 st.MEMORY.u8 [%rd1], 1; @!%p1 st.MEMORY.u8 [%rd2+HERE], 1;
        @%p1 st.MEMORY.u8 [%rd1], 1; @!%p1 st.MEMORY.u8 [%rd2+HERE], 1;",
        ("0", "1"),
    );
    race("halves", "st.MEMORY.u16 [%rd1+2], 1;\nHERE\nld.MEMORY.u16 %r7, [%rd2+2];", BARRIER);
}

#[test]
fn atomics_of_lanes() {
    race(
        "after plain reads of the warp",
        "ld.MEMORY.u32 %r7, [%rd1];\nHERE\nred.MEMORY.add.u32 [%rd2], 1; red.MEMORY.add.u32 [%rd2], 1;",
        BARRIER,
    );
    race(
        "words that both warps add to",
        "HERE [%rd1], 1; red.MEMORY.add.u32 [%rd2], 1;",
        ("st.MEMORY.u32", "red.MEMORY.add.u32"),
    );
}

#[test]
fn words_of_lanes_that_hand_on_order() {
    // Warp 0 writes 8 rounds of data, each with a flag of its own lane; warp 1 waits for the last and reads.
    let body = "@!%p1 bra WAIT;
        L: add.u32 %r2, %r2, 1; st.MEMORY.u32 [%rd1+4], %r2; HERE.gpu.MEMORY.u32 [%rd1], %r2;
        ld.acquire.gpu.MEMORY.u32 %r7, [%rd1]; setp.lt.u32 %p3, %r2, 8; @%p3 bra L;
        LAST bra END;
        WAIT: ld.acquire.gpu.MEMORY.u32 %r7, [%rd2]; setp.lt.u32 %p3, %r7, 8; @%p3 bra WAIT;
        ld.MEMORY.u32 %r7, [%rd2+4]; END:";
    race("a flag for each lane", &body.replace("LAST", ""), ("st.relaxed", "st.release"));
    let late = body.replace("HERE", "st.release").replace("LAST", "HERE");
    race("a write after the last flag", &late, ("st.MEMORY.u32 [%rd1+4], %r2;", ""));
}
