//! `mbarrier` and `cp.async.mbarrier.arrive`.

use super::function::{Decoded, FunctionDecoder, operands};
use super::modifiers::Modifiers;
use crate::ops::mbarrier_ops::{
    Arrive, CopiesArrive, DROPS, EXPECTS, ExpectBytes, INCREMENTS, Init, Invalidate, NO_COMPLETE, PARITY,
    PendingCount, RELAXED, REMOTE, Wait,
};
use crate::ops::memory::{GENERIC, SHARED, WRITES};
use crate::ops::{Instr, Run, pick};
use crate::syntax::ast::{Operand, Statement};
use crate::syntax::types::{Space, Type};

const OWN: [&str; 2] = ["shared", "shared::cta"];
const ANY: [&str; 3] = ["shared", "shared::cta", "shared::cluster"];

impl FunctionDecoder<'_, '_> {
    /// Decodes the statement if it is one of these.
    pub(super) fn mbarrier(&mut self, s: &Statement) -> Decoded<bool> {
        let mut m = Modifiers::of(s);
        match s.opcode.as_str() {
            "mbarrier" => match m.next()? {
                "init" => self.mbarrier_init(s, m)?,
                "inval" => {
                    let [address] = operands(s)?;
                    let invalidate = self.barrier_instr(pick::<Invalidate>(), &mut m, &OWN, address)?;
                    self.emit(invalidate);
                }
                kind @ ("expect_tx" | "complete_tx") => self.expect_bytes(s, m, kind == "complete_tx")?,
                kind @ ("arrive" | "arrive_drop") => self.mbarrier_arrive(s, m, kind == "arrive_drop")?,
                "test_wait" | "try_wait" => self.mbarrier_wait(s, m)?,
                "pending_count" => {
                    m.want(&["b64"])?;
                    m.end()?;
                    let [d, state] = operands(s)?;
                    let (state, d) = (self.src(state, Type::B64)?, self.dst(d, Type::U32)?);
                    self.emit_op(pick::<PendingCount>(), d, &[state]);
                }
                _ => return Err(m.unknown()),
            },
            "st" if s.has("async") => self.store_async(s, m)?,
            "red" if s.has("async") => self.reduce_async(s)?,
            "cp" if s.has("mbarrier") => {
                m.want(&["async"])?;
                m.want(&["mbarrier"])?;
                m.want(&["arrive"])?;
                let increments = !m.has("noinc");
                let [address] = operands(s)?;
                let mut instr = self.barrier_instr(pick::<CopiesArrive>(), &mut m, &OWN, address)?;
                instr.c |= if increments { INCREMENTS } else { 0 };
                self.emit(instr);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `.SPACE.b64` and the address: what all of them end with.
    fn barrier_instr(
        &mut self,
        run: Run,
        m: &mut Modifiers,
        spaces: &[&str],
        address: &Operand,
    ) -> Decoded<Instr> {
        let space = m.take(spaces);
        m.want(&["b64"])?;
        m.end()?;
        let address =
            self.address_in(if space.is_some() { Space::Shared } else { Space::Generic }, address)?;
        let mut instr = self.memory_instr(run, &address, &[]);
        instr.e = match address.space {
            Space::Shared => SHARED,
            Space::Generic => GENERIC,
            other => return Err(format!("an mbarrier in {} memory", other.name())),
        }
        .into();
        let remote = spaces.contains(&"shared::cluster") && matches!(space, None | Some("shared::cluster"));
        instr.c = if remote { REMOTE } else { 0 };
        Ok(instr)
    }

    /// `st.async{.weak}{.shared::cluster}.mbarrier::complete_tx::bytes{.VECTOR}.TYPE [a], b, [mbar]`: here the store is carried out at
    /// once, and its bytes are reported by the thread itself, so that a phase orders it as the device does.
    fn store_async(&mut self, s: &Statement, mut m: Modifiers) -> Decoded {
        m.want(&["async"])?;
        m.has("weak");
        m.has("shared::cluster");
        m.want(&["mbarrier::complete_tx::bytes"])?;
        let count = match m.take(&["v2", "v4"]) {
            Some("v2") => 2,
            Some(_) => 4,
            None => 1,
        };
        let ty = m.want(&["b32", "u32", "s32", "f32", "b64", "u64", "s64", "f64"])?;
        let ty = Type::parse(ty).ok_or_else(|| m.unknown())?;
        m.end()?;
        if count == 4 && ty.size() == 8 {
            return Err(m.unknown());
        }
        let [address, source, barrier] = operands(s)?;
        let mut list = Vec::new();
        for element in super::matrix::parts(source, count, "b")? {
            list.push(self.src(element, ty)?);
        }
        let to = self.address_in(Space::Shared, address)?;
        let to = super::data::Address { cluster: true, ..to };
        let mut store = self.memory_instr(super::data::store_run(ty, Space::Shared)?, &to, &list);
        store.n |= WRITES;
        self.emit(store);
        self.complete_bytes(barrier, count as u64 * ty.size())
    }

    /// `red.async.relaxed.cluster{.shared::cluster}.mbarrier::complete_tx::bytes.OP.TYPE [a], b, [mbar]`: carried out as `st.async` is.
    fn reduce_async(&mut self, s: &Statement) -> Decoded {
        let [address, source, barrier] = operands(s)?;
        let ty = super::function::type_of(s)?;
        let source = self.src(source, ty)?;
        let to = self.address_in(Space::Shared, address)?;
        let to = super::data::Address { cluster: true, ..to };
        let reduction = self.atomic_instr(s, ty, &to, &[[0, source, source]])?;
        self.emit(Instr { e: SHARED.into(), ..reduction });
        self.complete_bytes(barrier, ty.size())
    }

    /// What the thread itself has stored in another block counts at that block's barrier.
    fn complete_bytes(&mut self, barrier: &Operand, bytes: u64) -> Decoded {
        let barrier = self.address_in(Space::Shared, barrier)?;
        let mut complete = self.memory_instr(pick::<ExpectBytes>(), &barrier, &[]);
        (complete.e, complete.c, complete.d) = (SHARED.into(), REMOTE, 1);
        complete.b = self.src(&Operand::Int(bytes as i64), Type::U32)?;
        self.emit(complete);
        Ok(())
    }

    /// `{.SEMANTICS}{.SCOPE}`: the flag of those that order no memory.
    fn order(m: &mut Modifiers, semantics: &[&str]) -> u32 {
        let relaxed = m.take(semantics) == Some("relaxed");
        let _ = m.take(&["cta", "cluster"]);
        u32::from(relaxed) * RELAXED
    }

    fn mbarrier_init(&mut self, s: &Statement, mut m: Modifiers) -> Decoded {
        let [address, count] = operands(s)?;
        let mut instr = self.barrier_instr(pick::<Init>(), &mut m, &OWN, address)?;
        instr.b = self.src(count, Type::U32)?;
        self.emit(instr);
        Ok(())
    }

    fn expect_bytes(&mut self, s: &Statement, mut m: Modifiers, completes: bool) -> Decoded {
        // All of them are relaxed (PTX manual, "mbarrier.complete_tx").
        let _ = Self::order(&mut m, &["relaxed"]);
        let [address, bytes] = operands(s)?;
        let mut instr = self.barrier_instr(pick::<ExpectBytes>(), &mut m, &ANY, address)?;
        (instr.b, instr.d) = (self.src(bytes, Type::U32)?, u32::from(completes));
        instr.c |= RELAXED;
        self.emit(instr);
        Ok(())
    }

    /// `mbarrier.arrive{_drop}{.expect_tx | .noComplete}{.SEM}{.SCOPE}{.SPACE}.b64 state | _, [a]{, count | bytes}`.
    fn mbarrier_arrive(&mut self, s: &Statement, mut m: Modifiers, drops: bool) -> Decoded {
        let mut flags = if drops { DROPS } else { 0 };
        match m.take(&["expect_tx", "noComplete"]) {
            Some("expect_tx") => flags |= EXPECTS,
            Some(_) => flags |= NO_COMPLETE,
            None => {}
        }
        flags |= Self::order(&mut m, &["release", "relaxed"]);
        let (state, address, count) = match s.operands.as_slice() {
            [state, address] if flags & (EXPECTS | NO_COMPLETE) == 0 => (state, address, &Operand::Int(1)),
            [state, address, count] => (state, address, count),
            _ => return Err(format!("`{}` takes a state, an address and a count", s.mnemonic())),
        };
        // PTX manual: before sm_90 only arrivals with `.noComplete` count more than one, and all give a state.
        if flags & NO_COMPLETE == 0 && s.operands.len() == 3 {
            self.needs(90, &format!("`{}` with a count", s.mnemonic()))?;
        }
        let sink = *state == Operand::Name("_".into());
        let mut instr = self.barrier_instr(pick::<Arrive>(), &mut m, &ANY, address)?;
        if instr.c & REMOTE != 0 && s.has("shared::cluster") && !sink {
            return Err(
                "an arrival at an mbarrier in `.shared::cluster` gives no state: the target is `_`".into()
            );
        }
        instr.b = self.src(count, Type::U32)?;
        instr.d = if sink { 0 } else { self.dst(state, Type::B64)? };
        instr.c |= flags;
        self.emit(instr);
        Ok(())
    }

    /// `mbarrier.{test,try}_wait{.parity}{.SEM}{.SCOPE}{.SPACE}.b64 done, [a], state | parity{, hint}`.
    fn mbarrier_wait(&mut self, s: &Statement, mut m: Modifiers) -> Decoded {
        let parity = m.has("parity");
        let relaxed = Self::order(&mut m, &["acquire", "relaxed"]);
        if s.operands.first() == Some(&Operand::Name("_".into())) {
            return Err(format!("`{}` wants a predicate", s.mnemonic()));
        }
        let (done, address, wanted) = match s.operands.as_slice() {
            [done, address, wanted] => (done, address, wanted),
            [done, address, wanted, hint] if s.has("try_wait") => {
                // How long a thread may sleep changes no result.
                self.src(hint, Type::U32)?;
                (done, address, wanted)
            }
            _ => return Err(format!("`{}` takes a predicate, an address and a phase", s.mnemonic())),
        };
        if let (true, Operand::Int(phase)) = (parity, wanted)
            && !(0..=1).contains(phase)
        {
            return Err(format!("the parity of a phase is 0 or 1, not {phase}"));
        }
        let mut instr = self.barrier_instr(pick::<Wait>(), &mut m, &OWN, address)?;
        instr.b = self.src(wanted, if parity { Type::U32 } else { Type::B64 })?;
        instr.d = self.dst(done, Type::Pred)?;
        instr.c |= if parity { PARITY | relaxed } else { relaxed };
        self.emit(instr);
        Ok(())
    }
}
