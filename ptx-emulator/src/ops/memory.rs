//! Loads and stores: 32 addresses checked at once against the allocation met last, one by one only where that fails.

use super::cluster::STEP;
use super::collide::{agree, may_collide};
use super::heap::check_heap;
use super::observe::observe;
use super::{Cx, Flow, Handler, Instr, LANES, lanes_of};
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW, near};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// State spaces as const parameters.
pub(crate) const GENERIC: u8 = 0;
pub(crate) const GLOBAL: u8 = 1;
pub(crate) const SHARED: u8 = 2;
pub(crate) const LOCAL: u8 = 3;
pub(crate) const PARAM: u8 = 4;
pub(crate) const CONST: u8 = 5;

/// Flag in `Instr::n`: the address register has 64 bits. The low byte is the number of elements.
pub(crate) const WIDE_ADDRESS: u32 = 1 << 8;
/// Flag in `Instr::n`: a write, which read-only memory refuses.
pub(crate) const WRITES: u32 = 1 << 9;
/// Flag in `Instr::n`: an atomic.
pub(crate) const ATOMIC: u32 = 1 << 10;
/// Flag in `Instr::n`: volatile or ordered.
pub(crate) const STRONG: u32 = 1 << 11;
/// Flag in `Instr::n`: the destination of an asynchronous copy.
pub(crate) const COPY: u32 = 1 << 12;
/// Flag in `Instr::n`: shared memory of any block of the cluster.
pub(crate) const CLUSTER: u32 = 1 << 13;

/// Flag in `Instr::n`: passes a parameter on.
pub(crate) const PASSES: u32 = 1 << 14;
/// Flag in `Instr::n`: an atomic whose old value nobody sees.
pub(crate) const BLIND: u32 = 1 << 15;
/// Where in `Instr::n` the scope of a strong access lies (2 bits).
pub(crate) const SCOPE: u32 = 16;

/// An element in memory and its image in a register.
///
/// Elements are accessed by relaxed atomics: a data race of the kernel is then no undefined behaviour of the emulator (plain
/// moves on the host), and a racing read sees one of the values that were written.
pub(crate) trait Element {
    const SIZE: u64;
    type Reg: Copy + Default;
    /// # Safety
    /// `p` is valid and aligned for the element.
    unsafe fn read(p: *mut u8) -> Self::Reg;
    /// # Safety
    /// `p` is valid and aligned for the element.
    unsafe fn write(p: *mut u8, value: Self::Reg);
    /// Whether two registers' images in memory are the same.
    fn same(a: Self::Reg, b: Self::Reg) -> bool;
}

macro_rules! element {
    ($($name:ident: $size:literal, $atomic:ty, $int:ty, $reg:ty, |$x:ident| $extend:expr;)*) => {$(
        /// An element kind.
        pub(crate) struct $name;
        impl Element for $name {
            const SIZE: u64 = $size;
            type Reg = $reg;
            #[inline(always)]
            unsafe fn read(p: *mut u8) -> $reg {
                // SAFETY: valid and aligned by contract; shared with other threads only through atomics.
                let $x = unsafe { (*(p as *const $atomic)).load(Relaxed) } as $int;
                $extend
            }
            #[inline(always)]
            unsafe fn write(p: *mut u8, value: $reg) {
                // SAFETY: as above.
                unsafe { (*(p as *const $atomic)).store(value as _, Relaxed) }
            }
            #[inline(always)]
            fn same(a: $reg, b: $reg) -> bool {
                a as $int == b as $int
            }
        }
    )*};
}
element! {
    U8: 1, AtomicU8, u8, u32, |x| u32::from(x);
    S8In16: 1, AtomicU8, i8, u32, |x| u32::from(x as i16 as u16);
    S8In32: 1, AtomicU8, i8, u32, |x| x as i32 as u32;
    U8In64: 1, AtomicU8, u8, u64, |x| u64::from(x);
    S8In64: 1, AtomicU8, i8, u64, |x| x as i64 as u64;
    U16: 2, AtomicU16, u16, u32, |x| u32::from(x);
    S16In32: 2, AtomicU16, i16, u32, |x| x as i32 as u32;
    U16In64: 2, AtomicU16, u16, u64, |x| u64::from(x);
    S16In64: 2, AtomicU16, i16, u64, |x| x as i64 as u64;
    U32: 4, AtomicU32, u32, u32, |x| x;
    U32In64: 4, AtomicU32, u32, u64, |x| u64::from(x);
    S32In64: 4, AtomicU32, i32, u64, |x| x as i64 as u64;
    U64: 8, AtomicU64, u64, u64, |x| x;
}

