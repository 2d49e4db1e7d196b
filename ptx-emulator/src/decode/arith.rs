//! Arithmetic: integer, floating-point, approximations.

use super::frame::Class;
use super::function::{Decoded, FunctionDecoder, operands, type_of};
use crate::numeric::round::Round;
use crate::ops::lanes::{M1, M2, M3};
use crate::ops::real::{BF16, F16, F32, F64, Two};
use crate::ops::{Run, bits, float, int, pick};
use crate::syntax::ast::{Operand, Statement};
use crate::syntax::types::Type;

/// The handler of an integer operation for a type.
macro_rules! int_run {
    ($ty:expr, $wrap:ident, $op:ident) => {
        match $ty {
            Type::U16 | Type::B16 => pick::<$wrap<int::$op<u16>>>(),
            Type::S16 => pick::<$wrap<int::$op<i16>>>(),
            Type::U32 | Type::B32 => pick::<$wrap<int::$op<u32>>>(),
            Type::S32 => pick::<$wrap<int::$op<i32>>>(),
            Type::U64 | Type::B64 => pick::<$wrap<int::$op<u64>>>(),
            Type::S64 => pick::<$wrap<int::$op<i64>>>(),
            other => return Err(no_form(other)),
        }
    };
}
pub(super) use int_run;

/// The handler of a floating-point operation for a type.
macro_rules! real_run {
    ($ty:expr, $ftz:expr, $wrap:ident, $op:ident) => {
        match ($ty, $ftz) {
            (Type::F32, false) => pick::<$wrap<float::$op<F32<false>>>>(),
            (Type::F32, true) => pick::<$wrap<float::$op<F32<true>>>>(),
            (Type::F64, _) => pick::<$wrap<float::$op<F64>>>(),
            (Type::F16, false) => pick::<$wrap<float::$op<F16<false>>>>(),
            (Type::F16, true) => pick::<$wrap<float::$op<F16<true>>>>(),
            (Type::F16x2, false) => pick::<$wrap<float::$op<Two<F16<false>>>>>(),
            (Type::F16x2, true) => pick::<$wrap<float::$op<Two<F16<true>>>>>(),
            (Type::BF16, _) => pick::<$wrap<float::$op<BF16>>>(),
            (Type::BF16x2, _) => pick::<$wrap<float::$op<Two<BF16>>>>(),
            (other, _) => return Err(no_form(other)),
        }
    };
}

/// The handler of an operation in a rounding mode, for f32 and f64.
macro_rules! directed_run {
    ($ty:expr, $ftz:expr, $round:expr, $wrap:ident, $op:ident) => {
        match ($ty, $ftz, $round) {
            (Type::F32, false, Round::Zero) => pick::<$wrap<float::$op<F32<false>, 1>>>(),
            (Type::F32, false, Round::Down) => pick::<$wrap<float::$op<F32<false>, 2>>>(),
            (Type::F32, false, Round::Up) => pick::<$wrap<float::$op<F32<false>, 3>>>(),
            (Type::F32, false, _) => pick::<$wrap<float::$op<F32<false>, 0>>>(),
            (Type::F32, true, Round::Zero) => pick::<$wrap<float::$op<F32<true>, 1>>>(),
            (Type::F32, true, Round::Down) => pick::<$wrap<float::$op<F32<true>, 2>>>(),
            (Type::F32, true, Round::Up) => pick::<$wrap<float::$op<F32<true>, 3>>>(),
            (Type::F32, true, _) => pick::<$wrap<float::$op<F32<true>, 0>>>(),
            (Type::F64, _, Round::Zero) => pick::<$wrap<float::$op<F64, 1>>>(),
            (Type::F64, _, Round::Down) => pick::<$wrap<float::$op<F64, 2>>>(),
            (Type::F64, _, Round::Up) => pick::<$wrap<float::$op<F64, 3>>>(),
            (Type::F64, _, _) => pick::<$wrap<float::$op<F64, 0>>>(),
            (other, _, _) => return Err(no_form(other)),
        }
    };
}

