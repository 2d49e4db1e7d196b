//! `stress`: the same problem again and again; every bit of the results must be the same each time.
//!
//! In the manner of flash-attention's own race test: 60 batch entries, 14 pairs of lengths, 250 repeats, causal and full. A race
//! that the results betray once in thousands of blocks shows here. Without a GPU the same runs on the emulator at a hundredth, each
//! repeat with blocks and warps in an order of its own.
//!
//! Exit codes: 0 all equal, 1 some results differ, 2 bad usage, a problem that the backend cannot run, or nothing to compare.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use flash_attention::{Backend, Causal, Device, Dtype, EmulatorOptions, Kind, Result, Tensor, sdpa};
use half::{bf16, f16};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Queries and keys: flash-attention's list.
const LENGTHS: [Lengths; 14] = [
    Lengths(1, 239),
    Lengths(3, 799),
    Lengths(127, 512),
    Lengths(127, 513),
    Lengths(113, 203),
    Lengths(128, 217),
    Lengths(113, 211),
    Lengths(108, 256),
    Lengths(256, 512),
    Lengths(512, 256),
    Lengths(1024, 1024),
    Lengths(1023, 1024),
    Lengths(1024, 1023),
    Lengths(2048, 2048),
];

#[derive(Clone, Copy)]
struct Lengths(usize, usize);

impl fmt::Display for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.0, self.1)
    }
}

/// `QUERIESxKEYS`.
fn lengths(text: &str) -> std::result::Result<Lengths, String> {
    let number = |n: &str| n.parse().ok().filter(|&n| n > 0);
    text.split_once('x')
        .and_then(|(queries, keys)| Some(Lengths(number(queries)?, number(keys)?)))
        .ok_or_else(|| format!("`{text}` is not QUERIESxKEYS, as in 113x203"))
}

/// A count of which none would leave nothing to compare.
fn count(text: &str) -> std::result::Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| format!("`{text}` is not a number from 1 on"))
}

/// A storage type by its name.
fn dtype(text: &str) -> std::result::Result<Dtype, String> {
    let all = [Dtype::F16, Dtype::Bf16, Dtype::F32];
    all.into_iter()
        .find(|dtype| dtype.name() == text)
        .ok_or_else(|| format!("`{text}` is not f16, bf16 or f32"))
}

#[derive(Parser)]
#[command(
    about = "Runs the same problems again and again: all results must be the same, bit by bit",
    version
)]
struct Arguments {
    /// Where: auto, cuda:0, emulator, cpu
    #[arg(long, default_value = "auto", value_parser = Device::parse)]
    device: Device,
    /// flash, efficient or math
    #[arg(long, default_value = "flash")]
    backend: Backend,
    /// f16, bf16, or with another backend f32
    #[arg(long, default_value = "bf16", value_parser = dtype)]
    dtype: Dtype,
    /// Columns of q, k and v
    #[arg(long, default_value_t = 128, value_parser = count)]
    head_dim: usize,
    /// Query heads and key heads
    #[arg(long, default_value_t = 4, value_parser = count)]
    heads: usize,
    /// With the kernel that adds up dq atomically, in place of those without; dq, whose last bits then vary, is not compared
    #[arg(long)]
    atomics: bool,
    /// Batch entries; on a GPU 60, elsewhere 6
    #[arg(long, value_parser = count)]
    batch: Option<usize>,
    /// Repeats of each problem; on a GPU 250, elsewhere 25; on the emulator each has blocks and warps in another order
    #[arg(long, value_parser = count)]
    repeats: Option<usize>,
    /// QUERIESxKEYS, several with commas between; all of flash-attention's list where it is not given
    #[arg(long, value_delimiter = ',', value_parser = lengths)]
    lengths: Vec<Lengths>,
}

/// Random numbers between -2 and 2.
fn random(device: &Device, dtype: Dtype, shape: [usize; 4], rng: &mut SmallRng) -> Result<Tensor> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-2.0..2.0)).collect();
    match dtype {
        Dtype::F16 => {
            let values: Vec<f16> = values.into_iter().map(f16::from_f32).collect();
            Tensor::from_slice(device, &values, &shape)
        }
        Dtype::Bf16 => {
            let values: Vec<bf16> = values.into_iter().map(bf16::from_f32).collect();
            Tensor::from_slice(device, &values, &shape)
        }
        _ => Tensor::from_slice(device, &values, &shape),
    }
}

/// What the repeats of a problem have in common.
#[derive(Clone, Copy)]
struct Setting<'a> {
    arguments: &'a Arguments,
    batch: usize,
    lengths: Lengths,
    causal: Causal,
}

/// One problem on a device.
struct Problem<'a> {
    setting: Setting<'a>,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dout: Tensor,
}

