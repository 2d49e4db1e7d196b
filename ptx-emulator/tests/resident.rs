//! Blocks that wait for one another: they are resident together, on however many host threads, in any order, and lose nothing while
//! others have their turns.

mod common;
use common::module;
use ptx_emulator::{
    Config, Emulator, LaunchConfig, LaunchError, LaunchOptions, LaunchStats, Module, Schedule,
};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Words of the kernels' memory; `[%rd1]` counts arrivals.
const WORDS: usize = 1024;

/// How a kernel is run, in blocks of 64 threads.
#[derive(Clone, Copy, Debug)]
struct Way {
    blocks: u32,
    cluster: u32,
    threads: usize,
    schedule: Schedule,
    checks: bool,
    counters: bool,
    resident: u64,
    limit: u64,
    cooperative: bool,
}

const PLAIN: Way = Way {
    blocks: 64,
    cluster: 1,
    threads: 1,
    schedule: Schedule::InOrder,
    checks: false,
    counters: false,
    resident: 4224,
    limit: 100_000_000,
    cooperative: false,
};

/// All ways in which a kernel of so many blocks should have the same results. Many blocks take long in orders of seeds.
fn ways(plain: Way) -> impl Iterator<Item = Way> {
    let seeds =
        (0..20).map(move |seed| Way { schedule: Schedule::Seeded(seed), checks: seed % 4 == 0, ..plain });
    let threads = [2, 5].map(|threads| Way { threads, ..plain });
    let observed = [1, 3].map(|threads| Way { threads, checks: true, counters: true, ..plain });
    [plain].into_iter().chain(threads).chain(observed).chain(seeds)
}