pub(super) fn no_form(ty: Type) -> String {
    format!("this instruction has no form for {ty:?}")
}

/// The rounding modifier of a floating-point instruction.
pub(super) fn round_of(s: &Statement) -> Round {
    match s.modifiers.iter().find_map(|m| match m.as_str() {
        "rz" | "rzi" => Some(Round::Zero),
        "rm" | "rmi" => Some(Round::Down),
        "rp" | "rpi" => Some(Round::Up),
        "rna" => Some(Round::Away),
        _ => None,
    }) {
        Some(round) => round,
        None => Round::Nearest,
    }
}

impl FunctionDecoder<'_, '_> {
    /// Decodes the statement if it is arithmetic.
    pub(super) fn arithmetic(&mut self, s: &Statement) -> Decoded<bool> {
        match s.opcode.as_str() {
            "add" | "sub" | "mul" | "div" | "rem" | "min" | "max" | "addc" | "subc" | "mul24"
            | "copysign" => self.binary(s)?,
            "mad" | "madc" | "fma" | "sad" | "mad24" => self.ternary(s)?,
            "abs" | "neg" | "ex2" | "lg2" | "sin" | "cos" | "tanh" | "sqrt" | "rsqrt" | "rcp" => {
                self.unary(s)?
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn binary(&mut self, s: &Statement) -> Decoded {
        if s.has("f32x2") {
            return self.two_floats(s);
        }
        let ty = type_of(s)?;
        if s.opcode == "addc" || s.opcode == "subc" || s.has("cc") {
            return self.carried(s, ty);
        }
        if (s.opcode == "min" || s.opcode == "max") && s.operands.len() == 4 {
            return self.three_way(s, ty);
        }
        let [d, a, b] = operands(s)?;
        let wide = s.opcode == "mul" && s.has("wide");
        let (a, b) = (self.src(a, ty)?, self.src(b, ty)?);
        let d = self.dst(d, if wide { doubled(ty) } else { ty })?;
        let run = if ty.is_float() { float_binary(s, ty)? } else { int_binary(s, ty)? };
        self.emit_op(run, d, &[a, b]);
        self.finish_float(s, ty, d)
    }

    /// `.sat` and `.relu` follow the operation proper.
    fn finish_float(&mut self, s: &Statement, ty: Type, d: u32) -> Decoded {
        if s.has("sat") && ty.is_float() {
            self.emit_op(real_run!(ty, s.has("ftz"), M1, Saturate), d, &[d]);
        }
        if s.has("relu") && ty.is_float() {
            self.emit_op(real_run!(ty, false, M1, Relu), d, &[d]);
        } else if s.has("relu") && ty == Type::S32 {
            self.emit_op(pick::<M2<int::Relu<i32>>>(), d, &[d, d]);
        }
        Ok(())
    }

    /// `min` and `max` of three values.
    fn three_way(&mut self, s: &Statement, ty: Type) -> Decoded {
        let [d, a, b, c] = operands(s)?;
        if ty != Type::F32 || s.has("xorsign") {
            return Err(format!("`{}` has two sources", s.mnemonic()));
        }
        self.needs(100, &format!("`{}` of three values", s.mnemonic()))?;
        let (a, b, c) = (self.src(a, ty)?, self.src(b, ty)?, self.src(c, ty)?);
        let d = self.dst(d, ty)?;
        let run = float_binary(s, ty)?;
        let temp = self.temp(Class::Word);
        let after = self.pending();
        self.emit_op(run, temp, &[a, b]);
        self.restore(after);
        self.emit_op(run, d, &[temp, c]);
        Ok(())
    }

    /// `.f32x2`: the same operation on both halves of 64 bits.
    fn two_floats(&mut self, s: &Statement) -> Decoded {
        let run = if s.opcode == "fma" { fma(s, Type::F32)? } else { float_binary(s, Type::F32)? };
        let wanted = if s.opcode == "fma" { 4 } else { 3 };
        let (Some((d, sources)), true) = (s.operands.split_first(), s.operands.len() == wanted) else {
            return Err(format!("`{}` takes {wanted} operands, not {}", s.opcode, s.operands.len()));
        };
        let mut halves: [Vec<u32>; 2] = Default::default();
        for source in sources {
            let source = self.src(source, Type::B64)?;
            let parts = [0; 2].map(|_| self.temp(Class::Word));
            let mut unpack = self.blank(pick::<bits::Unpack>());
            (unpack.a, unpack.b, unpack.n, unpack.imm, unpack.e) = (source, self.list(&parts), 2, 32, 1);
            self.emit(unpack);
            for (half, part) in halves.iter_mut().zip(parts) {
                half.push(part);
            }
        }
        let results = halves.map(|half| {
            let result = self.temp(Class::Word);
            self.emit_op(run, result, &half);
            result
        });
        let d = self.dst(d, Type::B64)?;
        let mut pack = self.blank(pick::<bits::Pack>());
        (pack.d, pack.a, pack.n, pack.imm, pack.e) = (d, self.list(&results), 2, 32, 1);
        self.emit(pack);
        Ok(())
    }

    fn carried(&mut self, s: &Statement, ty: Type) -> Decoded {
        let [d, a, b] = operands(s)?;
        let (a, b, d) = (self.src(a, ty)?, self.src(b, ty)?, self.dst(d, ty)?);
        let flags = u32::from(s.opcode.ends_with('c'))
            | u32::from(s.has("cc")) << 1
            | u32::from(s.opcode.starts_with("sub")) << 2;
        self.emit_carry(ty, flags, d, a, b)
    }

    fn emit_carry(&mut self, ty: Type, flags: u32, d: u32, a: u32, b: u32) -> Decoded {
        let run = match ty {
            Type::U32 | Type::S32 | Type::B32 => pick::<int::Carry<u32>>(),
            Type::U64 | Type::S64 | Type::B64 => pick::<int::Carry<u64>>(),
            other => return Err(no_form(other)),
        };
        let mut instr = self.blank(run);
        (instr.d, instr.a, instr.b, instr.e, instr.n) = (d, a, b, self.carry(), flags);
        self.emit(instr);
        Ok(())
    }

    fn ternary(&mut self, s: &Statement) -> Decoded {
        if s.has("f32x2") {
            return self.two_floats(s);
        }
        let ty = type_of(s)?;
        let [d, a, b, c] = operands(s)?;
        let wide = s.has("wide");
        let result = if wide { doubled(ty) } else { ty };
        // `sad` of a signed type has an unsigned addend; the bits are the same.
        let (a, b, c) = (self.src(a, ty)?, self.src(b, ty)?, self.src(c, result)?);
        let d = self.dst(d, result)?;
        if s.opcode == "madc" || s.has("cc") {
            let product = self.temp(if ty.size() == 8 { Class::Long } else { Class::Word });
            let run = if s.has("hi") { int_run!(ty, M2, MulHi) } else { int_run!(ty, M2, MulLo) };
            let after = self.pending();
            self.emit_op(run, product, &[a, b]);
            self.restore(after);
            let flags = u32::from(s.opcode == "madc") | u32::from(s.has("cc")) << 1;
            return self.emit_carry(ty, flags, d, product, c);
        }
        let run = match s.opcode.as_str() {
            "sad" => int_run!(ty, M3, Sad),
            "mad24" if s.has("sat") => pick::<M3<int::Mad24HiSat<i32>>>(),
            "mad24" => mul24(ty, s.has("hi"), true)?,
            _ if ty.is_float() => fma(s, ty)?,
            _ if wide => int_wide(ty, true)?,
            _ if s.has("hi") && s.has("sat") => int_run!(ty, M3, MadHiSat),
            _ if s.has("hi") => int_run!(ty, M3, MadHi),
            _ => int_run!(ty, M3, MadLo),
        };
        self.emit_op(run, d, &[a, b, c]);
        self.finish_float(s, ty, d)
    }

    fn unary(&mut self, s: &Statement) -> Decoded {
        let ty = type_of(s)?;
        let [d, a] = operands(s)?;
        let (a, d) = (self.src(a, ty)?, self.dst(d, ty)?);
        let run = unary_run(s, ty)?;
        self.emit_op(run, d, &[a]);
        self.finish_float(s, ty, d)
    }

    /// A predicate source, and whether it is negated.
    pub(super) fn predicate(&mut self, operand: &Operand) -> Decoded<(u32, bool)> {
        match operand {
            Operand::Not(name) => Ok((self.src(&Operand::Name(name.clone()), Type::Pred)?, true)),
            other => Ok((self.src(other, Type::Pred)?, false)),
        }
    }
}

pub(super) fn doubled(ty: Type) -> Type {
    match ty {
        Type::U16 | Type::B16 => Type::U32,
        Type::S16 => Type::S32,
        Type::S32 => Type::S64,
        _ => Type::U64,
    }
}

fn fma(s: &Statement, ty: Type) -> Decoded<Run> {
    let ftz = s.has("ftz");
    Ok(match round_of(s) {
        Round::Nearest => real_run!(ty, ftz, M3, Fma),
        round => directed_run!(ty, ftz, round, M3, FmaIn),
    })
}

fn int_wide(ty: Type, add: bool) -> Decoded<Run> {
    Ok(match (ty, add) {
        (Type::U16, false) => pick::<M2<int::MulWide<u16>>>(),
        (Type::S16, false) => pick::<M2<int::MulWide<i16>>>(),
        (Type::U32, false) => pick::<M2<int::MulWide<u32>>>(),
        (Type::S32, false) => pick::<M2<int::MulWide<i32>>>(),
        (Type::U16, true) => pick::<M3<int::MadWide<u16>>>(),
        (Type::S16, true) => pick::<M3<int::MadWide<i16>>>(),
        (Type::U32, true) => pick::<M3<int::MadWide<u32>>>(),
        (Type::S32, true) => pick::<M3<int::MadWide<i32>>>(),
        (other, _) => return Err(no_form(other)),
    })
}

fn mul24(ty: Type, high: bool, add: bool) -> Decoded<Run> {
    Ok(match (ty, high, add) {
        (Type::U32, false, false) => pick::<M2<int::Mul24Lo<u32>>>(),
        (Type::S32, false, false) => pick::<M2<int::Mul24Lo<i32>>>(),
        (Type::U32, true, false) => pick::<M2<int::Mul24Hi<u32>>>(),
        (Type::S32, true, false) => pick::<M2<int::Mul24Hi<i32>>>(),
        (Type::U32, false, true) => pick::<M3<int::Mad24Lo<u32>>>(),
        (Type::S32, false, true) => pick::<M3<int::Mad24Lo<i32>>>(),
        (Type::U32, true, true) => pick::<M3<int::Mad24Hi<u32>>>(),
        (Type::S32, true, true) => pick::<M3<int::Mad24Hi<i32>>>(),
        (other, ..) => return Err(no_form(other)),
    })
}

fn int_binary(s: &Statement, ty: Type) -> Decoded<Run> {
    Ok(match s.opcode.as_str() {
        "add" if s.has("sat") => int_run!(ty, M2, AddSat),
        "add" => int_run!(ty, M2, Add),
        "sub" if s.has("sat") => int_run!(ty, M2, SubSat),
        "sub" => int_run!(ty, M2, Sub),
        "mul" if s.has("wide") => int_wide(ty, false)?,
        "mul" if s.has("hi") => int_run!(ty, M2, MulHi),
        "mul" => int_run!(ty, M2, MulLo),
        "mul24" => mul24(ty, s.has("hi"), false)?,
        "div" => int_run!(ty, M2, Div),
        "rem" => int_run!(ty, M2, Rem),
        "min" => int_run!(ty, M2, Min),
        "max" => int_run!(ty, M2, Max),
        _ => return Err(no_form(ty)),
    })
}

fn float_binary(s: &Statement, ty: Type) -> Decoded<Run> {
    let (ftz, round) = (s.has("ftz"), round_of(s));
    let nearest = round == Round::Nearest;
    Ok(match (s.opcode.as_str(), s.has("NaN"), s.has("xorsign")) {
        ("add", ..) if nearest => real_run!(ty, ftz, M2, Add),
        ("add", ..) => directed_run!(ty, ftz, round, M2, AddIn),
        ("sub", ..) if nearest => real_run!(ty, ftz, M2, Sub),
        ("sub", ..) => directed_run!(ty, ftz, round, M2, SubIn),
        ("mul", ..) if nearest => real_run!(ty, ftz, M2, Mul),
        ("mul", ..) => directed_run!(ty, ftz, round, M2, MulIn),
        // The approximate and full-range quotients are computed exactly rounded.
        ("div", ..) => directed_run!(ty, ftz, round, M2, DivIn),
        ("min", false, false) => real_run!(ty, ftz, M2, Min),
        ("min", true, false) => real_run!(ty, ftz, M2, MinNan),
        ("min", false, true) => real_run!(ty, ftz, M2, MinXor),
        ("min", true, true) => real_run!(ty, ftz, M2, MinNanXor),
        ("max", false, false) => real_run!(ty, ftz, M2, Max),
        ("max", true, false) => real_run!(ty, ftz, M2, MaxNan),
        ("max", false, true) => real_run!(ty, ftz, M2, MaxXor),
        ("max", true, true) => real_run!(ty, ftz, M2, MaxNanXor),
        ("copysign", ..) if ty == Type::F32 => pick::<M2<float::Copysign32>>(),
        ("copysign", ..) if ty == Type::F64 => pick::<M2<float::Copysign64>>(),
        _ => return Err(no_form(ty)),
    })
}

/// The single-precision approximations.
macro_rules! single_run {
    ($ftz:expr, $op:ident) => {
        if $ftz { pick::<M1<float::$op<F32<true>>>>() } else { pick::<M1<float::$op<F32<false>>>>() }
    };
}

fn unary_run(s: &Statement, ty: Type) -> Decoded<Run> {
    let (ftz, round) = (s.has("ftz"), round_of(s));
    Ok(match (s.opcode.as_str(), ty) {
        ("abs", _) if ty.is_float() && ftz => real_run!(ty, true, M1, Abs),
        ("abs", Type::F32) => pick::<M1<float::AbsBits32>>(),
        ("abs", Type::F64) => pick::<M1<float::AbsBits64>>(),
        ("abs", Type::F16 | Type::BF16) => pick::<M1<float::AbsBits16>>(),
        ("abs", Type::F16x2 | Type::BF16x2) => pick::<M1<float::AbsBits16x2>>(),
        ("abs", _) => int_run!(ty, M1, Abs),
        ("neg", _) if ty.is_float() && ftz => real_run!(ty, true, M1, Neg),
        ("neg", Type::F32) => pick::<M1<float::NegBits32>>(),
        ("neg", Type::F64) => pick::<M1<float::NegBits64>>(),
        ("neg", Type::F16 | Type::BF16) => pick::<M1<float::NegBits16>>(),
        ("neg", Type::F16x2 | Type::BF16x2) => pick::<M1<float::NegBits16x2>>(),
        ("neg", _) => int_run!(ty, M1, Neg),
        ("ex2", Type::F64) | ("tanh", Type::F64) => return Err(no_form(ty)),
        ("ex2", _) => real_run!(ty, ftz, M1, Ex2),
        ("tanh", _) => real_run!(ty, ftz, M1, Tanh),
        ("lg2", Type::F32) => single_run!(ftz, Lg2),
        ("sin", Type::F32) => single_run!(ftz, Sin),
        ("cos", Type::F32) => single_run!(ftz, Cos),
        ("rsqrt", Type::F32) => single_run!(ftz, Rsqrt),
        ("rsqrt", Type::F64) => pick::<M1<float::Rsqrt64>>(),
        ("sqrt", _) => directed_run!(ty, ftz, round, M1, Sqrt),
        ("rcp", _) => directed_run!(ty, ftz, round, M1, Rcp),
        _ => return Err(no_form(ty)),
    })
}
