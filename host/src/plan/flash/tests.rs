use flash_attention_abi::params::{self, TensorParam};
use rstest::rstest;

use super::*;
use crate::attention::{Sdpa, sdpa};
use crate::dtype::Dtype;
use crate::error::Error;
use crate::options::{Backend, Causal, Dropout, Layout, Options, Window};
use crate::plan::tests::{Run, parameters};
use crate::tensor::Tensor;

const ALL_ALIGNED: u32 = params::ALIGNED_Q | params::ALIGNED_K | params::ALIGNED_V | params::ALIGNED_OUT;

fn by_flash(run: &Run, call: Sdpa<'_>) -> Launch {
    call.backend(Backend::Flash).run().unwrap();
    let launches = run.launches();
    let [launch] = &launches[..] else { panic!("{launches:?}") };
    launch.clone()
}

/// The words in which Flash refuses a call; nothing is launched.
fn refusal(run: &Run, call: Sdpa<'_>) -> String {
    let Err(Error::Refused { verdict, reasons }) = call.backend(Backend::Flash).run() else {
        panic!("it was not refused")
    };
    assert_eq!(verdict, "flash cannot run this");
    assert!(run.launches().is_empty());
    reasons
}

/// The kernel that a call launches by the backend that `Auto` chooses.
fn by_auto(run: &Run, call: Sdpa<'_>) -> (Backend, &'static str) {
    let output = call.run().unwrap();
    (output.backend, run.launches()[0].entry)
}

#[test]
fn forward_is_one_launch_with_a_block_for_every_query_block_and_head() {
    let run = Run::new();
    let q = run.tensor(Dtype::F16, &[3, 4, 130, 64]);
    let k = run.tensor(Dtype::F16, &[3, 2, 200, 64]);
    let v = run.tensor(Dtype::F16, &[3, 2, 200, 40]);
    let output = sdpa(&q, &k, &v).causal(Causal::LowerRight).return_lse(true).run().unwrap();
    assert_eq!(output.backend, Backend::Flash);
    let launches = run.launches();
    let [launch] = &launches[..] else { panic!("{launches:?}") };
    assert_eq!(launch.entry, "flash_forward_f16_d64");
    // Two blocks of 128 queries; Q [128, 64] and a block of K and V [96, 64] each, of 2 bytes.
    assert_eq!((launch.grid, launch.block), (2 * 4 * 3, 128));
    assert_eq!(launch.shared_bytes, 2 * 64 * (128 + 96 + 96));
    let p: ForwardParams = parameters(launch);
    let of = |tensor: &Tensor, [batch, head, row]: [i64; 3]| TensorParam {
        address: tensor.address(),
        batch_stride: 2 * batch,
        head_stride: 2 * head,
        row_stride: 2 * row,
    };
    assert_eq!(p.q, of(&q, [4 * 130 * 64, 130 * 64, 64]));
    assert_eq!(p.k, of(&k, [2 * 200 * 64, 200 * 64, 64]));
    assert_eq!(p.v, of(&v, [2 * 200 * 40, 200 * 40, 40]));
    assert_eq!(p.out, of(&output.out, [4 * 130 * 40, 130 * 40, 40]));
    assert_eq!((p.lse.address, p.lse.head_stride), (output.lse.unwrap().address(), 4 * 130));
    assert_eq!((p.problem.head_dim, p.problem.value_dim, p.problem.aligned), (64, 40, ALL_ALIGNED));
    assert_eq!((p.problem.queries, p.problem.keys, p.problem.key_heads), (130, 200, 2));
    assert_eq!((p.problem.band_high, p.problem.band_lower_right, p.problem.scale), (0, 1, 0.125));
}

#[rstest]
#[case::none(|_: &Run, _: &mut Options| {})]
#[case::causal(|_: &Run, o: &mut Options| o.causal = Causal::UpperLeft)]
#[case::window(|_: &Run, o: &mut Options| o.window = Window { left: Some(3), right: Some(0) })]
#[case::scale(|_: &Run, o: &mut Options| o.scale = Some(0.5))]
#[case::lengths(|_: &Run, o: &mut Options| o.key_lengths = Some(vec![5, 0]))]
fn what_moves_no_score_takes_the_plain_kernel(#[case] option: fn(&Run, &mut Options)) {
    assert_eq!(entry_with(option), "flash_forward_bf16_d32");
}

