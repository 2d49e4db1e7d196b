//! Forms that compilers emit seldom, with results by hand.

mod common;
use common::values::ONE;
use common::{check_rows, run_rows};
use ptx_emulator::{Config, Emulator, LaunchConfig, Module};

const NAN: u64 = 0x7fc0_0000;

#[test]
fn integers_and_floats() {
    check_rows(&[
        // 2^44 / 2^16 + (2^31 - 1) saturates.
        ("mad24.hi.sat.s32 %d, %a, %b, %c;", [0x40_0000, 0x40_0000, 0x7fff_ffff], 0x7fff_ffff),
        ("mad24.hi.sat.s32 %d, %a, %b, %c;", [0x40_0000, 0x40_0000, 5], 0x1000_0005),
        ("mad.rn.f64 %w, %x, %y, %z;", [2f64.to_bits(), 3f64.to_bits(), 1f64.to_bits()], 7f64.to_bits()),
        ("mad.rz.ftz.sat.f32 %d, %a, %b, %c;", [ONE, ONE, ONE], ONE),
        ("rcp.approx.ftz.f64 %w, %x;", [2f64.to_bits(), 0, 0], 0.5f64.to_bits()),
        ("rcp.approx.ftz.f64 %w, %x;", [(-0.0f64).to_bits(), 0, 0], f64::NEG_INFINITY.to_bits()),
        // The lesser absolute value, with the product of the signs: -2 and 1, 3 and 0.5.
        ("min.xorsign.abs.f16x2 %d, %a, %b;", [0x4200_c000, 0x3800_3c00, 0], 0x3800_bc00),
        ("max.xorsign.abs.f16x2 %d, %a, %b;", [0x4200_c000, 0x3800_3c00, 0], 0x4200_c000),
        ("min.xorsign.abs.bf16x2 %d, %a, %b;", [0x4040_c000, 0x3f00_3f80, 0], 0x3f00_bf80),
        ("max.NaN.xorsign.abs.bf16x2 %d, %a, %b;", [0x4040_7fc0, 0xbf00_3f80, 0], 0xc040_7fff),
        (
            "cvt.u16.u32 %h1, %a; cvt.u16.u32 %h2, %b; max.NaN.bf16 %h3, %h1, %h2; cvt.u32.u16 %d, %h3;",
            [0x7fc1, 0x3f80, 0],
            0x7fff,
        ),
        (
            "cvt.u16.u32 %h1, %a; cvt.u16.u32 %h2, %b; max.bf16 %h3, %h1, %h2; cvt.u32.u16 %d, %h3;",
            [0x7fc1, 0x3f80, 0],
            0x3f80,
        ),
    ]);
}

#[test]
fn comparisons_that_give_values() {
    let half = |compare: &str| format!("mov.u16 %h3, 0; {compare} cvt.u32.u16 %d, %h3;");
    let halves = "cvt.u16.u32 %h1, %a; cvt.u16.u32 %h2, %b;";
    for (compare, inputs, expected) in [
        ("set.eq.u32.b32 %d, %a, %b;".to_string(), [7, 7, 0], 0xffff_ffff),
        ("set.ne.f32.b64 %d, %x, %y;".into(), [7, 8, 0], ONE),
        (half("set.lt.f16.f32 %h3, %a, %b;"), [0, ONE, 0], 0x3c00),
        (half("set.lt.bf16.f32 %h3, %a, %b;"), [0, ONE, 0], 0x3f80),
        (half("set.gtu.ftz.f16.f32 %h3, %a, %b;"), [NAN, ONE, 0], 0x3c00),
        (half("set.hi.f16.u32 %h3, %a, %b;"), [0x8000_0000, 1, 0], 0x3c00),
        (half("set.gt.bf16.s32 %h3, %a, %b;"), [0x8000_0000, 1, 0], 0),
        (half("set.le.f16.f64 %h3, %x, %y;"), [0.5f64.to_bits(), 0.5f64.to_bits(), 0], 0x3c00),
        (half("set.eq.bf16.b32 %h3, %a, %b;"), [3, 3, 0], 0x3f80),
        (half(&format!("{halves} set.lt.u16.f16 %h3, %h1, %h2;")), [0x3800, 0x3c00, 0], 0xffff),
        (half(&format!("{halves} set.lt.f16.f16 %h3, %h1, %h2;")), [0x3800, 0x3c00, 0], 0x3c00),
        (half(&format!("{halves} set.nan.bf16.bf16 %h3, %h1, %h2;")), [0x3800, 0x7fc0, 0], 0x3f80),
        (half(&format!("{halves} set.gt.s16.bf16 %h3, %h1, %h2;")), [0x3f80, 0x3f00, 0], 0xffff),
    ] {
        check_rows(&[(&compare, inputs, expected)]);
    }
}

