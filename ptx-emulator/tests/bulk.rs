//! Bulk copies and reductions, with and without tensor maps: what moves where, and when.

mod common;
use common::{emulator, module};
use ptx_emulator::{LaunchConfig, Module, Swizzle, TensorMap, TensorMapType};

const TILE: usize = 4096;

/// One thread. Global memory is 8192 bytes as given; `%rd1` is its address, `%r1` that of 4096 bytes of shared memory 0xee, aligned to
/// 1024; `%r2` that of an mbarrier for one arrival, `%rd4` the address of the tensor map. Gives global memory as it is afterwards and
/// the shared memory as it was at `SAVE`.
fn run(body: &str, data: &[u8], map: &[u8; 128]) -> Result<(Vec<u8>, Vec<u8>), String> {
    let emulator = emulator();
    let global = emulator.alloc(8192).unwrap();
    emulator.write(global, data).unwrap();
    let out = emulator.alloc(TILE as u64).unwrap();
    let save = "mov.u32 %r20, 0; COPY: add.u32 %r22, %r1, %r20; ld.shared.u32 %r21, [%r22]; cvt.u64.u32 %rd5, %r20; add.u64 %rd5, %rd5, %rd3;
        st.global.u32 [%rd5], %r21; add.u32 %r20, %r20, 4; setp.lt.u32 %p5, %r20, 4096; @%p5 bra COPY;";
    let text = module(&format!(
        ".shared .align 1024 .b8 tile[4096]; .shared .align 8 .b8 bar[8];
        ld.param.u64 %rd1, [out]; ld.param.u64 %rd3, [save]; mov.u32 %r1, tile; mov.u32 %r2, bar;
        mov.b64 %rd4, map; cvta.param.u64 %rd4, %rd4;
        mov.u32 %r20, 0; mov.u32 %r21, 0xeeeeeeee; FILL: add.u32 %r22, %r1, %r20; st.shared.u32 [%r22], %r21;
        add.u32 %r20, %r20, 4; setp.lt.u32 %p5, %r20, 4096; @%p5 bra FILL;
        mbarrier.init.shared::cta.b64 [%r2], 1; fence.proxy.async.shared::cta;
        {}\nret;",
        body.replace("SAVE;", save)
    ))
    .replace(".param .u64 out)", ".param .u64 out, .param .u64 save, .param .align 64 .b8 map[128])");
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let shape = LaunchConfig { grid: [1, 1, 1], block: [1, 1, 1], dynamic_shared_bytes: 0 };
    let args: [&[u8]; 3] = [&global.to_le_bytes(), &out.to_le_bytes(), map];
    emulator.launch(&module, "k", shape, &args).map_err(|e| e.to_string())?;
    let (mut after, mut saved) = (vec![0; 8192], vec![0; TILE]);
    emulator.read(global, &mut after).unwrap();
    emulator.read(out, &mut saved).unwrap();
    Ok((after, saved))
}

/// Byte k is 7 k + k / 256.
fn bytes() -> Vec<u8> {
    (0..8192usize).map(|k| (k * 7 + k / 256) as u8).collect()
}

const EXPECT: &str = "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], BYTES;";
const WAIT: &str = "W: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r2], 0; @!%p1 bra W;";

/// A copy into shared memory that is waited for.
fn load(copy: &str, size: u32) -> Result<Vec<u8>, String> {
    loaded(copy, size, &[0; 128])
}

fn loaded(copy: &str, size: u32, map: &[u8; 128]) -> Result<Vec<u8>, String> {
    let expect = EXPECT.replace("BYTES", &size.to_string());
    run(&format!("{expect} {copy} {WAIT} SAVE;"), &bytes(), map).map(|r| r.1)
}

