//! Devices, and memory on them for callers without an allocator of their own.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use flash_attention::ffi::CurrentContext;
use flash_attention::{Device, EmulatorOptions};

use crate::error::{Failure, guarded};

/// `fa_device`, which callers only hold a pointer to.
#[derive(Debug)]
pub struct FaDevice {
    pub(crate) device: Device,
    /// Bytes of what `fa_alloc` gave, by address.
    allocations: Mutex<BTreeMap<u64, usize>>,
}

fn not_null<T>(pointer: *const T, argument: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::argument(format!("{argument} is a null pointer")));
    }
    Ok(())
}

/// A reference from a caller's pointer.
///
/// # Safety
/// The pointer is null or one of a live value that nothing writes meanwhile.
pub(crate) unsafe fn given<'a, T>(pointer: *const T, argument: &str) -> Result<&'a T, Failure> {
    not_null(pointer, argument)?;
    // SAFETY: not null, and the caller's promise.
    Ok(unsafe { &*pointer })
}

/// Writes a result to where the caller wants it.
///
/// # Safety
/// The pointer is null or one that may be written.
pub(crate) unsafe fn put<T>(pointer: *mut T, argument: &str, value: T) -> Result<(), Failure> {
    not_null(pointer, argument)?;
    // SAFETY: not null, and the caller's promise.
    unsafe { pointer.write(value) };
    Ok(())
}

fn size(bytes: u64, argument: &str) -> Result<usize, Failure> {
    usize::try_from(bytes).ok().filter(|&n| n <= isize::MAX as usize).ok_or_else(|| {
        Failure::argument(format!("{argument} is {bytes}; at most {} are allowed", isize::MAX))
    })
}

/// # Safety
/// As [`put`].
unsafe fn open(
    device: *mut *mut FaDevice,
    make: impl FnOnce() -> flash_attention::Result<Device>,
) -> Result<(), Failure> {
    not_null(device, "device")?;
    let _context = CurrentContext::keep();
    let opened = FaDevice { device: make()?, allocations: Mutex::default() };
    // SAFETY: not null, and the caller's promise.
    unsafe { put(device, "device", Box::into_raw(Box::new(opened))) }
}

/// Opens the CUDA device of an ordinal, in its primary context, which it shares with the CUDA runtime.
///
/// # Safety
/// `device` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fa_device_cuda(ordinal: u32, device: *mut *mut FaDevice) -> i32 {
    // SAFETY: the caller's promise.
    guarded(|| unsafe { open(device, || Device::cuda(ordinal)) })
}

/// Makes an emulator that runs on so many host threads; 0 means one a core.
///
/// # Safety
/// `device` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fa_device_emulator(threads: u32, device: *mut *mut FaDevice) -> i32 {
    let options = EmulatorOptions::default().threads(threads as usize);
    // SAFETY: the caller's promise.
    guarded(|| unsafe { open(device, || Ok(Device::emulator_with(options))) })
}

/// Closes a device and frees what `fa_alloc` gave on it. Null is allowed.
///
/// # Safety
/// `device` is null or came from `fa_device_cuda` or `fa_device_emulator`, is not used any more, and its work is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fa_device_close(device: *mut FaDevice) -> i32 {
    guarded(|| {
        if device.is_null() {
            return Ok(());
        }
        let _context = CurrentContext::keep();
        // SAFETY: from `open`, and closed once, by the caller's promise.
        let closed = unsafe { Box::from_raw(device) };
        let allocations = closed.allocations.into_inner().unwrap_or_else(PoisonError::into_inner);
        // All are freed, whatever goes wrong with one; the first that does is told.
        let mut freed = Ok(());
        for (address, bytes) in allocations {
            // SAFETY: from `fa_alloc`, not freed yet, and not used any more by the caller's promise.
            let one = unsafe { closed.device.free_bytes(address, bytes) };
            freed = freed.and(one);
        }
        Ok(freed?)
    })
}

/// Allocates uninitialised memory on the device, at a multiple of 256.
///
/// # Safety
/// `device` is null or open; `address` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fa_alloc(device: *const FaDevice, bytes: u64, address: *mut u64) -> i32 {
    guarded(|| {
        // SAFETY: the caller's promise.
        let open = unsafe { given(device, "device") }?;
        let bytes = size(bytes, "bytes")?;
        // SAFETY: the caller's promise; this finds a null pointer before anything is allocated.
        unsafe { put(address, "address", 0) }?;
        let _context = CurrentContext::keep();
        let allocated = open.device.allocate_bytes(bytes)?;
        open.allocations.lock().unwrap_or_else(PoisonError::into_inner).insert(allocated, bytes);
        // SAFETY: the caller's promise.
        unsafe { put(address, "address", allocated) }
    })
}

/// Gives what `fa_alloc` gave back to the driver.
///
/// # Safety
/// `device` is null or open; nothing uses the memory any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fa_free(device: *const FaDevice, address: u64) -> i32 {
    guarded(|| {
        // SAFETY: the caller's promise.
        let open = unsafe { given(device, "device") }?;
        let known = open.allocations.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
        let bytes = known.ok_or_else(|| {
            Failure::argument(format!("address is {address:#x}, which fa_alloc of this device did not give"))
        })?;
        let _context = CurrentContext::keep();
        // SAFETY: from `fa_alloc` with as many bytes, freed once, and the caller's promise.
        Ok(unsafe { open.device.free_bytes(address, bytes) }?)
    })
}

/// Copies from the host's memory to the device's, after the work on the default stream, and waits for it.
///
/// # Safety
/// `device` is null or open; both ranges are memory of so many bytes, which nothing else writes meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fa_write(device: *const FaDevice, address: u64, from: *const u8, bytes: u64) -> i32 {
    guarded(|| {
        // SAFETY: the caller's promise.
        let open = unsafe { given(device, "device") }?;
        not_null(from, "from")?;
        // SAFETY: not null, at most isize::MAX bytes, and the caller's promise.
        let bytes = unsafe { std::slice::from_raw_parts(from, size(bytes, "bytes")?) };
        let _context = CurrentContext::keep();
        // SAFETY: the caller's promise.
        Ok(unsafe { open.device.write_bytes(address, bytes) }?)
    })
}

/// Copies from the device's memory to the host's, after the work on the default stream, and waits for it.
///
/// # Safety
/// As [`fa_write`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fa_read(device: *const FaDevice, address: u64, to: *mut u8, bytes: u64) -> i32 {
    guarded(|| {
        // SAFETY: the caller's promise.
        let open = unsafe { given(device, "device") }?;
        not_null(to, "to")?;
        let bytes = size(bytes, "bytes")?;
        // The caller's memory may be uninitialised, which no slice may be.
        // SAFETY: not null, so many bytes that may be written, by the caller's promise.
        unsafe { to.write_bytes(0, bytes) };
        // SAFETY: not null, initialised, at most isize::MAX bytes, and the caller's promise.
        let bytes = unsafe { std::slice::from_raw_parts_mut(to, bytes) };
        let _context = CurrentContext::keep();
        // SAFETY: the caller's promise.
        Ok(unsafe { open.device.read_bytes(address, bytes) }?)
    })
}
