//! What is on this machine, and why something is not.

use crate::device::Kind;

/// One device, or one kind of which there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceReport {
    /// The name that [`Device::parse`](crate::Device::parse) takes.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// A description of the device, or why there is none.
    pub status: Result<String, String>,
}

/// Every device of this machine; where there is no CUDA device, one entry says why.
pub fn devices() -> Vec<DeviceReport> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut all = cuda();
    all.push(DeviceReport {
        name: "emulator".into(),
        kind: Kind::Emulator,
        status: Ok(format!("runs the kernels' PTX on the CPU, {threads} threads")),
    });
    all.push(DeviceReport {
        name: "cpu".into(),
        kind: Kind::Cpu,
        status: Ok(format!("the Math backend, without PTX, {threads} threads")),
    });
    all
}

#[cfg(feature = "cuda")]
fn cuda() -> Vec<DeviceReport> {
    super::cuda::list()
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Vec<DeviceReport> {
    let reason = "this library was built without its feature 'cuda'".into();
    vec![DeviceReport { name: "cuda".into(), kind: Kind::Cuda, status: Err(reason) }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulator_and_cpu_are_always_there_and_absent_cuda_has_a_reason() {
        let all = devices();
        assert!(all.iter().any(|d| d.kind == Kind::Cuda));
        assert!(all.iter().filter(|d| d.kind != Kind::Cuda).all(|d| d.status.is_ok()));
        for device in all {
            assert!(device.status.is_ok_and(|s| !s.is_empty()) || device.kind == Kind::Cuda);
        }
    }
}
