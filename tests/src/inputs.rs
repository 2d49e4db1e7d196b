//! The inputs of a problem, drawn from its seed.

use flash_attention::Dtype;
use half::{bf16, f16};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::memory::Memory;
use crate::problem::{Lengths, Pattern, Problem};

/// The elements of the tensors of a problem, row-major; each is one that the storage type has.
///
/// q, k, v and dout are `[batch, heads, rows, columns]`; those of a ragged batch are padded to the longest sequence. What no
/// implementation may read (padding, keys behind a batch entry's length) is NaN.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Queries.
    pub q: Vec<f64>,
    /// Keys.
    pub k: Vec<f64>,
    /// Values.
    pub v: Vec<f64>,
    /// Gradient of the output.
    pub dout: Vec<f64>,
    /// Mask, and its batch entries, heads and queries.
    pub mask: Option<(Vec<u8>, [usize; 3])>,
    /// Bias, and its batch entries, heads and queries.
    pub bias: Option<(Vec<f64>, [usize; 3])>,
    /// ALiBi's slopes, `[heads]` or `[batch, heads]`.
    pub slopes: Option<Vec<f64>>,
    /// Sinks, `[heads]`.
    pub sinks: Option<Vec<f64>>,
    /// Gradient of the log-sum-exp, `[batch, heads, queries]`.
    pub dlse: Option<Vec<f64>>,
}

/// The nearest number that the storage type has.
pub fn round(dtype: Dtype, x: f64) -> f64 {
    match dtype {
        Dtype::F16 => f16::from_f64(x).to_f64(),
        Dtype::Bf16 => bf16::from_f64(x).to_f64(),
        Dtype::F32 => f64::from(x as f32),
        _ => x,
    }
}

/// Makes all batch entries the first.
fn share<T: Copy>(values: &mut [T], batch: usize) {
    let entry = values.len() / batch.max(1);
    (entry..values.len()).for_each(|i| values[i] = values[i % entry]);
}

impl Problem {
    /// Its inputs.
    pub fn inputs(&self) -> Inputs {
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let [q, k, v, dout] = self.shapes();
        // Uniform in -√3..√3 has variance 1, so that scores differ by `spread`.
        let mut draw = |shape: [usize; 4], factor: f64, memory: Memory| {
            let mut values: Vec<f64> = (0..shape.iter().product())
                .map(|_| round(self.dtype, factor * rng.random_range(-1.0..1.0) * 3f64.sqrt()))
                .collect();
            if memory == Memory::SharedBatch {
                share(&mut values, shape[0]);
            }
            values
        };
        let q = draw(q, self.spread, self.memory[0]);
        let k = draw(k, 1.0, self.memory[1]);
        let v = draw(v, 2.0, self.memory[2]);
        // dout · v then is about 4, however many columns there are.
        let dout = draw(dout, 2.0 / (self.value_dim as f64).sqrt(), self.memory[3]);
        let bias = self.bias.map(|repeated| {
            let [b, h, r] = self.score_shape(repeated);
            (draw([b, h, r, self.keys], self.spread, self.memory[5]), [b, h, r])
        });
        let mask = self.mask.map(|(repeated, pattern)| {
            let shape = self.score_shape(repeated);
            (self.pattern(pattern, shape, &mut rng), shape)
        });
        let mut floats = |count: usize, low: f64, high: f64| -> Vec<f64> {
            (0..count).map(|_| round(Dtype::F32, rng.random_range(low..high))).collect()
        };
        let heads = self.query_heads();
        let slopes = self.alibi.map(|each| floats(if each { self.batch * heads } else { heads }, 0.004, 0.5));
        let sinks = self.sinks.then(|| floats(heads, -2.0, 3.0));
        let dlse = self.dlse.then(|| floats(self.batch * heads * self.queries, -1.5, 1.5));
        let mut inputs = Inputs { q, k, v, dout, mask, bias, slopes, sinks, dlse };
        self.poison(&mut inputs);
        inputs
    }

    /// Puts NaN where nothing may be read.
    fn poison(&self, inputs: &mut Inputs) {
        let shapes = self.shapes();
        let [queries, keys] = [0, 1].map(|side| {
            let of = |b| self.lengths(b)[side];
            (0..self.batch).map(of).collect::<Vec<_>>()
        });
        let Inputs { q, k, v, dout, .. } = inputs;
        for (at, (tensor, used)) in
            [(q, &queries), (k, &keys), (v, &keys), (dout, &queries)].into_iter().enumerate()
        {
            let [batch, heads, rows, columns] = shapes[at];
            let shared = batch == 1 || (self.memory[at] == Memory::SharedBatch && !self.is_ragged());
            for (head, values) in tensor.chunks_exact_mut((rows * columns).max(1)).enumerate() {
                let longest = used.iter().copied().max().unwrap_or(0);
                let used = if shared { longest } else { used[head / heads] };
                values[used * columns..].fill(f64::NAN);
            }
        }
    }

    /// Whether the sequences lie one after the other in packed tensors.
    pub fn is_ragged(&self) -> bool {
        matches!(self.lengths, Lengths::Ragged(_))
    }

    fn pattern(&self, pattern: Pattern, shape: [usize; 3], rng: &mut SmallRng) -> Vec<u8> {
        let rows: usize = shape.iter().product();
        let mut mask = Vec::with_capacity(rows * self.keys);
        for row in 0..rows {
            let end = rng.random_range(0..=self.keys);
            mask.extend((0..self.keys).map(|j| {
                let chance: f64 = rng.random();
                // Any byte but 0 means that the key is seen.
                let seen = rng.random_range(1..=255u8);
                let visible = match pattern {
                    Pattern::Scattered => chance < 0.7,
                    Pattern::Sparse => chance < 0.05,
                    Pattern::Padding => j < end,
                    Pattern::DeadRows => row % 3 != 2 && chance < 0.7,
                    Pattern::Everything => false,
                };
                if visible { seen } else { 0 }
            }));
        }
        if self.memory[4] == Memory::SharedBatch {
            share(&mut mask, shape[0]);
        }
        mask
    }
}
