//! Problems without a batch entry, query or key: nothing is launched for them, whatever the backend.

use crate::autograd::Gradients;
use crate::device::Device;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::problem::{Problem, Sizes};
use crate::tensor::Tensor;

/// Output, log-sum-exp and, where asked for, weights. A query without keys gives zeros, and the log-sum-exp of its head's
/// sink alone: the sink itself, or -inf.
pub(crate) fn forward(problem: &Problem) -> Result<(Tensor, Tensor, Option<Tensor>)> {
    let (device, dtype) = (problem.device(), problem.dtype());
    let out = Tensor::zeros(device, dtype, &problem.out_shape())?;
    let lse = lse(problem, device)?;
    let shape = [lse.shape(), &[problem.sizes.keys]].concat();
    let weights = problem.options.return_weights.then(|| Tensor::zeros(device, dtype, &shape));
    Ok((out, lse, weights.transpose()?))
}

/// The log-sum-exp, on a device.
pub(crate) fn lse(problem: &Problem, device: &Device) -> Result<Tensor> {
    let shape = problem.lse_shape();
    let sinks = match &problem.sinks {
        Some(sinks) => sinks.to_f64()?,
        None => vec![f64::NEG_INFINITY; problem.sizes.query_heads],
    };
    // There are queries only where there is no key; then each head has a run of them, in every batch entry.
    let rows = problem.query_rows();
    let heads = shape.iter().product::<usize>().checked_div(rows).unwrap_or(0);
    let values = (0..heads).flat_map(|head| std::iter::repeat_n(sinks[head % sinks.len()], rows));
    Tensor::of_wide(device, Dtype::F32, values, &shape)
}

/// The gradients, in the caller's shapes: zeros, but for the sinks where the log-sum-exp has a gradient.
pub(crate) fn backward(problem: &Problem, dlse: Option<&Tensor>) -> Result<Gradients> {
    let zeros = |shape: &[usize]| Tensor::zeros(problem.device(), problem.dtype(), shape);
    let [q, k, v] = &problem.given;
    let bias = problem.options.bias.as_ref().filter(|_| problem.options.bias_gradient);
    Ok(Gradients {
        dq: zeros(q)?,
        dk: zeros(k)?,
        dv: zeros(v)?,
        dbias: bias.map(|bias| zeros(bias.shape())).transpose()?,
        dsinks: problem
            .sinks
            .as_ref()
            .map(|sinks| sink_gradient(problem, sinks, dlse, problem.device()))
            .transpose()?,
    })
}

/// The log-sum-exp of a query without keys is its head's sink, so that their gradients are the same; a sink of -inf takes no
/// part in anything.
pub(crate) fn sink_gradient(
    problem: &Problem,
    sinks: &Tensor,
    dlse: Option<&Tensor>,
    device: &Device,
) -> Result<Tensor> {
    let Sizes { query_heads, .. } = problem.sizes;
    let mut sums = vec![0.0; query_heads];
    if let Some(dlse) = dlse {
        let values = dlse.to_f64()?;
        for (head, rows) in values.chunks_exact(problem.query_rows().max(1)).enumerate() {
            sums[head % query_heads] += rows.iter().sum::<f64>();
        }
    }
    for (sum, sink) in sums.iter_mut().zip(sinks.to_f64()?) {
        if sink == f64::NEG_INFINITY {
            *sum = 0.0;
        }
    }
    Tensor::of_wide(device, Dtype::F32, sums.into_iter(), &[query_heads])
}

#[cfg(test)]
mod tests {
    use crate::attention::sdpa;
    use crate::device::Device;
    use crate::dtype::Dtype;
    use crate::options::Options;
    use crate::tensor::Tensor;

    fn ones(device: &Device, shape: &[usize]) -> Tensor {
        Tensor::from_slice(device, &vec![1f32; shape.iter().product()], shape).unwrap()
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        tensor.to_vec().unwrap()
    }

