//! What `#[kernel(..)]` of `cuda_std` wrote into the assembly as comments.
//!
//! ```text
//! // launch_bounds NAME MAX_THREADS [MIN_BLOCKS]
//! // param_align NAME INDEX BYTES
//! // collectives NAME INSTRUCTION=COUNT …
//! ```

use std::collections::BTreeMap;

use super::scan::{Kind, Statement};

/// All that the source says of one kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelMarkers {
    /// At most so many threads in a block.
    pub max_threads: Option<u32>,
    /// Registers for at least so many blocks on a multiprocessor.
    pub min_blocks: Option<u32>,
    /// Parameters, counted from 0, and their alignment in bytes.
    pub align: BTreeMap<u32, u32>,
    /// Instructions and how often the kernel has them.
    pub collectives: BTreeMap<String, usize>,
}

/// The markers of each kernel named in the comments of a module.
pub fn collect(statements: &[Statement<'_>]) -> Result<BTreeMap<String, KernelMarkers>, String> {
    let mut all = BTreeMap::<String, KernelMarkers>::new();
    for statement in statements.iter().filter(|statement| statement.kind == Kind::Comment) {
        let mut words = statement.text.trim_start_matches('/').split_whitespace();
        let read = match words.next() {
            Some("launch_bounds") => launch_bounds,
            Some("param_align") => param_align,
            Some("collectives") => collectives,
            _ => continue,
        };
        let name = words.next().unwrap_or_default();
        let arguments: Vec<_> = words.collect();
        if name.is_empty() || read(all.entry(name.to_string()).or_default(), &arguments).is_none() {
            return Err(format!(
                "line {}: `{}` is no marker that cuda_std writes",
                statement.line, statement.text
            ));
        }
    }
    Ok(all)
}

fn launch_bounds(kernel: &mut KernelMarkers, arguments: &[&str]) -> Option<()> {
    let (threads, blocks) = match arguments {
        [threads] => (threads, None),
        [threads, blocks] => (threads, Some(blocks)),
        _ => return None,
    };
    kernel.max_threads = Some(threads.parse().ok().filter(|threads| (1..=1024).contains(threads))?);
    if let Some(blocks) = blocks {
        kernel.min_blocks = Some(blocks.parse().ok().filter(|blocks| *blocks > 0)?);
    }
    Some(())
}

fn param_align(kernel: &mut KernelMarkers, arguments: &[&str]) -> Option<()> {
    let [index, bytes] = arguments else { return None };
    let bytes: u32 = bytes.parse().ok().filter(|bytes: &u32| bytes.is_power_of_two() && *bytes <= 128)?;
    kernel.align.insert(index.parse().ok()?, bytes);
    Some(())
}

fn collectives(kernel: &mut KernelMarkers, arguments: &[&str]) -> Option<()> {
    for argument in arguments {
        let (instruction, count) = argument.split_once('=')?;
        kernel.collectives.insert(instruction.to_string(), count.parse().ok()?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::scan::statements;
    use super::*;

    #[test]
    fn markers_of_a_kernel_come_together() {
        let text = "// launch_bounds k 384 1\n// param_align k 0 64\n// collectives k bar.sync=2 shfl.sync=16\n// plain words\n// launch_bounds m 32\n";
        let all = collect(&statements(text).unwrap()).unwrap();
        assert_eq!(all.len(), 2);
        let k = &all["k"];
        assert_eq!((k.max_threads, k.min_blocks), (Some(384), Some(1)));
        assert_eq!(k.align, BTreeMap::from([(0, 64)]));
        assert_eq!(k.collectives["shfl.sync"], 16);
        assert_eq!((all["m"].max_threads, all["m"].min_blocks), (Some(32), None));
    }

    #[test]
    fn impossible_markers_are_refused() {
        for text in [
            "// launch_bounds k 2048",
            "// launch_bounds k",
            "// param_align k 0 48",
            "// collectives k bar.sync",
        ] {
            let error = collect(&statements(text).unwrap()).unwrap_err();
            assert!(error.starts_with("line 1: ") && error.contains(text), "{error}");
        }
    }
}
