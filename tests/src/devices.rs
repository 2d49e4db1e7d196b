//! The devices that the tests run on.

use std::fmt;
use std::io::Write;
use std::sync::OnceLock;

use flash_attention::{Backend, Device, Dtype, EmulatorOptions, Kind, Tensor, sdpa};

/// The CPU, an emulator, and the first CUDA device if there is one. The first call says which, in the test's output.
pub fn devices() -> &'static [Device] {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        // Every launch of the emulator is checked for races and reads of unwritten memory.
        let emulator = Device::emulator_with(EmulatorOptions::default().checks(true));
        let mut all = vec![Device::cpu(), emulator];
        let cuda = cuda();
        all.extend(cuda.clone());
        let names = |device| backends(device).map(Backend::name).collect::<Vec<_>>().join(", ");
        let named: Vec<String> = all.iter().map(|device| format!("{device} ({})", names(device))).collect();
        say(&format!("devices: {}", named.join(", ")));
        for device in all.iter().filter(|device| device.kind() != Kind::Cpu && !has_tensor_cores(device)) {
            say(&format!("skipped: flash on {device}, because its tensor cores are too old"));
        }
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

/// Every backend on every device that it can run on. Which of them take a problem: [`Problem::targets`](crate::problem::Problem::targets).
pub fn targets() -> Vec<Target> {
    let on = |device| backends(device).map(|backend| Target { device: device.clone(), backend });
    devices().iter().flat_map(on).collect()
}

/// The backends that have kernels for a device.
fn backends(device: &Device) -> impl Iterator<Item = Backend> + use<> {
    let kernels = device.kind() != Kind::Cpu;
    let has = [true, kernels, kernels && has_tensor_cores(device)];
    let all = [Backend::Math, Backend::Efficient, Backend::Flash];
    all.into_iter().zip(has).filter(|(_, has)| *has).map(|(backend, _)| backend)
}

/// Whether Flash runs on a device: on every emulator, and on a GPU that is new enough, which it says to the simplest problem.
pub fn has_tensor_cores(device: &Device) -> bool {
    let takes = || -> flash_attention::Result<bool> {
        let q = Tensor::zeros(device, Dtype::F16, &[1, 1, 8])?;
        let explanation = sdpa(&q, &q, &q).explain()?;
        Ok(explanation.choose(&[Backend::Flash]).is_ok())
    };
    match device.kind() {
        Kind::Emulator => true,
        Kind::Cuda => takes().unwrap_or_default(),
        _ => false,
    }
}

/// The first CUDA device, or why there is none.
pub fn cuda() -> Result<Device, String> {
    Device::cuda(0).map_err(|error| error.to_string())
}

/// Writes a line that the test harness does not keep to itself.
pub fn say(line: &str) {
    // Nothing is lost but this line where the error stream is closed.
    let _ = writeln!(std::io::stderr(), "conformance: {line}");
}
