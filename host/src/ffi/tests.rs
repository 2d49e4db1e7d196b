use super::*;
use crate::attention::sdpa;
use crate::options::{Causal, Layout};

const SHAPE: [usize; 4] = [2, 3, 40, 32];

/// Memory of a device, which the tests share out as they like.
struct Memory {
    device: Device,
    address: u64,
}

impl Memory {
    fn new(device: &Device, bytes: usize) -> Memory {
        Memory { address: device.allocate_bytes(bytes).unwrap(), device: device.clone() }
    }

    fn put(&self, values: &[f32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        // SAFETY: the tests allocate as many.
        unsafe { self.device.write_bytes(self.address, &bytes) }.unwrap();
    }

    fn get(&self, count: usize) -> Vec<f32> {
        let mut bytes = vec![0; 4 * count];
        // SAFETY: the tests allocate as many.
        unsafe { self.device.read_bytes(self.address, &mut bytes) }.unwrap();
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }
}

fn values(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7 + seed * 13) as f32).sin()).collect()
}

fn shown(loan: &Loan, memory: &Memory, shape: &[usize], strides: &[usize]) -> Tensor {
    // SAFETY: the memory lives as long as the test, and nothing else uses it.
    unsafe { loan.tensor("a tensor", Dtype::F32, memory.address, shape, strides) }.unwrap()
}

fn loan(device: &Device, workspace: &Memory, bytes: usize) -> Loan {
    // SAFETY: the default stream, and memory that lives as long as the test.
    unsafe { Loan::new(device, std::ptr::null_mut(), workspace.address, bytes) }.unwrap()
}

#[test]
fn results_in_given_memory_are_those_in_tensors_of_the_librarys_own() {
    let device = Device::emulator();
    let count: usize = SHAPE.iter().product();
    let [q, k, v, dout] = [1, 2, 3, 4].map(|seed| values(seed, count));
    let own = [&q, &k, &v, &dout].map(|x| Tensor::from_slice(&device, x, &SHAPE).unwrap());
    let forward = sdpa(&own[0], &own[1], &own[2]).causal(Causal::LowerRight).forward().unwrap();
    let gradients = forward.backward(&own[3]).unwrap();

    // Written in the order [seq, heads, batch, dim], with a gap behind every row.
    let strides = [36, 2 * 36, 3 * 2 * 36, 1];
    let memory: Vec<Memory> = (0..4).map(|_| Memory::new(&device, 4 * count)).collect();
    let results: Vec<Memory> = (0..4).map(|_| Memory::new(&device, 4 * count * 36 / 32)).collect();
    memory.iter().zip([&q, &k, &v, &dout]).for_each(|(memory, values)| memory.put(values));
    results.iter().for_each(|memory| memory.put(&vec![77.0; count * 36 / 32]));
    let (lse, workspace) = (Memory::new(&device, 4 * 240), Memory::new(&device, 4096));
    let loan = loan(&device, &workspace, 4096);
    let contiguous = [3840, 1280, 32, 1];
    let [q, k, v, dout] = [0, 1, 2, 3].map(|i| shown(&loan, &memory[i], &SHAPE, &contiguous));
    let [out, dq, dk, dv] = [0, 1, 2, 3].map(|i| shown(&loan, &results[i], &SHAPE, &strides));
    let per_query = shown(&loan, &lse, &[2, 3, 40], &[120, 40, 1]);
    let call = || sdpa(&q, &k, &v).causal(Causal::LowerRight);
    assert_eq!(call().run_into(&out, Some(&per_query)).unwrap(), Backend::Efficient);
    let saved = Saved { out: &out, lse: &per_query, dout: &dout, dlse: None };
    let into = Targets { dq: &dq, dk: &dk, dv: &dv, dbias: None, dsinks: None };
    call().backward_into(&saved, &into).unwrap();

    assert_eq!(lse.get(240), forward.lse().to_vec::<f32>().unwrap());
    let expected = [forward.output(), &gradients.dq, &gradients.dk, &gradients.dv];
    for ((given, memory), expected) in [out, dq, dk, dv].iter().zip(&results).zip(expected) {
        assert_eq!(given.to_vec::<f32>().unwrap(), expected.to_vec::<f32>().unwrap());
        let gaps = memory.get(count * 36 / 32);
        assert!(gaps.chunks_exact(36).all(|row| row[32..] == [77.0; 4]), "nothing is written between rows");
    }
}

