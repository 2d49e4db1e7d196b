//! Problems in safetensors files, and the check of results against expected ones.
//!
//! A file holds the tensors `q`, `k`, `v`, and where they apply `dout`, `dlse`, `attn_mask` (u8 or bool, 0 = may not attend),
//! `attn_bias`, `alibi_slopes` (f32 `[heads]` or `[batch, heads]`), `sinks` (f32 `[heads]`), `key_lengths` (i32 `[batch]`), the
//! offsets `cu_seqlens_q` and `cu_seqlens_k` of a ragged batch (i32 `[sequences + 1]`), the expected `out`, `lse`, `dq`, `dk`,
//! `dv`, `dbias`, `dsinks`, and with each `err_…` the error that an equally precise reference makes.
//!
//! Its metadata, all strings, are `dtype`, `layout` (`bhsd`, `bshd`, `bsd`, and `thd` for ragged batches), `scale`, `causal`
//! (`none`, `upper_left`, `lower_right`), `window_left` and `window_right` (-1 = none), `softcap` (0 = none), `alibi` (1 = the
//! slopes `2^(-8(h+1)/heads)` where there are no `alibi_slopes`), `dropout_p`, `dropout_seed` and `dropout_offset`.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype as Stored, SafeTensors};

use crate::autograd::Gradients;
use crate::device::Device;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::options::{Layout, Options, Ragged};
use crate::tensor::Tensor;
use metadata::{Packing, Said};

mod check;
mod metadata;
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
    /// Gradient of the log-sum-exp, if the file has it.
    pub dlse: Option<Tensor>,
    /// What the other tensors and the metadata say.
    pub options: Options,
    /// Expected tensors by name (`out`, `lse`, `dq`, `dk`, `dv`, `dbias`, `dsinks`), on the CPU.
    pub expected: BTreeMap<String, Tensor>,
    /// The reference's largest absolute error by the same names.
    pub reference_errors: BTreeMap<String, f64>,
}

/// Names of the tensors that a check may expect.
const EXPECTED: [&str; 7] = ["out", "lse", "dq", "dk", "dv", "dbias", "dsinks"];

/// The most heads for which a file may leave the slopes to the formula: a file can claim any number.
const MAX_SLOPES: usize = 1 << 20;

impl Case {
    /// Reads a file, its inputs to `device`.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be read, is not a safetensors file, lacks q, k or v, or says something that cannot be;
    /// what goes wrong on the device. Whether the parts fit together is found when the problem is run.
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
        let said = metadata::read(header.metadata().as_ref().unwrap_or(&Default::default()))?;
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
        let q = needed("q")?;
        let ragged = ragged(&file, said.layout)?;
        let options = Options {
            mask: input("attn_mask")?,
            bias: input("attn_bias")?,
            sinks: input("sinks")?,
            key_lengths: lengths(&file, "key_lengths")?,
            alibi: match input("alibi_slopes")? {
                None if said.alibi => Some(slopes(&q, &said, ragged.is_some())?),
                slopes => slopes,
            },
            ragged,
            ..said.options
        };
        let (k, v) = (needed("k")?, needed("v")?);
        Ok(Case { q, k, v, dout: input("dout")?, dlse: input("dlse")?, options, expected, reference_errors })
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

/// A list of lengths or offsets, i32 and none negative, if the file has it.
fn lengths(file: &SafeTensors<'_>, name: &str) -> Result<Option<Vec<usize>>> {
    let Some(list) = tensor(file, name, &Device::cpu())? else { return Ok(None) };
    if list.dtype() != Dtype::I32 {
        return Err(wrong(format!("its tensor {name} is {}; allowed is i32", list.dtype())));
    }
    if list.rank() != 1 {
        return Err(wrong(format!("its tensor {name} has {} dimensions, not 1", list.rank())));
    }
    let entry = |(i, number): (usize, i32)| {
        usize::try_from(number).map_err(|_| wrong(format!("{name}[{i}] is {number}; it must be at least 0")))
    };
    list.to_vec::<i32>()?.into_iter().enumerate().map(entry).collect::<Result<_>>().map(Some)
}

/// The offsets of a ragged batch; the layout, where the file says one, must agree.
fn ragged(file: &SafeTensors<'_>, layout: Option<Packing>) -> Result<Option<Ragged>> {
    let offsets = [lengths(file, "cu_seqlens_q")?, lengths(file, "cu_seqlens_k")?];
    let missing = |what: &str, name: &str| Err(wrong(format!("{what}, but it has no tensor {name}")));
    match (layout, offsets) {
        (Some(Packing::Ragged) | None, [Some(query_offsets), Some(key_offsets)]) => {
            Ok(Some(Ragged { query_offsets, key_offsets }))
        }
        (Some(Packing::Dense) | None, [None, None]) => Ok(None),
        (Some(Packing::Dense), _) => {
            Err(wrong("it holds offsets of a ragged batch, but its layout is not thd"))
        }
        (Some(Packing::Ragged), [None, _]) => missing("its layout is thd", "cu_seqlens_q"),
        (Some(Packing::Ragged), [_, None]) => missing("its layout is thd", "cu_seqlens_k"),
        (None, [Some(_), None]) => missing("it holds cu_seqlens_q", "cu_seqlens_k"),
        (None, [None, Some(_)]) => missing("it holds cu_seqlens_k", "cu_seqlens_q"),
    }
}

/// ALiBi's usual slopes for the heads of q, `2^(-8(h+1)/heads)`.
fn slopes(q: &Tensor, said: &Said, ragged: bool) -> Result<Tensor> {
    let dimension = match (ragged, q.rank(), said.options.layout) {
        (true, ..) | (false, 4, Layout::Bhsd) => Some(1),
        (false, 4, Layout::Bshd) => Some(2),
        _ => None,
    };
    let heads = dimension.map_or(1, |dimension| q.shape().get(dimension).copied().unwrap_or(1));
    if heads > MAX_SLOPES {
        return Err(wrong(format!(
            "its alibi is 1 and q has {heads} heads; at most {MAX_SLOPES} are allowed"
        )));
    }
    let slope = |head: usize| (-8.0 * (head + 1) as f64 / heads as f64).exp2();
    Tensor::of_wide(q.device(), Dtype::F32, (0..heads).map(slope), &[heads])
}

#[cfg(test)]
mod tests;
