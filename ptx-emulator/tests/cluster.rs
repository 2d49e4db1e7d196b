//! Clusters: blocks that run together, see each other's shared memory and wait for one another; registers that warps hand over.

mod common;
use common::{emulator, module};
use ptx_emulator::{LaunchConfig, LaunchOptions, Module, Swizzle, TensorMap, TensorMapType};

/// Blocks of `threads` in clusters; gives `words` of the output. `%r1` is the rank, `%r2` the address of 64 shared bytes,
/// `%r3` the thread, `%rd2` where this block's words begin: 32 for each.
fn run(
    body: &str,
    grid: [u32; 3],
    cluster: Option<[u32; 3]>,
    threads: u32,
    directives: &str,
) -> Result<Vec<u32>, String> {
    let emulator = emulator();
    let blocks = grid.iter().product::<u32>() as usize;
    let out = emulator.alloc(128 * blocks as u64).unwrap();
    let text = module(&format!(
        ".shared .align 16 .b8 tile[64]; ld.param.u64 %rd1, [out]; mov.u32 %r1, %cluster_ctarank; mov.u32 %r2, tile;
        mov.u32 %r3, %tid.x; mov.u32 %r20, %ctaid.x; mov.u32 %r21, %ctaid.y; mov.u32 %r22, %nctaid.x; mad.lo.u32 %r20, %r21, %r22, %r20;
        mov.u32 %r21, %ctaid.z; mov.u32 %r23, %nctaid.y; mul.lo.u32 %r22, %r22, %r23; mad.lo.u32 %r20, %r21, %r22, %r20;
        mad.wide.u32 %rd2, %r20, 128, %rd1; setp.eq.u32 %p9, %r3, 0;
        {body}\nret;"
    ))
    .replace("out) {", &format!("out) {directives} {{"));
    let module = Module::parse(&text).map_err(|e| e.to_string())?;
    let options = LaunchOptions { cluster, ..LaunchOptions::default() };
    let shape = LaunchConfig { grid, block: [threads, 1, 1], dynamic_shared_bytes: 0 };
    emulator.launch_with(&module, "k", shape, &[&out.to_le_bytes()], &options).map_err(|e| e.to_string())?;
    let mut bytes = vec![0; 128 * blocks];
    emulator.read(out, &mut bytes).unwrap();
    Ok(bytes.chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect())
}

#[test]
fn special_registers_say_where_a_block_is() {
    let body = [
        "cluster_ctaid.x",
        "cluster_ctaid.y",
        "cluster_ctaid.z",
        "cluster_nctaid.x",
        "cluster_nctaid.y",
        "cluster_nctaid.z",
        "cluster_ctarank",
        "cluster_nctarank",
        "clusterid.x",
        "clusterid.y",
        "clusterid.z",
        "nclusterid.x",
        "nclusterid.y",
        "nclusterid.z",
    ]
    .iter()
    .enumerate()
    .map(|(k, name)| format!("mov.u32 %r4, %{name}; st.global.u32 [%rd2+{}], %r4;", 4 * k))
    .collect::<String>();
    let out = run(&body, [4, 6, 2], Some([2, 3, 1]), 1, "").unwrap();
    for (index, words) in out.chunks(32).enumerate() {
        let (x, y, z) = (index as u32 % 4, index as u32 / 4 % 6, index as u32 / 24);
        let wanted = [x % 2, y % 3, 0, 2, 3, 1, x % 2 + 2 * (y % 3), 6, x / 2, y / 3, z, 2, 2, 2];
        assert_eq!(words[..14], wanted, "block {x}, {y}, {z}");
    }
    // Without clusters each block is one.
    let out = run(&body, [2, 1, 1], None, 1, "").unwrap();
    assert_eq!(out[32..46], [0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0, 2, 1, 1]);
}

