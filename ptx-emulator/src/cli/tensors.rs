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

    /// `NAME=DTYPE:SHAPE`, a tensor of zeros, and the option that it came with. Where it is `written` a kernel may read it.
    pub fn allocate(
        &mut self,
        (option, text): (&str, &str),
        written: bool,
        emulator: &Emulator,
    ) -> anyhow::Result<()> {
        let parts = text
            .split_once('=')
            .and_then(|(name, rest)| rest.split_once(':').map(|(dtype, shape)| (name, dtype, shape)));
        let Some((name, dtype, shape)) = parts else {
            bail!("{option} {text}: it should be NAME=DTYPE:SHAPE, such as out=f32:2,128")
        };
        if self.all.contains_key(name) {
            bail!("{option} {text}: there is a tensor `{name}` already");
        }
        let (dtype, size) =
            dtype_of(dtype).with_context(|| format!("{option} {text}: unknown dtype `{dtype}`"))?;
        let shape = shape
            .split([',', 'x'])
            .filter(|n| !n.is_empty())
            .map(|n| {
                n.trim().parse::<usize>().with_context(|| format!("{option} {text}: `{n}` is not a length"))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let bytes = shape
            .iter()
            .try_fold(size, |a, &b| a.checked_mul(b))
            .with_context(|| format!("{option} {text}: too large"))?;
        let address = emulator.alloc(bytes as u64).with_context(|| format!("{option} {text}"))?;
        if written {
            emulator.fill(address, 0, bytes as u64)?;
        }
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

    /// What all tensors hold now.
    pub fn contents(&self, emulator: &Emulator) -> anyhow::Result<Contents> {
        let mut all = Vec::new();
        for (name, tensor) in &self.all {
            let mut bytes = vec![0; tensor.bytes];
            emulator.read(tensor.address, &mut bytes)?;
            all.push(Content { name: name.clone(), dtype: tensor.dtype, shape: tensor.shape.clone(), bytes });
        }
        Ok(Contents { all })
    }
}

/// A tensor's name, type, shape and bytes.
struct Content {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// What all tensors held at some time.
pub struct Contents {
    all: Vec<Content>,
}

/// The first element that two runs left different.
#[derive(Debug, PartialEq)]
pub struct Found {
    pub tensor: String,
    /// Its place in row-major order, as an index a dimension.
    pub element: String,
    pub here: String,
    pub there: String,
}

impl Contents {
    /// As a safetensors file.
    pub fn serialize(&self) -> anyhow::Result<Vec<u8>> {
        let mut views = Vec::new();
        for tensor in &self.all {
            let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes)?;
            views.push((tensor.name.as_str(), view));
        }
        Ok(safetensors::serialize(views, None)?)
    }

    /// The first element that differs in any bit from that of another run of the same kernel.
    pub fn difference(&self, other: &Contents) -> Option<Found> {
        let pair = self.all.iter().zip(&other.all).find(|(a, b)| a.bytes != b.bytes);
        let (here, there) = pair?;
        let size = (here.dtype.bitsize() / 8).max(1);
        let at = here.bytes.iter().zip(&there.bytes).position(|(a, b)| a != b)? / size;
        let show = |content: &Content| value(content.dtype, &content.bytes[at * size..(at + 1) * size]);
        Some(Found {
            tensor: here.name.clone(),
            element: index(at, &here.shape),
            here: show(here),
            there: show(there),
        })
    }
}

/// A place in row-major order as an index a dimension.
fn index(mut at: usize, shape: &[usize]) -> String {
    let mut all: Vec<String> = Vec::new();
    for &length in shape.iter().rev() {
        all.insert(0, (at % length.max(1)).to_string());
        at /= length.max(1);
    }
    format!("[{}]", all.join(", "))
}

/// An element's bits, and its value where it is one of Rust's own numbers.
fn value(dtype: Dtype, bytes: &[u8]) -> String {
    let hex: String = bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect();
    macro_rules! number {
        ($ty:ty) => {
            bytes.try_into().map(|bytes| format!("{} (0x{hex})", <$ty>::from_le_bytes(bytes)))
        };
    }
    let number = match dtype {
        Dtype::F32 => number!(f32),
        Dtype::F64 => number!(f64),
        Dtype::U8 => number!(u8),
        Dtype::I8 => number!(i8),
        Dtype::U16 => number!(u16),
        Dtype::I16 => number!(i16),
        Dtype::U32 => number!(u32),
        Dtype::I32 => number!(i32),
        Dtype::U64 => number!(u64),
        Dtype::I64 => number!(i64),
        _ => Ok(format!("0x{hex}")),
    };
    number.unwrap_or_else(|_| format!("0x{hex}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(values: [f32; 6]) -> Contents {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let same = Content { name: "a".into(), dtype: Dtype::F16, shape: vec![1], bytes: vec![1, 2] };
        Contents {
            all: vec![same, Content { name: "b".into(), dtype: Dtype::F32, shape: vec![2, 3], bytes }],
        }
    }

    #[test]
    fn the_first_different_element_is_found_by_its_bits() {
        let a = contents([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(a.difference(&contents([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])), None);
        let found = a.difference(&contents([0.0, 1.0, 2.0, 3.0, 4.5, 6.0])).unwrap();
        assert_eq!((found.tensor.as_str(), found.element.as_str()), ("b", "[1, 1]"));
        assert_eq!((found.here.as_str(), found.there.as_str()), ("4 (0x40800000)", "4.5 (0x40900000)"));
        // Equal as numbers, different in a bit.
        let found = a.difference(&contents([-0.0, 1.0, 2.0, 3.0, 4.0, 5.0])).unwrap();
        assert_eq!(found.there, "-0 (0x80000000)");
    }
}
