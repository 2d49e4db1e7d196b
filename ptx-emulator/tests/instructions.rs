//! One row an instruction form: its PTX, inputs of one lane, the result by the PTX manual, worked out by hand.

mod common;
use common::values::{D1, D2, D3, INF, M1, MM1, ONE, TWO};
use common::{check_rows, run_rows};

const NAN: u64 = 0x7fff_ffff;
const NINF: u64 = 0xff80_0000;
const THREE: u64 = 0x4040_0000;
const NZERO: u64 = 0x8000_0000;
/// The smallest subnormal f32.
const TINY: u64 = 1;

#[test]
fn integer_arithmetic() {
    check_rows(&[
        ("add.u32 %d, %a, %b;", [M1, 2, 0], 1),
        ("add.s64 %w, %x, %y;", [MM1, 2, 0], 1),
        (
            "add.u16 %h1, %h1, %h1; cvt.u16.u32 %h2, %a; add.u16 %h1, %h2, 1; cvt.u32.u16 %d, %h1;",
            [0xffff, 0, 0],
            0,
        ),
        ("add.sat.s32 %d, %a, %b;", [0x7fff_ffff, 1, 0], 0x7fff_ffff),
        ("sub.sat.s32 %d, %a, %b;", [0x8000_0000, 1, 0], 0x8000_0000),
        ("sub.u32 %d, %a, %b;", [1, 2, 0], M1),
        ("mul.lo.s32 %d, %a, %b;", [M1, 7, 0], 0xffff_fff9),
        ("mul.hi.u32 %d, %a, %b;", [M1, M1, 0], 0xffff_fffe),
        ("mul.hi.s32 %d, %a, %b;", [M1, M1, 0], 0),
        ("mul.hi.u64 %w, %x, %y;", [MM1, MM1, 0], MM1 - 1),
        ("mul.hi.s64 %w, %x, %y;", [MM1, 2, 0], MM1),
        ("mul.wide.u32 %w, %a, %b;", [M1, M1, 0], 0xffff_fffe_0000_0001),
        ("mul.wide.s32 %w, %a, %b;", [M1, 3, 0], MM1 - 2),
        ("cvt.u16.u32 %h1, %a; mul.wide.u16 %d, %h1, %h1;", [0xffff, 0, 0], 0xfffe_0001),
        ("cvt.u16.u32 %h1, %a; mul.wide.s16 %d, %h1, %h1;", [0xffff, 0, 0], 1),
        ("mul24.lo.u32 %d, %a, %b;", [0xff00_0003, 5, 0], 15),
        ("mul24.hi.u32 %d, %a, %b;", [0x0080_0000, 0x0080_0000, 0], 0x4000_0000),
        ("mad24.lo.s32 %d, %a, %b, %c;", [0x00ff_ffff, 5, 7], 2),
        ("mad.lo.u32 %d, %a, %b, %c;", [3, 4, 5], 17),
        ("mad.hi.u32 %d, %a, %b, %c;", [M1, 2, 5], 6),
        ("mad.hi.sat.s32 %d, %a, %b, %c;", [0x7fff_ffff, 4, 0x7fff_ffff], 0x7fff_ffff),
        ("mad.wide.u32 %w, %a, %b, %z;", [M1, 2, 2], 0x2_0000_0000),
        ("mad.wide.s32 %w, %a, %b, %z;", [M1, 2, 2], 0),
        ("sad.s32 %d, %a, %b, %c;", [M1, 2, 10], 13),
        ("sad.u32 %d, %a, %b, %c;", [5, 2, 10], 13),
        ("div.u32 %d, %a, %b;", [17, 5, 0], 3),
        ("div.s32 %d, %a, %b;", [0xffff_ffef, 5, 0], 0xffff_fffd),
        ("div.s32 %d, %a, %b;", [0x8000_0000, M1, 0], 0x8000_0000),
        ("div.u64 %w, %x, %y;", [MM1, 10, 0], MM1 / 10),
        ("rem.s32 %d, %a, %b;", [0xffff_ffef, 5, 0], 0xffff_fffe),
        ("rem.u32 %d, %a, %b;", [17, 5, 0], 2),
        ("rem.s64 %w, %x, %y;", [1 << 63, MM1, 0], 0),
        ("abs.s32 %d, %a;", [M1, 0, 0], 1),
        ("abs.s32 %d, %a;", [0x8000_0000, 0, 0], 0x8000_0000),
        ("neg.s32 %d, %a;", [1, 0, 0], M1),
        ("neg.s64 %w, %x;", [1, 0, 0], MM1),
        ("min.s32 %d, %a, %b;", [M1, 1, 0], M1),
        ("min.u32 %d, %a, %b;", [M1, 1, 0], 1),
        ("max.s64 %w, %x, %y;", [MM1, 1, 0], 1),
        ("max.u64 %w, %x, %y;", [MM1, 1, 0], MM1),
        ("max.s32.relu %d, %a, %b;", [0xffff_fff0, M1, 0], 0),
        ("dp4a.s32.s32 %d, %a, %b, %c;", [0xff02_0304, 0x0101_0101, 10], 18),
        ("dp4a.u32.u32 %d, %a, %b, %c;", [0xff02_0304, 0x0101_0101, 10], 0x112),
        ("dp2a.lo.s32.s32 %d, %a, %b, %c;", [0xffff_0002, 0x0000_0503, 1], 2),
        ("dp2a.hi.u32.u32 %d, %a, %b, %c;", [0x0001_0002, 0x0503_0000, 1], 12),
        (
            "{ .reg .u32 lo, hi; add.cc.u32 lo, %a, %b; addc.u32 hi, %c, 0; mov.b64 %w, {lo, hi}; }",
            [M1, 1, 5],
            6 << 32,
        ),
        (
            "{ .reg .u32 lo, hi; sub.cc.u32 lo, %a, %b; subc.u32 hi, %c, 0; mov.b64 %w, {lo, hi}; }",
            [0, 1, 5],
            (4 << 32) | M1,
        ),
        (
            "{ .reg .u32 lo, hi; mad.lo.cc.u32 lo, %a, %b, %c; madc.hi.u32 hi, %a, %b, 0; mov.b64 %w, {lo, hi}; }",
            [M1, M1, M1],
            0xffff_ffff << 32,
        ),
    ]);
}

