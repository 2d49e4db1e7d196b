use std::collections::HashMap;
use std::path::PathBuf;

use safetensors::tensor::TensorView;

use super::*;
use crate::attention::sdpa;
use crate::options::{Backend, Causal, Dropout, Window};

/// The folder of golden cases beside the workspace; its absence is said, never passed over in silence.
fn golden() -> Option<PathBuf> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden"));
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: there are no golden cases at {}", folder.display());
    None
}

#[test]
fn math_on_the_cpu_agrees_with_every_golden_case() {
    let Some(folder) = golden() else { return };
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.extension().is_none_or(|e| e != "safetensors") {
            continue;
        }
        let case = Case::read(&path, &Device::cpu()).unwrap();
        let forward = sdpa(&case.q, &case.k, &case.v).options(case.options.clone()).forward().unwrap();
        assert_eq!(forward.backend(), Backend::Math);
        let gradients = forward.backward(case.dout.as_ref().unwrap()).unwrap();
        let checks = case.check(forward.output(), forward.lse(), Some(&gradients)).unwrap();
        assert_eq!(checks.len(), 5, "{name}");
        for check in checks {
            assert!(check.good, "{name}: {check:?}");
        }
        seen += 1;
    }
    assert!(seen >= 24, "{seen} cases");
}

#[test]
fn golden_cases_say_windows_softcap_alibi_and_offsets() {
    let Some(folder) = golden() else { return };
    let options =
        |name: &str| Case::read(folder.join(format!("{name}.safetensors")), &Device::cpu()).unwrap().options;
    assert_eq!(options("window_left_bf16").window, Window { left: Some(37), right: Some(0) });
    assert_eq!(options("softcap_f16").softcap, Some(20.0));
    let slopes = options("alibi_causal_f16").alibi.unwrap().to_vec::<f32>().unwrap();
    assert_eq!(slopes, [0.25, 0.0625, 0.015625, 0.00390625]);
    let ragged = options("varlen_causal_f16").ragged.unwrap();
    assert_eq!(ragged.query_offsets.len(), 5);
    assert_eq!((ragged.query_offsets[0], ragged.query_offsets[4]), (0, 200));
    let plain = options("basic_f16_d64");
    assert_eq!((plain.window, plain.softcap), (Window::default(), None));
    assert!(plain.alibi.is_none() && plain.ragged.is_none() && plain.dropout.is_none());
}

/// A file with f32 tensors `[1, 2, 3]`, others, and metadata.
fn file_with(
    names: &[&str],
    others: &[(&str, Stored, &[usize], &[u8])],
    metadata: &[(&str, &str)],
) -> Vec<u8> {
    let data = vec![0; 2 * 3 * 4];
    let view = || TensorView::new(Stored::F32, vec![1, 2, 3], &data).unwrap();
    let others = others
        .iter()
        .map(|&(name, dtype, shape, bytes)| (name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap()));
    let metadata: HashMap<_, _> = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    safetensors::serialize(names.iter().map(|name| (*name, view())).chain(others), Some(metadata)).unwrap()
}

fn file(names: &[&str], metadata: &[(&str, &str)]) -> Vec<u8> {
    file_with(names, &[], metadata)
}

