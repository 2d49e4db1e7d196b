//! Forms that compilers seldom write: comparisons into halves, vectors of eight small elements, accesses by cluster addresses, cache
//! policies of atomics. One row each, with the edges of its type.

mod common;
use common::values::{D1, D2, DNAN, INF, MM1, ONE, TOP, TWO};
use common::{check_one, kernel, module, run_rows};
use ptx_emulator::{Config, Emulator, LaunchConfig, Module};

/// True is 1.0 of the type, false 0.
#[test]
fn comparisons_give_one_or_zero_in_halves() {
    let (one16, one_b16) = (0x3c00, 0x3f80);
    for (body, inputs, expected) in [
        ("set.eq.f16.b32 %h1, %a, %b;", [5, 5, 0], one16),
        ("set.ne.f16.b64 %h1, %x, %y;", [5, 5 | TOP, 0], one16),
        ("set.ne.f16.b64 %h1, %x, %y;", [5, 5, 0], 0),
        ("setp.eq.u32 %p1, %c, 0; set.eq.xor.f16.b32 %h1, %a, %b, %p1;", [5, 5, 0], 0),
        ("set.lt.f16.s32 %h1, %a, %b;", [0xffff_ffff, 0, 0], one16),
        ("set.ge.f16.s64 %h1, %x, %y;", [MM1, 0, 0], 0),
        (
            "cvt.u16.u32 %h2, %a; cvt.u16.u32 %h3, %b; set.gt.f16.s16 %h1, %h2, %h3;",
            [0x7fff, 0x8000, 0],
            one16,
        ),
        ("set.hi.bf16.u64 %h1, %x, %y;", [MM1, 1, 0], one_b16),
        ("set.ls.bf16.u32 %h1, %a, %b;", [2, 1, 0], 0),
        ("set.lo.bf16.u32 %h1, %a, %b;", [1, 0xffff_ffff, 0], one_b16),
        ("set.num.bf16.f64 %h1, %x, %y;", [DNAN, D1, 0], 0),
        ("set.nan.bf16.f64 %h1, %x, %y;", [DNAN, D1, 0], one_b16),
        ("set.equ.bf16.f64 %h1, %x, %y;", [DNAN, D1, 0], one_b16),
        ("set.lt.bf16.f64 %h1, %x, %y;", [TOP, 0, 0], 0),
        // The smallest subnormal is more than zero.
        ("set.gt.bf16.f64 %h1, %x, %y;", [1, 0, 0], one_b16),
    ] {
        let body = format!("{body} cvt.u32.u16 %d, %h1;");
        assert_eq!(run_rows(&body, &[inputs; 32]), [expected; 32], "{body}");
    }
}

#[test]
fn a_blocks_own_shared_memory_is_the_clusters_too() {
    let own = ".shared .align 16 .b8 s[64]; mov.u64 %q1, s; cvta.shared::cluster.u64 %q2, %q1;";
    for (body, expected) in [
        ("st.shared.u32 [s], 7; ld.u32 %d, [%q2];", 7),
        ("cvta.to.shared::cluster.u64 %q3, %q2; setp.eq.u64 %p1, %q1, %q3; selp.u32 %d, 1, 0, %p1;", 1),
        ("isspacep.shared::cluster %p1, %q2; selp.u32 %d, 1, 0, %p1;", 1),
        ("isspacep.shared::cluster %p1, %in; selp.u32 %d, 1, 0, %p1;", 0),
        ("isspacep.shared::cta %p1, %q2; selp.u32 %d, 1, 0, %p1;", 1),
        (
            "st.shared.u32 [s], 7; fence.release.sync_restrict::shared::cta.cluster;
            fence.acquire.sync_restrict::shared::cluster.cluster; ld.shared::cluster.u32 %d, [%q1];",
            7,
        ),
    ] {
        assert_eq!(run_rows(&format!("{own} {body}"), &[[0; 3]])[0], expected, "{body}");
    }
}

