//! Tensors: elements of one storage type on one device, shown through a view.

use std::sync::Arc;

use crate::device::Device;
use crate::dtype::{Dtype, Element, extend_wide, store_wide};
use crate::error::{Error, Result};
use crate::storage::{Allocation, Storage, host_zeros, reserve};
use crate::view::{View, checked_count};

/// A tensor: a storage on a device, and which of its elements it shows in which order.
///
/// Cloning and every view (`transpose`, `narrow`, `expand`, …) share the storage; nothing is copied. A tensor's elements
/// never change.
#[derive(Clone, Debug)]
pub struct Tensor {
    storage: Arc<Storage>,
    device: Device,
    dtype: Dtype,
    view: View,
}

/// Bytes of a contiguous tensor of this shape.
pub(crate) fn byte_count(dtype: Dtype, shape: &[usize]) -> Result<usize> {
    let bytes = checked_count(shape)
        .and_then(|n| n.checked_mul(dtype.size()))
        .filter(|&bytes| bytes <= isize::MAX as usize);
    bytes.ok_or_else(|| Error::TooLarge {
        argument: "a tensor",
        what: "bytes",
        given: shape
            .iter()
            .try_fold(dtype.size() as u128, |n, &s| n.checked_mul(s as u128))
            .unwrap_or(u128::MAX),
        limit: isize::MAX as u128,
    })
}

/// Making tensors.
impl Tensor {
    /// A copy of `values` (row-major) on a device.
    ///
    /// # Errors
    /// [`Error::Length`] where the values do not fill the shape; [`Error::Device`] where the device has no memory left.
    pub fn from_slice<T: Element>(device: &Device, values: &[T], shape: &[usize]) -> Result<Tensor> {
        let expected = byte_count(T::DTYPE, shape)? / T::DTYPE.size();
        if values.len() != expected {
            return Err(Error::Length {
                what: "elements",
                given: values.len(),
                shape: shape.into(),
                expected,
            });
        }
        let mut bytes = host_zeros(expected * T::DTYPE.size())?;
        for (value, chunk) in values.iter().zip(bytes.chunks_exact_mut(T::DTYPE.size())) {
            value.store(chunk);
        }
        Tensor::of_bytes(device, T::DTYPE, bytes, shape)
    }

    /// A copy of little-endian bytes (row-major) on a device.
    ///
    /// # Errors
    /// [`Error::Length`] where the bytes do not fill the shape; [`Error::Device`] where the device has no memory left.
    pub fn from_bytes(device: &Device, dtype: Dtype, bytes: &[u8], shape: &[usize]) -> Result<Tensor> {
        let expected = byte_count(dtype, shape)?;
        if bytes.len() != expected {
            return Err(Error::Length { what: "bytes", given: bytes.len(), shape: shape.into(), expected });
        }
        let mut copy = reserve(expected)?;
        copy.extend_from_slice(bytes);
        Tensor::of_bytes(device, dtype, copy, shape)
    }

    /// Zeros on a device.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where the shape overflows; [`Error::Device`] where the device has no memory left.
    pub fn zeros(device: &Device, dtype: Dtype, shape: &[usize]) -> Result<Tensor> {
        let storage = Storage::zeros(device, byte_count(dtype, shape)?)?;
        Ok(Tensor::of(device, dtype, storage, View::contiguous(shape)))
    }

    /// Memory for a kernel to write. On the CPU it is zeros.
    pub(crate) fn uninitialized(device: &Device, dtype: Dtype, shape: &[usize]) -> Result<Tensor> {
        let Some(accelerator) = device.accelerator() else { return Tensor::zeros(device, dtype, shape) };
        let allocation = Allocation::new(accelerator, byte_count(dtype, shape)?)?;
        Ok(Tensor::of(device, dtype, Storage::Accelerator(allocation), View::contiguous(shape)))
    }

