//! Planted races of what relaxed arrivals and waits do not order, each with its corrected twin: with a releasing or acquiring one, or
//! with a fence.

mod common;
use common::planted::{INIT, lacks, pair, pair_in};

/// `body` in clusters of two blocks, `wrong` or `right` at `HERE`; `%r5` is the tile in the other block.
fn clusters(name: &str, body: &str, wrong: &str, right: &str, parts: &[&str]) {
    let of = |here: &str| {
        let body = body.replace("HERE", here);
        format!(
            "xor.b32 %r6, %r19, 1; mapa.shared::cluster.u32 %r5, %r2, %r6; mapa.shared::cluster.u32 %r7, %r3, %r6;
            {body} barrier.cluster.arrive; barrier.cluster.wait;"
        )
    };
    pair_in(2, name, &of(wrong), &of(right), parts);
}

const READ: &str = "data race: read of 4 bytes at shared address 0x0";

#[test]
fn a_relaxed_arrival_at_the_clusters_barrier_hands_on_what_a_fence_did() {
    let other = [READ, "with no barrier after the write by warp 0 of block"];
    clusters(
        "an arrival",
        "@%p1 st.shared.u32 [%r2], 1; barrier.cluster.arrive.HERE.aligned; barrier.cluster.wait.aligned; ld.shared::cluster.u32 %r8, [%r5];",
        "relaxed",
        "release",
        &other,
    );
    let fenced = "@%p1 st.shared.u32 [%r2], 1; HERE barrier.cluster.arrive.relaxed; barrier.cluster.wait.acquire; ld.shared::cluster.u32 %r8, [%r5];";
    clusters("no fence", fenced, "", "fence.acq_rel.cluster;", &other);
    clusters("a fence for the block alone", fenced, "fence.acq_rel.cta;", "fence.sc.gpu;", &other);
    let around = |before: &str, after: &str| {
        format!(
            "{before} fence.acq_rel.cluster; {after} barrier.cluster.arrive.relaxed; barrier.cluster.wait; ld.shared::cluster.u32 %r8, [%r5];"
        )
    };
    let write = "@%p1 st.shared.u32 [%r2], 1;";
    clusters("a fence before the write", "HERE", &around("", write), &around(write, ""), &other);
    clusters(
        "what another warp wrote before a barrier of the block",
        "@%p1 st.shared.u32 [%r2], 1; bar.sync 0; @!%p2 HEREbarrier.cluster.arrive.relaxed; @%p2 barrier.cluster.arrive.relaxed; barrier.cluster.wait;
        ld.shared::cluster.u32 %r8, [%r5];",
        "",
        "fence.acq_rel.cluster; @!%p2 ",
        &other,
    );
    // Its own block is reached by less.
    clusters(
        "readers of the own block",
        "@%p1 st.shared.u32 [%r2], 1; HERE barrier.cluster.arrive.relaxed; barrier.cluster.wait; ld.shared.u32 %r8, [%r2];",
        "",
        "fence.acq_rel.cta;",
        &[READ, "after the write by warp 0 of block"],
    );
    clusters(
        "global memory",
        "setp.eq.and.u32 %p5, %r19, 1, %p1; @%p5 st.global.u32 [%rd1], 1; barrier.cluster.arrive.HERE; barrier.cluster.wait; ld.global.u32 %r8, [%rd1];",
        "relaxed",
        "release",
        &["data race: read of 4 bytes at global address", "not ordered after the write by "],
    );
}