#[test]
fn logic_and_bits() {
    check_rows(&[
        ("and.b32 %d, %a, %b;", [0xff00, 0x0ff0, 0], 0x0f00),
        ("or.b64 %w, %x, %y;", [1 << 40, 1, 0], (1 << 40) | 1),
        ("xor.b32 %d, %a, -1;", [0xff, 0, 0], 0xffff_ff00),
        ("not.b32 %d, %a;", [0, 0, 0], M1),
        ("not.b64 %w, %x;", [0, 0, 0], MM1),
        ("cvt.u16.u32 %h1, %a; not.b16 %h1, %h1; cvt.u32.u16 %d, %h1;", [0xff, 0, 0], 0xff00),
        ("cnot.b32 %d, %a;", [0, 0, 0], 1),
        ("shl.b32 %d, %a, %b;", [1, 31, 0], 0x8000_0000),
        ("shl.b32 %d, %a, %b;", [1, 32, 0], 0),
        ("shl.b64 %w, %x, %b;", [1, 63, 0], 1 << 63),
        ("shr.u32 %d, %a, %b;", [0x8000_0000, 40, 0], 0),
        ("shr.s32 %d, %a, %b;", [0x8000_0000, 40, 0], M1),
        ("shr.s64 %w, %x, %b;", [1 << 63, 62, 0], MM1 - 1),
        ("shf.l.wrap.b32 %d, %a, %b, %c;", [0x8000_0000, 1, 33], 3),
        ("shf.l.clamp.b32 %d, %a, %b, %c;", [0x1234, 1, 40], 0x1234),
        ("shf.r.wrap.b32 %d, %a, %b, %c;", [0x8000_0000, 1, 4], 0x1800_0000),
        ("shf.r.clamp.b32 %d, %a, %b, %c;", [5, 7, 32], 7),
        ("popc.b32 %d, %a;", [0xf0f, 0, 0], 8),
        ("popc.b64 %d, %x;", [MM1, 0, 0], 64),
        ("clz.b32 %d, %a;", [0, 0, 0], 32),
        ("clz.b64 %d, %x;", [1, 0, 0], 63),
        ("brev.b32 %d, %a;", [1, 0, 0], 0x8000_0000),
        ("brev.b64 %w, %x;", [1, 0, 0], 1 << 63),
        ("bfind.u32 %d, %a;", [0, 0, 0], M1),
        ("bfind.u32 %d, %a;", [0x100, 0, 0], 8),
        ("bfind.s32 %d, %a;", [M1, 0, 0], M1),
        ("bfind.s32 %d, %a;", [0xffff_fffb, 0, 0], 2),
        ("bfind.shiftamt.u32 %d, %a;", [0x100, 0, 0], 23),
        ("bfind.u64 %d, %x;", [1 << 40, 0, 0], 40),
        ("bfe.u32 %d, %a, 4, 8;", [0xabcd, 0, 0], 0xbc),
        ("bfe.s32 %d, %a, 4, 8;", [0xabcd, 0, 0], 0xffff_ffbc),
        ("bfe.s32 %d, %a, 28, 8;", [0x8000_0000, 0, 0], 0xffff_fff8),
        ("bfe.u32 %d, %a, 32, 8;", [M1, 0, 0], 0),
        ("bfe.s64 %w, %x, 60, 4;", [9 << 60, 0, 0], MM1 - 6),
        ("bfi.b32 %d, %a, %b, 8, 4;", [0xf5, M1, 0], 0xffff_f5ff),
        ("bfi.b32 %d, %a, %b, 40, 4;", [0xf5, 7, 0], 7),
        ("bfi.b64 %w, %x, %y, 32, 8;", [0xff, 1, 0], 0xff_0000_0001),
        ("prmt.b32 %d, %a, %b, 0x7410;", [0x3322_1100, 0x7766_5544, 0], 0x7744_1100),
        ("prmt.b32 %d, %a, %b, 0x0008;", [0x80, 0, 0], 0x8080_80ff),
        ("prmt.b32.f4e %d, %a, %b, 1;", [0x3322_1100, 0x7766_5544, 0], 0x4433_2211),
        ("prmt.b32.rc16 %d, %a, %b, 1;", [0x3322_1100, 0, 0], 0x3322_3322),
        ("lop3.b32 %d, %a, %b, %c, 0x96;", [0xf0, 0xcc, 0xaa], 0x96),
        ("lop3.b32 %d, %a, %b, %c, 0xe8;", [0xf0, 0xcc, 0xaa], 0xe8),
        ("bmsk.clamp.b32 %d, %a, %b;", [4, 8, 0], 0xff0),
        ("bmsk.clamp.b32 %d, %a, %b;", [4, 40, 0], 0xffff_fff0),
        ("szext.clamp.s32 %d, %a, %b;", [0xff, 8, 0], M1),
        ("szext.wrap.u32 %d, %a, %b;", [0xfff, 8, 0], 0xff),
        ("fns.b32 %d, %a, 0, 2;", [0b10110, 0, 0], 2),
        ("mov.b64 {%r1, %d}, %x;", [7 << 32, 0, 0], 7),
        ("mov.b32 {%h1, %h2}, %a; mov.b32 %d, {%h2, %h1};", [0x1111_2222, 0, 0], 0x2222_1111),
        ("mov.b64 %w, {%a, %b};", [1, 2, 0], (2 << 32) | 1),
        ("mov.b64 {_, %d}, %x;", [7 << 32, 0, 0], 7),
    ]);
}

