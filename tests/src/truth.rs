//! What is right, in f64: by formulas written here, and by the library's reference, which must agree.

use flash_attention::Window;
use flash_attention::reference::{self, Attention, Repeated, Slopes};

use crate::problem::{Inputs, Lengths, Problem, Results};
use crate::unfused::{Precision, unfused};

/// Part of a problem as the library's reference takes it: a sequence of a ragged batch, or everything.
struct Part {
    first: usize,
    batch: usize,
    queries: usize,
    keys: usize,
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    dout: Vec<f64>,
    dlse: Option<Vec<f64>>,
    mask: Option<(Vec<u8>, [usize; 3])>,
    bias: Option<(Vec<f64>, [usize; 3])>,
    slopes: Option<Vec<f64>>,
}

/// The places, in a tensor of scores of this shape, of those of a part, and their shape.
fn scores(shape: [usize; 3], columns: usize, part: &Part) -> (Vec<usize>, [usize; 3]) {
    let [batch, heads, queries] = shape;
    let (first, entries) = if batch == 1 { (0, 1) } else { (part.first, part.batch) };
    let rows = if queries == 1 { 1 } else { part.queries };
    let mut places = vec![];
    for b in first..first + entries {
        for h in 0..heads {
            for i in 0..rows {
                let row = ((b * heads + h) * queries + i) * columns;
                places.extend(row..row + part.keys);
            }
        }
    }
    (places, [entries, heads, rows])
}

impl Problem {
    /// What is right, by the formulas of [`unfused`] in f64.
    pub fn truth(&self, inputs: &Inputs) -> Results {
        unfused(self, inputs, Precision::EXACT).results
    }

    fn parts(&self) -> Vec<Part> {
        let part = |first, batch, [queries, keys]: [usize; 2]| Part {
            first,
            batch,
            queries,
            keys,
            q: vec![],
            k: vec![],
            v: vec![],
            dout: vec![],
            dlse: None,
            mask: None,
            bias: None,
            slopes: None,
        };
        match &self.lengths {
            Lengths::Ragged(lengths) => {
                lengths.iter().enumerate().map(|(b, &lengths)| part(b, 1, lengths)).collect()
            }
            _ => vec![part(0, self.batch, [self.queries, self.keys])],
        }
    }

    /// The places, in tensor `at` of [`Problem::shapes`], of the elements of a part, head by head as if nothing were repeated.
    fn places(&self, at: usize, part: &Part) -> Vec<usize> {
        let [_, _, rows, columns] = self.shapes()[at];
        let of_keys = at == 1 || at == 2;
        let (heads, group) = if of_keys { (self.key_heads, self.group) } else { (self.query_heads(), 1) };
        let used = if of_keys { part.keys } else { part.queries };
        let mut places = vec![];
        for b in part.first..part.first + part.batch {
            for h in 0..heads {
                let head = if at == 3 { b * heads + h } else { self.head(at, b, h * group) };
                places.extend(head * rows * columns..(head * rows + used) * columns);
            }
        }
        places
    }

    fn filled(&self, mut part: Part, inputs: &Inputs) -> Part {
        let take =
            |places: Vec<usize>, values: &[f64]| places.into_iter().map(|i| values[i]).collect::<Vec<_>>();
        let Inputs { q, k, v, dout, mask, bias, slopes, dlse, .. } = inputs;
        part.q = take(self.places(0, &part), q);
        part.k = take(self.places(1, &part), k);
        part.v = take(self.places(2, &part), v);
        part.dout = take(self.places(3, &part), dout);
        part.dlse = dlse.as_ref().map(|dlse| take(self.query_places(&part), dlse));
        part.mask = mask.as_ref().map(|(values, shape)| {
            let (places, shape) = scores(*shape, self.keys, &part);
            (places.into_iter().map(|i| values[i]).collect(), shape)
        });
        part.bias = bias.as_ref().map(|(values, shape)| {
            let (places, shape) = scores(*shape, self.keys, &part);
            (take(places, values), shape)
        });
        let heads = self.query_heads();
        part.slopes = slopes.as_ref().map(|slopes| match self.alibi {
            Some(true) => slopes[part.first * heads..(part.first + part.batch) * heads].to_vec(),
            _ => slopes.clone(),
        });
        part
    }

