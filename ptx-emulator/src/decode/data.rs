//! Moves, loads, stores, atomics, fences.

use super::function::{Decoded, FunctionDecoder, operands, type_of};
use super::modifiers::Modifiers;
use super::scope::Symbol;
use crate::checks::{ACQUIRE, BLOCK, CLUSTER_WIDE, DEVICE, Fence, RELEASE, Scope};
use crate::memory::PARAM_WINDOW;
use crate::ops::atomic::{self, Atomic};
use crate::ops::lanes::M1;
use crate::ops::memory::{
    self as mem, ATOMIC, BLIND, CLUSTER, Load, LoadParam, PASSES, SCOPE, STRONG, Store, WIDE_ADDRESS, WRITES,
};
use crate::ops::{Instr, Run, bits, int, pick};
use crate::syntax::ast::{Operand, Statement};
use crate::syntax::types::{Space, Type};

/// The handlers of an access for all spaces: `Load` or `Store` of an element.
macro_rules! in_space {
    ($kind:ident, $element:ident, $space:expr) => {
        match $space {
            Space::Generic => pick::<$kind<mem::$element, { mem::GENERIC }>>(),
            Space::Global => pick::<$kind<mem::$element, { mem::GLOBAL }>>(),
            Space::Const => pick::<$kind<mem::$element, { mem::CONST }>>(),
            Space::Shared => pick::<$kind<mem::$element, { mem::SHARED }>>(),
            Space::Local => pick::<$kind<mem::$element, { mem::LOCAL }>>(),
            Space::Param => pick::<$kind<mem::$element, { mem::PARAM }>>(),
        }
    };
}

pub(super) const READ_ONLY: &str = "the parameters of a kernel cannot be written";

/// An address operand: register, its width flag, and a constant; or a kernel parameter at a constant place.
pub(super) struct Address {
    pub register: u32,
    pub wide: u32,
    pub offset: i64,
    pub parameter: Option<u64>,
    pub space: Space,
    /// `.shared::cluster`.
    pub cluster: bool,
}

