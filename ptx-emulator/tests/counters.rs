//! The counters of each instruction, against counts done by hand.

mod common;
use common::{emulator, module};
use ptx_emulator::profile::{Demand, Gpu, Roofline, Unit};
use ptx_emulator::{LaunchConfig, LaunchOptions, LaunchStats, LineCounters, Module};

/// Two blocks of 64 threads: four warps. `%r1` is the lane, `%r2` the shared address of the tile, `%rd1` global memory.
fn run(body: &str, counters: bool) -> LaunchStats {
    let text = module(&format!(
        ".shared .align 128 .b8 tile[4096]; ld.param.u64 %rd1, [out]; mov.u32 %r1, %laneid; mov.u32 %r2, tile;\n{body}\nret;"
    ));
    run_text(&text, counters)
}

fn run_text(text: &str, counters: bool) -> LaunchStats {
    run_shaped(text, 2, 64, counters)
}

fn run_shaped(text: &str, grid: u32, block: u32, counters: bool) -> LaunchStats {
    let emulator = emulator();
    let out = emulator.alloc(4096).unwrap();
    let shape = LaunchConfig { grid: [grid, 1, 1], block: [block, 1, 1], dynamic_shared_bytes: 0 };
    let module = Module::parse(text).unwrap_or_else(|e| panic!("{e}"));
    let options = LaunchOptions { counters, ..LaunchOptions::default() };
    emulator.launch_with(&module, "k", shape, &[&out.to_le_bytes()], &options).unwrap()
}

/// The counters of the last instruction with this opcode.
fn of(body: &str, opcode: &str) -> LineCounters {
    let stats = run(body, true);
    let found = stats.counters.into_iter().rfind(|c| c.mnemonic.split('.').next() == Some(opcode));
    found.unwrap_or_else(|| panic!("{opcode} in {body}"))
}

/// `%r3` is the shared address of the lane times `stride`.
fn strided(stride: u32, access: &str) -> String {
    format!("mul.lo.u32 %r3, %r1, {stride}; add.u32 %r3, %r3, %r2; {access}")
}

#[test]
fn shared_wavefronts_and_conflicts_by_width() {
    // (stride, access, wavefronts, conflicts) of one warp.
    for (stride, access, wavefronts, conflicts) in [
        (4, "ld.shared.u32 %r4, [%r3];", 1, 0),
        (8, "ld.shared.u32 %r4, [%r3];", 2, 1),
        (128, "ld.shared.u8 %r4, [%r3];", 32, 31),
        (0, "ld.shared.u32 %r4, [%r3];", 1, 0),
        (2, "ld.shared.u16 %h1, [%r3];", 1, 0),
        (8, "ld.shared.v2.u32 {%r4, %r5}, [%r3];", 2, 0),
        (8, "ld.shared.u64 %rd2, [%r3];", 2, 0),
        (16, "ld.shared.u64 %rd2, [%r3];", 4, 2),
        (16, "ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r3];", 4, 0),
        (128, "ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r3];", 32, 28),
        // 8 lanes lie 16 of every 144 bytes apart: padding makes it free of conflicts.
        (112, "ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r3];", 4, 0),
    ] {
        let c = of(&strided(stride, access), "ld");
        assert_eq!(
            (c.warps, c.shared_wavefronts, c.shared_conflicts),
            (4, 4 * wavefronts, 4 * conflicts),
            "{stride} {access}"
        );
        assert_eq!((c.global_requests, c.global_sectors, c.global_load_bytes), (0, 0, 0));
    }
    let c = of(&strided(8, "st.shared.v2.u32 [%r3], {%r1, %r1};"), "st");
    assert_eq!(
        (c.shared_store_bytes, c.shared_load_bytes, c.shared_wavefronts, c.shared_conflicts),
        (4 * 256, 0, 8, 0)
    );
    let c = of(&strided(64, "st.shared.u32 [%r3], %r1;"), "st");
    assert_eq!((c.shared_wavefronts, c.shared_conflicts), (4 * 16, 4 * 15));
    let c = of(&strided(0, "red.shared.add.u32 [%r3], 1;"), "red");
    assert_eq!((c.shared_wavefronts, c.shared_conflicts), (4 * 32, 4 * 31));
    // Half of the lanes: the words of lanes 0 to 15 at a stride of two words lie in different banks.
    let c = of(&strided(8, "setp.lt.u32 %p1, %r1, 16; @%p1 ld.shared.u32 %r4, [%r3];"), "ld");
    assert_eq!((c.shared_load_bytes, c.shared_wavefronts, c.shared_conflicts), (4 * 64, 4, 0));
}