/// The inputs of the accesses below, and what `FOLD` makes of them: no two elements of any width are alike.
const LOWER: u64 = 0x8004_7f03_ff02_0101;
const UPPER: u64 = 0x0008_9007_a006_b005;
const FOLDED: u64 = LOWER ^ UPPER << 4;

/// 16 bytes at `[%in]` and at `[s]`, read in every way.
#[test]
fn loads_of_16_bytes_in_every_way() {
    let before =
        ".shared .align 16 .b8 s[64]; .reg .b128 %z1; st.shared.v2.b64 [s], {%x, %y}; mov.b64 %q3, 0;";
    let eight = "{%h1, %h2, %h3, %h4, %h5, %h6, %h7, %h8}";
    for load in [
        "ld.global.nc.v8.b16 E, [%in];",
        "ld.global.nc.L1::no_allocate.L2::64B.v8.u16 E, [%in];",
        "ld.global.nc.L2::256B.v8.s16 E, [%in];",
        "ld.global.nc.L2::cache_hint.v8.b16 E, [%in], %q3;",
        "ld.volatile.global.v8.b16 E, [%in];",
        "ld.volatile.global.L2::128B.v8.b16 E, [%in];",
        "ld.volatile.L2::256B.v8.b16 E, [%in];",
        "ld.relaxed.gpu.global.v8.b16 E, [%in];",
        "ld.acquire.sys.global.L2::128B.v8.b16 E, [%in];",
        "ld.relaxed.gpu.global.L2::256B.v8.b16 E, [%in];",
        "ld.acquire.cluster.global.v8.b16 E, [%in];",
        "ld.relaxed.cta.shared.v8.b16 E, [s];",
        "ld.acquire.gpu.shared::cta.v8.b16 E, [s];",
        "ld.shared::cluster.v8.b16 E, [s];",
        "ld.volatile.shared::cluster.v8.b16 E, [s];",
        "ld.relaxed.cluster.shared::cluster.v8.b16 E, [s];",
    ] {
        let load = load.replace('E', eight);
        let body = format!(
            "{before} {load} mov.b64 %q1, {{%h1, %h2, %h3, %h4}}; mov.b64 %q2, {{%h5, %h6, %h7, %h8}};"
        );
        assert_eq!(folded(&body), FOLDED, "{load}");
    }
    for load in [
        "ld.acquire.gpu.shared.v4.b32 {%r1, %r2, %r3, %r4}, [s];",
        "ld.relaxed.cta.shared::cta.v4.u32 {%r1, %r2, %r3, %r4}, [s];",
        "ld.volatile.shared::cluster.v4.s32 {%r1, %r2, %r3, %r4}, [s];",
    ] {
        let body = format!("{before} {load} mov.b64 %q1, {{%r1, %r2}}; mov.b64 %q2, {{%r3, %r4}};");
        assert_eq!(folded(&body), FOLDED, "{load}");
    }
    for load in [
        "ld.volatile.shared::cluster.v2.u64 {%q1, %q2}, [s];",
        "ld.shared::cluster.b128 %z1, [s]; mov.b128 {%q1, %q2}, %z1;",
        "ld.volatile.shared::cluster.b128 %z1, [s]; mov.b128 {%q1, %q2}, %z1;",
        "ldu.global.b128 %z1, [%in]; mov.b128 {%q1, %q2}, %z1;",
    ] {
        assert_eq!(folded(&format!("{before} {load}")), FOLDED, "{load}");
    }
    // Bytes: eight of them, with their signs and without.
    for (load, expected) in [
        ("ld.global.nc.v8.s8 E, [%in];", [0x0001, 0x0001, 0x0002, 0xffff, 0x0003, 0x007f, 0x0004, 0xff80]),
        (
            "ld.volatile.shared.v8.u8 E, [s];",
            [0x0001, 0x0001, 0x0002, 0x00ff, 0x0003, 0x007f, 0x0004, 0x0080],
        ),
    ] {
        let load = load.replace('E', eight);
        for (k, expected) in expected.into_iter().enumerate() {
            let body = format!("{before} {load} cvt.u32.u16 %d, %h{};", k + 1);
            assert_eq!(run_rows(&body, &[[LOWER, UPPER, 0]])[0], expected, "element {k} of {load}");
        }
    }
}