#[test]
fn a_copy_into_shared_memory_is_there_when_its_barrier_says_so_and_no_sooner() {
    let copy =
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1+16], [%rd1+32], 48, [%r2];";
    let data = bytes();
    let saved = load(copy, 48).unwrap();
    assert_eq!(saved[16..64], data[32..80]);
    assert!(saved[..16].iter().chain(&saved[64..]).all(|&b| b == 0xee));
    let (_, saved) =
        run(&format!("{} {copy} SAVE;", EXPECT.replace("BYTES", "48")), &data, &[0; 128]).unwrap();
    assert!(saved.iter().all(|&b| b == 0xee));
    // Two copies make up the bytes of one phase; the source is read at the wait.
    let own = "cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes.L2::cache_hint [%r1], [%rd1], 16, [%r2], %rd1;
        cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1+16], [%rd1+16], 16, [%r2];
        mov.u32 %r9, 0; st.global.u32 [%rd1+16], %r9;";
    let saved = load(own, 32).unwrap();
    assert_eq!(saved[..16], data[..16]);
    assert_eq!((&saved[16..20], &saved[20..32]), (&[0; 4][..], &data[20..32]));
}

#[test]
fn bytes_that_no_copy_brings_are_a_deadlock_that_says_so() {
    let copy = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1], 16, [%r2];";
    let error = load(copy, 32).unwrap_err();
    assert!(
        error.contains("deadlock")
            && error.contains("phase 0 lacks 0 of 1 arrivals and 32 bytes, 1 copies are under way"),
        "{error}"
    );
}

#[test]
fn a_copy_out_of_shared_memory_is_read_and_written_at_its_waits() {
    let data = bytes();
    let fill = "mov.u32 %r9, 0x01020304; st.shared.u32 [%r1], %r9; st.shared.u32 [%r1+12], %r9; fence.proxy.async.shared::cta;";
    let copy =
        "cp.async.bulk.global.shared::cta.bulk_group [%rd1+64], [%r1], 16; cp.async.bulk.commit_group;";
    let change = "mov.u32 %r9, 0; st.shared.u32 [%r1], %r9;";
    let old = [4, 3, 2, 1, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 4, 3, 2, 1];
    let new = [0, 0, 0, 0, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 4, 3, 2, 1];
    // Changed after the reading, or before it.
    for (body, wanted) in [
        (format!("{fill} {copy} cp.async.bulk.wait_group 0; {change}"), old),
        (format!("{fill} {copy} cp.async.bulk.wait_group.read 0; {change}"), old),
        (format!("{fill} {copy} {change} cp.async.bulk.wait_group.read 0;"), new),
        (format!("{fill} {copy} cp.async.bulk.wait_group.read 1; {change} cp.async.bulk.wait_group 0;"), new),
    ] {
        let (after, _) = run(&body, &data, &[0; 128]).unwrap();
        assert_eq!(after[64..80], wanted, "{body}");
        assert_eq!((&after[..64], &after[80..]), (&data[..64], &data[80..]));
    }
    // What has only been read is written later than `ld.global` sees it.
    let (_, saved) = run(
        &format!(
            "{fill} {copy} cp.async.bulk.wait_group.read 0; ld.global.u32 %r10, [%rd1+64]; st.shared.u32 [%r1+32], %r10;
            cp.async.bulk.wait_group 0; ld.global.u32 %r10, [%rd1+64]; st.shared.u32 [%r1+36], %r10; SAVE;"
        ),
        &data,
        &[0; 128],
    )
    .unwrap();
    assert_eq!((&saved[32..36], &saved[36..40]), (&data[64..68], &[4, 3, 2, 1][..]));
    for body in [format!("{fill} {copy}"), format!("{fill} {copy} cp.async.bulk.wait_group.read 1;")] {
        let error = run(&body, &data, &[0; 128]).unwrap_err();
        assert!(error.contains("the block ended while a bulk copy still reads its shared memory"), "{error}");
        assert!(error.contains("cp.async.bulk.global.shared::cta.bulk_group"), "{error}");
    }
}

