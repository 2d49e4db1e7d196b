//! What the tests share: random tensors, devices, attention written from candle's own operations, and how close is close.

// Each test file uses a part of it.
#![allow(dead_code)]

use candle_core::{D, DType, Device, Tensor, Var};
use flash_attention_candle::flash_attention::{self, Causal};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// candle's CPU.
pub const CPU: Device = Device::Cpu;

/// The devices of ours that compute for candle's CPU: the default, and one that runs the kernels, with all checks.
pub fn devices() -> [Option<flash_attention::Device>; 2] {
    let options = flash_attention::EmulatorOptions::default().checks(true);
    [None, Some(flash_attention::Device::emulator_with(options))]
}

/// Values between -1 and 1, the same for the same seed.
pub fn random(seed: u64, shape: &[usize], dtype: DType) -> Tensor {
    let mut generator = SmallRng::seed_from_u64(seed);
    let values: Vec<f32> =
        (0..shape.iter().product::<usize>()).map(|_| generator.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(values, shape, &CPU).unwrap().to_dtype(dtype).unwrap()
}

/// A variable with the same values in f64.
pub fn wide(tensor: &Tensor) -> Var {
    Var::from_tensor(&tensor.to_dtype(DType::F64).unwrap()).unwrap()
}

/// All elements as f64.
pub fn elements(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// What an element may be off, as a part of the largest expected value: the rule of the golden cases.
pub fn allowance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 1.0 / 1024.0,
        DType::BF16 => 1.0 / 128.0,
        _ => 2e-5,
    }
}

/// Fails where an element is off by more than `allowed` of the largest expected value.
#[track_caller]
pub fn assert_close(name: &str, given: &Tensor, expected: &Tensor, allowed: f64) {
    assert_eq!(given.dims(), expected.dims(), "{name}");
    let (given, expected) = (elements(given), elements(expected));
    let largest = expected.iter().fold(0f64, |largest, x| largest.max(x.abs()));
    for (i, (given, expected)) in given.iter().zip(&expected).enumerate() {
        let error = (given - expected).abs();
        // Written so that NaN fails.
        assert!(
            error <= allowed * largest,
            "{name}[{i}] is {given}, not {expected} within {}",
            allowed * largest
        );
    }
}

/// Fails where an element is not the same number.
#[track_caller]
pub fn assert_same(name: &str, given: &Tensor, expected: &Tensor) {
    assert_eq!(given.dims(), expected.dims(), "{name}");
    assert_eq!(elements(given), elements(expected), "{name}");
}

/// 1 where a query may not see a key: `[queries, keys]`.
pub fn hidden(causal: Causal, queries: usize, keys: usize) -> Tensor {
    let visible = |i: usize, j: usize| match causal {
        Causal::UpperLeft => j <= i,
        Causal::LowerRight => j + queries <= i + keys,
        _ => true,
    };
    let values: Vec<u8> = (0..queries * keys).map(|n| u8::from(!visible(n / keys, n % keys))).collect();
    Tensor::from_vec(values, (queries, keys), &CPU).unwrap()
}

/// What changes the scores and weights of [`unfused`], each broadcast to `[batch, heads, queries, keys]`.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// 1 where a query may not see a key.
    pub hidden: Option<Tensor>,
    /// Added to the scaled scores.
    pub bias: Option<Tensor>,
    /// One logit a head.
    pub sinks: Option<Tensor>,
    /// Multiplied with the weights.
    pub factors: Option<Tensor>,
}

/// Attention from candle's matmul and softmax, `[batch, heads, seq, dim]`.
pub fn unfused(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    scale: f64,
    given: &Scores,
) -> candle_core::Result<Tensor> {
    let (batch, heads, queries, _) = q.dims4()?;
    let repeated = |tensor: &Tensor| {
        let (_, key_heads, keys, columns) = tensor.dims4()?;
        let groups = heads / key_heads;
        let full = tensor.unsqueeze(2)?.broadcast_as((batch, key_heads, groups, keys, columns))?;
        full.reshape((batch, heads, keys, columns))
    };
    let (k, v) = (repeated(k)?, repeated(v)?);
    let mut scores = (q.contiguous()?.matmul(&k.t()?.contiguous()?)? * scale)?;
    if let Some(bias) = &given.bias {
        scores = scores.broadcast_add(bias)?;
    }
    if let Some(hidden) = &given.hidden {
        let never = Tensor::full(f64::NEG_INFINITY, scores.shape(), &CPU)?.to_dtype(scores.dtype())?;
        scores = hidden.broadcast_as(scores.shape())?.where_cond(&never, &scores)?;
    }
    if let Some(sinks) = &given.sinks {
        let sinks = sinks.reshape((1, heads, 1, 1))?.broadcast_as((batch, heads, queries, 1))?;
        scores = Tensor::cat(&[&scores, &sinks.contiguous()?], D::Minus1)?;
    }
    let mut weights = candle_nn::ops::softmax(&scores, D::Minus1)?.narrow(D::Minus1, 0, k.dim(2)?)?;
    if let Some(factors) = &given.factors {
        weights = weights.broadcast_mul(factors)?;
    }
    weights.contiguous()?.matmul(&v)
}
