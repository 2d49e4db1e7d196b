//! `wgmma`: products of a warpgroup, carried out when a warp waits for their group and no sooner.
//!
//! Each of the four warps computes its own 16 rows when it waits: shared memory and the registers of A are read then, and the
//! accumulator's registers keep their old values until then. A wait is over when all four warps have issued what it waits for;
//! that they have issued the same is looked at.

mod watch;

pub(crate) use watch::watch;

use super::descriptor::Descriptor;
#[cfg(target_arch = "x86_64")]
use super::has_avx2;
use super::matrix::transposed;
use super::mma::{
    A_OTHER, B_OTHER, Brain, Eight, Format, HALF_SUMS, Half, Machine, Portable, ROWS, SATURATE, Tensor32,
    add_integers, columns_of_b, integers_of_a, integers_of_b, load_sums, rows_of_a, store_sums, whole_warp,
};
use super::observe::in_words;
use super::profile::least_wavefronts;
use super::{Cx, Flow, Handler, Instr, LANES, Run, pick};
use crate::checks::{Access, Pieces, READS};
use crate::error::Fault;
use crate::numeric::tensor::{COLUMNS, Factors};
use std::collections::{HashMap, VecDeque};
use std::marker::PhantomData;
use std::ops::Range;
use watch::Watch;

/// Flag in `Instr::n`, beside those of `mma`: A is in shared memory.
pub(crate) const A_SHARED: u32 = 16;
/// Flag in `Instr::n`: rows lead in A, columns of the product in B.
pub(crate) const TRANSPOSED_A: u32 = 32;
pub(crate) const TRANSPOSED_B: u32 = 64;
/// Flag in `Instr::n`: the products are subtracted.
pub(crate) const NEGATED: u32 = 128;

/// Types of multiplicands, in `Instr::slot`.
pub(crate) const TYPES: [&str; 5] = ["f16", "bf16", "tf32", "8-bit floats", "8-bit integers"];

/// An instruction that was issued: its descriptors, and whether it adds to the accumulator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Product {
    a: u64,
    b: u64,
    accumulates: bool,
}

/// What the warps of a warpgroup have issued: place in the program and operands, from number `first` on.
#[derive(Clone, Debug, Default)]
struct Log {
    first: u64,
    issued: VecDeque<(u32, Product)>,
}

/// The products of one warp.
#[derive(Default)]
pub(crate) struct Products {
    /// Group, instruction, operands, and for the checks the number of the read.
    pending: VecDeque<(u32, Instr, Product, u64)>,
    committed: u32,
    /// How many were ever issued.
    issued: u64,
    /// Of the warpgroup, at its first warp.
    log: Log,
    /// What is being computed.
    current: Product,
    /// For the checks: registers.
    watch: Watch,
    /// For the checks: what instructions read, by place in the program and descriptors, which loops repeat.
    reads: HashMap<(u32, u64, u64), Pieces>,
}

/// Bytes of a row of A or of a column of B.
const ROW: u64 = 32;

/// How many of these a warp keeps.
const READS_KEPT: usize = 1024;

impl Products {
    pub(crate) fn clear(&mut self) {
        self.pending.clear();
        (self.committed, self.issued) = (0, 0);
        self.log = Log::default();
        self.watch = Watch::default();
    }

    /// Place in the program of a product that has not been waited for, and whether it is in a group.
    pub(crate) fn unfinished(&self) -> Option<(u32, bool)> {
        self.pending.front().map(|(group, instr, ..)| (instr.at, *group < self.committed))
    }
}

/// The registers listed for a product.
fn registers(cx: &Cx, i: &Instr) -> Vec<u32> {
    let count = i.d + if i.n & A_SHARED != 0 { 0 } else { 4 };
    // SAFETY: the decoder listed so many.
    (0..count).map(|k| unsafe { cx.extra(i.b + k) }).collect()
}

