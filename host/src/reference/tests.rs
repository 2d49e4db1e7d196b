//! Small cases whose results are known, and sizes at the edges.

use approx::assert_relative_eq;

use super::*;
use crate::error::Error;

mod slopes;

/// One batch entry and head, one column of values.
fn plain(queries: usize, keys: usize, head_dim: usize) -> Attention<'static, f64> {
    Attention { scale: 1.0, ..Attention::new(1, 1, 1, queries, keys, head_dim, 1) }
}

/// What `attention` computes from these numbers; the numbers are known to fit.
fn run(attention: &Attention<'_, f64>, q: &[f64], k: &[f64], v: &[f64]) -> Outcome<f64> {
    forward(attention, q, k, v, true).unwrap()
}

#[test]
fn equal_scores_average_the_values() {
    let outcome = run(&plain(1, 4, 1), &[0.0], &[3.0; 4], &[1.0, 2.0, 3.0, 6.0]);
    assert_relative_eq!(outcome.out[0], 3.0);
    assert_relative_eq!(outcome.lse[0], 4f64.ln());
    assert_eq!(outcome.weights, [0.25; 4]);
}

#[test]
fn a_query_without_visible_keys_gives_zero_and_minus_infinity() {
    let mask = Repeated { values: &[0, 0][..], shape: [1, 1, 1] };
    let attention = Attention { mask: Some(mask), ..plain(1, 2, 1) };
    let outcome = run(&attention, &[1.0], &[1.0, 2.0], &[f64::NAN, 2.0]);
    assert_eq!((outcome.out[0], outcome.lse[0]), (0.0, f64::NEG_INFINITY));
    assert_eq!(outcome.weights, [0.0, 0.0]);
}

#[test]
fn a_query_without_visible_keys_has_no_gradient_whatever_comes_in() {
    let mask = Repeated { values: &[0, 0][..], shape: [1, 1, 1] };
    let attention = Attention { mask: Some(mask), sinks: Some(&[0.5]), ..plain(1, 2, 1) };
    let (q, k, v) = ([1.0], [1.0, 2.0], [f64::NAN, 2.0]);
    assert_eq!(run(&attention, &q, &k, &v).lse, [0.5]);
    let gradients = backward(&attention, &q, &k, &v, &[f64::NAN], Some(&[3.0]), true).unwrap();
    assert_eq!((gradients.dq, gradients.dk, gradients.dv), (vec![0.0], vec![0.0; 2], vec![0.0; 2]));
    // All that the query's log-sum-exp depends on is the sink.
    assert_eq!(gradients.dsinks, [3.0]);
}

#[test]
fn huge_scores_stay_finite() {
    let outcome = run(&plain(1, 2, 1), &[1.0], &[1e4, -1e4], &[1.0, 2.0]);
    assert_eq!((outcome.out[0], outcome.lse[0]), (1.0, 1e4));
}

#[test]
fn minus_infinity_in_the_bias_hides_and_other_oddities_poison_their_query() {
    let row = |first: f64| {
        let bias = [first, 0.0, 0.0, 0.0];
        let bias = Some(Repeated { values: &bias[..], shape: [1, 1, 2] });
        run(&Attention { bias, ..plain(2, 2, 1) }, &[1.0, 1.0], &[1.0, 1.0], &[1.0, 3.0]).out
    };
    assert_eq!(row(f64::NEG_INFINITY), [3.0, 2.0]);
    for odd in [f64::INFINITY, f64::NAN] {
        assert!(row(odd)[0].is_nan());
        assert_eq!(row(odd)[1], 2.0);
    }
}

/// Which keys each query sees: `x` where it does.
fn seen(attention: &Attention<'_, f64>) -> Vec<String> {
    let Attention { queries, keys, .. } = *attention;
    let weights = run(attention, &vec![1.0; queries], &vec![1.0; keys], &vec![1.0; keys]).weights;
    let row = |row: &[f64]| row.iter().map(|&w| if w == 0.0 { '.' } else { 'x' }).collect();
    weights.chunks(keys).map(row).collect()
}

