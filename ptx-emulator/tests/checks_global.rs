//! Planted races in global memory: small kernels, each wrong in one way, and their corrected twins. Every bug is found, and no twin
//! is accused, in any order of the blocks.

mod common;
use common::module;
use ptx_emulator::{Config, Emulator, LaunchConfig, LaunchError, LaunchOptions, Module, Schedule};

/// A kernel of blocks of 64 threads: `%rd1` is 8192 zero bytes, `%rd2` the thread's word there, `%rd3` one of its own among those of
/// all blocks, `%rd4` the word of the same lane of the block's other warp; `%r1` is the thread, `%r2` the block; `%p0` is true in
/// thread 0, `%p1` in block 0, `%p2` in block 1, `%p3` in warp 0.
fn kernel(body: &str) -> Module {
    let text = module(&format!(
        ".shared .align 128 .b8 tile[1024]; ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x;
        mul.wide.u32 %rd2, %r1, 4; add.u64 %rd2, %rd2, %rd1; mad.lo.u32 %r3, %r2, 64, %r1;
        mul.wide.u32 %rd3, %r3, 4; add.u64 %rd3, %rd3, %rd1; xor.b32 %r4, %r1, 32; mul.wide.u32 %rd4, %r4, 4;
        add.u64 %rd4, %rd4, %rd1; setp.eq.u32 %p0, %r1, 0; setp.eq.u32 %p1, %r2, 0; setp.eq.u32 %p2, %r2, 1;
        setp.lt.u32 %p3, %r1, 32; mov.u32 %r5, 0;\n{body}\nret;"
    ));
    Module::parse(&text).unwrap_or_else(|e| panic!("{e}"))
}

/// How a kernel is run.
#[derive(Clone, Copy)]
struct Way {
    blocks: u32,
    cluster: u32,
    threads: usize,
    schedule: Schedule,
}

const PLAIN: Way = Way { blocks: 2, cluster: 1, threads: 1, schedule: Schedule::InOrder };

fn run(body: &str, way: Way) -> Result<(), LaunchError> {
    let emulator = Emulator::new(Config {
        threads: way.threads,
        max_instructions: Some(1_000_000),
        ..Config::default()
    });
    let out = emulator.alloc(8192).unwrap();
    emulator.fill(out, 0, 8192).unwrap();
    run_on(&emulator, out, body, way)
}

fn run_on(emulator: &Emulator, out: u64, body: &str, way: Way) -> Result<(), LaunchError> {
    let shape = LaunchConfig { grid: [way.blocks, 1, 1], block: [64, 1, 1], dynamic_shared_bytes: 0 };
    let cluster = (way.cluster > 1).then_some([way.cluster, 1, 1]);
    let options = LaunchOptions { checks: true, cluster, schedule: way.schedule, ..LaunchOptions::default() };
    emulator.launch_with(&kernel(body), "k", shape, &[&out.to_le_bytes()], &options).map(|_| ())
}

/// `wrong` fails with a message that has all of `parts`; `right` does not, in any of some orders, nor on several host threads.
fn pair_on(name: &str, way: Way, wrong: &str, right: &str, parts: &[&str]) {
    let error = run(wrong, way).err().unwrap_or_else(|| panic!("{name}: the bug was not found"));
    assert!(matches!(error, LaunchError::Fault { .. }), "{name}: {error}");
    let text = error.to_string();
    let always = ["data race: ", "global address 0x", "kernel `k`", "block (", "thread (", "PTX line"];
    for part in parts.iter().chain(&always) {
        assert!(text.contains(part), "{name}: `{part}` is not in: {text}");
    }
    let seeds = (0..8).map(|seed| Way { schedule: Schedule::Seeded(seed), ..way });
    for way in seeds.chain([way, Way { threads: 4, ..way }]) {
        if let Err(error) = run(right, way) {
            panic!("{name}: the twin is accused: {error}");
        }
    }
}

fn pair(name: &str, wrong: &str, right: &str, parts: &[&str]) {
    pair_on(name, PLAIN, wrong, right, parts);
}

/// A pair that differs at `HERE`.
fn differs(name: &str, body: &str, wrong: &str, right: &str, parts: &[&str]) {
    pair(name, &body.replace("HERE", wrong), &body.replace("HERE", right), parts);
}

