//! Forms that `instructions.rs` leaves out: one row each, with the edges of each type.

mod common;
use common::values::{D1, D2, D3, DNAN, INF, M1, MM1, ONE, TOP, TWO};
use common::{check_one, check_rows, kernel, module, try_rows, words};
use ptx_emulator::Module;

const NAN: u64 = 0x7fc0_0000;
const DINF: u64 = 0x7ff0_0000_0000_0000;

/// `%h1` and `%h2` are the low halves of the inputs; the result of `%h3` is taken.
fn halves(op: &str) -> String {
    format!("cvt.u16.u32 %h1, %a; cvt.u16.u32 %h2, %b; {op} cvt.u32.u16 %d, %h3;")
}

#[test]
fn integers_of_16_and_64_bits() {
    let rows = [
        (halves("add.s16 %h3, %h1, %h2;"), [0x7fff, 1, 0], 0x8000),
        (halves("sub.s16 %h3, %h1, %h2;"), [0x8000, 1, 0], 0x7fff),
        (halves("mul.lo.s16 %h3, %h1, %h2;"), [0x7fff, 2, 0], 0xfffe),
        (halves("mul.hi.s16 %h3, %h1, %h2;"), [0x8000, 0x8000, 0], 0x4000),
        (halves("mul.hi.u16 %h3, %h1, %h2;"), [0xffff, 0xffff, 0], 0xfffe),
        (halves("mad.lo.s16 %h3, %h1, %h2, %h1;"), [0xffff, 5, 0], 0xfffa),
        (halves("div.s16 %h3, %h1, %h2;"), [0xfff9, 2, 0], 0xfffd),
        (halves("div.u16 %h3, %h1, %h2;"), [0xfff9, 2, 0], 0x7ffc),
        (halves("rem.s16 %h3, %h1, %h2;"), [0xfff9, 2, 0], 0xffff),
        (halves("rem.u16 %h3, %h1, %h2;"), [0xfff9, 4, 0], 1),
        (halves("min.s16 %h3, %h1, %h2;"), [0x8000, 1, 0], 0x8000),
        (halves("min.u16 %h3, %h1, %h2;"), [0x8000, 1, 0], 1),
        (halves("max.s16 %h3, %h1, %h2;"), [0x8000, 1, 0], 1),
        (halves("max.u16 %h3, %h1, %h2;"), [0x8000, 1, 0], 0x8000),
        (halves("abs.s16 %h3, %h1;"), [0x8000, 0, 0], 0x8000),
        (halves("neg.s16 %h3, %h1;"), [1, 0, 0], 0xffff),
        (halves("sad.s16 %h3, %h1, %h2, %h1;"), [0xffff, 2, 0], 2),
        (halves("shl.b16 %h3, %h1, 15;"), [3, 0, 0], 0x8000),
        (halves("shl.b16 %h3, %h1, 16;"), [3, 0, 0], 0),
        (halves("shr.s16 %h3, %h1, 99;"), [0x8000, 0, 0], 0xffff),
        (halves("shr.u16 %h3, %h1, 99;"), [0x8000, 0, 0], 0),
        (halves("and.b16 %h3, %h1, %h2;"), [0xff0, 0xff, 0], 0xf0),
        (halves("or.b16 %h3, %h1, %h2;"), [0xff0, 0xff, 0], 0xfff),
        (halves("xor.b16 %h3, %h1, %h2;"), [0xff0, 0xff, 0], 0xf0f),
        (halves("selp.b16 %h3, %h1, %h2, 1;"), [5, 6, 0], 5),
    ];
    let rows: Vec<_> = rows.iter().map(|(b, i, e)| (b.as_str(), *i, *e)).collect();
    check_rows(&rows);
    check_rows(&[
        ("sub.s64 %w, %x, %y;", [TOP, 1, 0], TOP - 1),
        ("mul.lo.u64 %w, %x, %y;", [MM1, MM1, 0], 1),
        ("mad.lo.s64 %w, %x, %y, %z;", [MM1, 7, 9], 2),
        ("mad.hi.u64 %w, %x, %y, %z;", [MM1, MM1, 5], 3),
        ("mad.hi.s32 %d, %a, %b, %c;", [M1, 1, 5], 4),
        ("mad.lo.s32 %d, %a, %b, %c;", [M1, 2, 5], 3),
        ("cvt.u16.u32 %h1, %a; mad.wide.u16 %d, %h1, %h1, %c;", [0xffff, 0, 5], 0xfffe_0006),
        ("mad24.hi.u32 %d, %a, %b, %c;", [0xff_ffff, 0xff_ffff, 1], 0xffff_fe01),
        ("mul24.lo.s32 %d, %a, %b;", [0xff_ffff, 3, 0], 0xffff_fffd),
        ("sad.u64 %w, %x, %y, %z;", [3, 10, 1], 8),
        ("div.s64 %w, %x, %y;", [TOP, MM1, 0], TOP),
        ("div.u64 %w, %x, %y;", [5, 0, 0], MM1),
        ("div.u32 %d, %a, %b;", [5, 0, 0], M1),
        ("rem.u64 %w, %x, %y;", [17, 5, 0], 2),
        ("rem.u32 %d, %a, %b;", [5, 0, 0], 5),
        ("abs.s64 %w, %x;", [MM1, 0, 0], 1),
        ("min.s64 %w, %x, %y;", [MM1, 0, 0], MM1),
        ("min.u64 %w, %x, %y;", [MM1, 0, 0], 0),
        ("max.u32 %d, %a, %b;", [M1, 0, 0], M1),
        ("cnot.b64 %w, %x;", [1 << 40, 0, 0], 0),
        ("cnot.b64 %w, %x;", [0, 0, 0], 1),
        ("shr.u64 %w, %x, %b;", [TOP, 64, 0], 0),
        ("shr.b64 %w, %x, %b;", [TOP, 63, 0], 1),
        ("shr.b32 %d, %a, %b;", [0x8000_0000, M1, 0], 0),
        ("shl.b64 %w, %x, %b;", [1, 64, 0], 0),
        ("mov.u32 %d, %a;", [7, 0, 0], 7),
        ("slct.u64.s32 %w, %x, %y, %c;", [1, 2, 0x8000_0000], 2),
        ("slct.b64.f32 %w, %x, %y, %c;", [1, 2, NAN], 2),
    ]);
}

