use flash_attention_abi::flash::split::SplitParams;
use rstest::rstest;

use super::*;
use crate::attention::{Sdpa, sdpa};
use crate::device::accelerator::Launch;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::options::{Backend, Causal};
use crate::plan::tests::{Run, parameters};
use crate::tensor::Tensor;

/// The numbers of FlashAttention-2's rule, computed apart in exact fractions.
#[rstest]
#[case(1, 64, 132, 64)]
#[case(8, 128, 132, 15)]
#[case(8, 64, 108, 13)]
#[case(32, 32, 108, 3)]
#[case(86, 64, 108, 5)]
#[case(87, 64, 108, 1)]
#[case(105, 99, 132, 5)]
#[case(106, 99, 132, 1)]
#[case(64, 64, 132, 2)]
#[case(1, 1, 132, 1)]
#[case(1, 0, 132, 1)]
#[case(1, 1000, 132, 112)]
#[case(1, 1000, 160, 112)]
#[case(2, 3, 84, 3)]
#[case(40, 512, 142, 3)]
#[case(16, 16, 46, 8)]
#[case(5, 7, 6, 1)]
#[case(100, 500, 148, 4)]
#[case(1, 64, 1, 1)]
#[case(u128::MAX, 64, 132, 1)]
fn parts_fill_the_multiprocessors(
    #[case] blocks: u128,
    #[case] steps: usize,
    #[case] multiprocessors: u32,
    #[case] expected: u32,
) {
    assert_eq!(parts(blocks, steps, multiprocessors), expected);
}

#[test]
fn parts_are_few_have_keys_and_use_the_gpu_well() {
    for multiprocessors in [1, 2, 16, 46, 82, 108, 114, 132, 148, 160] {
        for steps in (1..40).chain([64, 100, 127, 128, 129, 500, 4096]) {
            let of = |blocks: u128| parts(blocks, steps, multiprocessors);
            let (mut blocks, places) = (1, u128::from(multiprocessors));
            while 5 * blocks < 4 * places {
                let n = of(blocks);
                assert!((1..=MAX_PARTS).contains(&n) && n as usize <= steps && n <= multiprocessors);
                // In waves of whole multiprocessors: what one part alone would use, and what every other number does.
                let used = |n: u32| {
                    let all = blocks * u128::from(n);
                    all as f64 / (all.div_ceil(places) * places) as f64
                };
                assert!(used(n) >= used(1));
                for other in 1..=(steps as u32).min(MAX_PARTS).min(multiprocessors) {
                    let shortens =
                        other == 1 || steps.div_ceil(other as usize) < steps.div_ceil(other as usize - 1);
                    assert!(!shortens || used(n) >= 0.85 * used(other), "{blocks} {steps} {multiprocessors}");
                    assert!(other >= n || !shortens || used(other) < used(n));
                }
                blocks += 1;
            }
            assert_eq!([of(blocks), of(blocks + 1), of(10 * places)], [1; 3]);
        }
    }
}

fn launches(run: &Run, call: Sdpa<'_>) -> Vec<Launch> {
    call.backend(Backend::Flash).run().unwrap();
    run.launches()
}

fn names(launches: &[Launch]) -> Vec<(&'static str, u32)> {
    launches.iter().map(|launch| (launch.entry, launch.grid)).collect()
}

/// One query of 32 heads that share 8, and 8192 keys: decoding.
fn decoding(run: &Run) -> [Tensor; 2] {
    [run.tensor(Dtype::F16, &[1, 32, 1, 128]), run.tensor(Dtype::F16, &[1, 8, 8192, 128])]
}

#[test]
fn decoding_is_two_launches_on_a_gpu_and_the_parts_lie_behind_one_another() {
    let run = Run::of_multiprocessors(132);
    let [q, k] = decoding(&run);
    let output = sdpa(&q, &k, &k).return_lse(true).run().unwrap();
    let launches = run.launches();
    // 15 parts of 8 key heads; then 32 rows, 4 a block.
    assert_eq!(names(&launches), [("flash_split_f16_d128", 15 * 8), ("flash_combine_f16", 8)]);
    assert_eq!([launches[0].block, launches[1].block], [128; 2]);
    assert_eq!([launches[0].shared_bytes, launches[1].shared_bytes], [(64 + 2 * 2 * 64) * 128 * 2, 0]);
    let params: SplitParams = parameters(&launches[0]);
    assert_eq!(parameters::<SplitParams>(&launches[1]), params);
    assert_eq!((params.parts, params.part_out_stride, params.part_lse_stride), (15, 32 * 128 * 4, 32 * 4));
    assert_eq!((params.part_out.head_stride, params.part_out.row_stride), (128 * 4, 128 * 4));
    assert_eq!((params.part_lse.head_stride, params.part_lse.row_stride), (4, 4));
    assert_eq!(params.forward.out.address, output.out.address());
    assert_eq!(params.forward.lse.address, output.lse.unwrap().address());
    let addresses = [params.part_out.address, params.part_lse.address, params.forward.lse.address];
    assert!(addresses.iter().all(|&address| address != 0) && addresses[1] != addresses[2]);
    assert_eq!(sdpa(&q, &k, &k).splits_taken().unwrap(), 15);
}

#[test]
fn one_part_writes_the_output_itself() {
    let run = Run::new();
    let [q, k] = decoding(&run);
    let output = sdpa(&q, &k, &k).return_lse(true).run().unwrap();
    let launches = run.launches();
    assert_eq!(names(&launches), [("flash_split_f16_d128", 8)]);
    let params: SplitParams = parameters(&launches[0]);
    assert_eq!((params.parts, params.part_out, params.part_lse), (1, Default::default(), params.forward.lse));
    assert_eq!(params.part_lse.address, output.lse.unwrap().address());
}

