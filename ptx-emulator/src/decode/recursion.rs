//! Which functions may run several times at once in a thread: those that call themselves, directly or through others.

use super::control::split_call;
use super::scope::mentioned;
use crate::syntax::ast::{Function, Initial, Item, ModuleSyntax, Operand, Statement};
use std::collections::{HashMap, HashSet};

/// A call in the text.
enum Callee<'m> {
    Named(&'m str),
    /// By an address, with so many parameters and results.
    Address {
        params: usize,
        results: usize,
    },
}

/// The names of the functions that may be called while they run. A call by address may go to every function whose address the module
/// takes and that has as many parameters and results.
pub(super) fn recursive(functions: &[&Function], module: &ModuleSyntax) -> HashSet<String> {
    // An entry, which may have the name of a function of the emulator, is never called.
    let called = functions.iter().enumerate().filter(|(_, f)| !f.is_entry);
    let mut places: HashMap<&str, usize> = called.map(|(at, f)| (f.name.as_str(), at)).collect();
    for (alias, target) in &module.aliases {
        if let Some(&at) = places.get(target.as_str()) {
            places.insert(alias, at);
        }
    }
    let taken = taken(functions, module, &places);
    let calls: Vec<Vec<usize>> = functions
        .iter()
        .map(|function| {
            let mut called = HashSet::new();
            for callee in statements(function).filter_map(|s| callee(s, module)) {
                match callee {
                    Callee::Named(name) => called.extend(places.get(name)),
                    Callee::Address { params, results } => {
                        called.extend(taken.iter().copied().filter(|&at| {
                            (functions[at].params.len(), functions[at].returns.len()) == (params, results)
                        }))
                    }
                }
            }
            called.into_iter().collect()
        })
        .collect();
    let calls_itself = |at: usize| {
        let (mut seen, mut pending) = (HashSet::new(), calls[at].clone());
        while let Some(next) = pending.pop() {
            if seen.insert(next) {
                pending.extend(&calls[next]);
            }
        }
        seen.contains(&at)
    };
    (0..functions.len()).filter(|&at| calls_itself(at)).map(|at| functions[at].name.clone()).collect()
}

fn statements(function: &Function) -> impl Iterator<Item = &Statement> {
    function.body.iter().flatten().filter_map(|item| match item {
        Item::Statement(statement) => Some(statement),
        _ => None,
    })
}

fn callee<'m>(s: &'m Statement, module: &ModuleSyntax) -> Option<Callee<'m>> {
    if s.opcode != "call" {
        return None;
    }
    let (results, callee, params) = split_call(s).ok()?;
    let is_function = |name: &str| {
        module.functions.iter().any(|f| f.name == name)
            || module.aliases.iter().any(|(alias, _)| alias == name)
    };
    Some(match callee {
        Operand::Name(name) if is_function(name) => Callee::Named(name),
        _ => Callee::Address { params: params.len(), results: results.len() },
    })
}

/// Functions whose address a statement or a variable's initialiser takes.
fn taken(functions: &[&Function], module: &ModuleSyntax, places: &HashMap<&str, usize>) -> HashSet<usize> {
    let tables = module.variables.iter().flat_map(|v| &v.initial).filter_map(|piece| match piece {
        Initial::Address { symbol, .. } => Some(symbol.as_str()),
        _ => None,
    });
    let named = functions
        .iter()
        .flat_map(|f| f.body.iter().flatten())
        .filter(|item| matches!(item, Item::Statement(s) if s.opcode != "call"))
        .flat_map(mentioned);
    tables.chain(named).filter_map(|name| places.get(name).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of `functions` may call themselves, in the order of their names.
    fn found(functions: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let text = format!(".version 8.3\n.target sm_90\n.address_size 64\n{functions}");
        let module = crate::syntax::parser::parse(&text, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        let all: Vec<&Function> = module.functions.iter().filter(|f| f.body.is_some()).collect();
        let mut names: Vec<String> = recursive(&all, &module).into_iter().collect();
        names.sort();
        names
    }

    #[test]
    fn only_functions_on_a_circle_of_calls_are_recursive() {
        assert_eq!(
            found(".func a() { ret; } .func b() { call a; ret; } .func c() { call b; call a; ret; }"),
            [""; 0]
        );
        // What leads to a circle, and what it leads to, is not on it.
        let circle = ".func b(); .func z() { ret; } .func a() { call b; call z; ret; } .func b() { call a; ret; } .func c() { call a; ret; }";
        assert_eq!(found(circle), ["a", "b"]);
        assert_eq!(found(".func a() { call a; ret; }"), ["a"]);
    }

    #[test]
    fn a_call_by_address_goes_where_an_address_leads() {
        let text = |table: &str, call: &str| {
            format!(
                ".func f(.param .b64 n); {table} .func f(.param .b64 n) {{ .reg .b64 %a; .param .b64 x; {call} ret; }}
                .func g() {{ .reg .b64 %a; .param .b64 x; call %a, (x), P; P: .callprototype _ (.param .b64 _); ret; }}"
            )
        };
        let (table, call) =
            (".global .u64 t[1] = {f};", "call %a, (x), P; P: .callprototype _ (.param .b64 _);");
        assert_eq!(found(&text(table, call)), ["f"]);
        // Nobody takes its address, or it takes another number of parameters, or it does not call.
        assert_eq!(found(&text("", call)), [""; 0]);
        assert_eq!(
            found(&text(table, "call %a, (x, x), P; P: .callprototype _ (.param .b64 _, .param .b64 _);")),
            [""; 0]
        );
        assert_eq!(found(&text(table, "")), [""; 0]);
        // By a move.
        assert_eq!(found(&text("", &format!("mov.u64 %a, f; {call}"))), ["f"]);
        // An entry that has the name of what it calls, which is a function of the emulator.
        assert_eq!(
            found(
                ".extern .func free(.param .b64 p); .visible .entry free() { .param .b64 x; call free, (x); ret; }"
            ),
            [""; 0]
        );
        // A function of the emulator is no address.
        let print = ".extern .func vprintf(.param .b64 n); ".to_string();
        assert_eq!(found(&(print + &text(table, "call vprintf, (x);"))), [""; 0]);
    }
}
