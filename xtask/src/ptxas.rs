//! What every kernel takes of a multiprocessor, as NVIDIA's assembler counts it, where it is installed.

mod occupancy;
mod ratchet;
mod report;
mod sass;

use crate::command;
use crate::ptx::{self, Kind, Module};
use anyhow::{Context, Result, bail};
use occupancy::{TARGETS, Target};
pub use ratchet::Ratchet;
use regex::Regex;
use sass::Loop;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Kernels whose plain loop is held against FlashAttention-2's: at most so many hundredths of an instruction other than HMMA for
/// each HMMA, on `BAR_TARGET`. FlashAttention-2's own kernels, compiled with CUDA 13.2 and counted the same way, have these.
const BARS: [(&str, u32); 6] = [
    ("flash_forward_f16_d64", 346),
    ("flash_forward_bf16_d64", 346),
    ("flash_forward_f16_d128", 249),
    ("flash_forward_bf16_d128", 249),
    ("flash_grad_fused_f16_d128", 177),
    ("flash_grad_fused_bf16_d128", 177),
];

const BAR_TARGET: &str = "sm_80";

/// The targets for which the tile tables promise blocks a multiprocessor. The others have less shared memory, or less of
/// everything; there only registers must leave room.
const PROMISED: [&str; 2] = ["sm_80", "sm_90"];

/// NVIDIA's programs.
struct Tools {
    ptxas: PathBuf,
    /// Prints what the assembler made; without it loops are not counted.
    cuobjdump: Option<PathBuf>,
    /// The assembler's version.
    version: String,
}

/// What `program --version` prints, if it can be started.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The program that `variable` names, which then must work, or the first of the candidates that does.
fn find(variable: &str, candidates: &[PathBuf]) -> Result<Option<PathBuf>> {
    if let Some(given) = std::env::var_os(variable).map(PathBuf::from) {
        return match version(&given) {
            Some(_) => Ok(Some(given)),
            None => bail!("${variable} is {}, which cannot be started", given.display()),
        };
    }
    Ok(candidates.iter().find(|program| version(program).is_some()).cloned())
}

impl Tools {
    /// `$PTXAS`, or `ptxas` on the path, or in the usual place of a toolkit; `$CUOBJDUMP`, or `cuobjdump` beside it or there.
    fn find() -> Result<Option<Self>> {
        let usual = Path::new("/usr/local/cuda/bin");
        let Some(ptxas) = find("PTXAS", &["ptxas".into(), usual.join("ptxas")])? else {
            return Ok(None);
        };
        let beside = ptxas.with_file_name("cuobjdump");
        let cuobjdump = find("CUOBJDUMP", &[beside, "cuobjdump".into(), usual.join("cuobjdump")])?;
        let text = version(&ptxas).unwrap_or_default();
        let number = Regex::new(r"release [\d.]+, V([\d.]+)")?.captures(&text).map(|c| c[1].to_string());
        let version = number.with_context(|| format!("no version in: {text}"))?;
        Ok(Some(Self { ptxas, cuobjdump, version }))
    }
}

/// What the assembler says of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Usage {
    registers: u32,
    /// Bytes.
    spilled: u32,
    /// Bytes a thread.
    stack: u32,
    /// Bytes of shared memory beside the dynamic ones.
    shared: u32,
}

impl Usage {
    fn parse(text: &str) -> Result<Self> {
        let number = |pattern: &str| -> Result<Option<u32>> {
            Ok(Regex::new(pattern)?.captures(text).map(|found| found[1].parse()).transpose()?)
        };
        let certain = |pattern: &str| -> Result<u32> {
            number(pattern)?.with_context(|| format!("no `{pattern}` in: {text}"))
        };
        Ok(Self {
            registers: certain(r"Used (\d+) registers")?,
            spilled: certain(r"(\d+) bytes spill stores")?,
            stack: certain(r"(\d+) bytes stack frame")?,
            shared: number(r"(\d+) bytes smem")?.unwrap_or(0),
        })
    }

    /// What is wrong if a thread has local memory: registers that are spilled, or an array.
    fn local_memory(&self) -> Option<String> {
        let Usage { spilled, stack, .. } = *self;
        (spilled > 0 || stack > 0).then(|| {
            format!(
                "{spilled} bytes are spilled and the stack takes {stack}: no kernel may have local memory"
            )
        })
    }
}

/// A kernel on a target.
struct Assembled<'a> {
    module: &'a Module,
    target: Target,
    usage: Usage,
    /// Only of kernels on tensor cores, and only where there is a disassembler.
    plain_loop: Option<Loop>,
}

