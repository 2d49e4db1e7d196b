//! Functions that may call themselves: each call has an activation of its own on the thread's stack, as under PTX's ABI.
//!
//! All functions have their registers in the warp's one file. One that may be called while it runs puts the values that it finds in its
//! registers on the stack when it is entered, and takes them back when it returns, so that the activation outside it goes on with its own. Its
//! variables, parameters and results lie on the stack too, by their distance from a register, so that addresses of those of the
//! activations outside stay good. Parameters and results are handed over at the places of [`super::Formals`].

use super::frame::Class;
use super::function::{Decoded, Edge, FunctionDecoder};
use super::stack::Stack;
use crate::ops::activation::{Enter, ReturnRestoring};
use crate::ops::int::Add;
use crate::ops::lanes::M2;
use crate::ops::pick;
use crate::syntax::types::Space;

/// How a function's activations are laid out, and which registers they keep.
#[derive(Clone, Debug)]
pub(crate) struct Activation {
    pub name: String,
    /// The function's place in the module.
    pub number: u32,
    /// The register of 32 bits that holds the first free byte of the stack, and the stack's end.
    pub top: u32,
    pub end: u32,
    /// The register of 64 bits with the address of the innermost activation.
    pub base: u32,
    /// The register of 32 bits with how many activations of the function there are.
    pub depth: u32,
    /// Bytes and alignment of the variables, which come first.
    pub variables: u64,
    pub align: u64,
    /// The registers that come after them, and after 4 bytes for the stack's top.
    pub registers: Vec<(u32, Class)>,
}

impl Activation {
    /// Bytes of one, and where its registers begin.
    pub(crate) fn size(&self) -> u64 {
        let registers: u64 = self.registers.iter().map(|&(_, class)| kept(class)).sum();
        self.kept_top() + 4 + registers
    }

    /// Where the stack's top lies that it found.
    pub(crate) fn kept_top(&self) -> u64 {
        self.variables.next_multiple_of(4)
    }
}

/// Bytes that one lane of a register takes on the stack.
pub(crate) fn kept(class: Class) -> u64 {
    if class == Class::Long { 8 } else { 4 }
}

/// A place in a thread's local memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// The same in every activation.
    Fixed(u64),
    /// So many bytes from the beginning of the innermost one.
    Own(u64),
}

impl Place {
    pub(super) fn beyond(self, bytes: u64) -> Place {
        match self {
            Place::Fixed(at) => Place::Fixed(at + bytes),
            Place::Own(at) => Place::Own(at + bytes),
        }
    }
}

impl FunctionDecoder<'_, '_> {
    /// Decodes the entrance of a function that may be called while it runs.
    pub(super) fn enter(&mut self, name: &str) -> Decoded {
        if !self.context.recursive.contains(name) {
            return Ok(());
        }
        let Stack { top, end, .. } = self.the_stack()?;
        let frame = &mut self.context.frame;
        let (base, depth) = (frame.register(Class::Long), frame.beginning_with(0));
        let number = self.context.numbers.get(name).copied().ok_or("the function was not found")?;
        self.activation = Some(Activation {
            name: name.into(),
            number,
            top,
            end,
            base,
            depth,
            variables: 0,
            align: 16,
            registers: vec![(base, Class::Long), (depth, Class::Word)],
        });
        self.mnemonic = self.number_of("call".into());
        let mut instr = self.blank(pick::<Enter>());
        instr.n = self.context.activations.len() as u32;
        self.emit(instr);
        Ok(())
    }

    /// Returns from such a function.
    pub(super) fn return_restoring(&mut self) {
        let mut instr = self.blank(pick::<ReturnRestoring>());
        instr.n = self.context.activations.len() as u32;
        self.emit_edge(instr, Edge::End);
    }

    /// A new variable's place in local memory: in the activation, where the function has one.
    pub(super) fn local_place(&mut self, size: u64, align: u64) -> u64 {
        let Some(activation) = &mut self.activation else { return self.context.local(size, align) };
        let at = activation.variables.next_multiple_of(align.max(1));
        activation.variables = at + size;
        activation.align = activation.align.max(align);
        at
    }

    /// Where a local variable of the function is.
    pub(super) fn place_of(&self, address: u64) -> Place {
        if self.activation.is_some() { Place::Own(address) } else { Place::Fixed(address) }
    }

    /// The register from which a variable's place counts, if it counts from one.
    pub(super) fn base_of(&self, space: Space) -> Option<u32> {
        self.activation.as_ref().filter(|_| space == Space::Local).map(|a| a.base)
    }

    /// A register with the sum of a base and a distance.
    pub(super) fn beyond(&mut self, base: u32, distance: u64) -> u32 {
        let (distance, sum) = (self.context.frame.constant(Class::Long, distance), self.temp(Class::Long));
        let after = self.pending();
        self.emit_op(pick::<M2<Add<u64>>>(), sum, &[base, distance]);
        self.restore(after);
        sum
    }
}
