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

/// Writes f64 values, rounded once to a storage type (to nearest even; integers saturate), until the bytes are full.
pub(crate) fn store_wide(dtype: Dtype, values: impl Iterator<Item = f64>, bytes: &mut [u8]) {
    let chunks = bytes.chunks_exact_mut(dtype.size()).zip(values);
    match dtype {
        Dtype::F32 => chunks.for_each(|(chunk, v)| (v as f32).store(chunk)),
        Dtype::F16 => chunks.for_each(|(chunk, v)| f16::from_f64(v).store(chunk)),
        Dtype::Bf16 => chunks.for_each(|(chunk, v)| bf16::from_f64(v).store(chunk)),
        Dtype::F64 => chunks.for_each(|(chunk, v)| v.store(chunk)),
        Dtype::U8 => chunks.for_each(|(chunk, v)| (v as u8).store(chunk)),
        Dtype::I32 => chunks.for_each(|(chunk, v)| (v as i32).store(chunk)),
    }
}

/// Adds the elements in a slice of bytes to a list, as f64, which holds every storage type exactly.
pub(crate) fn extend_wide(dtype: Dtype, bytes: &[u8], elements: &mut Vec<f64>) {
    let chunks = bytes.chunks_exact(dtype.size());
    match dtype {
        Dtype::F32 => elements.extend(chunks.map(|c| f64::from(f32::load(c)))),
        Dtype::F16 => elements.extend(chunks.map(|c| f64::from(f16::load(c)))),
        Dtype::Bf16 => elements.extend(chunks.map(|c| f64::from(bf16::load(c)))),
        Dtype::F64 => elements.extend(chunks.map(f64::load)),
        Dtype::U8 => elements.extend(chunks.map(|c| f64::from(u8::load(c)))),
        Dtype::I32 => elements.extend(chunks.map(|c| f64::from(i32::load(c)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back<const N: usize>(dtype: Dtype, values: [f64; N]) -> Vec<f64> {
        let mut bytes = vec![0; N * dtype.size()];
        store_wide(dtype, values.into_iter(), &mut bytes);
        let mut elements = Vec::new();
        extend_wide(dtype, &bytes, &mut elements);
        elements
    }

    #[test]
    fn every_storage_type_survives_the_way_through_f64() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::F64, Dtype::U8, Dtype::I32] {
            assert_eq!(there_and_back(dtype, [0.0, 1.0, 2.0, 96.0]), [0.0, 1.0, 2.0, 96.0], "{dtype}");
        }
    }

    #[test]
    fn rounding_to_half_types_is_to_nearest_even() {
        assert_eq!(there_and_back(Dtype::F16, [2049.0, 2051.0]), [2048.0, 2052.0]);
        assert_eq!(there_and_back(Dtype::Bf16, [257.0, 259.0]), [256.0, 260.0]);
    }
}
