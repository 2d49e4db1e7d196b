//! Copies and fills in the order of a stream. None goes by way of the default stream, which would wait for unrelated work, and which
//! streams made as non-blocking do not wait for.

use cust::sys;

use super::status::{Failure, check};

/// Waits until the stream has done everything on it.
///
/// # Safety
/// The stream is null or lives; its context is current.
pub(super) unsafe fn wait(stream: sys::CUstream) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    check(unsafe { sys::cuStreamSynchronize(stream) })
}

/// Puts a copy to the device on the stream. Pageable memory was read when this returns (CUDA driver API, "API synchronization
/// behavior": it is staged, and the copy may end later); up to 64 KiB nothing is waited for. Pinned memory may be read later.
///
/// # Safety
/// As [`wait`]; the range is memory of the stream's device that nothing uses out of the stream's order.
pub(super) unsafe fn put(address: u64, bytes: &[u8], stream: sys::CUstream) -> Result<(), Failure> {
    // SAFETY: the caller's promise, and a slice of that many bytes.
    check(unsafe { sys::cuMemcpyHtoDAsync_v2(address, bytes.as_ptr().cast(), bytes.len(), stream) })
}

/// Copies to the device after what is on the stream, and waits for it, whatever kind of memory the bytes lie in.
///
/// # Safety
/// As [`put`].
pub(super) unsafe fn write(address: u64, bytes: &[u8], stream: sys::CUstream) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    unsafe {
        let put = put(address, bytes, stream);
        // Even where it failed: until then the bytes may be read.
        wait(stream).and(put)
    }
}

/// Copies from the device after what is on the stream, and waits for it.
///
/// # Safety
/// As [`put`].
pub(super) unsafe fn read(address: u64, bytes: &mut [u8], stream: sys::CUstream) -> Result<(), Failure> {
    let target = bytes.as_mut_ptr().cast();
    // SAFETY: the caller's promise, and a slice of that many bytes, which is not touched before the stream is done.
    unsafe {
        let copied = check(sys::cuMemcpyDtoHAsync_v2(target, address, bytes.len(), stream));
        wait(stream).and(copied)
    }
}

/// Puts zeros on the stream.
///
/// # Safety
/// As [`put`].
pub(super) unsafe fn zero(address: u64, bytes: usize, stream: sys::CUstream) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    check(unsafe { sys::cuMemsetD8Async(address, 0, bytes, stream) })
}

/// Whether what is put on the stream is recorded into a graph in place of being done.
///
/// # Safety
/// As [`wait`].
pub(super) unsafe fn is_captured(stream: sys::CUstream) -> Result<bool, Failure> {
    let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
    // SAFETY: the caller's promise; the driver writes one of its values.
    check(unsafe { sys::cuStreamIsCapturing(stream, &mut status) })?;
    Ok(status != sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE)
}