#[test]
fn blocks_read_write_and_update_each_others_shared_memory() {
    // Each block leaves 100 + rank at home and rank in the slot of its own of the next block; then all add 1 to block 0's third word.
    let body = "add.u32 %r4, %r1, 100; st.shared.u32 [%r2], %r4; mov.u32 %r5, 0; st.shared.u32 [%r2+8], %r5;
        barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
        add.u32 %r6, %r1, 1; rem.u32 %r6, %r6, 3;
        mapa.shared::cluster.u32 %r7, %r2, %r6; st.shared::cluster.u32 [%r7+4], %r1; ld.shared::cluster.u32 %r8, [%r7];
        mov.u32 %r9, 0; mapa.shared::cluster.u32 %r10, %r2, %r9; red.shared::cluster.add.u32 [%r10+8], 1;
        atom.relaxed.cluster.shared::cluster.add.u32 %r11, [%r10+8], 0;
        barrier.cluster.arrive; barrier.cluster.wait;
        ld.shared.u32 %r12, [%r2+4]; ld.shared::cluster.u32 %r13, [%r10+8];
        // The same by generic addresses, and the ranks of addresses.
        cvt.u64.u32 %rd3, %r2; cvta.shared.u64 %rd3, %rd3; mapa.u64 %rd4, %rd3, %r6; ld.u32 %r14, [%rd4];
        getctarank.u64 %r15, %rd4; getctarank.shared::cluster.u32 %r16, %r7; getctarank.shared::cluster.u32 %r17, %r2;
        barrier.cluster.arrive.relaxed; barrier.cluster.wait;
        st.global.v4.u32 [%rd2], {%r8, %r12, %r13, %r14}; st.global.v4.u32 [%rd2+16], {%r15, %r16, %r17, %r11};";
    let out = run(body, [6, 1, 1], None, 1, ".reqnctapercluster 3, 1, 1").unwrap();
    for (block, words) in out.chunks(32).enumerate() {
        let rank = block as u32 % 3;
        let next = (rank + 1) % 3;
        assert_eq!(words[..7], [100 + next, (rank + 2) % 3, 3, 100 + next, next, next, rank]);
        assert!((1..=3).contains(&words[7]));
    }
}

#[test]
fn barriers_of_other_blocks_take_arrivals_and_bytes() {
    // Block 0 waits for an arrival of each block and 8 bytes that block 1 completes.
    let body = "@%p9 mbarrier.init.shared::cta.b64 [%r2], 2; barrier.cluster.arrive; barrier.cluster.wait;
        mov.u32 %r4, 0; mapa.shared::cluster.u32 %r5, %r2, %r4; setp.eq.u32 %p2, %r1, 0; mov.u32 %r8, 0;
        @%p2 mbarrier.expect_tx.relaxed.cluster.shared::cluster.b64 [%r5], 8;
        mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r5];
        @%p2 bra W; mbarrier.complete_tx.shared::cluster.b64 [%r5], 8; bra E;
        W: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p1, [%r2], 0; @!%p1 bra W; mov.u32 %r8, 1;
        E: st.global.u32 [%rd2], %r8; barrier.cluster.arrive; barrier.cluster.wait;";
    assert_eq!(run(body, [2, 1, 1], Some([2, 1, 1]), 1, "").unwrap()[..33].iter().sum::<u32>(), 1);
    let error = run(
        "mbarrier.init.shared::cta.b64 [%r2], 2; barrier.cluster.arrive; barrier.cluster.wait; mapa.shared::cluster.u32 %r5, %r2, 1;
        mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r5], 0;",
        [2, 1, 1],
        Some([2, 1, 1]),
        1,
        "",
    )
    .unwrap_err();
    assert!(error.contains("of block 1 of the cluster, which only its own block may use so"), "{error}");
}

#[test]
fn copies_go_to_the_blocks_of_the_mask_and_to_another_block() {
    // Block 0 sends the first 16 bytes of the output to the blocks 1 and 3 of four, at the same place; all report at home.
    let multicast = "mov.u32 %r4, 7; st.shared.v4.u32 [%r2], {%r4, %r4, %r4, %r4}; @%p9 mbarrier.init.shared::cta.b64 [%r2+16], 1;
        @%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2+16], BYTES;
        setp.eq.u32 %p2, %r1, 0; add.u32 %r5, %r4, 1; @%p2 st.global.v4.u32 [%rd1+64], {%r5, %r5, %r5, %r5};
        barrier.cluster.arrive; barrier.cluster.wait;
        @%p2 COPY
        and.b32 %r6, %r1, 1; setp.eq.u32 %p3, %r6, 0; @%p3 bra E;
        W: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r2+16], 0; @!%p1 bra W;
        E: ld.shared.u32 %r8, [%r2]; st.global.u32 [%rd2], %r8; barrier.cluster.arrive; barrier.cluster.wait;";
    let body = multicast.replace("BYTES", "16").replace(
        "COPY",
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r2], [%rd1+64], 16, [%r2+16], 10;",
    );
    let out = run(&body, [4, 1, 1], Some([4, 1, 1]), 1, "").unwrap();
    assert_eq!([out[0], out[32], out[64], out[96]], [7, 8, 7, 8]);
    // From block 0's shared memory to block 1's.
    let body = multicast.replace("BYTES", "16").replace(
        "@%p2 COPY",
        "mov.u32 %r9, 1; mapa.shared::cluster.u32 %r10, %r2, %r9; @%p2 st.shared.u32 [%r2], 9; fence.proxy.async;
        @%p2 cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r10], [%r2], 16, [%r10+16];",
    );
    let out = run(&body, [2, 1, 1], Some([2, 1, 1]), 1, "").unwrap();
    assert_eq!([out[0], out[32]], [9, 9]);
}

