//! Operands as registers: constants, conversions between widths, addresses, targets.

use super::frame::{Class, Late};
use super::function::{Decoded, FunctionDecoder};
use super::scope::{Symbol, class_of};
use crate::memory::CODE_WINDOW;
use crate::ops::{self, pick};
use crate::syntax::ast::Operand;
use crate::syntax::types::{Space, Type};

impl FunctionDecoder<'_, '_> {
    /// A source operand as a register of the class of `ty`.
    pub(super) fn src(&mut self, operand: &Operand, ty: Type) -> Decoded<u32> {
        let class =
            class_of(ty).ok_or_else(|| format!("operands of {} bits are not supported", ty.bits()))?;
        match operand {
            Operand::Int(value) => Ok(self.int_constant(*value, ty, class)),
            Operand::F32(bits) if ty == Type::F64 => {
                Ok(self.context.frame.constant(class, f64::from(f32::from_bits(*bits)).to_bits()))
            }
            Operand::F32(bits) => Ok(self.context.frame.constant(class, u64::from(*bits))),
            Operand::F64(bits) => Ok(self.float_constant(f64::from_bits(*bits), ty, class)),
            Operand::Name(name) => self.named(name, 0, ty, class),
            Operand::Offset(name, offset) => self.named(name, *offset, ty, class),
            Operand::Vector(parts) if parts.len() == 1 => self.src(&parts[0], ty),
            _ => Err("this kind of operand has no meaning here".into()),
        }
    }

    fn int_constant(&mut self, value: i64, ty: Type, class: Class) -> u32 {
        let bits = match ty {
            Type::Pred => {
                if value != 0 {
                    u64::from(u32::MAX)
                } else {
                    0
                }
            }
            Type::F32 => u64::from((value as f32).to_bits()),
            Type::F64 => (value as f64).to_bits(),
            _ if ty.bits() >= 64 => value as u64,
            _ => value as u64 & ((1 << ty.bits()) - 1),
        };
        self.context.frame.constant(class, bits)
    }

    fn float_constant(&mut self, value: f64, ty: Type, class: Class) -> u32 {
        use crate::numeric::half::{f64_to_bf16, f64_to_f16};
        let bits = match ty {
            Type::F32 | Type::B32 => u64::from((value as f32).to_bits()),
            Type::F16 | Type::B16 => u64::from(f64_to_f16(value)),
            Type::BF16 => u64::from(f64_to_bf16(value)),
            _ => value.to_bits(),
        };
        self.context.frame.constant(class, bits)
    }

    fn named(&mut self, name: &str, offset: i64, ty: Type, class: Class) -> Decoded<u32> {
        if let Some(Symbol::Register { ty: own, offset: register }) = self.symbol(name) {
            if offset != 0 {
                return Err(format!("`{name}` is a register; a constant is added only within an address"));
            }
            self.touched.push((register, false));
            return self.fit(register, own, ty, class, name);
        }
        if name == "%is_explicit_cluster" {
            let predicate = self.explicit_cluster();
            return self.fit(predicate, Type::Pred, ty, class, name);
        }
        if let Some(register) = self.special(name)? {
            return self.fit(register, Type::U32, ty, class, name);
        }
        if let Some(wide) = self.special64(name) {
            return self.fit(wide, Type::U64, ty, class, name);
        }
        let register = self.address_of(name, offset)?;
        self.fit(register, Type::U64, ty, class, name)
    }

    /// A register as the class wanted, through a conversion if it has another.
    fn fit(&mut self, register: u32, own: Type, ty: Type, class: Class, name: &str) -> Decoded<u32> {
        let own_class = class_of(own).ok_or_else(|| format!("`{name}` has {} bits", own.bits()))?;
        if own_class == class {
            return Ok(register);
        }
        let run = match (own_class, class) {
            (Class::Long, Class::Word) => pick::<ops::lanes::M1<ops::int::Narrow>>(),
            (Class::Word, Class::Long) if ty.is_signed() => pick::<ops::lanes::M1<ops::int::Widen<i32>>>(),
            (Class::Word, Class::Long) => pick::<ops::lanes::M1<ops::int::Widen<u32>>>(),
            (Class::Pred, _) => {
                return Err(format!(
                    "`{name}` is a predicate, where a value of {} bits is wanted",
                    ty.bits()
                ));
            }
            _ => return Err(format!("`{name}` is no predicate")),
        };
        let temp = self.temp(class);
        let saved = std::mem::take(&mut self.after);
        self.emit_op(run, temp, &[register]);
        self.after = saved;
        Ok(temp)
    }

