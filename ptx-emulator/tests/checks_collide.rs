//! Planted stores of several lanes to one place by one instruction. Where they store different values, both lanes are named; the twin that
//! stores one value, or to other places, or strongly, is not accused.

mod common;
use common::checked;
use ptx_emulator::LaunchError;

/// Runs a kernel of one warp with checks, in 2048 zero bytes of `MEMORY`: `%rd1` is the start, `%rd2` the lane's word, `%rd3` the word that
/// the lane has in common with the lane 16 further, `%rd4` the same of 16 bytes, `%rd5` as `%rd2` from the last lane to the first; `%r1` is the
/// lane, `%r2` its number modulo 16, `%p1` is true in lanes 3 and 9, `%p2` in lane 3.
fn run(body: &str, memory: &str) -> Result<(), LaunchError> {
    let (base, space) = match memory {
        "shared" => ("mov.u64 %rd1, tile;", ".shared"),
        "global" => ("ld.param.u64 %rd1, [out];", ".global"),
        "generic shared" => ("mov.u64 %rd1, tile; cvta.shared.u64 %rd1, %rd1;", ""),
        _ => ("ld.param.u64 %rd1, [out];", ""),
    };
    let text = format!(
        ".shared .align 128 .b8 tile[2048]; {base} mov.u32 %r1, %tid.x; and.b32 %r2, %r1, 15; sub.u32 %r3, 31, %r1;
        mul.wide.u32 %rd2, %r1, 4; add.u64 %rd2, %rd2, %rd1; mul.wide.u32 %rd3, %r2, 4; add.u64 %rd3, %rd3, %rd1;
        mul.wide.u32 %rd4, %r2, 16; add.u64 %rd4, %rd4, %rd1; mul.wide.u32 %rd5, %r3, 4; add.u64 %rd5, %rd5, %rd1;
        setp.eq.u32 %p2, %r1, 3; setp.eq.u32 %p1, %r1, 9; or.pred %p1, %p1, %p2; mov.u32 %r20, 0; cvt.u64.u32 %rd6, %r1; mov.u64 %rd7, 7;
        cvt.u16.u32 %h1, %r1; mov.u16 %h2, 3;\n{}\nret;",
        body.replace(".MEMORY", space)
    );
    checked(&text, [1, 32], 2048)
}

const MEMORIES: [&str; 4] = ["shared", "global", "generic shared", "generic global"];

/// Lanes that store different values where `HERE` stands for `wrong`, and not where it does for one of `right`.
fn collide(name: &str, body: &str, wrong: &str, right: &[&str], parts: &[&str]) {
    for memory in MEMORIES {
        let error = run(&body.replace("HERE", wrong), memory).err();
        let text = error.unwrap_or_else(|| panic!("{name}, {memory}: not found")).to_string();
        let address =
            if memory.ends_with("shared") { "at shared address 0x" } else { "at global address 0x" };
        for part in
            parts.iter().chain(&["data race: write of ", address, "with the same instruction", "PTX line"])
        {
            assert!(text.contains(part), "{name}, {memory}: `{part}` is not in: {text}");
        }
        for right in right {
            if let Err(error) = run(&body.replace("HERE", right), memory) {
                panic!("{name}, {memory}: the twin with `{right}` is accused: {error}");
            }
        }
    }
}

#[test]
fn words() {
    collide(
        "all lanes to one word",
        "st.MEMORY.u32 [%rd1], HERE;",
        "%r1",
        &["7", "%r20"],
        &["write of 4 bytes", "warp 0, lane 31, and of another value by lane 0 "],
    );
    collide(
        "two lanes of a divided warp",
        "@%p1 st.MEMORY.u32 [%rd1+8], HERE;",
        "%r1",
        &["%r20"],
        &["warp 0, lane 9, and of another value by lane 3 "],
    );
    collide(
        "pairs of lanes, of which one differs",
        "selp.u32 %r5, HERE, 0, %p2; add.u32 %r5, %r5, %r2; st.MEMORY.u32 [%rd3], %r5;",
        "1",
        &["0"],
        &["warp 0, lane 19, and of another value by lane 3 "],
    );
    collide(
        "one lane among those with a word of their own",
        "selp.u64 %rd5, HERE, %rd5, %p2; st.MEMORY.u32 [%rd5], %r1;",
        "%rd1",
        &["%rd5"],
        &["warp 0, lane 31, and of another value by lane 3 "],
    );
    collide(
        "strong stores may collide",
        "st.MEMORY.u32 [%rd2], %r20; bar.warp.sync -1; HERE.u32 [%rd1], %r1;",
        "st.MEMORY",
        &["st.volatile.MEMORY", "st.relaxed.gpu.MEMORY", "st.release.cta.MEMORY", "red.MEMORY.add"],
        &["lane 31"],
    );
}

#[test]
fn parts_of_words_and_vectors() {
    collide(
        "bytes, of registers that differ above",
        "shl.b32 %r5, %r1, HERE; st.MEMORY.u8 [%rd1+5], %r5;",
        "7",
        &["8", "16"],
        &["write of 1 bytes", "lane 31, and of another value by lane 0 "],
    );
    collide(
        "halves",
        "st.MEMORY.u16 [%rd3+2], HERE;",
        "%h1",
        &["%h2"],
        &["write of 2 bytes", "lane 16, and of another value by lane 0 "],
    );
    collide(
        "long words",
        "st.MEMORY.u64 [%rd1], HERE;",
        "%rd6",
        &["%rd7"],
        &["write of 8 bytes", "lane 31, "],
    );
    collide(
        "the last element of vectors",
        "st.MEMORY.v4.u32 [%rd4], {%r20, %r2, %r2, HERE};",
        "%r1",
        &["%r2", "%r20"],
        &["write of 16 bytes", "lane 16, and of another value by lane 0 "],
    );
    collide(
        "the first element of vectors",
        "st.MEMORY.v2.u64 [%rd4], {HERE, %rd7};",
        "%rd6",
        &["%rd7"],
        &["write of 16 bytes", "lane 16, and of another value by lane 0 "],
    );
}

#[test]
fn rows_of_matrices() {
    let body = "mov.u32 %r6, tile; and.b32 %r7, %r1, HERE; mad.lo.u32 %r6, %r7, 16, %r6;
        stmatrix.sync.aligned.m8n8.x4.shared.b16 [%r6], {%r1, %r1, %r1, %r1};";
    let matrix = |mask: &str| run(&body.replace("HERE", mask), "shared");
    let text = matrix("6").expect_err("rows that collide were not found").to_string();
    for part in ["write of 16 bytes at shared address 0x0", "lane 25, and of another value by lane 0 "] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    // Four equal tiles at one place, and four places.
    matrix("7").unwrap();
    matrix("31").unwrap();
}

#[test]
fn stores_one_after_another_have_the_last_value() {
    for memory in MEMORIES {
        run("st.MEMORY.u32 [%rd2], %r1; st.MEMORY.u32 [%rd2], %r20; st.MEMORY.u32 [%rd5+512], %r1;", memory)
            .unwrap();
    }
}