#[test]
fn carries_go_through_64_and_128_bits() {
    check_rows(&[
        ("{ .reg .b64 lo; add.cc.u64 lo, %x, %y; addc.u64 %w, %z, 0; }", [MM1, 1, 5], 6),
        ("{ .reg .b64 lo; sub.cc.s64 lo, %x, %y; subc.s64 %w, %z, 0; }", [0, 1, 5], 4),
        ("{ .reg .b32 t; add.cc.u32 t, %a, %b; addc.cc.u32 t, %c, -1; addc.u32 %d, 0, 0; }", [M1, 1, 0], 1),
        ("{ .reg .b32 t; sub.cc.u32 t, %a, %b; subc.cc.u32 t, %c, 0; subc.u32 %d, 9, 0; }", [0, 1, 0], 8),
        ("{ .reg .b32 t; mad.lo.cc.u32 t, %a, %b, %c; madc.lo.u32 %d, 1, 1, 1; }", [M1, 1, 1], 3),
        ("{ .reg .b32 t; mad.hi.cc.u32 t, %a, %b, %c; madc.hi.s32 %d, -1, 1, 0; }", [M1, M1, 2], 0),
        (
            "{ .reg .b32 t; mad.lo.cc.u32 t, %a, 1, 1; madc.lo.cc.u32 t, %b, 1, 0; addc.u32 %d, 0, 0; }",
            [M1, M1, 0],
            1,
        ),
        // No carry, no borrow.
        ("{ .reg .b32 t; add.cc.u32 t, %a, %b; addc.u32 %d, 0, 0; }", [M1 - 1, 1, 0], 0),
        ("{ .reg .b32 t; sub.cc.u32 t, %a, %b; subc.u32 %d, 9, 0; }", [1, 1, 0], 9),
    ]);
}

