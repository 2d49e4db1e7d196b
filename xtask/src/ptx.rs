//! What the kernels' PTX must and must not contain.

use crate::command;
use anyhow::{Context, Result, anyhow, bail};
use cuda_builder::{BuildOutput, CudaBuilder, NvvmArch, lint};
use flash_attention_abi::tile::{DELTA_THREADS, SINK_THREADS, backward_tile, forward_tile};
use flash_attention_abi::{ENTRY_POINTS, EntryPoint, Kernel};

/// Builds the kernels into a folder below the target folder.
pub fn build() -> Result<BuildOutput> {
    let root = command::root();
    // The builder compares collective operations with what the kernels state, and fails where they differ.
    CudaBuilder::new(root.join("kernels-gpu"))
        .arch(NvvmArch::Compute70)
        .copy_to(root.join("target/xtask-ptx"))
        .build()
        .map_err(|error| anyhow!("the kernels do not build: {error}"))
}

/// Builds the kernels and checks every module.
pub fn check() -> Result<()> {
    let output = build()?;
    let names: Vec<&str> = output.modules.iter().map(|module| module.name.as_str()).collect();
    for entry in ENTRY_POINTS {
        if !names.contains(&entry.name) {
            bail!("the list names the kernel `{}`, and the device crate has none such", entry.name);
        }
    }
    if names.len() != ENTRY_POINTS.len() {
        bail!("the device crate has {} kernels, the list names {}", names.len(), ENTRY_POINTS.len());
    }
    let mut failures = Vec::new();
    for entry in ENTRY_POINTS {
        let path = output.dir.join(format!("{}.ptx", entry.name));
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        failures.extend(problems(entry, &text)?.into_iter().map(|p| format!("{}: {p}", entry.name)));
    }
    for failure in &failures {
        eprintln!("{failure}");
    }
    if !failures.is_empty() {
        bail!("{} of the PTX checks failed", failures.len());
    }
    println!("ptx: {} kernels by {}, all as their source says", names.len(), output.toolchain.version);
    Ok(())
}

/// Threads that a kernel's blocks have by the tile table.
fn threads(entry: &EntryPoint) -> u32 {
    match entry.kernel {
        Kernel::Forward => forward_tile(entry.head_dim).threads,
        Kernel::Delta => DELTA_THREADS,
        Kernel::GradSink => SINK_THREADS,
        Kernel::GradKeyValue | Kernel::GradQuery | Kernel::GradBias => backward_tile(entry.head_dim).threads,
    }
}

/// What is wrong with a module.
fn problems(entry: &EntryPoint, text: &str) -> Result<Vec<String>> {
    let counts = lint::mnemonics(text).map_err(|error| anyhow!("{}: {error}", entry.name))?;
    let counts =
        counts.get(entry.name).with_context(|| format!("no entry `{}` in its module", entry.name))?;
    let count = |prefix: &str| {
        counts.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, n)| n).sum::<usize>()
    };
    let mut problems = Vec::new();
    for absent in [
        "ld.local",
        "st.local",
        "call",
        "div.rn.f32",
        "mul.f64",
        "add.f64",
        "fma.rn.f64",
        "ld.b",
        "st.b",
        "ld.v",
        "st.v",
    ] {
        // `ld.b32` and the like are generic accesses, which find out at run time what memory they mean.
        if count(absent) > 0 {
            problems.push(format!("has {} x {absent}", count(absent)));
        }
    }
    if text.contains(".local") {
        problems.push("uses local memory".into());
    }
    let bounds = format!(".maxntid {}, 1, 1", threads(entry));
    if !text.contains(&bounds) {
        problems.push(format!("lacks `{bounds}`"));
    }
    let mut wanted = vec!["fma.rn.f32", "ld.global.nc"];
    match entry.kernel {
        Kernel::Forward => {
            wanted.extend(["ld.shared.v4.f32", "ex2.approx.ftz.f32", "max.f32", "lg2.approx.ftz.f32"])
        }
        Kernel::Delta => wanted.push("shfl.sync.bfly.b32"),
        Kernel::GradSink => wanted.extend(["shfl.sync.bfly.b32", "ex2.approx.ftz.f32"]),
        Kernel::GradKeyValue | Kernel::GradQuery | Kernel::GradBias => {
            wanted.extend(["ld.shared.v4.f32", "ex2.approx.ftz.f32"]);
        }
    }
    problems.extend(wanted.into_iter().filter(|name| count(name) == 0).map(|name| format!("lacks {name}")));
    let products = !matches!(entry.kernel, Kernel::Delta | Kernel::GradSink);
    if products && count("fma.rn.f32") < count("mul.rn.f32") {
        problems.push("multiplies more than it fuses".into());
    }
    Ok(problems)
}
