//! Devices: where tensors lie and kernels run.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

pub(crate) mod accelerator;
#[cfg(feature = "cuda")]
mod cuda;
mod emulator;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod lent;
pub mod list;
mod modules;
mod statistics;

pub use emulator::EmulatorOptions;
pub use statistics::Statistics;

use accelerator::Accelerator;

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// An NVIDIA GPU.
    Cuda,
    /// The PTX emulator.
    Emulator,
    /// The CPU, without any PTX.
    Cpu,
}

/// How far a launch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The kernel's entry point.
    pub kernel: &'static str,
    /// Blocks that are done.
    pub done: u64,
    /// Blocks of the grid.
    pub total: u64,
}

/// Where tensors lie and kernels run. Cloning is cheap and gives the same device.
#[derive(Clone)]
pub struct Device(Place);

#[derive(Clone)]
enum Place {
    Cpu,
    Accelerator(Arc<dyn Accelerator>),
}

impl Device {
    /// The CPU: the `Math` backend runs there, without any PTX.
    pub fn cpu() -> Device {
        Device(Place::Cpu)
    }

    /// A new emulator that uses every core. Each call makes a device of its own, with a memory of its own.
    pub fn emulator() -> Device {
        Device::emulator_with(EmulatorOptions::default())
    }

    /// A new emulator with options.
    pub fn emulator_with(options: EmulatorOptions) -> Device {
        Device::new(Arc::new(emulator::Emulator::new(options)))
    }

    /// The CUDA device of this ordinal; the same device for the same ordinal. It is the device's primary context, which it shares with
    /// the CUDA runtime; calls make that the calling thread's current one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the library was built without the feature `cuda`, or there is no driver or no such GPU.
    pub fn cuda(ordinal: u32) -> Result<Device> {
        #[cfg(feature = "cuda")]
        return cuda::Cuda::open(ordinal).map(|cuda| Device::new(cuda));
        #[cfg(not(feature = "cuda"))]
        return Err(Error::Unavailable {
            device: format!("cuda:{ordinal}"),
            reason: "this library was built without its feature 'cuda'".into(),
        });
    }

    /// The first CUDA device if there is one, else a new emulator.
    pub fn auto() -> Device {
        Device::cuda(0).unwrap_or_else(|_| Device::emulator())
    }

    /// A device by name: `auto`, `cuda`, `cuda:N`, `emulator` or `cpu`.
    ///
    /// # Errors
    /// [`Error::DeviceName`] for any other name, and as [`Device::cuda`].
    pub fn parse(name: &str) -> Result<Device> {
        match name {
            "auto" => Ok(Device::auto()),
            "emulator" => Ok(Device::emulator()),
            "cpu" => Ok(Device::cpu()),
            "cuda" => Device::cuda(0),
            _ => {
                let ordinal = name.strip_prefix("cuda:").and_then(|n| n.parse().ok());
                Device::cuda(ordinal.ok_or_else(|| Error::DeviceName { given: name.into() })?)
            }
        }
    }

    pub(crate) fn new(accelerator: Arc<dyn Accelerator>) -> Device {
        Device(Place::Accelerator(accelerator))
    }

    /// What runs PTX there; `None` on the CPU.
    pub(crate) fn accelerator(&self) -> Option<&Arc<dyn Accelerator>> {
        match &self.0 {
            Place::Cpu => None,
            Place::Accelerator(accelerator) => Some(accelerator),
        }
    }

    /// What messages call it: `cuda:0`, `emulator`, `cpu`.
    pub fn name(&self) -> String {
        self.accelerator().map_or_else(|| "cpu".into(), |a| a.name())
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.accelerator().map_or(Kind::Cpu, |a| a.kind())
    }

    /// Waits until everything launched so far is done.
    ///
    /// # Errors
    /// What went wrong in a kernel since the last call.
    pub fn synchronize(&self) -> Result<()> {
        self.accelerator().map_or(Ok(()), |a| a.synchronize())
    }

    /// Gives device memory that freed tensors left back to the driver, so that others in the process can have it. On CUDA the library
    /// keeps such memory for its next tensors until it is trimmed, until there is no other left, or until the device's last user
    /// drops it; other devices keep none. Waits for everything launched so far.
    ///
    /// # Errors
    /// What went wrong in a kernel before.
    pub fn trim(&self) -> Result<()> {
        self.accelerator().map_or(Ok(()), |a| a.trim())
    }

    /// How long the work that `work` puts on the device takes: by events on CUDA, by the wall clock elsewhere.
    ///
    /// # Errors
    /// What `work` returns, or what went wrong on the device.
    pub fn time(&self, mut work: impl FnMut() -> Result<()>) -> Result<Duration> {
        match self.accelerator() {
            Some(accelerator) => accelerator.time(&mut work),
            None => {
                let start = Instant::now();
                work()?;
                Ok(start.elapsed())
            }
        }
    }

    /// What the emulator counted since the last call, by kernel; `None` on devices that do not count.
    pub fn take_stats(&self) -> Option<BTreeMap<&'static str, Statistics>> {
        self.accelerator()?.take_statistics()
    }
}

/// While it lives, the calling thread's current CUDA context may change; when it is dropped, the one from before is back. For
/// programs that have contexts of their own.
pub(crate) struct KeepContext {
    #[cfg(feature = "cuda")]
    _current: cuda::Current,
}

impl KeepContext {
    pub(crate) fn new() -> KeepContext {
        KeepContext {
            #[cfg(feature = "cuda")]
            _current: cuda::Current::keep(),
        }
    }
}

/// Whether both are the same device: tensors of one can be used with tensors of the other.
impl PartialEq for Device {
    fn eq(&self, other: &Device) -> bool {
        match (&self.0, &other.0) {
            (Place::Cpu, Place::Cpu) => true,
            (Place::Accelerator(a), Place::Accelerator(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Eq for Device {}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Device> {
        Device::parse(name)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.name())
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found_by_name() {
        assert_eq!(Device::parse("cpu").unwrap(), Device::cpu());
        assert_eq!(Device::parse("emulator").unwrap().kind(), Kind::Emulator);
        assert_eq!(
            Device::parse("tpu").unwrap_err().to_string(),
            "'tpu' is not a device; allowed are auto, cuda, cuda:N, emulator and cpu"
        );
        assert!(matches!(Device::parse("cuda:x"), Err(Error::DeviceName { .. })));
    }

    #[test]
    fn every_emulator_is_a_device_of_its_own() {
        let one = Device::emulator();
        assert_eq!(one, one.clone());
        assert_ne!(one, Device::emulator());
        assert_ne!(one, Device::cpu());
    }
}
