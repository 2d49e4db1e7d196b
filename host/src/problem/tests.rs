use std::sync::Arc;
use std::sync::atomic::Ordering;

use rstest::rstest;

use super::*;
use crate::attention::sdpa;
use crate::choice::Explanation;
use crate::device::fake::Fake;
use crate::options::{Backend, Causal};

mod options;

fn zeros(dtype: Dtype, shape: &[usize]) -> Tensor {
    Tensor::zeros(&Device::cpu(), dtype, shape).unwrap()
}

fn floats(shape: &[usize]) -> Tensor {
    zeros(Dtype::F32, shape)
}

/// A tensor of any size that takes no memory.
fn endless(shape: &[usize]) -> Tensor {
    let ones = vec![1; shape.len()];
    floats(&ones).expand(shape).unwrap()
}

/// q [2, 4, 5, 8], k and v [2, 2, 6, 8].
fn three() -> [Tensor; 3] {
    [floats(&[2, 4, 5, 8]), floats(&[2, 2, 6, 8]), floats(&[2, 2, 6, 8])]
}

fn refused(tensors: [Tensor; 3], options: Options) -> String {
    let [q, k, v] = tensors;
    Problem::new(&q, &k, &v, &options).unwrap_err().to_string()
}

fn with(change: impl FnOnce(&mut Options)) -> Options {
    let mut options = Options::default();
    change(&mut options);
    options
}

#[rstest]
#[case([floats(&[4, 8]), floats(&[6, 8]), floats(&[6, 8])], "q has 2 dimensions; allowed are 3 [batch, seq, dim] and 4 [batch, heads, seq, dim]")]
#[case([floats(&[1, 4, 5, 8]), floats(&[1, 6, 8]), floats(&[1, 2, 6, 8])], "k has 3 dimensions; allowed are 4, as q has")]
#[case([zeros(Dtype::U8, &[1, 4, 8]), floats(&[1, 6, 8]), floats(&[1, 6, 8])], "q is u8; allowed are f32, f16 and bf16")]
#[case([floats(&[1, 4, 8]), zeros(Dtype::F16, &[1, 6, 8]), floats(&[1, 6, 8])], "k is f16, but q is f32; they must have the same type")]
#[case([floats(&[1, 4, 8]), floats(&[1, 6, 8]).to_device(&Device::emulator()).unwrap(), floats(&[1, 6, 8])], "k is on emulator, but q is on cpu; they must be on the same device")]
#[case([floats(&[1, 4, 0]), floats(&[1, 6, 0]), floats(&[1, 6, 8])], "q has the shape [1, 4, 0], of which dimension 2 is 0; only batch, queries and keys may be")]
#[case([floats(&[1, 4, 5, 8]), floats(&[1, 0, 6, 8]), floats(&[1, 0, 6, 8])], "k has the shape [1, 0, 6, 8], of which dimension 1 is 0; only batch, queries and keys may be")]
#[case([floats(&[1, 8, 4]).transpose(1, 2).unwrap(), floats(&[1, 6, 8]), floats(&[1, 6, 8])], "q has a stride of 4 elements in its last dimension; it must be 1 (contiguous() makes a copy that is)")]
#[case([floats(&[3, 4, 8]), floats(&[2, 6, 8]), floats(&[1, 6, 8])], "k has 2 batch entries, but q has 3; they must be equal, or one of them 1")]
#[case([floats(&[1, 4, 8]), floats(&[2, 6, 8]), floats(&[3, 6, 8])], "v has 3 batch entries, but k has 2; they must be equal, or one of them 1")]
#[case([floats(&[0, 4, 8]), floats(&[2, 6, 8]), floats(&[2, 6, 8])], "k has 2 batch entries, but q has 0; they must be equal, or one of them 1")]
#[case([floats(&[1, 4, 8]), floats(&[1, 6, 7]), floats(&[1, 6, 8])], "k has 7 columns, but q has 8; they must be equal")]
#[case([floats(&[1, 4, 5, 8]), floats(&[1, 2, 6, 8]), floats(&[1, 3, 6, 8])], "v has 3 heads, but k has 2; they must be equal, or one of them 1")]
#[case([floats(&[1, 4, 8]), floats(&[1, 6, 8]), floats(&[1, 5, 8])], "v has 5 keys, but k has 6; they must be equal")]
#[case([floats(&[1, 4, 5, 8]), floats(&[1, 3, 6, 8]), floats(&[1, 3, 6, 8])], "q has 4 heads, which is not a multiple of the 3 heads of k")]
#[case([floats(&[1, 2, 5, 8]), floats(&[1, 4, 6, 8]), floats(&[1, 4, 6, 8])], "q has 2 heads, which is not a multiple of the 4 heads of k")]
#[case([endless(&[1, (1 << 30) + 1, 1]), floats(&[1, 6, 1]), floats(&[1, 6, 1])], "q has 1073741825 queries; at most 1073741824 are allowed")]
#[case([floats(&[1, 4, 1]), endless(&[1, (1 << 30) + 1, 1]), endless(&[1, (1 << 30) + 1, 1])], "k has 1073741825 keys; at most 1073741824 are allowed")]
#[case([endless(&[1 << 40, 1 << 22, 1]), floats(&[1, 6, 1]), floats(&[1, 6, 1])], "q has 4611686018427387904 elements; at most 2305843009213693951 are allowed")]
#[case([endless(&[1 << 40, 1 << 10, 1]), endless(&[1 << 40, 1, 1]), floats(&[1, 1, 1 << 12]).expand(&[1 << 40, 1, 1 << 12]).unwrap()], "the output has 4611686018427387904 elements; at most 2305843009213693951 are allowed")]
fn tensors_that_do_not_fit_are_refused_in_words(#[case] tensors: [Tensor; 3], #[case] message: &str) {
    assert_eq!(refused(tensors, Options::default()), message);
}

