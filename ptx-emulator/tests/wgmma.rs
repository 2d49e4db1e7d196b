//! `wgmma`: operands in shared memory in every layout of the manual, or A in registers; where results lie, and when.

mod common;
use common::bits::{bf16, e4m3, e5m2, f16};
use common::{emulator, module};
use ptx_emulator::{LaunchConfig, Module};

/// A type of multiplicands: its name, bytes of an element, and the bits of a small integer.
struct Element {
    types: &'static str,
    size: usize,
    a: fn(i32) -> u32,
    b: fn(i32) -> u32,
}

/// The low 13 bits of a tf32 do not count.
fn tf32(x: i32) -> u32 {
    (x as f32).to_bits() | 0x1fff
}

fn byte(x: i32) -> u32 {
    x as u8 as u32
}

const HALF: Element = Element { types: "f32.f16.f16", size: 2, a: f16, b: f16 };

/// Small integers that tell places apart; of unsigned types none is below 0.
fn a_value(row: usize, k: usize) -> i32 {
    ((row * 7 + k * 3 + row * k) % 9) as i32 - 4
}

fn b_value(k: usize, column: usize) -> i32 {
    ((k * 5 + column * 2 + column * k + 3) % 9) as i32 - 4
}

fn c_value(row: usize, column: usize) -> i32 {
    ((row + 3 * column) % 11) as i32 - 5
}

/// How an operand lies in shared memory.
#[derive(Clone, Copy)]
struct Layout {
    /// 16-byte pieces in a line of the swizzle; 1 for none.
    pieces: usize,
    /// Rows (columns of the product for B) lead, not K.
    rows_lead: bool,
}

const PLAIN: Layout = Layout { pieces: 1, rows_lead: false };

impl Layout {
    /// Leading and stride byte offsets that leave no gaps, for an operand of so many rows and two pieces of K.
    fn offsets(self, rows: usize) -> (usize, usize) {
        match (self.rows_lead, self.pieces) {
            // From piece to piece along K, from 8 rows to the next.
            (false, 1) => (128, 256),
            (false, n) => (16, 8 * 16 * n),
            // From 8 columns to the next, from 8 rows to the next.
            (true, 1) => (128 * rows / 8, 128),
            // From `pieces` times 8 rows to the next, from 8 columns to the next.
            (true, n) => (2 * 8 * 16 * n, 8 * 16 * n),
        }
    }

    /// Offset of an element, before the swizzle.
    fn place(self, row: usize, k: usize, size: usize, rows: usize) -> usize {
        let (leading, stride) = self.offsets(rows);
        let per_piece = 16 / size;
        match (self.rows_lead, self.pieces) {
            (false, 1) => row / 8 * stride + row % 8 * 16 + k / per_piece * leading + k % per_piece * size,
            (false, n) => row / 8 * stride + row % 8 * 16 * n + k * size,
            (true, 1) => row / 8 * stride + k / 8 * leading + k % 8 * 16 + row % 8 * 2,
            (true, n) => {
                let group = row / 8;
                group / n * leading + group % n * 16 + k / 8 * stride + k % 8 * 16 * n + row % 8 * 2
            }
        }
    }

    fn swizzled(self, address: usize) -> usize {
        address ^ (((address / 128) % self.pieces) << 4)
    }

    fn descriptor(self, start: usize, rows: usize) -> u64 {
        let (leading, stride) = self.offsets(rows);
        let mode = match self.pieces {
            1 => 0u64,
            2 => 3,
            4 => 2,
            _ => 1,
        };
        (start as u64 >> 4) | (leading as u64 >> 4) << 16 | (stride as u64 >> 4) << 32 | mode << 62
    }
}

const A_AT: usize = 1024;
const B_AT: usize = 32768;
const SHARED: usize = 65536;

