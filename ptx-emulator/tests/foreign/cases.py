"""What a case is, and how it is written down for the emulator's test: PTX, buffers, launches, expected results."""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def scalar(kind, value):
    """A parameter that is a number: its bytes."""
    return {"bytes": struct.pack("<" + kind, value).hex()}


def i32(value):
    return scalar("i", value)


def f32(value):
    return scalar("f", value)


def raw(array):
    """A parameter that is a structure: its bytes."""
    return {"bytes": np.ascontiguousarray(array).tobytes().hex()}


@dataclass
class Expected:
    """What a buffer holds at the end. Integers must be equal; floats may be off by `absolute` plus `relative` of their size."""

    values: np.ndarray
    kind: str
    absolute: float = 0.0
    relative: float = 0.0


@dataclass
class Launch:
    entry: str
    grid: tuple
    block: tuple
    args: list
    shared: int = 0
    cooperative: bool = False


@dataclass
class Case:
    """A kernel, or several after one another, on buffers. Arguments that are strings name buffers."""

    name: str
    source: str
    launches: list
    buffers: dict
    expected: dict = field(default_factory=dict)
    # The first target that has it, as in `sm_70`.
    least: int = 70
    printed: str = None
    fails: str = None
    # What checks must find in it.
    checked: str = None


def full(shape):
    """Grids and blocks of three dimensions."""
    shape = shape if isinstance(shape, tuple) else (shape,)
    return list(shape) + [1] * (3 - len(shape))


def argument(arg):
    return {"buffer": arg} if isinstance(arg, str) else arg


class Writer:
    """Writes cases into a folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.cases = []

    def data(self, case):
        tensors = {f"in:{name}": np.frombuffer(np.ascontiguousarray(a).tobytes(), np.uint8) for name, a in case.buffers.items()}
        for name, e in case.expected.items():
            kind = np.float64 if e.kind in ("f64", "f32", "f16", "bf16") else np.int64
            values = e.values
            if values.dtype == np.uint64:
                values = values.view(np.int64)
            tensors[f"out:{name}"] = np.ascontiguousarray(values.astype(kind)).reshape(-1)
        save_file(tensors, self.folder / f"{case.name}.safetensors")

    def add(self, case, compiler, target, ptx):
        launches = [
            {"entry": l.entry, "grid": full(l.grid), "block": full(l.block), "shared": l.shared,
             "cooperative": l.cooperative, "args": [argument(a) for a in l.args]}
            for l in case.launches
        ]
        outputs = [{"buffer": n, "type": e.kind, "absolute": e.absolute, "relative": e.relative} for n, e in case.expected.items()]
        self.cases.append(
            {
                "name": case.name,
                "compiler": compiler,
                "target": target,
                "ptx": ptx,
                "data": f"{case.name}.safetensors",
                "launches": launches,
                "outputs": outputs,
                "printed": case.printed,
                "fails": case.fails,
                "checked": case.checked,
            }
        )

    def finish(self):
        (self.folder / "cases.json").write_text(json.dumps(self.cases, indent=1))
