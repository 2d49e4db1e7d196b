//! The register file of a warp: where registers, constants and special registers lie.
//!
//! A register of at most 32 bits takes 32 lanes of 4 bytes, one of 64 bits 32 lanes of 8, a predicate 4 bytes of lane bits.
//! Constants and special registers are registers that are written before the warp starts, so that handlers need no second
//! kind of operand. All functions that an entry can reach have their own registers in the one file.

use std::collections::HashMap;

/// How wide a register is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    Pred,
    Word,
    Long,
}

impl Class {
    /// Bytes of all lanes; predicates share theirs.
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Class::Pred => 4,
            Class::Word => 128,
            Class::Long => 256,
        }
    }
}

/// A value that is only known when a launch begins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Late {
    /// The address of a module variable, plus an addend.
    Symbol(String, i64),
}

/// Registers whose value the launch, block or warp gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub(crate) enum Special {
    Tid(u8),
    Ntid(u8),
    Ctaid(u8),
    Nctaid(u8),
    LaneId,
    WarpId,
    NumWarps,
    SmId,
    NumSm,
    GridId,
    MaskEq,
    MaskLe,
    MaskLt,
    MaskGe,
    MaskGt,
    ClusterCtaid(u8),
    ClusterNctaid(u8),
    ClusterRank,
    ClusterSize,
    /// 1 where the launch or the kernel names a cluster.
    ExplicitCluster,
    Clusterid(u8),
    Nclusterid(u8),
    DynamicShared,
    /// Static and dynamic shared memory, in whole units of so many bytes.
    TotalShared {
        unit: u32,
    },
    /// The same, and what is reserved for the system.
    AggregateShared {
        unit: u32,
    },
    /// Half of the address of what the blocks of a cooperative launch meet at, or 0.
    GridWorkspace {
        high: bool,
    },
}

/// Bytes of registers that a warp may have.
pub(crate) const MOST_BYTES: u32 = 1 << 24;

/// The layout, as it grows during decoding.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame {
    pub bytes: u32,
    pred_free: u32,
    constants: HashMap<(Class, u64), u32>,
    late: HashMap<Late, u32>,
    specials: HashMap<Special, u32>,
    /// Registers that begin with a value, and which.
    initial: Vec<(u32, u32)>,
}

impl Frame {
    /// A new register. Offset 0 is never given.
    pub(crate) fn register(&mut self, class: Class) -> u32 {
        if self.bytes == 0 {
            self.bytes = 64;
            self.pred_free = 4;
        }
        match class {
            Class::Pred => {
                if self.pred_free.is_multiple_of(64) {
                    self.pred_free = self.bytes;
                    self.bytes += 64;
                }
                self.pred_free += 4;
                self.pred_free - 4
            }
            Class::Word | Class::Long => {
                self.bytes += class.bytes();
                self.bytes - class.bytes()
            }
        }
    }

    pub(crate) fn constant(&mut self, class: Class, bits: u64) -> u32 {
        if let Some(&offset) = self.constants.get(&(class, bits)) {
            return offset;
        }
        let offset = self.register(class);
        self.constants.insert((class, bits), offset);
        offset
    }

    /// A new register of 32 bits that holds `bits` in every lane when the warp starts.
    pub(crate) fn beginning_with(&mut self, bits: u32) -> u32 {
        let offset = self.register(Class::Word);
        self.initial.push((offset, bits));
        offset
    }

    pub(crate) fn late(&mut self, late: Late) -> u32 {
        if let Some(&offset) = self.late.get(&late) {
            return offset;
        }
        let offset = self.register(Class::Long);
        self.late.insert(late, offset);
        offset
    }

    pub(crate) fn special(&mut self, special: Special) -> u32 {
        if let Some(&offset) = self.specials.get(&special) {
            return offset;
        }
        let offset = self.register(Class::Word);
        self.specials.insert(special, offset);
        offset
    }

    pub(crate) fn specials(&self) -> impl Iterator<Item = (Special, u32)> + '_ {
        self.specials.iter().map(|(&s, &o)| (s, o))
    }

    /// The file of a fresh warp: `pattern` in every register, constants in place.
    pub(crate) fn image(&self, pattern: u32, address: impl Fn(&str) -> u64) -> Vec<u32> {
        let mut words = vec![pattern; self.bytes as usize / 4];
        let longs = |words: &mut [u32], offset: u32, bits: u64| {
            for lane in 0..32 {
                words[offset as usize / 4 + 2 * lane] = bits as u32;
                words[offset as usize / 4 + 2 * lane + 1] = (bits >> 32) as u32;
            }
        };
        for (&(class, bits), &offset) in &self.constants {
            match class {
                Class::Pred => words[offset as usize / 4] = bits as u32,
                Class::Word => words[offset as usize / 4..][..32].fill(bits as u32),
                Class::Long => longs(&mut words, offset, bits),
            }
        }
        for &(offset, bits) in &self.initial {
            words[offset as usize / 4..][..32].fill(bits);
        }
        for (Late::Symbol(name, addend), &offset) in &self.late {
            longs(&mut words, offset, address(name).wrapping_add(*addend as u64));
        }
        words
    }
}
