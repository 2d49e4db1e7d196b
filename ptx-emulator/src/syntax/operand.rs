//! Operands and constant expressions.

use super::ast::Operand;
use super::lexer::Token;
use super::parser::{Parsed, Parser};

/// How deep operands may nest: real PTX stays below 4.
const MAX_DEPTH: u32 = 16;

impl Parser<'_, '_, '_> {
    pub(super) fn operand(&mut self, depth: u32) -> Parsed<Operand> {
        if depth > MAX_DEPTH {
            return Err("operands nest too deeply".into());
        }
        let first = self.single_operand(depth)?;
        if self.accept('|') {
            let second = self.operand(depth + 1)?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    fn single_operand(&mut self, depth: u32) -> Parsed<Operand> {
        match self.peek().cloned() {
            Some(Token::Sign('{')) => {
                self.advance();
                Ok(Operand::Vector(self.operands_until('}', depth)?))
            }
            Some(Token::Sign('[')) => {
                self.advance();
                self.address(depth)
            }
            Some(Token::Sign('(')) if self.is_constant_in_parentheses() => self.constant(),
            Some(Token::Sign('(')) => {
                self.advance();
                Ok(Operand::List(self.operands_until(')', depth)?))
            }
            Some(Token::Sign('!')) if matches!(self.peek_at(1), Some(Token::Word(_))) => {
                self.advance();
                Ok(Operand::Not(self.word()?))
            }
            Some(Token::Word(word)) => {
                let mut name = word.to_string();
                self.advance();
                while let Some(Token::Dot(member)) = self.peek() {
                    name.push('.');
                    name.push_str(member);
                    self.advance();
                }
                if self.is_sign('+') || self.is_sign('-') {
                    let offset = self.signed_offset()?;
                    return Ok(Operand::Offset(name, offset));
                }
                Ok(Operand::Name(name))
            }
            _ => self.constant(),
        }
    }

    /// `(1 << 3)` as against `(param0, param1)`.
    fn is_constant_in_parentheses(&self) -> bool {
        let mut ahead = 1;
        while let Some(Token::Sign('(' | '-' | '~')) = self.peek_at(ahead) {
            ahead += 1;
        }
        matches!(self.peek_at(ahead), Some(Token::Int(_)))
            && matches!(
                self.peek_at(ahead + 1),
                Some(Token::Sign('+' | '-' | '*' | '/' | '%' | '«' | '»' | '&' | '|' | '^'))
            )
    }

    fn operands_until(&mut self, close: char, depth: u32) -> Parsed<Vec<Operand>> {
        let mut all = Vec::new();
        while !self.accept(close) {
            if !all.is_empty() {
                self.expect(',')?;
            }
            all.push(self.operand(depth + 1)?);
        }
        Ok(all)
    }

    /// After `[`: `name`, `name + 4`, `name + -4`, a number, or a list with tensor coordinates.
    fn address(&mut self, depth: u32) -> Parsed<Operand> {
        let base = match self.peek() {
            Some(Token::Word(_)) => Some(self.word()?),
            _ => None,
        };
        let offset = match &base {
            Some(_) if self.is_sign('+') || self.is_sign('-') => self.signed_offset()?,
            Some(_) => 0,
            None => self.integer()?,
        };
        if self.accept(',') {
            let first = Operand::Address(base, offset);
            let mut all = vec![first];
            all.extend(self.operands_until(']', depth)?);
            return Ok(Operand::Bracket(all));
        }
        self.expect(']')?;
        Ok(Operand::Address(base, offset))
    }

    fn signed_offset(&mut self) -> Parsed<i64> {
        let negative = self.is_sign('-');
        self.advance();
        let offset = self.integer()?;
        Ok(if negative { offset.wrapping_neg() } else { offset })
    }

    fn integer(&mut self) -> Parsed<i64> {
        match self.constant()? {
            Operand::Int(value) => Ok(value),
            _ => Err("expected an integer".into()),
        }
    }

    /// A literal or a constant expression.
    pub(super) fn constant(&mut self) -> Parsed<Operand> {
        self.expression(0, 0)
    }

    /// Precedence climbing over C's binary operators.
    fn expression(&mut self, least: u8, depth: u32) -> Parsed<Operand> {
        if depth > MAX_DEPTH {
            return Err("constant expression nests too deeply".into());
        }
        let mut left = self.unary(depth)?;
        while let (Operand::Int(a), Some((operator, level))) = (&left, self.binary_operator()) {
            if level < least {
                break;
            }
            let a = *a;
            self.advance();
            let Operand::Int(b) = self.expression(level + 1, depth + 1)? else {
                return Err("constant expressions are of integers".into());
            };
            left = Operand::Int(fold(operator, a, b).ok_or("division by zero in a constant expression")?);
        }
        Ok(left)
    }

    fn binary_operator(&self) -> Option<(char, u8)> {
        let Some(Token::Sign(sign)) = self.peek() else { return None };
        let level = match sign {
            '^' => 1,
            '&' => 2,
            '«' | '»' => 3,
            '+' | '-' => 4,
            '*' | '/' | '%' => 5,
            _ => return None,
        };
        Some((*sign, level))
    }

    fn unary(&mut self, depth: u32) -> Parsed<Operand> {
        if depth > MAX_DEPTH {
            return Err("constant expression nests too deeply".into());
        }
        match self.peek().cloned() {
            Some(Token::Int(value)) => {
                self.advance();
                Ok(Operand::Int(value as i64))
            }
            Some(Token::F32(bits)) => {
                self.advance();
                Ok(Operand::F32(bits))
            }
            Some(Token::F64(bits)) => {
                self.advance();
                Ok(Operand::F64(bits))
            }
            Some(Token::Sign(sign @ ('-' | '~' | '!' | '+'))) => {
                self.advance();
                Ok(match (sign, self.unary(depth + 1)?) {
                    ('-', Operand::Int(x)) => Operand::Int(x.wrapping_neg()),
                    ('-', Operand::F32(bits)) => Operand::F32(bits ^ 1 << 31),
                    ('-', Operand::F64(bits)) => Operand::F64(bits ^ 1 << 63),
                    ('~', Operand::Int(x)) => Operand::Int(!x),
                    ('!', Operand::Int(x)) => Operand::Int(i64::from(x == 0)),
                    ('+', x) => x,
                    _ => return Err(format!("`{sign}` of this constant has no meaning")),
                })
            }
            Some(Token::Sign('(')) => {
                self.advance();
                // A cast `(.s64) 5` changes nothing here: constants are 64 bits wide.
                if let Some(Token::Dot(_)) = self.peek() {
                    self.advance();
                    self.expect(')')?;
                    return self.unary(depth + 1);
                }
                let value = self.expression(0, depth + 1)?;
                self.expect(')')?;
                Ok(value)
            }
            _ => Err(format!("expected an operand, found {}", self.found())),
        }
    }
}

fn fold(operator: char, a: i64, b: i64) -> Option<i64> {
    Some(match operator {
        '+' => a.wrapping_add(b),
        '-' => a.wrapping_sub(b),
        '*' => a.wrapping_mul(b),
        '/' => a.checked_div(b)?,
        '%' => a.checked_rem(b)?,
        '«' => a.wrapping_shl(b as u32),
        '»' => a.wrapping_shr(b as u32),
        '&' => a & b,
        _ => a ^ b,
    })
}