#[test]
fn bit_fields_at_their_edges() {
    check_rows(&[
        ("bfe.u64 %w, %x, 60, 9;", [0xf << 60, 0, 0], 0xf),
        ("bfe.u64 %w, %x, 64, 9;", [MM1, 0, 0], 0),
        ("bfe.s64 %w, %x, 70, 9;", [TOP, 0, 0], MM1),
        ("bfe.u32 %d, %a, 0, 0;", [M1, 0, 0], 0),
        ("bfe.s32 %d, %a, 0, 32;", [0x8000_0001, 0, 0], 0x8000_0001),
        ("bfi.b32 %d, %a, %b, 28, 8;", [0xff, 0, 0], 0xf000_0000),
        ("bfi.b64 %w, %x, %y, 64, 8;", [0xff, 5, 0], 5),
        ("bfind.s64 %d, %x;", [MM1, 0, 0], M1),
        ("bfind.s64 %d, %x;", [TOP, 0, 0], 62),
        ("bfind.shiftamt.s32 %d, %a;", [1, 0, 0], 31),
        ("bfind.shiftamt.u64 %d, %x;", [1, 0, 0], 63),
        ("bfind.shiftamt.s64 %d, %x;", [1, 0, 0], 63),
        ("bfind.shiftamt.u32 %d, %a;", [0, 0, 0], M1),
        ("popc.b64 %d, %x;", [0, 0, 0], 0),
        ("clz.b64 %d, %x;", [0, 0, 0], 64),
        ("fns.b32 %d, %a, 3, -2;", [0b1011, 0, 0], 1),
        ("fns.b32 %d, %a, 5, 1;", [0b1011, 0, 0], M1),
        ("bmsk.wrap.b32 %d, %a, %b;", [36, 4, 0], 0xf0),
        ("bmsk.clamp.b32 %d, %a, %b;", [40, 4, 0], 0),
        ("szext.wrap.s32 %d, %a, %b;", [0xff, 36, 0], M1),
        ("szext.clamp.u32 %d, %a, %b;", [M1, 40, 0], M1),
        ("prmt.b32.b4e %d, %a, %b, 1;", [0x3322_1100, 0x7766_5544, 0], 0x6677_0011),
        ("prmt.b32.rc8 %d, %a, %b, 2;", [0x3322_1100, 0, 0], 0x2222_2222),
        ("prmt.b32.ecl %d, %a, %b, 1;", [0x3322_1100, 0, 0], 0x3322_1111),
        ("prmt.b32.ecr %d, %a, %b, 1;", [0x3322_1100, 0, 0], 0x1111_1100),
        ("dp4a.s32.u32 %d, %a, %b, %c;", [0xff00_0000, 0xff00_0000, 1], 0xffff_ff02),
        ("dp4a.u32.s32 %d, %a, %b, %c;", [0xff00_0000, 0xff00_0000, 1], 0xffff_ff02),
        ("dp2a.lo.u32.s32 %d, %a, %b, %c;", [0xffff_0000, 0x0000_ff00, 1], 0xffff_0002),
        ("dp2a.hi.s32.u32 %d, %a, %b, %c;", [0xffff_0000, 0xff00_0000, 1], 0xffff_ff02),
        ("shf.r.wrap.b32 %d, %a, %b, %c;", [5, 7, 32], 5),
        ("shf.l.clamp.b32 %d, %a, %b, %c;", [5, 7, 0], 7),
    ]);
}

