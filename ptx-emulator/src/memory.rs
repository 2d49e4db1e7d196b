//! The emulated device's memory: allocations with guard gaps between them, and the windows of the generic address space.

use crate::error::MemoryError;
use crate::heap::Heap;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Size of each window.
pub(crate) const WINDOW: u64 = 1 << 32;
/// Where local memory lies in the generic space.
pub(crate) const LOCAL_WINDOW: u64 = 1 << 40;
/// Where the block's shared memory lies in the generic space.
pub(crate) const SHARED_WINDOW: u64 = 2 << 40;
/// Where the kernel's parameters lie in the generic space.
pub(crate) const PARAM_WINDOW: u64 = 3 << 40;
/// Where functions have their addresses.
pub(crate) const CODE_WINDOW: u64 = 4 << 40;
/// Where global memory begins: above all windows.
pub(crate) const GLOBAL_BASE: u64 = 0x7000_0000_0000;
/// Allocations begin at multiples of this, as on the device.
const ALIGN: u64 = 256;
/// At least so many bytes between allocations belong to none.
const GUARD: u64 = 4096;
/// How many freed ranges are remembered for messages.
const REMEMBERED: usize = 1024;

/// A range of global memory and where it is on the host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub start: u64,
    pub end: u64,
    pub host: *mut u8,
    pub read_only: bool,
    /// The arena of the heap, of which `MemoryView::heap` says what may be accessed.
    pub is_heap: bool,
    /// Its place in the view.
    pub number: u32,
    /// A bit for each byte that has been written, in words of 64; null where all count as written.
    pub written: *const AtomicU64,
}

impl Segment {
    /// Contains no address.
    pub(crate) const EMPTY: Segment = Segment {
        start: 1,
        end: 0,
        host: std::ptr::null_mut(),
        read_only: false,
        is_heap: false,
        number: u32::MAX,
        written: std::ptr::null(),
    };
}

/// Memory of an allocation; freed when the last user lets go.
pub(crate) struct Block {
    host: *mut u8,
    layout: Layout,
    /// A bit for each byte that has been written.
    written: *mut AtomicU64,
    written_layout: Layout,
    /// Whether all bytes count as written.
    complete: AtomicBool,
}

// SAFETY: the memory is only accessed through atomics, by the emulator's threads and by the host's copies.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `Memory::alloc`.
        unsafe {
            dealloc(self.host, self.layout);
            dealloc(self.written.cast(), self.written_layout);
        }
    }
}

/// The words of a bitmap with a bit for each byte that have those of `len` bytes from `from` on, and these bits.
#[inline(always)]
pub(crate) fn words(from: u64, len: u64) -> impl Iterator<Item = (usize, u64)> {
    let end = from + len;
    let mut at = from;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let next = (at / 64 * 64 + 64).min(end);
            let bits = (u64::MAX >> (64 - (next - at))) << (at % 64);
            let word = (at / 64) as usize;
            at = next;
            (word, bits)
        })
    })
}

impl Block {
    /// Notes that bytes have been written, which must lie in the block.
    fn mark(&self, from: u64, len: u64) {
        for (word, bits) in words(from, len) {
            // SAFETY: the words cover the block.
            let word = unsafe { &*self.written.add(word) };
            if bits == u64::MAX { word.store(bits, Relaxed) } else { _ = word.fetch_or(bits, Relaxed) }
        }
    }

    /// Bytes, which must lie in the block, are as those that nobody wrote, and hold the pattern.
    pub(crate) fn renew(&self, from: u64, len: u64, pattern: u32) {
        for (word, bits) in words(from, len) {
            // SAFETY: the words cover the block.
            unsafe { &*self.written.add(word) }.fetch_and(!bits, Relaxed);
        }
        let pattern = u64::from(pattern) << 32 | u64::from(pattern);
        copy(self.host as usize + from as usize, len as usize, |at, _| pattern >> (8 * (at % 4)));
    }
}

#[derive(Clone)]
struct Allocation {
    start: u64,
    len: u64,
    read_only: bool,
    is_heap: bool,
    block: Arc<Block>,
}

impl Allocation {
    fn segment(&self, number: u32) -> Segment {
        Segment {
            number,
            start: self.start,
            end: self.start + self.len,
            host: self.block.host,
            read_only: self.read_only,
            is_heap: self.is_heap,
            written: if self.block.complete.load(Relaxed) { std::ptr::null() } else { self.block.written },
        }
    }
}

#[derive(Default)]
struct Table {
    /// Ascending by start: addresses are never given twice.
    live: Vec<Allocation>,
    freed: Vec<(u64, u64)>,
    next: u64,
    used: u64,
    heap: Option<Arc<Heap>>,
    /// Views that have been taken.
    views: u64,
}

/// Global memory.
pub(crate) struct Memory {
    table: Mutex<Table>,
    limit: u64,
}

/// The allocations as they were when a launch began; keeps them alive.
pub(crate) struct MemoryView {
    segments: Vec<Segment>,
    freed: Vec<(u64, u64)>,
    heap: Option<Arc<Heap>>,
    /// Which of all views it is.
    pub number: u64,
    _keep: Vec<Allocation>,
}