#[test]
fn reductions_combine_with_what_is_there() {
    // Global words 10, 20, -1, 2^31; shared words 1, 2, 3, 4.
    let data: Vec<u8> = [10u32, 20, u32::MAX, 1 << 31].iter().flat_map(|x| x.to_le_bytes()).collect();
    let fill = "mov.u32 %r10, 1; mov.u32 %r11, 2; mov.u32 %r12, 3; mov.u32 %r13, 4; st.shared.v4.u32 [%r1], {%r10, %r11, %r12, %r13};";
    let out = |reduction: &str| {
        let body = format!(
            "{fill} {reduction} [%rd1], [%r1], 16;
            cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"
        );
        let (after, _) = run(&body, &data, &[0; 128]).unwrap();
        let words: Vec<u32> =
            after[..16].chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect();
        words
    };
    assert_eq!(out("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32"), [11, 22, 2, 0x8000_0004]);
    assert_eq!(out("cp.reduce.async.bulk.global.shared::cta.bulk_group.min.s32"), [1, 2, u32::MAX, 1 << 31]);
    assert_eq!(out("cp.reduce.async.bulk.global.shared::cta.bulk_group.min.u32"), [1, 2, 3, 4]);
    assert_eq!(out("cp.reduce.async.bulk.global.shared::cta.bulk_group.max.s32"), [10, 20, 3, 4]);
    assert_eq!(out("cp.reduce.async.bulk.global.shared::cta.bulk_group.and.b32"), [0, 0, 3, 0]);
    assert_eq!(
        out("cp.reduce.async.bulk.global.shared::cta.bulk_group.or.b32"),
        [11, 22, u32::MAX, 0x8000_0004]
    );
    assert_eq!(
        out("cp.reduce.async.bulk.global.shared::cta.bulk_group.xor.b32"),
        [11, 22, 0xffff_fffc, 0x8000_0004]
    );
    assert_eq!(out("cp.reduce.async.bulk.global.shared::cta.bulk_group.inc.u32"), [0, 0, 0, 0]);
    assert_eq!(out("cp.reduce.async.bulk.global.shared::cta.bulk_group.dec.u32"), [1, 2, 3, 4]);
    // 1 + 2 in f32; 1 + 2 and 0.5 + 0.25 in f16; 1 + 2 in bf16.
    let float = |old: u32, add: u32, ty: &str| {
        let data: Vec<u8> = [old; 4].iter().flat_map(|x| x.to_le_bytes()).collect();
        let body = format!(
            "mov.b32 %r10, {add}; st.shared.v4.u32 [%r1], {{%r10, %r10, %r10, %r10}};
            cp.reduce.async.bulk.global.shared::cta.bulk_group.L2::cache_hint.add{ty} [%rd1], [%r1], 16, %rd1;
            cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"
        );
        let (after, _) = run(&body, &data, &[0; 128]).unwrap();
        assert!(after[..16].chunks(4).all(|c| c == &after[..4]));
        u32::from_le_bytes(after[..4].try_into().unwrap())
    };
    assert_eq!(float(0x3f80_0000, 0x4000_0000, ".f32"), 0x4040_0000);
    assert_eq!(float(0x3800_3c00, 0x3400_4000, ".noftz.f16"), 0x3a00_4200);
    assert_eq!(float(0x3f80_3f80, 0x4000_4000, ".noftz.bf16"), 0x4040_4040);
    // Into shared memory, by a barrier: the tile's first 16 bytes on its next 16.
    let body = format!(
        "{fill} st.shared.v4.u32 [%r1+16], {{%r10, %r10, %r10, %r10}}; {}
        cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u32 [%r1+16], [%r1], 16, [%r2]; {WAIT} SAVE;",
        EXPECT.replace("BYTES", "16")
    );
    let (_, saved) = run(&body, &data, &[0; 128]).unwrap();
    assert_eq!(saved[16..32], [2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0]);
}

