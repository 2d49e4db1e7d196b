//! Workloads timed on every backend that can run them.

use std::collections::BTreeMap;

use comfy_table::Table;
use flash_attention::{Backend, Result, sdpa};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::arguments::Setup;
use crate::inputs::{Inputs, Tensors};
use crate::measure::{self, Work};
use crate::output::table;
use crate::peak;
use crate::report::short;
use crate::summary::Summary;
use crate::workload::{Pass, Workload};

/// One workload on one backend.
#[derive(Clone, Debug, Serialize)]
pub struct Timing {
    /// What was computed.
    #[serde(flatten)]
    pub work: Workload,
    /// Forward or backward.
    pub pass: Pass,
    /// By which backend.
    pub backend: &'static str,
    /// How long it took.
    pub seconds: Summary,
    /// Operations by [`Workload::flops`] over the median time.
    pub tflops: f64,
    /// Of the device's peak, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent_of_peak: Option<f64>,
}

/// Everything that was timed.
#[derive(Debug, Default)]
pub struct Timings {
    /// One row a workload, pass and backend.
    pub rows: Vec<Timing>,
    /// Backends that refused, each with its words.
    pub refusals: BTreeMap<&'static str, String>,
    /// What went wrong.
    pub failures: Vec<String>,
}

/// Times every workload (all of one storage type) in every pass.
///
/// # Errors
/// Where the inputs do not fit on the device. What goes wrong later is among the failures.
pub fn measure(setup: &Setup, works: &[Workload], passes: &[Pass], description: &str) -> Result<Timings> {
    let Some(first) = works.first() else { return Ok(Timings::default()) };
    let bar = progress_bar((works.len() * passes.len()) as u64);
    bar.set_message("inputs");
    let inputs = Inputs::new(&setup.device, first.dtype, works)?;
    let mut timings = Timings::default();
    for work in works {
        let peak = peak::tflops(description, inputs.dtype());
        for &pass in passes {
            bar.set_message(format!("{} {}", work.label(), pass.name()));
            if let Err(error) = timings.add(setup, &inputs.view(work)?, work, pass, peak) {
                timings.failures.push(format!("{} {}: {error}", work.label(), pass.name()));
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    if timings.rows.is_empty() && timings.failures.is_empty() {
        let refusals: Vec<String> = timings.refusals.values().cloned().collect();
        timings.failures.push(format!("nothing was measured: {}", refusals.join("; ")));
    }
    Ok(timings)
}

/// A bar on stderr, which draws nothing where that is not a terminal.
pub fn progress_bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{pos}/{len} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar
}

impl Timings {
    /// Times one workload in one pass on every backend that can.
    fn add(
        &mut self,
        setup: &Setup,
        tensors: &Tensors,
        work: &Workload,
        pass: Pass,
        peak: Option<f64>,
    ) -> Result<()> {
        let Tensors { q, k, v, dout } = tensors;
        let attention = || sdpa(q, k, v).causal(work.causal);
        let explanation = attention().explain()?;
        let mut backends = vec![];
        for asked in setup.backends() {
            match explanation.choose(&[asked]) {
                Ok(backend) => backends.push(backend),
                Err(error) => drop(self.refusals.insert(asked.name(), error.to_string())),
            }
        }
        let mut works: Vec<Work<'_>> = vec![];
        for &backend in &backends {
            works.push(match pass {
                Pass::Forward => Box::new(move || attention().backend(backend).run().map(drop)),
                Pass::Backward => {
                    let forward = attention().backend(backend).forward()?;
                    Box::new(move || forward.backward(dout).map(drop))
                }
            });
        }
        let summaries = measure::in_turn(&setup.device, setup.schedule, &mut works);
        for (backend, summary) in backends.into_iter().zip(summaries) {
            match summary {
                Ok(Some(seconds)) => self.rows.push(timing(work, pass, backend, seconds, peak)),
                Ok(None) => {}
                Err(error) => {
                    self.failures.push(format!("{} {} {backend}: {error}", work.label(), pass.name()));
                }
            }
        }
        Ok(())
    }

    /// A note for each backend that refused.
    pub fn notes(&self) -> Vec<String> {
        self.refusals.values().map(|words| format!("not measured: {words}")).collect()
    }

    /// A table in a unit of time (its name, and how many are a second) and of work (its name, and how many are a TFLOP/s).
    pub fn table(&self, time: (&str, f64), speed: (&str, f64)) -> Table {
        let [median, least, most] = ["median", "min", "max"].map(|word| format!("{word} {}", time.0));
        let heading =
            ["batch x heads x seq", "pass", "backend", &median, &least, &most, speed.0, "% of peak"];
        let peak = self.rows.iter().any(|row| row.percent_of_peak.is_some());
        let columns = if peak { heading.len() } else { heading.len() - 1 };
        let mut rows = table(&heading[..columns], 3);
        for row in &self.rows {
            let Timing { work, pass, backend, seconds, tflops, percent_of_peak } = row;
            let mut cells = vec![work.label(), pass.name().into(), (*backend).into()];
            cells.extend([seconds.median, seconds.min, seconds.max].map(|s| short(s * time.1)));
            cells.push(short(tflops * speed.1));
            if peak {
                cells.push(percent_of_peak.map_or_else(String::new, short));
            }
            rows.add_row(cells);
        }
        rows
    }
}

fn timing(work: &Workload, pass: Pass, backend: Backend, seconds: Summary, peak: Option<f64>) -> Timing {
    let tflops = work.flops(pass) / seconds.median / 1e12;
    Timing {
        work: *work,
        pass,
        backend: backend.name(),
        seconds,
        tflops,
        percent_of_peak: peak.map(|peak| 100.0 * tflops / peak),
    }
}

#[cfg(test)]
mod tests {
    use flash_attention::Dtype;

    use super::*;

    fn timings(peak: Option<f64>) -> Timings {
        let work = Workload::square(1, 1, 1000, 50, false, Dtype::F16);
        let seconds = Summary { median: 2e-4, min: 1e-4, max: 4e-4, repeats: 3 };
        let rows = vec![timing(&work, Pass::Forward, Backend::Efficient, seconds, peak)];
        Timings { rows, ..Timings::default() }
    }

    #[test]
    fn speed_is_operations_over_the_median() {
        let row = timings(Some(10.0)).rows.remove(0);
        // 4 * 1000 * 1000 * 50 operations in 200 microseconds.
        assert!((row.tflops - 1.0).abs() < 1e-12);
        assert!((row.percent_of_peak.unwrap() - 10.0).abs() < 1e-12);
    }

    #[test]
    fn tables_have_units_and_the_peak_only_where_it_is_known() {
        let units = (("µs", 1e6), ("GFLOP/s", 1e3));
        let text = timings(None).table(units.0, units.1).to_string();
        assert!(text.contains("median µs") && text.contains("1000") && !text.contains("peak"), "{text}");
        let text = timings(Some(10.0)).table(units.0, units.1).to_string();
        assert!(text.contains("% of peak") && text.contains("10.0"), "{text}");
    }
}
