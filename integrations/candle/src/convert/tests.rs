use candle_core::{DType, IndexOp};

use super::*;

const CPU: candle_core::Device = candle_core::Device::Cpu;

fn counting(shape: &[usize]) -> Tensor {
    Tensor::arange(0f32, shape.iter().product::<usize>() as f32, &CPU).unwrap().reshape(shape).unwrap()
}

/// What candle shows, row-major.
fn elements(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn every_view_keeps_its_shape_and_elements() {
    let full = counting(&[2, 3, 4, 5]);
    let views = [
        full.clone(),
        full.transpose(1, 2).unwrap(),
        full.t().unwrap(),
        full.i((1.., 1..3, .., 1..4)).unwrap(),
        full.i((.., 2, .., ..)).unwrap(),
        full.i(1).unwrap(),
        full.narrow(1, 1, 1).unwrap().broadcast_as((2, 7, 4, 5)).unwrap(),
        full.narrow(3, 2, 1).unwrap().broadcast_as((2, 3, 4, 6)).unwrap(),
        full.permute((3, 1, 0, 2)).unwrap(),
        counting(&[1]).reshape(()).unwrap(),
        counting(&[1]).broadcast_as((2, 3)).unwrap(),
        full.narrow(2, 0, 0).unwrap(),
    ];
    for view in &views {
        let ours = to_attention(view, &Device::cpu()).unwrap();
        assert_eq!(ours.shape(), view.dims());
        assert_eq!(ours.to_vec::<f32>().unwrap(), elements(view), "{:?}", view.layout());
        let back = from_attention(&ours, &CPU).unwrap();
        assert_eq!((back.dims(), elements(&back)), (view.dims(), elements(view)));
    }
}

#[test]
fn repeated_entries_are_copied_once() {
    let view = counting(&[3, 1, 5]).broadcast_as((3, 100, 5)).unwrap();
    let ours = to_attention(&view, &Device::cpu()).unwrap();
    assert_eq!(ours.strides(), [5, 0, 1]);
}

#[test]
fn every_shared_type_goes_there_and_back() {
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64, DType::U8, DType::I32] {
        let tensor = counting(&[2, 3]).to_dtype(dtype).unwrap();
        for device in [Device::cpu(), Device::emulator()] {
            let back = from_attention(&to_attention(&tensor, &device).unwrap(), &CPU).unwrap();
            assert_eq!((back.dtype(), back.dims()), (dtype, tensor.dims()));
            assert_eq!(elements(&back), elements(&tensor), "{dtype:?} on {device}");
        }
    }
    let error = to_attention(&counting(&[2]).to_dtype(DType::I64).unwrap(), &Device::cpu()).unwrap_err();
    assert!(error.to_string().starts_with("the tensor is i64; allowed are f32, f16 and bf16"), "{error}");
}
