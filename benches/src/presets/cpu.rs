//! The `Math` backend on the CPU, on small shapes: the reference is for reading, and this says what that costs.

use flash_attention::{Dtype, Result};

use crate::arguments::Setup;
use crate::environment::Environment;
use crate::plot::Panel;
use crate::report::Report;
use crate::timings;
use crate::workload::{Pass, Workload};

/// Measures it.
///
/// # Errors
/// Where memory is short.
pub fn run(setup: &Setup, environment: Environment) -> Result<Report> {
    let dtype = setup.dtype.unwrap_or(Dtype::F32);
    let shapes: &[_] = if setup.quick {
        &[(4, 64, 64, false)]
    } else {
        &[
            (8, 256, 64, false),
            (8, 256, 64, true),
            (8, 256, 128, false),
            (2, 1024, 64, false),
            (2, 1024, 64, true),
        ]
    };
    let works: Vec<Workload> = shapes
        .iter()
        .map(|&(heads, seq, dim, causal)| Workload::square(1, heads, seq, dim, causal, dtype))
        .collect();
    let timings = timings::measure(setup, &works, &Pass::BOTH, &environment.description)?;
    let rows = timings
        .rows
        .iter()
        .map(|row| (format!("{}, {}", row.pass.name(), row.work.label()), row.tflops * 1e3));
    let (labels, values) = rows.unzip();
    let panel = Panel::bars("Math on the CPU", labels, vec![("GFLOP/s", values)]);
    Ok(super::timed(setup, environment, timings, (("ms", 1e3), ("GFLOP/s", 1e3)), vec![panel]))
}