#[test]
fn clusters_that_do_not_fit_are_refused_with_numbers() {
    let refuse = |grid, cluster, directives: &str| run("", grid, cluster, 1, directives).unwrap_err();
    let pair = Some([2, 1, 1]);
    assert!(
        refuse([3, 1, 1], pair, "").contains("grid [3, 1, 1] is no multiple of the clusters of [2, 1, 1]")
    );
    assert!(
        refuse([4, 1, 1], pair, ".reqnctapercluster 4, 1, 1")
            .contains("but `.reqnctapercluster` is [4, 1, 1]")
    );
    assert!(refuse([32, 1, 1], Some([32, 1, 1]), "").contains("1 to 16 are possible"));
    assert!(refuse([4, 1, 1], Some([4, 1, 1]), ".maxclusterrank 2").contains("1 to 2 are possible"));
    assert!(refuse([4, 1, 1], Some([0, 1, 1]), "").contains("1 to 16"));
}

#[test]
fn misuse_of_a_cluster_is_an_error() {
    let error = |body: &str| run(body, [2, 1, 1], Some([2, 1, 1]), 32, "").unwrap_err();
    assert!(error("barrier.cluster.wait;").contains("waits at the cluster's barrier without having arrived"));
    assert!(
        error("barrier.cluster.arrive; barrier.cluster.arrive;").contains("again before it has waited there")
    );
    assert!(error("mapa.shared::cluster.u32 %r4, %r2, 2;").contains("block 2 of a cluster of 2"));
    let remote = "mapa.shared::cluster.u32 %r4, %r2, 1;";
    assert!(error(&format!("{remote} ld.shared.u32 %r5, [%r4];")).contains("which has 64 bytes per block"));
    assert!(error(&format!("{remote} ld.shared::cluster.u32 %r5, [%r4+64];")).contains("64 bytes per block"));
    let held = error(
        "setp.eq.u32 %p2, %r1, 0; @%p2 bra E; barrier.cluster.arrive; barrier.cluster.wait; E: bar.sync 1, 64;",
    );
    for part in [
        "block (0, 0, 0): warp 0",
        "waits at barrier 1",
        "block (1, 0, 0): warp 0",
        "the cluster's barrier, which 1 warps have not reached",
    ] {
        assert!(held.contains(part), "`{part}` is not in: {held}");
    }
}

#[test]
fn threads_that_have_ended_are_not_waited_for() {
    let body = "setp.eq.u32 %p2, %r1, 0; @%p2 ret; barrier.cluster.arrive; barrier.cluster.wait; mov.u32 %r4, 3; st.global.u32 [%rd2], %r4;";
    let out = run(body, [2, 1, 1], Some([2, 1, 1]), 64, "").unwrap();
    assert_eq!((out[0], out[32]), (0, 3));
}

#[test]
fn registers_pass_from_warp_to_warp() {
    // 384 threads: 168 registers each, in all 12 · 168. Warps 0 to 3 keep 24 and the others take 240.
    let body = "setp.lt.u32 %p2, %r3, 128; @%p2 bra A; setmaxnreg.inc.sync.aligned.u32 240; bra B;
        A: setmaxnreg.dec.sync.aligned.u32 24; B: bar.sync 0; @%p9 st.global.u32 [%rd2], 1;";
    assert_eq!(run(body, [1, 1, 1], None, 384, ".maxntid 384, 1, 1").unwrap()[0], 1);
    let error = run(&body.replace("240", "248"), [1, 1, 1], None, 384, "").unwrap_err();
    assert!(
        error.contains("deadlock") && error.contains("80 more registers a thread, of which 16 are free"),
        "{error}"
    );
    let error = run(&body.replace("24;", "176;"), [1, 1, 1], None, 384, "").unwrap_err();
    assert!(error.contains("`setmaxnreg.dec` to 176 of a warp that has 168"), "{error}");
    let error = run("setmaxnreg.inc.sync.aligned.u32 30;", [1, 1, 1], None, 32, "").unwrap_err();
    assert!(error.contains("multiples of 8 from 24 to 256"), "{error}");
}

