//! `atom` and `red`: lane after lane, each as one compare-exchange loop on the host.

use super::memory::{GENERIC, GLOBAL, SHARED, addresses, places};
use super::{Cx, Flow, Handler, Instr, LANES, lanes_of};
use crate::memory::{SHARED_WINDOW, WINDOW};
use crate::numeric::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::syntax::types::Type;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Operations of `atom`, in the order of their codes.
pub(crate) const OPERATIONS: [&str; 10] =
    ["add", "min", "max", "inc", "dec", "and", "or", "xor", "exch", "cas"];
/// Types of `atom`, in the order of their codes.
pub(crate) const TYPES: [Type; 14] = [
    Type::U32,
    Type::S32,
    Type::B32,
    Type::U64,
    Type::S64,
    Type::B64,
    Type::F32,
    Type::F64,
    Type::F16,
    Type::BF16,
    Type::F16x2,
    Type::BF16x2,
    Type::B16,
    Type::U16,
];

/// Operation 0.
const ADD: u32 = 0;

/// `d` and sources are listed at `b`: for each of the `n & 0xff` elements target (0 for none), source, comparand; `c` is
/// operation << 8 | type; `e` is the space.
pub(crate) struct Atomic;

impl Handler for Atomic {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let ty = TYPES[(i.c & 0xff) as usize];
        let operation = i.c >> 8;
        let count = u64::from(i.n & 0xff);
        let size = ty.size() * count;
        // SAFETY: the decoder gave an address register and the listed registers of the type's width; `places` checked.
        unsafe {
            let found = match i.e as u8 {
                SHARED => places::<SHARED>(cx, i, m, size, size),
                GLOBAL => places::<GLOBAL>(cx, i, m, size, size),
                _ => places::<GENERIC>(cx, i, m, size, size),
            };
            let Some(places) = found else { return Flow::Fault };
            // In global memory adding f32 has no subnormals (PTX manual, `atom` and `red`).
            let flushes = match i.e as u8 {
                _ if (operation, ty) != (ADD, Type::F32) => 0,
                SHARED => 0,
                GLOBAL => m,
                _ => {
                    let at = addresses(cx, i);
                    let is_global = |l: &usize| at[*l].wrapping_sub(SHARED_WINDOW) >= WINDOW;
                    lanes_of(m).filter(is_global).map(|l| 1 << l).sum()
                }
            };
            for element in 0..count as u32 {
                let list = i.b + 3 * element;
                let (target, source, comparand) = (cx.extra(list), cx.extra(list + 1), cx.extra(list + 2));
                let wide = ty.size() == 8;
                let value = |cx: &Cx, register: u32, l: usize| {
                    if wide { cx.lanes::<u64>(register)[l] } else { u64::from(cx.lanes::<u32>(register)[l]) }
                };
                let mut old = [0u64; LANES];
                for l in lanes_of(m) {
                    let (b, c) = (value(cx, source, l), value(cx, comparand, l));
                    let p = (places[l] + (u64::from(element) * ty.size()) as usize) as *mut u8;
                    old[l] = update(p, ty.size(), |x| {
                        if flushes >> l & 1 != 0 {
                            add_flushed(x, b)
                        } else {
                            combine(operation, ty, x, b, c)
                        }
                    });
                }
                if target != 0 && wide {
                    cx.set_lanes(target, m, &old);
                } else if target != 0 {
                    cx.set_lanes(target, m, &old.map(|x| x as u32));
                }
            }
        }
        Flow::Next
    }
}

/// `atom` of 128 bits: target, source and comparand are listed at `b`, each by its halves, the lower one first; `c` and `e` as above.
pub(crate) struct Atomic128;

/// Few CPUs have such an operation: one of them, or of the strong loads and stores of 128 bits, at a time, each half as an atomic, so
/// that accesses of 64 bits see either value.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

impl Handler for Atomic128 {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let swaps = i.c >> 8 != 8;
        // SAFETY: the decoder gave an address register and listed six of 64 bits; `places` checked.
        unsafe {
            let found = match i.e as u8 {
                SHARED => places::<SHARED>(cx, i, m, 16, 16),
                GLOBAL => places::<GLOBAL>(cx, i, m, 16, 16),
                _ => places::<GENERIC>(cx, i, m, 16, 16),
            };
            let Some(places) = found else { return Flow::Fault };
            let [b, c] = [2, 4].map(|k| [0, 1].map(|half| *cx.lanes::<u64>(cx.extra(i.b + k + half))));
            let mut old = [[0; LANES]; 2];
            let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
            for l in lanes_of(m) {
                let halves = [0, 8].map(|at| &*((places[l] + at) as *const AtomicU64));
                let before = halves.map(|half| half.load(Relaxed));
                let (compared, given) = ([b[0][l], b[1][l]], [c[0][l], c[1][l]]);
                if !swaps || before == compared {
                    for (half, new) in halves.iter().zip(if swaps { given } else { compared }) {
                        half.store(new, Relaxed);
                    }
                }
                (old[0][l], old[1][l]) = (before[0], before[1]);
            }
            drop(guard);
            for (half, old) in (0..).zip(&old) {
                cx.set_lanes(cx.extra(i.b + half), m, old);
            }
        }
        Flow::Next
    }
}

