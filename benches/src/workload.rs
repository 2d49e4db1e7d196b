//! What attention of given sizes costs at least, whatever computes it: score elements, multiply-adds, bytes.

use flash_attention::{Causal, Dtype};
use serde::Serialize;

/// Forward or backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    /// The output and the log-sum-exp.
    Forward,
    /// The gradients of q, k and v.
    Backward,
}

impl Pass {
    /// Both.
    pub const BOTH: [Pass; 2] = [Pass::Forward, Pass::Backward];

    /// Its name in tables and pictures.
    pub fn name(self) -> &'static str {
        match self {
            Pass::Forward => "forward",
            Pass::Backward => "backward",
        }
    }
}

/// The sizes of one attention problem with as many key heads as query heads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Workload {
    /// Batch entries.
    pub batch: usize,
    /// Heads.
    pub heads: usize,
    /// Queries a head.
    pub queries: usize,
    /// Keys a head.
    pub keys: usize,
    /// Columns of q and k.
    pub head_dim: usize,
    /// Columns of v and out.
    pub value_dim: usize,
    /// Which keys a query sees.
    #[serde(serialize_with = "causal_name")]
    pub causal: Causal,
    /// How elements are stored.
    #[serde(serialize_with = "dtype_name")]
    pub dtype: Dtype,
}

fn causal_name<S: serde::Serializer>(causal: &Causal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match causal {
        Causal::UpperLeft => "upper-left",
        Causal::LowerRight => "lower-right",
        _ => "none",
    })
}

fn dtype_name<S: serde::Serializer>(dtype: &Dtype, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(dtype.name())
}

impl Workload {
    /// As many queries as keys, `d = dv`; causal is upper-left, which is then lower-right too.
    pub fn square(
        batch: usize,
        heads: usize,
        seq: usize,
        dim: usize,
        causal: bool,
        dtype: Dtype,
    ) -> Workload {
        Workload {
            batch,
            heads,
            queries: seq,
            keys: seq,
            head_dim: dim,
            value_dim: dim,
            causal: if causal { Causal::UpperLeft } else { Causal::None },
            dtype,
        }
    }

    /// Pairs of a query and a key that it sees, of all heads and batch entries.
    pub fn scores(&self) -> u64 {
        (self.batch * self.heads) as u64 * visible(self.causal, self.queries as u64, self.keys as u64)
    }

    /// Keys that a query sees on average.
    pub fn average_keys(&self) -> f64 {
        visible(self.causal, self.queries as u64, self.keys as u64) as f64 / self.queries as f64
    }

    /// Floating-point operations: `2 b h sq avg_sk (d + dv)`; backward 2.5 times as many (five products for two).
    pub fn flops(&self, pass: Pass) -> f64 {
        let rows = (self.batch * self.heads * self.queries) as f64;
        let forward = 2.0 * rows * self.average_keys() * (self.head_dim + self.value_dim) as f64;
        match pass {
            Pass::Forward => forward,
            Pass::Backward => 2.5 * forward,
        }
    }

    /// Bytes of `[batch, heads, rows, columns]` in the storage type.
    fn bytes(&self, rows: usize, columns: usize) -> u64 {
        (self.batch * self.heads * rows * columns * self.dtype.size()) as u64
    }

    /// The sizes in a few characters: `1x4x512 d64 f16 causal`.
    pub fn label(&self) -> String {
        let Workload { batch, heads, queries, keys, head_dim, value_dim, .. } = *self;
        let same = |a: usize, b: usize| if a == b { a.to_string() } else { format!("{a}/{b}") };
        format!(
            "{batch}x{heads}x{} d{} {}{}",
            same(queries, keys),
            same(head_dim, value_dim),
            self.dtype,
            match self.causal {
                Causal::None => "",
                Causal::LowerRight if queries != keys => " lower-right",
                _ => " causal",
            }
        )
    }
}

/// Pairs `(i, j)` of a query and a key that it sees.
fn visible(causal: Causal, queries: u64, keys: u64) -> u64 {
    // The sum of 1 ..= n.
    let triangle = |n: u64| n * (n + 1) / 2;
    match causal {
        // Query i sees i + 1 keys, at most all of them.
        Causal::UpperLeft => triangle(queries.min(keys)) + queries.saturating_sub(keys) * keys,
        // Counted from the last query, which sees all keys, each sees one less; the first may see none.
        Causal::LowerRight => triangle(keys) - triangle(keys.saturating_sub(queries)),
        _ => queries * keys,
    }
}

