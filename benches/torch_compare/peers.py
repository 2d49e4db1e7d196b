"""Ours and the peers on PyTorch's tensors: checked, then timed."""

import ctypes
import math

from .interface import BackwardTensors, Execution, ForwardTensors, Tensor, plain_problem, tensor_of
from .plan import DTYPES, OURS, PASSES, bound, first_line, flops, in_turn, label

try:
    from .triton_kernel import TritonAttention, triton
# OSError: it is there, and a shared library that it needs is not.
except (ImportError, OSError):
    triton = None

SDPA = {"cudnn": "CUDNN_ATTENTION", "flash": "FLASH_ATTENTION", "efficient": "EFFICIENT_ATTENTION", "math": "MATH"}


def tensor_of_torch(tensor):
    """A tensor of PyTorch's, in its own memory."""
    code = next(code for code, name, _ in DTYPES.values() if str(tensor.dtype) == f"torch.{name}")
    return tensor_of(tensor.data_ptr(), code, tensor.shape, tensor.stride())


class Ours:
    """Forward and backward of this library on tensors of PyTorch's, on its current stream."""

    def __init__(self, torch, library, q, k, v, dout, causal):
        self.library = library
        self.out, self.lse = torch.empty_like(q), torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
        self.gradients = [torch.empty_like(x) for x in [q, k, v]]
        self.problem = plain_problem(library)
        self.problem.q, self.problem.k, self.problem.v = map(tensor_of_torch, [q, k, v])
        self.problem.causal = 1 if causal else 0
        self.tensors = {"forward": ForwardTensors(tensor_of_torch(self.out), tensor_of_torch(self.lse))}
        self.tensors["backward"] = BackwardTensors(
            *map(tensor_of_torch, [self.out, self.lse, dout]), Tensor(), *map(tensor_of_torch, self.gradients))
        # Kept, because the structs hold addresses alone.
        self.kept = [q, k, v, dout]
        self.executions = {}
        for name, tensors in self.tensors.items():
            size = library.workspace(f"fa_{name}", self.problem, tensors)
            memory = torch.empty(max(size, 1), dtype=torch.uint8, device=q.device)
            self.kept.append(memory)
            stream = torch.cuda.current_stream().cuda_stream
            self.executions[name] = Execution(stream, memory.data_ptr(), size)

    def backend(self):
        return self.library.backend(self.problem, self.tensors["forward"])

    def run(self, name):
        self.library.call(f"fa_{name}", self.library.device, ctypes.byref(self.problem), ctypes.byref(self.tensors[name]),
                          ctypes.byref(self.executions[name]))


def formulas(torch, q, k, v, dout, causal, dtype, rows=1024):
    """Attention of one head [seq, dim] and its gradients by the formulas, every operation in `dtype`, so many queries at a time."""
    q, k, v, dout = (x.to(dtype) for x in [q, k, v, dout])
    scale, seq = q.shape[1] ** -0.5, q.shape[0]
    out, lse, dq = [], [], []
    # Summed over the parts in float64, so that the parts themselves add no error.
    dk, dv = torch.zeros_like(k, dtype=torch.float64), torch.zeros_like(v, dtype=torch.float64)
    for start in range(0, seq, rows):
        part = slice(start, min(start + rows, seq))
        scores = q[part] @ k.T * scale
        if causal:
            hidden = torch.arange(seq, device=q.device)[None, :] > torch.arange(part.start, part.stop, device=q.device)[:, None]
            scores = scores.masked_fill(hidden, -math.inf)
        weights = torch.softmax(scores, 1)
        out.append(weights @ v)
        lse.append(torch.logsumexp(scores, 1))
        delta = (out[-1] * dout[part]).sum(1, keepdim=True)
        dscores = weights * (dout[part] @ v.T - delta)
        dq.append(dscores @ k * scale)
        dk += (dscores.T @ q[part] * scale).double()
        dv += (weights.T @ dout[part]).double()
    return {"out": torch.cat(out), "lse": torch.cat(lse), "dq": torch.cat(dq), "dk": dk.to(dtype), "dv": dv.to(dtype)}


def check(torch, case, dtype, results, inputs):
    """Sentences for the results ([batch, heads, seq, dim] by name) that are wrong, in the first and the last head."""
    wrong = []
    for b, h in [(0, 0), (case["batch"] - 1, case["heads"] - 1)]:
        head = [x[b, h] for x in inputs]
        right = formulas(torch, *head, case["causal"], torch.float64)
        plain = formulas(torch, *head, case["causal"], inputs[0].dtype)
        for name, result in results.items():
            expected = right[name]
            error = (result[b, h].double() - expected).abs()
            if name == "lse":
                share = (error / (1e-3 * (1 + expected.abs()))).max().item()
            else:
                reference = (plain[name].double() - expected).abs().max().item()
                share = error.max().item() / bound(dtype, expected.abs().max().item(), reference)
            # NaN is wrong too.
            if not share <= 1:
                wrong.append(f"{label(case)}: {name} of batch entry {b}, head {h} is {share:.2f} times what it may be off")
    return wrong


