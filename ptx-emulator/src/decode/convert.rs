//! `cvt` and `cvta`.

use super::arith::round_of;
use super::function::{Decoded, FunctionDecoder, operands, types};
use super::modifiers::Modifiers;
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};
use crate::numeric::round::Round;
use crate::ops::convert::{self as ops, Conversion};
use crate::ops::lanes::{M1, M2};
use crate::ops::real::{F16, Two};
use crate::ops::{Run, float, int, pick};
use crate::syntax::ast::{Operand, Statement};
use crate::syntax::types::{Space, Type};

impl FunctionDecoder<'_, '_> {
    /// Decodes the statement if it converts.
    pub(super) fn conversion(&mut self, s: &Statement) -> Decoded<bool> {
        match s.opcode.as_str() {
            "cvt" if s.has("tf32") => self.tf32(s)?,
            "cvt" if ["e4m3x2", "e5m2x2"].iter().any(|t| s.has(t)) => self.eight_bit_floats(s)?,
            "cvt" if s.has("pack") => self.saturate_and_pack(s)?,
            "cvt" if s.operands.len() == 3 => self.pack(s)?,
            "cvt" => self.cvt(s)?,
            "cvta" => self.cvta(s)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn conversion_of(&self, s: &Statement, from: Type, to: Type) -> Conversion {
        let integral = ["rni", "rzi", "rmi", "rpi"].iter().any(|m| s.has(m));
        Conversion {
            from,
            to,
            integral,
            round: round_of(s),
            ftz: s.has("ftz"),
            sat: s.has("sat"),
            relu: s.has("relu"),
            finite: s.has("satfinite"),
        }
    }

    fn cvt(&mut self, s: &Statement) -> Decoded {
        let [to, from] = types(s)[..] else {
            return Err(format!(
                "`{}` is not supported: it does not name two of the known types",
                s.mnemonic()
            ));
        };
        if to == Type::F16x2 || to == Type::BF16x2 || from == Type::F16x2 || from == Type::BF16x2 {
            return Err(format!("`{}` is not supported", s.mnemonic()));
        }
        let (to, from) = (signless(to), signless(from));
        let [d, a] = operands(s)?;
        let own = self.register_type(d);
        let a = self.src(a, from)?;
        let target = self.dst(d, to)?;
        let conversion = self.conversion_of(s, from, to);
        let mut instr = match fast(&conversion) {
            Some(run) => self.blank(run),
            None => {
                let mut instr = self.blank(pick::<ops::Convert>());
                instr.imm = conversion.encode();
                instr.e = u32::from(from.size() == 8) | u32::from(to.size() == 8) << 1;
                instr
            }
        };
        (instr.a, instr.d) = (a, target);
        // A signed result narrower than its register is extended to it.
        let extend = to.is_signed() && own.is_some_and(|t| t.size() > to.size()) && to.size() < 4;
        let after = if extend { self.pending() } else { Vec::new() };
        self.emit(instr);
        if extend {
            let run = if to.size() == 1 { pick::<M1<int::Extend8>>() } else { pick::<M1<int::Extend16>>() };
            if own.is_some_and(|t| t.size() > 2) {
                self.restore(after);
                self.emit_op(run, target, &[target]);
            } else {
                self.emit_op(run, target, &[target]);
                self.restore(after);
                self.emit_op(pick::<M1<int::Keep16>>(), target, &[target]);
            }
        }
        Ok(())
    }

    fn tf32(&mut self, s: &Statement) -> Decoded {
        let [d, a] = operands(s)?;
        let (a, d) = (self.src(a, Type::F32)?, self.dst(d, Type::B32)?);
        let run = match round_of(s) {
            Round::Nearest => pick::<M1<ops::Tf32Nearest>>(),
            Round::Zero => pick::<M1<ops::Tf32Zero>>(),
            _ => pick::<M1<ops::Tf32Away>>(),
        };
        self.emit_op(run, d, &[a]);
        if s.has("satfinite") {
            self.emit_op(pick::<M1<ops::Tf32Finite>>(), d, &[d]);
        }
        if s.has("relu") {
            self.emit_op(pick::<M1<ops::ReluF32>>(), d, &[d]);
        }
        Ok(())
    }

    /// `cvt.pack.sat.TYPE.s32 d, a, b` of 16 bits, `cvt.pack.sat.TYPE.s32.b32 d, a, b, c` of fewer.
    fn saturate_and_pack(&mut self, s: &Statement) -> Decoded {
        let mut m = Modifiers::of(s);
        m.want(&["pack"])?;
        m.want(&["sat"])?;
        let ty = m.want(&["u16", "s16", "u8", "s8", "u4", "s4", "u2", "s2"])?;
        m.want(&["s32"])?;
        let bits = match &ty[1..] {
            "16" => 16,
            "8" => 8,
            "4" => 4,
            _ => 2,
        };
        if bits < 16 {
            m.want(&["b32"])?;
        }
        m.end()?;
        let (d, a, b, c) = match s.operands.as_slice() {
            [d, a, b] if bits == 16 => (d, a, b, &Operand::Int(0)),
            [d, a, b, c] if bits < 16 => (d, a, b, c),
            _ => {
                let and_c = if bits == 16 { "" } else { " and the bits above them" };
                return Err(format!("`{}` takes a target, two integers{and_c}", s.mnemonic()));
            }
        };
        let (a, b, c) = (self.src(a, Type::S32)?, self.src(b, Type::S32)?, self.src(c, Type::B32)?);
        let mut instr = self.blank(pick::<ops::SaturateAndPack>());
        (instr.d, instr.a, instr.b, instr.c) = (self.dst(d, Type::B32)?, a, b, c);
        (instr.n, instr.e) = (bits, u32::from(ty.starts_with('s')));
        self.emit(instr);
        Ok(())
    }

    /// `cvt.….f16x2.f32 d, a, b` and bf16x2.
    fn pack(&mut self, s: &Statement) -> Decoded {
        let half = match types(s)[..] {
            [Type::F16x2, Type::F32] => Type::F16,
            [Type::BF16x2, Type::F32] => Type::BF16,
            _ => return Err(format!("`{}` is not supported", s.mnemonic())),
        };
        let [d, a, b] = operands(s)?;
        let (a, b) = (self.src(a, Type::F32)?, self.src(b, Type::F32)?);
        let d = self.dst(d, Type::B32)?;
        let conversion = self.conversion_of(s, Type::F32, half);
        if fast(&conversion).is_some() {
            let run = if half == Type::F16 {
                pick::<M2<ops::F16x2FromF32>>()
            } else {
                pick::<M2<ops::BF16x2FromF32>>()
            };
            self.emit_op(run, d, &[a, b]);
            return Ok(());
        }
        let halves = [a, b].map(|source| {
            let mut instr = self.blank(pick::<ops::Convert>());
            (instr.imm, instr.a, instr.d) =
                (conversion.encode(), source, self.temp(super::frame::Class::Word));
            self.emit(instr);
            instr.d
        });
        self.emit_op(pick::<M2<ops::Halves>>(), d, &halves);
        Ok(())
    }

    /// `cvt.rn.satfinite{.relu}.e4m3x2.f32 d, a, b`, the same from a pair of halves, and `cvt.rn{.relu}.f16x2.e4m3x2 d, a`.
    fn eight_bit_floats(&mut self, s: &Statement) -> Decoded {
        let mut m = Modifiers::of(s);
        m.want(&["rn"])?;
        let narrows = m.has("satfinite");
        let relu = m.has("relu");
        let eights = ["e4m3x2", "e5m2x2"];
        if !narrows {
            m.want(&["f16x2"])?;
            let wide = m.want(&eights)? == "e5m2x2";
            m.end()?;
            let [d, a] = operands(s)?;
            let (a, d) = (self.src(a, Type::B16)?, self.dst(d, Type::B32)?);
            let run =
                if wide { pick::<M1<ops::F16x2FromE5m2x2>>() } else { pick::<M1<ops::F16x2FromE4m3x2>>() };
            self.emit_op(run, d, &[a]);
            if relu {
                self.emit_op(pick::<M1<float::Relu<Two<F16<false>>>>>(), d, &[d]);
            }
            return Ok(());
        }
        let wide = m.want(&eights)? == "e5m2x2";
        let from = m.want(&["f32", "f16x2", "bf16x2"])?;
        m.end()?;
        let (d, mut pair) = match (from, s.operands.as_slice()) {
            ("f32", [d, a, b]) => (d, [self.src(a, Type::F32)?, self.src(b, Type::F32)?]),
            ("f16x2" | "bf16x2", [d, a]) => {
                let a = self.src(a, Type::B32)?;
                let (upper, lower) = if from == "f16x2" {
                    (pick::<M1<ops::UpperF16>>(), pick::<M1<ops::F32FromF16>>())
                } else {
                    (pick::<M1<ops::UpperBF16>>(), pick::<M1<ops::F32FromBF16>>())
                };
                (d, [upper, lower].map(|run| self.in_temp(run, a)))
            }
            _ => return Err(format!("`{}` takes d and two numbers or a pair", s.mnemonic())),
        };
        if relu {
            pair = pair.map(|x| self.in_temp(pick::<M1<ops::ReluF32>>(), x));
        }
        let d = self.dst(d, Type::B16)?;
        let run = if wide { pick::<M2<ops::E5m2x2FromF32>>() } else { pick::<M2<ops::E4m3x2FromF32>>() };
        self.emit_op(run, d, &pair);
        Ok(())
    }

    /// A function of a register in a new one.
    fn in_temp(&mut self, run: Run, source: u32) -> u32 {
        let temp = self.temp(super::frame::Class::Word);
        self.emit_op(run, temp, &[source]);
        temp
    }

    /// `cvta.SPACE` adds the space's window to an address, `cvta.to.SPACE` takes it away.
    fn cvta(&mut self, s: &Statement) -> Decoded {
        let [d, a] = operands(s)?;
        let space = s.modifiers.iter().find_map(|m| Space::parse(m)).ok_or("`cvta` names no space")?;
        let ty = types(s).last().copied().unwrap_or(Type::U64);
        let source = self.src(a, Type::U64)?;
        let d = self.dst(d, ty)?;
        let window = match space {
            Space::Shared => SHARED_WINDOW,
            Space::Local => LOCAL_WINDOW,
            // Parameters of functions lie in local memory.
            Space::Param if self.is_entry() => PARAM_WINDOW,
            Space::Param => LOCAL_WINDOW,
            _ => 0,
        };
        if window == 0 {
            self.emit_op(pick::<M1<int::Copy<u64>>>(), d, &[source]);
            return Ok(());
        }
        let window = self.src(&Operand::Int(window as i64), Type::U64)?;
        let run = if s.has("to") { pick::<M2<int::Sub<u64>>>() } else { pick::<M2<int::Add<u64>>>() };
        self.emit_op(run, d, &[source, window]);
        Ok(())
    }
}

/// Bit types convert as unsigned.
fn signless(ty: Type) -> Type {
    match ty {
        Type::B8 => Type::U8,
        Type::B16 => Type::U16,
        Type::B32 => Type::U32,
        Type::B64 => Type::U64,
        other => other,
    }
}

/// The handler of a common conversion.
fn fast(c: &Conversion) -> Option<Run> {
    use Type::*;
    if c.sat || c.relu || c.finite || c.ftz {
        return None;
    }
    if !c.from.is_float() && !c.to.is_float() {
        return extension(c.from, c.to);
    }
    Some(match (c.from, c.to, c.round, c.integral) {
        (S32, F32, Round::Nearest, _) => pick::<M1<ops::F32FromS32>>(),
        (U32, F32, Round::Nearest, _) => pick::<M1<ops::F32FromU32>>(),
        (S32, F64, ..) => pick::<M1<ops::F64FromS32>>(),
        (U32, F64, ..) => pick::<M1<ops::F64FromU32>>(),
        (F32, F64, _, false) => pick::<M1<ops::F64FromF32>>(),
        (F64, F32, Round::Nearest, false) => pick::<M1<ops::F32FromF64>>(),
        (F32, S32, Round::Zero, _) => pick::<M1<ops::S32FromF32Zero>>(),
        (F32, U32, Round::Zero, _) => pick::<M1<ops::U32FromF32Zero>>(),
        (F16, F32, _, false) => pick::<M1<ops::F32FromF16>>(),
        (BF16, F32, _, false) => pick::<M1<ops::F32FromBF16>>(),
        (F32, F16, Round::Nearest, false) => pick::<M1<ops::F16FromF32>>(),
        (F32, BF16, Round::Nearest, false) => pick::<M1<ops::BF16FromF32>>(),
        _ => return None,
    })
}

fn extension(from: Type, to: Type) -> Option<Run> {
    macro_rules! to {
        ($op:ident) => {
            match from {
                Type::U8 => pick::<M1<ops::$op<u8>>>(),
                Type::S8 => pick::<M1<ops::$op<i8>>>(),
                Type::U16 => pick::<M1<ops::$op<u16>>>(),
                Type::S16 => pick::<M1<ops::$op<i16>>>(),
                Type::U32 => pick::<M1<ops::$op<u32>>>(),
                Type::S32 => pick::<M1<ops::$op<i32>>>(),
                Type::U64 => pick::<M1<ops::$op<u64>>>(),
                Type::S64 => pick::<M1<ops::$op<i64>>>(),
                _ => return None,
            }
        };
    }
    Some(match to.size() {
        8 => to!(To64),
        4 => to!(To32),
        2 => to!(To16),
        _ => to!(To8),
    })
}
