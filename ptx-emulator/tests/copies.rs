//! `cp.async`: what is copied, and when. Caches' hints.

mod common;
use common::{emulator, launch, module, run_rows};
use ptx_emulator::{LaunchError, Module};

/// One thread. The source is 64 bytes 1, 2, 3 …; shared memory begins as 64 bytes 0xee; both ends in registers `%rd2` (source) and
/// `%r1` (destination). `SAVE n` copies the first 16 bytes of shared memory to place n of the output.
fn run(body: &str, places: usize) -> Result<Vec<[u8; 16]>, LaunchError> {
    let emulator = emulator();
    let data = emulator.alloc(64 + 16 * places as u64).unwrap();
    emulator.write(data, &(1..=64).collect::<Vec<u8>>()).unwrap();
    let mut text = String::from(
        ".shared .align 16 .b8 tile[64];
        ld.param.u64 %rd2, [out]; mov.u32 %r1, tile; mov.u32 %r2, 0xeeeeeeee;
        st.shared.v4.b32 [%r1], {%r2, %r2, %r2, %r2}; st.shared.v4.b32 [%r1+16], {%r2, %r2, %r2, %r2};
        st.shared.v4.b32 [%r1+32], {%r2, %r2, %r2, %r2}; st.shared.v4.b32 [%r1+48], {%r2, %r2, %r2, %r2};\n",
    );
    text.push_str(body);
    for place in 0..places {
        let save = format!(
            "ld.shared.v4.b32 {{%r10, %r11, %r12, %r13}}, [%r1]; st.global.v4.b32 [%rd2+{}], {{%r10, %r11, %r12, %r13}};",
            64 + 16 * place
        );
        text = text.replace(&format!("SAVE {place};"), &save);
    }
    launch(&module(&(text + "ret;")), "k", 1, 1, 0, &emulator, &[&data.to_le_bytes()])?;
    let mut out = vec![0; 16 * places];
    emulator.read(data + 64, &mut out).unwrap();
    Ok(out.chunks(16).map(|c| c.try_into().unwrap()).collect())
}

/// Source bytes from `from`, then zeros, then the old bytes.
fn bytes(from: u8, copied: usize, zeros: usize) -> [u8; 16] {
    std::array::from_fn(|k| {
        if k < copied {
            from + k as u8
        } else if k < copied + zeros {
            0
        } else {
            0xee
        }
    })
}

const OLD: [u8; 16] = [0xee; 16];

#[test]
fn copies_take_effect_at_the_wait_and_no_sooner() {
    let out = run(
        "cp.async.cg.shared.global [%r1], [%rd2], 16;
        SAVE 0; cp.async.commit_group; SAVE 1; bar.sync 0; SAVE 2; cp.async.wait_group 1; SAVE 3; cp.async.wait_group 0; SAVE 4;",
        5,
    )
    .unwrap();
    assert_eq!(out, [OLD, OLD, OLD, OLD, bytes(1, 16, 0)]);
}

#[test]
fn a_missing_commit_leaves_a_copy_undone_until_wait_all() {
    let out = run(
        "cp.async.cg.shared::cta.global [%r1], [%rd2+16], 16; cp.async.wait_group 0; SAVE 0; cp.async.wait_all; SAVE 1;",
        2,
    )
    .unwrap();
    assert_eq!(out, [OLD, bytes(17, 16, 0)]);
}

#[test]
fn the_source_is_read_at_the_wait() {
    let out = run(
        "cp.async.ca.shared.global [%r1], [%rd2], 4; cp.async.commit_group; st.global.u8 [%rd2], 99; cp.async.wait_all; SAVE 0;",
        1,
    )
    .unwrap();
    assert_eq!(out[0][..5], [99, 2, 3, 4, 0xee]);
}

#[test]
fn wait_group_n_leaves_the_last_n_groups() {
    let out = run(
        "cp.async.ca.shared.global [%r1], [%rd2], 4; cp.async.commit_group;
        cp.async.ca.shared.global [%r1+4], [%rd2+4], 4; cp.async.commit_group;
        cp.async.commit_group;
        cp.async.ca.shared.global [%r1+8], [%rd2+8], 8; cp.async.commit_group;
        cp.async.wait_group 3; SAVE 0; cp.async.wait_group 2; SAVE 1; cp.async.wait_group 1; SAVE 2; cp.async.wait_group 0; SAVE 3;",
        4,
    )
    .unwrap();
    assert_eq!(out, [bytes(1, 4, 0), bytes(1, 8, 0), bytes(1, 8, 0), bytes(1, 16, 0)]);
}

