//! Malformed inputs through the command: exit code 2, one sentence, no panic, and an output file that was there stays as it was.
#![cfg(feature = "cli")]

use std::fs;
use std::path::Path;
use std::process::Command;

#[path = "command_files/malformed.rs"]
mod malformed;
use malformed::{File, headed, raw};

/// A problem: four query heads, two key heads, three queries, five keys, eight columns.
fn good() -> File {
    File::default()
        .with("q", "F32", &[1, 4, 3, 8])
        .with("k", "F32", &[1, 2, 5, 8])
        .with("v", "F32", &[1, 2, 5, 8])
        .with("dout", "F32", &[1, 4, 3, 8])
}

/// A ragged batch of two sequences.
fn ragged() -> File {
    File::default()
        .with("q", "F32", &[5, 2, 8])
        .with("k", "F32", &[7, 2, 8])
        .with("v", "F32", &[7, 2, 8])
        .with("dout", "F32", &[5, 2, 8])
        .integers("cu_seqlens_q", &[0, 2, 5])
        .integers("cu_seqlens_k", &[0, 3, 7])
        .saying("layout", "thd")
}

/// A malformed file, and a part of the sentence about it.
type Malformed = (&'static str, Vec<u8>, &'static str);

/// Runs the command on each, with gradients, over an output file that is there.
fn refused(cases: &[Malformed]) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    fs::write(&output, "before").unwrap();
    for (what, bytes, words) in cases {
        fs::write(folder.path().join("in.safetensors"), bytes).unwrap();
        let arguments = ["run", "in.safetensors", "--device", "cpu", "--backward", "-o", "out.safetensors"];
        one_sentence(what, &arguments, words, folder.path());
        assert_eq!(fs::read(&output).unwrap(), b"before", "{what}");
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

fn one_sentence(what: &str, arguments: &[&str], words: &str, folder: &Path) {
    let result =
        Command::new(env!("CARGO_BIN_EXE_sdpa")).args(arguments).current_dir(folder).output().unwrap();
    let text = String::from_utf8(result.stderr).unwrap();
    assert_eq!(result.status.code(), Some(2), "{what}: {text}");
    assert!(text.starts_with("error: ") && text.ends_with('\n'), "{what}: {text}");
    assert_eq!(text.lines().count(), 1, "{what}: {text}");
    assert!(!text.contains("panicked"), "{what}: {text}");
    assert!(text.contains(words), "{what}: expected '{words}' in: {text}");
    assert!(result.stdout.is_empty(), "{what}: {}", String::from_utf8_lossy(&result.stdout));
}

#[test]
fn the_files_that_are_changed_here_are_good_before() {
    let folder = tempfile::tempdir().unwrap();
    for file in [good(), ragged()] {
        fs::write(folder.path().join("in"), file.bytes()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sdpa"));
        command.args(["run", "in", "--device", "cpu", "--backward"]);
        let result = command.current_dir(folder.path()).output().unwrap();
        assert_eq!(result.status.code(), Some(0), "{}", String::from_utf8_lossy(&result.stderr));
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let g = good;
    refused(&[
        ("no q", g().without("q").bytes(), "it has no tensor q"),
        ("no k", g().without("k").bytes(), "it has no tensor k"),
        ("no v", g().without("v").bytes(), "it has no tensor v"),
        ("no dout", g().without("dout").bytes(), "it has no tensor dout, which --backward needs"),
        ("q of rank 0", g().with("q", "F32", &[]).bytes(), "q has 0 dimensions"),
        ("q of rank 1", g().with("q", "F32", &[8]).bytes(), "q has 1 dimensions"),
        ("q of rank 2", g().with("q", "F32", &[3, 8]).bytes(), "q has 2 dimensions"),
        ("q of rank 5", g().with("q", "F32", &[1, 1, 4, 3, 8]).bytes(), "q has 5 dimensions"),
        ("k of rank 3", g().with("k", "F32", &[2, 5, 8]).bytes(), "k has 3 dimensions; allowed are 4"),
        ("v of rank 2", g().with("v", "F32", &[5, 8]).bytes(), "v has 2 dimensions; allowed are 4"),
        (
            "k in another batch",
            g().with("k", "F32", &[3, 2, 5, 8]).with("q", "F32", &[2, 4, 3, 8]).bytes(),
            "batch entries",
        ),
        (
            "v in another batch",
            g().with("v", "F32", &[3, 2, 5, 8]).with("k", "F32", &[2, 2, 5, 8]).bytes(),
            "batch entries",
        ),
        ("other columns of k", g().with("k", "F32", &[1, 2, 5, 7]).bytes(), "k has 7 columns, but q has 8"),
        ("other keys of v", g().with("v", "F32", &[1, 2, 4, 8]).bytes(), "v has 4 keys, but k has 5"),
        ("other heads of v", g().with("v", "F32", &[1, 4, 5, 8]).bytes(), "v has 4 heads, but k has 2"),
        (
            "heads no multiple",
            g().with("q", "F32", &[1, 5, 3, 8]).bytes(),
            "q has 5 heads, which is not a multiple of the 2 heads of k",
        ),
        (
            "fewer query heads",
            g().with("q", "F32", &[1, 3, 3, 8])
                .with("k", "F32", &[1, 4, 5, 8])
                .with("v", "F32", &[1, 4, 5, 8])
                .bytes(),
            "q has 3 heads, which is not a multiple of the 4",
        ),
        (
            "no columns",
            g().with("q", "F32", &[1, 4, 3, 0]).with("k", "F32", &[1, 2, 5, 0]).bytes(),
            "of which dimension 3 is 0",
        ),
        ("no value columns", g().with("v", "F32", &[1, 2, 5, 0]).bytes(), "of which dimension 3 is 0"),
        (
            "no heads",
            g().with("k", "F32", &[1, 0, 5, 8]).with("v", "F32", &[1, 0, 5, 8]).bytes(),
            "of which dimension 1 is 0",
        ),
        (
            "other queries of dout",
            g().with("dout", "F32", &[1, 4, 2, 8]).bytes(),
            "dout has the shape [1, 4, 2, 8]; it must be [1, 4, 3, 8]",
        ),
        ("dout of rank 3", g().with("dout", "F32", &[4, 3, 8]).bytes(), "dout has the shape [4, 3, 8]"),
        (
            "dlse of rank 4",
            g().with("dlse", "F32", &[1, 4, 3, 1]).bytes(),
            "dlse has the shape [1, 4, 3, 1]; it must be [1, 4, 3]",
        ),
        ("mask of other keys", g().with("attn_mask", "U8", &[3, 4]).bytes(), "mask has the shape [3, 4]"),
        (
            "mask of other queries",
            g().with("attn_mask", "BOOL", &[2, 5]).bytes(),
            "mask has the shape [2, 5]",
        ),
        ("mask of rank 5", g().with("attn_mask", "U8", &[1, 1, 1, 3, 5]).bytes(), "mask has 5 dimensions"),
        ("mask of rank 0", g().with("attn_mask", "U8", &[]).bytes(), "mask has 0 dimensions"),
        ("bias of one key", g().with("attn_bias", "F32", &[3, 1]).bytes(), "bias has the shape [3, 1]"),
        (
            "bias of other heads",
            g().with("attn_bias", "F32", &[1, 3, 3, 5]).bytes(),
            "bias has the shape [1, 3, 3, 5]",
        ),
        (
            "bias of another batch",
            g().with("attn_bias", "F32", &[2, 1, 3, 5]).bytes(),
            "bias has the shape [2, 1, 3, 5]",
        ),
        ("slopes of other heads", g().with("alibi_slopes", "F32", &[3]).bytes(), "alibi has the shape [3]"),
        (
            "slopes of another batch",
            g().with("alibi_slopes", "F32", &[2, 4]).bytes(),
            "alibi has the shape [2, 4]",
        ),
        ("slopes of rank 3", g().with("alibi_slopes", "F32", &[1, 4, 1]).bytes(), "alibi has 3 dimensions"),
        (
            "sinks of other heads",
            g().with("sinks", "F32", &[2]).bytes(),
            "sinks has the shape [2]; it must be [4]",
        ),
        ("sinks of rank 2", g().with("sinks", "F32", &[1, 4]).bytes(), "sinks has the shape [1, 4]"),
        ("layout of other order", g().saying("layout", "bshd").bytes(), "heads"),
        (
            "expected out of another shape",
            g().with("out", "F32", &[1]).with("err_out", "F64", &[2]).bytes(),
            "err_out holds 2 numbers, not 1",
        ),
    ]);
}

#[test]
fn types_that_do_not_fit_are_refused() {
    let g = good;
    let all = |dtype: &'static str| {
        g().with("q", dtype, &[1, 4, 3, 8]).with("k", dtype, &[1, 2, 5, 8]).with("v", dtype, &[1, 2, 5, 8])
    };
    refused(&[
        ("all f64", all("F64").bytes(), "q is f64; allowed are f32, f16 and bf16"),
        ("all i32", all("I32").bytes(), "q is i32; allowed are f32, f16 and bf16"),
        ("all u8", all("U8").bytes(), "q is u8; allowed are f32, f16 and bf16"),
        ("all i64", all("I64").bytes(), "the tensor q is I64, which is not a type this library has"),
        ("k f16", g().with("k", "F16", &[1, 2, 5, 8]).bytes(), "k is f16, but q is f32"),
        ("v bf16", g().with("v", "BF16", &[1, 2, 5, 8]).bytes(), "v is bf16, but q is f32"),
        ("dout f16", g().with("dout", "F16", &[1, 4, 3, 8]).bytes(), "dout is f16, but q is f32"),
        ("dlse f16", g().with("dlse", "F16", &[1, 4, 3]).bytes(), "dlse is f16"),
        ("mask f32", g().with("attn_mask", "F32", &[3, 5]).bytes(), "mask is f32; allowed are u8 and bool"),
        ("bias f16", g().with("attn_bias", "F16", &[3, 5]).bytes(), "bias is f16, but q is f32"),
        ("bias u8", g().with("attn_bias", "U8", &[3, 5]).bytes(), "bias is u8"),
        ("slopes f16", g().with("alibi_slopes", "F16", &[4]).bytes(), "alibi is f16"),
        ("sinks f64", g().with("sinks", "F64", &[4]).bytes(), "sinks is f64"),
        (
            "key lengths f32",
            g().with("key_lengths", "F32", &[1]).bytes(),
            "key_lengths is f32; allowed is i32",
        ),
        ("key lengths i64", g().with("key_lengths", "I64", &[1]).bytes(), "key_lengths is I64"),
        (
            "offsets f32",
            ragged().with("cu_seqlens_q", "F32", &[3]).bytes(),
            "cu_seqlens_q is f32; allowed is i32",
        ),
    ]);
}

#[test]
fn lengths_and_offsets_that_cannot_be_are_refused() {
    let (g, r) = (good, ragged);
    refused(&[
        (
            "key length too large",
            g().integers("key_lengths", &[6]).bytes(),
            "key_lengths[0] is 6; it must be at most 5",
        ),
        (
            "key length negative",
            g().integers("key_lengths", &[-1]).bytes(),
            "key_lengths[0] is -1; it must be at least 0",
        ),
        (
            "too many key lengths",
            g().integers("key_lengths", &[5, 5]).bytes(),
            "the length of key_lengths is 2",
        ),
        (
            "key lengths of rank 2",
            g().with("key_lengths", "I32", &[1, 1]).bytes(),
            "key_lengths has 2 dimensions",
        ),
        ("key lengths of a ragged batch", r().integers("key_lengths", &[3, 4]).bytes(), "key_lengths"),
        (
            "decreasing",
            r().integers("cu_seqlens_q", &[0, 6, 5]).bytes(),
            "query_offsets[2] is 5; it must be at least 6",
        ),
        (
            "decreasing keys",
            r().integers("cu_seqlens_k", &[0, 8, 7]).bytes(),
            "key_offsets[2] is 7; it must be at least 8",
        ),
        ("overrun", r().integers("cu_seqlens_q", &[0, 2, 6]).bytes(), "query_offsets[2] is 6; it must be 5"),
        (
            "overrun by far",
            r().integers("cu_seqlens_k", &[0, 3, i32::MAX]).bytes(),
            "key_offsets[2] is 2147483647",
        ),
        ("too short", r().integers("cu_seqlens_k", &[0, 3, 6]).bytes(), "key_offsets[2] is 6; it must be 7"),
        (
            "not from 0",
            r().integers("cu_seqlens_q", &[1, 2, 5]).bytes(),
            "query_offsets[0] is 1; it must be 0",
        ),
        ("negative", r().integers("cu_seqlens_q", &[0, -2, 5]).bytes(), "cu_seqlens_q[1] is -2"),
        ("of other lengths", r().integers("cu_seqlens_k", &[0, 7]).bytes(), "the length of key_offsets is 2"),
        (
            "empty",
            r().integers("cu_seqlens_q", &[]).integers("cu_seqlens_k", &[]).bytes(),
            "the length of query_offsets is 0",
        ),
        ("of rank 2", r().with("cu_seqlens_q", "I32", &[1, 3]).bytes(), "cu_seqlens_q has 2 dimensions"),
        ("missing for q", r().without("cu_seqlens_q").bytes(), "no tensor cu_seqlens_q"),
        ("missing for k", r().without("cu_seqlens_k").bytes(), "no tensor cu_seqlens_k"),
        ("in another layout", r().saying("layout", "bhsd").bytes(), "its layout is not thd"),
        ("with rank 4", r().with("q", "F32", &[1, 2, 5, 8]).bytes(), "q has 4 dimensions"),
        ("other rows of v", r().with("v", "F32", &[6, 2, 8]).bytes(), "v has 6 keys, but k has 7"),
        ("mask of the total", r().with("attn_mask", "U8", &[5, 7]).bytes(), "mask has the shape [5, 7]"),
    ]);
}

#[test]
fn metadata_that_cannot_be_are_refused() {
    let say = |key, value| good().saying(key, value).bytes();
    refused(&[
        ("scale NaN", say("scale", "nan"), "scale is NaN; it must be finite and not 0"),
        ("scale 0", say("scale", "0"), "scale is 0; it must be finite and not 0"),
        ("scale -0", say("scale", "-0.0"), "scale is -0; it must be finite and not 0"),
        ("scale infinite", say("scale", "inf"), "scale is inf; it must be finite and not 0"),
        ("scale too large", say("scale", "1e39"), "scale is inf; it must be finite and not 0"),
        ("scale no number", say("scale", "half"), "its scale is 'half'; allowed are numbers"),
        ("scale nothing", say("scale", ""), "its scale is ''; allowed are numbers"),
        (
            "causal yes",
            say("causal", "yes"),
            "its causal is 'yes'; allowed are none, upper_left and lower_right",
        ),
        ("causal of two lines", say("causal", "a\nb"), r"its causal is 'a\nb'"),
        ("layout sbhd", say("layout", "sbhd"), "its layout is 'sbhd'; allowed are bhsd, bshd, bsd and thd"),
        ("layout thd", say("layout", "thd"), "its layout is thd, but it has no tensor cu_seqlens_q"),
        ("window -2", say("window_left", "-2"), "its window_left is '-2'"),
        ("window 1.5", say("window_right", "1.5"), "its window_right is '1.5'"),
        (
            "window of 2^64",
            say("window_right", "18446744073709551616"),
            "its window_right is '18446744073709551616'",
        ),
        ("softcap negative", say("softcap", "-1"), "softcap is -1; it must be finite and above 0"),
        ("softcap NaN", say("softcap", "NaN"), "softcap is NaN; it must be finite and above 0"),
        ("softcap infinite", say("softcap", "inf"), "softcap is inf; it must be finite and above 0"),
        ("softcap no number", say("softcap", "none"), "its softcap is 'none'; allowed are numbers"),
        ("alibi yes", say("alibi", "yes"), "its alibi is 'yes'; allowed are 0 and 1"),
        ("dropout 1", say("dropout_p", "1"), "the p of dropout is 1; it must be at least 0 and below 1"),
        ("dropout negative", say("dropout_p", "-0.1"), "the p of dropout is -0.1"),
        ("dropout NaN", say("dropout_p", "nan"), "the p of dropout is NaN"),
        ("dropout no number", say("dropout_p", "some"), "its dropout_p is 'some'; allowed are numbers"),
        ("seed negative", say("dropout_seed", "-1"), "its dropout_seed is '-1'"),
        ("seed of 2^64", say("dropout_seed", "18446744073709551616"), "its dropout_seed is"),
        ("offset of 2^32", say("dropout_offset", "4294967296"), "its dropout_offset is '4294967296'"),
    ]);
}

const NOT_SAFETENSORS: &str = "in.safetensors: it is not a safetensors file";

#[test]
fn truncated_files_are_refused_at_every_length() {
    let whole = good().bytes();
    let header = 8 + good().header().len();
    let near = |at: usize| [at - 1, at, at + 1];
    let lengths =
        (0..10).chain(near(header / 2)).chain(near(header)).chain([whole.len() / 2, whole.len() - 1]);
    let cases: Vec<Malformed> =
        lengths.map(|length| ("truncated", whole[..length].to_vec(), NOT_SAFETENSORS)).collect();
    assert!(cases.len() >= 18);
    refused(&cases);
}

#[test]
fn headers_that_lie_are_refused() {
    let (g, header, data) = (good(), good().header(), good().data());
    let with_length = |length: u64| headed(length, &[header.as_bytes(), &data].concat());
    let lies = |from: &str, to: &str| g.lying(from, to);
    // q lies at 0..384, k at 384..704.
    refused(&[
        ("header length 0", with_length(0), NOT_SAFETENSORS),
        ("header length one less", with_length(header.len() as u64 - 1), NOT_SAFETENSORS),
        ("header length one more", with_length(header.len() as u64 + 1), NOT_SAFETENSORS),
        (
            "header length to the end of the file",
            with_length((header.len() + data.len()) as u64),
            NOT_SAFETENSORS,
        ),
        (
            "header length beyond the file",
            with_length((header.len() + data.len() + 1) as u64),
            NOT_SAFETENSORS,
        ),
        ("header length of 100 MB", with_length(100_000_000), NOT_SAFETENSORS),
        ("header length of 2^32", with_length(1 << 32), NOT_SAFETENSORS),
        ("header length of 2^63", with_length(1 << 63), NOT_SAFETENSORS),
        ("header length of 2^64 - 8", with_length(u64::MAX - 7), NOT_SAFETENSORS),
        ("header length of 2^64 - 1", with_length(u64::MAX), NOT_SAFETENSORS),
        ("offsets that overlap", lies("[384,704]", "[380,704]"), NOT_SAFETENSORS),
        ("offsets with a gap", lies("[384,704]", "[388,704]"), NOT_SAFETENSORS),
        ("offsets out of order", lies("[384,704]", "[704,384]"), NOT_SAFETENSORS),
        ("offsets that are swapped", lies("[0,384]", "[384,0]"), NOT_SAFETENSORS),
        ("offsets beyond the end", lies("[384,704]", "[384,70400]"), NOT_SAFETENSORS),
        ("offsets of 2^64", lies("[384,704]", "[384,18446744073709551616]"), NOT_SAFETENSORS),
        ("offsets negative", lies("[0,384]", "[-4,384]"), NOT_SAFETENSORS),
        ("offsets of one number", lies("[0,384]", "[384]"), NOT_SAFETENSORS),
        ("type of other size", lies("\"F32\"", "\"F16\""), NOT_SAFETENSORS),
        ("type that is none", lies("\"F32\"", "\"F33\""), NOT_SAFETENSORS),
        ("shape of more elements", lies("[1, 4, 3, 8]", "[1, 4, 4, 8]"), NOT_SAFETENSORS),
        ("shape of fewer elements", lies("[1, 4, 3, 8]", "[1, 4, 3]"), NOT_SAFETENSORS),
        (
            "shape whose product overflows",
            lies("[1, 4, 3, 8]", "[4294967296, 4294967296, 4294967296]"),
            NOT_SAFETENSORS,
        ),
        ("shape whose bytes overflow", lies("[1, 4, 3, 8]", "[9223372036854775808, 2]"), NOT_SAFETENSORS),
        ("shape negative", lies("[1, 4, 3, 8]", "[1, -4, 3, 8]"), NOT_SAFETENSORS),
        ("shape of fractions", lies("[1, 4, 3, 8]", "[1, 4.5, 3, 8]"), NOT_SAFETENSORS),
        ("shape that is no list", lies("[1, 4, 3, 8]", "96"), NOT_SAFETENSORS),
        ("the same name twice", lies("\"k\"", "\"q\""), NOT_SAFETENSORS),
        ("a tensor without a type", lies("\"dtype\":\"F32\",", ""), NOT_SAFETENSORS),
        (
            "metadata that are no words",
            lies("\"__metadata__\":{", "\"__metadata__\":{\"scale\":0.5"),
            NOT_SAFETENSORS,
        ),
        ("no data", raw(&header, &[]), NOT_SAFETENSORS),
        ("data behind the last tensor", [g.bytes(), vec![0; 4]].concat(), NOT_SAFETENSORS),
        (
            "an element too large for memory",
            lies("[1, 4, 3, 8]", "[0, 18446744073709551615, 8]"),
            NOT_SAFETENSORS,
        ),
    ]);
}

#[test]
fn headers_that_are_no_json_are_refused() {
    let invalid = [&12u64.to_le_bytes()[..], b"{\"q\xff\xfe\":{}}  "].concat();
    let nested = |open: &str, close: &str| raw(&[open.repeat(50_000), close.repeat(50_000)].concat(), &[]);
    refused(&[
        ("text", raw("this is no header", &[]), NOT_SAFETENSORS),
        ("nothing", raw("", &[]), NOT_SAFETENSORS),
        ("spaces", raw("        ", &[]), NOT_SAFETENSORS),
        ("a list", raw("[]", &[]), NOT_SAFETENSORS),
        ("a number", raw("12345678", &[]), NOT_SAFETENSORS),
        ("null", raw("null", &[]), NOT_SAFETENSORS),
        ("cut off", raw("{\"q\":{\"dtype\":\"F32\"", &[]), NOT_SAFETENSORS),
        ("more behind it", raw("{} {}", &[]), NOT_SAFETENSORS),
        ("a comma too many", raw("{\"__metadata__\":{},}", &[]), NOT_SAFETENSORS),
        ("invalid UTF-8", invalid, NOT_SAFETENSORS),
        ("a byte order mark", raw("\u{feff}{}", &[]), NOT_SAFETENSORS),
        ("control characters", raw("{\"q\n\u{1b}[31m\":1}", &[]), NOT_SAFETENSORS),
        ("lists in lists", nested("[", "]"), NOT_SAFETENSORS),
        ("objects in objects", nested("{\"a\":", "}"), NOT_SAFETENSORS),
        ("an object without tensors", raw("{}", &[]), "it has no tensor"),
        ("zeros", vec![0; 4096], NOT_SAFETENSORS),
        ("ones", vec![0xff; 4096], NOT_SAFETENSORS),
        ("a PNG", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(), NOT_SAFETENSORS),
    ]);
}

#[test]
fn arguments_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("in"), good().bytes()).unwrap();
    fs::write(at("bare"), good().without("dout").bytes()).unwrap();
    fs::write(at("out"), "before").unwrap();
    fs::create_dir(at("folder")).unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["run", "none"], "none: No such file"),
        (&["run", "folder"], "folder: "),
        (&["run", "in/side"], "in/side: "),
        (&["run", ""], "a value is required for '<IN>'"),
        (&["run", "bare", "--backward"], "it has no tensor dout, which --backward needs"),
        (&["run", "in", "--check"], "it has no expected tensor, which --check needs"),
        (&["run", "in", "--scale", "nan"], "scale is NaN"),
        (&["run", "in", "--scale=-inf"], "scale is -inf"),
        (&["run", "in", "--scale", "0"], "scale is 0"),
        (&["run", "in", "--scale", "x"], "invalid value 'x'"),
        (&["run", "in", "--softcap", "-3"], "softcap is -3"),
        (&["run", "in", "--window-left", "-2"], "invalid value '-2'"),
        (&["run", "in", "--window-right", "1.5"], "invalid value '1.5'"),
        (&["run", "in", "--dropout-p", "1"], "the p of dropout is 1"),
        (&["run", "in", "--dropout-seed", "1"], "--dropout-seed is given, but neither in nor --dropout-p"),
        (
            &["run", "in", "--dropout-offset", "1"],
            "--dropout-offset is given, but neither in nor --dropout-p",
        ),
        (&["run", "in", "--backend", "flash"], "flash cannot run this"),
        (&["run", "in", "--backend", "flash,efficient"], "none of flash, efficient can run this"),
        (&["run", "in", "--backend", "math,fast"], "'fast' is not a backend"),
        (&["run", "in", "--backend", ""], "'' is not a backend"),
        (&["run", "in", "--backend", "efficient", "--weights"], "attention weights are asked for"),
        (&["run", "in", "--causal", "left"], "'left' is not a causal mask"),
        (&["run", "in", "--device", "tpu"], "'tpu' is not a device"),
        (&["run", "in", "--device", "cuda:x"], "'cuda:x' is not a device"),
        (&["run", "in", "--threads", "many"], "invalid value 'many'"),
        (&["run", "in", "--walk"], "unexpected argument '--walk'"),
        (&["run"], "required arguments were not provided"),
    ];
    for (arguments, words) in cases {
        // Later ones win, so that the device is the CPU unless the case says another.
        let mut all = arguments.to_vec();
        if !arguments.contains(&"--device") && arguments.len() > 1 {
            all.extend(["--device", "cpu"]);
        }
        if arguments.len() > 1 {
            all.extend(["-o", "out"]);
        }
        one_sentence(&format!("{arguments:?}"), &all, words, folder.path());
        assert_eq!(fs::read(at("out")).unwrap(), b"before", "{arguments:?}");
    }
    for command in ["explain", "sweep", "stats"] {
        for (arguments, words) in [
            (&["none"][..], "none: No such file"),
            (&["folder"], "folder: "),
            (&["in", "--scale", "0"], "scale is 0"),
            (&["in", "--softcap", "inf"], "softcap is inf"),
        ] {
            let all = [&[command], arguments, &["--device", "cpu"]].concat();
            one_sentence(&format!("{all:?}"), &all, words, folder.path());
        }
    }
    one_sentence("no repeats", &["sweep", "in", "--repeats", "0"], "invalid value '0'", folder.path());
}

#[cfg(unix)]
#[test]
fn names_that_are_no_text_are_refused_in_one_line() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    for name in [&b"\xff\xfe"[..], b"two\nlines", b"\x1b[31m"] {
        let mut process = Command::new(env!("CARGO_BIN_EXE_sdpa"));
        let result = process
            .arg("run")
            .arg(OsStr::from_bytes(name))
            .args(["--device", "cpu"])
            .current_dir(&folder)
            .output();
        let result = result.unwrap();
        let text = String::from_utf8(result.stderr).unwrap();
        assert_eq!(result.status.code(), Some(2));
        assert!(text.starts_with("error: ") && text.lines().count() == 1, "{text:?}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
