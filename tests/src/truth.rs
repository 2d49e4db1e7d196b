//! What is right, by the library's reference in f64.

use flash_attention::reference::{self, Attention, Repeated};

use crate::problem::{Inputs, Problem, Results};

impl Problem {
    /// The problem as the library's reference takes it, in f64.
    pub fn attention<'a>(&self, inputs: &'a Inputs) -> Attention<'a, f64> {
        Attention {
            batch: self.batch,
            query_heads: self.query_heads(),
            key_heads: self.key_heads,
            queries: self.queries,
            keys: self.keys,
            head_dim: self.head_dim,
            value_dim: self.value_dim,
            scale: f64::from(self.factor()),
            causal: self.causal,
            mask: inputs.mask.as_ref().map(|(values, shape)| Repeated { values, shape: *shape }),
            bias: inputs.bias.as_ref().map(|(values, shape)| Repeated { values, shape: *shape }),
        }
    }

    /// What the library's reference gives in f64.
    pub fn reference(&self, inputs: &Inputs) -> Results {
        let Inputs { q, k, v, dout, .. } = inputs;
        let attention = self.attention(inputs);
        let outcome = reference::forward(&attention, q, k, v, false);
        let gradients = reference::backward(&attention, q, k, v, dout, true);
        Results {
            out: outcome.out,
            lse: outcome.lse,
            dq: gradients.dq,
            dk: gradients.dk,
            dv: gradients.dv,
            dbias: gradients.dbias,
        }
    }
}
