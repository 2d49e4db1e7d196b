"""Kernels in Triton, one for each thing that its compiler does in its own way."""

import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def axpy(x, y, out, n, alpha, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    inside = at < n
    tl.store(out + at, alpha * tl.load(x + at, inside) + tl.load(y + at, inside, other=0), inside)


@triton.jit
def sums(x, out, columns, B: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, B)
    values = tl.load(x + row * columns + at, at < columns, other=0.0)
    tl.store(out + row, tl.sum(values, 0))
    tl.atomic_add(out + tl.num_programs(0), tl.sum(values, 0))


@triton.jit
def extrema(x, high, place, low, columns, B: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, B)
    values = tl.load(x + row * columns + at, at < columns, other=float("-inf"))
    best, where = tl.max(values, 0, return_indices=True)
    tl.store(high + row, best)
    tl.store(place + row, where)
    tl.store(low + row, tl.min(tl.where(at < columns, values, float("inf")), 0))


@triton.jit
def softmax(x, out, columns, B: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, B)
    values = tl.load(x + row * columns + at, at < columns, other=float("-inf")).to(tl.float32)
    values = tl.exp(values - tl.max(values, 0))
    tl.store(out + row * columns + at, (values / tl.sum(values, 0)).to(out.dtype.element_ty), at < columns)


@triton.jit
def layer_norm(x, weight, bias, out, columns, eps, B: tl.constexpr):
    row = tl.program_id(0)
    mean = tl.zeros([B], tl.float32)
    squares = tl.zeros([B], tl.float32)
    for start in range(0, columns, B):
        at = start + tl.arange(0, B)
        values = tl.load(x + row * columns + at, at < columns, other=0.0).to(tl.float32)
        mean += values
        squares += values * values
    mean = tl.sum(mean, 0) / columns
    scale = 1 / tl.sqrt(tl.sum(squares, 0) / columns - mean * mean + eps)
    for start in range(0, columns, B):
        at = start + tl.arange(0, B)
        inside = at < columns
        values = tl.load(x + row * columns + at, inside).to(tl.float32)
        values = (values - mean) * scale * tl.load(weight + at, inside) + tl.load(bias + at, inside)
        tl.store(out + row * columns + at, values.to(out.dtype.element_ty), inside)


@triton.jit
def running_sums(x, out, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + at, tl.cumsum(tl.load(x + at), 0))


@triton.jit
def _linear(a0, b0, a1, b1):
    return a0 * a1, b0 * a1 + b1


@triton.jit
def recurrence(a, b, out, B: tl.constexpr):
    """h[i] = a[i] h[i - 1] + b[i], by an associative scan."""
    at = tl.program_id(0) * B + tl.arange(0, B)
    _, h = tl.associative_scan((tl.load(a + at), tl.load(b + at)), 0, _linear)
    tl.store(out + at, h)


@triton.jit
def histogram(x, out, n, B: tl.constexpr, BINS: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    counts = tl.histogram(tl.load(x + at, at < n, other=0).to(tl.int32), BINS, mask=at < n)
    tl.atomic_add(out + tl.arange(0, BINS), counts)


@triton.jit
def transpose(x, out, rows, columns, B: tl.constexpr):
    r = tl.program_id(0) * B + tl.arange(0, B)
    c = tl.program_id(1) * B + tl.arange(0, B)
    tile = tl.load(x + r[:, None] * columns + c[None, :], (r[:, None] < rows) & (c[None, :] < columns))
    tl.store(out + c[:, None] * rows + r[None, :], tile.T, (c[:, None] < columns) & (r[None, :] < rows))


@triton.jit
def sort_rows(x, out, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + at, tl.sort(tl.load(x + at)))


@triton.jit
def gather_rows(x, places, out, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + at, tl.gather(tl.load(x + at), tl.load(places + at), 0))


@triton.jit
def matmul(a, b, c, m, n, k, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr):
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    rk = tl.arange(0, BK)
    left = a + rm[:, None] * k + rk[None, :]
    right = b + rk[:, None] * n + rn[None, :]
    total = tl.zeros((BM, BN), tl.int32 if a.dtype.element_ty == tl.int8 else tl.float32)
    for start in range(0, k, BK):
        x = tl.load(left, rk[None, :] < k - start, other=0.0)
        y = tl.load(right, rk[:, None] < k - start, other=0.0)
        total = tl.dot(x, y, total, input_precision=PRECISION, out_dtype=total.dtype)
        left += BK
        right += BK * n
    tl.store(c + rm[:, None] * n + rn[None, :], total.to(c.dtype.element_ty), (rm[:, None] < m) & (rn[None, :] < n))


@triton.jit
def matmul_descriptors(a, b, c, m, n, k, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """Tiles by tensor maps that the host has made."""
    row = tl.program_id(0) * BM
    column = tl.program_id(1) * BN
    total = tl.zeros((BM, BN), tl.float32)
    for start in range(0, k, BK):
        total = tl.dot(a.load([row, start]), b.load([start, column]), total)
    c.store([row, column], total.to(tl.float16))


@triton.jit
def matmul_made_descriptors(a, b, c, m, n, k, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """Tiles by tensor maps that each block makes."""
    left = tl.make_tensor_descriptor(a, [m, k], [k, 1], [BM, BK])
    right = tl.make_tensor_descriptor(b, [k, n], [n, 1], [BK, BN])
    result = tl.make_tensor_descriptor(c, [m, n], [n, 1], [BM, BN])
    matmul_descriptors(left, right, result, m, n, k, BM, BN, BK)


@triton.jit
def attention(q, k, v, out, scale, rows, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr, CAUSAL: tl.constexpr):
    """Exact attention of one head, keys and values block by block."""
    head = tl.program_id(1) * rows * D
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    d = tl.arange(0, D)
    query = tl.load(q + head + rm[:, None] * D + d[None, :])
    high = tl.full([BM], float("-inf"), tl.float32)
    total = tl.zeros([BM], tl.float32)
    sums = tl.zeros([BM, D], tl.float32)
    end = (tl.program_id(0) + 1) * BM if CAUSAL else rows
    for start in range(0, end, BN):
        rn = start + tl.arange(0, BN)
        key = tl.load(k + head + rn[None, :] * D + d[:, None])
        scores = tl.dot(query, key) * scale
        if CAUSAL:
            scores = tl.where(rm[:, None] >= rn[None, :], scores, float("-inf"))
        above = tl.maximum(high, tl.max(scores, 1))
        weights = tl.exp2(scores - above[:, None])
        factor = tl.exp2(high - above)
        total = total * factor + tl.sum(weights, 1)
        value = tl.load(v + head + rn[:, None] * D + d[None, :])
        sums = tl.dot(weights.to(value.dtype), value, sums * factor[:, None])
        high = above
    tl.store(out + head + rm[:, None] * D + d[None, :], (sums / total[:, None]).to(out.dtype.element_ty))


@triton.jit
def mathematics(x, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    inside = at < n
    value = tl.load(x + at, inside, other=1.0)
    tl.store(out + at, tl.sin(value), inside)
    tl.store(out + n + at, tl.exp(value), inside)
    tl.store(out + 2 * n + at, tl.log(tl.abs(value)), inside)
    tl.store(out + 3 * n + at, tl.rsqrt(tl.abs(value)), inside)
    tl.store(out + 4 * n + at, tl.erf(value), inside)
    tl.store(out + 5 * n + at, libdevice.pow(tl.abs(value), 1.3), inside)
    tl.store(out + 6 * n + at, tl.floor(value) + tl.ceil(value * 0.5), inside)
    tl.store(out + 7 * n + at, tl.fma(value, value, 1.0) / (1.0 + tl.abs(value)), inside)


@triton.jit
def conversions(x, to8, wide8, half, bfloat, ints, B: tl.constexpr):
    at = tl.arange(0, B)
    value = tl.load(x + at)
    tl.store(to8 + at, value.to(tl.float8e4nv).to(tl.uint8, bitcast=True))
    tl.store(wide8 + at, value.to(tl.float8e5).to(tl.uint8, bitcast=True))
    tl.store(half + at, value.to(tl.float8e5).to(tl.float16) + value.to(tl.float16))
    tl.store(bfloat + at, value.to(tl.bfloat16))
    tl.store(ints + at, value.to(tl.int32) * 2)


@triton.jit
def random_numbers(out, seed, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + at, tl.randint(seed, at))


@triton.jit
def integers(a, b, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    inside = at < n
    x = tl.load(a + at, inside, other=1)
    y = tl.load(b + at, inside, other=1)
    tl.store(out + at, x // y, inside)
    tl.store(out + n + at, x % y, inside)
    tl.store(out + 2 * n + at, (x << (at & 7)) ^ (y >> 3), inside)
    tl.store(out + 3 * n + at, tl.minimum(x, y) - tl.maximum(x, y) * 3, inside)
    tl.store(out + 4 * n + at, tl.umulhi(x.to(tl.uint32), y.to(tl.uint32)).to(tl.int32), inside)


@triton.jit
def atomics(words, floats, x, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    value = tl.load(x + at)
    tl.atomic_add(words + (at % 4), value)
    tl.atomic_max(words + 4 + (at % 2), value)
    tl.atomic_min(words + 6 + (at % 2), value)
    tl.atomic_xor(words + 8 + (at % 3), value)
    tl.atomic_or(words + 11 + at * 0, 1 << (value & 15))
    tl.atomic_add(floats + at % 2, value.to(tl.float32))
    tl.atomic_add(floats + 2 + at * 0, 0.5, mask=value > 0)


@triton.jit
def increments(lock, counter):
    """A lock by compare and swap, one program after another."""
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    tl.store(counter, tl.load(counter, volatile=True) + 1)
    tl.debug_barrier()
    tl.atomic_xchg(lock, 0)
