//! Ctrl-C: what runs is cancelled, and what was not asked for twice leaves no half-written file behind.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// What a shell gives for a command that an interrupt ended: 128 and the signal's number.
pub const EXIT_CODE: u8 = 130;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Set when the user wants the command to end.
pub fn flag() -> &'static AtomicBool {
    &INTERRUPTED
}

/// From now on Ctrl-C, and SIGTERM, set the flag; a second one ends the command at once.
pub fn listen() {
    let listening = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Relaxed) {
            std::process::exit(EXIT_CODE.into());
        }
    });
    // Without a handler an interrupt ends the command as the system does it.
    drop(listening);
}
