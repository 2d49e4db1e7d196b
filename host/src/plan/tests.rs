use std::sync::Arc;

use flash_attention_abi::params;
use flash_attention_abi::tile::{backward_tile, forward_tile};

use super::*;
use crate::attention::sdpa;
use crate::device::Device;
use crate::device::fake::Fake;
use crate::dtype::Dtype;
use crate::options::{Backend, Causal, Dropout, Layout, Options};

/// The struct whose bytes a launch passes.
pub(super) fn parameters<T: Copy>(launch: &Launch) -> T {
    assert_eq!(launch.parameters.len(), size_of::<T>());
    // SAFETY: both parameter structs are plain numbers, for which any bytes are a value; the length was checked.
    unsafe { launch.parameters.as_ptr().cast::<T>().read_unaligned() }
}

/// A device that remembers what was launched on it.
pub(super) struct Run {
    fake: Arc<Fake>,
    device: Device,
}

impl Run {
    pub(super) fn new() -> Run {
        Run::of_capability(None)
    }

    pub(super) fn of_capability(capability: Option<(i32, i32)>) -> Run {
        let fake = Arc::new(Fake::of_capability(capability));
        Run { device: Device::new(fake.clone()), fake }
    }

    pub(super) fn of_multiprocessors(multiprocessors: u32) -> Run {
        let fake = Arc::new(Fake::of_multiprocessors(multiprocessors));
        Run { device: Device::new(fake.clone()), fake }
    }

    pub(super) fn tensor(&self, dtype: Dtype, shape: &[usize]) -> Tensor {
        Tensor::zeros(&self.device, dtype, shape).unwrap()
    }

    pub(super) fn launches(&self) -> Vec<Launch> {
        std::mem::take(&mut *self.fake.launches.lock().unwrap())
    }
}

#[test]
fn forward_is_one_launch_with_a_block_for_every_query_block_and_head() {
    let run = Run::new();
    let q = run.tensor(Dtype::F16, &[3, 4, 130, 64]);
    let k = run.tensor(Dtype::F16, &[3, 2, 200, 64]);
    let v = run.tensor(Dtype::F16, &[3, 2, 200, 40]);
    let call = sdpa(&q, &k, &v).causal(Causal::LowerRight).return_lse(true);
    let output = call.backend(Backend::Efficient).run().unwrap();
    let launches = run.launches();
    let [launch] = &launches[..] else { panic!("{launches:?}") };
    let tile = forward_tile(64);
    assert_eq!(launch.entry, "forward_f16_d64");
    assert_eq!(launch.grid as usize, 130usize.div_ceil(tile.block_rows() as usize) * 4 * 3);
    assert_eq!((launch.block, launch.shared_bytes), (tile.threads, tile.shared_bytes()));
    let p: ForwardParams = parameters(launch);
    assert_eq!(
        p.q,
        TensorParam {
            address: q.address(),
            // In bytes.
            batch_stride: 2 * 4 * 130 * 64,
            head_stride: 2 * 130 * 64,
            row_stride: 2 * 64
        }
    );
    assert_eq!((p.out.address, p.out.row_stride), (output.out.address(), 2 * 40));
    let lse = TensorParam {
        address: output.lse.unwrap().address(),
        batch_stride: 4 * 4 * 130,
        head_stride: 4 * 130,
        row_stride: 4,
    };
    assert_eq!(p.lse, lse);
    assert_eq!((p.mask, p.bias), (TensorParam::default(), TensorParam::default()));
    let expected = ProblemParams {
        batch: 3,
        query_heads: 4,
        key_heads: 2,
        queries: 130,
        keys: 200,
        head_dim: 64,
        value_dim: 40,
        scale: 0.125,
        band_low: i32::MIN,
        band_high: 0,
        band_lower_right: 1,
        aligned: params::ALIGNED_Q | params::ALIGNED_K | params::ALIGNED_V | params::ALIGNED_OUT,
        bias_batch: 1,
        bias_heads: 1,
        bias_queries: 1,
        dropout_scale: 1.0,
        ..ProblemParams::default()
    };
    assert_eq!(p.problem, expected);
}

