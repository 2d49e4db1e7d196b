//! What the command understands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use flash_attention::{Backend, Causal};

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
    /// List the devices of this machine, and say why one is not there.
    Devices,
}

/// Where from, where to, and what differs from the file's metadata.
#[derive(Args, Debug)]
pub struct Run {
    /// The safetensors file with q, k, v and, where they apply, dout, attn_mask, attn_bias and expected tensors.
    pub input: PathBuf,

    /// Where to write out, lse and, with --backward, the gradients.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Compute the gradients too; the file must hold dout.
    #[arg(long)]
    pub backward: bool,

    /// Compare with the expected tensors in the file; exit with 1 where one is off.
    #[arg(long)]
    pub check: bool,

    /// auto, cuda, cuda:N, emulator or cpu. auto is CUDA if there is a device, else the emulator.
    #[arg(long, default_value = "auto")]
    pub device: String,

    /// Host threads of the emulator [default: one a core].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,

    /// auto, math, efficient or flash.
    #[arg(long, default_value = "auto")]
    pub backend: Backend,

    /// Factor of the scores, in place of the file's.
    #[arg(long, allow_negative_numbers = true)]
    pub scale: Option<f32>,

    /// none, upper-left or lower-right, in place of the file's.
    #[arg(long)]
    pub causal: Option<Causal>,
}