#[test]
fn predicates_and_selection() {
    check_rows(&[
        ("setp.lt.s32 %p1, %a, %b; selp.u32 %d, 1, 2, %p1;", [M1, 0, 0], 1),
        ("setp.lt.u32 %p1, %a, %b; selp.u32 %d, 1, 2, %p1;", [M1, 0, 0], 2),
        ("setp.lo.u32 %p1, %a, %b; selp.u32 %d, 1, 2, !%p1;", [0, 1, 0], 2),
        ("setp.eq.f32 %p1, %a, %b; selp.u32 %d, 1, 2, %p1;", [NAN, NAN, 0], 2),
        ("setp.neu.f32 %p1, %a, %b; selp.u32 %d, 1, 2, %p1;", [NAN, NAN, 0], 1),
        ("setp.ne.f32 %p1, %a, %b; selp.u32 %d, 1, 2, %p1;", [NAN, ONE, 0], 2),
        ("setp.equ.f32 %p1, %a, %b; selp.u32 %d, 1, 2, %p1;", [NAN, ONE, 0], 1),
        ("setp.ltu.f32 %p1, %a, %b; selp.u32 %d, 1, 2, %p1;", [NAN, ONE, 0], 1),
        ("setp.num.f32 %p1, %a, %b; selp.u32 %d, 1, 2, %p1;", [NAN, ONE, 0], 2),
        ("setp.nan.f32 %p1, %a, %b; selp.u32 %d, 1, 2, %p1;", [NAN, ONE, 0], 1),
        ("setp.eq.f32 %p1, %a, %b; selp.u32 %d, 1, 2, %p1;", [NZERO, 0, 0], 1),
        ("setp.eq.ftz.f32 %p1, %a, 0f00000000; selp.u32 %d, 1, 2, %p1;", [TINY, 0, 0], 1),
        ("setp.gt.f64 %p1, %x, %y; selp.u32 %d, 1, 2, %p1;", [D2, D1, 0], 1),
        ("setp.ge.s64 %p1, %x, %y; selp.b64 %w, %x, %y, %p1;", [MM1, 3, 0], 3),
        ("setp.lt.s32 %p1|%p2, %a, %b; selp.u32 %d, 1, 2, %p2;", [0, 1, 0], 2),
        (
            "setp.eq.u32 %p1, %c, 0; setp.lt.and.s32 %p2|%p3, %a, %b, !%p1; selp.u32 %r1, 1, 0, %p2; selp.u32 %r2, 2, 0, %p3; or.b32 %d, %r1, %r2;",
            [0, 1, 0],
            0,
        ),
        ("setp.eq.u32 %p1, %c, 0; setp.lt.or.s32 %p2, %a, %b, %p1; selp.u32 %d, 1, 0, %p2;", [5, 1, 0], 1),
        ("set.gt.u32.s32 %d, %a, %b;", [2, 1, 0], M1),
        ("set.gt.f32.s32 %d, %a, %b;", [2, 1, 0], ONE),
        ("slct.u32.s32 %d, %a, %b, %c;", [1, 2, M1], 2),
        ("slct.u32.f32 %d, %a, %b, %c;", [1, 2, NZERO], 1),
        ("testp.finite.f32 %p1, %a; selp.u32 %d, 1, 0, %p1;", [INF, 0, 0], 0),
        ("testp.infinite.f32 %p1, %a; selp.u32 %d, 1, 0, %p1;", [INF, 0, 0], 1),
        ("testp.notanumber.f32 %p1, %a; selp.u32 %d, 1, 0, %p1;", [NAN, 0, 0], 1),
        ("testp.subnormal.f32 %p1, %a; selp.u32 %d, 1, 0, %p1;", [TINY, 0, 0], 1),
        ("testp.normal.f64 %p1, %x; selp.u32 %d, 1, 0, %p1;", [D1, 0, 0], 1),
        (
            "setp.eq.u32 %p1, %a, 1; setp.eq.u32 %p2, %b, 1; xor.pred %p3, %p1, %p2; not.pred %p4, %p3; selp.u32 %d, 1, 0, %p4;",
            [1, 1, 0],
            1,
        ),
        ("setp.eq.u32 %p1, %a, 1; @%p1 mov.u32 %d, 5; @!%p1 mov.u32 %d, 6;", [1, 0, 0], 5),
        (
            "setp.gt.f16 %p1, %h1, %h2; cvt.u16.u32 %h1, %a; cvt.u16.u32 %h2, %b; setp.gt.f16 %p1, %h1, %h2; selp.u32 %d, 1, 0, %p1;",
            [0x4000, 0x3c00, 0],
            1,
        ),
        (
            "setp.gt.f16x2 %p1|%p2, %a, %b; selp.u32 %r1, 1, 0, %p1; selp.u32 %r2, 2, 0, %p2; or.b32 %d, %r1, %r2;",
            [0x3c00_4000, 0x3c00_3c00, 0],
            1,
        ),
    ]);
}

