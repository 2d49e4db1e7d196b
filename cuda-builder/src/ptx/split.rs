//! Makes one module of each kernel: the header, what the kernel refers to, and the kernel with its bounds written in.

use std::collections::{BTreeMap, BTreeSet};

use super::markers::{self, KernelMarkers};
use super::scan::{Kind, Statement, statements};

/// A kernel and the text of its module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelModule {
    /// The entry point.
    pub name: String,
    /// The module: its first line is [`FIRST_LINE`] and the name.
    pub ptx: String,
}

/// What each module's text begins with; the kernel's name follows.
pub const FIRST_LINE: &str = "// Written by cuda_builder: kernel ";

/// The modules of all kernels, sorted by name. The same input gives the same output, byte for byte.
pub fn split(ptx: &str) -> Result<Vec<KernelModule>, String> {
    let statements = statements(ptx)?;
    let mut markers = markers::collect(&statements)?;
    let mut modules = Vec::new();
    for entry in statements.iter().filter(|statement| statement.kind == Kind::Entry) {
        let marker = markers.remove(entry.name).unwrap_or_default();
        modules
            .push(KernelModule { name: entry.name.to_string(), ptx: module(entry, &marker, &statements)? });
    }
    if let Some(name) = markers.keys().next() {
        return Err(format!("there is a marker for the kernel `{name}`, and no such kernel"));
    }
    modules.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(modules)
}

fn module(entry: &Statement<'_>, marker: &KernelMarkers, all: &[Statement<'_>]) -> Result<String, String> {
    let needed = reachable(entry, all)?;
    let mut text = format!("{FIRST_LINE}{}\n", entry.name);
    if !marker.collectives.is_empty() {
        let counts: Vec<_> = marker.collectives.iter().map(|(op, count)| format!("{op}={count}")).collect();
        text += &format!("// collectives {} {}\n", entry.name, counts.join(" "));
    }
    for statement in all {
        match statement.kind {
            // Line tables are all the debug information there is, and they do not make it a debug build.
            Kind::Header => {
                text += statement.text.strip_suffix(", debug").unwrap_or(statement.text);
                text.push('\n');
            }
            Kind::File if entry.text.contains(".loc") => {
                text += statement.text;
                text.push('\n');
            }
            Kind::Function { .. } | Kind::Variable if needed.contains(statement.name) => {
                text.push('\n');
                text += statement.text;
                text.push('\n');
            }
            _ => {}
        }
    }
    text.push('\n');
    text += &with_directives(entry, marker)?;
    text.push('\n');
    Ok(text)
}

