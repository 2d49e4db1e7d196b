//! Where the command writes: files whole or not at all, everything else (pipes, devices) straight through.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Failure;

/// More symbolic links in a row than any system follows.
const LINKS: usize = 40;

/// A path that can be written to, found out before anything is computed.
#[derive(Debug)]
pub struct Destination {
    /// As it was given, for messages.
    given: PathBuf,
    way: Way,
}

#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// A new file takes the place of this one, which is no link, or appears there.
    Replace(PathBuf),
    /// What the path names stays, and the bytes go into it.
    Through,
    /// The command's own output.
    Stdout,
}

impl Destination {
    /// What a path means. Symbolic links are followed; what they point to need not exist.
    pub fn new(path: &Path) -> Result<Destination, Failure> {
        let way = way(path).map_err(|error| sentence(path, &error))?;
        Ok(Destination { given: path.into(), way })
    }

    /// The path as it was given.
    pub fn name(&self) -> impl Display {
        self.given.display()
    }

    /// Whether the bytes go where the command's words would go.
    pub fn is_stdout(&self) -> bool {
        self.way == Way::Stdout
    }

    /// Writes all of it. A file that was there before stays until the new one is complete.
    pub fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        let written = match &self.way {
            Way::Replace(target) => replace(target, bytes),
            Way::Through => through(&self.given, bytes),
            Way::Stdout => io::stdout().lock().write_all(bytes).and_then(|()| io::stdout().flush()),
        };
        written.map_err(|error| sentence(&self.given, &error))
    }
}

fn sentence(path: &Path, error: &io::Error) -> Failure {
    format!("cannot write {}: {error}", path.display())
}

fn way(path: &Path) -> io::Result<Way> {
    let mut target = path.to_path_buf();
    for _ in 0..LINKS {
        if ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| target == Path::new(name)) {
            return Ok(Way::Stdout);
        }
        // Links there lead to open files, which have no other name that could be trusted.
        if target.starts_with("/proc") || target.starts_with("/dev/fd") {
            return Ok(Way::Through);
        }
        match std::fs::symlink_metadata(&target) {
            Ok(found) if found.is_symlink() => {
                let link = std::fs::read_link(&target)?;
                target = folder(&target).join(link);
            }
            Ok(found) if found.is_dir() => return Err(io::Error::other("it is a directory")),
            Ok(found) if found.is_file() => {
                // Who may not write into a file may not put another in its place.
                OpenOptions::new().write(true).open(&target)?;
                return Ok(Way::Replace(target));
            }
            Ok(_) => return Ok(Way::Through),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let named = target.file_name().is_some() && !ends_with_separator(&target);
                if named && folder(&target).is_dir() {
                    return Ok(Way::Replace(target));
                }
                return Err(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many symbolic links lead on from it"))
}

fn ends_with_separator(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().last().is_some_and(|&last| std::path::is_separator(last.into()))
}

/// The folder that holds a path's last part.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Puts a complete file in the place of what was there.
fn replace(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".sdpa-").tempfile_in(folder(target))?;
    file.write_all(bytes)?;
    #[cfg(unix)]
    {
        // A temporary file is its owner's alone; the result is as public as what it replaces, or as any new file.
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(target).map_or(0o644, |old| old.permissions().mode() & 0o777);
        file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    file.persist(target).map(drop).map_err(|error| error.error)
}

/// Writes into what is there, at its end where it has one.
fn through(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(bytes)?;
    file.flush()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_is_followed_to_a_file_that_need_not_exist() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("sub")).unwrap();
        symlink("sub/second", at("first")).unwrap();
        symlink("target", at("sub/second")).unwrap();
        let destination = Destination::new(&at("first")).unwrap();
        assert_eq!(destination.way, Way::Replace(at("sub").join("target")));
        destination.write(b"1").unwrap();
        destination.write(b"22").unwrap();
        assert_eq!(std::fs::read(at("sub/target")).unwrap(), b"22");
        assert!(std::fs::symlink_metadata(at("first")).unwrap().is_symlink());
        assert!(std::fs::symlink_metadata(at("sub/second")).unwrap().is_symlink());
    }

    #[test]
    fn what_cannot_be_written_is_found_before() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink("loop", at("loop")).unwrap();
        symlink(".", at("here")).unwrap();
        for (name, words) in [
            ("", "it is a directory"),
            ("here", "it is a directory"),
            ("loop", "too many symbolic links"),
            ("none/file", "No such file"),
            ("new/", "No such file"),
        ] {
            let error = Destination::new(&at(name)).unwrap_err();
            assert!(error.starts_with("cannot write ") && error.contains(words), "{name}: {error}");
        }
    }

    #[test]
    fn open_files_are_written_through() {
        assert!(Destination::new(Path::new("/dev/stdout")).unwrap().is_stdout());
        assert_eq!(way(Path::new("/dev/fd/2")).unwrap(), Way::Through);
        assert_eq!(way(Path::new("/proc/self/fd/2")).unwrap(), Way::Through);
        assert_eq!(way(Path::new("/dev/null")).unwrap(), Way::Through);
    }
}
