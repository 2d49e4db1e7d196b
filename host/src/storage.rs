//! The memory behind tensors, freed with the last tensor that shows it.

use std::sync::Arc;

use crate::device::Device;
use crate::device::accelerator::Accelerator;
use crate::error::{Error, Result};

/// An empty list with room for so many elements in the host's memory, or an error where there is not that much.
pub(crate) fn reserve<T>(count: usize) -> Result<Vec<T>> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).map_err(|error| Error::Device {
        device: "cpu".into(),
        action: format!("allocate {} bytes", count as u128 * size_of::<T>() as u128),
        reason: error.to_string(),
    })?;
    Ok(list)
}

/// Zeros in the host's memory, or an error where there is not that much.
pub(crate) fn host_zeros(bytes: usize) -> Result<Vec<u8>> {
    let mut zeros = reserve(bytes)?;
    zeros.resize(bytes, 0);
    Ok(zeros)
}

/// Bytes on a device, never written again once a tensor shows them.
#[derive(Debug)]
pub(crate) enum Storage {
    /// In the host's memory.
    Host(Vec<u8>),
    /// In an accelerator's memory.
    Accelerator(Allocation),
    /// In an accelerator's memory, which is someone else's: never freed.
    Foreign {
        /// What can read it.
        accelerator: Arc<dyn Accelerator>,
        /// Where it begins.
        address: u64,
    },
}

/// An accelerator's memory, given back when dropped.
#[derive(Debug)]
pub(crate) struct Allocation {
    accelerator: Arc<dyn Accelerator>,
    address: u64,
    bytes: usize,
}

impl Allocation {
    /// Uninitialised memory.
    pub(crate) fn new(accelerator: &Arc<dyn Accelerator>, bytes: usize) -> Result<Allocation> {
        let bytes = bytes.max(1);
        let address = accelerator.allocate(bytes)?;
        Ok(Allocation { accelerator: accelerator.clone(), address, bytes })
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.accelerator.free(self.address, self.bytes);
    }
}

impl Storage {
    /// A copy of bytes on a device.
    pub(crate) fn new(device: &Device, bytes: Vec<u8>) -> Result<Storage> {
        let Some(accelerator) = device.accelerator() else { return Ok(Storage::Host(bytes)) };
        let allocation = Allocation::new(accelerator, bytes.len())?;
        accelerator.write(allocation.address, &bytes)?;
        Ok(Storage::Accelerator(allocation))
    }

    /// Zeros on a device.
    pub(crate) fn zeros(device: &Device, bytes: usize) -> Result<Storage> {
        let Some(accelerator) = device.accelerator() else { return host_zeros(bytes).map(Storage::Host) };
        let allocation = Allocation::new(accelerator, bytes)?;
        accelerator.zero(allocation.address, allocation.bytes)?;
        Ok(Storage::Accelerator(allocation))
    }

    /// The address of its first byte on its device; 0 in the host's memory, which no kernel sees.
    pub(crate) fn address(&self) -> u64 {
        match self {
            Storage::Host(_) => 0,
            Storage::Accelerator(allocation) => allocation.address,
            Storage::Foreign { address, .. } => *address,
        }
    }

    /// Hands a range of its bytes to `each`.
    pub(crate) fn with<R>(&self, start: usize, length: usize, each: impl FnOnce(&[u8]) -> R) -> Result<R> {
        if length == 0 {
            // An empty view may start anywhere, even behind the end.
            return Ok(each(&[]));
        }
        match self {
            Storage::Host(bytes) => Ok(each(&bytes[start..start + length])),
            Storage::Accelerator(Allocation { accelerator, .. }) | Storage::Foreign { accelerator, .. } => {
                let mut bytes = host_zeros(length)?;
                accelerator.read(self.address() + start as u64, &mut bytes)?;
                Ok(each(&bytes))
            }
        }
    }
}
