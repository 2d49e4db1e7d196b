//! `tensormap`: maps that a kernel makes or changes.

use super::bulk::listed;
use super::data::scope;
use super::function::{Decoded, FunctionDecoder, operands};
use super::modifiers::Modifiers;
use crate::ops::memory::{GENERIC, GLOBAL, SHARED, WRITES};
use crate::ops::pick;
use crate::ops::tensor::{CopyMap, MapFence, ReplaceField};
use crate::syntax::ast::{Operand, Statement};
use crate::syntax::types::{Space, Type};
use crate::tensor_map::{FIELDS, MAX_RANK};

impl FunctionDecoder<'_, '_> {
    /// Decodes the statement if it changes or copies a map.
    pub(super) fn tensormap(&mut self, s: &Statement) -> Decoded<bool> {
        if s.opcode != "tensormap" {
            return Ok(false);
        }
        let mut m = Modifiers::of(s);
        match m.want(&["replace", "cp_fenceproxy"])? {
            "replace" => self.replace_field(s, m)?,
            _ => self.copy_map(s, m)?,
        }
        Ok(true)
    }

    /// `fence.proxy.tensormap::generic.release.SCOPE` and `.acquire.SCOPE [addr], 128`.
    pub(super) fn map_fence(&mut self, s: &Statement) -> Decoded {
        let mut m = Modifiers::of(s);
        m.want(&["proxy"])?;
        m.want(&["tensormap::generic"])?;
        let acquires = m.want(&["release", "acquire"])? == "acquire";
        m.want(&["cta", "cluster", "gpu", "sys"])?;
        m.end()?;
        let mut instr = if acquires {
            let [address, Operand::Int(128)] = operands(s)? else {
                return Err("a tensor map has 128 bytes".into());
            };
            let address = self.address_in(Space::Generic, address)?;
            self.memory_instr(pick::<MapFence>(), &address, &[])
        } else {
            let [] = operands(s)?;
            self.blank(pick::<MapFence>())
        };
        (instr.c, instr.d) = (scope(s), acquires.into());
        self.emit(instr);
        Ok(())
    }

    /// `.tile.FIELD{.SPACE}.b1024.TYPE [addr]{, ordinal}, value`.
    fn replace_field(&mut self, s: &Statement, mut m: Modifiers) -> Decoded {
        m.want(&["tile"])?;
        let name = m.want(&FIELDS)?;
        let field = FIELDS.iter().position(|f| *f == name).unwrap_or(0);
        let space = match m.take(&["global", "shared::cta"]) {
            Some("global") => GLOBAL,
            Some(_) => SHARED,
            None => GENERIC,
        };
        m.want(&["b1024"])?;
        let ty =
            m.want(&[if ["global_address", "global_stride"].contains(&name) { "b64" } else { "b32" }])?;
        m.end()?;
        let by_dimension = ["box_dim", "global_dim", "global_stride", "element_stride"].contains(&name);
        let (address, ordinal, value) = match s.operands.as_slice() {
            [address, Operand::Int(ordinal), value] if by_dimension => (address, *ordinal, value),
            [address, value] if !by_dimension => (address, 0, value),
            _ => {
                return Err(format!(
                    "`{}` takes an address, {}a value",
                    s.mnemonic(),
                    if by_dimension { "a constant ordinal and " } else { "" }
                ));
            }
        };
        let dimensions = MAX_RANK as i64 - i64::from(name == "global_stride");
        if !(0..dimensions).contains(&ordinal) {
            return Err(format!("the ordinal {ordinal} of `{name}`; 0 to {} are possible", dimensions - 1));
        }
        // PTX manual: these are immediate operands.
        let constant = ["elemtype", "interleave_layout", "swizzle_mode", "fill_mode"].contains(&name);
        if constant && !matches!(value, Operand::Int(_)) {
            return Err(format!("the value of `{name}` must be a constant"));
        }
        let address = self.address(s, address)?;
        if address.parameter.is_some() {
            return Err("the parameters of a kernel cannot be written".into());
        }
        let value = self.src(value, if ty == "b64" { Type::B64 } else { Type::U32 })?;
        let value = if ty == "b64" { value } else { self.widened(value) };
        let mut instr = self.memory_instr(pick::<ReplaceField>(), &address, &[]);
        instr.n |= WRITES;
        (instr.b, instr.c, instr.d, instr.e) = (value, field as u32, ordinal as u32, space.into());
        self.emit(instr);
        Ok(())
    }

    /// `.global.shared::cta.tensormap::generic.release.SCOPE.sync.aligned [dst], [src], 128`.
    fn copy_map(&mut self, s: &Statement, mut m: Modifiers) -> Decoded {
        for wanted in ["global", "shared::cta", "tensormap::generic", "release"] {
            m.want(&[wanted])?;
        }
        m.want(&["cta", "cluster", "gpu", "sys"])?;
        m.want(&["sync"])?;
        m.want(&["aligned"])?;
        m.end()?;
        let [to, from, Operand::Int(128)] = operands(s)? else {
            return Err("a tensor map has 128 bytes".into());
        };
        let (to, from) = (self.address_in(Space::Global, to)?, self.address_in(Space::Shared, from)?);
        let mut list = vec![0; 8];
        listed(&mut list, &to);
        listed(&mut list[4..], &from);
        let mut instr = self.blank(pick::<CopyMap>());
        (instr.b, instr.slot, instr.n) = (self.list(&list), self.cache(), scope(s));
        self.emit(instr);
        Ok(())
    }
}
