//! One function: its items in order, each statement handed to the part of the decoder that knows its opcode.

use super::activation::Activation;
use super::frame::{Class, MOST_BYTES};
use super::scope::{Scopes, Symbol, class_of, labels};
use super::{EntryContext, Formals};
use crate::error::Problem;
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
    /// Registers that the statement reads (false) and writes (true), at its first instruction.
    pub touched: Vec<(u32, bool)>,
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
    pub(super) mnemonic: u32,
    counted: bool,
    /// Instructions to follow the next one: conversions of its result.
    pub(super) after: Vec<Instr>,
    carry: u32,
    /// What the statement has named so far.
    pub(super) touched: Vec<(u32, bool)>,
    /// Size of each local variable, by its place.
    sizes: HashMap<u64, u64>,
    /// Where the top of the stack is kept that it has to give back.
    kept_top: Option<u32>,
    /// Where the function may call itself.
    pub(super) activation: Option<Activation>,
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
            touched: Vec::new(),
            sizes: HashMap::new(),
            kept_top: None,
            activation: None,
        }
    }

    pub(crate) fn run(mut self) -> Body {
        let function: &'m Function = self.function;
        if let Err(what) = self.enter(&function.name).and_then(|()| self.formals()) {
            self.problems.push(Problem { line: self.line, what });
        }
        let body = function.body.as_deref().unwrap_or_default();
        // Lists of targets may stand after the branch that uses them.
        for item in body {
            if let Item::Targets(label, names) = item {
                self.targets.insert(label.clone(), names.clone());
            }
        }
        match self.keep_top(body) {
            Ok(kept) => self.kept_top = kept,
            Err(what) => self.problems.push(Problem { line: self.line, what }),
        }
        for item in body {
            if let Err(what) = self.item(item) {
                self.problems.push(Problem { line: self.line, what });
            }
        }
        self.counted = false;
        self.mnemonic = self.number_of("ret".into());
        let truth = self.truth();
        self.guard = (truth, 0);
        // Falling off the end of an entry ends the thread, of a function returns.
        if let Err(what) = self.ret() {
            self.problems.push(Problem { line: self.line, what });
        }
        self.context.activations.extend(self.activation);
        Body { code: self.code, labels: self.labels }
    }

    pub(super) fn ret(&mut self) -> Decoded {
        let (function, formals) = (self.function, self.own_formals());
        for (variable, &(at, size)) in function.returns.iter().zip(&formals.returns) {
            if variable.register || self.activation.is_some() {
                self.give(&variable.name, at, size)?;
            }
        }
        if self.activation.is_some() {
            self.return_restoring();
            return Ok(());
        }
        self.give_back(self.kept_top);
        let run = if self.is_entry() { pick::<ops::control::Exit>() } else { pick::<ops::control::Return>() };
        let instr = self.blank(run);
        self.emit_edge(instr, Edge::End);
        Ok(())
    }

    fn own_formals(&self) -> Formals {
        if self.is_entry() {
            return Formals::default();
        }
        self.context.formals.get(&self.function.name).cloned().unwrap_or_default()
    }

    /// Names of parameters and results. Those in registers, and all of a function that may call itself, are copied from their places
    /// first thing and to them before the return.
    fn formals(&mut self) -> Decoded {
        let function = self.function;
        if function.is_entry {
            for (name, (offset, _)) in &self.context.kernel_params {
                self.scopes.variable(name, Space::Param, *offset);
            }
            return Ok(());
        }
        let formals = self.own_formals();
        let all =
            function.params.iter().zip(&formals.params).chain(function.returns.iter().zip(&formals.returns));
        for (variable, &(offset, size)) in all {
            if !variable.register {
                let offset = if self.activation.is_some() { self.local_place(size, 16) } else { offset };
                self.scopes.variable(&variable.name, Space::Local, offset);
            } else if variable.ty == Type::Pred || class_of(variable.ty).is_none() {
                return Err(format!("`{}`: registers of 8 to 64 bits can be parameters", variable.name));
            } else {
                self.scopes.declare(variable.ty, &variable.name, None, variable.line);
            }
        }
        for (variable, &(at, size)) in function.params.iter().zip(&formals.params) {
            if variable.register || self.activation.is_some() {
                self.mnemonic = self.number_of("call".into());
                self.take(&variable.name, at, size)?;
            }
        }
        Ok(())
    }

    pub(super) fn is_entry(&self) -> bool {
        self.function.is_entry
    }

    /// Refuses something that only later targets have.
    pub(super) fn needs(&self, capability: u32, what: &str) -> Decoded {
        super::forms::needs(capability, what, &self.context.module.target)
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
                if class_of(*ty).is_none() && *ty != Type::B128 {
                    return Err(format!("registers of {} bits are not supported", ty.bits()));
                }
                for (name, count) in names {
                    self.scopes.declare(*ty, name, *count, *line);
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
                let at = self.local_place(size, align);
                self.scopes.variable(&variable.name, Space::Local, at);
                self.sizes.insert(at, size);
            }
            _ => return Err(format!("a .{} variable inside a function", variable.space.name())),
        }
        self.context.local_fits()
    }

    /// The number of an opcode with its modifiers, which are checked when they are met first.
    fn mnemonic_of(&mut self, s: &Statement) -> Decoded<u32> {
        let mnemonic = s.mnemonic();
        if !self.context.mnemonic_index.contains_key(&mnemonic) {
            super::forms::check(&mnemonic, &s.opcode, &s.modifiers, &self.context.module.target)?;
        }
        Ok(self.number_of(mnemonic))
    }

    pub(super) fn number_of(&mut self, mnemonic: String) -> u32 {
        let EntryContext { mnemonics, mnemonic_index, .. } = &mut *self.context;
        *mnemonic_index.entry(mnemonic).or_insert_with_key(|mnemonic| {
            mnemonics.push(mnemonic.clone());
            mnemonics.len() as u32 - 1
        })
    }

    fn statement(&mut self, s: &'m Statement) -> Decoded {
        self.line = s.line;
        self.mnemonic = self.mnemonic_of(s)?;
        let truth = self.truth();
        self.guard = (truth, 0);
        if let Some((name, negated)) = &s.guard {
            let offset = self.src(&Operand::Name(name.clone()), Type::Pred)?;
            self.guard = (offset, if *negated { !0 } else { 0 });
        }
        self.after.clear();
        self.touched.clear();
        let before = self.code.len();
        self.dispatch(s)?;
        if self.context.frame.bytes > MOST_BYTES {
            self.context.overflow.get_or_insert(s.line);
        }
        if self.code.len() == before {
            // So that every statement is counted and can be a target.
            let nothing = self.blank(pick::<ops::control::Next>());
            self.emit(nothing);
        }
        // One of the instructions stands for the statement.
        if let Some(first) = self.code.get_mut(before) {
            first.counted = true;
            first.touched = std::mem::take(&mut self.touched);
        }
        Ok(())
    }

    fn dispatch(&mut self, s: &'m Statement) -> Decoded {
        let known = super::forms::knows(&s.opcode)
            && (self.packed(s)?
                || self.arithmetic(s)?
                || self.bits(s)?
                || self.conversion(s)?
                || self.sparse(s)?
                || self.quads(s)?
                || self.tiles(s)?
                || self.matrix(s)?
                || self.wgmma(s)?
                || self.mbarrier(s)?
                || self.bulk(s)?
                || self.tensormap(s)?
                || self.cluster(s)?
                || self.data(s)?
                || self.stack(s)?
                || self.warp(s)?
                || self.control(s)?);
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
        self.code.push(Emitted { instr, line, mnemonic, counted: false, edge, touched: Vec::new() });
        for instr in std::mem::take(&mut self.after) {
            self.code.push(Emitted {
                instr,
                line,
                mnemonic,
                counted: false,
                edge: Edge::None,
                touched: Vec::new(),
            });
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
        let (frame, registers, overflow) =
            (&mut context.frame, &mut context.registers, &mut context.overflow);
        let mut kept = self.activation.as_mut().map(|a| &mut a.registers);
        self.scopes.find(name, |class, line| {
            *registers += if class == Class::Long { 2 } else { u32::from(class == Class::Word) };
            let offset = frame.register(class);
            kept.iter_mut().for_each(|kept| kept.push((offset, class)));
            if frame.bytes > MOST_BYTES {
                overflow.get_or_insert(line);
            }
            offset
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