/// What one kernel of the fused backends computes, by its name's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// out and lse.
    Forward,
    /// rowsum(dout * out).
    Delta,
    /// dk and dv.
    GradKeyValue,
    /// dq.
    GradQuery,
    /// dk, dv and f32 sums of dq.
    GradFused,
    /// dq from those sums.
    GradConvert,
}

impl Role {
    /// All, in the order in which they run; the last two in place of the two before.
    pub const ALL: [Role; 6] =
        [Role::Forward, Role::Delta, Role::GradKeyValue, Role::GradQuery, Role::GradFused, Role::GradConvert];

    /// What a kernel of this name computes, if that is known here.
    pub fn of(kernel: &str) -> Option<Role> {
        // The longest prefix decides: names of one kernel begin with those of another.
        let longest = |role: Role| {
            let prefixes = role.prefixes().iter().filter(|prefix| kernel.starts_with(**prefix));
            prefixes.map(|prefix| (prefix.len(), role)).max_by_key(|(length, _)| *length)
        };
        Role::ALL.into_iter().filter_map(longest).max_by_key(|(length, _)| *length).map(|(_, role)| role)
    }

    fn prefixes(self) -> &'static [&'static str] {
        match self {
            Role::Forward => &["forward", "flash_forward", "flash_general"],
            Role::Delta => &["delta"],
            // One kernel, or, for wide heads, two.
            Role::GradKeyValue => &[
                "grad_key_value",
                "flash_grad_key",
                "flash_grad_value",
                "flash_general_grad_key",
                "flash_general_grad_value",
            ],
            Role::GradQuery => &["grad_query", "flash_grad_query", "flash_general_grad_query"],
            Role::GradFused => &["flash_grad_fused", "flash_general_grad_fused"],
            Role::GradConvert => &["flash_grad_convert"],
        }
    }

    /// Bytes that it must read and write if every input were read once and every output written once.
    pub fn minimum_bytes(self, work: &Workload) -> Traffic {
        let q = work.bytes(work.queries, work.head_dim);
        let k = work.bytes(work.keys, work.head_dim);
        let v = work.bytes(work.keys, work.value_dim);
        let out = work.bytes(work.queries, work.value_dim);
        // lse and delta: one f32 a row.
        let rows = (work.batch * work.heads * work.queries * size_of::<f32>()) as u64;
        let sums = q / work.dtype.size() as u64 * size_of::<f32>() as u64;
        let (load, store) = match self {
            Role::Forward => (q + k + v, out + rows),
            Role::Delta => (2 * out, rows),
            Role::GradKeyValue => (q + k + v + out + 2 * rows, k + v),
            Role::GradQuery => (q + k + v + out + 2 * rows, q),
            Role::GradFused => (q + k + v + out + 2 * rows, k + v + sums),
            Role::GradConvert => (sums, q),
        };
        Traffic { load, store }
    }

    /// Multiply-adds of the matrix products that it computes, per score element: each product takes one a column.
    pub fn multiply_adds(self, work: &Workload) -> Option<usize> {
        let (d, dv) = (work.head_dim, work.value_dim);
        match self {
            // q k, p v
            Role::Forward => Some(d + dv),
            Role::Delta | Role::GradConvert => None,
            // q k, dout v, p dout, ds q
            Role::GradKeyValue => Some(2 * d + 2 * dv),
            // q k, dout v, ds k
            Role::GradQuery => Some(2 * d + dv),
            // q k, dout v, p dout, ds q, ds k
            Role::GradFused => Some(3 * d + 2 * dv),
        }
    }
}

/// Bytes one way and the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Read.
    pub load: u64,
    /// Written.
    pub store: u64,
}

