//! The comparison on the emulator: instructions and bytes of all kernels of a pass together.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::Table;
use flash_attention::{Error, Result, Statistics};
use serde::Serialize;

use super::{Batch, Measured, Run, ragged};
use crate::arguments::Setup;
use crate::output::table;
use crate::plot::Panel;
use crate::report::{bytes, scaled, short};
use crate::summary::Summary;
use crate::timings::progress_bar;
use crate::workload::{Pass, Traffic};

/// What all kernels of a pass cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Cost {
    thread_instructions: u64,
    global_bytes: Traffic,
    shared_bytes: Traffic,
    seconds: Summary,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    run: Run,
    lengths: &'a [usize],
    #[serde(flatten)]
    cost: Cost,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_instructions_over_ragged: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    global_bytes_over_ragged: Option<f64>,
}

/// Counts every run. What goes wrong is among the failures.
pub fn measure(setup: &Setup, batch: &Batch, runs: &[Run]) -> Measured {
    let bar = progress_bar(runs.len() as u64);
    let (mut costs, mut failures) = (vec![], vec![]);
    for run in runs {
        bar.set_message(format!("{} {}", run.pass.name(), run.variant.name()));
        match cost(setup, batch, run) {
            Ok(cost) => costs.push((*run, cost)),
            Err(error) => failures.push(format!("{} {}: {error}", run.pass.name(), run.variant.name())),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let rows: Vec<Row<'_>> = costs
        .iter()
        .map(|(run, cost)| Row {
            run: *run,
            lengths: &batch.lengths,
            cost: *cost,
            thread_instructions_over_ragged: over_ragged(&costs, run, cost, instructions),
            global_bytes_over_ragged: over_ragged(&costs, run, cost, global),
        })
        .collect();
    Measured { rows: serde_json::json!(rows), table: print(&costs), panel: panel(&costs), failures }
}

/// One pass, as often as the schedule says; its counts are the same every time.
fn cost(setup: &Setup, batch: &Batch, run: &Run) -> Result<Cost> {
    let (mut times, mut counted) = (vec![], None);
    let taken = || setup.device.take_stats().unwrap_or_default();
    for round in 0..setup.schedule.warmup + setup.schedule.repeats {
        taken();
        let forward = run.variant.attention(batch).backend(run.backend).forward()?;
        if run.pass == Pass::Backward {
            taken();
            forward.backward(run.variant.dout(batch))?;
        }
        let statistics = taken();
        if round >= setup.schedule.warmup {
            times.push(statistics.values().map(|kernel| kernel.elapsed).sum::<Duration>());
            let sums = sums(&statistics);
            if *counted.get_or_insert(sums) != sums {
                return Err(odd(run, "the counters differ from one run to the next"));
            }
        }
    }
    match (counted, Summary::of(&times)) {
        (Some((thread_instructions, global_bytes, shared_bytes)), Some(seconds))
            if thread_instructions > 0 =>
        {
            Ok(Cost { thread_instructions, global_bytes, shared_bytes, seconds })
        }
        _ => Err(odd(run, "it ran no kernels, so there is nothing to count")),
    }
}

fn odd(run: &Run, reason: &str) -> Error {
    Error::Kernel { kernel: run.backend.name(), device: "emulator".into(), reason: reason.into() }
}

/// Thread instructions, global and shared bytes of all kernels.
fn sums(statistics: &BTreeMap<&'static str, Statistics>) -> (u64, Traffic, Traffic) {
    let sum = |counter: fn(&Statistics) -> u64| statistics.values().map(counter).sum();
    (
        sum(|kernel| kernel.thread_instructions),
        Traffic {
            load: sum(|kernel| kernel.global_load_bytes),
            store: sum(|kernel| kernel.global_store_bytes),
        },
        Traffic {
            load: sum(|kernel| kernel.shared_load_bytes),
            store: sum(|kernel| kernel.shared_store_bytes),
        },
    )
}

fn instructions(cost: &Cost) -> f64 {
    cost.thread_instructions as f64
}

fn global(cost: &Cost) -> f64 {
    cost.global_bytes.total() as f64
}

fn over_ragged(all: &[(Run, Cost)], run: &Run, cost: &Cost, value: fn(&Cost) -> f64) -> Option<f64> {
    ragged(all, run, value).map(|base| value(cost) / base)
}

fn print(costs: &[(Run, Cost)]) -> Table {
    let heading = ["pass", "batch", "backend", "thread instr.", "x ragged", "global bytes", "x ragged"];
    let mut rows = table(&heading, 3);
    for (run, cost) in costs {
        let ratio = |value| over_ragged(costs, run, cost, value).map_or_else(|| "-".into(), short);
        rows.add_row([
            run.pass.name().into(),
            run.variant.name().into(),
            run.backend.name().into(),
            scaled(instructions(cost)),
            ratio(instructions),
            bytes(cost.global_bytes.total()),
            ratio(global),
        ]);
    }
    rows
}

fn panel(costs: &[(Run, Cost)]) -> Panel {
    let column = |value: &dyn Fn(&Cost) -> f64| costs.iter().map(|(_, cost)| Some(value(cost))).collect();
    Panel::Bars {
        title: "ragged and dense batches on the emulator".into(),
        groups: costs.iter().map(|(run, _)| format!("{}, {}", run.pass.name(), run.backend)).collect(),
        labels: costs.iter().map(|(run, _)| run.variant.name().into()).collect(),
        columns: vec![
            ("G thread instructions".into(), column(&|cost| instructions(cost) / 1e9)),
            ("MiB of global memory".into(), column(&|cost| global(cost) / f64::from(1 << 20))),
        ],
    }
}

#[cfg(test)]
mod tests {
    use flash_attention::{Backend, Device, Dtype};

    use super::*;
    use crate::presets::nested::Variant;

    #[test]
    fn the_kernels_of_a_pass_add_up() {
        let mut kernel = Statistics::default();
        kernel.thread_instructions = 5;
        kernel.global_load_bytes = 7;
        kernel.shared_store_bytes = 11;
        let statistics = BTreeMap::from([("delta_f16", kernel.clone()), ("grad_query_f16_d64", kernel)]);
        let sums = sums(&statistics);
        assert_eq!(sums, (10, Traffic { load: 14, store: 0 }, Traffic { load: 0, store: 22 }));
    }

    #[test]
    fn ratios_are_to_the_ragged_run_of_the_same_pass() {
        let cost = |thread_instructions| Cost {
            thread_instructions,
            global_bytes: Traffic { load: 1, store: 1 },
            shared_bytes: Traffic::default(),
            seconds: Summary { median: 1.0, min: 1.0, max: 1.0, repeats: 1 },
        };
        let run = |pass, variant| Run { pass, variant, backend: Backend::Efficient };
        let all = [
            (run(Pass::Forward, Variant::Ragged), cost(10)),
            (run(Pass::Forward, Variant::Dense), cost(40)),
            (run(Pass::Backward, Variant::Dense), cost(50)),
        ];
        let ratio = |i: usize| over_ragged(&all, &all[i].0, &all[i].1, instructions);
        assert_eq!([0, 1, 2].map(ratio), [Some(1.0), Some(4.0), None]);
        assert_eq!(print(&all).row_count(), 3);
    }

    #[test]
    fn ragged_costs_less_than_any_padding() {
        let device = Device::emulator();
        let batch = Batch::new(&device, Dtype::F16, 3, 128, 1).unwrap();
        let counted = |variant: Variant| {
            variant.attention(&batch).run().unwrap();
            sums(&device.take_stats().unwrap())
        };
        let [ragged, dense, lengths, mask] = Variant::ALL.map(counted);
        for other in [dense, lengths, mask] {
            assert!(ragged.0 < other.0 && ragged.1.total() < other.1.total(), "{ragged:?} {other:?}");
        }
        assert!(lengths.0 < dense.0 && dense.0 < mask.0, "{lengths:?} {dense:?} {mask:?}");
    }
}
