//! `mma`: where each element of each fragment lies, by the manual's formulas written out one by one, and how sums are rounded.

mod common;
use common::bits::{bf16, e4m3, e5m2, f16};
use common::{emulator, launch};
use ptx_emulator::{LaunchError, Module};

/// The fragments of one form: rows and columns of element `i` of a lane, word for word from the manual.
struct Form {
    name: &'static str,
    k: usize,
    /// Elements in a register.
    per_word: usize,
    /// Registers of a, b and c.
    registers: [usize; 3],
    a_row: fn(usize, usize) -> usize,
    a_column: fn(usize, usize) -> usize,
    b_row: fn(usize, usize) -> usize,
    /// The bits of a small integer.
    bits: fn(i32) -> u32,
}

fn group(lane: usize) -> usize {
    lane >> 2
}

fn in_group(lane: usize) -> usize {
    lane % 4
}

const K16_HALF: Form = Form {
    name: "",
    k: 16,
    per_word: 2,
    registers: [4, 2, 4],
    a_row: |lane, i| if i < 2 || (4..6).contains(&i) { group(lane) } else { group(lane) + 8 },
    a_column: |lane, i| if i < 4 { in_group(lane) * 2 + (i & 1) } else { in_group(lane) * 2 + (i & 1) + 8 },
    b_row: |lane, i| if i < 2 { in_group(lane) * 2 + (i & 1) } else { in_group(lane) * 2 + (i & 1) + 8 },
    bits: f16,
};

// The same formulas, of which the shorter forms have the first elements.
const K8_HALF: Form = Form { k: 8, registers: [2, 1, 4], ..K16_HALF };

const K8_TF32: Form = Form {
    name: "",
    k: 8,
    per_word: 1,
    registers: [4, 2, 4],
    a_row: |lane, i| if i == 0 || i == 2 { group(lane) } else { group(lane) + 8 },
    a_column: |lane, i| if i < 2 { in_group(lane) } else { in_group(lane) + 4 },
    b_row: |lane, i| if i == 0 { in_group(lane) } else { in_group(lane) + 4 },
    // The low 13 bits do not count.
    bits: |x| (x as f32).to_bits() | 0x1fff,
};

const K4_TF32: Form = Form { k: 4, registers: [2, 1, 4], bits: |x| (x as f32).to_bits(), ..K8_TF32 };

const K32_BYTE: Form = Form {
    name: "",
    k: 32,
    per_word: 4,
    registers: [4, 2, 4],
    a_row: |lane, i| if i < 4 || (8..12).contains(&i) { group(lane) } else { group(lane) + 8 },
    a_column: |lane, i| if i < 8 { in_group(lane) * 4 + (i & 3) } else { in_group(lane) * 4 + (i & 3) + 16 },
    b_row: |lane, i| if i < 4 { in_group(lane) * 4 + (i & 3) } else { in_group(lane) * 4 + (i & 3) + 16 },
    bits: |x| x as u8 as u32,
};

const K16_BYTE: Form = Form { k: 16, registers: [2, 1, 4], ..K32_BYTE };

/// A module around one `mma`: lane l reads its 12 words of input and writes its 4 words of result.
fn kernel(mnemonic: &str, [a, b, c]: [usize; 3]) -> String {
    let list = |from: usize, count: usize| {
        let all: Vec<String> = (from..from + count).map(|r| format!("%r{r}")).collect();
        format!("{{{}}}", all.join(", "))
    };
    format!(
        ".version 8.7
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 in, .param .u64 out) {{
    .reg .b32 %r<32>; .reg .b64 %rd<8>; .reg .b32 %t;
    ld.param.u64 %rd1, [in]; ld.param.u64 %rd2, [out];
    mov.u32 %t, %tid.x;
    mad.wide.u32 %rd3, %t, 48, %rd1; mad.wide.u32 %rd4, %t, 16, %rd2;
    ld.global.v4.b32 {{%r0, %r1, %r2, %r3}}, [%rd3];
    ld.global.v4.b32 {{%r4, %r5, %r6, %r7}}, [%rd3+16];
    ld.global.v4.b32 {{%r8, %r9, %r10, %r11}}, [%rd3+32];
    {mnemonic} {}, {}, {}, {};
    st.global.v4.b32 [%rd4], {{%r8, %r9, %r10, %r11}};
    ret;
}}",
        list(8, c),
        list(0, a),
        list(4, b),
        list(8, c)
    )
}