    /// f64 values rounded once to the storage type, as many as the shape holds; zeros follow if there are fewer.
    pub(crate) fn of_wide(
        device: &Device,
        dtype: Dtype,
        values: impl Iterator<Item = f64>,
        shape: &[usize],
    ) -> Result<Tensor> {
        let mut bytes = host_zeros(byte_count(dtype, shape)?)?;
        store_wide(dtype, values, &mut bytes);
        Tensor::of_bytes(device, dtype, bytes, shape)
    }

    /// Little-endian bytes on a device. The caller has counted them.
    pub(crate) fn of_bytes(device: &Device, dtype: Dtype, bytes: Vec<u8>, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::of(device, dtype, Storage::new(device, bytes)?, View::contiguous(shape)))
    }

    /// A view of a storage that holds all it shows.
    pub(crate) fn of(device: &Device, dtype: Dtype, storage: Storage, view: View) -> Tensor {
        Tensor { storage: Arc::new(storage), device: device.clone(), dtype, view }
    }
}

/// What a tensor is.
impl Tensor {
    /// The device that it is on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The storage type of its elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The size of every dimension.
    pub fn shape(&self) -> &[usize] {
        &self.view.shape
    }

    /// From one entry of a dimension to the next, in elements; 0 where the same elements are repeated.
    pub fn strides(&self) -> &[usize] {
        &self.view.strides
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.view.shape.len()
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        self.view.count()
    }

    /// Whether the elements lie side by side in row-major order.
    pub fn is_contiguous(&self) -> bool {
        self.view.is_contiguous()
    }

    /// Which elements of its storage it shows.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// The address of its first element on its device (on the CPU: counted from the start of its storage).
    pub(crate) fn address(&self) -> u64 {
        // An empty view may start anywhere, even where no address is.
        let start = if self.count() == 0 { 0 } else { self.view.offset * self.dtype.size() };
        self.storage.address() + start as u64
    }
}

/// Reading and copying.
impl Tensor {
    /// The elements as little-endian bytes, row-major.
    ///
    /// # Errors
    /// What went wrong on the device, in the copy or in a kernel before it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let size = self.dtype.size();
        let mut out = host_zeros(byte_count(self.dtype, self.shape())?)?;
        let (first, span) = self.view.span();
        self.storage.with(first * size, span * size, |bytes| {
            if self.is_contiguous() {
                return out.copy_from_slice(bytes);
            }
            let mut rest = &mut out[..];
            self.view.runs(|start, length, stride| {
                let start = (start - first) * size;
                let (run, after) = std::mem::take(&mut rest).split_at_mut(length * size);
                rest = after;
                if stride == 1 {
                    return run.copy_from_slice(&bytes[start..start + length * size]);
                }
                for (i, element) in run.chunks_exact_mut(size).enumerate() {
                    let at = start + i * stride * size;
                    element.copy_from_slice(&bytes[at..at + size]);
                }
            });
        })?;
        Ok(out)
    }

    /// The elements, row-major.
    ///
    /// # Errors
    /// [`Error::Dtype`] where they are not of this type; what went wrong on the device.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if T::DTYPE != self.dtype {
            let allowed = format!("{} (cast() converts)", T::DTYPE);
            return Err(Error::Dtype { argument: "the tensor", given: self.dtype.name(), allowed });
        }
        let mut elements = reserve(self.count())?;
        elements.extend(self.to_bytes()?.chunks_exact(T::DTYPE.size()).map(T::load));
        Ok(elements)
    }

    /// The elements, row-major, as f64, which holds every storage type exactly.
    ///
    /// # Errors
    /// What went wrong on the device.
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        let bytes = self.to_bytes()?;
        let mut elements = reserve(self.count())?;
        extend_wide(self.dtype, &bytes, &mut elements);
        Ok(elements)
    }

    /// The same elements in another storage type, rounded to nearest even (integers: towards zero, saturating).
    ///
    /// # Errors
    /// What went wrong on the device.
    pub fn cast(&self, dtype: Dtype) -> Result<Tensor> {
        if dtype == self.dtype {
            return Ok(self.clone());
        }
        Tensor::of_wide(&self.device, dtype, self.to_f64()?.into_iter(), self.shape())
    }

    /// The same elements on another device.
    ///
    /// # Errors
    /// What went wrong on either device.
    pub fn to_device(&self, device: &Device) -> Result<Tensor> {
        if *device == self.device {
            return Ok(self.clone());
        }
        Tensor::of_bytes(device, self.dtype, self.to_bytes()?, self.shape())
    }

    /// The same elements side by side in row-major order: the tensor itself where they are, else a copy.
    ///
    /// # Errors
    /// What went wrong on the device.
    pub fn contiguous(&self) -> Result<Tensor> {
        if self.is_contiguous() {
            return Ok(self.clone());
        }
        Tensor::of_bytes(&self.device, self.dtype, self.to_bytes()?, self.shape())
    }
}

