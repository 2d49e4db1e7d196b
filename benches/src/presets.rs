//! What can be measured, one preset a file.

mod cpu;
mod emulator;
mod model;
mod nested;
mod sweep;
mod tutorial;

use crate::arguments::{Preset, Setup};
use crate::environment::Environment;
use crate::plot::Panel;
use crate::report::Report;
use crate::timings::Timings;

/// Measures the preset of `setup`.
///
/// # Errors
/// Where nothing could be measured at all.
pub fn run(setup: &Setup) -> Result<Report, String> {
    let environment = Environment::new(setup);
    let report = match setup.preset {
        Preset::Tutorial => tutorial::run(setup, environment),
        Preset::Sweep => sweep::run(setup, environment),
        Preset::Nested => nested::run(setup, environment),
        Preset::Emulator => emulator::run(setup, environment),
        Preset::Model => model::run(setup, environment),
        Preset::Cpu => cpu::run(setup, environment),
    };
    let mut report = report.map_err(|error| error.to_string())?;
    if cfg!(debug_assertions) {
        report.notes.push("this is a debug build: its numbers mean little".into());
    }
    Ok(report)
}

/// The report of a preset that takes times.
fn timed(
    setup: &Setup,
    environment: Environment,
    timings: Timings,
    units: ((&str, f64), (&str, f64)),
    panels: Vec<Panel>,
) -> Report {
    let mut notes = setup.notes();
    notes.extend(timings.notes());
    if environment.cold_l2 {
        notes.push("times are from device events around the kernels, each with a cold L2 cache".into());
    }
    Report {
        preset: setup.preset.name(),
        environment,
        results: serde_json::json!(timings.rows),
        tables: vec![timings.table(units.0, units.1)],
        notes,
        panels,
        failures: timings.failures,
    }
}
