//! Packed integers, 8-bit floats, packed `set`, `lop3` with a predicate: one row a form, as in `instructions.rs`.

mod common;
use common::{check_rows, kernel};
use ptx_emulator::Module;

#[test]
fn packed_integers_wrap_in_each_half() {
    check_rows(&[
        ("add.u16x2 %d, %a, %b;", [0xffff_0001, 0x0001_ffff, 0], 0),
        ("add.s16x2 %d, %a, %b;", [0x7fff_8000, 0x0001_ffff, 0], 0x8000_7fff),
        ("min.u16x2 %d, %a, %b;", [0xffff_0001, 0x0001_ffff, 0], 0x0001_0001),
        ("min.s16x2 %d, %a, %b;", [0xffff_0001, 0x0001_ffff, 0], 0xffff_ffff),
        ("max.u16x2 %d, %a, %b;", [0xffff_0001, 0x0001_ffff, 0], 0xffff_ffff),
        ("max.s16x2 %d, %a, %b;", [0x8000_0001, 0xffff_ffff, 0], 0xffff_0001),
        ("max.s16x2.relu %d, %a, %b;", [0x8000_0001, 0xffff_ffff, 0], 1),
        ("min.relu.s16x2 %d, %a, %b;", [0x7fff_0005, 0x0003_ffff, 0], 0x0003_0000),
    ]);
}

#[test]
fn video_instructions_of_two_and_four_elements() {
    check_rows(&[
        ("vadd4.u32.u32.u32 %d, %a, %b, %c;", [0xff01_02ff, 0x0101_0101, 0], 0x0002_0300),
        ("vadd4.u32.u32.u32.sat %d, %a, %b, %c;", [0xff01_02ff, 0x0101_0101, 0], 0xff02_03ff),
        ("vadd2.s32.s32.s32.sat %d, %a, %b, %c;", [0x7fff_8000, 0x0001_ffff, 0], 0x7fff_8000),
        // Only the elements of the mask; the others are those of c.
        ("vadd4.u32.u32.u32 %d.b10, %a, %b, %c;", [0x0101_0101, 0x0101_0101, 0xaaaa_aaaa], 0xaaaa_0202),
        ("vsub2.u32.u32.u32 %d.h1, %a, %b, %c;", [0x0000_0005, 0x0001_0001, 7], 0xffff_0007),
        ("vsub4.u32.u32.u32.sat %d, %a, %b, %c;", [0x0005_0005, 0x0101_0101, 0], 0x0004_0004),
        ("vmin4.u32.u32.u32 %d, %a, %b, %c;", [0xff01_02ff, 0x0101_0101, 0], 0x0101_0101),
        ("vmax4.s32.s32.s32 %d, %a, %b, %c;", [0xff01_02ff, 0x0101_0101, 0], 0x0101_0201),
        ("vmin2.s32.s32.s32 %d, %a, %b, %c;", [0xffff_0001, 0, 0], 0xffff_0000),
        ("vmax2.u32.u32.u32 %d, %a, %b, %c;", [0xffff_0001, 0, 0], 0xffff_0001),
        ("vavrg4.u32.u32.u32 %d, %a, %b, %c;", [0xff00_0102, 0xff01_0103, 0], 0xff01_0103),
        ("vavrg2.s32.s32.s32 %d, %a, %b, %c;", [0xffff_0001, 0xfffe_0002, 0], 0xfffe_0002),
        ("vabsdiff4.u32.u32.u32 %d, %a, %b, %c;", [0xff01_0200, 0x0102_0500, 0], 0xfe01_0300),
        ("vabsdiff4.u32.u32.u32.add %d, %a, %b, %c;", [0xff01_0200, 0x0102_0500, 10], 0xfe + 1 + 3 + 10),
        ("vabsdiff2.u32.s32.s32 %d, %a, %b, %c;", [0x8000_0001, 0x7fff_ffff, 0], 0xffff_0002),
        ("vset4.u32.u32.gt %d, %a, %b, %c;", [0xff01_0200, 0x0102_0500, 0], 0x0100_0000),
        ("vset2.s32.s32.lt.add %d, %a, %b, %c;", [0xffff_8000, 0x0000_7fff, 5], 7),
    ]);
}