/// `%rd1` is zeros; `%r1` is the thread, `%r2` the block, `%r3` the number of blocks, `%rd2` the block's word from word 64 on, `%rd3`
/// its word from word 512 on; `%p0` is true in thread 0. `BARRIER %r` waits until the counter has reached a number.
fn kernel(body: &str) -> Module {
    let barrier = "bar.sync 0; @!%p0 bra PASS; red.release.gpu.global.add.u32 [%rd1], 1;
        SPIN: ld.acquire.gpu.global.u32 %r30, [%rd1]; setp.lt.u32 %p10, %r30, TARGET; @%p10 bra SPIN;
        PASS: bar.sync 0;";
    let mut text = format!(
        ".shared .align 128 .b8 tile[1024]; .local .align 8 .b8 own[64];
        ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %nctaid.x;
        mul.wide.u32 %rd2, %r2, 4; add.u64 %rd3, %rd1, 2048; add.u64 %rd3, %rd3, %rd2; add.u64 %rd2, %rd2, %rd1;
        add.u64 %rd2, %rd2, 256; setp.eq.u32 %p0, %r1, 0; mov.u32 %r5, 0;\n{body}\nret;"
    );
    let mut count = 0;
    while let Some(at) = text.find("BARRIER ") {
        let end = at + text[at..].find(';').unwrap() + 1;
        let target = text[at + 8..end - 1].to_string();
        let one = barrier.replace("TARGET", &target).replace("SPIN", &format!("SPIN{count}"));
        text.replace_range(at..end, &one.replace("PASS", &format!("PASS{count}")));
        count += 1;
    }
    Module::parse(&module(&text)).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn run_with(
    module: &Module,
    way: Way,
    options: &LaunchOptions,
) -> Result<(Vec<u32>, LaunchStats), LaunchError> {
    let Way { threads, resident: resident_blocks, limit, checks, counters, schedule, cooperative, .. } = way;
    let emulator = Emulator::new(Config {
        threads,
        resident_blocks,
        max_instructions: Some(limit),
        ..Config::default()
    });
    let out = emulator.alloc(4 * WORDS as u64).unwrap();
    emulator.fill(out, 0, 4 * WORDS as u64).unwrap();
    emulator.symbol(module, "").unwrap();
    let used = emulator.memory_used();
    let shape = LaunchConfig { grid: [way.blocks, 1, 1], block: [64, 1, 1], dynamic_shared_bytes: 0 };
    let cluster = (way.cluster > 1).then_some([way.cluster, 1, 1]);
    let options = LaunchOptions { checks, counters, schedule, cluster, cooperative, ..*options };
    let result = emulator.launch_with(module, "k", shape, &[&out.to_le_bytes()], &options);
    assert_eq!(emulator.memory_used(), used, "the launch keeps no memory");
    let stats = result?;
    let mut bytes = vec![0; 4 * WORDS];
    emulator.read(out, &mut bytes).unwrap();
    Ok((bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect(), stats))
}

fn run(module: &Module, way: Way) -> Result<(Vec<u32>, LaunchStats), LaunchError> {
    run_with(module, way, &LaunchOptions::default())
}

/// Runs a kernel in all ways; its results from word 512 on are as expected.
fn gives(body: &str, plain: Way, expected: impl Fn(u32) -> u32) {
    let module = kernel(body);
    let expected: Vec<u32> = (0..plain.blocks).map(expected).collect();
    for way in ways(plain) {
        let (words, stats) = run(&module, way).unwrap_or_else(|e| panic!("{way:?}: {e}"));
        assert_eq!(words[512..][..plain.blocks as usize], expected, "{way:?}");
        assert_eq!(stats.blocks, u64::from(plain.blocks), "{way:?}");
    }
}

/// Each block adds up what all blocks stored before the barrier, stores twice that, and adds up those after a second barrier.
const TWO_BARRIERS: &str = "add.u32 %r4, %r2, 1; @%p0 st.global.u32 [%rd2], %r4;
    BARRIER %r3;
    SUM: mul.wide.u32 %rd5, %r5, 4; add.u64 %rd5, %rd5, %rd1; ld.global.u32 %r7, [%rd5+256];
    add.u32 %r6, %r6, %r7; add.u32 %r5, %r5, 1; setp.lt.u32 %p1, %r5, %r3; @%p1 bra SUM;
    shl.b32 %r6, %r6, 1; shl.b32 %r8, %r3, 1; @%p0 st.global.u32 [%rd2+768], %r6;
    BARRIER %r8;
    mov.u32 %r5, 0; mov.u32 %r6, 0;
    MORE: mul.wide.u32 %rd5, %r5, 4; add.u64 %rd5, %rd5, %rd1; ld.global.u32 %r7, [%rd5+1024];
    add.u32 %r6, %r6, %r7; add.u32 %r5, %r5, 1; setp.lt.u32 %p1, %r5, %r3; @%p1 bra MORE;
    @%p0 st.global.u32 [%rd3], %r6;";

#[test]
fn two_barriers_of_the_grid_in_a_row() {
    let body = format!("mov.u32 %r6, 0; {TWO_BARRIERS}");
    // 1 + 2 + ... + 64, doubled, 64 times.
    gives(&body, PLAIN, |_| 64 * 65 * 64);
    gives(&body, Way { blocks: 20, ..PLAIN }, |_| 20 * 21 * 20);
}

#[test]
fn a_seed_is_always_the_same_order() {
    let module = kernel(&format!("mov.u32 %r6, 0; {TWO_BARRIERS}"));
    let instructions = |seed| {
        let way = Way { blocks: 20, schedule: Schedule::Seeded(seed), ..PLAIN };
        run(&module, way).unwrap().1.warp_instructions
    };
    let all: Vec<u64> = (0..4).map(instructions).collect();
    assert_eq!(all, (0..4).map(instructions).collect::<Vec<_>>());
    assert!(all.iter().any(|&n| n != all[0]), "{all:?}");
}

#[test]
fn every_way_to_wait_ends() {
    let wait = |how: &str| {
        format!(
            "setp.ne.u32 %p1, %r2, 0; @%p1 bra SET; @!%p0 bra DONE;
            WAIT: {how} setp.eq.u32 %p2, %r4, 0; @%p2 bra WAIT;
            fence.acq_rel.gpu; ld.global.u32 %r6, [%rd1+400]; st.global.u32 [%rd3], %r6; bra DONE;
            SET: sub.u32 %r4, %r3, 1; setp.eq.u32 %p3, %r2, %r4; and.pred %p3, %p3, %p0;
            @%p3 st.global.u32 [%rd1+400], 77; fence.acq_rel.gpu; @%p3 atom.exch.relaxed.gpu.global.b32 %r4, [%rd1+4], 1;
            DONE: bar.sync 0;"
        )
    };
    let strong = [
        "ld.relaxed.gpu.global.u32 %r4, [%rd1+4];",
        "ld.volatile.u32 %r4, [%rd1+4];",
        "nanosleep.u32 100; ld.acquire.sys.global.u32 %r4, [%rd1+4];",
        "atom.add.relaxed.gpu.global.u32 %r4, [%rd1+4], 0;",
        "atom.cas.relaxed.gpu.global.b32 %r4, [%rd1+4], 5, 5;",
        "atom.acquire.gpu.or.b32 %r4, [%rd1+4], 0;",
    ];
    for how in strong.map(|how| how.replace("atom.acquire.gpu.or", "atom.or.acquire.gpu")) {
        gives(&wait(&how), Way { blocks: 9, ..PLAIN }, |block| if block == 0 { 77 } else { 0 });
    }
    // Plain loads race, but blocks that wait by them do end.
    for how in ["ld.global.u32 %r4, [%rd1+4];", "membar.gl; ld.global.u32 %r4, [%rd1+4];"] {
        let module = kernel(&wait(how));
        for threads in [1, 3] {
            let (words, _) = run(&module, Way { blocks: 5, threads, ..PLAIN }).unwrap();
            assert_eq!(words[512], 77, "{how}");
        }
    }
}

#[test]
fn all_warps_may_wait() {
    // As CUTLASS's semaphore: all warps meet at a barrier each time.
    let body = "mov.u32 %r4, 1; setp.ne.u32 %p1, %r2, 0; @%p1 bra SET;
        WAIT: mov.u32 %r4, 0; @%p0 ld.acquire.gpu.global.u32 %r4, [%rd1+4]; setp.eq.u32 %p2, %r4, 0;
        barrier.cta.red.and.pred %p3, 0, %p2; @%p3 bra WAIT;
        @%p0 st.global.u32 [%rd3], %r4; bra DONE;
        SET: @%p0 red.release.gpu.global.add.u32 [%rd1+4], 1; DONE:";
    let module = kernel(body);
    for way in ways(Way { blocks: 7, ..PLAIN }) {
        let (words, _) = run(&module, way).unwrap_or_else(|e| panic!("{way:?}: {e}"));
        assert!((1..=6).contains(&words[512]), "{way:?}: {}", words[512]);
    }
}

#[test]
fn a_chain_from_the_last_block_to_the_first() {
    // Each block waits for the next one's flag, and adds its number to what that has handed on.
    let body = "@!%p0 bra DONE; add.u32 %r4, %r2, 1; mov.u32 %r6, 0; setp.eq.u32 %p1, %r4, %r3; @%p1 bra GO;
        WAIT: ld.acquire.gpu.global.u32 %r5, [%rd2+4]; setp.eq.u32 %p2, %r5, 0; @%p2 bra WAIT;
        ld.global.u32 %r6, [%rd3+4];
        GO: add.u32 %r6, %r6, %r2; st.global.u32 [%rd3], %r6; st.release.gpu.global.u32 [%rd2], 1; DONE:";
    gives(body, Way { blocks: 32, ..PLAIN }, |block| (block..32).sum());
    gives(body, Way { blocks: 10, ..PLAIN }, |block| (block..10).sum());
}

#[test]
fn the_last_block_adds_up() {
    let body = "add.u32 %r4, %r2, 5; @!%p0 bra DONE; st.global.u32 [%rd2], %r4; fence.acq_rel.gpu;
        atom.add.relaxed.gpu.global.u32 %r4, [%rd1], 1; fence.acq_rel.gpu; add.u32 %r4, %r4, 1;
        setp.ne.u32 %p1, %r4, %r3; @%p1 bra DONE; mov.u32 %r6, 0;
        SUM: mul.wide.u32 %rd5, %r5, 4; add.u64 %rd5, %rd5, %rd1; ld.global.u32 %r7, [%rd5+256];
        add.u32 %r6, %r6, %r7; add.u32 %r5, %r5, 1; setp.lt.u32 %p1, %r5, %r3; @%p1 bra SUM;
        st.global.u32 [%rd1+2048], %r6; DONE:";
    gives(body, PLAIN, |block| if block == 0 { 63 * 32 + 5 * 64 } else { 0 });
}

#[test]
fn clusters_wait_for_one_another() {
    // Each block reads its neighbour's shared memory after the grid's barrier.
    let body = "mov.u32 %r10, tile; @%p0 st.shared.u32 [%r10], %r2; BARRIER %r3;
        mov.u32 %r11, %cluster_ctarank; xor.b32 %r11, %r11, 1; mapa.shared::cluster.u32 %r12, %r10, %r11;
        barrier.cluster.arrive; barrier.cluster.wait;
        ld.shared::cluster.u32 %r13, [%r12]; @%p0 st.global.u32 [%rd3], %r13;
        barrier.cluster.arrive; barrier.cluster.wait;";
    gives(body, Way { blocks: 16, cluster: 2, ..PLAIN }, |block| block ^ 1);
}

#[test]
fn nothing_is_lost_while_others_run() {
    // Local and shared memory, a copy under way, an mbarrier with one of two arrivals, and a named barrier with one of two warps.
    let body = "mov.u32 %r10, tile; mov.u32 %r11, own; mad.lo.u32 %r12, %r2, 64, %r1; shl.b32 %r13, %r1, 2; add.u32 %r14, %r10, %r13;
        st.local.u32 [%r11+8], %r12; st.shared.u32 [%r14], %r12;
        @%p0 mbarrier.init.shared.b64 [%r10+768], 2; @%p0 st.global.u32 [%rd2], %r2; bar.sync 0;
        @%p0 mbarrier.arrive.shared.b64 _, [%r10+768];
        @%p0 cp.async.ca.shared.global [%r10+512], [%rd2], 4; @%p0 cp.async.commit_group;
        setp.ge.u32 %p2, %r1, 32; @!%p2 bra ONE; bar.arrive 1, 64; ONE:
        BARRIER %r3;
        mbarrier.test_wait.parity.shared.b64 %p3, [%r10+768], 0; selp.u32 %r15, 1000000, 0, %p3;
        @%p0 mbarrier.arrive.shared.b64 _, [%r10+768]; bar.sync 0;
        W: mbarrier.try_wait.parity.shared.b64 %p4, [%r10+768], 0; @!%p4 bra W;
        @%p2 bra TWO; bar.sync 1, 64; TWO:
        ld.local.u32 %r16, [%r11+8]; sub.u32 %r16, %r16, %r12; ld.shared.u32 %r17, [%r14]; sub.u32 %r17, %r17, %r12;
        or.b32 %r16, %r16, %r17; setp.ne.u32 %p5, %r16, 0; barrier.cta.red.or.pred %p5, 0, %p5;
        @!%p0 bra DONE; selp.u32 %r18, 2000000, 0, %p5; cp.async.wait_all; ld.shared.u32 %r19, [%r10+512];
        add.u32 %r19, %r19, %r18; add.u32 %r19, %r19, %r15; st.global.u32 [%rd3], %r19; DONE:";
    gives(body, Way { blocks: 20, ..PLAIN }, |block| block);
}

#[test]
fn a_barrier_of_the_grid_that_hands_nothing_on_is_a_race() {
    let right = kernel(&format!("mov.u32 %r6, 0; {TWO_BARRIERS}"));
    let text = |from: &str, to: &str| {
        let body = "add.u32 %r4, %r2, 1; @%p0 st.global.u32 [%rd2], %r4; bar.sync 0; @!%p0 bra PASS;
            red.release.gpu.global.add.u32 [%rd1], 1;
            SPIN: ld.acquire.gpu.global.u32 %r30, [%rd1]; setp.lt.u32 %p10, %r30, %r3; @%p10 bra SPIN;
            PASS: bar.sync 0; sub.u32 %r5, %r3, %r2; mul.wide.u32 %rd5, %r5, 4; add.u64 %rd5, %rd5, %rd1;
            @%p0 ld.global.u32 %r7, [%rd5+252];";
        assert!(body.contains(from));
        kernel(&body.replace(from, to))
    };
    let same = text("SPIN", "SPIN");
    let wrong = [
        text("red.release", "red.relaxed"),
        text("ld.acquire", "ld.relaxed"),
        text(".gpu.global.add", ".cta.global.add"),
    ];
    for way in ways(Way { blocks: 12, checks: true, ..PLAIN }) {
        let way = Way { checks: true, ..way };
        for module in [&right, &same] {
            run(module, way).unwrap_or_else(|e| panic!("{way:?}: the twin is accused: {e}"));
        }
        for (k, module) in wrong.iter().enumerate() {
            let error =
                run(module, way).err().unwrap_or_else(|| panic!("{way:?}: {k} was not found")).to_string();
            assert!(error.contains("data race: "), "{error}");
        }
    }
}

/// All blocks meet once.
fn meeting() -> Module {
    kernel("BARRIER %r3; @%p0 st.global.u32 [%rd3], %r3;")
}

#[test]
fn no_more_blocks_begin_than_may_be_resident() {
    let meeting = meeting();
    for (threads, cluster) in [(1, 1), (4, 1), (1, 2), (16, 1)] {
        let way = Way { blocks: 16, cluster, threads, resident: 8, limit: 3_000_000, ..PLAIN };
        let error = run(&meeting, way).unwrap_err();
        assert!(matches!(error, LaunchError::InstructionLimit { not_begun: 8, .. }), "{threads} {error}");
        let text = error.to_string();
        assert!(
            text.contains("; 8 blocks had not begun, as those that may be resident together had not ended"),
            "{text}"
        );
        assert_eq!(run(&meeting, Way { resident: 16, ..way }).unwrap().0[512..528], [16; 16]);
        // Blocks that wait for none of those that have not begun.
        let alone = kernel("@%p0 st.global.u32 [%rd3], %r2;");
        assert_eq!(run(&alone, way).unwrap().0[512..528], std::array::from_fn::<u32, 16, _>(|k| k as u32));
    }
}

#[test]
fn what_waits_for_ever_can_be_ended() {
    let body = "setp.eq.u32 %p1, %r2, 40; @%p1 ret; WAIT: ld.acquire.gpu.global.u32 %r4, [%rd1]; setp.eq.u32 %p2, %r4, 0; @%p2 bra WAIT;";
    let module = kernel(body);
    for (threads, checks) in [(1, false), (3, false), (1, true)] {
        let way = Way { threads, checks, limit: 2_000_000, ..PLAIN };
        let error = run(&module, way).unwrap_err();
        assert!(
            matches!(error, LaunchError::InstructionLimit { limit: 2_000_000, not_begun: 0, .. }),
            "{error}"
        );
        // Cancelled when all but block 40 wait, which is the first to end.
        let cancel = AtomicBool::new(false);
        let progress = |done, blocks| {
            assert_eq!((done, blocks), (1, 64));
            cancel.store(true, Ordering::Relaxed);
        };
        let options =
            LaunchOptions { cancel: Some(&cancel), progress: Some(&progress), ..LaunchOptions::default() };
        let error = run_with(&module, Way { limit: u64::MAX, ..way }, &options).unwrap_err();
        assert!(matches!(error, LaunchError::Cancelled { done: 1, blocks: 64, .. }), "{error}");
    }
}

#[test]
fn errors_of_one_block_end_those_that_wait() {
    let with = |what: &str| {
        kernel(&format!(
            "setp.eq.u32 %p1, %r2, 40; @%p1 bra BAD; WAIT: ld.acquire.gpu.global.u32 %r4, [%rd1]; setp.eq.u32 %p2, %r4, 0;
            @%p2 bra WAIT; BAD: {what}"
        ))
    };
    let (trap, stuck) = (with("trap;"), with("@!%p0 bra B; bar.sync 1, 96; B: bar.sync 2, 96;"));
    let way = Way { limit: u64::MAX, ..PLAIN };
    for way in [way, Way { threads: 3, ..way }, Way { schedule: Schedule::Seeded(3), ..way }] {
        let error = run(&trap, way).unwrap_err();
        let LaunchError::Fault { place, .. } = &error else { panic!("{error}") };
        assert_eq!(place.block, [40, 0, 0]);
        let error = run(&stuck, way).unwrap_err();
        assert!(matches!(error, LaunchError::Deadlock { block: [40, 0, 0], .. }), "{error}");
    }
}

#[test]
fn blocks_that_meet_are_counted_and_print_in_their_order() {
    let text = module(
        "ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; setp.ne.u32 %p1, %r1, 0; @%p1 ret;
        sub.u32 %r3, 5, %r2; st.local.u32 [args], %r2; atom.add.release.gpu.global.u32 %r4, [%rd1], 1;
        SPIN: ld.acquire.gpu.global.u32 %r4, [%rd1]; setp.lt.u32 %p2, %r4, 6; @%p2 bra SPIN;
        mul.wide.u32 %rd2, %r2, 4; add.u64 %rd2, %rd2, %rd1;
        TURN: ld.acquire.gpu.global.u32 %r4, [%rd1+64]; setp.ne.u32 %p2, %r4, %r3; @%p2 bra TURN;
        mov.u64 %rd3, text; cvta.global.u64 %rd3, %rd3; mov.u64 %rd4, args; cvta.local.u64 %rd4, %rd4;
        { .param .b64 a; .param .b64 b; .param .b32 r; st.param.b64 [a], %rd3; st.param.b64 [b], %rd4;
        call (r), vprintf, (a, b); } red.release.gpu.global.add.u32 [%rd1+64], 1; ret;",
    );
    let text = text
        .replace(
            ".visible .entry",
            ".extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);
        .global .align 1 .b8 text[4] = {37, 100, 10, 0};\n.visible .entry",
        )
        .replacen(".reg .pred", ".local .align 8 .b8 args[8]; .reg .pred", 1);
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}"));
    for threads in [1, 4] {
        let seen = Mutex::new(Vec::new());
        let progress = |done, all| seen.lock().unwrap().push((done, all));
        let options = LaunchOptions { progress: Some(&progress), ..LaunchOptions::default() };
        // They print from the last to the first.
        let (_, stats) = run_with(&module, Way { blocks: 6, threads, ..PLAIN }, &options).unwrap();
        assert_eq!(stats.printed, "0\n1\n2\n3\n4\n5\n");
        let mut seen = seen.into_inner().unwrap();
        seen.sort();
        assert_eq!(seen, (1..=6).map(|done| (done, 6)).collect::<Vec<_>>());
    }
}

