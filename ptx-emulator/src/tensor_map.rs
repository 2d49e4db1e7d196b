//! Tensor maps: what a bulk tensor copy must know of a tensor in global memory and of the box that it moves.
//!
//! The 128 bytes are opaque on a device. The emulator has its own form, encoded from the same arguments as the driver's
//! `cuTensorMapEncodeTiled` and refused for the same reasons (CUDA driver API, "Tensor Map Object Management").

use thiserror::Error;

/// What the first bytes of an encoded map hold.
const MARK: u64 = 0x0070_616d_736e_6574;
/// The most dimensions.
pub(crate) const MAX_RANK: usize = 5;

/// Type of a tensor's elements; the numbers are the driver's.
///
/// Elements of the last three are f32 in global memory, which a copy into shared memory changes: with `F32Ftz` and `Tf32Ftz` subnormals
/// become zeros, with `Tf32` and `Tf32Ftz` the others are rounded to 10 bits of fraction, to the nearest and of two to the even one;
/// infinities and NaNs stay as they are. Copies out of shared memory take its bytes as they are.
///
/// Sources: the driver's documentation has no more than the names. That copies from global to shared memory round is said in CUTLASS
/// (`sm90_mma_tma_gmma_ss_warpspecialized.hpp`), and how, with a test that passes on a GPU of sm_120, in Triton (pull request 11751). Found
/// nowhere, and supposed here: that zeros for subnormals keep their sign, as of `.ftz` in PTX; that these go before rounding, so that no
/// subnormal is rounded up to a number; and that copies out of shared memory change nothing. Reductions add `F32Ftz` as f32, and do not take
/// the types of tf32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(u32)]
pub enum TensorMapType {
    U8 = 0,
    U16 = 1,
    U32 = 2,
    S32 = 3,
    U64 = 4,
    S64 = 5,
    F16 = 6,
    F32 = 7,
    F64 = 8,
    BF16 = 9,
    F32Ftz = 10,
    Tf32 = 11,
    Tf32Ftz = 12,
}

impl TensorMapType {
    const ALL: [TensorMapType; 13] = [
        TensorMapType::U8,
        TensorMapType::U16,
        TensorMapType::U32,
        TensorMapType::S32,
        TensorMapType::U64,
        TensorMapType::S64,
        TensorMapType::F16,
        TensorMapType::F32,
        TensorMapType::F64,
        TensorMapType::BF16,
        TensorMapType::F32Ftz,
        TensorMapType::Tf32,
        TensorMapType::Tf32Ftz,
    ];

    /// Bytes of an element.
    pub fn size(self) -> u64 {
        match self {
            TensorMapType::U8 => 1,
            TensorMapType::U16 | TensorMapType::F16 | TensorMapType::BF16 => 2,
            TensorMapType::U32
            | TensorMapType::S32
            | TensorMapType::F32
            | TensorMapType::F32Ftz
            | TensorMapType::Tf32
            | TensorMapType::Tf32Ftz => 4,
            TensorMapType::U64 | TensorMapType::S64 | TensorMapType::F64 => 8,
        }
    }

    fn is_float(self) -> bool {
        matches!(self, TensorMapType::F16 | TensorMapType::BF16 | TensorMapType::F32 | TensorMapType::F64)
            || self.converts()
    }

    /// Whether a copy into shared memory changes elements.
    pub(crate) fn converts(self) -> bool {
        matches!(self, TensorMapType::F32Ftz | TensorMapType::Tf32 | TensorMapType::Tf32Ftz)
    }

    /// What an element that is copied into shared memory becomes there.
    pub(crate) fn converted(self, bits: u32) -> u32 {
        let (sign, exponent) = (bits & 1 << 31, bits & 0x7f80_0000);
        match self {
            TensorMapType::F32Ftz | TensorMapType::Tf32Ftz if exponent == 0 => sign,
            TensorMapType::Tf32 | TensorMapType::Tf32Ftz if exponent != 0x7f80_0000 => {
                (bits + 0xfff + (bits >> 13 & 1)) & !0x1fff
            }
            _ => bits,
        }
    }

    /// The type in which reductions combine elements, if they do.
    pub(crate) fn reduced(self) -> Option<crate::syntax::types::Type> {
        use crate::syntax::types::Type;
        Some(match self {
            TensorMapType::U8 => Type::U8,
            TensorMapType::U16 => Type::U16,
            TensorMapType::U32 => Type::U32,
            TensorMapType::S32 => Type::S32,
            TensorMapType::U64 => Type::U64,
            TensorMapType::S64 => Type::S64,
            TensorMapType::F16 => Type::F16,
            TensorMapType::F32 | TensorMapType::F32Ftz => Type::F32,
            TensorMapType::F64 => Type::F64,
            TensorMapType::BF16 => Type::BF16,
            TensorMapType::Tf32 | TensorMapType::Tf32Ftz => return None,
        })
    }
}

