//! Matrix instructions and asynchronous copies.

use super::function::{Decoded, FunctionDecoder, operands};
use super::modifiers::Modifiers;
use crate::ops::copy::{self, Commit, CopyAsync, WaitGroup};
use crate::ops::matrix::{MoveMatrix, TransposeMatrix};
use crate::ops::memory::{self as mem, COPY, WIDE_ADDRESS, WRITES};
use crate::ops::mma::{
    A_OTHER, B_OTHER, Brain, Eight, HALF_SUMS, Half, IntMma, SATURATE, Tensor32, pick_mma,
};
use crate::ops::{Run, control, pick};
use crate::syntax::ast::{Operand, Statement};
use crate::syntax::types::{Space, Type};

impl FunctionDecoder<'_, '_> {
    /// Decodes the statement if it is one of these.
    pub(super) fn matrix(&mut self, s: &Statement) -> Decoded<bool> {
        match s.opcode.as_str() {
            "mma" => self.mma(s)?,
            "ldmatrix" | "stmatrix" => self.move_matrix(s)?,
            "movmatrix" => {
                let mut m = Modifiers::of(s);
                for wanted in ["sync", "aligned", "m8n8", "trans", "b16"] {
                    m.want(&[wanted])?;
                }
                m.end()?;
                let [d, a] = operands(s)?;
                let (a, d) = (self.src(a, Type::B32)?, self.dst(d, Type::B32)?);
                self.emit_op(pick::<TransposeMatrix>(), d, &[a]);
            }
            "cp" if s.has("async") && !s.has("bulk") && !s.has("mbarrier") => self.copy_async(s)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `mma.sync.aligned.SHAPE.row.col{.satfinite}.DTYPE.ATYPE.BTYPE.CTYPE d, a, b, c`.
    fn mma(&mut self, s: &Statement) -> Decoded {
        let form = || format!("there is no `{}`, or it is not supported", s.mnemonic());
        let modifiers: Vec<&str> = s.modifiers.iter().map(String::as_str).collect();
        let ["sync", "aligned", shape, "row", "col", types @ ..] = modifiers.as_slice() else {
            return Err(form());
        };
        let (saturate, types) = match types {
            ["satfinite", types @ ..] => (true, types),
            types => (false, types),
        };
        let &[d_type, a_type, b_type, c_type] = types else { return Err(form()) };
        let kind = multiplicands(shape, a_type, b_type).ok_or_else(form)?;
        let sums = match (d_type, c_type, kind.integers) {
            ("s32", "s32", true) | ("f32", "f32", false) => 0,
            ("f16", "f16", false) if kind.half_sums && !saturate => HALF_SUMS,
            _ => return Err(form()),
        };
        if saturate && !kind.integers {
            return Err(form());
        }
        let [d, a, b, c] = operands(s)?;
        let sum_registers = if sums == HALF_SUMS { 2 } else { 4 };
        let steps = kind.steps;
        let mut list = Vec::new();
        for element in parts(d, sum_registers, "d")? {
            list.push(self.dst(element, Type::B32)?);
        }
        for (operand, count, name) in [(a, 2 * steps, "a"), (b, steps, "b"), (c, sum_registers, "c")] {
            for element in parts(operand, count, name)? {
                list.push(self.src(element, Type::B32)?);
            }
        }
        let mut instr = self.blank(kind.run);
        instr.b = self.list(&list);
        instr.n = kind.flags | sums | if saturate { SATURATE } else { 0 };
        self.emit(instr);
        Ok(())
    }

    /// `ldmatrix.sync.aligned.m8n8.NUM{.trans}{.shared}.b16 r, [p]` and `stmatrix … [p], r`.
    fn move_matrix(&mut self, s: &Statement) -> Decoded {
        let mut rest: Vec<&str> = s.modifiers.iter().map(String::as_str).collect();
        let form = || format!("there is no `{}`, or it is not supported", s.mnemonic());
        let mut take = |names: &[&str]| {
            let found = rest.first().copied().filter(|m| names.contains(m));
            if found.is_some() {
                rest.remove(0);
            }
            found
        };
        take(&["sync"]).ok_or_else(form)?;
        take(&["aligned"]).ok_or_else(form)?;
        take(&["m8n8"]).ok_or_else(form)?;
        let count = match take(&["x1", "x2", "x4"]).ok_or_else(form)? {
            "x1" => 1,
            "x2" => 2,
            _ => 4,
        };
        let transposed = take(&["trans"]).is_some();
        take(&["shared", "shared::cta"]);
        take(&["b16"]).ok_or_else(form)?;
        if !rest.is_empty() {
            return Err(form());
        }
        let is_load = s.opcode == "ldmatrix";
        let (address, registers) = match (operands(s)?, is_load) {
            ([r, p], true) | ([p, r], false) => (p, r),
        };
        let address = self.address(s, address)?;
        let mut list = Vec::new();
        for element in parts(registers, count, "the registers")? {
            list.push(if is_load { self.dst(element, Type::B32)? } else { self.src(element, Type::B32)? });
        }
        let run = match (is_load, address.space) {
            (true, Space::Shared) => pick::<MoveMatrix<{ mem::SHARED }, false>>(),
            (true, Space::Generic) => pick::<MoveMatrix<{ mem::GENERIC }, false>>(),
            (false, Space::Shared) => pick::<MoveMatrix<{ mem::SHARED }, true>>(),
            (false, Space::Generic) => pick::<MoveMatrix<{ mem::GENERIC }, true>>(),
            (_, other) => return Err(format!("`{}` of {} memory", s.opcode, other.name())),
        };
        let mut instr = self.memory_instr(run, &address, &list);
        instr.c = u32::from(transposed);
        instr.n |= if is_load { 0 } else { WRITES };
        self.emit(instr);
        Ok(())
    }

    fn copy_async(&mut self, s: &Statement) -> Decoded {
        let modifiers: Vec<&str> = s.modifiers.iter().map(String::as_str).collect();
        match modifiers.as_slice() {
            ["async", "commit_group"] => {
                let [] = operands(s)?;
                let instr = self.blank(pick::<Commit>());
                self.emit(instr);
            }
            ["async", "wait_all"] => {
                let [] = operands(s)?;
                // As the manual defines it: what is not in a group yet is committed, then all groups are waited for.
                let commit = self.blank(pick::<Commit>());
                self.emit(commit);
                let wait = self.blank(pick::<WaitGroup>());
                self.emit(wait);
            }
            ["async", "wait_group"] => {
                let [Operand::Int(n @ 0..=0x7fff_ffff)] = operands(s)? else {
                    return Err("`cp.async.wait_group` takes a constant number of groups".into());
                };
                let mut instr = self.blank(pick::<WaitGroup>());
                instr.n = *n as u32;
                self.emit(instr);
            }
            ["async", cache @ ("ca" | "cg"), "shared" | "shared::cta", "global", hints @ ..] => {
                if !matches!(
                    hints,
                    [] | ["L2::cache_hint"]
                        | ["L2::64B" | "L2::128B" | "L2::256B"]
                        | ["L2::cache_hint", "L2::64B" | "L2::128B" | "L2::256B"]
                ) {
                    return Err(format!("`{}` has modifiers that it cannot have", s.mnemonic()));
                }
                self.issue_copy(s, *cache == "cg")?;
            }
            _ => return Err(format!("there is no `{}`, or it is not supported", s.mnemonic())),
        }
        Ok(())
    }

    /// `[dst], [src], size{, src-size | ignore-src}{, policy}`.
    fn issue_copy(&mut self, s: &Statement, only_16: bool) -> Decoded {
        let [dst, src, size, rest @ ..] = self.without_policy(s, 3)? else {
            return Err("`cp.async` takes a destination, a source and a size".into());
        };
        let size = match size {
            Operand::Int(16) => 16,
            Operand::Int(n @ (4 | 8)) if !only_16 => *n as u32,
            _ if only_16 => return Err("`cp.async.cg` copies 16 bytes".into()),
            _ => return Err("`cp.async.ca` copies 4, 8 or 16 bytes".into()),
        };
        let (flags, register) = match rest {
            [] => (0, 0),
            [Operand::Not(name)] => {
                let predicate = self.src(&Operand::Name(name.clone()), Type::Pred)?;
                (copy::IGNORE_SOURCE | copy::NEGATED, predicate)
            }
            [operand] if self.register_type(operand) == Some(Type::Pred) => {
                (copy::IGNORE_SOURCE, self.src(operand, Type::Pred)?)
            }
            [operand] => (copy::SOURCE_SIZE, self.src(operand, Type::B32)?),
            _ => return Err(format!("`{}` has too many operands", s.mnemonic())),
        };
        let to = self.address_in(Space::Shared, dst)?;
        let from = self.address_in(Space::Global, src)?;
        if to.space != Space::Shared || !matches!(from.space, Space::Global | Space::Const) {
            return Err("`cp.async` copies from global to shared memory".into());
        }
        let offset = from.offset as u64;
        let mut instr = self.memory_instr(pick::<CopyAsync>(), &to, &[]);
        instr.b = self.list(&[register, size, offset as u32, (offset >> 32) as u32]);
        instr.n |= WRITES | COPY;
        (instr.c, instr.e) = (from.register, self.cache());
        instr.d = flags | if from.wide == WIDE_ADDRESS { copy::WIDE_SOURCE } else { 0 };
        self.emit(instr);
        Ok(())
    }

    /// `createpolicy`: policies are opaque, and caches change no result.
    pub(super) fn create_policy(&mut self, s: &Statement) -> Decoded {
        let known = ["fractional", "range", "cvt"].iter().any(|k| s.has(k)) && s.has("b64");
        let (true, Some(d)) = (known, s.operands.first()) else {
            return Err(format!("there is no `{}`, or it is not supported", s.mnemonic()));
        };
        // PTX manual: `.fractional d{, fraction}`, `.range d, [a], primary, total`, `.cvt.L2 d, property`.
        let fits = match s.operands.as_slice() {
            [_] => s.has("fractional"),
            [_, Operand::F32(_) | Operand::F64(_)] => s.has("fractional"),
            [_, _] => s.has("cvt"),
            [_, Operand::Address(..), _, _] => s.has("range"),
            _ => false,
        };
        if !fits {
            return Err(format!("`{}` has operands that it cannot have", s.mnemonic()));
        }
        let d = self.dst(d, Type::B64)?;
        let policy = self.src(&Operand::Int(0), Type::B64)?;
        self.emit_op(pick::<crate::ops::lanes::M1<crate::ops::int::Copy<u64>>>(), d, &[policy]);
        Ok(())
    }

    /// An instruction without effect.
    pub(super) fn nothing(&mut self) {
        let nothing = self.blank(pick::<control::Next>());
        self.emit(nothing);
    }
}

/// What the types and the shape of an `mma` come to.
struct Multiplicands {
    run: Run,
    /// Registers of B.
    steps: usize,
    flags: u32,
    integers: bool,
    /// Accumulators may be f16.
    half_sums: bool,
}

fn multiplicands(shape: &str, a: &str, b: &str) -> Option<Multiplicands> {
    let of = |run, steps, half_sums| Multiplicands { run, steps, flags: 0, integers: false, half_sums };
    let others = |name: &str| (if a == name { A_OTHER } else { 0 }) | if b == name { B_OTHER } else { 0 };
    Some(match (shape, a, b) {
        ("m16n8k8", "f16", "f16") => of(pick_mma::<Half, 8, 8, 24>(), 1, true),
        ("m16n8k16", "f16", "f16") => of(pick_mma::<Half, 16, 8, 24>(), 2, true),
        ("m16n8k8", "bf16", "bf16") => of(pick_mma::<Brain, 8, 8, 24>(), 1, false),
        ("m16n8k16", "bf16", "bf16") => of(pick_mma::<Brain, 16, 8, 24>(), 2, false),
        ("m16n8k4", "tf32", "tf32") => of(pick_mma::<Tensor32, 4, 4, 24>(), 1, false),
        ("m16n8k8", "tf32", "tf32") => of(pick_mma::<Tensor32, 8, 4, 24>(), 2, false),
        ("m16n8k16" | "m16n8k32", "e4m3" | "e5m2", "e4m3" | "e5m2") => {
            let long = shape == "m16n8k32";
            let run = if long { pick_mma::<Eight, 32, 16, 13>() } else { pick_mma::<Eight, 16, 16, 13>() };
            Multiplicands { flags: others("e5m2"), ..of(run, if long { 2 } else { 1 }, true) }
        }
        ("m16n8k16" | "m16n8k32", "s8" | "u8", "s8" | "u8") => {
            let long = shape == "m16n8k32";
            let run = if long { pick::<IntMma<32>>() } else { pick::<IntMma<16>>() };
            let flags = others("s8");
            Multiplicands { flags, integers: true, ..of(run, if long { 2 } else { 1 }, false) }
        }
        _ => return None,
    })
}

/// The registers of a vector operand, which must be so many.
pub(super) fn parts<'o>(operand: &'o Operand, count: usize, name: &str) -> Decoded<&'o [Operand]> {
    let all = match operand {
        Operand::Vector(all) => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    if all.len() == count {
        Ok(all)
    } else {
        Err(format!("{name}: {count} registers are wanted, {} are given", all.len()))
    }
}
