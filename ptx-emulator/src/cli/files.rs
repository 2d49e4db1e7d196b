//! Files that appear whole or not at all.

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};

/// Files that a command is going to write: what is there stays until all new ones are complete.
#[derive(Default)]
pub struct Outputs {
    /// Where each goes, and the temporary file beside it once that is written.
    files: Vec<(PathBuf, PathBuf)>,
}

impl Outputs {
    /// Says before any work is done that a file cannot be written there.
    pub fn check<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> anyhow::Result<()> {
        let mut seen: Vec<&PathBuf> = Vec::new();
        for path in paths {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if path.is_dir() || path.file_name().is_none() {
                bail!("writing {}: it is a folder", path.display());
            }
            if !parent.is_dir() {
                bail!("writing {}: there is no folder {}", path.display(), parent.display());
            }
            if seen.contains(&path) {
                bail!("writing {}: two outputs name it", path.display());
            }
            seen.push(path);
        }
        Ok(())
    }

    /// Writes a file beside `path`.
    pub fn add(&mut self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        let name = path.file_name().with_context(|| format!("{} is no file name", path.display()))?;
        let name = format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id());
        let temporary = path.with_file_name(name);
        self.files.push((path.into(), temporary.clone()));
        std::fs::write(&temporary, bytes).with_context(|| format!("writing {}", path.display()))
    }

    /// Puts all of them in their places.
    pub fn finish(mut self) -> anyhow::Result<()> {
        while let Some((path, temporary)) = self.files.first().cloned() {
            std::fs::rename(&temporary, &path).with_context(|| format!("writing {}", path.display()))?;
            self.files.remove(0);
        }
        Ok(())
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        for (_, temporary) in &self.files {
            // The error that led here is the one to report.
            let _ = std::fs::remove_file(temporary);
        }
    }
}
