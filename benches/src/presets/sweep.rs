//! The sweep of the FlashAttention papers: batch * seq = 16384, hidden 2048, every sequence length, forward and backward.

use flash_attention::{Causal, Dtype, Result};

use crate::arguments::Setup;
use crate::environment::Environment;
use crate::plot::{Panel, Series};
use crate::report::Report;
use crate::timings::{self, Timing, Timings};
use crate::workload::{Pass, Workload};

/// Queries of all batch entries together.
const TOKENS: usize = 16384;

/// Columns of all heads together.
const HIDDEN: usize = 2048;

const HEAD_DIMS: [usize; 3] = [64, 128, 256];
const LENGTHS: [usize; 6] = [512, 1024, 2048, 4096, 8192, 16384];

/// Measures it.
///
/// # Errors
/// Where the inputs do not fit on the device.
pub fn run(setup: &Setup, environment: Environment) -> Result<Report> {
    let dtype = setup.dtype.unwrap_or(Dtype::F16);
    let works = works(dtype, if setup.quick { &[512, 4096] } else { &LENGTHS });
    let timings = timings::measure(setup, &works, &Pass::BOTH, &environment.description)?;
    let panels =
        Pass::BOTH.into_iter().flat_map(|pass| HEAD_DIMS.map(|dim| panel(&timings, pass, dim, dtype)));
    let panels = panels.collect();
    Ok(super::timed(setup, environment, timings, (("ms", 1e3), ("TFLOP/s", 1.0)), panels))
}

fn works(dtype: Dtype, lengths: &[usize]) -> Vec<Workload> {
    let mut works = vec![];
    for dim in HEAD_DIMS {
        for causal in [false, true] {
            for &seq in lengths {
                works.push(Workload::square(TOKENS / seq, HIDDEN / dim, seq, dim, causal, dtype));
            }
        }
    }
    works
}

/// Speed over sequence length, a line a backend and mask.
fn panel(timings: &Timings, pass: Pass, dim: usize, dtype: Dtype) -> Panel {
    let rows = || timings.rows.iter().filter(|row| row.pass == pass && row.work.head_dim == dim);
    let name = |row: &Timing| match row.work.causal {
        Causal::None => row.backend.to_string(),
        _ => format!("{}, causal", row.backend),
    };
    let mut names: Vec<String> = rows().map(name).collect();
    names.sort();
    names.dedup();
    let mut lengths: Vec<usize> = rows().map(|row| row.work.queries).collect();
    lengths.sort_unstable();
    lengths.dedup();
    let series = names.into_iter().map(|wanted| {
        let at = |length: &usize| {
            rows().find(|row| name(row) == wanted && row.work.queries == *length).map(|row| row.tflops)
        };
        Series { values: lengths.iter().map(at).collect(), name: wanted }
    });
    Panel::Lines {
        title: format!("{}, d {dim}, {dtype}", pass.name()),
        x_title: "sequence length".into(),
        unit: "TFLOP/s".into(),
        series: series.collect(),
        x: lengths.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_has_the_same_number_of_elements() {
        let works = works(Dtype::F16, &LENGTHS);
        assert_eq!(works.len(), 36);
        for work in works {
            assert_eq!(work.batch * work.queries, TOKENS);
            assert_eq!(work.heads * work.head_dim, HIDDEN);
        }
    }
}
