//! Passes 3 and 4: names into register offsets and addresses, statements into handlers; then the code of an entry is laid out.

pub(crate) mod activation;
mod arith;
mod bit;
mod bulk;
mod cluster;
mod control;
mod convert;
mod data;
mod forms;
pub(crate) mod frame;
mod function;
mod layout;
mod matrix;
mod mbarrier;
mod modifiers;
mod packed;
mod quads;
mod recursion;
mod scope;
mod sparse;
pub(crate) mod special;
mod stack;
#[cfg(test)]
mod table;
mod tensormap;
mod tiles;
mod value;
mod warp;
mod wgmma;
mod wide;

use crate::error::Problem;
use crate::ops::Instr;
use crate::syntax::ast::{Function, ModuleSyntax, Variable};
use crate::syntax::types::Space;
use activation::Activation;
use frame::Frame;
use function::FunctionDecoder;
use stack::Stack;
use std::collections::{HashMap, HashSet};

/// Of a function that an entry does not reach.
pub(crate) const NO_CODE: u32 = u32::MAX;

/// An entry's code, ready to run.
#[derive(Clone)]
pub(crate) struct Program {
    pub code: Vec<Instr>,
    /// PTX line of each instruction.
    pub lines: Vec<u32>,
    /// How many instructions of the PTX lie before each of `code` (which has some more that decoding added); one longer.
    pub counted: Vec<u32>,
    /// Index into `mnemonics` for each instruction.
    pub mnemonic: Vec<u32>,
    pub mnemonics: Vec<String>,
    pub extra: Vec<u32>,
    /// For each instruction which registers of `wgmma` its statement reads (false) or writes (true); empty where there are none.
    pub watch: Vec<Box<[(u32, bool)]>>,
    pub frame: Frame,
    pub caches: u32,
    /// Where each function of the module begins, or `NO_CODE` where this entry cannot reach it.
    pub functions: Vec<u32>,
    pub static_shared: u64,
    /// Where dynamic shared memory begins.
    pub dynamic_shared: u64,
    /// Both, in a block without what the system reserves.
    pub own_static: u64,
    pub own_dynamic: u64,
    pub local_bytes: u64,
    pub registers: u32,
    /// Of the functions that may call themselves.
    pub activations: Vec<Activation>,
}

impl Program {
    /// Whether it has fences, or accesses that release or acquire.
    pub(crate) fn has_fences(&self) -> bool {
        let fence = |m: &&str| ["fence", "membar", "acquire", "release", "acq_rel"].contains(m);
        self.mnemonics.iter().any(|mnemonic| mnemonic.split('.').any(|m| fence(&m)))
    }
}

/// What all functions of one entry share while they are decoded.
pub(crate) struct EntryContext<'m> {
    pub module: &'m ModuleSyntax,
    /// Numbers of the reachable functions: their places in the module.
    pub numbers: HashMap<String, u32>,
    pub frame: Frame,
    /// The line that declares the register for which there was no room, or that wanted another one.
    pub overflow: Option<u32>,
    pub extra: Vec<u32>,
    pub caches: u32,
    pub shared: HashMap<String, u64>,
    pub shared_bytes: u64,
    /// What they would be without the bytes that the system reserves, and without what these are aligned to.
    pub own_shared_bytes: u64,
    pub dynamic_align: u64,
    pub local_bytes: u64,
    /// What `alloca` and activations take from, once there is one.
    pub stack: Option<Stack>,
    /// The functions that may call themselves, directly or through others, and the activations of those that have been decoded.
    pub recursive: HashSet<String>,
    pub activations: Vec<Activation>,
    pub mnemonics: Vec<String>,
    pub mnemonic_index: HashMap<String, u32>,
    pub registers: u32,
    /// Registers of `wgmma`.
    pub products: HashSet<u32>,
    /// Local offsets of each function's formal parameters and results.
    pub formals: HashMap<String, Formals>,
    /// Kernel parameters: name, offset and size.
    pub kernel_params: HashMap<String, (u64, u64)>,
}

/// Where a function expects its parameters: (local offset, size).
#[derive(Clone, Debug, Default)]
pub(crate) struct Formals {
    pub params: Vec<(u64, u64)>,
    pub returns: Vec<(u64, u64)>,
}

/// The most bytes of a thread's local memory. PTX manual and CUDA: compute capabilities since 2.0 have as many.
const MOST_LOCAL: u64 = 1 << 19;

impl EntryContext<'_> {
    /// A place in the thread's local memory.
    pub(crate) fn local(&mut self, size: u64, align: u64) -> u64 {
        let at = self.local_bytes.next_multiple_of(align.max(1));
        self.local_bytes = at + size;
        at
    }

    /// Refuses more local memory than a thread has.
    pub(crate) fn local_fits(&self) -> Result<(), String> {
        if self.local_bytes > MOST_LOCAL {
            return Err(format!("more than {} KiB of local memory a thread", MOST_LOCAL >> 10));
        }
        Ok(())
    }

    pub(crate) fn shared_place(&mut self, variable: &Variable) -> u64 {
        let place = |bytes: &mut u64| {
            let at = bytes.next_multiple_of(variable.align.max(1));
            *bytes = at + variable.size.unwrap_or(0);
            at
        };
        place(&mut self.own_shared_bytes);
        place(&mut self.shared_bytes)
    }
}

/// The offset of each kernel parameter and the size of their block.
pub(crate) fn parameter_offsets(params: &[Variable]) -> (Vec<u64>, u64) {
    let mut at = 0u64;
    let offsets = params
        .iter()
        .map(|p| {
            let here = at.next_multiple_of(p.align.max(1));
            at = here + p.size.unwrap_or(0);
            here
        })
        .collect();
    (offsets, at)
}

