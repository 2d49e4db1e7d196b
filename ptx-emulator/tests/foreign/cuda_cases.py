"""The launches of the CUDA kernels, and what NumPy makes of the same inputs."""

import math

import ml_dtypes
import numpy as np
from cases import Case, Expected, Launch, f32, i32, raw, scalar

bf16 = ml_dtypes.bfloat16


def rng(seed):
    return np.random.default_rng(seed)


def reductions():
    x = rng(1).standard_normal(5000).astype(np.float32)
    total = np.array([x.astype(np.float64).sum()])
    # A sum in single precision is off by some 1e-7 of the sum of the absolute values.
    close = float(2e-7 * np.abs(x).sum())
    yield Case("sum_shuffle", "reduce", [Launch("sum_shuffle", 4, 256, ["x", "out", i32(5000)])],
               {"x": x, "out": np.zeros(1, np.float32)}, {"out": Expected(total, "f32", close)})
    yield Case("sum_tree", "reduce", [Launch("sum_tree", 20, 256, ["x", "out", i32(5000)], shared=2048)],
               {"x": x.astype(np.float64), "out": np.zeros(1)}, {"out": Expected(total, "f64", 1e-12)})
    yield Case("sum_last_block", "reduce", [Launch("sum_last_block", 8, 256, ["x", "partial", "out", i32(5000)])],
               {"x": x, "partial": np.zeros(8, np.float32), "out": np.zeros(1, np.float32)}, {"out": Expected(total, "f32", close)})
    n = rng(2).integers(-10**6, 10**6, 3000, dtype=np.int32)
    yield Case("extrema_cooperative", "reduce", [Launch("extrema_cooperative", 12, 256, ["x", "out", i32(3000)])],
               {"x": n, "out": np.array([0, 2**31 - 1, -2**31], np.int32)},
               {"out": Expected(np.array([n.sum(), n.min(), n.max()]), "i32")})
    buffers = {"x": n, "partial": np.zeros(8, np.int32), "total": np.zeros(1, np.int32), "out": np.zeros(3000, np.int32)}
    for name, cooperative in (("rest_of_sum", True), ("rest_of_sum_not_cooperative", False)):
        yield Case(name, "reduce", [Launch("rest_of_sum", 8, 256, [*buffers, i32(3000)], cooperative=cooperative)], buffers,
                   {"out": Expected(n.sum(dtype=np.int64) - n, "i32")}, fails=None if cooperative else "trap")
    h = rng(3).standard_normal(1024).astype(np.float16)
    yield Case("extrema_half2", "reduce", [Launch("extrema_half2", 1, 32, ["x", "out", i32(512)])],
               {"x": h, "out": np.zeros(2, np.float32)},
               {"out": Expected(np.array([h.max(), h.astype(np.float64).sum()]), "f32", 1e-4)})
    t = rng(5).integers(-1000, 1000, 64, dtype=np.int32)
    v = t.astype(np.int64).reshape(8, 8)
    v[3::4, :4] = v[3::4, :4] * 27 + 13
    odd = ((v & 1) << np.arange(8)).sum(1, keepdims=True)
    yield Case("tiles", "reduce", [Launch("tiles", 1, 64, ["x", "out"])], {"x": t, "out": np.zeros(64, np.int32)},
               {"out": Expected((v.sum(1, keepdims=True) + 2 * v[:, 7:] + odd + 0 * v).reshape(-1), "i32")})
    w = rng(4).integers(0, 2**32, 32, dtype=np.uint32)
    w[20:] |= 0xF0F0
    parts = []
    for own, signed in ((w[:20], False), (w[20:], True)):
        ordered = own.view(np.int32) if signed else own
        parts += [int(own.sum(dtype=np.uint32)), int(ordered.min()) & 0xFFFFFFFF, int(ordered.max()) & 0xFFFFFFFF,
                  int(np.bitwise_and.reduce(own)), int(np.bitwise_or.reduce(own)), int(np.bitwise_xor.reduce(own))]
    yield Case("reductions_of_a_warp", "reduce", [Launch("reductions_of_a_warp", 1, 32, ["x", "out"])],
               {"x": w, "out": np.zeros(12, np.uint32)}, {"out": Expected(np.array(parts, np.int64), "u32")}, least=80)


