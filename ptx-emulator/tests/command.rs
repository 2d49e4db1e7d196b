//! The command: what it does, and how it ends.
#![cfg(feature = "cli")]

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::path::Path;
use std::process::{Command, Output};

const PTX: &str = ".version 8.0
.target sm_80
.address_size 64
.visible .entry scale(.param .u64 x, .param .u64 out, .param .f32 by, .param .u32 n) .maxntid 64, 1, 1 {
    .reg .b64 %rd<6>; .reg .b32 %r<6>; .reg .f32 %f<4>; .reg .pred %p<2>;
    ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [out]; ld.param.f32 %f1, [by]; ld.param.u32 %r5, [n];
    mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mad.lo.u32 %r4, %r2, %r3, %r1;
    setp.ge.u32 %p1, %r4, %r5; @%p1 bra END;
    mul.wide.u32 %rd3, %r4, 4; add.u64 %rd4, %rd1, %rd3; add.u64 %rd5, %rd2, %rd3;
    ld.global.f32 %f2, [%rd4]; mul.f32 %f3, %f2, %f1; st.global.f32 [%rd5], %f3;
END: ret;
}
";

fn command(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ptx-emulator")).current_dir(folder).args(args).output().unwrap()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("k.ptx"), PTX).unwrap();
    let data: Vec<u8> = (0..100).flat_map(|k| (k as f32).to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![10, 10], &data).unwrap();
    std::fs::write(
        folder.path().join("in.safetensors"),
        safetensors::serialize([("x", view)], None).unwrap(),
    )
    .unwrap();
    folder
}

const GOOD: &[&str] = &[
    "run",
    "k.ptx",
    "--entry",
    "scale",
    "--grid",
    "2",
    "--block",
    "64",
    "--tensors",
    "in.safetensors",
    "--alloc",
    "y=f32:10,10",
    "--arg",
    "t:x",
    "--arg",
    "t:y",
    "--arg",
    "f32:-1.5",
    "--arg",
    "u32:100",
    "-o",
    "out.safetensors",
    "--stats",
];

fn with(changes: &[(&str, &str)]) -> Vec<String> {
    GOOD.iter().map(|a| changes.iter().find(|c| c.0 == *a).map_or(*a, |c| c.1).to_string()).collect()
}

