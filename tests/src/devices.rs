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
        let options = EmulatorOptions::default().checks(true).multiprocessors(multiprocessors());
        let emulator = Device::emulator_with(options);
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

/// How many multiprocessors the emulator of [`devices`] says it has: `$FLASH_ATTENTION_MULTIPROCESSORS`, else one. With as many as
/// a GPU has all tests plan as they do there: `Flash` divides the keys of most of their problems.
fn multiprocessors() -> u32 {
    let given = std::env::var("FLASH_ATTENTION_MULTIPROCESSORS").ok();
    given.map_or(1, |text| text.parse().expect("FLASH_ATTENTION_MULTIPROCESSORS is a number"))
}

/// Whether `Flash` divides keys on a device where nobody asks it to: on GPUs, and on an emulator of several multiprocessors. Elsewhere
/// a problem whose parts are left to the library has the plan that it has in one part.
pub fn divides(device: &Device) -> bool {
    match device.kind() {
        Kind::Cuda => true,
        Kind::Emulator => multiprocessors() > 1,
        _ => false,
    }
}

/// A backend on a device.
#[derive(Clone, Debug)]
pub struct Target {
    /// The device.
    pub device: Device,
    /// The backend.
    pub backend: Backend,
    /// Parts of the keys of a problem that asks for none: 1, by which the kernels do not depend on the device, or 0, which leaves it
    /// to the library. Small problems hardly ever go by the kernels that meet all keys on a GPU that has the choice.
    pub splits: usize,
}

impl Target {
    /// A backend on a device, with all keys in one part.
    pub fn new(device: &Device, backend: Backend) -> Target {
        Target { device: device.clone(), backend, splits: 1 }
    }

    /// The same with as many parts as the library likes.
    pub fn divided(self) -> Target {
        Target { splits: 0, ..self }
    }

    /// Whether problems of other shapes have the same plan as far as their shapes do, and so give the same bits.
    pub fn is_whole(&self) -> bool {
        self.splits == 1
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = if self.is_whole() { "" } else { " in parts" };
        write!(f, "{} by {}{parts}", self.device, self.backend)
    }
}

/// Every backend on every device that it can run on, Flash twice where it [`divides`] keys by itself. Which of them take a problem:
/// [`Problem::targets`](crate::problem::Problem::targets).
pub fn targets() -> Vec<Target> {
    let whole =
        devices().iter().flat_map(|device| backends(device).map(|backend| Target::new(device, backend)));
    let both = |target: Target| {
        let divides = target.backend == Backend::Flash && divides(&target.device);
        let divided = divides.then(|| target.clone().divided());
        [target].into_iter().chain(divided)
    };
    whole.flat_map(both).collect()
}

/// Where a test runs kernels that it also counts: a backend on the test's own emulator, whose counts are of nothing else, and on
/// every other device of [`devices`] that has kernels, all with plans that do not depend on the device.
pub fn targets_with(emulator: &Device, backend: Backend) -> Vec<Target> {
    let elsewhere = targets().into_iter().filter(|target| {
        target.backend == backend && target.is_whole() && target.device.kind() != Kind::Emulator
    });
    [Target::new(emulator, backend)].into_iter().chain(elsewhere).collect()
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
