//! What is tried with a file, files to begin with, and changes of them; shared by the fuzz target and `tests/fuzz.rs`.

use flash_attention::case::{Case, encode};
use flash_attention::{Backend, Device, Dtype, Tensor, analysis, sdpa};

/// Fewer bytes are no file.
pub const SHORTEST: usize = 10;

/// The most multiply-adds that are worth the time.
const WORK: usize = 1 << 24;

/// Reads a file, asks about its problem and, where that is small, runs it in every way there is.
///
/// # Panics
/// Where the library does, or contradicts itself.
pub fn check(bytes: &[u8]) {
    let case = match Case::parse(bytes, &Device::cpu()) {
        Ok(case) => case,
        Err(error) => return said(&error),
    };
    let call = sdpa(&case.q, &case.k, &case.v).options(case.options.clone());
    let explanation = match call.explain() {
        Ok(explanation) => explanation,
        Err(error) => return said(&error),
    };
    let elements =
        |tensor: &Tensor| tensor.shape().iter().fold(1usize, |n, &size| n.saturating_mul(size.max(1)));
    let work = [&case.q, &case.k, &case.v].map(elements).into_iter().fold(1, usize::saturating_mul);
    if work > WORK {
        return;
    }
    let can = explanation.choose(&[Backend::Auto]).is_ok();
    match call.clone().return_weights(true).run() {
        Ok(output) => assert!(can && output.weights.is_some()),
        Err(error) => said(&error),
    }
    match call.forward() {
        Ok(forward) => {
            assert!(can, "what no backend can has run");
            let dout = case.dout.as_ref().unwrap_or(forward.output());
            match forward.backward_with(dout, case.dlse.as_ref()) {
                Ok(gradients) => drop(case.check(forward.output(), forward.lse(), Some(&gradients))),
                Err(error) => said(&error),
            }
        }
        Err(error) => {
            assert!(!can, "what a backend can has failed: {error}");
            said(&error);
        }
    }
    match analysis::heads(&case.q, &case.k, &case.v, &case.options) {
        Ok(heads) => assert!(heads.iter().all(|head| head.mean_entropy.is_nan() || head.mean_entropy >= 0.0)),
        Err(error) => said(&error),
    }
}

/// An error says something.
fn said(error: &flash_attention::Error) {
    assert!(!error.to_string().trim().is_empty(), "{error:?} has no words");
}