/// Words 1, 2, 3 and 4 on 10, 20, the greatest and the least signed one.
#[test]
fn reductions_into_shared_memory_of_every_operation() {
    for (reduction, expected) in [
        (
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.and.b32 [%r1+16], [%r1], 16, [%r2];",
            [0, 0, 3, 0],
        ),
        (
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.or.b32 [%r1+16], [%r1], 16, [%r2];",
            [11, 22, u32::MAX, 0x8000_0004],
        ),
        (
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.xor.b32 [%r1+16], [%r1], 16, [%r2];",
            [11, 22, 0xffff_fffc, 0x8000_0004],
        ),
        (
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.min.s32 [%r1+16], [%r1], 16, [%r2];",
            [1, 2, u32::MAX, 1 << 31],
        ),
        (
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.max.u32 [%r1+16], [%r1], 16, [%r2];",
            [10, 20, u32::MAX, 1 << 31],
        ),
        // What is at least the source becomes 0; what is 0 or greater than it becomes the source.
        (
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.inc.u32 [%r1+16], [%r1], 16, [%r2];",
            [0, 0, 0, 0],
        ),
        (
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.dec.u32 [%r1+16], [%r1], 16, [%r2];",
            [1, 2, 3, 4],
        ),
        // One carry.
        (
            "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u64 [%r1+16], [%r1], 16, [%r2];",
            [11, 22, 2, 0x8000_0005],
        ),
    ] {
        let body = format!(
            "mov.u32 %r10, 1; mov.u32 %r11, 2; mov.u32 %r12, 3; mov.u32 %r13, 4; st.shared.v4.u32 [%r1], {{%r10, %r11, %r12, %r13}};
            mov.u32 %r10, 10; mov.u32 %r11, 20; mov.u32 %r12, -1; mov.u32 %r13, 0x80000000;
            st.shared.v4.u32 [%r1+16], {{%r10, %r11, %r12, %r13}}; {} {reduction} {WAIT} SAVE;",
            EXPECT.replace("BYTES", "16")
        );
        let (_, saved) = run(&body, &bytes(), &[0; 128]).unwrap();
        assert_eq!(saved[16..32], *expected.map(u32::to_le_bytes).concat(), "{reduction}");
    }
}

/// The manual: adding f32 to global memory takes and gives zeros for subnormals; f16 and bf16 keep theirs (`.noftz`).
#[test]
fn sums_of_f32_in_global_memory_have_no_subnormals() {
    for (reduction, old, value, expected) in [
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32", 1, 1u32, 0),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32", 0x8000_0001, 0x8000_0001, 0x8000_0000),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32", 0x0080_0001, 0x8080_0000, 0),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32", 0x0080_0000, 0x0080_0000, 0x0100_0000),
        (
            "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.noftz.f16",
            0x0001_0001,
            0x0001_03ff,
            0x0002_0400,
        ),
        (
            "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.noftz.bf16",
            0x0001_0001,
            0x0001_007f,
            0x0002_0080,
        ),
    ] {
        let body = format!(
            "mov.b32 %r10, {value}; st.shared.v4.u32 [%r1], {{%r10, %r10, %r10, %r10}};
            {reduction} [%rd1], [%r1], 16;
            cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"
        );
        let (after, _) = run(&body, &[u32::to_le_bytes(old); 4].concat(), &[0; 128]).unwrap();
        assert_eq!(
            after[..16],
            [u32::to_le_bytes(expected); 4].concat(),
            "{reduction} of {value:#x} to {old:#x}"
        );
    }
}

/// A map over the bytes of global memory, which begin at the address the emulator gives first.
fn map(data_type: TensorMapType, sizes: &[u64], strides: &[u64], boxes: &[u32]) -> TensorMap {
    let address = emulator().alloc(16).unwrap();
    TensorMap {
        data_type,
        address,
        sizes: sizes.to_vec(),
        strides: strides.to_vec(),
        box_sizes: boxes.to_vec(),
        element_strides: vec![1; sizes.len()],
        swizzle: Swizzle::None,
        fill_nan: false,
    }
}