#[rstest]
#[case(with(|o| o.scale = Some(0.0)), "scale is 0; it must be finite and not 0")]
#[case(with(|o| o.scale = Some(f32::NAN)), "scale is NaN; it must be finite and not 0")]
#[case(with(|o| o.scale = Some(f32::NEG_INFINITY)), "scale is -inf; it must be finite and not 0")]
#[case(with(|o| o.mask = Some(floats(&[5, 6]))), "mask is f32; allowed are u8 and bool, where 0 means 'may not attend' (an additive mask is a bias)")]
#[case(with(|o| o.mask = Some(zeros(Dtype::U8, &[5, 1]))), "mask has the shape [5, 1]; it must have 6 keys in its last dimension and each size before that must be 1 or that of the scores [2, 4, 5, 6] [batch, heads, queries, keys]")]
#[case(with(|o| o.mask = Some(zeros(Dtype::U8, &[2, 2, 5, 6]))), "mask has the shape [2, 2, 5, 6]; it must have 6 keys in its last dimension and each size before that must be 1 or that of the scores [2, 4, 5, 6] [batch, heads, queries, keys]")]
#[case(with(|o| o.mask = Some(zeros(Dtype::U8, &[]))), "mask has 0 dimensions; allowed are 1 to 4, of [batch, heads, queries, keys] from the right")]
#[case(with(|o| o.mask = Some(zeros(Dtype::U8, &[6, 5]).transpose(0, 1).unwrap())), "mask has a stride of 5 elements in its last dimension; it must be 1 (contiguous() makes a copy that is)")]
#[case(with(|o| o.bias = Some(zeros(Dtype::F16, &[5, 6]))), "bias is f16, but q is f32; they must have the same type")]
#[case(with(|o| o.bias = Some(floats(&[3, 1, 1, 6]))), "bias has the shape [3, 1, 1, 6]; it must have 6 keys in its last dimension and each size before that must be 1 or that of the scores [2, 4, 5, 6] [batch, heads, queries, keys]")]
#[case(with(|o| o.bias = Some(floats(&[1, 1, 2, 4, 5, 6]))), "bias has 6 dimensions; allowed are 1 to 4, of [batch, heads, queries, keys] from the right")]
#[case(with(|o| o.bias = Some(floats(&[5, 6]).to_device(&Device::emulator()).unwrap())), "bias is on emulator, but q is on cpu; they must be on the same device")]
#[case(with(|o| o.bias = Some(floats(&[0, 1, 5, 6]))), "bias has the shape [0, 1, 5, 6]; it must have 6 keys in its last dimension and each size before that must be 1 or that of the scores [2, 4, 5, 6] [batch, heads, queries, keys]")]
fn options_that_do_not_fit_are_refused_in_words(#[case] options: Options, #[case] message: &str) {
    assert_eq!(refused(three(), options), message);
}