impl Assembled<'_> {
    /// Shared memory of a block, in bytes.
    fn shared(&self) -> u32 {
        self.module.block.shared + self.usage.shared
    }

    /// Blocks that a multiprocessor holds.
    fn blocks(&self) -> u32 {
        self.target.blocks(self.module.block.threads, self.usage.registers, self.shared())
    }
}

fn output(command: &mut Command) -> Result<String> {
    let line = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot start {line}"))?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{line} ended with {}: {text}", output.status);
    }
    Ok(text)
}

/// Assembles one module for one target.
fn assemble<'a>(tools: &Tools, module: &'a Module, target: Target, scratch: &Path) -> Result<Assembled<'a>> {
    let cubin = scratch.join(format!("{}.{}.cubin", module.name, target.name));
    let source = module.folder.join(format!("{}.ptx", module.name));
    let mut command = Command::new(&tools.ptxas);
    command.args(["-v", "-arch", target.name, "-o"]).arg(&cubin).arg(&source);
    let usage = Usage::parse(&output(&mut command)?)?;
    let plain_loop = match &tools.cuobjdump {
        Some(cuobjdump) if module.block.step.is_some() => {
            let listing = output(Command::new(cuobjdump).arg("--dump-sass").arg(&cubin))?;
            Some(sass::plain_loop(&listing, module.name)?)
        }
        _ => None,
    };
    std::fs::remove_file(&cubin).with_context(|| format!("cannot remove {}", cubin.display()))?;
    Ok(Assembled { module, target, usage, plain_loop })
}

