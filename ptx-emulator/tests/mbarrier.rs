//! `mbarrier`: phases, arrivals and bytes by the manual's definition; who waits, and what a deadlock says.

mod common;
use common::{module, words};
use ptx_emulator::Module;

/// One thread; `%r1` is the address of the first of four uninitialised barriers, `OUT k, %r` stores a word, `%p1` is free.
fn one(body: &str, count: usize) -> Result<Vec<u32>, String> {
    all(body, 1, count)
}

fn all(body: &str, threads: u32, count: usize) -> Result<Vec<u32>, String> {
    let mut text = format!(
        ".shared .align 8 .b8 bars[64]; ld.param.u64 %rd1, [out]; mov.u32 %r1, bars; mov.u32 %r30, %tid.x;
        setp.eq.u32 %p9, %r30, 0;\n{body}\nret;"
    );
    for k in 0..count {
        text = text.replace(&format!("OUT {k},"), &format!("st.global.u32 [%rd1+{}],", 4 * k));
        text = text.replace(
            &format!("FLAG {k};"),
            &format!("selp.u32 %r20, 1, 0, %p1; st.global.u32 [%rd1+{}], %r20;", 4 * k),
        );
    }
    words(&text, 1, threads, count).map_err(|e| e.to_string())
}

#[test]
fn a_phase_ends_with_its_last_arrival() {
    // A fresh barrier is in phase 0: the wait for parity 1, the phase before it, is over.
    let out = one(
        "mbarrier.init.shared::cta.b64 [%r1], 2;
        mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r1], 1; FLAG 0;
        mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r1], 0; FLAG 1;
        mbarrier.arrive.shared::cta.b64 %rd2, [%r1];
        mbarrier.test_wait.shared::cta.b64 %p1, [%r1], %rd2; FLAG 2;
        mbarrier.arrive.release.cta.shared::cta.b64 %rd3, [%r1];
        mbarrier.test_wait.shared.b64 %p1, [%r1], %rd2; FLAG 3;
        mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 %p1, [%r1], 0, 1000; FLAG 4;
        mbarrier.test_wait.parity.relaxed.cluster.shared::cta.b64 %p1, [%r1], 1; FLAG 5;
        mbarrier.pending_count.b64 %r2, %rd2; OUT 6, %r2;
        mbarrier.pending_count.b64 %r2, %rd3; OUT 7, %r2;
        // The next phase, by one arrival of two, at the generic address.
        cvt.u64.u32 %rd4, %r1; cvta.shared.u64 %rd4, %rd4;
        mbarrier.arrive.b64 _, [%rd4], 2;
        mbarrier.try_wait.parity.b64 %p1, [%rd4], 1; FLAG 8;
        mbarrier.inval.shared.b64 [%r1]; mbarrier.init.shared.b64 [%r1], 1;
        mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r1], 0; FLAG 9;",
        10,
    )
    .unwrap();
    assert_eq!(out, [1, 0, 0, 1, 1, 0, 2, 1, 1, 0]);
}

#[test]
fn bytes_keep_a_phase_open() {
    let out = one(
        "mbarrier.init.shared::cta.b64 [%r1], 1;
        mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 48;
        mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r1], 0; FLAG 0;
        mbarrier.complete_tx.relaxed.cluster.shared::cluster.b64 [%r1], 16;
        mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r1], 0; FLAG 1;
        mbarrier.complete_tx.shared::cta.b64 [%r1], 32;
        mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r1], 0; FLAG 2;
        // Bytes before they are expected.
        mbarrier.complete_tx.shared::cta.b64 [%r1], 8;
        mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r1], 8;
        mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r1], 1; FLAG 3;
        mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 %rd2, [%r1], 0;
        mbarrier.test_wait.shared::cta.b64 %p1, [%r1], %rd2; FLAG 4;",
        5,
    )
    .unwrap();
    assert_eq!(out, [0, 0, 1, 0, 1]);
}