/// Small files that are problems, which together say everything that a file can.
pub fn seeds() -> Vec<Vec<u8>> {
    let cpu = Device::cpu();
    let floats = |dtype: Dtype, shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i as f32 * 0.7).sin()).collect();
        Tensor::from_slice(&cpu, &values, shape).and_then(|tensor| tensor.cast(dtype))
    };
    let integers = |values: &[i32]| Tensor::from_slice(&cpu, values, &[values.len()]);
    let file = |tensors: &[(&str, &Tensor)], metadata: &[(&str, &str)]| {
        encode(tensors, metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
    };
    let build = || {
        let [q, k] = [&[1, 2, 3, 2][..], &[1, 1, 4, 2]].map(|shape| floats(Dtype::F32, shape));
        let (q, k) = (q?, k?);
        let (mask, bias) = (Tensor::from_slice(&cpu, &[1u8, 0, 1, 1], &[4])?, floats(Dtype::F32, &[3, 4])?);
        let (sinks, slopes, lengths) =
            (floats(Dtype::F32, &[2])?, floats(Dtype::F32, &[1, 2])?, integers(&[3])?);
        let dlse = floats(Dtype::F32, &[1, 2, 3])?;
        let [rq, rk] = [&[4, 2, 2][..], &[5, 1, 2]].map(|shape| floats(Dtype::F16, shape));
        let (rq, rk) = (rq?, rk?);
        let (cu_q, cu_k) = (integers(&[0, 1, 1, 4])?, integers(&[0, 3, 5, 5])?);
        let single = floats(Dtype::Bf16, &[1, 3, 2])?;
        let error = Tensor::from_slice(&cpu, &[0.1f64], &[1])?;
        Ok::<_, flash_attention::Error>(vec![
            file(&[("q", &q), ("k", &k), ("v", &k), ("dout", &q), ("out", &q), ("err_out", &error)], &[])?,
            file(
                &[
                    ("q", &q),
                    ("k", &k),
                    ("v", &k),
                    ("dlse", &dlse),
                    ("attn_mask", &mask),
                    ("attn_bias", &bias),
                ],
                &[("layout", "bhsd"), ("scale", "0.5"), ("causal", "lower_right"), ("softcap", "20.0")],
            )?,
            file(
                &[
                    ("q", &q),
                    ("k", &k),
                    ("v", &k),
                    ("sinks", &sinks),
                    ("alibi_slopes", &slopes),
                    ("key_lengths", &lengths),
                ],
                &[
                    ("window_left", "1"),
                    ("window_right", "-1"),
                    ("dropout_p", "0.5"),
                    ("dropout_seed", "7"),
                    ("dropout_offset", "1"),
                ],
            )?,
            file(
                &[("q", &rq), ("k", &rk), ("v", &rk), ("cu_seqlens_q", &cu_q), ("cu_seqlens_k", &cu_k)],
                &[("layout", "thd"), ("alibi", "1"), ("causal", "upper_left")],
            )?,
            file(&[("q", &single), ("k", &single), ("v", &single), ("dout", &single)], &[("layout", "bsd")])?,
        ])
    };
    build().unwrap_or_else(|error| panic!("the seeds cannot be made: {error}"))
}

/// Numbers that follow from a seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number below another.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn of<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }
}

/// Numbers that stand in headers, or should not.
const NUMBERS: [&str; 20] = [
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "8",
    "16",
    "24",
    "48",
    "-1",
    "0.5",
    "1e9",
    "255",
    "65536",
    "2147483648",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
    "99999999999999999999999",
];

/// What the metadata can say.
const SETTINGS: [&str; 10] = [
    "layout",
    "scale",
    "causal",
    "window_left",
    "window_right",
    "softcap",
    "alibi",
    "dropout_p",
    "dropout_seed",
    "dropout_offset",
];

/// What it can say of them, beside numbers.
const VALUES: [&str; 7] = ["bhsd", "bshd", "bsd", "thd", "none", "upper_left", "lower_right"];

/// Other words that stand in headers, or should not.
const WORDS: [&str; 27] = [
    "q",
    "k",
    "v",
    "dout",
    "dlse",
    "out",
    "lse",
    "dq",
    "err_out",
    "attn_mask",
    "attn_bias",
    "sinks",
    "alibi_slopes",
    "key_lengths",
    "cu_seqlens_q",
    "cu_seqlens_k",
    "F32",
    "F16",
    "BF16",
    "F64",
    "U8",
    "I32",
    "nan",
    "inf",
    "",
    "shape",
    "__metadata__",
];

/// One to three changes: bits, bytes, lengths, numbers of the data, and what stands in the header.
pub fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(3) {
        match random.below(16) {
            0 => flip(&mut bytes, random),
            1 => bytes.truncate(random.below(bytes.len() + 1)),
            2 => bytes.extend((0..random.below(40)).map(|i| i as u8)),
            3 => length(&mut bytes, random),
            4 => header(&mut bytes, random, number),
            5 => header(&mut bytes, random, word),
            6 | 7 => header(&mut bytes, random, swap),
            8..=11 => header(&mut bytes, random, setting),
            _ => data(&mut bytes, random),
        }
    }
    bytes
}

fn flip(bytes: &mut [u8], random: &mut Random) {
    if !bytes.is_empty() {
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
    }
}

