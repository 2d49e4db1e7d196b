//! Orders drawn from seeds: the same seed gives the same order, different ones interleave warps between any two instructions, and
//! correct kernels do not notice.

use ptx_emulator::{Config, Emulator, LaunchConfig, LaunchOptions, LaunchStats, Module, Schedule};

const HEAD: &str = ".version 8.0\n.target sm_80\n.address_size 64\n";

/// Runs a kernel with one pointer to so many words of zeros; gives them back.
fn run(body: &str, shape: ([u32; 3], u32), words: usize, options: &LaunchOptions) -> (Vec<u32>, LaunchStats) {
    let module = Module::parse(&format!("{HEAD}{body}")).unwrap();
    let config = Config { max_instructions: Some(10_000_000), ..Config::default() };
    let emulator = Emulator::new(config);
    let data = emulator.alloc(4 * words as u64).unwrap();
    emulator.fill(data, 0, 4 * words as u64).unwrap();
    let launch = LaunchConfig { grid: shape.0, block: [shape.1, 1, 1], dynamic_shared_bytes: 0 };
    let stats = emulator.launch_with(&module, "k", launch, &[&data.to_le_bytes()], options).unwrap();
    let mut bytes = vec![0; 4 * words];
    emulator.read(data, &mut bytes).unwrap();
    (bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect(), stats)
}

fn seeded(seed: u64) -> LaunchOptions<'static> {
    LaunchOptions { schedule: Schedule::Seeded(seed), ..LaunchOptions::default() }
}

/// Every warp reads a counter, adds one and writes it back, without an atomic and without a branch between.
const LOST_UPDATE: &str = ".visible .entry k(.param .u64 out) {
    .reg .b64 %rd<2>; .reg .b32 %r<4>; .reg .pred %p<2>;
    ld.param.u64 %rd1, [out]; mov.u32 %r1, %laneid; setp.eq.u32 %p1, %r1, 0;
    @%p1 ld.global.u32 %r2, [%rd1];
    @%p1 add.u32 %r2, %r2, 1;
    @%p1 st.global.u32 [%rd1], %r2;
    ret;
}";

#[test]
fn warps_change_between_any_two_instructions() {
    let in_order = run(LOST_UPDATE, ([1, 1, 1], 128), 1, &LaunchOptions::default()).0;
    assert_eq!(in_order, [4], "the default order hides it");
    let counts: Vec<u32> =
        (0..20).map(|seed| run(LOST_UPDATE, ([1, 1, 1], 128), 1, &seeded(seed)).0[0]).collect();
    assert!(counts.iter().any(|&n| n < 4) && counts.iter().all(|&n| (1..=4).contains(&n)), "{counts:?}");
}

/// Block and warp write their turn, which an atomic gives them.
const TURNS: &str = ".visible .entry k(.param .u64 out) {
    .reg .b64 %rd<4>; .reg .b32 %r<6>; .reg .pred %p<2>;
    ld.param.u64 %rd1, [out]; mov.u32 %r1, %laneid; setp.ne.u32 %p1, %r1, 0;
    @%p1 ret;
    atom.global.add.u32 %r2, [%rd1], 1;
    mov.u32 %r3, %ctaid.x; mov.u32 %r4, %warpid; mad.lo.u32 %r3, %r3, 4, %r4;
    mul.wide.u32 %rd2, %r3, 4; add.u64 %rd3, %rd1, %rd2;
    st.global.u32 [%rd3+4], %r2;
    ret;
}";

#[test]
fn a_seed_is_an_order_of_blocks_and_warps_and_always_the_same() {
    let turns = |seed| run(TURNS, ([16, 1, 1], 128), 65, &seeded(seed)).0[1..].to_vec();
    let (first, again, other) = (turns(1), turns(1), turns(2));
    assert_eq!(first, again);
    assert_ne!(first, other);
    // Blocks run one after another in another order than their numbers, and warps within them.
    let blocks: Vec<u32> = first.chunks(4).map(|warps| warps.iter().min().unwrap() / 4).collect();
    assert!(!blocks.is_sorted(), "{blocks:?}");
    assert!(first.chunks(4).any(|warps| !warps.is_sorted()));
    let mut all = first.clone();
    all.sort();
    assert_eq!(all, (0..64).collect::<Vec<_>>());
}

