//! Files that are nearly right: they are problems that run or errors in words, and never a panic. `cargo xtask fuzz` tries
//! many more, guided by what they reach.

use std::panic::{AssertUnwindSafe, catch_unwind};

use flash_attention::case::Case;
use flash_attention::{Device, sdpa};

#[path = "../fuzz/body.rs"]
mod body;

/// A few seconds' worth.
const CHANGED: u64 = 60_000;

#[test]
fn every_seed_is_a_problem() {
    for (i, bytes) in body::seeds().iter().enumerate() {
        assert!(bytes.len() >= body::SHORTEST);
        let case = Case::parse(bytes, &Device::cpu()).unwrap_or_else(|error| panic!("seed {i}: {error}"));
        let explanation = sdpa(&case.q, &case.k, &case.v).options(case.options).explain();
        explanation.unwrap_or_else(|error| panic!("seed {i}: {error}"));
        body::check(bytes);
    }
}

#[test]
fn changed_files_are_problems_or_errors_in_words() {
    let seeds = body::seeds();
    let mut problems = 0;
    for number in 0..CHANGED {
        let mut random = body::Random(number);
        let seed = &seeds[random.below(seeds.len())];
        let bytes = body::mutate(seed, &mut random);
        if catch_unwind(AssertUnwindSafe(|| body::check(&bytes))).is_err() {
            panic!("changed file {number} of {} bytes:\n{}", bytes.len(), bytes.escape_ascii());
        }
        problems += u64::from(Case::parse(&bytes, &Device::cpu()).is_ok());
    }
    // Changes that only ever broke the file would try nothing behind the parser.
    assert!(problems > CHANGED / 10 && problems < CHANGED, "{problems} of {CHANGED} are problems");
}
