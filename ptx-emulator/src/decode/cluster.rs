//! Clusters: their barrier, addresses in other blocks; registers that warps give one another.

use super::function::{Decoded, FunctionDecoder, operands};
use super::modifiers::Modifiers;
use crate::ops::cluster::{ClusterArrive, ClusterWait, GetRank, MapRank};
use crate::ops::control::ALIGNED;
use crate::ops::mbarrier_ops::RELAXED;
use crate::ops::memory::{GENERIC, SHARED};
use crate::ops::pick;
use crate::ops::registers::SetRegisters;
use crate::syntax::ast::{Operand, Statement};
use crate::syntax::types::Type;

impl FunctionDecoder<'_, '_> {
    /// Decodes the statement if it is one of these.
    pub(super) fn cluster(&mut self, s: &Statement) -> Decoded<bool> {
        let mut m = Modifiers::of(s);
        match s.opcode.as_str() {
            "barrier" if s.has("cluster") => {
                m.want(&["cluster"])?;
                let [] = operands(s)?;
                let (run, relaxed) = if m.want(&["arrive", "wait"])? == "wait" {
                    m.has("acquire");
                    (pick::<ClusterWait>(), false)
                } else {
                    let relaxed = m.take(&["release", "relaxed"]) == Some("relaxed");
                    (pick::<ClusterArrive>(), relaxed)
                };
                let aligned = m.has("aligned");
                m.end()?;
                let mut instr = self.blank(run);
                (instr.n, instr.c) = (u32::from(aligned) * ALIGNED, u32::from(relaxed) * RELAXED);
                self.emit(instr);
            }
            "mapa" | "getctarank" => self.map_rank(s, m)?,
            "setmaxnreg" => {
                let more = m.want(&["inc", "dec"])? == "inc";
                m.want(&["sync"])?;
                m.want(&["aligned"])?;
                m.want(&["u32"])?;
                m.end()?;
                let [Operand::Int(count)] = operands(s)? else {
                    return Err("`setmaxnreg` takes a constant number of registers".into());
                };
                if !(24..=256).contains(count) || count % 8 != 0 {
                    return Err(format!("{count} registers; multiples of 8 from 24 to 256 are possible"));
                }
                let mut instr = self.blank(pick::<SetRegisters>());
                (instr.n, instr.d) = (*count as u32, u32::from(more));
                self.emit(instr);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `mapa{.shared::cluster}.TYPE d, a, rank` and `getctarank{.shared::cluster}.TYPE d, a`.
    fn map_rank(&mut self, s: &Statement, mut m: Modifiers) -> Decoded {
        let shared = m.has("shared::cluster");
        let ty = if m.want(&["u32", "u64"])? == "u64" { Type::U64 } else { Type::U32 };
        m.end()?;
        let maps = s.opcode == "mapa";
        let run = if maps { pick::<MapRank>() } else { pick::<GetRank>() };
        let (d, a, rank) = match (s.operands.as_slice(), maps) {
            ([d, a, rank], true) => (d, a, Some(rank)),
            ([d, a], false) => (d, a, None),
            _ => return Err(format!("`{}` takes {} operands", s.opcode, if maps { 3 } else { 2 })),
        };
        let mut instr = self.blank(run);
        instr.a = self.src(a, ty)?;
        if let Some(rank) = rank {
            instr.b = self.src(rank, Type::U32)?;
        }
        instr.d = self.dst(d, if maps { ty } else { Type::U32 })?;
        instr.n = u32::from(ty == Type::U64);
        instr.e = if shared { SHARED } else { GENERIC }.into();
        self.emit(instr);
        Ok(())
    }
}