#[rstest]
#[case::negative_scale(|_: &Run, o: &mut Options| o.scale = Some(-0.5))]
#[case::softcap(|_: &Run, o: &mut Options| o.softcap = Some(5.0))]
#[case::alibi(|run: &Run, o: &mut Options| o.alibi = Some(run.tensor(Dtype::F32, &[3])))]
#[case::sinks(|run: &Run, o: &mut Options| o.sinks = Some(run.tensor(Dtype::F32, &[3])))]
#[case::mask(|run: &Run, o: &mut Options| o.mask = Some(run.tensor(Dtype::U8, &[7])))]
#[case::bias(|run: &Run, o: &mut Options| o.bias = Some(run.tensor(Dtype::Bf16, &[3, 5, 7])))]
#[case::dropout(|_: &Run, o: &mut Options| o.dropout = Some(Dropout { p: 0.5, seed: 1, offset: 0 }))]
fn what_moves_scores_takes_the_general_kernel(#[case] option: fn(&Run, &mut Options)) {
    assert_eq!(entry_with(option), "flash_general_bf16_d32");
}

/// The kernel for 2 x 3 heads of 5 queries and 7 keys with an option.
fn entry_with(option: fn(&Run, &mut Options)) -> &'static str {
    let run = Run::new();
    let q = run.tensor(Dtype::Bf16, &[2, 3, 5, 32]);
    let k = run.tensor(Dtype::Bf16, &[2, 3, 7, 32]);
    let mut options = Options::default();
    option(&run, &mut options);
    by_flash(&run, sdpa(&q, &k, &k).options(options)).entry
}

#[rstest]
#[case(8, 8, "d32", [64, 128])]
#[case(32, 40, "d64", [64, 128])]
#[case(40, 40, "d64", [64, 128])]
#[case(72, 64, "d96", [64, 128])]
#[case(64, 72, "d96", [64, 128])]
#[case(64, 104, "d64_128", [64, 128])]
#[case(104, 56, "d128_64", [64, 128])]
#[case(104, 72, "d128", [64, 128])]
#[case(136, 128, "d192_128", [128, 128])]
#[case(8, 136, "d192", [128, 128])]
#[case(200, 8, "d256", [128, 128])]
#[case(256, 256, "d256", [128, 128])]
fn columns_take_the_smallest_kernel_that_holds_them(
    #[case] d: usize,
    #[case] dv: usize,
    #[case] name: &str,
    #[case] rows: [usize; 2],
) {
    let run = Run::new();
    let q = run.tensor(Dtype::F16, &[2, 3, 1000, d]);
    let v = run.tensor(Dtype::F16, &[2, 3, 1000, dv]);
    let [general_rows, plain_rows] = rows;
    let plain = by_flash(&run, sdpa(&q, &q, &v));
    let general = by_flash(&run, sdpa(&q, &q, &v).softcap(1.0));
    for (launch, kernel, rows) in [(plain, "forward", plain_rows), (general, "general", general_rows)] {
        assert_eq!(launch.entry, format!("flash_{kernel}_f16_{name}"));
        assert_eq!(launch.grid as usize, 1000usize.div_ceil(rows) * 6, "{kernel}");
        assert!(launch.shared_bytes > 0 && launch.shared_bytes <= 99 << 10, "{kernel}");
        let p: ForwardParams = parameters(&launch);
        assert_eq!((p.problem.head_dim as usize, p.problem.value_dim as usize), (d, dv));
    }
}

#[test]
fn a_ragged_batch_has_blocks_for_its_longest_sequence() {
    let run = Run::new();
    let q = run.tensor(Dtype::F16, &[200, 4, 64]);
    let k = run.tensor(Dtype::F16, &[300, 2, 64]);
    let launch = by_flash(&run, sdpa(&q, &k, &k).ragged(&[0, 130, 130, 200], &[0, 10, 200, 300]));
    assert_eq!((launch.entry, launch.grid), ("flash_forward_f16_d64", 2 * 4 * 3));
    let p: ForwardParams = parameters(&launch);
    assert_eq!((p.problem.batch, p.problem.queries, p.problem.keys), (3, 130, 190));
    assert!(p.problem.query_offsets != 0 && p.problem.key_offsets != 0);
    assert_eq!((p.k.batch_stride, p.k.head_stride, p.k.row_stride), (0, 2 * 64, 2 * 2 * 64));
}

