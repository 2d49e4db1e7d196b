//! Ragged batches: sequences of different lengths, packed one behind the other without padding.

use crate::attention::{Sdpa, sdpa};
use crate::dtype::store_wide;
use crate::error::{Error, Result};
use crate::problem::lengths::{check_offsets, longest};
use crate::storage::host_zeros;
use crate::tensor::{Tensor, byte_count};

/// A batch of tensors that differ in their first dimension (PyTorch's jagged nested tensor): their rows packed in one
/// tensor, and the offsets at which each begins.
#[derive(Clone, Debug)]
pub struct JaggedTensor {
    values: Tensor,
    offsets: Vec<usize>,
}

impl JaggedTensor {
    /// A copy of tensors `[length, ..]` behind one another. They have one storage type, one device, and all dimensions but the
    /// first in common; lengths may be 0.
    ///
    /// # Errors
    /// [`Error::Value`] where there is no tensor, or one does not go with the first; [`Error::Rank`] where one has no dimension;
    /// what goes wrong on the device.
    pub fn from_tensors(tensors: &[Tensor]) -> Result<JaggedTensor> {
        let wrong = |argument, given, allowed| Err(Error::Value { argument, given, allowed });
        let Some(first) = tensors.first() else {
            return wrong("the number of tensors".into(), "0".into(), "at least 1".into());
        };
        let mut offsets = vec![0usize];
        for (i, tensor) in tensors.iter().enumerate() {
            let (Some((_, own)), Some((_, inner))) =
                (tensor.shape().split_first(), first.shape().split_first())
            else {
                return Err(Error::Rank { argument: "a tensor", rank: 0, allowed: "1 and more".into() });
            };
            if own != inner {
                let allowed = format!("{inner:?} behind its length, as that of tensors[0]");
                return wrong(format!("the shape of tensors[{i}]"), format!("{:?}", tensor.shape()), allowed);
            }
            if tensor.dtype() != first.dtype() {
                let allowed = format!("{}, as tensors[0]", first.dtype());
                return wrong(format!("tensors[{i}]"), tensor.dtype().to_string(), allowed);
            }
            if tensor.device() != first.device() {
                let allowed = format!("on that of tensors[0], {}", first.device());
                return wrong(format!("the device of tensors[{i}]"), tensor.device().to_string(), allowed);
            }
            let end = offsets[i].checked_add(tensor.shape()[0]);
            offsets.push(end.ok_or_else(|| Error::TooLarge {
                argument: "the tensors together",
                what: "rows",
                given: offsets[i] as u128 + tensor.shape()[0] as u128,
                limit: usize::MAX as u128,
            })?);
        }
        let mut shape = first.shape().to_vec();
        shape[0] = offsets[tensors.len()];
        let mut bytes = host_zeros(byte_count(first.dtype(), &shape)?)?;
        let mut rest = &mut bytes[..];
        for tensor in tensors {
            let own = tensor.to_bytes()?;
            let (into, after) = rest.split_at_mut(own.len());
            into.copy_from_slice(&own);
            rest = after;
        }
        Ok(JaggedTensor {
            values: Tensor::from_bytes(first.device(), first.dtype(), &bytes, &shape)?,
            offsets,
        })
    }

    /// Packed rows `[total, ..]` and offsets: sequence `b` is rows `offsets[b]..offsets[b + 1]`. Nothing is copied.
    ///
    /// # Errors
    /// [`Error::Value`] where the offsets do not begin with 0, decrease, or do not end with the total; [`Error::Rank`] where the
    /// values have no dimension.
    pub fn from_parts(values: &Tensor, offsets: &[usize]) -> Result<JaggedTensor> {
        let Some(&rows) = values.shape().first() else {
            return Err(Error::Rank { argument: "values", rank: 0, allowed: "1 and more".into() });
        };
        check_offsets("offsets", offsets, "values", rows)?;
        Ok(JaggedTensor { values: values.clone(), offsets: offsets.to_vec() })
    }

    /// Other packed rows with the same offsets, as an output or a gradient has.
    ///
    /// # Errors
    /// As [`JaggedTensor::from_parts`].
    pub fn with_values(&self, values: &Tensor) -> Result<JaggedTensor> {
        JaggedTensor::from_parts(values, &self.offsets)
    }

