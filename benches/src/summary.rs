//! Many measurements as one: the median, with the extremes beside it.

use std::time::Duration;

use serde::Serialize;

/// Median, least and largest of some times, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many there were.
    pub repeats: usize,
}

impl Summary {
    /// `None` where there are no times.
    pub fn of(times: &[Duration]) -> Option<Summary> {
        let mut seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
        seconds.sort_by(f64::total_cmp);
        let (min, max) = (*seconds.first()?, *seconds.last()?);
        let repeats = seconds.len();
        Some(Summary { median: (seconds[(repeats - 1) / 2] + seconds[repeats / 2]) / 2.0, min, max, repeats })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seconds: &[u64]) -> Option<Summary> {
        Summary::of(&seconds.iter().map(|&s| Duration::from_secs(s)).collect::<Vec<_>>())
    }

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(of(&[9, 1, 2]), Some(Summary { median: 2.0, min: 1.0, max: 9.0, repeats: 3 }));
        assert_eq!(of(&[4, 1, 9, 2]), Some(Summary { median: 3.0, min: 1.0, max: 9.0, repeats: 4 }));
        assert_eq!(of(&[7]).unwrap().median, 7.0);
    }

    #[test]
    fn nothing_measured_has_no_median() {
        assert_eq!(of(&[]), None);
    }
}