// SAFETY: segments point into blocks that `_keep` holds; see `Block`.
unsafe impl Send for MemoryView {}
// SAFETY: as above.
unsafe impl Sync for MemoryView {}

impl MemoryView {
    /// The allocation that contains the whole range.
    #[inline]
    pub(crate) fn find(&self, address: u64, size: u64) -> Option<Segment> {
        let at = self.segments.partition_point(|s| s.start <= address);
        let segment = self.segments[..at].last()?;
        let end = address.checked_add(size)?;
        (end <= segment.end).then_some(*segment)
    }

    /// The heap, once a module that uses it has been launched.
    pub(crate) fn heap(&self) -> Option<&Heap> {
        self.heap.as_deref()
    }

    /// The allocations' lengths.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = u64> {
        self.segments.iter().map(|s| s.end - s.start)
    }
}

/// Says in words what is near an address.
pub(crate) fn near(view: &MemoryView, address: u64) -> String {
    if view.heap().is_some_and(|heap| heap.contains(address)) {
        return "in the heap of kernels, which the host cannot reach".into();
    }
    let range = |&(start, len): &(u64, u64)| address >= start && address < start + len.max(1);
    if let Some((start, len)) = view.freed.iter().rev().find(|f| range(f)) {
        return format!("inside the allocation of {len} bytes at {start:#x} that has been freed");
    }
    let at = view.segments.partition_point(|s| s.start <= address);
    let before = view.segments[..at].iter().rev().find(|s| !s.is_heap);
    let after = view.segments[at..].iter().find(|s| !s.is_heap);
    let below = before.map(|s| (address.saturating_sub(s.end), s));
    let above = after.map(|s| (s.start - address, s));
    match (below, above) {
        (Some((_, s)), _) if address < s.end => {
            format!(
                "it begins {} bytes before the end of the allocation of {} bytes at {:#x}",
                s.end - address,
                s.end - s.start,
                s.start
            )
        }
        (Some((d, s)), above) if above.is_none_or(|(e, _)| d <= e) => {
            format!("{d} bytes past the end of the allocation of {} bytes at {:#x}", s.end - s.start, s.start)
        }
        (_, Some((d, s))) => {
            format!("{d} bytes before the allocation of {} bytes at {:#x}", s.end - s.start, s.start)
        }
        _ => "there are no allocations".into(),
    }
}

impl Memory {
    pub(crate) fn new(limit: u64) -> Memory {
        Memory { table: Mutex::new(Table { next: GLOBAL_BASE, ..Table::default() }), limit }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // The table is consistent between any two statements that can panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn alloc(&self, len: u64, read_only: bool) -> Result<u64, MemoryError> {
        let mut table = self.table();
        if len > self.limit.saturating_sub(table.used) {
            return Err(MemoryError::Limit { asked: len, used: table.used, limit: self.limit });
        }
        let start = place(&mut table, len, read_only, false)?;
        table.used += len;
        Ok(start)
    }

    /// Makes the heap, of which so many bytes may be in use, unless there is one.
    pub(crate) fn open_heap(&self, limit: u64) -> Result<(), MemoryError> {
        let mut table = self.table();
        if table.heap.is_none() {
            let start = place(&mut table, Heap::room(limit), false, true)?;
            let arena = table.live.last().map(|a| Arc::clone(&a.block));
            table.heap = arena.map(|block| Arc::new(Heap::new(start, limit, block)));
        }
        Ok(())
    }

    /// From now on all bytes of the allocation at this address, or of all, count as written.
    pub(crate) fn complete(&self, address: Option<u64>) {
        let table = self.table();
        for a in table.live.iter().filter(|a| address.is_none_or(|at| at == a.start)) {
            a.block.complete.store(true, Relaxed);
        }
    }

    pub(crate) fn free(&self, address: u64) -> Result<(), MemoryError> {
        let mut table = self.table();
        match table.live.binary_search_by_key(&address, |a| a.start) {
            Ok(at) if !table.live[at].is_heap => {
                let gone = table.live.remove(at);
                table.used -= gone.len;
                if table.freed.len() >= REMEMBERED {
                    table.freed.remove(0);
                }
                table.freed.push((gone.start, gone.len));
                Ok(())
            }
            _ => {
                drop(table);
                Err(MemoryError::Free { address, near: near(&self.view(), address) })
            }
        }
    }

    pub(crate) fn used(&self) -> u64 {
        self.table().used
    }

    pub(crate) fn view(&self) -> MemoryView {
        let mut table = self.table();
        table.views += 1;
        MemoryView {
            number: table.views,
            heap: table.heap.clone(),
            segments: (0..).zip(&table.live).map(|(number, a)| a.segment(number)).collect(),
            freed: table.freed.clone(),
            _keep: table.live.clone(),
        }
    }

