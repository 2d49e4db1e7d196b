//! What the command prints.

use std::io::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Where lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// To the output.
    Stdout,
    /// Beside it, where the output is bytes.
    Stderr,
}

impl Words {
    /// Prints a line. Whoever closes the pipe does not want it.
    pub fn say(self, text: &str) {
        let _ = match self {
            Words::Stdout => writeln!(std::io::stdout().lock(), "{text}"),
            Words::Stderr => writeln!(std::io::stderr().lock(), "{text}"),
        };
    }
}

/// Prints a line on stdout.
pub fn say(text: &str) {
    Words::Stdout.say(text);
}

/// The widest line of a table.
const WIDTH: u16 = 110;

/// Prints one sentence on stderr.
pub fn complain(sentence: &str) {
    let _ = writeln!(std::io::stderr().lock(), "error: {sentence}");
}

/// An empty table with a heading; the columns from `numbers` on hold numbers.
pub fn table(heading: &[&str], numbers: std::ops::Range<usize>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(heading);
    // Long sentences go on in the next line.
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    for column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