/// 128 threads (or more): shared memory is filled with `image`, `%a0` to `%a3` with the thread's four words of `a`, `%d0` … with its
/// words of `c`; then `body`, then the accumulator is stored.
fn run(
    body: &str,
    registers: usize,
    image: &[u8],
    a: &[u32],
    c: &[u32],
    threads: u32,
) -> Result<Vec<u32>, String> {
    let emulator = emulator();
    let alloc = |bytes: &[u8]| {
        let at = emulator.alloc(bytes.len() as u64).unwrap();
        emulator.write(at, bytes).unwrap();
        at
    };
    let words = |words: &[u32]| alloc(&words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>());
    let (image, a, d) = (alloc(image), words(a), words(c));
    let mut load = String::new();
    let mut store = String::new();
    for k in 0..registers {
        load += &format!("ld.global.b32 %d{k}, [%rd4+{}];\n", 4 * k);
        store += &format!("st.global.b32 [%rd4+{}], %d{k};\n", 4 * k);
    }
    let text = module(&format!(
        ".reg .b32 %d<128>, %a<4>;
        ld.param.u64 %rd1, [out]; ld.param.u64 %rd2, [a]; ld.param.u64 %rd3, [d]; mov.u32 %r1, %tid.x; mov.u32 %r2, tile;
        mad.wide.u32 %rd2, %r1, 16, %rd2; mad.wide.u32 %rd4, %r1, {}, %rd3; ld.global.v4.b32 {{%a0, %a1, %a2, %a3}}, [%rd2];
        shl.b32 %r3, %r1, 2; FILL: cvt.u64.u32 %rd5, %r3; add.u64 %rd5, %rd5, %rd1; ld.global.u32 %r4, [%rd5];
        add.u32 %r5, %r2, %r3; st.shared.u32 [%r5], %r4; mov.u32 %r6, %ntid.x; mad.lo.u32 %r3, %r6, 4, %r3; setp.lt.u32 %p5, %r3, {SHARED}; @%p5 bra FILL;
        {load} fence.proxy.async.shared::cta; bar.sync 0;
        setp.eq.u32 %p1, %r1, %r1; setp.ne.u32 %p2, %r1, %r1;
        {body}
        {store} ret;",
        4 * registers
    ))
    .replace(".param .u64 out)", ".param .u64 out, .param .u64 a, .param .u64 d)")
    .replace(".visible", ".extern .shared .align 1024 .b8 tile[];\n.visible");
    let module = Module::parse(&text).map_err(|e| e.to_string())?;
    let shape = LaunchConfig { grid: [1, 1, 1], block: [threads, 1, 1], dynamic_shared_bytes: SHARED as u32 };
    let args: [&[u8]; 3] = [&image.to_le_bytes(), &a.to_le_bytes(), &d.to_le_bytes()];
    emulator.launch(&module, "k", shape, &args).map_err(|e| e.to_string())?;
    let mut out = vec![0; 4 * c.len()];
    emulator.read(d, &mut out).unwrap();
    Ok(out.chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect())
}

struct Case {
    element: Element,
    n: usize,
    /// None: in registers.
    a: Option<Layout>,
    b: Layout,
    /// Scale-d, and the factors of a and b.
    accumulates: bool,
    factors: [i32; 2],
}

fn list(prefix: &str, count: usize) -> String {
    format!("{{{}}}", (0..count).map(|k| format!("%{prefix}{k}")).collect::<Vec<_>>().join(", "))
}