/// What lies in `%q1` and `%q2` after `body`, in one number.
fn folded(body: &str) -> u64 {
    let body = format!("{body} shl.b64 %q2, %q2, 4; xor.b64 %w, %q1, %q2;");
    run_rows(&body, &[[LOWER, UPPER, 0]])[0]
}

/// 16 bytes to `[%in]` and to `[s]`, which are zero before, written in every way.
#[test]
fn stores_of_16_bytes_in_every_way() {
    let before = ".shared .align 16 .b8 s[64]; .reg .b128 %z1; mov.b64 %q3, 0; st.shared.v2.b64 [s], {%q3, %q3};
        st.global.v2.b64 [%in], {%q3, %q3}; mov.b64 {%h1, %h2, %h3, %h4}, %x; mov.b64 {%h5, %h6, %h7, %h8}, %y;
        mov.b64 {%r1, %r2}, %x; mov.b64 {%r3, %r4}, %y; mov.b128 %z1, {%x, %y};";
    let (eight, four) = ("{%h1, %h2, %h3, %h4, %h5, %h6, %h7, %h8}", "{%r1, %r2, %r3, %r4}");
    for store in [
        "st.global.v8.b16 [%in], E;",
        "st.global.L1::no_allocate.v8.u16 [%in], E;",
        "st.global.L2::cache_hint.v8.b16 [%in], E, %q3;",
        "st.volatile.global.v8.s16 [%in], E;",
        "st.relaxed.gpu.global.v8.b16 [%in], E;",
        "st.release.sys.global.L2::cache_hint.v8.b16 [%in], E, %q3;",
        "st.relaxed.cluster.global.v8.b16 [%in], E;",
        "st.shared.v8.b16 [s], E;",
        "st.relaxed.cta.shared.v8.b16 [s], E;",
        "st.volatile.shared::cta.v8.b16 [s], E;",
        "st.shared::cluster.v8.b16 [s], E;",
        "st.volatile.shared::cluster.v8.b16 [s], E;",
        "st.release.cluster.shared::cluster.v8.b16 [s], E;",
        "st.relaxed.gpu.global.L2::cache_hint.v4.b32 [%in], F, %q3;",
        "st.release.gpu.global.L2::cache_hint.v2.b64 [%in], {%x, %y}, %q3;",
        "st.relaxed.cta.shared.v4.b32 [s], F;",
        "st.volatile.shared::cluster.v4.u32 [s], F;",
        "st.volatile.shared::cluster.v2.b64 [s], {%x, %y};",
        "st.shared::cluster.v2.u64 [s], {%x, %y};",
        "st.shared::cluster.b128 [s], %z1;",
        "st.volatile.shared::cluster.b128 [s], %z1;",
        "st.mmio.relaxed.sys.global.u32 [%in], %r1; st.mmio.relaxed.sys.b32 [%in+4], %r2; st.global.b64 [%in+8], %y;",
    ] {
        let read = if store.contains("[s]") {
            "ld.shared.v2.b64 {%q1, %q2}, [s];"
        } else {
            "ld.global.v2.b64 {%q1, %q2}, [%in];"
        };
        let store = store.replace('E', eight).replace('F', four);
        assert_eq!(folded(&format!("{before} {store} {read}")), FOLDED, "{store}");
    }
    // Of each register its lower byte.
    let body = format!("{before} st.global.v8.b8 [%in], {eight}; ld.global.b64 %w, [%in];");
    assert_eq!(run_rows(&body, &[[LOWER, UPPER, 0]])[0], 0x0807_0605_0403_0201);
}

