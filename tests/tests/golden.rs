//! Every golden case, forward and backward, on every device; one line a case and device, and one for all that is skipped.

use std::path::Path;
use std::process::ExitCode;

use flash_attention::case::Case;
use flash_attention::{Device, Kind};
use flash_attention_conformance::devices::{devices, say};
use flash_attention_conformance::golden::{self, File};
use libtest_mimic::{Arguments, Failed, Trial};

/// A line that says what is not run, and why.
fn skipped(what: &str, reason: &str) -> Trial {
    let failure = Failed::from(reason);
    Trial::test(format!("{what}: {reason}"), move || Err(failure))
        .with_kind("skipped")
        .with_ignored_flag(true)
}

/// A case on every device, or, where it asks for what the library does not have, that it is refused in words.
fn trials(source: &str, file: File, all: &mut Vec<Trial>) {
    let File { name, path, unsupported } = file;
    let Some(reason) = unsupported else {
        all.extend(devices().iter().map(|device| {
            let path = path.clone();
            let run = move || golden::run(&path, device).map_err(Failed::from);
            Trial::test(format!("{source}::{name} on {device}"), run)
        }));
        return;
    };
    all.push(skipped(&format!("{source}::{name}"), &format!("{reason} not supported")));
    all.push(Trial::test(format!("{source}::{name} is refused in words"), move || {
        match Case::read(&path, &Device::cpu()) {
            Err(error) if error.to_string().contains("this version") => Ok(()),
            Err(error) => Err(Failed::from(format!("the refusal does not say why: {error}"))),
            Ok(_) => Err(Failed::from("it was read as if it asked for nothing special")),
        }
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
