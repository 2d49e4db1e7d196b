"""Flash attention in Triton, forward and backward: the peer that a user would write. Importing it needs Triton.

All tensors are contiguous [batch, heads, seq, D], the log-sum-exp and delta [batch, heads, seq] in f32; seq is a multiple of every
block size. Backward is the two kernels of FlashAttention-2 (Dao 2023, algorithm 2): one adds up dk and dv for a block of keys, the
other dq for a block of queries; neither needs atomic additions.
"""

import triton
import triton.language as tl

# Scores are in units of ln 2, for exp2; so is the log-sum-exp that forward keeps for backward.
LOG2E = tl.constexpr(1.4426950408889634)


def blocks(shapes):
    """What the autotuner tries: rows and keys of a tile, with so many warps, at two depths of the pipeline."""
    return [triton.Config({"ROWS": rows, "KEYS": keys}, num_warps=warps, num_stages=stages)
            for rows, keys, warps in shapes for stages in [2, 3]]


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
    configs=blocks([(128, 128, 8), (128, 64, 8), (128, 64, 4), (128, 32, 8), (64, 64, 4), (64, 32, 4)]),
    key=["seq", "CAUSAL", "D"])
@triton.jit
def triton_forward(q, k, v, out, lse, scale, seq, CAUSAL: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr):
    """The output of a block of queries, and its log-sum-exp. ROWS is a multiple of KEYS."""
    block = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    base = head * seq * D
    rows = block * ROWS + tl.arange(0, ROWS)
    place = base + rows[:, None] * D + tl.arange(0, D)[None, :]
    queries = tl.load(q + place)
    sums = tl.zeros([ROWS, D], tl.float32)
    largest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    factor = scale * LOG2E
    if CAUSAL:
        sums, largest, total = triton_keys(sums, largest, total, queries, k, v, base, rows, 0, block * ROWS, factor,
                                           False, D, KEYS)
        sums, largest, total = triton_keys(sums, largest, total, queries, k, v, base, rows, block * ROWS,
                                           (block + 1) * ROWS, factor, True, D, KEYS)
    else:
        sums, largest, total = triton_keys(sums, largest, total, queries, k, v, base, rows, 0, seq, factor, False, D, KEYS)
    tl.store(out + place, (sums / total[:, None]).to(queries.dtype))
    tl.store(lse + head * seq + rows, largest + tl.log2(total))