/// The handler that computes products of a type.
fn compute(kind: u32) -> Run {
    match kind {
        0 => pick_product::<Half, 16, 25>(),
        1 => pick_product::<Brain, 16, 25>(),
        2 => pick_product::<Tensor32, 8, 25>(),
        3 => pick_product::<Eight, 32, 13>(),
        _ => pick::<IntProduct>(),
    }
}

fn pick_product<F: Format, const K: usize, const PLACES: i32>() -> Run {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        return pick::<FloatProduct<super::mma::Avx2, F, K, PLACES>>();
    }
    pick::<FloatProduct<Portable, F, K, PLACES>>()
}

/// N and K of a product's shape m64nNkK.
fn shape_of(i: &Instr) -> (u32, u32) {
    let k = match i.slot {
        0 | 1 => 16,
        2 => 8,
        _ => 32,
    };
    (i.imm as u32, k)
}

/// First warp of the warpgroup that runs.
fn group(cx: &Cx) -> usize {
    (cx.warp_in_cluster - cx.warp_in_block % 4) as usize
}

/// `wgmma.mma_async`: descriptors `a` and `c`, scale-d the predicate `e`, type `slot`, `imm` columns. Listed at `b`: the
/// accumulator's registers, `d` of them, and those of A.
pub(crate) struct Issue;

impl Handler for Issue {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if let Err(flow) = whole_warp(cx, m) {
            return flow;
        }
        // SAFETY: the decoder gave 64-bit registers and a predicate.
        let (a, b, scale) = unsafe { (*cx.lanes::<u64>(i.a), *cx.lanes::<u64>(i.c), cx.pred(i.e)) };
        let shared = i.n & A_SHARED != 0;
        let differs = |x: &[u64; LANES]| x.iter().position(|d| *d != x[0]);
        if let Some(lane) = differs(&b).or(if shared { differs(&a) } else { None }) {
            return cx.fail(lane as u32, "the lanes of the warp have different matrix descriptors".into());
        }
        if scale != 0 && scale != !0 {
            return cx
                .fail((!scale).trailing_zeros(), "scale-d differs between the lanes of the warp".into());
        }
        if (cx.warp_in_block | 3) * LANES as u32 >= cx.threads {
            let what = format!("warp {} is not in a warpgroup of four warps", cx.warp_in_block);
            return cx.fail(0, what);
        }
        let product = Product { a: if shared { a[0] } else { 0 }, b: b[0], accumulates: scale != 0 };
        if let Err(what) = in_bounds(cx, i, &product).and_then(|()| log(cx, i, product)) {
            return cx.fail(0, what);
        }
        if cx.checks.is_some() {
            let all = registers(cx, i);
            let (sums, a) = all.split_at(i.d as usize);
            let watch = &mut cx.products[cx.warp_in_cluster as usize].watch;
            if let Err((what, other)) = watch.begin(i, sums, a, product.accumulates) {
                cx.other = other;
                return cx.fail(0, what);
            }
        }
        let reading = match begin_read(cx, i, &product) {
            Ok(number) => number,
            Err(fault) => {
                cx.fault = Some(fault);
                return Flow::Fault;
            }
        };
        count(cx, i);
        let own = &mut cx.products[cx.warp_in_cluster as usize];
        own.pending.push_back((own.committed, *i, product, reading));
        own.issued += 1;
        cx.cluster.events += 1;
        Flow::Next
    }
}

/// Counts what the operands of a product are in shared memory. Every warp reads its own 16 rows of A; B is read once for the four
/// warps, a quarter of it for each, and its wavefronts, which cannot be divided, with the first warp.
fn count(cx: &mut Cx, i: &Instr) {
    let a = if i.n & A_SHARED != 0 { 16 * ROW } else { 0 };
    let b = i.imm as u64 * ROW;
    cx.traffic.shared_load += a + b / 4;
    let first = cx.warp_in_block.is_multiple_of(4);
    if let Some(all) = cx.profile.get_mut(i.at as usize) {
        all.shared_load += a + b / 4;
        all.wavefronts += least_wavefronts(a) + if first { least_wavefronts(b) } else { 0 };
    }
}

