//! Under which conditions something was measured.

use std::time::SystemTime;

use serde::Serialize;

use crate::arguments::{Schedule, Setup};
use crate::measure;

/// What a number means nothing without. Fields that are unknown are absent.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// When, in UTC.
    pub date: String,
    /// How to do it again.
    pub command: String,
    /// Version of this workspace.
    pub version: &'static str,
    /// `release` or `debug`.
    pub build: &'static str,
    /// The device's name.
    pub device: String,
    /// What it is.
    pub description: String,
    /// The NVIDIA driver, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The processor's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Host threads that work at the same time, on the emulator and the CPU.
    pub threads: usize,
    /// Runs before the first that counts.
    pub warmup: u32,
    /// Runs that count.
    pub repeats: u32,
    /// Whether the L2 cache was overwritten before every run.
    pub cold_l2: bool,
}

impl Environment {
    /// Looks around.
    pub fn new(setup: &Setup) -> Environment {
        let Schedule { warmup, repeats } = setup.schedule;
        let name = setup.device.name();
        let reports = flash_attention::devices();
        let described = reports.into_iter().find(|report| report.name == name);
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Environment {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            command: std::iter::once("bench".into()).chain(arguments).collect::<Vec<String>>().join(" "),
            version: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            description: described.map_or_else(String::new, |d| d.status.unwrap_or_else(|words| words)),
            device: name,
            driver: read("/proc/driver/nvidia/version").and_then(|text| driver(&text)),
            cpu: read("/proc/cpuinfo").and_then(|text| cpu(&text)),
            threads: setup.threads,
            warmup,
            repeats,
            cold_l2: measure::flushes(setup.device.kind()),
        }
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The first model name in Linux's `/proc/cpuinfo`.
fn cpu(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().into())
}

/// The version in Linux's `/proc/driver/nvidia/version`: the first word of its first line that has a dot and starts with a digit.
fn driver(text: &str) -> Option<String> {
    let is_version = |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_and_the_driver_are_read_from_linux() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\nflags\t: fpu\n";
        assert_eq!(cpu(text).as_deref(), Some("Some CPU @ 2.00GHz"));
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build\nGCC version: 12.2.0";
        assert_eq!(driver(open).as_deref(), Some("550.54.15"));
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 2023";
        assert_eq!(driver(closed).as_deref(), Some("535.104.05"));
        assert_eq!(driver(""), None);
    }
}
