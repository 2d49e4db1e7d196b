//! The opcodes there are, by group. Whatever is not here is refused; whatever is here has a test (`INSTRUCTIONS.md`).

/// Opcodes by group.
pub(crate) const GROUPS: [(&str, &[&str]); 12] = [
    (
        "Integers",
        &[
            "addc",
            "subc",
            "mad",
            "madc",
            "mul24",
            "mad24",
            "sad",
            "rem",
            "dp2a",
            "dp4a",
            "vadd2",
            "vadd4",
            "vsub2",
            "vsub4",
            "vmin2",
            "vmin4",
            "vmax2",
            "vmax4",
            "vavrg2",
            "vavrg4",
            "vabsdiff2",
            "vabsdiff4",
            "vset2",
            "vset4",
        ],
    ),
    ("Integers and floats", &["add", "sub", "mul", "div", "abs", "neg", "min", "max"]),
    ("Floats", &["fma", "copysign", "rcp", "sqrt", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh", "testp"]),
    (
        "Bits",
        &[
            "and", "or", "xor", "not", "cnot", "shl", "shr", "shf", "lop3", "prmt", "bfe", "bfi", "bfind",
            "brev", "clz", "popc", "fns", "bmsk", "szext",
        ],
    ),
    ("Comparison and selection", &["setp", "set", "selp", "slct"]),
    ("Moves and conversions", &["mov", "cvt", "cvta", "isspacep"]),
    (
        "Memory",
        &[
            "ld",
            "ldu",
            "st",
            "atom",
            "red",
            "membar",
            "fence",
            "prefetch",
            "prefetchu",
            "applypriority",
            "discard",
            "createpolicy",
            "alloca",
            "stacksave",
            "stackrestore",
        ],
    ),
    ("Control", &["bra", "brx", "call", "ret", "exit", "trap", "brkpt", "nanosleep", "pmevent"]),
    ("Warps and blocks", &["shfl", "vote", "match", "redux", "elect", "activemask", "bar", "barrier"]),
    ("Matrices", &["mma", "wmma", "wgmma", "ldmatrix", "stmatrix", "movmatrix"]),
    ("Asynchronous copies", &["cp", "mbarrier", "tensormap"]),
    ("Clusters", &["mapa", "getctarank", "setmaxnreg", "griddepcontrol"]),
];

/// Whether there is such an opcode.
pub(crate) fn knows(opcode: &str) -> bool {
    GROUPS.iter().any(|(_, opcodes)| opcodes.contains(&opcode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Write;
    use std::path::Path;

    /// Opcodes that may stand without a modifier.
    const BARE: [&str; 6] = ["bra", "call", "ret", "exit", "trap", "brkpt"];

    /// Where an opcode is tested, and how.
    #[derive(Default)]
    struct Use {
        modifiers: BTreeSet<String>,
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
            let bare = BARE.contains(&opcode)
                && (rest.starts_with(';') || rest.starts_with(" (") || opcode == "bra");
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
    const FILES: [&str; 16] = [
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
    ];
    /// The most of them that an instruction names.
    const MOST_FILES: usize = 4;

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
                for (opcode, modifiers) in statements(line) {
                    let one = uses.entry(opcode.into()).or_default();
                    one.modifiers.extend(modifiers.iter().map(|m| m.to_string()));
                    match one.tests.iter_mut().find(|t| t.0 == name) {
                        Some((_, first)) => *first = first.take().or(test.clone()),
                        None => one.tests.push((name, test.clone())),
                    }
                }
            }
        }
        uses
    }

    fn document(uses: &BTreeMap<String, Use>) -> String {
        let mut text = String::from(
            "# Instructions\n\nEvery opcode that the emulator has, the modifiers that its tests use (those of forms that must be refused among \
             them), and where the first of these are: a link's title is the first test in that file.\nThe test `every_opcode_is_in_the_table` writes this file: `BLESS=1 \
             cargo test -p ptx-emulator --lib table`.\n",
        );
        for (group, opcodes) in GROUPS {
            write!(text, "\n## {group}\n\n| instruction | modifiers | tests |\n|---|---|---|\n").unwrap();
            for opcode in opcodes {
                let Some(one) = uses.get(*opcode) else { continue };
                let modifiers: Vec<_> = one.modifiers.iter().map(|m| format!(".{m}")).collect();
                let modifiers =
                    if modifiers.is_empty() { String::new() } else { format!("`{}`", modifiers.join(" ")) };
                let link = |(file, test): &(&str, Option<String>)| match test {
                    Some(test) => format!("[{file}](tests/{file} \"{test}\")"),
                    None => format!("[{file}](tests/{file})"),
                };
                let tests: Vec<_> = one.tests.iter().take(MOST_FILES).map(link).collect();
                writeln!(text, "| `{opcode}` | {modifiers} | {} |", tests.join(", ")).unwrap();
            }
        }
        text
    }

    #[test]
    fn every_opcode_is_in_the_table() {
        let uses = uses();
        let untested: Vec<_> =
            GROUPS.iter().flat_map(|g| g.1).filter(|opcode| !uses.contains_key(**opcode)).collect();
        assert!(untested.is_empty(), "no test has {untested:?}");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("INSTRUCTIONS.md");
        let text = document(&uses);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == text, "INSTRUCTIONS.md is not what the tests say: run this test with BLESS=1");
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

    #[test]
    fn no_opcode_is_named_twice() {
        let mut all: Vec<_> = GROUPS.iter().flat_map(|g| g.1).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