fn check(case: &Case) {
    let Element { types, size, a: a_bits, b: b_bits } = case.element;
    let (k, half_sums, integers) = (32 / size, types.starts_with("f16"), types.starts_with("s32"));
    let unsigned = |part: usize| types.split('.').nth(part) == Some("u8");
    let a_at = |row, k| if unsigned(1) { a_value(row, k) + 200 } else { a_value(row, k) };
    let b_at = |k, column| if unsigned(2) { b_value(k, column) + 200 } else { b_value(k, column) };
    let mut image = vec![0xa5u8; SHARED];
    let mut put = |layout: Layout, start: usize, rows: usize, row: usize, k: usize, bits: u32| {
        let at = layout.swizzled(start + layout.place(row, k, size, rows));
        image[at..at + size].copy_from_slice(&bits.to_le_bytes()[..size]);
    };
    for k in 0..k {
        for row in 0..64 {
            if let Some(layout) = case.a {
                put(layout, A_AT, 64, row, k, a_bits(a_at(row, k)));
            }
        }
        for column in 0..case.n {
            put(case.b, B_AT, case.n, column, k, b_bits(b_at(k, column)));
        }
    }
    let registers = if half_sums { case.n / 4 } else { case.n / 2 };
    let (mut a_words, mut c_words) = (vec![0u32; 128 * 4], vec![0u32; 128 * registers]);
    let place = |thread: usize, i: usize| {
        let lane = thread % 32;
        (16 * (thread / 32) + lane / 4 + 8 * (i / 2 % 2), 8 * (i / 4) + 2 * (lane % 4) + i % 2)
    };
    let sum_bits = |x: i32| {
        if integers {
            x as u32
        } else if half_sums {
            f16(x)
        } else {
            (x as f32).to_bits()
        }
    };
    for thread in 0..128 {
        for word in 0..4 {
            for e in 0..4 / size {
                let row = 16 * (thread / 32) + thread % 32 / 4 + 8 * (word % 2);
                let column = (word / 2) * 16 / size + thread % 4 * 4 / size + e;
                a_words[4 * thread + word] |= a_bits(a_at(row, column)) << (8 * size * e);
            }
        }
        for i in 0..case.n / 2 {
            let (row, column) = place(thread, i);
            let (word, shift) = if half_sums { (i / 2, 16 * (i % 2)) } else { (i, 0) };
            c_words[registers * thread + word] |= sum_bits(c_value(row, column)) << shift;
        }
    }
    let a_operand = match case.a {
        Some(layout) => {
            format!("{:#x}", layout.descriptor(A_AT, 64))
        }
        None => list("a", 4),
    };
    let [fa, fb] = case.factors;
    let mut constants = if integers { String::new() } else { format!(", {fa}, {fb}") };
    if matches!(types.split('.').nth(1), Some("f16" | "bf16")) {
        if let Some(layout) = case.a {
            constants += if layout.rows_lead { ", 1" } else { ", 0" };
        }
        constants += if case.b.rows_lead { ", 1" } else { ", 0" };
    }
    let name = format!("wgmma.mma_async.sync.aligned.m64n{}k{k}.{types}", case.n);
    let body = format!(
        "wgmma.fence.sync.aligned; {name} {}, {a_operand}, {:#x}, {}{constants}; wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;",
        list("d", registers),
        case.b.descriptor(B_AT, case.n),
        if case.accumulates { "%p1" } else { "%p2" },
    );
    let out =
        run(&body, registers, &image, &a_words, &c_words, 128).unwrap_or_else(|e| panic!("{name}: {e}"));
    for thread in 0..128 {
        for i in 0..case.n / 2 {
            let (row, column) = place(thread, i);
            let product: i32 = (0..k).map(|k| a_at(row, k) * b_at(k, column)).sum();
            let sum = fa * fb * product + if case.accumulates { c_value(row, column) } else { 0 };
            let (word, shift) = if half_sums { (i / 2, 16 * (i % 2)) } else { (i, 0) };
            let mask = if half_sums { 0xffff } else { u32::MAX };
            let got = out[registers * thread + word] >> shift & mask;
            assert_eq!(got, sum_bits(sum), "{name}, {body}: row {row}, column {column}");
        }
    }
}

fn layouts(rows_lead: bool) -> [Layout; 4] {
    [1, 2, 4, 8].map(|pieces| Layout { pieces, rows_lead })
}

#[test]
fn every_layout_of_both_operands() {
    for a in layouts(false).into_iter().chain(layouts(true)).map(Some).chain([None]) {
        check(&Case { element: HALF, n: 64, a, b: PLAIN, accumulates: true, factors: [1, 1] });
    }
    for b in layouts(false).into_iter().chain(layouts(true)) {
        check(&Case { element: HALF, n: 128, a: Some(PLAIN), b, accumulates: true, factors: [1, 1] });
    }
    let element = Element { types: "f32.bf16.bf16", size: 2, a: bf16, b: bf16 };
    let [a, b] = [layouts(true)[3], layouts(false)[2]];
    check(&Case { element, n: 64, a: Some(a), b, accumulates: false, factors: [1, 1] });
}

#[test]
fn every_number_of_columns() {
    for n in (8..=256).step_by(8) {
        let b = layouts(false)[3];
        check(&Case { element: HALF, n, a: None, b, accumulates: n % 16 == 0, factors: [1, 1] });
    }
}

#[test]
fn every_type() {
    for (types, size, a, b) in [
        ("f16.f16.f16", 2, f16 as fn(i32) -> u32, f16 as fn(i32) -> u32),
        ("f32.bf16.bf16", 2, bf16, bf16),
        ("f32.tf32.tf32", 4, tf32, tf32),
        ("f32.e4m3.e4m3", 1, e4m3, e4m3),
        ("f32.e5m2.e5m2", 1, e5m2, e5m2),
        ("f32.e4m3.e5m2", 1, e4m3, e5m2),
        ("f16.e5m2.e4m3", 1, e5m2, e4m3),
        ("s32.s8.s8", 1, byte, byte),
        ("s32.u8.u8", 1, byte, byte),
        ("s32.s8.u8", 1, byte, byte),
        ("s32.u8.s8", 1, byte, byte),
    ] {
        for (layout, place) in layouts(false).into_iter().zip([None, Some(0), Some(2), Some(3)]) {
            let element = Element { types, size, a, b };
            let a = place.map(|p: usize| layouts(false)[p]);
            check(&Case { element, n: 48, a, b: layout, accumulates: place != Some(2), factors: [1, 1] });
        }
    }
}

