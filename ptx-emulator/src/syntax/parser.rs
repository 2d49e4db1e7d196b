//! Pass 2: tokens into directives and statements. Knows no opcode: any `name.mods a, b;` is a statement.

use super::ast::*;
use super::lexer::{Located, Token, tokenize};
use super::types::{Space, Type};
use crate::error::Problem;

/// An error at one place; the parser goes on after the next `;`.
pub(super) type Parsed<T> = Result<T, String>;

/// How many parse errors are collected before the parser gives up.
const MAX_PROBLEMS: usize = 50;

/// Parses a module; what is wrong is appended to `problems`.
pub(crate) fn parse(text: &str, problems: &mut Vec<Problem>) -> ModuleSyntax {
    let tokens = tokenize(text, problems);
    let mut parser = Parser { tokens: &tokens, at: 0, problems };
    let mut module = ModuleSyntax::default();
    while parser.at < tokens.len() && parser.problems.len() < MAX_PROBLEMS {
        let before = parser.at;
        if let Err(what) = parser.module_item(&mut module) {
            let line = parser.line();
            parser.problems.push(Problem { line, what });
            parser.recover(before);
        }
    }
    module
}

pub(super) struct Parser<'t, 'a, 'p> {
    tokens: &'t [Located<'a>],
    at: usize,
    problems: &'p mut Vec<Problem>,
}

impl<'a> Parser<'_, 'a, '_> {
    pub(super) fn line(&self) -> u32 {
        let at = self.at.min(self.tokens.len().saturating_sub(1));
        self.tokens.get(at).map_or(1, |t| t.line)
    }

