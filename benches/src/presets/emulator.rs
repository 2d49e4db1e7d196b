//! What the kernels cost, counted by the emulator on the PTX that ships, and how fast the emulator is.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::Table;
use flash_attention::{Backend, Dtype, Error, Result, Statistics, sdpa};
use serde::Serialize;

use crate::arguments::Setup;
use crate::environment::Environment;
use crate::inputs::{Inputs, Tensors};
use crate::output::table;
use crate::plot::Panel;
use crate::report::{Report, bytes, scaled, short};
use crate::summary::Summary;
use crate::timings::progress_bar;
use crate::workload::{Role, Traffic, Workload};

/// What one kernel cost on one workload. Counters are of one launch.
#[derive(Clone, Debug, Serialize)]
struct Cost {
    #[serde(flatten)]
    work: Workload,
    kernel: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    blocks: u64,
    seconds: Summary,
    thread_instructions: u64,
    warp_instructions: u64,
    thread_instructions_per_second: f64,
    thread_instructions_per_second_and_core: f64,
    /// Pairs of a query and a key that it sees.
    scores: u64,
    /// Absent for kernels that touch no scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_instructions_per_score: Option<f64>,
    /// Over the multiply-adds of the kernel's matrix products.
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_instructions_per_multiply_add: Option<f64>,
    global_bytes: Traffic,
    /// If every input were read once and every output written once.
    #[serde(skip_serializing_if = "Option::is_none")]
    global_bytes_minimum: Option<Traffic>,
    #[serde(skip_serializing_if = "Option::is_none")]
    global_bytes_over_minimum: Option<f64>,
    shared_bytes: Traffic,
    barriers: u64,
    /// Warp instructions by mnemonic, the ten most frequent.
    mnemonics: BTreeMap<String, u64>,
}

