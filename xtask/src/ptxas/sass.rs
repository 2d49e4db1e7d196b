//! The listing of a cubin by `cuobjdump --dump-sass`, and the loop in it that runs on tensor cores.

use anyhow::{Context, Result, bail};
use regex::Regex;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// One instruction of the listing.
#[derive(Debug, PartialEq, Eq)]
struct Instruction {
    address: u32,
    /// The predicate before it, such as `@!P0`, or nothing.
    guard: String,
    /// Its name with all suffixes, such as `HMMA.16816.F32`.
    name: String,
    operands: String,
}

impl Instruction {
    /// The name before the first point.
    fn stem(&self) -> &str {
        self.name.split('.').next().unwrap_or_default()
    }

    fn is_matrix_product(&self) -> bool {
        self.stem().ends_with("MMA")
    }

    /// Whether every round executes it: a loop has further instructions for what seldom happens.
    fn is_work(&self) -> bool {
        self.is_matrix_product() || ["LDSM", "LDGSTS"].contains(&self.stem())
    }

    /// The address that it may go to.
    fn target(&self) -> Option<u32> {
        let hex = self.operands.rsplit([',', ' ']).next()?.strip_prefix("0x")?;
        u32::from_str_radix(hex, 16).ok()
    }

    /// Whether it is executed only where a predicate, such as `P0`, has one of its values.
    fn depends_on(&self, predicate: &str) -> bool {
        let is = |text: &str| text.trim_start_matches(['@', '!']) == predicate;
        is(&self.guard) || self.operands.split([',', ' ']).any(is)
    }

    /// Whether it is executed whatever the predicates are.
    fn is_certain(&self) -> bool {
        self.guard.is_empty() || self.guard == "@PT"
    }
}

/// What stands in a kernel's plain loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    /// The instructions of a round: of all ways through the loop with all its products, loads of operands and copies, the
    /// shortest.
    pub instructions: u32,
    /// The same of a round in which the loop's votes go the other way, where they decide about jumps: of forward kernels, in which
    /// the output is rescaled because a maximum rose.
    pub rescaled: Option<u32>,
    /// Those that are `HMMA.16816`.
    pub products: u32,
    /// What no way through it should have: other matrix instructions, operands loaded otherwise than by LDSM, local memory.
    pub foreign: BTreeMap<String, u32>,
}

impl Loop {
    /// Instructions other than HMMA for each HMMA, in hundredths, rounded.
    pub fn others(&self) -> u32 {
        self.others_of(self.instructions)
    }

    /// The same of a round in which the output is rescaled.
    pub fn others_rescaled(&self) -> Option<u32> {
        self.rescaled.map(|instructions| self.others_of(instructions))
    }

    fn others_of(&self, instructions: u32) -> u32 {
        let products = self.products.max(1);
        ((instructions - self.products) * 100 + products / 2) / products
    }
}

/// The plain loop of a kernel in a listing: the shortest that has matrix products. An error where there is none, or where the
/// program jumps to places that the listing does not tell.
pub fn plain_loop(listing: &str, kernel: &str) -> Result<Loop> {
    let code = parse(listing, kernel)?;
    let loops = loops(&code)?;
    let has_products = |body: &&Body| body.instructions.iter().any(|&i| code[i].is_matrix_product());
    let body = loops.iter().filter(has_products).min_by_key(|body| body.instructions.len());
    let body = body.context("no loop has matrix products")?;
    let successors = successors(&code)?;
    let round = round(&code, body, &successors);
    let is_product = |i: &&usize| code[**i].name.starts_with("HMMA.16816");
    let mut found = Loop {
        instructions: round.len() as u32,
        rescaled: rescaled(&code, body, successors, &round),
        products: round.iter().filter(is_product).count() as u32,
        foreign: BTreeMap::new(),
    };
    for i in body.instructions.iter().filter(|i| !is_product(i) && is_foreign(&code[**i])) {
        *found.foreign.entry(code[*i].name.clone()).or_default() += 1;
    }
    Ok(found)
}

