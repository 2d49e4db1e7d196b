//! `wgmma`.

use super::function::{Decoded, FunctionDecoder};
use super::matrix::parts;
use super::modifiers::Modifiers;
use crate::ops::mma::{A_OTHER, B_OTHER, HALF_SUMS, SATURATE};
use crate::ops::pick;
use crate::ops::wgmma::{
    A_SHARED, CommitProducts, FenceProducts, Issue, NEGATED, TRANSPOSED_A, TRANSPOSED_B, TYPES, WaitProducts,
};
use crate::syntax::ast::{Operand, Statement};
use crate::syntax::types::Type;

/// What the types of an instruction come to.
struct Form {
    /// Its place in `ops::wgmma::TYPES`.
    kind: u32,
    /// Columns of A.
    k: u32,
    flags: u32,
}

impl FunctionDecoder<'_, '_> {
    /// Decodes the statement if it is one of these.
    pub(super) fn wgmma(&mut self, s: &Statement) -> Decoded<bool> {
        if s.opcode != "wgmma" {
            return Ok(false);
        }
        let mut m = Modifiers::of(s);
        let what = m.want(&["mma_async", "fence", "commit_group", "wait_group"])?;
        m.want(&["sync"])?;
        m.want(&["aligned"])?;
        if what == "mma_async" {
            self.product(s, m)?;
            return Ok(true);
        }
        m.end()?;
        let mut instr = match what {
            "fence" => self.blank(pick::<FenceProducts>()),
            "commit_group" => self.blank(pick::<CommitProducts>()),
            _ => self.blank(pick::<WaitProducts>()),
        };
        match s.operands.as_slice() {
            [] if what != "wait_group" => {}
            [Operand::Int(n @ 0..=7)] if what == "wait_group" => instr.n = *n as u32,
            _ if what == "wait_group" => {
                return Err("`wgmma.wait_group` takes a constant number of groups, 0 to 7".into());
            }
            _ => return Err(format!("`{}` takes no operands", s.mnemonic())),
        }
        self.emit(instr);
        Ok(true)
    }

    /// `.mNnNkK{.satfinite}.DTYPE.ATYPE.BTYPE d, a, b, scale-d{, scale-a, scale-b{, trans-a}{, trans-b}}`.
    fn product(&mut self, s: &Statement, mut m: Modifiers) -> Decoded {
        let shape = m.next()?;
        let saturates = m.has("satfinite");
        let (d_type, a_type, b_type) = (m.next()?, m.next()?, m.next()?);
        m.end()?;
        let Form { kind, k, mut flags } = form(d_type, a_type, b_type).ok_or_else(|| m.unknown())?;
        let integers = TYPES[kind as usize] == "8-bit integers";
        let n = columns(shape, k, integers).ok_or_else(|| m.unknown())?;
        if saturates && !integers {
            return Err(m.unknown());
        }
        flags |= if saturates { SATURATE } else { 0 };
        let [d, a, b, scale, rest @ ..] = s.operands.as_slice() else {
            return Err(format!("`{}` lacks operands", s.mnemonic()));
        };
        let in_registers = matches!(a, Operand::Vector(_));
        flags |= if in_registers { 0 } else { A_SHARED };
        flags |= immediates(rest, kind, in_registers)?;
        let sums = if flags & HALF_SUMS != 0 { n / 4 } else { n / 2 };
        let mut list = Vec::new();
        for element in parts(d, sums as usize, "d")? {
            list.push(self.dst(element, Type::B32)?);
        }
        // Products may add to one accumulator one after another.
        self.touched.clear();
        let zero = self.src(&Operand::Int(0), Type::U64)?;
        let mut descriptor = zero;
        if in_registers {
            for element in parts(a, 4, "a")? {
                list.push(self.src(element, Type::B32)?);
            }
        } else {
            descriptor = self.src(a, Type::B64)?;
        }
        self.context.products.extend(&list);
        let mut instr = self.blank(pick::<Issue>());
        (instr.a, instr.c) = (descriptor, self.src(b, Type::B64)?);
        instr.e = self.src(scale, Type::Pred)?;
        (instr.b, instr.d, instr.n) = (self.list(&list), sums, flags);
        (instr.slot, instr.imm) = (kind, n.into());
        self.emit(instr);
        Ok(())
    }
}

fn form(d: &str, a: &str, b: &str) -> Option<Form> {
    let eight = |name: &str| matches!(name, "e4m3" | "e5m2");
    let integer = |name: &str| matches!(name, "s8" | "u8");
    let others = |name: &str| (if a == name { A_OTHER } else { 0 }) | if b == name { B_OTHER } else { 0 };
    Some(match (d, a, b) {
        ("f32", "f16", "f16") => Form { kind: 0, k: 16, flags: 0 },
        ("f16", "f16", "f16") => Form { kind: 0, k: 16, flags: HALF_SUMS },
        ("f32", "bf16", "bf16") => Form { kind: 1, k: 16, flags: 0 },
        ("f32", "tf32", "tf32") => Form { kind: 2, k: 8, flags: 0 },
        ("f32", a, b) if eight(a) && eight(b) => Form { kind: 3, k: 32, flags: others("e5m2") },
        ("f16", a, b) if eight(a) && eight(b) => Form { kind: 3, k: 32, flags: others("e5m2") | HALF_SUMS },
        ("s32", a, b) if integer(a) && integer(b) => Form { kind: 4, k: 32, flags: others("s8") },
        _ => return None,
    })
}

/// N of `m64nNkK`: multiples of 8 up to 256; of integers above 32 only multiples of 16.
fn columns(shape: &str, k: u32, integers: bool) -> Option<u32> {
    let (n, given) = shape.strip_prefix("m64n")?.split_once('k')?;
    let n: u32 = n.parse().ok()?;
    let fits = (8..=256).contains(&n) && n.is_multiple_of(if integers && n > 32 { 16 } else { 8 });
    (given.parse() == Ok(k) && fits).then_some(n)
}

/// The constants after scale-d, as flags.
fn immediates(rest: &[Operand], kind: u32, in_registers: bool) -> Decoded<u32> {
    let values: Vec<i64> =
        rest.iter().filter_map(|o| if let Operand::Int(x) = o { Some(*x) } else { None }).collect();
    let half = kind < 2;
    let scales = if kind == 4 { 0 } else { 2 };
    let wanted = scales + if half { 2 - usize::from(in_registers) } else { 0 };
    if values.len() != rest.len() || values.len() != wanted {
        return Err(format!("{} constants after scale-d, {wanted} are wanted", rest.len()));
    }
    let (scales, transposes) = values.split_at(scales);
    if scales.iter().any(|s| s.abs() != 1) {
        return Err("the factors of a and b are 1 or -1".into());
    }
    if transposes.iter().any(|t| !(0..=1).contains(t)) {
        return Err("the transpositions of a and b are 0 or 1".into());
    }
    let mut flags = if scales.iter().product::<i64>() < 0 { NEGATED } else { 0 };
    match transposes {
        [a, b] => flags |= if *a != 0 { TRANSPOSED_A } else { 0 } | if *b != 0 { TRANSPOSED_B } else { 0 },
        [b] => flags |= if *b != 0 { TRANSPOSED_B } else { 0 },
        _ => {}
    }
    Ok(flags)
}
