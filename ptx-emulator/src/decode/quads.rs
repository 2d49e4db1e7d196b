//! `mma` m8n8k4 of f16, which is four products: see [`crate::ops::quads`].

use super::function::{Decoded, FunctionDecoder, operands};
use super::matrix::parts;
use super::modifiers::Modifiers;
use crate::ops::pick;
use crate::ops::quads::{A_COLUMNS, B_ROWS, QuadMma};
use crate::ops::tiles::{HALF_C, HALF_D};
use crate::syntax::ast::Statement;
use crate::syntax::types::Type;

impl FunctionDecoder<'_, '_> {
    /// Decodes `mma.sync.aligned.m8n8k4.ALAYOUT.BLAYOUT.DTYPE.f16.f16.CTYPE d, a, b, c`. PTX manual: where c is f32, so is d.
    pub(super) fn quads(&mut self, s: &Statement) -> Decoded<bool> {
        let mut m = Modifiers::of(s);
        if s.opcode != "mma" || !m.has("sync") || !m.has("aligned") || !m.has("m8n8k4") || !s.has("f16") {
            return Ok(false);
        }
        let a_columns = m.want(&["row", "col"])? == "col";
        let b_rows = m.want(&["row", "col"])? == "row";
        let half_d = m.want(&["f16", "f32"])? == "f16";
        m.want(&["f16"])?;
        m.want(&["f16"])?;
        let half_c = m.want(&["f16", "f32"])? == "f16";
        m.end()?;
        if half_d && !half_c {
            return Err(m.unknown());
        }
        let [d, a, b, c] = operands(s)?;
        let sums = |half: bool| if half { 4 } else { 8 };
        let mut list = Vec::new();
        for element in parts(d, sums(half_d), "d")? {
            list.push(self.dst(element, Type::B32)?);
        }
        for (operand, count, name) in [(a, 2, "a"), (b, 2, "b"), (c, sums(half_c), "c")] {
            for element in parts(operand, count, name)? {
                list.push(self.src(element, Type::B32)?);
            }
        }
        let mut instr = self.blank(pick::<QuadMma>());
        instr.b = self.list(&list);
        for (is, flag) in [(half_d, HALF_D), (half_c, HALF_C), (a_columns, A_COLUMNS), (b_rows, B_ROWS)] {
            instr.n |= if is { flag } else { 0 };
        }
        self.emit(instr);
        Ok(true)
    }
}