#[rstest::rstest]
#[case(Causal::None, Some(1), Some(0), ["..xx.", "...xx"])]
#[case(Causal::None, None, Some(0), ["xxxx.", "xxxxx"])]
#[case(Causal::None, Some(2), None, [".xxxx", "..xxx"])]
#[case(Causal::None, Some(usize::MAX), Some(usize::MAX), ["xxxxx", "xxxxx"])]
#[case(Causal::LowerRight, Some(1), Some(3), ["..xx.", "...xx"])]
#[case(Causal::UpperLeft, Some(1), None, ["x....", "xx..."])]
#[case(Causal::UpperLeft, Some(0), None, ["x....", ".x..."])]
fn windows_follow_the_diagonal(
    #[case] causal: Causal,
    #[case] left: Option<usize>,
    #[case] right: Option<usize>,
    #[case] expected: [&str; 2],
) {
    let attention = Attention { causal, window: Window { left, right }, ..plain(2, 5, 1) };
    assert_eq!(seen(&attention), expected);
}

#[test]
fn the_diagonal_of_a_padded_entry_ends_at_its_last_key() {
    let attention = Attention { causal: Causal::LowerRight, key_lengths: Some(&[3]), ..plain(2, 5, 1) };
    assert_eq!(seen(&attention), ["xx...", "xxx.."]);
    let window = Window { left: Some(1), right: Some(0) };
    let attention = Attention { window, key_lengths: Some(&[1]), ..plain(2, 5, 1) };
    assert_eq!(seen(&attention), [".....", "x...."]);
}

#[test]
fn keys_beyond_the_length_are_never_read() {
    let attention = Attention { key_lengths: Some(&[2]), ..plain(1, 4, 1) };
    let (q, nan) = ([f64::NAN], f64::NAN);
    // Even a query that is not a number leaves them alone.
    let outcome = run(&attention, &q, &[1.0, 1.0, nan, nan], &[1.0, 3.0, nan, nan]);
    assert_eq!(outcome.weights[2..], [0.0, 0.0]);
    let outcome = run(&attention, &[1.0], &[1.0, 1.0, nan, nan], &[1.0, 3.0, nan, nan]);
    assert_eq!((outcome.out[0], outcome.lse[0]), (2.0, 1.0 + 2f64.ln()));
    let (k, v) = ([1.0, 1.0, nan, nan], [1.0, 3.0, nan, nan]);
    let gradients = backward(&attention, &[1.0], &k, &v, &[1.0], None, false).unwrap();
    assert_eq!(gradients.dk, [-0.5, 0.5, 0.0, 0.0]);
    assert_eq!(gradients.dv, [0.5, 0.5, 0.0, 0.0]);
}

#[test]
fn alibi_takes_the_slope_for_every_position_between() {
    let slopes = Slopes { values: &[9.0, 0.5][..], per_batch: true };
    let attention = Attention { alibi: Some(slopes), batch: 2, key_lengths: Some(&[0, 4]), ..plain(1, 4, 1) };
    let weights = run(&attention, &[0.0; 2], &[0.0; 8], &[0.0; 8]).weights;
    // The one query stands at the last key.
    for (j, &w) in weights[4..].iter().enumerate() {
        assert_relative_eq!(w / weights[7], (-0.5 * (3.0 - j as f64)).exp(), max_relative = 1e-12);
    }
}

#[test]
fn a_sink_takes_its_share_and_gives_nothing() {
    let attention = Attention { sinks: Some(&[1.0]), ..plain(1, 1, 1) };
    let outcome = run(&attention, &[1.0], &[1.0], &[8.0]);
    assert_eq!((outcome.out[0], outcome.weights[0]), (4.0, 0.5));
    assert_relative_eq!(outcome.lse[0], 1.0 + 2f64.ln());
    // out = 8 / (1 + exp(sink - 1))
    let gradients = backward(&attention, &[1.0], &[1.0], &[8.0], &[1.0], None, false).unwrap();
    assert_eq!(gradients.dsinks, [-2.0]);
    assert_eq!(gradients.dv, [0.5]);
}

