//! Variables, parameters and their initialisers.

use super::ast::{Initial, Operand, Variable};
use super::lexer::Token;
use super::parser::{Parsed, Parser};
use super::types::{Space, Type};

/// Initialisers may not make the parser take memory without bound.
const MAX_INITIALISED_BYTES: u64 = 1 << 28;

impl Parser<'_, '_, '_> {
    /// `.global .align 4 .b8 name[16] = {…}, other;` up to the `;`.
    pub(super) fn variables(&mut self, external: bool) -> Parsed<Vec<Variable>> {
        let first = self.variable_head(external)?;
        let mut all = Vec::new();
        loop {
            let mut variable = Variable { name: self.word()?, line: self.line(), ..first.clone() };
            self.dimensions(&mut variable)?;
            if self.accept('=') {
                self.initialiser(&mut variable)?;
            }
            all.push(variable);
            if !self.accept(',') {
                return Ok(all);
            }
        }
    }

    /// One parameter of a function or entry.
    pub(super) fn parameter(&mut self) -> Parsed<Variable> {
        let head = self.variable_head(false)?;
        let mut variable = Variable { name: self.word()?, line: self.line(), ..head };
        self.dimensions(&mut variable)?;
        Ok(variable)
    }

    fn variable_head(&mut self, external: bool) -> Parsed<Variable> {
        let line = self.line();
        let (mut space, mut align, mut lanes, mut ty) = (None, None, 1, None);
        let mut register = false;
        while let Some(Token::Dot(word)) = self.peek().cloned() {
            self.advance();
            match word {
                "align" => align = Some(u64::from(self.count()?)),
                "v2" => lanes = 2,
                "v4" => lanes = 4,
                "v8" => lanes = 8,
                "reg" => (space, register) = (Some(Space::Param), true),
                "attribute" => {
                    while self.peek().is_some() && !self.accept(')') {
                        self.advance();
                    }
                }
                "ptr" => self.pointer_attributes()?,
                // Opaque handles are 8 bytes.
                "texref" | "samplerref" | "surfref" => ty = Some(Type::B64),
                _ if space.is_none() && Space::parse(word).is_some() => space = Space::parse(word),
                _ => ty = Some(Type::parse(word).ok_or(format!("unknown type or attribute `.{word}`"))?),
            }
        }
        let ty = ty.ok_or(format!("expected a type, found {}", self.found()))?;
        let size = ty.size() * lanes;
        let align = align.unwrap_or(size);
        if !align.is_power_of_two() || align > 1 << 16 {
            return Err(format!("an alignment of {align} is not possible"));
        }
        let space = space.unwrap_or(Space::Param);
        Ok(Variable {
            name: String::new(),
            space,
            register,
            ty,
            align,
            size: Some(size),
            external,
            initial: Vec::new(),
            line,
        })
    }

    /// `.ptr .global .align 4` of a parameter says nothing that the emulator needs.
    fn pointer_attributes(&mut self) -> Parsed<()> {
        loop {
            if self.accept_dot("align") {
                self.count()?;
            } else if !["global", "shared", "local", "const", "generic"].iter().any(|s| self.accept_dot(s)) {
                return Ok(());
            }
        }
    }

    fn dimensions(&mut self, variable: &mut Variable) -> Parsed<()> {
        while self.accept('[') {
            if self.accept(']') {
                variable.size = None;
                continue;
            }
            let Operand::Int(count) = self.constant()? else { return Err("expected an array length".into()) };
            let size = variable.size.and_then(|size| size.checked_mul(u64::try_from(count).ok()?));
            variable.size =
                Some(size.filter(|&s| s <= 1 << 40).ok_or(format!("an array of {count} is too large"))?);
            self.expect(']')?;
        }
        Ok(())
    }

    fn initialiser(&mut self, variable: &mut Variable) -> Parsed<()> {
        let mut depth = 0;
        let mut count = 0u64;
        loop {
            while self.accept('{') {
                depth += 1;
            }
            if !self.is_sign('}') {
                let piece = self.initial_value(variable.ty)?;
                count += match &piece {
                    Initial::Bytes(bytes) => bytes.len() as u64,
                    Initial::Address { bytes, .. } => u64::from(*bytes),
                };
                match (variable.initial.last_mut(), piece) {
                    (Some(Initial::Bytes(all)), Initial::Bytes(more)) => all.extend(more),
                    (_, piece) => variable.initial.push(piece),
                }
            }
            while depth > 0 && self.accept('}') {
                depth -= 1;
            }
            if depth == 0 {
                break;
            }
            self.expect(',')?;
            if count > MAX_INITIALISED_BYTES {
                return Err("the initialiser is too long".into());
            }
        }
        match variable.size {
            None => variable.size = Some(count),
            Some(size) if count > size => {
                return Err(format!("{count} bytes of initialiser for {size} bytes of `{}`", variable.name));
            }
            _ => {}
        }
        Ok(())
    }

    /// `symbol`, `generic(symbol)`, either `+ addend`.
    fn initial_address(&mut self) -> Parsed<(String, i64)> {
        let mut symbol = self.word()?;
        if symbol == "generic" && self.accept('(') {
            symbol = self.word()?;
            self.expect(')')?;
        }
        let addend = match self.accept('+') {
            true => self.constant()?,
            false => Operand::Int(0),
        };
        match addend {
            Operand::Int(value) => Ok((symbol, value)),
            _ => Err("expected an integer".into()),
        }
    }

    fn initial_value(&mut self, ty: Type) -> Parsed<Initial> {
        let bytes = ty.size() as u8;
        if let Some(Token::Word(_)) = self.peek() {
            let (symbol, addend) = self.initial_address()?;
            return Ok(Initial::Address { symbol, addend, shift: 0, bytes });
        }
        let constant = self.constant()?;
        // `0xff00(address)`: the second byte of an address. PTX manual, "Initializers".
        if let Operand::Int(mask) = constant
            && self.accept('(')
        {
            let mask = mask as u64;
            let shift = mask.trailing_zeros();
            if bytes != 1 || !shift.is_multiple_of(8) || mask.checked_shr(shift) != Some(0xff) {
                return Err(format!(
                    "the mask {mask:#x} of an address of {bytes} bytes: it is one byte of .b8 or .u8"
                ));
            }
            let (symbol, addend) = self.initial_address()?;
            self.expect(')')?;
            return Ok(Initial::Address { symbol, addend, shift: shift as u8, bytes });
        }
        let bits = match (constant, ty) {
            (Operand::Int(value), Type::F32) => u64::from((value as f32).to_bits()),
            (Operand::Int(value), Type::F64) => (value as f64).to_bits(),
            (Operand::Int(value), _) => value as u64,
            (Operand::F32(bits), Type::F64) => f64::from(f32::from_bits(bits)).to_bits(),
            (Operand::F32(bits), _) => u64::from(bits),
            (Operand::F64(bits), Type::F32) => u64::from((f64::from_bits(bits) as f32).to_bits()),
            (Operand::F64(bits), _) => bits,
            _ => return Err("expected a constant".into()),
        };
        let mut all = bits.to_le_bytes().to_vec();
        all.resize(usize::from(bytes), 0);
        Ok(Initial::Bytes(all))
    }
}
