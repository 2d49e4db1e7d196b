//! For the checks: which registers belong to products that have not been waited for.
//!
//! No thread may touch them before the wait. Products that have them in their accumulators are ordered by themselves where they are of one shape,
//! and by `wgmma.fence` otherwise (PTX manual, "Asynchronous warpgroup level matrix instructions: wgmma.fence" and "wgmma.mma_async").

use super::{Instr, shape_of};
use crate::error::Fault;
use crate::ops::Cx;
use std::collections::{HashMap, HashSet};

/// How products own a register: the place in the program of the last one that has it, the fences before that one, how many have it, and the
/// shape of the last that has it in its accumulator.
#[derive(Default)]
struct Owned {
    at: u32,
    fences: u32,
    count: u32,
    sum: Option<(u32, u32)>,
}

/// The registers that products own, and those that were written since the last `wgmma.fence`.
#[derive(Default)]
pub(super) struct Watch {
    owned: HashMap<u32, Owned>,
    written: HashSet<u32>,
    /// How often `wgmma.fence` was executed.
    fences: u32,
}

impl Watch {
    /// A product begins: its registers, accumulators first. The error has the place of the other product, if there is one.
    pub(super) fn begin(
        &mut self,
        i: &Instr,
        sums: &[u32],
        a: &[u32],
        reads_sums: bool,
    ) -> Result<(), (String, Option<u32>)> {
        let read = a.iter().chain(if reads_sums { sums } else { &[] });
        if self.fences == 0 || read.clone().any(|r| self.written.contains(r)) {
            let what = "no `wgmma.fence` between a write of the product's registers and the product";
            return Err((what.into(), None));
        }
        let shape = shape_of(i);
        let unordered = |o: &&Owned| o.sum != Some(shape) && o.fences == self.fences;
        if let Some(owned) = sums.iter().find_map(|r| self.owned.get(r).filter(unordered)) {
            let name = |(n, k): (u32, u32)| format!("m64n{n}k{k}");
            let whose = match owned.sum {
                Some(other) => format!("a register of the accumulator, of another shape ({}),", name(other)),
                None => "a register of the multiplicand A".into(),
            };
            let what = format!(
                "the accumulator of a product of {} has {whose} of a product that has not been waited for, with no `wgmma.fence` between: the `wgmma`",
                name(shape)
            );
            return Err((what, Some(owned.at)));
        }
        for (registers, sum) in [(a, None), (sums, Some(shape))] {
            for &register in registers {
                let owned = self.owned.entry(register).or_default();
                (owned.at, owned.fences, owned.count) = (i.at, self.fences, owned.count + 1);
                owned.sum = sum.or(owned.sum);
            }
        }
        Ok(())
    }

    /// A product is over.
    pub(super) fn end(&mut self, registers: &[u32]) {
        for register in registers {
            if let Some(owned) = self.owned.get_mut(register) {
                owned.count -= 1;
                if owned.count == 0 {
                    self.owned.remove(register);
                }
            }
        }
    }

    /// What was written before is ordered before the products to come.
    pub(super) fn fence(&mut self) {
        self.fences += 1;
        self.written.clear();
    }
}

/// For the checks: an instruction touches registers of products. False if the fault is set.
pub(crate) fn watch(cx: &mut Cx, touched: &[(u32, bool)], m: u32) -> bool {
    let watch = &mut cx.products[cx.warp_in_cluster as usize].watch;
    for &(register, writes) in touched {
        match watch.owned.get(&register) {
            Some(owned) if owned.sum.is_some() || writes => {
                let verb = if writes { "write" } else { "read" };
                let what = if owned.sum.is_some() { "the accumulator" } else { "the multiplicand A" };
                let what = format!(
                    "{verb} of a register of {what} of a product that has not been waited for: the `wgmma`"
                );
                cx.fault = Some(Fault { lane: m.trailing_zeros(), what, other: Some(owned.at) });
                return false;
            }
            _ if writes => drop(watch.written.insert(register)),
            _ => {}
        }
    }
    true
}