/// What nvcc makes of `cooperative_groups::this_grid().sync()`.
const GRID_SYNC: &str = "mov.u32 %r20, %envreg2; cvt.u64.u32 %rd10, %r20; mov.u32 %r21, %envreg1; cvt.u64.u32 %rd11, %r21;
    shl.b64 %rd12, %rd11, 32; or.b64 %rd13, %rd12, %rd10; @%p0 st.global.u32 [%rd2], %r2;
    setp.ne.u64 %p5, %rd13, 0; @%p5 bra VALID; trap; VALID: barrier.sync 0; @!%p0 bra PASS;
    setp.eq.u32 %p6, %r2, 0; sub.u32 %r22, -2147483647, %r3; selp.b32 %r23, %r22, 1, %p6; add.u64 %rd14, %rd13, 4;
    atom.add.release.gpu.u32 %r24, [%rd14], %r23;
    SPIN: ld.acquire.gpu.u32 %r25, [%rd14]; xor.b32 %r26, %r25, %r24; setp.gt.s32 %p7, %r26, -1; @%p7 bra SPIN;
    PASS: barrier.sync 0; sub.u32 %r5, %r3, %r2; mul.wide.u32 %rd5, %r5, 4; add.u64 %rd5, %rd5, %rd1;
    @%p0 ld.global.u32 %r7, [%rd5+252]; @%p0 st.global.u32 [%rd3], %r7;";

#[test]
fn cooperative_launches_have_a_barrier_of_the_grid() {
    let way = Way { blocks: 20, cooperative: true, ..PLAIN };
    gives(GRID_SYNC, way, |block| 19 - block);
    let module = kernel(GRID_SYNC);
    let error = run(&module, Way { cooperative: false, ..way }).unwrap_err().to_string();
    assert!(error.contains("trap"), "{error}");
    let error = run(&module, Way { resident: 19, ..way }).unwrap_err().to_string();
    let expected = "launch of `k`: a cooperative launch of 20 blocks, of which 19 can be resident together";
    assert_eq!(error, expected);
}