impl FunctionDecoder<'_, '_> {
    /// Decodes the statement if it moves data.
    pub(super) fn data(&mut self, s: &Statement) -> Decoded<bool> {
        match s.opcode.as_str() {
            "mov" => self.mov(s)?,
            "ld" | "ldu" => self.load(s)?,
            "st" => self.store(s)?,
            "atom" if s.has("b128") => self.atomic_128(s)?,
            "atom" | "red" => self.atomic(s)?,
            "membar" | "fence" => self.fence_of(s)?,
            "isspacep" => self.isspacep(s)?,
            // Hints about caches and time change no result.
            "prefetch" | "prefetchu" | "applypriority" | "nanosleep" | "pmevent" | "griddepcontrol" => {
                self.nothing()
            }
            "createpolicy" => self.create_policy(s)?,
            // What it gives up may hold anything afterwards, also what it held.
            "discard" => {
                let mut m = Modifiers::of(s);
                m.has("global");
                m.want(&["L2"])?;
                m.end()?;
                let [Operand::Address(..), Operand::Int(128)] = operands(s)? else {
                    return Err("`discard` takes an address and the size 128".into());
                };
                self.nothing();
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn mov(&mut self, s: &Statement) -> Decoded {
        let ty = type_of(s)?;
        let [d, a] = operands(s)?;
        match (d, a) {
            _ if ty == Type::B128 => self.move_128(d, a),
            (Operand::Vector(parts), _) => self.unpack(parts, a, ty),
            (_, Operand::Vector(parts)) => self.pack_parts(d, parts, ty),
            _ if ty == Type::Pred => {
                let (a, negated) = self.predicate(a)?;
                self.emit_pred(if negated { 3 } else { 4 }, d, a, a)
            }
            _ => {
                if let Operand::Name(name) = a
                    && name == "%activemask"
                {
                    return Err("`%activemask` is no register; use `activemask`".into());
                }
                let (a, d) = (self.src(a, ty)?, self.dst(d, ty)?);
                let run =
                    if ty.size() == 8 { pick::<M1<int::Copy<u64>>>() } else { pick::<M1<int::Copy<u32>>>() };
                self.emit_op(run, d, &[a]);
                Ok(())
            }
        }
    }

    fn part_type(parts: &[Operand], ty: Type) -> Decoded<Type> {
        match ty.bits() / parts.len().max(1) as u32 {
            8 => Ok(Type::B8),
            16 => Ok(Type::B16),
            32 => Ok(Type::B32),
            bits => Err(format!("parts of {bits} bits are not supported")),
        }
    }

    fn pack_parts(&mut self, d: &Operand, parts: &[Operand], ty: Type) -> Decoded {
        let part = Self::part_type(parts, ty)?;
        let mut sources = Vec::new();
        for p in parts {
            sources.push(self.src(p, part)?);
        }
        let mut instr = self.blank(pick::<bits::Pack>());
        (instr.a, instr.n, instr.imm) = (self.list(&sources), parts.len() as u32, i64::from(part.bits()));
        (instr.d, instr.e) = (self.dst(d, ty)?, u32::from(ty.size() == 8));
        self.emit(instr);
        Ok(())
    }

    fn unpack(&mut self, parts: &[Operand], a: &Operand, ty: Type) -> Decoded {
        let part = Self::part_type(parts, ty)?;
        let source = self.src(a, ty)?;
        let mut targets = Vec::new();
        for p in parts {
            targets.push(self.dst(p, part)?);
        }
        let mut instr = self.blank(pick::<bits::Unpack>());
        (instr.b, instr.n, instr.imm) = (self.list(&targets), parts.len() as u32, i64::from(part.bits()));
        (instr.a, instr.e) = (source, u32::from(ty.size() == 8));
        self.emit(instr);
        Ok(())
    }

    /// The space that modifiers name; `.param` of a function is local memory.
    fn space(s: &Statement) -> Space {
        s.modifiers.iter().find_map(|m| Space::parse(m)).unwrap_or(Space::Generic)
    }

    pub(super) fn address(&mut self, s: &Statement, operand: &Operand) -> Decoded<Address> {
        let space = Self::space(s);
        let address = self.address_in(space, operand)?;
        if address.parameter.is_some() && space != Space::Param {
            return Err(format!("`{}` of a parameter, which lies in `.param`", s.mnemonic()));
        }
        Ok(Address { cluster: s.has("shared::cluster"), ..address })
    }

    pub(super) fn address_in(&mut self, space: Space, operand: &Operand) -> Decoded<Address> {
        let Operand::Address(base, offset) = operand else {
            return Err("an address in `[ ]` is wanted".into());
        };
        let mut address = Address {
            register: 0,
            wide: WIDE_ADDRESS,
            offset: *offset,
            parameter: None,
            space,
            cluster: false,
        };
        let Some(name) = base else {
            address.register = self.src(&Operand::Int(0), Type::U64)?;
            return Ok(address);
        };
        match self.symbol(name) {
            Some(Symbol::Register { ty, offset: register }) => {
                address.register = register;
                address.wide = if ty.size() == 8 { WIDE_ADDRESS } else { 0 };
                if ty == Type::Pred {
                    return Err(format!("`{name}` is a predicate, no address"));
                }
                // Within a function, parameters are in local memory.
                if address.space == Space::Param && !self.is_entry() {
                    address.space = Space::Local;
                }
            }
            Some(Symbol::Variable { space: Space::Param, address: at }) => {
                address.parameter = Some(at.wrapping_add(*offset as u64));
                address.register = self.src(&Operand::Int(PARAM_WINDOW as i64 + at as i64), Type::U64)?;
                address.space = Space::Param;
            }
            Some(Symbol::Variable { space, address: at }) => {
                if address.space == Space::Param || (address.space == Space::Generic && space == Space::Local)
                {
                    address.space = space;
                }
                match self.base_of(space) {
                    Some(base) => (address.register, address.offset) = (base, offset.wrapping_add(at as i64)),
                    None => address.register = self.src(&Operand::Int(at as i64), Type::U64)?,
                }
                if address.space == Space::Generic {
                    address.space = space;
                }
            }
            None => {
                address.register = self.address_of(name, 0)?;
                if let (Space::Generic, Some(space)) = (address.space, self.space_of(name)) {
                    address.space = space;
                }
            }
        }
        Ok(address)
    }

    /// The listed registers of a load or store.
    fn elements<'o>(&self, operand: &'o Operand, s: &Statement) -> Decoded<&'o [Operand]> {
        let count = ["v2", "v4", "v8"].iter().position(|v| s.has(v)).map_or(1, |k| 2usize << k);
        let all = match operand {
            Operand::Vector(all) => all.as_slice(),
            one => std::slice::from_ref(one),
        };
        if all.len() != count {
            return Err(format!("{count} elements are wanted, {} are given", all.len()));
        }
        Ok(all)
    }

    pub(super) fn memory_instr(&mut self, run: Run, address: &Address, list: &[u32]) -> Instr {
        let mut instr = self.blank(run);
        (instr.a, instr.imm, instr.b) = (address.register, address.offset, self.list(list));
        instr.n = list.len() as u32 | address.wide | if address.cluster { CLUSTER } else { 0 };
        instr.slot = self.cache();
        instr
    }

    /// The operands, of which at least `least` are wanted, without the cache policy that a hint brings with it.
    pub(super) fn without_policy<'s>(&mut self, s: &'s Statement, least: usize) -> Decoded<&'s [Operand]> {
        let operands = s.operands.as_slice();
        if !s.has("L2::cache_hint") {
            return Ok(operands);
        }
        match operands {
            [rest @ .., policy] if rest.len() >= least => {
                self.src(policy, Type::B64)?;
                Ok(rest)
            }
            _ => Err("`.L2::cache_hint` wants a cache policy".into()),
        }
    }

    fn load(&mut self, s: &Statement) -> Decoded {
        let ty = type_of(s)?;
        let [d, a] = self.without_policy(s, 2)? else { return Err("`ld` takes 2 operands".into()) };
        if ty == Type::B128 {
            return self.access_128(s, d, a, false);
        }
        let elements = self.elements(d, s)?;
        let address = self.address(s, a)?;
        // All elements of a vector are read as the widest of their registers wants.
        let width = elements
            .iter()
            .filter_map(|e| self.register_type(e))
            .map(|t| t.size())
            .max()
            .unwrap_or(ty.size());
        let as_type = match width {
            8 => {
                if ty.is_signed() {
                    Type::S64
                } else {
                    Type::U64
                }
            }
            _ => Type::B32,
        };
        let mut list = Vec::new();
        for element in elements {
            list.push(self.dst(element, as_type)?);
        }
        if let Some(offset) = address.parameter {
            return self.load_parameter(a, offset, (ty, width), &list);
        }
        let mut instr = self.memory_instr(load_run(ty, width, address.space)?, &address, &list);
        // Without optimisation structures are copied with their padding, which nobody has written.
        instr.n |= strong(s) | if self.context.module.debug { PASSES } else { 0 };
        self.emit(instr);
        if s.has("acquire") {
            self.fence(ACQUIRE | scope(s));
        }
        Ok(())
    }

    /// Loads elements of a kernel parameter, which are read within its bounds, into registers of `width` bytes.
    pub(super) fn load_parameter(
        &mut self,
        operand: &Operand,
        offset: u64,
        (ty, width): (Type, u64),
        list: &[u32],
    ) -> Decoded {
        self.check_parameter(operand, offset, ty.size() * list.len() as u64)?;
        let mut instr = self.blank(param_run(ty, width)?);
        (instr.imm, instr.n, instr.b) = (offset as i64, list.len() as u32, self.list(list));
        self.emit(instr);
        Ok(())
    }

    fn check_parameter(&mut self, operand: &Operand, offset: u64, size: u64) -> Decoded {
        let Operand::Address(Some(name), _) = operand else { return Ok(()) };
        let Some(&(start, length)) = self.context.kernel_params.get(name.as_str()) else { return Ok(()) };
        if offset < start || offset + size > start + length {
            return Err(format!(
                "{size} bytes at offset {} of parameter `{name}`, which has {length}",
                offset.wrapping_sub(start)
            ));
        }
        if !offset.is_multiple_of(size.min(16)) && !offset.is_multiple_of(size) {
            return Err(format!("parameter `{name}` is read misaligned"));
        }
        Ok(())
    }

    fn store(&mut self, s: &Statement) -> Decoded {
        let ty = type_of(s)?;
        let [a, b] = self.without_policy(s, 2)? else { return Err("`st` takes 2 operands".into()) };
        if matches!(Self::space(s), Space::Const) {
            return Err("constant memory cannot be written".into());
        }
        if ty == Type::B128 {
            return self.access_128(s, b, a, true);
        }
        let elements = self.elements(b, s)?;
        let address = self.address(s, a)?;
        if address.parameter.is_some() {
            return Err(READ_ONLY.into());
        }
        let mut list = Vec::new();
        for element in elements {
            list.push(self.src(element, if ty.size() < 4 { wider(element, ty) } else { ty })?);
        }
        if s.has("release") {
            self.fence(RELEASE | scope(s));
        }
        let mut instr = self.memory_instr(store_run(ty, address.space)?, &address, &list);
        instr.n |= WRITES | strong(s);
        self.emit(instr);
        Ok(())
    }

    /// `fence` of any kind: all are as strong as the strongest. Proxies are told apart by the checks alone.
    fn fence_of(&mut self, s: &Statement) -> Decoded {
        if s.has("tensormap::generic") {
            return self.map_fence(s);
        }
        let [] = operands(s)?;
        if s.has("mbarrier_init") || s.has("async") {
            let mut fence = self.blank(pick::<mem::ProxyFence>());
            fence.d = match () {
                _ if s.has("mbarrier_init") => mem::FENCES_MBARRIERS,
                _ if s.has("global") => mem::FENCES_GLOBAL,
                _ if s.has("shared::cta") || s.has("shared::cluster") => mem::FENCES_SHARED,
                _ => mem::FENCES_SHARED | mem::FENCES_GLOBAL,
            };
            self.emit(fence);
            return Ok(());
        }
        self.fence(if s.has("proxy") { 0 } else { scope(s) });
        Ok(())
    }

    pub(super) fn fence(&mut self, how: Fence) {
        let mut fence = self.blank(pick::<mem::Fence>());
        fence.n = how;
        self.emit(fence);
    }

    fn atomic(&mut self, s: &Statement) -> Decoded {
        let ty = type_of(s)?;
        let is_red = s.opcode == "red";
        let skip = usize::from(!is_red);
        let compare = s.has("cas");
        let wanted = skip + 2 + usize::from(compare);
        let operands = self.without_policy(s, wanted)?;
        if operands.len() != wanted {
            return Err(format!("`{}` takes {wanted} operands, not {}", s.opcode, operands.len()));
        }
        let address = self.address(s, &operands[skip])?;
        let sources = self.elements(&operands[skip + 1], s)?;
        let mut list = Vec::new();
        for (k, source) in sources.iter().enumerate() {
            let source = self.src(source, ty)?;
            let third = if compare { self.src(&operands[skip + 2], ty)? } else { source };
            let target = match (&operands[0], is_red) {
                (_, true) => 0,
                (Operand::Vector(all), _) => match all.get(k) {
                    Some(d) => self.dst(d, ty)?,
                    None => return Err("fewer targets than sources".into()),
                },
                (d, _) => self.dst(d, ty)?,
            };
            list.push([target, source, third]);
        }
        let instr = self.atomic_instr(s, ty, &address, &list)?;
        self.emit_atomic(s, instr, address.space)
    }

    /// The atomic itself: target (0 for none), source and comparand of each element. The space is left to the caller.
    pub(super) fn atomic_instr(
        &mut self,
        s: &Statement,
        ty: Type,
        address: &Address,
        elements: &[[u32; 3]],
    ) -> Decoded<Instr> {
        let operation =
            atomic::OPERATIONS.iter().position(|o| s.has(o)).ok_or("no atomic operation is named")?;
        let code = atomic::TYPES.iter().position(|&t| t == ty).ok_or_else(|| super::arith::no_form(ty))?;
        let mut instr = self.memory_instr(pick::<Atomic>(), address, elements.as_flattened());
        instr.n |= WRITES | ATOMIC | scope(s) << SCOPE | if s.opcode == "red" { BLIND } else { 0 };
        instr.n = instr.n & !0xff | elements.len() as u32;
        instr.c = (operation as u32) << 8 | code as u32;
        Ok(instr)
    }

    /// An atomic with the fences that it brings with it.
    pub(super) fn emit_atomic(&mut self, s: &Statement, mut instr: Instr, space: Space) -> Decoded {
        instr.e = match space {
            Space::Shared => mem::SHARED,
            Space::Global => mem::GLOBAL,
            Space::Generic => mem::GENERIC,
            other => return Err(format!("atomics on {} memory do not exist", other.name())),
        }
        .into();
        let ordered = ["acquire", "release", "acq_rel"].iter().any(|m| s.has(m));
        if ordered {
            let after = self.pending();
            self.fence(if s.has("acquire") { 0 } else { RELEASE | scope(s) });
            self.restore(after);
        }
        self.emit(instr);
        if ordered {
            self.fence(if s.has("release") { 0 } else { ACQUIRE | scope(s) });
        }
        Ok(())
    }

    fn isspacep(&mut self, s: &Statement) -> Decoded {
        let [d, a] = operands(s)?;
        let mut instr = self.blank(pick::<mem::IsSpace>());
        (instr.a, instr.d) = (self.src(a, Type::U64)?, self.dst(d, Type::Pred)?);
        instr.n = match Self::space(s) {
            Space::Shared => mem::SHARED,
            Space::Local => mem::LOCAL,
            Space::Param => mem::PARAM,
            Space::Const => mem::CONST,
            _ => mem::GLOBAL,
        }
        .into();
        self.emit(instr);
        Ok(())
    }
}

