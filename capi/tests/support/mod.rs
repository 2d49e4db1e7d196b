//! Calls of the C interface as a C program makes them, on an emulator, with the results of the Rust interface beside them.

#![allow(dead_code, reason = "each test file uses a part")]

use std::ffi::CStr;

use flash_attention::{Device, Dtype, Gradients, Options, sdpa};
use flash_attention_c::call::{fa_backward, fa_backward_workspace, fa_forward, fa_forward_workspace};
use flash_attention_c::device::{FaDevice, fa_alloc, fa_device_close, fa_device_emulator, fa_read, fa_write};
use flash_attention_c::error::{OK, fa_last_error};
use flash_attention_c::types::{BackwardTensors, Execution, ForwardTensors, Problem, Tensor, dtype};
use half::{bf16, f16};

/// The message of this thread's last failure.
pub fn last_error() -> String {
    // SAFETY: a text that ends with 0, which is not replaced before it is copied.
    unsafe { CStr::from_ptr(fa_last_error()) }.to_string_lossy().into_owned()
}

/// Fails with the message where the code is not `OK`.
#[track_caller]
pub fn good(code: i32) {
    assert_eq!((code, if code == OK { String::new() } else { last_error() }), (OK, String::new()));
}

/// Numbers between -1 and 1 that look random, the same every time.
pub fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// An emulator behind the C interface.
pub struct Emulator(pub *mut FaDevice);

impl Emulator {
    pub fn new() -> Emulator {
        let mut device = std::ptr::null_mut();
        // SAFETY: a place for the pointer.
        good(unsafe { fa_device_emulator(0, &mut device) });
        Emulator(device)
    }

    pub fn alloc(&self, bytes: usize) -> u64 {
        let mut address = 0;
        // SAFETY: the device is open, and the address has a place.
        good(unsafe { fa_alloc(self.0, bytes as u64, &mut address) });
        address
    }

    pub fn write(&self, address: u64, bytes: &[u8]) {
        // SAFETY: the device is open, and the tests allocate as many bytes.
        good(unsafe { fa_write(self.0, address, bytes.as_ptr(), bytes.len() as u64) });
    }

    pub fn read(&self, address: u64, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        // SAFETY: the device is open, and the tests allocate as many bytes.
        good(unsafe { fa_read(self.0, address, read.as_mut_ptr(), bytes as u64) });
        read
    }

    /// A contiguous tensor that holds these bytes.
    pub fn tensor(&self, bytes: &[u8], dtype: i32, shape: &[usize]) -> Tensor {
        let address = self.alloc(bytes.len());
        self.write(address, bytes);
        contiguous(address, dtype, shape)
    }

    /// A contiguous tensor full of NaN, to be written.
    pub fn blank(&self, dtype: i32, shape: &[usize]) -> Tensor {
        let bytes = shape.iter().product::<usize>() * size(dtype);
        self.tensor(&vec![0xff; bytes], dtype, shape)
    }

    /// The bytes of a contiguous tensor.
    pub fn bytes(&self, tensor: &Tensor) -> Vec<u8> {
        let shape = &tensor.shape[..tensor.rank as usize];
        self.read(tensor.data, shape.iter().product::<i64>() as usize * size(tensor.dtype))
    }

    /// Where a call works: the default stream, and a workspace of so many bytes.
    pub fn execution(&self, bytes: u64) -> Execution {
        Execution { workspace: self.alloc(bytes as usize), workspace_bytes: bytes, ..Execution::default() }
    }

    /// Forward with just the workspace that it asks for.
    pub fn forward(&self, problem: &Problem, tensors: &ForwardTensors) {
        let mut bytes = 0;
        // SAFETY: the device is open, and its tensors are allocated.
        good(unsafe { fa_forward_workspace(self.0, problem, tensors, &mut bytes) });
        let execution = self.execution(bytes);
        // SAFETY: as above; the workspace is as large as it says.
        good(unsafe { fa_forward(self.0, problem, tensors, &execution) });
    }

    /// Backward with just the workspace that it asks for.
    pub fn backward(&self, problem: &Problem, tensors: &BackwardTensors) {
        let mut bytes = 0;
        // SAFETY: the device is open, and its tensors are allocated.
        good(unsafe { fa_backward_workspace(self.0, problem, tensors, &mut bytes) });
        let execution = self.execution(bytes);
        // SAFETY: as above; the workspace is as large as it says.
        good(unsafe { fa_backward(self.0, problem, tensors, &execution) });
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // SAFETY: opened once, and closed once.
        good(unsafe { fa_device_close(self.0) });
    }
}

/// Bytes of an element.
pub fn size(of: i32) -> usize {
    match of {
        dtype::F32 => 4,
        dtype::U8 => 1,
        _ => 2,
    }
}

/// Numbers as elements of a type.
pub fn encode(of: i32, values: &[f32]) -> Vec<u8> {
    let each = |&x: &f32| match of {
        dtype::F32 => x.to_le_bytes().to_vec(),
        dtype::F16 => f16::from_f32(x).to_le_bytes().to_vec(),
        dtype::BF16 => bf16::from_f32(x).to_le_bytes().to_vec(),
        _ => vec![x as u8],
    };
    values.iter().flat_map(each).collect()
}

/// A tensor with row-major strides.
pub fn contiguous(data: u64, dtype: i32, shape: &[usize]) -> Tensor {
    let mut tensor = Tensor { data, dtype, rank: shape.len() as i32, ..Tensor::default() };
    let mut stride = 1;
    for d in (0..shape.len()).rev() {
        (tensor.shape[d], tensor.strides[d]) = (shape[d] as i64, stride);
        stride *= shape[d].max(1) as i64;
    }
    tensor
}

/// The same bytes as a tensor of the Rust interface.
pub fn own(device: &Device, of: i32, bytes: &[u8], shape: &[usize]) -> flash_attention::Tensor {
    let of = match of {
        dtype::F32 => Dtype::F32,
        dtype::F16 => Dtype::F16,
        dtype::BF16 => Dtype::Bf16,
        _ => Dtype::U8,
    };
    flash_attention::Tensor::from_bytes(device, of, bytes, shape).unwrap()
}

/// What the Rust interface computes.
pub struct Expected {
    pub out: Vec<u8>,
    pub lse: Vec<u8>,
    pub gradients: Gradients,
}

/// Forward and backward through the Rust interface.
pub fn expected(
    [q, k, v, dout]: [&flash_attention::Tensor; 4],
    dlse: Option<&flash_attention::Tensor>,
    options: &Options,
) -> Expected {
    let forward = sdpa(q, k, v).options(options.clone()).forward().unwrap();
    Expected {
        out: forward.output().to_bytes().unwrap(),
        lse: forward.lse().to_bytes().unwrap(),
        gradients: forward.backward_with(dout, dlse).unwrap(),
    }
}