#[test]
fn factors_and_a_fresh_accumulator() {
    for factors in [[1, -1], [-1, 1], [-1, -1]] {
        for accumulates in [true, false] {
            check(&Case { element: HALF, n: 16, a: Some(PLAIN), b: PLAIN, accumulates, factors });
        }
    }
}

/// A product of ones (f16) with N of 8: all of it is 16 · `a` more.
fn ones(body: &str, threads: u32) -> Result<Vec<u32>, String> {
    let image = [0x00, 0x3c].repeat(SHARED / 2);
    let body = body
        .replace("MMA", "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%d0, %d1, %d2, %d3}")
        .replace("COMMIT", "wgmma.commit_group.sync.aligned")
        .replace("WAIT", "wgmma.wait_group.sync.aligned")
        .replace("DESC", &format!("{:#x}", PLAIN.descriptor(A_AT, 64)));
    run(&body, 8, &image, &vec![0x3c00_3c00; 4 * threads as usize], &vec![0; 8 * threads as usize], threads)
}

const ONE: &str = "MMA, DESC, DESC, %p1, 1, 1, 0, 0;";

#[test]
fn results_appear_at_the_wait_and_no_sooner() {
    let bits = |x: f32| x.to_bits();
    let out = ones(
        &format!(
            "wgmma.fence.sync.aligned; {ONE} COMMIT; mov.b32 %d4, %d0; WAIT 1; mov.b32 %d5, %d0; {ONE} COMMIT; WAIT 1; mov.b32 %d6, %d0;
            {ONE} WAIT 0; mov.b32 %d7, %d0; COMMIT; WAIT 0;"
        ),
        128,
    )
    .unwrap();
    for words in out.chunks(8) {
        // The third product was in no group when it was waited for first.
        assert_eq!(words, [48.0, 48.0, 48.0, 48.0, 0.0, 0.0, 16.0, 32.0].map(bits));
    }
}

#[test]
fn registers_of_a_and_shared_memory_are_read_at_the_wait() {
    let body = "wgmma.fence.sync.aligned; MMA, {%a0, %a1, %a2, %a3}, DESC, %p1, 1, 1, 0; COMMIT; mov.b32 %a0, 0; WAIT 0;";
    let out = ones(body, 128).unwrap();
    // Half of the columns of the rows 0 to 7 of each warp are gone.
    assert_eq!(out[..4], [8.0f32, 8.0, 16.0, 16.0].map(f32::to_bits));
}

#[test]
fn sums_are_rounded_as_those_of_mma() {
    // 1 + 16 · 2^-24: kept as terms of two blocks of eight; 2^-25 each is cut.
    for (a, wanted) in [(0x0001u32, 1.0 + 2f32.powi(-20)), (0x8001, 1.0 - 2f32.powi(-20))] {
        let image = [0x00, 0x3c].repeat(SHARED / 2);
        let body = format!(
            "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {{%d0, %d1, %d2, %d3}}, {{%a0, %a1, %a2, %a3}}, {:#x}, %p1, 1, 1, 0;
            wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;",
            PLAIN.descriptor(B_AT, 8)
        );
        let out = run(&body, 4, &image, &[a * 0x1_0001; 512], &[0x3f80_0000; 512], 128).unwrap();
        assert!(out.iter().all(|&x| x == wanted.to_bits()), "{}", f32::from_bits(out[0]));
    }
    // Integers wrap, or saturate.
    let image = vec![1u8; SHARED];
    for (saturates, wanted) in [("", 0x8000_001fu32), (".satfinite", 0x7fff_ffff)] {
        let body = format!(
            "wgmma.mma_async.sync.aligned.m64n8k32{saturates}.s32.s8.u8 {{%d0, %d1, %d2, %d3}}, {0:#x}, {0:#x}, %p1;
            wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;",
            PLAIN.descriptor(B_AT, 64)
        );
        let out = run(&body, 4, &image, &[0; 512], &[0x7fff_ffff; 512], 128).unwrap();
        assert!(out.iter().all(|&x| x == wanted));
    }
}

