//! Problems drawn at random.

use flash_attention::{Causal, Dropout, Dtype, Layout};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use crate::memory::Memory;
use crate::problem::{Lengths, Pattern, Problem};

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

/// A bound of a window: next to the query, next to the edge of a tile, any, or none that matters.
fn bound() -> impl Strategy<Value = Option<usize>> {
    let bounds = prop_oneof![
        3 => 0usize..=20,
        2 => 60usize..=70,
        2 => 0usize..=200,
        1 => prop::sample::select(vec![(1 << 30) - 1, 1 << 30, usize::MAX]),
    ];
    prop::option::weighted(0.7, bounds)
}

fn window() -> impl Strategy<Value = [Option<usize>; 2]> {
    prop_oneof![3 => Just([None; 2]), 2 => [bound(), bound()]]
}

fn dropout() -> impl Strategy<Value = Option<Dropout>> {
    let p = prop::sample::select(vec![0.0f32, 0.1, 0.3, 0.9]);
    let dropout = (p, any::<u64>(), any::<u32>()).prop_map(|(p, seed, offset)| Dropout { p, seed, offset });
    prop::option::weighted(0.3, dropout)
}

/// What of the heads and batch entries q, k and v have one of; mostly nothing.
fn single() -> impl Strategy<Value = [[bool; 2]; 3]> {
    prop_oneof![3 => Just([[false; 2]; 3]), 1 => any::<[[bool; 2]; 3]>()]
}

/// The lengths of batch entries, as parts of the longest; 0 and 1 are among them.
#[derive(Clone, Copy, Debug)]
enum Parts {
    Same,
    Keys,
    Ragged,
}

/// A part of a length: nothing, one, all or any.
fn part() -> impl Strategy<Value = (usize, f64)> {
    (0usize..=7, 0.0..1.0)
}

fn of_length((class, part): (usize, f64), length: usize) -> usize {
    match class {
        0 => 0,
        1 => length.min(1),
        2 => length,
        _ => (part * (length + 1) as f64) as usize,
    }
}

/// A problem whose lengths are still parts, and whose options may not fit its sizes.
#[derive(Clone, Debug)]
struct Draft {
    problem: Problem,
    rank3: bool,
    lengths: Parts,
    parts: [[(usize, f64); 2]; 4],
}

impl Draft {
    /// A problem that makes sense.
    fn finish(self) -> Problem {
        let Draft { mut problem, rank3, lengths, parts } = self;
        problem.rank3 = rank3 && problem.query_heads() == 1;
        match lengths {
            Parts::Same => {}
            Parts::Keys => {
                let keys = parts.iter().take(problem.batch).map(|part| of_length(part[1], problem.keys));
                problem.lengths = Lengths::Keys(keys.collect());
            }
            Parts::Ragged => {
                let sizes = [problem.queries, problem.keys];
                let of = |part: &[(usize, f64); 2]| [0, 1].map(|side| of_length(part[side], sizes[side]));
                problem = problem.clone().ragged(parts.iter().take(problem.batch).map(of).collect());
                problem.rank3 = false;
                problem.layout = Layout::Bhsd;
                problem.single.iter_mut().for_each(|single| single[0] = false);
            }
        }
        // One of each that is counted must have them all.
        let Problem { single, group, .. } = &mut problem;
        single[0][0] &= !(single[1][0] && single[2][0]);
        single[0][1] &= *group == 1;
        single[1][1] &= !single[2][1];
        problem
    }
}

fn draft(dtype: Dtype) -> impl Strategy<Value = Draft> {
    let heads = (1usize..=3, 1usize..=3, prop::sample::select(vec![1usize, 1, 2, 3, 4]));
    // As often as not v has the columns of k.
    let dims = (columns(), prop::option::of(columns()));
    let scale = prop::option::of(prop::sample::select(vec![-1.5f32, -0.3, 0.01, 0.7, 2.0]));
    let memories = prop::array::uniform6(memory());
    let softcap = prop::option::weighted(0.25, prop::sample::select(vec![0.5f32, 3.0, 30.0]));
    let scores = (causal(), window(), scale, softcap, prop::option::weighted(0.3, any::<bool>()));
    let others =
        (mask(), prop::option::of(any::<[bool; 3]>()), prop::bool::weighted(0.3), dropout(), any::<bool>());
    let lengths = prop_oneof![2 => Just(Parts::Same), 1 => Just(Parts::Keys), 1 => Just(Parts::Ragged)];
    let lengths = (lengths, prop::array::uniform4([part(), part()]), single());
    let shown = (any::<bool>(), any::<bool>(), any::<bool>(), memories);
    let numbers = (prop::sample::select(vec![0.1, 1.0, 1.0, 4.0]), any::<u64>());
    (heads, (length(), length()), dims, scores, others, lengths, shown, numbers).prop_map(
        move |(
            (batch, key_heads, group),
            (queries, keys),
            (head_dim, value_dim),
            (causal, window, scale, softcap, alibi),
            (mask, bias, sinks, dropout, dlse),
            (lengths, parts, single),
            (heads_inside, rank3, short, memory),
            (spread, seed),
        )| {
            let problem = Problem {
                batch,
                key_heads,
                group,
                queries,
                keys,
                head_dim,
                value_dim: value_dim.unwrap_or(head_dim),
                dtype,
                causal,
                window,
                scale,
                softcap,
                alibi,
                mask,
                bias,
                sinks,
                lengths: Lengths::Same,
                dropout,
                splits: 0,
                dlse,
                deterministic: [None, Some(true), Some(false)][(seed % 3) as usize],
                single,
                layout: if heads_inside { Layout::Bshd } else { Layout::Bhsd },
                rank3: false,
                short,
                memory,
                spread,
                seed,
            };
            Draft { problem, rank3, lengths, parts }
        },
    )
}

/// Any problem of a storage type that costs at most `limit` tile columns, or has one head.
pub fn problem(dtype: Dtype, limit: usize) -> impl Strategy<Value = Problem> {
    draft(dtype).prop_map(move |draft| Draft { problem: afford(draft.problem, limit), ..draft }.finish())
}

/// The same of those that Flash takes.
pub fn for_tensor_cores(dtype: Dtype, limit: usize) -> impl Strategy<Value = Problem> {
    problem(dtype, limit).prop_map(|problem| problem.for_tensor_cores())
}

/// A problem of a few rows and columns, for what costs much an element.
pub fn small(dtype: Dtype) -> impl Strategy<Value = Problem> {
    (draft(dtype), 1usize..=2, 1usize..=2, 1usize..=2, prop::array::uniform4(1usize..=5)).prop_map(
        |(draft, batch, key_heads, group, [queries, keys, head_dim, value_dim])| {
            let problem = Problem {
                batch,
                key_heads,
                group,
                queries,
                keys,
                head_dim,
                value_dim,
                memory: Default::default(),
                ..draft.problem.clone()
            };
            Draft { problem, ..draft }.finish()
        },
    )
}
