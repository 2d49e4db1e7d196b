//! `cvt`: fast handlers for the common pairs, and one general handler for every other.

use super::lanes::{Value, ops};
use super::real::{F32, F64, flush};
use super::{Cx, Flow, Handler, Instr, LANES, lanes_of};
use crate::numeric::eight::{e4m3_to_f32, e5m2_to_f32, to_e4m3, to_e5m2};
use crate::numeric::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::numeric::round::{self, Round};
use crate::syntax::types::Type;

/// An integer as another: through 64 bits.
pub(crate) trait Extend: Value {
    fn extend(self) -> u64;
}
macro_rules! extend {
    ($($t:ty)*) => {$(
        impl Extend for $t {
            #[inline(always)]
            fn extend(self) -> u64 { self as i64 as u64 }
        }
    )*};
}
extend!(u8 i8 u16 i16 u32 i32 u64 i64);

ops! {
    /// Sign- or zero-extension to 64 bits.
    To64<T: Extend> = |a: T| -> u64 { a.extend() }
    /// Sign- or zero-extension to 32 bits.
    To32<T: Extend> = |a: T| -> u32 { a.extend() as u32 }
    /// Sign- or zero-extension to 16 bits.
    To16<T: Extend> = |a: T| -> u16 { a.extend() as u16 }
    /// Sign- or zero-extension to 8 bits.
    To8<T: Extend> = |a: T| -> u8 { a.extend() as u8 }
    /// `cvt.rn.f32.s32`.
    F32FromS32 = |a: i32| -> F32<false> { F32(a as f32) }
    /// `cvt.rn.f32.u32`.
    F32FromU32 = |a: u32| -> F32<false> { F32(a as f32) }
    /// `cvt.rn.f64.s32`.
    F64FromS32 = |a: i32| -> F64 { F64(f64::from(a)) }
    /// `cvt.rn.f64.u32`.
    F64FromU32 = |a: u32| -> F64 { F64(f64::from(a)) }
    /// `cvt.f64.f32`.
    F64FromF32 = |a: F32<false>| -> F64 { F64(f64::from(a.0)) }
    /// `cvt.rn.f32.f64`.
    F32FromF64 = |a: F64| -> F32<false> { F32(a.0 as f32) }
    /// `cvt.rzi.s32.f32`.
    S32FromF32Zero = |a: F32<false>| -> i32 { a.0 as i32 }
    /// `cvt.rzi.u32.f32`.
    U32FromF32Zero = |a: F32<false>| -> u32 { a.0 as u32 }
    /// `cvt.f32.f16`.
    F32FromF16 = |a: u32| -> F32<false> { F32(f16_to_f32(a & 0xffff)) }
    /// `cvt.f32.bf16`.
    F32FromBF16 = |a: u32| -> F32<false> { F32(bf16_to_f32(a & 0xffff)) }
    /// `cvt.rn.f16.f32`.
    F16FromF32 = |a: u32| -> u32 { f32_to_f16(f32::from_bits(a)) }
    /// `cvt.rn.bf16.f32`.
    BF16FromF32 = |a: u32| -> u32 { f32_to_bf16(f32::from_bits(a)) }
    /// `cvt.rna.tf32.f32`: 10 bits of fraction, ties away.
    Tf32Away = |a: u32| -> u32 { if a & 0x7fff_ffff > 0x7f80_0000 { 0x7fff_ffff } else if a & 0x7f80_0000 == 0x7f80_0000 { a } else { (a + 0x1000) & !0x1fff } }
    /// `cvt.rn.tf32.f32`.
    Tf32Nearest = |a: u32| -> u32 { if a & 0x7fff_ffff > 0x7f80_0000 { 0x7fff_ffff } else if a & 0x7f80_0000 == 0x7f80_0000 { a } else { (a + 0xfff + (a >> 13 & 1)) & !0x1fff } }
    /// `cvt.rz.tf32.f32`.
    Tf32Zero = |a: u32| -> u32 { if a & 0x7fff_ffff > 0x7f80_0000 { 0x7fff_ffff } else { a & !0x1fff } }
    /// `.satfinite` of a tf32: infinity becomes the largest number.
    Tf32Finite = |a: u32| -> u32 { if a & 0x7fff_ffff == 0x7f80_0000 { a & 0x8000_0000 | 0x7f7f_e000 } else { a } }
    /// The upper half of a pair of f16, as an f32.
    UpperF16 = |a: u32| -> F32<false> { F32(f16_to_f32(a >> 16)) }
    /// The upper half of a pair of bf16, as an f32.
    UpperBF16 = |a: u32| -> F32<false> { F32(bf16_to_f32(a >> 16)) }
    /// Negative numbers become 0; NaN stays.
    ReluF32 = |a: F32<false>| -> F32<false> { F32(if a.0 < 0.0 || a.0.to_bits() == 1 << 31 { 0.0 } else { a.0 }) }
    /// `cvt.rn.f16x2.e4m3x2`.
    F16x2FromE4m3x2 = |a: u32| -> u32 { f32_to_f16(e4m3_to_f32(a >> 8 & 0xff)) << 16 | f32_to_f16(e4m3_to_f32(a & 0xff)) }
    /// `cvt.rn.f16x2.e5m2x2`.
    F16x2FromE5m2x2 = |a: u32| -> u32 { f32_to_f16(e5m2_to_f32(a >> 8 & 0xff)) << 16 | f32_to_f16(e5m2_to_f32(a & 0xff)) }
}
ops! {
    /// `cvt.rn.f16x2.f32 d, a, b`: a becomes the upper half.
    F16x2FromF32 = |a: u32, b: u32| -> u32 { f32_to_f16(f32::from_bits(a)) << 16 | f32_to_f16(f32::from_bits(b)) }
    /// `cvt.rn.bf16x2.f32 d, a, b`.
    BF16x2FromF32 = |a: u32, b: u32| -> u32 { f32_to_bf16(f32::from_bits(a)) << 16 | f32_to_bf16(f32::from_bits(b)) }
    /// `cvt.rn.satfinite.e4m3x2.f32 d, a, b`.
    E4m3x2FromF32 slow true = |a: F32<false>, b: F32<false>| -> u16 { (to_e4m3(a.0.into()) << 8 | to_e4m3(b.0.into())) as u16 }
    /// `cvt.rn.satfinite.e5m2x2.f32 d, a, b`.
    E5m2x2FromF32 slow true = |a: F32<false>, b: F32<false>| -> u16 { (to_e5m2(a.0.into()) << 8 | to_e5m2(b.0.into())) as u16 }
    /// Two halves of one register, the first upper.
    Halves = |a: u16, b: u16| -> u32 { u32::from(a) << 16 | u32::from(b) }
}

