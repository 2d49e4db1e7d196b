//! Moves, accesses and atomics of 128 bits: a register is two of 64, the lower half first.

use super::data::{READ_ONLY, load_run, scope, store_run, strong};
use super::frame::Class;
use super::function::{Decoded, FunctionDecoder};
use crate::checks::{ACQUIRE, RELEASE};
use crate::ops::atomic::{Atomic128, Whole};
use crate::ops::lanes::M1;
use crate::ops::memory::{ATOMIC, GENERIC, GLOBAL, Load, SCOPE, SHARED, Store, U64, WRITES};
use crate::ops::{Run, int, pick};
use crate::syntax::ast::{Operand, Statement};
use crate::syntax::types::{Space, Type};

/// A strong access: of the values that atomics of 128 bits write it sees no halves of two.
fn whole<const SPACE: u8>(writes: bool) -> Run {
    if writes { pick::<Whole<Store<U64, SPACE>>>() } else { pick::<Whole<Load<U64, SPACE>>>() }
}

impl FunctionDecoder<'_, '_> {
    /// `mov.b128` of two registers, or between one and its halves.
    pub(super) fn move_128(&mut self, d: &Operand, a: &Operand) -> Decoded {
        let sources = match a {
            Operand::Vector(parts) => match parts.as_slice() {
                [low, high] => [self.src(low, Type::B64)?, self.src(high, Type::B64)?],
                _ => return Err("128 bits are two halves of 64".into()),
            },
            register => self.halves_of(register, false)?,
        };
        let targets = match d {
            Operand::Vector(parts) => match parts.as_slice() {
                [low, high] => [self.dst(low, Type::B64)?, self.dst(high, Type::B64)?],
                _ => return Err("128 bits are two halves of 64".into()),
            },
            register => self.halves_of(register, true)?,
        };
        // The targets may be the sources in the other order.
        let low = self.temp(Class::Long);
        for (target, source) in [(low, sources[0]), (targets[1], sources[1]), (targets[0], low)] {
            self.emit_op(pick::<M1<int::Copy<u64>>>(), target, &[source]);
        }
        Ok(())
    }

    /// `ld.b128` and `st.b128`: 16 bytes at once, as two elements of 64 bits.
    pub(super) fn access_128(
        &mut self,
        s: &Statement,
        register: &Operand,
        place: &Operand,
        writes: bool,
    ) -> Decoded {
        let halves = self.halves_of(register, !writes)?;
        let address = self.address(s, place)?;
        if let Some(offset) = address.parameter {
            return if writes {
                Err(READ_ONLY.into())
            } else {
                self.load_parameter(place, offset, (Type::B64, 8), &halves)
            };
        }
        let strong = strong(s);
        let run = match (strong != 0, address.space) {
            (true, Space::Generic) => whole::<GENERIC>(writes),
            (true, Space::Global) => whole::<GLOBAL>(writes),
            (true, Space::Shared) => whole::<SHARED>(writes),
            _ if writes => store_run(Type::B64, address.space)?,
            _ => load_run(Type::B64, 8, address.space)?,
        };
        let mut instr = self.memory_instr(run, &address, &halves);
        instr.n |= strong | if writes { WRITES } else { 0 };
        if s.has("release") {
            self.fence(RELEASE | scope(s));
        }
        self.emit(instr);
        if s.has("acquire") {
            self.fence(ACQUIRE | scope(s));
        }
        Ok(())
    }

    /// `atom{.sem}{.scope}{.space}.exch.b128 d, [a], b` and `.cas.b128 d, [a], b, c`.
    pub(super) fn atomic_128(&mut self, s: &Statement) -> Decoded {
        let operands = self.without_policy(s, 3)?;
        let (d, a, b, c) = match operands {
            [d, a, b] if s.has("exch") => (d, a, b, b),
            [d, a, b, c] if s.has("cas") => (d, a, b, c),
            _ => {
                return Err(
                    "128 bits are exchanged (`d, [a], b`) or compared and swapped (`d, [a], b, c`)".into()
                );
            }
        };
        let address = self.address(s, a)?;
        let (b, c) = (self.halves_of(b, false)?, self.halves_of(c, false)?);
        let d = match d {
            Operand::Name(name) if name == "_" => [self.temp(Class::Long), self.temp(Class::Long)],
            d => self.halves_of(d, true)?,
        };
        let mut instr = self.memory_instr(pick::<Atomic128>(), &address, &[d, b, c].concat());
        instr.n |= WRITES | ATOMIC | scope(s) << SCOPE;
        // As of other atomics: the operation, of which the checks look at `exch` alone.
        instr.c = (if s.has("cas") { 9 } else { 8 }) << 8;
        self.emit_atomic(s, instr, address.space)
    }
}
