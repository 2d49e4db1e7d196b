//! What the kernels' PTX must and must not contain.

use crate::command;
use anyhow::{Context, Result, anyhow, bail};
use cuda_builder::{BuildOutput, CudaBuilder, NvvmArch, lint};
use flash_attention_abi::flash::GRAD_CONVERT_THREADS;
use flash_attention_abi::flash::split::COMBINE_THREADS;
use flash_attention_abi::tile::{DELTA_THREADS, SINK_THREADS, backward_tile, forward_tile};
use flash_attention_abi::{
    Dtype, ENTRY_POINTS, EntryPoint, FLASH_ENTRY_POINTS, FlashEntryPoint, FlashKernel, Kernel,
};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A kernel's module, and what the tile tables say of it.
pub struct Module {
    /// Its entry point.
    pub name: &'static str,
    /// The folder that holds `NAME.ptx`.
    pub folder: PathBuf,
    /// What it computes.
    pub kind: Kind,
    /// The type of what it reads and writes.
    pub dtype: Dtype,
    /// What the tile tables say of its blocks.
    pub block: Block,
}

/// A kernel's blocks by the tile tables.
#[derive(Clone, Copy)]
pub struct Block {
    /// Threads.
    pub threads: u32,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// Blocks a multiprocessor that the table promises.
    pub resident: u32,
    /// A step of its inner loop, if that runs on tensor cores.
    pub step: Option<Step>,
}

/// What one warp does in a step of an inner loop on tensor cores.
#[derive(Clone, Copy)]
pub struct Step {
    /// Products of 16 x 16 by 16 x 8.
    pub products: u32,
    /// Scores of one of its threads.
    pub scores: u32,
}

/// What a kernel computes, in either family.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// On CUDA cores.
    Efficient(Kernel),
    /// On tensor cores.
    Flash(FlashKernel),
}

fn build_family(arch: NvvmArch, folder: &str, arguments: &[&str]) -> Result<BuildOutput> {
    let root = command::root();
    // The builder compares collective operations with what the kernels state, and fails where they differ.
    CudaBuilder::new(root.join("kernels-gpu"))
        .arch(arch)
        .build_args(arguments)
        .copy_to(root.join("target").join(folder))
        .build()
        .map_err(|error| anyhow!("the kernels do not build: {error}"))
}

/// Builds all kernels below the target folder; they must be those of the lists in `abi`.
pub fn build() -> Result<(Vec<Module>, String)> {
    let efficient = build_family(NvvmArch::Compute70, "xtask-ptx", &[])?;
    let flash = build_family(NvvmArch::Compute80, "xtask-ptx-flash", &["--features", "flash"])?;
    let listed: Vec<Module> = ENTRY_POINTS
        .iter()
        .map(|entry| Module {
            name: entry.name,
            folder: efficient.dir.clone(),
            kind: Kind::Efficient(entry.kernel),
            dtype: entry.dtype,
            block: efficient_block(entry),
        })
        .chain(FLASH_ENTRY_POINTS.iter().map(|entry| Module {
            name: entry.name,
            folder: flash.dir.clone(),
            kind: Kind::Flash(entry.kernel),
            dtype: entry.dtype,
            block: flash_block(entry),
        }))
        .collect();
    let built: BTreeSet<&str> =
        efficient.modules.iter().chain(&flash.modules).map(|module| module.name.as_str()).collect();
    let names: BTreeSet<&str> = listed.iter().map(|module| module.name).collect();
    if let Some(name) = names.difference(&built).next() {
        bail!("the list names the kernel `{name}`, and the device crate has none such");
    }
    if let Some(name) = built.difference(&names).next() {
        bail!("the device crate has the kernel `{name}`, and the list names none such");
    }
    Ok((listed, efficient.toolchain.version))
}

/// Builds the kernels and checks every module.
pub fn check() -> Result<()> {
    let (modules, version) = build()?;
    let mut failures = Vec::new();
    for module in &modules {
        let path = module.folder.join(format!("{}.ptx", module.name));
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        failures.extend(problems(module, &text)?.into_iter().map(|p| format!("{}: {p}", module.name)));
    }
    for failure in &failures {
        eprintln!("{failure}");
    }
    if !failures.is_empty() {
        bail!("{} of the PTX checks failed", failures.len());
    }
    println!("ptx: {} kernels by {version}, all as their source says", modules.len());
    Ok(())
}

