//! The rule by which results are good: that of the golden cases, written apart from the library's own check.

use flash_attention::Dtype;

use crate::problem::{RESULTS, Results};
use crate::unfused::Unfused;

/// What an element may be off beyond twice the error of an equally precise reference, as a part of the largest expected
/// value.
pub fn allowance(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F16 => 1.0 / 1024.0,
        Dtype::Bf16 => 1.0 / 128.0,
        _ => 2e-5,
    }
}

/// Where the largest expected value is below this it counts as this; so the golden cases say.
pub const GOLDEN_FLOOR: f64 = 1.0;

/// The same for problems drawn at random. Where many keys are averaged, outputs are well below 1, and a floor of 1 would
/// hide a lost key.
pub const RANDOM_FLOOR: f64 = 0.1;

/// The part of the allowance that is granted on what cancels; see [`Unfused::cancelled`].
const CANCELLED: f64 = 1.0 / 8.0;

/// The element that comes closest to being wrong, or is furthest beyond.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worst {
    /// Its index.
    pub index: usize,
    /// What came out.
    pub given: f64,
    /// What is expected.
    pub expected: f64,
    /// What it may be off.
    pub bound: f64,
}

impl Worst {
    /// The error as a part of what is allowed; above 1 is wrong. NaN, and an infinity that is missed, are infinitely so.
    pub fn share(&self) -> f64 {
        if self.given == self.expected {
            return 0.0;
        }
        let share = (self.given - self.expected).abs() / self.bound;
        if share.is_nan() || self.expected.is_infinite() { f64::INFINITY } else { share }
    }
}

/// Holds results of one tensor against what is expected; `error` is that of an equally precise reference.
///
/// # Errors
/// In words, where there are more or fewer elements than expected or one is wrong.
pub fn compare(
    name: &str,
    given: &[f64],
    expected: &[f64],
    error: f64,
    dtype: Dtype,
    floor: f64,
) -> Result<Option<Worst>, String> {
    if given.len() != expected.len() {
        return Err(format!("{name} has {} elements, not {}", given.len(), expected.len()));
    }
    let largest = expected.iter().fold(floor, |largest, x| largest.max(x.abs()));
    let bound = |expected: f64| match name {
        "lse" => 1e-3 * (1.0 + expected.abs()),
        _ => 2.0 * error + allowance(dtype) * largest,
    };
    let each = given.iter().zip(expected).enumerate();
    let worst = each
        .map(|(index, (&given, &expected))| Worst { index, given, expected, bound: bound(expected) })
        .max_by(|a, b| a.share().total_cmp(&b.share()));
    match worst {
        Some(Worst { index, given, expected, bound }) if worst.is_some_and(|w| w.share() > 1.0) => {
            Err(format!("{name}[{index}] is {given}, not {expected} within {bound}"))
        }
        _ => Ok(worst),
    }
}

/// The error that each result may be off twice: that of an unfused implementation, and its part for what cancels.
pub fn errors(plain: &Unfused, expected: &Results, dtype: Dtype) -> [f64; RESULTS] {
    let (given, expected) = (plain.results.named(), expected.named());
    std::array::from_fn(|n| {
        let pairs = given[n].1.iter().zip(expected[n].1);
        // What both sides agree on, infinities too, is no error.
        let error = pairs.filter(|(a, b)| a != b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        error + CANCELLED * allowance(dtype) * plain.cancelled[n] / 2.0
    })
}

/// Holds the results of a problem drawn at random against what is expected, and gives the share of what is allowed that
/// each tensor takes.
///
/// # Errors
/// In words, for every tensor that is wrong.
pub fn compare_all(
    given: &Results,
    expected: &Results,
    errors: [f64; RESULTS],
    dtype: Dtype,
) -> Result<[f64; RESULTS], String> {
    let mut wrong = vec![];
    let mut shares = [0.0; RESULTS];
    for (n, ((name, given), (_, expected))) in given.named().into_iter().zip(expected.named()).enumerate() {
        match compare(name, given, expected, errors[n], dtype, RANDOM_FLOOR) {
            Ok(worst) => shares[n] = worst.map_or(0.0, |worst| worst.share()),
            Err(message) => wrong.push(message),
        }
    }
    if wrong.is_empty() { Ok(shares) } else { Err(wrong.join("; ")) }
}

/// As [`compare_all`], of results of forward alone.
///
/// # Errors
/// As [`compare_all`].
pub fn compare_forward(
    given: &Results,
    expected: &Results,
    errors: [f64; RESULTS],
    dtype: Dtype,
) -> Result<[f64; RESULTS], String> {
    let Results { out, lse, .. } = expected.clone();
    compare_all(given, &Results { out, lse, ..Results::default() }, errors, dtype)
}

/// The first element that is not the same number on both sides, in words; NaN is the same as NaN.
pub fn first_difference(given: &Results, expected: &Results) -> Option<String> {
    given.named().into_iter().zip(expected.named()).find_map(|((name, given), (_, expected))| {
        if given.len() != expected.len() {
            return Some(format!("{name} has {} elements, not {}", given.len(), expected.len()));
        }
        let same = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan());
        let index = given.iter().zip(expected).position(|pair| !same(pair))?;
        Some(format!("{name}[{index}] is {}, not {}", given[index], expected[index]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(name: &str, given: &[f64], expected: &[f64], error: f64) -> bool {
        compare(name, given, expected, error, Dtype::F16, GOLDEN_FLOOR).is_ok()
    }

    #[test]
    fn the_largest_error_counts_and_is_bounded() {
        assert!(verdict("out", &[1.0, -4.5], &[1.0, -4.0], 0.25));
        assert!(!verdict("out", &[1.0, -4.52], &[1.0, -4.0], 0.25));
        assert!(!verdict("out", &[1.0], &[1.0, 1.0], 0.25));
        assert!(verdict("lse", &[5.005], &[5.0], 0.0));
        assert!(!verdict("lse", &[5.007], &[5.0], 0.0));
    }

    #[test]
    fn nan_and_missed_infinities_never_pass() {
        for name in ["out", "lse"] {
            assert!(!verdict(name, &[f64::NAN, 1.0], &[0.0, 1.0], 1e9));
            assert!(!verdict(name, &[0.0], &[f64::NAN], 1e9));
            assert!(!verdict(name, &[0.0], &[f64::NEG_INFINITY], 1e9));
            assert!(!verdict(name, &[f64::NEG_INFINITY], &[0.0], 1e9));
            assert!(verdict(name, &[f64::NEG_INFINITY], &[f64::NEG_INFINITY], 0.0));
        }
    }
}
