//! Everything that a caller can get wrong is said in words, with the argument and the numbers, before anything runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flash_attention::{
    Backend, Causal, Device, Dropout, Dtype, Error, Layout, Options, Ragged, Tensor, sdpa,
};
use flash_attention_conformance::devices::devices;
use rstest::rstest;

/// A call: q [2, 4, 5, 8], k [2, 2, 6, 8], v [2, 2, 6, 7], dout [2, 4, 5, 7].
struct Call {
    device: Device,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dout: Tensor,
    options: Options,
}

impl Call {
    fn new(device: &Device) -> Call {
        let floats = |shape: &[usize]| Tensor::zeros(device, Dtype::F32, shape).unwrap();
        Call {
            device: device.clone(),
            q: floats(&[2, 4, 5, 8]),
            k: floats(&[2, 2, 6, 8]),
            v: floats(&[2, 2, 6, 7]),
            dout: floats(&[2, 4, 5, 7]),
            options: Options::default(),
        }
    }

    fn of(&self, dtype: Dtype, shape: &[usize]) -> Tensor {
        Tensor::zeros(&self.device, dtype, shape).unwrap()
    }

    fn floats(&self, shape: &[usize]) -> Tensor {
        self.of(Dtype::F32, shape)
    }

    /// A tensor of any size that takes no memory.
    fn endless(&self, shape: &[usize]) -> Tensor {
        self.floats(&vec![1; shape.len()]).expand(shape).unwrap()
    }

    /// Forward and backward, and how often anything was heard from a kernel.
    fn run(mut self, heard: &Arc<AtomicU64>) -> Result<(), Error> {
        let heard = heard.clone();
        self.options.progress =
            Some(flash_attention::OnProgress::new(move |_| _ = heard.fetch_add(1, Ordering::Relaxed)));
        let forward = sdpa(&self.q, &self.k, &self.v).options(self.options).forward()?;
        forward.backward(&self.dout).map(|_| ())
    }
}

/// The wrong call fails on every device with words that hold all of `words`, and nothing is launched before.
fn refused(change: fn(&mut Call), words: &[&str]) {
    for device in devices().iter().map(|device| match device.take_stats() {
        // An emulator of its own counts nothing but this call.
        Some(_) => Device::emulator(),
        None => device.clone(),
    }) {
        let mut call = Call::new(&device);
        change(&mut call);
        let heard = Arc::new(AtomicU64::new(0));
        let message = call.run(&heard).expect_err("it ran").to_string();
        for word in words {
            assert!(message.contains(word), "on {device}: '{word}' is not in: {message}");
        }
        for internal in ["Problem", "Option", "usize", "panicked", "unwrap"] {
            assert!(!message.contains(internal), "on {device}: '{internal}' is in: {message}");
        }
        assert_eq!(heard.load(Ordering::Relaxed), 0, "on {device} something ran before: {message}");
        assert!(device.take_stats().is_none_or(|counted| counted.is_empty()), "on {device}: {message}");
    }
}

#[test]
fn the_call_that_the_others_change_is_right() {
    for device in devices() {
        Call::new(device).run(&Arc::default()).unwrap();
    }
}

