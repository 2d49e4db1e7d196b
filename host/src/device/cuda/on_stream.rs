//! A GPU whose work goes onto a stream of someone else.

use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cust::sys;

use super::status::{Failure, check};
use super::{Accelerator, Cuda, Kind, Launch, ProgressCallback};
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

    fn wait(&self) -> Result<(), Failure> {
        self.cuda.enter()?;
        // SAFETY: a stream of this device that lives, by the promise of `on_stream`.
        check(unsafe { sys::cuStreamSynchronize(self.stream.0) })
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

    /// The driver has read the bytes when this returns, though they may arrive later.
    fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        let copy = || {
            self.cuda.enter()?;
            // SAFETY: the range is memory of this device, and the source a slice of that many bytes. It is not pinned, so that
            // the driver has copied it when the call returns.
            check(unsafe {
                sys::cuMemcpyHtoDAsync_v2(address, bytes.as_ptr().cast(), bytes.len(), self.stream.0)
            })
        };
        copy().map_err(self.cuda.failed("copy to the device"))
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        let mut copy = || {
            self.wait()?;
            // SAFETY: the range is memory of this device, and the target a slice of that many bytes.
            check(unsafe { sys::cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), address, bytes.len()) })
        };
        copy().map_err(self.cuda.failed("copy from the device"))
    }

    fn zero(&self, address: u64, bytes: usize) -> Result<()> {
        let fill = || {
            self.cuda.enter()?;
            // SAFETY: the range is memory of this device, and the stream one of its streams.
            check(unsafe { sys::cuMemsetD8Async(address, 0, bytes, self.stream.0) })
        };
        fill().map_err(self.cuda.failed("fill memory"))
    }

    fn launch(&self, launch: &Launch, _: Option<&ProgressCallback>) -> Result<()> {
        self.cuda.launch_on(launch, self.stream.0)
    }

    fn synchronize(&self) -> Result<()> {
        self.wait().map_err(self.cuda.failed("finish its work"))
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