    /// The allocation around a range, kept alive.
    fn range(&self, address: u64, len: u64) -> Result<(Allocation, usize), MemoryError> {
        let table = self.table();
        let at = table.live.partition_point(|a| a.start <= address);
        let found = table.live[..at]
            .last()
            .filter(|a| !a.is_heap && address.checked_add(len).is_some_and(|end| end <= a.start + a.len))
            .cloned();
        drop(table);
        match found {
            Some(allocation) => {
                let host = allocation.block.host as usize + (address - allocation.start) as usize;
                Ok((allocation, host))
            }
            None => Err(MemoryError::Range { address, len, near: near(&self.view(), address) }),
        }
    }

    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (keep, host) = self.range(address, bytes.len() as u64)?;
        keep.block.mark(address - keep.start, bytes.len() as u64);
        copy(host, bytes.len(), |at, n| match n {
            8 => bytes[at..at + 8].try_into().map_or(0, u64::from_le_bytes),
            _ => bytes[at].into(),
        });
        Ok(())
    }

    pub(crate) fn fill(&self, address: u64, byte: u8, len: u64) -> Result<(), MemoryError> {
        if len == 0 {
            return Ok(());
        }
        let (keep, host) = self.range(address, len)?;
        keep.block.mark(address - keep.start, len);
        copy(host, len as usize, |_, _| u64::from_le_bytes([byte; 8]));
        Ok(())
    }

    pub(crate) fn read(&self, address: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        if out.is_empty() {
            return Ok(());
        }
        let (_keep, host) = self.range(address, out.len() as u64)?;
        let mut at = 0;
        while at < out.len() {
            // SAFETY: `range` found the whole range in a live allocation; access is atomic.
            unsafe {
                if (host + at).is_multiple_of(8) && out.len() - at >= 8 {
                    let word = (*((host + at) as *const AtomicU64)).load(Relaxed);
                    out[at..at + 8].copy_from_slice(&word.to_le_bytes());
                    at += 8;
                } else {
                    out[at] = (*((host + at) as *const AtomicU8)).load(Relaxed);
                    at += 1;
                }
            }
        }
        Ok(())
    }
}

/// Gives a new allocation its memory and address.
fn place(table: &mut Table, len: u64, read_only: bool, is_heap: bool) -> Result<u64, MemoryError> {
    let bytes = usize::try_from(len.max(1)).ok();
    let layout = bytes.and_then(|b| Layout::from_size_align(b, ALIGN as usize).ok());
    let layout = layout.ok_or(MemoryError::Host { asked: len })?;
    // SAFETY: the layout has a size above 0.
    let host = unsafe { alloc_zeroed(layout) };
    // As many zero bits as bytes; pages that nobody touches cost nothing.
    let words = (len.div_ceil(64).max(1) * 8) as usize;
    let written_layout = Layout::from_size_align(words, 8).map_err(|_| MemoryError::Host { asked: len })?;
    // SAFETY: the layout has a size above 0.
    let written = unsafe { alloc_zeroed(written_layout) };
    if host.is_null() || written.is_null() {
        // SAFETY: allocated above with these layouts.
        unsafe {
            if !host.is_null() {
                dealloc(host, layout);
            }
            if !written.is_null() {
                dealloc(written, written_layout);
            }
        }
        return Err(MemoryError::Host { asked: len });
    }
    let complete = AtomicBool::new(read_only);
    let block = Arc::new(Block { host, layout, written: written.cast(), written_layout, complete });
    let start = table.next;
    table.next = (start + len + GUARD).next_multiple_of(ALIGN);
    table.live.push(Allocation { start, len, read_only, is_heap, block });
    Ok(start)
}

/// Stores `len` bytes, words where aligned, as `source(offset, width)` gives them.
fn copy(host: usize, len: usize, source: impl Fn(usize, usize) -> u64) {
    let mut at = 0;
    while at < len {
        // SAFETY: the caller found the whole range in a live allocation; access is atomic.
        unsafe {
            if (host + at).is_multiple_of(8) && len - at >= 8 {
                (*((host + at) as *const AtomicU64)).store(source(at, 8), Relaxed);
                at += 8;
            } else {
                (*((host + at) as *const AtomicU8)).store(source(at, 1) as u8, Relaxed);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_are_aligned_zero_and_apart() {
        let memory = Memory::new(1 << 20);
        let a = memory.alloc(100, false).unwrap();
        let b = memory.alloc(0, false).unwrap();
        assert!(a.is_multiple_of(256) && b.is_multiple_of(256) && b >= a + 100 + 4096);
        let mut out = [1; 100];
        memory.read(a, &mut out).unwrap();
        assert_eq!(out, [0; 100]);
        memory.write(a + 3, &[7; 20]).unwrap();
        memory.read(a, &mut out).unwrap();
        assert_eq!((out[2], out[3], out[22], out[23]), (0, 7, 7, 0));
        assert!(
            memory
                .write(a + 90, &[0; 11])
                .unwrap_err()
                .to_string()
                .contains("it begins 10 bytes before the end")
        );
        memory.free(a).unwrap();
        assert!(memory.free(a).unwrap_err().to_string().contains("freed"));
        assert!(memory.alloc(1 << 21, false).unwrap_err().to_string().contains("1048576"));
    }
}
