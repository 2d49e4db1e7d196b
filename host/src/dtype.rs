//! Storage types, and the Rust types that stand for them.

use half::{bf16, f16};

/// How the elements of a tensor are stored. Attention computes in f32 whatever the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16, the upper half of an f32.
    Bf16,
    /// IEEE binary64: for expected values, not for attention itself.
    F64,
    /// A byte: masks, where everything but 0 means "may attend".
    U8,
    /// A 32-bit integer: offsets.
    I32,
}

impl Dtype {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Dtype::F64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::U8 => 1,
        }
    }

    /// The name in messages and files: `f32`, `f16`, `bf16`, `f64`, `u8`, `i32`.
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
            Dtype::F64 => "f64",
            Dtype::U8 => "u8",
            Dtype::I32 => "i32",
        }
    }

    /// The kernels' storage type, for those that attention takes.
    pub(crate) const fn storage(self) -> Option<flash_attention_abi::Dtype> {
        match self {
            Dtype::F32 => Some(flash_attention_abi::Dtype::F32),
            Dtype::F16 => Some(flash_attention_abi::Dtype::F16),
            Dtype::Bf16 => Some(flash_attention_abi::Dtype::Bf16),
            _ => None,
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type whose values a tensor can hold: `f32`, `f16`, `bf16` (from the crate `half`), `f64`, `u8`, `bool`, `i32`.
pub trait Element: Copy + Send + Sync + 'static + sealed::Sealed {
    /// How it is stored.
    const DTYPE: Dtype;
    /// Writes the value, little-endian, into a slice of `DTYPE.size()` bytes.
    fn store(self, bytes: &mut [u8]);
    /// Reads a value from a slice of `DTYPE.size()` bytes.
    fn load(bytes: &[u8]) -> Self;
}

macro_rules! element {
    ($($type:ty, $dtype:ident;)*) => {$(
        impl sealed::Sealed for $type {}
        impl Element for $type {
            const DTYPE: Dtype = Dtype::$dtype;
            #[inline]
            fn store(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
            #[inline]
            fn load(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$type>()];
                array.copy_from_slice(bytes);
                <$type>::from_le_bytes(array)
            }
        }
    )*};
}
element! {
    f32, F32;
    f16, F16;
    bf16, Bf16;
    f64, F64;
    u8, U8;
    i32, I32;
}

impl sealed::Sealed for bool {}
impl Element for bool {
    const DTYPE: Dtype = Dtype::U8;
    #[inline]
    fn store(self, bytes: &mut [u8]) {
        bytes[0] = self.into();
    }
    #[inline]
    fn load(bytes: &[u8]) -> Self {
        bytes[0] != 0
    }
}

/// The bytes of a slice of elements.
pub(crate) fn encode<T: Element>(values: &[T]) -> Vec<u8> {
    let size = T::DTYPE.size();
    let mut bytes = vec![0; values.len() * size];
    for (value, chunk) in values.iter().zip(bytes.chunks_exact_mut(size)) {
        value.store(chunk);
    }
    bytes
}

/// The elements in a slice of bytes.
pub(crate) fn decode<T: Element>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(T::DTYPE.size()).map(T::load).collect()
}

/// The elements in a slice of bytes as f64, which holds every storage type exactly.
pub(crate) fn decode_wide(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    let chunks = bytes.chunks_exact(dtype.size());
    match dtype {
        Dtype::F32 => chunks.map(|c| f32::load(c).into()).collect(),
        Dtype::F16 => chunks.map(|c| f16::load(c).into()).collect(),
        Dtype::Bf16 => chunks.map(|c| bf16::load(c).into()).collect(),
        Dtype::F64 => chunks.map(f64::load).collect(),
        Dtype::U8 => chunks.map(|c| u8::load(c).into()).collect(),
        Dtype::I32 => chunks.map(|c| i32::load(c).into()).collect(),
    }
}

/// The bytes of f64 values rounded once to a storage type (to nearest even; integers saturate).
pub(crate) fn encode_wide(dtype: Dtype, values: impl Iterator<Item = f64>) -> Vec<u8> {
    fn all<T: Element>(values: impl Iterator<Item = f64>, round: impl Fn(f64) -> T) -> Vec<u8> {
        encode(&values.map(round).collect::<Vec<_>>())
    }
    match dtype {
        Dtype::F32 => all(values, |v| v as f32),
        Dtype::F16 => all(values, f16::from_f64),
        Dtype::Bf16 => all(values, bf16::from_f64),
        Dtype::F64 => all(values, |v| v),
        Dtype::U8 => all(values, |v| v as u8),
        Dtype::I32 => all(values, |v| v as i32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_storage_type_survives_the_way_through_f64() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::F64, Dtype::U8, Dtype::I32] {
            let bytes = encode_wide(dtype, [0.0, 1.0, 2.0, 96.0].into_iter());
            assert_eq!(bytes.len(), 4 * dtype.size());
            assert_eq!(decode_wide(dtype, &bytes), [0.0, 1.0, 2.0, 96.0], "{dtype}");
        }
    }

    #[test]
    fn rounding_to_half_types_is_to_nearest_even() {
        assert_eq!(
            decode_wide(Dtype::F16, &encode_wide(Dtype::F16, [2049.0, 2051.0].into_iter())),
            [2048.0, 2052.0]
        );
        assert_eq!(
            decode_wide(Dtype::Bf16, &encode_wide(Dtype::Bf16, [257.0, 259.0].into_iter())),
            [256.0, 260.0]
        );
    }
}