fn is_foreign(instruction: &Instruction) -> bool {
    match instruction.stem() {
        // The assembler puts loads that are never executed before barriers.
        "LDS" => instruction.guard != "@!PT",
        "LDL" | "STL" => true,
        _ => instruction.is_matrix_product(),
    }
}

/// The instructions of one function.
fn parse(listing: &str, kernel: &str) -> Result<Vec<Instruction>> {
    let line_of_code = Regex::new(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:(@\S+)\s+)?([A-Z]\S*)\s*([^;]*?)\s*;")?;
    let mut inside = false;
    let mut code = Vec::new();
    for line in listing.lines() {
        if let Some((_, name)) = line.split_once("Function :") {
            inside = name.trim() == kernel;
        } else if let Some(found) = line_of_code.captures(line).filter(|_| inside) {
            code.push(Instruction {
                address: u32::from_str_radix(&found[1], 16)?,
                guard: found.get(2).map(|guard| guard.as_str().to_string()).unwrap_or_default(),
                name: found[3].to_string(),
                operands: found[4].to_string(),
            });
        }
    }
    if code.is_empty() {
        bail!("the listing has no function `{kernel}`");
    }
    Ok(code)
}

/// For each instruction, those that may be executed after it.
fn successors(code: &[Instruction]) -> Result<Vec<Vec<usize>>> {
    let at: BTreeMap<u32, usize> = code.iter().enumerate().map(|(i, one)| (one.address, i)).collect();
    let place = |one: &Instruction| -> Result<usize> {
        let found = one.target().and_then(|address| at.get(&address).copied());
        found.with_context(|| format!("{} at {:#x} goes to an unknown place", one.name, one.address))
    };
    let mut all = Vec::with_capacity(code.len());
    for (i, one) in code.iter().enumerate() {
        let (mut next, mut falls_through) = (Vec::new(), true);
        match one.stem() {
            // Taken only by warps whose threads have parted, which those of a collective operation have not.
            "BRA" if one.name.starts_with("BRA.DIV") => {}
            "BRA" => {
                next.push(place(one)?);
                // With a second predicate among its operands it may also go on.
                falls_through = !one.is_certain() || one.operands.contains([',', ' ']);
            }
            // Where the assembler wants a jump out of a loop it may write a call that never returns.
            "CALL" => next.extend(place(one).ok()),
            // A trap ends the program too.
            "EXIT" | "RET" | "KILL" | "BPT" => falls_through = !one.is_certain(),
            "BRX" | "JMP" | "JMX" => {
                bail!("{} at {:#x} goes to a place in a register", one.name, one.address)
            }
            _ => {}
        }
        if falls_through && i + 1 < code.len() {
            next.push(i + 1);
        }
        all.push(next);
    }
    Ok(all)
}

/// A natural loop.
struct Body {
    /// The instruction at which each round begins; the only way in.
    head: usize,
    /// All of them, the first included, by address.
    instructions: Vec<usize>,
}

/// The natural loops: for each first instruction, what leads from it back to it.
fn loops(code: &[Instruction]) -> Result<Vec<Body>> {
    let successors = successors(code)?;
    let mut predecessors = vec![Vec::new(); code.len()];
    let (mut reached, mut open) = (vec![false; code.len()], vec![0]);
    reached[0] = true;
    while let Some(i) = open.pop() {
        for &next in &successors[i] {
            predecessors[next].push(i);
            if !std::mem::replace(&mut reached[next], true) {
                open.push(next);
            }
        }
    }
    let mut loops = Vec::new();
    // A loop's first instruction is reached from outside and from inside.
    for (head, before) in predecessors.iter().enumerate().filter(|(i, before)| *i == 0 || before.len() > 1) {
        let mut body = vec![false; code.len()];
        body[head] = true;
        for &last in before {
            if let Some(way) = way_back(last, head, &predecessors) {
                way.into_iter().for_each(|i| body[i] = true);
            }
        }
        let instructions: Vec<usize> = (0..code.len()).filter(|&i| body[i]).collect();
        if instructions.len() > 1 {
            loops.push(Body { head, instructions });
        }
    }
    Ok(loops)
}

