//! What the command understands, and what it makes of it: a preset, a device, and how often to measure.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use flash_attention::{Backend, Device, Dtype, EmulatorOptions, Kind};

/// Measures attention: time on a GPU or the CPU, instructions and bytes on the emulator.
#[derive(Debug, Parser)]
#[command(name = "bench", version, about)]
pub struct Arguments {
    /// What to measure [default: sweep on CUDA, emulator on the emulator, cpu on the CPU].
    #[arg(value_enum)]
    pub preset: Option<Preset>,

    /// auto, cuda, cuda:N, emulator or cpu. auto is the preset's own; without a preset CUDA if there is a device, else the
    /// emulator.
    #[arg(long, default_value = "auto")]
    pub device: String,

    /// math, efficient or flash; auto is the one that the library would take [default: every one that can].
    #[arg(long)]
    pub backend: Option<Backend>,

    /// f32, f16 or bf16 [default: f16; emulator: a mix; cpu: f32].
    #[arg(long, value_parser = dtype)]
    pub dtype: Option<Dtype>,

    /// Where to write the results as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Where to write the results as a picture.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    /// Measurements of each thing, of which the median counts [default: CUDA 30, CPU 5, emulator 3;
    /// nested on the emulator and model 1].
    #[arg(long, value_name = "N")]
    pub repeats: Option<NonZeroU32>,

    /// Runs before the first measurement [default: CUDA 5, else 1; nested on the emulator and model 0].
    #[arg(long, value_name = "N")]
    pub warmup: Option<u32>,

    /// Host threads of the emulator [default: one a core].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,

    /// Fewer shapes and repeats: to see that it works, not for numbers.
    #[arg(long)]
    pub quick: bool,
}

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// Forward of every backend at batch 32, heads 32, seq 1024, d 32, in microseconds; needs a GPU.
    Tutorial,
    /// Forward and backward, seq 512 to 16384, d 64, 128 and 256, causal and not, in TFLOP/s; needs a GPU.
    Sweep,
    /// Ragged against padded batches: batch 32, at most 512 tokens, half of it padding, 8 heads of 64, forward and backward, in
    /// microseconds; needs a GPU. With --device emulator it counts instructions and bytes of 1 head instead.
    Nested,
    /// Instructions, bytes and speed of every kernel on the emulator; under a minute.
    Emulator,
    /// What the kernels of Flash ask of a GPU, counted on the emulator, for `cargo xtask model`; seconds.
    Model,
    /// The Math backend on the CPU, in GFLOP/s.
    Cpu,
}

impl Preset {
    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Tutorial => "tutorial",
            Preset::Sweep => "sweep",
            Preset::Nested => "nested",
            Preset::Emulator => "emulator",
            Preset::Model => "model",
            Preset::Cpu => "cpu",
        }
    }

    /// What it measures when no preset is named.
    fn of(kind: Kind) -> Preset {
        match kind {
            Kind::Emulator => Preset::Emulator,
            Kind::Cpu => Preset::Cpu,
            _ => Preset::Sweep,
        }
    }

    /// Where it runs when no device is named.
    fn kind(self) -> Kind {
        match self {
            Preset::Tutorial | Preset::Sweep | Preset::Nested => Kind::Cuda,
            Preset::Emulator | Preset::Model => Kind::Emulator,
            Preset::Cpu => Kind::Cpu,
        }
    }

    fn runs_on(self, kind: Kind) -> bool {
        kind == self.kind() || (self == Preset::Nested && kind == Kind::Emulator)
    }

    /// Where it runs, in words.
    fn place(self) -> &'static str {
        match self {
            Preset::Tutorial | Preset::Sweep => "CUDA devices",
            Preset::Nested => "CUDA devices and the emulator",
            Preset::Emulator | Preset::Model => "the emulator",
            Preset::Cpu => "the CPU",
        }
    }
}

/// How often each thing runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Runs that do not count.
    pub warmup: u32,
    /// Runs that do, at least 1.
    pub repeats: u32,
}

