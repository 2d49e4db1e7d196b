//! Tensor maps that a kernel makes of zeros, or changes: `tensormap.replace` and `tensormap.cp_fenceproxy`.

mod common;
use common::emulator;
use ptx_emulator::{LaunchConfig, LaunchOptions, Module, Swizzle, TensorMap, TensorMapType};

/// One warp, under checks. Global memory is 16 rows of 64 bytes, byte k of it 7 k + k / 256; `%rd1` is its address, `%rd2` that of a map in
/// global memory as given, `%r1` the shared address of 2048 bytes of zeros, `%r2` that of an mbarrier for one arrival, `%p1` true in
/// thread 0. Gives the 2048 bytes as they are at the end.
fn run(body: &str, map: &[u8; 128]) -> Result<Vec<u8>, String> {
    run_blocks(1, body, &bytes(), map)
}

/// As `run`, on several blocks, whose number is `%r9`, and other data. There are four bytes of zeros behind the map.
fn run_blocks(blocks: u32, body: &str, global: &[u8], map: &[u8; 128]) -> Result<Vec<u8>, String> {
    let emulator = emulator();
    let [data, maps, out] = [1024, 256, 2048].map(|size| emulator.alloc(size).unwrap());
    emulator.write(data, global).unwrap();
    emulator.write(maps, map).unwrap();
    emulator.write(maps + 128, &[0; 4]).unwrap();
    let text = kernel(body);
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let shape = LaunchConfig { grid: [blocks, 1, 1], block: [32, 1, 1], dynamic_shared_bytes: 0 };
    let args: [&[u8]; 3] = [&data.to_le_bytes(), &maps.to_le_bytes(), &out.to_le_bytes()];
    let options = LaunchOptions { checks: true, ..LaunchOptions::default() };
    emulator.launch_with(&module, "k", shape, &args, &options).map_err(|e| e.to_string())?;
    let mut found = vec![0; 2048];
    emulator.read(out, &mut found).unwrap();
    Ok(found)
}

fn kernel(body: &str) -> String {
    format!(
        ".version 8.6\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 data, .param .u64 map, .param .u64 out) {{
        .reg .pred %p<4>; .reg .b32 %r<16>; .reg .b64 %rd<8>; .shared .align 1024 .b8 tile[2048]; .shared .align 8 .b8 bar[8];
        ld.param.u64 %rd1, [data]; ld.param.u64 %rd2, [map]; ld.param.u64 %rd3, [out]; mov.u32 %r1, tile; mov.u32 %r2, bar;
        mov.u32 %r9, %ctaid.x; mov.u32 %r3, %tid.x; setp.eq.u32 %p1, %r3, 0; mad.lo.u32 %r4, %r3, 4, %r1; mov.u32 %r5, 0;
        ZERO: st.shared.u32 [%r4], 0; add.u32 %r4, %r4, 128; add.u32 %r5, %r5, 1; setp.lt.u32 %p2, %r5, 16; @%p2 bra ZERO;
        @%p1 mbarrier.init.shared::cta.b64 [%r2], 1; fence.proxy.async.shared::cta; bar.sync 0;
        {body}
        bar.sync 0; mad.lo.u32 %r4, %r3, 4, %r1; mul.wide.u32 %rd4, %r3, 4; add.u64 %rd3, %rd3, %rd4; mov.u32 %r5, 0;
        SAVE: ld.shared.u32 %r6, [%r4]; st.global.u32 [%rd3], %r6; add.u32 %r4, %r4, 128; add.u64 %rd3, %rd3, 128;
        add.u32 %r5, %r5, 1; setp.lt.u32 %p2, %r5, 16; @%p2 bra SAVE; ret; }}"
    )
}

fn bytes() -> Vec<u8> {
    (0..1024usize).map(|k| (k * 7 + k / 256) as u8).collect()
}

/// A box of 8 by 4 halves of a tensor of 20 by 16, at column 16 and row 2, to the tile's place 1024.
const COPY: &str = "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 64;
    @%p1 cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1+1024], [%rd2, {16, 2}], [%r2];
    WAIT: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r2], 0; @!%p3 bra WAIT;";

/// What `COPY` brings: 4 of the 8 columns lie in the tensor, the others are `outside`.
fn copied(outside: [u8; 2]) -> Vec<u8> {
    let rows = (2..6).map(|row| [&bytes()[64 * row + 32..64 * row + 40], &outside.repeat(4)].concat());
    rows.collect::<Vec<_>>().concat()
}

