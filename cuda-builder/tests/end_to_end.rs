//! Builds a small device crate with the real compiler, and with pretended ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use cuda_builder::lint;
use cuda_builder::{CudaBuilder, CudaBuilderError, Toolchain};

/// A copy of the fixture that a test may change, in a folder of its own that later runs use again: `core` is then compiled once.
struct Crate {
    folder: PathBuf,
}

impl Crate {
    fn new(name: &str) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(folder.join("src")).unwrap();
        for file in ["Cargo.toml", "src/lib.rs", "src/every.rs", "src/matrix.rs", "src/tile.rs"] {
            let text = fs::read_to_string(here.join("tests/fixture").join(file)).unwrap();
            let std = here.join("../cuda-std").canonicalize().unwrap();
            let text = text.replace("../../../cuda-std", std.to_str().unwrap());
            let to = folder.join(file);
            if fs::read_to_string(&to).ok() != Some(text.clone()) {
                fs::write(&to, text).unwrap();
            }
        }
        // The versions that this workspace has are there, also without a network.
        fs::copy(here.join("../Cargo.lock"), folder.join("Cargo.lock")).unwrap();
        Self { folder }
    }

    fn builder(&self) -> CudaBuilder {
        CudaBuilder::new(&self.folder).copy_to(self.ptx())
    }

    fn ptx(&self) -> PathBuf {
        self.folder.join("ptx")
    }

    fn module(&self, name: &str) -> String {
        fs::read_to_string(self.ptx().join(format!("{name}.ptx"))).unwrap()
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.folder.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no `{from}`");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// When the compiler last wrote PTX.
    fn compiled(&self) -> Vec<SystemTime> {
        let folder = self.folder.join("target/cuda-builder/assembly");
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().metadata().unwrap().modified().unwrap()).collect()
    }
}

/// The kernels of `every.rs`, and what must be in them.
const EVERY: &[(&str, &str)] = &[
    (
        "every_access",
        "ld.shared.u8 ld.shared.b16 ld.shared.b32 ld.shared.v2.b32 ld.shared.v4.b32 ld.shared.b64 ld.shared.f32 ld.shared.v2.f32
         ld.shared.v4.f32 st.shared.u8 st.shared.b16 st.shared.b32 st.shared.v2.b32 st.shared.v4.b32 st.shared.b64 st.shared.f32
         st.shared.v2.f32 st.shared.v4.f32 ld.global.u8 ld.global.b16 ld.global.b32 ld.global.v2.b32 ld.global.v4.b32
         ld.global.b64 ld.global.v2.b64 ld.global.f32 ld.global.v2.f32 ld.global.v4.f32 ld.global.nc.u8 ld.global.nc.b16
         ld.global.nc.b32 ld.global.nc.v2.b32 ld.global.nc.v4.b32 ld.global.nc.b64 ld.global.nc.f32 ld.global.nc.v2.f32
         ld.global.nc.v4.f32 ld.global.nc.L1::no_allocate.v2.b32 ld.global.nc.L1::no_allocate.v4.b32
         ld.global.nc.L1::no_allocate.v4.f32 st.global.u8 st.global.b16 st.global.b32 st.global.v2.b32 st.global.v4.b32
         st.global.b64 st.global.v2.b64 st.global.f32 st.global.v2.f32 st.global.v4.f32 ld.relaxed.cta.global.u32
         ld.relaxed.gpu.global.u32 ld.relaxed.sys.global.u32 ld.relaxed.gpu.global.u64 ld.acquire.cta.global.u32
         ld.acquire.gpu.global.u32 ld.acquire.sys.global.u32 ld.acquire.gpu.global.u64 st.relaxed.cta.global.u32
         st.relaxed.gpu.global.u32 st.relaxed.sys.global.u32 st.relaxed.gpu.global.u64 st.release.cta.global.u32
         st.release.gpu.global.u32 st.release.sys.global.u32 st.release.gpu.global.u64 cvta.shared.u64 cvta.to.shared.u64
         cvta.to.global.u64 isspacep.global",
    ),
    (
        "every_warp",
        "shfl.sync.down.b32 shfl.sync.up.b32 shfl.sync.idx.b32 shfl.sync.bfly.b32 vote.sync.all.pred vote.sync.any.pred
         vote.sync.ballot.b32 match.any.sync.b32 match.any.sync.b64 match.all.sync.b32 match.all.sync.b64 bar.warp.sync
         activemask.b32",
    ),
    (
        "every_block",
        "bar.sync bar.red.popc.u32 bar.red.and.pred bar.red.or.pred bar.arrive membar.cta membar.gl membar.sys nanosleep.u32
         pmevent brkpt trap",
    ),
    (
        "every_number",
        "ex2.approx.ftz.f32 lg2.approx.ftz.f32 rcp.approx.ftz.f32 rsqrt.approx.ftz.f32 div.approx.ftz.f32 fma.rn.f32
         sqrt.rn.f32 cvt.rmi.f32.f32 cvt.rpi.f32.f32 cvt.rzi.f32.f32 cvt.rni.f32.f32 max.f32 min.f32 div.rn.f32
         cvt.rn.f16.f32 cvt.f32.f16",
    ),
    (
        "every_atomic",
        "atom.relaxed.gpu.global.add.u32 atom.acquire.gpu.global.add.u32 atom.release.gpu.global.add.u32
         atom.acq_rel.gpu.global.add.u32 atom.relaxed.gpu.global.add.u64 atom.relaxed.gpu.global.max.u32
         atom.relaxed.gpu.global.max.s32 atom.relaxed.gpu.global.min.u32 atom.relaxed.gpu.global.min.s32
         atom.relaxed.gpu.global.or.b32 atom.relaxed.gpu.global.and.b32 atom.relaxed.gpu.global.exch.b32
         atom.acq_rel.gpu.global.exch.b32 atom.relaxed.gpu.global.cas.b32 atom.acq_rel.gpu.global.cas.b32
         atom.acq_rel.gpu.global.cas.b64 atom.relaxed.gpu.global.add.f32 red.relaxed.gpu.global.add.f32 fence.sc.gpu
         atom.acq_rel.gpu.add.f32 atom.relaxed.cta.add.f32 ld.acquire.gpu.f32 st.release.cta.f32",
    ),
    (
        "every_matrix",
        "ldmatrix.sync.aligned.m8n8.x1.shared.b16 ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16
         ldmatrix.sync.aligned.m8n8.x2.shared.b16 ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16
         ldmatrix.sync.aligned.m8n8.x4.shared.b16 ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16
         stmatrix.sync.aligned.m8n8.x1.shared.b16 stmatrix.sync.aligned.m8n8.x1.trans.shared.b16
         stmatrix.sync.aligned.m8n8.x2.shared.b16 stmatrix.sync.aligned.m8n8.x2.trans.shared.b16
         stmatrix.sync.aligned.m8n8.x4.shared.b16 stmatrix.sync.aligned.m8n8.x4.trans.shared.b16
         mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
         cp.async.cg.shared.global cp.async.commit_group cp.async.wait_group createpolicy.fractional.L2::evict_last.b64
         createpolicy.fractional.L2::evict_first.b64 cp.async.cg.shared.global.L2::cache_hint
         ld.global.nc.L1::no_allocate.L2::cache_hint.v4.b32",
    ),
];

