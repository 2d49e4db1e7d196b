//! One function: its items in order, each statement handed to the part of the decoder that knows its opcode.

use super::EntryContext;
use super::frame::{Class, Late};
use super::scope::{Scopes, Symbol, class_of, labels};
use crate::error::Problem;
use crate::memory::CODE_WINDOW;
use crate::ops::{self, Instr, Run, pick};
use crate::syntax::ast::{Function, Item, Operand, Statement, Variable};
use crate::syntax::types::{Space, Type};
use std::collections::HashMap;

pub(super) type Decoded<T = ()> = Result<T, String>;

/// Where an instruction may go besides on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Edge {
    None,
    /// To a label of the function, by number.
    Label(usize),
    /// To any of the labels listed from an index of the operand lists.
    Labels {
        at: u32,
        count: u32,
    },
    /// Ends the path: `ret`, `exit`.
    End,
    /// Ends it without a return: `trap`.
    Dead,
    /// Calls the function with this number, and goes on.
    Call(u32),
}

/// An instruction and what layout needs to know of it.
#[derive(Clone)]
pub(crate) struct Emitted {
    pub instr: Instr,
    pub line: u32,
    pub mnemonic: u32,
    /// False for instructions that decoding added.
    pub counted: bool,
    pub edge: Edge,
}

/// A decoded function.
pub(crate) struct Body {
    pub code: Vec<Emitted>,
    /// Position of each label.
    pub labels: Vec<usize>,
}

pub(crate) struct FunctionDecoder<'c, 'm> {
    pub(super) context: &'c mut EntryContext<'m>,
    function: &'m Function,
    problems: &'c mut Vec<Problem>,
    pub(super) scopes: Scopes,
    pub(super) label_numbers: HashMap<(usize, &'m str), usize>,
    pub(super) targets: HashMap<String, Vec<String>>,
    labels: Vec<usize>,
    code: Vec<Emitted>,
    guard: (u32, u32),
    line: u32,
    mnemonic: u32,
    counted: bool,
    /// Instructions to follow the next one: conversions of its result.
    after: Vec<Instr>,
    carry: u32,
    /// Size of each local variable, by its place.
    sizes: HashMap<u64, u64>,
}

impl<'c, 'm> FunctionDecoder<'c, 'm> {
    pub(crate) fn new(
        context: &'c mut EntryContext<'m>,
        function: &'m Function,
        problems: &'c mut Vec<Problem>,
    ) -> Self {
        let truth = context.frame.constant(Class::Pred, u64::from(u32::MAX));
        let label_numbers = labels(function.body.as_deref().unwrap_or_default());
        let labels = vec![usize::MAX; label_numbers.len()];
        FunctionDecoder {
            context,
            function,
            problems,
            labels,
            label_numbers,
            scopes: Scopes::new(),
            targets: HashMap::new(),
            code: Vec::new(),
            guard: (truth, 0),
            line: function.line,
            mnemonic: 0,
            counted: false,
            after: Vec::new(),
            carry: 0,
            sizes: HashMap::new(),
        }
    }

    pub(crate) fn run(mut self) -> Body {
        self.formals();
        let function: &'m Function = self.function;
        let body = function.body.as_deref().unwrap_or_default();
        // Lists of targets may stand after the branch that uses them.
        for item in body {
            if let Item::Targets(label, names) = item {
                self.targets.insert(label.clone(), names.clone());
            }
        }
        for item in body {
            if let Err(what) = self.item(item) {
                self.problems.push(Problem { line: self.line, what });
            }
        }
        self.counted = false;
        self.mnemonic = self.mnemonic_of("ret");
        let truth = self.truth();
        self.guard = (truth, 0);
        // Falling off the end of an entry ends the thread, of a function returns.
        self.ret();
        Body { code: self.code, labels: self.labels }
    }

    pub(super) fn ret(&mut self) {
        let run = if self.is_entry() { pick::<ops::control::Exit>() } else { pick::<ops::control::Return>() };
        let instr = self.blank(run);
        self.emit_edge(instr, Edge::End);
    }

