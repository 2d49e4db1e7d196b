//! No text makes the parser panic, and none that parses makes a launch do more than fail.

mod common;
use common::kernel;
use proptest::prelude::*;
use ptx_emulator::{Config, Emulator, LaunchConfig, LaunchOptions, Module};

const SEEDS: [&str; 4] = [
    include_str!("ptx/rust_kernels.ptx"),
    include_str!("ptx/calls.ptx"),
    include_str!("ptx/hopper.ptx"),
    include_str!("ptx/newer.ptx"),
];

fn try_all(text: &str) {
    let Ok(module) = Module::parse(text) else { return };
    let emulator = Emulator::new(Config {
        threads: 1,
        max_instructions: Some(20_000),
        memory_limit: 1 << 24,
        heap_limit: 1 << 16,
        ..Config::default()
    });
    for entry in module.entries() {
        let args: Vec<Vec<u8>> = entry.params().iter().map(|p| vec![0; p.size as usize]).collect();
        let slices: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        for (threads, checks) in [(33, false), (128, true)] {
            let config = LaunchConfig { grid: [2, 1, 1], block: [threads, 1, 1], dynamic_shared_bytes: 64 };
            let options = LaunchOptions { checks, ..LaunchOptions::default() };
            // Good or bad, it comes back.
            let _ = emulator.launch_with(&module, entry.name(), config, &slices, &options);
        }
    }
}

#[test]
fn the_seeds_are_good() {
    for seed in SEEDS {
        Module::parse(seed).unwrap_or_else(|e| panic!("{e}"));
    }
    // What `malloc` gave is used and given back, with and without checks.
    let calls = Module::parse(SEEDS[1]).unwrap();
    for checks in [false, true] {
        let options = LaunchOptions { checks, ..LaunchOptions::default() };
        let config = LaunchConfig { grid: [2, 1, 1], block: [33, 1, 1], dynamic_shared_bytes: 0 };
        common::emulator().launch_with(&calls, "heap", config, &[&[0; 8]], &options).unwrap();
    }
    // The newest one runs to its end.
    let module = Module::parse(SEEDS[3]).unwrap();
    let emulator = common::emulator();
    let out = emulator.alloc(256).unwrap();
    let config = LaunchConfig { grid: [1, 1, 1], block: [128, 1, 1], dynamic_shared_bytes: 0 };
    emulator.launch(&module, "newer", config, &[&out.to_le_bytes()]).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_modules_never_panic(seed in 0..SEEDS.len(), edits in prop::collection::vec((any::<prop::sample::Index>(), "[ -~\n]{0,4}", 0usize..12), 1..8)) {
        let mut text = SEEDS[seed].to_string();
        for (at, new, cut) in edits {
            let start = at.index(text.len());
            let end = (start + cut).min(text.len());
            if text.is_char_boundary(start) && text.is_char_boundary(end) {
                text.replace_range(start..end, &new);
            }
        }
        try_all(&text);
    }

    #[test]
    fn shuffled_words_never_panic(words in prop::collection::vec(prop::sample::select(vec![
        "ld", "st", ".global", ".param", ".v4", ".b32", ".f16x2", ".u64", " %r1", " %rd1", ",", ";", "{", "}", "[", "]", "+", "-", "0x10",
        "mov", "cvt", ".rn", ".sat", "bra ", "L:", " L", "@%p1 ", "call ", "(", ")", ".reg", ".shared", "setp", ".lt", "|", "!", "-5", "1.5e3", "0f3F800000", "atom", ".cas", "mad", ".wide", ".cc", "shfl", ".sync", "ret;", "\n",
        "mbarrier", ".init", ".arrive", ".expect_tx", ".try_wait", ".parity", ".shared::cta", ".shared::cluster", ".b64", "_", "cp", ".async", ".bulk", ".tensor", ".2d", ".mbarrier::complete_tx::bytes", ".bulk_group",
        "alloca.u64", "stacksave.u64", "stackrestore.u64", "tensormap.replace.tile", ".rank", ".box_dim", ".b1024", ".b128", "cvt.pack.sat.s8.s32.b32",
        "mma.sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", "{%r1, %r2, %r3, %r4}", "{%r5, %r6}",
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16", "wgmma.wait_group.sync.aligned 0;", "setmaxnreg.inc.sync.aligned.u32", "mapa", "barrier.cluster.arrive;", "barrier.cluster.wait;",
    ]), 0..60)) {
        try_all(&kernel(&words.concat()));
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        try_all(&text);
        try_all(&kernel(&text));
    }
}

/// 100,000 branches: what takes the square of their number would not come back.
#[test]
fn many_branches_are_read_and_run() {
    let jumps: String = (0..100_000).map(|i| format!("@%p1 bra L{i}; add.u32 %r1, %r1, 1;\n")).collect();
    let labels: String = (0..100_000).map(|i| format!("L{i}: add.u32 %r1, %r1, 1;\n")).collect();
    let guards = "@%p1 bra R; add.u32 %r1, %r1, 1;\n".repeat(50_000);
    try_all(&kernel(&format!("{jumps}{labels}{guards}R:")));
}

#[test]
fn deep_nesting_is_refused_or_read_in_bounded_space() {
    for (open, close) in [("{", "}"), ("(", ")"), ("[", "]"), ("-", ""), ("~(", ")")] {
        try_all(&kernel(&format!("mov.u32 %d, {}1{};", open.repeat(100_000), close.repeat(100_000))));
        try_all(&kernel(&format!("{}{}", open.repeat(100_000), close.repeat(100_000))));
    }
    try_all(".version 8.0\n.target sm_80\n.global .b8 a[99999999999999999999];\n");
    try_all(".version 8.0\n.target sm_80\n.global .b8 a[0x7fffffffffffffff][0x7fffffffffffffff];\n");
    try_all(&kernel(".reg .b32 %big<4000000000>; mov.u32 %d, %big3999999999;"));
    try_all(&kernel(".local .b8 a[0xffffffffff];"));
    for size in ["0xffffe100", "0x7f000"] {
        let text = kernel(&format!(".local .b8 a[{size}]; alloca.u64 %q1, 8, 8;"));
        let error = Module::parse(&text).map(drop).unwrap_err().to_string();
        assert!(error.contains("more than 512 KiB of local memory"), "{error}");
    }
    try_all(&kernel(".shared .b8 a[0xffffffffff]; .shared .align 65536 .b8 b[1];"));
}

#[test]
fn a_label_defined_twice_is_an_error_with_its_line() {
    let text = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k() {\nL:\nL:\nM: bra L;\nbra M;\nret; }";
    let error = Module::parse(text).map(drop).unwrap_err();
    assert!(error.to_string().contains("line 6: the label `L` is defined twice"), "{error}");
}