/// Loads a box at some coordinates to the tile's start.
fn box_at(map: &TensorMap, coordinates: &[i32]) -> Vec<u8> {
    let list: Vec<String> = coordinates.iter().map(|c| c.to_string()).collect();
    let copy = format!(
        "cp.async.bulk.tensor.{}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%rd4, {{{}}}], [%r2];",
        coordinates.len(),
        list.join(", ")
    );
    loaded(&copy, map.box_bytes() as u32, &map.encode().unwrap()).unwrap()
}

#[test]
fn boxes_of_every_rank_lie_row_after_row() {
    let data = bytes();
    // 1: 32 bytes from byte 5.
    let saved = box_at(&map(TensorMapType::U8, &[8192], &[], &[32]), &[5]);
    assert_eq!(saved[..32], data[5..37]);
    assert!(saved[32..].iter().all(|&b| b == 0xee));
    // 2: three rows of 8 halfwords, of rows 64 bytes apart, from (4, 2).
    let saved = box_at(&map(TensorMapType::F16, &[32, 16], &[64], &[8, 3]), &[4, 2]);
    for row in 0..3 {
        let from = (2 + row) * 64 + 8;
        assert_eq!(saved[16 * row..16 * (row + 1)], data[from..from + 16]);
    }
    // 5: words; 2 in each outer dimension, at the coordinates 4, 1, 0, 1, 1.
    let five = map(TensorMapType::F32, &[8, 3, 3, 3, 3], &[32, 96, 288, 864], &[4, 2, 2, 2, 2]);
    let saved = box_at(&five, &[4, 1, 0, 1, 1]);
    for row in 0..16 {
        let bit = |k: usize| row >> k & 1;
        let from = 16 + 32 * (1 + bit(0)) + 96 * bit(1) + 288 * (1 + bit(2)) + 864 * (1 + bit(3));
        assert_eq!(saved[16 * row..16 * (row + 1)], data[from..from + 16], "row {row}");
    }
}

#[test]
fn elements_outside_the_tensor_are_zero_or_nan_and_count() {
    let data = bytes();
    // 10 columns and 3 rows of halfwords; the box is 8 wide and 4 high.
    let mut small = map(TensorMapType::F16, &[10, 3], &[32], &[8, 4]);
    // Two columns and a row before the tensor.
    let saved = box_at(&small, &[-2, -1]);
    let mut wanted = vec![0; 64];
    for row in 1..4 {
        wanted[16 * row + 4..16 * (row + 1)].copy_from_slice(&data[32 * (row - 1)..32 * (row - 1) + 12]);
    }
    assert_eq!(saved[..64], wanted);
    // Past its end, with NaN.
    small.fill_nan = true;
    let saved = box_at(&small, &[6, 1]);
    let mut wanted = [0xff, 0x7f].repeat(32);
    for row in 0..2 {
        wanted[16 * row..16 * row + 8].copy_from_slice(&data[32 * (row + 1) + 12..32 * (row + 1) + 20]);
    }
    assert_eq!(saved[..64], wanted);
    // Wholly outside.
    assert_eq!(box_at(&small, &[100, -50])[..64], [0xff, 0x7f].repeat(32));
}

#[test]
fn element_strides_skip_rows() {
    let data = bytes();
    let mut every_third = map(TensorMapType::U32, &[4, 100], &[16], &[4, 7]);
    every_third.element_strides = vec![1, 3];
    // Rows 1, 4 and 7: as many as 7 / 3 rounded up.
    let saved = box_at(&every_third, &[0, 1]);
    for (k, row) in [1, 4, 7].into_iter().enumerate() {
        assert_eq!(saved[16 * k..16 * (k + 1)], data[16 * row..16 * (row + 1)]);
    }
    assert!(saved[48..].iter().all(|&b| b == 0xee));
}

