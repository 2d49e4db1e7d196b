//! Which attention weights dropout keeps: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
//!
//! The generator is a function of a counter and a key, without state. One call serves four keys that lie 8 apart: the
//! threads of a warp own columns 8 apart, in the tiles of `Efficient` as in the fragments of `mma.sync`, so that each thread
//! uses all four words.

/// Multipliers of the two halves of the counter.
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];

/// What the key grows by in every round.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Four random words of a counter and a key.
#[inline(always)]
pub const fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    let mut round = 0;
    while round < 10 {
        let (a, b) = (MULTIPLIERS[0] as u64 * c0 as u64, MULTIPLIERS[1] as u64 * c2 as u64);
        (c0, c1, c2, c3) = ((b >> 32) as u32 ^ c1 ^ k0, b as u32, (a >> 32) as u32 ^ c3 ^ k1, a as u32);
        (k0, k1) = (k0.wrapping_add(WEYL[0]), k1.wrapping_add(WEYL[1]));
        round += 1;
    }
    [c0, c1, c2, c3]
}

/// Where the word of a key is: the group of four keys that share a call, and the word of the four.
#[inline(always)]
pub const fn place(key: u32) -> (u32, usize) {
    (key / 32 * 8 + key % 8, (key / 8 % 4) as usize)
}

/// The counter of the weights of a query and a group of keys.
///
/// `row` is the batch entry's index times the query heads plus the query head; `query` and the group's keys count from the
/// start of their sequence.
#[inline(always)]
pub const fn counter(group: u32, query: u32, row: u32, offset: u32) -> [u32; 4] {
    [group, query, row, offset]
}

/// The words below this are dropped: `p * 2^32`, rounded. `p` is at least 0 and below 1.
pub fn threshold(p: f32) -> u32 {
    // The conversion truncates and saturates.
    (p as f64 * 4_294_967_296.0 + 0.5) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of the generator's reference implementation (Random123, `kat_vectors`).
    #[test]
    fn known_answers() {
        let ones = u32::MAX;
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32_10([ones; 4], [ones; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn every_key_has_a_word_of_its_own_and_eight_neighbours_have_the_same_word() {
        let mut seen = [[false; 4]; 64];
        for key in 0..256 {
            let (group, word) = place(key);
            assert!(!core::mem::replace(&mut seen[group as usize][word], true));
            assert_eq!(word as u32, key / 8 % 4);
        }
    }

    #[test]
    fn the_threshold_is_the_share_of_words_below_it() {
        assert_eq!([0.0, 0.25, 0.5].map(threshold), [0, 1 << 30, 1 << 31]);
        assert_eq!(threshold(1.0 - f32::EPSILON / 2.0), 0xffff_ff00);
    }
}
