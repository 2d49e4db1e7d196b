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

/// The most letters of a sentence: names and values in it come from files, which can hold anything.
const SENTENCE: usize = 2000;

/// Prints one sentence on stderr, in one line.
pub fn complain(sentence: &str) {
    let _ = writeln!(std::io::stderr().lock(), "error: {}", one_line(sentence));
}

/// The sentence with escapes in the place of control characters, and of bounded length.
fn one_line(sentence: &str) -> String {
    let mut line = String::new();
    for letter in sentence.chars().take(SENTENCE) {
        if letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}') {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    if sentence.chars().nth(SENTENCE).is_some() {
        line.push('…');
    }
    line
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_one_line_of_bounded_length() {
        assert_eq!(one_line("its x is 'a\nb\u{1b}[31m\u{2028}'"), r"its x is 'a\nb\u{1b}[31m\u{2028}'");
        let long = one_line(&"ä".repeat(SENTENCE + 1));
        assert_eq!((long.chars().count(), long.ends_with('…')), (SENTENCE + 1, true));
        assert!(!one_line(&"ä".repeat(SENTENCE)).ends_with('…'));
    }
}
