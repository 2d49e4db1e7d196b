//! Freed device memory, kept for the next allocation of the same size.
//!
//! Everything runs on one stream, so that memory may be handed out again while the kernels that used it still run: the next
//! user's kernels come after them. `cuMemFree` would wait for them at every temporary.

use std::collections::HashMap;

use cust::sys;

use super::status::{Failure, check};

/// Free allocations by size.
#[derive(Debug, Default)]
pub(super) struct Pool {
    free: HashMap<usize, Vec<u64>>,
}

/// Sizes are rounded up so that tensors of nearly the same size share.
fn rounded(bytes: usize) -> usize {
    bytes.checked_next_multiple_of(512).unwrap_or(bytes)
}

impl Pool {
    /// Memory for `bytes`; the context is current. Where there is none left, the free ones are given back first.
    pub(super) fn allocate(&mut self, bytes: usize) -> Result<u64, Failure> {
        let size = rounded(bytes);
        if let Some(address) = self.free.get_mut(&size).and_then(Vec::pop) {
            return Ok(address);
        }
        self.allocate_new(size)
    }

    /// As [`Pool::allocate`], but never memory that was used before; it does not come back to the pool.
    pub(super) fn allocate_new(&mut self, bytes: usize) -> Result<u64, Failure> {
        let allocate = || {
            let mut address = 0;
            // SAFETY: the driver writes the address of an allocation that only the caller knows.
            check(unsafe { sys::cuMemAlloc_v2(&mut address, bytes) }).map(|()| address)
        };
        allocate().or_else(|_| {
            self.clear();
            allocate()
        })
    }

    /// Keeps an allocation that `allocate` gave for the same `bytes`.
    pub(super) fn free(&mut self, address: u64, bytes: usize) {
        self.free.entry(rounded(bytes)).or_default().push(address);
    }

    /// Whether there is a free allocation for so many bytes.
    #[cfg(test)]
    pub(super) fn holds(&self, bytes: usize) -> bool {
        self.free.get(&rounded(bytes)).is_some_and(|addresses| !addresses.is_empty())
    }

    /// Gives every free allocation back to the driver; the context is current.
    pub(super) fn clear(&mut self) {
        for address in self.free.drain().flat_map(|(_, addresses)| addresses) {
            // SAFETY: the address is an allocation that nothing uses; the driver waits for running kernels.
            let _ = check(unsafe { sys::cuMemFree_v2(address) });
        }
    }
}