/// Views: other shapes of the same elements, without a copy. All fail with [`Error::View`].
impl Tensor {
    fn show(&self, view: View) -> Tensor {
        Tensor { view, ..self.clone() }
    }

    /// Exchanges two dimensions.
    ///
    /// # Errors
    /// [`Error::View`] where there is no such dimension.
    pub fn transpose(&self, a: usize, b: usize) -> Result<Tensor> {
        Ok(self.show(self.view.transpose(a, b)?))
    }

    /// Puts the dimensions in another order; `order[i]` names the dimension that becomes the `i`-th.
    ///
    /// # Errors
    /// [`Error::View`] where `order` does not name each dimension once.
    pub fn permute(&self, order: &[usize]) -> Result<Tensor> {
        Ok(self.show(self.view.permute(order)?))
    }

    /// Shows `length` entries of a dimension from `start` on.
    ///
    /// # Errors
    /// [`Error::View`] where it does not have them.
    pub fn narrow(&self, dimension: usize, start: usize, length: usize) -> Result<Tensor> {
        Ok(self.show(self.view.narrow(dimension, start, length)?))
    }

    /// Shows one entry of a dimension, and drops the dimension.
    ///
    /// # Errors
    /// [`Error::View`] where it does not have that entry.
    pub fn select(&self, dimension: usize, index: usize) -> Result<Tensor> {
        Ok(self.show(self.view.select(dimension, index)?))
    }

    /// Shows the elements in another shape. Only contiguous tensors can do that without a copy.
    ///
    /// # Errors
    /// [`Error::View`] where the tensor is not contiguous or the shape does not hold its elements.
    pub fn reshape(&self, shape: &[usize]) -> Result<Tensor> {
        Ok(self.show(self.view.reshape(shape)?))
    }

    /// Repeats dimensions of size 1, and puts new ones in front, to the given shape.
    ///
    /// # Errors
    /// [`Error::View`] where a size other than 1 would have to change.
    pub fn expand(&self, shape: &[usize]) -> Result<Tensor> {
        Ok(self.show(self.view.expand(shape)?))
    }

    /// Puts in a dimension of size 1.
    ///
    /// # Errors
    /// [`Error::View`] where the place is behind the last dimension.
    pub fn unsqueeze(&self, dimension: usize) -> Result<Tensor> {
        Ok(self.show(self.view.unsqueeze(dimension)?))
    }

    /// Drops a dimension of size 1.
    ///
    /// # Errors
    /// [`Error::View`] where its size is not 1.
    pub fn squeeze(&self, dimension: usize) -> Result<Tensor> {
        Ok(self.show(self.view.squeeze(dimension)?))
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    fn counting(shape: &[usize]) -> Tensor {
        let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| i as f32).collect();
        Tensor::from_slice(&Device::cpu(), &values, shape).unwrap()
    }

    #[test]
    fn elements_come_back_as_they_were_given() {
        let cpu = Device::cpu();
        let values = [f16::from_f32(1.5), f16::from_f32(-2.0)];
        assert_eq!(Tensor::from_slice(&cpu, &values, &[2]).unwrap().to_vec::<f16>().unwrap(), values);
        let mask = Tensor::from_slice(&cpu, &[true, false], &[2]).unwrap();
        assert_eq!((mask.dtype(), mask.to_vec::<u8>().unwrap()), (Dtype::U8, vec![1, 0]));
        assert_eq!(Tensor::zeros(&cpu, Dtype::I32, &[3]).unwrap().to_vec::<i32>().unwrap(), [0; 3]);
    }

