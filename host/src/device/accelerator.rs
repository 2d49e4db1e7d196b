//! The seam between attention and what runs its kernels: a CUDA GPU and the emulator look the same from above.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::device::{Kind, Progress, Statistics};
use crate::error::Result;

/// One kernel launch: a one-dimensional grid, and the parameter struct by value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Launch {
    /// The entry point's name.
    pub(crate) entry: &'static str,
    /// Blocks.
    pub(crate) grid: u32,
    /// Threads a block.
    pub(crate) block: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub(crate) shared_bytes: u32,
    /// The bytes of the one parameter.
    pub(crate) parameters: Vec<u8>,
}

/// What may be called while a kernel runs.
pub(crate) type ProgressCallback = dyn Fn(Progress) + Send + Sync;

/// Something that has memory of its own and runs PTX.
///
/// Launches, `zero` and `upload` may return before they are done; they keep their order, and `write` and `read` come after them and
/// are done when they return.
pub(crate) trait Accelerator: Debug + Send + Sync {
    /// What messages call it: `cuda:0`, `emulator`.
    fn name(&self) -> String;

    /// What it is.
    fn kind(&self) -> Kind;

    /// Its compute capability; `None` where it runs every PTX.
    fn capability(&self) -> Option<(i32, i32)> {
        None
    }

    /// Blocks of a grid run on so many multiprocessors at the same time; at least 1.
    fn multiprocessors(&self) -> u32;

    /// Why it cannot run kernels that need this compute capability, if it cannot.
    fn refusal(&self, least: (i32, i32)) -> Option<String> {
        let (major, minor) = self.capability().filter(|&given| given < least)?;
        let name = self.name();
        Some(format!("the compute capability {major}.{minor} of {name} is below {}.{}", least.0, least.1))
    }

    /// The address of `bytes` (at least 1) uninitialised bytes, aligned to 256, for work in this device's own order alone: launches
    /// from before may still use them.
    fn allocate(&self, bytes: usize) -> Result<u64>;

    /// Gives an allocation of `bytes` back once everything launched so far is done.
    fn free(&self, address: u64, bytes: usize);

    /// As `allocate`, for memory that work in the order of other streams uses: nothing else does any more.
    fn allocate_shared(&self, bytes: usize) -> Result<u64> {
        self.allocate(bytes)
    }

    /// Gives what `allocate_shared` gave back to the device itself, so that others in the process can have it.
    fn free_shared(&self, address: u64, bytes: usize) -> Result<()> {
        self.free(address, bytes);
        Ok(())
    }

    /// Gives memory that is kept for later allocations back to the device itself.
    fn trim(&self) -> Result<()> {
        Ok(())
    }

    /// Whether it does nothing and only counts the memory that it is asked for, so that addresses mean nothing.
    fn counts(&self) -> bool {
        false
    }

    /// Copies to the device; done when it returns.
    fn write(&self, address: u64, bytes: &[u8]) -> Result<()>;

    /// Copies a few bytes of ordinary memory to the device in the order of launches: they were read when this returns, and arrive
    /// before the next launch runs.
    fn upload(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.write(address, bytes)
    }

    /// Copies from the device, after what was launched before; done when it returns.
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()>;

    /// Fills with zeros.
    fn zero(&self, address: u64, bytes: usize) -> Result<()>;

    /// Launches a kernel.
    fn launch(&self, launch: &Launch, progress: Option<&ProgressCallback>) -> Result<()>;

    /// Waits for everything launched so far.
    fn synchronize(&self) -> Result<()>;

    /// The time between the launch of the first and the end of the last piece of work that `work` puts on the device.
    fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration>;

    /// The same device for work in the order of a stream that someone else made; null is the device's default stream. It has no
    /// memory of its own: `allocate` is an error.
    ///
    /// # Safety
    /// `stream` is null or a stream of this device, which outlives the answer.
    ///
    /// # Errors
    /// Where the device has no streams, and `stream` is not null.
    unsafe fn on_stream(self: Arc<Self>, stream: *mut c_void) -> Result<Arc<dyn Accelerator>>;

    /// What was counted since the last call, by kernel, where the device counts.
    fn take_statistics(&self) -> Option<BTreeMap<&'static str, Statistics>> {
        None
    }
}