/// How the 16-byte pieces of a box are exchanged in shared memory; the numbers are the driver's.
///
/// With `B128` bits 4 to 6 of each shared address are combined by exclusive or with bits 7 to 9, with `B64` bits 4 and 5 with 7
/// and 8, with `B32` bit 4 with bit 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(u32)]
pub enum Swizzle {
    None = 0,
    B32 = 1,
    B64 = 2,
    B128 = 3,
}

impl Swizzle {
    /// The most bytes of a box's innermost row.
    fn span(self) -> u64 {
        match self {
            Swizzle::None => u64::MAX,
            Swizzle::B32 => 32,
            Swizzle::B64 => 64,
            Swizzle::B128 => 128,
        }
    }

    /// The bits of a 16-byte piece's number that change.
    pub(crate) fn mask(self) -> u32 {
        [0, 1, 3, 7][self as usize]
    }
}

/// The arguments of `cuTensorMapEncodeTiled`. The innermost dimension comes first. Promotion in the L2 cache changes no result and is
/// left out.
///
/// Interleaved layouts are not covered. The driver's documentation and the PTX manual ("Interleave layout") say that channels lie in slices of
/// 16 or 32 bytes (NC/8HWC8, NC/16HWC16) and that such tensors have 3 to 5 dimensions, but not whether the innermost coordinate, size and
/// box count channels or slices, which stride leads from slice to slice (there is one less than dimensions), nor in which order a
/// box lies in shared memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// Type of the elements.
    pub data_type: TensorMapType,
    /// Address of the first element in global memory, a multiple of 16.
    pub address: u64,
    /// Elements in each of 1 to 5 dimensions, 1 to 2^32.
    pub sizes: Vec<u64>,
    /// Bytes from one element to the next in all dimensions but the innermost, multiples of 16 below 2^40.
    pub strides: Vec<u64>,
    /// Elements of the box in each dimension, 1 to 256; the innermost row has a multiple of 16 bytes.
    pub box_sizes: Vec<u32>,
    /// Step in elements in each dimension, 1 to 8; that of the innermost dimension has no effect.
    pub element_strides: Vec<u32>,
    /// Exchange of pieces in shared memory.
    pub swizzle: Swizzle,
    /// Elements outside the tensor are NaN, not zero. Only for floating types.
    pub fill_nan: bool,
}

/// An argument that the driver would refuse.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("tensor map: {0}")]
pub struct TensorMapError(String);

impl TensorMap {
    /// Bytes that a copy moves and counts: all of the box, also what lies outside the tensor.
    pub fn box_bytes(&self) -> u64 {
        let counts = self.box_sizes.iter().zip(&self.element_strides).enumerate();
        let count = counts
            .map(|(k, (&size, &step))| u64::from(if k == 0 { size } else { size.div_ceil(step.max(1)) }));
        count.product::<u64>() * self.data_type.size()
    }

    /// Whether the driver would take it.
    pub(crate) fn check(&self) -> Result<(), TensorMapError> {
        let wrong = |what: String| Err(TensorMapError(what));
        let rank = self.sizes.len();
        if !(1..=MAX_RANK).contains(&rank) {
            return wrong(format!("{rank} dimensions; 1 to 5 are possible"));
        }
        for (name, length, wanted) in [
            ("strides", self.strides.len(), rank - 1),
            ("box sizes", self.box_sizes.len(), rank),
            ("element strides", self.element_strides.len(), rank),
        ] {
            if length != wanted {
                return wrong(format!("{length} {name} for {rank} dimensions; {wanted} are wanted"));
            }
        }
        if !self.address.is_multiple_of(16) {
            return wrong(format!("the address {:#x} is not a multiple of 16", self.address));
        }
        for (k, &size) in self.sizes.iter().enumerate() {
            if size == 0 || size > 1 << 32 {
                return wrong(format!("size {size} of dimension {k}; 1 to 2^32 are possible"));
            }
        }
        for (k, &stride) in self.strides.iter().enumerate() {
            if !stride.is_multiple_of(16) || stride >= 1 << 40 {
                return wrong(format!(
                    "stride {stride} of dimension {}, no multiple of 16 below 2^40",
                    k + 1
                ));
            }
        }
        for (k, &size) in self.box_sizes.iter().enumerate() {
            if !(1..=256).contains(&size) {
                return wrong(format!("box size {size} of dimension {k}; 1 to 256 are possible"));
            }
        }
        for (k, &stride) in self.element_strides.iter().enumerate() {
            if !(1..=8).contains(&stride) {
                return wrong(format!("element stride {stride} of dimension {k}; 1 to 8 are possible"));
            }
        }
        let inner = u64::from(self.box_sizes[0]) * self.data_type.size();
        if !inner.is_multiple_of(16) {
            return wrong(format!("the box's innermost row has {inner} bytes, no multiple of 16"));
        }
        if inner > self.swizzle.span() {
            return wrong(format!(
                "the box's innermost row has {inner} bytes, more than the {} of its swizzle",
                self.swizzle.span()
            ));
        }
        if self.fill_nan && !self.data_type.is_float() {
            return wrong("only floating types are filled with NaN".into());
        }
        Ok(())
    }