#[test]
fn asynchronous_stores_report_their_bytes_to_the_other_blocks_barrier() {
    // Two blocks of four threads: each thread sends 8 bytes to its own place in the other block, whose barrier expects 32.
    let body = |ty: &str| {
        format!(
            "add.u32 %r10, %r2, 48; @%p9 mbarrier.init.shared.b64 [%r10], 1; fence.mbarrier_init.release.cluster;
        barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
        @%p9 mbarrier.arrive.expect_tx.shared.b64 _, [%r10], 32;
        xor.b32 %r4, %r1, 1; mad.lo.u32 %r5, %r3, 8, %r2;
        mapa.shared::cluster.u32 %r6, %r5, %r4; mapa.shared::cluster.u32 %r7, %r10, %r4;
        mad.lo.u32 %r8, %r1, 100, %r3; add.u32 %r9, %r8, 50;
        st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.{ty} [%r6], {{%r8, %r9}}, [%r7];
        WAIT: mbarrier.try_wait.parity.shared.b64 %p1, [%r10], 0; @!%p1 bra WAIT;
        xor.b32 %r11, %r3, 3; mad.lo.u32 %r11, %r11, 8, %r2; ld.shared.v2.u32 {{%r12, %r13}}, [%r11];
        mad.wide.u32 %rd3, %r3, 8, %rd2; st.global.v2.u32 [%rd3], {{%r12, %r13}};
        barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;"
        )
    };
    let out = run(&body("v2.b32"), [2, 1, 1], Some([2, 1, 1]), 4, "").unwrap();
    assert_eq!(out[..8], [103, 153, 102, 152, 101, 151, 100, 150]);
    assert_eq!(out[32..40], [3, 53, 2, 52, 1, 51, 0, 50]);
    for bad in ["v4.b64", "v2.b16", "b32"] {
        assert!(run(&body(bad), [2, 1, 1], Some([2, 1, 1]), 4, "").is_err(), "{bad}");
    }
}

#[test]
fn asynchronous_reductions_report_their_bytes_to_the_other_blocks_barrier() {
    // Two blocks of four threads, each with a word of 1000: each thread adds to the other block's word, whose barrier expects 16 bytes.
    let body = |form: &str| {
        format!(
            "add.u32 %r10, %r2, 48; @%p9 mbarrier.init.shared.b64 [%r10], 1; @%p9 st.shared.u32 [%r2], 1000;
        fence.mbarrier_init.release.cluster; barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
        @%p9 mbarrier.arrive.expect_tx.shared.b64 _, [%r10], 16;
        xor.b32 %r4, %r1, 1; mapa.shared::cluster.u32 %r6, %r2, %r4; mapa.shared::cluster.u32 %r7, %r10, %r4;
        mad.lo.u32 %r8, %r1, 100, %r3;
        red.async.relaxed.cluster{form} [%r6], %r8, [%r7];
        WAIT: mbarrier.try_wait.parity.shared.b64 %p1, [%r10], 0; @!%p1 bra WAIT;
        ld.shared.u32 %r12, [%r2]; mad.wide.u32 %rd3, %r3, 4, %rd2; st.global.u32 [%rd3], %r12;
        barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;"
        )
    };
    for (form, first, second) in [
        (".shared::cluster.mbarrier::complete_tx::bytes.add.u32", 1406, 1006),
        (".mbarrier::complete_tx::bytes.max.s32", 1000, 1000),
        (".mbarrier::complete_tx::bytes.min.u32", 100, 0),
        (".mbarrier::complete_tx::bytes.or.b32", 1000 | 100 | 101 | 102 | 103, 1000 | 1 | 2 | 3),
    ] {
        let out =
            run(&body(form), [2, 1, 1], Some([2, 1, 1]), 4, "").unwrap_or_else(|e| panic!("{form}: {e}"));
        assert_eq!((&out[..4], &out[32..36]), (&[first; 4][..], &[second; 4][..]), "{form}");
    }
    for bad in [".mbarrier::complete_tx::bytes.add.f32", ".add.u32", ".mbarrier::complete_tx::bytes.exch.b32"]
    {
        assert!(run(&body(bad), [2, 1, 1], Some([2, 1, 1]), 4, "").is_err(), "{bad}");
    }
}