    fn formals(&mut self) {
        let function = self.function;
        if function.is_entry {
            for (name, (offset, _)) in &self.context.kernel_params {
                self.scopes.variable(name, Space::Param, *offset);
            }
            return;
        }
        let formals = self.context.formals.get(&function.name).cloned().unwrap_or_default();
        let all =
            function.params.iter().zip(&formals.params).chain(function.returns.iter().zip(&formals.returns));
        for (variable, &(offset, _)) in all {
            self.scopes.variable(&variable.name, Space::Local, offset);
        }
    }

    pub(super) fn is_entry(&self) -> bool {
        self.function.is_entry
    }

    pub(super) fn truth(&mut self) -> u32 {
        self.context.frame.constant(Class::Pred, u64::from(u32::MAX))
    }

    fn item(&mut self, item: &'m Item) -> Decoded {
        match item {
            Item::Open => self.scopes.open(),
            Item::Close => self.scopes.close(),
            Item::Label(name, line) => {
                self.line = *line;
                let scope = self.scopes.ids().next().unwrap_or(0);
                if let Some(&number) = self.label_numbers.get(&(scope, name.as_str())) {
                    if self.labels[number] != usize::MAX {
                        return Err(format!("the label `{name}` is defined twice"));
                    }
                    self.labels[number] = self.code.len();
                }
            }
            Item::Registers(ty, names, line) => {
                self.line = *line;
                if class_of(*ty).is_none() {
                    return Err(format!("registers of {} bits are not supported", ty.bits()));
                }
                for (name, count) in names {
                    self.scopes.declare(*ty, name, *count);
                }
            }
            Item::Variable(variable) => self.variable(variable)?,
            Item::Targets(..) => {}
            Item::Statement(statement) => self.statement(statement)?,
        }
        Ok(())
    }

    fn variable(&mut self, variable: &Variable) -> Decoded {
        self.line = variable.line;
        let size = variable.size.unwrap_or(0);
        match variable.space {
            Space::Shared if variable.size.is_none() => return Ok(()),
            Space::Shared => {
                let at = self.context.shared_place(variable);
                self.scopes.variable(&variable.name, Space::Shared, at);
            }
            Space::Local | Space::Param => {
                let align =
                    if variable.space == Space::Param { variable.align.max(16) } else { variable.align };
                let at = self.context.local(size, align);
                self.scopes.variable(&variable.name, Space::Local, at);
                self.sizes.insert(at, size);
            }
            _ => return Err(format!("a .{} variable inside a function", variable.space.name())),
        }
        if self.context.local_bytes > 1 << 19 {
            return Err("more than 512 KiB of local memory a thread".into());
        }
        Ok(())
    }

    fn mnemonic_of(&mut self, mnemonic: &str) -> u32 {
        if let Some(&index) = self.context.mnemonic_index.get(mnemonic) {
            return index;
        }
        let index = self.context.mnemonics.len() as u32;
        self.context.mnemonics.push(mnemonic.into());
        self.context.mnemonic_index.insert(mnemonic.into(), index);
        index
    }

    fn statement(&mut self, s: &'m Statement) -> Decoded {
        self.line = s.line;
        self.mnemonic = self.mnemonic_of(&s.mnemonic());
        let truth = self.truth();
        self.guard = (truth, 0);
        if let Some((name, negated)) = &s.guard {
            let offset = self.src(&Operand::Name(name.clone()), Type::Pred)?;
            self.guard = (offset, if *negated { !0 } else { 0 });
        }
        self.after.clear();
        let before = self.code.len();
        self.dispatch(s)?;
        if self.code.len() == before {
            // So that every statement is counted and can be a target.
            let nothing = self.blank(pick::<ops::control::Next>());
            self.emit(nothing);
        }
        // One of the instructions stands for the statement.
        if let Some(first) = self.code.get_mut(before) {
            first.counted = true;
        }
        Ok(())
    }

    fn dispatch(&mut self, s: &'m Statement) -> Decoded {
        let known = self.arithmetic(s)?
            || self.bits(s)?
            || self.conversion(s)?
            || self.matrix(s)?
            || self.data(s)?
            || self.warp(s)?
            || self.control(s)?;
        if known { Ok(()) } else { Err(format!("the instruction `{}` is not known", s.mnemonic())) }
    }

    pub(super) fn blank(&self, run: Run) -> Instr {
        let (guard, guard_not) = self.guard;
        Instr { run, guard, guard_not, d: 0, a: 0, b: 0, c: 0, e: 0, n: 0, slot: 0, at: 0, imm: 0 }
    }