#[rstest]
// Ranks.
#[case::q_of_rank_2(|c: &mut Call| c.q = c.floats(&[5, 8]), &["q has 2 dimensions", "3", "4"])]
#[case::q_of_rank_5(|c: &mut Call| c.q = c.floats(&[1, 2, 4, 5, 8]), &["q has 5 dimensions", "3", "4"])]
#[case::k_of_another_rank(|c: &mut Call| c.k = c.floats(&[2, 6, 8]), &["k has 3 dimensions", "4"])]
#[case::v_of_another_rank(|c: &mut Call| c.v = c.floats(&[2, 6, 7]), &["v has 3 dimensions", "4"])]
// Storage types.
#[case::q_of_bytes(|c: &mut Call| c.q = c.of(Dtype::U8, &[2, 4, 5, 8]), &["q is u8", "f32, f16 and bf16"])]
#[case::q_of_f64(|c: &mut Call| c.q = c.of(Dtype::F64, &[2, 4, 5, 8]), &["q is f64", "f32, f16 and bf16"])]
#[case::k_of_another_type(|c: &mut Call| c.k = c.of(Dtype::F16, &[2, 2, 6, 8]), &["k is f16", "q is f32"])]
#[case::v_of_another_type(|c: &mut Call| c.v = c.of(Dtype::Bf16, &[2, 2, 6, 7]), &["v is bf16", "q is f32"])]
// Devices.
#[case::k_elsewhere(|c: &mut Call| c.k = c.k.to_device(&Device::emulator()).unwrap(), &["k is on", "emulator", "q is on"])]
// Sizes.
#[case::batch_of_k(|c: &mut Call| c.k = c.floats(&[3, 2, 6, 8]), &["k has 3 batch entries", "q has 2"])]
#[case::batch_of_v(|c: &mut Call| c.v = c.floats(&[3, 2, 6, 7]), &["v has 3 batch entries", "q has 2", "or one of them 1"])]
#[case::columns(|c: &mut Call| c.k = c.floats(&[2, 2, 6, 9]), &["k has 9 columns", "q has 8"])]
#[case::heads_of_v(|c: &mut Call| c.v = c.floats(&[2, 4, 6, 7]), &["v has 4 heads", "k has 2"])]
#[case::keys_of_v(|c: &mut Call| c.v = c.floats(&[2, 2, 5, 7]), &["v has 5 keys", "k has 6"])]
#[case::ratio_of_heads(
    |c: &mut Call| (c.k, c.v) = (c.floats(&[2, 3, 6, 8]), c.floats(&[2, 3, 6, 7])),
    &["q has 4 heads", "multiple", "3 heads of k"],
)]
#[case::more_key_heads_than_heads(
    |c: &mut Call| (c.k, c.v) = (c.floats(&[2, 8, 6, 8]), c.floats(&[2, 8, 6, 7])),
    &["q has 4 heads", "8 heads of k"],
)]
#[case::the_other_layout(|c: &mut Call| c.options.layout = Layout::Bshd, &["q has 5 heads", "6 heads of k"])]
#[case::no_heads(|c: &mut Call| c.q = c.floats(&[2, 0, 5, 8]), &["q", "[2, 0, 5, 8]", "dimension 1 is 0"])]
#[case::no_key_heads(
    |c: &mut Call| (c.k, c.v) = (c.floats(&[2, 0, 6, 8]), c.floats(&[2, 0, 6, 7])),
    &["k", "[2, 0, 6, 8]", "dimension 1 is 0"],
)]
#[case::no_columns_of_v(|c: &mut Call| c.v = c.floats(&[2, 2, 6, 0]), &["v", "[2, 2, 6, 0]", "dimension 3 is 0"])]
#[case::too_many_queries(
    |c: &mut Call| (c.q, c.k) = (c.endless(&[2, 4, (1 << 30) + 1, 1]), c.floats(&[2, 2, 6, 1])),
    &["q has 1073741825 queries", "1073741824"],
)]
#[case::too_many_elements(|c: &mut Call| c.q = c.endless(&[1 << 20, 1 << 20, 1 << 22, 1]), &["q has 4611686018427387904 elements"])]
// Strides.
#[case::q_across(
    |c: &mut Call| c.q = c.floats(&[2, 4, 8, 5]).transpose(2, 3).unwrap(),
    &["q has a stride of 5 elements", "last dimension", "must be 1"],
)]
#[case::v_repeated(
    |c: &mut Call| c.v = c.floats(&[2, 2, 6, 1]).expand(&[2, 2, 6, 7]).unwrap(),
    &["v has a stride of 0 elements", "must be 1"],
)]
// Scale.
#[case::scale_0(|c: &mut Call| c.options.scale = Some(0.0), &["scale is 0", "finite and not 0"])]
#[case::scale_nan(|c: &mut Call| c.options.scale = Some(f32::NAN), &["scale is NaN", "finite and not 0"])]
#[case::scale_infinite(|c: &mut Call| c.options.scale = Some(f32::INFINITY), &["scale is inf", "finite and not 0"])]
// The mask.
#[case::mask_of_floats(|c: &mut Call| c.options.mask = Some(c.floats(&[5, 6])), &["mask is f32", "u8 and bool"])]
#[case::mask_keys(|c: &mut Call| c.options.mask = Some(c.of(Dtype::U8, &[5, 7])), &["mask", "[5, 7]", "6 keys", "[2, 4, 5, 6]"])]
#[case::mask_repeated_keys(|c: &mut Call| c.options.mask = Some(c.of(Dtype::U8, &[5, 1])), &["mask", "[5, 1]", "6 keys"])]
#[case::mask_of_key_heads(
    |c: &mut Call| c.options.mask = Some(c.of(Dtype::U8, &[2, 2, 5, 6])),
    &["mask", "[2, 2, 5, 6]", "[2, 4, 5, 6]"],
)]
#[case::mask_of_rank_5(|c: &mut Call| c.options.mask = Some(c.of(Dtype::U8, &[1, 1, 1, 1, 6])), &["mask has 5 dimensions", "1 to 4"])]
#[case::mask_empty(|c: &mut Call| c.options.mask = Some(c.of(Dtype::U8, &[0, 6])), &["mask", "[0, 6]", "[2, 4, 5, 6]"])]
#[case::mask_across(
    |c: &mut Call| c.options.mask = Some(c.of(Dtype::U8, &[6, 5]).transpose(0, 1).unwrap()),
    &["mask has a stride of 5 elements", "must be 1"],
)]
#[case::mask_elsewhere(
    |c: &mut Call| c.options.mask = Some(c.of(Dtype::U8, &[6]).to_device(&Device::emulator()).unwrap()),
    &["mask is on", "emulator", "q is on"],
)]
// The bias.
#[case::bias_of_another_type(|c: &mut Call| c.options.bias = Some(c.of(Dtype::F16, &[5, 6])), &["bias is f16", "q is f32"])]
#[case::bias_queries(
    |c: &mut Call| c.options.bias = Some(c.floats(&[4, 6, 6])),
    &["bias", "[4, 6, 6]", "[2, 4, 5, 6]"],
)]
#[case::bias_of_rank_0(|c: &mut Call| c.options.bias = Some(c.floats(&[])), &["bias has 0 dimensions", "1 to 4"])]
// Backends.
#[case::flash(|c: &mut Call| c.options.backends = vec![Backend::Flash], &["flash cannot run this", "tensor cores multiply f16 and bf16", "are f32"])]
#[case::flash_of_unaligned_rows(
    |c: &mut Call| {
        c.q = c.of(Dtype::F16, &[2, 4, 5, 20]);
        c.k = c.of(Dtype::F16, &[2, 2, 6, 24]).narrow(3, 0, 20).unwrap();
        c.v = c.of(Dtype::F16, &[2, 2, 6, 8]);
        c.options.backends = vec![Backend::Flash];
    },
    &["flash cannot run this", "q has rows of 40 bytes", "k has rows of 40 bytes", "multiples of 16"],
)]
#[case::wide_heads(
    |c: &mut Call| {
        (c.q, c.k) = (c.floats(&[2, 4, 5, 257]), c.floats(&[2, 2, 6, 257]));
        c.options.backends = vec![Backend::Efficient];
    },
    &["efficient cannot run this", "head dim 257", "256"],
)]
#[case::wide_values(
    |c: &mut Call| {
        c.v = c.floats(&[2, 2, 6, 300]);
        c.options.backends = vec![Backend::Efficient];
    },
    &["efficient cannot run this", "value head dim 300", "256"],
)]
#[case::weights_of_efficient(
    |c: &mut Call| {
        c.options.return_weights = true;
        c.options.backends = vec![Backend::Efficient];
    },
    &["efficient cannot run this", "weights", "Math"],
)]
fn a_wrong_call_is_refused_in_words(#[case] change: fn(&mut Call), #[case] words: &[&str]) {
    refused(change, words);
}

