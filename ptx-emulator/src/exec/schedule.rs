//! In which order blocks and warps run.

/// The order in which blocks and warps run. Results of a correct kernel do not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// Blocks in the order of their numbers, on all host threads, and those that wait for others in turn; a block's warps
    /// in turn, each as far as it can go.
    #[default]
    InOrder,
    /// An order drawn from a seed, the same for the same seed: blocks one after another in a random order, on one host thread, and those
    /// that wait for others in random turns; their warps, and the parts of a warp that diverged, take turns of a random number of instructions, from 1 to some thousand.
    Seeded(u64),
}

/// Turns are shorter than 2 to this many instructions.
const LONGEST_TURN: u64 = 12;

/// Random numbers (splitmix64: Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators, 2014).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// The numbers of a block in the order of a seed.
    pub(super) fn new(seed: u64, block: u64) -> Random {
        let mut random = Random(seed);
        Random(random.next() ^ block.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0. The bias of the remainder does not matter here.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Instructions of a turn: all lengths are likely, short ones as likely as long ones.
    pub(super) fn turn(&mut self) -> u32 {
        let length = 1u64 << (self.next() % LONGEST_TURN);
        (length + self.next() % length) as u32
    }

    /// Brings a list into a random order.
    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}

/// The blocks of a grid in the order of a seed, without a list of them: a Feistel network on numbers of as many bits as the
/// grid needs, walked until it gives a block that there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockOrder {
    blocks: u64,
    half_bits: u32,
    keys: [u64; 4],
}

impl BlockOrder {
    pub(super) fn new(seed: u64, blocks: u64) -> BlockOrder {
        let mut random = Random(!seed);
        let bits = 64 - blocks.saturating_sub(1).leading_zeros();
        BlockOrder {
            blocks,
            half_bits: bits.div_ceil(2).max(1),
            keys: std::array::from_fn(|_| random.next()),
        }
    }

    /// The block that runs as number `place`, which is below the number of blocks.
    pub(super) fn at(&self, place: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let mut number = place;
        loop {
            let (mut left, mut right) = (number >> self.half_bits, number & mask);
            for key in self.keys {
                (left, right) = (right, left ^ (Random(right ^ key).next() & mask));
            }
            number = left << self.half_bits | right;
            if number < self.blocks {
                return number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_its_turn_once() {
        for blocks in [1, 2, 3, 7, 64, 65, 1000] {
            for seed in 0..4 {
                let order = BlockOrder::new(seed, blocks);
                let mut all: Vec<u64> = (0..blocks).map(|place| order.at(place)).collect();
                assert!(blocks < 64 || !all.is_sorted(), "{blocks} {seed}");
                all.sort();
                assert_eq!(all, (0..blocks).collect::<Vec<_>>(), "{blocks} {seed}");
            }
        }
        let large = BlockOrder::new(1, 0x7fff_ffff * 65535);
        assert_ne!(large.at(0), large.at(1));
    }

    #[test]
    fn turns_are_short_and_long() {
        let mut random = Random::new(3, 5);
        let turns: Vec<u32> = (0..1000).map(|_| random.turn()).collect();
        assert!(turns.iter().all(|n| (1..1 << LONGEST_TURN).contains(n)));
        assert!(
            turns.iter().filter(|&&n| n < 16).count() > 200
                && turns.iter().filter(|&&n| n >= 512).count() > 150
        );
    }
}