#[test]
fn drops_lower_the_later_phases() {
    let out = one(
        "mbarrier.init.shared::cta.b64 [%r1], 3;
        mbarrier.arrive_drop.shared::cta.b64 %rd2, [%r1];
        mbarrier.arrive.noComplete.release.cta.shared::cta.b64 %rd3, [%r1], 1;
        mbarrier.arrive.shared::cta.b64 %rd4, [%r1];
        mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r1], 0; FLAG 0;
        mbarrier.arrive.shared::cta.b64 %rd5, [%r1], 2;
        mbarrier.test_wait.shared::cta.b64 %p1, [%r1], %rd5; FLAG 1;
        mbarrier.pending_count.b64 %r2, %rd4; OUT 2, %r2;
        mbarrier.pending_count.b64 %r2, %rd5; OUT 3, %r2;
        mbarrier.arrive_drop.expect_tx.shared::cta.b64 _, [%r1], 16;
        mbarrier.arrive_drop.noComplete.shared::cta.b64 %rd6, [%r1], 0x0;",
        4,
    );
    // An arrival of 0 is none.
    assert!(out.unwrap_err().contains("0 arrivals at an mbarrier; 1 to 1048575 are possible"));
}

const PRODUCER: &str =
    "@%p9 mbarrier.init.shared::cta.b64 [%r1], 1; @%p9 mbarrier.init.shared::cta.b64 [%r1+8], 32;
    fence.mbarrier_init.release.cluster; bar.sync 0;
    setp.lt.u32 %p2, %r30, 32; mov.u32 %r3, 0; mov.u32 %r4, 0; @!%p2 bra CONSUME;
    // Warp 0: its lane 0 fills the word when the consumers are through with it.
    @!%p9 bra DONE;
    PRODUCE: xor.b32 %r5, %r4, 1;
    FREE: WAIT.parity.shared::cta.b64 %p1, [%r1+8], %r5; @!%p1 bra FREE;
    mul.lo.u32 %r6, %r3, 3; st.shared.u32 [%r1+16], %r6; mbarrier.arrive.shared::cta.b64 _, [%r1];
    xor.b32 %r4, %r4, 1; add.u32 %r3, %r3, 1; setp.lt.u32 %p3, %r3, 10; @%p3 bra PRODUCE; bra DONE;
    // Warp 1: all lanes add it up.
    CONSUME: mov.u32 %r7, 0;
    NEXT: FULL: WAIT.parity.shared::cta.b64 %p1, [%r1], %r4; @!%p1 bra FULL;
    ld.shared.u32 %r6, [%r1+16]; add.u32 %r7, %r7, %r6; mbarrier.arrive.shared::cta.b64 %rd5, [%r1+8];
    xor.b32 %r4, %r4, 1; add.u32 %r3, %r3, 1; setp.lt.u32 %p3, %r3, 10; @%p3 bra NEXT;
    sub.u32 %r8, %r30, 32; mad.wide.u32 %rd2, %r8, 4, %rd1; st.global.u32 [%rd2], %r7;
    DONE:";

#[test]
fn a_producer_and_its_consumers_take_turns() {
    for wait in ["mbarrier.try_wait", "mbarrier.test_wait"] {
        // 3 · (0 + … + 9).
        assert_eq!(all(&PRODUCER.replace("WAIT", wait), 64, 32).unwrap(), [135; 32]);
    }
}

#[test]
fn a_thread_that_looks_in_between_gets_on() {
    // The arrival comes only after the first look, by the same thread.
    let out = one(
        "mbarrier.init.shared::cta.b64 [%r1], 1; mov.u32 %r2, 0;
        L: mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r1], 0; @%p1 bra E; add.u32 %r2, %r2, 1;
        mbarrier.arrive.shared::cta.b64 _, [%r1]; bra L; E: OUT 0, %r2;",
        1,
    );
    assert_eq!(out.unwrap(), [1]);
}

#[test]
fn lanes_of_a_warp_may_wait_for_one_another() {
    let body = "@%p9 mbarrier.init.shared::cta.b64 [%r1], 1; bar.warp.sync -1;
        setp.eq.u32 %p2, %r30, 7; @%p2 bra A;
        L: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], 0; @!%p1 bra L; bra E;
        A: mbarrier.arrive.shared::cta.b64 _, [%r1];
        E: mad.wide.u32 %rd2, %r30, 4, %rd1; st.global.u32 [%rd2], 5;";
    assert_eq!(all(body, 32, 32).unwrap(), [5; 32]);
}

