//! A view: which elements of a storage a tensor shows, and in which order.

use crate::error::{Error, Result};

/// Shape, strides and start of a tensor, in elements. A stride of 0 repeats the same elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
    pub(crate) offset: usize,
}

/// The product of a shape, or `None` above what an allocation can hold.
pub(crate) fn checked_count(shape: &[usize]) -> Option<usize> {
    // A 0 makes the product 0 whatever the others are, but the strides must not overflow either.
    let nonzero = shape.iter().filter(|&&s| s != 0).try_fold(1usize, |n, &s| n.checked_mul(s))?;
    let count = if shape.contains(&0) { 0 } else { nonzero };
    (nonzero <= isize::MAX as usize).then_some(count)
}

impl View {
    /// Row-major strides for a shape whose count is known not to overflow.
    pub(crate) fn contiguous(shape: &[usize]) -> View {
        let mut strides = vec![1; shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] = strides[i] * shape[i].max(1);
        }
        View { shape: shape.to_vec(), strides, offset: 0 }
    }

    /// Elements that the view shows.
    pub(crate) fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the elements lie side by side in row-major order.
    pub(crate) fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if size != 1 && stride != expected {
                return self.count() == 0;
            }
            expected *= size;
        }
        true
    }

    /// First element and number of elements of the smallest range of the storage that holds all of them; `(0, 0)` for none.
    pub(crate) fn span(&self) -> (usize, usize) {
        if self.count() == 0 {
            // Not at the offset, which may lie beyond the storage.
            return (0, 0);
        }
        let last: usize = self.shape.iter().zip(&self.strides).map(|(&n, &s)| (n - 1) * s).sum();
        (self.offset, last + 1)
    }

    /// Calls `each` with the start of every run of `length` elements `stride` apart (the last dimension), in order.
    pub(crate) fn runs(&self, mut each: impl FnMut(usize, usize, usize)) {
        let Some((&length, outer)) = self.shape.split_last() else { return each(self.offset, 1, 1) };
        if self.count() == 0 {
            return;
        }
        let stride = self.strides[outer.len()];
        let mut index = vec![0; outer.len()];
        let mut start = self.offset;
        loop {
            each(start, length, stride);
            let mut d = outer.len();
            loop {
                if d == 0 {
                    return;
                }
                d -= 1;
                start += self.strides[d];
                index[d] += 1;
                if index[d] < outer[d] {
                    break;
                }
                start -= self.strides[d] * outer[d];
                index[d] = 0;
            }
        }
    }

    fn error(&self, operation: &'static str, reason: String) -> Error {
        Error::View { operation, shape: self.shape.clone(), reason }
    }

    fn check(&self, operation: &'static str, dimension: usize) -> Result<()> {
        if dimension < self.shape.len() {
            return Ok(());
        }
        Err(self.error(operation, format!("there is no dimension {dimension}, it has {}", self.shape.len())))
    }

    pub(crate) fn transpose(&self, a: usize, b: usize) -> Result<View> {
        self.check("transpose", a)?;
        self.check("transpose", b)?;
        let mut view = self.clone();
        view.shape.swap(a, b);
        view.strides.swap(a, b);
        Ok(view)
    }

    pub(crate) fn permute(&self, order: &[usize]) -> Result<View> {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..self.shape.len()) {
            return Err(self.error("permute", format!("{order:?} does not name each dimension once")));
        }
        Ok(View {
            shape: order.iter().map(|&d| self.shape[d]).collect(),
            strides: order.iter().map(|&d| self.strides[d]).collect(),
            offset: self.offset,
        })
    }

    pub(crate) fn narrow(&self, dimension: usize, start: usize, length: usize) -> Result<View> {
        self.check("narrow", dimension)?;
        let size = self.shape[dimension];
        if start.checked_add(length).is_none_or(|end| end > size) {
            let reason = format!("dimension {dimension} has {size} entries, not {length} from {start} on");
            return Err(self.error("narrow", reason));
        }
        let mut view = self.clone();
        view.shape[dimension] = length;
        if length > 0 {
            view.offset += start * view.strides[dimension];
        }
        Ok(view)
    }

    pub(crate) fn select(&self, dimension: usize, index: usize) -> Result<View> {
        self.check("select", dimension)?;
        let size = self.shape[dimension];
        if index >= size {
            return Err(self
                .error("select", format!("dimension {dimension} has {size} entries, there is no {index}")));
        }
        let mut view = self.narrow(dimension, index, 1)?;
        view.shape.remove(dimension);
        view.strides.remove(dimension);
        Ok(view)
    }

    pub(crate) fn reshape(&self, shape: &[usize]) -> Result<View> {
        if checked_count(shape) != Some(self.count()) {
            return Err(
                self.error("reshape", format!("{shape:?} does not hold its {} elements", self.count()))
            );
        }
        if !self.is_contiguous() {
            return Err(self.error(
                "reshape",
                format!(
                    "its strides are {:?}; only a contiguous tensor can be reshaped without a copy",
                    self.strides
                ),
            ));
        }
        Ok(View { offset: self.offset, ..View::contiguous(shape) })
    }

    pub(crate) fn unsqueeze(&self, dimension: usize) -> Result<View> {
        if dimension > self.shape.len() {
            let reason = format!("a dimension can be put at 0 to {}, not at {dimension}", self.shape.len());
            return Err(self.error("unsqueeze", reason));
        }
        let mut view = self.clone();
        let stride = if dimension < self.shape.len() {
            self.strides[dimension].saturating_mul(self.shape[dimension].max(1))
        } else {
            1
        };
        view.shape.insert(dimension, 1);
        view.strides.insert(dimension, stride);
        Ok(view)
    }

    pub(crate) fn squeeze(&self, dimension: usize) -> Result<View> {
        self.check("squeeze", dimension)?;
        if self.shape[dimension] != 1 {
            let reason = format!("dimension {dimension} has {} entries, not 1", self.shape[dimension]);
            return Err(self.error("squeeze", reason));
        }
        self.select(dimension, 0)
    }

    pub(crate) fn expand(&self, shape: &[usize]) -> Result<View> {
        let fits = shape.len() >= self.shape.len()
            && checked_count(shape).is_some()
            && self.shape.iter().rev().zip(shape.iter().rev()).all(|(&own, &to)| own == to || own == 1);
        if !fits {
            return Err(self.error("expand", format!("it cannot be repeated to {shape:?}")));
        }
        let added = shape.len() - self.shape.len();
        let stride = |d: usize| match d.checked_sub(added) {
            Some(own) if self.shape[own] == shape[d] => self.strides[own],
            _ => 0,
        };
        Ok(View {
            shape: shape.to_vec(),
            strides: (0..shape.len()).map(stride).collect(),
            offset: self.offset,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(view: &View) -> Vec<usize> {
        let mut all = vec![];
        view.runs(|start, length, stride| all.extend((0..length).map(|i| start + i * stride)));
        all
    }

    #[test]
    fn contiguous_views_show_every_element_in_order() {
        let view = View::contiguous(&[2, 3, 4]);
        assert_eq!(view.strides, [12, 4, 1]);
        assert!(view.is_contiguous());
        assert_eq!(elements(&view), (0..24).collect::<Vec<_>>());
        assert_eq!(elements(&View::contiguous(&[])), [0]);
        assert!(elements(&View::contiguous(&[3, 0, 2])).is_empty());
    }

    #[test]
    fn transposing_shows_the_columns() {
        let view = View::contiguous(&[2, 3]).transpose(0, 1).unwrap();
        assert_eq!(view.shape, [3, 2]);
        assert_eq!(elements(&view), [0, 3, 1, 4, 2, 5]);
        assert!(!view.is_contiguous());
        assert_eq!(View::contiguous(&[2, 3, 4]).permute(&[2, 0, 1]).unwrap().strides, [1, 12, 4]);
    }

    #[test]
    fn narrowing_and_selecting_move_the_start() {
        let view = View::contiguous(&[4, 5]).narrow(1, 2, 2).unwrap();
        assert_eq!(elements(&view), [2, 3, 7, 8, 12, 13, 17, 18]);
        assert_eq!(view.span(), (2, 17));
        assert_eq!(elements(&view.select(0, 1).unwrap()), [7, 8]);
        assert_eq!(elements(&view.select(1, 1).unwrap()), [3, 8, 13, 18]);
        assert!(View::contiguous(&[4]).narrow(0, 4, 0).unwrap().is_contiguous());
        assert_eq!(View::contiguous(&[2, 3, 0]).select(0, 1).unwrap().span(), (0, 0));
    }

    #[test]
    fn expanding_repeats_with_stride_zero() {
        let view = View::contiguous(&[2, 1]).expand(&[3, 2, 2]).unwrap();
        assert_eq!(view.strides, [0, 1, 0]);
        assert_eq!(elements(&view), [0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1]);
    }

    #[test]
    fn dimensions_of_size_one_do_not_break_contiguity() {
        let view = View::contiguous(&[3, 4]).unsqueeze(0).unwrap().unsqueeze(2).unwrap();
        assert_eq!(view.shape, [1, 3, 1, 4]);
        assert!(view.is_contiguous());
        assert_eq!(view.squeeze(2).unwrap().squeeze(0).unwrap(), View::contiguous(&[3, 4]));
        assert_eq!(view.reshape(&[2, 6]).unwrap(), View::contiguous(&[2, 6]));
    }

    #[rstest::rstest]
    #[case(View::contiguous(&[2, 3]).transpose(0, 2), "transpose of a tensor of shape [2, 3]: there is no dimension 2, it has 2")]
    #[case(View::contiguous(&[2, 3]).permute(&[0, 0]), "permute of a tensor of shape [2, 3]: [0, 0] does not name each dimension once")]
    #[case(View::contiguous(&[2, 3]).narrow(1, 2, 2), "narrow of a tensor of shape [2, 3]: dimension 1 has 3 entries, not 2 from 2 on")]
    #[case(View::contiguous(&[2, 3]).narrow(1, usize::MAX, 2), "narrow of a tensor of shape [2, 3]: dimension 1 has 3 entries, not 2 from 18446744073709551615 on")]
    #[case(View::contiguous(&[2, 3]).select(0, 2), "select of a tensor of shape [2, 3]: dimension 0 has 2 entries, there is no 2")]
    #[case(View::contiguous(&[2, 3]).reshape(&[7]), "reshape of a tensor of shape [2, 3]: [7] does not hold its 6 elements")]
    #[case(View::contiguous(&[2, 3]).transpose(0, 1).unwrap().reshape(&[6]), "reshape of a tensor of shape [3, 2]: its strides are [1, 3]; only a contiguous tensor can be reshaped without a copy")]
    #[case(View::contiguous(&[2, 3]).squeeze(0), "squeeze of a tensor of shape [2, 3]: dimension 0 has 2 entries, not 1")]
    #[case(View::contiguous(&[2, 3]).unsqueeze(3), "unsqueeze of a tensor of shape [2, 3]: a dimension can be put at 0 to 2, not at 3")]
    #[case(View::contiguous(&[2, 3]).expand(&[4, 3]), "expand of a tensor of shape [2, 3]: it cannot be repeated to [4, 3]")]
    fn impossible_views_are_refused_in_words(#[case] view: Result<View>, #[case] message: &str) {
        assert_eq!(view.unwrap_err().to_string(), message);
    }

    #[test]
    fn counts_that_overflow_are_seen() {
        assert_eq!(checked_count(&[usize::MAX, 2]), None);
        assert_eq!(checked_count(&[1 << 40, 1 << 40, 0]), None);
        assert_eq!(checked_count(&[3, 0]), Some(0));
        assert_eq!(checked_count(&[3, 4]), Some(12));
    }
}
