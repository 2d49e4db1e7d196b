//! Names: scopes of `{ }`, register ranges, variables, labels.

use super::frame::Class;
use crate::syntax::ast::{Item, Operand};
use crate::syntax::types::{Space, Type};
use std::collections::HashMap;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Symbol {
    Register { ty: Type, offset: u32 },
    Variable { space: Space, address: u64 },
}

/// `%r<100>`: registers come into being when first named.
#[derive(Debug)]
struct Range {
    prefix: String,
    count: u32,
    ty: Type,
    line: u32,
}

#[derive(Debug, Default)]
struct Level {
    symbols: HashMap<String, Symbol>,
    ranges: Vec<Range>,
    declared: HashMap<String, (Type, u32)>,
    id: usize,
}

/// The open scopes, innermost last.
#[derive(Debug)]
pub(crate) struct Scopes {
    levels: Vec<Level>,
    opened: usize,
}

/// The class of a register type.
pub(crate) fn class_of(ty: Type) -> Option<Class> {
    match ty.size() {
        _ if ty == Type::Pred => Some(Class::Pred),
        1..=4 => Some(Class::Word),
        8 => Some(Class::Long),
        _ => None,
    }
}

impl Scopes {
    pub(crate) fn new() -> Scopes {
        Scopes { levels: vec![Level::default()], opened: 0 }
    }

    pub(crate) fn open(&mut self) {
        self.opened += 1;
        self.levels.push(Level { id: self.opened, ..Level::default() });
    }

    pub(crate) fn close(&mut self) {
        if self.levels.len() > 1 {
            self.levels.pop();
        }
    }

    /// Identifiers of the open scopes, innermost first.
    pub(crate) fn ids(&self) -> impl Iterator<Item = usize> + '_ {
        self.levels.iter().rev().map(|l| l.id)
    }

    /// Registers of this name, or so many, declared on this line.
    pub(crate) fn declare(&mut self, ty: Type, name: &str, count: Option<u32>, line: u32) {
        if let Some(level) = self.levels.last_mut() {
            match count {
                Some(count) => level.ranges.push(Range { prefix: name.into(), count, ty, line }),
                None => drop(level.declared.insert(name.into(), (ty, line))),
            }
        }
    }

    pub(crate) fn variable(&mut self, name: &str, space: Space, address: u64) {
        if let Some(level) = self.levels.last_mut() {
            level.symbols.insert(name.into(), Symbol::Variable { space, address });
        }
    }

    /// Finds a name; `make` gives a register its place on first use, and is told the line that declares it.
    pub(crate) fn find(&mut self, name: &str, mut make: impl FnMut(Class, u32) -> u32) -> Option<Symbol> {
        for level in self.levels.iter_mut().rev() {
            if let Some(&symbol) = level.symbols.get(name) {
                return Some(symbol);
            }
            let declared = level.declared.get(name).copied().or_else(|| {
                let range = level.ranges.iter().find(|r| {
                    let number = name.strip_prefix(r.prefix.as_str());
                    let canonical = number.filter(|n| *n == "0" || !n.starts_with('0'));
                    canonical.and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n < r.count)
                });
                range.map(|r| (r.ty, r.line))
            });
            if let Some((ty, line)) = declared {
                // One of 128 bits is two of 64, one after the other.
                let class = if ty == Type::B128 { Class::Long } else { class_of(ty)? };
                let offset = make(class, line);
                if ty == Type::B128 {
                    make(class, line);
                }
                let symbol = Symbol::Register { ty, offset };
                level.symbols.insert(name.into(), symbol);
                return Some(symbol);
            }
        }
        None
    }
}

/// Labels by scope: a scope's identifier is the number of `{` before it, as in [`Scopes`].
pub(crate) fn labels(items: &[Item]) -> HashMap<(usize, &str), usize> {
    let mut found = HashMap::new();
    let (mut opened, mut stack) = (0, vec![0]);
    for item in items {
        match item {
            Item::Open => {
                opened += 1;
                stack.push(opened);
            }
            Item::Close => drop(stack.pop()),
            Item::Label(name, _) => {
                let number = found.len();
                // A second definition of a name is reported where the body is decoded.
                found.entry((stack.last().copied().unwrap_or(0), name.as_str())).or_insert(number);
            }
            _ => {}
        }
    }
    found
}

/// Every name that an item's operands mention.
pub(crate) fn mentioned(item: &Item) -> Vec<&str> {
    let mut names = Vec::new();
    match item {
        Item::Statement(statement) => statement.operands.iter().for_each(|o| collect(o, &mut names)),
        Item::Targets(_, targets) => names.extend(targets.iter().map(String::as_str)),
        _ => {}
    }
    names
}

fn collect<'a>(operand: &'a Operand, names: &mut Vec<&'a str>) {
    match operand {
        Operand::Name(name) | Operand::Offset(name, _) | Operand::Address(Some(name), _) => names.push(name),
        Operand::Vector(all) | Operand::List(all) | Operand::Bracket(all) => {
            all.iter().for_each(|o| collect(o, names))
        }
        Operand::Pair(a, b) => {
            collect(a, names);
            collect(b, names);
        }
        _ => {}
    }
}