#[test]
fn backward_launches_delta_first_and_then_every_gradient() {
    let run = Run::new();
    let q = run.tensor(Dtype::Bf16, &[2, 4, 70, 96]);
    let k = run.tensor(Dtype::Bf16, &[2, 1, 129, 96]);
    let bias = run.tensor(Dtype::Bf16, &[4, 1, 129]);
    let forward = sdpa(&q, &k, &k).bias(&bias).backend(Backend::Efficient).forward().unwrap();
    run.launches();
    let gradients = forward.backward(&q).unwrap();
    let launches = run.launches();
    let tile = backward_tile(96);
    let rows = |n: u32| n.div_ceil(tile.block_rows());
    let shapes: Vec<_> = launches.iter().map(|l| (l.entry, l.grid, l.block, l.shared_bytes)).collect();
    let (threads, shared) = (tile.threads, tile.shared_bytes());
    assert_eq!(
        shapes,
        [
            ("delta_bf16", (2 * 4 * 70u32).div_ceil(tile::DELTA_ROWS), tile::DELTA_THREADS, 0),
            ("grad_key_value_bf16_d96", rows(129) * 2, threads, shared),
            ("grad_query_bf16_d96", rows(70) * 4 * 2, threads, shared),
            ("grad_bias_bf16_d96", 3 * 4, threads, shared),
        ]
    );
    let p: BackwardParams = parameters(&launches[3]);
    let dbias = gradients.dbias.unwrap();
    assert_eq!(dbias.shape(), [4, 1, 129]);
    assert_eq!(
        p.dbias,
        TensorParam { address: dbias.address(), batch_stride: 0, head_stride: 2 * 129, row_stride: 0 }
    );
    assert_eq!(
        p.bias,
        TensorParam { address: bias.address(), batch_stride: 0, head_stride: 2 * 129, row_stride: 0 }
    );
    assert_eq!((p.problem.bias_batch, p.problem.bias_heads, p.problem.bias_queries), (1, 4, 1));
    assert_eq!((p.dq.address, p.dk.address), (gradients.dq.address(), gradients.dk.address()));
    assert_ne!(p.delta.address, 0);
    assert_eq!((p.dlse, p.dsinks), (TensorParam::default(), 0));
    assert!(launches.iter().all(|l| l.parameters == launches[0].parameters));
}

#[test]
fn the_gradient_of_a_bias_with_queries_has_a_block_for_every_query_block() {
    let run = Run::new();
    let q = run.tensor(Dtype::F32, &[2, 3, 70, 64]);
    let bias = run.tensor(Dtype::F32, &[2, 1, 70, 70]);
    let launches = |bias_gradient| {
        let forward = sdpa(&q, &q, &q).bias(&bias).bias_gradient(bias_gradient).forward().unwrap();
        run.launches();
        forward.backward(&q).unwrap();
        run.launches()
    };
    let rows = 70u32.div_ceil(backward_tile(64).block_rows());
    assert_eq!(launches(true)[3].grid, 2 * rows * 2);
    assert_eq!(launches(false).len(), 3);
}

#[test]
fn outputs_follow_the_layout_of_the_inputs() {
    let run = Run::new();
    let q = run.tensor(Dtype::F16, &[2, 7, 4, 32]);
    let output = sdpa(&q, &q, &q).layout(Layout::Bshd).run().unwrap();
    assert_eq!(output.out.shape(), [2, 7, 4, 32]);
    let p: ForwardParams = parameters(&run.launches()[0]);
    assert_eq!(
        (p.out.batch_stride, p.out.head_stride, p.out.row_stride),
        (2 * 7 * 4 * 32, 2 * 32, 2 * 4 * 32)
    );
    assert_eq!((p.problem.queries, p.problem.query_heads), (7, 4));
}

#[test]
fn only_tensors_whose_rows_are_multiples_of_sixteen_bytes_are_aligned() {
    let run = Run::new();
    let bits = |q: &Tensor, k: &Tensor, v: &Tensor| {
        sdpa(q, k, v).run().unwrap();
        parameters::<ForwardParams>(&run.launches()[0]).problem.aligned
    };
    let whole = run.tensor(Dtype::F16, &[1, 2, 9, 72]);
    let all = params::ALIGNED_Q | params::ALIGNED_K | params::ALIGNED_V | params::ALIGNED_OUT;
    assert_eq!(bits(&whole, &whole, &whole), all);
    // 64 columns from the eighth on: addresses stay multiples of 16 bytes; from the fourth on they do not.
    let eighth = whole.narrow(3, 8, 64).unwrap();
    let fourth = whole.narrow(3, 4, 64).unwrap();
    assert_eq!(bits(&eighth, &fourth, &eighth), all & !params::ALIGNED_K);
    // 36 columns of 2 bytes are 72 bytes.
    let narrow = whole.narrow(3, 0, 36).unwrap();
    assert_eq!(bits(&whole, &whole, &narrow), params::ALIGNED_Q | params::ALIGNED_K);
    // A row stride of 74 elements is not a multiple, whatever the columns.
    let odd = run.tensor(Dtype::F16, &[1, 2, 9, 74]).narrow(3, 0, 64).unwrap();
    assert_eq!(bits(&eighth, &eighth, &odd), all & !params::ALIGNED_V);
    // The stride of a dimension with one entry does not count.
    let single = run.tensor(Dtype::F16, &[1, 2, 1, 72]).narrow(3, 0, 64).unwrap();
    assert_eq!(bits(&single, &eighth, &eighth), all);
}