/// 32 bytes at once, from sm_100 on: element k of the first 32 bytes becomes the last but k of the next.
#[test]
fn strong_and_hinted_accesses_of_256_bits() {
    let four = ("{%rd2, %rd3, %rd4, %rd5}", "{%rd5, %rd4, %rd3, %rd2}");
    let eight = ("{%r0, %r1, %r2, %r3, %r4, %r5, %r6, %r7}", "{%r7, %r6, %r5, %r4, %r3, %r2, %r1, %r0}");
    for (size, load, store) in [
        (8, "ld.volatile.global.v4.b64 A, [%rd1];", "st.volatile.global.v4.b64 [%rd1+32], B;"),
        (4, "ld.volatile.global.L2::128B.v8.b32 A, [%rd1];", "st.volatile.global.v8.b32 [%rd1+32], B;"),
        (8, "ld.global.nc.L2::256B.v4.u64 A, [%rd1];", "st.relaxed.cluster.global.v4.u64 [%rd1+32], B;"),
        (
            4,
            "ld.global.nc.L2::cache_hint.v8.u32 A, [%rd1], %rd6;",
            "st.release.gpu.global.v8.u32 [%rd1+32], B;",
        ),
        (
            8,
            "ld.acquire.sys.global.v4.b64 A, [%rd1];",
            "st.release.sys.global.L2::cache_hint.v4.b64 [%rd1+32], B, %rd6;",
        ),
        (
            4,
            "ld.relaxed.gpu.global.v8.b32 A, [%rd1];",
            "st.relaxed.cta.global.L1::no_allocate.v8.b32 [%rd1+32], B;",
        ),
    ] {
        let (read, written) = if size == 8 { four } else { eight };
        let text = format!(
            ".version 8.8\n.target sm_100\n.address_size 64\n.visible .entry k(.param .u64 p) {{
            .reg .b64 %rd<8>; .reg .b32 %r<16>; ld.param.u64 %rd1, [p]; mov.u64 %rd6, 0; {} {} ret; }}",
            load.replace('A', read),
            store.replace('B', written)
        );
        let error = Module::parse(&text.replace("sm_100", "sm_90a")).unwrap_err().to_string();
        assert!(error.contains("needs the target sm_100; the module's is sm_90a"), "{error}");
        let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}"));
        let emulator = Emulator::new(Config::default());
        let memory = emulator.alloc(64).unwrap();
        let bytes: Vec<u8> = (0..64).collect();
        emulator.write(memory, &bytes).unwrap();
        let shape = LaunchConfig { grid: [1; 3], block: [1; 3], dynamic_shared_bytes: 0 };
        emulator.launch(&module, "k", shape, &[&memory.to_le_bytes()]).unwrap();
        let mut found = vec![0; 64];
        emulator.read(memory, &mut found).unwrap();
        let turned: Vec<u8> = bytes[..32].chunks(size).rev().flatten().copied().collect();
        assert_eq!(found[32..], turned, "{load} {store}");
    }
}

