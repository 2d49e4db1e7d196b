//! Modifiers taken one after another, in the order that the manual gives them.

use super::function::Decoded;
use crate::syntax::ast::Statement;

/// What is left of a statement's modifiers.
pub(super) struct Modifiers<'s> {
    statement: &'s Statement,
    rest: &'s [String],
}

impl<'s> Modifiers<'s> {
    pub(super) fn of(statement: &'s Statement) -> Modifiers<'s> {
        Modifiers { statement, rest: &statement.modifiers }
    }

    /// The next modifier, if it is one of these.
    pub(super) fn take(&mut self, names: &[&str]) -> Option<&'s str> {
        let (first, rest) = self.rest.split_first()?;
        names.contains(&first.as_str()).then(|| {
            self.rest = rest;
            first.as_str()
        })
    }

    pub(super) fn has(&mut self, name: &str) -> bool {
        self.take(&[name]).is_some()
    }

    /// The next modifier, which must be one of these.
    pub(super) fn want(&mut self, names: &[&str]) -> Decoded<&'s str> {
        self.take(names).ok_or_else(|| self.unknown())
    }

    /// The next modifier, whatever it is.
    pub(super) fn next(&mut self) -> Decoded<&'s str> {
        let (first, rest) = self.rest.split_first().ok_or_else(|| self.unknown())?;
        self.rest = rest;
        Ok(first)
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Decoded {
        if self.rest.is_empty() { Ok(()) } else { Err(self.unknown()) }
    }

    pub(super) fn unknown(&self) -> String {
        format!("there is no `{}`, or it is not supported", self.statement.mnemonic())
    }
}
