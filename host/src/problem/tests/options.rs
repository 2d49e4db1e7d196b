//! What is said of windows, softcap, slopes, sinks, lengths, offsets and dropout.

use super::*;
use crate::options::{Dropout, Ragged, Window};

fn dropout(p: f32) -> Options {
    with(|o| o.dropout = Some(Dropout { p, seed: 1, offset: 2 }))
}

fn offsets(queries: &[usize], keys: &[usize]) -> Options {
    with(|o| o.ragged = Some(Ragged { query_offsets: queries.into(), key_offsets: keys.into() }))
}

#[rstest]
#[case(with(|o| o.softcap = Some(0.0)), "softcap is 0; it must be finite and above 0")]
#[case(with(|o| o.softcap = Some(-3.0)), "softcap is -3; it must be finite and above 0")]
#[case(with(|o| o.softcap = Some(f32::NAN)), "softcap is NaN; it must be finite and above 0")]
#[case(with(|o| o.softcap = Some(f32::INFINITY)), "softcap is inf; it must be finite and above 0")]
#[case(dropout(1.0), "the p of dropout is 1; it must be at least 0 and below 1")]
#[case(dropout(-0.25), "the p of dropout is -0.25; it must be at least 0 and below 1")]
#[case(dropout(f32::NAN), "the p of dropout is NaN; it must be at least 0 and below 1")]
#[case(with(|o| o.alibi = Some(floats(&[2]))), "alibi has the shape [2]; it must be [4]")]
#[case(with(|o| o.alibi = Some(floats(&[4, 2]))), "alibi has the shape [4, 2]; it must be [2, 4]")]
#[case(with(|o| o.alibi = Some(floats(&[3, 4]))), "alibi has the shape [3, 4]; it must be [2, 4]")]
#[case(with(|o| o.alibi = Some(floats(&[1, 2, 4]))), "alibi has 3 dimensions; allowed are 1 [heads] and 2 [batch, heads]")]
#[case(with(|o| o.alibi = Some(zeros(Dtype::F16, &[4]))), "alibi is f16; allowed are only f32")]
#[case(with(|o| o.alibi = Some(floats(&[4, 2]).transpose(0, 1).unwrap())), "alibi has a stride of 2 elements in its last dimension; it must be 1 (contiguous() makes a copy that is)")]
#[case(with(|o| o.alibi = Some(floats(&[4]).to_device(&Device::emulator()).unwrap())), "alibi is on emulator, but q is on cpu; they must be on the same device")]
#[case(with(|o| o.sinks = Some(floats(&[2]))), "sinks has the shape [2]; it must be [4]")]
#[case(with(|o| o.sinks = Some(floats(&[1, 4]))), "sinks has the shape [1, 4]; it must be [4]")]
#[case(with(|o| o.sinks = Some(zeros(Dtype::Bf16, &[4]))), "sinks is bf16; allowed are only f32")]
#[case(with(|o| o.sinks = Some(floats(&[1]).expand(&[4]).unwrap())), "sinks has a stride of 0 elements in its last dimension; it must be 1 (contiguous() makes a copy that is)")]
#[case(with(|o| o.sinks = Some(floats(&[4]).to_device(&Device::emulator()).unwrap())), "sinks is on emulator, but q is on cpu; they must be on the same device")]
#[case(with(|o| o.key_lengths = Some(vec![6])), "the length of key_lengths is 1; it must be 2, the batch entries")]
#[case(with(|o| o.key_lengths = Some(vec![6, 7])), "key_lengths[1] is 7; it must be at most 6, the keys of k")]
#[case(offsets(&[0, 1], &[0, 1]), "q has 4 dimensions; allowed are 3 [total, heads, dim], as the batch is ragged")]
fn options_that_cannot_be_are_refused_in_words(#[case] options: Options, #[case] message: &str) {
    assert_eq!(refused(three(), options), message);
}

#[rstest]
#[case(offsets(&[], &[0, 6]), "the length of query_offsets is 0; it must be at least 1, one more than the sequences")]
#[case(offsets(&[1, 5], &[0, 6]), "query_offsets[0] is 1; it must be 0")]
#[case(offsets(&[0, 5, 3, 5], &[0, 6, 6, 6]), "query_offsets[2] is 3; it must be at least 5, the offset before it")]
#[case(offsets(&[0, 3, 4], &[0, 6, 6]), "query_offsets[2] is 4; it must be 5, the rows of q")]
#[case(offsets(&[0, 3, 5], &[0, 6, 7]), "key_offsets[2] is 7; it must be 6, the rows of k")]
#[case(offsets(&[0, 3, 5], &[0, 6]), "the length of key_offsets is 2; it must be 3, as that of query_offsets")]
#[case(Options { key_lengths: Some(vec![1]), ..offsets(&[0, 5], &[0, 6]) }, "key_lengths is given; it must be left out where the offsets of a ragged batch are")]
#[case(Options { alibi: Some(floats(&[2, 4])), ..offsets(&[0, 5], &[0, 6]) }, "alibi has the shape [2, 4]; it must be [1, 4]")]
#[case(Options { bias: Some(floats(&[5, 6])), ..offsets(&[0, 3, 5], &[0, 2, 6]) }, "bias has the shape [5, 6]; it must have 4 keys in its last dimension and each size before that must be 1 or that of the scores [2, 4, 3, 4] [batch, heads, queries, keys]")]
fn offsets_that_do_not_fit_are_refused_in_words(#[case] options: Options, #[case] message: &str) {
    // 5 queries of 4 heads, 6 keys of 2.
    let tensors = [floats(&[5, 4, 8]), floats(&[6, 2, 8]), floats(&[6, 2, 8])];
    assert_eq!(refused(tensors, options), message);
}

