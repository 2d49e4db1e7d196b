//! The command as its users see it: exit codes, sentences and files.

use std::path::Path;
use std::process::{Command, Output};

use rstest::rstest;
use serde_json::Value;

fn bench(line: &str, folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(line.split_whitespace()).current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[rstest]
#[case("cpu", "cpu", &["pass", "seconds", "tflops", "head_dim"])]
#[case("nested --device emulator", "emulator", &["variant", "lengths", "thread_instructions_over_ragged", "global_bytes"])]
#[case("emulator", "emulator", &["kernel", "thread_instructions_per_second_and_core", "global_bytes_over_minimum", "shared_bytes"])]
#[case("model", "emulator", &["kernel", "warp_instructions", "least_bytes", "global_sectors", "mnemonics"])]
fn a_run_prints_a_table_and_writes_json_and_a_picture(
    #[case] what: &str,
    #[case] device: &str,
    #[case] fields: &[&str],
) {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("{what} --quick --json results.json --plot results.svg");
    let output = bench(&line, folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("1x") || said.contains("x ragged"), "{said}");

    let json = std::fs::read_to_string(folder.path().join("results.json")).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let preset = what.split_whitespace().next().unwrap();
    assert_eq!((&json["preset"], &json["device"]), (&preset.into(), &device.into()));
    assert_eq!(json["command"], format!("bench {line}"));
    assert!(json["date"].as_str().is_some_and(|date| date.ends_with('Z')));
    for field in fields {
        assert!(!json["results"][0][*field].is_null(), "{field}");
    }
    let picture = std::fs::read_to_string(folder.path().join("results.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
}

#[rstest]
#[case("tutorial")]
#[case("sweep")]
#[case("nested")]
fn without_the_gpu_a_cuda_preset_says_so_and_is_good(#[case] preset: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = bench(&format!("{preset} --device cuda:4000000000 --json results.json"), folder.path());
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stdout);
    assert!(
        said.starts_with(&format!("the preset {preset} needs a GPU")) && said.lines().count() == 1,
        "{said}"
    );
    assert!(!folder.path().join("results.json").exists());
}

#[test]
fn a_failed_run_leaves_the_files_that_were_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    std::fs::write(&path, "old").unwrap();
    let output = bench("cpu --quick --backend efficient --json results.json", folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("efficient cannot run this"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[rstest]
#[case("emulator --quick")]
#[case("nested --quick --device emulator")]
fn a_backend_without_kernels_has_nothing_to_count(#[case] line: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = bench(&format!("{line} --backend math --json results.json"), folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nothing to count"), "{}", text(&output.stderr));
    assert!(!folder.path().join("results.json").exists());
}

#[test]
fn the_emulator_counts_the_kernels_of_every_backend_once() {
    let folder = tempfile::tempdir().unwrap();
    let output = bench("emulator --quick --json results.json", folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let json: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("results.json")).unwrap()).unwrap();
    let rows = json["results"].as_array().unwrap();
    let kernels: Vec<&str> = rows.iter().map(|row| row["kernel"].as_str().unwrap()).collect();
    let of_a_pass = ["forward", "grad_key_value", "grad_query"].map(|name| format!("{name}_f16_d64"));
    for kernel in of_a_pass.iter().flat_map(|name| [format!("flash_{name}"), name.clone()]) {
        assert_eq!(kernels.iter().filter(|name| **name == kernel).count(), 1, "{kernel} in {kernels:?}");
    }
    assert_eq!((kernels.len(), kernels[2]), (7, "delta_f16"));
}

#[rstest]
#[case("nonsense", "nonsense")]
#[case("cpu --repeats 0", "--repeats")]
#[case("sweep --device emulator", "the preset sweep runs on CUDA devices only, not on emulator")]
#[case("nested --device cpu", "the preset nested runs on CUDA devices and the emulator only, not on cpu")]
#[case("cpu --json missing/results.json", "cannot write missing/results.json")]
fn wrong_usage_is_one_sentence(#[case] line: &str, #[case] part: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = bench(line, folder.path());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(part) && said.lines().count() == 1, "{said}");
}