#[test]
fn single_precision() {
    check_rows(&[
        ("add.f32 %d, %a, %b;", [ONE, TWO, 0], THREE),
        ("add.f32 %d, %a, %b;", [INF, NINF, 0], NAN),
        ("add.f32 %d, %a, %b;", [0x7f80_0001, ONE, 0], NAN),
        ("add.rn.f32 %d, %a, %b;", [ONE, 0x3300_0000, 0], ONE),
        ("add.rp.f32 %d, %a, %b;", [ONE, 0x3300_0000, 0], ONE + 1),
        ("add.rm.f32 %d, %a, %b;", [ONE, 0xb300_0000, 0], ONE - 1),
        ("add.rz.f32 %d, %a, %b;", [ONE, 0xb300_0000, 0], ONE - 1),
        ("add.f32 %d, %a, %b;", [TINY, TINY, 0], 2),
        ("add.ftz.f32 %d, %a, %b;", [TINY, 0x8000_0001, 0], 0),
        ("add.ftz.f32 %d, %a, %b;", [0x0080_0001, 0x8080_0000, 0], 0),
        ("add.sat.f32 %d, %a, %b;", [ONE, TWO, 0], ONE),
        ("add.sat.f32 %d, %a, %b;", [NAN, TWO, 0], 0),
        ("sub.f32 %d, %a, %b;", [ONE, THREE, 0], 0xc000_0000),
        ("sub.rm.f32 %d, %a, %b;", [ONE, ONE, 0], NZERO),
        ("mul.f32 %d, %a, %b;", [NZERO, THREE, 0], NZERO),
        ("mul.f32 %d, %a, %b;", [INF, 0, 0], NAN),
        ("mul.ftz.f32 %d, %a, %b;", [0x0080_0000, 0x3f00_0000, 0], 0),
        ("mul.rz.f32 %d, %a, %b;", [0x3f80_0001, 0x3f80_0001, 0], 0x3f80_0002),
        ("mul.rp.f32 %d, %a, %b;", [0x3f80_0001, 0x3f80_0001, 0], 0x3f80_0003),
        ("fma.rn.f32 %d, %a, %b, %c;", [0x3f80_0001, 0x3f80_0001, 0xbf80_0002], 0x2880_0000),
        ("fma.rz.f32 %d, %a, %b, %c;", [ONE, ONE, 0xa800_0000], ONE - 1),
        ("fma.rn.ftz.sat.f32 %d, %a, %b, %c;", [TWO, TWO, ONE], ONE),
        ("mad.rn.f32 %d, %a, %b, %c;", [TWO, THREE, ONE], 0x40e0_0000),
        ("div.rn.f32 %d, %a, %b;", [ONE, THREE, 0], 0x3eaa_aaab),
        ("div.rz.f32 %d, %a, %b;", [ONE, THREE, 0], 0x3eaa_aaaa),
        ("div.full.f32 %d, %a, %b;", [ONE, 0, 0], INF),
        ("div.approx.ftz.f32 %d, %a, %b;", [THREE, TWO, 0], 0x3fc0_0000),
        ("rcp.rn.f32 %d, %a;", [THREE, 0, 0], 0x3eaa_aaab),
        ("rcp.approx.ftz.f32 %d, %a;", [NZERO, 0, 0], NINF),
        ("rcp.rm.f32 %d, %a;", [THREE, 0, 0], 0x3eaa_aaaa),
        ("sqrt.rn.f32 %d, %a;", [TWO, 0, 0], 0x3fb5_04f3),
        ("sqrt.rp.f32 %d, %a;", [TWO, 0, 0], 0x3fb5_04f4),
        ("sqrt.approx.f32 %d, %a;", [0xbf80_0000, 0, 0], NAN),
        ("rsqrt.approx.f32 %d, %a;", [0x4080_0000, 0, 0], 0x3f00_0000),
        ("rsqrt.approx.f32 %d, %a;", [NZERO, 0, 0], NINF),
        ("ex2.approx.ftz.f32 %d, %a;", [THREE, 0, 0], 0x4100_0000),
        ("ex2.approx.ftz.f32 %d, %a;", [NINF, 0, 0], 0),
        ("ex2.approx.ftz.f32 %d, %a;", [INF, 0, 0], INF),
        ("ex2.approx.ftz.f32 %d, %a;", [NAN, 0, 0], NAN),
        ("ex2.approx.ftz.f32 %d, %a;", [0xc2fe_0000, 0, 0], 0),
        ("ex2.approx.f32 %d, %a;", [0xc2fe_0000, 0, 0], 0x0040_0000),
        ("lg2.approx.f32 %d, %a;", [0x4100_0000, 0, 0], THREE),
        ("lg2.approx.ftz.f32 %d, %a;", [TINY, 0, 0], NINF),
        ("sin.approx.f32 %d, %a;", [NZERO, 0, 0], NZERO),
        ("sin.approx.f32 %d, %a;", [INF, 0, 0], NAN),
        ("cos.approx.f32 %d, %a;", [0, 0, 0], ONE),
        ("tanh.approx.f32 %d, %a;", [INF, 0, 0], ONE),
        ("min.f32 %d, %a, %b;", [NAN, ONE, 0], ONE),
        ("min.f32 %d, %a, %b;", [NAN, NAN, 0], NAN),
        ("min.NaN.f32 %d, %a, %b;", [NAN, ONE, 0], NAN),
        ("min.f32 %d, %a, %b;", [0, NZERO, 0], NZERO),
        ("max.f32 %d, %a, %b;", [NZERO, 0, 0], 0),
        ("max.ftz.f32 %d, %a, %b;", [TINY, NZERO, 0], 0),
        ("max.xorsign.abs.f32 %d, %a, %b;", [0xc040_0000, TWO, 0], 0xc040_0000),
        ("abs.f32 %d, %a;", [0xbf80_0000, 0, 0], ONE),
        ("abs.ftz.f32 %d, %a;", [0x8000_0001, 0, 0], 0),
        ("neg.f32 %d, %a;", [ONE, 0, 0], 0xbf80_0000),
        ("copysign.f32 %d, %a, %b;", [NZERO, ONE, 0], 0xbf80_0000),
        ("mov.f32 %d, 1.5;", [0, 0, 0], 0x3fc0_0000),
        ("mov.f32 %d, -0f3F800000;", [0, 0, 0], 0xbf80_0000),
    ]);
}