#[test]
fn a_device_crate_becomes_one_module_per_kernel_and_is_compiled_again_only_when_it_changes() {
    let krate = Crate::new("whole");
    let output = krate.builder().build().unwrap();
    let names: Vec<_> = output.modules.iter().map(|module| module.name.as_str()).collect();
    assert_eq!(names.iter().filter(|name| !name.starts_with("every_")).count(), 4);
    assert_eq!(names.len(), 4 + EVERY.len());
    assert_eq!(output.dir, krate.ptx());

    let halves = krate.module("halves");
    assert!(
        halves.contains(".target sm_70") && halves.contains(".maxntid 64, 1, 1\n.minnctapersm 2\n"),
        "{halves}"
    );
    assert!(halves.contains("shared_row[256]") && !halves.contains("cuda_std_dynamic_shared"), "{halves}");
    let counts = &lint::mnemonics(&halves).unwrap()["halves"];
    assert_eq!(lint::count(counts, "bar.sync"), 1, "{halves}");
    let sum = krate.module("sum_32");
    assert!(sum.contains(".param .align 64 .b8 sum_32_param_1[128]"), "{sum}");
    assert!(sum.contains(".extern .shared .align 1024 .b8 cuda_std_dynamic_shared[];"), "{sum}");
    for module in &output.modules {
        let text = krate.module(&module.name);
        assert!(lint::uses_local_memory(&text).unwrap().is_empty(), "{text}");
        assert_eq!(text.matches(".entry").count(), 1);
    }

    let has = |end: &str| output.sources.iter().any(|source| source.ends_with(end));
    for source in [
        "whole/src/lib.rs",
        "whole/src/tile.rs",
        "whole/Cargo.toml",
        "cuda-std/src/thread.rs",
        "macros/src/lib.rs",
    ] {
        assert!(has(source), "{source} is not among {:?}", output.sources);
    }
    for source in &output.sources {
        assert!(source.is_file() && !source.starts_with(&output.toolchain.sysroot), "{}", source.display());
    }

    // Every device function is the instruction that its documentation names.
    for (kernel, instructions) in EVERY {
        let found = &lint::mnemonics(&krate.module(kernel)).unwrap()[*kernel];
        for instruction in instructions.split_whitespace() {
            assert!(found.contains_key(instruction), "{kernel} has no {instruction}: {found:#?}");
        }
    }

    // Nothing changed: nothing is compiled, no file is written.
    let (compiled, before) = (krate.compiled(), krate.module("sum_8"));
    krate.builder().build().unwrap();
    assert_eq!(krate.compiled(), compiled);
    assert_eq!(krate.module("sum_8"), before);

    // Other options give other PTX, and going back to the first ones finds the first PTX again.
    krate.builder().generate_line_info(true).build().unwrap();
    let sum = krate.module("sum_8");
    assert!(sum.contains(".loc\t") && sum.contains("whole/src/lib.rs\"") && !sum.contains("debug"), "{sum}");
    krate.builder().build().unwrap();
    assert_eq!(krate.module("sum_8"), before);

    // One source changed: its kernels change, a kernel that went takes its module along, and other people's files stay.
    fs::write(krate.ptx().join("own.ptx"), "// mine\n").unwrap();
    krate.edit("src/tile.rs", "map.0[3]", "map.0[7]");
    krate.edit("src/lib.rs", "sum_kernel!(sum_32, 32u32);", "");
    let output = krate.builder().build().unwrap();
    assert_ne!(krate.compiled(), compiled);
    assert_eq!(output.modules.len(), 3 + EVERY.len());
    assert!(krate.module("sum_8") != before && krate.ptx().join("own.ptx").exists());
    assert!(!krate.ptx().join("sum_32.ptx").exists());
}

