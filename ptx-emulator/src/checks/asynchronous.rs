//! Reads of the async proxy, which go on until somebody waits for them: bulk copies out of shared memory, operands of `wgmma`.

use super::{Access, Checks, Kind, Party, Stamp, Wrong};

/// Bytes that are being read, from the first of all blocks' shared memory.
#[derive(Debug)]
pub(super) struct Reading {
    number: u64,
    ranges: Vec<(u64, u64)>,
    by: Stamp,
}

/// How the async proxy reads.
pub(crate) const READS: Kind = Kind { reads: true, writes: false, strong: false, copy: false, bulk: true };
/// How it writes, in time.
pub(crate) const WRITES: Kind = Kind { reads: false, writes: true, strong: false, copy: true, bulk: true };

impl Checks {
    /// Checks the start of a read of pieces of 16 bytes. Gives a number by which it ends; the error has the piece.
    pub(crate) fn begin_read(
        &mut self,
        rank: u32,
        pieces: &mut Vec<u32>,
        who: Access,
    ) -> Result<u64, (u32, Wrong)> {
        pieces.sort_unstable();
        pieces.dedup();
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for &piece in pieces.iter() {
            let at = u64::from(piece) + u64::from(rank) * self.stride;
            match ranges.last_mut() {
                Some((_, end)) if *end == at => *end += 16,
                _ => ranges.push((at, at + 16)),
            }
        }
        if !self.are_fenced(&ranges, who.warp) {
            // What is wrong, or what makes it right, is to be found piece by piece.
            for &piece in pieces.iter() {
                self.access(rank, piece.into(), 16, Access { kind: READS, ..who }).map_err(|w| (piece, w))?;
            }
        }
        let by = Stamp { pc: who.pc, warp: who.warp as u8, lane: who.lane as u8, bytes: 0xf };
        self.next_reading += 1;
        self.readings.push(Reading { number: self.next_reading, ranges, by });
        Ok(self.next_reading)
    }

    /// Whether all of these bytes have been written, so long ago that whatever was done then by anybody is ordered and fenced before
    /// what the warp does next.
    fn are_fenced(&self, ranges: &[(u64, u64)], warp: u32) -> bool {
        let known = &self.known[warp as usize];
        let times = known.seen.iter().zip(&known.fenced).take(self.parties_used());
        let before = times.map(|(seen, fenced)| *seen.min(fenced)).min().unwrap_or(0);
        ranges.iter().all(|&(start, end)| {
            let late = |time: &u32| *time >= before;
            let mut pieces = (start..end).step_by(16);
            !self.write_times[start as usize / 4..end as usize / 4].iter().any(late)
                && pieces.all(|at| self.written[(at / 64) as usize] >> (at % 64) & 0xffff == 0xffff)
        })
    }

    /// A read is over: from now on it is one of the warp that waited.
    pub(crate) fn end_read(&mut self, number: u64) {
        let Some(place) = self.readings.iter().position(|r| r.number == number) else { return };
        let Reading { ranges, by, .. } = self.readings.swap_remove(place);
        for (start, end) in ranges {
            for word in start / 4..end / 4 {
                self.note_read(word as u32, by);
            }
        }
    }

    /// Nobody may be reading these bytes.
    pub(super) fn not_read(&self, at: u64, size: u64) -> Result<(), Wrong> {
        let overlaps = |r: &&Reading| r.ranges.iter().any(|&(start, end)| start < at + size && at < end);
        match self.readings.iter().find(overlaps) {
            Some(Reading { by, .. }) => Err(Wrong::StillRead(Party {
                warp: by.warp.into(),
                lane: Some(by.lane.into()),
                pc: Some(by.pc),
            })),
            None => Ok(()),
        }
    }
}