    pub(super) fn peek(&self) -> Option<&Token<'a>> {
        self.tokens.get(self.at).map(|t| &t.token)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<&Token<'a>> {
        self.tokens.get(self.at + ahead).map(|t| &t.token)
    }

    pub(super) fn advance(&mut self) -> Option<Token<'a>> {
        let token = self.peek().cloned();
        self.at += usize::from(token.is_some());
        token
    }

    pub(super) fn is_sign(&self, sign: char) -> bool {
        self.peek() == Some(&Token::Sign(sign))
    }

    pub(super) fn accept(&mut self, sign: char) -> bool {
        let there = self.is_sign(sign);
        self.at += usize::from(there);
        there
    }

    pub(super) fn expect(&mut self, sign: char) -> Parsed<()> {
        if self.accept(sign) { Ok(()) } else { Err(format!("expected `{sign}`, found {}", self.found())) }
    }

    pub(super) fn accept_dot(&mut self, name: &str) -> bool {
        let there = self.peek() == Some(&Token::Dot(name));
        self.at += usize::from(there);
        there
    }

    pub(super) fn word(&mut self) -> Parsed<String> {
        match self.peek() {
            Some(Token::Word(word)) => {
                let word = word.to_string();
                self.at += 1;
                Ok(word)
            }
            _ => Err(format!("expected a name, found {}", self.found())),
        }
    }

    pub(super) fn found(&self) -> String {
        match self.peek() {
            None => "the end of the text".into(),
            Some(Token::Word(word)) => format!("`{word}`"),
            Some(Token::Dot(word)) => format!("`.{word}`"),
            Some(Token::Text(_)) => "a string".into(),
            Some(Token::Sign(sign)) => format!("`{sign}`"),
            Some(_) => "a number".into(),
        }
    }

    /// Skips to after the next `;`, or to a brace.
    fn recover(&mut self, before: usize) {
        if self.at == before {
            self.at += 1;
        }
        while let Some(token) = self.peek() {
            match token {
                Token::Sign(';') => {
                    self.at += 1;
                    return;
                }
                Token::Sign('{' | '}') => return,
                _ => self.at += 1,
            }
        }
    }

    /// From a directive to the next one, or to the next line.
    fn skip_line(&mut self) {
        let line = self.line();
        self.at += 1;
        while self.at < self.tokens.len() && self.line() == line {
            if matches!(self.peek(), Some(Token::Dot(name)) if name.starts_with(|c: char| c.is_ascii_lowercase()))
            {
                break;
            }
            self.at += 1;
        }
    }

    fn skip_braces(&mut self) {
        let mut depth = 0u32;
        while let Some(token) = self.advance() {
            match token {
                Token::Sign('{') => depth += 1,
                Token::Sign('}') if depth <= 1 => return,
                Token::Sign('}') => depth -= 1,
                _ => {}
            }
        }
    }

    fn module_item(&mut self, module: &mut ModuleSyntax) -> Parsed<()> {
        let Some(Token::Dot(directive)) = self.peek().cloned() else {
            // Stray braces and semicolons are what recovery from an earlier error leaves behind.
            if self.accept(';') || (!self.problems.is_empty() && (self.accept('}') || self.accept('{'))) {
                return Ok(());
            }
            return Err(format!("expected a directive, found {}", self.found()));
        };
        match directive {
            "version" | "address_size" | "file" => self.skip_line(),
            "target" => {
                self.at += 1;
                module.target = self.word()?;
                while self.accept(',') {
                    module.debug |= self.word()? == "debug";
                }
            }
            "section" => {
                while self.at < self.tokens.len() && !self.is_sign('{') {
                    self.at += 1;
                }
                self.skip_braces();
            }
            "pragma" => {
                self.at += 2;
                self.expect(';')?;
            }
            "alias" => {
                self.at += 1;
                let name = self.word()?;
                self.expect(',')?;
                module.aliases.push((name, self.word()?));
                self.expect(';')?;
            }
            _ => self.linked_item(module)?,
        }
        Ok(())
    }

    /// A function or variable with its linkage.
    fn linked_item(&mut self, module: &mut ModuleSyntax) -> Parsed<()> {
        let mut external = false;
        loop {
            match self.peek() {
                Some(Token::Dot("extern")) => external = true,
                Some(Token::Dot("visible" | "weak" | "common")) => {}
                _ => break,
            }
            self.at += 1;
        }
        match self.peek() {
            Some(Token::Dot("entry" | "func")) => {
                let function = self.function()?;
                module.functions.push(function);
                Ok(())
            }
            Some(Token::Dot(name)) if Space::parse(name).is_some() => {
                let variables = self.variables(external)?;
                module.variables.extend(variables);
                self.expect(';')
            }
            Some(Token::Dot(name)) => Err(format!("unknown directive `.{name}`")),
            _ => Err(format!("expected a directive, found {}", self.found())),
        }
    }

    fn function(&mut self) -> Parsed<Function> {
        let is_entry = self.peek() == Some(&Token::Dot("entry"));
        self.at += 1;
        let line = self.line();
        if self.accept_dot("attribute") {
            self.skip_parentheses();
        }
        let returns = if self.is_sign('(') { self.parameters()? } else { Vec::new() };
        let name = self.word()?;
        let params = if self.is_sign('(') { self.parameters()? } else { Vec::new() };
        let mut bounds = Bounds::default();
        while let Some(Token::Dot(directive)) = self.peek().cloned() {
            self.at += 1;
            match directive {
                "maxntid" => bounds.max_threads = Some(self.triple()?),
                "reqntid" => bounds.required_threads = Some(self.triple()?),
                "minnctapersm" | "maxnctapersm" => bounds.min_blocks = Some(self.triple()?[0]),
                "maxnreg" => bounds.max_registers = Some(self.triple()?[0]),
                "reqnctapercluster" => bounds.required_cluster = Some(self.triple()?),
                "maxclusterrank" => bounds.max_cluster = Some(self.triple()?[0]),
                "explicitcluster" => bounds.explicit_cluster = true,
                "noreturn" | "blocksareclusters" => {}
                "pragma" | "abi_preserve" | "abi_preserve_control" => {
                    self.at += 1;
                    self.accept(';');
                }
                _ => return Err(format!("unknown function directive `.{directive}`")),
            }
        }
        let body = if self.accept(';') { None } else { Some(self.body()?) };
        Ok(Function { name, is_entry, line, returns, params, bounds, body })
    }

    fn skip_parentheses(&mut self) {
        while self.peek().is_some() && !self.accept(')') {
            self.at += 1;
        }
    }

    fn triple(&mut self) -> Parsed<[u32; 3]> {
        let mut numbers = [1; 3];
        for (index, number) in numbers.iter_mut().enumerate() {
            if index > 0 && !self.accept(',') {
                break;
            }
            *number = self.count()?;
        }
        Ok(numbers)
    }

    pub(super) fn count(&mut self) -> Parsed<u32> {
        match self.advance() {
            Some(Token::Int(n)) => u32::try_from(n).map_err(|_| format!("{n} is too large")),
            _ => {
                self.at = self.at.saturating_sub(1);
                Err(format!("expected a number, found {}", self.found()))
            }
        }
    }

    fn parameters(&mut self) -> Parsed<Vec<Variable>> {
        self.expect('(')?;
        let mut all = Vec::new();
        while !self.accept(')') {
            if !all.is_empty() {
                self.expect(',')?;
            }
            all.push(self.parameter()?);
        }
        Ok(all)
    }

    /// A body from `{` to its `}`; errors inside are reported and skipped over statement by statement.
    fn body(&mut self) -> Parsed<Vec<Item>> {
        self.expect('{')?;
        let mut depth = 0u32;
        let mut items = Vec::new();
        loop {
            if self.accept('{') {
                depth += 1;
                items.push(Item::Open);
                continue;
            }
            if self.accept('}') {
                if depth == 0 {
                    return Ok(items);
                }
                depth -= 1;
                items.push(Item::Close);
                continue;
            }
            if self.peek().is_none() {
                return Err("the text ends inside a function".into());
            }
            let before = self.at;
            if let Err(what) = self.body_item(&mut items) {
                let line = self.line();
                self.problems.push(Problem { line, what });
                if self.problems.len() >= MAX_PROBLEMS {
                    self.at = self.tokens.len();
                    return Ok(items);
                }
                self.recover(before);
            }
        }
    }

    fn body_item(&mut self, items: &mut Vec<Item>) -> Parsed<()> {
        let line = self.line();
        match self.peek().cloned() {
            Some(Token::Dot("loc")) => self.skip_line(),
            Some(Token::Dot("pragma")) => {
                self.at += 2;
                self.expect(';')?;
            }
            Some(Token::Dot("reg")) => {
                self.at += 1;
                items.push(self.registers(line)?);
            }
            Some(Token::Dot("extern")) => {
                self.at += 1;
                items.extend(self.variables(true)?.into_iter().map(Item::Variable));
                self.expect(';')?;
            }
            Some(Token::Dot(name)) if Space::parse(name).is_some() => {
                items.extend(self.variables(false)?.into_iter().map(Item::Variable));
                self.expect(';')?;
            }
            Some(Token::Dot("branchtargets" | "calltargets" | "callprototype")) => self.targets(items)?,
            Some(Token::Dot("file" | "section")) => self.skip_line(),
            Some(Token::Dot(name)) => return Err(format!("unknown directive `.{name}`")),
            Some(Token::Word(name)) if self.peek_at(1) == Some(&Token::Sign(':')) => {
                self.at += 2;
                items.push(Item::Label(name.to_string(), line));
            }
            Some(Token::Sign(';')) => self.at += 1,
            _ => {
                let statement = self.statement(line)?;
                items.push(Item::Statement(statement));
            }
        }
        Ok(())
    }

    fn registers(&mut self, line: u32) -> Parsed<Item> {
        self.accept_dot("v2");
        let ty = match self.advance() {
            Some(Token::Dot(name)) => Type::parse(name).ok_or(format!("unknown register type `.{name}`"))?,
            _ => return Err("expected a register type".into()),
        };
        let mut names = Vec::new();
        loop {
            let name = self.word()?;
            let count = if self.accept('<') {
                let count = self.count()?;
                self.expect('>')?;
                Some(count)
            } else {
                None
            };
            names.push((name, count));
            if !self.accept(',') {
                break;
            }
        }
        self.expect(';')?;
        Ok(Item::Registers(ty, names, line))
    }

    fn targets(&mut self, items: &mut Vec<Item>) -> Parsed<()> {
        let prototype = self.peek() == Some(&Token::Dot("callprototype"));
        self.at += 1;
        let Some(Item::Label(label, _)) = items.pop() else {
            return Err("a list of targets needs a label before it".into());
        };
        let mut names = Vec::new();
        if prototype {
            // The callee's own declaration says all that a prototype could.
            while self.peek().is_some() && !self.is_sign(';') {
                self.at += 1;
            }
        } else {
            loop {
                names.push(self.word()?);
                if !self.accept(',') {
                    break;
                }
            }
        }
        self.expect(';')?;
        items.push(Item::Targets(label, names));
        Ok(())
    }

    fn statement(&mut self, line: u32) -> Parsed<Statement> {
        let guard = if self.accept('@') {
            let negated = self.accept('!');
            Some((self.word()?, negated))
        } else {
            None
        };
        let opcode = self.word()?;
        let mut modifiers = Vec::new();
        while let Some(Token::Dot(modifier)) = self.peek() {
            modifiers.push(modifier.to_string());
            self.at += 1;
        }
        let mut operands = Vec::new();
        if !self.accept(';') {
            loop {
                operands.push(self.operand(0)?);
                if !self.accept(',') {
                    break;
                }
            }
            self.expect(';')?;
        }
        Ok(Statement { line, guard, opcode, modifiers, operands })
    }
}