/// The flag of accesses that may meet others without a race.
pub(super) fn strong(s: &Statement) -> u32 {
    let strong = ["volatile", "relaxed", "acquire", "release", "mmio"].iter().any(|m| s.has(m));
    if strong { STRONG | scope(s) << SCOPE } else { 0 }
}

/// How far a strong access or a fence reaches; volatile ones, and atomics that do not say, reach everybody.
pub(super) fn scope(s: &Statement) -> Scope {
    if s.has("cta") {
        BLOCK
    } else if s.has("cluster") {
        CLUSTER_WIDE
    } else {
        DEVICE
    }
}

/// A narrow store takes the low bits of whatever register it names.
fn wider(_: &Operand, ty: Type) -> Type {
    match ty {
        Type::B8 | Type::U8 | Type::S8 => ty,
        other => other.untyped(),
    }
}

fn param_run(ty: Type, width: u64) -> Decoded<Run> {
    Ok(match (ty.size(), ty.is_signed(), width) {
        (1, false, 0..=4) => pick::<LoadParam<mem::U8>>(),
        (1, true, 0..=2) => pick::<LoadParam<mem::S8In16>>(),
        (1, true, 3..=4) => pick::<LoadParam<mem::S8In32>>(),
        (1, false, _) => pick::<LoadParam<mem::U8In64>>(),
        (1, true, _) => pick::<LoadParam<mem::S8In64>>(),
        (2, true, 3..=4) => pick::<LoadParam<mem::S16In32>>(),
        (2, _, 0..=4) => pick::<LoadParam<mem::U16>>(),
        (2, true, _) => pick::<LoadParam<mem::S16In64>>(),
        (2, false, _) => pick::<LoadParam<mem::U16In64>>(),
        (4, _, 0..=4) => pick::<LoadParam<mem::U32>>(),
        (4, true, _) => pick::<LoadParam<mem::S32In64>>(),
        (4, false, _) => pick::<LoadParam<mem::U32In64>>(),
        (8, _, 8) => pick::<LoadParam<mem::U64>>(),
        _ => return Err("the register is narrower than what is loaded".into()),
    })
}

