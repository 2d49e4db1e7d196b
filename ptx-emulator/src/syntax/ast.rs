//! What the parser hands on: directives and statements with their operands, nothing resolved yet.

use super::types::{Space, Type};

/// One module.
#[derive(Debug, Default)]
pub(crate) struct ModuleSyntax {
    pub target: String,
    /// `.target …, debug`.
    pub debug: bool,
    pub variables: Vec<Variable>,
    pub functions: Vec<Function>,
    /// `.alias NAME, TARGET`.
    pub aliases: Vec<(String, String)>,
}

/// A `.entry` or a `.func`, with a body unless it is only declared.
#[derive(Debug)]
pub(crate) struct Function {
    pub name: String,
    pub is_entry: bool,
    pub line: u32,
    pub returns: Vec<Variable>,
    pub params: Vec<Variable>,
    pub bounds: Bounds,
    pub body: Option<Vec<Item>>,
}

/// Performance directives of an entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bounds {
    pub max_threads: Option<[u32; 3]>,
    pub required_threads: Option<[u32; 3]>,
    pub min_blocks: Option<u32>,
    pub max_registers: Option<u32>,
    pub required_cluster: Option<[u32; 3]>,
    /// `.explicitcluster`: a launch names the cluster.
    pub explicit_cluster: bool,
    pub max_cluster: Option<u32>,
}

/// A variable of any space, at module or function level, or a parameter.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub name: String,
    pub space: Space,
    /// A parameter of a function in a register (`.reg`); its space is then `.param`.
    pub register: bool,
    pub ty: Type,
    pub align: u64,
    /// In bytes; None for `.extern .shared x[]`.
    pub size: Option<u64>,
    pub external: bool,
    pub initial: Vec<Initial>,
    pub line: u32,
}

impl Variable {
    /// Only declared, and defined by another module. (Shared memory that is `.extern` is the dynamic one.)
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.external && matches!(self.space, Space::Global | Space::Const)
    }
}

/// A piece of an initialiser.
#[derive(Clone, Debug)]
pub(crate) enum Initial {
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// The address of a symbol plus an addend, from bit `shift` on, in so many bytes (global and generic addresses are the same).
    Address { symbol: String, addend: i64, shift: u8, bytes: u8 },
}

/// What a body consists of, in order.
#[derive(Debug)]
pub(crate) enum Item {
    Open,
    Close,
    Label(String, u32),
    /// `.reg .b32 %r<10>, %x;`: name and, for a range, its count.
    Registers(Type, Vec<(String, Option<u32>)>, u32),
    Variable(Variable),
    /// `.branchtargets` or `.calltargets` under their label.
    Targets(String, Vec<String>),
    Statement(Statement),
}

/// An instruction.
#[derive(Debug)]
pub(crate) struct Statement {
    pub line: u32,
    pub guard: Option<(String, bool)>,
    pub opcode: String,
    pub modifiers: Vec<String>,
    pub operands: Vec<Operand>,
}

impl Statement {
    pub(crate) fn has(&self, modifier: &str) -> bool {
        self.modifiers.iter().any(|m| m == modifier)
    }

    /// The opcode with all modifiers, as written.
    pub(crate) fn mnemonic(&self) -> String {
        let mut text = self.opcode.clone();
        for m in &self.modifiers {
            text.push('.');
            text.push_str(m);
        }
        text
    }
}

/// An operand, not yet resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    /// A register, symbol, label or special register (`%tid.x` with its member).
    Name(String),
    /// A symbol plus a constant.
    Offset(String, i64),
    Int(i64),
    F32(u32),
    F64(u64),
    /// `[base + offset]`; a missing base is an absolute address.
    Address(Option<String>, i64),
    Vector(Vec<Operand>),
    /// `( … )` of a call.
    List(Vec<Operand>),
    /// `p|q`.
    Pair(Box<Operand>, Box<Operand>),
    /// `!p`.
    Not(String),
    /// `[a, {…}]` and other bracketed lists (tensor coordinates).
    Bracket(Vec<Operand>),
}
