"""The launches of the Triton kernels, and what NumPy makes of the same inputs."""

import math
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import triton_kernels as kernels
from cases import Case, Expected, Launch, f32, i32
from cuda_cases import bf16, rng

TYPES = {np.dtype(np.float32): "fp32", np.dtype(np.float16): "fp16", np.dtype(bf16): "bf16", np.dtype(np.int32): "i32", np.dtype(np.int8): "i8",
         np.dtype(np.uint8): "u8", np.dtype(np.int64): "i64", np.dtype(np.float64): "fp64", np.dtype(ml_dtypes.float8_e4m3fn): "fp8e4nv",
         np.dtype(ml_dtypes.float8_e5m2): "fp8e5"}


@dataclass
class TritonCase:
    """A case and how its kernel is specialised. Parameters are in the kernel's order: names of buffers, numbers, descriptors."""

    case: Case
    kernel: object
    parameters: dict
    constants: dict
    warps: int = 4
    stages: int = 3
    # Blocks of a cluster.
    blocks: int = 1
    least: int = 80
    descriptors: dict = field(default_factory=dict)


def make(name, kernel, grid, parameters, constants, expected, buffers, checked=None, **more):
    """`parameters` are buffers by name, or numbers as (type, value)."""
    case = Case(name, "", [Launch(kernel.__name__, grid, 0, [])], buffers, expected, checked=checked)
    return TritonCase(case, kernel, parameters, constants, **more)


def simple():
    x, y = (rng(s).standard_normal(1000).astype(np.float32) for s in (60, 61))
    out = np.zeros_like(x)
    yield make("axpy", kernels.axpy, 4, {"x": "x", "y": "y", "out": "out", "n": ("i32", 1000), "alpha": ("fp32", 0.5)}, {"B": 256},
               {"out": Expected(0.5 * x.astype(np.float64) + y, "f32", 1e-6)}, {"x": x, "y": y, "out": out})
    r = rng(62).standard_normal((8, 500)).astype(np.float32)
    sums = r.astype(np.float64).sum(1)
    yield make("sums", kernels.sums, 8, {"x": "x", "out": "out", "columns": ("i32", 500)}, {"B": 512},
               {"out": Expected(np.append(sums, sums.sum()), "f32", 1e-4)}, {"x": r, "out": np.zeros(9, np.float32)})
    yield make("extrema", kernels.extrema, 8, {"x": "x", "high": "high", "place": "place", "low": "low", "columns": ("i32", 500)}, {"B": 512},
               {"high": Expected(r.max(1), "f32"), "place": Expected(r.argmax(1), "i32"), "low": Expected(r.min(1), "f32")},
               {"x": r, "high": np.zeros(8, np.float32), "place": np.zeros(8, np.int32), "low": np.zeros(8, np.float32)})
    w = r.astype(np.float64)
    e = np.exp(w - w.max(1, keepdims=True))
    for kind, relative in ((np.float32, 0), (np.float16, 2**-10), (bf16, 2**-8)):
        short = {np.float32: "f32", np.float16: "f16", bf16: "bf16"}[kind]
        yield make(f"softmax_{short}", kernels.softmax, 8, {"x": "x", "out": "out", "columns": ("i32", 500)}, {"B": 512},
                   {"out": Expected(e / e.sum(1, keepdims=True), short, 1e-6, relative)}, {"x": r, "out": np.zeros(r.shape, kind)})
    h = (2 * r + 1).astype(np.float16)
    weight, bias = (rng(s).standard_normal(500).astype(np.float32) for s in (63, 64))
    c = h.astype(np.float64) - h.astype(np.float64).mean(1, keepdims=True)
    norm = c / np.sqrt((c**2).mean(1, keepdims=True) + 1e-5) * weight + bias
    yield make("layer_norm", kernels.layer_norm, 8,
               {"x": "x", "weight": "weight", "bias": "bias", "out": "out", "columns": ("i32", 500), "eps": ("fp32", 1e-5)}, {"B": 128},
               {"out": Expected(norm, "f16", 1e-4, 2**-10)}, {"x": h, "weight": weight, "bias": bias, "out": np.zeros_like(h)})
    p = rng(65).permutation(512).astype(np.int32)
    yield make("gather_rows", kernels.gather_rows, 1, {"x": "x", "places": "places", "out": "out"}, {"B": 512},
               {"out": Expected(x[:512][p], "f32")}, {"x": x[:512], "places": p, "out": np.zeros(512, np.float32)})
    m = rng(66).standard_normal((70, 90)).astype(np.float16)
    yield make("transpose", kernels.transpose, (3, 3), {"x": "x", "out": "out", "rows": ("i32", 70), "columns": ("i32", 90)}, {"B": 32},
               {"out": Expected(m.T, "f16")}, {"x": m, "out": np.zeros(m.size, np.float16)})


