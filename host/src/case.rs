//! Problems in safetensors files, and the check of results against expected ones.
//!
//! A file holds the tensors `q`, `k`, `v`, and where they apply `dout`, `attn_mask` (u8 or bool, 0 = may not attend),
//! `attn_bias`, the expected `out`, `lse`, `dq`, `dk`, `dv`, `dbias`, and with each `err_…` the error that an equally precise
//! reference makes. Its metadata, all strings, are `dtype`, `layout` (`bhsd`, `bshd`, `bsd`), `scale` and `causal` (`none`,
//! `upper_left`, `lower_right`).

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype as Stored, SafeTensors};

use crate::autograd::Gradients;
use crate::device::Device;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::options::{Layout, Options};
use crate::tensor::Tensor;

mod check;
mod write;

pub use check::{Check, tolerance};
pub use write::encode;

/// A problem from a file: inputs on a device, options, and what is expected.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Case {
    /// Queries.
    pub q: Tensor,
    /// Keys.
    pub k: Tensor,
    /// Values.
    pub v: Tensor,
    /// Gradient of the output, if the file has it.
    pub dout: Option<Tensor>,
    /// What mask, bias and metadata say.
    pub options: Options,
    /// Expected tensors by name (`out`, `lse`, `dq`, `dk`, `dv`, `dbias`), on the CPU.
    pub expected: BTreeMap<String, Tensor>,
    /// The reference's largest absolute error by the same names.
    pub reference_errors: BTreeMap<String, f64>,
}

/// Names of the tensors that a check may expect.
const EXPECTED: [&str; 6] = ["out", "lse", "dq", "dk", "dv", "dbias"];

impl Case {
    /// Reads a file, its inputs to `device`.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be read, is not a safetensors file, lacks q, k or v, or asks for something that this
    /// version does not have; what goes wrong on the device.
    pub fn read(path: impl AsRef<Path>, device: &Device) -> Result<Case> {
        let path = path.as_ref();
        let named = |reason: String| Error::File { file: path.display().to_string(), reason };
        let bytes = std::fs::read(path).map_err(|error| named(error.to_string()))?;
        Case::parse(&bytes, device).map_err(|error| match error {
            Error::File { reason, .. } => named(reason),
            other => other,
        })
    }

    /// Reads a file's bytes, the inputs to `device`. As [`Case::read`].
    ///
    /// # Errors
    /// As [`Case::read`], with "the file" in place of its name.
    pub fn parse(bytes: &[u8], device: &Device) -> Result<Case> {
        let not_safetensors = |error| wrong(format!("it is not a safetensors file: {error}"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(not_safetensors)?;
        let file = SafeTensors::deserialize(bytes).map_err(not_safetensors)?;
        let options = options(header.metadata().as_ref().unwrap_or(&Default::default()))?;
        for name in ["cu_seqlens_q", "cu_seqlens_k"] {
            if file.tensor(name).is_ok() {
                return Err(wrong(format!("it holds {name}, but ragged batches are not in this version")));
            }
        }
        let input = |name: &str| tensor(&file, name, device);
        let needed = |name: &str| input(name)?.ok_or_else(|| wrong(format!("it has no tensor {name}")));
        let cpu = Device::cpu();
        let mut expected = BTreeMap::new();
        let mut reference_errors = BTreeMap::new();
        for name in EXPECTED {
            if let Some(tensor) = tensor(&file, name, &cpu)? {
                expected.insert(name.to_string(), tensor);
            }
            if let Some(error) = tensor(&file, &format!("err_{name}"), &cpu)? {
                let values = error.to_f64()?;
                let [value] = values[..] else {
                    return Err(wrong(format!("err_{name} holds {} numbers, not 1", values.len())));
                };
                reference_errors.insert(name.to_string(), value);
            }
        }
        Ok(Case {
            q: needed("q")?,
            k: needed("k")?,
            v: needed("v")?,
            dout: input("dout")?,
            options: Options { mask: input("attn_mask")?, bias: input("attn_bias")?, ..options },
            expected,
            reference_errors,
        })
    }

    /// Checks results against what the file expects: one line for each expected tensor that is given.
    ///
    /// # Errors
    /// [`Error::Shape`] where a result has not the expected shape; what goes wrong on the device.
    pub fn check(&self, out: &Tensor, lse: &Tensor, gradients: Option<&Gradients>) -> Result<Vec<Check>> {
        let mut results = vec![("out", out), ("lse", lse)];
        if let Some(Gradients { dq, dk, dv, dbias, dsinks }) = gradients {
            results.extend([("dq", dq), ("dk", dk), ("dv", dv)]);
            results.extend(dbias.as_ref().map(|dbias| ("dbias", dbias)));
            results.extend(dsinks.as_ref().map(|dsinks| ("dsinks", dsinks)));
        }
        let mut checks = vec![];
        for (name, result) in results {
            if let Some(expected) = self.expected.get(name) {
                let error = self.reference_errors.get(name).copied().unwrap_or(0.0);
                checks.push(Check::new(name, result, expected, error, self.q.dtype())?);
            }
        }
        Ok(checks)
    }
}

fn wrong(reason: impl Into<String>) -> Error {
    Error::File { file: "the file".into(), reason: reason.into() }
}

/// A tensor of the file on a device, if the file has it.
fn tensor(file: &SafeTensors<'_>, name: &str, device: &Device) -> Result<Option<Tensor>> {
    let Ok(view) = file.tensor(name) else { return Ok(None) };
    let dtype = match view.dtype() {
        Stored::F32 => Dtype::F32,
        Stored::F16 => Dtype::F16,
        Stored::BF16 => Dtype::Bf16,
        Stored::F64 => Dtype::F64,
        Stored::U8 | Stored::BOOL => Dtype::U8,
        Stored::I32 => Dtype::I32,
        other => {
            return Err(wrong(format!(
                "the tensor {name} is {other:?}, which is not a type this library has"
            )));
        }
    };
    Tensor::from_bytes(device, dtype, view.data(), view.shape()).map(Some)
}

/// The options that the metadata say; an error for what this version cannot do.
fn options(metadata: &std::collections::HashMap<String, String>) -> Result<Options> {
    let mut options = Options::default();
    let bad = |key: &str, value: &str, allowed: &str| {
        wrong(format!("its {key} is '{value}'; allowed are {allowed}"))
    };
    let number = |key: &str, value: &str| value.parse::<f32>().map_err(|_| bad(key, value, "numbers"));
    let absent = |what: &str, key: &str, value: &str| {
        wrong(format!("it asks for {what} ({key} = {value}), which this version does not have"))
    };
    for (key, value) in metadata {
        match key.as_str() {
            "layout" => {
                options.layout = match value.as_str() {
                    "bhsd" | "bsd" => Layout::Bhsd,
                    "bshd" => Layout::Bshd,
                    "thd" => return Err(absent("ragged batches", key, value)),
                    _ => return Err(bad(key, value, "bhsd, bshd and bsd")),
                }
            }
            "scale" => options.scale = Some(number(key, value)?),
            "causal" => {
                options.causal =
                    value.parse().map_err(|_| bad(key, value, "none, upper_left and lower_right"))?;
            }
            "window_left" | "window_right" if number(key, value)? != -1.0 => {
                return Err(absent("a sliding window", key, value));
            }
            "softcap" if number(key, value)? != 0.0 => return Err(absent("a softcap", key, value)),
            "alibi" if number(key, value)? != 0.0 => return Err(absent("ALiBi", key, value)),
            // `dtype` repeats what the tensors say; other keys are the writer's own.
            _ => {}
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests;