/// Inputs of a lane: 4 words of a, 4 of b, 4 of c.
type Lane = [u32; 12];

fn run(mnemonic: &str, registers: [usize; 3], lanes: &[Lane; 32]) -> Result<Vec<[u32; 4]>, LaunchError> {
    let emulator = emulator();
    let (input, output) = (emulator.alloc(48 * 32).unwrap(), emulator.alloc(16 * 32).unwrap());
    let bytes: Vec<u8> = lanes.iter().flatten().flat_map(|w| w.to_le_bytes()).collect();
    emulator.write(input, &bytes).unwrap();
    let text = kernel(mnemonic, registers);
    launch(&text, "k", 1, 32, 0, &emulator, &[&input.to_le_bytes(), &output.to_le_bytes()])?;
    let mut out = vec![0; 16 * 32];
    emulator.read(output, &mut out).unwrap();
    let words: Vec<u32> = out.chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect();
    Ok(words.chunks(4).map(|c| c.try_into().unwrap()).collect())
}

/// Small integers that tell places apart.
fn value(row: usize, column: usize, salt: usize) -> i32 {
    ((row * 7 + column * 3 + salt + row * column) % 9) as i32 - 4
}

fn check(form: &Form, b_bits: fn(i32) -> u32, integers: bool) {
    let half_sums = form.registers[2] == 2;
    let mut lanes = [[0u32; 12]; 32];
    let unsigned_a = form.name.contains(".u8.");
    let unsigned_b = form.name.contains(".u8.s32") || form.name.contains(".u8.u8");
    let shift = |x: i32, unsigned: bool| if unsigned { x + 200 } else { x };
    let a_value = |row, column| shift(value(row, column, 1), unsigned_a && !form.name.contains(".s8.u8"));
    let b_value = |row, column| shift(value(row, column, 5), unsigned_b);
    let c_value = |row, column| value(row, column, 2) * 16;
    for (lane, words) in lanes.iter_mut().enumerate() {
        for i in 0..form.registers[0] * form.per_word {
            let x = a_value((form.a_row)(lane, i), (form.a_column)(lane, i));
            words[i / form.per_word] |= (form.bits)(x) << (32 / form.per_word * (i % form.per_word));
        }
        for i in 0..form.registers[1] * form.per_word {
            let x = b_value((form.b_row)(lane, i), group(lane));
            words[4 + i / form.per_word] |= b_bits(x) << (32 / form.per_word * (i % form.per_word));
        }
        for i in 0..4 {
            let row = if i < 2 { group(lane) } else { group(lane) + 8 };
            let x = c_value(row, in_group(lane) * 2 + (i & 1));
            if half_sums {
                words[8 + i / 2] |= f16(x) << (16 * (i % 2));
            } else {
                words[8 + i] = if integers { x as u32 } else { (x as f32).to_bits() };
            }
        }
    }
    let out = run(form.name, form.registers, &lanes).unwrap();
    for (lane, words) in out.iter().enumerate() {
        for i in 0..4 {
            let row = if i < 2 { group(lane) } else { group(lane) + 8 };
            let column = in_group(lane) * 2 + (i & 1);
            let wanted: i32 =
                c_value(row, column) + (0..form.k).map(|k| a_value(row, k) * b_value(k, column)).sum::<i32>();
            let (got, wanted) = if half_sums {
                (words[i / 2] >> (16 * (i % 2)) & 0xffff, f16(wanted))
            } else {
                (words[i], if integers { wanted as u32 } else { (wanted as f32).to_bits() })
            };
            // A zero sum is +0.
            assert_eq!(got, wanted, "{}, row {row}, column {column}", form.name);
        }
    }
}