#[test]
fn double_precision() {
    check_rows(&[
        ("add.f64 %w, %x, %y;", [D1, D2, 0], D3),
        ("add.rp.f64 %w, %x, %y;", [D1, 0x3000_0000_0000_0000, 0], D1 + 1),
        ("sub.rz.f64 %w, %x, %y;", [D1, 0x3000_0000_0000_0000, 0], D1 - 1),
        ("mul.rn.f64 %w, %x, %y;", [D2, D3, 0], 0x4018_0000_0000_0000),
        ("fma.rn.f64 %w, %x, %y, %z;", [D2, D3, D1], 0x401c_0000_0000_0000),
        ("fma.rm.f64 %w, %x, %y, %z;", [D1, D1, 0xb000_0000_0000_0000], D1 - 1),
        ("div.rn.f64 %w, %x, %y;", [D1, D3, 0], 0x3fd5_5555_5555_5555),
        ("div.rp.f64 %w, %x, %y;", [D1, D3, 0], 0x3fd5_5555_5555_5556),
        ("sqrt.rn.f64 %w, %x;", [0x4010_0000_0000_0000, 0, 0], D2),
        ("rcp.rn.f64 %w, %x;", [D2, 0, 0], 0x3fe0_0000_0000_0000),
        ("min.f64 %w, %x, %y;", [0x7ff8_0000_0000_0000, D1, 0], D1),
        ("abs.f64 %w, %x;", [0xbff0_0000_0000_0000, 0, 0], D1),
        ("neg.f64 %w, %x;", [D1, 0, 0], 0xbff0_0000_0000_0000),
        ("mov.f64 %w, 0d3FF0000000000000;", [0, 0, 0], D1),
        ("copysign.f64 %w, %x, %y;", [1 << 63, D1, 0], 0xbff0_0000_0000_0000),
    ]);
}