#[test]
fn conversions_of_integers_saturate() {
    let minus = |x: i64| x as u64;
    check_rows(&[
        ("cvt.sat.u16.s32 %h1, %a; cvt.u32.u16 %d, %h1;", [minus(-5), 0, 0], 0),
        ("cvt.sat.u16.s32 %h1, %a; cvt.u32.u16 %d, %h1;", [70_000, 0, 0], 65_535),
        ("cvt.sat.s16.u32 %h1, %a; cvt.u32.u16 %d, %h1;", [40_000, 0, 0], 32_767),
        ("cvt.sat.s8.s32 %r1, %a; mov.b32 %d, %r1;", [minus(-300), 0, 0], 0xffff_ff80),
        ("cvt.sat.u8.u64 %r1, %x; mov.b32 %d, %r1;", [256, 0, 0], 255),
        ("cvt.sat.s32.u64 %d, %x;", [1 << 40, 0, 0], 0x7fff_ffff),
        ("cvt.sat.u32.s32 %d, %a;", [minus(-1), 0, 0], 0),
        ("cvt.sat.u64.s32 %w, %a;", [minus(-1), 0, 0], 0),
        ("cvt.sat.s64.u64 %w, %x;", [1 << 63, 0, 0], i64::MAX as u64),
    ]);
}

#[test]
fn conversions_of_halves() {
    let from = "cvt.u16.u32 %h1, %a;";
    let to = "cvt.u32.u16 %d, %h2;";
    for (conversion, input, expected) in [
        // 2.5.
        (format!("{from} cvt.rni.s32.bf16 %d, %h1;"), 0x4020, 2),
        (format!("{from} cvt.rpi.u32.bf16 %d, %h1;"), 0x4020, 3),
        (format!("{from} cvt.rni.f16.f16 %h2, %h1; {to}"), 0x4100, 0x4000),
        (format!("{from} cvt.rmi.bf16.bf16 %h2, %h1; {to}"), 0xc020, 0xc040),
        (format!("{from} cvt.sat.f16.f16 %h2, %h1; {to}"), 0x4000, 0x3c00),
        (format!("{from} cvt.sat.f16.f16 %h2, %h1; {to}"), 0x7e00, 0),
        // 257 lies between 256 and 258.
        (format!("cvt.rn.bf16.s32 %h2, %a; {to}"), 257, 0x4380),
        (format!("cvt.rp.bf16.u32 %h2, %a; {to}"), 257, 0x4381),
        (format!("{from} cvt.rn.bf16.f16 %h2, %h1; {to}"), 0x3c01, 0x3f80),
        (format!("{from} cvt.rp.bf16.f16 %h2, %h1; {to}"), 0x3c01, 0x3f81),
        (format!("{from} cvt.rn.f16.bf16 %h2, %h1; {to}"), 0x4780, 0x7c00),
        (format!("{from} cvt.rz.f16.bf16 %h2, %h1; {to}"), 0x4780, 0x7bff),
        (format!("{from} cvt.ftz.f32.bf16 %d, %h1;"), 0x8001, 0x8000_0000),
        (format!("{from} cvt.f32.bf16 %d, %h1;"), 0x8001, 0x8001_0000),
        (format!("{from} cvt.f64.bf16 %w, %h1;"), 0x3fc0, 1.5f64.to_bits()),
        (format!("{from} cvt.f64.f16 %w, %h1;"), 0x3e00, 1.5f64.to_bits()),
        (format!("{from} cvt.sat.f64.f16 %w, %h1;"), 0x3e00, 1f64.to_bits()),
        (format!("cvt.rn.satfinite.f16.f32 %h2, %a; {to}"), u64::from(1e6f32.to_bits()), 0x7bff),
        (format!("cvt.rn.satfinite.f16.f32 %h2, %a; {to}"), NAN, 0x7fff),
        (format!("cvt.rn.relu.f16.f32 %h2, %a; {to}"), u64::from((-1f32).to_bits()), 0),
        (format!("cvt.rz.satfinite.relu.f16.f32 %h2, %a; {to}"), u64::from(1e6f32.to_bits()), 0x7bff),
        (format!("cvt.rn.ftz.bf16.f32 %h2, %a; {to}"), 0x8040_0000, 0x8000),
        ("cvt.rna.tf32.f32 %d, %a;".into(), 0x3f80_1000, 0x3f80_2000),
        ("cvt.rn.tf32.f32 %d, %a;".into(), 0x3f80_1000, 0x3f80_0000),
        ("cvt.rz.relu.tf32.f32 %d, %a;".into(), 0xbf80_1000, 0),
        ("cvt.rna.tf32.f32 %d, %a;".into(), 0x7f7f_ffff, 0x7f80_0000),
        ("cvt.rna.satfinite.tf32.f32 %d, %a;".into(), 0x7f7f_ffff, 0x7f7f_e000),
        ("cvt.rna.satfinite.tf32.f32 %d, %a;".into(), 0xff80_0000, 0xff7f_e000),
    ] {
        check_rows(&[(&conversion, [input, 0, 0], expected)]);
    }
    check_rows(&[
        // 1 + 2^-8 and a little: to bf16 in one rounding.
        ("cvt.rn.bf16.f64 %h2, %x; cvt.u32.u16 %d, %h2;", [(1.0 + 2f64.powi(-8)).to_bits(), 0, 0], 0x3f80),
        (
            "cvt.rn.bf16.f64 %h2, %x; cvt.u32.u16 %d, %h2;",
            [(1.0 + 2f64.powi(-8) + 2f64.powi(-40)).to_bits(), 0, 0],
            0x3f81,
        ),
        ("cvt.rmi.f64.f64 %w, %x;", [(-2.5f64).to_bits(), 0, 0], (-3f64).to_bits()),
        ("cvt.sat.f64.f64 %w, %x;", [2.5f64.to_bits(), 0, 0], 1f64.to_bits()),
    ]);
}

