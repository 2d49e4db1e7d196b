//! `wmma`, and the shapes of `mma` of small integers, single bits and f64.

mod common;
use common::bits::{bf16, f16};
use common::{emulator, launch};
use ptx_emulator::Module;

/// A number as the bits of a type; halves and bf16 of small integers are exact.
fn encode(ty: &str, x: i32) -> u64 {
    match ty {
        "f64" => f64::from(x).to_bits(),
        "f32" | "tf32" => u64::from((x as f32).to_bits()),
        "bf16" => bf16(x).into(),
        "f16" => f16(x).into(),
        _ => x as u64 & (u64::MAX >> (64 - bits(ty))),
    }
}

fn bits(ty: &str) -> usize {
    match ty {
        "f64" => 64,
        "f32" | "tf32" | "s32" => 32,
        "f16" | "bf16" => 16,
        "s8" | "u8" => 8,
        "s4" | "u4" => 4,
        _ => 1,
    }
}

/// Numbers that a type has, different ones at different places.
fn number(ty: &str, row: usize, column: usize, seed: usize) -> i32 {
    let x = (row * 7 + column * 3 + row * column + seed) as i32;
    match ty {
        "b1" => x % 3 % 2,
        "u4" | "u8" => x % 16,
        "s4" | "s8" => x % 16 - 8,
        _ => x % 9 - 4,
    }
}

/// A matrix in memory with so many elements between its rows, or columns.
fn stored(
    ty: &str,
    (rows, columns): (usize, usize),
    row_major: bool,
    stride: usize,
    value: impl Fn(usize, usize) -> i32,
) -> Vec<u8> {
    let long = if row_major { rows } else { columns };
    let mut bytes = vec![0u8; (long * stride * bits(ty)).div_ceil(8)];
    for row in 0..rows {
        for column in 0..columns {
            let at = if row_major { row * stride + column } else { column * stride + row } * bits(ty);
            let code = encode(ty, value(row, column)) << (at % 8);
            for (k, byte) in code.to_le_bytes().iter().enumerate().take(bits(ty).div_ceil(8)) {
                bytes[at / 8 + k] |= byte;
            }
        }
    }
    bytes
}

/// `a · b + c`; of single bits how many differ, or with `both` how many are set in both.
fn product(
    ty: [&str; 2],
    k: usize,
    both: bool,
    a: impl Fn(usize, usize) -> i32,
    b: impl Fn(usize, usize) -> i32,
) -> impl Fn(usize, usize) -> i32 {
    let differ = ty[0] == "b1" && !both;
    move |row, column| {
        let term = |i| if differ { (a(row, i) + b(i, column)) % 2 } else { a(row, i) * b(i, column) };
        (0..k).map(term).sum::<i32>() + number("s8", row, column, 5)
    }
}

fn list(prefix: &str, count: usize) -> String {
    let all: Vec<String> = (0..count).map(|r| format!("%{prefix}{r}")).collect();
    format!("{{{}}}", all.join(", "))
}

struct Wmma {
    shape: (usize, usize, usize),
    /// Types of a, b, c, d.
    types: [&'static str; 4],
    /// Registers of a, b, c, d.
    registers: [usize; 4],
    /// Whether a, b, c, d are row major.
    rows: [bool; 4],
    /// `.global`, `.shared` or nothing.
    space: &'static str,
    /// `.xor.popc` or `.and.popc`.
    operation: &'static str,
}

impl Wmma {
    /// The types as the product names them.
    fn named(&self) -> String {
        let [a, b, c, d] = self.types;
        if a == "f16" { format!("{d}.{c}") } else { format!("{d}.{a}.{b}.{c}") }
    }

