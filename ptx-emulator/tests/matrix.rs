//! `ldmatrix` and `stmatrix`: which lane holds what, by the manual.

mod common;
use common::{emulator, launch, module};
use ptx_emulator::{LaunchError, Module};

/// Each lane has 32 words: where it reads its row from, then what it finds.
fn run(body: &str, addresses: &[u32; 32]) -> Result<Vec<[u32; 4]>, LaunchError> {
    let emulator = emulator();
    let out = emulator.alloc(32 * 16).unwrap();
    let bytes: Vec<u8> = addresses.iter().flat_map(|w| w.to_le_bytes()).collect();
    emulator.write(out, &bytes).unwrap();
    // Shared memory: the halfword at byte 2 k is k.
    let text = module(&format!(
        ".shared .align 16 .b8 tile[1024];
        ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x;
        mul.lo.u32 %r2, %r1, 32; mul.lo.u32 %r3, %r1, 16;
        mov.u32 %r4, 0; mov.u32 %r20, 0; mov.u32 %r21, 0; mov.u32 %r22, 0; mov.u32 %r23, 0;
        FILL: add.u32 %r5, %r3, %r4; add.u32 %r6, %r5, 1; shl.b32 %r7, %r6, 16; or.b32 %r7, %r7, %r5;
        shl.b32 %r8, %r4, 1; add.u32 %r8, %r8, %r2; st.shared.u32 [%r8], %r7;
        add.u32 %r4, %r4, 2; setp.lt.u32 %p1, %r4, 16; @%p1 bra FILL;
        mad.wide.u32 %rd2, %r1, 4, %rd1; ld.global.u32 %r9, [%rd2]; bar.sync 0;
        {body}
        mad.wide.u32 %rd2, %r1, 16, %rd1;
        st.global.v4.b32 [%rd2], {{%r20, %r21, %r22, %r23}}; ret;"
    ));
    launch(&text, "k", 1, 32, 0, &emulator, &[&out.to_le_bytes()])?;
    let mut bytes = vec![0; 32 * 16];
    emulator.read(out, &mut bytes).unwrap();
    let words: Vec<u32> = bytes.chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect();
    Ok(words.chunks(4).map(|c| c.try_into().unwrap()).collect())
}

/// Rows of 16 bytes in an order of no pattern.
fn scattered() -> [u32; 32] {
    std::array::from_fn(|l| (l as u32 * 11 + 5) % 32 * 32 + 16 * (l as u32 & 1))
}

/// The halfword at a row's address plus `column`.
fn element(addresses: &[u32; 32], tile: usize, row: usize, column: usize) -> u32 {
    addresses[8 * tile + row] / 2 + column as u32
}

#[test]
fn ldmatrix_gives_each_lane_two_neighbours_of_a_row() {
    let at = scattered();
    for (count, registers) in [(1, "{%r20}"), (2, "{%r20, %r21}"), (4, "{%r20, %r21, %r22, %r23}")] {
        for space in [".shared", ".shared::cta"] {
            let body = format!("ldmatrix.sync.aligned.m8n8.x{count}{space}.b16 {registers}, [%r9];");
            let out = run(&body, &at).unwrap();
            for (l, words) in out.iter().enumerate() {
                for (j, &word) in words.iter().enumerate() {
                    let wanted = if j < count {
                        element(&at, j, l / 4, 2 * (l % 4)) | element(&at, j, l / 4, 2 * (l % 4) + 1) << 16
                    } else {
                        0
                    };
                    assert_eq!(word, wanted, "x{count}, lane {l}, register {j}");
                }
            }
        }
    }
}

#[test]
fn transposed_ldmatrix_gives_two_neighbours_of_a_column() {
    let at = scattered();
    let out = run(
        "cvt.u64.u32 %rd3, %r9; cvta.shared.u64 %rd3, %rd3;
        ldmatrix.sync.aligned.m8n8.x4.trans.b16 {%r20, %r21, %r22, %r23}, [%rd3];",
        &at,
    )
    .unwrap();
    for (l, words) in out.iter().enumerate() {
        for (j, &word) in words.iter().enumerate() {
            let wanted = element(&at, j, 2 * (l % 4), l / 4) | element(&at, j, 2 * (l % 4) + 1, l / 4) << 16;
            assert_eq!(word, wanted, "lane {l}, register {j}");
        }
    }
}

