//! Problems on a device: their tensors as a caller would have them, and one pass forward and backward.

use flash_attention::{
    Backend, Device, Dtype, Forward, Layout, Options, Ragged, Result, Tensor, Window, sdpa,
};

use crate::devices::Target;
use crate::problem::{Inputs, Lengths, Problem, Results};

/// The tensors of a problem on a device, and the options.
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
    /// Gradient of the log-sum-exp.
    pub dlse: Option<Tensor>,
    /// Everything else.
    pub options: Options,
}

/// The rows `[batch, heads, rows, columns]` of sequences that `offsets` separate, without padding: `[heads, total, columns]`.
fn pack(values: &[f64], [batch, heads, rows, columns]: [usize; 4], offsets: &[usize]) -> Vec<f64> {
    let mut packed = vec![];
    for h in 0..heads {
        for b in 0..batch {
            let start = (b * heads + h) * rows * columns;
            packed.extend(&values[start..start + (offsets[b + 1] - offsets[b]) * columns]);
        }
    }
    packed
}

/// The other way; `padding` between the sequences.
fn unpack(
    packed: &[f64],
    [batch, heads, rows, columns]: [usize; 4],
    offsets: &[usize],
    padding: f64,
) -> Vec<f64> {
    let mut values = vec![padding; batch * heads * rows * columns];
    let total = offsets[batch];
    for h in 0..heads {
        for b in 0..batch {
            let from = &packed[(h * total + offsets[b]) * columns..(h * total + offsets[b + 1]) * columns];
            values[(b * heads + h) * rows * columns..][..from.len()].copy_from_slice(from);
        }
    }
    values
}

impl Problem {
    /// Puts inputs on a device. Memory that the tensors do not show holds NaN (in the mask: "may attend").
    ///
    /// # Errors
    /// What goes wrong on the device.
    pub fn tensors(&self, device: &Device, inputs: &Inputs) -> Result<Tensors> {
        let offsets = self.offsets();
        let place = |at: usize, values: &[f64]| {
            let shape @ [_, heads, _, columns] = self.shapes()[at];
            let (memory, dtype) = (self.memory[at], self.dtype);
            let Some(offsets) = &offsets else {
                return self.outer(memory.place(device, dtype, values, shape, f64::NAN)?);
            };
            let offsets = &offsets[usize::from(at == 1 || at == 2)];
            let packed = pack(values, shape, offsets);
            let total = offsets[self.batch];
            memory
                .place(device, dtype, &packed, [1, heads, total, columns], f64::NAN)?
                .squeeze(0)?
                .transpose(0, 1)
        };
        let floats = |values: &[f64], shape: &[usize]| {
            Tensor::from_slice(&Device::cpu(), values, shape)?.cast(Dtype::F32)?.to_device(device)
        };
        let dlse = inputs.dlse.as_ref().map(|dlse| {
            let (shape, heads) = ([self.batch, self.query_heads(), self.queries], self.query_heads());
            match &offsets {
                Some([queries, _]) => {
                    let packed = pack(dlse, [shape[0], shape[1], shape[2], 1], queries);
                    floats(&packed, &[heads, queries[self.batch]])
                }
                None if self.rank3 => floats(dlse, &[self.batch, self.queries]),
                None => floats(dlse, &shape),
            }
        });
        Ok(Tensors {
            q: place(0, &inputs.q)?,
            k: place(1, &inputs.k)?,
            v: place(2, &inputs.v)?,
            dout: place(3, &inputs.dout)?,
            dlse: dlse.transpose()?,
            options: self.options(device, inputs, floats)?,
        })
    }

