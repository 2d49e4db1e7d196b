//! The program `stress`, at a size that a test can wait for.

use std::process::{Command, Output};

fn stress(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stress")).args(arguments).output().unwrap()
}

#[test]
fn repeats_are_equal_on_the_emulator() {
    let small = ["--batch", "1", "--heads", "2", "--repeats", "2", "--lengths", "3x200,70x130"];
    for way in
        [&["--backend", "flash"][..], &["--backend", "flash", "--atomics"], &["--backend", "efficient"]]
    {
        let output = stress(&[&["--device", "emulator"], way, &small[..]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert_eq!(text.matches(": equal").count(), 4, "{text}");
        assert!(text.ends_with("all equal\n"), "{text}");
    }
}

#[test]
fn wrong_usage_and_what_a_backend_cannot_run_end_with_two() {
    for (arguments, word) in [
        (&["--lengths", "3x"][..], "QUERIESxKEYS"),
        (&["--dtype", "f64"], "f16, bf16 or f32"),
        (&["--device", "emulator", "--dtype", "f32", "--lengths", "1x1"], "tensor cores"),
        (&["--device", "cpu", "--lengths", "1x1"], "flash"),
        (&["--lengths", "3x0"], "QUERIESxKEYS"),
        (&["--repeats", "0"], "'--repeats <REPEATS>': `0` is not a number from 1 on"),
        (&["--batch", "0"], "'--batch <BATCH>': `0` is not a number from 1 on"),
        (&["--heads", "0"], "'--heads <HEADS>': `0` is not a number from 1 on"),
        (&["--head-dim", "0"], "'--head-dim <HEAD_DIM>': `0` is not a number from 1 on"),
        (&["--repeats", "many"], "`many` is not a number from 1 on"),
    ] {
        let output = stress(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && text.contains(word), "{arguments:?}: {text}");
    }
}
