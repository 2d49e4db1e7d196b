//! One template for all instruction tests: each lane reads its row of inputs, runs some PTX, writes its row of results.
#![allow(dead_code)]

pub mod bits;
pub mod planted;
pub mod values;

use ptx_emulator::{Config, Emulator, LaunchConfig, LaunchError, LaunchOptions, LaunchStats, Module};

/// A kernel around `body`. Inputs of lane l are `%a, %b, %c` (64 bits: `%x, %y, %z`); results are taken from `%d` (32 bits) or
/// `%w` (64 bits). More registers: `%r<20>`, `%f<20>` (b32), `%q<20>` (b64), `%h<20>` (b16), `%p<20>` (pred).
pub fn kernel(body: &str) -> String {
    format!(
        ".version 8.3\n.target sm_90a\n.address_size 64\n{}",
        "
        .visible .entry test(.param .u64 in, .param .u64 out, .param .u32 extra) {
            .reg .pred %p<20>;
            .reg .b16 %h<20>;
            .reg .b32 %r<20>, %f<20>, %a, %b, %c, %d, %t1;
            .reg .b64 %q<20>, %x, %y, %z, %w, %t2, %t3, %in, %out;
            ld.param.u64 %in, [in];
            ld.param.u64 %out, [out];
            mov.u32 %t1, %tid.x;
            mad.wide.u32 %t2, %t1, 24, %in;
            mad.wide.u32 %t3, %t1, 8, %out;
            ld.global.u64 %x, [%t2];
            ld.global.u64 %y, [%t2+8];
            ld.global.u64 %z, [%t2+16];
            cvt.u32.u64 %a, %x;
            cvt.u32.u64 %b, %y;
            cvt.u32.u64 %c, %z;
            mov.u32 %d, 0;
            mov.u64 %w, 0;
            BODY
            cvt.u64.u32 %t2, %d;
            or.b64 %w, %w, %t2;
            st.global.u64 [%t3], %w;
            ret;
        }"
        .replace("BODY", body)
    )
}

/// As `check_rows` on one lane, which may change its own input at `[%t2]`, or by another name `[%in]`.
pub fn check_one(rows: &[(&str, [u64; 3], u64)]) {
    for (body, inputs, expected) in rows {
        let found = run_rows(body, &[*inputs])[0];
        assert_eq!(found, *expected, "{body} of {inputs:x?}: {found:#x}, expected {expected:#x}");
    }
}

/// Runs `kernel(body)` with one thread a row.
pub fn run_rows(body: &str, rows: &[[u64; 3]]) -> Vec<u64> {
    try_rows(body, rows).unwrap_or_else(|e| panic!("{e}\n{body}"))
}

pub fn try_rows(body: &str, rows: &[[u64; 3]]) -> Result<Vec<u64>, LaunchError> {
    let module = Module::parse(&kernel(body)).unwrap_or_else(|e| panic!("{e}\n{body}"));
    let emulator =
        Emulator::new(Config { threads: 1, max_instructions: Some(10_000_000), ..Config::default() });
    let n = rows.len();
    let (input, output) = (emulator.alloc(24 * n as u64).unwrap(), emulator.alloc(8 * n as u64).unwrap());
    let bytes: Vec<u8> = rows.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
    emulator.write(input, &bytes).unwrap();
    let shape = LaunchConfig { grid: [1, 1, 1], block: [n as u32, 1, 1], dynamic_shared_bytes: 0 };
    emulator.launch(
        &module,
        "test",
        shape,
        &[&input.to_le_bytes(), &output.to_le_bytes(), &0u32.to_le_bytes()],
    )?;
    let mut out = vec![0; 8 * n];
    emulator.read(output, &mut out).unwrap();
    Ok(out.chunks(8).map(|c| u64::from_le_bytes(c.try_into().unwrap())).collect())
}

/// Runs each body with the same inputs in all lanes, which must all give its result: every row that does not is named.
pub fn check_rows(rows: &[(&str, [u64; 3], u64)]) {
    let mut wrong = Vec::new();
    for (body, inputs, expected) in rows {
        let all = run_rows(body, &[*inputs; 32]);
        if all.iter().any(|x| x != expected) {
            wrong.push(format!("{body} of {inputs:x?}: {:#x}, expected {expected:#x}", all[0]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs a whole PTX text: `params` as little-endian bytes.
pub fn launch(
    text: &str,
    entry: &str,
    grid: u32,
    block: u32,
    shared: u32,
    emulator: &Emulator,
    params: &[&[u8]],
) -> Result<LaunchStats, LaunchError> {
    let module = Module::parse(text).unwrap_or_else(|e| panic!("{e}"));
    let shape = LaunchConfig { grid: [grid, 1, 1], block: [block, 1, 1], dynamic_shared_bytes: shared };
    emulator.launch(&module, entry, shape, params)
}

/// A device with one host thread and a limit that no test reaches by right.
pub fn emulator() -> Emulator {
    Emulator::new(Config { threads: 2, max_instructions: Some(50_000_000), ..Config::default() })
}

/// A full module around an entry `k(.param .u64 out)` with the usual registers.
pub fn module(body: &str) -> String {
    format!(
        ".version 8.3\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 out) {{\n\
         .reg .pred %p<20>; .reg .b16 %h<20>; .reg .b32 %r<40>; .reg .f32 %f<20>; .reg .b64 %rd<20>;\n{body}\n}}\n"
    )
}

/// Runs `module(body)` with checks; its argument is the address of `bytes` zeros.
pub fn checked(body: &str, [grid, block]: [u32; 2], bytes: u64) -> Result<(), LaunchError> {
    let module = Module::parse(&module(body)).unwrap_or_else(|e| panic!("{e}"));
    let emulator = emulator();
    let out = emulator.alloc(bytes).unwrap();
    emulator.fill(out, 0, bytes).unwrap();
    let shape = LaunchConfig { grid: [grid, 1, 1], block: [block, 1, 1], dynamic_shared_bytes: 0 };
    let options = LaunchOptions { checks: true, ..LaunchOptions::default() };
    emulator.launch_with(&module, "k", shape, &[&out.to_le_bytes()], &options).map(|_| ())
}

/// Runs `module(body)` and gives the first `words` 32-bit words of its output.
pub fn words(body: &str, grid: u32, block: u32, words: usize) -> Result<Vec<u32>, LaunchError> {
    let emulator = emulator();
    let out = emulator.alloc(words as u64 * 4).unwrap();
    launch(&module(body), "k", grid, block, 0, &emulator, &[&out.to_le_bytes()])?;
    let mut bytes = vec![0; words * 4];
    emulator.read(out, &mut bytes).unwrap();
    Ok(bytes.chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect())
}