/// The instructions of the shortest round with as much work as `round`, in which each vote that decides about a jump goes the other
/// way. `None` where there is no such vote, or no such round.
fn rescaled(
    code: &[Instruction],
    body: &Body,
    mut successors: Vec<Vec<usize>>,
    round: &[usize],
) -> Option<u32> {
    let jumps = jumps_by_votes(code, round);
    for &(jump, taken) in &jumps {
        successors[jump].retain(|&next| next != taken);
    }
    let work = |way: &[usize]| way.iter().filter(|&&i| code[i].is_work()).count();
    let other = self::round(code, body, &successors);
    let whole = other.last().is_some_and(|last| successors[*last].contains(&body.head));
    (!jumps.is_empty() && whole && work(&other) == work(round)).then_some(other.len() as u32)
}

/// The jumps of a round that depend on a predicate that a vote has just written, each with what the round executes after it.
fn jumps_by_votes(code: &[Instruction], round: &[usize]) -> Vec<(usize, usize)> {
    let mut voted: Option<&str> = None;
    let mut jumps = Vec::new();
    for (at, &i) in round.iter().enumerate() {
        let one = &code[i];
        if one.stem().starts_with("VOTE") {
            voted = one.operands.split([',', ' ']).next();
        } else if one.stem() == "BRA" && voted.is_some_and(|predicate| one.depends_on(predicate)) {
            jumps.extend(round.get(at + 1).map(|&next| (i, next)));
            voted = None;
        }
    }
    jumps
}

/// The shortest way through a loop among those with the most work; the whole loop where it has loops inside.
fn round(code: &[Instruction], body: &Body, successors: &[Vec<usize>]) -> Vec<usize> {
    let Some(order) = last_first(body, successors) else { return body.instructions.clone() };
    // For each instruction the best way from it to the end of the round: work, instructions, the next one.
    let mut best: BTreeMap<usize, (u32, Reverse<u32>, Option<usize>)> = BTreeMap::new();
    for i in order {
        let ends = successors[i].contains(&body.head).then_some((0, Reverse(0), None));
        let goes_on = successors[i].iter().filter_map(|&next| {
            let &(work, length, _) = best.get(&next)?;
            Some((work, length, Some(next)))
        });
        if let Some((work, length, next)) =
            goes_on.chain(ends).max_by_key(|&(work, length, _)| (work, length))
        {
            best.insert(i, (work + u32::from(code[i].is_work()), Reverse(length.0 + 1), next));
        }
    }
    let mut way = vec![body.head];
    while let Some(&(_, _, Some(next))) = way.last().and_then(|i| best.get(i)) {
        way.push(next);
    }
    way
}

/// The instructions of a loop, each after all that may follow it in the same round. Nothing where a round has loops inside.
fn last_first(body: &Body, successors: &[Vec<usize>]) -> Option<Vec<usize>> {
    let inside: BTreeSet<usize> = body.instructions.iter().copied().collect();
    let (mut order, mut begun, mut done) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut open = vec![body.head];
    while let Some(&i) = open.last() {
        if done.contains(&i) {
            open.pop();
            continue;
        }
        let next = |i: usize| successors[i].iter().copied().filter(|n| *n != body.head && inside.contains(n));
        let waits = next(i).find(|n| !done.contains(n));
        begun.insert(i);
        match waits {
            Some(next) if begun.contains(&next) => return None,
            Some(next) => open.push(next),
            None => {
                done.insert(i);
                order.push(i);
            }
        }
    }
    Some(order)
}

/// What lies between `head` and `last`, with both: all that leads to `last` without passing `head`. Nothing if the start of the
/// program does: then `head` is not the only way in, and `last` does not close a loop.
fn way_back(last: usize, head: usize, predecessors: &[Vec<usize>]) -> Option<Vec<usize>> {
    let (mut seen, mut way) = (vec![false; predecessors.len()], vec![head]);
    seen[head] = true;
    let mut open = vec![last];
    while let Some(i) = open.pop() {
        if !std::mem::replace(&mut seen[i], true) {
            if i == 0 {
                return None;
            }
            way.push(i);
            open.extend(&predecessors[i]);
        }
    }
    Some(way)
}

#[cfg(test)]
mod tests;
