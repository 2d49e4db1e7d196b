//! Range and spread of numbers that come one by one.

/// Range, mean and spread of the finite ones of some numbers, and how many are not finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Finite numbers.
    pub count: u64,
    /// The smallest; infinity where there is none.
    pub min: f64,
    /// The largest; minus infinity where there is none.
    pub max: f64,
    /// The mean; 0 where there is none.
    pub mean: f64,
    /// Numbers that are NaN.
    pub nan: u64,
    /// Numbers that are infinity or minus infinity.
    pub infinite: u64,
    /// The sum of the squared distances from the mean.
    squares: f64,
}

impl Default for Spread {
    fn default() -> Spread {
        Spread {
            count: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            mean: 0.0,
            nan: 0,
            infinite: 0,
            squares: 0.0,
        }
    }
}

impl Spread {
    /// The standard deviation of the finite numbers, as of all there are (not of a sample); NaN where there is none.
    pub fn deviation(&self) -> f64 {
        (self.squares / self.count as f64).sqrt()
    }

    /// Adds a number (Welford's way, which does not lose digits where the mean is large).
    pub(super) fn push(&mut self, number: f64) {
        if number.is_nan() {
            self.nan += 1;
        } else if number.is_infinite() {
            self.infinite += 1;
        } else {
            self.count += 1;
            self.min = self.min.min(number);
            self.max = self.max.max(number);
            let distance = number - self.mean;
            self.mean += distance / self.count as f64;
            self.squares += distance * (number - self.mean);
        }
    }

    /// Adds all numbers of another (Chan, Golub and LeVeque).
    pub(super) fn merge(&mut self, other: &Spread) {
        self.nan += other.nan;
        self.infinite += other.infinite;
        if other.count == 0 {
            return;
        }
        let (own, theirs) = (self.count as f64, other.count as f64);
        let distance = other.mean - self.mean;
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.mean += distance * theirs / (own + theirs);
        self.squares += other.squares + distance * distance * own * theirs / (own + theirs);
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    fn of(numbers: &[f64]) -> Spread {
        let mut spread = Spread::default();
        numbers.iter().for_each(|&number| spread.push(number));
        spread
    }

    #[test]
    fn the_deviation_is_that_of_the_definition() {
        let spread = of(&[1.0, 2.0, 4.0, 9.0]);
        assert_eq!((spread.count, spread.min, spread.max, spread.mean), (4, 1.0, 9.0, 4.0));
        assert_relative_eq!(spread.deviation(), ((9.0 + 4.0 + 0.0 + 25.0) / 4f64).sqrt());
        assert!(of(&[]).deviation().is_nan());
    }

    #[test]
    fn merging_is_pushing_all() {
        let numbers: Vec<f64> = (0..50).map(|i| 1e6 + f64::from(i * i % 17)).collect();
        for cut in [0, 1, 20, 50] {
            let mut spread = of(&numbers[..cut]);
            spread.merge(&of(&numbers[cut..]));
            let all = of(&numbers);
            assert_eq!((spread.count, spread.min, spread.max), (all.count, all.min, all.max));
            assert_relative_eq!(spread.mean, all.mean, max_relative = 1e-14);
            assert_relative_eq!(spread.deviation(), all.deviation(), max_relative = 1e-9);
        }
    }

    #[test]
    fn what_is_not_finite_is_counted_and_left_out() {
        let mut spread = of(&[f64::NAN, 1.0, f64::INFINITY]);
        spread.merge(&of(&[f64::NEG_INFINITY, 3.0]));
        assert_eq!((spread.nan, spread.infinite, spread.count), (1, 2, 2));
        assert_eq!((spread.min, spread.max, spread.mean, spread.deviation()), (1.0, 3.0, 2.0, 1.0));
    }
}