#[test]
fn generic_addresses_are_counted_where_they_point() {
    let c = of(&strided(8, "cvt.u64.u32 %rd2, %r3; cvta.shared.u64 %rd2, %rd2; ld.u32 %r4, [%rd2];"), "ld");
    assert_eq!((c.shared_wavefronts, c.shared_conflicts, c.global_requests), (8, 4, 0));
    let c = of("ld.u32 %r4, [%rd1];", "ld");
    assert_eq!(
        (c.shared_wavefronts, c.global_requests, c.global_sectors, c.global_load_bytes),
        (0, 4, 4, 512)
    );
    let c = of(".local .align 4 .b8 d[16]; st.local.u32 [d], %r1;", "st");
    assert_eq!((c.local_store_bytes, c.shared_wavefronts, c.global_requests), (512, 0, 0));
}

/// As `run`, with 32 words of constants, `table`.
fn run_with_table(body: &str, counters: bool) -> LaunchStats {
    let text = module(&format!(
        "ld.param.u64 %rd1, [out]; mov.u32 %r1, %laneid; mul.wide.u32 %rd2, %r1, 4; mov.u64 %rd3, table; add.u64 %rd3, %rd3, %rd2;
        add.u64 %rd4, %rd1, %rd2; {body} ret;"
    ));
    run_text(&text.replace(".visible", ".const .align 128 .b8 table[128];\n.visible"), counters)
}

#[test]
fn constants_are_a_space_of_their_own() {
    let generic = "cvta.const.u64 %rd3, %rd3; ld.u32 %r4, [%rd3];";
    for body in ["ld.const.u32 %r4, [%rd3];", "ld.const.u32 %r4, [table];", generic, &generic.repeat(2)] {
        let stats = run_with_table(body, true);
        // 32 lanes of 4 warps read 4 bytes.
        let loads = body.matches("ld.").count() as u64;
        assert_eq!(stats.total(|c| c.constant_load_bytes), 512 * loads, "{body}");
        assert_eq!(stats.constant_load_bytes, 512 * loads, "{body}");
        let global = |c: &LineCounters| c.global_load_bytes + c.global_requests + c.global_sectors;
        assert_eq!((stats.global_load_bytes, stats.total(global)), (0, 0), "{body}");
        assert_eq!(Demand::of_launch(&stats).unwrap().memory_bytes(), 0, "{body}");
    }
    // The first 8 lanes read constants, the others 96 bytes of global memory: sectors 1, 2 and 3.
    let both = "setp.lt.u32 %p1, %r1, 8; selp.b64 %rd3, %rd3, %rd4, %p1; ld.u32 %r4, [%rd3];";
    for counters in [true, false] {
        let stats = run_with_table(both, counters);
        assert_eq!((stats.constant_load_bytes, stats.global_load_bytes), (4 * 32, 4 * 96));
        if let Some(c) = stats.counters.iter().find(|c| c.mnemonic == "ld.u32") {
            assert_eq!((c.constant_load_bytes, c.global_load_bytes), (4 * 32, 4 * 96));
            assert_eq!((c.global_requests, c.global_sectors), (4, 4 * 3));
        }
        assert_eq!(stats.counters.is_empty(), !counters);
    }
}

