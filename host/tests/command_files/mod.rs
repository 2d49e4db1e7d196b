//! Files for the command, and the command.

use std::path::Path;
use std::process::{Command, Output};

use flash_attention::case::encode;
use flash_attention::{Device, Tensor, sdpa};

/// Runs `sdpa` in a folder.
pub fn command(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sdpa")).args(arguments).current_dir(folder).output().unwrap()
}

/// Smooth numbers.
pub fn tensor(seed: f32, shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37 + seed).sin()).collect();
    Tensor::from_slice(&Device::cpu(), &values, shape).unwrap()
}

/// A folder with `good.safetensors`, whose expected tensors are right, `bad.safetensors`, whose are not, and
/// `bare.safetensors`, which has nothing but q, k and v.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (q, k, v) = (tensor(0.1, &[1, 4, 5, 8]), tensor(0.5, &[1, 2, 6, 8]), tensor(0.9, &[1, 2, 6, 8]));
    let dout = tensor(1.3, &[1, 4, 5, 8]);
    let forward = sdpa(&q, &k, &v).forward().unwrap();
    let gradients = forward.backward(&dout).unwrap();
    let inputs = [("q", &q), ("k", &k), ("v", &v)];
    let rest = [
        ("dout", &dout),
        ("lse", forward.lse()),
        ("dq", &gradients.dq),
        ("dk", &gradients.dk),
        ("dv", &gradients.dv),
    ];
    let write = |name: &str, tensors: &[(&str, &Tensor)]| {
        std::fs::write(folder.path().join(name), encode(tensors, Default::default()).unwrap()).unwrap();
    };
    write("bare.safetensors", &inputs);
    write("good.safetensors", &[&inputs[..], &rest[..], &[("out", forward.output())]].concat());
    write("bad.safetensors", &[&inputs[..], &rest[..], &[("out", &dout)]].concat());
    folder
}
