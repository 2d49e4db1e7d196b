//! What the metadata of a file say.

use std::collections::HashMap;
use std::str::FromStr;

use super::wrong;
use crate::error::{Error, Result};
use crate::options::{Dropout, Layout, Options, Window};

/// The options that the metadata say, and what needs the tensors too.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) options: Options,
    /// The layout by its name, where it is said.
    pub(super) layout: Option<Packing>,
    /// Whether there are ALiBi slopes of the usual kind.
    pub(super) alibi: bool,
}

/// Whether the tensors are those of a ragged batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Ragged,
    Dense,
}

fn bad(key: &str, value: &str, allowed: &str) -> Error {
    wrong(format!("its {key} is '{value}'; allowed are {allowed}"))
}

fn parsed<T: FromStr>(key: &str, value: &str, allowed: &str) -> Result<T> {
    value.parse().map_err(|_| bad(key, value, allowed))
}

/// A bound of the window; -1 is none.
fn bound(key: &str, value: &str) -> Result<Option<usize>> {
    if value == "-1" {
        return Ok(None);
    }
    parsed(key, value, "whole numbers from 0 on, and -1 for none").map(Some)
}

/// Reads the metadata. `dtype` repeats what the tensors say; keys that are not ours are the writer's own.
pub(super) fn read(metadata: &HashMap<String, String>) -> Result<Said> {
    let mut said = Said::default();
    let options = &mut said.options;
    let mut dropout = Dropout { p: 0.0, seed: 0, offset: 0 };
    let mut window = Window::default();
    for (key, value) in metadata {
        let value = value.as_str();
        match key.as_str() {
            "layout" => {
                let (layout, packing) = match value {
                    "bhsd" | "bsd" => (Layout::Bhsd, Packing::Dense),
                    "bshd" => (Layout::Bshd, Packing::Dense),
                    "thd" => (Layout::Bhsd, Packing::Ragged),
                    _ => return Err(bad(key, value, "bhsd, bshd, bsd and thd")),
                };
                options.layout = layout;
                said.layout = Some(packing);
            }
            "scale" => options.scale = Some(parsed(key, value, "numbers")?),
            "causal" => options.causal = parsed(key, value, "none, upper_left and lower_right")?,
            "window_left" => window.left = bound(key, value)?,
            "window_right" => window.right = bound(key, value)?,
            "softcap" => options.softcap = Some(parsed(key, value, "numbers")?).filter(|&cap| cap != 0.0),
            "alibi" => {
                said.alibi = match value {
                    "0" => false,
                    "1" => true,
                    _ => return Err(bad(key, value, "0 and 1")),
                }
            }
            "dropout_p" => dropout.p = parsed(key, value, "numbers")?,
            "dropout_seed" => dropout.seed = parsed(key, value, "whole numbers from 0 on, of 64 bits")?,
            "dropout_offset" => dropout.offset = parsed(key, value, "whole numbers from 0 on, of 32 bits")?,
            _ => {}
        }
    }
    options.window = window;
    options.dropout = Some(dropout).filter(|dropout| dropout.p != 0.0);
    Ok(said)
}