/// Measures every kernel.
///
/// # Errors
/// Where memory is short. What goes wrong in a kernel is among the failures.
pub fn run(setup: &Setup, environment: Environment) -> Result<Report> {
    let works = works(setup);
    let bar = progress_bar(works.len() as u64);
    let (mut costs, mut failures) = (vec![], vec![]);
    for work in works {
        bar.set_message(work.label());
        match measure(setup, &work) {
            Ok(measured) => costs.extend(measured),
            Err(error) => failures.push(format!("{}: {error}", work.label())),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Report {
        preset: setup.preset.name(),
        results: serde_json::json!(costs),
        tables: vec![speed(&costs), traffic(&costs)],
        notes: vec![
            format!(
                "instructions are those of the PTX times the threads that execute them; speed is a median of {}, on {} cores",
                environment.repeats, environment.threads
            ),
            "the minimum of global bytes reads every input once and writes every output once".into(),
        ],
        panels: vec![panel(&costs)],
        environment,
        failures,
    })
}

fn works(setup: &Setup) -> Vec<Workload> {
    use Dtype::{Bf16, F16, F32};
    let shapes: &[_] = if setup.quick {
        &[(1, 128, 64, false, F16)]
    } else {
        &[
            (4, 512, 64, false, F16),
            (4, 512, 64, true, F16),
            (4, 512, 64, false, F32),
            (4, 512, 32, false, F16),
            (2, 512, 128, false, Bf16),
            (2, 512, 128, true, Bf16),
            (1, 512, 256, false, F16),
        ]
    };
    let work = |&(heads, seq, dim, causal, dtype): &(usize, usize, usize, bool, Dtype)| {
        Workload::square(1, heads, seq, dim, causal, setup.dtype.unwrap_or(dtype))
    };
    let mut works: Vec<Workload> = shapes.iter().map(work).collect();
    // With --dtype some are the same.
    let mut seen = vec![];
    works.retain(|work| {
        !seen.contains(work) && {
            seen.push(*work);
            true
        }
    });
    works
}

/// Forward and backward of every backend that can, as often as the schedule says. Kernels that backends have in common count once.
fn measure(setup: &Setup, work: &Workload) -> Result<Vec<Cost>> {
    let inputs = Inputs::new(&setup.device, work.dtype, std::slice::from_ref(work))?;
    let Tensors { q, k, v, dout } = inputs.view(work)?;
    let attention = || sdpa(&q, &k, &v).causal(work.causal);
    let explanation = attention().explain()?;
    // Each way backward, where a backend has two.
    let ways = |backend| if backend == Backend::Flash { vec![true, false] } else { vec![true] };
    let mut costs: Vec<Cost> = vec![];
    let mut refusal = None;
    for asked in setup.backends() {
        let backend = match explanation.choose(&[asked]) {
            Ok(backend) => backend,
            Err(error) => {
                refusal = Some(error);
                continue;
            }
        };
        for deterministic in ways(backend) {
            let mut runs = vec![];
            for round in 0..setup.schedule.warmup + setup.schedule.repeats {
                attention().backend(backend).deterministic(deterministic).forward()?.backward(&dout)?;
                let counted = setup.device.take_stats().unwrap_or_default();
                if round >= setup.schedule.warmup {
                    runs.push(counted);
                }
            }
            for cost in summarise(work, &runs, setup.threads)? {
                if costs.iter().all(|counted| counted.kernel != cost.kernel) {
                    costs.push(cost);
                }
            }
        }
    }
    costs.sort_by_key(|cost| cost.role.map_or(Role::ALL.len(), |role| role as usize));
    if costs.is_empty() {
        let nothing = || failed("math", "it runs no kernels, so there is nothing to count");
        return Err(refusal.unwrap_or_else(nothing));
    }
    Ok(costs)
}

/// A cost a kernel.
fn summarise(
    work: &Workload,
    runs: &[BTreeMap<&'static str, Statistics>],
    threads: usize,
) -> Result<Vec<Cost>> {
    let Some(last) = runs.last() else { return Ok(vec![]) };
    let mut costs: Vec<Cost> = vec![];
    for (&kernel, counted) in last {
        let all: Vec<&Statistics> = runs.iter().filter_map(|run| run.get(kernel)).collect();
        if all.len() < runs.len() || all.iter().any(|run| !same(run, counted)) {
            return Err(failed(kernel, "its counters differ from one run to the next"));
        }
        let times: Vec<Duration> = all.iter().map(|run| run.elapsed).collect();
        costs.extend(Summary::of(&times).map(|seconds| cost(work, kernel, counted, seconds, threads)));
    }
    Ok(costs)
}

/// Whether two runs of a kernel cost the same: the kernels' work does not depend on anything that varies.
fn same(a: &Statistics, b: &Statistics) -> bool {
    let counters =
        |s: &Statistics| (s.blocks, s.thread_instructions, s.global_load_bytes, s.global_store_bytes);
    counters(a) == counters(b)
}

fn failed(kernel: &'static str, reason: &str) -> Error {
    Error::Kernel { kernel, device: "emulator".into(), reason: reason.into() }
}

fn cost(work: &Workload, kernel: &str, counted: &Statistics, seconds: Summary, threads: usize) -> Cost {
    let role = Role::of(kernel);
    let instructions = counted.thread_instructions as f64;
    let launches = counted.launches.max(1);
    let per_second = instructions / seconds.median;
    // A grid of fewer blocks than cores leaves some idle.
    let cores = (threads as u64).min(counted.blocks / launches).max(1);
    let scores = work.scores();
    let per_score = role
        .filter(|role| !matches!(role, Role::Delta | Role::GradConvert))
        .map(|_| instructions / scores as f64);
    let products = role.and_then(|role| role.multiply_adds(work));
    let global_bytes = Traffic { load: counted.global_load_bytes, store: counted.global_store_bytes };
    let minimum = role.map(|role| role.minimum_bytes(work));
    Cost {
        work: *work,
        kernel: kernel.into(),
        role,
        blocks: counted.blocks,
        seconds,
        thread_instructions: counted.thread_instructions,
        warp_instructions: counted.warp_instructions,
        thread_instructions_per_second: per_second,
        thread_instructions_per_second_and_core: per_second / cores as f64,
        scores,
        thread_instructions_per_score: per_score,
        thread_instructions_per_multiply_add: per_score.zip(products).map(|(n, p)| n / p as f64),
        global_bytes,
        global_bytes_minimum: minimum,
        global_bytes_over_minimum: minimum.map(|m| global_bytes.total() as f64 / m.total() as f64),
        shared_bytes: Traffic { load: counted.shared_load_bytes, store: counted.shared_store_bytes },
        barriers: counted.barriers,
        mnemonics: most_frequent(&counted.mnemonics),
    }
}

/// The ten most frequent mnemonics.
fn most_frequent(mnemonics: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut all: Vec<(&String, &u64)> = mnemonics.iter().collect();
    all.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
    all.into_iter().take(10).map(|(name, count)| (name.clone(), *count)).collect()
}

fn optional(number: Option<f64>) -> String {
    number.map_or_else(|| "-".into(), short)
}

fn speed(costs: &[Cost]) -> Table {
    let heading = [
        "batch x heads x seq",
        "kernel",
        "wall ms",
        "thread instr.",
        "instr./s",
        "per core",
        "instr./score",
        "per multiply-add",
    ];
    let mut rows = table(&heading, 2);
    for cost in costs {
        rows.add_row([
            cost.work.label(),
            cost.kernel.clone(),
            short(cost.seconds.median * 1e3),
            scaled(cost.thread_instructions as f64),
            scaled(cost.thread_instructions_per_second),
            scaled(cost.thread_instructions_per_second_and_core),
            optional(cost.thread_instructions_per_score),
            optional(cost.thread_instructions_per_multiply_add),
        ]);
    }
    rows
}

fn traffic(costs: &[Cost]) -> Table {
    let heading = [
        "batch x heads x seq",
        "kernel",
        "global load",
        "global store",
        "minimum",
        "of minimum",
        "shared load",
        "shared store",
        "barriers",
    ];
    let mut rows = table(&heading, 2);
    for cost in costs {
        let minimum = cost.global_bytes_minimum.map_or_else(|| "-".into(), |m| bytes(m.total()));
        rows.add_row([
            cost.work.label(),
            cost.kernel.clone(),
            bytes(cost.global_bytes.load),
            bytes(cost.global_bytes.store),
            minimum,
            cost.global_bytes_over_minimum.map_or_else(|| "-".into(), |ratio| format!("{} x", short(ratio))),
            bytes(cost.shared_bytes.load),
            bytes(cost.shared_bytes.store),
            cost.barriers.to_string(),
        ]);
    }
    rows
}

fn panel(costs: &[Cost]) -> Panel {
    let column = |value: &dyn Fn(&Cost) -> Option<f64>| costs.iter().map(value).collect::<Vec<_>>();
    Panel::Bars {
        title: "kernels on the emulator (batch x heads x seq)".into(),
        groups: costs.iter().map(|cost| cost.work.label()).collect(),
        labels: costs.iter().map(|cost| cost.kernel.clone()).collect(),
        columns: vec![
            (
                "M thread instructions / s / core".into(),
                column(&|cost| Some(cost.thread_instructions_per_second_and_core / 1e6)),
            ),
            ("thread instructions / score".into(), column(&|cost| cost.thread_instructions_per_score)),
            ("global bytes / minimum".into(), column(&|cost| cost.global_bytes_over_minimum)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(kernel: &str) -> Cost {
        let work = Workload::square(1, 2, 100, 50, false, Dtype::F32);
        let mut statistics = Statistics::default();
        statistics.launches = 1;
        statistics.blocks = 2;
        statistics.thread_instructions = 4_000_000;
        statistics.global_load_bytes = 160_000;
        statistics.global_store_bytes = 1_600;
        let seconds = Summary { median: 0.01, min: 0.01, max: 0.01, repeats: 1 };
        cost(&work, kernel, &statistics, seconds, 8)
    }

    #[test]
    fn speed_is_by_the_cores_that_have_blocks() {
        let cost = counted("forward_f32_d64");
        assert_eq!(cost.thread_instructions_per_second, 4e8);
        assert_eq!(cost.thread_instructions_per_second_and_core, 2e8);
    }

    #[test]
    fn instructions_are_counted_against_scores_and_products() {
        let cost = counted("forward_f32_d64");
        assert_eq!(cost.thread_instructions_per_score, Some(200.0));
        assert_eq!(cost.thread_instructions_per_multiply_add, Some(2.0));
        // q, k, v, out of 40000 bytes each and lse of 800.
        assert!((cost.global_bytes_over_minimum.unwrap() - 161_600.0 / 160_800.0).abs() < 1e-12);
    }

    #[test]
    fn kernels_without_scores_or_of_unknown_names_have_no_ratio() {
        assert_eq!(counted("delta_f32").thread_instructions_per_score, None);
        assert_eq!(counted("something_else").global_bytes_over_minimum, None);
    }

    #[test]
    fn tables_have_a_row_a_kernel() {
        let costs = [counted("forward_f32_d64"), counted("something_else")];
        assert_eq!((speed(&costs).row_count(), traffic(&costs).row_count()), (2, 2));
    }
}
