//! Counts instructions per kernel, and compares the collective ones with what the source says.
//!
//! A barrier that the compiler copied into both arms of a branch, or a shuffle that it moved into one, is legal PTX and
//! a wrong kernel. Its count gives it away.

use std::collections::BTreeMap;
use std::fmt;

use super::markers;
use super::scan::{Kind, skip_opaque, statements};

/// How often a kernel must have each instruction: kernel name, then instruction, then count.
pub type Expected = BTreeMap<String, BTreeMap<String, usize>>;

/// The instructions that several threads must execute together, as prefixes of mnemonics.
pub const COLLECTIVES: [&str; 16] = [
    "bar.sync",
    "bar.arrive",
    "bar.red",
    "bar.warp.sync",
    "shfl.sync",
    "vote.sync",
    "match.any.sync",
    "match.all.sync",
    "redux.sync",
    "elect.sync",
    "barrier.cluster",
    "setmaxnreg",
    "wgmma",
    "mma.sync",
    "ldmatrix.sync",
    "stmatrix.sync",
];

/// A count that is not what the source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The kernel.
    pub kernel: String,
    /// The instruction.
    pub instruction: String,
    /// What the source says; `None` where it says nothing of a collective instruction.
    pub expected: Option<usize>,
    /// What the PTX has; `None` where there is no such kernel.
    pub found: Option<usize>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, instruction, expected, found } = self;
        match (expected, found) {
            (_, None) => write!(f, "there is no kernel `{kernel}`, for which counts are stated"),
            (Some(expected), Some(found)) => {
                write!(f, "`{kernel}` has {found} × {instruction}, its source says {expected}")
            }
            (None, Some(found)) => {
                write!(f, "`{kernel}` has {found} × {instruction}, of which its source says nothing")
            }
        }
    }
}

/// How often each kernel of a module has each instruction, by full mnemonic (`shfl.sync.bfly.b32`).
///
/// Functions that a kernel calls are not counted in.
pub fn mnemonics(ptx: &str) -> Result<BTreeMap<String, BTreeMap<String, usize>>, String> {
    let mut all = BTreeMap::new();
    for entry in statements(ptx)?.iter().filter(|statement| statement.kind == Kind::Entry) {
        let body = entry.text.find('{').map_or("", |at| &entry.text[at..]);
        let mut counts = BTreeMap::new();
        for mnemonic in instructions(body) {
            *counts.entry(mnemonic).or_insert(0) += 1;
        }
        all.insert(entry.name.to_string(), counts);
    }
    Ok(all)
}

/// The mnemonics of a body, in order.
fn instructions(body: &str) -> Vec<String> {
    // Without comments, instructions are what stands between `;`, `{`, `}` and after labels. A brace within an
    // instruction is a vector operand and starts nothing: what follows it there begins with no letter or is a register.
    let mut plain = String::with_capacity(body.len());
    let mut rest = body;
    while !rest.is_empty() {
        let skipped = skip_opaque(rest).max(rest.chars().next().map_or(0, char::len_utf8));
        if skip_opaque(rest) == 0 {
            plain += &rest[..skipped];
        } else {
            plain.push(' ');
        }
        rest = &rest[skipped..];
    }
    // Line numbers end with their line rather than with a semicolon.
    let plain: String =
        plain.lines().filter(|line| !line.trim_start().starts_with(".loc")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for piece in plain.split(';') {
        let mut text = piece.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '{' | '}'));
        while let Some((label, after)) = text.split_once(':') {
            // `ld.global.L1::no_allocate` is no label.
            if label.contains(char::is_whitespace) || after.starts_with(':') {
                break;
            }
            text = after.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '{' | '}'));
        }
        if text.starts_with('@') {
            text = text.split_once(char::is_whitespace).map_or("", |(_, after)| after.trim_start());
        }
        let mnemonic = text.split(|c: char| c.is_whitespace() || c == '{').next().unwrap_or_default();
        if mnemonic.starts_with(|c: char| c.is_ascii_alphabetic()) {
            found.push(mnemonic.to_string());
        }
    }
    found
}