#[test]
fn a_deadlock_says_what_each_warp_waits_for() {
    let error = all(
        "@%p9 mbarrier.init.shared::cta.b64 [%r1], 3; bar.sync 0;
        setp.ge.u32 %p2, %r30, 32; @%p2 bra B;
        @%p9 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 64;
        L: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], 0; @!%p1 bra L; ret;
        B: bar.sync 1, 64;",
        64,
        1,
    )
    .unwrap_err();
    for part in [
        "deadlock in kernel `k`, block (0, 0, 0)",
        "warp 0: lanes 0xffffffff waits for the mbarrier at shared address 0x0: phase 0 lacks 2 of 3 arrivals and 64 bytes",
        "warp 1: lanes 0xffffffff waits at barrier 1",
        "`L: mbarrier.try_wait.parity",
    ] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn copies_of_a_thread_arrive_when_they_are_done() {
    // 16 bytes from the output's own words 4 to 7, which hold zeros until they are set.
    let copies = |arrive: &str, count: u32, extra: &str| {
        one(
            &format!(
                "mov.u32 %r2, 77; st.global.u32 [%rd1+16], %r2; st.shared.u32 [%r1+16], 5;
                mbarrier.init.shared::cta.b64 [%r1], {count};
                cp.async.ca.shared.global [%r1+16], [%rd1+16], 4;
                {arrive} [%r1]; ld.shared.u32 %r3, [%r1+16]; OUT 0, %r3;
                {extra}
                mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], 0; FLAG 1;
                ld.shared.u32 %r3, [%r1+16]; OUT 2, %r3;"
            ),
            8,
        )
        .unwrap()[..3]
            .to_vec()
    };
    // `.noinc`: one of the arrivals that the barrier expects.
    assert_eq!(copies("cp.async.mbarrier.arrive.noinc.shared::cta.b64", 1, ""), [5, 1, 77]);
    // Without it the phase lacks one more until the copies are done.
    assert_eq!(copies("cp.async.mbarrier.arrive.shared::cta.b64", 1, ""), [5, 0, 5]);
    assert_eq!(
        copies("cp.async.mbarrier.arrive.shared::cta.b64", 1, "mbarrier.arrive.shared::cta.b64 _, [%r1];"),
        [5, 1, 77]
    );
}

