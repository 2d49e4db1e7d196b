//! Tensors whose elements are further apart than 32 bits count: more than 2^31 elements, 4 GiB of a 16-bit type, lie between the first
//! and the last of every tensor that a call reads or writes.

use flash_attention::ffi::{Loan, Saved, Targets};
use flash_attention::{Backend, Causal, Device, Dtype, EmulatorOptions, Kind, Result, Tensor, sdpa};
use flash_attention_conformance::compare::{compare_all, errors};
use flash_attention_conformance::devices::{Target, say, targets};
use flash_attention_conformance::problem::{Problem, Results};
use flash_attention_conformance::unfused::{Precision, unfused};
use rstest::rstest;

/// Batch entries, and heads.
const ENTRIES: usize = 2;
/// Queries and keys: more than a tile of either.
const ROWS: usize = 140;
/// Columns of every tensor.
const COLUMNS: usize = 32;

/// From where one tensor begins to where the next does, in elements: all lie in the gaps of one another.
const APART: usize = 1 << 16;

/// q, k, v, out, dout, dq, dk, dv.
const TENSORS: usize = 8;

/// Bytes for what calls take beside their tensors, and more.
const WORKSPACE: usize = 1 << 20;

/// Strides of which one puts the last element of its dimension behind 2^31 others; rows begin at multiples of 16 bytes.
fn strides(far: usize) -> [usize; 4] {
    let mut strides = [ENTRIES * ROWS * COLUMNS, ROWS * COLUMNS, COLUMNS, 1];
    match far {
        // Rows of all heads lie between two rows of one.
        2 => strides = [ENTRIES * COLUMNS, COLUMNS, (1 << 31) / (ROWS - 8), 1],
        _ => strides[far] = (1 << 31) + 8,
    }
    strides[2] = strides[2].next_multiple_of(8);
    strides
}

/// Memory of a device in which all tensors lie, the log-sum-exp beside them, and a workspace.
struct Place<'a> {
    target: &'a Target,
    dtype: Dtype,
    strides: [usize; 4],
    base: u64,
    bytes: usize,
    lse: u64,
    workspace: u64,
}

const LSE_BYTES: usize = ENTRIES * ENTRIES * ROWS * 4;

