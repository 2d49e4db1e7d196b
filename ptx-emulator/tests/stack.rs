//! `alloca`, `stacksave` and `stackrestore`; atomics of 128 bits.

mod common;
use common::{check_rows, emulator, module, run_rows, try_rows};
use ptx_emulator::{LaunchConfig, LaunchOptions, Module};

/// What the kernel `k` makes of `SIZE` zeros, whose address is its parameter.
fn result<const SIZE: usize>(
    text: &str,
    (blocks, threads): (u32, u32),
    checks: bool,
) -> Result<[u8; SIZE], String> {
    let emulator = emulator();
    let out = emulator.alloc(SIZE as u64).unwrap();
    emulator.fill(out, 0, SIZE as u64).unwrap();
    let module = Module::parse(text).unwrap_or_else(|e| panic!("{e}"));
    let shape = LaunchConfig { grid: [blocks, 1, 1], block: [threads, 1, 1], dynamic_shared_bytes: 0 };
    let options = LaunchOptions { checks, ..LaunchOptions::default() };
    emulator.launch_with(&module, "k", shape, &[&out.to_le_bytes()], &options).map_err(|e| e.to_string())?;
    let mut bytes = [0; SIZE];
    emulator.read(out, &mut bytes).unwrap();
    Ok(bytes)
}

#[test]
fn memory_of_a_size_that_only_the_thread_knows() {
    // Each thread takes 4 to 132 bytes, writes at both ends, takes more, and reads all again.
    let body = "cvt.u64.u32 %q1, %a; alloca.u64 %q2, %q1, 16; cvta.local.u64 %q3, %q2; st.u8 [%q3], 7; add.u64 %q4, %q3, %q1;
        st.u8 [%q4+-1], 9; alloca.u64 %q5, 32, 64; st.local.u32 [%q5], %a; st.local.u32 [%q5+28], %a; ld.u8 %r1, [%q3]; ld.u8 %r2, [%q4+-1];
        ld.local.u32 %r3, [%q5+28]; mad.lo.u32 %d, %r1, 256, %r2; mad.lo.u32 %d, %r3, 65536, %d;
        and.b64 %q6, %q2, 15; and.b64 %q7, %q5, 63; or.b64 %q6, %q6, %q7; cvt.u32.u64 %r4, %q6; shl.b32 %r4, %r4, 24; add.u32 %d, %d, %r4;";
    let rows: Vec<[u64; 3]> = (0..32).map(|l| [4 + 4 * l, 0, 0]).collect();
    let expected: Vec<u64> = (0..32).map(|l| (4 + 4 * l) << 16 | 0x0709).collect();
    assert_eq!(run_rows(body, &rows), expected);
    check_rows(&[
        // Of no bytes; of 32 bits; without an alignment.
        ("alloca.u64 %q1, 0, 8; alloca.u64 %q2, 8, 8; sub.u64 %w, %q2, %q1;", [0; 3], 0),
        ("alloca.u32 %r1, 4, 16; alloca.u32 %r2, 4, 16; sub.u32 %d, %r2, %r1;", [0; 3], 16),
        // Aligned to 8 at least.
        ("alloca.u32 %r1, 4, 4; alloca.u32 %r2, 4, 4; sub.u32 %d, %r2, %r1;", [0; 3], 8),
        ("alloca.u64 %q1, 1, 1; alloca.u64 %q2, 1, 2; sub.u64 %w, %q2, %q1;", [0; 3], 8),
        // To 8192 at most.
        ("alloca.u64 %q1, 0, 8192; and.b64 %w, %q1, 8191;", [0; 3], 0),
        ("alloca.u64 %q1, 1; alloca.u64 %q2, 1; sub.u64 %w, %q2, %q1;", [0; 3], 8),
        // What is given back is given again.
        (
            "stacksave.u64 %q1; alloca.u64 %q2, %x, 8; stackrestore.u64 %q1; alloca.u64 %q3, 8, 8; sub.u64 %w, %q3, %q2;",
            [8000, 0, 0],
            0,
        ),
        (
            "stacksave.u32 %r1; alloca.u32 %r2, %a, 8; stackrestore.u32 %r1; alloca.u32 %r3, 8, 8; sub.u32 %d, %r3, %r2;",
            [8000, 0, 0],
            0,
        ),
    ]);
    for bad in [
        "alloca.u64 %q1, 8, 3;",
        "alloca.u64 %q1, 8, 16384;",
        "alloca.u16 %h1, 8, 8;",
        "stacksave.u64 %q1, %q2;",
    ] {
        assert!(Module::parse(&common::kernel(bad)).is_err(), "{bad}");
    }
}

