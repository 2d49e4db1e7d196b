//! Text to syntax: tokens, then statements split into opcode, modifiers and operands with no knowledge of any instruction.

pub(crate) mod ast;
pub(crate) mod lexer;
mod operand;
pub(crate) mod parser;
pub(crate) mod types;
mod variable;