    /// The 128 bytes for the kernel, to lie at a multiple of 64.
    pub fn encode(&self) -> Result<[u8; 128], TensorMapError> {
        self.check()?;
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(MARK.to_le_bytes());
        bytes.extend([
            self.data_type as u8,
            self.sizes.len() as u8,
            self.swizzle as u8,
            u8::from(self.fill_nan),
        ]);
        bytes.extend(self.element_strides.iter().map(|&s| s as u8));
        bytes.resize(24, 0);
        bytes.extend(self.address.to_le_bytes());
        // What is at least 1 is kept less 1, to fit.
        bytes.extend(self.box_sizes.iter().map(|&b| (b - 1) as u8));
        bytes.resize(40, 0);
        bytes.extend(self.sizes.iter().flat_map(|&s| ((s - 1) as u32).to_le_bytes()));
        bytes.resize(64, 0);
        bytes.extend(self.strides.iter().flat_map(|s| s.to_le_bytes()));
        bytes.resize(120, 0);
        let sum = checksum(&bytes);
        bytes.extend(sum.to_le_bytes());
        bytes.try_into().map_err(|_| TensorMapError("the encoding does not fit".into()))
    }

    /// The map that these 128 bytes encode, if any.
    pub(crate) fn decode(bytes: &[u8; 128]) -> Option<TensorMap> {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|k| bytes[at + k]));
        if word(0) != MARK || word(120) != checksum(&bytes[..120]) {
            return None;
        }
        let rank = usize::from(bytes[9]);
        // `replace` makes maps whose rank has not been set: they decode, and `check` refuses them.
        if rank > MAX_RANK {
            return None;
        }
        let size = |k: usize| u64::from(word(40 + 4 * k) as u32) + 1;
        Some(TensorMap {
            data_type: *TensorMapType::ALL.get(usize::from(bytes[8]))?,
            address: word(24),
            sizes: (0..rank).map(size).collect(),
            strides: (1..rank).map(|k| word(64 + 8 * (k - 1))).collect(),
            box_sizes: (0..rank).map(|k| u32::from(bytes[32 + k]) + 1).collect(),
            element_strides: (0..rank).map(|k| bytes[12 + k].into()).collect(),
            swizzle: *[Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128]
                .get(usize::from(bytes[10]))?,
            fill_nan: bytes[11] != 0,
        })
    }
}

/// The fields of `tensormap.replace`, in the order of their codes.
pub(crate) const FIELDS: [&str; 10] = [
    "global_address",
    "rank",
    "box_dim",
    "global_dim",
    "global_stride",
    "element_stride",
    "elemtype",
    "interleave_layout",
    "swizzle_mode",
    "fill_mode",
];

