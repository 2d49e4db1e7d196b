//! What holds on a GPU alone. Without one each test says so.

use std::io::Write;
use std::sync::Arc;

use cust::stream::{Stream, StreamFlags};

use super::{Cuda, lock};
use crate::device::accelerator::Accelerator;
use crate::device::{Device, KeepContext};
use crate::dtype::Dtype;
use crate::tensor::Tensor;

/// More than the driver moves within one call.
const BYTES: usize = 64 << 20;

/// The first GPU, or `None` with a line that the test harness does not keep to itself.
fn gpu() -> Option<Arc<Cuda>> {
    let found = Cuda::open(0);
    if let Err(error) = &found {
        // In one piece, so that other tests' lines do not come between.
        let line = format!("flash-attention: skipped: {error}\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    found.ok()
}

#[test]
fn what_was_written_is_seen_by_a_stream_that_does_not_wait_for_the_default_one() {
    let Some(cuda) = gpu() else { return };
    let _context = KeepContext::new();
    cuda.enter().unwrap();
    let stream = Stream::new(StreamFlags::NON_BLOCKING, None).unwrap();
    // SAFETY: a stream of the device, which outlives its user.
    let other = unsafe { cuda.clone().on_stream(stream.as_inner().cast()) }.unwrap();
    let address = cuda.allocate_shared(BYTES).unwrap();
    let mut read = vec![0; BYTES];
    for round in 1..=8 {
        cuda.write(address, &vec![round; BYTES]).unwrap();
        other.read(address, &mut read).unwrap();
        assert!(read.iter().all(|&byte| byte == round), "round {round}");
        // And the other way round: lists go by the stream of the call.
        other.upload(address, &[round + 100; 4096]).unwrap();
        other.zero(address + 4096, BYTES - 4096).unwrap();
        other.read(address, &mut read).unwrap();
        let (list, rest) = read.split_at(4096);
        assert!(list.iter().all(|&byte| byte == round + 100) && rest.iter().all(|&byte| byte == 0));
    }
    cuda.free_shared(address, BYTES).unwrap();
}

#[test]
fn freed_tensors_stay_with_the_library_until_it_is_trimmed() {
    let Some(cuda) = gpu() else { return };
    let device = Device::new(cuda.clone());
    // A size that no other test has, so that only this one takes it from the pool.
    let make = || Tensor::zeros(&device, Dtype::U8, &[BYTES + 12345]).unwrap();
    let first = make();
    let address = first.address();
    drop(first);
    let again = make();
    assert_eq!(again.address(), address);
    drop(again);
    assert!(lock(&cuda.pool).holds(BYTES + 12345));
    device.trim().unwrap();
    assert!(!lock(&cuda.pool).holds(BYTES + 12345));
    assert_eq!(make().to_bytes().unwrap().iter().filter(|&&byte| byte != 0).count(), 0);
}

#[test]
fn the_calling_threads_context_is_put_back() {
    let Some(cuda) = gpu() else { return };
    let current = || {
        let mut context = std::ptr::null_mut();
        // SAFETY: the driver writes a handle.
        super::check(unsafe { cust::sys::cuCtxGetCurrent(&mut context) }).unwrap();
        context
    };
    // A thread of its own begins without a context.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let before = current();
            let kept = KeepContext::new();
            cuda.synchronize().unwrap();
            assert!(!current().is_null());
            drop(kept);
            assert_eq!(current(), before);
        });
    });
}
