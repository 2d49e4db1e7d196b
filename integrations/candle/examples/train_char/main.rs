//! Trains a small model of characters on a text that ships with it, and shows the loss falling.
//!
//! `cargo run --release -p flash-attention-candle --example train_char -- --plot loss.svg`

mod data;
mod model;
mod plot;
mod training;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use flash_attention_candle::Config;
use indicatif::{ProgressBar, ProgressStyle};
use training::{Plan, Training};

/// How many times the losses are printed.
const REPORTS: usize = 10;

#[derive(Parser)]
#[command(about = "Trains a small model of characters on a text that ships with it")]
struct Arguments {
    /// Steps of training
    #[arg(long, default_value_t = 400)]
    steps: usize,
    /// Pieces of text in a step
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Characters in a piece
    #[arg(long, default_value_t = 64)]
    context: usize,
    /// Blocks of attention and perceptron
    #[arg(long, default_value_t = 2)]
    blocks: usize,
    /// Columns of the model
    #[arg(long, default_value_t = 64)]
    columns: usize,
    /// Heads of attention
    #[arg(long, default_value_t = 4)]
    heads: usize,
    /// Share of attention weights, and of what attention gives, that training drops
    #[arg(long, default_value_t = 0.1)]
    dropout: f32,
    /// Seed of everything that is random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write a plot of the losses (SVG)
    #[arg(long)]
    plot: Option<PathBuf>,
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { steps, batch, context, blocks, columns, heads, dropout, seed, .. } = *arguments;
    let attention = Config { embed_dim: columns, heads, dropout, bias: true };
    let mut training = Training::new(Plan { batch, context, blocks, attention, seed })?;
    let uniform = (training.vocabulary() as f32).ln();
    println!("{} different characters; guessing costs {uniform:.2} nats a character", training.vocabulary());

    let style = ProgressStyle::with_template("{bar:40} step {pos} of {len}, {msg}, {eta} left")?;
    let bar = ProgressBar::new(steps as u64).with_style(style);
    let start = Instant::now();
    let (mut trained, mut held_out) = (vec![], vec![(0, training.held_out_loss()?)]);
    let mut recent = vec![];
    for step in 1..=steps {
        let loss = training.step()?;
        recent.push(loss);
        bar.set_message(format!("loss {loss:.3}"));
        bar.inc(1);
        if step % steps.div_ceil(REPORTS) == 0 || step == steps {
            let mean = recent.iter().sum::<f32>() / recent.len() as f32;
            recent.clear();
            held_out.push((step, training.held_out_loss()?));
            let line = format!(
                "step {step:>5}: trained on {mean:.3}, held out {:.3}",
                held_out[held_out.len() - 1].1
            );
            // With the bar hidden, as in a file, the bar prints nothing.
            if bar.is_hidden() { println!("{line}") } else { bar.println(line) }
        }
        trained.push((step, loss));
    }
    bar.finish_and_clear();
    println!("{steps} steps in {:.1} s", start.elapsed().as_secs_f64());
    println!("\n{}", training.continued("The river ", 300)?);
    if let Some(path) = &arguments.plot {
        std::fs::write(path, plot::svg(&trained, &held_out)?)?;
        println!("\nthe plot is in {}", path.display());
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("train_char: {error}");
            ExitCode::from(2)
        }
    }
}
