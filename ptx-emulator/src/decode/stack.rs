//! `alloca`, `stacksave` and `stackrestore`: local memory of a size that only the thread knows.
//!
//! A thread has [`STACK`] bytes for it, which lie among its variables, and a register that says where they are free; [`DEEP_STACK`] where a
//! function may call itself, for its activations too. A function gives back what it took when it returns.

use super::frame::Class;
use super::function::{Decoded, FunctionDecoder, operands};
use super::modifiers::Modifiers;
use crate::ops::lanes::M1;
use crate::ops::{int, pick, stack};
use crate::syntax::ast::{Item, Operand, Statement};
use crate::syntax::types::Type;

/// Bytes of a thread's local memory for `alloca`, and the largest alignment that it takes.
pub(crate) const STACK: u32 = 8192;
/// The same of kernels with functions that may call themselves.
pub(crate) const DEEP_STACK: u32 = 64 << 10;

/// The part of local memory from which `alloca` takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stack {
    /// The register that holds the first free byte.
    pub(super) top: u32,
    start: u32,
    pub(super) end: u32,
}

impl FunctionDecoder<'_, '_> {
    /// Decodes the statement if it moves the stack's top.
    pub(super) fn stack(&mut self, s: &Statement) -> Decoded<bool> {
        if !["alloca", "stacksave", "stackrestore"].contains(&s.opcode.as_str()) {
            return Ok(false);
        }
        let mut m = Modifiers::of(s);
        let ty = if m.want(&["u32", "u64"])? == "u64" { Type::U64 } else { Type::U32 };
        m.end()?;
        let Stack { top, start, end } = self.the_stack()?;
        match s.opcode.as_str() {
            "alloca" => {
                let (d, size, align) = match s.operands.as_slice() {
                    [d, size] => (d, size, 8),
                    [d, size, Operand::Int(align)] => (d, size, *align),
                    _ => return Err("`alloca` takes a target, a size and an alignment".into()),
                };
                if !(1..=i64::from(STACK)).contains(&align) || align.count_ones() != 1 {
                    return Err(format!("an alignment is a power of two up to {STACK}, not {align}"));
                }
                let size = self.src(size, ty)?;
                let d = self.dst(d, ty)?;
                let mut instr = self.blank(match ty {
                    Type::U64 => pick::<stack::Alloca<u64>>(),
                    _ => pick::<stack::Alloca<u32>>(),
                });
                (instr.d, instr.a, instr.b) = (d, size, top);
                // PTX manual: at least 8, whatever is asked for.
                (instr.n, instr.imm) = (align.max(8) as u32, i64::from(end));
                self.emit(instr);
            }
            "stacksave" => {
                let [d] = operands(s)?;
                let d = self.dst(d, ty)?;
                let run = match ty {
                    Type::U64 => pick::<M1<int::Widen<u32>>>(),
                    _ => pick::<M1<int::Copy<u32>>>(),
                };
                self.emit_op(run, d, &[top]);
            }
            _ => {
                let [a] = operands(s)?;
                let a = self.src(a, ty)?;
                let mut instr = self.blank(match ty {
                    Type::U64 => pick::<stack::Restore<u64>>(),
                    _ => pick::<stack::Restore<u32>>(),
                });
                (instr.a, instr.b, instr.n) = (a, top, start);
                self.emit(instr);
            }
        }
        Ok(true)
    }

    pub(super) fn the_stack(&mut self) -> Decoded<Stack> {
        let context = &mut *self.context;
        if let Some(stack) = context.stack {
            return Ok(stack);
        }
        let size = if context.recursive.is_empty() { STACK } else { DEEP_STACK };
        let start = context.local(size.into(), 128);
        // From here on an offset has 32 bits.
        context.local_fits()?;
        let start = start as u32;
        let stack = Stack { top: context.frame.beginning_with(start), start, end: start + size };
        context.stack = Some(stack);
        Ok(stack)
    }

    /// A function that takes from the stack keeps the top that it found: gives the register. One with activations does so anyway.
    pub(super) fn keep_top(&mut self, body: &[Item]) -> Decoded<Option<u32>> {
        let takes = |item: &Item| matches!(item, Item::Statement(s) if s.opcode == "alloca");
        if self.is_entry() || self.activation.is_some() || !body.iter().any(takes) {
            return Ok(None);
        }
        let (stack, kept) = (self.the_stack()?, self.temp(Class::Word));
        self.emit_op(pick::<M1<int::Copy<u32>>>(), kept, &[stack.top]);
        Ok(Some(kept))
    }

    /// Before it returns: the top is what it was.
    pub(super) fn give_back(&mut self, kept: Option<u32>) {
        if let (Some(kept), Some(stack)) = (kept, self.context.stack) {
            let mut instr = self.blank(pick::<stack::GiveBack>());
            (instr.a, instr.b) = (kept, stack.top);
            self.emit(instr);
        }
    }
}