    fn kernel(&self) -> String {
        let (m, n, k) = self.shape;
        let shape = format!("m{m}n{n}k{k}");
        let layout = |row: bool| if row { "row" } else { "col" };
        let [ra, rb, rc, rd] = self.rows.map(layout);
        let [a, b, c, d] = self.types;
        let [na, nb, nc, nd] = self.registers;
        let (ty, space) = (if a == "f64" { "f64" } else { "b32" }, self.space);
        // The matrices lie 8192 bytes apart; shared memory gets a copy.
        let copy = "mov.u32 %i, %tid.x; shl.b32 %i, %i, 4; LOOP: cvt.u64.u32 %o, %i; add.u64 %q, %in, %o; add.u32 %s, %i, %base;
            ld.global.v4.b32 {%w0, %w1, %w2, %w3}, [%q]; st.shared.v4.b32 [%s], {%w0, %w1, %w2, %w3}; add.u32 %i, %i, 512;
            setp.lt.u32 %p, %i, 32768; @%p bra LOOP; bar.warp.sync -1; mov.u64 %in, tile; add.u64 %out, %in, 24576;";
        let back = "add.u64 %q, %result, 0; mov.u32 %i, %tid.x; shl.b32 %i, %i, 4; bar.warp.sync -1; BACK: cvt.u64.u32 %o, %i;
            add.u64 %q, %result, %o; add.u32 %s, %i, %base; ld.shared.v4.b32 {%w0, %w1, %w2, %w3}, [%s+24576];
            st.global.v4.b32 [%q], {%w0, %w1, %w2, %w3}; add.u32 %i, %i, 512; setp.lt.u32 %p, %i, 8192; @%p bra BACK;";
        let (before, after) = if space == ".shared" { (copy, back) } else { ("", "") };
        format!(
            ".version 8.3\n.target sm_90a\n.address_size 64
            .visible .entry k(.param .u64 in, .param .u64 out, .param .u32 stride) {{
            .shared .align 128 .b8 tile[32768];
            .reg .{ty} %a<16>, %b<16>, %c<16>, %d<16>; .reg .b32 %w<4>, %i, %s, %base, %ld; .reg .b64 %in, %out, %result, %q, %o; .reg .pred %p;
            ld.param.u64 %in, [in]; ld.param.u64 %out, [out]; ld.param.u32 %ld, [stride]; mov.u64 %result, %out; mov.u32 %base, tile;
            {before}
            wmma.load.a.sync.aligned.{ra}.{shape}{space}.{a} {}, [%in], %ld;
            wmma.load.b.sync.aligned.{rb}.{shape}{space}.{b} {}, [%in+8192], %ld;
            wmma.load.c.sync.aligned.{rc}.{shape}{space}.{c} {}, [%in+16384], %ld;
            wmma.mma{}.sync.aligned.{ra}.{rb}.{shape}.{} {}, {}, {}, {};
            wmma.store.d.sync.aligned.{rd}.{shape}{space}.{d} [%out], {}, %ld;
            {after}
            ret; }}",
            list("a", na), list("b", nb), list("c", nc), self.operation, self.named(),
            list("d", nd), list("a", na), list("b", nb), list("c", nc), list("d", nd),
        )
    }

