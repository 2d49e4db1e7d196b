//! How times are taken: warm-up, then the works in turn (A B A B), each with a cold L2 cache.

use std::time::Duration;

use flash_attention::{Device, Dtype, Kind, Result, Tensor};

use crate::arguments::Schedule;
use crate::summary::Summary;

/// Something to time; it puts its work on the device.
pub type Work<'a> = Box<dyn FnMut() -> Result<()> + 'a>;

/// More than the L2 cache of any GPU so far (126 MiB on a B200). Filling it also keeps the GPU busy while the host prepares the
/// launch, so that the events enclose the kernels and not the host's part.
const FLUSH_BYTES: usize = 512 << 20;

/// Whether the cache is flushed before every run on such a device.
pub fn flushes(kind: Kind) -> bool {
    kind == Kind::Cuda
}

fn flush(device: &Device) -> Result<()> {
    if flushes(device.kind()) {
        Tensor::zeros(device, Dtype::U8, &[FLUSH_BYTES])?;
    }
    Ok(())
}

/// Times each work; they take turns, so that a clock that changes meanwhile changes for all of them. One that fails is not
/// run again, and the others go on.
pub fn in_turn(device: &Device, schedule: Schedule, works: &mut [Work<'_>]) -> Vec<Result<Option<Summary>>> {
    let mut times: Vec<Result<Vec<Duration>>> = works.iter().map(|_| Ok(vec![])).collect();
    for round in 0..schedule.warmup + schedule.repeats {
        for (work, times) in works.iter_mut().zip(&mut times) {
            let Ok(taken) = times else { continue };
            match flush(device).and_then(|()| device.time(&mut **work)) {
                Ok(_) if round < schedule.warmup => {}
                Ok(time) => taken.push(time),
                Err(error) => *times = Err(error),
            }
        }
    }
    times.into_iter().map(|times| times.map(|times| Summary::of(&times))).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use flash_attention::Error;

    use super::*;

    #[test]
    fn works_take_turns_and_a_failing_one_stops_alone() {
        let order = RefCell::new(String::new());
        let note = |name| order.borrow_mut().push(name);
        let mut works: Vec<Work<'_>> = vec![
            Box::new(|| {
                note('a');
                Ok(())
            }),
            Box::new(|| {
                note('b');
                Err(Error::DeviceName { given: "b".into() })
            }),
            Box::new(|| {
                note('c');
                Ok(())
            }),
        ];
        let summaries = in_turn(&Device::cpu(), Schedule { warmup: 1, repeats: 2 }, &mut works);
        assert_eq!(*order.borrow(), "abcacac");
        assert!(summaries[1].is_err());
        for i in [0, 2] {
            assert_eq!(summaries[i].as_ref().unwrap().unwrap().repeats, 2);
        }
    }
}
