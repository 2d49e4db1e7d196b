//! Cuts a PTX text into its top-level statements. Knows brackets, strings and comments, and no instructions.

use std::collections::BTreeSet;

/// What a top-level statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `.version`, `.target` or `.address_size`.
    Header,
    /// A kernel, with its body.
    Entry,
    /// A function: its definition or a declaration ahead of one.
    Function {
        /// Whether it has a body.
        defined: bool,
        /// Whether it is said to be defined elsewhere.
        external: bool,
    },
    /// A variable of any state space.
    Variable,
    /// A comment line.
    Comment,
    /// The name of a source file.
    File,
    /// Anything else: `.section`.
    Other,
}

/// A top-level statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// What it is.
    pub kind: Kind,
    /// What it defines or declares; empty where it names nothing.
    pub name: &'a str,
    /// Its text, without the space around it.
    pub text: &'a str,
    /// The line it starts on, from 1.
    pub line: usize,
}

impl Statement<'_> {
    /// All identifiers in the text, outside of comments and strings.
    pub fn identifiers(&self) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut rest = self.text;
        while !rest.is_empty() {
            let skipped = skip_opaque(rest);
            if skipped > 0 {
                rest = &rest[skipped..];
                continue;
            }
            let word = word_length(rest);
            if word > 0 {
                found.insert(&rest[..word]);
                rest = &rest[word..];
            } else {
                rest = &rest[char_length(rest)..];
            }
        }
        found
    }
}

/// The statements of a module, in order, or the line where the text makes no sense.
pub fn statements(ptx: &str) -> Result<Vec<Statement<'_>>, String> {
    let mut all = Vec::new();
    let mut position = 0;
    loop {
        position += ptx[position..].len() - ptx[position..].trim_start().len();
        if position == ptx.len() {
            return Ok(all);
        }
        let line = ptx[..position].matches('\n').count() + 1;
        let length = statement_length(&ptx[position..]).map_err(|what| format!("line {line}: {what}"))?;
        let text = ptx[position..position + length].trim_end();
        let (kind, name) = classify(text);
        all.push(Statement { kind, name, text, line });
        position += length;
    }
}

/// The bytes of the statement that `text` begins with.
fn statement_length(text: &str) -> Result<usize, String> {
    let to_line_end = text.find('\n').unwrap_or(text.len());
    if text.starts_with("//") {
        return Ok(to_line_end);
    }
    if text.starts_with("/*") {
        return Ok(skip_opaque(text));
    }
    let first = &text[..1 + word_length(&text[1..])];
    if matches!(first, ".version" | ".target" | ".address_size" | ".file" | ".loc" | ".pragma") {
        return Ok(to_line_end);
    }
    let mut depth = Vec::new();
    let mut has_code = false;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let skipped = skip_opaque(rest);
        if skipped > 0 {
            at += skipped;
            continue;
        }
        let word = word_length(rest);
        if word > 0 {
            has_code |= depth.is_empty()
                && text[..at].ends_with('.')
                && matches!(&rest[..word], "entry" | "func" | "section");
            at += word;
            continue;
        }
        let c = rest.chars().next().expect("the text goes on");
        at += c.len_utf8();
        match c {
            '(' | '{' | '[' => depth.push(c),
            ')' | '}' | ']' => {
                let open = depth.pop();
                if !matches!((open, c), (Some('('), ')') | (Some('{'), '}') | (Some('['), ']')) {
                    return Err(format!("`{c}` closes what was never opened"));
                }
                if c == '}' && depth.is_empty() && has_code {
                    return Ok(at);
                }
            }
            ';' if depth.is_empty() => return Ok(at),
            _ => {}
        }
    }
    Err(format!("`{}` never ends", text.lines().next().unwrap_or_default()))
}