#[test]
fn what_the_source_gets_wrong_is_told_with_its_place() {
    let krate = Crate::new("wrong");
    krate.edit("src/lib.rs", "\"bar.sync\" = 1", "\"bar.sync\" = 2");
    let error = krate.builder().build().unwrap_err();
    assert!(matches!(error, CudaBuilderError::Collectives(_)));
    assert!(error.to_string().contains("`halves` has 1 × bar.sync, its source says 2"), "{error}");

    krate.edit("src/tile.rs", "map.0[3] as f32", "map.0[3]");
    let output = build_ptx(&krate.folder, |_| ());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("error[E0308]: mismatched types") && said.contains("src/tile.rs:10"), "{said}");
    assert!(said.contains("the device crate `device-fixture` does not compile for the GPU"), "{said}");
}

#[test]
fn the_outer_builds_flags_do_not_reach_the_device_and_a_build_script_names_its_sources() {
    let krate = Crate::new("script");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("script-out/debug/build/x/out");
    fs::create_dir_all(&out).unwrap();
    fs::write(out.ancestors().nth(4).unwrap().join("CACHEDIR.TAG"), "").unwrap();
    let output = build_ptx(&krate.folder, |command| {
        command.env("RUSTFLAGS", "-Cno-such-flag").env("CARGO_ENCODED_RUSTFLAGS", "-Cno-such-flag");
        command.env("RUSTC_WRAPPER", "/no/such/wrapper").env("CARGO_BUILD_TARGET", "no-such-target");
        command.env("OUT_DIR", &out).env("TARGET", "x86_64-unknown-linux-gnu");
    });
    let (said, stdout) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("cuda_builder: rustc 1."), "{said}");
    assert!(
        stdout.contains("cargo:rerun-if-changed=") && stdout.contains("script/src/tile.rs\n"),
        "{stdout}"
    );
    assert!(out.ancestors().nth(4).unwrap().join("cuda-builder/nvptx64-nvidia-cuda").is_dir());
}

/// The command, as a process of its own: its environment can be changed.
fn build_ptx(krate: &Path, with: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_build-ptx"));
    command.arg(krate).arg(krate.join("ptx"));
    with(&mut command);
    command.output().unwrap()
}

#[test]
fn a_path_without_a_crate_is_named() {
    let error = CudaBuilder::new("no/such/crate").build().unwrap_err();
    assert!(matches!(error, CudaBuilderError::CratePathDoesntExist(_)));
    assert!(error.to_string().contains("no device crate at `no/such/crate`"), "{error}");
}

/// A program that answers like rustc.
fn pretended_rustc(folder: &Path, version: &str) -> PathBuf {
    let path = folder.join("rustc");
    let script = format!(
        "#!/bin/sh\ncase $1 in --version) echo '{version}';; *) echo '{}';; esac\n",
        folder.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn an_old_compiler_is_refused_with_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let rustc = pretended_rustc(folder.path(), "rustc 1.85.1 (4eb161250 2025-03-15)");
    let error = Toolchain::from_programs(rustc, "cargo").unwrap_err().to_string();
    assert!(error.contains("1.85.1") && error.contains("1.96.0") && error.contains("./setup"), "{error}");
}

#[test]
fn a_missing_core_source_says_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    pretended_rustc(folder.path(), "rustc 1.97.0 (0000000 2026-07-09)");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixture");
    let output = build_ptx(&fixture, |command| {
        command.env("PATH", path).env_remove("RUSTC").env_remove("CARGO");
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("rustup component add rust-src") && said.contains("./setup"), "{said}");
}

#[test]
fn a_missing_compiler_says_what_to_install() {
    let error = Toolchain::from_programs("/no/such/rustc", "cargo").unwrap_err().to_string();
    assert!(
        error.contains("/no/such/rustc") && error.contains("./setup") && error.contains("rustup.rs"),
        "{error}"
    );
}