/// The names of all functions and variables that the entry refers to, directly or through another.
fn reachable<'a>(entry: &Statement<'a>, all: &[Statement<'a>]) -> Result<BTreeSet<&'a str>, String> {
    let mut by_name = BTreeMap::<&str, Vec<&Statement<'_>>>::new();
    for statement in all {
        if matches!(statement.kind, Kind::Function { .. } | Kind::Variable) {
            by_name.entry(statement.name).or_default().push(statement);
        }
    }
    let mut needed = BTreeSet::new();
    let mut open = vec![entry];
    while let Some(statement) = open.pop() {
        for word in statement.identifiers() {
            let Some((&name, definitions)) = by_name.get_key_value(word) else { continue };
            if needed.insert(name) {
                let defined = |s: &&&Statement<'_>| !matches!(s.kind, Kind::Function { defined: false, .. });
                // `vprintf` and its like are the driver's own.
                let provided = matches!(name, "vprintf" | "malloc" | "free" | "__assertfail");
                if !definitions.iter().any(|s| defined(&s)) && !provided {
                    return Err(format!(
                        "the kernel `{}` calls `{name}`, which is not defined in the device code (line {}): a function of another \
                         crate must be generic or #[inline(always)], and an intrinsic must exist under that name",
                        entry.name, definitions[0].line
                    ));
                }
                open.extend(definitions);
            }
        }
    }
    Ok(needed)
}

/// The entry with `.maxntid`, `.minnctapersm` and raised alignments.
fn with_directives(entry: &Statement<'_>, marker: &KernelMarkers) -> Result<String, String> {
    let body = entry.text.find('{').ok_or_else(|| format!("the kernel `{}` has no body", entry.name))?;
    let mut head = entry.text[..body].trim_end().to_string();
    for (index, bytes) in &marker.align {
        head = raise_alignment(&head, entry.name, *index, *bytes)?;
    }
    if let Some(threads) = marker.max_threads {
        head += &format!("\n.maxntid {threads}, 1, 1");
    }
    if let Some(blocks) = marker.min_blocks {
        head += &format!("\n.minnctapersm {blocks}");
    }
    Ok(format!("{head}\n{}", &entry.text[body..]))
}

fn raise_alignment(head: &str, kernel: &str, index: u32, bytes: u32) -> Result<String, String> {
    let name = format!("{kernel}_param_{index}[");
    let problem = || {
        format!(
            "parameter {index} of the kernel `{kernel}` has no alignment to raise: only structs and arrays by value have"
        )
    };
    let end = head.find(&name).ok_or_else(problem)?;
    let start = head[..end].rfind(".param").ok_or_else(problem)?;
    let declaration = &head[start..end];
    let number =
        declaration.split_whitespace().skip_while(|word| *word != ".align").nth(1).ok_or_else(problem)?;
    let old: u32 = number.parse().map_err(|_| problem())?;
    let raised = declaration.replacen(&format!(".align {old} "), &format!(".align {} ", old.max(bytes)), 1);
    Ok(format!("{}{raised}{}", &head[..start], &head[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTX: &str = "\
.version 7.4
.target sm_70
.address_size 64
.extern .shared .align 1024 .b8 smem[];
// launch_bounds b 384 1
// param_align b 0 64
// collectives b bar.sync=1
.func helper();
.global .align 4 .u32 used_by_helper = 3;
.global .align 4 .u32 unused = 3;
\t// .globl\tb
.visible .entry b(
\t.param .align 8 .b8 b_param_0[128],
\t.param .u32 b_param_1
)
{
\tbar.sync 0;
\tcall.uni helper, ();
\tret;
}
.visible .entry a()
{
\tmov.u32 %r1, smem;
\tret;
}
.func helper()
{
\tld.global.u32 %r1, [used_by_helper];
\tret;
}
";

    #[test]
    fn each_module_has_what_its_kernel_refers_to_and_no_more() {
        let modules = split(PTX).unwrap();
        assert_eq!(modules.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let (a, b) = (&modules[0].ptx, &modules[1].ptx);
        assert!(
            a.starts_with(
                "// Written by cuda_builder: kernel a\n.version 7.4\n.target sm_70\n.address_size 64\n"
            ),
            "{a}"
        );
        assert!(
            a.contains("smem[]") && !a.contains("helper") && !a.contains("unused") && !a.contains("entry b"),
            "{a}"
        );
        assert!(!b.contains("smem") && b.contains("used_by_helper = 3") && !b.contains("unused"), "{b}");
        assert_eq!(b.matches("helper()").count(), 2, "the declaration and the definition: {b}");
    }

    #[test]
    fn bounds_and_alignments_are_written_in() {
        let modules = split(PTX).unwrap();
        let b = &modules[1].ptx;
        assert!(b.contains(".param .align 64 .b8 b_param_0[128],"), "{b}");
        assert!(b.contains(")\n.maxntid 384, 1, 1\n.minnctapersm 1\n{"), "{b}");
        assert!(b.contains("// collectives b bar.sync=1\n"), "{b}");
        assert!(!modules[0].ptx.contains(".maxntid"));
    }

    #[test]
    fn source_lines_stay_and_the_rest_of_the_debug_information_goes() {
        let ptx = "\
.version 7.4
.target sm_70, debug
.visible .entry k()
{
\t.loc 1 3 0
\tret;
}
\t.file 1 \"/src/lib.rs\"
\t.section .debug_abbrev
\t{
.b8 1
\t}
";
        let text = &split(ptx).unwrap()[0].ptx;
        assert!(
            text.contains(".target sm_70\n.file 1 \"/src/lib.rs\"\n") && text.contains(".loc 1 3 0"),
            "{text}"
        );
        assert!(!text.contains(".section"), "{text}");
    }

    #[test]
    fn splitting_twice_gives_the_same() {
        assert_eq!(split(PTX).unwrap(), split(PTX).unwrap());
        let again = split(&split(PTX).unwrap()[0].ptx).unwrap();
        assert_eq!(again[0], split(PTX).unwrap()[0]);
    }

    #[test]
    fn what_cannot_be_linked_is_refused_by_name() {
        let ptx = ".extern .func f();\n.visible .entry k()\n{\n call f, ();\n}";
        assert!(split(ptx).unwrap_err().contains("the kernel `k` calls `f`, which is not defined"));
        let ptx = "// launch_bounds gone 32\n";
        assert!(split(ptx).unwrap_err().contains("no such kernel"));
        let ptx = "// param_align k 0 64\n.visible .entry k(\n .param .u64 k_param_0\n)\n{\n}";
        assert!(split(ptx).unwrap_err().contains("parameter 0 of the kernel `k` has no alignment"));
    }
}
