//! Records: a warp between two moments at which it handed on what it had done.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

/// A warp's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::checks) struct Record {
    pub cluster: u64,
    /// Of the cluster.
    pub warp: u32,
    pub time: u32,
}

/// Records are numbered in chunks of so many, of which each host thread fills its own.
const CHUNK: usize = 256;

/// A number's cluster, and its time and warp. Whoever finds the number in a slot has the lock of the slot's page, under which it
/// was put there after the record had been filled.
type Chunk = [(AtomicU64, AtomicU64); CHUNK];

/// All records of a launch.
#[derive(Debug, Default)]
pub(in crate::checks) struct Records {
    chunks: RwLock<Vec<Arc<Chunk>>>,
    /// Chunks dealt out.
    dealt: AtomicU32,
}

impl Records {
    /// The record of a number.
    pub(super) fn get(&self, number: u32) -> Record {
        let chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
        let (cluster, rest) = &chunks[number as usize / CHUNK][number as usize % CHUNK];
        let rest = rest.load(Relaxed);
        Record { cluster: cluster.load(Relaxed), warp: (rest >> 32) as u32, time: rest as u32 }
    }

    /// A fresh chunk and its place; none where all numbers have been given.
    fn chunk(&self) -> Option<(u32, Arc<Chunk>)> {
        if self.dealt.fetch_add(1, Relaxed) >= u32::MAX / CHUNK as u32 {
            self.dealt.store(u32::MAX / CHUNK as u32, Relaxed);
            return None;
        }
        let chunk: Arc<Chunk> = Arc::new(std::array::from_fn(|_| Default::default()));
        let mut chunks = self.chunks.write().unwrap_or_else(PoisonError::into_inner);
        chunks.push(Arc::clone(&chunk));
        Some((chunks.len() as u32 - 1, chunk))
    }
}

/// Where one host thread puts its records.
#[derive(Debug, Default)]
pub(in crate::checks) struct Writer {
    chunk: Option<(u32, Arc<Chunk>)>,
    filled: usize,
}

impl Writer {
    /// The number of a new record, not 0; 0 where all numbers have been given, after which accesses are no longer looked at.
    pub(super) fn add(&mut self, records: &Records, record: Record) -> u32 {
        if self.chunk.is_none() || self.filled == CHUNK {
            self.chunk = records.chunk();
            // Number 0 stands for nobody.
            self.filled = usize::from(self.chunk.as_ref().is_some_and(|c| c.0 == 0));
        }
        let Some((place, chunk)) = &self.chunk else { return 0 };
        let (cluster, rest) = &chunk[self.filled];
        cluster.store(record.cluster, Relaxed);
        rest.store(u64::from(record.warp) << 32 | u64::from(record.time), Relaxed);
        self.filled += 1;
        place * CHUNK as u32 + self.filled as u32 - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_several_writers_name_their_records() {
        let (records, mut a, mut b) = (Records::default(), Writer::default(), Writer::default());
        let record = |n: u32| Record { cluster: u64::from(n) << 20, warp: n % 64, time: 3 * n };
        let numbers: Vec<u32> = (0..1000)
            .map(|n| if n % 3 == 0 { a.add(&records, record(n)) } else { b.add(&records, record(n)) })
            .collect();
        assert!(!numbers.contains(&0));
        for (n, &number) in (0..).zip(&numbers) {
            assert_eq!(records.get(number), record(n));
        }
    }
}
