//! Where an access to a word of shared memory was, in 64 bits, so that those of a warp are compared several at once.

use super::Party;
use super::lanes::{SEVERAL, UNCLEAR};

/// In `Stamp::bytes`, an atomic or volatile access: two of them do not race.
pub(super) const STRONG: u8 = 0x20;

/// Where an access was. From the low end: lane, bytes, warp, barriers of the warp before it (8 bits each), place in the program (32).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stamp(u64);

const LANE: u32 = 0;
const BYTES: u32 = 8;
const WARP: u32 = 16;
const SYNC: u32 = 24;
const PC: u32 = 32;
const FIELD: u64 = 0xff;

/// The bits of a noted access that do not matter: its lane and `SEVERAL`, where it has that.
#[inline(always)]
fn if_several(noted: u64) -> u64 {
    let several = noted & u64::from(SEVERAL) << BYTES;
    let one = several >> (BYTES + SEVERAL.trailing_zeros());
    several | ((one << 8) - one)
}

/// How far apart in the program a noted access of several lanes and another are, if both are writes: those of one instruction do not race.
#[inline(always)]
fn apart(noted: u64, own: u64, writes: bool) -> u64 {
    let several = noted >> (BYTES + SEVERAL.trailing_zeros()) & u64::from(writes);
    (noted ^ own) >> PC & several.wrapping_neg()
}

impl Stamp {
    pub(super) fn new(pc: u32, (warp, lane): (u32, u32), bytes: u8, sync: u8) -> Stamp {
        let low = u64::from(lane) << LANE | u64::from(bytes) << BYTES;
        Stamp(u64::from(pc) << PC | u64::from(sync) << SYNC | u64::from(warp) << WARP | low)
    }

    #[inline(always)]
    pub(super) fn lane(self) -> u8 {
        (self.0 >> LANE) as u8
    }

    /// The bytes of the word in the low four bits, `STRONG`, and what is known of the lanes; no bytes where several warps' accesses
    /// disagree.
    #[inline(always)]
    pub(super) fn bytes(self) -> u8 {
        (self.0 >> BYTES) as u8
    }

    #[inline(always)]
    pub(super) fn warp(self) -> u8 {
        (self.0 >> WARP) as u8
    }

    /// The warp's barriers before the access, see `lanes`.
    #[inline(always)]
    pub(super) fn sync(self) -> u8 {
        (self.0 >> SYNC) as u8
    }

    #[inline(always)]
    pub(super) fn pc(self) -> u32 {
        (self.0 >> PC) as u32
    }

    #[inline(always)]
    fn with(self, field: u32, value: u8) -> Stamp {
        Stamp(self.0 & !(FIELD << field) | u64::from(value) << field)
    }

    #[inline(always)]
    pub(super) fn with_lane(self, lane: u8) -> Stamp {
        self.with(LANE, lane)
    }

    #[inline(always)]
    pub(super) fn with_bytes(self, bytes: u8) -> Stamp {
        self.with(BYTES, bytes)
    }

    #[inline(always)]
    pub(super) fn with_warp(self, warp: u8) -> Stamp {
        self.with(WARP, warp)
    }

    #[inline(always)]
    pub(super) fn with_sync(self, sync: u8) -> Stamp {
        self.with(SYNC, sync)
    }

    /// The bytes of the word, and whether the access is strong.
    #[inline(always)]
    pub(super) fn plain(self) -> u8 {
        self.bytes() & (0xf | STRONG)
    }

    pub(super) fn party(self) -> Party {
        Party { warp: self.warp().into(), lane: Some(self.lane().into()), pc: Some(self.pc()) }
    }

    /// As the other party to a lane: where that is the lane itself, it is another that accessed the same.
    pub(super) fn party_to(self, who: Stamp) -> Party {
        let itself = self.lane() == who.lane() && who.bytes() & SEVERAL == 0;
        Party { lane: (!itself).then_some(self.lane().into()), ..self.party() }
    }

    /// The stamps of words that lanes access one after another, `2^step` words and `each` lanes for each, from this of the first.
    #[inline(always)]
    fn of_words(self, step: u32, each: u8) -> impl Fn(usize) -> u64 {
        move |word| self.0 + u64::from((word as u32 >> step) * u32::from(each))
    }

    /// Notes these accesses.
    #[inline(always)]
    pub(super) fn fill(self, stamps: &mut [Stamp], step: u32, each: u8) {
        let of = self.of_words(step, each);
        stamps.iter_mut().enumerate().for_each(|(word, stamp)| *stamp = Stamp(of(word)));
    }

    /// Whether all of these accesses, of which all write or none, have been noted, but for their place in the program. Where several
    /// lanes did the same it does not matter which; several of another instruction race with these if they write.
    #[inline(always)]
    pub(super) fn are_in(self, noted: &[Stamp], (step, each): (u32, u8), writes: bool) -> bool {
        let of = self.of_words(step, each);
        let strange = |word: usize, noted: u64| {
            (noted ^ of(word)) & !if_several(noted) | apart(noted, of(word), writes)
        };
        noted.iter().enumerate().fold(0, |all, (word, stamp)| all | strange(word, stamp.0)) as u32 == 0
    }

    /// How one access differs from a noted one but for its place in the program; 0: they are the same.
    #[inline(always)]
    pub(super) fn differs(self, noted: Stamp) -> u64 {
        (self.0 ^ noted.0) & u64::from(u32::MAX)
    }

    /// How one access differs from a noted one as in `are_in`; 0: not. More bytes may have been noted.
    #[inline(always)]
    pub(super) fn beyond(self, noted: Stamp, writes: bool) -> u64 {
        let more = (noted.0 ^ self.0) & !(if_several(noted.0) | u64::from(0xf | SEVERAL) << BYTES);
        more & u64::from(u32::MAX)
            | (self.0 & !noted.0) & u64::from(0xf | SEVERAL) << BYTES
            | apart(noted.0, self.0, writes)
    }

    /// Whether these accesses all come after noted ones of the same warp: those before its last barrier, and each lane's own.
    #[inline(always)]
    pub(super) fn come_after(self, noted: &[Stamp], step: u32, each: u8) -> bool {
        let of = self.of_words(step, each);
        let flags = u64::from(SEVERAL | UNCLEAR) << BYTES;
        let bad = |word: usize, noted: u64| {
            let (own, both) = (of(word), (noted ^ of(word)));
            let since = both & FIELD << SYNC == 0;
            let lanes = both & FIELD << LANE | (noted | own) & flags;
            both & FIELD << WARP | if since { lanes } else { 0 }
        };
        noted.iter().enumerate().fold(0, |all, (word, stamp)| all | bad(word, stamp.0)) == 0
    }
}
