//! Slots: an access to a word of global memory as 64 bits.

use super::{Run, Scope};
use std::cmp::Ordering;

/// An access: from the top its record (32 bits), place in the program (20), whether it is the async proxy's (1), scope (2), lane (5)
/// and bytes of the word (4). 0 is nobody.
pub(super) type Slot = u64;

pub(super) const BYTES: u64 = 0xf;
pub(super) const LANE: u32 = 4;
pub(super) const SCOPE: u32 = 9;
const PROXY: u32 = 11;
pub(super) const PLACE: u32 = 12;
pub(super) const RECORD: u32 = 32;
pub(super) const SCOPES: u64 = 3 << SCOPE;
/// How an access acts: its scope and its proxy.
pub(super) const ACTS: u64 = SCOPES | 1 << PROXY;
/// Places in the program from here on are not told apart.
pub(super) const PLACES: u32 = (1 << (RECORD - PLACE)) - 1;

pub(super) fn record(slot: Slot) -> u32 {
    (slot >> RECORD) as u32
}

/// Whether a bulk copy accessed.
pub(super) fn is_async(slot: Slot) -> bool {
    slot >> PROXY & 1 != 0
}

pub(super) fn scope(slot: Slot) -> Scope {
    (slot >> SCOPE) as u32 & 3
}

pub(super) fn is_whole(slot: Slot) -> bool {
    slot & BYTES == BYTES
}

/// Whether an access touches all bytes of another.
#[inline(always)]
pub(super) fn covers(slot: Slot, other: Slot) -> bool {
    other & BYTES & !slot == 0
}

/// Two accesses of one party as one, where one of them is nobody's, or they are alike, or what races with one races with the other too.
#[inline(always)]
pub(super) fn merged(earlier: Slot, slot: Slot) -> Option<Slot> {
    if earlier == 0 {
        return Some(slot);
    }
    if record(earlier) != record(slot) || is_async(earlier) != is_async(slot) {
        return None;
    }
    match scope(earlier).cmp(&scope(slot)) {
        Ordering::Equal => Some(slot | earlier & BYTES),
        Ordering::Less => covers(earlier, slot).then_some(earlier),
        Ordering::Greater => covers(slot, earlier).then_some(slot),
    }
}

/// Whether all slots are of one party's accesses, to the same bytes with the same scope by the same proxy.
#[inline(always)]
pub(super) fn alike(slots: &[Slot]) -> bool {
    const SAME: u64 = !0 << RECORD | ACTS | BYTES;
    slots.iter().fold(0, |all, slot| all | (slot ^ slots[0]) & SAME) == 0
}

/// An access without the bytes that another touches; 0 where that leaves none.
#[inline(always)]
pub(super) fn without(slot: Slot, other: Slot) -> Slot {
    if covers(other, slot) { 0 } else { slot & !(other & BYTES) }
}

/// The slot of an access by the party of a record, without lane and bytes.
#[inline(always)]
pub(super) fn slot_of(record: u32, run: &Run) -> Slot {
    u64::from(record) << RECORD
        | u64::from(run.pc.min(PLACES)) << PLACE
        | u64::from(run.bulk) << PROXY
        | u64::from(run.scope) << SCOPE
}
