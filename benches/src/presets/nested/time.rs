//! The comparison on a GPU: median times, the variants in turn.

use comfy_table::Table;
use flash_attention::Result;
use serde::Serialize;

use super::{Batch, Measured, Run, ragged};
use crate::arguments::Setup;
use crate::measure::{self, Work};
use crate::output::table;
use crate::plot::Panel;
use crate::report::short;
use crate::summary::Summary;
use crate::workload::Pass;

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    run: Run,
    lengths: &'a [usize],
    seconds: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_over_ragged: Option<f64>,
}

/// Times every run. What goes wrong is among the failures.
pub fn measure(setup: &Setup, batch: &Batch, runs: &[Run]) -> Measured {
    let (mut times, mut failures) = (vec![], vec![]);
    let mut works: Vec<(Run, Work<'_>)> = vec![];
    for &run in runs {
        match work(batch, run) {
            Ok(work) => works.push((run, work)),
            Err(error) => failures.push(format!("{} {}: {error}", run.pass.name(), run.variant.name())),
        }
    }
    let (runs, mut works): (Vec<Run>, Vec<Work<'_>>) = works.into_iter().unzip();
    let summaries = measure::in_turn(&setup.device, setup.schedule, &mut works);
    for (run, summary) in runs.into_iter().zip(summaries) {
        match summary {
            Ok(seconds) => times.extend(seconds.map(|seconds| (run, seconds))),
            Err(error) => failures.push(format!("{} {}: {error}", run.pass.name(), run.variant.name())),
        }
    }
    let rows: Vec<Row<'_>> = times
        .iter()
        .map(|&(run, seconds)| Row {
            run,
            lengths: &batch.lengths,
            seconds,
            seconds_over_ragged: over_ragged(&times, &run, &seconds),
        })
        .collect();
    Measured { rows: serde_json::json!(rows), table: print(&times), panel: panel(&times), failures }
}

/// One pass. Backward repeats with what one forward kept.
fn work(batch: &Batch, run: Run) -> Result<Work<'_>> {
    let attention = move || run.variant.attention(batch).backend(run.backend);
    Ok(match run.pass {
        Pass::Forward => Box::new(move || attention().run().map(drop)),
        Pass::Backward => {
            let forward = attention().forward()?;
            Box::new(move || forward.backward(run.variant.dout(batch)).map(drop))
        }
    })
}

fn over_ragged(all: &[(Run, Summary)], run: &Run, seconds: &Summary) -> Option<f64> {
    ragged(all, run, |summary| summary.median).map(|base| seconds.median / base)
}

fn print(times: &[(Run, Summary)]) -> Table {
    let mut rows = table(&["pass", "batch", "backend", "median µs", "min µs", "max µs", "x ragged"], 3);
    for (run, seconds) in times {
        let mut cells: Vec<String> =
            vec![run.pass.name().into(), run.variant.name().into(), run.backend.name().into()];
        cells.extend([seconds.median, seconds.min, seconds.max].map(|s| short(s * 1e6)));
        cells.push(over_ragged(times, run, seconds).map_or_else(|| "-".into(), short));
        rows.add_row(cells);
    }
    rows
}

fn panel(times: &[(Run, Summary)]) -> Panel {
    Panel::Bars {
        title: "ragged and dense batches".into(),
        groups: times.iter().map(|(run, _)| format!("{}, {}", run.pass.name(), run.backend)).collect(),
        labels: times.iter().map(|(run, _)| run.variant.name().into()).collect(),
        columns: vec![("µs".into(), times.iter().map(|(_, seconds)| Some(seconds.median * 1e6)).collect())],
    }
}

#[cfg(test)]
mod tests {
    use flash_attention::{Backend, Device, Dtype};

    use super::*;
    use crate::arguments::{Preset, Schedule};
    use crate::presets::nested::{Variant, runs};

    #[test]
    fn every_variant_is_timed_forward_and_backward_with_its_ratio() {
        let device = Device::cpu();
        let batch = Batch::new(&device, Dtype::F32, 3, 16, 1).unwrap();
        let setup = Setup {
            preset: Preset::Nested,
            device,
            threads: 1,
            backend: Some(Backend::Math),
            dtype: None,
            schedule: Schedule { warmup: 0, repeats: 2 },
            quick: true,
            json: None,
            plot: None,
        };
        let (runs, notes) = runs(&setup, &batch).unwrap();
        assert_eq!((runs.len(), notes.len()), (8, 0));
        let measured = measure(&setup, &batch, &runs);
        assert!(measured.failures.is_empty(), "{:?}", measured.failures);
        let rows = measured.rows.as_array().unwrap();
        assert_eq!((rows.len(), measured.table.row_count()), (8, 8));
        for (i, row) in rows.iter().enumerate() {
            assert_eq!(row["variant"], Variant::ALL[i % 4].name());
            assert_eq!(row["pass"], if i < 4 { "forward" } else { "backward" });
            let ratio = row["seconds"]["median"].as_f64().unwrap()
                / rows[i / 4 * 4]["seconds"]["median"].as_f64().unwrap();
            assert!((row["seconds_over_ragged"].as_f64().unwrap() - ratio).abs() < 1e-9);
        }
    }
}