#[test]
fn heads_inside_are_aligned_where_their_rows_are() {
    let run = Run::new();
    let q = run.tensor(Dtype::F16, &[2, 7, 4, 40]);
    let launch = by_flash(&run, sdpa(&q, &q, &q).layout(Layout::Bshd));
    let p: ForwardParams = parameters(&launch);
    assert_eq!((p.q.head_stride, p.q.row_stride, p.problem.aligned), (2 * 40, 2 * 4 * 40, ALL_ALIGNED));
    // Columns of 80 bytes in rows of 88.
    let cut = run.tensor(Dtype::F16, &[2, 7, 4, 44]).narrow(3, 0, 40).unwrap();
    let call = sdpa(&cut, &q, &q).layout(Layout::Bshd);
    assert_eq!(by_auto(&run, call), (Backend::Efficient, "forward_f16_d64"));
}

/// What is said of a tensor whose rows are not at multiples of 16 bytes.
fn unaligned(what: &str, bytes: usize) -> String {
    format!(
        "it copies 16 bytes at a time, and {what} has rows of {bytes} bytes that do not all begin and end at \
         multiples of 16"
    )
}

#[test]
fn rows_that_are_not_at_multiples_of_sixteen_bytes_are_refused_and_left_to_efficient() {
    let run = Run::new();
    let whole = run.tensor(Dtype::F16, &[1, 2, 9, 64]);
    let narrow = run.tensor(Dtype::F16, &[1, 2, 9, 20]);
    // Addresses 8 bytes behind a multiple; rows of whole pieces that lie 148 bytes apart.
    let late = run.tensor(Dtype::F16, &[1, 2, 9, 72]).narrow(3, 4, 64).unwrap();
    let odd = run.tensor(Dtype::F16, &[1, 2, 9, 74]).narrow(3, 0, 64).unwrap();
    for (q, k, v, reasons) in [
        (&narrow, &narrow, &whole, vec![unaligned("q", 40), unaligned("k", 40)]),
        (&whole, &whole, &narrow, vec![unaligned("v", 40)]),
        (&late, &whole, &whole, vec![unaligned("q", 128)]),
        (&whole, &odd, &late, vec![unaligned("k", 128), unaligned("v", 128)]),
    ] {
        assert_eq!(refusal(&run, sdpa(q, k, v)), reasons.join("; "));
        assert_eq!(by_auto(&run, sdpa(q, k, v)), (Backend::Efficient, "forward_f16_d64"));
    }
    // The stride of a dimension with one entry does not count.
    let single = run.tensor(Dtype::F16, &[1, 2, 1, 80]).narrow(3, 8, 64).unwrap();
    assert_eq!(by_auto(&run, sdpa(&single, &whole, &whole)).0, Backend::Flash);
}

#[test]
fn f32_and_what_is_too_wide_are_refused() {
    let run = Run::new();
    let floats = run.tensor(Dtype::F32, &[2, 9, 64]);
    let reason = "tensor cores multiply f16 and bf16, and the tensors are f32";
    assert_eq!(refusal(&run, sdpa(&floats, &floats, &floats)), reason);
    assert_eq!(by_auto(&run, sdpa(&floats, &floats, &floats)), (Backend::Efficient, "forward_f32_d64"));
    let (wide, v) = (run.tensor(Dtype::Bf16, &[2, 9, 264]), run.tensor(Dtype::Bf16, &[2, 9, 64]));
    assert_eq!(refusal(&run, sdpa(&wide, &wide, &v)), "head dim 264 is above 256");
    assert_eq!(refusal(&run, sdpa(&v, &v, &wide)), "value head dim 264 is above 256");
    let weights = sdpa(&v, &v, &v).return_weights(true);
    assert_eq!(refusal(&run, weights), "attention weights are asked for, and only Math returns them");
}

#[rstest]
#[case((7, 0), Some("the compute capability 7.0 of fake is below 8.0"))]
#[case((7, 5), Some("the compute capability 7.5 of fake is below 8.0"))]
#[case((8, 0), None)]
#[case((8, 9), None)]
#[case((12, 0), None)]
fn what_is_older_than_sm_80_is_refused_and_left_to_efficient(
    #[case] capability: (i32, i32),
    #[case] reason: Option<&str>,
) {
    let run = Run::of_capability(Some(capability));
    let q = run.tensor(Dtype::Bf16, &[1, 2, 9, 64]);
    match reason {
        Some(reason) => {
            assert_eq!(refusal(&run, sdpa(&q, &q, &q)), reason);
            assert_eq!(by_auto(&run, sdpa(&q, &q, &q)), (Backend::Efficient, "forward_bf16_d64"));
        }
        None => assert_eq!(by_auto(&run, sdpa(&q, &q, &q)), (Backend::Flash, "flash_forward_bf16_d64")),
    }
}

