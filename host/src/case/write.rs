//! Tensors to the bytes of a safetensors file.

use std::collections::HashMap;

use safetensors::Dtype as Stored;
use safetensors::tensor::TensorView;

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The bytes of a safetensors file with these tensors, in their types and shapes, and metadata.
///
/// # Errors
/// What goes wrong on the tensors' device; [`Error::File`] where the tensors do not make a file (two of the same name).
pub fn encode(tensors: &[(&str, &Tensor)], metadata: HashMap<String, String>) -> Result<Vec<u8>> {
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|(_, tensor)| tensor.to_bytes()).collect::<Result<_>>()?;
    let failed = |error: safetensors::SafeTensorError| Error::File {
        file: "the output".into(),
        reason: error.to_string(),
    };
    let mut views = Vec::with_capacity(tensors.len());
    for ((name, tensor), bytes) in tensors.iter().zip(&bytes) {
        let view = TensorView::new(stored(tensor.dtype()), tensor.shape().to_vec(), bytes).map_err(failed)?;
        views.push((*name, view));
    }
    safetensors::serialize(views, Some(metadata)).map_err(failed)
}

fn stored(dtype: Dtype) -> Stored {
    match dtype {
        Dtype::F32 => Stored::F32,
        Dtype::F16 => Stored::F16,
        Dtype::Bf16 => Stored::BF16,
        Dtype::F64 => Stored::F64,
        Dtype::U8 => Stored::U8,
        Dtype::I32 => Stored::I32,
    }
}