impl<'a> Place<'a> {
    fn new(target: &'a Target, dtype: Dtype, strides: [usize; 4]) -> Result<Place<'a>> {
        let last = (ENTRIES - 1) * (strides[0] + strides[1]) + (ROWS - 1) * strides[2] + COLUMNS;
        assert!(last > 1 << 31);
        let bytes = (last + (TENSORS - 1) * APART) * dtype.size();
        let device = &target.device;
        let base = device.allocate_bytes(bytes)?;
        let (lse, workspace) = (device.allocate_bytes(LSE_BYTES)?, device.allocate_bytes(WORKSPACE)?);
        Ok(Place { target, dtype, strides, base, bytes, lse, workspace })
    }

    fn device(&self) -> &Device {
        &self.target.device
    }

    fn address(&self, tensor: usize) -> u64 {
        self.base + (tensor * APART * self.dtype.size()) as u64
    }

    /// The address of every row of a tensor, in the order of its elements.
    fn rows(&self, tensor: usize) -> impl Iterator<Item = u64> {
        let (address, size, [batch, head, row, _]) = (self.address(tensor), self.dtype.size(), self.strides);
        (0..ENTRIES * ENTRIES * ROWS).map(move |n| {
            let [b, h, i] = [n / ROWS / ENTRIES, n / ROWS % ENTRIES, n % ROWS];
            address + ((b * batch + h * head + i * row) * size) as u64
        })
    }

    fn write(&self, tensor: usize, values: &[f64]) -> Result<()> {
        let bytes =
            Tensor::from_slice(&Device::cpu(), values, &[values.len()])?.cast(self.dtype)?.to_bytes()?;
        for (address, row) in self.rows(tensor).zip(bytes.chunks_exact(COLUMNS * self.dtype.size())) {
            // SAFETY: a row of memory that nothing else uses.
            unsafe { self.device().write_bytes(address, row) }?;
        }
        Ok(())
    }

    fn read(&self, tensor: usize) -> Result<Vec<f64>> {
        let mut values = vec![];
        for address in self.rows(tensor) {
            let mut row = vec![0; COLUMNS * self.dtype.size()];
            // SAFETY: as above; reading waits for what was launched.
            unsafe { self.device().read_bytes(address, &mut row) }?;
            values.extend(Tensor::from_bytes(&Device::cpu(), self.dtype, &row, &[COLUMNS])?.to_f64()?);
        }
        Ok(values)
    }

    fn read_lse(&self) -> Result<Vec<f64>> {
        let mut bytes = vec![0; LSE_BYTES];
        // SAFETY: as above.
        unsafe { self.device().read_bytes(self.lse, &mut bytes) }?;
        Tensor::from_bytes(&Device::cpu(), Dtype::F32, &bytes, &[LSE_BYTES / 4])?.to_f64()
    }

    /// Forward, or backward.
    fn call(&self, backward: bool, deterministic: bool) -> Result<()> {
        // SAFETY: the stream is the device's default one, and nothing else uses the workspace.
        let loan = unsafe { Loan::new(self.device(), std::ptr::null_mut(), self.workspace, WORKSPACE) }?;
        let tensor = |n: usize| {
            let shape = [ENTRIES, ENTRIES, ROWS, COLUMNS];
            // SAFETY: every row of it is memory that nothing else uses.
            unsafe { loan.tensor("a tensor", self.dtype, self.address(n), &shape, &self.strides) }
        };
        // SAFETY: as above.
        let lse = unsafe {
            let (shape, strides) = ([ENTRIES, ENTRIES, ROWS], [ENTRIES * ROWS, ROWS, 1]);
            loan.tensor("lse", Dtype::F32, self.lse, &shape, &strides)
        }?;
        let (q, k, v, out) = (tensor(0)?, tensor(1)?, tensor(2)?, tensor(3)?);
        let call = sdpa(&q, &k, &v).causal(Causal::LowerRight).splits(self.target.splits);
        let call = call.deterministic(deterministic).backend(self.target.backend);
        if !backward {
            return call.run_into(&out, Some(&lse)).map(|_| ());
        }
        let (dout, dq, dk, dv) = (tensor(4)?, tensor(5)?, tensor(6)?, tensor(7)?);
        let saved = Saved { out: &out, lse: &lse, dout: &dout, dlse: None };
        let into = Targets { dq: &dq, dk: &dk, dv: &dv, dbias: None, dsinks: None };
        call.backward_into(&saved, &into).map(|_| ())
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let sizes = [(self.base, self.bytes), (self.lse, LSE_BYTES), (self.workspace, WORKSPACE)];
        for (address, bytes) in sizes {
            // SAFETY: allocated with these sizes, and all work is done: its results have been read.
            let freed = unsafe { self.device().free_bytes(address, bytes) };
            // Nothing is left to do where a test fails anyway.
            _ = freed;
        }
    }
}

#[rstest]
#[case::flash(Backend::Flash, Dtype::F16, true)]
#[case::flash_with_atomics(Backend::Flash, Dtype::F16, false)]
#[case::efficient(Backend::Efficient, Dtype::F16, true)]
#[case::efficient_f32(Backend::Efficient, Dtype::F32, true)]
fn elements_behind_two_to_the_31_others_are_found_on_a_gpu(
    #[case] backend: Backend,
    #[case] dtype: Dtype,
    #[case] deterministic: bool,
    #[values(0, 1, 2)] far: usize,
) {
    let on_gpu = |target: &Target| {
        target.backend == backend && target.is_whole() && target.device.kind() == Kind::Cuda
    };
    let targets: Vec<Target> = targets().into_iter().filter(on_gpu).collect();
    if targets.is_empty() {
        say(&format!("skipped: elements far apart by {backend}, because there is no GPU for them"));
    }
    all_agree(&targets, dtype, far, deterministic);
}

/// One after the other: each takes 5 or, of f32, 10 GB, all of which the emulator fills with zeros.
#[test]
#[ignore = "it takes 10 GB of memory; run it with `-- --ignored`"]
fn elements_behind_two_to_the_31_others_are_found_on_the_emulator() {
    for (backend, dtype, deterministic, far) in [
        (Backend::Flash, Dtype::F16, true, 0),
        (Backend::Flash, Dtype::F16, false, 1),
        (Backend::Flash, Dtype::F16, true, 2),
        (Backend::Flash, Dtype::F16, false, 2),
        (Backend::Efficient, Dtype::F16, true, 0),
        (Backend::Efficient, Dtype::F16, true, 2),
        (Backend::Efficient, Dtype::F32, true, 1),
    ] {
        let emulator = Device::emulator_with(EmulatorOptions::default().checks(true));
        all_agree(&[Target::new(&emulator, backend)], dtype, far, deterministic);
        say(&format!("elements far apart in dimension {far} are found by {backend} in {dtype}"));
    }
}

/// Forward and backward of these targets on tensors of which one dimension is far apart.
fn all_agree(targets: &[Target], dtype: Dtype, far: usize, deterministic: bool) {
    let problem = Problem {
        batch: ENTRIES,
        key_heads: ENTRIES,
        queries: ROWS,
        keys: ROWS,
        head_dim: COLUMNS,
        value_dim: COLUMNS,
        dtype,
        causal: Causal::LowerRight,
        ..Problem::default()
    };
    let inputs = problem.inputs();
    let expected = problem.truth(&inputs);
    let errors = errors(&unfused(&problem, &inputs, Precision::of(dtype)), &expected, dtype);
    for target in targets {
        let place = match Place::new(target, dtype, strides(far)) {
            Err(error) if target.device.kind() == Kind::Cuda => {
                say(&format!("skipped: elements far apart on {target}, because {error}"));
                continue;
            }
            place => place.unwrap(),
        };
        for (tensor, values) in [(0, &inputs.q), (1, &inputs.k), (2, &inputs.v), (4, &inputs.dout)] {
            place.write(tensor, values).unwrap();
        }
        place.call(false, deterministic).unwrap();
        place.call(true, deterministic).unwrap();
        let [out, dq, dk, dv] = [3, 5, 6, 7].map(|tensor| place.read(tensor).unwrap());
        let given = Results { out, lse: place.read_lse().unwrap(), dq, dk, dv, ..Results::default() };
        compare_all(&given, &expected, errors, dtype)
            .unwrap_or_else(|message| panic!("on {target}: {message}"));
    }
}