/// The address of each lane: register `a` and the constant `imm`.
///
/// # Safety
/// `i.a` must be the address register, of the width that `WIDE_ADDRESS` in `i.n` says.
#[inline(always)]
pub(crate) unsafe fn addresses(cx: &Cx, i: &Instr) -> [u64; LANES] {
    // SAFETY: by contract.
    unsafe {
        if i.n & WIDE_ADDRESS != 0 {
            cx.lanes::<u64>(i.a).map(|a| a.wrapping_add(i.imm as u64))
        } else {
            cx.lanes::<u32>(i.a).map(|a| u64::from(a.wrapping_add(i.imm as u32)))
        }
    }
}

/// The lanes' host pointers; inactive lanes repeat an active one's.
type Places = [usize; LANES];

/// Finds the host memory of every active lane, or sets the fault.
///
/// # Safety
/// `i.a` must be the address register (width by `WIDE_ADDRESS`), `i.slot` a cache slot.
#[inline(always)]
pub(crate) unsafe fn places<const SPACE: u8>(
    cx: &mut Cx,
    i: &Instr,
    m: u32,
    size: u64,
    align: u64,
) -> Option<Places> {
    // SAFETY: by contract.
    let mut at = unsafe { addresses(cx, i) };
    if m != !0 {
        let first = at[m.trailing_zeros() as usize];
        for (l, at) in at.iter_mut().enumerate() {
            *at = if m >> l & 1 != 0 { *at } else { first };
        }
    }
    let (mut low, mut high, mut bits) = (i64::MAX, i64::MIN, 0u64);
    for at in at {
        low = low.min(at as i64);
        high = high.max(at as i64);
        bits |= at;
    }
    let aligned = bits & (align - 1) == 0;
    let (low, high) = (low as u64, high as u64);
    let traffic = u64::from(m.count_ones()) * size;
    let shift = if SPACE == SHARED {
        if aligned && high + size <= cx.shared_len && (high as i64) >= 0 {
            count_shared(cx, i, traffic);
            Some(cx.shared as usize)
        } else {
            None
        }
    } else if SPACE == GENERIC || SPACE == GLOBAL || SPACE == CONST {
        // SAFETY: slots are dealt out by the decoder, one per memory instruction.
        let segment = unsafe { *cx.caches.get_unchecked(i.slot as usize) };
        if aligned && low >= segment.start && high.wrapping_add(size) <= segment.end && high < segment.end {
            count_global(cx, i, traffic, segment.read_only);
            Some((segment.host as usize).wrapping_sub(segment.start as usize))
        } else if SPACE == GENERIC
            && aligned
            && low >= SHARED_WINDOW
            && high + size <= SHARED_WINDOW + cx.shared_len
            && high < SHARED_WINDOW + WINDOW
        {
            count_shared(cx, i, traffic);
            Some((cx.shared as usize).wrapping_sub(SHARED_WINDOW as usize))
        } else {
            None
        }
    } else {
        None
    };
    let found = if let Some(shift) = shift {
        let mut out = [0usize; LANES];
        for l in 0..LANES {
            out[l] = (at[l] as usize).wrapping_add(shift);
        }
        out
    } else {
        places_one_by_one::<SPACE>(cx, i, m, &at, size, align)?
    };
    if cx.observed && !observe(cx, i, m, &at, size, SPACE) {
        return None;
    }
    Some(found)
}

#[inline(always)]
fn count_shared(cx: &mut Cx, i: &Instr, bytes: u64) {
    if i.n & WRITES != 0 { cx.traffic.shared_store += bytes } else { cx.traffic.shared_load += bytes }
}

/// Counts an access to global memory, or to constants, which lie beside it.
#[inline(always)]
fn count_global(cx: &mut Cx, i: &Instr, bytes: u64, constant: bool) {
    if constant {
        cx.traffic.constant_load += bytes;
    } else if i.n & WRITES != 0 {
        cx.traffic.global_store += bytes;
    } else {
        cx.traffic.global_load += bytes;
    }
}

#[inline(never)]
fn places_one_by_one<const SPACE: u8>(
    cx: &mut Cx,
    i: &Instr,
    m: u32,
    at: &[u64; LANES],
    size: u64,
    align: u64,
) -> Option<Places> {
    let mut out = [0usize; LANES];
    for l in lanes_of(m) {
        match place(cx, SPACE, i, l, at[l], size, align) {
            Ok(host) => out[l] = host,
            Err(what) => {
                cx.fail(l as u32, what);
                return None;
            }
        }
    }
    let first = out[m.trailing_zeros() as usize];
    for (l, host) in out.iter_mut().enumerate() {
        if m >> l & 1 == 0 {
            *host = first;
        }
    }
    Some(out)
}

