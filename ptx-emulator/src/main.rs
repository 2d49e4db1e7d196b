//! The command `ptx-emulator`: runs a kernel of a PTX file on tensors of a safetensors file.

mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::Arguments::try_parse() {
        Ok(arguments) => cli::run(arguments),
        Err(error) => {
            // Help and version go to stdout and are no error.
            let bad = error.use_stderr();
            // Nothing can be done if the terminal is gone.
            let _ = error.print();
            ExitCode::from(if bad { 2 } else { 0 })
        }
    }
}
