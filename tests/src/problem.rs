//! Attention problems as data, and their results.

use flash_attention::{Backend, Causal, Device, Dropout, Dtype, Kind, Layout};

use crate::devices::{Target, has_tensor_cores, targets};
pub use crate::inputs::{Inputs, round};
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

/// How many queries and keys the batch entries have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lengths {
    /// All the same.
    #[default]
    Same,
    /// As many queries, and these keys that count.
    Keys(Vec<usize>),
    /// Queries and keys of each sequence of a ragged batch. See [`Problem::ragged`].
    Ragged(Vec<[usize; 2]>),
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
    /// How far a query sees to the left and right.
    pub window: [Option<usize>; 2],
    /// Factor of the scores, times the square root of the head dim; `None` leaves it to the library.
    pub scale: Option<f32>,
    /// What the scores stay below.
    pub softcap: Option<f32>,
    /// Whether there are slopes, and if so whether each batch entry has its own.
    pub alibi: Option<bool>,
    /// Whether the mask has one entry for all batch entries, heads and queries, and what it hides.
    pub mask: Option<([bool; 3], Pattern)>,
    /// The same for the bias.
    pub bias: Option<[bool; 3]>,
    /// Whether each head has a sink.
    pub sinks: bool,
    /// Lengths of the batch entries.
    pub lengths: Lengths,
    /// Dropout.
    pub dropout: Option<Dropout>,
    /// Into how many parts the keys are divided, which only Flash does; 0 leaves it to the [`Target`], or the library.
    pub splits: usize,
    /// Whether the loss depends on the log-sum-exp too.
    pub dlse: bool,
    /// Whether backward gives the same bits every time; `None` leaves it to the library.
    pub deterministic: Option<bool>,
    /// Whether q, k and v have one batch entry, and one head, for all.
    pub single: [[bool; 2]; 3],
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
            window: [None; 2],
            scale: None,
            softcap: None,
            alibi: None,
            mask: None,
            bias: None,
            sinks: false,
            lengths: Lengths::Same,
            dropout: None,
            splits: 0,
            dlse: false,
            deterministic: None,
            single: [[false; 2]; 3],
            layout: Layout::Bhsd,
            rank3: false,
            short: false,
            memory: [Memory::Contiguous; 6],
            spread: 1.0,
            seed: 0,
        }
    }
}

/// What forward and backward give, `[batch, heads, rows, columns]` row-major whatever the layout. Rows that pad the sequences
/// of a ragged batch are 0, and -inf in the log-sum-exp.
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// Gradient of the sinks; empty without them.
    pub dsinks: Vec<f64>,
}

/// How many results there are.
pub const RESULTS: usize = 7;

impl Results {
    /// All by name.
    pub fn named(&self) -> [(&'static str, &[f64]); RESULTS] {
        let Results { out, lse, dq, dk, dv, dbias, dsinks } = self;
        let names = ["out", "lse", "dq", "dk", "dv", "dbias", "dsinks"];
        let values: [&[f64]; RESULTS] = [out, lse, dq, dk, dv, dbias, dsinks];
        std::array::from_fn(|n| (names[n], values[n]))
    }
}

impl Problem {
    /// Heads of q.
    pub fn query_heads(&self) -> usize {
        self.key_heads * self.group
    }

    /// Whether Flash takes it: of 16 bits, and every row of q, k and v begins and ends at a multiple of 16 bytes.
    pub fn fits_tensor_cores(&self) -> bool {
        let of_bytes = |elements: usize| (2 * elements).is_multiple_of(16);
        let offsets = self.offsets();
        let aligned = |at: usize| {
            let [mut batch, heads, mut rows, columns] = self.shapes()[at];
            if let Some(offsets) = &offsets {
                (batch, rows) = (1, offsets[usize::from(at > 0)][self.batch]);
            }
            let (skipped, wide) = match self.memory[at] {
                Memory::Columns { before, after } => (before, before + columns + after),
                Memory::Rows { before, .. } => (before * columns, columns),
                _ => (0, columns),
            };
            // Where there is one row, no other has to begin anywhere.
            let alone = [batch, heads, rows] == [1; 3];
            of_bytes(columns) && of_bytes(skipped) && (alone || of_bytes(wide))
        };
        self.dtype != Dtype::F32 && (0..3).all(aligned)
    }