/// Another header length than the header's.
fn length(bytes: &mut [u8], random: &mut Random) {
    let Some(field) = bytes.first_chunk_mut::<8>() else { return };
    let old = u64::from_le_bytes(*field);
    let new = match random.below(4) {
        0 => old.wrapping_add(1 << random.below(4)),
        1 => old.wrapping_sub(1 << random.below(4)),
        2 => 1 << random.below(64),
        _ => random.next(),
    };
    *field = new.to_le_bytes();
}

/// A number of the data that is unusual as a float or an integer.
fn data(bytes: &mut [u8], random: &mut Random) {
    let numbers = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38, -0.0, 1e-40];
    let new = match random.below(3) {
        0 => numbers[random.below(numbers.len())].to_le_bytes(),
        1 => (random.below(7) as i32 - 2).to_le_bytes(),
        _ => (random.next() as u32).to_le_bytes(),
    };
    let at = random.below(bytes.len().saturating_sub(new.len()) / 4 + 1) * 4;
    if let Some(place) = bytes.get_mut(at..at + new.len()) {
        place.copy_from_slice(&new);
    }
}

/// Changes the header's text, and its length with it.
fn header(bytes: &mut Vec<u8>, random: &mut Random, change: fn(&mut String, &mut Random)) {
    let Some(length) = bytes.first_chunk().map(|field| u64::from_le_bytes(*field)) else { return };
    let Some(end) = usize::try_from(length).ok().and_then(|length| length.checked_add(8)) else { return };
    let Some(Ok(mut text)) = bytes.get(8..end).map(|header| String::from_utf8(header.to_vec())) else {
        return;
    };
    change(&mut text, random);
    bytes[..8].copy_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.splice(8..end, text.into_bytes());
}

/// Puts another number in the place of one.
fn number(text: &mut String, random: &mut Random) {
    let digit = |&at: &usize| text.as_bytes()[at].is_ascii_digit();
    let starts: Vec<usize> = (0..text.len())
        .filter(|at| digit(at) && !at.checked_sub(1).is_some_and(|before| digit(&before)))
        .collect();
    if starts.is_empty() {
        return;
    }
    let start = starts[random.below(starts.len())];
    let end = (start..text.len()).find(|at| !digit(at)).unwrap_or(text.len());
    text.replace_range(start..end, random.of(&NUMBERS));
}

/// Exchanges two numbers of a shape.
fn swap(text: &mut String, random: &mut Random) {
    let shapes: Vec<usize> = text.match_indices("\"shape\":[").map(|(at, found)| at + found.len()).collect();
    let Some(&start) = shapes.get(random.below(shapes.len())) else { return };
    let Some(length) = text[start..].find(']') else { return };
    let mut numbers: Vec<&str> = text[start..start + length].split(',').collect();
    let (a, b) = (random.below(numbers.len()), random.below(numbers.len()));
    numbers.swap(a, b);
    let swapped = numbers.join(",");
    text.replace_range(start..start + length, &swapped);
}

/// Adds a setting to the metadata.
fn setting(text: &mut String, random: &mut Random) {
    const START: &str = "\"__metadata__\":{";
    let Some(at) = text.find(START).map(|at| at + START.len()) else { return };
    let key = random.of(&SETTINGS);
    let value = if random.below(2) == 0 { random.of(&NUMBERS) } else { random.of(&VALUES) };
    let comma = if text[at..].starts_with('}') { "" } else { "," };
    text.insert_str(at, &format!("\"{key}\":\"{value}\"{comma}"));
}

/// Puts another word in the place of one between quotation marks.
fn word(text: &mut String, random: &mut Random) {
    let quotes: Vec<usize> = text.match_indices('"').map(|(at, _)| at).collect();
    if quotes.len() < 2 {
        return;
    }
    let first = random.below(quotes.len() / 2) * 2;
    text.replace_range(quotes[first] + 1..quotes[first + 1], random.of(&WORDS));
}