#[test]
fn directed_rounding_of_quotients_and_roots() {
    check_rows(&[
        ("div.rm.f32 %d, %a, %b;", [ONE, 0x4040_0000, 0], 0x3eaa_aaaa),
        ("div.rp.f32 %d, %a, %b;", [ONE, 0x4040_0000, 0], 0x3eaa_aaab),
        ("div.rn.ftz.f32 %d, %a, %b;", [0x0080_0000, TWO, 0], 0),
        ("div.rn.f32 %d, %a, %b;", [0, 0, 0], 0x7fff_ffff),
        ("div.rz.f64 %w, %x, %y;", [D1, D3, 0], 0x3fd5_5555_5555_5555),
        ("div.rm.f64 %w, %x, %y;", [D1 | TOP, D3, 0], 0xbfd5_5555_5555_5556),
        ("rcp.rp.f32 %d, %a;", [0x4040_0000, 0, 0], 0x3eaa_aaab),
        ("rcp.rz.f32 %d, %a;", [0x4040_0000, 0, 0], 0x3eaa_aaaa),
        ("rcp.rp.f64 %w, %x;", [D3, 0, 0], 0x3fd5_5555_5555_5556),
        ("rcp.rn.f32 %d, %a;", [INF | 0x8000_0000, 0, 0], 0x8000_0000),
        ("sqrt.rz.f32 %d, %a;", [TWO, 0, 0], 0x3fb5_04f3),
        ("sqrt.rm.f64 %w, %x;", [D2, 0, 0], 0x3ff6_a09e_667f_3bcc),
        ("sqrt.rp.f64 %w, %x;", [D2, 0, 0], 0x3ff6_a09e_667f_3bcd),
        ("sqrt.rn.f32 %d, %a;", [0x8000_0000, 0, 0], 0x8000_0000),
        ("sqrt.approx.ftz.f32 %d, %a;", [1, 0, 0], 0),
        ("rsqrt.approx.f64 %w, %x;", [0x4010_0000_0000_0000, 0, 0], 0x3fe0_0000_0000_0000),
        ("rsqrt.approx.ftz.f32 %d, %a;", [INF, 0, 0], 0),
        ("sin.approx.ftz.f32 %d, %a;", [1, 0, 0], 0),
        ("cos.approx.ftz.f32 %d, %a;", [1, 0, 0], ONE),
        ("lg2.approx.f32 %d, %a;", [0xbf80_0000, 0, 0], 0x7fff_ffff),
        ("lg2.approx.f32 %d, %a;", [1, 0, 0], 0xc315_0000),
        ("tanh.approx.f16x2 %d, %a;", [0x7c00_fc00, 0, 0], 0x3c00_bc00),
        ("ex2.approx.ftz.bf16x2 %d, %a;", [0x3f80_c000, 0, 0], 0x4000_3e80),
        ("min.xorsign.abs.f32 %d, %a, %b;", [0xc000_0000, ONE, 0], 0xbf80_0000),
        ("max.NaN.f32 %d, %a, %b;", [NAN, ONE, 0], 0x7fff_ffff),
        ("min.NaN.f16x2 %d, %a, %b;", [0x7e00_3c00, 0x3c00_4000, 0], 0x7fff_3c00),
        ("max.f64 %w, %x, %y;", [DNAN, D1, 0], D1),
        ("abs.f16x2 %d, %a;", [0xbc00_8000, 0, 0], 0x3c00_0000),
        ("neg.bf16x2 %d, %a;", [0x3f80_bf80, 0, 0], 0xbf80_3f80),
        ("sub.f16x2 %d, %a, %b;", [0x4000_3c00, 0x3c00_3c00, 0], 0x3c00_0000),
        ("sub.bf16x2 %d, %a, %b;", [0x4000_3f80, 0x3f80_3f80, 0], 0x3f80_0000),
        ("fma.rn.bf16x2 %d, %a, %b, %c;", [0x4000_3f80, 0x4000_3f80, 0x3f80_3f80], 0x40a0_4000),
        ("fma.rp.f64 %w, %x, %y, %z;", [D1, D1, 1], D1 + 1),
        ("sub.rp.f32 %d, %a, %b;", [ONE, ONE, 0], 0),
        ("add.rz.f32 %d, %a, %b;", [0x7f7f_ffff, 0x7f7f_ffff, 0], 0x7f7f_ffff),
        ("mul.rm.f64 %w, %x, %y;", [0x7fef_ffff_ffff_ffff, D2, 0], 0x7fef_ffff_ffff_ffff),
        ("mul.f64 %w, %x, %y;", [DINF, 0, 0], DNAN | TOP),
        ("add.f64 %w, %x, %y;", [1, 1, 0], 2),
    ]);
}

