//! A device as one call of a foreign program sees it: work on the program's stream, and no memory but the workspace that came
//! with the call.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::accelerator::{Accelerator, Launch, ProgressCallback};
use super::{Kind, Statistics};
use crate::error::{Error, Result};

/// Allocations begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 256;

/// A device that takes its memory from a workspace, or only counts what it would take.
#[derive(Debug)]
pub(crate) struct Lent {
    inner: Arc<dyn Accelerator>,
    /// Address and bytes of the workspace; `None` where nothing is done and memory is counted.
    workspace: Option<(u64, usize)>,
    used: AtomicUsize,
    exceeded: AtomicBool,
}

impl Lent {
    /// A device that does nothing and counts the memory that is asked for.
    pub(crate) fn counting(inner: Arc<dyn Accelerator>) -> Lent {
        Lent { inner, workspace: None, used: AtomicUsize::new(0), exceeded: AtomicBool::new(false) }
    }

    /// A device that takes its memory from `bytes` bytes at `address`, a multiple of [`ALIGNMENT`].
    pub(crate) fn new(inner: Arc<dyn Accelerator>, address: u64, bytes: usize) -> Lent {
        Lent { workspace: Some((address, bytes)), ..Lent::counting(inner) }
    }

    /// Bytes that were taken.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether more was asked for than the workspace has.
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }

    fn works(&self) -> bool {
        self.workspace.is_some()
    }
}

impl Accelerator for Lent {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn kind(&self) -> Kind {
        self.inner.kind()
    }

    fn multiprocessors(&self) -> u32 {
        self.inner.multiprocessors()
    }

    fn refusal(&self, least: (i32, i32)) -> Option<String> {
        self.inner.refusal(least)
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        let size = bytes.checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX);
        let limit = self.workspace.map_or(usize::MAX, |(_, bytes)| bytes);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(size).filter(|&end| end <= limit)
        });
        let address = self.workspace.map_or(ALIGNMENT as u64, |(address, _)| address);
        taken.map(|used| address + used as u64).map_err(|used| {
            self.exceeded.store(true, Ordering::Relaxed);
            Error::Device {
                device: self.name(),
                action: format!("take {size} bytes from the workspace"),
                reason: format!("it has {limit} bytes, of which {used} are in use"),
            }
        })
    }

    /// The workspace is the caller's; what was taken stays taken until the call ends.
    fn free(&self, _: u64, _: usize) {}

    fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        if self.works() { self.inner.write(address, bytes) } else { Ok(()) }
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<()> {
        if self.works() { self.inner.upload(address, bytes) } else { Ok(()) }
    }

    fn counts(&self) -> bool {
        !self.works()
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        if self.works() {
            return self.inner.read(address, bytes);
        }
        bytes.fill(0);
        Ok(())
    }

    fn zero(&self, address: u64, bytes: usize) -> Result<()> {
        if self.works() { self.inner.zero(address, bytes) } else { Ok(()) }
    }

    fn launch(&self, launch: &Launch, progress: Option<&ProgressCallback>) -> Result<()> {
        if self.works() { self.inner.launch(launch, progress) } else { Ok(()) }
    }

    fn synchronize(&self) -> Result<()> {
        if self.works() { self.inner.synchronize() } else { Ok(()) }
    }

    unsafe fn on_stream(self: Arc<Self>, stream: *mut c_void) -> Result<Arc<dyn Accelerator>> {
        // SAFETY: the same promise.
        unsafe { self.inner.clone().on_stream(stream) }
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration> {
        self.inner.time(work)
    }

    fn take_statistics(&self) -> Option<BTreeMap<&'static str, Statistics>> {
        self.inner.take_statistics()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::fake::Fake;

    #[test]
    fn memory_comes_from_the_workspace_and_ends_with_it() {
        let lent = Lent::new(Arc::new(Fake::new()), 0x4000, 1024);
        assert_eq!([lent.allocate(1).unwrap(), lent.allocate(257).unwrap()], [0x4000, 0x4100]);
        assert_eq!((lent.used(), lent.exceeded()), (768, false));
        assert_eq!(
            lent.allocate(257).unwrap_err().to_string(),
            "fake failed to take 512 bytes from the workspace: it has 1024 bytes, of which 768 are in use"
        );
        assert_eq!((lent.used(), lent.exceeded()), (768, true));
        assert_eq!(lent.allocate(256).unwrap(), 0x4300);
    }

    #[test]
    fn a_counting_device_takes_and_does_nothing() {
        let fake = Arc::new(Fake::new());
        let lent = Lent::counting(fake.clone());
        lent.allocate(1000).unwrap();
        lent.allocate(1).unwrap();
        let launch = Launch { entry: "none", grid: 1, block: 1, shared_bytes: 0, parameters: vec![] };
        lent.launch(&launch, None).unwrap();
        assert_eq!((lent.used(), lent.exceeded()), (1280, false));
        assert_eq!(fake.allocations.load(Ordering::Relaxed), 0);
        assert!(fake.launches.lock().unwrap().is_empty());
        assert!(lent.allocate(usize::MAX).is_err());
    }
}