#[test]
fn two_emulators_are_told_apart_in_words() {
    let on = |device: &Device| floats(&[1, 4, 8]).to_device(device).unwrap();
    let (one, two) = (Device::emulator(), Device::emulator());
    let error = Problem::new(&on(&one), &on(&one), &on(&two), &Options::default()).unwrap_err();
    let message = "v is on another emulator, but q is on one emulator; they must be on the same device";
    assert_eq!(error.to_string(), message);
}

#[test]
fn a_wrong_output_gradient_is_refused_in_words() {
    let [q, k, v] = three();
    let forward = sdpa(&q, &k, &v).forward().unwrap();
    let message = |dout: Tensor| forward.backward(&dout).unwrap_err().to_string();
    assert_eq!(message(floats(&[2, 4, 5, 7])), "dout has the shape [2, 4, 5, 7]; it must be [2, 4, 5, 8]");
    assert_eq!(
        message(zeros(Dtype::Bf16, &[2, 4, 5, 8])),
        "dout is bf16, but q is f32; they must have the same type"
    );
    assert_eq!(
        message(floats(&[1]).expand(&[2, 4, 5, 8]).unwrap()),
        "dout has a stride of 0 elements in its last dimension; it must be 1 (contiguous() makes a copy that is)"
    );
    assert_eq!(
        message(floats(&[2, 4, 5, 8]).to_device(&Device::emulator()).unwrap()),
        "dout is on emulator, but q is on cpu; they must be on the same device"
    );
}

#[test]
fn layouts_and_ranks_show_the_same_problem() {
    let shapes = |q: Tensor, k: Tensor, layout| {
        let problem = Problem::new(&q, &k, &k, &with(|o| o.layout = layout)).unwrap();
        (problem.q.shape().to_vec(), problem.sizes.keys, problem.out_shape(), problem.lse_shape())
    };
    assert_eq!(
        shapes(floats(&[2, 4, 5, 8]), floats(&[2, 2, 6, 8]), Layout::Bhsd),
        (vec![2, 4, 5, 8], 6, vec![2, 4, 5, 8], vec![2, 4, 5])
    );
    assert_eq!(
        shapes(floats(&[2, 5, 4, 8]), floats(&[2, 6, 2, 8]), Layout::Bshd),
        (vec![2, 4, 5, 8], 6, vec![2, 5, 4, 8], vec![2, 4, 5])
    );
    for layout in [Layout::Bhsd, Layout::Bshd] {
        assert_eq!(
            shapes(floats(&[2, 5, 8]), floats(&[2, 6, 8]), layout),
            (vec![2, 1, 5, 8], 6, vec![2, 5, 8], vec![2, 5])
        );
    }
}

#[rstest]
#[case(&[6], [1, 1, 1, 6])]
#[case(&[5, 6], [1, 1, 5, 6])]
#[case(&[4, 1, 6], [1, 4, 1, 6])]
#[case(&[2, 1, 1, 6], [2, 1, 1, 6])]
fn masks_are_filled_up_from_the_left(#[case] shape: &[usize], #[case] full: [usize; 4]) {
    let [q, k, v] = three();
    let options = with(|o| o.mask = Some(zeros(Dtype::U8, shape)));
    assert_eq!(shape4(Problem::new(&q, &k, &v, &options).unwrap().mask.as_ref().unwrap()), full);
}

#[test]
fn a_mask_of_rank_three_belongs_to_the_batch_where_there_are_no_heads() {
    let (q, k) = (floats(&[2, 5, 8]), floats(&[2, 6, 8]));
    let options = with(|o| o.mask = Some(zeros(Dtype::U8, &[2, 5, 6])));
    assert_eq!(shape4(Problem::new(&q, &k, &k, &options).unwrap().mask.as_ref().unwrap()), [2, 1, 5, 6]);
}