#[test]
fn two_warpgroups_and_warps_that_come_late() {
    let body = format!(
        "shr.u32 %r7, %r1, 5; L: setp.eq.u32 %p3, %r7, 0; @%p3 bra E; nanosleep.u32 100; sub.u32 %r7, %r7, 1; bra L;
        E: {ONE} COMMIT; WAIT 0;"
    );
    let out = ones(&body, 256).unwrap();
    assert!(out.chunks(8).all(|w| w[..4] == [16f32.to_bits(); 4]));
}

#[test]
fn misuse_is_an_error() {
    let end = "COMMIT; WAIT 0;";
    for (body, threads, part) in [
        (
            format!("setp.lt.u32 %p3, %r1, 96; @!%p3 bra E; {ONE} {end} E:"),
            128,
            "waits for a product that 1 warps of its warpgroup have not issued",
        ),
        (format!("{ONE} {end}"), 96, "is not in a warpgroup of four warps"),
        (
            format!("setp.lt.u32 %p1, %r1, 32; {ONE} {end}"),
            128,
            "issues another product than the other warps of its warpgroup",
        ),
        (format!("setp.eq.u32 %p1, %r1, 5; {ONE} {end}"), 128, "scale-d differs between the lanes"),
        (
            format!("cvt.u64.u32 %rd5, %r1; MMA, DESC, %rd5, %p1, 1, 1, 0, 0; {end}"),
            128,
            "the lanes of the warp have different matrix descriptors",
        ),
        (
            format!("MMA, DESC, 0x3fff, %p1, 1, 1, 0, 0; {end}"),
            128,
            "the descriptor 0x0000000000003fff of B leads to shared address 0x3fff0, beyond the 65536 bytes",
        ),
        (
            format!("@%p2 bra E; setp.lt.u32 %p3, %r1, 7; @%p3 {ONE} {end} E:"),
            128,
            "waits for the lanes 0xffffffff",
        ),
    ] {
        let error = ones(&body, threads).unwrap_err();
        assert!(error.contains(part), "{body}: {error}");
    }
}

#[test]
fn malformed_forms_are_errors_with_their_line() {
    let good = "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f0, %f1, %f2, %f3}, %rd1, %rd2, %p1, 1, -1, 0, 1;";
    let parse = |statement: &str| Module::parse(&module(&format!("\n{statement}\nret;")));
    parse(good).unwrap();
    for (from, to, part) in [
        ("n8k16", "n12k16", "there is no"),
        ("n8k16", "n264k16", "there is no"),
        ("n8k16", "n8k32", "there is no"),
        ("m64", "m16", "there is no"),
        (".sync", "", "there is no"),
        ("f32.f16.f16", "f32.f16.bf16", "there is no"),
        ("f32.f16.f16", "f16.bf16.bf16", "there is no"),
        ("f32.f16.f16", "satfinite.f32.f16.f16", "there is no"),
        ("%f2, %f3}", "%f2}", "d: 4 registers are wanted, 3 are given"),
        ("%rd1", "{%r1, %r2}", "constants after scale-d, 3 are wanted"),
        (", 1, -1, 0, 1", ", 1, 2, 0, 1", "the factors of a and b are 1 or -1"),
        (", 1, -1, 0, 1", ", 1, 1, 0, 2", "the transpositions of a and b are 0 or 1"),
        (", 1, -1, 0, 1", ", 1, 1", "2 constants after scale-d, 4 are wanted"),
        (", %p1, 1, -1, 0, 1", "", "lacks operands"),
    ] {
        let bad = good.replacen(from, to, 1);
        let error = parse(&bad).err().unwrap_or_else(|| panic!("{bad}"));
        assert_eq!(error.problems[0].line, 7, "{error}");
        assert!(error.to_string().contains(part), "{bad}: {error}");
    }
    for (statement, part) in [
        ("wgmma.wait_group.sync.aligned 8;", "constant number of groups, 0 to 7"),
        ("wgmma.wait_group.sync.aligned;", "constant number of groups"),
        ("wgmma.fence.sync.aligned 1;", "takes no operands"),
        ("wgmma.commit_group.sync;", "there is no"),
        ("wgmma.mma_async.sync.aligned.m64n40k32.s32.s8.s8 {%r1}, %rd1, %rd2, %p1;", "there is no"),
    ] {
        let error = parse(statement).err().unwrap_or_else(|| panic!("{statement}"));
        assert!(error.to_string().contains(part), "{statement}: {error}");
    }
}