    fn check(&self) {
        let (m, n, k) = self.shape;
        let [ta, tb, tc, td] = self.types;
        let stride = 32.max(k);
        let emulator = emulator();
        let (input, output) = (emulator.alloc(32768).unwrap(), emulator.alloc(8192).unwrap());
        let a = |r: usize, c: usize| number(ta, r, c, 1);
        let b = |r: usize, c: usize| number(tb, r, c, 2);
        let c = |r: usize, c: usize| number("s8", r, c, 5);
        emulator.write(input, &stored(ta, (m, k), self.rows[0], stride, a)).unwrap();
        emulator.write(input + 8192, &stored(tb, (k, n), self.rows[1], stride, b)).unwrap();
        emulator.write(input + 16384, &stored(tc, (m, n), self.rows[2], stride, c)).unwrap();
        let args: [&[u8]; 3] = [&input.to_le_bytes(), &output.to_le_bytes(), &(stride as u32).to_le_bytes()];
        launch(&self.kernel(), "k", 1, 32, 0, &emulator, &args).unwrap();
        let expected = stored(
            td,
            (m, n),
            self.rows[3],
            stride,
            product([ta, tb], k, self.operation == ".and.popc", a, b),
        );
        let mut found = vec![0; expected.len()];
        emulator.read(output, &mut found).unwrap();
        assert_eq!(found, expected, "{:?} {:?} {:?} {}", self.shape, self.types, self.rows, self.space);
    }
}

const SQUARE: (usize, usize, usize) = (16, 16, 16);

#[test]
fn wmma_multiplies_matrices_of_every_type_and_shape() {
    let rows = [[true; 4], [false; 4], [true, false, true, false], [false, true, false, true]];
    for (types, shapes) in [
        (
            ["f16", "f16", "f32", "f32"],
            [(SQUARE, [8, 8, 8, 8]), ((32, 8, 16), [8, 8, 8, 8]), ((8, 32, 16), [8, 8, 8, 8])],
        ),
        (
            ["f16", "f16", "f16", "f16"],
            [(SQUARE, [8, 8, 4, 4]), ((32, 8, 16), [8, 8, 4, 4]), ((8, 32, 16), [8, 8, 4, 4])],
        ),
        (
            ["f16", "f16", "f16", "f32"],
            [(SQUARE, [8, 8, 4, 8]), ((32, 8, 16), [8, 8, 4, 8]), ((8, 32, 16), [8, 8, 4, 8])],
        ),
        (
            ["bf16", "bf16", "f32", "f32"],
            [(SQUARE, [4, 4, 8, 8]), ((32, 8, 16), [8, 2, 8, 8]), ((8, 32, 16), [2, 8, 8, 8])],
        ),
        (
            ["s8", "s8", "s32", "s32"],
            [(SQUARE, [2, 2, 8, 8]), ((32, 8, 16), [4, 1, 8, 8]), ((8, 32, 16), [1, 4, 8, 8])],
        ),
        (
            ["u8", "u8", "s32", "s32"],
            [(SQUARE, [2, 2, 8, 8]), ((32, 8, 16), [4, 1, 8, 8]), ((8, 32, 16), [1, 4, 8, 8])],
        ),
        (["tf32", "tf32", "f32", "f32"], [((16, 16, 8), [4, 4, 8, 8]); 3]),
        (["f64", "f64", "f64", "f64"], [((8, 8, 4), [1, 1, 2, 2]); 3]),
    ] {
        for (shape, registers) in shapes {
            for rows in rows {
                for space in ["", ".global", ".shared"] {
                    Wmma { shape, types, registers, rows, space, operation: "" }.check();
                }
            }
        }
    }
}

#[test]
fn wmma_multiplies_numbers_of_four_bits_and_of_one() {
    for d_rows in [true, false] {
        let rows = [true, false, true, d_rows];
        for ty in ["s4", "u4"] {
            let types = [ty, ty, "s32", "s32"];
            Wmma { shape: (8, 8, 32), types, registers: [1, 1, 2, 2], rows, space: ".global", operation: "" }
                .check();
        }
        for operation in [".xor.popc", ".and.popc"] {
            let types = ["b1", "b1", "s32", "s32"];
            Wmma { shape: (8, 8, 128), types, registers: [1, 1, 2, 2], rows, space: ".shared", operation }
                .check();
        }
    }
}

/// Lane and register of an element of A (by row and column) or of B (by column and row), of the accumulator: the manual's figures of
/// `mma.m8n8k*` and `mma.m16n8k*`, where `each` elements share a register.
fn place_of_factor(row: usize, k: usize, each: usize, tall: bool) -> (usize, usize, usize) {
    let lane = row % 8 * 4 + k / each % 4;
    let register = k / (4 * each) * if tall { 2 } else { 1 } + row / 8;
    (lane, register, k % each)
}

fn place_of_sum(row: usize, column: usize) -> (usize, usize) {
    (row % 8 * 4 + column / 2, row / 8 * 2 + column % 2)
}

fn mma_kernel(mnemonic: &str, wide: bool, [a, b, c]: [usize; 3]) -> String {
    let (ty, size) = if wide { ("b64", 8) } else { ("b32", 4) };
    let moves = |what: &str, prefix: &str, count: usize, base: &str, from: usize| -> String {
        let each = |r: usize| {
            let at = (from + r) * 32 * size;
            if what == "ld" {
                format!("ld.global.{ty} %{prefix}{r}, [%{base}+{at}];")
            } else {
                format!("st.global.{ty} [%{base}+{at}], %{prefix}{r};")
            }
        };
        (0..count).map(each).collect()
    };
    format!(
        ".version 8.3\n.target sm_90a\n.address_size 64
        .visible .entry k(.param .u64 in, .param .u64 out) {{
        .reg .{ty} %a<8>, %b<8>, %c<8>; .reg .b64 %in, %out; .reg .b32 %t;
        ld.param.u64 %in, [in]; ld.param.u64 %out, [out]; mov.u32 %t, %laneid;
        mad.wide.u32 %in, %t, {size}, %in; mad.wide.u32 %out, %t, {size}, %out;
        {}{}{}
        {mnemonic} {}, {}, {}, {};
        {} ret; }}",
        moves("ld", "a", a, "in", 0),
        moves("ld", "b", b, "in", 8),
        moves("ld", "c", c, "in", 16),
        list("c", c),
        list("a", a),
        list("b", b),
        list("c", c),
        moves("st", "c", c, "out", 0),
    )
}

fn check_mma(shape: (usize, usize, usize), types: [&'static str; 2], suffix: &str) {
    let (m, n, k) = shape;
    let wide = types[0] == "f64";
    let each = if wide { 1 } else { 32 / bits(types[0]) };
    let sum = if wide { "f64" } else { "s32" };
    let mnemonic =
        format!("mma.sync.aligned.m{m}n{n}k{k}.row.col.{sum}.{}.{}.{sum}{suffix}", types[0], types[1]);
    let size = if wide { 8 } else { 4 };
    let mut words = vec![0u64; 32 * 24];
    let a = |r: usize, c: usize| number(types[0], r, c, 1);
    let b = |r: usize, c: usize| number(types[1], r, c, 2);
    let shift = |j: usize| j * bits(types[0]) % 64;
    for i in 0..k {
        for row in 0..m {
            let (lane, register, j) = place_of_factor(row, i, each, m == 16);
            words[32 * register + lane] |= encode(types[0], a(row, i)) << shift(j);
        }
        for column in 0..n {
            let (lane, register, j) = place_of_factor(column, i, each, false);
            words[32 * (8 + register) + lane] |= encode(types[1], b(i, column)) << shift(j);
        }
    }
    let value = product(types, k, suffix == ".and.popc", a, b);
    let mut expected = vec![0u64; 32 * m / 8 * 2];
    for row in 0..m {
        for column in 0..n {
            let (lane, register) = place_of_sum(row, column);
            words[32 * (16 + register) + lane] = encode(sum, number("s8", row, column, 5));
            expected[32 * register + lane] = encode(sum, value(row, column));
        }
    }
    let bytes =
        |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|w| w.to_le_bytes()[..size].to_vec()).collect() };
    let emulator = emulator();
    let (input, output) = (emulator.alloc(8192).unwrap(), emulator.alloc(8192).unwrap());
    emulator.write(input, &bytes(&words)).unwrap();
    let factors = |rows: usize| rows / 8 * k / (4 * each);
    let text = mma_kernel(&mnemonic, wide, [factors(m), factors(n), m / 8 * 2]);
    launch(&text, "k", 1, 32, 0, &emulator, &[&input.to_le_bytes(), &output.to_le_bytes()]).unwrap();
    let mut found = vec![0; expected.len() * size];
    emulator.read(output, &mut found).unwrap();
    assert_eq!(found, bytes(&expected), "{mnemonic}");
}

