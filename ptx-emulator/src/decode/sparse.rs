//! `mma.sp`: see [`crate::ops::sparse`].

use super::function::{Decoded, FunctionDecoder, operands};
use super::matrix::parts;
use super::modifiers::Modifiers;
use crate::ops::mma::{A_OTHER, B_OTHER, Brain, Eight, HALF_SUMS, Half, SATURATE, Tensor32};
use crate::ops::sparse::{ORDERED, SparseFloat, SparseInt};
use crate::ops::{Run, pick};
use crate::syntax::ast::{Operand, Statement};
use crate::syntax::types::Type;

/// The handler, how many lanes of four give metadata, and registers of A and of B.
fn form(shape: &str, a: &str, b: &str) -> Option<(Run, u32, usize, usize)> {
    let eight = |ty: &str| ["e4m3", "e5m2"].contains(&ty);
    let byte = |ty: &str| ["s8", "u8"].contains(&ty);
    let four = |ty: &str| ["s4", "u4"].contains(&ty);
    Some(match (shape, a, b) {
        ("m16n8k16", "f16", "f16") => (pick::<SparseFloat<Half, 16, 8, 24>>(), 1, 2, 2),
        ("m16n8k32", "f16", "f16") => (pick::<SparseFloat<Half, 32, 8, 24>>(), 2, 4, 4),
        ("m16n8k16", "bf16", "bf16") => (pick::<SparseFloat<Brain, 16, 8, 24>>(), 1, 2, 2),
        ("m16n8k32", "bf16", "bf16") => (pick::<SparseFloat<Brain, 32, 8, 24>>(), 2, 4, 4),
        ("m16n8k8", "tf32", "tf32") => (pick::<SparseFloat<Tensor32, 8, 4, 24>>(), 1, 2, 2),
        ("m16n8k16", "tf32", "tf32") => (pick::<SparseFloat<Tensor32, 16, 4, 24>>(), 2, 4, 4),
        ("m16n8k64", a, b) if eight(a) && eight(b) => (pick::<SparseFloat<Eight, 64, 16, 13>>(), 4, 4, 4),
        ("m16n8k32", a, b) if byte(a) && byte(b) => (pick::<SparseInt<32, 8>>(), 2, 2, 2),
        ("m16n8k64", a, b) if byte(a) && byte(b) => (pick::<SparseInt<64, 8>>(), 4, 4, 4),
        ("m16n8k64", a, b) if four(a) && four(b) => (pick::<SparseInt<64, 4>>(), 2, 2, 2),
        ("m16n8k128", a, b) if four(a) && four(b) => (pick::<SparseInt<128, 4>>(), 4, 4, 4),
        _ => return None,
    })
}

impl FunctionDecoder<'_, '_> {
    /// Decodes `mma.sp{::ordered_metadata}.sync.aligned.SHAPE.row.col{.satfinite}.DTYPE.ATYPE.BTYPE.CTYPE d, a, b, c, e, f`.
    pub(super) fn sparse(&mut self, s: &Statement) -> Decoded<bool> {
        let mut m = Modifiers::of(s);
        let Some(kind) = m.take(&["sp", "sp::ordered_metadata"]).filter(|_| s.opcode == "mma") else {
            return Ok(false);
        };
        m.want(&["sync"])?;
        m.want(&["aligned"])?;
        let shape = m.next()?;
        m.want(&["row"])?;
        m.want(&["col"])?;
        let saturate = m.has("satfinite");
        let [d_type, a_type, b_type, c_type] = [m.next()?, m.next()?, m.next()?, m.next()?];
        m.end()?;
        let (run, givers, of_a, of_b) = form(shape, a_type, b_type).ok_or_else(|| m.unknown())?;
        let integers = ["s8", "u8", "s4", "u4"].contains(&a_type);
        let half = match (d_type, c_type) {
            ("s32", "s32") if integers => false,
            ("f32", "f32") if !integers && !saturate => false,
            ("f16", "f16") if a_type == "f16" && !saturate => true,
            _ => return Err(m.unknown()),
        };
        let [d, a, b, c, metadata, selector] = operands(s)?;
        // One lane of four, a pair, or all.
        let selectors = 4 / i64::from(givers);
        let &Operand::Int(selector @ 0..) = selector else {
            return Err("the sparsity selector must be a constant".into());
        };
        if selector >= selectors {
            return Err(format!("the sparsity selector is below {selectors} for this shape, not {selector}"));
        }
        let sums = if half { 2 } else { 4 };
        let mut list = Vec::new();
        for element in parts(d, sums, "d")? {
            list.push(self.dst(element, Type::B32)?);
        }
        for (operand, count, name) in [(c, sums, "c"), (a, of_a, "a"), (b, of_b, "b")] {
            for element in parts(operand, count, name)? {
                list.push(self.src(element, Type::B32)?);
            }
        }
        list.push(self.src(metadata, Type::B32)?);
        let mut instr = self.blank(run);
        (instr.b, instr.c, instr.imm) = (self.list(&list), givers, selector);
        let flags = [
            (half, HALF_SUMS),
            (saturate, SATURATE),
            (["s8", "s4", "e5m2"].contains(&a_type), A_OTHER),
            (["s8", "s4", "e5m2"].contains(&b_type), B_OTHER),
            (kind != "sp", ORDERED),
        ];
        instr.n = flags.iter().map(|&(is, flag)| if is { flag } else { 0 }).sum();
        self.emit(instr);
        Ok(true)
    }
}
