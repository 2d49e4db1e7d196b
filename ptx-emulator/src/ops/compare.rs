//! `setp` and its kin: comparisons into predicates.

use super::lanes::Value;
use super::real::{BF16, F16, F32, F64};
use super::{Cx, Flow, Handler, Instr, LANES};
use std::marker::PhantomData;

/// Comparison codes in `Instr::n` (low 4 bits); the upper bits say how the result combines with a predicate.
pub(crate) const COMPARISONS: [&str; 14] =
    ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];

/// How a comparison's result combines with the predicate `c`: bits 4 and 5 of `n`.
pub(crate) const COMBINE_NONE: u32 = 0;
pub(crate) const COMBINE_AND: u32 = 1 << 4;
pub(crate) const COMBINE_OR: u32 = 2 << 4;
pub(crate) const COMBINE_XOR: u32 = 3 << 4;
/// The predicate `c` is taken negated.
pub(crate) const COMBINE_NOT: u32 = 1 << 6;
/// `e` is a second target for the complement.
pub(crate) const SECOND_TARGET: u32 = 1 << 7;

/// What can be compared. Integers are never unordered.
pub(crate) trait Ordered: Value {
    fn lt(self, o: Self) -> bool;
    fn eq(self, o: Self) -> bool;
    fn nan(self) -> bool;
}

macro_rules! ordered_int {
    ($($t:ty)*) => {$(
        impl Ordered for $t {
            #[inline(always)]
            fn lt(self, o: Self) -> bool { self < o }
            #[inline(always)]
            fn eq(self, o: Self) -> bool { self == o }
            #[inline(always)]
            fn nan(self) -> bool { false }
        }
    )*};
}
ordered_int!(u16 i16 u32 i32 u64 i64);

macro_rules! ordered_float {
    ($($impl:tt)*) => {
        $($impl)* {
            #[inline(always)]
            fn lt(self, o: Self) -> bool { self.0 < o.0 }
            #[inline(always)]
            fn eq(self, o: Self) -> bool { self.0 == o.0 }
            #[inline(always)]
            fn nan(self) -> bool { self.0.is_nan() }
        }
    };
}
ordered_float!(impl<const FTZ: bool> Ordered for F32<FTZ>);
ordered_float!(impl<const FTZ: bool> Ordered for F16<FTZ>);
ordered_float!(impl Ordered for BF16);
ordered_float!(impl Ordered for F64);

#[inline(always)]
fn mask_of<T: Ordered>(a: &[T::Reg; LANES], b: &[T::Reg; LANES], f: impl Fn(T, T) -> bool) -> u32 {
    let mut m = 0u32;
    for l in 0..LANES {
        m |= u32::from(f(T::load(a[l]), T::load(b[l]))) << l;
    }
    m
}

#[inline(always)]
fn compare<T: Ordered>(code: u32, a: &[T::Reg; LANES], b: &[T::Reg; LANES]) -> u32 {
    match code {
        0 => mask_of::<T>(a, b, |a, b| a.eq(b)),
        1 => mask_of::<T>(a, b, |a, b| !a.eq(b) && !a.nan() && !b.nan()),
        2 => mask_of::<T>(a, b, |a, b| a.lt(b)),
        3 => mask_of::<T>(a, b, |a, b| a.lt(b) || a.eq(b)),
        4 => mask_of::<T>(a, b, |a, b| b.lt(a)),
        5 => mask_of::<T>(a, b, |a, b| b.lt(a) || a.eq(b)),
        6 => mask_of::<T>(a, b, |a, b| a.eq(b) || a.nan() || b.nan()),
        7 => mask_of::<T>(a, b, |a, b| !a.eq(b)),
        8 => mask_of::<T>(a, b, |a, b| a.lt(b) || a.nan() || b.nan()),
        9 => mask_of::<T>(a, b, |a, b| a.lt(b) || a.eq(b) || a.nan() || b.nan()),
        10 => mask_of::<T>(a, b, |a, b| b.lt(a) || a.nan() || b.nan()),
        11 => mask_of::<T>(a, b, |a, b| b.lt(a) || a.eq(b) || a.nan() || b.nan()),
        12 => mask_of::<T>(a, b, |a, b| !a.nan() && !b.nan()),
        _ => mask_of::<T>(a, b, |a, b| a.nan() || b.nan()),
    }
}

/// # Safety
/// `i.c`, `i.d` and `i.e` must be predicates where the flags in `i.n` use them.
#[inline(always)]
unsafe fn put(cx: &mut Cx, i: &Instr, m: u32, result: u32) {
    // SAFETY: by contract.
    unsafe {
        let other =
            if i.n & 0x30 == 0 { 0 } else { cx.pred(i.c) ^ if i.n & COMBINE_NOT != 0 { !0 } else { 0 } };
        let combine = |r: u32| match i.n & 0x30 {
            COMBINE_AND => r & other,
            COMBINE_OR => r | other,
            COMBINE_XOR => r ^ other,
            _ => r,
        };
        if i.n & SECOND_TARGET != 0 {
            cx.set_pred(i.e, m, combine(!result));
        }
        cx.set_pred(i.d, m, combine(result));
    }
}

/// `setp` of a type.
pub(crate) struct Setp<T>(PhantomData<T>);

impl<T: Ordered> Handler for Setp<T> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: the decoder gave registers of T's width and predicates.
        unsafe {
            let result = compare::<T>(i.n & 15, cx.lanes::<T::Reg>(i.a), cx.lanes::<T::Reg>(i.b));
            put(cx, i, m, result);
        }
        Flow::Next
    }
}

/// `setp` of packed pairs: the first target is for the low half, the second for the high one.
pub(crate) struct SetpPair<T>(PhantomData<T>);

impl<T: Ordered + Value<Reg = u32>> Handler for SetpPair<T> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: the decoder gave 32-bit registers and predicates.
        unsafe {
            let (a, b) = (*cx.lanes::<u32>(i.a), *cx.lanes::<u32>(i.b));
            let low = compare::<T>(i.n & 15, &a.map(|x| x & 0xffff), &b.map(|x| x & 0xffff));
            let high = compare::<T>(i.n & 15, &a.map(|x| x >> 16), &b.map(|x| x >> 16));
            let one = Instr { n: i.n & !SECOND_TARGET, ..*i };
            put(cx, &one, m, low);
            if i.n & SECOND_TARGET != 0 {
                put(cx, &Instr { d: i.e, ..one }, m, high);
            }
        }
        Flow::Next
    }
}

/// `testp`: `n` is finite, infinite, number, notanumber, normal, subnormal; 64 bits if `e`.
pub(crate) struct Testp;

impl Handler for Testp {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        // SAFETY: the decoder gave a register of the stated width and a predicate.
        unsafe {
            let mut result = 0;
            for l in 0..LANES {
                // Classes are of the operand's own format.
                let class = if i.e != 0 {
                    f64::from_bits(cx.lanes::<u64>(i.a)[l]).classify()
                } else {
                    f32::from_bits(cx.lanes::<u32>(i.a)[l]).classify()
                };
                use std::num::FpCategory::*;
                let holds = match i.n {
                    0 => !matches!(class, Nan | Infinite),
                    1 => class == Infinite,
                    2 => class != Nan,
                    3 => class == Nan,
                    4 => class == Normal,
                    _ => class == Subnormal,
                };
                result |= u32::from(holds) << l;
            }
            cx.set_pred(i.d, m, result);
        }
        Flow::Next
    }
}