/// Queries, keys, query heads and key heads, and the kernel on a device with one multiprocessor.
#[rstest]
#[case::one_head_each(1, 100, 4, 4, "flash_forward_f16_d64")]
#[case::one_query(1, 100, 4, 1, "flash_split_f16_d64")]
#[case::one_tile_in_place_of_two(32, 100, 4, 2, "flash_split_f16_d64")]
#[case::two_tiles_in_place_of_two(33, 100, 4, 2, "flash_forward_f16_d64")]
#[case::two_tiles_in_place_of_three(40, 100, 6, 2, "flash_split_f16_d64")]
#[case::many_queries(1000, 100, 4, 1, "flash_forward_f16_d64")]
fn heads_share_tiles_where_keys_are_read_less_often_then(
    #[case] queries: usize,
    #[case] keys: usize,
    #[case] query_heads: usize,
    #[case] key_heads: usize,
    #[case] kernel: &str,
) {
    let run = Run::new();
    let q = run.tensor(Dtype::F16, &[2, query_heads, queries, 64]);
    let k = run.tensor(Dtype::F16, &[2, key_heads, keys, 64]);
    assert_eq!(launches(&run, sdpa(&q, &k, &k))[0].entry, kernel);
    let general = kernel.replace("forward", "general").replace("split", "split_general");
    assert_eq!(launches(&run, sdpa(&q, &k, &k).softcap(1.0))[0].entry, general);
    let asked = launches(&run, sdpa(&q, &k, &k).splits(1));
    assert_eq!((asked.len(), asked[0].entry), (1, kernel));
    let parts = launches(&run, sdpa(&q, &k, &k).softcap(1.0).splits(3));
    let grid = 3 * 2 * key_heads * (queries * query_heads / key_heads).div_ceil(64);
    assert_eq!(names(&parts)[0], ("flash_split_general_f16_d64", grid as u32));
}

/// The parts of 2 heads and 64 queries on 132 multiprocessors, by the steps of 64 keys that the longest block has.
#[rstest]
#[case::all(64, |call: Sdpa<'static>| call)]
#[case::causal(1, |call: Sdpa<'static>| call.causal(Causal::UpperLeft))]
#[case::window(3, |call: Sdpa<'static>| call.window(Some(100), Some(0)))]
#[case::lengths(4, |call: Sdpa<'static>| call.key_lengths(&[200]))]
#[case::no_keys(1, |call: Sdpa<'static>| call.key_lengths(&[0]))]
fn only_keys_that_are_met_are_divided(
    #[case] expected: usize,
    #[case] option: fn(Sdpa<'static>) -> Sdpa<'static>,
) {
    let run = Box::leak(Box::new(Run::of_multiprocessors(132)));
    let q: &'static Tensor = Box::leak(Box::new(run.tensor(Dtype::Bf16, &[1, 2, 64, 128])));
    let k: &'static Tensor = Box::leak(Box::new(run.tensor(Dtype::Bf16, &[1, 2, 4096, 128])));
    assert_eq!(option(sdpa(q, k, k)).splits_taken().unwrap(), expected);
}

#[test]
fn a_ragged_batch_is_divided_by_its_longest_sequence() {
    let run = Run::of_multiprocessors(108);
    let q = run.tensor(Dtype::F16, &[70, 2, 64]);
    let k = run.tensor(Dtype::F16, &[1200, 1, 64]);
    let call = sdpa(&q, &k, &k).ragged(&[0, 1, 70], &[0, 200, 1200]).causal(Causal::LowerRight);
    // 69 x 2 rows are 3 blocks, of which the last meets 1000 keys, 8 steps; 2 sequences.
    assert_eq!(names(&launches(&run, call)), [("flash_split_f16_d64", 3 * 2 * 8), ("flash_combine_f16", 69)]);
}

#[test]
fn small_tiles_spread_over_a_gpu_where_keys_are_not_worth_dividing() {
    let run = Run::of_multiprocessors(132);
    let q = run.tensor(Dtype::F16, &[1, 60, 128, 64]);
    let k = run.tensor(Dtype::F16, &[1, 60, 4096, 64]);
    // 60 blocks of 128 queries would leave 72 multiprocessors idle; 120 of 64 do not.
    assert_eq!(names(&launches(&run, sdpa(&q, &k, &k))), [("flash_split_f16_d64", 120)]);
    let full = Run::of_multiprocessors(75);
    let [q, k] = [&q, &k].map(|tensor| full.tensor(Dtype::F16, tensor.shape()));
    assert_eq!(names(&launches(&full, sdpa(&q, &k, &k))), [("flash_forward_f16_d64", 60)]);
}

#[test]
fn the_callers_number_comes_first_and_is_checked() {
    let run = Run::of_multiprocessors(132);
    let [q, k] = decoding(&run);
    let of = |splits| sdpa(&q, &k, &k).splits(splits);
    assert_eq!(names(&launches(&run, of(1))), [("flash_split_f16_d128", 8)]);
    assert_eq!(names(&launches(&run, of(128)))[0], ("flash_split_f16_d128", 128 * 8));
    let error = of(129).run().unwrap_err().to_string();
    assert_eq!(error, "splits is 129; it must be 1 to 128, or 0, which leaves it to the library");
    for backend in [Backend::Efficient, Backend::Math] {
        assert!(of(1).backend(backend).explain().unwrap().choose(&[backend]).is_ok());
        let Err(Error::Refused { reasons, .. }) = of(2).backend(backend).run() else { panic!("it ran") };
        assert_eq!(reasons, "2 splits of the keys are asked for, and only Flash divides them");
    }
    assert!(run.launches().is_empty());
}
