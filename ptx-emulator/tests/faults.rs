//! What a kernel may not do, and what the caller may not ask: each an error that says where and what.

mod common;
use common::{emulator, launch, module, words};
use ptx_emulator::{Config, Emulator, LaunchConfig, LaunchError, Module};

fn message(body: &str, grid: u32, block: u32) -> String {
    words(body, grid, block, 64).expect_err(body).to_string()
}

/// (wrong body, its corrected twin, parts of the message). The output has 256 bytes.
#[test]
fn faults_name_line_block_thread_and_address() {
    let out = "ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x;\n";
    let cases: [(&str, &str, &[&str]); 15] = [
        (
            "mad.wide.u32 %rd2, %r1, 4, %rd1;\nst.global.u32 [%rd2+32], %r1;",
            "mad.wide.u32 %rd2, %r1, 4, %rd1;\nst.global.u32 [%rd2], %r1;",
            &[
                "write of 4 bytes",
                "thread (56, 0, 0)",
                "0 bytes past the end of the allocation of 256 bytes",
                "st.global.u32 [%rd2+32], %r1;",
                "PTX line 8",
                "kernel `k`",
                "block (0, 0, 0)",
            ],
        ),
        (
            "ld.global.u32 %r2, [%rd1-4];",
            "ld.global.u32 %r2, [%rd1];",
            &["read of 4 bytes", "4 bytes before the allocation"],
        ),
        (
            "ld.global.v2.u32 {%r2, %r3}, [%rd1+252];",
            "ld.global.v2.u32 {%r2, %r3}, [%rd1+248];",
            &["misaligned read of 8 bytes"],
        ),
        (
            "ld.global.u64 %rd2, [%rd1+4];",
            "ld.global.u64 %rd2, [%rd1+8];",
            &["misaligned", "not a multiple of 8"],
        ),
        (
            "mov.u64 %rd2, 0; ld.u32 %r2, [%rd2];",
            "mov.u64 %rd2, %rd1; ld.u32 %r2, [%rd2];",
            &["a null pointer"],
        ),
        (
            ".shared .align 4 .b8 s[64]; st.shared.u32 [s+64], %r1;",
            ".shared .align 4 .b8 s[64]; st.shared.u32 [s+60], %r1;",
            &["write of 4 bytes at shared address 0x40, which has 64 bytes"],
        ),
        (
            ".local .align 4 .b8 d[16]; st.local.u32 [d+16], %r1;",
            ".local .align 4 .b8 d[16]; st.local.u32 [d+12], %r1;",
            &["local address 0x10, which has 16 bytes"],
        ),
        (
            ".shared .align 4 .b8 s[64]; mov.u64 %rd2, s; cvta.shared.u64 %rd2, %rd2; st.u32 [%rd2+100], %r1;",
            ".shared .align 4 .b8 s[64]; mov.u64 %rd2, s; cvta.shared.u64 %rd2, %rd2; st.u32 [%rd2+60], %r1;",
            &["shared address 0x64"],
        ),
        (
            "setp.eq.u32 %p1, %r1, 17; @!%p1 bra OK; trap; OK:",
            "setp.eq.u32 %p1, %r1, 64; @!%p1 bra OK; trap; OK:",
            &["trap", "thread (17, 0, 0)"],
        ),
        (
            "setp.eq.u32 %p1, %r1, 17; @!%p1 bra OK; brkpt; OK:",
            "setp.eq.u32 %p1, %r1, 64; @!%p1 bra OK; brkpt; OK:",
            &["brkpt: a breakpoint", "thread (17, 0, 0)"],
        ),
        ("bar.sync 16;", "bar.sync 15;", &["barrier 16"]),
        ("bar.sync 1, 33;", "bar.sync 1, 64;", &["count of 33"]),
        (
            "mov.u64 %rd2, 12345; call %rd2, ();",
            "mov.u64 %rd2, 12345; setp.eq.u64 %p1, %rd2, 0; @%p1 call %rd2, ();",
            &["no function"],
        ),
        (
            "setp.eq.u32 %p1, %r1, 0; @%p1 bra A; shfl.sync.idx.b32 %r2, %r1, 0, 31, 1; A:",
            "setp.eq.u32 %p1, %r1, 0; @!%p1 bra A; shfl.sync.idx.b32 %r2, %r1, 0, 31, 1; A:",
            &["member mask 0x00000001 lacks it"],
        ),
        (
            "mov.u32 %r2, 7; L: .branchtargets X; brx.idx %r2, L; X:",
            "mov.u32 %r2, 0; L: .branchtargets X; brx.idx %r2, L; X:",
            &["branch index 7, but there are 1 targets"],
        ),
    ];
    for (wrong, right, parts) in cases {
        let text = message(&format!("{out}{wrong}\nret;"), 1, 64);
        for part in parts {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
        words(&format!("{out}{right}\nret;"), 1, 64, 64).unwrap_or_else(|e| panic!("{right}: {e}"));
    }
}

#[test]
fn constant_memory_cannot_be_written_through_a_generic_pointer() {
    let constant = |body: &str| module(body).replace(".visible", ".const .align 4 .u32 c = 3;\n.visible");
    let failure = |text: &str| {
        let emulator = emulator();
        launch(text, "k", 1, 1, 0, &emulator, &[&0u64.to_le_bytes()]).unwrap_err().to_string()
    };
    let beyond = failure(&constant("mov.u64 %rd1, c; ld.const.u32 %r1, [%rd1+4]; ret;"));
    assert!(
        beyond.contains("read of 4 bytes at const address") && beyond.contains("0 bytes past the end"),
        "{beyond}"
    );
    let variable = constant("mov.u64 %rd1, g; ld.const.u32 %r1, [%rd1]; ret;");
    let other = failure(&variable.replace(".const .align", ".global .align 4 .u32 g = 4;\n.const .align"));
    assert!(other.contains("const address") && other.contains("which is global memory"), "{other}");
    let text = module("mov.u64 %rd1, c; cvta.const.u64 %rd1, %rd1; st.u32 [%rd1], 1; ret;")
        .replace(".visible", ".const .align 4 .u32 c = 3;\n.visible");
    let error = launch(&text, "k", 1, 1, 0, &emulator(), &[&0u64.to_le_bytes()]).unwrap_err();
    assert!(error.to_string().contains("constant memory"), "{error}");
}

#[test]
fn freed_memory_is_recognised() {
    let emulator = emulator();
    let out = emulator.alloc(64).unwrap();
    emulator.free(out).unwrap();
    let text = module("ld.param.u64 %rd1, [out]; ld.global.u32 %r1, [%rd1+8]; ret;");
    let other = emulator.alloc(64).unwrap();
    launch(&text, "k", 1, 1, 0, &emulator, &[&other.to_le_bytes()]).unwrap();
    let error = launch(&text, "k", 1, 1, 0, &emulator, &[&out.to_le_bytes()]).unwrap_err();
    assert!(error.to_string().contains("has been freed"), "{error}");
}

#[test]
fn a_barrier_that_cannot_complete_is_a_deadlock_that_names_the_warps() {
    let body =
        "mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 32; @%p1 bra A;\nbar.sync 1;\nret; A:\nbar.sync 2;\nret;";
    let error = words(body, 1, 64, 1).unwrap_err();
    assert!(matches!(error, LaunchError::Deadlock { .. }));
    let text = error.to_string();
    for part in [
        "deadlock in kernel `k`",
        "warp 0",
        "warp 1",
        "waits at barrier 1",
        "waits at barrier 2",
        "bar.sync 2;",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    words(&body.replace("bar.sync 2", "bar.sync 1"), 1, 64, 1).unwrap();
    let text = words("bar.sync 0, 128; ret;", 1, 64, 1).unwrap_err().to_string();
    assert!(text.contains("waits at barrier 0"), "{text}");
    words("bar.sync 0, 64; ret;", 1, 64, 1).unwrap();
}

#[test]
fn a_collective_whose_members_never_come_is_a_deadlock() {
    let body = "mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 16; @%p1 bra A; bar.sync 0; ret; A: shfl.sync.idx.b32 %r2, %r1, 0, 31, -1; bar.sync 0; ret;";
    let text = words(body, 1, 32, 1).unwrap_err().to_string();
    assert!(text.contains("waits for the lanes 0xffffffff"), "{text}");
}

#[test]
fn endless_loops_end_at_the_limit() {
    let emulator = Emulator::new(Config { max_instructions: Some(100_000), ..Config::default() });
    let error = launch(&module("L: bra L;"), "k", 2, 32, 0, &emulator, &[&0u64.to_le_bytes()]).unwrap_err();
    assert!(matches!(error, LaunchError::InstructionLimit { limit: 100_000, .. }), "{error}");
    let few = Emulator::new(Config { max_instructions: Some(2), ..Config::default() });
    let text = launch(&module("bar.warp.sync -1; bar.warp.sync -1; ret;"), "k", 1, 32, 0, &few, &[&[0; 8]]);
    assert!(text.unwrap_err().to_string().ends_with("block (0, 0, 0): all of its warps have ended"));
    // A flag that nobody sets, and who waits for the warp that waits for it.
    let body = "ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, 32; @%p1 bra M;
        W: ld.volatile.global.u32 %r2, [%rd1]; setp.eq.u32 %p2, %r2, 0; @%p2 bra W;
        M: bar.sync 1; ret;";
    let flag = emulator.alloc(4).unwrap();
    emulator.fill(flag, 0, 4).unwrap();
    let text =
        launch(&module(body), "k", 1, 96, 0, &emulator, &[&flag.to_le_bytes()]).unwrap_err().to_string();
    let begins = "kernel `k` ran more than 100000 warp instructions; last in block (0, 0, 0): warp 0: lanes 0xffffffff ready, PTX line ";
    assert!(text.starts_with(begins), "{text}");
    for part in
        ["; warp 1: lanes 0xffffffff waits at barrier 1, PTX line ", "; warp 2: ", ": `W: ld.volatile"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn barriers_that_wait_for_nobody_are_no_end_of_time() {
    // One warp of a block, or the only one that a barrier counts.
    let emulator = Emulator::new(Config { max_instructions: Some(100_000), threads: 1, ..Config::default() });
    for (body, block) in [
        ("L: bar.sync 0; bra L;", 32),
        ("L: bar.sync 1, 32; bra L;", 64),
        ("mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, 32; @%p1 bra E; L: bar.sync 0; bra L; E: ret;", 64),
    ] {
        let error = launch(&module(body), "k", 2, block, 0, &emulator, &[&0u64.to_le_bytes()]).unwrap_err();
        assert!(matches!(error, LaunchError::InstructionLimit { limit: 100_000, .. }), "{body}: {error}");
    }
    // The first block waits for the second one, which has its turn all the same.
    let body = "ld.param.u64 %rd1, [out]; mov.u32 %r1, %ctaid.x; setp.ne.u32 %p1, %r1, 0; @%p1 bra S;
        W: bar.sync 0; ld.volatile.global.u32 %r2, [%rd1+4]; setp.eq.u32 %p2, %r2, 0; @%p2 bra W;
        st.global.u32 [%rd1], %r2; ret;
        S: st.volatile.global.u32 [%rd1+4], 7; ret;";
    let out = emulator.alloc(8).unwrap();
    emulator.fill(out, 0, 8).unwrap();
    launch(&module(body), "k", 2, 32, 0, &emulator, &[&out.to_le_bytes()]).unwrap();
    let mut bytes = [0; 8];
    emulator.read(out, &mut bytes).unwrap();
    assert_eq!(bytes, [7, 0, 0, 0, 7, 0, 0, 0]);
}

#[test]
fn assertions_fail_with_their_text() {
    let text = "
.version 8.0
.target sm_80
.address_size 64
.global .align 1 .b8 m[6] = {120, 32, 62, 32, 48, 0};
.global .align 1 .b8 f[5] = {97, 46, 99, 117, 0};
.extern .func __assertfail (.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);
.visible .entry k(.param .u64 out) {
    .reg .b64 %rd<3>;
    mov.u64 %rd1, m; cvta.global.u64 %rd1, %rd1; mov.u64 %rd2, f; cvta.global.u64 %rd2, %rd2;
    { .param .b64 a; .param .b64 b; .param .b32 c; .param .b64 d; .param .b64 e;
      st.param.b64 [a], %rd1; st.param.b64 [b], %rd2; st.param.b32 [c], 12; st.param.b64 [d], %rd1; st.param.b64 [e], 1;
      call.uni __assertfail, (a, b, c, d, e); }
    ret;
}";
    let error = launch(text, "k", 1, 1, 0, &emulator(), &[&0u64.to_le_bytes()]).unwrap_err();
    assert!(error.to_string().contains("assertion failed: x > 0 (a.cu:12)"), "{error}");
}

#[test]
fn launches_that_do_not_fit_are_refused_with_numbers() {
    let text = module("ret;")
        .replace("out) {", "out) .maxntid 64, 1, 1 {")
        .replace(".reg .pred", ".shared .align 4 .b8 s[1000]; .reg .pred");
    let module = Module::parse(&text).unwrap();
    let emulator = emulator();
    let eight = 0u64.to_le_bytes();
    let refuse = |entry: &str, grid: [u32; 3], block: [u32; 3], shared: u32, args: &[&[u8]]| {
        let config = LaunchConfig { grid, block, dynamic_shared_bytes: shared };
        emulator.launch(&module, entry, config, args).unwrap_err().to_string()
    };
    let one = [1, 1, 1];
    assert!(refuse("x", one, one, 0, &[&eight]).contains("no entry `x`; it has `k`"));
    assert!(refuse("k", one, one, 0, &[]).contains("0 arguments are given, the kernel has 1"));
    assert!(refuse("k", one, one, 0, &[&eight[..4]]).contains("has 4 bytes, 8 are wanted"));
    assert!(refuse("k", [1, 0, 1], one, 0, &[&eight]).contains("(1, 0, 1)"));
    assert!(refuse("k", one, [2048, 1, 1], 0, &[&eight]).contains("2048 threads"));
    assert!(refuse("k", one, [65, 1, 1], 0, &[&eight]).contains("`.maxntid` (64, 1, 1) allows 64"));
    assert!(refuse("k", one, one, 300_000, &[&eight]).contains("1000 static and 300000 dynamic"));
    let block = |block| LaunchConfig { grid: one, block, dynamic_shared_bytes: 0 };
    emulator.launch(&module, "k", block([64, 1, 1]), &[&eight]).unwrap();
    let required = Module::parse(&text.replace(".maxntid 64, 1, 1", ".reqntid 8, 4")).unwrap();
    emulator.launch(&required, "k", block([8, 4, 1]), &[&eight]).unwrap();
    let error = emulator.launch(&required, "k", block([32, 1, 1]), &[&eight]).unwrap_err().to_string();
    assert!(error.contains("block (32, 1, 1), but `.reqntid` is [8, 4, 1]"), "{error}");
}

#[test]
fn parse_errors_list_every_problem_with_its_line() {
    let error =
        Module::parse(&module("foo.u32 %r1, %r2;\nadd.u32 %r1, %nosuch, 1;\nbra NOWHERE;\nadd.u32 %r1;"))
            .unwrap_err();
    let text = error.to_string();
    for part in [
        "line 6: the instruction `foo.u32` is not known",
        "line 7: `%nosuch` is not declared",
        "there is no label `NOWHERE`",
        "takes 3 operands, not 1",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    assert!(Module::parse(".version 8.0\n.target sm_80\n.visible .entry k() { mov.u32 ").is_err());
}