#[test]
fn grids_that_cannot_be_launched_are_refused_with_their_size() {
    let run = Run::new();
    let q = run.tensor(Dtype::F16, &[1, 1, 8]).expand(&[1 << 31, 1, 8]).unwrap();
    let reasons = refusal(&run, sdpa(&q, &q, &q));
    let expected = "the forward kernel would need 2147483648 blocks, and at most 2147483647 can be launched";
    assert!(reasons.contains(expected), "{reasons}");
}

/// The launches of backward behind `delta`: entry point, grid, block and shared bytes.
fn backward_of(run: &Run, call: Sdpa<'_>, dout: &Tensor) -> Vec<(&'static str, u32, u32, u32)> {
    let forward = call.forward().unwrap();
    run.launches();
    forward.backward(dout).unwrap();
    let launches = run.launches();
    assert!(launches[0].entry.starts_with("delta"));
    launches[1..].iter().map(|l| (l.entry, l.grid, l.block, l.shared_bytes)).collect()
}

#[test]
fn backward_takes_the_kernels_of_what_forward_took() {
    let run = Run::new();
    let q = run.tensor(Dtype::F16, &[2, 4, 300, 64]);
    let k = run.tensor(Dtype::F16, &[2, 2, 500, 64]);
    // Blocks of 128 rows of two operands, and two steps of 32; of 64 rows, and two steps of 16.
    let (plain, general) = (2 * 64 * 2 * (128 + 2 * 32), 2 * 64 * 2 * (64 + 2 * 16));
    assert_eq!(
        backward_of(&run, sdpa(&q, &k, &k).causal(Causal::LowerRight).deterministic(true), &q),
        [
            ("flash_grad_key_value_f16_d64", 4 * 2 * 2, 128, plain),
            ("flash_grad_query_f16_d64", 3 * 4 * 2, 128, plain)
        ]
    );
    let bias = run.tensor(Dtype::F16, &[4, 1, 500]);
    assert_eq!(
        backward_of(&run, sdpa(&q, &k, &k).bias(&bias).deterministic(true), &q)[..2],
        [
            ("flash_general_grad_key_value_f16_d64", 8 * 2 * 2, 128, general),
            ("flash_general_grad_query_f16_d64", 5 * 4 * 2, 128, general)
        ]
    );
}

#[test]
fn wide_heads_have_a_kernel_each_for_the_gradients_of_keys_and_values() {
    let run = Run::new();
    let q = run.tensor(Dtype::Bf16, &[1, 2, 70, 256]);
    // Blocks of 64 rows of two operands, and two steps of 16.
    let shared = 2 * 256 * 2 * (64 + 2 * 16);
    for (call, family) in
        [(sdpa(&q, &q, &q), "flash_grad"), (sdpa(&q, &q, &q).softcap(2.0), "flash_general_grad")]
    {
        let launches = backward_of(&run, call, &q);
        let names = ["key", "value", "query"].map(|what| format!("{family}_{what}_bf16_d256"));
        assert_eq!(launches.iter().map(|launch| launch.0).collect::<Vec<_>>(), names);
        assert!(launches.iter().all(|launch| launch.1 == 4 && launch.2 == 128 && launch.3 == shared));
    }
}

#[test]
fn the_gradient_of_a_bias_is_that_of_efficient() {
    let run = Run::new();
    let q = run.tensor(Dtype::F16, &[1, 2, 70, 64]);
    let (bias, sinks) = (run.tensor(Dtype::F16, &[2, 1, 70]), run.tensor(Dtype::F32, &[2]));
    let launches = backward_of(&run, sdpa(&q, &q, &q).bias(&bias).sinks(&sinks), &q);
    let entries: Vec<_> = launches.iter().map(|launch| launch.0).collect();
    assert_eq!(entries[2..], ["grad_bias_f16_d64", "grad_sink"]);
}

#[test]
fn a_gradient_of_the_output_that_is_not_aligned_goes_to_efficient() {
    let run = Run::new();
    let q = run.tensor(Dtype::F16, &[1, 2, 70, 64]);
    let late = run.tensor(Dtype::F16, &[1, 2, 70, 72]).narrow(3, 4, 64).unwrap();
    let entries: Vec<_> = backward_of(&run, sdpa(&q, &q, &q), &late).iter().map(|launch| launch.0).collect();
    assert_eq!(entries, ["grad_key_value_f16_d64", "grad_query_f16_d64"]);
}
