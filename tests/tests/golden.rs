//! Every golden case, forward and backward, by every backend on every device; one line each, and one for all that is skipped.

use std::path::Path;
use std::process::ExitCode;

use flash_attention::{Backend, Kind};
use flash_attention_conformance::devices::{devices, say, targets};
use flash_attention_conformance::golden::{self, File};
use libtest_mimic::{Arguments, Failed, Trial};

/// A line that says what is not run, and why.
fn skipped(what: &str, reason: &str) -> Trial {
    let failure = Failed::from(reason);
    Trial::test(format!("{what}: {reason}"), move || Err(failure))
        .with_kind("skipped")
        .with_ignored_flag(true)
}

/// A case on every backend and device.
fn trials(source: &str, file: File, all: &mut Vec<Trial>) {
    let File { name, path } = file;
    all.extend(targets().into_iter().map(|target| {
        let path = path.clone();
        let name = format!("{source}::{name} on {target}");
        match golden::takes(&path, target.backend) {
            Ok(true) => Trial::test(name, move || golden::run(&path, &target, 0).map_err(Failed::from)),
            Ok(false) => {
                let name = format!("{name} is refused: f32");
                Trial::test(name, move || golden::refused(&path, &target).map_err(Failed::from))
            }
            Err(error) => Trial::test(name, move || Err(Failed::from(error))),
        }
    }));
    let flash = targets().into_iter().filter(|target| target.backend == Backend::Flash && target.is_whole());
    all.extend(flash.filter(|target| golden::takes(&path, target.backend) == Ok(true)).map(|target| {
        let path = path.clone();
        let name = format!("{source}::{name} in 3 splits on {target}");
        Trial::test(name, move || golden::run(&path, &target, 3).map_err(Failed::from))
    }));
}

/// All trials of a folder.
fn collect(source: &str, folder: &Path, all: &mut Vec<Trial>) {
    match golden::files(folder) {
        Some(Ok(files)) if !files.is_empty() => files.into_iter().for_each(|file| trials(source, file, all)),
        Some(Err(error)) => {
            all.push(Trial::test(format!("{source} cases can be read"), move || Err(Failed::from(error))));
        }
        _ => {
            let reason = format!("there are no cases in {}", folder.display());
            say(&format!("skipped: all {source} cases, because {reason}"));
            all.push(skipped(&format!("{source} cases"), &reason));
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut all = vec![];
    collect("golden", &golden::folder(), &mut all);
    collect("example", &golden::examples(), &mut all);
    if devices().iter().all(|device| device.kind() != Kind::Cuda) {
        all.push(skipped("every case on cuda", "there is no CUDA device"));
    }
    libtest_mimic::run(&arguments, all).exit_code()
}