/// Two blocks of four threads, each with 64 bits of 1000: every thread sends the same operand, so that their order does not matter.
#[test]
fn asynchronous_reductions_of_every_operation() {
    for (reduction, bytes, operand, expected) in [
        // 1000 is more than 10: 0, then 1, 2, 3.
        (
            "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.inc.u32 [%r6], %r8, [%r7];",
            16,
            10,
            3,
        ),
        // 1000 is more than 10: 10, then 9, 8, 7.
        (
            "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.dec.u32 [%r6], %r8, [%r7];",
            16,
            10,
            7,
        ),
        (
            "red.async.relaxed.cluster.mbarrier::complete_tx::bytes.min.s32 [%r6], %r8, [%r7];",
            16,
            -1,
            0xffff_ffff,
        ),
        (
            "red.async.relaxed.cluster.mbarrier::complete_tx::bytes.max.u32 [%r6], %r8, [%r7];",
            16,
            -1,
            0xffff_ffff,
        ),
        ("red.async.relaxed.cluster.mbarrier::complete_tx::bytes.and.b32 [%r6], %r8, [%r7];", 16, 12, 8),
        ("red.async.relaxed.cluster.mbarrier::complete_tx::bytes.xor.b32 [%r6], %r8, [%r7];", 16, 5, 1000),
        (
            "red.async.relaxed.cluster.mbarrier::complete_tx::bytes.add.s32 [%r6], %r8, [%r7];",
            16,
            -300,
            0xffff_ff38,
        ),
        (
            "red.async.relaxed.cluster.mbarrier::complete_tx::bytes.add.u64 [%r6], %rd4, [%r7];",
            32,
            (1 << 32) + 10,
            (4 << 32) + 1040,
        ),
        (
            "red.async.relaxed.cluster.mbarrier::complete_tx::bytes.add.s64 [%r6], %rd4, [%r7];",
            32,
            -300,
            u64::MAX - 199,
        ),
    ] {
        let operand: i64 = operand;
        let body = format!(
            "add.u32 %r10, %r2, 48; @%p9 mbarrier.init.shared.b64 [%r10], 1; @%p9 st.shared.u64 [%r2], 1000;
            fence.mbarrier_init.release.cluster; barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
            @%p9 mbarrier.arrive.expect_tx.shared.b64 _, [%r10], {bytes};
            xor.b32 %r4, %r1, 1; mapa.shared::cluster.u32 %r6, %r2, %r4; mapa.shared::cluster.u32 %r7, %r10, %r4;
            mov.b64 %rd4, {operand}; mov.b64 {{%r8, %r9}}, %rd4; {reduction}
            WAIT: mbarrier.try_wait.parity.shared.b64 %p1, [%r10], 0; @!%p1 bra WAIT;
            ld.shared.v2.u32 {{%r12, %r13}}, [%r2]; @%p9 st.global.v2.u32 [%rd2], {{%r12, %r13}};
            barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;"
        );
        let out =
            run(&body, [2, 1, 1], Some([2, 1, 1]), 4, "").unwrap_or_else(|e| panic!("{reduction}: {e}"));
        for block in [0, 32] {
            let found = u64::from(out[block]) | u64::from(out[block + 1]) << 32;
            assert_eq!(found, expected, "{reduction} of {operand} in block {}", block / 32);
        }
    }
}