#[test]
fn a_run_writes_all_tensors() {
    let folder = folder();
    let output = command(folder.path(), GOOD);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("thread instructions"));
    let file = std::fs::read(folder.path().join("out.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let y = tensors.tensor("y").unwrap();
    assert_eq!(y.shape(), [10, 10]);
    for (k, chunk) in y.data().chunks(4).enumerate() {
        assert_eq!(f32::from_le_bytes(chunk.try_into().unwrap()), -1.5 * k as f32);
    }
    assert!(tensors.tensor("x").is_ok());
}

#[test]
fn a_kernel_that_fails_ends_with_1_and_leaves_the_output_alone() {
    let folder = folder();
    std::fs::write(folder.path().join("out.safetensors"), "precious").unwrap();
    let args = with(&[("u32:100", "u32:120")]);
    let output = command(folder.path(), &args.iter().map(String::as_str).collect::<Vec<_>>());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("kernel `scale`") && text.contains("past the end of the allocation of 400 bytes"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1);
    assert_eq!(std::fs::read(folder.path().join("out.safetensors")).unwrap(), b"precious");
}

#[test]
fn bad_input_ends_with_2_and_one_sentence() {
    let folder = folder();
    std::fs::write(folder.path().join("bad.ptx"), PTX.replace("mul.f32", "frobnicate.f32")).unwrap();
    let cases: [(&[(&str, &str)], &str); 10] = [
        (&[("k.ptx", "none.ptx")], "none.ptx"),
        (&[("k.ptx", "bad.ptx")], "line 10: the instruction `frobnicate.f32` is not known"),
        (&[("k.ptx", "in.safetensors")], "not a text file"),
        (&[("scale", "other")], "no entry `other`"),
        (&[("t:x", "t:z")], "no tensor `z`"),
        (&[("u32:100", "u32:many")], "--arg u32:many"),
        (&[("u32:100", "i128:1")], "i128"),
        (&[("u32:100", "hex:00")], "has 1 bytes, 4 are wanted"),
        (&[("64", "65")], "`.maxntid` (64, 1, 1)"),
        (&[("y=f32:10,10", "y=f33:10,10")], "unknown dtype `f33`"),
    ];
    for (changes, part) in cases {
        let args = with(changes);
        let output = command(folder.path(), &args.iter().map(String::as_str).collect::<Vec<_>>());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{changes:?}: {text}");
        assert!(text.contains(part) && !text.contains("panicked"), "{changes:?}: {text}");
    }
    assert_eq!(command(folder.path(), &["run", "k.ptx"]).status.code(), Some(2));
    assert_eq!(command(folder.path(), &["--help"]).status.code(), Some(0));
}

#[test]
fn list_shows_parameters_and_bounds() {
    let folder = folder();
    let output = command(folder.path(), &["list", "k.ptx"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0));
    for part in ["target sm_80", "scale", "parameter 2: by (4 bytes, align 4)", "at most 64 x 1 x 1 threads"]
    {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn counters_are_printed_by_instruction() {
    let folder = folder();
    let mut args = GOOD.to_vec();
    args.push("--counters");
    let output = command(folder.path(), &args);
    let text = String::from_utf8_lossy(&output.stdout);
    let load = text.lines().rfind(|l| l.ends_with("ld.global.f32")).unwrap_or_else(|| panic!("{text}"));
    // Line 10; 100 threads of 4 warps read 400 bytes in 13 sectors.
    assert_eq!(
        load.split_whitespace().collect::<Vec<_>>()[..7],
        ["10", "4", "0", "0", "0", "400", "13"],
        "{text}"
    );
    let all = text.lines().last().unwrap();
    assert_eq!(all.split_whitespace().nth(5), Some("800"), "{all}");
}

#[test]
fn profile_counts_annotates_and_says_what_bounds_the_kernel() {
    let folder = folder();
    let mut args: Vec<&str> = GOOD[..GOOD.len() - 3].to_vec();
    args[0] = "profile";
    let more =
        ["--gpu", "a100", "--gpu", "H200", "--json", "p.json", "--annotate", "p.ptx", "--plot", "p.svg"];
    args.extend(more);
    let output = command(folder.path(), &args);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for part in
        ["global memory", "f32", "active lanes", "shared bank conflicts", "H200", "2 blocks, fewer than"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&read("p.json")).unwrap();
    // 100 threads of 4 warps read and write 400 bytes in 13 sectors each; one multiplication each.
    assert_eq!(json["counters"]["global_bytes_read"], 400);
    assert_eq!(json["counters"]["global_sectors"], 26);
    assert_eq!(json["sector_bytes"], 832);
    assert_eq!(json["flops"], 128.0);
    let gpus = json["gpus"].as_array().unwrap();
    assert_eq!(gpus.iter().map(|gpu| &gpu["gpu"]).collect::<Vec<_>>(), ["A100", "H200"]);
    for gpu in gpus {
        assert_eq!(gpu["bound"], "memory");
        let least = 832.0 / gpu["memory_bytes_per_second"].as_f64().unwrap();
        assert!((gpu["seconds_at_least"].as_f64().unwrap() / least - 1.0).abs() < 1e-9);
        assert!(gpu["sources"].as_array().unwrap().len() >= 4);
    }
    let annotated = read("p.ptx");
    let load = annotated.lines().find(|l| l.contains("ld.global.f32")).unwrap();
    // Load, multiplication and store stand on that line; the last warp has 4 active lanes.
    assert_eq!(
        load.split('|').next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["12", "25.0", "26", "96", "%"]
    );
    assert!(read("p.svg").starts_with("<svg") && read("p.svg").contains("scale on H200"));

    // What the caller knows replaces what was counted.
    let known = ["--bytes", "8", "--flops", "1000", "--instructions", "7"];
    let output = command(folder.path(), &[&args[..], &known].concat());
    assert_eq!(output.status.code(), Some(0));
    let json: serde_json::Value = serde_json::from_str(&read("p.json")).unwrap();
    let of = |key: &str| json[key].as_f64().unwrap();
    assert_eq!((of("least_bytes"), of("flops"), of("issued_warp_instructions")), (8.0, 1000.0, 7.0));
}

#[test]
fn profile_that_fails_writes_nothing() {
    let folder = folder();
    std::fs::write(folder.path().join("p.json"), "precious").unwrap();
    let mut args: Vec<String> = with(&[("run", "profile"), ("u32:100", "u32:128")]);
    args.truncate(GOOD.len() - 3);
    let run = |more: &[&str]| {
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let output = command(folder.path(), &args);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = run(&["--json", "p.json", "--plot", "p.svg"]);
    assert!(code == Some(1) && text.contains("past the end"), "{text}");
    for (more, part) in [
        (["--gpu", "H20", "--top", "1"], "known are A100"),
        (["--json", "none/p.json", "--top", "1"], "there is no folder none"),
        (["--json", "p.json", "--plot", "p.json"], "two outputs name it"),
    ] {
        let (code, text) = run(&more);
        assert!(code == Some(2) && text.contains(part), "{text}");
    }
    assert_eq!(std::fs::read(folder.path().join("p.json")).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}

/// Two warps add one to the same word without an atomic.
const RACY: &str = ".version 8.0
.target sm_80
.address_size 64
.visible .entry count(.param .u64 out) {
    .reg .b64 %rd<2>; .reg .b32 %r<4>; .reg .pred %p<2>;
    ld.param.u64 %rd1, [out]; mov.u32 %r1, %laneid; setp.ne.u32 %p1, %r1, 0;
    @%p1 ret;
    ld.global.u32 %r2, [%rd1+4]; add.u32 %r2, %r2, 1; st.global.u32 [%rd1+4], %r2;
    ret;
}
";

#[test]
fn seeds_show_what_depends_on_the_order_and_pass_what_does_not() {
    let folder = folder();
    std::fs::write(folder.path().join("racy.ptx"), RACY).unwrap();
    let racy = ["run", "racy.ptx", "--entry", "count", "--grid", "1", "--block", "64"];
    let rest = ["--alloc", "n=u32:2", "--arg", "t:n", "-o", "n.safetensors"];
    let run = |more: &[&str]| command(folder.path(), &[&racy[..], &rest, more].concat());
    // One after another both count.
    assert_eq!(run(&[]).status.code(), Some(0));
    let count = || {
        let bytes = std::fs::read(folder.path().join("n.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        tensors.tensor("n").unwrap().data()[4]
    };
    assert_eq!(count(), 2);
    // Some order loses one of the two.
    std::fs::write(folder.path().join("n.safetensors"), "precious").unwrap();
    let output = run(&["--seeds", "20"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("kernel `count` depends on the order of its warps: tensor `n`, element [1] is "),
        "{text}"
    );
    assert_eq!(std::fs::read(folder.path().join("n.safetensors")).unwrap(), b"precious");
    // The seeds that it names give these values again.
    let words: Vec<&str> = text.split_whitespace().collect();
    let seeds: Vec<usize> = (0..words.len()).filter(|&k| words[k] == "seed").collect();
    for at in seeds {
        assert_eq!(run(&["--seed", words[at + 1]]).status.code(), Some(0));
        assert_eq!(count().to_string(), words[at - 3], "{text}");
    }
    let good = command(folder.path(), &[GOOD, &["--seeds", "5", "--seed", "7", "--check"]].concat());
    assert_eq!(good.status.code(), Some(0), "{}", String::from_utf8_lossy(&good.stderr));
    assert_eq!(run(&["--seeds", "1"]).status.code(), Some(2));
}

/// Each block writes its rank in its cluster.
const RANKS: &str = ".version 8.0
.target sm_90
.address_size 64
.visible .entry ranks(.param .u64 out) {
    .reg .b64 %rd<4>; .reg .b32 %r<3>;
    ld.param.u64 %rd1, [out]; mov.u32 %r1, %ctaid.x; mul.wide.u32 %rd2, %r1, 4; add.u64 %rd3, %rd1, %rd2;
    mov.u32 %r2, %cluster_ctarank; st.global.u32 [%rd3], %r2;
    ret;
}
";

/// The exit code and what went to stderr.
fn ended(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = command(folder, args);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn clusters_are_as_large_as_is_asked_or_as_the_kernel_says() {
    let folder = folder();
    std::fs::write(folder.path().join("ranks.ptx"), RANKS).unwrap();
    let required = RANKS.replace(") {", ") .reqnctapercluster 2, 1, 1 {");
    std::fs::write(folder.path().join("pairs.ptx"), required).unwrap();
    let launch = |verb: &str, file: &str, more: &[&str]| {
        let args = [
            verb, file, "--entry", "ranks", "--grid", "4", "--block", "32", "--alloc", "r=u32:4", "--arg",
            "t:r",
        ];
        ended(folder.path(), &[&args, more].concat())
    };
    for (file, more, ranks) in [
        ("ranks.ptx", &[][..], [0, 0, 0, 0]),
        ("ranks.ptx", &["--cluster", "2"], [0, 1, 0, 1]),
        ("ranks.ptx", &["--cluster", "4,1,1"], [0, 1, 2, 3]),
        ("pairs.ptx", &[], [0, 1, 0, 1]),
        ("pairs.ptx", &["--cluster", "2,1"], [0, 1, 0, 1]),
    ] {
        let (code, text) = launch("run", file, &[more, &["-o", "r.safetensors"]].concat());
        assert_eq!(code, Some(0), "{file} {more:?}: {text}");
        let bytes = std::fs::read(folder.path().join("r.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let found: Vec<u8> = tensors.tensor("r").unwrap().data().iter().step_by(4).copied().collect();
        assert_eq!(found, ranks, "{file} {more:?}");
    }
    for (file, cluster, part) in [
        ("ranks.ptx", "3", "grid [4, 1, 1] is no multiple of the clusters of [3, 1, 1] blocks"),
        ("ranks.ptx", "0", "clusters of [0, 1, 1] blocks; 1 to 16 are possible"),
        ("ranks.ptx", "two", "`two` is not a number of blocks"),
        ("pairs.ptx", "4", "clusters of [4, 1, 1] blocks, but `.reqnctapercluster` is [2, 1, 1]"),
    ] {
        for verb in ["run", "profile"] {
            let (code, text) = launch(verb, file, &["--cluster", cluster]);
            assert!(code == Some(2) && text.contains(part), "{file} {cluster}: {text}");
        }
    }
    assert_eq!(launch("profile", "ranks.ptx", &["--cluster", "2", "--json", "p.json"]).0, Some(0));
    let json = std::fs::read_to_string(folder.path().join("p.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["cluster"], serde_json::json!([2, 1, 1]));
}

#[test]
fn checks_let_a_kernel_read_zeros_that_were_asked_for_and_no_others() {
    let folder = folder();
    let text = RANKS.replace("st.global.u32 [%rd3], %r2", "red.global.add.u32 [%rd3], 5");
    std::fs::write(folder.path().join("add.ptx"), text).unwrap();
    let launch = |more: &[&str]| {
        let args = [
            "run",
            "add.ptx",
            "--entry",
            "ranks",
            "--grid",
            "1",
            "--block",
            "1",
            "--arg",
            "t:r",
            "-o",
            "r.safetensors",
        ];
        ended(folder.path(), &[&args, more].concat())
    };
    let (code, text) = launch(&["--alloc", "r=u32:1", "--check"]);
    assert!(code == Some(1) && text.contains("never written"), "{text}");
    for more in [&["--zero", "r=u32:1", "--check"][..], &["--zero", "r=u32:1"], &["--alloc", "r=u32:1"]] {
        let (code, text) = launch(more);
        assert_eq!(code, Some(0), "{more:?}: {text}");
        let bytes = std::fs::read(folder.path().join("r.safetensors")).unwrap();
        assert_eq!(SafeTensors::deserialize(&bytes).unwrap().tensor("r").unwrap().data(), [5, 0, 0, 0]);
    }
    let (code, text) = launch(&["--alloc", "r=u32:1", "--zero", "r=u32:2"]);
    assert!(code == Some(2) && text.contains("--zero r=u32:2: there is a tensor `r` already"), "{text}");
    let (code, text) = launch(&["--zero", "r=u32"]);
    assert!(code == Some(2) && text.contains("--zero r=u32: it should be NAME=DTYPE:SHAPE"), "{text}");
}

#[test]
fn limits_of_memory_and_of_instructions_end_a_run_with_their_codes() {
    let folder = folder();
    let global = PTX.replace(".visible", ".global .align 4 .b8 big[1000];\n.visible");
    std::fs::write(folder.path().join("big.ptx"), global).unwrap();
    let run = |file: &str, more: &[&str]| {
        let args = with(&[("k.ptx", file)]);
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        ended(folder.path(), &args)
    };
    // Two tensors of 400 bytes, and a variable of 1000.
    assert_eq!(run("k.ptx", &["--max-memory", "800"]).0, Some(0));
    let (code, text) = run("k.ptx", &["--max-memory", "799"]);
    assert!(code == Some(2) && text.contains("allocating 400 bytes: 400 of 799 bytes are in use"), "{text}");
    assert_eq!(run("big.ptx", &["--max-memory", "1800"]).0, Some(0));
    let (code, text) = run("big.ptx", &["--max-memory", "1799"]);
    assert_eq!(code, Some(2));
    assert_eq!(text, "error: loading the module: allocating 1000 bytes: 800 of 1799 bytes are in use\n");
    // Four warps of 17 instructions; of the last one 28 lanes leave by a `ret` of their own.
    assert_eq!(run("k.ptx", &["--max-instructions", "69"]).0, Some(0));
    let (code, text) = run("k.ptx", &["--max-instructions", "68"]);
    assert!(code == Some(1) && text.contains("kernel `scale` ran more than 68 warp instructions"), "{text}");
    for option in ["--max-memory", "--max-instructions"] {
        assert_eq!(run("k.ptx", &[option, "many"]).0, Some(2));
    }
}

/// Starts the command on a kernel that never ends, and interrupts it as Ctrl-C does once it runs.
#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_run_and_leaves_no_file() {
    use std::io::Read;
    let folder = tempfile::tempdir().unwrap();
    let spin = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry spin() {\nL: bra L;\n}\n";
    std::fs::write(folder.path().join("spin.ptx"), spin).unwrap();
    for (command, output) in [("run", "-o"), ("profile", "--json")] {
        for signal in ["-INT", "-TERM"] {
            let mut child = Command::new(env!("CARGO_BIN_EXE_ptx-emulator"))
                .current_dir(folder.path())
                .args([command, "spin.ptx", "--entry", "spin", "--grid", "3", "--block", "64", output, "out"])
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            // Time to install the handler; were it too short, the signal would end the command with another code.
            std::thread::sleep(std::time::Duration::from_millis(500));
            assert!(child.try_wait().unwrap().is_none(), "the kernel never ends");
            let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
            assert!(sent.success());
            let status = child.wait().unwrap();
            let mut text = String::new();
            child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(status.code(), Some(130), "{command} {signal}: {text}");
            assert!(text.contains("kernel `spin` was cancelled after 0 of 3 blocks"), "{text}");
            let left: Vec<_> =
                std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
            assert_eq!(left, ["spin.ptx"], "{command} {signal}");
        }
    }
}

#[test]
fn a_heap_is_as_large_as_is_asked() {
    let folder = folder();
    let text =
        ".version 8.0\n.target sm_80\n.address_size 64\n.extern .func (.param .b64 r) malloc (.param .b64 a);
        .visible .entry k() { .reg .b64 %rd<2>; .reg .pred %p; { .param .b64 a, r; st.param.b64 [a], 10000000;
        call.uni (r), malloc, (a); ld.param.b64 %rd1, [r]; } setp.eq.u64 %p, %rd1, 0; @%p trap; ret; }";
    std::fs::write(folder.path().join("heap.ptx"), text).unwrap();
    let run = |more: &[&str]| {
        let args = ["run", "heap.ptx", "--entry", "k", "--grid", "1", "--block", "1"];
        command(folder.path(), &[&args, more].concat()).status.code()
    };
    // The default is 8 MiB.
    assert_eq!((run(&[]), run(&["--heap", "10000000"])), (Some(1), Some(0)));
}
