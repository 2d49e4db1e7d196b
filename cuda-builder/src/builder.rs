//! The builder: what a build script asks for, and what it gets.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::compile::{self, Compilation, in_build_script};
use crate::error::at;
use crate::ptx::lint;
use crate::ptx::split::{self, FIRST_LINE, KernelModule};
use crate::{CudaBuilderError, NvvmArch, Toolchain};

/// Builds a device crate to PTX, one module for each kernel.
#[derive(Clone, Debug)]
pub struct CudaBuilder {
    krate: PathBuf,
    build_args: Vec<String>,
    release: bool,
    arch: NvvmArch,
    fast_sqrt: bool,
    fast_div: bool,
    line_info: bool,
    unroll_threshold: u32,
    copy_to: Option<PathBuf>,
    toolchain: Option<Toolchain>,
}

/// The PTX of a device crate.
#[derive(Clone, Debug)]
pub struct BuildOutput {
    /// The folder that holds the modules.
    pub dir: PathBuf,
    /// The modules, sorted by name.
    pub modules: Vec<Module>,
    /// The compiler that made them.
    pub toolchain: Toolchain,
    /// The files they were made from: what the build script is run again for.
    pub sources: Vec<PathBuf>,
}

/// The PTX of one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The kernel's entry point.
    pub name: String,
    /// Its file, `NAME.ptx`.
    pub path: PathBuf,
}

impl CudaBuilder {
    /// For the device crate in the folder `path`, seen from the crate whose build script this is.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            krate: path.as_ref().to_path_buf(),
            build_args: Vec::new(),
            release: true,
            arch: NvvmArch::default(),
            fast_sqrt: false,
            fast_div: false,
            line_info: false,
            unroll_threshold: 100_000,
            copy_to: None,
            toolchain: None,
        }
    }

    /// Further arguments for cargo: `&["--features", "wide"]`.
    #[must_use]
    pub fn build_args(mut self, arguments: &[impl AsRef<str>]) -> Self {
        self.build_args.extend(arguments.iter().map(|argument| argument.as_ref().to_string()));
        self
    }

    /// Whether to optimise. Default: yes. Without, kernels are far slower, keep everything in local
    /// memory, and their collective operations are not counted.
    #[must_use]
    pub fn release(mut self, release: bool) -> Self {
        self.release = release;
        self
    }

    /// The least GPU that the PTX is for. Default: [`NvvmArch::Compute70`].
    #[must_use]
    pub fn arch(mut self, arch: NvvmArch) -> Self {
        self.arch = arch;
        self
    }

    /// Whether square roots may be approximate (`sqrt.approx`). Default: no.
    #[must_use]
    pub fn fast_sqrt(mut self, fast_sqrt: bool) -> Self {
        self.fast_sqrt = fast_sqrt;
        self
    }

    /// Whether `f32` divisions may be approximate (`div.full`, 2 ulp). Default: no.
    #[must_use]
    pub fn fast_div(mut self, fast_div: bool) -> Self {
        self.fast_div = fast_div;
        self
    }

    /// Whether the PTX names the source lines (`.loc`), for profilers and for messages with a place. Default: no, because the PTX then
    /// depends on where the sources lie.
    #[must_use]
    pub fn generate_line_info(mut self, line_info: bool) -> Self {
        self.line_info = line_info;
        self
    }

    /// How large a loop over a register array may become before LLVM stops unrolling it. An array whose loop is not unrolled goes
    /// to local memory. Default: 100000, which unrolls every loop of known length that kernels have.
    #[must_use]
    pub fn unroll_threshold(mut self, threshold: u32) -> Self {
        self.unroll_threshold = threshold;
        self
    }

    /// The folder for the modules. It is made where it does not exist; modules of an earlier build that are no more are removed from
    /// it. Default: a folder within the target directory.
    #[must_use]
    pub fn copy_to(mut self, folder: impl AsRef<Path>) -> Self {
        self.copy_to = Some(folder.as_ref().to_path_buf());
        self
    }

    /// The compiler to use. Default: [`Toolchain::find`].
    #[must_use]
    pub fn toolchain(mut self, toolchain: Toolchain) -> Self {
        self.toolchain = Some(toolchain);
        self
    }

    /// Compiles, splits, checks and writes.
    ///
    /// Says on stderr which compiler it took. In a build script it prints `cargo:rerun-if-changed` for each device source file and manifest,
    /// and nothing else that cargo would rebuild for.
    pub fn build(self) -> Result<BuildOutput, CudaBuilderError> {
        if !self.krate.join("Cargo.toml").is_file() {
            return Err(CudaBuilderError::CratePathDoesntExist(self.krate));
        }
        let toolchain = self.toolchain.clone().map_or_else(Toolchain::find, Ok)?;
        eprintln!("cuda_builder: {} ({})", toolchain.version, toolchain.sysroot.display());
        let package = compile::package(&toolchain, &self.krate)?;
        let target_dir =
            outer_target_dir().unwrap_or_else(|| package.target_dir.clone()).join("cuda-builder");
        let target_dir =
            std::path::absolute(&target_dir).map_err(at("cannot name the folder", &target_dir))?;
        let compiled = Compilation {
            toolchain: &toolchain,
            krate: &self.krate,
            package: &package,
            target_dir: &target_dir,
            release: self.release,
            line_info: self.line_info,
            rustflags: &self.rustflags(),
            build_args: &self.build_args,
        }
        .run()?;
        if in_build_script() {
            for source in &compiled.sources {
                println!("cargo:rerun-if-changed={}", source.display());
            }
        }
        let modules = split::split(&compiled.ptx)
            .map_err(|message| CudaBuilderError::Ptx { name: package.name.clone(), message })?;
        // Without optimisation loops are loops, and the counts, which are of the unrolled code, mean nothing.
        if self.release {
            check(&modules, &package.name)?;
        }
        let dir = self.copy_to.unwrap_or_else(|| target_dir.join("ptx").join(&package.name));
        let modules = write(&dir, &modules)?;
        Ok(BuildOutput { dir, modules, toolchain, sources: compiled.sources })
    }

    /// The compiler's flags for the device crate, `core` and all between.
    fn rustflags(&self) -> Vec<String> {
        let mut flags = vec![format!("-Ctarget-cpu={}", self.arch.target_cpu())];
        flags.extend(self.arch.ptx_feature().map(|feature| format!("-Ctarget-feature={feature}")));
        // This pass copies barriers into both arms of a branch (rust-lang/rust#137086).
        flags.push("-Zmir-enable-passes=-JumpThreading".into());
        flags.push(format!("-Cllvm-args=-unroll-threshold={}", self.unroll_threshold));
        // A panic is a `trap` on the spot: no messages, no formatting, no calls.
        flags.extend(["-Zunstable-options".into(), "-Cpanic=immediate-abort".into()]);
        if self.fast_sqrt {
            flags.push("-Cllvm-args=-nvptx-prec-sqrtf32=0".into());
        }
        if self.fast_div {
            flags.push("-Cllvm-args=-nvptx-prec-divf32=1".into());
        }
        flags
    }
}

