//! Planted bugs that show when a warp or its block ends: what it began is not over. Each has its corrected twin.

mod common;
use common::planted::lacks;

/// A and B of a product, all of them zero.
const PRODUCT: &str = "fence.proxy.async; bar.sync 0; wgmma.fence.sync.aligned;
    wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f0, %f1, %f2, %f3}, 0x0000001000080000, 0x0000001000080080, %p7, 1, 1, 0, 0;\n";
const COMMIT: &str = "wgmma.commit_group.sync.aligned;\n";

#[test]
fn products_are_waited_for() {
    let ended = |lacks: &str| format!(" ended while a product that it issued {lacks}");
    lacks(
        "no wait",
        &format!("{PRODUCT}{COMMIT}HERE"),
        "wgmma.wait_group.sync.aligned 0;",
        &[&ended("has not been waited for"), ", lane 0), PTX line", "`wgmma.mma_async.sync.aligned.m64n8k16"],
    );
    lacks(
        "no group",
        &format!("{PRODUCT}HERE wgmma.wait_group.sync.aligned 0;"),
        COMMIT,
        &[&ended("is in no group"), "`wgmma.mma_async"],
    );
    lacks(
        "one group of two",
        &format!("{PRODUCT}{COMMIT}{PRODUCT}{COMMIT} wgmma.wait_group.sync.aligned 1; HERE"),
        "wgmma.wait_group.sync.aligned 0;",
        &[&ended("has not been waited for")],
    );
    lacks(
        "a wait of three warps",
        &format!("{PRODUCT}{COMMIT} @!%p2 wgmma.wait_group.sync.aligned 0; HERE"),
        "@%p2 wgmma.wait_group.sync.aligned 0;",
        &["warp 0 ended while a product that it issued has not been waited for", "thread (0, 0, 0)"],
    );
}