@triton.jit
def triton_delta(out, dout, delta, D: tl.constexpr, ROWS: tl.constexpr):
    """delta: the sum of out * dout over the columns of each row."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    place = rows[:, None] * D + tl.arange(0, D)[None, :]
    product = tl.load(out + place).to(tl.float32) * tl.load(dout + place).to(tl.float32)
    tl.store(delta + rows, tl.sum(product, 1))


@triton.jit
def triton_rows(dk, dv, keys_block, values_block, q, dout, lse, delta, base, rest, keys, begin, end, factor,
                MASKED: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr):
    """Adds the queries from begin to end to dk (yet without the scale) and dv of a block of keys. Tiles are [keys, queries]."""
    columns = tl.arange(0, D)
    for start in range(begin, end, ROWS):
        rows = start + tl.arange(0, ROWS)
        at = base + rows[:, None] * D + columns[None, :]
        queries = tl.load(q + at)
        gradient = tl.load(dout + at)
        weights = tl.exp2(tl.dot(keys_block, tl.trans(queries)) * factor - tl.load(lse + rest + rows)[None, :])
        if MASKED:
            weights = tl.where(rows[None, :] >= keys[:, None], weights, 0.0)
        dv += tl.dot(weights.to(queries.dtype), gradient)
        dweights = tl.dot(values_block, tl.trans(gradient))
        dscores = weights * (dweights - tl.load(delta + rest + rows)[None, :])
        dk += tl.dot(dscores.to(queries.dtype), queries)
    return dk, dv


@triton.autotune(
    configs=blocks([(64, 128, 8), (32, 128, 8), (32, 128, 4), (64, 64, 4), (32, 64, 4), (32, 32, 4)]),
    key=["seq", "CAUSAL", "D"])
@triton.jit
def triton_dkdv(q, k, v, dout, lse, delta, dk, dv, scale, seq, CAUSAL: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr,
                KEYS: tl.constexpr):
    """dk and dv of a block of keys. KEYS is a multiple of ROWS."""
    first = tl.program_id(0) * KEYS
    head = tl.program_id(1).to(tl.int64)
    base, rest = head * seq * D, head * seq
    keys = first + tl.arange(0, KEYS)
    place = base + keys[:, None] * D + tl.arange(0, D)[None, :]
    keys_block = tl.load(k + place)
    values_block = tl.load(v + place)
    dk_sum = tl.zeros([KEYS, D], tl.float32)
    dv_sum = tl.zeros([KEYS, D], tl.float32)
    factor = scale * LOG2E
    begin = 0
    if CAUSAL:
        dk_sum, dv_sum = triton_rows(dk_sum, dv_sum, keys_block, values_block, q, dout, lse, delta, base, rest, keys,
                                     first, first + KEYS, factor, True, D, ROWS)
        begin = first + KEYS
    dk_sum, dv_sum = triton_rows(dk_sum, dv_sum, keys_block, values_block, q, dout, lse, delta, base, rest, keys,
                                 begin, seq, factor, False, D, ROWS)
    tl.store(dk + place, (dk_sum * scale).to(keys_block.dtype))
    tl.store(dv + place, dv_sum.to(keys_block.dtype))


@triton.jit
def triton_columns(dq, queries, gradient, k, v, lse, delta, base, rows, begin, end, factor,
                   MASKED: tl.constexpr, D: tl.constexpr, KEYS: tl.constexpr):
    """Adds the keys from begin to end to dq (yet without the scale) of a block of queries."""
    columns = tl.arange(0, D)
    for start in range(begin, end, KEYS):
        keys = start + tl.arange(0, KEYS)
        at = base + keys[:, None] * D + columns[None, :]
        keys_block = tl.load(k + at)
        weights = tl.exp2(tl.dot(queries, tl.trans(keys_block)) * factor - lse[:, None])
        if MASKED:
            weights = tl.where(rows[:, None] >= keys[None, :], weights, 0.0)
        dweights = tl.dot(gradient, tl.trans(tl.load(v + at)))
        dscores = weights * (dweights - delta[:, None])
        dq += tl.dot(dscores.to(queries.dtype), keys_block)
    return dq


@triton.autotune(
    configs=blocks([(128, 64, 8), (128, 32, 8), (128, 32, 4), (64, 64, 4), (64, 32, 4), (32, 32, 4)]),
    key=["seq", "CAUSAL", "D"])
@triton.jit
def triton_dq(q, k, v, dout, lse, delta, dq, scale, seq, CAUSAL: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr,
              KEYS: tl.constexpr):
    """dq of a block of queries. ROWS is a multiple of KEYS."""
    first = tl.program_id(0) * ROWS
    head = tl.program_id(1).to(tl.int64)
    base, rest = head * seq * D, head * seq
    rows = first + tl.arange(0, ROWS)
    place = base + rows[:, None] * D + tl.arange(0, D)[None, :]
    queries, gradient = tl.load(q + place), tl.load(dout + place)
    lse_rows, delta_rows = tl.load(lse + rest + rows), tl.load(delta + rest + rows)
    sums = tl.zeros([ROWS, D], tl.float32)
    factor = scale * LOG2E
    if CAUSAL:
        sums = triton_columns(sums, queries, gradient, k, v, lse_rows, delta_rows, base, rows, 0, first, factor,
                              False, D, KEYS)
        sums = triton_columns(sums, queries, gradient, k, v, lse_rows, delta_rows, base, rows, first, first + ROWS, factor,
                              True, D, KEYS)
    else:
        sums = triton_columns(sums, queries, gradient, k, v, lse_rows, delta_rows, base, rows, 0, seq, factor, False, D, KEYS)
    tl.store(dq + place, (sums * scale).to(queries.dtype))


class TritonAttention:
    """Forward and backward on PyTorch's tensors; all memory is taken before, as for ours."""

    def __init__(self, torch, q, k, v, causal):
        self.inputs, self.causal = (q, k, v), causal
        self.out = torch.empty_like(q)
        self.gradients = [torch.empty_like(x) for x in self.inputs]
        self.lse, self.delta = (torch.empty(q.shape[:3], dtype=torch.float32, device=q.device) for _ in range(2))
        batch, heads, self.seq, self.dim = q.shape
        self.heads, self.scale = batch * heads, self.dim**-0.5

    def forward(self):
        grid = lambda chosen: (self.seq // chosen["ROWS"], self.heads)
        triton_forward[grid](*self.inputs, self.out, self.lse, self.scale, self.seq, self.causal, self.dim)
        return self.out

    def backward(self, dout):
        """dq, dk and dv; forward has run."""
        dq, dk, dv = self.gradients
        triton_delta[(self.heads * self.seq // 32,)](self.out, dout, self.delta, self.dim, 32)
        shared = (*self.inputs, dout, self.lse, self.delta)
        grid = lambda chosen: (self.seq // chosen["KEYS"], self.heads)
        triton_dkdv[grid](*shared, dk, dv, self.scale, self.seq, self.causal, self.dim)
        grid = lambda chosen: (self.seq // chosen["ROWS"], self.heads)
        triton_dq[grid](*shared, dq, self.scale, self.seq, self.causal, self.dim)
        return self.gradients