    /// The packed rows, `[total, ..]`.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// Where each sequence begins, and the total.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// The number of sequences.
    pub fn batch(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The sequences `[length, ..]`, as views.
    ///
    /// # Errors
    /// None that the constructors have not ruled out.
    pub fn unbind(&self) -> Result<Vec<Tensor>> {
        self.offsets.windows(2).map(|ends| self.values.narrow(0, ends[0], ends[1] - ends[0])).collect()
    }

    /// A copy `[batch, longest, ..]` in which `padding` follows the shorter sequences.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where that cannot be addressed; what goes wrong on the device.
    pub fn to_padded(&self, padding: f64) -> Result<Tensor> {
        let (dtype, inner) = (self.values.dtype(), &self.values.shape()[1..]);
        let longest = longest(&self.offsets);
        let mut shape = vec![self.batch(), longest];
        shape.extend_from_slice(inner);
        let mut bytes = host_zeros(byte_count(dtype, &shape)?)?;
        let mut element = vec![0; dtype.size()];
        store_wide(dtype, std::iter::once(padding), &mut element);
        let packed = self.values.to_bytes()?;
        let row = byte_count(dtype, inner)?;
        let sequences = bytes.chunks_exact_mut((longest * row).max(1));
        for (sequence, ends) in sequences.zip(self.offsets.windows(2)) {
            let (own, behind) = sequence.split_at_mut((ends[1] - ends[0]) * row);
            own.copy_from_slice(&packed[ends[0] * row..ends[1] * row]);
            behind.chunks_exact_mut(dtype.size()).for_each(|chunk| chunk.copy_from_slice(&element));
        }
        Tensor::from_bytes(self.values.device(), dtype, &bytes, &shape)
    }
}

/// Attention of a ragged batch (flash-attn's `flash_attn_varlen_func`): as [`sdpa`] with [`Sdpa::ragged`].
///
/// q is `[total queries, heads, dim]`, k and v are `[total keys, heads, dim]`. Sequence `b` has the queries
/// `query_offsets[b]..query_offsets[b + 1]` and the keys `key_offsets[b]..key_offsets[b + 1]`, and attends to itself alone.
pub fn sdpa_varlen<'a>(
    q: &'a Tensor,
    k: &'a Tensor,
    v: &'a Tensor,
    query_offsets: &[usize],
    key_offsets: &[usize],
) -> Sdpa<'a> {
    sdpa(q, k, v).ragged(query_offsets, key_offsets)
}

