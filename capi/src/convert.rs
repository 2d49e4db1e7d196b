//! From the structs of the header to the library's types.

use flash_attention::ffi::Loan;
use flash_attention::{Backend, Causal, Dropout, Dtype, Layout, Options, Ragged, Tensor, Window};

use crate::error::Failure;
use crate::types::{self, backend, causal, deterministic, dtype, layout};

fn wrong(argument: &str, given: impl ToString, allowed: &str) -> Failure {
    Failure::argument(format!("{argument} is {}; it must be {allowed}", given.to_string()))
}

/// A tensor, or `None` where its rank is 0.
///
/// # Safety
/// As [`Loan::tensor`].
pub(crate) unsafe fn optional(
    loan: &Loan,
    argument: &'static str,
    tensor: &types::Tensor,
) -> Result<Option<Tensor>, Failure> {
    let rank = match tensor.rank {
        0 => return Ok(None),
        rank @ 1..=4 => rank as usize,
        rank => return Err(wrong(&format!("{argument}.rank"), rank, "0 to 4")),
    };
    let dtype = match tensor.dtype {
        dtype::F32 => Dtype::F32,
        dtype::F16 => Dtype::F16,
        dtype::BF16 => Dtype::Bf16,
        dtype::U8 => Dtype::U8,
        other => {
            return Err(wrong(&format!("{argument}.dtype"), other, "0 (f32), 1 (f16), 2 (bf16) or 3 (u8)"));
        }
    };
    let natural = |field: &str, values: &[i64; 4]| {
        let each = values[..rank].iter().enumerate().map(|(i, &n)| {
            usize::try_from(n).map_err(|_| wrong(&format!("{argument}.{field}[{i}]"), n, "at least 0"))
        });
        each.collect::<Result<Vec<_>, _>>()
    };
    let (shape, strides) = (natural("shape", &tensor.shape)?, natural("strides", &tensor.strides)?);
    // SAFETY: the caller's promise.
    Ok(Some(unsafe { loan.tensor(argument, dtype, tensor.data, &shape, &strides) }?))
}

/// A tensor that must be given.
///
/// # Safety
/// As [`Loan::tensor`].
pub(crate) unsafe fn needed(
    loan: &Loan,
    argument: &'static str,
    tensor: &types::Tensor,
) -> Result<Tensor, Failure> {
    // SAFETY: the caller's promise.
    let tensor = unsafe { optional(loan, argument, tensor) }?;
    tensor.ok_or_else(|| Failure::argument(format!("{argument} is not given: its rank is 0")))
}

/// A list in the host's memory, or `None` where the pointer is null.
///
/// # Safety
/// The pointer is null or one to so many numbers.
unsafe fn list(argument: &str, values: *const i32, count: i64) -> Result<Option<Vec<usize>>, Failure> {
    if values.is_null() {
        return Ok(None);
    }
    let count = usize::try_from(count).ok().filter(|&n| n < isize::MAX as usize / 4);
    let count = count.ok_or_else(|| wrong("batch", "negative or too large", "the entries of the lists"))?;
    // SAFETY: not null, so many numbers by the caller's promise, and less than isize::MAX bytes.
    let values = unsafe { std::slice::from_raw_parts(values, count) };
    let each = values
        .iter()
        .enumerate()
        .map(|(i, &n)| usize::try_from(n).map_err(|_| wrong(&format!("{argument}[{i}]"), n, "at least 0")));
    each.collect::<Result<_, _>>().map(Some)
}

fn bound(argument: &str, keys: i64) -> Result<Option<usize>, Failure> {
    match keys {
        -1 => Ok(None),
        keys => {
            usize::try_from(keys).map(Some).map_err(|_| wrong(argument, keys, "-1 (no bound) or at least 0"))
        }
    }
}

/// The options of a problem; the gradient of the bias is computed where there is a place for it.
///
/// # Safety
/// As [`Loan::tensor`] for its tensors; its lists are null or of the length that its batch says.
pub(crate) unsafe fn options(loan: &Loan, problem: &types::Problem) -> Result<Options, Failure> {
    let mut options = Options::default();
    // SAFETY: the caller's promise.
    unsafe {
        options.mask = optional(loan, "mask", &problem.mask)?;
        options.bias = optional(loan, "bias", &problem.bias)?;
        options.alibi = optional(loan, "alibi", &problem.alibi)?;
        options.sinks = optional(loan, "sinks", &problem.sinks)?;
        options.key_lengths = list("key_lengths", problem.key_lengths, problem.batch)?;
        let offsets = problem.batch.saturating_add(1);
        let query_offsets = list("query_offsets", problem.query_offsets, offsets)?;
        let key_offsets = list("key_offsets", problem.key_offsets, offsets)?;
        options.ragged = match (query_offsets, key_offsets) {
            (Some(query_offsets), Some(key_offsets)) => Some(Ragged { query_offsets, key_offsets }),
            (None, None) => None,
            (Some(_), None) => return Err(wrong("key_offsets", "null", "given together with query_offsets")),
            (None, Some(_)) => return Err(wrong("query_offsets", "null", "given together with key_offsets")),
        };
    }
    options.causal = match problem.causal {
        causal::NONE => Causal::None,
        causal::UPPER_LEFT => Causal::UpperLeft,
        causal::LOWER_RIGHT => Causal::LowerRight,
        other => return Err(wrong("causal", other, "0 (none), 1 (upper left) or 2 (lower right)")),
    };
    options.layout = match problem.layout {
        layout::BHSD => Layout::Bhsd,
        layout::BSHD => Layout::Bshd,
        other => return Err(wrong("layout", other, "0 (bhsd) or 1 (bshd)")),
    };
    options.backends = match problem.backend {
        backend::AUTO => vec![Backend::Auto],
        backend::EFFICIENT => vec![Backend::Efficient],
        backend::FLASH => vec![Backend::Flash],
        other => return Err(wrong("backend", other, "0 (auto), 1 (efficient) or 2 (flash)")),
    };
    options.splits = usize::try_from(problem.splits)
        .map_err(|_| wrong("splits", problem.splits, "at least 1, or 0, which leaves it to the library"))?;
    options.deterministic = match problem.deterministic {
        deterministic::DEFAULT => None,
        deterministic::YES => Some(true),
        deterministic::NO => Some(false),
        other => return Err(wrong("deterministic", other, "0 (default), 1 (yes) or 2 (no)")),
    };
    options.window = Window {
        left: bound("window_left", problem.window_left)?,
        right: bound("window_right", problem.window_right)?,
    };
    if problem.reserved != 0 {
        return Err(wrong("reserved", problem.reserved, "0"));
    }
    options.scale = Some(problem.scale).filter(|&scale| scale != 0.0);
    options.softcap = Some(problem.softcap).filter(|&softcap| softcap != 0.0);
    let types::Problem { dropout_p: p, dropout_seed: seed, dropout_offset: offset, .. } = *problem;
    options.dropout = Some(Dropout { p, seed, offset }).filter(|dropout| dropout.p != 0.0);
    Ok(options)
}