#[test]
fn swizzles_exchange_the_pieces_of_a_row() {
    let data = bytes();
    for (swizzle, columns, mask) in [(Swizzle::B128, 128, 7), (Swizzle::B64, 64, 3), (Swizzle::B32, 32, 1)] {
        let mut wide = map(TensorMapType::U8, &[256, 32], &[256], &[columns, 16]);
        wide.swizzle = swizzle;
        let saved = box_at(&wide, &[0, 0]);
        for row in 0..16usize {
            for piece in 0..columns as usize / 16 {
                let plain = row * columns as usize + 16 * piece;
                // The line of 128 bytes says with what the piece's number is combined.
                let at = plain ^ (((plain / 128) & mask) << 4);
                let from = 256 * row + 16 * piece;
                assert_eq!(
                    saved[at..at + 16],
                    data[from..from + 16],
                    "{swizzle:?}, row {row}, piece {piece}"
                );
            }
        }
    }
}

#[test]
fn boxes_go_back_where_they_came_from_and_no_farther() {
    let data = bytes();
    for swizzle in [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128] {
        let mut halves = map(TensorMapType::F16, &[20, 5], &[64], &[16, 4]);
        halves.swizzle = swizzle;
        let encoded = halves.encode().unwrap();
        // To (12, 2) what was at (0, 0): 8 columns and 3 rows of it lie inside.
        let body = format!(
            "{} cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes.L2::cache_hint [%r1], [map, {{0, 0}}], [%r2], %rd1; {WAIT}
            cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%rd4, {{12, 2}}], [%r1];
            cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;",
            EXPECT.replace("BYTES", "128")
        );
        let (after, _) = run(&body, &data, &encoded).unwrap();
        let mut wanted = data.clone();
        for row in 0..3 {
            let source: Vec<u8> = data[64 * row..64 * row + 16].to_vec();
            wanted[64 * (row + 2) + 24..64 * (row + 2) + 40].copy_from_slice(&source);
        }
        assert_eq!(after, wanted, "{swizzle:?}");
    }
}

#[test]
fn tensor_reductions_take_their_type_from_the_map() {
    let data: Vec<u8> = [0x3f80_0000u32; 8].iter().flat_map(|x| x.to_le_bytes()).collect();
    let floats = map(TensorMapType::F32, &[6], &[], &[4]);
    let body =
        "mov.b32 %r10, 0x40000000; st.shared.v4.u32 [%r1], {%r10, %r10, %r10, %r10}; fence.proxy.async;
        cp.reduce.async.bulk.tensor.1d.global.shared::cta.add.tile.bulk_group [%rd4, {4}], [%r1];
        cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;";
    let (after, _) = run(body, &data, &floats.encode().unwrap()).unwrap();
    let words: Vec<f32> = after[..32].chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
    assert_eq!(words, [1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 1.0, 1.0]);
}

#[test]
fn prefetches_change_nothing() {
    let floats = map(TensorMapType::F32, &[6], &[], &[4]).encode().unwrap();
    let body = "cp.async.bulk.prefetch.L2.global [%rd1], 64; cp.async.bulk.prefetch.L2.global.L2::cache_hint [%rd1], 16, %rd1;
        cp.async.bulk.prefetch.tensor.1d.L2.global.tile [%rd4, {0}]; prefetch.tensormap [%rd4]; prefetch.param.tensormap [map];
        griddepcontrol.wait; griddepcontrol.launch_dependents;";
    assert_eq!(run(body, &bytes(), &floats).unwrap().0, bytes());
}