#[test]
fn sizes_zero_fill_and_hints() {
    let cases: [(&str, [u8; 16]); 12] = [
        ("cp.async.ca.shared.global [%r1], [%rd2], 4;", bytes(1, 4, 0)),
        ("cp.async.ca.shared.global [%r1], [%rd2+8], 8;", bytes(9, 8, 0)),
        ("cp.async.ca.shared.global [%r1], [%rd2+16], 16;", bytes(17, 16, 0)),
        ("mov.u32 %r3, 5; cp.async.cg.shared.global [%r1], [%rd2], 16, %r3;", bytes(1, 5, 11)),
        ("cp.async.cg.shared.global [%r1], [%rd2], 16, 16;", bytes(1, 16, 0)),
        // No byte of an empty source is looked at.
        (
            "mov.u64 %rd3, 16; mov.u32 %r3, 0; cp.async.cg.shared.global [%r1], [%rd3], 16, %r3;",
            bytes(1, 0, 16),
        ),
        ("setp.eq.u32 %p1, %r1, %r1; cp.async.ca.shared.global [%r1], [%rd2], 8, %p1;", bytes(1, 0, 8)),
        ("setp.ne.u32 %p1, %r1, %r1; cp.async.ca.shared.global [%r1], [%rd2], 8, %p1;", bytes(1, 8, 0)),
        ("setp.ne.u32 %p1, %r1, %r1; cp.async.ca.shared.global [%r1], [%rd2], 8, !%p1;", bytes(1, 0, 8)),
        ("cp.async.cg.shared.global.L2::128B [%r1], [%rd2], 16;", bytes(1, 16, 0)),
        (
            "createpolicy.fractional.L2::evict_last.b64 %rd3, 1.0; cp.async.cg.shared.global.L2::cache_hint.L2::256B [%r1], [%rd2], 16, 3, %rd3;",
            bytes(1, 3, 13),
        ),
        (
            "createpolicy.fractional.L2::evict_first.b64 %rd3; cp.async.ca.shared.global.L2::cache_hint [%r1], [%rd2], 4, %rd3;",
            bytes(1, 4, 0),
        ),
    ];
    for (copy, expected) in cases {
        let out = run(&format!("{copy} cp.async.wait_all; SAVE 0;"), 1).unwrap();
        assert_eq!(out, [expected], "{copy}");
    }
}

#[test]
fn each_thread_waits_for_its_own_copies_only() {
    // 64 threads copy their word; the even ones do not wait. Then all lanes are read by one warp after a barrier.
    let body = ".shared .align 16 .b8 tile[256];
        ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x; mov.u32 %r2, tile; shl.b32 %r3, %r1, 2; add.u32 %r2, %r2, %r3;
        st.shared.u32 [%r2], 7; mad.wide.u32 %rd2, %r1, 4, %rd1;
        cp.async.ca.shared.global [%r2], [%rd2], 4; cp.async.commit_group;
        and.b32 %r4, %r1, 1; setp.eq.u32 %p1, %r4, 1; @%p1 cp.async.wait_group 0;
        bar.sync 0;
        ld.shared.u32 %r5, [%r2]; st.global.u32 [%rd2], %r5; ret;";
    let emulator = emulator();
    let out = emulator.alloc(256).unwrap();
    emulator.write(out, &(100..164u32).flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    launch(&module(body), "k", 2, 64, 0, &emulator, &[&out.to_le_bytes()]).unwrap();
    let mut bytes = vec![0; 256];
    emulator.read(out, &mut bytes).unwrap();
    for (t, word) in bytes.chunks(4).enumerate() {
        let word = u32::from_le_bytes(word.try_into().unwrap());
        // Two blocks do the same.
        assert_eq!(word, if t % 2 == 1 { 100 + t as u32 } else { 7 }, "thread {t}");
    }
}

#[test]
fn wrong_addresses_and_sizes_are_faults_when_the_copy_is_issued() {
    for (copy, part) in [
        (
            "cp.async.cg.shared.global [%r1+8], [%rd2], 16;",
            "misaligned write of 16 bytes at shared address 0x8",
        ),
        ("cp.async.cg.shared.global [%r1], [%rd2+8], 16;", "misaligned read of 16 bytes at global address"),
        ("cp.async.ca.shared.global [%r1], [%rd2+2], 4, 0;", "misaligned read"),
        ("cp.async.cg.shared.global [%r1+64], [%rd2], 16;", "shared address 0x40, which has 64 bytes"),
        ("cp.async.cg.shared.global [%r1], [%rd2-16], 16;", "16 bytes before the allocation"),
        ("cp.async.ca.shared.global [%r1], [%rd2+80], 8, 1;", "read of 1 bytes at global address"),
        ("cp.async.ca.shared.global [%r1], [%rd2], 8, 9;", "a copy of 8 bytes, of which 9 from the source"),
    ] {
        let error = run(copy, 1).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("cp.async"), "{copy}: {error}");
    }
}

