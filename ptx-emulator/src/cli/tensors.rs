//! Tensors in emulated global memory: from a safetensors file and back to one.

use anyhow::{Context, bail};
use ptx_emulator::Emulator;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::BTreeMap;
use std::path::Path;

/// A tensor and where it lies.
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: usize,
    address: u64,
}

/// All tensors by name.
#[derive(Default)]
pub struct Tensors {
    all: BTreeMap<String, Tensor>,
}

impl Tensors {
    /// Copies a file's tensors to the device.
    pub fn load(&mut self, path: &Path, emulator: &Emulator) -> anyhow::Result<()> {
        let file = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let tensors = SafeTensors::deserialize(&file)
            .with_context(|| format!("{} is no safetensors file", path.display()))?;
        for (name, view) in tensors.tensors() {
            let data = view.data();
            let address = emulator.alloc(data.len() as u64).with_context(|| format!("tensor `{name}`"))?;
            emulator.write(address, data)?;
            let tensor =
                Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: data.len(), address };
            self.all.insert(name, tensor);
        }
        Ok(())
    }

    /// `NAME=DTYPE:SHAPE`.
    pub fn allocate(&mut self, text: &str, emulator: &Emulator) -> anyhow::Result<()> {
        let parts = text
            .split_once('=')
            .and_then(|(name, rest)| rest.split_once(':').map(|(dtype, shape)| (name, dtype, shape)));
        let Some((name, dtype, shape)) = parts else {
            bail!("--alloc {text}: it should be NAME=DTYPE:SHAPE, such as out=f32:2,128")
        };
        if self.all.contains_key(name) {
            bail!("--alloc {text}: there is a tensor `{name}` already");
        }
        let (dtype, size) =
            dtype_of(dtype).with_context(|| format!("--alloc {text}: unknown dtype `{dtype}`"))?;
        let shape = shape
            .split([',', 'x'])
            .filter(|n| !n.is_empty())
            .map(|n| {
                n.trim().parse::<usize>().with_context(|| format!("--alloc {text}: `{n}` is not a length"))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let bytes = shape
            .iter()
            .try_fold(size, |a, &b| a.checked_mul(b))
            .with_context(|| format!("--alloc {text}: too large"))?;
        let address = emulator.alloc(bytes as u64).with_context(|| format!("--alloc {text}"))?;
        emulator.fill(address, 0, bytes as u64)?;
        self.all.insert(name.into(), Tensor { dtype, shape, bytes, address });
        Ok(())
    }

    /// A tensor's device address.
    pub fn address(&self, name: &str) -> anyhow::Result<u64> {
        let known = || self.all.keys().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        self.all
            .get(name)
            .map(|t| t.address)
            .with_context(|| format!("there is no tensor `{name}`; there are {}", known()))
    }

    /// Writes all tensors; the file at `path` is replaced only when everything went well.
    pub fn save(&self, path: &Path, emulator: &Emulator) -> anyhow::Result<()> {
        let mut contents = Vec::new();
        for (name, tensor) in &self.all {
            let mut data = vec![0; tensor.bytes];
            emulator.read(tensor.address, &mut data)?;
            contents.push((name, tensor, data));
        }
        let mut views = Vec::new();
        for (name, tensor, data) in &contents {
            views.push((name.as_str(), TensorView::new(tensor.dtype, tensor.shape.clone(), data)?));
        }
        let bytes = safetensors::serialize(views, None)?;
        let name = path
            .file_name()
            .with_context(|| format!("{} is no file name", path.display()))?
            .to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
        let written = std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
        if written.is_err() {
            // The first error is the one to report.
            let _ = std::fs::remove_file(&temporary);
        }
        written.with_context(|| format!("writing {}", path.display()))
    }
}

fn dtype_of(name: &str) -> Option<(Dtype, usize)> {
    Some(match name.to_ascii_lowercase().as_str() {
        "bool" => (Dtype::BOOL, 1),
        "u8" => (Dtype::U8, 1),
        "i8" => (Dtype::I8, 1),
        "u16" => (Dtype::U16, 2),
        "i16" => (Dtype::I16, 2),
        "f16" => (Dtype::F16, 2),
        "bf16" => (Dtype::BF16, 2),
        "u32" => (Dtype::U32, 4),
        "i32" => (Dtype::I32, 4),
        "f32" => (Dtype::F32, 4),
        "u64" => (Dtype::U64, 8),
        "i64" => (Dtype::I64, 8),
        "f64" => (Dtype::F64, 8),
        _ => return None,
    })
}