#[test]
fn plain_accesses_of_two_blocks() {
    pair(
        "two blocks write the same words",
        "st.global.u32 [%rd2], %r1;",
        "st.global.u32 [%rd3], %r1;",
        &[
            "data race: write of 4 bytes at global address 0x70000000",
            "by warp 0, lane 0, 0 bytes into the allocation of 8192 bytes at 0x7",
            "not ordered after the write by block (0, 0, 0), warp 0, lane 0 at PTX line",
            "(`st.global.u32 [%rd2], %r1;`)",
            "kernel `k`, block (1, 0, 0), thread (0, 0, 0)",
        ],
    );
    differs(
        "a block reads what another writes",
        "@%p1 st.global.u32 [%rd2], %r1; @%p2 ld.global.u32 %r6, [%rd2+HERE];",
        "0",
        "4096",
        &["read of 4 bytes", "not ordered after the write by block (0, 0, 0)"],
    );
    differs(
        "a block writes what another reads",
        "@%p1 ld.global.u32 %r6, [%rd2]; @%p2 st.global.u32 [%rd2+HERE], %r1;",
        "0",
        "4096",
        &["write of 4 bytes", "not ordered after the read by block (0, 0, 0)"],
    );
    differs(
        "neighbours whose vectors overlap by a word",
        "mul.wide.u32 %rd5, %r2, HERE; add.u64 %rd5, %rd5, %rd1; @%p0 st.global.v4.u32 [%rd5], {%r1, %r1, %r1, %r1}; @%p0 st.global.u32 [%rd5+16], %r1;",
        "16",
        "32",
        &["write of 16 bytes", "by warp 0, lane 0, 16 bytes into", "by block (0, 0, 0), warp 0, lane 0"],
    );
    differs(
        "halves of a word",
        "mul.wide.u32 %rd5, %r2, HERE; add.u64 %rd5, %rd5, %rd1; mov.u16 %h1, 1; @%p0 st.global.u16 [%rd5], %h1;",
        "0",
        "2",
        &["write of 2 bytes", "after the write by block (0, 0, 0)"],
    );
    differs(
        "bytes of rows that end within a word",
        "mul.wide.u32 %rd5, %r2, HERE; add.u64 %rd5, %rd5, %rd1; cvt.u64.u32 %rd6, %r1; add.u64 %rd5, %rd5, %rd6; mov.u16 %h1, 1; setp.lt.u32 %p4, %r1, 3; st.global.u8 [%rd5], %h1; @%p4 st.global.u8 [%rd5+64], %h1;",
        "66",
        "67",
        &[
            "write of 1 bytes",
            "by warp 0, lane 0, 66 bytes into",
            "after the write by block (0, 0, 0), warp 0, lane 0 at",
        ],
    );
    differs(
        "generic addresses",
        "@%p1 st.u32 [%rd2], %r1; @%p2 ld.u32 %r6, [%rd2+HERE];",
        "0",
        "4096",
        &["read of 4 bytes", "not ordered after the write by block (0, 0, 0)", "(`@%p1 st.u32 [%rd2], %r1;"],
    );
    differs(
        "a copy of what another block writes",
        "mov.u32 %r10, tile; mad.lo.u32 %r10, %r1, 4, %r10; @%p1 st.global.u32 [%rd2], %r1; @%p2 cp.async.ca.shared.global [%r10], [%rd2+HERE], 4; cp.async.wait_all;",
        "0",
        "4096",
        &["read of 4 bytes", "after the write by block (0, 0, 0)", "cp.async"],
    );
}

