//! Integers of 16 and 8 bits side by side in a register: `add min max` of `u16x2` and `s16x2`, and the packed video instructions.

use super::{Cx, Flow, Handler, Instr, LANES};

/// What is done with each pair of elements; the numbers are in the low byte of `Instr::n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PackedOp {
    Add,
    Sub,
    Min,
    Max,
    Average,
    Difference,
    Equal,
    Unequal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl PackedOp {
    const ALL: [PackedOp; 12] = [
        PackedOp::Add,
        PackedOp::Sub,
        PackedOp::Min,
        PackedOp::Max,
        PackedOp::Average,
        PackedOp::Difference,
        PackedOp::Equal,
        PackedOp::Unequal,
        PackedOp::Less,
        PackedOp::LessEqual,
        PackedOp::Greater,
        PackedOp::GreaterEqual,
    ];

    fn of(self, a: i32, b: i32) -> i32 {
        match self {
            PackedOp::Add => a + b,
            PackedOp::Sub => a - b,
            PackedOp::Min => a.min(b),
            PackedOp::Max => a.max(b),
            // Halves are rounded away from zero.
            PackedOp::Average => (a + b + i32::from(a + b >= 0)) >> 1,
            PackedOp::Difference => (a - b).abs(),
            PackedOp::Equal => i32::from(a == b),
            PackedOp::Unequal => i32::from(a != b),
            PackedOp::Less => i32::from(a < b),
            PackedOp::LessEqual => i32::from(a <= b),
            PackedOp::Greater => i32::from(a > b),
            PackedOp::GreaterEqual => i32::from(a >= b),
        }
    }
}

/// Flag in `Instr::n`: elements of a are signed.
pub(crate) const SIGNED_A: u32 = 1 << 8;
/// Flag in `Instr::n`: elements of b are signed.
pub(crate) const SIGNED_B: u32 = 1 << 9;
/// Flag in `Instr::n`: elements of d are signed, to which `SATURATES` clamps.
pub(crate) const SIGNED_D: u32 = 1 << 10;
/// Flag in `Instr::n`: results are clamped to an element's range.
pub(crate) const SATURATES: u32 = 1 << 11;
/// Flag in `Instr::n`: negative results become 0.
pub(crate) const RELU: u32 = 1 << 12;
/// Flag in `Instr::n`: the results are added to c; otherwise they are put into c's elements.
pub(crate) const SUMS: u32 = 1 << 13;

/// Element `k` of a register, of so many bits each, as a number.
#[inline(always)]
pub(super) fn element(word: u32, k: usize, bits: u32, signed: bool) -> i32 {
    let top = word << (32 - bits - bits * k as u32);
    if signed { top as i32 >> (32 - bits) } else { (top >> (32 - bits)) as i32 }
}

/// Elements of `BITS` bits of `a` and `b`; `imm` has a bit for each element that is wanted.
pub(crate) struct Packed<const BITS: u32>;

impl<const BITS: u32> Handler for Packed<BITS> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        let operation = PackedOp::ALL[(i.n & 0xff) as usize];
        let has = |flag: u32| i.n & flag != 0;
        let range =
            if has(SIGNED_D) { -(1 << (BITS - 1))..=(1 << (BITS - 1)) - 1 } else { 0..=(1 << BITS) - 1 };
        let mut out = [0u32; LANES];
        // SAFETY: the decoder gave four 32-bit registers.
        unsafe {
            let (a, b, c) = (cx.lanes::<u32>(i.a), cx.lanes::<u32>(i.b), cx.lanes::<u32>(i.c));
            for l in 0..LANES {
                let mut word = c[l];
                for k in (0..32 / BITS as usize).filter(|k| i.imm >> k & 1 != 0) {
                    let (x, y) =
                        (element(a[l], k, BITS, has(SIGNED_A)), element(b[l], k, BITS, has(SIGNED_B)));
                    let mut result = operation.of(x, y);
                    if has(SATURATES) {
                        result = result.clamp(*range.start(), *range.end());
                    }
                    if has(RELU) {
                        result = result.max(0);
                    }
                    if has(SUMS) {
                        word = word.wrapping_add(result as u32);
                    } else {
                        let (mask, shift) = ((1u32 << BITS) - 1, BITS * k as u32);
                        word = word & !(mask << shift) | (result as u32 & mask) << shift;
                    }
                }
                out[l] = word;
            }
            cx.set_lanes(i.d, m, &out);
        }
        Flow::Next
    }
}