/// What a preset needs to know.
#[derive(Debug)]
pub struct Setup {
    /// What to measure.
    pub preset: Preset,
    /// Where.
    pub device: Device,
    /// Host threads that work at the same time, on the emulator and the CPU.
    pub threads: usize,
    /// `None`: every backend that can.
    pub backend: Option<Backend>,
    /// `None`: the preset's own.
    pub dtype: Option<Dtype>,
    /// How often.
    pub schedule: Schedule,
    /// Fewer shapes.
    pub quick: bool,
    /// Where to write JSON.
    pub json: Option<PathBuf>,
    /// Where to write the picture.
    pub plot: Option<PathBuf>,
}

impl Setup {
    /// The backends to measure. `Math` computes on the CPU, so that beside kernels it is measured only where it is named.
    pub fn backends(&self) -> Vec<Backend> {
        let measured = |&backend: &Backend| backend != Backend::Math || self.device.kind() == Kind::Cpu;
        self.backend
            .map_or_else(|| Backend::ORDER.into_iter().filter(measured).collect(), |backend| vec![backend])
    }

    /// Which backends are left out, in words.
    pub fn notes(&self) -> Vec<String> {
        let left_out =
            Backend::ORDER.into_iter().filter(|b| self.backend.is_none() && !self.backends().contains(b));
        left_out.map(|backend| format!("not measured: {backend}, which computes on the CPU")).collect()
    }
}

/// How it begins.
#[derive(Debug)]
pub enum Start {
    /// There is something to measure on.
    Setup(Setup),
    /// There is no GPU, in one sentence.
    NoGpu(String),
}

impl Arguments {
    /// Finds preset and device.
    ///
    /// # Errors
    /// Where they do not fit together, or the device is not one.
    pub fn start(self) -> Result<Start, String> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let threads = self.threads.filter(|&n| n > 0);
        let wanted = match self.device.as_str() {
            "auto" => self.preset.map(Preset::kind),
            name => Some(kind_of(name)?),
        };
        if let (Some(preset), Some(kind)) = (self.preset, wanted)
            && !preset.runs_on(kind)
        {
            let (name, place) = (preset.name(), preset.place());
            return Err(format!("the preset {name} runs on {place} only, not on {}", self.device));
        }
        let options = EmulatorOptions::default().threads(threads.unwrap_or_default());
        let options = options.counters(self.preset == Some(Preset::Model));
        let emulator = || Device::emulator_with(options);
        let gpu = || match self.device.as_str() {
            "auto" => Device::cuda(0),
            name => Device::parse(name),
        };
        let device = match wanted {
            None => gpu().unwrap_or_else(|_| emulator()),
            Some(Kind::Emulator) => emulator(),
            Some(Kind::Cpu) => Device::cpu(),
            Some(_) => match gpu() {
                Ok(device) => device,
                Err(error) => {
                    let preset = self.preset.unwrap_or(Preset::Sweep);
                    let instead = if preset.runs_on(Kind::Emulator) {
                        "; with --device emulator it counts instructions and bytes"
                    } else {
                        ""
                    };
                    return Ok(Start::NoGpu(format!(
                        "the preset {} needs a GPU, so nothing was measured: {error}{instead}",
                        preset.name()
                    )));
                }
            },
        };
        let schedule = self.schedule(device.kind());
        Ok(Start::Setup(Setup {
            preset: self.preset.unwrap_or(Preset::of(device.kind())),
            threads: if device.kind() == Kind::Emulator { threads.unwrap_or(cores) } else { cores },
            device,
            backend: self.backend,
            dtype: self.dtype,
            schedule,
            quick: self.quick,
            json: self.json,
            plot: self.plot,
        }))
    }

    fn schedule(&self, kind: Kind) -> Schedule {
        let (warmup, repeats) = match (kind, self.quick) {
            (Kind::Cuda, false) => (5, 30),
            (Kind::Cuda, true) => (2, 5),
            (Kind::Cpu, false) => (1, 5),
            // It counts, and counts do not vary.
            _ if matches!(self.preset, Some(Preset::Nested | Preset::Model)) => (0, 1),
            (_, false) => (1, 3),
            (_, true) => (0, 1),
        };
        Schedule {
            warmup: self.warmup.unwrap_or(warmup),
            repeats: self.repeats.map_or(repeats, NonZeroU32::get),
        }
    }
}

