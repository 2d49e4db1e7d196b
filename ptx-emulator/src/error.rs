//! What can go wrong, in words.

use thiserror::Error;

/// One thing wrong with a PTX text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line of the text, from 1.
    pub line: u32,
    /// What is wrong there.
    pub what: String,
}

/// A PTX text that cannot be run: every problem that was found, at most 50.
#[derive(Clone, Debug, Error)]
#[error("{}", self.describe())]
pub struct ParseError {
    /// The problems, in the order of their lines.
    pub problems: Vec<Problem>,
    /// The text of each problem's line.
    pub lines: Vec<String>,
}

impl ParseError {
    pub(crate) fn new(text: &str, mut problems: Vec<Problem>) -> ParseError {
        problems.sort_by_key(|p| p.line);
        let all: Vec<&str> = text.lines().collect();
        let line = |p: &Problem| all.get(p.line.saturating_sub(1) as usize).map_or("", |l| l.trim());
        let lines = problems.iter().map(|p| line(p).chars().take(200).collect()).collect();
        ParseError { problems, lines }
    }

    fn describe(&self) -> String {
        let each = self.problems.iter().zip(&self.lines);
        each.map(|(p, line)| format!("line {}: {} in `{line}`", p.line, p.what))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// A wrong use of the emulated memory by the host.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MemoryError {
    /// The limit of `Config::memory_limit` would be passed.
    #[error("allocating {asked} bytes: {used} of {limit} bytes are in use")]
    Limit {
        /// Bytes asked for.
        asked: u64,
        /// Bytes allocated before.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// The host itself has no memory left.
    #[error("allocating {asked} bytes: the host has no memory left")]
    Host {
        /// Bytes asked for.
        asked: u64,
    },
    /// A free of something that is not the start of a live allocation.
    #[error("freeing address {address:#x}: {near}")]
    Free {
        /// The address given.
        address: u64,
        /// What lies there.
        near: String,
    },
    /// A range that is not inside one allocation.
    #[error("{len} bytes at address {address:#x}: {near}")]
    Range {
        /// The address given.
        address: u64,
        /// Length of the range.
        len: u64,
        /// What lies there.
        near: String,
    },
}

/// A fault of one lane, before it is known where in the grid.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub lane: u32,
    pub what: String,
    /// Where in the program the other party was.
    pub other: Option<u32>,
}

/// Where a kernel failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The entry.
    pub kernel: String,
    /// Line of the PTX text, from 1.
    pub line: u32,
    /// That line.
    pub text: String,
    /// The place in the source that the line comes from, where the PTX has `.loc`: `FILE:LINE:COLUMN`.
    pub origin: Option<String>,
    /// `%ctaid`.
    pub block: [u32; 3],
    /// `%tid`.
    pub thread: [u32; 3],
    /// The warp of the block.
    pub warp: u32,
    /// The lane of the warp.
    pub lane: u32,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [bx, by, bz] = self.block;
        let [tx, ty, tz] = self.thread;
        write!(
            f,
            "kernel `{}`, block ({bx}, {by}, {bz}), thread ({tx}, {ty}, {tz}) (warp {}, lane {}), PTX line {}: `{}`",
            self.kernel, self.warp, self.lane, self.line, self.text
        )?;
        self.origin.iter().try_for_each(|source| write!(f, ", source {source}"))
    }
}

/// A launch that was refused or failed.
#[derive(Clone, Debug, Error)]
pub enum LaunchError {
    /// No such entry.
    #[error("the module has no entry `{name}`; it has {known}")]
    UnknownEntry {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Arguments, dimensions or resources that do not fit the kernel.
    #[error("launch of `{kernel}`: {what}")]
    Invalid {
        /// The entry.
        kernel: String,
        /// What does not fit, with numbers.
        what: String,
    },
    /// A thread did something that it may not.
    #[error("{what}; {place}")]
    Fault {
        /// Where.
        place: Box<Place>,
        /// What, with the address.
        what: String,
    },
    /// No thread of a block can go on.
    #[error("deadlock in kernel `{kernel}`, block ({}, {}, {}): {state}", .block[0], .block[1], .block[2])]
    Deadlock {
        /// The entry.
        kernel: String,
        /// `%ctaid`.
        block: [u32; 3],
        /// What every warp waits for.
        state: String,
    },
    /// `Config::max_instructions` was passed.
    #[error(
        "kernel `{kernel}` ran more than {limit} warp instructions; last in block ({}, {}, {}): {state}{}",
        .block[0], .block[1], .block[2],
        if *not_begun == 0 {
            String::new()
        } else {
            format!("; {not_begun} blocks had not begun, as those that may be resident together had not ended")
        }
    )]
    InstructionLimit {
        /// The entry.
        kernel: String,
        /// The limit.
        limit: u64,
        /// `%ctaid` of a block that ran.
        block: [u32; 3],
        /// Where each of its warps was, and what those that did not run waited for.
        state: String,
        /// Blocks that had not begun because as many as may be resident together (`Config::resident_blocks`) had not ended; 0 where
        /// there was room for more.
        not_begun: u64,
    },
    /// `LaunchOptions::cancel` was set.
    #[error("kernel `{kernel}` was cancelled after {done} of {blocks} blocks")]
    Cancelled {
        /// The entry.
        kernel: String,
        /// Blocks that had ended.
        done: u64,
        /// Blocks of the grid.
        blocks: u64,
    },
    /// The module's variables did not fit.
    #[error("loading the module: {0}")]
    Memory(MemoryError),
}

/// The sentence above has all that there is to say: no source, which would say it again.
impl From<MemoryError> for LaunchError {
    fn from(error: MemoryError) -> LaunchError {
        LaunchError::Memory(error)
    }
}
