//! Attention problems as data, their inputs, and one pass over a device.

use flash_attention::{Causal, Device, Dtype, Forward, Layout, Options, Result, Tensor, sdpa};
use half::{bf16, f16};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::memory::Memory;

/// Which keys a boolean mask hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Three in ten, anywhere.
    Scattered,
    /// All but one in twenty: many queries see nothing.
    Sparse,
    /// All from some key on, which may be the first.
    Padding,
    /// Scattered ones, and all for every third query.
    DeadRows,
    /// All.
    Everything,
}

/// An attention problem. Its inputs follow from it.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Batch entries.
    pub batch: usize,
    /// Heads of k and v.
    pub key_heads: usize,
    /// Query heads a key head.
    pub group: usize,
    /// Queries a head.
    pub queries: usize,
    /// Keys a head.
    pub keys: usize,
    /// Columns of q and k.
    pub head_dim: usize,
    /// Columns of v.
    pub value_dim: usize,
    /// Storage type.
    pub dtype: Dtype,
    /// Which keys a query sees by position.
    pub causal: Causal,
    /// Factor of the scores, times the square root of the head dim; `None` leaves it to the library.
    pub scale: Option<f32>,
    /// Whether the mask has one entry for all batch entries, heads and queries, and what it hides.
    pub mask: Option<([bool; 3], Pattern)>,
    /// The same for the bias.
    pub bias: Option<[bool; 3]>,
    /// Order of the dimensions.
    pub layout: Layout,
    /// Whether tensors have no dimension for heads; for one head only.
    pub rank3: bool,
    /// Whether dimensions of mask and bias that may be left out are.
    pub short: bool,
    /// How q, k, v, dout, mask and bias lie in memory.
    pub memory: [Memory; 6],
    /// About how far scores are apart.
    pub spread: f64,
    /// What the inputs are drawn from.
    pub seed: u64,
}

impl Default for Problem {
    fn default() -> Problem {
        Problem {
            batch: 1,
            key_heads: 1,
            group: 1,
            queries: 1,
            keys: 1,
            head_dim: 32,
            value_dim: 32,
            dtype: Dtype::F32,
            causal: Causal::None,
            scale: None,
            mask: None,
            bias: None,
            layout: Layout::Bhsd,
            rank3: false,
            short: false,
            memory: [Memory::Contiguous; 6],
            spread: 1.0,
            seed: 0,
        }
    }
}

/// The elements of the tensors of a problem, `[batch, heads, rows, columns]` row-major; each is one that the storage type has.
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
}

/// What forward and backward give, `[batch, heads, rows, columns]` row-major whatever the layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// Output.
    pub out: Vec<f64>,
    /// Log-sum-exp.
    pub lse: Vec<f64>,
    /// Gradient of q.
    pub dq: Vec<f64>,
    /// Gradient of k.
    pub dk: Vec<f64>,
    /// Gradient of v.
    pub dv: Vec<f64>,
    /// Gradient of the bias, in its shape; empty without one.
    pub dbias: Vec<f64>,
}