#[test]
fn more_heads_than_the_generator_counts_get_no_dropout() {
    let q = endless(&[1 << 30, 4, 1, 1]);
    let message = "dropout has 4294967296 batch entries times heads; at most 4294967295 are allowed";
    assert_eq!(refused([q.clone(), q.clone(), q], dropout(0.5)), message);
}

#[test]
fn a_share_of_0_drops_nothing() {
    let [q, k, v] = three();
    assert!(Problem::new(&q, &k, &v, &dropout(0.0)).unwrap().dropout.is_none());
    assert!(Problem::new(&q, &k, &v, &dropout(0.5)).unwrap().dropout.is_some());
}

#[test]
fn a_ragged_batch_is_shown_with_its_heads_first_and_its_longest_sequences_as_sizes() {
    let (q, k, v) = (floats(&[5, 4, 8]), floats(&[6, 2, 8]), floats(&[6, 2, 3]));
    let options = offsets(&[0, 0, 4, 5], &[0, 1, 1, 6]);
    let problem = Problem::new(&q, &k, &v, &options).unwrap();
    let sizes =
        Sizes { batch: 3, query_heads: 4, key_heads: 2, queries: 4, keys: 5, head_dim: 8, value_dim: 3 };
    assert_eq!(problem.sizes, sizes);
    assert_eq!((shape4(&problem.q), shape4(&problem.v)), ([1, 4, 5, 8], [1, 2, 6, 3]));
    assert_eq!((problem.query_rows(), problem.key_rows()), (5, 6));
    assert_eq!((problem.out_shape(), problem.lse_shape()), (vec![5, 4, 3], vec![4, 5]));
    assert!(!problem.single_head && !problem.is_empty());
}

#[test]
fn a_window_and_a_causal_mask_make_one_band() {
    let [q, k, v] = three();
    let options = with(|o| (o.causal, o.window.left) = (Causal::LowerRight, Some(2)));
    let problem = Problem::new(&q, &k, &v, &options).unwrap();
    assert_eq!(problem.band, Band { low: Some(-2), high: Some(0), lower_right: true });
    let window = with(|o| o.window = Window { left: None, right: Some(1) });
    let problem = Problem::new(&q, &k, &v, &window).unwrap();
    assert_eq!(problem.band, Band { low: None, high: Some(1), lower_right: true });
}

#[rstest]
#[case([&[2, 4, 5, 8], &[1, 2, 6, 8], &[1, 2, 6, 8]], [2, 4, 2])]
#[case([&[1, 4, 5, 8], &[3, 1, 6, 8], &[1, 4, 6, 8]], [3, 4, 4])]
#[case([&[1, 1, 5, 8], &[1, 3, 6, 8], &[2, 1, 6, 8]], [2, 3, 3])]
#[case([&[1, 4, 5, 8], &[0, 1, 6, 8], &[1, 1, 6, 8]], [0, 4, 1])]
fn one_batch_entry_or_head_is_repeated_to_those_of_the_others(
    #[case] shapes: [&[usize; 4]; 3],
    #[case] expected: [usize; 3],
) {
    let [q, k, v] = shapes.map(|shape| floats(shape));
    let problem = Problem::new(&q, &k, &v, &Options::default()).unwrap();
    let [batch, query_heads, key_heads] = expected;
    assert_eq!(problem.q.shape(), [batch, query_heads, 5, 8]);
    assert_eq!(problem.k.shape(), [batch, key_heads, 6, 8]);
    assert_eq!(problem.v.shape(), [batch, key_heads, 6, 8]);
    assert_eq!(problem.given, shapes.map(|shape| shape.to_vec()));
}

#[test]
fn a_wrong_gradient_of_the_log_sum_exp_is_refused_in_words() {
    let [q, k, v] = three();
    let forward = sdpa(&q, &k, &v).forward().unwrap();
    let dout = floats(&[2, 4, 5, 8]);
    let message = |dlse: Tensor| forward.backward_with(&dout, Some(&dlse)).unwrap_err().to_string();
    assert_eq!(message(floats(&[2, 4, 5, 1])), "dlse has the shape [2, 4, 5, 1]; it must be [2, 4, 5]");
    assert_eq!(message(zeros(Dtype::F64, &[2, 4, 5])), "dlse is f64; allowed are only f32");
    assert_eq!(
        message(floats(&[2, 4, 5]).to_device(&Device::emulator()).unwrap()),
        "dlse is on emulator, but q is on cpu; they must be on the same device"
    );
}
