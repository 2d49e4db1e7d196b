//! `--grid`, `--block` and `--arg`.

use super::tensors::Tensors;
use anyhow::{Context, bail};

/// `X`, `X,Y` or `X,Y,Z`.
pub fn dimensions(text: &str) -> Result<[u32; 3], String> {
    let numbers: Vec<u32> = text
        .split(',')
        .map(|n| n.trim().parse().map_err(|_| format!("`{n}` is not a number of blocks or threads")))
        .collect::<Result<_, String>>()?;
    match numbers[..] {
        [x] => Ok([x, 1, 1]),
        [x, y] => Ok([x, y, 1]),
        [x, y, z] => Ok([x, y, z]),
        _ => Err(format!("{} numbers; 1 to 3 are wanted", numbers.len())),
    }
}

/// The bytes of one kernel argument.
pub fn argument(text: &str, tensors: &Tensors) -> anyhow::Result<Vec<u8>> {
    let Some((kind, value)) = text.split_once(':') else {
        bail!("--arg {text}: it should be KIND:VALUE, such as i32:5 or t:NAME")
    };
    macro_rules! number {
        ($ty:ty) => {
            value.parse::<$ty>().with_context(|| format!("--arg {text}"))?.to_le_bytes().to_vec()
        };
    }
    Ok(match kind {
        "t" => tensors.address(value).with_context(|| format!("--arg {text}"))?.to_le_bytes().to_vec(),
        "i8" => number!(i8),
        "u8" => number!(u8),
        "i16" => number!(i16),
        "u16" => number!(u16),
        "i32" => number!(i32),
        "u32" => number!(u32),
        "i64" => number!(i64),
        "u64" => number!(u64),
        "f32" => number!(f32),
        "f64" => number!(f64),
        "f16" => half16(value.parse().with_context(|| format!("--arg {text}"))?, 5, 10),
        "bf16" => half16(value.parse().with_context(|| format!("--arg {text}"))?, 8, 7),
        "hex" => bytes(value).with_context(|| format!("--arg {text}"))?,
        _ => bail!(
            "--arg {text}: `{kind}` is not one of t, i8, u8, i16, u16, i32, u32, i64, u64, f32, f64, f16, bf16, hex"
        ),
    })
}

/// A number in a 16-bit format with so many exponent and fraction bits, rounded to nearest even.
fn half16(x: f64, exponent_bits: i32, fraction_bits: i32) -> Vec<u8> {
    let bias = (1 << (exponent_bits - 1)) - 1;
    let sign = if x.is_sign_negative() { 0x8000u16 } else { 0 };
    let magnitude = x.abs();
    let bits = if magnitude.is_nan() {
        0x7fff
    } else {
        let exponent = if magnitude == 0.0 {
            1 - bias
        } else {
            (magnitude.log2().floor() as i32).clamp(1 - bias, bias + 1)
        };
        // In units of the last place; a carry out of the fraction moves the exponent up by itself.
        let units =
            (magnitude / 2f64.powi(exponent - fraction_bits)).round_ties_even().min(f64::from(1 << 16));
        let base = (exponent + bias - 1) << fraction_bits;
        let limit = ((1 << exponent_bits) - 1) << fraction_bits;
        (base + units as i32).min(limit) as u16
    };
    (sign | bits).to_le_bytes().to_vec()
}

fn bytes(text: &str) -> anyhow::Result<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        bail!("hex digits come in pairs");
    }
    (0..text.len() / 2)
        .map(|k| {
            u8::from_str_radix(&text[2 * k..2 * k + 2], 16)
                .with_context(|| format!("`{}` is no byte", &text[2 * k..2 * k + 2]))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_to_nearest_even() {
        let bits = |x, e, f| u16::from_le_bytes(half16(x, e, f).try_into().unwrap());
        assert_eq!(bits(1.0, 5, 10), 0x3c00);
        assert_eq!(bits(-2.5, 5, 10), 0xc100);
        assert_eq!(bits(65520.0, 5, 10), 0x7c00);
        assert_eq!(bits(65519.0, 5, 10), 0x7bff);
        assert_eq!(bits(2f64.powi(-24), 5, 10), 1);
        assert_eq!(bits(f64::INFINITY, 8, 7), 0x7f80);
        assert_eq!(bits(0.1, 8, 7), 0x3dcd);
        assert_eq!(bits(0.0, 8, 7), 0);
    }
}
