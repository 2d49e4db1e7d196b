//! The package as a stranger gets it.

use crate::command;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// The crates that the library needs, as published.
const CRATES: [&str; 5] =
    ["flash-attention-abi", "flash-attention-cuda-driver", "cuda_builder", "ptx-emulator", "flash-attention"];

const MAIN: &str = r#"use flash_attention::{Device, Tensor, sdpa};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::emulator();
    let q = Tensor::from_slice(&device, &[0.5f32; 4 * 8], &[1, 1, 4, 8])?;
    let out = sdpa(&q, &q, &q).run()?;
    println!("{:?}", out.out.shape());
    Ok(())
}
"#;

/// Packs, unpacks, and runs a program against the packages alone.
pub fn check() -> Result<()> {
    let root = command::root();
    // The build script leaves the PTX where the package takes it from.
    command::cargo(&["build", "--release", "-p", "flash-attention"])?;
    let target = root.join("target/xtask-package");
    let target_text = target.to_string_lossy();
    let mut arguments = vec!["package", "--allow-dirty", "--no-verify", "--target-dir", &target_text];
    for name in CRATES {
        arguments.extend(["-p", name]);
    }
    command::cargo(&arguments)?;

    // Outside the workspace, so that nothing of it can be reached but what the packages hold.
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let version = env!("CARGO_PKG_VERSION");
    let mut manifest = format!(
        "[package]\nname = \"stranger\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n\
         flash-attention = {{ version = \"{version}\", default-features = false }}\n\n[workspace]\n\n[patch.crates-io]\n"
    );
    for name in CRATES {
        unpack(&target.join(format!("package/{name}-{version}.crate")), scratch.path())?;
        manifest += &format!("{name} = {{ path = \"{name}-{version}\" }}\n");
    }
    std::fs::create_dir_all(scratch.path().join("src"))?;
    std::fs::write(scratch.path().join("Cargo.toml"), manifest)?;
    std::fs::write(scratch.path().join("src/main.rs"), MAIN)?;
    std::fs::copy(root.join("Cargo.lock"), scratch.path().join("Cargo.lock"))?;
    let mut build = Command::new("cargo");
    build
        .current_dir(scratch.path())
        .args(["run", "--quiet"])
        // A new one: the files of packages all have one date, so that cargo would take an older build of them for theirs.
        .env("CARGO_TARGET_DIR", scratch.path().join("target"))
        // Neither the source of `core` nor unstable features may be needed.
        .env_remove("RUSTC_BOOTSTRAP");
    command::run(build)?;
    println!("package: a program outside the workspace builds and runs against the packages alone");
    Ok(())
}

/// Unpacks a package; checks that the library's carries its PTX.
fn unpack(package: &Path, folder: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.arg("xzf").arg(package).arg("-C").arg(folder);
    command::run(tar)?;
    let name = package.file_stem().unwrap_or_default();
    if name.to_string_lossy().starts_with("flash-attention-0") {
        let ptx = folder.join(name).join("ptx");
        let modules =
            std::fs::read_dir(&ptx).with_context(|| format!("the package has no {}", ptx.display()))?.count();
        if modules == 0 {
            bail!("the package carries no PTX");
        }
    }
    Ok(())
}