#[test]
fn comparisons_of_every_operator_and_class() {
    let set = "selp.u32 %d, 1, 0, %p1;";
    let rows = [
        ("setp.ls.u32 %p1, %a, %b;", [1, 1, 0], 1),
        ("setp.hi.u32 %p1, %a, %b;", [M1, 1, 0], 1),
        ("setp.hs.u64 %p1, %x, %y;", [1, 2, 0], 0),
        ("cvt.u16.u32 %h1, %a; setp.le.s16 %p1, %h1, 0;", [0, 0, 0], 1),
        ("cvt.u16.u32 %h1, %a; setp.ne.b16 %p1, %h1, 0;", [0, 0, 0], 0),
        ("setp.gtu.f32 %p1, %a, %b;", [NAN, ONE, 0], 1),
        ("setp.leu.f32 %p1, %a, %b;", [TWO, ONE, 0], 0),
        ("setp.geu.f64 %p1, %x, %y;", [DNAN, D1, 0], 1),
        ("setp.ne.f64 %p1, %x, %y;", [DNAN, D1, 0], 0),
        ("setp.lt.f64 %p1, %x, %y;", [TOP, 0, 0], 0),
        ("cvt.u16.u32 %h1, %a; setp.gt.bf16 %p1, %h1, %h1;", [0, 0, 0], 0),
        ("setp.gt.xor.s32 %p1, %a, %b, 1;", [2, 1, 0], 0),
        ("testp.number.f32 %p1, %a;", [NAN, 0, 0], 0),
        ("testp.number.f64 %p1, %x;", [DINF, 0, 0], 1),
        ("testp.subnormal.f64 %p1, %x;", [1, 0, 0], 1),
        ("testp.normal.f32 %p1, %a;", [0, 0, 0], 0),
        ("isspacep.const %p1, %t2;", [0, 0, 0], 0),
        ("isspacep.global %p1, %t2;", [0, 0, 0], 1),
        ("isspacep.local %p1, %t2;", [0, 0, 0], 0),
        ("vote.sync.all.pred %p1, 1, -1;", [0, 0, 0], 1),
        ("setp.eq.u32 %p2, %laneid, 5; vote.sync.any.pred %p1, %p2, -1;", [0, 0, 0], 1),
        ("setp.eq.u32 %p2, %laneid, 5; vote.sync.uni.pred %p1, %p2, -1;", [0, 0, 0], 0),
        ("{ .reg .b32 t; match.all.sync.b32 t|%p1, %laneid, -1; }", [0, 0, 0], 0),
        ("{ .reg .b32 t; match.all.sync.b64 t|%p1, %x, -1; }", [1 << 40, 0, 0], 1),
    ];
    let rows: Vec<_> = rows.iter().map(|(body, i, e)| (format!("{body} {set}"), *i, *e)).collect();
    let rows: Vec<_> = rows.iter().map(|(b, i, e)| (b.as_str(), *i, *e)).collect();
    check_rows(&rows);
    check_rows(&[
        ("set.le.f32.f32 %d, %a, %b;", [NAN, ONE, 0], 0),
        ("set.neu.u32.f64 %d, %x, %y;", [DNAN, D1, 0], M1),
        ("set.eq.s32.u64 %d, %x, %y;", [5, 5, 0], M1),
        ("match.any.sync.b64 %d, %x, -1;", [1 << 40, 0, 0], M1),
    ]);
}