/// `cvt.pack`: `a` and `b`, cut to the range of an integer type of `n` bits, signed with bit 0 of `e`, lie in the lower bits of `d`, `b`
/// first, and the lower bits of `c` above them.
pub(crate) struct SaturateAndPack;

impl Handler for SaturateAndPack {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let (bits, mask) = (i.n, (1u32 << i.n) - 1);
        let (least, most) =
            if i.e & 1 != 0 { (-1 << (bits - 1), mask as i32 >> 1) } else { (0, mask as i32) };
        let mut out = [0; LANES];
        // SAFETY: the decoder gave 32-bit registers.
        unsafe {
            let (a, b, c) = (cx.lanes::<i32>(i.a), cx.lanes::<i32>(i.b), cx.lanes::<u32>(i.c));
            for (l, out) in out.iter_mut().enumerate() {
                let [a, b] = [a[l], b[l]].map(|x| x.clamp(least, most) as u32 & mask);
                *out = b | a << bits | (u64::from(c[l]) << (2 * bits)) as u32;
            }
            cx.set_lanes(i.d, m, &out);
        }
        Flow::Next
    }
}

/// All that a conversion can be asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conversion {
    pub from: Type,
    pub to: Type,
    pub round: Round,
    /// Round to an integral value (`.rni` and so on), float to float too.
    pub integral: bool,
    pub ftz: bool,
    pub sat: bool,
    pub relu: bool,
    /// `.satfinite`.
    pub finite: bool,
}

const TYPES: [Type; 12] = [
    Type::U8,
    Type::S8,
    Type::U16,
    Type::S16,
    Type::U32,
    Type::S32,
    Type::U64,
    Type::S64,
    Type::F16,
    Type::BF16,
    Type::F32,
    Type::F64,
];

impl Conversion {
    pub(crate) fn encode(&self) -> i64 {
        let index = |t: Type| TYPES.iter().position(|&x| x == t).unwrap_or(0) as i64;
        let flags = [self.integral, self.ftz, self.sat, self.relu, self.finite];
        let flags: i64 = flags.iter().enumerate().map(|(k, &f)| i64::from(f) << k).sum();
        index(self.from) | index(self.to) << 8 | (self.round as i64) << 16 | flags << 24
    }

    fn decode(code: i64) -> Conversion {
        let flag = |k: u32| code >> (24 + k) & 1 != 0;
        let round =
            [Round::Nearest, Round::Zero, Round::Down, Round::Up, Round::Away][(code >> 16 & 7) as usize];
        Conversion {
            from: TYPES[(code & 15) as usize],
            to: TYPES[(code >> 8 & 15) as usize],
            round,
            integral: flag(0),
            ftz: flag(1),
            sat: flag(2),
            relu: flag(3),
            finite: flag(4),
        }
    }

