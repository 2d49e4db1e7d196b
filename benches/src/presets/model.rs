//! What kernels ask of a GPU, counted by the emulator, `Efficient` forward and all of `Flash`: the numbers that `cargo xtask model` holds against GPUs.

use std::collections::BTreeMap;

use comfy_table::Table;
use flash_attention::{Backend, Dtype, Error, Result, Statistics, sdpa};
use serde::Serialize;

use crate::arguments::Setup;
use crate::environment::Environment;
use crate::inputs::{Inputs, Tensors};
use crate::output::table;
use crate::plot::Panel;
use crate::report::{Report, scaled, short};
use crate::timings::progress_bar;
use crate::workload::{Role, Workload};

/// Queries and keys: enough that prologue and epilogue of a block hardly count.
const SEQ: usize = 2048;

/// What one kernel asks on one workload, in one launch.
#[derive(Clone, Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    work: Workload,
    kernel: String,
    role: Role,
    /// Pairs of a query and a key that it sees.
    scores: u64,
    /// Operations of the matrix products that the formulas ask of this kernel, for the pairs that are seen.
    flops: u64,
    /// Bytes if every input were read once and every output written once.
    least_bytes: u64,
    warp_instructions: u64,
    thread_instructions: u64,
    global_bytes: u64,
    global_sectors: u64,
    shared_bytes: u64,
    shared_wavefronts: u64,
    shared_conflicts: u64,
    local_bytes: u64,
    matrix_flops: u64,
    ex2_operations: u64,
    special_operations: u64,
    barriers: u64,
    /// Warp instructions by mnemonic.
    mnemonics: BTreeMap<String, u64>,
}

/// Counts every kernel.
///
/// # Errors
/// Where memory is short. What goes wrong in a kernel is among the failures.
pub fn run(setup: &Setup, environment: Environment) -> Result<Report> {
    let seq = if setup.quick { 128 } else { SEQ };
    let dtype = setup.dtype.unwrap_or(Dtype::F16);
    let shapes = [(64, false), (64, true), (128, false), (128, true)];
    let works: Vec<Workload> =
        shapes.iter().map(|&(dim, causal)| Workload::square(1, 1, seq, dim, causal, dtype)).collect();
    let bar = progress_bar(works.len() as u64);
    let (mut rows, mut failures) = (vec![], vec![]);
    for work in &works {
        bar.set_message(work.label());
        match count(setup, work) {
            Ok(counted) => rows.extend(counted),
            Err(error) => failures.push(format!("{}: {error}", work.label())),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Report {
        preset: setup.preset.name(),
        results: serde_json::json!(rows),
        tables: vec![counts(&rows)],
        notes: vec!["`cargo xtask model` holds these numbers against GPUs".into()],
        panels: vec![panel(&rows)],
        environment,
        failures,
    })
}

/// Forward of `Efficient`, forward and backward of `Flash`.
fn count(setup: &Setup, work: &Workload) -> Result<Vec<Row>> {
    let inputs = Inputs::new(&setup.device, work.dtype, std::slice::from_ref(work))?;
    let Tensors { q, k, v, dout } = inputs.view(work)?;
    let forward = |backend| sdpa(&q, &k, &v).causal(work.causal).backend(backend).forward();
    forward(Backend::Efficient)?;
    forward(Backend::Flash)?.backward(&dout)?;
    let counted = setup.device.take_stats().unwrap_or_default();
    let mut rows = counted.iter().map(|(kernel, s)| row(work, kernel, s)).collect::<Result<Vec<Row>>>()?;
    rows.sort_by_key(|row| row.role as usize);
    Ok(rows)
}

fn row(work: &Workload, kernel: &'static str, counted: &Statistics) -> Result<Row> {
    let unknown =
        || Error::Kernel { kernel, device: "emulator".into(), reason: "its role is not known here".into() };
    let role = Role::of(kernel).ok_or_else(unknown)?;
    Ok(Row {
        work: *work,
        kernel: kernel.into(),
        role,
        scores: work.scores(),
        flops: role.multiply_adds(work).map_or(0, |products| 2 * products as u64 * work.scores()),
        least_bytes: role.minimum_bytes(work).total(),
        warp_instructions: counted.warp_instructions,
        thread_instructions: counted.thread_instructions,
        global_bytes: counted.global_load_bytes + counted.global_store_bytes,
        global_sectors: counted.global_sectors,
        shared_bytes: counted.shared_load_bytes + counted.shared_store_bytes,
        shared_wavefronts: counted.shared_wavefronts,
        shared_conflicts: counted.shared_conflicts,
        local_bytes: counted.local_bytes,
        matrix_flops: counted.matrix_flops,
        ex2_operations: counted.ex2_operations,
        special_operations: counted.special_operations,
        barriers: counted.barriers,
        mnemonics: counted.mnemonics.clone(),
    })
}

impl Row {
    fn per_score(&self) -> f64 {
        self.thread_instructions as f64 / self.scores as f64
    }

    fn of_least(&self) -> f64 {
        self.global_bytes as f64 / self.least_bytes as f64
    }
}

fn counts(rows: &[Row]) -> Table {
    let heading = [
        "batch x heads x seq",
        "kernel",
        "warp instr.",
        "instr./score",
        "global bytes",
        "of the least",
        "sectors",
        "wavefronts",
        "conflicts",
        "matrix flops",
        "ex2",
    ];
    let mut all = table(&heading, 2);
    for row in rows {
        all.add_row([
            row.work.label(),
            row.kernel.clone(),
            scaled(row.warp_instructions as f64),
            short(row.per_score()),
            scaled(row.global_bytes as f64),
            format!("{} x", short(row.of_least())),
            scaled(row.global_sectors as f64),
            scaled(row.shared_wavefronts as f64),
            row.shared_conflicts.to_string(),
            scaled(row.matrix_flops as f64),
            scaled(row.ex2_operations as f64),
        ]);
    }
    all
}

fn panel(rows: &[Row]) -> Panel {
    let column = |value: fn(&Row) -> f64| rows.iter().map(|row| Some(value(row))).collect::<Vec<_>>();
    Panel::Bars {
        title: "what kernels ask (batch x heads x seq)".into(),
        groups: rows.iter().map(|row| row.work.label()).collect(),
        labels: rows.iter().map(|row| row.kernel.clone()).collect(),
        columns: vec![
            ("thread instructions / score".into(), column(Row::per_score)),
            ("global bytes / least".into(), column(Row::of_least)),
            ("bank conflicts".into(), column(|row| row.shared_conflicts as f64)),
        ],
    }
}
