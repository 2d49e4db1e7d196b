//! The bits of values that rows of instruction tests begin from.

/// -1 of 32 and of 64 bits, and the sign of 64.
pub const M1: u64 = 0xffff_ffff;
pub const MM1: u64 = u64::MAX;
pub const TOP: u64 = 1 << 63;
/// In f32.
pub const ONE: u64 = 0x3f80_0000;
pub const TWO: u64 = 0x4000_0000;
pub const INF: u64 = 0x7f80_0000;
/// In f64: 1, 2, 3, and the NaN of no sign or payload.
pub const D1: u64 = 0x3ff0_0000_0000_0000;
pub const D2: u64 = 0x4000_0000_0000_0000;
pub const D3: u64 = 0x4008_0000_0000_0000;
pub const DNAN: u64 = 0x7ff8_0000_0000_0000;