    /// One value, in and out as bits.
    pub(crate) fn apply(&self, bits: u64) -> u64 {
        if self.from.is_float() {
            let mut x = match self.from {
                Type::F16 => f64::from(f16_to_f32(bits as u32 & 0xffff)),
                Type::BF16 => f64::from(bf16_to_f32(bits as u32 & 0xffff)),
                Type::F32 => f64::from(if self.ftz {
                    flush(f32::from_bits(bits as u32))
                } else {
                    f32::from_bits(bits as u32)
                }),
                _ => f64::from_bits(bits),
            };
            if self.integral || !self.to.is_float() {
                x = round::integral(x, self.round);
            }
            return if self.to.is_float() { self.float_result(x) } else { self.float_to_int(x) };
        }
        let x = match self.from {
            Type::U8 => i128::from(bits as u8),
            Type::S8 => i128::from(bits as i8),
            Type::U16 => i128::from(bits as u16),
            Type::S16 => i128::from(bits as i16),
            Type::U32 => i128::from(bits as u32),
            Type::S32 => i128::from(bits as i32),
            Type::U64 => i128::from(bits),
            _ => i128::from(bits as i64),
        };
        match self.to {
            Type::F64 => round::int_to_f64(x, self.round).to_bits(),
            _ if self.to.is_float() => self.float_result(round::int_to_f64_odd(x)),
            _ => self.int_result(x),
        }
    }

    fn int_result(&self, x: i128) -> u64 {
        let bits = self.to.bits();
        let (low, high) = if self.to.is_signed() {
            (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
        } else {
            (0, (1i128 << bits) - 1)
        };
        let x = if self.sat { x.clamp(low, high) } else { x };
        x as u64 & if bits == 64 { !0 } else { (1 << bits) - 1 }
    }

    /// Always saturates. NaN gives 0 among types of at most 32 bits, else the top bit.
    fn float_to_int(&self, x: f64) -> u64 {
        let bits = self.to.bits();
        if x.is_nan() {
            return if self.from == Type::F64 || bits == 64 { 1u64 << (bits - 1) } else { 0 };
        }
        let saturating = Conversion { sat: true, ..*self };
        saturating.int_result(x as i128)
    }

    fn float_result(&self, mut x: f64) -> u64 {
        if self.sat {
            x = if x > 0.0 { x.min(1.0) } else { 0.0 };
        }
        if self.relu && x <= 0.0 {
            x = 0.0;
        }
        match self.to {
            Type::F64 => x.to_bits(),
            Type::F32 => {
                let y = round::narrow(x, self.round);
                let y = if self.ftz { flush(y) } else { y };
                if y.is_nan() { 0x7fff_ffff } else { u64::from(y.to_bits()) }
            }
            _ => {
                let (exponent_bits, max) =
                    if self.to == Type::F16 { (5, 65504.0) } else { (8, f64::from(bf16_to_f32(0x7f7f))) };
                if self.finite && x.abs() > max {
                    x = max.copysign(x);
                }
                u64::from(narrow16(x, exponent_bits, self.round))
            }
        }
    }
}

/// f64 to a 16-bit format in any mode: the two neighbours are found by truncation, then one of them is taken.
fn narrow16(x: f64, exponent_bits: u32, mode: Round) -> u32 {
    let is_f16 = exponent_bits == 5;
    let widen = |h: u32| f64::from(if is_f16 { f16_to_f32(h) } else { bf16_to_f32(h) });
    let nearest =
        if is_f16 { crate::numeric::half::f64_to_f16(x) } else { crate::numeric::half::f64_to_bf16(x) };
    let back = widen(nearest);
    if x.is_nan() || mode == Round::Nearest || back == x {
        return nearest;
    }
    let sign = if x.is_sign_negative() { 0x8000 } else { 0 };
    let magnitude = nearest & 0x7fff;
    let inward = if back.abs() > x.abs() { magnitude - 1 } else { magnitude };
    let outward = |up: bool| if up == (sign == 0) { inward + 1 } else { inward };
    sign | match mode {
        Round::Zero => inward,
        Round::Up => outward(true),
        Round::Down => outward(false),
        _ => {
            let middle = (widen(inward) + widen(inward + 1)) / 2.0;
            if x.abs() >= middle { inward + 1 } else { inward }
        }
    }
}

/// Any conversion: `imm` is the encoded [`Conversion`]; `e` bit 0: 64-bit source, bit 1: 64-bit target.
pub(crate) struct Convert;

impl Handler for Convert {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let conversion = Conversion::decode(i.imm);
        let mut out = [0u64; LANES];
        // SAFETY: the decoder gave registers of the stated widths.
        unsafe {
            for l in lanes_of(m) {
                let bits =
                    if i.e & 1 != 0 { cx.lanes::<u64>(i.a)[l] } else { u64::from(cx.lanes::<u32>(i.a)[l]) };
                out[l] = conversion.apply(bits);
            }
            if i.e & 2 != 0 {
                cx.set_lanes(i.d, m, &out);
            } else {
                cx.set_lanes(i.d, m, &out.map(|x| x as u32));
            }
        }
        Flow::Next
    }
}