pub(super) fn load_run(ty: Type, width: u64, space: Space) -> Decoded<Run> {
    Ok(match (ty.size(), ty.is_signed(), width) {
        (1, false, 0..=4) => in_space!(Load, U8, space),
        (1, true, 0..=2) => in_space!(Load, S8In16, space),
        (1, true, 3..=4) => in_space!(Load, S8In32, space),
        (1, false, _) => in_space!(Load, U8In64, space),
        (1, true, _) => in_space!(Load, S8In64, space),
        (2, true, 3..=4) => in_space!(Load, S16In32, space),
        (2, _, 0..=4) => in_space!(Load, U16, space),
        (2, true, _) => in_space!(Load, S16In64, space),
        (2, false, _) => in_space!(Load, U16In64, space),
        (4, _, 0..=4) => in_space!(Load, U32, space),
        (4, true, _) => in_space!(Load, S32In64, space),
        (4, false, _) => in_space!(Load, U32In64, space),
        (8, _, 8) => in_space!(Load, U64, space),
        _ => return Err("the register is narrower than what is loaded".into()),
    })
}

pub(super) fn store_run(ty: Type, space: Space) -> Decoded<Run> {
    Ok(match ty.size() {
        1 => in_space!(Store, U8, space),
        2 => in_space!(Store, U16, space),
        4 => in_space!(Store, U32, space),
        8 => in_space!(Store, U64, space),
        _ => return Err("stores of 128-bit registers are not supported".into()),
    })
}
