//! `INSTRUCTIONS.md`: every form that there is, and its tests.

use super::forms::{FORMS, Form, Kind, knows};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// Opcodes that may stand without a modifier.
const BARE: [&str; 6] = ["bra", "call", "ret", "exit", "trap", "brkpt"];

/// Where an opcode is tested, and how.
#[derive(Default)]
struct Use {
    /// Files with the first test in each.
    tests: Vec<(&'static str, Option<String>)>,
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The opcodes of a line, each with its modifiers.
fn statements(line: &str) -> Vec<(&str, Vec<&str>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = line[at..].find(|c: char| c.is_ascii_lowercase()).map(|n| at + n) {
        let end = line[start..].find(|c| !is_word(c)).map_or(line.len(), |n| start + n);
        let before = line[..start].chars().next_back();
        let (mut rest, mut modifiers) = (&line[end..], Vec::new());
        while let Some(more) = rest.strip_prefix('.') {
            let length = more.find(|c| !is_word(c) && c != ':').unwrap_or(more.len());
            let name = more[..length].trim_end_matches(':');
            if name.is_empty() {
                break;
            }
            modifiers.push(name);
            rest = &more[length..];
        }
        let opcode = &line[start..end];
        let alone = !before.is_some_and(|c| is_word(c) || ".%$:".contains(c));
        // `ret;`, `bra LABEL`, `call (r), f`, not the words of a comment.
        let bare =
            BARE.contains(&opcode) && (rest.starts_with(';') || rest.starts_with(" (") || opcode == "bra");
        let calls_rust = modifiers.last().is_some_and(|_| rest.starts_with('('));
        if alone && knows(opcode) && !calls_rust && (!modifiers.is_empty() || bare) {
            found.push((opcode, modifiers));
        }
        at = line.len() - rest.len();
        at += rest.chars().next().map_or(0, char::len_utf8);
        if at >= line.len() {
            break;
        }
    }
    found
}

/// The files that test instructions, those of single ones first.
const FILES: [&str; 20] = [
    "instructions.rs",
    "forms.rs",
    "narrow.rs",
    "execution.rs",
    "matrix.rs",
    "mma.rs",
    "tiles.rs",
    "fragments.rs",
    "wgmma.rs",
    "copies.rs",
    "mbarrier.rs",
    "bulk.rs",
    "tensormap.rs",
    "cluster.rs",
    "faults.rs",
    "stack.rs",
    "modules.rs",
    "rare_forms.rs",
    "seldom.rs",
    "special_registers.rs",
];
/// The most of them that an instruction names.
const MOST_FILES: usize = 4;

/// Opcodes whose tests make their forms from tables of shapes and types, and run all of them.
const COMPOSED: [&str; 3] = ["mma", "wmma", "wgmma"];

fn uses() -> BTreeMap<String, Use> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut uses: BTreeMap<String, Use> = BTreeMap::new();
    for name in FILES {
        let text = std::fs::read_to_string(tests.join(name)).unwrap();
        let (mut test, mut is_test) = (None, false);
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("fn ") {
                test = is_test.then(|| rest.split(['(', '<']).next().unwrap_or("").to_string());
            }
            is_test = line.starts_with("#[test]")
                || line.starts_with("#[rstest]")
                || is_test && line.starts_with("#[");
            if line.trim_start().starts_with("//") {
                continue;
            }
            for (opcode, _) in statements(line) {
                let one = uses.entry(opcode.into()).or_default();
                match one.tests.iter_mut().find(|t| t.0 == name) {
                    Some((_, first)) => *first = first.take().or(test.clone()),
                    None => one.tests.push((name, test.clone())),
                }
            }
        }
    }
    uses
}

/// A form in words for a table, in which `|` divides columns.
fn written(form: &Form) -> String {
    let target = match form.target.kind {
        Kind::Later if form.target.capability == 0 => String::new(),
        Kind::Later => format!(" from sm_{}", form.target.capability),
        Kind::Own => format!(" of sm_{}a", form.target.capability),
        Kind::LaterOwn => format!(" from sm_{}a, of an architecture", form.target.capability),
    };
    format!("`{}`{target}", form.text.replace('|', "/"))
}