#[test]
fn addresses_of_lanes_that_give_none_are_not_looked_at() {
    let mut at = scattered();
    at[8..].fill(0xffff_fff1);
    let out = run("ldmatrix.sync.aligned.m8n8.x1.shared.b16 %r20, [%r9];", &at).unwrap();
    assert_eq!(out[31][0], element(&at, 0, 7, 6) | element(&at, 0, 7, 7) << 16);
    at = scattered();
    at[16..].fill(0xffff_fff1);
    run("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r20, %r21}, [%r9];", &at).unwrap();
}

#[test]
fn stmatrix_puts_back_what_ldmatrix_takes() {
    let at = scattered();
    for (count, registers) in [(1, "{%r20}"), (2, "{%r20, %r21}"), (4, "{%r20, %r21, %r22, %r23}")] {
        for trans in ["", ".trans"] {
            // Lane l's register j is l + 256 j and 1000 more in the upper half. All of the tile is read back by plain loads.
            let body = format!(
                "mov.u32 %r10, %r1; add.u32 %r11, %r1, 1000; shl.b32 %r12, %r11, 16; or.b32 %r20, %r10, %r12;
                add.u32 %r21, %r20, 0x1000100; add.u32 %r22, %r20, 0x2000200; add.u32 %r23, %r20, 0x3000300;
                stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 [%r9], {registers};
                bar.warp.sync -1;
                ld.shared.v4.b32 {{%r20, %r21, %r22, %r23}}, [%r9];"
            );
            let out = run(&body, &at).unwrap();
            for (lane, words) in out.iter().enumerate().take(8 * count) {
                let (tile, row) = (lane / 8, lane % 8);
                for column in 0..8usize {
                    let got = words[column / 2] >> (16 * (column % 2)) & 0xffff;
                    let (line, place) = if trans.is_empty() { (row, column) } else { (column, row) };
                    let holder = 4 * line + place / 2;
                    let wanted = holder as u32 + 256 * tile as u32 + 1000 * (place as u32 % 2);
                    assert_eq!(got, wanted, "x{count}{trans}, tile {tile}, row {row}, column {column}");
                }
            }
        }
    }
}

#[test]
fn rows_must_be_aligned_and_in_shared_memory() {
    let body = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r20, %r21, %r22, %r23}, [%r9];";
    let mut at = scattered();
    at[13] += 8;
    let error = run(body, &at).unwrap_err().to_string();
    for part in [
        "misaligned read of 16 bytes at shared address",
        "not a multiple of 16",
        "thread (13, 0, 0)",
        "ldmatrix",
    ] {
        assert!(error.contains(part), "{error}");
    }
    at[13] = 1024;
    let error = run(body, &at).unwrap_err().to_string();
    assert!(error.contains("read of 16 bytes at shared address 0x400, which has 1024 bytes"), "{error}");
    let error = run(
        &body
            .replace("ldmatrix", "stmatrix")
            .replace("{%r20, %r21, %r22, %r23}, [%r9]", "[%r9], {%r20, %r21, %r22, %r23}"),
        &at,
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("write of 16 bytes at shared address 0x400"), "{error}");
    let error = run("ldmatrix.sync.aligned.m8n8.x1.b16 {%r20}, [%rd1];", &at).unwrap_err().to_string();
    assert!(error.contains("does not lie in shared memory"), "{error}");
}

#[test]
fn malformed_forms_are_errors_with_their_line() {
    let parse = |statement: &str| Module::parse(&module(&format!("\n{statement}\nret;")));
    for (statement, part) in [
        ("ldmatrix.sync.aligned.m8n8.x3.shared.b16 {%r1, %r2, %r3}, [%r9];", "there is no"),
        ("ldmatrix.sync.m8n8.x1.shared.b16 {%r1}, [%r9];", "there is no"),
        ("ldmatrix.sync.aligned.m8n8.x1.global.b16 {%r1}, [%r9];", "there is no"),
        ("ldmatrix.sync.aligned.m8n8.x1.shared.b8 {%r1}, [%r9];", "there is no"),
        ("ldmatrix.sync.aligned.m8n8.x1.shared.trans.b16 {%r1}, [%r9];", "there is no"),
        ("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r1}, [%r9];", "2 registers are wanted, 1 are given"),
        ("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%r9], {%r1, %r2, %r3};", "2 registers are wanted, 3"),
        ("stmatrix.sync.aligned.m8n8.x1.shared.b16 %r9, {%r1};", "an address in `[ ]` is wanted"),
        ("ldmatrix.sync.aligned.m8n8.x1.shared.b16 [%r9], {%r1};", "an address in `[ ]` is wanted"),
    ] {
        let error = parse(statement).err().unwrap_or_else(|| panic!("{statement}"));
        assert_eq!(error.problems[0].line, 7, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}
