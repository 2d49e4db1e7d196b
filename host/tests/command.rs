//! The command `sdpa` as its users meet it: exit codes, sentences, files.
#![cfg(feature = "cli")]

use std::path::Path;

use flash_attention::case::{Case, encode};
use flash_attention::{Device, Dtype};
use rstest::rstest;

mod command_files;
use command_files::{command, folder, tensor};

#[test]
fn a_good_check_ends_with_0_and_a_failed_one_with_1() {
    let folder = folder();
    for (file, code, words) in
        [("good.safetensors", 0, "all 5 good"), ("bad.safetensors", 1, "1 of 5 FAILED: out")]
    {
        let output = command(&["run", file, "--device", "cpu", "--backward", "--check"], folder.path());
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(words), "{text}");
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn results_are_written_in_the_types_of_the_inputs() {
    let folder = folder();
    let arguments = ["run", "good.safetensors", "--device", "cpu", "--backward", "-o", "out.safetensors"];
    assert_eq!(command(&arguments, folder.path()).status.code(), Some(0));
    let bytes = std::fs::read(folder.path().join("out.safetensors")).unwrap();
    let error = Case::parse(&bytes, &Device::cpu()).unwrap_err().to_string();
    assert_eq!(error, "the file: it has no tensor q");
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = file.names();
    names.sort_unstable();
    assert_eq!(names, ["dk", "dq", "dv", "lse", "out"]);
    assert_eq!(file.tensor("dk").unwrap().shape(), [1, 2, 6, 8]);
}

#[rstest]
#[case(&["--scale", "-1e-3"], Ok(()))]
#[case(&["--scale", "-2.5E+1"], Ok(()))]
#[case(&["--scale", "-inf"], Err("scale is -inf; it must be finite and not 0"))]
#[case(&["--softcap", "-1e-3"], Err("softcap is -0.001"))]
#[case(&["--dropout-p", "-1e-3"], Err("the p of dropout is -0.001"))]
#[case(&["--window-left", "-1", "--window-right", "-1"], Ok(()))]
#[case(&["--window-left", "-1e3"], Err("invalid value '-1e3' for '--window-left <N>': allowed are whole numbers from -1 on"))]
#[case(&["--window-right", "-7"], Err("invalid value '-7' for '--window-right <N>': allowed are whole numbers from -1 on"))]
#[case(&["--scale", "--backward"], Err("invalid value '--backward' for '--scale <SCALE>'"))]
fn negative_numbers_are_values_and_not_options(
    #[case] options: &[&str],
    #[case] outcome: std::result::Result<(), &str>,
) {
    let arguments = [&["run", "bare.safetensors", "--device", "cpu"], options].concat();
    let output = command(&arguments, folder().path());
    let text = String::from_utf8(output.stderr).unwrap();
    match outcome {
        Ok(()) => assert_eq!((output.status.code(), text.as_str()), (Some(0), "")),
        Err(words) => {
            assert_eq!(output.status.code(), Some(2), "{text}");
            assert!(text.contains(words), "{text}");
        }
    }
}

#[rstest]
#[case(&["run", "none.safetensors"], "none.safetensors: No such file or directory")]
#[case(&["run", "bare.safetensors", "--device", "cpu", "--backward"], "bare.safetensors: it has no tensor dout, which --backward needs")]
#[case(&["run", "bare.safetensors", "--device", "cpu", "--check"], "bare.safetensors: it has no expected tensor, which --check needs")]
#[case(&["run", "bare.safetensors", "--device", "cpu", "--scale", "0"], "scale is 0; it must be finite and not 0")]
#[case(&["run", "bare.safetensors", "--device", "cpu", "--backend", "flash"], "and the tensors are on cpu; tensor cores multiply f16 and bf16, and the tensors are f32")]
#[case(&["run", "bare.safetensors", "--device", "tpu"], "'tpu' is not a device; allowed are auto, cuda, cuda:N, emulator and cpu")]
#[case(&["run", "bare.safetensors", "--causal", "yes"], "'yes' is not a causal mask; allowed are none, upper-left and lower-right")]
#[case(&["run", "bare.safetensors", "--device", "cpu", "-o", "no/such/folder/out"], "cannot write no/such/folder/out")]
#[case(&["run", "bare.safetensors", "--deterministic=maybe"], "invalid value 'maybe' for '--deterministic[=<BOOL>]'")]
#[case(&["walk"], "unrecognized subcommand 'walk'")]
fn what_cannot_be_done_is_one_sentence_and_code_2(#[case] arguments: &[&str], #[case] words: &str) {
    let output = command(arguments, folder().path());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.starts_with("error: ") && text.contains(words), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn an_output_file_stays_as_it_was_where_the_run_fails() {
    let folder = folder();
    let path = folder.path().join("out.safetensors");
    std::fs::write(&path, "before").unwrap();
    let arguments = ["run", "bare.safetensors", "--device", "cpu", "--scale", "nan", "-o", "out.safetensors"];
    assert_eq!(command(&arguments, folder.path()).status.code(), Some(2));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "before");
}

#[test]
fn devices_lists_every_kind() {
    let output = command(&["devices"], Path::new("."));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for kind in ["cuda", "emulator", "cpu"] {
        assert!(text.contains(kind), "{text}");
    }
}

#[test]
fn types_survive_the_way_through_a_file() {
    let cpu = Device::cpu();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let q = tensor(0.2, &[1, 3, 4]).cast(dtype).unwrap();
        let bytes = encode(&[("q", &q), ("k", &q), ("v", &q)], Default::default()).unwrap();
        let case = Case::parse(&bytes, &cpu).unwrap();
        assert_eq!((case.v.dtype(), case.v.to_bytes().unwrap()), (dtype, q.to_bytes().unwrap()));
    }
}