/// How many of a kernel's instructions are `instruction` or begin with it and a dot: `shfl.sync` is any shuffle.
pub fn count(mnemonics: &BTreeMap<String, usize>, instruction: &str) -> usize {
    mnemonics
        .iter()
        .filter(|(mnemonic, _)| {
            let mnemonic = canonical(mnemonic);
            mnemonic.strip_prefix(instruction).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
        .map(|(_, count)| count)
        .sum()
}

/// The older of two spellings of one instruction.
fn canonical(mnemonic: &str) -> String {
    match mnemonic.strip_prefix("barrier.") {
        Some(rest) if !rest.starts_with("cluster") => {
            format!("bar.{}", rest.strip_prefix("cta.").unwrap_or(rest))
        }
        _ => mnemonic
            .strip_prefix("bar.cta.")
            .map_or_else(|| mnemonic.to_string(), |rest| format!("bar.{rest}")),
    }
}

/// What the sources of a module's kernels say, from their `// collectives` markers.
pub fn stated(ptx: &str) -> Result<Expected, String> {
    let markers = markers::collect(&statements(ptx)?)?;
    Ok(markers
        .into_iter()
        .filter(|(_, m)| !m.collectives.is_empty())
        .map(|(k, m)| (k, m.collectives))
        .collect())
}

/// Compares the counts of the kernels in `ptx` with the expected ones.
///
/// A kernel that `expected` names must have all its [`COLLECTIVES`] stated: one of which nothing is said is a
/// mismatch too. Kernels that are not in `expected` are not looked at.
pub fn check_collectives(ptx: &str, expected: &Expected) -> Result<(), Vec<Mismatch>> {
    let unreadable = |message: String| {
        vec![Mismatch { kernel: message, instruction: String::new(), expected: None, found: None }]
    };
    let found = mnemonics(ptx).map_err(unreadable)?;
    let mut mismatches = Vec::new();
    for (kernel, counts) in expected {
        let mut mismatch = |instruction: &str, expected, found| {
            mismatches.push(Mismatch {
                kernel: kernel.clone(),
                instruction: instruction.to_string(),
                expected,
                found,
            });
        };
        let Some(has) = found.get(kernel) else {
            mismatch("", None, None);
            continue;
        };
        for (instruction, &wanted) in counts {
            let n = count(has, instruction);
            if n != wanted {
                mismatch(instruction, Some(wanted), Some(n));
            }
        }
        for collective in COLLECTIVES {
            let named = |name: &String| name.starts_with(collective) || collective.starts_with(name.as_str());
            let n = count(has, collective);
            if n > 0 && !counts.keys().any(named) {
                mismatch(collective, None, Some(n));
            }
        }
    }
    if mismatches.is_empty() { Ok(()) } else { Err(mismatches) }
}

/// The kernels that keep arrays in local memory, which is global memory in disguise: an array that should be registers.
pub fn uses_local_memory(ptx: &str) -> Result<Vec<String>, String> {
    let all = statements(ptx)?;
    let local = |text: &str| text.lines().any(|line| line.trim_start().starts_with(".local "));
    Ok(all.iter().filter(|s| s.kind == Kind::Entry && local(s.text)).map(|s| s.name.to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTX: &str = "\
// collectives k bar.sync=2 shfl.sync=1
.visible .entry k()
{
\t.local .align 4 .b8 \t__local_depot0[16];
\t.reg .b32 \t%r<9>;
\t.loc\t1 3 0
\tbar.sync \t0;
$L__BB0_1:
\tbarrier.cta.sync.aligned 1, 64;
\t@%p1 bra \t$L__BB0_1;
\t// begin inline asm
\t{ .reg .pred q; setp.eq.u32 q, %r1, 0; @q bar.arrive 2, 64; }
\t// end inline asm
\tshfl.sync.bfly.b32 %r1, %r2, 1, 31, -1; // bar.sync
\tmov.b32 {%rs1, %rs2}, %r1;
\tld.global.nc.L1::no_allocate.b32 %r1, [%rd1];
\tld.shared.v4.f32 {%r1, %r2, %r3, %r4}, [%r5+0];
\t{ // callseq 0, 0
\tcall.uni (retval0), f, ();
\t}
\tret;
}
.visible .entry plain()
{
\tret;
}
";

    #[test]
    fn instructions_are_counted_wherever_they_stand() {
        let all = mnemonics(PTX).unwrap();
        let k = &all["k"];
        let expected = [
            ("bar.arrive", 1),
            ("bar.sync", 1),
            ("barrier.cta.sync.aligned", 1),
            ("bra", 1),
            ("call.uni", 1),
            ("ld.global.nc.L1::no_allocate.b32", 1),
            ("ld.shared.v4.f32", 1),
            ("mov.b32", 1),
            ("ret", 1),
            ("setp.eq.u32", 1),
            ("shfl.sync.bfly.b32", 1),
        ];
        assert_eq!(k.iter().map(|(m, n)| (m.as_str(), *n)).collect::<Vec<_>>(), expected);
        assert_eq!((count(k, "bar.sync"), count(k, "shfl.sync"), count(k, "shfl.sy")), (2, 1, 0));
        assert_eq!(all["plain"].len(), 1);
    }

    #[test]
    fn a_count_that_differs_and_one_that_is_missing_are_both_reported() {
        let mut expected = stated(PTX).unwrap();
        let unstated = check_collectives(PTX, &expected).unwrap_err();
        assert_eq!(unstated.len(), 1);
        assert_eq!(unstated[0].to_string(), "`k` has 1 × bar.arrive, of which its source says nothing");
        let k = expected.get_mut("k").unwrap();
        k.insert("bar.arrive".into(), 1);
        assert_eq!(check_collectives(PTX, &expected), Ok(()));
        expected.get_mut("k").unwrap().insert("bar.sync".into(), 1);
        let wrong = check_collectives(PTX, &expected).unwrap_err();
        assert_eq!(wrong[0].to_string(), "`k` has 2 × bar.sync, its source says 1");
    }

    #[test]
    fn a_kernel_that_is_not_there_is_reported() {
        let expected = Expected::from([("gone".to_string(), BTreeMap::new())]);
        let wrong = check_collectives(PTX, &expected).unwrap_err();
        assert_eq!(wrong[0].to_string(), "there is no kernel `gone`, for which counts are stated");
    }

    #[test]
    fn local_memory_is_seen() {
        assert_eq!(uses_local_memory(PTX).unwrap(), ["k"]);
    }
}
