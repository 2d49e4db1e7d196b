//! Whether what a call writes lies apart from what it reads.

use std::ops::Range;

use super::wrong;
use crate::error::Result;
use crate::tensor::Tensor;

/// The bytes from a tensor's first element to its last, where its elements fill them. None for one with gaps, in which another's
/// elements may lie: q, k and v of one packed tensor are such.
fn extent(tensor: &Tensor) -> Option<Range<u64>> {
    let bytes = (tensor.count() * tensor.dtype().size()) as u64;
    let filled = tensor.is_contiguous() && bytes > 0;
    filled.then(|| tensor.address()..tensor.address() + bytes)
}

fn shown(range: &Range<u64>) -> String {
    format!("{:#x} to {:#x}", range.start, range.end - 1)
}

/// Refuses a tensor that is written where one that is read, or another that is written, lies too. Only tensors without gaps are
/// looked at, so that nothing is refused that is right; what is not found is the caller's promise.
pub(super) fn check(written: &[(&str, Option<&Tensor>)], read: &[(&str, Option<&Tensor>)]) -> Result<()> {
    for (n, (name, tensor)) in written.iter().enumerate() {
        let Some(own) = tensor.and_then(extent) else { continue };
        for (other, tensor) in read.iter().chain(&written[..n]) {
            let Some(their) = tensor.and_then(extent) else { continue };
            if own.start < their.end && their.start < own.end {
                let allowed = format!("apart from that of {other}, {}", shown(&their));
                return Err(wrong(format!("the memory of {name}"), shown(&own), allowed));
            }
        }
    }
    Ok(())
}