def scans():
    x = rng(5).integers(-1000, 1000, 2000, dtype=np.int32)
    blocks = np.concatenate([np.cumsum(x[i:i + 512]) for i in range(0, 2000, 512)])
    yield Case("scan_block_shuffle", "scan", [Launch("scan_block_shuffle", 4, 512, ["x", "out", i32(2000)])],
               {"x": x, "out": np.zeros(2000, np.int32)}, {"out": Expected(blocks, "i32")})
    f = rng(6).standard_normal(700).astype(np.float32)
    rows = np.concatenate([np.cumsum(f[i:i + 256].astype(np.float64)) for i in range(0, 700, 256)])
    yield Case("scan_doubling", "scan", [Launch("scan_doubling", 3, 256, ["x", "out", i32(700)], shared=2048)],
               {"x": f, "out": np.zeros(700, np.float32)}, {"out": Expected(rows, "f32", 3e-5)})
    u = rng(7).integers(0, 2**63, 1024, dtype=np.uint64)
    tree = np.concatenate([np.cumsum(u[i:i + 512]) - u[i:i + 512] for i in (0, 512)])
    yield Case("scan_tree", "scan", [Launch("scan_tree", 2, 256, ["x", "out"])],
               {"x": u, "out": np.zeros(1024, np.uint64)}, {"out": Expected(tree, "u64")})
    yield Case("scan_look_back", "scan", [Launch("scan_look_back", 8, 256, ["x", "out", "ticket", "sums", i32(2000)])],
               {"x": x, "out": np.zeros(2000, np.int32), "ticket": np.zeros(1, np.int32), "sums": np.zeros(16, np.int32)},
               {"out": Expected(np.cumsum(x), "i32")})


def histograms():
    x = rng(8).integers(0, 256, 6000, dtype=np.uint8) & rng(9).integers(0, 256, 6000, dtype=np.uint8)
    counts = np.bincount(x, minlength=256)
    yield Case("histogram_shared", "histogram", [Launch("histogram_shared", 3, 256, ["x", "bins", i32(6000)])],
               {"x": x, "bins": np.zeros(256, np.uint32)}, {"bins": Expected(counts, "u32")})
    yield Case("histogram_match", "histogram", [Launch("histogram_match", 24, 256, ["x", "bins", i32(5990)])],
               {"x": x, "bins": np.zeros(256, np.uint32)}, {"bins": Expected(np.bincount(x[:5990], minlength=256), "u32")})
    yield Case("histogram_cas", "histogram", [Launch("histogram_cas", 24, 256, ["x", "bins", i32(6000)])],
               {"x": x, "bins": np.zeros(256, np.uint16)}, {"bins": Expected(counts, "u16")})


def transposes():
    for name, kind, size in (("float", np.float32, 1), ("complex", np.float64, 2), ("bytes", np.int8, 1)):
        x = rng(10).integers(-100, 100, (77, 100, size)).astype(kind)
        letter = {"float": "f32", "complex": "f64", "bytes": "i8"}[name]
        yield Case(f"transpose_{name}", "transpose", [Launch(f"transpose_{name}", (4, 3), (32, 8), ["x", "out", i32(77), i32(100)])],
                   {"x": x, "out": np.zeros(x.size, kind)}, {"out": Expected(x.transpose(1, 0, 2), letter)})


