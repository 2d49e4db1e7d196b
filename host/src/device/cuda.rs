//! A CUDA GPU as a device, through `cust`.

use std::ffi::c_void;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use cust::context::{Context, CurrentContext};
use cust::device::{Device as Gpu, DeviceAttribute};
use cust::error::CudaError;
use cust::event::{Event, EventFlags};
use cust::stream::{Stream, StreamFlags};
use cust::{CudaFlags, sys};

use super::Kind;
use super::accelerator::{Accelerator, Launch, ProgressCallback};
use super::list::DeviceReport;
use super::modules::Modules;
use crate::error::{Error, Result};

mod copy;
mod current;
mod module;
mod on_stream;
mod pool;
mod status;
#[cfg(test)]
mod tests;

pub(super) use current::Current;
use module::Loaded;
use on_stream::OnStream;
use pool::Pool;
use status::{Failure, check};

/// The least compute capability that the kernels' PTX runs on.
const LEAST_CAPABILITY: (i32, i32) = (7, 0);

/// A GPU's primary context, one stream on which everything is done in order, and what was loaded and allocated.
pub(super) struct Cuda {
    ordinal: u32,
    capability: (i32, i32),
    multiprocessors: u32,
    // Dropped in this order: modules, memory and the stream belong to the context.
    modules: Modules<Loaded>,
    pool: Mutex<Pool>,
    stream: Stream,
    context: Context,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The driver, initialised, or why it is not there.
fn driver() -> Result<(), String> {
    flash_attention_cuda_driver::available().map_err(|error| error.to_string())?;
    cust::init(CudaFlags::empty()).map_err(|error| format!("the driver does not start: {error}"))
}

fn open_gpu(ordinal: u32) -> Result<Gpu, String> {
    driver()?;
    let count = Gpu::num_devices().map_err(|error| error.to_string())?;
    if ordinal >= count {
        return Err(format!("the driver sees {count} devices"));
    }
    Gpu::get_device(ordinal).map_err(|error| error.to_string())
}

fn capability(gpu: Gpu) -> Result<(i32, i32), CudaError> {
    let major = gpu.get_attribute(DeviceAttribute::ComputeCapabilityMajor)?;
    Ok((major, gpu.get_attribute(DeviceAttribute::ComputeCapabilityMinor)?))
}

impl Cuda {
    /// The device of this ordinal; the one that is in use, if it is.
    pub(super) fn open(ordinal: u32) -> Result<Arc<Cuda>> {
        static OPEN: Mutex<Vec<(u32, Weak<Cuda>)>> = Mutex::new(vec![]);
        let mut open = lock(&OPEN);
        if let Some(cuda) = open.iter().find(|(o, _)| *o == ordinal).and_then(|(_, cuda)| cuda.upgrade()) {
            return Ok(cuda);
        }
        let cuda = Cuda::new(ordinal)
            .map_err(|reason| Error::Unavailable { device: format!("cuda:{ordinal}"), reason })?;
        let cuda = Arc::new(cuda);
        open.retain(|(o, _)| *o != ordinal);
        open.push((ordinal, Arc::downgrade(&cuda)));
        Ok(cuda)
    }

    fn new(ordinal: u32) -> Result<Cuda, String> {
        let gpu = open_gpu(ordinal)?;
        let words = |error: CudaError| error.to_string();
        let context = Context::new(gpu).map_err(words)?;
        CurrentContext::set_current(&context).map_err(words)?;
        Ok(Cuda {
            ordinal,
            capability: capability(gpu).map_err(words)?,
            multiprocessors: gpu
                .get_attribute(DeviceAttribute::MultiprocessorCount)
                .map_err(words)?
                .max(1)
                .unsigned_abs(),
            modules: Modules::default(),
            pool: Mutex::default(),
            // Not non-blocking: copies on this stream come after what a caller has put on the default stream.
            stream: Stream::new(StreamFlags::DEFAULT, None).map_err(words)?,
            context,
        })
    }

    /// Makes the context the calling thread's; every thread has its own.
    fn enter(&self) -> Result<(), Failure> {
        Ok(CurrentContext::set_current(&self.context)?)
    }

    fn failed(&self, action: impl Into<String>) -> impl FnOnce(Failure) -> Error {
        let (device, action) = (self.name(), action.into());
        move |error| Error::Device { device, action, reason: error.to_string() }
    }

    /// The device's own stream.
    fn own(&self) -> sys::CUstream {
        self.stream.as_inner()
    }

    /// Does something on a stream, in the device's context.
    fn on(
        &self,
        stream: sys::CUstream,
        action: &str,
        work: impl FnOnce(sys::CUstream) -> Result<(), Failure>,
    ) -> Result<()> {
        self.enter().and_then(|()| work(stream)).map_err(self.failed(action))
    }

    /// The loaded module of an entry point; loaded, and compiled by the driver, at its first launch. While the stream of that
    /// launch is captured the driver loads none, and trying would spoil the capture.
    fn module(&self, entry: &'static str, stream: sys::CUstream) -> Result<Arc<Loaded>> {
        let failed = |reason| Error::Kernel { kernel: entry, device: self.name(), reason };
        self.modules.get(entry, || {
            // SAFETY: the stream of a launch, whose context `launch_on` has entered.
            match unsafe { copy::is_captured(stream) } {
                Ok(false) => Loaded::new(entry).map_err(failed),
                Ok(true) => Err(failed(
                    "it is not loaded yet, and the stream is being captured: make the same call once before the capture".into(),
                )),
                Err(error) => Err(failed(error.to_string())),
            }
        })
    }

