//! `sdpa stats`: the table, and the picture.
#![cfg(feature = "cli")]

use std::fs;
use std::path::Path;

use flash_attention::case::encode;
use flash_attention::{Device, Tensor};
use rstest::rstest;

mod command_files;
use command_files::{command, folder};

fn good(arguments: &[&str], folder: &Path) -> String {
    let output = command(arguments, folder);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The rows of the table as words.
fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .filter_map(|line| line.strip_prefix('│')?.strip_suffix('│'))
        .map(|line| line.split_whitespace().collect())
        .collect()
}

#[test]
fn the_table_holds_the_numbers_of_every_head() {
    let folder = tempfile::tempdir().unwrap();
    let of = |values: &[f32], shape: &[usize]| Tensor::from_slice(&Device::cpu(), values, shape).unwrap();
    // Head 0 has q . k = 0, 2000 in both rows; head 1 has equal logits and a NaN.
    let q = of(&[1.0, 1.0, 0.0, f32::NAN], &[1, 2, 2, 1]);
    let k = of(&[0.0, 2000.0, 5.0, 6.0], &[1, 2, 2, 1]);
    let bytes = encode(&[("q", &q), ("k", &k), ("v", &k)], Default::default()).unwrap();
    fs::write(folder.path().join("in"), bytes).unwrap();
    let text = good(&["stats", "in", "--device", "cpu", "--scale", "0.5"], folder.path());
    let rows = rows(&text);
    let one_hot =
        ["0", "0", "0.000", "2000", "1000", "0.000", "1000", "500.0", "1.000", "0.000", "100.0%", "0", "0"];
    let nan =
        ["0", "1", "0.000", "0.000", "0.000", "0.000", "0.000", "0.000", "0.500", "0.693", "0.0%", "2", "0"];
    assert_eq!(rows[rows.len() - 2..], [one_hot, nan], "{text}");
    assert!(text.contains("1 rows have weights that are NaN; they are not in the means."), "{text}");
}

#[rstest]
#[case("out.png", b"\x89PNG\r\n\x1a\n")]
#[case("out.svg", b"<svg")]
fn a_picture_is_written_whole_in_the_format_of_its_name(#[case] name: &str, #[case] start: &[u8]) {
    let folder = folder();
    let arguments = ["stats", "bare.safetensors", "--device", "cpu", "--plot", name, "--head", "3"];
    let text = good(&arguments, folder.path());
    assert!(
        text.contains(&format!("wrote weights of batch 0, head 3: bare.safetensors to {name}")),
        "{text}"
    );
    let bytes = fs::read(folder.path().join(name)).unwrap();
    assert!(bytes.starts_with(start));
    let end: &[u8] = if name.ends_with("png") { b"IEND\xaeB`\x82" } else { b"</svg>\n" };
    assert!(bytes.ends_with(end));
}

#[rstest]
#[case(&["--plot", "out.gif"], "--plot is out.gif; its name must end with .png or .svg")]
#[case(&["--plot", "out.png", "--head", "4"], "--head is 4; the problem has 4, the first of which is 0")]
#[case(&["--plot", "out.png", "--batch", "1"], "--batch is 1; the problem has 1, the first of which is 0")]
#[case(&["--plot", "no/out.png"], "cannot write no/out.png: No such file")]
#[case(&["--head", "1"], "--plot")]
fn what_cannot_be_drawn_is_one_sentence_and_code_2(#[case] more: &[&str], #[case] words: &str) {
    let folder = folder();
    fs::write(folder.path().join("out.png"), "before").unwrap();
    let output = command(&[&["stats", "bare.safetensors", "--device", "cpu"], more].concat(), folder.path());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.starts_with("error: ") && text.contains(words) && text.lines().count() == 1, "{text}");
    assert_eq!(fs::read_to_string(folder.path().join("out.png")).unwrap(), "before");
}