/// The call as a ragged batch: sequences of 2 and 3 queries, 4 and 2 keys.
fn ragged(c: &mut Call, query_offsets: &[usize], key_offsets: &[usize]) {
    (c.q, c.k, c.v) = (c.floats(&[5, 4, 8]), c.floats(&[6, 2, 8]), c.floats(&[6, 2, 7]));
    let (query_offsets, key_offsets) = (query_offsets.into(), key_offsets.into());
    c.options.ragged = Some(Ragged { query_offsets, key_offsets });
}

#[rstest]
#[case::softcap_0(|c: &mut Call| c.options.softcap = Some(0.0), &["softcap", "0", "finite and above 0"])]
#[case::softcap_negative(|c: &mut Call| c.options.softcap = Some(-2.5), &["softcap", "-2.5", "above 0"])]
#[case::softcap_nan(|c: &mut Call| c.options.softcap = Some(f32::NAN), &["softcap", "NaN", "finite"])]
#[case::softcap_infinite(|c: &mut Call| c.options.softcap = Some(f32::INFINITY), &["softcap", "inf", "finite"])]
#[case::slopes_of_key_heads(|c: &mut Call| c.options.alibi = Some(c.floats(&[2])), &["alibi", "[2]", "[4]"])]
#[case::slopes_of_another_batch(|c: &mut Call| c.options.alibi = Some(c.floats(&[3, 4])), &["alibi", "[3, 4]", "[2, 4]"])]
#[case::slopes_of_rank_3(|c: &mut Call| c.options.alibi = Some(c.floats(&[2, 4, 1])), &["alibi has 3 dimensions"])]
#[case::slopes_of_f16(|c: &mut Call| c.options.alibi = Some(c.of(Dtype::F16, &[4])), &["alibi is f16", "f32"])]
#[case::slopes_elsewhere(
    |c: &mut Call| c.options.alibi = Some(c.floats(&[4]).to_device(&Device::emulator()).unwrap()),
    &["alibi is on", "emulator", "q is on"],
)]
#[case::sinks_of_key_heads(|c: &mut Call| c.options.sinks = Some(c.floats(&[2])), &["sinks", "[2]", "[4]"])]
#[case::sinks_of_bf16(|c: &mut Call| c.options.sinks = Some(c.of(Dtype::Bf16, &[4])), &["sinks is bf16", "f32"])]
#[case::one_key_length(|c: &mut Call| c.options.key_lengths = Some(vec![3]), &["key_lengths", "1", "2, the batch entries"])]
#[case::a_long_key_length(|c: &mut Call| c.options.key_lengths = Some(vec![6, 7]), &["key_lengths[1] is 7", "6"])]
#[case::dropout_of_all(
    |c: &mut Call| c.options.dropout = Some(Dropout { p: 1.0, seed: 0, offset: 0 }),
    &["dropout", "1", "at least 0 and below 1"],
)]
#[case::dropout_of_less_than_nothing(
    |c: &mut Call| c.options.dropout = Some(Dropout { p: -0.25, seed: 0, offset: 0 }),
    &["dropout", "-0.25", "at least 0 and below 1"],
)]
#[case::dropout_nan(
    |c: &mut Call| c.options.dropout = Some(Dropout { p: f32::NAN, seed: 0, offset: 0 }),
    &["dropout", "NaN", "at least 0 and below 1"],
)]
#[case::offsets_that_start_late(|c: &mut Call| ragged(c, &[1, 2, 5], &[0, 4, 6]), &["query_offsets[0] is 1", "0"])]
#[case::offsets_that_decrease(|c: &mut Call| ragged(c, &[0, 4, 3, 5], &[0, 2, 4, 6]), &["query_offsets[2] is 3", "4"])]
#[case::offsets_that_overrun(|c: &mut Call| ragged(c, &[0, 2, 5], &[0, 4, 7]), &["key_offsets[2] is 7", "6, the rows of k"])]
#[case::offsets_that_end_early(|c: &mut Call| ragged(c, &[0, 2, 4], &[0, 4, 6]), &["query_offsets[2] is 4", "5, the rows of q"])]
#[case::no_offsets(|c: &mut Call| ragged(c, &[], &[0, 4, 6]), &["query_offsets", "0", "at least 1"])]
#[case::offsets_of_another_batch(|c: &mut Call| ragged(c, &[0, 2, 5], &[0, 6]), &["key_offsets is 2", "3"])]
#[case::offsets_of_a_dense_batch(
    |c: &mut Call| {
        let options = Ragged { query_offsets: vec![0, 2, 5], key_offsets: vec![0, 4, 6] };
        c.options.ragged = Some(options);
    },
    &["q has 4 dimensions", "3 [total, heads, dim]"],
)]
#[case::lengths_of_a_ragged_batch(
    |c: &mut Call| {
        ragged(c, &[0, 2, 5], &[0, 4, 6]);
        c.options.key_lengths = Some(vec![4, 2]);
    },
    &["key_lengths", "ragged"],
)]
#[case::mask_of_packed_rows(
    |c: &mut Call| {
        ragged(c, &[0, 2, 5], &[0, 4, 6]);
        c.options.mask = Some(c.of(Dtype::U8, &[5, 6]));
    },
    &["mask", "[5, 6]", "4 keys"],
)]
fn a_wrong_option_is_refused_in_words(#[case] change: fn(&mut Call), #[case] words: &[&str]) {
    refused(change, words);
}

