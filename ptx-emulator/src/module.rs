//! A parsed and decoded module.

use crate::decode::{self, Program, parameter_offsets};
use crate::error::{ParseError, Problem};
use crate::source::Sources;
use crate::syntax::ast::{Bounds, Initial, ModuleSyntax, Variable};
use crate::syntax::parser;
use crate::syntax::types::Space;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A PTX module, decoded for this CPU: immutable and shareable between threads.
pub struct Module {
    pub(crate) id: u64,
    pub(crate) lines: Vec<String>,
    pub(crate) sources: Sources,
    pub(crate) variables: Vec<Variable>,
    /// Names of all functions; the place of one gives its address.
    pub(crate) functions: Vec<String>,
    target: String,
    entries: Vec<Entry>,
}

// Nothing in a module changes after `parse`.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Module>();
};

/// A kernel of a module.
pub struct Entry {
    name: String,
    params: Vec<Param>,
    bounds: Bounds,
    pub(crate) parameters: Vec<Variable>,
    pub(crate) program: Program,
}

/// A kernel parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name in the PTX.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// In bytes.
    pub align: u64,
    /// In the parameter block, in bytes.
    pub offset: u64,
}

impl Module {
    /// Parses and decodes a PTX text. The error lists everything that is wrong with it, with lines, unknown instructions too.
    pub fn parse(text: &str) -> Result<Module, ParseError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut problems = Vec::new();
        let mut syntax = parser::parse(text, &mut problems);
        check_functions(&syntax, &mut problems);
        // A declaration says nothing beside the definition.
        let defined: HashSet<String> =
            syntax.variables.iter().filter(|v| !v.is_elsewhere()).map(|v| v.name.clone()).collect();
        syntax.variables.retain(|v| !v.is_elsewhere() || !defined.contains(&v.name));
        check_variables(&syntax, &mut problems);
        let mut entries = Vec::new();
        if problems.is_empty() {
            for function in syntax.functions.iter().filter(|f| f.is_entry && f.body.is_some()) {
                let before = problems.len();
                let program = decode::entry(&syntax, function, &mut problems);
                if problems.len() > before {
                    continue;
                }
                entries.push(entry(function, program));
            }
        }
        if !problems.is_empty() {
            // Entries share functions, whose problems are found once for each.
            problems.sort_by(|a, b| (a.line, &a.what).cmp(&(b.line, &b.what)));
            problems.dedup();
            problems.truncate(50);
            return Err(ParseError::new(text, problems));
        }
        let mut variables = std::mem::take(&mut syntax.variables);
        variables.retain(|v| !v.is_elsewhere());
        let lines = text.lines().map(str::to_string).collect();
        let functions = syntax.functions.iter().map(|f| f.name.clone()).collect();
        Ok(Module {
            functions,
            id: NEXT.fetch_add(1, Relaxed),
            lines,
            sources: Sources::parse(text),
            variables,
            target: syntax.target,
            entries,
        })
    }

    /// The kernels, in the order of the text.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The kernel of this name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }

    /// The compute capability that the `.target` names, such as 90 for `sm_90a`, if it names one.
    pub fn capability(&self) -> Option<u32> {
        self.target.strip_prefix("sm_")?.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
    }

    /// The `.target`, such as `sm_90a`.
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.entries.iter().map(Entry::name).collect();
        f.debug_struct("Module").field("target", &self.target).field("entries", &names).finish()
    }
}

fn entry(function: &crate::syntax::ast::Function, program: Program) -> Entry {
    let (offsets, _) = parameter_offsets(&function.params);
    let params = function.params.iter().zip(offsets);
    Entry {
        name: function.name.clone(),
        params: params
            .map(|(p, offset)| Param {
                name: p.name.clone(),
                size: p.size.unwrap_or(0),
                align: p.align,
                offset,
            })
            .collect(),
        bounds: function.bounds.clone(),
        parameters: function.params.clone(),
        program,
    }
}

