use flash_attention_abi::params::BackwardParams;
use rstest::rstest;

use super::FUSED_KEYS;
use crate::attention::{Sdpa, sdpa};
use crate::device::accelerator::Launch;
use crate::dtype::Dtype;
use crate::options::{Causal, Options, Window};
use crate::plan::tests::{Run, parameters};
use crate::tensor::Tensor;

/// What backward launches.
fn backward(run: &Run, call: Sdpa<'_>, dout: &Tensor) -> Vec<Launch> {
    let forward = call.forward().unwrap();
    run.launches();
    forward.backward(dout).unwrap();
    run.launches()
}

fn names(launches: &[Launch]) -> Vec<&str> {
    launches.iter().map(|launch| launch.entry).collect()
}

const FUSED: [&str; 3] = ["delta_f16", "flash_grad_fused_f16_d64", "flash_grad_convert_f16"];
const WITHOUT: [&str; 3] = ["delta_f16", "flash_grad_key_value_f16_d64", "flash_grad_query_f16_d64"];

#[rstest]
#[case::two_blocks(FUSED_KEYS, |_: &mut Options| {}, WITHOUT)]
#[case::more(FUSED_KEYS + 1, |_: &mut Options| {}, FUSED)]
#[case::causal(FUSED_KEYS + 1, |o: &mut Options| o.causal = Causal::UpperLeft, FUSED)]
#[case::narrow(9999, |o: &mut Options| o.window = Window { left: Some(200), right: Some(55) }, WITHOUT)]
#[case::wide(9999, |o: &mut Options| o.window = Window { left: Some(200), right: Some(56) }, FUSED)]
#[case::one_side(9999, |o: &mut Options| o.window = Window { left: Some(1), right: None }, FUSED)]
#[case::narrow_causal(
    9999,
    |o: &mut Options| {
        o.window = Window { left: Some(255), right: None };
        o.causal = Causal::LowerRight;
    },
    WITHOUT
)]
#[case::always(9999, |o: &mut Options| o.deterministic = Some(true), WITHOUT)]
#[case::wherever_possible(1, |o: &mut Options| o.deterministic = Some(false), FUSED)]
fn many_keys_in_sight_are_added_up_atomically_unless_the_caller_decides(
    #[case] keys: usize,
    #[case] option: fn(&mut Options),
    #[case] expected: [&str; 3],
) {
    let run = Run::new();
    let (q, k) = (run.tensor(Dtype::F16, &[2, 3, 70, 64]), run.tensor(Dtype::F16, &[2, 3, keys, 64]));
    let mut options = Options::default();
    option(&mut options);
    assert_eq!(names(&backward(&run, sdpa(&q, &k, &k).options(options), &q)), expected);
}

#[test]
fn there_is_a_fused_kernel_for_changed_scores_and_for_wide_heads() {
    let run = Run::new();
    let q = run.tensor(Dtype::F16, &[1, 2, 300, 64]);
    let wide = run.tensor(Dtype::F16, &[1, 2, 300, 192]);
    let with = |call: Sdpa<'_>, dout: &Tensor| {
        let launches = backward(&run, call.deterministic(false), dout);
        let [delta, fused, convert] = &launches[..] else { panic!("{:?}", names(&launches)) };
        assert_eq!([delta.entry, convert.entry], ["delta_f16", "flash_grad_convert_f16"]);
        (fused.entry, fused.grid, fused.block, fused.shared_bytes)
    };
    // Blocks of 64 keys and 8 warps. K and V of 8 KiB, two steps of Q and dO of 4 KiB each, weights and gradients of scores of 4.
    let general = with(sdpa(&q, &q, &q).softcap(3.0), &q);
    assert_eq!(general, ("flash_general_grad_fused_f16_d64", 5 * 2, 256, 40 << 10));
    let plain = with(sdpa(&wide, &wide, &wide), &wide);
    assert_eq!(plain, ("flash_grad_fused_f16_d192", 5 * 2, 256, 96 << 10));
    let both = with(sdpa(&wide, &wide, &wide).softcap(3.0), &wide);
    assert_eq!(both.0, "flash_general_grad_fused_f16_d192");
}

