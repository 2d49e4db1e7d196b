//! The forms of instructions held against NVIDIA's assembler, by the answers that `forms.py` has from it.
//!
//! What is compared is whether a statement is taken. Registers in it have the width of their type: the emulator converts those of another width,
//! which the assembler refuses except where an instruction loads, stores or converts.

use ptx_emulator::Module;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What the assembler takes and the emulator refuses: an opcode with all modifiers of one list and none of another, and why.
const REFUSED: [(&str, &[&str], &[&str], &str); 12] = [
    ("fma", &["bf16"], &["rn"], "of bf16 in directed rounding: not covered"),
    ("fma", &["bf16x2"], &["rn"], "of bf16 in directed rounding: not covered"),
    ("min", &["abs"], &["xorsign"], "of absolute values, from sm_100 on: not covered"),
    ("max", &["abs"], &["xorsign"], "of absolute values, from sm_100 on: not covered"),
    ("setp", &["f16x2"], &[], "of pairs with one target: the manual has `p|q`"),
    ("setp", &["bf16x2"], &[], "of pairs with one target: the manual has `p|q`"),
    ("testp", &[], TESTS, "without a property: the manual has none"),
    ("wmma", &["load", "c", "m8n8k32", "f32"], &[], "sums of f32 with 4-bit integers: the manual has `.s32`"),
    ("mma", &["bf16", "f16"], &[], "a fifth type, which the assembler passes over"),
    ("st", &["async"], &["shared::cluster"], "to `.shared::cta`: the manual has `.shared::cluster`"),
    ("wgmma", &[], &["aligned"], "without `.aligned`: the manual has it"),
    ("fence", &["mbarrier_init", "sync_restrict::shared::cta"], &[], "the manual has one of the two"),
];
const TESTS: &[&str] = &["finite", "infinite", "number", "notanumber", "normal", "subnormal"];

/// Why the emulator refuses a form that there is: the row of the table.
fn reason(mnemonic: &str) -> Option<usize> {
    let mut parts = mnemonic.split('.');
    let opcode = parts.next();
    let modifiers: Vec<&str> = parts.collect();
    REFUSED.iter().position(|(of, with, without, _)| {
        opcode == Some(of)
            && with.iter().all(|m| modifiers.contains(m))
            && without.iter().all(|m| !modifiers.contains(m))
    })
}

/// What `forms.py` wrote.
struct Answers<'f> {
    /// A module with `TARGET` and `LINES` in it.
    text: &'f str,
    targets: Vec<&'f str>,
    /// Lines of the grammar with the first target of each, and what is asked of it.
    forms: Vec<(&'f str, &'f str, Vec<&'f str>)>,
    /// The statements of each form.
    statements: BTreeMap<&'f str, Vec<&'f str>>,
    /// For each statement whether the assembler takes it, for each target.
    taken: BTreeMap<&'f str, Vec<bool>>,
}

impl Answers<'_> {
    fn of(file: &Value) -> Answers<'_> {
        fn strings(list: &Value) -> Vec<&str> {
            list.as_array().unwrap().iter().map(|x| x.as_str().unwrap()).collect()
        }
        let targets = strings(&file["targets"]);
        let (mut statements, mut taken) = (BTreeMap::new(), BTreeMap::new());
        for (mnemonic, lines) in file["lines"].as_object().unwrap() {
            let lines = lines.as_object().unwrap();
            statements.insert(mnemonic.as_str(), lines.keys().map(String::as_str).collect());
            for (line, on) in lines {
                let on = strings(on);
                taken.insert(line.as_str(), targets.iter().map(|target| on.contains(target)).collect());
            }
        }
        let forms = file["forms"].as_array().unwrap().iter();
        let forms = forms
            .map(|f| (f["form"].as_str().unwrap(), f["target"].as_str().unwrap(), strings(&f["mnemonics"])));
        let forms = forms.collect();
        Answers { text: file["text"].as_str().unwrap(), targets, forms, statements, taken }
    }

    /// The same by the emulator.
    fn emulated(&self) -> BTreeMap<&str, Vec<bool>> {
        let takes = |line: &str, target: &str| {
            Module::parse(&self.text.replace("TARGET", target).replace("LINES", line)).is_ok()
        };
        let lines: Vec<&str> = self.taken.keys().copied().collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let of = |part: &[&'_ str]| -> Vec<Vec<bool>> {
            part.iter().map(|line| self.targets.iter().map(|target| takes(line, target)).collect()).collect()
        };
        let answers: Vec<Vec<bool>> = std::thread::scope(|scope| {
            let parts: Vec<_> = lines
                .chunks(lines.len().div_ceil(threads))
                .map(|part| scope.spawn(move || of(part)))
                .collect();
            parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
        });
        lines.into_iter().zip(answers).collect()
    }
}

/// Whether a target has what the grammar has from `first` on: `80`, `90a` or `90a+`.
fn has(target: &str, first: &str) -> bool {
    let number = |text: &str| text.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().unwrap_or(0);
    let letter = target.ends_with('a');
    match first {
        own if own.ends_with('a') => letter && number(target) == number(first),
        later if later.ends_with('+') => letter && number(target) >= number(first),
        _ => number(target) >= number(first),
    }
}

#[test]
#[ignore = "needs NVIDIA's assembler: `cargo xtask foreign-ptx` installs it, asks it and runs this"]
fn forms_are_those_of_the_assembler() {
    let folder = std::env::var("FOREIGN_PTX").expect("FOREIGN_PTX names the folder with forms.json");
    let path = Path::new(&folder).join("forms.json");
    let file = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file: Value = serde_json::from_slice(&file).unwrap();
    let theirs = Answers::of(&file);
    let mine = theirs.emulated();
    let mut wrong = BTreeSet::new();
    for (form, first, mnemonics) in &theirs.forms {
        for mnemonic in mnemonics {
            for (at, target) in theirs.targets.iter().enumerate().filter(|(_, target)| has(target, first)) {
                let both = |line: &&str| theirs.taken[line][at] && mine[line][at];
                if !theirs.statements[mnemonic].iter().any(both) {
                    wrong.insert(format!("`{mnemonic}` of `{form}` is not taken by both for {target}"));
                }
            }
        }
    }
    let unchanged: BTreeSet<&str> = theirs.forms.iter().flat_map(|(_, _, all)| all).copied().collect();
    let mut used = BTreeSet::new();
    for (mnemonic, lines) in &theirs.statements {
        for line in lines {
            for (at, target) in theirs.targets.iter().enumerate() {
                match (mine[line][at], theirs.taken[line][at]) {
                    (true, false) => {
                        wrong.insert(format!("the emulator alone takes `{line}` for {target}"));
                    }
                    (false, true) => {
                        if let Some(row) = reason(mnemonic) {
                            used.insert(row);
                        } else {
                            wrong.insert(format!("the assembler alone takes `{line}` for {target}"));
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    for (_, (opcode, with, _, why)) in REFUSED.iter().enumerate().filter(|(row, _)| !used.contains(row)) {
        wrong.insert(format!("nothing asked shows that `{opcode}` with {with:?} is refused ({why})"));
    }
    println!(
        "{} forms of the grammar and {} others in {} statements, for each of {:?}",
        unchanged.len(),
        theirs.statements.len() - unchanged.len(),
        mine.len(),
        theirs.targets
    );
    let all: Vec<_> = wrong.into_iter().collect();
    assert!(all.is_empty() && !mine.is_empty(), "{} are wrong:\n{}", all.len(), all.join("\n"));
}
