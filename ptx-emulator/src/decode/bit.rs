//! Logic, shifts, bit fields, comparisons and selections.

use super::arith::{int_run, no_form};
use super::frame::{Class, Special};
use super::function::{Decoded, FunctionDecoder, operands, type_of, types};
use crate::ops::compare::{
    self, COMBINE_AND, COMBINE_NONE, COMBINE_NOT, COMBINE_OR, COMBINE_XOR, COMPARISONS, SECOND_TARGET,
};
use crate::ops::lanes::{M1, M2, M3};
use crate::ops::real::{BF16, F16, F32, F64};
use crate::ops::{Run, bits, int, pick};
use crate::syntax::ast::{Operand, Statement};
use crate::syntax::types::Type;

impl FunctionDecoder<'_, '_> {
    /// Decodes the statement if it works on bits or predicates.
    pub(super) fn bits(&mut self, s: &Statement) -> Decoded<bool> {
        match s.opcode.as_str() {
            "and" | "or" | "xor" | "not" if type_of(s)? == Type::Pred => self.pred_logic(s)?,
            "and" | "or" | "xor" => self.logic(s)?,
            "not" | "cnot" | "popc" | "clz" | "brev" | "bfind" => self.bit_unary(s)?,
            "shl" | "shr" | "bmsk" | "szext" => self.shift(s)?,
            "shf" | "prmt" | "fns" | "bfe" | "dp4a" | "dp2a" | "lop3" | "bfi" => self.field(s)?,
            "setp" => self.setp(s)?,
            "set" => self.set(s)?,
            "selp" | "slct" => self.select(s)?,
            "testp" => self.testp(s)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn pred_logic(&mut self, s: &Statement) -> Decoded {
        let (d, a) = match s.operands.as_slice() {
            [d, a] | [d, a, _] => (d, a),
            _ => return Err(format!("`{}` takes 2 or 3 operands", s.opcode)),
        };
        let a = self.src(a, Type::Pred)?;
        let b = s.operands.get(2).map_or(Ok(a), |b| self.src(b, Type::Pred))?;
        let code = match s.opcode.as_str() {
            "and" => 0,
            "or" => 1,
            "xor" => 2,
            _ => 3,
        };
        self.emit_pred(code, d, a, b)
    }

    pub(super) fn emit_pred(&mut self, code: u32, d: &Operand, a: u32, b: u32) -> Decoded {
        let d = self.dst(d, Type::Pred)?;
        let mut instr = self.blank(pick::<bits::PredLogic>());
        (instr.d, instr.a, instr.b, instr.n) = (d, a, b, code);
        self.emit(instr);
        Ok(())
    }

    fn logic(&mut self, s: &Statement) -> Decoded {
        let ty = type_of(s)?;
        let [d, a, b] = operands(s)?;
        let (a, b, d) = (self.src(a, ty)?, self.src(b, ty)?, self.dst(d, ty)?);
        let run = match (s.opcode.as_str(), ty.size()) {
            ("and", 8) => pick::<M2<int::And64>>(),
            ("or", 8) => pick::<M2<int::Or64>>(),
            ("xor", 8) => pick::<M2<int::Xor64>>(),
            ("and", _) => pick::<M2<int::And32>>(),
            ("or", _) => pick::<M2<int::Or32>>(),
            _ => pick::<M2<int::Xor32>>(),
        };
        self.emit_op(run, d, &[a, b]);
        Ok(())
    }

    fn bit_unary(&mut self, s: &Statement) -> Decoded {
        let ty = type_of(s)?;
        let [d, a] = operands(s)?;
        let a = self.src(a, ty)?;
        let result = if matches!(s.opcode.as_str(), "popc" | "clz" | "bfind") { Type::U32 } else { ty };
        let d = self.dst(d, result)?;
        let wide = ty.size() == 8;
        let run = match (s.opcode.as_str(), wide, ty.is_signed(), s.has("shiftamt")) {
            ("not", ..) => int_run!(ty, M1, Not32),
            ("cnot", ..) => int_run!(ty, M1, CNot),
            ("popc", false, ..) => pick::<M1<bits::Popc32>>(),
            ("popc", true, ..) => pick::<M1<bits::Popc64>>(),
            ("clz", false, ..) => pick::<M1<bits::Clz32>>(),
            ("clz", true, ..) => pick::<M1<bits::Clz64>>(),
            ("brev", false, ..) => pick::<M1<bits::Brev32>>(),
            ("brev", true, ..) => pick::<M1<bits::Brev64>>(),
            (_, false, false, false) => pick::<M1<bits::BfindU32>>(),
            (_, false, true, false) => pick::<M1<bits::BfindS32>>(),
            (_, true, false, false) => pick::<M1<bits::BfindU64>>(),
            (_, true, true, false) => pick::<M1<bits::BfindS64>>(),
            (_, false, false, true) => pick::<M1<bits::ShiftAmountU32>>(),
            (_, false, true, true) => pick::<M1<bits::ShiftAmountS32>>(),
            (_, true, false, true) => pick::<M1<bits::ShiftAmountU64>>(),
            (_, true, true, true) => pick::<M1<bits::ShiftAmountS64>>(),
        };
        self.emit_op(run, d, &[a]);
        Ok(())
    }

    fn shift(&mut self, s: &Statement) -> Decoded {
        let ty = type_of(s)?;
        let [d, a, b] = operands(s)?;
        let (a, b, d) = (self.src(a, ty)?, self.src(b, Type::U32)?, self.dst(d, ty)?);
        let wrap = s.has("wrap");
        let run = match (s.opcode.as_str(), wrap, ty.is_signed()) {
            ("shl", ..) => int_run!(ty, M2, Shl),
            ("shr", ..) => int_run!(ty, M2, Shr),
            ("bmsk", false, _) => pick::<M2<bits::BmskClamp>>(),
            ("bmsk", true, _) => pick::<M2<bits::BmskWrap>>(),
            (_, false, false) => pick::<M2<bits::SzextClampU32>>(),
            (_, false, true) => pick::<M2<bits::SzextClampS32>>(),
            (_, true, false) => pick::<M2<bits::SzextWrapU32>>(),
            (_, true, true) => pick::<M2<bits::SzextWrapS32>>(),
        };
        self.emit_op(run, d, &[a, b]);
        Ok(())
    }

    fn field(&mut self, s: &Statement) -> Decoded {
        match s.opcode.as_str() {
            "bfi" => return self.bfi(s),
            "lop3" => return self.lop3(s),
            "dp2a" => return self.dp2a(s),
            _ => {}
        }
        let ty = type_of(s)?;
        let [d, a, b, c] = operands(s)?;
        let (a, d) = (self.src(a, ty)?, self.dst(d, ty)?);
        let (b, c) = (self.src(b, Type::U32)?, self.src(c, Type::U32)?);
        let both = types(s);
        let run = match s.opcode.as_str() {
            "bfe" => match ty {
                Type::U32 => pick::<M3<bits::BfeU32>>(),
                Type::S32 => pick::<M3<bits::BfeS32>>(),
                Type::U64 => pick::<M3<bits::BfeU64>>(),
                Type::S64 => pick::<M3<bits::BfeS64>>(),
                other => return Err(no_form(other)),
            },
            "shf" => match (s.has("l"), s.has("wrap")) {
                (true, false) => pick::<M3<bits::ShfLeftClamp>>(),
                (true, true) => pick::<M3<bits::ShfLeftWrap>>(),
                (false, false) => pick::<M3<bits::ShfRightClamp>>(),
                (false, true) => pick::<M3<bits::ShfRightWrap>>(),
            },
            "prmt" => prmt(s),
            "fns" => pick::<M3<bits::Fns>>(),
            _ => match (both.first() == Some(&Type::S32), ty == Type::S32) {
                (false, false) => pick::<M3<bits::Dp4aUU>>(),
                (false, true) => pick::<M3<bits::Dp4aUS>>(),
                (true, false) => pick::<M3<bits::Dp4aSU>>(),
                (true, true) => pick::<M3<bits::Dp4aSS>>(),
            },
        };
        self.emit_op(run, d, &[a, b, c]);
        Ok(())
    }

    fn bfi(&mut self, s: &Statement) -> Decoded {
        let ty = type_of(s)?;
        let [d, a, b, c, e] = operands(s)?;
        let mut instr = self.blank(pick::<bits::Bfi>());
        (instr.a, instr.b) = (self.src(a, ty)?, self.src(b, ty)?);
        (instr.c, instr.e) = (self.src(c, Type::U32)?, self.src(e, Type::U32)?);
        instr.d = self.dst(d, ty)?;
        instr.n = ty.bits();
        self.emit(instr);
        Ok(())
    }

    /// `lop3.b32 d, a, b, c, table` and `lop3.BOOL.b32 d|p, a, b, c, table, q`, whose `p` says whether the result is not zero.
    fn lop3(&mut self, s: &Statement) -> Decoded {
        let (d, p, [a, b, c, table], q) = match s.operands.as_slice() {
            [Operand::Pair(d, p), a, b, c, table, q] => (&**d, Some(&**p), [a, b, c, table], Some(q)),
            [d, a, b, c, table] if s.modifiers.len() == 1 => (d, None, [a, b, c, table], None),
            _ => return Err("`lop3` takes d, a, b, c, a table; or d|p, a, b, c, a table, q".into()),
        };
        let Operand::Int(table) = table else { return Err("the table of `lop3` must be a constant".into()) };
        let mut instr = self.blank(pick::<bits::Lop3>());
        (instr.a, instr.b, instr.c) =
            (self.src(a, Type::B32)?, self.src(b, Type::B32)?, self.src(c, Type::B32)?);
        let q = q.map(|q| self.predicate(q)).transpose()?;
        instr.d = self.dst(d, Type::B32)?;
        instr.n = *table as u32 & 0xff;
        let result = instr.d;
        self.emit(instr);
        let (Some(p), Some((q, negated))) = (p, q) else { return Ok(()) };
        let combine = match s.modifiers.first().map(String::as_str) {
            Some("and") => COMBINE_AND,
            Some("or") => COMBINE_OR,
            _ => return Err("`lop3` with a predicate combines it by `.and` or `.or`".into()),
        };
        let mut compare = self.blank(pick::<compare::Setp<u32>>());
        let zero = self.src(&Operand::Int(0), Type::B32)?;
        (compare.a, compare.b, compare.c) = (result, zero, q);
        compare.d = self.dst(p, Type::Pred)?;
        let unequal = COMPARISONS.iter().position(|&c| c == "ne").unwrap_or_default() as u32;
        compare.n = unequal | combine | if negated { COMBINE_NOT } else { 0 };
        self.emit(compare);
        Ok(())
    }

    /// The predicate register `%is_explicit_cluster`.
    pub(super) fn explicit_cluster(&mut self) -> u32 {
        let zero = self.context.frame.constant(Class::Word, 0);
        let mut compare = self.blank(pick::<compare::Setp<u32>>());
        compare.a = self.context.frame.special(Special::ExplicitCluster);
        compare.b = zero;
        compare.d = self.temp(Class::Pred);
        compare.n = COMPARISONS.iter().position(|&c| c == "ne").unwrap_or_default() as u32;
        let predicate = compare.d;
        let after = self.pending();
        self.emit(compare);
        self.restore(after);
        predicate
    }

    fn dp2a(&mut self, s: &Statement) -> Decoded {
        let both = types(s);
        let [d, a, b, c] = operands(s)?;
        let mut instr = self.blank(pick::<bits::Dp2a>());
        (instr.a, instr.b, instr.c) =
            (self.src(a, Type::B32)?, self.src(b, Type::B32)?, self.src(c, Type::B32)?);
        instr.d = self.dst(d, Type::B32)?;
        let signed = |k: usize| u32::from(both.get(k).is_some_and(|t| t.is_signed()));
        instr.n = signed(0) | signed(1) << 1 | u32::from(s.has("hi")) << 2;
        self.emit(instr);
        Ok(())
    }

    /// Comparison code and how a predicate operand is combined.
    fn comparison(&self, s: &Statement) -> Decoded<u32> {
        let name = s.modifiers.first().map_or("", String::as_str);
        let name = match name {
            "lo" => "lt",
            "ls" => "le",
            "hi" => "gt",
            "hs" => "ge",
            other => other,
        };
        let code = COMPARISONS
            .iter()
            .position(|&c| c == name)
            .ok_or_else(|| format!("`.{name}` is no comparison"))?;
        let combine = match s.modifiers.get(1).map(String::as_str) {
            Some("and") => COMBINE_AND,
            Some("or") => COMBINE_OR,
            Some("xor") => COMBINE_XOR,
            _ => COMBINE_NONE,
        };
        Ok(code as u32 | combine)
    }

    fn setp(&mut self, s: &Statement) -> Decoded {
        let ty = type_of(s)?;
        let mut code = self.comparison(s)?;
        let [target, a, b, rest @ ..] = s.operands.as_slice() else {
            return Err("`setp` takes at least 3 operands".into());
        };
        let pair = matches!(ty, Type::F16x2 | Type::BF16x2);
        let mut instr = self.blank(setp_run(ty, s.has("ftz"))?);
        (instr.a, instr.b) = (self.src(a, ty)?, self.src(b, ty)?);
        code |= self.combined(&mut instr, code, rest)?;
        match target {
            Operand::Pair(..) if !pair && matches!(ty, Type::F16 | Type::BF16) => {
                return Err(format!(
                    "a comparison of .{} has one target",
                    s.modifiers[s.modifiers.len() - 1]
                ));
            }
            Operand::Pair(p, q) => {
                (instr.d, instr.e) = (self.dst(p, Type::Pred)?, self.dst(q, Type::Pred)?);
                code |= SECOND_TARGET;
            }
            _ if pair => return Err("a packed comparison has two targets `p|q`".into()),
            p => instr.d = self.dst(p, Type::Pred)?,
        }
        instr.n = code;
        self.emit(instr);
        Ok(())
    }

    /// The predicate that a comparison with `.and`, `.or` or `.xor` has as its fourth operand, and no other; the flag of a negated one.
    fn combined(&mut self, instr: &mut crate::ops::Instr, code: u32, rest: &[Operand]) -> Decoded<u32> {
        match (code & 0x30 != 0, rest) {
            (false, []) => Ok(0),
            (true, [c]) => {
                let (c, negated) = self.predicate(c)?;
                instr.c = c;
                Ok(if negated { COMBINE_NOT } else { 0 })
            }
            (true, _) => Err("a comparison that combines needs a fourth operand".into()),
            (false, _) => {
                Err("a comparison has a fourth operand only where it combines: `.and`, `.or`, `.xor`".into())
            }
        }
    }

    /// `set`: a comparison, then all ones or 1.0 where it holds.
    fn set(&mut self, s: &Statement) -> Decoded {
        let [to, from] = types(s)[..] else { return Err("`set` names two types".into()) };
        let mut code = self.comparison(s)?;
        let [d, a, b, rest @ ..] = s.operands.as_slice() else {
            return Err("`set` takes at least 3 operands".into());
        };
        let mut instr = self.blank(setp_run(from, s.has("ftz"))?);
        (instr.a, instr.b) = (self.src(a, from)?, self.src(b, from)?);
        code |= self.combined(&mut instr, code, rest)?;
        instr.d = self.temp(Class::Pred);
        let p = instr.d;
        if matches!(from, Type::F16x2 | Type::BF16x2) {
            instr.e = self.temp(Class::Pred);
            instr.n = code | SECOND_TARGET;
            let q = instr.e;
            self.emit(instr);
            return self.set_halves(d, to, [q, p]);
        }
        instr.n = code;
        self.emit(instr);
        let truth = if to.is_float() { Operand::F64(1f64.to_bits()) } else { Operand::Int(-1) };
        let (yes, no) = (self.src(&truth, to)?, self.src(&Operand::Int(0), to)?);
        let d = self.dst(d, to)?;
        let run = if to.size() == 8 { pick::<bits::Select64>() } else { pick::<bits::Select32>() };
        self.emit_op(run, d, &[yes, no, p]);
        Ok(())
    }

    /// Each half 1.0, or all ones for an integer target, where its predicate holds.
    fn set_halves(&mut self, d: &Operand, to: Type, [upper, lower]: [u32; 2]) -> Decoded {
        let truth = match to {
            Type::F16x2 => 0x3c00,
            Type::BF16x2 => 0x3f80,
            Type::U32 | Type::S32 => 0xffff,
            other => return Err(no_form(other)),
        };
        let (yes, no) = (self.src(&Operand::Int(truth), Type::B32)?, self.src(&Operand::Int(0), Type::B32)?);
        let halves = [upper, lower].map(|p| {
            let half = self.temp(Class::Word);
            self.emit_op(pick::<bits::Select32>(), half, &[yes, no, p]);
            half
        });
        let d = self.dst(d, Type::B32)?;
        self.emit_op(pick::<M2<crate::ops::convert::Halves>>(), d, &halves);
        Ok(())
    }

    fn select(&mut self, s: &Statement) -> Decoded {
        let [d, a, b, c] = operands(s)?;
        let ty = if s.opcode == "slct" { types(s).first().copied() } else { types(s).last().copied() };
        let ty = ty.ok_or("no type is named")?;
        let (a, b) = (self.src(a, ty)?, self.src(b, ty)?);
        let wide = ty.size() == 8;
        if s.opcode == "selp" {
            let (p, negated) = self.predicate(c)?;
            let d = self.dst(d, ty)?;
            let (a, b) = if negated { (b, a) } else { (a, b) };
            self.emit_op(
                if wide { pick::<bits::Select64>() } else { pick::<bits::Select32>() },
                d,
                &[a, b, p],
            );
            return Ok(());
        }
        let by = type_of(s)?;
        let c = self.src(c, by)?;
        let d = self.dst(d, ty)?;
        let run = match (wide, by == Type::F32) {
            (false, false) => pick::<M3<int::Slct32>>(),
            (true, false) => pick::<M3<int::Slct64>>(),
            (false, true) => pick::<M3<int::SlctF32>>(),
            (true, true) => pick::<M3<int::SlctF64>>(),
        };
        self.emit_op(run, d, &[a, b, c]);
        Ok(())
    }

    fn testp(&mut self, s: &Statement) -> Decoded {
        let ty = type_of(s)?;
        let classes = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];
        let code = classes.iter().position(|c| s.has(c)).ok_or("`testp` names no class")?;
        let [d, a] = operands(s)?;
        let mut instr = self.blank(pick::<compare::Testp>());
        (instr.a, instr.d) = (self.src(a, ty)?, self.dst(d, Type::Pred)?);
        (instr.n, instr.e) = (code as u32, u32::from(ty == Type::F64));
        self.emit(instr);
        Ok(())
    }
}

fn prmt(s: &Statement) -> Run {
    match s.modifiers.last().map(String::as_str) {
        Some("f4e") => pick::<M3<bits::PrmtF4e>>(),
        Some("b4e") => pick::<M3<bits::PrmtB4e>>(),
        Some("rc8") => pick::<M3<bits::PrmtRc8>>(),
        Some("ecl") => pick::<M3<bits::PrmtEcl>>(),
        Some("ecr") => pick::<M3<bits::PrmtEcr>>(),
        Some("rc16") => pick::<M3<bits::PrmtRc16>>(),
        _ => pick::<M3<bits::Prmt>>(),
    }
}

fn setp_run(ty: Type, ftz: bool) -> Decoded<Run> {
    use compare::{Setp, SetpPair};
    Ok(match (ty, ftz) {
        (Type::U16 | Type::B16, _) => pick::<Setp<u16>>(),
        (Type::S16, _) => pick::<Setp<i16>>(),
        (Type::U32 | Type::B32, _) => pick::<Setp<u32>>(),
        (Type::S32, _) => pick::<Setp<i32>>(),
        (Type::U64 | Type::B64, _) => pick::<Setp<u64>>(),
        (Type::S64, _) => pick::<Setp<i64>>(),
        (Type::F32, false) => pick::<Setp<F32<false>>>(),
        (Type::F32, true) => pick::<Setp<F32<true>>>(),
        (Type::F64, _) => pick::<Setp<F64>>(),
        (Type::F16, false) => pick::<Setp<F16<false>>>(),
        (Type::F16, true) => pick::<Setp<F16<true>>>(),
        (Type::BF16, _) => pick::<Setp<BF16>>(),
        (Type::F16x2, false) => pick::<SetpPair<F16<false>>>(),
        (Type::F16x2, true) => pick::<SetpPair<F16<true>>>(),
        (Type::BF16x2, _) => pick::<SetpPair<BF16>>(),
        (other, _) => return Err(no_form(other)),
    })
}