#[test]
fn a_stack_has_an_end() {
    let error = try_rows("alloca.u64 %q1, %x, 8; alloca.u64 %q2, %x, 8;", &[[4096, 0, 0]]);
    assert!(error.is_ok(), "{error:?}");
    for (size, left) in [(4097, "4095 left"), (u64::MAX, "8192 left")] {
        let error =
            try_rows("alloca.u64 %q1, %x, 8; alloca.u64 %q2, %x, 8;", &[[0; 3], [size, 0, 0]]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("`alloca` of") && text.contains(left) && text.contains("thread (1, 0, 0)"),
            "{text}"
        );
    }
    let error = try_rows("stackrestore.u64 %x;", &[[1 << 40, 0, 0]]).unwrap_err().to_string();
    assert!(error.contains("which no `stacksave` gave"), "{error}");
}

#[test]
fn a_function_gives_back_what_it_took() {
    // 100 calls of 4096 bytes each, one after another.
    let text = ".version 8.3\n.target sm_80\n.address_size 64
        .func (.param .b32 result) f(.param .b32 n) { .reg .b32 %r<4>; .reg .b64 %rd<3>; .reg .pred %p; ld.param.b32 %r1, [n];
        mov.b64 %rd1, 4096; alloca.u64 %rd2, %rd1, 16; st.local.b32 [%rd2+4092], %r1; ld.local.b32 %r2, [%rd2+4092];
        setp.lt.u32 %p, %r1, 50; @%p bra LOW; add.u32 %r2, %r2, 1; st.param.b32 [result], %r2; ret;
        LOW: st.param.b32 [result], %r2; ret; }
        .visible .entry k(.param .u64 out) { .reg .b32 %r<4>; .reg .b64 %rd<3>; .reg .pred %p; ld.param.u64 %rd1, [out];
        mov.b32 %r1, 0; mov.b32 %r2, 0;
        LOOP: { .param .b32 a; .param .b32 b; st.param.b32 [a], %r1; call (b), f, (a); ld.param.b32 %r3, [b]; } add.u32 %r2, %r2, %r3;
        add.u32 %r1, %r1, 1; setp.lt.u32 %p, %r1, 100; @%p bra LOOP; st.global.u32 [%rd1], %r2; ret; }";
    let sum = result::<4>(text, (1, 1), false).unwrap();
    assert_eq!(u32::from_le_bytes(sum), 99 * 100 / 2 + 50);
}

#[test]
fn what_is_given_back_is_unwritten_again() {
    let run = |body: &str| {
        let (before, entry) = body.split_once("|").unwrap();
        let text = module(entry).replacen(".visible", &format!("{before}\n.visible"), 1);
        result::<0>(&text, (1, 64), true)
    };
    let by_restore =
        "| stacksave.u64 %rd1; alloca.u64 %rd2, 16, 8; st.local.u64 [%rd2+8], 5; HERE stackrestore.u64 %rd1;
        alloca.u64 %rd3, 16, 8; AGAIN ld.local.u64 %rd4, [%rd3+8]; ret;";
    let by_return =
        ".func f() { .reg .b64 %rd<3>; alloca.u64 %rd2, 16, 8; st.local.u64 [%rd2+8], 5; HERE ret; }
        | call f; alloca.u64 %rd3, 16, 8; AGAIN ld.local.u64 %rd4, [%rd3+8]; ret;";
    for body in [by_restore, by_return] {
        let body = body.replace("HERE", "ld.local.u64 %rd1, [%rd2+8]; mov.u64 %rd1, %rd2;");
        run(&body.replace("AGAIN", "st.local.u64 [%rd3+8], 6;")).unwrap();
        let error = run(&body.replace("AGAIN", "")).unwrap_err();
        assert!(
            error.contains("read of 8 bytes at local address") && error.contains("never written"),
            "{error}"
        );
    }
}