/// Addresses of the pieces of an operand's rows.
fn pieces(bits: u64, transposed: bool, rows: Range<u32>) -> impl Iterator<Item = u32> {
    let matrix = Descriptor::decode(bits);
    rows.flat_map(move |row| {
        // Of 16-bit types, whose rows may lead, an instruction has 16 columns.
        (0..2u32).map(move |piece| {
            if transposed {
                matrix.along_rows(row / 8, 8 * piece + row % 8)
            } else {
                matrix.along_k(row, piece)
            }
        })
    })
}

/// The rows of A that the warp reads from shared memory, if any.
fn own_rows(cx: &Cx, i: &Instr) -> Range<u32> {
    let first = 16 * (cx.warp_in_block % 4);
    if i.n & A_SHARED != 0 { first..first + 16 } else { 0..0 }
}

/// Every piece of the operands must lie in shared memory.
fn in_bounds(cx: &Cx, i: &Instr, product: &Product) -> Result<(), String> {
    let operands = [
        ("A", product.a, i.n & TRANSPOSED_A != 0, own_rows(cx, i)),
        ("B", product.b, i.n & TRANSPOSED_B != 0, 0..i.imm as u32),
    ];
    for (name, bits, transposed, rows) in operands {
        if rows.is_empty() || Descriptor::decode(bits).reach(transposed, rows.end) <= cx.shared_len {
            continue;
        }
        if let Some(at) = pieces(bits, transposed, rows).find(|&at| u64::from(at) + 16 > cx.shared_len) {
            return Err(format!(
                "the descriptor {bits:#018x} of {name} leads to shared address {at:#x}, beyond the {} bytes of the block",
                cx.shared_len
            ));
        }
    }
    Ok(())
}

/// For the checks: the operands are read from now on.
fn begin_read(cx: &mut Cx, i: &Instr, product: &Product) -> Result<u64, Fault> {
    let rows = own_rows(cx, i);
    let Some(checks) = &mut cx.checks else { return Ok(0) };
    let who = Access { warp: cx.warp_in_cluster, lane: 0, pc: i.at, kind: READS };
    let own = &mut cx.products[cx.warp_in_cluster as usize];
    if own.reads.len() > READS_KEPT {
        own.reads.clear();
    }
    let all = own.reads.entry((i.at, product.a, product.b)).or_insert_with(|| {
        let of_a = pieces(product.a, i.n & TRANSPOSED_A != 0, rows);
        checks
            .pieces(cx.cluster.rank, of_a.chain(pieces(product.b, i.n & TRANSPOSED_B != 0, 0..i.imm as u32)))
    });
    checks.begin_read(cx.cluster.rank, all, who).map_err(|(at, wrong)| {
        let (what, other) = in_words(cx, wrong, at.into(), 16, who);
        Fault { lane: 0, what, other }
    })
}

/// Notes what a warp issues, which must be what the others of its warpgroup issue.
fn log(cx: &mut Cx, i: &Instr, product: Product) -> Result<(), String> {
    let (group, own) = (group(cx), cx.warp_in_cluster as usize);
    let number = cx.products[own].issued;
    let least = cx.products[group..group + 4].iter().map(|p| p.issued).min().unwrap_or(0);
    let log = &mut cx.products[group].log;
    while log.first < least && log.issued.pop_front().is_some() {
        log.first += 1;
    }
    match log.issued.get((number - log.first) as usize) {
        None => log.issued.push_back((i.at, product)),
        Some(&(at, other)) if (at, other) != (i.at, product) => {
            return Err(format!(
                "warp {} issues another product than the other warps of its warpgroup: descriptors {:#018x} and {:#018x} and scale-d {}, theirs are {:#018x}, {:#018x} and {}{}",
                cx.warp_in_block,
                product.a,
                product.b,
                u8::from(product.accumulates),
                other.a,
                other.b,
                u8::from(other.accumulates),
                if at == i.at { "" } else { ", at another place" }
            ));
        }
        Some(_) => {}
    }
    Ok(())
}