#[test]
fn reductions_of_a_warp() {
    check_rows(&[
        ("redux.sync.add.u32 %d, %laneid, -1;", [0, 0, 0], 496),
        ("sub.s32 %r1, %laneid, 5; redux.sync.min.s32 %d, %r1, -1;", [0, 0, 0], 0xffff_fffb),
        ("sub.s32 %r1, %laneid, 5; redux.sync.min.u32 %d, %r1, -1;", [0, 0, 0], 0),
        ("sub.s32 %r1, %laneid, 5; redux.sync.max.s32 %d, %r1, -1;", [0, 0, 0], 26),
        ("sub.s32 %r1, %laneid, 5; redux.sync.max.u32 %d, %r1, -1;", [0, 0, 0], M1),
        ("or.b32 %r1, %laneid, 64; redux.sync.and.b32 %d, %r1, -1;", [0, 0, 0], 64),
        ("redux.sync.or.b32 %d, %laneid, -1;", [0, 0, 0], 31),
        ("redux.sync.xor.b32 %d, %a, -1;", [5, 0, 0], 0),
    ]);
}

#[test]
fn atomics_of_every_operation_and_type() {
    // The old value in %d or %w is added to the new one, shifted, where both fit.
    let both = "ld.global.u32 %r1, [%t2]; shl.b32 %r1, %r1, 8; or.b32 %d, %d, %r1;";
    let rows = [
        ("atom.global.add.s32 %d, [%t2], %b;", [5, 3, 0], 0x0805),
        ("atom.global.min.u32 %d, [%t2], %b;", [5, 3, 0], 0x0305),
        ("atom.global.min.s32 %d, [%t2], %b;", [5, 7, 0], 0x0505),
        ("atom.global.max.u32 %d, [%t2], %b;", [5, 7, 0], 0x0705),
        ("atom.global.max.s32 %d, [%t2], %b;", [5, M1, 0], 0x0505),
        ("atom.global.inc.u32 %d, [%t2], %b;", [5, 5, 0], 0x0005),
        ("atom.global.dec.u32 %d, [%t2], %b;", [0, 9, 0], 0x0900),
        ("atom.global.dec.u32 %d, [%t2], %b;", [50, 9, 0], 0x0932),
        ("atom.global.and.b32 %d, [%t2], %b;", [6, 3, 0], 0x0206),
        ("atom.global.or.b32 %d, [%t2], %b;", [6, 3, 0], 0x0706),
        ("atom.global.xor.b32 %d, [%t2], %b;", [6, 3, 0], 0x0506),
        ("atom.global.exch.b32 %d, [%t2], %b;", [6, 3, 0], 0x0306),
        ("atom.global.cas.b32 %d, [%t2], %b, %c;", [6, 6, 9], 0x0906),
        ("atom.global.cas.b32 %d, [%t2], %b, %c;", [6, 5, 9], 0x0606),
        ("atom.acq_rel.sys.global.add.u32 %d, [%t2], %b;", [5, 3, 0], 0x0805),
        ("atom.acquire.gpu.add.u32 %d, [%t2], %b;", [5, 3, 0], 0x0805),
        ("red.release.gpu.global.add.s32 [%t2], %b;", [5, 3, 0], 0x0800),
        ("red.global.min.s32 [%t2], %b;", [5, 3, 0], 0x0300),
        ("red.global.max.u32 [%t2], %b;", [5, 3, 0], 0x0500),
        ("red.global.inc.u32 [%t2], %b;", [5, 9, 0], 0x0600),
        ("red.global.and.b32 [%t2], %b;", [5, 3, 0], 0x0100),
        ("red.global.or.b32 [%t2], %b;", [5, 3, 0], 0x0700),
        ("red.global.xor.b32 [%t2], %b;", [5, 3, 0], 0x0600),
    ];
    let rows: Vec<_> = rows.iter().map(|(body, i, e)| (format!("{body} {both}"), *i, *e)).collect();
    let rows: Vec<_> = rows.iter().map(|(b, i, e)| (b.as_str(), *i, *e)).collect();
    check_one(&rows);
    check_one(&[
        ("atom.global.add.u64 %w, [%t2], %y;", [MM1, 1, 0], MM1),
        ("atom.global.min.s64 %q1, [%t2], %y; ld.global.u64 %w, [%t2];", [1, MM1, 0], MM1),
        ("atom.global.max.u64 %q1, [%t2], %y; ld.global.u64 %w, [%t2];", [1, MM1, 0], MM1),
        ("atom.global.and.b64 %q1, [%t2], %y; ld.global.u64 %w, [%t2];", [6, 3, 0], 2),
        ("atom.global.exch.b64 %q1, [%t2], %y; ld.global.u64 %w, [%t2];", [6, 3, 0], 3),
        ("atom.global.cas.b64 %q1, [%t2], %y, %z; ld.global.u64 %w, [%t2];", [6, 6, 9], 9),
        ("atom.global.add.f32 %r1, [%t2], %b; ld.global.u32 %d, [%t2];", [ONE, ONE, 0], TWO),
        ("atom.global.add.f64 %q1, [%t2], %y; ld.global.u64 %w, [%t2];", [D1, D1, 0], D2),
        (
            "atom.global.add.noftz.f16x2 %r1, [%t2], %b; ld.global.u32 %d, [%t2];",
            [0x3c00_3c00, 0x3c00_4000, 0],
            0x4000_4200,
        ),
        (
            "atom.global.add.noftz.bf16x2 %r1, [%t2], %b; ld.global.u32 %d, [%t2];",
            [0x3f80_3f80, 0x3f80_4000, 0],
            0x4000_4040,
        ),
        (
            "cvt.u16.u32 %h1, %b; atom.global.add.noftz.f16 %h2, [%t2], %h1; ld.global.u32 %d, [%t2];",
            [0x7_3c00, 0x3c00, 0],
            0x7_4000,
        ),
        (
            "cvt.u16.u32 %h1, %b; cvt.u16.u32 %h3, %c; atom.global.cas.b16 %h2, [%t2], %h1, %h3; ld.global.u32 %d, [%t2];",
            [0x7_0005, 5, 9],
            0x7_0009,
        ),
        ("red.global.add.u64 [%t2], %y; ld.global.u64 %w, [%t2];", [MM1, 2, 0], 1),
        ("red.global.add.f64 [%t2], %y; ld.global.u64 %w, [%t2];", [D1, D2, 0], D3),
        (
            "red.global.add.noftz.bf16x2 [%t2], %b; ld.global.u32 %d, [%t2];",
            [0x3f80_3f80, 0x3f80_4000, 0],
            0x4000_4040,
        ),
    ]);
}

