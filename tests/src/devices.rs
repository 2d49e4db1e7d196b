//! The devices that the tests run on.

use std::fmt;
use std::io::Write;
use std::sync::OnceLock;

use flash_attention::{Backend, Device, Kind};

/// The CPU, an emulator, and the first CUDA device if there is one. The first call says which, in the test's output.
pub fn devices() -> &'static [Device] {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let mut all = vec![Device::cpu(), Device::emulator()];
        let cuda = cuda();
        all.extend(cuda.clone());
        let names: Vec<String> = all.iter().map(|d| format!("{d} ({})", backend(d))).collect();
        say(&format!("devices: {}", names.join(", ")));
        if let Err(reason) = cuda {
            say(&format!("skipped: everything on CUDA, because {reason}"));
        }
        all
    })
}

/// A backend on a device.
#[derive(Clone, Debug)]
pub struct Target {
    /// The device.
    pub device: Device,
    /// The backend.
    pub backend: Backend,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.device, self.backend)
    }
}

/// Every backend on every device that it can run on.
pub fn targets() -> Vec<Target> {
    let on = |device: &Device, backend| Target { device: device.clone(), backend };
    let both = |device: &Device| {
        let efficient = (backend(device) == Backend::Efficient).then(|| on(device, Backend::Efficient));
        [Some(on(device, Backend::Math)), efficient].into_iter().flatten().collect::<Vec<_>>()
    };
    devices().iter().flat_map(both).collect()
}

/// The first CUDA device, or why there is none.
pub fn cuda() -> Result<Device, String> {
    Device::cuda(0).map_err(|error| error.to_string())
}

/// The backend that has to run on a device when none is asked for.
pub fn backend(device: &Device) -> Backend {
    if device.kind() == Kind::Cpu { Backend::Math } else { Backend::Efficient }
}

/// Writes a line that the test harness does not keep to itself.
pub fn say(line: &str) {
    // Nothing is lost but this line where the error stream is closed.
    let _ = writeln!(std::io::stderr(), "conformance: {line}");
}
