"""A flash forward kernel in Triton: the peer that a user would write. Importing it needs Triton."""

import triton
import triton.language as tl


@triton.jit
def triton_keys(sums, largest, total, queries, k, v, base, rows, begin, end, factor,
                MASKED: tl.constexpr, D: tl.constexpr, KEYS: tl.constexpr):
    """Adds the keys from begin to end to the running sums of a block of queries."""
    keys = tl.arange(0, KEYS)
    columns = tl.arange(0, D)
    for start in range(begin, end, KEYS):
        at = base + (start + keys)[:, None] * D + columns[None, :]
        scores = tl.dot(queries, tl.trans(tl.load(k + at))) * factor
        if MASKED:
            scores = tl.where(rows[:, None] >= start + keys[None, :], scores, float("-inf"))
        new = tl.maximum(largest, tl.max(scores, 1))
        weights = tl.exp2(scores - new[:, None])
        shrink = tl.exp2(largest - new)
        total = total * shrink + tl.sum(weights, 1)
        sums = sums * shrink[:, None] + tl.dot(weights.to(queries.dtype), tl.load(v + at))
        largest = new
    return sums, largest, total

@triton.autotune(
    configs=[triton.Config({"ROWS": rows, "KEYS": keys}, num_warps=warps, num_stages=stages)
             for rows, keys, warps in [(128, 128, 8), (128, 64, 8), (128, 64, 4), (128, 32, 8), (64, 64, 4), (64, 32, 4)]
             for stages in [2, 3]],
    key=["seq", "CAUSAL", "D"])
@triton.jit
def triton_forward(q, k, v, out, scale, seq, CAUSAL: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr,
                   KEYS: tl.constexpr):
    """Flash attention on contiguous [batch, heads, seq, D]; seq is a multiple of ROWS, and ROWS of KEYS."""
    block = tl.program_id(0)
    base = tl.program_id(1).to(tl.int64) * seq * D
    rows = block * ROWS + tl.arange(0, ROWS)
    place = base + rows[:, None] * D + tl.arange(0, D)[None, :]
    queries = tl.load(q + place)
    sums = tl.zeros([ROWS, D], tl.float32)
    largest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    # Scores in units of ln 2, for exp2.
    factor = scale * 1.4426950408889634
    if CAUSAL:
        sums, largest, total = triton_keys(sums, largest, total, queries, k, v, base, rows, 0, block * ROWS, factor,
                                           False, D, KEYS)
        sums, largest, total = triton_keys(sums, largest, total, queries, k, v, base, rows, block * ROWS,
                                           (block + 1) * ROWS, factor, True, D, KEYS)
    else:
        sums, largest, total = triton_keys(sums, largest, total, queries, k, v, base, rows, 0, seq, factor, False, D, KEYS)
    tl.store(out + place, (sums / total[:, None]).to(queries.dtype))
