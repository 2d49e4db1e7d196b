//! Ragged against padded batches, the comparison of nested and dense tensors in PyTorch's tutorial on scaled dot product
//! attention: batch 32, at most 512 tokens, half of the places padding, 8 heads of 64, not causal. A GPU is timed, the emulator
//! counts.

mod batch;
mod count;
mod time;

use comfy_table::Table;
use flash_attention::{Backend, Dtype, Kind, Result};
use serde::Serialize;

use crate::arguments::Setup;
use crate::environment::Environment;
use crate::plot::Panel;
use crate::report::Report;
use crate::workload::Pass;

use batch::{Batch, Variant};

/// What was computed, and by whom.
#[derive(Clone, Copy, Debug, Serialize)]
struct Run {
    pass: Pass,
    variant: Variant,
    #[serde(serialize_with = "backend_name")]
    backend: Backend,
}

fn backend_name<S: serde::Serializer>(
    backend: &Backend,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(backend.name())
}

/// What a way of measuring found out.
struct Measured {
    /// One JSON object a run.
    rows: serde_json::Value,
    table: Table,
    panel: Panel,
    failures: Vec<String>,
}

/// Measures it.
///
/// # Errors
/// Where the inputs do not fit on the device.
pub fn run(setup: &Setup, environment: Environment) -> Result<Report> {
    let emulated = setup.device.kind() == Kind::Emulator;
    let dtype = setup.dtype.unwrap_or(Dtype::F16);
    let (entries, longest) = if setup.quick { (4, 64) } else { (32, 512) };
    let heads = if emulated { 1 } else { 8 };
    let batch = Batch::new(&setup.device, dtype, entries, longest, heads)?;
    let (runs, mut notes) = runs(setup, &batch)?;
    let mut measured =
        if emulated { count::measure(setup, &batch, &runs) } else { time::measure(setup, &batch, &runs) };
    if runs.is_empty() {
        measured.failures.push(format!("nothing was measured: {}", notes.join("; ")));
    }
    let places = entries * longest;
    let tokens: usize = batch.lengths.iter().sum();
    let pairs: usize = batch.lengths.iter().map(|n| n * n).sum();
    notes.insert(0, batch.label());
    notes.push(format!(
        "{tokens} of {places} places are tokens ({:.1} %), and {:.1} % of the pairs of a query and a key: dense is {:.2} x that",
        percent(tokens, places),
        percent(pairs, places * longest),
        (places * longest) as f64 / pairs as f64
    ));
    if emulated {
        notes.push(
            "1 head in place of 8, because every head costs the same; instructions and bytes are counted"
                .into(),
        );
    }
    if environment.cold_l2 {
        notes.push("times are from device events around the kernels, each with a cold L2 cache".into());
    }
    Ok(Report {
        preset: setup.preset.name(),
        environment,
        results: measured.rows,
        tables: vec![measured.table],
        notes,
        panels: vec![measured.panel],
        failures: measured.failures,
    })
}

/// Every variant, forward and backward, on every backend that can; and in words why others are not measured.
fn runs(setup: &Setup, batch: &Batch) -> Result<(Vec<Run>, Vec<String>)> {
    let (mut runs, mut notes) = (vec![], setup.notes());
    for pass in Pass::BOTH {
        for asked in setup.backends() {
            for variant in Variant::ALL {
                match variant.attention(batch).explain()?.choose(&[asked]) {
                    Ok(backend) => runs.push(Run { pass, variant, backend }),
                    Err(error) => notes.push(format!("not measured: {error}")),
                }
            }
        }
    }
    notes.dedup();
    Ok((runs, notes))
}

fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole as f64
}

/// The cost of the ragged run of the same pass and backend, if it is there.
fn ragged<T>(all: &[(Run, T)], run: &Run, cost: impl Fn(&T) -> f64) -> Option<f64> {
    let same = |other: &Run| {
        other.pass == run.pass && other.backend == run.backend && other.variant == Variant::Ragged
    };
    all.iter().find(|(other, _)| same(other)).map(|(_, found)| cost(found))
}