#[test]
fn half_precision() {
    let half = |op: &str| -> String {
        format!("cvt.u16.u32 %h1, %a; cvt.u16.u32 %h2, %b; cvt.u16.u32 %h3, %c; {op} cvt.u32.u16 %d, %h4;")
    };
    let rows: Vec<(String, [u64; 3], u64)> = vec![
        (half("add.f16 %h4, %h1, %h2;"), [0x3c00, 0x4000, 0], 0x4200),
        (half("add.f16 %h4, %h1, %h2;"), [0x7bff, 0x7bff, 0], 0x7c00),
        (half("add.sat.f16 %h4, %h1, %h2;"), [0x3c00, 0x4000, 0], 0x3c00),
        (half("sub.f16 %h4, %h1, %h2;"), [0x3c00, 0x3c00, 0], 0),
        (half("mul.f16 %h4, %h1, %h2;"), [0x0001, 0x3800, 0], 0),
        (half("mul.f16 %h4, %h1, %h2;"), [0x0003, 0x3800, 0], 2),
        (half("mul.ftz.f16 %h4, %h1, %h2;"), [0x0400, 0x3800, 0], 0),
        // 1.5 * 2^-11 above the tie only because of the tiny addend: one rounding gives 0x3c01.
        (half("fma.rn.f16 %h4, %h1, %h2, %h3;"), [0x1000, 0x3c00, 0x3c00], 0x3c00),
        (half("fma.rn.f16 %h4, %h1, %h2, %h3;"), [0x1001, 0x3c00, 0x3c00], 0x3c01),
        (half("fma.rn.relu.f16 %h4, %h1, %h2, %h3;"), [0xbc00, 0x3c00, 0], 0),
        (half("max.f16 %h4, %h1, %h2;"), [0x7e00, 0x3c00, 0], 0x3c00),
        (half("max.NaN.f16 %h4, %h1, %h2;"), [0x7e00, 0x3c00, 0], 0x7fff),
        (half("neg.f16 %h4, %h1;"), [0x3c00, 0, 0], 0xbc00),
        (half("abs.bf16 %h4, %h1;"), [0xbf80, 0, 0], 0x3f80),
        (half("add.bf16 %h4, %h1, %h2;"), [0x3f80, 0x4000, 0], 0x4040),
        (half("add.bf16 %h4, %h1, %h2;"), [0x3f80, 0x3b80, 0], 0x3f80),
        (half("fma.rn.bf16 %h4, %h1, %h2, %h3;"), [0x3f81, 0x3f81, 0], 0x3f82),
        (half("mul.bf16 %h4, %h1, %h2;"), [0x4000, 0x4040, 0], 0x40c0),
        (half("ex2.approx.f16 %h4, %h1;"), [0x4200, 0, 0], 0x4800),
        (half("tanh.approx.bf16 %h4, %h1;"), [0x7f80, 0, 0], 0x3f80),
        ("add.f16x2 %d, %a, %b;".into(), [0x3c00_4000, 0x3c00_3c00, 0], 0x4000_4200),
        ("fma.rn.f16x2 %d, %a, %b, %c;".into(), [0x3c00_4000, 0x4000_4000, 0x3c00_3c00], 0x4200_4500),
        ("mul.bf16x2 %d, %a, %b;".into(), [0x3f80_4000, 0x4000_4000, 0], 0x4000_4080),
        ("neg.f16x2 %d, %a;".into(), [0x3c00_bc00, 0, 0], 0xbc00_3c00),
        ("min.bf16x2 %d, %a, %b;".into(), [0x3f80_4000, 0x4000_3f80, 0], 0x3f80_3f80),
    ];
    for (body, inputs, expected) in rows {
        let got = run_rows(&body, &[inputs])[0];
        assert_eq!(got, expected, "{body} of {inputs:x?}: {got:#x}, expected {expected:#x}");
    }
}