#[test]
fn every_element_of_every_form_is_where_the_manual_says() {
    let float = |form: Form, bits: fn(i32) -> u32, name| {
        check(&Form { name, bits, ..form }, bits, false);
    };
    let half = |form: Form, bits: fn(i32) -> u32, other: fn(i32) -> u32, name| {
        let registers = [form.registers[0], form.registers[1], 2];
        check(&Form { name, bits, registers, ..form }, other, false);
    };
    float(K16_HALF, f16, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32");
    float(K16_HALF, bf16, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32");
    float(K8_HALF, f16, "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32");
    float(K8_HALF, bf16, "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32");
    half(K16_HALF, f16, f16, "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16");
    half(K8_HALF, f16, f16, "mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16");
    float(K8_TF32, K8_TF32.bits, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32");
    float(K4_TF32, K4_TF32.bits, "mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32");
    float(K32_BYTE, e4m3, "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32");
    float(K32_BYTE, e5m2, "mma.sync.aligned.m16n8k32.row.col.f32.e5m2.e5m2.f32");
    float(K16_BYTE, e4m3, "mma.sync.aligned.m16n8k16.row.col.f32.e4m3.e4m3.f32");
    half(K32_BYTE, e4m3, e5m2, "mma.sync.aligned.m16n8k32.row.col.f16.e4m3.e5m2.f16");
    half(K32_BYTE, e5m2, e4m3, "mma.sync.aligned.m16n8k32.row.col.f16.e5m2.e4m3.f16");
}

#[test]
fn integer_forms_are_exact() {
    for name in [
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32",
        "mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32",
        "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32",
        "mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.u8.s32",
    ] {
        check(&Form { name, ..K32_BYTE }, K32_BYTE.bits, true);
    }
    for name in
        ["mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32", "mma.sync.aligned.m16n8k16.row.col.s32.s8.u8.s32"]
    {
        check(&Form { name, ..K16_BYTE }, K16_BYTE.bits, true);
    }
}

#[test]
fn integer_sums_wrap_or_saturate() {
    // Every product is 1; the sums begin at the largest integer.
    let lanes = [[0x0101_0101, 0x0101_0101, 0, 0, 0x0101_0101, 0, 0, 0, 0x7fff_ffff, 0x8000_0000, 0, 5]; 32];
    let wrap = run("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32", [2, 1, 4], &lanes).unwrap();
    assert_eq!(wrap[3], [0x8000_000f, 0x8000_0010, 16, 21]);
    let cut = run("mma.sync.aligned.m16n8k16.row.col.satfinite.s32.s8.s8.s32", [2, 1, 4], &lanes).unwrap();
    assert_eq!(cut[3], [0x7fff_ffff, 0x8000_0010, 16, 21]);
}

/// All elements of A are `a`, of B `b`, of C `c`: so are all of the result.
fn uniform(a: u32, b: u32, c: u32) -> u32 {
    let lanes = [[
        a * 0x1_0001,
        a * 0x1_0001,
        a * 0x1_0001,
        a * 0x1_0001,
        b * 0x1_0001,
        b * 0x1_0001,
        0,
        0,
        c,
        c,
        c,
        c,
    ]; 32];
    let out = run("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", [4, 2, 4], &lanes).unwrap();
    assert!(out.iter().flatten().all(|&x| x == out[0][0]));
    out[0][0]
}

#[test]
fn edge_values_of_f16() {
    let (one, inf, nan, tiny, zero) = (0x3c00, 0x7c00, 0x7e00, 0x0001, 0);
    let (f_one, f_inf, f_nan) = (0x3f80_0000, 0x7f80_0000, 0x7fff_ffff);
    assert_eq!(uniform(one, one, f_one), 17f32.to_bits());
    assert_eq!(uniform(inf, one, f_one), f_inf);
    assert_eq!(uniform(inf, zero, f_one), f_nan);
    assert_eq!(uniform(inf, one, f_inf | 1 << 31), f_nan);
    assert_eq!(uniform(nan, one, f_one), f_nan);
    assert_eq!(uniform(one, one, 0x7fc0_0001), f_nan);
    // The smallest subnormals: 16 products of 2^-48.
    assert_eq!(uniform(tiny, tiny, 0), 2f32.powi(-44).to_bits());
    // Beside 1, terms of 2^-24 are kept and those of 2^-25 are cut.
    assert_eq!(uniform(tiny, one, f_one), (1.0 + 2f32.powi(-20)).to_bits());
    assert_eq!(uniform(tiny, 0x3800, f_one), f_one);
    // The largest f16: 16 · 65504² has 22 significant bits.
    assert_eq!(f32::from_bits(uniform(0x7bff, 0x7bff, 0)), 68_652_384_256.0);
    assert_eq!(uniform(one, 0xbc00, 16f32.to_bits()), 0);
}

#[test]
fn sums_keep_as_many_places_as_a_gpu_does() {
    let run = |mnemonic: &str, registers, lane| run(mnemonic, registers, &[lane; 32]).unwrap()[0][0];
    let f32_of = |x: f32| x.to_bits();
    // 1 + 2^-13 + 2^-14 and no products: 8-bit types keep 13 places, f16 all.
    let c = f32_of(1.0 + 3.0 * 2f32.powi(-14));
    let zeros = [0, 0, 0, 0, 0, 0, 0, 0, c, c, c, c];
    let eight = "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32";
    assert_eq!(run(eight, [4, 2, 4], zeros), f32_of(1.0 + 2f32.powi(-13)));
    assert_eq!(run("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", [4, 2, 4], zeros), c);
    // 1 and sixteen products of 2^-14: eight are half a unit of an f16, and are lost twice, since the sum is rounded in between.
    let (small, one) = (f16(1) - (14 << 10), f16(1));
    let (a, b, c) = (small << 16 | small, one << 16 | one, one << 16 | one);
    let lane = [a, a, a, a, b, b, 0, 0, c, c, 0, 0];
    let sum = run("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16", [4, 2, 2], lane);
    assert_eq!(sum, c, "{sum:#010x}");
}

#[test]
fn an_mma_of_a_part_of_a_warp_is_an_error() {
    let text = kernel("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", [4, 2, 4]);
    let emulator = emulator();
    let memory = emulator.alloc(4096).unwrap();
    let args: [&[u8]; 2] = [&memory.to_le_bytes(), &memory.to_le_bytes()];
    let error = launch(&text, "k", 1, 16, 0, &emulator, &args).unwrap_err().to_string();
    assert!(error.contains("the lanes 0xffff0000 have ended or never were"), "{error}");
    assert!(error.contains("mma.sync.aligned"), "{error}");
    let some = text
        .replace("    mma", "setp.lt.u32 %p, %t, 7; @%p mma")
        .replace(".reg .b32 %t;", ".reg .b32 %t; .reg .pred %p;");
    let error = launch(&some, "k", 1, 32, 0, &emulator, &args).unwrap_err();
    assert!(error.to_string().contains("have ended"), "{error}");
}

#[test]
fn lanes_that_diverged_meet_at_an_mma() {
    let text = kernel("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", [4, 2, 4])
        .replace("    mma", "setp.lt.u32 %p, %t, 7; @%p bra L; add.u32 %t, %t, 0; L: mma")
        .replace(".reg .b32 %t;", ".reg .b32 %t; .reg .pred %p;");
    let emulator = emulator();
    let memory = emulator.alloc(4096).unwrap();
    launch(&text, "k", 1, 32, 0, &emulator, &[&memory.to_le_bytes(), &memory.to_le_bytes()]).unwrap();
}

#[test]
fn malformed_forms_are_errors_with_their_line() {
    let good = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r0, %r1, %r2, %r3}, {%r4, %r5, %r6, %r7}, {%r8, %r9}, {%r0, %r1, %r2, %r3};";
    let parse = |statement: &str| Module::parse(&common::module(&format!("\n{statement}\nret;")));
    parse(good).unwrap();
    for (from, to, part) in [
        (".sync", "", "there is no `mma.aligned"),
        (".row.col", ".col.row", "there is no"),
        ("m16n8k16", "m16n8k32", "there is no"),
        ("m16n8k16", "m8n8k4", "d: 8 registers are wanted, 4 are given"),
        (".f16.f16.f32", ".f16.bf16.f32", "there is no"),
        (".f16.f16.f32", ".f16.f16.f16", "there is no"),
        (".f32.f16.f16.f32", ".f32.f16.f16.f32.f32", "there is no"),
        (".col.f32", ".col.satfinite.f32", "there is no"),
        ("{%r8, %r9}", "{%r8}", "b: 2 registers are wanted, 1 are given"),
        ("{%r4, %r5, %r6, %r7}", "{%r4, %r5}", "a: 4 registers are wanted"),
        (", {%r8, %r9}", "", "takes 4 operands, not 3"),
    ] {
        let bad = good.replacen(from, to, 1);
        let error = parse(&bad).err().unwrap_or_else(|| panic!("{bad}"));
        assert_eq!(error.problems[0].line, 7, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}
