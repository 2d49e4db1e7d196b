//! The rule by which a result is good: no worse than twice an equally precise reference, plus a small allowance.

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// One result held against what is expected.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Check {
    /// The tensor's name.
    pub name: String,
    /// The largest absolute error; infinite where one side is NaN or the infinities differ.
    pub error: f64,
    /// The largest error that is allowed; for lse, at the element where the error is the largest part of what is allowed.
    pub bound: f64,
    /// Whether every element keeps the rule. NaN never does.
    pub good: bool,
}

/// The allowance `a` of the rule `error <= 2 * reference error + a * max(1, largest expected)`.
pub fn tolerance(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F16 => 2f64.powi(-10),
        Dtype::Bf16 => 2f64.powi(-7),
        _ => 2e-5,
    }
}

/// The log-sum-exp may be off by this much of `1 + |expected|`.
const LSE_TOLERANCE: f64 = 1e-3;

/// The absolute difference; 0 for equal infinities, infinite wherever there is a NaN.
fn difference(a: f64, b: f64) -> f64 {
    if a == b {
        return 0.0;
    }
    let difference = (a - b).abs();
    if difference.is_nan() { f64::INFINITY } else { difference }
}

impl Check {
    /// Holds a result against what is expected.
    ///
    /// For `lse` every element may be off by `1e-3 * (1 + |expected|)`; for all others the largest error is bounded by
    /// `2 * reference_error + tolerance(dtype) * max(1, largest expected)`.
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes differ; what goes wrong on the device.
    pub fn new(
        name: &'static str,
        result: &Tensor,
        expected: &Tensor,
        reference_error: f64,
        dtype: Dtype,
    ) -> Result<Check> {
        if result.shape() != expected.shape() {
            let (given, expected) = (result.shape().into(), expected.shape().into());
            return Err(Error::Shape { argument: name, given, expected });
        }
        let (result, expected) = (result.to_f64()?, expected.to_f64()?);
        let pairs = || result.iter().zip(&expected).map(|(&a, &b)| (difference(a, b), b));
        let (error, bound) = if name == "lse" {
            let allowed = |expected: f64| LSE_TOLERANCE * (1.0 + expected.abs());
            let share = |&(error, b): &(f64, f64)| if error == 0.0 { 0.0 } else { error / allowed(b) };
            // An infinity that is missed has an infinite error and an infinite bound, whose quotient is NaN: the worst.
            let worst = pairs().max_by(|a, b| {
                let rank = |share: f64| if share.is_nan() { f64::INFINITY } else { share };
                rank(share(a)).total_cmp(&rank(share(b)))
            });
            worst.map_or((0.0, LSE_TOLERANCE), |(error, b)| {
                (error, if b.is_finite() { allowed(b) } else { 0.0 })
            })
        } else {
            let error = pairs().map(|(error, _)| error).fold(0.0, f64::max);
            let largest = expected.iter().map(|x| x.abs()).fold(1.0, f64::max);
            (error, 2.0 * reference_error + tolerance(dtype) * largest)
        };
        Ok(Check { name: name.into(), error, bound, good: error <= bound })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;

    fn check(name: &'static str, result: &[f32], expected: &[f32], reference_error: f64) -> Check {
        let tensor = |values: &[f32]| Tensor::from_slice(&Device::cpu(), values, &[values.len()]).unwrap();
        Check::new(name, &tensor(result), &tensor(expected), reference_error, Dtype::F16).unwrap()
    }

    #[test]
    fn the_largest_error_counts() {
        let allowed = 2.0 * 0.25 + 4.0 / 1024.0;
        let good = check("out", &[1.0, -4.5], &[1.0, -4.0], 0.25);
        assert_eq!((good.error, good.bound, good.good), (0.5, allowed, true));
        assert!(!check("out", &[1.0, -4.52], &[1.0, -4.0], 0.25).good);
    }

    #[test]
    fn nan_never_passes() {
        assert!(!check("out", &[f32::NAN], &[0.0], 1e9).good);
        assert!(!check("out", &[0.0], &[f32::NAN], 1e9).good);
        assert!(!check("lse", &[f32::NAN, 1.0], &[f32::NEG_INFINITY, 1.0], 0.0).good);
    }

    #[test]
    fn infinities_must_be_met() {
        assert!(check("lse", &[f32::NEG_INFINITY, 5.0], &[f32::NEG_INFINITY, 5.004], 0.0).good);
        assert!(!check("lse", &[-1e30, 5.0], &[f32::NEG_INFINITY, 5.0], 0.0).good);
        assert!(!check("lse", &[f32::NEG_INFINITY], &[5.0], 0.0).good);
        assert!(!check("lse", &[5.01], &[5.0], 0.0).good);
    }
}