#[test]
fn loads_and_stores_of_every_kind() {
    for load in [
        "ld.volatile.global.v2.b64 {%w, %q1}, [%in];",
        "ld.relaxed.gpu.global.v2.b64 {%w, %q1}, [%in];",
        "ld.acquire.sys.b64 %w, [%in];",
        "ld.mmio.relaxed.sys.global.b64 %w, [%in];",
        "ld.mmio.relaxed.sys.u32 %r1, [%in]; cvt.u64.u32 %w, %r1;",
        "ld.global.nc.v2.u64 {%w, %q1}, [%in];",
        "ldu.global.v2.u64 {%w, %q1}, [%in];",
        "ld.global.L1::evict_last.L2::128B.b64 %w, [%in];",
        "ld.volatile.L2::64B.b64 %w, [%in];",
        ".reg .b128 %z1; ld.global.nc.L1::no_allocate.b128 %z1, [%in]; mov.b128 {%w, %q1}, %z1;",
        ".reg .b128 %z1; ld.global.cs.b128 %z1, [%in]; st.global.cs.b128 [%out], %z1; ld.global.u64 %w, [%out];",
        "ld.global.v8.b16 {%h1, %h2, %h3, %h4, %h5, %h6, %h7, %h8}, [%in]; mov.b64 %w, {%h1, %h2, %h3, %h4};",
        "ld.global.u64 %q1, [%in]; st.volatile.global.v2.b64 [%out], {%q1, %q1}; ld.global.u64 %w, [%out+8];",
        "ld.global.u64 %q1, [%in]; st.relaxed.cta.global.v2.b64 [%out], {%q1, %q1}; ld.global.u64 %w, [%out+8];",
        "ld.global.u64 %q1, [%in]; st.release.sys.b64 [%out], %q1; ld.global.u64 %w, [%out];",
        "ld.global.u64 %q1, [%in]; st.mmio.relaxed.sys.global.b64 [%out], %q1; ld.global.u64 %w, [%out];",
        "mov.b64 %q2, 0; ld.global.u64 %q1, [%in]; st.global.L2::cache_hint.v2.b64 [%out], {%q1, %q1}, %q2; ld.global.u64 %w, [%out];",
        "createpolicy.cvt.L2.b64 %q2, 0x10000000; ld.global.L2::cache_hint.b64 %w, [%in], %q2;",
        ".shared .align 16 .b8 s[64]; ld.global.u64 %q1, [%in]; st.volatile.shared.v2.b64 [s], {%q1, %q1}; ld.volatile.shared.v2.b64 {%q2, %w}, [s];",
        ".shared .align 16 .b8 s[64]; ld.global.u64 %q1, [%in]; st.relaxed.cta.shared::cta.b64 [s+8], %q1; ld.acquire.cta.shared.b64 %w, [s+8];",
        ".shared .align 16 .b8 s[64]; ld.global.u64 %q1, [%in]; st.shared.v2.b64 [s], {%q1, %q1}; ld.shared::cluster.v2.b64 {%q2, %w}, [s];",
    ] {
        assert_eq!(run_rows(load, &[[42, 0, 0], [0, 0, 0]])[0], 42, "{load}");
    }
}

