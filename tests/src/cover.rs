//! Problems that cross every pair of options: a covering array of strength two, made greedily.
//!
//! An array is a list of rows; a row chooses one value for each parameter. It covers a pair of values of two parameters where
//! some row has both. Pairs that make no problem are named, and no row has them.

use flash_attention::{Causal, Dropout, Dtype, Layout};

use crate::memory::Memory;
use crate::problem::{Lengths, Pattern, Problem};

/// What can be chosen: a name, and the names of its values.
pub type Parameter = (&'static str, &'static [&'static str]);

/// All parameters.
pub const PARAMETERS: [Parameter; 20] = [
    ("dtype", &["f32", "f16", "bf16"]),
    ("columns", &["equal", "odd", "narrow values", "wide values", "widest"]),
    ("layout", &["bhsd", "bshd", "rank 3", "ragged"]),
    ("heads", &["one", "several", "grouped", "multi-query"]),
    ("broadcast", &["nothing", "batch of q", "batch of k", "batch of k and v", "heads of q", "heads of k"]),
    ("sizes", &["square", "few queries", "many queries", "one query", "one key"]),
    ("lengths", &["same", "keys", "no keys"]),
    ("causal", &["none", "upper left", "lower right"]),
    ("window", &["none", "left", "right", "both", "diagonal"]),
    ("scale", &["default", "negative"]),
    ("softcap", &["none", "tight", "loose"]),
    ("alibi", &["none", "head", "batch and head"]),
    ("mask", &["none", "full", "padding", "dead rows"]),
    ("bias", &["none", "full", "batch and head", "query"]),
    ("sinks", &["no", "yes"]),
    ("dropout", &["none", "a little", "half"]),
    ("dlse", &["no", "yes"]),
    ("memory", &["contiguous", "heads inside", "cut"]),
    ("short masks", &["no", "yes"]),
    ("deterministic", &["default", "yes", "no"]),
];

/// One value for each parameter.
pub type Row = [usize; PARAMETERS.len()];

/// Pairs of values that make no problem.
const IMPOSSIBLE: [[(&str, &str); 2]; 15] = [
    // Tensors of rank 3 have one head and nothing to repeat in it.
    [("layout", "rank 3"), ("heads", "several")],
    [("layout", "rank 3"), ("heads", "grouped")],
    [("layout", "rank 3"), ("heads", "multi-query")],
    [("layout", "rank 3"), ("broadcast", "heads of q")],
    [("layout", "rank 3"), ("broadcast", "heads of k")],
    // Packed tensors have no batch, and their offsets are their lengths.
    [("layout", "ragged"), ("broadcast", "batch of q")],
    [("layout", "ragged"), ("broadcast", "batch of k")],
    [("layout", "ragged"), ("broadcast", "batch of k and v")],
    [("layout", "ragged"), ("lengths", "keys")],
    [("layout", "ragged"), ("lengths", "no keys")],
    // One head is not repeated to one; one of q goes to as many as k has, one of k to as many as v has.
    [("heads", "one"), ("broadcast", "heads of q")],
    [("heads", "one"), ("broadcast", "heads of k")],
    [("heads", "grouped"), ("broadcast", "heads of q")],
    [("heads", "multi-query"), ("broadcast", "heads of q")],
    [("heads", "multi-query"), ("broadcast", "heads of k")],
];

fn place((parameter, value): (&str, &str)) -> (usize, usize) {
    let p = PARAMETERS.iter().position(|p| p.0 == parameter).expect("the parameter is one of those above");
    (p, PARAMETERS[p].1.iter().position(|v| *v == value).expect("the value is one of the parameter's"))
}

/// A value of one parameter and one of another, the parameters in order.
pub type Pair = [(usize, usize); 2];

/// All pairs that make a problem.
pub fn pairs() -> Vec<Pair> {
    let impossible = IMPOSSIBLE.map(|pair| {
        let mut pair = pair.map(place);
        pair.sort_unstable();
        pair
    });
    let counts = PARAMETERS.map(|(_, values)| values.len());
    let mut all = vec![];
    for (p, &first) in counts.iter().enumerate() {
        for (q, &second) in counts.iter().enumerate().skip(p + 1) {
            all.extend((0..first).flat_map(|a| (0..second).map(move |b| [(p, a), (q, b)])));
        }
    }
    all.retain(|pair| !impossible.contains(pair));
    all
}

/// Whether a row has both values of a pair.
pub fn has(row: &Row, pair: &Pair) -> bool {
    pair.iter().all(|&(p, value)| row[p] == value)
}

/// Rows that cover all pairs. Each begins with the first pair that is missing; then every other parameter, the one with the
/// most values first, takes the value that adds the most missing pairs with those already chosen.
pub fn rows() -> Vec<Row> {
    let all = pairs();
    let allowed: std::collections::HashSet<Pair> = all.iter().copied().collect();
    let mut missing: std::collections::BTreeSet<Pair> = all.iter().copied().collect();
    let ordered = |a: (usize, usize), b: (usize, usize)| if a < b { [a, b] } else { [b, a] };
    let mut rows: Vec<Row> = vec![];
    while let Some(&start) = missing.first() {
        let mut chosen: Vec<(usize, usize)> = start.to_vec();
        let mut left: Vec<usize> =
            (0..PARAMETERS.len()).filter(|p| start.iter().all(|s| s.0 != *p)).collect();
        // What the others depend on comes first.
        left.sort_by_key(|&p| {
            std::cmp::Reverse((
                IMPOSSIBLE.iter().flatten().any(|v| v.0 == PARAMETERS[p].0),
                PARAMETERS[p].1.len(),
            ))
        });
        for p in left {
            let count = PARAMETERS[p].1.len();
            // Ties go to another value in every row.
            let values = (0..count).map(|n| (n + rows.len()) % count);
            let possible = values.filter(|&v| chosen.iter().all(|&c| allowed.contains(&ordered(c, (p, v)))));
            let gain = |v: &usize| chosen.iter().filter(|&&c| missing.contains(&ordered(c, (p, *v)))).count();
            let value = possible.max_by_key(gain).expect("a value of every parameter fits the others");
            chosen.push((p, value));
        }
        chosen.sort_unstable();
        let row: Row = std::array::from_fn(|p| chosen[p].1);
        missing.retain(|pair| !has(&row, pair));
        rows.push(row);
    }
    rows
}

/// The names of a row's values.
pub fn describe(row: &Row) -> String {
    let named = PARAMETERS.iter().zip(row).map(|((name, values), &v)| format!("{name}: {}", values[v]));
    named.collect::<Vec<_>>().join(", ")
}

/// The problem of a row: three batch entries, more than a tile of queries and keys where the sizes allow it.
pub fn problem(row: &Row, seed: u64) -> Problem {
    let [dtype, columns, layout, heads, broadcast, sizes, lengths, causal, window, scale, softcap, rest @ ..] =
        *row;
    let [alibi, mask, bias, sinks, dropout, dlse, memory, short, deterministic] = rest;
    let (head_dim, value_dim) = [(64, 64), (33, 33), (40, 7), (24, 96), (200, 136)][columns];
    let (key_heads, group) = [(1, 1), (2, 1), (2, 2), (1, 3)][heads];
    let (queries, keys) = [(80, 80), (5, 133), (97, 70), (1, 100), (70, 1)][sizes];
    let problem = Problem {
        batch: 3,
        key_heads,
        group,
        queries,
        keys,
        head_dim,
        value_dim,
        dtype: [Dtype::F32, Dtype::F16, Dtype::Bf16][dtype],
        causal: [Causal::None, Causal::UpperLeft, Causal::LowerRight][causal],
        window: [[None, None], [Some(20), None], [None, Some(9)], [Some(66), Some(3)], [Some(0), Some(0)]]
            [window],
        scale: [None, Some(-0.7)][scale],
        softcap: [None, Some(1.5), Some(20.0)][softcap],
        alibi: [None, Some(false), Some(true)][alibi],
        mask: [
            None,
            Some(([false; 3], Pattern::Scattered)),
            Some(([false, true, true], Pattern::Padding)),
            Some(([true, false, false], Pattern::DeadRows)),
        ][mask],
        bias: [None, Some([false; 3]), Some([true, true, false]), Some([false, false, true])][bias],
        sinks: sinks == 1,
        lengths: match lengths {
            0 => Lengths::Same,
            1 => Lengths::Keys(vec![keys, keys / 2, 1]),
            _ => Lengths::Keys(vec![keys / 3, 0, keys]),
        },
        dropout: [None, Some(0.1), Some(0.5)][dropout].map(|p| Dropout {
            p,
            seed: seed ^ (7 << 40),
            offset: 3,
        }),
        splits: 0,
        dlse: dlse == 1,
        deterministic: [None, Some(true), Some(false)][deterministic],
        single: [
            [[false, false], [false, false], [false, false]],
            [[true, false], [false, false], [false, false]],
            [[false, false], [true, false], [false, false]],
            [[false, false], [true, false], [true, false]],
            [[false, true], [false, false], [false, false]],
            [[false, false], [false, true], [false, false]],
        ][broadcast],
        layout: if layout == 1 { Layout::Bshd } else { Layout::Bhsd },
        rank3: layout == 2,
        short: short == 1,
        memory: [
            [Memory::Contiguous; 6],
            [Memory::HeadsInside; 6],
            [Memory::Columns { before: 1, after: 2 }; 6],
        ][memory],
        spread: 1.0,
        seed,
    };
    if layout == 3 {
        // Among the sequences are ones of no and one query or key.
        let some = |n: usize| n.min(2);
        return problem.ragged(vec![
            [queries, keys / 2],
            [0, some(keys)],
            [1, keys],
            [some(queries), 0],
            [queries / 2, 1],
        ]);
    }
    problem
}