    fn options(
        &self,
        device: &Device,
        inputs: &Inputs,
        floats: impl Fn(&[f64], &[usize]) -> Result<Tensor>,
    ) -> Result<Options> {
        let heads = self.query_heads();
        let mut options = Options::default();
        options.causal = self.causal;
        options.window = Window { left: self.window[0], right: self.window[1] };
        options.layout = self.layout;
        options.scale = self.scale.map(|_| self.factor());
        options.softcap = self.softcap;
        options.dropout = self.dropout;
        options.splits = self.splits;
        options.deterministic = self.deterministic;
        if let Lengths::Keys(lengths) = &self.lengths {
            options.key_lengths = Some(lengths.clone());
        }
        options.ragged =
            self.offsets().map(|[query_offsets, key_offsets]| Ragged { query_offsets, key_offsets });
        if let Some((mask, [b, h, r])) = &inputs.mask {
            let values: Vec<f64> = mask.iter().copied().map(f64::from).collect();
            let placed = self.memory[4].place(device, Dtype::U8, &values, [*b, *h, *r, self.keys], 1.0)?;
            options.mask = Some(self.shorten(placed)?);
        }
        if let Some((bias, [b, h, r])) = &inputs.bias {
            let placed = self.memory[5].place(device, self.dtype, bias, [*b, *h, *r, self.keys], f64::NAN)?;
            options.bias = Some(self.shorten(placed)?);
        }
        if let Some(slopes) = &inputs.slopes {
            let shape = [self.batch, heads];
            options.alibi =
                Some(floats(slopes, if self.alibi == Some(true) { &shape } else { &shape[1..] })?);
        }
        options.sinks = inputs.sinks.as_ref().map(|sinks| floats(sinks, &[heads])).transpose()?;
        Ok(options)
    }

    /// A tensor `[batch, heads, rows, columns]` in the caller's order.
    fn outer(&self, tensor: Tensor) -> Result<Tensor> {
        match (self.rank3, self.layout) {
            (true, _) => tensor.squeeze(1),
            (_, Layout::Bhsd) => Ok(tensor),
            (_, Layout::Bshd) => tensor.transpose(1, 2),
        }
    }

