//! Embeds the kernels' PTX, compressed, one module an entry point.
//!
//! In the workspace the device crate is compiled, and its PTX copied to `ptx/`, which git ignores and `cargo package` takes along.
//! The packaged crate has no device crate beside it and takes the PTX from there: whoever depends on it needs no device toolchain.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use cuda_builder::{CudaBuilder, NvvmArch};
use flash_attention_abi::{ENTRY_POINTS, FLASH_ENTRY_POINTS};
use flate2::Compression;
use flate2::write::DeflateEncoder;

/// The device crate in the workspace.
const DEVICE_CRATE: &str = "../kernels-gpu";

/// The PTX that a packaged crate carries.
const PREBUILT: &str = "ptx";

fn main() {
    if let Err(error) = run() {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: this is a build script")?);
    let modules = if Path::new(DEVICE_CRATE).join("Cargo.toml").is_file() {
        let built = out.join("ptx");
        build(&out, &built)?;
        if let Err(error) = mirror(&built, Path::new(PREBUILT)) {
            println!(
                "cargo:warning=the PTX cannot be copied to {PREBUILT}, so that `cargo package` lacks it: {error}"
            );
        }
        built
    } else if Path::new(PREBUILT).is_dir() {
        println!("cargo:rerun-if-changed={PREBUILT}");
        fs::canonicalize(PREBUILT)?
    } else {
        return Err(
            format!("neither the device crate {DEVICE_CRATE} nor its PTX in {PREBUILT} is there").into()
        );
    };
    embed(&modules, &out)
}

/// Compiles both families of kernels, each for the least target that has its instructions, into one folder.
fn build(out: &Path, built: &Path) -> Result<(), Box<dyn Error>> {
    let families: [(&str, NvvmArch, &[&str]); 2] =
        [("efficient", NvvmArch::Compute70, &[]), ("flash", NvvmArch::Compute80, &["--features", "flash"])];
    let mut all = BTreeSet::new();
    fs::create_dir_all(built)?;
    for (name, arch, arguments) in families {
        let folder = out.join(name);
        CudaBuilder::new(DEVICE_CRATE)
            .arch(arch)
            .build_args(arguments)
            .release(true)
            .copy_to(&folder)
            .build()?;
        for module in modules(&folder)? {
            copy_if_new(&folder, built, &module)?;
            all.insert(module);
        }
    }
    for name in modules(built)?.difference(&all) {
        fs::remove_file(built.join(name).with_extension("ptx"))?;
    }
    Ok(())
}

/// The modules in a folder, by file name.
fn modules(folder: &Path) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "ptx") {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(String::from));
        }
    }
    Ok(names)
}

/// Makes `to` hold the modules of `from`. Files that are the same are not touched.
fn mirror(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(to)?;
    let wanted = modules(from)?;
    for name in modules(to)?.difference(&wanted) {
        fs::remove_file(to.join(name).with_extension("ptx"))?;
    }
    for name in wanted {
        copy_if_new(from, to, &name)?;
    }
    Ok(())
}

/// Copies a module; a file that is the same is not touched.
fn copy_if_new(from: &Path, to: &Path, name: &str) -> Result<(), Box<dyn Error>> {
    let (source, target) = (from.join(name).with_extension("ptx"), to.join(name).with_extension("ptx"));
    let text = fs::read(source)?;
    if fs::read(&target).ok().as_ref() != Some(&text) {
        fs::write(target, text)?;
    }
    Ok(())
}

/// Compresses the modules and writes the table that `src/ptx.rs` includes. The modules must be those of the list in `abi`.
fn embed(folder: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let found = modules(folder)?;
    let names =
        ENTRY_POINTS.iter().map(|entry| entry.name).chain(FLASH_ENTRY_POINTS.iter().map(|entry| entry.name));
    let expected: BTreeSet<String> = names.map(String::from).collect();
    let listed = |names: BTreeSet<&String>| names.into_iter().cloned().collect::<Vec<_>>().join(", ");
    if found != expected {
        let (missing, extra) = (expected.difference(&found).collect(), found.difference(&expected).collect());
        return Err(format!(
            "the kernels are not those of the lists in abi: missing are [{}], not in the list are [{}]",
            listed(missing),
            listed(extra)
        )
        .into());
    }
    let packed = out.join("packed");
    fs::create_dir_all(&packed)?;
    let mut table = String::from("const MODULES: &[Packed] = &[\n");
    for name in &found {
        let text = fs::read(folder.join(name).with_extension("ptx"))?;
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(6));
        encoder.write_all(&text)?;
        let path = packed.join(name).with_extension("deflate");
        fs::write(&path, encoder.finish()?)?;
        table += &format!("    Packed {{ name: {name:?}, bytes: include_bytes!({path:?}) }},\n");
    }
    table += "];\n";
    fs::write(out.join("modules.rs"), table)?;
    Ok(())
}
