//! Special registers, and what constant memory holds: values by the PTX manual's chapters of each.

mod common;
use common::{emulator, kernel, module, run_rows};
use ptx_emulator::{LaunchConfig, Module};

/// What one lane of two warps, of which the second has eight lanes, gives for a 32-bit register.
fn lanes(register: &str) -> Vec<u64> {
    run_rows(&format!("mov.u32 %d, {register};"), &[[0; 3]; 40])
}

#[test]
fn masks_of_lanes_are_those_of_the_lane_alone_below_and_above_it() {
    for thread in [0, 1, 30, 31, 32, 39] {
        let own = 1u64 << (thread % 32);
        let below = own - 1;
        let all = u64::from(u32::MAX);
        for (register, expected) in [
            ("%lanemask_eq", own),
            ("%lanemask_lt", below),
            ("%lanemask_le", below | own),
            ("%lanemask_ge", all & !below),
            // Lanes that the last warp does not have count too: the masks are of the lane's number alone.
            ("%lanemask_gt", all & !below & !own),
        ] {
            assert_eq!(lanes(register)[thread as usize], expected, "{register} of thread {thread}");
        }
    }
}

#[test]
fn warps_and_multiprocessors_are_numbered() {
    let warps = lanes("%warpid");
    assert_eq!((&warps[..32], &warps[32..]), (&[0; 32][..], &[1; 8][..]));
    // At least as many as the block has, and more than any identifier.
    assert!(lanes("%nwarpid").iter().all(|&n| n >= 2));
    let (own, all) = (lanes("%smid"), lanes("%nsmid"));
    assert!(own.iter().zip(&all).all(|(own, all)| own < all), "{own:?} of {all:?}");
    assert!(own.iter().all(|x| x == &own[0]), "a block is on one multiprocessor: {own:?}");
    // One number for the whole grid, and 64 bits wide since PTX 3.0.
    assert!(lanes("%gridid").iter().all(|&x| x == 1));
    assert_eq!(run_rows("mov.u64 %w, %gridid;", &[[0; 3]]), [1]);
    assert_eq!(run_rows("mov.u32 %d, WARP_SZ;", &[[0; 3]]), [32]);
}

#[test]
fn clocks_do_not_run_backwards_and_their_halves_are_of_one_count() {
    for clock in ["%clock64", "%globaltimer"] {
        let body = format!(
            "mov.u64 %q1, {clock}; nanosleep.u32 1000; LOOP: mov.u64 %q2, {clock}; setp.eq.u64 %p1, %q2, %q1; @%p1 bra LOOP;
            setp.gt.u64 %p1, %q2, %q1; selp.u32 %d, 1, 0, %p1;"
        );
        assert_eq!(run_rows(&body, &[[0; 3]; 32]), [1; 32], "{clock}");
    }
    // In less than 2^32 counts the lower half grows by as much as the whole does, at most; the upper one is the same or one more.
    for (clock, low, high) in
        [("%clock64", "%clock", "%clock_hi"), ("%globaltimer", "%globaltimer_lo", "%globaltimer_hi")]
    {
        let body = format!(
            "mov.u64 %q1, {clock}; mov.u32 %r1, {low}; mov.u32 %r2, {high}; mov.u64 %q2, {clock};
            cvt.u32.u64 %r3, %q1; sub.u32 %r4, %r1, %r3; cvt.u64.u32 %q4, %r4; sub.u64 %q5, %q2, %q1; setp.le.u64 %p1, %q4, %q5;
            shr.u64 %q6, %q1, 32; shr.u64 %q7, %q2, 32; cvt.u64.u32 %q8, %r2; setp.ge.and.u64 %p1, %q8, %q6, %p1;
            setp.le.and.u64 %p1, %q8, %q7, %p1; selp.u32 %d, 1, 0, %p1;"
        );
        assert_eq!(run_rows(&body, &[[0; 3]; 32]), [1; 32], "{clock}, {low}, {high}");
    }
}

/// What a register is in a block with so much shared memory, static and dynamic.
fn shared(register: &str, fixed: u32, dynamic: u32, target: &str) -> u32 {
    let text = module(&format!(
        ".shared .align 4 .b8 fixed[{fixed}]; ld.param.u64 %rd1, [out]; mov.u32 %r1, {register};
        st.shared.u32 [fixed], %r1; ld.shared.u32 %r1, [fixed]; st.global.u32 [%rd1], %r1; ret;"
    ))
    .replace("sm_90a", target)
    .replace(".visible", ".extern .shared .align 16 .b8 more[];\n.visible");
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{register}: {e}"));
    let emulator = emulator();
    let out = emulator.alloc(4).unwrap();
    let shape = LaunchConfig { grid: [1; 3], block: [1; 3], dynamic_shared_bytes: dynamic };
    emulator.launch(&module, "k", shape, &[&out.to_le_bytes()]).unwrap_or_else(|e| panic!("{register}: {e}"));
    let mut found = [0; 4];
    emulator.read(out, &mut found).unwrap();
    u32::from_le_bytes(found)
}