fn kind_of(device: &str) -> Result<Kind, String> {
    match device {
        "emulator" => Ok(Kind::Emulator),
        "cpu" => Ok(Kind::Cpu),
        "cuda" => Ok(Kind::Cuda),
        name if name.strip_prefix("cuda:").is_some_and(|n| n.parse::<u32>().is_ok()) => Ok(Kind::Cuda),
        _ => Err(format!("'{device}' is not a device; allowed are auto, cuda, cuda:N, emulator and cpu")),
    }
}

fn dtype(name: &str) -> Result<Dtype, String> {
    let all = [Dtype::F32, Dtype::F16, Dtype::Bf16];
    all.into_iter()
        .find(|dtype| dtype.name() == name)
        .ok_or_else(|| format!("'{name}' is not a type of attention; allowed are f32, f16 and bf16"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn parse(line: &str) -> Arguments {
        Arguments::try_parse_from(["bench"].into_iter().chain(line.split_whitespace())).unwrap()
    }

    fn setup(line: &str) -> Setup {
        match parse(line).start() {
            Ok(Start::Setup(setup)) => setup,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[rstest]
    #[case("emulator", Preset::Emulator, Kind::Emulator)]
    #[case("model", Preset::Model, Kind::Emulator)]
    #[case("--device emulator", Preset::Emulator, Kind::Emulator)]
    #[case("cpu", Preset::Cpu, Kind::Cpu)]
    #[case("--device cpu", Preset::Cpu, Kind::Cpu)]
    #[case("nested --device emulator", Preset::Nested, Kind::Emulator)]
    fn preset_and_device_name_each_other(#[case] line: &str, #[case] preset: Preset, #[case] kind: Kind) {
        let setup = setup(line);
        assert_eq!((setup.preset, setup.device.kind()), (preset, kind));
    }

    #[rstest]
    #[case("tutorial --device cpu", "the preset tutorial runs on CUDA devices only, not on cpu")]
    #[case("emulator --device cuda:1", "the preset emulator runs on the emulator only, not on cuda:1")]
    #[case("nested --device cpu", "the preset nested runs on CUDA devices and the emulator only, not on cpu")]
    #[case("--device tpu", "'tpu' is not a device; allowed are auto, cuda, cuda:N, emulator and cpu")]
    fn what_does_not_fit_together_is_an_error(#[case] line: &str, #[case] sentence: &str) {
        assert_eq!(parse(line).start().unwrap_err(), sentence);
    }

    #[test]
    fn an_ordinal_that_no_machine_has_is_no_gpu_rather_than_an_error() {
        let start = parse("sweep --device cuda:4000000000").start();
        assert!(matches!(&start, Ok(Start::NoGpu(s)) if s.starts_with("the preset sweep needs a GPU")));
    }

    #[test]
    fn counts_default_by_device_and_can_be_given() {
        assert_eq!(setup("cpu").schedule, Schedule { warmup: 1, repeats: 5 });
        assert_eq!(setup("cpu --quick --warmup 7").schedule, Schedule { warmup: 7, repeats: 1 });
        assert_eq!(setup("nested --device emulator").schedule, Schedule { warmup: 0, repeats: 1 });
        assert_eq!(setup("emulator --repeats 2 --threads 3").schedule.repeats, 2);
        assert!(Arguments::try_parse_from(["bench", "--repeats", "0"]).is_err());
        assert!(Arguments::try_parse_from(["bench", "--dtype", "u8"]).is_err());
    }

    #[test]
    fn every_backend_is_measured_unless_one_is_named() {
        assert_eq!(setup("cpu").backends(), Backend::ORDER);
        assert_eq!(setup("cpu --backend math").backends(), [Backend::Math]);
        assert!(setup("cpu").notes().is_empty());
    }

    #[test]
    fn math_is_not_measured_beside_kernels_unless_it_is_named() {
        let both = setup("nested --device emulator");
        assert_eq!(both.backends(), [Backend::Flash, Backend::Efficient]);
        assert_eq!(both.notes(), ["not measured: math, which computes on the CPU"]);
        let named = setup("nested --device emulator --backend math");
        assert_eq!((named.backends(), named.notes()), (vec![Backend::Math], vec![]));
    }
}