#[rstest]
#[case::shape(Dtype::F32, &[2, 4, 6], &["dlse", "[2, 4, 6]", "[2, 4, 5]"])]
#[case::rank(Dtype::F32, &[2, 4, 5, 1], &["dlse", "[2, 4, 5, 1]", "[2, 4, 5]"])]
#[case::dtype(Dtype::F16, &[2, 4, 5], &["dlse is f16", "f32"])]
fn a_wrong_gradient_of_the_log_sum_exp_is_refused_in_words(
    #[case] dtype: Dtype,
    #[case] shape: &[usize],
    #[case] words: &[&str],
) {
    for device in devices() {
        let call = Call::new(device);
        let forward = sdpa(&call.q, &call.k, &call.v).forward().unwrap();
        let message =
            forward.backward_with(&call.dout, Some(&call.of(dtype, shape))).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "on {device}: '{word}' is not in: {message}");
        }
    }
}

#[rstest]
#[case::shape(|c: &mut Call| c.dout = c.floats(&[2, 4, 5, 8]), &["dout", "[2, 4, 5, 8]", "[2, 4, 5, 7]"])]
#[case::rank(|c: &mut Call| c.dout = c.floats(&[2, 5, 7]), &["dout", "[2, 5, 7]", "[2, 4, 5, 7]"])]
#[case::dtype(|c: &mut Call| c.dout = c.of(Dtype::F16, &[2, 4, 5, 7]), &["dout is f16", "q is f32"])]
#[case::elsewhere(|c: &mut Call| c.dout = c.dout.to_device(&Device::emulator()).unwrap(), &["dout is on", "emulator", "q is on"])]
#[case::across(
    |c: &mut Call| c.dout = c.floats(&[2, 4, 7, 5]).transpose(2, 3).unwrap(),
    &["dout has a stride of 5 elements", "must be 1"],
)]
fn a_wrong_gradient_of_the_output_is_refused_in_words(#[case] change: fn(&mut Call), #[case] words: &[&str]) {
    for device in devices() {
        let device = if device.take_stats().is_some() { Device::emulator() } else { device.clone() };
        let mut call = Call::new(&device);
        change(&mut call);
        let forward = sdpa(&call.q, &call.k, &call.v).causal(Causal::UpperLeft).forward().unwrap();
        device.take_stats();
        let message = forward.backward(&call.dout).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "on {device}: '{word}' is not in: {message}");
        }
        assert!(device.take_stats().is_none_or(|counted| counted.is_empty()), "on {device}: {message}");
    }
}

