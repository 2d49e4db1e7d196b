//! The generator of dropout: Philox4x32-10, which turns a place and a seed into random bits, so that nothing is stored.
//!
//! J. Salmon, M. Moraes, R. Dror, D. Shaw: Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011).
//!
//! The weight of a query and a key is kept if its word is at least [`threshold`]. The word is one of the four of
//! `philox4x32_10([group, query, batch * query_heads + head, offset], [seed low, seed high])`; [`place`] names the key's
//! group and word.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: u32 = 10;

/// Four random words for a counter and a key.
#[inline]
pub const fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut a, mut b, mut c, mut d], [mut low, mut high]) = (counter, key);
    let mut round = 0;
    while round < ROUNDS {
        let x = MULTIPLIERS[0] as u64 * a as u64;
        let y = MULTIPLIERS[1] as u64 * c as u64;
        [a, b, c, d] = [(y >> 32) as u32 ^ b ^ low, y as u32, (x >> 32) as u32 ^ d ^ high, x as u32];
        low = low.wrapping_add(WEYL[0]);
        high = high.wrapping_add(WEYL[1]);
        round += 1;
    }
    [a, b, c, d]
}

/// The Philox group of a key, and which of the group's four words is the key's.
///
/// Eight groups share 32 keys: a group holds the keys that are 8 apart.
#[inline]
pub const fn place(key: u32) -> (u32, usize) {
    ((key / 32) * 8 + key % 8, (key / 8 % 4) as usize)
}

/// The words below this are those of dropped weights: the share `p` of all words, to nearest.
#[inline]
pub fn threshold(p: f32) -> u32 {
    // Casts to integers saturate.
    (f64::from(p) * 4_294_967_296.0 + 0.5) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_random123() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([!0; 4], [!0; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, words) in cases {
            assert_eq!(philox4x32_10(counter, key), words);
        }
    }

    #[test]
    fn every_key_has_a_word_of_its_own() {
        let mut seen = [[false; 4]; 64];
        for key in 0..256 {
            let (group, word) = place(key);
            assert!(!core::mem::replace(&mut seen[group as usize][word], true));
        }
    }

    #[test]
    fn the_threshold_is_the_share_of_all_words() {
        assert_eq!([0.0, 0.25, 0.5].map(threshold), [0, 1 << 30, 1 << 31]);
        assert_eq!(threshold(1.0), u32::MAX);
    }
}