impl<'a> Problem<'a> {
    fn new(device: &Device, setting: Setting<'a>) -> Result<Problem<'a>> {
        let Setting { arguments, batch, lengths, .. } = setting;
        let mut rng = SmallRng::seed_from_u64((lengths.0 << 20 | lengths.1) as u64);
        let shape = |rows| [batch, arguments.heads, rows, arguments.head_dim];
        let mut tensor = |rows| random(device, arguments.dtype, shape(rows), &mut rng);
        let (q, k, v) = (tensor(lengths.0)?, tensor(lengths.1)?, tensor(lengths.1)?);
        let dout = tensor(lengths.0)?;
        Ok(Problem { setting, q, k, v, dout })
    }

    /// The results that must be the same each time, with their names.
    fn run(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let Arguments { backend, atomics, .. } = *self.setting.arguments;
        let call = sdpa(&self.q, &self.k, &self.v).causal(self.setting.causal).backend(backend);
        let call = call.deterministic(!atomics);
        let forward = call.forward()?;
        let gradients = forward.backward(&self.dout)?;
        [
            ("out", forward.output()),
            ("lse", forward.lse()),
            ("dk", &gradients.dk),
            ("dv", &gradients.dv),
            ("dq", &gradients.dq),
        ]
        .into_iter()
        .filter(|(name, _)| !atomics || *name != "dq")
        .map(|(name, tensor)| Ok((name, tensor.to_bytes()?)))
        .collect()
    }
}

impl Setting<'_> {
    /// Compares repeats with the first run: on the emulator each in an order of its own.
    fn repeat(self, repeats: usize) -> Result<Comparison> {
        let device = &self.arguments.device;
        let problem = Problem::new(device, self)?;
        let first = problem.run()?;
        let mut comparison = Comparison::default();
        for seed in 1..=repeats as u64 {
            let again = if device.kind() == Kind::Emulator {
                let emulator = Device::emulator_with(EmulatorOptions::default().seed(seed));
                Problem::new(&emulator, self)?.run()?
            } else {
                problem.run()?
            };
            let off: Vec<_> =
                first.iter().zip(&again).filter(|(a, b)| a.1 != b.1).map(|(a, _)| a.0).collect();
            comparison.bytes += again.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
            comparison.differ += usize::from(!off.is_empty());
            comparison.names.extend(off);
        }
        comparison.names.sort_unstable();
        comparison.names.dedup();
        Ok(comparison)
    }
}

/// What repeats of a problem gave.
#[derive(Default)]
struct Comparison {
    /// Bytes that were held against those of the first run.
    bytes: usize,
    /// Repeats that differ from it.
    differ: usize,
    /// The results in which they do.
    names: Vec<&'static str>,
}

/// Writes a line; nothing is lost where nobody reads it.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Runs all problems; returns how many had results that differ, and the fewest bytes that were compared in one.
fn stress(arguments: &Arguments) -> Result<(usize, usize)> {
    let (batch, repeats) = if arguments.device.kind() == Kind::Cuda { (60, 250) } else { (6, 25) };
    let batch = arguments.batch.unwrap_or(batch);
    let repeats = arguments.repeats.unwrap_or(repeats);
    let lengths = if arguments.lengths.is_empty() { LENGTHS.to_vec() } else { arguments.lengths.clone() };
    let Arguments { device, backend, dtype, heads, head_dim, .. } = arguments;
    let orders = if device.kind() == Kind::Emulator { ", each in an order of its own" } else { "" };
    say(&format!(
        "{device}, {backend}, {dtype}, batch {batch}, heads {heads}, head dim {head_dim}, {repeats} repeats{orders}"
    ));
    let (mut failed, mut fewest) = (0, None);
    for lengths in lengths {
        for causal in [Causal::None, Causal::LowerRight] {
            let start = Instant::now();
            let Comparison { bytes, differ, names } =
                Setting { arguments, batch, lengths, causal }.repeat(repeats)?;
            let verdict = match (bytes, differ) {
                (0, _) => "nothing to compare".to_string(),
                (_, 0) => "equal".to_string(),
                _ => format!("{differ} of {repeats} DIFFER: {}", names.join(", ")),
            };
            failed += usize::from(differ > 0);
            fewest = Some(fewest.map_or(bytes, |fewest: usize| fewest.min(bytes)));
            let mask = if causal == Causal::None { "full" } else { "causal" };
            say(&format!(
                "{:>9} {mask:>6}: {verdict} ({:.1} s)",
                lengths.to_string(),
                start.elapsed().as_secs_f64()
            ));
        }
    }
    Ok((failed, fewest.unwrap_or(0)))
}

fn main() -> ExitCode {
    match stress(&Arguments::parse()) {
        Ok((_, 0)) => {
            let _ = writeln!(std::io::stderr(), "stress: a problem has nothing to compare");
            ExitCode::from(2)
        }
        Ok((0, _)) => {
            say("all equal");
            ExitCode::SUCCESS
        }
        Ok((failed, _)) => {
            say(&format!("{failed} problems FAILED"));
            ExitCode::from(1)
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "stress: {error}");
            ExitCode::from(2)
        }
    }
}