#[test]
fn conversions() {
    check_rows(&[
        ("cvt.s64.s32 %w, %a;", [M1, 0, 0], MM1),
        ("cvt.u64.u32 %w, %a;", [M1, 0, 0], M1),
        ("cvt.s32.s8 %d, %a;", [0x80, 0, 0], 0xffff_ff80),
        ("cvt.u32.u8 %d, %a;", [0x1ff, 0, 0], 0xff),
        ("cvt.s32.s16 %d, %a;", [0x8000, 0, 0], 0xffff_8000),
        ("cvt.s16.s8 %h1, %a; cvt.u32.u16 %d, %h1;", [0x80, 0, 0], 0xff80),
        ("cvt.s8.s32 %d, %a;", [0x1ff, 0, 0], M1),
        ("cvt.sat.u8.s32 %d, %a;", [300, 0, 0], 255),
        ("cvt.sat.u8.s32 %d, %a;", [M1, 0, 0], 0),
        ("cvt.sat.s8.s32 %d, %a;", [0xffff_ff00, 0, 0], 0xffff_ff80),
        ("cvt.sat.u32.s64 %d, %x;", [MM1, 0, 0], 0),
        ("cvt.rn.f32.s32 %d, %a;", [M1, 0, 0], 0xbf80_0000),
        ("cvt.rn.f32.u32 %d, %a;", [M1, 0, 0], 0x4f80_0000),
        ("cvt.rz.f32.u32 %d, %a;", [M1, 0, 0], 0x4f7f_ffff),
        ("cvt.rn.f32.u64 %d, %x;", [MM1, 0, 0], 0x5f80_0000),
        ("cvt.rn.f32.s64 %d, %x;", [0x0080_0000_8000_0001, 0, 0], 0x5b00_0001),
        ("cvt.rn.f64.s64 %w, %x;", [MM1, 0, 0], 0xbff0_0000_0000_0000),
        ("cvt.rp.f64.u64 %w, %x;", [MM1, 0, 0], 0x43f0_0000_0000_0000),
        ("cvt.rm.f64.u64 %w, %x;", [MM1, 0, 0], 0x43ef_ffff_ffff_ffff),
        ("cvt.rzi.s32.f32 %d, %a;", [0xbfc0_0000, 0, 0], M1),
        ("cvt.rni.s32.f32 %d, %a;", [0x4020_0000, 0, 0], 2),
        ("cvt.rpi.s32.f32 %d, %a;", [0x4020_0000, 0, 0], 3),
        ("cvt.rmi.s32.f32 %d, %a;", [0xbfc0_0000, 0, 0], 0xffff_fffe),
        ("cvt.rzi.s32.f32 %d, %a;", [NAN, 0, 0], 0),
        ("cvt.rzi.s32.f32 %d, %a;", [INF, 0, 0], 0x7fff_ffff),
        ("cvt.rzi.u32.f32 %d, %a;", [0xbf80_0000, 0, 0], 0),
        ("cvt.rzi.u64.f64 %w, %x;", [0x7ff0_0000_0000_0000, 0, 0], MM1),
        ("cvt.rzi.u8.f32 %d, %a;", [0x43ff_0000, 0, 0], 255),
        ("cvt.rni.f32.f32 %d, %a;", [0x4020_0000, 0, 0], TWO),
        ("cvt.rmi.f32.f32 %d, %a;", [0xbf00_0000, 0, 0], 0xbf80_0000),
        ("cvt.rpi.f32.f32 %d, %a;", [0xbf00_0000, 0, 0], NZERO),
        ("cvt.sat.f32.f32 %d, %a;", [TWO, 0, 0], ONE),
        ("cvt.f64.f32 %w, %a;", [ONE, 0, 0], D1),
        ("cvt.rn.f32.f64 %d, %x;", [0x3ff0_0000_1000_0000, 0, 0], ONE),
        ("cvt.rp.f32.f64 %d, %x;", [0x3ff0_0000_0000_0001, 0, 0], ONE + 1),
        ("cvt.rn.ftz.f32.f64 %d, %x;", [0x3690_0000_0000_0000, 0, 0], 0),
        ("cvt.rn.f16.f32 %h1, %a; cvt.u32.u16 %d, %h1;", [ONE, 0, 0], 0x3c00),
        ("cvt.rz.f16.f32 %h1, %a; cvt.u32.u16 %d, %h1;", [0x3f80_3fff, 0, 0], 0x3c01),
        ("cvt.rn.f16.f64 %h1, %x; cvt.u32.u16 %d, %h1;", [0x3ff0_0200_0000_0001, 0, 0], 0x3c01),
        ("cvt.u16.u32 %h1, %a; cvt.f32.f16 %d, %h1;", [1, 0, 0], 0x3380_0000),
        ("cvt.u16.u32 %h1, %a; cvt.f32.bf16 %d, %h1;", [0x3f80, 0, 0], ONE),
        ("cvt.rn.bf16.f32 %h1, %a; cvt.u32.u16 %d, %h1;", [0x3f80_8000, 0, 0], 0x3f80),
        ("cvt.rn.bf16.f32 %h1, %a; cvt.u32.u16 %d, %h1;", [0x3f81_8000, 0, 0], 0x3f82),
        ("cvt.rz.bf16.f32 %h1, %a; cvt.u32.u16 %d, %h1;", [0x3f81_ffff, 0, 0], 0x3f81),
        ("cvt.rn.f16.s32 %h1, %a; cvt.u32.u16 %d, %h1;", [2049, 0, 0], 0x6800),
        ("cvt.u16.u32 %h1, %a; cvt.rzi.s32.f16 %d, %h1;", [0xc100, 0, 0], 0xffff_fffe),
        ("cvt.rn.f16x2.f32 %d, %a, %b;", [ONE, TWO, 0], 0x3c00_4000),
        ("cvt.rn.bf16x2.f32 %d, %a, %b;", [ONE, TWO, 0], 0x3f80_4000),
        ("cvt.rz.bf16x2.f32 %d, %a, %b;", [0x3f80_ffff, TWO, 0], 0x3f80_4000),
        ("cvt.rn.relu.bf16x2.f32 %d, %a, %b;", [0xbf80_0000, TWO, 0], 0x4000),
        ("cvt.rna.tf32.f32 %d, %a;", [0x3f80_1000, 0, 0], 0x3f80_2000),
    ]);
}

