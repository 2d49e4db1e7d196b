//! From arguments to a problem on a device.

use flash_attention::case::Case;
use flash_attention::{Device, Dropout, EmulatorOptions, Options};

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
    change(&mut case.options, input)?;
    Ok(Loaded { case, device: format!("{device}{note}") })
}

/// Puts the arguments in the place of what the file says.
fn change(options: &mut Options, input: &Input) -> Result<(), Failure> {
    options.backends = input.backends.clone();
    options.splits = input.splits.map_or(options.splits, |splits| splits as usize);
    options.deterministic = input.deterministic;
    options.scale = input.scale.or(options.scale);
    options.causal = input.causal.unwrap_or(options.causal);
    options.window.left = input.window_left.map_or(options.window.left, |bound| bound.0);
    options.window.right = input.window_right.map_or(options.window.right, |bound| bound.0);
    match input.softcap {
        Some(0.0) => options.softcap = None,
        Some(softcap) => options.softcap = Some(softcap),
        None => {}
    }
    if let Some(p) = input.dropout_p {
        let (seed, offset) = options.dropout.map_or((0, 0), |dropout| (dropout.seed, dropout.offset));
        options.dropout = Some(Dropout { p, seed, offset });
    }
    for (name, given) in [("seed", input.dropout_seed.is_some()), ("offset", input.dropout_offset.is_some())]
    {
        if given && options.dropout.is_none() {
            return Err(format!(
                "--dropout-{name} is given, but neither {} nor --dropout-p asks for dropout",
                input.file.display()
            ));
        }
    }
    if let Some(dropout) = &mut options.dropout {
        dropout.seed = input.dropout_seed.unwrap_or(dropout.seed);
        dropout.offset = input.dropout_offset.unwrap_or(dropout.offset);
    }
    Ok(())
}

/// What a problem is, in a line.
pub fn summary(input: &Input, case: &Case) -> String {
    let shapes = format!("q {:?}, k {:?}, v {:?}", case.q.shape(), case.k.shape(), case.v.shape());
    format!("{}: {}, {shapes}", input.file.display(), case.q.dtype())
}

fn device(input: &Input) -> Result<(Device, String), Failure> {
    let emulator = || {
        let options = EmulatorOptions::default().checks(input.sanitize);
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    #[test]
    fn atomic_additions_are_left_to_the_library_or_decided() {
        let cases = [
            (None, None),
            (Some(""), Some(true)),
            (Some("=true"), Some(true)),
            (Some("=false"), Some(false)),
        ];
        for (value, expected) in cases {
            let flag = value.map(|value| format!("--deterministic{value}"));
            let words = ["sdpa", "run", "in"].map(String::from).into_iter().chain(flag);
            let Command::Run(run) = Arguments::try_parse_from(words).unwrap().command else {
                panic!("it is no run")
            };
            let mut options = Options::default();
            assert!(change(&mut options, &run.input).is_ok());
            assert_eq!(options.deterministic, expected, "{value:?}");
        }
    }
}
