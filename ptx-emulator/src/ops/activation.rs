//! Entrance to and return from functions that may call themselves: each thread keeps what the activation outside has in the function's
//! registers on its own stack in local memory.

use super::stack::given_back;
use super::{Cx, Flow, Handler, Instr, LANES, lanes_of};
use crate::decode::activation::{Activation, kept};
use crate::decode::frame::Class;

/// The entrance of the function whose activations are number `n` of the program's.
pub(crate) struct Enter;

impl Handler for Enter {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let activation = &cx.activations[i.n as usize];
        // SAFETY: the activation's registers have the classes that it says; its bytes are found to lie on the stack, which is a part of
        // each lane's local memory.
        unsafe { enter(cx, activation, m) }
    }
}

/// `ret` of such a function.
pub(crate) struct ReturnRestoring;

impl Handler for ReturnRestoring {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let activation = &cx.activations[i.n as usize];
        // SAFETY: as for `Enter`.
        unsafe { restore(cx, activation, m) }
    }
}

/// # Safety
/// The activation must be one of the program's.
#[inline(never)]
unsafe fn enter(cx: &mut Cx, activation: &Activation, m: u32) -> Flow {
    let size = activation.size();
    // SAFETY: the decoder gave registers of these classes.
    let (tops, mut depths) =
        unsafe { (*cx.lanes::<u32>(activation.top), *cx.lanes::<u32>(activation.depth)) };
    let (mut ends, mut bases) = (tops, [0u64; LANES]);
    for l in lanes_of(m) {
        bases[l] = u64::from(tops[l]).next_multiple_of(activation.align);
        if bases[l] + size > activation.end.into() {
            let what = format!(
                "`{}` calls itself too deep: no room for {size} bytes of its activation {}, the stack of the thread has {} left",
                activation.name,
                depths[l] + 1,
                activation.end.saturating_sub(tops[l]),
            );
            return cx.fail(l as u32, what);
        }
        ends[l] = (bases[l] + size) as u32;
    }
    let places = bases.map(|base| base + activation.kept_top());
    // SAFETY: up to `size` bytes from each base lie on the stack, as was found above; the registers have these classes.
    unsafe {
        put(cx, m, &places, &tops);
        each_register(activation, &places, |register, class, places| match class {
            Class::Long => put(cx, m, places, &*(cx.lanes::<u64>(register) as *const [u64; LANES])),
            Class::Word => put(cx, m, places, &*(cx.lanes::<u32>(register) as *const [u32; LANES])),
            Class::Pred => put(cx, m, places, &std::array::from_fn(|l| cx.pred(register) >> l & 1)),
        });
        depths.iter_mut().for_each(|depth| *depth = depth.wrapping_add(1));
        cx.set_lanes(activation.depth, m, &depths);
        cx.set_lanes(activation.base, m, &bases);
        cx.set_lanes(activation.top, m, &ends);
    }
    Flow::Next
}

/// # Safety
/// As for `enter`.
#[inline(never)]
unsafe fn restore(cx: &mut Cx, activation: &Activation, m: u32) -> Flow {
    // SAFETY: the decoder gave registers of these classes.
    let (bases, ends) = unsafe { (*cx.lanes::<u64>(activation.base), *cx.lanes::<u32>(activation.top)) };
    let places = bases.map(|base| base.wrapping_add(activation.kept_top()));
    for l in lanes_of(m) {
        // What is kept lies in the thread's local memory, where its own stores may have met it.
        let on_stack =
            bases[l].checked_add(activation.size()).is_some_and(|end| end <= activation.end.into());
        // SAFETY: looked at only where the activation lies on the stack.
        let top = if on_stack { unsafe { take::<u32>(cx, 1 << l, &places)[l] } } else { 0 };
        if !on_stack || u64::from(top).next_multiple_of(activation.align) != bases[l] {
            let what = format!(
                "`{}` cannot return: what it keeps on the stack has been overwritten, by a store past the end of a local variable",
                activation.name
            );
            return cx.fail(l as u32, what);
        }
    }
    // SAFETY: all of each activation lies on the stack, as was found above; `enter` put its parts where they are taken.
    unsafe {
        let tops = take::<u32>(cx, m, &places);
        each_register(activation, &places, |register, class, places| match class {
            Class::Long => {
                let values = take::<u64>(cx, m, places);
                cx.set_lanes(register, m, &values);
            }
            Class::Word => {
                let values = take::<u32>(cx, m, places);
                cx.set_lanes(register, m, &values);
            }
            Class::Pred => {
                let values = take::<u32>(cx, m, places);
                cx.set_pred(register, m, lanes_of(m).map(|l| (values[l] & 1) << l).sum());
            }
        });
        for l in lanes_of(m) {
            given_back(cx, l, (tops[l].into(), ends[l].into()));
        }
        cx.set_lanes(activation.top, m, &tops);
    }
    Flow::Return
}

/// The kept registers, and where each lies in each lane's local memory: after the stack's top at `places`.
fn each_register(
    activation: &Activation,
    places: &[u64; LANES],
    mut act: impl FnMut(u32, Class, &[u64; LANES]),
) {
    let mut places = places.map(|place| place.wrapping_add(4));
    for &(register, class) in &activation.registers {
        act(register, class, &places);
        places = places.map(|place| place.wrapping_add(kept(class)));
    }
}

/// Writes values of the lanes `m` to their local memory.
///
/// # Safety
/// The places must lie in it.
#[inline(always)]
unsafe fn put<T: Copy>(cx: &Cx, m: u32, places: &[u64; LANES], values: &[T; LANES]) {
    for l in lanes_of(m) {
        // SAFETY: by contract; local memory is the warp's own.
        unsafe {
            (cx.local.add((l as u64 * cx.local_len + places[l]) as usize) as *mut T)
                .write_unaligned(values[l]);
        }
    }
}

/// Reads them again; those of other lanes are zero.
///
/// # Safety
/// As for `put`.
#[inline(always)]
unsafe fn take<T: Copy + Default>(cx: &Cx, m: u32, places: &[u64; LANES]) -> [T; LANES] {
    let mut values = [T::default(); LANES];
    for l in lanes_of(m) {
        // SAFETY: as for `put`.
        values[l] = unsafe {
            (cx.local.add((l as u64 * cx.local_len + places[l]) as usize) as *const T).read_unaligned()
        };
    }
    values
}