#[test]
fn matrix_loads_take_a_wavefront_a_tile() {
    let load = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4, %r5, %r6, %r7}, [%r3];";
    let c = of(&strided(16, load), "ldmatrix");
    assert_eq!((c.shared_load_bytes, c.shared_wavefronts, c.shared_conflicts), (4 * 512, 16, 0));
    // Rows of 128 bytes without a swizzle: all 8 rows of a tile on the same banks.
    let c = of(&strided(128, load), "ldmatrix");
    assert_eq!((c.shared_wavefronts, c.shared_conflicts), (4 * 32, 4 * 28));
    // Rows of 64 bytes: two rows cover different banks, 4 do not.
    let c = of(&strided(64, &load.replace("x4", "x2").replace(", %r6, %r7", "")), "ldmatrix");
    assert_eq!((c.shared_load_bytes, c.shared_wavefronts, c.shared_conflicts), (4 * 256, 4 * 8, 4 * 6));
    let c = of(
        &strided(
            128,
            "xor.b32 %r3, %r3, 0; and.b32 %r8, %r1, 7; shl.b32 %r8, %r8, 4; xor.b32 %r3, %r3, %r8; stmatrix.sync.aligned.m8n8.x4.shared.b16 [%r3], {%r4, %r5, %r6, %r7};",
        ),
        "stmatrix",
    );
    assert_eq!((c.shared_store_bytes, c.shared_wavefronts, c.shared_conflicts), (4 * 512, 16, 0));
}

#[test]
fn copies_count_both_sides() {
    let copy = "mul.wide.u32 %rd2, %r1, 16; add.u64 %rd2, %rd2, %rd1; cp.async.cg.shared.global [%r3], [%rd2], 16; cp.async.wait_all;";
    let stats = run(&strided(128, copy), true);
    let c = stats.counters.iter().find(|c| c.mnemonic.starts_with("cp.async.cg")).unwrap();
    assert_eq!((c.shared_store_bytes, c.shared_wavefronts, c.shared_conflicts), (4 * 512, 4 * 32, 4 * 28));
    assert_eq!((c.global_load_bytes, c.global_requests, c.global_sectors), (4 * 512, 4, 4 * 16));
    // With half of the sources left out, half of the sectors.
    let half = copy.replace("], 16;", "], 16, %r5;");
    let stats =
        run(&strided(16, &format!("setp.lt.u32 %p1, %r1, 16; selp.u32 %r5, 16, 0, %p1; {half}")), true);
    let c = stats.counters.iter().find(|c| c.mnemonic.starts_with("cp.async.cg")).unwrap();
    assert_eq!((c.global_load_bytes, c.global_requests, c.global_sectors), (4 * 256, 4, 4 * 8));
    assert_eq!((c.shared_store_bytes, c.shared_conflicts), (4 * 512, 0));
}

#[test]
fn global_sectors_show_coalescing() {
    for (stride, access, sectors) in [
        (4, "ld.global.u32 %r4, [%rd2];", 4),
        (0, "ld.global.u32 %r4, [%rd2];", 1),
        (32, "ld.global.u32 %r4, [%rd2];", 32),
        (8, "ld.global.u32 %r4, [%rd2];", 8),
        (16, "ld.global.v4.u32 {%r4, %r5, %r6, %r7}, [%rd2];", 16),
        (1, "ld.global.u8 %r4, [%rd2];", 1),
    ] {
        let body = format!("mul.wide.u32 %rd2, %r1, {stride}; add.u64 %rd2, %rd2, %rd1; {access}");
        let c = of(&body, "ld");
        assert_eq!((c.global_requests, c.global_sectors), (4, 4 * sectors), "{body}");
    }
}