/// Two blocks of two threads: each thread sends up to 16 bytes to its own place in the other block.
#[test]
fn asynchronous_stores_of_every_width() {
    for (store, bytes, words) in [
        (
            "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.u32 [%r6], {%r8, %r9, %r9, %r8}, [%r7];",
            32,
            4,
        ),
        ("st.async.mbarrier::complete_tx::bytes.v2.u64 [%r6], {%rd4, %rd5}, [%r7];", 32, 4),
        ("st.async.shared::cluster.mbarrier::complete_tx::bytes.s64 [%r6], %rd4, [%r7];", 16, 2),
        ("st.async.weak.mbarrier::complete_tx::bytes.f32 [%r6], %r8, [%r7];", 8, 1),
    ] {
        let body = format!(
            "add.u32 %r10, %r2, 48; mov.u32 %r5, 0; mad.lo.u32 %r11, %r3, 16, %r2; st.shared.v4.u32 [%r11], {{%r5, %r5, %r5, %r5}};
            @%p9 mbarrier.init.shared.b64 [%r10], 1; fence.mbarrier_init.release.cluster;
            barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
            @%p9 mbarrier.arrive.expect_tx.shared.b64 _, [%r10], {bytes};
            xor.b32 %r4, %r1, 1; mapa.shared::cluster.u32 %r6, %r11, %r4; mapa.shared::cluster.u32 %r7, %r10, %r4;
            mad.lo.u32 %r8, %r1, 100, %r3; add.u32 %r8, %r8, 1; add.u32 %r9, %r8, 50; mov.b64 %rd4, {{%r8, %r9}}; mov.b64 %rd5, {{%r9, %r8}};
            {store}
            WAIT: mbarrier.try_wait.parity.shared.b64 %p1, [%r10], 0; @!%p1 bra WAIT;
            ld.shared.v4.u32 {{%r12, %r13, %r14, %r15}}, [%r11]; mad.wide.u32 %rd3, %r3, 16, %rd2;
            st.global.v4.u32 [%rd3], {{%r12, %r13, %r14, %r15}};
            barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;"
        );
        let out = run(&body, [2, 1, 1], Some([2, 1, 1]), 2, "").unwrap_or_else(|e| panic!("{store}: {e}"));
        for (block, thread) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let first = 100 * (1 - block as u32) + thread as u32 + 1;
            let mut expected = [first, first + 50, first + 50, first];
            expected[words..].fill(0);
            let at = 32 * block + 4 * thread;
            assert_eq!(out[at..at + 4], expected, "{store}: thread {thread} of block {block}");
        }
    }
}

/// The numbers 0 to 15 lie in global memory; block 0 sends 4 to 11 to the blocks 1 and 3 of four.
#[test]
fn a_tensor_copy_goes_to_the_blocks_of_the_mask() {
    let emulator = emulator();
    let (data, out) = (emulator.alloc(64).unwrap(), emulator.alloc(32).unwrap());
    let numbers: Vec<u8> = (0..16u32).flat_map(u32::to_le_bytes).collect();
    emulator.write(data, &numbers).unwrap();
    let map = TensorMap {
        data_type: TensorMapType::U32,
        address: data,
        sizes: vec![16],
        strides: vec![],
        box_sizes: vec![8],
        element_strides: vec![1],
        swizzle: Swizzle::None,
        fill_nan: false,
    };
    let text = module(
        ".shared .align 128 .b8 tile[32]; .shared .align 8 .b64 bar; ld.param.u64 %rd1, [out]; mov.b64 %rd4, map; cvta.param.u64 %rd4, %rd4;
        mov.u32 %r1, %cluster_ctarank; mov.u32 %r2, tile; mov.u32 %r3, bar; mov.u32 %r4, 0; mov.u32 %r5, 4;
        st.shared.v4.u32 [%r2], {%r4, %r4, %r4, %r4}; st.shared.v4.u32 [%r2+16], {%r4, %r4, %r4, %r4};
        mbarrier.init.shared::cta.b64 [%r3], 1; mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], 32; fence.proxy.async;
        barrier.cluster.arrive; barrier.cluster.wait; setp.eq.u32 %p1, %r1, 0;
        @%p1 cp.async.bulk.tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%r2], [%rd4, {%r5}], [%r3], 10;
        and.b32 %r6, %r1, 1; setp.eq.u32 %p2, %r6, 0; @%p2 bra E;
        W: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r3], 0; @!%p3 bra W;
        E: ld.shared.u32 %r7, [%r2]; ld.shared.u32 %r8, [%r2+28]; mad.wide.u32 %rd2, %r1, 8, %rd1; st.global.v2.u32 [%rd2], {%r7, %r8};
        barrier.cluster.arrive; barrier.cluster.wait; ret;",
    )
    .replace(".param .u64 out)", ".param .u64 out, .param .align 64 .b8 map[128])");
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let options = LaunchOptions { cluster: Some([4, 1, 1]), ..LaunchOptions::default() };
    let shape = LaunchConfig { grid: [4, 1, 1], block: [1; 3], dynamic_shared_bytes: 0 };
    let args: [&[u8]; 2] = [&out.to_le_bytes(), &map.encode().unwrap()];
    emulator.launch_with(&module, "k", shape, &args, &options).unwrap();
    let mut found = [0; 32];
    emulator.read(out, &mut found).unwrap();
    let words: Vec<_> = found.chunks(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect();
    assert_eq!(words, [0, 0, 4, 11, 0, 0, 4, 11]);
}
