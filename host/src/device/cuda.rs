//! A CUDA GPU as a device, through `cust`.

use std::collections::HashMap;
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
use crate::error::{Error, Result};

mod current;
mod module;
mod on_stream;
mod pool;
mod status;

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
    modules: Mutex<HashMap<&'static str, Arc<Loaded>>>,
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
            modules: Mutex::default(),
            pool: Mutex::default(),
            // Not non-blocking: copies on the default stream must wait for the kernels on this one.
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

    /// The loaded module of an entry point; loaded, and compiled by the driver, at its first launch.
    fn module(&self, entry: &'static str) -> Result<Arc<Loaded>> {
        let mut modules = lock(&self.modules);
        if let Some(module) = modules.get(entry) {
            return Ok(module.clone());
        }
        let module = Loaded::new(entry).map_err(|reason| Error::Kernel {
            kernel: entry,
            device: self.name(),
            reason,
        })?;
        let module = Arc::new(module);
        modules.insert(entry, module.clone());
        Ok(module)
    }

    /// Launches a kernel on a stream of this device.
    fn launch_on(&self, launch: &Launch, stream: sys::CUstream) -> Result<()> {
        let failed = |error: Failure| Error::Kernel {
            kernel: launch.entry,
            device: self.name(),
            reason: error.to_string(),
        };
        self.enter().map_err(failed)?;
        let module = self.module(launch.entry)?;
        let function = module.function(launch.entry, launch.shared_bytes).map_err(failed)?;
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

    fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        let copy = || {
            self.enter()?;
            // SAFETY: the range was allocated on this device, and the source is a slice of that many bytes.
            check(unsafe { sys::cuMemcpyHtoD_v2(address, bytes.as_ptr().cast(), bytes.len()) })
        };
        copy().map_err(self.failed("copy to the device"))
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        let mut copy = || {
            self.enter()?;
            self.stream.synchronize()?;
            // SAFETY: the range was allocated on this device, and the target is a slice of that many bytes.
            check(unsafe { sys::cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), address, bytes.len()) })
        };
        copy().map_err(self.failed("copy from the device"))
    }

    fn zero(&self, address: u64, bytes: usize) -> Result<()> {
        let fill = || {
            self.enter()?;
            // SAFETY: the range was allocated on this device.
            check(unsafe { sys::cuMemsetD8Async(address, 0, bytes, self.stream.as_inner()) })
        };
        fill().map_err(self.failed("fill memory"))
    }

    fn launch(&self, launch: &Launch, _: Option<&ProgressCallback>) -> Result<()> {
        self.launch_on(launch, self.stream.as_inner())
    }

    fn synchronize(&self) -> Result<()> {
        let finish = || {
            self.enter()?;
            Ok(self.stream.synchronize()?)
        };
        finish().map_err(self.failed("finish its work"))
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
        // Memory and modules are given back to the context of the calling thread.
        if self.enter().is_ok() {
            let _ = self.stream.synchronize();
            lock(&self.modules).clear();
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
