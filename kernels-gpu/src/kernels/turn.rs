//! Which query head of a group is the next one, and which of two buffers: one register for both, where none is left.

/// The progress of a fused backward kernel.
#[derive(Clone, Copy)]
pub struct Turn(u32);

impl Turn {
    /// The first step of the first head.
    #[inline(always)]
    pub fn first() -> Turn {
        Turn(0)
    }

    /// The head's index in its group.
    #[inline(always)]
    pub fn head(self) -> u32 {
        self.0 / 2
    }

    /// Whether the step is an odd one: the buffer that it uses.
    #[inline(always)]
    pub fn parity(self) -> u32 {
        self.0 % 2
    }

    /// The next step uses the other buffer.
    #[inline(always)]
    pub fn next_step(&mut self) {
        self.0 ^= 1;
    }

    /// The next head begins with an even step.
    #[inline(always)]
    pub fn next_head(&mut self) {
        self.0 = (self.0 | 1) + 1;
    }

    /// A number below 2^31, as `KeyBlock::behind` takes it: no group has 2^30 heads.
    #[inline(always)]
    pub fn number(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_head_begins_with_an_even_step() {
        let mut turn = Turn::first();
        for (head, steps) in [3, 0, 2, 1].into_iter().enumerate() {
            assert_eq!((turn.head(), turn.parity()), (head as u32, 0));
            for step in 1..=steps {
                turn.next_step();
                assert_eq!((turn.head(), turn.parity()), (head as u32, step % 2));
            }
            turn.next_head();
        }
    }
}
