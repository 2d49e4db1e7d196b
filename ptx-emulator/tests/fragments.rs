//! `mma` m8n8k4 of f16, which is four products, and `mma.sp`: fragments and metadata as the figures of the PTX manual have them.

// A lane has its part in several arrays.
#![allow(clippy::needless_range_loop)]

mod common;
use common::bits::{bf16, e4m3, e5m2, f16};
use common::{emulator, launch};
use ptx_emulator::{LaunchError, Module};

type Words = [u32; 32];

/// A kernel of one warp: registers `%r0` and on come from memory, `%d0` and on go there after `instruction`.
fn kernel(instruction: &str, sources: usize, results: usize) -> String {
    let mut text = String::from(
        ".version 8.5\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out) {
        .reg .b32 %r<24>, %d<8>, %t; .reg .b64 %in, %out, %o; ld.param.u64 %in, [in]; ld.param.u64 %out, [out];
        mov.u32 %t, %tid.x; mul.wide.u32 %o, %t, 4; add.u64 %in, %in, %o; add.u64 %out, %out, %o;\n",
    );
    for k in 0..sources {
        text += &format!("ld.global.b32 %r{k}, [%in+{}];\n", 128 * k);
    }
    text += instruction;
    for k in 0..results {
        text += &format!("st.global.b32 [%out+{}], %d{k};\n", 128 * k);
    }
    text + "ret; }"
}

fn run(instruction: &str, sources: &[Words], results: usize) -> Result<Vec<Words>, LaunchError> {
    let emulator = emulator();
    let (input, output) = (emulator.alloc(4096).unwrap(), emulator.alloc(1024).unwrap());
    let bytes: Vec<u8> = sources.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
    emulator.write(input, &bytes).unwrap();
    let text = kernel(instruction, sources.len(), results);
    launch(&text, "k", 1, 32, 0, &emulator, &[&input.to_le_bytes(), &output.to_le_bytes()])?;
    let mut bytes = vec![0; 128 * results];
    emulator.read(output, &mut bytes).unwrap();
    let words: Vec<u32> = bytes.chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect();
    Ok(words.as_chunks::<32>().0.to_vec())
}

fn registers(prefix: &str, first: usize, count: usize) -> String {
    let all: Vec<String> = (first..first + count).map(|k| format!("%{prefix}{k}")).collect();
    format!("{{{}}}", all.join(", "))
}

/// A small number that differs from place to place.
fn number(row: usize, column: usize, seed: usize) -> i32 {
    ((row * 5 + column * 3 + row * column + seed * 7) % 9) as i32 - 4
}

/// A number of a product: element (row, column) of a matrix of product `q`.
type Matrix<'a> = &'a dyn Fn(usize, usize, usize) -> i32;

/// `mma` m8n8k4: the words of d, where the matrices are `a`, `b` and `c`.
fn quads(a_row: bool, b_row: bool, half: (bool, bool), [a, b, c]: [Matrix; 3]) -> Vec<Words> {
    let layout = |row: bool| if row { "row" } else { "col" };
    let ty = |half: bool| if half { "f16" } else { "f32" };
    let count = |half: bool| if half { 4 } else { 8 };
    let mut words = vec![[0u32; 32]; 4 + count(half.1)];
    for l in 0..32 {
        let (q, high) = (l % 16 / 4, 4 * (l / 16));
        for i in 0..4 {
            // The manual's rows and columns of a_i and b_i.
            let (row, column) = if a_row { (l % 4 + high, i) } else { (i % 4 + high, l % 4) };
            words[i / 2][l] |= (f16(a(q, row, column))) << (16 * (i % 2));
            let (row, column) = if b_row { (l % 4, i + high) } else { (i, l % 4 + high) };
            words[2 + i / 2][l] |= (f16(b(q, row, column))) << (16 * (i % 2));
        }
        for i in 0..8 {
            if half.1 {
                words[4 + i / 2][l] |= (f16(c(q, l % 4 + high, i))) << (16 * (i % 2));
            } else {
                let (row, column) = wide_place(l, i);
                words[4 + i][l] = (c(q, row, column) as f32).to_bits();
            }
        }
    }
    let instruction = format!(
        "mma.sync.aligned.m8n8k4.{}.{}.{}.f16.f16.{} {}, {{%r0, %r1}}, {{%r2, %r3}}, {};\n",
        layout(a_row),
        layout(b_row),
        ty(half.0),
        ty(half.1),
        registers("d", 0, count(half.0)),
        registers("r", 4, count(half.1))
    );
    run(&instruction, &words, count(half.0)).unwrap_or_else(|e| panic!("{e}\n{instruction}"))
}

