//! Dropout of the elements of a tensor, by the generator that drops attention weights.

use candle_core::{Result, Tensor};
use flash_attention::Dropout;
use flash_attention_abi::philox::{philox4x32_10, threshold};

/// Attention's counters have batch entry and head here, never this.
const ELEMENTS: u32 = u32::MAX;

/// Fails where `p` is no share that can be dropped.
pub(crate) fn check_share(p: f32) -> Result<()> {
    if !(0.0..1.0).contains(&p) {
        candle_core::bail!("dropout is {p}; it must be at least 0 and below 1");
    }
    Ok(())
}

/// Drops elements of a tensor and scales the others by `1 / (1 - p)`. Which ones is a function of the seed, the offset and
/// the element's place alone.
pub(crate) fn drop_elements(x: &Tensor, dropout: &Dropout) -> Result<Tensor> {
    let factors = factors(x.elem_count(), dropout);
    let factors = Tensor::from_vec(factors, x.shape(), x.device())?.to_dtype(x.dtype())?;
    x.mul(&factors)
}

fn factors(count: usize, dropout: &Dropout) -> Vec<f32> {
    let (threshold, kept) = (threshold(dropout.p), 1.0 / (1.0 - dropout.p));
    let key = [dropout.seed as u32, (dropout.seed >> 32) as u32];
    // Four words at a time.
    let words = (0..count.div_ceil(4) as u64)
        .flat_map(|group| philox4x32_10([group as u32, (group >> 32) as u32, ELEMENTS, dropout.offset], key));
    words.take(count).map(|word| if word >= threshold { kept } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_is_dropped_is_p_and_the_mean_stays() {
        for p in [0.1, 0.5, 0.9] {
            let count = 100_000;
            let factors = factors(count, &Dropout { p, seed: 7, offset: 3 });
            let dropped = factors.iter().filter(|&&factor| factor == 0.0).count() as f32;
            // Five standard deviations.
            let deviation = 5.0 * (count as f32 * p * (1.0 - p)).sqrt();
            assert!((dropped - count as f32 * p).abs() < deviation, "{dropped} of {count} at p = {p}");
            assert!(factors.iter().all(|&factor| factor == 0.0 || factor == 1.0 / (1.0 - p)));
        }
    }

    #[test]
    fn seeds_and_offsets_give_masks_of_their_own() {
        let mask = |seed, offset| factors(64, &Dropout { p: 0.5, seed, offset });
        assert_eq!(mask(1, 2), mask(1, 2));
        assert_ne!(mask(1, 2), mask(1, 3));
        assert_ne!(mask(1, 2), mask(2, 2));
        assert_ne!(mask(1, 2), mask(1 + (1 << 32), 2));
        assert_eq!(mask(1, 2)[..9], factors(9, &Dropout { p: 0.5, seed: 1, offset: 2 }));
    }
}
