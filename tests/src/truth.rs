//! What is right, by the library's reference in f64.

use flash_attention::reference::{self, Attention, Repeated};

use crate::problem::{Inputs, Problem, Results};

impl Problem {
    /// The problem as the library's reference takes it, in f64.
    pub fn attention<'a>(&self, inputs: &'a Inputs) -> Attention<'a, f64> {
        let Problem { batch, key_heads, queries, keys, head_dim, value_dim, causal, .. } = *self;
        Attention {
            scale: f64::from(self.factor()),
            causal,
            mask: inputs.mask.as_ref().map(|(values, shape)| Repeated { values, shape: *shape }),
            bias: inputs.bias.as_ref().map(|(values, shape)| Repeated { values, shape: *shape }),
            ..Attention::new(batch, self.query_heads(), key_heads, queries, keys, head_dim, value_dim)
        }
    }

    /// What the library's reference gives in f64.
    pub fn reference(&self, inputs: &Inputs) -> Results {
        let Inputs { q, k, v, dout, .. } = inputs;
        let attention = self.attention(inputs);
        let outcome = reference::forward(&attention, q, k, v, false).expect("the inputs fit the problem");
        let gradients =
            reference::backward(&attention, q, k, v, dout, None, true).expect("the inputs fit the problem");
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