#[test]
fn the_workspace_that_is_counted_is_just_enough() {
    let device = Device::emulator();
    let memory = Memory::new(&device, 4 * SHAPE.iter().product::<usize>());
    let (output, workspace) = (Memory::new(&device, 4 * 7680), Memory::new(&device, 4096));
    let call = |loan: &Loan| {
        let q = shown(loan, &memory, &SHAPE, &[3840, 1280, 32, 1]);
        let out = shown(loan, &output, &SHAPE, &[3840, 1280, 32, 1]);
        sdpa(&q, &q, &q).key_lengths(&[40, 7]).run_into(&out, None)
    };
    let counting = Loan::counting(&device).unwrap();
    call(&counting).unwrap();
    // 240 rows of the log-sum-exp, and two lengths.
    assert_eq!(counting.used(), 1024 + 256);
    assert!(device.take_stats().is_some_and(|counted| counted.is_empty()), "nothing was launched");
    let short = loan(&device, &workspace, 1279);
    assert!(call(&short).unwrap_err().to_string().ends_with("it has 1279 bytes, of which 1024 are in use"));
    assert!(short.exceeded() && device.take_stats().is_some_and(|counted| counted.is_empty()));
    let enough = loan(&device, &workspace, 1280);
    call(&enough).unwrap();
    assert!(!enough.exceeded());
}

#[test]
fn queries_without_keys_are_written_too() {
    let device = Device::emulator();
    let (memory, output) = (Memory::new(&device, 4 * 64), Memory::new(&device, 4 * 64));
    let workspace = Memory::new(&device, 256);
    memory.put(&[0.25; 64]);
    output.put(&[5.0; 64]);
    let loan = loan(&device, &workspace, 256);
    let q = shown(&loan, &memory, &[1, 2, 3, 8], &[48, 24, 8, 1]);
    let k = shown(&loan, &memory, &[1, 2, 0, 8], &[0, 0, 8, 1]);
    let sinks = shown(&loan, &memory, &[2], &[1]);
    let out = shown(&loan, &output, &[1, 2, 3, 8], &[30, 30, 10, 1]);
    let rows = Memory::new(&device, 4 * 6);
    let lse = shown(&loan, &rows, &[1, 2, 3], &[6, 3, 1]);
    let options = crate::Options { sinks: Some(sinks.clone()), ..Default::default() };
    sdpa(&q, &k, &k).options(options.clone()).run_into(&out, Some(&lse)).unwrap();
    assert_eq!(rows.get(6), [0.25; 6]);
    let written = output.get(60);
    assert!(written.chunks_exact(10).all(|row| row[..8] == [0.0; 8] && row[8..] == [5.0; 2]), "{written:?}");
    let dsinks = Memory::new(&device, 8);
    let saved = Saved { out: &out, lse: &lse, dout: &q, dlse: Some(&lse) };
    let into =
        Targets { dq: &out, dk: &k, dv: &k, dbias: None, dsinks: Some(&shown(&loan, &dsinks, &[2], &[1])) };
    sdpa(&q, &k, &k).options(options).backward_into(&saved, &into).unwrap();
    assert_eq!(dsinks.get(2), [0.75; 2]);
}