#[test]
fn every_head_dim_takes_the_smallest_tile_that_holds_both() {
    let run = Run::new();
    for (d, dv, name) in [
        (1, 1, "d32"),
        (32, 33, "d64"),
        (65, 1, "d96"),
        (128, 97, "d128"),
        (1, 129, "d192"),
        (193, 256, "d256"),
    ] {
        let q = run.tensor(Dtype::F32, &[1, 2, d]);
        let v = run.tensor(Dtype::F32, &[1, 2, dv]);
        sdpa(&q, &q, &v).run().unwrap();
        assert_eq!(run.launches()[0].entry, format!("forward_f32_{name}"), "{d} {dv}");
    }
}

#[test]
fn masks_repeat_with_stride_zero() {
    let run = Run::new();
    let q = run.tensor(Dtype::F32, &[3, 2, 5, 8]);
    let mask = run.tensor(Dtype::U8, &[3, 1, 1, 5]);
    let options = Options { mask: Some(mask.clone()), ..Options::default() };
    sdpa(&q, &q, &q).options(options).run().unwrap();
    let p: ForwardParams = parameters(&run.launches()[0]);
    assert_eq!(
        p.mask,
        TensorParam { address: mask.address(), batch_stride: 5, head_stride: 0, row_stride: 0 }
    );
}

#[test]
fn score_options_reach_the_kernels() {
    let run = Run::new();
    let q = run.tensor(Dtype::F32, &[2, 3, 5, 8]);
    let slopes = run.tensor(Dtype::F32, &[2, 3]);
    let sinks = run.tensor(Dtype::F32, &[3]);
    let dropout = Dropout { p: 0.25, seed: 7 << 32 | 5, offset: 9 };
    let forward = sdpa(&q, &q, &q)
        .options(Options { dropout: Some(dropout), ..Options::default() })
        .causal(Causal::UpperLeft)
        .window(Some(2), None)
        .softcap(30.0)
        .alibi(&slopes)
        .sinks(&sinks)
        .key_lengths(&[5, 3])
        .forward()
        .unwrap();
    let p: ForwardParams = parameters(&run.launches()[0]);
    let problem = p.problem;
    assert_eq!((problem.band_low, problem.band_high, problem.band_lower_right), (-2, 0, 0));
    assert_eq!((problem.softcap, problem.sinks), (30.0, sinks.address()));
    let alibi = TensorParam { address: slopes.address(), batch_stride: 12, head_stride: 4, row_stride: 0 };
    assert_eq!(problem.alibi, alibi);
    assert_eq!((problem.dropout_threshold, problem.dropout_scale), (1 << 30, 4.0 / 3.0));
    assert_eq!((problem.seed, problem.offset), ([5, 7], 9));
    assert_ne!(problem.key_lengths, 0);
    let dlse = run.tensor(Dtype::F32, &[2, 3, 5]);
    let gradients = forward.backward_with(&q, Some(&dlse)).unwrap();
    let launches = run.launches();
    let last = launches.last().unwrap();
    assert_eq!((last.entry, last.grid, last.block, last.shared_bytes), ("grad_sink", 3, 256, 32));
    let p: BackwardParams = parameters(last);
    assert_eq!((p.dlse.address, p.dlse.batch_stride), (dlse.address(), 4 * 15));
    assert_eq!(p.dsinks, gradients.dsinks.unwrap().address());
}

#[test]
fn a_ragged_batch_has_offsets_and_no_batch_strides() {
    let run = Run::new();
    let q = run.tensor(Dtype::F16, &[100, 4, 64]);
    let k = run.tensor(Dtype::F16, &[300, 2, 64]);
    let call = sdpa(&q, &k, &k).ragged(&[0, 70, 70, 100], &[0, 10, 200, 300]).return_lse(true);
    let output = call.backend(Backend::Efficient).run().unwrap();
    let launches = run.launches();
    let tile = forward_tile(64);
    // The longest of three sequences has 70 queries.
    assert_eq!(launches[0].grid, 70u32.div_ceil(tile.block_rows()) * 4 * 3);
    let p: ForwardParams = parameters(&launches[0]);
    assert_eq!((p.problem.batch, p.problem.queries, p.problem.keys), (3, 70, 190));
    assert!(p.problem.query_offsets != 0 && p.problem.key_offsets != 0);
    assert_eq!((p.k.batch_stride, p.k.head_stride, p.k.row_stride), (0, 2 * 64, 2 * 2 * 64));
    let lse = output.lse.unwrap();
    assert_eq!(lse.shape(), [4, 100]);
    let param = TensorParam { address: lse.address(), batch_stride: 0, head_stride: 400, row_stride: 4 };
    assert_eq!(p.lse, param);
}
