//! What the command understands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use flash_attention::{Backend, Causal, MAX_SPLITS};

/// Exact attention, forward and backward, on tensors in safetensors files.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compute attention of the tensors q, k and v in a file.
    Run(Run),
    /// Say of every backend whether it can run the problem in a file, or every reason why not.
    Explain(Explain),
    /// Time every backend that can run the problem in a file, and rank them.
    Sweep(Sweep),
    /// Show what logits and attention weights look like, head by head, and draw the weights of one.
    Stats(Stats),
    /// List the devices of this machine, and say why one is not there.
    Devices,
}

/// The problem, and what differs from the file's metadata.
#[derive(Args, Debug)]
pub struct Input {
    /// The safetensors file with q, k, v and, where they apply, attn_mask, attn_bias, alibi_slopes, sinks, key_lengths,
    /// cu_seqlens_q, cu_seqlens_k, dout, dlse and expected tensors.
    #[arg(value_name = "IN")]
    pub file: PathBuf,

    /// auto, cuda, cuda:N, emulator or cpu. auto is CUDA if there is a device, else the emulator.
    #[arg(long, default_value = "auto")]
    pub device: String,

    /// Host threads of the emulator [default: one a core].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,

    /// On the emulator, look for races, reads of memory that nobody wrote and barriers that not all threads reach.
    #[arg(long)]
    pub sanitize: bool,

    /// auto, math, efficient or flash; several, separated by commas, are tried in their order. sweep times these alone; auto is
    /// all of them.
    #[arg(long = "backend", value_name = "BACKEND,…", value_delimiter = ',', default_value = "auto")]
    pub backends: Vec<Backend>,

    /// Into how many parts flash divides the keys, 1 to 128; more than 1 only it can [default: as many as keep the device busy].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_SPLITS as i64))]
    pub splits: Option<u32>,
    /// Backward without atomic additions, which change the last bits of dq from run to run; false asks for them where they can be
    /// [default: they are used where there are many keys].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub deterministic: Option<bool>,

    /// Factor of the scores, in place of the file's; finite and not 0.
    // Not allow_negative_numbers, here and below: clap knows no exponents such as -1e-3.
    #[arg(long, allow_hyphen_values = true)]
    pub scale: Option<f32>,

    /// none, upper-left or lower-right, in place of the file's.
    #[arg(long)]
    pub causal: Option<Causal>,

    /// Keys before the diagonal that a query sees, in place of the file's; -1 is no bound.
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = bound)]
    pub window_left: Option<Bound>,

    /// Keys after the diagonal that a query sees, in place of the file's; -1 is no bound.
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = bound)]
    pub window_right: Option<Bound>,

    /// C in C * tanh(score / C), in place of the file's; finite and above 0, or 0 for none.
    #[arg(long, value_name = "C", allow_hyphen_values = true)]
    pub softcap: Option<f32>,

    /// The share of the attention weights that is dropped, in place of the file's; at least 0 and below 1.
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    pub dropout_p: Option<f32>,

    /// The seed of the dropped weights, in place of the file's [default: 0].
    #[arg(long, value_name = "N")]
    pub dropout_seed: Option<u64>,

    /// Which of the seed's masks, in place of the file's [default: 0].
    #[arg(long, value_name = "N")]
    pub dropout_offset: Option<u32>,
}

/// A bound of a window, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound(pub Option<usize>);

fn bound(text: &str) -> Result<Bound, String> {
    if text == "-1" {
        return Ok(Bound(None));
    }
    text.parse().map(|keys| Bound(Some(keys))).map_err(|_| "allowed are whole numbers from -1 on".into())
}

/// Where to, and what besides the output.
#[derive(Args, Debug)]
pub struct Run {
    #[command(flatten)]
    pub input: Input,

    /// Where to write out, lse and, with --backward, the gradients. A file appears whole or not at all; pipes and devices
    /// are written through.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Compute the gradients too; the file must hold dout.
    #[arg(long)]
    pub backward: bool,

    /// Compare with the expected tensors in the file; exit with 1 where one is off.
    #[arg(long)]
    pub check: bool,

    /// Write the attention weights too; only the backend math has them.
    #[arg(long, requires = "output")]
    pub weights: bool,
}

/// What to ask about.
#[derive(Args, Debug)]
pub struct Explain {
    #[command(flatten)]
    pub input: Input,

    /// Ask for the attention weights too.
    #[arg(long)]
    pub weights: bool,
}

/// How to measure.
#[derive(Args, Debug)]
pub struct Sweep {
    #[command(flatten)]
    pub input: Input,

    /// How often each backend runs after the first time, which does not count; the median is shown.
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeats: u32,

    /// Time backward too; without dout in the file the output takes its place.
    #[arg(long)]
    pub backward: bool,
}

/// What to look at.
#[derive(Args, Debug)]
pub struct Stats {
    #[command(flatten)]
    pub input: Input,

    /// Draw the weights of one head and the entropy of its rows; a name that ends with .png or .svg.
    #[arg(long, value_name = "OUT")]
    pub plot: Option<PathBuf>,

    /// The head that is drawn.
    #[arg(long, value_name = "H", default_value = "0", requires = "plot")]
    pub head: usize,

    /// The batch entry, or sequence of a ragged batch, that is drawn.
    #[arg(long, value_name = "B", default_value = "0", requires = "plot")]
    pub batch: usize,
}