/// Attention of jagged tensors, each sequence to itself alone. Output and gradients are packed;
/// [`JaggedTensor::with_values`] makes jagged tensors of them.
///
/// ```
/// use flash_attention::{Device, JaggedTensor, Tensor, sdpa_jagged};
///
/// let device = Device::cpu();
/// let sequence = |length: usize| Tensor::from_slice(&device, &vec![0.5f32; length * 2 * 8], &[length, 2, 8]);
/// let x = JaggedTensor::from_tensors(&[sequence(3)?, sequence(0)?, sequence(5)?])?;
/// let out = x.with_values(&sdpa_jagged(&x, &x, &x)?.run()?.out)?;
/// assert_eq!(out.unbind()?[2].shape(), [5, 2, 8]);
/// # Ok::<(), flash_attention::Error>(())
/// ```
///
/// # Errors
/// [`Error::Value`] where the offsets of v are not those of k.
pub fn sdpa_jagged<'a>(q: &'a JaggedTensor, k: &'a JaggedTensor, v: &'a JaggedTensor) -> Result<Sdpa<'a>> {
    if v.batch() != k.batch() {
        return Err(Error::Value {
            argument: "the number of sequences of v".into(),
            given: v.batch().to_string(),
            allowed: format!("{}, as that of k", k.batch()),
        });
    }
    if let Some(i) = v.offsets.iter().zip(&k.offsets).position(|(v, k)| v != k) {
        return Err(Error::Value {
            argument: format!("offset {i} of v"),
            given: v.offsets[i].to_string(),
            allowed: format!("{}, as that of k", k.offsets[i]),
        });
    }
    Ok(sdpa_varlen(&q.values, &k.values, &v.values, &q.offsets, &k.offsets))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::device::Device;
    use crate::dtype::Dtype;
    use crate::options::{Backend, Causal, Layout};

    /// Rows of two numbers that count on from `start`.
    fn counting(start: usize, rows: usize) -> Tensor {
        let values: Vec<f32> = (0..rows * 2).map(|i| (start * 2 + i) as f32).collect();
        Tensor::from_slice(&Device::cpu(), &values, &[rows, 2]).unwrap()
    }

    #[test]
    fn tensors_come_back_from_the_packed_ones() {
        let tensors = [counting(0, 2), counting(2, 0), counting(2, 3)];
        let jagged = JaggedTensor::from_tensors(&tensors).unwrap();
        assert_eq!((jagged.offsets(), jagged.batch()), (&[0, 2, 2, 5][..], 3));
        assert_eq!(jagged.values().to_vec::<f32>().unwrap(), counting(0, 5).to_vec::<f32>().unwrap());
        for (view, tensor) in jagged.unbind().unwrap().iter().zip(&tensors) {
            assert_eq!(view.shape(), tensor.shape());
            assert_eq!(view.to_vec::<f32>().unwrap(), tensor.to_vec::<f32>().unwrap());
        }
    }

    #[test]
    fn padding_follows_the_shorter_sequences() {
        let jagged = JaggedTensor::from_parts(&counting(0, 3), &[0, 1, 1, 3]).unwrap();
        let padded = jagged.to_padded(-1.0).unwrap();
        assert_eq!(padded.shape(), [3, 2, 2]);
        let expected = [0., 1., -1., -1., -1., -1., -1., -1., 2., 3., 4., 5.];
        assert_eq!(padded.to_vec::<f32>().unwrap(), expected);
        let empty = JaggedTensor::from_parts(&counting(0, 0), &[0, 0]).unwrap();
        assert_eq!(empty.to_padded(1.0).unwrap().shape(), [1, 0, 2]);
    }

    #[rstest]
    #[case(&[], "the length of offsets is 0; it must be at least 1, one more than the sequences")]
    #[case(&[1, 3], "offsets[0] is 1; it must be 0")]
    #[case(&[0, 2, 1, 3], "offsets[2] is 1; it must be at least 2, the offset before it")]
    #[case(&[0, 2], "offsets[1] is 2; it must be 3, the rows of values")]
    #[case(&[0, 4], "offsets[1] is 4; it must be 3, the rows of values")]
    fn offsets_that_do_not_fit_are_refused_in_words(#[case] offsets: &[usize], #[case] message: &str) {
        let error = JaggedTensor::from_parts(&counting(0, 3), offsets).unwrap_err();
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn tensors_that_do_not_go_together_are_refused_in_words() {
        let message =
            |tensors: &[Tensor]| JaggedTensor::from_tensors(tensors).map(drop).unwrap_err().to_string();
        let zeros = |dtype, shape: &[usize]| Tensor::zeros(&Device::cpu(), dtype, shape).unwrap();
        assert_eq!(message(&[]), "the number of tensors is 0; it must be at least 1");
        assert_eq!(
            message(&[counting(0, 1), zeros(Dtype::F32, &[4, 3])]),
            "the shape of tensors[1] is [4, 3]; it must be [2] behind its length, as that of tensors[0]"
        );
        assert_eq!(
            message(&[counting(0, 1), zeros(Dtype::F16, &[4, 2])]),
            "tensors[1] is f16; it must be f32, as tensors[0]"
        );
        assert_eq!(message(&[zeros(Dtype::F32, &[])]), "a tensor has 0 dimensions; allowed are 1 and more");
    }

    /// `[rows, heads, columns]` on a device.
    fn waves(device: &Device, seed: usize, shape: [usize; 3]) -> Tensor {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| ((i * 7 + seed * 31) as f32).sin()).collect();
        Tensor::from_slice(device, &values, &shape).unwrap()
    }

    /// Sequences with more queries than keys and fewer, one of each, none of either.
    const LENGTHS: [[usize; 2]; 6] = [[5, 9], [0, 3], [7, 2], [1, 1], [4, 0], [70, 35]];

    fn assert_close(name: &str, ours: &Tensor, theirs: &Tensor) {
        let (ours, theirs) = (ours.to_f64().unwrap(), theirs.to_f64().unwrap());
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            assert!(a == b || (a - b).abs() < 2e-5, "{name}[{i}]: {a} and {b}");
        }
    }

    #[rstest]
    #[case(Device::cpu(), Backend::Math)]
    #[case(Device::emulator(), Backend::Efficient)]
    fn every_sequence_gets_what_it_gets_alone(#[case] device: Device, #[case] backend: Backend) {
        let make = |seed: usize, which: usize, heads, columns| {
            let sequences: Vec<_> = LENGTHS
                .iter()
                .enumerate()
                .map(|(b, lengths)| waves(&device, seed + b, [lengths[which], heads, columns]))
                .collect();
            JaggedTensor::from_tensors(&sequences).unwrap()
        };
        let (q, k, v) = (make(0, 0, 4, 16), make(10, 1, 2, 16), make(20, 1, 2, 8));
        let dout = make(30, 0, 4, 8);
        let sinks = Tensor::from_slice(&device, &[0.5f32, -1.0, 2.0, 0.0], &[4]).unwrap();
        let dlse = waves(&device, 40, [1, 4, q.values().shape()[0]]).squeeze(0).unwrap();
        let options =
            |call: Sdpa<'_>| call.causal(Causal::LowerRight).window(Some(20), None).sinks(&sinks).forward();
        let all = options(sdpa_jagged(&q, &k, &v).unwrap()).unwrap();
        assert_eq!(all.backend(), backend);
        let gradients = all.backward_with(dout.values(), Some(&dlse)).unwrap();
        let rows =
            |jagged: &JaggedTensor, packed: &Tensor| jagged.with_values(packed).unwrap().unbind().unwrap();
        let results = [
            rows(&q, all.output()),
            rows(&q, &gradients.dq),
            rows(&k, &gradients.dk),
            rows(&v, &gradients.dv),
        ];
        let mut sums = vec![0.0; 4];
        let [qs, ks, vs, douts] = [&q, &k, &v, &dout].map(|jagged| jagged.unbind().unwrap());
        for b in 0..LENGTHS.len() {
            let dense = |t: &Tensor| t.unsqueeze(0).unwrap();
            let (q, k, v) = (dense(&qs[b]), dense(&ks[b]), dense(&vs[b]));
            let alone = options(sdpa(&q, &k, &v).layout(Layout::Bshd)).unwrap();
            let own = |t: &Tensor| t.narrow(1, all_start(&LENGTHS, b), LENGTHS[b][0]).unwrap();
            let expected = alone.backward_with(&dense(&douts[b]), Some(&dense(&own(&dlse)))).unwrap();
            assert_close("lse", &own(all.lse()), alone.lse());
            let theirs = [alone.output(), &expected.dq, &expected.dk, &expected.dv];
            for (name, (ours, theirs)) in ["out", "dq", "dk", "dv"].iter().zip(results.iter().zip(theirs)) {
                assert_close(&format!("{name} of sequence {b}"), &ours[b], theirs);
            }
            let dsinks = expected.dsinks.unwrap().to_f64().unwrap();
            sums.iter_mut().zip(dsinks).for_each(|(sum, x)| *sum += x);
        }
        assert_close(
            "dsinks",
            &gradients.dsinks.unwrap(),
            &Tensor::from_slice(&device, &sums, &[4]).unwrap(),
        );
    }

    /// The first query of a sequence.
    fn all_start(lengths: &[[usize; 2]], sequence: usize) -> usize {
        lengths[..sequence].iter().map(|lengths| lengths[0]).sum()
    }

    #[test]
    fn values_with_other_offsets_than_the_keys_are_refused_in_words() {
        let of = |offsets: &[usize]| JaggedTensor::from_parts(&counting(0, 3), offsets).unwrap();
        let message = |k: &[usize], v: &[usize]| {
            let (k, v) = (of(k), of(v));
            sdpa_jagged(&k, &k, &v).map(drop).unwrap_err().to_string()
        };
        assert_eq!(message(&[0, 1, 3], &[0, 2, 3]), "offset 1 of v is 2; it must be 1, as that of k");
        assert_eq!(
            message(&[0, 1, 3], &[0, 3]),
            "the number of sequences of v is 1; it must be 2, as that of k"
        );
    }
}