/// The bytes of a tensor i32.
fn integers(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn metadata_become_options() {
    let bytes = file(
        &["q", "k", "v"],
        &[
            ("layout", "bshd"),
            ("scale", "0.5"),
            ("causal", "lower_right"),
            ("window_left", "7"),
            ("window_right", "-1"),
            ("softcap", "30"),
            ("dropout_p", "0.1"),
            ("dropout_seed", "18446744073709551615"),
            ("dropout_offset", "3"),
            ("x", "y"),
        ],
    );
    let case = Case::parse(&bytes, &Device::cpu()).unwrap();
    let options = case.options;
    assert_eq!(
        (options.layout, options.scale, options.causal),
        (Layout::Bshd, Some(0.5), Causal::LowerRight)
    );
    assert_eq!((options.window, options.softcap), (Window { left: Some(7), right: None }, Some(30.0)));
    assert_eq!(options.dropout, Some(Dropout { p: 0.1, seed: u64::MAX, offset: 3 }));
    assert!(case.dout.is_none() && case.dlse.is_none() && case.expected.is_empty());
}

#[test]
fn tensors_become_options() {
    let (offsets, lengths) = (integers(&[0, 1, 1]), integers(&[3]));
    let ragged = [
        ("cu_seqlens_q", Stored::I32, &[3][..], &offsets[..]),
        ("cu_seqlens_k", Stored::I32, &[3], &offsets),
    ];
    let bytes = file_with(&["q", "k", "v", "dlse", "dsinks"], &ragged, &[("layout", "thd"), ("alibi", "1")]);
    let case = Case::parse(&bytes, &Device::cpu()).unwrap();
    let expected = Ragged { query_offsets: vec![0, 1, 1], key_offsets: vec![0, 1, 1] };
    assert_eq!(case.options.ragged, Some(expected));
    // Two heads: the second dimension of packed tensors.
    let slopes = case.options.alibi.unwrap().to_vec::<f32>().unwrap();
    assert_eq!(slopes, [0.0625, 0.00390625]);
    assert!(case.dlse.is_some() && case.expected.contains_key("dsinks"));

    let others = [("key_lengths", Stored::I32, &[1][..], &lengths[..])];
    let bytes = file_with(&["q", "k", "v", "sinks", "alibi_slopes"], &others, &[("alibi", "1")]);
    let options = Case::parse(&bytes, &Device::cpu()).unwrap().options;
    assert_eq!(options.key_lengths, Some(vec![3]));
    assert_eq!(options.sinks.unwrap().shape(), [1, 2, 3]);
    assert_eq!(options.alibi.unwrap().shape(), [1, 2, 3]);
}

#[rstest::rstest]
#[case(&["q", "k"], &[], "it has no tensor v")]
#[case(&["q", "k", "v"], &[("causal", "yes")], "its causal is 'yes'; allowed are none, upper_left and lower_right")]
#[case(&["q", "k", "v"], &[("layout", "sbhd")], "its layout is 'sbhd'; allowed are bhsd, bshd, bsd and thd")]
#[case(&["q", "k", "v"], &[("scale", "big")], "its scale is 'big'; allowed are numbers")]
#[case(&["q", "k", "v"], &[("softcap", "")], "its softcap is ''; allowed are numbers")]
#[case(&["q", "k", "v"], &[("window_right", "-2")], "its window_right is '-2'; allowed are whole numbers from 0 on, and -1 for none")]
#[case(&["q", "k", "v"], &[("window_left", "1.5")], "its window_left is '1.5'; allowed are whole numbers from 0 on, and -1 for none")]
#[case(&["q", "k", "v"], &[("alibi", "2")], "its alibi is '2'; allowed are 0 and 1")]
#[case(&["q", "k", "v"], &[("dropout_p", "half")], "its dropout_p is 'half'; allowed are numbers")]
#[case(&["q", "k", "v"], &[("dropout_seed", "-1")], "its dropout_seed is '-1'; allowed are whole numbers from 0 on, of 64 bits")]
#[case(&["q", "k", "v"], &[("dropout_offset", "4294967296")], "its dropout_offset is '4294967296'; allowed are whole numbers from 0 on, of 32 bits")]
#[case(&["q", "k", "v"], &[("layout", "thd")], "its layout is thd, but it has no tensor cu_seqlens_q")]
#[case(&["q", "k", "v", "cu_seqlens_q"], &[], "its tensor cu_seqlens_q is f32; allowed is i32")]
#[case(&["q", "k", "v", "key_lengths"], &[], "its tensor key_lengths is f32; allowed is i32")]
#[case(&["q", "k", "v", "err_out"], &[], "err_out holds 6 numbers, not 1")]
fn files_that_are_no_problem_are_refused_in_words(
    #[case] names: &[&str],
    #[case] metadata: &[(&str, &str)],
    #[case] message: &str,
) {
    let error = Case::parse(&file(names, metadata), &Device::cpu()).unwrap_err();
    assert_eq!(error.to_string(), format!("the file: {message}"));
}

#[rstest::rstest]
#[case("key_lengths", &[1], &[-3], &[], "key_lengths[0] is -3; it must be at least 0")]
#[case("cu_seqlens_q", &[3], &[0, -1, 2], &[], "cu_seqlens_q[1] is -1; it must be at least 0")]
#[case("cu_seqlens_q", &[1, 2], &[0, 1], &[], "its tensor cu_seqlens_q has 2 dimensions, not 1")]
#[case("cu_seqlens_q", &[2], &[0, 1], &[], "it holds cu_seqlens_q, but it has no tensor cu_seqlens_k")]
#[case("cu_seqlens_k", &[2], &[0, 1], &[("layout", "thd")], "its layout is thd, but it has no tensor cu_seqlens_q")]
#[case("cu_seqlens_k", &[2], &[0, 1], &[("layout", "bhsd")], "it holds offsets of a ragged batch, but its layout is not thd")]
fn offsets_and_lengths_that_cannot_be_are_refused_in_words(
    #[case] name: &str,
    #[case] shape: &[usize],
    #[case] values: &[i32],
    #[case] metadata: &[(&str, &str)],
    #[case] message: &str,
) {
    let bytes = integers(values);
    let others = [(name, Stored::I32, shape, &bytes[..])];
    let error = Case::parse(&file_with(&["q", "k", "v"], &others, metadata), &Device::cpu()).unwrap_err();
    assert_eq!(error.to_string(), format!("the file: {message}"));
}

#[test]
fn heads_that_no_memory_holds_get_no_slopes() {
    let none = [("q", Stored::F32, &[0, 1 << 40, 1, 1][..], &[][..])];
    let error = Case::parse(&file_with(&["k", "v"], &none, &[("alibi", "1")]), &Device::cpu()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the file: its alibi is 1 and q has 1099511627776 heads; at most 1048576 are allowed"
    );
}

#[test]
fn files_that_are_not_safetensors_are_refused_in_words() {
    for bytes in [&b""[..], b"x", &[0xff; 16], &file(&["q"], &[])[..20]] {
        let error = Case::parse(bytes, &Device::cpu()).unwrap_err().to_string();
        assert!(error.starts_with("the file: it is not a safetensors file"), "{error}");
    }
    let error = Case::read("/does/not/exist.safetensors", &Device::cpu()).unwrap_err().to_string();
    assert!(error.starts_with("/does/not/exist.safetensors: "), "{error}");
}