/// Planted bugs: each body is wrong in one way, fails with a message that has the part, and its corrected twin runs.
#[test]
fn misuse_is_an_error_that_names_the_barrier() {
    const INIT: &str = "mbarrier.init.shared::cta.b64 [%r1], 1;";
    const ARRIVE: &str = "mbarrier.arrive.shared::cta.b64 _, [%r1];";
    for (wrong, right, part) in [
        ("ARRIVE", "INIT ARRIVE", "there is no mbarrier at shared address 0x0: `mbarrier.init` comes first"),
        (
            "mbarrier.init.shared::cta.b64 [%r1], 0;",
            "mbarrier.init.shared::cta.b64 [%r1], 1;",
            "an mbarrier of 0 arrivals",
        ),
        (
            "mbarrier.init.shared::cta.b64 [%r1], 1048576;",
            "mbarrier.init.shared::cta.b64 [%r1], 1048575;",
            "1 to 1048575 are possible",
        ),
        (
            "mbarrier.init.shared::cta.b64 [%r1+4], 1;",
            "mbarrier.init.shared::cta.b64 [%r1+8], 1;",
            "at shared address 0x4: not a multiple of 8",
        ),
        (
            "mbarrier.init.shared::cta.b64 [%r1+64], 1;",
            "mbarrier.init.shared::cta.b64 [%r1+56], 1;",
            "shared address 0x40: not a multiple of 8 below 64",
        ),
        (
            "INIT INIT",
            "INIT mbarrier.inval.shared::cta.b64 [%r1]; INIT",
            "holds an mbarrier already: `mbarrier.inval` comes first",
        ),
        (
            "INIT mbarrier.arrive.shared::cta.b64 _, [%r1], 2;",
            "mbarrier.init.shared::cta.b64 [%r1], 2; mbarrier.arrive.shared::cta.b64 _, [%r1], 2;",
            "mbarrier at shared address 0x0: 2 arrivals in phase 0, which lacks only 1 of 1",
        ),
        (
            "INIT mbarrier.arrive_drop.shared::cta.b64 _, [%r1]; ARRIVE",
            "mbarrier.init.shared::cta.b64 [%r1], 2; mbarrier.arrive_drop.shared::cta.b64 _, [%r1]; ARRIVE ARRIVE",
            "1 arrivals in phase 1, which lacks only 0 of 0",
        ),
        (
            "INIT mbarrier.arrive.noComplete.shared::cta.b64 %rd2, [%r1], 1;",
            "mbarrier.init.shared::cta.b64 [%r1], 2; mbarrier.arrive.noComplete.shared::cta.b64 %rd2, [%r1], 1;",
            "a `.noComplete` arrival completes phase 0",
        ),
        (
            "INIT mbarrier.expect_tx.shared::cta.b64 [%r1], 1048576;",
            "INIT mbarrier.expect_tx.shared::cta.b64 [%r1], 1048575;",
            "phase 0 would expect 1048576 bytes; the limit is 1048575",
        ),
        (
            "INIT st.shared.u32 [%r1+4], 1; ARRIVE",
            "INIT st.shared.u32 [%r1+8], 1; ARRIVE",
            "the mbarrier at shared address 0x0 was overwritten",
        ),
        ("INIT mbarrier.inval.shared::cta.b64 [%r1]; ARRIVE", "INIT ARRIVE", "there is no mbarrier"),
        (
            "INIT mov.u32 %r30, 2; mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r1], %r30;",
            "INIT mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r1], 1;",
            "a wait for phase parity 2; it is 0 or 1",
        ),
        (
            "INIT mbarrier.arrive.shared::cta.b64 %rd2, [%r1]; ARRIVE
            mbarrier.test_wait.shared::cta.b64 %p1, [%r1], %rd2;",
            "INIT mbarrier.arrive.shared::cta.b64 %rd2, [%r1];
            mbarrier.test_wait.shared::cta.b64 %p1, [%r1], %rd2; ARRIVE",
            "a wait for phase 0 of the mbarrier at shared address 0x0, which is in phase 2",
        ),
        (
            "INIT cvt.u64.u32 %rd2, %r1; mbarrier.arrive.b64 _, [%rd2];",
            "INIT cvt.u64.u32 %rd2, %r1; cvta.shared.u64 %rd2, %rd2; mbarrier.arrive.b64 _, [%rd2];",
            "generic address 0x0 does not lie in shared memory",
        ),
        (
            "INIT mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 16;
            L: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], 0; @!%p1 bra L;",
            "INIT mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 16;
            mbarrier.complete_tx.shared::cta.b64 [%r1], 16;
            L: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], 0; @!%p1 bra L;",
            "the mbarrier at shared address 0x0: phase 0 lacks 0 of 1 arrivals and 16 bytes",
        ),
        // A phase too many: the thread waits for the one that has not begun.
        (
            "INIT ARRIVE L: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], 1; @!%p1 bra L;",
            "INIT ARRIVE L: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], 0; @!%p1 bra L;",
            "the mbarrier at shared address 0x0: phase 1 lacks 1 of 1 arrivals",
        ),
    ] {
        let [wrong, right] = [wrong, right].map(|body| body.replace("INIT", INIT).replace("ARRIVE", ARRIVE));
        let error = one(&wrong, 1).unwrap_err();
        assert!(error.contains(part) && error.contains("mbarrier"), "{wrong}: {error}");
        if let Err(error) = one(&right, 1) {
            panic!("{right}: the twin is accused: {error}");
        }
    }
}

#[test]
fn malformed_forms_are_errors_with_their_line() {
    for (statement, part) in [
        ("mbarrier.init.shared::cta.b32 [%r1], 1;", "there is no"),
        ("mbarrier.init.shared::cluster.b64 [%r1], 1;", "there is no"),
        ("mbarrier.foo.b64 [%r1];", "there is no"),
        ("mbarrier.init.shared::cta.b64 [%r1];", "takes 2 operands"),
        ("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1];", "a state, an address and a count"),
        ("mbarrier.arrive.shared::cluster.b64 %rd2, [%r1];", "the target is `_`"),
        ("mbarrier.arrive.acquire.cta.shared::cta.b64 %rd2, [%r1];", "there is no"),
        ("mbarrier.test_wait.shared::cta.b64 %p1, [%r1], %rd2, 5;", "a predicate, an address and a phase"),
        ("mbarrier.try_wait.parity.shared::cluster.b64 %p1, [%r1], 0;", "there is no"),
        ("mbarrier.try_wait.parity.shared::cta.b64 %r2, [%r1], 0;", "cannot take a result"),
        ("mbarrier.pending_count.b64 %r2;", "takes 2 operands"),
        ("cp.async.mbarrier.arrive.noinc.shared::cluster.b64 [%r1];", "there is no"),
    ] {
        let error = Module::parse(&module(&format!("\n{statement}\nret;"))).err();
        let error = error.unwrap_or_else(|| panic!("{statement}"));
        assert_eq!(error.problems[0].line, 7, "{error}");
        assert!(error.to_string().contains(part), "{statement}: {error}");
    }
}