#[test]
fn malformed_forms_are_errors_with_their_line() {
    for (statement, part) in [
        ("cp.async.cg.shared.global [%r1], [%rd2], 8;", "copies 16 bytes"),
        ("cp.async.ca.shared.global [%r1], [%rd2], 12;", "copies 4, 8 or 16 bytes"),
        ("cp.async.ca.shared.global [%r1], [%rd2];", "a destination, a source and a size"),
        ("cp.async.ca.global.shared [%rd2], [%r1], 4;", "there is no"),
        ("cp.async.ca.shared.global.L2::12B [%r1], [%rd2], 4;", "`.L2::12B` is no modifier of `cp`"),
        ("cp.async.ca.shared.global.L2::cache_hint [%r1], [%rd2], 4;", "wants a cache policy"),
        ("cp.async.ca.shared.global [%r1], [%rd2], 4, %r3, %rd3;", "too many operands"),
        ("cp.async.ca.shared.global %r1, [%rd2], 4;", "an address in `[ ]` is wanted"),
        ("cp.async.wait_group %r1;", "constant number of groups"),
        ("cp.async.wait_group -1;", "constant number of groups"),
        ("cp.async.commit_group 1;", "takes 0 operands"),
        ("createpolicy.fractional.L2::evict_last.b32 %r1, 1.0;", "there is no"),
        ("ld.global.L2::cache_hint.u32 %r1, [%rd2];", "wants a cache policy"),
        ("ld.global.u32 %r1, [%rd2], %rd3;", "takes 2 operands"),
    ] {
        let error = Module::parse(&module(&format!("\n{statement}\nret;"))).err();
        let error = error.unwrap_or_else(|| panic!("{statement}"));
        assert_eq!(error.problems[0].line, 7, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn hints_of_loads_and_stores_change_nothing() {
    for load in [
        "ld.global.nc.L1::no_allocate.u32 %d, [%in];",
        "ld.global.L1::evict_last.L2::128B.u32 %d, [%in];",
        "createpolicy.fractional.L2::evict_last.L2::evict_unchanged.b64 %q1, 0.5; ld.global.L2::cache_hint.u32 %d, [%in], %q1;",
        "createpolicy.fractional.L2::evict_first.b64 %q1, 1.0; ld.global.nc.L1::no_allocate.L2::cache_hint.L2::256B.u32 %d, [%in], %q1;",
        "createpolicy.range.L2::evict_last.L2::evict_first.b64 %q1, [%in], 0x100, 0x200; ld.global.cs.u32 %d, [%in];",
        "createpolicy.fractional.L2::evict_first.b64 %q1; st.global.L2::cache_hint.u32 [%out], 1, %q1; ld.global.u32 %d, [%in];",
        "prefetch.global.L1 [%in]; prefetch.global.L2::evict_last [%in]; prefetchu.L1 [%in]; ld.global.u32 %d, [%in];",
    ] {
        assert_eq!(run_rows(load, &[[42, 0, 0]]), [42], "{load}");
    }
}