/// The host address of one lane's access.
pub(crate) fn place(
    cx: &mut Cx,
    space: u8,
    i: &Instr,
    lane: usize,
    address: u64,
    size: u64,
    align: u64,
) -> Result<usize, String> {
    let verb = if i.n & WRITES != 0 { "write" } else { "read" };
    let space_name = ["generic", "global", "shared", "local", "param", "const"][space as usize];
    if address & (align - 1) != 0 {
        return Err(format!(
            "misaligned {verb} of {size} bytes at {space_name} address {address:#x}: not a multiple of {align}"
        ));
    }
    let window = |base: u64| address.checked_sub(base).filter(|&o| o < WINDOW);
    let (space, offset) = match space {
        GENERIC if window(SHARED_WINDOW).is_some() => (SHARED, address - SHARED_WINDOW),
        GENERIC if window(LOCAL_WINDOW).is_some() => (LOCAL, address - LOCAL_WINDOW),
        GENERIC if window(PARAM_WINDOW).is_some() => (PARAM, address - PARAM_WINDOW),
        GENERIC => (GLOBAL, address),
        PARAM if window(PARAM_WINDOW).is_some() => (PARAM, address - PARAM_WINDOW),
        other => (other, address),
    };
    let fits = |length: u64| offset.checked_add(size).is_some_and(|end| end <= length);
    let beyond = |what: &str, length: u64| {
        format!("{verb} of {size} bytes at {what} address {offset:#x}, which has {length} bytes")
    };
    match space {
        SHARED if fits(cx.shared_len) => {
            count_shared(cx, i, size);
            Ok(cx.shared as usize + offset as usize)
        }
        SHARED if offset >= STEP && (i.n & CLUSTER != 0 || space_name == "generic") => {
            let (rank, at) = cx.cluster.split(offset)?;
            if at + size > cx.shared_len {
                return Err(beyond("shared", cx.shared_len) + " per block");
            }
            count_shared(cx, i, size);
            Ok(cx.cluster.peers[rank as usize].shared as usize + at as usize)
        }
        SHARED => Err(beyond("shared", cx.shared_len) + " per block"),
        LOCAL if fits(cx.local_len) => Ok(cx.local as usize + (lane as u64 * cx.local_len + offset) as usize),
        LOCAL => Err(beyond("local", cx.local_len) + " per thread"),
        PARAM if i.n & WRITES != 0 => {
            Err(format!("write of {size} bytes to kernel parameters, which are read-only"))
        }
        PARAM if fits(cx.params_len) => {
            if let Some(param) = cx.parameters.iter().rfind(|p| p.offset <= offset)
                && offset + size > param.offset + param.size
            {
                let (name, at) = (&param.name, offset - param.offset);
                return Err(format!(
                    "{verb} of {size} bytes at offset {at} of parameter `{name}`, which has {}",
                    param.size
                ));
            }
            Ok(cx.params as usize + offset as usize)
        }
        PARAM => Err(beyond("parameter", cx.params_len)),
        _ => {
            let Some(segment) = cx.memory.find(address, size) else {
                let null = if address < 4096 { " (a null pointer)" } else { "" };
                return Err(format!(
                    "{verb} of {size} bytes at {space_name} address {address:#x}{null}: {}",
                    near(cx.memory, address)
                ));
            };
            if segment.read_only && i.n & WRITES != 0 {
                return Err(format!(
                    "write of {size} bytes at address {address:#x}, which is constant memory"
                ));
            }
            if space == CONST && !segment.read_only {
                return Err(format!(
                    "{verb} of {size} bytes at const address {address:#x}, which is global memory"
                ));
            }
            count_global(cx, i, size, segment.read_only);
            if segment.is_heap {
                // What `malloc` gives and `free` takes back meanwhile is never in a cache.
                check_heap(cx, address, size).map_err(|near| {
                    format!("{verb} of {size} bytes at {space_name} address {address:#x}: {near}")
                })?;
                return Ok(segment.host as usize + (address - segment.start) as usize);
            }
            cx.caches[i.slot as usize] = segment;
            Ok(segment.host as usize + (address - segment.start) as usize)
        }
    }
}

/// An access of each lane: the targets or sources are listed at `b`.
pub(crate) struct Access<E, const SPACE: u8, const STORES: bool>(PhantomData<E>);
/// `ld`.
pub(crate) type Load<E, const SPACE: u8> = Access<E, SPACE, false>;
/// `st`.
pub(crate) type Store<E, const SPACE: u8> = Access<E, SPACE, true>;