#[test]
fn what_cannot_be_is_an_error_before_anything_runs() {
    let device = Device::emulator();
    let (memory, workspace) = (Memory::new(&device, 8192), Memory::new(&device, 256));
    let loan = loan(&device, &workspace, 256);
    // SAFETY: nothing is launched in this test.
    let tensor = |dtype, address, shape: &[usize], strides: &[usize]| unsafe {
        loan.tensor("k", dtype, address, shape, strides)
    };
    let message = |result: Result<Tensor>| result.unwrap_err().to_string();
    assert_eq!(
        message(tensor(Dtype::F16, 0, &[2], &[1])),
        "the address of k is 0x0; it must be that of memory, a multiple of the 2 bytes of f16"
    );
    assert!(message(tensor(Dtype::F32, 6, &[2], &[1])).starts_with("the address of k is 0x6"));
    assert!(message(tensor(Dtype::F32, 4, &[2], &[1, 2])).contains("1 dimensions; allowed are 2"));
    assert!(
        message(tensor(Dtype::F32, 4, &[2, 2], &[1 << 62, 1]))
            .starts_with("k has 18446744073709551624 bytes")
    );
    let (q, square) = (shown(&loan, &memory, &[1, 1, 4, 8], &[32, 32, 8, 1]), [1, 1, 4, 8]);
    let refuse = |out: &Tensor, words: &str| {
        let error = sdpa(&q, &q, &q).run_into(out, None).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refuse(&shown(&loan, &memory, &square, &[32, 32, 0, 1]), "the list of strides of out is [32, 32, 0, 1]");
    refuse(&shown(&loan, &memory, &square, &[32, 32, 7, 1]), "beyond all that the smaller ones reach");
    refuse(&shown(&loan, &memory, &[1, 1, 4, 7], &[32, 32, 8, 1]), "it must be [1, 1, 4, 8]");
    refuse(&tensor(Dtype::F16, memory.address, &square, &[32, 32, 8, 1]).unwrap(), "allowed are only f32");
    let error = sdpa(&q, &q, &q).backend(Backend::Math).run_into(&q, None).unwrap_err();
    assert!(error.to_string().starts_with("math cannot run this: it computes in the host's memory"));
    let two = shown(&loan, &memory, &[2, 1, 4, 8], &[32, 32, 8, 1]);
    let lse = shown(&loan, &memory, &[2, 1, 4], &[4, 4, 1]);
    let saved = Saved { out: &two, lse: &lse, dout: &two, dlse: None };
    let into = Targets { dq: &two, dk: &q, dv: &two, dbias: None, dsinks: None };
    let error = sdpa(&two, &q, &two).backward_into(&saved, &into).unwrap_err().to_string();
    assert!(error.contains("k of shape [1, 1, 4, 8] is repeated to [2, 1, 4, 8]"), "{error}");
    // SAFETY: refused.
    let stream = unsafe { Loan::new(&device, 8 as *mut c_void, workspace.address, 256) };
    assert!(stream.unwrap_err().to_string().contains("null on the emulator"));
    // SAFETY: refused.
    let odd = unsafe { Loan::new(&device, std::ptr::null_mut(), workspace.address + 8, 8) };
    assert!(odd.unwrap_err().to_string().ends_with("it must be a multiple of 256"));
    assert!(Loan::counting(&Device::cpu()).unwrap_err().to_string().starts_with("device is cpu"));
}

#[test]
fn flash_is_not_taken_where_the_output_cannot_be_written_in_pieces_of_16_bytes() {
    let device = Device::emulator();
    let loan = Loan::counting(&device).unwrap();
    // SAFETY: a loan that counts touches nothing.
    let tensor = |address, row| unsafe {
        loan.tensor("a tensor", Dtype::F16, address, &[1, 16, 1, 32], &[16 * row, row, row, 1]).unwrap()
    };
    let q = tensor(0, 32);
    let backend = |out: &Tensor| {
        let call = sdpa(&q, &q, &q).layout(Layout::Bshd);
        assert_eq!(call.backend_into(out).unwrap(), call.clone().run_into(out, None).unwrap());
        call.backend_into(out).unwrap()
    };
    assert_eq!(backend(&tensor(0, 32)), Backend::Flash);
    assert_eq!([backend(&tensor(2, 32)), backend(&tensor(0, 36))], [Backend::Efficient; 2]);
    let named = sdpa(&q, &q, &q).layout(Layout::Bshd).backend(Backend::Flash).run_into(&tensor(2, 32), None);
    assert!(named.unwrap_err().to_string().contains("the rows of out do not all begin"));
}

#[test]
fn tensors_without_gaps_that_overlap_are_refused_and_interleaved_ones_are_not() {
    let device = Device::emulator();
    let (memory, workspace) = (Memory::new(&device, 4 * 512), Memory::new(&device, 4096));
    memory.put(&values(1, 512));
    let loan = loan(&device, &workspace, 4096);
    let at = |elements: u64, shape: &[usize], strides: &[usize]| {
        let address = memory.address + 4 * elements;
        // SAFETY: the memory lives as long as the test, and what overlaps is refused.
        unsafe { loan.tensor("a tensor", Dtype::F32, address, shape, strides) }.unwrap()
    };
    let (shape, row) = ([1, 1, 4, 8], [32, 32, 8, 1]);
    let (q, k, v) = (at(0, &shape, &row), at(32, &shape, &row), at(64, &shape, &row));
    let refused = |result: Result<Backend>, words: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with(words), "{error}");
    };
    let begin = memory.address;
    let call = || sdpa(&q, &k, &v);
    let words = format!(
        "the memory of out is {:#x} to {:#x}; it must be apart from that of v, {:#x} to {:#x}",
        begin + 95 * 4,
        begin + 127 * 4 - 1,
        begin + 64 * 4,
        begin + 96 * 4 - 1
    );
    refused(call().run_into(&at(95, &shape, &row), None), &words);
    let lse = at(125, &[1, 1, 4], &[4, 4, 1]);
    refused(call().run_into(&at(96, &shape, &row), Some(&lse)), "the memory of lse is");
    let (out, lse) = (at(96, &shape, &row), at(128, &[1, 1, 4], &[4, 4, 1]));
    call().run_into(&out, Some(&lse)).unwrap();
    let (dq, dk) = (at(160, &shape, &row), at(192, &shape, &row));
    let saved = Saved { out: &out, lse: &lse, dout: &v, dlse: None };
    let into = |dv| Targets { dq: &dq, dk: &dk, dv, dbias: None, dsinks: None };
    let (on_dk, on_out) = (at(193, &shape, &row), at(120, &shape, &row));
    refused(call().backward_into(&saved, &into(&on_dk)), "the memory of dv is");
    refused(call().backward_into(&saved, &into(&on_out)), "the memory of dv is");
    call().backward_into(&saved, &into(&at(224, &shape, &row))).unwrap();

    // q, k, v and out in turn in every row of one packed tensor.
    let packed = [256, 264, 272, 280].map(|start| at(start, &shape, &[128, 128, 32, 1]));
    sdpa(&packed[0], &packed[1], &packed[2]).run_into(&packed[3], None).unwrap();
    // On a loan that counts addresses mean nothing.
    let counting = Loan::counting(&device).unwrap();
    let q = shown(&counting, &memory, &shape, &row);
    sdpa(&q, &q, &q).run_into(&q, None).unwrap();
}