/// A sum over a block by halves with barriers, a divergent loop, a shuffle and an atomic: right in any order.
const CORRECT: &str = ".visible .entry k(.param .u64 out) {
    .reg .b64 %rd<4>; .reg .b32 %r<12>; .reg .pred %p<4>; .shared .align 4 .b8 tile[512];
    ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x; mov.u32 %r2, tile; shl.b32 %r3, %r1, 2; add.u32 %r3, %r2, %r3;
    mov.u32 %r4, 0; and.b32 %r5, %r1, 7;
COUNT: add.u32 %r4, %r4, 1; setp.le.u32 %p1, %r4, %r5; @%p1 bra COUNT;
    st.shared.u32 [%r3], %r4;
    mov.u32 %r6, 64;
HALVE: bar.sync 0;
    setp.ge.u32 %p2, %r1, %r6; @%p2 bra NEXT;
    shl.b32 %r7, %r6, 2; add.u32 %r7, %r3, %r7; ld.shared.u32 %r8, [%r7]; ld.shared.u32 %r9, [%r3];
    add.u32 %r9, %r8, %r9; st.shared.u32 [%r3], %r9;
NEXT: shr.u32 %r6, %r6, 1; setp.ne.u32 %p3, %r6, 0; @%p3 bra HALVE;
    bar.sync 0;
    ld.shared.u32 %r10, [tile];
    shfl.sync.idx.b32 %r10, %r10, 5, 31, -1;
    red.global.add.u32 [%rd1], %r10;
    ret;
}";

#[test]
fn correct_kernels_give_the_same_in_every_order_and_count_the_same() {
    // 16 rounds of 1 + 2 + ... + 8, seen by 128 threads of 3 blocks.
    let expected = 16 * 36 * 128 * 3;
    let shape = ([3, 1, 1], 128);
    let counting = LaunchOptions { counters: true, ..LaunchOptions::default() };
    let (result, in_order) = run(CORRECT, shape, 1, &counting);
    assert_eq!(result, [expected]);
    for seed in 0..30 {
        let options = LaunchOptions { counters: true, checks: seed % 2 == 0, ..seeded(seed) };
        let (result, stats) = run(CORRECT, shape, 1, &options);
        assert_eq!(result, [expected], "{seed}");
        assert_eq!(stats.thread_instructions, in_order.thread_instructions, "{seed}");
        assert_eq!(stats.total(|c| c.shared_wavefronts), in_order.total(|c| c.shared_wavefronts), "{seed}");
        assert_eq!(stats.barriers, in_order.barriers, "{seed}");
    }
}

/// Lane 0 waits in a loop for what lane 1, on the other side of a branch, and then another warp write.
const SPIN: &str = ".visible .entry k(.param .u64 out) {
    .reg .b64 %rd<2>; .reg .b32 %r<6>; .reg .pred %p<4>;
    ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x;
    setp.eq.u32 %p1, %r1, 0; @%p1 bra WAIT;
    setp.eq.u32 %p2, %r1, 1; @%p2 st.volatile.global.u32 [%rd1], 1;
    setp.eq.u32 %p2, %r1, 40; @%p2 st.volatile.global.u32 [%rd1+4], 1;
    bra DONE;
WAIT: ld.volatile.global.u32 %r2, [%rd1]; ld.volatile.global.u32 %r3, [%rd1+4]; and.b32 %r2, %r2, %r3;
    setp.eq.u32 %p3, %r2, 0; @%p3 bra WAIT;
    st.global.u32 [%rd1+8], 7;
DONE: bar.sync 0;
    ret;
}";

#[test]
fn lanes_that_spin_for_others_end_in_every_order() {
    for seed in 0..30 {
        assert_eq!(run(SPIN, ([1, 1, 1], 64), 3, &seeded(seed)).0, [1, 1, 7], "{seed}");
    }
}

#[test]
fn a_deadlock_is_found_in_every_order() {
    let body = ".visible .entry k(.param .u64 out) {
        .reg .b32 %r<2>; .reg .pred %p<2>;
        mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 32; @%p1 bra FIRST;
        bar.sync 1; ret;
    FIRST: bar.sync 2; ret;
    }";
    let module = Module::parse(&format!("{HEAD}{body}")).unwrap();
    let emulator = Emulator::new(Config::default());
    let launch = LaunchConfig { grid: [1, 1, 1], block: [96, 1, 1], dynamic_shared_bytes: 0 };
    for seed in 0..10 {
        let error = emulator.launch_with(&module, "k", launch, &[&[0; 8]], &seeded(seed)).unwrap_err();
        assert!(error.to_string().starts_with("deadlock in kernel `k`"), "{seed}: {error}");
    }
}
