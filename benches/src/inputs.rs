//! What is fed to attention: random normal numbers, because all-equal ones let a GPU clock higher than real data does.

use flash_attention::{Device, Dtype, Result, Tensor};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, StandardNormal};

use crate::workload::Workload;

/// Elements for the largest workload of a preset; smaller ones view their beginning.
#[derive(Debug)]
pub struct Inputs {
    dtype: Dtype,
    // q, k, v, dout, without a shape.
    flat: [Tensor; 4],
}

/// The tensors of one workload, `[batch, heads, seq, dim]`.
#[derive(Debug)]
pub struct Tensors {
    /// Queries.
    pub q: Tensor,
    /// Keys.
    pub k: Tensor,
    /// Values.
    pub v: Tensor,
    /// The gradient of the output.
    pub dout: Tensor,
}

impl Inputs {
    /// Numbers for each of `works`, on a device.
    ///
    /// # Errors
    /// Where the device has not that much memory.
    pub fn new(device: &Device, dtype: Dtype, works: &[Workload]) -> Result<Inputs> {
        let counts = works.iter().flat_map(|work| shapes(work).map(|shape| shape.iter().product()));
        let count: usize = counts.max().unwrap_or(1);
        let tensor = |seed| normal(device, dtype, seed, count);
        Ok(Inputs { dtype, flat: [tensor(1)?, tensor(2)?, tensor(3)?, tensor(4)?] })
    }

    /// The storage type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Views of a workload's shapes.
    ///
    /// # Errors
    /// Where it was not among the works that these inputs were made for.
    pub fn view(&self, work: &Workload) -> Result<Tensors> {
        let shapes = shapes(work);
        let view = |i: usize| {
            let shape = shapes[i];
            self.flat[i].narrow(0, 0, shape.iter().product())?.reshape(&shape)
        };
        Ok(Tensors { q: view(0)?, k: view(1)?, v: view(2)?, dout: view(3)? })
    }
}

/// The shapes of q, k, v and dout.
fn shapes(work: &Workload) -> [[usize; 4]; 4] {
    let Workload { batch, heads, queries, keys, head_dim, value_dim, .. } = *work;
    let shape = |rows, columns| [batch, heads, rows, columns];
    [shape(queries, head_dim), shape(keys, head_dim), shape(keys, value_dim), shape(queries, value_dim)]
}

/// `count` normal numbers, the same for the same seed.
///
/// # Errors
/// Where the device has not that much memory.
pub fn normal(device: &Device, dtype: Dtype, seed: u64, count: usize) -> Result<Tensor> {
    let mut random = SmallRng::seed_from_u64(seed);
    let numbers = (0..count).map(|_| -> f32 { StandardNormal.sample(&mut random) });
    match dtype {
        Dtype::F16 => Tensor::from_slice(device, &numbers.map(f16::from_f32).collect::<Vec<_>>(), &[count]),
        Dtype::Bf16 => Tensor::from_slice(device, &numbers.map(bf16::from_f32).collect::<Vec<_>>(), &[count]),
        _ => Tensor::from_slice(device, &numbers.collect::<Vec<f32>>(), &[count]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_normal_and_the_same_every_time() {
        let tensor = |dtype| normal(&Device::cpu(), dtype, 7, 10_000).unwrap().to_f64().unwrap();
        let numbers = tensor(Dtype::Bf16);
        assert_eq!(numbers, tensor(Dtype::Bf16));
        let mean = numbers.iter().sum::<f64>() / 1e4;
        let variance = numbers.iter().map(|x| x * x).sum::<f64>() / 1e4;
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    #[test]
    fn every_workload_gets_its_shapes() {
        let one = Workload { value_dim: 8, ..Workload::square(1, 2, 5, 16, false, Dtype::F16) };
        let other = Workload { keys: 9, ..one };
        let inputs = Inputs::new(&Device::cpu(), Dtype::F16, &[one, other]).unwrap();
        let tensors = inputs.view(&other).unwrap();
        let shapes = [&tensors.q, &tensors.k, &tensors.v, &tensors.dout].map(|t| t.shape().to_vec());
        assert_eq!(shapes, [[1, 2, 5, 16], [1, 2, 9, 16], [1, 2, 9, 8], [1, 2, 5, 8]]);
    }
}
