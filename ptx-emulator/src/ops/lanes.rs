//! Lane values and the element-wise handlers: one function of 1, 2 or 3 values becomes a handler for 32 lanes.

use super::{Cx, Flow, Handler, Instr, LANES, lanes_of};
use std::marker::PhantomData;

/// A value as an instruction sees it, kept in a register of `Reg` (u32 for all of at most 32 bits, or u64).
pub(crate) trait Value: Copy {
    type Reg: Copy;
    const ZERO: Self::Reg;
    fn load(r: Self::Reg) -> Self;
    fn store(self) -> Self::Reg;
}

macro_rules! int_value {
    ($($ty:ty: $reg:ty, $unsigned:ty;)*) => {$(
        impl Value for $ty {
            type Reg = $reg;
            const ZERO: $reg = 0;
            #[inline(always)]
            fn load(r: $reg) -> $ty {
                r as $ty
            }
            #[inline(always)]
            fn store(self) -> $reg {
                self as $unsigned as $reg
            }
        }
    )*};
}
int_value! { u8: u32, u8; i8: u32, u8; u16: u32, u16; i16: u32, u16; u32: u32, u32; i32: u32, u32; u64: u64, u64; i64: u64, u64; }

/// A function of one value.
pub(crate) trait Map1 {
    type A: Value;
    type D: Value;
    /// True for functions too long to compute for lanes that do not want them.
    const SLOW: bool = false;
    fn f(a: Self::A) -> Self::D;
}

/// A function of two values.
pub(crate) trait Map2 {
    type A: Value;
    type B: Value;
    type D: Value;
    const SLOW: bool = false;
    fn f(a: Self::A, b: Self::B) -> Self::D;
}

/// A function of three values.
pub(crate) trait Map3 {
    type A: Value;
    type B: Value;
    type C: Value;
    type D: Value;
    const SLOW: bool = false;
    fn f(a: Self::A, b: Self::B, c: Self::C) -> Self::D;
}

/// Handler of a `Map1`.
pub(crate) struct M1<O>(PhantomData<O>);
/// Handler of a `Map2`.
pub(crate) struct M2<O>(PhantomData<O>);
/// Handler of a `Map3`.
pub(crate) struct M3<O>(PhantomData<O>);

impl<O: Map1> Handler for M1<O> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let mut out = [<O::D as Value>::ZERO; LANES];
        // SAFETY: the decoder gave registers of these widths.
        unsafe {
            let a = cx.lanes::<<O::A as Value>::Reg>(i.a);
            if O::SLOW {
                for l in lanes_of(m) {
                    out[l] = O::f(O::A::load(a[l])).store();
                }
            } else {
                for l in 0..LANES {
                    out[l] = O::f(O::A::load(a[l])).store();
                }
            }
            cx.set_lanes(i.d, m, &out);
        }
        Flow::Next
    }
}

impl<O: Map2> Handler for M2<O> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let mut out = [<O::D as Value>::ZERO; LANES];
        // SAFETY: the decoder gave registers of these widths.
        unsafe {
            let a = cx.lanes::<<O::A as Value>::Reg>(i.a);
            let b = cx.lanes::<<O::B as Value>::Reg>(i.b);
            if O::SLOW {
                for l in lanes_of(m) {
                    out[l] = O::f(O::A::load(a[l]), O::B::load(b[l])).store();
                }
            } else {
                for l in 0..LANES {
                    out[l] = O::f(O::A::load(a[l]), O::B::load(b[l])).store();
                }
            }
            cx.set_lanes(i.d, m, &out);
        }
        Flow::Next
    }
}

impl<O: Map3> Handler for M3<O> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let mut out = [<O::D as Value>::ZERO; LANES];
        // SAFETY: the decoder gave registers of these widths.
        unsafe {
            let a = cx.lanes::<<O::A as Value>::Reg>(i.a);
            let b = cx.lanes::<<O::B as Value>::Reg>(i.b);
            let c = cx.lanes::<<O::C as Value>::Reg>(i.c);
            if O::SLOW {
                for l in lanes_of(m) {
                    out[l] = O::f(O::A::load(a[l]), O::B::load(b[l]), O::C::load(c[l])).store();
                }
            } else {
                for l in 0..LANES {
                    out[l] = O::f(O::A::load(a[l]), O::B::load(b[l]), O::C::load(c[l])).store();
                }
            }
            cx.set_lanes(i.d, m, &out);
        }
        Flow::Next
    }
}

/// Declares element-wise operations: `Name(T: Bound) [slow] = |a: A, b: B| -> D { body };`.
macro_rules! ops {
    ($($(#[$meta:meta])* $name:ident $(<$t:ident: $bound:path $(, const $k:ident: $kt:ty)?>)? $(slow $slow:literal)? = |$a:ident: $ta:ty| -> $d:ty $body:block)*) => {$(
        $(#[$meta])*
        pub(crate) struct $name $(<$t $(, const $k: $kt)?>(std::marker::PhantomData<$t>))?;
        impl $(<$t: $bound $(, const $k: $kt)?>)? $crate::ops::lanes::Map1 for $name $(<$t $(, $k)?>)? {
            type A = $ta;
            type D = $d;
            $(const SLOW: bool = $slow;)?
            #[inline(always)]
            fn f($a: $ta) -> $d $body
        }
    )*};
    ($($(#[$meta:meta])* $name:ident $(<$t:ident: $bound:path $(, const $k:ident: $kt:ty)?>)? $(slow $slow:literal)? = |$a:ident: $ta:ty, $b:ident: $tb:ty| -> $d:ty $body:block)*) => {$(
        $(#[$meta])*
        pub(crate) struct $name $(<$t $(, const $k: $kt)?>(std::marker::PhantomData<$t>))?;
        impl $(<$t: $bound $(, const $k: $kt)?>)? $crate::ops::lanes::Map2 for $name $(<$t $(, $k)?>)? {
            type A = $ta;
            type B = $tb;
            type D = $d;
            $(const SLOW: bool = $slow;)?
            #[inline(always)]
            fn f($a: $ta, $b: $tb) -> $d $body
        }
    )*};
    ($($(#[$meta:meta])* $name:ident $(<$t:ident: $bound:path $(, const $k:ident: $kt:ty)?>)? $(slow $slow:literal)? = |$a:ident: $ta:ty, $b:ident: $tb:ty, $c:ident: $tc:ty| -> $d:ty $body:block)*) => {$(
        $(#[$meta])*
        pub(crate) struct $name $(<$t $(, const $k: $kt)?>(std::marker::PhantomData<$t>))?;
        impl $(<$t: $bound $(, const $k: $kt)?>)? $crate::ops::lanes::Map3 for $name $(<$t $(, $k)?>)? {
            type A = $ta;
            type B = $tb;
            type C = $tc;
            type D = $d;
            $(const SLOW: bool = $slow;)?
            #[inline(always)]
            fn f($a: $ta, $b: $tb, $c: $tc) -> $d $body
        }
    )*};
}
pub(crate) use ops;