#[test]
fn atomics_of_vectors() {
    let half = |bits: u64| bits * 0x0001_0001_0001_0001;
    for (body, expected) in [
        // 1.5 + 2 in each f32, and what was there.
        (
            "mov.b32 %f1, 0f3fc00000; mov.b32 %f2, 0f40000000; st.global.v2.f32 [%out], {%f1, %f1};
            red.global.add.v2.f32 [%out], {%f2, %f2}; ld.global.b64 %w, [%out];",
            0x4060_0000_4060_0000,
        ),
        (
            "mov.b32 %f1, 0f3fc00000; mov.b32 %f2, 0f40000000; st.global.v2.f32 [%out], {%f1, %f1};
            atom.relaxed.gpu.global.add.v2.f32 {%f3, %f4}, [%out], {%f2, %f2}; mov.b64 %w, {%f3, %f4};",
            0x3fc0_0000_3fc0_0000,
        ),
        (
            "mov.b32 %r1, 0x3c003c00; mov.b32 %r2, 0x40004000; st.global.v2.b32 [%out], {%r1, %r1};
            red.relaxed.gpu.global.add.noftz.v2.f16x2 [%out], {%r2, %r2}; ld.global.b64 %w, [%out];",
            half(0x4200),
        ),
        (
            "mov.b64 %q2, 0; mov.b64 %q1, 5; st.global.b64 [%out], %q1; red.global.add.L2::cache_hint.u64 [%out], %q1, %q2;
            atom.global.exch.L2::cache_hint.b64 %q3, [%out], 17, %q2; ld.global.b64 %w, [%out]; shl.b64 %q3, %q3, 8; or.b64 %w, %w, %q3;",
            10 << 8 | 17,
        ),
        (
            "mov.b16 %h1, 0x3f80; mov.b16 %h2, 0x4000; st.global.v4.b16 [%out], {%h1, %h2, %h1, %h2};
            red.global.max.noftz.v4.bf16 [%out], {%h2, %h1, %h2, %h1}; ld.global.b64 %w, [%out];",
            half(0x4000),
        ),
        (
            "mov.b16 %h1, 0x3f80; mov.b16 %h2, 0x4000; st.global.v4.b16 [%out], {%h1, %h2, %h1, %h2};
            atom.global.min.noftz.v4.bf16 {%h3, %h4, %h5, %h6}, [%out], {%h2, %h1, %h2, %h1}; ld.global.b64 %w, [%out];",
            half(0x3f80),
        ),
    ] {
        // Two rows, so that 16 bytes lie at the output.
        let body = format!("setp.ne.u32 %p1, %t1, 0; @%p1 bra E; {body} E:");
        assert_eq!(run_rows(&body, &[[0, 0, 0], [0, 0, 0]])[0], expected, "{body}");
    }
}

#[test]
fn atomics_take_their_operands_and_no_more() {
    for (atomic, part) in [
        ("atom.global.add.u32 %d, [%in], %a, %b;", "`atom` takes 3 operands, not 4"),
        ("atom.global.cas.b32 %d, [%in], %a;", "`atom` takes 4 operands, not 3"),
        ("red.global.add.u32 [%in], %a, %b;", "`red` takes 2 operands, not 3"),
        ("red.global.add.L2::cache_hint.u32 [%in], %a;", "`.L2::cache_hint` wants a cache policy"),
        (
            "atom.shared.add.L2::cache_hint.u32 %d, [%r1], %a, %q1;",
            "there is no `atom.shared.add.L2::cache_hint.u32`",
        ),
        ("ld.global.cs.L1::no_allocate.u32 %d, [%in];", "there is no"),
    ] {
        let error = Module::parse(&common::kernel(atomic)).unwrap_err().to_string();
        assert!(error.contains(part), "{atomic}: {error}");
    }
}