    /// The register that holds the address of a variable or function, 64 bits.
    pub(super) fn address_of(&mut self, name: &str, offset: i64) -> Decoded<u32> {
        if let Some(Symbol::Variable { space, address }) = self.symbol(name) {
            if let Some(base) = self.base_of(space) {
                return Ok(self.beyond(base, address.wrapping_add(offset as u64)));
            }
            return Ok(self.context.frame.constant(Class::Long, address.wrapping_add(offset as u64)));
        }
        if let Some(&at) = self.context.shared.get(name) {
            return Ok(self.context.frame.constant(Class::Long, at.wrapping_add(offset as u64)));
        }
        if let Some(variable) = self.context.module.variables.iter().find(|v| v.name == name) {
            if variable.is_elsewhere() {
                return Err(format!(
                    "`{name}` is `.extern` (PTX line {}), and the module does not define it",
                    variable.line
                ));
            }
            let name = match variable.space {
                // Known when all static shared memory has been placed: see `layout`.
                Space::Shared => "%dynamic_shared",
                _ => name,
            };
            return Ok(self.context.frame.late(Late::Symbol(name.into(), offset)));
        }
        if let Some(&number) = self.context.numbers.get(name) {
            return Ok(self.context.frame.constant(Class::Long, CODE_WINDOW + 16 * u64::from(number)));
        }
        Err(format!("`{name}` is not declared"))
    }

    /// The state space in which a name's address lies.
    pub(super) fn space_of(&mut self, name: &str) -> Option<Space> {
        match self.symbol(name) {
            Some(Symbol::Variable { space, .. }) => Some(space),
            Some(_) => None,
            None => self.context.module.variables.iter().find(|v| v.name == name).map(|v| v.space),
        }
    }

    /// A target operand as a register of the class of `ty`; `_` is a register that nobody reads. Results of signed types that
    /// are narrower than the register are extended by `fit_result`.
    pub(super) fn dst(&mut self, operand: &Operand, ty: Type) -> Decoded<u32> {
        let class = class_of(ty).ok_or_else(|| format!("results of {} bits are not supported", ty.bits()))?;
        let Operand::Name(name) = operand else { return Err("the first operand must be a register".into()) };
        if name == "_" {
            return Ok(self.temp(class));
        }
        let Some(Symbol::Register { ty: own, offset }) = self.symbol(name) else {
            return Err(format!("`{name}` is not a register"));
        };
        self.touched.push((offset, true));
        let own_class = class_of(own).ok_or_else(|| format!("`{name}` has {} bits", own.bits()))?;
        if own_class == class {
            return Ok(offset);
        }
        let run = match (class, own_class) {
            (Class::Long, Class::Word) => pick::<ops::lanes::M1<ops::int::Narrow>>(),
            (Class::Word, Class::Long) if ty.is_signed() => pick::<ops::lanes::M1<ops::int::Widen<i32>>>(),
            (Class::Word, Class::Long) => pick::<ops::lanes::M1<ops::int::Widen<u32>>>(),
            _ => return Err(format!("`{name}` cannot take a result of this type")),
        };
        let temp = self.temp(class);
        let mut convert = self.blank(run);
        (convert.d, convert.a) = (offset, temp);
        self.after.push(convert);
        Ok(temp)
    }

    /// A register of 64 bits with the unsigned number of one of 32.
    pub(super) fn widened(&mut self, register: u32) -> u32 {
        let wide = self.temp(Class::Long);
        self.emit_op(pick::<ops::lanes::M1<ops::int::Widen<u32>>>(), wide, &[register]);
        wide
    }

    /// The two halves of a register of 128 bits, the lower one first.
    pub(super) fn halves_of(&mut self, operand: &Operand, writes: bool) -> Decoded<[u32; 2]> {
        if let Operand::Name(name) = operand
            && let Some(Symbol::Register { ty: Type::B128, offset }) = self.symbol(name)
        {
            self.touched.push((offset, writes));
            return Ok([offset, offset + Class::Long.bytes()]);
        }
        Err("a register of 128 bits is wanted".into())
    }

    /// The declared type of a register operand.
    pub(super) fn register_type(&mut self, operand: &Operand) -> Option<Type> {
        let Operand::Name(name) = operand else { return None };
        match self.symbol(name) {
            Some(Symbol::Register { ty, .. }) => Some(ty),
            _ => None,
        }
    }
}