impl Results {
    /// All by name.
    pub fn named(&self) -> [(&'static str, &[f64]); 6] {
        let Results { out, lse, dq, dk, dv, dbias } = self;
        [("out", out), ("lse", lse), ("dq", dq), ("dk", dk), ("dv", dv), ("dbias", dbias)]
    }
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

impl Problem {
    /// Heads of q.
    pub fn query_heads(&self) -> usize {
        self.key_heads * self.group
    }

    /// The factor of the scores.
    pub fn factor(&self) -> f32 {
        let usual = 1.0 / (self.head_dim as f64).sqrt();
        self.scale.map_or(usual as f32, |scale| (f64::from(scale) * usual) as f32)
    }

    /// The shapes of q, k, v and dout.
    pub fn shapes(&self) -> [[usize; 4]; 4] {
        let Problem { batch, key_heads, queries, keys, head_dim, value_dim, .. } = *self;
        let heads = self.query_heads();
        [
            [batch, heads, queries, head_dim],
            [batch, key_heads, keys, head_dim],
            [batch, key_heads, keys, value_dim],
            [batch, heads, queries, value_dim],
        ]
    }

    /// The batch entries, heads and queries of a mask or bias.
    fn score_shape(&self, repeated: [bool; 3]) -> [usize; 3] {
        let full = [self.batch, self.query_heads(), self.queries];
        std::array::from_fn(|d| if repeated[d] { 1 } else { full[d] })
    }

    /// Its inputs.
    pub fn inputs(&self) -> Inputs {
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let [q, k, v, dout] = self.shapes();
        // Uniform in -√3..√3 has variance 1, so that scores differ by `spread`.
        let mut draw = |shape: [usize; 4], factor: f64, memory: Memory| {
            let count = shape.iter().product();
            let mut values: Vec<f64> = (0..count)
                .map(|_| round(self.dtype, factor * rng.random_range(-1.0..1.0) * 3f64.sqrt()))
                .collect();
            if memory == Memory::SharedBatch {
                let entry = count / shape[0];
                (entry..count).for_each(|i| values[i] = values[i % entry]);
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
        Inputs { q, k, v, dout, mask, bias }
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
            let entry = mask.len() / shape[0];
            (entry..mask.len()).for_each(|i| mask[i] = mask[i % entry]);
        }
        mask
    }
}

/// The tensors of a problem on a device, as a caller would have them, and the options.
#[derive(Clone, Debug)]
pub struct Tensors {
    /// Queries.
    pub q: Tensor,
    /// Keys.
    pub k: Tensor,
    /// Values.
    pub v: Tensor,
    /// Gradient of the output.
    pub dout: Tensor,
    /// Everything else.
    pub options: Options,
}

impl Problem {
    /// Puts inputs on a device. Memory that the tensors do not show holds NaN (in the mask: "may attend").
    ///
    /// # Errors
    /// What goes wrong on the device.
    pub fn tensors(&self, device: &Device, inputs: &Inputs) -> Result<Tensors> {
        let place = |at: usize, values: &[f64]| {
            let shape = self.shapes()[at];
            self.outer(self.memory[at].place(device, self.dtype, values, shape, f64::NAN)?)
        };
        let mut options = Options::default();
        options.causal = self.causal;
        options.layout = self.layout;
        options.scale = self.scale.map(|_| self.factor());
        if let Some((mask, [b, h, r])) = &inputs.mask {
            let values: Vec<f64> = mask.iter().copied().map(f64::from).collect();
            let placed = self.memory[4].place(device, Dtype::U8, &values, [*b, *h, *r, self.keys], 1.0)?;
            options.mask = Some(self.shorten(placed)?);
        }
        if let Some((bias, [b, h, r])) = &inputs.bias {
            let placed = self.memory[5].place(device, self.dtype, bias, [*b, *h, *r, self.keys], f64::NAN)?;
            options.bias = Some(self.shorten(placed)?);
        }
        Ok(Tensors {
            q: place(0, &inputs.q)?,
            k: place(1, &inputs.k)?,
            v: place(2, &inputs.v)?,
            dout: place(3, &inputs.dout)?,
            options,
        })
    }

    /// A tensor `[batch, heads, rows, columns]` in the caller's order.
    fn outer(&self, tensor: Tensor) -> Result<Tensor> {
        match (self.rank3, self.layout) {
            (true, _) => tensor.squeeze(1),
            (_, Layout::Bhsd) => Ok(tensor),
            (_, Layout::Bshd) => tensor.transpose(1, 2),
        }
    }

    /// The elements of a tensor in the caller's order as `[batch, heads, rows, columns]`.
    fn inner(&self, tensor: &Tensor) -> Result<Vec<f64>> {
        match (self.rank3, self.layout) {
            (true, _) | (_, Layout::Bhsd) => tensor.to_f64(),
            (_, Layout::Bshd) => tensor.transpose(1, 2)?.to_f64(),
        }
    }

    /// A mask or bias without the dimensions that may be left out.
    fn shorten(&self, mut tensor: Tensor) -> Result<Tensor> {
        if self.short && self.rank3 {
            tensor = tensor.squeeze(1)?;
        }
        while self.short && tensor.rank() > 1 && tensor.shape()[0] == 1 {
            tensor = tensor.squeeze(0)?;
        }
        Ok(tensor)
    }

    /// The shape that the caller sees for `[batch, heads, rows, columns]`.
    fn outer_shape(&self, [b, h, r, c]: [usize; 4]) -> Vec<usize> {
        match (self.rank3, self.layout) {
            (true, _) => vec![b, r, c],
            (_, Layout::Bhsd) => vec![b, h, r, c],
            (_, Layout::Bshd) => vec![b, r, h, c],
        }
    }

    /// Forward and backward on a device; the tensors that come back must have the shapes and types that are promised.
    ///
    /// # Errors
    /// What goes wrong on the device, or which promise is not kept.
    pub fn run(&self, device: &Device, inputs: &Inputs) -> Result<Results, String> {
        self.pass(device, inputs).map_err(|error| error.to_string()).and_then(|results| results)
    }

    fn pass(&self, device: &Device, inputs: &Inputs) -> Result<Result<Results, String>> {
        let Tensors { q, k, v, dout, options } = self.tensors(device, inputs)?;
        let bias_shape = options.bias.as_ref().map(|bias| bias.shape().to_vec());
        let forward: Forward = sdpa(&q, &k, &v).options(options).forward()?;
        let gradients = forward.backward(&dout)?;
        if forward.backend() != crate::devices::backend(device) {
            return Ok(Err(format!("{} ran on {device}", forward.backend())));
        }
        let [q, k, v, out] = self.shapes().map(|shape| self.outer_shape(shape));
        let results = [
            ("out", forward.output(), out),
            ("dq", &gradients.dq, q),
            ("dk", &gradients.dk, k),
            ("dv", &gradients.dv, v),
        ];
        let dbias = gradients.dbias.as_ref().map(|dbias| ("dbias", dbias, bias_shape.unwrap_or_default()));
        for (name, tensor, shape) in results.into_iter().chain(dbias) {
            let as_promised = tensor.shape() == shape && tensor.dtype() == self.dtype;
            if !as_promised || !tensor.is_contiguous() {
                let (given, strides, dtype) = (tensor.shape(), tensor.strides(), tensor.dtype());
                return Ok(Err(format!(
                    "{name} is {dtype} {given:?} with strides {strides:?}, not {shape:?}"
                )));
            }
        }
        Ok(Ok(Results {
            out: self.inner(forward.output())?,
            lse: forward.lse().to_f64()?,
            dq: self.inner(&gradients.dq)?,
            dk: self.inner(&gradients.dk)?,
            dv: self.inner(&gradients.dv)?,
            dbias: gradients.dbias.as_ref().map_or(Ok(vec![]), Tensor::to_f64)?,
        }))
    }
}