#[test]
fn sizes_of_shared_memory_come_in_the_targets_units() {
    for (register, fixed, dynamic, target, expected) in [
        ("%dynamic_smem_size", 4, 0, "sm_90", 0),
        ("%dynamic_smem_size", 4, 100, "sm_90", 100),
        // Units of 128 bytes since sm_80, of 256 before.
        ("%total_smem_size", 4, 0, "sm_90", 128),
        ("%total_smem_size", 128, 0, "sm_90", 128),
        ("%total_smem_size", 132, 0, "sm_90", 256),
        ("%total_smem_size", 112, 400, "sm_90", 512),
        ("%total_smem_size", 112, 401, "sm_90", 640),
        ("%total_smem_size", 4, 0, "sm_75", 256),
        ("%total_smem_size", 4, 496, "sm_75", 512),
        ("%total_smem_size", 4, 500, "sm_75", 768),
        // With the 1 KiB that the system has.
        ("%aggr_smem_size", 4, 0, "sm_90", 128 + 1024),
        ("%aggr_smem_size", 112, 401, "sm_90", 640 + 1024),
        ("%reserved_smem_offset_cap", 4, 0, "sm_90", 1024),
    ] {
        let found = shared(register, fixed, dynamic, target);
        assert_eq!(found, expected, "{register} of {fixed} and {dynamic} bytes, {target}");
    }
    // A kernel that asks where the reserved memory is has no more of its own.
    let body = ".shared .align 4 .b8 fixed[4]; mov.u32 %r1, fixed; mov.u32 %r2, %reserved_smem_offset_begin; mov.u32 %d, %total_smem_size;";
    assert_eq!(run_rows(body, &[[0; 3]]), [128]);
    let body = body.replace("%total", "%aggr");
    assert_eq!(run_rows(&body, &[[0; 3]]), [128 + 1024]);
}

#[test]
fn where_the_reserved_memory_lies_costs_a_kernel_nothing() {
    // 100 bytes, the 1 KiB of the system from 128 on, then 20 more: 120 are the kernel's, one unit, and not the 28 bytes between.
    let body = "{ .shared .align 4 .b8 a[100]; mov.u32 %r1, a; } mov.u32 %r2, %reserved_smem_offset_begin;
        { .shared .align 4 .b8 b[20]; mov.u32 %r3, b; mad.lo.u32 %r4, %r3, 65536, %r2; } mov.u32 %d, %total_smem_size;
        cvt.u64.u32 %w, %r4; shl.b64 %w, %w, 32;";
    assert_eq!(run_rows(body, &[[0; 3]]), [1152 << 48 | 128 << 32 | 128]);
    // 8 bytes more are a second unit.
    let body = body.replace("b[20]", "b[32]");
    assert_eq!(run_rows(&body, &[[0; 3]]), [1152 << 48 | 128 << 32 | 256]);
    // Dynamic memory comes after 4 bytes and 12 to its alignment: 112 more fill a unit.
    let (total, both) = ("%total_smem_size", "%total_smem_size; mov.u32 %r2, %reserved_smem_offset_end");
    for (dynamic, expected) in [(112, 128), (113, 256)] {
        assert_eq!(shared(total, 4, dynamic, "sm_90"), expected, "{dynamic}");
        assert_eq!(shared(both, 4, dynamic, "sm_90"), expected, "{dynamic}");
    }
    // All of the 227 KiB of sm_90 are the kernel's as before.
    assert_eq!(shared(both, 4, (227 << 10) - 16, "sm_90"), 227 << 10);
}

#[test]
fn reserved_shared_memory_lies_between_its_offsets() {
    let offset = |name: &str| {
        let body = format!(
            ".shared .align 4 .b8 own[200]; mov.u32 %r1, own; st.shared.u32 [%r1], 1; mov.u32 %d, %reserved_smem_offset_{name};"
        );
        run_rows(&body, &[[0; 3]; 32])[31]
    };
    let (begin, end) = (offset("begin"), offset("end"));
    assert_eq!(end - begin, offset("cap"));
    for name in ["0", "1"] {
        assert!((begin..end).contains(&offset(name)), "{name}: {} of {begin}..{end}", offset(name));
    }
    assert!(begin >= 200, "the variable and the reserved bytes are different ones");
}

#[test]
fn a_launch_is_no_part_of_a_graph() {
    assert_eq!(run_rows("mov.u64 %w, %current_graph_exec;", &[[0; 3]; 32]), [0; 32]);
    let narrow = kernel("mov.u32 %d, %current_graph;");
    assert!(Module::parse(&narrow).is_err());
}

#[test]
fn constant_variables_beyond_64_kib_are_refused() {
    let parse = |variables: &str| {
        let text = format!(
            ".version 8.3\n.target sm_90a\n.address_size 64\n{variables}\n.visible .entry k() {{ ret; }}\n"
        );
        Module::parse(&text).map(drop).map_err(|e| e.to_string())
    };
    parse(".const .align 4 .b8 full[65536];").unwrap();
    parse(".const .b8 a[65532];\n.const .b32 b;\n.global .b8 c[70000];").unwrap();
    for (variables, parts) in [
        (
            ".const .align 4 .b8 full[65537];",
            [
                "no room for `full` of 65537 bytes",
                "65537 bytes of `.const` variables; the limit is 65536",
                "line 4:",
            ],
        ),
        (
            ".const .b8 a[65532];\n.const .b32 b;\n.const .b8 c;\n.const .b8 d[9];",
            [
                "no room for `c` of 1 bytes",
                "65546 bytes of `.const` variables; the limit is 65536",
                "line 6:",
            ],
        ),
    ] {
        let error = parse(variables).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }
}
