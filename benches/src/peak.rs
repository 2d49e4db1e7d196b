//! What a GPU could do at most, by its data sheet.

use flash_attention::Dtype;

/// Dense TFLOP/s: f16 and bf16 on tensor cores with f32 sums, f32 on ordinary cores. From NVIDIA's data sheets; the first name
/// that the driver's description contains counts, so that longer names come first.
const PEAKS: [(&str, f64, f64); 6] = [
    ("B200", 2250.0, 75.0),
    ("H200", 989.4, 66.9),
    ("H100 PCIe", 756.5, 51.2),
    ("H100", 989.4, 66.9),
    ("L40S", 362.1, 91.6),
    ("A100", 311.9, 19.5),
];

/// The peak in TFLOP/s of a described device for a storage type, where it is known.
pub fn tflops(description: &str, dtype: Dtype) -> Option<f64> {
    // By whole words, so that A100 is not found in A1000.
    let words = format!(" {} ", description.replace([',', ';'], " "));
    let known = |name: &str| {
        words.match_indices(name).any(|(at, _)| {
            let (before, after) = (words[..at].chars().next_back(), words[at + name.len()..].chars().next());
            ![before, after].iter().flatten().any(|c| c.is_alphanumeric())
        })
    };
    let (_, tensor, ordinary) = PEAKS.iter().find(|(name, ..)| known(name))?;
    match dtype {
        Dtype::F16 | Dtype::Bf16 => Some(*tensor),
        Dtype::F32 => Some(*ordinary),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("NVIDIA H100 80GB HBM3, compute capability 9.0, 79.1 GiB", Some(989.4))]
    #[case("NVIDIA H100 PCIe, compute capability 9.0, 79.1 GiB", Some(756.5))]
    #[case("NVIDIA H200, compute capability 9.0, 139.8 GiB", Some(989.4))]
    #[case("NVIDIA A100-SXM4-40GB, compute capability 8.0", Some(311.9))]
    #[case("NVIDIA RTX A1000, compute capability 8.6", None)]
    #[case("an unknown one", None)]
    fn peaks_are_found_by_whole_names(#[case] description: &str, #[case] peak: Option<f64>) {
        assert_eq!(tflops(description, Dtype::F16), peak);
    }

    #[test]
    fn f32_has_a_peak_of_its_own() {
        assert_eq!(tflops("NVIDIA H200", Dtype::F32), Some(66.9));
    }
}