def peer_work(torch, name, kind, q, k, v, dout, causal):
    """A function that runs a peer once. Raises where it cannot run this."""
    if name == "triton":
        attention = TritonAttention(torch, q, k, v, causal)
        if kind == "forward":
            return attention.forward
        attention.forward()
        return lambda: attention.backward(dout)
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backend = getattr(SDPBackend, SDPA[name])

    def forward(q, k, v):
        with sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    if kind == "forward":
        def work():
            with torch.no_grad():
                return forward(q, k, v)
        return work
    inputs = [x.detach().requires_grad_() for x in [q, k, v]]
    out = forward(*inputs)
    return lambda: torch.autograd.grad(out, inputs, dout, retain_graph=True)


class Clock:
    """Times of the GPU alone. Before each run it is made to wait until the host has put all of the run onto the stream, so that what
    autograd and Python cost on the host makes nobody slower."""

    def __init__(self, torch, flush):
        self.torch, self.flush, self.holds = torch, flush, {}
        self.begin, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        for cycles in [1_000_000, 20_000_000]:
            self.begin.record()
            torch.cuda._sleep(cycles)
            self.end.record()
            self.end.synchronize()
        self.cycles = 20_000_000 / (self.begin.elapsed_time(self.end) / 1e3)

    def time(self, work):
        """Seconds of one run, with a cold L2 cache."""
        # Until the host is done before the GPU begins. Twice as long each time, from 0.2 to 50 ms; kept for the work's next run.
        while (hold := self.holds.setdefault(work, 2e-4)) < 0.1:
            self.flush.zero_()
            self.torch.cuda._sleep(int(hold * self.cycles))
            self.begin.record()
            work()
            self.end.record()
            waited = not self.begin.query()
            self.end.synchronize()
            if waited:
                return self.begin.elapsed_time(self.end) / 1e3
            self.holds[work] = 2 * hold
        raise RuntimeError("the host does not put it onto the stream within 50 ms, so that the GPU alone cannot be timed")


def measure(torch, library, case, setup, flush, refusals):
    """Checks one workload and times it: rows for the report, and sentences for what is wrong."""
    shape = [case["batch"], case["heads"], case["seq"], case["dim"]]
    kind = getattr(torch, DTYPES[setup.dtype][1])
    torch.manual_seed(0)
    inputs = [torch.randn(shape, device="cuda", dtype=torch.float32).to(kind) for _ in range(4)]
    ours = Ours(torch, library, *inputs, case["causal"])
    for name in PASSES:
        ours.run(name)
    dq, dk, dv = ours.gradients
    results = {"out": ours.out, "lse": ours.lse, "dq": dq, "dk": dk, "dv": dv}
    wrong = check(torch, case, setup.dtype, results, inputs)
    if wrong:
        return [], wrong
    time = Clock(torch, flush).time
    rows, failures = [], []
    for name in PASSES:
        works = {OURS: lambda: ours.run(name)}
        for peer in setup.peers:
            if peer == "triton" and triton is None:
                continue
            try:
                work = peer_work(torch, peer, name, *inputs, case["causal"])
                # Compiles, tunes and takes memory before anything is timed.
                result = work()
                if peer == "triton":
                    names = ["out"] if name == "forward" else ["dq", "dk", "dv"]
                    results = dict(zip(names, [result] if name == "forward" else result))
                    failures += check(torch, case, setup.dtype, results, inputs)
                works[peer] = work
            # Whatever keeps a peer from running, a kernel that does not compile too, is a note, and ends nothing.
            except Exception as error:
                refusals.setdefault(f"{peer}, {name}", f"{label(case)}: {first_line(error)}")
        for peer, taken in in_turn(works, setup.warmup, setup.repeats, time).items():
            if isinstance(taken, dict):
                backend = {"backend": ours.backend()} if peer == OURS else {}
                rows.append({**case, "pass": name, "by": peer, **backend, "seconds": taken,
                             "tflops": flops(case, name) / taken["median"] / 1e12})
            elif peer == OURS:
                failures.append(f"{label(case)} {name}: {taken}")
            else:
                refusals.setdefault(f"{peer}, {name}", f"{label(case)}: {taken}")
        del works
        torch.cuda.empty_cache()
    return rows, failures
