//! Where `sdpa run -o` writes: files whole, links followed, pipes and devices written through.
#![cfg(all(feature = "cli", unix))]

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use safetensors::SafeTensors;

mod command_files;
use command_files::{command, folder};

fn run_to(output: &str, folder: &Path) -> Output {
    command(&["run", "bare.safetensors", "--device", "cpu", "-o", output], folder)
}

fn names(bytes: &[u8]) -> Vec<String> {
    let mut names: Vec<String> =
        SafeTensors::deserialize(bytes).unwrap().names().into_iter().map(String::from).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_link_stays_and_what_it_points_to_is_written() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("sub/old"), "before").unwrap();
    symlink("sub/old", at("link")).unwrap();
    symlink("sub/new", at("dangling")).unwrap();
    for (link, target) in [("link", "sub/old"), ("dangling", "sub/new")] {
        assert_eq!(run_to(link, folder.path()).status.code(), Some(0));
        assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink());
        assert_eq!(names(&fs::read(at(target)).unwrap()), ["lse", "out"]);
    }
}

#[test]
fn a_pipe_is_written_through_and_stays_a_pipe() {
    let folder = folder();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).unwrap()
    });
    assert_eq!(run_to("pipe", folder.path()).status.code(), Some(0));
    assert_eq!(names(&reader.join().unwrap()), ["lse", "out"]);
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
}

#[test]
fn a_device_is_written_through_and_stays_a_device() {
    let folder = folder();
    assert_eq!(run_to("/dev/null", folder.path()).status.code(), Some(0));
    assert!(fs::symlink_metadata("/dev/null").unwrap().file_type().is_char_device());
}

#[test]
fn on_standard_output_there_are_the_bytes_alone() {
    let folder = folder();
    let output = run_to("/dev/stdout", folder.path());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(names(&output.stdout), ["lse", "out"]);
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("wrote out, lse to /dev/stdout"), "{words}");
}

#[test]
fn a_folder_is_refused_before_anything_is_read() {
    let folder = folder();
    fs::create_dir(folder.path().join("sub")).unwrap();
    let output = command(&["run", "none.safetensors", "--device", "cpu", "-o", "sub"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "error: cannot write sub: it is a directory\n");
    assert_eq!(fs::read_dir(folder.path().join("sub")).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_replaced_keeps_its_permissions() {
    let folder = folder();
    let path = folder.path().join("out");
    fs::write(&path, "before").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(run_to("out", folder.path()).status.code(), Some(0));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(names(&fs::read(&path).unwrap()), ["lse", "out"]);
}

#[test]
fn weights_are_written_where_they_are_asked_for() {
    let folder = folder();
    let arguments = ["run", "good.safetensors", "--device", "cpu", "--weights", "--backward", "-o", "out"];
    assert_eq!(command(&arguments, folder.path()).status.code(), Some(0));
    let bytes = fs::read(folder.path().join("out")).unwrap();
    assert_eq!(names(&bytes), ["dk", "dq", "dv", "lse", "out", "weights"]);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let weights = file.tensor("weights").unwrap();
    assert_eq!(weights.shape(), [1, 4, 5, 6]);
    let numbers: Vec<f32> =
        weights.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    for row in numbers.chunks_exact(6) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{row:?}");
    }
}