#[test]
fn readers_are_remembered() {
    let way = Way { blocks: 5, ..PLAIN };
    pair_on(
        "a write after reads of many blocks",
        way,
        "ld.global.u32 %r6, [%rd2]; setp.eq.u32 %p4, %r2, 4; @%p4 st.global.u32 [%rd2], 1;",
        "ld.global.u32 %r6, [%rd2]; setp.eq.u32 %p4, %r2, 4; @%p4 st.global.u32 [%rd2+4096], 1;",
        &["write of 4 bytes", "after the read by block ("],
    );
    pair_on(
        "a row that one block of many reads beyond its end",
        way,
        "add.u64 %rd5, %rd3, 4; st.global.u32 [%rd3], %r1; bar.sync 0; ld.global.u32 %r6, [%rd5];",
        "st.global.u32 [%rd3], %r1; bar.sync 0; xor.b32 %r6, %r3, 63; mad.wide.u32 %rd5, %r6, 4, %rd1; ld.global.u32 %r6, [%rd5];",
        &[
            "write of 4 bytes",
            "by warp 0, lane 0, 256 bytes into",
            "after the read by block (0, 0, 0), warp 1, lane 31",
        ],
    );
}

#[test]
fn atomics_and_their_scopes() {
    differs(
        "a sum without atomics",
        "HERE",
        "ld.global.u32 %r6, [%rd2]; add.u32 %r6, %r6, 1; st.global.u32 [%rd2], %r6;",
        "red.global.add.u32 [%rd2], 1;",
        &["read of 4 bytes", "after the write by block (0, 0, 0)"],
    );
    differs(
        "atomics for the block alone",
        "red.relaxed.HERE.global.add.u32 [%rd2], 1;",
        "cta",
        "gpu",
        &["atomic update of 4 bytes", "(both are strong, but the scope of one does not reach the other)"],
    );
    differs(
        "one of the two atomics for the block alone",
        "@%p1 atom.add.HERE.global.u32 %r6, [%rd2], 1; @%p2 atom.add.global.u32 %r6, [%rd2], 1;",
        "cta",
        "sys",
        &["atomic update", "(both are strong"],
    );
    differs(
        "a plain read beside atomics",
        "@%p1 red.global.add.u32 [%rd2], 1; @%p2 ld.HEREglobal.u32 %r6, [%rd2];",
        "",
        "relaxed.gpu.",
        &["read of 4 bytes", "after the write by block (0, 0, 0)", "(`@%p1 red.global"],
    );
    differs(
        "an atomic beside a plain write",
        "@%p1 st.HEREglobal.u32 [%rd2], 1; @%p2 red.global.add.u32 [%rd2], 1;",
        "",
        "volatile.",
        &["atomic update of 4 bytes", "after the write by block (0, 0, 0)"],
    );
    differs(
        "an atomic beside a plain read",
        "@%p1 ld.HEREglobal.u32 %r6, [%rd2]; @%p2 red.global.add.f32 [%rd2], 0f3F800000;",
        "",
        "volatile.",
        &["atomic update of 4 bytes", "after the read by block (0, 0, 0)"],
    );
    differs(
        "two plain reads and an atomic of vectors",
        "mad.wide.u32 %rd5, %r1, 16, %rd1; @%p1 ld.HERE [%rd5+8]; @%p2 red.relaxed.gpu.global.add.v4.f32 [%rd5], {%f1, %f1, %f1, %f1};",
        "global.v2.u32 {%r6, %r7},",
        "relaxed.gpu.global.u32 %r6,",
        &["atomic update of 16 bytes", "after the read by block (0, 0, 0)"],
    );
}

/// All blocks but the last to come write their words and count themselves; the last one adds up what they wrote.
const LAST: &str = "mov.u32 %r6, tile; st.global.u32 [%rd3], %r1; BARRIER @!%p0 bra W; BEFORE atom.ORDERadd.global.u32 %r7, [%rd1+4096], 1; AFTER st.shared.u32 [%r6], %r7;
    W: bar.sync 0; ld.shared.u32 %r7, [%r6]; setp.ne.u32 %p4, %r7, 3; @%p4 ret; mov.u32 %r8, 0;
    L: mad.lo.u32 %r9, %r8, 64, %r1; mad.wide.u32 %rd5, %r9, 4, %rd1; ld.global.u32 %r9, [%rd5]; add.u32 %r8, %r8, 1; setp.lt.u32 %p5, %r8, 4; @%p5 bra L;";

fn last(name: &str, [wrong, right]: [[&str; 4]; 2], parts: &[&str]) {
    let body = |[barrier, before, order, after]: [&str; 4]| {
        LAST.replace("BARRIER", barrier)
            .replace("BEFORE", before)
            .replace("ORDER", order)
            .replace("AFTER", after)
    };
    pair_on(name, Way { blocks: 4, ..PLAIN }, &body(wrong), &body(right), parts);
}