/// Blocks of a kernel for CUDA cores by its tile table.
fn efficient_block(entry: &EntryPoint) -> Block {
    let tile = match entry.kernel {
        Kernel::Forward => forward_tile(entry.head_dim),
        Kernel::GradKeyValue | Kernel::GradQuery | Kernel::GradBias => backward_tile(entry.head_dim),
        Kernel::Delta => return Block { threads: DELTA_THREADS, shared: 0, resident: 1, step: None },
        Kernel::GradSink => {
            // One f32 a warp.
            return Block { threads: SINK_THREADS, shared: SINK_THREADS / 32 * 4, resident: 1, step: None };
        }
    };
    Block { threads: tile.threads, shared: tile.shared_bytes(), resident: tile.min_blocks, step: None }
}

/// Blocks of a kernel for tensor cores by its tile table.
fn flash_block(entry: &FlashEntryPoint) -> Block {
    match entry.kernel {
        FlashKernel::Forward | FlashKernel::General | FlashKernel::Split | FlashKernel::SplitGeneral => {
            let tile = entry.kernel.tile(entry.head_dim, entry.value_dim);
            let step = Step { products: tile.products(), scores: tile.warp_rows * tile.block_keys / 32 };
            Block {
                threads: tile.threads(),
                shared: tile.shared_bytes(),
                resident: tile.min_blocks,
                step: Some(step),
            }
        }
        FlashKernel::Combine => Block { threads: COMBINE_THREADS, shared: 0, resident: 1, step: None },
        FlashKernel::GradConvert => {
            Block { threads: GRAD_CONVERT_THREADS, shared: 0, resident: 1, step: None }
        }
        _ => {
            let tile = entry.kernel.grad_tile(entry.head_dim, entry.value_dim);
            let products = entry.kernel.grad_products(entry.head_dim, entry.value_dim);
            let step = Step { products, scores: tile.warp_rows * tile.warp_columns() / 32 };
            Block {
                threads: tile.threads(),
                shared: entry.kernel.grad_shared_bytes(entry.head_dim, entry.value_dim),
                resident: tile.min_blocks,
                step: Some(step),
            }
        }
    }
}

/// What is wrong with a module.
fn problems(module: &Module, text: &str) -> Result<Vec<String>> {
    let counts = lint::mnemonics(text).map_err(|error| anyhow!("{}: {error}", module.name))?;
    let counts =
        counts.get(module.name).with_context(|| format!("no entry `{}` in its module", module.name))?;
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
    let bounds = format!(".maxntid {}, 1, 1", module.block.threads);
    if !text.contains(&bounds) {
        problems.push(format!("lacks `{bounds}`"));
    }
    let wanted: &[&str] = match module.kind {
        Kind::Efficient(Kernel::Forward) => &[
            "fma.rn.f32",
            "ld.global.nc",
            "ld.shared.v4.f32",
            "ex2.approx.ftz.f32",
            "max.f32",
            "lg2.approx.ftz.f32",
        ],
        Kind::Efficient(Kernel::Delta) => &["fma.rn.f32", "ld.global.nc", "shfl.sync.bfly.b32"],
        Kind::Efficient(Kernel::GradSink) => &["ld.global.nc", "shfl.sync.bfly.b32", "ex2.approx.ftz.f32"],
        Kind::Efficient(Kernel::GradKeyValue | Kernel::GradQuery | Kernel::GradBias) => {
            &["fma.rn.f32", "ld.global.nc", "ld.shared.v4.f32", "ex2.approx.ftz.f32"]
        }
        Kind::Flash(FlashKernel::Combine) => {
            &["fma.rn.f32", "ld.global.nc", "shfl.sync.bfly.b32", "ex2.approx.ftz.f32", "lg2.approx.ftz.f32"]
        }
        Kind::Flash(FlashKernel::GradConvert) => &["ld.global.nc.v4.f32", "st.global.v4.b32"],
        Kind::Flash(kernel) if kernel.is_fused() => &[
            "mma.sync.aligned.m16n8k16",
            "ldmatrix.sync.aligned.m8n8.x4.shared",
            "ldmatrix.sync.aligned.m8n8.x4.trans.shared",
            "cp.async.cg.shared.global",
            "ex2.approx.ftz.f32",
            "red.relaxed.gpu.global.add.f32",
        ],
        Kind::Flash(_) => &[
            "mma.sync.aligned.m16n8k16",
            "ldmatrix.sync.aligned.m8n8.x4.shared",
            "ldmatrix.sync.aligned.m8n8.x4.trans.shared",
            "cp.async.cg.shared.global",
            "ex2.approx.ftz.f32",
        ],
    };
    problems.extend(wanted.iter().filter(|name| count(name) == 0).map(|name| format!("lacks {name}")));
    let products = !matches!(module.kind, Kind::Flash(_) | Kind::Efficient(Kernel::Delta | Kernel::GradSink));
    if products && count("fma.rn.f32") < count("mul.rn.f32") {
        problems.push("multiplies more than it fuses".into());
    }
    Ok(problems)
}
