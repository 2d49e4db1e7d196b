//! The heap of kernels: what `malloc` gives and `free` takes back, which lives on between launches.
//!
//! It is one allocation of global memory, the arena, larger than what may be in use at once: addresses are given anew only after all
//! others, so that uses of what has been freed are found for long. Bytes between two pieces belong to none.

use crate::memory::Block;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Pieces begin at multiples of this, as on the device (CUDA Programming Guide, "Dynamic Global Memory Allocation and Operations").
const ALIGN: u64 = 16;
/// At least so many bytes between pieces belong to none.
const GUARD: u64 = 16;
/// The arena has so many times the bytes that may be in use.
const ROOM: u64 = 4;

/// Who called `malloc` or `free`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct By {
    /// Number of the launch.
    pub launch: u64,
    pub block: [u32; 3],
    /// Of the block.
    pub warp: u32,
    pub lane: u32,
    pub pc: u32,
}

/// What one call of `malloc` gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub start: u64,
    pub len: u64,
    pub by: By,
    pub freed: Option<By>,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.len
    }

    /// Where the next piece may begin.
    fn beyond(&self) -> u64 {
        (self.end() + GUARD).next_multiple_of(ALIGN)
    }
}

#[derive(Default)]
struct Table {
    /// By their starts; apart from one another.
    live: BTreeMap<u64, Piece>,
    freed: BTreeMap<u64, Piece>,
    /// Where the search for room begins.
    next: u64,
    used: u64,
}

/// The heap of a device.
pub(crate) struct Heap {
    /// Address and length of the arena.
    start: u64,
    len: u64,
    block: Arc<Block>,
    limit: u64,
    table: RwLock<Table>,
}

/// The last piece that begins at an address or before.
fn before(pieces: &BTreeMap<u64, Piece>, address: u64) -> Option<&Piece> {
    pieces.range(..=address).next_back().map(|(_, piece)| piece)
}

impl Heap {
    /// Bytes of an arena for so many bytes in use.
    pub(crate) fn room(limit: u64) -> u64 {
        limit.saturating_mul(ROOM).saturating_add(GUARD + ALIGN)
    }

    /// A heap in an arena at an address that is a multiple of 16.
    pub(crate) fn new(start: u64, limit: u64, block: Arc<Block>) -> Heap {
        let table = Table { next: start + GUARD, ..Table::default() };
        Heap { start, len: Heap::room(limit), block, limit, table: RwLock::new(table) }
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        // The table is consistent between any two statements that can panic.
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an address lies in the arena.
    pub(crate) fn contains(&self, address: u64) -> bool {
        address.checked_sub(self.start).is_some_and(|offset| offset < self.len)
    }

    /// A piece of `len` bytes that hold `pattern` and count as unwritten; none where the heap is full.
    pub(crate) fn alloc(&self, len: u64, by: By, pattern: u32) -> Option<u64> {
        let mut table = self.table_mut();
        let counted = len.checked_next_multiple_of(ALIGN)?;
        if counted > self.limit.saturating_sub(table.used) {
            return None;
        }
        let piece = |start| Piece { start, len, by, freed: None };
        let end = self.start + self.len;
        // From where the last search ended to the end of the arena, then from its start.
        let start = [table.next, self.start + GUARD].into_iter().find_map(|from| {
            let mut at = before(&table.live, from).map_or(from, |p| p.beyond().max(from));
            for taken in table.live.range(at..).map(|(_, taken)| taken) {
                if piece(at).beyond() <= taken.start {
                    break;
                }
                at = taken.beyond();
            }
            (piece(at).beyond() <= end).then_some(at)
        })?;
        let piece = piece(start);
        // What was there before is forgotten.
        while let Some(old) = before(&table.freed, piece.end().max(start)).filter(|old| old.end() >= start) {
            let old = old.start;
            table.freed.remove(&old);
        }
        self.block.renew(start - self.start, len, pattern);
        table.live.insert(start, piece);
        (table.next, table.used) = (piece.beyond(), table.used + counted);
        Some(start)
    }

    /// Takes back the piece at this address.
    pub(crate) fn free(&self, address: u64, by: By) {
        let mut table = self.table_mut();
        if let Some(piece) = table.live.remove(&address) {
            table.used -= piece.len.next_multiple_of(ALIGN);
            table.freed.insert(address, Piece { freed: Some(by), ..piece });
        }
    }

    /// The piece that contains the whole range, unless it has been freed.
    pub(crate) fn find(&self, address: u64, size: u64) -> Option<Piece> {
        let end = address.checked_add(size)?;
        before(&self.table().live, address).filter(|p| end <= p.end()).copied()
    }

    /// The piece around an address or else near it, freed or not.
    pub(crate) fn nearest(&self, address: u64) -> Option<Piece> {
        let table = self.table();
        let inside = |p: &&Piece| address < p.start + p.len.max(1);
        before(&table.live, address)
            .filter(inside)
            .or_else(|| before(&table.freed, address).filter(inside))
            .or_else(|| before(&table.live, address))
            .or_else(|| table.live.values().next())
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    const BY: By = By { launch: 1, block: [0; 3], warp: 2, lane: 3, pc: 4 };

    #[test]
    fn pieces_are_apart_and_given_anew_only_after_all_others() {
        let memory = Memory::new(1 << 20);
        memory.open_heap(1024).unwrap();
        let view = memory.view();
        let heap = view.heap().unwrap();
        let mut given: Vec<u64> = Vec::new();
        // Each 112 bytes of the 4096.
        for _ in 0..36 {
            let at = heap.alloc(90, BY, 0).unwrap();
            assert!(at.is_multiple_of(16) && given.iter().all(|&old| at.abs_diff(old) >= 90 + 16));
            heap.free(at, BY);
            assert_eq!(heap.nearest(at + 89).unwrap().freed, Some(BY));
            given.push(at);
        }
        let again = heap.alloc(90, BY, 0).unwrap();
        assert_eq!(again, given[0]);
        assert_eq!((heap.find(again, 90).unwrap().len, heap.find(again, 91)), (90, None));
        // 96 are in use.
        assert_eq!(heap.alloc(929, BY, 0), None);
        assert!(heap.alloc(928, BY, 0).is_some() && heap.alloc(1, BY, 0).is_none());
        assert!(heap.alloc(u64::MAX, BY, 0).is_none());
        // The host cannot reach it.
        assert!(memory.write(again, &[0]).is_err() && memory.free(again).is_err());
        assert_eq!(memory.used(), 0);
    }
}