/// Compares the kernels that state their collective operations with what they say.
fn check(modules: &[KernelModule], name: &str) -> Result<(), CudaBuilderError> {
    let mut mismatches = Vec::new();
    for module in modules {
        let stated = lint::stated(&module.ptx)
            .map_err(|message| CudaBuilderError::Ptx { name: name.to_string(), message })?;
        mismatches.extend(lint::check_collectives(&module.ptx, &stated).err().into_iter().flatten());
    }
    if mismatches.is_empty() { Ok(()) } else { Err(CudaBuilderError::Collectives(mismatches)) }
}

/// Writes the modules that changed and removes those that are no more.
fn write(dir: &Path, modules: &[KernelModule]) -> Result<Vec<Module>, CudaBuilderError> {
    fs::create_dir_all(dir).map_err(at("cannot make the folder", dir))?;
    let mut written = Vec::new();
    for module in modules {
        let path = dir.join(format!("{}.ptx", module.name));
        if fs::read_to_string(&path).ok().as_deref() != Some(&module.ptx) {
            fs::write(&path, &module.ptx).map_err(at("cannot write", &path))?;
        }
        written.push(Module { name: module.name.clone(), path });
    }
    for entry in fs::read_dir(dir).map_err(at("cannot read the folder", dir))? {
        let path = entry.map_err(at("cannot read the folder", dir))?.path();
        let ours = || fs::read_to_string(&path).is_ok_and(|text| text.starts_with(FIRST_LINE));
        let is_ptx = path.extension().is_some_and(|extension| extension == "ptx");
        if is_ptx && !written.iter().any(|module| module.path == path) && ours() {
            fs::remove_file(&path).map_err(at("cannot remove", &path))?;
        }
    }
    Ok(written)
}

/// The target directory of the build whose build script this is: the nearest folder above `OUT_DIR` that cargo marked.
fn outer_target_dir() -> Option<PathBuf> {
    let out = PathBuf::from(env::var_os("OUT_DIR").filter(|_| in_build_script())?);
    let marked =
        |folder: &&Path| folder.join("CACHEDIR.TAG").is_file() || folder.join(".rustc_info.json").is_file();
    Some(out.ancestors().find(marked).unwrap_or(&out).to_path_buf())
}
