//! One batch of sequences of different lengths, packed and padded.

use flash_attention::{Device, Dtype, JaggedTensor, Layout, Result, Sdpa, Tensor, sdpa, sdpa_varlen};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, StandardNormal};
use serde::Serialize;

use crate::inputs::normal;

/// Columns of a head.
const HEAD_DIM: usize = 64;

/// How a batch whose sequences differ in length is given to attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Variant {
    /// Packed, with offsets: no padding anywhere.
    #[serde(rename = "ragged")]
    Ragged,
    /// Padded, and the padding treated as tokens: what the tutorial compares with, and no longer the same result.
    #[serde(rename = "dense")]
    Dense,
    /// Padded, with the number of keys that count.
    #[serde(rename = "dense, key lengths")]
    KeyLengths,
    /// Padded, with a boolean mask of the keys that count.
    #[serde(rename = "dense, mask")]
    Mask,
}

/// The tensors. Padding holds random numbers too: zeros would let a GPU clock higher.
#[derive(Debug)]
pub struct Batch {
    /// Tokens of each sequence.
    pub lengths: Vec<usize>,
    /// q, k, v and dout, `[batch, longest, heads, dim]`.
    dense: [Tensor; 4],
    /// The same without padding, `[total, heads, dim]`.
    packed: [JaggedTensor; 4],
    /// `[batch, 1, 1, longest]`, 1 for the keys that count.
    mask: Tensor,
}

impl Batch {
    /// Sequences of the tutorial's lengths, the same every time.
    ///
    /// # Errors
    /// Where the device has not that much memory.
    pub fn new(device: &Device, dtype: Dtype, entries: usize, longest: usize, heads: usize) -> Result<Batch> {
        let lengths = lengths(entries, longest);
        let shape = [entries, longest, heads, HEAD_DIM];
        let dense = |seed| normal(device, dtype, seed, shape.iter().product())?.reshape(&shape);
        let dense = [dense(1)?, dense(2)?, dense(3)?, dense(4)?];
        let packed = |dense: &Tensor| {
            let sequence = |(b, &n): (usize, &usize)| dense.select(0, b)?.narrow(0, 0, n);
            let sequences: Vec<Tensor> = lengths.iter().enumerate().map(sequence).collect::<Result<_>>()?;
            JaggedTensor::from_tensors(&sequences)
        };
        let [q, k, v, dout] = &dense;
        let packed = [packed(q)?, packed(k)?, packed(v)?, packed(dout)?];
        let seen = lengths.iter().flat_map(|&n| (0..longest).map(move |j| u8::from(j < n)));
        let mask = Tensor::from_slice(device, &seen.collect::<Vec<u8>>(), &[entries, 1, 1, longest])?;
        Ok(Batch { lengths, dense, packed, mask })
    }

    /// The sizes in a few words.
    pub fn label(&self) -> String {
        let [entries, longest, heads, dim] = self.dense[0].shape() else { return String::new() };
        let dtype = self.dense[0].dtype();
        format!(
            "batch {entries}, at most {longest} tokens, {heads} x {dim}, {dtype}, lengths {:?}",
            self.lengths
        )
    }
}

impl Variant {
    /// All; the first is what the others are compared with.
    pub const ALL: [Variant; 4] = [Variant::Ragged, Variant::Dense, Variant::KeyLengths, Variant::Mask];

    /// Its name in tables and pictures.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Ragged => "ragged",
            Variant::Dense => "dense",
            Variant::KeyLengths => "dense, key lengths",
            Variant::Mask => "dense, mask",
        }
    }

    /// The call.
    pub fn attention(self, batch: &Batch) -> Sdpa<'_> {
        let [q, k, v, _] = &batch.dense;
        let dense = sdpa(q, k, v).layout(Layout::Bshd);
        match self {
            Variant::Ragged => {
                let [q, k, v, _] = &batch.packed;
                sdpa_varlen(q.values(), k.values(), v.values(), q.offsets(), k.offsets())
            }
            Variant::Dense => dense,
            Variant::KeyLengths => dense.key_lengths(&batch.lengths),
            Variant::Mask => dense.mask(&batch.mask),
        }
    }

    /// A gradient of its output.
    pub fn dout(self, batch: &Batch) -> &Tensor {
        match self {
            Variant::Ragged => batch.packed[3].values(),
            _ => &batch.dense[3],
        }
    }
}

/// Lengths as the tutorial draws them: half of the longest, give or take a hundredth of it, and one at random the longest.
fn lengths(entries: usize, longest: usize) -> Vec<usize> {
    let mut random = SmallRng::seed_from_u64(0);
    let mut length = || {
        let deviation: f64 = StandardNormal.sample(&mut random);
        (longest as f64 * (0.5 + 0.01 * deviation)) as usize
    };
    let mut lengths: Vec<usize> = (0..entries).map(|_| length()).collect();
    if let Some(full) = (entries > 0).then(|| random.random_range(0..entries)) {
        lengths[full] = longest;
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_places_are_padding() {
        let lengths = lengths(32, 512);
        assert_eq!((lengths.len(), lengths.iter().max()), (32, Some(&512)));
        assert_eq!(lengths.iter().filter(|&&n| n == 512).count(), 1);
        let tokens: usize = lengths.iter().sum();
        // One of 32 is full, so that a little more than half are tokens.
        assert!((8192..8704).contains(&tokens), "{tokens}");
        assert!(lengths.iter().all(|n| (230..=512).contains(n)), "{lengths:?}");
    }

    #[test]
    fn every_variant_but_dense_gives_tokens_the_same_result() {
        let device = Device::cpu();
        let batch = Batch::new(&device, Dtype::F32, 3, 12, 2).unwrap();
        let rows = |variant: Variant| -> Vec<f64> {
            let forward = variant.attention(&batch).forward().unwrap();
            let gradients = match variant {
                Variant::Ragged => forward.backward(variant.dout(&batch)).unwrap(),
                // Padding takes no part in a loss.
                _ => forward.backward(&batch.packed[3].to_padded(0.0).unwrap()).unwrap(),
            };
            let tensors = [forward.output(), &gradients.dq, &gradients.dk, &gradients.dv];
            let tokens = |tensor: &&Tensor| -> Vec<f64> {
                if variant == Variant::Ragged {
                    return tensor.to_f64().unwrap();
                }
                let sequence = |(b, &n): (usize, &usize)| {
                    tensor.select(0, b).unwrap().narrow(0, 0, n).unwrap().to_f64().unwrap()
                };
                batch.lengths.iter().enumerate().flat_map(sequence).collect()
            };
            tensors.iter().flat_map(tokens).collect()
        };
        let ragged = rows(Variant::Ragged);
        for variant in [Variant::KeyLengths, Variant::Mask] {
            let dense = rows(variant);
            assert_eq!(dense.len(), ragged.len());
            let worst = dense.iter().zip(&ragged).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-5, "{variant:?}: {worst}");
        }
        let dense = rows(Variant::Dense);
        assert!(dense.iter().zip(&ragged).any(|(a, b)| (a - b).abs() > 1e-2));
    }
}