#[test]
fn hints_change_nothing() {
    check_rows(&[
        ("ldu.global.u32 %d, [%t2];", [9, 0, 0], 9),
        ("applypriority.global.L2::evict_normal [%t2], 128; mov.u32 %d, 1;", [9, 0, 0], 1),
        ("prefetch.global.L2 [%t2]; prefetchu.L1 [%t2]; mov.u32 %d, 1;", [0, 0, 0], 1),
        ("pmevent 1; pmevent.mask 7; nanosleep.u32 20; mov.u32 %d, 1;", [0, 0, 0], 1),
        ("membar.sys; fence.sc.sys; fence.proxy.alias; mov.u32 %d, 1;", [0, 0, 0], 1),
        ("ld.relaxed.gpu.global.L1::evict_last.u32 %d, [%t2];", [9, 0, 0], 9),
        (
            "ld.weak.global.ca.u32 %d, [%t2]; ld.global.cg.u32 %d, [%t2]; ld.global.lu.u32 %d, [%t2];",
            [9, 0, 0],
            9,
        ),
        ("ld.global.cv.u32 %d, [%t2]; ld.global.L2::64B.u32 %d, [%t2];", [9, 0, 0], 9),
    ]);
    // A store by each lane to its own place.
    check_one(&[
        (
            "st.global.wb.u32 [%t2], 3; st.global.cg.u32 [%t2+4], 4; ld.global.u64 %w, [%t2];",
            [0, 0, 0],
            4 << 32 | 3,
        ),
        ("st.release.gpu.global.u32 [%t2], 3; ld.global.u32 %d, [%t2];", [0, 0, 0], 3),
        (
            "st.relaxed.sys.global.L1::no_allocate.v2.b32 [%t2], {%b, %b}; ld.global.u64 %w, [%t2];",
            [0, 5, 0],
            5 << 32 | 5,
        ),
        (
            "st.global.wt.u8 [%t2+1], %b; st.global.cs.u16 [%t2+2], %b; ld.global.u32 %d, [%t2];",
            [0, 0x1234, 0],
            0x1234_3400,
        ),
    ]);
}