/// As NVIDIA's assembler does: `forms_are_those_of_the_assembler` has them from it.
#[test]
fn operands_that_a_form_does_not_have_are_refused() {
    for (statement, part) in [
        ("setp.eq.u32 %p1, %a, %b, %p2;", "a comparison has a fourth operand only where it combines"),
        ("set.eq.and.u32.u32 %d, %a, %b;", "a comparison that combines needs a fourth operand"),
        ("set.eq.u32.u32 %d, %a, %b, %p1;", "a comparison has a fourth operand only where it combines"),
        ("lop3.and.b32 %d, %a, %b, %c, 0x96;", "`lop3` takes d, a, b, c, a table; or d|p"),
        ("match.any.sync.b32 %d|%p1, %a, -1;", "`match.any` has no predicate"),
        (
            "min.f32 %d, %a, %b, %c;",
            "`min.f32` of three values needs the target sm_100; the module's is sm_90a",
        ),
        ("max.f64 %w, %x, %y, %z;", "`max.f64` has two sources"),
        ("mbarrier.test_wait.shared.b64 _, [%a], %x;", "wants a predicate"),
        ("mbarrier.try_wait.parity.shared.b64 %p1, [%a], 2;", "the parity of a phase is 0 or 1, not 2"),
        (
            "cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [%a], [%in], 24, [%b];",
            "a bulk copy of 24 bytes; it has a multiple of 16",
        ),
        ("createpolicy.range.L2::evict_last.b64 %w;", "has operands that it cannot have"),
        ("createpolicy.fractional.L2::evict_last.b64 %w, %x;", "has operands that it cannot have"),
        ("ld.global.u64 %w, [in];", "`ld.global.u64` of a parameter, which lies in `.param`"),
        ("cvt.rzi.u8.bf16 %h1, %h2;", "there is no `cvt.rzi.u8.bf16`"),
        ("addc.u16 %h1, %h2, %h3;", "there is no `addc.u16`"),
        ("atom.global.cas.L2::cache_hint.b32 %d, [%in], %a, %b, %x;", "there is no"),
    ] {
        let error = Module::parse(&common::kernel(statement)).unwrap_err().to_string();
        assert!(error.contains(part), "{statement}: {error}");
    }
    // The manual has the rounding behind the shape, nvcc at the end.
    for product in ["m8n8k4.rn.f64.f64.f64.f64", "m8n8k4.f64.f64.f64.f64.rn", "m8n8k4.f64.f64.f64.f64"] {
        let text =
            format!("wmma.mma.sync.aligned.row.col.{product} {{%q1, %q2}}, {{%q3}}, {{%q4}}, {{%q1, %q2}};");
        Module::parse(&common::kernel(&text)).unwrap_or_else(|e| panic!("{e}"));
    }
    let counted = common::kernel("mbarrier.arrive.shared.b64 %w, [%a], 2;");
    Module::parse(&counted).unwrap_or_else(|e| panic!("{e}"));
    let error = Module::parse(&counted.replace("sm_90a", "sm_80")).unwrap_err().to_string();
    assert!(error.contains("with a count needs the target sm_90; the module's is sm_80"), "{error}");
    let wait = common::kernel("mbarrier.test_wait.acquire.cluster.shared.b64 %p1, [%a], %x;");
    let error = Module::parse(&wait.replace("sm_90a", "sm_80")).unwrap_err().to_string();
    assert!(error.contains("needs the target sm_90; the module's is sm_80"), "{error}");
}