#[test]
fn operations_of_matrix_and_special_function_units() {
    let stats = run(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r4, %r5, %r6, %r7}, {%r4, %r5}, {%f1, %f2, %f3, %f4};
        ex2.approx.ftz.f32 %f1, %f1; ex2.approx.f16x2 %r4, %r4; rcp.approx.f32 %f1, %f1; setp.lt.u32 %p1, %r1, 3; @%p1 ex2.approx.f32 %f2, %f2;",
        false,
    );
    assert_eq!(stats.matrix_flops, 4 * 2 * 16 * 8 * 16);
    // Of the last one three lanes a warp are active.
    assert_eq!(stats.ex2_operations, 128 + 2 * 128 + 4 * 3);
    assert_eq!(stats.special_operations, 128);
    assert!(stats.counters.is_empty());
}

#[test]
fn lanes_that_a_guard_keeps_from_acting_are_not_active() {
    // (instructions, lanes that come to the last one, active ones, warp instructions that act) of a warp.
    for (body, threads, active, acting) in [
        ("add.u32 %r4, %r4, 1;", 32, 32, 1),
        ("setp.lt.u32 %p1, %r1, 3; @%p1 add.u32 %r4, %r4, 1;", 32, 3, 1),
        ("setp.lt.u32 %p1, %r1, 3; @!%p1 add.u32 %r4, %r4, 1;", 32, 29, 1),
        ("setp.gt.u32 %p1, %r1, 31; @%p1 ex2.approx.f32 %f1, %f1;", 32, 0, 0),
        // 12 lanes take the branch, of them 3 are active.
        (
            "setp.lt.u32 %p1, %r1, 12; @!%p1 bra L; setp.lt.u32 %p1, %r1, 3; @%p1 sin.approx.f32 %f1, %f1; L:",
            12,
            3,
            1,
        ),
        // Lanes 0 to 15 and 24 to 31 come apart; the even ones of the first wait for those of the others, and go on together.
        (
            "and.b32 %r4, %r1, 1; setp.eq.u32 %p1, %r4, 0; setp.lt.u32 %p2, %r1, 16; setp.lt.u32 %p3, %r1, 24;
            @%p2 bra M; @%p3 bra L; M: @%p1 bar.warp.sync 0x55005555; L: not.b32 %r6, %r6;",
            12,
            12,
            1,
        ),
    ] {
        let stats = run(body, true);
        let last = stats.counters.iter().rfind(|c| !["ret", "not.b32"].contains(&c.mnemonic.as_str())).unwrap();
        assert_eq!((last.warps, last.threads, last.active), (4, 4 * threads, 4 * active), "{body}");
        assert_eq!(
            last.ex2_operations + last.special_operations,
            match last.mnemonic.as_str() {
                "ex2.approx.f32" | "sin.approx.f32" => 4 * active,
                _ => 0,
            }
        );
        let mnemonic = stats.mnemonics.iter().find(|m| m.name == last.mnemonic).unwrap();
        assert_eq!((mnemonic.warps, mnemonic.acting), (4, 4 * acting), "{body}");
        assert_eq!(stats.total(|c| c.active), stats.active_thread_instructions, "{body}");
        // Without counters the same.
        let plain = run(body, false);
        assert_eq!(plain.mnemonics, stats.mnemonics, "{body}");
        assert_eq!(plain.active_thread_instructions, stats.active_thread_instructions, "{body}");
    }
}

#[test]
fn a_guarded_wait_is_counted_once_with_the_lanes_that_waited() {
    let c = of(
        "mov.u32 %r5, %tid.x; setp.eq.u32 %p1, %r5, 0; setp.ge.u32 %p2, %r5, 32; setp.eq.u32 %p3, %r5, 63;
        setp.lt.u32 %p5, %r5, 3; @%p1 mbarrier.init.shared.b64 [%r2], 1; @%p1 mbarrier.init.shared.b64 [%r2+8], 1; bar.sync 0;
        @%p1 mbarrier.arrive.shared.b64 %rd5, [%r2+8]; @%p2 mbarrier.try_wait.parity.shared.b64 %p4, [%r2+8], 0;
        @%p3 mbarrier.arrive.shared.b64 %rd5, [%r2]; @%p5 mbarrier.try_wait.parity.shared.b64 %p4, [%r2], 0;",
        "mbarrier",
    );
    // Of each block 3 lanes of the first warp wait, those that do not have gone on; no lane of the second does.
    assert_eq!((c.warps, c.threads, c.active), (4, 2 * (3 + 32), 2 * 3));
}