#[test]
fn a_softcap_bounds_the_scores() {
    let attention = Attention { softcap: Some(2.0), ..plain(1, 1, 1) };
    assert_relative_eq!(run(&attention, &[1.0], &[1e6], &[1.0]).lse[0], 2.0);
    assert_relative_eq!(run(&attention, &[1.0], &[1.0], &[1.0]).lse[0], 2.0 * 0.5f64.tanh());
}

/// Dropout of 3 in 10 and what it leaves of 2 * 2 * 40 * 50 equal weights.
fn dropped(dropout: Dropout, first_batch: usize, batch: usize) -> Vec<f64> {
    let attention =
        Attention { dropout: Some(dropout), first_batch, ..Attention::new(batch, 2, 2, 40, 50, 1, 1) };
    let (queries, keys) = (batch * 2 * 40, batch * 2 * 50);
    run(&attention, &vec![0.0; queries], &vec![0.0; keys], &vec![0.0; keys]).weights
}

const DROPOUT: Dropout = Dropout { p: 0.3, seed: 0x1234_5678_9abc_def0, offset: 7 };

#[test]
fn dropout_keeps_its_share_and_scales_it() {
    let weights = dropped(DROPOUT, 0, 2);
    let kept = weights.iter().filter(|&&w| w != 0.0).count();
    let share = kept as f64 / weights.len() as f64;
    // Three standard deviations of 8000 trials.
    assert!((share - 0.7).abs() < 0.016, "{share}");
    let scaled = 1.0 / (1.0 - f64::from(DROPOUT.p)) / 50.0;
    assert!(weights.iter().all(|&w| w == 0.0 || (w - scaled).abs() < 1e-12));
}

#[test]
fn dropout_follows_seed_offset_and_place_alone() {
    let all = dropped(DROPOUT, 0, 2);
    assert_eq!(dropped(DROPOUT, 1, 1), all[all.len() / 2..]);
    let others = [
        Dropout { seed: DROPOUT.seed ^ 1, ..DROPOUT },
        Dropout { seed: DROPOUT.seed ^ (1 << 40), ..DROPOUT },
        Dropout { offset: 8, ..DROPOUT },
    ];
    for other in others {
        let same = dropped(other, 0, 2).iter().zip(&all).filter(|(a, b)| a == b).count();
        // 0.3² + 0.7² of the weights agree by chance.
        assert!((same as f64 / all.len() as f64 - 0.58).abs() < 0.03, "{other:?}: {same}");
    }
}

#[test]
fn dropout_reads_the_word_that_the_contract_names() {
    use flash_attention_abi::philox::{philox4x32_10, place, threshold};
    let weights = dropped(DROPOUT, 0, 2);
    for (at, &weight) in weights.iter().enumerate() {
        let (head, query, key) = (at / 2000, at / 50 % 40, at % 50);
        let (group, word) = place(key as u32);
        let seed = [DROPOUT.seed as u32, (DROPOUT.seed >> 32) as u32];
        let words = philox4x32_10([group, query as u32, head as u32, DROPOUT.offset], seed);
        assert_eq!(
            weight != 0.0,
            words[word] >= threshold(DROPOUT.p),
            "head {head}, query {query}, key {key}"
        );
    }
}

#[test]
fn dropout_leaves_the_log_sum_exp_alone() {
    let with = Attention { dropout: Some(DROPOUT), ..plain(1, 3, 1) };
    let numbers = [0.3, -0.4, 0.9];
    let lse = |attention| run(attention, &[1.0], &numbers, &numbers).lse;
    assert_eq!(lse(&with), lse(&plain(1, 3, 1)));
}