#[rstest]
#[case(Device::parse("tpu"), &["tpu", "auto, cuda, cuda:N, emulator and cpu"])]
#[case(Device::parse("cuda:-1"), &["cuda:-1"])]
#[case(Device::cuda(4096), &["cuda:4096 is not available"])]
fn a_device_that_is_not_there_is_refused_in_words(
    #[case] device: flash_attention::Result<Device>,
    #[case] words: &[&str],
) {
    let message = device.unwrap_err().to_string();
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
}

#[test]
fn math_runs_on_every_device_where_no_other_can() {
    for device in devices() {
        let call = Call::new(device);
        let output = sdpa(&call.q, &call.k, &call.v).return_weights(true).run().unwrap();
        assert_eq!((output.backend, output.out.device()), (Backend::Math, device));
        assert_eq!(output.weights.unwrap().device(), device);
    }
}

#[test]
fn launches_that_no_grid_holds_are_refused_in_words() {
    let device = Device::emulator();
    // 2^31 query blocks, of one query each: the inputs take no memory, and the output must not be allocated.
    let q =
        Tensor::zeros(&device, Dtype::F32, &[1, 1, 1, 1]).unwrap().expand(&[1 << 16, 1 << 15, 1, 1]).unwrap();
    let k = Tensor::zeros(&device, Dtype::F32, &[1, 1, 1, 1]).unwrap().expand(&[1 << 16, 1, 1, 1]).unwrap();
    let error = sdpa(&q, &k, &k).backend(Backend::Efficient).run().unwrap_err().to_string();
    for word in ["efficient", "2147483648 blocks", "2147483647"] {
        assert!(error.contains(word), "'{word}' is not in: {error}");
    }
    assert!(device.take_stats().unwrap().is_empty());
}