#[test]
fn the_last_block_reads_what_the_others_wrote() {
    let (bar, membar, fence) = ("bar.sync 0;", "membar.gl;", "fence.acq_rel.gpu;");
    let read = [
        "read of 4 bytes",
        "after the write by block (0, 0, 0), warp ",
        "(`mov.u32 %r6, tile; st.global.u32 [%rd3]",
    ];
    last("no fence before the count", [[bar, "", "", membar], [bar, membar, "", membar]], &read);
    last("no fence after the count", [[bar, membar, "", ""], [bar, membar, "", fence]], &read);
    last(
        "a fence for the block alone",
        [[bar, "membar.cta;", "", membar], [bar, "membar.sys;", "", membar]],
        &read,
    );
    last(
        "a fence after the count for the block alone",
        [[bar, fence, "", "fence.acq_rel.cta;"], [bar, fence, "", "fence.sc.gpu;"]],
        &read,
    );
    last(
        "no barrier before the fence",
        [["", fence, "", fence], [bar, fence, "", fence]],
        &["read of 4 bytes", "after the write by block (0, 0, 0), warp 1"],
    );
    last("a count that only releases", [[bar, "", "release.gpu.", ""], [bar, "", "acq_rel.gpu.", ""]], &read);
    last(
        "a count that only acquires",
        [[bar, "", "acquire.gpu.", ""], [bar, fence, "acquire.gpu.", ""]],
        &read,
    );
    last(
        "an ordered count for the block alone",
        [[bar, "", "acq_rel.cta.", ""], [bar, "", "acq_rel.sys.", ""]],
        &["atomic update of 4 bytes", "(both are strong"],
    );
    // A proxy fence is none for memory.
    last("the wrong fence", [[bar, "fence.proxy.async;", "", fence], [bar, fence, "", fence]], &read);
}

#[test]
fn flags_from_block_to_block() {
    // The consumer looks once: where it comes first it does without.
    let flag = |data: &str, set: &str, get: &str, read: &str| {
        format!(
            "@!%p1 bra C; {data} bar.sync 0; @%p0 {set}; ret; C: {get}; setp.eq.u32 %p4, %r6, 0; @%p4 ret; {read} ld.global.u32 %r7, [%rd2];"
        )
    };
    let (data, release, acquire) = (
        "st.global.u32 [%rd2], %r1;",
        "st.release.gpu.global.u32 [%rd1+4096], 1",
        "ld.acquire.gpu.global.u32 %r6, [%rd1+4096]",
    );
    let right = flag(data, release, acquire, "");
    let parts =
        ["read of 4 bytes", "after the write by block (0, 0, 0), warp ", "st.global.u32 [%rd2], %r1;"];
    let race = |name: &str, wrong: String| pair(name, &wrong, &right, &parts);
    race("no release", flag(data, "st.relaxed.gpu.global.u32 [%rd1+4096], 1", acquire, ""));
    race("no acquire", flag(data, release, "ld.relaxed.gpu.global.u32 %r6, [%rd1+4096]", ""));
    race(
        "volatile alone",
        flag(data, "st.volatile.global.u32 [%rd1+4096], 1", "ld.volatile.global.u32 %r6, [%rd1+4096]", ""),
    );
    race(
        "a release for the block alone",
        flag(data, "st.release.cta.global.u32 [%rd1+4096], 1", acquire, "")
            .replace("acquire.gpu", "acquire.sys"),
    );
    race(
        "another flag",
        flag(
            data,
            release,
            "ld.acquire.gpu.global.u32 %r6, [%rd1+4096]; ld.acquire.gpu.global.u32 %r8, [%rd1+4100]",
            "",
        )
        .replace("ld.acquire.gpu.global.u32 %r6", "ld.relaxed.gpu.global.u32 %r6"),
    );
    race(
        "data after the flag",
        flag("", "st.release.gpu.global.u32 [%rd1+4096], 1; st.global.u32 [%rd2], %r1;", acquire, ""),
    );
    // The same with flags of 128 bits.
    let wide = |set: &str, get: &str| {
        format!(
            ".reg .b128 %q; mov.u64 %rd8, 1; mov.b128 %q, {{%rd8, %rd8}}; {}",
            flag(
                data,
                &format!("st.{set}.gpu.global.b128 [%rd1+4096], %q"),
                &format!(
                    "ld.{get}.gpu.global.b128 %q, [%rd1+4096]; mov.b128 {{%rd8, %rd9}}, %q; cvt.u32.u64 %r6, %rd8"
                ),
                ""
            )
        )
    };
    for (set, get) in [("relaxed", "acquire"), ("release", "relaxed")] {
        pair("128 bits, one not ordered", &wide(set, get), &wide("release", "acquire"), &parts);
    }
    // With fences, volatile flags do.
    let fences = |before: &str, after: &str| {
        flag(
            &format!("{data} bar.sync 0; {before}"),
            "st.volatile.global.u32 [%rd1+4096], 1",
            "ld.volatile.global.u32 %r6, [%rd1+4096]",
            after,
        )
    };
    pair(
        "volatile and no fence after",
        &fences("membar.gl;", ""),
        &fences("membar.gl;", "membar.gl;"),
        &parts,
    );
    pair(
        "volatile and no fence before",
        &fences("", "membar.gl;"),
        &fences("membar.gl;", "membar.gl;"),
        &parts,
    );
}