#[test]
fn registers_of_128_bits_are_moved_loaded_and_stored() {
    check_rows(&[
        ("{ .reg .b128 q; mov.b128 q, {%x, %y}; mov.b128 {%w, _}, q; }", [5, 6, 0], 5),
        ("{ .reg .b128 q, r; mov.b128 q, {%x, %y}; mov.b128 r, q; mov.b128 {_, %w}, r; }", [5, 6, 0], 6),
        ("mov.b128 {%x, %y}, {%y, %x}; shl.b64 %y, %y, 8; or.b64 %w, %x, %y;", [5, 6, 0], 0x506),
    ]);
    check_one(&[
        ("{ .reg .b128 q; ld.global.b128 q, [%t2]; mov.b128 {%q1, %w}, q; }", [5, 6, 0], 6),
        (
            "{ .reg .b128 q; mov.b128 q, {%y, %x}; st.global.b128 [%t2], q; ld.global.u64 %w, [%t2]; }",
            [5, 6, 0],
            6,
        ),
    ]);
    let error = try_rows("{ .reg .b128 q; ld.global.b128 q, [%t2+8]; }", &[[0; 3]]).unwrap_err();
    assert!(error.to_string().contains("not a multiple of 16"), "{error}");
    for bad in ["{ .reg .b128 q; add.u64 %w, q, q; }", "mov.b128 %x, %y;", "ld.global.b128 %x, [%t2];"] {
        assert!(Module::parse(&kernel(bad)).is_err(), "{bad}");
    }
}

#[test]
fn a_breakpoint_ends_the_launch() {
    let error = try_rows("setp.eq.u32 %p1, %a, 3; @%p1 brkpt;", &[[1, 0, 0], [3, 0, 0]]).unwrap_err();
    assert!(error.to_string().contains("thread (1, 0, 0)"), "{error}");
}

#[test]
fn discarded_bytes_may_be_anything_and_movmatrix_transposes() {
    check_rows(&[("discard.global.L2 [%t2], 128; mov.u32 %d, 1;", [0, 0, 0], 1)]);
    // Element (r, c) is 8 r + c; afterwards 8 c + r.
    let body = "
        ld.param.u64 %rd1, [out]; mov.u32 %r1, %laneid; mad.wide.u32 %rd2, %r1, 4, %rd1;
        shl.b32 %r2, %r1, 1; add.u32 %r3, %r2, 1; shl.b32 %r3, %r3, 16; or.b32 %r2, %r2, %r3;
        movmatrix.sync.aligned.m8n8.trans.b16 %r4, %r2;
        st.global.u32 [%rd2], %r4; ret;";
    let expected: Vec<u32> =
        (0..32).map(|l| (8 * (2 * (l % 4)) + l / 4) | (8 * (2 * (l % 4) + 1) + l / 4) << 16).collect();
    assert_eq!(words(body, 1, 32, 32).unwrap(), expected);
    for bad in ["movmatrix.sync.aligned.m8n8.b16 %r4, %r2;", "movmatrix.sync.aligned.m8n8.trans.b8 %r4, %r2;"]
    {
        assert!(Module::parse(&module(bad)).is_err(), "{bad}");
    }
    assert!(Module::parse(&kernel("discard.shared.L2 [%t2], 128;")).is_err());
    assert!(Module::parse(&kernel("discard.global.L2 [%t2], 64;")).is_err());
}