    #[test]
    fn views_share_the_storage_and_show_its_elements() {
        let tensor = counting(&[2, 3, 4]);
        let view = tensor.transpose(0, 2).unwrap().narrow(0, 1, 2).unwrap().select(2, 1).unwrap();
        assert!(Arc::ptr_eq(&view.storage, &tensor.storage));
        assert_eq!(view.shape(), [2, 3]);
        assert_eq!(view.to_vec::<f32>().unwrap(), [13.0, 17.0, 21.0, 14.0, 18.0, 22.0]);
        let copy = view.contiguous().unwrap();
        assert!(copy.is_contiguous() && !view.is_contiguous());
        assert_eq!(copy.to_vec::<f32>().unwrap(), view.to_vec::<f32>().unwrap());
        assert_eq!(tensor.narrow(2, 1, 2).unwrap().to_vec::<f32>().unwrap().len(), 12);
    }

    #[test]
    fn empty_views_are_read_wherever_they_start() {
        for device in [Device::cpu(), Device::emulator()] {
            let tensor = Tensor::zeros(&device, Dtype::F32, &[3, 0, 5]).unwrap();
            let behind = tensor.narrow(0, 2, 1).unwrap().narrow(2, 4, 1).unwrap();
            assert!(behind.to_vec::<f32>().unwrap().is_empty());
            assert!(behind.transpose(0, 2).unwrap().contiguous().unwrap().to_f64().unwrap().is_empty());
            let none = counting(&[4, 3]).to_device(&device).unwrap().narrow(0, 4, 0).unwrap();
            assert!(none.cast(Dtype::F16).unwrap().to_bytes().unwrap().is_empty());
            assert_eq!(none.shape(), [0, 3]);
        }
    }

    #[test]
    fn more_than_memory_holds_is_an_error() {
        let huge = 1 << 60;
        for device in [Device::cpu(), Device::emulator()] {
            assert!(
                matches!(Tensor::zeros(&device, Dtype::F32, &[huge]), Err(Error::Device { .. })),
                "{device}"
            );
        }
        let repeated = counting(&[1]).expand(&[huge]).unwrap();
        assert!(matches!(repeated.to_f64(), Err(Error::Device { .. })));
        assert!(matches!(repeated.cast(Dtype::F16), Err(Error::Device { .. })));
        let values = std::iter::repeat(1.0);
        let wide = Tensor::of_wide(&Device::cpu(), Dtype::F16, values, &[huge]);
        assert!(matches!(wide, Err(Error::Device { .. })));
    }

    #[test]
    fn casting_rounds_once() {
        let tensor = Tensor::from_slice(&Device::cpu(), &[1.0f32, 1.001, 70000.0], &[3]).unwrap();
        let cast = tensor.cast(Dtype::Bf16).unwrap().to_vec::<bf16>().unwrap();
        assert_eq!(cast, [1.0, 1.0, 70144.0].map(bf16::from_f32));
        assert_eq!(tensor.cast(Dtype::F16).unwrap().to_f64().unwrap()[2], f64::INFINITY);
    }

    #[test]
    fn wrong_lengths_types_and_sizes_are_errors() {
        let cpu = Device::cpu();
        let message = |r: Result<Tensor>| r.unwrap_err().to_string();
        assert_eq!(
            message(Tensor::from_slice(&cpu, &[0f32; 5], &[2, 3])),
            "5 elements were given for the shape [2, 3], which holds 6"
        );
        assert_eq!(
            message(Tensor::from_bytes(&cpu, Dtype::F16, &[0; 5], &[3])),
            "5 bytes were given for the shape [3], which holds 6"
        );
        assert_eq!(
            message(Tensor::zeros(&cpu, Dtype::F32, &[1 << 62])),
            "a tensor has 18446744073709551616 bytes; at most 9223372036854775807 are allowed"
        );
        assert_eq!(
            counting(&[1]).to_vec::<f64>().unwrap_err().to_string(),
            "the tensor is f32; allowed are f64 (cast() converts)"
        );
    }
}
