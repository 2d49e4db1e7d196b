//! Pass 6: functions one after another, meeting places put in, jumps resolved.

use super::frame::MOST_BYTES;
use super::function::{Body, Edge, Emitted};
use super::{EntryContext, NO_CODE, Program};
use crate::cfg::Graph;
use crate::error::Problem;
use crate::ops::{control::Join, pick};

/// `Instr::e` of a branch whose lanes do not meet again.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// A function's blocks: where each begins, and the graph of them.
struct Blocks {
    starts: Vec<usize>,
    meeting: Vec<Option<usize>>,
}

impl Blocks {
    fn of(body: &Body, extra: &[u32]) -> Blocks {
        let code = &body.code;
        let mut leader = vec![false; code.len() + 1];
        leader[0] = true;
        for &at in &body.labels {
            leader[at.min(code.len())] = true;
        }
        for (at, emitted) in code.iter().enumerate() {
            if !matches!(emitted.edge, Edge::None | Edge::Call(_)) {
                leader[at + 1] = true;
            }
        }
        let starts: Vec<usize> = (0..code.len()).filter(|&at| leader[at]).collect();
        let block_at = |at: usize| starts.partition_point(|&s| s <= at) - 1;
        let mut graph = Graph::default();
        for (block, &start) in starts.iter().enumerate() {
            let end = starts.get(block + 1).copied().unwrap_or(code.len());
            let last = &code[end - 1];
            let target =
                |label: usize| body.labels.get(label).filter(|&&at| at < code.len()).map(|&at| block_at(at));
            let always = last.instr.guard_not == 0 && last.instr.guard == first_guard(code);
            let mut next: Vec<usize> = match &last.edge {
                Edge::Label(label) => target(*label).into_iter().collect(),
                Edge::Labels { at, count } => {
                    (0..*count).filter_map(|k| target(extra[(at + k) as usize] as usize)).collect()
                }
                _ => Vec::new(),
            };
            let falls = matches!(last.edge, Edge::None | Edge::Call(_)) || !always;
            if falls && end < code.len() && !next.contains(&(block + 1)) {
                next.push(block + 1);
            }
            next.dedup();
            graph.successors.push(next);
            graph.leaves.push(last.edge == Edge::End);
            graph.trivial.push(last.edge == Edge::End && end - start == 1 && always);
        }
        let meeting = graph.meeting_points();
        Blocks { starts, meeting }
    }

    fn block_of(&self, at: usize) -> usize {
        self.starts.partition_point(|&s| s <= at) - 1
    }
}

/// The guard of unguarded instructions: every body ends with one.
fn first_guard(code: &[Emitted]) -> u32 {
    code.last().map_or(0, |e| e.instr.guard)
}

/// Puts an entry's functions together.
pub(super) fn program(
    mut context: EntryContext,
    bodies: Vec<Body>,
    numbers: &[u32],
    problems: &mut Vec<Problem>,
) -> Program {
    if context.frame.bytes > MOST_BYTES {
        problems.push(Problem {
            line: context.overflow.unwrap_or(1),
            what: "more than 16 MiB of registers a warp".into(),
        });
    }
    let mut program = Program {
        code: Vec::new(),
        lines: Vec::new(),
        counted: Vec::new(),
        mnemonic: Vec::new(),
        mnemonics: std::mem::take(&mut context.mnemonics),
        extra: Vec::new(),
        watch: Vec::new(),
        frame: context.frame.clone(),
        caches: context.caches,
        activations: std::mem::take(&mut context.activations),
        functions: vec![NO_CODE; context.module.functions.len()],
        static_shared: context.shared_bytes,
        dynamic_shared: context.shared_bytes.next_multiple_of(context.dynamic_align),
        own_static: context.own_shared_bytes,
        own_dynamic: context.own_shared_bytes.next_multiple_of(context.dynamic_align),
        local_bytes: context.local_bytes.next_multiple_of(16),
        registers: context.registers,
    };
    let mut calls = Vec::new();
    for (body, &number) in bodies.iter().zip(numbers) {
        program.functions[number as usize] = program.code.len() as u32;
        place(body, &mut program, &mut context, &mut calls);
    }
    for (at, number) in calls {
        program.code[at].imm = i64::from(program.functions.get(number as usize).copied().unwrap_or(0));
    }
    let mut before = 0;
    let counts = std::mem::take(&mut program.counted);
    program.counted = std::iter::once(0)
        .chain(counts.into_iter().map(|c| {
            before += c;
            before
        }))
        .collect();
    program.extra = context.extra;
    program
}

fn place(body: &Body, program: &mut Program, context: &mut EntryContext, calls: &mut Vec<(usize, u32)>) {
    let extra = &mut context.extra;
    let blocks = Blocks::of(body, extra);
    let code = &body.code;
    let base = program.code.len() as u32;
    let mut is_meeting = vec![false; blocks.starts.len()];
    for (block, meeting) in blocks.meeting.iter().enumerate() {
        let end = blocks.starts.get(block + 1).copied().unwrap_or(code.len());
        // Only where lanes can part.
        if let (Some(meeting), Edge::Label(_) | Edge::Labels { .. }) = (meeting, &code[end - 1].edge) {
            is_meeting[*meeting] = true;
        }
    }
    // Where each position of the body lands; a block's start lands on its meeting place.
    let mut landing = vec![0u32; code.len() + 1];
    let mut pc = base;
    for (at, place) in landing.iter_mut().enumerate().take(code.len()) {
        *place = pc;
        let block = blocks.block_of(at);
        pc += 1 + u32::from(blocks.starts[block] == at && is_meeting[block]);
    }
    landing[code.len()] = pc - 1;
    for (at, emitted) in code.iter().enumerate() {
        let block = blocks.block_of(at);
        if blocks.starts[block] == at && is_meeting[block] {
            let mut join = emitted.instr;
            (join.run, join.guard, join.guard_not) = (pick::<Join>(), first_guard(code), 0);
            push(program, join, emitted, 0);
        }
        let mut instr = emitted.instr;
        let meeting = blocks.meeting[block].map_or(NOWHERE, |m| landing[blocks.starts[m]]);
        match &emitted.edge {
            Edge::Label(label) => {
                instr.imm = i64::from(landing[body.labels[*label].min(code.len())]);
                instr.e = meeting;
            }
            Edge::Labels { at, count } => {
                for target in &mut extra[*at as usize..(*at + *count) as usize] {
                    *target = landing[body.labels[*target as usize].min(code.len())];
                }
                instr.e = meeting;
            }
            Edge::Call(number) => calls.push((program.code.len(), *number)),
            _ => {}
        }
        push(program, instr, emitted, u32::from(emitted.counted));
        if !context.products.is_empty() {
            let mut watch = emitted.touched.clone();
            watch.retain(|(register, _)| context.products.contains(register));
            program.watch.resize(program.code.len() - 1, Box::default());
            program.watch.push(watch.into());
        }
    }
}

fn push(program: &mut Program, mut instr: crate::ops::Instr, emitted: &Emitted, counted: u32) {
    instr.at = program.code.len() as u32;
    program.code.push(instr);
    program.lines.push(emitted.line);
    program.mnemonic.push(emitted.mnemonic);
    program.counted.push(counted);
}
