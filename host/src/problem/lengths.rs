//! The lengths of sequences: offsets of ragged batches, keys that count.

use super::Sizes;
use crate::error::{Error, Result};
use crate::options::{Options, Ragged};

fn wrong(argument: impl Into<String>, given: impl ToString, allowed: impl Into<String>) -> Error {
    Error::Value { argument: argument.into(), given: given.to_string(), allowed: allowed.into() }
}

/// Offsets begin with 0, do not decrease, and end with the rows of the packed tensor.
pub(crate) fn check_offsets(list: &str, offsets: &[usize], tensor: &str, rows: usize) -> Result<()> {
    let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else {
        return Err(wrong(format!("the length of {list}"), 0, "at least 1, one more than the sequences"));
    };
    if first != 0 {
        return Err(wrong(format!("{list}[0]"), first, "0"));
    }
    if let Some(i) = offsets.windows(2).position(|pair| pair[1] < pair[0]) {
        let allowed = format!("at least {}, the offset before it", offsets[i]);
        return Err(wrong(format!("{list}[{}]", i + 1), offsets[i + 1], allowed));
    }
    if last != rows {
        let at = format!("{list}[{}]", offsets.len() - 1);
        return Err(wrong(at, last, format!("{rows}, the rows of {tensor}")));
    }
    Ok(())
}

/// The longest sequence.
pub(crate) fn longest(offsets: &[usize]) -> usize {
    offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
}

/// The sizes of a ragged batch, from those of its packed tensors.
pub(super) fn ragged_sizes(ragged: &Ragged, packed: Sizes) -> Result<Sizes> {
    let Ragged { query_offsets, key_offsets } = ragged;
    check_offsets("query_offsets", query_offsets, "q", packed.queries)?;
    check_offsets("key_offsets", key_offsets, "k", packed.keys)?;
    if query_offsets.len() != key_offsets.len() {
        let allowed = format!("{}, as that of query_offsets", query_offsets.len());
        return Err(wrong("the length of key_offsets", key_offsets.len(), allowed));
    }
    let (queries, keys) = (longest(query_offsets), longest(key_offsets));
    Ok(Sizes { batch: query_offsets.len() - 1, queries, keys, ..packed })
}

/// The keys that count: one number for each batch entry, none above the keys there are.
pub(super) fn key_lengths(options: &Options, sizes: &Sizes) -> Result<Option<Vec<usize>>> {
    let Some(lengths) = &options.key_lengths else { return Ok(None) };
    if options.ragged.is_some() {
        return Err(wrong("key_lengths", "given", "left out where the offsets of a ragged batch are"));
    }
    if lengths.len() != sizes.batch {
        let allowed = format!("{}, the batch entries", sizes.batch);
        return Err(wrong("the length of key_lengths", lengths.len(), allowed));
    }
    if let Some(b) = lengths.iter().position(|&length| length > sizes.keys) {
        let allowed = format!("at most {}, the keys of k", sizes.keys);
        return Err(wrong(format!("key_lengths[{b}]"), lengths[b], allowed));
    }
    Ok(Some(lengths.clone()))
}
