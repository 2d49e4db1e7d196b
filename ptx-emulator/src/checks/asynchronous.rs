//! Reads of the async proxy, which go on until somebody waits for them: bulk copies out of shared memory, operands of `wgmma`.

use super::{Access, Cells, Checks, Kind, Stamp, Wrong};
use std::sync::Arc;

/// Pieces of 16 bytes, ascending, counted from the first of all blocks' shared memory.
pub(crate) type Pieces = Arc<[u32]>;

/// Words of a piece.
const WORDS: usize = 4;

/// Bytes that are being read.
#[derive(Debug)]
pub(super) struct Reading {
    number: u64,
    pieces: Pieces,
    by: Stamp,
}

/// How the async proxy reads.
pub(crate) const READS: Kind =
    Kind { reads: true, writes: false, strong: false, copy: false, bulk: true, barrier: false };
/// How it writes, in time.
pub(crate) const WRITES: Kind = Kind { reads: false, writes: true, copy: true, ..READS };

impl Checks {
    /// The pieces at these addresses of a block's shared memory, all multiples of 16.
    pub(crate) fn pieces(&self, rank: u32, addresses: impl Iterator<Item = u32>) -> Pieces {
        let first = (u64::from(rank) * self.stride / 16) as u32;
        let mut pieces: Vec<u32> = addresses.map(|at| first + at / 16).collect();
        pieces.sort_unstable();
        pieces.dedup();
        pieces.into()
    }

    /// Checks the start of a read of pieces. Gives a number by which it ends; the error has the address of the piece.
    pub(crate) fn begin_read(
        &mut self,
        rank: u32,
        pieces: &Pieces,
        who: Access,
    ) -> Result<u64, (u32, Wrong)> {
        if !self.weaker.is_empty() || !self.are_fenced(pieces, who.warp) {
            // What is wrong, or what makes it right, is to be found piece by piece.
            let first = (u64::from(rank) * self.stride) as u32;
            for piece in pieces.iter() {
                let at = 16 * piece - first;
                self.access(rank, at.into(), 16, Access { kind: READS, ..who }).map_err(|w| (at, w))?;
            }
        }
        let by = self.stamp(Access { kind: READS, ..who }, 0xf);
        self.next_reading += 1;
        self.readings.push(Reading { number: self.next_reading, pieces: Arc::clone(pieces), by });
        Ok(self.next_reading)
    }

    /// Whether all of these bytes have been written, so long ago that this is ordered and fenced before what the warp does next.
    fn are_fenced(&self, pieces: &[u32], warp: u32) -> bool {
        let known = &self.known[warp as usize];
        // For each party the time before which its writes are there. Bulk copies are of the same proxy.
        let mut before = known.seen;
        for (before, fenced) in before[..self.warps].iter_mut().zip(&known.fenced) {
            *before = (*before).min(*fenced);
        }
        before[warp as usize] = known.fenced[warp as usize];
        let times = self.cells.write_times.as_chunks::<WORDS>().0;
        let writers = self.cells.writers.as_chunks::<WORDS>().0;
        pieces.iter().all(|&piece| {
            let piece = piece as usize;
            let late = |(time, writer): (&u32, &Stamp)| *time >= before[usize::from(writer.warp())];
            !times[piece].iter().zip(&writers[piece]).map(late).fold(false, |any, late| any | late)
                && self.written[piece / 4] >> (piece % 4 * 16) & 0xffff == 0xffff
        })
    }

    /// A read is over: from now on it is one of the warp that waited.
    pub(crate) fn end_read(&mut self, number: u64) {
        let Some(place) = self.readings.iter().position(|r| r.number == number) else { return };
        let Reading { pieces, by, .. } = self.readings.swap_remove(place);
        let (now, least, own) = (self.now, self.least[usize::from(by.warp())], 1 << by.warp());
        for &piece in pieces.iter() {
            let piece = piece as usize;
            let Cells { read_times, read_masks, readers, .. } = &mut self.cells;
            let times = &mut read_times.as_chunks_mut::<WORDS>().0[piece];
            let masks = &mut read_masks.as_chunks_mut::<WORDS>().0[piece];
            let readers = &mut readers.as_chunks_mut::<WORDS>().0[piece];
            if times.iter().fold(true, |all, time| all & (*time < least)) {
                (*times, *masks, *readers) = ([now; WORDS], [own; WORDS], [by; WORDS]);
            } else if times.iter().fold(true, |all, time| all & (*time == now))
                && readers.iter().fold(true, |all, reader| all & (reader.plain() == by.bytes()))
            {
                masks.iter_mut().for_each(|mask| *mask |= own);
                *readers = [by; WORDS];
            } else {
                (WORDS * piece..WORDS * (piece + 1)).for_each(|word| self.note_read(word as u32, by));
                continue;
            }
        }
    }

    /// Nobody may be reading these bytes.
    pub(super) fn not_read(&self, at: u64, size: u64) -> Result<(), Wrong> {
        let overlaps = |reading: &&Reading| {
            let next = reading.pieces.partition_point(|&piece| 16 * (u64::from(piece) + 1) <= at);
            reading.pieces.get(next).is_some_and(|&piece| 16 * u64::from(piece) < at + size)
        };
        match self.readings.iter().find(overlaps) {
            Some(Reading { by, .. }) => Err(Wrong::StillRead(by.party())),
            None => Ok(()),
        }
    }
}