/// A policy changes nothing: as without it, the old value is given and the new one left.
#[test]
fn atomics_take_a_cache_policy() {
    // Where both are below 256: the new value, then the old one.
    let both = "ld.global.u32 %r1, [%in]; shl.b32 %r1, %r1, 8; or.b32 %d, %d, %r1;";
    for (atomic, inputs, expected) in [
        ("atom.global.add.L2::cache_hint.u32 %d, [%in], %b, %q3;", [5, 3, 0], 0x0805),
        ("atom.relaxed.cluster.global.inc.L2::cache_hint.u32 %d, [%in], %b, %q3;", [5, 5, 0], 0x0005),
        ("atom.acquire.gpu.global.dec.L2::cache_hint.u32 %d, [%in], %b, %q3;", [0, 9, 0], 0x0900),
        ("atom.global.min.L2::cache_hint.s32 %d, [%in], %b, %q3;", [5, 7, 0], 0x0505),
        ("atom.global.max.L2::cache_hint.s32 %d, [%in], %b, %q3;", [5, 0x8000_0000, 0], 0x0505),
        ("red.global.and.L2::cache_hint.b32 [%in], %b, %q3;", [6, 3, 0], 0x0200),
        ("red.relaxed.cluster.global.xor.L2::cache_hint.b32 [%in], %b, %q3;", [6, 3, 0], 0x0500),
        ("red.global.inc.L2::cache_hint.u32 [%in], %b, %q3;", [5, 9, 0], 0x0600),
    ] {
        check_one(&[(&format!("mov.b64 %q3, 0; {atomic} {both}"), inputs, expected)]);
    }
    for (atomic, inputs, expected) in [
        ("atom.global.add.L2::cache_hint.u64 %q1, [%in], %y, %q3;", [MM1, 2, 0], 1),
        ("atom.global.min.L2::cache_hint.s64 %q1, [%in], %y, %q3;", [1, MM1, 0], MM1),
        ("atom.release.cluster.global.max.L2::cache_hint.s64 %q1, [%in], %y, %q3;", [1, TOP, 0], 1),
        ("atom.global.add.L2::cache_hint.f64 %q1, [%in], %y, %q3;", [D1, D1, 0], D2),
        ("red.global.or.L2::cache_hint.b64 [%in], %y, %q3;", [1, TOP, 0], 1 | TOP),
        ("red.global.min.L2::cache_hint.s64 [%in], %y, %q3;", [1, TOP, 0], TOP),
        ("red.release.cluster.global.max.L2::cache_hint.s64 [%in], %y, %q3;", [MM1, 0, 0], 0),
        // Subnormals of f64 stay.
        ("red.global.add.L2::cache_hint.f64 [%in], %y, %q3;", [1, 1, 0], 2),
    ] {
        check_one(&[(&format!("mov.b64 %q3, 0; {atomic} ld.global.b64 %w, [%in];"), inputs, expected)]);
    }
    for (atomic, inputs, expected) in [
        ("atom.global.add.L2::cache_hint.f32 %r1, [%in], %b, %q3;", [ONE, ONE, 0], TWO),
        ("atom.relaxed.cluster.global.add.L2::cache_hint.f32 %r1, [%in], %b, %q3;", [INF, ONE, 0], INF),
        ("red.global.add.L2::cache_hint.f32 [%in], %b, %q3;", [0x7f7f_ffff, 0x7f7f_ffff, 0], INF),
        // 1 + 2 and -0 + -0.
        (
            "atom.global.add.noftz.L2::cache_hint.f16x2 %r1, [%in], %b, %q3;",
            [0x3c00_8000, 0x4000_8000, 0],
            0x4200_8000,
        ),
        (
            "atom.global.add.noftz.L2::cache_hint.bf16x2 %r1, [%in], %b, %q3;",
            [0x3f80_8000, 0x4000_8000, 0],
            0x4040_8000,
        ),
        // Subnormals of both stay: `.noftz`.
        (
            "red.global.add.noftz.L2::cache_hint.f16x2 [%in], %b, %q3;",
            [0x0001_0001, 0x0001_03ff, 0],
            0x0002_0400,
        ),
        (
            "red.global.add.noftz.L2::cache_hint.bf16x2 [%in], %b, %q3;",
            [0x0001_0001, 0x0001_007f, 0],
            0x0002_0080,
        ),
        (
            "cvt.u16.u32 %h1, %b; red.global.add.noftz.L2::cache_hint.f16 [%in], %h1, %q3;",
            [0x7_7bff, 0x7bff, 0],
            0x7_7c00,
        ),
        (
            "cvt.u16.u32 %h1, %b; atom.global.add.noftz.L2::cache_hint.bf16 %h2, [%in], %h1, %q3;",
            [0x7_3f80, 0xbf80, 0],
            0x7_0000,
        ),
    ] {
        check_one(&[(&format!("mov.b64 %q3, 0; {atomic} ld.global.b32 %d, [%in];"), inputs, expected)]);
    }
    check_one(&[(
        "mov.b32 {%h1, %h2}, %b; mov.b32 %r2, {%h2, %h1}; atom.global.max.noftz.v2.f16x2 {%r3, %r4}, [%in], {%b, %r2};
        ld.global.b64 %w, [%in];",
        // 1 and -inf against the subnormal and 2; then 3 and 0 against 2 and the subnormal.
        [0x4200_0000_3c00_fc00, 0x0001_4000, 0],
        0x4200_0001_3c00_4000,
    )]);
}

