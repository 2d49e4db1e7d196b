//! What a bulk copy moves: rows of global memory, and where their pieces of 16 bytes lie in shared memory.

use super::atomic::{TYPES, combine_global, update};
use crate::tensor_map::TensorMapType;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

/// A contiguous part of a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Host address of what lies in global memory, or of the source in shared memory.
    pub global: usize,
    /// Bytes of the row before that, which are outside the tensor.
    pub skip: u32,
    /// Bytes that lie there; the rest of the row is outside.
    pub length: u32,
    /// Where the row begins in the box.
    pub at: u32,
}

/// A copy that was issued.
#[derive(Debug)]
pub(crate) struct Transfer {
    /// Of all rows: what the mbarrier is told.
    pub bytes: u32,
    /// Place in the program, warp of the cluster and lane that issued it.
    pub by: (u32, u32, u32),
    /// Rank of the block whose shared memory takes part, and the place there.
    pub rank: u32,
    pub at: u32,
    /// Bytes of a row.
    pub inner: u32,
    pub swizzle: u32,
    /// What elements outside the tensor become.
    pub fill: u128,
    /// The type of elements that change on their way into shared memory.
    pub converts: Option<TensorMapType>,
    pub reduce: Option<(u32, u32)>,
    pub rows: Vec<Row>,
    /// For the checks: the number of its read of shared memory, and of its writes to global memory.
    pub reading: u64,
    pub writing: u64,
}

impl Transfer {
    /// Bytes of shared memory from `at` on that it may touch.
    pub(crate) fn span(&self) -> u32 {
        if self.swizzle == 0 { self.bytes } else { self.bytes.next_multiple_of(128) }
    }

    /// Where the 16 bytes at an offset of the box lie in shared memory.
    #[inline(always)]
    pub(crate) fn piece(&self, offset: u32) -> u32 {
        let address = self.at + offset;
        address ^ (address >> 7 & self.swizzle) << 4
    }

    /// Global to shared memory.
    ///
    /// # Safety
    /// `shared` is the block's memory, and the rows are valid.
    pub(crate) unsafe fn fill_shared(&self, shared: *mut u8) {
        for row in &self.rows {
            for offset in (0..self.inner).step_by(16) {
                let (low, high) = (row.skip.max(offset), (row.skip + row.length).min(offset + 16));
                // SAFETY: the box was found to be inside when the copy was issued.
                unsafe {
                    let to = shared.add(self.piece(row.at + offset) as usize);
                    if low == offset && high == offset + 16 {
                        self.put(row.global + (offset - row.skip) as usize, to, 16);
                        continue;
                    }
                    *(to as *mut [u8; 16]) = self.fill.to_le_bytes();
                    if low < high {
                        let skipped = (low - offset) as usize;
                        self.put(
                            row.global + (low - row.skip) as usize,
                            to.add(skipped),
                            (high - low) as usize,
                        );
                    }
                }
            }
        }
    }

    /// Shared to global memory; `source` are the bytes of the box.
    ///
    /// # Safety
    /// As for `fill_shared`.
    pub(crate) unsafe fn drain(&self, source: &[u8]) {
        for row in &self.rows {
            for offset in (0..self.inner).step_by(16) {
                let (low, high) = (row.skip.max(offset), (row.skip + row.length).min(offset + 16));
                if low < high {
                    let from = (self.piece(row.at + offset) - self.at + low - offset) as usize;
                    let to = (row.global + (low - row.skip) as usize) as *mut u8;
                    // SAFETY: the box was found to be inside when the copy was issued.
                    unsafe { self.put(source[from..].as_ptr() as usize, to, (high - low) as usize) };
                }
            }
        }
    }

    /// Copies or combines up to 16 bytes.
    ///
    /// # Safety
    /// Both are valid for `length` bytes; where the copy reduces or converts, they are aligned to the type.
    #[inline(always)]
    unsafe fn put(&self, from: usize, to: *mut u8, length: usize) {
        // SAFETY: by contract; memory is shared with other threads through atomics.
        unsafe {
            if let Some((operation, code)) = self.reduce {
                let ty = TYPES[code as usize];
                for at in (0..length).step_by(ty.size() as usize) {
                    let mut bytes = [0; 8];
                    for (k, byte) in bytes.iter_mut().enumerate().take(ty.size() as usize) {
                        *byte = (*((from + at + k) as *const AtomicU8)).load(Relaxed);
                    }
                    let value = u64::from_le_bytes(bytes);
                    update(to.add(at), ty.size(), |old| combine_global(operation, ty, old, value));
                }
            } else if let Some(ty) = self.converts {
                for at in (0..length).step_by(4) {
                    let value = (*((from + at) as *const AtomicU32)).load(Relaxed);
                    (*(to.add(at) as *const AtomicU32)).store(ty.converted(value), Relaxed);
                }
            } else if length == 16 && from.is_multiple_of(8) && (to as usize).is_multiple_of(8) {
                for at in [0, 8] {
                    let value = (*((from + at) as *const AtomicU64)).load(Relaxed);
                    (*(to.add(at) as *const AtomicU64)).store(value, Relaxed);
                }
            } else {
                for at in 0..length {
                    let value = (*((from + at) as *const AtomicU8)).load(Relaxed);
                    (*(to.add(at) as *const AtomicU8)).store(value, Relaxed);
                }
            }
        }
    }
}