impl Traffic {
    /// Both ways.
    pub fn total(self) -> u64 {
        self.load + self.store
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const CAUSALS: [Causal; 3] = [Causal::None, Causal::UpperLeft, Causal::LowerRight];

    #[test]
    fn visible_pairs_are_those_that_counting_finds() {
        for causal in CAUSALS {
            for (queries, keys) in (1..12i64).flat_map(|q| (1..12i64).map(move |k| (q, k))) {
                let sees = |i: i64, j: i64| match causal {
                    Causal::UpperLeft => j <= i,
                    Causal::LowerRight => j <= i + keys - queries,
                    _ => true,
                };
                let pairs = (0..queries).flat_map(|i| (0..keys).map(move |j| (i, j)));
                let counted = pairs.filter(|&(i, j)| sees(i, j)).count() as u64;
                assert_eq!(
                    visible(causal, queries as u64, keys as u64),
                    counted,
                    "{causal:?} {queries} {keys}"
                );
            }
        }
    }

    #[test]
    fn forward_of_square_attention_is_four_b_h_s_s_d() {
        let work = Workload::square(2, 16, 8192, 128, false, Dtype::F16);
        assert_eq!(work.flops(Pass::Forward), 4.0 * 2.0 * 16.0 * 8192.0 * 8192.0 * 128.0);
        assert_eq!(work.flops(Pass::Backward), 2.5 * work.flops(Pass::Forward));
    }

    #[test]
    fn causal_counts_half_the_keys_and_half_of_the_diagonal() {
        let work = Workload::square(1, 1, 1024, 64, true, Dtype::F16);
        assert_eq!(work.average_keys(), 512.5);
        let longer = Workload { queries: 100, keys: 1000, causal: Causal::LowerRight, ..work };
        // The first query sees 901 keys, the last 1000.
        assert_eq!(longer.average_keys(), 950.5);
        assert_eq!(Workload { causal: Causal::UpperLeft, ..longer }.average_keys(), 50.5);
    }

    #[test]
    fn both_head_dims_count() {
        let work = Workload { value_dim: 32, ..Workload::square(1, 1, 10, 64, false, Dtype::F32) };
        assert_eq!(work.flops(Pass::Forward), 2.0 * 100.0 * 96.0);
        assert_eq!(work.label(), "1x1x10 d64/32 f32");
        assert_eq!(Workload::square(1, 4, 512, 64, true, Dtype::F16).label(), "1x4x512 d64 f16 causal");
    }

    #[rstest]
    #[case("forward_f16_d64", Some(Role::Forward))]
    #[case("flash_forward_bf16_d192_128", Some(Role::Forward))]
    #[case("flash_general_f16_d64", Some(Role::Forward))]
    #[case("flash_grad_key_value_f16_d64", Some(Role::GradKeyValue))]
    #[case("flash_grad_query_bf16_d128_64", Some(Role::GradQuery))]
    #[case("flash_grad_fused_f16_d128", Some(Role::GradFused))]
    #[case("flash_general_grad_fused_bf16_d192_128", Some(Role::GradFused))]
    #[case("flash_grad_convert_bf16", Some(Role::GradConvert))]
    #[case("flash_general_grad_key_value_f16_d64", Some(Role::GradKeyValue))]
    #[case("flash_general_grad_query_f16_d64", Some(Role::GradQuery))]
    #[case("flash_grad_key_f16_d256", Some(Role::GradKeyValue))]
    #[case("flash_general_grad_value_bf16_d192", Some(Role::GradKeyValue))]
    #[case("delta_bf16", Some(Role::Delta))]
    #[case("grad_key_value_f32_d256", Some(Role::GradKeyValue))]
    #[case("grad_query_f32_d256", Some(Role::GradQuery))]
    #[case("grad_bias_f32_d256", None)]
    fn roles_are_read_from_kernel_names(#[case] kernel: &str, #[case] role: Option<Role>) {
        assert_eq!(Role::of(kernel), role);
    }

    #[test]
    fn the_least_traffic_is_every_tensor_once() {
        let work = Workload { value_dim: 8, ..Workload::square(2, 3, 10, 16, false, Dtype::F16) };
        let (wide, narrow, rows) = (2 * 3 * 10 * 16 * 2, 2 * 3 * 10 * 8 * 2, 2 * 3 * 10 * 4);
        let minimum = |role: Role| role.minimum_bytes(&work);
        assert_eq!(minimum(Role::Forward), Traffic { load: 2 * wide + narrow, store: narrow + rows });
        assert_eq!(minimum(Role::Delta), Traffic { load: 2 * narrow, store: rows });
        assert_eq!(minimum(Role::GradKeyValue).store, wide + narrow);
        assert_eq!(minimum(Role::GradQuery), Traffic { load: 2 * wide + 2 * narrow + 2 * rows, store: wide });
        let fused = minimum(Role::GradFused);
        assert_eq!(fused.load, minimum(Role::GradKeyValue).load);
        assert_eq!(fused.store, wide + narrow + 2 * wide);
        assert_eq!(minimum(Role::GradConvert), Traffic { load: 2 * wide, store: wide });
        assert_eq!(Role::Forward.multiply_adds(&work), Some(24));
    }

    #[test]
    fn backward_products_are_seven_by_two_kernels_and_five_by_one() {
        let work = Workload::square(1, 1, 4, 10, false, Dtype::F32);
        let sum = |roles: [Role; 2]| roles.iter().filter_map(|role| role.multiply_adds(&work)).sum::<usize>();
        assert_eq!(sum([Role::GradKeyValue, Role::GradQuery]), 70);
        assert_eq!(sum([Role::GradFused, Role::GradConvert]), 50);
    }
}