/// PTX manual, `atom` and `red`: f32 is added without subnormals in global memory, and with them in shared.
#[test]
fn sums_of_f32_have_subnormals_in_shared_memory_alone() {
    let shared = ".shared .align 4 .b32 s; st.shared.b32 [s], %a; mov.u64 %q1, s; cvta.shared.u64 %q1, %q1;";
    let global = "ld.global.b32 %d, [%in];";
    // Sums of the least subnormals, of a normal and a subnormal, and of normals whose difference is a subnormal.
    for (inputs, kept, flushed) in [
        ([1, 1, 0], 2, 0),
        ([0x8000_0001, 0x8000_0001, 0], 0x8000_0002, 0x8000_0000),
        ([0x0080_0000, 0x007f_ffff, 0], 0x00ff_ffff, 0x0080_0000),
        ([0x0080_0001, 0x8080_0000, 0], 1, 0),
        ([ONE, 1, 0], ONE, ONE),
    ] {
        for atomic in [
            "red.shared.add.f32 [s], %b;",
            "atom.shared.add.f32 %r1, [s], %b;",
            "atom.add.f32 %r1, [%q1], %b;",
        ] {
            check_one(&[(&format!("{shared} {atomic} ld.shared.b32 %d, [s];"), inputs, kept)]);
        }
        for atomic in [
            "red.global.add.f32 [%in], %b;",
            "atom.global.add.f32 %r1, [%in], %b;",
            "atom.add.f32 %r1, [%in], %b;",
            "atom.global.add.v2.f32 {%r1, %r2}, [%in], {%b, %c};",
        ] {
            check_one(&[(&format!("{atomic} {global}"), inputs, flushed)]);
        }
    }
}

#[test]
fn phases_are_tested_with_every_order() {
    let before =
        ".shared .align 8 .b64 s; mbarrier.init.shared.b64 [s], 1; mbarrier.arrive.shared.b64 %q1, [s];";
    for (wait, expected) in [
        ("mbarrier.test_wait.acquire.cta.shared.b64 %p1, [s], %q1;", 1),
        ("mbarrier.test_wait.parity.acquire.cta.shared::cta.b64 %p1, [s], 0;", 1),
        // The phase that has begun is not over.
        ("mbarrier.test_wait.parity.acquire.cta.shared::cta.b64 %p1, [s], 1;", 0),
        ("mbarrier.test_wait.parity.relaxed.cluster.shared::cta.b64 %p1, [s], 1;", 0),
        ("mbarrier.try_wait.relaxed.cta.shared.b64 %p1, [s], %q1;", 1),
        ("mbarrier.try_wait.parity.relaxed.cluster.shared::cta.b64 %p1, [s], 0;", 1),
    ] {
        let body = format!("{before} {wait} selp.u32 %d, 1, 0, %p1;");
        assert_eq!(run_rows(&body, &[[0; 3]])[0], expected, "{wait}");
    }
}