    /// The elements of a tensor in the caller's order as `[batch, heads, rows, columns]`; `at` is its place in
    /// [`Problem::shapes`].
    fn inner(&self, at: usize, tensor: &Tensor) -> Result<Vec<f64>> {
        if let Some(offsets) = self.offsets() {
            let packed = tensor.transpose(0, 1)?.to_f64()?;
            return Ok(unpack(&packed, self.shapes()[at], &offsets[usize::from(at == 1 || at == 2)], 0.0));
        }
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
    fn outer_shape(&self, at: usize) -> Vec<usize> {
        let [b, h, r, c] = self.shapes()[at];
        match (self.offsets(), self.rank3, self.layout) {
            (Some(offsets), ..) => vec![offsets[usize::from(at == 1 || at == 2)][self.batch], h, c],
            (None, true, _) => vec![b, r, c],
            (None, _, Layout::Bhsd) => vec![b, h, r, c],
            (None, _, Layout::Bshd) => vec![b, r, h, c],
        }
    }

    /// The shape that the caller sees for the log-sum-exp.
    fn outer_lse_shape(&self) -> Vec<usize> {
        match (self.offsets(), self.rank3) {
            (Some([queries, _]), _) => vec![self.query_heads(), queries[self.batch]],
            (None, true) => vec![self.batch, self.queries],
            (None, false) => vec![self.batch, self.query_heads(), self.queries],
        }
    }

    /// Forward and backward on a device by the backend that `Auto` has to choose; the tensors that come back must have the
    /// shapes and types that are promised.
    ///
    /// # Errors
    /// What goes wrong on the device, or which promise is not kept.
    pub fn run(&self, device: &Device, inputs: &Inputs) -> Result<Results, String> {
        self.pass(device, &[], self.backend(device), inputs)
    }

    /// The same by a backend that is asked for.
    ///
    /// # Errors
    /// As [`Problem::run`].
    pub fn run_on(&self, target: &Target, inputs: &Inputs) -> Result<Results, String> {
        self.on(target).pass(&target.device, &[target.backend], target.backend, inputs)
    }

    /// The problem with the parts of a target, where it asks for none itself.
    fn on(&self, target: &Target) -> Problem {
        let splits = if self.splits == 0 { target.splits } else { self.splits };
        Problem { splits, ..self.clone() }
    }

    /// Output and log-sum-exp alone, by a backend that is asked for.
    ///
    /// # Errors
    /// What goes wrong on the device.
    pub fn forward_on(&self, target: &Target, inputs: &Inputs) -> Result<Results> {
        let Tensors { q, k, v, options, .. } = self.on(target).tensors(&target.device, inputs)?;
        let forward = sdpa(&q, &k, &v).options(options).backend(target.backend).forward()?;
        Ok(Results {
            out: self.inner(3, forward.output())?,
            lse: self.inner_lse(forward.lse())?,
            ..Results::default()
        })
    }

    /// The log-sum-exp as `[batch, heads, queries]`.
    fn inner_lse(&self, tensor: &Tensor) -> Result<Vec<f64>> {
        let lse = tensor.to_f64()?;
        let shape = [self.batch, self.query_heads(), self.queries, 1];
        Ok(match self.offsets() {
            Some([queries, _]) => unpack(&lse, shape, &queries, f64::NEG_INFINITY),
            None => lse,
        })
    }

    fn pass(
        &self,
        device: &Device,
        asked: &[Backend],
        expected: Backend,
        inputs: &Inputs,
    ) -> Result<Results, String> {
        let Tensors { q, k, v, dout, dlse, mut options } =
            self.tensors(device, inputs).map_err(|error| error.to_string())?;
        options.backends = asked.to_vec();
        let bias_shape = options.bias.as_ref().map(|bias| bias.shape().to_vec());
        let of = |error: flash_attention::Error| error.to_string();
        let forward: Forward = sdpa(&q, &k, &v).options(options).forward().map_err(of)?;
        if forward.backend() != expected {
            return Err(format!("{} ran on {device}", forward.backend()));
        }
        let gradients = forward.backward_with(&dout, dlse.as_ref()).map_err(of)?;
        let results = [
            ("out", forward.output(), self.outer_shape(3), self.dtype),
            ("lse", forward.lse(), self.outer_lse_shape(), Dtype::F32),
            ("dq", &gradients.dq, self.outer_shape(0), self.dtype),
            ("dk", &gradients.dk, self.outer_shape(1), self.dtype),
            ("dv", &gradients.dv, self.outer_shape(2), self.dtype),
        ];
        let dbias = gradients
            .dbias
            .as_ref()
            .map(|dbias| ("dbias", dbias, bias_shape.unwrap_or_default(), self.dtype));
        let dsinks =
            gradients.dsinks.as_ref().map(|dsinks| ("dsinks", dsinks, vec![self.query_heads()], Dtype::F32));
        for (name, tensor, shape, dtype) in results.into_iter().chain(dbias).chain(dsinks) {
            if tensor.shape() != shape || tensor.dtype() != dtype || !tensor.is_contiguous() {
                let (given, strides) = (tensor.shape(), tensor.strides());
                let of = tensor.dtype();
                return Err(format!(
                    "{name} is {of} {given:?} with strides {strides:?}, not {dtype} {shape:?}"
                ));
            }
        }
        let collect = || -> Result<Results> {
            Ok(Results {
                out: self.inner(3, forward.output())?,
                lse: self.inner_lse(forward.lse())?,
                dq: self.inner(0, &gradients.dq)?,
                dk: self.inner(1, &gradients.dk)?,
                dv: self.inner(2, &gradients.dv)?,
                dbias: gradients.dbias.as_ref().map_or(Ok(vec![]), Tensor::to_f64)?,
                dsinks: gradients.dsinks.as_ref().map_or(Ok(vec![]), Tensor::to_f64)?,
            })
        };
        collect().map_err(of)
    }
}
