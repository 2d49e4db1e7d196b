//! The comparison of PyTorch's tutorial on scaled dot product attention: forward of every backend, in microseconds.

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
/// Where the inputs do not fit on the device.
pub fn run(setup: &Setup, environment: Environment) -> Result<Report> {
    let dtype = setup.dtype.unwrap_or(Dtype::F16);
    let (batch, heads) = if setup.quick { (4, 8) } else { (32, 32) };
    let work = Workload::square(batch, heads, 1024, 32, false, dtype);
    let timings = timings::measure(setup, &[work], &[Pass::Forward], &environment.description)?;
    let rows = timings.rows.iter().map(|row| (row.backend.to_string(), row.seconds.median * 1e6));
    let (labels, values): (Vec<_>, Vec<_>) = rows.unzip();
    let panel = Panel::bars(&format!("forward, {}", work.label()), labels, vec![("µs", values)]);
    Ok(super::timed(setup, environment, timings, (("µs", 1e6), ("TFLOP/s", 1.0)), vec![panel]))
}
