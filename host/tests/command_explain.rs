//! `sdpa explain` and `sdpa sweep`.
#![cfg(feature = "cli")]

use std::path::Path;

use flash_attention::Tensor;
use flash_attention::case::encode;
use rstest::rstest;

mod command_files;
use command_files::{command, folder, tensor};

fn good(arguments: &[&str], folder: &Path) -> String {
    let output = command(arguments, folder);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The rows of a table as one line of words.
fn flat(text: &str) -> String {
    text.replace(['│', '┆'], " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn explain_gives_every_backend_a_verdict_and_every_reason() {
    let folder = folder();
    let (q, k) = (tensor(0.1, &[1, 1, 2, 320]), tensor(0.2, &[1, 1, 3, 320]));
    let tensors: [(&str, &Tensor); 3] = [("q", &q), ("k", &k), ("v", &k)];
    std::fs::write(folder.path().join("wide"), encode(&tensors, Default::default()).unwrap()).unwrap();
    let text = good(&["explain", "wide", "--device", "cpu", "--weights"], folder.path());
    assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    let words = flat(&text);
    assert!(words.ends_with("--backend auto runs math"), "{text}");
    for part in [
        "math yes",
        "efficient no",
        "and the tensors are on cpu",
        "head dim 320 is above 256",
        "value head dim 320 is above 256",
        "attention weights are asked for",
        "flash no",
    ] {
        assert!(words.contains(part), "no '{part}' in {text}");
    }
}

#[test]
fn explain_says_which_backend_of_a_list_runs_and_sweep_times_no_other() {
    let folder = folder();
    let of = |command: &str, backends: &str| {
        let arguments = [command, "bare.safetensors", "--device", "emulator", "--backend", backends];
        flat(&good(&arguments, folder.path()))
    };
    assert!(of("explain", "flash,math,efficient").ends_with("--backend flash,math,efficient runs math"));
    assert!(of("explain", "flash").ends_with("--backend flash runs nothing"));
    let sweep = of("sweep", "math");
    assert!(sweep.contains("1 math") && !sweep.contains("efficient"), "{sweep}");
}

#[test]
fn explain_takes_the_options_of_run_and_refuses_what_is_no_problem() {
    let folder = folder();
    let output =
        command(&["explain", "bare.safetensors", "--device", "cpu", "--scale", "inf"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text, "error: scale is inf; it must be finite and not 0\n");
}

#[rstest]
#[case(&[], "forward, median of 3")]
#[case(&["--backward"], "forward and backward, median of 3")]
fn sweep_ranks_those_that_can_and_gives_the_reasons_of_the_others(#[case] more: &[&str], #[case] what: &str) {
    let folder = folder();
    let arguments = ["sweep", "bare.safetensors", "--device", "emulator", "--repeats", "3"];
    let text = good(&[&arguments[..], more].concat(), folder.path());
    assert!(text.contains(what), "{text}");
    assert!(text.contains("These are times of the emulator"), "{text}");
    let rows: Vec<Vec<String>> = text
        .lines()
        .filter(|line| line.starts_with('│'))
        .map(|line| line.split_whitespace().map(String::from).collect())
        .collect();
    let ranked: Vec<&Vec<String>> = rows.iter().filter(|row| row[1].parse::<u32>().is_ok()).collect();
    assert!(!ranked.is_empty() && ranked.iter().any(|row| row[2] == "efficient"), "{text}");
    assert_eq!(ranked[0][4], "1.00");
    let times: Vec<f64> = ranked.iter().map(|row| row[3].parse().unwrap()).collect();
    assert!(times[0] > 0.0 && times.is_sorted(), "{text}");
    assert!(flat(&text).contains("– flash – –"), "{text}");
}

/// One query of two heads that share 70 keys.
fn decoding(folder: &Path) {
    let half = |value: f32, shape: &[usize]| tensor(value, shape).cast(flash_attention::Dtype::F16).unwrap();
    let (q, k) = (half(0.1, &[1, 2, 1, 64]), half(0.2, &[1, 1, 70, 64]));
    let tensors: [(&str, &Tensor); 3] = [("q", &q), ("k", &k), ("v", &k)];
    std::fs::write(folder.join("decoding"), encode(&tensors, Default::default()).unwrap()).unwrap();
}

#[test]
fn explain_says_into_how_many_splits_keys_are_divided() {
    let folder = folder();
    decoding(folder.path());
    let of = |splits: &[&str]| {
        flat(&good(&[&["explain", "decoding", "--device", "emulator"], splits].concat(), folder.path()))
    };
    // The emulator has one multiprocessor, which one block keeps busy.
    assert!(of(&[]).ends_with("--backend auto runs flash"));
    let words = of(&["--splits", "3"]);
    assert!(words.ends_with("--backend auto runs flash, keys in 3 splits"), "{words}");
    assert!(
        words.contains("math no 3 splits of the keys are asked for, and only Flash divides them"),
        "{words}"
    );
}

#[test]
fn run_divides_keys_and_gives_the_same_output() {
    let folder = folder();
    decoding(folder.path());
    let out = |splits: &str| {
        let arguments =
            ["run", "decoding", "--device", "emulator", "--sanitize", "-o", "out", "--splits", splits];
        good(&arguments, folder.path());
        let bytes = std::fs::read(folder.path().join("out")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        file.tensor("out").unwrap().data().to_vec()
    };
    // All keys are alike, so that each part has the same output and every mean of them too.
    assert_eq!(out("1"), out("2"));
    let output = command(&["run", "decoding", "--splits", "129"], folder.path());
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && words.contains("129 is not in 1..=128"), "{words}");
}
