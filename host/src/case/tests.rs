use std::collections::HashMap;
use std::path::PathBuf;

use safetensors::tensor::TensorView;

use super::*;
use crate::attention::sdpa;
use crate::options::{Backend, Causal};

/// The folder of golden cases beside the workspace; its absence is said, never passed over in silence.
fn golden() -> Option<PathBuf> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden"));
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: there are no golden cases at {}", folder.display());
    None
}

/// What the golden cases ask for that this version does not have.
const NOT_YET: [&str; 4] = ["alibi_causal_f16", "softcap_f16", "varlen_causal_f16", "window_left_bf16"];

#[test]
fn math_on_the_cpu_agrees_with_every_golden_case() {
    let Some(folder) = golden() else { return };
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.extension().is_none_or(|e| e != "safetensors") || NOT_YET.contains(&name.as_str()) {
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
    assert!(seen >= 20, "{seen} cases");
}

#[test]
fn what_this_version_does_not_have_is_refused_by_name() {
    let Some(folder) = golden() else { return };
    for (name, words) in NOT_YET.into_iter().zip([
        "ALiBi (alibi = 1)",
        "a softcap (softcap = 20.0)",
        "ragged batches",
        "a sliding window",
    ]) {
        let error =
            Case::read(folder.join(format!("{name}.safetensors")), &Device::cpu()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(words), "{error}");
    }
}

fn file(names: &[&str], metadata: &[(&str, &str)]) -> Vec<u8> {
    let data = vec![0; 2 * 3 * 4];
    let view = || TensorView::new(Stored::F32, vec![1, 2, 3], &data).unwrap();
    let metadata: HashMap<_, _> = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    safetensors::serialize(names.iter().map(|name| (*name, view())), Some(metadata)).unwrap()
}

#[test]
fn metadata_become_options() {
    let bytes = file(
        &["q", "k", "v"],
        &[("layout", "bshd"), ("scale", "0.5"), ("causal", "lower_right"), ("x", "y")],
    );
    let case = Case::parse(&bytes, &Device::cpu()).unwrap();
    let options = case.options;
    assert_eq!(
        (options.layout, options.scale, options.causal),
        (Layout::Bshd, Some(0.5), Causal::LowerRight)
    );
    assert!(case.dout.is_none() && case.expected.is_empty());
}

#[rstest::rstest]
#[case(&["q", "k"], &[], "it has no tensor v")]
#[case(&["q", "k", "v"], &[("causal", "yes")], "its causal is 'yes'; allowed are none, upper_left and lower_right")]
#[case(&["q", "k", "v"], &[("layout", "sbhd")], "its layout is 'sbhd'; allowed are bhsd, bshd and bsd")]
#[case(&["q", "k", "v"], &[("scale", "big")], "its scale is 'big'; allowed are numbers")]
#[case(&["q", "k", "v"], &[("window_right", "0")], "it asks for a sliding window (window_right = 0), which this version does not have")]
#[case(&["q", "k", "v", "cu_seqlens_q"], &[], "it holds cu_seqlens_q, but ragged batches are not in this version")]
#[case(&["q", "k", "v", "err_out"], &[], "err_out holds 6 numbers, not 1")]
fn files_that_are_no_problem_are_refused_in_words(
    #[case] names: &[&str],
    #[case] metadata: &[(&str, &str)],
    #[case] message: &str,
) {
    let error = Case::parse(&file(names, metadata), &Device::cpu()).unwrap_err();
    assert_eq!(error.to_string(), format!("the file: {message}"));
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
