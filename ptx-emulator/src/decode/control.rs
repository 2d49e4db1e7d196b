//! Branches, calls and ends.

use super::activation::Place;
use super::frame::Class;
use super::function::{Decoded, Edge, FunctionDecoder, operands};
use super::scope::Symbol;
use crate::ops::memory::{self as mem, Load, PASSES, Store, WIDE_ADDRESS, WRITES};
use crate::ops::{Run, control, heap, pick};
use crate::syntax::ast::{Operand, Statement};
use crate::syntax::types::{Space, Type};

impl FunctionDecoder<'_, '_> {
    /// Decodes the statement if it goes elsewhere.
    pub(super) fn control(&mut self, s: &Statement) -> Decoded<bool> {
        match s.opcode.as_str() {
            "bra" => {
                let [Operand::Name(name)] = operands(s)? else { return Err("`bra` takes a label".into()) };
                let label = self.label(name)?;
                let instr = self.blank(pick::<control::Branch>());
                self.emit_edge(instr, Edge::Label(label));
            }
            "brx" => self.indexed_branch(s)?,
            "ret" => self.ret()?,
            "exit" => {
                let instr = self.blank(pick::<control::Exit>());
                self.emit_edge(instr, Edge::End);
            }
            "trap" | "brkpt" => {
                let mut instr = self.blank(pick::<control::Trap>());
                instr.n = u32::from(s.opcode == "brkpt");
                self.emit_edge(instr, Edge::Dead);
            }
            "call" => self.call(s)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn indexed_branch(&mut self, s: &Statement) -> Decoded {
        let [index, Operand::Name(list)] = operands(s)? else {
            return Err("`brx.idx` takes an index and a list".into());
        };
        let names =
            self.targets.get(list).cloned().ok_or_else(|| format!("there is no list of targets `{list}`"))?;
        let mut labels = Vec::new();
        for name in &names {
            labels.push(self.label(name)? as u32);
        }
        let mut instr = self.blank(pick::<control::IndexedBranch>());
        instr.a = self.src(index, Type::U32)?;
        let at = self.list(&labels);
        (instr.b, instr.n) = (at, labels.len() as u32);
        self.emit_edge(instr, Edge::Labels { at, count: labels.len() as u32 });
        Ok(())
    }

    /// `call (results), callee, (parameters)`: parameters are copied to where the callee expects them, results back.
    fn call(&mut self, s: &Statement) -> Decoded {
        let (results, callee, params) = split_call(s)?;
        let Operand::Name(name) = callee else { return Err("`call` takes a function".into()) };
        if let Some(Symbol::Register { .. }) = self.symbol(name) {
            return self.call_by_address(callee, &results, &params);
        }
        match name.as_str() {
            "vprintf" => return self.builtin(pick::<control::Printf>(), &results, &params, Class::Word),
            "__assertfail" => {
                return self.builtin(pick::<control::AssertFail>(), &results, &params, Class::Word);
            }
            // Unless the module has functions of these names.
            "malloc" | "free" if !self.context.formals.contains_key(name.as_str()) => {
                let gives = usize::from(name == "malloc");
                let sizes = |d: &mut Self, list: &[Operand]| -> Decoded<Vec<u64>> {
                    list.iter().map(|o| d.param_size(o)).collect()
                };
                if (sizes(self, &params)?, sizes(self, &results)?) != (vec![8], vec![8; gives]) {
                    return Err(format!("`{name}` takes 8 bytes and gives {}", 8 * gives));
                }
                let run = if gives == 1 { pick::<heap::Malloc>() } else { pick::<heap::Free>() };
                return self.builtin(run, &results, &params, Class::Long);
            }
            _ => {}
        }
        let Some(formals) = self.context.formals.get(name.as_str()).cloned() else {
            return Err(format!("there is no function `{name}` with a body to call"));
        };
        if formals.params.len() != params.len() || formals.returns.len() != results.len() {
            return Err(format!(
                "`{name}` takes {} parameters and gives {} results; {} and {} are written",
                formals.params.len(),
                formals.returns.len(),
                params.len(),
                results.len()
            ));
        }
        for (operand, &(at, size)) in params.iter().zip(&formals.params) {
            self.pass(operand, Place::Fixed(at), size)?;
        }
        let number = self.context.numbers.get(name.as_str()).copied().ok_or("the function was not found")?;
        let instr = self.blank(pick::<control::Call>());
        self.emit_edge(instr, Edge::Call(number));
        for (operand, &(at, size)) in results.iter().zip(&formals.returns) {
            self.take_back(operand, Place::Fixed(at), size)?;
        }
        Ok(())
    }

    /// Every function has its own place for parameters, so a call by address writes them to all functions with parameters and
    /// results of the same sizes: only the one that is called looks.
    fn call_by_address(&mut self, callee: &Operand, results: &[Operand], params: &[Operand]) -> Decoded {
        let sizes = |d: &mut Self, list: &[Operand]| -> Decoded<Vec<u64>> {
            list.iter().map(|o| d.param_size(o)).collect()
        };
        let (given, wanted) = (sizes(self, params)?, sizes(self, results)?);
        let matching: Vec<_> = self
            .context
            .formals
            .values()
            .filter(|f| {
                f.params.iter().map(|p| p.1).eq(given.iter().copied())
                    && f.returns.iter().map(|p| p.1).eq(wanted.iter().copied())
            })
            .cloned()
            .collect();
        for formals in &matching {
            for (operand, &(at, size)) in params.iter().zip(&formals.params) {
                self.pass(operand, Place::Fixed(at), size)?;
            }
        }
        let mut instr = self.blank(pick::<control::IndexedCall>());
        instr.a = self.src(callee, Type::U64)?;
        self.emit_edge(instr, Edge::None);
        // They share the places of their results. Where none matches, the call itself fails if it is ever reached.
        for formals in matching.iter().take(1) {
            for (operand, &(at, size)) in results.iter().zip(&formals.returns) {
                self.take_back(operand, Place::Fixed(at), size)?;
            }
        }
        Ok(())
    }

    fn param_size(&mut self, operand: &Operand) -> Decoded<u64> {
        let Operand::Name(name) = operand else { return Ok(8) };
        match self.symbol(name) {
            Some(Symbol::Register { ty, .. }) => Ok(ty.size()),
            Some(Symbol::Variable { address, .. }) => Ok(self.variable_size(address)),
            None => Err(format!("`{name}` is not declared")),
        }
    }

    /// A call of a function that the emulator has; `class` is that of its result.
    fn builtin(&mut self, run: Run, results: &[Operand], params: &[Operand], class: Class) -> Decoded {
        let mut list = Vec::new();
        for operand in params {
            let Operand::Name(name) = operand else {
                return Err("parameters of this function are `.param` variables".into());
            };
            match self.symbol(name) {
                Some(Symbol::Variable { address, .. }) => list.push(self.fixed(address)? as u32),
                _ => return Err(format!("`{name}` is no `.param` variable")),
            }
        }
        list.resize(list.len().max(5), 0);
        let mut instr = self.blank(run);
        instr.b = self.list(&list);
        instr.d = self.temp(class);
        self.emit(instr);
        if let [Operand::Name(name)] = results
            && let Some(Symbol::Variable { address, .. }) = self.symbol(name)
        {
            let store = match class {
                Class::Long => pick::<Store<mem::U64, { mem::LOCAL }>>(),
                _ => pick::<Store<mem::U32, { mem::LOCAL }>>(),
            };
            let place = self.place_of(address);
            self.local_access(store, instr.d, place, WRITES)?;
        }
        Ok(())
    }

    /// Where a variable of the function, or a copy of it, is the same in every activation.
    fn fixed(&mut self, address: u64) -> Decoded<u64> {
        if self.activation.is_none() {
            return Ok(address);
        }
        let size = self.variable_size(address);
        let copy = self.context.local(size, 16);
        self.copy_local(self.place_of(address), Place::Fixed(copy), size)?;
        Ok(copy)
    }

    /// Copies a parameter, variable or register, to the callee's place.
    fn pass(&mut self, operand: &Operand, at: Place, size: u64) -> Decoded {
        if let Operand::Name(name) = operand
            && let Some(Symbol::Variable { address, .. }) = self.symbol(name)
        {
            return self.copy_local(self.place_of(address), at, size);
        }
        let ty = if size == 8 { Type::B64 } else { Type::B32 };
        let source = self.src(operand, ty)?;
        self.local_access(store_of(size), source, at, WRITES)
    }

    /// A parameter of this function comes from where its caller has put it.
    pub(super) fn take(&mut self, name: &str, at: u64, size: u64) -> Decoded {
        self.take_back(&Operand::Name(name.into()), Place::Fixed(at), size)
    }

    /// A result of this function goes to where its caller looks for it.
    pub(super) fn give(&mut self, name: &str, at: u64, size: u64) -> Decoded {
        self.pass(&Operand::Name(name.into()), Place::Fixed(at), size)
    }

    fn take_back(&mut self, operand: &Operand, at: Place, size: u64) -> Decoded {
        if let Operand::Name(name) = operand
            && let Some(Symbol::Variable { address, .. }) = self.symbol(name)
        {
            return self.copy_local(at, self.place_of(address), size);
        }
        let target = self.dst(operand, if size == 8 { Type::B64 } else { Type::B32 })?;
        self.local_access(load_of(size), target, at, 0)
    }

    fn local_access(&mut self, run: Run, register: u32, at: Place, flags: u32) -> Decoded {
        let mut instr = self.blank(run);
        match (at, self.base_of(Space::Local)) {
            (Place::Own(at), Some(base)) => (instr.a, instr.imm) = (base, at as i64),
            (Place::Own(at) | Place::Fixed(at), _) => {
                instr.a = self.src(&Operand::Int(at as i64), Type::U64)?
            }
        }
        instr.b = self.list(&[register]);
        (instr.n, instr.slot) = (1 | WIDE_ADDRESS | PASSES | flags, self.cache());
        self.emit(instr);
        Ok(())
    }

    /// Both places are aligned to 16.
    fn copy_local(&mut self, from: Place, to: Place, size: u64) -> Decoded {
        if size > 4096 {
            return Err(format!("parameters of {size} bytes are not supported"));
        }
        let (word, byte) = (self.temp(Class::Long), self.temp(Class::Word));
        let mut at = 0;
        while at < size {
            if size - at >= 8 {
                self.local_access(pick::<Load<mem::U64, { mem::LOCAL }>>(), word, from.beyond(at), 0)?;
                self.local_access(pick::<Store<mem::U64, { mem::LOCAL }>>(), word, to.beyond(at), WRITES)?;
                at += 8;
            } else {
                self.local_access(pick::<Load<mem::U8, { mem::LOCAL }>>(), byte, from.beyond(at), 0)?;
                self.local_access(pick::<Store<mem::U8, { mem::LOCAL }>>(), byte, to.beyond(at), WRITES)?;
                at += 1;
            }
        }
        Ok(())
    }
}

fn load_of(size: u64) -> Run {
    match size {
        8 => pick::<Load<mem::U64, { mem::LOCAL }>>(),
        4 => pick::<Load<mem::U32, { mem::LOCAL }>>(),
        2 => pick::<Load<mem::U16, { mem::LOCAL }>>(),
        _ => pick::<Load<mem::U8, { mem::LOCAL }>>(),
    }
}

fn store_of(size: u64) -> Run {
    match size {
        8 => pick::<Store<mem::U64, { mem::LOCAL }>>(),
        4 => pick::<Store<mem::U32, { mem::LOCAL }>>(),
        2 => pick::<Store<mem::U16, { mem::LOCAL }>>(),
        _ => pick::<Store<mem::U8, { mem::LOCAL }>>(),
    }
}

/// The three parts of a call, of which results and parameters may be missing.
pub(super) fn split_call(s: &Statement) -> Decoded<(Vec<Operand>, &Operand, Vec<Operand>)> {
    let list = |o: Option<&Operand>| match o {
        Some(Operand::List(all)) => all.clone(),
        _ => Vec::new(),
    };
    match s.operands.as_slice() {
        [Operand::List(results), callee, rest @ ..] => Ok((results.clone(), callee, list(rest.first()))),
        [callee, rest @ ..] => Ok((Vec::new(), callee, list(rest.first()))),
        [] => Err("`call` takes a function".into()),
    }
}