#[test]
fn mma_of_small_integers_bits_and_doubles() {
    for types in [["s8", "s8"], ["u8", "s8"], ["s8", "u8"], ["u8", "u8"]] {
        check_mma((8, 8, 16), types, "");
    }
    for shape in [(8, 8, 32), (16, 8, 32), (16, 8, 64)] {
        for types in [["s4", "s4"], ["u4", "s4"], ["s4", "u4"], ["u4", "u4"]] {
            check_mma(shape, types, "");
        }
    }
    for shape in [(8, 8, 128), (16, 8, 128), (16, 8, 256)] {
        for operation in [".xor.popc", ".and.popc"] {
            check_mma(shape, ["b1", "b1"], operation);
        }
    }
    for shape in [(8, 8, 4), (16, 8, 4), (16, 8, 8), (16, 8, 16)] {
        check_mma(shape, ["f64", "f64"], "");
    }
}

#[test]
fn integer_sums_saturate_where_they_are_asked_to() {
    for (suffix, expected) in [("", 0x8000_003fu32), (".satfinite", 0x7fff_ffff)] {
        // 32 products of 1 · 2 on top of the largest number.
        let text =
            mma_kernel(&format!("mma.sync.aligned.m8n8k32.row.col{suffix}.s32.u4.u4.s32"), false, [1, 1, 2]);
        let emulator = emulator();
        let (input, output) = (emulator.alloc(8192).unwrap(), emulator.alloc(8192).unwrap());
        let words = |word: u32, count: usize| -> Vec<u8> {
            std::iter::repeat_n(word.to_le_bytes(), count).flatten().collect()
        };
        emulator.write(input, &words(0x1111_1111, 32)).unwrap();
        emulator.write(input + 1024, &words(0x2222_2222, 32)).unwrap();
        emulator.write(input + 2048, &words(0x7fff_ffff, 64)).unwrap();
        launch(&text, "k", 1, 32, 0, &emulator, &[&input.to_le_bytes(), &output.to_le_bytes()]).unwrap();
        let mut found = vec![0; 256];
        emulator.read(output, &mut found).unwrap();
        assert_eq!(found, words(expected, 64));
    }
}

#[test]
fn forms_that_do_not_exist_are_refused() {
    let good = Wmma {
        shape: SQUARE,
        types: ["f16", "f16", "f32", "f32"],
        registers: [8, 8, 8, 8],
        rows: [true; 4],
        space: ".global",
        operation: "",
    };
    let good = good.kernel();
    Module::parse(&good).unwrap();
    for (from, to) in [
        ("wmma.load.a", "wmma.load.d"),
        ("wmma.store.d", "wmma.store.c"),
        ("m16n16k16.f32.f32", "m16n16k8.f32.f32"),
        ("m16n16k16.f32.f32", "m16n16k16.f32.s32"),
        ("m16n16k16.f32.f32", "m16n16k16.f32.f16.bf16.f32"),
        ("m16n16k16.f32.f32", "m16n16k16.f32.f32.satfinite"),
        ("wmma.mma.sync", "wmma.mma.xor.popc.sync"),
        ("wmma.mma.sync", "wmma.mma"),
        ("m16n16k16.global.f16", "m16n16k16.local.f16"),
        ("{%d0, %d1, %d2, %d3, %d4, %d5, %d6, %d7}, %ld", "{%d0, %d1}, %ld"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        assert!(Module::parse(&bad).is_err(), "{to}");
    }
}
