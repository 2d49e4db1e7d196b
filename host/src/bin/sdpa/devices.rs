//! `sdpa devices`.

use std::process::ExitCode;

use flash_attention::devices as all;

use crate::Failure;
use crate::output::{say, table};

/// Prints what is there, and why something is not.
pub fn devices() -> Result<ExitCode, Failure> {
    let mut rows = table(&["device", "available", "what it is, or why not"], 0..0);
    for device in all() {
        let (available, words) = match device.status {
            Ok(words) => ("yes", words),
            Err(words) => ("no", words),
        };
        rows.add_row([device.name, available.into(), words]);
    }
    say(&rows.to_string());
    Ok(ExitCode::SUCCESS)
}