/// From sm_100 on: f32 in both halves of 64 bits, and the least and greatest of three.
#[test]
fn pairs_and_threes_of_floats() {
    let f = |x: f32| u64::from(x.to_bits());
    let pair = |upper: f32, lower: f32| f(upper) << 32 | f(lower);
    let (x, y, z) = (pair(3.0, -1.5), pair(0.5, 4.0), pair(10.0, 1.0));
    let tiny = pair(f32::from_bits(1), 1.0);
    for (body, inputs, expected) in [
        ("add.f32x2 %w, %x, %y;", [x, y, z], pair(3.5, 2.5)),
        ("sub.rn.f32x2 %w, %x, %y;", [x, y, z], pair(2.5, -5.5)),
        ("mul.f32x2 %x, %x, %y; mov.b64 %w, %x;", [x, y, z], pair(1.5, -6.0)),
        ("fma.rn.f32x2 %w, %x, %y, %z;", [x, y, z], pair(11.5, -5.0)),
        ("add.rp.f32x2 %w, %x, %y;", [pair(1.0, 1.0), tiny, 0], pair(1.0 + f32::EPSILON, 2.0)),
        ("add.rm.f32x2 %w, %x, %y;", [pair(1.0, 1.0), tiny, 0], pair(1.0, 2.0)),
        ("add.ftz.f32x2 %w, %x, %y;", [0, tiny, 0], pair(0.0, 1.0)),
        ("min.f32 %d, %a, %b, %c;", [f(3.0), f(-2.0), f(1.0)], f(-2.0)),
        ("max.NaN.f32 %d, %a, %b, %c;", [f(3.0), NAN, f(1.0)], 0x7fff_ffff),
    ] {
        let text = common::kernel(body).replace("sm_90a", "sm_100a").replace("8.3", "8.8");
        let module = Module::parse(&text).unwrap_or_else(|e| panic!("{body}: {e}"));
        let emulator = Emulator::new(Config::default());
        let memory = emulator.alloc(32).unwrap();
        emulator.write(memory, &inputs.map(u64::to_le_bytes).concat()).unwrap();
        let shape = LaunchConfig { grid: [1; 3], block: [1; 3], dynamic_shared_bytes: 0 };
        let args = [memory.to_le_bytes(), (memory + 24).to_le_bytes()];
        emulator.launch(&module, "test", shape, &[&args[0], &args[1], &[0; 4]]).unwrap();
        let mut found = [0; 8];
        emulator.read(memory + 24, &mut found).unwrap();
        assert_eq!(u64::from_le_bytes(found), expected, "{body}");
    }
}

#[test]
fn reductions_over_a_block() {
    for (body, expected) in [
        ("setp.lt.u32 %p1, %t1, 5; barrier.cta.red.popc.u32 %d, 0, %p1;", 5),
        ("setp.lt.u32 %p1, %t1, 5; barrier.red.popc.aligned.u32 %d, 1, 32, !%p1;", 27),
        ("setp.lt.u32 %p1, %t1, 5; barrier.red.and.pred %p2, 0, %p1; selp.u32 %d, 1, 0, %p2;", 0),
        ("setp.lt.u32 %p1, %t1, 5; bar.red.or.pred %p2, 0, %p1; selp.u32 %d, 1, 0, %p2;", 1),
    ] {
        assert_eq!(run_rows(body, &[[0; 3]; 32]), [expected; 32], "{body}");
    }
}

/// 32 bytes at once, from sm_100 on.
#[test]
fn accesses_of_256_bits() {
    let text = |target: &str| {
        format!(
            ".version 8.8\n.target {target}\n.address_size 64\n.visible .entry k(.param .u64 p) {{
            .reg .b64 %rd<8>; .reg .b32 %r<16>; ld.param.u64 %rd1, [p];
            ld.global.v4.b64 {{%rd2, %rd3, %rd4, %rd5}}, [%rd1]; st.global.v4.b64 [%rd1+32], {{%rd5, %rd4, %rd3, %rd2}};
            ld.global.v8.b32 {{%r0, %r1, %r2, %r3, %r4, %r5, %r6, %r7}}, [%rd1];
            st.global.v8.b32 [%rd1+64], {{%r7, %r6, %r5, %r4, %r3, %r2, %r1, %r0}}; ret; }}"
        )
    };
    let error = Module::parse(&text("sm_90a")).unwrap_err().to_string();
    assert!(error.contains("`ld.global.v4.b64` needs the target sm_100; the module's is sm_90a"), "{error}");
    let module = Module::parse(&text("sm_100")).unwrap_or_else(|e| panic!("{e}"));
    let emulator = Emulator::new(Config::default());
    let memory = emulator.alloc(96).unwrap();
    let bytes: Vec<u8> = (0..96).collect();
    emulator.write(memory, &bytes).unwrap();
    let shape = LaunchConfig { grid: [1; 3], block: [1; 3], dynamic_shared_bytes: 0 };
    emulator.launch(&module, "k", shape, &[&memory.to_le_bytes()]).unwrap();
    let mut found = vec![0; 96];
    emulator.read(memory, &mut found).unwrap();
    let turned = |size: usize| bytes[..32].chunks(size).rev().flatten().copied().collect::<Vec<_>>();
    assert_eq!(found[32..64], turned(8));
    assert_eq!(found[64..96], turned(4));
}