/// A strong load or store of 128 bits, which comes before or after each [`Atomic128`], never within it.
pub(crate) struct Whole<H>(PhantomData<H>);

impl<H: Handler> Handler for Whole<H> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: same contract.
        unsafe { H::exec(cx, i, m) }
    }
}

/// # Safety
/// `p` is valid and aligned for `size` bytes.
#[inline(always)]
pub(crate) unsafe fn update(p: *mut u8, size: u64, f: impl Fn(u64) -> u64) -> u64 {
    // SAFETY: by contract; other threads use atomics too.
    unsafe {
        match size {
            2 => (*(p as *const AtomicU16))
                .fetch_update(Relaxed, Relaxed, |x| Some(f(x.into()) as u16))
                .map_or_else(u64::from, u64::from),
            4 => (*(p as *const AtomicU32))
                .fetch_update(Relaxed, Relaxed, |x| Some(f(x.into()) as u32))
                .map_or_else(u64::from, u64::from),
            _ => (*(p as *const AtomicU64))
                .fetch_update(Relaxed, Relaxed, |x| Some(f(x)))
                .unwrap_or_else(|x| x),
        }
    }
}

#[inline(always)]
pub(crate) fn combine(operation: u32, ty: Type, old: u64, b: u64, c: u64) -> u64 {
    let signed = |x: u64| if ty == Type::S32 { i64::from(x as i32) } else { x as i64 };
    match operation {
        ADD => add(ty, old, b),
        1 if ty.is_signed() => {
            if signed(b) < signed(old) {
                b
            } else {
                old
            }
        }
        2 if ty.is_signed() => {
            if signed(b) > signed(old) {
                b
            } else {
                old
            }
        }
        1 | 2 if ty.is_float() => float_extreme(ty, old, b, operation == 1),
        1 => old.min(b),
        2 => old.max(b),
        3 => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        4 => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
        5 => old & b,
        6 => old | b,
        7 => old ^ b,
        8 => b,
        // cas: `b` is the comparand, `c` the new value.
        _ => {
            if old == b {
                c
            } else {
                old
            }
        }
    }
}

/// [`combine`] in global memory, where adding f32 has no subnormals (PTX manual, `cp.reduce.async.bulk`).
#[inline(always)]
pub(crate) fn combine_global(operation: u32, ty: Type, old: u64, b: u64) -> u64 {
    if (operation, ty) == (ADD, Type::F32) { add_flushed(old, b) } else { combine(operation, ty, old, b, 0) }
}

/// Adds f32, takes and gives zeros for subnormals.
fn add_flushed(old: u64, b: u64) -> u64 {
    let flush = |x: u64| if x & 0x7f80_0000 == 0 { x & 0x8000_0000 } else { x };
    flush(add(Type::F32, flush(old), flush(b)))
}

fn add(ty: Type, a: u64, b: u64) -> u64 {
    match ty {
        Type::F32 => {
            let sum = f32::from_bits(a as u32) + f32::from_bits(b as u32);
            if sum.is_nan() { 0x7fff_ffff } else { sum.to_bits().into() }
        }
        Type::F64 => (f64::from_bits(a) + f64::from_bits(b)).to_bits(),
        Type::F16 => f32_to_f16(f16_to_f32(a as u32) + f16_to_f32(b as u32)).into(),
        Type::BF16 => f32_to_bf16(bf16_to_f32(a as u32) + bf16_to_f32(b as u32)).into(),
        Type::F16x2 | Type::BF16x2 => halves(ty, a, b, add),
        _ => a.wrapping_add(b),
    }
}

fn halves(ty: Type, a: u64, b: u64, f: impl Fn(Type, u64, u64) -> u64) -> u64 {
    let half = if ty == Type::F16x2 { Type::F16 } else { Type::BF16 };
    f(half, a & 0xffff, b & 0xffff) | f(half, a >> 16 & 0xffff, b >> 16 & 0xffff) << 16
}

fn float_extreme(ty: Type, a: u64, b: u64, least: bool) -> u64 {
    let number = |x: u64| match ty {
        Type::F32 => f64::from(f32::from_bits(x as u32)),
        Type::F64 => f64::from_bits(x),
        Type::F16 => f64::from(f16_to_f32(x as u32)),
        _ => f64::from(bf16_to_f32(x as u32)),
    };
    match ty {
        Type::F16x2 | Type::BF16x2 => halves(ty, a, b, |t, x, y| float_extreme(t, x, y, least)),
        _ if number(a).is_nan() => b,
        _ if number(b).is_nan() => a,
        _ if (number(b) < number(a)) == least && number(a) != number(b) => b,
        _ => a,
    }
}
