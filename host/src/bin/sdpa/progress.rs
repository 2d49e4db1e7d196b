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
