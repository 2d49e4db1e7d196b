//! Warp collectives and barriers.

use super::frame::Class;
use super::function::{Decoded, FunctionDecoder, operands, type_of};
use crate::ops::collective::{Elect, Match, PREDICATE, Redux, Shuffle, UNGATHERED, Vote, WarpBarrier};
use crate::ops::{Instr, bits, control, pick};
use crate::syntax::ast::{Operand, Statement};
use crate::syntax::types::Type;

impl FunctionDecoder<'_, '_> {
    /// Decodes the statement if lanes or warps meet in it.
    pub(super) fn warp(&mut self, s: &Statement) -> Decoded<bool> {
        match s.opcode.as_str() {
            "shfl" => self.shfl(s)?,
            "vote" => self.vote(s)?,
            "match" => self.matching(s)?,
            "redux" => self.redux(s)?,
            "elect" => self.elect(s)?,
            "activemask" => {
                let [d] = operands(s)?;
                let mut instr = self.blank(pick::<bits::Dynamic>());
                (instr.d, instr.n) = (self.dst(d, Type::B32)?, 1);
                self.emit(instr);
            }
            "bar" if s.has("warp") => {
                let [mask] = operands(s)?;
                let mut instr = self.blank(pick::<WarpBarrier>());
                instr.e = self.src(mask, Type::B32)?;
                self.emit(instr);
            }
            "bar" | "barrier" if !s.has("cluster") => self.barrier(s)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Target `d` or `d|p`.
    fn with_predicate(&mut self, target: &Operand, ty: Type) -> Decoded<(u32, Option<u32>)> {
        match target {
            Operand::Pair(d, p) => {
                let d = self.dst(d, ty)?;
                Ok((d, Some(self.dst(p, Type::Pred)?)))
            }
            d => Ok((self.dst(d, ty)?, None)),
        }
    }

    /// The member mask of the `.sync` form of an instruction that has another form too.
    fn member_mask(&mut self, s: &Statement, rest: &[Operand], instr: &mut Instr) -> Decoded {
        if s.has("sync") {
            let [mask] = rest else { return Err(format!("`{}.sync` lacks its member mask", s.opcode)) };
            instr.e = self.src(mask, Type::B32)?;
        } else {
            instr.n |= UNGATHERED;
        }
        Ok(())
    }

    /// Emits an instruction with the target `d` or `d|p`.
    fn emit_with_predicate(&mut self, mut instr: Instr, target: &Operand) -> Decoded {
        let (d, p) = self.with_predicate(target, Type::B32)?;
        instr.d = d;
        if let Some(p) = p {
            instr.slot = p;
            instr.n |= PREDICATE;
        }
        self.emit(instr);
        Ok(())
    }

    fn shfl(&mut self, s: &Statement) -> Decoded {
        let [target, a, b, c, rest @ ..] = s.operands.as_slice() else {
            return Err("`shfl` lacks operands".into());
        };
        let mut instr = self.blank(pick::<Shuffle>());
        (instr.a, instr.b, instr.c) =
            (self.src(a, Type::B32)?, self.src(b, Type::U32)?, self.src(c, Type::U32)?);
        let mode =
            ["up", "down", "bfly", "idx"].iter().position(|m| s.has(m)).ok_or("`shfl` names no mode")?;
        instr.n = mode as u32;
        self.member_mask(s, rest, &mut instr)?;
        self.emit_with_predicate(instr, target)
    }

    fn vote(&mut self, s: &Statement) -> Decoded {
        let [d, p, rest @ ..] = s.operands.as_slice() else { return Err("`vote` lacks operands".into()) };
        let mode =
            ["all", "any", "uni", "ballot"].iter().position(|m| s.has(m)).ok_or("`vote` names no mode")?;
        let mut instr = self.blank(pick::<Vote>());
        let (p, negated) = self.predicate(p)?;
        (instr.a, instr.b, instr.n) = (p, if negated { !0 } else { 0 }, mode as u32);
        self.member_mask(s, rest, &mut instr)?;
        instr.d = self.dst(d, if mode == 3 { Type::B32 } else { Type::Pred })?;
        self.emit(instr);
        Ok(())
    }

    fn matching(&mut self, s: &Statement) -> Decoded {
        let ty = type_of(s)?;
        let [target, a, mask] = operands(s)?;
        if s.has("any") && matches!(target, Operand::Pair(..)) {
            return Err("`match.any` has no predicate".into());
        }
        let mut instr = self.blank(pick::<Match>());
        (instr.a, instr.e) = (self.src(a, ty)?, self.src(mask, Type::B32)?);
        instr.n = u32::from(s.has("all")) | u32::from(ty.size() == 8) << 1;
        self.emit_with_predicate(instr, target)
    }

    fn redux(&mut self, s: &Statement) -> Decoded {
        let ty = type_of(s)?;
        let [d, a, mask] = operands(s)?;
        let operation = ["add", "min", "max", "and", "or", "xor"]
            .iter()
            .position(|o| s.has(o))
            .ok_or("`redux` names no operation")?;
        let mut instr = self.blank(pick::<Redux>());
        instr.n = match (operation, ty) {
            (0, _) => 0,
            (1 | 2, Type::F32) => 7 + operation as u32,
            (1, Type::S32) => 3,
            (2, Type::S32) => 4,
            (1, _) => 1,
            (2, _) => 2,
            (other, _) => other as u32 + 2,
        };
        instr.c = u32::from(s.has("abs")) | u32::from(s.has("NaN")) << 1;
        (instr.a, instr.e) = (self.src(a, Type::B32)?, self.src(mask, Type::B32)?);
        instr.d = self.dst(d, Type::B32)?;
        self.emit(instr);
        Ok(())
    }

    fn elect(&mut self, s: &Statement) -> Decoded {
        let [target, mask] = operands(s)?;
        let mut instr = self.blank(pick::<Elect>());
        instr.e = self.src(mask, Type::B32)?;
        let (d, p) = self.with_predicate(target, Type::B32)?;
        instr.d = d;
        instr.slot = match p {
            Some(p) => p,
            None => self.temp(Class::Pred),
        };
        self.emit(instr);
        Ok(())
    }

    /// `bar.sync a{, b}`, `bar.arrive a, b`, `bar.red.op d, a{, b}, p` and the same as `barrier`.
    fn barrier(&mut self, s: &Statement) -> Decoded {
        let mut instr = self.blank(pick::<control::Barrier>());
        let mut rest = s.operands.as_slice();
        if s.has("red") {
            let [d, middle @ .., p] = rest else { return Err("`bar.red` lacks operands".into()) };
            let (p, negated) = self.predicate(p)?;
            instr.c = p;
            instr.imm =
                ["popc", "and", "or"].iter().position(|o| s.has(o)).ok_or("`bar.red` names no operation")?
                    as i64;
            instr.d = self.dst(d, if instr.imm == 0 { Type::U32 } else { Type::Pred })?;
            instr.n = 4 | if negated { 8 } else { 0 };
            rest = middle;
        }
        instr.n |= if s.has("arrive") { 0 } else { 2 };
        match rest {
            [id] => instr.a = self.src(id, Type::U32)?,
            [id, count] => {
                (instr.a, instr.b) = (self.src(id, Type::U32)?, self.src(count, Type::U32)?);
                instr.n |= 1;
            }
            _ => return Err(format!("`{}` takes a barrier and a count", s.mnemonic())),
        }
        // `bar` is `barrier.aligned`: for whole warps.
        instr.n |= if s.opcode == "bar" || s.has("aligned") { control::ALIGNED } else { 0 };
        if s.has("arrive") && instr.n & 1 == 0 {
            return Err("an arrival needs a count of threads".into());
        }
        self.emit(instr);
        Ok(())
    }
}