/// All fields of `COPY`'s map, at the tile's start.
fn fields(swizzle: u32, fill: u32) -> String {
    let replace = "@%p1 tensormap.replace.tile";
    format!(
        "{replace}.global_address.shared::cta.b1024.b64 [ %r1 + 0 ], %rd1; {replace}.rank.shared::cta.b1024.b32 [%r1], 0x1;
        mov.u32 %r7, 8; {replace}.box_dim.shared::cta.b1024.b32 [%r1], 0x0, %r7; {replace}.box_dim.shared::cta.b1024.b32 [%r1], 0x1, 4;
        {replace}.global_dim.shared::cta.b1024.b32 [%r1], 0x0, 20; {replace}.global_dim.shared::cta.b1024.b32 [%r1], 0x1, 16;
        mov.u64 %rd5, 64; {replace}.global_stride.shared::cta.b1024.b64 [%r1], 0x0, %rd5;
        {replace}.element_stride.shared::cta.b1024.b32 [%r1], 0x0, 1; {replace}.element_stride.shared::cta.b1024.b32 [%r1], 0x1, 1;
        {replace}.elemtype.shared::cta.b1024.b32 [%r1], 0x6; {replace}.interleave_layout.shared::cta.b1024.b32 [%r1], 0x0;
        {replace}.swizzle_mode.shared::cta.b1024.b32 [%r1], {swizzle}; {replace}.fill_mode.shared::cta.b1024.b32 [%r1], {fill}; bar.warp.sync -1;"
    )
}

const PUBLISH: &str = "tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [ %rd2 + 0 ], [ %r1 + 0 ], 0x80;
    fence.proxy.tensormap::generic.acquire.gpu [ %rd2 + 0 ], 0x80; fence.proxy.async.shared::cta; bar.sync 0;";

fn encoded() -> TensorMap {
    TensorMap {
        data_type: TensorMapType::F16,
        address: 0x1000,
        sizes: vec![20, 16],
        strides: vec![64],
        box_sizes: vec![8, 4],
        element_strides: vec![1, 1],
        swizzle: Swizzle::None,
        fill_nan: false,
    }
}

#[test]
fn a_map_made_of_zeros_is_as_one_of_the_host() {
    for (fill, outside) in [(0, [0, 0]), (1, [0xff, 0x7f])] {
        let out = run(&format!("{}{PUBLISH}{COPY}", fields(0, fill)), &[0xab; 128]).unwrap();
        assert_eq!(out[1024..1088], copied(outside), "fill mode {fill}");
    }
    // Its bytes are those of the host's map.
    let out = run(&fields(3, 0), &[0; 128]).unwrap();
    let made = &out[..128];
    let address = u64::from_le_bytes(made[24..32].try_into().unwrap());
    let host = TensorMap { address, swizzle: Swizzle::B128, ..encoded() };
    assert_eq!(made, host.encode().unwrap());
}

#[test]
fn a_map_of_the_host_is_changed_where_it_lies() {
    let host = encoded().encode().unwrap();
    for space in [".global", ""] {
        let body = format!(
            "@%p1 tensormap.replace.tile.global_address{space}.b1024.b64 [%rd2], %rd1; bar.warp.sync -1;
            fence.proxy.tensormap::generic.release.gpu; fence.proxy.tensormap::generic.acquire.gpu [%rd2], 128; {COPY}"
        );
        assert_eq!(run(&body, &host).unwrap()[1024..1088], copied([0, 0]), "{space}");
    }
    // One that nobody changes needs no fence.
    let untouched = run(COPY, &TensorMap { address: 0x7000_0000_0000, ..encoded() }.encode().unwrap());
    assert_eq!(untouched.unwrap()[1024..1088], copied([0, 0]));
    // Types are numbered otherwise than the driver does: 10 is bf16, which is 9 there.
    let body = fields(0, 0) + "@%p1 tensormap.replace.tile.elemtype.shared::cta.b1024.b32 [%r1], 10;";
    assert_eq!(run(&body, &host).unwrap()[8], TensorMapType::BF16 as u8);
    for (number, ty) in [
        (9, TensorMapType::F64),
        (8, TensorMapType::F32Ftz),
        (11, TensorMapType::Tf32),
        (12, TensorMapType::Tf32Ftz),
    ] {
        let body = format!(
            "{} @%p1 tensormap.replace.tile.elemtype.shared::cta.b1024.b32 [%r1], {number};",
            fields(0, 0)
        );
        assert_eq!(run(&body, &host).unwrap()[8], ty as u8, "{number}");
    }
}