#[test]
fn wrong_addresses_sizes_and_maps_are_faults() {
    let good = map(TensorMapType::F32, &[6, 2], &[32], &[4, 1]).encode().unwrap();
    let bulk = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes";
    let tensor = "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes";
    for (body, part) in [
        (
            format!("mov.u32 %r30, 24; {bulk} [%r1], [%rd1], %r30, [%r2];"),
            "bulk copy of 24 bytes, no multiple of 16",
        ),
        (format!("{bulk} [%r1+8], [%rd1], 16, [%r2];"), "not a multiple of 16, or beyond"),
        (format!("{bulk} [%r1], [%rd1+8], 16, [%r2];"), "misaligned read of 16 bytes at global address"),
        (format!("{bulk} [%r1], [%rd1+8192], 16, [%r2];"), "0 bytes past the end of the allocation"),
        (format!("{bulk} [%r1+4096], [%rd1], 32, [%r2];"), "bulk copy of 32 bytes at shared address 0x1000"),
        (format!("{bulk} [%r1], [%rd1], 16, [%r2+8];"), "an mbarrier at shared address"),
        (format!("{bulk} [%r1], [%rd1], 16, [%r1];"), "there is no mbarrier at shared address 0x0"),
        (format!("{tensor} [%r1+16], [%rd4, {{0, 0}}], [%r2];"), "not a multiple of 128"),
        (format!("{tensor} [%r1], [%rd1, {{0, 0}}], [%r2];"), "no tensor map lies at address"),
        (format!("{tensor} [%r1], [%rd4+8, {{0, 0}}], [%r2];"), "not a multiple of 64"),
        (
            format!("{} [%r1], [%rd4, {{0}}], [%r2];", tensor.replace("2d", "1d")),
            "1 coordinates for a tensor map of 2 dimensions",
        ),
        (
            format!("{bulk}.multicast::cluster [%r1], [%rd1], 16, [%r2], 2;"),
            "a multicast to the blocks 0x0002 of a cluster of 1",
        ),
    ] {
        let error = run(&body, &bytes(), &good).unwrap_err();
        assert!(error.contains(part) && error.contains("cp.async.bulk"), "{body}: {error}");
    }
    let large = map(TensorMapType::F32, &[6, 2, 1, 1, 1], &[32, 32, 32, 32], &[256; 5]).encode().unwrap();
    let all = format!("{} [%r1], [%rd4, {{0, 0, 0, 0, 0}}], [%r2];", tensor.replace("2d", "5d"));
    let error = run(&all, &bytes(), &large).unwrap_err();
    assert!(error.contains("a box of 4398046511104 bytes, where the block has 4104"), "{error}");
    let beyond = map(TensorMapType::F32, &[6, 300], &[32], &[4, 1]).encode().unwrap();
    let error = run(&format!("{tensor} [%r1], [%rd4, {{0, 256}}], [%r2];"), &bytes(), &beyond).unwrap_err();
    assert!(error.contains("0 bytes past the end of the allocation of 8192 bytes"), "{error}");
}

#[test]
fn malformed_forms_are_errors_with_their_line() {
    for (statement, part) in [
        ("cp.async.bulk.global.global.bulk_group [%rd1], [%rd2], 16;", "there is no"),
        ("cp.async.bulk.shared::cluster.global.bulk_group [%r1], [%rd2], 16;", "there is no"),
        (
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd2], 16;",
            "cannot have",
        ),
        (
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r1], [%rd2], 16, [%r2];",
            "cannot have",
        ),
        (
            "cp.async.bulk.global.shared::cta.bulk_group.L2::cache_hint [%rd1], [%r1], 16;",
            "wants a cache policy",
        ),
        ("cp.async.bulk.wait_group %r1;", "constant number of groups"),
        ("cp.async.bulk.commit_group 1;", "takes 0 operands"),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.mul.u32 [%rd1], [%r1], 16;", "there is no"),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.s8 [%rd1], [%r1], 16;", "there is no"),
        (
            "cp.async.bulk.tensor.6d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%rd1, {0}], [%r2];",
            "there is no",
        ),
        (
            "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%rd1, {0}], [%r2];",
            "1 coordinates are given, 2 are wanted",
        ),
        (
            "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%rd1], [%r2];",
            "cannot have",
        ),
        (
            "cp.async.bulk.tensor.3d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r1], [%rd1, {0, 0, 0}], [%r2], {1};",
            "`.im2col` is no modifier of `cp`",
        ),
    ] {
        let error = Module::parse(&module(&format!("\n{statement}\nret;"))).err();
        let error = error.unwrap_or_else(|| panic!("{statement}"));
        assert_eq!(error.problems[0].line, 7, "{error}");
        assert!(error.to_string().contains(part), "{statement}: {error}");
    }
}