#[test]
fn eight_bit_floats_narrow_once_and_saturate() {
    let (one, big, tiny) = (0x3f80_0000, 0x7149_f2ca, 0x3a80_0000); // 1, 1e30, 2^-10
    let narrow = |ty: &str| format!("cvt.rn.satfinite.{ty}.f32 %h1, %a, %b; cvt.u32.u16 %d, %h1;");
    let (e4m3, e5m2) = (narrow("e4m3x2"), narrow("e5m2x2"));
    check_rows(&[
        (&e4m3, [one, 0xbf80_0000, 0], 0x38b8),
        (&e5m2, [one, 0xbf80_0000, 0], 0x3cbc),
        // Infinity and what is too large become the largest number, NaN stays.
        (&e4m3, [big, 0xff80_0000, 0], 0x7efe),
        (&e5m2, [big, 0xff80_0000, 0], 0x7bfb),
        (&e4m3, [0x7fc0_0000, 0xffc0_0000, 0], 0x7f7f),
        // 2^-10 is half of the smallest number: a tie, to even.
        (&e4m3, [tiny, tiny + 1, 0], 0x0001),
        (&e4m3, [0x8000_0000, 0, 0], 0x8000),
        // 17 between 16 and 18, 19 between 18 and 20.
        (&e4m3, [0x4188_0000, 0x4198_0000, 0], 0x585a),
        ("cvt.rn.satfinite.relu.e4m3x2.f32 %h1, %a, %b; cvt.u32.u16 %d, %h1;", [one, 0xbf80_0000, 0], 0x3800),
        ("cvt.rn.satfinite.e5m2x2.f16x2 %h1, %a; cvt.u32.u16 %d, %h1;", [0x3c00_fc00, 0, 0], 0x3cfb),
        ("cvt.rn.satfinite.relu.e4m3x2.f16x2 %h1, %a; cvt.u32.u16 %d, %h1;", [0xbc00_7c00, 0, 0], 0x007e),
        ("cvt.u16.u32 %h1, %a; cvt.rn.f16x2.e4m3x2 %d, %h1;", [0x38fe, 0, 0], 0x3c00_df00),
        ("cvt.u16.u32 %h1, %a; cvt.rn.f16x2.e4m3x2 %d, %h1;", [0x017f, 0, 0], 0x1800_7fff),
        ("cvt.u16.u32 %h1, %a; cvt.rn.f16x2.e5m2x2 %d, %h1;", [0x7c01, 0, 0], 0x7c00_0100),
        ("cvt.u16.u32 %h1, %a; cvt.rn.relu.f16x2.e5m2x2 %d, %h1;", [0xbc3c, 0, 0], 0x3c00),
    ]);
}

#[test]
fn packed_comparisons_give_ones_or_masks() {
    check_rows(&[
        ("set.gt.f16x2.f16x2 %d, %a, %b;", [0x4000_3c00, 0x3c00_3c00, 0], 0x3c00_0000),
        ("set.leu.f16x2.f16x2 %d, %a, %b;", [0x7e00_3c00, 0x3c00_3c00, 0], 0x3c00_3c00),
        ("set.eq.u32.f16x2 %d, %a, %b;", [0x8000_7e00, 0x0000_7e00, 0], 0xffff_0000),
        ("set.lt.bf16x2.bf16x2 %d, %a, %b;", [0x3f80_ff80, 0x4000_3f80, 0], 0x3f80_3f80),
        (
            "setp.eq.u32 %p1, %c, 0; set.ge.and.f16x2.f16x2 %d, %a, %b, !%p1;",
            [0x3c00_3c00, 0x3c00_4000, 5],
            0x3c00_0000,
        ),
    ]);
}