#[test]
fn fields_that_cannot_be_are_errors() {
    let replace = "@%p1 tensormap.replace.tile";
    let all = fields(0, 0);
    let good = encoded().encode().unwrap();
    for (body, part) in [
        (format!("{all} {replace}.rank.shared::cta.b1024.b32 [%r1], 5;"), "`rank` of 5; 0 to 4 are possible"),
        (
            format!("{all} {replace}.box_dim.shared::cta.b1024.b32 [%r1], 0, 257;"),
            "`box_dim` of 257; 1 to 256 are possible",
        ),
        (
            format!("{all} {replace}.element_stride.shared::cta.b1024.b32 [%r1], 4, 0;"),
            "`element_stride` of 0",
        ),
        (
            format!("{all} {replace}.interleave_layout.shared::cta.b1024.b32 [%r1], 1;"),
            "`interleave_layout` of 1: interleaved layouts are not supported, no document says",
        ),
        (format!("{all} {replace}.elemtype.shared::cta.b1024.b32 [%r1], 13;"), "0 to 12 are possible"),
        (format!("{all} {replace}.swizzle_mode.shared::cta.b1024.b32 [%r1], 4;"), "`swizzle_mode` of 4"),
        (
            format!("@%p1 st.shared.u32 [%r1], 5; {replace}.rank.shared::cta.b1024.b32 [%r1], 1;"),
            "neither a tensor map nor 128 zeros",
        ),
        (format!("{replace}.rank.shared::cta.b1024.b32 [%r1+32], 1;"), "not a multiple of 64"),
        // What does not go together shows when the map is used.
        (
            format!("{replace}.fill_mode.shared::cta.b1024.b32 [%r1], 0; bar.warp.sync -1; {PUBLISH}{COPY}"),
            "0 dimensions; 1 to 5 are possible",
        ),
        (
            format!(
                "{} {replace}.global_stride.shared::cta.b1024.b64 [%r1], 0, 40; bar.warp.sync -1; {PUBLISH}{COPY}",
                all
            ),
            "stride 40 of dimension 1",
        ),
        (
            format!("mad.lo.u32 %r8, %r3, 64, %r1; {}", PUBLISH.replace("[ %r1", "[ %r8")),
            "copy different tensor maps",
        ),
    ] {
        let error = run(&body, &good).unwrap_err();
        assert!(error.contains(part), "{body}: {error}");
    }
    for bad in [
        "tensormap.replace.tile.rank.shared::cta.b1024.b64 [%r1], 1;",
        "tensormap.replace.tile.box_dim.shared::cta.b1024.b32 [%r1], 1;",
        "tensormap.replace.tile.box_dim.shared::cta.b1024.b32 [%r1], 5, 1;",
        "tensormap.replace.tile.global_stride.shared::cta.b1024.b64 [%r1], 4, %rd1;",
        "tensormap.replace.tile.elemtype.shared::cta.b1024.b32 [%r1], %r2;",
        "tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%rd2], [%r1], 64;",
        "fence.proxy.tensormap::generic.acquire.gpu [%rd2], 64;",
        "fence.proxy.tensormap::generic.acquire.gpu;",
        "fence.proxy.tensormap::generic.release.gpu [%rd2], 128;",
        "fence.proxy.tensormap::generic.release;",
    ] {
        assert!(Module::parse(&kernel(bad)).is_err(), "{bad}");
    }
}

