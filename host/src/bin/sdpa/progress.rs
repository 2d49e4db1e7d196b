//! A progress bar on stderr, where that is a terminal, for runs that take a while.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use flash_attention::{OnProgress, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shorter runs show no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who draws the bar, and the bar to clear when all is done.
pub fn bar() -> (OnProgress, ProgressBar) {
    let bar = ProgressBar::hidden();
    if let Ok(style) = ProgressStyle::with_template("{msg} [{wide_bar}] {pos}/{len} blocks, {elapsed}") {
        bar.set_style(style);
    }
    let (drawn, start) = (bar.clone(), Instant::now());
    let shown = Mutex::new(false);
    let progress = OnProgress::new(move |Progress { kernel, done, total }| {
        if start.elapsed() < PATIENCE {
            return;
        }
        if let Ok(mut shown) = shown.lock()
            && !*shown
        {
            // Draws nothing where stderr is not a terminal.
            drawn.set_draw_target(ProgressDrawTarget::stderr());
            *shown = true;
        }
        drawn.set_length(total);
        drawn.set_position(done);
        drawn.set_message(kernel);
    });
    (progress, bar)
}

/// How many of a known number of steps are done, as a bar.
pub struct Steps(ProgressBar, Instant);

impl Steps {
    /// None of `total` is done.
    pub fn new(total: u64) -> Steps {
        let bar = ProgressBar::hidden();
        bar.set_length(total);
        if let Ok(style) = ProgressStyle::with_template("{msg} [{wide_bar}] {pos}/{len} runs, {elapsed}") {
            bar.set_style(style);
        }
        Steps(bar, Instant::now())
    }

    /// What is being done.
    pub fn say(&self, what: &'static str) {
        self.0.set_message(what);
    }

    /// One more is done.
    pub fn step(&self) {
        if self.0.is_hidden() && self.1.elapsed() >= PATIENCE {
            self.0.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.0.inc(1);
    }

    /// All is done; the bar goes.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
