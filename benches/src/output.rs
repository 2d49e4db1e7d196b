//! What the command prints, and the files it writes.

use std::io::Write;
use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table, presets};
use tempfile::NamedTempFile;

/// Prints a line. Whoever closes the pipe does not want it.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints one sentence on stderr.
pub fn complain(sentence: &str) {
    let _ = writeln!(std::io::stderr().lock(), "error: {sentence}");
}

/// An empty table with a heading; all but the first `words` columns hold numbers.
pub fn table(heading: &[&str], words: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(heading);
    for column in table.column_iter_mut().skip(words) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A file that is going to be written: what is there stays until the new one is complete.
#[derive(Debug)]
pub struct Pending {
    path: PathBuf,
    file: NamedTempFile,
}

impl Pending {
    /// Opens a temporary file beside `path`.
    ///
    /// # Errors
    /// Where nothing can be written there.
    pub fn new(path: &Path) -> Result<Pending, String> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if path.is_dir() {
            return Err(format!("cannot write {}: it is a folder", path.display()));
        }
        let file = tempfile::Builder::new().prefix(".bench-").tempfile_in(folder);
        file.map(|file| Pending { path: path.into(), file })
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    /// Writes it whole and puts it in its place.
    ///
    /// # Errors
    /// Where that fails; what was there before is still there.
    pub fn write(mut self, bytes: &[u8]) -> Result<(), String> {
        let path = self.path;
        let write = || {
            self.file.write_all(bytes)?;
            #[cfg(unix)]
            {
                // A temporary file is its owner's alone; the result is as public as what it replaces, or as any new file.
                use std::os::unix::fs::PermissionsExt;
                let mode = std::fs::metadata(&path).map_or(0o644, |old| old.permissions().mode() & 0o777);
                self.file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
            }
            self.file.persist(&path).map(drop).map_err(|error| error.error)
        };
        write().map_err(|error| format!("cannot write {}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_only_when_the_new_one_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        std::fs::write(&path, "old").unwrap();
        drop(Pending::new(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        Pending::new(&path).unwrap().write(b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_found_before_anything_is_measured() {
        let error = Pending::new(Path::new("/nonexistent/results.json")).unwrap_err();
        assert!(error.starts_with("cannot write /nonexistent/results.json: "), "{error}");
    }

    #[test]
    fn words_are_left_and_numbers_right() {
        let mut table = table(&["name", "number"], 1);
        table.add_row(["a", "1"]).add_row(["long", "12345678"]);
        assert!(table.to_string().contains("│ a             1 │"), "{table}");
    }
}