    pub(super) fn emit(&mut self, instr: Instr) {
        self.emit_edge(instr, Edge::None);
    }

    pub(super) fn emit_edge(&mut self, instr: Instr, edge: Edge) {
        let (line, mnemonic) = (self.line, self.mnemonic);
        self.code.push(Emitted { instr, line, mnemonic, counted: false, edge });
        for instr in std::mem::take(&mut self.after) {
            self.code.push(Emitted { instr, line, mnemonic, counted: false, edge: Edge::None });
        }
    }

    /// An instruction of one, two or three sources.
    pub(super) fn emit_op(&mut self, run: Run, d: u32, sources: &[u32]) {
        let mut instr = self.blank(run);
        instr.d = d;
        for (place, &source) in [&mut instr.a, &mut instr.b, &mut instr.c].into_iter().zip(sources) {
            *place = source;
        }
        self.emit(instr);
    }

    /// Takes the conversions that wait for the next instruction, so that they follow a later one.
    pub(super) fn pending(&mut self) -> Vec<Instr> {
        std::mem::take(&mut self.after)
    }

    /// Puts them back.
    pub(super) fn restore(&mut self, after: Vec<Instr>) {
        self.after = after;
    }

    pub(super) fn temp(&mut self, class: Class) -> u32 {
        self.context.frame.register(class)
    }

    pub(super) fn list(&mut self, values: &[u32]) -> u32 {
        let at = self.context.extra.len() as u32;
        self.context.extra.extend_from_slice(values);
        at
    }

    pub(super) fn cache(&mut self) -> u32 {
        self.context.caches += 1;
        self.context.caches - 1
    }

    pub(super) fn carry(&mut self) -> u32 {
        if self.carry == 0 {
            self.carry = self.temp(Class::Pred);
        }
        self.carry
    }

    /// Looks a name up: register or variable of the function, then of the module.
    pub(super) fn symbol(&mut self, name: &str) -> Option<Symbol> {
        let context = &mut *self.context;
        let (frame, registers) = (&mut context.frame, &mut context.registers);
        self.scopes.find(name, |class| {
            *registers += if class == Class::Long { 2 } else { u32::from(class == Class::Word) };
            frame.register(class)
        })
    }

    /// Size of the local variable at a place.
    pub(super) fn variable_size(&self, place: u64) -> u64 {
        self.sizes.get(&place).copied().unwrap_or(0)
    }

    pub(super) fn label(&self, name: &str) -> Decoded<usize> {
        let found = self.scopes.ids().find_map(|scope| self.label_numbers.get(&(scope, name)));
        found.copied().ok_or_else(|| format!("there is no label `{name}`"))
    }

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
            return self.fit(register, own, ty, class, name);
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
        let own_class = class_of(own).unwrap_or(Class::Word);
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
        if let Some(Symbol::Variable { address, .. }) = self.symbol(name) {
            return Ok(self.context.frame.constant(Class::Long, address.wrapping_add(offset as u64)));
        }
        if let Some(&at) = self.context.shared.get(name) {
            return Ok(self.context.frame.constant(Class::Long, at.wrapping_add(offset as u64)));
        }
        if let Some(variable) = self.context.module.variables.iter().find(|v| v.name == name) {
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
        let own_class = class_of(own).unwrap_or(Class::Word);
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

    /// The declared type of a register operand.
    pub(super) fn register_type(&mut self, operand: &Operand) -> Option<Type> {
        let Operand::Name(name) = operand else { return None };
        match self.symbol(name) {
            Some(Symbol::Register { ty, .. }) => Some(ty),
            _ => None,
        }
    }
}

/// All types among the modifiers, in order.
pub(super) fn types(s: &Statement) -> Vec<Type> {
    s.modifiers.iter().filter_map(|m| Type::parse(m)).collect()
}

/// The type of the instruction: the last among its modifiers.
pub(super) fn type_of(s: &Statement) -> Decoded<Type> {
    types(s).last().copied().ok_or_else(|| format!("`{}` names no type", s.mnemonic()))
}

/// The operands, which must be of this number.
pub(super) fn operands<const N: usize>(s: &Statement) -> Decoded<&[Operand; N]> {
    s.operands
        .as_slice()
        .try_into()
        .map_err(|_| format!("`{}` takes {N} operands, not {}", s.opcode, s.operands.len()))
}