def scans_and_sorts():
    x = rng(67).integers(-100, 100, (2, 512), dtype=np.int32)
    yield make("running_sums", kernels.running_sums, 2, {"x": "x", "out": "out"}, {"B": 512}, {"out": Expected(np.cumsum(x, 1), "i32")},
               {"x": x, "out": np.zeros_like(x)})
    a, b = rng(68).uniform(0.5, 1, (2, 256)).astype(np.float32), rng(69).standard_normal((2, 256)).astype(np.float32)
    h, state = np.zeros((2, 256)), np.zeros(2)
    for i in range(256):
        state = a[:, i].astype(np.float64) * state + b[:, i]
        h[:, i] = state
    yield make("recurrence", kernels.recurrence, 2, {"a": "a", "b": "b", "out": "out"}, {"B": 256}, {"out": Expected(h, "f32", 1e-5)},
               {"a": a, "b": b, "out": np.zeros_like(a)})
    u = rng(70).integers(0, 64, 3000, dtype=np.uint8)
    yield make("histogram", kernels.histogram, 6, {"x": "x", "out": "out", "n": ("i32", 3000)}, {"B": 512, "BINS": 64},
               {"out": Expected(np.bincount(u, minlength=64), "i32")}, {"x": u, "out": np.zeros(64, np.int32)},
               # Several warps set the same bins to 0.
               checked="data race: write")
    for kind, short in ((np.int32, "i32"), (np.float32, "f32")):
        k = rng(71).integers(-1000, 1000, (2, 256)).astype(kind)
        yield make(f"sort_rows_{short}", kernels.sort_rows, 2, {"x": "x", "out": "out"}, {"B": 256}, {"out": Expected(np.sort(k, 1), short)},
                   {"x": k, "out": np.zeros_like(k)})