    #[test]
    fn queries_without_keys_give_zeros_and_nothing_is_launched() {
        for device in [Device::cpu(), Device::emulator()] {
            let (q, k) = (ones(&device, &[1, 2, 3, 4]), ones(&device, &[1, 1, 0, 4]));
            let bias = ones(&device, &[3, 0]);
            let forward = sdpa(&q, &k, &k).bias(&bias).forward().unwrap();
            assert_eq!(
                (forward.output().shape(), numbers(forward.output())),
                (&[1, 2, 3, 4][..], vec![0.0; 24])
            );
            assert_eq!(numbers(forward.lse()), [f32::NEG_INFINITY; 6]);
            let gradients = forward.backward(&ones(&device, &[1, 2, 3, 4])).unwrap();
            assert_eq!(numbers(&gradients.dq), [0.0; 24]);
            assert_eq!((gradients.dk.shape(), gradients.dv.shape()), (&[1, 1, 0, 4][..], &[1, 1, 0, 4][..]));
            assert_eq!(gradients.dbias.unwrap().shape(), [3, 0]);
            assert!(gradients.dsinks.is_none());
            assert!(device.take_stats().is_none_or(|counted| counted.is_empty()));
        }
    }

    #[test]
    fn the_log_sum_exp_of_queries_without_keys_is_the_sink() {
        let cpu = Device::cpu();
        let sinks = Tensor::from_slice(&cpu, &[0.5f32, f32::NEG_INFINITY], &[2]).unwrap();
        let (q, k) = (ones(&cpu, &[2, 2, 3, 4]), ones(&cpu, &[2, 2, 0, 4]));
        let options = Options { sinks: Some(sinks), ..Options::default() };
        let problem = crate::problem::Problem::new(&q, &k, &k, &options).unwrap();
        let (_, lse, _) = super::forward(&problem).unwrap();
        let row = [0.5, 0.5, 0.5, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
        assert_eq!(numbers(&lse), [row, row].concat());
        let dlse =
            Tensor::from_slice(&cpu, &(1..=12).map(|x| x as f32).collect::<Vec<_>>(), &[2, 2, 3]).unwrap();
        let gradients = super::backward(&problem, Some(&dlse)).unwrap();
        // 1 + 2 + 3 + 7 + 8 + 9; the other sink takes no part.
        assert_eq!(numbers(&gradients.dsinks.unwrap()), [30.0, 0.0]);
        assert_eq!(numbers(&super::backward(&problem, None).unwrap().dsinks.unwrap()), [0.0, 0.0]);
    }

    #[test]
    fn no_queries_and_no_batch_give_empty_outputs() {
        let cpu = Device::cpu();
        for shape in [[2, 1, 0, 4], [0, 1, 5, 4]] {
            let (q, k) = (ones(&cpu, &shape), ones(&cpu, &[shape[0], 1, 3, 4]));
            let forward = sdpa(&q, &k, &k).forward().unwrap();
            assert_eq!((forward.output().shape(), forward.lse().shape()), (&shape[..], &shape[..3]));
            let gradients = forward.backward(&ones(&cpu, &shape)).unwrap();
            assert_eq!(numbers(&gradients.dk), vec![0.0; shape[0] * 12]);
            let weights = sdpa(&q, &k, &k).return_weights(true).run().unwrap().weights.unwrap();
            assert_eq!(weights.shape(), [shape[0], 1, shape[2], 3]);
        }
    }

    #[test]
    fn gradients_of_empty_problems_have_the_type_and_shape_of_what_was_repeated() {
        let cpu = Device::cpu();
        let q = ones(&cpu, &[1, 1, 2, 4]).cast(Dtype::F16).unwrap();
        let k = ones(&cpu, &[3, 2, 0, 4]).cast(Dtype::F16).unwrap();
        let forward = sdpa(&q, &k, &k).forward().unwrap();
        assert_eq!(forward.output().shape(), [3, 2, 2, 4]);
        let gradients = forward.backward(forward.output()).unwrap();
        assert_eq!((gradients.dq.shape(), gradients.dq.dtype()), (&[1, 1, 2, 4][..], Dtype::F16));
    }
}