fn document(uses: &BTreeMap<String, Use>) -> String {
    let mut text = String::from(
        "# Instructions\n\nEvery form of every instruction that the emulator has, and where its tests are: a link's title is the first test in \
         that file. What is not here is refused, by its line, when a module is read.\n\nOf modifiers in `( )` one must stand, of those in `{ }` \
         one may; `< >` is one of a set. Types stand in the order of the form, other modifiers in any. A form is there for every target where \
         nothing else is said; a module whose `.target` is older than a form is refused.\n\nThe forms are those of \
         [`forms.txt`](src/decode/forms.txt). The test `every_form_is_in_the_table` writes this file: `BLESS=1 cargo test -p ptx-emulator --lib \
         table`.\n\n## Sets\n\n| set | modifiers |\n|---|---|\n",
    );
    for (set, names) in &FORMS.sets {
        writeln!(text, "| `<{set}>` | `{}` |", names.replace('|', " ")).unwrap();
    }
    for (group, opcodes) in &FORMS.groups {
        write!(text, "\n## {group}\n\n| instruction | forms | tests |\n|---|---|---|\n").unwrap();
        for opcode in opcodes {
            let Some(one) = uses.get(*opcode) else { continue };
            let forms: Vec<_> = FORMS.of[opcode].iter().map(written).collect();
            let link = |(file, test): &(&str, Option<String>)| match test {
                Some(test) => format!("[{file}](tests/{file} \"{test}\")"),
                None => format!("[{file}](tests/{file})"),
            };
            let tests: Vec<_> = one.tests.iter().take(MOST_FILES).map(link).collect();
            writeln!(text, "| `{opcode}` | {} | {} |", forms.join("<br>"), tests.join(", ")).unwrap();
        }
    }
    text
}

#[test]
fn every_form_is_in_the_table() {
    let uses = uses();
    let opcodes = FORMS.groups.iter().flat_map(|group| &group.1);
    let untested: Vec<_> = opcodes.filter(|opcode| !uses.contains_key(**opcode)).collect();
    assert!(untested.is_empty(), "no test has {untested:?}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("INSTRUCTIONS.md");
    let text = document(&uses);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == text,
        "INSTRUCTIONS.md is not what forms.txt and the tests say: run this test with BLESS=1"
    );
}

/// A form is tested where one of its instructions stands in a test as it is; that the test runs what stands in it is not looked at.
#[test]
fn every_form_stands_in_a_test() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let texts = FILES.map(|name| std::fs::read_to_string(tests.join(name)).unwrap());
    let lines = texts.iter().flat_map(|text| text.lines());
    let code = lines.filter(|line| !line.trim_start().starts_with("//"));
    let mut written: BTreeMap<&str, BTreeSet<Vec<String>>> = BTreeMap::new();
    for (opcode, modifiers) in code.flat_map(statements) {
        let modifiers = modifiers.into_iter().map(String::from).collect();
        written.entry(opcode).or_default().insert(modifiers);
    }
    let opcodes = FORMS.groups.iter().flat_map(|group| &group.1).filter(|opcode| !COMPOSED.contains(opcode));
    let untested: Vec<_> = opcodes
        .flat_map(|opcode| FORMS.of[opcode].iter().map(move |form| (opcode, form)))
        .filter(|(opcode, form)| !written.get(**opcode).is_some_and(|all| all.iter().any(|m| form.takes(m))))
        .map(|(_, form)| form.text)
        .collect();
    assert!(untested.is_empty(), "no test has {untested:#?}");
}

#[test]
fn statements_are_told_from_prose_and_rust() {
    let found = statements(
        "(\"@%p1 add.cc.u32 %d, %a; ld.shared::cta.v4.b32 {x}; ret;\") min(a).max(b); x.add.y; add to",
    );
    let expected: Vec<(&str, Vec<&str>)> =
        vec![("add", vec!["cc", "u32"]), ("ld", vec!["shared::cta", "v4", "b32"]), ("ret", vec![])];
    assert_eq!(found, expected);
}
