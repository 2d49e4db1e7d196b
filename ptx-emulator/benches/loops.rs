//! Speed of the emulator on an inner loop as a tiled matrix product has it: 16-byte shared loads, then many FMAs; and on loops
//! of other kinds: thread-instructions, or operations of matrix products, per second of one core's processor time; without and with
//! counters and checks.
//!
//! `cargo bench -p ptx-emulator`, with `-- NAME` only some.

mod common;

use common::ProcessorTime;
use criterion::{Criterion, Throughput};
use ptx_emulator::{Config, Emulator, LaunchConfig, LaunchOptions, Module};
use std::fmt::Write;
use std::time::Duration;

const BLOCKS: u32 = 4;
const THREADS: u32 = 256;

/// A kernel whose loop runs `rounds` times over `body`; `%rs` is the thread's shared address, `%rd3` its global one.
fn kernel(name: &str, rounds: u32, setup: &str, body: &str) -> String {
    format!(
        ".visible .entry {name}(.param .u64 out) {{
            .reg .pred %p<4>; .reg .b32 %r<40>; .reg .f32 %f<64>; .reg .b64 %rd<8>;
            .shared .align 16 .b8 tile[16384];
            ld.param.u64 %rd1, [out];
            mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x;
            mad.lo.s32 %r4, %r2, %r3, %r1;
            mul.wide.u32 %rd2, %r4, 4;
            add.s64 %rd3, %rd1, %rd2;
            mov.u32 %r5, tile;
            shl.b32 %r6, %r1, 4;
            add.s32 %r6, %r5, %r6;
            and.b32 %r7, %r1, 15; shl.b32 %r7, %r7, 4; add.s32 %r7, %r7, %r5;
            cvt.rn.f32.u32 %f1, %r1;
            st.shared.v4.f32 [%r6], {{%f1, %f1, %f1, %f1}};
            {setup}
            bar.sync 0;
            mov.u32 %r8, 0;
        LOOP:
            {body}
            add.s32 %r8, %r8, 1;
            setp.lt.s32 %p1, %r8, {rounds};
            @%p1 bra LOOP;
            add.f32 %f2, %f10, %f11;
            st.global.f32 [%rd3], %f2;
            ret;
        }}\n"
    )
}

/// As `kernel`, with no store after the loop, which would race where blocks share their words.
fn kernel_without_result(name: &str, rounds: u32, setup: &str, body: &str) -> String {
    kernel(name, rounds, setup, body).replace("st.global.f32 [%rd3], %f2;", "")
}

/// Loops of accesses that are not words one after another, or that other threads may see.
fn accesses() -> String {
    let own = "mul.wide.u32 %rd4, %r4, 16; add.s64 %rd4, %rd1, %rd4; shl.b32 %r12, %r1, 2; add.s32 %r12, %r5, %r12;";
    [
        ("shared_scattered", "ld.shared.u32 %r10, [%r6]; st.shared.u32 [%r6+4], %r10;"),
        ("shared_bytes", "ld.shared.u8 %r10, [%r6]; st.shared.u8 [%r6+1], %r10;"),
        ("shared_store_load", "st.shared.u32 [%r12], %r8; ld.shared.u32 %r10, [%r12];"),
        ("global_scattered", "ld.global.u32 %r10, [%rd4]; st.global.u32 [%rd4+4], %r10;"),
        ("global_bytes", "ld.global.u8 %r10, [%rd3]; st.global.u8 [%rd3], %r10;"),
        ("global_red", "red.global.add.u32 [%rd4], 1;"),
        ("global_red_one", "red.global.add.u32 [%rd1], 1;"),
        ("release_acquire", "st.release.gpu.global.u32 [%rd4], %r8; ld.acquire.gpu.global.u32 %r10, [%rd4];"),
    ]
    .map(|(name, body)| kernel_without_result(name, 1000, own, body))
    .concat()
}

