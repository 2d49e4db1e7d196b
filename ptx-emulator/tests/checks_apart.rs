//! Lanes of a warp that come to a barrier `.aligned` one after another: where all of them come to it in the end nothing is wrong.

mod common;
use common::planted::{INIT, pair};

/// Turns after which lanes at a join are let go on without those that are still on their way, and more.
const LONG: &str = "mov.u32 %r5, 0; L: add.u32 %r5, %r5, 1; setp.lt.u32 %p4, %r5, 100000; @%p4 bra L;";

/// `%p3` is true in the upper half of each warp.
const HALF: &str = "and.b32 %r6, %r1, 16; setp.ne.u32 %p3, %r6, 0;";

const PARTS: [&str; 2] =
    ["is reached by the lanes 0x0000ffff of warp", "those of the whole warp are 0xffffffff"];

#[test]
fn lanes_that_are_let_go_from_a_join_wait_for_the_others_at_a_barrier() {
    let cluster = "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;";
    for barrier in ["bar.sync 0;", cluster, "bar.sync 0; bar.red.popc.u32 %r7, 0, %p3; bar.sync 0;"] {
        // All have met at J; a barrier at another place is another one.
        let body = format!(
            "{HALF} @!%p3 bra J; {LONG} J: mov.u32 %r8, 1; HERE {barrier} bra E; K: {barrier} E: st.shared.u32 [%r4], 1;"
        );
        pair(barrier, &body.replace("HERE", "@%p3 bra K;"), &body.replace("HERE", ""), &PARTS);
    }
    let body =
        format!("{HALF} @!%p3 bra J; {LONG} J: mov.u32 %r8, 1; HERE bar.sync 0; E: st.shared.u32 [%r4], 1;");
    pair("lanes that end", &body.replace("HERE", "@%p3 ret;"), &body.replace("HERE", ""), &PARTS);
}

#[test]
fn lanes_that_others_left_at_a_wait_or_a_shuffle_come_to_the_barrier_too() {
    // Thread 32 arrives at what thread 0 alone waits for.
    let wait = format!(
        "{INIT} setp.eq.u32 %p5, %r1, 32; @%p5 mbarrier.arrive.shared::cta.b64 _, [%r3];
        @%p1 mbarrier.try_wait.parity.shared::cta.b64 %p6, [%r3], 0; HERE bar.sync 0; E: st.shared.u32 [%r4], 1;"
    );
    let parts = ["is reached by the lanes 0xfffffffe of warp 0", PARTS[1]];
    pair("a wait of one lane", &wait.replace("HERE", "@%p1 bra E;"), &wait.replace("HERE", ""), &parts);
    let shuffle = format!(
        "{HALF} selp.b32 %r7, 0xffff0000, 0x0000ffff, %p3; shfl.sync.bfly.b32 %r8, %r1, 1, 0x1f, %r7; HERE bar.sync 0;
        E: st.shared.u32 [%r4], 1;"
    );
    pair(
        "a shuffle of each half",
        &shuffle.replace("HERE", "@%p3 bra E;"),
        &shuffle.replace("HERE", ""),
        &PARTS,
    );
}
