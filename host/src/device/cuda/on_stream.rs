//! A GPU whose work goes onto a stream of someone else.

use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cust::sys;

use super::status::Failure;
use super::{Accelerator, Cuda, Kind, Launch, ProgressCallback, copy};
use crate::error::{Error, Result};

/// A stream that someone else made and destroys; null is the default stream.
#[derive(Clone, Copy)]
struct Stream(sys::CUstream);

// SAFETY: a handle that is only ever given to the driver, which takes it from any thread.
unsafe impl Send for Stream {}
// SAFETY: as above; the driver orders what several threads put onto one stream.
unsafe impl Sync for Stream {}

/// The device, and the stream for everything that is asked of it.
pub(super) struct OnStream {
    cuda: Arc<Cuda>,
    stream: Stream,
}

impl OnStream {
    /// `stream` is null or a stream of the device that outlives this, as the caller of `on_stream` promised.
    pub(super) fn new(cuda: Arc<Cuda>, stream: sys::CUstream) -> OnStream {
        OnStream { cuda, stream: Stream(stream) }
    }

    /// Does something on the stream: a stream of this device that lives, by the promise of `on_stream`.
    fn on(&self, action: &str, work: impl FnOnce(sys::CUstream) -> Result<(), Failure>) -> Result<()> {
        self.cuda.on(self.stream.0, action, work)
    }
}

impl Accelerator for OnStream {
    fn name(&self) -> String {
        self.cuda.name()
    }

    fn kind(&self) -> Kind {
        Kind::Cuda
    }

    fn multiprocessors(&self) -> u32 {
        self.cuda.multiprocessors()
    }

    fn refusal(&self, least: (i32, i32)) -> Option<String> {
        self.cuda.refusal(least)
    }

    /// The device's pool hands memory out again in the order of its own stream, which is not this one.
    fn allocate(&self, bytes: usize) -> Result<u64> {
        Err(Error::Device {
            device: self.name(),
            action: format!("allocate {bytes} bytes"),
            reason: "on a stream of someone else nothing is allocated".into(),
        })
    }

    fn free(&self, _: u64, _: usize) {}

    fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        // SAFETY: `on` gives a stream that lives, and the range is memory of its device.
        self.on("copy to the device", |stream| unsafe { copy::write(address, bytes, stream) })
    }

    /// A graph would read the bytes again at every replay, when they are long gone.
    fn upload(&self, address: u64, bytes: &[u8]) -> Result<()> {
        // SAFETY: `on` gives a stream that lives, and the range is memory of its device.
        self.on("copy lists to the device", |stream| unsafe {
            if copy::is_captured(stream)? {
                return Err(Failure::refused("the stream is being captured, and calls with lists cannot be"));
            }
            copy::put(address, bytes, stream)
        })
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        // SAFETY: `on` gives a stream that lives, and the range is memory of its device.
        self.on("copy from the device", |stream| unsafe { copy::read(address, bytes, stream) })
    }

    fn zero(&self, address: u64, bytes: usize) -> Result<()> {
        // SAFETY: `on` gives a stream that lives, and the range is memory of its device.
        self.on("fill memory", |stream| unsafe { copy::zero(address, bytes, stream) })
    }

    fn launch(&self, launch: &Launch, _: Option<&ProgressCallback>) -> Result<()> {
        self.cuda.launch_on(launch, self.stream.0)
    }

    fn synchronize(&self) -> Result<()> {
        // SAFETY: `on` gives a stream that lives.
        self.on("finish its work", |stream| unsafe { copy::wait(stream) })
    }

    unsafe fn on_stream(self: Arc<Self>, stream: *mut c_void) -> Result<Arc<dyn Accelerator>> {
        Ok(Arc::new(OnStream::new(self.cuda.clone(), stream.cast())))
    }

    fn time(&self, _: &mut dyn FnMut() -> Result<()>) -> Result<Duration> {
        Err(Error::Device {
            device: self.name(),
            action: "measure time".into(),
            reason: "on a stream of someone else nothing is measured".into(),
        })
    }
}

impl fmt::Debug for OnStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} on {:?}", self.cuda, self.stream.0)
    }
}
