//! The mbarrier object: a phase ends when all its arrivals have come and all bytes that it expects have been copied.
//!
//! PTX manual, "Parallel Synchronization and Communication Instructions: mbarrier". The object's 8 bytes in shared memory only
//! hold a mark by which a store over them is noticed; what it counts is kept beside.

use super::transfer::Transfer;
use std::collections::VecDeque;

/// The most arrivals and bytes that a phase can count.
pub(crate) const MOST: i64 = (1 << 20) - 1;

/// What completes a phase from outside the threads, carried out when somebody waits for it and no sooner.
#[derive(Debug)]
pub(crate) enum Deferred {
    /// `cp.async.mbarrier.arrive`: the lanes of a warp arrive when their copies up to a point are done.
    Copies { warp: u32, mask: u32, until: u64 },
    /// A bulk copy, which completes its bytes.
    Bulk(Box<Transfer>),
}

/// One barrier.
#[derive(Debug, Default)]
pub(crate) struct Mbarrier {
    /// Arrivals of each later phase.
    pub expected: u32,
    /// Arrivals that the current phase lacks.
    pub pending: u32,
    /// Bytes that it lacks; below 0 where they came before they were expected.
    pub bytes: i32,
    /// Phases that have ended.
    pub phase: u32,
    pub deferred: VecDeque<Deferred>,
}

impl Mbarrier {
    pub(crate) fn new(count: u32) -> Mbarrier {
        Mbarrier { expected: count, pending: count, ..Mbarrier::default() }
    }

    /// `count` arrivals; with `drop` later phases expect that many less.
    pub(crate) fn arrive(&mut self, count: u32, drop: bool) -> Result<(), String> {
        if count > self.pending {
            return Err(format!(
                "{count} arrivals in phase {}, which lacks only {} of {}",
                self.phase, self.pending, self.expected
            ));
        }
        self.pending -= count;
        if drop {
            self.expected -= count.min(self.expected);
        }
        self.settle();
        Ok(())
    }

    /// Expects more bytes (or, below 0, has them): the manual's expect-tx and complete-tx.
    pub(crate) fn expect(&mut self, bytes: i64) -> Result<(), String> {
        let sum = i64::from(self.bytes) + bytes;
        if sum.abs() > MOST {
            return Err(format!("phase {} would expect {sum} bytes; the limit is {MOST}", self.phase));
        }
        self.bytes = sum as i32;
        Ok(())
    }

    /// Ends the phase if nothing is lacking.
    pub(crate) fn settle(&mut self) {
        if self.pending == 0 && self.bytes == 0 {
            self.phase = self.phase.wrapping_add(1);
            self.pending = self.expected;
        }
    }

    /// How many of the deferred events complete the current phase, if they can.
    pub(crate) fn completing(&self) -> Option<usize> {
        let (mut pending, mut bytes) = (i64::from(self.pending), i64::from(self.bytes));
        self.deferred
            .iter()
            .position(|event| {
                match event {
                    Deferred::Copies { mask, .. } => pending -= i64::from(mask.count_ones()),
                    Deferred::Bulk(transfer) => bytes -= i64::from(transfer.bytes),
                }
                pending == 0 && bytes == 0
            })
            .map(|last| last + 1)
    }

    /// What the phase lacks, in words.
    pub(crate) fn lacks(&self) -> String {
        let bytes = match self.bytes {
            0 => String::new(),
            b if b > 0 => format!(" and {b} bytes"),
            b => format!("; {} bytes came that nobody expected", -b),
        };
        let arrivals = format!("phase {} lacks {} of {} arrivals", self.phase, self.pending, self.expected);
        let copies = match self.deferred.len() {
            0 => String::new(),
            n => format!(", {n} copies are under way"),
        };
        arrivals + &bytes + &copies
    }

    /// The opaque state before an arrival: the phase, and what it lacked.
    pub(crate) fn state(&self) -> u64 {
        u64::from(self.phase) | u64::from(self.pending) << 32
    }
}

/// The pending count of a state.
pub(crate) fn pending_of(state: u64) -> u32 {
    (state >> 32) as u32
}

/// The barriers of a block, by their addresses in its shared memory.
#[derive(Debug, Default)]
pub(crate) struct Mbarriers {
    all: Vec<(u32, Mbarrier)>,
}

impl Mbarriers {
    pub(crate) fn clear(&mut self) {
        self.all.clear();
    }

    pub(crate) fn get(&mut self, at: u32) -> Option<&mut Mbarrier> {
        self.all.iter_mut().find(|(a, _)| *a == at).map(|(_, b)| b)
    }

    /// Who issued a bulk copy that has not been carried out: place in the program, warp of the cluster, lane.
    pub(crate) fn unfinished(&self) -> Option<(u32, u32, u32)> {
        self.all.iter().flat_map(|(_, b)| &b.deferred).find_map(|event| match event {
            Deferred::Bulk(transfer) => Some(transfer.by),
            Deferred::Copies { .. } => None,
        })
    }

    pub(crate) fn put(&mut self, at: u32, barrier: Mbarrier) {
        self.all.push((at, barrier));
    }

    pub(crate) fn remove(&mut self, at: u32) -> Option<Mbarrier> {
        let place = self.all.iter().position(|(a, _)| *a == at)?;
        Some(self.all.swap_remove(place).1)
    }
}

/// What the 8 bytes of a barrier hold.
pub(crate) fn mark(at: u32) -> u64 {
    0x6d62_6172_7269_6572 ^ u64::from(at) << 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_ends_when_arrivals_and_bytes_are_there() {
        let mut b = Mbarrier::new(2);
        b.arrive(1, false).unwrap();
        assert_eq!((b.phase, b.pending, pending_of(b.state())), (0, 1, 1));
        b.expect(64).unwrap();
        b.arrive(1, false).unwrap();
        assert_eq!((b.phase, b.pending, b.bytes), (0, 0, 64));
        b.expect(-64).unwrap();
        b.settle();
        assert_eq!((b.phase, b.pending, b.bytes), (1, 2, 0));
        // Bytes that come first.
        b.expect(-16).unwrap();
        b.arrive(2, false).unwrap();
        assert_eq!((b.phase, b.bytes), (1, -16));
        assert_eq!(b.lacks(), "phase 1 lacks 0 of 2 arrivals; 16 bytes came that nobody expected");
        b.expect(16).unwrap();
        b.settle();
        assert_eq!((b.phase, b.pending), (2, 2));
    }

    #[test]
    fn dropped_threads_are_missed_in_later_phases_only() {
        let mut b = Mbarrier::new(3);
        b.arrive(1, true).unwrap();
        assert_eq!((b.pending, b.expected), (2, 2));
        b.arrive(2, false).unwrap();
        assert_eq!((b.phase, b.pending), (1, 2));
        assert!(b.arrive(3, false).unwrap_err().contains("3 arrivals in phase 1, which lacks only 2 of 2"));
    }

    #[test]
    fn bytes_have_a_limit() {
        let mut b = Mbarrier::new(1);
        b.expect(MOST).unwrap();
        assert!(b.expect(1).unwrap_err().contains("1048576 bytes; the limit is 1048575"));
        b.expect(-MOST).unwrap();
        b.expect(-MOST).unwrap();
        assert!(b.expect(-1).is_err());
    }
}
