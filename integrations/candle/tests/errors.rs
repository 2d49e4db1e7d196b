//! What a caller gets wrong is an error of candle's whose message names the argument and the numbers.

mod support;

use candle_core::{DType, ModuleT, Tensor};
use candle_nn::{VarBuilder, VarMap};
use flash_attention_candle::flash_attention::{Backend, Dropout};
use flash_attention_candle::{CausalSelfAttention, Config, Options, sdpa};
use rstest::rstest;
use support::*;

fn tensor(shape: &[usize]) -> Tensor {
    random(1, shape, DType::F32)
}

fn attention(change: impl FnOnce(&mut Options)) -> Options {
    let mut options = Options::default();
    change(&mut options);
    options
}

#[rstest]
#[case(&[1, 2, 4, 16], &[1, 2, 4, 8], "k has 8 columns, but q has 16; they must be equal")]
#[case(&[1, 3, 4, 16], &[1, 2, 4, 16], "q has 3 heads, which is not a multiple of the 2 heads of k")]
#[case(&[3, 2, 4, 16], &[2, 2, 4, 16], "k has 2 batch entries, but q has 3; they must be equal")]
#[case(&[4, 16], &[4, 16], "q has 2 dimensions; allowed are 3 [batch, seq, dim] and 4 [batch, heads, seq, dim]")]
#[case(&[1, 2, 4, 16], &[2, 4, 16], "k has 3 dimensions; allowed are 4, as q has")]
fn shapes_that_do_not_fit_name_their_sizes(#[case] q: &[usize], #[case] kv: &[usize], #[case] message: &str) {
    for device in devices() {
        let options = Options { device, ..Options::default() };
        let error = sdpa(&tensor(q), &tensor(kv), &tensor(kv), &options).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
    }
}

#[rstest]
#[case(DType::F32, DType::F16, "k is f16, but q is f32; they must have the same type")]
#[case(DType::U32, DType::U32, "q is u32; allowed are f32, f16 and bf16")]
#[case(DType::F64, DType::F64, "q is f64; allowed are f32, f16 and bf16")]
fn types_that_do_not_fit_are_named(#[case] q: DType, #[case] kv: DType, #[case] message: &str) {
    let of = |dtype| tensor(&[1, 1, 4, 8]).to_dtype(dtype).unwrap();
    let error = sdpa(&of(q), &of(kv), &of(kv), &Options::default()).unwrap_err();
    assert!(error.to_string().starts_with(message), "{error}");
}

#[rstest]
#[case(attention(|o| o.attention.scale = Some(f32::NAN)), "scale is NaN")]
#[case(attention(|o| o.mask = Some(tensor(&[4, 4]))), "mask is f32; allowed are u8 and bool")]
#[case(attention(|o| o.bias = Some(tensor(&[4, 5]))), "bias has the shape [4, 5]; it must have 4 keys")]
#[case(attention(|o| o.attention.backends = vec![Backend::Flash]), "flash cannot run this")]
#[case(
    attention(|o| o.attention.dropout = Some(Dropout { p: 1.0, seed: 0, offset: 0 })),
    "the p of dropout is 1"
)]
fn options_that_are_wrong_are_named(#[case] options: Options, #[case] message: &str) {
    let q = tensor(&[1, 1, 4, 8]);
    let error = sdpa(&q, &q, &q, &options).unwrap_err();
    assert!(error.to_string().starts_with(message), "{error}");
}

#[test]
fn a_bias_that_is_given_twice_is_an_error() {
    let q = tensor(&[1, 1, 4, 8]);
    let bias = tensor(&[4, 4]);
    let mut options = Options { bias: Some(bias.clone()), ..Options::default() };
    let device = flash_attention_candle::flash_attention::Device::cpu();
    options.attention.bias = Some(flash_attention_candle::to_attention(&bias, &device).unwrap());
    let error = sdpa(&q, &q, &q, &options).unwrap_err();
    assert!(error.to_string().starts_with("bias is given twice"), "{error}");
}

#[rstest]
#[case(10, 3, 0.0, "embed_dim is 10; it must be a positive multiple of heads, which is 3")]
#[case(0, 1, 0.0, "embed_dim is 0")]
#[case(8, 0, 0.0, "embed_dim is 8; it must be a positive multiple of heads, which is 0")]
#[case(8, 2, 1.0, "dropout is 1; it must be at least 0 and below 1")]
#[case(8, 2, -0.5, "dropout is -0.5")]
#[case(8, 2, f32::NAN, "dropout is NaN")]
fn blocks_that_cannot_be_name_their_numbers(
    #[case] embed_dim: usize,
    #[case] heads: usize,
    #[case] dropout: f32,
    #[case] message: &str,
) {
    let variables = VarMap::new();
    let builder = VarBuilder::from_varmap(&variables, DType::F32, &CPU);
    let error =
        CausalSelfAttention::new(Config { embed_dim, heads, dropout, bias: true }, builder).unwrap_err();
    assert!(error.to_string().starts_with(message), "{error}");
}

#[rstest]
#[case(&[4, 8], "x has the shape [4, 8]; it must be [batch, seq, 8]")]
#[case(&[1, 4, 6], "x has 6 columns, but the block has 8; they must be equal")]
fn inputs_that_a_block_does_not_take_name_their_shape(#[case] shape: &[usize], #[case] message: &str) {
    let variables = VarMap::new();
    let builder = VarBuilder::from_varmap(&variables, DType::F32, &CPU);
    let config = Config { embed_dim: 8, heads: 2, dropout: 0.0, bias: true };
    let block = CausalSelfAttention::new(config, builder).unwrap();
    for train in [false, true] {
        let error = block.forward_t(&tensor(shape), train).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
    }
}
