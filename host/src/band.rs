//! The band of keys that a query sees by position.

use crate::options::{Causal, Window};

/// Window bounds from here on are none: no sequence is longer.
const UNBOUNDED: usize = 1 << 30;

/// Key `j` is visible to query `i` only if `low <= j - i - shift <= high`; `None` is no bound. The shift is `keys - queries`
/// where the band is aligned to the lower right corner, else 0; the keys are those that the sequence uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Band {
    pub(crate) low: Option<i32>,
    pub(crate) high: Option<i32>,
    pub(crate) lower_right: bool,
}

impl Band {
    /// The keys that both a causal mask and a window allow. Sequence lengths are at most 2^30, so that every bound fits.
    pub(crate) fn new(causal: Causal, window: Window) -> Band {
        let bound = |keys: Option<usize>| keys.filter(|&keys| keys < UNBOUNDED).map(|keys| keys as i32);
        let low = bound(window.left).map(|left| -left);
        let high = if causal == Causal::None { bound(window.right) } else { Some(0) };
        let bounded = low.is_some() || high.is_some();
        Band { low, high, lower_right: bounded && causal != Causal::UpperLeft }
    }

    /// The bounds of `j - i` in a sequence.
    pub(crate) fn bounds(self, queries: usize, keys: usize) -> [Option<i32>; 2] {
        let shift = if self.lower_right { (keys as i64 - queries as i64) as i32 } else { 0 };
        [self.low, self.high].map(|bound| bound.map(|bound| bound + shift))
    }

    /// The keys that query `i` of a sequence sees.
    pub(crate) fn visible(self, query: usize, queries: usize, keys: usize) -> std::ops::Range<usize> {
        let clamp = |bound: i64| bound.clamp(0, keys as i64) as usize;
        let [low, high] = self.bounds(queries, keys);
        let start = low.map_or(0, |low| clamp(query as i64 + i64::from(low)));
        let end = high.map_or(keys, |high| clamp(query as i64 + i64::from(high) + 1));
        start..end.max(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn band(causal: Causal, left: Option<usize>, right: Option<usize>) -> Band {
        Band::new(causal, Window { left, right })
    }

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
        let band = band(causal, None, None);
        assert_eq!([0, 1].map(|i| band.visible(i, queries, keys)), seen.map(|n| 0..n));
    }

    #[test]
    fn a_lower_bound_hides_old_keys() {
        let band = band(Causal::UpperLeft, Some(1), None);
        assert_eq!([0, 1, 2, 9].map(|i| band.visible(i, 10, 4)), [0..1, 0..2, 1..3, 4..4]);
    }

    #[test]
    fn a_window_stands_at_the_lower_right_unless_the_causal_mask_says_otherwise() {
        let seen = |causal| [0, 1].map(|i| band(causal, Some(1), Some(1)).visible(i, 2, 5));
        assert_eq!(seen(Causal::None), [2..5, 3..5]);
        assert_eq!(seen(Causal::LowerRight), [2..4, 3..5]);
        assert_eq!(seen(Causal::UpperLeft), [0..1, 0..2]);
    }

    #[test]
    fn a_window_as_long_as_the_longest_sequence_is_none() {
        assert_eq!(band(Causal::None, Some(1 << 30), Some(usize::MAX)), Band::default());
        let widest = band(Causal::None, Some((1 << 30) - 1), Some((1 << 30) - 1));
        assert_eq!(widest.visible(0, 1 << 30, 1), 0..1);
        assert_eq!(widest.visible(0, 1, 1 << 30), 0..1 << 30);
    }
}
