//! What the command prints, and the file it writes.

use std::io::Write;
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};

use crate::Failure;

/// Prints a line. Whoever closes the pipe does not want it.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints one sentence on stderr.
pub fn complain(sentence: &str) {
    let _ = writeln!(std::io::stderr().lock(), "error: {sentence}");
}

/// An empty table with a heading; the columns from `numbers` on hold numbers.
pub fn table(heading: &[&str], numbers: std::ops::Range<usize>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(heading);
    for column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Writes a file whole or not at all: what was there before stays until the new one is complete.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || {
        let mut file = tempfile::Builder::new().prefix(".sdpa-").tempfile_in(folder)?;
        file.write_all(bytes)?;
        #[cfg(unix)]
        {
            // A temporary file is its owner's alone; the result is as public as what it replaces, or as any new file.
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(path).map_or(0o644, |old| old.permissions().mode() & 0o777);
            file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
        }
        file.persist(path).map(drop).map_err(|error| error.error)
    };
    write().map_err(|error| format!("cannot write {}: {error}", path.display()))
}