/// Row and column of c_i of f32.
fn wide_place(l: usize, i: usize) -> (usize, usize) {
    ((l & 0b1) + (i & 0b10) + 4 * (l / 16), (i & 0b100) + (l & 0b10) + (i & 0b1))
}

#[test]
fn four_products_of_f16_in_every_layout() {
    let a = |q: usize, row: usize, column: usize| number(row, column, q + 1);
    let b = |q: usize, row: usize, column: usize| number(row, column, 2 * q + 3);
    let c = |q: usize, row: usize, column: usize| number(row, column, 5 * q);
    for (a_row, b_row) in [(true, true), (true, false), (false, true), (false, false)] {
        for half in [(false, false), (false, true), (true, true)] {
            let d = quads(a_row, b_row, half, [&a, &b, &c]);
            for l in 0..32 {
                let q = l % 16 / 4;
                let sum = |row, column| {
                    c(q, row, column) + (0..4).map(|k| a(q, row, k) * b(q, k, column)).sum::<i32>()
                };
                for i in 0..8 {
                    if half.0 {
                        let found = d[i / 2][l] >> (16 * (i % 2)) & 0xffff;
                        assert_eq!(found, f16(sum(l % 4 + 4 * (l / 16), i)), "{a_row} {b_row} {l} {i}");
                    } else {
                        let (row, column) = wide_place(l, i);
                        assert_eq!(
                            f32::from_bits(d[i][l]),
                            sum(row, column) as f32,
                            "{a_row} {b_row} {l} {i}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn edges_of_four_products() {
    // A's row 5 of product 2 is infinite in column 1, and there B has a zero in column 3 and ones elsewhere.
    let mut words = vec![[0u32; 32]; 12];
    let one = 0x3c00;
    for l in 0..32 {
        (words[2][l], words[3][l]) = (one | one << 16, one | one << 16);
    }
    // Row 5 is that of lane 16 + 4 · 2 + 1; column 3 that of lane 4 · 2 + 3 (both operands as `row.col`).
    words[0][25] = 0x7c00 << 16;
    words[2][11] = one;
    let text = "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%d0, %d1, %d2, %d3, %d4, %d5, %d6, %d7}, {%r0, %r1}, {%r2, %r3},
        {%r4, %r5, %r6, %r7, %r8, %r9, %r10, %r11};\n";
    let d = run(text, &words, 8).unwrap();
    for l in 0..32 {
        for (i, d) in d.iter().enumerate() {
            let expected = match (l % 16 / 4, wide_place(l, i)) {
                (2, (5, 3)) => 0x7fff_ffff,
                (2, (5, _)) => f32::INFINITY.to_bits(),
                _ => 0,
            };
            assert_eq!(d[l], expected, "lane {l}, element {i}");
        }
    }
    // 60000 + 60000 · 1 is beyond f16, whose sums are f16.
    let words: Vec<Words> = [0x7b53, 0, 0x3c00, 0, 0x7b53, 0, 0, 0].map(|x| [x; 32]).to_vec();
    let text = "mma.sync.aligned.m8n8k4.row.col.f16.f16.f16.f16 {%d0, %d1, %d2, %d3}, {%r0, %r1}, {%r2, %r3}, {%r4, %r5, %r6, %r7};\n";
    let d = run(text, &words, 4).unwrap();
    assert_eq!((d[0][0] & 0xffff, d[0][0] >> 16), (0x7c00, 0x7b53));
    for bad in [text.replace("f16.f16.f16.f16", "f16.f16.f16.f32"), text.replace("%r2, %r3", "%r2")] {
        assert!(Module::parse(&kernel(&bad, 8, 4)).is_err(), "{bad}");
    }
}

struct Sparse {
    form: &'static str,
    ty: &'static str,
    k: usize,
    /// Lanes of four that give metadata, and which.
    givers: usize,
    selector: usize,
}

impl Sparse {
    /// Bits of an element.
    fn bits_each(&self) -> usize {
        match self.ty {
            "tf32" => 32,
            "f16" | "bf16" => 16,
            "s4" | "u4" => 4,
            _ => 8,
        }
    }

    /// Elements that are stored or left out together.
    fn unit(&self) -> usize {
        if self.bits_each() == 4 { 2 } else { 1 }
    }

    fn encode(&self, x: i32) -> u32 {
        match self.ty {
            "tf32" => (x as f32).to_bits(),
            "f16" => f16(x),
            "bf16" => bf16(x),
            "e4m3" => e4m3(x),
            "e5m2" => e5m2(x),
            "s4" | "u4" => x as u32 & 0xf,
            _ => x as u32 & 0xff,
        }
    }

    /// The columns of a chunk's stored elements: any two of four, of tf32 one of two; of 4 bits those of pairs.
    fn columns(&self, row: usize, chunk: usize) -> Vec<usize> {
        let pick = row * 3 + chunk * 5 + row * chunk;
        if self.ty == "tf32" {
            return vec![pick % 2];
        }
        [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]][pick % 6].to_vec()
    }

    /// The 4 bits of a chunk.
    fn bits(&self, row: usize, chunk: usize) -> u32 {
        match self.columns(row, chunk).as_slice() {
            [0] => 0b0100,
            [_] => 0b1110,
            [low, high, ..] => (low | high << 2) as u32,
            [] => unreachable!(),
        }
    }

    /// The manual's figures: which row and which chunks the bits of a lane are for; None where a lane gives nothing.
    fn metadata(&self, l: usize) -> u32 {
        let (group, t) = (l / 4, l % 4);
        if t / self.givers != self.selector {
            return 0xffff_0000 | l as u32;
        }
        let place = t % self.givers;
        let row = |row: usize, first: usize, count: usize| {
            (0..count).map(|c| self.bits(row, first + c) << (4 * c)).sum::<u32>()
        };
        if self.bits_each() <= 8 {
            row(group + 8 * (place % 2), 8 * (place / 2), 8)
        } else {
            row(group, 4 * place, 4) | row(group + 8, 4 * place, 4) << 16
        }
    }

    fn value_of_a(&self, row: usize, stored: usize) -> i32 {
        // Unsigned integers have no negatives.
        let x = number(row, stored, 2);
        if self.ty.starts_with('u') { x.abs() } else { x }
    }

    fn value_of_b(&self, row: usize, column: usize) -> i32 {
        let x = number(row, column, 4);
        if self.ty.starts_with('u') { x.abs() } else { x }
    }

    /// Checks the form with all sums, of halves or of 32 bits.
    fn check(
        &self,
        half: bool,
        change_b: impl Fn(usize, usize) -> Option<u32>,
    ) -> Vec<(usize, usize, u32, i32)> {
        let bits = self.bits_each();
        let (each, width) = (32 / bits, 128 / bits);
        let chunk = if self.ty == "tf32" { 2 } else { 4 * self.unit() };
        let (of_a, of_b, sums) = (self.k / width, self.k / width, if half { 2 } else { 4 });
        let mut words = vec![[0u32; 32]; of_a + of_b + sums + 1];
        let sum = |x: i32| if self.form.contains("s32") { x as u32 } else { (x as f32).to_bits() };
        for l in 0..32 {
            let (group, t) = (l / 4, l % 4);
            for j in 0..each {
                for r in 0..of_a {
                    let (row, stored) = (group + 8 * (r % 2), width * (r / 2) + each * t + j);
                    words[r][l] |= self.encode(self.value_of_a(row, stored)) << (bits * j);
                }
                for r in 0..of_b {
                    let row = width * r + each * t + j;
                    let code =
                        change_b(row, group).unwrap_or_else(|| self.encode(self.value_of_b(row, group)));
                    words[of_a + r][l] |= code << (bits * j);
                }
            }
            for i in 0..4 {
                let c = number(group + 8 * (i / 2), 2 * t + i % 2, 1);
                if half {
                    words[of_a + of_b + i / 2][l] |= (f16(c)) << (16 * (i % 2));
                } else {
                    words[of_a + of_b + i][l] = sum(c);
                }
            }
            words[of_a + of_b + sums][l] = self.metadata(l);
        }
        let instruction = format!(
            "{} {}, {}, {}, {}, %r{}, {};\n",
            self.form,
            registers("d", 0, sums),
            registers("r", 0, of_a),
            registers("r", of_a, of_b),
            registers("r", of_a + of_b, sums),
            of_a + of_b + sums,
            self.selector
        );
        let d = run(&instruction, &words, sums).unwrap_or_else(|e| panic!("{e}\n{instruction}"));
        let mut found = Vec::new();
        for l in 0..32 {
            for i in 0..4 {
                let (row, column) = (l / 4 + 8 * (i / 2), 2 * (l % 4) + i % 2);
                let mut expected = number(row, column, 1);
                for c in 0..self.k / chunk {
                    let columns = self.columns(row, c).into_iter();
                    let columns = columns.flat_map(|at| (0..self.unit()).map(move |k| self.unit() * at + k));
                    for (n, at) in columns.enumerate() {
                        let stored = c * chunk / 2 + n;
                        expected += self.value_of_a(row, stored) * self.value_of_b(chunk * c + at, column);
                    }
                }
                let word = if half { d[i / 2][l] >> (16 * (i % 2)) & 0xffff } else { d[i][l] };
                let wanted = if half { f16(expected) } else { sum(expected) };
                found.push((row, column, word, wanted as i32));
            }
        }
        found
    }
}

#[test]
fn sparse_products_of_every_shape_and_type() {
    let forms = [
        ("mma.sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", "f16", 16, 1),
        ("mma.sp::ordered_metadata.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16", "f16", 16, 1),
        ("mma.sp.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32", "f16", 32, 2),
        ("mma.sp.sync.aligned.m16n8k32.row.col.f16.f16.f16.f16", "f16", 32, 2),
        ("mma.sp::ordered_metadata.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", "bf16", 16, 1),
        ("mma.sp.sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32", "bf16", 32, 2),
        ("mma.sp.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", "tf32", 8, 1),
        ("mma.sp::ordered_metadata.sync.aligned.m16n8k16.row.col.f32.tf32.tf32.f32", "tf32", 16, 2),
        ("mma.sp.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32", "s8", 32, 2),
        ("mma.sp.sync.aligned.m16n8k32.row.col.satfinite.s32.u8.u8.s32", "u8", 32, 2),
        ("mma.sp::ordered_metadata.sync.aligned.m16n8k64.row.col.s32.s8.s8.s32", "s8", 64, 4),
        ("mma.sp.sync.aligned.m16n8k64.row.col.s32.s4.s4.s32", "s4", 64, 2),
        ("mma.sp::ordered_metadata.sync.aligned.m16n8k64.row.col.satfinite.s32.u4.u4.s32", "u4", 64, 2),
        ("mma.sp::ordered_metadata.sync.aligned.m16n8k128.row.col.s32.s4.s4.s32", "s4", 128, 4),
        ("mma.sp.sync.aligned.m16n8k128.row.col.s32.u4.u4.s32", "u4", 128, 4),
        ("mma.sp.sync.aligned.m16n8k64.row.col.f32.e4m3.e4m3.f32", "e4m3", 64, 4),
        ("mma.sp.sync.aligned.m16n8k64.row.col.f32.e5m2.e5m2.f32", "e5m2", 64, 4),
    ];
    for (form, ty, k, givers) in forms {
        for selector in 0..4 / givers {
            let sparse = Sparse { form, ty, k, givers, selector };
            for (row, column, found, expected) in sparse.check(form.contains("f16.f16.f16.f16"), |_, _| None)
            {
                assert_eq!(found, expected as u32, "{form}, selector {selector}, row {row}, column {column}");
            }
        }
    }
}

#[test]
fn what_a_sparse_row_does_not_pick_is_not_multiplied() {
    let form = "mma.sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32";
    let sparse = Sparse { form, ty: "f16", k: 16, givers: 1, selector: 2 };
    // B has a NaN in row 6, column 3: a row of A meets it where its second chunk has column 2.
    let nan = |row, column| ((row, column) == (6, 3)).then_some(0x7e00);
    for (row, column, found, expected) in sparse.check(false, nan) {
        let meets = column == 3 && sparse.columns(row, 1).contains(&2);
        assert_eq!(found, if meets { 0x7fff_ffff } else { expected as u32 }, "row {row}, column {column}");
    }
}

#[test]
fn metadata_that_means_nothing_is_an_error() {
    let form = |kind: &str, selector: u32| {
        format!(
            "mma.{kind}.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {}, {{%r0, %r1}}, {{%r2, %r3}}, {}, %r8, {selector};\n",
            registers("d", 0, 4),
            registers("r", 4, 4)
        )
    };
    let with = |kind: &str, metadata: u32| {
        let mut words = vec![[0u32; 32]; 9];
        words[8] = [0x4444_4444; 32];
        words[8][13] = metadata;
        run(&form(kind, 1), &words, 4)
    };
    // The same column twice.
    let error = with("sp", 0x4444_4404).unwrap_err().to_string();
    assert!(error.contains("0b0000") && error.contains("thread (13, 0, 0)"), "{error}");
    // Columns 1 and 0: `sp` takes them in any order.
    assert!(with("sp", 0x4444_4414).is_ok());
    let error = with("sp::ordered_metadata", 0x4444_4414).unwrap_err().to_string();
    assert!(error.contains("0b0001"), "{error}");
    // Of tf32 one of two columns is stored: 0 or 1.
    let tf32 = form("sp", 1).replace("m16n8k16.row.col.f32.f16.f16", "m16n8k8.row.col.f32.tf32.tf32");
    let mut words = vec![[0u32; 32]; 9];
    words[8] = [0x4444_4444; 32];
    assert!(run(&tf32, &words, 4).is_ok());
    words[8][13] = 0x4444_4448;
    let error = run(&tf32, &words, 4).unwrap_err().to_string();
    assert!(error.contains("0b1000, which does not name one of two columns"), "{error}");
    // Of 4 bits pairs of columns are named.
    let four = form("sp", 1).replace("m16n8k16.row.col.f32.f16.f16.f32", "m16n8k64.row.col.s32.s4.u4.s32");
    let error = run(&four, &[&words[..8], &[[0xaaaa_aaaa; 32]]].concat(), 4).unwrap_err().to_string();
    assert!(error.contains("0b1010, which does not name two of four pairs of columns"), "{error}");
    assert!(run(&four, &[&words[..8], &[[0x4444_4444; 32]]].concat(), 4).is_ok());
    for bad in [
        form("sp", 4),
        four.replace("%r8, 1", "%r8, 2"),
        four.replace("m16n8k64", "m16n8k128"),
        form("sp", 1).replace("m16n8k16", "m16n8k8"),
        form("sp", 0).replace("%r8, 0", "%r8, %r0"),
    ] {
        assert!(Module::parse(&kernel(&bad, 9, 4)).is_err(), "{bad}");
    }
}
