//! From arguments to a problem on a device.

use flash_attention::case::Case;
use flash_attention::{Device, EmulatorOptions};

use crate::arguments::Input;
use crate::{Failure, words};

/// A problem, and the words that say on which device it is.
pub struct Loaded {
    /// The file's problem, with the options that the arguments change.
    pub case: Case,
    /// The device, and for `auto` why it is not a GPU.
    pub device: String,
}

/// Reads the file and applies the arguments.
pub fn load(input: &Input) -> Result<Loaded, Failure> {
    let (device, note) = device(input)?;
    let mut case = Case::read(&input.file, &device).map_err(words)?;
    let options = &mut case.options;
    options.backend = input.backends[0];
    options.scale = input.scale.or(options.scale);
    options.causal = input.causal.unwrap_or(options.causal);
    Ok(Loaded { case, device: format!("{device}{note}") })
}

/// What a problem is, in a line.
pub fn summary(input: &Input, case: &Case) -> String {
    let shapes = format!("q {:?}, k {:?}, v {:?}", case.q.shape(), case.k.shape(), case.v.shape());
    format!("{}: {}, {shapes}", input.file.display(), case.q.dtype())
}

fn device(input: &Input) -> Result<(Device, String), Failure> {
    let emulator = || {
        let options = EmulatorOptions::default();
        Device::emulator_with(input.threads.map_or(options, |threads| options.threads(threads)))
    };
    match input.device.as_str() {
        "emulator" => Ok((emulator(), String::new())),
        "auto" => Ok(match Device::cuda(0) {
            Ok(cuda) => (cuda, " (auto)".into()),
            Err(reason) => (emulator(), format!(" (auto: {reason})")),
        }),
        name => Ok((Device::parse(name).map_err(words)?, String::new())),
    }
}