#[test]
fn the_texts_here_need_what_they_say() {
    // Each of the forms above without what makes it one.
    for bad in [
        "set.lt.f16.b32 %h1, %a, %b;",
        "set.num.bf16.s32 %h1, %a, %b;",
        "ld.shared.L2::256B.v8.b16 {%h1, %h2, %h3, %h4, %h5, %h6, %h7, %h8}, [%a];",
        "atom.shared.add.L2::cache_hint.f32 %r1, [%a], %b, %q3;",
        "fence.acquire.sync_restrict::shared::cta.cluster;",
        "fence.release.sync_restrict::shared::cluster.cluster;",
    ] {
        let error = Module::parse(&kernel(bad)).unwrap_err().to_string();
        assert!(error.contains("there is no"), "{bad}: {error}");
    }
    assert!(Module::parse(&module("st.mmio.relaxed.sys.shared.b32 [%r1], %r2;")).is_err());
}

/// A kernel that doubles the lower half of a parameter of 128 bits and adds 1 to the upper half in a function that takes and gives
/// one, and the same with the second half of an array.
const PARAMETERS: &str = ".version 8.3
.target sm_70
.address_size 64
.func (.param .b128 r) f(.param .b128 x) {
    .reg .b128 q; .reg .b64 low, high;
    ld.param::func.b128 q, [x]; mov.b128 {low, high}, q; add.u64 low, low, low; add.u64 high, high, 1;
    mov.b128 q, {low, high}; st.param::func.b128 [r], q; ret;
}
.visible .entry k(.param .u32 first, .param .b128 p, .param .u64 out, .param .align 16 .b8 a[32]) {
    .reg .b128 q, s; .reg .b64 o, table;
    ld.param.u64 o, [out];
    ld.param::entry.b128 q, [p];
    { .param .b128 x, r; st.param.b128 [x], q; call (r), f, (x); ld.param.b128 q, [r]; }
    st.global.b128 [o], q;
    ld.weak.param.ca.b128 q, [a+16];
    { .param .align 16 .b8 x[16]; .param .b128 r; st.weak.param.wb.b128 [x], q; mov.u64 table, f;
      call (r), table, (x), P; ld.param.b128 s, [r]; }
    st.global.b128 [o+16], s;
    ret;
    P: .callprototype (.param .b128 _) _ (.param .b128 _);
}";

#[test]
fn parameters_of_128_bits_are_read_and_handed_on_at_once() {
    let emulator = common::emulator();
    let out = emulator.alloc(32).unwrap();
    let bytes = |halves: &[u64]| -> Vec<u8> { halves.iter().flat_map(|h| h.to_le_bytes()).collect() };
    // The 128 bits lie at 16, after 4 bytes of the first one.
    let args =
        [&7u32.to_le_bytes()[..], &bytes(&[LOWER, UPPER]), &out.to_le_bytes(), &bytes(&[1, 2, 3, u64::MAX])];
    common::launch(PARAMETERS, "k", 1, 1, 0, &emulator, &args).unwrap();
    let mut found = [0; 32];
    emulator.read(out, &mut found).unwrap();
    // The lower half wraps around in the first, the upper half in the second: no half carries into the other.
    assert_eq!(found[..], bytes(&[LOWER.wrapping_mul(2), UPPER + 1, 6, 0]));
}

#[test]
fn parameters_of_128_bits_are_within_their_bounds_and_aligned() {
    let refused = |from: &str, to: &str, part: &str| {
        let error = Module::parse(&PARAMETERS.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused("[a+16]", "[a+32]", "16 bytes at offset 32 of parameter `a`, which has 32");
    refused("[a+16]", "[a+8]", "parameter `a` is read misaligned");
    refused("[o], q", "[o], o", "a register of 128 bits is wanted");
    refused("ld.param.u64 o, [out];", "ld.param.u64 o, [out]; st.param.b128 [p], q;", "cannot be written");
    // As the assembler has it.
    refused(".param::entry.b128", ".volatile.param.b128", "ld.volatile.param.b128");
    refused("st.param::func", "st.param::entry", "st.param::entry.b128");
}
