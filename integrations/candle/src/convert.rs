//! From candle's tensors to ours and back.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Error, Layout, Result, Storage, Tensor};
use flash_attention::{Device, Dtype, Element};
use half::{bf16, f16};

/// A copy of a candle tensor on a device of [`flash_attention`]: f32, f16, bf16, f64, u8 or i32, of any shape and strides.
///
/// Only the elements that the view shows are copied, and those that a stride of 0 repeats only once (the last dimension
/// aside, which attention wants contiguous).
///
/// # Errors
/// Where the type is none of these, or a device fails.
pub fn to_attention(tensor: &Tensor, device: &Device) -> Result<flash_attention::Tensor> {
    named(tensor, "the tensor", device)
}

/// [`to_attention`], of an argument whose name the message of an error states.
pub(crate) fn named(
    tensor: &Tensor,
    argument: &'static str,
    device: &Device,
) -> Result<flash_attention::Tensor> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => of_storage(cpu, layout, argument, device),
        Storage::Cuda(cuda) => of_storage(&cuda.to_cpu_storage()?, layout, argument, device),
        Storage::Metal(metal) => of_storage(&metal.to_cpu_storage()?, layout, argument, device),
    }
}

/// A copy of the elements that a layout shows of a storage.
pub(crate) fn of_storage(
    storage: &CpuStorage,
    layout: &Layout,
    argument: &'static str,
    device: &Device,
) -> Result<flash_attention::Tensor> {
    match storage {
        CpuStorage::F32(values) => copied(values, layout, device),
        CpuStorage::F16(values) => copied(values, layout, device),
        CpuStorage::BF16(values) => copied(values, layout, device),
        CpuStorage::F64(values) => copied(values, layout, device),
        CpuStorage::U8(values) => copied(values, layout, device),
        CpuStorage::I32(values) => copied(values, layout, device),
        other => Err(Error::wrap(flash_attention::Error::Dtype {
            argument,
            given: other.dtype().as_str(),
            allowed: "f32, f16 and bf16 (u8 for masks)".into(),
        })),
    }
}

fn copied<T: Element>(values: &[T], layout: &Layout, device: &Device) -> Result<flash_attention::Tensor> {
    let last = layout.dims().len().saturating_sub(1);
    let each = layout.dims().iter().zip(layout.stride()).enumerate();
    // Repeated entries, once.
    let once: Vec<usize> =
        each.map(|(i, (&size, &stride))| if stride == 0 && i < last { size.min(1) } else { size }).collect();
    let shown = Layout::new(once.clone().into(), layout.stride().into(), layout.start_offset());
    let copy = match shown.contiguous_offsets() {
        Some((start, end)) => flash_attention::Tensor::from_slice(device, &values[start..end], &once),
        None => flash_attention::Tensor::from_slice(device, &gathered(values, &shown), &once),
    };
    copy.and_then(|copy| if once == layout.dims() { Ok(copy) } else { copy.expand(layout.dims()) })
        .map_err(Error::wrap)
}

/// The elements that a layout of at least one dimension shows, row-major.
fn gathered<T: Copy>(values: &[T], layout: &Layout) -> Vec<T> {
    let (dims, strides) = (layout.dims(), layout.stride());
    let (outer, columns) = dims.split_at(dims.len() - 1);
    let (columns, stride) = (columns[0], strides[dims.len() - 1]);
    let mut out = Vec::with_capacity(layout.shape().elem_count());
    let mut index = vec![0; outer.len()];
    for _ in 0..outer.iter().product() {
        let start =
            layout.start_offset() + index.iter().zip(strides).map(|(i, stride)| i * stride).sum::<usize>();
        match stride {
            1 => out.extend_from_slice(&values[start..start + columns]),
            _ => out.extend((0..columns).map(|column| values[start + column * stride])),
        }
        // The next index, the last dimension first.
        for (i, &size) in index.iter_mut().zip(outer).rev() {
            *i += 1;
            if *i < size {
                break;
            }
            *i = 0;
        }
    }
    out
}

/// A copy of one of our tensors on a device of candle.
///
/// # Errors
/// Where a device fails, or the type is none that candle has.
pub fn from_attention(tensor: &flash_attention::Tensor, device: &candle_core::Device) -> Result<Tensor> {
    let shape = tensor.shape();
    match to_storage(tensor)? {
        CpuStorage::F32(values) => Tensor::from_vec(values, shape, device),
        CpuStorage::F16(values) => Tensor::from_vec(values, shape, device),
        CpuStorage::BF16(values) => Tensor::from_vec(values, shape, device),
        CpuStorage::F64(values) => Tensor::from_vec(values, shape, device),
        CpuStorage::U8(values) => Tensor::from_vec(values, shape, device),
        CpuStorage::I32(values) => Tensor::from_vec(values, shape, device),
        other => candle_core::bail!("{} is no type of flash_attention", other.dtype().as_str()),
    }
}

/// The elements, row-major, as candle stores them on the CPU.
pub(crate) fn to_storage(tensor: &flash_attention::Tensor) -> Result<CpuStorage> {
    let storage = match tensor.dtype() {
        Dtype::F32 => tensor.to_vec::<f32>().map(CpuStorage::F32),
        Dtype::F16 => tensor.to_vec::<f16>().map(CpuStorage::F16),
        Dtype::Bf16 => tensor.to_vec::<bf16>().map(CpuStorage::BF16),
        Dtype::F64 => tensor.to_vec::<f64>().map(CpuStorage::F64),
        Dtype::U8 => tensor.to_vec::<u8>().map(CpuStorage::U8),
        Dtype::I32 => tensor.to_vec::<i32>().map(CpuStorage::I32),
        other => candle_core::bail!("candle has no type {other}"),
    };
    storage.map_err(Error::wrap)
}

#[cfg(test)]
mod tests;