/// `wgmma.commit_group`.
pub(crate) struct CommitProducts;
/// `wgmma.wait_group n`.
pub(crate) struct WaitProducts;
/// `wgmma.fence`.
pub(crate) struct FenceProducts;

impl Handler for FenceProducts {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, _: &Instr, m: u32) -> Flow {
        if let Err(flow) = whole_warp(cx, m) {
            return flow;
        }
        cx.products[cx.warp_in_cluster as usize].watch.fence();
        Flow::Next
    }
}

impl Handler for CommitProducts {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, _: &Instr, m: u32) -> Flow {
        if let Err(flow) = whole_warp(cx, m) {
            return flow;
        }
        cx.products[cx.warp_in_cluster as usize].committed += 1;
        Flow::Next
    }
}

impl Handler for WaitProducts {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, m: u32) -> Flow {
        if let Err(flow) = whole_warp(cx, m) {
            return flow;
        }
        let own = cx.warp_in_cluster as usize;
        let products = &cx.products[own];
        let until = products.committed.saturating_sub(i.n);
        let due = products.pending.iter().take_while(|(group, ..)| *group < until).count();
        if due == 0 {
            return Flow::Next;
        }
        let needed = products.issued - products.pending.len() as u64 + due as u64;
        let first = group(cx);
        let late = cx.products[first..first + 4].iter().filter(|p| p.issued < needed).count();
        if late > 0 {
            if let Some(text) = &mut cx.cluster.explanation {
                *text = format!("a product that {late} warps of its warpgroup have not issued");
            }
            return Flow::Wait;
        }
        for _ in 0..due {
            let Some((_, instr, product, reading)) = cx.products[own].pending.pop_front() else { break };
            cx.products[own].current = product;
            // SAFETY: the decoder listed 32-bit registers, and the operands were found to be in bounds.
            unsafe { compute(instr.slot)(cx, &instr, m) };
            if let Some(checks) = &mut cx.checks {
                checks.end_read(reading);
                let all = registers(cx, &instr);
                cx.products[own].watch.end(&all);
            }
        }
        cx.cluster.events += 1;
        Flow::Next
    }
}

/// The words of 8 rows, from `8 rows` on, of piece `piece` of an operand in shared memory: as of a register of `mma`.
///
/// # Safety
/// The operand must lie in shared memory.
#[inline(always)]
unsafe fn words(cx: &Cx, matrix: &Descriptor, transposes: bool, rows: u32, piece: u32) -> [u32; LANES] {
    // SAFETY: by contract.
    unsafe {
        if transposes {
            transposed(&gathered(cx, |r| matrix.along_rows(rows, 8 * piece + r)))
        } else {
            gathered(cx, |r| matrix.along_k(8 * rows + r, piece))
        }
    }
}

/// Eight pieces of 16 bytes, by their addresses.
///
/// # Safety
/// They must lie in shared memory.
#[inline(always)]
unsafe fn gathered(cx: &Cx, at: impl Fn(u32) -> u32) -> [u32; LANES] {
    let mut tile = [0; LANES];
    for (r, words) in (0..8).zip(tile.as_chunks_mut::<4>().0) {
        // SAFETY: by contract; shared memory belongs to this host thread, and pieces are aligned to 16.
        *words = unsafe { *(cx.shared.add(at(r) as usize) as *const [u32; 4]) };
    }
    tile
}

