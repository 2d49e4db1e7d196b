//! Problems drawn at random.

use flash_attention::{Causal, Dtype, Layout};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use crate::memory::Memory;
use crate::problem::{Pattern, Problem};

/// A run of `cases` cases from a fixed seed, so that every run of the tests draws the same ones. The environment's
/// `PROPTEST_CASES` and `PROPTEST_RNG_SEED` ask for more and for others.
pub fn config(cases: u32) -> Config {
    let given = Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { given.cases } else { cases };
    let rng_seed = match given.rng_seed {
        RngSeed::Random => RngSeed::Fixed(0x5eed),
        fixed => fixed,
    };
    Config { cases, rng_seed, failure_persistence: None, max_shrink_iters: 200, ..given }
}

/// A number of queries or keys: short, next to the edge of a tile, or any.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![1usize..=8, 31usize..=33, 63usize..=65, 127usize..=129, 1usize..=200]
}

/// A number of columns: next to a head-dim tile, a multiple of 8, or any.
fn columns() -> impl Strategy<Value = usize> {
    prop_oneof![
        1usize..=256,
        (1usize..=32).prop_map(|n| 8 * n),
        prop::sample::select(vec![1, 2, 31, 33, 63, 65, 95, 97, 127, 129, 191, 193, 255]),
    ]
}

fn memory() -> impl Strategy<Value = Memory> {
    prop_oneof![
        2 => Just(Memory::Contiguous),
        1 => Just(Memory::HeadsInside),
        1 => Just(Memory::BatchInside),
        1 => (0usize..=9, 0usize..=9).prop_map(|(before, after)| Memory::Columns { before, after }),
        1 => (0usize..=3, 0usize..=3).prop_map(|(before, after)| Memory::Rows { before, after }),
        1 => Just(Memory::SharedBatch),
    ]
}

fn mask() -> impl Strategy<Value = Option<([bool; 3], Pattern)>> {
    let pattern = prop_oneof![
        6 => Just(Pattern::Scattered),
        3 => Just(Pattern::Sparse),
        6 => Just(Pattern::Padding),
        6 => Just(Pattern::DeadRows),
        1 => Just(Pattern::Everything),
    ];
    prop::option::of((any::<[bool; 3]>(), pattern))
}

fn causal() -> impl Strategy<Value = Causal> {
    prop::sample::select(vec![Causal::None, Causal::UpperLeft, Causal::LowerRight])
}

/// Score tiles of 64 x 64, times the columns that they are computed from: what a problem costs.
fn cost(problem: &Problem) -> usize {
    let tiles = problem.queries.div_ceil(64) * problem.keys.div_ceil(64);
    let columns = (problem.head_dim + problem.value_dim).div_ceil(64) * 64;
    problem.batch * problem.query_heads() * tiles * columns
}

/// Makes a problem smaller in batch and heads until it costs at most this.
fn afford(mut problem: Problem, limit: usize) -> Problem {
    while cost(&problem) > limit {
        let sizes = [&mut problem.group, &mut problem.batch, &mut problem.key_heads];
        match sizes.into_iter().max_by_key(|size| **size) {
            Some(size) if *size > 1 => *size -= 1,
            _ => break,
        }
    }
    problem
}

/// Any problem of a storage type that costs at most `limit` tile columns, or has one head.
pub fn problem(dtype: Dtype, limit: usize) -> impl Strategy<Value = Problem> {
    let heads = (1usize..=3, 1usize..=3, prop::sample::select(vec![1usize, 1, 2, 3, 4]));
    // As often as not v has the columns of k.
    let dims = (columns(), prop::option::of(columns()));
    let scale = prop::option::of(prop::sample::select(vec![-1.5f32, -0.3, 0.01, 0.7, 2.0]));
    let memories = prop::array::uniform6(memory());
    let options = (causal(), scale, mask(), prop::option::of(any::<[bool; 3]>()));
    let shown = (any::<bool>(), any::<bool>(), any::<bool>(), memories);
    let numbers = (prop::sample::select(vec![0.1, 1.0, 1.0, 4.0]), any::<u64>());
    (heads, (length(), length()), dims, options, shown, numbers).prop_map(
        move |(
            (batch, key_heads, group),
            (queries, keys),
            (head_dim, value_dim),
            (causal, scale, mask, bias),
            (heads_inside, rank3, short, memory),
            (spread, seed),
        )| {
            let mut problem = Problem {
                batch,
                key_heads,
                group,
                queries,
                keys,
                head_dim,
                value_dim: value_dim.unwrap_or(head_dim),
                dtype,
                causal,
                scale,
                mask,
                bias,
                layout: if heads_inside { Layout::Bshd } else { Layout::Bhsd },
                rank3: false,
                short,
                memory,
                spread,
                seed,
            };
            problem = afford(problem, limit);
            problem.rank3 = rank3 && problem.query_heads() == 1;
            problem
        },
    )
}

/// A problem of a few rows and columns, for what costs much an element.
pub fn small(dtype: Dtype) -> impl Strategy<Value = Problem> {
    (problem(dtype, 1), 1usize..=2, 1usize..=2, 1usize..=2, prop::array::uniform4(1usize..=5)).prop_map(
        |(problem, batch, key_heads, group, [queries, keys, head_dim, value_dim])| {
            let problem = Problem {
                batch,
                key_heads,
                group,
                queries,
                keys,
                head_dim,
                value_dim,
                memory: Default::default(),
                ..problem
            };
            Problem { rank3: problem.rank3 && problem.query_heads() == 1, ..problem }
        },
    )
}
