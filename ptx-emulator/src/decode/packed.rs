//! Packed integers: `add min max` of `u16x2` and `s16x2`, and the video instructions of two and four elements.

use super::function::{Decoded, FunctionDecoder, operands};
use super::modifiers::Modifiers;
use crate::ops::packed::{Packed, PackedOp, RELU, SATURATES, SIGNED_A, SIGNED_B, SIGNED_D, SUMS};
use crate::ops::pick;
use crate::syntax::ast::{Operand, Statement};
use crate::syntax::types::Type;

/// The opcodes of the video instructions without their number of elements.
const VIDEO: [(&str, PackedOp); 7] = [
    ("vadd", PackedOp::Add),
    ("vsub", PackedOp::Sub),
    ("vmin", PackedOp::Min),
    ("vmax", PackedOp::Max),
    ("vavrg", PackedOp::Average),
    ("vabsdiff", PackedOp::Difference),
    ("vset", PackedOp::Equal),
];

const COMPARISONS: [(&str, PackedOp); 6] = [
    ("eq", PackedOp::Equal),
    ("ne", PackedOp::Unequal),
    ("lt", PackedOp::Less),
    ("le", PackedOp::LessEqual),
    ("gt", PackedOp::Greater),
    ("ge", PackedOp::GreaterEqual),
];

impl FunctionDecoder<'_, '_> {
    /// Decodes the statement if it is one of these.
    pub(super) fn packed(&mut self, s: &Statement) -> Decoded<bool> {
        match s.opcode.as_str() {
            "add" | "min" | "max" if s.has("u16x2") || s.has("s16x2") => self.packed_arithmetic(s)?,
            "vadd2" | "vsub2" | "vmin2" | "vmax2" | "vavrg2" | "vabsdiff2" | "vset2" => self.video(s, 2)?,
            "vadd4" | "vsub4" | "vmin4" | "vmax4" | "vavrg4" | "vabsdiff4" | "vset4" => self.video(s, 4)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `add.TYPE`, `min{.relu}.TYPE` and `max{.relu}.TYPE`; `.relu` of signed ones.
    fn packed_arithmetic(&mut self, s: &Statement) -> Decoded {
        let mut m = Modifiers::of(s);
        let operation = match s.opcode.as_str() {
            "add" => PackedOp::Add,
            "min" => PackedOp::Min,
            _ => PackedOp::Max,
        };
        let signed = s.has("s16x2");
        let relu = signed && s.opcode != "add" && s.modifiers.iter().any(|m| m == "relu");
        // Either order of the two modifiers is written.
        m.has("relu");
        m.want(&["u16x2", "s16x2"])?;
        if relu != s.has("relu") {
            return Err(m.unknown());
        }
        m.has("relu");
        m.end()?;
        let [d, a, b] = operands(s)?;
        let mut instr = self.blank(pick::<Packed<16>>());
        (instr.a, instr.b) = (self.src(a, Type::B32)?, self.src(b, Type::B32)?);
        (instr.c, instr.d) = (instr.a, self.dst(d, Type::B32)?);
        instr.n =
            operation as u32 | if signed { SIGNED_A | SIGNED_B } else { 0 } | if relu { RELU } else { 0 };
        instr.imm = 3;
        self.emit(instr);
        Ok(())
    }

    /// `vadd4.DTYPE.ATYPE.BTYPE{.sat} d{.mask}, a, b, c`, and `.add`, which adds the results to `c`; `vset4.ATYPE.BTYPE.COMPARISON`.
    fn video(&mut self, s: &Statement, elements: u32) -> Decoded {
        let mut m = Modifiers::of(s);
        let name = &s.opcode[..s.opcode.len() - 1];
        let mut operation = VIDEO.iter().find(|v| v.0 == name).ok_or_else(|| m.unknown())?.1;
        let types = ["u32", "s32"];
        let sets = name == "vset";
        let signed = |ty: &str, flag: u32| if ty == "s32" { flag } else { 0 };
        let mut flags = if sets { 0 } else { signed(m.want(&types)?, SIGNED_D) };
        flags |= signed(m.want(&types)?, SIGNED_A) | signed(m.want(&types)?, SIGNED_B);
        if sets {
            let wanted = m.next()?;
            operation = COMPARISONS.iter().find(|c| c.0 == wanted).ok_or_else(|| m.unknown())?.1;
        } else if m.has("sat") {
            flags |= SATURATES;
        }
        if m.has("add") {
            flags |= SUMS;
        }
        m.end()?;
        let [d, a, b, c] = operands(s)?;
        let (d, mask) = mask_of(d, elements)?;
        let mut instr =
            if elements == 2 { self.blank(pick::<Packed<16>>()) } else { self.blank(pick::<Packed<8>>()) };
        (instr.a, instr.b, instr.c) =
            (self.src(a, Type::B32)?, self.src(b, Type::B32)?, self.src(c, Type::B32)?);
        instr.d = self.dst(&d, Type::B32)?;
        (instr.n, instr.imm) = (operation as u32 | flags, mask);
        self.emit(instr);
        Ok(())
    }
}

/// A target without its mask, such as `.b10` or `.h1`, and the elements that the mask names: all where there is none.
fn mask_of(operand: &Operand, elements: u32) -> Decoded<(Operand, i64)> {
    let Operand::Name(name) = operand else { return Err("the first operand must be a register".into()) };
    let Some((register, mask)) = name.split_once('.') else {
        return Ok((operand.clone(), (1 << elements) - 1));
    };
    let digits = mask.strip_prefix(if elements == 2 { 'h' } else { 'b' }).unwrap_or("");
    let bits = digits.chars().try_fold(0, |bits, digit| {
        let k = digit.to_digit(10).filter(|&k| k < elements && bits >> k & 1 == 0)?;
        Some(bits | 1 << k)
    });
    let bits = bits.unwrap_or(0);
    if bits == 0 {
        return Err(format!("`.{mask}` is no mask of {elements} elements"));
    }
    Ok((Operand::Name(register.into()), bits))
}
