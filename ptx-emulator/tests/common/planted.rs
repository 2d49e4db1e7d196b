//! Planted bugs: kernels of four warps that are wrong in one way, and their corrected twins.

use super::module;
use ptx_emulator::{Config, Emulator, LaunchConfig, LaunchError, LaunchOptions, Module, Schedule};

/// Runs a kernel of four warps with checks, blocks in clusters of `cluster`. `%rd1` is 8192 bytes of global memory for each cluster, the first
/// 4096 of them written; `%r1` the thread, `%r2` the address of 8192 bytes of shared memory, `%r3` that of four mbarriers, each for one arrival; `%p1` is
/// true in thread 0, `%p2` in warp 0. `WAIT a, b` waits for the phase of parity b of the barrier at offset a.
pub fn run(body: &str, cluster: u32, schedule: Schedule) -> Result<(), LaunchError> {
    // One host thread: the first block comes first.
    let limit = Some(50_000_000);
    let emulator = Emulator::new(Config { threads: 1, max_instructions: limit, ..Config::default() });
    let out = emulator.alloc(2 * 8192).unwrap();
    emulator.fill(out, 0, 4096).unwrap();
    emulator.fill(out + 8192, 0, 4096).unwrap();
    // All of the tile is zero, and everybody knows, unless the body begins with `RAW`.
    let (body, clear) = match body.strip_prefix("RAW") {
        Some(body) => (body, ""),
        None => (body, CLEAR),
    };
    let mut text = String::new();
    for (k, part) in body.split("WAIT ").enumerate() {
        if k == 0 {
            text += part;
            continue;
        }
        let (operands, rest) = part.split_once(';').unwrap();
        let (at, parity) = operands.split_once(", ").unwrap();
        text += &format!(
            "W{k}: mbarrier.try_wait.parity.shared::cta.b64 %p6, [%r3+{at}], {parity}; @!%p6 bra W{k};{rest}"
        );
    }
    let text = module(&format!(
        ".shared .align 1024 .b8 tile[8192]; .shared .align 8 .b8 bars[32]; ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x;
        mov.u32 %r2, tile; mov.u32 %r3, bars; setp.eq.u32 %p1, %r1, 0; setp.lt.u32 %p2, %r1, 32; mov.u32 %r20, 0;
        mad.lo.u32 %r4, %r1, 16, %r2; mov.u32 %r19, %cluster_ctarank; mov.u32 %r18, %clusterid.x; mad.wide.u32 %rd1, %r18, 8192, %rd1; setp.eq.u32 %p7, %r1, %r1;
        mov.b32 %f0, 0; mov.b32 %f1, 0; mov.b32 %f2, 0; mov.b32 %f3, 0; mov.b32 %f4, 0; mov.b32 %f5, 0; mov.b32 %f6, 0; mov.b32 %f7, 0;
        {clear} {text}\nret;"
    ));
    let module = Module::parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let shape = LaunchConfig { grid: [2 * cluster, 1, 1], block: [128, 1, 1], dynamic_shared_bytes: 0 };
    let options =
        LaunchOptions { checks: true, cluster: Some([cluster, 1, 1]), schedule, ..LaunchOptions::default() };
    emulator.launch_with(&module, "k", shape, &[&out.to_le_bytes()], &options).map(drop)
}

pub const CLEAR: &str = "st.shared.v4.u32 [%r4], {%r20, %r20, %r20, %r20}; st.shared.v4.u32 [%r4+2048], {%r20, %r20, %r20, %r20};
    st.shared.v4.u32 [%r4+4096], {%r20, %r20, %r20, %r20}; st.shared.v4.u32 [%r4+6144], {%r20, %r20, %r20, %r20};
    fence.proxy.async; barrier.cluster.arrive; barrier.cluster.wait;";

/// `wrong` fails with a message that has all of `parts`; `right` does not, in several orders.
pub fn pair_in(cluster: u32, name: &str, wrong: &str, right: &str, parts: &[&str]) {
    let error = run(wrong, cluster, Schedule::InOrder)
        .err()
        .unwrap_or_else(|| panic!("{name}: the bug was not found"));
    let text = error.to_string();
    assert!(matches!(error, LaunchError::Fault { .. }), "{name}: {error}");
    for part in parts.iter().chain(&["kernel `k`", "PTX line"]) {
        assert!(text.contains(part), "{name}: `{part}` is not in: {text}");
    }
    for schedule in [Schedule::InOrder, Schedule::Seeded(1), Schedule::Seeded(2), Schedule::Seeded(3)] {
        if let Err(error) = run(right, cluster, schedule) {
            panic!("{name}: the twin is accused: {error}");
        }
    }
}

pub fn pair(name: &str, wrong: &str, right: &str, parts: &[&str]) {
    pair_in(1, name, wrong, right, parts);
}

/// `body` is right with `fix` at `HERE`, and wrong without.
pub fn lacks(name: &str, body: &str, fix: &str, parts: &[&str]) {
    pair(name, &body.replace("HERE", ""), &body.replace("HERE", fix), parts);
}

/// Barriers that everybody knows.
pub const INIT: &str =
    "@%p1 mbarrier.init.shared::cta.b64 [%r3], 1; @%p1 mbarrier.init.shared::cta.b64 [%r3+8], 1;
    @%p1 mbarrier.init.shared::cta.b64 [%r3+16], 4; fence.mbarrier_init.release.cluster; bar.sync 0;\n";