#[test]
fn wide_registers_take_narrow_values() {
    check_rows(&[
        ("{ .reg .b64 p; mov.u64 p, %in; ld.global.s8 %w, [p+1]; }", [0xff00, 0, 0], MM1),
        ("ld.global.u8 %d, [%in+1];", [0xff00, 0, 0], 0xff),
        ("ld.global.s16 %d, [%in];", [0x8000, 0, 0], 0xffff_8000),
        ("ld.global.s8 %h1, [%in]; cvt.u32.u16 %d, %h1;", [0x80, 0, 0], 0xff80),
        ("ld.global.v2.u32 {%r1, %d}, [%in];", [7 << 32, 0, 0], 7),
        ("ld.global.v2.u16 {%h1, %h2}, [%in]; cvt.u32.u16 %d, %h2;", [0x0005_0000, 0, 0], 5),
        ("ld.global.nc.L1::no_allocate.u32 %d, [%in];", [9, 0, 0], 9),
        ("ld.acquire.gpu.global.u32 %d, [%in]; fence.acq_rel.gpu; membar.gl;", [9, 0, 0], 9),
    ]);
}

#[test]
#[should_panic(expected = "expected 0x4")]
fn the_table_notices_a_wrong_result() {
    check_rows(&[("add.u32 %d, %a, %b;", [1, 2, 0], 4)]);
}