def products():
    a, b = (rng(s).standard_normal(shape).astype(np.float32) for s, shape in ((11, (64, 80)), (12, (80, 128))))
    c = a.astype(np.float64) @ b
    sizes = [i32(64), i32(128), i32(80)]
    zero = np.zeros((64, 128), np.float32)
    yield Case("gemm_naive", "gemm", [Launch("gemm_naive", (8, 4), (16, 16), ["a", "b", "c", *sizes])],
               {"a": a, "b": b, "c": zero}, {"c": Expected(c, "f32", 2e-5)})
    yield Case("gemm_tiled", "gemm", [Launch("gemm_tiled", (2, 1), 256, ["a", "b", "c", *sizes])],
               {"a": a, "b": b, "c": zero}, {"c": Expected(c, "f32", 2e-5)})

    def wmma(name, m, n, left, right, result, columns_of_b, depth=80, least=70, absolute=0.0, kind=np.float32, expected=None):
        """A warp a tile of m x n; the matrices are 64 x depth and depth x 64 as NumPy has them."""
        wide = (left.astype(np.float64) if expected is None else None)
        c = wide @ right.astype(np.float64) if expected is None else expected
        stored = np.ascontiguousarray(right.T) if columns_of_b else right
        return Case(name, "gemm", [Launch(name, (64 // n, 64 // m), 32, ["a", "b", "c", i32(64), i32(depth)])],
                    {"a": left, "b": stored, "c": np.zeros((64, 64), kind)}, {"c": Expected(c, result, absolute)}, least=least)

    x, y = (rng(s).standard_normal(shape) for s, shape in ((13, (64, 80)), (14, (80, 64))))
    hx, hy = x.astype(np.float16), y.astype(np.float16)
    # Ten blocks of products, each cut to an f32 below 64.
    yield wmma("wmma_f16_f32", 16, 16, hx, hy, "f32", False, absolute=10 * 2**-18)
    yield wmma("wmma_f16_f16", 32, 8, hx, hy, "f16", True, absolute=0.05, kind=np.float16)
    yield wmma("wmma_f16_shared", 8, 32, hx, hy, "f32", False, absolute=4e-5,
               expected=2 * (hx.astype(np.float64) @ hy.astype(np.float64)))
    yield wmma("wmma_bf16", 16, 16, x.astype(bf16), y.astype(bf16), "f32", True, least=80, absolute=10 * 2**-18)
    yield wmma("wmma_tf32", 16, 16, x.astype(np.float32), y.astype(np.float32), "f32", False, least=80, absolute=0.02)
    yield wmma("wmma_f64", 8, 8, x, y, "f64", True, least=80, absolute=1e-13, kind=np.float64)
    sx, sy = (rng(s).integers(-128, 128, shape, dtype=np.int8) for s, shape in ((15, (64, 80)), (16, (80, 64))))
    yield wmma("wmma_s8", 16, 16, sx, sy, "i32", True, least=75, kind=np.int32)
    yield wmma("wmma_u8", 8, 32, sx.view(np.uint8), sy.view(np.uint8), "i32", False, least=75, kind=np.int32)
    fx, fy = (rng(s).integers(-8, 8, shape, dtype=np.int8) for s, shape in ((17, (64, 96)), (18, (96, 64))))

    def nibbles(x):
        return (x[..., 0::2] & 15 | (x[..., 1::2] & 15) << 4).astype(np.uint8)

    yield Case("wmma_s4", "gemm", [Launch("wmma_s4", (8, 8), 32, ["a", "b", "c", i32(64), i32(96)])],
               {"a": nibbles(fx), "b": nibbles(np.ascontiguousarray(fy.T)), "c": np.zeros((64, 64), np.int32)},
               {"c": Expected(fx.astype(np.int64) @ fy.astype(np.int64), "i32")}, least=75)
    bx, by = (rng(s).integers(0, 2, (64, 256), dtype=np.int64) for s in (19, 20))

    def bits(x):
        return np.packbits(x.astype(np.uint8), axis=1, bitorder="little")

    differ = (bx[:, None, :] != by[None, :, :]).sum(2)
    for name, c, least in (("wmma_b1", differ, 75), ("wmma_b1_and", bx @ by.T, 80)):
        yield Case(name, "gemm", [Launch(name, (8, 8), 32, ["a", "b", "c", i32(64), i32(256)])],
                   {"a": bits(bx), "b": bits(by), "c": np.zeros((64, 64), np.int32)}, {"c": Expected(c, "i32")}, least=least)


def row_operations():
    def softmax(x):
        e = np.exp(x - x.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    x = (3 * rng(21).standard_normal((6, 300))).astype(np.float32)
    yield Case("softmax_block", "rows", [Launch("softmax_block", 6, 128, ["x", "out", i32(300)])],
               {"x": x, "out": np.zeros_like(x)}, {"out": Expected(softmax(x.astype(np.float64)), "f32", 1e-6)})
    b = x.astype(bf16)
    yield Case("softmax_online", "rows", [Launch("softmax_online", 3, 64, ["x", "out", i32(300)])],
               {"x": b, "out": np.zeros_like(b)}, {"out": Expected(softmax(b.astype(np.float64)), "bf16", 1e-6, 2**-8)})
    y = (2 * rng(22).standard_normal((5, 512)) + 1).astype(np.float32)
    weight, bias = (rng(s).standard_normal(512).astype(np.float32) for s in (23, 24))

    def norm(y, weight, bias):
        y, weight, bias = (a.astype(np.float64) for a in (y, weight, bias))
        centred = y - y.mean(1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * weight + bias

    yield Case("layer_norm", "rows", [Launch("layer_norm", 5, 64, ["x", "weight", "bias", "out", i32(512)])],
               {"x": y, "weight": weight, "bias": bias, "out": np.zeros_like(y)},
               {"out": Expected(norm(y, weight, bias), "f32", 5e-6)})
    h, hw, hb = (a.astype(np.float16) for a in (y, weight, bias))
    yield Case("layer_norm_half2", "rows", [Launch("layer_norm_half2", 5, 64, ["x", "weight", "bias", "out", i32(256)])],
               {"x": h, "weight": hw, "bias": hb, "out": np.zeros_like(h)}, {"out": Expected(norm(h, hw, hb), "f16", 0.02)})


def sorts():
    k = rng(25).integers(-2**31, 2**31, (2, 1024), dtype=np.int32)
    yield Case("sort_bitonic", "sort", [Launch("sort_bitonic", 2, 256, ["keys"])], {"keys": k},
               {"keys": Expected(np.sort(k, 1), "i32")})
    u = rng(26).integers(0, 2**32, 2048, dtype=np.uint32)
    launches, source, target = [], "keys", "other"
    for shift in range(0, 32, 4):
        launches += [Launch("radix_count", 8, 256, [source, "counts", i32(shift)]), Launch("radix_scan", 1, 1, ["counts", i32(128)]),
                     Launch("radix_scatter", 8, 256, [source, target, "counts", i32(shift)])]
        source, target = target, source
    yield Case("sort_radix", "sort", launches, {"keys": u, "other": np.zeros_like(u), "counts": np.zeros(128, np.uint32)},
               {"keys": Expected(np.sort(u), "u32")})
    f = rng(27).integers(-8, 8, (3, 32)).astype(np.float32)
    yield Case("sort_lanes", "sort", [Launch("sort_lanes", 3, 32, ["keys", "sorted", "places"])],
               {"keys": f, "sorted": np.zeros_like(f), "places": np.zeros((3, 32), np.int32)},
               {"sorted": Expected(np.sort(f, 1), "f32"), "places": Expected(np.argsort(f, 1, kind="stable"), "i32")})
    a, b = (np.sort(rng(s).integers(-500, 500, 600, dtype=np.int16)) for s in (28, 29))
    yield Case("merge_by_rank", "sort", [Launch("merge_by_rank", 10, 128, ["a", "b", "out", i32(600)])],
               {"a": a, "b": b, "out": np.zeros(1200, np.int16)}, {"out": Expected(np.sort(np.concatenate([a, b])), "i16")})


def language():
    x = rng(30).uniform(-2, 2, 64).astype(np.float32)
    c = [(-0.5)**i for i in range(8)]
    values = np.array([sum(c[j] * float(v)**j for j in range(1 + i % 8)) for i, v in enumerate(x)])
    doubles = np.array([[0.5, 1.5, -2.5, 1e300][i % 4] * 2 for i in range(64)] + [8.0])
    yield Case("constants", "language", [Launch("constants", 1, 64, ["x", "out", "doubles"])],
               {"x": x, "out": np.zeros_like(x), "doubles": np.zeros(65)},
               {"out": Expected(values, "f32", 1e-5), "doubles": Expected(doubles, "f64")})
    text = "".join(f"{t}: {n} {'%5.2f' % 3.5} {'abc'[t]} 00000007 -1234567890123%\n" for t, n in enumerate(("zero", "one", "two")))
    yield Case("prints", "language", [Launch("prints", 2, 32, [i32(7)])], {}, printed=text)
    good, bad = np.arange(32, dtype=np.int32), np.arange(32, dtype=np.int32)
    bad[5] = -3
    yield Case("asserts_holds", "language", [Launch("asserts", 1, 32, ["x"])], {"x": good})
    yield Case("asserts_fails", "language", [Launch("asserts", 1, 32, ["x"])], {"x": bad}, fails="no negative number")
    areas = [(3 if t % 3 else 1) * float(np.float32(v) * np.float32(v)) for t, v in enumerate(x)]
    yield Case("virtual_calls", "language", [Launch("virtual_calls", 1, 64, ["x", "areas", "corners"])],
               {"x": x, "areas": np.zeros_like(x), "corners": np.zeros(64, np.int32)},
               {"areas": Expected(np.array(areas), "f32", 1e-5), "corners": Expected(np.array([0 if t % 3 else 4 for t in range(64)]), "i32")})
    a, b = (rng(s).integers(-1000, 1000, 64, dtype=np.int32) for s in (31, 32))
    t = np.arange(64)
    yield Case("function_pointers", "language", [Launch("function_pointers", 1, 64, ["a", "b", "out"])],
               {"a": a, "b": b, "out": np.zeros_like(a)}, {"out": Expected(np.choose(t % 3, [a + b, a - b, a * b]), "i32")})
    lists = lambda twice: [Launch("makes_lists", 1, 64, ["x"]), Launch("sums_lists", 1, 64, ["out", scalar("?", twice)])]
    count = t % 4 + 1
    yield Case("heap", "language", lists(False), {"x": a, "out": np.zeros_like(a)}, {"out": Expected(a * count + count * (count - 1) // 2, "i32")})
    yield Case("heap_double_free", "language", lists(True), {"x": a, "out": np.zeros_like(a)}, fails="`free` of address")
    k = rng(33).integers(-1, 11, 64, dtype=np.int32)

    def branch(x, t):
        clz = 32 - int(t).bit_length()
        brev = int(f"{t:032b}"[::-1], 2)
        brev -= (brev >> 31) << 32
        return {0: 17, 1: t, 2: clz, 3: brev, 4: t % 7, 5: t % 7, 6: bin(t).count("1"), 7: -t, 8: t << 3 ^ 0x55}.get(int(x), -1)

    yield Case("switches", "language", [Launch("switches", 1, 64, ["x", "out"])], {"x": k, "out": np.zeros_like(k)},
               {"out": Expected(np.array([branch(v, int(i)) for i, v in enumerate(k)]), "i32")})
    yield from arithmetic()
    yield from mathematics()


def signed(x, bits):
    x &= (1 << bits) - 1
    return x - (1 << bits) if x >> (bits - 1) else x


def toward_zero(x, y):
    q = abs(x) // abs(y)
    return q if (x < 0) == (y < 0) else -q


def arithmetic():
    a = rng(34).integers(-2**63, 2**63, 100, dtype=np.int64) >> rng(35).integers(0, 60, 100)
    b = rng(36).integers(-2**63, 2**63, 100, dtype=np.int64) >> rng(37).integers(0, 60, 100)
    b[b == 0] = 3
    a[0], b[0] = 2**63 - 1, -1
    rows = [[] for _ in range(9)]
    for x, y in zip(a.tolist(), b.tolist()):
        ux, uy = x % 2**64, y % 2**64
        x32, y32, x16, y16 = signed(x, 32), signed(y | 1, 32), signed(x, 16), signed(y | 1, 16)
        q = toward_zero(x, y)
        for row, value in zip(rows, (q, x - q * y, ux // uy, ux % uy, signed(toward_zero(x32, y32), 32), x32 % 2**32 % (y32 % 2**32),
                                     toward_zero(x16, y16), x * y >> 64, toward_zero(x, 1000003))):
            row.append(signed(value, 64))
    yield Case("divisions", "language", [Launch("divisions", 1, 128, ["a", "b", "out", i32(100)])],
               {"a": a, "b": b, "out": np.zeros((9, 100), np.int64)}, {"out": Expected(np.array(rows), "i64")})
    wide = [[int.from_bytes(rng(s).bytes(16), "little") for s in range(k, k + 32)] for k in (100, 200)]

    def words(values):
        return np.array([[v % 2**64, v >> 64 & (2**64 - 1)] for v in values], np.uint64)

    results = [v % 2**128 for f in (lambda x, y, t: x + y, lambda x, y, t: x - y, lambda x, y, t: x * y, lambda x, y, t: x >> (t % 127 + 1))
               for t, (x, y) in enumerate(zip(*wide)) for v in [f(x, y, t)]]
    yield Case("wide_integers", "language", [Launch("wide_integers", 1, 32, ["a", "b", "out"])],
               {"a": words(wide[0]), "b": words(wide[1]), "out": np.zeros((128, 2), np.uint64)}, {"out": Expected(words(results), "u64")})
    yield packed()
    many = np.zeros(1, [("values", np.int32, 12), ("more", np.int16, 3), ("pad", np.int16)])
    many["values"], many["more"] = np.arange(12) ** 2 - 7, [5, -6, 7]
    out = []
    for t in range(32):
        by, values, more = t % 12, many["values"][0], many["more"][0].copy()
        more[by % 3] = by
        sum = 0
        for i in range(12):
            sum = sum * 3 + int(values[(i - by) % 12])
        out.append(signed(sum + int(more[t % 3]), 32))
    yield Case("local_arrays", "language", [Launch("local_arrays", 1, 32, [raw(many), "out"])], {"out": np.zeros(32, np.int32)},
               {"out": Expected(np.array(out), "i32")})
    n = 256
    words = np.array([0, 0, 5, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0], np.int32)
    xor = 0
    for t in range(n):
        xor ^= t
    inc = dec = 0
    for _ in range(n):
        inc = 0 if inc >= 99 else inc + 1
        dec = 49 if dec == 0 or dec > 49 else dec - 1
    expected = [n * (n - 1) // 2, -n * (n - 1) // 2, -(n - 1), n - 1, 0, 0xFFFF, xor, inc, dec, n // 2, 2 * n, 0, n, n // 2]
    longs = np.array([0, -1000, -1, 0], np.int64)
    yield Case("atomics", "language", [Launch("atomics", 2, 128, ["words", "longs", "floats", "halves"])],
               {"words": words, "longs": longs, "floats": np.zeros(2, np.float32), "halves": np.zeros(2, np.float16)},
               {"words": Expected(np.array(expected), "i32"),
                "longs": Expected(np.array([n * (n - 1) // 2 << 20, n - 101, 0, 5]), "i64"),
                "floats": Expected(np.array([n / 2, n * (n - 1) / 2]), "f32"), "halves": Expected(np.array([n, n / 4]), "f16")})


def packed():
    a, b = (rng(s).integers(0, 2**32, 64, dtype=np.uint32) for s in (38, 39))
    rows = [[] for _ in range(16)]

    def each(bits, x, y, f):
        mask = (1 << bits) - 1
        return sum((f(x >> k & mask, y >> k & mask) & mask) << k for k in range(0, 32, bits))

    for t, (x, y) in enumerate(zip(a.tolist(), b.tolist())):
        sx, sy, s = signed(x, 32), signed(y, 32), t % 32
        s16 = lambda v: signed(v, 16)
        both = (y << 32 | x) >> min(t, 32)
        pool = x | y << 32
        for row, value in zip(rows, (
            each(16, x, y, lambda p, q: p + q), each(16, x, y, lambda p, q: p - q),
            each(16, x, y, lambda p, q: max(s16(p), s16(q))), each(16, x, y, min),
            each(8, x, y, lambda p, q: p + q), each(8, x, y, lambda p, q: abs(p - q)),
            each(8, x, y, lambda p, q: 255 if p > q else 0),
            5 + sum((x >> k & 255) * (y >> k & 255) for k in (0, 8, 16, 24)),
            sum((pool >> 8 * int(d) & 255) << 8 * k for k, d in enumerate("5173")),
            (y << 32 | x) << s >> 32, both, abs(sx - sy) + 3,
            max(signed(sx + sy, 32), 100), max(sx, sy, 7),
            each(16, x, y, lambda p, q: min(max(s16(p) + s16(q), -32768), 32767)), each(8, x, y, lambda p, q: (p + q + 1) >> 1))):
            row.append(value % 2**32)
    return Case("packed_integers", "language", [Launch("packed_integers", 1, 64, ["a", "b", "out"])],
                {"a": a, "b": b, "out": np.zeros((16, 64), np.uint32)}, {"out": Expected(np.array(rows), "u32")})


def mathematics():
    f = np.vectorize
    x = np.concatenate([rng(40).uniform(-5, 5, 90), [0.5, -0.0, 1e-310, 30.0, -20.0, 1e5]])
    n = len(x)
    with np.errstate(all="ignore"):
        double = [np.sin(x), np.cos(x), np.exp(x), np.log(np.abs(x)), np.abs(x)**1.7, np.arctan2(x, 2.0), np.tanh(x), np.sqrt(np.abs(x)),
                  np.cbrt(x), f(math.erf)(x), 1 / x, np.fmod(x, 0.7), np.floor(x), np.rint(x), np.ldexp(x, 3),
                  f(lambda v: math.gamma(abs(v) + 0.5) if abs(v) < 170 else math.inf)(x)]
        yield Case("double_mathematics", "language", [Launch("double_mathematics", 2, 64, ["x", "out", i32(n)])],
                   {"x": x, "out": np.zeros((16, n))}, {"out": Expected(np.array(double), "f64", 1e-300, 2e-15)})
        x = x.astype(np.float32)
        w = x.astype(np.float64)
        single = [np.sin(w), np.cos(w), np.exp(w), np.log(np.abs(w)), np.abs(w)**np.float64(np.float32(1.7)), np.arctan(w), np.tanh(w),
                  np.sqrt(np.abs(w)), f(math.erf)(w), 1 / w, np.fmod(x, np.float32(0.7)), np.trunc(w),
                  np.copysign(np.floor(np.abs(w) + 0.5), w), np.exp2(w), np.log1p(np.abs(w)), np.hypot(w, 2.0)]
        single = [np.asarray(s, np.float64).astype(np.float32) for s in single]
    yield Case("float_mathematics", "language", [Launch("float_mathematics", 2, 64, ["x", "out", i32(n)])],
               {"x": x, "out": np.zeros((16, n), np.float32)}, {"out": Expected(np.array(single), "f32", 1e-44, 1e-6)})
    yield from halves()


def halves():
    def pairs(kind, seed):
        a = rng(seed).standard_normal(128).astype(kind)
        b = rng(seed + 1).standard_normal(128).astype(kind)
        a[:6] = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-7]).astype(kind)
        b[:6] = np.array([1.0, np.inf, 2.0, -0.0, 0.0, 1e-7]).astype(kind)
        return a, b

    a, b = pairs(np.float16, 41)
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        all = [x + y, x - y, x * y, x / y, x * y + x, -x, np.abs(x), np.fmin(x, y), np.nan_to_num(np.clip(x + y, 0, 1), nan=0.0),
               np.exp2(x), 1 / y, np.floor(x), (x > y).astype(np.float64), x.reshape(-1, 2)[:, ::-1].reshape(-1)]
        all = np.array(all).astype(np.float16)
    # One unit in the last place where the exact result is rounded twice.
    yield Case("half_arithmetic", "language", [Launch("half_arithmetic", 1, 64, ["a", "b", "out"])],
               {"a": a, "b": b, "out": np.zeros((14, 128), np.float16)}, {"out": Expected(all, "f16", 1e-7, 2**-10)})
    a, b = pairs(bf16, 43)
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        all = np.array([x + y, x - y, x * y, x * y + x, -x, np.abs(x), np.fmax(x, y), np.fmin(x, y)]).astype(np.float32).astype(bf16)
    yield Case("bfloat_arithmetic", "language", [Launch("bfloat_arithmetic", 1, 64, ["a", "b", "out"])],
               {"a": a, "b": b, "out": np.zeros((8, 128), bf16)}, {"out": Expected(all, "bf16", 1e-38, 2**-7)}, least=80)
    yield from conversions()


def conversions():
    x = np.concatenate([rng(45).uniform(-3, 60, 24), [1.0, 1.00048828125, 0.3, 59.99, 2.5, 3.5, -2.5, 0.0]]).astype(np.float32)
    h = x.astype(np.float16)
    up = h.copy()
    low = h.astype(np.float64) < x
    up[low] = np.nextafter(h[low], np.float16(np.inf))
    ints = (x * np.float32(1000)).astype(np.int32)
    down = ints.astype(np.float16)
    high = down.astype(np.float64) > ints
    down[high] = np.nextafter(down[high], np.float16(-np.inf))
    rows = [np.rint(h).astype(np.int64), np.clip(np.trunc(h.astype(np.float64)), 0, 65535).astype(np.int64), up.view(np.uint16), down.view(np.uint16),
            np.zeros(32), h > 1, np.ceil(x), np.clip(np.floor(x), 0, 2**32 - 1)]
    yield Case("half_conversions", "language", [Launch("half_conversions", 1, 32, ["x", "out", i32(32)])],
               {"x": x, "out": np.zeros((8, 32), np.int32)}, {"out": Expected(np.array([np.asarray(r, np.int64) for r in rows]), "i32")})
    v = np.concatenate([rng(46).standard_normal(40) * 10, [500.0, -500.0, 1e9, -1e9, 448.0, 464.0, 57344.0, 61440.0, 2.0**-9, 2.0**-10,
                        1.5 * 2.0**-9, 2.0**-16, 2.0**-17, 0.0, -0.0, 1.0, 17.0, 19.0, 0.0625, 3.0, 1e-3, -1e-3, 240.0, 0.1]])
    v = v.astype(np.float32)
    # Both formats saturate at their largest numbers.
    narrow = np.clip(v, -448, 448).astype(ml_dtypes.float8_e4m3fn)
    wide = np.clip(v, -57344, 57344).astype(ml_dtypes.float8_e5m2)
    bytes = np.concatenate([narrow.view(np.uint8), wide.view(np.uint8)])
    floats = np.concatenate([narrow.astype(np.float64), wide.astype(np.float64), narrow.view(ml_dtypes.float8_e5m2).astype(np.float64)])
    yield Case("eight_bit_floats", "language", [Launch("eight_bit_floats", 1, 64, ["x", "out", "bytes", i32(64)])],
               {"x": v, "out": np.zeros(192, np.float32), "bytes": np.zeros(128, np.uint8)},
               {"out": Expected(floats, "f32"), "bytes": Expected(bytes, "u8")})


def copies():
    f = rng(47).standard_normal((7, 512)).astype(np.float32)
    t = np.arange(128)
    sums = np.sum([[f[tile, (t + 128 * i + 1) % 512] for i in range(4)] for tile in range(7)], axis=(0, 1), dtype=np.float64)
    yield Case("pipeline_primitives", "copies", [Launch("pipeline_primitives", 1, 128, ["x", "out", i32(7)])],
               {"x": f, "out": np.zeros(128, np.float32)}, {"out": Expected(sums, "f32", 1e-5)})
    x = rng(48).integers(-1000, 1000, (8, 256), dtype=np.int32)
    t = np.arange(256)
    yield Case("pipeline_shared", "copies", [Launch("pipeline_shared", 1, 256, ["x", "out", i32(8)])],
               {"x": x, "out": np.zeros(256, np.int32)},
               {"out": Expected(np.sum([x[tile, (t * 7 + tile) % 256] for tile in range(8)], 0), "i32")})
    yield Case("copy_group", "copies", [Launch("copy_group", 8, 256, ["x", "out"])], {"x": x, "out": np.zeros_like(x)},
               {"out": Expected(x[:, ::-1], "i32")})
    y = x.reshape(-1, 64)[:9]
    yield Case("barriers", "copies", [Launch("barriers", 1, 128, ["x", "out", i32(9)])], {"x": y, "out": np.zeros(64, np.int32)},
               {"out": Expected(2 * y[:, ::-1].sum(0), "i32")})
    z = rng(49).integers(-10**6, 10**6, 3072, dtype=np.int32)
    yield Case("bulk_copies", "copies", [Launch("bulk_copies", 3, 128, ["x", "out"])], {"x": z, "out": np.zeros_like(z)},
               {"out": Expected(z * 3 + 1, "i32")}, least=90)
    u = rng(50).integers(0, 256, 4096, dtype=np.uint8)
    yield Case("cluster_histogram", "copies", [Launch("cluster_histogram", 8, 128, ["x", "bins", i32(4096)])],
               {"x": u, "bins": np.zeros(256, np.uint32)}, {"bins": Expected(np.bincount(u, minlength=256), "u32")}, least=90)


def cub():
    k = rng(51).integers(0, 2**32, (2, 512), dtype=np.uint32)
    yield Case("cub_radix_sort", "cub", [Launch("cub_radix_sort", 2, 128, ["keys", "values"])], {"keys": k, "values": np.zeros((2, 512), np.int32)},
               {"keys": Expected(np.sort(k, 1), "u32"), "values": Expected(np.argsort(k, 1, kind="stable"), "i32")})
    f = rng(52).standard_normal(384).astype(np.float32)
    yield Case("cub_merge_sort", "cub", [Launch("cub_merge_sort", 1, 128, ["keys"])], {"keys": f}, {"keys": Expected(np.sort(f), "f32")},
               # The library reads a key past the last one, and does not use it.
               checked="never written")
    x = rng(53).integers(-2**40, 2**40, 512, dtype=np.int64)
    yield Case("cub_scan", "cub", [Launch("cub_scan", 1, 128, ["x", "out", "total"])],
               {"x": x, "out": np.zeros_like(x), "total": np.zeros(1, np.int64)},
               {"out": Expected(np.cumsum(x) - x, "i64"), "total": Expected(x.sum(keepdims=True), "i64")})
    yield Case("cub_reduce", "cub", [Launch("cub_reduce", 1, 96, ["x", "out"])], {"x": f, "out": np.zeros(1, np.float32)},
               {"out": Expected(f[:96].astype(np.float64).sum(keepdims=True), "f32", 1e-5)})
    u = rng(54).integers(0, 256, 512, dtype=np.uint8)
    yield Case("cub_histogram", "cub", [Launch("cub_histogram", 1, 128, ["x", "bins"])], {"x": u, "bins": np.zeros(256, np.uint32)},
               {"bins": Expected(np.bincount(u, minlength=256), "u32")})


def all():
    for group in (reductions, scans, histograms, transposes, products, row_operations, sorts, language, copies, cub):
        yield from group()
