//! Integer arithmetic and logic.

use super::lanes::{Value, ops};
use super::{Cx, Flow, Handler, Instr, LANES};
use std::marker::PhantomData;

/// What integer instructions need of a type.
pub(crate) trait Int: Value + Ord {
    const BITS: u32;
    /// The type of twice the width, for `.wide`.
    type Wide: Value;
    fn from_bits64(x: u64) -> Self;
    /// Sign- or zero-extended.
    fn extended(self) -> u64;
    fn add(self, o: Self) -> Self;
    fn sub(self, o: Self) -> Self;
    fn mul_lo(self, o: Self) -> Self;
    fn mul_hi(self, o: Self) -> Self;
    fn mul_wide(self, o: Self) -> Self::Wide;
    fn wide_add(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    fn div(self, o: Self) -> Self;
    fn rem(self, o: Self) -> Self;
    fn add_sat(self, o: Self) -> Self;
    fn sub_sat(self, o: Self) -> Self;
    fn abs(self) -> Self;
    fn neg(self) -> Self;
    fn shr(self, by: u32) -> Self;
    fn zero() -> Self;
    /// Sum or difference with carry or borrow in and out.
    fn add_carry(self, o: Self, carry: bool) -> (Self, bool);
    fn sub_borrow(self, o: Self, borrow: bool) -> (Self, bool);
}

macro_rules! int {
    ($($t:ty, $u:ty, $wide:ty, $double:ty;)*) => {$(
        impl Int for $t {
            const BITS: u32 = <$t>::BITS;
            type Wide = $wide;
            #[inline(always)]
            fn from_bits64(x: u64) -> Self { x as $t }
            #[inline(always)]
            fn extended(self) -> u64 { self as i64 as u64 & (if <$t>::MIN == 0 { <$u>::MAX as u64 } else { u64::MAX }) }
            #[inline(always)]
            fn add(self, o: Self) -> Self { self.wrapping_add(o) }
            #[inline(always)]
            fn sub(self, o: Self) -> Self { self.wrapping_sub(o) }
            #[inline(always)]
            fn mul_lo(self, o: Self) -> Self { self.wrapping_mul(o) }
            #[inline(always)]
            fn mul_hi(self, o: Self) -> Self { ((self as $double).wrapping_mul(o as $double) >> Self::BITS) as $t }
            #[inline(always)]
            fn mul_wide(self, o: Self) -> $wide { (self as $wide).wrapping_mul(o as $wide) }
            #[inline(always)]
            fn wide_add(a: $wide, b: $wide) -> $wide { a.wrapping_add(b) }
            #[inline(always)]
            fn div(self, o: Self) -> Self { if o == 0 { !0 } else { self.wrapping_div(o) } }
            #[inline(always)]
            fn rem(self, o: Self) -> Self { if o == 0 { self } else { self.wrapping_rem(o) } }
            #[inline(always)]
            fn add_sat(self, o: Self) -> Self { self.saturating_add(o) }
            #[inline(always)]
            fn sub_sat(self, o: Self) -> Self { self.saturating_sub(o) }
            #[inline(always)]
            fn abs(self) -> Self { if <$t>::MIN != 0 && self < (0 as $t) { (0 as $t).wrapping_sub(self) } else { self } }
            #[inline(always)]
            fn neg(self) -> Self { (0 as $t).wrapping_sub(self) }
            #[inline(always)]
            fn shr(self, by: u32) -> Self {
                if by < Self::BITS { self >> by } else if <$t>::MIN != 0 { self >> (Self::BITS - 1) } else { 0 }
            }
            #[inline(always)]
            fn zero() -> Self { 0 }
            #[inline(always)]
            fn add_carry(self, o: Self, carry: bool) -> (Self, bool) {
                let (sum, first) = (self as $u).overflowing_add(o as $u);
                let (sum, second) = sum.overflowing_add(carry as $u);
                (sum as $t, first | second)
            }
            #[inline(always)]
            fn sub_borrow(self, o: Self, borrow: bool) -> (Self, bool) {
                let (rest, first) = (self as $u).overflowing_sub(o as $u);
                let (rest, second) = rest.overflowing_sub(borrow as $u);
                (rest as $t, first | second)
            }
        }
    )*};
}
int! {
    u16, u16, u32, u32; i16, u16, i32, i32;
    u32, u32, u64, u64; i32, u32, i64, i64;
    u64, u64, u64, u128; i64, u64, i64, i128;
}

ops! {
    /// `abs`.
    Abs<T: Int> = |a: T| -> T { a.abs() }
    /// `neg`.
    Neg<T: Int> = |a: T| -> T { a.neg() }
    /// `not` of 32 bits at most.
    Not32<T: Int> = |a: T| -> T { T::from_bits64(!a.extended()) }
    /// `cnot`.
    CNot<T: Int> = |a: T| -> T { T::from_bits64(u64::from(a == T::zero())) }
    /// A copy.
    Copy<T: Value> = |a: T| -> T { a }
    /// Sign- or zero-extension of a narrow register to 64 bits.
    Widen<T: Int> = |a: T| -> u64 { a.extended() }
    /// Sign-extension of a 16-bit value within a 32-bit register.
    Extend16 = |a: i16| -> i32 { i32::from(a) }
    /// Sign-extension of an 8-bit value within a 32-bit register.
    Extend8 = |a: i8| -> i32 { i32::from(a) }
    /// The low half of a 64-bit register.
    Narrow = |a: u64| -> u32 { a as u32 }
    /// The low 16 bits of a register.
    Keep16 = |a: u16| -> u16 { a }
}
ops! {
    /// `add`.
    Add<T: Int> = |a: T, b: T| -> T { a.add(b) }
    /// `sub`.
    Sub<T: Int> = |a: T, b: T| -> T { a.sub(b) }
    /// `add.sat`.
    AddSat<T: Int> = |a: T, b: T| -> T { a.add_sat(b) }
    /// `sub.sat`.
    SubSat<T: Int> = |a: T, b: T| -> T { a.sub_sat(b) }
    /// `mul.lo`.
    MulLo<T: Int> = |a: T, b: T| -> T { a.mul_lo(b) }
    /// `mul.hi`.
    MulHi<T: Int> = |a: T, b: T| -> T { a.mul_hi(b) }
    /// `mul.wide`.
    MulWide<T: Int> = |a: T, b: T| -> T::Wide { a.mul_wide(b) }
    /// `div`: a zero divisor gives all ones, as the hardware does.
    Div<T: Int> slow true = |a: T, b: T| -> T { a.div(b) }
    /// `rem`: a zero divisor gives the dividend.
    Rem<T: Int> slow true = |a: T, b: T| -> T { a.rem(b) }
    /// `min`.
    Min<T: Int> = |a: T, b: T| -> T { if b < a { b } else { a } }
    /// `max`.
    Max<T: Int> = |a: T, b: T| -> T { if b > a { b } else { a } }
    /// `min.relu`, `max.relu`.
    Relu<T: Int> = |a: T, _b: T| -> T { if a < T::zero() { T::zero() } else { a } }
    /// `and` and its like keep the upper bits of a narrow register zero by themselves.
    And32 = |a: u32, b: u32| -> u32 { a & b }
    /// `or`.
    Or32 = |a: u32, b: u32| -> u32 { a | b }
    /// `xor`.
    Xor32 = |a: u32, b: u32| -> u32 { a ^ b }
    /// `and.b64`.
    And64 = |a: u64, b: u64| -> u64 { a & b }
    /// `or.b64`.
    Or64 = |a: u64, b: u64| -> u64 { a | b }
    /// `xor.b64`.
    Xor64 = |a: u64, b: u64| -> u64 { a ^ b }
    /// `shl`: amounts above the width give 0.
    Shl<T: Int> = |a: T, b: u32| -> T { if b < T::BITS { T::from_bits64(a.extended() << (b & 63)) } else { T::zero() } }
    /// `shr`: amounts above the width give 0 or the sign.
    Shr<T: Int> = |a: T, b: u32| -> T { a.shr(b) }
    /// `mul24.lo`.
    Mul24Lo<T: Int24> = |a: T, b: T| -> T { T::of((a.low24() * b.low24()) as u64) }
    /// `mul24.hi`: bits 16 to 47 of the product.
    Mul24Hi<T: Int24> = |a: T, b: T| -> T { T::of(((a.low24() * b.low24()) >> 16) as u64) }
}
ops! {
    /// `mad.lo`.
    MadLo<T: Int> = |a: T, b: T, c: T| -> T { a.mul_lo(b).add(c) }
    /// `mad.hi`.
    MadHi<T: Int> = |a: T, b: T, c: T| -> T { a.mul_hi(b).add(c) }
    /// `mad.hi.sat`.
    MadHiSat<T: Int> = |a: T, b: T, c: T| -> T { a.mul_hi(b).add_sat(c) }
    /// `mad.wide`.
    MadWide<T: Int> = |a: T, b: T, c: T::Wide| -> T::Wide { T::wide_add(a.mul_wide(b), c) }
    /// `sad`.
    Sad<T: Int> = |a: T, b: T, c: T| -> T { c.add(if a < b { b.sub(a) } else { a.sub(b) }) }
    /// `mad24.lo`.
    Mad24Lo<T: Int24> = |a: T, b: T, c: T| -> T { T::of((a.low24() * b.low24()) as u64).add(c) }
    /// `mad24.hi`.
    Mad24Hi<T: Int24> = |a: T, b: T, c: T| -> T { T::of(((a.low24() * b.low24()) >> 16) as u64).add(c) }
    /// `mad24.hi.sat`.
    Mad24HiSat<T: Int24> = |a: T, b: T, c: T| -> T { T::of(((a.low24() * b.low24()) >> 16) as u64).add_sat(c) }
    /// `slct` by an integer.
    Slct32 = |a: u32, b: u32, c: i32| -> u32 { if c >= 0 { a } else { b } }
    /// `slct` of 64 bits by an integer.
    Slct64 = |a: u64, b: u64, c: i32| -> u64 { if c >= 0 { a } else { b } }
    /// `slct` by a float: NaN takes the second.
    SlctF32 = |a: u32, b: u32, c: u32| -> u32 { if f32::from_bits(c) >= 0.0 { a } else { b } }
    /// `slct` of 64 bits by a float.
    SlctF64 = |a: u64, b: u64, c: u32| -> u64 { if f32::from_bits(c) >= 0.0 { a } else { b } }
}

/// Operands of the 24-bit multiplications.
pub(crate) trait Int24: Int {
    fn low24(self) -> i64;
    fn of(x: u64) -> Self;
}
impl Int24 for u32 {
    #[inline(always)]
    fn low24(self) -> i64 {
        i64::from(self & 0xff_ffff)
    }
    #[inline(always)]
    fn of(x: u64) -> u32 {
        x as u32
    }
}
impl Int24 for i32 {
    #[inline(always)]
    fn low24(self) -> i64 {
        i64::from(self << 8 >> 8)
    }
    #[inline(always)]
    fn of(x: u64) -> i32 {
        x as i32
    }
}

/// `add{.cc}`, `addc{.cc}`, `sub{.cc}`, `subc{.cc}`, and the sum of `mad{c}.cc`, by the bits of `n`:
/// 1 takes the carry in, 2 puts it out, 4 subtracts. The carry flag is the predicate `e`.
pub(crate) struct Carry<T>(PhantomData<T>);

impl<T: Int> Handler for Carry<T> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: the decoder gave two registers of T, one for the result, and the carry predicate.
        unsafe {
            let carry = if i.n & 1 != 0 { cx.pred(i.e) } else { 0 };
            let (a, b) = (*cx.lanes::<T::Reg>(i.a), *cx.lanes::<T::Reg>(i.b));
            let mut out = [T::ZERO; LANES];
            let mut flags = 0;
            for l in 0..LANES {
                let (a, b, carry) = (T::load(a[l]), T::load(b[l]), carry >> l & 1 != 0);
                let (value, flag) = if i.n & 4 != 0 { a.sub_borrow(b, carry) } else { a.add_carry(b, carry) };
                out[l] = value.store();
                flags |= u32::from(flag) << l;
            }
            cx.set_lanes(i.d, m, &out);
            if i.n & 2 != 0 {
                cx.set_pred(i.e, m, flags);
            }
        }
        Flow::Next
    }
}