/// A map that another block changes is seen as a whole, or the race is found.
#[test]
fn a_map_is_read_as_other_memory_is() {
    // That of the emulator's first allocation: a copy that comes before the change reads the data too.
    let address = 0x7000_0000_0000;
    let host = TensorMap { address, element_strides: vec![1, 2], ..encoded() }.encode().unwrap();
    let replace = |fence: &str| {
        format!(
            "setp.eq.u32 %p2, %r9, 1; @%p2 bra OTHER; @!%p1 bra END;
            tensormap.replace.tile.global_address.global.b1024.b64 [%rd2], %rd1;
            tensormap.replace.tile.element_stride.global.b1024.b32 [%rd2], 1, 1; {fence} st.relaxed.gpu.global.u32 [%rd2+128], 1;
            END: ret; OTHER: "
        )
    };
    let wait = "FLAG: ld.relaxed.gpu.global.u32 %r8, [%rd2+128]; setp.eq.u32 %p2, %r8, 0; @%p2 bra FLAG;";
    let release = "fence.proxy.tensormap::generic.release.gpu;";
    let acquire = "fence.proxy.tensormap::generic.acquire.gpu [%rd2], 128;";
    let right = format!("{}{wait}{acquire}{COPY}", replace(release));
    assert_eq!(run_blocks(2, &right, &bytes(), &host).unwrap()[1024..1088], copied([0, 0]));
    for wrong in [
        format!("{}{wait}{acquire}{COPY}", replace("")),
        format!("{}{wait}{COPY}", replace(release)),
        format!("{}{COPY}", replace(release)),
    ] {
        let error = run_blocks(2, &wrong, &bytes(), &host).unwrap_err();
        // Whoever comes second finds it.
        assert!(error.contains("data race") && error.contains("of 128 bytes at global address"), "{error}");
    }
    // Published by the block's own copy of it.
    let publish = PUBLISH.split_once(';').unwrap().0;
    let right = format!(
        "setp.eq.u32 %p2, %r9, 1; @%p2 bra OTHER; {} {publish}; @!%p1 bra END; st.relaxed.gpu.global.u32 [%rd2+128], 1; END: ret;
        OTHER: {wait}{acquire}{COPY}",
        fields(0, 0)
    );
    assert_eq!(run_blocks(2, &right, &bytes(), &host).unwrap()[1024..1088], copied([0, 0]));
    // Nobody wrote these 128 bytes.
    let error = run(&COPY.replace("%rd2", "%rd3"), &host).unwrap_err();
    assert!(error.contains("of which some were never written"), "{error}");
}

#[test]
fn maps_lie_where_the_manual_lets_them() {
    let host = encoded().encode().unwrap();
    let all = fields(0, 0);
    let local = ".local .align 64 .b8 own[128]; mov.u64 %rd5, own; cvta.local.u64 %rd5, %rd5;";
    for (body, part) in [
        (
            format!("{all} cvt.u64.u32 %rd5, %r1; cvta.shared.u64 %rd2, %rd5; {COPY}"),
            "lies in shared memory, where no copy takes it from",
        ),
        (format!("{local} mov.u64 %rd2, %rd5; {COPY}"), "lies in local memory, where no copy takes it from"),
        (
            format!("{local} tensormap.replace.tile.rank.b1024.b32 [%rd5], 1;"),
            "lies in local memory: it must lie in global or shared memory",
        ),
        (
            "cvt.u64.u32 %rd5, %r1; cvta.shared.u64 %rd5, %rd5; fence.proxy.tensormap::generic.acquire.gpu [%rd5], 128;"
                .into(),
            "which are not all of global memory",
        ),
    ] {
        let error = run(&body, &host).unwrap_err();
        assert!(error.contains(part), "{body}: {error}");
    }
    // A generic address of shared memory is good for a change.
    let body = format!(
        "{all} cvt.u64.u32 %rd5, %r1; cvta.shared.u64 %rd5, %rd5; @%p1 tensormap.replace.tile.rank.b1024.b32 [%rd5], 4;"
    );
    assert_eq!(run(&body, &host).unwrap()[9], 5);
}

/// f32, what it becomes without subnormals, as tf32, and as tf32 without subnormals.
const CONVERTED: [[u32; 4]; 12] = [
    [0x0000_0001, 0, 0, 0],
    // The largest subnormal is nearest to the smallest number.
    [0x807f_ffff, 0x8000_0000, 0x8080_0000, 0x8000_0000],
    [0x0040_1000, 0, 0x0040_0000, 0],
    [0x0080_0000; 4],
    // In the middle between two: the even one, which is the lower and then the upper.
    [0x3f80_1000, 0x3f80_1000, 0x3f80_0000, 0x3f80_0000],
    [0x3f80_3000, 0x3f80_3000, 0x3f80_4000, 0x3f80_4000],
    [0x3f80_1001, 0x3f80_1001, 0x3f80_2000, 0x3f80_2000],
    [0xbf80_0fff, 0xbf80_0fff, 0xbf80_0000, 0xbf80_0000],
    // Into the next exponent, and into the last one.
    [0x3fff_ffff, 0x3fff_ffff, 0x4000_0000, 0x4000_0000],
    [0x7f7f_ffff, 0x7f7f_ffff, 0x7f80_0000, 0x7f80_0000],
    [0xff80_0000; 4],
    [0x7f80_0001; 4],
];