#[test]
fn lop3_says_whether_its_result_is_zero() {
    let say = "selp.u32 %r1, 2, 0, %p2; and.b32 %d, %d, 1; or.b32 %d, %d, %r1;";
    let body = |form: &str| format!("setp.ne.u32 %p1, %c, 0; {form} {say}");
    check_rows(&[
        (&body("lop3.or.b32 %d|%p2, %a, %b, 0, 0xc0, %p1;"), [3, 1, 0], 3),
        (&body("lop3.or.b32 %d|%p2, %a, %b, 0, 0xc0, %p1;"), [2, 1, 0], 0),
        (&body("lop3.or.b32 %d|%p2, %a, %b, 0, 0xc0, !%p1;"), [2, 1, 0], 2),
        (&body("lop3.and.b32 %d|%p2, %a, %b, 0, 0xc0, %p1;"), [3, 1, 0], 1),
        (&body("lop3.and.b32 _|%p2, %a, %b, 0, 0xc0, %p1;"), [3, 1, 1], 2),
    ]);
}

#[test]
fn forms_that_do_not_exist_are_refused() {
    for body in [
        "add.relu.s16x2 %d, %a, %b;",
        "min.relu.u16x2 %d, %a, %b;",
        "vadd4.u32.u32.u32 %d.b44, %a, %b, %c;",
        "vadd2.u32.u32.u32 %d.b1, %a, %b, %c;",
        "vset4.u32.u32.is %d, %a, %b, %c;",
        "cvt.rz.satfinite.e4m3x2.f32 %h1, %a, %b;",
        "cvt.rn.e4m3x2.f32 %h1, %a, %b;",
        "lop3.xor.b32 %d|%p2, %a, %b, 0, 0xc0, %p1;",
        "set.gt.f64.f16x2 %w, %a, %b;",
    ] {
        assert!(Module::parse(&kernel(body)).is_err(), "{body}");
    }
}

#[test]
fn two_integers_are_cut_to_a_type_and_packed() {
    let [minus, big] = [-200i32, 70_000].map(|x| u64::from(x as u32));
    check_rows(&[
        ("cvt.pack.sat.u16.s32 %d, %a, %b;", [big, 5, 0], 0xffff_0005),
        ("cvt.pack.sat.u16.s32 %d, %a, %b;", [7, minus, 0], 0x0007_0000),
        ("cvt.pack.sat.s16.s32 %d, %a, %b;", [big, minus, 0], 0x7fff_ff38),
        // The lower bits of c above them.
        ("cvt.pack.sat.u8.s32.b32 %d, %a, %b, %c;", [300, minus, 0x9_8765], 0x8765_ff00),
        ("cvt.pack.sat.s8.s32.b32 %d, %a, %b, %c;", [300, minus, 0x1234], 0x1234_7f80),
        ("cvt.pack.sat.s8.s32.b32 %d, -1, 1, 0;", [0; 3], 0xff01),
        ("cvt.pack.sat.u4.s32.b32 %d, %a, %b, %c;", [9, 300, 0xf123_4567], 0x2345_679f),
        ("cvt.pack.sat.s4.s32.b32 %d, %a, %b, %c;", [9, minus, 0], 0x78),
        ("cvt.pack.sat.u2.s32.b32 %d, %a, %b, %c;", [2, 9, 1], 0x1b),
        ("cvt.pack.sat.s2.s32.b32 %d, %a, %b, %c;", [2, minus, 0xffff_ffff], 0xffff_fff6),
    ]);
    for bad in [
        "cvt.pack.sat.u16.s32 %d, %a, %b, %c;",
        "cvt.pack.sat.u8.s32.b32 %d, %a, %b;",
        "cvt.pack.u8.s32.b32 %d, %a, %b, %c;",
        "cvt.pack.sat.u8.u32.b32 %d, %a, %b, %c;",
        "cvt.pack.sat.u8.s32 %d, %a, %b, %c;",
    ] {
        assert!(Module::parse(&common::kernel(bad)).is_err(), "{bad}");
    }
}