def products():
    def product(name, kind, result, tile, absolute, relative=0.0, precision="ieee", size=(128, 128, 96), exact=None, **more):
        m, n, k = size
        if kind == np.int8:
            a, b = (rng(s).integers(-128, 128, shape, dtype=np.int8) for s, shape in ((72, (m, k)), (73, (k, n))))
        else:
            a, b = (rng(s).standard_normal(shape).astype(kind) for s, shape in ((72, (m, k)), (73, (k, n))))
        c = a.astype(np.float64) @ b.astype(np.float64)
        short = {np.float32: "f32", np.float16: "f16", np.int32: "i32", bf16: "bf16"}[result]
        sizes = {"m": ("i32", m), "n": ("i32", n), "k": ("i32", k)}
        constants = dict(zip(("BM", "BN", "BK"), tile), PRECISION=precision)
        return make(name, kernels.matmul, (m // tile[0], n // tile[1]), {"a": "a", "b": "b", "c": "c", **sizes}, constants,
                    {"c": Expected(c, short, absolute, relative)}, {"a": a, "b": b, "c": np.zeros((m, n), result)}, **more)

    yield product("dot_f16", np.float16, np.float32, (64, 64, 32), 2e-5)
    yield product("dot_f16_warps_8", np.float16, np.float16, (128, 128, 32), 1e-4, 2**-10, warps=8)
    # 32 blocks of products, each cut to an f32 below 64.
    yield product("dot_f16_stages_4", np.float16, np.float32, (128, 64, 32), 32 * 2**-18, stages=4, size=(128, 64, 256))
    yield product("dot_bf16", bf16, bf16, (64, 128, 32), 1e-4, 2**-8)
    # Each factor is cut by up to 2^-10 of it.
    yield product("dot_tf32", np.float32, np.float32, (64, 64, 32), 0.1, precision="tf32")
    yield product("dot_tf32x3", np.float32, np.float32, (64, 64, 32), 1e-4, precision="tf32x3")
    yield product("dot_f32", np.float32, np.float32, (32, 64, 32), 2e-5)
    yield product("dot_s8", np.int8, np.int32, (64, 64, 32), 0)
    # Sums of e4m3 on the tensor cores of sm_90 keep 13 bits behind the binary point, unless the partial sums are added in f32.
    yield product("dot_e4m3", ml_dtypes.float8_e4m3fn, np.float32, (64, 64, 64), 0.02, least=89, size=(64, 128, 128))
    yield product("dot_e5m2", ml_dtypes.float8_e5m2, np.float32, (64, 64, 64), 0.02, least=89, size=(64, 128, 128))
    yield product("dot_cluster", np.float16, np.float32, (128, 128, 32), 2e-5, least=90, blocks=2)
    a, b = rng(74).standard_normal((128, 96)).astype(np.float16), rng(75).standard_normal((96, 128)).astype(np.float16)
    c = a.astype(np.float64) @ b.astype(np.float64)
    sizes = {"m": ("i32", 128), "n": ("i32", 128), "k": ("i32", 96)}
    for tile in ((64, 64, 32), (128, 64, 16)):
        bm, bn, bk = tile
        yield make(f"descriptors_{bm}_{bn}_{bk}", kernels.matmul_descriptors, (128 // bm, 128 // bn), {"a": "a", "b": "b", "c": "c", **sizes},
                   dict(zip(("BM", "BN", "BK"), tile)), {"c": Expected(c, "f16", 1e-4, 2**-10)},
                   {"a": a, "b": b, "c": np.zeros((128, 128), np.float16)}, least=90,
                   # Triton leaves out the fence between the initialisation of a barrier and the first copy that it counts.
                   checked="no `fence.proxy.async` after the write",
                   descriptors={"a": ((128, 96), (bm, bk)), "b": ((96, 128), (bk, bn)), "c": ((128, 128), (bm, bn))})
    yield make("made_descriptors", kernels.matmul_made_descriptors, (2, 2), {"a": "a", "b": "b", "c": "c", **sizes},
               {"BM": 64, "BN": 64, "BK": 32}, {"c": Expected(c, "f16", 1e-4, 2**-10)},
               {"a": a, "b": b, "c": np.zeros((128, 128), np.float16)}, least=90)
    yield from attentions()


def attentions():
    for causal in (False, True):
        for kind, short, d in ((np.float16, "f16", 64), (bf16, "bf16", 32)):
            q, k, v = (rng(s).standard_normal((2, 192, d)).astype(kind) for s in (76, 77, 78))
            scale = d**-0.5
            scores = q.astype(np.float64) @ k.astype(np.float64).transpose(0, 2, 1) * scale
            if causal:
                scores = np.where(np.tril(np.ones((192, 192), bool)), scores, -np.inf)
            p = np.exp(scores - scores.max(2, keepdims=True))
            out = p / p.sum(2, keepdims=True) @ v.astype(np.float64)
            yield make(f"attention_{short}_{'causal' if causal else 'full'}", kernels.attention, (3, 2),
                       {"q": "q", "k": "k", "v": "v", "out": "out", "scale": ("fp32", scale * 1.4426950408889634), "rows": ("i32", 192)},
                       {"BM": 64, "BN": 64, "D": d, "CAUSAL": causal},
                       {"out": Expected(out, short, 2e-3 if short == "f16" else 1.6e-2)}, {"q": q, "k": k, "v": v, "out": np.zeros_like(q)})


def elementwise():
    x = np.concatenate([rng(79).uniform(-6, 6, 300), [0.5, -0.25, 10.0, 1e4]]).astype(np.float32)
    n, w = len(x), x.astype(np.float64)
    with np.errstate(over="ignore"):
        rows = [np.sin(w), np.exp(w), np.log(np.abs(w)), np.abs(w)**-0.5, np.vectorize(math.erf)(w), np.abs(w)**np.float64(np.float32(1.3)),
                np.floor(w) + np.ceil(w * 0.5), (w * w + 1) / (1 + np.abs(w))]
        rows = np.array(rows).astype(np.float32)
    yield make("mathematics", kernels.mathematics, 2, {"x": "x", "out": "out", "n": ("i32", n)}, {"B": 256},
               {"out": Expected(rows, "f32", 1e-6, 1e-6)}, {"x": x, "out": np.zeros((8, n), np.float32)})
    v = np.clip(np.concatenate([rng(80).standard_normal(120) * 20, [0.0, -0.0, 2.0**-9, 2.0**-10, 448.0, 300.0, 1.0, 2.0**-7]]), -448, 448)
    v = v.astype(np.float32)
    e5 = v.astype(ml_dtypes.float8_e5m2)
    half = (e5.astype(np.float16) + v.astype(np.float16)).astype(np.float16)
    yield make("conversions", kernels.conversions, 1,
               {"x": "x", "to8": "to8", "wide8": "wide8", "half": "half", "bfloat": "bfloat", "ints": "ints"}, {"B": 128},
               {"to8": Expected(v.astype(ml_dtypes.float8_e4m3fn).view(np.uint8), "u8"), "wide8": Expected(e5.view(np.uint8), "u8"),
                "half": Expected(half, "f16"), "bfloat": Expected(v.astype(bf16), "bf16"), "ints": Expected(np.trunc(v) * 2, "i32")},
               {"x": v, "to8": np.zeros(128, np.uint8), "wide8": np.zeros(128, np.uint8), "half": np.zeros(128, np.float16),
                "bfloat": np.zeros(128, bf16), "ints": np.zeros(128, np.int32)}, least=89)
    yield make("random_numbers", kernels.random_numbers, 2, {"out": "out", "seed": ("i32", 1234)}, {"B": 128},
               {"out": Expected(philox(1234, 256), "u32")}, {"out": np.zeros(256, np.int32)})
    a, b = rng(81).integers(-2**31, 2**31, 300, dtype=np.int32), rng(82).integers(-1000, 1000, 300, dtype=np.int32)
    b[b == 0] = 7
    la, lb, at = a.astype(np.int64), b.astype(np.int64), np.arange(300)
    q = np.trunc(la / lb).astype(np.int64)
    rows = [q, la - q * lb, (a << (at & 7).astype(np.int32)) ^ (b >> 3), (np.minimum(la, lb) - np.maximum(la, lb) * 3).astype(np.int32),
            ((a.view(np.uint32).astype(np.uint64) * b.view(np.uint32)) >> np.uint64(32)).astype(np.uint32).view(np.int32)]
    yield make("integers", kernels.integers, 2, {"a": "a", "b": "b", "out": "out", "n": ("i32", 300)}, {"B": 256},
               {"out": Expected(np.array(rows), "i32")}, {"a": a, "b": b, "out": np.zeros((5, 300), np.int32)})
    k = rng(83).integers(-50, 50, 512, dtype=np.int32)
    i = np.arange(512)
    words = [k[i % 4 == j].sum() for j in range(4)] + [k[i % 2 == j].max() for j in range(2)] + [k[i % 2 == j].min() for j in range(2)]
    words += [np.bitwise_xor.reduce(k[i % 3 == j]) for j in range(3)] + [np.bitwise_or.reduce(1 << (k & 15))]
    floats = np.array([k[0::2].sum(), k[1::2].sum(), 0.5 * (k > 0).sum()])
    yield make("atomics", kernels.atomics, 2, {"words": "words", "floats": "floats", "x": "x"}, {"B": 256},
               {"words": Expected(np.array(words), "i32"), "floats": Expected(floats, "f32", 1e-3)},
               {"words": np.array([0] * 4 + [-10**6] * 2 + [10**6] * 2 + [0] * 4, np.int32), "floats": np.zeros(3, np.float32), "x": k})
    yield make("increments", kernels.increments, 6, {"lock": "lock", "counter": "counter"}, {}, {"counter": Expected(np.array([6]), "i32")},
               {"lock": np.zeros(1, np.int32), "counter": np.zeros(1, np.int32)}, warps=1)


def philox(seed, n):
    """Philox 4x32, 10 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): the first word of each counter."""
    c = [list(range(n)), [0] * n, [0] * n, [0] * n]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    out = []
    for i in range(n):
        a, b, d, e = (row[i] for row in c)
        x0, x1 = k0, k1
        for _ in range(10):
            p, q = 0xD2511F53 * a, 0xCD9E8D57 * d
            a, b, d, e = (q >> 32) ^ b ^ x0, q & 0xFFFFFFFF, (p >> 32) ^ e ^ x1, p & 0xFFFFFFFF
            x0, x1 = (x0 + 0x9E3779B9) & 0xFFFFFFFF, (x1 + 0xBB67AE85) & 0xFFFFFFFF
        out.append(a)
    return np.array(out)


def all():
    for group in (simple, scans_and_sorts, products, elementwise):
        yield from group()