#[test]
fn order_goes_from_block_to_block() {
    let chain = |acquire: &str| {
        format!(
            "setp.eq.u32 %p4, %r2, 2; @%p1 st.global.u32 [%rd2], %r1; bar.sync 0; @!%p0 ret; @%p1 st.release.gpu.global.u32 [%rd1+4096], 1;
            @%p2 ld.{acquire}.gpu.global.u32 %r6, [%rd1+4096]; @%p2 st.release.gpu.global.u32 [%rd1+4100], %r6; @%p1 ret; @%p2 ret;
            ld.acquire.gpu.global.u32 %r6, [%rd1+4100]; setp.eq.u32 %p5, %r6, 0; @%p5 ret; ld.global.u32 %r7, [%rd1+128];"
        )
    };
    pair_on(
        "a chain that lacks a link",
        Way { blocks: 3, ..PLAIN },
        &chain("relaxed"),
        &chain("acquire"),
        &[
            "read of 4 bytes",
            "by warp 0, lane 0, 128 bytes into",
            "after the write by block (0, 0, 0), warp 1, lane 0",
        ],
    );
    // A lock around a sum: cas until 0 becomes 1, exch of 0 ends it.
    let lock = |take: &str, give: &str| {
        format!(
            "@!%p0 ret; L: atom.{take}cas.b32 %r6, [%rd1+4096], 0, 1; setp.ne.u32 %p4, %r6, 0; @%p4 bra L;
            ld.global.u32 %r7, [%rd1]; add.u32 %r7, %r7, 1; st.global.u32 [%rd1], %r7; atom.{give}exch.b32 %r6, [%rd1+4096], 0;"
        )
    };
    let way = Way { blocks: 4, ..PLAIN };
    let (take, give) = ("acquire.gpu.global.", "release.gpu.global.");
    let parts = ["read of 4 bytes", "after the write by block (0, 0, 0), warp 0, lane 0"];
    pair_on("a lock that does not release", way, &lock(take, "global."), &lock(take, give), &parts);
    pair_on("a lock that does not acquire", way, &lock("global.", give), &lock(take, give), &parts);
}