#[test]
fn instructions_that_no_lane_acts_in_take_an_issue_slot_and_nothing_else() {
    let stats = run("setp.gt.u32 %p1, %r1, 31; @%p1 ex2.approx.f32 %f1, %f1; rcp.approx.f32 %f1, %f1;", true);
    let demand = Demand::of_launch(&stats).unwrap();
    // ld, mov, mov, setp, ex2, rcp, ret of 4 warps.
    assert_eq!((demand.instructions, demand.special), (4.0 * 7.0, 4));
}

#[test]
fn arrivals_at_barriers_are_counted_in_threads() {
    let stats = run(
        "mov.u32 %r5, %tid.x; setp.eq.u32 %p1, %r5, 0; setp.lt.u32 %p2, %r1, 3;
        @%p1 mbarrier.init.shared.b64 [%r2], 5; bar.sync 0; bar.warp.sync -1;
        barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;
        @%p2 mbarrier.arrive.shared.b64 %rd5, [%r2]; @%p1 mbarrier.arrive.expect_tx.shared.b64 %rd5, [%r2], 0;
        @%p2 cp.async.mbarrier.arrive.noinc.shared.b64 [%r2]; mbarrier.test_wait.parity.shared.b64 %p3, [%r2], 0;",
        true,
    );
    let arrivals: Vec<(&str, u64)> = stats
        .counters
        .iter()
        .filter(|c| c.barrier_arrivals > 0)
        .map(|c| (c.mnemonic.as_str(), c.barrier_arrivals))
        .collect();
    // Two blocks of two warps: all threads, three of each warp, one of each block.
    assert_eq!(
        arrivals,
        [
            ("bar.sync", 128),
            ("barrier.cluster.arrive.aligned", 128),
            ("mbarrier.arrive.shared.b64", 12),
            ("mbarrier.arrive.expect_tx.shared.b64", 2),
            ("cp.async.mbarrier.arrive.noinc.shared.b64", 12),
        ]
    );
    assert_eq!((stats.barrier_arrivals, stats.total(|c| c.barrier_arrivals)), (282, 282));
}

#[test]
fn a_diverged_matrix_instruction_is_counted_once() {
    let stats = run(
        "setp.lt.u32 %p1, %r1, 3; @%p1 bra L; add.u32 %r4, %r4, 1; L:
        mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r4, %r5}, {%r4}, {%f1, %f2, %f3, %f4};",
        false,
    );
    assert_eq!(stats.matrix_flops, 4 * 2 * 16 * 8 * 8);
}

#[test]
fn counters_change_no_result_and_sum_up_to_the_totals() {
    let body = strided(
        12,
        "st.shared.u32 [%r3], %r1; ld.shared.u32 %r4, [%r3]; mul.wide.u32 %rd2, %r1, 4; add.u64 %rd2, %rd2, %rd1; st.global.u32 [%rd2], %r4;",
    );
    let (off, on) = (run(&body, false), run(&body, true));
    assert_eq!(off.lines, on.lines);
    assert_eq!(on.counters.iter().map(|c| (c.line, c.warps, c.threads)).collect::<Vec<_>>(), on.lines);
    assert_eq!(on.total(|c| c.shared_load_bytes), off.shared_load_bytes);
    assert_eq!(on.total(|c| c.shared_store_bytes), off.shared_store_bytes);
    assert_eq!(on.total(|c| c.global_store_bytes), off.global_store_bytes);
}

