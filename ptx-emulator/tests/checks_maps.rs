//! Planted bugs around tensor maps that a kernel writes: fences of the tensormap proxy that lack. Each is wrong in one way and has its
//! corrected twin. Every bug is found, and no twin is accused.

mod common;
use common::planted::{INIT, lacks, pair};

/// A map of the 64 bytes at `%rd1`, made in shared memory; `%rd2` is where it is to lie in global memory. `%p3` is true in the first
/// thread of warp 1.
const MAKE: &str = "add.u64 %rd2, %rd1, 256; setp.eq.u32 %p3, %r1, 32;
    @%p1 tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%r2], %rd1; @%p1 tensormap.replace.tile.rank.shared::cta.b1024.b32 [%r2], 0;
    @%p1 tensormap.replace.tile.box_dim.shared::cta.b1024.b32 [%r2], 0, 16; @%p1 tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%r2], 0, 16;
    @%p1 tensormap.replace.tile.element_stride.shared::cta.b1024.b32 [%r2], 0, 1; @%p1 tensormap.replace.tile.elemtype.shared::cta.b1024.b32 [%r2], 2;
    bar.sync 0;";
/// Warp 0 copies it there and releases it.
const PUBLISH: &str = "@%p2 tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%rd2], [%r2], 128;";
/// Warp 0 writes it there.
const WRITE_MAP: &str = "mad.lo.u32 %r5, %r1, 4, %r2; mad.wide.u32 %rd3, %r1, 4, %rd2; @%p2 ld.shared.u32 %r6, [%r5]; @%p2 st.global.u32 [%rd3], %r6;";
const RELEASE: &str = "fence.proxy.tensormap::generic.release.gpu;";
const ACQUIRE: &str = "@%p2 fence.proxy.tensormap::generic.acquire.gpu [%rd2], 128;";
/// Warp 1 copies by the map.
const BY_MAP: &str = "@%p3 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], 64;
    @%p3 cp.async.bulk.tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r2+1024], [%rd2, {%r20}], [%r3];";

#[test]
fn maps_that_are_used_without_a_fence_of_their_proxy() {
    let no_release = [
        "use of the tensor map",
        "bytes into the allocation of 16384 bytes",
        "by warp 1, lane 0",
        "no `fence.proxy.tensormap::generic.release` after the write by warp 0",
    ];
    let no_acquire = [
        "use of the tensor map",
        "by warp 1, lane 0",
        "no `fence.proxy.tensormap::generic.acquire` of it by a thread of the block",
        "the write by warp 0",
    ];
    lacks(
        "no acquire",
        &format!("{INIT}{MAKE}{PUBLISH} HERE bar.sync 0; {BY_MAP} WAIT 0, 0;"),
        ACQUIRE,
        &[&no_acquire[..], &["cp_fenceproxy"]].concat(),
    );
    lacks(
        "an acquire by the user itself",
        &format!("{INIT}{MAKE}{PUBLISH} bar.sync 0; HERE {BY_MAP} WAIT 0, 0;"),
        &ACQUIRE.replace("%p2", "%p3"),
        &no_acquire,
    );
    pair(
        "an acquire that nothing orders before the use",
        &format!("{INIT}{MAKE}{PUBLISH} bar.sync 0; {ACQUIRE} {BY_MAP} WAIT 0, 0;"),
        &format!("{INIT}{MAKE}{PUBLISH} bar.sync 0; {ACQUIRE} bar.sync 0; {BY_MAP} WAIT 0, 0;"),
        &no_acquire,
    );
    pair(
        "an acquire of other bytes",
        &format!(
            "{INIT}{MAKE}{PUBLISH} {} bar.sync 0; {BY_MAP} WAIT 0, 0;",
            ACQUIRE.replace("[%rd2]", "[%rd2+128]")
        ),
        &format!("{INIT}{MAKE}{PUBLISH} {ACQUIRE} bar.sync 0; {BY_MAP} WAIT 0, 0;"),
        &no_acquire,
    );
    lacks(
        "no release after stores",
        &format!("{INIT}{MAKE}{WRITE_MAP} HERE {ACQUIRE} bar.sync 0; {BY_MAP} WAIT 0, 0;"),
        RELEASE,
        &[&no_release[..], &["st.global.u32"]].concat(),
    );
    // Another thread may release what it has seen.
    lacks(
        "no release by anybody",
        &format!(
            "{INIT}{MAKE}{WRITE_MAP} bar.sync 0; HERE bar.sync 0; {ACQUIRE} bar.sync 0; {BY_MAP} WAIT 0, 0;"
        ),
        &format!("@%p3 {RELEASE}"),
        &no_release,
    );
    lacks(
        "no release after a change where the map lies",
        &format!(
            "{INIT}{MAKE}{PUBLISH} @%p1 tensormap.replace.tile.fill_mode.global.b1024.b32 [%rd2], 0; HERE {ACQUIRE} bar.sync 0; {BY_MAP} WAIT 0, 0;"
        ),
        RELEASE,
        &[&no_release[..], &["tensormap.replace.tile.fill_mode"]].concat(),
    );
    lacks(
        "a change after the acquire",
        &format!(
            "{INIT}{MAKE}{PUBLISH}{ACQUIRE} bar.sync 0; {BY_MAP} WAIT 0, 0; bar.sync 0; {PUBLISH} HERE bar.sync 0; {BY_MAP} WAIT 0, 1;"
        ),
        ACQUIRE,
        &no_acquire,
    );
    lacks(
        "a prefetch",
        &format!(
            "{INIT}{MAKE}{PUBLISH} HERE bar.sync 0; @%p3 cp.async.bulk.prefetch.tensor.1d.L2.global.tile [%rd2, {{%r20}}];"
        ),
        ACQUIRE,
        &no_acquire,
    );
}
