//! Whether slices hold what the sizes say.

use super::{Attention, Real, Repeated};
use crate::error::{Error, Result};
use crate::problem::MAX_SEQUENCE;
use crate::view::checked_count;

fn equal(argument: &'static str, what: &'static str, given: usize, expected: usize) -> Result<()> {
    if given == expected {
        return Ok(());
    }
    Err(Error::Sizes { argument, what, given, other: "the problem", expected })
}

impl<T: Real> Attention<'_, T> {
    /// The elements of a shape, which must be so few that they can be addressed.
    pub(super) fn check_count(&self, argument: &'static str, shape: &[usize]) -> Result<usize> {
        let limit = isize::MAX as usize / size_of::<T>();
        checked_count(shape).filter(|&count| count <= limit).ok_or_else(|| Error::TooLarge {
            argument,
            what: "elements",
            given: shape.iter().try_fold(1u128, |n, &s| n.checked_mul(s as u128)).unwrap_or(u128::MAX),
            limit: limit as u128,
        })
    }

    fn check_length<E>(&self, argument: &'static str, values: &[E], shape: &[usize]) -> Result<()> {
        equal(argument, "elements", values.len(), self.check_count(argument, shape)?)
    }

    fn check_repeated<E>(&self, argument: &'static str, tensor: &Repeated<'_, E>) -> Result<()> {
        let [batch, heads, queries] = tensor.shape;
        for (what, given, expected) in [
            ("batch entries", batch, self.batch),
            ("heads", heads, self.query_heads),
            ("queries", queries, self.queries),
        ] {
            if given != 1 {
                equal(argument, what, given, expected)?;
            }
        }
        self.check_length(argument, tensor.values, &[batch, heads, queries, self.keys])
    }

    /// Checks everything that is indexed.
    pub(super) fn check(&self, q: &[T], k: &[T], v: &[T]) -> Result<()> {
        let Attention { batch, query_heads, key_heads, queries, keys, head_dim, value_dim, .. } = *self;
        if self.group() * key_heads != query_heads {
            return Err(Error::HeadRatio { query_heads, key_heads });
        }
        for (argument, what, given) in [("q", "queries", queries), ("k", "keys", keys)] {
            if given > MAX_SEQUENCE {
                let (given, limit) = (given as u128, MAX_SEQUENCE as u128);
                return Err(Error::TooLarge { argument, what, given, limit });
            }
        }
        self.check_length("q", q, &[batch, query_heads, queries, head_dim])?;
        self.check_length("k", k, &[batch, key_heads, keys, head_dim])?;
        self.check_length("v", v, &[batch, key_heads, keys, value_dim])?;
        self.check_count("the output", &[batch, query_heads, queries, value_dim])?;
        self.check_count("the log-sum-exp", &[batch, query_heads, queries])?;
        if let Some(mask) = &self.mask {
            self.check_repeated("mask", mask)?;
        }
        if let Some(bias) = &self.bias {
            self.check_repeated("bias", bias)?;
        }
        if let Some(slopes) = &self.alibi {
            let batch = if slopes.per_batch { batch } else { 1 };
            self.check_length("alibi", slopes.values, &[batch, query_heads])?;
        }
        if let Some(sinks) = self.sinks {
            self.check_length("sinks", sinks, &[query_heads])?;
        }
        if let Some(lengths) = self.key_lengths {
            self.check_length("key_lengths", lengths, &[batch])?;
            if let Some(&longest) = lengths.iter().max().filter(|&&longest| longest > keys) {
                let (given, limit) = (longest as u128, keys as u128);
                return Err(Error::TooLarge { argument: "key_lengths", what: "keys in use", given, limit });
            }
        }
        Ok(())
    }

    /// Checks the gradients that come in.
    pub(super) fn check_gradients(&self, dout: &[T], dlse: Option<&[T]>) -> Result<()> {
        let Attention { batch, query_heads, queries, value_dim, .. } = *self;
        self.check_length("dout", dout, &[batch, query_heads, queries, value_dim])?;
        dlse.map_or(Ok(()), |dlse| self.check_length("dlse", dlse, &[batch, query_heads, queries]))
    }
}