#[test]
fn bulk_copies_and_products_count_what_they_move() {
    let init = "setp.eq.u32 %p1, %r1, 0; mov.u32 %r5, %tid.x; setp.eq.u32 %p2, %r5, 0; @%p2 mbarrier.init.shared::cta.b64 [%r2], 2; bar.sync 0;";
    // Lane 0 of each warp, 48 bytes of two sectors: 16 of the first and 32 of the second.
    let load = "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 48;
        @%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2+64], [%rd1+16], 48, [%r2];";
    let c = of(&format!("{init} {load}"), "cp");
    assert_eq!((c.global_load_bytes, c.global_requests, c.global_sectors), (4 * 48, 4, 4 * 2));
    assert_eq!((c.shared_store_bytes, c.shared_load_bytes, c.global_store_bytes), (4 * 48, 0, 0));
    let store = "@%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd1+32], [%r2+64], 32; @%p1 cp.async.bulk.commit_group;";
    let stats = run(&format!("setp.eq.u32 %p1, %r1, 0; {store} @%p1 cp.async.bulk.wait_group 0;"), true);
    let copy = stats.counters.iter().find(|c| c.mnemonic.starts_with("cp.async.bulk.global")).unwrap();
    assert_eq!((copy.global_store_bytes, copy.global_sectors, copy.shared_load_bytes), (4 * 32, 4, 4 * 32));
    assert_eq!((copy.shared_wavefronts, copy.shared_conflicts), (4, 0));
    // 128 bytes a wavefront: 272 bytes take three.
    let c = of(&format!("{init} {}", load.replace("48", "272")), "cp");
    assert_eq!((c.shared_store_bytes, c.shared_wavefronts, c.shared_conflicts), (4 * 272, 4 * 3, 0));
}

/// Block 0 of a cluster of four fills 144 bytes of blocks 1 and 3.
#[test]
fn a_multicast_writes_shared_memory_of_every_block_that_it_names() {
    let body = "ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x; mov.u32 %r2, tile; mov.u32 %r3, %cluster_ctarank;
        setp.eq.u32 %p1, %r1, 0; setp.eq.u32 %p2, %r3, 0; and.pred %p2, %p1, %p2;
        @%p1 mbarrier.init.shared::cta.b64 [%r2], 1; fence.mbarrier_init.release.cluster;
        @%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 144;
        barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned; mov.b16 %h1, 10;
        @%p2 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r2+64], [%rd1], 144, [%r2], %h1;
        and.b32 %r4, %r3, 1; setp.eq.u32 %p3, %r4, 1; @%p3 mbarrier.try_wait.parity.shared::cta.b64 %p4, [%r2], 0;
        barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned; ret;";
    let text = module(&format!(".shared .align 128 .b8 tile[4096]; {body}"));
    let stats = run_shaped(&text.replace(") {", ") .reqnctapercluster 4, 1, 1 {"), 4, 32, true);
    let c = stats.counters.iter().find(|c| c.mnemonic.starts_with("cp.")).unwrap();
    assert_eq!((c.active, c.global_load_bytes, c.shared_store_bytes), (1, 144, 2 * 144));
    assert_eq!((c.shared_wavefronts, c.shared_load_bytes), (2 * 2, 0));
    assert_eq!(stats.shared_store_bytes, 2 * 144);
}