    /// The places of a part's queries in the log-sum-exp.
    fn query_places(&self, part: &Part) -> Vec<usize> {
        let heads = part.first * self.query_heads()..(part.first + part.batch) * self.query_heads();
        heads.flat_map(|head| head * self.queries..head * self.queries + part.queries).collect()
    }

    fn attention<'a>(&'a self, part: &'a Part, inputs: &'a Inputs) -> Attention<'a, f64> {
        let Part { first, batch, queries, keys, .. } = *part;
        let Problem { key_heads, head_dim, value_dim, causal, dropout, .. } = *self;
        Attention {
            scale: f64::from(self.factor()),
            causal,
            window: Window { left: self.window[0], right: self.window[1] },
            softcap: self.softcap.map(f64::from),
            alibi: part.slopes.as_ref().map(|values| Slopes { values, per_batch: self.alibi == Some(true) }),
            mask: part.mask.as_ref().map(|(values, shape)| Repeated { values, shape: *shape }),
            bias: part.bias.as_ref().map(|(values, shape)| Repeated { values, shape: *shape }),
            sinks: inputs.sinks.as_deref(),
            key_lengths: match &self.lengths {
                Lengths::Keys(lengths) => Some(lengths),
                _ => None,
            },
            dropout,
            first_batch: first,
            ..Attention::new(batch, self.query_heads(), key_heads, queries, keys, head_dim, value_dim)
        }
    }

    /// What the library's reference gives in f64. Repeated tensors are copied for it, and sequences are batches of their own.
    pub fn reference(&self, inputs: &Inputs) -> Results {
        let rows = self.batch * self.query_heads() * self.queries;
        let mut all = Results {
            out: vec![0.0; rows * self.value_dim],
            lse: vec![f64::NEG_INFINITY; rows],
            dq: vec![0.0; inputs.q.len()],
            dk: vec![0.0; inputs.k.len()],
            dv: vec![0.0; inputs.v.len()],
            dbias: vec![0.0; inputs.bias.as_ref().map_or(0, |(bias, _)| bias.len())],
            dsinks: vec![0.0; inputs.sinks.as_ref().map_or(0, Vec::len)],
        };
        let add = |sums: &mut [f64], places: Vec<usize>, values: &[f64]| {
            assert_eq!(places.len(), values.len());
            places.into_iter().zip(values).for_each(|(i, x)| sums[i] += x);
        };
        for part in self.parts() {
            let part = self.filled(part, inputs);
            let attention = self.attention(&part, inputs);
            let Part { q, k, v, dout, .. } = &part;
            let outcome = reference::forward(&attention, q, k, v, false).expect("the inputs fit the problem");
            let gradients = reference::backward(&attention, q, k, v, dout, part.dlse.as_deref(), true)
                .expect("the inputs fit the problem");
            self.places(3, &part).into_iter().zip(outcome.out).for_each(|(i, x)| all.out[i] = x);
            self.query_places(&part).into_iter().zip(outcome.lse).for_each(|(i, x)| all.lse[i] = x);
            add(&mut all.dq, self.places(0, &part), &gradients.dq);
            add(&mut all.dk, self.places(1, &part), &gradients.dk);
            add(&mut all.dv, self.places(2, &part), &gradients.dv);
            if let Some((_, shape)) = &inputs.bias {
                add(&mut all.dbias, scores(*shape, self.keys, &part).0, &gradients.dbias);
            }
            add(&mut all.dsinks, (0..gradients.dsinks.len()).collect(), &gradients.dsinks);
        }
        all
    }

    /// The loss of which the gradients are taken: that of a pass with these results.
    pub fn loss(&self, results: &Results, inputs: &Inputs) -> f64 {
        let dot = |a: &[f64], b: &[f64]| {
            let used = a.iter().zip(b).filter(|(a, b)| a.is_finite() && b.is_finite());
            used.map(|(a, b)| a * b).sum::<f64>()
        };
        dot(&results.out, &inputs.dout) + inputs.dlse.as_ref().map_or(0.0, |dlse| dot(&results.lse, dlse))
    }
}