impl<E: Element, const SPACE: u8, const STORES: bool> Handler for Access<E, SPACE, STORES> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let count = i.n & 0xff;
        let size = u64::from(count) * E::SIZE;
        // SAFETY: the decoder gave an address register and `count` listed registers; `places` checked every lane.
        unsafe {
            let Some(places) = places::<SPACE>(cx, i, m, size, size) else { return Flow::Fault };
            for element in 0..count {
                let skip = element as usize * E::SIZE as usize;
                let register = cx.extra(i.b + element);
                let place = |l: usize| (places[l] + skip) as *mut u8;
                if !STORES {
                    let mut out = [E::Reg::default(); LANES];
                    for (l, out) in out.iter_mut().enumerate() {
                        *out = E::read(place(l));
                    }
                    cx.set_lanes(register, m, &out);
                    continue;
                }
                let values = cx.lanes::<E::Reg>(register);
                if m == !0 {
                    for (l, &value) in values.iter().enumerate() {
                        E::write(place(l), value);
                    }
                } else {
                    for l in lanes_of(m) {
                        E::write(place(l), values[l]);
                    }
                }
            }
            if STORES && matches!(SPACE, SHARED | GLOBAL | GENERIC) && may_collide(cx, i, m, &places, size) {
                let all = |cx: &Cx, same: &dyn Fn(usize, &[E::Reg; LANES]) -> bool| {
                    (0..count).all(|k| same(k as usize * E::SIZE as usize, cx.lanes(cx.extra(i.b + k))))
                };
                let kept = |cx: &Cx, l: usize| {
                    all(cx, &|skip, values| E::same(E::read((places[l] + skip) as *mut u8), values[l]))
                };
                let same =
                    |cx: &Cx, a, b| all(cx, &|_, values: &[E::Reg; LANES]| E::same(values[a], values[b]));
                if !agree::<SPACE>(cx, i, (m, &places, size), kept, same) {
                    return Flow::Fault;
                }
            }
        }
        Flow::Next
    }
}

/// `ld.param` of a kernel parameter at a constant offset `imm`: one value for all lanes.
pub(crate) struct LoadParam<E>(PhantomData<E>);

impl<E: Element> Handler for LoadParam<E> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        for element in 0..i.n & 0xff {
            let offset = i.imm as usize + element as usize * E::SIZE as usize;
            // SAFETY: the decoder checked offset and alignment against the parameter block.
            unsafe {
                let value = E::read(cx.params.add(offset));
                cx.set_lanes(cx.extra(i.b + element), m, &[value; LANES]);
            }
        }
        Flow::Next
    }
}

/// `fence`, `membar` and the fences of ordered loads and stores: `n` says how it acts for the checks.
pub(crate) struct Fence;

impl Handler for Fence {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, _: u32) -> Flow {
        if let Some(checks) = &mut cx.checks {
            checks.fence_memory(cx.warp_in_cluster, i.n);
        }
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        Flow::Next
    }
}

/// `fence.proxy.async` and `fence.mbarrier_init`, which the checks look for: `d` is one of these, or both of the first two.
pub(crate) struct ProxyFence;

/// For shared memory.
pub(crate) const FENCES_SHARED: u32 = 1;
/// For global memory.
pub(crate) const FENCES_GLOBAL: u32 = 2;
/// `fence.mbarrier_init`.
pub(crate) const FENCES_MBARRIERS: u32 = 4;

impl Handler for ProxyFence {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if let Some(checks) = &mut cx.checks {
            if i.d & FENCES_SHARED != 0 {
                checks.fence(cx.warp_in_cluster);
            }
            if i.d & FENCES_GLOBAL != 0 {
                checks.fence_global(cx.warp_in_cluster);
            }
            if i.d & FENCES_MBARRIERS != 0 {
                checks.fence_mbarriers(cx.warp_in_cluster);
            }
        }
        // SAFETY: same contract.
        unsafe { Fence::exec(cx, i, m) }
    }
}

/// `isspacep`: `n` is the space.
pub(crate) struct IsSpace;

impl Handler for IsSpace {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let mut bits = 0;
        for l in 0..LANES {
            // SAFETY: the decoder gave a 64-bit register.
            let address = unsafe { cx.lanes::<u64>(i.a)[l] };
            let window = |base: u64| address.checked_sub(base).is_some_and(|o| o < WINDOW);
            let windows = window(SHARED_WINDOW) || window(LOCAL_WINDOW) || window(PARAM_WINDOW);
            let constant = cx.memory.find(address, 1).is_some_and(|s| s.read_only);
            let inside = match i.n as u8 {
                SHARED => window(SHARED_WINDOW),
                LOCAL => window(LOCAL_WINDOW),
                PARAM => window(PARAM_WINDOW),
                CONST => constant,
                _ => !windows && !constant,
            };
            bits |= u32::from(inside) << l;
        }
        // SAFETY: the decoder gave a predicate.
        unsafe { cx.set_pred(i.d, m, bits) };
        Flow::Next
    }
}