#[test]
fn operands_of_wgmma_are_read_once_a_warpgroup() {
    let product = |shape: &str, sums: &str, a: &str, flags: &str| {
        let body = format!(
            "mov.u32 %r1, tile; shr.u32 %r1, %r1, 4; cvt.u64.u32 %rd2, %r1; or.b64 %rd2, %rd2, 0x1000080000; setp.ne.u32 %p1, %r1, %r1;
            wgmma.fence.sync.aligned; wgmma.mma_async.sync.aligned.{shape}.f32.f16.f16 {{{sums}}}, {a}, %rd2, %p1, 1, 1, {flags};
            wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0; ret;"
        );
        let stats = run_shaped(&module(&format!(".shared .align 1024 .b8 tile[4096]; {body}")), 3, 128, true);
        assert_eq!(stats.total(|c| c.shared_load_bytes), stats.shared_load_bytes);
        let c = stats.counters.into_iter().find(|c| c.mnemonic.starts_with("wgmma.mma")).unwrap();
        assert_eq!((c.warps, c.shared_conflicts), (3 * 4, 0));
        (c.shared_load_bytes, c.shared_wavefronts)
    };
    let eight = "%f1, %f2, %f3, %f4, %f5, %f6, %f7, %f8";
    // Of each block A has 64 rows of 32 bytes, B 16 columns.
    assert_eq!(product("m64n16k16", eight, "%rd2", "0, 0"), (3 * (2048 + 512), 3 * (16 + 4)));
    // A in registers.
    let registers = "{%r4, %r5, %r6, %r7}";
    assert_eq!(product("m64n16k16", eight, registers, "0"), (3 * 512, 3 * 4));
    assert_eq!(product("m64n8k16", "%f1, %f2, %f3, %f4", registers, "0"), (3 * 256, 3 * 2));
}

#[test]
fn arithmetic_of_16_bit_floats_bounds_a_kernel() {
    let of = |instruction: &str| Demand::of_launch(&run(&instruction.repeat(1000), true)).unwrap();
    let demand = of("fma.rn.f16x2 %r3, %r3, %r3, %r3; ");
    assert_eq!((demand.half, demand.bfloat, demand.flops), (4000, 0, 4.0 * 4000.0 * 32.0));
    // 64 lanes a cycle, of 128 that are issued.
    let gpu = Gpu::named("RTX 4090").unwrap();
    let bound = Roofline::new(gpu, &demand).bound();
    assert_eq!(bound.unit, Unit::Half);
    assert!((bound.seconds * gpu.cycles() / (4000.0 * 32.0 / 64.0) - 1.0).abs() < 1e-9, "{bound:?}");
    let demand = of("fma.rn.bf16x2 %r3, %r3, %r3, %r3; ");
    assert_eq!((demand.half, demand.bfloat), (0, 4000));
    assert_eq!(Roofline::new(Gpu::named("A100").unwrap(), &demand).bound().unit, Unit::Half);
}

/// What bounds a kernel that does nothing but one sort of arithmetic.
#[test]
fn arithmetic_of_f64_and_of_integers_bounds_a_kernel() {
    let demand = |instruction: &str, times: usize| {
        let stats = run(&instruction.repeat(times), true);
        Demand::of_launch(&stats).unwrap()
    };
    let (double, integer) =
        (demand("fma.rn.f64 %rd2, %rd2, %rd2, %rd2; ", 1000), demand("mul.lo.s32 %r3, %r3, %r1; ", 1000));
    assert_eq!((double.double, double.integer, integer.double), (4 * 1000, 0, 0));
    assert_eq!(integer.integer, 4 * 1000);
    // Two operations of each lane.
    assert_eq!(double.flops, 2.0 * 4000.0 * 32.0);
    let bound = |name: &str, demand: &Demand| Roofline::new(Gpu::named(name).unwrap(), demand).bound();
    for (gpu, doubles, integers) in
        [("A100", 32.0, 64.0), ("RTX 4090", 2.0, 64.0), ("H100", 64.0, 64.0), ("H200", 64.0, 64.0)]
    {
        let cycles = Gpu::named(gpu).unwrap().cycles();
        for (demand, unit, rate) in [(&double, Unit::Double, doubles), (&integer, Unit::Integer, integers)] {
            let bound = bound(gpu, demand);
            assert_eq!(bound.unit, unit, "{gpu}");
            assert!((bound.seconds * cycles / (4000.0 * 32.0 / rate) - 1.0).abs() < 1e-9, "{gpu}: {bound:?}");
        }
    }
    // As many schedulers' slots as that: a multiprocessor issues 4 warps a cycle.
    assert_eq!(bound("B200", &double).unit, Unit::Double);
}