/// A map of f32 in some form, of 15 by 16: `%rd2`'s, and the data with the values of `CONVERTED` where its box at (12, 2) has them, three in
/// each of four rows.
fn floats(data_type: TensorMapType) -> ([u8; 128], Vec<u8>) {
    let map = TensorMap {
        data_type,
        address: encoded_address(),
        sizes: vec![15, 16],
        box_sizes: vec![4, 4],
        fill_nan: true,
        ..encoded()
    };
    let mut data = bytes();
    for (k, [value, ..]) in CONVERTED.iter().enumerate() {
        let at = 64 * (2 + k / 3) + 4 * (12 + k % 3);
        data[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    (map.encode().unwrap(), data)
}

/// Where the data of `run` lie.
fn encoded_address() -> u64 {
    emulator().alloc(1024).unwrap()
}

#[test]
fn f32_is_flushed_or_rounded_on_the_way_into_shared_memory() {
    let types = [TensorMapType::F32, TensorMapType::F32Ftz, TensorMapType::Tf32, TensorMapType::Tf32Ftz];
    for (form, data_type) in types.into_iter().enumerate() {
        let (map, data) = floats(data_type);
        let out = run_blocks(1, &COPY.replace("16, 2", "12, 2"), &data, &map).unwrap();
        let words: Vec<u32> =
            out[1024..1088].as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
        for (k, values) in CONVERTED.iter().enumerate() {
            let found = words[4 * (k / 3) + k % 3];
            assert_eq!(found, values[form], "{:#x} as {data_type:?}: {found:#x}", values[0]);
        }
        // What lies outside the tensor is the NaN of other types.
        assert_eq!(
            words[3..].iter().step_by(4).copied().collect::<Vec<_>>(),
            [0x7fff_ffff; 4],
            "{data_type:?}"
        );
    }
}

#[test]
fn f32_is_copied_out_of_shared_memory_as_it_is() {
    // Two values, of which either form of tf32 would change both.
    let store = "@%p1 st.shared.v2.u32 [%r1+1024], {0x3f801001, 0x807fffff}; fence.proxy.async.shared::cta; bar.warp.sync -1;
        @%p1 cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%rd2, {12, 2}], [%r1+1024];
        @%p1 cp.async.bulk.commit_group; @%p1 cp.async.bulk.wait_group 0;
        @%p1 ld.global.v2.u32 {%r6, %r7}, [%rd1+176]; @%p1 st.shared.v2.u32 [%r1], {%r6, %r7};";
    for data_type in [TensorMapType::F32Ftz, TensorMapType::Tf32, TensorMapType::Tf32Ftz] {
        let (map, data) = floats(data_type);
        let out = run_blocks(1, store, &data, &map).unwrap();
        assert_eq!(out[..8], [0x01, 0x10, 0x80, 0x3f, 0xff, 0xff, 0x7f, 0x80], "{data_type:?}");
    }
}

#[test]
fn reductions_do_not_take_tf32() {
    let add = "@%p1 cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [%rd2, {12, 2}], [%r1+1024];
        @%p1 cp.async.bulk.commit_group; @%p1 cp.async.bulk.wait_group 0;
        @%p1 ld.global.u32 %r6, [%rd1+176]; @%p1 st.shared.u32 [%r1], %r6;";
    // The smallest subnormal and zero: adding f32 in global memory makes zeros of subnormals.
    let (map, data) = floats(TensorMapType::F32Ftz);
    assert_eq!(run_blocks(1, add, &data, &map).unwrap()[..4], [0; 4]);
    for data_type in [TensorMapType::Tf32, TensorMapType::Tf32Ftz] {
        let (map, data) = floats(data_type);
        let error = run_blocks(1, add, &data, &map).unwrap_err();
        assert!(error.contains(&format!("no reduction of {data_type:?} elements")), "{error}");
    }
}