    /// The backend that has to run on a device when none is asked for.
    pub fn backend(&self, device: &Device) -> Backend {
        match device.kind() {
            Kind::Cpu => Backend::Math,
            _ if self.fits_tensor_cores() && has_tensor_cores(device) => Backend::Flash,
            _ => Backend::Efficient,
        }
    }

    /// Every backend that takes it, on every device; Flash in as many parts as the problem asks for, or where it leaves them to the
    /// library and that depends on the device, in one and in as many as there are.
    pub fn targets(&self) -> Vec<Target> {
        let takes = |target: &Target| match target.backend {
            Backend::Flash => self.fits_tensor_cores() && (self.splits == 0 || target.is_whole()),
            _ => self.splits <= 1,
        };
        targets().into_iter().filter(takes).collect()
    }

    /// The same problem in a form that Flash takes: f32 becomes f16, and columns are multiples of 8.
    pub fn for_tensor_cores(&self) -> Problem {
        let memory = self.memory.map(|memory| match memory {
            Memory::Columns { before, after } => Memory::Columns { before: 8 * before, after: 8 * after },
            memory => memory,
        });
        Problem {
            dtype: if self.dtype == Dtype::F32 { Dtype::F16 } else { self.dtype },
            head_dim: self.head_dim.next_multiple_of(8),
            value_dim: self.value_dim.next_multiple_of(8),
            memory,
            ..self.clone()
        }
    }

    /// The factor of the scores.
    pub fn factor(&self) -> f32 {
        let usual = 1.0 / (self.head_dim as f64).sqrt();
        self.scale.map_or(usual as f32, |scale| (f64::from(scale) * usual) as f32)
    }

    /// The shapes of q, k, v and dout.
    pub fn shapes(&self) -> [[usize; 4]; 4] {
        let Problem { batch, key_heads, queries, keys, head_dim, value_dim, single, .. } = *self;
        let heads = self.query_heads();
        let one = |[b, h]: [bool; 2], [batch, heads, rows, columns]: [usize; 4]| {
            [if b { 1 } else { batch }, if h { 1 } else { heads }, rows, columns]
        };
        [
            one(single[0], [batch, heads, queries, head_dim]),
            one(single[1], [batch, key_heads, keys, head_dim]),
            one(single[2], [batch, key_heads, keys, value_dim]),
            [batch, heads, queries, value_dim],
        ]
    }

    /// The batch entries, heads and queries of a mask or bias.
    pub(crate) fn score_shape(&self, repeated: [bool; 3]) -> [usize; 3] {
        let full = [self.batch, self.query_heads(), self.queries];
        std::array::from_fn(|d| if repeated[d] { 1 } else { full[d] })
    }

    /// Queries of a batch entry, and its keys that count.
    pub fn lengths(&self, b: usize) -> [usize; 2] {
        match &self.lengths {
            Lengths::Same => [self.queries, self.keys],
            Lengths::Keys(keys) => [self.queries, keys[b]],
            Lengths::Ragged(lengths) => lengths[b],
        }
    }

    /// The same problem on sequences of these queries and keys.
    pub fn ragged(self, lengths: Vec<[usize; 2]>) -> Problem {
        let [queries, keys] = [0, 1].map(|side| lengths.iter().map(|l| l[side]).max().unwrap_or(0));
        Problem { batch: lengths.len(), queries, keys, lengths: Lengths::Ragged(lengths), ..self }
    }

    /// The offsets of queries and keys in packed tensors, of a ragged batch.
    pub fn offsets(&self) -> Option<[Vec<usize>; 2]> {
        let Lengths::Ragged(lengths) = &self.lengths else { return None };
        Some([0, 1].map(|side| {
            let sums = lengths.iter().scan(0, |sum, length| {
                *sum += length[side];
                Some(*sum)
            });
            std::iter::once(0).chain(sums).collect()
        }))
    }

    /// Which head of tensor `t` of q, k and v a query head of a batch entry reads.
    pub fn head(&self, t: usize, b: usize, h: usize) -> usize {
        let [batch, heads, ..] = self.shapes()[t];
        let h = if t == 0 { h } else { h / self.group };
        (if batch == 1 { 0 } else { b }) * heads + if heads == 1 { 0 } else { h }
    }
}