#[rstest::rstest]
#[case(0, 2, 3, 4)]
#[case(2, 0, 3, 4)]
#[case(2, 2, 0, 4)]
#[case(2, 2, 3, 0)]
#[case(0, 0, 0, 0)]
fn any_size_may_be_zero(
    #[case] batch: usize,
    #[case] heads: usize,
    #[case] queries: usize,
    #[case] keys: usize,
) {
    let sinks = vec![0.25; heads];
    let lengths = vec![keys; batch];
    let bias = vec![0.0; keys];
    let attention = Attention {
        sinks: Some(&sinks),
        key_lengths: Some(&lengths),
        bias: Some(Repeated { values: &bias, shape: [1; 3] }),
        dropout: Some(DROPOUT),
        softcap: Some(3.0),
        ..Attention::new(batch, heads, heads, queries, keys, 2, 1)
    };
    let (rows, columns) = (batch * heads * queries, batch * heads * keys);
    let (q, k, v) = (vec![1.0; rows * 2], vec![1.0; columns * 2], vec![1.0; columns]);
    let outcome = run(&attention, &q, &k, &v);
    assert_eq!((outcome.out, outcome.weights), (vec![0.0; rows], vec![]));
    assert_eq!(outcome.lse, vec![0.25; rows]);
    let (dout, dlse) = (vec![1.0; rows], vec![2.0; rows]);
    let gradients = backward(&attention, &q, &k, &v, &dout, Some(&dlse), true).unwrap();
    assert_eq!((gradients.dq, gradients.dbias), (vec![0.0; rows * 2], vec![0.0; keys]));
    assert_eq!((gradients.dk, gradients.dv), (vec![0.0; columns * 2], vec![0.0; columns]));
    // Without keys the sink is the log-sum-exp.
    let per_head = (batch * queries * 2) as f64;
    assert_eq!(gradients.dsinks, vec![if keys == 0 { per_head } else { 0.0 }; heads]);
}

#[test]
fn sizes_beyond_any_memory_are_errors() {
    let many = Attention::<f64>::new(1 << 52, 1, 1, 1, 0, 0, 1);
    let Err(Error::Device { action, .. }) = forward(&many, &[], &[], &[], false) else { panic!() };
    assert_eq!(action, "allocate 36028797018963968 bytes");
    let message = |attention: &Attention<'_, f64>, weights: bool| {
        forward(attention, &[], &[], &[], weights).unwrap_err().to_string()
    };
    assert_eq!(
        message(&Attention { batch: 1 << 22, queries: 1 << 30, value_dim: 1 << 12, ..many.clone() }, false),
        "the output has 18446744073709551616 elements; at most 1152921504606846975 are allowed"
    );
    let square = Attention { batch: 1, queries: 1 << 30, keys: 1 << 30, value_dim: 0, ..many.clone() };
    assert_eq!(
        message(&square, true),
        "the weights has 1152921504606846976 elements; at most 1152921504606846975 are allowed"
    );
    assert_eq!(
        message(&Attention { keys: (1 << 30) + 1, ..square }, false),
        "k has 1073741825 keys; at most 1073741824 are allowed"
    );
}

#[test]
fn slices_that_do_not_fit_are_named() {
    let attention = Attention { key_lengths: Some(&[4]), sinks: Some(&[0.0; 2]), ..plain(1, 3, 1) };
    let message = |attention: &Attention<'_, f64>, q: &[f64]| {
        forward(attention, q, &[0.0; 3], &[0.0; 3], false).unwrap_err().to_string()
    };
    assert_eq!(message(&attention, &[0.0; 2]), "q has 2 elements, but the problem has 1; they must be equal");
    assert_eq!(
        message(&attention, &[0.0]),
        "sinks has 2 elements, but the problem has 1; they must be equal"
    );
    let attention = Attention { sinks: None, ..attention };
    assert_eq!(message(&attention, &[0.0]), "key_lengths has 4 keys in use; at most 3 are allowed");
    let heads = Attention { query_heads: 3, key_heads: 2, ..plain(1, 3, 1) };
    assert_eq!(message(&heads, &[0.0; 3]), "q has 3 heads, which is not a multiple of the 2 heads of k");
}
