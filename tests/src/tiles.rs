//! Tiles of scores, and what the emulator counts for them.

use std::collections::{BTreeMap, BTreeSet};

use flash_attention::{Causal, Device, Statistics};

use crate::problem::Problem;

/// What an emulator counts in one pass by the backend that `Auto` has to choose, by kernel.
///
/// # Panics
/// Where the problem does not run.
pub fn counted(problem: &Problem) -> BTreeMap<&'static str, Statistics> {
    let emulator = Device::emulator();
    problem.run(&emulator, &problem.inputs()).expect("the problem runs");
    emulator.take_stats().expect("an emulator counts")
}

/// Tiles of so many queries and keys in which some query sees some key by position, of all batch entries; counted one score at a time.
pub fn met(problem: &Problem, [rows, columns]: [usize; 2]) -> u64 {
    let sees = |b: usize, i: usize, j: usize| {
        let [sq, sk] = problem.lengths(b).map(|n| n as i64);
        let ahead = j as i64 - i as i64 - if problem.causal == Causal::UpperLeft { 0 } else { sk - sq };
        let within = |bound: Option<usize>, by: i64| bound.is_none_or(|bound| by <= bound as i64);
        (problem.causal == Causal::None || ahead <= 0)
            && within(problem.window[0], -ahead)
            && within(problem.window[1], ahead)
    };
    let mut tiles = BTreeSet::new();
    for b in 0..problem.batch {
        let [queries, keys] = problem.lengths(b);
        for i in 0..queries {
            tiles.extend((0..keys).filter(|&j| sees(b, i, j)).map(|j| (b, i / rows, j / columns)));
        }
    }
    tiles.len() as u64
}

/// Bytes that a kernel loads for one more tile, by two problems of the same options and rows that differ in tiles alone.
///
/// # Panics
/// Where a tile does not cost a whole number of bytes.
pub fn tile_bytes(more: &Problem, less: &Problem, tile: [usize; 2], kernel: &str) -> u64 {
    let [more_bytes, less_bytes] = [more, less].map(|problem| counted(problem)[kernel].global_load_bytes);
    let (bytes, tiles) = (more_bytes - less_bytes, met(more, tile) - met(less, tile));
    assert_eq!(bytes % tiles, 0, "{kernel}: {bytes} bytes for {tiles} tiles");
    bytes / tiles
}