/// Assembles every module for every target that it is for, as many at a time as there are cores.
fn assemble_all<'a>(tools: &Tools, modules: &'a [Module]) -> Result<Vec<Assembled<'a>>> {
    let scratch = command::scratch()?;
    // Kernels for tensor cores need sm_80.
    let is_for =
        |module: &Module, target: &Target| target.name != "sm_75" || !matches!(module.kind, Kind::Flash(_));
    let jobs: Vec<(&Module, Target)> = modules
        .iter()
        .flat_map(|module| TARGETS.map(|target| (module, target)))
        .filter(|(module, target)| is_for(module, target))
        .collect();
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(jobs.len())));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(&(module, target)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = assemble(tools, module, target, scratch.path())
                        .with_context(|| format!("{} for {}", module.name, target.name));
                    let failed = result.is_err();
                    results.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(result);
                    if failed {
                        // The others stop too.
                        next.store(jobs.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    results.into_iter().collect()
}

/// What is wrong with a kernel on a target, whatever the ratchet says.
fn problems(one: &Assembled<'_>) -> Vec<String> {
    let (block, target) = (one.module.block, &one.target);
    let mut problems = Vec::new();
    let by_registers = target.blocks_by_registers(block.threads, one.usage.registers);
    if by_registers < block.resident {
        problems.push(format!(
            "{} registers leave room for {by_registers} blocks, the tile table says {}",
            one.usage.registers, block.resident
        ));
    } else if PROMISED.contains(&target.name) && one.blocks() < block.resident {
        let shared = one.shared();
        problems.push(format!(
            "{shared} bytes of shared memory leave room for {} blocks, the tile table says {}",
            one.blocks(),
            block.resident
        ));
    }
    problems.extend(one.usage.local_memory());
    if let (Some(found), Some(step)) = (&one.plain_loop, block.step) {
        let foreign: Vec<String> = found.foreign.iter().map(|(name, n)| format!("{n} x {name}")).collect();
        if !foreign.is_empty() {
            problems.push(format!("the plain loop has {}", foreign.join(", ")));
        }
        // A step, or several where the assembler unrolls.
        if found.products == 0 || !found.products.is_multiple_of(step.products) {
            problems.push(format!(
                "the plain loop has {} x HMMA.16816, the tile table says {} a step",
                found.products, step.products
            ));
        }
    }
    problems.into_iter().map(|problem| format!("{} on {}: {problem}", one.module.name, target.name)).collect()
}

/// Which kernels are above FlashAttention-2's bars. `some` says that not all were assembled.
fn above_bars(assembled: &[Assembled<'_>], some: bool) -> Vec<String> {
    let mut failures = Vec::new();
    for (kernel, bar) in BARS {
        if some && !assembled.iter().any(|one| one.module.name == kernel) {
            continue;
        }
        let one = assembled.iter().find(|one| one.module.name == kernel && one.target.name == BAR_TARGET);
        let Some(others) = one.and_then(|one| one.plain_loop.as_ref()).map(Loop::others) else {
            failures.push(format!("{kernel} has a bar, and was not counted on {BAR_TARGET}"));
            continue;
        };
        if others > bar {
            failures.push(format!(
                "{kernel} on {BAR_TARGET}: {} instructions other than HMMA for each HMMA, FlashAttention-2 has {}",
                ratchet::ratio(others),
                ratchet::ratio(bar)
            ));
        }
    }
    failures
}

/// Prints the tables; fails where a kernel does not assemble, is not what the tile tables say, is above a bar, or is worse than
/// the ratchet file; and, whatever that file says, where a kernel spills or has local memory. With `accept`, the file is written
/// anew. With `parts`, only kernels whose names have one of them are assembled, and only the tile tables and bars are held against
/// them, or their figures alone accepted.
pub fn check(accept: bool, parts: &[String]) -> Result<()> {
    let Some(tools) = Tools::find()? else {
        println!("ptxas: not installed (neither $PTXAS nor on the path), so nothing was assembled");
        return Ok(());
    };
    if accept && tools.cuobjdump.is_none() {
        bail!("the ratchet holds what cuobjdump shows, and it is not installed ($CUOBJDUMP, beside ptxas)");
    }
    let (mut modules, _) = ptx::build()?;
    if !parts.is_empty() {
        modules.retain(|module| parts.iter().any(|part| module.name.contains(part.as_str())));
        if modules.is_empty() {
            bail!("no kernel has {} in its name", parts.join(" or "));
        }
    }
    let mut assembled = assemble_all(&tools, &modules)?;
    assembled.sort_by_key(|one| {
        let target = TARGETS.iter().position(|target| target.name == one.target.name);
        (modules.iter().position(|module| module.name == one.module.name), target)
    });
    report::print(&assembled);

    let mut failures: Vec<String> = assembled.iter().flat_map(problems).collect();
    if tools.cuobjdump.is_some() {
        failures.extend(above_bars(&assembled, !parts.is_empty()));
    } else {
        println!("ptxas: no cuobjdump ($CUOBJDUMP, beside ptxas), so the ratio of HMMA was not counted");
    }
    let now = Ratchet::of(&tools.version, &assembled);
    if accept {
        if parts.is_empty() {
            now.write()?
        } else {
            Ratchet::read()?.with(now)?.write()?
        }
        println!("ptxas: {} holds what was counted", ratchet::FILE);
    } else if parts.is_empty() {
        failures.extend(against_ratchet(&now, &tools)?);
    }
    report::summary(&assembled, &tools.version);
    for failure in &failures {
        eprintln!("{failure}");
    }
    if !failures.is_empty() {
        bail!("{} of the ptxas checks failed", failures.len());
    }
    Ok(())
}

/// What is worse than the ratchet file.
fn against_ratchet(now: &Ratchet, tools: &Tools) -> Result<Vec<String>> {
    let before = Ratchet::read()?;
    let found = before.compare(now, tools.cuobjdump.is_none());
    if found.better > 0 {
        println!(
            "ptxas: {} figures are better than {}; `cargo xtask ptxas --accept` keeps them",
            found.better,
            ratchet::FILE
        );
    }
    if !found.worse.is_empty() && before.assembler != now.assembler {
        println!(
            "ptxas: the ratchet was counted with version {}, this is {}",
            before.assembler, now.assembler
        );
    }
    Ok(found.worse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_what_the_assembler_prints() {
        let text = "ptxas info    : 0 bytes gmem\n\
            ptxas info    : Compiling entry function 'k' for 'sm_80'\n\
            \x20   64 bytes stack frame, 60 bytes spill stores, 92 bytes spill loads\n\
            ptxas info    : Used 255 registers, used 1 barriers, 64 bytes cumulative stack size, 728 bytes cmem[0]\n";
        assert_eq!(Usage::parse(text).unwrap(), Usage { registers: 255, spilled: 60, stack: 64, shared: 0 });
        let shared = text.replace("728 bytes cmem[0]", "1024 bytes smem");
        assert_eq!(Usage::parse(&shared).unwrap().shared, 1024);
        assert!(Usage::parse("ptxas info    : 0 bytes gmem").is_err());
    }

    #[test]
    fn spills_and_stack_are_each_an_error() {
        let usage = |spilled, stack| Usage { registers: 255, spilled, stack, shared: 0 };
        assert_eq!(usage(0, 0).local_memory(), None);
        for (spilled, stack) in [(4, 0), (0, 8), (60, 64)] {
            let problem = usage(spilled, stack).local_memory().unwrap();
            let expected = format!("{spilled} bytes are spilled and the stack takes {stack}");
            assert!(problem.starts_with(&expected), "{problem}");
        }
    }
}
