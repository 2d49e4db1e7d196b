//! How threads run: divergence and meeting again, barriers, collectives, atomics, calls, variables.

mod common;
use common::{emulator, launch, words};

/// Address of the thread's output word in `%rd9`, its index in `%r39`.
const OUT: &str = "ld.param.u64 %rd8, [out]; mov.u32 %r39, %tid.x; mad.wide.u32 %rd9, %r39, 4, %rd8;";

fn per_thread(body: &str, threads: u32) -> Vec<u32> {
    words(&format!("{OUT}\n{body}\nst.global.u32 [%rd9], %r1; ret;"), 1, threads, threads as usize)
        .unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn lanes_that_parted_meet_again() {
    // After the diamond all 32 lanes are active together.
    let got = per_thread(
        "and.b32 %r2, %r39, 1; setp.eq.u32 %p1, %r2, 0; @%p1 bra EVEN; mov.u32 %r3, 1; bra.uni DONE; EVEN: mov.u32 %r3, 2; DONE:
         activemask.b32 %r4; setp.eq.u32 %p2, %r4, -1; selp.u32 %r1, %r3, 0, %p2;",
        32,
    );
    assert!(got.iter().enumerate().all(|(l, &x)| x == if l % 2 == 0 { 2 } else { 1 }), "{got:?}");
}

#[test]
fn loops_may_have_trip_counts_of_their_own() {
    let got = per_thread(
        "mov.u32 %r1, 0; mov.u32 %r2, 0;
         LOOP: setp.ge.u32 %p1, %r2, %r39; @%p1 bra END; add.u32 %r1, %r1, %r2; add.u32 %r2, %r2, 1; bra LOOP;
         END: activemask.b32 %r4; setp.ne.u32 %p2, %r4, -1; @%p2 mov.u32 %r1, 9999;",
        32,
    );
    assert!(got.iter().enumerate().all(|(l, &x)| x as usize == l * l.saturating_sub(1) / 2), "{got:?}");
}

#[test]
fn nested_divergence_meets_at_every_level() {
    let got = per_thread(
        "mov.u32 %r1, 0; setp.lt.u32 %p1, %r39, 16; @!%p1 bra OUTER;
         setp.lt.u32 %p2, %r39, 8; @!%p2 bra INNER; add.u32 %r1, %r1, 1;
         INNER: activemask.b32 %r2; popc.b32 %r2, %r2; add.u32 %r1, %r1, %r2;
         OUTER: activemask.b32 %r2; popc.b32 %r2, %r2; shl.b32 %r2, %r2, 8; add.u32 %r1, %r1, %r2;",
        32,
    );
    let want = |l: usize| {
        32 << 8
            | if l < 8 {
                17
            } else if l < 16 {
                16
            } else {
                0
            }
    };
    assert!(got.iter().enumerate().all(|(l, &x)| x as usize == want(l)), "{got:x?}");
}

#[test]
fn early_returns_do_not_keep_the_others_apart() {
    let got = per_thread(
        "setp.gt.u32 %p1, %r39, 27; mov.u32 %r1, 7; st.global.u32 [%rd9], %r1; @%p1 ret;
         shfl.sync.idx.b32 %r1, %r39, 5, 31, -1; activemask.b32 %r2; popc.b32 %r2, %r2; mad.lo.u32 %r1, %r2, 100, %r1;",
        32,
    );
    assert!(got.iter().enumerate().all(|(l, &x)| x == if l > 27 { 7 } else { 2805 }), "{got:?}");
}

#[test]
fn indexed_branches_spread_the_lanes() {
    let got = per_thread(
        "and.b32 %r2, %r39, 3; TABLE: .branchtargets A, B, C, D; brx.idx %r2, TABLE;
         A: mov.u32 %r1, 10; bra E; B: mov.u32 %r1, 20; bra E; C: mov.u32 %r1, 30; bra E; D: mov.u32 %r1, 40; E:",
        32,
    );
    assert!(got.iter().enumerate().all(|(l, &x)| x as usize == (l % 4 + 1) * 10), "{got:?}");
}

#[test]
fn a_spin_lock_between_lanes_of_a_warp_ends() {
    let body = format!(
        "{OUT} .shared .align 4 .u32 lock; .shared .align 4 .u32 total;
         setp.ne.u32 %p1, %r39, 0; @%p1 bra READY; st.shared.u32 [lock], 0; st.shared.u32 [total], 0;
         READY: bar.sync 0;
         AGAIN: atom.shared.cas.b32 %r2, [lock], 0, 1; setp.ne.u32 %p2, %r2, 0; @%p2 bra AGAIN;
         ld.shared.u32 %r3, [total]; add.u32 %r3, %r3, 1; st.shared.u32 [total], %r3;
         membar.cta; atom.shared.exch.b32 %r2, [lock], 0;
         bar.sync 0; ld.shared.u32 %r1, [total]; st.global.u32 [%rd9], %r1; ret;"
    );
    assert_eq!(words(&body, 1, 64, 64).unwrap_or_else(|e| panic!("{e}")), [64; 64]);
}

#[test]
fn a_lane_may_wait_for_another_at_a_flag() {
    // The consumer spins in its arm until the producer, in the other arm, has written.
    let got = per_thread(
        ".shared .align 4 .u32 flag; st.shared.u32 [flag], 0; bar.warp.sync -1;
         setp.eq.u32 %p1, %r39, 31; @%p1 bra PRODUCER;
         SPIN: ld.volatile.shared.u32 %r1, [flag]; setp.eq.u32 %p2, %r1, 0; @%p2 bra SPIN; bra DONE;
         PRODUCER: mov.u32 %r1, 5; st.volatile.shared.u32 [flag], %r1; DONE:",
        32,
    );
    assert_eq!(got, [5; 32]);
}

#[test]
fn barriers_work_in_the_arms_of_a_branch() {
    let got = per_thread(
        ".shared .align 4 .b8 s[256]; mov.u32 %r2, s; mad.lo.u32 %r2, %r39, 4, %r2; st.shared.u32 [%r2], %r39;
         setp.lt.u32 %p1, %r39, 16; @%p1 bra LOW; barrier.sync 0; bra DONE; LOW: barrier.sync 0; DONE:
         xor.b32 %r3, %r39, 63; mov.u32 %r2, s; mad.lo.u32 %r2, %r3, 4, %r2; ld.shared.u32 %r1, [%r2];",
        64,
    );
    assert!(got.iter().enumerate().all(|(l, &x)| x as usize == 63 - l), "{got:?}");
}

#[test]
fn named_barriers_count_threads_and_arrivals_do_not_wait() {
    let got = per_thread(
        ".shared .align 4 .u32 value; mov.u32 %r1, 1; setp.lt.u32 %p1, %r39, 32; @%p1 bra PRODUCER;
         bar.sync 3, 64; ld.shared.u32 %r1, [value]; bra DONE;
         PRODUCER: st.shared.u32 [value], 77; bar.arrive 3, 64; DONE:",
        64,
    );
    assert!(got[..32].iter().all(|&x| x == 1) && got[32..].iter().all(|&x| x == 77), "{got:?}");
}

#[test]
fn threads_that_ended_are_not_waited_for() {
    let got = per_thread("mov.u32 %r1, 3; setp.ge.u32 %p1, %r39, 64; @%p1 exit; bar.sync 0;", 96);
    assert_eq!((got[0], got[63], got[64]), (3, 3, 0));
}

#[test]
fn barrier_reductions_see_all_threads() {
    let got = per_thread(
        "setp.lt.u32 %p1, %r39, 40; bar.red.popc.u32 %r2, 0, %p1; bar.red.and.pred %p2, 0, %p1; bar.red.or.pred %p3, 0, !%p1;
         selp.u32 %r3, 1000, 0, %p2; selp.u32 %r4, 2000, 0, %p3; add.u32 %r1, %r2, %r3; add.u32 %r1, %r1, %r4;",
        64,
    );
    assert_eq!(got, [2040; 64]);
}

#[test]
fn shuffles() {
    type Case = (&'static str, fn(u32) -> u32);
    let cases: [Case; 6] = [
        ("shfl.sync.up.b32 %r1, %r39, 1, 0, -1;", |l| l.saturating_sub(1)),
        ("shfl.sync.down.b32 %r1, %r39, 2, 31, -1;", |l| if l + 2 < 32 { l + 2 } else { l }),
        ("shfl.sync.bfly.b32 %r1, %r39, 5, 31, -1;", |l| l ^ 5),
        ("shfl.sync.idx.b32 %r1, %r39, 3, 31, -1;", |_| 3),
        // Segments of 8: control is (32 - 8) << 8 | 7.
        ("shfl.sync.idx.b32 %r1, %r39, 3, 0x181f, -1;", |l| l / 8 * 8 + 3),
        ("shfl.sync.down.b32 %r1|%p1, %r39, 1, 31, -1; selp.u32 %r1, 1, 0, %p1;", |l| u32::from(l < 31)),
    ];
    for (body, want) in cases {
        let got = per_thread(body, 32);
        assert!(got.iter().enumerate().all(|(l, &x)| x == want(l as u32)), "{body}: {got:?}");
    }
}

#[test]
fn votes_matches_and_reductions() {
    let cases: [(&str, u32); 14] = [
        ("setp.lt.u32 %p1, %r39, 4; vote.sync.ballot.b32 %r1, %p1, -1;", 0xf),
        ("setp.lt.u32 %p1, %r39, 4; vote.sync.ballot.b32 %r1, !%p1, -1;", 0xffff_fff0),
        ("setp.lt.u32 %p1, %r39, 4; vote.sync.any.pred %p2, %p1, -1; selp.u32 %r1, 1, 0, %p2;", 1),
        ("setp.lt.u32 %p1, %r39, 4; vote.sync.all.pred %p2, %p1, -1; selp.u32 %r1, 1, 0, %p2;", 0),
        ("setp.lt.u32 %p1, %r39, 99; vote.sync.uni.pred %p2, %p1, -1; selp.u32 %r1, 1, 0, %p2;", 1),
        ("redux.sync.add.u32 %r1, %r39, -1;", 496),
        ("redux.sync.max.s32 %r1, %r39, -1;", 31),
        ("sub.s32 %r2, %r39, 5; redux.sync.min.s32 %r1, %r2, -1;", 0xffff_fffb),
        ("redux.sync.xor.b32 %r1, %r39, -1;", 0),
        ("redux.sync.or.b32 %r1, %r39, -1;", 31),
        ("mov.u32 %r2, 7; match.all.sync.b32 %r1|%p1, %r2, -1;", 0xffff_ffff),
        ("elect.sync %r1|%p1, -1;", 0),
        ("mov.u32 %r1, WARP_SZ;", 32),
        ("mov.u32 %r1, %ntid.x;", 32),
    ];
    for (body, want) in cases {
        assert_eq!(per_thread(body, 32), [want; 32], "{body}");
    }
    let got = per_thread("and.b32 %r2, %r39, 3; match.any.sync.b32 %r1, %r2, -1;", 32);
    assert!(got.iter().enumerate().all(|(l, &x)| x == 0x1111_1111 << (l % 4)), "{got:x?}");
}

#[test]
fn a_collective_in_both_arms_waits_for_its_members_only() {
    let got = per_thread(
        "setp.lt.u32 %p1, %r39, 16; @%p1 bra LOW; redux.sync.add.u32 %r1, %r39, 0xffff0000; bra DONE;
         LOW: redux.sync.add.u32 %r1, %r39, 0xffff; DONE:",
        32,
    );
    assert!(got[..16].iter().all(|&x| x == 120) && got[16..].iter().all(|&x| x == 376), "{got:?}");
}

#[test]
fn atomics_of_all_blocks_add_up() {
    let cases = [
        ("red.global.add.u32 [%rd8], 1;", 512),
        ("atom.global.max.u32 %r2, [%rd8], %r39;", 127),
        ("atom.add.release.gpu.global.u32 %r2, [%rd8], 2;", 1024),
        ("atom.global.inc.u32 %r2, [%rd8], 1000;", 512),
        ("atom.global.or.b32 %r2, [%rd8], %r39;", 127),
        ("red.global.add.f32 [%rd8], 0f3F800000;", 512f32.to_bits()),
        ("mov.b32 %r2, 0x3c003c00; red.global.add.noftz.f16x2 [%rd8], %r2;", 0x6000_6000),
    ];
    for (body, want) in cases {
        let body = format!("ld.param.u64 %rd8, [out]; mov.u32 %r39, %tid.x; {body} ret;");
        assert_eq!(words(&body, 4, 128, 1).unwrap_or_else(|e| panic!("{e}"))[0], want, "{body}");
    }
}

#[test]
fn shared_local_and_generic_addresses_agree() {
    let got = per_thread(
        ".shared .align 8 .b8 s[512]; .local .align 8 .b8 d[16];
         mov.u64 %rd1, s; mad.wide.u32 %rd1, %r39, 8, %rd1; cvta.shared.u64 %rd2, %rd1;
         st.u32 [%rd2+4], %r39; ld.shared.u32 %r2, [%rd1+4];
         mov.u64 %rd3, d; cvta.local.u64 %rd4, %rd3; st.local.u32 [d+8], %r2; ld.u32 %r3, [%rd4+8];
         isspacep.shared %p1, %rd2; isspacep.local %p2, %rd4; isspacep.global %p3, %rd8;
         selp.u32 %r4, 100, 0, %p1; selp.u32 %r5, 200, 0, %p2; selp.u32 %r6, 400, 0, %p3;
         add.u32 %r1, %r3, %r4; add.u32 %r1, %r1, %r5; add.u32 %r1, %r1, %r6;
         cvta.to.shared.u64 %rd5, %rd2; setp.ne.u64 %p4, %rd5, %rd1; @%p4 mov.u32 %r1, 0;",
        32,
    );
    assert!(got.iter().enumerate().all(|(l, &x)| x as usize == l + 700), "{got:?}");
}

const CALLS: &str = "
.version 8.0
.target sm_80
.address_size 64
.global .align 4 .u32 counter = 40;
.const .align 8 .b64 pointer = counter;
.const .align 4 .f32 table[4] = {1.0, 2.0, 0f40400000, 4.0};
.global .align 1 .b8 text[13] = {97, 61, 37, 100, 32, 98, 61, 37, 46, 49, 102, 10, 0};
.extern .func (.param .b32 r) vprintf (.param .b64 f, .param .b64 a);
.func (.param .b32 result) add_one (.param .b32 x, .param .align 8 .b8 pair[16]) {
    .reg .b32 %r<4>; .reg .b64 %rd<4>;
    ld.param.b32 %r1, [x];
    ld.param.b64 %rd1, [pair+8];
    cvt.u32.u64 %r2, %rd1;
    add.u32 %r1, %r1, %r2;
    st.param.b32 [result], %r1;
    ret;
}
.func (.reg .b32 result) twice (.reg .b32 x) {
    shl.b32 result, x, 1;
    ret;
}
.visible .entry k(.param .u64 out) {
    .reg .b32 %r<10>; .reg .b64 %rd<10>; .reg .f32 %f<4>; .reg .f64 %fd<3>; .reg .pred %p<3>;
    .local .align 8 .b8 args[16];
    ld.param.u64 %rd1, [out];
    mov.u32 %r1, %tid.x;
    mad.wide.u32 %rd2, %r1, 4, %rd1;
    mov.u32 %r3, 0;
    and.b32 %r2, %r1, 1;
    setp.eq.u32 %p1, %r2, 0;
    @%p1 bra SKIP;
    {
        .param .b32 a; .param .align 8 .b8 b[16]; .param .b32 c;
        mov.u64 %rd3, 5;
        st.param.b32 [a], %r1;
        st.param.b64 [b+8], %rd3;
        call.uni (c), add_one, (a, b);
        ld.param.b32 %r3, [c];
    }
SKIP:
    ld.const.u64 %rd4, [pointer];
    ld.u32 %r4, [%rd4];
    add.u32 %r3, %r3, %r4;
    mov.u64 %rd5, table;
    ld.const.f32 %f1, [%rd5+8];
    cvt.rzi.u32.f32 %r5, %f1;
    add.u32 %r3, %r3, %r5;
    st.global.u32 [%rd2], %r3;
    setp.ne.u32 %p2, %r1, 3;
    @%p2 bra END;
    st.local.u32 [args], %r3;
    mov.f64 %fd1, 0d3FF8000000000000;
    st.local.f64 [args+8], %fd1;
    {
        .param .b64 f; .param .b64 a; .param .b32 r;
        mov.u64 %rd6, args; cvta.local.u64 %rd6, %rd6;
        mov.u64 %rd7, text; cvta.global.u64 %rd7, %rd7;
        st.param.b64 [f], %rd7; st.param.b64 [a], %rd6;
        call.uni (r), vprintf, (f, a);
    }
END:
    ret;
}";

#[test]
fn calls_variables_and_printing() {
    let emulator = emulator();
    let out = emulator.alloc(128).unwrap();
    let stats =
        launch(CALLS, "k", 1, 32, 0, &emulator, &[&out.to_le_bytes()]).unwrap_or_else(|e| panic!("{e}"));
    let mut bytes = [0; 128];
    emulator.read(out, &mut bytes).unwrap();
    for lane in 0..32u32 {
        let got = u32::from_le_bytes(bytes[lane as usize * 4..][..4].try_into().unwrap());
        assert_eq!(got, 43 + if lane % 2 == 1 { lane + 5 } else { 0 });
    }
    assert_eq!(stats.printed, "a=51 b=1.5\n");
}

#[test]
fn scopes_may_reuse_names_and_labels() {
    let got = per_thread(
        "mov.u32 %r1, 0;
         { .reg .b32 t; .reg .pred p; mov.u32 t, 5; setp.eq.u32 p, t, 5; @p bra L; mov.u32 t, 9; L: add.u32 %r1, %r1, t; }
         { .reg .b64 t; .reg .pred p; mov.u64 t, 6; setp.eq.u64 p, t, 5; @p bra L; mov.u64 t, 7; L: cvt.u32.u64 %r2, t; add.u32 %r1, %r1, %r2; }",
        4,
    );
    assert_eq!(got, [12; 4]);
}

#[test]
fn counters_count_the_instructions_of_the_text() {
    let text = common::module(
        "ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x; bar.sync 0; st.shared.u32 [s], %r1; ret;",
    )
    .replace(".reg .pred", ".shared .align 4 .b8 s[64]; .reg .pred");
    let emulator = emulator();
    let out = emulator.alloc(4).unwrap();
    let stats = launch(&text, "k", 3, 48, 0, &emulator, &[&out.to_le_bytes()]).unwrap();
    assert_eq!((stats.warp_instructions, stats.thread_instructions), (3 * 2 * 5, 3 * 48 * 5));
    assert_eq!((stats.blocks, stats.barriers, stats.shared_store_bytes), (3, 3, 3 * 48 * 4));
    assert!(stats.mnemonics.iter().any(|m| m.name == "bar.sync" && m.warps == 6));
}

const TABLE: &str = "
.version 8.0
.target sm_80
.address_size 64
.func (.param .b32 r) one (.param .b32 x);
.global .align 8 .u64 table[2] = {one, two};
.func (.param .b32 r) one (.param .b32 x) { .reg .b32 %r<2>; ld.param.b32 %r1, [x]; add.u32 %r1, %r1, 100; st.param.b32 [r], %r1; ret; }
.func (.param .b32 r) two (.param .b32 x) { .reg .b32 %r<2>; ld.param.b32 %r1, [x]; mul.lo.u32 %r1, %r1, 2; st.param.b32 [r], %r1; ret; }
.visible .entry k(.param .u64 out) {
    .reg .b32 %r<4>; .reg .b64 %rd<6>;
    ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x; mad.wide.u32 %rd2, %r1, 4, %rd1;
    and.b32 %r2, %r1, 1; mov.u64 %rd3, table; mad.wide.u32 %rd3, %r2, 8, %rd3; ld.global.u64 %rd4, [%rd3];
    { .param .b32 a; .param .b32 r; st.param.b32 [a], %r1;
      P: .callprototype (.param .b32 _) _ (.param .b32 _);
      call (r), %rd4, (a), P; ld.param.b32 %r3, [r]; }
    st.global.u32 [%rd2], %r3; ret;
}";

#[test]
fn calls_by_address_find_each_lane_its_function() {
    let emulator = emulator();
    let out = emulator.alloc(128).unwrap();
    launch(TABLE, "k", 1, 32, 0, &emulator, &[&out.to_le_bytes()]).unwrap_or_else(|e| panic!("{e}"));
    let mut bytes = [0; 128];
    emulator.read(out, &mut bytes).unwrap();
    for lane in 0..32u32 {
        let got = u32::from_le_bytes(bytes[lane as usize * 4..][..4].try_into().unwrap());
        assert_eq!(got, if lane % 2 == 0 { lane + 100 } else { lane * 2 });
    }
}

#[test]
fn tiles_of_a_warp_come_to_one_collective_with_masks_of_their_own() {
    let tile =
        "ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x; mul.wide.u32 %rd2, %r1, 4; add.u64 %rd1, %rd1, %rd2;
        and.b32 %r2, %r1, 24; mov.u32 %r3, 255; shl.b32 %r3, %r3, %r2;";
    let all = |f: &dyn Fn(u32) -> u32| (0..32).map(f).collect::<Vec<u32>>();
    for (body, expected) in [
        // Sums of tiles: 8 l + 28 from the tile's first lane l on.
        ("redux.sync.add.s32 %r4, %r1, %r3;", all(&|l| 8 * (l / 8 * 8) + 28)),
        ("shfl.sync.bfly.b32 %r4, %r1, 4, 6175, %r3;", all(&|l| l ^ 4)),
        (
            "setp.ge.u32 %p1, %r1, 20; vote.sync.ballot.b32 %r4, %p1, %r3;",
            all(&|l| [0, 0, 0xf0_0000, 0xff00_0000][l as usize / 8]),
        ),
        (
            "and.b32 %r5, %r1, 1; match.any.sync.b32 %r4, %r5, %r3;",
            all(&|l| (0x55 << (l % 2)) << (l / 8 * 8)),
        ),
        ("elect.sync %r4|%p1, %r3;", all(&|l| l / 8 * 8)),
        ("bar.warp.sync %r3; mov.u32 %r4, %r1;", all(&|l| l)),
        // Lanes 0 to 3 come later; the other tiles do not wait for them.
        (
            "mov.u32 %r6, 0; setp.lt.u32 %p1, %r1, 4; L: setp.eq.and.u32 %p2, %r6, 0, %p1; @%p2 bra SKIP;
            redux.sync.add.s32 %r4, %r1, %r3; bra OUT; SKIP: add.u32 %r6, %r6, 1; bra L; OUT:",
            all(&|l| 8 * (l / 8 * 8) + 28),
        ),
    ] {
        let found = words(&format!("{tile}{body} st.global.u32 [%rd1], %r4; bar.sync 0; ret;"), 1, 32, 32);
        assert_eq!(found.unwrap_or_else(|e| panic!("{body}: {e}")), expected, "{body}");
    }
    let error = |body: &str| words(&format!("{tile}{body} ret;"), 1, 32, 32).unwrap_err().to_string();
    // Lane 8 names lanes of another tile as its own; lanes 0 to 3 never come.
    let other = error("setp.eq.u32 %p1, %r1, 8; @%p1 mov.u32 %r3, 0xff0100; bar.warp.sync %r3;");
    assert!(other.contains("lane 16 names the members 0x00ff0000"), "{other}");
    let gone = error("setp.lt.u32 %p1, %r1, 4; @%p1 bra E; redux.sync.add.s32 %r4, %r1, %r3; E: bar.sync 0;");
    assert!(gone.contains("waits for the lanes 0x000000ff"), "{gone}");
}