/// All loops.
fn text() -> String {
    let mut fma = String::new();
    let mut zero = String::new();
    for k in 0..32 {
        writeln!(zero, "mov.f32 %f{}, 0f00000000;", 10 + k).unwrap();
        writeln!(fma, "fma.rn.f32 %f{0}, %f{1}, %f{2}, %f{0};", 10 + k, 50 + k % 4, 54 + k / 8).unwrap();
    }
    let loads = "ld.shared.v4.f32 {%f50, %f51, %f52, %f53}, [%r6]; ld.shared.v4.f32 {%f54, %f55, %f56, %f57}, [%r7];\n";
    let mut text = String::from(".version 8.0\n.target sm_90a\n.address_size 64\n");
    text += &kernel("fma_shared", 1000, &zero, &format!("{loads}{fma}"));
    text += &kernel(
        "integer",
        4000,
        &zero,
        "mad.lo.s32 %r9, %r8, 7, %r1; xor.b32 %r10, %r9, %r8; shl.b32 %r11, %r10, 3; add.s32 %r12, %r11, %r9;",
    );
    text += &kernel(
        "ex2",
        2000,
        &zero,
        "add.f32 %f10, %f10, 0fBF800000; ex2.approx.ftz.f32 %f11, %f10; add.f32 %f12, %f12, %f11;",
    );
    text += &kernel(
        "global",
        2000,
        &zero,
        "ld.global.f32 %f10, [%rd3]; add.f32 %f10, %f10, %f1; st.global.f32 [%rd3], %f10;",
    );
    text += &kernel(
        "divergent",
        2000,
        &zero,
        "and.b32 %r9, %r1, 1; setp.eq.s32 %p2, %r9, 0; @%p2 bra EVEN; add.f32 %f10, %f10, %f1; bra DONE; EVEN: add.f32 %f11, %f11, %f1; DONE: mov.u32 %r10, %r9;",
    );
    text += &kernel(
        "half",
        2000,
        &zero,
        "cvt.rn.f16.f32 %r9, %f1; cvt.f32.f16 %f10, %r9; cvt.rn.bf16x2.f32 %r10, %f1, %f10; shl.b32 %r11, %r10, 16;",
    );
    let mma = |form: &str, a: &str, b: &str| {
        let mut body = String::new();
        for k in 0..4 {
            let d = 10 + 4 * k;
            let sums = format!("{{%f{}, %f{}, %f{}, %f{}}}", d, d + 1, d + 2, d + 3);
            writeln!(body, "mma.sync.aligned.{form} {sums}, {a}, {b}, {sums};").unwrap();
        }
        body
    };
    let fragments = "mov.b32 %r20, 0x3c003c00; mov.b32 %r21, 0x3c013802; mov.b32 %r22, 0xb8003c00; and.b32 %r23, %r1, 31; or.b32 %r23, %r23, 0x3a003b00;";
    let (a4, a2, b2) = ("{%r20, %r21, %r22, %r23}", "{%r20, %r21}", "{%r22, %r20}");
    let setup = format!("{zero}{fragments}");
    for (name, form, a, b) in [
        ("mma_f16", "m16n8k16.row.col.f32.f16.f16.f32", a4, b2),
        ("mma_bf16", "m16n8k16.row.col.f32.bf16.bf16.f32", a4, b2),
        ("mma_k8", "m16n8k8.row.col.f32.f16.f16.f32", a2, "{%r20}"),
        ("mma_tf32", "m16n8k8.row.col.f32.tf32.tf32.f32", a4, b2),
        ("mma_e4m3", "m16n8k32.row.col.f32.e4m3.e4m3.f32", a4, b2),
    ] {
        text += &kernel(name, 500, &setup, &mma(form, a, b));
    }
    text += &kernel(
        "mma_s8",
        500,
        &setup.replace("mov.f32", "mov.b32"),
        &mma("m16n8k32.row.col.s32.s8.s8.s32", a4, b2),
    );
    // 128-byte swizzle: rows of 128 bytes, 1024 bytes from 8 rows to the next.
    let sums: Vec<String> = (10..42).map(|k| format!("%f{k}")).collect();
    for (name, form, rest) in [
        ("wgmma_f16", "k16.f32.f16.f16", ", 1, 1, 0, 0"),
        ("wgmma_tf32", "k8.f32.tf32.tf32", ", 1, 1"),
        ("wgmma_e4m3", "k32.f32.e4m3.e4m3", ", 1, 1"),
        ("wgmma_s8", "k32.s32.s8.s8", ""),
    ] {
        let product = format!(
            "wgmma.mma_async.sync.aligned.m64n64{form} {{{}}}, %rd5, %rd5, %p2{rest};\n",
            sums.join(", ")
        );
        // All of the tile is 1.5, 1, or small in every type.
        let fill =
            (0..4).map(|k| format!("st.shared.v4.b32 [%r6+{}], {{%r20, %r20, %r20, %r20}};", 4096 * k));
        let fill: String = fill.collect();
        let setup = format!(
            "{zero} mov.b32 %r20, 0x3c003800; {fill} mov.b64 %rd5, 0x4000004000010000; setp.eq.u32 %p2, %r1, %r1; fence.proxy.async;"
        );
        let commit = "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;";
        let setup = if name == "wgmma_s8" { setup.replace("mov.f32", "mov.b32") } else { setup };
        text +=
            &kernel(name, 100, &setup, &format!("wgmma.fence.sync.aligned; {}{commit}", product.repeat(4)));
    }
    text += &kernel(
        "ldmatrix",
        2000,
        &setup,
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r20, %r21, %r22, %r23}, [%r6]; ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%r24, %r25, %r26, %r27}, [%r7];",
    );
    text += &kernel(
        "cp_async",
        2000,
        &format!("{zero} and.b64 %rd4, %rd3, -16;"),
        "cp.async.cg.shared.global [%r6], [%rd4], 16; cp.async.commit_group; cp.async.wait_group 0;",
    );
    text + &accesses()
}

fn loops(criterion: &mut Criterion<ProcessorTime>) {
    let module = Module::parse(&text()).expect("the text is good");
    let emulator = Emulator::new(Config { threads: 1, ..Config::default() });
    let out = emulator.alloc(u64::from(BLOCKS * THREADS) * 16).expect("there is memory");
    for entry in module.entries() {
        let mut group = criterion.benchmark_group(entry.name());
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        let run = |counters, checks| {
            let options = LaunchOptions { counters, checks, ..LaunchOptions::default() };
            let shape =
                LaunchConfig { grid: [BLOCKS, 1, 1], block: [THREADS, 1, 1], dynamic_shared_bytes: 0 };
            emulator
                .launch_with(&module, entry.name(), shape, &[&out.to_le_bytes()], &options)
                .expect("the kernel is good")
        };
        // Elements are operations of matrix products where there are any.
        let stats = run(false, false);
        let flops = stats.matrix_flops;
        group.throughput(Throughput::Elements(if flops > 0 { flops } else { stats.thread_instructions }));
        for (name, counters, checks) in
            [("plain", false, false), ("counters", true, false), ("checks", false, true)]
        {
            group.bench_function(name, |bencher| bencher.iter(|| run(counters, checks)));
        }
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().with_measurement(ProcessorTime).configure_from_args();
    loops(&mut criterion);
    criterion.final_summary();
}
