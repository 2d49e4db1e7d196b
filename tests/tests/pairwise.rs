//! Every pair of options together, by every backend on every device, against the formulas in f64: forward and all gradients.

use std::collections::BTreeSet;

use flash_attention::{Backend, Device, EmulatorOptions};
use flash_attention_conformance::compare::{compare_all, compare_forward, errors};
use flash_attention_conformance::cover::{self, PARAMETERS};
use flash_attention_conformance::devices::{Target, say};
use flash_attention_conformance::problem::Problem;
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

/// Runs every row in some form by some of the targets that take it.
fn all_agree(form: fn(Problem) -> Problem, takes: fn(&Target) -> bool) {
    let rows = cover::rows();
    let (mut wrong, mut runs) = (vec![], 0);
    for (n, row) in rows.iter().enumerate() {
        let problem = form(cover::problem(row, n as u64));
        let targets: Vec<Target> = problem.targets().into_iter().filter(takes).collect();
        assert!(!targets.is_empty(), "row {n} runs nowhere: {}", cover::describe(row));
        let inputs = problem.inputs();
        let expected = problem.truth(&inputs);
        let errors =
            errors(&unfused(&problem, &inputs, Precision::of(problem.dtype)), &expected, problem.dtype);
        for target in &targets {
            runs += 1;
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
        "{} pairs of options in {} problems, {runs} runs by backends on devices",
        cover::pairs().len(),
        rows.len(),
    ));
    assert!(wrong.is_empty(), "{} of {runs}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_pair_of_options_agrees_with_the_formulas() {
    all_agree(|problem| problem, |_| true);
}

/// Forward on an emulator of as many multiprocessors as an H100 or H200 has, where Flash divides keys as it does there.
#[test]
fn every_pair_of_options_agrees_with_the_formulas_where_keys_are_divided() {
    let device = Device::emulator_with(EmulatorOptions::default().checks(true).multiprocessors(132));
    let flash = Target::new(&device, Backend::Flash).divided();
    for (n, row) in cover::rows().iter().enumerate() {
        let problem = cover::problem(row, n as u64).for_tensor_cores();
        let inputs = problem.inputs();
        let expected = problem.truth(&inputs);
        let errors =
            errors(&unfused(&problem, &inputs, Precision::of(problem.dtype)), &expected, problem.dtype);
        let given = problem.forward_on(&flash, &inputs).unwrap();
        compare_forward(&given, &expected, errors, problem.dtype)
            .unwrap_or_else(|message| panic!("row {n}: {message}\n  {}", cover::describe(row)));
    }
    let counted = device.take_stats().unwrap();
    let launches = |what: &str| {
        let kernels = counted.iter().filter(|(name, _)| name.starts_with(what));
        kernels.map(|(_, counted)| counted.launches).sum::<u64>()
    };
    let (split, combine) = (launches("flash_split_"), launches("flash_combine_"));
    say(&format!("of {} problems Flash divides {combine} on 132 multiprocessors", cover::rows().len()));
    assert!(split >= combine && combine > 0, "{split} of parts, {combine} put together");
}

/// In f16 and bf16 with rows of whole pieces, so that none is left to another backend.
#[test]
fn every_pair_of_options_agrees_with_the_formulas_by_flash() {
    all_agree(|problem| problem.for_tensor_cores(), |target| target.backend == Backend::Flash);
}