#[test]
fn warps_of_one_block() {
    differs(
        "no barrier",
        "add.u64 %rd5, %rd3, 128; xor.b32 %r6, %r3, 32; mad.wide.u32 %rd5, %r6, 4, %rd1; st.global.u32 [%rd3], %r1; HERE ld.global.u32 %r7, [%rd5];",
        "",
        "bar.sync 0;",
        &["of 4 bytes", "by warp ", "not ordered after the ", " by warp "],
    );
    differs(
        "a barrier of each warp for itself",
        "xor.b32 %r6, %r3, 32; mad.wide.u32 %rd5, %r6, 4, %rd1; shr.u32 %r8, %r1, 5; st.global.u32 [%rd3], %r1; bar.sync HERE; ld.global.u32 %r7, [%rd5];",
        "%r8, 32",
        "1, 64",
        &["of 4 bytes", " by warp "],
    );
    differs(
        "two warps write a word",
        "shl.b32 %r6, %r2, 6; HERE mad.wide.u32 %rd5, %r6, 4, %rd1; mov.u32 %r7, %laneid; setp.eq.u32 %p4, %r7, 0; @%p4 st.global.u32 [%rd5], 1;",
        "",
        "add.u32 %r6, %r6, %r1;",
        &["write of 4 bytes", "after the write by warp "],
    );
    differs(
        "a flag in shared memory",
        "mov.u32 %r6, tile; st.volatile.shared.u32 [%r6], 0; bar.sync 0; @!%p3 bra C; st.global.u32 [%rd3], 1; HERE st.volatile.shared.u32 [%r6], 1; ret;
        C: ld.volatile.shared.u32 %r7, [%r6]; setp.eq.u32 %p4, %r7, 0; @%p4 bra C; HERE mov.u32 %r8, %laneid; mad.lo.u32 %r8, %r2, 64, %r8; mad.wide.u32 %rd5, %r8, 4, %rd1; ld.global.u32 %r7, [%rd5];",
        "",
        "fence.acq_rel.cta;",
        &["read of 4 bytes", "by warp 1", "after the write by warp 0"],
    );
}

#[test]
fn bulk_copies_and_clusters() {
    let bulk = |to: &str| {
        format!(
            "mov.u32 %r6, tile; mad.lo.u32 %r7, %r1, 4, %r6; st.shared.u32 [%r7], 0; fence.proxy.async; bar.sync 0; @!%p0 ret;
            mul.wide.u32 %rd5, %r2, {to}; add.u64 %rd5, %rd5, %rd1; cp.async.bulk.global.shared::cta.bulk_group [%rd5], [%r6], 256; cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"
        )
    };
    pair(
        "bulk copies to the same bytes",
        &bulk("128"),
        &bulk("256"),
        &["asynchronous write of 256 bytes", "after the write by block (0, 0, 0)"],
    );
    let reduce = "mov.u32 %r6, tile; mad.lo.u32 %r7, %r1, 4, %r6; st.shared.u32 [%r7], 0; fence.proxy.async; bar.sync 0; @!%p0 ret;
        cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%rd1], [%r6], 256; cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;";
    pair(
        "a plain read beside bulk additions",
        &format!("@%p2 ld.global.u32 %r9, [%rd2]; {reduce}"),
        &format!("@%p2 ld.global.u32 %r9, [%rd2+4096]; {reduce}"),
        &["read of 4 bytes", "after the write by block (0, 0, 0)"],
    );
    let way = Way { cluster: 2, ..PLAIN };
    let body = "st.global.u32 [%rd3], %r1; HERE xor.b32 %r6, %r3, 64; mad.wide.u32 %rd5, %r6, 4, %rd1; ld.global.u32 %r7, [%rd5];";
    let barrier = "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;";
    pair_on(
        "no barrier of the cluster",
        way,
        &body.replace("HERE", ""),
        &body.replace("HERE", barrier),
        &["of 4 bytes", "by block ("],
    );
    let way = Way { blocks: 4, cluster: 2, ..PLAIN };
    pair_on(
        "atomics for the cluster alone",
        way,
        "red.relaxed.cluster.global.add.u32 [%rd2], 1;",
        "shr.u32 %r6, %r2, 1; mad.wide.u32 %rd5, %r6, 256, %rd2; red.relaxed.cluster.global.add.u32 [%rd5], 1;",
        &["atomic update of 4 bytes", "(both are strong", "by block ("],
    );
}

#[test]
fn launches_come_one_after_another() {
    let emulator = Emulator::new(Config::default());
    let out = emulator.alloc(8192).unwrap();
    emulator.fill(out, 0, 8192).unwrap();
    let write = "st.global.u32 [%rd3], %r1;";
    let read = "xor.b32 %r6, %r3, 64; mad.wide.u32 %rd5, %r6, 4, %rd1; ld.global.u32 %r7, [%rd5];";
    for body in [write, read, write, read] {
        run_on(&emulator, out, body, PLAIN).unwrap_or_else(|e| panic!("{e}"));
    }
}