    /// Launches a kernel on a stream of this device.
    fn launch_on(&self, launch: &Launch, stream: sys::CUstream) -> Result<()> {
        let failed = |error: Failure| Error::Kernel {
            kernel: launch.entry,
            device: self.name(),
            reason: error.to_string(),
        };
        self.enter().map_err(failed)?;
        let module = self.module(launch.entry, stream)?;
        let function = module.function(launch.shared_bytes).map_err(failed)?;
        let mut parameters = launch.parameters.clone();
        let mut arguments: [*mut c_void; 1] = [parameters.as_mut_ptr().cast()];
        // SAFETY: the entry point takes one struct by value, whose bytes the driver copies during the call; grid, block
        // and shared memory are those that the plan made for it, and its tensors were validated against them. The stream is
        // this device's own, or one that `on_stream` was promised.
        let result = unsafe {
            sys::cuLaunchKernel(
                function,
                launch.grid,
                1,
                1,
                launch.block,
                1,
                1,
                launch.shared_bytes,
                stream,
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        check(result).map_err(failed)
    }
}

impl Accelerator for Cuda {
    fn name(&self) -> String {
        format!("cuda:{}", self.ordinal)
    }

    fn kind(&self) -> Kind {
        Kind::Cuda
    }

    fn capability(&self) -> Option<(i32, i32)> {
        Some(self.capability)
    }

    fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        let failed = self.failed(format!("allocate {bytes} bytes"));
        self.enter().and_then(|()| lock(&self.pool).allocate(bytes)).map_err(failed)
    }

    fn free(&self, address: u64, bytes: usize) {
        lock(&self.pool).free(address, bytes);
    }

    /// Past the pool, whose memory kernels on the device's own stream may still use.
    fn allocate_shared(&self, bytes: usize) -> Result<u64> {
        let failed = self.failed(format!("allocate {bytes} bytes"));
        self.enter().and_then(|()| lock(&self.pool).allocate_new(bytes)).map_err(failed)
    }

    fn free_shared(&self, address: u64, _: usize) -> Result<()> {
        // SAFETY: from `allocate_shared`, freed once. The driver waits for the device's work first (CUDA driver API, `cuMemFree`).
        let free = || self.enter().and_then(|()| check(unsafe { sys::cuMemFree_v2(address) }));
        free().map_err(self.failed("free memory"))
    }

    fn trim(&self) -> Result<()> {
        self.synchronize()?;
        lock(&self.pool).clear();
        Ok(())
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        // SAFETY: the range was allocated on this device, whose stream this is.
        self.on(self.own(), "copy to the device", |stream| unsafe { copy::write(address, bytes, stream) })
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<()> {
        // SAFETY: the range was allocated on this device, whose stream this is.
        self.on(self.own(), "copy to the device", |stream| unsafe { copy::put(address, bytes, stream) })
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        // SAFETY: the range was allocated on this device, whose stream this is.
        self.on(self.own(), "copy from the device", |stream| unsafe { copy::read(address, bytes, stream) })
    }

    fn zero(&self, address: u64, bytes: usize) -> Result<()> {
        // SAFETY: the range was allocated on this device, whose stream this is.
        self.on(self.own(), "fill memory", |stream| unsafe { copy::zero(address, bytes, stream) })
    }

    fn launch(&self, launch: &Launch, _: Option<&ProgressCallback>) -> Result<()> {
        self.launch_on(launch, self.own())
    }

    fn synchronize(&self) -> Result<()> {
        // SAFETY: the device's own stream.
        self.on(self.own(), "finish its work", |stream| unsafe { copy::wait(stream) })
    }

    unsafe fn on_stream(self: Arc<Self>, stream: *mut c_void) -> Result<Arc<dyn Accelerator>> {
        Ok(Arc::new(OnStream::new(self, stream.cast())))
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration> {
        let record = || {
            self.enter()?;
            let event = Event::new(EventFlags::DEFAULT)?;
            event.record(&self.stream)?;
            Ok(event)
        };
        let start = record().map_err(self.failed("record an event"))?;
        work()?;
        let end = record().map_err(self.failed("record an event"))?;
        let elapsed = || {
            end.synchronize()?;
            Ok(end.elapsed_time_f32(&start)?)
        };
        let milliseconds = elapsed().map_err(self.failed("finish its work"))?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds).max(0.0) / 1e3))
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // Memory and modules are given back to the context of the calling thread, which has its own again afterwards: this one may
        // end with its last user.
        let _current = Current::keep();
        if self.enter().is_ok() {
            let _ = self.stream.synchronize();
            drop(std::mem::take(&mut self.modules));
            lock(&self.pool).clear();
        }
    }
}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuda:{}", self.ordinal)
    }
}

/// Every GPU, or why there is none.
pub(super) fn list() -> Vec<DeviceReport> {
    let report = |name: String, status| DeviceReport { name, kind: Kind::Cuda, status };
    let count = driver().and_then(|()| Gpu::num_devices().map_err(|error| error.to_string()));
    match count {
        Err(reason) => vec![report("cuda".into(), Err(reason))],
        Ok(0) => vec![report("cuda".into(), Err("the driver sees no device".into()))],
        Ok(count) => (0..count).map(|ordinal| report(format!("cuda:{ordinal}"), describe(ordinal))).collect(),
    }
}

fn describe(ordinal: u32) -> Result<String, String> {
    let words = |error: CudaError| error.to_string();
    let gpu = Gpu::get_device(ordinal).map_err(words)?;
    let (major, minor) = capability(gpu).map_err(words)?;
    let gib = gpu.total_memory().map_err(words)? as f64 / f64::from(1 << 30);
    let text = format!("{}, compute capability {major}.{minor}, {gib:.1} GiB", gpu.name().map_err(words)?);
    if (major, minor) < LEAST_CAPABILITY {
        return Err(format!("{text}: too old, 7.0 is the least"));
    }
    Ok(text)
}
