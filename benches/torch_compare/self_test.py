"""Checks all that needs neither PyTorch nor a GPU."""

import ctypes
import json
import math
import os
import pathlib
import struct
import tempfile
import types
import xml.etree.ElementTree

from .interface import Execution, ForwardTensors, Library, plain_problem, tensor_of
from .peers import Clock
from .plan import OURS, PASSES, bound, cases, flops, in_turn, label, summary
from .report import picture, ratios, write_whole


def emulate(library):
    """Forward through the C interface on the emulator, against the formulas in Python. The largest error."""
    heads, seq, dim = 2, 5, 8
    count = heads * seq * dim
    values = [[math.sin(7 * i + 13 * seed) for i in range(count)] for seed in range(3)]
    library.open_emulator()
    addresses = []
    for numbers in [*values, [0.0] * count]:
        address, data = ctypes.c_uint64(), struct.pack(f"<{count}f", *numbers)
        library.call("fa_alloc", library.device, ctypes.c_uint64(len(data)), ctypes.byref(address))
        library.call("fa_write", library.device, address, data, ctypes.c_uint64(len(data)))
        addresses.append(address.value)
    shown = [tensor_of(address, 0, [1, heads, seq, dim]) for address in addresses]
    problem, tensors = plain_problem(library), ForwardTensors(out=shown[3])
    problem.q, problem.k, problem.v = shown[:3]
    problem.causal, problem.scale = 1, 0.5
    size, workspace = library.workspace("fa_forward", problem, tensors), ctypes.c_uint64()
    library.call("fa_alloc", library.device, ctypes.c_uint64(size), ctypes.byref(workspace))
    execution = Execution(None, workspace.value, size)
    library.call("fa_forward", library.device, ctypes.byref(problem), ctypes.byref(tensors), ctypes.byref(execution))
    data = ctypes.create_string_buffer(4 * count)
    library.call("fa_read", library.device, ctypes.c_uint64(addresses[3]), data, ctypes.c_uint64(4 * count))
    given, largest = struct.unpack(f"<{count}f", data.raw), 0.0
    row = lambda numbers, h, i: numbers[(h * seq + i) * dim:][:dim]
    for h in range(heads):
        for i in range(seq):
            dots = [sum(a * b for a, b in zip(row(values[0], h, i), row(values[1], h, j))) for j in range(i + 1)]
            weights = [math.exp(0.5 * dot) for dot in dots]
            for c in range(dim):
                right = sum(w * row(values[2], h, j)[c] for j, w in enumerate(weights)) / sum(weights)
                largest = max(largest, abs(row(given, h, i)[c] - right))
    library.call("fa_device_close", library.device)
    return largest


def clock():
    """The clock on a GPU of which each launch takes the host 0.5 ms and the GPU 3 ms."""
    now, gpu, sleeps = [0.0], [0.0], []

    class Event:
        def record(self):
            gpu[0] = self.at = max(gpu[0], now[0])

        def query(self):
            return self.at <= now[0]

        def synchronize(self):
            now[0] = max(now[0], self.at)

        def elapsed_time(self, end):
            return 1e3 * (end.at - self.at)

    def sleep(cycles):
        sleeps.append(cycles)
        gpu[0] = max(gpu[0], now[0]) + cycles / 1e9

    def launch():
        now[0] += 5e-4
        gpu[0] = max(gpu[0], now[0]) + 3e-3

    gpu_of_its_own = types.SimpleNamespace(cuda=types.SimpleNamespace(Event=lambda enable_timing: Event(), _sleep=sleep))
    timer = Clock(gpu_of_its_own, types.SimpleNamespace(zero_=lambda: None))
    must(math.isclose(timer.cycles, 1e9), "the clock of the GPU is measured")
    del sleeps[:]
    must(math.isclose(timer.time(launch), 3e-3), "the host's time is not in that of the GPU")
    must([round(cycles / 1e5) for cycles in sleeps] == [2, 4, 8], "the GPU waits until the host is done, and not much longer")
    must(math.isclose(timer.time(launch), 3e-3) and len(sleeps) == 4, "what was found is kept")

    def waits():
        launch()
        now[0] = max(now[0], gpu[0])

    try:
        timer.time(waits)
        must(False, "work that waits for the GPU cannot be timed")
    except RuntimeError as error:
        must("within 50 ms" in str(error), "work that waits for the GPU is said to")


def must(condition, claim):
    if not condition:
        raise RuntimeError(f"not so: {claim}")


def self_test(path):
    """Checks all that needs no PyTorch; raises RuntimeError where something is wrong."""
    library = Library(path)
    must(emulate(library) < 1e-5, "forward on the emulator is what the formulas say")
    try:
        library.call("fa_problem_init", None)
        must(False, "a failing call raises")
    except RuntimeError as error:
        must(str(error) == "fa_problem_init: problem is a null pointer", "errors have the library's words")
    sweep = cases("sweep", False)
    must(len(sweep) == 36 and len({label(case) for case in sweep}) == 36, "the sweep has 36 workloads")
    must(all(c["batch"] * c["seq"] == 16384 and c["heads"] * c["dim"] == 2048 for c in sweep), "they have the same size")
    must([label(c) for c in cases("tutorial", False)] == ["32x32x1024 d32"], "the tutorial has one workload")
    must(all(c["seq"] % 128 == 0 for c in sweep), "the Triton kernel's blocks divide every length")
    case = {"batch": 2, "heads": 16, "seq": 8192, "dim": 128, "causal": False}
    must(flops(case, "forward") == 4 * 2 * 16 * 8192**2 * 128, "forward is two products")
    must(flops({**case, "causal": True}, "backward") == 2.5 * 4 * 2 * 16 * 8192 * 4096.5 * 128, "backward is five")
    must(summary([3.0, 1.0, 2.0])["median"] == 2.0 and summary([4.0, 1.0])["median"] == 2.5, "medians are medians")
    order = []

    def time(work):
        order.append(work)
        if work == "b":
            raise RuntimeError("no\nmore")
        return 1.0

    taken = in_turn({"a": "a", "b": "b", "c": "c"}, 1, 2, time)
    must("".join(order) == "abcacac" and taken["b"] == "no" and taken["c"]["repeats"] == 2, "works take turns")
    clock()
    must(math.isclose(bound("f16", 4.0, 0.25), 0.5 + 4 / 1024), "the bound is that of the golden cases")
    seconds = {OURS: 1e-3, "flash": 2e-3}
    rows = [{**case, "pass": name, "by": by, "backend": "flash", "seconds": summary([time]),
             "tflops": flops(case, name) / time / 1e12} for name in PASSES for by, time in seconds.items()]
    text = ratios(rows)
    must("geometric mean of peer / ours, backward: flash 2.00" in text and "2x16x8192 d128" in text, "ratios are peer / ours")
    with tempfile.TemporaryDirectory() as folder:
        write_whole(pathlib.Path(folder) / "a.json", json.dumps({"results": rows}))
        written = json.loads((pathlib.Path(folder) / "a.json").read_text(encoding="utf-8"))
        must(written["results"] == rows and len(os.listdir(folder)) == 1, "JSON comes back as it was written")
    bars = [e for e in xml.etree.ElementTree.fromstring(picture("a < b", rows)).iter() if e.get("fill") == "#2ca02c"]
    must(len(bars) == 3, "the picture has a bar for each row of a peer, and one in its legend")
    print(f"library {library.version()} at {path}")
    print("self-test: good")
