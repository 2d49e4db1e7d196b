//! A device for tests: it hands out addresses, keeps no data, and remembers what it was asked to do.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::device::Kind;
use crate::device::accelerator::{Accelerator, Launch, ProgressCallback};
use crate::error::Result;

/// Remembers allocations and launches.
#[derive(Debug)]
pub(crate) struct Fake {
    next: AtomicU64,
    pub(crate) allocations: AtomicUsize,
    pub(crate) live: AtomicUsize,
    pub(crate) launches: Mutex<Vec<Launch>>,
    capability: Option<(i32, i32)>,
    multiprocessors: u32,
}

impl Fake {
    pub(crate) fn new() -> Fake {
        Fake::of_capability(None)
    }

    /// A GPU of this compute capability, or something that runs every PTX.
    pub(crate) fn of_capability(capability: Option<(i32, i32)>) -> Fake {
        Fake {
            capability,
            multiprocessors: 1,
            next: AtomicU64::new(0x1000),
            allocations: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            launches: Mutex::new(vec![]),
        }
    }

    /// The same with so many multiprocessors.
    pub(crate) fn of_multiprocessors(multiprocessors: u32) -> Fake {
        Fake { multiprocessors, ..Fake::new() }
    }
}

impl Accelerator for Fake {
    fn name(&self) -> String {
        "fake".into()
    }

    fn kind(&self) -> Kind {
        Kind::Emulator
    }

    fn capability(&self) -> Option<(i32, i32)> {
        self.capability
    }

    fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        self.allocations.fetch_add(1, Ordering::Relaxed);
        self.live.fetch_add(1, Ordering::Relaxed);
        Ok(self.next.fetch_add(bytes.next_multiple_of(256) as u64, Ordering::Relaxed))
    }

    fn free(&self, _: u64, _: usize) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn read(&self, _: u64, bytes: &mut [u8]) -> Result<()> {
        bytes.fill(0);
        Ok(())
    }

    fn zero(&self, _: u64, _: usize) -> Result<()> {
        Ok(())
    }

    fn launch(&self, launch: &Launch, _: Option<&ProgressCallback>) -> Result<()> {
        self.launches.lock().unwrap().push(launch.clone());
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    unsafe fn on_stream(self: Arc<Self>, _: *mut c_void) -> Result<Arc<dyn Accelerator>> {
        Ok(self)
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration> {
        work().map(|()| Duration::ZERO)
    }
}