#[test]
fn mbarriers_are_there_after_their_own_fence_and_a_relaxed_arrival() {
    // As kernels begin that use the cluster's barrier for this alone.
    let start = "@%p1 mbarrier.init.shared::cta.b64 [%r3], 128; HERE barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.acquire.aligned;";
    clusters(
        "arrivals from another block",
        &format!("{start} mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r7]; WAIT 0, 0;"),
        "",
        "fence.mbarrier_init.release.cluster;",
        &["data race: read of 8 bytes at shared address 0x2000", "after the write by warp 0 of block"],
    );
    clusters(
        "a barrier of the block after that of the cluster",
        &format!(
            "{start} bar.sync 0; mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r7]; WAIT 0, 0;"
        ),
        "",
        "fence.mbarrier_init.release.cluster;",
        &["data race: read of 8 bytes at shared address 0x2000", "after the write by warp 0 of block"],
    );
    clusters(
        "copies of another warp",
        "@%p1 mbarrier.init.shared::cta.b64 [%r3], 1; HERE barrier.cluster.arrive.relaxed; barrier.cluster.wait; setp.eq.u32 %p5, %r1, 32;
        @%p5 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], 16;
        @%p5 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd1], 16, [%r3]; WAIT 0, 0;",
        "",
        "fence.mbarrier_init.release.cluster;",
        &["data race: read of 8 bytes at shared address 0x2000", "after the write by warp 0 of block"],
    );
    clusters(
        "a write beside the initialisation",
        "@%p1 mbarrier.init.shared::cta.b64 [%r3], 128; @%p1 st.shared.u32 [%r2], 1; fence.mbarrier_init.release.cluster; HERE
        barrier.cluster.arrive.relaxed; barrier.cluster.wait; mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r7]; ld.shared::cluster.u32 %r8, [%r5];",
        "",
        "fence.acq_rel.cluster;",
        &[READ, "after the write by warp 0 of block"],
    );
}

#[test]
fn a_relaxed_arrival_at_an_mbarrier_hands_on_what_a_fence_did() {
    let parts = [READ, "with no barrier after the write by warp 0, lane 0"];
    for (arrive, more) in [
        ("arrive.SEM", ""),
        ("arrive_drop.SEM", ""),
        ("arrive.expect_tx.SEM", ", 0"),
        ("arrive_drop.expect_tx.SEM", ", 0"),
    ] {
        let body = format!(
            "{INIT} @%p1 st.shared.u32 [%r2], 1; FENCE @%p1 mbarrier.{arrive}.cta.shared::cta.b64 _, [%r3]{more}; WAIT 0, 0; ld.shared.u32 %r5, [%r2];"
        );
        let plain = body.replace("FENCE", "");
        pair(arrive, &plain.replace("SEM", "relaxed"), &plain.replace("SEM", "release"), &parts);
        let fenced = body.replace("SEM", "relaxed").replace("FENCE", "HERE");
        lacks(&format!("{arrive} after no fence"), &fenced, "fence.acq_rel.cta;", &parts);
    }
    lacks(
        "bytes that a thread completes itself",
        &format!(
            "{INIT} setp.eq.u32 %p5, %r1, 32; @%p5 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], 8; @%p1 st.shared.u32 [%r2], 1; HERE
            @%p1 mbarrier.complete_tx.shared::cta.b64 [%r3], 8; WAIT 0, 0; ld.shared.u32 %r5, [%r2];"
        ),
        "fence.acq_rel.cta;",
        &parts,
    );
    clusters(
        "an mbarrier of another block",
        "@%p1 mbarrier.init.shared::cta.b64 [%r3], 1; barrier.cluster.arrive; barrier.cluster.wait; @%p1 st.shared.u32 [%r2], 1; HERE
        @%p1 mbarrier.arrive.relaxed.cluster.shared::cluster.b64 _, [%r7]; WAIT 0, 0; ld.shared::cluster.u32 %r8, [%r5];",
        "fence.acq_rel.cta;",
        "fence.acq_rel.cluster;",
        &[READ, "after the write by warp 0 of block"],
    );
}

#[test]
fn a_relaxed_wait_is_followed_by_a_fence() {
    let parts = [READ, "with no barrier after the write by warp 0, lane 0"];
    for wait in ["test_wait", "try_wait"] {
        let body = format!(
            "{INIT} @%p1 st.shared.u32 [%r2], 1; @%p1 mbarrier.arrive.shared::cta.b64 _, [%r3];
            L: mbarrier.{wait}.parity.SEM.cta.shared::cta.b64 %p6, [%r3], 0; @!%p6 bra L; HERE @!%p2 ld.shared.u32 %r5, [%r2];"
        );
        let plain = body.replace("HERE", "");
        pair(wait, &plain.replace("SEM", "relaxed"), &plain.replace("SEM", "acquire"), &parts);
        lacks(
            &format!("{wait} before no fence"),
            &body.replace("SEM", "relaxed"),
            "fence.acq_rel.cta;",
            &parts,
        );
    }
}
