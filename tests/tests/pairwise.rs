//! Every pair of options together, by every backend on every device, against the formulas in f64: forward and all gradients.

use std::collections::BTreeSet;

use flash_attention_conformance::compare::{compare_all, errors};
use flash_attention_conformance::cover::{self, PARAMETERS};
use flash_attention_conformance::devices::{say, targets};
use flash_attention_conformance::unfused::{Precision, unfused};

#[test]
fn the_rows_cover_every_pair_of_options() {
    let (rows, pairs) = (cover::rows(), cover::pairs());
    for pair in &pairs {
        assert!(rows.iter().any(|row| cover::has(row, pair)), "{pair:?} is in no row");
    }
    // Every value is in some pair, so that no parameter is left out of all.
    for (p, (name, values)) in PARAMETERS.iter().enumerate() {
        for (v, value) in values.iter().enumerate() {
            let others: BTreeSet<usize> = pairs
                .iter()
                .filter(|pair| pair.contains(&(p, v)))
                .flat_map(|pair| pair.map(|(other, _)| other))
                .collect();
            assert_eq!(others.len(), PARAMETERS.len(), "{name}: {value} is not crossed with every parameter");
        }
    }
    // Nothing else is in them: only allowed pairs.
    let allowed: BTreeSet<_> = pairs.iter().copied().collect();
    for row in &rows {
        for p in 0..row.len() {
            for q in p + 1..row.len() {
                assert!(allowed.contains(&[(p, row[p]), (q, row[q])]), "{}", cover::describe(row));
            }
        }
    }
}

#[test]
fn every_pair_of_options_agrees_with_the_formulas() {
    let (targets, rows) = (targets(), cover::rows());
    let mut wrong = vec![];
    for (n, row) in rows.iter().enumerate() {
        let problem = cover::problem(row, n as u64);
        let inputs = problem.inputs();
        let expected = problem.truth(&inputs);
        let errors =
            errors(&unfused(&problem, &inputs, Precision::of(problem.dtype)), &expected, problem.dtype);
        for target in &targets {
            let outcome = problem
                .run_on(target, &inputs)
                .and_then(|given| compare_all(&given, &expected, errors, problem.dtype));
            wrong.extend(
                outcome
                    .err()
                    .map(|message| format!("row {n} on {target}: {message}\n  {}", cover::describe(row))),
            );
        }
    }
    say(&format!(
        "{} pairs of options in {} problems, each on {} backends and devices",
        cover::pairs().len(),
        rows.len(),
        targets.len()
    ));
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len() * targets.len(), wrong.join("\n"));
}
