//! The band of keys that a query sees by position.

use crate::options::Causal;

/// Key `j` is visible to query `i` only if `low <= j - i <= high`; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Band {
    pub(crate) low: Option<i32>,
    pub(crate) high: Option<i32>,
}

impl Band {
    /// The band of a causal mask. Sequence lengths are at most 2^30, so that every bound fits.
    pub(crate) fn causal(causal: Causal, queries: usize, keys: usize) -> Band {
        let high = match causal {
            Causal::None => None,
            Causal::UpperLeft => Some(0),
            Causal::LowerRight => Some((keys as i64 - queries as i64) as i32),
        };
        Band { low: None, high }
    }

    /// The keys that query `i` sees, of `keys`.
    pub(crate) fn visible(self, query: usize, keys: usize) -> std::ops::Range<usize> {
        let clamp = |bound: i64| bound.clamp(0, keys as i64) as usize;
        let start = self.low.map_or(0, |low| clamp(query as i64 + i64::from(low)));
        let end = self.high.map_or(keys, |high| clamp(query as i64 + i64::from(high) + 1));
        start..end.max(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(Causal::None, 2, 3, [3, 3])]
    #[case(Causal::UpperLeft, 2, 3, [1, 2])]
    #[case(Causal::LowerRight, 2, 3, [2, 3])]
    #[case(Causal::UpperLeft, 2, 1, [1, 1])]
    #[case(Causal::LowerRight, 2, 1, [0, 1])]
    fn the_last_visible_key_follows_the_corner(
        #[case] causal: Causal,
        #[case] queries: usize,
        #[case] keys: usize,
        #[case] seen: [usize; 2],
    ) {
        let band = Band::causal(causal, queries, keys);
        assert_eq!([0, 1].map(|i| band.visible(i, keys)), seen.map(|n| 0..n));
    }

    #[test]
    fn a_lower_bound_hides_old_keys() {
        let band = Band { low: Some(-1), high: Some(0) };
        assert_eq!([0, 1, 2, 9].map(|i| band.visible(i, 4)), [0..1, 0..2, 1..3, 4..4]);
    }
}