/// The kind of a statement and the name it defines.
fn classify(text: &str) -> (Kind, &str) {
    if text.starts_with("//") || text.starts_with("/*") {
        return (Kind::Comment, "");
    }
    // The words before the parameters, the initial value or the body.
    let mut words = Vec::new();
    let mut rest = text;
    let mut parenthesis = 0;
    while !rest.is_empty() {
        let skipped = skip_opaque(rest);
        if skipped > 0 {
            rest = &rest[skipped..];
            continue;
        }
        let dot = usize::from(rest.starts_with('.'));
        let word = word_length(&rest[dot..]);
        if word > 0 {
            if parenthesis == 0 {
                words.push(&rest[..dot + word]);
            }
            rest = &rest[dot + word..];
            continue;
        }
        match rest.as_bytes()[0] {
            b'(' => {
                // A function's result stands in parentheses before its name, its parameters after.
                if words.last().is_some_and(|word| !word.starts_with('.')) {
                    break;
                }
                parenthesis += 1;
            }
            b')' => parenthesis -= 1,
            b'{' | b'=' | b'[' | b';' => break,
            _ => {}
        }
        rest = &rest[char_length(rest)..];
    }
    let has = |word| words.contains(&word);
    let name = words.iter().rev().find(|word| !word.starts_with('.')).copied().unwrap_or_default();
    match words.first().copied().unwrap_or_default() {
        ".version" | ".target" | ".address_size" => (Kind::Header, ""),
        ".file" => (Kind::File, ""),
        ".loc" | ".pragma" | ".section" => (Kind::Other, ""),
        _ if has(".entry") => (Kind::Entry, first_name(&words)),
        _ if has(".func") => {
            let kind = Kind::Function { defined: text.ends_with('}'), external: has(".extern") };
            (kind, first_name(&words))
        }
        _ if has(".global") || has(".const") || has(".shared") || has(".local") || has(".tex") => {
            // `.align 16` leaves its number among the words; the name is the last.
            (Kind::Variable, name)
        }
        _ => (Kind::Other, ""),
    }
}

/// The first word that is no directive.
fn first_name<'a>(words: &[&'a str]) -> &'a str {
    words.iter().find(|word| !word.starts_with('.')).copied().unwrap_or_default()
}

/// The bytes of the comment or string that `text` begins with, 0 if it begins with neither.
pub(crate) fn skip_opaque(text: &str) -> usize {
    if text.starts_with("//") {
        text.find('\n').unwrap_or(text.len())
    } else if text.starts_with("/*") {
        text.find("*/").map_or(text.len(), |end| end + 2)
    } else if let Some(quoted) = text.strip_prefix('"') {
        quoted.find('"').map_or(text.len(), |end| end + 2)
    } else {
        0
    }
}

/// The bytes of the identifier or number that `text` begins with.
fn word_length(text: &str) -> usize {
    let of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '%');
    text.find(|c| !of_word(c)).unwrap_or(text.len())
}

fn char_length(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "\
//
// Generated by LLVM NVPTX Back-End
//
.version 7.4
.target sm_70
.address_size 64

.extern .shared .align 1024 .b8 smem[];
// launch_bounds k 128 3
.global .align 8 .u64 table[2] = {generic(a), 7};
.extern .func  (.param .b32 func_retval0) helper
()
;
.func (.param .b32 r) add_one(
\t.param .b32 add_one_param_0
)
.noreturn
{
\t{ // callseq ; }
\tcall.uni (retval0), helper, ();
\t}
\tret;
}
.visible .entry k(
\t.param .u64 .ptr .align 1 k_param_0
)
{
\tmov.u32 %r1, smem;
}
";

    #[test]
    fn every_statement_is_found_with_its_kind_name_and_line() {
        let all = statements(MODULE).unwrap();
        let found: Vec<_> =
            all.iter().filter(|s| s.kind != Kind::Comment).map(|s| (s.kind, s.name, s.line)).collect();
        assert_eq!(
            found,
            [
                (Kind::Header, "", 4),
                (Kind::Header, "", 5),
                (Kind::Header, "", 6),
                (Kind::Variable, "smem", 8),
                (Kind::Variable, "table", 10),
                (Kind::Function { defined: false, external: true }, "helper", 11),
                (Kind::Function { defined: true, external: false }, "add_one", 14),
                (Kind::Entry, "k", 24),
            ]
        );
        assert!(all.last().unwrap().text.ends_with("mov.u32 %r1, smem;\n}"));
    }

    #[test]
    fn identifiers_do_not_come_from_comments_or_strings() {
        let text = "mov a$b, _c; // d\n/* e */ .file 1 \"f\"";
        let statement = Statement { kind: Kind::Other, name: "", text, line: 1 };
        let found: Vec<_> = statement.identifiers().into_iter().collect();
        assert_eq!(found, ["1", "_c", "a$b", "file", "mov"]);
    }

    #[test]
    fn broken_texts_are_refused_with_their_line() {
        assert_eq!(statements("\n.global .u32 a").unwrap_err(), "line 2: `.global .u32 a` never ends");
        assert_eq!(
            statements(".global .u32 a[2)];").unwrap_err(),
            "line 1: `)` closes what was never opened"
        );
    }
}
