//! `cp.async.bulk`, `cp.reduce.async.bulk` and their tensor forms.

use super::data::Address;
use super::function::{Decoded, FunctionDecoder, operands};
use super::modifiers::Modifiers;
use crate::ops::atomic;
use crate::ops::bulk::{
    BulkCopy, CommitBulk, FROM_SHARED, MULTICAST, PREFETCHES, REDUCES, TENSOR, TO_CLUSTER, TO_SHARED,
    WaitBulk,
};
use crate::ops::{control, pick};
use crate::syntax::ast::{Operand, Statement};
use crate::syntax::types::{Space, Type};

const REDUCTIONS: [&str; 8] = ["add", "min", "max", "inc", "dec", "and", "or", "xor"];

impl FunctionDecoder<'_, '_> {
    /// Decodes the statement if it is one of these.
    pub(super) fn bulk(&mut self, s: &Statement) -> Decoded<bool> {
        let mut m = Modifiers::of(s);
        match s.opcode.as_str() {
            "cp" if s.has("bulk") => {
                let reduces = m.has("reduce");
                m.want(&["async"])?;
                m.want(&["bulk"])?;
                match m.take(&["commit_group", "wait_group", "prefetch", "tensor"]) {
                    Some("commit_group") => {
                        m.end()?;
                        let [] = operands(s)?;
                        let commit = self.blank(pick::<CommitBulk>());
                        self.emit(commit);
                    }
                    Some("wait_group") => self.wait_bulk(s, m)?,
                    Some("prefetch") if m.has("tensor") => self.bulk_tensor(s, m, false, true)?,
                    Some("prefetch") => self.bulk_prefetch(s, m)?,
                    Some(_) => self.bulk_tensor(s, m, reduces, false)?,
                    None => self.bulk_linear(s, m, reduces)?,
                }
            }
            "prefetch" if s.has("tensormap") => {
                let [address] = operands(s)?;
                self.address_in(Space::Generic, address)?;
                let nothing = self.blank(pick::<control::Next>());
                self.emit(nothing);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn wait_bulk(&mut self, s: &Statement, mut m: Modifiers) -> Decoded {
        let reads = m.has("read");
        m.end()?;
        let [Operand::Int(n @ 0..=0x7fff_ffff)] = operands(s)? else {
            return Err("`cp.async.bulk.wait_group` takes a constant number of groups".into());
        };
        let mut instr = self.blank(pick::<WaitBulk>());
        (instr.n, instr.c) = (*n as u32, u32::from(reads));
        self.emit(instr);
        Ok(())
    }

    /// `.L2.global{.L2::cache_hint} [src], size{, policy}`.
    fn bulk_prefetch(&mut self, s: &Statement, mut m: Modifiers) -> Decoded {
        m.want(&["L2"])?;
        m.want(&["global"])?;
        m.has("L2::cache_hint");
        m.end()?;
        let [source, size] = self.without_policy(s, 2)? else {
            return Err(format!("`{}` takes an address and a size", s.mnemonic()));
        };
        let source = self.address_in(Space::Global, source)?;
        let mut list = vec![0; 14];
        listed(&mut list[4..], &source);
        list[12] = self.src(size, Type::U32)?;
        self.emit_bulk(PREFETCHES, &list);
        Ok(())
    }

    /// `.DST.SRC.COMPLETION{.multicast::cluster}{.L2::cache_hint}{.OP.TYPE} [dst], [src], size{, [mbar]}{, mask}{, policy}`.
    fn bulk_linear(&mut self, s: &Statement, mut m: Modifiers, reduces: bool) -> Decoded {
        let to = m.want(&["shared::cluster", "shared::cta", "global"])?;
        let from = m.want(&["global", "shared::cta"])?;
        let to_shared = to != "global";
        let possible = matches!(
            (to, from, reduces),
            ("shared::cluster" | "shared::cta", "global", false)
                | ("shared::cluster" | "global", "shared::cta", _)
        );
        if !possible {
            return Err(m.unknown());
        }
        m.want(&[if to_shared { "mbarrier::complete_tx::bytes" } else { "bulk_group" }])?;
        let multicast = to == "shared::cluster" && from == "global" && m.has("multicast::cluster");
        m.has("L2::cache_hint");
        let mut flags = if to_shared { TO_SHARED } else { 0 } | if multicast { MULTICAST } else { 0 };
        flags |= if to == "shared::cluster" { TO_CLUSTER } else { 0 };
        let reduction = if reduces { Some(reduction(&mut m, to_shared)?) } else { None };
        m.end()?;
        let wrong = || format!("`{}` has operands that it cannot have", s.mnemonic());
        let least = 3 + usize::from(to_shared) + usize::from(multicast);
        let (dst, src, size, rest) = match self.without_policy(s, least)? {
            [dst, src, size, rest @ ..] => (dst, src, size, rest),
            _ => return Err(wrong()),
        };
        let mut list = vec![0; 14];
        let (shared, other) = if to_shared { (dst, src) } else { (src, dst) };
        let shared = self.address_in(Space::Shared, shared)?;
        let space = if to_shared && from != "global" { Space::Shared } else { Space::Global };
        flags |= if space == Space::Shared { FROM_SHARED } else { 0 };
        let other = self.address_in(space, other)?;
        if shared.space != Space::Shared || !(other.space == space || other.space == Space::Const) {
            return Err(wrong());
        }
        listed(&mut list, &shared);
        listed(&mut list[4..], &other);
        if let Operand::Int(size) = size
            && size % 16 != 0
        {
            return Err(format!("a bulk copy of {size} bytes; it has a multiple of 16"));
        }
        list[12] = self.src(size, Type::U32)?;
        self.barrier_and_mask(rest, to_shared, multicast, &mut list).ok_or_else(wrong)??;
        self.emit_reducing(flags, &list, reduction);
        Ok(())
    }

    /// The operands of a copy that reports to an mbarrier; None where there are others.
    fn barrier_and_mask(
        &mut self,
        rest: &[Operand],
        barrier: bool,
        mask: bool,
        list: &mut [u32],
    ) -> Option<Decoded> {
        let (barrier, mask) = match (rest, barrier, mask) {
            ([], false, false) => return Some(Ok(())),
            ([barrier], true, false) => (barrier, None),
            ([barrier, mask], true, true) => (barrier, Some(mask)),
            _ => return None,
        };
        let place = match self.address_in(Space::Shared, barrier) {
            Ok(place) => place,
            Err(what) => return Some(Err(what)),
        };
        listed(&mut list[8..], &place);
        if let Some(mask) = mask {
            match self.src(mask, Type::B16) {
                Ok(register) => list[13] = register,
                Err(what) => return Some(Err(what)),
            }
        }
        Some(Ok(()))
    }

    /// `.DIM.DST.SRC{.OP}{.tile}.COMPLETION{.multicast::cluster}{.L2::cache_hint}` of a box: `[dst], [map, {…}], [mbar]…`,
    /// `[map, {…}], [src]…`, or for a prefetch `[map, {…}]`.
    fn bulk_tensor(&mut self, s: &Statement, mut m: Modifiers, reduces: bool, prefetches: bool) -> Decoded {
        let rank = ["1d", "2d", "3d", "4d", "5d"];
        let dimension = m.want(&rank)?;
        let rank = rank.iter().position(|d| *d == dimension).unwrap_or(0) + 1;
        let (mut flags, mut to_shared, mut reduction) = (TENSOR, false, None);
        if prefetches {
            m.want(&["L2"])?;
            m.want(&["global"])?;
            flags |= PREFETCHES;
        } else {
            let to = m.want(&["shared::cluster", "shared::cta", "global"])?;
            to_shared = to != "global";
            m.want(&[if to_shared { "global" } else { "shared::cta" }])?;
            flags |=
                if to_shared { TO_SHARED } else { 0 } | if to == "shared::cluster" { TO_CLUSTER } else { 0 };
            if reduces && to_shared {
                return Err(m.unknown());
            }
            if reduces {
                // The type is the map's.
                reduction = Some(operation(&mut m)?);
            }
        }
        m.has("tile");
        let mut multicast = false;
        if !prefetches {
            m.want(&[if to_shared { "mbarrier::complete_tx::bytes" } else { "bulk_group" }])?;
            multicast = to_shared && m.has("multicast::cluster");
            flags |= if multicast { MULTICAST } else { 0 };
        }
        m.has("L2::cache_hint");
        m.end()?;
        let wrong = || format!("`{}` has operands that it cannot have", s.mnemonic());
        let least = 2 - usize::from(prefetches) + usize::from(to_shared) + usize::from(multicast);
        let given = self.without_policy(s, least)?;
        let (shared, map, rest) = match given {
            [map] if prefetches => (None, map, [].as_slice()),
            [dst, map, rest @ ..] if to_shared => (Some(dst), map, rest),
            [map, src] if !to_shared && !prefetches => (Some(src), map, [].as_slice()),
            _ => return Err(wrong()),
        };
        let Operand::Bracket(parts) = map else { return Err(wrong()) };
        let [address, Operand::Vector(coordinates)] = parts.as_slice() else { return Err(wrong()) };
        if coordinates.len() != rank {
            return Err(format!("{} coordinates are given, {rank} are wanted", coordinates.len()));
        }
        let mut list = vec![0; 14];
        let address = self.address_in(Space::Generic, address)?;
        // A parameter by its name lies in its window; `address_in` gives the place there.
        listed(&mut list[4..], &address);
        if let Some(shared) = shared {
            let shared = self.address_in(Space::Shared, shared)?;
            listed(&mut list, &shared);
        }
        list[12] = self.src(&Operand::Int(0), Type::U32)?;
        self.barrier_and_mask(rest, to_shared, multicast, &mut list).ok_or_else(wrong)??;
        for coordinate in coordinates {
            list.push(self.src(coordinate, Type::S32)?);
        }
        self.emit_reducing(flags, &list, reduction.map(|op| (op, 0)));
        Ok(())
    }

    fn emit_reducing(&mut self, flags: u32, list: &[u32], reduction: Option<(u32, u32)>) {
        match reduction {
            Some((operation, ty)) => {
                let mut instr = self.bulk_instr(flags | REDUCES, list);
                instr.e = operation << 8 | ty;
                self.emit(instr);
            }
            None => self.emit_bulk(flags, list),
        }
    }

    fn emit_bulk(&mut self, flags: u32, list: &[u32]) {
        let instr = self.bulk_instr(flags, list);
        self.emit(instr);
    }

    fn bulk_instr(&mut self, flags: u32, list: &[u32]) -> crate::ops::Instr {
        let mut list = list.to_vec();
        // Registers that a form does not have are looked at, but not used.
        let nothing = self.context.frame.constant(super::frame::Class::Word, 0);
        for at in [0, 4, 8, 12, 13] {
            list[at] = if list[at] == 0 { nothing } else { list[at] };
        }
        let mut instr = self.blank(pick::<BulkCopy>());
        (instr.n, instr.b, instr.d) = (flags, self.list(&list), list.len() as u32 - 14);
        instr.slot = self.cache();
        instr
    }
}

/// An address as `ops::bulk` wants it listed.
pub(super) fn listed(list: &mut [u32], address: &Address) {
    let offset = address.offset as u64;
    list[..4].copy_from_slice(&[address.register, address.wide, offset as u32, (offset >> 32) as u32]);
}

fn operation(m: &mut Modifiers) -> Decoded<u32> {
    let name = m.want(&REDUCTIONS)?;
    m.has("noftz");
    Ok(atomic::OPERATIONS.iter().position(|o| *o == name).unwrap_or(0) as u32)
}

/// `.OP{.noftz}.TYPE` of a reduction, as in `ops::atomic`.
fn reduction(m: &mut Modifiers, to_shared: bool) -> Decoded<(u32, u32)> {
    let operation = operation(m)?;
    let known = match (atomic::OPERATIONS[operation as usize], to_shared) {
        ("and" | "or" | "xor", _) => ["b32", "b64"].as_slice(),
        ("inc" | "dec", _) => &["u32"],
        ("add", true) => &["u32", "s32", "u64"],
        (_, true) => &["u32", "s32"],
        ("add", false) => &["u32", "s32", "u64", "f16", "bf16", "f32", "f64"],
        (_, false) => &["u32", "s32", "u64", "s64", "f16", "bf16"],
    };
    let ty = Type::parse(m.want(known)?);
    let code = atomic::TYPES.iter().position(|t| Some(*t) == ty).ok_or_else(|| m.unknown())?;
    Ok((operation, code as u32))
}