#[test]
fn what_no_fused_kernel_computes_has_no_atomic_additions() {
    let run = Run::new();
    let q = run.tensor(Dtype::F16, &[1, 2, 300, 64]);
    let plain = || sdpa(&q, &q, &q).deterministic(false);
    let floats = run.tensor(Dtype::F32, &[1, 2, 300, 64]);
    // Rows of 64 columns that begin 8 bytes behind a multiple of 16.
    let late = run.tensor(Dtype::F16, &[1, 2, 300, 72]).narrow(3, 4, 64).unwrap();
    let launches = [
        backward(&run, sdpa(&floats, &floats, &floats).deterministic(false), &floats),
        backward(&run, plain(), &late),
    ];
    for launches in launches {
        assert!(names(&launches).iter().all(|name| !name.contains("fused")), "{:?}", names(&launches));
    }
    assert_eq!(names(&backward(&run, plain(), &q)), FUSED);
}

#[test]
fn the_fused_kernel_has_a_block_for_every_key_block_and_sums_for_every_tile_of_queries() {
    let run = Run::new();
    let q = run.tensor(Dtype::F16, &[3, 4, 130, 64]);
    let k = run.tensor(Dtype::F16, &[3, 2, 300, 64]);
    let launches = backward(&run, sdpa(&q, &k, &k), &q);
    assert_eq!(names(&launches), FUSED);
    let [_, fused, convert] = &launches[..] else { panic!("{launches:?}") };
    // Blocks of 128 keys; K and V of 16 KiB, two steps of Q and dO of 4 KiB each, dS [128, 32] of 2 bytes.
    assert_eq!((fused.grid, fused.block, fused.shared_bytes), (3 * 2 * 3, 128, 56 << 10));
    assert_eq!((convert.grid, convert.block, convert.shared_bytes), (5 * 4 * 3, 128, 0));
    // Five tiles a head: 32 rows of 64 sums and two numbers.
    let tile = 32 * (64 + 2) * 4;
    for launch in &launches {
        let p: BackwardParams = parameters(launch);
        assert_ne!(p.dq_sums.address, 0);
        let strides = [p.dq_sums.batch_stride, p.dq_sums.head_stride, p.dq_sums.row_stride];
        assert_eq!(strides, [4 * 5 * tile, 5 * tile, tile]);
    }
    let p: BackwardParams = parameters(&backward(&run, sdpa(&q, &k, &k).deterministic(true), &q)[1]);
    assert_eq!(p.dq_sums.address, 0);
}

#[test]
fn the_sequences_of_a_ragged_batch_begin_with_tiles_of_their_own() {
    let run = Run::new();
    let q = run.tensor(Dtype::F16, &[200, 4, 64]);
    let k = run.tensor(Dtype::F16, &[700, 2, 64]);
    let call = sdpa(&q, &k, &k).ragged(&[0, 130, 130, 200], &[0, 10, 400, 700]);
    let launches = backward(&run, call, &q);
    assert_eq!(names(&launches), FUSED);
    let p: BackwardParams = parameters(&launches[1]);
    // 200 / 32 tiles, and one more for each of the three sequences.
    let tile = 32 * (64 + 2) * 4;
    let strides = [p.dq_sums.batch_stride, p.dq_sums.head_stride, p.dq_sums.row_stride];
    assert_eq!(strides, [tile, (6 + 3) * tile, tile]);
}

#[test]
fn a_grid_that_is_too_large_is_refused_in_the_name_of_the_backend_and_kernel() {
    let run = Run::new();
    let q = run.tensor(Dtype::F16, &[1 << 16, 1 << 15, 1, 8]);
    let problem = sdpa(&q, &q, &q).problem().unwrap();
    let error = super::backward(&problem, &BackwardParams::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "flash cannot run backward: the flash_grad_key_value_f16_d32 kernel would need 2147483648 blocks, and at most \
         2147483647 can be launched"
    );
}