#[test]
fn the_default_scale_is_one_over_the_root_of_the_head_dim() {
    let q = floats(&[1, 4, 64]);
    assert_eq!(Problem::new(&q, &q, &q, &Options::default()).unwrap().scale, 0.125);
    assert_eq!(Problem::new(&q, &q, &q, &with(|o| o.scale = Some(-2.0))).unwrap().scale, -2.0);
}

#[test]
fn nothing_is_allocated_or_launched_for_a_problem_that_is_refused() {
    let fake = Arc::new(Fake::new());
    let device = Device::new(fake.clone());
    let q = floats(&[1, 4, 8]).to_device(&device).unwrap();
    let wide = floats(&[1, 4, 257]).to_device(&device).unwrap();
    let before = fake.allocations.load(Ordering::Relaxed);
    assert!(sdpa(&q, &q, &q).scale(0.0).run().is_err());
    assert!(sdpa(&wide, &wide, &wide).backend(Backend::Efficient).run().is_err());
    assert!(sdpa(&q, &q, &q).return_weights(true).backend(Backend::Efficient).run().is_err());
    assert_eq!(fake.allocations.load(Ordering::Relaxed), before);
    let forward = sdpa(&q, &q, &q).forward().unwrap();
    let before = fake.allocations.load(Ordering::Relaxed);
    assert!(forward.backward(&wide).is_err());
    assert_eq!(fake.allocations.load(Ordering::Relaxed), before);
    assert_eq!(fake.launches.lock().unwrap().len(), 1);
    drop((q, wide, forward));
    assert_eq!(fake.live.load(Ordering::Relaxed), 0);
}

#[test]
fn every_backend_says_why_it_cannot() {
    let q = floats(&[1, 4, 320]);
    let on_cpu = Problem::new(&q, &q, &q, &Options::default()).unwrap();
    assert_eq!(
        Explanation::new(&on_cpu).to_string(),
        "flash: its kernels run on CUDA devices and the emulator, and the tensors are on cpu; \
         head dim 320 is above 256; value head dim 320 is above 256; \
         tensor cores multiply f16 and bf16, and the tensors are f32\n\
         efficient: its kernels run on CUDA devices and the emulator, and the tensors are on cpu; \
         head dim 320 is above 256; value head dim 320 is above 256\n\
         math: can"
    );
    assert_eq!(Explanation::new(&on_cpu).choose(&[Backend::Auto]), Ok(Backend::Math));
    let q = q.to_device(&Device::new(Arc::new(Fake::new()))).unwrap();
    let on_device = Problem::new(&q, &q, &q, &with(|o| o.return_weights = true)).unwrap();
    let explanation = Explanation::new(&on_device);
    assert_eq!(
        explanation.choose(&[Backend::Efficient]).unwrap_err().to_string(),
        "efficient cannot run this: head dim 320 is above 256; value head dim 320 is above 256; \
         attention weights are asked for, and only Math returns them"
    );
    assert_eq!(
        explanation.choose(&[Backend::Flash, Backend::Efficient, Backend::Flash]).unwrap_err().to_string(),
        "none of flash, efficient can run this: flash: head dim 320 is above 256; \
         value head dim 320 is above 256; attention weights are asked for, and only Math returns them; \
         tensor cores multiply f16 and bf16, and the tensors are f32. \
         efficient: head dim 320 is above 256; value head dim 320 is above 256; \
         attention weights are asked for, and only Math returns them"
    );
    assert_eq!(explanation.choose(&[]), Ok(Backend::Math));
    assert_eq!(explanation.choose(&[Backend::Flash, Backend::Math]), Ok(Backend::Math));
}

#[test]
fn grids_that_cannot_be_launched_are_refused_with_their_size() {
    let device = Device::new(Arc::new(Fake::new()));
    let one = floats(&[1, 1, 1]).to_device(&device).unwrap();
    let q = one.expand(&[1 << 31, 1, 1]).unwrap();
    let problem = Problem::new(&q, &q, &q, &with(|o| o.causal = Causal::UpperLeft)).unwrap();
    assert_eq!(
        Explanation::new(&problem).verdicts[1].reasons,
        ["the forward kernel would need 2147483648 blocks, and at most 2147483647 can be launched"]
    );
}