/// Replaces a field, and of those with one for each dimension that of an ordinal, as `tensormap.replace` does. The bytes are a map, or
/// zeros, which become one field by field; whether the fields go together shows when the map is used.
pub(crate) fn replace(bytes: &mut [u8; 128], field: &str, ordinal: usize, value: u64) -> Result<(), String> {
    let mark = u64::from_le_bytes(std::array::from_fn(|k| bytes[k]));
    let sum = u64::from_le_bytes(std::array::from_fn(|k| bytes[120 + k]));
    let is_fresh = bytes.iter().all(|&b| b == 0);
    if !is_fresh && (mark, sum) != (MARK, checksum(&bytes[..120])) {
        return Err("neither a tensor map nor 128 zeros".into());
    }
    let within = |range: std::ops::RangeInclusive<u64>| {
        if range.contains(&value) {
            Ok(value)
        } else {
            Err(format!("`{field}` of {value}; {} to {} are possible", range.start(), range.end()))
        }
    };
    match field {
        "global_address" => bytes[24..32].copy_from_slice(&value.to_le_bytes()),
        // One less than the dimensions.
        "rank" => bytes[9] = within(0..=MAX_RANK as u64 - 1)? as u8 + 1,
        "box_dim" => bytes[32 + ordinal] = (within(1..=256)? - 1) as u8,
        "global_dim" => {
            let size = (within(1..=u64::from(u32::MAX))? - 1) as u32;
            bytes[40 + 4 * ordinal..][..4].copy_from_slice(&size.to_le_bytes());
        }
        "global_stride" => bytes[64 + 8 * ordinal..][..8].copy_from_slice(&value.to_le_bytes()),
        "element_stride" => bytes[12 + ordinal] = within(1..=8)? as u8,
        // PTX manual, "Tensormap new_val validity": not the driver's numbers.
        "elemtype" => {
            bytes[8] = match within(0..=12)? {
                8 => TensorMapType::F32Ftz as u8,
                other @ (9 | 10) => other as u8 - 1,
                same => same as u8,
            }
        }
        "swizzle_mode" => bytes[10] = within(0..=3)? as u8,
        "fill_mode" => bytes[11] = within(0..=1)? as u8,
        _ => {
            if within(0..=2)? != 0 {
                return Err(format!(
                    "`{field}` of {value}: interleaved layouts are not supported, no document says what their coordinates and strides mean"
                ));
            }
        }
    }
    bytes[..8].copy_from_slice(&MARK.to_le_bytes());
    let sum = checksum(&bytes[..120]);
    bytes[120..].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

/// Notices bytes that are no map, or one that was changed.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &b| (sum ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> TensorMap {
        TensorMap {
            data_type: TensorMapType::F16,
            address: 0x7000_0000_0100,
            sizes: vec![1 << 32, 7, 3, 2, 1],
            strides: vec![1 << 20, 0, 48, (1 << 40) - 16],
            box_sizes: vec![64, 256, 1, 2, 3],
            element_strides: vec![1, 2, 3, 4, 8],
            swizzle: Swizzle::B128,
            fill_nan: true,
        }
    }

    #[test]
    fn a_map_survives_its_encoding() {
        for rank in 1..=5 {
            let mut map = plain();
            map.sizes.truncate(rank);
            map.strides.truncate(rank - 1);
            map.box_sizes.truncate(rank);
            map.element_strides.truncate(rank);
            assert_eq!(TensorMap::decode(&map.encode().unwrap()), Some(map));
        }
        assert_eq!(TensorMap::decode(&[0; 128]), None);
        let mut bytes = plain().encode().unwrap();
        bytes[33] ^= 1;
        assert_eq!(TensorMap::decode(&bytes), None);
        // With a good mark and checksum, but more dimensions than there are.
        for rank in [6, 10, 255] {
            let mut bytes = plain().encode().unwrap();
            bytes[9] = rank;
            let sum = checksum(&bytes[..120]);
            bytes[120..].copy_from_slice(&sum.to_le_bytes());
            assert_eq!(TensorMap::decode(&bytes), None, "{rank}");
        }
        // 64 · 128 · 1 · 1 · 1 elements of 2 bytes.
        assert_eq!(plain().box_bytes(), 16384);
    }

    #[test]
    fn arguments_are_refused_as_the_driver_does() {
        let wrong = |change: fn(&mut TensorMap), part: &str| {
            let mut map = plain();
            change(&mut map);
            let error = map.encode().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        wrong(|m| m.sizes.clear(), "0 dimensions");
        wrong(|m| m.sizes.push(1), "6 dimensions");
        wrong(|m| m.strides.push(16), "5 strides for 5 dimensions; 4 are wanted");
        wrong(|m| m.box_sizes.truncate(4), "4 box sizes for 5");
        wrong(|m| m.address += 8, "0x700000000108 is not a multiple of 16");
        wrong(|m| m.sizes[1] = 0, "size 0 of dimension 1");
        wrong(|m| m.sizes[0] += 1, "size 4294967297 of dimension 0");
        wrong(|m| m.strides[2] = 40, "stride 40 of dimension 3");
        wrong(|m| m.strides[0] = 1 << 40, "of dimension 1, no multiple of 16 below 2^40");
        wrong(|m| m.box_sizes[1] = 257, "box size 257 of dimension 1");
        wrong(|m| m.element_strides[4] = 9, "element stride 9 of dimension 4");
        wrong(|m| m.box_sizes[0] = 4, "innermost row has 8 bytes");
        wrong(|m| m.box_sizes[0] = 72, "144 bytes, more than the 128");
        wrong(|m| m.data_type = TensorMapType::U16, "only floating types");
    }

    #[test]
    fn every_type_survives_its_encoding() {
        for data_type in TensorMapType::ALL {
            let map = TensorMap { data_type, box_sizes: vec![16, 256, 1, 2, 3], fill_nan: false, ..plain() };
            assert_eq!(TensorMap::decode(&map.encode().unwrap()), Some(map), "{data_type:?}");
            // Floating types, and no others, are filled with NaN.
            let map = TensorMap { data_type, box_sizes: vec![16, 256, 1, 2, 3], ..plain() };
            let is_float = !format!("{data_type:?}").starts_with(['U', 'S']);
            assert_eq!(map.encode().is_ok(), is_float, "{data_type:?}");
        }
    }
}