/// The words of the four registers of A: from those listed after the accumulator's, or from shared memory.
///
/// # Safety
/// As for `words`; the registers must be listed.
#[inline(always)]
unsafe fn words_of_a(cx: &Cx, i: &Instr, matrix: &Descriptor) -> [[u32; LANES]; 4] {
    let mut all = [[0; LANES]; 4];
    for (k, all) in (0..4).zip(&mut all) {
        // SAFETY: by contract.
        *all = unsafe {
            if i.n & A_SHARED == 0 {
                *cx.lanes::<u32>(cx.extra(i.b + i.d + k))
            } else {
                let rows = 2 * (cx.warp_in_block % 4) + k % 2;
                words(cx, matrix, i.n & TRANSPOSED_A != 0, rows, k / 2)
            }
        };
    }
    all
}

/// The words of the two registers of B for 8 columns of the product.
///
/// # Safety
/// As for `words`.
#[inline(always)]
unsafe fn words_of_b(cx: &Cx, i: &Instr, matrix: &Descriptor, block: u32) -> [[u32; LANES]; 2] {
    // SAFETY: by contract.
    unsafe {
        let transposes = i.n & TRANSPOSED_B != 0;
        [words(cx, matrix, transposes, block, 0), words(cx, matrix, transposes, block, 1)]
    }
}

/// Products of floating types with `K` columns of A, which are one block, with terms of `PLACES` places.
struct FloatProduct<M, F, const K: usize, const PLACES: i32>(PhantomData<(M, F)>);
/// Products of 8-bit integers.
struct IntProduct;

impl<M: Machine, F: Format, const K: usize, const PLACES: i32> Handler for FloatProduct<M, F, K, PLACES> {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, _: u32) -> Flow {
        let Product { a, b, accumulates } = cx.products[cx.warp_in_cluster as usize].current;
        let (from_a, from_b) = (Descriptor::decode(a), Descriptor::decode(b));
        let registers = if i.n & HALF_SUMS != 0 { 2 } else { 4 };
        // SAFETY: the decoder listed the registers and picked the machine; the operands are in bounds.
        unsafe {
            let words = words_of_a(cx, i, &from_a);
            let (mut a, mut b) = (Factors::zero(), Factors::zero());
            rows_of_a::<M, F, K>(&mut a, |k| words[k], i.n & A_OTHER != 0);
            if i.n & NEGATED != 0 {
                a.values.iter_mut().flatten().for_each(|x| *x = -*x);
            }
            for block in 0..i.imm as u32 / 8 {
                let words = words_of_b(cx, i, &from_b, block);
                columns_of_b::<M, F, K>(&mut b, |k| words[k], i.n & B_OTHER != 0);
                let list = i.b + registers * block;
                let mut sums = if accumulates { load_sums(cx, i, list) } else { [[0f32; COLUMNS]; ROWS] };
                M::multiply::<K, K, PLACES>(&mut sums, &a, &b, i.n & HALF_SUMS != 0);
                store_sums(cx, i, list, &sums);
            }
        }
        Flow::Next
    }
}

impl Handler for IntProduct {
    #[inline(always)]
    unsafe fn exec(cx: &mut Cx, i: &Instr, _: u32) -> Flow {
        let Product { a, b, accumulates } = cx.products[cx.warp_in_cluster as usize].current;
        let (from_a, from_b) = (Descriptor::decode(a), Descriptor::decode(b));
        // SAFETY: as for `FloatProduct`.
        unsafe {
            let words = words_of_a(cx, i, &from_a);
            let a = integers_of_a::<32, 8>(|k| words[k], i.n & A_OTHER != 0);
            for block in 0..i.imm as u32 / 8 {
                let words = words_of_b(cx, i, &from_b, block);
                let b = integers_of_b::<32, 8>(|k| words[k], i.n & B_OTHER != 0);
                let mut sums =
                    if accumulates { load_sums(cx, i, i.b + 4 * block) } else { [[0f32; COLUMNS]; ROWS] };
                add_integers(&mut sums, &a, &b, i.n & SATURATE != 0);
                store_sums(cx, i, i.b + 4 * block, &sums);
            }
        }
        Flow::Next
    }
}