/// Decodes an entry and all functions that it mentions, directly or not.
pub(crate) fn entry(module: &ModuleSyntax, entry: &Function, problems: &mut Vec<Problem>) -> Program {
    let mut functions = HashMap::new();
    for function in &module.functions {
        if function.body.is_some() || !functions.contains_key(function.name.as_str()) {
            functions.insert(function.name.as_str(), function);
        }
    }
    for (alias, target) in &module.aliases {
        if let Some(&function) = functions.get(target.as_str()) {
            functions.insert(alias, function);
        }
    }
    let reachable = reachable(&functions, entry, module);
    let (offsets, _) = parameter_offsets(&entry.params);
    let kernel_params =
        entry.params.iter().zip(offsets).map(|(p, o)| (p.name.clone(), (o, p.size.unwrap_or(0)))).collect();
    let mut context = EntryContext {
        module,
        numbers: reachable.iter().map(|f| (f.name.clone(), number_of(module, f))).collect(),
        frame: Frame::default(),
        overflow: None,
        extra: Vec::new(),
        caches: 0,
        shared: HashMap::new(),
        shared_bytes: 0,
        own_shared_bytes: 0,
        dynamic_align: 16,
        local_bytes: 0,
        stack: None,
        recursive: recursion::recursive(&reachable, module),
        activations: Vec::new(),
        mnemonics: Vec::new(),
        mnemonic_index: HashMap::new(),
        registers: 0,
        products: HashSet::new(),
        formals: HashMap::new(),
        kernel_params,
    };
    for (alias, target) in &module.aliases {
        if let Some(&number) = context.numbers.get(target) {
            context.numbers.insert(alias.clone(), number);
        }
    }
    place_shared(&mut context, &reachable);
    place_formals(&mut context, &reachable);
    let mut bodies = Vec::new();
    for function in &reachable {
        bodies.push(FunctionDecoder::new(&mut context, function, problems).run());
    }
    let numbers: Vec<u32> = reachable.iter().map(|f| number_of(module, f)).collect();
    layout::program(context, bodies, &numbers, problems)
}

/// A function's place in the module, from which its address comes.
fn number_of(module: &ModuleSyntax, function: &Function) -> u32 {
    module.functions.iter().position(|f| std::ptr::eq(f, function)).unwrap_or(0) as u32
}

/// The entry first, then every function with a body whose name some reachable body mentions.
fn reachable<'m>(
    functions: &HashMap<&str, &'m Function>,
    entry: &'m Function,
    module: &'m ModuleSyntax,
) -> Vec<&'m Function> {
    let mut order: Vec<&Function> = vec![entry];
    let mut seen: HashSet<&str> = HashSet::from([entry.name.as_str()]);
    // Tables of function addresses in variables count as mentions.
    let tables = module.variables.iter().flat_map(|v| &v.initial).filter_map(|piece| match piece {
        crate::syntax::ast::Initial::Address { symbol, .. } => Some(symbol.as_str()),
        _ => None,
    });
    let mut pending: Vec<&str> = tables.collect();
    let mut at = 0;
    loop {
        for name in std::mem::take(&mut pending) {
            let called = functions.get(name).filter(|f| f.body.is_some() && !f.is_entry);
            if let Some(&function) = called
                && seen.insert(&function.name)
            {
                order.push(function);
            }
        }
        let Some(function) = order.get(at) else { return order };
        at += 1;
        pending = function.body.iter().flatten().flat_map(scope::mentioned).collect();
    }
}

/// Places the module's shared variables that are mentioned; dynamic ones come after all others.
fn place_shared(context: &mut EntryContext, reachable: &[&Function]) {
    let mentioned: HashSet<&str> =
        reachable.iter().flat_map(|f| f.body.iter().flatten()).flat_map(scope::mentioned).collect();
    for variable in context
        .module
        .variables
        .iter()
        .filter(|v| v.space == Space::Shared && mentioned.contains(v.name.as_str()))
    {
        if variable.size.is_none() || variable.external {
            context.dynamic_align = context.dynamic_align.max(variable.align);
        } else if !context.shared.contains_key(&variable.name) {
            let at = context.shared_place(variable);
            context.shared.insert(variable.name.clone(), at);
        }
    }
}

fn place_formals(context: &mut EntryContext, reachable: &[&Function]) {
    // Functions with results of the same sizes share their places, so that a call by address finds them. A result is written
    // last thing in the callee and read first thing after the call.
    let mut returns: HashMap<Vec<u64>, Vec<(u64, u64)>> = HashMap::new();
    for function in reachable.iter().filter(|f| !f.is_entry) {
        let mut place = |list: &[Variable]| -> Vec<(u64, u64)> {
            list.iter()
                .map(|v| {
                    let size = v.size.unwrap_or(0);
                    // A 16-byte alignment lets any vector access in.
                    (context.local(size, v.align.max(16)), size)
                })
                .collect()
        };
        let params = place(&function.params);
        let sizes: Vec<u64> = function.returns.iter().map(|v| v.size.unwrap_or(0)).collect();
        let results = returns.entry(sizes).or_insert_with(|| place(&function.returns)).clone();
        let formals = Formals { params, returns: results };
        context.formals.insert(function.name.clone(), formals);
    }
    for (alias, target) in &context.module.aliases {
        if let Some(formals) = context.formals.get(target).cloned() {
            context.formals.insert(alias.clone(), formals);
        }
    }
}