/// Functions with two bodies.
fn check_functions(syntax: &ModuleSyntax, problems: &mut Vec<Problem>) {
    let mut bodies = HashMap::new();
    for function in syntax.functions.iter().filter(|f| f.body.is_some()) {
        if let Some(first) = bodies.insert(&function.name, function.line) {
            problems.push(Problem {
                line: function.line,
                what: format!("`{}` is defined twice, first in PTX line {first}", function.name),
            });
        }
    }
}

/// Module variables that no memory could hold, or that refer to nothing.
fn check_variables(syntax: &ModuleSyntax, problems: &mut Vec<Problem>) {
    for function in syntax.functions.iter().filter(|f| f.is_entry) {
        let bytes: u64 = function.params.iter().map(|p| p.size.unwrap_or(0)).fold(0, u64::saturating_add);
        if bytes > 32764 {
            problems.push(Problem {
                line: function.line,
                what: format!("{bytes} bytes of parameters; the limit is 32764"),
            });
        }
    }
    check_constants(syntax, problems);
    for variable in &syntax.variables {
        for piece in &variable.initial {
            let Initial::Address { symbol, .. } = piece else { continue };
            let known = syntax.variables.iter().any(|v| v.name == *symbol && !v.is_elsewhere())
                || syntax.functions.iter().any(|f| f.name == *symbol);
            if !known {
                problems.push(Problem {
                    line: variable.line,
                    what: format!("the initialiser names `{symbol}`, which the module does not define"),
                });
            }
        }
        if variable.space == Space::Shared && variable.size.is_some_and(|s| s > 1 << 30) {
            problems.push(Problem {
                line: variable.line,
                what: format!("`{}` is larger than any shared memory", variable.name),
            });
        }
    }
}

/// Bytes of constant memory that variables may have together (PTX manual, "Constant State Space"; the ten further regions of as
/// many are for the driver alone).
const MOST_CONSTANT: u64 = 1 << 16;

/// More constant variables than there is memory for, however they lie: the first that has no room left.
fn check_constants(syntax: &ModuleSyntax, problems: &mut Vec<Problem>) {
    let constants = || syntax.variables.iter().filter(|v| v.space == Space::Const && !v.is_elsewhere());
    let size = |v: &Variable| v.size.unwrap_or(0);
    let mut bytes = 0u64;
    for variable in constants() {
        bytes = bytes.saturating_add(size(variable));
        if bytes > MOST_CONSTANT {
            let all = constants().map(size).fold(0, u64::saturating_add);
            problems.push(Problem {
                line: variable.line,
                what: format!(
                    "no room for `{}` of {} bytes: the module has {all} bytes of `.const` variables; the limit is {MOST_CONSTANT}",
                    variable.name,
                    size(variable)
                ),
            });
            return;
        }
    }
}

impl Entry {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its parameters.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// Bytes of shared memory that every block has without dynamic ones, and without what the system reserves.
    pub fn static_shared_bytes(&self) -> usize {
        self.program.own_static as usize
    }

    /// `.maxntid`.
    pub fn max_threads(&self) -> Option<[u32; 3]> {
        self.bounds.max_threads
    }

    /// `.reqntid`.
    pub fn required_threads(&self) -> Option<[u32; 3]> {
        self.bounds.required_threads
    }

    /// `.minnctapersm`.
    pub fn min_blocks_per_multiprocessor(&self) -> Option<u32> {
        self.bounds.min_blocks
    }

    /// `.explicitcluster`: a launch must name the cluster.
    pub fn explicit_cluster(&self) -> bool {
        self.bounds.explicit_cluster
    }

    /// `.reqnctapercluster`.
    pub fn required_cluster(&self) -> Option<[u32; 3]> {
        self.bounds.required_cluster
    }

    /// `.maxclusterrank`.
    pub fn max_cluster_blocks(&self) -> Option<u32> {
        self.bounds.max_cluster
    }

    /// `.maxnreg`.
    pub fn max_registers(&self) -> Option<u32> {
        self.bounds.max_registers
    }

    /// 32-bit registers that the PTX names (virtual: an assembler needs fewer).
    pub fn register_count(&self) -> usize {
        self.program.registers as usize
    }

    /// Bytes of local memory of a thread, function parameters included.
    pub fn local_bytes(&self) -> usize {
        self.program.local_bytes as usize
    }
}