#[test]
fn atomics_of_128_bits_exchange_and_compare() {
    let new = "{ .reg .b128 q, r, o; mov.b128 q, {%x, %y}; mov.b128 r, {%y, %z};";
    let rows: [(String, [u64; 3], u64); 5] = [
        // The place holds the inputs x and y: both halves come back, and the new ones are there.
        (
            format!(
                "{new} atom.global.exch.b128 o, [%t2], r; mov.b128 {{%q1, %q2}}, o; mad.lo.u64 %w, %q1, 100, %q2; }}"
            ),
            [5, 6, 7],
            506,
        ),
        (
            format!(
                "{new} atom.global.exch.b128 _, [%t2], r; ld.global.b128 o, [%t2]; mov.b128 {{%q1, %q2}}, o; mad.lo.u64 %w, %q1, 100, %q2; }}"
            ),
            [5, 6, 7],
            607,
        ),
        (
            format!("{new} atom.relaxed.gpu.global.cas.b128 o, [%t2], q, r; ld.global.u64 %w, [%t2+8]; }}"),
            [5, 6, 7],
            7,
        ),
        // Only one half is what is compared: nothing is written.
        (
            format!(
                "{new} mov.b128 q, {{%x, %x}}; atom.acq_rel.sys.cas.b128 o, [%t2], q, r; ld.u64 %w, [%t2+8]; mov.b128 {{_, %q1}}, o; mad.lo.u64 %w, %w, 100, %q1; }}"
            ),
            [5, 6, 7],
            606,
        ),
        (
            format!(
                "{new} .shared .align 16 .b8 s[16]; st.shared.b128 [s], q; atom.shared::cta.exch.b128 o, [s], r; ld.shared.b128 q, [s]; mov.b128 {{%q1, %q2}}, q; mad.lo.u64 %w, %q1, 100, %q2; }}"
            ),
            [5, 6, 7],
            607,
        ),
    ];
    for (body, inputs, expected) in &rows {
        assert_eq!(run_rows(body, &[*inputs])[0], *expected, "{body}");
    }
    let error = try_rows("{ .reg .b128 q; atom.global.exch.b128 q, [%t2+8], q; }", &[[0; 3]]).unwrap_err();
    assert!(error.to_string().contains("misaligned"), "{error}");
    for bad in ["{ .reg .b128 q; atom.global.add.b128 q, [%t2], q; }", "atom.global.exch.b128 %x, [%t2], %y;"]
    {
        assert!(Module::parse(&common::kernel(bad)).is_err(), "{bad}");
    }
}

#[test]
fn no_update_of_128_bits_is_lost() {
    // 4 blocks of 64 threads add (1, 2) to a pair by compare and swap, under checks.
    let text = module(
        ".reg .b128 %o, %n, %s; ld.param.u64 %rd1, [out]; mov.b64 %rd2, 0; mov.b64 %rd3, 0; mov.b128 %o, {%rd2, %rd3};
        LOOP: mov.b128 {%rd2, %rd3}, %o; add.u64 %rd4, %rd2, 1; add.u64 %rd5, %rd3, 2; mov.b128 %n, {%rd4, %rd5};
        atom.global.cas.b128 %s, [%rd1], %o, %n; mov.b128 {%rd6, %rd7}, %s; mov.b128 %o, %s;
        setp.ne.u64 %p1, %rd6, %rd2; @%p1 bra LOOP; setp.ne.u64 %p1, %rd7, %rd3; @%p1 bra LOOP; ret;",
    );
    let sums = result::<16>(&text, (4, 64), true).unwrap();
    assert_eq!(u128::from_le_bytes(sums), 256 | 512 << 64);
}

/// A block writes pairs of equal halves, another one reads them: it never sees halves of two pairs.
#[test]
fn strong_accesses_of_128_bits_are_whole() {
    let torn = |write: &str, read: &str| {
        let text = module(&format!(
            ".reg .b128 %o, %z; ld.param.u64 %rd1, [out]; mov.u32 %r1, %ctaid.x; mov.u32 %r2, %tid.x; mov.u32 %r3, 0;
            mov.u64 %rd6, 0; mov.b128 %z, {{%rd6, %rd6}}; setp.ne.u32 %p1, %r1, 0; @%p1 bra READ;
            WRITE: mad.lo.u32 %r4, %r3, 32, %r2; cvt.u64.u32 %rd2, %r4; mov.b128 %o, {{%rd2, %rd2}}; {write}
            add.u32 %r3, %r3, 1; setp.lt.u32 %p2, %r3, 20000; @%p2 bra WRITE; ret;
            READ: {read} mov.b128 {{%rd3, %rd4}}, %o; xor.b64 %rd5, %rd3, %rd4; or.b64 %rd6, %rd6, %rd5;
            add.u32 %r3, %r3, 1; setp.lt.u32 %p2, %r3, 20000; @%p2 bra READ;
            mul.wide.u32 %rd7, %r2, 8; add.u64 %rd7, %rd7, %rd1; st.global.u64 [%rd7+16], %rd6; ret;"
        ));
        result::<{ 16 + 32 * 8 }>(&text, (2, 32), false).unwrap()[16..].iter().any(|&b| b != 0)
    };
    let (exchange, compare) = (
        "atom.relaxed.gpu.global.exch.b128 _, [%rd1], %o;",
        "atom.relaxed.gpu.global.cas.b128 %o, [%rd1], %z, %z;",
    );
    for (write, read) in [
        (exchange, "ld.relaxed.gpu.global.b128 %o, [%rd1];"),
        ("st.relaxed.gpu.global.b128 [%rd1], %o;", compare),
        ("st.volatile.b128 [%rd1], %o;", "ld.volatile.b128 %o, [%rd1];"),
        ("st.release.gpu.global.b128 [%rd1], %o;", "ld.acquire.gpu.global.b128 %o, [%rd1];"),
    ] {
        assert!(!torn(write, read), "{write} {read}");
    }
}
