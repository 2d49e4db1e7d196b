//! Forward: `out = softmax(scale * q kᵀ + bias) v` and the log-sum-exp, a block of queries at a time.
//!
//! | | |
//! |---|---|
//! | grid | query blocks (longest causal rows first) x query heads x batch |
//! | stays | Q in shared memory; O, row maxima and row sums in registers |
//! | streams | K in slices of columns, V in slabs of rows, one block of 64 keys after the other |
//! | bound by | FMA issue: at head dim 64, 128 FMA per 12 shared loads in S and per 12 in O |

use crate::config::{KernelConfig, assume_checked};
use crate::mask::{QueryRows, ScoreRules};
use crate::pipeline::row::{LanesOfARow, PerQuery};
use crate::pipeline::{Block, NOWHERE};
use crate::softmax::OnlineSoftmax;
use crate::tiles::fragment::Output;
use crate::tiles::operand::Operand;
use cuda_std::thread;
use flash_attention_abi::ForwardParams;
use flash_attention_abi::params::{ALIGNED_K, ALIGNED_OUT, ALIGNED_Q, ALIGNED_V};
use flash_attention_abi::tile::BLOCK_COLUMNS;
use flash_attention_geometry::grid::Work;

/// Barriers in the source: two around the use of each slice of K, two around that of each slab of V.
pub const BARRIERS: u32 = 4;

/// Shuffles in the source for each row of a thread: three for the maximum, three for the sum.
pub const SHUFFLES_A_ROW: u32 = 6;

/// The kernel.
///
/// # Safety
/// Launched as the host's plan says, on tensors that are as `params` describes them.
#[inline(always)]
pub unsafe fn forward<C: KernelConfig>(params: &ForwardParams) {
    let problem = &params.problem;
    // SAFETY: the caller's.
    unsafe { assume_checked(problem) };
    let query_blocks = problem.queries.div_ceil(C::BLOCK_ROWS);
    let Work { block, head, batch } = Work::decode(thread::block_idx_x(), query_blocks, problem.query_heads);
    let key_head = head / (problem.query_heads / problem.key_heads);
    let first_query = (query_blocks - 1 - block) * C::BLOCK_ROWS;
    let last_query = problem.queries.min(first_query + C::BLOCK_ROWS);

    let aligned = |bit| problem.aligned & bit != 0;
    let q = Operand::new(&params.q, batch, head, problem.queries, problem.head_dim, aligned(ALIGNED_Q));
    let k = Operand::new(&params.k, batch, key_head, problem.keys, problem.head_dim, aligned(ALIGNED_K));
    let v = Operand::new(&params.v, batch, key_head, problem.keys, problem.value_dim, aligned(ALIGNED_V));
    let out =
        Operand::new(&params.out, batch, head, problem.queries, problem.value_dim, aligned(ALIGNED_OUT));
    let rules = ScoreRules::<C::Element>::new(problem, &params.mask, &params.bias, batch, head);
    let range = rules.key_blocks(first_query, last_query, BLOCK_COLUMNS);

    // Beyond the last visible block nothing is fetched early.
    let first_row = |block| if block < range.end { block * BLOCK_COLUMNS } else { NOWHERE };

    let tiles = Block::<C>::new();
    let mut softmax = OnlineSoftmax::<C, LanesOfARow>::new();
    let mut output = Output::zero();
    // SAFETY: all threads are here, and every thread takes the same way through the blocks of keys.
    unsafe {
        tiles.keep_rows(&q, first_query);
        let mut stage = tiles.fetch_slice(&k, first_row(range.begin));
        for block in range.begin..range.end {
            let first_key = block * BLOCK_COLUMNS;

            // S = Q Kᵀ
            let mut scores = tiles.scores_of_kept_rows(&k, &mut stage, first_key, first_row(block + 1));
            let values = tiles.fetch_slab(&v, first_key);
            rules.apply::<C, QueryRows>(
                &mut scores,
                tiles.place,
                first_query,
                first_key,
                range.is_plain(block),
            );

            // P = softmax step
            let shrink = softmax.update_max(&scores);
            softmax.rescale(&shrink);
            softmax.exponentiate(&mut scores);
            output.scale_rows::<C>(C::OUTPUT_COLUMNS, &shrink);
            tiles.put_weights(&scores);

            // O += P V
            tiles.add_weighted(&mut output, &v, values, first_key);
        }
        let finished = softmax.finalize();
        tiles.store_output(&output, &finished.inverse_sum, &out, first_query);
        PerQuery::new(params.lse, problem, batch, head).store_rows::<C>(
            &finished.lse,
            tiles.place,
            first_query,
        );
    }
}
